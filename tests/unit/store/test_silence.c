#include "store/silence.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void mail_without_events_is_an_alarm_after_a_while(void **unused)
{
    struct silence s = {0};

    (void)unused;
    assert_int_equal(silence_of(&s, 0, 1000, 60000), 0);
    assert_int_equal(silence_of(&s, 10, 2000, 60000), 0);
    assert_int_equal(silence_of(&s, 20, 61999, 60000), 0);
    assert_int_equal(silence_of(&s, 20, 62000, 60000), 20);
    assert_int_equal(silence_of(&s, 20, 62000, 0), 0);
    silence_heard(&s, 20);
    assert_int_equal(silence_of(&s, 20, 200000, 60000), 0);
    assert_int_equal(silence_of(&s, 25, 200001, 60000), 0);
    assert_int_equal(silence_of(&s, 25, 260001, 60000), 5);
}

static void a_few_prove_nothing_and_a_new_count_begins_anew(void **unused)
{
    struct silence s = {0};

    (void)unused;
    assert_int_equal(silence_of(&s, 4, 1000, 60000), 0);
    assert_int_equal(silence_of(&s, 4, 999000, 60000), 0);
    silence_heard(&s, 100);
    assert_int_equal(silence_of(&s, 6, 1000000, 60000), 0);
    assert_int_equal(silence_of(&s, 6, 1060000, 60000), 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mail_without_events_is_an_alarm_after_a_while),
        cmocka_unit_test(a_few_prove_nothing_and_a_new_count_begins_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
