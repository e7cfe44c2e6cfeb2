/*
 * Three machines and a hundred thousand readers in virtual time (tests/sim/fleet.h), with many
 * seeds: nobody is missing and nobody gets it twice whatever happens to the machines; and each of the
 * four rules by which that holds is needed, for without it somebody gets it twice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/sanitized.h"
#include "tests/sim/agenda.c"
#include "tests/sim/fifo.c"
#include "tests/sim/fleet.c"

enum { SEEDS = IS_SANITIZED ? 1 : 6, SEEDS_TO_FAIL = 40 };

static struct fleet_options of_seed(uint64_t seed)
{
    return (struct fleet_options){
        .seed = seed,
        .nodes = 3,
        .recipients = 100000,
        .rate = 100,
        .intake_per_s = 22000,
        .events_milli = 2500,
        .calls_max = 300,
        .in_flight_max = 120000,
        .visibility_ms = 120000,
        .window_ms = 600000,
        .mean_s_between_troubles = 600,
        .lost_for_good = 100,
        .repeats = 50,
    };
}

static void nobody_is_missing_and_nobody_gets_it_twice(void **state)
{
    const char *more = getenv("POSTERN_SEEDS");
    uint64_t seeds = more != NULL ? strtoull(more, NULL, 10) : SEEDS;
    uint64_t troubles = 0, took_over = 0, late = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        struct fleet_options o = of_seed(seed);
        struct fleet_result r;
        fleet_run(&o, &r);
        if (r.missing != 0 || r.twice != 0 || !r.is_over)
            fail_msg("seed %llu: %llu missing, %llu twice, %s", (unsigned long long)seed,
                     (unsigned long long)r.missing, (unsigned long long)r.twice,
                     r.is_over ? "over" : "not over");
        troubles += r.troubles[0] + r.troubles[1] + r.troubles[2];
        took_over += r.took_over;
        late += r.late_requests;
    }
    assert_true(troubles >= 3 * seeds && took_over > 0 && late > 0);
}

/* Some seed shows it. */
static void assert_somebody_gets_it_twice(struct fleet_options o)
{
    struct fleet_result r;

    for (uint64_t seed = 1; seed <= SEEDS_TO_FAIL; seed++) {
        o.seed = seed;
        fleet_run(&o, &r);
        assert_int_equal(r.missing, 0);
        if (r.twice > 0)
            return;
    }
    fail_msg("nobody got it twice with %d seeds", SEEDS_TO_FAIL);
}

static void without_the_fence_somebody_gets_it_twice(void **state)
{
    struct fleet_options o = of_seed(0);

    (void)state;
    o.no_fence = true;
    o.mean_s_between_troubles = 200;
    assert_somebody_gets_it_twice(o);
}

static void without_the_doubt_window_somebody_gets_it_twice(void **state)
{
    struct fleet_options o = of_seed(0);

    (void)state;
    o.no_doubt = true;
    assert_somebody_gets_it_twice(o);
}

/* Events come minutes late: who reads a repeat at once does not know whom the first has reached. */
static void without_the_wait_before_deleting_a_repeat_is_sent_twice(void **state)
{
    struct fleet_options o = of_seed(0);

    (void)state;
    o.no_linger = true;
    o.intake_per_s = 150;
    o.repeats = 500;
    assert_somebody_gets_it_twice(o);
}

/* What waits on a line that is cut reaches SES when it is mended: later than a doubt's end, were it
 * not too old by then. */
static void were_requests_good_for_ever_a_mended_line_would_send_twice(void **state)
{
    struct fleet_options o = of_seed(0);

    (void)state;
    o.signs_for_ever = true;
    assert_somebody_gets_it_twice(o);
}

static void two_runs_of_one_seed_are_the_same(void **state)
{
    struct fleet_options o = of_seed(7);
    struct fleet_result one, other;

    (void)state;
    fleet_run(&o, &one);
    fleet_run(&o, &other);
    assert_memory_equal(&one, &other, sizeof one);
}

/* Alone at its rate, a machine uses it; and what a newsletter costs in requests is known. */
static void an_undisturbed_machine_keeps_ses_busy(void **state)
{
    struct fleet_options o = of_seed(1);
    struct fleet_result r;

    (void)state;
    o.nodes = 1;
    o.rate = 1000;
    o.repeats = o.mean_s_between_troubles = 0;
    fleet_run(&o, &r);
    assert_int_equal(r.missing + r.twice + r.refused, 0);
    assert_in_range(r.last_taken_ms, 100000, 105000);
    assert_int_equal(r.calls[FIFO_SEND], 200);
    assert_in_range(r.calls[FIFO_CHANGE], 100, 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_is_missing_and_nobody_gets_it_twice),
        cmocka_unit_test(without_the_fence_somebody_gets_it_twice),
        cmocka_unit_test(without_the_doubt_window_somebody_gets_it_twice),
        cmocka_unit_test(without_the_wait_before_deleting_a_repeat_is_sent_twice),
        cmocka_unit_test(were_requests_good_for_ever_a_mended_line_would_send_twice),
        cmocka_unit_test(two_runs_of_one_seed_are_the_same),
        cmocka_unit_test(an_undisturbed_machine_keeps_ses_busy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
