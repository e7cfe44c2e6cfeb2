/* Copies of a secret that nobody owns any more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "base/sweep.h"

#define SECRET "0123456789abcdefghijklmnopqrstuvwxyzABCD"

/* The literal itself is read-only, and so is passed over. */
static char *copy_of(const char *text)
{
    char *copy = malloc(strlen(text) + 1);

    assert_non_null(copy);
    memcpy(copy, text, strlen(text) + 1);
    return copy;
}

static void all_copies_go_but_the_kept_one(void **unused)
{
    char *mine = copy_of(SECRET), *other = copy_of("before " SECRET " behind");
    volatile char on_stack[] =
        SECRET; /* nobody else is told of it: the compiler would know better */
    struct slice kept = slice_str(mine);

    (void)unused;
    assert_true((sweep(kept, &kept, 1) > 0) == sweep_is_possible());
    if (!sweep_is_possible()) {
        free(mine);
        free(other);
        return;
    }
    assert_string_equal(mine, SECRET);
    assert_memory_equal(other, "before \0", 8);
    assert_string_equal(other + 7 + 40, " behind");
    assert_int_equal(on_stack[0], 0);
    assert_int_equal(on_stack[39], 0);
    assert_int_equal(sweep(kept, &kept, 1), 0);
    free(mine);
    free(other);
}

static void what_is_left_of_a_copy_goes_too(void **unused)
{
    char *mine = copy_of(SECRET), *begin = copy_of(SECRET), *end = copy_of(SECRET);
    struct slice kept = slice_str(mine);

    (void)unused;
    memset(end, 'x', 17); /* as an allocator does */
    memset(begin + 23, 'x', 17);
    assert_true((sweep(kept, &kept, 1) > 0) == sweep_is_possible());
    if (!sweep_is_possible()) {
        free(mine);
        free(begin);
        free(end);
        return;
    }
    assert_memory_equal(end, "xxxxxxxxxxxxxxxxx\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 40);
    assert_memory_equal(begin, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0xxxxxxxxxxxxxxxxx",
                        40);
    free(mine);
    free(begin);
    free(end);
}

static void short_texts_are_left_alone(void **unused)
{
    char *mine = copy_of("sandbox"), *other = copy_of("sandbox");
    struct slice kept = slice_str(mine);

    (void)unused;
    assert_int_equal(sweep(kept, &kept, 1), 0);
    assert_string_equal(other, "sandbox");
    free(mine);
    free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_copies_go_but_the_kept_one),
        cmocka_unit_test(what_is_left_of_a_copy_goes_too),
        cmocka_unit_test(short_texts_are_left_alone),
    };
    return cmocka_run_group_tests_name("base/sweep", tests, NULL, NULL);
}
