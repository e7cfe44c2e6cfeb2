/*
 * store/counters.h - how many events of each kind there were: by domain, tag and batch, by hour and
 * day. What Mailgun's statistics and the dashboard show, without passing over events.
 *
 * SHAPE   counters: what is counted, 1, hour → the kinds that are not 0, and their numbers
 *                   what is counted, 0, day → the same, of hours that were added up
 *         tags:     domain, tag in lower case → µs of its last and first event, the tag as it was
 *                   first written; behind a NUL its description
 *         uniques:  0, batch id, kind, recipients / 512 → a bit each: has opened, has clicked
 *                   1, digest of (kind, domain, mail, recipient) → µs: mail without our SES tags
 * ENDS    Adding: event_put() and event_put_accepted(), in the writer's transaction. Reading:
 *         anyone, in a transaction.
 * UNITS   Hours and days since 1970 UTC, of the events' API timestamps: what a query for events
 *         finds in an hour is what is counted there.
 * UNIQUE  A recipient's first open of a mail counts as unique, in all that is counted; so with
 *         clicks. The bitmap is keyed by what SES's tags say, so it needs no record of the batch:
 *         it may be past retention or another machine's.
 * MEMORY  What was added is kept in the store's memory until store_commit() writes it, with the
 *         events; store_abort() forgets it. An event costs a few look-ups in a small table.
 * CRASH   Counters and events are in one transaction: they never stay apart.
 * SOURCE  spec/mailgun.md §7.
 */
#ifndef STORE_COUNTERS_H
#define STORE_COUNTERS_H

#include "base/buf.h"
#include "mail/event.h"
#include "store/store.h"

/* Stored as numbers: add at the end. */
enum count_kind {
    COUNT_ACCEPTED,
    COUNT_DELIVERED,
    COUNT_FAILED_TEMPORARY, /* all of them; those of a reason below count here too */
    COUNT_TEMPORARY_ESPBLOCK,
    COUNT_FAILED_PERMANENT, /* as above */
    COUNT_PERMANENT_BOUNCE,
    COUNT_PERMANENT_DELAYED_BOUNCE,
    COUNT_PERMANENT_SUPPRESS_BOUNCE,
    COUNT_PERMANENT_SUPPRESS_UNSUBSCRIBE,
    COUNT_PERMANENT_SUPPRESS_COMPLAINT,
    COUNT_OPENED,
    COUNT_OPENED_UNIQUE,
    COUNT_CLICKED,
    COUNT_CLICKED_UNIQUE,
    COUNT_UNSUBSCRIBED,
    COUNT_COMPLAINED,
    COUNT_STORED,
    COUNT_REJECTED,
    COUNT_TOO_OLD,         /* came when it could no longer be told from a repeat: not stored */
    COUNT_SENT_NEWSLETTER, /* no event: mails of that lane that SES has taken; of a domain only */
    COUNT_KINDS
};

/* "accepted", "failed_permanent", …: for JSON and metrics. */
const char *count_kind_name(enum count_kind kind);

/* n events like this one, which differ in the recipient at most. Opens and clicks: n = 1. */
void counters_add(struct store_txn *t, uint32_t domain, const struct event *e, uint32_t n);
/* One of what is no stored event: TOO_OLD, SENT_NEWSLETTER; of the domain, at now_us. */
void counters_add_one(struct store_txn *t, uint32_t domain, enum count_kind kind, uint64_t now_us);

/* All that was added since the last time: 0 or -1. Called by store_commit(). */
int counters_flush(struct store_txn *t, struct err *err);
void counters_forget(struct store *s);  /* store_abort() */
void counters_release(struct store *s); /* store_close() */

/* -------- reading -------- */

enum counter_scope { COUNTER_DOMAIN, COUNTER_TAG, COUNTER_BATCH };
enum counter_resolution { COUNTER_HOUR, COUNTER_DAY, COUNTER_MONTH, COUNTER_ALL };

struct counter_query {
    enum counter_scope scope;
    struct slice domain; /* DOMAIN, TAG */
    struct slice tag;    /* TAG, any case */
    uint64_t batch_id;   /* BATCH */
    uint64_t from_us, until_us;
    enum counter_resolution resolution;
};

struct counter_step {
    uint64_t start_us;
    uint64_t count[COUNT_KINDS];
};

enum { COUNTER_STEPS_MAX = 100 * 1000 };

/* A step for each hour, day or month that the range touches, both ends included and counted whole
 * (ALL: one, whole hours), in *steps, which the caller frees. How many; -1: ERR_INPUT when there
 * would be more than COUNTER_STEPS_MAX. Hours that were added up to a day count in its first. */
int counters_read(struct store_txn *t, const struct counter_query *q, struct counter_step **steps,
                  struct err *err);

/* The same, added to *steps where that is not NULL: those of another domain or tag over the same
 * range. On failure *steps stays as it is. */
int counters_add_steps(struct store_txn *t, const struct counter_query *q,
                       struct counter_step **steps, struct err *err);

struct tag_seen {
    struct slice tag;         /* as first written; in the map */
    struct slice description; /* what a person says of it; in the map */
    uint64_t first_us, last_us;
};
/* False: no event had it, or they are forgotten. */
bool tag_get(struct store_txn *t, struct slice domain, struct slice tag, struct tag_seen *seen);

/* (Writer.) Says what a tag is for; takes it off the list, until an event has it again: its numbers
 * stay. 1, or 0 when there is no such tag, or -1. */
int tag_describe(struct store_txn *t, struct slice domain, struct slice tag,
                 struct slice description, struct err *err);
int tag_delete(struct store_txn *t, struct slice domain, struct slice tag, struct err *err);

/* Calls visit for the domain's tags in alphabetical order (of their lower case), from behind `past`
 * on (empty = the start), backwards: from before it (empty = the end), until it answers false. Only
 * those that begin with prefix. */
typedef bool tag_visitor(void *arg, const struct tag_seen *seen);
void tags_each(struct store_txn *t, struct slice domain, struct slice prefix, struct slice past,
               bool backwards, tag_visitor *visit, void *arg);

/* -------- retention (the writer) -------- */

struct counters_age {
    uint32_t hours_before;      /* hours before this one are added up to days */
    uint32_t days_before;       /* days before this one go */
    uint64_t batches_before_ms; /* counters and bitmaps of batches made before go */
};

/* Looks at some `limit` rows from *place (empty = the start) on, and does what their age asks for.
 * 1 = *place is where to go on, 0 = all have been looked at, -1. */
int counters_expire(struct store_txn *t, const struct counters_age *age, struct buf *place,
                    uint32_t limit, struct err *err);
/* Bitmaps, oldest first, at most `limit`: how many, or -1. */
int uniques_expire(struct store_txn *t, uint64_t batches_before_ms, uint32_t limit,
                   struct err *err);

/* A row of uniques that is kept for mail without our tags, of before before_us? */
bool unique_row_is_old(struct slice key, struct slice value, uint64_t before_us);

#endif
