/*
 * store/changes.h - what happens on this machine that others are to know (queues.replication_topic):
 * stamped, and kept until the topic has it.
 *
 * SHAPE   untold     µs → an encoded CHANGE (shm/record.h). The key is its stamp.
 *         meta       "node": this store's number; "change_stamp": the last stamp given or heard.
 *         A stamp is the wall clock's, but always past the last one that was given here or heard of
 *         elsewhere: what is done after another machine's change was seen counts as later, whatever
 *         the clocks say. Stamps are told in their order and never given again, so "all up to this
 *         one" names the same changes for ever.
 * ENDS    The writer puts and drops, in its transaction; the first poller reads and publishes.
 * COST    Where no topic is configured, store->node is 0 and nothing is written.
 * CRASH   A change is committed with its row. Published and not yet dropped, it is published again.
 *         A store that was put back from a backup gets a new number (changes_renumber()): its own old
 *         changes then reach it like anybody's.
 * ERRORS  -1 and *err, as in store/batch_write.h.
 */
#ifndef STORE_CHANGES_H
#define STORE_CHANGES_H

#include "shm/record.h"
#include "store/store.h"

enum {
    CHANGE_BYTES_MAX = 96 * 1024,  /* of an encoded CHANGE */
    CHANGE_BYTES_GOAL = 48 * 1024, /* what is gathered is told when it has grown so far */
};

/* When, and whose: of two with the same stamp the higher number counts as later. */
struct version {
    uint64_t stamp_us, node;
};

static inline bool version_is_later(const struct version *a, const struct version *b)
{
    return a->stamp_us != b->stamp_us ? a->stamp_us > b->stamp_us : a->node > b->node;
}

/* From now on changes are told. Gives the store its number when it has none. Not within a
 * transaction. 0 or -1. */
int changes_start(struct store *s, struct err *err);
bool changes_are_told(const struct store_txn *t);
/* As it is stored, for whoever does not write: 0 = none yet. */
uint64_t changes_node_stored(struct store_txn *t);
uint64_t changes_node(const struct store_txn *t);
/* The store goes on under a number of its own. */
int changes_renumber(struct store_txn *t, struct err *err);

/* The version of what is changed next. */
int change_stamp(struct store_txn *t, struct version *v, struct err *err);
/* Another machine's stamp: the next one of ours is past it. */
int change_stamp_heard(struct store_txn *t, uint64_t stamp_us, struct err *err);

/* To be told; r->stamp_us is one that change_stamp() gave and no other change has. One that is too
 * long for a message is logged and stays here. Nothing happens where changes are not told. */
int change_tell(struct store_txn *t, const struct record_change *r, struct err *err);

/* The first untold change past this stamp; false = none. *change is valid until the transaction
 * ends or writes. */
bool change_untold_after(struct store_txn *t, uint64_t *stamp_us, struct slice *change);
/* How many wait, and the stamp of the oldest (0 = none does). */
uint64_t changes_untold(struct store_txn *t, uint64_t *oldest_us);
/* All up to this one are told. */
int changes_drop(struct store_txn *t, uint64_t up_to_us, struct err *err);
/* Whether this transaction has put some; asked once, before the commit. */
bool changes_take_news(struct store_txn *t);

#endif
