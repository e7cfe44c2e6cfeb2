/*
 * Two machines with event queues of their own, and a reader that moves between them: two days of
 * virtual time with many seeds. Events come to each machine up to ten minutes late, in any order, and
 * for 40 minutes a machine reads its queue not at all; so an event that one has stored late, and given
 * a later time for it, the other has stored in time.
 *
 * The rule (docs/scaling.md): a reader that moves begins D before its cursor, where D is longer than
 * it took any event from SES's time into a store. Then it sees each event at least once, and knows a
 * repeat by its id, which is the same at every machine. Without the step back it loses events.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "store/events.h"
#include "store/internal.h"
#include "tests/unit/store/state_dir.h"

#define START_US UINT64_C(1764000000123456)
#define DOMAIN   SLICE("mg.example.com")
#define S        UINT64_C(1000000)
#define MINUTE   (60 * S)
#define HOUR     (60 * MINUTE)
#define STEP_US  S /* an answer covers events up to a second ago */
enum { SEEDS = 5, EVENTS = 1500, MACHINES = 2 };

struct letter {
    uint64_t visible_us;
    uint32_t serial;
};

struct machine {
    char dir[64];
    struct store *store;
    struct letter letters[EVENTS];
    size_t next;
    uint64_t away_from_us, away_until_us; /* reads no queue */
};

struct habit {
    uint64_t step_back_us;
    uint64_t stays_us;   /* about so long at a machine */
    bool keeps_its_link; /* follows paging.next, which is a position, to the other machine */
};

struct world {
    const struct habit *habit;
    struct machine machines[MACHINES];
    struct event events[EVENTS];
    unsigned seen[EVENTS];
    char recipients[EVENTS][24];
    uint64_t now_us, cursor_us, moves_us;
    unsigned at;
    bool has_moved;
    bool has_place;
    struct event_position place; /* of the last event seen */
};

static uint64_t dice;

static uint64_t roll(uint64_t below)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return dice % below;
}

static int by_time(const void *a, const void *b)
{
    const struct letter *x = a, *y = b;

    return x->visible_us != y->visible_us ? (x->visible_us > y->visible_us ? 1 : -1)
                                          : (x->serial > y->serial) - (x->serial < y->serial);
}

static void happen(struct world *w)
{
    static const enum event_type types[] = {EVENT_DELIVERED, EVENT_OPENED, EVENT_FAILED};

    for (uint32_t i = 0; i < EVENTS; i++) {
        uint64_t at_us = START_US + HOUR + roll(46 * HOUR);
        (void)snprintf(w->recipients[i], sizeof w->recipients[i], "%u@example.net", i);
        w->events[i] = (struct event){.ses_us = at_us / 1000 * 1000,
                                      .type = types[roll(3)],
                                      .domain = DOMAIN,
                                      .recipient = slice_str(w->recipients[i]),
                                      .message_id = SLICE("m@mg.example.com")};
        event_make_id(&w->events[i], &w->events[i].recipient, 1);
        for (unsigned m = 0; m < MACHINES; m++)
            w->machines[m].letters[i] =
                (struct letter){at_us + (roll(10) < 7 ? roll(3 * S) : roll(10 * MINUTE)), i};
    }
    for (unsigned m = 0; m < MACHINES; m++)
        qsort(w->machines[m].letters, EVENTS, sizeof(struct letter), by_time);
}

static void machine_open(struct machine *m, unsigned number)
{
    struct err err = {0};

    (void)snprintf(m->dir, sizeof m->dir, "/tmp/postern-moving-XXXXXX");
    assert_non_null(mkdtemp(m->dir));
    m->store = store_open_sized(m->dir, STORE_WRITE, 32 << 20, &err);
    if (m->store == NULL)
        fail_msg("%s", err.text);
    assert_int_equal(mdb_env_set_flags(m->store->env, MDB_NOSYNC, 1), 0);
    m->away_from_us = START_US + (2 + 20 * number) * HOUR + roll(18 * HOUR);
    m->away_until_us = m->away_from_us + 40 * MINUTE;
}

static void machine_close(struct machine *m)
{
    store_close(m->store);
    state_dir_remove(m->dir);
}

static void store_what_has_come(struct world *w, struct machine *m)
{
    struct err err = {0};

    if (m->next == EVENTS || m->letters[m->next].visible_us > w->now_us ||
        (w->now_us >= m->away_from_us && w->now_us < m->away_until_us))
        return;
    struct store_txn *t = store_begin_write(m->store, &err);
    assert_non_null(t);
    for (; m->next < EVENTS && m->letters[m->next].visible_us <= w->now_us; m->next++) {
        struct event e = w->events[m->letters[m->next].serial];
        assert_int_equal(event_put(t, &e, w->now_us, &err), 1);
    }
    assert_int_equal(store_commit(t, &err), 0);
}

static void on_event(void *arg, const struct event *e)
{
    struct world *w = arg;
    struct slice number, rest;
    uint64_t serial;

    assert_true(slice_cut(e->recipient, '@', &number, &rest) && slice_to_u64(number, &serial) &&
                serial < EVENTS);
    assert_memory_equal(e->id, w->events[serial].id, EVENT_ID_BYTES); /* the same everywhere */
    w->seen[serial]++;
    w->has_place = true;
    w->place.timestamp_us = e->timestamp_us;
    memcpy(w->place.id, e->id, EVENT_ID_BYTES);
}

/* An answer: the watermark is where it ends, before it is given. */
static void read_all(struct world *w)
{
    struct machine *m = &w->machines[w->at];
    const struct slice domain = DOMAIN;
    struct event_query q = {.domains = &domain,
                            .domain_count = 1,
                            .from_us = w->cursor_us - (w->has_moved ? w->habit->step_back_us : 0),
                            .until_us = w->now_us - STEP_US,
                            .ascending = true,
                            .limit = EVENTS,
                            .visit = on_event,
                            .visit_arg = w};
    struct event_page page = {0};
    struct err err = {0};

    if (w->habit->keeps_its_link && w->has_place) {
        q.from_us = START_US;
        q.has_position = true;
        q.position = w->place;
    }
    w->has_moved = false;
    struct store_txn *t = store_begin_write(m->store, &err);
    assert_non_null(t);
    assert_int_equal(watermark_raise(t, DOMAIN, q.until_us, &err), 0);
    assert_int_equal(store_commit(t, &err), 0);
    t = store_begin_read(m->store, &err);
    assert_non_null(t);
    assert_int_equal(event_query_run(t, &q, &page, &err), 0);
    store_end_read(t);
    event_page_fini(&page);
    w->cursor_us = q.until_us;
}

static unsigned lost(uint64_t seed, const struct habit *habit)
{
    struct world *w = mem_zero(1, sizeof *w);
    unsigned unseen = 0;

    dice = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    w->habit = habit;
    w->now_us = START_US;
    w->cursor_us = START_US;
    for (unsigned m = 0; m < MACHINES; m++)
        machine_open(&w->machines[m], m);
    happen(w);
    w->moves_us = w->now_us + roll(2 * habit->stays_us);
    while (w->now_us < START_US + 50 * HOUR) {
        w->now_us += S + roll(2 * MINUTE);
        for (unsigned m = 0; m < MACHINES; m++)
            store_what_has_come(w, &w->machines[m]);
        if (w->now_us >= w->moves_us) {
            w->moves_us = w->now_us + roll(2 * habit->stays_us);
            w->at = (w->at + 1) % MACHINES;
            w->has_moved = true;
        }
        if (roll(2) == 0)
            read_all(w);
    }
    for (uint32_t i = 0; i < EVENTS; i++)
        unseen += w->seen[i] == 0;
    for (unsigned m = 0; m < MACHINES; m++)
        machine_close(&w->machines[m]);
    free(w);
    return unseen;
}

/* With any seed; the first that does is enough. */
static bool loses(const struct habit *habit)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        if (lost(seed, habit) > 0)
            return true;
    return false;
}

static void who_stays_sees_all(void **state)
{
    const struct habit habit = {.stays_us = 1000 * HOUR};

    (void)state;
    assert_false(loses(&habit));
}

/* 40 minutes away and ten late make 50. */
static void who_moves_and_steps_back_sees_all(void **state)
{
    const struct habit habit = {.stays_us = HOUR, .step_back_us = 55 * MINUTE};

    (void)state;
    assert_false(loses(&habit));
}

/* A load balancer that sends each request somewhere else is a reader that moves all the time. */
static void even_when_it_moves_with_each_request(void **state)
{
    const struct habit habit = {.stays_us = MINUTE, .step_back_us = 55 * MINUTE};

    (void)state;
    assert_false(loses(&habit));
}

static void who_moves_without_it_loses_events(void **state)
{
    const struct habit now_and_then = {.stays_us = HOUR}, always = {.stays_us = MINUTE};
    const struct habit too_short = {.stays_us = HOUR, .step_back_us = MINUTE};
    const struct habit by_link = {.stays_us = HOUR, .keeps_its_link = true};

    (void)state;
    assert_true(loses(&now_and_then));
    assert_true(loses(&always));
    assert_true(loses(&too_short));
    assert_true(loses(&by_link));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(who_stays_sees_all),
        cmocka_unit_test(who_moves_and_steps_back_sees_all),
        cmocka_unit_test(even_when_it_moves_with_each_request),
        cmocka_unit_test(who_moves_without_it_loses_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
