#include "httpd/logs_request.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/json.h"
#include "mail/date.h"

enum { VALUES_MAX = 256, DURATION_MAX = 100000 };

#define US_PER_HOUR UINT64_C(3600000000)

/* What the request's parts are read into, and what is wrong with them. */
struct reading {
    struct logs_request *request;
    uint64_t now_us, retention_us;
    struct arena *arena;
    struct slice wrong; /* empty = nothing yet */
};

static bool __attribute__((format(printf, 2, 3))) wrong(struct reading *r, const char *format, ...)
{
    char words[300];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(words, sizeof words, format, args);
    va_end(args);
    if (r->wrong.len == 0)
        r->wrong = arena_dup(r->arena, slice_str(words));
    return false;
}

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

static bool comparator_of(struct slice text, enum filter_comparator *how)
{
    static const struct {
        const char *text;
        enum filter_comparator how;
    } comparators[] = {
        {"=", FILTER_EQUAL},
        {"!=", FILTER_NOT_EQUAL},
        {"contains", FILTER_CONTAINS},
        {"not contains", FILTER_NOT_CONTAINS},
        {"<", FILTER_LESS},
        {"<=", FILTER_LESS_EQUAL},
        {">", FILTER_GREATER},
        {">=", FILTER_GREATER_EQUAL},
    };

    for (size_t i = 0; i < sizeof comparators / sizeof comparators[0]; i++)
        if (slice_eq_nocase(text, slice_str(comparators[i].text))) {
            *how = comparators[i].how;
            return true;
        }
    return false;
}

/* A text, a number, or an object with one of them as its value. */
static bool read_value(struct reading *r, const cJSON *v, struct slice *value)
{
    int64_t number;

    if (cJSON_IsObject(v))
        v = json_get(v, "value");
    if (cJSON_IsString(v)) {
        *value = arena_dup(r->arena, json_text(v));
        return true;
    }
    number = cJSON_IsNumber(v) ? (int64_t)cJSON_GetNumberValue(v) : 0;
    *value = arena_printf(r->arena, "%lld", (long long)number);
    return cJSON_IsNumber(v) || wrong(r, "a value is neither a text nor a number");
}

static bool read_values(struct reading *r, const cJSON *list, struct slice *values, size_t *count)
{
    *count = 0;
    for (const cJSON *v = json_first(list); v != NULL; v = v->next) {
        if (*count == VALUES_MAX)
            return wrong(r, "more than %d values", VALUES_MAX);
        if (!read_value(r, v, &values[(*count)++]))
            return false;
    }
    return *count > 0 || wrong(r, "a filter without values");
}

static bool is_among(const struct slice *list, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (slice_eq_nocase(list[i], slice_str(name)))
            return true;
    return false;
}

/* Which of the key's domains are meant. One that it does not open is as one that is not there. */
static bool take_domains(struct reading *r, enum filter_comparator how, const struct slice *values,
                         size_t count)
{
    struct logs_request *a = r->request;
    size_t kept = 0;

    if (how != FILTER_EQUAL && how != FILTER_NOT_EQUAL)
        return wrong(r, "'domain' is compared with = or !=");
    for (size_t i = 0; i < a->domain_count; i++) {
        struct slice domain = a->domains[i];
        bool named = false;
        for (size_t n = 0; n < count; n++)
            named = named || slice_eq_nocase(values[n], domain);
        if (named == (how == FILTER_EQUAL))
            a->domains[kept++] = domain;
    }
    a->domain_count = kept;
    return true;
}

static bool add(struct reading *r, const char *field, enum filter_comparator how,
                const struct slice *values, size_t count)
{
    struct slice why;

    return filter_add_values(r->request->events.filter, slice_str(field), how, values, count,
                             &why) ||
           wrong(r, "%.*s", SLICE_ARGS(slice_head(why, 250)));
}

static bool read_predicate(struct reading *r, const cJSON *p)
{
    struct slice attribute = json_get_text(p, "attribute"), values[VALUES_MAX];
    struct slice comparator = json_get_text(p, "comparator");
    const char *field = field_of(attribute);
    bool is_domain = slice_eq(attribute, SLICE("domain"));
    enum filter_comparator how;
    size_t count;

    if (!is_domain && field == NULL)
        return wrong(r, "'%.*s' is no attribute that logs can be filtered by",
                     SLICE_ARGS(slice_head(attribute, 64)));
    if (!comparator_of(comparator, &how))
        return wrong(r, "'%.*s' is no comparator: =, !=, contains, not contains, <, <=, >, >=",
                     SLICE_ARGS(slice_head(comparator, 64)));
    if (!read_values(r, json_get(p, "values"), values, &count))
        return false;
    return is_domain ? take_domains(r, how, values, count) : add(r, field, how, values, count);
}

static bool read_filter(struct reading *r, const cJSON *filter)
{
    if (filter == NULL || cJSON_IsNull(filter))
        return true;
    if (!cJSON_IsObject(filter))
        return wrong(r, "'filter' is no object");
    for (const cJSON *m = json_first(filter); m != NULL; m = m->next) {
        if (strcmp(m->string, "AND") != 0)
            return wrong(r, "'filter' holds a list named AND, not '%.64s'", m->string);
        for (const cJSON *p = json_first(m); p != NULL; p = p->next)
            if (!read_predicate(r, p))
                return false;
    }
    return true;
}

static bool read_events(struct reading *r, const cJSON *tree, const char *name, const char *field)
{
    const cJSON *list = json_get(tree, name);
    struct slice values[VALUES_MAX];
    size_t count;

    if (list == NULL || cJSON_IsNull(list) || (cJSON_IsArray(list) && json_first(list) == NULL))
        return true;
    if (!cJSON_IsArray(list))
        return wrong(r, "'%s' is no list", name);
    if (!read_values(r, list, values, &count))
        return false;
    if (is_among(values, count, "unique_opened") || is_among(values, count, "unique_clicked"))
        return wrong(r, "first opens and clicks are told by the statistics, not by events");
    return add(r, field, FILTER_EQUAL, values, count);
}

/* ---- range and page ---- */

static bool read_duration(struct slice text, uint64_t *us)
{
    uint64_t number;

    if (text.len < 2 || !slice_to_u64(slice_head(text, text.len - 1), &number) || number == 0 ||
        number > DURATION_MAX)
        return false;
    switch (text.ptr[text.len - 1]) {
    case 'h':
        *us = number * US_PER_HOUR;
        return true;
    case 'd':
        *us = number * 24 * US_PER_HOUR;
        return true;
    case 'm':
        *us = number * 30 * 24 * US_PER_HOUR;
        return true;
    default:
        return false;
    }
}

static bool read_range(struct reading *r, const cJSON *tree)
{
    struct slice start = json_get_text(tree, "start"), end = json_get_text(tree, "end"),
                 duration = json_get_text(tree, "duration");
    struct logs_request *a = r->request;
    uint64_t back_us = 24 * US_PER_HOUR;

    a->end_us = r->now_us;
    if (end.len > 0 && !date_parse(end, &a->end_us))
        return wrong(r, "'end' is not a valid date");
    if (duration.len > 0 && !read_duration(duration, &back_us))
        return wrong(r, "'duration' is a number and h, d or m, as 1d");
    a->start_us = a->end_us > back_us ? a->end_us - back_us : 0;
    if (start.len > 0 && duration.len == 0 && !date_parse(start, &a->start_us))
        return wrong(r, "'start' is not a valid date");
    return a->start_us <= a->end_us || wrong(r, "'start' is after 'end'");
}

static bool read_sort(struct reading *r, struct slice sort, bool *ascending)
{
    *ascending = slice_eq(sort, SLICE("timestamp:asc"));
    return *ascending || sort.len == 0 || slice_eq(sort, SLICE("timestamp:desc")) ||
           wrong(r, "'sort' is timestamp:asc or timestamp:desc");
}

static bool read_first_page(struct reading *r, const cJSON *pagination)
{
    struct logs_request *a = r->request;
    struct page_token *t = &a->events.token;
    struct buf packed = {0};
    int64_t limit = LOGS_LIMIT_MAX;

    (void)json_get_i64(pagination, "limit", &limit);
    if (limit < 1)
        return wrong(r, "'limit' is not a positive number");
    if (!read_sort(r, json_get_text(pagination, "sort"), &t->ascending))
        return false;
    t->limit = (uint32_t)(limit < LOGS_LIMIT_MAX ? limit : LOGS_LIMIT_MAX);
    t->from_us = a->start_us;
    if (r->now_us > r->retention_us && t->from_us < r->now_us - r->retention_us)
        t->from_us = r->now_us - r->retention_us;
    t->until_us = a->end_us > t->from_us ? a->end_us : t->from_us;
    uint64_t covered_us = events_covered_us(t, r->now_us);
    a->events.ends_now = t->until_us > covered_us;
    if (!t->ascending && covered_us >= t->from_us)
        t->until_us = covered_us;
    t->open_end = t->until_us > covered_us;
    filter_pack(&packed, a->events.filter);
    t->filter = arena_dup(r->arena, buf_slice(&packed));
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
    struct slice kept = arena_dup(r->arena, buf_slice(&text));
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
    if (!page_token_read(token, domains, r->arena, &request->token) ||
        !filter_unpack(request->token.filter, r->arena, &request->filter))
        return wrong(r, "'token' is not valid");
    request->ends_now = request->token.until_us > events_covered_us(&request->token, r->now_us);
    return true;
}

static bool read_request(struct reading *r, const cJSON *tree)
{
    if (!cJSON_IsObject(tree))
        return wrong(r, "Invalid JSON");
    r->request->wants_total = json_get_bool(tree, "include_totals", false);
    return read_events(r, tree, "events", "event") &&
           read_events(r, tree, "metric_events", "metric-event") &&
           read_filter(r, json_get(tree, "filter")) && read_range(r, tree) &&
           read_page(r, json_get(tree, "pagination"));
}

bool logs_request_read(struct logs_request *request, struct slice body, uint64_t now_us,
                       uint64_t retention_us, struct arena *a, struct slice *why)
{
    struct reading r = {
        .request = request, .now_us = now_us, .retention_us = retention_us, .arena = a};

    request->events.filter = filter_create(a);
    cJSON *tree = json_parse(body);
    bool fine = read_request(&r, tree);
    json_free(tree);
    *why = r.wrong;
    return fine;
}
