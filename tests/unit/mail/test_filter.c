#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "mail/filter.h"

static struct event sample(struct arena *a)
{
    struct slice *tags = arena_array(a, 3, sizeof *tags);
    struct name_value *vars = arena_array(a, 1, sizeof *vars);

    tags[0] = SLICE("Bulk-Email");
    tags[1] = SLICE("ghost-email");
    tags[2] = SLICE("blog-4711");
    vars[0] = (struct name_value){SLICE("email-id"), SLICE("65f0c1")};
    return (struct event){
        .type = EVENT_FAILED,
        .severity = SEVERITY_PERMANENT,
        .domain = SLICE("mg.example.com"),
        .recipient = SLICE("Ann@Example.net"),
        .message_id = SLICE("2026.e65@mg.example.com"),
        .reason = SLICE("bounce"),
        .to = SLICE("Ann <Ann@Example.net>"),
        .from = SLICE("News <news@mg.example.com>"),
        .subject = SLICE("Hello OR good bye (again)"),
        .tags = tags,
        .tag_count = 3,
        .vars = vars,
        .var_count = 1,
        .size_bytes = 18231,
    };
}

static bool matches(const char *field, const char *expression)
{
    struct arena a = {0};
    struct event e = sample(&a);
    struct slice why;
    struct filter *f = filter_create(&a);

    if (!filter_add(f, slice_str(field), slice_str(expression), &why))
        fail_msg("%.*s", SLICE_ARGS(why));
    bool answer = filter_match(f, &e);
    arena_fini(&a);
    return answer;
}

static void yes(const char *field, const char *expression)
{
    if (!matches(field, expression))
        fail_msg("%s=%s does not match", field, expression);
}

static void no(const char *field, const char *expression)
{
    if (matches(field, expression))
        fail_msg("%s=%s matches", field, expression);
}

static void refused(const char *field, const char *expression)
{
    struct arena a = {0};
    struct slice why = {0};

    if (filter_add(filter_create(&a), slice_str(field), slice_str(expression), &why))
        fail_msg("%s=%s is taken", field, expression);
    assert_true(why.len > 20);
    arena_fini(&a);
}

static void names_equal_the_whole_value_in_any_case(void **state)
{
    (void)state;
    yes("event", "failed");
    yes("event", "FAILED");
    no("event", "fail");
    yes("event", "delivered OR opened OR failed OR unsubscribed OR complained");
    no("event", "delivered OR opened");
    no("event", "nonsense");
    yes("event", "NOT delivered");
    yes("event", "*");
    yes("severity", "permanent");
    no("severity", "temporary");
    yes("reason", "Bounce");
    no("list", "news");
    no("attachment", "pdf");
    yes("user-variables.email-id", "65F0C1");
    no("user-variables.email-id", "65f0");
    no("user-variables.other", "x");
}

static void tags_are_matched_one_by_one(void **state)
{
    (void)state;
    yes("tags", "bulk-email");
    yes("tags", "bulk-email AND blog-4711");
    yes("tags", "bulk-email blog-4711");
    no("tags", "bulk-email AND blog-0815");
    yes("tags", "nothing OR (bulk-email AND NOT gift)");
    no("tags", "bulk");
    yes("tags", "\"bulk-email\"");
    no("tags", "bulk-email or blog-4711"); /* lower-case or is a term */
}

static void addresses_and_ids_are_matched(void **state)
{
    (void)state;
    yes("recipient", "ann@example.net");
    yes("recipients", "ann@example.net");
    yes("recipient", "example.net");
    yes("recipient", "@EXAMPLE.net");
    no("recipient", "ample.net");
    no("recipient", "bob@example.net");
    yes("message-id", "<2026.E65@mg.example.com>");
    yes("message-id", "2026.e65@mg.example.com");
    no("message-id", "2026");
    yes("id", "AAAAAAAAAAAAAAAAAAAAAA");
    no("id", "aAAAAAAAAAAAAAAAAAAAAA");
}

static void texts_contain_terms_and_quotes_hold_them_together(void **state)
{
    (void)state;
    yes("subject", "hello");
    yes("subject", "hello AND BYE");
    yes("subject", "\"hello OR good\"");
    no("subject", "\"good hello\"");
    yes("subject", "\"(again)\"");
    yes("from", "news@mg");
    yes("to", "ann");
    no("to", "bob");
}

static void sizes_are_compared(void **state)
{
    (void)state;
    yes("size", "18231");
    yes("size", ">18230");
    no("size", ">18231");
    yes("size", ">= 18231");
    yes("size", "<=18231");
    no("size", "< 18231");
    yes("size", ">1000 AND <20000");
    yes("size", ">1000 <20000");
    yes("size", "NOT (<10 OR >100000)");
}

static void or_binds_weaker_than_and(void **state)
{
    (void)state;
    yes("tags", "bulk-email OR x AND y");
    no("tags", "(bulk-email OR x) AND y");
    yes("tags", "NOT x y OR bulk-email");
    no("tags", "NOT bulk-email OR x");
    yes("tags", "NOT NOT bulk-email");
}

static void syntax_errors_are_refused_with_words(void **state)
{
    char deep[256] = "";

    (void)state;
    refused("event", "");
    refused("event", "   ");
    refused("event", "delivered OR");
    refused("event", "OR delivered");
    refused("event", "AND");
    refused("event", "NOT");
    refused("event", "(delivered");
    refused("event", "delivered)");
    refused("event", "()");
    refused("event", "a AND OR b");
    refused("subject", "\"open");
    refused("size", "large");
    refused("size", ">");
    refused("size", "> (5)");
    refused("colour", "red");
    refused("user-variables.", "x");
    for (size_t i = 0; i < 20; i++)
        deep[i] = '(';
    deep[20] = 'x';
    for (size_t i = 21; i < 41; i++)
        deep[i] = ')';
    refused("event", deep);
}

static void lengths_are_bounded_over_all_fields(void **state)
{
    static char value[1500];
    struct arena a = {0};
    struct filter *f = filter_create(&a);
    struct slice why;

    (void)state;
    memset(value, 'x', sizeof value);
    assert_true(filter_add(f, SLICE("subject"), slice_of(value, sizeof value), &why));
    assert_true(filter_add(f, SLICE("subject"), slice_of(value, sizeof value), &why));
    assert_false(filter_add(f, SLICE("subject"), slice_of(value, sizeof value), &why));
    arena_fini(&a);
}

static struct filter_plan planned(struct arena *a, size_t count, const char *const pairs[][2])
{
    struct filter *f = filter_create(a);
    struct filter_plan plan;
    struct slice why;

    for (size_t i = 0; i < count; i++)
        assert_true(filter_add(f, slice_str(pairs[i][0]), slice_str(pairs[i][1]), &why));
    filter_plan(f, &plan);
    return plan;
}

#define PLAN(a, ...)                                                                               \
    planned(a, sizeof((const char *const[][2]){__VA_ARGS__}) / sizeof(const char *[2]),            \
            (const char *const[][2]){__VA_ARGS__})
#define P(field, value)                                                                            \
    {                                                                                              \
        field, value                                                                               \
    }
#define BIT(type) (UINT32_C(1) << (type))

static bool has_only(const struct filter_terms *terms, const char *text)
{
    return terms->count == 1 && slice_eq(terms->texts[0], slice_str(text));
}

static void plans_name_what_an_index_can_answer(void **state)
{
    struct arena a = {0};

    (void)state;
    struct filter_plan plan = PLAN(&a, P("event", "delivered OR opened"), P("tags", "bulk-email"));
    assert_int_equal(plan.kinds, BIT(EVENT_DELIVERED) | BIT(EVENT_OPENED));
    assert_true(plan.tag_count == 1 && has_only(&plan.tags[0], "bulk-email"));
    assert_true(plan.exact);

    plan = PLAN(&a, P("event", "NOT (delivered OR accepted)"));
    assert_true(plan.exact);
    assert_int_equal(plan.kinds & BIT(EVENT_DELIVERED), 0);
    assert_int_not_equal(plan.kinds & BIT(EVENT_STORED), 0);
    assert_int_not_equal(plan.kinds & BIT(EVENT_KIND_PERMANENT), 0);
    plan = PLAN(&a, P("event", "failed OR opened"), P("severity", "NOT temporary"));
    assert_int_equal(plan.kinds, BIT(EVENT_OPENED) | BIT(EVENT_KIND_PERMANENT));
    assert_true(plan.exact);
    plan = PLAN(&a, P("reason", "bounce"));
    assert_int_equal(plan.kinds,
                     BIT(EVENT_FAILED) | BIT(EVENT_KIND_PERMANENT) | BIT(EVENT_REJECTED));
    assert_false(plan.exact);

    plan = PLAN(&a, P("tags", "bulk-email AND blog-4711"), P("event", "opened"));
    assert_true(plan.tag_count == 2 && has_only(&plan.tags[1], "blog-4711"));
    assert_true(plan.exact);
    plan = PLAN(&a, P("tags", "a OR b"), P("tags", "c"));
    assert_true(plan.tag_count == 2 && plan.tags[0].count == 2 && has_only(&plan.tags[1], "c"));
    assert_true(plan.exact);
    plan = PLAN(&a, P("tags", "a NOT b"));
    assert_true(plan.tag_count == 1 && has_only(&plan.tags[0], "a"));
    assert_false(plan.exact);
    plan = PLAN(&a, P("tags", "a OR (b AND c)"));
    assert_int_equal(plan.tag_count, 0);
    assert_false(plan.exact);
    plan = PLAN(&a, P("tags", "a b c d e"));
    assert_int_equal(plan.tag_count, FILTER_TAGS_MAX);
    assert_false(plan.exact);

    plan = PLAN(&a, P("recipient", "ann@example.net OR bob@example.net"), P("message-id", "<x@y>"));
    assert_int_equal(plan.recipient.count, 2);
    assert_true(has_only(&plan.message_id, "x@y"));

    plan = PLAN(&a, P("recipient", "example.net OR bob@example.net"));
    assert_int_equal(plan.recipient.count, 0);
    assert_false(plan.exact);
    plan = PLAN(&a, P("event", "nonsense"));
    assert_int_equal(plan.kinds, 0);
    arena_fini(&a);
}

static void a_packed_filter_is_the_same_filter(void **state)
{
    struct arena a = {0};
    struct buf packed = {0}, again = {0};
    struct filter *f = filter_create(&a), *back = NULL;
    struct event e = sample(&a);
    struct slice why;

    (void)state;
    assert_true(filter_add(f, SLICE("event"), SLICE("failed OR opened"), &why));
    assert_true(filter_add(f, SLICE("tags"), SLICE("bulk-email AND blog-4711"), &why));
    filter_pack(&packed, f);
    assert_true(filter_unpack(buf_slice(&packed), &a, &back));
    assert_true(filter_match(back, &e));
    filter_pack(&again, back);
    assert_true(slice_eq(buf_slice(&packed), buf_slice(&again)));
    for (size_t len = 0; len < packed.len; len++)
        assert_false(filter_unpack(slice_head(buf_slice(&packed), len), &a, &back));
    buf_fini(&packed);
    buf_fini(&again);
    arena_fini(&a);
}

static bool valued(const char *field, enum filter_comparator how, size_t count,
                   const struct slice *values)
{
    struct arena a = {0};
    struct event e = sample(&a);
    struct slice why;
    struct buf packed = {0};
    struct filter *f = filter_create(&a), *back;

    e.status = (struct delivery_status){
        .present = true, .code = 550, .message = SLICE("5.1.1 unknown user")};
    if (!filter_add_values(f, slice_str(field), how, values, count, &why))
        fail_msg("%.*s", SLICE_ARGS(why));
    bool answer = filter_match(f, &e);
    filter_pack(&packed, f);
    assert_true(filter_unpack(buf_slice(&packed), &a, &back));
    assert_true(filter_match(back, &e) == answer);
    buf_fini(&packed);
    arena_fini(&a);
    return answer;
}

#define VALUES(...)                                                                                \
    sizeof((const struct slice[]){__VA_ARGS__}) / sizeof(struct slice), (const struct slice[])     \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }

static void predicates_compare_with_any_of_their_values(void **state)
{
    (void)state;
    assert_true(valued("tags", FILTER_EQUAL, VALUES(SLICE("x"), SLICE("bulk-email"))));
    assert_false(valued("tags", FILTER_EQUAL, VALUES(SLICE("bulk"))));
    assert_true(valued("tags", FILTER_CONTAINS, VALUES(SLICE("bulk"))));
    assert_false(valued("tags", FILTER_NOT_EQUAL, VALUES(SLICE("x"), SLICE("bulk-email"))));
    assert_true(valued("subject", FILTER_EQUAL, VALUES(SLICE("hello or good bye (again)"))));
    assert_false(valued("subject", FILTER_EQUAL, VALUES(SLICE("hello"))));
    assert_true(valued("subject", FILTER_CONTAINS, VALUES(SLICE("hello"))));
    assert_true(valued("subject", FILTER_NOT_CONTAINS, VALUES(SLICE("\"(")))); /* as it is */
    assert_true(valued("recipient-domain", FILTER_EQUAL, VALUES(SLICE("example.net"))));
    assert_false(valued("recipient", FILTER_EQUAL, VALUES(SLICE("example.net"))));
    assert_true(valued("message-id", FILTER_EQUAL, VALUES(SLICE("<2026.e65@mg.example.com>"))));
    assert_true(valued("size", FILTER_GREATER, VALUES(SLICE("18000"))));
    assert_false(valued("size", FILTER_LESS_EQUAL, VALUES(SLICE("18000"))));
    assert_true(valued("delivery-status.code", FILTER_EQUAL, VALUES(SLICE("550"))));
    assert_true(valued("delivery-status.code", FILTER_LESS, VALUES(SLICE("600"))));
    assert_true(valued("delivery-status.message", FILTER_CONTAINS, VALUES(SLICE("Unknown"))));
    assert_true(valued("user-variables", FILTER_EQUAL, VALUES(SLICE("{\"email-id\":\"65f0c1\"}"))));
    assert_true(valued("metric-event", FILTER_EQUAL, VALUES(SLICE("permanent_failed"))));
    assert_false(valued("metric-event", FILTER_EQUAL, VALUES(SLICE("temporary_failed"))));
    assert_true(valued("metric-event", FILTER_EQUAL, VALUES(SLICE("opened"), SLICE("failed"))));
}

static void predicates_that_make_no_sense_are_refused(void **state)
{
    static const struct {
        const char *field;
        enum filter_comparator how;
        const char *value;
    } cases[] = {
        {"size", FILTER_EQUAL, "big"},   {"size", FILTER_CONTAINS, "1"},
        {"subject", FILTER_LESS, "1"},   {"metric-event", FILTER_CONTAINS, "failed"},
        {"nonsense", FILTER_EQUAL, "x"},
    };
    struct arena a = {0};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct slice why = {0}, value = slice_str(cases[i].value);
        assert_false(filter_add_values(filter_create(&a), slice_str(cases[i].field), cases[i].how,
                                       &value, 1, &why));
        assert_true(why.len != 0);
    }
    struct slice none, why = {0};
    assert_false(filter_add_values(filter_create(&a), SLICE("tags"), FILTER_EQUAL, &none, 0, &why));
    assert_false(filter_is_field(SLICE("ip"))); /* no parameter of GET …/events */
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_equal_the_whole_value_in_any_case),
        cmocka_unit_test(tags_are_matched_one_by_one),
        cmocka_unit_test(addresses_and_ids_are_matched),
        cmocka_unit_test(texts_contain_terms_and_quotes_hold_them_together),
        cmocka_unit_test(sizes_are_compared),
        cmocka_unit_test(or_binds_weaker_than_and),
        cmocka_unit_test(syntax_errors_are_refused_with_words),
        cmocka_unit_test(lengths_are_bounded_over_all_fields),
        cmocka_unit_test(plans_name_what_an_index_can_answer),
        cmocka_unit_test(a_packed_filter_is_the_same_filter),
        cmocka_unit_test(predicates_compare_with_any_of_their_values),
        cmocka_unit_test(predicates_that_make_no_sense_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
