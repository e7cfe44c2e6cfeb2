/*
 * What is old goes, what must stay stays, and after a year of newsletters the store is as large as
 * after a season. Time is an argument: a year takes seconds.
 */
#include "store/retention.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/pack.h"
#include "mail/form.h"
#include "store/batch_write.h"
#include "store/check.h"
#include "store/counters.h"
#include "store/deadletters.h"
#include "store/events.h"
#include "store/gates.h"
#include "store/internal.h"
#include "store/key.h"
#include "store/suppressions.h"
#include "store/totals.h"
#include "store/webhooks.h"
#include "tests/unit/store/state_dir.h"

#define DOMAIN SLICE("mg.example.com")

enum { READERS = 120 };
#define DAY_MS   UINT64_C(86400000)
#define START_MS UINT64_C(1764000000000)

struct world {
    char dir[64];
    struct config config;
    struct store *store;
    struct retention *retention;
    struct store_txn *t;
    uint64_t mono_ms;
    struct err err;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);

    (void)snprintf(w->dir, sizeof w->dir, "/tmp/postern-retention-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->store = store_open(w->dir, STORE_WRITE, &w->err);
    assert_non_null(w->store);
    w->config.retention.events_ms = 30 * DAY_MS;
    w->config.retention.batches_ms = 60 * DAY_MS;
    w->config.retention.size_bytes = UINT64_C(1) << 40;
    w->config.guard.soft_bounce_window_ms = 30 * DAY_MS;
    w->retention = retention_create(&w->config);
    w->t = store_begin_write(w->store, &w->err);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    retention_destroy(w->retention);
    store_close(w->store);
    state_dir_remove(w->dir);
    free(w);
    return 0;
}

static void commit(struct world *w)
{
    assert_int_equal(store_commit(w->t, &w->err), 0);
    w->t = store_begin_write(w->store, &w->err);
    assert_non_null(w->t);
}

static uint64_t rows(struct world *w, enum store_db db)
{
    MDB_stat stat;

    assert_int_equal(mdb_stat(w->t->mdb, w->store->dbi[db], &stat), MDB_SUCCESS);
    return stat.ms_entries;
}

/* Steps until it rests. How many. */
static unsigned let_go(struct world *w, uint64_t now_ms)
{
    uint64_t claims = rows(w, DB_CLAIMS);
    unsigned steps = 0;
    int more;

    w->mono_ms += RETENTION_WALK_MS;
    do {
        more = retention_step(w->retention, w->t, now_ms, w->mono_ms, &w->err);
        assert_true(more >= 0);
        assert_true(claims - rows(w, DB_CLAIMS) < RETENTION_STEP + READERS); /* a step is small */
        claims = rows(w, DB_CLAIMS);
        commit(w);
        assert_true(++steps < 100000);
    } while (more > 0);
    assert_false(retention_is_due(w->retention, w->mono_ms));
    return steps;
}

static void reader(char address[40], unsigned i)
{
    (void)snprintf(address, 40, "reader%u@readers.example.net", i);
}

static const struct message_head *head_of(uint64_t at_ms, char id[64])
{
    static struct message_head h;

    (void)snprintf(id, 64, "%llu@mg.example.com", (unsigned long long)at_ms);
    h = (struct message_head){.domain = DOMAIN,
                              .message_id = slice_str(id),
                              .email_id = slice_str(id),
                              .from = SLICE("a@mg.example.com"),
                              .subject = SLICE("s"),
                              .batch_mode = true,
                              .accepted_wall_us = at_ms * 1000,
                              .recipient_count = READERS};
    return &h;
}

/* A newsletter at this time: its batch, its `accepted` events. Returns the batch's id. */
static uint64_t newsletter(struct world *w, uint64_t at_ms, bool settled)
{
    struct recipient list[READERS];
    char addresses[READERS][40], id[64];
    const struct message_head *h = head_of(at_ms, id);
    struct buf head = {0}, slices = {0}, one = {0}, claims = {0};
    uint8_t duplicate[READERS] = {0};
    const struct submission all = {.head = *h, .recipients = list, .recipient_count = READERS};

    for (unsigned i = 0; i < READERS; i++) {
        reader(addresses[i], i);
        list[i] = (struct recipient){.address = slice_str(addresses[i])};
    }
    submission_claims(&all, &claims);
    message_head_pack(&head, h);
    pack_array(&slices, slice_count_of(READERS));
    for (uint32_t s = 0; s < slice_count_of(READERS); s++) {
        buf_reset(&one);
        recipients_pack(&one, list + s * SLICE_MAX, slice_len_of(READERS, s));
        pack_bin(&slices, buf_slice(&one));
    }
    const struct new_batch b = {.id = at_ms << 20,
                                .head = buf_slice(&head),
                                .content = SLICE("content"),
                                .slices = buf_slice(&slices),
                                .domain = DOMAIN,
                                .message_id = h->message_id,
                                .recipient_count = READERS,
                                .claims = buf_slice(&claims),
                                .duplicate = duplicate,
                                .due_wall_ms = at_ms};
    assert_int_equal(batch_insert(w->t, &b, &w->err), 1);
    assert_int_equal(expanding_del(w->t, b.id, &w->err), 0);
    assert_int_equal(event_put_accepted(w->t, h, b.id, 0, list, READERS, at_ms * 1000, &w->err), 0);
    if (settled) {
        struct books books = {.accepted = READERS}, before = {.accepted = READERS};
        uint8_t states[SLICE_MAX];
        memset(states, STATE_SENT, sizeof states);
        books.state[STATE_SENT] = READERS;
        for (uint32_t s = 0; s < slice_count_of(READERS); s++)
            assert_int_equal(states_put(w->t, b.id, s, states, slice_len_of(READERS, s), &w->err),
                             0);
        before.state[STATE_PENDING] = READERS;
        assert_int_equal(books_put(w->t, b.id, &books, &w->err), 0);
        assert_int_equal(totals_add_books(w->t, DOMAIN, h->lane, &before, &books, &w->err), 0);
        assert_int_equal(due_del(w->t, at_ms, b.id, &w->err), 0);
    }
    buf_fini(&head);
    buf_fini(&slices);
    buf_fini(&one);
    buf_fini(&claims);
    return b.id;
}

static int put(struct world *w, enum event_type type, unsigned reader_number, uint64_t batch_at_ms,
               uint64_t at_ms)
{
    char address[40], id[64];
    const struct message_head *h = head_of(batch_at_ms, id);
    struct slice tags[] = {SLICE("bulk-email")};
    struct event e = {.type = type,
                      .domain = DOMAIN,
                      .message_id = h->message_id,
                      .batch_id = batch_at_ms << 20,
                      .batch_recipient = reader_number,
                      .ses_us = at_ms * 1000 + reader_number,
                      .tags = tags,
                      .tag_count = 1};

    reader(address, reader_number);
    e.recipient = slice_str(address);
    struct slice parts[] = {e.recipient, slice_str(event_type_name(type)), h->message_id};
    event_make_id(&e, parts, 3);
    return event_put(w->t, &e, at_ms * 1000 + 1000000, &w->err);
}

static void agree(struct world *w)
{
    struct check c = {.problem = NULL};

    assert_int_equal(store_check(w->t, &c, &w->err), 0);
    assert_int_equal(c.problems, 0);
}

static void events_go_with_all_that_names_them(void **state)
{
    struct world *w = *state;

    (void)newsletter(w, START_MS, true);
    for (unsigned i = 0; i < READERS; i++)
        assert_int_equal(put(w, EVENT_DELIVERED, i, START_MS, START_MS + 1000), 1);
    assert_int_equal(put(w, EVENT_OPENED, 1, START_MS, START_MS + 10 * DAY_MS), 1);
    commit(w);
    (void)let_go(w, START_MS + 29 * DAY_MS);
    assert_true((event_oldest_us(w->t) + 1) / 1000 == START_MS); /* never a whole second */
    (void)let_go(w, START_MS + 31 * DAY_MS);
    assert_int_equal(rows(w, DB_EVENTS), 1);
    assert_int_equal(rows(w, DB_BY_TYPE), 1);
    assert_int_equal(rows(w, DB_BY_TAG), 1);
    assert_int_equal(rows(w, DB_BY_RECIPIENT), 1);
    assert_int_equal(rows(w, DB_BY_MESSAGE), 1);
    (void)let_go(w, START_MS + 41 * DAY_MS);
    for (enum store_db db = DB_EVENTS; db <= DB_BY_MESSAGE; db++)
        assert_int_equal(rows(w, db), db == DB_EVENT_IDS ? READERS + 1 : 0);
    assert_int_equal(event_oldest_us(w->t), 0);
}

static void a_repeat_is_one_until_sqs_cannot_bring_it_any_more(void **state)
{
    struct world *w = *state;

    w->config.retention.events_ms = DAY_MS;
    assert_int_equal(put(w, EVENT_DELIVERED, 1, START_MS, START_MS), 1);
    commit(w);
    (void)let_go(w, START_MS + 14 * DAY_MS);
    assert_int_equal(rows(w, DB_EVENTS), 0);
    assert_int_equal(put(w, EVENT_DELIVERED, 1, START_MS, START_MS), 0);
    (void)let_go(w, START_MS + 15 * DAY_MS + DAY_MS / 2); /* one that comes late is none */
    assert_int_equal(put(w, EVENT_OPENED, 1, START_MS, START_MS + 1), 1);
    (void)let_go(w, START_MS + 17 * DAY_MS);
    assert_int_equal(rows(w, DB_EVENT_IDS), 0);
    assert_int_equal(put(w, EVENT_DELIVERED, 1, START_MS, START_MS), 0); /* counted as too old */
    assert_int_equal(rows(w, DB_EVENTS), 0);
    assert_int_equal(put(w, EVENT_DELIVERED, 1, START_MS, START_MS + 16 * DAY_MS), 1);
}

static uint64_t unique_opens(struct world *w)
{
    const struct counter_query q = {.scope = COUNTER_DOMAIN,
                                    .domain = DOMAIN,
                                    .until_us = (START_MS + 1000 * DAY_MS) * 1000,
                                    .resolution = COUNTER_ALL};
    struct counter_step *steps;

    assert_int_equal(counters_read(w->t, &q, &steps, &w->err), 1);
    uint64_t opens = steps->count[COUNT_OPENED_UNIQUE];
    free(steps);
    return opens;
}

static void who_has_opened_a_mail_is_known_when_its_batch_is_gone(void **state)
{
    struct world *w = *state;

    w->config.retention.batches_ms = 2 * DAY_MS;
    (void)newsletter(w, START_MS, true);
    assert_int_equal(put(w, EVENT_OPENED, 1, START_MS, START_MS + 1), 1);
    commit(w);
    assert_int_equal(unique_opens(w), 1);
    (void)let_go(w, START_MS + 3 * DAY_MS);
    assert_int_equal(rows(w, DB_BATCHES), 0);
    struct event again = {.type = EVENT_OPENED,
                          .domain = DOMAIN,
                          .batch_id = START_MS << 20,
                          .batch_recipient = 1,
                          .ses_us = (START_MS + 3 * DAY_MS) * 1000};
    struct slice part = SLICE("again");
    event_make_id(&again, &part, 1);
    assert_int_equal(event_put(w->t, &again, (START_MS + 3 * DAY_MS) * 1000, &w->err), 1);
    commit(w);
    assert_int_equal(unique_opens(w), 1);
    (void)let_go(w, START_MS + 46 * DAY_MS); /* nothing of it can come any more */
    assert_int_equal(rows(w, DB_UNIQUES), 0);
}

static void batches_go_once_they_are_settled(void **state)
{
    struct world *w = *state;
    uint64_t open = newsletter(w, START_MS, false), old = newsletter(w, START_MS + 1, true),
             young = newsletter(w, START_MS + 40 * DAY_MS, true);
    struct slice row;
    char id[64];

    assert_int_equal(batch_mark_put(w->t, old, MARK_PAUSED, &w->err), 0);
    commit(w);
    (void)let_go(w, START_MS + 70 * DAY_MS);
    assert_true(batch_head(w->t, open, &row));
    assert_false(batch_head(w->t, old, &row));
    assert_true(batch_head(w->t, young, &row));
    assert_int_equal(rows(w, DB_BATCHES), 2);
    assert_int_equal(rows(w, DB_CONTENTS), 2);
    assert_int_equal(rows(w, DB_BOOKS), 2);
    assert_int_equal(rows(w, DB_STATES), 2 * slice_count_of(READERS));
    assert_int_equal(rows(w, DB_RECIPIENTS), 2 * slice_count_of(READERS));
    assert_int_equal(rows(w, DB_CLAIMS), 2 * READERS);
    assert_int_equal(rows(w, DB_MESSAGE_IDS), 2);
    assert_int_equal(rows(w, DB_GATES), 0);
    assert_int_equal(batch_by_message_id(w->t, DOMAIN, head_of(START_MS + 1, id)->message_id), 0);
    agree(w);
}

static void what_has_no_age_stays(void **state)
{
    struct world *w = *state;
    struct suppression_entry e = {.address = SLICE("ann@readers.example.net"),
                                  .created_us = START_MS * 1000};
    struct deadletter d = {.wall_us = START_MS * 1000,
                           .source = SLICE("q"),
                           .why = SLICE("w"),
                           .raw = SLICE("r"),
                           .message_id = SLICE("m")};

    assert_int_equal(suppression_put(w->t, DOMAIN, SUPPRESS_BOUNCE, &e, &w->err), 0);
    assert_int_equal(suppression_put(w->t, DOMAIN, SUPPRESS_COMPLAINT, &e, &w->err), 0);
    assert_int_equal(deadletter_put(w->t, &d, &w->err), 0);
    assert_int_equal(lifted_put(w->t, e.address, START_MS * 1000, &w->err), 0);
    const uint8_t digest[CLAIM_BYTES] = {1};
    assert_int_equal(
        unheard_put(w->t, digest, SLICE("<id>"), (START_MS + 28 * DAY_MS) * 1000, &w->err), 0);
    assert_int_equal(put(w, EVENT_DELIVERED, 1, START_MS, START_MS), 1); /* with a tag */
    assert_int_equal(soft_bounce_add(w->t, DOMAIN, e.address, START_MS * 1000, 5, DAY_MS, &w->err),
                     0);
    commit(w);
    (void)let_go(w, START_MS + 29 * DAY_MS);
    assert_int_equal(deadletter_count(w->t), 1);
    assert_int_equal(rows(w, DB_SOFT_BOUNCES), 1);
    assert_int_equal(rows(w, DB_LIFTED), 1);
    assert_int_equal(rows(w, DB_UNHEARD), 0);
    (void)let_go(w, START_MS + 1000 * DAY_MS);
    assert_int_equal(rows(w, DB_LIFTED), 0);
    assert_int_equal(rows(w, DB_TAGS), 1);
    assert_int_equal(rows(w, DB_COUNTERS), 2); /* a day of the domain, and of the tag */
    (void)let_go(w, START_MS + 1900 * DAY_MS);
    assert_int_equal(rows(w, DB_TAGS), 0);
    assert_int_equal(rows(w, DB_COUNTERS), 0);
    assert_int_equal(rows(w, DB_SUPPRESSIONS), 2);
    assert_int_equal(rows(w, DB_DEADLETTERS), 0);
    assert_int_equal(rows(w, DB_SOFT_BOUNCES), 0);
}

static void a_step_is_small_and_a_rest_is_one(void **state)
{
    struct world *w = *state;

    for (unsigned i = 0; i < 3000; i++)
        assert_int_equal(put(w, EVENT_OPENED, i, START_MS, START_MS), 1);
    commit(w);
    uint64_t before = rows(w, DB_EVENTS);
    assert_int_equal(retention_step(w->retention, w->t, START_MS + 90 * DAY_MS, 1000, &w->err), 1);
    assert_true(before - rows(w, DB_EVENTS) <= RETENTION_STEP + 1);
    w->mono_ms = 1000;
    unsigned steps = let_go(w, START_MS + 90 * DAY_MS);
    assert_true(steps >= 5);
    assert_int_equal(
        retention_step(w->retention, w->t, START_MS + 90 * DAY_MS, w->mono_ms, &w->err), 0);
    assert_true(retention_is_due(w->retention, w->mono_ms + RETENTION_REST_MS));
}

static void above_its_size_the_oldest_goes_first(void **state)
{
    struct world *w = *state;

    (void)newsletter(w, START_MS, false); /* never goes */
    for (uint64_t day = 0; day < 20; day++) {
        (void)newsletter(w, START_MS + day * DAY_MS + 1, true);
        for (unsigned i = 0; i < 500; i++)
            assert_int_equal(
                put(w, EVENT_OPENED, i, START_MS + day * DAY_MS, START_MS + day * DAY_MS + 1000),
                1);
    }
    commit(w);
    uint64_t full = store_used_bytes(w->t), half = full / 2;
    w->config.retention.size_bytes = half;
    (void)let_go(w, START_MS + 20 * DAY_MS);
    assert_true(store_used_bytes(w->t) <= half);
    assert_true(store_used_bytes(w->t) > half * 8 / 10); /* not more than it must */
    uint64_t oldest_ms = event_oldest_us(w->t) / 1000;
    assert_true(oldest_ms > START_MS + DAY_MS && oldest_ms < START_MS + 19 * DAY_MS);
    w->config.retention.size_bytes = 1; /* what cannot be: all goes that may, and there it rests */
    (void)let_go(w, START_MS + 20 * DAY_MS);
    assert_true(event_oldest_us(w->t) / 1000 >= START_MS + 19 * DAY_MS); /* but for the last day */
    assert_int_equal(rows(w, DB_EVENT_IDS), 20 * 500); /* a repeat of what went is still one */
    assert_int_equal(put(w, EVENT_OPENED, 7, START_MS, START_MS + 1000), 0);
    assert_int_equal(rows(w, DB_BATCHES), 2);
    assert_int_equal(rows(w, DB_CLAIMS), 2 * READERS); /* a POST that is repeated is known */
    agree(w);
}

static void after_a_year_it_is_as_large_as_after_a_season(void **state)
{
    struct world *w = *state;
    uint64_t season_bytes = 0, most_bytes = 0;
    MDB_envinfo info;

    for (uint64_t day = 0; day < 365; day++) {
        uint64_t at_ms = START_MS + day * DAY_MS;
        (void)newsletter(w, at_ms, true);
        for (unsigned i = 0; i < READERS; i++) {
            (void)put(w, EVENT_DELIVERED, i, at_ms, at_ms + 1000);
            if (i % 3 == 0)
                (void)put(w, EVENT_OPENED, i, at_ms, at_ms + 3600 * 1000);
            if (i % 40 == 0)
                (void)put(w, EVENT_CLICKED, i, at_ms, at_ms + 3700 * 1000);
        }
        commit(w);
        (void)let_go(w, at_ms + DAY_MS / 2);
        uint64_t used = store_used_bytes(w->t);
        if (day == 120)
            season_bytes = used;
        if (day > 120 && used > most_bytes)
            most_bytes = used;
        if (day == 121) {
            (void)mdb_env_info(w->store->env, &info);
            season_bytes = used;
        }
    }
    size_t pages = info.me_last_pgno;
    (void)mdb_env_info(w->store->env, &info);
    print_message("used after a season %llu KiB, at most later %llu KiB; file %zu pages then, %zu "
                  "now\n",
                  (unsigned long long)season_bytes >> 10, (unsigned long long)most_bytes >> 10,
                  pages, info.me_last_pgno);
    assert_true(most_bytes < season_bytes * 105 / 100);
    assert_true(info.me_last_pgno < pages * 11 / 10); /* freed pages are used again */
    assert_int_equal(rows(w, DB_BATCHES), 60);
    agree(w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static void webhook_failures_go_with_their_time(void **state)
{
    struct world *w = *state;
    const uint64_t now_ms = START_MS + 500 * DAY_MS, ages_days[] = {31, 29};

    for (uint8_t i = 0; i < 2; i++) {
        struct key id = {.len = 0}, value = {.len = 0};
        for (size_t n = 0; n < WEBHOOK_FAILURE_BYTES; n++)
            key_u8(&id, i);
        key_u64(&value, (now_ms - ages_days[i] * DAY_MS) * 1000);
        key_u32(&value, 1);
        key_u32(&value, 406);
        assert_int_equal(
            store_put(w->t, DB_WEBHOOK_FAILED, key_slice(&id), key_slice(&value), &w->err), 0);
    }
    commit(w);
    (void)let_go(w, now_ms);
    assert_int_equal(rows(w, DB_WEBHOOK_FAILED), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(events_go_with_all_that_names_them),
        TEST(a_repeat_is_one_until_sqs_cannot_bring_it_any_more),
        TEST(who_has_opened_a_mail_is_known_when_its_batch_is_gone),
        TEST(batches_go_once_they_are_settled),
        TEST(what_has_no_age_stays),
        TEST(webhook_failures_go_with_their_time),
        TEST(a_step_is_small_and_a_rest_is_one),
        TEST(above_its_size_the_oldest_goes_first),
        TEST(after_a_year_it_is_as_large_as_after_a_season),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
