/*
 * What is watched of the events' way back: silence after mails were sent, outcomes that never come,
 * events that nobody has read; and that all of it outlives the writer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "store/batch_write.h"
#include "store/events.h"
#include "store/feed.h"
#include "store/internal.h"
#include "store/outcomes.h"
#include "tests/unit/store/state_dir.h"

#define DOMAIN  SLICE("mg.example.com")
#define OTHER   SLICE("other.example.com")
#define BATCH   UINT64_C(0x19a000000000abc)
#define HOUR_MS UINT64_C(3600000)

struct fixture {
    char dir[64];
    struct store *store;
    struct config config;
    struct config_domain domains[2];
    char names[2][32];
    char empty[1];
    struct gauge_events gauges;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct err err = {0};

    (void)snprintf(f->dir, sizeof f->dir, "/tmp/postern-feed-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->store = store_open_sized(f->dir, STORE_WRITE, 1 << 20, &err);
    assert_non_null(f->store);
    (void)snprintf(f->names[0], sizeof f->names[0], "mg.example.com");
    (void)snprintf(f->names[1], sizeof f->names[1], "other.example.com");
    for (size_t i = 0; i < 2; i++)
        f->domains[i] = (struct config_domain){.name = f->names[i],
                                               .newsletter_configuration_set = f->empty,
                                               .system_configuration_set = f->empty};
    f->config.domains = f->domains;
    f->config.domain_count = 2;
    f->config.alarm.no_events_least = 3;
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

static struct store_txn *write_begin(struct fixture *f)
{
    struct err err = {0};
    struct store_txn *t = store_begin_write(f->store, &err);

    assert_non_null(t);
    return t;
}

static void write_end(struct store_txn *t)
{
    struct err err = {0};

    assert_int_equal(store_commit(t, &err), 0);
}

static struct feeds *feeds_of(struct fixture *f)
{
    struct err err = {0};
    struct store_txn *t = store_begin_read(f->store, &err);

    assert_non_null(t);
    struct feeds *feeds = feeds_open(&f->config, &f->gauges, t);
    store_end_read(t);
    return feeds;
}

static void flush(struct fixture *f, struct feeds *feeds)
{
    struct err err = {0};
    struct store_txn *t = write_begin(f);

    assert_int_equal(feeds_flush(feeds, t, &err), 0);
    write_end(t);
}

static uint64_t silent(struct fixture *f, struct feeds *feeds)
{
    feeds_look(feeds);
    return atomic_load(&f->gauges.silent_domains);
}

static void silence_needs_enough_mails_and_time_and_one_event_ends_it(void **state)
{
    struct fixture *f = *state;
    struct feeds *feeds = feeds_of(f);

    feeds_sent(feeds, DOMAIN);
    feeds_sent(feeds, DOMAIN);
    feeds_sent(feeds, OTHER);
    assert_int_equal(silent(f, feeds), 0); /* too few of each */
    feeds_sent(feeds, DOMAIN);
    assert_int_equal(silent(f, feeds), 1);
    assert_true(atomic_load(&f->gauges.silent_since_wall_ms) > 0);
    feeds_heard(feeds, OTHER); /* another domain's proves nothing */
    assert_int_equal(silent(f, feeds), 1);
    feeds_heard(feeds, DOMAIN);
    assert_int_equal(silent(f, feeds), 0);
    assert_true(atomic_load(&f->gauges.silent_since_wall_ms) == 0);

    f->config.alarm.no_events_after_ms = HOUR_MS;
    for (int i = 0; i < 100; i++)
        feeds_sent(feeds, DOMAIN);
    assert_int_equal(silent(f, feeds), 0); /* too early */
    f->config.alarm.no_events_after_ms = 0;
    f->config.alarm.no_events_least = 0;
    assert_int_equal(silent(f, feeds), 0); /* never asked for */
    feeds_close(feeds);
}

static void silence_outlives_the_writer(void **state)
{
    struct fixture *f = *state;
    struct feeds *feeds = feeds_of(f);
    struct feed feed;
    struct err err = {0};

    for (int i = 0; i < 3; i++)
        feeds_sent(feeds, DOMAIN);
    feeds_read_on(feeds, OTHER);
    flush(f, feeds);
    feeds_close(feeds);

    feeds = feeds_of(f);
    assert_int_equal(silent(f, feeds), 1);
    struct store_txn *t = store_begin_read(f->store, &err);
    feed_read(t, DOMAIN, &feed);
    assert_true(feed.sent == 3 && feed.enough_wall_ms > 0 && feed.event_wall_ms == 0);
    assert_true(feed.read_wall_ms == 0);
    feed_read(t, OTHER, &feed);
    assert_true(feed.sent == 0 && feed.read_wall_ms > 0);
    feed_read(t, SLICE("unknown.example.com"), &feed);
    assert_true(feed.read_wall_ms == 0);
    store_end_read(t);
    feeds_heard(feeds, DOMAIN);
    flush(f, feeds);
    feeds_close(feeds);

    feeds = feeds_of(f);
    assert_int_equal(silent(f, feeds), 0);
    feeds_close(feeds);
}

static void put_event(struct store_txn *t, const char *domain, unsigned serial, uint64_t us)
{
    char text[16];
    struct err err = {0};
    struct event e = {.type = EVENT_DELIVERED, .domain = slice_str(domain), .ses_us = us};

    (void)snprintf(text, sizeof text, "%u", serial);
    struct slice part = slice_str(text);
    event_make_id(&e, &part, 1);
    assert_int_equal(event_put(t, &e, us + 10000000, &err), 1);
}

static void events_behind_the_watermark_are_unread(void **state)
{
    struct fixture *f = *state;
    const uint64_t us = 1764000000123456;
    struct recipient list[3] = {
        {.address = SLICE("a@b.c")}, {.address = SLICE("d@b.c")}, {.address = SLICE("e@b.c")}};
    struct message_head head = {
        .domain = DOMAIN, .message_id = SLICE("m"), .batch_mode = true, .accepted_wall_us = us};
    struct err err = {0};
    struct store_txn *t = write_begin(f);

    assert_int_equal(feed_unread(t, DOMAIN, 100), 0);
    put_event(t, "other.example.com", 0, us);
    for (unsigned i = 0; i < 10; i++)
        put_event(t, "mg.example.com", i, us + i * 1000);
    put_event(t, "zzz.example.com", 0, us);
    assert_int_equal(event_put_accepted(t, &head, BATCH, 0, list, 3, us + 5000000, &err), 0);
    assert_int_equal(feed_unread(t, DOMAIN, 100), 10); /* nobody waits for `accepted` */
    assert_int_equal(feed_unread(t, DOMAIN, 4), 4);
    assert_int_equal(feed_unread(t, OTHER, 100), 1);
    assert_true(feed_first_unread_us(t, DOMAIN) == us);
    assert_true(feed_first_unread_us(t, OTHER) == us);
    assert_true(feed_first_unread_us(t, SLICE("unknown.example.com")) == 0);
    assert_int_equal(watermark_raise(t, DOMAIN, us + 6000, &err), 0);
    assert_int_equal(feed_unread(t, DOMAIN, 100), 3);
    assert_true(feed_first_unread_us(t, DOMAIN) == us + 7000);
    assert_int_equal(watermark_raise(t, DOMAIN, us + 9000, &err), 0);
    assert_int_equal(feed_unread(t, DOMAIN, 100), 0);
    assert_true(feed_first_unread_us(t, DOMAIN) == 0);
    write_end(t);
}

static void a_mark_is_set_once_and_left_alone_by_the_states(void **state)
{
    struct fixture *f = *state;
    uint8_t states[SLICE_MAX] = {STATE_SENT, STATE_LEASED, STATE_SENT};
    uint32_t count;
    struct err err = {0};
    struct store_txn *t = write_begin(f);

    assert_int_equal(outcome_mark(t, BATCH, 1, &err), 0); /* no such batch */
    assert_int_equal(states_put(t, BATCH, 1, states, 3, &err), 0);
    assert_int_equal(outcome_mark(t, BATCH, SLICE_MAX + 1, &err), 1);
    assert_int_equal(outcome_mark(t, BATCH, SLICE_MAX + 1, &err), 0);
    assert_int_equal(outcome_mark(t, BATCH, SLICE_MAX + 3, &err), 0); /* no such recipient */
    assert_true(outcome_marks(t, BATCH, 1) == 2);
    assert_true(states_get(t, BATCH, 1, states, &count));
    assert_int_equal(count, 3);
    assert_int_equal(states[1], STATE_LEASED);
    states[1] = STATE_SENT;
    assert_int_equal(states_put(t, BATCH, 1, states, 3, &err), 0);
    assert_true(outcome_marks(t, BATCH, 1) == 2);
    assert_true(states_get(t, BATCH, 1, states, &count));
    assert_int_equal(states[1], STATE_SENT);
    write_end(t);
}

static void a_round_counts_what_has_no_outcome(void **state)
{
    struct fixture *f = *state;
    const uint64_t now_ms = 1764000000000;
    enum { BATCHES = 2 * OUTCOMES_STEP + 7 };
    struct outcomes_round round = {0};
    struct err err = {0};
    struct store_txn *t = write_begin(f);

    for (uint64_t i = 0; i < BATCHES; i++) {
        /* Each third is complete, each third too young; the others lack two. */
        struct books b = {.accepted = 10, .outcomes = i % 3 == 0 ? 10 : 8};
        b.state[STATE_SENT] = 10;
        b.sent_wall_s = (uint32_t)((now_ms - (i % 3 == 1 ? 23 : 25) * HOUR_MS) / 1000);
        assert_int_equal(books_put(t, 1000 + i * 5, &b, &err), 0);
    }
    for (int i = 0; i < 2; i++)
        outcomes_step(&round, t, 24 * HOUR_MS, now_ms, 1, &f->gauges);
    assert_true(atomic_load(&f->gauges.no_outcome_read_wall_ms) == 0); /* the round is not over */
    outcomes_step(&round, t, 24 * HOUR_MS, now_ms, 1, &f->gauges);
    assert_true(atomic_load(&f->gauges.no_outcome_read_wall_ms) == now_ms);
    assert_int_equal(atomic_load(&f->gauges.no_outcome_batches), BATCHES / 3);
    assert_int_equal(atomic_load(&f->gauges.no_outcome_recipients), BATCHES / 3 * 2);
    for (int i = 0; i < 5; i++) /* it rests */
        outcomes_step(&round, t, 24 * HOUR_MS, now_ms + 5, 2, &f->gauges);
    assert_true(atomic_load(&f->gauges.no_outcome_read_wall_ms) == now_ms);
    store_abort(t);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(silence_needs_enough_mails_and_time_and_one_event_ends_it),
        TEST(silence_outlives_the_writer),
        TEST(events_behind_the_watermark_are_unread),
        TEST(a_mark_is_set_once_and_left_alone_by_the_states),
        TEST(a_round_counts_what_has_no_outcome),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
