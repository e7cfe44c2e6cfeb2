/*
 * store/deadletters.h - queue messages that could not be understood: kept as long as events are,
 * listed, replayed, and dropped by people.
 *
 * SHAPE   Three kinds of rows: 0, µs, hash → packed [version, source, why, raw, message id]
 *                              1, hash → µs: so that a redelivered message is the same letter
 *                              2, hash → µs of the wish that it be replayed
 *         hash: 16 bytes of SHA-256 over source and SQS's message id.
 * REPLAY  A person wishes it, the writer notes the wish, a poller reads the letter as if it had
 *         come just now, and the writer drops the letter once its events are stored, or keeps it
 *         with the reason of today. Either ends the wish, unless it was renewed meanwhile.
 * ENDS    Put and delete: the writer, in its write transaction. Look-ups: anyone.
 * MEMORY  Slices point into the map until the transaction ends.
 */
#ifndef STORE_DEADLETTERS_H
#define STORE_DEADLETTERS_H

#include "base/buf.h"
#include "shm/record.h"
#include "store/store.h"

enum { DEADLETTER_ID_BYTES = 16 };

struct deadletter {
    uint64_t wall_us; /* when it came first; kept when it comes again */
    uint8_t id[DEADLETTER_ID_BYTES];
    struct slice source; /* queue URL */
    struct slice why;
    struct slice raw;        /* the message's body */
    struct slice message_id; /* SQS's */
};

/* id is computed here. 0, also when it was there already (then `why` is renewed), or -1. */
int deadletter_put(struct store_txn *t, struct deadletter *d, struct err *err);
bool deadletter_get(struct store_txn *t, const uint8_t id[DEADLETTER_ID_BYTES],
                    struct deadletter *d);
/* 1 deleted, with its wish if any; 0 was not there, -1 failure. */
int deadletter_delete(struct store_txn *t, const uint8_t id[DEADLETTER_ID_BYTES], struct err *err);

/* Does any of its texts hold that one, in any case? An empty one is held. */
bool deadletter_holds(const struct deadletter *d, struct slice text);
/* Calls visit for every letter, newest first, until it answers false. */
typedef bool deadletter_visitor(void *arg, const struct deadletter *d);
void deadletter_each(struct store_txn *t, deadletter_visitor *visit, void *arg);
/* The same from before that one on, which came at below_us. */
void deadletter_each_below(struct store_txn *t, uint64_t below_us,
                           const uint8_t below_id[DEADLETTER_ID_BYTES], deadletter_visitor *visit,
                           void *arg);
uint64_t deadletter_count(struct store_txn *t);

/* Takes out at most `limit` letters that came before before_us, oldest first: how many, or -1.
 * (Writer; retention.) */
int deadletter_expire(struct store_txn *t, uint64_t before_us, uint32_t limit, struct err *err);

/* A letter that is to be replayed. */
struct deadletter_wish {
    uint8_t id[DEADLETTER_ID_BYTES];
    uint64_t us;
};
/* Up to `most` of them; returns how many. */
size_t deadletter_wishes(struct store_txn *t, struct deadletter_wish *list, size_t most);
bool deadletter_is_wished(struct store_txn *t, const uint8_t id[DEADLETTER_ID_BYTES]);
/* Carried out, with or without success; a wish of another time stays. 0 or -1. */
int deadletter_wish_end(struct store_txn *t, const uint8_t id[DEADLETTER_ID_BYTES], uint64_t us,
                        struct err *err);
/* The letter is kept, with d->why of today, and its wish ends; one that was dropped while the replay
 * was under way stays dropped. As deadletter_put otherwise. */
int deadletter_replay_failed(struct store_txn *t, struct deadletter *d, uint64_t wish_us,
                             struct err *err);

/* CONTROL_REPLAY and CONTROL_DROP: *count is how many of the ids were there. 0 or -1. */
int deadletter_control(struct store_txn *t, const struct record_control *r, uint64_t now_us,
                       enum answer_verdict *verdict, uint32_t *count, struct buf *words,
                       struct err *err);

#endif
