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
#include "tests/unit/store/state_dir.h"

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

    store_close(f->store);
    state_dir_remove(f->dir);
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

static void expect_walk(struct fixture *f, struct suppression_walk walk, unsigned most,
                        const char *codes)
{
    struct seen s = {.most = most};

    suppression_each(f->t, DOMAIN, SUPPRESS_BOUNCE, &walk, note, &s);
    assert_string_equal(s.codes, codes);
}

static void a_list_is_walked_in_alphabetical_order(void **state)
{
    struct fixture *f = *state;
    struct seen s = {.most = 9};

    list_as(f, SLICE("carl@example.net"), "3");
    list_as(f, SLICE("Bob@example.net"), "2");
    list_as(f, SLICE("ann@example.net"), "1");
    expect_walk(f, (struct suppression_walk){0}, 9, "123");
    expect_walk(f, (struct suppression_walk){.from = SLICE("ann@example.net")}, 1, "2");
    expect_walk(f, (struct suppression_walk){.from = SLICE("b")}, 9, "23");
    expect_walk(f, (struct suppression_walk){.from = SLICE("carl@example.net")}, 9, "");
    suppression_each(f->t, DOMAIN, SUPPRESS_COMPLAINT, &(struct suppression_walk){0}, note, &s);
    assert_int_equal(s.count, 0);
}

static void a_list_is_walked_against_the_order(void **state)
{
    struct fixture *f = *state;

    expect_walk(f, (struct suppression_walk){.backwards = true}, 9, "");
    list_as(f, SLICE("carl@example.net"), "3");
    list_as(f, SLICE("bob@example.net"), "2");
    list_as(f, SLICE("ann@example.net"), "1");
    /* Neighbours in the same table: of the next list, and of the next domain. */
    struct suppression_entry other = {.address = SLICE("aaa@example.net"), .code = SLICE("9")};
    assert_int_equal(suppression_put(f->t, DOMAIN, SUPPRESS_UNSUBSCRIBE, &other, &f->err), 0);
    assert_int_equal(suppression_put(f->t, SLICE("z.example"), SUPPRESS_BOUNCE, &other, &f->err),
                     0);
    expect_walk(f, (struct suppression_walk){.backwards = true}, 9, "321");
    expect_walk(f, (struct suppression_walk){.backwards = true, .from = SLICE("Carl@example.net")},
                9, "21");
    expect_walk(f, (struct suppression_walk){.backwards = true, .from = SLICE("c")}, 1, "2");
    expect_walk(f, (struct suppression_walk){.backwards = true, .from = SLICE("ann@example.net")},
                9, "");
}

static void a_term_narrows_a_walk(void **state)
{
    struct fixture *f = *state;
    struct suppression_walk bs = {.term = SLICE("B")},
                            down = {.term = SLICE("b"), .backwards = true};

    list_as(f, SLICE("ann@example.net"), "1");
    list_as(f, SLICE("bob@example.net"), "2");
    list_as(f, SLICE("Britta@example.net"), "3");
    list_as(f, SLICE("carl@example.net"), "4");
    expect_walk(f, bs, 9, "23");
    expect_walk(f, down, 9, "32");
    bs.from = down.from = SLICE("bob@example.net");
    expect_walk(f, bs, 9, "3");
    expect_walk(f, down, 9, "");
    bs.from = down.from = SLICE("ann@example.net"); /* before all of them */
    expect_walk(f, bs, 9, "23");
    expect_walk(f, down, 9, "");
    bs.from = down.from = SLICE("carl@example.net"); /* after all of them */
    expect_walk(f, bs, 9, "");
    expect_walk(f, down, 9, "32");
}

static void a_list_is_emptied_in_steps_and_ses_hears_of_it(void **state)
{
    struct fixture *f = *state;
    struct suppression_entry other = {.address = SLICE("ann@example.net")};
    struct buf address = {0};
    uint64_t at_us;

    list_as(f, SLICE("ann@example.net"), "1");
    list_as(f, SLICE("bob@example.net"), "2");
    list_as(f, SLICE("carl@example.net"), "3");
    assert_int_equal(suppression_put(f->t, DOMAIN, SUPPRESS_UNSUBSCRIBE, &other, &f->err), 0);
    assert_int_equal(suppression_clear(f->t, DOMAIN, SUPPRESS_BOUNCE, 2, 7, &f->err), 2);
    expect_walk(f, (struct suppression_walk){0}, 9, "3");
    assert_int_equal(suppression_clear(f->t, DOMAIN, SUPPRESS_BOUNCE, 2, 7, &f->err), 1);
    assert_int_equal(suppression_clear(f->t, DOMAIN, SUPPRESS_BOUNCE, 2, 7, &f->err), 0);
    assert_int_equal(suppression_clear(f->t, SLICE("x.example"), SUPPRESS_BOUNCE, 2, 7, &f->err),
                     0);
    assert_true(
        suppression_get(f->t, DOMAIN, SUPPRESS_UNSUBSCRIBE, SLICE("ann@example.net"), &other));
    for (int i = 0; i < 3; i++) {
        assert_true(lifted_first(f->t, &address, &at_us));
        assert_int_equal(at_us, 7);
        assert_int_equal(lifted_delete(f->t, buf_slice(&address), at_us, &f->err), 0);
    }
    assert_int_equal(suppression_clear(f->t, DOMAIN, SUPPRESS_UNSUBSCRIBE, 2, 8, &f->err), 1);
    assert_false(lifted_first(f->t, &address, &at_us));
    buf_fini(&address);
}

static void the_allowlist_knows_addresses_and_domains(void **state)
{
    struct fixture *f = *state;
    struct suppression_entry address = {.address = SLICE("Ann@example.net"),
                                        .code = SLICE("address")};
    struct suppression_entry of_domain = {.address = SLICE("example.org"), .code = SLICE("domain")};

    assert_int_equal(suppression_put(f->t, DOMAIN, SUPPRESS_ALLOW, &address, &f->err), 0);
    assert_int_equal(suppression_put(f->t, DOMAIN, SUPPRESS_ALLOW, &of_domain, &f->err), 0);
    assert_true(allowlist_has(f->t, DOMAIN, SLICE("ann@EXAMPLE.net")));
    assert_true(allowlist_has(f->t, DOMAIN, SLICE("any@Example.org")));
    assert_false(allowlist_has(f->t, DOMAIN, SLICE("bob@example.net")));
    assert_false(allowlist_has(f->t, DOMAIN, SLICE("a@sub.example.org")));
    assert_false(allowlist_has(f->t, SLICE("x.example"), SLICE("ann@example.net")));
    assert_int_equal(suppression_of(f->t, DOMAIN, SLICE("ann@example.net"), NULL, 0),
                     SUPPRESS_NONE);
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

static void control_letter(struct fixture *f, enum control_verb verb, const struct deadletter *d,
                           uint64_t now_us)
{
    const struct record_control r = {.verb = verb, .ids = slice_of(d->id, DEADLETTER_ID_BYTES)};
    enum answer_verdict verdict;
    struct buf words = {0};
    uint32_t count;

    assert_int_equal(deadletter_control(f->t, &r, now_us, &verdict, &count, &words, &f->err), 0);
    assert_int_equal(count, 1);
    buf_fini(&words);
}

static void a_letter_dropped_while_it_is_replayed_stays_dropped(void **state)
{
    struct fixture *f = *state;
    struct deadletter d = {.source = SLICE("queue"),
                           .why = SLICE("no JSON"),
                           .raw = SLICE("{"),
                           .message_id = SLICE("a")},
                      got;

    assert_int_equal(deadletter_put(f->t, &d, &f->err), 0);
    control_letter(f, CONTROL_REPLAY, &d, 100);
    d.why = SLICE("no JSON today");
    assert_int_equal(deadletter_replay_failed(f->t, &d, 99, &f->err), 0);
    assert_true(deadletter_is_wished(f->t, d.id)); /* was wished again meanwhile */
    assert_int_equal(deadletter_replay_failed(f->t, &d, 100, &f->err), 0);
    assert_false(deadletter_is_wished(f->t, d.id));
    assert_true(deadletter_get(f->t, d.id, &got));
    assert_true(slice_eq(got.why, SLICE("no JSON today")));

    control_letter(f, CONTROL_REPLAY, &d, 200);
    control_letter(f, CONTROL_DROP, &d, 201);
    assert_int_equal(deadletter_replay_failed(f->t, &d, 200, &f->err), 0);
    assert_int_equal(deadletter_count(f->t), 0);
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
        TEST(a_list_is_walked_against_the_order),
        TEST(a_term_narrows_a_walk),
        TEST(a_list_is_emptied_in_steps_and_ses_hears_of_it),
        TEST(the_allowlist_knows_addresses_and_domains),
        TEST(a_dead_letter_is_kept_once_and_listed_newest_first),
        TEST(a_letter_dropped_while_it_is_replayed_stays_dropped),
        TEST(an_unsubscribe_from_a_tag_concerns_messages_with_it),
        TEST(soft_bounces_count_until_a_delivery_or_the_window_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
