/*
 * tests/unit/store/world.h - a scheduler over a real store in a directory of its own, with one
 * sender, for the tests of what goes on between them. Included once by such a test.
 */
#ifndef TESTS_UNIT_STORE_WORLD_H
#define TESTS_UNIT_STORE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/mem.h"
#include "store/check.h"
#include "store/scheduler.h"

enum { SENDER_GAUGE = 1 };

struct world {
    char dir[64];
    struct config config;
    struct config_domain domains[2];
    struct child me;
    struct child_slot slot;
    struct store *store;
    struct scheduler *scheduler;
    uint64_t last_id;  /* of the batches that it was given */
    struct buf claims; /* of the last one */
};

static struct store_txn *begin(struct world *w)
{
    struct err err;
    struct store_txn *t = store_begin_write(w->store, &err);

    assert_non_null(t);
    return t;
}

static void say_problem(void *arg, struct slice words)
{
    (void)arg;
    print_error("%.*s\n", SLICE_ARGS(words));
}

/* After every step the store agrees with itself. */
static void commit(struct world *w, struct store_txn *t)
{
    struct check c = {.problem = say_problem};
    struct err err;

    assert_int_equal(scheduler_flush(w->scheduler, t, &err), 0);
    assert_int_equal(store_commit(t, &err), 0);
    t = store_begin_read(w->store, &err);
    assert_int_equal(store_check(t, &c, &err), 0);
    store_end_read(t);
    assert_int_equal(c.problems, 0);
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

static void world_open(struct world *w, uint64_t doubt_window_ms)
{
    struct err err;
    char path[128];
    bool believable;

    (void)snprintf(w->dir, sizeof w->dir, "/tmp/postern-test-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    (void)snprintf(path, sizeof path, "%s/started", w->dir);
    w->domains[0].name = mem_dup("mg.example.com", 15);
    w->domains[1].name = mem_dup("two.example", 12);
    static char none[] = "";
    w->config.queues.newsletter_buffer = w->config.queues.replication_topic = none;
    w->config.domains = w->domains;
    w->config.domain_count = 2;
    w->config.sender.doubt_window_ms = doubt_window_ms;
    w->config.sender.hold_ms = 60000;
    w->config.sender.on_doubt = ON_DOUBT_RESEND;
    w->me = (struct child){
        .config = &w->config,
        .gauges = gauges_create(NULL, &err),
        .started = started_open(path, &believable, &err),
        .started_believable = true,
        .slots = &w->slot,
        .slot_count = 1,
        .ring_epoch = 77,
    };
    assert_non_null(w->me.gauges);
    assert_non_null(w->me.started);
    w->slot = (struct child_slot){.role = ROLE_SENDER, .index = 0, .gauge = SENDER_GAUGE};
    w->me.gauges->bucket.per_s_milli = 1000000; /* as many leases as one likes */
    w->me.gauges->lives[SENDER_GAUGE].generation = 5;
    w->me.gauges->slots[SENDER_GAUGE].state = GAUGE_READY;
    w->store = store_open(w->dir, STORE_WRITE, &err);
    assert_non_null(w->store);
    reopen_scheduler(w);
}

static void world_close(struct world *w)
{
    char command[128];

    scheduler_close(w->scheduler);
    store_close(w->store);
    started_close(w->me.started);
    gauges_destroy(w->me.gauges);
    buf_fini(&w->claims);
    free(w->domains[0].name);
    free(w->domains[1].name);
    (void)snprintf(command, sizeof command, "rm -rf %s", w->dir);
    assert_int_equal(system(command), 0);
}

#endif
