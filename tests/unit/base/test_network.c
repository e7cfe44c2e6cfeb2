#include "base/network.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void holds(const char *network, const char *address, bool yes)
{
    struct network n;
    struct network_address a;

    assert_true(network_read(slice_str(network), &n));
    assert_true(network_address_read(slice_str(address), &a));
    if (network_holds(&n, &a) != yes)
        fail_msg("%s %s %s", network, yes ? "does not hold" : "holds", address);
}

static void a_network_holds_what_has_its_prefix(void **unused)
{
    (void)unused;
    holds("192.0.2.1", "192.0.2.1", true);
    holds("192.0.2.1", "192.0.2.2", false);
    holds("192.0.2.0/24", "192.0.2.255", true);
    holds("192.0.2.0/24", "192.0.3.0", false);
    holds("192.0.2.77/25", "192.0.2.127", true);
    holds("192.0.2.77/25", "192.0.2.128", false);
    holds("10.0.0.0/9", "10.127.255.255", true);
    holds("10.0.0.0/9", "10.128.0.0", false);
    holds("0.0.0.0/0", "203.0.113.9", true);
    holds("0.0.0.0/0", "2001:db8::1", false);
    holds("::/0", "203.0.113.9", true);
    holds("2001:db8::/33", "2001:db8:7fff::1", true);
    holds("2001:db8::/33", "2001:db8:8000::1", false);
    holds("::1", "::1", true);
    holds("::1", "::2", false);
    holds("127.0.0.1", "::ffff:127.0.0.1", true);
    holds("::ffff:10.0.0.0/104", "10.1.2.3", true);
}

static void what_is_none_is_refused(void **unused)
{
    static const char *const bad[] = {"",
                                      "unix",
                                      "192.0.2",
                                      "192.0.2.1/33",
                                      "::1/129",
                                      "::1/",
                                      "192.0.2.1/x",
                                      "192.0.2.256",
                                      "1.2.3.4:80",
                                      "[::1]",
                                      "fe80::1%lo",
                                      "example.com",
                                      "192.0.2.1/-1",
                                      "/8"};
    struct network n;

    (void)unused;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (network_read(slice_str(bad[i]), &n))
            fail_msg("\"%s\" was taken", bad[i]);
}

static void an_address_is_written_as_it_is_read(void **unused)
{
    static const char *const pairs[][2] = {{"192.0.2.1", "192.0.2.1"},
                                           {"::ffff:192.0.2.1", "192.0.2.1"},
                                           {"2001:DB8:0:0::1", "2001:db8::1"}};
    char text[NETWORK_TEXT_BYTES];
    struct network_address a;

    (void)unused;
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        assert_true(network_address_read(slice_str(pairs[i][0]), &a));
        network_address_write(&a, text);
        assert_string_equal(text, pairs[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_network_holds_what_has_its_prefix),
        cmocka_unit_test(what_is_none_is_refused),
        cmocka_unit_test(an_address_is_written_as_it_is_read),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
