/*
 * GET /v3/{domain}/events. An answer says "these are all events up to some time", and the reader's
 * cursor moves on: so before it leaves, the writer is told that time (SEEN), and no event is stored
 * at or before it later.
 *
 * SOURCE  design.md P4, P5; spec/ghost.md §3.
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
                              const struct event_position *first, const struct event_position *last)
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

static void put_link(struct buf *to, const char *name, const struct exchange *x, struct slice base,
                     const struct page_token *token)
{
    struct buf text = {0}, url = {0};

    page_token_write(&text, token);
    buf_add_slice(&url, base);
    buf_add_str(&url, "/");
    buf_add_slice(&url, x->route.version);
    buf_add_str(&url, "/");
    buf_add_slice(&url, x->route.raw_domain);
    buf_add_str(&url, "/events/");
    buf_add_slice(&url, buf_slice(&text));
    /* For clients that follow only the query of a link. */
    buf_add_str(&url, "?page=");
    buf_add_slice(&url, buf_slice(&text));
    json_put_str(to, name, buf_slice(&url));
    buf_fini(&text);
    buf_fini(&url);
}

static void put_paging(struct buf *to, const struct exchange *x, const struct page_token *t,
                       uint32_t count, const struct event_position *first,
                       const struct event_position *last)
{
    static const struct {
        const char *name;
        enum events_link link;
    } links[] = {{"next", LINK_NEXT},
                 {"previous", LINK_PREVIOUS},
                 {"first", LINK_FIRST},
                 {"last", LINK_LAST}};
    const struct config *config = x->service->me->config;
    struct buf base = {0};

    reply_base_url(&base, slice_str(config->public_url), config->httpd.tls_certificate[0] != '\0',
                   exchange_header(x, "Host"));
    json_put_name(to, "paging");
    buf_add_str(to, "{");
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        struct page_token token = events_link(t, links[i].link, count, first, last);

        put_link(to, links[i].name, x, buf_slice(&base), &token);
    }
    buf_add_str(to, "}");
    buf_fini(&base);
}

static struct event_query query_of(const struct exchange *x, const struct events_page *page)
{
    const struct page_token *t = &page->request.token;
    struct event_query q = {
        .domain = slice_str(x->domain->name),
        .from_us = t->from_us,
        .until_us = page->covered_us,
        .ascending = t->ascending,
        .filter = page->request.filter,
        .has_position = t->has_position,
        .position_us = t->position_us,
        .backwards = t->backwards,
        .last_page = t->last_page,
        .limit = t->limit,
    };

    memcpy(q.position_id, t->position_id, EVENT_ID_BYTES);
    return q;
}

static void reply_not_ready(struct exchange *x)
{
    reply_later(x, 503, 1, SLICE("The store is not ready, please try again"));
}

static void reply_page(struct exchange *x, struct events_page *page)
{
    const struct event_query q = query_of(x, page);
    struct event_position first = {0}, last = {0};
    struct buf body = {0};
    struct err err = {0};
    uint32_t count = 0;
    struct store_txn *t = store_begin_read(x->service->store, &err);

    if (t == NULL) {
        log_err(&err, "events of %s cannot be read", x->domain->name);
        reply_not_ready(x);
        return;
    }
    buf_add_str(&body, "{\"items\":[");
    int rc = q.from_us > q.until_us
                 ? 0
                 : event_query_run(t, &q, (struct slice){0}, &body, &count, &first, &last, &err);
    store_end_read(t);
    if (rc != 0) {
        log_err(&err, "events of %s cannot be read", x->domain->name);
        buf_fini(&body);
        reply_message(x, 500, SLICE("Internal Server Error"));
        return;
    }
    buf_add_str(&body, "],");
    put_paging(&body, x, &page->request.token, count, &first, &last);
    buf_add_str(&body, "}");
    reply_json(x, 200, &body);
}

static bool read_watermark(struct exchange *x, uint64_t *watermark_us)
{
    struct err err = {0};
    struct store_txn *t =
        x->service->store == NULL ? NULL : store_begin_read(x->service->store, &err);

    if (t == NULL)
        return false;
    *watermark_us = watermark_read(t, slice_str(x->domain->name));
    store_end_read(t);
    return true;
}

/* Without the writer's word the answer ends where an earlier one did: fewer events, none missed. */
static void reply_within_watermark(struct exchange *x, struct events_page *page)
{
    uint64_t watermark_us;

    if (!read_watermark(x, &watermark_us)) {
        reply_not_ready(x);
        return;
    }
    if (page->covered_us > watermark_us)
        page->covered_us = watermark_us;
    reply_page(x, page);
}

static void on_answer(struct exchange *x, const struct record_answer *answer)
{
    struct events_page *page = x->pending;

    if (x->service->store == NULL)
        reply_not_ready(x);
    else if (answer != NULL && answer->verdict == ANSWER_OK)
        reply_page(x, page);
    else
        reply_within_watermark(x, page);
}

/* Up to where the page speaks: its range, as far as it is settled, and not past the place that it
 * is read towards. */
static uint64_t page_needs_us(const struct events_page *page)
{
    const struct page_token *t = &page->request.token;
    bool downwards = t->ascending == t->backwards;

    if (t->has_position && !t->last_page && downwards && t->position_us < page->covered_us)
        return t->position_us;
    return page->covered_us;
}

static void announce(struct exchange *x, struct events_page *page, uint64_t until_us)
{
    struct service *s = x->service;
    uint64_t id = inbox_wait(s->inbox, x, clock_mono_ms() + SEEN_PATIENCE_MS, on_answer);

    if (id == 0) {
        reply_within_watermark(x, page);
        return;
    }
    const struct record_seen record = {
        .request_id = id,
        .generation = s->me->generation,
        .domain = slice_str(x->domain->name),
        .until_us = until_us,
    };
    buf_reset(&s->record);
    record_seen_encode(&s->record, &record);
    enum ring_result pushed = service_push(s);
    if (pushed != RING_OK) {
        inbox_forget(s->inbox, id);
        if (pushed == RING_FULL)
            reply_within_watermark(x, page);
        else
            service_refuse(x, pushed);
    }
}

void events_handle(struct exchange *x)
{
    struct events_page *page = arena_alloc(&x->arena, sizeof *page);
    uint64_t now_us = clock_wall_us(), watermark_us;
    struct slice why = {0};

    if (!events_request_read(&page->request, slice_str(x->domain->name), x->route.leaf, x->query,
                             now_us, x->service->me->config->retention.events_ms * 1000, &x->arena,
                             &why)) {
        reply_message(x, 400, why);
        return;
    }
    page->covered_us = events_covered_us(&page->request.token, now_us);
    x->pending = page;
    if (!read_watermark(x, &watermark_us)) {
        reply_not_ready(x);
        return;
    }
    uint64_t needed_us = page_needs_us(page);
    if (needed_us <= watermark_us || page->request.token.from_us > needed_us)
        reply_page(x, page);
    else
        announce(x, page, needed_us);
}
