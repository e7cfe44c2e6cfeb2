#include "sender/rate.h"

#include <inttypes.h>
#include <stdlib.h>

#include "aws/ses.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

struct rate {
    const struct child *me;
    struct aws_client *client;
    bool asking, refused, told;
    uint64_t ask_mono_ms, pause_ms;
    uint64_t steered_mono_ms, throttled, sent; /* counts of then */
};

uint64_t rate_allowed(const struct config *config, uint64_t account_rate_milli, bool refused)
{
    uint64_t fixed = (uint64_t)config->sender.rate_per_s * 1000;
    uint64_t known = account_rate_milli;
    uint64_t most =
        known - known * (1000 - RATE_MARGIN) / 1000; /* whatever the configuration says */

    switch (config->sender.rate_kind) {
    case RATE_FIXED:
        return known != 0 && most < fixed ? most : fixed;
    case RATE_SHARE: {
        uint64_t share = known * config->sender.rate_percent / 100 + (known < 100);
        if (known != 0)
            return share < most ? share : most;
        break;
    }
    case RATE_AUTO:
        if (known != 0)
            return most;
        break;
    }
    return refused ? RATE_WHEN_REFUSED_MILLI : 0;
}

struct rate *rate_create(const struct child *me, struct aws_client *client)
{
    struct rate *r = mem_zero(1, sizeof *r);

    r->me = me;
    r->client = client;
    r->pause_ms = RATE_READ_AGAIN_MS;
    r->throttled = atomic_load(&me->gauges->throttled_count);
    r->sent = atomic_load(&me->gauges->sent_count);
    return r;
}

void rate_destroy(struct rate *r)
{
    free(r);
}

unsigned rate_entries_max(uint64_t rate_milli)
{
    static const unsigned sizes[] = {50, 25, 10, 5, 2}; /* a full slice makes calls of one size */
    uint64_t rate = rate_milli / 1000;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t calls = rate * RATE_MARGIN / 1000 / sizes[i] + 1; /* that any second can see */
        if (calls * sizes[i] < rate)
            return sizes[i];
    }
    return 1;
}

static void publish(const struct rate *r)
{
    struct gauges *g = r->me->gauges;
    uint64_t known = atomic_load(&g->account_rate_milli);
    uint64_t base = rate_allowed(r->me->config, atomic_load(&g->account_rate_milli), r->refused);
    uint32_t share = atomic_load(&g->throttle_share);

    if (share == 0 || share > 1000)
        share = 1000;
    atomic_store(&g->entries_max,
                 rate_entries_max(base * 1000 < known * RATE_MARGIN || known == 0 ? base : known));
    /* Never down to 0, which would mean "unknown". */
    atomic_store(&g->bucket.per_s_milli, base * share / 1000 + (base != 0 && base * share < 1000));
}

uint32_t rate_share_next(uint32_t share, uint64_t refused, uint64_t taken)
{
    if (refused == 0)
        return share + RATE_RECOVERY < 1000 ? share + RATE_RECOVERY : 1000;
    uint64_t cut = refused * 500 / (refused + taken);
    uint64_t next = share * (1000 - cut) / 1000;
    return next < RATE_SHARE_LEAST ? RATE_SHARE_LEAST : (uint32_t)next;
}

/* Additive increase, and a decrease in proportion to what all senders saw refused. */
static void steer(struct rate *r)
{
    struct gauges *g = r->me->gauges;
    uint64_t now = clock_mono_ms();
    uint64_t throttled = atomic_load(&g->throttled_count), sent = atomic_load(&g->sent_count);
    uint32_t share = atomic_load(&g->throttle_share);

    if (now - r->steered_mono_ms < RATE_STEER_MS)
        return;
    if (share == 0 || share > 1000)
        share = 1000;
    uint32_t next = rate_share_next(share, throttled - r->throttled, sent - r->sent);
    if (next < share)
        log_info("SES refused %" PRIu64 " of %" PRIu64 " recipients for the rate: down to %" PRIu32
                 "/1000 of it",
                 throttled - r->throttled, throttled - r->throttled + sent - r->sent, next);
    atomic_store(&g->throttle_share, next);
    r->throttled = throttled;
    r->sent = sent;
    r->steered_mono_ms = now;
}

static void note(struct rate *r, const struct ses_account *a)
{
    struct gauges *g = r->me->gauges;

    if (a->rate_milli != 0 && atomic_load(&g->account_rate_milli) != a->rate_milli)
        log_info("SES lets this account send %" PRIu64 ".%03" PRIu64 " mails a second%s",
                 a->rate_milli / 1000, a->rate_milli % 1000,
                 a->production ? "" : "; it is in SES's sandbox");
    atomic_store(&g->account_is_sandbox, a->production ? 0 : 1);
    if (!a->sending_enabled)
        log_error("SES has switched sending off for this account");
    atomic_store(&g->account_rate_milli, a->rate_milli);
    atomic_store(&g->quota_max_24h, a->quota_max_24h);
    atomic_store(&g->quota_sent_24h, a->quota_sent_24h);
    atomic_store(&g->account_read_wall_ms, clock_wall_ms());
    r->refused = a->rate_milli == 0;
}

static void on_account(void *arg, const struct aws_response *answer)
{
    struct rate *r = arg;
    struct ses_account account;

    r->asking = false;
    if (answer->fate == AWS_ANSWERED && answer->status == 200 &&
        ses_account_parse(answer->body, &account)) {
        note(r, &account);
        r->told = false;
        r->pause_ms = RATE_READ_AGAIN_MS;
        r->ask_mono_ms = clock_mono_ms() + RATE_READ_EVERY_MS;
        publish(r);
        return;
    }
    bool denied = answer->fate == AWS_ANSWERED && answer->status == 403;
    if (!r->told) {
        log_warn("SES does not tell this account's rate: %.*s: %.*s; %s",
                 SLICE_ARGS(answer->error_code), SLICE_ARGS(answer->error_text),
                 denied ? "allow ses:GetAccount; until then max_rate or 1 a second is used"
                        : "asking again");
        r->told = true;
    }
    r->refused = r->refused || denied;
    r->ask_mono_ms = clock_mono_ms() + r->pause_ms;
    r->pause_ms =
        r->pause_ms * 2 < RATE_READ_AGAIN_MAX_MS ? r->pause_ms * 2 : RATE_READ_AGAIN_MAX_MS;
    publish(r);
}

void rate_tick(struct rate *r)
{
    if (r->me->index != 0)
        return;
    if (!r->asking && clock_mono_ms() >= r->ask_mono_ms) {
        r->asking = true;
        aws_call(r->client, &(struct aws_request){
                                .service = AWS_SES,
                                .method = "GET",
                                .path = SES_PATH_ACCOUNT,
                                .done = on_account,
                                .arg = r,
                            });
    }
    steer(r);
    publish(r);
}
