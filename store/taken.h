/*
 * store/taken.h - what SES said of a mail whose client waits to hear it.
 *
 * SHAPE   A row for a batch that was accepted as awaited, and for no other: its claim (of an
 *         idempotency key; or zeros), and SES's word: not yet, its message id, or why it refused. Of
 *         a mail that took several calls it is the first id.
 * ENDS    Writing: the writer, in its transaction. Reading: anyone, in a transaction.
 * MEMORY  Texts point into the map.
 * CRASH   A row is in the transaction of its batch, SES's word in that of the recipient's state. Of a
 *         sender that died between SES's answer and its report there is none: SES's events settle the
 *         recipient, without an id.
 */
#ifndef STORE_TAKEN_H
#define STORE_TAKEN_H

#include "shm/record.h"
#include "store/store.h"

enum taken_word { TAKEN_UNKNOWN, TAKEN_SENT, TAKEN_REFUSED };

struct taken {
    enum taken_word word;
    struct slice text; /* SENT: SES's message id. REFUSED: its words */
    struct slice once; /* CLAIM_BYTES; empty = none */
};

bool taken_get(struct store_txn *t, uint64_t batch_id, struct taken *taken);
/* Begins to wait. once: CLAIM_BYTES, or empty. */
int taken_put(struct store_txn *t, uint64_t batch_id, struct slice once, struct err *err);
/* SES's word of one of the batch's calls; nothing when nobody waits, or it has spoken. That it took a
 * mail counts more than that it refused another. */
int taken_note(struct store_txn *t, uint64_t batch_id, enum taken_word word, struct slice text,
               struct err *err);
/* Retention: the row, and the claim if it is still this batch's. */
int taken_del(struct store_txn *t, uint64_t batch_id, struct err *err);

#endif
