#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/nearest.h"

static const char *const names[] = {"status", "batches", "domains", "deadletters", "key", "backup"};

static const char *near(const char *typed)
{
    const char *name = nearest_name(typed, names, sizeof names / sizeof names[0]);

    return name == NULL ? "" : name;
}

static void a_slip_or_two_find_the_name(void **unused)
{
    (void)unused;
    assert_string_equal(near("staus"), "status");
    assert_string_equal(near("statsu"), "status");
    assert_string_equal(near("domain"), "domains");
    assert_string_equal(near("deadleters"), "deadletters");
    assert_string_equal(near("kye"), "key");
    assert_string_equal(near("keys"), "key");
    assert_string_equal(near("bakcup"), "backup");
}

static void a_beginning_does_when_nothing_is_near(void **unused)
{
    (void)unused;
    assert_string_equal(near("dead"), "deadletters");
    assert_string_equal(near("batching-things"), "batches");
}

static void what_is_far_from_all_finds_none(void **unused)
{
    char long_name[200];

    (void)unused;
    assert_string_equal(near("frobnicate"), "");
    assert_string_equal(near("x"), "");
    assert_string_equal(near(""), "");
    assert_null(nearest_name("status", names, 0));
    memset(long_name, 'b', sizeof long_name);
    long_name[sizeof long_name - 1] = '\0';
    assert_string_equal(near(long_name), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slip_or_two_find_the_name),
        cmocka_unit_test(a_beginning_does_when_nothing_is_near),
        cmocka_unit_test(what_is_far_from_all_finds_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
