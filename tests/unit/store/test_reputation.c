/*
 * What a domain sent and what came back: by hour, over restarts, and whatever the clock did.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/clock.h"
#include "store/reputation.h"

#define DOMAIN SLICE("mg.example.com")

struct world {
    char dir[64];
    struct store *store;
    struct reputation *r;
};

static struct reputation *load(struct world *w)
{
    struct err err;
    struct store_txn *t = store_begin_read(w->store, &err);

    assert_non_null(t);
    struct reputation *r = reputation_open(t, &err);
    assert_non_null(r);
    store_end_read(t);
    return r;
}

static void store_it(struct world *w)
{
    struct err err;
    struct store_txn *t = store_begin_write(w->store, &err);

    assert_non_null(t);
    assert_int_equal(reputation_flush(w->r, t, &err), 0);
    assert_int_equal(store_commit(t, &err), 0);
    reputation_close(w->r);
    w->r = load(w);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct err err;

    (void)snprintf(w->dir, sizeof w->dir, "/tmp/postern-reputation-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->store = store_open(w->dir, STORE_WRITE, &err);
    assert_non_null(w->store);
    w->r = load(w);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    char command[128];

    reputation_close(w->r);
    store_close(w->store);
    (void)snprintf(command, sizeof command, "rm -rf %s", w->dir);
    assert_int_equal(system(command), 0);
    free(w);
    return 0;
}

static uint64_t sent_since(const struct world *w, uint64_t since_ms)
{
    return reputation_since(w->r, DOMAIN, since_ms).count[REPUTATION_SENT];
}

static void hours_add_up_and_outlive_a_restart(void **state)
{
    struct world *w = *state;
    uint64_t now = clock_wall_ms();

    reputation_add(w->r, DOMAIN, REPUTATION_SENT, 100, now - 30 * (uint64_t)HOUR_MS);
    reputation_add(w->r, DOMAIN, REPUTATION_SENT, 10, now - 2 * HOUR_MS);
    reputation_add(w->r, DOMAIN, REPUTATION_BOUNCED, 1, now);
    reputation_add(w->r, DOMAIN, REPUTATION_SENT, 5, now);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(sent_since(w, now - DAY_MS), 15);
        assert_int_equal(sent_since(w, 0), 115);
        assert_int_equal(reputation_since(w->r, DOMAIN, 0).count[REPUTATION_BOUNCED], 1);
        /* Ten leave the day 24 hours after their hour has ended, all fifteen a day from now. */
        uint64_t hour = now / HOUR_MS * HOUR_MS;
        assert_int_equal(reputation_frees_wall_ms(w->r, 10, now), hour - HOUR_MS + DAY_MS);
        assert_int_equal(reputation_frees_wall_ms(w->r, 11, now), hour + HOUR_MS + DAY_MS);
        assert_int_equal(reputation_frees_wall_ms(w->r, 16, now), 0);
        store_it(w);
    }
}

static void a_clock_that_was_ahead_spoils_nothing(void **state)
{
    struct world *w = *state;
    uint64_t now = clock_wall_ms();

    reputation_add(w->r, DOMAIN, REPUTATION_SENT, 7, now + 40 * (uint64_t)DAY_MS);
    assert_int_equal(reputation_first_wall_ms(w->r, DOMAIN), 0);
    reputation_add(w->r, DOMAIN, REPUTATION_SENT, 3, now);
    reputation_add(w->r, DOMAIN, REPUTATION_SENT, 2, now - 5 * HOUR_MS);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(sent_since(w, now - HOUR_MS), 3);
        assert_int_equal(sent_since(w, 0), 5);
        assert_in_range(reputation_first_wall_ms(w->r, DOMAIN), now - 6 * HOUR_MS,
                        now - 5 * HOUR_MS);
        store_it(w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(hours_add_up_and_outlive_a_restart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_clock_that_was_ahead_spoils_nothing, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
