#include "store/parts.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/log.h"
#include "mail/form.h"
#include "store/buffer.h"
#include "store/part_rules.h"
#include "store/runs.h"

static const uint8_t *claim_of(const struct record_part *r, uint32_t recipient)
{
    return r->claims.ptr + (size_t)recipient * CLAIM_BYTES;
}

static bool is_known(struct store_txn *t, const struct record_part *r, uint32_t recipient)
{
    uint64_t owner;

    return claim_get(t, claim_of(r, recipient), &owner) ||
           served_has(t, r->batch_id, recipient, claim_of(r, recipient));
}

/* -------- a message that is new here -------- */

static int insert(struct scheduler *s, struct store_txn *t, const struct record_part *r,
                  struct err *err)
{
    uint8_t duplicate[MESSAGE_RECIPIENTS_MAX] = {0};
    struct message_head head;
    uint32_t known = 0;

    arena_reset(&s->arena);
    if (!message_head_unpack(r->head, &s->arena, &head))
        return 0;
    for (uint32_t i = 0; i < r->recipient_count; i++) {
        duplicate[i] = is_known(t, r, i);
        known += duplicate[i];
    }
    const struct new_batch b = {
        .id = r->batch_id,
        .head = r->head,
        .content = r->content,
        .slices = r->slices,
        .domain = r->domain,
        .message_id = head.message_id,
        .recipient_count = r->recipient_count,
        .claims = r->claims,
        .duplicate = duplicate,
        .due_wall_ms = r->due_wall_ms,
        .lane = r->lane,
    };
    int got = batch_insert(t, &b, err);
    if (got > 0)
        log_info("batch %016" PRIx64 " of %.*s: %" PRIu32 " recipients from the buffer queue, "
                 "%" PRIu32 " of them served before",
                 r->batch_id, SLICE_ARGS(r->domain), r->recipient_count, known);
    return got;
}

/* -------- one that was here before -------- */

static int give_up(struct store_txn *t, struct slice_work *w, struct scheduler *s, uint32_t bit,
                   const uint8_t *claim, struct err *err)
{
    uint64_t owner;

    change_state(s, w, bit, STATE_DUPLICATE);
    w->run->books.accepted--;
    return claim_get(t, claim, &owner) && owner == w->run->id ? claim_del(t, claim, err) : 0;
}

static int take_back(struct store_txn *t, struct slice_work *w, struct scheduler *s, uint32_t bit,
                     const uint8_t *claim, struct err *err)
{
    w->run->books.accepted++;
    change_state(s, w, bit, STATE_PENDING);
    if (w->run->cursor > w->slice)
        w->run->cursor = w->slice;
    return claim_put(t, claim, w->run->id, err);
}

/* What had been handed on comes back, unless it has been served; what was kept is not, if it has. */
static int revive_slice(struct scheduler *s, struct store_txn *t, const struct record_part *r,
                        struct slice_work *w, struct err *err)
{
    for (uint32_t bit = 0; bit < w->state_count; bit++) {
        uint32_t index = w->slice * SLICE_MAX + bit;
        const uint8_t *claim = claim_of(r, index);
        int rc = 0;
        if (w->states[bit] == STATE_DUPLICATE && !is_known(t, r, index))
            rc = take_back(t, w, s, bit, claim, err);
        else if (w->states[bit] == STATE_PENDING && served_has(t, r->batch_id, index, claim))
            rc = give_up(t, w, s, bit, claim, err);
        if (rc != 0)
            return -1;
    }
    return states_put(t, r->batch_id, w->slice, w->states, w->state_count, err);
}

static int revive(struct scheduler *s, struct store_txn *t, const struct record_part *r,
                  struct run *run, struct err *err)
{
    struct slice_work w = {.run = run};

    for (w.slice = 0; w.slice < run->slice_count; w.slice++)
        if (states_get(t, run->id, w.slice, w.states, &w.state_count) &&
            revive_slice(s, t, r, &w, err) != 0)
            return -1;
    return 0;
}

/* Somebody else may have sent what is pending. */
static int doubt_pending(struct scheduler *s, struct store_txn *t, struct run *run, struct err *err)
{
    struct slice_work w = {.run = run};
    unsigned in_doubt = 0;

    for (w.slice = 0; w.slice < run->slice_count; w.slice++) {
        uint64_t mask = 0;
        if (!states_get(t, run->id, w.slice, w.states, &w.state_count))
            continue;
        for (uint32_t bit = 0; bit < w.state_count; bit++)
            if (w.states[bit] == STATE_PENDING) {
                change_state(s, &w, bit, STATE_DOUBT);
                mask |= UINT64_C(1) << bit;
                in_doubt++;
            }
        if (mask != 0 && (states_put(t, run->id, w.slice, w.states, w.state_count, err) != 0 ||
                          doubt_begin(s, t, run, w.slice, mask, err) != 0))
            return -1;
    }
    if (in_doubt != 0)
        log_info("batch %016" PRIx64 ": another machine had it; %u recipients wait for what "
                 "SES's events tell of them",
                 run->id, in_doubt);
    return 0;
}

static bool is_consistent(const struct record_part *r)
{
    return r->batch_id != 0 && r->recipient_count > 0 &&
           r->recipient_count <= MESSAGE_RECIPIENTS_MAX &&
           r->claims.len == (size_t)r->recipient_count * CLAIM_BYTES;
}

int part_take(struct scheduler *s, struct store_txn *t, const struct record_part *r,
              struct slice *why, struct err *err)
{
    struct books books;
    uint32_t had = 0;

    *why = SLICE("it is not consistent");
    if (!is_consistent(r))
        return 0;
    bool is_here = part_row_get(t, r->batch_id, &had);
    struct slice head;
    if (!is_here && batch_books(t, r->batch_id, &books)) {
        *why = SLICE("its id is that of a batch of this machine's own");
        return 0;
    }
    if (is_here && !batch_books(t, r->batch_id, &books))
        is_here = false; /* past retention */
    if (is_here && (!batch_head(t, r->batch_id, &head) || !slice_eq(head, r->head))) {
        *why = SLICE("its id is that of another batch");
        return 0;
    }
    if (is_here && r->receives == had) { /* this very receive, told again */
        part_hold(s, t, &(struct record_held){r->batch_id, r->until_mono_ms});
        return 1;
    }
    if (!is_here) {
        int got = insert(s, t, r, err);
        if (got <= 0) {
            *why = SLICE("its recipients do not fit its head");
            return got;
        }
    }
    if (part_row_put(t, r->batch_id, r->receives, clock_wall_us(), err) != 0)
        return -1;
    struct run *run = run_get(s, t, r->batch_id);
    if (run == NULL)
        return err_set(err, ERR_STORE, "a part just written cannot be read back");
    run->is_part = true;
    run->held_until_mono_ms = r->until_mono_ms;
    if ((is_here && revive(s, t, r, run, err) != 0) ||
        (part_was_elsewhere(r->receives, had) && doubt_pending(s, t, run, err) != 0))
        return -1;
    if (!run_is_settled(run) && due_put(t, r->due_wall_ms, run->id, r->lane, err) != 0)
        return -1;
    if (scheduler_add(s, t, run->id, r->due_wall_ms, r->lane, err) != 0)
        return -1;
    return scheduler_steer_part(s, t, run, err) != 0 ? -1 : 1;
}

void part_hold(struct scheduler *s, struct store_txn *t, const struct record_held *r)
{
    struct run *run = run_get(s, t, r->batch_id);

    if (run == NULL || !run->is_part)
        return;
    run->held_until_mono_ms = r->until_mono_ms;
    run_place(s, run);
}

/* Of a batch that is here the claim is noted as well: a repeated POST has another id. */
int part_note_elsewhere(struct scheduler *s, struct store_txn *t, uint64_t batch_id,
                        uint32_t recipient, struct slice claim, struct err *err)
{
    struct slice_work w = {.run = run_get(s, t, batch_id), .slice = recipient / SLICE_MAX};
    uint32_t bit = recipient % SLICE_MAX;
    struct buf own = {0};

    if (w.run != NULL &&
        (!w.run->is_part || !states_get(t, batch_id, w.slice, w.states, &w.state_count) ||
         bit >= w.state_count || w.states[bit] != STATE_DUPLICATE))
        return 0;
    if (claim.len == 0 && w.run != NULL && work_read(s, t, &w))
        work_claim(&w, bit, &own);
    int rc = served_put(t, batch_id, recipient, own.len != 0 ? buf_slice(&own) : claim,
                        clock_wall_us(), err);
    buf_fini(&own);
    return rc;
}

/* -------- handing on -------- */

static bool is_lost(const struct scheduler *s, const struct run *run)
{
    return run->is_part && run->books.state[STATE_PENDING] > 0 &&
           part_is_gone(run->held_until_mono_ms, clock_mono_ms(),
                        s->me->config->queues.buffer_visibility_ms);
}

bool parts_are_to_be_handed_on(const struct scheduler *s)
{
    for (size_t i = 0; i < s->active_count; i++)
        if (is_lost(s, s->active[i]))
            return true;
    return false;
}

static int hand_on(struct scheduler *s, struct store_txn *t, struct run *run, struct err *err)
{
    struct slice_work w = {.run = run};
    uint32_t before = run->books.state[STATE_PENDING];

    for (w.slice = 0; w.slice < run->slice_count; w.slice++) {
        struct buf claims = {0};
        int rc = 0;
        if (!states_get(t, run->id, w.slice, w.states, &w.state_count) || !work_read(s, t, &w))
            continue;
        const struct submission of_slice = {
            .head = w.head, .recipients = w.recipients, .recipient_count = w.state_count};
        submission_claims(&of_slice, &claims);
        for (uint32_t bit = 0; bit < w.state_count && rc == 0; bit++)
            if (w.states[bit] == STATE_PENDING && claims.len == (size_t)w.state_count * CLAIM_BYTES)
                rc = give_up(t, &w, s, bit, claims.ptr + (size_t)bit * CLAIM_BYTES, err);
        buf_fini(&claims);
        if (rc != 0 || states_put(t, run->id, w.slice, w.states, w.state_count, err) != 0)
            return -1;
    }
    log_warn("batch %016" PRIx64 ": the buffer queue has given it to another machine; %" PRIu32
             " recipients are handed on",
             run->id, before - run->books.state[STATE_PENDING]);
    return 0;
}

int parts_hand_on(struct scheduler *s, struct store_txn *t, struct err *err)
{
    for (size_t i = 0; i < s->active_count; i++)
        if (is_lost(s, s->active[i]) && hand_on(s, t, s->active[i], err) != 0)
            return -1;
    return 0;
}
