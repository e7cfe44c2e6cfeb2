/*
 * POST /v1/analytics/logs: the same events as GET /v3/{domain}/events, asked for in JSON, over the
 * same indexes and under the same promise (httpd/event_pages.h).
 *
 * SOURCE  spec/mailgun.md §4.9.
 */
#include "base/clock.h"
#include "base/json.h"
#include "httpd/body.h"
#include "httpd/event_pages.h"
#include "httpd/logs_request.h"
#include "httpd/reply.h"
#include "mail/date.h"

struct logs_answer {
    struct event_pages pages; /* first: reply_logs() gets it */
    struct logs_request request;
};

static void put_token(struct buf *to, const char *name, const struct logs_answer *a,
                      enum events_link link)
{
    const struct event_page *page = &a->pages.page;
    struct page_token token =
        events_link(&a->request.events.token, link, page->count, &page->first, &page->last);
    struct buf text = {0};

    page_token_write(&text, &token);
    json_put_str(to, name, buf_slice(&text));
    buf_fini(&text);
}

static void put_date(struct buf *to, const char *name, uint64_t us)
{
    struct buf date = {0};

    date_put_rfc1123(&date, us, "UTC");
    json_put_str(to, name, buf_slice(&date));
    buf_fini(&date);
}

/* Mailgun's clients go on while there is a `next`: where a page is not full there is none. */
static void reply_logs(struct exchange *x, struct event_pages *p)
{
    struct logs_answer *a = (struct logs_answer *)p; /* its first member */
    struct page_token *t = &a->request.events.token;
    struct buf body = p->page.items;

    if (a->request.events.ends_now && !t->ascending && !t->has_position &&
        t->until_us > p->covered_us)
        t->until_us = p->covered_us;
    buf_add_str(&body, "],\"pagination\":{");
    bool full = p->page.count == t->limit || (p->page.cut && p->page.count > 0);
    if (full || (t->backwards && p->page.count > 0))
        put_token(&body, "next", a, LINK_NEXT);
    if (t->has_position || t->last_page)
        put_token(&body, "previous", a, LINK_PREVIOUS);
    put_token(&body, "first", a, LINK_FIRST);
    put_token(&body, "last", a, LINK_LAST);
    if (p->has_total)
        json_put_u64(&body, "total", p->total.count);
    buf_add_str(&body, "},\"aggregates\":{}");
    put_date(&body, "start", a->request.start_us);
    put_date(&body, "end", a->request.end_us);
    buf_add_byte(&body, '}');
    event_page_fini(&p->total);
    reply_json(x, 200, &body);
}

static struct slice origin_of(struct exchange *x)
{
    struct buf origin = {0};

    exchange_base_url(x, &origin);
    struct slice kept = arena_dup(&x->arena, buf_slice(&origin));
    buf_fini(&origin);
    return kept;
}

static void start(struct exchange *x, struct logs_answer *a, uint64_t now_us)
{
    struct event_pages *p = &a->pages;

    p->query.domains = a->request.domains;
    p->query.domain_count = a->request.domain_count;
    p->query.as_logs = true;
    p->query.storage_base = origin_of(x);
    events_query_of(&a->request.events, &p->query);
    p->covered_us = events_covered_us(&a->request.events.token, now_us);
    p->ends_now = a->request.events.ends_now;
    p->wants_total = a->request.wants_total;
    p->reply = reply_logs;
    buf_add_str(&p->page.items, "{\"items\":[");
    event_pages_answer(x, p);
}

void logs_handle(struct exchange *x)
{
    struct logs_answer *a = arena_alloc(&x->arena, sizeof *a);
    struct logs_request *r = &a->request;
    uint64_t now_us = clock_wall_us();
    struct slice body, why;

    if (!body_read(x, &body))
        return;
    r->domains = arena_array(&x->arena, x->domain_count, sizeof *r->domains);
    for (; r->domain_count < x->domain_count; r->domain_count++)
        r->domains[r->domain_count] = slice_str(x->domains[r->domain_count]->name);
    if (logs_request_read(r, body, now_us, x->service->me->config->retention.events_ms * 1000,
                          &x->arena, &why))
        start(x, a, now_us);
    else
        reply_message(x, 400, why);
}
