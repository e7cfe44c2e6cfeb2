/*
 * store/feed.h - the events' way from SES to the reader, watched for each domain: does anything
 * come back for what was sent, and does anybody read it.
 *
 * SHAPE   feeds: domain → struct feed, its members as u64.
 *         A domain is silent when alarm.no_events_least of its mails were taken by SES longer than
 *         alarm.no_events_after ago and not one event of it has come since. One event, of whatever
 *         kind and mail, ends that.
 * ENDS    struct feeds: the writer, which notes in its write transaction. The rest: anyone.
 * UNITS   In the names. Periods are taken by the monotonic clock within a life of the writer, so
 *         that a wall clock that jumps raises no alarm.
 * MEMORY  feeds_open() gives what feeds_close() frees. It borrows config and gauges.
 * CRASH   What was noted is stored with the transaction that it belongs to.
 */
#ifndef STORE_FEED_H
#define STORE_FEED_H

#include "base/config.h"
#include "shm/gauges.h"
#include "store/store.h"

struct feed {
    uint64_t event_wall_ms;  /* when the last event came; 0 = none yet */
    uint64_t sent;           /* mails that SES has taken since */
    uint64_t enough_wall_ms; /* when they were alarm.no_events_least; 0 = not yet */
    uint64_t read_wall_ms;   /* when a reader's cursor last moved on; 0 = never */
};

/* All 0 when nothing was noted for the domain. */
void feed_read(struct store_txn *t, struct slice domain, struct feed *f);

/* How many events no answer has covered yet, but for `accepted` ones; counts up to `most`. */
uint64_t feed_unread(struct store_txn *t, struct slice domain, uint64_t most);

/* The timestamp of the first event that no answer has covered, but for `accepted` ones, in µs; 0 =
 * there is none. A look-up for each kind of event. */
uint64_t feed_first_unread_us(struct store_txn *t, struct slice domain);

struct feeds;

struct feeds *feeds_open(const struct config *config, struct gauge_events *gauges,
                         struct store_txn *t);
void feeds_close(struct feeds *f); /* NULL is fine */

/* SES has taken a mail; an event has come; a reader's cursor has moved on. */
void feeds_sent(struct feeds *f, struct slice domain);
void feeds_heard(struct feeds *f, struct slice domain);
void feeds_read_on(struct feeds *f, struct slice domain);

/* Before the commit: 0 or -1. */
int feeds_flush(struct feeds *f, struct store_txn *t, struct err *err);

/* About once a second: looks for domains that have become silent or are so no longer, says so once
 * each, and tells the gauges. */
void feeds_look(struct feeds *f);
/* False: no configured domain of that number. */
bool feeds_at(const struct feeds *f, size_t at, struct slice *domain, struct feed *feed,
              bool *is_silent);
/* What to look at when nothing comes back, in words. */
void feed_put_advice(struct buf *to, const struct config *config, struct slice domain);

#endif
