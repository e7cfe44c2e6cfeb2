/*
 * store/event_lists.h - the index of events by what is different for nearly each of them: addresses
 * and message ids.
 *
 * A row per event, ordered by hash, would be put somewhere else each time: a page changed and
 * written for every event, and once the index is larger than memory, read as well. So entries are
 * written in the order in which they come, as many in a row as a page takes, and each commit changes
 * one such row and puts those that it fills. Once there are some 16,000 of a domain, they all go into
 * LIST_BUCKETS lists at once, by their hashes: a page changed for each list then, and not for each
 * event nor each commit, whatever the size of the store.
 *
 * SHAPE   In the databases by_recipient and by_message:
 *           domain with bit 30 set, bucket, serial → earliest and latest time, entries
 *           domain with bits 30 and 29 set, 0, serial → the same of the recent entries
 *         An entry is the hash of what is looked for and the event's place. A look-up passes over
 *         the recent entries and those of one bucket, 32 bytes for each LIST_BUCKETS-th event of the
 *         time asked for: a millisecond or two with ten million events.
 * ENDS    Adding, flushing and expiring: the writer, in its write transaction. Finding: anyone, in a
 *         read transaction.
 * MEMORY  What was added is kept in the store's memory until store_commit() writes it, in the same
 *         transaction as the events; store_abort() forgets it.
 * CRASH   As with all that is in a transaction.
 */
#ifndef STORE_EVENT_LISTS_H
#define STORE_EVENT_LISTS_H

#include "store/event_rows.h"

enum {
    LIST_BUCKETS = 256,
    /* Rows of recent entries, 127 each, before all go where they belong: half a row to each list, and
     * no more to look through than a list of four million events has. */
    LIST_RECENT_ROWS_MAX = LIST_BUCKETS / 2,
    LIST_HASH_BYTES = 8,
    LIST_ENTRY_BYTES = LIST_HASH_BYTES + PLACE_BYTES,
};

void event_list_add(struct store_txn *t, enum store_db db, uint32_t domain, struct slice text,
                    const uint8_t place[PLACE_BYTES]);

/* All that was added since the last time; 0 or -1. Called by store_commit(). */
int event_lists_flush(struct store_txn *t, struct err *err);
void event_lists_forget(struct store *s); /* none of it, by store_abort() */
void event_lists_release(struct store *s);

/* A text whose events are looked for. */
struct event_list_wanted {
    struct slice text;
    struct buf places;             /* found: PLACE_BYTES each, ascending; the caller ends it */
    uint8_t hash[LIST_HASH_BYTES]; /* for use here */
};

/* The places between low and high, both inclusive, that were added with each text (in any case). 0, or
 * -1 and nothing found. Recent entries are passed over once, however many the texts. */
int event_lists_find(struct store_txn *t, enum store_db db, uint32_t domain,
                     struct event_list_wanted *wanted, size_t count, const uint8_t low[PLACE_BYTES],
                     const uint8_t high[PLACE_BYTES], struct err *err);

/* The entry that stands for an event of this text; the bucket of an entry, or of its hash. */
void event_list_entry(uint8_t entry[LIST_ENTRY_BYTES], struct slice text,
                      const uint8_t place[PLACE_BYTES]);
uint8_t event_list_bucket(const uint8_t hash[LIST_HASH_BYTES]);

/* A row of the database, if it is one of a list or of recent entries: its domain, bucket and entries.
 * *whole: it can be read, and its times are those of its entries. */
struct event_list_row {
    uint32_t domain;
    bool is_recent; /* entries of any bucket; else of this one */
    uint8_t bucket;
    bool whole;
    struct slice entries;
};
bool event_list_row_read(struct slice key, struct slice value, struct event_list_row *row);

/* Takes out the rows, from the oldest on, whose entries are all older than before_us. (An entry
 * whose event is gone already is passed over by whoever finds it.) */
int event_lists_expire(struct store_txn *t, uint32_t domain, uint64_t before_us, struct err *err);

#endif
