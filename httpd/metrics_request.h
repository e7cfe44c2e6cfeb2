/*
 * httpd/metrics_request.h - what the body of POST /v1/analytics/metrics asks for; without I/O.
 *
 * SHAPE   A metric is a sum of counters less others; a rate is one such sum per 10,000 of another,
 *         and is written as text with four decimals ("0.8300"; of nothing: "0.0000").
 * MEMORY  Everything given out lives in the arena; domains borrow from the caller's list.
 * UNITS   µs since 1970 UTC.
 * SOURCE  spec/mailgun.md §7.2; Mailgun's reference of the Metrics API and its metric definitions.
 */
#ifndef HTTPD_METRICS_REQUEST_H
#define HTTPD_METRICS_REQUEST_H

#include "httpd/analytics.h"
#include "store/counters.h"

enum metrics_dimension { DIMENSION_TIME, DIMENSION_DOMAIN, DIMENSION_TAG };

enum {
    METRICS_DIMENSIONS_MAX = 3,
    METRICS_MAX = 48,      /* as many as there are, and some more */
    METRICS_TAG_TESTS = 8, /* predicates about tags */
    METRICS_LIMIT_DEFAULT = 10,
    METRICS_LIMIT_MAX = 1000,
    METRICS_LIMIT_TIME = 1500, /* default and maximum where time is a dimension */
};

struct metric {
    const char *name;
    uint32_t plus, minus;         /* bits: enum count_kind */
    uint32_t per_plus, per_minus; /* a rate: what it is of; else 0 */
};

/* Of these counters; of a rate, 10,000ths. */
uint64_t metric_value(const struct metric *m, const uint64_t count[COUNT_KINDS]);
/* Appends "name":value. */
void metric_put(struct buf *to, const struct metric *m, const uint64_t count[COUNT_KINDS]);

struct metrics_request {
    struct slice *domains; /* the caller's: those that the key opens; here those meant are kept */
    size_t domain_count;
    struct analytics_range range; /* its end is not later than now */
    enum counter_resolution resolution;
    enum metrics_dimension dimensions[METRICS_DIMENSIONS_MAX];
    size_t dimension_count;
    const struct metric *metrics[METRICS_MAX];
    size_t metric_count;
    const struct analytics_predicate *tag_tests[METRICS_TAG_TESTS]; /* of dimension tag */
    size_t tag_test_count;
    struct slice tag;             /* only mail with this tag; empty = all */
    const struct metric *sort_by; /* NULL: by sort_dimension */
    enum metrics_dimension sort_dimension;
    bool sorted, descending; /* not sorted: by the dimensions, in their order */
    bool wants_aggregates;
    uint64_t skip, limit;
};

/* {.domains, .domain_count} before. False: *why are words for a 400. */
bool metrics_request_read(struct metrics_request *request, struct slice body, uint64_t now_us,
                          struct arena *a, struct slice *why);

bool metrics_has_dimension(const struct metrics_request *request, enum metrics_dimension d);
const char *metrics_dimension_name(enum metrics_dimension d);
const char *metrics_resolution_name(enum counter_resolution resolution);

#endif
