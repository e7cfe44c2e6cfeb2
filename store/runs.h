/*
 * store/runs.h - what store/scheduler.c and store/steering.c share and nobody else includes:
 * batches in memory, and moving their recipients from state to state.
 *
 * SHAPE   A run is a batch that is known in memory: books, place, due time. It is active while it
 *         has something to settle (a due row). Settled ones stay for a while for the books of late
 *         events.
 */
#ifndef STORE_RUNS_H
#define STORE_RUNS_H

#include "base/arena.h"
#include "shm/child.h"
#include "store/batch_write.h"
#include "store/feed.h"
#include "store/gates.h"
#include "store/holds.h"
#include "store/own_events.h"

enum {
    BUCKETS = 4096,
    METER_SECONDS = 10, /* over which a rate is taken */
};

/* Recipients per second of late. */
struct meter {
    uint64_t second; /* monotonic, of the newest cell */
    uint32_t cells[METER_SECONDS];
};

void meter_add(struct meter *m, uint32_t n);
/* Recipients in the last METER_SECONDS whole seconds × 1000 / seconds. */
uint64_t meter_rate_milli(const struct meter *m);

struct run {
    struct run *next; /* in its bucket */
    uint64_t id;
    uint64_t due_wall_ms;
    uint64_t from_id;                       /* a number for the address it is from; never 0 */
    uint64_t not_before_mono_ms;            /* nothing of it can go before */
    uint64_t *recipient_not_before_mono_ms; /* a sender asked for patience; NULL = for none */
    uint32_t lane;
    uint32_t recipient_count, slice_count;
    uint32_t cursor; /* slices before it hold no pending recipient */
    unsigned domain; /* index in scheduler.domains */
    enum batch_mark mark;
    struct books books;
    struct books booked; /* as they were when they were last stored */
    bool books_changed;
    bool active;                 /* in scheduler.active: has a due row */
    bool is_part;                /* of the buffer queue: nothing of it goes unless it is held */
    uint64_t held_until_mono_ms; /* the queue gives it to nobody else before */
    /* run_heap.c's: where it waits for its grant */
    struct run_heap *heap;
    size_t heap_at;
    uint64_t heap_key;
    struct meter meter;
};

struct lease {
    bool held;
    struct lease_row row; /* mask: what is still unanswered */
    uint32_t lane;
    uint64_t simulated; /* recipients that are SES's simulator: they count in no rate */
};

struct doubt {
    struct lease_row row;
    uint64_t until_mono_ms; /* the window also has to pass here: wall clocks jump */
};

struct domain_turn {
    struct slice name;      /* owned */
    struct run_heap *ready; /* owned; per lane, by due time: those that can go now */
    uint64_t served;        /* virtual time up to which it has had its share: see pick() */
    uint32_t in_flight;     /* recipients leased or in doubt */
};

struct scheduler {
    const struct child *me;
    struct run *buckets[BUCKETS];
    size_t run_count;
    struct run **active;
    size_t active_count, active_cap;
    struct domain_turn *domains;
    size_t domain_count;
    struct run_heap scheduled; /* by due time (wall clock): not due yet */
    struct run_heap patient;   /* by not_before_mono_ms: all its recipients wait for their time */
    struct holds holds;
    uint64_t turn; /* virtual time: recipients granted, as if one domain had had them all */
    struct lease leases[STARTED_SENDERS][STARTED_CELLS];
    unsigned lease_count[STARTED_SENDERS];
    uint32_t in_hand[STARTED_SENDERS][2]; /* recipients of leases, per lane */
    uint64_t last_lease_id;
    struct doubt *doubts;
    size_t doubt_count, doubt_cap;
    uint64_t poller_generations;    /* the sum over all pollers: changes when one dies */
    uint64_t pollers_since_mono_ms; /* when it changed last */
    uint64_t pollers_since_wall_ms; /* the same */
    bool expanding;                 /* there may be rows in DB_EXPANDING */
    struct reputation *reputation;
    struct feeds *feeds;
    struct gates *gates;
    struct own_events own_events; /* of this transaction, to be told to other machines */
    struct arena arena;           /* of one operation */
};

/* May something of it be sent now, as far as the buffer queue says? */
bool run_is_held(const struct run *run);
/* These recipients, in STATE_DOUBT already, wait for an event until the doubt window ends. */
int doubt_begin(struct scheduler *s, struct store_txn *t, const struct run *run, uint32_t slice,
                uint64_t mask, struct err *err);

/* The run of a stored batch; NULL when the store has no such batch. */
struct run *run_get(struct scheduler *s, struct store_txn *t, uint64_t id);
void run_activate(struct scheduler *s, struct run *run, uint64_t due_wall_ms, uint32_t lane);
/* It is out of all heaps then. */
void run_deactivate(struct run *run);
bool run_is_settled(const struct run *run);
/* Puts it where it belongs: among the ready, the scheduled or the patient, or nowhere. To be called
 * whenever it may go earlier than it could; what must wait longer is found by pick(). */
void run_place(struct scheduler *s, struct run *run);
/* Forgets what senders asked it to wait for; false = nothing was. */
bool run_hurry(struct scheduler *s, struct run *run);
/* This recipient of the slice does not go before. */
void run_delay(struct run *run, uint32_t slice, uint32_t bit, uint64_t until_mono_ms);
/* When it may: 0 = at once. */
uint64_t run_delayed_until(const struct run *run, uint32_t slice, uint32_t bit);
/* Frees those that are not active. */
void runs_drop_settled(struct scheduler *s);
void runs_close(struct scheduler *s);

enum lane run_lane(const struct run *run);
const char *lane_name(enum lane lane); /* "transactional", "newsletter" */

/* A part that has come, and may belong to what was paused or cancelled before it did. */
int scheduler_steer_part(struct scheduler *s, struct store_txn *t, struct run *run,
                         struct err *err);

/* ---- one slice of a run ---- */

struct slice_work {
    struct run *run;
    uint32_t slice;
    struct message_head head;
    struct recipient *recipients;
    size_t recipient_count;
    uint8_t states[SLICE_MAX];
    uint32_t state_count;
};

/* Head and recipients, in the scheduler's arena. False when they cannot be read. */
bool work_read(struct scheduler *s, struct store_txn *t, struct slice_work *w);
/* Books and in-flight counts follow. Without writing: states_put() does. */
void change_state(struct scheduler *s, struct slice_work *w, uint32_t bit, enum recipient_state to);
/* Back to where it can be sent again; or cancelled, when its batch is. Uses the scheduler's arena.
 */
int change_to_unsent(struct scheduler *s, struct store_txn *t, struct slice_work *w, uint32_t bit,
                     struct err *err);
/* Appends the claim of a recipient, if it has one. After work_read(). */
void work_claim(const struct slice_work *w, uint32_t bit, struct buf *to);
/* A recipient that ended before SES took it may be tried again by a repeated POST. After
 * work_read(). */
int work_release_claim(struct store_txn *t, const struct slice_work *w, uint32_t bit,
                       struct err *err);

#endif
