#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/pack.h"
#include "store/deadletters.h"
#include "store/suppressions.h"

#define DOMAIN SLICE("mg.example.com")

struct fixture {
    char dir[64];
    struct store *store;
    struct store_txn *t;
    struct err err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    (void)snprintf(f->dir, sizeof f->dir, "/tmp/postern-lists-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->store = store_open(f->dir, STORE_WRITE, &f->err);
    assert_non_null(f->store);
    f->t = store_begin_write(f->store, &f->err);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    static const char *const parts[] = {"/store/data.mdb", "/store/lock.mdb", "/store", ""};
    char path[128];

    store_close(f->store);
    for (size_t i = 0; i < 4; i++) {
        (void)snprintf(path, sizeof path, "%s%s", f->dir, parts[i]);
        (void)remove(path);
    }
    free(f);
    return 0;
}

static void list_as(struct fixture *f, struct slice address, const char *code)
{
    struct suppression_entry e = {.address = address,
                                  .code = slice_str(code),
                                  .text = SLICE("words"),
                                  .created_us = 1764000000000000};

    assert_int_equal(suppression_put(f->t, DOMAIN, SUPPRESS_BOUNCE, &e, &f->err), 0);
}

static void an_address_is_found_in_any_case_and_kept_as_written(void **state)
{
    struct fixture *f = *state;
    struct suppression_entry e;

    assert_false(suppression_get(f->t, DOMAIN, SUPPRESS_BOUNCE, SLICE("ann@example.net"), &e));
    list_as(f, SLICE("Ann@Example.net"), "550");
    assert_true(suppression_get(f->t, DOMAIN, SUPPRESS_BOUNCE, SLICE("ann@EXAMPLE.net"), &e));
    assert_true(slice_eq(e.address, SLICE("Ann@Example.net")));
    assert_true(slice_eq(e.code, SLICE("550")));
    assert_true(slice_eq(e.text, SLICE("words")));
    assert_true(e.created_us == 1764000000000000);
    assert_false(suppression_get(f->t, DOMAIN, SUPPRESS_COMPLAINT, SLICE("ann@example.net"), &e));
    assert_false(suppression_get(f->t, SLICE("x.example"), SUPPRESS_BOUNCE, e.address, &e));
    list_as(f, SLICE("ann@example.net"), "554");
    assert_true(suppression_get(f->t, DOMAIN, SUPPRESS_BOUNCE, SLICE("Ann@Example.net"), &e));
    assert_true(slice_eq(e.code, SLICE("554")));
}

static void deleting_twice_says_so(void **state)
{
    struct fixture *f = *state;
    struct slice ann = SLICE("ann@example.net");

    list_as(f, ann, "550");
    assert_int_equal(suppression_delete(f->t, DOMAIN, SUPPRESS_COMPLAINT, ann, &f->err), 0);
    assert_int_equal(
        suppression_delete(f->t, DOMAIN, SUPPRESS_BOUNCE, SLICE("ANN@example.net"), &f->err), 1);
    assert_int_equal(suppression_delete(f->t, DOMAIN, SUPPRESS_BOUNCE, ann, &f->err), 0);
    assert_int_equal(suppression_delete(f->t, SLICE("x.example"), SUPPRESS_BOUNCE, ann, &f->err),
                     0);
}

static void addresses_too_long_for_a_key_stay_apart(void **state)
{
    struct fixture *f = *state;
    uint8_t one[700], two[700];
    struct suppression_entry e;

    memset(one, 'a', sizeof one);
    memset(two, 'a', sizeof two);
    two[699] = 'b';
    list_as(f, slice_of(one, sizeof one), "1");
    assert_false(suppression_get(f->t, DOMAIN, SUPPRESS_BOUNCE, slice_of(two, sizeof two), &e));
    list_as(f, slice_of(two, sizeof two), "2");
    assert_true(suppression_get(f->t, DOMAIN, SUPPRESS_BOUNCE, slice_of(one, sizeof one), &e));
    assert_true(slice_eq(e.code, SLICE("1")));
}

struct seen {
    unsigned count, most;
    char codes[16];
};

static bool note(void *arg, const struct suppression_entry *e)
{
    struct seen *s = arg;

    s->codes[s->count++] = (char)e->code.ptr[0];
    return s->count < s->most;
}

static void a_list_is_walked_in_alphabetical_order(void **state)
{
    struct fixture *f = *state;
    struct seen s = {.most = 9};

    list_as(f, SLICE("carl@example.net"), "3");
    list_as(f, SLICE("Bob@example.net"), "2");
    list_as(f, SLICE("ann@example.net"), "1");
    suppression_each(f->t, DOMAIN, SUPPRESS_BOUNCE, (struct slice){0}, note, &s);
    assert_string_equal(s.codes, "123");
    s = (struct seen){.most = 1};
    suppression_each(f->t, DOMAIN, SUPPRESS_BOUNCE, SLICE("ann@example.net"), note, &s);
    assert_string_equal(s.codes, "2");
    s = (struct seen){.most = 9};
    suppression_each(f->t, DOMAIN, SUPPRESS_BOUNCE, SLICE("b"), note, &s);
    assert_string_equal(s.codes, "23");
    s = (struct seen){.most = 9};
    suppression_each(f->t, DOMAIN, SUPPRESS_COMPLAINT, (struct slice){0}, note, &s);
    assert_int_equal(s.count, 0);
}

static bool note_letter(void *arg, const struct deadletter *d)
{
    struct seen *s = arg;

    s->codes[s->count++] = (char)d->message_id.ptr[0];
    return s->count < s->most;
}

static void a_dead_letter_is_kept_once_and_listed_newest_first(void **state)
{
    struct fixture *f = *state;
    struct deadletter d = {.source = SLICE("queue"), .why = SLICE("no JSON"), .raw = SLICE("{")},
                      got;
    struct seen s = {.most = 9};

    d.message_id = SLICE("a");
    d.wall_us = 100;
    assert_int_equal(deadletter_put(f->t, &d, &f->err), 0);
    d.message_id = SLICE("b");
    d.wall_us = 200;
    assert_int_equal(deadletter_put(f->t, &d, &f->err), 0);
    d.message_id = SLICE("a"); /* delivered again, later */
    d.wall_us = 300;
    d.why = SLICE("still no JSON");
    assert_int_equal(deadletter_put(f->t, &d, &f->err), 0);
    assert_int_equal(d.wall_us, 100);
    assert_int_equal(deadletter_count(f->t), 2);
    deadletter_each(f->t, note_letter, &s);
    assert_string_equal(s.codes, "ba");
    assert_true(deadletter_get(f->t, d.id, &got));
    assert_true(slice_eq(got.why, SLICE("still no JSON")));
    assert_true(slice_eq(got.raw, SLICE("{")));
    assert_int_equal(deadletter_delete(f->t, d.id, &f->err), 1);
    assert_int_equal(deadletter_delete(f->t, d.id, &f->err), 0);
    assert_int_equal(deadletter_count(f->t), 1);
    s = (struct seen){.most = 9};
    deadletter_each(f->t, note_letter, &s);
    assert_string_equal(s.codes, "b");
}

static void an_unsubscribe_from_a_tag_concerns_messages_with_it(void **state)
{
    struct fixture *f = *state;
    struct suppression_entry entry = {.address = SLICE("a@b.example")}, got;
    struct slice tags[] = {SLICE("weekly"), SLICE("Offers")};
    struct buf packed = {0};

    assert_int_equal(suppression_put(f->t, DOMAIN, SUPPRESS_UNSUBSCRIBE, &entry, &f->err), 0);
    assert_true(suppression_get(f->t, DOMAIN, SUPPRESS_UNSUBSCRIBE, entry.address, &got));
    assert_true(suppression_concerns(&got, tags, 2));
    assert_true(suppression_concerns(&got, NULL, 0));
    pack_array(&packed, 2);
    pack_str(&packed, SLICE("offers"));
    pack_str(&packed, SLICE("daily"));
    entry.tags = buf_slice(&packed);
    assert_int_equal(suppression_put(f->t, DOMAIN, SUPPRESS_UNSUBSCRIBE, &entry, &f->err), 0);
    assert_true(suppression_get(f->t, DOMAIN, SUPPRESS_UNSUBSCRIBE, entry.address, &got));
    assert_true(suppression_concerns(&got, tags, 2));
    assert_false(suppression_concerns(&got, tags, 1));
    assert_false(suppression_concerns(&got, NULL, 0));
    buf_fini(&packed);
}

static void soft_bounces_count_until_a_delivery_or_the_window_ends(void **state)
{
    struct fixture *f = *state;
    const struct slice address = SLICE("a@b.example"), other = SLICE("c@b.example");
    const uint64_t window = 1000;

    assert_int_equal(soft_bounce_add(f->t, DOMAIN, address, 100, 3, window, &f->err), 0);
    assert_int_equal(soft_bounce_add(f->t, DOMAIN, address, 200, 3, window, &f->err), 0);
    assert_int_equal(soft_bounce_add(f->t, DOMAIN, other, 250, 3, window, &f->err), 0);
    assert_int_equal(soft_bounce_add(f->t, DOMAIN, SLICE("A@B.example"), 300, 3, window, &f->err),
                     1);
    assert_int_equal(soft_bounce_add(f->t, DOMAIN, address, 400, 3, window, &f->err), 0);
    assert_int_equal(soft_bounce_add(f->t, DOMAIN, address, 500, 3, window, &f->err), 0);
    assert_int_equal(soft_bounce_reset(f->t, DOMAIN, address, &f->err), 0);
    assert_int_equal(soft_bounce_add(f->t, DOMAIN, address, 600, 3, window, &f->err), 0);
    assert_int_equal(soft_bounce_add(f->t, DOMAIN, address, 700, 3, window, &f->err), 0);
    assert_int_equal(soft_bounce_add(f->t, DOMAIN, address, 1650, 3, window, &f->err), 0);
    assert_int_equal(soft_bounce_add(f->t, DOMAIN, address, 1660, 3, window, &f->err), 1);
    assert_int_equal(soft_bounce_add(f->t, DOMAIN, other, 1661, 0, window, &f->err), 0);
    assert_int_equal(soft_bounce_reset(f->t, SLICE("never.example"), address, &f->err), 0);
}

static void unsubscribe(struct fixture *f, const char *const *tags, size_t count)
{
    struct buf packed = {0};
    if (count > 0)
        pack_array(&packed, count);
    for (size_t i = 0; i < count; i++)
        pack_str(&packed, slice_str(tags[i]));
    struct suppression_entry e = {.address = SLICE("Ann@example.net"), .tags = buf_slice(&packed)};
    assert_int_equal(unsubscribe_put(f->t, DOMAIN, &e, &f->err), 0);
    buf_fini(&packed);
}

static bool concerns(struct fixture *f, const char *tag)
{
    struct suppression_entry e;
    struct slice tags[] = {slice_str(tag)};

    return suppression_get(f->t, DOMAIN, SUPPRESS_UNSUBSCRIBE, SLICE("ann@example.net"), &e) &&
           suppression_concerns(&e, tags, 1);
}

static void unsubscribes_gather_tags_and_lose_them_one_by_one(void **state)
{
    struct fixture *f = *state;
    const struct slice ann = SLICE("ANN@example.net");

    unsubscribe(f, (const char *const[]){"news"}, 1);
    unsubscribe(f, (const char *const[]){"NEWS", "offers"}, 2);
    assert_true(concerns(f, "news") && concerns(f, "Offers"));
    assert_false(concerns(f, "other"));
    assert_int_equal(unsubscribe_delete_tag(f->t, DOMAIN, ann, SLICE("other"), &f->err), 0);
    assert_int_equal(unsubscribe_delete_tag(f->t, DOMAIN, ann, SLICE("News"), &f->err), 1);
    assert_false(concerns(f, "news"));
    assert_true(concerns(f, "offers"));
    assert_int_equal(unsubscribe_delete_tag(f->t, DOMAIN, ann, SLICE("offers"), &f->err), 1);
    assert_false(concerns(f, "offers"));
    assert_int_equal(unsubscribe_delete_tag(f->t, DOMAIN, ann, SLICE("offers"), &f->err), 0);

    unsubscribe(f, (const char *const[]){"news"}, 1);
    unsubscribe(f, NULL, 0); /* from everything */
    assert_true(concerns(f, "whatever"));
    unsubscribe(f, (const char *const[]){"news"}, 1);
    assert_true(concerns(f, "whatever"));
    assert_int_equal(unsubscribe_delete_tag(f->t, DOMAIN, ann, SLICE("news"), &f->err), 0);
    store_abort(f->t);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(unsubscribes_gather_tags_and_lose_them_one_by_one),
        TEST(an_address_is_found_in_any_case_and_kept_as_written),
        TEST(deleting_twice_says_so),
        TEST(addresses_too_long_for_a_key_stay_apart),
        TEST(a_list_is_walked_in_alphabetical_order),
        TEST(a_dead_letter_is_kept_once_and_listed_newest_first),
        TEST(an_unsubscribe_from_a_tag_concerns_messages_with_it),
        TEST(soft_bounces_count_until_a_delivery_or_the_window_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
