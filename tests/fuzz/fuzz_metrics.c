/* The body of POST /v1/analytics/metrics. What is taken must be a range that can be counted, a page
 * and metrics that can be written, whatever the counters hold. */
#include <assert.h>
#include <stdint.h>

#include "base/json.h"
#include "httpd/metrics_request.h"

#define NOW_US UINT64_C(1764000000000000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_metrics(const struct metrics_request *r, const uint8_t *data, size_t size)
{
    uint64_t count[COUNT_KINDS];
    struct buf text = {0};

    for (size_t kind = 0; kind < COUNT_KINDS; kind++)
        count[kind] = size == 0 ? 0 : data[kind * 7 % size];
    buf_add_byte(&text, '{');
    for (size_t i = 0; i < r->metric_count; i++)
        metric_put(&text, r->metrics[i], count);
    buf_add_byte(&text, '}');
    cJSON *tree = json_parse(buf_slice(&text));
    assert(tree != NULL && (size_t)cJSON_GetArraySize(tree) == r->metric_count);
    json_free(tree);
    buf_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice domains[2] = {SLICE("mg.example.com"), SLICE("news.example.org")};
    struct metrics_request r = {.domains = domains, .domain_count = 2};
    struct slice why = slice_none();
    struct arena a = {0};

    bool fine = metrics_request_read(&r, slice_of(data, size), NOW_US, &a, &why);
    assert(fine == (why.len == 0));
    if (fine) {
        assert(r.domain_count <= 2 && r.limit >= 1 && r.limit <= METRICS_LIMIT_TIME);
        assert(r.range.start_us <= r.range.end_us);
        assert(r.dimension_count <= METRICS_DIMENSIONS_MAX && r.metric_count <= METRICS_MAX);
        assert(r.resolution <= COUNTER_MONTH && r.metric_count > 0);
        for (size_t i = 0; i < r.tag_test_count; i++)
            (void)analytics_picks(r.tag_tests[i], SLICE("Weekly"));
        check_metrics(&r, data, size);
    }
    arena_fini(&a);
    return 0;
}
