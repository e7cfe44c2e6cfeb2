/*
 * Until when a queue has been heard, whatever the order in which SQS answers; how many polls it gets;
 * what is deleted when. SQS is a seam: the
 * test answers each call itself. The clocks are the test's too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* NOLINTNEXTLINE(bugprone-suspicious-include): this module's clocks are the test's */
#define clock_wall_ms test_wall_ms
#define clock_mono_ms test_mono_ms
static uint64_t time_ms = 1000000;
uint64_t test_wall_ms(void);
uint64_t test_mono_ms(void);
#include "poller/queue.c"

uint64_t test_wall_ms(void)
{
    return time_ms;
}

uint64_t test_mono_ms(void)
{
    return time_ms;
}

enum { RECEIVES = 2, VISIBILITY_S = 20, STORED = 1 << 20 };

static struct {
    struct aws_request polls[64], deletes[64];
    unsigned poll_count, delete_count;
    bool room;
    uint64_t taken; /* the ring position behind the last record */
} seam;

void aws_call(struct aws_client *c, const struct aws_request *request)
{
    (void)c;
    if (strstr(request->target, "Receive") != NULL)
        seam.polls[seam.poll_count++] = *request;
    else
        seam.deletes[seam.delete_count++] = *request;
}

static int take(void *arg, struct slice url, struct slice body, bool intact, struct slice id,
                uint64_t *end)
{
    (void)arg, (void)url, (void)body, (void)intact, (void)id;
    *end = ++seam.taken;
    return seam.room ? 1 : 0;
}

static struct queue *start_with(unsigned receives, unsigned polls)
{
    seam.poll_count = seam.delete_count = 0;
    seam.room = true;
    seam.taken = 0;
    time_ms = 1000000;
    struct queue *q = queue_open(NULL, NULL, "https://q", receives, VISIBILITY_S, take, NULL);
    queue_advance(q, 1);
    assert_int_equal(seam.poll_count, polls);
    return q;
}

static struct queue *start(void)
{
    return start_with(RECEIVES, RECEIVES);
}

static void answer(unsigned poll, const char *body)
{
    const struct aws_response a = {
        .fate = AWS_ANSWERED, .status = 200, .body = slice_str(body), .error_text = SLICE("")};

    seam.polls[poll].done(seam.polls[poll].arg, &a);
}

static void lose(unsigned poll)
{
    const struct aws_response a = {.fate = AWS_UNKNOWN, .error_text = SLICE("reset")};

    seam.polls[poll].done(seam.polls[poll].arg, &a);
}

/* A message that had waited so long in the queue when it was handed out. */
static void answer_with_message(unsigned poll, uint64_t waited_ms)
{
    char body[300];

    (void)snprintf(body, sizeof body,
                   "{\"Messages\":[{\"MessageId\":\"m\",\"ReceiptHandle\":\"h\",\"Body\":\"b\","
                   "\"Attributes\":{\"SentTimestamp\":\"5000\","
                   "\"ApproximateFirstReceiveTimestamp\":\"%llu\"}}]}",
                   (unsigned long long)(5000 + waited_ms));
    answer(poll, body);
}

static void silence_counts_up_to_the_beginning_of_its_request(void **unused)
{
    struct queue *q = start();

    (void)unused;
    uint64_t began_ms = time_ms;
    time_ms += 5000;
    answer(0, "{}");
    answer(1, "{}");
    assert_int_equal(queue_heard_wall_ms(q, STORED), began_ms);
    began_ms = time_ms;
    time_ms += 5000;
    answer(2, "{}");
    answer(3, "{\"Messages\":[]}");
    assert_int_equal(queue_heard_wall_ms(q, STORED), began_ms);
    queue_close(q);
}

/* Poll 1 was given a message that had waited long; poll 0 did not see it for that reason. */
static void silence_beside_an_unanswered_poll_waits_for_its_answer(void **unused)
{
    struct queue *q = start();

    (void)unused;
    uint64_t began_ms = time_ms;
    time_ms += 5000;
    answer(0, "{}");
    assert_int_equal(queue_heard_wall_ms(q, STORED), 0);
    time_ms += 1000;
    uint64_t sent_ms = time_ms - 60000;
    seam.room = false;
    answer_with_message(1, 60000);
    assert_int_equal(queue_heard_wall_ms(q, STORED), sent_ms);
    seam.room = true;
    queue_advance(q, 1);
    assert_int_equal(queue_heard_wall_ms(q, 0), sent_ms); /* taken, not stored */
    assert_int_equal(queue_heard_wall_ms(q, STORED), began_ms);
    queue_close(q);
}

/* Polls that begin after the empty answer cannot carry what it means. */
static void silence_does_not_wait_for_later_polls(void **unused)
{
    struct queue *q = start();

    (void)unused;
    uint64_t began_ms = time_ms;
    time_ms += 2000;
    answer(0, "{}"); /* poll 2 begins */
    time_ms += 2000;
    answer(2, "{}"); /* poll 3 begins: 1 and 3 are under way */
    assert_int_equal(queue_heard_wall_ms(q, STORED), 0);
    time_ms += 2000;
    answer(1, "{}"); /* poll 0's and 2's silences waited for this one alone */
    assert_int_equal(queue_heard_wall_ms(q, STORED), began_ms + 2000);
    queue_close(q);
}

static void
a_lost_answer_takes_the_silence_with_it_and_all_that_began_before_its_messages_return(void **unused)
{
    struct queue *q = start();

    (void)unused;
    answer(0, "{}");
    lose(1); /* it may have carried a message: out of sight for VISIBILITY_S */
    assert_int_equal(queue_heard_wall_ms(q, STORED), 0);
    time_ms += (VISIBILITY_S + 1) * 1000; /* not over yet: this one began in time */
    uint64_t polls = seam.poll_count;
    queue_advance(q, 1);
    assert_int_equal(seam.poll_count, polls + 1);
    time_ms += 5000;
    answer(2, "{}");
    answer((unsigned)polls, "{}");
    assert_int_equal(queue_heard_wall_ms(q, STORED), 0);
    uint64_t began_ms = time_ms;
    time_ms += 1000;
    for (unsigned i = (unsigned)polls + 1, end = seam.poll_count; i < end; i++)
        answer(i, "{}");
    assert_int_equal(queue_heard_wall_ms(q, STORED), began_ms);
    queue_close(q);
}

/* What is out of sight comes back behind the backlog: that all of it was read that was sent as long
 * ago as the backlog's oldest, two periods long, says nothing of it. */
static void what_a_lost_answer_carried_is_heard_behind_the_backlog(void **unused)
{
    const uint64_t period_ms = (VISIBILITY_S + 2) * 1000;
    struct queue *q = start_with(1, 1);

    (void)unused;
    lose(0);
    uint64_t back_ms = time_ms + period_ms;
    for (int i = 0; i < 4; i++) {
        time_ms += period_ms;
        queue_advance(q, 1);
        answer_with_message(seam.poll_count - 1, 10 * period_ms);
        assert_int_equal(queue_heard_wall_ms(q, STORED), 0);
    }
    for (int i = 0; i < 3; i++) {
        time_ms += period_ms;
        answer_with_message(seam.poll_count - 1, 1000);
    }
    assert_true(queue_heard_wall_ms(q, STORED) >= back_ms);
    queue_close(q);
}

static void what_expires_unstored_is_not_heard_though_silence_was_heard_later(void **unused)
{
    struct queue *q = start();

    (void)unused;
    time_ms += 5000;
    answer(0, "{}");
    seam.room = false;
    uint64_t sent_ms = time_ms - 60000;
    answer_with_message(1, 60000);
    time_ms += VISIBILITY_S * 1000;
    queue_advance(q, 1);
    assert_false(queue_has_held(q));
    assert_true(queue_heard_wall_ms(q, STORED) <= sent_ms);
    queue_close(q);
}

static void a_short_visibility_means_short_polls(void **unused)
{
    struct queue *q = start();

    (void)unused;
    assert_true(slice_find(seam.polls[0].body, SLICE("\"WaitTimeSeconds\":5,")) != SIZE_MAX);
    assert_int_equal(seam.polls[0].timeout_ms, 15000);
    queue_close(q);
    assert_int_equal(wait_s(120), QUEUE_WAIT_S);
    assert_int_equal(wait_s(1), 1);
}

/* So many polls are in flight, of which `answered` began first. */
static void assert_in_flight(unsigned answered, unsigned polls)
{
    assert_int_equal(seam.poll_count - answered, polls);
}

static void a_busy_queue_gets_all_polls_and_a_silent_one_two(void **unused)
{
    struct queue *q = start_with(8, 2);
    unsigned answered = 0;

    (void)unused;
    answer_with_message(answered++, 10);
    assert_in_flight(answered, 4);
    answer_with_message(answered++, 10);
    assert_in_flight(answered, 8);
    time_ms += BUSY_WITHIN_MS - 1;
    answer_with_message(answered++, 10);
    assert_in_flight(answered, 8); /* no more than configured */
    time_ms += BUSY_WITHIN_MS;
    for (unsigned polls = 8; polls > 2;) { /* they had to wait: fewer are enough */
        answer_with_message(answered++, 10);
        assert_in_flight(answered, --polls);
    }
    answer_with_message(answered++, 10);
    assert_in_flight(answered, 2);
    time_ms += 5000;
    for (unsigned i = 0; i < 6; i++) {
        answer(answered++, "{}");
        assert_in_flight(answered, 2);
    }
    answer_with_message(answered++, 10); /* began just now: there is more */
    assert_in_flight(answered, 4);
    answer(answered++, "{}");
    answer(answered++, "{}");
    assert_in_flight(answered, 2);
    queue_close(q);
    queue_close(start_with(1, 1));
}

static void answer_with_messages(unsigned poll, unsigned count)
{
    struct buf body = {0};

    for (unsigned i = 0; i < count; i++)
        buf_printf(&body, "%s{\"MessageId\":\"m\",\"ReceiptHandle\":\"h%u\",\"Body\":\"b\"}",
                   i == 0 ? "{\"Messages\":[" : ",", (unsigned)seam.taken + i + 1);
    buf_add_str(&body, "]}");
    answer(poll, buf_cstr(&body));
    buf_fini(&body);
}

/* Message number n has its record at ring position n and the handle "h<n>". */
static void assert_deletes(unsigned call, unsigned from, unsigned until)
{
    char handle[24];

    for (unsigned n = from - 1; n <= until + 1; n++) {
        (void)snprintf(handle, sizeof handle, "\"h%u\"", n);
        assert_int_equal(slice_find(seam.deletes[call].body, slice_str(handle)) != SIZE_MAX,
                         n >= from && n <= until);
    }
}

static void answer_delete(unsigned call, const char *body)
{
    const struct aws_response a = {.fate = AWS_ANSWERED, .status = 200, .body = slice_str(body)};

    seam.deletes[call].done(seam.deletes[call].arg, &a);
}

static void only_what_is_committed_is_deleted_ten_at_a_time(void **unused)
{
    struct queue *q = start();

    (void)unused;
    for (unsigned i = 0; i < 3; i++)
        answer_with_messages(i, 10);
    queue_advance(q, 9);
    assert_int_equal(seam.delete_count, 0); /* nine of ten wait for more */
    queue_advance(q, 23);
    assert_int_equal(seam.delete_count, 2);
    assert_deletes(0, 1, 10);
    assert_deletes(1, 11, 20);
    time_ms += QUEUE_DELETE_AFTER_MS;
    queue_advance(q, 23);
    assert_int_equal(seam.delete_count, 3);
    assert_deletes(2, 21, 23);
    queue_advance(q, 23);
    assert_int_equal(seam.delete_count, 3); /* under way: not again */

    /* SQS has not deleted entry 1 of the second call: it is tried again, with those that follow. */
    answer_delete(0, "{}");
    answer_delete(1, "{\"Failed\":[{\"Id\":\"1\",\"SenderFault\":false}]}");
    answer_delete(2, "{}");
    queue_advance(q, 30);
    time_ms += QUEUE_DELETE_AFTER_MS;
    queue_advance(q, 30);
    assert_int_equal(seam.delete_count, 4);
    assert_deletes(3, 12, 12);
    assert_true(slice_find(seam.deletes[3].body, SLICE("\"h30\"")) != SIZE_MAX);
    assert_true(queue_has_held(q));
    answer_delete(3, "{}");
    assert_false(queue_has_held(q));
    queue_close(q);
}

/* A message for which the ring has no room waits, whole, and in its turn. */
static void what_finds_no_room_waits_in_order(void **unused)
{
    struct queue *q = start();

    (void)unused;
    answer_with_messages(0, 5);
    seam.room = false;
    answer_with_messages(1, 5);
    assert_int_equal(seam.taken, 7); /* the first was asked about twice, those behind it never */
    assert_int_equal(seam.poll_count, 3); /* and nothing more is received */
    seam.taken = 5;
    seam.room = true;
    queue_advance(q, 0);
    assert_int_equal(seam.taken, 10);
    queue_advance(q, 10);
    assert_int_equal(seam.delete_count, 1);
    queue_close(q);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silence_counts_up_to_the_beginning_of_its_request),
        cmocka_unit_test(silence_beside_an_unanswered_poll_waits_for_its_answer),
        cmocka_unit_test(silence_does_not_wait_for_later_polls),
        cmocka_unit_test(
            a_lost_answer_takes_the_silence_with_it_and_all_that_began_before_its_messages_return),
        cmocka_unit_test(what_a_lost_answer_carried_is_heard_behind_the_backlog),
        cmocka_unit_test(what_expires_unstored_is_not_heard_though_silence_was_heard_later),
        cmocka_unit_test(a_short_visibility_means_short_polls),
        cmocka_unit_test(a_busy_queue_gets_all_polls_and_a_silent_one_two),
        cmocka_unit_test(only_what_is_committed_is_deleted_ten_at_a_time),
        cmocka_unit_test(what_finds_no_room_waits_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
