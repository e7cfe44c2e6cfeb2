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
#include "store/events.h"
#include "store/suppressions.h"

enum {
    BUCKETS = 4096,
    RUNS_KEPT = 2048,      /* settled runs kept for the books of late events */
    LEASES_PER_SENDER = 16 /* held at once: 800 recipients, a fraction of a second of work */
};

/* A batch in memory. */
struct run {
    struct run *next; /* in its bucket */
    uint64_t id;
    uint64_t due_wall_ms;
    uint64_t not_before_mono_ms; /* a sender asked for patience */
    uint32_t lane;
    uint32_t recipient_count, slice_count;
    uint32_t cursor; /* slices before it hold no pending recipient */
    unsigned domain; /* index in scheduler.domains */
    struct books books;
    bool books_changed;
    bool active; /* in scheduler.active: has a due row */
};

struct lease {
    bool held;
    struct lease_row row; /* mask: what is still unanswered */
};

struct domain_turn {
    struct slice name; /* owned */
    uint64_t served;   /* the turn at which it was served last */
};

struct scheduler {
    const struct child *me;
    struct run *buckets[BUCKETS];
    size_t run_count;
    struct run **active;
    size_t active_count, active_cap;
    struct domain_turn *domains;
    size_t domain_count;
    uint64_t turn;
    struct lease leases[STARTED_SENDERS][STARTED_CELLS];
    unsigned lease_count[STARTED_SENDERS];
    uint64_t last_lease_id;
    struct lease_row *doubts;
    size_t doubt_count, doubt_cap;
    uint64_t poller_generations;    /* the sum over all pollers: changes when one dies */
    uint64_t pollers_since_mono_ms; /* when it changed last */
    bool expanding;                 /* there may be rows in DB_EXPANDING */
    struct arena arena;             /* of one operation */
};

/* -------- runs -------- */

static unsigned domain_turn_of(struct scheduler *s, struct slice name)
{
    for (unsigned i = 0; i < s->domain_count; i++)
        if (slice_eq(s->domains[i].name, name))
            return i;
    s->domains = mem_grow(s->domains, (s->domain_count + 1) * sizeof *s->domains);
    s->domains[s->domain_count] =
        (struct domain_turn){.name = slice_of(mem_dup(name.ptr, name.len), name.len)};
    return (unsigned)s->domain_count++;
}

static struct run **bucket_of(struct scheduler *s, uint64_t id)
{
    return &s->buckets[(id ^ id >> 20) % BUCKETS];
}

/* The run of a stored batch; NULL when the store has no such batch. */
static struct run *run_get(struct scheduler *s, struct store_txn *t, uint64_t id)
{
    struct slice packed;
    struct message_head head;
    struct books books;
    struct run **bucket = bucket_of(s, id);

    for (struct run *r = *bucket; r != NULL; r = r->next)
        if (r->id == id)
            return r;
    arena_reset(&s->arena);
    if (!batch_head(t, id, &packed) || !message_head_unpack(packed, &s->arena, &head) ||
        !batch_books(t, id, &books))
        return NULL;

    struct run *run = mem_zero(1, sizeof *run);
    *run = (struct run){
        .next = *bucket,
        .id = id,
        .lane = head.lane,
        .recipient_count = head.recipient_count,
        .slice_count = slice_count_of(head.recipient_count),
        .domain = domain_turn_of(s, head.domain),
        .books = books,
    };
    *bucket = run;
    s->run_count++;
    return run;
}

static void run_activate(struct scheduler *s, struct run *run, uint64_t due_wall_ms, uint32_t lane)
{
    run->due_wall_ms = due_wall_ms;
    run->lane = lane;
    if (run->active)
        return;
    run->active = true;
    if (s->active_count == s->active_cap) {
        s->active_cap = s->active_cap == 0 ? 64 : s->active_cap * 2;
        s->active = mem_grow(s->active, s->active_cap * sizeof *s->active);
    }
    s->active[s->active_count++] = run;
}

static void run_move(struct run *run, enum recipient_state from, enum recipient_state to,
                     uint32_t n)
{
    assert(run->books.state[from] >= n);
    run->books.state[from] -= n;
    run->books.state[to] += n;
    run->books_changed = true;
}

static bool run_is_settled(const struct run *run)
{
    return run->books.state[STATE_PENDING] == 0 && run->books.state[STATE_LEASED] == 0 &&
           run->books.state[STATE_DOUBT] == 0;
}

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
    s->doubts[s->doubt_count++] = *row;
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
    if (row->sender < STARTED_SENDERS && row->cell < STARTED_CELLS) {
        s->leases[row->sender][row->cell] = (struct lease){.held = true, .row = *row};
        s->lease_count[row->sender]++;
    }
    return 0;
}

struct scheduler *scheduler_open(const struct child *me, struct store_txn *t, struct err *err)
{
    struct scheduler *s = mem_zero(1, sizeof *s);
    struct opening o = {.s = s, .t = t};

    s->me = me;
    s->expanding = true;
    s->last_lease_id = clock_wall_us();
    if (due_each(t, open_due, &o) != 0 || lease_each(t, open_lease, &o) != 0) {
        scheduler_close(s);
        (void)err_set(err, ERR_STORE, "the batches that are due cannot be listed");
        return NULL;
    }
    return s;
}

void scheduler_close(struct scheduler *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        while (s->buckets[i] != NULL) {
            struct run *gone = s->buckets[i];
            s->buckets[i] = gone->next;
            free(gone);
        }
    for (size_t i = 0; i < s->domain_count; i++) {
        union {
            const uint8_t *in;
            void *out;
        } name = {.in = s->domains[i].name.ptr};
        free(name.out);
    }
    free(s->domains);
    free(s->active);
    free(s->doubts);
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

/* -------- one slice, unpacked -------- */

struct slice_work {
    struct run *run;
    uint32_t slice;
    struct message_head head;
    struct recipient *recipients;
    size_t recipient_count;
    uint8_t states[SLICE_MAX];
    uint32_t state_count;
};

/* Head and recipients of a slice, in the scheduler's arena. False when they cannot be read. */
static bool work_read(struct scheduler *s, struct store_txn *t, struct slice_work *w)
{
    struct slice packed;

    arena_reset(&s->arena);
    return batch_head(t, w->run->id, &packed) && message_head_unpack(packed, &s->arena, &w->head) &&
           batch_recipients(t, w->run->id, w->slice, &packed) &&
           recipients_unpack(packed, &s->arena, &w->recipients, &w->recipient_count) &&
           w->recipient_count >= w->state_count;
}

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

static int put_own_event(struct store_txn *t, struct run *run, struct event *e, struct err *err)
{
    int got = event_put(t, e, clock_wall_us(), err);

    if (got > 0)
        count_event(run, e->type, e->severity);
    return got < 0 ? -1 : 0;
}

static void change_state(struct slice_work *w, uint32_t bit, enum recipient_state to)
{
    run_move(w->run, (enum recipient_state)w->states[bit], to, 1);
    w->states[bit] = (uint8_t)to;
}

/* -------- granting -------- */

static bool is_listed(struct store_txn *t, const struct slice_work *w, uint32_t bit,
                      enum own_suppression *why)
{
    static const struct {
        enum suppression list;
        enum own_suppression why;
    } lists[] = {
        {SUPPRESS_BOUNCE, OWN_SUPPRESS_BOUNCE},
        {SUPPRESS_UNSUBSCRIBE, OWN_SUPPRESS_UNSUBSCRIBE},
        {SUPPRESS_COMPLAINT, OWN_SUPPRESS_COMPLAINT},
    };
    struct suppression_entry entry;

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        if (suppression_get(t, w->head.domain, lists[i].list, w->recipients[bit].address, &entry)) {
            *why = lists[i].why;
            return true;
        }
    return false;
}

/* Settles those of the slice's pending recipients that are not to be sent; *mask gets the others.
 */
static int choose(struct scheduler *s, struct store_txn *t, struct slice_work *w, uint64_t *mask,
                  struct err *err)
{
    bool readable = work_read(s, t, w);
    uint64_t now_us = clock_wall_us();

    *mask = 0;
    if (!readable)
        log_error("batch %016llx slice %u: stored recipients cannot be read; they are failed",
                  (unsigned long long)w->run->id, w->slice);
    for (uint32_t i = 0; i < w->state_count; i++) {
        enum own_suppression why;
        struct event e;
        uint32_t index = w->slice * SLICE_MAX + i;

        if (w->states[i] != STATE_PENDING)
            continue;
        if (!readable) {
            change_state(w, i, STATE_FAILED);
        } else if (is_listed(t, w, i, &why)) {
            own_event_suppressed(&e, &w->head, &w->recipients[i], w->run->id, index, why, now_us,
                                 &s->arena);
            if (put_own_event(t, w->run, &e, err) != 0)
                return -1;
            change_state(w, i, STATE_SUPPRESSED);
        } else if (w->head.testmode) {
            own_event_test_delivered(&e, &w->head, &w->recipients[i], w->run->id, index, now_us,
                                     &s->arena);
            if (put_own_event(t, w->run, &e, err) != 0)
                return -1;
            change_state(w, i, STATE_SENT);
        } else {
            change_state(w, i, STATE_LEASED);
            *mask |= UINT64_C(1) << i;
        }
    }
    return states_put(t, w->run->id, w->slice, w->states, w->state_count, err);
}

/* The next slice of the run with a pending recipient; false when there is none. */
static bool next_slice(struct store_txn *t, struct slice_work *w)
{
    struct run *run = w->run;

    for (int pass = 0; pass < 2; pass++) {
        for (; run->cursor < run->slice_count; run->cursor++) {
            w->slice = run->cursor;
            if (!states_get(t, run->id, w->slice, w->states, &w->state_count))
                continue;
            for (uint32_t i = 0; i < w->state_count; i++)
                if (w->states[i] == STATE_PENDING)
                    return true;
        }
        run->cursor = 0; /* the books say there is one: look from the start */
    }
    return false;
}

static bool goes_before(const struct scheduler *s, const struct run *a, const struct run *b)
{
    if (a->lane != b->lane)
        return a->lane < b->lane;
    if (a->domain != b->domain && s->domains[a->domain].served != s->domains[b->domain].served)
        return s->domains[a->domain].served < s->domains[b->domain].served;
    if (a->due_wall_ms != b->due_wall_ms)
        return a->due_wall_ms < b->due_wall_ms;
    return a->id < b->id;
}

static struct run *pick(struct scheduler *s)
{
    uint64_t now_wall_ms = clock_wall_ms(), now_mono_ms = clock_mono_ms();
    struct run *best = NULL;

    for (size_t i = 0; i < s->active_count; i++) {
        struct run *run = s->active[i];
        if (run->books.state[STATE_PENDING] == 0 || run->due_wall_ms > now_wall_ms ||
            run->not_before_mono_ms > now_mono_ms)
            continue;
        if (best == NULL || goes_before(s, run, best))
            best = run;
    }
    return best;
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
    uint64_t mask = 0;
    struct slice_work w;

    if (index >= STARTED_SENDERS || s->lease_count[index] >= LEASES_PER_SENDER)
        return 0;
    uint32_t cell = free_cell(s, index);
    if (cell == STARTED_CELLS)
        return 0;
    do {
        w = (struct slice_work){.run = pick(s)};
        if (w.run == NULL)
            return 0;
        if (!next_slice(t, &w)) {
            log_error("batch %016llx: books say %u are pending, no slice does; run postern check",
                      (unsigned long long)w.run->id, w.run->books.state[STATE_PENDING]);
            w.run->not_before_mono_ms = clock_mono_ms() + 60000;
            continue;
        }
        if (choose(s, t, &w, &mask, err) != 0)
            return -1;
        s->domains[w.run->domain].served = ++s->turn;
    } while (mask == 0);

    struct lease *lease = &s->leases[index][cell];
    *lease = (struct lease){
        .held = true,
        .row =
            {
                .sender = index,
                .id = ++s->last_lease_id,
                .epoch = s->me->ring_epoch,
                .generation = generation,
                .cell = cell,
                .slice = w.slice,
                .batch_id = w.run->id,
                .mask = mask,
            },
    };
    s->lease_count[index]++;
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
    lease->held = false;
    s->lease_count[lease->row.sender]--;
    return lease_del(t, lease->row.sender, lease->row.id, err);
}

static int doubt_begin(struct scheduler *s, struct store_txn *t, const struct run *run,
                       uint32_t slice, uint64_t mask, struct err *err)
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

/* A recipient that ended before SES took it may be tried again by a repeated POST. */
static int release_claim(struct store_txn *t, const struct slice_work *w, uint32_t bit,
                         struct err *err)
{
    struct submission one = {
        .head = w->head, .recipients = &w->recipients[bit], .recipient_count = 1};
    struct buf claim = {0};
    int got = 0;

    submission_claims(&one, &claim);
    uint64_t owner;
    if (claim.len == CLAIM_BYTES && claim_get(t, claim.ptr, &owner) && owner == w->run->id)
        got = claim_del(t, claim.ptr, err);
    buf_fini(&claim);
    return got;
}

static int refuse(struct scheduler *s, struct store_txn *t, struct slice_work *w, uint32_t bit,
                  uint32_t code, struct slice text, struct err *err)
{
    struct event e;

    change_state(w, bit, STATE_FAILED);
    own_event_refused(&e, &w->head, &w->recipients[bit], w->run->id, w->slice * SLICE_MAX + bit,
                      code, text, clock_wall_us(), &s->arena);
    if (put_own_event(t, w->run, &e, err) != 0)
        return -1;
    return release_claim(t, w, bit, err);
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
            if (state == STATE_LEASED || state == STATE_DOUBT || state == STATE_PENDING)
                change_state(&w, (uint32_t)bit, STATE_SENT);
        } else if (current && (lease->row.mask >> bit & 1) != 0 && state == STATE_LEASED) {
            if (kind == OUTCOME_FAILED) {
                if (!readable && !(readable = work_read(s, t, &w)))
                    change_state(&w, (uint32_t)bit, STATE_FAILED);
                else if (refuse(s, t, &w, (uint32_t)bit, (uint32_t)code, text, err) != 0)
                    return -1;
            } else if (kind == OUTCOME_RETRY) {
                change_state(&w, (uint32_t)bit, STATE_PENDING);
                if (now_mono_ms + retry_ms > w.run->not_before_mono_ms)
                    w.run->not_before_mono_ms = now_mono_ms + retry_ms;
                if (w.run->cursor > r->slice)
                    w.run->cursor = r->slice;
            } else {
                change_state(&w, (uint32_t)bit, STATE_DOUBT);
                in_doubt |= UINT64_C(1) << bit;
            }
        }
        if (current)
            lease->row.mask &= ~(UINT64_C(1) << bit);
    }
    if (current && r->finished) {
        /* What a finished lease says nothing about may have been sent: in doubt, not lost. */
        for (uint32_t bit = 0; bit < w.state_count; bit++)
            if ((lease->row.mask >> bit & 1) != 0 && w.states[bit] == STATE_LEASED) {
                change_state(&w, bit, STATE_DOUBT);
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
    change_state(&w, bit, STATE_SENT);
    return states_put(t, batch_id, w.slice, w.states, w.state_count, err);
}

int scheduler_count_event(struct scheduler *s, struct store_txn *t, uint64_t batch_id,
                          uint32_t event_type, uint32_t severity, struct err *err)
{
    struct run *run = run_get(s, t, batch_id);

    (void)err;
    if (run != NULL)
        count_event(run, event_type, severity);
    return 0;
}

/* -------- what people ask for -------- */

int scheduler_control(struct scheduler *s, struct store_txn *t, const struct record_control *r,
                      enum answer_verdict *verdict, uint32_t *count, struct buf *words,
                      struct err *err)
{
    (void)s, (void)t, (void)r, (void)err;
    *verdict = ANSWER_REFUSED;
    *count = 0;
    buf_add_str(words, "not understood");
    return 0;
}

/* -------- the dead and the doubtful -------- */

static bool lease_is_dead(const struct scheduler *s, const struct lease_row *row,
                          const struct child_slot *sender)
{
    const struct gauge_slot *g = &s->me->gauges->slots[sender->gauge];

    return row->epoch != s->me->ring_epoch ||
           row->generation != atomic_load_explicit(&g->generation, memory_order_acquire) ||
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
                change_state(&w, bit, STATE_DOUBT);
                in_doubt |= UINT64_C(1) << bit;
            } else {
                change_state(&w, bit, STATE_PENDING);
            }
        }
        if (w.run->cursor > row->slice)
            w.run->cursor = row->slice;
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
 * chance. A poller that died keeps what it had received out of sight for the visibility timeout, so
 * a change of pollers makes everything wait for that long; so does our own start, which may have
 * missed one. */
static uint64_t heard_until_wall_ms(struct scheduler *s)
{
    uint64_t heard_ms = 0, now_ms = clock_mono_ms(), generations = 0;
    bool listening = false;

    for (size_t i = 0; i < s->me->slot_count; i++) {
        const struct gauge_slot *g = &s->me->gauges->slots[s->me->slots[i].gauge];
        if (s->me->slots[i].role != ROLE_POLLER)
            continue;
        generations += atomic_load(&g->generation);
        listening = listening || atomic_load(&g->state) == GAUGE_READY;
        uint64_t caught_up_ms = atomic_load(&g->caught_up_wall_ms);
        heard_ms = caught_up_ms > heard_ms ? caught_up_ms : heard_ms;
    }
    if (generations != s->poller_generations) {
        s->poller_generations = generations;
        s->pollers_since_mono_ms = now_ms;
    }
    uint64_t patience_ms = (config_visibility_s(s->me->config) + 2) * UINT64_C(1000);
    return listening && now_ms - s->pollers_since_mono_ms >= patience_ms ? heard_ms : 0;
}

static bool doubt_is_over(const struct lease_row *row, uint64_t heard_ms)
{
    return row->until_wall_ms <= heard_ms;
}

bool scheduler_doubt_is_due(struct scheduler *s)
{
    uint64_t heard_ms = heard_until_wall_ms(s);

    if (s->me->config->sender.on_doubt == ON_DOUBT_HOLD)
        return false;
    for (size_t i = 0; i < s->doubt_count; i++)
        if (doubt_is_over(&s->doubts[i], heard_ms))
            return true;
    return false;
}

int scheduler_expire_doubts(struct scheduler *s, struct store_txn *t, struct err *err)
{
    uint64_t heard_ms = heard_until_wall_ms(s);

    for (size_t i = 0; i < s->doubt_count;) {
        struct lease_row row = s->doubts[i];
        struct slice_work w = {.slice = row.slice};
        uint32_t again = 0;

        if (!doubt_is_over(&row, heard_ms)) {
            i++;
            continue;
        }
        w.run = run_get(s, t, row.batch_id);
        if (w.run != NULL && states_get(t, row.batch_id, row.slice, w.states, &w.state_count)) {
            for (uint32_t bit = 0; bit < w.state_count; bit++)
                if ((row.mask >> bit & 1) != 0 && w.states[bit] == STATE_DOUBT) {
                    change_state(&w, bit, STATE_PENDING);
                    again++;
                }
            if (w.run->cursor > row.slice)
                w.run->cursor = row.slice;
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

int scheduler_expand(struct scheduler *s, struct store_txn *t, unsigned slices, struct err *err)
{
    uint64_t batch_id;
    struct slice_work w = {0};

    for (; slices > 0 && s->expanding; slices--) {
        if (!expanding_first(t, &batch_id, &w.slice)) {
            s->expanding = false;
            break;
        }
        w.run = run_get(s, t, batch_id);
        if (w.run == NULL || w.slice >= w.run->slice_count) {
            if (expanding_del(t, batch_id, err) != 0)
                return -1;
            continue;
        }
        if (states_get(t, batch_id, w.slice, w.states, &w.state_count) && work_read(s, t, &w)) {
            for (uint32_t i = 0; i < w.state_count; i++) {
                struct event e;
                if (w.states[i] == STATE_DUPLICATE)
                    continue;
                own_event_accepted(&e, &w.head, &w.recipients[i], batch_id, w.slice * SLICE_MAX + i,
                                   &s->arena);
                if (put_own_event(t, w.run, &e, err) != 0)
                    return -1;
            }
        }
        if (expanding_set(t, batch_id, w.slice + 1, err) != 0)
            return -1;
    }
    return s->expanding ? 1 : 0;
}

/* -------- the end of a transaction -------- */

static void drop_settled_runs(struct scheduler *s)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct run **at = &s->buckets[i]; *at != NULL;) {
            struct run *run = *at;
            if (run->active) {
                at = &run->next;
                continue;
            }
            *at = run->next;
            free(run);
            s->run_count--;
        }
}

int scheduler_flush(struct scheduler *s, struct store_txn *t, struct err *err)
{
    for (size_t i = 0; i < s->active_count;) {
        struct run *run = s->active[i];
        if (!run_is_settled(run)) {
            i++;
            continue;
        }
        if (due_del(t, run->due_wall_ms, run->id, err) != 0)
            return -1;
        run->active = false;
        s->active[i] = s->active[--s->active_count];
    }
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct run *run = s->buckets[i]; run != NULL; run = run->next) {
            if (!run->books_changed)
                continue;
            if (books_put(t, run->id, &run->books, err) != 0)
                return -1;
            run->books_changed = false;
        }
    if (s->run_count > s->active_count + RUNS_KEPT)
        drop_settled_runs(s);
    return 0;
}
