/*
 * sender/lifter.h - takes addresses off SES's own suppression list, as people wish
 * (store/suppressions.h).
 *
 * ENDS    Sender 0 only; called on its tick. One call at a time: SES throttles these to about one
 *         a second.
 * CRASH   The wish is in the store until the writer has heard that it was carried out; SES answers
 *         404 to a repeat, which is as good.
 */
#ifndef SENDER_LIFTER_H
#define SENDER_LIFTER_H

#include "aws/http.h"
#include "shm/child.h"
#include "store/store.h"

struct lifter;

struct lifter *lifter_create(const struct child *me, struct aws_client *client);
void lifter_destroy(struct lifter *l); /* after the client; NULL is fine */
/* store: the sender's own (LMDB allows one per process); NULL while it is not open. */
void lifter_tick(struct lifter *l, struct store *store);

#endif
