/* What doctor says of a buffer queue, by what SQS and the running Postern tell. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "doctor/judge.h"

#define NOW  UINT64_C(1720000000000)
#define HOUR UINT64_C(3600000)

static void depth_says(const struct judge_buffer_depth *d, enum finding_state state,
                       const char *words)
{
    struct finding f = {0};

    judge_buffer_depth(&f, d, NOW);
    assert_int_equal(f.state, state);
    assert_non_null(strstr(buf_cstr(&f.reason), words));
    assert_true((state == FINDING_OK) == (f.mend.len == 0));
    finding_fini(&f);
}

static void a_buffer_that_nobody_reads_fails_after_half_an_hour(void **unused)
{
    (void)unused;
    depth_says(&(struct judge_buffer_depth){.visible = 7, .in_flight = 2}, FINDING_OK,
               "7 wait, 2 in flight");
    depth_says(&(struct judge_buffer_depth){.visible = 7,
                                            .is_running = true,
                                            .grows_since_ms = NOW - HOUR / 3},
               FINDING_OK, "7 wait");
    depth_says(&(struct judge_buffer_depth){.visible = 7,
                                            .is_running = true,
                                            .grows_since_ms = NOW - HOUR},
               FINDING_FAIL, "has not shrunk for 60 min");
    /* What doctor sees now is newer than what Postern saw. */
    depth_says(&(struct judge_buffer_depth){.is_running = true, .grows_since_ms = NOW - HOUR},
               FINDING_OK, "0 wait");
}

static void a_machine_that_is_new_is_told_what_it_leaves(void **unused)
{
    (void)unused;
    depth_says(&(struct judge_buffer_depth){.visible = 7,
                                            .is_running = true,
                                            .grows_since_ms = NOW - HOUR,
                                            .joins_until_ms = NOW + 5 * HOUR,
                                            .returned = 3},
               FINDING_WARN, "left to other machines for 5 h more");
    depth_says(&(struct judge_buffer_depth){.is_running = true, .joins_until_ms = NOW + HOUR},
               FINDING_OK, "this machine is new");
    depth_says(
        &(struct judge_buffer_depth){.is_running = true, .joins_until_ms = NOW - 1, .returned = 3},
        FINDING_OK, "0 wait");
}

static void queue_says(const char *attributes, enum finding_state state, const char *words)
{
    struct finding f = {0};
    struct buf text = {0};

    buf_printf(&text, "{\"QueueUrl\":\"https://q/b.fifo\",\"Attributes\":{%s}}", attributes);
    cJSON *queue = json_parse(buf_slice(&text));
    assert_non_null(queue);
    judge_buffer(&f, queue, "b.fifo", 262144, "postern setup");
    assert_int_equal(f.state, state);
    assert_non_null(strstr(buf_cstr(&f.reason), words));
    finding_fini(&f);
    buf_fini(&text);
    json_free(queue);
}

#define FIFO "\"FifoQueue\":\"true\","
#define KEEP "\"MessageRetentionPeriod\":\"1209600\""

static void a_buffer_has_to_keep_all_that_is_put_on_it(void **unused)
{
    (void)unused;
    queue_says(FIFO KEEP, FINDING_OK, "FIFO");
    queue_says(FIFO KEEP ",\"MaximumMessageSize\":\"262144\"", FINDING_OK, "FIFO");
    queue_says(FIFO KEEP ",\"MaximumMessageSize\":\"262143\"", FINDING_FAIL, "262143 bytes");
    queue_says(KEEP, FINDING_FAIL, "no FIFO queue");
    queue_says(FIFO KEEP ",\"RedrivePolicy\":\"{}\"", FINDING_FAIL, "dead-letter queue");
    queue_says(FIFO "\"MessageRetentionPeriod\":\"345600\"", FINDING_WARN, "for 96 h");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_buffer_that_nobody_reads_fails_after_half_an_hour),
        cmocka_unit_test(a_machine_that_is_new_is_told_what_it_leaves),
        cmocka_unit_test(a_buffer_has_to_keep_all_that_is_put_on_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
