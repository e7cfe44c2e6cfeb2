/*
 * POST /stats/getNewsletterUsage: how many newsletter mails SES has taken in a range of time. Counted
 * by the hour of the writer's note (store/counters.h), so a range has whole hours: all that it
 * touches, but for one that it only ends at. A range of long ago has whole days.
 *
 * SOURCE  spec/typetale.md.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/json.h"
#include "httpd/body.h"
#include "httpd/reply.h"
#include "mail/date.h"
#include "store/counters.h"

#define MS_MAX INT64_C(253402300799999) /* the end of the year 9999 */
enum { US_PER_MS = 1000 };

struct range {
    uint64_t from_us, until_us;
};

static bool read_range(const cJSON *root, struct range *range)
{
    int64_t from_ms, until_ms;

    if (!json_get_i64(root, "from", &from_ms) || !json_get_i64(root, "to", &until_ms) ||
        from_ms < 0 || until_ms < from_ms || until_ms > MS_MAX)
        return false;
    *range = (struct range){(uint64_t)from_ms * US_PER_MS, (uint64_t)until_ms * US_PER_MS};
    return true;
}

static const struct config_domain *find(const struct exchange *x, struct slice name)
{
    for (size_t i = 0; i < x->domain_count; i++)
        if (slice_eq_nocase(slice_str(x->domains[i]->name), name))
            return x->domains[i];
    return NULL;
}

static void put_time(struct buf *to, const char *name, uint64_t us)
{
    struct buf text = {0};

    date_put_iso8601(&text, us);
    json_put_str(to, name, buf_slice(&text));
    buf_fini(&text);
}

static void reply_usage(struct exchange *x, const struct range *range, uint64_t count)
{
    struct buf body = {0};

    buf_add_str(&body, "{\"status\":\"ok\",\"data\":{\"forRange\":{");
    put_time(&body, "gte", range->from_us);
    put_time(&body, "lte", range->until_us);
    buf_add_byte(&body, '}');
    json_put_str(&body, "message", SLICE("newsletter usage"));
    json_put_u64(&body, "count", count);
    put_time(&body, "timestamp", clock_wall_us());
    buf_add_str(&body, "}}");
    reply_json(x, 200, &body);
}

static void count(struct exchange *x, const struct range *range)
{
    struct counter_query q = {.scope = COUNTER_DOMAIN,
                              .domain = slice_str(x->domain->name),
                              .from_us = range->from_us,
                              .until_us = range->until_us,
                              .resolution = COUNTER_ALL};
    struct counter_step *steps = NULL;
    struct store_txn *t;
    struct err err = {0};
    uint64_t sum = 0;

    if (q.until_us > q.from_us)
        q.until_us--;
    t = x->service->store == NULL ? NULL : store_begin_read(x->service->store, &err);
    if (t == NULL) {
        reply_later(x, 503, 1, SLICE("The store is not ready, please try again"));
        return;
    }
    int n = counters_read(t, &q, &steps, &err);
    for (int i = 0; i < n; i++)
        sum += steps[i].count[COUNT_SENT_NEWSLETTER];
    free(steps);
    store_end_read(t);
    if (n < 0)
        reply_message(x, 400, arena_printf(&x->arena, "%s", err.text));
    else
        reply_usage(x, range, sum);
}

void usage_handle(struct exchange *x)
{
    struct slice body, site = {0};
    struct range range = {0};

    if (!slice_eq(x->route.leaf, SLICE("getNewsletterUsage"))) {
        reply_message(x, 400, SLICE("Invalid action"));
        return;
    }
    if (!body_read(x, &body))
        return;
    cJSON *root = json_parse(body);
    bool is_json = cJSON_IsObject(root), good = is_json && read_range(root, &range);
    if (is_json)
        site = arena_dup(&x->arena, json_get_text(root, "siteId"));
    json_free(root);
    if (good)
        x->domain = find(x, site);
    if (!is_json)
        reply_message(x, 400, SLICE("Invalid JSON in request body"));
    else if (!good)
        reply_message(x, 400,
                      SLICE("'from' and 'to' must be Unix milliseconds, 'to' not before 'from'"));
    else if (x->domain == NULL)
        reply_message(
            x, 404,
            arena_printf(&x->arena, "Domain not found: %.*s", SLICE_ARGS(slice_head(site, 255))));
    else
        count(x, &range);
}
