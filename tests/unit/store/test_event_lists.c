#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/event_lists.h"
#include "store/events.h"
#include "tests/unit/store/state_dir.h"

enum { TEXTS = 40, ENTRIES = 30000, DOMAIN_1 = 1, DOMAIN_2 = 2 };

struct fixture {
    char dir[64];
    struct store *store;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = {0};

    (void)snprintf(f->dir, sizeof f->dir, "/tmp/postern-lists-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->store = store_open_sized(f->dir, STORE_WRITE, 64 << 20, &err);
    assert_non_null(f->store);
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

static void place_at(uint8_t place[PLACE_BYTES], uint64_t us, uint32_t serial)
{
    memset(place, 0, PLACE_BYTES);
    for (size_t i = 0; i < 8; i++)
        place[i] = (uint8_t)(us >> (56 - 8 * i));
    for (size_t i = 0; i < 4; i++)
        place[PLACE_BYTES - 4 + i] = (uint8_t)(serial >> (24 - 8 * i));
}

static struct slice name_of(unsigned text, char *room)
{
    return slice_of(room, (size_t)sprintf(room, "Reader%u@example.net", text));
}

/* Entry i: in no order of time, of one of TEXTS texts. */
static uint64_t us_of(uint32_t i)
{
    return 1000000 + (uint64_t)i * 7919 % ENTRIES;
}

static unsigned text_of(uint32_t i)
{
    return i * 31 % 1009 % TEXTS;
}

static void add(struct store_txn *t, uint32_t domain, uint32_t i)
{
    uint8_t place[PLACE_BYTES];
    char room[64];

    place_at(place, us_of(i), i);
    event_list_add(t, DB_BY_RECIPIENT, domain, name_of(text_of(i), room), place);
}

/* In commits of very different sizes: a turn of the writer holds one event or thousands. */
static void fill(struct fixture *f, uint32_t domain)
{
    static const uint32_t sizes[] = {1, 1, 2, 130, 1, 4000, 17};
    struct err err = {0};

    for (uint32_t i = 0, turn = 0; i < ENTRIES; turn++) {
        struct store_txn *t = store_begin_write(f->store, &err);
        for (uint32_t n = sizes[turn % 7]; n > 0 && i < ENTRIES; n--)
            add(t, domain, i++);
        assert_int_equal(store_commit(t, &err), 0);
    }
}

static int find(struct fixture *f, uint32_t domain, struct slice text, uint64_t from_us,
                uint64_t until_us, uint8_t **places)
{
    uint8_t low[PLACE_BYTES], high[PLACE_BYTES];
    struct event_list_wanted wanted = {.text = text};
    struct err err = {0};
    struct store_txn *t = store_begin_read(f->store, &err);

    place_at(low, from_us, 0);
    place_at(high, until_us, UINT32_MAX);
    assert_int_equal(event_lists_find(t, DB_BY_RECIPIENT, domain, &wanted, 1, low, high, &err), 0);
    store_end_read(t);
    *places = wanted.places.ptr;
    return (int)(wanted.places.len / PLACE_BYTES);
}

static void each_text_finds_its_own_in_order_and_nothing_else(void **state)
{
    static const uint64_t bounds[][2] = {
        {0, UINT64_MAX}, {1000000, 1000000 + ENTRIES - 1}, {1005000, 1009000}, {1012345, 1012345}};
    struct fixture *f = *state;
    char room[64];

    fill(f, DOMAIN_1);
    for (unsigned text = 0; text < TEXTS; text++) {
        for (size_t b = 0; b < sizeof bounds / sizeof bounds[0]; b++) {
            uint8_t *places, *last = NULL;
            int wanted = 0;
            for (uint32_t i = 0; i < ENTRIES; i++)
                wanted +=
                    text_of(i) == text && us_of(i) >= bounds[b][0] && us_of(i) <= bounds[b][1];
            int count = find(f, DOMAIN_1, name_of(text, room), bounds[b][0], bounds[b][1], &places);
            assert_int_equal(count, wanted);
            for (int i = 0; i < count; i++, last = places + (i - 1) * PLACE_BYTES)
                assert_true(last == NULL ||
                            memcmp(last, places + i * PLACE_BYTES, PLACE_BYTES) < 0);
            free(places);
        }
    }
}

static void case_does_not_matter_and_domains_do(void **state)
{
    struct fixture *f = *state;
    uint8_t *places;

    fill(f, DOMAIN_1);
    int count = find(f, DOMAIN_1, SLICE("READER3@EXAMPLE.NET"), 0, UINT64_MAX, &places);
    assert_in_range(count, 1, ENTRIES);
    free(places);
    assert_int_equal(find(f, DOMAIN_2, SLICE("reader3@example.net"), 0, UINT64_MAX, &places), 0);
    free(places);
    assert_int_equal(find(f, DOMAIN_1, SLICE("nobody@example.net"), 0, UINT64_MAX, &places), 0);
    free(places);
}

static void what_is_aborted_was_never_added(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    uint8_t *places;
    char room[64];
    struct store_txn *t = store_begin_write(f->store, &err);

    add(t, DOMAIN_1, 1);
    store_abort(t);
    t = store_begin_write(f->store, &err);
    add(t, DOMAIN_1, 2);
    assert_int_equal(store_commit(t, &err), 0);
    assert_int_equal(find(f, DOMAIN_1, name_of(text_of(1), room), 0, UINT64_MAX, &places), 0);
    free(places);
    assert_int_equal(find(f, DOMAIN_1, name_of(text_of(2), room), 0, UINT64_MAX, &places), 1);
    free(places);
}

static void expire(struct fixture *f, uint64_t before_us)
{
    struct err err = {0};
    struct store_txn *t = store_begin_write(f->store, &err);

    assert_int_equal(event_lists_expire(t, DOMAIN_1, before_us, &err), 0);
    assert_int_equal(store_commit(t, &err), 0);
}

static size_t rows(struct fixture *f)
{
    struct err err = {0};
    struct store_txn *t = store_begin_read(f->store, &err);
    MDB_stat stat;

    assert_int_equal(mdb_stat(t->mdb, f->store->dbi[DB_BY_RECIPIENT], &stat), 0);
    store_end_read(t);
    return stat.ms_entries;
}

static void expiring_takes_whole_old_rows_of_one_domain(void **state)
{
    struct fixture *f = *state;
    char room[64];
    uint8_t *places;

    fill(f, DOMAIN_1);
    size_t of_one = rows(f);
    fill(f, DOMAIN_2);
    assert_int_equal(rows(f), 2 * of_one);
    /* 127 entries stand in a row; each list has one that is not full. */
    assert_in_range(of_one, ENTRIES / 127, ENTRIES / 127 + LIST_BUCKETS);

    expire(f, 1000000);
    assert_int_equal(rows(f), 2 * of_one); /* none is older than the oldest */
    expire(f, 1000000 + ENTRIES);
    assert_int_equal(rows(f), of_one);
    assert_int_equal(find(f, DOMAIN_1, name_of(3, room), 0, UINT64_MAX, &places), 0);
    free(places);
    assert_in_range(find(f, DOMAIN_2, name_of(3, room), 0, UINT64_MAX, &places), 1, ENTRIES);
    free(places);
}

/* How many pages of the file are not as they were. *was: what it held, which is brought up to date. */
static size_t pages_changed(struct fixture *f, struct buf *was)
{
    enum { PAGE_BYTES = 4096 };
    struct buf now = {0};
    size_t changed = 0, got;
    char path[96];

    (void)snprintf(path, sizeof path, "%s/store/data.mdb", f->dir);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    while ((got = fread(buf_reserve(&now, PAGE_BYTES), 1, PAGE_BYTES, file)) > 0)
        now.len += got;
    assert_int_equal(fclose(file), 0);
    for (size_t at = 0; at < now.len; at += PAGE_BYTES)
        changed += at >= was->len || memcmp(was->ptr + at, now.ptr + at, PAGE_BYTES) != 0;
    buf_fini(was);
    *was = now;
    return changed;
}

/* What this index is for: a commit changes few pages, however many entries there are, and however
 * few of them come at a time. */
static void a_commit_changes_few_pages(void **state)
{
    enum { IN_ONE = 500, COMMITS = 80, META_AND_TREE = 12 };
    struct fixture *f = *state;
    struct err err = {0};
    struct buf was = {0};
    size_t all = 0, many = 0;
    char room[64];

    (void)pages_changed(f, &was);
    for (uint32_t round = 0; round < COMMITS; round++) {
        struct store_txn *t = store_begin_write(f->store, &err);
        for (uint32_t i = round * IN_ONE; i < (round + 1) * IN_ONE; i++) {
            uint8_t place[PLACE_BYTES];
            place_at(place, 1000000 + i, i);
            event_list_add(t, DB_BY_RECIPIENT, DOMAIN_1, name_of(i, room), place);
        }
        assert_int_equal(store_commit(t, &err), 0);
        size_t changed = pages_changed(f, &was);
        all += changed;
        many += changed > IN_ONE / 127 + 1 + META_AND_TREE;
        assert_in_range(changed, 1, 3 * LIST_BUCKETS);
    }
    /* Twice in 40,000 they go into their lists. */
    assert_int_equal(many, 2);
    assert_in_range(all, COMMITS * (IN_ONE / 127), COMMITS * 16 + 2 * 3 * LIST_BUCKETS);
    buf_fini(&was);
}

static void commit(struct fixture *f, uint32_t from, uint32_t until)
{
    struct err err = {0};
    struct store_txn *t = store_begin_write(f->store, &err);

    for (uint32_t i = from; i < until; i++)
        add(t, DOMAIN_1, i);
    assert_int_equal(store_commit(t, &err), 0);
}

static void all_are_found(struct fixture *f, uint32_t count)
{
    char room[64];

    for (unsigned text = 0; text < TEXTS; text++) {
        uint8_t *places;
        int wanted = 0;
        for (uint32_t i = 0; i < count; i++)
            wanted += text_of(i) == text;
        assert_int_equal(find(f, DOMAIN_1, name_of(text, room), 0, UINT64_MAX, &places), wanted);
        free(places);
    }
}

/* Rows of recent entries: how many. */
static size_t recent(struct fixture *f)
{
    struct err err = {0};
    struct store_txn *t = store_begin_read(f->store, &err);
    struct event_list_row row;
    MDB_cursor *cursor;
    MDB_val k, v;
    size_t count = 0;

    assert_int_equal(mdb_cursor_open(t->mdb, f->store->dbi[DB_BY_RECIPIENT], &cursor), 0);
    while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == MDB_SUCCESS) {
        assert_true(event_list_row_read(store_slice(k), store_slice(v), &row) && row.whole);
        assert_int_equal(row.domain, DOMAIN_1);
        count += row.is_recent;
    }
    mdb_cursor_close(cursor);
    store_end_read(t);
    return count;
}

/* They have gone into their lists, and then the transaction comes to nothing. */
static void move_in_vain(struct fixture *f, uint32_t next)
{
    struct err err = {0};
    struct store_txn *t = store_begin_write(f->store, &err);
    MDB_stat before, after;

    assert_int_equal(mdb_stat(t->mdb, f->store->dbi[DB_BY_RECIPIENT], &before), 0);
    add(t, DOMAIN_1, next);
    assert_int_equal(event_lists_flush(t, &err), 0);
    assert_int_equal(mdb_stat(t->mdb, f->store->dbi[DB_BY_RECIPIENT], &after), 0);
    assert_int_not_equal(before.ms_entries, after.ms_entries);
    store_abort(t);
}

static void none_is_lost_when_the_recent_ones_go_into_their_lists(void **state)
{
    enum { FULL = 127 * 127 }; /* with so many rows one more entry is put behind */
    struct fixture *f = *state;

    commit(f, 0, FULL);
    assert_int_equal(recent(f), 127);
    all_are_found(f, FULL);
    commit(f, FULL, FULL + 1);
    assert_int_equal(recent(f), 128);
    all_are_found(f, FULL + 1);
    move_in_vain(f, FULL + 1);
    assert_int_equal(recent(f), 128);
    all_are_found(f, FULL + 1);
    commit(f, FULL + 1, FULL + 2);
    assert_int_equal(recent(f), 0);
    all_are_found(f, FULL + 2);
    commit(f, FULL + 2, FULL + 3);
    assert_int_equal(recent(f), 1);
    all_are_found(f, FULL + 3);
}

/* What an import or a backlog brings at once is not looked through by each query after it. */
static void very_many_go_into_their_lists_at_once(void **state)
{
    struct fixture *f = *state;

    commit(f, 0, ENTRIES);
    assert_int_equal(recent(f), 0);
    all_are_found(f, ENTRIES);
}

/* A store that is full while they go there: the commit fails as a whole, and can be made again. */
static void a_full_store_loses_none_of_them(void **state)
{
    enum { ALL = 127 * 127 };
    struct fixture *f = *state;
    struct err err = {0};
    MDB_envinfo info;

    commit(f, 0, ALL);
    assert_int_equal(recent(f), 127);
    (void)mdb_env_info(f->store->env, &info);
    /* As much room as is in use: a store with less is given more when a transaction begins. */
    assert_int_equal(mdb_env_set_mapsize(f->store->env, 2 * (info.me_last_pgno + 1) * 4096), 0);
    struct store_txn *t = store_begin_write(f->store, &err);
    for (uint32_t i = ALL; i < ALL + 127; i++)
        add(t, DOMAIN_1, i);
    assert_int_not_equal(store_commit(t, &err), 0);
    assert_int_equal(err.code, ERR_FULL);
    assert_int_equal(recent(f), 127);
    all_are_found(f, ALL);
    commit(f, ALL, ALL + 127);
    assert_int_equal(recent(f), 0);
    all_are_found(f, ALL + 127);
}

/* Damage from outside: what comes afterwards is put behind it and found, and it does not keep all that
 * is newer from expiring. */
static void damaged_rows_do_not_swallow_new_entries(void **state)
{
    static const size_t lengths[] = {7, 16 + 32 + 5};
    struct fixture *f = *state;
    struct err err = {0};
    char room[64];
    uint8_t *places;

    for (size_t i = 0; i < 2; i++) {
        struct store_txn *t = store_begin_write(f->store, &err);
        struct key k = {.len = 0};
        uint8_t value[64] = {0};
        key_u32(&k, (uint32_t)(DOMAIN_1 | 1 << 30 | 1 << 29));
        key_u8(&k, 0);
        key_u64(&k, 2 * i);
        assert_int_equal(
            store_put(t, DB_BY_RECIPIENT, key_slice(&k), slice_of(value, lengths[i]), &err), 0);
        add(t, DOMAIN_1, (uint32_t)i);
        assert_int_equal(store_commit(t, &err), 0);
        int count = find(f, DOMAIN_1, name_of(text_of((uint32_t)i), room), 0, UINT64_MAX, &places);
        assert_int_equal(count, 1);
        free(places);
    }
    assert_int_equal(rows(f), 4);
    expire(f, UINT64_MAX);
    assert_int_equal(rows(f), 0);
}

/* Of several texts each finds its own, those in its list and those that are recent. */
static void several_texts_are_found_at_once(void **state)
{
    struct fixture *f = *state;
    struct event_list_wanted wanted[TEXTS + 1];
    uint8_t low[PLACE_BYTES], high[PLACE_BYTES];
    char rooms[TEXTS + 1][64];
    struct err err = {0};

    f->store->list_recent_rows_max = 3;
    fill(f, DOMAIN_1);
    commit(f, ENTRIES, ENTRIES + 1);
    assert_int_not_equal(recent(f), 0);
    for (unsigned text = 0; text <= TEXTS; text++)
        wanted[text] = (struct event_list_wanted){.text = name_of(text, rooms[text])};
    place_at(low, 1005000, 0);
    place_at(high, 1009000, UINT32_MAX);
    struct store_txn *t = store_begin_read(f->store, &err);
    assert_int_equal(
        event_lists_find(t, DB_BY_RECIPIENT, DOMAIN_1, wanted, TEXTS + 1, low, high, &err), 0);
    store_end_read(t);
    for (unsigned text = 0; text <= TEXTS; text++) {
        uint8_t *places;
        int count = find(f, DOMAIN_1, wanted[text].text, 1005000, 1009000, &places);
        assert_int_equal(count == 0, text == TEXTS);
        assert_int_equal(wanted[text].places.len, (size_t)count * PLACE_BYTES);
        if (count > 0)
            assert_memory_equal(wanted[text].places.ptr, places, (size_t)count * PLACE_BYTES);
        free(places);
        buf_fini(&wanted[text].places);
    }
}

/* Retention takes the oldest rows of the recent ones, too, and those that are left are still counted
 * right. */
static void recent_rows_expire_and_go_on(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    uint8_t place[PLACE_BYTES];
    char room[64];
    uint8_t *places;

    for (uint64_t begin_us = 1000000; begin_us <= 3000000; begin_us += 1000000) {
        struct store_txn *t = store_begin_write(f->store, &err);
        for (uint32_t i = 0; i < 100 * 127; i++) {
            place_at(place, begin_us + i, i);
            event_list_add(t, DB_BY_RECIPIENT, DOMAIN_1, name_of(7, room), place);
        }
        assert_int_equal(store_commit(t, &err), 0);
        assert_int_equal(recent(f), 100 + (begin_us > 1000000));
        expire(f, begin_us + 127 * 99);
        assert_int_equal(recent(f), 1);
        assert_int_equal(find(f, DOMAIN_1, name_of(7, room), 0, UINT64_MAX, &places), 127);
        free(places);
    }
    expire(f, UINT64_MAX);
    assert_int_equal(recent(f), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(each_text_finds_its_own_in_order_and_nothing_else),
        TEST(case_does_not_matter_and_domains_do),
        TEST(what_is_aborted_was_never_added),
        TEST(expiring_takes_whole_old_rows_of_one_domain),
        TEST(a_commit_changes_few_pages),
        TEST(none_is_lost_when_the_recent_ones_go_into_their_lists),
        TEST(very_many_go_into_their_lists_at_once),
        TEST(a_full_store_loses_none_of_them),
        TEST(damaged_rows_do_not_swallow_new_entries),
        TEST(several_texts_are_found_at_once),
        TEST(recent_rows_expire_and_go_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
