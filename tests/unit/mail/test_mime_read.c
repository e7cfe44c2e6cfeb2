#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mail/mime_read.h"

struct reading {
    struct arena arena;
    struct mime_tree tree;
    const char *why;
};

static void read_message(struct reading *r, struct slice message)
{
    *r = (struct reading){0};
    if (!mime_read(message, &r->arena, &r->tree, &r->why))
        fail_msg("%s", r->why);
}

static void is(struct slice got, const char *want)
{
    if (!slice_eq(got, slice_str(want)))
        fail_msg("got '%.*s', want '%s'", SLICE_ARGS(got), want);
}

static struct slice body(const struct reading *r, size_t entity)
{
    const struct mime_tree *t = &r->tree;

    assert_true(entity < t->entity_count && t->entities[entity].is_leaf);
    const struct mime_span *s = &t->spans[t->entities[entity].body];
    assert_int_equal(s->kind, MIME_BODY);
    return slice_of(t->message.ptr + s->begin, s->end - s->begin);
}

static struct slice field(const struct reading *r, size_t entity, const char *name)
{
    for (size_t i = 0; i < r->tree.span_count; i++)
        if (r->tree.spans[i].kind == MIME_FIELD && r->tree.spans[i].entity == entity &&
            slice_eq_nocase(r->tree.spans[i].name, slice_str(name)))
            return r->tree.spans[i].value;
    return SLICE("(absent)");
}

static void refused(struct slice message, const char *want)
{
    struct arena a = {0};
    struct mime_tree tree;
    const char *why = "";

    assert_false(mime_read(message, &a, &tree, &why));
    assert_string_equal(why, want);
    arena_fini(&a);
}

#define NESTED                                                                                     \
    "From: a@b.example\r\n"                                                                        \
    "Subject: one\r\n two\r\n"                                                                     \
    "Content-Type: multipart/mixed; boundary=\"m\"\r\n"                                            \
    "\r\n"                                                                                         \
    "preamble\r\n"                                                                                 \
    "--m\r\n"                                                                                      \
    "Content-Type: text/html; charset=\"ISO-8859-1\"\r\n"                                          \
    "Content-Transfer-Encoding: Quoted-Printable\r\n"                                              \
    "\r\n"                                                                                         \
    "text\r\n"                                                                                     \
    "\r\n"                                                                                         \
    "--m\r\n"                                                                                      \
    "\r\n"                                                                                         \
    "no header\r\n"                                                                                \
    "--m\r\n"                                                                                      \
    "Content-Type: message/rfc822\r\n"                                                             \
    "\r\n"                                                                                         \
    "Subject: inner\r\n"                                                                           \
    "\r\n"                                                                                         \
    "inner body\r\n"                                                                               \
    "--m\r\n"                                                                                      \
    "Content-Type: text/plain; name=a.txt\r\n"                                                     \
    "Content-Disposition: attachment\r\n"                                                          \
    "Content-Transfer-Encoding: base64\r\n"                                                        \
    "\r\n"                                                                                         \
    "QUJD\r\n"                                                                                     \
    "--m--\r\n"

static void the_parts_of_a_message_are_places_in_it(void **unused)
{
    struct reading r;

    (void)unused;
    read_message(&r, SLICE(NESTED));
    assert_int_equal(r.tree.entity_count, 6);
    const struct mime_entity *e = r.tree.entities;
    is(field(&r, 0, "subject"), "one\r\n two");
    assert_true(e[0].is_message && !e[0].is_leaf);
    assert_true(e[1].is_text && !e[1].is_attachment && e[1].given == GIVEN_QUOTED_PRINTABLE);
    is(e[1].charset, "ISO-8859-1");
    is(body(&r, 1), "text\r\n");
    assert_true(e[2].is_text && e[2].given == GIVEN_PLAIN && e[2].charset.len == 0);
    is(body(&r, 2), "no header");
    assert_true(!e[3].is_leaf && !e[3].is_attached);
    assert_true(e[4].is_attached && e[4].is_message && e[4].is_leaf);
    is(field(&r, 4, "Subject"), "inner");
    is(body(&r, 4), "inner body");
    assert_true(e[5].is_attachment && e[5].given == GIVEN_BASE64);
    is(body(&r, 5), "QUJD");
    arena_fini(&r.arena);
}

static void bare_line_feeds_make_no_difference(void **unused)
{
    struct reading r;
    uint8_t text[sizeof NESTED];
    size_t len = 0;

    (void)unused;
    for (const char *c = NESTED; *c != '\0'; c++)
        if (*c != '\r')
            text[len++] = (uint8_t)*c;
    read_message(&r, slice_of(text, len));
    assert_int_equal(r.tree.entity_count, 6);
    is(body(&r, 1), "text\n");
    is(body(&r, 2), "no header");
    is(body(&r, 4), "inner body");
    is(body(&r, 5), "QUJD");
    arena_fini(&r.arena);
}

/* The line end before a boundary is not the one behind it. */
static void line_ends_may_be_mixed(void **unused)
{
    struct reading r;

    (void)unused;
    read_message(&r, SLICE("From: a@b\nContent-Type: multipart/mixed; boundary=b\r\n\n--b\n\nab\n"
                           "--b\r\n\ncd\r\n--b\n\nef\r\n--b--"));
    is(body(&r, 1), "ab");
    is(body(&r, 2), "cd");
    is(body(&r, 3), "ef");
    arena_fini(&r.arena);
}

static void what_is_broken_is_read_as_mail_programs_do(void **unused)
{
    struct reading r;

    (void)unused;
    read_message(&r, SLICE("From me@x Mon Nov 23\nFrom : a@b\nno field\nX: y\n\nbody"));
    is(field(&r, 0, "from"), "a@b");
    is(field(&r, 0, "x"), "y");
    is(body(&r, 0), "body");
    arena_fini(&r.arena);
    read_message(&r, SLICE("From: a@b\nContent-Type: multipart/mixed; boundary=b\n\n--b\n"
                           "no field\nX: y\n\nopen end"));
    is(field(&r, 1, "x"), "y");
    is(body(&r, 1), "open end");
    arena_fini(&r.arena);
    read_message(&r, SLICE("Subject: only a header"));
    is(field(&r, 0, "subject"), "only a header");
    is(body(&r, 0), "");
    arena_fini(&r.arena);
    read_message(&r, SLICE("From: a\0b\nX\0: y\n\nbo\0dy"));
    assert_int_equal(body(&r, 0).len, 5);
    arena_fini(&r.arena);
}

static void what_is_no_message_is_refused(void **unused)
{
    (void)unused;
    refused(SLICE(""), "has no header");
    refused(SLICE("\r\n\r\nbody"), "has no header");
    refused(SLICE("hello\nworld\n"), "has no header");
}

static void memory_and_time_have_a_bound(void **unused)
{
    struct buf b = {0};

    (void)unused;
    buf_add_str(&b, "From: a@b\n");
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i);
    refused(buf_slice(&b), "is nested too deeply");
    buf_reset(&b);
    for (int i = 0; i < 1000; i++)
        buf_add_str(&b, "Content-Type: message/rfc822\n\n");
    refused(buf_slice(&b), "is nested too deeply");
    buf_reset(&b);
    for (int i = 0; i <= MIME_FIELDS_MAX; i++)
        buf_add_str(&b, "a:\n");
    refused(buf_slice(&b), "has too many header fields, or too many lines like them");
    buf_reset(&b);
    buf_add_str(&b, "Content-Type: multipart/mixed; boundary=b\n\n");
    for (int i = 0; i <= MIME_BOUNDARIES_MAX; i++)
        buf_add_str(&b, "--b\n");
    refused(buf_slice(&b), "has too many boundaries, or too many lines like them");
    buf_fini(&b);
}

/* GMime alone would recurse with each colon, and compare each address with all others. */
static void addresses_are_none_of_the_reader_s_business(void **unused)
{
    struct buf b = {0};
    struct reading r;

    (void)unused;
    buf_add_str(&b, "From:");
    for (int i = 0; i < 200000; i++)
        buf_add_str(&b, " a:");
    buf_add_str(&b, "\nTO\t: ");
    for (int i = 0; i < 200000; i++)
        buf_add_str(&b, "a,");
    buf_add_str(&b, "\n\nx");
    read_message(&r, buf_slice(&b));
    assert_int_equal(field(&r, 0, "To").len, 400000);
    arena_fini(&r.arena);
    buf_fini(&b);
}

static void header_texts_are_decoded(void **unused)
{
    static const char *const cases[][2] = {
        {"plain", "plain"},
        {"a\r\n b", "a b"},
        {"=?utf-8?q?f=C3=BCr_%recipi?= =?UTF-8?B?ZW50LmEl?= x", "für %recipient.a% x"},
        {"=?iso-8859-1?q?=FC?=", "ü"},
        {"raw ü", "raw ü"},
        {"raw \xfc", "raw ü"},
        {"=?utf-8?q?a=0D=0AX:=00y?=", "aX: y"},
        {"=?utf-8?q?broken", "=?utf-8?q?broken"},
        {"", ""},
    };
    struct arena a = {0};

    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slice got = mime_text_of(slice_str(cases[i][0]), &a);
        assert_int_equal(slice_find_byte(got, '\n'), SIZE_MAX);
        if (i != 6) /* control characters: nobody minds, as long as there are none */
            is(got, cases[i][1]);
    }
    arena_fini(&a);
}

static void bodies_are_decoded(void **unused)
{
    struct buf b = {0};

    (void)unused;
    assert_true(mime_decode(SLICE("=41 %recipi=\r\nent%=0A"), GIVEN_QUOTED_PRINTABLE, &b));
    is(buf_slice(&b), "A %recipient%\n");
    buf_reset(&b);
    assert_true(mime_decode(SLICE("QUJ\r\nD\r\nRA=="), GIVEN_BASE64, &b));
    is(buf_slice(&b), "ABCD");
    buf_reset(&b);
    assert_true(mime_decode(SLICE("as is"), GIVEN_BINARY, &b));
    is(buf_slice(&b), "as is");
    assert_false(mime_decode(SLICE("x"), GIVEN_OTHER, &b));
    buf_fini(&b);
}

static void charsets_become_utf8(void **unused)
{
    struct buf b = {0}, many = {0};

    (void)unused;
    assert_true(mime_to_utf8(SLICE("\xcf\xf0\xe8"), SLICE("windows-1251"), &b));
    is(buf_slice(&b), "При");
    buf_reset(&b);
    for (int i = 0; i < 10000; i++)
        buf_add_byte(&many, 0xe4);
    assert_true(mime_to_utf8(buf_slice(&many), SLICE("iso-8859-1"), &b));
    assert_int_equal(b.len, 20000);
    buf_reset(&b);
    assert_false(mime_to_utf8(SLICE("\xff"), SLICE("utf-8"), &b));
    buf_reset(&b);
    assert_false(mime_to_utf8(SLICE("\xff"), SLICE("us-ascii"), &b));
    buf_reset(&b);
    assert_false(mime_to_utf8(SLICE("\x1b$B"), SLICE("no-such-charset"), &b));
    buf_reset(&b);
    assert_false(mime_to_utf8(SLICE("a"), SLICE("utf-16"), &b));
    buf_fini(&b);
    buf_fini(&many);
}

static void structured_values_are_written_anew(void **unused)
{
    struct arena a = {0};

    (void)unused;
    is(mime_content_type(SLICE("text/html;\r\n charset=iso-8859-1; x=y"), SLICE("utf-8"), &a),
       "text/html; charset=utf-8; x=y");
    is(mime_disposition(SLICE("attachment; filename=\"Ü.pdf\""), &a),
       "attachment; filename*=iso-8859-1''%DC.pdf");
    assert_true(slice_is_ascii(mime_content_type(SLICE("\xff\xff;=;;ü"), slice_none(), &a)));
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_parts_of_a_message_are_places_in_it),
        cmocka_unit_test(bare_line_feeds_make_no_difference),
        cmocka_unit_test(line_ends_may_be_mixed),
        cmocka_unit_test(what_is_broken_is_read_as_mail_programs_do),
        cmocka_unit_test(what_is_no_message_is_refused),
        cmocka_unit_test(memory_and_time_have_a_bound),
        cmocka_unit_test(addresses_are_none_of_the_reader_s_business),
        cmocka_unit_test(header_texts_are_decoded),
        cmocka_unit_test(bodies_are_decoded),
        cmocka_unit_test(charsets_become_utf8),
        cmocka_unit_test(structured_values_are_written_anew),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
