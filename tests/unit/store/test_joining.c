/* Which messages of the buffer a machine takes whose event queues are young. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/joining.c"

#define DAY (24 * UINT64_C(3600000))

enum { MINUTE = 60 * 1000, HOUR = 60 * MINUTE };

#define MADE UINT64_C(1720000000000) /* its event queues were, 0x66851900 in seconds */
#define OLD  MADE - 30 * UINT64_C(24) * HOUR

static const struct joining late = {.events_wall_ms = MADE, .buffer_wall_ms = OLD, .for_ms = DAY};
static const struct joining first = {
    .events_wall_ms = MADE, .buffer_wall_ms = MADE - 5 * MINUTE, .for_ms = DAY};

static bool takes(const struct joining *j, uint64_t sent_ms, const char *email_id, uint64_t now_ms)
{
    return joining_may_take(j, sent_ms, slice_str(email_id), now_ms);
}

static void a_new_machine_leaves_what_was_sent_before_it_could_hear(void **unused)
{
    (void)unused;
    assert_false(takes(&late, MADE - HOUR, "weekly", MADE + HOUR));
    assert_false(takes(&late, MADE + 4 * MINUTE, "weekly", MADE + HOUR));
    assert_true(takes(&late, MADE + 5 * MINUTE, "weekly", MADE + HOUR));
    assert_false(takes(&late, 0, "weekly", MADE + HOUR));
}

static void a_newsletter_is_as_old_as_its_id_whenever_it_was_posted_again(void **unused)
{
    (void)unused;
    /* An hour before the queues were made, and an hour after; posted after both. */
    assert_false(takes(&late, MADE + 2 * HOUR, "66850af0aaaaaaaaaaaaaaaa", MADE + 3 * HOUR));
    assert_true(takes(&late, MADE + 2 * HOUR, "66852710aaaaaaaaaaaaaaaa", MADE + 3 * HOUR));
    /* Its maker's clock may be ahead: it is not younger than its message. */
    assert_false(takes(&late, MADE - HOUR, "ffffffffaaaaaaaaaaaaaaaa", MADE + HOUR));
    /* No ObjectId: the message's time counts. */
    assert_true(takes(&late, MADE + 2 * HOUR, "66850af0aaaaaaaaaaaaaaax", MADE + 3 * HOUR));
    assert_true(takes(&late, MADE + 2 * HOUR, "66850af0", MADE + 3 * HOUR));
    assert_true(takes(&late, MADE + 2 * HOUR, "", MADE + 3 * HOUR));
}

static void after_a_day_it_takes_everything(void **unused)
{
    (void)unused;
    assert_int_equal(joining_until_ms(&late, MADE + DAY - HOUR), MADE + DAY);
    assert_false(takes(&late, OLD, "weekly", MADE + DAY - 1));
    assert_true(takes(&late, OLD, "weekly", MADE + DAY));
    assert_int_equal(joining_until_ms(&late, MADE + DAY), 0);
    /* And at once where it is told to. */
    const struct joining told = {.events_wall_ms = MADE, .buffer_wall_ms = OLD};
    assert_true(takes(&told, OLD, "weekly", MADE + 1));
}

static void the_first_machines_are_not_new(void **unused)
{
    (void)unused;
    assert_int_equal(joining_until_ms(&first, MADE + HOUR), 0);
    /* A newsletter of last month, sent now: nothing of it went out over a buffer. */
    assert_true(takes(&first, MADE + MINUTE, "60000000aaaaaaaaaaaaaaaa", MADE + HOUR));
    /* Between the buffer's making and its queues' another may have been at work. */
    assert_false(takes(&first, MADE - MINUTE, "weekly", MADE + HOUR));
    assert_true(takes(&first, 0, "weekly", MADE + HOUR));
}

static void where_nobody_tells_nothing_is_left(void **unused)
{
    const struct joining untold = {.events_wall_ms = 1, .buffer_wall_ms = 1, .for_ms = DAY},
                         half = {.events_wall_ms = MADE, .buffer_wall_ms = 1, .for_ms = DAY};

    (void)unused;
    assert_true(takes(&untold, OLD, "weekly", MADE));
    assert_true(takes(&half, MADE + 1, "60000000aaaaaaaaaaaaaaaa", MADE + HOUR));
    assert_int_equal(joining_until_ms(&half, MADE + HOUR), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_new_machine_leaves_what_was_sent_before_it_could_hear),
        cmocka_unit_test(a_newsletter_is_as_old_as_its_id_whenever_it_was_posted_again),
        cmocka_unit_test(after_a_day_it_takes_everything),
        cmocka_unit_test(the_first_machines_are_not_new),
        cmocka_unit_test(where_nobody_tells_nothing_is_left),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
