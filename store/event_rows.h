/*
 * store/event_rows.h - how events lie in the store: what its writing (store/events.c) and its
 * reading (store/events_read.c) share. store/events.c opens with the layout.
 *
 * UNITS   µs since 1970 UTC.
 */
#ifndef STORE_EVENT_ROWS_H
#define STORE_EVENT_ROWS_H

#include "mail/event.h"
#include "store/event_models.h"
#include "store/internal.h"
#include "store/key.h"

enum {
    PLACE_BYTES = 8 + EVENT_ID_BYTES,
    COUNT_BYTES = 2, /* an index row of a group: how many */
    BUCKETS = 16,
    BUCKET_OF_ALL = 0xff, /* instead of them, for so few that one row will do */
    BUCKET_ENTRY_BYTES = 4 + EVENT_ORDINAL_BYTES,

    GROUP_OWN_IDS = 1,         /* flag: each has a message id of its own */
    GROUP_TO_IS_RECIPIENT = 2, /* flag */
    GROUP_HAS_BUCKETS = 4,     /* flag: rows of addresses stand at this row's place */
};

void key_domain(struct key *k, uint32_t domain); /* begins a key */
void key_place(struct key *k, uint64_t timestamp_us, const uint8_t id[EVENT_ID_BYTES]);
void key_bucket(struct key *k, uint32_t domain, uint8_t bucket);
uint32_t address_hash(struct slice address);
uint8_t bucket_of(uint32_t hash);

/* A row of the events table that holds several. */
struct group {
    unsigned flags;
    uint32_t count;
    struct slice shared, members;
};
bool group_read(struct slice row, struct group *g); /* false: the row is one event's */
/* The next one of *rest, which begins as g->members; message_id is empty without OWN_IDS. */
void group_next(const struct group *g, struct slice *rest, struct slice *recipient,
                struct slice *message_id);
/* The place of the one that stands `at` behind the one of that place. */
void place_bytes_behind(uint8_t to[PLACE_BYTES], const uint8_t *place, uint32_t at);

/* Event number `at` of a row of the domain into *e, whose place (timestamp_us, id) is set already.
 * Texts borrow from the row, lists from the arena; what the row has from a model as
 * event_row_unpack_like() says. False: it cannot be read. */
bool event_row_read(struct store_txn *t, uint32_t domain, struct slice row, uint32_t at,
                    struct arena *of_model, struct arena *a, struct event *e);

/* Calls act for each row of an index that names the row of e: by kind, by tag, and of a group whose
 * events share their message id that one's. Storing, expiring and checking go through here, so that
 * no row is forgotten. value: what stands in them. 0, or -1 as soon as act answers it. */
typedef int event_row_action(struct store_txn *t, enum store_db db, const struct key *k,
                             struct slice value, void *arg);
int event_index_rows(struct store_txn *t, uint32_t domain, const struct event *e,
                     bool shares_message_id, struct slice value, event_row_action *act, void *arg);

/* Events before this time may have been taken out (µs). */
uint64_t events_begin_us(struct store_txn *t);

#endif
