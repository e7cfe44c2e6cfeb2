#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "sender/cuts.c"

enum { WINDOW_MS = 8000, STEP_MS = WINDOW_MS / CUTS_STRIKES_MAX, BYTES = 20000000, LEAST_MS = 30 };

static void it_is_over_after_the_window_while_ses_answers_others(void **unused)
{
    struct cuts *c = cuts_create(WINDOW_MS);
    uint64_t now = 1000;

    (void)unused;
    /* However often it is cut meanwhile: an eighth of the window has to lie between strikes. */
    for (unsigned strike = 1; strike < CUTS_STRIKES_MAX; strike++, now += STEP_MS)
        for (unsigned n = 0; n < 20; n++) {
            struct cuts_tally t = cuts_note(c, 1, BYTES, now + n, now + n);
            assert_int_equal(t.strikes, strike);
            assert_false(t.is_over);
        }
    struct cuts_tally t = cuts_note(c, 1, BYTES, now, now);
    assert_true(t.is_over);
    assert_int_equal(t.cuts, 20 * (CUTS_STRIKES_MAX - 1) + 1);
    assert_int_equal(t.first_mono_ms, 1000);
    cuts_destroy(c);
}

static void an_outage_is_one_strike_at_most(void **unused)
{
    struct cuts *c = cuts_create(WINDOW_MS);

    (void)unused;
    for (uint64_t now = 0; now < 100 * WINDOW_MS; now += STEP_MS)
        assert_int_equal(cuts_note(c, 1, BYTES, 7, now).strikes, 1);
    assert_int_equal(cuts_note(c, 1, BYTES, 8, 100 * WINDOW_MS).strikes, 2);
    cuts_destroy(c);
}

static void a_body_as_large_that_goes_through_ends_the_count(void **unused)
{
    struct cuts *c = cuts_create(WINDOW_MS);

    (void)unused;
    (void)cuts_note(c, 1, BYTES, 1, 0);
    (void)cuts_note(c, 2, BYTES, 1, 0);
    cuts_note_through(c, 1, BYTES - 1); /* a smaller one says nothing */
    assert_int_equal(cuts_note(c, 1, BYTES + 1, 2, STEP_MS).strikes, 2);
    cuts_note_through(c, 1, BYTES);
    assert_int_equal(cuts_note(c, 1, BYTES, 3, 2 * STEP_MS).strikes, 1);
    assert_int_equal(cuts_note(c, 2, BYTES, 3, 2 * STEP_MS).strikes, 2); /* another's count stays */
    cuts_note_through(c, 3, BYTES);
    cuts_destroy(c);
}

static void of_too_many_batches_the_stalest_is_forgotten(void **unused)
{
    struct cuts *c = cuts_create(WINDOW_MS);

    (void)unused;
    for (uint64_t batch = 0; batch < CUTS_BATCHES_MAX; batch++)
        (void)cuts_note(c, batch, BYTES, 0, batch);
    (void)cuts_note(c, 0, BYTES, 0, CUTS_BATCHES_MAX); /* cut again: batch 1 is the stalest */
    (void)cuts_note(c, CUTS_BATCHES_MAX, BYTES, 0, CUTS_BATCHES_MAX);
    assert_null(find(c, 1));
    assert_non_null(find(c, 0));
    assert_non_null(find(c, CUTS_BATCHES_MAX));
    assert_int_equal(c->count, CUTS_BATCHES_MAX);
    cuts_destroy(c);
}

static void pauses_grow_up_to_an_eighth_of_the_window(void **unused)
{
    struct cuts *c = cuts_create(WINDOW_MS);
    struct cuts_tally t = cuts_note(c, 1, BYTES, 1, 500);

    (void)unused;
    assert_int_equal(cuts_pause_ms(c, &t, LEAST_MS, 500), LEAST_MS);
    assert_int_equal(cuts_pause_ms(c, &t, LEAST_MS, 700), 100);
    assert_int_equal(cuts_pause_ms(c, &t, LEAST_MS, 500 + WINDOW_MS), STEP_MS);
    assert_int_equal(cuts_pause_ms(c, &t, WINDOW_MS, 500), STEP_MS);
    cuts_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_over_after_the_window_while_ses_answers_others),
        cmocka_unit_test(an_outage_is_one_strike_at_most),
        cmocka_unit_test(a_body_as_large_that_goes_through_ends_the_count),
        cmocka_unit_test(of_too_many_batches_the_stalest_is_forgotten),
        cmocka_unit_test(pauses_grow_up_to_an_eighth_of_the_window),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
