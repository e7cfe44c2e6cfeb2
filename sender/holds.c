#include "sender/holds.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"

struct hold {
    bool on, probing, told;
    enum lane lane;
    uint64_t since_mono_ms, until_mono_ms;
    uint64_t taken_mono_ms;  /* when SES took something of it last; 0 = not yet */
    struct buf domain, from; /* both empty = the account */
};

struct holds {
    const struct child *me;
    struct hold *list; /* the first is the account's; then every From that this sender met */
    size_t count;
    struct buf record;
};

enum { REMEMBERED_MAX = 256 };

struct holds *holds_create(const struct child *me)
{
    struct holds *h = mem_zero(1, sizeof *h);

    h->me = me;
    h->list = mem_zero(REMEMBERED_MAX, sizeof *h->list);
    h->count = 1;
    return h;
}

void holds_destroy(struct holds *h)
{
    if (h == NULL)
        return;
    for (size_t i = 0; i < h->count; i++) {
        buf_fini(&h->list[i].domain);
        buf_fini(&h->list[i].from);
    }
    free(h->list);
    buf_fini(&h->record);
    free(h);
}

static bool is_of_lane(const struct hold *one, const struct holds_who *who)
{
    return one->lane == who->lane && slice_eq(buf_slice(&one->domain), who->domain);
}

static struct hold *find(const struct holds *h, const struct holds_who *who)
{
    for (size_t i = 1; i < h->count; i++)
        if (is_of_lane(&h->list[i], who) && slice_eq(buf_slice(&h->list[i].from), who->from))
            return &h->list[i];
    return NULL;
}

/* Of those that hold nothing, the one that SES has taken nothing of for longest makes room. Without
 * any, the hold that ends first does: its next call will tell anew. */
static struct hold *place_for(struct holds *h)
{
    struct hold *best = &h->list[1];

    if (h->count < REMEMBERED_MAX)
        return &h->list[h->count++];
    for (size_t i = 2; i < h->count; i++) {
        struct hold *one = &h->list[i];
        if (one->on != best->on ? !one->on
            : one->on           ? one->until_mono_ms < best->until_mono_ms
                                : one->taken_mono_ms < best->taken_mono_ms)
            best = one;
    }
    return best;
}

static struct hold *entry_of(struct holds *h, const struct holds_who *who)
{
    struct hold *one = find(h, who);

    if (one != NULL)
        return one;
    one = place_for(h);
    struct buf domain = one->domain, from = one->from; /* their room */
    buf_reset(&domain);
    buf_add_slice(&domain, who->domain);
    buf_reset(&from);
    buf_add_slice(&from, who->from);
    *one = (struct hold){.lane = who->lane, .domain = domain, .from = from};
    return one;
}

static uint64_t wait_of(const struct hold *one, uint64_t now)
{
    if (!one->on)
        return 0;
    return one->until_mono_ms > now ? one->until_mono_ms - now : one->probing ? HOLDS_PROBE_MS : 0;
}

uint64_t holds_wait_ms(const struct holds *h, struct holds_who who, uint64_t now)
{
    const struct hold *one = find(h, &who);
    uint64_t account_ms = wait_of(&h->list[0], now), own_ms = one == NULL ? 0 : wait_of(one, now);

    return account_ms > own_ms ? account_ms : own_ms;
}

static void note_call(struct hold *one, uint64_t now)
{
    if (one != NULL && one->on && one->until_mono_ms <= now)
        one->probing = true;
}

void holds_note_call(struct holds *h, struct holds_who who, uint64_t now)
{
    note_call(&h->list[0], now);
    note_call(find(h, &who), now);
}

/* News only: a full ring loses it, and the writer's own copy of the hold ends by itself. */
static void tell(struct holds *h, const struct hold *one, enum hold_reason reason, uint64_t for_ms,
                 struct slice words)
{
    struct record_held r = {.domain = buf_slice(&one->domain),
                            .lane = (uint32_t)one->lane,
                            .reason = (uint32_t)reason,
                            .for_ms = for_ms,
                            .words = words};

    buf_reset(&h->record);
    record_held_encode(&h->record, &r);
    if (ring_push(h->me->slot->up, buf_slice(&h->record), NULL) == RING_OK)
        bell_ring(&h->me->writer_bell);
}

static void note_end(struct holds *h, struct hold *one, bool taken, uint64_t started_mono_ms)
{
    if (!one->on)
        return;
    one->probing = false;
    if (!taken || started_mono_ms < one->since_mono_ms)
        return;
    one->on = false;
    log_info("SES takes mail%s%.*s again", one == &h->list[0] ? "" : " of ",
             SLICE_ARGS(buf_slice(&one->domain)));
    if (one->told)
        tell(h, one, one == &h->list[0] ? HOLD_ACCOUNT : HOLD_SENDER, 0, slice_none());
    one->told = false;
}

void holds_note_end(struct holds *h, struct holds_who who, bool taken, uint64_t started_mono_ms,
                    uint64_t now)
{
    struct hold *one = taken ? entry_of(h, &who) : find(h, &who);

    note_end(h, &h->list[0], taken, started_mono_ms);
    if (one == NULL)
        return;
    note_end(h, one, taken, started_mono_ms);
    if (taken)
        one->taken_mono_ms = now;
}

/* Does SES take mail of another From of this lane? Then it is this From that is not right. */
static bool others_are_taken(const struct holds *h, const struct hold *one,
                             const struct holds_who *who, uint64_t now)
{
    for (size_t i = 1; i < h->count; i++) {
        const struct hold *other = &h->list[i];
        if (other != one && !other->on && is_of_lane(other, who) && other->taken_mono_ms != 0 &&
            now - other->taken_mono_ms < h->me->config->sender.hold_ms)
            return true;
    }
    return false;
}

uint64_t holds_begin(struct holds *h, enum aws_reaction reaction, struct holds_who who,
                     struct slice words, uint64_t now)
{
    bool account = reaction != AWS_HOLD_SENDER;
    uint64_t ms = h->me->config->sender.hold_ms;
    struct hold *one = account ? &h->list[0] : entry_of(h, &who);

    if (one->on && one->until_mono_ms > now)
        return one->until_mono_ms - now; /* others of the same burst */
    bool is_news = !one->on;
    one->on = true;
    one->probing = false;
    if (is_news)
        one->since_mono_ms = now;
    one->until_mono_ms = now + ms;
    one->told = account || !others_are_taken(h, one, &who, now);
    if (is_news)
        log_error(
            "SES takes no mail of %.*s%s%.*s: %.*s; it is kept and tried again every %" PRIu64 " s",
            SLICE_ARGS(account ? SLICE("this account") : who.domain), one->told ? "" : " from ",
            SLICE_ARGS(one->told ? slice_none() : who.from), SLICE_ARGS(words), ms / 1000);
    if (one->told)
        tell(h, one,
             reaction == AWS_QUOTA          ? HOLD_QUOTA
             : reaction == AWS_HOLD_ACCOUNT ? HOLD_ACCOUNT
                                            : HOLD_SENDER,
             ms, words);
    return ms;
}
