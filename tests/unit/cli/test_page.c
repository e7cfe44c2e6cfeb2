#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/page.h"

static void expect_column(const char *text, unsigned columns, const char *wanted)
{
    struct buf to = {0};

    page_column(&to, slice_str(text), columns);
    assert_string_equal(buf_cstr(&to), wanted);
    assert_int_equal(page_width(buf_slice(&to)), columns);
    buf_fini(&to);
}

static void a_column_is_as_wide_as_it_should_be(void **unused)
{
    (void)unused;
    expect_column("abc", 5, "abc  ");
    expect_column("abcdef", 3, "abc");
    expect_column("", 2, "  ");
    expect_column("Grüße", 6, "Grüße ");
    expect_column("日本語", 8, "日本語  ");
    expect_column("日本語", 5, "日本 "); /* half of a wide one is none */
    expect_column("e\xcc\x81t\xc3\xa9", 3,
                  "e\xcc\x81t\xc3\xa9"); /* an accent of its own takes none */
    expect_column("📬!", 4, "📬! ");
}

static void nothing_steers_the_terminal(void **unused)
{
    (void)unused;
    expect_column("a\x1b[31m", 6, "a?[31m");
    expect_column("\xc2\x9b"
                  "1\x7f\n",
                  4, "?1??");
    expect_column("\xff\xfe", 2, "??"); /* no UTF-8 */
}

static void widths_are_counted_in_columns(void **unused)
{
    (void)unused;
    assert_int_equal(page_width(slice_str("")), 0);
    assert_int_equal(page_width(slice_str("abc")), 3);
    assert_int_equal(page_width(slice_str("日本")), 4);
    assert_int_equal(page_width(slice_str("e\xcc\x81")), 1);
}

static void colours_are_for_terminals(void **unused)
{
    struct buf to = {0};

    (void)unused;
    assert_false(page_has_colour(-1));
    page_colour(&to, PAGE_PLAIN);
    page_colour_end(&to, PAGE_PLAIN);
    assert_int_equal(to.len, 0);
    page_colour(&to, PAGE_RED);
    page_colour_end(&to, PAGE_RED);
    assert_string_equal(buf_cstr(&to), "\033[31m\033[0m");
    buf_fini(&to);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_column_is_as_wide_as_it_should_be),
        cmocka_unit_test(nothing_steers_the_terminal),
        cmocka_unit_test(widths_are_counted_in_columns),
        cmocka_unit_test(colours_are_for_terminals),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
