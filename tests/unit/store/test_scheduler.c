/*
 * The scheduler against a real store: recipients move through their states, the books balance after
 * every step, and what a dead sender had not begun goes back while what it had begun is in doubt.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "base/pack.h"
#include "mail/form.h"
#include "store/batch_write.h"
#include "store/events.h"
#include "store/scheduler.h"
#include "store/suppressions.h"

enum { RECIPIENTS = 120, SENDER_GAUGE = 1 };

struct world {
    char dir[64];
    struct config config;
    struct child me;
    struct child_slot slot;
    struct store *store;
    struct scheduler *scheduler;
    uint64_t last_id;
    struct buf claims; /* of the last batch */
};

static struct store_txn *begin(struct world *w)
{
    struct err err;
    struct store_txn *t = store_begin_write(w->store, &err);

    assert_non_null(t);
    return t;
}

static void commit(struct world *w, struct store_txn *t)
{
    struct err err;

    assert_int_equal(scheduler_flush(w->scheduler, t, &err), 0);
    assert_int_equal(store_commit(t, &err), 0);
}

static void reopen_scheduler(struct world *w)
{
    struct err err;
    struct store_txn *t = store_begin_read(w->store, &err);

    assert_non_null(t);
    scheduler_close(w->scheduler);
    w->scheduler = scheduler_open(&w->me, t, &err);
    assert_non_null(w->scheduler);
    store_end_read(t);
}

static int set_up(void **state)
{
    struct world *w = mem_zero(1, sizeof *w);
    struct err err;
    char path[128];
    bool believable;

    (void)snprintf(w->dir, sizeof w->dir, "/tmp/postern-test-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    (void)snprintf(path, sizeof path, "%s/started", w->dir);
    w->config.sender.doubt_window_ms = 0;
    w->config.sender.on_doubt = ON_DOUBT_RESEND;
    w->me = (struct child){
        .config = &w->config,
        .gauges = gauges_create(&err),
        .started = started_open(path, &believable, &err),
        .started_believable = true,
        .slots = &w->slot,
        .slot_count = 1,
        .ring_epoch = 77,
    };
    assert_non_null(w->me.gauges);
    assert_non_null(w->me.started);
    w->slot = (struct child_slot){.role = ROLE_SENDER, .index = 0, .gauge = SENDER_GAUGE};
    w->me.gauges->slots[SENDER_GAUGE].generation = 5;
    w->me.gauges->slots[SENDER_GAUGE].state = GAUGE_READY;
    w->store = store_open(w->dir, STORE_WRITE, &err);
    assert_non_null(w->store);
    reopen_scheduler(w);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    char command[128];

    scheduler_close(w->scheduler);
    store_close(w->store);
    started_close(w->me.started);
    gauges_destroy(w->me.gauges);
    buf_fini(&w->claims);
    (void)snprintf(command, sizeof command, "rm -rf %s", w->dir);
    assert_int_equal(system(command), 0);
    free(w);
    return 0;
}

struct options {
    bool testmode;
    uint64_t due_wall_ms;
    uint32_t lane;
    const char *domain;
};

static uint64_t add_batch(struct world *w, struct store_txn *t, uint32_t count, struct options o)
{
    struct recipient list[SLICE_MAX];
    char addresses[SLICE_MAX][40];
    struct buf head = {0}, slices = {0}, one = {0};
    uint8_t *duplicate = mem_zero(count, 1);
    struct slice domain = slice_str(o.domain != NULL ? o.domain : "mg.example.com");
    struct message_head h = {
        .domain = domain,
        .message_id = SLICE("20260101000000.0123456789abcdef@mg.example.com"),
        .email_id = SLICE("6b041b59ddb6680c07e77357"),
        .from = SLICE("a@mg.example.com"),
        .subject = SLICE("s"),
        .batch_mode = true,
        .testmode = o.testmode,
        .accepted_wall_us = clock_wall_us(),
        .recipient_count = count,
        .lane = o.lane,
    };
    struct err err;

    buf_reset(&w->claims);
    message_head_pack(&head, &h);
    pack_array(&slices, slice_count_of(count));
    for (uint32_t s = 0; s < slice_count_of(count); s++) {
        uint32_t len = slice_len_of(count, s);
        for (uint32_t i = 0; i < len; i++) {
            (void)snprintf(addresses[i], sizeof addresses[i], "r%u@readers.example.net",
                           s * SLICE_MAX + i);
            list[i] = (struct recipient){.address = slice_str(addresses[i])};
        }
        buf_reset(&one);
        recipients_pack(&one, list, len);
        pack_bin(&slices, buf_slice(&one));
        struct submission part = {.head = h, .recipients = list, .recipient_count = len};
        submission_claims(&part, &w->claims);
    }
    assert_int_equal(w->claims.len, (size_t)count * CLAIM_BYTES);
    struct new_batch b = {
        .id = ++w->last_id,
        .head = buf_slice(&head),
        .content = SLICE("content"),
        .slices = buf_slice(&slices),
        .domain = domain,
        .message_id = h.message_id,
        .recipient_count = count,
        .claims = buf_slice(&w->claims),
        .duplicate = duplicate,
        .due_wall_ms = o.due_wall_ms,
        .lane = o.lane,
    };
    assert_int_equal(batch_insert(t, &b, &err), 1);
    assert_int_equal(scheduler_add(w->scheduler, t, b.id, b.due_wall_ms, b.lane, &err), 0);
    free(duplicate);
    buf_fini(&head);
    buf_fini(&slices);
    buf_fini(&one);
    return b.id;
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

static void report(struct world *w, struct store_txn *t, const struct record_lease *lease,
                   uint64_t mask, enum outcome outcome, bool finished)
{
    struct buf results = {0};
    struct err err;

    pack_array(&results, (size_t)__builtin_popcountll(mask));
    for (uint32_t bit = 0; bit < 64; bit++) {
        if ((mask >> bit & 1) == 0)
            continue;
        pack_array(&results, 5);
        pack_u64(&results, bit);
        pack_u64(&results, (uint64_t)outcome);
        pack_u64(&results, outcome == OUTCOME_FAILED ? 554 : 0);
        pack_str(&results, SLICE("words"));
        pack_u64(&results, 0);
    }
    struct record_outcomes r = {
        .generation = lease->generation,
        .lease_id = lease->lease_id,
        .batch_id = lease->batch_id,
        .slice = lease->slice,
        .results = buf_slice(&results),
        .finished = finished,
    };
    assert_int_equal(scheduler_outcomes(w->scheduler, t, 0, &r, &err), 0);
    buf_fini(&results);
}

/* Reads the books, and checks that they balance against a count of the states themselves. */
static struct books books_of(struct world *w, uint64_t id)
{
    struct err err;
    struct store_txn *t = store_begin_read(w->store, &err);
    struct books books;
    uint32_t counted[STATE_COUNT] = {0}, sum = 0;

    assert_non_null(t);
    assert_true(batch_books(t, id, &books));
    for (uint32_t s = 0;; s++) {
        uint8_t states[SLICE_MAX];
        uint32_t count;
        if (!states_get(t, id, s, states, &count))
            break;
        for (uint32_t i = 0; i < count; i++)
            counted[states[i]]++;
    }
    store_end_read(t);
    for (int i = 0; i < STATE_COUNT; i++) {
        assert_int_equal(books.state[i], counted[i]);
        if (i != STATE_DUPLICATE)
            sum += books.state[i];
    }
    assert_int_equal(sum, books.accepted);
    return books;
}

static void a_batch_is_granted_whole_and_once(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;
    uint32_t granted = 0, leases = 0;
    uint64_t id = add_batch(w, t, RECIPIENTS, (struct options){.lane = LANE_NEWSLETTER});

    while (grant(w, t, &lease)) {
        granted += (uint32_t)__builtin_popcountll(lease.mask);
        assert_int_equal(lease.batch_id, id);
        assert_int_equal(lease.slice, leases++);
    }
    commit(w, t);
    assert_int_equal(leases, 3);
    assert_int_equal(granted, RECIPIENTS);
    assert_int_equal(books_of(w, id).state[STATE_LEASED], RECIPIENTS);
}

static void outcomes_settle_each_recipient(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;
    uint64_t id = add_batch(w, t, 10, (struct options){.lane = LANE_NEWSLETTER});
    uint64_t owner;

    assert_true(grant(w, t, &lease));
    report(w, t, &lease, 0x003, OUTCOME_SENT, false);
    report(w, t, &lease, 0x004, OUTCOME_FAILED, false);
    report(w, t, &lease, 0x3f8, OUTCOME_SENT, true);
    /* A claim is released for what ended before SES took it, and for nothing else. */
    assert_true(claim_get(t, w->claims.ptr, &owner));
    assert_false(claim_get(t, w->claims.ptr + 2 * CLAIM_BYTES, &owner));
    assert_false(grant(w, t, &lease));
    commit(w, t);

    struct books b = books_of(w, id);
    assert_int_equal(b.state[STATE_SENT], 9);
    assert_int_equal(b.state[STATE_FAILED], 1);
    assert_int_equal(b.failed_permanent, 1);
    reopen_scheduler(w); /* settled: no longer due */
    t = begin(w);
    assert_false(grant(w, t, &lease));
    store_abort(t);
}

static void a_retry_is_granted_again_and_only_it(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;

    (void)add_batch(w, t, 60, (struct options){.lane = LANE_NEWSLETTER});
    assert_true(grant(w, t, &lease));
    report(w, t, &lease, 0x10, OUTCOME_RETRY, false);
    report(w, t, &lease, lease.mask & ~UINT64_C(0x10), OUTCOME_SENT, true);
    assert_true(grant(w, t, &lease));
    assert_int_equal(lease.slice, 0);
    assert_int_equal(lease.mask, 0x10);
    assert_true(grant(w, t, &lease));
    assert_int_equal(lease.slice, 1);
    commit(w, t);
}

static void what_a_dead_sender_began_is_in_doubt_and_the_rest_is_pending(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;
    struct err err;
    uint64_t id = add_batch(w, t, 10, (struct options){.lane = LANE_NEWSLETTER});

    assert_true(grant(w, t, &lease));
    started_begin(w->me.started, 0, lease.cell, lease.lease_id);
    started_mark(w->me.started, 0, lease.cell, 0x7);
    report(w, t, &lease, 0x1, OUTCOME_SENT, false);
    commit(w, t);

    reopen_scheduler(w); /* the writer dies too */
    assert_false(scheduler_has_dead(w->scheduler, &w->slot));
    w->me.gauges->slots[SENDER_GAUGE].generation = 6;
    assert_true(scheduler_has_dead(w->scheduler, &w->slot));
    t = begin(w);
    assert_int_equal(scheduler_bury(w->scheduler, t, &w->slot, &err), 0);
    commit(w, t);

    struct books b = books_of(w, id);
    assert_int_equal(b.state[STATE_SENT], 1);
    assert_int_equal(b.state[STATE_DOUBT], 2);
    assert_int_equal(b.state[STATE_PENDING], 7);

    /* An event proves one of them; a report of the dead life still proves the other. */
    t = begin(w);
    assert_int_equal(scheduler_settle(w->scheduler, t, id, 1, &err), 0);
    report(w, t, &lease, 0x4, OUTCOME_SENT, true);
    report(w, t, &lease, 0x8, OUTCOME_FAILED, true); /* but it cannot fail anybody any more */
    commit(w, t);
    b = books_of(w, id);
    assert_int_equal(b.state[STATE_SENT], 3);
    assert_int_equal(b.state[STATE_DOUBT], 0);
    assert_int_equal(b.state[STATE_FAILED], 0);
}

static void marks_of_another_boot_prove_nothing(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;
    struct err err;
    uint64_t id = add_batch(w, t, 10, (struct options){.lane = LANE_NEWSLETTER});

    assert_true(grant(w, t, &lease));
    commit(w, t);
    w->me.ring_epoch = 78;
    w->me.started_believable = false;
    reopen_scheduler(w);
    t = begin(w);
    assert_int_equal(scheduler_bury(w->scheduler, t, &w->slot, &err), 0);
    commit(w, t);
    assert_int_equal(books_of(w, id).state[STATE_DOUBT], 10);
}

static void a_doubt_ends_with_its_window_but_only_while_pollers_listen(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct child_slot slots[2] = {w->slot, {.role = ROLE_POLLER, .gauge = 2}};
    struct record_lease lease;
    struct err err;
    uint64_t id = add_batch(w, t, 3, (struct options){.lane = LANE_NEWSLETTER});

    assert_true(grant(w, t, &lease));
    report(w, t, &lease, 0x1, OUTCOME_SENT, false);
    report(w, t, &lease, 0x6, OUTCOME_DOUBT, true);
    commit(w, t);
    assert_int_equal(books_of(w, id).state[STATE_DOUBT], 2);
    reopen_scheduler(w); /* doubts outlive the writer */
    assert_false(scheduler_doubt_is_due(w->scheduler));
    w->me.slots = slots;
    w->me.slot_count = 2;
    w->me.gauges->slots[2].generation = 9;
    w->me.gauges->slots[2].state = GAUGE_READY;
    w->me.gauges->slots[2].caught_up_wall_ms = clock_wall_ms() + 1000;
    assert_false(scheduler_doubt_is_due(w->scheduler)); /* a poller may just have died */
    usleep(7100 * 1000);                                /* the least visibility timeout, and 2 s */
    w->me.gauges->slots[2].caught_up_wall_ms = 1;
    assert_false(scheduler_doubt_is_due(w->scheduler)); /* it has not read that far */
    w->me.gauges->slots[2].caught_up_wall_ms = clock_wall_ms();
    assert_true(scheduler_doubt_is_due(w->scheduler));
    t = begin(w);
    assert_int_equal(scheduler_settle(w->scheduler, t, id, 1, &err), 0);
    assert_int_equal(scheduler_expire_doubts(w->scheduler, t, &err), 0);
    commit(w, t);
    struct books b = books_of(w, id);
    assert_int_equal(b.state[STATE_SENT], 2);
    assert_int_equal(b.state[STATE_PENDING], 1);
    t = begin(w);
    assert_true(grant(w, t, &lease));
    assert_int_equal(lease.mask, 0x4);
    store_abort(t);
}

static void suppressed_recipients_cost_no_lease(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;
    struct err err;
    struct suppression_entry entry = {.address = SLICE("R1@Readers.example.net"),
                                      .code = SLICE("550")};

    assert_int_equal(suppression_put(t, SLICE("mg.example.com"), SUPPRESS_BOUNCE, &entry, &err), 0);
    uint64_t id = add_batch(w, t, 3, (struct options){.lane = LANE_NEWSLETTER});
    assert_true(grant(w, t, &lease));
    assert_int_equal(lease.mask, 0x5);
    commit(w, t);
    struct books b = books_of(w, id);
    assert_int_equal(b.state[STATE_SUPPRESSED], 1);
    assert_int_equal(b.failed_permanent, 1);
}

static void test_mode_sends_nothing_and_says_delivered(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;
    uint64_t id = add_batch(w, t, 3, (struct options){.lane = LANE_NEWSLETTER, .testmode = true});

    assert_false(grant(w, t, &lease));
    commit(w, t);
    assert_int_equal(books_of(w, id).delivered, 3);
}

static void transactional_mail_overtakes_and_later_mail_waits(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;
    uint64_t newsletter = add_batch(w, t, 100, (struct options){.lane = LANE_NEWSLETTER});
    uint64_t link = add_batch(w, t, 1, (struct options){.lane = LANE_TRANSACTIONAL});

    (void)add_batch(
        w, t, 1,
        (struct options){.lane = LANE_TRANSACTIONAL, .due_wall_ms = clock_wall_ms() + 3600000});
    assert_true(grant(w, t, &lease));
    assert_int_equal(lease.batch_id, link);
    assert_true(grant(w, t, &lease));
    assert_int_equal(lease.batch_id, newsletter);
    assert_true(grant(w, t, &lease));
    assert_false(grant(w, t, &lease));
    commit(w, t);
}

static void domains_take_turns(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;
    uint64_t one =
        add_batch(w, t, 200, (struct options){.lane = LANE_NEWSLETTER, .domain = "one.example"});
    uint64_t two =
        add_batch(w, t, 100, (struct options){.lane = LANE_NEWSLETTER, .domain = "two.example"});
    uint64_t order[4];

    for (int i = 0; i < 4; i++) {
        assert_true(grant(w, t, &lease));
        order[i] = lease.batch_id;
    }
    commit(w, t);
    assert_int_equal(order[0], one);
    assert_int_equal(order[1], two);
    assert_int_equal(order[2], one);
    assert_int_equal(order[3], two);
}

static void accepted_events_are_written_once_in_steps(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct err err;
    struct buf items = {0};
    struct event_position first, last;
    uint32_t count = 0;

    (void)add_batch(w, t, RECIPIENTS, (struct options){.lane = LANE_NEWSLETTER});
    assert_int_equal(scheduler_expand(w->scheduler, t, 1, &err), 1);
    commit(w, t);
    reopen_scheduler(w);
    t = begin(w);
    assert_int_equal(scheduler_expand(w->scheduler, t, 100, &err), 0);
    commit(w, t);

    t = store_begin_read(w->store, &err);
    assert_non_null(t);
    struct event_query q = {.domain = SLICE("mg.example.com"),
                            .until_us = clock_wall_us() + 1000000,
                            .ascending = true,
                            .limit = 300};
    assert_int_equal(event_query_run(t, &q, (struct slice){0}, &items, &count, &first, &last, &err),
                     0);
    store_end_read(t);
    buf_fini(&items);
    assert_int_equal(count, RECIPIENTS);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_batch_is_granted_whole_and_once),
        TEST(outcomes_settle_each_recipient),
        TEST(a_retry_is_granted_again_and_only_it),
        TEST(what_a_dead_sender_began_is_in_doubt_and_the_rest_is_pending),
        TEST(marks_of_another_boot_prove_nothing),
        TEST(a_doubt_ends_with_its_window_but_only_while_pollers_listen),
        TEST(suppressed_recipients_cost_no_lease),
        TEST(test_mode_sends_nothing_and_says_delivered),
        TEST(transactional_mail_overtakes_and_later_mail_waits),
        TEST(domains_take_turns),
        TEST(accepted_events_are_written_once_in_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
