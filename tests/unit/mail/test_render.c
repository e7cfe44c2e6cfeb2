#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mail/render.h"

/* One recipient of a batch whose keys are given, rendered by the module. */
static void render(struct slice text, const struct render_keys *keys, const struct recipient *r,
                   struct buf *out)
{
    struct arena a = {0};
    struct render_template t;
    struct slice *values = arena_array(&a, render_slot_count(keys), sizeof *values);

    render_compile(&t, text, keys, &a);
    (void)render_values(keys, r, &a, values);
    buf_reset(out);
    render_run(&t, values, out);
    assert_int_equal(render_length(&t, values), out->len);
    arena_fini(&a);
}

/* The oracle: at every byte, try every placeholder by comparing. Slow and plain. */
static bool oracle_try(struct slice at, const struct render_keys *keys, const struct recipient *r,
                       struct buf *out, size_t *eaten)
{
    static const char *const gone[] = {"%unsubscribe_url%", "%unsubscribe_email%",
                                       "%mailing_list_unsubscribe_url%", "%tag_unsubscribe_email%",
                                       "%tag_unsubscribe_url%"};
    char wanted[300];

    for (size_t i = 0; i < 5; i++)
        if (slice_starts(at, slice_str(gone[i]))) {
            *eaten = strlen(gone[i]);
            return true;
        }
    if (slice_starts(at, SLICE("%recipient_email%"))) {
        *eaten = 17;
        buf_add_slice(out, r->address);
        return true;
    }
    for (size_t k = 0; k < keys->count; k++) {
        int n = snprintf(wanted, sizeof wanted, "%%recipient.%.*s%%", SLICE_ARGS(keys->names[k]));
        if (!slice_starts(at, slice_of(wanted, (size_t)n)))
            continue;
        for (size_t v = 0; v < r->var_count; v++)
            if (slice_eq(r->vars[v].name, keys->names[k]))
                buf_add_slice(out, r->vars[v].value);
        *eaten = (size_t)n;
        return true;
    }
    return false;
}

static void oracle(struct slice text, const struct render_keys *keys, const struct recipient *r,
                   struct buf *out)
{
    buf_reset(out);
    for (size_t i = 0; i < text.len;) {
        size_t eaten;
        if (oracle_try(slice_from(text, i), keys, r, out, &eaten))
            i += eaten;
        else
            buf_add_byte(out, text.ptr[i++]);
    }
}

static void expect(const struct render_keys *keys, const struct recipient *r, const char *text,
                   const char *want)
{
    struct buf out = {0};

    render(slice_str(text), keys, r, &out);
    assert_string_equal(buf_cstr(&out), want);
    buf_fini(&out);
}

static struct render_keys keys_of(struct arena *a, const char *const *names, size_t count)
{
    struct render_keys k = {0};

    for (size_t i = 0; i < count; i++)
        render_keys_add(&k, a, slice_str(names[i]));
    return k;
}

static void known_values_go_in_verbatim_and_once(void **state)
{
    static const char *const names[] = {"first_name_2", "x", "v:user", "absent"};
    struct name_value vars[] = {{SLICE("first_name_2"), SLICE("%recipient.x% $& {{x}} \"<b>")},
                                {SLICE("x"), SLICE("X\r\nY")},
                                {SLICE("v:user"), SLICE("7")}};
    struct recipient r = {.address = SLICE("a@b.c"), .name = SLICE("Ann B. Cee"), .vars = vars, 3};
    struct arena a = {0};
    struct render_keys k = keys_of(&a, names, 4);

    (void)state;
    expect(&k, &r, "Hi %recipient.first_name_2%!", "Hi %recipient.x% $& {{x}} \"<b>!");
    expect(&k, &r, "%recipient.x%%recipient.v:user%", "X\r\nY7");
    expect(&k, &r, "[%recipient.absent%]", "[]");
    expect(&k, &r,
           "%recipient%|%recipient_email%|%recipient_name%|%recipient_fname%|%recipient_lname%",
           "Ann B. Cee <a@b.c>|a@b.c|Ann B. Cee|Ann|Cee");
    arena_fini(&a);
}

static void an_authors_own_percent_signs_stay(void **state)
{
    static const char *const names[] = {"x"};
    struct name_value vars[] = {{SLICE("x"), SLICE("V")}};
    struct recipient r = {.address = SLICE("a@b.c"), .vars = vars, .var_count = 1};
    struct arena a = {0};
    struct render_keys k = keys_of(&a, names, 1);

    (void)state;
    expect(&k, &r, "%recipient.name% literal", "%recipient.name% literal");
    expect(&k, &r, "%%{unknown}%% 100% sure, %", "%%{unknown}%% 100% sure, %");
    expect(&k, &r, "50%recipient.x%", "50V");
    expect(&k, &r, "%recipient.name%recipient.x%", "%recipient.nameV");
    expect(&k, &r, "%recipient.x", "%recipient.x");
    expect(&k, &r, "", "");
    arena_fini(&a);
}

static void unsubscribe_placeholders_leave_nothing(void **state)
{
    struct recipient r = {.address = SLICE("a@b.c")};
    struct render_keys k = {0};

    (void)state;
    expect(&k, &r, "a%tag_unsubscribe_email%b%unsubscribe_url%c%tag_other%d", "abcd");
    expect(&k, &r, "%tag_no word%", "%tag_no word%");
}

static void without_batch_mode_everything_is_text(void **state)
{
    struct arena a = {0};
    struct render_template t;

    (void)state;
    render_compile(&t, SLICE("%recipient.x% %tag_unsubscribe_email%"), NULL, &a);
    assert_int_equal(t.count, 1);
    assert_false(t.varies);
    assert_int_equal(t.parts[0].literal.len, 37);
    arena_fini(&a);
}

static void unknown_names_are_counted(void **state)
{
    struct arena a = {0};
    struct render_keys k = {0};
    struct render_template t;

    (void)state;
    render_compile(&t, SLICE("%recipient.a% %recipient.b% %tag_unsubscribe_url%"), &k, &a);
    assert_int_equal(t.unknown_count, 2);
    assert_int_equal(t.erased_count, 1);
    arena_fini(&a);
}

static void a_thousand_keys_are_all_found(void **state)
{
    struct arena a = {0};
    struct render_keys k = {0};
    char name[16];

    (void)state;
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 1000; i++) {
            snprintf(name, sizeof name, "key%d", i);
            render_keys_add(&k, &a, slice_str(name));
        }
    assert_int_equal(k.count, 1000);
    for (int i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "key%d", i);
        assert_int_equal(render_keys_find(&k, slice_str(name)), i);
    }
    assert_int_equal(render_keys_find(&k, SLICE("key1000")), SIZE_MAX);
    arena_fini(&a);
}

/* Texts made of pieces that touch each other in every way. */
static void random_texts_agree_with_the_oracle(void **state)
{
    static const char *const pieces[] = {"%",
                                         "%recipient.",
                                         "x",
                                         "name_2",
                                         "%recipient.x%",
                                         "%recipient.name_2%",
                                         "unknown",
                                         "%recipient_email%",
                                         "%tag_unsubscribe_email%",
                                         " ",
                                         "recipient.",
                                         "%unsubscribe_url%",
                                         "ü",
                                         "\n",
                                         "_",
                                         "recipient_email"};
    static const char *const names[] = {"x", "name_2", "none"};
    struct name_value vars[] = {{SLICE("x"), SLICE("%recipient.name_2%")},
                                {SLICE("name_2"), SLICE("%")}};
    struct recipient r = {.address = SLICE("a%b@c.d"), .vars = vars, .var_count = 2};
    struct arena a = {0};
    struct render_keys k = keys_of(&a, names, 3);
    struct buf text = {0}, got = {0}, want = {0};
    uint64_t seed = 88172645463325252u;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        buf_reset(&text);
        for (int n = 0; n < 1 + round % 12; n++) {
            seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
            buf_add_str(&text, pieces[seed % (sizeof pieces / sizeof pieces[0])]);
        }
        render(buf_slice(&text), &k, &r, &got);
        oracle(buf_slice(&text), &k, &r, &want);
        if (!slice_eq(buf_slice(&got), buf_slice(&want)))
            fail_msg("%s: got %s, want %s", buf_cstr(&text), buf_cstr(&got), buf_cstr(&want));
    }
    buf_fini(&text), buf_fini(&got), buf_fini(&want);
    arena_fini(&a);
}

static void a_length_is_known_that_no_memory_holds(void **state)
{
    enum { NAMED = 100000, VALUE_BYTES = 1 << 20 };
    static uint8_t value[VALUE_BYTES];
    struct arena a = {0};
    struct render_keys k = {0};
    struct render_template t;
    struct buf text = {0};
    struct name_value vars[] = {{SLICE("big"), slice_of(value, VALUE_BYTES)}};
    struct recipient r = {.address = SLICE("a@b.example"), .vars = vars, .var_count = 1};

    (void)state;
    render_keys_add(&k, &a, vars[0].name);
    for (int i = 0; i < NAMED; i++)
        buf_add_str(&text, "x%recipient.big%");
    struct slice *values = arena_array(&a, render_slot_count(&k), sizeof *values);
    render_compile(&t, buf_slice(&text), &k, &a);
    (void)render_values(&k, &r, &a, values);
    assert_int_equal(render_length(&t, values), (uint64_t)NAMED * (VALUE_BYTES + 1));
    buf_fini(&text);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_values_go_in_verbatim_and_once),
        cmocka_unit_test(an_authors_own_percent_signs_stay),
        cmocka_unit_test(unsubscribe_placeholders_leave_nothing),
        cmocka_unit_test(without_batch_mode_everything_is_text),
        cmocka_unit_test(unknown_names_are_counted),
        cmocka_unit_test(a_thousand_keys_are_all_found),
        cmocka_unit_test(random_texts_agree_with_the_oracle),
        cmocka_unit_test(a_length_is_known_that_no_memory_holds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
