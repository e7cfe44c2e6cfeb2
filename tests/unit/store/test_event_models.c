/*
 * That events of a newsletter say once what they have in common, and are still read as they were.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/check.h"
#include "store/event_rows.h"
#include "store/events.h"
#include "tests/unit/store/state_dir.h"

enum { EVENTS_MOST = 2400 };

#define DAY_US UINT64_C(86400000000)
#define NOW_US (UINT64_C(20416) * DAY_US + DAY_US / 2 + 5000) /* noon */

struct fixture {
    char dir[64];
    struct store *store, *reader;
    struct arena arena;
    struct event put[EVENTS_MOST]; /* as they were put, in order of time */
    size_t count;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = {0};

    (void)snprintf(f->dir, sizeof f->dir, "/tmp/postern-models-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->store = store_open_sized(f->dir, STORE_WRITE, 1 << 20, &err);
    assert_non_null(f->store);
    f->reader = store_open(f->dir, STORE_READ, &err);
    assert_non_null(f->reader);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    store_close(f->reader);
    store_close(f->store);
    state_dir_remove(f->dir);
    arena_fini(&f->arena);
    free(f);
    return 0;
}

static struct store_txn *begin(struct fixture *f)
{
    struct err err = {0};
    struct store_txn *t = store_begin_write(f->store, &err);

    assert_non_null(t);
    return t;
}

static void commit(struct store_txn *t)
{
    struct err err = {0};

    assert_int_equal(store_commit(t, &err), 0);
}

/* Reader number i's event of a newsletter. */
static struct event newsletter(struct fixture *f, unsigned i, enum event_type type, uint64_t us)
{
    struct slice *tags = arena_array(&f->arena, 2, sizeof *tags);
    struct name_value *vars = arena_array(&f->arena, 1, sizeof *vars);

    tags[0] = SLICE("bulk-email");
    tags[1] = SLICE("ghost-email");
    vars[0] = (struct name_value){SLICE("email-id"), SLICE("65f0c1e2a3b4c5d6e7f80910")};
    struct event e = {
        .ses_us = us,
        .type = type,
        .domain = SLICE("mg.example.com"),
        .recipient = arena_printf(&f->arena, "reader%u@example.net", i),
        .message_id = SLICE("20260916041835.9e3779b97f4a7c15@mg.example.com"),
        .from = SLICE("The News <news@mg.example.com>"),
        .subject = SLICE("What happened this week, and what it means"),
        .tags = tags,
        .tag_count = 2,
        .vars = vars,
        .var_count = 1,
        .envelope_sender = SLICE("bounce@mg.example.com"),
        .ses_id = arena_printf(&f->arena, "0100018f2a3b4c5d-%08x", i),
    };
    struct slice parts[] = {e.ses_id, slice_str(event_type_name(type))};

    e.to = e.recipient;
    event_make_id(&e, parts, 2);
    return e;
}

static void put(struct fixture *f, struct store_txn *t, struct event e)
{
    struct err err = {0};

    assert_int_equal(event_put(t, &e, NOW_US, &err), 1);
    assert_true(f->count < EVENTS_MOST);
    f->put[f->count++] = e;
}

static size_t rows(struct fixture *f, enum store_db db)
{
    struct err err = {0};
    struct store_txn *t = store_begin_read(f->store, &err);
    MDB_stat stat;

    assert_int_equal(mdb_stat(t->mdb, f->store->dbi[db], &stat), MDB_SUCCESS);
    store_end_read(t);
    return stat.ms_entries;
}

struct comparing {
    const struct event *expected;
    size_t at, count;
};

static void compare(void *arg, const struct event *e)
{
    struct comparing *c = arg;
    struct buf was = {0}, is = {0};
    const struct slice base = SLICE("https://mail.example.com/v3/domains/mg.example.com/messages/");

    assert_true(c->at < c->count);
    const struct event *expected = &c->expected[c->at++];
    event_pack(&was, expected);
    event_pack(&is, e);
    assert_true(slice_eq(buf_slice(&was), buf_slice(&is)));
    buf_reset(&was);
    buf_reset(&is);
    event_to_json(&was, expected, base);
    event_to_json(&is, e, base);
    assert_true(slice_eq(buf_slice(&was), buf_slice(&is)));
    assert_true(e->timestamp_us == expected->timestamp_us && e->ses_us == expected->ses_us);
    buf_fini(&was);
    buf_fini(&is);
}

/* What comes out of the open transaction is what was put, number `first` and those behind it. */
static void expect_in(struct fixture *f, struct store_txn *t, size_t first)
{
    const struct slice domains[] = {SLICE("mg.example.com"), SLICE("two.example")};
    struct comparing c = {f->put + first, 0, f->count - first};
    struct event_query q = {
        .domains = domains,
        .domain_count = 2,
        .until_us = UINT64_MAX / 2,
        .ascending = true,
        .limit = EVENTS_MOST,
        .visit = compare,
        .visit_arg = &c,
    };
    struct event_page page = {.count = 0};
    struct err err = {0};

    assert_int_equal(event_query_run(t, &q, &page, &err), 0);
    assert_int_equal(c.at, c.count);
    event_page_fini(&page);
    /* One at a time, too. */
    for (size_t i = first; i < f->count; i++) {
        struct arena a = {0};
        struct key place = {.len = 0};
        struct event e;
        key_place(&place, f->put[i].timestamp_us, f->put[i].id);
        assert_true(event_at(t, f->put[i].domain, place.at, &a, &e));
        c.at = i - first;
        compare(&c, &e);
        arena_fini(&a);
    }
}

/* The same, and the store agrees with itself. */
static void expect_all(struct fixture *f, struct store *s, size_t first)
{
    struct check check = {.events = 0};
    struct err err = {0};
    struct store_txn *t = store_begin_read(s, &err);

    assert_non_null(t);
    expect_in(f, t, first);
    assert_int_equal(store_check(t, &check, &err), 0);
    assert_int_equal(check.problems, 0);
    expect_in(f, t, first);
    store_end_read(t);
}

static size_t row_bytes(struct fixture *f, const struct event *e)
{
    struct err err = {0};
    struct store_txn *t = store_begin_read(f->store, &err);
    struct slice row;
    struct key k;

    key_domain(&k, store_domain_find(t, e->domain));
    key_place(&k, e->timestamp_us, e->id);
    assert_true(store_get(t, DB_EVENTS, key_slice(&k), &row));
    store_end_read(t);
    return row.len;
}

static void events_of_a_newsletter_are_like_one_of_each_kind(void **state)
{
    struct fixture *f = *state;
    struct store_txn *t = begin(f);

    for (unsigned i = 0; i < 100; i++)
        put(f, t,
            newsletter(f, i, i % 3 == 0 ? EVENT_OPENED : EVENT_DELIVERED, NOW_US - 10000 + i));
    commit(t);
    assert_int_equal(rows(f, DB_EVENT_MODELS), 4); /* of the sender and of the batch */
    assert_true(row_bytes(f, &f->put[99]) * 3 < row_bytes(f, &f->put[0]));
    expect_all(f, f->store, 0);
    expect_all(f, f->reader, 0);
}

static void events_that_nothing_is_like_leave_no_models(void **state)
{
    struct fixture *f = *state;
    struct store_txn *t = begin(f);

    for (unsigned i = 0; i < 50; i++) {
        struct event e = newsletter(f, i, EVENT_DELIVERED, NOW_US - 10000 + i);
        e.from = arena_printf(&f->arena, "sender%u@mg.example.com", i);
        put(f, t, e);
    }
    commit(t);
    assert_int_equal(rows(f, DB_EVENT_MODELS), 0);
    expect_all(f, f->store, 0);
}

/* With ids and subjects of their own they are still of one sender. */
static void events_with_ids_of_their_own_share_what_is_left(void **state)
{
    struct fixture *f = *state;
    struct store_txn *t = begin(f);

    for (unsigned i = 0; i < 50; i++) {
        struct event e = newsletter(f, i, EVENT_DELIVERED, NOW_US - 10000 + i);
        e.message_id = arena_printf(&f->arena, "2026.%u@mg.example.com", i);
        e.subject = arena_printf(&f->arena, "Reader %u, your week", i);
        put(f, t, e);
    }
    commit(t);
    assert_int_equal(rows(f, DB_EVENT_MODELS), 1);
    expect_all(f, f->store, 0);
}

/* A mail to one person, that is opened thrice, is like others of its sender, and no model of its own. */
static void mails_to_one_person_leave_no_models_of_their_own(void **state)
{
    struct fixture *f = *state;
    struct store_txn *t = begin(f);

    for (unsigned i = 0; i < 80; i++) {
        struct event e =
            newsletter(f, i, i % 4 == 0 ? EVENT_DELIVERED : EVENT_OPENED, NOW_US - 10000 + i);
        e.message_id = arena_printf(&f->arena, "2026.%u@mg.example.com", i / 4);
        e.subject = arena_printf(&f->arena, "Your order %u", i / 4);
        put(f, t, e);
    }
    commit(t);
    assert_int_equal(rows(f, DB_EVENT_MODELS), 2);
    expect_all(f, f->reader, 0);
}

/* A model of a transaction that came to nothing is not there for the next one. */
static void a_model_goes_with_its_transaction(void **state)
{
    struct fixture *f = *state;

    for (unsigned round = 0; round < 3; round++) {
        struct store_txn *t = begin(f);
        f->count = 0;
        for (unsigned i = 0; i < 10; i++)
            put(f, t, newsletter(f, i, EVENT_DELIVERED, NOW_US - 10000 + i));
        if (round < 2)
            store_abort(t);
        else
            commit(t);
        assert_true((rows(f, DB_EVENT_MODELS) > 0) == (round == 2));
    }
    expect_all(f, f->store, 0);
}

/* A writer that takes over goes on with the models that it finds. */
static void models_outlive_the_writer(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};

    for (unsigned i = 0; i < 20; i++) {
        struct store_txn *t = begin(f);
        put(f, t, newsletter(f, i, EVENT_DELIVERED, NOW_US - 10000 + i));
        commit(t);
        store_close(f->store);
        f->store = store_open(f->dir, STORE_WRITE, &err);
        assert_non_null(f->store);
        assert_int_equal(rows(f, DB_EVENT_MODELS), 0);
    }
    for (unsigned i = 20; i < 60; i++) {
        struct store_txn *t = begin(f);
        put(f, t, newsletter(f, i, EVENT_DELIVERED, NOW_US - 10000 + i));
        commit(t);
        if (i < 30)
            continue;
        store_close(f->store);
        f->store = store_open(f->dir, STORE_WRITE, &err);
        assert_non_null(f->store);
        assert_int_equal(rows(f, DB_EVENT_MODELS), 2);
    }
    assert_true(row_bytes(f, &f->put[59]) * 3 < row_bytes(f, &f->put[0]));
    expect_all(f, f->store, 0);
}

static void expire(struct fixture *f, uint64_t before_us, int expected)
{
    struct err err = {0};
    struct store_txn *t = begin(f);

    assert_int_equal(event_expire(t, before_us, 1000, &err), expected);
    commit(t);
}

static void models_go_with_the_last_event_of_their_day(void **state)
{
    struct fixture *f = *state;
    struct store_txn *t = begin(f);

    for (unsigned day = 0; day < 3; day++)
        for (unsigned i = 0; i < 10; i++)
            put(f, t,
                newsletter(f, 10 * day + i, EVENT_DELIVERED, NOW_US - (3 - day) * DAY_US + i));
    commit(t);
    assert_int_equal(rows(f, DB_EVENT_MODELS), 6);
    expire(f, NOW_US - 2 * DAY_US + 5, 15);
    assert_int_equal(rows(f, DB_EVENT_MODELS), 4);
    expect_all(f, f->reader, 15);
    expire(f, NOW_US - 2 * DAY_US + 10, 5); /* the next one is of the day after */
    assert_int_equal(rows(f, DB_EVENT_MODELS), 2);
    expect_all(f, f->reader, 20);
    expire(f, NOW_US, 10); /* of today one could still come */
    assert_int_equal(rows(f, DB_EVENT_MODELS), 0);
}

/* A few at a time, when very many are old, and whatever the number of domains. */
static void models_go_in_small_steps(void **state)
{
    enum { BATCHES = 12, EACH = 5, STEP = 10 };
    struct fixture *f = *state;
    struct err err = {0};
    struct store_txn *t = begin(f);

    for (unsigned i = 0; i < 2 * BATCHES * EACH; i++) {
        struct event e = newsletter(f, i, EVENT_DELIVERED, NOW_US - 2 * DAY_US + i);
        e.domain = i % 2 == 0 ? SLICE("mg.example.com") : SLICE("two.example");
        e.message_id = arena_printf(&f->arena, "2026.%u@mg.example.com", i / (2 * EACH));
        event_make_id(&e, &e.ses_id, 1);
        put(f, t, e);
    }
    commit(t);
    size_t left = rows(f, DB_EVENT_MODELS);
    assert_int_equal(left, 2 * (BATCHES + 1));
    t = begin(f);
    assert_int_equal(event_expire(t, NOW_US, 1000, &err), 2 * BATCHES * EACH);
    store_abort(t);
    expect_all(f, f->store, 0);
    expire(f, NOW_US - 2 * DAY_US + 1000, 2 * BATCHES * EACH); /* the day is not over */
    for (size_t now; left > 0; left = now) {
        assert_int_equal(rows(f, DB_EVENT_MODELS), left);
        t = begin(f);
        assert_int_equal(event_expire(t, NOW_US, STEP, &err), 0);
        commit(t);
        now = rows(f, DB_EVENT_MODELS);
        assert_int_equal(left - now, left < STEP ? left : STEP);
    }
}

/* Newsletter number `round` of a day that goes in between. */
static void put_round(struct fixture *f, struct store_txn *t, unsigned round)
{
    f->count = 0;
    for (unsigned i = 0; i < 10; i++) {
        struct event e = newsletter(f, 10 * round + i, EVENT_DELIVERED, NOW_US - 2 * DAY_US + i);
        e.envelope_sender = round == 0 ? SLICE("bounce@mg.example.com") : SLICE("b@two.example");
        put(f, t, e);
    }
}

/* Events of a day that has gone may still come, and be like another one than those before them: a
 * reader's copy of the first model, or the writer's, is not taken for the second. */
static void a_model_that_comes_back_is_read_anew(void **state)
{
    struct fixture *f = *state;

    for (unsigned round = 0; round < 2; round++) {
        struct store_txn *t = begin(f);
        put_round(f, t, round);
        commit(t);
        assert_true(rows(f, DB_EVENT_MODELS) > 0);
        expect_all(f, f->reader, 0);
        expect_all(f, f->store, 0);
        if (round == 0)
            expire(f, NOW_US, 10);
    }
}

/* The same in one transaction, after one that came to nothing, and while an older one is read. */
static void one_that_comes_back_at_once_is_put_anew(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    struct store_txn *t = begin(f);

    put_round(f, t, 0);
    commit(t);
    t = begin(f);
    assert_int_equal(event_expire(t, NOW_US, 1000, &err), 10);
    store_abort(t);
    struct store_txn *before = store_begin_read(f->store, &err);
    expect_in(f, before, 0);
    t = begin(f);
    assert_int_equal(event_expire(t, NOW_US, 1000, &err), 10);
    expect_in(f, before, 0);
    struct event old[10];
    memcpy(old, f->put, sizeof old);
    put_round(f, t, 1);
    struct event new[10];
    memcpy(new, f->put, sizeof new);
    memcpy(f->put, old, sizeof old);
    expect_in(f, before, 0);
    memcpy(f->put, new, sizeof new);
    expect_in(f, t, 0);
    store_end_read(before);
    commit(t);
    assert_true(rows(f, DB_EVENT_MODELS) > 0);
    expect_all(f, f->store, 0);
    expect_all(f, f->reader, 0);
}

/* Changes a byte of each model, so that it cannot be read, or says something else. */
static void damage_models(struct fixture *f, struct store_txn *t, bool readable)
{
    struct err err = {0};
    MDB_cursor *cursor;
    MDB_val k, v;

    assert_int_equal(mdb_cursor_open(t->mdb, f->store->dbi[DB_EVENT_MODELS], &cursor), MDB_SUCCESS);
    while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == MDB_SUCCESS) {
        struct slice key = arena_dup(&f->arena, store_slice(k));
        struct buf row = {0};
        buf_add_slice(&row, store_slice(v));
        size_t at = readable ? slice_find(buf_slice(&row), SLICE("happened")) : 0;
        assert_true(at < row.len);
        row.ptr[at] ^= 1;
        assert_int_equal(store_put(t, DB_EVENT_MODELS, key, buf_slice(&row), &err), 0);
        buf_fini(&row);
    }
    mdb_cursor_close(cursor);
}

/* No event is told as another one, then or later. */
static void what_a_damaged_model_said_is_not_guessed(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};

    for (unsigned readable = 0; readable < 2; readable++) {
        struct store_txn *t = begin(f);
        uint64_t us = NOW_US - (2 - readable) * DAY_US;
        f->count = 0;
        for (unsigned i = 0; i < 10; i++)
            put(f, t, newsletter(f, 100 * readable + i, EVENT_DELIVERED, us + i));
        commit(t);
        t = begin(f);
        damage_models(f, t, readable != 0);
        commit(t);
        event_models_forget(f->store);
        t = begin(f);
        put(f, t, newsletter(f, 100 * readable + 10, EVENT_DELIVERED, us + 10));
        commit(t);
        /* The first one was stored whole, and the last one now. */
        struct event last = f->put[10];
        f->put[1] = last;
        f->count = 2;
        t = store_begin_read(f->reader, &err);
        expect_in(f, t, 0);
        store_end_read(t);
        expire(f, NOW_US, 11);
    }
}

/* More than is kept at a time, one after the other, of two domains at once. */
static void many_long_models_are_read_in_turn(void **state)
{
    enum { BATCHES = 120, LONG = 50000 };
    struct fixture *f = *state;
    struct buf text = {0};

    for (unsigned i = 0; i < LONG; i++)
        buf_add_byte(&text, (uint8_t)('a' + i % 26));
    for (unsigned turn = 0; turn < 5; turn++)
        for (unsigned i = 0; i < 2 * BATCHES; i++) {
            struct store_txn *t = begin(f);
            struct event e = newsletter(f, 1000 * turn + i, EVENT_DELIVERED,
                                        NOW_US - 10000 + turn * 2 * BATCHES + i);
            e.domain = i % 2 == 0 ? SLICE("mg.example.com") : SLICE("two.example");
            e.message_id = arena_printf(&f->arena, "2026.%u@mg.example.com", i / 2);
            e.vars[0].value = slice_head(slice_from(buf_slice(&text), i), LONG - 2 * BATCHES);
            event_make_id(&e, &e.ses_id, 1);
            put(f, t, e);
            commit(t);
        }
    assert_true(rows(f, DB_EVENT_MODELS) > BATCHES); /* some sorts may have been forgotten */
    expect_all(f, f->reader, 0);
    expect_all(f, f->store, 0);
    buf_fini(&text);
}

/* So many that some have the same slot in the table of copies. */
static void a_thousand_models_are_kept_beside_each_other(void **state)
{
    enum { SENDERS = 1000 };
    struct fixture *f = *state;
    struct store_txn *t = begin(f);

    for (unsigned i = 0; i < 2 * SENDERS; i++) {
        struct event e = newsletter(f, i, EVENT_DELIVERED, NOW_US - 100000 + i);
        e.from = arena_printf(&f->arena, "Sender %u <news@mg.example.com>", i / 2);
        put(f, t, e);
        if (i % 200 == 0) { /* the file grows between transactions */
            commit(t);
            t = begin(f);
        }
    }
    commit(t);
    assert_true(rows(f, DB_EVENT_MODELS) >
                SENDERS / 10 * 9); /* some sorts may have been forgotten */
    expect_all(f, f->reader, 0);
    expect_all(f, f->store, 0);
}

static void domains_and_days_have_models_of_their_own(void **state)
{
    struct fixture *f = *state;
    struct store_txn *t = begin(f);

    for (unsigned i = 0; i < 20; i++) {
        struct event e =
            newsletter(f, i, EVENT_DELIVERED, NOW_US - DAY_US + i * (DAY_US / 25) + 2000);
        put(f, t, e);
        e.domain = SLICE("two.example");
        e.ses_us++;
        e.id[15] ^= 1;
        put(f, t, e);
    }
    commit(t);
    assert_int_equal(rows(f, DB_EVENT_MODELS), 8);
    expect_all(f, f->reader, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(events_of_a_newsletter_are_like_one_of_each_kind),
        TEST(events_that_nothing_is_like_leave_no_models),
        TEST(events_with_ids_of_their_own_share_what_is_left),
        TEST(mails_to_one_person_leave_no_models_of_their_own),
        TEST(a_model_goes_with_its_transaction),
        TEST(models_outlive_the_writer),
        TEST(models_go_with_the_last_event_of_their_day),
        TEST(models_go_in_small_steps),
        TEST(a_model_that_comes_back_is_read_anew),
        TEST(one_that_comes_back_at_once_is_put_anew),
        TEST(what_a_damaged_model_said_is_not_guessed),
        TEST(many_long_models_are_read_in_turn),
        TEST(a_thousand_models_are_kept_beside_each_other),
        TEST(domains_and_days_have_models_of_their_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
