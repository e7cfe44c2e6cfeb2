#include "httpd/strangers.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/buf.h"

static void mistakes_cost_more_and_more_up_to_a_limit(void **unused)
{
    struct strangers *s = strangers_create();
    const unsigned want[] = {0, 0, 0, 0, 0, 250, 500, 1000, 2000, 4000, 4000, 4000};

    (void)unused;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        assert_int_equal(strangers_note(s, SLICE("192.0.2.1"), 1000 + i), want[i]);
    assert_int_equal(strangers_note(s, SLICE("192.0.2.2"), 2000), 0);
    strangers_destroy(s);
}

static void they_are_forgotten_by_halves(void **unused)
{
    struct strangers *s = strangers_create();

    (void)unused;
    for (int i = 0; i < 7; i++)
        (void)strangers_note(s, SLICE("192.0.2.1"), 1000);
    /* 7 → 3, and this one. */
    assert_int_equal(strangers_note(s, SLICE("192.0.2.1"), 1000 + STRANGERS_FORGET_MS), 0);
    for (int i = 0; i < 1000; i++)
        (void)strangers_note(s, SLICE("192.0.2.1"), 1000);
    assert_int_equal(strangers_note(s, SLICE("192.0.2.1"), 1000 + 20 * STRANGERS_FORGET_MS), 0);
    strangers_destroy(s);
}

static void a_network_of_ipv6_is_one(void **unused)
{
    struct strangers *s = strangers_create();
    struct buf peer = {0};

    (void)unused;
    for (int i = 0; i < STRANGERS_FREE; i++) {
        buf_reset(&peer);
        buf_printf(&peer, "2001:db8:0:1::%x", i);
        assert_int_equal(strangers_note(s, buf_slice(&peer), 1000), 0);
    }
    assert_int_equal(strangers_note(s, SLICE("2001:db8:0:1:ffff::"), 1000), 250);
    assert_int_equal(strangers_note(s, SLICE("2001:db8:0:2::1"), 1000), 0);
    buf_fini(&peer);
    strangers_destroy(s);
}

static void a_crowd_takes_no_memory(void **unused)
{
    struct strangers *s = strangers_create();
    struct buf peer = {0};

    (void)unused;
    for (int i = 0; i < 50000; i++) {
        buf_reset(&peer);
        buf_printf(&peer, "10.%d.%d.%d", i >> 16, i >> 8 & 255, i & 255);
        (void)strangers_note(s, buf_slice(&peer), 1000 + (uint64_t)i);
    }
    buf_fini(&peer);
    strangers_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mistakes_cost_more_and_more_up_to_a_limit),
        cmocka_unit_test(they_are_forgotten_by_halves),
        cmocka_unit_test(a_network_of_ipv6_is_one),
        cmocka_unit_test(a_crowd_takes_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
