#include "httpd/events.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const uint64_t now_us = 1795431300000000, day_us = 86400000000;
static const uint64_t settled_us = 1795431299000000; /* a second before */

static bool ask(struct arena *a, const char *query, struct events_request *r, struct slice *why)
{
    return events_request_read(r, SLICE("example.com"), (struct slice){0}, slice_str(query), now_us,
                               30 * day_us, a, why);
}

static struct page_token range(struct arena *a, const char *query)
{
    struct events_request r;
    struct slice why = {0};

    assert_true(ask(a, query, &r, &why));
    return r.token;
}

static void refused(struct arena *a, const char *query, const char *words)
{
    struct events_request r;
    struct slice why = {0};

    assert_false(ask(a, query, &r, &why));
    if (words != NULL)
        assert_true(slice_eq(why, slice_str(words)));
}

static void the_direction_follows_from_begin_and_end(void **unused)
{
    struct arena a = {0};
    struct page_token t;

    (void)unused;
    t = range(&a, "");
    assert_false(t.ascending);
    assert_int_equal(t.until_us, settled_us);
    assert_int_equal(t.from_us, now_us - 30 * day_us);
    assert_int_equal(t.limit, 100);

    t = range(&a, "begin=1795431197&end=1795431260.575&ascending=yes&limit=300");
    assert_true(t.ascending && !t.open_end);
    assert_int_equal(t.from_us, 1795431197000000);
    assert_int_equal(t.until_us, 1795431260575000);
    assert_int_equal(t.limit, 300);

    t = range(&a, "begin=1795431260&end=1795431197");
    assert_false(t.ascending);
    assert_int_equal(t.from_us, 1795431197000000);
    assert_int_equal(t.until_us, 1795431260000000);

    t = range(&a, "ascending=true&end=1795431260");
    assert_true(t.ascending);
    assert_int_equal(t.from_us, now_us - 30 * day_us);

    t = range(&a, "begin=1795431197&ascending=1");
    assert_true(t.ascending && t.open_end);
    assert_int_equal(t.until_us, UINT64_MAX);

    t = range(&a, "begin=1795431197");
    assert_false(t.ascending);
    assert_int_equal(t.until_us, 1795431197000000);

    t = range(&a, "begin=1795431197&end=1795439999");
    assert_true(t.ascending && t.open_end);
    assert_int_equal(events_covered_us(&t, now_us), settled_us);
    arena_fini(&a);
}

static uint64_t stepped_from(struct arena *a, const char *query)
{
    struct events_request r;
    struct slice why = {0};

    assert_true(ask(a, query, &r, &why));
    return r.stepped_from_us;
}

static void only_a_begin_with_a_fraction_and_an_end_may_be_a_step(void **unused)
{
    struct arena a = {0};

    (void)unused;
    assert_int_equal(stepped_from(&a, "begin=1795431197.125&end=1795431260.575&ascending=yes"),
                     1795431196125000);
    assert_int_equal(stepped_from(&a, "begin=1795431197&end=1795431260.575&ascending=yes"), 0);
    assert_int_equal(stepped_from(&a, "begin=1795431197.125&ascending=yes"), 0);
    assert_int_equal(stepped_from(&a, "begin=1795431260.125&end=1795431197"), 0);
    assert_int_equal(stepped_from(&a, "end=1795431197.125&ascending=yes"), 0);
    arena_fini(&a);
}

static void what_mailgun_js_writes_for_an_unset_option_is_absent(void **unused)
{
    struct arena a = {0};
    struct page_token t = range(&a, "begin=undefined&end=null&limit=&ascending=undefined&event=");

    (void)unused;
    assert_false(t.ascending);
    assert_int_equal(t.until_us, settled_us);
    assert_int_equal(t.limit, 100);
    arena_fini(&a);
}

static void mistakes_are_named(void **unused)
{
    struct arena a = {0};

    (void)unused;
    refused(&a, "begin=yesterday", "'begin' parameter is not a valid date");
    refused(&a, "end=x", "'end' parameter is not a valid date");
    refused(&a, "limit=0", "'limit' parameter is not a positive number");
    refused(&a, "limit=-1", "'limit' parameter is not a positive number");
    refused(&a, "limit=ten", "'limit' parameter is not a positive number");
    refused(&a, "begin=1795431197&end=1795431260&ascending=no",
            "'ascending' parameter contradicts 'begin' and 'end'");
    refused(&a, "event=(delivered", NULL);
    refused(&a, "page=AAAA", "page is not valid");
    assert_int_equal(range(&a, "limit=1000").limit, 300);
    assert_int_equal(range(&a, "unknown=x&pretty=yes").limit, 100);
    arena_fini(&a);
}

static void a_begin_before_the_retention_is_no_mistake(void **unused)
{
    struct arena a = {0};

    (void)unused;
    assert_int_equal(range(&a, "begin=1&ascending=yes").from_us, now_us - 30 * day_us);
    arena_fini(&a);
}

static void a_token_wins_over_the_query_beside_it(void **unused)
{
    struct arena a = {0};
    struct events_request first, again;
    struct slice why = {0};
    struct buf text = {0}, query = {0};

    (void)unused;
    assert_true(ask(&a, "begin=1795431197&end=1795431260&limit=7&event=opened", &first, &why));
    page_token_write(&text, &first.token);
    assert_true(events_request_read(&again, SLICE("example.com"), buf_slice(&text),
                                    SLICE("limit=300&begin=nonsense&event=("), now_us, day_us, &a,
                                    &why));
    assert_int_equal(again.token.limit, 7);
    assert_int_equal(again.token.from_us, 1795431197000000);
    assert_non_null(again.filter);
    struct event opened = {.type = EVENT_OPENED}, failed = {.type = EVENT_FAILED};
    assert_true(filter_match(again.filter, &opened));
    assert_false(filter_match(again.filter, &failed));

    buf_add_str(&query, "limit=300&page=");
    buf_add_slice(&query, buf_slice(&text));
    assert_true(ask(&a, buf_cstr(&query), &again, &why));
    assert_int_equal(again.token.limit, 7);
    assert_false(events_request_read(&again, SLICE("example.org"), buf_slice(&text),
                                     (struct slice){0}, now_us, day_us, &a, &why));
    buf_fini(&text);
    buf_fini(&query);
    arena_fini(&a);
}

static void links_of_a_page_start_at_its_ends(void **unused)
{
    struct event_position first = {.timestamp_us = 10, .id = {1}},
                          last = {.timestamp_us = 20, .id = {2}};
    struct page_token t = {.ascending = true, .limit = 2, .until_us = 100}, to;

    (void)unused;
    to = events_link(&t, LINK_NEXT, 2, &first, &last);
    assert_true(to.has_position && !to.backwards);
    assert_int_equal(to.position_us, 20);
    to = events_link(&t, LINK_PREVIOUS, 2, &first, &last);
    assert_true(to.has_position && to.backwards);
    assert_int_equal(to.position_us, 10);
    to = events_link(&t, LINK_LAST, 2, &first, &last);
    assert_true(to.last_page && !to.has_position && !to.backwards);
    to = events_link(&to, LINK_FIRST, 2, &first, &last);
    assert_true(!to.last_page && !to.has_position && !to.backwards);
}

static void an_empty_page_keeps_its_place(void **unused)
{
    struct event_position none = {0};
    struct page_token t = {.ascending = true,
                           .limit = 2,
                           .has_position = true,
                           .position_us = 20,
                           .position_id = {[14] = 4, [15] = 0xff}};
    struct page_token to;

    (void)unused;
    to = events_link(&t, LINK_NEXT, 0, &none, &none);
    assert_memory_equal(&to, &t, sizeof t);
    to = events_link(&t, LINK_PREVIOUS, 0, &none, &none); /* back to the page that ended here */
    assert_true(to.backwards && to.has_position);
    assert_int_equal(to.position_us, 20);
    assert_int_equal(to.position_id[14], 5);
    assert_int_equal(to.position_id[15], 0);
    t.ascending = false;
    to = events_link(&t, LINK_PREVIOUS, 0, &none, &none);
    assert_int_equal(to.position_id[14], 4);
    assert_int_equal(to.position_id[15], 0xfe);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_direction_follows_from_begin_and_end),
        cmocka_unit_test(only_a_begin_with_a_fraction_and_an_end_may_be_a_step),
        cmocka_unit_test(what_mailgun_js_writes_for_an_unset_option_is_absent),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(a_begin_before_the_retention_is_no_mistake),
        cmocka_unit_test(a_token_wins_over_the_query_beside_it),
        cmocka_unit_test(links_of_a_page_start_at_its_ends),
        cmocka_unit_test(an_empty_page_keeps_its_place),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
