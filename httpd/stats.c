/*
 * GET /v3/{domain}/stats/total, /v3/stats/total (all domains of the key), /v3/{domain}/tags and what
 * stands below: sums that the writer keeps with the events (store/counters.h), so the cost does not
 * grow with their number.
 *
 * SOURCE  spec/mailgun.md §7.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/log.h"
#include "httpd/analytics.h"
#include "httpd/reply.h"
#include "mail/date.h"
#include "mail/event.h"
#include "store/counters.h"

enum {
    TAGS_LIMIT_DEFAULT = 100,
    TAGS_LIMIT_MAX = 1000,
    DAYS_DEFAULT = 7,
};

#define US_PER_S    UINT64_C(1000000)
#define US_PER_HOUR (3600 * US_PER_S)
#define US_PER_DAY  (24 * US_PER_HOUR)

/* ---- what is asked for ---- */

struct asked {
    uint32_t types; /* bit: enum event_type */
    uint64_t start_us, end_us;
    enum counter_resolution resolution;
    struct slice tag;
};

static bool read_resolution(struct slice value, enum counter_resolution *resolution)
{
    if (slice_eq(value, SLICE("hour")))
        *resolution = COUNTER_HOUR;
    else if (slice_eq(value, SLICE("day")))
        *resolution = COUNTER_DAY;
    else if (slice_eq(value, SLICE("month")))
        *resolution = COUNTER_MONTH;
    else
        return false;
    return true;
}

static bool read_one(struct asked *a, uint64_t *duration_us, struct slice name, struct slice value,
                     struct slice *wrong)
{
    if (slice_eq(name, SLICE("event"))) {
        enum event_type type = event_type_from(value);
        *wrong = SLICE("'event' is none of accepted, delivered, failed, opened, clicked, "
                       "unsubscribed, complained, stored");
        a->types |= 1u << type;
        return type != 0 && type != EVENT_REJECTED;
    }
    if (slice_eq(name, SLICE("start"))) {
        *wrong = SLICE("'start' parameter is not a valid date");
        return date_parse(value, &a->start_us);
    }
    if (slice_eq(name, SLICE("end"))) {
        *wrong = SLICE("'end' parameter is not a valid date");
        return date_parse(value, &a->end_us);
    }
    if (slice_eq(name, SLICE("resolution"))) {
        *wrong = SLICE("'resolution' is hour, day or month");
        return read_resolution(value, &a->resolution);
    }
    if (slice_eq(name, SLICE("duration"))) {
        *wrong = SLICE("'duration' is a number and h, d or m, as 7d");
        return analytics_read_duration(value, duration_us);
    }
    if (slice_eq(name, SLICE("tag")))
        a->tag = value;
    return true;
}

static bool read_query(struct exchange *x, struct asked *a, struct slice *wrong)
{
    struct slice query = x->query, name, value;
    uint64_t duration_us = 0, now_us = clock_wall_us();

    *a = (struct asked){.end_us = now_us, .resolution = COUNTER_DAY};
    while (query_next(&query, &x->arena, &name, &value))
        if (!query_is_absent(value) && !read_one(a, &duration_us, name, value, wrong))
            return false;
    if (a->types == 0) {
        *wrong = SLICE("Missing mandatory parameter: event");
        return false;
    }
    if (a->end_us > now_us)
        a->end_us = now_us;
    if (duration_us > 0)
        a->start_us = a->end_us > duration_us ? a->end_us - duration_us : 0;
    else if (a->start_us == 0)
        a->start_us =
            a->end_us > DAYS_DEFAULT * US_PER_DAY ? a->end_us - DAYS_DEFAULT * US_PER_DAY : 0;
    *wrong = SLICE("'start' is after 'end'");
    return a->start_us <= a->end_us;
}

/* ---- the answer ---- */

static void put_date(struct buf *to, const char *name, uint64_t us)
{
    struct buf date = {0};

    date_put_rfc1123(&date, us, "UTC");
    json_put_str(to, name, buf_slice(&date));
    buf_fini(&date);
}

static void put_failed(struct buf *to, const uint64_t *n)
{
    buf_add_str(to, "{\"temporary\":{");
    json_put_u64(to, "espblock", n[COUNT_TEMPORARY_ESPBLOCK]);
    json_put_u64(to, "total", n[COUNT_FAILED_TEMPORARY]);
    buf_add_str(to, "},\"permanent\":{");
    json_put_u64(to, "suppress-bounce", n[COUNT_PERMANENT_SUPPRESS_BOUNCE]);
    json_put_u64(to, "suppress-unsubscribe", n[COUNT_PERMANENT_SUPPRESS_UNSUBSCRIBE]);
    json_put_u64(to, "suppress-complaint", n[COUNT_PERMANENT_SUPPRESS_COMPLAINT]);
    json_put_u64(to, "bounce", n[COUNT_PERMANENT_BOUNCE]);
    json_put_u64(to, "delayed-bounce", n[COUNT_PERMANENT_DELAYED_BOUNCE]);
    json_put_u64(to, "webhook", 0);
    json_put_u64(to, "optimized", 0);
    json_put_u64(to, "total", n[COUNT_FAILED_PERMANENT]);
    buf_add_str(to, "}}");
}

static void put_kind(struct buf *to, enum event_type type, const uint64_t *n)
{
    json_put_name(to, event_type_name(type));
    switch (type) {
    case EVENT_ACCEPTED:
        buf_add_str(to, "{\"incoming\":0");
        json_put_u64(to, "outgoing", n[COUNT_ACCEPTED]);
        json_put_u64(to, "total", n[COUNT_ACCEPTED]);
        break;
    case EVENT_DELIVERED:
        buf_add_byte(to, '{');
        json_put_u64(to, "smtp", n[COUNT_DELIVERED]);
        json_put_u64(to, "http", 0);
        json_put_u64(to, "optimized", 0);
        json_put_u64(to, "total", n[COUNT_DELIVERED]);
        break;
    case EVENT_FAILED:
        put_failed(to, n);
        return;
    case EVENT_OPENED:
        buf_add_byte(to, '{');
        json_put_u64(to, "total", n[COUNT_OPENED]);
        json_put_u64(to, "unique", n[COUNT_OPENED_UNIQUE]);
        break;
    case EVENT_CLICKED:
        buf_add_byte(to, '{');
        json_put_u64(to, "total", n[COUNT_CLICKED]);
        json_put_u64(to, "unique", n[COUNT_CLICKED_UNIQUE]);
        break;
    default:
        buf_add_byte(to, '{');
        json_put_u64(to, "total",
                     n[type == EVENT_UNSUBSCRIBED ? COUNT_UNSUBSCRIBED
                       : type == EVENT_COMPLAINED ? COUNT_COMPLAINED
                                                  : COUNT_STORED]);
        break;
    }
    buf_add_byte(to, '}');
}

static void put_step(struct buf *to, const struct asked *a, const struct counter_step *step)
{
    buf_add_byte(to, '{');
    put_date(to, "time", step->start_us);
    for (enum event_type type = EVENT_ACCEPTED; type < EVENT_TYPE_END; type++)
        if ((a->types >> type & 1u) != 0)
            put_kind(to, type, step->count);
    buf_add_byte(to, '}');
}

static void reply_steps(struct exchange *x, const struct asked *a, const struct counter_step *steps,
                        int count, const struct tag_seen *tag)
{
    static const char *const resolutions[] = {
        [COUNTER_HOUR] = "hour", [COUNTER_DAY] = "day", [COUNTER_MONTH] = "month"};
    struct buf body = {0};

    buf_add_byte(&body, '{');
    if (tag != NULL)
        json_put_str(&body, "tag", tag->tag);
    json_put_str(&body, "description", tag != NULL ? tag->description : slice_none());
    put_date(&body, "start", count > 0 ? steps[0].start_us : a->start_us);
    put_date(&body, "end", count > 0 ? steps[count - 1].start_us : a->end_us);
    json_put_str(&body, "resolution", slice_str(resolutions[a->resolution]));
    json_put_name(&body, "stats");
    buf_add_byte(&body, '[');
    for (int i = 0; i < count; i++) {
        if (i > 0)
            buf_add_byte(&body, ',');
        put_step(&body, a, &steps[i]);
    }
    buf_add_str(&body, "]}");
    reply_json(x, 200, &body);
}

/* The steps of one domain added to those of others: all have the same. */
static int add_domain(struct store_txn *t, const struct asked *a, const char *domain,
                      enum counter_scope scope, struct counter_step **sum, struct err *err)
{
    const struct counter_query q = {.scope = scope,
                                    .domain = slice_str(domain),
                                    .tag = a->tag,
                                    .from_us = a->start_us,
                                    .until_us = a->end_us,
                                    .resolution = a->resolution};
    return counters_add_steps(t, &q, sum, err);
}

static void refuse(struct exchange *x, const struct err *err)
{
    if (err->code == ERR_INPUT) {
        reply_message(x, 400, arena_printf(&x->arena, "%s", err->text));
        return;
    }
    log_err(err, "statistics cannot be read");
    reply_message(x, 500, SLICE("Internal Server Error"));
}

/* ---- totals ---- */

void stats_handle(struct exchange *x)
{
    struct counter_step *steps = NULL;
    struct slice wrong;
    struct err err = {0};
    struct asked a;
    int count = 0;

    if (!read_query(x, &a, &wrong)) {
        reply_message(x, 400, wrong);
        return;
    }
    struct store_txn *t = exchange_begin_read(x);
    if (t == NULL)
        return;
    for (size_t i = 0; i < x->domain_count && count >= 0; i++)
        if (x->domain == NULL || x->domain == x->domains[i])
            count = add_domain(t, &a, x->domains[i]->name, COUNTER_DOMAIN, &steps, &err);
    store_end_read(t);
    if (count < 0)
        refuse(x, &err);
    else
        reply_steps(x, &a, steps, count, NULL);
    free(steps);
}

/* ---- tags ---- */

static void put_tag(struct buf *to, const struct tag_seen *seen)
{
    struct buf date = {0};

    buf_add_byte(to, '{');
    json_put_str(to, "tag", seen->tag);
    json_put_str(to, "description", seen->description);
    date_put_iso8601(&date, seen->first_us);
    json_put_str(to, "first-seen", buf_slice(&date));
    buf_reset(&date);
    date_put_iso8601(&date, seen->last_us);
    json_put_str(to, "last-seen", buf_slice(&date));
    buf_fini(&date);
    buf_add_byte(to, '}');
}

/* mailgun-go writes tags in paths as in a query: a blank comes as '+'. */
static bool find_tag(struct store_txn *t, struct exchange *x, struct slice tag,
                     struct tag_seen *seen)
{
    struct slice domain = slice_str(x->domain->name);

    if (tag_get(t, domain, tag, seen))
        return true;
    struct slice blank = arena_dup(&x->arena, tag);
    uint8_t *at = arena_alloc(&x->arena, tag.len + 1);
    for (size_t i = 0; i < blank.len; i++)
        at[i] = blank.ptr[i] == '+' ? ' ' : blank.ptr[i];
    return tag_get(t, domain, slice_of(at, tag.len), seen);
}

static struct slice tag_of(struct exchange *x)
{
    struct slice query = x->query, name, value, tag = x->route.leaf;

    while (tag.len == 0 && query_next(&query, &x->arena, &name, &value))
        if (slice_eq(name, SLICE("tag")))
            tag = value;
    return tag;
}

void tag_handle(struct exchange *x)
{
    bool reads = evhttp_request_get_command(x->req) == EVHTTP_REQ_GET;
    struct buf body = {0};
    struct slice tag = {0};
    struct tag_seen seen;
    struct store_txn *t = exchange_begin_read(x);

    if (t == NULL)
        return;
    bool found = find_tag(t, x, tag_of(x), &seen);
    if (found && reads)
        put_tag(&body, &seen);
    else if (found)
        tag = arena_dup(&x->arena, seen.tag);
    store_end_read(t);
    if (!found)
        reply_message(x, 404, SLICE("tag not found"));
    else if (reads)
        reply_json(x, 200, &body);
    else
        tag_change(x, tag);
}

void tag_stats_handle(struct exchange *x)
{
    struct counter_step *steps = NULL;
    struct slice wrong;
    struct err err = {0};
    struct tag_seen seen;
    struct asked a;

    if (!read_query(x, &a, &wrong)) {
        reply_message(x, 400, wrong);
        return;
    }
    struct store_txn *t = exchange_begin_read(x);
    if (t == NULL)
        return;
    if (!find_tag(t, x, tag_of(x), &seen)) {
        store_end_read(t);
        reply_message(x, 404, SLICE("tag not found"));
        return;
    }
    a.tag = seen.tag = arena_dup(&x->arena, seen.tag);
    seen.description = arena_dup(&x->arena, seen.description);
    int count = add_domain(t, &a, x->domain->name, COUNTER_TAG, &steps, &err);
    store_end_read(t);
    if (count < 0)
        refuse(x, &err);
    else
        reply_steps(x, &a, steps, count, &seen);
    free(steps);
}

enum tags_page { PAGE_FIRST, PAGE_NEXT, PAGE_PREVIOUS, PAGE_LAST };

struct tags_listing {
    struct slice prefix, tag;
    enum tags_page page;
    uint32_t limit;
    struct tag_seen *tags;
    size_t count;
};

static bool read_tags_query(struct exchange *x, struct tags_listing *l)
{
    struct slice query = x->query, name, value;

    *l = (struct tags_listing){.limit = TAGS_LIMIT_DEFAULT};
    while (query_next(&query, &x->arena, &name, &value)) {
        if (query_is_absent(value))
            continue;
        if (slice_eq(name, SLICE("limit"))) {
            if (!query_limit(value, TAGS_LIMIT_MAX, &l->limit))
                return false;
        } else if (slice_eq(name, SLICE("prefix"))) {
            l->prefix = value;
        } else if (slice_eq(name, SLICE("tag"))) {
            l->tag = value;
        } else if (slice_eq(name, SLICE("page"))) {
            l->page = slice_eq(value, SLICE("next"))       ? PAGE_NEXT
                      : slice_starts(value, SLICE("prev")) ? PAGE_PREVIOUS
                      : slice_eq(value, SLICE("last"))     ? PAGE_LAST
                                                           : PAGE_FIRST;
        }
    }
    return true;
}

static bool take_tag(void *arg, const struct tag_seen *seen)
{
    struct tags_listing *l = arg;

    l->tags[l->count++] = *seen;
    return l->count < l->limit;
}

static void put_tags_url(struct buf *to, const struct exchange *x, const struct tags_listing *l,
                         const char *name, const char *page, struct slice tag)
{
    struct buf url = {0};

    exchange_base_url(x, &url);
    buf_printf(&url, "/%.*s/%.*s/tags?limit=%u", SLICE_ARGS(x->route.version),
               SLICE_ARGS(x->route.raw_domain), l->limit);
    if (l->prefix.len > 0) {
        buf_add_str(&url, "&prefix=");
        text_percent_encode(&url, l->prefix, "");
    }
    buf_printf(&url, "&page=%s&tag=", page);
    text_percent_encode(&url, tag, "");
    json_put_str(to, name, buf_slice(&url));
    buf_fini(&url);
}

void tags_handle(struct exchange *x)
{
    struct buf body = {0};
    struct tags_listing l;

    if (!read_tags_query(x, &l)) {
        reply_message(x, 400, SLICE("'limit' parameter is not a positive number"));
        return;
    }
    l.tags = arena_array(&x->arena, l.limit, sizeof *l.tags);
    struct store_txn *t = exchange_begin_read(x);
    if (t == NULL)
        return;
    bool backwards = l.page == PAGE_PREVIOUS || l.page == PAGE_LAST;
    bool has_place = l.page == PAGE_NEXT || l.page == PAGE_PREVIOUS;
    if (l.page != PAGE_PREVIOUS || l.tag.len > 0)
        tags_each(t, slice_str(x->domain->name), l.prefix, has_place ? l.tag : slice_none(),
                  backwards, take_tag, &l);
    buf_add_str(&body, "{\"items\":[");
    for (size_t i = 0; i < l.count; i++) {
        if (i > 0)
            buf_add_byte(&body, ',');
        put_tag(&body, &l.tags[backwards ? l.count - 1 - i : i]);
    }
    buf_add_str(&body, "],\"paging\":{");
    struct slice first = l.tag, last = l.tag;
    if (l.count > 0) {
        first = l.tags[backwards ? l.count - 1 : 0].tag;
        last = l.tags[backwards ? 0 : l.count - 1].tag;
    }
    put_tags_url(&body, x, &l, "first", "first", slice_none());
    put_tags_url(&body, x, &l, "last", "last", slice_none());
    put_tags_url(&body, x, &l, "next", "next", last);
    put_tags_url(&body, x, &l, "previous", "prev", first);
    buf_add_str(&body, "}}");
    store_end_read(t);
    reply_json(x, 200, &body);
}
