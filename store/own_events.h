/*
 * store/own_events.h - the events that a Postern makes itself, on every machine that shares them
 * (store/changes.h): told to the others, and stored under the same ids there.
 *
 * SHAPE   expanded   batch id → µs, a bit for each recipient whose `accepted` event is here
 * ENDS    The writer, in its write transaction.
 * ORDER   An `accepted` event's id says batch and index of its recipient, so it is the same whoever
 *         writes it; the bits keep it from being there twice, whether this machine has had the batch,
 *         another one has told of it, or both.
 * ERRORS  -1 and *err.
 */
#ifndef STORE_OWN_EVENTS_H
#define STORE_OWN_EVENTS_H

#include "base/pack.h"
#include "mail/event.h"
#include "store/changes.h"

/* `accepted` events of these recipients of a batch, whose indices are indices[i], rising; but of
 * nobody who has one. here: the batch is this machine's, so the others are told. */
struct accepted {
    const struct message_head *head;
    uint64_t batch_id;
    const struct recipient *list;
    const uint32_t *indices;
    size_t count;
    bool here;
};
int accepted_put(struct store_txn *t, const struct accepted *a, struct err *err);

/* Other events, gathered within a transaction. {0} is empty. */
struct own_events {
    struct buf packed, domain;
    uint32_t count;
};
/* One that has been stored here, under its batch's id and lane. Nothing where changes are not told. */
int own_events_note(struct own_events *o, struct store_txn *t, const struct event *e,
                    struct err *err);
/* Before the commit. */
int own_events_tell(struct own_events *o, struct store_txn *t, struct err *err);
void own_events_fini(struct own_events *o);

/* One event as CHANGE carries it. False: u is bad, or it is none that a Postern makes. */
bool own_event_unpack(struct unpack *u, struct arena *a, struct event *e);

#endif
