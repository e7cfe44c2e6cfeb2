/*
 * store/check.h - does the store agree with itself? What every commit must leave true.
 *
 * SHAPE   batches: books are the tally of the states; every slice is there and holds as many
 *         recipients as it should; what is open is due, and what is due is open; who is leased
 *         stands in exactly one lease, who is in doubt in a doubt.
 *         events: each stands once in every index and list that it belongs into, and they name no
 *         others; counters of whole days are what a recount says (store/check_events.c).
 *         totals (store/totals.h): what is open is what the books say, and no recipient is lost.
 *         webhooks: every row names a target that exists.
 *         keys: every row can be read.
 * ENDS    Anyone, in one read transaction: beside a running writer too, as it sees one commit.
 * COST    All of it is read: seconds for millions of recipients, some ten a million events. Memory
 *         does not grow with the events.
 */
#ifndef STORE_CHECK_H
#define STORE_CHECK_H

#include "store/store.h"

/* One line that says what is wrong, and where. */
typedef void check_problem(void *arg, struct slice words);
/* Between two pieces of work: done so far, of so many "batches" or "rows of events". */
typedef void check_progress(void *arg, const char *what, uint64_t done, uint64_t of);

struct check {
    check_problem *problem;
    check_progress *progress; /* NULL is fine */
    void *arg;
    /* what was looked at */
    uint64_t batches, recipients, events, problems;
};

/* 0, whatever was found; -1 when the store cannot be read. */
int store_check(struct store_txn *t, struct check *c, struct err *err);

/* Counts a problem and tells of it: for those who check. */
void __attribute__((format(printf, 2, 3))) check_found(struct check *c, const char *format, ...);

#endif
