/* A store that agrees with itself, and one that was tampered with in each way that matters. */
#include "store/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/pack.h"
#include "store/batch_write.h"
#include "store/internal.h"
#include "store/key.h"
#include "store/keys.h"
#include "store/totals.h"
#include "tests/unit/store/state_dir.h"

enum { COUNT = 60, BATCH = 7 };

struct fixture {
    char dir[64];
    struct store *store;
    struct store_txn *t;
    struct err err;
};

static void insert(struct fixture *f)
{
    struct recipient list[SLICE_MAX];
    struct buf head = {0}, slices = {0}, one = {0};
    uint8_t duplicate[COUNT] = {1}; /* the first */
    const struct message_head h = {.domain = SLICE("mg.example.com"),
                                   .message_id = SLICE("1@mg.example.com"),
                                   .from = SLICE("a@mg.example.com"),
                                   .recipient_count = COUNT};

    for (size_t i = 0; i < SLICE_MAX; i++)
        list[i] = (struct recipient){.address = SLICE("ann@readers.example.net")};
    message_head_pack(&head, &h);
    pack_array(&slices, slice_count_of(COUNT));
    for (uint32_t s = 0; s < slice_count_of(COUNT); s++) {
        buf_reset(&one);
        recipients_pack(&one, list, slice_len_of(COUNT, s));
        pack_bin(&slices, buf_slice(&one));
    }
    const struct new_batch b = {.id = BATCH,
                                .head = buf_slice(&head),
                                .content = SLICE("content"),
                                .slices = buf_slice(&slices),
                                .domain = h.domain,
                                .message_id = h.message_id,
                                .recipient_count = COUNT,
                                .duplicate = duplicate,
                                .due_wall_ms = 5};
    assert_int_equal(batch_insert(f->t, &b, &f->err), 1);
    buf_fini(&head);
    buf_fini(&slices);
    buf_fini(&one);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    (void)snprintf(f->dir, sizeof f->dir, "/tmp/postern-check-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->store = store_open(f->dir, STORE_WRITE, &f->err);
    assert_non_null(f->store);
    f->t = store_begin_write(f->store, &f->err);
    insert(f);
    assert_int_equal(totals_flush(f->t, &f->err), 0); /* as the commit does */
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

static void collect(void *arg, struct slice words)
{
    buf_add_slice(arg, words);
    buf_add_byte(arg, '\n');
}

/* What is wrong, by these words; NULL = nothing. */
static void expect(struct fixture *f, const char *words)
{
    struct buf said = {0};
    struct check c = {.problem = collect, .arg = &said};

    assert_int_equal(store_check(f->t, &c, &f->err), 0);
    assert_int_equal(c.batches, 1);
    assert_int_equal(c.recipients, COUNT);
    if (words == NULL)
        assert_int_equal(c.problems, 0);
    else if (strstr(buf_cstr(&said), words) == NULL)
        fail_msg("\"%s\" is not in: %s", words, buf_cstr(&said));
    buf_fini(&said);
}

static void set_state(struct fixture *f, uint32_t slice, uint32_t at, uint8_t state)
{
    uint8_t states[SLICE_MAX];
    uint32_t count;

    assert_true(states_get(f->t, BATCH, slice, states, &count));
    states[at] = state;
    assert_int_equal(states_put(f->t, BATCH, slice, states, count, &f->err), 0);
}

/* As the scheduler does. */
static void put_books(struct fixture *f, const struct books *books)
{
    struct books before;

    assert_true(batch_books(f->t, BATCH, &before));
    assert_int_equal(books_put(f->t, BATCH, books, &f->err), 0);
    assert_int_equal(totals_add_books(f->t, SLICE("mg.example.com"), 0, &before, books, &f->err),
                     0);
    assert_int_equal(totals_flush(f->t, &f->err), 0);
}

static void change_books(struct fixture *f, enum recipient_state from, enum recipient_state to,
                         uint32_t n)
{
    struct books books;

    assert_true(batch_books(f->t, BATCH, &books));
    books.state[from] -= n;
    books.state[to] += n;
    put_books(f, &books);
}

static void a_new_batch_agrees(void **state)
{
    expect(*state, NULL);
}

static void books_are_the_tally_of_the_states(void **state)
{
    struct fixture *f = *state;

    set_state(f, 1, 3, STATE_SENT);
    expect(f, "0 sent in its books, 1 by the states");
    change_books(f, STATE_PENDING, STATE_SENT, 1);
    expect(f, NULL);
    set_state(f, 1, 4, 99);
    expect(f, "no such state as 99");
}

static void what_was_promised_is_accounted_for(void **state)
{
    struct fixture *f = *state;
    struct books books;

    set_state(f, 0, 1, STATE_DUPLICATE);
    change_books(f, STATE_PENDING, STATE_DUPLICATE, 1);
    expect(f, "59 accepted, 58 accounted for");
    assert_true(batch_books(f->t, BATCH, &books));
    books.accepted--;
    put_books(f, &books);
    expect(f, NULL);
}

static void totals_are_what_the_books_say(void **state)
{
    struct fixture *f = *state;
    struct books books;

    assert_true(batch_books(f->t, BATCH, &books));
    set_state(f, 0, 1, STATE_SENT);
    books.state[STATE_PENDING]--;
    books.state[STATE_SENT]++;
    assert_int_equal(books_put(f->t, BATCH, &books, &f->err), 0); /* behind the totals' back */
    expect(f, "figure 1 of its totals is 59, the books of its batches say 58");
    const struct books before = {.state = {[STATE_PENDING] = 1}}, after = {.accepted = 0};
    assert_int_equal(totals_add_books(f->t, SLICE("mg.example.com"), 0, &before, &after, &f->err),
                     0);
    assert_int_equal(totals_flush(f->t, &f->err), 0);
    expect(f, "totals leave 1 recipients unaccounted for");
}

static void leases_and_states_agree(void **state)
{
    struct fixture *f = *state;
    struct lease_row row = {.sender = 0, .id = 1, .batch_id = BATCH, .slice = 1, .mask = 3};

    set_state(f, 1, 0, STATE_LEASED);
    set_state(f, 1, 1, STATE_LEASED);
    change_books(f, STATE_PENDING, STATE_LEASED, 2);
    expect(f, "slice 1: recipients leased that nobody has: 3");
    assert_int_equal(lease_put(f->t, &row, &f->err), 0);
    expect(f, NULL);
    row.id = 2; /* one of them again */
    row.mask = 2;
    assert_int_equal(lease_put(f->t, &row, &f->err), 0);
    expect(f, "slice 1: recipients leased twice: 2");
    set_state(f, 1, 1, STATE_SENT); /* a row may go on naming it */
    change_books(f, STATE_LEASED, STATE_SENT, 1);
    expect(f, NULL);
    set_state(f, 1, 1, STATE_DOUBT);
    change_books(f, STATE_SENT, STATE_DOUBT, 1);
    expect(f, "slice 1: recipients in doubt that nobody has: 2");
    row.sender = LEASE_DOUBT;
    assert_int_equal(lease_put(f->t, &row, &f->err), 0);
    expect(f, NULL);
    row.batch_id = 8;
    assert_int_equal(lease_put(f->t, &row, &f->err), 0);
    expect(f, "batch 0000000000000008: a lease or doubt of a batch that does not exist");
}

static void what_is_open_is_due_and_nothing_else(void **state)
{
    struct fixture *f = *state;

    assert_int_equal(due_del(f->t, 5, BATCH, &f->err), 0);
    expect(f, "open, but never due");
    assert_int_equal(due_put(f->t, 9, BATCH, 0, &f->err), 0);
    expect(f, NULL);
    assert_int_equal(due_put(f->t, 9, 8, 0, &f->err), 0);
    expect(f, "1 batches are due that do not exist");
    assert_int_equal(due_del(f->t, 9, 8, &f->err), 0);
    for (uint32_t i = 0; i < COUNT; i++)
        if (i > 0)
            set_state(f, i / SLICE_MAX, i % SLICE_MAX, STATE_SENT);
    change_books(f, STATE_PENDING, STATE_SENT, COUNT - 1);
    expect(f, "settled, but still due");
}

static void what_cannot_be_read_is_named(void **state)
{
    struct fixture *f = *state;
    struct key k = {.len = 0};

    key_u64(&k, BATCH);
    assert_int_equal(store_del(f->t, DB_CONTENTS, key_slice(&k), &f->err), 0);
    expect(f, "its content is missing");
    key_u32(&k, 1);
    assert_int_equal(store_put(f->t, DB_RECIPIENTS, key_slice(&k), SLICE("x"), &f->err), 0);
    expect(f, "slice 1: its recipients cannot be read");
    assert_int_equal(store_del(f->t, DB_STATES, key_slice(&k), &f->err), 0);
    expect(f, "slice 1: its states cannot be read");
}

static void a_key_that_cannot_be_read_is_named(void **state)
{
    struct fixture *f = *state;
    struct key_row row = {.domain = SLICE("mg.example.com"), .state = KEY_ADDED, .at = {1, 1}};
    struct key k = {.len = 0};

    assert_int_equal(key_row_put(f->t, &row, &f->err), 0);
    expect(f, NULL);
    key_bytes(&k, slice_of(row.digest, sizeof row.digest));
    assert_int_equal(store_put(f->t, DB_KEYS, key_slice(&k), SLICE("x"), &f->err), 0);
    expect(f, "a key of all domains cannot be read");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_new_batch_agrees),
        TEST(books_are_the_tally_of_the_states),
        TEST(what_was_promised_is_accounted_for),
        TEST(totals_are_what_the_books_say),
        TEST(leases_and_states_agree),
        TEST(what_is_open_is_due_and_nothing_else),
        TEST(what_cannot_be_read_is_named),
        TEST(a_key_that_cannot_be_read_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
