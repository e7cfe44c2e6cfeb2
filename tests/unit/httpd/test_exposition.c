/*
 * Prometheus's text format: numbers, labels with anything in them, buckets that add up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "httpd/exposition.h"

static void expect(struct buf *b, const char *text)
{
    assert_string_equal(buf_cstr(b), text);
    buf_fini(b);
}

static void a_family_says_what_it_is(void **unused)
{
    struct buf b = {0};

    (void)unused;
    exposition_family(&b, "m_total", "counter", "Of C:\\ \"it\".");
    expect(&b, "# HELP m_total Of C:\\\\ \"it\".\n# TYPE m_total counter\n");
}

static void numbers_are_exact(void **unused)
{
    static const struct {
        uint64_t value;
        unsigned decimals;
        const char *text;
    } cases[] = {
        {0, 0, "m 0\n"},
        {0, 6, "m 0\n"},
        {UINT64_MAX, 0, "m 18446744073709551615\n"},
        {UINT64_MAX, 6, "m 18446744073709.551615\n"},
        {1500, 3, "m 1.5\n"},
        {1000000, 6, "m 1\n"},
        {10, 6, "m 0.00001\n"},
        {1, 6, "m 0.000001\n"},
        {1234567, 3, "m 1234.567\n"},
        {1230, 1, "m 123\n"},
    };
    const struct exposition_labels none = {.count = 0};

    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf b = {0};
        exposition_sample(&b, "m", &none, cases[i].value, cases[i].decimals);
        expect(&b, cases[i].text);
    }
}

static void labels_are_escaped(void **unused)
{
    const struct exposition_labels labels = {
        .list = {{"a", SLICE("x\"y\\z\nw")}, {"b", SLICE("")}, {"c", SLICE("zoë,{}")}}, .count = 3};
    struct buf b = {0};

    (void)unused;
    exposition_sample(&b, "m", &labels, 7, 0);
    expect(&b, "m{a=\"x\\\"y\\\\z\\nw\",b=\"\",c=\"zoë,{}\"} 7\n");
}

static void buckets_hold_what_lower_ones_hold(void **unused)
{
    static const struct histogram_scale scale = {{500, 1000, 2500000, UINT64_MAX}};
    const struct histogram_sums sums = {.count = {2, 0, 3, 1}, .sum = 9000001};
    const struct exposition_labels of = {.list = {{"d", SLICE("x")}}, .count = 1};
    struct buf b = {0};

    (void)unused;
    exposition_histogram(&b, "h_seconds", &of, &scale, &sums, 6);
    expect(&b, "h_seconds_bucket{d=\"x\",le=\"0.0005\"} 2\n"
               "h_seconds_bucket{d=\"x\",le=\"0.001\"} 2\n"
               "h_seconds_bucket{d=\"x\",le=\"2.5\"} 5\n"
               "h_seconds_bucket{d=\"x\",le=\"+Inf\"} 6\n"
               "h_seconds_sum{d=\"x\"} 9.000001\n"
               "h_seconds_count{d=\"x\"} 6\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_family_says_what_it_is),
        cmocka_unit_test(numbers_are_exact),
        cmocka_unit_test(labels_are_escaped),
        cmocka_unit_test(buckets_hold_what_lower_ones_hold),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
