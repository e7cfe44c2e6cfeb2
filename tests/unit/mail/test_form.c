#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "mail/form.h"

/* Fields as "name=value;", or the refusal's text. */
static void expect(const char *type, struct slice body, const char *want)
{
    struct arena a = {0};
    struct buf got = {0};
    struct form form;
    struct refusal why = {0};

    if (form_parse(slice_str(type), body, &a, &form, &why)) {
        for (size_t i = 0; i < form.count; i++)
            buf_printf(&got, "%.*s=%.*s;", SLICE_ARGS(form.fields[i].name),
                       SLICE_ARGS(form.fields[i].value));
    } else {
        assert_int_equal(why.status, 400);
        buf_add_slice(&got, why.message);
    }
    assert_string_equal(buf_cstr(&got), want);
    buf_fini(&got);
    arena_fini(&a);
}

static void urlencoded(const char *body, const char *want)
{
    expect("application/x-www-form-urlencoded; charset=utf-8", slice_str(body), want);
}

static void urlencoded_fields_are_decoded(void **unused)
{
    (void)unused;
    urlencoded("to=a%2Bb%40x.io&text=two+words%21&&v%3Aid=&flag",
               "to=a+b@x.io;text=two words!;v:id=;flag=;");
    urlencoded("a=b=c", "a=b=c;");
    urlencoded("", "");
    urlencoded("a=%4", "unable to parse request: invalid URL escape");
    urlencoded("%zz=1", "unable to parse request: invalid URL escape");
}

static void an_index_behind_a_name_is_cut(void **unused)
{
    (void)unused;
    urlencoded("v:a[x][3]=1", "v:a[x]=1;");
    urlencoded("to[]=a&to[12]=b&html%5B%5D=c", "to=a;to=b;html=c;");
    urlencoded("a[b]=1&[]=2&a[=3&v:x[1]y=4&]=5", "a[b]=1;[]=2;a[=3;v:x[1]y=4;]=5;");
}

static void other_types_are_refused_by_name(void **unused)
{
    (void)unused;
    expect(
        "application/json; x=y", SLICE("{}"),
        "Invalid request content type. Expecting 'multipart/form-data' but got 'application/json'");
    expect("", SLICE(""),
           "Invalid request content type. Expecting 'multipart/form-data' but got ''");
}

static void a_multipart_body_needs_its_boundary(void **unused)
{
    static const char body[] = "--B\r\nContent-Disposition: form-data; name=\"to[]\"\r\n\r\n"
                               "a@b.c\r\n--B--\r\n";

    (void)unused;
    expect("Multipart/Form-Data; boundary=\"B\"", slice_str(body), "to=a@b.c;");
    expect("multipart/form-data", slice_str(body), "malformed multipart/form-data request");
    expect("multipart/form-data; boundary=C", slice_str(body),
           "malformed multipart/form-data request");
}

static void text_must_be_utf8_but_files_need_not(void **unused)
{
    (void)unused;
    urlencoded("subject=%ff", "'subject' parameter is not valid UTF-8");
    urlencoded("%c3%28=1", "a parameter name is not valid UTF-8");
    expect("multipart/form-data; boundary=B",
           SLICE("--B\r\nContent-Disposition: form-data; name=\"attachment\"; "
                 "filename=\"a\"\r\n\r\n\xff\r\n--B--\r\n"),
           "attachment=\xff;");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(urlencoded_fields_are_decoded),
        cmocka_unit_test(an_index_behind_a_name_is_cut),
        cmocka_unit_test(other_types_are_refused_by_name),
        cmocka_unit_test(a_multipart_body_needs_its_boundary),
        cmocka_unit_test(text_must_be_utf8_but_files_need_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
