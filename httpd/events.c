/*
 * GET /v3/{domain}/events. An answer says "these are all events up to some time", and the reader's
 * cursor moves on: so before it leaves, the writer is told that time (SEEN), and no event is stored
 * at or before it later. SOURCE design.md P4, P5; spec/ghost.md §3.
 */
#include "httpd/events.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "httpd/reply.h"
#include "mail/date.h"

enum { LIMIT_DEFAULT = 100, SEEN_PATIENCE_MS = 1000 };

/* ---- what is asked for ---- */

struct parameters {
    bool has_begin, has_end, has_ascending, ascending;
    uint64_t begin_us, end_us;
    uint32_t limit;
    struct slice page;
};

/* mailgun.js writes options that are not set as words. */
static bool is_absent(struct slice value)
{
    return slice_is_empty(value) || slice_eq(value, SLICE("undefined")) ||
           slice_eq(value, SLICE("null"));
}

static bool is_one_of(struct slice value, const char *a, const char *b, const char *c)
{
    return slice_eq_nocase(value, slice_str(a)) || slice_eq_nocase(value, slice_str(b)) ||
           slice_eq_nocase(value, slice_str(c));
}

static bool read_limit(struct slice value, uint32_t *limit, struct slice *why)
{
    uint64_t number;

    if (!slice_to_u64(value, &number) || number == 0) {
        *why = SLICE("'limit' parameter is not a positive number");
        return false;
    }
    *limit = number > PAGE_LIMIT_MAX ? PAGE_LIMIT_MAX : (uint32_t)number;
    return true;
}

static bool read_parameter(struct parameters *p, struct filter *filter, struct slice name,
                           struct slice value, struct slice *why)
{
    if (slice_eq(name, SLICE("begin"))) {
        p->has_begin = date_parse(value, &p->begin_us);
        *why = SLICE("'begin' parameter is not a valid date");
        return p->has_begin;
    }
    if (slice_eq(name, SLICE("end"))) {
        p->has_end = date_parse(value, &p->end_us);
        *why = SLICE("'end' parameter is not a valid date");
        return p->has_end;
    }
    if (slice_eq(name, SLICE("limit")))
        return read_limit(value, &p->limit, why);
    if (slice_eq(name, SLICE("ascending"))) {
        p->ascending = is_one_of(value, "yes", "true", "1");
        p->has_ascending = p->ascending || is_one_of(value, "no", "false", "0");
        return true;
    }
    if (slice_eq(name, SLICE("page"))) {
        p->page = value;
        return true;
    }
    return !filter_is_field(name) || filter_add(filter, name, value, why);
}

static bool range_of(const struct parameters *p, struct page_token *t, uint64_t now_us,
                     uint64_t oldest_us, struct slice *why)
{
    t->ascending = p->has_ascending && p->ascending;
    if (p->has_begin && p->has_end && p->begin_us != p->end_us) {
        t->ascending = p->end_us > p->begin_us;
        if (p->has_ascending && p->ascending != t->ascending) {
            *why = SLICE("'ascending' parameter contradicts 'begin' and 'end'");
            return false;
        }
    } else if (p->has_begin && p->has_end && !p->has_ascending) {
        t->ascending = true;
    }
    if (t->ascending) {
        t->from_us = p->has_begin ? p->begin_us : oldest_us;
        t->until_us = p->has_end ? p->end_us : UINT64_MAX;
    } else {
        t->from_us = p->has_end ? p->end_us : oldest_us;
        t->until_us = p->has_begin ? p->begin_us : now_us;
    }
    if (t->from_us < oldest_us)
        t->from_us = oldest_us;
    /* Read from the newest down, the range ends where this answer's knowledge does; upwards, later
     * pages may go on. */
    if (!t->ascending)
        t->until_us = events_covered_us(t, now_us);
    t->open_end = t->until_us > events_covered_us(t, now_us);
    return true;
}

static bool read_token(struct events_request *r, struct slice domain, struct slice text,
                       struct arena *a, struct slice *why)
{
    *why = SLICE("page is not valid");
    if (!page_token_read(text, domain, a, &r->token))
        return false;
    if (!slice_is_empty(r->token.filter))
        return filter_unpack(r->token.filter, a, &r->filter);
    r->filter = NULL;
    return true;
}

bool events_request_read(struct events_request *r, struct slice domain, struct slice token,
                         struct slice query, uint64_t now_us, uint64_t retention_us,
                         struct arena *a, struct slice *why)
{
    struct parameters p = {.limit = LIMIT_DEFAULT};
    struct slice name, value;
    struct buf packed = {0};

    *r = (struct events_request){0};
    if (!slice_is_empty(token))
        return read_token(r, domain, token, a, why);
    /* A page wins over whatever stands beside it, mistakes too. */
    for (struct slice rest = query; query_next(&rest, a, &name, &value);) {
        if (slice_eq(name, SLICE("page")) && !is_absent(value))
            return read_token(r, domain, value, a, why);
    }
    r->filter = filter_create(a);
    while (query_next(&query, a, &name, &value)) {
        if (!is_absent(value) && !read_parameter(&p, r->filter, name, value, why))
            return false;
    }
    if (!range_of(&p, &r->token, now_us, now_us > retention_us ? now_us - retention_us : 0, why))
        return false;
    r->token.limit = p.limit;
    r->token.domain = domain;
    filter_pack(&packed, r->filter);
    r->token.filter = arena_dup(a, buf_slice(&packed));
    buf_fini(&packed);
    return true;
}

uint64_t events_covered_us(const struct page_token *t, uint64_t now_us)
{
    uint64_t settled_us = now_us > WATERMARK_STEP_US ? now_us - WATERMARK_STEP_US : 0;

    return t->until_us < settled_us ? t->until_us : settled_us;
}

/* ---- where the links lead ---- */

/* The place beside the position that lies one step further on in the order of keys, or one back: so
 * the event at the position itself is on the other side. */
static void position_step(struct page_token *t, bool up)
{
    for (size_t i = EVENT_ID_BYTES; i-- > 0;) {
        t->position_id[i] = (uint8_t)(t->position_id[i] + (up ? 1 : -1));
        if (t->position_id[i] != (up ? 0 : 0xff))
            return;
    }
    t->position_us = up ? t->position_us + 1 : t->position_us - 1;
}

static void position_set(struct page_token *t, const struct event_position *at)
{
    t->has_position = true;
    t->position_us = at->timestamp_us;
    memcpy(t->position_id, at->id, EVENT_ID_BYTES);
}

struct page_token events_link(const struct page_token *t, enum events_link link, uint32_t count,
                              const struct event_position *first,
                              const struct event_position *last)
{
    struct page_token to = *t;

    to.backwards = link == LINK_PREVIOUS;
    to.last_page = link == LINK_LAST;
    if (link == LINK_FIRST || link == LINK_LAST || (count == 0 && t->last_page)) {
        to.has_position = false;
    } else if (count != 0) {
        position_set(&to, link == LINK_NEXT ? last : first);
    } else if (t->has_position && t->backwards != to.backwards) {
        /* Nothing on this side of the position: the other side begins with the event there. Where
         * it is read from is just past it on this side. */
        position_step(&to, t->ascending != t->backwards);
    }
    return to;
}

/* ---- the answer ---- */

struct events_page {
    struct events_request request;
    uint64_t covered_us;
};

static struct slice base_url(const struct exchange *x)
{
    const struct config *config = x->service->me->config;
    struct exchange *writable = x->service == NULL ? NULL : NULL;
    struct buf b = {0};

    (void)writable;
    reply_base_url(&b, slice_str(config->public_url), config->httpd.tls_certificate[0] != '\0',
                   exchange_header(x, "Host"));
    buf_fini(&b);
    return (struct slice){0};
}
