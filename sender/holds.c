#include "sender/holds.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"

enum { HOLDS_MAX = 16 };

struct hold {
    bool on, probing;
    uint64_t until_mono_ms;
    struct buf domain; /* empty = the account */
};

struct holds {
    const struct child *me;
    struct hold list[HOLDS_MAX]; /* the first is the account's */
    struct buf record;
};

struct holds *holds_create(const struct child *me)
{
    struct holds *h = mem_zero(1, sizeof *h);

    h->me = me;
    return h;
}

void holds_destroy(struct holds *h)
{
    if (h == NULL)
        return;
    for (size_t i = 0; i < HOLDS_MAX; i++)
        buf_fini(&h->list[i].domain);
    buf_fini(&h->record);
    free(h);
}

static bool concerns(const struct holds *h, size_t i, struct slice domain)
{
    return h->list[i].on && (i == 0 || slice_eq(buf_slice(&h->list[i].domain), domain));
}

uint64_t holds_wait_ms(const struct holds *h, struct slice domain, uint64_t now)
{
    uint64_t wait_ms = 0;

    for (size_t i = 0; i < HOLDS_MAX; i++) {
        const struct hold *one = &h->list[i];
        if (!concerns(h, i, domain))
            continue;
        uint64_t ms = one->until_mono_ms > now ? one->until_mono_ms - now
                      : one->probing           ? HOLDS_PROBE_MS
                                               : 0;
        wait_ms = ms > wait_ms ? ms : wait_ms;
    }
    return wait_ms;
}

void holds_note_call(struct holds *h, struct slice domain, uint64_t now)
{
    for (size_t i = 0; i < HOLDS_MAX; i++)
        if (concerns(h, i, domain) && h->list[i].until_mono_ms <= now)
            h->list[i].probing = true;
}

/* News only: a full ring loses it, and the writer's own copy of the hold ends by itself. */
static void tell(struct holds *h, size_t i, enum hold_reason reason, uint64_t for_ms,
                 struct slice words)
{
    struct record_held r = {.domain = buf_slice(&h->list[i].domain),
                            .reason = (uint32_t)reason,
                            .for_ms = for_ms,
                            .words = words};

    buf_reset(&h->record);
    record_held_encode(&h->record, &r);
    if (ring_push(h->me->slot->up, buf_slice(&h->record), NULL) == RING_OK)
        bell_ring(&h->me->writer_bell);
}

void holds_note_end(struct holds *h, struct slice domain, bool taken)
{
    for (size_t i = 0; i < HOLDS_MAX; i++) {
        if (!concerns(h, i, domain))
            continue;
        h->list[i].probing = false;
        if (!taken)
            continue;
        h->list[i].on = false;
        log_info("SES takes mail%s%.*s again", i == 0 ? "" : " of ",
                 SLICE_ARGS(buf_slice(&h->list[i].domain)));
        tell(h, i, i == 0 ? HOLD_ACCOUNT : HOLD_SENDER, 0, slice_none());
    }
}

/* The hold of this domain, or one that is free, or the one that ends first. */
static size_t place_of(const struct holds *h, struct slice domain)
{
    size_t best = 1;

    for (size_t i = 1; i < HOLDS_MAX; i++)
        if (concerns(h, i, domain))
            return i;
    for (size_t i = 1; i < HOLDS_MAX; i++) {
        if (!h->list[i].on)
            return i;
        if (h->list[i].until_mono_ms < h->list[best].until_mono_ms)
            best = i;
    }
    return best;
}

uint64_t holds_begin(struct holds *h, enum aws_reaction reaction, struct slice domain,
                     struct slice words, uint64_t now)
{
    bool account = reaction != AWS_HOLD_SENDER;
    uint64_t ms = h->me->config->sender.hold_ms;
    size_t i = account ? 0 : place_of(h, domain);
    struct hold *one = &h->list[i];

    if (one->on && one->until_mono_ms > now)
        return one->until_mono_ms - now; /* others of the same burst */
    bool is_news = !one->on;
    one->on = true;
    one->probing = false;
    one->until_mono_ms = now + ms;
    if (!account && is_news) {
        buf_reset(&one->domain);
        buf_add_slice(&one->domain, domain);
    }
    if (is_news)
        log_error("SES takes no mail of %.*s: %.*s; it is kept and tried again every %" PRIu64 " s",
                  SLICE_ARGS(account ? SLICE("this account") : domain), SLICE_ARGS(words),
                  ms / 1000);
    tell(h, i,
         reaction == AWS_QUOTA          ? HOLD_QUOTA
         : reaction == AWS_HOLD_ACCOUNT ? HOLD_ACCOUNT
                                        : HOLD_SENDER,
         ms, words);
    return ms;
}
