/*
 * store/totals.h - what each domain has had and has now, by lane: figures that retention does not
 * touch, so that they only ever grow, but for the recipients that move on.
 *
 * SHAPE   totals: domain, lane → a u64 for each of enum total.
 *         Of recipients: accepted, and how many are in each state, as the batches' books say; so
 *         accepted = the sum of all states, always. Of events: the kinds of store/counters.h, and
 *         what became of those that came from SES.
 * ENDS    Adding: the writer, in its transaction. Reading: anyone, in a transaction.
 * MEMORY  What was added is kept in the store's memory until store_commit() writes it;
 *         store_abort() forgets it.
 * CRASH   In the transaction of what they count: neither lost nor counted twice.
 */
#ifndef STORE_TOTALS_H
#define STORE_TOTALS_H

#include "store/batches.h"
#include "store/counters.h"

/* The first two are those of enum lane. */
enum total_lane {
    TOTAL_TRANSACTIONAL,
    TOTAL_NEWSLETTER,
    TOTAL_NO_LANE, /* events of mail whose batch is not known here */
    TOTAL_LANES
};

/* "transactional", "newsletter", "unknown". */
const char *total_lane_name(enum total_lane lane);

/* Stored as numbers: add at the end of each group's room. */
enum total {
    TOTAL_ACCEPTED,                  /* recipients */
    TOTAL_STATE,                     /* + enum recipient_state */
    TOTAL_EVENT = TOTAL_STATE + 15,  /* + enum count_kind */
    TOTAL_STORED = TOTAL_EVENT + 32, /* events from SES, each once */
    TOTAL_REPEATED,                  /* came again */
    TOTAL_LATE,                      /* got a later timestamp */
    TOTAL_KINDS,
};

struct totals {
    uint64_t count[TOTAL_KINDS];
};

enum total_lane total_lane_of(const struct event *e);

/* All 0 where nothing was counted. */
void totals_read(struct store_txn *t, struct slice domain, enum total_lane lane,
                 struct totals *sum);
/* Recipients of whom no state tells: |accepted - sum of states|. 0, or something is wrong. */
uint64_t totals_unaccounted(const struct totals *sum);

/* -------- adding (the writer) -------- */

void totals_add(struct store_txn *t, uint32_t domain, enum total_lane lane, enum total kind,
                uint32_t n);
/* An event has come from SES: for the first time, or again. 0 or -1. */
int totals_add_arrival(struct store_txn *t, const struct event *e, bool first, struct err *err);
/* The books of a batch have changed. lane: enum lane; before: all 0 when it is new. 0 or -1. */
int totals_add_books(struct store_txn *t, struct slice domain, uint32_t lane,
                     const struct books *before, const struct books *after, struct err *err);

/* A store of before there were totals (store/migrate.c): begins with the books of the batches that are there. 0 or -1. */
int totals_begin(struct store_txn *t, struct err *err);

/* -------- checking (store/check.h) -------- */

/* Every batch's books, added up, against what the totals say: who is open is the same, and of what
 * is settled the totals know no less, as they outlive the batches. */
struct totals_recount;

struct totals_recount *totals_recount_create(struct store_txn *t);
void totals_recount_add(struct totals_recount *r, struct slice domain, uint32_t lane,
                        const struct books *books);
/* Calls problem for each mistake, in words. */
void totals_recount_compare(struct totals_recount *r, void (*problem)(void *arg, const char *words),
                            void *arg);
void totals_recount_destroy(struct totals_recount *r); /* NULL is fine */

/* -------- the store's own -------- */

/* As those of store/counters.h. */
int totals_flush(struct store_txn *t, struct err *err);
void totals_forget(struct store *s);
void totals_release(struct store *s);

#endif
