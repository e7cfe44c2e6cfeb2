/*
 * One process, one thread, one loop around curl's. It wakes for these reasons:
 *
 *   an attempt has ended            its outcome goes to the writer
 *   the doorbell                    the writer has stored something to be told: a hint
 *   CHILD_TICK_MS have gone by      the guarantee behind that hint; what has become due
 *   the control socket at its end   the master is gone: leave at once
 *   SIGTERM                         begin nothing more, and leave soon: what is under way is due still
 *
 * In memory are only the rows in hand: those under way, and those whose outcome the writer has not
 * committed yet; all others wait in the store.
 *
 * FAIRNESS  Targets take turns, a row each, and each has a standing, by its last attempt:
 *             quick    answered within QUICK_MS: up to webhooks.per_url attempts at once
 *             untried  not known yet: one attempt; a quarter of the connections for all of these
 *             slow     half of the connections for all of these; one attempt where nobody answers
 *           Whoever has an attempt under way for longer than QUICK_MS is slow from then on. When the
 *           slow hold more than their half so, those begun before they were known to be slow are
 *           hung up on, uncounted, and made again in their turn. So no number of dead or slow
 *           receivers takes the connections of the quick, or of new ones, for longer than QUICK_MS.
 */
#include "courier/courier.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"
#include "courier/post.h"
#include "store/events.h"
#include "store/webhooks.h"

enum {
    QUICK_MS = 2000,
    LEAVE_WITHIN_MS = 1000,
    IN_HAND_PARTS = 4, /* rows of a target in hand: so many times what may be under way */
    US_PER_MS = 1000,
};

enum row_state { ROW_UNDER_WAY, ROW_TO_REPORT, ROW_REPORTED };

/* A row in hand. */
struct row {
    struct row *next;  /* of its target */
    struct post *post; /* UNDER_WAY */
    uint64_t begun_mono_ms;
    bool begun_slow; /* its target was known to be slow */
    struct courier *courier;
    struct target *target;
    struct webhook_due due;
    enum row_state state;
    struct record_posted outcome; /* its texts: target's id, due.place, words */
    char words[160];
    uint64_t ring_end; /* REPORTED: gone when the writer has committed up to there */
};

enum standing { UNTRIED, QUICK, SLOW, STANDING_END };

struct target {
    struct target *next;
    uint8_t id[WEBHOOK_TARGET_BYTES];
    char *url;
    char *domain;
    bool is_configured;
    enum standing standing;
    bool answers;     /* somebody did, last time */
    bool has_failed;  /* said so */
    bool has_nothing; /* due in this look */
    struct row *rows;
    unsigned in_hand, under_way;
};

struct courier {
    const struct child *me;
    struct store *store; /* NULL: not there yet */
    struct poster *poster;
    int signal_fd;
    struct target *targets;
    uint64_t version; /* of the configuration that `targets` holds */
    bool has_targets;
    unsigned under_way[STANDING_END];
    struct arena arena;
    struct buf record;
    bool leaving, gone;
    uint64_t leave_by_mono_ms;
    enum child_exit verdict;
};

static void courier_stop(struct courier *c, enum child_exit verdict)
{
    c->verdict = verdict;
    c->gone = true;
}

/* -------- targets -------- */

static void target_free(struct target *target)
{
    for (struct row *r = target->rows, *next; r != NULL; r = next) {
        next = r->next;
        free(r);
    }
    free(target->url);
    free(target->domain);
    free(target);
}

static struct target *target_find(const struct courier *c, const uint8_t id[WEBHOOK_TARGET_BYTES])
{
    for (struct target *target = c->targets; target != NULL; target = target->next)
        if (memcmp(target->id, id, WEBHOOK_TARGET_BYTES) == 0)
            return target;
    return NULL;
}

struct reading {
    struct courier *courier;
    struct store_txn *t;
};

static char *text_of(struct slice s)
{
    char *text = mem_alloc(s.len + 1);

    memcpy(text, s.ptr, s.len);
    text[s.len] = '\0';
    return text;
}

static bool on_target(void *arg, const struct webhook_target *stored)
{
    struct reading *r = arg;
    struct courier *c = r->courier;
    struct target *target = target_find(c, stored->id);

    if (webhook_target_kinds(r->t, stored) == 0 ||
        config_domain_find(c->me->config, stored->domain) == NULL)
        return true;
    if (target == NULL) {
        target = mem_zero(1, sizeof *target);
        memcpy(target->id, stored->id, WEBHOOK_TARGET_BYTES);
        target->url = text_of(stored->url);
        target->domain = text_of(stored->domain);
        target->answers = stored->failures > 0 ? stored->status != 0 : stored->taken > 0;
        target->standing = stored->failures > 0 ? SLOW : stored->taken > 0 ? QUICK : UNTRIED;
        target->next = c->targets;
        c->targets = target;
    }
    target->is_configured = true;
    return true;
}

/* After a change. Targets that have rows in hand stay until those are done. */
static void read_targets(struct courier *c, struct store_txn *t)
{
    struct reading r = {c, t};
    uint64_t version = webhook_version(t);

    if (c->has_targets && version == c->version)
        return;
    c->version = version;
    c->has_targets = true;
    for (struct target *target = c->targets; target != NULL; target = target->next)
        target->is_configured = false;
    webhook_target_each(t, on_target, &r);
    for (struct target **at = &c->targets; *at != NULL;) {
        struct target *target = *at;
        if (target->is_configured || target->rows != NULL) {
            at = &target->next;
            continue;
        }
        *at = target->next;
        target_free(target);
    }
}

/* -------- outcomes -------- */

/* The writer has them, or is to have them. */
static void report(struct courier *c)
{
    const struct child_slot *slot = c->me->slot;
    uint64_t applied = ring_tail(slot->up);
    bool pushed = false;

    for (struct target *target = c->targets; target != NULL; target = target->next)
        for (struct row **at = &target->rows; *at != NULL;) {
            struct row *row = *at;
            if (row->state == ROW_TO_REPORT) {
                buf_reset(&c->record);
                record_posted_encode(&c->record, &row->outcome);
                enum ring_result got = ring_push(slot->up, buf_slice(&c->record), &row->ring_end);
                if (got == RING_OK) {
                    row->state = ROW_REPORTED;
                    pushed = true;
                } else if (got == RING_FULL) { /* the next look tries again */
                    child_note_ring_full(c->me);
                } else {
                    log_error("the ring to the writer is broken");
                    courier_stop(c, CHILD_EXIT_RETRY);
                    return;
                }
            }
            if (row->state == ROW_REPORTED && applied >= row->ring_end) {
                *at = row->next;
                target->in_hand--;
                free(row);
            } else {
                at = &row->next;
            }
        }
    if (pushed)
        bell_ring(&c->me->writer_bell);
}

static void row_end(struct row *row, enum posted verdict, int status, const char *words)
{
    if (words != NULL)
        (void)snprintf(row->words, sizeof row->words, "%s", words);
    row->outcome = (struct record_posted){
        .target = slice_of(row->target->id, WEBHOOK_TARGET_BYTES),
        .due_ms = row->due.due_ms,
        .place = slice_of(row->due.place, WEBHOOK_PLACE_BYTES),
        .verdict = (uint32_t)verdict,
        .status = (uint32_t)status,
        .words = slice_str(row->words),
        .at_wall_ms = clock_wall_ms(),
    };
    row->state = ROW_TO_REPORT;
}

static void say_change(struct target *target, enum posted verdict, int status, const char *words)
{
    bool fails = verdict == POSTED_FAILED;

    if (fails == target->has_failed)
        return;
    target->has_failed = fails;
    /* Not the URL: a password may stand in it. */
    if (!fails)
        log_info("%s: a webhook that failed is taken again", target->domain);
    else if (status != 0)
        log_warn("%s: a webhook is answered with %d; it is told again later (postern webhooks)",
                 target->domain, status);
    else
        log_warn("%s: a webhook has no answer: %s; it is told again later (postern webhooks)",
                 target->domain, words);
}

static void on_answer(void *arg, const struct post_answer *answer)
{
    struct row *row = arg;
    struct target *target = row->target;
    const struct courier *c = row->courier;
    enum posted verdict = answer->status >= 200 && answer->status < 300 ? POSTED_TAKEN
                          : answer->status == 406                       ? POSTED_REFUSED
                                                                        : POSTED_FAILED;

    target->under_way--;
    target->answers = answer->status != 0;
    target->standing = target->answers && answer->took_ms <= QUICK_MS ? QUICK : SLOW;
    row_end(row, verdict, answer->status, answer->words);
    say_change(target, verdict, answer->status, answer->words);
    atomic_fetch_add_explicit(&c->me->gauges->slots[c->me->gauge].done, 1, memory_order_relaxed);
}

/* -------- attempts -------- */

static bool is_in_hand(const struct target *target, const struct webhook_due *due)
{
    for (const struct row *r = target->rows; r != NULL; r = r->next)
        if (r->due.due_ms == due->due_ms &&
            memcmp(r->due.place, due->place, WEBHOOK_PLACE_BYTES) == 0)
            return true;
    return false;
}

/* Takes the row out of hand; it is due still. */
static void abandon(struct row *row)
{
    struct row **at = &row->target->rows;

    while (*at != row)
        at = &(*at)->next;
    *at = row->next;
    row->target->in_hand--;
    row->target->under_way--;
    poster_abandon(row->post);
    free(row);
}

static unsigned most_slow(const struct courier *c)
{
    return c->me->config->webhooks.connections / 2;
}

/* Of the slow, the attempts begun before they were known to be slow, as many as are too many. */
static void make_room(struct courier *c)
{
    for (struct target *target = c->targets; target != NULL; target = target->next)
        for (struct row *row = target->rows, *next;
             row != NULL && c->under_way[SLOW] > most_slow(c); row = next) {
            next = row->next;
            if (target->standing != SLOW || row->state != ROW_UNDER_WAY || row->begun_slow)
                continue;
            abandon(row);
            c->under_way[SLOW]--;
        }
}

/* What the attempts under way say of their targets by now, and how many there are of each standing. */
static void take_stock(struct courier *c)
{
    uint64_t now = clock_mono_ms();

    memset(c->under_way, 0, sizeof c->under_way);
    for (struct target *target = c->targets; target != NULL; target = target->next) {
        for (const struct row *row = target->rows; row != NULL; row = row->next)
            if (row->state == ROW_UNDER_WAY && now - row->begun_mono_ms > QUICK_MS)
                target->standing = SLOW;
        c->under_way[target->standing] += target->under_way;
        target->has_nothing = false;
    }
    make_room(c);
}

static bool may_begin(const struct courier *c, const struct target *target)
{
    unsigned per_url = c->me->config->webhooks.per_url;
    unsigned quarter = (c->me->config->webhooks.connections + 3) / 4;

    if (!target->is_configured || target->has_nothing ||
        target->under_way >= (target->answers ? per_url : 1) ||
        target->in_hand >= per_url * IN_HAND_PARTS)
        return false;
    switch (target->standing) {
    case UNTRIED:
        return c->under_way[UNTRIED] < quarter;
    case SLOW:
        return c->under_way[SLOW] < most_slow(c);
    case QUICK:
    case STANDING_END:
        break;
    }
    return true;
}

static void put_body(struct courier *c, struct store_txn *t, const struct target *target,
                     const struct event *e, struct buf *body)
{
    const struct config_domain *d = config_domain_find(c->me->config, slice_str(target->domain));
    struct slice key = d != NULL && d->webhook_signing_key[0] != '\0'
                           ? slice_str(d->webhook_signing_key)
                           : webhook_signing_key(t);
    uint8_t token[WEBHOOK_SECRET_BYTES];

    struct slice origin = slice_str(c->me->config->public_url);
    struct buf storage = {0};

    /* Without public_url nobody here knows by which address clients reach us. */
    if (origin.len != 0)
        event_storage_base(&storage, origin, slice_str(target->domain));
    digest_random(token, sizeof token);
    webhook_body(body, key, clock_wall_ms() / 1000, token, e, buf_slice(&storage));
    buf_fini(&storage);
}

/* The target's next row that is due and not in hand. */
static bool find_due(struct store_txn *t, const struct target *target, uint64_t now_ms,
                     struct webhook_due *due)
{
    bool found = webhook_due_first(t, target->id, due);

    while (found && due->due_ms <= now_ms && is_in_hand(target, due))
        found = webhook_due_next(t, target->id, due);
    return found && due->due_ms <= now_ms;
}

static void begin_next(struct courier *c, struct store_txn *t, struct target *target)
{
    struct webhook_due due;
    struct buf body = {0};
    struct event e;

    if (!find_due(t, target, clock_wall_ms(), &due)) {
        target->has_nothing = true;
        return;
    }
    struct row *row = mem_zero(1, sizeof *row);
    row->courier = c;
    row->target = target;
    row->due = due;
    row->next = target->rows;
    target->rows = row;
    target->in_hand++;
    arena_reset(&c->arena);
    if (!event_at(t, slice_str(target->domain), due.place, &c->arena, &e)) {
        row_end(row, POSTED_GONE, 0, NULL); /* past retention */
        return;
    }
    put_body(c, t, target, &e, &body);
    target->under_way++;
    c->under_way[target->standing]++;
    row->begun_slow = target->standing == SLOW;
    row->begun_mono_ms = clock_mono_ms();
    row->post = poster_begin(c->poster, target->url, &body, on_answer, row);
}

/* A row of each target in turn, as long as there is room and something due. */
static void begin_attempts(struct courier *c, struct store_txn *t)
{
    bool any = true;

    take_stock(c);
    while (any) {
        any = false;
        for (struct target *target = c->targets; target != NULL && poster_free(c->poster) > 0;
             target = target->next)
            if (may_begin(c, target)) {
                begin_next(c, t, target);
                any = true;
            }
    }
    /* Whoever came first in this look comes last in the next. */
    struct target *first = c->targets, **end = &c->targets;
    if (first == NULL || first->next == NULL)
        return;
    c->targets = first->next;
    while (*end != NULL)
        end = &(*end)->next;
    *end = first;
    first->next = NULL;
}

static void look(struct courier *c)
{
    struct err err;

    if (c->store == NULL)
        c->store = store_open(c->me->config->state_dir, STORE_READ, &err);
    struct store_txn *t = c->store == NULL ? NULL : store_begin_read(c->store, &err);
    if (t == NULL)
        return; /* the next tick tries again */
    read_targets(c, t);
    begin_attempts(c, t);
    store_end_read(t);
}

/* -------- the loop -------- */

static void hear(struct courier *c)
{
    struct signalfd_siginfo info;
    char bytes[64];

    ssize_t got = recv(c->me->control_fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        courier_stop(c, CHILD_EXIT_DONE);
    if (!c->leaving && read(c->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        c->leaving = true;
        c->leave_by_mono_ms = clock_mono_ms() + LEAVE_WITHIN_MS;
        child_leaving(c->me);
    }
}

static bool has_under_way(const struct courier *c)
{
    return poster_free(c->poster) < c->me->config->webhooks.connections;
}

static void work(struct courier *c)
{
    const struct bell *bell = &c->me->slot->bell;
    const int fds[] = {bell->fd, c->me->control_fd, c->signal_fd};

    child_beat(c->me);
    report(c);
    if (!c->leaving && !c->gone)
        look(c);
    if (c->leaving && (!has_under_way(c) || clock_mono_ms() >= c->leave_by_mono_ms)) {
        report(c);
        courier_stop(c, CHILD_EXIT_DONE);
    }
    if (c->gone)
        return;
    bell_sleep(bell);
    poster_wait(c->poster, fds, sizeof fds / sizeof fds[0], c->leaving ? 20 : CHILD_TICK_MS);
    bell_quiet(bell);
    hear(c);
}

static int courier_open(struct courier *c, struct err *err)
{
    const struct config *config = c->me->config;
    sigset_t term;

    (void)sigemptyset(&term);
    (void)sigaddset(&term, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &term, NULL);
    c->signal_fd = signalfd(-1, &term, SFD_CLOEXEC | SFD_NONBLOCK);
    if (c->signal_fd < 0)
        return err_sys(err, "signalfd");
    c->poster = poster_create(config->webhooks.connections, config->webhooks.timeout_ms,
                              config->webhooks.allow_private, err);
    return c->poster == NULL ? -1 : 0;
}

static void courier_close(struct courier *c)
{
    poster_destroy(c->poster);
    while (c->targets != NULL) {
        struct target *next = c->targets->next;
        target_free(c->targets);
        c->targets = next;
    }
    store_close(c->store);
    if (c->signal_fd >= 0)
        (void)close(c->signal_fd);
    buf_fini(&c->record);
    arena_fini(&c->arena);
}

enum child_exit courier_main(const struct child *me)
{
    struct courier c = {.me = me, .signal_fd = -1, .verdict = CHILD_EXIT_RETRY};
    struct err err;

    if (courier_open(&c, &err) == 0) {
        child_ready(me);
        while (!c.gone)
            work(&c);
    } else {
        log_err(&err, "%s: cannot start", me->name);
    }
    courier_close(&c);
    return c.verdict;
}
