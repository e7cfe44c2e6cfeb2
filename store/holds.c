#include "store/holds.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "mail/address.h"
#include "store/batches.h"
#include "store/runs.h"

enum {
    SHOWN_AFTER_MS = 2000,      /* its end: the probe goes with the writer's next turn */
    FORGOTTEN_AFTER_MS = 60000, /* its end, with nothing that waits for a probe */
};

static bool is_of_account(enum hold_reason reason)
{
    return reason == HOLD_QUOTA || reason == HOLD_ACCOUNT;
}

static bool covers(const struct hold *h, unsigned domain, enum lane lane, uint64_t from_id)
{
    switch (h->reason) {
    case HOLD_QUOTA:
    case HOLD_ACCOUNT:
        return true;
    case HOLD_CONFIGURATION_SET:
        return h->domain == domain && h->lane == lane;
    case HOLD_SENDER:
        return h->domain == domain && h->lane == lane && h->from_id == from_id;
    }
    return false;
}

enum hold_state hold_state(const struct hold *h)
{
    return h->probe_lease_id != 0 || h->until_mono_ms > clock_mono_ms() ? HOLD_CLOSED : HOLD_PROBE;
}

static enum hold_state state_for(const struct scheduler *s, unsigned domain, enum lane lane,
                                 uint64_t from_id)
{
    enum hold_state worst = HOLD_OPEN;

    for (size_t i = 0; i < s->holds.count && worst != HOLD_CLOSED; i++) {
        const struct hold *h = s->holds.list[i];
        if (!covers(h, domain, lane, from_id))
            continue;
        enum hold_state state = hold_state(h);
        worst = state > worst ? state : worst;
    }
    return worst;
}

enum hold_state holds_state(const struct scheduler *s, const struct run *run)
{
    return state_for(s, run->domain, run_lane(run), run->from_id);
}

enum hold_state holds_lane_state(const struct scheduler *s, unsigned domain, enum lane lane)
{
    return state_for(s, domain, lane, 0);
}

struct hold *holds_of_from(const struct scheduler *s, const struct run *run)
{
    for (size_t i = 0; i < s->holds.count; i++) {
        struct hold *h = s->holds.list[i];
        if (h->reason == HOLD_SENDER && covers(h, run->domain, run_lane(run), run->from_id))
            return h;
    }
    return NULL;
}

void holds_note_grant(struct scheduler *s, const struct run *run, uint64_t lease_id)
{
    for (size_t i = 0; i < s->holds.count; i++)
        if (covers(s->holds.list[i], run->domain, run_lane(run), run->from_id))
            s->holds.list[i]->probe_lease_id = lease_id;
}

/* -------- beginning and end -------- */

static void end(struct scheduler *s, size_t at)
{
    struct hold *h = s->holds.list[at];

    s->holds.list[at] = s->holds.list[--s->holds.count];
    for (struct run *run; (run = run_heap_first(&h->parked)) != NULL;) {
        run_heap_take(run);
        run_place(s, run);
    }
    run_heap_fini(&h->parked);
    buf_fini(&h->from);
    buf_fini(&h->words);
    free(h);
}

static void forget_old(struct scheduler *s)
{
    uint64_t now = clock_mono_ms();

    for (size_t i = 0; i < s->holds.count;) {
        const struct hold *h = s->holds.list[i];
        if (h->probe_lease_id == 0 && h->parked.count == 0 &&
            h->until_mono_ms + FORGOTTEN_AFTER_MS < now)
            end(s, i);
        else
            i++;
    }
}

/* Of one kind there is one hold; quota and account are one kind. */
static struct hold *same_hold(const struct scheduler *s, const struct run *run,
                              enum hold_reason reason)
{
    for (size_t i = 0; i < s->holds.count; i++) {
        struct hold *h = s->holds.list[i];
        bool same_kind = h->reason == reason || (is_of_account(h->reason) && is_of_account(reason));
        if (same_kind && covers(h, run->domain, run_lane(run), run->from_id))
            return h;
    }
    return NULL;
}

static struct hold *add(struct scheduler *s, struct store_txn *t, const struct run *run,
                        enum hold_reason reason)
{
    struct hold *h = mem_zero(1, sizeof *h);
    struct message_head head;
    struct slice packed;

    forget_old(s);
    s->holds.list = mem_grow(s->holds.list, (s->holds.count + 1) * sizeof *s->holds.list);
    s->holds.list[s->holds.count++] = h;
    *h = (struct hold){.domain = run->domain,
                       .lane = run_lane(run),
                       .from_id = run->from_id,
                       .since_wall_ms = clock_wall_ms()};
    arena_reset(&s->arena);
    if (reason == HOLD_SENDER && batch_head(t, run->id, &packed) &&
        message_head_unpack(packed, &s->arena, &head))
        address_of_from(&h->from, head.from);
    return h;
}

/* "the account", "example.com", "news@example.com" */
static struct slice name_of(const struct scheduler *s, const struct hold *h)
{
    return is_of_account(h->reason) ? SLICE("the account")
           : h->from.len > 0        ? buf_slice(&h->from)
                                    : s->domains[h->domain].name;
}

void holds_begin(struct scheduler *s, struct store_txn *t, const struct run *run, uint64_t lease_id,
                 enum hold_reason reason, struct slice words)
{
    struct hold *h = same_hold(s, run, reason);
    uint64_t ms = s->me->config->sender.hold_ms;

    if (h != NULL && lease_id <= h->known_lease_id)
        return;
    bool is_news = h == NULL;
    if (h == NULL)
        h = add(s, t, run, reason);
    h->reason = reason;
    h->known_lease_id = s->last_lease_id;
    h->probe_lease_id = 0;
    h->until_wall_ms = clock_wall_ms() + ms;
    h->until_mono_ms = clock_mono_ms() + ms;
    buf_reset(&h->words);
    buf_add_slice(&h->words, words);
    if (is_news)
        log_error("SES takes no mail of %.*s: %.*s; it is kept and tried again every %" PRIu64 " s",
                  SLICE_ARGS(name_of(s, h)), SLICE_ARGS(words), ms / 1000);
}

void holds_note_taken(struct scheduler *s, uint64_t lease_id)
{
    for (size_t i = 0; i < s->holds.count;) {
        const struct hold *h = s->holds.list[i];
        if (h->probe_lease_id != lease_id) {
            i++;
            continue;
        }
        log_info("SES takes mail of %.*s again", SLICE_ARGS(name_of(s, h)));
        end(s, i);
    }
}

void holds_note_end(struct scheduler *s, uint64_t lease_id)
{
    for (size_t i = 0; i < s->holds.count; i++)
        if (s->holds.list[i]->probe_lease_id == lease_id)
            s->holds.list[i]->probe_lease_id = 0;
}

bool holds_try_now(struct scheduler *s, unsigned domain, uint64_t from_id)
{
    bool any = false;

    for (size_t i = 0; i < s->holds.count; i++) {
        struct hold *h = s->holds.list[i];
        if (!is_of_account(h->reason) &&
            (h->domain != domain ||
             (from_id != 0 && h->reason == HOLD_SENDER && h->from_id != from_id)))
            continue;
        h->until_mono_ms = clock_mono_ms();
        h->until_wall_ms = clock_wall_ms();
        h->known_lease_id = s->last_lease_id;
        h->probe_lease_id = 0;
        any = true;
    }
    return any;
}

/* -------- for people -------- */

static bool is_shown(const struct hold *h)
{
    return h->probe_lease_id != 0 || h->until_mono_ms + SHOWN_AFTER_MS > clock_mono_ms();
}

static void describe(const struct scheduler *s, const struct hold *h, struct gate *gate)
{
    *gate = (struct gate){
        .domain = is_of_account(h->reason) ? slice_none() : s->domains[h->domain].name,
        .lane = is_of_account(h->reason) ? "" : lane_name(h->lane),
        .from = buf_slice(&h->from),
        .words = buf_slice(&h->words),
        .since_wall_ms = h->since_wall_ms,
        .until_wall_ms = h->until_wall_ms,
    };
    switch (h->reason) {
    case HOLD_QUOTA:
        gate->reason = GATE_QUOTA;
        break;
    case HOLD_ACCOUNT:
        gate->reason = GATE_ACCOUNT;
        break;
    case HOLD_SENDER:
        gate->reason = GATE_SENDER;
        break;
    case HOLD_CONFIGURATION_SET:
        gate->reason = GATE_CONFIGURATION_SET;
        break;
    }
}

bool holds_closed(const struct scheduler *s, const struct run *run, struct gate *gate)
{
    const struct hold *best = NULL;

    for (size_t i = 0; i < s->holds.count; i++) {
        const struct hold *h = s->holds.list[i];
        if (covers(h, run->domain, run_lane(run), run->from_id) && is_shown(h) &&
            (best == NULL || is_of_account(h->reason)))
            best = h;
    }
    if (best != NULL)
        describe(s, best, gate);
    return best != NULL;
}

size_t holds_list(const struct scheduler *s, struct gate *list, size_t most)
{
    size_t n = 0;

    for (int account = 1; account >= 0; account--)
        for (size_t i = 0; i < s->holds.count && n < most; i++)
            if (is_of_account(s->holds.list[i]->reason) == (account == 1) &&
                is_shown(s->holds.list[i]))
                describe(s, s->holds.list[i], &list[n++]);
    return n;
}

void holds_fini(struct scheduler *s)
{
    while (s->holds.count > 0) {
        struct hold *h = s->holds.list[--s->holds.count];
        run_heap_fini(&h->parked);
        buf_fini(&h->from);
        buf_fini(&h->words);
        free(h);
    }
    free(s->holds.list);
}
