#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "mail/date.h"

static void reads(const char *text, uint64_t us)
{
    uint64_t got = 1;

    if (!date_parse(slice_str(text), &got))
        fail_msg("not read: %s", text);
    if (got != us)
        fail_msg("%s: %llu", text, (unsigned long long)got);
}

static void refuses(const char *text)
{
    uint64_t us = 77;

    if (date_parse(slice_str(text), &us) || us != 77)
        fail_msg("taken for a date: %s", text);
}

static void mail_dates_are_read(void **state)
{
    (void)state;
    reads("Fri, 3 May 2013 09:00:00 -0000", 1367571600000000);
    reads("Fri, 03 May 2013 09:00:00 GMT", 1367571600000000);
    reads("03 May 2013 09:00:00 UTC", 1367571600000000);
    reads("Fri, 3 May 2013 11:00 +0200", 1367571600000000);
    reads("Fri, 3 May 2013 11:00:00  0200", 1367571600000000);
    reads("fri, 3 may 13 04:00:00 EST", 1367571600000000);
    reads("Fri, 3 May 2013 09:00:00 +0000 (UTC)", 1367571600000000);
    reads("Thu, 29 Feb 2024 23:59:59 -0030", 1709252999000000);
    reads("Thu, 1 Jan 1970 00:00:00 GMT", 0);
    reads("Mon, 01 Jan 0001 00:00:00 +0000", 0);
}

static void seconds_are_read_with_and_without_a_fraction(void **state)
{
    (void)state;
    reads("1700000000", 1700000000000000);
    reads("1795431260.575", 1795431260575000);
    reads("1795431306.1", 1795431306100000);
    reads("1700000000.123456789", 1700000000123456);
    reads("1700000000.", 1700000000000000);
    reads(" 0 ", 0);
    reads("-5", 0);
}

static void what_is_no_date_is_refused(void **state)
{
    (void)state;
    refuses("");
    refuses("undefined");
    refuses("yesterday");
    refuses("Fri, 31 Apr 2013 09:00:00 GMT");
    refuses("Wed, 29 Feb 2023 09:00:00 GMT");
    refuses("Fri, 3 May 2013 24:00:00 GMT");
    refuses("Fri, 3 May 2013 09:60:00 GMT");
    refuses("Fri, 3 May 2013 09:00:00");
    refuses("Fri, 3 May 2013 09:00:00 LMT");
    refuses("Fri, 3 May 2013 09:00:00 GMT tomorrow");
    refuses("Fri 3 May 2013 09:00:00 GMT");
    refuses("1700000000x");
    refuses("1e9");
    refuses("999999999999999");
    refuses("0x10");
}

static void every_day_of_four_centuries_reads_back(void **state)
{
    struct buf text = {0};

    (void)state;
    for (uint64_t day = 0; day < 146097 + 100; day++) {
        uint64_t us = (day * 86400 + 45296) * 1000000, got;
        buf_reset(&text);
        date_put_rfc1123(&text, us, "GMT");
        assert_true(date_parse(buf_slice(&text), &got));
        assert_true(got == us);
    }
    buf_fini(&text);
}

static void dates_are_written_as_mailgun_writes_them(void **state)
{
    struct buf text = {0};

    (void)state;
    date_put_rfc1123(&text, 1774529955999999, "UTC");
    assert_string_equal(buf_cstr(&text), "Thu, 26 Mar 2026 12:59:15 UTC");
    buf_reset(&text);
    date_put_iso8601(&text, 1774529955418207);
    assert_string_equal(buf_cstr(&text), "2026-03-26T12:59:15.418Z");
    buf_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mail_dates_are_read),
        cmocka_unit_test(seconds_are_read_with_and_without_a_fraction),
        cmocka_unit_test(what_is_no_date_is_refused),
        cmocka_unit_test(every_day_of_four_centuries_reads_back),
        cmocka_unit_test(dates_are_written_as_mailgun_writes_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
