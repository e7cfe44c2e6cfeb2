#include "setup/policy.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void put_statement(struct buf *to, const char *sid)
{
    buf_add_str(to, to->ptr[to->len - 1] == '[' ? "{" : ",{");
    json_put_str(to, "Sid", slice_str(sid));
    json_put_str(to, "Effect", SLICE("Allow"));
}

static void put_list(struct buf *to, const char *name, const char *const *texts)
{
    json_put_name(to, name);
    buf_add_byte(to, '[');
    for (size_t i = 0; texts[i] != NULL; i++) {
        if (i > 0)
            buf_add_byte(to, ',');
        json_put_text(to, slice_str(texts[i]));
    }
    buf_add_byte(to, ']');
}

static void begin(struct buf *to)
{
    buf_add_str(to, "{\"Version\":\"2012-10-17\",\"Statement\":[");
}

/* One more ARN in the list "Resource", which put_resources() opens. */
static void put_resource(struct buf *to, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void put_resource(struct buf *to, const char *format, ...)
{
    char arn[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(arn, sizeof arn, format, args);
    va_end(args);
    if (to->ptr[to->len - 1] != '[')
        buf_add_byte(to, ',');
    json_put_text(to, slice_str(arn));
}

static void open_resources(struct buf *to)
{
    json_put_name(to, "Resource");
    buf_add_byte(to, '[');
}

/* ---- of queues and topics ---- */

void policy_put_queue(struct buf *to, const char *queue_arn, const char *topic_arn)
{
    begin(to);
    put_statement(to, "topic");
    buf_add_str(to, ",\"Principal\":{\"Service\":\"sns.amazonaws.com\"}");
    json_put_str(to, "Action", SLICE("sqs:SendMessage"));
    json_put_str(to, "Resource", slice_str(queue_arn));
    buf_add_str(to, ",\"Condition\":{\"ArnEquals\":{");
    json_put_str(to, "aws:SourceArn", slice_str(topic_arn));
    buf_add_str(to, "}}}]}");
}

void policy_put_topic(struct buf *to, const char *topic_arn, const char *account,
                      const char *set_arn)
{
    begin(to);
    put_statement(to, "ses");
    buf_add_str(to, ",\"Principal\":{\"Service\":\"ses.amazonaws.com\"}");
    json_put_str(to, "Action", SLICE("sns:Publish"));
    json_put_str(to, "Resource", slice_str(topic_arn));
    buf_add_str(to, ",\"Condition\":{\"StringEquals\":{");
    json_put_str(to, "AWS:SourceAccount", slice_str(account));
    json_put_str(to, "AWS:SourceArn", slice_str(set_arn));
    buf_add_str(to, "}}}]}");
}

/* ---- run time ---- */

static void put_topics(struct buf *to, const struct plumbing *p)
{
    open_resources(to);
    for (int line = 0; line < PLUMBING_LINES; line++)
        put_resource(to, "%s", p->topic[line]->arn);
    buf_add_byte(to, ']');
}

/* The event queues, with those of nodes and the dead-letter queues, whose names go on with "-…"; and
 * the buffer. */
static void put_queues(struct buf *to, const struct plumbing *p)
{
    open_resources(to);
    for (int line = 0; line < PLUMBING_LINES; line++) {
        put_resource(to, "%s", p->queue[line]->arn);
        put_resource(to, "%s-*", p->queue[line]->arn);
    }
    if (p->buffer != NULL)
        put_resource(to, "%s", p->buffer->arn);
    buf_add_byte(to, ']');
}

/* The topics and their subscriptions, whose ARNs are the topic's with an id behind. */
static void put_topics_and_subscriptions(struct buf *to, const struct plumbing *p)
{
    open_resources(to);
    for (int line = 0; line < PLUMBING_LINES; line++) {
        put_resource(to, "%s", p->topic[line]->arn);
        put_resource(to, "%s:*", p->topic[line]->arn);
    }
    buf_add_byte(to, ']');
}

static void put_senders(struct buf *to, const struct plumbing *p)
{
    buf_add_str(to, ",\"Condition\":{\"StringLike\":{\"ses:FromAddress\":[");
    for (size_t i = 0; i < p->names.sender_count; i++) {
        const char *sender = p->names.senders[i];
        if (strchr(sender, '@') != NULL)
            put_resource(to, "%s", sender);
        else
            put_resource(to, "*@%s", sender); /* "*.example.com" among them */
    }
    buf_add_str(to, "]}}");
}

void policy_put_run_time(struct buf *to, const struct plumbing *p)
{
    /* v2 and v1 share the prefix; which name is checked depends on the content. */
    static const char *const send[] = {
        "ses:SendEmail",     "ses:SendRawEmail",           "ses:SendTemplatedEmail",
        "ses:SendBulkEmail", "ses:SendBulkTemplatedEmail", NULL};
    /* The last three are doctor's. */
    static const char *const account[] = {"ses:GetAccount",
                                          "ses:GetSuppressedDestination",
                                          "ses:DeleteSuppressedDestination",
                                          "ses:GetEmailIdentity",
                                          "ses:GetConfigurationSet",
                                          "ses:GetConfigurationSetEventDestinations",
                                          NULL};
    /* Dead letters go back to where they came from; into the buffer goes what waits. */
    static const char *const queues[] = {"sqs:ReceiveMessage",
                                         "sqs:DeleteMessage",
                                         "sqs:ChangeMessageVisibility",
                                         "sqs:SendMessage",
                                         "sqs:GetQueueUrl",
                                         "sqs:GetQueueAttributes",
                                         "sqs:StartMessageMoveTask",
                                         NULL};
    static const char *const topics[] = {"sns:GetTopicAttributes", "sns:ListSubscriptionsByTopic",
                                         "sns:GetSubscriptionAttributes", NULL};

    begin(to);
    put_statement(to, "Send");
    put_list(to, "Action", send);
    open_resources(to);
    /* The identity of the sender, and that of a recipient who is one of the account's own. */
    put_resource(to, "arn:%s:ses:%s:%s:identity/*", p->partition, p->region, p->account);
    for (int line = 0; line < PLUMBING_LINES; line++)
        put_resource(to, "%s", p->set[line]->arn);
    put_resource(to, "arn:%s:ses:%s:%s:template/*", p->partition, p->region, p->account);
    buf_add_byte(to, ']');
    put_senders(to, p);
    buf_add_byte(to, '}');

    put_statement(to, "Account");
    put_list(to, "Action", account);
    buf_add_str(to, ",\"Resource\":\"*\"}");

    put_statement(to, "Queues");
    put_list(to, "Action", queues);
    put_queues(to, p);
    buf_add_byte(to, '}');

    put_statement(to, "Doctor");
    put_list(to, "Action", topics);
    put_topics_and_subscriptions(to, p);
    buf_add_byte(to, '}');

    if (p->buffer != NULL) { /* machines that share newsletters tell one another */
        put_statement(to, "Notices");
        json_put_str(to, "Action", SLICE("sns:Publish"));
        put_topics(to, p);
        buf_add_byte(to, '}');
    }
    buf_add_str(to, "]}");
}

/* ---- set-up ---- */

void policy_put_setup(struct buf *to, const struct plumbing *p)
{
    static const char *const ses[] = {"ses:GetAccount",
                                      "ses:CreateConfigurationSet",
                                      "ses:GetConfigurationSet",
                                      "ses:DeleteConfigurationSet",
                                      "ses:PutConfigurationSetSendingOptions",
                                      "ses:CreateConfigurationSetEventDestination",
                                      "ses:GetConfigurationSetEventDestinations",
                                      "ses:UpdateConfigurationSetEventDestination",
                                      "ses:DeleteConfigurationSetEventDestination",
                                      "ses:CreateEmailIdentity",
                                      "ses:GetEmailIdentity",
                                      "ses:DeleteEmailIdentity",
                                      "ses:PutEmailIdentityDkimAttributes",
                                      "ses:PutEmailIdentityMailFromAttributes",
                                      "ses:PutEmailIdentityFeedbackAttributes",
                                      "ses:TagResource",
                                      NULL};
    static const char *const sns[] = {
        "sns:CreateTopic", "sns:GetTopicAttributes",  "sns:SetTopicAttributes",
        "sns:DeleteTopic", "sns:Subscribe",           "sns:ListSubscriptionsByTopic",
        "sns:TagResource", "sns:ListTagsForResource", NULL};
    static const char *const subscriptions[] = {
        "sns:GetSubscriptionAttributes", "sns:SetSubscriptionAttributes", "sns:Unsubscribe", NULL};
    static const char *const sqs[] = {
        "sqs:CreateQueue", "sqs:GetQueueUrl", "sqs:GetQueueAttributes", "sqs:SetQueueAttributes",
        "sqs:DeleteQueue", "sqs:TagQueue",    "sqs:ListQueueTags",      NULL};
    static const char *const iam[] = {"iam:GetUser",
                                      "iam:CreateUser",
                                      "iam:TagUser",
                                      "iam:DeleteUser",
                                      "iam:GetUserPolicy",
                                      "iam:PutUserPolicy",
                                      "iam:DeleteUserPolicy",
                                      "iam:ListAccessKeys",
                                      "iam:CreateAccessKey",
                                      "iam:DeleteAccessKey",
                                      NULL};

    begin(to);
    put_statement(to, "Ses");
    put_list(to, "Action", ses);
    buf_add_str(to, ",\"Resource\":\"*\"}");
    put_statement(to, "Sns");
    put_list(to, "Action", sns);
    put_topics(to, p);
    buf_add_byte(to, '}');
    put_statement(to, "Subscriptions");
    put_list(to, "Action", subscriptions);
    put_topics_and_subscriptions(to, p);
    buf_add_byte(to, '}');
    put_statement(to, "Sqs");
    put_list(to, "Action", sqs);
    put_queues(to, p);
    buf_add_byte(to, '}');
    if (p->user != NULL) {
        put_statement(to, "User");
        put_list(to, "Action", iam);
        open_resources(to);
        put_resource(to, "%s", p->user->arn);
        buf_add_str(to, "]}");
    }
    buf_add_str(to, "]}");
}
