#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "mail/address.h"

/* A list as "name|address;name|address;", or "bad". */
static void expect(const char *list, const char *want)
{
    struct arena a = {0};
    struct buf got = {0};
    struct slice rest = slice_str(list);
    struct mailbox m;
    enum address_result result;

    while ((result = address_next(&rest, &a, &m)) == ADDRESS_OK) {
        buf_add_slice(&got, m.name);
        buf_add_byte(&got, '|');
        buf_add_slice(&got, m.address);
        buf_add_byte(&got, ';');
    }
    if (result == ADDRESS_BAD) {
        buf_reset(&got);
        buf_add_str(&got, "bad");
    }
    assert_string_equal(buf_cstr(&got), want);
    buf_fini(&got);
    arena_fini(&a);
}

static void bare_addresses_come_out_as_written(void **unused)
{
    (void)unused;
    expect("a@b.example", "|a@b.example;");
    expect("  Mixed.Case+tag@Example.ORG\t", "|Mixed.Case+tag@Example.ORG;");
    expect("a@b.c,d@e.f, ,, g@h.i,", "|a@b.c;|d@e.f;|g@h.i;");
    expect("\"odd, @local\"@b.c", "|\"odd, @local\"@b.c;");
    expect("dots..in.@docomo.example", "|dots..in.@docomo.example;");
    expect("zoë@b.c", "|zoë@b.c;");
    expect("a@bücher.example", "|a@bücher.example;");
    expect("", "");
    expect(" , ", "");
}

static void names_are_unquoted_and_decoded(void **unused)
{
    (void)unused;
    expect("\"E2E \\\"Gazette\\\" & Söhne\" <x@y.z>", "E2E \"Gazette\" & Söhne|x@y.z;");
    expect("Bob  B. <b@x.io>", "Bob B.|b@x.io;");
    expect("\"Last, First\" <a@b.c>, Zoë <z@b.c>", "Last, First|a@b.c;Zoë|z@b.c;");
    expect("\"two  blanks\" stay <a@b.c>", "two  blanks stay|a@b.c;");
    expect("<a@b.c>", "|a@b.c;");
    expect("a@b.c <a@b.c>", "a@b.c|a@b.c;");
    expect("\"tail\\\\\" <a@b.c>", "tail\\|a@b.c;");
}

static void comments_are_left_out(void **unused)
{
    (void)unused;
    expect("a@b.c (Bob (really, \\) Bob))", "|a@b.c;");
    expect("Bob(x)by <a@b.c(here)> (there)", "Bob by|a@b.c;");
    expect("(before) a@b.c", "|a@b.c;");
}

static void encoded_words_become_utf8(void **unused)
{
    (void)unused;
    expect("=?utf-8?q?Katie_Brewer=2C?= <joe@x.io>", "Katie Brewer,|joe@x.io;");
    expect("=?UTF-8?B?Wm/Dqw==?= <z@x.io>", "Zoë|z@x.io;");
    expect("=?iso-8859-1?Q?Zo=EB?= <z@x.io>", "Zoë|z@x.io;");
    expect("=?utf-8*en?q?a?= =?utf-8?q?b?= c <z@x.io>", "ab c|z@x.io;");
    expect("=?utf-8?q?Zo=C3?= =?utf-8?q?=AB?= <z@x.io>", "Zoë|z@x.io;"); /* one letter in two */
    expect("=?utf-8?q?a?==?utf-8?q?b?= <z@x.io>", "ab|z@x.io;");
    expect("x=?utf-8?q?a?= <z@x.io>", "xa|z@x.io;");
    /* What cannot be read stays as it is. */
    expect("=?koi8-r?q?a?= <z@x.io>", "=?koi8-r?q?a?=|z@x.io;");
    expect("=?utf-8?q?=ZZ?= <z@x.io>", "=?utf-8?q?=ZZ?=|z@x.io;");
    expect("=?utf-8?q?=FF?= <z@x.io>", "=?utf-8?q?=FF?=|z@x.io;");
    expect("=?utf-8?q?open <z@x.io>", "=?utf-8?q?open|z@x.io;");
}

static void a_decoded_name_cannot_break_a_header_line(void **unused)
{
    (void)unused;
    expect("=?utf-8?q?a=0D=0ABcc=3A_x=00y?= <z@x.io>", "a  Bcc: x y|z@x.io;");
}

static void what_is_no_mailbox_makes_the_list_bad(void **unused)
{
    static const char *const bad[] = {
        "plain",
        "@b.c",
        "a@",
        "a@b..c",
        "a@.c",
        "a@b.c.",
        "a b@c.d",
        "a@b c",
        "a@b@c",
        "a@[127.0.0.1]",
        "a@b.c d@e.f",
        "Bob <a@b.c",
        "Bob a@b.c>",
        "Bob <a@b.c> junk",
        "Bob <a@b.c> <d@e.f>",
        "<>",
        "Bob <>",
        "\"open <a@b.c>",
        "a@b.c (open",
        "Friends: a@b.c, d@e.f;",
        "undisclosed-recipients:;",
        "a@b.c; d@e.f",
        "<@route.example:a@b.c>",
        "a@b.c\r\nBcc: d@e.f",
        "\"a\r\nb\" <a@b.c>",
        "\"a\\\nb\" <a@b.c>",
        "good@b.c, bad",
        "a<b@c.d",
        "a\\@b@c.d",
        "a@b!.c",
    };

    (void)unused;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect(bad[i], "bad");
}

static void the_longest_address_is_320_bytes(void **unused)
{
    struct buf b = {0};

    (void)unused;
    for (size_t i = 0; i < 64; i++)
        buf_add_byte(&b, 'l');
    buf_add_byte(&b, '@');
    for (size_t i = 0; i < 255; i++)
        buf_add_byte(&b, i % 50 == 49 ? '.' : 'd');
    assert_true(address_is_valid(buf_slice(&b)));
    buf_add_byte(&b, 'd');
    assert_false(address_is_valid(buf_slice(&b)));
    buf_fini(&b);
    assert_false(address_is_valid((struct slice){0}));
}

static void folding_touches_the_domain_part_only(void **unused)
{
    struct buf b = {0};

    (void)unused;
    address_fold(&b, SLICE("\"A@B\"@EXAMPLE.Org"));
    assert_string_equal(buf_cstr(&b), "\"A@B\"@example.org");
    buf_fini(&b);
}

static void whose_mail_it_is_says_the_address_alone(void **unused)
{
    static const char *const same[] = {"News <news@Example.org>", "news@example.org",
                                       "\"Jane, of News\" <news@EXAMPLE.ORG>"};
    static const char *const as_they_are[] = {"%recipient.from%", "a@x.org, b@x.org", ""};
    struct buf b = {0};

    (void)unused;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        buf_reset(&b);
        address_of_from(&b, slice_str(same[i]));
        assert_string_equal(buf_cstr(&b), "news@example.org");
    }
    for (size_t i = 0; i < sizeof as_they_are / sizeof as_they_are[0]; i++) {
        buf_reset(&b);
        address_of_from(&b, slice_str(as_they_are[i]));
        assert_string_equal(buf_cstr(&b), as_they_are[i]);
    }
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bare_addresses_come_out_as_written),
        cmocka_unit_test(names_are_unquoted_and_decoded),
        cmocka_unit_test(comments_are_left_out),
        cmocka_unit_test(encoded_words_become_utf8),
        cmocka_unit_test(a_decoded_name_cannot_break_a_header_line),
        cmocka_unit_test(what_is_no_mailbox_makes_the_list_bad),
        cmocka_unit_test(the_longest_address_is_320_bytes),
        cmocka_unit_test(folding_touches_the_domain_part_only),
        cmocka_unit_test(whose_mail_it_is_says_the_address_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
