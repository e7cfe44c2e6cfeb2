#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "mail/webhook.h"

static void a_body_is_signed_as_receivers_check_it(void **unused)
{
    const uint8_t token[WEBHOOK_SECRET_BYTES] = {0};
    struct event e = {
        .type = EVENT_DELIVERED,
        .timestamp_us = 1529006854329574,
        .ses_us = 1529006854329574,
        .domain = SLICE("mg.example.com"),
        .recipient = SLICE("a@example.net"),
        .message_id = SLICE("1@mg.example.com"),
    };
    struct buf body = {0}, event = {0};

    (void)unused;
    webhook_body(&body, SLICE("a signing key"), 1529006854, token, &e, slice_none());
    /* printf '1529006854%050d' 0 | openssl dgst -sha256 -hmac 'a signing key' */
    const char *head =
        "{\"signature\":{\"timestamp\":\"1529006854\","
        "\"token\":\"00000000000000000000000000000000000000000000000000\","
        "\"signature\":\"f430405cd417470829e99d2e8ff88d14b558b7d74dca0759632e805e09c64edf\"},"
        "\"event-data\":";
    assert_true(slice_starts(buf_slice(&body), slice_str(head)));
    event_to_json(&event, &e, slice_none());
    struct slice rest = slice_from(buf_slice(&body), strlen(head));
    assert_int_equal(rest.len, event.len + 1);
    assert_true(slice_starts(rest, buf_slice(&event)));
    assert_int_equal(rest.ptr[rest.len - 1], '}');
    buf_fini(&event);
    buf_fini(&body);
}

static void a_token_is_shown_in_hexadecimal_and_changes_the_signature(void **unused)
{
    uint8_t token[WEBHOOK_SECRET_BYTES];
    struct event e = {.type = EVENT_OPENED, .timestamp_us = 1, .domain = SLICE("x.example")};
    struct buf one = {0}, two = {0};
    const size_t before = strlen("{\"signature\":{\"timestamp\":\"7\",\"token\":\"");

    (void)unused;
    for (size_t i = 0; i < sizeof token; i++)
        token[i] = (uint8_t)(0xf0 + i % 10);
    webhook_body(&one, SLICE("k"), 7, token, &e, slice_none());
    assert_true(slice_starts(slice_from(buf_slice(&one), before), SLICE("f0f1f2f3f4f5f6f7f8f9f0")));
    token[24] ^= 1;
    webhook_body(&two, SLICE("k"), 7, token, &e, slice_none());
    const size_t at = before + 50 + strlen("\",\"signature\":\"");
    assert_memory_not_equal(one.ptr + at, two.ptr + at, 64);
    buf_fini(&one);
    buf_fini(&two);
}

static void kinds_have_mailguns_names_and_the_older_ones(void **unused)
{
    (void)unused;
    for (unsigned kind = WEBHOOK_NONE + 1; kind < WEBHOOK_KIND_END; kind++) {
        const char *name = webhook_kind_name((enum webhook_kind)kind);
        assert_true(name[0] != '\0');
        assert_int_equal(webhook_kind_from(slice_str(name)), kind);
    }
    assert_int_equal(webhook_kind_from(SLICE("unsubscribe")), WEBHOOK_UNSUBSCRIBED);
    assert_int_equal(webhook_kind_from(SLICE("drop")), WEBHOOK_PERMANENT_FAIL);
    assert_int_equal(webhook_kind_from(SLICE("spam")), WEBHOOK_COMPLAINED);
    assert_int_equal(webhook_kind_from(SLICE("stored")), WEBHOOK_NONE);
    assert_int_equal(webhook_kind_from(SLICE("")), WEBHOOK_NONE);
}

static void an_event_is_of_the_kind_that_its_type_and_severity_say(void **unused)
{
    static const struct {
        enum event_type type;
        enum event_severity severity;
        enum webhook_kind kind;
    } cases[] = {
        {EVENT_ACCEPTED, SEVERITY_NONE, WEBHOOK_ACCEPTED},
        {EVENT_DELIVERED, SEVERITY_NONE, WEBHOOK_DELIVERED},
        {EVENT_OPENED, SEVERITY_NONE, WEBHOOK_OPENED},
        {EVENT_CLICKED, SEVERITY_NONE, WEBHOOK_CLICKED},
        {EVENT_UNSUBSCRIBED, SEVERITY_NONE, WEBHOOK_UNSUBSCRIBED},
        {EVENT_COMPLAINED, SEVERITY_NONE, WEBHOOK_COMPLAINED},
        {EVENT_FAILED, SEVERITY_PERMANENT, WEBHOOK_PERMANENT_FAIL},
        {EVENT_FAILED, SEVERITY_TEMPORARY, WEBHOOK_TEMPORARY_FAIL},
        {EVENT_REJECTED, SEVERITY_NONE, WEBHOOK_NONE},
        {EVENT_STORED, SEVERITY_NONE, WEBHOOK_NONE},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct event e = {.type = cases[i].type, .severity = cases[i].severity};
        assert_int_equal(webhook_kind_of(&e), cases[i].kind);
    }
}

static void a_url_is_http_with_a_host(void **unused)
{
    static const char *const good[] = {"http://example.com", "https://example.com/a?b=c#d",
                                       "HTTPS://user:pass%40word@example.com:8443/x",
                                       "http://[::1]:80/", "http://192.0.2.1/"};
    static const char *const bad[] = {"",
                                      "example.com/a",
                                      "ftp://example.com/",
                                      "file:///etc/passwd",
                                      "http://",
                                      "https:///path",
                                      "http://exa mple.com/",
                                      "http://example.com/\r\nX: y",
                                      "http://example.com/\xc3\xa9"};
    struct buf text = {0};
    const char *why;

    (void)unused;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(webhook_url_is_valid(slice_str(good[i]), &why));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(webhook_url_is_valid(slice_str(bad[i]), &why));
        assert_non_null(why);
    }
    assert_false(webhook_url_is_valid(slice_of("http://a/\0b", 11), &why));
    buf_add_str(&text, "http://example.com/");
    while (text.len < WEBHOOK_URL_BYTES_MAX)
        buf_add_byte(&text, 'a');
    assert_true(webhook_url_is_valid(buf_slice(&text), &why));
    buf_add_byte(&text, 'a');
    assert_false(webhook_url_is_valid(buf_slice(&text), &why));
    buf_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_body_is_signed_as_receivers_check_it),
        cmocka_unit_test(a_token_is_shown_in_hexadecimal_and_changes_the_signature),
        cmocka_unit_test(kinds_have_mailguns_names_and_the_older_ones),
        cmocka_unit_test(an_event_is_of_the_kind_that_its_type_and_severity_say),
        cmocka_unit_test(a_url_is_http_with_a_host),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
