/*
 * store/elsewhere.h - mails that another program gave to SES before Postern took its place: whose
 * newsletter they are. What SES still tells of them has none of our tags, and would be nobody's.
 *
 * SHAPE   elsewhere: SES's message id → sent (µs, 8 bytes), packed [domain, message id, email-id,
 *         tags]. Kept as long as events are (store/retention.h).
 * ENDS    elsewhere_put(): the writer, in its write transaction. elsewhere_complete(): the pollers.
 * MEMORY  What is filled in lives in the arena.
 */
#ifndef STORE_ELSEWHERE_H
#define STORE_ELSEWHERE_H

#include "mail/event.h"
#include "shm/record.h"
#include "store/store.h"

bool elsewhere_has(struct store_txn *t, struct slice ses_id);
/* 1 new, 0 was there already (and stays as it is), -1 failure. */
int elsewhere_put(struct store_txn *t, const struct record_elsewhere *r, struct err *err);

/* Fills in domain, message id, tags and the email-id of the event's mail, by e->ses_id. False: it is
 * not known, and nothing is changed. */
bool elsewhere_complete(struct store_txn *t, struct event *e, struct arena *a);

#endif
