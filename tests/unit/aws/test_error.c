#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "aws/error.h"
#include "aws/http.h"

#define ASSERT_TEXT(got, want)                                                                     \
    do {                                                                                           \
        struct slice got_ = (got);                                                                 \
        if (!slice_eq(got_, slice_str(want)))                                                      \
            fail_msg("got \"%.*s\", not \"%s\"", SLICE_ARGS(got_), want);                          \
    } while (0)

static void read_error(struct arena *a, struct aws_error_fields fields, const char *body,
                       struct aws_error *e)
{
    aws_error_read(a, &fields, slice_str(body), e);
}

static void ses_s_code_is_cut_out_of_the_header(void **state)
{
    struct arena a = {0};
    struct aws_error e;

    (void)state;
    read_error(
        &a,
        (struct aws_error_fields){
            .error_type = SLICE("com.amazon#TooManyRequestsException:http://internal.amazon.com/"),
            .request_id = SLICE("id-1")},
        "{\"__type\":\"Other\",\"message\":\"Maximum sending rate exceeded.\"}", &e);
    ASSERT_TEXT(e.code, "TooManyRequestsException");
    ASSERT_TEXT(e.text, "Maximum sending rate exceeded.");
    ASSERT_TEXT(e.request_id, "id-1");
    arena_fini(&a);
}

static void without_the_header_the_body_has_the_code(void **state)
{
    struct arena a = {0};
    struct aws_error e;

    (void)state;
    read_error(&a, (struct aws_error_fields){0},
               "{\"__type\":\"com.amazonaws.sqs#QueueDoesNotExist\",\"Message\":\"no\"}", &e);
    ASSERT_TEXT(e.code, "QueueDoesNotExist");
    ASSERT_TEXT(e.text, "no");
    read_error(&a, (struct aws_error_fields){0}, "{\"code\":\"x#NotFoundException:y\"}", &e);
    ASSERT_TEXT(e.code, "NotFoundException");
    read_error(&a,
               (struct aws_error_fields){
                   .query_error = SLICE("AWS.SimpleQueueService.NonExistentQueue;Sender")},
               "", &e);
    ASSERT_TEXT(e.code, "AWS.SimpleQueueService.NonExistentQueue");
    arena_fini(&a);
}

static void the_query_protocol_answers_in_xml(void **state)
{
    struct arena a = {0};
    struct aws_error e;

    (void)state;
    read_error(
        &a, (struct aws_error_fields){0},
        "<?xml version=\"1.0\"?>\n<ErrorResponse "
        "xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\">"
        "<Error><Type>Sender</Type><Code>InvalidParameter</Code>"
        "<Message>a &lt;b&gt; &amp; c</Message></Error><RequestId>r-2</RequestId></ErrorResponse>",
        &e);
    ASSERT_TEXT(e.code, "InvalidParameter");
    ASSERT_TEXT(e.text, "a <b> & c");
    ASSERT_TEXT(e.request_id, "r-2");
    arena_fini(&a);
}

static void bodies_of_load_balancers_give_nothing(void **state)
{
    static const char *const bodies[] = {"",
                                         "<html><body>503 Service Unavailable</body></html>",
                                         "upstream timed out",
                                         "{\"message\":",
                                         "[]",
                                         "{\"message\":7,\"__type\":null}",
                                         "<Error><Code>open",
                                         "null"};
    struct arena a = {0};

    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct aws_error e;
        read_error(&a, (struct aws_error_fields){0}, bodies[i], &e);
        ASSERT_TEXT(e.code, "");
        ASSERT_TEXT(e.text, "");
    }
    arena_fini(&a);
}

static void long_texts_are_cut_between_characters(void **state)
{
    struct arena a = {0};
    struct aws_error e;
    struct buf body = {0};

    (void)state;
    buf_add_str(&body, "{\"message\":\"x");
    for (int i = 0; i < AWS_ERROR_TEXT_MAX; i++)
        buf_add_str(&body, "\xc3\xa9");
    buf_add_str(&body, "\"}");
    aws_error_read(&a, &(struct aws_error_fields){0}, buf_slice(&body), &e);
    assert_int_equal(e.text.len, AWS_ERROR_TEXT_MAX - 1);
    assert_true(slice_is_utf8(e.text));
    buf_fini(&body);
    arena_fini(&a);
}

static void each_error_of_a_send_has_its_reaction(void **state)
{
    static const struct {
        int status;
        const char *code, *text;
        enum aws_reaction reaction;
    } table[] = {
        {200, "", "", AWS_OK},
        {429, "TooManyRequestsException", "Maximum sending rate exceeded.", AWS_THROTTLED},
        {429, "", "", AWS_THROTTLED},
        {400, "ThrottlingException", "Maximum sending rate exceeded.", AWS_THROTTLED},
        {400, "Throttling", "Daily message quota exceeded.", AWS_QUOTA},
        {400, "LimitExceededException", "Daily message quota exceeded", AWS_QUOTA},
        {400, "SlowDown", "", AWS_THROTTLED},
        {400, "AccountSuspendedException", "", AWS_HOLD_ACCOUNT},
        {400, "SendingPausedException", "Sending paused for this account.", AWS_HOLD_ACCOUNT},
        {400, "SendingPausedException", "Sending is paused for configuration set news.",
         AWS_HOLD_CONFIGURATION_SET},
        {400, "MailFromDomainNotVerifiedException", "", AWS_HOLD_SENDER},
        {400, "MessageRejected",
         "Email address is not verified. The following identities failed the check in region "
         "EU-WEST-1: news@example.com",
         AWS_HOLD_SENDER},
        {400, "MessageRejected", "Transaction failed: illegal content", AWS_PERMANENT},
        {404, "NotFoundException", "Configuration set <x> does not exist.",
         AWS_HOLD_CONFIGURATION_SET},
        {404, "NotFoundException", "", AWS_HOLD_SENDER},
        {403, "AccessDeniedException",
         "User `u' is not authorized to perform `ses:SendEmail' on resource "
         "`arn:aws:ses:us-east-1:111122223333:configuration-set/news'",
         AWS_HOLD_CONFIGURATION_SET},
        {400, "BadRequestException", "Template contains unsupported operations.", AWS_PERMANENT},
        {403, "AccessDeniedException", "User is not authorized", AWS_HOLD_SENDER},
        {409, "ConflictException", "", AWS_TRANSIENT},
        {500, "ConcurrentModificationException", "", AWS_TRANSIENT},
        {500, "InternalServiceErrorException", "", AWS_TRANSIENT},
        {503, "ServiceUnavailable", "", AWS_TRANSIENT},
        {502, "", "", AWS_TRANSIENT},
        {504, "", "", AWS_TRANSIENT},
        {408, "RequestTimeoutException", "", AWS_TRANSIENT},
        {413, "RequestEntityTooLargeException", "", AWS_PERMANENT},
        {403, "InvalidSignatureException", "", AWS_HOLD_ACCOUNT},
        {403, "UnrecognizedClientException", "", AWS_HOLD_ACCOUNT},
        {403, "ExpiredTokenException", "", AWS_HOLD_ACCOUNT},
        {403, "OptInRequired", "", AWS_HOLD_ACCOUNT},
        {400, "SomethingNew", "", AWS_PERMANENT},
        {599, "SomethingNew", "", AWS_TRANSIENT},
        {301, "", "", AWS_TRANSIENT},
    };

    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        enum aws_reaction got =
            aws_send_reaction(&(struct aws_response){.fate = AWS_ANSWERED,
                                                     .status = table[i].status,
                                                     .error_code = slice_str(table[i].code),
                                                     .error_text = slice_str(table[i].text)});
        if (got != table[i].reaction)
            fail_msg("%d %s \"%s\": %d, not %d", table[i].status, table[i].code, table[i].text,
                     (int)got, (int)table[i].reaction);
    }
    assert_int_equal(aws_send_reaction(&(struct aws_response){.fate = AWS_UNKNOWN}), AWS_IN_DOUBT);
    assert_int_equal(aws_send_reaction(&(struct aws_response){.fate = AWS_NOT_SENT}),
                     AWS_TRANSIENT);
    assert_int_equal(aws_send_reaction(&(struct aws_response){.fate = AWS_CUT_SHORT}), AWS_CUT_OFF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ses_s_code_is_cut_out_of_the_header),
        cmocka_unit_test(without_the_header_the_body_has_the_code),
        cmocka_unit_test(the_query_protocol_answers_in_xml),
        cmocka_unit_test(bodies_of_load_balancers_give_nothing),
        cmocka_unit_test(long_texts_are_cut_between_characters),
        cmocka_unit_test(each_error_of_a_send_has_its_reaction),
    };
    return cmocka_run_group_tests_name("aws/error", tests, NULL, NULL);
}
