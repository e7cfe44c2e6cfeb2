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
#include "base/json.h"
#include "base/mem.h"
#include "base/pack.h"
#include "mail/form.h"
#include "store/batch_write.h"
#include "store/events.h"
#include "store/runs.h"
#include "store/scheduler.h"
#include "store/suppressions.h"
#include "tests/unit/store/world.h"

enum { RECIPIENTS = 120 };

static int set_up(void **state)
{
    struct world *w = mem_zero(1, sizeof *w);

    world_open(w, 0);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    world_close(*state);
    free(*state);
    return 0;
}

struct options {
    bool testmode;
    uint64_t due_wall_ms;
    uint32_t lane;
    const char *domain;
    const char *from;
    bool one_mail; /* to all of them: no batch mode */
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
        .from = slice_str(o.from != NULL ? o.from : "a@mg.example.com"),
        .subject = SLICE("s"),
        .batch_mode = !o.one_mail,
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

static void report_all(struct world *w, struct store_txn *t, const struct record_lease *lease,
                       uint64_t mask, enum outcome outcome, uint64_t code, struct slice text,
                       uint64_t retry_ms, bool finished)
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
        pack_u64(&results, code);
        pack_str(&results, text);
        pack_u64(&results, retry_ms);
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

static void report_after(struct world *w, struct store_txn *t, const struct record_lease *lease,
                         uint64_t mask, enum outcome outcome, bool finished, uint64_t retry_ms)
{
    report_all(w, t, lease, mask, outcome, outcome == OUTCOME_FAILED ? 554 : 0, SLICE("words"),
               retry_ms, finished);
}

static void report_held(struct world *w, struct store_txn *t, const struct record_lease *lease,
                        enum hold_reason reason)
{
    report_all(w, t, lease, lease->mask, OUTCOME_HELD, reason, SLICE("SES says no"), 0, true);
}

static void report(struct world *w, struct store_txn *t, const struct record_lease *lease,
                   uint64_t mask, enum outcome outcome, bool finished)
{
    report_after(w, t, lease, mask, outcome, finished, 0);
}

/* What a person asks; the words of the answer are checked where they matter. */
static enum answer_verdict control(struct world *w, struct store_txn *t, enum control_verb verb,
                                   uint64_t batch_id, const char *domain, uint32_t *count)
{
    struct record_control r = {
        .verb = verb, .batch_id = batch_id, .domain = slice_str(domain == NULL ? "" : domain)};
    enum answer_verdict verdict;
    struct buf words = {0};
    struct err err;

    assert_int_equal(scheduler_control(w->scheduler, t, &r, &verdict, count, &words, &err), 0);
    assert_true(words.len > 0);
    buf_fini(&words);
    return verdict;
}

static cJSON *status(struct world *w, struct store_txn *t)
{
    struct record_control r = {.verb = CONTROL_STATUS};
    enum answer_verdict verdict;
    struct buf words = {0};
    struct err err;
    uint32_t count;

    assert_int_equal(scheduler_control(w->scheduler, t, &r, &verdict, &count, &words, &err), 0);
    cJSON *tree = json_parse(buf_slice(&words));
    assert_non_null(tree);
    buf_fini(&words);
    return tree;
}

/* The reason of the first hold, or "". */
static void assert_held(struct world *w, struct store_txn *t, const char *domain,
                        const char *reason)
{
    cJSON *tree = status(w, t);
    const cJSON *hold = json_first(json_get(tree, "holds"));

    if (reason == NULL) {
        assert_null(hold);
    } else {
        assert_non_null(hold);
        assert_true(slice_eq(json_get_text(hold, "domain"), slice_str(domain)));
        assert_true(slice_eq(json_get_text(hold, "reason"), slice_str(reason)));
    }
    json_free(tree);
}

static void send_all(struct world *w, struct store_txn *t, uint32_t expected)
{
    struct record_lease lease;
    uint32_t sent = 0;

    while (grant(w, t, &lease)) {
        report(w, t, &lease, lease.mask, OUTCOME_SENT, true);
        sent += (uint32_t)__builtin_popcountll(lease.mask);
    }
    assert_int_equal(sent, expected);
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
    w->me.gauges->lives[SENDER_GAUGE].generation = 6;
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

static int count_doubt(void *arg, const struct lease_row *row)
{
    *(unsigned *)arg += row->sender == LEASE_DOUBT;
    return 0;
}

static void a_doubt_ends_with_its_window_but_only_while_pollers_listen(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct child_slot slots[2] = {w->slot, {.role = ROLE_POLLER, .gauge = 2}};
    struct record_lease lease;
    struct err err;
    unsigned doubts = 0;
    uint64_t other = add_batch(w, t, 1, (struct options){.lane = LANE_NEWSLETTER});

    assert_true(grant(w, t, &lease));
    report(w, t, &lease, 0x1, OUTCOME_DOUBT, true);
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
    w->me.gauges->lives[2].generation = 9;
    w->me.gauges->slots[2].state = GAUGE_READY;
    w->me.gauges->slots[2].heard_wall_ms = clock_wall_ms() + 1000;
    assert_false(scheduler_doubt_is_due(w->scheduler)); /* a poller may just have died */
    usleep(7100 * 1000);                                /* the least visibility timeout, and 2 s */
    w->me.gauges->slots[2].heard_wall_ms = 1;
    assert_false(scheduler_doubt_is_due(w->scheduler)); /* it has not read that far */
    w->me.gauges->slots[2].heard_wall_ms = clock_wall_ms() - 2000;
    /* Farther than the doubts, but not up to what a dead one may have put back into the queue. */
    assert_false(scheduler_doubt_is_due(w->scheduler));
    w->me.gauges->slots[2].heard_wall_ms = clock_wall_ms() + 1000;
    assert_true(scheduler_doubt_is_due(w->scheduler));

    w->config.sender.on_doubt = ON_DOUBT_HOLD; /* keeps a doubt, but not one that is settled */
    w->config.sender.doubt_window_ms = 5000;
    t = begin(w);
    assert_int_equal(scheduler_settle(w->scheduler, t, other, 0, &err), 0);
    assert_int_equal(scheduler_expire_doubts(w->scheduler, t, &err), 0);
    assert_int_equal(lease_each(t, count_doubt, &doubts), 0);
    assert_int_equal(doubts, 1);
    commit(w, t);
    assert_int_equal(books_of(w, id).state[STATE_DOUBT], 2);
    assert_false(scheduler_doubt_is_due(w->scheduler)); /* not with every turn */

    w->config.sender.on_doubt = ON_DOUBT_RESEND;
    w->me.gauges->slots[2].heard_wall_ms = clock_wall_ms() + 10000;
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

static void accepted_events_are_written_once_a_batch_at_a_time(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct err err;
    struct event_page page = {0};

    (void)add_batch(w, t, RECIPIENTS, (struct options){.lane = LANE_NEWSLETTER});
    (void)add_batch(w, t, 1, (struct options){.lane = LANE_TRANSACTIONAL});
    assert_int_equal(scheduler_expand(w->scheduler, t, 1, &err), 1);
    commit(w, t);
    reopen_scheduler(w);
    t = begin(w);
    assert_int_equal(scheduler_expand(w->scheduler, t, 100, &err), 0);
    commit(w, t);

    t = store_begin_read(w->store, &err);
    assert_non_null(t);
    const struct slice domain = SLICE("mg.example.com");
    struct event_query q = {.domains = &domain,
                            .domain_count = 1,
                            .until_us = clock_wall_us() + 1000000,
                            .ascending = true,
                            .limit = 300};
    assert_int_equal(event_query_run(t, &q, &page, &err), 0);
    store_end_read(t);
    assert_int_equal(page.count, RECIPIENTS + 1);
    event_page_fini(&page);
}

static void recipients_that_wait_hold_up_nobody_else(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;

    uint64_t id = add_batch(w, t, 120, (struct options){.lane = LANE_NEWSLETTER});
    assert_true(grant(w, t, &lease));
    assert_int_equal(lease.slice, 0);
    report_after(w, t, &lease, 0x7, OUTCOME_RETRY, false, 300);
    report_after(w, t, &lease, lease.mask & ~UINT64_C(0x7), OUTCOME_RETRY, true, 0);
    send_all(w, t, 117);
    commit(w, t);
    assert_int_equal(books_of(w, id).state[STATE_PENDING], 3);
    usleep(310 * 1000);
    t = begin(w);
    assert_true(grant(w, t, &lease));
    assert_int_equal(lease.mask, 0x7);
    report(w, t, &lease, lease.mask, OUTCOME_SENT, true);
    commit(w, t);
}

static void newsletters_in_hand_are_bounded_and_links_go_past_them(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;
    unsigned leases = 0;

    w->me.gauges->bucket.per_s_milli = 14000;
    (void)add_batch(w, t, 1000, (struct options){.lane = LANE_NEWSLETTER});
    while (grant(w, t, &lease))
        leases++;
    assert_int_equal(leases, 2);
    uint64_t link = add_batch(w, t, 1, (struct options){.lane = LANE_TRANSACTIONAL});
    assert_true(grant(w, t, &lease));
    assert_int_equal(lease.batch_id, link);
    assert_int_equal(lease.lane, LANE_TRANSACTIONAL);
    commit(w, t);
    reopen_scheduler(w); /* the lanes of leases are known after a restart too */
    t = begin(w);
    assert_int_equal(scheduler_lane(w->scheduler, t, link), LANE_TRANSACTIONAL);
    (void)add_batch(w, t, 1, (struct options){.lane = LANE_TRANSACTIONAL});
    assert_true(grant(w, t, &lease));
    assert_false(grant(w, t, &lease));
    commit(w, t);
}

static void a_paused_batch_waits_until_it_is_resumed(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;
    uint32_t count;
    uint64_t id = add_batch(w, t, 120, (struct options){.lane = LANE_NEWSLETTER});
    uint64_t other = add_batch(w, t, 1, (struct options){.lane = LANE_NEWSLETTER});

    assert_true(grant(w, t, &lease));
    assert_int_equal(control(w, t, CONTROL_PAUSE, id, NULL, &count), ANSWER_OK);
    assert_int_equal(count, 70);
    report(w, t, &lease, lease.mask, OUTCOME_SENT, true);
    send_all(w, t, 1);
    commit(w, t);
    assert_int_equal(books_of(w, other).state[STATE_SENT], 1);
    reopen_scheduler(w);
    t = begin(w);
    assert_false(grant(w, t, &lease));
    assert_int_equal(control(w, t, CONTROL_RESUME, id, NULL, &count), ANSWER_OK);
    assert_int_equal(control(w, t, CONTROL_RESUME, id, NULL, &count), ANSWER_REFUSED);
    send_all(w, t, 70);
    commit(w, t);
    assert_int_equal(books_of(w, id).state[STATE_SENT], 120);
    t = begin(w);
    assert_int_equal(control(w, t, CONTROL_PAUSE, id, NULL, &count), ANSWER_REFUSED);
    assert_int_equal(control(w, t, CONTROL_PAUSE, 4711, NULL, &count), ANSWER_NOT_FOUND);
    store_abort(t);
}

static void what_is_cancelled_is_never_sent(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;
    struct err err;
    uint32_t count;
    uint64_t owner, id = add_batch(w, t, 120, (struct options){.lane = LANE_NEWSLETTER});

    assert_true(grant(w, t, &lease));
    started_begin(w->me.started, 0, lease.cell, lease.lease_id);
    started_mark(w->me.started, 0, lease.cell, 0x7);
    report(w, t, &lease, 0x1, OUTCOME_SENT, false);
    assert_int_equal(control(w, t, CONTROL_CANCEL, id, NULL, &count), ANSWER_OK);
    assert_int_equal(count, 70);
    assert_true(claim_get(t, w->claims.ptr, &owner)); /* sent: kept */
    assert_false(claim_get(t, w->claims.ptr + 100 * CLAIM_BYTES, &owner));
    report(w, t, &lease, 0x8, OUTCOME_RETRY, false);
    assert_false(claim_get(t, w->claims.ptr + 3 * CLAIM_BYTES, &owner));
    commit(w, t);
    reopen_scheduler(w); /* and it stays so */
    w->me.gauges->lives[SENDER_GAUGE].generation = 6;
    t = begin(w);
    assert_int_equal(scheduler_bury(w->scheduler, t, &w->slot, &err), 0);
    assert_false(grant(w, t, &lease));
    commit(w, t);
    struct books b = books_of(w, id);
    assert_int_equal(b.state[STATE_SENT], 1);
    assert_int_equal(b.state[STATE_DOUBT], 2); /* started by the dead sender: an event may tell */
    assert_int_equal(b.state[STATE_CANCELLED], 117);
}

static void only_what_failed_is_sent_again(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;
    uint32_t count;
    uint64_t owner, id = add_batch(w, t, 10, (struct options){.lane = LANE_NEWSLETTER});
    const uint8_t *claims = w->claims.ptr;
    struct err err;

    assert_true(grant(w, t, &lease));
    report(w, t, &lease, 0x00f, OUTCOME_FAILED, false);
    report(w, t, &lease, 0x3f0, OUTCOME_SENT, true);
    commit(w, t);
    reopen_scheduler(w);
    t = begin(w);
    /* One of them was sent by a repeated POST meanwhile. */
    assert_int_equal(claim_put(t, claims, 4711, &err), 0);
    assert_int_equal(control(w, t, CONTROL_RESEND, id, NULL, &count), ANSWER_OK);
    assert_int_equal(count, 3);
    assert_true(claim_get(t, claims + CLAIM_BYTES, &owner));
    assert_int_equal(owner, id);
    commit(w, t);
    reopen_scheduler(w);
    t = begin(w);
    assert_true(grant(w, t, &lease));
    assert_int_equal(lease.mask, 0x00e);
    report(w, t, &lease, lease.mask, OUTCOME_SENT, true);
    assert_int_equal(control(w, t, CONTROL_RESEND, id, NULL, &count), ANSWER_OK);
    assert_int_equal(count, 0);
    commit(w, t);
    struct books b = books_of(w, id);
    assert_int_equal(b.state[STATE_SENT], 9);
    assert_int_equal(b.state[STATE_FAILED], 1);
}

static void a_paused_domain_keeps_its_links_and_blocks_nobody(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;
    uint32_t count;

    (void)add_batch(w, t, 60, (struct options){.lane = LANE_NEWSLETTER});
    (void)add_batch(w, t, 1, (struct options){.lane = LANE_TRANSACTIONAL});
    (void)add_batch(w, t, 20, (struct options){.lane = LANE_NEWSLETTER, .domain = "two.example"});
    assert_int_equal(control(w, t, CONTROL_PAUSE, 0, "MG.example.com", &count), ANSWER_OK);
    assert_int_equal(count, 60);
    assert_int_equal(control(w, t, CONTROL_PAUSE, 0, "nobody.example", &count), ANSWER_NOT_FOUND);
    send_all(w, t, 21);
    assert_held(w, t, "mg.example.com", "paused");
    commit(w, t);
    reopen_scheduler(w);
    t = begin(w);
    assert_false(grant(w, t, &lease));
    assert_int_equal(control(w, t, CONTROL_RESUME, 0, "mg.example.com", &count), ANSWER_OK);
    assert_held(w, t, "", NULL);
    send_all(w, t, 60);
    commit(w, t);
}

enum { SHORT_HOLD_MS = 60 };

/* Lets the time of a short hold pass. */
static void wait_out(const struct world *w)
{
    usleep((useconds_t)(w->config.sender.hold_ms + 5) * 1000);
}

static void a_from_that_ses_refuses_holds_only_its_own_mail(void **state)
{
    for (uint32_t lane = LANE_TRANSACTIONAL; lane <= LANE_NEWSLETTER; lane++) {
        struct world *w = *state;
        struct store_txn *t = begin(w);
        struct record_lease first, second, lease;
        struct options bad = {.lane = lane, .from = "Bad <bad@mg.example.com>"},
                       alike = {.lane = lane, .from = "\"Other name\" <bad@MG.example.com>"},
                       good = {.lane = lane, .from = "Good <good@mg.example.com>"};

        uint64_t refused = add_batch(w, t, 120, bad);
        assert_true(grant(w, t, &first) && grant(w, t, &second));
        assert_int_equal(first.batch_id, refused);
        report_held(w, t, &first, HOLD_SENDER);
        report_held(w, t, &second, HOLD_SENDER);
        assert_held(w, t, "mg.example.com", "sender");
        (void)add_batch(w, t, 5, alike);
        (void)add_batch(w, t, 110, good);
        (void)add_batch(w, t, 7, (struct options){.lane = lane, .domain = "two.example"});
        (void)add_batch(w, t, 3,
                        (struct options){.lane = LANE_NEWSLETTER - lane, .from = bad.from});
        send_all(w, t, 120);
        /* Passed over once, they are out of every later grant's way. */
        assert_int_equal(w->scheduler->holds.count, 1);
        assert_int_equal(w->scheduler->holds.list[0]->parked.count, 2);

        cJSON *tree = status(w, t);
        const cJSON *hold = json_first(json_get(tree, "holds"));
        assert_true(slice_eq(json_get_text(hold, "from"), SLICE("bad@mg.example.com")));
        assert_true(slice_eq(json_get_text(hold, "words"), SLICE("SES says no")));
        const cJSON *batch = json_first(json_get(tree, "batches"));
        assert_true(slice_eq(json_get_text(batch, "why"), SLICE("sender")));
        assert_true(slice_eq(json_get_text(batch, "from"), SLICE("bad@mg.example.com")));
        json_free(tree);
        uint32_t count;
        assert_int_equal(control(w, t, CONTROL_CANCEL, refused, NULL, &count), ANSWER_OK);
        assert_int_equal(control(w, t, CONTROL_RESUME, 0, "mg.example.com", &count), ANSWER_OK);
        assert_true(grant(w, t, &lease)); /* asks SES again */
        report(w, t, &lease, lease.mask, OUTCOME_SENT, true);
        send_all(w, t, 4);
        commit(w, t);
    }
}

static void one_lease_asks_after_a_hold_while_others_flow_on(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease, probe;
    struct options bad = {.lane = LANE_NEWSLETTER, .from = "bad@mg.example.com"},
                   good = {.lane = LANE_NEWSLETTER, .from = "good@mg.example.com"};

    w->config.sender.hold_ms = SHORT_HOLD_MS;
    (void)add_batch(w, t, 60, bad);
    assert_true(grant(w, t, &lease));
    report_held(w, t, &lease, HOLD_SENDER);
    for (int round = 0; round < 2; round++) {
        assert_false(grant(w, t, &probe));
        wait_out(w);
        assert_true(grant(w, t, &probe));
        assert_int_equal(__builtin_popcountll(probe.mask), 1);
        (void)add_batch(w, t, 10, good);
        send_all(w, t, 10);
        report_held(w, t, &probe, HOLD_SENDER);
    }
    wait_out(w);
    assert_true(grant(w, t, &probe));
    assert_false(grant(w, t, &lease));
    report(w, t, &probe, probe.mask, OUTCOME_SENT, true);
    assert_held(w, t, "", NULL);
    send_all(w, t, 59);
    commit(w, t);
}

static void one_mail_to_several_asks_uncut(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;

    w->config.sender.hold_ms = SHORT_HOLD_MS;
    (void)add_batch(w, t, 4, (struct options){.lane = LANE_TRANSACTIONAL, .one_mail = true});
    assert_true(grant(w, t, &lease));
    report_held(w, t, &lease, HOLD_SENDER);
    wait_out(w);
    assert_true(grant(w, t, &lease));
    assert_int_equal(__builtin_popcountll(lease.mask), 4);
    commit(w, t);
}

/* Its sender dies, or it was a copy, or SES said something else: the next lease asks. */
static void a_lease_that_told_nothing_makes_room_for_the_next(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease, more;
    struct err err;

    w->config.sender.hold_ms = SHORT_HOLD_MS;
    (void)add_batch(w, t, 10, (struct options){.lane = LANE_NEWSLETTER});
    assert_true(grant(w, t, &lease));
    report_held(w, t, &lease, HOLD_SENDER);
    wait_out(w);
    assert_true(grant(w, t, &lease));
    report(w, t, &lease, lease.mask, OUTCOME_RETRY, true);
    assert_true(grant(w, t, &lease));
    report_all(w, t, &lease, lease.mask, OUTCOME_SENT, 0, slice_none(), 0, true);
    assert_true(grant(w, t, &lease));
    assert_int_equal(__builtin_popcountll(lease.mask), 1);
    assert_false(grant(w, t, &more));
    commit(w, t);
    w->me.gauges->slots[SENDER_GAUGE].state = GAUGE_DOWN;
    t = begin(w);
    assert_int_equal(scheduler_bury(w->scheduler, t, &w->slot, &err), 0);
    w->me.gauges->slots[SENDER_GAUGE].state = GAUGE_READY;
    assert_true(grant(w, t, &lease));
    report(w, t, &lease, lease.mask, OUTCOME_SENT, true);
    send_all(w, t, 8);
    commit(w, t);
}

static void answers_to_older_leases_say_nothing_new_of_a_hold(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease a, b, c, probe, lease;

    w->config.sender.hold_ms = SHORT_HOLD_MS;
    (void)add_batch(w, t, 200, (struct options){.lane = LANE_NEWSLETTER});
    assert_true(grant(w, t, &a) && grant(w, t, &b) && grant(w, t, &c));
    report_held(w, t, &a, HOLD_SENDER);
    wait_out(w);
    report_held(w, t, &b, HOLD_SENDER); /* a late answer does not prolong it */
    assert_true(grant(w, t, &probe));
    report(w, t, &c, c.mask, OUTCOME_SENT, true); /* nor end it */
    assert_false(grant(w, t, &lease));
    report(w, t, &probe, probe.mask, OUTCOME_SENT, true);
    send_all(w, t, 149);
    commit(w, t);
}

static void quota_and_account_hold_all_and_a_set_its_lane(void **state)
{
    static const struct {
        enum hold_reason reason;
        const char *domain, *name;
        uint32_t go_on; /* of 10 of another From, 20 of the other lane, 30 of another domain */
    } cases[] = {
        {HOLD_QUOTA, "", "quota", 0},
        {HOLD_ACCOUNT, "", "account", 0},
        {HOLD_CONFIGURATION_SET, "mg.example.com", "configuration-set", 50},
        {HOLD_SENDER, "mg.example.com", "sender", 60},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct world *w = *state;
        struct store_txn *t = begin(w);
        struct record_lease lease, probe;
        struct options other_from = {.lane = LANE_NEWSLETTER, .from = "o@mg.example.com"},
                       other_lane = {.lane = LANE_TRANSACTIONAL},
                       other_domain = {.lane = LANE_NEWSLETTER, .domain = "two.example"};
        w->config.sender.hold_ms = SHORT_HOLD_MS;
        (void)add_batch(w, t, 5, (struct options){.lane = LANE_NEWSLETTER});
        assert_true(grant(w, t, &lease));
        report_held(w, t, &lease, cases[i].reason);
        assert_held(w, t, cases[i].domain, cases[i].name);
        (void)add_batch(w, t, 10, other_from);
        (void)add_batch(w, t, 20, other_lane);
        (void)add_batch(w, t, 30, other_domain);
        send_all(w, t, cases[i].go_on);
        wait_out(w);
        assert_true(grant(w, t, &probe));
        assert_int_equal(__builtin_popcountll(probe.mask), 1);
        assert_false(grant(w, t, &lease));
        report(w, t, &probe, probe.mask, OUTCOME_SENT, true);
        assert_held(w, t, "", NULL);
        send_all(w, t, 64 - cases[i].go_on);
        commit(w, t);
    }
}

/* The account is held, and the first in line has a trouble of its own. */
static void a_probe_that_is_refused_for_itself_lets_the_next_ask(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;

    w->config.sender.hold_ms = SHORT_HOLD_MS;
    (void)add_batch(w, t, 5, (struct options){.lane = LANE_NEWSLETTER});
    (void)add_batch(w, t, 10,
                    (struct options){.lane = LANE_NEWSLETTER, .from = "o@mg.example.com"});
    assert_true(grant(w, t, &lease));
    report_held(w, t, &lease, HOLD_ACCOUNT);
    wait_out(w);
    w->config.sender.hold_ms = 60000;
    assert_true(grant(w, t, &lease));
    report_held(w, t, &lease, HOLD_SENDER);
    assert_true(grant(w, t, &lease));
    assert_int_equal(__builtin_popcountll(lease.mask), 1);
    report(w, t, &lease, lease.mask, OUTCOME_SENT, true);
    send_all(w, t, 9);
    commit(w, t);
}

static void resume(struct world *w, struct store_txn *t, bool by_batch, uint64_t id)
{
    uint32_t count;

    assert_int_equal(by_batch ? control(w, t, CONTROL_RESEND, id, NULL, &count)
                              : control(w, t, CONTROL_RESUME, 0, "mg.example.com", &count),
                     ANSWER_OK);
}

/* Whoever has mended it does not wait for the hold's end, whatever older calls still meet. */
static void a_person_who_resumes_waits_for_nothing(void **state)
{
    for (int by_batch = 0; by_batch < 2; by_batch++) {
        struct world *w = *state;
        struct store_txn *t = begin(w);
        struct record_lease a, b, probe;
        uint32_t count;

        uint64_t id = add_batch(w, t, 150, (struct options){.lane = LANE_NEWSLETTER});
        assert_true(grant(w, t, &a) && grant(w, t, &b));
        report_held(w, t, &a, HOLD_SENDER);
        assert_false(grant(w, t, &probe));
        resume(w, t, by_batch, id);
        assert_true(grant(w, t, &probe));
        report_held(w, t, &b, HOLD_SENDER);
        report(w, t, &probe, probe.mask, OUTCOME_SENT, true);
        send_all(w, t, 149);

        id = add_batch(w, t, 60, (struct options){.lane = LANE_NEWSLETTER});
        assert_true(grant(w, t, &a) && grant(w, t, &b));
        report_after(w, t, &a, a.mask, OUTCOME_RETRY, true, 60000);
        report_after(w, t, &b, b.mask, OUTCOME_RETRY, true, 60000);
        assert_false(grant(w, t, &probe));
        resume(w, t, by_batch, id);
        send_all(w, t, 60);
        assert_int_equal(control(w, t, CONTROL_RESUME, 0, "mg.example.com", &count),
                         ANSWER_REFUSED); /* nothing is held */
        commit(w, t);
    }
}

static void too_many_bounces_hold_a_domains_newsletters(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    const struct slice domain = SLICE("mg.example.com");
    struct err err;
    uint32_t count;

    w->config.guard.bounce_warn_ppm = 50000;
    w->config.guard.bounce_pause_ppm = 100000;
    w->config.guard.complaint_pause_ppm = 20000;
    w->config.guard.least = 100;
    w->config.guard.window_ms = DAY_MS;
    (void)add_batch(w, t, 100, (struct options){.lane = LANE_NEWSLETTER});
    send_all(w, t, 100);
    (void)add_batch(w, t, 7, (struct options){.lane = LANE_NEWSLETTER});
    (void)add_batch(w, t, 1, (struct options){.lane = LANE_TRANSACTIONAL});
    for (int i = 0; i < 30; i++)
        assert_int_equal(scheduler_feedback(w->scheduler, t, domain,
                                            SLICE("bounce@simulator.amazonses.com"),
                                            REPUTATION_BOUNCED, &err),
                         0);
    for (int i = 0; i < 9; i++)
        assert_int_equal(scheduler_feedback(w->scheduler, t, domain, SLICE("a@b.example"),
                                            REPUTATION_BOUNCED, &err),
                         0);
    assert_held(w, t, "", NULL);
    assert_int_equal(
        scheduler_feedback(w->scheduler, t, domain, SLICE("a@b.example"), REPUTATION_BOUNCED, &err),
        0);
    assert_held(w, t, "mg.example.com", "bounces");
    send_all(w, t, 1);
    commit(w, t);
    reopen_scheduler(w);
    t = begin(w);
    assert_held(w, t, "mg.example.com", "bounces");
    send_all(w, t, 0);
    /* A person takes the risk: what was is forgiven. */
    assert_int_equal(control(w, t, CONTROL_RESUME, 0, "mg.example.com", &count), ANSWER_OK);
    assert_int_equal(scheduler_feedback(w->scheduler, t, domain, SLICE("a@b.example"),
                                        REPUTATION_COMPLAINED, &err),
                     0);
    send_all(w, t, 7);
    commit(w, t);
}

static void a_domain_warms_up_day_by_day(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;

    w->domains[0].warmup_first_day = 70;
    w->domains[0].warmup_growth_ppm = 500000;
    (void)add_batch(w, t, 200, (struct options){.lane = LANE_NEWSLETTER});
    (void)add_batch(w, t, 1, (struct options){.lane = LANE_TRANSACTIONAL});
    assert_true(grant(w, t, &lease)); /* the link: no newsletter */
    report(w, t, &lease, lease.mask, OUTCOME_SENT, true);
    assert_true(grant(w, t, &lease));
    assert_int_equal(__builtin_popcountll(lease.mask), 50);
    struct record_lease second;
    assert_true(grant(w, t, &second)); /* what is on its way counts */
    assert_int_equal(__builtin_popcountll(second.mask), 19);
    assert_false(grant(w, t, &second));
    report(w, t, &lease, lease.mask, OUTCOME_RETRY, true);
    commit(w, t);
    t = begin(w);
    assert_true(grant(w, t, &lease));
    report(w, t, &lease, lease.mask, OUTCOME_SENT, true);
    report(w, t, &second, second.mask, OUTCOME_SENT, true);
    assert_held(w, t, "mg.example.com", "warm-up");
    commit(w, t);
    reopen_scheduler(w);
    t = begin(w);
    assert_held(w, t, "mg.example.com", "warm-up");
    assert_false(grant(w, t, &lease));
    store_abort(t);
}

static void status_tells_what_is_open(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;
    uint64_t id = add_batch(w, t, 120, (struct options){.lane = LANE_NEWSLETTER});
    char text[20];
    int64_t open;

    assert_true(grant(w, t, &lease));
    report(w, t, &lease, lease.mask, OUTCOME_SENT, true);
    cJSON *tree = status(w, t);
    const cJSON *batch = json_first(json_get(tree, "batches"));
    (void)snprintf(text, sizeof text, "%016llx", (unsigned long long)id);
    assert_true(slice_eq(json_get_text(batch, "batch"), slice_str(text)));
    assert_true(json_get_i64(batch, "open", &open));
    assert_int_equal(open, 70);
    assert_true(json_get_i64(batch, "eta_ms", &open));
    assert_true(open > (int64_t)clock_wall_ms() - 1000);
    const cJSON *processes = json_get(tree, "processes");
    assert_int_equal(cJSON_GetArraySize(processes), 2);
    json_free(tree);
    store_abort(t);
}

/* Given back by one sender, under way at another: the first one's death says nothing of them, also
 * to a new writer. */
static void what_a_lease_gave_back_is_not_its_own_after_a_restart(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease first, second, third;
    struct buf record = {0};
    struct err err;
    const uint64_t flying = 0x1f, given_back = 0x3e0;
    struct child_slot slots[] = {w->slot, {.role = ROLE_SENDER, .index = 1, .gauge = 2}};
    uint64_t id = add_batch(w, t, 10, (struct options){.lane = LANE_NEWSLETTER});

    w->me.slots = slots;
    w->me.slot_count = 2;
    w->me.gauges->lives[2].generation = 9;
    w->me.gauges->slots[2].state = GAUGE_READY;
    assert_true(grant(w, t, &first));
    started_begin(w->me.started, 0, first.cell, first.lease_id);
    started_mark(w->me.started, 0, first.cell, flying);
    report(w, t, &first, given_back, OUTCOME_RETRY, false);
    assert_int_equal(scheduler_grant(w->scheduler, t, &slots[1], 9, &record, &err), 1);
    assert_true(record_lease_decode(buf_slice(&record), &second));
    assert_int_equal(second.mask, given_back);
    started_begin(w->me.started, 1, second.cell, second.lease_id);
    started_mark(w->me.started, 1, second.cell, given_back);
    buf_fini(&record);
    commit(w, t);

    reopen_scheduler(w);
    w->me.gauges->lives[SENDER_GAUGE].generation = 6; /* the first sender has died too */
    t = begin(w);
    assert_int_equal(scheduler_bury(w->scheduler, t, &slots[0], &err), 0);
    assert_false(grant(w, t, &third));
    commit(w, t);
    struct books b = books_of(w, id);
    assert_int_equal(b.state[STATE_PENDING], 0);
    assert_int_equal(b.state[STATE_LEASED], 5);
    assert_int_equal(b.state[STATE_DOUBT], 5);
    w->me.slots = &w->slot;
    w->me.slot_count = 1;
}

static void a_flood_of_single_mails_leaves_room_for_another_domain(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease, mine = {0};
    unsigned granted = 0;

    w->me.gauges->bucket.per_s_milli = 14000;
    for (int i = 0; i < 60; i++)
        (void)add_batch(w, t, 1, (struct options){.lane = LANE_TRANSACTIONAL});
    for (; grant(w, t, &lease); granted++)
        mine = lease;
    assert_int_equal(granted, 20); /* in recipients: more than a second of the rate */
    uint64_t other = add_batch(
        w, t, 1, (struct options){.lane = LANE_TRANSACTIONAL, .domain = "other.example.com"});
    report(w, t, &mine, 1, OUTCOME_SENT, true);
    assert_true(grant(w, t, &lease)); /* the next that goes is the other's */
    assert_int_equal(lease.batch_id, other);
    commit(w, t);
}

static void domains_share_by_recipients_not_by_leases(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease;
    unsigned singles = 0, slices = 0;

    uint64_t whole = add_batch(w, t, 500, (struct options){.lane = LANE_NEWSLETTER});
    for (int i = 0; i < 200; i++)
        (void)add_batch(w, t, 1,
                        (struct options){.lane = LANE_NEWSLETTER, .domain = "other.example.com"});
    for (int i = 0; i < 204; i++) {
        assert_true(grant(w, t, &lease));
        slices += lease.batch_id == whole;
        singles += lease.batch_id != whole;
        report(w, t, &lease, lease.mask, OUTCOME_SENT, true);
    }
    assert_in_range(slices, 4, 5);
    assert_in_range(singles, 199, 200);
    commit(w, t);
}

/* A call that asked before it was mended, answered after. */
static void a_late_refusal_does_not_undo_a_resume(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    struct record_lease lease, old_probe, probe;

    w->config.sender.hold_ms = SHORT_HOLD_MS;
    (void)add_batch(w, t, 60, (struct options){.lane = LANE_NEWSLETTER});
    assert_true(grant(w, t, &lease));
    report_held(w, t, &lease, HOLD_SENDER);
    wait_out(w);
    w->config.sender.hold_ms = 60000;
    assert_true(grant(w, t, &old_probe));
    resume(w, t, false, 0);
    report_held(w, t, &old_probe, HOLD_SENDER);
    assert_true(grant(w, t, &probe));
    report(w, t, &probe, probe.mask, OUTCOME_SENT, true);
    send_all(w, t, 59);
    commit(w, t);
}

static void what_is_scheduled_goes_when_it_is_due(void **state)
{
    struct world *w = *state;
    struct store_txn *t = begin(w);
    uint64_t due_ms = clock_wall_ms() + 50;

    (void)add_batch(w, t, 7, (struct options){.lane = LANE_NEWSLETTER, .due_wall_ms = due_ms});
    send_all(w, t, 0);
    usleep(60 * 1000);
    send_all(w, t, 7);
    commit(w, t);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_batch_is_granted_whole_and_once),
        TEST(outcomes_settle_each_recipient),
        TEST(a_retry_is_granted_again_and_only_it),
        TEST(what_a_dead_sender_began_is_in_doubt_and_the_rest_is_pending),
        TEST(what_a_lease_gave_back_is_not_its_own_after_a_restart),
        TEST(marks_of_another_boot_prove_nothing),
        TEST(a_doubt_ends_with_its_window_but_only_while_pollers_listen),
        TEST(suppressed_recipients_cost_no_lease),
        TEST(test_mode_sends_nothing_and_says_delivered),
        TEST(transactional_mail_overtakes_and_later_mail_waits),
        TEST(domains_take_turns),
        TEST(a_flood_of_single_mails_leaves_room_for_another_domain),
        TEST(domains_share_by_recipients_not_by_leases),
        TEST(accepted_events_are_written_once_a_batch_at_a_time),
        TEST(recipients_that_wait_hold_up_nobody_else),
        TEST(newsletters_in_hand_are_bounded_and_links_go_past_them),
        TEST(a_paused_batch_waits_until_it_is_resumed),
        TEST(what_is_cancelled_is_never_sent),
        TEST(only_what_failed_is_sent_again),
        TEST(a_paused_domain_keeps_its_links_and_blocks_nobody),
        TEST(a_from_that_ses_refuses_holds_only_its_own_mail),
        TEST(one_lease_asks_after_a_hold_while_others_flow_on),
        TEST(one_mail_to_several_asks_uncut),
        TEST(a_lease_that_told_nothing_makes_room_for_the_next),
        TEST(answers_to_older_leases_say_nothing_new_of_a_hold),
        TEST(quota_and_account_hold_all_and_a_set_its_lane),
        TEST(a_probe_that_is_refused_for_itself_lets_the_next_ask),
        TEST(a_person_who_resumes_waits_for_nothing),
        TEST(a_late_refusal_does_not_undo_a_resume),
        TEST(what_is_scheduled_goes_when_it_is_due),
        TEST(too_many_bounces_hold_a_domains_newsletters),
        TEST(a_domain_warms_up_day_by_day),
        TEST(status_tells_what_is_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
