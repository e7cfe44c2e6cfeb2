#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"
#include "mail/filter.h"
#include "store/events.h"
#include "store/internal.h"
#include "tests/unit/store/state_dir.h"

enum { NOW_S = 1764000000 };
#define NOW_US ((uint64_t)NOW_S * 1000000)
#define DOMAIN SLICE("mg.example.com")
static const char domain_name[] = "mg.example.com";
static const struct slice domain_list[] = {{(const uint8_t *)domain_name, sizeof domain_name - 1}};

struct fixture {
    char dir[64];
    struct store *store;
    struct arena arena;
    uint32_t made;
    bool short_pages; /* a page that was cut is taken as it is */
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = {0};

    (void)snprintf(f->dir, sizeof f->dir, "/tmp/postern-events-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->store = store_open_sized(f->dir, STORE_WRITE, 1 << 20, &err);
    assert_non_null(f->store);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    store_close(f->store);
    state_dir_remove(f->dir);
    arena_fini(&f->arena);
    free(f);
    return 0;
}

/* The serial number stands in the subject, so that a page can be read back as numbers. */
static struct event make(struct fixture *f, enum event_type type, const char *tag, uint64_t ses_us)
{
    struct slice *tags = arena_array(&f->arena, 2, sizeof *tags);
    struct event e = {
        .ses_us = ses_us,
        .type = type,
        .domain = DOMAIN,
        .recipient = arena_printf(&f->arena, "User%u@Example.net", f->made % 10),
        .message_id = arena_printf(&f->arena, "m%u@mg.example.com", f->made % 7),
        .subject = arena_printf(&f->arena, "%u", f->made),
        .tags = tags,
        .tag_count = 2,
    };

    tags[0] = slice_str(tag);
    tags[1] = SLICE("ghost-email");
    event_make_id(&e, &e.subject, 1);
    f->made++;
    return e;
}

static int put(struct fixture *f, struct event *e, uint64_t now_us)
{
    struct err err = {0};
    struct store_txn *t = store_begin_write(f->store, &err);

    assert_non_null(t);
    int got = event_put(t, e, now_us, &err);
    if (got < 0)
        fail_msg("%s", err.text);
    assert_int_equal(store_commit(t, &err), 0);
    return got;
}

/* Serials, at these times (µs before NOW). */
static void fill(struct fixture *f, uint32_t count, uint64_t step_us)
{
    static const enum event_type types[] = {EVENT_DELIVERED, EVENT_OPENED, EVENT_FAILED};
    uint64_t start = NOW_US - (count + 1) * step_us;

    for (uint32_t i = 0; i < count; i++) {
        struct event e = make(f, types[i % 3], i % 2 == 0 ? "bulk-email" : "Automation-Email",
                              start + i * step_us + 1);
        assert_int_equal(put(f, &e, NOW_US), 1);
    }
}

struct page {
    uint32_t count;
    unsigned calls;
    unsigned serial[400];
    uint64_t us[400];
    struct event_position first, last;
};

static struct page ask(struct fixture *f, const struct event_query *q)
{
    struct err err = {0};
    struct event_page read = {0};
    struct page page = {0};

    buf_add_byte(&read.items, '[');
    do {
        struct store_txn *t = store_begin_read(f->store, &err);
        assert_non_null(t);
        assert_int_equal(event_query_run(t, q, &read, &err), 0);
        store_end_read(t);
        page.calls++;
    } while (read.cut && (!f->short_pages || read.count == 0));
    event_page_end(q, &read);
    buf_add_byte(&read.items, ']');
    page.count = read.count;
    page.first = read.first;
    page.last = read.last;
    cJSON *tree = json_parse(buf_slice(&read.items));
    assert_non_null(tree);
    uint32_t n = 0;
    for (const cJSON *item = json_first(tree); item != NULL; item = item->next, n++) {
        const cJSON *headers = json_get(json_get(item, "message"), "headers");
        struct slice subject = json_get_text(headers, "subject");
        uint64_t serial = 0;
        assert_true(slice_to_u64(subject, &serial));
        page.serial[n] = (unsigned)serial;
        page.us[n] = (uint64_t)(json_get(item, "timestamp")->valuedouble * 1e6 + 0.5);
    }
    assert_int_equal(n, page.count);
    json_free(tree);
    event_page_fini(&read);
    return page;
}

static struct event_query all(bool ascending, uint32_t limit)
{
    return (struct event_query){
        .domains = domain_list,
        .domain_count = 1,
        .until_us = UINT64_MAX,
        .ascending = ascending,
        .limit = limit,
    };
}

static void go_on(struct event_query *q, struct event_position at, bool backwards)
{
    q->has_position = true;
    q->position = at;
    q->backwards = backwards;
    q->last_page = false;
}

static struct filter *filtered(struct fixture *f, const char *event, const char *tags)
{
    struct filter *filter = filter_create(&f->arena);
    struct slice why;

    if (event != NULL)
        assert_true(filter_add(filter, SLICE("event"), slice_str(event), &why));
    if (tags != NULL)
        assert_true(filter_add(filter, SLICE("tags"), slice_str(tags), &why));
    return filter;
}

static void pages_walk_up_and_down_once_over_everything(void **state)
{
    struct fixture *f = *state;

    fill(f, 100, 1000);
    for (int ascending = 0; ascending < 2; ascending++) {
        struct event_query q = all(ascending != 0, 7);
        struct page page;
        unsigned seen = 0;
        while ((page = ask(f, &q)).count > 0) {
            for (uint32_t i = 0; i < page.count; i++, seen++)
                assert_int_equal(page.serial[i], ascending ? seen : 99 - seen);
            go_on(&q, page.last, false);
        }
        assert_int_equal(seen, 100);
    }
}

static void first_previous_and_last_pages_agree_with_the_walk(void **state)
{
    struct fixture *f = *state;

    fill(f, 50, 1000);
    for (int ascending = 0; ascending < 2; ascending++) {
        struct event_query q = all(ascending != 0, 10);
        struct page one = ask(f, &q);
        go_on(&q, one.first, true);
        assert_int_equal(ask(f, &q).count, 0); /* before the first page */
        go_on(&q, one.last, false);
        struct page two = ask(f, &q);
        go_on(&q, two.first, true);
        struct page back = ask(f, &q);
        assert_int_equal(back.count, 10);
        assert_memory_equal(back.serial, one.serial, sizeof one.serial);
        assert_memory_equal(&back.last, &one.last, sizeof one.last);

        q = all(ascending != 0, 10);
        q.last_page = true;
        struct page end = ask(f, &q);
        assert_int_equal(end.count, 10);
        assert_int_equal(end.serial[9], ascending ? 49 : 0);
        assert_int_equal(end.serial[0], ascending ? 40 : 9);
        go_on(&q, end.last, false);
        assert_int_equal(ask(f, &q).count, 0);
        q = all(ascending != 0, 10);
        q.backwards = true; /* and no position: before the range */
        assert_int_equal(ask(f, &q).count, 0);
    }
}

static void both_bounds_are_inclusive_to_the_microsecond(void **state)
{
    struct fixture *f = *state;
    uint64_t at = NOW_US - 5000000 + 1123;

    for (uint64_t i = 0; i < 5; i++) {
        struct event e = make(f, EVENT_DELIVERED, "t", at + i);
        assert_int_equal(put(f, &e, NOW_US), 1);
    }
    for (int ascending = 0; ascending < 2; ascending++) {
        struct event_query q = all(ascending != 0, 10);
        q.from_us = at + 1;
        q.until_us = at + 3;
        struct page page = ask(f, &q);
        assert_int_equal(page.count, 3);
        assert_int_equal(page.serial[0], ascending ? 1 : 3);
        assert_int_equal(page.serial[2], ascending ? 3 : 1);
        /* A position outside the range does not widen it. */
        struct event_position outside = {.timestamp_us = ascending ? at - 50 : at + 50};
        go_on(&q, outside, false);
        assert_int_equal(ask(f, &q).count, 3);
        q.until_us = q.from_us - 1;
        assert_int_equal(ask(f, &q).count, 0);
    }
}

static void a_walk_is_not_disturbed_by_what_is_stored_meanwhile(void **state)
{
    struct fixture *f = *state;
    struct event_query q = all(true, 10);
    bool seen[200] = {false};
    struct page page;
    unsigned rounds = 0;

    fill(f, 60, 1000);
    while ((page = ask(f, &q)).count > 0) {
        for (uint32_t i = 0; i < page.count; i++) {
            assert_false(seen[page.serial[i]]);
            seen[page.serial[i]] = true;
        }
        go_on(&q, page.last, false);
        if (rounds++ < 5) { /* one behind the position, one before it */
            struct event behind = make(f, EVENT_OPENED, "bulk-email", page.us[0] - 1);
            struct event ahead = make(f, EVENT_OPENED, "bulk-email", NOW_US - 10 + rounds);
            assert_int_equal(put(f, &behind, NOW_US), 1);
            assert_int_equal(put(f, &ahead, NOW_US), 1);
        }
    }
    for (unsigned i = 0; i < 60; i++)
        assert_true(seen[i]);
    for (unsigned i = 60; i < 70; i++)
        assert_int_equal(seen[i], i % 2 == 1);
}

/* What goes behind the position, or just ahead of it, leaves the rest of the walk as it was. */
static void a_walk_is_not_disturbed_by_what_expires_meanwhile(void **state)
{
    struct fixture *f = *state;
    struct event_query q = all(true, 10);
    unsigned next = 0;
    struct page page;
    struct err err = {0};

    fill(f, 100, 1000);
    while ((page = ask(f, &q)).count > 0) {
        for (uint32_t i = 0; i < page.count; i++)
            assert_int_equal(page.serial[i], next++);
        go_on(&q, page.last, false);
        if (next != 30)
            continue;
        struct store_txn *t = store_begin_write(f->store, &err);
        assert_int_equal(event_expire(t, page.us[9] + 5001, 1000, &err), 35);
        assert_int_equal(store_commit(t, &err), 0);
        next = 35;
        struct event_query back = q;
        back.backwards = true;
        assert_int_equal(ask(f, &back).count, 0); /* nothing is left before */
    }
    assert_int_equal(next, 100);
}

static void filters_use_their_index_and_agree_with_looking_at_everything(void **state)
{
    struct fixture *f = *state;
    static const char *const events[] = {NULL,         "delivered", "delivered OR failed",
                                         "NOT opened", "accepted",  "*"};
    static const char *const tags[] = {NULL,
                                       "bulk-email",
                                       "AUTOMATION-email AND ghost-email",
                                       "bulk-email OR automation-email",
                                       "NOT bulk-email",
                                       "other"};

    fill(f, 120, 1000);
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++)
        for (size_t k = 0; k < sizeof tags / sizeof tags[0]; k++)
            for (int ascending = 0; ascending < 2; ascending++) {
                struct event_query q = all(ascending != 0, 11);
                q.filter = filtered(f, events[i], tags[k]);
                unsigned expected[120], count = 0, seen = 0;
                for (unsigned n = 0; n < 120; n++) {
                    unsigned serial = ascending ? n : 119 - n;
                    bool type = i == 0 || i == 5 || (i == 1 && serial % 3 == 0) ||
                                ((i == 2 || i == 3) && serial % 3 != 1);
                    bool tag = k == 0 || k == 3 || (k == 1 && serial % 2 == 0) ||
                               ((k == 2 || k == 4) && serial % 2 == 1);
                    if (type && tag)
                        expected[count++] = serial;
                }
                struct page page;
                while ((page = ask(f, &q)).count > 0) {
                    for (uint32_t n = 0; n < page.count; n++, seen++)
                        assert_int_equal(page.serial[n], expected[seen]);
                    go_on(&q, page.last, false);
                }
                assert_int_equal(seen, count);
            }
}

static void recipients_and_message_ids_are_found(void **state)
{
    struct fixture *f = *state;
    struct event_query q = all(true, 100);
    struct filter *filter = filter_create(&f->arena);
    struct slice why;

    fill(f, 70, 1000);
    assert_true(filter_add(filter, SLICE("recipient"), SLICE("USER3@example.net"), &why));
    q.filter = filter;
    struct page page = ask(f, &q);
    assert_int_equal(page.count, 7);
    assert_int_equal(page.serial[6], 63);
    assert_true(filter_add(filter, SLICE("message-id"), SLICE("<m3@mg.example.com>"), &why));
    page = ask(f, &q);
    assert_int_equal(page.count, 1);
    assert_int_equal(page.serial[0], 3);
    filter = filter_create(&f->arena);
    assert_true(filter_add(filter, SLICE("recipient"), SLICE("example.net"), &why));
    q.filter = filter;
    assert_int_equal(ask(f, &q).count, 70);
    q.domains = &(const struct slice){(const uint8_t *)"other.example", 13};
    assert_int_equal(ask(f, &q).count, 0);
}

static void the_same_event_again_changes_nothing(void **state)
{
    struct fixture *f = *state;
    struct event e = make(f, EVENT_OPENED, "t", NOW_US - 1234567), again = e;
    struct event_query q = all(true, 10);
    struct err err = {0};

    assert_int_equal(put(f, &e, NOW_US), 1);
    struct store_txn *t = store_begin_write(f->store, &err);
    assert_int_equal(watermark_raise(t, DOMAIN, NOW_US - 500, &err), 0);
    assert_int_equal(store_commit(t, &err), 0);
    assert_int_equal(put(f, &again, NOW_US + 9000000), 0);
    assert_true(again.timestamp_us == e.timestamp_us);
    assert_int_equal(ask(f, &q).count, 1);
}

static void a_late_event_is_put_past_the_watermark(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    uint64_t mark = NOW_US - 60000000;
    struct store_txn *t = store_begin_write(f->store, &err);

    assert_true(watermark_read(t, DOMAIN) == 0);
    assert_int_equal(watermark_raise(t, DOMAIN, mark, &err), 0);
    assert_int_equal(watermark_raise(t, DOMAIN, mark - 1, &err), 0); /* never lowered */
    assert_true(watermark_read(t, DOMAIN) == mark);
    assert_int_equal(store_commit(t, &err), 0);

    struct event late = make(f, EVENT_OPENED, "t", mark - 777);
    assert_int_equal(put(f, &late, NOW_US), 1);
    assert_true(late.timestamp_us == mark + 1000000 + 1000); /* a whole second gets a millisecond */
    struct event early = make(f, EVENT_OPENED, "t", mark + 1000000 + 1005);
    assert_int_equal(put(f, &early, NOW_US), 1);
    assert_true(early.timestamp_us == early.ses_us);
    struct event whole = make(f, EVENT_OPENED, "t", NOW_US - 3000000);
    assert_int_equal(put(f, &whole, NOW_US), 1);
    assert_true(whole.timestamp_us == NOW_US - 3000000 + 1000 && !event_is_late(&whole));
    struct event near = make(f, EVENT_OPENED, "t", NOW_US - 3000000 + 999);
    assert_int_equal(put(f, &near, NOW_US), 1);
    assert_true(near.timestamp_us == NOW_US - 3000000 + 1000);
    struct event ahead = make(f, EVENT_OPENED, "t", NOW_US + 5000000);
    assert_int_equal(put(f, &ahead, NOW_US + 1017), 1);
    assert_true(ahead.timestamp_us == NOW_US + 1017);
    struct event exact = make(f, EVENT_OPENED, "t", NOW_US + 5000000);
    assert_int_equal(put(f, &exact, NOW_US + 999), 1);
    assert_true(exact.timestamp_us == NOW_US - 1); /* neither near a second nor in the future */

    t = store_begin_write(f->store, &err);
    assert_int_equal(watermark_raise(t, DOMAIN, NOW_US, &err), 0);
    assert_int_equal(store_commit(t, &err), 0);
    struct event set_back = make(f, EVENT_OPENED, "t", NOW_US - 9);
    assert_int_equal(put(f, &set_back, NOW_US - 100), 1);
    /* A whole step past the mark, whatever the clock says. */
    assert_true(set_back.timestamp_us == NOW_US + 1000000 + 1000);
}

static void what_no_index_answers_is_read_in_short_turns(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    struct filter *filter = filter_create(&f->arena);
    struct slice why;
    enum { COUNT = 35000, TURN = 4000 };
    struct store_txn *t;

    for (int i = 0; i < 7; i++) { /* room for all of it in one transaction */
        f->store->map_was_full = true;
        store_abort(store_begin_write(f->store, &err));
    }
    t = store_begin_write(f->store, &err);
    for (uint32_t i = 0; i < COUNT; i++) {
        struct event e = {.ses_us = NOW_US - 2 * COUNT + i, .type = EVENT_OPENED, .domain = DOMAIN};
        bool marked = i == 5 || i == COUNT - 1 || i == COUNT - 2;
        struct slice serial = arena_printf(&f->arena, "%u", i);
        e.subject = serial;
        e.ip = marked ? SLICE("192.0.2.1") : (struct slice){0};
        event_make_id(&e, &serial, 1);
        assert_int_equal(event_put(t, &e, NOW_US, &err), 1);
    }
    assert_int_equal(store_commit(t, &err), 0);
    assert_true(filter_add_values(filter, SLICE("ip"), FILTER_EQUAL,
                                  &(const struct slice){(const uint8_t *)"192.0.2.1", 9}, 1, &why));
    for (int ascending = 0; ascending < 2; ascending++) {
        struct event_query q = all(ascending != 0, 10);
        q.filter = filter;
        q.look_max = TURN;
        f->short_pages = false;
        struct page page = ask(f, &q);
        assert_int_equal(page.count, 3);
        assert_true(page.calls >= COUNT / TURN && page.calls <= 3 * (COUNT / TURN));
        f->short_pages = true; /* never an empty one too early */
        page = ask(f, &q);
        assert_int_equal(page.count, ascending ? 1 : 2);
        go_on(&q, page.last, false);
        page = ask(f, &q);
        assert_int_equal(page.count, ascending ? 2 : 1);
        go_on(&q, page.last, false);
        assert_int_equal(ask(f, &q).count, 0);
        q = all(ascending != 0, 10);
        q.filter = filter;
        q.look_max = TURN;
        q.last_page = true; /* read against the order, in turns, and turned round */
        f->short_pages = false;
        page = ask(f, &q);
        assert_int_equal(page.count, 3);
        assert_int_equal(page.serial[0], ascending ? 5 : COUNT - 1);
        assert_int_equal(page.serial[2], ascending ? COUNT - 1 : 5);
    }
}

static size_t rows(struct fixture *f, enum store_db db)
{
    struct err err = {0};
    struct store_txn *t = store_begin_read(f->store, &err);
    MDB_stat stat;

    assert_int_equal(mdb_stat(t->mdb, f->store->dbi[db], &stat), 0);
    store_end_read(t);
    return stat.ms_entries;
}

static void expired_events_leave_no_row_behind(void **state)
{
    struct fixture *f = *state;
    static const enum store_db dbs[] = {DB_EVENTS, DB_EVENT_IDS,    DB_BY_TYPE,
                                        DB_BY_TAG, DB_BY_RECIPIENT, DB_BY_MESSAGE};
    struct err err = {0};

    fill(f, 40, 1000);
    struct store_txn *t = store_begin_write(f->store, &err);
    assert_int_equal(event_expire(t, NOW_US - 21000, 15, &err), 15);
    assert_int_equal(event_expire(t, NOW_US - 21000, 15, &err), 5);
    assert_int_equal(event_expire(t, NOW_US - 21000, 15, &err), 0);
    assert_int_equal(store_commit(t, &err), 0);
    struct event_query q = all(true, 100);
    struct page page = ask(f, &q);
    assert_int_equal(page.count, 20);
    assert_int_equal(page.serial[0], 20);
    for (size_t i = 0; i < sizeof dbs / sizeof dbs[0]; i++)
        if (dbs[i] != DB_BY_RECIPIENT && dbs[i] != DB_BY_MESSAGE)
            assert_int_equal(rows(f, dbs[i]), dbs[i] == DB_BY_TAG || dbs[i] == DB_EVENT_IDS
                                                  ? 40
                                                  : 20); /* ids stay */
    /* A row of a list goes with the last of its entries. */
    t = store_begin_write(f->store, &err);
    assert_int_equal(event_expire(t, NOW_US, 100, &err), 20);
    assert_int_equal(store_commit(t, &err), 0);
    for (size_t i = 0; i < sizeof dbs / sizeof dbs[0]; i++)
        assert_int_equal(rows(f, dbs[i]), dbs[i] == DB_EVENT_IDS ? 40 : 0);
}

/* Lists keep entries of events that are gone: nobody is to see or count them. */
static void expired_events_are_not_found_by_recipient_or_message(void **state)
{
    static const char *const fields[][2] = {{"recipient", "user3@example.net"},
                                            {"message-id", "m3@mg.example.com"}};
    struct fixture *f = *state;
    struct err err = {0};

    fill(f, 70, 1000);
    struct store_txn *t = store_begin_write(f->store, &err);
    assert_int_equal(event_expire(t, NOW_US - 36000, 100, &err), 35);
    assert_int_equal(store_commit(t, &err), 0);
    for (size_t i = 0; i < 2; i++) {
        struct event_query q = all(true, 100);
        struct filter *filter = filter_create(&f->arena);
        struct slice why;
        assert_true(filter_add(filter, slice_str(fields[i][0]), slice_str(fields[i][1]), &why));
        q.filter = filter;
        for (int counted = 0; counted < 2; counted++) {
            struct event_page page = {.count = 0};
            q.count_only = counted == 1;
            t = store_begin_read(f->store, &err);
            assert_int_equal(event_query_run(t, &q, &page, &err), 0);
            store_end_read(t);
            unsigned kept = 0;
            for (unsigned serial = 35; serial < 70; serial++)
                kept += serial % (i == 0 ? 10 : 7) == 3;
            assert_int_equal(page.count, kept);
            event_page_fini(&page);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(pages_walk_up_and_down_once_over_everything),
        TEST(first_previous_and_last_pages_agree_with_the_walk),
        TEST(both_bounds_are_inclusive_to_the_microsecond),
        TEST(a_walk_is_not_disturbed_by_what_is_stored_meanwhile),
        TEST(a_walk_is_not_disturbed_by_what_expires_meanwhile),
        TEST(filters_use_their_index_and_agree_with_looking_at_everything),
        TEST(recipients_and_message_ids_are_found),
        TEST(the_same_event_again_changes_nothing),
        TEST(a_late_event_is_put_past_the_watermark),
        TEST(what_no_index_answers_is_read_in_short_turns),
        TEST(expired_events_leave_no_row_behind),
        TEST(expired_events_are_not_found_by_recipient_or_message),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
