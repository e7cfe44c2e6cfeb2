/*
 * store/batches.h - reading batches: heads, contents, recipients, states, books.
 *
 * ENDS    Any process, within a read (or write) transaction. Writing is store/writer's own.
 * MEMORY  Slices point into the map until the transaction ends.
 */
#ifndef STORE_BATCHES_H
#define STORE_BATCHES_H

#include "mail/message.h"
#include "store/store.h"

/* A recipient's state, one byte each in the store. */
enum recipient_state {
    STATE_PENDING = 0,
    STATE_LEASED,
    STATE_DOUBT,
    STATE_SENT,
    STATE_FAILED,
    STATE_SUPPRESSED,
    STATE_CANCELLED,
    STATE_DUPLICATE, /* claimed by an earlier batch: no part of this one's books */
    STATE_COUNT,
};

/* How many recipients of a batch are in each state, and how many events came back. At rest:
 * the sum of all states but STATE_DUPLICATE = accepted. */
struct books {
    uint32_t state[STATE_COUNT];
    uint32_t accepted; /* recipients that this batch has promised to settle */
    uint32_t delivered, failed_permanent, failed_temporary, opened, clicked, complained,
        unsubscribed;
    uint32_t outcomes;    /* recipients whose end SES has told: delivered, or failed for good */
    uint32_t sent_wall_s; /* when SES took the last one; 0 = none, or before it was noted */
};

/* Recipients that SES took longer than after_ms ago and of whose end it has told nothing. */
uint32_t books_no_outcome(const struct books *b, uint64_t now_wall_ms, uint64_t after_ms);

/* Packed parts; false when there is no such batch (never stored here, or past retention). */
bool batch_head(struct store_txn *t, uint64_t batch_id, struct slice *packed);
bool batch_content(struct store_txn *t, uint64_t batch_id, struct slice *packed);
bool batch_recipients(struct store_txn *t, uint64_t batch_id, uint32_t slice, struct slice *packed);
bool batch_books(struct store_txn *t, uint64_t batch_id, struct books *books);

/* The books of the first batch whose id is this or a higher one: its id; 0 = there is none. */
uint64_t batch_books_from(struct store_txn *t, uint64_t batch_id, struct books *books);

/* Calls visit for every batch, newest first, until it answers false. */
typedef bool batch_visitor(void *arg, uint64_t batch_id, struct slice head,
                           const struct books *books);
void batch_each(struct store_txn *t, batch_visitor *visit, void *arg);
/* The same from below this id on; 0 = from the newest. */
void batch_each_below(struct store_txn *t, uint64_t below_id, batch_visitor *visit, void *arg);

/* The batch whose answer id (without brackets) this is; 0 = none. */
uint64_t batch_by_message_id(struct store_txn *t, struct slice domain, struct slice message_id);

#endif
