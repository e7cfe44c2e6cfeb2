/*
 * `accepted` events in groups read exactly like the same events stored one by one: two stores, one
 * filled each way, are asked the same questions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "mail/filter.h"
#include "mail/own_event.h"
#include "store/events.h"
#include "store/internal.h"
#include "tests/unit/store/state_dir.h"

#define NOW_US UINT64_C(1764000000123456)
#define BATCH  UINT64_C(0x19a000000000abc)

enum { PER_RECIPIENT = 1, NO_BATCH_MODE = 2, LONG_HEAD = 4 };

static const char domain_name[] = "mg.example.com";
static const struct slice domain_list[] = {{(const uint8_t *)domain_name, sizeof domain_name - 1}};

struct fixture {
    char dirs[2][64];
    struct store *grouped, *single;
    struct arena arena;
};

static struct store *open_in(char dir[64])
{
    struct err err = {0};

    (void)snprintf(dir, 64, "/tmp/postern-accepted-XXXXXX");
    assert_non_null(mkdtemp(dir));
    struct store *s = store_open_sized(dir, STORE_WRITE, 64 << 20, &err);
    assert_non_null(s);
    return s;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->grouped = open_in(f->dirs[0]);
    f->single = open_in(f->dirs[1]);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    store_close(f->grouped);
    store_close(f->single);
    state_dir_remove(f->dirs[0]);
    state_dir_remove(f->dirs[1]);
    arena_fini(&f->arena);
    free(f);
    return 0;
}

static struct message_head head_of(struct fixture *f, int how, uint64_t at_us)
{
    struct slice *tags = arena_array(&f->arena, 2, sizeof *tags);
    struct name_value *vars = arena_array(&f->arena, 1, sizeof *vars);
    char *filler = arena_alloc(&f->arena, 5000);

    memset(filler, 'x', 5000);
    tags[0] = SLICE("bulk-email");
    tags[1] = SLICE("ghost-email");
    vars[0] = (struct name_value){SLICE("email-id"), SLICE("65f0c1e2a3b4c5d6e7f80910")};
    return (struct message_head){
        .domain = SLICE("mg.example.com"),
        .message_id = (how & PER_RECIPIENT) != 0 ? SLICE("%recipient.id%@mg.example.com")
                                                 : SLICE("2026.1@mg.example.com"),
        .message_id_per_recipient = (how & PER_RECIPIENT) != 0,
        .batch_mode = (how & NO_BATCH_MODE) == 0,
        .to = (how & NO_BATCH_MODE) != 0 ? SLICE("all@of.us, and@you.too") : slice_none(),
        .from = SLICE("News <news@mg.example.com>"),
        .subject = slice_of(filler, (how & LONG_HEAD) != 0 ? 5000 : 20),
        .tags = tags,
        .tag_count = 2,
        .vars = vars,
        .var_count = 1,
        .accepted_wall_us = at_us,
        .size_bytes = 4711,
    };
}

static struct recipient *recipients(struct fixture *f, size_t count, const char *prefix)
{
    struct recipient *list = arena_array(&f->arena, count, sizeof *list);

    for (size_t i = 0; i < count; i++) {
        list[i].address = arena_printf(&f->arena, "%s%zu@Readers.example.net", prefix, i);
        list[i].vars = arena_array(&f->arena, 1, sizeof *list[i].vars);
        list[i].vars[0] = (struct name_value){SLICE("id"), arena_printf(&f->arena, "id-%zu", i)};
        list[i].var_count = 1;
    }
    return list;
}

/* Both stores get the same events. */
static void put_both(struct fixture *f, int how, uint64_t batch_id, uint32_t first, size_t count,
                     const char *prefix, uint64_t at_us)
{
    struct message_head head = head_of(f, how, at_us);
    struct recipient *list = recipients(f, count, prefix);
    struct err err = {0};

    struct store_txn *t = store_begin_write(f->grouped, &err);
    assert_int_equal(event_put_accepted(t, &head, batch_id, first, list, count, NOW_US, &err), 0);
    assert_int_equal(store_commit(t, &err), 0);
    t = store_begin_write(f->single, &err);
    for (size_t i = 0; i < count; i++) {
        struct event e;
        own_event_accepted(&e, &head, &list[i], batch_id, first + (uint32_t)i, &f->arena);
        assert_int_equal(event_put(t, &e, NOW_US, &err), 1);
    }
    assert_int_equal(store_commit(t, &err), 0);
}

static void put_others(struct fixture *f, uint64_t from_us, size_t count)
{
    struct store *const stores[] = {f->grouped, f->single};
    struct err err = {0};

    for (size_t s = 0; s < 2; s++) {
        struct store_txn *t = store_begin_write(stores[s], &err);
        for (size_t i = 0; i < count; i++) {
            struct slice tag = SLICE("bulk-email");
            struct event e = {
                .ses_us = from_us + i * 7000,
                .type = i % 2 == 0 ? EVENT_DELIVERED : EVENT_OPENED,
                .domain = SLICE("mg.example.com"),
                .recipient = arena_printf(&f->arena, "a%zu@readers.example.net", i % 50),
                .message_id = SLICE("2026.1@mg.example.com"),
                .tags = &tag,
                .tag_count = 1,
            };
            event_make_id(&e, &e.recipient, 1);
            assert_true(event_put(t, &e, NOW_US, &err) >= 0);
        }
        assert_int_equal(store_commit(t, &err), 0);
    }
}

static struct event_page ask(struct store *s, const struct event_query *q)
{
    struct event_page a = {0};
    struct err err = {0};
    struct store_txn *t = store_begin_read(s, &err);

    assert_non_null(t);
    assert_int_equal(event_query_run(t, q, &a, &err), 0);
    store_end_read(t);
    event_page_end(q, &a);
    return a;
}

/* A walk through both; every page must be the same. How many events there were. */
static uint32_t compare_walks(struct fixture *f, struct event_query q)
{
    uint32_t total = 0;

    while (true) {
        struct event_page a = ask(f->grouped, &q), b = ask(f->single, &q);
        assert_int_equal(a.count, b.count);
        assert_true(slice_eq(buf_slice(&a.items), buf_slice(&b.items)));
        if (a.count > 0) {
            assert_memory_equal(&a.first, &b.first, sizeof a.first);
            assert_memory_equal(&a.last, &b.last, sizeof a.last);
        }
        event_page_fini(&a);
        event_page_fini(&b);
        if (a.count == 0)
            return total;
        total += a.count;
        q.has_position = true;
        q.last_page = false;
        q.position = q.backwards ? a.first : a.last;
    }
}

static const struct filter *filter_on(struct fixture *f, const char *field, const char *text)
{
    struct filter *filter = filter_create(&f->arena);
    struct slice why;

    assert_true(filter_add(filter, slice_str(field), slice_str(text), &why));
    return filter;
}

static uint32_t compare_all(struct fixture *f, const struct filter *filter)
{
    static const uint32_t limits[] = {1, 7, 100, 300};
    uint32_t total = 0;

    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        for (int way = 0; way < 4; way++) {
            struct event_query q = {
                .domains = domain_list,
                .domain_count = 1,
                .storage_base = SLICE("http://s/"),
                .until_us = UINT64_MAX,
                .ascending = (way & 1) != 0,
                .backwards = (way & 2) != 0,
                .last_page = (way & 2) != 0,
                .filter = filter,
                .limit = limits[i],
            };
            uint32_t got = compare_walks(f, q);
            if (total != 0)
                assert_int_equal(got, total);
            total = got;
        }
    return total;
}

static void ask_everything(struct fixture *f, uint32_t accepted, uint32_t others)
{
    assert_int_equal(compare_all(f, NULL), accepted + others);
    assert_int_equal(compare_all(f, filter_on(f, "event", "accepted")), accepted);
    assert_int_equal(compare_all(f, filter_on(f, "event", "accepted OR opened")),
                     accepted + others / 2);
    assert_int_equal(compare_all(f, filter_on(f, "tags", "Bulk-Email")), accepted + others);
    assert_int_equal(compare_all(f, filter_on(f, "tags", "ghost-email")), accepted);
    (void)compare_all(f, filter_on(f, "message-id", "2026.1@mg.example.com"));
    (void)compare_all(f, filter_on(f, "message-id", "ID-17@mg.example.com"));
    assert_true(compare_all(f, filter_on(f, "recipient", "A3@readers.example.net")) > 0);
    assert_true(compare_all(f, filter_on(f, "recipient", "a120@readers.EXAMPLE.net")) > 0);
    assert_int_equal(compare_all(f, filter_on(f, "recipient", "nobody@readers.example.net")), 0);
}

static void groups_read_like_single_events(void **state)
{
    struct fixture *f = *state;

    put_others(f, NOW_US - 9000000, 60);
    put_both(f, 0, BATCH, 0, 1000, "a", NOW_US - 9000000 + 111);
    put_both(f, 0, BATCH + 1, 0, 300, "a", NOW_US - 8000000);
    put_both(f, 0, BATCH + 2, 0, 50, "a", NOW_US - 8000000);
    put_both(f, 0, BATCH + 2, 50, 50, "b", NOW_US - 8000000);
    put_both(f, 0, BATCH + 3, 0, 1, "a", NOW_US - 7000000);
    put_others(f, NOW_US - 6000000, 60);
    ask_everything(f, 1401, 120);
}

static void so_do_those_with_ids_of_their_own_and_of_no_batch(void **state)
{
    struct fixture *f = *state;

    put_both(f, PER_RECIPIENT, BATCH, 0, 500, "a", NOW_US - 9000000);
    put_both(f, NO_BATCH_MODE, BATCH + 1, 0, 200, "a", NOW_US - 8000000);
    put_both(f, LONG_HEAD, BATCH + 2, 0, 200, "b", NOW_US - 7000000);
    put_others(f, NOW_US - 6000000, 60);
    ask_everything(f, 900, 60);
    assert_int_equal(compare_all(f, filter_on(f, "message-id", "id-499@mg.example.com")), 1);
}

static void a_late_group_is_put_past_the_watermark(void **state)
{
    struct fixture *f = *state;
    struct store *const stores[] = {f->grouped, f->single};
    struct err err = {0};

    for (size_t i = 0; i < 2; i++) {
        struct store_txn *t = store_begin_write(stores[i], &err);
        assert_int_equal(watermark_raise(t, SLICE("mg.example.com"), NOW_US - 5000000, &err), 0);
        assert_int_equal(store_commit(t, &err), 0);
    }
    put_both(f, 0, BATCH, 0, 120, "a", NOW_US - 9000000);
    struct event_query q = {
        .domains = domain_list,
        .domain_count = 1,
        .storage_base = SLICE("http://s/"),
        .from_us = NOW_US - 5000000 + WATERMARK_STEP_US,
        .until_us = UINT64_MAX,
        .ascending = true,
        .limit = 50,
    };
    assert_int_equal(compare_walks(f, q), 120);
    q.from_us = 0;
    q.until_us = NOW_US - 5000000 + WATERMARK_STEP_US - 1;
    assert_int_equal(compare_walks(f, q), 0);
}

static size_t rows(struct store *s, enum store_db db)
{
    struct err err = {0};
    struct store_txn *t = store_begin_read(s, &err);
    MDB_stat stat;

    assert_int_equal(mdb_stat(t->mdb, s->dbi[db], &stat), 0);
    store_end_read(t);
    return stat.ms_entries;
}

static void expired_groups_leave_no_row_behind(void **state)
{
    struct fixture *f = *state;
    static const enum store_db dbs[] = {DB_EVENTS, DB_EVENT_IDS,    DB_BY_TYPE,
                                        DB_BY_TAG, DB_BY_RECIPIENT, DB_BY_MESSAGE};
    struct err err = {0};

    put_both(f, 0, BATCH, 0, 1000, "a", NOW_US - 9000000);
    put_both(f, PER_RECIPIENT, BATCH + 1, 0, 90, "b", NOW_US - 8000000);
    put_both(f, 0, BATCH + 2, 0, 10, "c", NOW_US - 1000000);
    struct store_txn *t = store_begin_write(f->grouped, &err);
    int first = event_expire(t, NOW_US - 2000000, 500, &err);
    assert_in_range(first, 500, 650);
    assert_int_equal(event_expire(t, NOW_US - 2000000, 5000, &err), 1090 - first);
    assert_int_equal(event_expire(t, NOW_US - 2000000, 5000, &err), 0);
    assert_int_equal(store_commit(t, &err), 0);
    t = store_begin_write(f->single, &err);
    assert_int_equal(event_expire(t, NOW_US - 2000000, 5000, &err), 1090);
    assert_int_equal(store_commit(t, &err), 0);
    assert_int_equal(compare_all(f, NULL), 10);
    t = store_begin_write(f->grouped, &err);
    assert_int_equal(event_expire(t, NOW_US, 5000, &err), 10);
    assert_int_equal(store_commit(t, &err), 0);
    for (size_t i = 0; i < sizeof dbs / sizeof dbs[0]; i++)
        assert_int_equal(rows(f->grouped, dbs[i]), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(groups_read_like_single_events),
        TEST(so_do_those_with_ids_of_their_own_and_of_no_batch),
        TEST(a_late_group_is_put_past_the_watermark),
        TEST(expired_groups_leave_no_row_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
