#include "store/scheduler.h"

#include <assert.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pack.h"
#include "mail/form.h"
#include "mail/own_event.h"
#include "store/counters.h"
#include "store/events.h"
#include "store/internal.h"
#include "store/runs.h"
#include "store/suppressions.h"
#include "store/taken.h"
#include "store/totals.h"

enum {
    RUNS_KEPT = 2048, /* settled runs kept for the books of late events */
    /* Recipients of a lane that a sender has in hand at once: about a second of its share of the
     * rate. More would keep a pause, a cancel or another domain waiting, fewer would keep a fast
     * sender waiting for commits. */
    IN_HAND_LEAST = 2 * SLICE_MAX,
    IN_HAND_LEAST_TRANSACTIONAL = 20,
    IN_HAND_MOST = 48 * SLICE_MAX,
};

/* -------- opening -------- */

struct opening {
    struct scheduler *s;
    struct store_txn *t;
};

static int open_due(void *arg, uint64_t due_wall_ms, uint64_t batch_id, uint32_t lane)
{
    struct opening *o = arg;
    struct run *run = run_get(o->s, o->t, batch_id);

    if (run != NULL)
        run_activate(o->s, run, due_wall_ms, lane);
    else
        log_error("batch %016llx is due but cannot be read: postern batches shows what is left",
                  (unsigned long long)batch_id);
    return 0;
}

static void doubt_remember(struct scheduler *s, const struct lease_row *row)
{
    if (s->doubt_count == s->doubt_cap) {
        s->doubt_cap = s->doubt_cap == 0 ? 64 : s->doubt_cap * 2;
        s->doubts = mem_grow(s->doubts, s->doubt_cap * sizeof *s->doubts);
    }
    uint64_t window_ms = s->me->config->sender.doubt_window_ms, now_ms = clock_wall_ms();
    uint64_t left_ms = row->until_wall_ms > now_ms ? row->until_wall_ms - now_ms : 0;
    s->doubts[s->doubt_count++] = (struct doubt){
        .row = *row,
        .until_mono_ms = clock_mono_ms() + (left_ms < window_ms ? left_ms : window_ms)};
}

bool scheduler_lane_find(struct scheduler *s, struct store_txn *t, uint64_t batch_id,
                         uint32_t *lane)
{
    const struct run *run = batch_id == 0 ? NULL : run_get(s, t, batch_id);

    *lane = run == NULL ? LANE_NEWSLETTER : run->lane;
    return run != NULL;
}

uint32_t scheduler_lane(struct scheduler *s, struct store_txn *t, uint64_t batch_id)
{
    uint32_t lane;

    (void)scheduler_lane_find(s, t, batch_id, &lane);
    return lane;
}

uint64_t scheduler_held_until(struct scheduler *s, struct store_txn *t, uint64_t batch_id)
{
    const struct run *run = run_get(s, t, batch_id);

    return run == NULL || !run->is_part ? 0 : run->held_until_mono_ms;
}

static void lease_hold(struct scheduler *s, struct lease *lease, const struct lease_row *row,
                       uint32_t lane)
{
    *lease = (struct lease){.held = true, .row = *row, .lane = lane};
    s->lease_count[row->sender]++;
    s->in_hand[row->sender][lane == LANE_NEWSLETTER] += (uint32_t)__builtin_popcountll(row->mask);
}

static void lease_settle(struct scheduler *s, struct lease *lease, uint64_t bits)
{
    bits &= lease->row.mask;
    lease->row.mask &= ~bits;
    s->in_hand[lease->row.sender][lease->lane == LANE_NEWSLETTER] -=
        (uint32_t)__builtin_popcountll(bits);
}

static int open_lease(void *arg, const struct lease_row *row)
{
    struct opening *o = arg;
    struct scheduler *s = o->s;

    if (row->id > s->last_lease_id)
        s->last_lease_id = row->id;
    if (row->sender == LEASE_DOUBT) {
        doubt_remember(s, row);
        return 0;
    }
    /* A cell is used again only after its lease's row is gone: no two rows share one. */
    if (row->sender < STARTED_SENDERS && row->cell < STARTED_CELLS)
        lease_hold(s, &s->leases[row->sender][row->cell], row,
                   scheduler_lane(s, o->t, row->batch_id));
    return 0;
}

struct scheduler *scheduler_open(const struct child *me, struct store_txn *t, struct err *err)
{
    struct scheduler *s = mem_zero(1, sizeof *s);
    struct opening o = {.s = s, .t = t};

    s->me = me;
    s->expanding = true;
    s->last_lease_id = clock_wall_us();
    s->feeds = feeds_open(me->config, &me->gauges->events, t);
    s->reputation = reputation_open(t, err);
    if (s->reputation != NULL)
        s->gates = gates_open(me->config, s->reputation, t, err);
    if (s->gates != NULL && due_each(t, open_due, &o) == 0 && lease_each(t, open_lease, &o) == 0)
        return s;
    if (s->gates != NULL)
        (void)err_set(err, ERR_STORE, "the batches that are due cannot be listed");
    scheduler_close(s);
    return NULL;
}

void scheduler_close(struct scheduler *s)
{
    if (s == NULL)
        return;
    holds_fini(s);
    runs_close(s);
    gates_close(s->gates);
    reputation_close(s->reputation);
    feeds_close(s->feeds);
    free(s->doubts);
    own_events_fini(&s->own_events);
    arena_fini(&s->arena);
    free(s);
}

int scheduler_add(struct scheduler *s, struct store_txn *t, uint64_t batch_id, uint64_t due_wall_ms,
                  uint32_t lane, struct err *err)
{
    struct run *run = run_get(s, t, batch_id);

    if (run == NULL)
        return err_set(err, ERR_STORE, "the batch just written cannot be read back");
    run_activate(s, run, due_wall_ms, lane);
    s->expanding = true;
    return 0;
}

/* -------- own events -------- */

static void count_event(struct run *run, uint32_t type, uint32_t severity)
{
    struct books *b = &run->books;

    switch (type) {
    case EVENT_DELIVERED:
        b->delivered++;
        break;
    case EVENT_FAILED:
        if (severity == SEVERITY_PERMANENT)
            b->failed_permanent++;
        else
            b->failed_temporary++;
        break;
    case EVENT_OPENED:
        b->opened++;
        break;
    case EVENT_CLICKED:
        b->clicked++;
        break;
    case EVENT_COMPLAINED:
        b->complained++;
        break;
    case EVENT_UNSUBSCRIBED:
        b->unsubscribed++;
        break;
    default: /* accepted and the like: no column */
        return;
    }
    run->books_changed = true;
}

static int put_own_event(struct scheduler *s, struct store_txn *t, struct run *run, struct event *e,
                         struct err *err)
{
    e->has_lane = true;
    e->lane = run->lane;
    int got = event_put(t, e, clock_wall_us(), err);

    if (got <= 0)
        return got;
    count_event(run, e->type, e->severity);
    return own_events_note(&s->own_events, t, e, err);
}

/* -------- granting -------- */

static enum own_suppression own_suppression_of(enum suppression list)
{
    return list == SUPPRESS_BOUNCE        ? OWN_SUPPRESS_BOUNCE
           : list == SUPPRESS_UNSUBSCRIBE ? OWN_SUPPRESS_UNSUBSCRIBE
                                          : OWN_SUPPRESS_COMPLAINT;
}

static uint32_t allowance_of(const struct scheduler *s, unsigned domain, enum lane lane)
{
    return gates_allowance(s->gates, s->domains[domain].name, lane, s->domains[domain].in_flight);
}

/* Settles those of the slice's pending recipients that are not to be sent; *mask gets the others,
 * as many as the gates allow, *simulated those of them that are SES's simulator. */
static int choose(struct scheduler *s, struct store_txn *t, struct slice_work *w, uint64_t *mask,
                  uint64_t *simulated, struct err *err)
{
    bool readable = work_read(s, t, w);
    uint64_t now_us = clock_wall_us(), now_mono_ms = clock_mono_ms();
    uint32_t most = allowance_of(s, w->run->domain, run_lane(w->run));

    /* One recipient is enough to ask SES with, but one mail to several is not cut. */
    if (readable && w->head.batch_mode && most > 1 && holds_state(s, w->run) == HOLD_PROBE)
        most = 1;
    *mask = *simulated = 0;
    if (!readable)
        log_error("batch %016llx slice %u: stored recipients cannot be read; they are failed",
                  (unsigned long long)w->run->id, w->slice);
    for (uint32_t i = 0; i < w->state_count; i++) {
        enum suppression list = SUPPRESS_NONE;
        struct event e;
        uint32_t index = w->slice * SLICE_MAX + i;

        if (w->states[i] != STATE_PENDING)
            continue;
        if (readable)
            list = suppression_of(t, w->head.domain, w->recipients[i].address, w->head.tags,
                                  w->head.tag_count);
        if (!readable) {
            change_state(s, w, i, STATE_FAILED);
        } else if (list != SUPPRESS_NONE) {
            own_event_suppressed(&e, &w->head, &w->recipients[i], w->run->id, index,
                                 own_suppression_of(list), now_us, &s->arena);
            if (put_own_event(s, t, w->run, &e, err) != 0)
                return -1;
            change_state(s, w, i, STATE_SUPPRESSED);
        } else if (w->head.testmode) {
            own_event_test_delivered(&e, &w->head, &w->recipients[i], w->run->id, index, now_us,
                                     &s->arena);
            if (put_own_event(s, t, w->run, &e, err) != 0)
                return -1;
            change_state(s, w, i, STATE_SENT);
        } else if (most > 0 && run_delayed_until(w->run, w->slice, i) <= now_mono_ms) {
            most--;
            change_state(s, w, i, STATE_LEASED);
            *mask |= UINT64_C(1) << i;
            if (reputation_excludes(w->recipients[i].address))
                *simulated |= UINT64_C(1) << i;
        }
    }
    return states_put(t, w->run->id, w->slice, w->states, w->state_count, err);
}

/* The next slice of the run with a pending recipient that may go now. False when there is none;
 * *wait_until_mono_ms: when the first of those that wait may, 0 = none waits. */
static bool next_slice(struct store_txn *t, struct slice_work *w, uint64_t *wait_until_mono_ms)
{
    struct run *run = w->run;
    uint64_t now = clock_mono_ms();
    bool from_start = run->cursor == 0, leads = true;

    *wait_until_mono_ms = 0;
    for (w->slice = run->cursor; w->slice < run->slice_count; w->slice++) {
        if (!states_get(t, run->id, w->slice, w->states, &w->state_count))
            continue;
        for (uint32_t bit = 0; bit < w->state_count; bit++) {
            if (w->states[bit] != STATE_PENDING)
                continue;
            if (leads) /* all before it are done with */
                run->cursor = w->slice;
            leads = false;
            uint64_t until = run_delayed_until(run, w->slice, bit);
            if (until <= now)
                return true;
            if (*wait_until_mono_ms == 0 || until < *wait_until_mono_ms)
                *wait_until_mono_ms = until;
        }
    }
    if (leads && !from_start) {
        run->cursor = 0; /* the books say there is one: look from the start */
        return next_slice(t, w, wait_until_mono_ms);
    }
    return false;
}

/* Start-time fair queueing: each domain's share counts in recipients, and one that was silent has
 * saved up nothing. */
static uint64_t start_of(const struct scheduler *s, const struct run *run)
{
    uint64_t served = s->domains[run->domain].served;

    return served > s->turn ? served : s->turn;
}

static bool goes_before(const struct scheduler *s, const struct run *a, const struct run *b)
{
    if (a->lane != b->lane)
        return a->lane < b->lane;
    if (a->domain != b->domain && start_of(s, a) != start_of(s, b))
        return start_of(s, a) < start_of(s, b);
    if (a->due_wall_ms != b->due_wall_ms)
        return a->due_wall_ms < b->due_wall_ms;
    return a->id < b->id;
}

/* Those whose time has come are ready. */
static void wake_due(struct scheduler *s)
{
    struct run *run;

    while ((run = run_heap_first(&s->scheduled)) != NULL && run->due_wall_ms <= clock_wall_ms())
        run_place(s, run);
    while ((run = run_heap_first(&s->patient)) != NULL &&
           run->not_before_mono_ms <= clock_mono_ms())
        run_place(s, run);
}

/* The first of which something can go; those before it are in no heap from then on. */
static struct run *first_ready(const struct run_heap *h)
{
    struct run *run;

    while ((run = run_heap_first(h)) != NULL &&
           (run->mark != MARK_NONE || run->books.state[STATE_PENDING] == 0 || !run_is_held(run)))
        run_heap_take(run);
    return run;
}

/* The first whose From nothing is held of; the others are parked with their hold. */
static struct run *first_of_lane(struct scheduler *s, const struct run_heap *ready)
{
    struct run *run;

    while ((run = first_ready(ready)) != NULL) {
        struct hold *hold = holds_of_from(s, run);
        if (hold == NULL)
            return run;
        run_heap_put(&hold->parked, run, run->due_wall_ms);
    }
    return NULL;
}

static struct run *better(const struct scheduler *s, struct run *run, struct run *best)
{
    return run != NULL && (best == NULL || goes_before(s, run, best)) ? run : best;
}

static struct run *pick(struct scheduler *s, const bool may[2])
{
    struct run *best = NULL;

    wake_due(s);
    for (unsigned domain = 0; domain < s->domain_count; domain++)
        for (enum lane lane = LANE_TRANSACTIONAL; lane <= LANE_NEWSLETTER; lane++) {
            const struct run_heap *ready = &s->domains[domain].ready[lane];
            if (ready->count > 0 && may[lane] && holds_lane_state(s, domain, lane) != HOLD_CLOSED &&
                allowance_of(s, domain, lane) > 0)
                best = better(s, first_of_lane(s, ready), best);
        }
    /* Froms whose hold is over: one lease each. */
    for (size_t i = 0; i < s->holds.count; i++) {
        const struct hold *hold = s->holds.list[i];
        if (hold->parked.count > 0 && may[hold->lane] && hold_state(hold) == HOLD_PROBE &&
            holds_lane_state(s, hold->domain, hold->lane) != HOLD_CLOSED &&
            allowance_of(s, hold->domain, hold->lane) > 0)
            best = better(s, first_ready(&hold->parked), best);
    }
    return best;
}

/* May this sender be given more of the lane? Newsletters go by whole slices, which are not cut. */
static bool has_room(const struct scheduler *s, unsigned sender, enum lane lane)
{
    uint64_t per_s = atomic_load(&s->me->gauges->bucket.per_s_milli) / 1000;
    uint64_t senders = s->me->config->sender.children > 0 ? s->me->config->sender.children : 1;
    uint64_t least = lane == LANE_NEWSLETTER ? IN_HAND_LEAST : IN_HAND_LEAST_TRANSACTIONAL;
    uint64_t most = per_s / senders;

    most = most < least ? least : most > IN_HAND_MOST ? IN_HAND_MOST : most;
    return lane == LANE_NEWSLETTER ? s->in_hand[sender][1] + SLICE_MAX <= most
                                   : s->in_hand[sender][0] < most;
}

static uint32_t free_cell(const struct scheduler *s, unsigned sender)
{
    for (uint32_t i = 0; i < STARTED_CELLS; i++)
        if (!s->leases[sender][i].held)
            return i;
    return STARTED_CELLS;
}

int scheduler_grant(struct scheduler *s, struct store_txn *t, const struct child_slot *sender,
                    uint64_t generation, struct buf *record, struct err *err)
{
    unsigned index = sender->index;
    uint64_t mask = 0, simulated = 0, wait_until;
    struct slice_work w;

    uint32_t cell = index < STARTED_SENDERS ? free_cell(s, index) : STARTED_CELLS;
    if (cell == STARTED_CELLS)
        return 0;
    const bool may[] = {has_room(s, index, LANE_TRANSACTIONAL),
                        has_room(s, index, LANE_NEWSLETTER)};
    do {
        w = (struct slice_work){.run = pick(s, may)};
        if (w.run == NULL)
            return 0;
        if (!next_slice(t, &w, &wait_until)) {
            if (wait_until == 0)
                log_error("batch %016llx: books say %u are pending, no slice does; run postern "
                          "check",
                          (unsigned long long)w.run->id, w.run->books.state[STATE_PENDING]);
            w.run->not_before_mono_ms = wait_until != 0 ? wait_until : clock_mono_ms() + 60000;
            run_place(s, w.run);
            continue;
        }
        if (choose(s, t, &w, &mask, &simulated, err) != 0)
            return -1;
        s->turn = start_of(s, w.run);
        s->domains[w.run->domain].served = s->turn + (uint64_t)__builtin_popcountll(mask);
    } while (mask == 0);

    struct lease *lease = &s->leases[index][cell];
    lease_hold(s, lease,
               &(struct lease_row){
                   .sender = index,
                   .id = ++s->last_lease_id,
                   .epoch = s->me->ring_epoch,
                   .generation = generation,
                   .cell = cell,
                   .slice = w.slice,
                   .batch_id = w.run->id,
                   .mask = mask,
               },
               w.run->lane);
    lease->simulated = simulated;
    holds_note_grant(s, w.run, lease->row.id);
    if (lease_put(t, &lease->row, err) != 0)
        return -1;

    struct record_lease r = {
        .generation = generation,
        .lease_id = lease->row.id,
        .cell = cell,
        .batch_id = w.run->id,
        .slice = w.slice,
        .mask = mask,
        .lane = w.run->lane,
        .until_mono_ms = w.run->is_part ? w.run->held_until_mono_ms : 0,
    };
    record_lease_encode(record, &r);
    return 1;
}

/* -------- outcomes -------- */

static struct lease *lease_find(struct scheduler *s, unsigned sender, uint64_t id)
{
    if (sender < STARTED_SENDERS)
        for (uint32_t i = 0; i < STARTED_CELLS; i++)
            if (s->leases[sender][i].held && s->leases[sender][i].row.id == id)
                return &s->leases[sender][i];
    return NULL;
}

static int lease_end(struct scheduler *s, struct store_txn *t, struct lease *lease, struct err *err)
{
    lease_settle(s, lease, UINT64_MAX);
    lease->held = false;
    holds_note_end(s, lease->row.id);
    s->lease_count[lease->row.sender]--;
    return lease_del(t, lease->row.sender, lease->row.id, err);
}

int doubt_begin(struct scheduler *s, struct store_txn *t, const struct run *run, uint32_t slice,
                uint64_t mask, struct err *err)
{
    struct lease_row row = {
        .sender = LEASE_DOUBT,
        .id = ++s->last_lease_id,
        .batch_id = run->id,
        .slice = slice,
        .mask = mask,
        .until_wall_ms = clock_wall_ms() + s->me->config->sender.doubt_window_ms,
    };

    doubt_remember(s, &row);
    return lease_put(t, &row, err);
}

static int refuse(struct scheduler *s, struct store_txn *t, struct slice_work *w, uint32_t bit,
                  uint32_t code, struct slice text, struct err *err)
{
    struct event e;

    change_state(s, w, bit, STATE_FAILED);
    own_event_refused(&e, &w->head, &w->recipients[bit], w->run->id, w->slice * SLICE_MAX + bit,
                      code, text, clock_wall_us(), &s->arena);
    if (put_own_event(s, t, w->run, &e, err) != 0)
        return -1;
    return work_release_claim(t, w, bit, err);
}

/* SES has taken it. */
static int note_sent(struct scheduler *s, struct store_txn *t, struct slice_work *w, uint32_t bit,
                     bool simulated, struct err *err)
{
    change_state(s, w, bit, STATE_SENT);
    w->run->books.sent_wall_s = (uint32_t)(clock_wall_ms() / 1000);
    feeds_sent(s->feeds, s->domains[w->run->domain].name);
    if (!simulated)
        reputation_add(s->reputation, s->domains[w->run->domain].name, REPUTATION_SENT, 1,
                       clock_wall_ms());
    if (w->run->lane != LANE_NEWSLETTER)
        return 0;
    uint32_t domain = store_domain_intern(t, s->domains[w->run->domain].name, err);
    if (domain == 0)
        return -1;
    counters_add_one(t, domain, COUNT_SENT_NEWSLETTER, clock_wall_us());
    return 0;
}

int scheduler_outcomes(struct scheduler *s, struct store_txn *t, unsigned sender,
                       const struct record_outcomes *r, struct err *err)
{
    struct lease *lease = lease_find(s, sender, r->lease_id);
    struct slice_work w = {.run = run_get(s, t, r->batch_id), .slice = r->slice};
    struct unpack u = unpack_over(r->results);
    uint64_t in_doubt = 0, now_mono_ms = clock_mono_ms();
    bool readable = false;

    /* The lease of a life that was buried already: its recipients were settled then. Only a proof
     * that SES took the mail still counts. */
    bool current = lease != NULL && lease->row.batch_id == r->batch_id &&
                   lease->row.slice == r->slice && lease->row.generation == r->generation;
    if (w.run == NULL || !states_get(t, r->batch_id, r->slice, w.states, &w.state_count))
        return current && r->finished ? lease_end(s, t, lease, err) : 0;

    for (uint32_t n = unpack_array(&u); n > 0; n--) {
        uint32_t fields = unpack_array(&u);
        uint64_t bit = unpack_u64(&u), kind = unpack_u64(&u), code = unpack_u64(&u);
        struct slice text = unpack_str(&u);
        uint64_t retry_ms = unpack_u64(&u);

        if (!unpack_ok(&u) || fields != 5 || bit >= w.state_count) {
            log_warn("sender %u reported something unreadable about batch %016llx: passed over",
                     sender, (unsigned long long)r->batch_id);
            break;
        }
        uint8_t state = w.states[bit];
        if (kind == OUTCOME_SENT) {
            bool simulated = current && (lease->simulated >> bit & 1) != 0;
            if ((state == STATE_LEASED || state == STATE_DOUBT || state == STATE_PENDING) &&
                note_sent(s, t, &w, (uint32_t)bit, simulated, err) != 0)
                return -1;
            if (current && text.len > 0) /* a copy that went along has no answer of its own */
                holds_note_taken(s, r->lease_id);
            if (text.len > 0 && w.run->lane == LANE_TRANSACTIONAL &&
                taken_note(t, r->batch_id, TAKEN_SENT, text, err) != 0)
                return -1;
        } else if (current && (lease->row.mask >> bit & 1) != 0 && state == STATE_LEASED) {
            if (kind == OUTCOME_FAILED) {
                if (!readable && !(readable = work_read(s, t, &w)))
                    change_state(s, &w, (uint32_t)bit, STATE_FAILED);
                else if (refuse(s, t, &w, (uint32_t)bit, (uint32_t)code, text, err) != 0)
                    return -1;
                if (w.run->lane == LANE_TRANSACTIONAL &&
                    taken_note(t, r->batch_id, TAKEN_REFUSED, text, err) != 0)
                    return -1;
            } else if (kind == OUTCOME_RETRY) {
                if (change_to_unsent(s, t, &w, (uint32_t)bit, err) != 0)
                    return -1;
                if (retry_ms > 0)
                    run_delay(w.run, r->slice, (uint32_t)bit, now_mono_ms + retry_ms);
            } else if (kind == OUTCOME_HELD) {
                if (change_to_unsent(s, t, &w, (uint32_t)bit, err) != 0)
                    return -1;
                if (code >= HOLD_QUOTA && code <= HOLD_CONFIGURATION_SET)
                    holds_begin(s, t, w.run, r->lease_id, (enum hold_reason)code, text);
                readable = false; /* the arena was used for something else */
            } else {
                change_state(s, &w, (uint32_t)bit, STATE_DOUBT);
                in_doubt |= UINT64_C(1) << bit;
            }
        }
        if (current)
            lease_settle(s, lease, UINT64_C(1) << bit);
    }
    /* What was given back may be granted again at once: the stored lease must not claim it then. */
    if (current && !r->finished && lease_put(t, &lease->row, err) != 0)
        return -1;
    if (current && r->finished) {
        /* What a finished lease says nothing about may have been sent: in doubt, not lost. */
        for (uint32_t bit = 0; bit < w.state_count; bit++)
            if ((lease->row.mask >> bit & 1) != 0 && w.states[bit] == STATE_LEASED) {
                change_state(s, &w, bit, STATE_DOUBT);
                in_doubt |= UINT64_C(1) << bit;
            }
        if (lease_end(s, t, lease, err) != 0)
            return -1;
    }
    if (in_doubt != 0 && doubt_begin(s, t, w.run, r->slice, in_doubt, err) != 0)
        return -1;
    return states_put(t, r->batch_id, r->slice, w.states, w.state_count, err);
}

int scheduler_settle(struct scheduler *s, struct store_txn *t, uint64_t batch_id,
                     uint32_t recipient, struct err *err)
{
    struct slice_work w = {.run = run_get(s, t, batch_id), .slice = recipient / SLICE_MAX};
    uint32_t bit = recipient % SLICE_MAX;

    if (w.run == NULL || !states_get(t, batch_id, w.slice, w.states, &w.state_count) ||
        bit >= w.state_count)
        return 0;
    uint8_t state = w.states[bit];
    if (state != STATE_LEASED && state != STATE_DOUBT && state != STATE_PENDING)
        return 0;
    if (note_sent(s, t, &w, bit, false, err) != 0)
        return -1;
    return states_put(t, batch_id, w.slice, w.states, w.state_count, err);
}

int scheduler_count_event(struct scheduler *s, struct store_txn *t, uint64_t batch_id,
                          uint32_t recipient, uint32_t event_type, uint32_t severity,
                          struct err *err)
{
    struct run *run = run_get(s, t, batch_id);
    bool ends = event_type == EVENT_DELIVERED || event_type == EVENT_REJECTED ||
                (event_type == EVENT_FAILED && severity == SEVERITY_PERMANENT);

    if (run == NULL)
        return 0;
    count_event(run, event_type, severity);
    int marked = ends ? outcome_mark(t, batch_id, recipient, err) : 0;
    if (marked > 0) {
        run->books.outcomes++;
        run->books_changed = true;
    }
    return marked < 0 ? -1 : 0;
}

struct slice scheduler_domain(struct scheduler *s, struct store_txn *t, uint64_t batch_id)
{
    const struct run *run = batch_id == 0 ? NULL : run_get(s, t, batch_id);

    return run == NULL ? slice_none() : s->domains[run->domain].name;
}

struct feeds *scheduler_feeds(struct scheduler *s)
{
    return s->feeds;
}

int scheduler_feedback(struct scheduler *s, struct store_txn *t, struct slice domain,
                       struct slice address, enum reputation_kind kind, struct err *err)
{
    if (reputation_excludes(address))
        return 0;
    reputation_add(s->reputation, domain, kind, 1, clock_wall_ms());
    return gates_judge(s->gates, t, domain, err);
}

/* -------- the dead and the doubtful -------- */

static bool lease_is_dead(const struct scheduler *s, const struct lease_row *row,
                          const struct child_slot *sender)
{
    const struct gauge_slot *g = &s->me->gauges->slots[sender->gauge];

    return row->epoch != s->me->ring_epoch ||
           row->generation != atomic_load_explicit(&s->me->gauges->lives[sender->gauge].generation,
                                                   memory_order_acquire) ||
           atomic_load_explicit(&g->state, memory_order_acquire) == GAUGE_DOWN;
}

bool scheduler_has_dead(const struct scheduler *s, const struct child_slot *sender)
{
    if (sender->index >= STARTED_SENDERS || s->lease_count[sender->index] == 0)
        return false;
    for (uint32_t i = 0; i < STARTED_CELLS; i++) {
        const struct lease *lease = &s->leases[sender->index][i];
        if (lease->held && lease_is_dead(s, &lease->row, sender))
            return true;
    }
    return false;
}

static int bury(struct scheduler *s, struct store_txn *t, struct lease *lease, struct err *err)
{
    const struct lease_row *row = &lease->row;
    struct slice_work w = {.run = run_get(s, t, row->batch_id), .slice = row->slice};
    uint64_t started = 0, in_doubt = 0;

    /* Marks of an earlier boot, or none at all, prove nothing: all may have been started. */
    bool marks_hold = row->epoch == s->me->ring_epoch || s->me->started_believable;
    if (!marks_hold)
        started = UINT64_MAX;
    else if (!started_read(s->me->started, row->sender, row->cell, row->id, &started))
        started = 0; /* never taken up */

    if (w.run != NULL && states_get(t, row->batch_id, row->slice, w.states, &w.state_count)) {
        for (uint32_t bit = 0; bit < w.state_count; bit++) {
            if ((row->mask >> bit & 1) == 0 || w.states[bit] != STATE_LEASED)
                continue;
            if ((started >> bit & 1) != 0) {
                change_state(s, &w, bit, STATE_DOUBT);
                in_doubt |= UINT64_C(1) << bit;
            } else {
                if (change_to_unsent(s, t, &w, bit, err) != 0)
                    return -1;
            }
        }
        if (states_put(t, row->batch_id, row->slice, w.states, w.state_count, err) != 0 ||
            (in_doubt != 0 && doubt_begin(s, t, w.run, row->slice, in_doubt, err) != 0))
            return -1;
    }
    return lease_end(s, t, lease, err);
}

int scheduler_bury(struct scheduler *s, struct store_txn *t, const struct child_slot *sender,
                   struct err *err)
{
    unsigned buried = 0;

    if (sender->index >= STARTED_SENDERS)
        return 0;
    for (uint32_t i = 0; i < STARTED_CELLS; i++) {
        struct lease *lease = &s->leases[sender->index][i];
        if (!lease->held || !lease_is_dead(s, &lease->row, sender))
            continue;
        if (bury(s, t, lease, err) != 0)
            return -1;
        buried++;
    }
    if (buried != 0)
        log_info("sender %u: %u leases of its last life settled", sender->index, buried);
    return 0;
}

/* Until when the events have been read, in wall time: a doubt that ended before it has had its
 * chance. A poller that died keeps what it had received out of sight for the visibility timeout;
 * then it stands in the queue behind all that waits there. So after a change of pollers, and after
 * our own start, which may have missed one, nothing counts before the queue has been heard up to
 * the time when all of that was back in it. */
static uint64_t heard_until_wall_ms(struct scheduler *s)
{
    uint64_t heard_ms = UINT64_MAX, now_ms = clock_mono_ms(), generations = 0;
    bool listening = false;

    for (size_t i = 0; i < s->me->slot_count; i++) {
        const struct gauge_slot *g = &s->me->gauges->slots[s->me->slots[i].gauge];
        if (s->me->slots[i].role != ROLE_POLLER)
            continue;
        generations += atomic_load(&s->me->gauges->lives[s->me->slots[i].gauge].generation);
        if (atomic_load(&g->state) != GAUGE_READY)
            continue;
        listening = true;
        uint64_t its_ms = atomic_load(&g->heard_wall_ms); /* each has messages of its own */
        heard_ms = its_ms < heard_ms ? its_ms : heard_ms;
    }
    uint64_t wall_ms = clock_wall_ms();
    if (generations != s->poller_generations) {
        s->poller_generations = generations;
        s->pollers_since_mono_ms = now_ms;
        s->pollers_since_wall_ms = wall_ms;
    }
    if (s->pollers_since_wall_ms > wall_ms) /* the clock was set back */
        s->pollers_since_wall_ms = wall_ms;
    uint64_t patience_ms = (config_visibility_s(s->me->config) + 2) * UINT64_C(1000);
    bool counts = listening && now_ms - s->pollers_since_mono_ms >= patience_ms &&
                  heard_ms >= s->pollers_since_wall_ms + patience_ms;
    return counts ? heard_ms : 0;
}

static bool doubt_is_over(const struct doubt *d, uint64_t heard_ms)
{
    return d->row.until_wall_ms <= heard_ms && d->until_mono_ms <= clock_mono_ms();
}

bool scheduler_doubt_is_due(struct scheduler *s)
{
    uint64_t heard_ms = heard_until_wall_ms(s);

    for (size_t i = 0; i < s->doubt_count; i++)
        if (doubt_is_over(&s->doubts[i], heard_ms))
            return true;
    return false;
}

static bool any_in_doubt(const struct slice_work *w, uint64_t mask)
{
    for (uint32_t bit = 0; bit < w->state_count; bit++)
        if ((mask >> bit & 1) != 0 && w->states[bit] == STATE_DOUBT)
            return true;
    return false;
}

int scheduler_expire_doubts(struct scheduler *s, struct store_txn *t, struct err *err)
{
    bool keep = s->me->config->sender.on_doubt == ON_DOUBT_HOLD;
    uint64_t heard_ms = heard_until_wall_ms(s);

    for (size_t i = 0; i < s->doubt_count;) {
        struct lease_row row = s->doubts[i].row;
        struct slice_work w = {.slice = row.slice};
        uint32_t again = 0;

        if (!doubt_is_over(&s->doubts[i], heard_ms)) {
            i++;
            continue;
        }
        w.run = run_get(s, t, row.batch_id);
        bool known =
            w.run != NULL && states_get(t, row.batch_id, row.slice, w.states, &w.state_count);
        if (known && keep && any_in_doubt(&w, row.mask)) {
            /* Looked at again then: an event may have come. The stored row keeps its time. */
            s->doubts[i++].row.until_wall_ms =
                clock_wall_ms() + s->me->config->sender.doubt_window_ms + 1;
            continue;
        }
        if (known) {
            for (uint32_t bit = 0; bit < w.state_count; bit++)
                if ((row.mask >> bit & 1) != 0 && w.states[bit] == STATE_DOUBT) {
                    if (change_to_unsent(s, t, &w, bit, err) != 0)
                        return -1;
                    again += w.states[bit] == STATE_PENDING;
                }
            if (again != 0)
                log_warn("batch %016llx: %u sends without an answer or an event within the doubt "
                         "window are repeated",
                         (unsigned long long)row.batch_id, again);
            if (states_put(t, row.batch_id, row.slice, w.states, w.state_count, err) != 0)
                return -1;
        }
        if (lease_del(t, LEASE_DOUBT, row.id, err) != 0)
            return -1;
        s->doubts[i] = s->doubts[--s->doubt_count];
    }
    return 0;
}

/* -------- accepted events -------- */

/* All recipients of the batch from w->slice on that are its own, one behind the other; *count, and
 * their indices. */
static struct recipient *own_recipients(struct scheduler *s, struct store_txn *t,
                                        struct slice_work *w, const uint32_t **indices,
                                        size_t *count)
{
    struct run *run = w->run;
    struct recipient *all = arena_array(&s->arena, run->recipient_count, sizeof *all);
    uint32_t *at = arena_array(&s->arena, run->recipient_count, sizeof *at);

    *count = 0;
    *indices = at;
    for (; w->slice < run->slice_count; w->slice++) {
        struct recipient *list;
        struct slice packed;
        size_t n;
        if (!states_get(t, run->id, w->slice, w->states, &w->state_count) ||
            !batch_recipients(t, run->id, w->slice, &packed) ||
            !recipients_unpack(packed, &s->arena, &list, &n) || n < w->state_count)
            continue;
        for (uint32_t i = 0; i < w->state_count && *count < run->recipient_count; i++)
            if (w->states[i] != STATE_DUPLICATE) {
                at[*count] = w->slice * SLICE_MAX + i;
                all[(*count)++] = list[i];
            }
    }
    return all;
}

static int expand_one(struct scheduler *s, struct store_txn *t, struct slice_work *w, size_t *count,
                      struct err *err)
{
    struct slice packed;

    *count = 0;

    if (w->run == NULL || w->slice >= w->run->slice_count)
        return 0;
    uint32_t first = w->slice * SLICE_MAX;
    arena_reset(&s->arena);
    if (!batch_head(t, w->run->id, &packed) || !message_head_unpack(packed, &s->arena, &w->head))
        return 0;
    const uint32_t *indices;
    const struct recipient *all = own_recipients(s, t, w, &indices, count);
    size_t key_count = *count;
    const uint8_t *keys = message_keys_of(&w->head, all, &key_count, &s->arena);
    const struct accepted shared = {.head = &w->head,
                                    .batch_id = w->run->id,
                                    .list = all,
                                    .indices = indices,
                                    .count = *count,
                                    .here = true};
    if ((changes_are_told(t) ? accepted_put(t, &shared, err)
                             : event_put_accepted(t, &w->head, w->run->id, first, all, *count,
                                                  clock_wall_us(), err)) != 0)
        return -1;
    return message_keys_put(t, w->run->id, keys, key_count, err);
}

int scheduler_expand(struct scheduler *s, struct store_txn *t, size_t recipients, struct err *err)
{
    for (size_t done = 0, count; s->expanding && done < recipients; done += 1 + count) {
        struct slice_work w = {0};
        uint64_t batch_id;
        if (!expanding_first(t, &batch_id, &w.slice)) {
            s->expanding = false;
            break;
        }
        w.run = run_get(s, t, batch_id);
        if (expand_one(s, t, &w, &count, err) != 0 || expanding_del(t, batch_id, err) != 0)
            return -1;
    }
    return s->expanding ? 1 : 0;
}

/* -------- the end of a transaction -------- */

int scheduler_flush(struct scheduler *s, struct store_txn *t, struct err *err)
{
    for (size_t i = 0; i < s->active_count;) {
        struct run *run = s->active[i];
        if (!run_is_settled(run)) {
            i++;
            continue;
        }
        if (due_del(t, run->due_wall_ms, run->id, err) != 0 ||
            (run->mark != MARK_NONE && batch_mark_put(t, run->id, MARK_NONE, err) != 0))
            return -1;
        run->mark = MARK_NONE; /* nothing is left that it could keep from being sent */
        run_deactivate(run);
        s->active[i] = s->active[--s->active_count];
    }
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct run *run = s->buckets[i]; run != NULL; run = run->next) {
            if (!run->books_changed)
                continue;
            if (books_put(t, run->id, &run->books, err) != 0 ||
                totals_add_books(t, s->domains[run->domain].name, run->lane, &run->booked,
                                 &run->books, err) != 0)
                return -1;
            run->booked = run->books;
            run->books_changed = false;
        }
    if (s->run_count > s->active_count + RUNS_KEPT)
        runs_drop_settled(s);
    if (own_events_tell(&s->own_events, t, err) != 0)
        return -1;
    if (feeds_flush(s->feeds, t, err) != 0)
        return -1;
    return reputation_flush(s->reputation, t, err);
}

void scheduler_drop_settled(struct scheduler *s)
{
    runs_drop_settled(s);
}
