/*
 * httpd/events.h - what an events request asks for, and where its answer's links lead; without I/O.
 *
 * MEMORY  Everything given out lives in the arena.
 * UNITS   µs since 1970 UTC.
 * SOURCE  spec/mailgun.md §4.1, §4.2, §4.4.
 */
#ifndef HTTPD_EVENTS_H
#define HTTPD_EVENTS_H

#include "mail/filter.h"
#include "mail/page_token.h"
#include "store/events.h"

struct events_request {
    struct page_token token;
    struct filter *filter; /* NULL = all */
    bool ends_now;         /* the range's end is not settled yet: it ends where the answer does */
    uint64_t stepped_from_us; /* 0, or: the reader may have stepped to `begin` from an event here */
};

/* From a token, or else (empty token) from the query, which may name one as page=. False: *why are
 * words for a 400. */
bool events_request_read(struct events_request *r, struct slice domain, struct slice token,
                         struct slice query, uint64_t now_us, uint64_t retention_us,
                         struct arena *a, struct slice *why);

/* Ghost goes on one second past the last event that it was given, in whole ms. What lies in between,
 * past the end of that answer, it would never ask for: when there is an event that fits the filter
 * exactly a second before `begin`, the range begins right behind it. 0 or -1. */
int events_step_back(struct events_request *r, struct store_txn *t, struct err *err);

/* Until when the answer speaks at most: events up to here are in it, or will never come. */
uint64_t events_covered_us(const struct page_token *t, uint64_t now_us);

/* Range, direction, filter, position and limit of a query. */
void events_query_of(const struct events_request *r, struct event_query *q);

enum events_link { LINK_NEXT, LINK_PREVIOUS, LINK_FIRST, LINK_LAST };

/* The token of a neighbour page. count, first, last: of the page given. */
struct page_token events_link(const struct page_token *t, enum events_link link, uint32_t count,
                              const struct event_position *first,
                              const struct event_position *last);

#endif
