#include "httpd/reply.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void expect(struct slice public_url, bool tls, struct slice host, const char *url)
{
    struct buf b = {0};

    reply_base_url(&b, public_url, tls, host);
    assert_string_equal(buf_cstr(&b), url);
    buf_fini(&b);
}

static void links_lead_to_where_the_client_came_from(void **unused)
{
    const struct slice none = {0};

    (void)unused;
    expect(none, false, SLICE("127.0.0.1:8080"), "http://127.0.0.1:8080");
    expect(none, true, SLICE("mail.example.com"), "https://mail.example.com");
    expect(none, false, SLICE("[::1]:8080"), "http://[::1]:8080");
    expect(SLICE("https://mail.example.com/"), false, SLICE("10.0.0.1"),
           "https://mail.example.com");
}

static void a_forged_host_leads_nowhere_else(void **unused)
{
    const struct slice none = {0};

    (void)unused;
    expect(none, false, SLICE("a/../b"), "http://localhost");
    expect(none, false, SLICE("user@evil.example.com"), "http://localhost");
    expect(none, false, SLICE("a\"b"), "http://localhost");
    expect(none, false, none, "http://localhost");
}

static void a_limit_is_named_in_mebibytes(void **unused)
{
    char words[64];

    (void)unused;
    server_size_words(32 << 20, words);
    assert_string_equal(words, "request size exceeds 32MiB limit");
    server_size_words(54945382, words);
    assert_string_equal(words, "request size exceeds 52.4MiB limit");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(links_lead_to_where_the_client_came_from),
        cmocka_unit_test(a_forged_host_leads_nowhere_else),
        cmocka_unit_test(a_limit_is_named_in_mebibytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
