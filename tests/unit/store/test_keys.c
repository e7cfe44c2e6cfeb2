/* tests/unit/store/test_keys.c - keys that are added and withdrawn, beside those of the configuration. */
#include "store/key_changes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "store/internal.h"
#include "store/key.h"

#define FIRST  "first.example.com"
#define SECOND "second.example.com"

static char *account_keys[] = {(char[]){"account"}};
static char *first_keys[] = {(char[]){"key-one"}, (char[]){"shared"}};
static char *second_keys[] = {(char[]){"shared"}};
static char *sending_keys[] = {(char[]){"only-sends"}};
static struct config_domain domains[] = {
    {.name = (char[]){FIRST}, .api_keys = {first_keys, 2}, .sending_keys = {sending_keys, 1}},
    {.name = (char[]){SECOND}, .api_keys = {second_keys, 1}},
};

struct fixture {
    struct config config;
    char dir[64];
    struct store *store;
    struct store_txn *t;
    struct err err;
    struct buf words;
    enum answer_verdict verdict;
    uint32_t count;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->config = (struct config){.domains = domains, .domain_count = 2};
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/postern-keys-XXXXXX");
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
    char command[128];

    store_abort(f->t);
    store_close(f->store);
    (void)snprintf(command, sizeof command, "rm -rf %s", f->dir);
    assert_int_equal(system(command), 0);
    buf_fini(&f->words);
    free(f);
    return 0;
}

static enum answer_verdict ask(struct fixture *f, const struct record_control *r)
{
    buf_reset(&f->words);
    assert_int_equal(key_control(f->t, &f->config, r, &f->verdict, &f->count, &f->words, &f->err),
                     0);
    return f->verdict;
}

static enum answer_verdict add(struct fixture *f, const char *key, const char *domain, bool sending)
{
    uint8_t digest[SHA256_BYTES];

    digest_sha256(slice_str(key), digest);
    return ask(f, &(struct record_control){.verb = CONTROL_KEY_ADD,
                                           .domain = slice_str(domain),
                                           .digest = slice_of(digest, sizeof digest),
                                           .label = SLICE("of a test"),
                                           .who = SLICE("ada"),
                                           .sending = sending});
}

/* domain: NULL = wherever it opens. */
static enum answer_verdict withdraw(struct fixture *f, const char *key, const char *domain,
                                    bool force)
{
    uint8_t digest[SHA256_BYTES];

    digest_sha256(slice_str(key), digest);
    return ask(f, &(struct record_control){.verb = CONTROL_KEY_WITHDRAW,
                                           .domain = slice_str(domain),
                                           .digest = slice_of(digest, sizeof digest),
                                           .force = force});
}

static bool says(struct fixture *f, const char *words)
{
    return strstr(buf_cstr(&f->words), words) != NULL;
}

/* "all", "sending" or "-", as the key stands now. */
static const char *opens(struct fixture *f, const char *key, const char *domain)
{
    uint8_t digest[SHA256_BYTES];
    struct arena a = {0};
    struct known_keys keys;
    const char *found = "-";

    digest_sha256(slice_str(key), digest);
    known_keys_read(f->t, &f->config, &a, &keys);
    for (size_t i = 0; i < keys.count; i++)
        if (memcmp(keys.list[i].digest, digest, sizeof digest) == 0 &&
            known_key_opens(&keys, &keys.list[i], slice_str(domain)))
            found = keys.list[i].kind == CONFIG_KEY_SENDING ? "sending" : "all";
    arena_fini(&a);
    return found;
}

static void a_key_is_added_for_a_domain_or_for_all(void **state)
{
    struct fixture *f = *state;

    assert_string_equal(opens(f, "fresh", FIRST), "-");
    assert_int_equal(add(f, "fresh", "First.Example.com", false), ANSWER_OK);
    assert_true(says(f, "it opens first.example.com at once"));
    assert_string_equal(opens(f, "fresh", FIRST), "all");
    assert_string_equal(opens(f, "fresh", SECOND), "-");
    assert_int_equal(add(f, "sends", SECOND, true), ANSWER_OK);
    assert_string_equal(opens(f, "sends", SECOND), "sending");
    assert_int_equal(add(f, "everywhere", "*", false), ANSWER_OK);
    assert_string_equal(opens(f, "everywhere", FIRST), "all");
    assert_string_equal(opens(f, "everywhere", SECOND), "all");

    assert_int_equal(add(f, "other", "other.example.com", false), ANSWER_NOT_FOUND);
    assert_true(says(f, "other.example.com is no configured domain"));
    assert_int_equal(add(f, "fresh", SECOND, false), ANSWER_REFUSED);
    assert_int_equal(add(f, "key-one", SECOND, false), ANSWER_REFUSED);
    assert_true(says(f, "known already"));
}

static void what_is_stored_is_no_key(void **state)
{
    struct fixture *f = *state;
    struct buf all = {0};
    MDB_cursor *cursor;
    MDB_val k, v;

    (void)add(f, "a-key-in-words", FIRST, false);
    assert_int_equal(mdb_cursor_open(f->t->mdb, f->store->dbi[DB_KEYS], &cursor), 0);
    while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == 0) {
        buf_add_slice(&all, store_slice(k));
        buf_add_slice(&all, store_slice(v));
    }
    mdb_cursor_close(cursor);
    assert_true(slice_find(buf_slice(&all), SLICE("of a test")) != SIZE_MAX);
    assert_true(slice_find(buf_slice(&all), SLICE("a-key-in-words")) == SIZE_MAX);
    buf_fini(&all);
}

static void a_withdrawn_key_opens_nothing_though_it_stand_in_the_file(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(withdraw(f, "key-one", NULL, false), ANSWER_OK);
    assert_true(says(f, "no longer opens first.example.com; it still stands in proxy.conf"));
    assert_string_equal(opens(f, "key-one", FIRST), "-");
    assert_int_equal(withdraw(f, "key-one", NULL, false), ANSWER_REFUSED);
    assert_true(says(f, "withdrawn already"));

    (void)add(f, "fresh", FIRST, false);
    assert_int_equal(withdraw(f, "fresh", NULL, false), ANSWER_OK);
    assert_false(says(f, "proxy.conf"));
    assert_string_equal(opens(f, "fresh", FIRST), "-");
    assert_int_equal(add(f, "fresh", FIRST, false), ANSWER_REFUSED); /* it is not made anew */
    assert_int_equal(withdraw(f, "no-such-key", NULL, false), ANSWER_NOT_FOUND);
}

static void a_key_may_be_withdrawn_for_one_domain_and_open_the_others(void **state)
{
    struct fixture *f = *state;

    f->config.api_keys = (struct config_list){account_keys, 1};
    assert_int_equal(withdraw(f, "shared", SECOND, false), ANSWER_OK);
    assert_string_equal(opens(f, "shared", FIRST), "all");
    assert_string_equal(opens(f, "shared", SECOND), "-");
    assert_int_equal(withdraw(f, "shared", SECOND, false), ANSWER_REFUSED);
    assert_true(says(f, "does not open that domain"));
    assert_int_equal(withdraw(f, "shared", "other.example.com", false), ANSWER_NOT_FOUND);

    assert_int_equal(withdraw(f, "account", FIRST, false), ANSWER_OK);
    assert_string_equal(opens(f, "account", FIRST), "-");
    assert_string_equal(opens(f, "account", SECOND), "all");
    assert_string_equal(opens(f, "account", ""), "-"); /* not all any more */
    assert_int_equal(withdraw(f, "shared", NULL, false), ANSWER_OK);
    assert_string_equal(opens(f, "shared", FIRST), "-");
}

static void the_last_key_of_a_domain_goes_only_by_force(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(withdraw(f, "shared", NULL, false), ANSWER_REFUSED);
    assert_true(says(f, "the last key of second.example.com"));
    assert_string_equal(opens(f, "shared", SECOND), "all");
    assert_int_equal(add(f, "sends", SECOND, true), ANSWER_OK); /* is not enough */
    assert_int_equal(withdraw(f, "shared", SECOND, false), ANSWER_REFUSED);
    assert_int_equal(withdraw(f, "sends", NULL, false), ANSWER_OK);
    assert_int_equal(add(f, "fresh", SECOND, false), ANSWER_OK);
    assert_int_equal(withdraw(f, "shared", NULL, false), ANSWER_OK);
    assert_int_equal(f->count, 2);
    assert_string_equal(opens(f, "shared", FIRST), "-");
    assert_string_equal(opens(f, "shared", SECOND), "-");
    assert_int_equal(withdraw(f, "fresh", "*", false), ANSWER_REFUSED);
    assert_int_equal(withdraw(f, "fresh", "*", true), ANSWER_OK);
    assert_string_equal(opens(f, "fresh", SECOND), "-");
}

static enum answer_verdict withdraw_by(struct fixture *f, const char *prefix)
{
    return ask(f, &(struct record_control){
                      .verb = CONTROL_KEY_WITHDRAW, .prefix = slice_str(prefix), .force = true});
}

static void digits_name_a_key_when_they_are_enough_and_no_other_begins_so(void **state)
{
    struct fixture *f = *state;
    struct key_row twins[2] = {{.state = KEY_ADDED}, {.state = KEY_ADDED}};

    for (size_t i = 0; i < 2; i++) {
        memset(twins[i].digest, 0xab, SHA256_BYTES);
        twins[i].digest[5] = (uint8_t)i;
        twins[i].domain = SLICE(FIRST);
        assert_int_equal(key_row_put(f->t, &twins[i], &f->err), 0);
    }
    assert_int_equal(withdraw_by(f, "abababab"), ANSWER_REFUSED);
    assert_true(says(f, "several keys begin so"));
    assert_int_equal(withdraw_by(f, "ababab"), ANSWER_NOT_FOUND);
    assert_int_equal(withdraw_by(f, ""), ANSWER_NOT_FOUND);
    assert_int_equal(withdraw_by(f, "cdababab"), ANSWER_NOT_FOUND);
    assert_int_equal(withdraw_by(f, "ABABABABAB01"), ANSWER_OK);
    assert_true(says(f, "sha256:ababababab01... no longer opens first.example.com"));
    struct key_row row;
    assert_true(key_row_get(f->t, twins[0].digest, SLICE(FIRST), &row));
    assert_int_equal(row.state, KEY_ADDED);
    assert_true(key_row_get(f->t, twins[1].digest, SLICE(FIRST), &row));
    assert_int_equal(row.state, KEY_WITHDRAWN);
}

static void a_label_is_one_line(void **state)
{
    struct fixture *f = *state;
    uint8_t digest[SHA256_BYTES] = {1};
    char label[KEY_LABEL_BYTES_MAX + 2] = {0};
    struct record_control r = {
        .verb = CONTROL_KEY_ADD, .domain = SLICE(FIRST), .digest = slice_of(digest, sizeof digest)};

    memset(label, 'x', KEY_LABEL_BYTES_MAX + 1);
    r.label = slice_str(label);
    assert_int_equal(ask(f, &r), ANSWER_REFUSED);
    r.label = SLICE("two\nlines");
    assert_int_equal(ask(f, &r), ANSWER_REFUSED);
    r.label = SLICE("\xff");
    assert_int_equal(ask(f, &r), ANSWER_REFUSED);
    r.digest = slice_of(digest, 31);
    r.label = slice_none();
    assert_int_equal(ask(f, &r), ANSWER_REFUSED);
    label[KEY_LABEL_BYTES_MAX] = '\0';
    r.digest = slice_of(digest, 32);
    r.label = slice_str(label);
    assert_int_equal(ask(f, &r), ANSWER_OK);
}

static bool take_by(void *arg, const struct key_row *row)
{
    struct buf *by = arg;

    buf_add_slice(by, row->by);
    buf_add_byte(by, row->only_sending ? 's' : 'f');
    return true;
}

static void who_has_asked_stands_beside_it_and_what_the_key_was_for(void **state)
{
    struct fixture *f = *state;
    uint8_t digest[SHA256_BYTES];
    struct buf by = {0};
    struct record_control r = {.verb = CONTROL_KEY_WITHDRAW, .who = SLICE("ada")};

    digest_sha256(SLICE("only-sends"), digest);
    r.digest = slice_of(digest, sizeof digest);
    assert_int_equal(ask(f, &r), ANSWER_OK);
    keys_of(f->t, digest, take_by, &by);
    assert_string_equal(buf_cstr(&by), "adas");
    buf_reset(&by);
    digest_sha256(SLICE("key-one"), digest);
    r.who = SLICE("\xc3\xa4 name that is longer than a row has room for");
    assert_int_equal(ask(f, &r), ANSWER_OK);
    keys_of(f->t, digest, take_by, &by);
    assert_string_equal(buf_cstr(&by), "f");
    buf_fini(&by);
}

/* number 0: withdrawn at the beginning of time. */
static void fill(struct fixture *f, size_t count, enum key_state first)
{
    for (size_t i = 0; i < count; i++) {
        struct key_row row = {
            .domain = SLICE(FIRST), .state = i == 0 ? first : KEY_ADDED, .at = {.stamp_us = i + 1}};
        memset(row.digest, 7, SHA256_BYTES);
        memcpy(row.digest, &i, sizeof i);
        assert_int_equal(key_row_put(f->t, &row, &f->err), 0);
    }
}

static void the_rows_are_bounded_and_what_went_long_ago_makes_room(void **state)
{
    struct fixture *f = *state;
    uint8_t oldest[SHA256_BYTES];
    struct key_row row;

    memset(oldest, 7, sizeof oldest);
    memset(oldest, 0, sizeof(size_t));
    fill(f, KEYS_MAX, KEY_ADDED);
    assert_int_equal(add(f, "one-more", FIRST, false), ANSWER_LIMIT);
    fill(f, 1, KEY_WITHDRAWN);
    assert_int_equal(add(f, "one-more", FIRST, false), ANSWER_OK);
    assert_false(key_row_get(f->t, oldest, SLICE(FIRST), &row));
    assert_int_equal(withdraw(f, "one-more", NULL, false), ANSWER_OK);
    assert_int_equal(add(f, "another", FIRST, false), ANSWER_LIMIT); /* that one is too young */
}

static void a_row_that_cannot_be_read_shuts_its_key_out(void **state)
{
    struct fixture *f = *state;
    uint8_t digest[SHA256_BYTES];
    struct key k = {.len = 0};
    struct key_row row;

    digest_sha256(SLICE("key-one"), digest);
    key_bytes(&k, slice_of(digest, sizeof digest));
    key_bytes(&k, SLICE(FIRST));
    assert_int_equal(store_put(f->t, DB_KEYS, key_slice(&k), SLICE("?"), &f->err), 0);
    assert_true(key_row_get(f->t, digest, SLICE(FIRST), &row));
    assert_int_equal(row.state, KEY_WITHDRAWN);
    assert_string_equal(opens(f, "key-one", FIRST), "-");
}

int main(void)
{
#define WITH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        WITH(a_key_is_added_for_a_domain_or_for_all),
        WITH(what_is_stored_is_no_key),
        WITH(a_withdrawn_key_opens_nothing_though_it_stand_in_the_file),
        WITH(a_key_may_be_withdrawn_for_one_domain_and_open_the_others),
        WITH(the_last_key_of_a_domain_goes_only_by_force),
        WITH(digits_name_a_key_when_they_are_enough_and_no_other_begins_so),
        WITH(a_label_is_one_line),
        WITH(who_has_asked_stands_beside_it_and_what_the_key_was_for),
        WITH(the_rows_are_bounded_and_what_went_long_ago_makes_room),
        WITH(a_row_that_cannot_be_read_shuts_its_key_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
