/*
 * One process, one thread, and no loop of libevent: it waits for answers, a minute for a program's,
 * and looks up some times a second meanwhile (keeper_is_wanted). It asks the sources
 *
 *   at its start          whatever its predecessor published
 *   ahead of expiry       AHEAD_MS before it, or half of what is left then if that is less: a source
 *                         that hands out the same ones again is asked again at half of the rest
 *   when it failed        after a pause that doubles up to PAUSE_MAX_MS
 *   when files changed    the shared files are looked at every FILES_LOOK_MS
 *   when it is asked to   AWS has refused what a signer signed; not more often than after a pause
 *                         that doubles as long as the source has nothing else
 *
 * A renewal that fails leaves what is published until it expires, and is said once.
 *
 * CRASH  Nothing here outlives the process or needs to.
 */
#include "keeper/keeper.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "aws/credential_chain.h"
#include "aws/vault.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/log.h"
#include "shm/last_words.h"

enum {
    AHEAD_MS = 5 * 60000,
    JITTER_PARTS = 5, /* up to a fifth more: machines of one image do not ask all at once */
    RENEW_LEAST_MS = 500,
    PAUSE_FIRST_MS = 1000,
    PAUSE_MAX_MS = 60000,
    FILES_LOOK_MS = 1000,
    FAR_MS = 24 * 3600 * 1000,
};

struct keeper {
    const struct child *me;
    struct credential_chain *chain;
    int signal_fd;
    bool is_wanted;
    uint64_t due_mono_ms, files_mono_ms;
    /* Renewals that failed in a row, and why the last one did. */
    unsigned failures;
    struct err trouble;
    bool said_expired;
    uint64_t refused_pause_ms, refused_until_mono_ms;
    char source[128]; /* the one that was said last */
};

static uint64_t random_below(uint64_t n)
{
    uint64_t number;

    digest_random(&number, sizeof number);
    return n == 0 ? 0 : number % n;
}

/* Whether to go on; called from within what blocks, too. */
static bool keeper_is_wanted(void *arg)
{
    struct keeper *k = arg;
    struct pollfd ends[] = {{.fd = k->me->control_fd, .events = POLLIN},
                            {.fd = k->signal_fd, .events = POLLIN}};
    char bytes[64];

    child_beat(k->me);
    if (k->is_wanted && poll(ends, 2, 0) > 0) {
        if (ends[1].revents != 0)
            k->is_wanted = false;
        else if (recv(k->me->control_fd, bytes, sizeof bytes, MSG_DONTWAIT) == 0)
            k->is_wanted = false; /* the master is gone */
    }
    return k->is_wanted;
}

/* ---- what is told ---- */

static void put_until(char *to, size_t size, uint64_t wall_ms)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;

    if (wall_ms == 0 || gmtime_r(&seconds, &tm) == NULL ||
        strftime(to, size, "until %Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        (void)snprintf(to, size, "for as long as their source says nothing else");
}

static void tell_news(struct keeper *k, const struct credentials *at_hand)
{
    struct buf news = {0};

    buf_add_byte(&news, '{');
    json_put_bool(&news, "present", at_hand != NULL);
    json_put_str(&news, "source", slice_str(at_hand != NULL ? at_hand->source : ""));
    json_put_str(&news, "region", slice_str(at_hand != NULL ? at_hand->region : ""));
    json_put_u64(&news, "expires_ms", at_hand != NULL ? at_hand->expires_wall_ms : 0);
    json_put_str(&news, "trouble", slice_str(k->failures > 0 ? k->trouble.text : ""));
    buf_add_byte(&news, '}');
    (void)notice_publish(vault_news(k->me->vault), buf_slice(&news), NULL);
    buf_fini(&news);
}

static void say_failed(struct keeper *k, const struct err *why, const struct credentials *at_hand)
{
    bool is_news = k->failures == 0 || strcmp(why->text, k->trouble.text) != 0;
    char until[64];

    if (!is_news)
        return;
    if (at_hand == NULL) {
        log_err(why, "no AWS credentials: nothing is sent or received until there are");
        return;
    }
    put_until(until, sizeof until, at_hand->expires_wall_ms);
    log_warn("the AWS credentials cannot be renewed: %s; the ones at hand are used %s", why->text,
             until);
}

/* ---- renewing ---- */

static uint64_t due_ahead_of(const struct credentials *c, uint64_t now)
{
    uint64_t left = c->expires_mono_ms > now ? c->expires_mono_ms - now : 0;

    if (c->expires_mono_ms == 0)
        return now + FAR_MS;
    uint64_t ahead = left / 2 < AHEAD_MS ? left / 2 : AHEAD_MS;
    ahead += random_below(ahead / JITTER_PARTS + 1);
    return now + (left - ahead > RENEW_LEAST_MS ? left - ahead : RENEW_LEAST_MS);
}

static uint64_t doubled(uint64_t pause_ms)
{
    if (pause_ms == 0)
        return PAUSE_FIRST_MS;
    return pause_ms < PAUSE_MAX_MS / 2 ? pause_ms * 2 : PAUSE_MAX_MS;
}

/* With little time left it is tried more often. */
static uint64_t due_after_failure(const struct keeper *k, const struct credentials *at_hand,
                                  uint64_t now)
{
    uint64_t pause = 0;

    for (unsigned i = 0; i < k->failures && pause < PAUSE_MAX_MS; i++)
        pause = doubled(pause);
    if (at_hand != NULL && at_hand->expires_mono_ms > now &&
        (at_hand->expires_mono_ms - now) / 4 < pause)
        pause = (at_hand->expires_mono_ms - now) / 4;
    if (pause < RENEW_LEAST_MS)
        pause = RENEW_LEAST_MS;
    return now + pause / 2 + random_below(pause / 2 + 1);
}

static int take_over(struct keeper *k, struct credentials *fresh, struct err *err)
{
    const struct credentials *old = vault_credentials(k->me->vault, 0);
    char until[64];

    if (old != NULL && credentials_same_keys(old, fresh) &&
        strcmp(old->region, fresh->region) == 0 && old->expires_wall_ms == fresh->expires_wall_ms)
        return 0;
    bool are_others = old == NULL || !credentials_same_keys(old, fresh);
    if (vault_publish(k->me->vault, fresh, err) != 0)
        return -1;
    put_until(until, sizeof until, fresh->expires_wall_ms);
    if (strcmp(k->source, fresh->source) != 0 || (are_others && fresh->expires_wall_ms == 0))
        log_info("AWS credentials from %s, region %s, valid %s", fresh->source, fresh->region,
                 until);
    else
        log_debug("AWS credentials renewed, valid %s", until);
    (void)snprintf(k->source, sizeof k->source, "%s", fresh->source);
    if (are_others)
        k->refused_pause_ms = 0;
    return 0;
}

static void renew(struct keeper *k)
{
    struct credentials fresh;
    struct err why = {0};

    last_words_doing("ask for credentials");
    int failed = chain_get(k->chain, &fresh, &why);
    last_words_doing("%s", "");
    uint64_t now = clock_mono_ms();
    if (!k->is_wanted && failed != 0)
        return; /* given up midway: that says nothing of the source */
    if (failed == 0)
        failed = take_over(k, &fresh, &why);
    const struct credentials *at_hand = vault_credentials(k->me->vault, now);
    if (failed != 0) {
        say_failed(k, &why, at_hand);
        k->failures++;
        k->trouble = why;
        k->due_mono_ms = due_after_failure(k, at_hand, now);
    } else {
        if (k->failures > 0)
            log_info("the AWS credentials are there again");
        k->failures = 0;
        k->said_expired = false;
        k->due_mono_ms = due_ahead_of(&fresh, now);
    }
    credentials_fini(&fresh);
    tell_news(k, at_hand);
}

static void answer_refused(struct keeper *k)
{
    uint64_t refused = vault_take_question(k->me->vault), now = clock_mono_ms();
    const struct credentials *at_hand = vault_credentials(k->me->vault, now);

    if (refused == 0)
        return;
    /* Of older ones it is known, and of these nothing new can be known so soon. */
    if ((at_hand == NULL || at_hand->generation == refused) && now >= k->refused_until_mono_ms) {
        log_debug("AWS has refused the credentials: their source is asked again");
        k->refused_pause_ms = doubled(k->refused_pause_ms);
        renew(k);
        k->refused_until_mono_ms = clock_mono_ms() + k->refused_pause_ms;
    }
    vault_answer(k->me->vault);
}

static void say_expired(struct keeper *k, uint64_t now)
{
    if (k->failures == 0 || k->said_expired || k->source[0] == '\0' ||
        vault_credentials(k->me->vault, now) != NULL)
        return;
    k->said_expired = true;
    log_err(&k->trouble,
            "the AWS credentials have expired: nothing is sent or received until there are others");
    tell_news(k, NULL);
}

static void work(struct keeper *k)
{
    uint64_t now = clock_mono_ms();

    answer_refused(k);
    if (now - k->files_mono_ms >= FILES_LOOK_MS) {
        k->files_mono_ms = now;
        if (chain_has_changed(k->chain)) {
            log_info("AWS's shared files have changed: they are read again");
            k->due_mono_ms = now;
        }
    }
    if (k->is_wanted && now >= k->due_mono_ms)
        renew(k);
    say_expired(k, clock_mono_ms());
}

static void wait_for_news(struct keeper *k)
{
    const struct bell *bell = vault_bell(k->me->vault);
    struct pollfd ends[] = {{.fd = k->me->control_fd, .events = POLLIN},
                            {.fd = k->signal_fd, .events = POLLIN},
                            {.fd = bell->fd, .events = POLLIN}};

    bell_sleep(bell);
    if (!vault_has_question(k->me->vault))
        (void)poll(ends, 3, CHILD_TICK_MS);
    bell_quiet(bell);
}

static int keeper_open(struct keeper *k, struct err *err)
{
    sigset_t term;

    (void)sigemptyset(&term);
    (void)sigaddset(&term, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &term, NULL);
    k->signal_fd = signalfd(-1, &term, SFD_CLOEXEC | SFD_NONBLOCK);
    if (k->signal_fd < 0)
        return err_sys(err, "signalfd");
    k->chain = chain_create(k->me->config, keeper_is_wanted, k);
    return 0;
}

enum child_exit keeper_main(const struct child *me)
{
    struct keeper k = {.me = me, .signal_fd = -1, .is_wanted = true};
    struct err err;

    if (keeper_open(&k, &err) != 0) {
        log_err(&err, "%s: cannot start", me->name);
        return CHILD_EXIT_RETRY;
    }
    /* Before it has any: accepting mail and answering reads waits for no source. */
    child_ready(me);
    while (keeper_is_wanted(&k)) {
        work(&k);
        if (keeper_is_wanted(&k))
            wait_for_news(&k);
    }
    child_leaving(me);
    chain_destroy(k.chain);
    (void)close(k.signal_fd);
    return CHILD_EXIT_DONE;
}
