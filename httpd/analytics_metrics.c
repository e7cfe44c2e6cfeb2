/*
 * POST /v1/analytics/metrics: sums that the writer keeps with the events (store/counters.h), by
 * time, domain and tag. No event is read.
 *
 * Rows in which nothing happened are left out, but not of a series over time alone: that has all
 * its steps, as GET …/stats/total has them.
 *
 * SOURCE  spec/mailgun.md §7.2; Mailgun's reference of the Metrics API.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "httpd/body.h"
#include "httpd/metrics_request.h"
#include "httpd/reply.h"
#include "mail/date.h"

/* Steps that one request may have read: a child serves nobody else meanwhile. */
enum { STEPS_MAX = 50000 };

/* What is counted together: a domain or (empty) all that are meant, a tag or (empty) all mail. */
struct group {
    struct slice domain, tag;
};

struct row {
    uint64_t start_us;
    struct slice domain, tag;
    uint64_t count[COUNT_KINDS];
};

struct table {
    struct metrics_request request;
    struct arena *arena;
    struct group *groups; /* malloc */
    size_t group_count, group_room;
    struct counter_step *total; /* of all that is meant, by step; malloc */
    size_t step_count;
    struct row *rows; /* malloc */
    size_t row_count;
    uint64_t sum[COUNT_KINDS];
};

static void table_fini(struct table *t)
{
    free(t->groups);
    free(t->total);
    free(t->rows);
}

/* ---- reading ---- */

static int add_domain(const struct table *t, struct store_txn *txn, struct slice domain,
                      struct slice tag, struct counter_step **sum, struct err *err)
{
    const struct metrics_request *a = &t->request;
    const struct counter_query q = {.scope = tag.len > 0 ? COUNTER_TAG : COUNTER_DOMAIN,
                                    .domain = domain,
                                    .tag = tag,
                                    .from_us = a->range.start_us,
                                    .until_us = a->range.end_us,
                                    .resolution = a->resolution};

    return counters_add_steps(txn, &q, sum, err);
}

/* The steps of a group, which the caller frees: how many, or -1. */
static int read_group(const struct table *t, struct store_txn *txn, const struct group *g,
                      struct counter_step **steps, struct err *err)
{
    const struct metrics_request *a = &t->request;
    struct slice tag = g->tag.len > 0 ? g->tag : a->tag;

    *steps = NULL;
    if (g->domain.len > 0 || a->domain_count == 0)
        return add_domain(t, txn, g->domain, tag, steps, err);
    int count = 0;
    for (size_t i = 0; i < a->domain_count && count >= 0; i++)
        count = add_domain(t, txn, a->domains[i], tag, steps, err);
    return count;
}

static int read_total(struct table *t, struct store_txn *txn, struct err *err)
{
    const struct group all = {0};
    int count = read_group(t, txn, &all, &t->total, err);

    if (count < 0)
        return -1;
    t->step_count = (size_t)count;
    for (size_t i = 0; i < t->step_count; i++)
        for (int kind = 0; kind < COUNT_KINDS; kind++)
            t->sum[kind] += t->total[i].count[kind];
    return 0;
}

/* ---- groups ---- */

static void add_group(struct table *t, struct slice domain, struct slice tag)
{
    if (t->group_count == t->group_room) {
        t->group_room = t->group_room == 0 ? 64 : t->group_room * 2;
        t->groups = mem_grow(t->groups, t->group_room * sizeof *t->groups);
    }
    t->groups[t->group_count++] = (struct group){domain, tag};
}

struct tags_taking {
    struct table *table;
    struct slice domain;
};

static bool take_tag(void *arg, const struct tag_seen *seen)
{
    struct tags_taking *taking = arg;
    struct table *t = taking->table;

    for (size_t i = 0; i < t->request.tag_test_count; i++)
        if (!analytics_picks(t->request.tag_tests[i], seen->tag))
            return true;
    add_group(t, taking->domain, arena_dup(t->arena, seen->tag));
    return t->group_count * t->step_count <= STEPS_MAX;
}

static int compare_nocase(struct slice a, struct slice b)
{
    for (size_t i = 0; i < a.len && i < b.len; i++) {
        int x = a.ptr[i] >= 'A' && a.ptr[i] <= 'Z' ? a.ptr[i] | 0x20 : a.ptr[i];
        int y = b.ptr[i] >= 'A' && b.ptr[i] <= 'Z' ? b.ptr[i] | 0x20 : b.ptr[i];
        if (x != y)
            return x < y ? -1 : 1;
    }
    return a.len == b.len ? 0 : a.len < b.len ? -1 : 1;
}

static int by_tag(const void *a, const void *b)
{
    return compare_nocase(((const struct group *)a)->tag, ((const struct group *)b)->tag);
}

/* One group of each tag, whatever its domains. */
static void join_tags(struct table *t)
{
    size_t kept = 0;

    if (t->group_count > 0)
        qsort(t->groups, t->group_count, sizeof *t->groups, by_tag);
    for (size_t i = 0; i < t->group_count; i++)
        if (kept == 0 || by_tag(&t->groups[kept - 1], &t->groups[i]) != 0)
            t->groups[kept++] = (struct group){slice_none(), t->groups[i].tag};
    t->group_count = kept;
}

static void make_groups(struct table *t, struct store_txn *txn)
{
    const struct metrics_request *a = &t->request;
    bool by_domain = metrics_has_dimension(a, DIMENSION_DOMAIN);
    bool has_tags = metrics_has_dimension(a, DIMENSION_TAG);

    if (!by_domain && !has_tags) {
        add_group(t, slice_none(), slice_none());
        return;
    }
    for (size_t i = 0; i < a->domain_count; i++) {
        struct tags_taking taking = {t, a->domains[i]};
        if (has_tags)
            tags_each(txn, a->domains[i], slice_none(), slice_none(), false, take_tag, &taking);
        else
            add_group(t, a->domains[i], slice_none());
    }
    if (has_tags && !by_domain)
        join_tags(t);
}

/* ---- rows ---- */

static bool is_nothing(const uint64_t count[COUNT_KINDS])
{
    for (int kind = 0; kind < COUNT_KINDS; kind++)
        if (count[kind] != 0)
            return false;
    return true;
}

static void add_row(struct table *t, const struct row *row)
{
    if (t->group_count == 1 && row->domain.len == 0 && row->tag.len == 0)
        t->rows[t->row_count++] = *row;
    else if (!is_nothing(row->count))
        t->rows[t->row_count++] = *row;
}

static void add_rows(struct table *t, const struct group *g, const struct counter_step *steps,
                     size_t count)
{
    bool by_time = metrics_has_dimension(&t->request, DIMENSION_TIME);
    struct row row = {.domain = g->domain, .tag = g->tag};

    for (size_t i = 0; i < count; i++) {
        row.start_us = steps[i].start_us;
        for (int kind = 0; kind < COUNT_KINDS; kind++)
            row.count[kind] = (by_time ? 0 : row.count[kind]) + steps[i].count[kind];
        if (by_time)
            add_row(t, &row);
    }
    if (!by_time)
        add_row(t, &row);
}

static int make_rows(struct table *t, struct store_txn *txn, struct err *err)
{
    bool by_time = metrics_has_dimension(&t->request, DIMENSION_TIME);
    struct counter_step *steps;

    make_groups(t, txn);
    if (t->group_count * t->step_count > STEPS_MAX)
        return err_set(err, ERR_INPUT,
                       "more than %d steps to read: ask for a shorter range, a coarser resolution "
                       "or fewer tags",
                       STEPS_MAX);
    t->rows = mem_zero(t->group_count * (by_time ? t->step_count : 1) + 1, sizeof *t->rows);
    for (size_t i = 0; i < t->group_count; i++) {
        int count = read_group(t, txn, &t->groups[i], &steps, err);
        if (count < 0)
            return -1;
        add_rows(t, &t->groups[i], steps, (size_t)count);
        free(steps);
    }
    return 0;
}

/* ---- order ---- */

static int compare_u64(uint64_t a, uint64_t b)
{
    return a < b ? -1 : a > b;
}

static int compare_by(enum metrics_dimension d, const struct row *a, const struct row *b)
{
    switch (d) {
    case DIMENSION_TIME:
        return compare_u64(a->start_us, b->start_us);
    case DIMENSION_DOMAIN:
        return slice_cmp(a->domain, b->domain);
    case DIMENSION_TAG:
        return compare_nocase(a->tag, b->tag);
    }
    return 0;
}

static int compare_rows(const void *x, const void *y, void *arg)
{
    const struct metrics_request *r = arg;
    const struct row *a = x, *b = y;
    int order = 0;

    if (r->sorted && r->sort_by != NULL)
        order = compare_u64(metric_value(r->sort_by, a->count), metric_value(r->sort_by, b->count));
    else if (r->sorted)
        order = compare_by(r->sort_dimension, a, b);
    if (r->descending)
        order = -order;
    for (size_t i = 0; i < r->dimension_count && order == 0; i++)
        order = compare_by(r->dimensions[i], a, b);
    return order;
}

/* ---- the answer ---- */

static struct slice date_of(struct table *t, uint64_t us)
{
    struct buf date = {0};

    date_put_rfc1123(&date, us, "+0000");
    struct slice kept = arena_dup(t->arena, buf_slice(&date));
    buf_fini(&date);
    return kept;
}

static void put_dimension(struct buf *to, struct table *t, enum metrics_dimension d,
                          const struct row *row)
{
    struct slice value = d == DIMENSION_TIME     ? date_of(t, row->start_us)
                         : d == DIMENSION_DOMAIN ? row->domain
                                                 : row->tag;

    if (to->ptr[to->len - 1] != '[')
        buf_add_byte(to, ',');
    buf_add_byte(to, '{');
    json_put_str(to, "dimension", slice_str(metrics_dimension_name(d)));
    json_put_str(to, "value", value);
    json_put_str(to, "display_value", value);
    buf_add_byte(to, '}');
}

static void put_metrics(struct buf *to, const struct metrics_request *r,
                        const uint64_t count[COUNT_KINDS])
{
    json_put_name(to, "metrics");
    buf_add_byte(to, '{');
    for (size_t i = 0; i < r->metric_count; i++)
        metric_put(to, r->metrics[i], count);
    buf_add_byte(to, '}');
}

static void put_row(struct buf *to, struct table *t, const struct row *row)
{
    if (to->ptr[to->len - 1] != '[')
        buf_add_byte(to, ',');
    buf_add_str(to, "{\"dimensions\":[");
    for (size_t i = 0; i < t->request.dimension_count; i++)
        put_dimension(to, t, t->request.dimensions[i], row);
    buf_add_byte(to, ']');
    put_metrics(to, &t->request, row->count);
    buf_add_byte(to, '}');
}

static void put_page(struct buf *to, const struct table *t)
{
    const struct metrics_request *r = &t->request;
    const char *by = "";

    if (r->sorted)
        by = r->sort_by != NULL ? r->sort_by->name : metrics_dimension_name(r->sort_dimension);
    else if (r->dimension_count > 0)
        by = metrics_dimension_name(r->dimensions[0]);
    json_put_name(to, "pagination");
    buf_printf(to, "{\"sort\":\"%s%s\"", by, *by == '\0' ? "" : r->descending ? ":desc" : ":asc");
    json_put_u64(to, "skip", r->skip);
    json_put_u64(to, "limit", r->limit);
    json_put_u64(to, "total", t->row_count);
    buf_add_byte(to, '}');
}

static void reply_table(struct exchange *x, struct table *t)
{
    const struct metrics_request *r = &t->request;
    struct buf body = {0};

    buf_add_byte(&body, '{');
    json_put_str(&body, "start", date_of(t, t->total[0].start_us));
    json_put_str(&body, "end", date_of(t, t->total[t->step_count - 1].start_us));
    json_put_str(&body, "resolution", slice_str(metrics_resolution_name(r->resolution)));
    if (r->range.duration.len > 0)
        json_put_str(&body, "duration", r->range.duration);
    json_put_name(&body, "dimensions");
    buf_add_byte(&body, '[');
    for (size_t i = 0; i < r->dimension_count; i++)
        buf_printf(&body, "%s\"%s\"", i > 0 ? "," : "", metrics_dimension_name(r->dimensions[i]));
    buf_add_str(&body, "],\"items\":[");
    for (uint64_t i = r->skip; i < t->row_count && i - r->skip < r->limit; i++)
        put_row(&body, t, &t->rows[i]);
    buf_add_byte(&body, ']');
    put_page(&body, t);
    json_put_name(&body, "aggregates");
    buf_add_byte(&body, '{');
    if (r->wants_aggregates)
        put_metrics(&body, r, t->sum);
    else
        buf_add_str(&body, "\"metrics\":{}");
    buf_add_str(&body, "}}");
    reply_json(x, 200, &body);
}

static void answer(struct exchange *x, struct table *t)
{
    struct store_txn *txn = exchange_begin_read(x);
    struct err err = {0};

    if (txn == NULL)
        return;
    int rc = read_total(t, txn, &err);
    if (rc == 0)
        rc = make_rows(t, txn, &err);
    store_end_read(txn);
    if (rc != 0 && err.code == ERR_INPUT) {
        reply_message(x, 400, arena_printf(&x->arena, "%s", err.text));
        return;
    }
    if (rc != 0) {
        log_err(&err, "metrics cannot be read");
        reply_message(x, 500, SLICE("Internal Server Error"));
        return;
    }
    if (t->row_count > 0)
        qsort_r(t->rows, t->row_count, sizeof *t->rows, compare_rows, &t->request);
    reply_table(x, t);
}

void analytics_metrics_handle(struct exchange *x)
{
    struct table t = {.arena = &x->arena};
    struct metrics_request *r = &t.request;
    struct slice body, why;

    if (!body_read(x, &body))
        return;
    r->domains = arena_array(&x->arena, x->domain_count + 1, sizeof *r->domains);
    for (; r->domain_count < x->domain_count; r->domain_count++)
        r->domains[r->domain_count] = slice_str(x->domains[r->domain_count]->name);
    if (metrics_request_read(r, body, clock_wall_us(), &x->arena, &why))
        answer(x, &t);
    else
        reply_message(x, 400, why);
    table_fini(&t);
}
