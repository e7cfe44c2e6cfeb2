/*
 * store/outcomes.h - mails that SES has taken and of whose end it has told nothing, counted over
 * all batches, a few at a time.
 *
 * ENDS    The writer, in a transaction of its.
 * UNITS   In the names.
 * COST    A step reads OUTCOMES_STEP rows of books; a round over all begins OUTCOMES_REST_MS after
 *         the last one has ended. What it found stands in the gauges then.
 * CRASH   Nothing is kept: the successor begins a round of its own.
 */
#ifndef STORE_OUTCOMES_H
#define STORE_OUTCOMES_H

#include "shm/gauges.h"
#include "store/store.h"

enum { OUTCOMES_STEP = 500, OUTCOMES_REST_MS = 30000 };

/* {0} before the first step. */
struct outcomes_round {
    uint64_t next_batch_id; /* where it goes on */
    uint64_t recipients, batches;
    uint64_t rest_until_mono_ms;
};

/* after_ms: alarm.no_outcome_after. Does nothing while it rests. */
void outcomes_step(struct outcomes_round *r, struct store_txn *t, uint64_t after_ms,
                   uint64_t now_wall_ms, uint64_t now_mono_ms, struct gauge_events *gauges);

#endif
