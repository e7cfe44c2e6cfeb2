#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/backup.h"
#include "store/internal.h"
#include "store/key.h"
#include "tests/unit/store/state_dir.h"

struct fixture {
    char dir[64];
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    (void)snprintf(f->dir, sizeof f->dir, "/tmp/postern-store-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char path[128];

    (void)snprintf(path, sizeof path, "%s/store/data.mdb", f->dir);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/store/lock.mdb", f->dir);
    (void)unlink(path);
    (void)snprintf(path, sizeof path, "%s/store", f->dir);
    (void)rmdir(path);
    (void)rmdir(f->dir);
    free(f);
    return 0;
}

static struct store *opened(const struct fixture *f, enum store_mode mode, size_t map)
{
    struct err err = {0};
    struct store *s =
        map == 0 ? store_open(f->dir, mode, &err) : store_open_sized(f->dir, mode, map, &err);

    if (s == NULL)
        fail_msg("%s", err.text);
    return s;
}

static void put_number(struct store *s, const char *name, uint64_t number)
{
    struct err err = {0};
    struct key value = {0};
    struct store_txn *t = store_begin_write(s, &err);

    assert_non_null(t);
    key_u64(&value, number);
    assert_int_equal(store_put(t, DB_META, slice_str(name), key_slice(&value), &err), 0);
    assert_int_equal(store_commit(t, &err), 0);
}

static uint64_t get_number(struct store *s, const char *name)
{
    struct err err = {0};
    struct slice value;
    uint64_t number = 0;
    struct store_txn *t = store_begin_read(s, &err);

    assert_non_null(t);
    if (store_get(t, DB_META, slice_str(name), &value))
        number = read_be(value.ptr, value.len);
    store_end_read(t);
    return number;
}

static void a_reader_before_the_writer_is_told_to_wait_and_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    struct err err = {0};
    char path[128];

    assert_null(store_open(f->dir, STORE_READ, &err));
    assert_int_equal(err.code, ERR_NOT_FOUND);
    (void)snprintf(path, sizeof path, "%s/store", f->dir);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void what_is_committed_is_read_and_what_is_aborted_is_not(void **state)
{
    struct store *w = opened(*state, STORE_WRITE, 0), *r = opened(*state, STORE_READ, 0);
    struct err err = {0};

    put_number(w, "one", 1);
    assert_int_equal(get_number(r, "one"), 1);
    struct store_txn *t = store_begin_write(w, &err);
    assert_int_equal(store_del(t, DB_META, SLICE("one"), &err), 0);
    assert_int_equal(store_del(t, DB_META, SLICE("never there"), &err), 0);
    store_abort(t);
    assert_int_equal(get_number(r, "one"), 1);
    store_close(r);
    store_close(w);
}

static void an_unknown_schema_is_refused_naming_both_versions(void **state)
{
    struct fixture *f = *state;
    struct store *w = opened(f, STORE_WRITE, 0);
    struct err err = {0};
    uint8_t version[4] = {0, 0, 0, 7};
    struct store_txn *t = store_begin_write(w, &err);

    assert_int_equal(store_put(t, DB_META, SLICE("schema"), slice_of(version, 4), &err), 0);
    assert_int_equal(store_commit(t, &err), 0);
    store_close(w);
    assert_null(store_open(f->dir, STORE_WRITE, &err));
    assert_non_null(strstr(err.text, "version 7"));
    char ours[32];
    (void)snprintf(ours, sizeof ours, "to %d", STORE_SCHEMA);
    assert_non_null(strstr(err.text, ours));
}

static void an_older_schema_is_brought_up_to_date_by_the_writer_and_awaited_by_readers(void **state)
{
    struct fixture *f = *state;
    struct store *w = opened(f, STORE_WRITE, 0);
    struct err err = {0};
    const uint8_t oldest[4] = {0, 0, 0, STORE_SCHEMA_OLDEST};

    put_number(w, "kept", 5);
    struct store_txn *t = store_begin_write(w, &err);
    assert_int_equal(mdb_drop(t->mdb, w->dbi[DB_EVENT_MODELS], 1), MDB_SUCCESS); /* of version 5 */
    assert_int_equal(store_put(t, DB_META, SLICE("schema"), slice_of(oldest, 4), &err), 0);
    assert_int_equal(store_commit(t, &err), 0);
    store_close(w);

    assert_null(store_open(f->dir, STORE_READ, &err));
    assert_int_equal(err.code, ERR_NOT_FOUND);
    w = opened(f, STORE_WRITE, 0);
    struct store *r = opened(f, STORE_READ, 0);
    assert_int_equal(get_number(r, "kept"), 5);
    t = store_begin_read(r, &err);
    struct slice version;
    assert_true(store_get(t, DB_META, SLICE("schema"), &version));
    assert_int_equal(version.ptr[3], STORE_SCHEMA);
    store_end_read(t);
    store_close(r);
    store_close(w);
}

static void the_map_grows_by_itself_and_readers_follow(void **state)
{
    enum { ROWS = 400, ROW_BYTES = 4000, MAP = 512 * 1024 };
    struct store *w = opened(*state, STORE_WRITE, MAP), *r = opened(*state, STORE_READ, 0);
    static uint8_t row[ROW_BYTES];
    struct err err = {0};
    MDB_envinfo info;
    struct slice value;

    assert_int_equal(get_number(r, "warm"), 0);
    for (uint32_t i = 0; i < ROWS; i++) {
        struct store_txn *t = store_begin_write(w, &err);
        struct key k = {0};
        key_u32(&k, i);
        row[0] = (uint8_t)i;
        assert_non_null(t);
        assert_int_equal(store_put(t, DB_CONTENTS, key_slice(&k), slice_of(row, sizeof row), &err),
                         0);
        assert_int_equal(store_commit(t, &err), 0);
    }
    (void)mdb_env_info(w->env, &info);
    assert_true(info.me_mapsize > 2 * MAP);
    struct store_txn *t = store_begin_read(r, &err);
    assert_non_null(t);
    for (uint32_t i = 0; i < ROWS; i++) {
        struct key k = {0};
        key_u32(&k, i);
        assert_true(store_get(t, DB_CONTENTS, key_slice(&k), &value));
        assert_int_equal(value.len, ROW_BYTES);
        assert_int_equal(value.ptr[0], (uint8_t)i);
    }
    store_end_read(t);
    store_close(r);
    store_close(w);
}

static void a_map_met_full_is_an_answer_and_the_next_transaction_has_room(void **state)
{
    enum { ROW_BYTES = 4000, MAP = 512 * 1024 };
    struct store *w = opened(*state, STORE_WRITE, MAP);
    static uint8_t row[ROW_BYTES];
    struct err err = {0};
    int rc = 0;

    put_number(w, "before", 5);
    struct store_txn *t = store_begin_write(w, &err);
    for (uint32_t i = 0; i < 1000 && rc == 0; i++) {
        struct key k = {0};
        key_u32(&k, i);
        rc = store_put(t, DB_CONTENTS, key_slice(&k), slice_of(row, sizeof row), &err);
    }
    assert_int_equal(rc, -1);
    assert_int_equal(err.code, ERR_FULL);
    err = (struct err){0};
    assert_int_equal(store_commit(t, &err), -1);
    assert_int_equal(err.code, ERR_FULL);
    assert_int_equal(get_number(w, "before"), 5);
    put_number(w, "after", 6);
    MDB_envinfo info;
    (void)mdb_env_info(w->env, &info);
    assert_true(info.me_mapsize >= 2 * MAP);
    store_close(w);
}

static void fullness_is_measured_against_the_reserve(void **state)
{
    struct store *w = opened(*state, STORE_WRITE, 0);

    store_reserve(w, 0);
    assert_false(store_is_full(w));
    store_reserve(w, UINT64_MAX);
    assert_true(store_is_full(w));
    put_number(w, "outcome", 1); /* what was accepted can still be settled */
    store_close(w);
}

/* In a child: commits 1, 2, 3, … and is killed in the middle of a transaction at whatever instant.
 */
static void commit_for_ever(const char *dir, int told)
{
    struct err err = {0};
    struct store *s = store_open(dir, STORE_WRITE, &err);
    uint8_t junk[3000] = {1};

    for (uint64_t n = 1; s != NULL; n++) {
        struct store_txn *t = store_begin_write(s, &err);
        struct key value = {0};
        key_u64(&value, n);
        if (t == NULL || store_put(t, DB_META, SLICE("n"), key_slice(&value), &err) != 0)
            break;
        for (uint32_t i = 0; i < 20; i++) {
            struct key k = {0};
            key_u32(&k, i);
            if (store_put(t, DB_CONTENTS, key_slice(&k), slice_of(junk, sizeof junk), &err) != 0)
                _exit(1);
        }
        if (store_put(t, DB_META, SLICE("n again"), key_slice(&value), &err) != 0 ||
            store_commit(t, &err) != 0 || write(told, &n, sizeof n) != sizeof n)
            break;
    }
    _exit(1);
}

static void a_killed_writer_leaves_whole_transactions(void **state)
{
    struct fixture *f = *state;

    for (unsigned round = 0; round < 8; round++) {
        int pipes[2], status;
        uint64_t n, last = 0;
        assert_int_equal(pipe(pipes), 0);
        pid_t pid = fork();
        if (pid == 0)
            commit_for_ever(f->dir, pipes[1]);
        (void)close(pipes[1]);
        assert_int_equal(read(pipes[0], &last, sizeof last), sizeof last);
        (void)usleep(1000 + 1700 * round);
        (void)kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        while (read(pipes[0], &n, sizeof n) == sizeof n)
            last = n;
        (void)close(pipes[0]);
        struct store *s = opened(f, STORE_WRITE, 0);
        uint64_t first = get_number(s, "n");
        assert_int_equal(first, get_number(s, "n again"));
        assert_true(first == last ||
                    first == last + 1); /* committed, and killed before it said so */
        put_number(s, "works", 1);
        store_close(s);
    }
}

static void a_dead_readers_slot_is_swept(void **state)
{
    struct fixture *f = *state;
    struct store *w = opened(f, STORE_WRITE, 0);
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        struct err err;
        struct store *r = store_open(f->dir, STORE_READ, &err);
        _exit(r != NULL && store_begin_read(r, &err) != NULL ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_int_equal(store_sweep_readers(w), 1);
    assert_int_equal(store_sweep_readers(w), 0);
    store_close(w);
}

static void domains_keep_their_number_whatever_the_case(void **state)
{
    struct store *w = opened(*state, STORE_WRITE, 0);
    struct err err = {0};
    struct store_txn *t = store_begin_write(w, &err);

    assert_int_equal(store_domain_find(t, SLICE("mg.example.com")), 0);
    assert_int_equal(store_domain_intern(t, SLICE("mg.example.com"), &err), 1);
    assert_int_equal(store_domain_intern(t, SLICE("other.example"), &err), 2);
    assert_int_equal(store_domain_intern(t, SLICE("MG.Example.com"), &err), 1);
    assert_int_equal(store_domain_find(t, SLICE("OTHER.example")), 2);
    assert_int_equal(store_domain_intern(t, (struct slice){0}, &err), 0);
    assert_int_equal(store_commit(t, &err), 0);
    store_close(w);
}

static void a_backup_opens_as_a_store_and_knows_what_it_is(void **state)
{
    struct fixture *f = *state;
    struct store *w = opened(f, STORE_WRITE, 0);
    struct fixture copy = {0};
    struct err err = {0};
    uint64_t made_us;

    put_number(w, "kept", 42);
    assert_int_equal(store_take_over_backup(w, &made_us, &err), 0);
    assert_int_equal(made_us, 0);
    (void)snprintf(copy.dir, sizeof copy.dir, "%.50s/copy", f->dir);
    assert_int_equal(store_backup(w, copy.dir, &err), 0);
    assert_int_not_equal(store_backup(w, copy.dir, &err), 0); /* it is there */
    struct store *made = opened(&copy, STORE_WRITE, 0);
    assert_int_equal(get_number(made, "kept"), 42);
    assert_int_equal(store_take_over_backup(made, &made_us, &err), 0); /* nothing was open */
    assert_true(made_us != 0);
    assert_int_equal(store_take_over_backup(made, &made_us, &err), 0);
    assert_int_equal(made_us, 0); /* it is the store now */
    store_close(made);
    store_close(w);
    state_dir_remove(copy.dir);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_reader_before_the_writer_is_told_to_wait_and_leaves_nothing),
        TEST(what_is_committed_is_read_and_what_is_aborted_is_not),
        TEST(an_unknown_schema_is_refused_naming_both_versions),
        TEST(an_older_schema_is_brought_up_to_date_by_the_writer_and_awaited_by_readers),
        TEST(the_map_grows_by_itself_and_readers_follow),
        TEST(a_map_met_full_is_an_answer_and_the_next_transaction_has_room),
        TEST(fullness_is_measured_against_the_reserve),
        TEST(a_killed_writer_leaves_whole_transactions),
        TEST(a_dead_readers_slot_is_swept),
        TEST(domains_keep_their_number_whatever_the_case),
        TEST(a_backup_opens_as_a_store_and_knows_what_it_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
