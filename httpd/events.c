/*
 * GET /v3/{domain}/events: what is asked for, and where the links lead. httpd/event_pages.h answers.
 */
#include "httpd/events.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "httpd/event_pages.h"
#include "httpd/reply.h"
#include "mail/date.h"

enum { LIMIT_DEFAULT = 100, LINK_BYTES = 700, SECOND_US = 1000000, MS_US = 1000, STEP_ROWS = 1000 };

/* ---- what is asked for ---- */

struct parameters {
    bool has_begin, has_end, has_ascending, ascending;
    uint64_t begin_us, end_us;
    uint32_t limit;
    struct slice page;
};

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

int events_step_back(struct events_request *r, struct store_txn *t, struct err *err)
{
    struct event_query q = {
        .domains = &r->token.domain,
        .domain_count = 1,
        .from_us = r->stepped_from_us,
        .until_us = r->stepped_from_us + MS_US - 1,
        .ascending = true,
        .filter = r->filter,
        .limit = 1,
        .look_max = STEP_ROWS,
        .count_only = true,
    };
    struct event_page page = {0};

    if (r->stepped_from_us == 0)
        return 0;
    int rc = event_query_run(t, &q, &page, err);
    if (rc == 0 && page.count > 0)
        r->token.from_us = q.until_us + 1;
    event_page_fini(&page);
    return rc;
}

uint64_t events_covered_us(const struct page_token *t, uint64_t now_us)
{
    uint64_t settled_us = now_us > WATERMARK_STEP_US ? now_us - WATERMARK_STEP_US : 0;

    return t->until_us < settled_us ? t->until_us : settled_us;
}

static bool range_of(const struct parameters *p, struct page_token *t, uint64_t now_us,
                     uint64_t oldest_us, bool *ends_now, uint64_t *stepped_from_us,
                     struct slice *why)
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
    /* People and most programs begin at whole seconds. */
    *stepped_from_us = 0;
    if (t->ascending && p->has_begin && p->has_end && p->begin_us % SECOND_US != 0 &&
        p->begin_us % MS_US == 0 && p->begin_us > oldest_us + SECOND_US)
        *stepped_from_us = p->begin_us - SECOND_US;
    /* Read from the newest down, the range ends where this answer's knowledge does; upwards, later
     * pages may go on. */
    uint64_t covered_us = events_covered_us(t, now_us);
    *ends_now = t->until_us > covered_us;
    if (!t->ascending)
        t->until_us = covered_us;
    t->open_end = t->until_us > covered_us;
    return true;
}

static bool read_token(struct events_request *r, struct slice domain, struct slice text,
                       uint64_t now_us, struct arena *a, struct slice *why)
{
    *why = SLICE("page is not valid");
    if (!page_token_read(text, domain, a, &r->token))
        return false;
    r->ends_now = r->token.until_us > events_covered_us(&r->token, now_us);
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
        return read_token(r, domain, token, now_us, a, why);
    /* A page wins over whatever stands beside it, mistakes too. */
    for (struct slice rest = query; query_next(&rest, a, &name, &value);) {
        if (slice_eq(name, SLICE("page")) && !query_is_absent(value))
            return read_token(r, domain, value, now_us, a, why);
    }
    r->filter = filter_create(a);
    while (query_next(&query, a, &name, &value)) {
        if (!query_is_absent(value) && !read_parameter(&p, r->filter, name, value, why))
            return false;
    }
    if (!range_of(&p, &r->token, now_us, now_us > retention_us ? now_us - retention_us : 0,
                  &r->ends_now, &r->stepped_from_us, why))
        return false;
    r->token.limit = p.limit;
    r->token.domain = domain;
    filter_pack(&packed, r->filter);
    r->token.filter = arena_dup(a, buf_slice(&packed));
    buf_fini(&packed);
    return true;
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

struct events_answer {
    struct event_pages pages;
    struct events_request request;
    struct slice domain;
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
    struct buf base = {0};

    exchange_base_url(x, &base);
    json_put_name(to, "paging");
    buf_add_str(to, "{");
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        struct page_token token = events_link(t, links[i].link, count, first, last);

        put_link(to, links[i].name, x, buf_slice(&base), &token);
    }
    buf_add_str(to, "}");
    buf_fini(&base);
}

static void reply_page(struct exchange *x, struct event_pages *p)
{
    struct events_answer *answer = (struct events_answer *)p; /* its first member */
    struct page_token *t = &answer->request.token;
    struct buf body = p->page.items;

    /* Read from the newest down, the range ends where this answer's knowledge does. */
    if (answer->request.ends_now && !t->ascending && !t->has_position &&
        t->until_us > p->covered_us)
        t->until_us = p->covered_us;
    buf_add_str(&body, "],");
    put_paging(&body, x, t, p->page.count, &p->page.first, &p->page.last);
    buf_add_str(&body, "}");
    exchange_note_latency(x, LATENCY_EVENTS_PAGE);
    reply_json(x, 200, &body);
}

void events_query_of(const struct events_request *r, struct event_query *q)
{
    const struct page_token *t = &r->token;

    q->from_us = t->from_us;
    q->ascending = t->ascending;
    q->filter = r->filter;
    q->has_position = t->has_position;
    q->position.timestamp_us = t->position_us;
    memcpy(q->position.id, t->position_id, EVENT_ID_BYTES);
    q->backwards = t->backwards;
    q->last_page = t->last_page;
    q->limit = t->limit;
}

/* Without the store there is no answer anyway. */
static void step_back(struct exchange *x, struct events_request *r)
{
    struct err err;
    struct store_txn *t = NULL;

    if (r->stepped_from_us != 0 && x->service->store != NULL)
        t = store_begin_read(x->service->store, &err);
    if (t == NULL)
        return;
    if (events_step_back(r, t, &err) != 0)
        log_err(&err, "events of %s cannot be read", x->domain->name);
    store_end_read(t);
}

/* Where the domain's stored messages are, for events' storage.url. */
static struct slice storage_base(struct exchange *x)
{
    struct buf origin = {0}, url = {0};

    exchange_base_url(x, &origin);
    event_storage_base(&url, buf_slice(&origin), slice_str(x->domain->name));
    struct slice base = arena_dup(&x->arena, buf_slice(&url));
    buf_fini(&origin);
    buf_fini(&url);
    return base;
}

void events_handle(struct exchange *x)
{
    struct events_answer *answer = arena_alloc(&x->arena, sizeof *answer);
    struct event_pages *p = &answer->pages;
    uint64_t now_us = clock_wall_us();
    struct slice why = {0};

    answer->domain = slice_str(x->domain->name);
    gauge_poll_note(&x->service->me->gauges->slots[x->service->me->gauge], answer->domain,
                    now_us / 1000);
    if (!events_request_read(&answer->request, answer->domain, x->route.leaf, x->query, now_us,
                             x->service->me->config->retention.events_ms * 1000, &x->arena, &why)) {
        reply_message(x, 400, why);
        return;
    }
    step_back(x, &answer->request);
    p->query.domains = &answer->domain;
    p->query.domain_count = 1;
    p->query.storage_base = storage_base(x);
    events_query_of(&answer->request, &p->query);
    p->covered_us = events_covered_us(&answer->request.token, now_us);
    p->ends_now = answer->request.ends_now;
    p->promises_nothing = x->person != NULL;
    p->reply = reply_page;
    buf_add_str(&p->page.items, "{\"items\":[");
    event_pages_answer(x, p);
}
