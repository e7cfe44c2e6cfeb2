#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

#include <cmocka.h>

#include "courier/public_address.h"

static bool is_public(const char *text)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

    if (inet_pton(AF_INET, text, &v4.sin_addr) == 1)
        return address_is_public((const struct sockaddr *)&v4);
    assert_int_equal(inet_pton(AF_INET6, text, &v6.sin6_addr), 1);
    return address_is_public((const struct sockaddr *)&v6);
}

static void what_is_reached_from_anywhere_is_public(void **unused)
{
    static const char *const texts[] = {
        "1.1.1.1",         "9.255.255.255",   "11.0.0.0",        "100.63.255.255",  "100.128.0.0",
        "126.255.255.255", "128.0.0.0",       "169.253.255.255", "172.15.255.255",  "172.32.0.0",
        "192.167.255.255", "192.169.0.0",     "223.255.255.255", "2606:4700::1111", "2a00:1450::1",
        "::ffff:1.1.1.1",  "64:ff9b::808:808"};

    (void)unused;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (!is_public(texts[i]))
            fail_msg("%s", texts[i]);
}

static void this_machine_and_private_networks_are_not(void **unused)
{
    static const char *const texts[] = {"0.0.0.0",
                                        "10.1.2.3",
                                        "100.64.0.1",
                                        "100.127.255.255",
                                        "198.19.255.255",
                                        "127.0.0.1",
                                        "127.255.255.255",
                                        "169.254.169.254",
                                        "172.16.0.1",
                                        "172.31.255.255",
                                        "192.168.0.1",
                                        "198.18.0.1",
                                        "224.0.0.1",
                                        "255.255.255.255",
                                        "::",
                                        "::1",
                                        "fe80::1",
                                        "fc00::1",
                                        "fd00:ec2::254",
                                        "ff02::1",
                                        "::ffff:127.0.0.1",
                                        "::ffff:10.0.0.1",
                                        "::127.0.0.1",
                                        "64:ff9b::7f00:1",
                                        "64:ff9b:1::7f00:1",
                                        "2002:7f00:1::",
                                        "2002:a00:1::",
                                        "2001:db8::1",
                                        "2001::1",
                                        "::ffff:0:127.0.0.1"};

    (void)unused;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (is_public(texts[i]))
            fail_msg("%s", texts[i]);
}

static void another_family_never_is(void **unused)
{
    const struct sockaddr_un un = {.sun_family = AF_UNIX};

    (void)unused;
    assert_false(address_is_public((const struct sockaddr *)&un));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_reached_from_anywhere_is_public),
        cmocka_unit_test(this_machine_and_private_networks_are_not),
        cmocka_unit_test(another_family_never_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
