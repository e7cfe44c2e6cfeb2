/*
 * store/events.h - the events: storing each once, and reading them in pages that stay put.
 *
 * SHAPE   events: domain, timestamp, id → ses time and packed event, or what tells it from a model
 *         (store/event_models.h). Indexes in the same order, each with an empty value: by tag and
 *         kind, by kind (a type, or a permanent failure), by recipient, by message id.
 *         event_ids: id → timestamp, which makes storing idempotent. watermarks: domain → µs.
 * ENDS    event_put() and watermark_raise(): the writer, in its write transaction. Queries:
 *         anyone.
 * UNITS   µs since 1970 UTC.
 * ORDER   (timestamp, id): total, never changing once stored; so a page token that names the last
 *         event given is a stable place whatever is inserted. WATERMARK  No event is ever stored
 *         at or before the end of an answer already given: an answer covers events up to some
 *         time; that time is raised in the store before the answer leaves; an event stored later
 *         gets a timestamp at least 1 s (Ghost's own step) past it.
 */
#ifndef STORE_EVENTS_H
#define STORE_EVENTS_H

#include "mail/event.h"
#include "store/store.h"

enum { WATERMARK_STEP_US = 1000000 };

/* Stores e, counts it (store/counters.h), and enqueues it for webhooks (store/webhooks.h), under
 * timestamp max(e->ses_us, watermark + 1 s), made non-integral, and sets e->timestamp_us. Never
 * above now_us (SES's clock may be ahead), unless the clock was set back behind the watermark.
 * Returns 1 when stored, 0 when that id was there already (nothing changed) or the event is older
 * than the ids that are kept (counted as too old: it may be a repeat), -1 on failure. */
int event_put(struct store_txn *t, struct event *e, uint64_t now_us, struct err *err);

/* The same, but told to no webhook: what was told elsewhere long ago (store/import.h). */
int event_put_untold(struct store_txn *t, struct event *e, uint64_t now_us, struct err *err);
/* Whether the id is there already. */
bool event_is_known(struct store_txn *t, const uint8_t id[EVENT_ID_BYTES]);

/* The `accepted` events of recipients of a batch, the first of them number `first` among those that
 * were ever put for it: at one time, in few rows, for a twentieth of what event_put() would cost.
 * Each call with the same batch and number must be the only one: nothing is looked up. All
 * recipients of a batch in one call are cheapest to read by address. 0 or -1. */
int event_put_accepted(struct store_txn *t, const struct message_head *head, uint64_t batch_id,
                       uint32_t first, const struct recipient *list, size_t count, uint64_t now_us,
                       struct err *err);

/* The event of a place (timestamp, id: 24 bytes); false when there is none. It lives as long as the
 * transaction (texts point into the map) and the arena. */
bool event_at(struct store_txn *t, struct slice domain, const uint8_t place[24], struct arena *a,
              struct event *e);

/* Takes out events older than before_us, oldest first in each domain, with all their index rows,
 * until there are `limit` or a few more (those of one row go together). How many, or -1. Their ids
 * stay: a redelivery is still a repeat. (Writer; retention.) */
int event_expire(struct store_txn *t, uint64_t before_us, uint32_t limit, struct err *err);
/* The time of the oldest event; 0 = there is none. */
uint64_t event_oldest_us(struct store_txn *t);

/* Takes out at most `limit` ids of events whose SES time is before before_us, oldest first: how
 * many, or -1. From then on no event of that time is stored (event_put()). (Writer; retention.) */
int event_ids_expire(struct store_txn *t, uint64_t before_us, uint32_t limit, struct err *err);
/* SES's time from which on ids are kept; 0 = all of them. */
uint64_t event_ids_begin(struct store_txn *t);

uint64_t watermark_read(struct store_txn *t, struct slice domain); /* 0 = none yet */
int watermark_raise(struct store_txn *t, struct slice domain, uint64_t until_us, struct err *err);

/* A filter expression, compiled (mail/filter.h); NULL = all. */
struct filter;

struct event_position {
    uint64_t timestamp_us;
    uint8_t id[EVENT_ID_BYTES];
};

struct event_query {
    const struct slice *domains; /* events of several come merged, in the same order */
    size_t domain_count;
    uint64_t from_us, until_us; /* from ≤ until whatever the direction; both inclusive */
    bool ascending;
    const struct filter *filter;
    /* Where to start: just past this event in the direction of reading (or at the range's start).
     */
    bool has_position;
    struct event_position position;
    bool backwards; /* the page before the position instead; items still come in reading order */
    bool last_page; /* the range's final page */
    uint32_t limit;
    uint32_t look_max;         /* rows to look at in one call; 0 = as many as it takes */
    bool as_logs;              /* items of the Logs API */
    bool count_only;           /* no items, only page->count */
    struct slice storage_base; /* for event_to_json(); as_logs: the origin, for event_to_log() */
    /* Instead of items: called for each event, whose texts are gone when it returns. */
    void (*visit)(void *arg, const struct event *e);
    void *visit_arg;
};

/* A page, while it is made and afterwards. {0} before the first call. */
struct event_page {
    struct buf items; /* JSON objects with commas between; what the caller put there stays before */
    uint32_t count;
    struct event_position first, last; /* in reading order; not set when count = 0 */
    bool cut;                          /* look_max was reached: there may be more */
    /* the query's own: */
    bool started;
    size_t begin;
    struct event_position at; /* cut: all up to here has been looked at */
    struct buf ends;
};

/* Fills the page with at most q->limit events. Cost: a few index look-ups for each event given, at
 * any depth, as long as indexes answer the filter: names of events, severity, tags, recipient,
 * message-id, id, with AND, and OR within a field. What else a filter asks (NOT of a tag, a text in
 * the subject, …) is looked at event by event among those that are left; so that this cannot take
 * the process's whole time, a call stops after look_max rows with page->cut set. The same call
 * again, in the same or a later transaction, goes on where it stopped; a page with events in it may
 * also be given as it is. Only an empty page that is not cut means that there is nothing more.
 * 0 or -1. */
int event_query_run(struct store_txn *t, const struct event_query *q, struct event_page *page,
                    struct err *err);
/* A page read upwards that is not full can go on when until_us grows; it was until_us until now. */
void event_page_go_on(struct event_page *page, uint64_t until_us);
/* Before the items are used, cut or not: a page that was read backwards is turned into reading
 * order. */
void event_page_end(const struct event_query *q, struct event_page *page);
void event_page_fini(
    struct event_page *page); /* frees; items too, unless taken over (set to {0}) */

#endif
