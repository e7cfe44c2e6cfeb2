#include "httpd/metrics_request.h"

#define US_PER_DAY UINT64_C(86400000000)

enum { RATE_PARTS = 10000, DAYS_DEFAULT = 7 };

/* ---- metrics ---- */

#define BIT(kind) (1u << (kind))
#define SUPPRESSED                                                                                 \
    (BIT(COUNT_PERMANENT_SUPPRESS_BOUNCE) | BIT(COUNT_PERMANENT_SUPPRESS_COMPLAINT) |              \
     BIT(COUNT_PERMANENT_SUPPRESS_UNSUBSCRIBE))
#define DELIVERED BIT(COUNT_DELIVERED)
#define PERMANENT BIT(COUNT_FAILED_PERMANENT)
#define TEMPORARY BIT(COUNT_FAILED_TEMPORARY)
#define DELAYED   BIT(COUNT_PERMANENT_DELAYED_BOUNCE)
/* Delivered and permanently failed; but a delayed bounce was delivered, too. */
#define PER_PROCESSED .per_plus = DELIVERED | PERMANENT, .per_minus = DELAYED
#define PER_DELIVERED .per_plus = DELIVERED

_Static_assert(COUNT_KINDS <= 32, "a bit for each kind");

/* Those without counters are always 0 here: nothing comes in, and nothing is optimised. */
static const struct metric metrics[] = {
    {"accepted_incoming_count", 0, 0, 0, 0},
    {"accepted_outgoing_count", .plus = BIT(COUNT_ACCEPTED)},
    {"accepted_count", .plus = BIT(COUNT_ACCEPTED)},
    {"delivered_smtp_count", .plus = DELIVERED},
    {"delivered_http_count", 0, 0, 0, 0},
    {"delivered_optimized_count", 0, 0, 0, 0},
    {"delivered_count", .plus = DELIVERED},
    {"stored_count", .plus = BIT(COUNT_STORED)},
    {"processed_count", .plus = DELIVERED | PERMANENT, .minus = DELAYED},
    {"sent_count", .plus = DELIVERED | PERMANENT, .minus = SUPPRESSED},
    {"opened_count", .plus = BIT(COUNT_OPENED)},
    {"unique_opened_count", .plus = BIT(COUNT_OPENED_UNIQUE)},
    {"clicked_count", .plus = BIT(COUNT_CLICKED)},
    {"unique_clicked_count", .plus = BIT(COUNT_CLICKED_UNIQUE)},
    {"unsubscribed_count", .plus = BIT(COUNT_UNSUBSCRIBED)},
    {"complained_count", .plus = BIT(COUNT_COMPLAINED)},
    {"failed_count", .plus = TEMPORARY | PERMANENT},
    {"temporary_failed_count", .plus = TEMPORARY},
    {"permanent_failed_count", .plus = PERMANENT},
    {"temporary_failed_esp_block_count", .plus = BIT(COUNT_TEMPORARY_ESPBLOCK)},
    {"esp_block_count", .plus = BIT(COUNT_TEMPORARY_ESPBLOCK)},
    {"webhook_count", 0, 0, 0, 0},
    {"permanent_failed_optimized_count", 0, 0, 0, 0},
    {"bounced_count", .plus = PERMANENT, .minus = SUPPRESSED},
    {"hard_bounces_count", .plus = BIT(COUNT_PERMANENT_BOUNCE)},
    {"delayed_bounce_count", .plus = DELAYED},
    {"suppressed_bounces_count", .plus = BIT(COUNT_PERMANENT_SUPPRESS_BOUNCE)},
    {"suppressed_unsubscribed_count", .plus = BIT(COUNT_PERMANENT_SUPPRESS_UNSUBSCRIBE)},
    {"suppressed_complaints_count", .plus = BIT(COUNT_PERMANENT_SUPPRESS_COMPLAINT)},
    {"delivered_rate", .plus = DELIVERED, .per_plus = DELIVERED | PERMANENT,
     .per_minus = SUPPRESSED},
    {"opened_rate", .plus = BIT(COUNT_OPENED), PER_DELIVERED},
    {"unique_opened_rate", .plus = BIT(COUNT_OPENED_UNIQUE), PER_DELIVERED},
    {"clicked_rate", .plus = BIT(COUNT_CLICKED), PER_DELIVERED},
    {"unique_clicked_rate", .plus = BIT(COUNT_CLICKED_UNIQUE), PER_DELIVERED},
    {"unsubscribed_rate", .plus = BIT(COUNT_UNSUBSCRIBED), PER_DELIVERED},
    {"complained_rate", .plus = BIT(COUNT_COMPLAINED), PER_DELIVERED},
    {"bounce_rate", .plus = PERMANENT, .minus = SUPPRESSED, PER_PROCESSED},
    {"fail_rate", .plus = TEMPORARY | PERMANENT, PER_PROCESSED},
    {"permanent_fail_rate", .plus = PERMANENT, PER_PROCESSED},
    {"temporary_fail_rate", .plus = TEMPORARY, PER_PROCESSED},
};

enum { METRIC_COUNT = sizeof metrics / sizeof metrics[0] };
_Static_assert((int)METRIC_COUNT <= (int)METRICS_MAX, "room for each metric once");

static const struct metric *metric_find(struct slice name)
{
    for (size_t i = 0; i < METRIC_COUNT; i++)
        if (slice_eq(name, slice_str(metrics[i].name)))
            return &metrics[i];
    return NULL;
}

static uint64_t sum(uint32_t plus, uint32_t minus, const uint64_t count[COUNT_KINDS])
{
    uint64_t more = 0, less = 0;

    for (unsigned kind = 0; kind < COUNT_KINDS; kind++) {
        more += (plus >> kind & 1u) != 0 ? count[kind] : 0;
        less += (minus >> kind & 1u) != 0 ? count[kind] : 0;
    }
    return more > less ? more - less : 0;
}

uint64_t metric_value(const struct metric *m, const uint64_t count[COUNT_KINDS])
{
    uint64_t value = sum(m->plus, m->minus, count);

    if (m->per_plus == 0)
        return value;
    uint64_t of = sum(m->per_plus, m->per_minus, count);
    return of == 0 ? 0 : (value * RATE_PARTS + of / 2) / of;
}

void metric_put(struct buf *to, const struct metric *m, const uint64_t count[COUNT_KINDS])
{
    uint64_t value = metric_value(m, count);

    if (m->per_plus == 0) {
        json_put_u64(to, m->name, value);
        return;
    }
    json_put_name(to, m->name);
    buf_printf(to, "\"%llu.%04u\"", (unsigned long long)(value / RATE_PARTS),
               (unsigned)(value % RATE_PARTS));
}

/* ---- dimensions ---- */

static const char *const dimension_names[] = {
    [DIMENSION_TIME] = "time", [DIMENSION_DOMAIN] = "domain", [DIMENSION_TAG] = "tag"};

static const char *const resolution_names[] = {
    [COUNTER_HOUR] = "hour", [COUNTER_DAY] = "day", [COUNTER_MONTH] = "month"};

const char *metrics_dimension_name(enum metrics_dimension d)
{
    return dimension_names[d];
}

const char *metrics_resolution_name(enum counter_resolution resolution)
{
    return resolution_names[resolution];
}

static bool dimension_of(struct slice name, enum metrics_dimension *d)
{
    for (unsigned i = 0; i < sizeof dimension_names / sizeof dimension_names[0]; i++)
        if (slice_eq(name, slice_str(dimension_names[i]))) {
            *d = (enum metrics_dimension)i;
            return true;
        }
    return false;
}

bool metrics_has_dimension(const struct metrics_request *request, enum metrics_dimension d)
{
    for (size_t i = 0; i < request->dimension_count; i++)
        if (request->dimensions[i] == d)
            return true;
    return false;
}

/* ---- the request ---- */

struct reading {
    struct analytics_reading in; /* first */
    struct metrics_request *request;
};

static bool is_absent(const cJSON *v)
{
    return v == NULL || cJSON_IsNull(v);
}

static bool read_dimensions(struct reading *r, const cJSON *list)
{
    struct metrics_request *a = r->request;
    enum metrics_dimension d = DIMENSION_TIME;

    if (!is_absent(list) && !cJSON_IsArray(list))
        return analytics_wrong(&r->in, "'dimensions' is no list");
    for (const cJSON *v = json_first(list); v != NULL; v = v->next) {
        if (!dimension_of(json_text(v), &d))
            return analytics_wrong(&r->in,
                                   "'%.*s' is no dimension that is counted here: time, domain, tag",
                                   SLICE_ARGS(slice_head(json_text(v), 64)));
        if (!metrics_has_dimension(a, d))
            a->dimensions[a->dimension_count++] = d;
    }
    return true;
}

static bool has_metric(const struct metrics_request *a, const struct metric *m)
{
    for (size_t i = 0; i < a->metric_count; i++)
        if (a->metrics[i] == m)
            return true;
    return false;
}

static bool read_metrics(struct reading *r, const cJSON *list)
{
    struct metrics_request *a = r->request;

    if (!is_absent(list) && !cJSON_IsArray(list))
        return analytics_wrong(&r->in, "'metrics' is no list");
    for (const cJSON *v = json_first(list); v != NULL; v = v->next) {
        const struct metric *m = metric_find(json_text(v));
        if (m == NULL)
            return analytics_wrong(&r->in, "'%.*s' is no metric that is counted here",
                                   SLICE_ARGS(slice_head(json_text(v), 64)));
        if (!has_metric(a, m))
            a->metrics[a->metric_count++] = m;
    }
    for (; json_first(list) == NULL && a->metric_count < METRIC_COUNT; a->metric_count++)
        a->metrics[a->metric_count] = &metrics[a->metric_count];
    return true;
}

static bool take_tag_test(struct reading *r, const struct analytics_predicate *p)
{
    struct metrics_request *a = r->request;

    if (!analytics_is_of_names(&r->in, p))
        return false;
    if (a->tag_test_count == METRICS_TAG_TESTS)
        return analytics_wrong(&r->in, "more than %d filters by tag", METRICS_TAG_TESTS);
    struct analytics_predicate *kept = arena_alloc(r->in.arena, sizeof *kept);
    *kept = *p;
    a->tag_tests[a->tag_test_count++] = kept;
    return true;
}

static bool take_predicate(struct analytics_reading *in, const struct analytics_predicate *p,
                           void *arg)
{
    struct reading *r = arg;

    if (slice_eq(p->attribute, SLICE("domain")))
        return analytics_take_domains(in, p, r->request->domains, &r->request->domain_count);
    if (slice_eq(p->attribute, SLICE("tag")))
        return take_tag_test(r, p);
    return analytics_wrong(in,
                           "'%.*s' is no attribute that metrics can be filtered by: domain, tag",
                           SLICE_ARGS(slice_head(p->attribute, 64)));
}

/* A mail counts for each of its tags, so counters tell what has one tag, and no union of them. */
static bool settle_tags(struct reading *r)
{
    struct metrics_request *a = r->request;
    const struct analytics_predicate *only = a->tag_tests[0];
    bool one = a->tag_test_count == 1 && only->how == FILTER_EQUAL && only->count == 1;

    if (one)
        a->tag = only->values[0];
    if (one || a->tag_test_count == 0)
        return true;
    if (!metrics_has_dimension(a, DIMENSION_TAG))
        return analytics_wrong(&r->in, "without dimension 'tag' a filter by tag names one (=)");
    return !a->wants_aggregates ||
           analytics_wrong(&r->in, "aggregates are of all mail, or of one tag: mail with several "
                                   "tags would count more than once");
}

static bool read_resolution(struct reading *r, struct slice name)
{
    for (unsigned i = COUNTER_HOUR; i <= COUNTER_MONTH; i++)
        if (slice_eq(name, slice_str(resolution_names[i]))) {
            r->request->resolution = (enum counter_resolution)i;
            return true;
        }
    r->request->resolution = COUNTER_DAY;
    return name.len == 0 || analytics_wrong(&r->in, "'resolution' is hour, day or month");
}

static bool read_range(struct reading *r, const cJSON *tree)
{
    struct analytics_range *range = &r->request->range;

    if (!analytics_read_range(&r->in, tree, DAYS_DEFAULT * US_PER_DAY, range))
        return false;
    if (range->end_us > r->in.now_us)
        range->end_us = range->start_us > r->in.now_us ? range->start_us : r->in.now_us;
    return true;
}

/* "time:asc", "delivered_count:desc": a dimension or a metric that is asked for. */
static bool read_sort(struct reading *r, struct slice sort)
{
    struct metrics_request *a = r->request;
    struct slice what, how;

    if (sort.len == 0)
        return true;
    slice_cut(sort, ':', &what, &how);
    a->sorted = true;
    a->descending = slice_eq_nocase(how, SLICE("desc"));
    if (!a->descending && how.len > 0 && !slice_eq_nocase(how, SLICE("asc")))
        return analytics_wrong(&r->in, "'sort' ends in :asc or :desc");
    a->sort_by = metric_find(what);
    if (a->sort_by != NULL
            ? has_metric(a, a->sort_by)
            : dimension_of(what, &a->sort_dimension) && metrics_has_dimension(a, a->sort_dimension))
        return true;
    return analytics_wrong(&r->in, "'sort' names none of the dimensions and metrics asked for");
}

static bool read_page(struct reading *r, const cJSON *page)
{
    bool by_time = metrics_has_dimension(r->request, DIMENSION_TIME);
    int64_t most = by_time ? METRICS_LIMIT_TIME : METRICS_LIMIT_MAX, skip = 0;
    int64_t limit = by_time ? METRICS_LIMIT_TIME : METRICS_LIMIT_DEFAULT;

    (void)json_get_i64(page, "limit", &limit);
    (void)json_get_i64(page, "skip", &skip);
    if (limit < 1)
        return analytics_wrong(&r->in, "'limit' is not a positive number");
    if (skip < 0)
        return analytics_wrong(&r->in, "'skip' is a negative number");
    r->request->skip = (uint64_t)skip;
    r->request->limit = (uint64_t)(limit < most ? limit : most);
    return read_sort(r, json_get_text(page, "sort"));
}

static bool read_request(struct reading *r, const cJSON *tree)
{
    if (!cJSON_IsObject(tree))
        return analytics_wrong(&r->in, "Invalid JSON");
    r->request->wants_aggregates = json_get_bool(tree, "include_aggregates", false);
    return read_dimensions(r, json_get(tree, "dimensions")) &&
           read_metrics(r, json_get(tree, "metrics")) &&
           read_resolution(r, json_get_text(tree, "resolution")) && read_range(r, tree) &&
           analytics_read_filter(&r->in, json_get(tree, "filter"), take_predicate, r) &&
           settle_tags(r) && read_page(r, json_get(tree, "pagination"));
}

bool metrics_request_read(struct metrics_request *request, struct slice body, uint64_t now_us,
                          struct arena *a, struct slice *why)
{
    struct reading r = {.in = {.arena = a, .now_us = now_us}, .request = request};

    cJSON *tree = json_parse(body);
    bool fine = read_request(&r, tree);
    json_free(tree);
    *why = r.in.wrong;
    return fine;
}
