#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "aws/sqs.h"
#include "base/json.h"

#define ASSERT_TEXT(got, want)                                                                     \
    do {                                                                                           \
        struct slice got_ = (got);                                                                 \
        if (!slice_eq(got_, slice_str(want)))                                                      \
            fail_msg("got \"%.*s\", not \"%s\"", SLICE_ARGS(got_), want);                          \
    } while (0)

static const char QUEUE[] = "https://sqs.eu-west-1.amazonaws.com/111122223333/ses-events";

static void a_receive_asks_for_ten_and_waits(void **unused)
{
    struct buf body = {0};

    (void)unused;
    sqs_receive_body(&body, slice_str(QUEUE), 20, 120);
    assert_string_equal(buf_cstr(&body),
                        "{\"QueueUrl\":\"https://sqs.eu-west-1.amazonaws.com/111122223333/"
                        "ses-events\",\"MaxNumberOfMessages\":10,\"WaitTimeSeconds\":20,"
                        "\"VisibilityTimeout\":120,\"MessageSystemAttributeNames\":["
                        "\"SentTimestamp\",\"ApproximateFirstReceiveTimestamp\"]}");
    buf_fini(&body);
}

static void a_deletion_numbers_its_entries(void **unused)
{
    const struct slice handles[] = {SLICE("AQEB/+="), SLICE("say \"hi\"\\")};
    struct buf body = {0};

    (void)unused;
    sqs_delete_body(&body, SLICE("q"), handles, 1);
    assert_string_equal(
        buf_cstr(&body),
        "{\"QueueUrl\":\"q\",\"Entries\":[{\"Id\":\"0\",\"ReceiptHandle\":\"AQEB/+=\"}]}");
    buf_reset(&body);
    sqs_delete_body(&body, SLICE("q"), handles, 2);
    cJSON *tree = json_parse(buf_slice(&body));
    const cJSON *second = json_first(json_get(tree, "Entries"))->next;
    ASSERT_TEXT(json_get_text(second, "Id"), "1");
    ASSERT_TEXT(json_get_text(second, "ReceiptHandle"), "say \"hi\"\\");
    assert_null(second->next);
    json_free(tree);
    buf_fini(&body);
}

static void a_request_goes_to_the_root_as_json_1_0(void **unused)
{
    struct aws_request r;

    (void)unused;
    sqs_request(&r, "AmazonSQS.DeleteMessageBatch");
    assert_int_equal(r.service, AWS_SQS);
    assert_string_equal(r.method, "POST");
    assert_string_equal(r.path, "/");
    assert_string_equal(r.content_type, "application/x-amz-json-1.0");
    assert_string_equal(r.target, "AmazonSQS.DeleteMessageBatch");
}

static void messages_are_read_and_checked(void **unused)
{
    struct sqs_received r;

    (void)unused;
    assert_true(sqs_received_parse(
        SLICE("{\"Messages\":["
              "{\"MessageId\":\"m1\",\"ReceiptHandle\":\"h1\",\"Body\":\"hello world\","
              "\"MD5OfBody\":\"5eb63bbbe01eeed093cb22bb8f5acdc3\","
              "\"Attributes\":{\"ApproximateReceiveCount\":\"1\"}},"
              "{\"MessageId\":\"m2\",\"ReceiptHandle\":\"h2\",\"Body\":\"hello world\","
              "\"MD5OfBody\":\"5EB63BBBE01EEED093CB22BB8F5ACDC4\"},"
              "{\"ReceiptHandle\":\"h3\",\"Body\":\"{\\\"a\\\":\\\"\\u00fc\\\"}\"},"
              "{\"MessageId\":\"m4\",\"Body\":\"no handle\"},"
              "{\"ReceiptHandle\":\"h5\",\"MD5OfBody\":null,\"Body\":null},"
              "{\"ReceiptHandle\":\"h6\",\"Body\":\"cut\\u0000short\","
              "\"MD5OfBody\":\"1cc4bdd35c7fa7f65e4d6a70a3f5d5d5\"},"
              "null,7]}"),
        &r));
    assert_int_equal(r.count, 5);
    ASSERT_TEXT(r.messages[0].message_id, "m1");
    ASSERT_TEXT(r.messages[0].receipt_handle, "h1");
    ASSERT_TEXT(r.messages[0].body, "hello world");
    assert_true(r.messages[0].intact);
    assert_false(r.messages[1].intact);
    ASSERT_TEXT(r.messages[2].body, "{\"a\":\"ü\"}");
    assert_true(r.messages[2].intact); /* nothing to compare with */
    ASSERT_TEXT(r.messages[3].receipt_handle, "h5");
    assert_int_equal(r.messages[3].body.len, 0);
    assert_false(r.messages[4].intact);
    sqs_received_free(&r);
    assert_int_equal(r.count, 0);
}

static void an_empty_queue_answers_in_several_ways(void **unused)
{
    static const char *const empty[] = {"{}", "{\"Messages\":[]}", "{\"Messages\":null}",
                                        "{\"Messages\":\"x\"}"};
    static const char *const broken[] = {"", "[]", "null", "{\"Messages\":[", "<html>"};
    struct sqs_received r;

    (void)unused;
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        assert_true(sqs_received_parse(slice_str(empty[i]), &r));
        assert_int_equal(r.count, 0);
        sqs_received_free(&r);
    }
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        assert_false(sqs_received_parse(slice_str(broken[i]), &r));
        assert_int_equal(r.count, 0);
        sqs_received_free(&r); /* once more does no harm */
    }
}

static void more_than_ten_messages_are_left_in_the_queue(void **unused)
{
    struct sqs_received r;
    struct buf body = {0};

    (void)unused;
    buf_add_str(&body, "{\"Messages\":[");
    for (size_t i = 0; i < 14; i++)
        buf_printf(&body, "%s{\"ReceiptHandle\":\"h%zu\",\"Body\":\"b\"}", i == 0 ? "" : ",", i);
    buf_add_str(&body, "]}");
    assert_true(sqs_received_parse(buf_slice(&body), &r));
    assert_int_equal(r.count, SQS_BATCH_MAX);
    ASSERT_TEXT(r.messages[9].receipt_handle, "h9");
    sqs_received_free(&r);
    buf_fini(&body);
}

static void only_faults_of_sqs_are_tried_again(void **unused)
{
    uint32_t failed;

    (void)unused;
    assert_true(sqs_deleted_parse(SLICE("{\"Successful\":[{\"Id\":\"0\"}]}"), &failed));
    assert_int_equal(failed, 0);
    assert_true(sqs_deleted_parse(
        SLICE("{\"Successful\":[],\"Failed\":["
              "{\"Id\":\"0\",\"SenderFault\":false,\"Code\":\"InternalError\"},"
              "{\"Id\":\"3\",\"SenderFault\":true,\"Code\":\"ReceiptHandleIsInvalid\"},"
              "{\"Id\":\"9\"},{\"Id\":\"10\"},{\"Id\":\"-1\"},{\"Id\":\"99999999999999999999\"},"
              "{\"Id\":4},{},null]}"),
        &failed));
    assert_int_equal(failed, 1 | 1 << 9);
    assert_true(sqs_deleted_parse(SLICE("{\"Failed\":null}"), &failed));
    assert_int_equal(failed, 0);
    assert_false(sqs_deleted_parse(SLICE(""), &failed));
    assert_false(sqs_deleted_parse(SLICE("[]"), &failed));
    assert_false(sqs_deleted_parse(SLICE("{\"Failed\":["), &failed));
}

static void depths_are_asked_for_and_read(void **unused)
{
    struct sqs_depth depth;
    struct buf body = {0};

    (void)unused;
    sqs_depth_body(&body, SLICE("https://sqs.eu-west-1.amazonaws.com/1/q"));
    assert_string_equal(buf_cstr(&body),
                        "{\"QueueUrl\":\"https://sqs.eu-west-1.amazonaws.com/1/q\","
                        "\"AttributeNames\":[\"ApproximateNumberOfMessages\","
                        "\"ApproximateNumberOfMessagesNotVisible\","
                        "\"ApproximateNumberOfMessagesDelayed\",\"CreatedTimestamp\"]}");
    buf_fini(&body);
    assert_true(sqs_depth_parse(SLICE("{\"Attributes\":{\"ApproximateNumberOfMessages\":\"12\","
                                      "\"ApproximateNumberOfMessagesNotVisible\":\"3\","
                                      "\"ApproximateNumberOfMessagesDelayed\":\"4\","
                                      "\"CreatedTimestamp\":\"1719000000\"}}"),
                                &depth));
    assert_true(depth.visible == 12 && depth.in_flight == 3 && depth.delayed == 4);
    assert_true(depth.created_wall_ms == UINT64_C(1719000000000));
    assert_true(sqs_depth_parse(SLICE("{\"Attributes\":{\"ApproximateNumberOfMessages\":\"1\","
                                      "\"ApproximateNumberOfMessagesNotVisible\":\"0\"}}"),
                                &depth));
    assert_true(depth.visible == 1 && depth.delayed == 0 && depth.created_wall_ms == 0);
    assert_false(sqs_depth_parse(SLICE("{}"), &depth));
    assert_false(
        sqs_depth_parse(SLICE("{\"Attributes\":{\"ApproximateNumberOfMessages\":\"x\"}}"), &depth));
    assert_false(sqs_depth_parse(SLICE("nothing"), &depth));
}

static void a_message_is_sent_to_a_group_and_its_md5_is_checked(void **unused)
{
    struct buf body = {0};

    (void)unused;
    sqs_send_body(&body, SLICE("u"), SLICE("text"), SLICE("g"), SLICE("d"));
    assert_string_equal(buf_cstr(&body),
                        "{\"QueueUrl\":\"u\",\"MessageGroupId\":\"g\","
                        "\"MessageDeduplicationId\":\"d\",\"MessageBody\":\"text\"}");
    buf_fini(&body);
    assert_true(sqs_sent_parse(SLICE("{\"MD5OfMessageBody\":\"1cb251ec0d568de6a929b520c4aed8d1\"}"),
                               SLICE("text")));
    assert_false(sqs_sent_parse(
        SLICE("{\"MD5OfMessageBody\":\"1cb251ec0d568de6a929b520c4aed8d2\"}"), SLICE("text")));
    assert_false(sqs_sent_parse(SLICE("{}"), SLICE("text")));
    assert_false(sqs_sent_parse(SLICE("no json"), SLICE("text")));
}

static void a_change_of_visibility_that_failed_counts_whoever_is_at_fault(void **unused)
{
    const struct slice handles[] = {SLICE("one"), SLICE("two")};
    struct buf body = {0};
    uint32_t failed;

    (void)unused;
    sqs_visibility_body(&body, SLICE("u"), handles, 2, 120);
    assert_string_equal(buf_cstr(&body),
                        "{\"QueueUrl\":\"u\",\"Entries\":["
                        "{\"Id\":\"0\",\"ReceiptHandle\":\"one\",\"VisibilityTimeout\":120},"
                        "{\"Id\":\"1\",\"ReceiptHandle\":\"two\",\"VisibilityTimeout\":120}]}");
    buf_fini(&body);
    assert_true(sqs_changed_parse(
        SLICE("{\"Failed\":[{\"Id\":\"1\",\"SenderFault\":true},{\"Id\":\"3\"}]}"), &failed));
    assert_int_equal(failed, 1 << 1 | 1 << 3);
    assert_false(sqs_changed_parse(SLICE("[]"), &failed));
}

static void a_received_message_tells_how_often_and_its_group(void **unused)
{
    struct sqs_received r;
    struct buf body = {0};

    (void)unused;
    sqs_receive_some_body(&body, SLICE("u"), 3, 5, 60);
    assert_non_null(strstr(buf_cstr(&body), "\"MaxNumberOfMessages\":3,\"WaitTimeSeconds\":5,"
                                            "\"VisibilityTimeout\":60,"));
    assert_non_null(strstr(buf_cstr(&body), "\"ApproximateReceiveCount\""));
    buf_fini(&body);
    assert_true(sqs_received_parse(
        SLICE("{\"Messages\":[{\"ReceiptHandle\":\"h\",\"Body\":\"\",\"Attributes\":"
              "{\"ApproximateReceiveCount\":\"7\",\"MessageGroupId\":\"g\"}},"
              "{\"ReceiptHandle\":\"i\",\"Body\":\"\"}]}"),
        &r));
    assert_int_equal(r.count, 2);
    assert_int_equal(r.messages[0].receives, 7);
    ASSERT_TEXT(r.messages[0].group, "g");
    assert_int_equal(r.messages[1].receives, 0);
    sqs_received_free(&r);
}

static void a_queue_s_url_names_its_region(void **unused)
{
    static const char *const cases[][2] = {
        {"https://sqs.eu-west-1.amazonaws.com/111122223333/q", "eu-west-1"},
        {"https://sqs.cn-north-1.amazonaws.com.cn/111122223333/q", "cn-north-1"},
        {"https://sqs.us-gov-west-1.amazonaws.com/1/q", "us-gov-west-1"},
        {"https://sqs-fips.us-east-2.amazonaws.com/1/q", "us-east-2"},
        {"https://sqs.ap-southeast-4.api.aws/1/q", "ap-southeast-4"},
        {"https://eu-central-1.queue.amazonaws.com/1/q", "eu-central-1"},
        {"https://cn-north-1.queue.amazonaws.com.cn/1/q", "cn-north-1"},
        {"https://queue.amazonaws.com/1/q", "us-east-1"},
        {"http://sqs.eu-west-3.localhost.localstack.cloud:4566/000000000000/q", "eu-west-3"},
        {"http://127.0.0.1:8026/000000000000/q", ""},
        {"https://sqs.example.com/1/q", ""},
        {"https://sqs.my-own-host.example/1/q", ""},
        {"https://sqs.-1.amazonaws.com/", ""},
        {"sqs.eu-west-1.amazonaws.com", ""},
        {"https://", ""},
        {"", ""},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        ASSERT_TEXT(sqs_region_of(slice_str(cases[i][0])), cases[i][1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_receive_asks_for_ten_and_waits),
        cmocka_unit_test(a_deletion_numbers_its_entries),
        cmocka_unit_test(a_request_goes_to_the_root_as_json_1_0),
        cmocka_unit_test(a_queue_s_url_names_its_region),
        cmocka_unit_test(a_message_is_sent_to_a_group_and_its_md5_is_checked),
        cmocka_unit_test(a_change_of_visibility_that_failed_counts_whoever_is_at_fault),
        cmocka_unit_test(a_received_message_tells_how_often_and_its_group),
        cmocka_unit_test(depths_are_asked_for_and_read),
        cmocka_unit_test(messages_are_read_and_checked),
        cmocka_unit_test(an_empty_queue_answers_in_several_ways),
        cmocka_unit_test(more_than_ten_messages_are_left_in_the_queue),
        cmocka_unit_test(only_faults_of_sqs_are_tried_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
