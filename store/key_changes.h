/*
 * store/key_changes.h - keys are added and withdrawn while Postern runs (store/keys.h).
 *
 * ENDS    The writer, in its write transaction.
 * ERRORS  -1 and *err. What makes no sense is an answer: the verdict, and words for a person.
 * CRASH   A key opens and closes with the commit; whoever asked hears of it after that.
 */
#ifndef STORE_KEY_CHANGES_H
#define STORE_KEY_CHANGES_H

#include "store/keys.h"

enum { KEYS_MAX = 256 }; /* rows, those of withdrawn keys among them */

/* CONTROL_KEY_ADD and CONTROL_KEY_WITHDRAW. NOT_FOUND: no such domain or key. REFUSED: what was asked
 * is wrong, names several keys, or would leave a domain without a key that does what the withdrawn one
 * does. *count: rows that were changed. */
int key_control(struct store_txn *t, const struct config *config, const struct record_control *r,
                enum answer_verdict *verdict, uint32_t *count, struct buf *words, struct err *err);

#endif
