#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/buf.h"
#include "mail/csv.h"

enum { MOST = 4 };

/* Each line as "number:field|field|\n". */
static void expect(const char *text, const char *lines, enum csv_result end)
{
    struct arena a = {0};
    struct csv c = csv_over(slice_str(text), &a);
    struct slice fields[MOST];
    struct buf seen = {0};
    enum csv_result got;
    size_t count;

    while ((got = csv_next(&c, fields, MOST, &count)) == CSV_LINE) {
        buf_printf(&seen, "%zu:", c.line);
        for (size_t i = 0; i < count; i++)
            buf_printf(&seen, "%.*s|", SLICE_ARGS(fields[i]));
        buf_add_str(&seen, "\n");
    }
    assert_int_equal(got, end);
    if (got == CSV_BAD)
        buf_printf(&seen, "%zu:%s", c.line, c.why);
    assert_string_equal(buf_cstr(&seen), lines);
    buf_fini(&seen);
    arena_fini(&a);
}

static void lines_end_in_any_way(void **unused)
{
    (void)unused;
    expect("", "", CSV_END);
    expect("a,b", "1:a|b|\n", CSV_END);
    expect("a,b\nc,d\n", "1:a|b|\n2:c|d|\n", CSV_END);
    expect("a\r\nb\rc\n", "1:a|\n2:b|\n3:c|\n", CSV_END);
    expect("\n\r\n\na\n\nb", "4:a|\n6:b|\n", CSV_END);
    expect("\xef\xbb\xbf"
           "a,b",
           "1:a|b|\n", CSV_END);
    expect(",\n,a,", "1:||\n2:|a||\n", CSV_END);
}

static void quoted_fields_hold_anything(void **unused)
{
    (void)unused;
    expect("\"a,b\",\"\"\n", "1:a,b||\n", CSV_END);
    expect("\"say \"\"hi\"\"\",x", "1:say \"hi\"|x|\n", CSV_END);
    expect("\"two\nlines\"\nb", "1:two\nlines|\n3:b|\n", CSV_END);
    expect("a\"b,c", "1:a\"b|c|\n", CSV_END);
}

static void what_is_wrong_is_said_with_its_line(void **unused)
{
    (void)unused;
    expect("a\n\"b", "1:a|\n2:a quoted field has no end", CSV_BAD);
    expect("\"b\"\"", "1:a quoted field has no end", CSV_BAD);
    expect("\"a\"b", "1:a quoted field is followed by text", CSV_BAD);
    expect("1,2,3,4,5", "1:too many fields", CSV_BAD);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_end_in_any_way),
        cmocka_unit_test(quoted_fields_hold_anything),
        cmocka_unit_test(what_is_wrong_is_said_with_its_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
