/*
 * httpd/event_pages.h - answers that are pages of events: GET /v3/{domain}/events and the Logs API.
 *
 * SHAPE   An answer says "these are all events up to some time", and the reader's cursor moves on:
 *         so before it leaves, the writer has stored that time (the watermark, store/events.h), and
 *         no event is stored at or before it later. What lies before the watermark is answered at
 *         once; only a page that reaches past it waits for the writer, and where a range ends "now"
 *         a watermark of a moment ago will do.
 *         A filter that no index answers is worked on in turns with other requests.
 * UNITS   µs since 1970 UTC.
 * SOURCE  design.md P4, P5; spec/ghost.md §3.
 */
#ifndef HTTPD_EVENT_PAGES_H
#define HTTPD_EVENT_PAGES_H

#include "httpd/service.h"
#include "store/events.h"

/* One answer; lives in the exchange's arena. The caller sets the first group. */
struct event_pages {
    struct event_query query; /* until_us, look_max are set here */
    struct event_page page;   /* items may begin with what the body begins with */
    uint64_t covered_us;      /* up to where the answer speaks at most */
    bool ends_now;            /* it ends there only because that is now: a little less will do */
    bool wants_total;         /* counts the query's whole range, too: up to TOTAL_MAX */
    bool
        promises_nothing; /* no reader goes on from it: what is there is given, and no time is stored */
    void (*reply)(struct exchange *x, struct event_pages *p); /* ends the exchange */

    struct event_page total;
    uint64_t range_until_us;
    bool counting, has_total;
    size_t announced; /* of the domains: the writer has stored covered_us for them */
    uint64_t started_mono_ms;
    TAILQ_ENTRY(event_pages) waiting;
    struct exchange *exchange;
};

enum { TOTAL_MAX = 10000 };

/* Reads the page and calls reply; or answers with an error. covered_us is what the answer really
 * covered when reply is called. */
void event_pages_answer(struct exchange *x, struct event_pages *p);

/* The rule alone, without the process around it. Before reading, with the stored watermark: sets
 * query.until_us and narrows covered_us. True: what lies up to until_us can be read now. False: the
 * watermark has to be covered_us first. */
bool event_pages_begin(struct event_pages *p, uint64_t watermark_us);
/* After reading: the page is not full, and there may be more up to covered_us, which the watermark
 * has to be first; event_page_go_on() then. */
bool event_pages_goes_on(const struct event_pages *p);

/* Pages whose turn has not come yet; one for each process. */
struct event_turns;
struct event_turns *event_turns_create(struct event_base *base); /* NULL: no event */
void event_turns_destroy(struct event_turns *turns);             /* ends what waits */

#endif
