#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mail/multipart.h"

#define BOUNDARY "------------------------x7"
#define D        "--" BOUNDARY

/* Parts as "name=value;", files as "name[filename|type]=value;", or "bad". */
static void expect(const char *body, const char *want)
{
    struct arena a = {0};
    struct buf got = {0};
    struct form form;

    if (!multipart_parse(slice_str(body), SLICE(BOUNDARY), &a, &form)) {
        buf_add_str(&got, "bad");
        form.count = 0;
    }
    for (size_t i = 0; i < form.count; i++) {
        const struct form_field *f = &form.fields[i];
        buf_add_slice(&got, f->name);
        if (f->is_file)
            buf_printf(&got, "[%.*s|%.*s]", SLICE_ARGS(f->filename), SLICE_ARGS(f->content_type));
        buf_printf(&got, "=%.*s;", SLICE_ARGS(f->value));
    }
    assert_string_equal(buf_cstr(&got), want);
    buf_fini(&got);
    arena_fini(&a);
}

#define PART(headers, value) D "\r\n" headers "\r\n\r\n" value "\r\n"
#define FIELD(name, value)   PART("Content-Disposition: form-data; name=\"" name "\"", value)
#define FILE_PART(parameters)                                                                      \
    PART("Content-Disposition: form-data; name=\"attachment\"; " parameters, "x")

static void parts_come_out_in_order(void **unused)
{
    (void)unused;
    expect(FIELD("to", "a@b.c") FIELD("to", "d@e.f") FIELD("text", "") D "--\r\n",
           "to=a@b.c;to=d@e.f;text=;");
    expect(FIELD("a", "1") D "--", "a=1;");
    expect(D "--\r\n", "");
    expect("a preamble\r\n" FIELD("a", "1") D "--\r\nan epilogue\r\n" D "\r\n", "a=1;");
    expect(FIELD("a", "line\r\nline\r\n") D "--\r\n", "a=line\r\nline\r\n;");
    expect(D " \t\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n" D "-- \r\n", "a=1;");
}

static void what_only_looks_like_a_delimiter_is_content(void **unused)
{
    (void)unused;
    expect(FIELD("a", "\r\n" D "8\r\n" D "-\r\nx" D) D "--\r\n",
           "a=\r\n" D "8\r\n" D "-\r\nx" D ";");
    expect(FIELD("a", "\r\n" D "--and more") D "--\r\n", "a=\r\n" D "--and more;");
    expect(D "8\r\nnot yet\r\n" FIELD("a", "1") D "--\r\n", "a=1;");
}

static void names_and_file_names_are_unquoted(void **unused)
{
    (void)unused;
    expect(FIELD("a\\\"b\\\\c\\d;e", "1") D "--\r\n", "a\"b\\c\\d;e=1;");
    expect(FILE_PART("filename=\"Söhne; 1.pdf\"\r\ncontent-type:application/pdf") D "--\r\n",
           "attachment[Söhne; 1.pdf|application/pdf]=x;");
    expect(FILE_PART("filename=plain.txt") D "--\r\n", "attachment[plain.txt|]=x;");
    expect(FILE_PART("filename=\"x\"; filename*=UTF-8''%E2%82%AC%20.txt") D "--\r\n",
           "attachment[€ .txt|]=x;");
    expect(FILE_PART("filename*=koi8-r''x; size=1") D "--\r\n", "attachment[|]=x;");
    expect(FILE_PART("x; filename=\"\"") D "--\r\n", "attachment[|]=x;");
}

static void broken_bodies_are_refused(void **unused)
{
    (void)unused;
    expect("", "bad");
    expect("nothing", "bad");
    expect(D, "bad");
    expect(D "\r\n", "bad");
    expect(FIELD("a", "1"), "bad");
    expect(FIELD("a", "1") D, "bad");
    expect(FIELD("a", "1") D "\r\n", "bad");
    expect(D "\r\n" D "--\r\n", "bad");
    expect(D "\r\nno header block\r\n" D "--\r\n", "bad");
    expect(PART("Content-Disposition: form-data", "x") D "--\r\n", "bad");
    expect(PART("Content-Disposition: form-data; name=\"\"", "x") D "--\r\n", "bad");
    expect(PART("Content-Type: text/plain", "x") D "--\r\n", "bad");
    expect(PART("Content-Disposition: form-data; name=\"a\rb\"", "x") D "--\r\n", "bad");
    expect("x" FIELD("a", "1"), "bad");
}

static void the_boundary_may_be_quoted(void **unused)
{
    struct arena a = {0};
    static const char *const types[] = {
        "multipart/form-data; boundary=" BOUNDARY,
        "multipart/form-data;charset=\"a;boundary=no\"; BOUNDARY=\"" BOUNDARY "\"",
        "multipart/form-data; boundary = " BOUNDARY " ; x=y",
        "multipart/form-data; x; boundary=" BOUNDARY,
    };

    (void)unused;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        assert_true(slice_eq(multipart_boundary(slice_str(types[i]), &a), SLICE(BOUNDARY)));
    assert_int_equal(multipart_boundary(SLICE("multipart/form-data"), &a).len, 0);
    assert_int_equal(multipart_boundary(SLICE("a; boundary"), &a).len, 0);
    assert_int_equal(multipart_boundary(SLICE("a; boundary=\""), &a).len, 0);
    arena_fini(&a);
}

static void there_is_a_limit_of_parts(void **unused)
{
    struct arena a = {0};
    struct buf body = {0};
    struct form form;

    (void)unused;
    for (size_t i = 0; i < MULTIPART_PARTS_MAX; i++)
        buf_add_str(&body, FIELD("a", "1"));
    size_t len = body.len;
    buf_add_str(&body, D "--\r\n");
    assert_true(multipart_parse(buf_slice(&body), SLICE(BOUNDARY), &a, &form));
    assert_int_equal(form.count, MULTIPART_PARTS_MAX);
    body.len = len;
    buf_add_str(&body, FIELD("a", "1") D "--\r\n");
    assert_false(multipart_parse(buf_slice(&body), SLICE(BOUNDARY), &a, &form));
    buf_fini(&body);
    arena_fini(&a);
}

/* Random values over an alphabet of delimiters' pieces come out as they went in. */
static void any_value_without_a_delimiter_survives(void **unused)
{
    static const char *const pieces[] = {"\r\n", "--", BOUNDARY, "-", "\r", "\n", "x", "7", " "};
    struct arena a = {0};

    (void)unused;
    srand(3);
    for (size_t round = 0; round < 3000; round++) {
        struct buf body = {0}, values[4] = {{0}};
        struct form form;
        bool ambiguous = false;
        for (size_t i = 0; i < 4; i++) {
            for (int n = rand() % 9; n > 0; n--)
                buf_add_str(&values[i], pieces[rand() % 9]);
            buf_add_str(&body, D "\r\nContent-Disposition: form-data; name=\"v\"\r\n\r\n");
            size_t from = body.len - 2;
            buf_add_slice(&body, buf_slice(&values[i]));
            /* A delimiter line within makes it another body. */
            ambiguous = ambiguous ||
                        slice_find(slice_from(buf_slice(&body), from), SLICE("\r\n" D)) != SIZE_MAX;
            buf_add_str(&body, "\r\n");
        }
        buf_add_str(&body, D "--\r\n");
        if (!ambiguous) {
            assert_true(multipart_parse(buf_slice(&body), SLICE(BOUNDARY), &a, &form));
            assert_int_equal(form.count, 4);
            for (size_t i = 0; i < 4; i++)
                assert_true(slice_eq(form.fields[i].value, buf_slice(&values[i])));
        }
        for (size_t i = 0; i < 4; i++)
            buf_fini(&values[i]);
        buf_fini(&body);
        arena_reset(&a);
    }
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_come_out_in_order),
        cmocka_unit_test(what_only_looks_like_a_delimiter_is_content),
        cmocka_unit_test(names_and_file_names_are_unquoted),
        cmocka_unit_test(broken_bodies_are_refused),
        cmocka_unit_test(the_boundary_may_be_quoted),
        cmocka_unit_test(there_is_a_limit_of_parts),
        cmocka_unit_test(any_value_without_a_delimiter_survives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
