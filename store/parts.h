/*
 * store/parts.h - parts of batches that come from the buffer queue: taken over, held, handed on.
 *
 * SHAPE   A part is a batch of this store, and a row that says so (store/buffer.h). Its recipients
 *         are sent only while it is held: until a time up to which the queue shows its message to
 *         nobody else. STATE_DUPLICATE says that a recipient is not ours: served before, or handed
 *         on to whoever has the message now.
 * ENDS    The writer, within its transaction.
 * ORDER   Of a message that somebody else has had, or may have had, what is pending is in doubt
 *         first: an event settles it, or the doubt window ends (design.md §5).
 * CRASH   Times of holds are in memory: after a start nothing of a part goes until its poller says
 *         again that it is held.
 * ERRORS  -1 and *err, as in store/scheduler.h.
 */
#ifndef STORE_PARTS_H
#define STORE_PARTS_H

#include "shm/record.h"
#include "store/scheduler.h"

/* A message of the queue. What it holds of known readers is not sent: their claims, or events of
 * other machines, tell. 1, or 0 when it is no batch that could be (*why); -1. */
int part_take(struct scheduler *s, struct store_txn *t, const struct record_part *r,
              struct slice *why, struct err *err);

/* It is still ours. */
void part_hold(struct scheduler *s, struct store_txn *t, const struct record_held *r);

/* An event says that another machine's mail was taken, or that of one that was handed on. */
int part_note_elsewhere(struct scheduler *s, struct store_txn *t, uint64_t batch_id,
                        uint32_t recipient, struct slice claim, struct err *err);

/* Gives up what is pending of parts that have not been held for a while. Called now and then. */
int parts_hand_on(struct scheduler *s, struct store_txn *t, struct err *err);
bool parts_are_to_be_handed_on(const struct scheduler *s);

#endif
