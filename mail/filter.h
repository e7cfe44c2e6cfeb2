/*
 * mail/filter.h - the events API's filter expressions, compiled once and matched against events.
 *
 * SHAPE   Fields and grammar of spec/mailgun.md §4.3. Several fields: all must match.
 * MEMORY  A filter lives in the arena given to filter_create(); values are copied there.
 * ERRORS  filter_add() answers false and *why (words for a 400) on a syntax error, a nesting beyond
 *         FILTER_DEPTH_MAX or more than FILTER_BYTES_MAX in all.
 */
#ifndef MAIL_FILTER_H
#define MAIL_FILTER_H

#include "mail/event.h"

enum {
    FILTER_DEPTH_MAX = 16,
    FILTER_BYTES_MAX = 4096
}; /* bytes: of all fields and values together */

struct filter;

struct filter *filter_create(struct arena *a);
bool filter_is_field(struct slice name); /* is this query parameter a filter? */
bool filter_add(struct filter *f, struct slice field, struct slice expression, struct slice *why);
bool filter_match(const struct filter *f, const struct event *e);

/* A predicate of the Logs API: the field compares in this way with at least one of the values (with
 * none of them: NOT_). Fields: those of filter_is_field() and recipient-domain, ip, bot,
 * device-type, delivery-status.code, delivery-status.message, user-variables (all, as JSON),
 * metric-event. Texts in any case; size and code are numbers, and only they are less or greater. */
enum filter_comparator {
    FILTER_EQUAL,
    FILTER_NOT_EQUAL,
    FILTER_CONTAINS,
    FILTER_NOT_CONTAINS,
    FILTER_LESS,
    FILTER_LESS_EQUAL,
    FILTER_GREATER,
    FILTER_GREATER_EQUAL,
};
bool filter_add_values(struct filter *f, struct slice field, enum filter_comparator comparator,
                       const struct slice *values, size_t count, struct slice *why);
bool filter_is_metric(struct slice name); /* a metric event that is told from others here */

/* For a page token. */
void filter_pack(struct buf *to, const struct filter *f);
bool filter_unpack(struct slice from, struct arena *a, struct filter **f);

enum { FILTER_TERMS_MAX = 16, FILTER_TAGS_MAX = 4, FILTER_ALL_KINDS = 0x83fe };

/* Texts, one of which every match has. Borrowed from the filter's arena. */
struct filter_terms {
    const struct slice *texts;
    size_t count; /* 0 = any */
};

/* What indexes can be asked for: every match is of one of these kinds and has, for each list that
 * is not empty, one of its texts. */
struct filter_plan {
    uint32_t kinds; /* bit (1 << event_kind()); FILTER_ALL_KINDS when unrestricted */
    struct filter_terms tags[FILTER_TAGS_MAX]; /* all of these lists */
    size_t tag_count;
    struct filter_terms recipient;  /* whole addresses */
    struct filter_terms message_id; /* without brackets */
    struct slice id;                /* as text; empty = any */
    bool exact; /* whoever fits the plan matches the filter: no need to look at the event */
};
void filter_plan(const struct filter *f, struct filter_plan *plan);

#endif
