/*
 * Parts of the buffer queue against a real store: what is held goes, what is not does not; who may
 * have been served by another machine is in doubt, who was is not sent; and the books balance.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/buffer.h"
#include "store/parts.h"
#include "store/runs.h"
#include "tests/unit/store/part_message.h"

enum { LONG_MS = 3600000, LONG_AGO_MS = 11000 };

static int set_up(void **state)
{
    struct world *w = mem_zero(1, sizeof *w);

    world_open(w, LONG_MS);
    write_message(w);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    world_close(*state);
    message_free();
    free(*state);
    return 0;
}

static bool grant(struct world *w, struct store_txn *t, struct record_lease *lease)
{
    struct buf record = {0};
    struct err err;
    int got = scheduler_grant(w->scheduler, t, &w->slot, 5, &record, &err);

    assert_true(got >= 0);
    if (got == 1)
        assert_true(record_lease_decode(buf_slice(&record), lease));
    buf_fini(&record);
    return got == 1;
}

/* Grants all there is; how many recipients. */
static unsigned grant_all(struct world *w, uint64_t until_mono_ms)
{
    struct record_lease lease;
    struct store_txn *t = begin(w);
    unsigned n = 0;

    while (grant(w, t, &lease)) {
        n += (unsigned)__builtin_popcountll(lease.mask);
        assert_int_equal(lease.until_mono_ms, until_mono_ms);
    }
    commit(w, t);
    return n;
}

static void settle(struct world *w, uint64_t id, uint32_t from, uint32_t to)
{
    struct store_txn *t = begin(w);
    struct err err;

    for (uint32_t i = from; i < to; i++)
        assert_int_equal(scheduler_settle(w->scheduler, t, id, i, &err), 0);
    commit(w, t);
}

static void note(struct world *w, uint64_t id, uint32_t recipient, struct slice claim)
{
    struct store_txn *t = begin(w);
    struct err err;

    assert_int_equal(part_note_elsewhere(w->scheduler, t, id, recipient, claim, &err), 0);
    commit(w, t);
}

static struct slice claim_at(const struct world *w, uint32_t recipient)
{
    return slice_of(w->claims.ptr + (size_t)recipient * CLAIM_BYTES, CLAIM_BYTES);
}

static bool is_claimed(struct world *w, uint32_t recipient)
{
    struct err err;
    struct store_txn *t = store_begin_read(w->store, &err);
    uint64_t owner;
    bool claimed = claim_get(t, claim_at(w, recipient).ptr, &owner);

    store_end_read(t);
    return claimed;
}

static void what_is_held_goes_and_its_lease_says_until_when(void **state)
{
    struct world *w = *state;
    uint64_t until = clock_mono_ms() + LONG_MS;

    take(w, 9, 1, until);
    assert_int_equal(books_of(w, 9).accepted, RECIPIENTS);
    assert_int_equal(grant_all(w, until), RECIPIENTS);
}

static void what_is_not_held_waits(void **state)
{
    struct world *w = *state;
    uint64_t until = clock_mono_ms() + LONG_MS;

    take(w, 9, 1, clock_mono_ms());
    assert_int_equal(grant_all(w, 0), 0);
    struct store_txn *t = begin(w);
    part_hold(w->scheduler, t, &(struct record_held){9, until});
    commit(w, t);
    assert_int_equal(grant_all(w, until), RECIPIENTS);
}

/* The writer's successor is told of no hold until the poller says so. */
static void after_a_start_nothing_goes_before_the_hold_is_told_again(void **state)
{
    struct world *w = *state;
    uint64_t until = clock_mono_ms() + LONG_MS;

    take(w, 9, 1, until);
    reopen_scheduler(w);
    assert_int_equal(grant_all(w, 0), 0);
    struct store_txn *t = begin(w);
    part_hold(w->scheduler, t, &(struct record_held){9, until});
    commit(w, t);
    assert_int_equal(grant_all(w, until), RECIPIENTS);
}

static void what_another_machine_had_is_in_doubt_first(void **state)
{
    struct world *w = *state;
    uint64_t until = clock_mono_ms() + LONG_MS;

    take(w, 9, 2, until);
    assert_int_equal(books_of(w, 9).state[STATE_DOUBT], RECIPIENTS);
    assert_int_equal(grant_all(w, until), 0);
    settle(w, 9, 0, 60);
    assert_int_equal(books_of(w, 9).state[STATE_SENT], 60);
    assert_int_equal(books_of(w, 9).state[STATE_DOUBT], RECIPIENTS - 60);
}

static void our_own_message_again_is_in_no_doubt(void **state)
{
    struct world *w = *state;
    uint64_t until = clock_mono_ms() + LONG_MS;

    take(w, 9, 1, clock_mono_ms());
    take(w, 9, 1, clock_mono_ms()); /* the same record twice */
    take(w, 9, 2, until);
    assert_int_equal(grant_all(w, until), RECIPIENTS);
    /* Between the second and the fourth somebody else had it: but nothing is pending any more. */
    take(w, 9, 4, until);
    assert_int_equal(books_of(w, 9).state[STATE_DOUBT], 0);
    assert_int_equal(books_of(w, 9).state[STATE_LEASED], RECIPIENTS);
}

static void who_was_served_elsewhere_is_not_sent(void **state)
{
    struct world *w = *state;
    uint64_t until = clock_mono_ms() + LONG_MS;

    note(w, 9, 3, slice_none());       /* the same message, by index */
    note(w, 1234, 0, claim_at(w, 50)); /* another one, by claim */
    take(w, 9, 2, until);
    assert_int_equal(books_of(w, 9).accepted, RECIPIENTS - 2);
    assert_int_equal(books_of(w, 9).state[STATE_DUPLICATE], 2);
    assert_false(is_claimed(w, 3));
    assert_true(is_claimed(w, 4));
}

static void hand_on(struct world *w)
{
    struct store_txn *t = begin(w);
    struct err err;

    assert_true(parts_are_to_be_handed_on(w->scheduler));
    assert_int_equal(parts_hand_on(w->scheduler, t, &err), 0);
    commit(w, t);
    assert_false(parts_are_to_be_handed_on(w->scheduler));
}

/* What was not sent is another machine's; what comes back is ours again, but for whom it served. */
static void what_is_no_longer_held_is_handed_on_and_taken_back(void **state)
{
    struct world *w = *state;
    uint64_t now = clock_mono_ms();

    take(w, 9, 1, now);
    settle(w, 9, 0, 10);
    assert_false(parts_are_to_be_handed_on(w->scheduler));
    take(w, 9, 2, now > LONG_AGO_MS ? now - LONG_AGO_MS : 1);
    hand_on(w);
    struct books b = books_of(w, 9);
    assert_int_equal(b.accepted, 10);
    assert_int_equal(b.state[STATE_PENDING], 0);
    assert_int_equal(b.state[STATE_DUPLICATE], RECIPIENTS - 10);
    assert_false(is_claimed(w, 20));

    note(w, 9, 20, slice_none()); /* the other one has served it */
    settle(w, 9, 20, 21);         /* which is none of our books */
    take(w, 9, 4, now + LONG_MS);
    b = books_of(w, 9);
    assert_int_equal(b.accepted, RECIPIENTS - 1);
    assert_int_equal(b.state[STATE_DOUBT], RECIPIENTS - 11);
    assert_int_equal(b.state[STATE_DUPLICATE], 1);
}

/* A repeated POST, read when the first message is through. */
static void a_copy_sends_nothing_again(void **state)
{
    struct world *w = *state;
    uint64_t until = clock_mono_ms() + LONG_MS;

    take(w, 9, 1, until);
    settle(w, 9, 0, RECIPIENTS);
    take(w, 77, 1, until);
    assert_int_equal(books_of(w, 77).accepted, 0);
    assert_int_equal(grant_all(w, until), 0);
}

/* It was ours, another machine has served it, and the repeat comes to us: under an id of its own. */
static void a_copy_of_what_was_handed_on_and_served_sends_nothing_again(void **state)
{
    struct world *w = *state;
    uint64_t now = clock_mono_ms();

    take(w, 9, 1, now > LONG_AGO_MS ? now - LONG_AGO_MS : 1);
    hand_on(w);
    for (uint32_t i = 0; i < RECIPIENTS; i++)
        note(w, 9, i, slice_none()); /* as the writer does for a batch that is here */
    take(w, 77, 1, now + LONG_MS);
    assert_int_equal(books_of(w, 77).accepted, 0);
    assert_int_equal(grant_all(w, now + LONG_MS), 0);
}

static void another_batch_of_that_id_is_refused(void **state)
{
    struct world *w = *state;
    struct record_part r = message(w, 9, 1, clock_mono_ms());
    struct slice why;
    struct err err;

    take(w, 9, 1, clock_mono_ms());
    r.head.len--;
    r.receives = 2;
    struct store_txn *t = begin(w);
    assert_int_equal(part_take(w->scheduler, t, &r, &why, &err), 0);
    r = message(w, 10, 1, 0);
    r.claims.len--;
    assert_int_equal(part_take(w->scheduler, t, &r, &why, &err), 0);
    store_abort(t);
}

int main(void)
{
#define WITH_A_STORE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_A_STORE(what_is_held_goes_and_its_lease_says_until_when),
        WITH_A_STORE(what_is_not_held_waits),
        WITH_A_STORE(after_a_start_nothing_goes_before_the_hold_is_told_again),
        WITH_A_STORE(what_another_machine_had_is_in_doubt_first),
        WITH_A_STORE(our_own_message_again_is_in_no_doubt),
        WITH_A_STORE(who_was_served_elsewhere_is_not_sent),
        WITH_A_STORE(what_is_no_longer_held_is_handed_on_and_taken_back),
        WITH_A_STORE(a_copy_sends_nothing_again),
        WITH_A_STORE(a_copy_of_what_was_handed_on_and_served_sends_nothing_again),
        WITH_A_STORE(another_batch_of_that_id_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
