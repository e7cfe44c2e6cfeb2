/* Times as AWS writes them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/clock.h"

static void times_are_read_with_fraction_and_offset(void **unused)
{
    const uint64_t us = UINT64_C(1772389205000000);

    (void)unused;
    assert_true(clock_read_iso8601_us(SLICE("2026-03-01T18:20:05Z")) == us);
    assert_true(clock_read_iso8601_us(SLICE("2026-03-01T18:20:05")) == us);
    assert_true(clock_read_iso8601_us(SLICE("2026-03-01T18:20:05.000Z")) == us);
    assert_true(clock_read_iso8601_us(SLICE("2026-03-01T18:20:05.25Z")) == us + 250000);
    assert_true(clock_read_iso8601_us(SLICE("2026-03-01T18:20:05.1234567Z")) == us + 123456);
    assert_true(clock_read_iso8601_us(SLICE("2026-03-01T20:20:05+02:00")) == us);
    assert_true(clock_read_iso8601_us(SLICE("2026-03-01T12:50:05.5-0530")) == us + 500000);
    assert_true(clock_read_iso8601_us(SLICE("2024-02-29T00:00:00Z")) == UINT64_C(1709164800000000));
}

static void what_is_no_time_is_zero(void **unused)
{
    static const char *const no[] = {"",
                                     "soon",
                                     "2026-03-01",
                                     "2026-03-01 18:20:05",
                                     "2026-3-1T18:20:05Z",
                                     "2026-03-01T 8:20:05Z",
                                     "2026-03-01T+8:20:05Z",
                                     "2026-03-01T18:20:5Z",
                                     "0001-01-01T00:00:00Z",
                                     "2026-03-01T18:20:05X",
                                     "2026-03-01T18:20:05Z and more",
                                     "2026-03-01T18:20:05+",
                                     "2026-03-01T18:20:05+-1:00"};

    (void)unused;
    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++)
        if (clock_read_iso8601_us(slice_str(no[i])) != 0)
            fail_msg("%s", no[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_are_read_with_fraction_and_offset),
        cmocka_unit_test(what_is_no_time_is_zero),
    };
    return cmocka_run_group_tests_name("base/clock", tests, NULL, NULL);
}
