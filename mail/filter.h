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

/* As (field, expression) pairs, for a page token. */
void filter_pack(struct buf *to, const struct filter *f);
bool filter_unpack(struct slice from, struct arena *a, struct filter **f);

/* What an index can be asked for: every match has one of these types and, where given, this tag,
 * this recipient, this message id. Matching still has to be checked. */
struct filter_plan {
    uint32_t types;          /* bit (1 << enum event_type); all bits when unrestricted */
    struct slice tag;        /* empty = any; the first of several that must all be there */
    struct slice recipient;  /* whole address; empty = any */
    struct slice message_id; /* without brackets; empty = any */
    bool exact; /* whoever matches the plan matches the filter: no need to look at the event */
};
void filter_plan(const struct filter *f, struct filter_plan *plan);

#endif
