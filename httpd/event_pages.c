#include "httpd/event_pages.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "httpd/reply.h"

enum {
    SEEN_PATIENCE_MS = 1000,
    FRESH_US = 1000000,       /* a watermark no older than this, where the range ends now */
    TURN_ROWS = 4000,         /* looked at before others have their turn: some ms */
    SHORT_PAGE_MS = 200,      /* then a page with something on it is given as it is */
    SCAN_PATIENCE_MS = 55000, /* clients give up after 60 s */
};

TAILQ_HEAD(waiting_pages, event_pages);

struct event_turns {
    struct event *turn;
    struct waiting_pages waiting;
};

static void pages_work(struct exchange *x, struct event_pages *p);

/* ---- the ends of an answer ---- */

static void pages_drop(struct event_pages *p)
{
    event_page_fini(&p->page);
    event_page_fini(&p->total);
}

static void reply_not_ready(struct exchange *x, struct event_pages *p)
{
    pages_drop(p);
    reply_later(x, 503, 1, SLICE("The store is not ready, please try again"));
}

static void reply_failed(struct exchange *x, struct event_pages *p, const struct err *err)
{
    log_err(err, "events of %.*s cannot be read", SLICE_ARGS(p->query.domains[0]));
    pages_drop(p);
    reply_message(x, 500, SLICE("Internal Server Error"));
}

static void reply_too_few(struct exchange *x, struct event_pages *p)
{
    pages_drop(p);
    reply_message(
        x, 400,
        SLICE("The filter fits too few of too many events: narrow the range, or filter by "
              "event, tags, recipient or message-id as well"));
}

static void pages_done(struct exchange *x, struct event_pages *p)
{
    event_page_end(&p->query, &p->page);
    buf_fini(&p->page.ends);
    p->covered_us = p->query.until_us;
    p->reply(x, p);
}

/* ---- turns ---- */

static void on_turn(evutil_socket_t fd, short what, void *arg)
{
    struct event_turns *turns = arg;
    struct event_pages *p = TAILQ_FIRST(&turns->waiting);

    (void)fd, (void)what;
    if (p == NULL)
        return;
    TAILQ_REMOVE(&turns->waiting, p, waiting);
    pages_work(p->exchange, p);
    if (!TAILQ_EMPTY(&turns->waiting)) {
        const struct timeval at_once = {0};
        (void)event_add(turns->turn, &at_once); /* after what else has become ready */
    }
}

static void turns_wait(struct event_turns *turns, struct event_pages *p)
{
    const struct timeval at_once = {0};

    TAILQ_INSERT_TAIL(&turns->waiting, p, waiting);
    (void)event_add(turns->turn, &at_once);
}

struct event_turns *event_turns_create(struct event_base *base)
{
    struct event_turns *turns = mem_zero(1, sizeof *turns);

    TAILQ_INIT(&turns->waiting);
    turns->turn = evtimer_new(base, on_turn, turns);
    if (turns->turn != NULL)
        return turns;
    free(turns);
    return NULL;
}

void event_turns_destroy(struct event_turns *turns)
{
    struct event_pages *p;

    if (turns == NULL)
        return;
    while ((p = TAILQ_FIRST(&turns->waiting)) != NULL) {
        TAILQ_REMOVE(&turns->waiting, p, waiting);
        pages_drop(p);
        exchange_drop(p->exchange);
    }
    event_free(turns->turn);
    free(turns);
}

/* ---- the watermark ---- */

/* The lowest of the domains asked for. */
static bool read_watermark(struct exchange *x, const struct event_query *q, uint64_t *watermark_us)
{
    struct err err = {0};
    struct store_txn *t =
        x->service->store == NULL ? NULL : store_begin_read(x->service->store, &err);

    if (t == NULL)
        return false;
    *watermark_us = UINT64_MAX;
    for (size_t i = 0; i < q->domain_count; i++) {
        uint64_t us = watermark_read(t, q->domains[i]);
        if (us < *watermark_us)
            *watermark_us = us;
    }
    store_end_read(t);
    return true;
}

/* Without the writer's word the answer ends where an earlier one did: fewer events, none missed. */
static void answer_within_watermark(struct exchange *x, struct event_pages *p)
{
    uint64_t watermark_us;

    if (!read_watermark(x, &p->query, &watermark_us)) {
        reply_not_ready(x, p);
        return;
    }
    if (p->covered_us > watermark_us)
        p->covered_us = watermark_us;
    if (p->query.until_us < p->covered_us)
        p->query.until_us = p->covered_us;
    p->announced = p->query.domain_count;
    pages_work(x, p);
}

static void announce(struct exchange *x, struct event_pages *p);

static void on_answer(struct exchange *x, const struct record_answer *answer)
{
    struct event_pages *p = x->pending;

    if (x->service->store == NULL) {
        reply_not_ready(x, p);
    } else if (answer == NULL || answer->verdict != ANSWER_OK) {
        answer_within_watermark(x, p);
    } else if (++p->announced < p->query.domain_count) {
        announce(x, p);
    } else {
        p->query.until_us = p->covered_us;
        pages_work(x, p);
    }
}

/* Has the writer store covered_us for the next of the domains, and goes on from there. */
static void announce(struct exchange *x, struct event_pages *p)
{
    struct service *s = x->service;
    uint64_t id = inbox_wait(s->inbox, x, clock_mono_ms() + SEEN_PATIENCE_MS, on_answer);

    if (id == 0) {
        answer_within_watermark(x, p);
        return;
    }
    const struct record_seen record = {
        .request_id = id,
        .generation = s->me->generation,
        .domain = p->query.domains[p->announced],
        .until_us = p->covered_us,
    };
    buf_reset(&s->record);
    record_seen_encode(&s->record, &record);
    enum ring_result pushed = service_push(s);
    if (pushed == RING_OK)
        return;
    inbox_forget(s->inbox, id);
    if (pushed == RING_FULL) {
        answer_within_watermark(x, p);
    } else {
        pages_drop(p);
        service_refuse(x, pushed);
    }
}

/* ---- reading ---- */

/* False: the exchange has ended. */
static bool read_rows(struct exchange *x, struct event_pages *p, const struct event_query *q,
                      struct event_page *page)
{
    struct err err = {0};
    struct store_txn *t = store_begin_read(x->service->store, &err);

    if (t == NULL) {
        log_err(&err, "events of %.*s cannot be read", SLICE_ARGS(q->domains[0]));
        reply_not_ready(x, p);
        return false;
    }
    int rc = q->from_us > q->until_us ? 0 : event_query_run(t, q, page, &err);
    store_end_read(t);
    if (rc != 0)
        reply_failed(x, p, &err);
    return rc == 0;
}

/* One turn of counting. */
static void count_work(struct exchange *x, struct event_pages *p)
{
    struct event_query q = p->query;

    q.has_position = q.backwards = q.last_page = false;
    q.count_only = true;
    q.until_us = p->range_until_us;
    q.limit = TOTAL_MAX;
    if (!read_rows(x, p, &q, &p->total))
        return;
    p->has_total = !p->total.cut;
    /* In a time that a client does not wait for, the page is given without it. */
    if (p->has_total || clock_mono_ms() - p->started_mono_ms > SCAN_PATIENCE_MS)
        pages_done(x, p);
    else
        turns_wait(x->service->turns, p);
}

/* One turn of reading, and what comes after it. */
static void pages_work(struct exchange *x, struct event_pages *p)
{
    uint64_t passed_ms = clock_mono_ms() - p->started_mono_ms;

    if (p->counting) {
        count_work(x, p);
        return;
    }
    if (!read_rows(x, p, &p->query, &p->page))
        return;
    bool full = p->page.count >= p->query.limit;
    if (!full && p->page.cut && (p->page.count == 0 || passed_ms < SHORT_PAGE_MS)) {
        if (passed_ms > SCAN_PATIENCE_MS)
            reply_too_few(x, p);
        else
            turns_wait(x->service->turns, p);
        return;
    }
    if (event_pages_goes_on(p)) {
        event_page_go_on(&p->page, p->query.until_us);
        announce(x, p);
        return;
    }
    p->counting = p->wants_total;
    if (p->counting)
        count_work(x, p);
    else
        pages_done(x, p);
}

bool event_pages_begin(struct event_pages *p, uint64_t watermark_us)
{
    struct event_query *q = &p->query;
    bool upwards = q->ascending != (q->backwards || q->last_page);

    if (p->ends_now && p->covered_us > watermark_us && p->covered_us - watermark_us <= FRESH_US)
        p->covered_us = watermark_us;
    p->range_until_us = p->covered_us;
    /* Read downwards from a place, it does not speak of what is above. */
    if (!upwards && q->has_position && !q->last_page && q->position.timestamp_us < p->covered_us)
        p->covered_us = q->position.timestamp_us;
    q->until_us = p->covered_us;
    if (p->covered_us <= watermark_us || q->from_us > p->covered_us)
        return true;
    if (!upwards || q->from_us > watermark_us)
        return false;
    q->until_us = watermark_us; /* often enough for a page */
    return true;
}

bool event_pages_goes_on(const struct event_pages *p)
{
    return p->page.count < p->query.limit && !p->page.cut && p->query.until_us < p->covered_us;
}

void event_pages_answer(struct exchange *x, struct event_pages *p)
{
    uint64_t watermark_us;

    p->started_mono_ms = clock_mono_ms();
    p->exchange = x;
    x->pending = p;
    p->query.look_max = TURN_ROWS;
    if (!read_watermark(x, &p->query, &watermark_us))
        reply_not_ready(x, p);
    else if (event_pages_begin(p, p->promises_nothing ? UINT64_MAX : watermark_us))
        pages_work(x, p);
    else
        announce(x, p);
}
