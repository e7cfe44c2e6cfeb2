#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mail/mime_clean.h"

#define VERSION "MIME-Version: 1.0\r\n"

static void becomes_with(const struct name_value *own, size_t own_count, struct slice given,
                         struct slice want)
{
    struct arena a = {0};
    struct buf out = {0};
    struct mime_tree tree;
    struct slice why = {0};
    const char *unread = "";

    if (!mime_read(given, &a, &tree, &unread) || !mime_clean(&tree, own, own_count, &a, &out, &why))
        fail_msg("%s%.*s", unread, SLICE_ARGS(why));
    if (!slice_eq(buf_slice(&out), want))
        fail_msg("got\n%.*s\nwant\n%.*s", SLICE_ARGS(buf_slice(&out)), SLICE_ARGS(want));
    buf_fini(&out);
    arena_fini(&a);
}

#define becomes(given, want) becomes_with(NULL, 0, SLICE(given), SLICE(want))

static void refused(struct slice given, const char *want)
{
    struct arena a = {0};
    struct buf out = {0};
    struct mime_tree tree;
    struct slice why = {0};
    const char *unread;

    assert_true(mime_read(given, &a, &tree, &unread));
    assert_false(mime_clean(&tree, NULL, 0, &a, &out, &why));
    if (!slice_eq(why, slice_str(want)))
        fail_msg("got '%.*s', want '%s'", SLICE_ARGS(why), want);
    buf_fini(&out);
    arena_fini(&a);
}

#define FINE                                                                                       \
    "From: =?utf-8?q?=C3=A4?= <a@b>\r\n"                                                           \
    "X-Folded: a\r\n\tb  c\r\n"                                                                    \
    "X-Same: 1\r\nX-Same: 2\r\n"                                                                   \
    "X-Empty:\r\n" VERSION "Content-Type: multipart/mixed; boundary=b\r\n"                         \
    "\r\npreamble\r\n"                                                                             \
    "--b\r\n"                                                                                      \
    "Content-Type: text/plain\r\nContent-Transfer-Encoding: quoted-printable\r\n"                  \
    "\r\n"                                                                                         \
    "=41=\r\n--almost\r\n"                                                                         \
    "\r\n--b\r\n\r\nno header\r\n"                                                                 \
    "--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD\r\n"          \
    "--b--\r\nepilogue"

static void what_is_fine_stays_as_it_is(void **unused)
{
    (void)unused;
    becomes(FINE, FINE);
}

static void fields_that_are_not_for_readers_go(void **unused)
{
    (void)unused;
    becomes("Bcc: x@y\r\nFrom: a@b\r\nbcc : z\r\nX-Mailgun-Tag: a,\r\n b\r\nX-SES-SOURCE-ARN: x\r\n"
            "Return-Path: <x@y>\r\nDKIM-Signature: x\r\n" VERSION "\r\nBcc: body\r\n",
            "From: a@b\r\n" VERSION "\r\nBcc: body\r\n");
}

static void of_what_may_stand_once_the_last_stays(void **unused)
{
    (void)unused;
    becomes("From: a@b\nsubject: 1\nX-A: 1\nSubject: 2\nX-A: 2\n" VERSION
            "Content-Type: image/png\nContent-Type: text/plain\n\nx\n",
            "From: a@b\r\nX-A: 1\r\nSubject: 2\r\nX-A: 2\r\n" VERSION
            "Content-Type: text/plain\r\n\r\nx\r\n");
}

static void the_form_s_fields_replace_those_of_the_message(void **unused)
{
    const struct name_value own[] = {
        {SLICE("subject"), SLICE("für %recipient.a%")},
        {SLICE("Reply-To"), SLICE("\"Ä, B\" <a@b>, c@d")},
        {SLICE("List-Unsubscribe"), SLICE("<https://e.com/ü>")},
        {SLICE("X-New"), SLICE("1")},
    };

    (void)unused;
    becomes_with(own, 4, SLICE("From: a@b\nSubject: x\n" VERSION "\nx"),
                 SLICE("From: a@b\r\n" VERSION "subject: =?utf-8?B?ZsO8ciAlcmVjaXBpZW50LmEl?=\r\n"
                       "Reply-To: =?utf-8?B?w4QsIEI=?= <a@b>, c@d\r\n"
                       "List-Unsubscribe: <https://e.com/%C3%BC>\r\n"
                       "X-New: 1\r\n\r\nx"));
}

static void eight_bit_headers_are_encoded(void **unused)
{
    (void)unused;
    becomes("From: S\xc3\xb8, \"\xc3\x84, B\" <a@b>\nTo: \xc3\xbc <c@d>, =?utf-8?q?x=2Cy?= <e@f>\n"
            "Subject: \xfc\nX-\xc3\xbc: gone\n" VERSION
            "Content-Type: image/png; name=\"\xc3\x9c.png\"\n\nx\n",
            "From: =?utf-8?B?U8O4LCAiw4QsIEIiIDxhQGI+?=\r\n"
            "To: =?utf-8?B?w7w=?= <c@d>, \"x,y\" <e@f>\r\n"
            "Subject: =?utf-8?B?w7w=?=\r\n" VERSION
            "Content-Type: image/png; name*=iso-8859-1''%DC.png\r\n\r\nx\r\n");
}

static void eight_bit_bodies_are_encoded(void **unused)
{
    (void)unused;
    becomes("From: a@b\n\nH\xc3\xa4llo\n--\n",
            "From: a@b\r\n" VERSION "Content-Transfer-Encoding: quoted-printable\r\n"
            "Content-Type: text/plain; charset=utf-8\r\n\r\nH=C3=A4llo\r\n=2D-\r\n");
    becomes("From: a@b\n" VERSION "Content-Type: text/plain; charset=iso-8859-1\n"
            "Content-Transfer-Encoding: 8bit\n\n\xe4 and text",
            "From: a@b\r\n" VERSION "Content-Type: text/plain; charset=iso-8859-1\r\n"
            "Content-Transfer-Encoding: quoted-printable\r\n\r\n=E4 and text");
    becomes("From: a@b\n" VERSION "Content-Type: multipart/mixed; boundary=b\n\n\xc3\xa4\n--b\n\n"
            "\xc3\xa4 and text\n--b\nContent-Type: image/png\nContent-Transfer-Encoding: binary\n\n"
            "A\0\n\xff\n--b--\n",
            "From: a@b\r\n" VERSION "Content-Type: multipart/mixed; boundary=b\r\n\r\n??\r\n--b\r\n"
            "Content-Transfer-Encoding: quoted-printable\r\n"
            "Content-Type: text/plain; charset=utf-8\r\n\r\n=C3=A4 and text\r\n"
            "--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            "QQAK/w==\r\n--b--\r\n");
}

static void a_seven_bit_part_may_not_say_eight(void **unused)
{
    (void)unused;
    becomes("From: a@b\n" VERSION "Content-Transfer-Encoding: 8bit\n\nx",
            "From: a@b\r\n" VERSION "Content-Transfer-Encoding: 7bit\r\n\r\nx");
}

static void long_lines_are_broken(void **unused)
{
    struct buf given = {0}, want = {0};

    (void)unused;
    buf_add_str(&given, "From: a@b\nX-Long: ");
    for (int i = 0; i < 400; i++)
        buf_add_str(&given, "word ");
    buf_add_str(&given, "\n" VERSION "\n");
    for (int i = 0; i < 1000; i++)
        buf_add_byte(&given, 'x');
    buf_add_str(&want, "From: a@b\r\nX-Long: word");
    for (size_t i = 1, column = 12; i < 400; i++) {
        bool fold = column + 5 > 78;
        buf_add_str(&want, fold ? "\r\n word" : " word");
        column = fold ? 5 : column + 5;
    }
    buf_add_str(&want, "\r\n" VERSION "Content-Transfer-Encoding: quoted-printable\r\n\r\n");
    for (int left = 1000; left > 0; left -= 75) {
        for (int i = 0; i < 75 && i < left; i++)
            buf_add_byte(&want, 'x');
        buf_add_str(&want, left > 75 ? "=\r\n" : "");
    }
    becomes_with(NULL, 0, buf_slice(&given), buf_slice(&want));
    buf_fini(&given);
    buf_fini(&want);
}

static void a_header_without_its_end_gets_one(void **unused)
{
    (void)unused;
    becomes("From: a@b\nContent-Type: text/plain\njunk begins the body\n",
            "From: a@b\r\nContent-Type: text/plain\r\n" VERSION "\r\njunk begins the body\r\n");
    becomes("From: a@b", "From: a@b\r\n" VERSION "\r\n");
}

/* What a CR alone ends may look like a boundary. */
static void a_lone_cr_makes_no_part(void **unused)
{
    (void)unused;
    becomes("From: a@b\r\n" VERSION "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n"
            "a\r--b\rc\r\n--b--",
            "From: a@b\r\n" VERSION "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
            "Content-Transfer-Encoding: quoted-printable\r\n\r\n"
            "a\r\n=2D-b\r\nc\r\n--b--");
}

static void what_cannot_be_sent_is_refused(void **unused)
{
    struct buf b = {0};

    (void)unused;
    buf_add_str(&b, "From: a@b\nX-Long: ");
    for (int i = 0; i < 1000; i++)
        buf_add_byte(&b, 'x');
    refused(buf_slice(&b), "has a header X-Long with a word longer than a mail line");
    buf_reset(&b);
    buf_add_str(&b, "From: a@b\nContent-Type: multipart/mixed; boundary=b\n\n");
    for (int i = 0; i < 1000; i++)
        buf_add_byte(&b, 'x');
    refused(buf_slice(&b), "has a line of more than 998 bytes outside of its parts");
    buf_reset(&b);
    for (int i = 0; i < 2001; i++)
        buf_add_str(&b, "a: b\n");
    refused(buf_slice(&b), "has too many header fields");
    refused(
        SLICE("From: a@b\nContent-Type: multipart/mixed; boundary=\"\xc3\xa4\"\n\n--\xc3\xa4\n"),
        "has a multipart whose Content-Type is not ASCII");
    refused(SLICE("From: a@b\nContent-Transfer-Encoding: x-odd\n\n\xff"),
            "has a part with an unknown Content-Transfer-Encoding that is not made of lines of "
            "ASCII");
    buf_fini(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_fine_stays_as_it_is),
        cmocka_unit_test(fields_that_are_not_for_readers_go),
        cmocka_unit_test(of_what_may_stand_once_the_last_stays),
        cmocka_unit_test(the_form_s_fields_replace_those_of_the_message),
        cmocka_unit_test(eight_bit_headers_are_encoded),
        cmocka_unit_test(eight_bit_bodies_are_encoded),
        cmocka_unit_test(a_seven_bit_part_may_not_say_eight),
        cmocka_unit_test(long_lines_are_broken),
        cmocka_unit_test(a_header_without_its_end_gets_one),
        cmocka_unit_test(a_lone_cr_makes_no_part),
        cmocka_unit_test(what_cannot_be_sent_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
