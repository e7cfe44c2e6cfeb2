/*
 * store/batch_write.h - changing batches: the writer's half of store/batches.h.
 *
 * SHAPE   states: a byte per recipient of a slice. lease rows: what was handed to which sender's
 *         life. doubt rows: recipients whose send has an unknown outcome, and until when to wait.
 * ENDS    The writer, within its write transaction.
 * ERRORS  -1 and *err: the transaction is to be aborted, the process to be started anew.
 * CRASH   Nothing here is visible before the commit.
 */
#ifndef STORE_BATCH_WRITE_H
#define STORE_BATCH_WRITE_H

#include "shm/record.h"
#include "store/batches.h"

enum { SLICE_MAX = LEASE_RECIPIENTS_MAX };

static inline uint32_t slice_count_of(uint32_t recipient_count)
{
    return (recipient_count + SLICE_MAX - 1) / SLICE_MAX;
}

/* How many recipients slice number `slice` of a batch of `count` has. */
static inline uint32_t slice_len_of(uint32_t count, uint32_t slice)
{
    uint32_t before = slice * SLICE_MAX;

    if (before >= count)
        return 0;
    return count - before < SLICE_MAX ? count - before : SLICE_MAX;
}

struct new_batch {
    uint64_t id;
    struct slice head, content; /* packed */
    struct slice slices;        /* packed array of bin, as in ACCEPT */
    struct slice domain, message_id;
    uint32_t recipient_count;
    struct slice claims;      /* recipient_count × CLAIM_BYTES, or empty */
    const uint8_t *duplicate; /* per recipient: 1 = claimed by an earlier batch */
    uint64_t due_wall_ms;
    uint32_t lane;
};

/* Writes all of a batch: content, slices, states, books, claims, due row. 1 = written, 0 = the
 * slices do not hold recipient_count recipients (nothing usable was written: abort), -1 = failure.
 */
int batch_insert(struct store_txn *t, const struct new_batch *b, struct err *err);

/* How the store knows the message ids of these recipients, where each has his own: *count keys of
 * MESSAGE_KEY_BYTES each, in the arena; none where they share one, which batch_insert() has written.
 * To be read before anything is put: texts may lie in the map. */
enum { MESSAGE_KEY_BYTES = 16 };
const uint8_t *message_keys_of(const struct message_head *head, const struct recipient *list,
                               size_t *count, struct arena *a);
/* The batch under these keys. A message id names the batch that had it last. */
int message_keys_put(struct store_txn *t, uint64_t batch_id, const uint8_t *keys, size_t count,
                     struct err *err);
/* Those that name this batch. */
int message_keys_del(struct store_txn *t, uint64_t batch_id, const uint8_t *keys, size_t count,
                     struct err *err);
/* The key of one id. */
void message_key(struct slice domain, struct slice message_id, uint8_t key[MESSAGE_KEY_BYTES]);

uint64_t batch_last_id(struct store_txn *t); /* 0 = none */

int books_put(struct store_txn *t, uint64_t batch_id, const struct books *books, struct err *err);

/* False when there is no such slice. */
bool states_get(struct store_txn *t, uint64_t batch_id, uint32_t slice, uint8_t states[SLICE_MAX],
                uint32_t *count);
int states_put(struct store_txn *t, uint64_t batch_id, uint32_t slice,
               const uint8_t states[SLICE_MAX], uint32_t count, struct err *err);

/* Notes that SES has told this recipient's end: 1, or 0 when that was known or there is no such
 * recipient, or -1. states_get() and states_put() leave these marks alone. */
int outcome_mark(struct store_txn *t, uint64_t batch_id, uint32_t recipient, struct err *err);
/* Bit i: the mark of recipient i of the slice. */
uint64_t outcome_marks(struct store_txn *t, uint64_t batch_id, uint32_t slice);

bool claim_get(struct store_txn *t, const uint8_t claim[CLAIM_BYTES], uint64_t *batch_id);
int claim_put(struct store_txn *t, const uint8_t claim[CLAIM_BYTES], uint64_t batch_id,
              struct err *err);
int claim_del(struct store_txn *t, const uint8_t claim[CLAIM_BYTES], struct err *err);

/* Messages whose answer nobody heard: digest of all fields → the answer's id. Putting drops those
 * that are too old. */
int unheard_put(struct store_txn *t, const uint8_t digest[CLAIM_BYTES], struct slice answer_id,
                uint64_t now_us, struct err *err);
/* 1 = *answer_id is a copy, and the row is gone; 0 = none, or too old; -1 failure. */
int unheard_take(struct store_txn *t, const uint8_t digest[CLAIM_BYTES], uint64_t now_us,
                 struct arena *a, struct slice *answer_id, struct err *err);

/* Batches with something left to settle. */
typedef int due_visitor(void *arg, uint64_t due_wall_ms, uint64_t batch_id, uint32_t lane);
int due_each(struct store_txn *t, due_visitor *visit, void *arg); /* stops at the first non-zero */
int due_put(struct store_txn *t, uint64_t due_wall_ms, uint64_t batch_id, uint32_t lane,
            struct err *err);
int due_del(struct store_txn *t, uint64_t due_wall_ms, uint64_t batch_id, struct err *err);

/* Batches whose `accepted` events are still to be written, from this slice on. */
bool expanding_first(struct store_txn *t, uint64_t *batch_id, uint32_t *slice);
int expanding_del(struct store_txn *t, uint64_t batch_id, struct err *err);

struct lease_row {
    uint32_t sender; /* index of the sender, or LEASE_DOUBT */
    uint64_t id;
    uint64_t epoch, generation; /* of the rings, of the sender's life */
    uint32_t cell, slice;
    uint64_t batch_id;
    uint64_t mask;          /* granted (a doubt row: in doubt) */
    uint64_t until_wall_ms; /* doubt rows: the end of the window */
};
enum { LEASE_DOUBT = 0x7fffffff }; /* in place of a sender */

int lease_put(struct store_txn *t, const struct lease_row *row, struct err *err);
int lease_del(struct store_txn *t, uint32_t sender, uint64_t id, struct err *err);
typedef int lease_visitor(void *arg, const struct lease_row *row);
int lease_each(struct store_txn *t, lease_visitor *visit, void *arg);

/* How far a ring's records have been applied, with the ring's epoch. */
bool ring_position_get(struct store_txn *t, unsigned gauge, uint64_t epoch, uint64_t *position);
int ring_position_put(struct store_txn *t, unsigned gauge, uint64_t epoch, uint64_t position,
                      struct err *err);

#endif
