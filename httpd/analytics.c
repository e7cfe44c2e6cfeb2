#include "httpd/analytics.h"

#include <stdarg.h>
#include <stdio.h>

#include "mail/date.h"

enum { DURATION_MAX = 100000 };

#define US_PER_HOUR UINT64_C(3600000000)
#define US_PER_DAY  (24 * US_PER_HOUR)

bool analytics_wrong(struct analytics_reading *r, const char *format, ...)
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

/* ---- range ---- */

bool analytics_read_duration(struct slice text, uint64_t *us)
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
        *us = number * US_PER_DAY;
        return true;
    case 'm':
        *us = number * 30 * US_PER_DAY;
        return true;
    default:
        return false;
    }
}

bool analytics_read_range(struct analytics_reading *r, const cJSON *tree, uint64_t back_us,
                          struct analytics_range *range)
{
    struct slice start = json_get_text(tree, "start"), end = json_get_text(tree, "end");

    *range = (struct analytics_range){
        .end_us = r->now_us, .duration = arena_dup(r->arena, json_get_text(tree, "duration"))};
    if (end.len > 0 && !date_parse(end, &range->end_us))
        return analytics_wrong(r, "'end' is not a valid date");
    if (range->duration.len > 0 && !analytics_read_duration(range->duration, &back_us))
        return analytics_wrong(r, "'duration' is a number and h, d or m, as 1d");
    range->start_us = range->end_us > back_us ? range->end_us - back_us : 0;
    if (start.len > 0 && range->duration.len == 0 && !date_parse(start, &range->start_us))
        return analytics_wrong(r, "'start' is not a valid date");
    return range->start_us <= range->end_us || analytics_wrong(r, "'start' is after 'end'");
}

/* ---- filter ---- */

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

static bool read_value(struct analytics_reading *r, const cJSON *v, struct slice *value)
{
    int64_t number;

    if (cJSON_IsObject(v))
        v = json_get(v, "value");
    if (cJSON_IsString(v)) {
        *value = arena_dup(r->arena, json_text(v));
        return true;
    }
    if (!json_i64(v, &number))
        return analytics_wrong(r, "a value is neither a text nor a whole number");
    *value = arena_printf(r->arena, "%lld", (long long)number);
    return true;
}

bool analytics_read_values(struct analytics_reading *r, const cJSON *list,
                           struct slice values[ANALYTICS_VALUES_MAX], size_t *count)
{
    *count = 0;
    for (const cJSON *v = json_first(list); v != NULL; v = v->next) {
        if (*count == ANALYTICS_VALUES_MAX)
            return analytics_wrong(r, "more than %d values", ANALYTICS_VALUES_MAX);
        if (!read_value(r, v, &values[(*count)++]))
            return false;
    }
    return *count > 0 || analytics_wrong(r, "a filter without values");
}

static bool read_predicate(struct analytics_reading *r, const cJSON *tree,
                           struct analytics_predicate *p)
{
    struct slice comparator = json_get_text(tree, "comparator");

    p->attribute = arena_dup(r->arena, json_get_text(tree, "attribute"));
    if (!comparator_of(comparator, &p->how))
        return analytics_wrong(
            r, "'%.*s' is no comparator: =, !=, contains, not contains, <, <=, >, >=",
            SLICE_ARGS(slice_head(comparator, 64)));
    return analytics_read_values(r, json_get(tree, "values"), p->values, &p->count);
}

bool analytics_read_filter(struct analytics_reading *r, const cJSON *filter, analytics_taker *take,
                           void *arg)
{
    struct analytics_predicate predicate;

    if (filter == NULL || cJSON_IsNull(filter))
        return true;
    if (!cJSON_IsObject(filter))
        return analytics_wrong(r, "'filter' is no object");
    for (const cJSON *m = json_first(filter); m != NULL; m = m->next) {
        if (strcmp(m->string, "AND") != 0)
            return analytics_wrong(r, "'filter' holds a list named AND, not '%.64s'", m->string);
        for (const cJSON *p = json_first(m); p != NULL; p = p->next)
            if (!read_predicate(r, p, &predicate) || !take(r, &predicate, arg))
                return false;
    }
    return true;
}

bool analytics_is_of_names(struct analytics_reading *r, const struct analytics_predicate *p)
{
    return p->how == FILTER_EQUAL || p->how == FILTER_NOT_EQUAL || p->how == FILTER_CONTAINS ||
           p->how == FILTER_NOT_CONTAINS ||
           analytics_wrong(r, "'%.*s' is compared with =, !=, contains or not contains",
                           SLICE_ARGS(slice_head(p->attribute, 64)));
}

bool analytics_picks(const struct analytics_predicate *p, struct slice name)
{
    bool whole = p->how == FILTER_EQUAL || p->how == FILTER_NOT_EQUAL;
    bool named = false;

    for (size_t i = 0; i < p->count && !named; i++)
        named = whole ? slice_eq_nocase(p->values[i], name)
                      : slice_find_nocase(name, p->values[i]) != SIZE_MAX;
    return named == (p->how == FILTER_EQUAL || p->how == FILTER_CONTAINS);
}

bool analytics_take_domains(struct analytics_reading *r, const struct analytics_predicate *p,
                            struct slice *domains, size_t *count)
{
    size_t kept = 0;

    if (!analytics_is_of_names(r, p))
        return false;
    for (size_t i = 0; i < *count; i++)
        if (analytics_picks(p, domains[i]))
            domains[kept++] = domains[i];
    *count = kept;
    return true;
}
