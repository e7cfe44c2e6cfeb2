/* Events that stand where they should, and each of their indexes damaged in each way that matters. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/check.h"
#include "store/counters.h"
#include "store/event_lists.h"
#include "store/event_rows.h"
#include "store/events.h"
#include "tests/unit/store/state_dir.h"

enum { SINGLES = 60, MANY = 1600, LAST = 100, GROUPED = 300, DAYS = 3 };
#define START_US UINT64_C(1764000000000000)
#define NOW_US   UINT64_C(1764900000000000)
#define DAY_US   UINT64_C(86400000000)

static const struct slice domain_name = {(const uint8_t *)"mg.example.com", 14};

struct fixture {
    char dir[64];
    struct store *store;
    struct store_txn *t; /* of the damage: never committed */
    struct err err;
};

static void put_singles(struct fixture *f, uint32_t from, uint32_t until)
{
    struct slice tags[] = {SLICE("bulk-email"), SLICE("ghost-email"), SLICE("Bulk-Email")};

    for (uint32_t i = from; i < until; i++) {
        char text[64];
        int len = snprintf(text, sizeof text, "reader-%u@example.net", i);
        struct event e = {
            .ses_us = START_US + i % SINGLES * (DAYS * DAY_US / SINGLES) + i + 1,
            .type = i % 3 == 0   ? EVENT_OPENED
                    : i % 3 == 1 ? EVENT_FAILED
                                 : EVENT_DELIVERED,
            .severity = i % 2 == 0 ? SEVERITY_PERMANENT : SEVERITY_TEMPORARY,
            .domain = domain_name,
            .recipient = slice_of(text, (size_t)len),
            .message_id = SLICE("1@mg.example.com"),
            .tags = tags,
            .tag_count = 3,
            .ses_id = SLICE("0100018f"),
        };
        event_make_id(&e, &e.recipient, 1);
        assert_int_equal(event_put(f->t, &e, NOW_US, &f->err), 1);
    }
}

static void put_groups(struct fixture *f, uint64_t batch_id, bool own_ids)
{
    struct slice tags[] = {SLICE("bulk-email")};
    struct recipient list[GROUPED] = {0};
    static char texts[GROUPED][32];
    const struct message_head head = {.domain = domain_name,
                                      .message_id = SLICE("2@mg.example.com"),
                                      .message_id_per_recipient = own_ids,
                                      .batch_mode = true,
                                      .from = SLICE("a@mg.example.com"),
                                      .tags = tags,
                                      .tag_count = 1,
                                      .accepted_wall_us = START_US + DAY_US + batch_id};

    for (size_t i = 0; i < GROUPED; i++) {
        (void)snprintf(texts[i], sizeof texts[i], "g%zu@example.net", i);
        list[i].address = slice_str(texts[i]);
    }
    assert_int_equal(event_put_accepted(f->t, &head, batch_id, 0, list, GROUPED, NOW_US, &f->err),
                     0);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    (void)snprintf(f->dir, sizeof f->dir, "/tmp/postern-check-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->store = store_open(f->dir, STORE_WRITE, &f->err);
    assert_non_null(f->store);
    f->t = store_begin_write(f->store, &f->err);
    put_singles(f, 0, SINGLES);
    put_groups(f, 7, false);
    put_groups(f, 8, true);
    assert_int_equal(store_commit(f->t, &f->err), 0);
    f->t = store_begin_write(f->store, &f->err);
    *state = f;
    return 0;
}

/* So many that all but the last few stand in lists (store/event_lists.h). */
static int setup_many(void **state)
{
    int rc = setup(state);
    struct fixture *f = *state;

    f->store->list_recent_rows_max = 10;
    for (uint32_t i = SINGLES; i < MANY; i += MANY / 5) {
        put_singles(f, i, i + (i + MANY / 5 < MANY ? MANY / 5 : LAST));
        assert_int_equal(store_commit(f->t, &f->err), 0);
        f->t = store_begin_write(f->store, &f->err);
    }
    return rc;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    store_abort(f->t);
    store_close(f->store);
    state_dir_remove(f->dir);
    free(f);
    return 0;
}

static void collect(void *arg, struct slice words)
{
    buf_add_slice(arg, words);
    buf_add_byte(arg, '\n');
}

/* So many problems, one of which has these words; words NULL = none. The damage is undone. */
static void expect(struct fixture *f, uint64_t problems, const char *words)
{
    struct buf said = {0};
    struct check c = {.problem = collect, .arg = &said};

    assert_int_equal(store_check(f->t, &c, &f->err), 0);
    if (c.problems != problems || (words != NULL && strstr(buf_cstr(&said), words) == NULL))
        fail_msg("not %u problems with \"%s\": %s", (unsigned)problems, words == NULL ? "" : words,
                 buf_cstr(&said));
    buf_fini(&said);
    store_abort(f->t);
    f->t = store_begin_write(f->store, &f->err);
}

/* A copy of the row of this database whose key is so long and begins so, from `at` on. */
struct row {
    uint8_t key[64], value[8192];
    size_t key_len, value_len;
};

static struct row row_of(struct fixture *f, enum store_db db, size_t key_len, uint8_t first,
                         size_t skip)
{
    static struct row row;
    MDB_cursor *cursor;
    MDB_val k, v;

    assert_int_equal(mdb_cursor_open(f->t->mdb, f->store->dbi[db], &cursor), MDB_SUCCESS);
    for (;;) {
        assert_int_equal(mdb_cursor_get(cursor, &k, &v, MDB_NEXT), MDB_SUCCESS);
        bool fits =
            (key_len == 0 || k.mv_size == key_len) && (*(uint8_t *)k.mv_data & 0xe0) == first;
        if (fits && skip-- == 0)
            break;
    }
    row.key_len = k.mv_size;
    row.value_len = v.mv_size;
    assert_true(v.mv_size <= sizeof row.value);
    memcpy(row.key, k.mv_data, k.mv_size);
    if (v.mv_size > 0)
        memcpy(row.value, v.mv_data, v.mv_size);
    mdb_cursor_close(cursor);
    return row;
}

static void put(struct fixture *f, enum store_db db, const struct row *row)
{
    assert_int_equal(store_put(f->t, db, slice_of(row->key, row->key_len),
                               slice_of(row->value, row->value_len), &f->err),
                     0);
}

static void drop(struct fixture *f, enum store_db db, const struct row *row)
{
    assert_int_equal(store_del(f->t, db, slice_of(row->key, row->key_len), &f->err), 0);
}

enum {
    DB_KEY = 4 + PLACE_BYTES,
    LIST_KEY = 4 + 1 + 8,
    TIMES = 16,
    LIST = 0x40,
    RECENT = 0x60,
    ADDRESSES = 0x80
};

static void what_was_stored_agrees(void **state)
{
    struct fixture *f = *state;
    struct buf said = {0};
    struct check c = {.problem = collect, .arg = &said};

    assert_int_equal(store_check(f->t, &c, &f->err), 0);
    assert_string_equal(buf_cstr(&said), "");
    assert_int_equal(c.events, SINGLES + 2 * GROUPED);
    buf_fini(&said);
}

static void an_index_row_that_is_missing_or_damaged(void **state)
{
    static const struct {
        enum store_db db;
        size_t key_len;
        const char *words;
    } indexes[] = {
        {DB_BY_TYPE, 0, " is not in the index by kind"},
        {DB_BY_TAG, 0, " is not in the index by tag"},
        {DB_BY_MESSAGE, 4 + 8 + PLACE_BYTES, " is not in the index by message id"},
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof indexes / sizeof indexes[0]; i++) {
        struct row row = row_of(f, indexes[i].db, indexes[i].key_len, 0, 0);
        drop(f, indexes[i].db, &row);
        expect(f, 1, indexes[i].words);
        row.value[row.value_len++] = 0;
        put(f, indexes[i].db, &row);
        expect(f, 1, "is damaged in the index by");
    }
}

static void an_index_row_of_no_event(void **state)
{
    static const enum store_db indexes[] = {DB_BY_TYPE, DB_BY_TAG, DB_BY_MESSAGE};
    struct fixture *f = *state;

    for (size_t i = 0; i < sizeof indexes / sizeof indexes[0]; i++) {
        struct row row =
            row_of(f, indexes[i], indexes[i] == DB_BY_MESSAGE ? 4 + 8 + PLACE_BYTES : 0, 0, 0);
        row.key[row.key_len - 3] ^= 1; /* another event */
        put(f, indexes[i], &row);
        expect(f, 1, "is not there, but in the index by");
    }
    struct row row = row_of(f, DB_BY_TYPE, 0, 0, 0);
    row.key[4] ^= 1; /* another kind */
    put(f, DB_BY_TYPE, &row);
    expect(f, 1, "is not there, but in the index by kind (or in another way)");
}

/* The first hundred of a list are named, the others are one line. */
static uint64_t lines(size_t count)
{
    return count > 100 ? 101 : count;
}

static const enum store_db listed[] = {DB_BY_RECIPIENT, DB_BY_MESSAGE};

/* Of rows of this kind, LIST or RECENT. */
static void entries_of(struct fixture *f, uint8_t kind)
{
    for (size_t i = 0; i < 2; i++) {
        struct row whole = row_of(f, listed[i], LIST_KEY, kind, 0), row = whole;
        uint8_t *second = row.value + TIMES + LIST_ENTRY_BYTES;

        assert_true(whole.value_len > TIMES + 3 * LIST_ENTRY_BYTES);
        memmove(second, second + LIST_ENTRY_BYTES, whole.value_len - TIMES - 2 * LIST_ENTRY_BYTES);
        row.value_len -= LIST_ENTRY_BYTES;
        put(f, listed[i], &row);
        expect(f, 1, "is not in the list by");

        row = whole;
        memcpy(row.value + row.value_len, row.value + TIMES, LIST_ENTRY_BYTES);
        row.value_len += LIST_ENTRY_BYTES;
        put(f, listed[i], &row);
        expect(f, 1, "is twice in the list by");

        row = whole;
        row.value[TIMES + LIST_HASH_BYTES - 1] ^= 1; /* another text */
        put(f, listed[i], &row);
        expect(f, 2, "is not there, but in the list by");

        row = whole;
        row.value[TIMES + LIST_ENTRY_BYTES - 1] ^= 1; /* another event */
        put(f, listed[i], &row);
        expect(f, 2, "is not in the list by");

        row = whole;
        row.value[15]++; /* the latest time */
        put(f, listed[i], &row);
        expect(f, 1, "is damaged");
    }
}

static void a_recent_entry(void **state)
{
    struct fixture *f = *state;

    entries_of(f, RECENT);
    for (size_t i = 0; i < 2; i++) {
        struct row whole = row_of(f, listed[i], LIST_KEY, RECENT, 0), row = whole;
        row.key[4] = 1; /* where nobody looks for it */
        drop(f, listed[i], &whole);
        put(f, listed[i], &row);
        expect(f, 1, "is damaged");
    }
}

static void an_entry_of_a_list(void **state)
{
    struct fixture *f = *state;

    expect(f, 0, NULL);
    entries_of(f, LIST);
    entries_of(f, RECENT);
    for (size_t i = 0; i < 2; i++) {
        struct row whole = row_of(f, listed[i], LIST_KEY, LIST, 0), row = whole;
        size_t count = (whole.value_len - TIMES) / LIST_ENTRY_BYTES;

        drop(f, listed[i], &row);
        expect(f, lines(count), "is not in the list by");

        drop(f, listed[i], &whole);
        row.key[4] ^= 1; /* another list: where nobody looks for it */
        row.key[5] = 9;
        put(f, listed[i], &row);
        expect(f, 2 * lines(count), "is not in the list by");
    }
}

static void the_addresses_of_groups(void **state)
{
    struct fixture *f = *state;
    struct row row = row_of(f, DB_BY_RECIPIENT, 4 + 1 + PLACE_BYTES, ADDRESSES, 3);

    drop(f, DB_BY_RECIPIENT, &row);
    expect(f, 1, "300 `accepted` events, 2");
    row.value[3] ^= BUCKETS; /* another address of the same bucket */
    put(f, DB_BY_RECIPIENT, &row);
    expect(f, 1, "300 `accepted` events, 300 in the rows of their addresses, or others");
    row.key[row.key_len - 3] ^= 1;
    put(f, DB_BY_RECIPIENT, &row);
    expect(f, 1, "is not there, but in the index by recipient of `accepted` events");
}

static void an_event_that_is_gone(void **state)
{
    struct fixture *f = *state;
    /* Of the first whole day; the oldest could have expired. Kind, two tags, recipient, message id, id; and
     * its day has a count too many. */
    struct row row = row_of(f, DB_EVENTS, DB_KEY, 0, 8);

    drop(f, DB_EVENTS, &row);
    expect(f, 7, "is not there, but among the ids: it would not be stored any more");
}

static void an_event_that_cannot_be_read(void **state)
{
    struct fixture *f = *state;
    struct row row = row_of(f, DB_EVENTS, DB_KEY, 0, 1);

    row.value_len = 9;
    put(f, DB_EVENTS, &row);
    /* And its recipient and message id are not known any more. */
    expect(f, 3, "cannot be read");
    row = row_of(f, DB_EVENTS, DB_KEY, 0, 1);
    row.key[0] = 0x20; /* of a domain that is not there */
    put(f, DB_EVENTS, &row);
    expect(f, 1, "is of no domain that there is");
}

static void what_events_have_in_common(void **state)
{
    struct fixture *f = *state;
    /* Two events name it; and their recipients and message ids are not known any more. */
    struct row row = row_of(f, DB_EVENT_MODELS, 0, 0, 1);

    drop(f, DB_EVENT_MODELS, &row);
    expect(f, 6, "cannot be read");
    row.value_len--;
    put(f, DB_EVENT_MODELS, &row);
    expect(f, 6, "cannot be read");
}

static void an_id(void **state)
{
    struct fixture *f = *state;
    struct row row = row_of(f, DB_EVENT_IDS, 0, 0, 5);

    drop(f, DB_EVENT_IDS, &row);
    expect(f, 1, "is not among the ids: it could be stored again");
    row.key[12] ^= 1;
    put(f, DB_EVENT_IDS, &row);
    expect(f, 1, "is not there, but among the ids");
}

static void counters_of_whole_days(void **state)
{
    struct fixture *f = *state;
    const struct event e = {.type = EVENT_CLICKED,
                            .timestamp_us = START_US + 2 * DAY_US,
                            .domain = domain_name,
                            .batch_id = 1};

    counters_add(f->t, store_domain_find(f->t, domain_name), &e, 3);
    assert_int_equal(counters_flush(f->t, &f->err), 0);
    expect(f, 1, "mg.example.com on 2025-11-26: 3 clicked by the counters, 0 events");
}

/* Lists and ids go on naming them: no damage, for they are older than what is kept. */
static void what_has_expired_is_no_damage(void **state)
{
    struct fixture *f = *state;

    assert_true(event_expire(f->t, START_US + 2 * DAY_US, UINT32_MAX, &f->err) > 0);
    assert_int_equal(store_commit(f->t, &f->err), 0);
    f->t = store_begin_write(f->store, &f->err);
    expect(f, 0, NULL);
    assert_true(event_expire(f->t, NOW_US, UINT32_MAX, &f->err) > 0);
    assert_int_equal(store_commit(f->t, &f->err), 0);
    f->t = store_begin_write(f->store, &f->err);
    expect(f, 0, NULL);
}

/* More lists than are gathered at a time: the first are told in detail, the others as such. */
static void much_damage(void **state)
{
    struct fixture *f = *state;
    struct buf said = {0};
    struct check c = {.problem = collect, .arg = &said};

    for (size_t i = 0; i < 20; i++) {
        struct row row = row_of(f, DB_BY_RECIPIENT, LIST_KEY, LIST, 0);
        drop(f, DB_BY_RECIPIENT, &row);
    }
    assert_int_equal(store_check(f->t, &c, &f->err), 0);
    assert_true(c.problems >= 20);
    assert_non_null(strstr(buf_cstr(&said), "is not in the list by recipient"));
    assert_non_null(strstr(buf_cstr(&said), "by recipient has 0 entries of"));
    buf_fini(&said);
}

#define TEST(name)      cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_MANY(name) cmocka_unit_test_setup_teardown(name, setup_many, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_was_stored_agrees),     TEST(an_index_row_that_is_missing_or_damaged),
        TEST(an_index_row_of_no_event),   TEST(a_recent_entry),
        TEST_MANY(an_entry_of_a_list),    TEST(the_addresses_of_groups),
        TEST(an_event_that_is_gone),      TEST(an_event_that_cannot_be_read),
        TEST(what_events_have_in_common), TEST(an_id),
        TEST(counters_of_whole_days),     TEST(what_has_expired_is_no_damage),
        TEST_MANY(much_damage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
