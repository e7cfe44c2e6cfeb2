/*
 * Totals: they add up what books and events say, by lane, survive what is taken out of the store,
 * and forget a transaction that was given up.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/pack.h"
#include "store/batch_write.h"
#include "store/events.h"
#include "store/internal.h"
#include "store/totals.h"
#include "tests/unit/store/state_dir.h"

#define DOMAIN  SLICE("mg.example.com")
#define BATCH   UINT64_C(0x19a000000000abc)
#define NOW_US  UINT64_C(1770000000000000)
#define HOUR_US UINT64_C(3600000000)

enum { COUNT = 60 };

struct fixture {
    char dir[64];
    struct store *store;
    struct store_txn *t;
    struct err err;
};

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    (void)snprintf(f->dir, sizeof f->dir, "/tmp/postern-totals-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->store = store_open_sized(f->dir, STORE_WRITE, 1 << 20, &f->err);
    assert_non_null(f->store);
    f->t = store_begin_write(f->store, &f->err);
    assert_non_null(f->t);
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

static void commit(struct fixture *f)
{
    assert_int_equal(store_commit(f->t, &f->err), 0);
    f->t = store_begin_write(f->store, &f->err);
    assert_non_null(f->t);
}

static void give_up(struct fixture *f)
{
    store_abort(f->t);
    f->t = store_begin_write(f->store, &f->err);
    assert_non_null(f->t);
}

static uint64_t total(struct fixture *f, enum total_lane lane, size_t kind)
{
    struct totals sum;

    totals_read(f->t, DOMAIN, lane, &sum);
    return sum.count[kind];
}

/* A batch of COUNT recipients, one of them a duplicate. */
static void insert(struct fixture *f, uint64_t id, uint32_t lane)
{
    struct recipient list[SLICE_MAX];
    struct buf head = {0}, slices = {0}, one = {0};
    uint8_t duplicate[COUNT] = {1};
    const struct message_head h = {.domain = DOMAIN,
                                   .message_id = SLICE("1@mg.example.com"),
                                   .from = SLICE("a@mg.example.com"),
                                   .lane = lane,
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
    const struct new_batch b = {.id = id,
                                .head = buf_slice(&head),
                                .content = SLICE("content"),
                                .slices = buf_slice(&slices),
                                .domain = DOMAIN,
                                .message_id = h.message_id,
                                .recipient_count = COUNT,
                                .duplicate = duplicate,
                                .due_wall_ms = 5,
                                .lane = lane};
    assert_int_equal(batch_insert(f->t, &b, &f->err), 1);
    buf_fini(&head);
    buf_fini(&slices);
    buf_fini(&one);
}

static void a_batch_counts_in_its_lane(void **state)
{
    struct fixture *f = *state;
    struct totals sum;

    insert(f, BATCH, LANE_NEWSLETTER);
    insert(f, BATCH + 1, LANE_TRANSACTIONAL);
    insert(f, BATCH + 2, LANE_NEWSLETTER);
    assert_int_equal(total(f, TOTAL_NEWSLETTER, TOTAL_ACCEPTED), 0); /* not yet committed */
    commit(f);
    assert_int_equal(total(f, TOTAL_NEWSLETTER, TOTAL_ACCEPTED), 2 * (COUNT - 1));
    assert_int_equal(total(f, TOTAL_TRANSACTIONAL, TOTAL_ACCEPTED), COUNT - 1);
    assert_int_equal(total(f, TOTAL_NEWSLETTER, TOTAL_STATE + STATE_PENDING), 2 * (COUNT - 1));
    assert_int_equal(total(f, TOTAL_NEWSLETTER, TOTAL_STATE + STATE_DUPLICATE), 2);
    for (enum total_lane lane = 0; lane < TOTAL_LANES; lane++) {
        totals_read(f->t, DOMAIN, lane, &sum);
        assert_int_equal(totals_unaccounted(&sum), 0);
    }
    totals_read(f->t, SLICE("unknown.example.com"), TOTAL_NEWSLETTER, &sum);
    assert_int_equal(sum.count[TOTAL_ACCEPTED], 0);
}

static void changes_of_books_move_recipients(void **state)
{
    struct fixture *f = *state;
    struct books before = {.accepted = 9, .state = {[STATE_PENDING] = 9}}, after = before;
    const struct books none = {.accepted = 0};
    struct totals sum;

    assert_int_equal(totals_add_books(f->t, DOMAIN, LANE_NEWSLETTER, &none, &before, &f->err), 0);
    after.state[STATE_PENDING] = 2;
    after.state[STATE_SENT] = 6;
    after.state[STATE_FAILED] = 1;
    assert_int_equal(totals_add_books(f->t, DOMAIN, LANE_NEWSLETTER, &before, &after, &f->err), 0);
    commit(f);
    before = after; /* failed ones are sent again: in another transaction the figure falls */
    after.state[STATE_FAILED] = 0;
    after.state[STATE_LEASED] = 3;
    after.state[STATE_PENDING] = 0;
    assert_int_equal(totals_add_books(f->t, DOMAIN, LANE_NEWSLETTER, &before, &after, &f->err), 0);
    commit(f);
    totals_read(f->t, DOMAIN, TOTAL_NEWSLETTER, &sum);
    assert_int_equal(sum.count[TOTAL_ACCEPTED], 9);
    assert_int_equal(sum.count[TOTAL_STATE + STATE_SENT], 6);
    assert_int_equal(sum.count[TOTAL_STATE + STATE_FAILED], 0);
    assert_int_equal(sum.count[TOTAL_STATE + STATE_LEASED], 3);
    assert_int_equal(sum.count[TOTAL_STATE + STATE_PENDING], 0);
    assert_int_equal(totals_unaccounted(&sum), 0);
    after.state[STATE_LEASED] = 2; /* one is gone */
    before.state[STATE_LEASED] = 3;
    before.state[STATE_PENDING] = before.state[STATE_FAILED] = 0;
    assert_int_equal(totals_add_books(f->t, DOMAIN, LANE_NEWSLETTER, &before, &after, &f->err), 0);
    commit(f);
    totals_read(f->t, DOMAIN, TOTAL_NEWSLETTER, &sum);
    assert_int_equal(totals_unaccounted(&sum), 1);
}

static void what_was_given_up_does_not_count(void **state)
{
    struct fixture *f = *state;

    insert(f, BATCH, LANE_NEWSLETTER);
    give_up(f);
    insert(f, BATCH, LANE_NEWSLETTER);
    commit(f);
    commit(f); /* and nothing counts twice */
    assert_int_equal(total(f, TOTAL_NEWSLETTER, TOTAL_ACCEPTED), COUNT - 1);
}

static void put_event(struct fixture *f, enum event_type type, uint32_t reader, uint64_t at_us,
                      bool has_lane)
{
    struct event e = {.type = type,
                      .domain = DOMAIN,
                      .recipient = SLICE("ann@readers.example.net"),
                      .message_id = SLICE("1@mg.example.com"),
                      .ses_us = at_us,
                      .batch_id = has_lane ? BATCH : 0,
                      .batch_recipient = reader,
                      .has_lane = has_lane,
                      .lane = LANE_NEWSLETTER};
    const struct slice parts[] = {slice_of((const uint8_t *)&reader, sizeof reader),
                                  slice_str(event_type_name(type))};

    event_make_id(&e, parts, 2);
    int got = event_put(f->t, &e, NOW_US, &f->err);
    assert_true(got >= 0);
    assert_int_equal(totals_add_arrival(f->t, &e, got > 0, &f->err), 0);
}

static void events_count_once_and_repeats_as_such(void **state)
{
    struct fixture *f = *state;

    for (uint32_t i = 0; i < 5; i++)
        put_event(f, EVENT_DELIVERED, i, NOW_US - HOUR_US + i, true);
    put_event(f, EVENT_DELIVERED, 3, NOW_US - HOUR_US + 3, true);
    put_event(f, EVENT_OPENED, 1, NOW_US - HOUR_US + 10, true);
    put_event(f, EVENT_OPENED, 1, NOW_US - HOUR_US + 2000000, true);
    put_event(f, EVENT_DELIVERED, 9, NOW_US - HOUR_US + 9, false);
    commit(f);
    assert_int_equal(total(f, TOTAL_NEWSLETTER, TOTAL_EVENT + COUNT_DELIVERED), 5);
    assert_int_equal(total(f, TOTAL_NO_LANE, TOTAL_EVENT + COUNT_DELIVERED), 1);
    assert_int_equal(total(f, TOTAL_NEWSLETTER, TOTAL_EVENT + COUNT_OPENED), 2);
    assert_int_equal(total(f, TOTAL_NEWSLETTER, TOTAL_EVENT + COUNT_OPENED_UNIQUE), 1);
    assert_int_equal(total(f, TOTAL_NEWSLETTER, TOTAL_STORED), 7);
    assert_int_equal(total(f, TOTAL_NEWSLETTER, TOTAL_REPEATED), 1);
    assert_int_equal(total(f, TOTAL_NEWSLETTER, TOTAL_LATE), 0);

    assert_int_equal(watermark_raise(f->t, DOMAIN, NOW_US - 1000000, &f->err), 0);
    put_event(f, EVENT_DELIVERED, 50, NOW_US - HOUR_US, true); /* behind a reader */
    commit(f);
    assert_int_equal(total(f, TOTAL_NEWSLETTER, TOTAL_LATE), 1);
    assert_int_equal(total(f, TOTAL_NEWSLETTER, TOTAL_STORED), 8);
}

static void totals_outlive_the_counters_of_hours(void **state)
{
    struct fixture *f = *state;
    const struct counters_age all = {
        .hours_before = UINT32_MAX, .days_before = UINT32_MAX, .batches_before_ms = UINT64_MAX};
    struct buf place = {0};

    put_event(f, EVENT_DELIVERED, 1, NOW_US - HOUR_US, true);
    commit(f);
    assert_int_equal(counters_expire(f->t, &all, &place, 100, &f->err), 0);
    commit(f);
    buf_fini(&place);
    assert_int_equal(total(f, TOTAL_NEWSLETTER, TOTAL_EVENT + COUNT_DELIVERED), 1);
}

static void an_older_store_begins_with_its_batches(void **state)
{
    struct fixture *f = *state;

    insert(f, BATCH, LANE_NEWSLETTER);
    insert(f, BATCH + 1, LANE_TRANSACTIONAL);
    totals_forget(f->store); /* a version that kept none */
    commit(f);
    assert_int_equal(total(f, TOTAL_NEWSLETTER, TOTAL_ACCEPTED), 0);
    assert_int_equal(totals_begin(f->t, &f->err), 0);
    commit(f);
    assert_int_equal(total(f, TOTAL_NEWSLETTER, TOTAL_ACCEPTED), COUNT - 1);
    assert_int_equal(total(f, TOTAL_TRANSACTIONAL, TOTAL_STATE + STATE_PENDING), COUNT - 1);
}

static void the_room_of_the_store_adds_up(void **state)
{
    struct fixture *f = *state;
    struct store_room before, after;

    insert(f, BATCH, LANE_NEWSLETTER);
    commit(f);
    store_room(f->t, &before);
    assert_int_equal(before.used_bytes, store_used_bytes(f->t));
    assert_true(before.file_bytes > before.used_bytes && before.file_bytes <= before.map_bytes);
    assert_true(before.free_pages * 4096 < before.file_bytes);
    assert_true(before.disk_free_bytes > 0);
    for (int i = 0; i < 20; i++) { /* each commit leaves old pages free */
        put_event(f, EVENT_DELIVERED, (uint32_t)i, NOW_US - HOUR_US, true);
        commit(f);
    }
    store_room(f->t, &after);
    assert_true(after.free_pages > 0);
    assert_true(after.file_bytes >= before.file_bytes);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_batch_counts_in_its_lane),           TEST(changes_of_books_move_recipients),
        TEST(what_was_given_up_does_not_count),     TEST(events_count_once_and_repeats_as_such),
        TEST(totals_outlive_the_counters_of_hours), TEST(an_older_store_begins_with_its_batches),
        TEST(the_room_of_the_store_adds_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
