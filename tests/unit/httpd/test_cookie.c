/* tests/unit/httpd/test_cookie.c - the session's cookie among others, and what is none. */
#include "httpd/cookie.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define HEX32 "00112233445566778899aabbccddeeff"
#define HEX64 HEX32 HEX32

static bool reads(const char *header, uint8_t secret[COOKIE_SECRET_BYTES])
{
    return cookie_read(slice_str(header), secret);
}

static void a_session_is_found_among_other_cookies(void **unused)
{
    uint8_t secret[COOKIE_SECRET_BYTES];

    (void)unused;
    assert_true(reads("postern_session=" HEX64, secret));
    assert_int_equal(secret[1], 0x11);
    assert_int_equal(secret[31], 0xff);
    assert_true(reads("a=b; postern_session=" HEX64 "; c=d", secret));
    assert_true(reads("postern_session=old;postern_session=" HEX64, secret));
}

static void what_is_not_whole_is_none(void **unused)
{
    static const char *const none[] = {
        "",
        ";",
        "=",
        "postern_session",
        "postern_session=",
        "postern_session=" HEX32,
        "postern_session=" HEX64 "0",
        "postern_session=" HEX64 "00",
        "postern_session=" HEX32 "0011223344556677889 aabbccddeeff",
        "postern_session=" HEX32 "0011223344556677889gaabbccddeeff",
        "xpostern_session=" HEX64,
        "Postern_session=" HEX64,
        "a=postern_session=" HEX64,
    };
    uint8_t secret[COOKIE_SECRET_BYTES];

    (void)unused;
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_false(reads(none[i], secret));
    assert_false(cookie_read(slice_of("postern_session=\0", 17), secret));
}

static void what_is_put_is_read_and_says_for_whom(void **unused)
{
    uint8_t secret[COOKIE_SECRET_BYTES] = {1, 2, 3}, again[COOKIE_SECRET_BYTES];
    struct buf to = {0};

    (void)unused;
    cookie_put(&to, secret, SLICE("/x"), 60, true);
    assert_true(cookie_read(buf_slice(&to), again));
    assert_memory_equal(secret, again, sizeof secret);
    assert_non_null(
        strstr(buf_cstr(&to), "; Path=/x/; Max-Age=60; HttpOnly; SameSite=Strict; Secure"));
    buf_reset(&to);
    cookie_put(&to, secret, SLICE("/x"), 0, false);
    assert_string_equal(buf_cstr(&to),
                        "postern_session=; Path=/x/; Max-Age=0; HttpOnly; SameSite=Strict");
    buf_fini(&to);
}

static void each_session_has_a_token_of_its_own(void **unused)
{
    uint8_t one[COOKIE_SECRET_BYTES] = {1}, two[COOKIE_SECRET_BYTES] = {2};
    struct buf a = {0}, b = {0}, again = {0};

    (void)unused;
    cookie_csrf(&a, one);
    cookie_csrf(&b, two);
    cookie_csrf(&again, one);
    assert_int_equal(a.len, 64);
    assert_true(slice_eq(buf_slice(&a), buf_slice(&again)));
    assert_false(slice_eq(buf_slice(&a), buf_slice(&b)));
    buf_fini(&a);
    buf_fini(&b);
    buf_fini(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_is_found_among_other_cookies),
        cmocka_unit_test(what_is_not_whole_is_none),
        cmocka_unit_test(what_is_put_is_read_and_says_for_whom),
        cmocka_unit_test(each_session_has_a_token_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
