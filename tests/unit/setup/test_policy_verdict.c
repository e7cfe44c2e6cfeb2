/* Policies, as AWS reads them: what a queue lets a topic do, and a topic SES. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "setup/policy.h"
#include "setup/policy_verdict.h"

#define QUEUE "arn:aws:sqs:eu-west-1:111122223333:events"
#define TOPIC "arn:aws:sns:eu-west-1:111122223333:ses-events"

static enum policy_verdict ask(struct slice policy, const char *topic)
{
    cJSON *tree = json_parse(policy);
    const struct policy_question q = {
        .service = "sns.amazonaws.com",
        .action = "sqs:SendMessage",
        .resource = SLICE(QUEUE),
        .facts = {{"aws:SourceArn", slice_str(topic)},
                  {"aws:SourceAccount", SLICE("111122223333")},
                  {"aws:SecureTransport", SLICE("true")}},
    };
    enum policy_verdict verdict = policy_verdict(tree, true, &q);

    json_free(tree);
    return verdict;
}

static void what_setup_writes_lets_exactly_its_topic_send(void **state)
{
    struct buf policy = {0};

    (void)state;
    policy_put_queue(&policy, QUEUE, TOPIC);
    assert_int_equal(ask(buf_slice(&policy), TOPIC), POLICY_ALLOWS);
    assert_int_equal(ask(buf_slice(&policy), TOPIC "-2"), POLICY_SILENT);
    assert_int_equal(ask(slice_none(), TOPIC), POLICY_SILENT);
    buf_fini(&policy);
}

#define STATEMENT(effect, principal, action, resource, condition)                                  \
    "{\"Effect\":\"" effect "\",\"Principal\":" principal ",\"Action\":" action                    \
    ",\"Resource\":" resource ",\"Condition\":" condition "}"
#define SNS "{\"Service\":\"sns.amazonaws.com\"}"

static void wildcards_lists_and_conditions_are_read_as_aws_reads_them(void **state)
{
    static const struct {
        const char *statements;
        enum policy_verdict verdict;
    } cases[] = {
        {STATEMENT("Allow", "\"*\"", "\"sqs:*\"", "\"*\"", "{}"), POLICY_ALLOWS},
        {STATEMENT("Allow", SNS, "[\"SQS:sendmessage\",\"sqs:x\"]", "[\"" QUEUE "\"]", "{}"),
         POLICY_ALLOWS},
        {STATEMENT("Allow", SNS, "\"sqs:ReceiveMessage\"", "\"*\"", "{}"), POLICY_SILENT},
        {STATEMENT("Allow", SNS, "\"sqs:*\"", "\"" QUEUE "2\"", "{}"), POLICY_SILENT},
        {STATEMENT("Allow", "{\"Service\":\"ses.amazonaws.com\"}", "\"sqs:*\"", "\"*\"", "{}"),
         POLICY_SILENT},
        {STATEMENT("Allow", SNS, "\"sqs:*\"", "\"*\"",
                   "{\"ArnLike\":{\"aws:SourceArn\":\"arn:aws:sns:*:*:ses-*\"}}"),
         POLICY_ALLOWS},
        {STATEMENT("Allow", SNS, "\"sqs:*\"", "\"*\"",
                   "{\"StringEquals\":{\"aws:SourceAccount\":\"999988887777\"}}"),
         POLICY_SILENT},
        {STATEMENT("Allow", SNS, "\"sqs:*\"", "\"*\"",
                   "{}") "," STATEMENT("Deny", "\"*\"", "\"sqs:SendMessage\"", "\"*\"",
                                       "{\"ArnEquals\":{\"aws:SourceArn\":\"" TOPIC "\"}}"),
         POLICY_DENIES},
        {STATEMENT("Allow", SNS, "\"sqs:*\"", "\"*\"",
                   "{}") "," STATEMENT("Deny", "\"*\"", "\"sqs:*\"", "\"*\"",
                                       "{\"Bool\":{\"aws:SecureTransport\":\"false\"}}"),
         POLICY_ALLOWS},
        {STATEMENT("Allow", SNS, "\"sqs:*\"", "\"*\"", "{\"NoSuchOperator\":{\"a\":\"b\"}}"),
         POLICY_SILENT},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf policy = {0};
        buf_printf(&policy, "{\"Version\":\"2012-10-17\",\"Statement\":[%s]}", cases[i].statements);
        if (ask(buf_slice(&policy), TOPIC) != cases[i].verdict)
            fail_msg("case %zu: %s", i, cases[i].statements);
        buf_fini(&policy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_setup_writes_lets_exactly_its_topic_send),
        cmocka_unit_test(wildcards_lists_and_conditions_are_read_as_aws_reads_them),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
