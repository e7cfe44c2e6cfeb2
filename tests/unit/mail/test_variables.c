#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "mail/variables.h"

/* A set read from an object, as "name=value;…", or "bad". */
static void expect_slice(struct slice object, struct slice want)
{
    struct arena a = {0};
    struct buf got = {0};
    struct variable_set set = {.seed = 7};

    if (!variable_set_read(&set, object, &a))
        buf_add_str(&got, "bad");
    else
        for (size_t i = 0; i < set.count; i++) {
            buf_add_slice(&got, set.list[i].name);
            buf_add_byte(&got, '=');
            buf_add_slice(&got, set.list[i].value);
            buf_add_byte(&got, ';');
        }
    if (!slice_eq(buf_slice(&got), want))
        fail_msg("%.*s: got %s", SLICE_ARGS(object), buf_cstr(&got));
    buf_fini(&got);
    variable_set_fini(&set);
    arena_fini(&a);
}

static void expect(const char *object, const char *want)
{
    expect_slice(slice_str(object), slice_str(want));
}

static void values_become_text(void **unused)
{
    (void)unused;
    expect("{}", "");
    expect(" { \"a\" : \"b\" , \"c\":\"\" } \r\n", "a=b;c=;");
    expect("{\"i\":1,\"f\":-1.50e+3,\"big\":12345678901234567890}",
           "i=1;f=-1.50e+3;big=12345678901234567890;");
    expect("{\"t\":true,\"f\":false,\"n\":null}", "t=true;f=false;n=;");
    expect("{\"o\": { \"x y\" : [ 1, {} , \"a \\\" b\" ] } }", "o={\"x y\":[1,{},\"a \\\" b\"]};");
    expect("{\"Zoë\":\"$& {{x}} %recipient.uuid%\"}", "Zoë=$& {{x}} %recipient.uuid%;");
}

static void escapes_are_undone(void **unused)
{
    (void)unused;
    expect("{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}", "a=\"\\/\b\f\n\r\t;");
    expect("{\"a\":\"Zo\\u00eb \\u20AC \\ud83e\\udd8a\"}", "a=Zoë € 🦊;");
    expect("{\"\\u0061\":\"x\"}", "a=x;");
    expect_slice(SLICE("{\"a\":\"x\\u0000y\"}"), SLICE("a=x\0y;"));
}

static void half_a_surrogate_pair_costs_one_character(void **unused)
{
    (void)unused;
    expect("{\"a\":\"x\\ud83ey\"}", "a=x\xef\xbf\xbdy;");
    expect("{\"a\":\"\\udd8a\"}", "a=\xef\xbf\xbd;");
    expect("{\"a\":\"\\ud83e\\u0041\"}", "a=\xef\xbf\xbd"
                                         "A;");
}

static void a_later_value_replaces_an_earlier_one(void **unused)
{
    (void)unused;
    expect("{\"a\":1,\"A\":2,\"b\":3,\"a\":4}", "a=4;A=2;b=3;");
}

static void other_texts_are_refused(void **unused)
{
    static const char *const bad[] = {
        "",
        "[]",
        "null",
        "{",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,\"a\":1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1}}",
        "{\"a\":1} x",
        "{a:1}",
        "{'a':1}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":+1}",
        "{\"a\":1e}",
        "{\"a\":tru}",
        "{\"a\":NaN}",
        "{\"a\":\"x}",
        "{\"a\":\"x\ny\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":[1,]}",
        "{\"a\":[1}",
        "{\"a\":{\"b\":1]}",
    };

    (void)unused;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        expect(bad[i], "bad");
    expect_slice(SLICE("{\"a\":\"x\\\0\"}"), SLICE("bad"));
}

static void nesting_has_a_limit(void **unused)
{
    (void)unused;
    for (size_t depth = VARIABLES_DEPTH_MAX - 2; depth <= VARIABLES_DEPTH_MAX; depth++) {
        struct buf object = {0}, want = {0};
        buf_add_str(&object, "{\"a\":");
        buf_add_str(&want, "a=");
        for (size_t i = 0; i < depth; i++) {
            buf_add_byte(&object, '[');
            buf_add_byte(&want, '[');
        }
        for (size_t i = 0; i < depth; i++) {
            buf_add_byte(&object, ']');
            buf_add_byte(&want, ']');
        }
        buf_add_byte(&object, '}');
        buf_add_byte(&want, ';');
        expect_slice(buf_slice(&object),
                     depth < VARIABLES_DEPTH_MAX ? buf_slice(&want) : SLICE("bad"));
        buf_fini(&object);
        buf_fini(&want);
    }
}

static void a_set_is_used_again_after_it_was_taken(void **unused)
{
    struct arena a = {0};
    struct variable_set set = {0};

    (void)unused;
    for (size_t round = 0; round < 20; round++) {
        size_t names = round % 3 == 0 ? 5000 : 3, count;
        for (size_t i = 0; i < 2 * names; i++)
            variable_set_put(&set, arena_printf(&a, "n%zu", i % names), arena_printf(&a, "%zu", i));
        struct name_value *list = variable_set_take(&set, &a, &count);
        assert_int_equal(count, names);
        for (size_t i = 0; i < count; i++) {
            assert_true(slice_eq(list[i].name, arena_printf(&a, "n%zu", i)));
            assert_true(slice_eq(list[i].value, arena_printf(&a, "%zu", i + names)));
        }
    }
    variable_set_fini(&set);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_become_text),
        cmocka_unit_test(escapes_are_undone),
        cmocka_unit_test(half_a_surrogate_pair_costs_one_character),
        cmocka_unit_test(a_later_value_replaces_an_earlier_one),
        cmocka_unit_test(other_texts_are_refused),
        cmocka_unit_test(nesting_has_a_limit),
        cmocka_unit_test(a_set_is_used_again_after_it_was_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
