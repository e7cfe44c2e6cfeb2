/*
 * httpd/analytics.h - what the requests of /v1/analytics/… have in common: their range, the parts of
 * their filter, and what is wrong with them; without I/O.
 *
 * MEMORY  What is read lives in the reading's arena.
 * UNITS   µs since 1970 UTC.
 * ERRORS  false: reading.wrong has words for a 400.
 * SOURCE  spec/mailgun.md §4.9, §7.2; Mailgun's reference of the Metrics API.
 */
#ifndef HTTPD_ANALYTICS_H
#define HTTPD_ANALYTICS_H

#include "base/arena.h"
#include "base/json.h"
#include "mail/filter.h"

enum { ANALYTICS_VALUES_MAX = 256 };

struct analytics_reading {
    struct arena *arena;
    uint64_t now_us;
    struct slice wrong; /* empty = nothing yet */
};

/* Keeps the first words; false. */
bool analytics_wrong(struct analytics_reading *r, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

struct analytics_range {
    uint64_t start_us, end_us;
    struct slice duration; /* as given; empty = none */
};

/* "start", "end" and "duration" of a request; without a start it begins back_us before its end. */
bool analytics_read_range(struct analytics_reading *r, const cJSON *tree, uint64_t back_us,
                          struct analytics_range *range);
/* "12h", "7d", "1m" (30 days). */
bool analytics_read_duration(struct slice text, uint64_t *us);

/* Texts and numbers, or objects with one of them as their "value": one at least. */
bool analytics_read_values(struct analytics_reading *r, const cJSON *list,
                           struct slice values[ANALYTICS_VALUES_MAX], size_t *count);

struct analytics_predicate {
    struct slice attribute;
    enum filter_comparator how;
    struct slice values[ANALYTICS_VALUES_MAX];
    size_t count;
};

/* Calls take for each predicate of the "AND" of a filter, which may be absent. */
typedef bool analytics_taker(struct analytics_reading *r, const struct analytics_predicate *p,
                             void *arg);
bool analytics_read_filter(struct analytics_reading *r, const cJSON *filter, analytics_taker *take,
                           void *arg);

/* Does the predicate pick this name? By =, !=, contains and not contains, whatever the case. */
bool analytics_picks(const struct analytics_predicate *p, struct slice name);
/* Refuses a predicate that compares in another way. */
bool analytics_is_of_names(struct analytics_reading *r, const struct analytics_predicate *p);
/* Keeps those domains, of the key's, that the predicate picks: one that the key does not open is as
 * one that is not there. */
bool analytics_take_domains(struct analytics_reading *r, const struct analytics_predicate *p,
                            struct slice *domains, size_t *count);

#endif
