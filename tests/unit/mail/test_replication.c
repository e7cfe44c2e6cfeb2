/*
 * The messages in which machines tell each other their changes: what is written is read again, raw
 * and in SNS's envelope; a message is never too long; and what is none is told from what is a bad
 * one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "mail/replication.h"

#define NODE UINT64_C(0x00c0ffee00000001)

static void write_two(struct buf *to)
{
    replication_begin(to, NODE);
    assert_true(replication_add(to, SLICE("one")));
    assert_true(replication_add(to, slice_of((const uint8_t *)"\0\xff\"", 3)));
    replication_end(to);
}

static enum replication_verdict parse(const char *body, struct slice *why)
{
    struct replication r;
    struct arena a = {0};
    enum replication_verdict verdict = replication_parse(slice_str(body), &a, &r, why);

    arena_fini(&a);
    return verdict;
}

static void assert_two(struct slice body, const char *topic)
{
    struct replication r;
    struct arena a = {0};
    struct slice why;

    assert_int_equal(replication_parse(body, &a, &r, &why), REPLICATION_GOOD);
    assert_true(r.node == NODE);
    assert_int_equal(r.count, 2);
    assert_true(slice_eq(r.changes[0], SLICE("one")));
    assert_true(slice_eq(r.changes[1], slice_of((const uint8_t *)"\0\xff\"", 3)));
    assert_true(slice_eq(r.topic_arn, slice_str(topic)));
    arena_fini(&a);
}

static void what_is_written_is_read_raw_and_in_an_envelope(void **state)
{
    struct buf message = {0}, envelope = {0};

    (void)state;
    write_two(&message);
    assert_two(buf_slice(&message), "");
    buf_add_str(&envelope, "{");
    json_put_str(&envelope, "Type", SLICE("Notification"));
    json_put_str(&envelope, "TopicArn", SLICE("arn:aws:sns:eu-west-1:1:t"));
    json_put_str(&envelope, "Message", buf_slice(&message));
    buf_add_str(&envelope, "}");
    assert_two(buf_slice(&envelope), "arn:aws:sns:eu-west-1:1:t");
    buf_fini(&message);
    buf_fini(&envelope);
}

static void a_full_message_takes_no_more_and_is_within_the_limit(void **state)
{
    static uint8_t change[1000];
    struct buf message = {0};
    struct replication r;
    struct arena a = {0};
    struct slice why;
    size_t count = 0;

    (void)state;
    memset(change, 0xfb, sizeof change);
    replication_begin(&message, NODE);
    while (replication_add(&message, slice_of(change, sizeof change)))
        count++;
    replication_end(&message);
    assert_true(message.len <= REPLICATION_BYTES_MAX);
    assert_true(message.len > REPLICATION_BYTES_MAX - 2000);
    assert_int_equal(replication_parse(buf_slice(&message), &a, &r, &why), REPLICATION_GOOD);
    assert_int_equal(r.count, count);
    assert_true(slice_eq(r.changes[count - 1], slice_of(change, sizeof change)));
    arena_fini(&a);
    buf_fini(&message);
}

static void what_is_no_change_is_left_to_others_and_what_is_a_bad_one_says_why(void **state)
{
    static const struct {
        const char *body;
        const char *why; /* NULL: it is something else */
    } cases[] = {
        {"", NULL},
        {"postern-changes", NULL},
        {"{\"eventType\":\"Delivery\",\"mail\":{\"subject\":\"postern-changes\"}}", NULL},
        {"{\"Type\":\"Notification\",\"Message\":\"postern-changes\"}", NULL},
        {"{\"postern-changes\":2,\"node\":\"00000000000000aa\",\"changes\":[\"YQ\"]}", "version"},
        {"{\"postern-changes\":\"1\"}", "version"},
        {"{\"postern-changes\":1,\"changes\":[\"YQ\"]}", "which one"},
        {"{\"postern-changes\":1,\"node\":\"0000000000000000\",\"changes\":[\"YQ\"]}", "which one"},
        {"{\"postern-changes\":1,\"node\":\"aa\",\"changes\":[\"YQ\"]}", "which one"},
        {"{\"postern-changes\":1,\"node\":\"00000000000000aa\"}", "base64"},
        {"{\"postern-changes\":1,\"node\":\"00000000000000aa\",\"changes\":[]}", "base64"},
        {"{\"postern-changes\":1,\"node\":\"00000000000000aa\",\"changes\":[\"\"]}", "base64"},
        {"{\"postern-changes\":1,\"node\":\"00000000000000aa\",\"changes\":[\"!\"]}", "base64"},
        {"{\"postern-changes\":1,\"node\":\"00000000000000aa\",\"changes\":[7]}", "base64"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct slice why = slice_none();
        enum replication_verdict verdict = parse(cases[i].body, &why);
        assert_int_equal(verdict, cases[i].why == NULL ? REPLICATION_NONE : REPLICATION_BAD);
        if (cases[i].why != NULL && slice_find(why, slice_str(cases[i].why)) == SIZE_MAX)
            fail_msg("%s: %.*s", cases[i].body, SLICE_ARGS(why));
    }
}

static void a_forged_message_cannot_hold_more_changes_than_are_ever_written(void **state)
{
    struct buf message = {0};
    struct slice why;

    (void)state;
    replication_begin(&message, NODE);
    for (int i = 0; i <= REPLICATION_CHANGES_MAX; i++)
        assert_true(replication_add(&message, SLICE("a")));
    replication_end(&message);
    assert_int_equal(parse(buf_cstr(&message), &why), REPLICATION_BAD);
    buf_fini(&message);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_raw_and_in_an_envelope),
        cmocka_unit_test(a_full_message_takes_no_more_and_is_within_the_limit),
        cmocka_unit_test(what_is_no_change_is_left_to_others_and_what_is_a_bad_one_says_why),
        cmocka_unit_test(a_forged_message_cannot_hold_more_changes_than_are_ever_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
