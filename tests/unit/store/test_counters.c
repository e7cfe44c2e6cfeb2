/*
 * Counters against a recount: a model that keeps every event there is and counts them anew. Events
 * come in any order, again, late; transactions are given up; the store is closed and opened again.
 */
#include "store/counters.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "store/events.h"
#include "store/internal.h"
#include "tests/unit/store/state_dir.h"

enum { DOMAINS = 2, TAGS = 3, BATCHES = 4, READERS = 700, HOURS = 60, EVENTS_MOST = 20000 };
#define START_US UINT64_C(1764000000000000)
#define HOUR_US  UINT64_C(3600000000)

static const char *const domains[DOMAINS] = {"mg.example.com", "news.example.org"};
static const char *const tags[TAGS] = {"bulk-email", "Weekly", "a tag"};

/* An event as the model knows it. */
struct known {
    enum event_type type;
    enum event_severity severity;
    const char *reason;
    bool delayed;
    unsigned domain, tags, batch, reader; /* tags: bits; batch 0 = none */
    uint64_t timestamp_us;
    uint8_t id[EVENT_ID_BYTES];
    uint32_t n; /* `accepted` of a batch come in one */
};

struct world {
    char dir[64];
    struct store *store;
    struct store_txn *t;
    struct known *events;
    size_t count, committed;
    uint64_t seed;
    struct err err;
};

static unsigned any(struct world *w, unsigned n)
{
    w->seed ^= w->seed << 13;
    w->seed ^= w->seed >> 7;
    w->seed ^= w->seed << 17;
    return (unsigned)(w->seed % n);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);

    (void)snprintf(w->dir, sizeof w->dir, "/tmp/postern-counters-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->store = store_open(w->dir, STORE_WRITE, &w->err);
    assert_non_null(w->store);
    w->t = store_begin_write(w->store, &w->err);
    w->events = mem_zero(EVENTS_MOST, sizeof *w->events);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    store_close(w->store);
    state_dir_remove(w->dir);
    free(w->events);
    free(w);
    return 0;
}

/* -------- putting -------- */

static void invent(struct world *w, struct known *k)
{
    static const char *const reasons[] = {"bounce", "suppress-bounce", "suppress-complaint",
                                          "generic", "espblock"};

    *k = (struct known){.type = (enum event_type)(1 + any(w, EVENT_TYPE_END - 1)),
                        .domain = any(w, DOMAINS),
                        .tags = any(w, 1 << TAGS),
                        .batch = any(w, BATCHES + 1),
                        .reader = any(w, READERS),
                        .n = 1};
    if (any(w, 2) == 0)
        k->type = any(w, 2) == 0 ? EVENT_OPENED : EVENT_CLICKED;
    if (k->type == EVENT_FAILED) {
        k->severity = any(w, 2) == 0 ? SEVERITY_PERMANENT : SEVERITY_TEMPORARY;
        k->reason = reasons[any(w, 5)];
        k->delayed = k->severity == SEVERITY_PERMANENT && any(w, 5) == 0;
    }
}

static void put(struct world *w, struct known *k, uint64_t ses_us, unsigned serial)
{
    struct slice own_tags[TAGS];
    char address[40], mail[40], unlike[16];
    struct event e = {.type = k->type,
                      .severity = k->severity,
                      .domain = slice_str(domains[k->domain]),
                      .reason = slice_str(k->reason),
                      .delayed_bounce = k->delayed,
                      .ses_us = ses_us,
                      .tags = own_tags,
                      .batch_id = k->batch,
                      .batch_recipient = k->reader};

    for (unsigned i = 0; i < TAGS; i++)
        if ((k->tags >> i & 1) != 0)
            own_tags[e.tag_count++] = slice_str(tags[i]);
    (void)snprintf(address, sizeof address, "%s%u@example.net", any(w, 2) == 0 ? "R" : "r",
                   k->reader);
    (void)snprintf(mail, sizeof mail, "mail-%u", k->reader % 50);
    (void)snprintf(unlike, sizeof unlike, "%u", serial);
    e.recipient = slice_str(address);
    e.message_id = slice_str(mail);
    struct slice parts[] = {slice_str(unlike)};
    event_make_id(&e, parts, 1);
    memcpy(k->id, e.id, sizeof k->id);
    assert_int_equal(event_put(w->t, &e, START_US + HOURS * HOUR_US, &w->err), 1);
    k->timestamp_us = e.timestamp_us;
    assert_int_equal(event_put(w->t, &e, START_US + HOURS * HOUR_US, &w->err), 0); /* a repeat */
    w->events[w->count++] = *k;
}

static void put_accepted(struct world *w, unsigned batch)
{
    enum { COUNT = 150 };
    struct recipient list[COUNT];
    char addresses[COUNT][40];
    struct slice own_tags[] = {slice_str(tags[0])};
    struct message_head head = {.domain = slice_str(domains[0]),
                                .message_id = SLICE("b@mg.example.com"),
                                .from = SLICE("a@mg.example.com"),
                                .batch_mode = true,
                                .tags = own_tags,
                                .tag_count = 1,
                                .accepted_wall_us = START_US + any(w, HOURS) * HOUR_US,
                                .recipient_count = COUNT};
    struct known k = {.type = EVENT_ACCEPTED, .tags = 1, .batch = batch, .n = COUNT};

    for (unsigned i = 0; i < COUNT; i++) {
        (void)snprintf(addresses[i], sizeof addresses[i], "r%u@example.net", i);
        list[i] = (struct recipient){.address = slice_str(addresses[i])};
    }
    assert_int_equal(
        event_put_accepted(w->t, &head, batch, 0, list, COUNT, START_US + HOURS * HOUR_US, &w->err),
        0);
    k.timestamp_us = head.accepted_wall_us + 1; /* the hour is what counts */
    w->events[w->count++] = k;
}

/* -------- the recount -------- */

/* Was this one the first open (or click) of its reader? Of those that are there, the one put first.
 */
static bool is_first(const struct world *w, size_t at)
{
    const struct known *k = &w->events[at];

    for (size_t i = 0; i < at; i++) {
        const struct known *o = &w->events[i];
        if (o->type != k->type || o->batch != k->batch || o->reader != k->reader)
            continue;
        if (k->batch != 0 || o->domain == k->domain)
            return false;
    }
    return true;
}

static void count_one(const struct world *w, size_t at, uint64_t count[COUNT_KINDS])
{
    const struct known *k = &w->events[at];
    const char *reason = k->reason == NULL ? "" : k->reason;

    switch (k->type) {
    case EVENT_ACCEPTED:
        count[COUNT_ACCEPTED] += k->n;
        break;
    case EVENT_REJECTED:
        count[COUNT_REJECTED]++;
        break;
    case EVENT_DELIVERED:
        count[COUNT_DELIVERED]++;
        break;
    case EVENT_FAILED:
        if (k->severity == SEVERITY_TEMPORARY) {
            count[COUNT_FAILED_TEMPORARY]++;
            count[COUNT_TEMPORARY_ESPBLOCK] += strcmp(reason, "espblock") == 0;
            break;
        }
        count[COUNT_FAILED_PERMANENT]++;
        if (k->delayed)
            count[COUNT_PERMANENT_DELAYED_BOUNCE]++;
        else if (strcmp(reason, "bounce") == 0)
            count[COUNT_PERMANENT_BOUNCE]++;
        else if (strcmp(reason, "suppress-bounce") == 0)
            count[COUNT_PERMANENT_SUPPRESS_BOUNCE]++;
        else if (strcmp(reason, "suppress-complaint") == 0)
            count[COUNT_PERMANENT_SUPPRESS_COMPLAINT]++;
        break;
    case EVENT_OPENED:
        count[COUNT_OPENED]++;
        count[COUNT_OPENED_UNIQUE] += is_first(w, at);
        break;
    case EVENT_CLICKED:
        count[COUNT_CLICKED]++;
        count[COUNT_CLICKED_UNIQUE] += is_first(w, at);
        break;
    case EVENT_UNSUBSCRIBED:
        count[COUNT_UNSUBSCRIBED]++;
        break;
    case EVENT_COMPLAINED:
        count[COUNT_COMPLAINED]++;
        break;
    case EVENT_STORED:
        count[COUNT_STORED]++;
        break;
    case EVENT_TYPE_END:
        break;
    }
}

static bool is_counted(const struct known *k, const struct counter_query *q, int tag)
{
    switch (q->scope) {
    case COUNTER_DOMAIN:
        return slice_eq(q->domain, slice_str(domains[k->domain]));
    case COUNTER_TAG:
        return slice_eq(q->domain, slice_str(domains[k->domain])) && (k->tags >> tag & 1) != 0;
    case COUNTER_BATCH:
        return k->batch == q->batch_id;
    }
    return false;
}

static void compare(struct world *w, struct counter_query q, int tag)
{
    struct counter_step *steps;
    uint64_t unit_us = q.resolution == COUNTER_DAY ? 24 * HOUR_US : HOUR_US;
    int n = counters_read(w->t, &q, &steps, &w->err);

    assert_true(n > 0);
    for (size_t i = 0; i < w->count; i++) {
        const struct known *k = &w->events[i];
        uint64_t count[COUNT_KINDS] = {0};
        if (!is_counted(k, &q, tag) || k->timestamp_us < steps[0].start_us)
            continue;
        uint64_t step = (k->timestamp_us - steps[0].start_us) / unit_us;
        if (step >= (uint64_t)n)
            continue;
        count_one(w, i, count);
        for (int c = 0; c < COUNT_KINDS; c++)
            steps[step].count[c] -= count[c];
    }
    for (int i = 0; i < n; i++)
        for (int c = 0; c < COUNT_KINDS; c++)
            if (steps[i].count[c] != 0)
                fail_msg("scope %d tag %d batch %llu step %d: %s is off by %lld", q.scope, tag,
                         (unsigned long long)q.batch_id, i, count_kind_name((enum count_kind)c),
                         (long long)steps[i].count[c]);
    free(steps);
}

static void compare_all(struct world *w)
{
    for (unsigned i = 0; i < 6; i++) {
        unsigned first = any(w, HOURS), len = any(w, HOURS);
        struct counter_query q = {.from_us = START_US + first * HOUR_US,
                                  .until_us = START_US + (first + len) * HOUR_US,
                                  .resolution = i % 2 == 0 ? COUNTER_HOUR : COUNTER_DAY};
        for (unsigned d = 0; d < DOMAINS; d++) {
            q.scope = COUNTER_DOMAIN;
            q.domain = slice_str(domains[d]);
            compare(w, q, 0);
            q.scope = COUNTER_TAG;
            for (int tag = 0; tag < TAGS; tag++) {
                q.tag = tag == 1 ? SLICE("WEEKLY") : slice_str(tags[tag]);
                compare(w, q, tag);
            }
        }
        q.scope = COUNTER_BATCH;
        for (q.batch_id = 1; q.batch_id <= BATCHES; q.batch_id++)
            compare(w, q, 0);
    }
}

static void restart(struct world *w)
{
    store_close(w->store);
    w->store = store_open(w->dir, STORE_WRITE, &w->err);
    assert_non_null(w->store);
    w->t = store_begin_write(w->store, &w->err);
    w->count = w->committed;
}

static void they_equal_a_recount_at_any_time(void **state)
{
    struct world *w = *state;
    bool accepted[BATCHES + 1] = {false};

    w->seed = 88172645463325252u;
    for (unsigned serial = 0; serial < 4000; serial++) {
        struct known k;
        invent(w, &k);
        put(w, &k, START_US + any(w, HOURS) * HOUR_US + any(w, 3599) * UINT64_C(1000000) + 1007,
            serial);
        switch (any(w, 40)) {
        case 0: {
            unsigned batch = 1 + any(w, BATCHES);
            if (!accepted[batch]) {
                put_accepted(w, batch);
                accepted[batch] = true;
            }
            assert_int_equal(store_commit(w->t, &w->err), 0);
            w->committed = w->count;
            w->t = store_begin_write(w->store, &w->err);
            compare_all(w);
            break;
        }
        case 1:
            store_abort(w->t);
            w->count = w->committed;
            w->t = store_begin_write(w->store, &w->err);
            break;
        case 2:
            if (any(w, 5) == 0) /* with the transaction open: as a kill does */
                restart(w);
            break;
        default:
            break;
        }
    }
    assert_int_equal(store_commit(w->t, &w->err), 0);
    w->committed = w->count;
    w->t = store_begin_write(w->store, &w->err);
    compare_all(w);
    assert_true(w->count > 1000);
}

struct names {
    char text[200];
    unsigned most;
};

static bool name(void *arg, const struct tag_seen *seen)
{
    struct names *n = arg;

    (void)snprintf(n->text + strlen(n->text), sizeof n->text - strlen(n->text), "%.*s,",
                   SLICE_ARGS(seen->tag));
    return --n->most > 0;
}

static void expect_tags(struct world *w, const char *prefix, const char *past, bool backwards,
                        unsigned most, const char *want)
{
    struct names n = {.most = most};

    tags_each(w->t, slice_str(domains[0]), slice_str(prefix), slice_str(past), backwards, name, &n);
    assert_string_equal(n.text, want);
}

static void tags_are_listed_with_their_first_and_last_event(void **state)
{
    struct world *w = *state;
    struct tag_seen seen;

    w->seed = 1;
    for (unsigned i = 0; i < 3; i++) {
        struct known k = {.type = EVENT_DELIVERED, .tags = 7, .reader = i, .n = 1};
        put(w, &k, START_US + (5 - i) * HOUR_US + 1007, i);
    }
    assert_int_equal(store_commit(w->t, &w->err), 0);
    w->t = store_begin_write(w->store, &w->err);
    expect_tags(w, "", "", false, 9, "a tag,bulk-email,Weekly,");
    expect_tags(w, "", "", true, 9, "Weekly,bulk-email,a tag,");
    expect_tags(w, "", "A TAG", false, 1, "bulk-email,");
    expect_tags(w, "", "weekly", true, 9, "bulk-email,a tag,");
    expect_tags(w, "BULK", "", false, 9, "bulk-email,");
    expect_tags(w, "bulk", "", true, 9, "bulk-email,");
    expect_tags(w, "x", "", false, 9, "");
    assert_true(tag_get(w->t, slice_str(domains[0]), SLICE("WEEKLY"), &seen));
    assert_int_equal(seen.first_us, START_US + 3 * HOUR_US + 1007);
    assert_int_equal(seen.last_us, START_US + 5 * HOUR_US + 1007);
    assert_false(tag_get(w->t, slice_str(domains[1]), SLICE("weekly"), &seen));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(they_equal_a_recount_at_any_time),
        TEST(tags_are_listed_with_their_first_and_last_event),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
