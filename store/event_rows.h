/*
 * store/event_rows.h - how events lie in the store: what its writing (store/events.c) and its
 * reading (store/events_read.c) share. store/events.c opens with the layout.
 *
 * UNITS   µs since 1970 UTC.
 */
#ifndef STORE_EVENT_ROWS_H
#define STORE_EVENT_ROWS_H

#include "mail/event.h"
#include "store/internal.h"
#include "store/key.h"

enum {
    PLACE_BYTES = 8 + EVENT_ID_BYTES,
    COUNT_BYTES = 2, /* an index row of a group: how many */
    BUCKETS = 16,
    BUCKET_OF_ALL = 0xff, /* instead of them, for so few that one row will do */
    BUCKET_ENTRY_BYTES = 4 + EVENT_ORDINAL_BYTES,
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
void group_read_member(const struct group *g, uint32_t at, struct slice *recipient,
                       struct slice *message_id);

/* Event number `at` of a row into *e, whose place (timestamp_us, id) is set already. Texts borrow
 * from the row, lists from the arena. False: it cannot be read. */
bool event_row_read(struct slice row, uint32_t at, struct arena *a, struct event *e);

#endif
