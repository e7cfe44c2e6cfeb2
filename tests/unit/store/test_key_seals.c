/*
 * tests/unit/store/test_key_seals.c - what machines tell each other of API keys: the same keys come out in
 * whatever order and however often it is heard, and nothing that was not sealed with a key of this
 * machine's own file.
 */
#include "store/key_seals.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/internal.h"
#include "store/key_changes.h"
#include "store/replicas.h"

#define FIRST  "first.example.com"
#define SECOND "second.example.com"
enum { CHANGES_MAX = 8 };

/* Of every machine; `account` only where a test says so. */
static char *first_keys[] = {(char[]){"key-one"}, (char[]){"key-more"}};
static char *second_keys[] = {(char[]){"key-two"}};
static char *sending_keys[] = {(char[]){"only-sends"}};
static char *account_keys[] = {(char[]){"account"}};
static struct config_domain domains[] = {
    {.name = (char[]){FIRST}, .api_keys = {first_keys, 1}, .sending_keys = {sending_keys, 1}},
    {.name = (char[]){SECOND}, .api_keys = {second_keys, 1}},
};
static struct config config;

struct machine {
    char dir[64];
    struct store *store;
};

static void machine_open(struct machine *m)
{
    struct err err;

    (void)snprintf(m->dir, sizeof m->dir, "/tmp/postern-seals-XXXXXX");
    assert_non_null(mkdtemp(m->dir));
    m->store = store_open(m->dir, STORE_WRITE, &err);
    assert_non_null(m->store);
    assert_int_equal(changes_start(m->store, &err), 0);
}

static void machine_close(struct machine *m)
{
    char command[128];

    store_close(m->store);
    (void)snprintf(command, sizeof command, "rm -rf %s", m->dir);
    assert_int_equal(system(command), 0);
}

static int begin(void **state)
{
    (void)state;
    config = (struct config){.domains = domains, .domain_count = 2};
    domains[0].api_keys.count = domains[1].api_keys.count = 1;
    return 0;
}

/* -------- asking -------- */

static struct buf words;

static enum answer_verdict ask(struct machine *m, const struct record_control *r)
{
    enum answer_verdict verdict;
    uint32_t count;
    struct err err;
    struct store_txn *t = store_begin_write(m->store, &err);

    buf_reset(&words);
    assert_int_equal(key_control(t, &config, r, &verdict, &count, &words, &err), 0);
    assert_int_equal(store_commit(t, &err), 0);
    return verdict;
}

static void add(struct machine *m, const char *key, const char *domain)
{
    uint8_t digest[SHA256_BYTES];

    digest_sha256(slice_str(key), digest);
    assert_int_equal(ask(m, &(struct record_control){.verb = CONTROL_KEY_ADD,
                                                     .domain = slice_str(domain),
                                                     .label = SLICE("of a test"),
                                                     .digest = slice_of(digest, sizeof digest)}),
                     ANSWER_OK);
}

static void withdraw(struct machine *m, const char *key)
{
    uint8_t digest[SHA256_BYTES];

    digest_sha256(slice_str(key), digest);
    assert_int_equal(ask(m, &(struct record_control){.verb = CONTROL_KEY_WITHDRAW,
                                                     .force = true,
                                                     .digest = slice_of(digest, sizeof digest)}),
                     ANSWER_OK);
}

static bool opens(struct machine *m, const char *key, const char *domain)
{
    uint8_t digest[SHA256_BYTES];
    struct arena a = {0};
    struct known_keys keys;
    struct err err;
    struct store_txn *t = store_begin_read(m->store, &err);
    bool found = false;

    digest_sha256(slice_str(key), digest);
    known_keys_read(t, &config, &a, &keys);
    for (size_t i = 0; i < keys.count; i++)
        found = found || (memcmp(keys.list[i].digest, digest, sizeof digest) == 0 &&
                          known_key_opens(&keys, &keys.list[i], slice_str(domain)));
    store_end_read(t);
    arena_fini(&a);
    return found;
}

/* -------- telling -------- */

static const char *judged;

/* As poller and writer do it; false: it was no change, and judged says why. */
static bool hear(struct machine *m, struct slice change)
{
    static char said[300];
    struct arena a = {0};
    struct record_change r;
    struct slice why;
    struct err err;
    struct store_txn *t = store_begin_write(m->store, &err);
    bool good = replica_judge(change, &config, t, clock_wall_us(), &a, &r, &why);

    (void)snprintf(said, sizeof said, "%.*s", SLICE_ARGS(good ? SLICE("good") : why));
    judged = said;
    if (good) {
        assert_int_equal(change_stamp_heard(t, r.stamp_us, &err), 0);
        assert_int_equal(keys_apply(t, r.keys, &err), 0);
    }
    assert_int_equal(store_commit(t, &err), 0);
    arena_fini(&a);
    return good;
}

struct told {
    struct buf list[CHANGES_MAX];
    size_t count;
};

/* All that there is to tell; it is told with that. */
static void take_told(struct machine *m, struct told *told)
{
    struct slice change;
    uint64_t at_us = 0;
    struct err err;
    struct store_txn *t = store_begin_write(m->store, &err);

    while (change_untold_after(t, &at_us, &change)) {
        assert_true(told->count < CHANGES_MAX);
        buf_add_slice(&told->list[told->count++], change);
    }
    assert_int_equal(changes_drop(t, at_us, &err), 0);
    assert_int_equal(store_commit(t, &err), 0);
}

static void told_fini(struct told *told)
{
    for (size_t i = 0; i < told->count; i++)
        buf_fini(&told->list[i]);
    *told = (struct told){.count = 0};
}

static bool put_row(void *arg, const struct key_row *row)
{
    key_row_pack(arg, row);
    return true;
}

static void assert_same_rows(struct machine *a, struct machine *b)
{
    struct buf rows[2] = {{0}, {0}};
    struct err err;

    for (int i = 0; i < 2; i++) {
        struct store_txn *t = store_begin_read(i == 0 ? a->store : b->store, &err);
        keys_each(t, put_row, &rows[i]);
        store_end_read(t);
    }
    assert_true(rows[0].len > 0);
    assert_true(slice_eq(buf_slice(&rows[0]), buf_slice(&rows[1])));
    buf_fini(&rows[0]);
    buf_fini(&rows[1]);
}

/* -------- order -------- */

static void play(struct machine *a, const struct told *told, const size_t *order)
{
    struct machine b;

    machine_open(&b);
    for (size_t i = 0; i < told->count; i++) {
        assert_true(hear(&b, buf_slice(&told->list[order[i]])));
        assert_true(hear(&b, buf_slice(&told->list[order[i / 2]]))); /* and one again */
    }
    assert_same_rows(a, &b);
    machine_close(&b);
}

static void permute(struct machine *a, const struct told *told, size_t *order, size_t at)
{
    if (at == told->count) {
        play(a, told, order);
        return;
    }
    for (size_t i = at; i < told->count; i++) {
        size_t kept = order[at];
        order[at] = order[i];
        order[i] = kept;
        permute(a, told, order, at + 1);
        order[i] = order[at];
        order[at] = kept;
    }
}

/* The file's only key of the domain seals all of it, its own end at last. */
static void the_same_keys_come_out_in_every_order(void **unused)
{
    size_t order[CHANGES_MAX] = {0, 1, 2, 3, 4};
    struct told told = {.count = 0};
    struct machine a;

    (void)unused;
    machine_open(&a);
    add(&a, "fresh", FIRST);
    withdraw(&a, "fresh");
    add(&a, "next", FIRST);
    withdraw(&a, "only-sends");
    withdraw(&a, "key-one");
    assert_true(opens(&a, "next", FIRST));
    take_told(&a, &told);
    assert_int_equal(told.count, 5);
    permute(&a, &told, order, 0);
    told_fini(&told);
    machine_close(&a);
}

static void two_machines_that_change_keys_at_the_same_time_agree(void **unused)
{
    struct told told[2] = {{.count = 0}, {.count = 0}};
    struct machine m[2];

    (void)unused;
    config.api_keys = (struct config_list){account_keys, 1};
    for (int i = 0; i < 2; i++)
        machine_open(&m[i]);
    add(&m[0], "of-a", FIRST);
    withdraw(&m[0], "key-one");
    add(&m[1], "of-b", SECOND);
    withdraw(&m[1], "key-one");
    add(&m[1], "everywhere", "*");
    for (int i = 0; i < 2; i++)
        take_told(&m[i], &told[i]);
    for (int i = 0; i < 2; i++)
        for (size_t n = told[1 - i].count; n-- > 0;)
            assert_true(hear(&m[i], buf_slice(&told[1 - i].list[n])));
    for (int i = 0; i < 2; i++) {
        assert_true(opens(&m[i], "of-a", FIRST) && opens(&m[i], "of-b", SECOND));
        assert_true(opens(&m[i], "everywhere", FIRST) && !opens(&m[i], "key-one", FIRST));
        told_fini(&told[i]);
    }
    assert_same_rows(&m[0], &m[1]);
    for (int i = 0; i < 2; i++)
        machine_close(&m[i]);
}

/* -------- trust -------- */

static void what_is_told_shows_no_digest(void **unused)
{
    uint8_t digests[2][SHA256_BYTES];
    struct told told = {.count = 0};
    struct machine a;

    (void)unused;
    machine_open(&a);
    add(&a, "fresh", FIRST);
    withdraw(&a, "key-one");
    digest_sha256(SLICE("fresh"), digests[0]);
    digest_sha256(SLICE("key-one"), digests[1]);
    take_told(&a, &told);
    for (size_t i = 0; i < told.count; i++)
        for (int k = 0; k < 2; k++) /* not even four bytes of one */
            assert_true(slice_find(buf_slice(&told.list[i]), slice_of(digests[k], 4)) == SIZE_MAX);
    told_fini(&told);
    machine_close(&a);
}

/* The change that somebody who knows `secret` would forge: "forged" opens the domain. */
static bool forge(struct machine *m, const char *secret, const char *domain, const char *of)
{
    uint8_t digest[SHA256_BYTES], sealer[SEAL_NAME_BYTES];
    struct key_row row = {.domain = slice_str(of), .at = {.stamp_us = 7, .node = 7}};
    struct record_change r = {.what = CHANGE_KEYS, .stamp_us = 9, .domain = slice_str(domain)};
    struct buf plain = {0}, sealed = {0}, change = {0};

    digest_sha256(slice_str(secret), digest);
    digest_sha256(SLICE("forged"), row.digest);
    row.state = KEY_ADDED;
    pack_array(&plain, 1);
    key_row_pack(&plain, &row);
    keys_seal(digest, buf_slice(&plain), &r, sealer, &sealed);
    record_change_encode(&change, &r);
    bool good = hear(m, buf_slice(&change));
    buf_fini(&plain);
    buf_fini(&sealed);
    buf_fini(&change);
    return good;
}

static void only_a_key_of_the_file_that_is_for_everything_there_seals(void **unused)
{
    struct machine a;

    (void)unused;
    machine_open(&a);
    assert_false(forge(&a, "key-two", FIRST, FIRST)); /* of another domain */
    assert_non_null(strstr(judged, "proxy.conf does not have: for first.example.com"));
    assert_false(forge(&a, "only-sends", FIRST, FIRST));
    assert_non_null(strstr(judged, "does not have"));
    assert_false(forge(&a, "account", FIRST, FIRST));
    assert_false(forge(&a, "key-one", "", ""));
    assert_non_null(strstr(judged, "does not have: for all domains"));
    assert_false(forge(&a, "key-one", FIRST, SECOND)); /* says more than its domain */
    assert_non_null(strstr(judged, "seal is not right"));
    assert_false(forge(&a, "key-one", FIRST, ""));
    assert_false(forge(&a, "key-one", "other.example.com", "other.example.com"));
    assert_non_null(strstr(judged, "not configured here"));
    add(&a, "fresh", FIRST);
    assert_false(forge(&a, "fresh", FIRST, FIRST)); /* it was added, and is in no file */
    assert_false(opens(&a, "forged", FIRST) || opens(&a, "forged", SECOND));
    assert_true(forge(&a, "key-one", FIRST, FIRST)); /* so the forger's hand is right */
    assert_true(opens(&a, "forged", FIRST));
    config.api_keys = (struct config_list){account_keys, 1};
    assert_true(forge(&a, "account", SECOND, SECOND));
    assert_true(forge(&a, "account", "", "gone.example.com"));
    machine_close(&a);
}

static void a_withdrawn_key_seals_nothing_new(void **unused)
{
    struct told told = {.count = 0};
    struct machine a, b;

    (void)unused;
    machine_open(&a);
    machine_open(&b);
    add(&a, "fresh", FIRST);
    take_told(&a, &told);
    withdraw(&b, "key-one");
    assert_false(hear(&b, buf_slice(&told.list[0])));
    assert_non_null(strstr(judged, "sealed with a key that is withdrawn here"));
    assert_false(forge(&b, "key-one", FIRST, FIRST));
    assert_false(opens(&b, "fresh", FIRST) || opens(&b, "forged", FIRST));
    told_fini(&told);
    machine_close(&a);
    machine_close(&b);
}

static void a_change_that_was_tampered_with_is_none(void **unused)
{
    struct told told = {.count = 0};
    struct record_change r;
    struct buf bytes = {0};
    struct machine a, b;
    size_t changed = 0;

    (void)unused;
    machine_open(&a);
    machine_open(&b);
    add(&a, "fresh", FIRST);
    take_told(&a, &told);
    assert_true(record_change_decode(buf_slice(&told.list[0]), &r));
    buf_add_slice(&bytes, buf_slice(&told.list[0]));
    for (size_t i = 0; i < bytes.len; i++) {
        struct record_change other;
        bytes.ptr[i] ^= 1;
        /* What says something else than was sealed; fields of other kinds say nothing here. */
        if (!record_change_decode(buf_slice(&bytes), &other) || other.what != r.what ||
            other.stamp_us != r.stamp_us || !slice_eq(other.domain, r.domain) ||
            !slice_eq(other.keys, r.keys) || !slice_eq(other.sealer, r.sealer)) {
            assert_false(hear(&b, buf_slice(&bytes)));
            changed++;
        }
        bytes.ptr[i] ^= 1;
    }
    assert_true(changed > r.keys.len + r.sealer.len + r.domain.len);
    buf_reset(&bytes);
    r.stamp_us++;
    record_change_encode(&bytes, &r);
    assert_false(hear(&b, buf_slice(&bytes)));
    assert_non_null(strstr(judged, "seal is not right"));
    assert_false(opens(&b, "fresh", FIRST));
    assert_true(hear(&b, buf_slice(&told.list[0])));
    assert_true(opens(&b, "fresh", FIRST));
    buf_fini(&bytes);
    told_fini(&told);
    machine_close(&a);
    machine_close(&b);
}

/* -------- who seals -------- */

static void another_key_seals_the_end_of_one_where_there_is_another(void **unused)
{
    struct told told = {.count = 0};
    struct machine a, b;

    (void)unused;
    domains[0].api_keys.count = 2;
    machine_open(&a);
    machine_open(&b);
    withdraw(&a, "key-one");
    assert_true(slice_find(buf_slice(&words), SLICE("before the next change")) == SIZE_MAX);
    add(&a, "fresh", FIRST);
    withdraw(&a, "key-more");
    assert_true(slice_find(buf_slice(&words), SLICE("before the next change")) != SIZE_MAX);
    take_told(&a, &told);
    assert_int_equal(told.count, 3);
    for (size_t i = 0; i < told.count; i++)
        assert_true(hear(&b, buf_slice(&told.list[i])));
    assert_same_rows(&a, &b);
    add(&a, "unheard", FIRST);
    assert_true(slice_find(buf_slice(&words), SLICE("on this machine alone")) != SIZE_MAX);
    assert_true(opens(&a, "unheard", FIRST));
    told_fini(&told);
    take_told(&a, &told);
    assert_int_equal(told.count, 0);
    machine_close(&a);
    machine_close(&b);
}

/* So what the one had sealed comes after all where it was withdrawn before. */
static void what_another_key_seals_is_heard_where_the_one_is_withdrawn(void **unused)
{
    struct told told = {.count = 0};
    struct machine a, b;

    (void)unused;
    domains[0].api_keys.count = 2;
    machine_open(&a);
    machine_open(&b);
    add(&a, "fresh", FIRST); /* sealed with key-one, the first in the file */
    withdraw(&a, "key-one");
    withdraw(&b, "key-one");
    take_told(&a, &told);
    assert_int_equal(told.count, 2);
    assert_false(hear(&b, buf_slice(&told.list[0])));
    assert_true(hear(&b, buf_slice(&told.list[1])));
    assert_true(hear(&b, buf_slice(&told.list[0])));
    assert_true(opens(&b, "fresh", FIRST));
    told_fini(&told);
    machine_close(&a);
    machine_close(&b);
}

static void a_key_of_all_domains_takes_all_that_it_has_sealed_with_it(void **unused)
{
    struct told told = {.count = 0};
    struct machine a, b;

    (void)unused;
    config.api_keys = (struct config_list){account_keys, 1};
    domains[0].api_keys.count = domains[1].api_keys.count = 0;
    machine_open(&a);
    machine_open(&b);
    add(&a, "of-first", FIRST);
    add(&a, "of-second", SECOND);
    withdraw(&a, "account");
    take_told(&a, &told);
    assert_int_equal(told.count, 3);
    for (size_t n = told.count; n-- > 0;)
        assert_true(hear(&b, buf_slice(&told.list[n])));
    assert_same_rows(&a, &b);
    assert_true(opens(&b, "of-first", FIRST) && opens(&b, "of-second", SECOND));
    assert_false(opens(&b, "account", FIRST));
    told_fini(&told);
    machine_close(&a);
    machine_close(&b);
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup(test, begin)
    const struct CMUnitTest tests[] = {
        WITH(the_same_keys_come_out_in_every_order),
        WITH(two_machines_that_change_keys_at_the_same_time_agree),
        WITH(what_is_told_shows_no_digest),
        WITH(only_a_key_of_the_file_that_is_for_everything_there_seals),
        WITH(a_withdrawn_key_seals_nothing_new),
        WITH(a_change_that_was_tampered_with_is_none),
        WITH(another_key_seals_the_end_of_one_where_there_is_another),
        WITH(what_another_key_seals_is_heard_where_the_one_is_withdrawn),
        WITH(a_key_of_all_domains_takes_all_that_it_has_sealed_with_it),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    buf_fini(&words);
    return failed;
}
