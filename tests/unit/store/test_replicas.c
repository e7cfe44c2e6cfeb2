/*
 * What one machine changes against the stores of two: told until the topic has it, made on the other
 * in whatever order and however often it is heard, and nothing that no Postern would tell.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/deadletters.h"
#include "store/events.h"
#include "store/internal.h"
#include "store/list_changes.h"
#include "store/own_events.h"
#include "store/replicas.h"
#include "store/runs.h"
#include "tests/unit/store/part_message.h"

enum { LONG_MS = 3600000, A = 0, B = 1 };

#define DOMAIN SLICE("mg.example.com")
#define READER SLICE("r7@readers.example.net")

static int set_up(void **state)
{
    struct world *w = mem_zero(2, sizeof *w);
    struct err err;

    for (int i = A; i <= B; i++) {
        world_open(&w[i], LONG_MS);
        assert_int_equal(changes_start(w[i].store, &err), 0);
    }
    write_message(&w[A]);
    buf_add_slice(&w[B].claims, buf_slice(&w[A].claims));
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;

    world_close(&w[A]);
    world_close(&w[B]);
    message_free();
    free(w);
    return 0;
}

/* -------- between the two -------- */

static void hear(struct world *to, uint64_t node, struct slice change)
{
    const struct record_replica r = {.node = node, .change = change};
    struct store_txn *t = begin(to);
    struct err err;

    assert_int_equal(replica_apply(to->scheduler, t, &r, &err), 0);
    commit(to, t);
}

/* All that `from` has to tell; it stays to be told. How many. */
static int convey(struct world *from, struct world *to)
{
    struct buf kept = {0};
    uint64_t at_us = 0;
    struct err err;
    int count = 0;

    while (true) {
        struct slice change;
        struct store_txn *t = store_begin_read(from->store, &err);
        bool more = change_untold_after(t, &at_us, &change);
        buf_reset(&kept);
        if (more)
            buf_add_slice(&kept, change);
        store_end_read(t);
        if (!more)
            break;
        hear(to, from->store->node, buf_slice(&kept));
        count++;
    }
    buf_fini(&kept);
    return count;
}

static uint64_t untold(struct world *w, uint64_t *oldest_us)
{
    struct err err;
    struct store_txn *t = store_begin_read(w->store, &err);
    uint64_t count = changes_untold(t, oldest_us);

    store_end_read(t);
    return count;
}

static void add(struct world *w, enum suppression list, struct slice address, const char *text)
{
    const struct suppression_entry entry = {
        .address = address, .code = SLICE("550"), .text = slice_str(text), .created_us = 7};
    struct store_txn *t = begin(w);
    struct err err;

    assert_int_equal(list_add_here(t, DOMAIN, list, &entry, &err), 0);
    commit(w, t);
}

static int take_off(struct world *w, enum suppression list, struct slice address)
{
    struct store_txn *t = begin(w);
    struct err err;
    int got = list_remove_here(t, DOMAIN, list, address, slice_none(), &err);

    commit(w, t);
    return got;
}

static bool is_listed(struct world *w, enum suppression list, struct slice address)
{
    struct suppression_entry entry;
    struct err err;
    struct store_txn *t = store_begin_read(w->store, &err);
    bool found = suppression_get(t, DOMAIN, list, address, &entry);

    store_end_read(t);
    return found;
}

/* -------- what is told -------- */

static void a_change_waits_until_it_is_told_and_its_stamp_is_never_given_again(void **state)
{
    struct world *w = *state;
    uint64_t first_us, oldest_us;
    struct err err;

    add(&w[A], SUPPRESS_BOUNCE, READER, "one");
    assert_int_equal(untold(&w[A], &first_us), 1);
    assert_true(first_us > 0);
    uint64_t node = w[A].store->node;
    store_close(w[A].store); /* as after a death */
    w[A].store = store_open(w[A].dir, STORE_WRITE, &err);
    assert_non_null(w[A].store);
    assert_int_equal(changes_start(w[A].store, &err), 0);
    assert_true(w[A].store->node == node);
    reopen_scheduler(&w[A]);
    assert_int_equal(untold(&w[A], &oldest_us), 1);

    struct store_txn *t = begin(&w[A]);
    assert_int_equal(changes_drop(t, first_us, &err), 0);
    commit(&w[A], t);
    assert_int_equal(untold(&w[A], &oldest_us), 0);
    assert_true(oldest_us == 0);
    add(&w[A], SUPPRESS_BOUNCE, READER, "two");
    assert_int_equal(untold(&w[A], &oldest_us), 1);
    assert_true(oldest_us > first_us);
    t = begin(&w[A]); /* told once more by a poller's successor */
    assert_int_equal(changes_drop(t, first_us, &err), 0);
    commit(&w[A], t);
    assert_int_equal(untold(&w[A], &oldest_us), 1);
}

static void nothing_is_kept_where_nobody_is_told(void **state)
{
    struct world *w = *state;
    uint64_t oldest_us;

    w[A].store->node = 0;
    add(&w[A], SUPPRESS_BOUNCE, READER, "one");
    assert_true(is_listed(&w[A], SUPPRESS_BOUNCE, READER));
    assert_int_equal(take_off(&w[A], SUPPRESS_BOUNCE, READER), 1);
    assert_int_equal(untold(&w[A], &oldest_us), 0);
}

static void a_copy_goes_on_under_a_number_of_its_own_and_hears_its_former_self(void **state)
{
    struct world *w = *state;
    uint64_t former = w[A].store->node;
    struct err err;

    struct store_txn *t = begin(&w[A]);
    assert_int_equal(changes_renumber(t, &err), 0);
    commit(&w[A], t);
    assert_int_equal(changes_start(w[A].store, &err), 0);
    assert_true(w[A].store->node != 0 && w[A].store->node != former);
    add(&w[B], SUPPRESS_BOUNCE, READER, "one");
    w[B].store->node = former; /* what the machine that was copied tells */
    assert_int_equal(convey(&w[B], &w[A]), 1);
    assert_true(is_listed(&w[A], SUPPRESS_BOUNCE, READER));
}

static void a_change_here_is_later_than_any_that_was_heard(void **state)
{
    struct world *w = *state;
    struct version v;
    struct err err;
    struct store_txn *t = begin(&w[A]);
    uint64_t ahead_us = clock_wall_us() + UINT64_C(3600000000);

    assert_int_equal(change_stamp_heard(t, ahead_us, &err), 0);
    assert_int_equal(change_stamp(t, &v, &err), 0);
    assert_true(v.stamp_us > ahead_us);
    commit(&w[A], t);
}

/* -------- lists -------- */

static void what_one_puts_on_or_takes_off_the_other_has(void **state)
{
    struct world *w = *state;

    add(&w[A], SUPPRESS_BOUNCE, READER, "one");
    assert_false(is_listed(&w[B], SUPPRESS_BOUNCE, READER));
    assert_int_equal(convey(&w[A], &w[B]), 1);
    assert_true(is_listed(&w[B], SUPPRESS_BOUNCE, READER));
    assert_int_equal(take_off(&w[B], SUPPRESS_BOUNCE, READER), 1);
    (void)convey(&w[A], &w[B]); /* the same again: it is older than the removal */
    assert_false(is_listed(&w[B], SUPPRESS_BOUNCE, READER));
    assert_int_equal(convey(&w[B], &w[A]), 1);
    assert_false(is_listed(&w[A], SUPPRESS_BOUNCE, READER));
    (void)convey(&w[A], &w[A]); /* its own come round */
    assert_false(is_listed(&w[A], SUPPRESS_BOUNCE, READER));
}

static void what_was_listed_before_changes_were_told_can_be_taken_off_elsewhere(void **state)
{
    struct world *w = *state;

    for (int i = A; i <= B; i++) {
        uint64_t node = w[i].store->node;
        w[i].store->node = 0;
        add(&w[i], SUPPRESS_COMPLAINT, READER, "");
        w[i].store->node = node;
    }
    assert_int_equal(take_off(&w[A], SUPPRESS_COMPLAINT, READER), 1);
    assert_int_equal(convey(&w[A], &w[B]), 1);
    assert_false(is_listed(&w[B], SUPPRESS_COMPLAINT, READER));
}

static void an_event_does_not_put_back_what_was_taken_off_after_it(void **state)
{
    struct world *w = *state;
    const struct suppression_entry entry = {.address = READER, .code = SLICE("550")};
    uint64_t before_us = clock_wall_us() - 5000000, after_us = clock_wall_us() + 5000000;
    struct err err;

    assert_int_equal(take_off(&w[A], SUPPRESS_BOUNCE, READER), 0);
    assert_int_equal(convey(&w[A], &w[B]), 1);
    struct store_txn *t = begin(&w[B]);
    assert_int_equal(list_add_by_event(t, DOMAIN, SUPPRESS_BOUNCE, &entry, before_us, &err), 0);
    commit(&w[B], t);
    assert_false(is_listed(&w[B], SUPPRESS_BOUNCE, READER));
    t = begin(&w[B]);
    assert_int_equal(list_add_by_event(t, DOMAIN, SUPPRESS_BOUNCE, &entry, after_us, &err), 0);
    commit(&w[B], t);
    assert_true(is_listed(&w[B], SUPPRESS_BOUNCE, READER));
}

/* A step of a history: '+' adds and '-' removes (a tag, or all), '0' clears the list. */
struct step {
    char what;
    const char *tag;
    struct version at;
};

static void take_step(struct store_txn *t, struct slice domain, enum suppression list,
                      const struct step *s)
{
    struct buf tags = {0};
    struct err err;
    int rc = -1;

    if (s->what == '0') {
        rc = list_clear(t, domain, list, &s->at, &err);
    } else if (s->what == '-') {
        rc = list_remove(t, domain, list, READER, slice_str(s->tag), &s->at, &err);
    } else {
        struct suppression_entry entry = {.address = READER, .created_us = 1000 + s->at.stamp_us};
        if (s->tag[0] != '\0') {
            pack_array(&tags, 1);
            pack_str(&tags, slice_str(s->tag));
            entry.tags = buf_slice(&tags);
        }
        rc = list_add(t, domain, list, &entry, &s->at, &err);
    }
    assert_true(rc >= 0);
    buf_fini(&tags);
}

static void put_result(struct store_txn *t, struct slice domain, enum suppression list,
                       struct buf *to)
{
    struct suppression_entry entry;

    if (!suppression_get(t, domain, list, READER, &entry)) {
        buf_add_str(to, "none");
        return;
    }
    buf_printf(to, "%llu %.*s:", (unsigned long long)entry.created_us, SLICE_ARGS(entry.address));
    struct unpack u = unpack_over(entry.tags);
    for (uint32_t n = entry.tags.len == 0 ? 0 : unpack_array(&u); n > 0; n--) {
        struct slice tag = unpack_str(&u);
        buf_printf(to, " %.*s", SLICE_ARGS(tag));
    }
}

/* The next permutation in order; false behind the last. */
static bool next_order(int *order, int count)
{
    int i = count - 1, k = count - 1;

    while (i > 0 && order[i - 1] >= order[i])
        i--;
    if (i == 0)
        return false;
    while (order[k] <= order[i - 1])
        k--;
    int swapped = order[k];
    order[k] = order[i - 1];
    order[i - 1] = swapped;
    for (k = count - 1; i < k; i++, k--) {
        swapped = order[i];
        order[i] = order[k];
        order[k] = swapped;
    }
    return true;
}

/* Each order in a domain of its own, each step heard twice. */
static void try_all_orders(struct world *w, enum suppression list, const struct step *steps,
                           int count, const char *expected)
{
    struct buf result = {0};
    static unsigned number;
    int order[8];

    for (int i = 0; i < count; i++)
        order[i] = i;
    struct store_txn *t = begin(w);
    do {
        char domain[32];
        (void)snprintf(domain, sizeof domain, "d%u.example", number++);
        for (int i = 0; i < count; i++) {
            take_step(t, slice_str(domain), list, &steps[order[i]]);
            take_step(t, slice_str(domain), list, &steps[order[i / 2]]);
        }
        buf_reset(&result);
        put_result(t, slice_str(domain), list, &result);
        assert_string_equal(buf_cstr(&result), expected);
    } while (next_order(order, count));
    commit(w, t);
    buf_fini(&result);
}

static void the_same_lists_come_out_in_every_order(void **state)
{
    struct world *w = *state;
    const struct step simple[] = {
        {'+', "", {10, 1}}, {'-', "", {20, 2}}, {'+', "", {30, 2}}, {'0', "", {25, 1}}};
    const struct step gone[] = {{'+', "", {10, 1}}, {'+', "", {20, 1}}, {'-', "", {20, 2}}};
    const struct step tie[] = {{'+', "", {20, 3}}, {'-', "", {20, 2}}};
    const struct step tags[] = {{'+', "a", {10, 1}}, {'+', "b", {11, 2}}, {'-', "b", {12, 1}},
                                {'+', "c", {5, 2}},  {'0', "", {6, 1}},   {'+', "d", {13, 9}}};
    const struct step all[] = {{'+', "a", {10, 1}},
                               {'+', "", {11, 2}},
                               {'-', "", {12, 1}},
                               {'+', "b", {13, 2}},
                               {'-', "a", {9, 1}}};
    const struct step both[] = {{'+', "a", {10, 1}}, {'+', "", {11, 2}}, {'-', "a", {12, 1}}};
    const struct step cleared[] = {{'+', "a", {10, 1}}, {'+', "", {11, 2}}, {'0', "", {12, 1}}};

    try_all_orders(&w[A], SUPPRESS_BOUNCE, simple, 4, "1030 r7@readers.example.net:");
    try_all_orders(&w[A], SUPPRESS_ALLOW, gone, 3, "none");
    try_all_orders(&w[A], SUPPRESS_COMPLAINT, tie, 2, "1020 r7@readers.example.net:");
    try_all_orders(&w[A], SUPPRESS_UNSUBSCRIBE, all, 5, "1013 r7@readers.example.net: b");
    try_all_orders(&w[A], SUPPRESS_UNSUBSCRIBE, both, 3, "1011 r7@readers.example.net:");
    try_all_orders(&w[A], SUPPRESS_UNSUBSCRIBE, cleared, 3, "none");

    /* The order of tags is that of their hashes: whatever it is, it is the same each time. */
    struct buf first = {0};
    struct store_txn *t = begin(&w[A]);
    for (int i = 0; i < 6; i++)
        take_step(t, SLICE("first.example"), SUPPRESS_UNSUBSCRIBE, &tags[i]);
    put_result(t, SLICE("first.example"), SUPPRESS_UNSUBSCRIBE, &first);
    commit(&w[A], t);
    assert_true(slice_starts(buf_slice(&first), SLICE("1013 ")));
    assert_true(slice_find(buf_slice(&first), SLICE(" a")) != SIZE_MAX);
    assert_true(slice_find(buf_slice(&first), SLICE(" d")) != SIZE_MAX);
    assert_true(slice_find(buf_slice(&first), SLICE(" b")) == SIZE_MAX);
    assert_true(slice_find(buf_slice(&first), SLICE(" c")) == SIZE_MAX);
    try_all_orders(&w[A], SUPPRESS_UNSUBSCRIBE, tags, 6, buf_cstr(&first));
    buf_fini(&first);
}

/* -------- own events -------- */

static void note_event(void *arg, const struct event *e)
{
    struct buf *to = arg;

    for (size_t i = 0; i < EVENT_ID_BYTES; i++)
        buf_printf(to, "%02x", e->id[i]);
    buf_printf(to, " %s %.*s %.*s\n", event_type_name(e->type), SLICE_ARGS(e->recipient),
               SLICE_ARGS(e->message_id));
}

/* All of the domain, in the order of their times and ids. How many. */
static uint32_t list_events(struct world *w, struct buf *to)
{
    const struct slice domain = DOMAIN;
    const struct event_query q = {.domains = &domain,
                                  .domain_count = 1,
                                  .until_us = UINT64_MAX,
                                  .ascending = true,
                                  .limit = 1000,
                                  .visit = note_event,
                                  .visit_arg = to};
    struct event_page page = {.started = false};
    struct err err;
    struct store_txn *t = store_begin_read(w->store, &err);

    buf_reset(to);
    assert_int_equal(event_query_run(t, &q, &page, &err), 0);
    store_end_read(t);
    uint32_t count = page.count;
    event_page_fini(&page);
    return count;
}

static void expand(struct world *w)
{
    struct store_txn *t = begin(w);
    struct err err;
    int more;

    do
        more = scheduler_expand(w->scheduler, t, 1000, &err);
    while (more > 0);
    assert_int_equal(more, 0);
    commit(w, t);
}

/* Grants all that goes; those who are suppressed are settled so. */
static void grant_all(struct world *w)
{
    struct buf record = {0};
    struct store_txn *t = begin(w);
    struct err err;

    while (scheduler_grant(w->scheduler, t, &w->slot, 5, &record, &err) == 1)
        buf_reset(&record);
    commit(w, t);
    buf_fini(&record);
}

static void assert_same_events(struct world *w, uint32_t count)
{
    struct buf at_a = {0}, at_b = {0};

    assert_int_equal(list_events(&w[A], &at_a), count);
    assert_int_equal(list_events(&w[B], &at_b), count);
    assert_string_equal(buf_cstr(&at_a), buf_cstr(&at_b));
    buf_fini(&at_a);
    buf_fini(&at_b);
}

static void both_have_the_events_that_a_postern_makes(void **state)
{
    struct world *w = *state;
    uint64_t until = clock_mono_ms() + LONG_MS;

    add(&w[A], SUPPRESS_BOUNCE, READER, "gone");
    take(&w[A], 77, 1, until);
    expand(&w[A]);
    grant_all(&w[A]);
    assert_true(convey(&w[A], &w[B]) >= 3);
    assert_same_events(w, RECIPIENTS + 1);
    (void)convey(&w[A], &w[B]);
    assert_same_events(w, RECIPIENTS + 1);

    /* The part is handed on to B, who makes them of its own: under the same ids, so none is new. And
     * the reader whom A has refused is not refused again. */
    take(&w[B], 77, 2, until);
    expand(&w[B]);
    assert_int_equal(books_of(&w[B], 77).state[STATE_DUPLICATE], 1);
    (void)convey(&w[B], &w[A]);
    assert_same_events(w, RECIPIENTS + 1);
}

static void whoever_is_not_told_of_makes_them_alone(void **state)
{
    struct world *w = *state;
    uint64_t until = clock_mono_ms() + LONG_MS;
    struct err err;

    /* B knows that three were served elsewhere, but has not heard of A's `accepted` events. */
    struct store_txn *t = begin(&w[B]);
    for (uint32_t i = 20; i < 23; i++)
        assert_int_equal(part_note_elsewhere(w[B].scheduler, t, 77, i, slice_none(), &err), 0);
    commit(&w[B], t);
    take(&w[A], 77, 1, until);
    expand(&w[A]);
    take(&w[B], 77, 2, until);
    expand(&w[B]);
    struct buf events = {0};
    assert_int_equal(list_events(&w[B], &events), RECIPIENTS - 3);
    buf_fini(&events);
    (void)convey(&w[B], &w[A]);
    (void)convey(&w[A], &w[B]);
    assert_same_events(w, RECIPIENTS);
}

/* -------- pauses and cancels -------- */

static void control(struct world *w, enum control_verb verb, uint64_t batch_id)
{
    const struct record_control r = {
        .verb = (uint32_t)verb, .batch_id = batch_id, .domain = DOMAIN};
    enum answer_verdict verdict;
    struct buf words = {0};
    uint32_t count;
    struct err err;
    struct store_txn *t = begin(w);

    assert_int_equal(scheduler_control(w->scheduler, t, &r, &verdict, &count, &words, &err), 0);
    assert_int_equal(verdict, ANSWER_OK);
    commit(w, t);
    buf_fini(&words);
}

static enum batch_mark mark_of(struct world *w, uint64_t id)
{
    struct err err;
    struct store_txn *t = store_begin_read(w->store, &err);
    enum batch_mark mark = batch_mark_get(t, id);

    store_end_read(t);
    return mark;
}

static void a_pause_holds_the_newsletter_everywhere_until_it_is_resumed(void **state)
{
    struct world *w = *state;
    uint64_t until = clock_mono_ms() + LONG_MS;

    take(&w[A], 77, 1, until);
    take(&w[B], 78, 1, until);
    control(&w[A], CONTROL_PAUSE, 77);
    (void)convey(&w[A], &w[B]);
    assert_int_equal(mark_of(&w[B], 78), MARK_PAUSED);
    control(&w[B], CONTROL_RESUME, 78);
    (void)convey(&w[B], &w[A]);
    (void)convey(&w[A], &w[B]);
    assert_int_equal(mark_of(&w[A], 77), MARK_NONE);
    assert_int_equal(mark_of(&w[B], 78), MARK_NONE);
}

static void what_is_cancelled_stays_so_where_it_comes_later(void **state)
{
    struct world *w = *state;
    uint64_t until = clock_mono_ms() + LONG_MS;

    take(&w[A], 77, 1, until);
    control(&w[A], CONTROL_CANCEL, 77);
    assert_int_equal(books_of(&w[A], 77).state[STATE_CANCELLED], RECIPIENTS);
    (void)convey(&w[A], &w[B]);
    take(&w[B], 78, 1, until);
    assert_int_equal(books_of(&w[B], 78).state[STATE_CANCELLED], RECIPIENTS);
}

static void a_domain_is_paused_everywhere(void **state)
{
    struct world *w = *state;
    struct gate gate;

    control(&w[A], CONTROL_PAUSE, 0);
    (void)convey(&w[A], &w[B]);
    assert_true(gates_closed(w[B].scheduler->gates, DOMAIN, LANE_NEWSLETTER, &gate));
    control(&w[B], CONTROL_RESUME, 0);
    (void)convey(&w[B], &w[A]);
    (void)convey(&w[A], &w[B]); /* A's older pause again */
    for (int i = A; i <= B; i++)
        assert_false(gates_closed(w[i].scheduler->gates, DOMAIN, LANE_NEWSLETTER, &gate));
}

/* -------- what is no change -------- */

static const char *judged(struct world *w, const struct record_change *r)
{
    static char words[200];
    struct record_change again;
    struct arena arena = {0};
    struct buf bytes = {0};
    struct slice why;

    record_change_encode(&bytes, r);
    bool good =
        replica_judge(buf_slice(&bytes), &w->config, NULL, clock_wall_us(), &arena, &again, &why);
    (void)snprintf(words, sizeof words, "%.*s", SLICE_ARGS(good ? SLICE("good") : why));
    for (size_t len = 0; len < bytes.len; len++) /* cut anywhere it is none */
        assert_false(replica_judge(slice_of(bytes.ptr, len), &w->config, NULL, clock_wall_us(),
                                   &arena, &again, &why));
    buf_fini(&bytes);
    arena_fini(&arena);
    return words;
}

static void what_no_postern_tells_is_refused(void **state)
{
    struct world *w = *state;
    struct buf entries = {0};
    const struct suppression_entry entry = {.address = READER}, bad = {.address = SLICE("no\n")};
    struct record_change r = {.what = CHANGE_LISTED, .stamp_us = 9, .domain = DOMAIN, .list = 1};
    const char *const fields = "a change of another machine whose fields are none that a Postern "
                               "tells";

    pack_array(&entries, 1);
    suppression_entry_pack(&entries, &entry);
    r.entries = buf_slice(&entries);
    assert_string_equal(judged(w, &r), "good");
    r.list = 9;
    assert_string_equal(judged(w, &r), fields);
    r.list = 1;
    r.domain = SLICE("other.example");
    assert_non_null(strstr(judged(w, &r), "not configured here"));
    r.domain = DOMAIN;
    r.stamp_us = clock_wall_us() + UINT64_C(4000000000);
    assert_non_null(strstr(judged(w, &r), "an hour ahead"));
    r.stamp_us = 0;
    assert_string_equal(judged(w, &r), fields);
    r.stamp_us = 9;
    r.what = CHANGE_END;
    assert_string_equal(judged(w, &r), fields);
    r.what = CHANGE_LISTED;
    buf_reset(&entries);
    pack_array(&entries, 1);
    suppression_entry_pack(&entries, &bad);
    r.entries = buf_slice(&entries);
    assert_string_equal(judged(w, &r), fields);

    r = (struct record_change){
        .what = CHANGE_STEERED, .stamp_us = 9, .domain = DOMAIN, .verb = CONTROL_RESEND};
    assert_string_equal(judged(w, &r), fields);
    r.verb = CONTROL_CANCEL;
    assert_string_equal(judged(w, &r), "good");

    buf_reset(&entries);
    pack_array(&entries, 1);
    pack_array(&entries, 2);
    pack_str(&entries, READER);
    pack_str(&entries, slice_none());
    r = (struct record_change){.what = CHANGE_ACCEPTED,
                               .stamp_us = 9,
                               .domain = DOMAIN,
                               .batch_id = 5,
                               .first = 999,
                               .head = buf_slice(&packed.head),
                               .readers = buf_slice(&entries)};
    assert_string_equal(judged(w, &r), "good");
    r.first = 1000;
    assert_string_equal(judged(w, &r), fields);
    r.first = 0;
    r.batch_id = 0;
    assert_string_equal(judged(w, &r), fields);
    buf_fini(&entries);
}

static bool note_letter(void *arg, const struct deadletter *d)
{
    char *said = arg;

    (void)snprintf(said, 400, "%.*s | %.*s", SLICE_ARGS(d->why), SLICE_ARGS(d->raw));
    return true;
}

/* A reload came between the poller, who knew the domain, and the writer. */
static void what_is_none_when_the_writer_comes_to_it_is_kept(void **state)
{
    struct world *w = *state;
    char said[400] = "";
    struct err err;

    add(&w[A], SUPPRESS_BOUNCE, READER, "gone");
    w[B].domains[0].name[0] = 'x';
    (void)convey(&w[A], &w[B]);
    (void)convey(&w[A], &w[B]);
    w[B].domains[0].name[0] = 'm';
    assert_false(is_listed(&w[B], SUPPRESS_BOUNCE, READER));
    struct store_txn *t = store_begin_read(w[B].store, &err);
    assert_int_equal(deadletter_count(t), 1);
    deadletter_each(t, note_letter, said);
    store_end_read(t);
    assert_non_null(strstr(said, "not configured here | {\"postern-changes\":1,\"node\":"));
}

int main(void)
{
#define WITH_TWO(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_TWO(a_change_waits_until_it_is_told_and_its_stamp_is_never_given_again),
        WITH_TWO(nothing_is_kept_where_nobody_is_told),
        WITH_TWO(a_copy_goes_on_under_a_number_of_its_own_and_hears_its_former_self),
        WITH_TWO(a_change_here_is_later_than_any_that_was_heard),
        WITH_TWO(what_one_puts_on_or_takes_off_the_other_has),
        WITH_TWO(what_was_listed_before_changes_were_told_can_be_taken_off_elsewhere),
        WITH_TWO(an_event_does_not_put_back_what_was_taken_off_after_it),
        WITH_TWO(the_same_lists_come_out_in_every_order),
        WITH_TWO(both_have_the_events_that_a_postern_makes),
        WITH_TWO(whoever_is_not_told_of_makes_them_alone),
        WITH_TWO(a_pause_holds_the_newsletter_everywhere_until_it_is_resumed),
        WITH_TWO(what_is_cancelled_stays_so_where_it_comes_later),
        WITH_TWO(a_domain_is_paused_everywhere),
        WITH_TWO(what_is_none_when_the_writer_comes_to_it_is_kept),
        WITH_TWO(what_no_postern_tells_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
