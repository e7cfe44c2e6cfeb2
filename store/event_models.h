/*
 * store/event_models.h - what the events of a newsletter have in common, stored once.
 *
 * SHAPE   event_models: domain, day of the API timestamp, sort → a packed event, the model. A row of
 *         events may name a model and hold only what differs from it (mail/event.h,
 *         event_pack_like()): a third of what the whole event takes, and as much less to write at
 *         each commit and to read for each page. Any event can be said by any model; which one is
 *         chosen is a matter of size alone.
 * WHICH   One of the same kind, sender, subject, variables, tags and message id, most often of the
 *         same batch; else one of the same kind, sender and tags. The second event of a sender and
 *         the fifth of a batch within a while put one: mails to one person leave no models of their
 *         own behind, and events that nothing is like are stored whole.
 * ENDS    Models are put by the writer, with the row that needs them, and never change. They go when
 *         all events of their domain of their day and before have gone (event_expire()). One may
 *         come back with a late event and say something else: a row also knows a check of what its
 *         model says, and is read by no other.
 * MEMORY  Beside its store each process keeps copies of what it has read, about 6 MB at most: a page
 *         of events names a hundred, and opens are about the batches of many days. With a copy goes
 *         what the JSON of its events has in common (mail/event.h).
 */
#ifndef STORE_EVENT_MODELS_H
#define STORE_EVENT_MODELS_H

#include "mail/event.h"
#include "store/internal.h"

/* Appends the event's row, which begins with ses_us. Writer; *e has its timestamp already. 0 or -1.
 */
int event_row_pack(struct store_txn *t, uint32_t domain, const struct event *e, struct buf *row,
                   struct err *err);

/* Is this row, behind ses_us, one that names a model? */
bool event_row_is_like(struct slice rest);
/* Reads it. Texts borrow from the row, lists from the arena. What the model says borrows from
 * of_model, an arena; or, where that is NULL, from the store's copy: then *e ends with the next row
 * that is read or put, and with the transaction. False: the model is not there, or something does not
 * fit. */
bool event_row_unpack_like(struct store_txn *t, uint32_t domain, struct slice rest,
                           struct arena *of_model, struct arena *a, struct event *e);

/* Takes out at most `limit` models of the domain that no event from begin_us on is like: how many, or
 * -1. */
int event_models_expire(struct store_txn *t, uint32_t domain, uint64_t begin_us, uint32_t limit,
                        struct err *err);

/* Drops the copies: after a transaction that was not committed, and before a check of the store. */
void event_models_forget(struct store *s);
void event_models_release(struct store *s);

#endif
