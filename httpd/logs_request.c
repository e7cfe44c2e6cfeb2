#include "httpd/logs_request.h"

#include "httpd/analytics.h"

#define US_PER_DAY UINT64_C(86400000000)

/* What the request's parts are read into. */
struct reading {
    struct analytics_reading in; /* first */
    struct logs_request *request;
    uint64_t retention_us;
};

/* ---- predicates ---- */

static const struct {
    const char *attribute, *field;
} attributes[] = {
    {"recipient", "recipient"},
    {"recipients", "recipients"},
    {"recipient_domain", "recipient-domain"},
    {"event", "event"},
    {"tag", "tags"},
    {"tags", "tags"},
    {"from", "from"},
    {"to", "to"},
    {"subject", "subject"},
    {"message_id", "message-id"},
    {"size", "size"},
    {"severity", "severity"},
    {"reason", "reason"},
    {"user_variables", "user-variables"},
    {"attachment_filename", "attachment"},
    {"mailing_list_address", "list"},
    {"delivery_status_code", "delivery-status.code"},
    {"delivery_status_message", "delivery-status.message"},
    {"device", "device-type"},
    {"bot", "bot"},
    {"ip", "ip"},
    {"id", "id"},
};

static const char *field_of(struct slice attribute)
{
    for (size_t i = 0; i < sizeof attributes / sizeof attributes[0]; i++)
        if (slice_eq(attribute, slice_str(attributes[i].attribute)))
            return attributes[i].field;
    return NULL;
}

static bool is_among(const struct slice *list, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (slice_eq_nocase(list[i], slice_str(name)))
            return true;
    return false;
}

static bool add(struct reading *r, const char *field, enum filter_comparator how,
                const struct slice *values, size_t count)
{
    struct slice why;

    return filter_add_values(r->request->events.filter, slice_str(field), how, values, count,
                             &why) ||
           analytics_wrong(&r->in, "%.*s", SLICE_ARGS(slice_head(why, 250)));
}

static bool take_predicate(struct analytics_reading *in, const struct analytics_predicate *p,
                           void *arg)
{
    const char *field = field_of(p->attribute);
    struct reading *r = arg;

    if (slice_eq(p->attribute, SLICE("domain")))
        return analytics_take_domains(in, p, r->request->domains, &r->request->domain_count);
    if (field == NULL)
        return analytics_wrong(in, "'%.*s' is no attribute that logs can be filtered by",
                               SLICE_ARGS(slice_head(p->attribute, 64)));
    return add(r, field, p->how, p->values, p->count);
}

static bool read_events(struct reading *r, const cJSON *tree, const char *name, const char *field)
{
    const cJSON *list = json_get(tree, name);
    struct slice values[ANALYTICS_VALUES_MAX];
    size_t count;

    if (list == NULL || cJSON_IsNull(list) || (cJSON_IsArray(list) && json_first(list) == NULL))
        return true;
    if (!cJSON_IsArray(list))
        return analytics_wrong(&r->in, "'%s' is no list", name);
    if (!analytics_read_values(&r->in, list, values, &count))
        return false;
    if (is_among(values, count, "unique_opened") || is_among(values, count, "unique_clicked"))
        return analytics_wrong(&r->in,
                               "first opens and clicks are told by the statistics, not by events");
    return add(r, field, FILTER_EQUAL, values, count);
}

/* ---- page ---- */

static bool read_range(struct reading *r, const cJSON *tree)
{
    struct analytics_range range;

    if (!analytics_read_range(&r->in, tree, US_PER_DAY, &range))
        return false;
    r->request->start_us = range.start_us;
    r->request->end_us = range.end_us;
    return true;
}

static bool read_sort(struct reading *r, struct slice sort, bool *ascending)
{
    *ascending = slice_eq(sort, SLICE("timestamp:asc"));
    return *ascending || sort.len == 0 || slice_eq(sort, SLICE("timestamp:desc")) ||
           analytics_wrong(&r->in, "'sort' is timestamp:asc or timestamp:desc");
}

static bool read_first_page(struct reading *r, const cJSON *pagination)
{
    struct logs_request *a = r->request;
    struct page_token *t = &a->events.token;
    struct buf packed = {0};
    int64_t limit = LOGS_LIMIT_MAX;

    (void)json_get_i64(pagination, "limit", &limit);
    if (limit < 1)
        return analytics_wrong(&r->in, "'limit' is not a positive number");
    if (!read_sort(r, json_get_text(pagination, "sort"), &t->ascending))
        return false;
    t->limit = (uint32_t)(limit < LOGS_LIMIT_MAX ? limit : LOGS_LIMIT_MAX);
    t->from_us = a->start_us;
    if (r->in.now_us > r->retention_us && t->from_us < r->in.now_us - r->retention_us)
        t->from_us = r->in.now_us - r->retention_us;
    t->until_us = a->end_us > t->from_us ? a->end_us : t->from_us;
    uint64_t covered_us = events_covered_us(t, r->in.now_us);
    a->events.ends_now = t->until_us > covered_us;
    if (!t->ascending && covered_us >= t->from_us)
        t->until_us = covered_us;
    t->open_end = t->until_us > covered_us;
    filter_pack(&packed, a->events.filter);
    t->filter = arena_dup(r->in.arena, buf_slice(&packed));
    buf_fini(&packed);
    return true;
}

/* A token goes with the domains that it was given for. */
static struct slice domains_text(struct reading *r)
{
    struct buf text = {0};

    for (size_t i = 0; i < r->request->domain_count; i++) {
        buf_add_slice(&text, r->request->domains[i]);
        buf_add_byte(&text, ',');
    }
    struct slice kept = arena_dup(r->in.arena, buf_slice(&text));
    buf_fini(&text);
    return kept;
}

static bool read_page(struct reading *r, const cJSON *pagination)
{
    struct events_request *request = &r->request->events;
    struct slice token = json_get_text(pagination, "token"), domains = domains_text(r);

    if (token.len == 0) {
        if (!read_first_page(r, pagination))
            return false;
        request->token.domain = domains;
        return true;
    }
    if (!page_token_read(token, domains, r->in.arena, &request->token) ||
        !filter_unpack(request->token.filter, r->in.arena, &request->filter))
        return analytics_wrong(&r->in, "'token' is not valid");
    request->ends_now = request->token.until_us > events_covered_us(&request->token, r->in.now_us);
    return true;
}

static bool read_request(struct reading *r, const cJSON *tree)
{
    if (!cJSON_IsObject(tree))
        return analytics_wrong(&r->in, "Invalid JSON");
    r->request->wants_total = json_get_bool(tree, "include_totals", false);
    return read_events(r, tree, "events", "event") &&
           read_events(r, tree, "metric_events", "metric-event") &&
           analytics_read_filter(&r->in, json_get(tree, "filter"), take_predicate, r) &&
           read_range(r, tree) && read_page(r, json_get(tree, "pagination"));
}

bool logs_request_read(struct logs_request *request, struct slice body, uint64_t now_us,
                       uint64_t retention_us, struct arena *a, struct slice *why)
{
    struct reading r = {
        .in = {.arena = a, .now_us = now_us}, .request = request, .retention_us = retention_us};

    request->events.filter = filter_create(a);
    cJSON *tree = json_parse(body);
    bool fine = read_request(&r, tree);
    json_free(tree);
    *why = r.in.wrong;
    return fine;
}
