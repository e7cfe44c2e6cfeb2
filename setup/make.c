#include "setup/make.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aws/query.h"
#include "aws/sqs.h"
#include "base/clock.h"
#include "base/digest.h"
#include "setup/difference.h"
#include "setup/inspect.h"
#include "setup/plan.h"

enum { AGAIN_MS = 2000 };

/* ---- looking ---- */

static int look_for(struct session *s, struct resource *r, struct err *err)
{
    enum inspect_result got = INSPECT_ABSENT;
    int failed = 0;

    json_free(r->found);
    r->found = NULL;
    switch (r->kind) {
    case RESOURCE_QUEUE:
        got = inspect_queue(s, r->name, &r->found, err);
        if (got == INSPECT_FOUND)
            failed = inspect_queue_tags(s, r->found, err);
        break;
    case RESOURCE_TOPIC:
        got = inspect_topic(s, r->arn, &r->found, err);
        if (got == INSPECT_FOUND)
            failed = inspect_topic_tags(s, r->found, err);
        break;
    case RESOURCE_SET:
        got = inspect_configuration_set(s, r->name, &r->found, err);
        break;
    case RESOURCE_IDENTITY:
        got = inspect_email_identity(s, r->name, &r->found, err);
        break;
    case RESOURCE_USER:
        got = inspect_user(s, r->name, PLUMBING_POLICY, &r->found, err);
        break;
    case RESOURCE_SUBSCRIPTION:
    case RESOURCE_DESTINATION:
        break; /* with their topic and set */
    }
    return got == INSPECT_FAILED ? -1 : failed;
}

int make_look(struct session *s, struct plumbing *p, struct err *err)
{
    for (size_t i = 0; i < p->count; i++)
        if (look_for(s, &p->resources[i], err) != 0)
            return -1;
    plan_share_out(p);
    return 0;
}

/* ---- calls ---- */

static bool is_good(const struct session_answer *a)
{
    return a->status >= 200 && a->status < 300;
}

/* How a refusal is taken. */
struct manner {
    const char *passes; /* a code that time cures, or two with a blank between; NULL = none */
    const char *fine;   /* a code that means it is done already; likewise */
    uint64_t patience_ms;
};

static bool names_code(const char *codes, const char *code)
{
    size_t len = strlen(code);
    const char *at = codes != NULL && len > 0 ? strstr(codes, code) : NULL;

    return at != NULL && (at == codes || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0');
}

static int call(struct session *s, const struct aws_request *r, const struct manner *manner,
                const char *action, const char *what, struct err *err)
{
    uint64_t until = clock_mono_ms() + manner->patience_ms;

    for (;;) {
        struct session_answer a;
        if (session_call(s, r, &a, err) != 0)
            return -1;
        bool fine = is_good(&a) || names_code(manner->fine, a.code);
        bool again =
            !fine && names_code(manner->passes, a.code) && clock_mono_ms() + AGAIN_MS < until;
        int failed = fine || again ? 0 : session_refusal(s, &a, action, what, err);
        session_answer_fini(&a);
        if (!again)
            return failed;
        session_pause(s, AGAIN_MS);
    }
}

static int sqs_do(struct session *s, const char *operation, struct buf *body,
                  const struct manner *manner, const char *what, struct err *err)
{
    struct aws_request r;
    char target[64], action[64];

    (void)snprintf(target, sizeof target, "AmazonSQS.%s", operation);
    (void)snprintf(action, sizeof action, "sqs:%s", operation);
    sqs_request(&r, target);
    r.body = buf_slice(body);
    return call(s, &r, manner, action, what, err);
}

static int query_do(struct session *s, enum aws_service service, const char *action,
                    struct buf *form, const struct manner *manner, const char *what,
                    struct err *err)
{
    struct aws_request r = {0};
    char permission[64];

    (void)snprintf(permission, sizeof permission, "%s:%s", service == AWS_IAM ? "iam" : "sns",
                   action);
    query_request(&r, service, buf_slice(form));
    return call(s, &r, manner, permission, what, err);
}

/* folder: "configuration-sets"; name and below may be NULL and "". */
static int ses_do(struct session *s, const char *method, const char *folder, const char *name,
                  const char *below, const struct buf *body, const struct manner *manner,
                  const char *action, const char *what, struct err *err)
{
    struct buf path = {0};

    buf_printf(&path, "/v2/email/%s", folder);
    if (name != NULL) {
        buf_add_byte(&path, '/');
        text_percent_encode(&path, slice_str(name), "");
    }
    buf_add_str(&path, below);
    struct aws_request r = {.service = AWS_SES,
                            .method = method,
                            .path = buf_cstr(&path),
                            .content_type = body != NULL ? "application/json" : NULL,
                            .body = body != NULL ? buf_slice(body) : slice_none()};
    int failed = call(s, &r, manner, action, what, err);
    buf_fini(&path);
    return failed;
}

static const struct manner plain = {0};

static void add_tree(struct buf *to, const char *name, const cJSON *tree)
{
    json_put_name(to, name);
    json_put_tree(to, tree);
}

static void put_ses_tags(struct buf *to)
{
    buf_add_str(to,
                ",\"Tags\":[{\"Key\":\"" PLUMBING_TAG "\",\"Value\":\"" PLUMBING_TAG_VALUE "\"}]");
}

static void put_query_tags(struct buf *form)
{
    query_add(form, "Tags.member.1.Key", SLICE(PLUMBING_TAG));
    query_add(form, "Tags.member.1.Value", SLICE(PLUMBING_TAG_VALUE));
}

/* What is there becomes ours. */
static int put_tag(struct session *s, const struct resource *r, struct err *err)
{
    struct buf body = {0};
    int failed = 0;

    switch (r->kind) {
    case RESOURCE_QUEUE:
        buf_add_byte(&body, '{');
        json_put_str(&body, "QueueUrl", json_get_text(r->found, "QueueUrl"));
        buf_add_str(&body, ",\"Tags\":{\"" PLUMBING_TAG "\":\"" PLUMBING_TAG_VALUE "\"}}");
        failed = sqs_do(s, "TagQueue", &body, &plain, r->name, err);
        break;
    case RESOURCE_TOPIC:
        query_begin(&body, AWS_SNS, "TagResource");
        query_add(&body, "ResourceArn", slice_str(r->arn));
        put_query_tags(&body);
        failed = query_do(s, AWS_SNS, "TagResource", &body, &plain, r->arn, err);
        break;
    case RESOURCE_USER:
        query_begin(&body, AWS_IAM, "TagUser");
        query_add(&body, "UserName", slice_str(r->name));
        put_query_tags(&body);
        failed = query_do(s, AWS_IAM, "TagUser", &body, &plain, r->name, err);
        break;
    case RESOURCE_SET:
    case RESOURCE_IDENTITY:
        buf_add_byte(&body, '{');
        json_put_str(&body, "ResourceArn", slice_str(r->arn));
        put_ses_tags(&body);
        buf_add_byte(&body, '}');
        failed = ses_do(s, "POST", "tags", NULL, "", &body, &plain, "ses:TagResource", r->arn, err);
        break;
    case RESOURCE_SUBSCRIPTION:
    case RESOURCE_DESTINATION:
        break;
    }
    buf_fini(&body);
    return failed;
}

/* ---- queues ---- */

static int make_queue(struct session *s, const struct resource *r, uint64_t patience_ms,
                      struct err *err)
{
    const cJSON *attributes = json_get(r->wanted, "Attributes");
    struct buf body = {0};
    int failed;

    buf_add_byte(&body, '{');
    if (r->state == RESOURCE_CREATE) {
        json_put_str(&body, "QueueName", slice_str(r->name));
        add_tree(&body, "Attributes", attributes);
        buf_add_str(&body, ",\"tags\":{\"" PLUMBING_TAG "\":\"" PLUMBING_TAG_VALUE "\"}}");
        failed = sqs_do(s, "CreateQueue", &body,
                        &(struct manner){.passes = "QueueDeletedRecently "
                                                   "AWS.SimpleQueueService.QueueDeletedRecently",
                                         .patience_ms = patience_ms},
                        r->arn, err);
    } else {
        cJSON *changeable = cJSON_Duplicate(attributes, true);
        cJSON_DeleteItemFromObjectCaseSensitive(changeable, "FifoQueue"); /* is so from its birth */
        json_put_str(&body, "QueueUrl", json_get_text(r->found, "QueueUrl"));
        add_tree(&body, "Attributes", changeable);
        buf_add_byte(&body, '}');
        failed = sqs_do(s, "SetQueueAttributes", &body, &plain, r->arn, err);
        json_free(changeable);
    }
    buf_fini(&body);
    return failed;
}

/* ---- topics, subscriptions ---- */

static int make_topic(struct session *s, const struct resource *r, struct err *err)
{
    struct slice policy = json_get_text(json_get(r->wanted, "Attributes"), "Policy");
    bool is_new = r->state == RESOURCE_CREATE;
    const char *action = is_new ? "CreateTopic" : "SetTopicAttributes";
    struct buf form = {0};

    query_begin(&form, AWS_SNS, action);
    if (is_new) {
        query_add(&form, "Name", slice_str(r->name));
        query_add_entry(&form, "Attributes", 1, "Policy", policy);
        put_query_tags(&form);
    } else {
        query_add(&form, "TopicArn", slice_str(r->arn));
        query_add(&form, "AttributeName", SLICE("Policy"));
        query_add(&form, "AttributeValue", policy);
    }
    int failed = query_do(s, AWS_SNS, action, &form, &plain, r->arn, err);
    buf_fini(&form);
    return failed;
}

static int make_subscription(struct session *s, const struct resource *r, struct err *err)
{
    struct slice raw = json_get_text(json_get(r->wanted, "Attributes"), "RawMessageDelivery");
    bool is_new = r->state == RESOURCE_CREATE;
    const char *action = is_new ? "Subscribe" : "SetSubscriptionAttributes";
    struct buf form = {0};

    query_begin(&form, AWS_SNS, action);
    if (is_new) {
        query_add(&form, "TopicArn", slice_str(r->of->arn));
        query_add(&form, "Protocol", SLICE("sqs"));
        query_add(&form, "Endpoint", slice_str(r->to->arn));
        query_add(&form, "ReturnSubscriptionArn", SLICE("true"));
        query_add_entry(&form, "Attributes", 1, "RawMessageDelivery", raw);
    } else {
        query_add(&form, "SubscriptionArn", json_get_text(r->found, "SubscriptionArn"));
        query_add(&form, "AttributeName", SLICE("RawMessageDelivery"));
        query_add(&form, "AttributeValue", raw);
    }
    int failed = query_do(s, AWS_SNS, action, &form, &plain, r->of->arn, err);
    buf_fini(&form);
    return failed;
}

/* ---- SES ---- */

static int make_set(struct session *s, const struct resource *r, struct err *err)
{
    struct buf body = {0};
    int failed;

    if (r->state == RESOURCE_CREATE) {
        buf_add_byte(&body, '{');
        json_put_str(&body, "ConfigurationSetName", slice_str(r->name));
        add_tree(&body, "SendingOptions", json_get(r->wanted, "SendingOptions"));
        put_ses_tags(&body);
        buf_add_byte(&body, '}');
        failed = ses_do(s, "POST", "configuration-sets", NULL, "", &body, &plain,
                        "ses:CreateConfigurationSet", r->arn, err);
    } else {
        json_put_tree(&body, json_get(r->wanted, "SendingOptions"));
        failed = ses_do(s, "PUT", "configuration-sets", r->name, "/sending", &body, &plain,
                        "ses:PutConfigurationSetSendingOptions", r->arn, err);
    }
    buf_fini(&body);
    return failed;
}

/* SES publishes a test message through it: what it needs must hold already, and a policy that was
 * set just now may take some seconds. */
static int make_destination(struct session *s, const struct resource *r, uint64_t patience_ms,
                            struct err *err)
{
    const struct manner waits = {.passes = "BadRequestException NotFoundException",
                                 .patience_ms = patience_ms};
    bool is_new = r->state == RESOURCE_CREATE;
    struct slice found_name = json_get_text(r->found, "Name");
    struct buf body = {0}, below = {0};
    int failed;

    buf_add_byte(&body, '{');
    buf_add_str(&below, "/event-destinations");
    if (is_new) {
        json_put_str(&body, "EventDestinationName", slice_str(r->name));
    } else {
        buf_add_byte(&below, '/');
        text_percent_encode(&below, found_name, "");
    }
    add_tree(&body, "EventDestination", r->wanted);
    buf_add_byte(&body, '}');
    failed = ses_do(s, is_new ? "POST" : "PUT", "configuration-sets", r->of->name, buf_cstr(&below),
                    &body, &waits,
                    is_new ? "ses:CreateConfigurationSetEventDestination"
                           : "ses:UpdateConfigurationSetEventDestination",
                    r->of->arn, err);
    buf_fini(&body);
    buf_fini(&below);
    return failed;
}

static int put_identity_part(struct session *s, const struct resource *r, const char *below,
                             const char *action, struct buf *body, struct err *err)
{
    int failed = ses_do(s, "PUT", "identities", r->name, below, body, &plain, action, r->arn, err);

    buf_fini(body);
    return failed;
}

static int create_identity(struct session *s, const struct resource *r, struct err *err)
{
    struct buf body = {0};

    buf_add_byte(&body, '{');
    json_put_str(&body, "EmailIdentity", slice_str(r->name));
    buf_add_str(&body, ",\"DkimSigningAttributes\":{\"NextSigningKeyLength\":\"RSA_2048_BIT\"}");
    put_ses_tags(&body);
    buf_add_byte(&body, '}');
    int failed = ses_do(s, "POST", "identities", NULL, "", &body, &plain, "ses:CreateEmailIdentity",
                        r->arn, err);
    buf_fini(&body);
    return failed;
}

/* Part by part, those that the plan shows as different. */
static int make_identity(struct session *s, const struct resource *r, struct err *err)
{
    const cJSON *from = json_get(r->wanted, "MailFromAttributes");
    bool is_new = r->state == RESOURCE_CREATE;
    struct buf body = {0};

    if (is_new && create_identity(s, r, err) != 0)
        return -1;
    if (!is_new && plan_changes(r, "SigningEnabled")) {
        buf_add_str(&body, "{\"SigningEnabled\":true}");
        if (put_identity_part(s, r, "/dkim", "ses:PutEmailIdentityDkimAttributes", &body, err) != 0)
            return -1;
    }
    if (from != NULL &&
        (is_new || plan_changes(r, "MailFromDomain") || plan_changes(r, "BehaviorOnMxFailure"))) {
        json_put_tree(&body, from);
        if (put_identity_part(s, r, "/mail-from", "ses:PutEmailIdentityMailFromAttributes", &body,
                              err) != 0)
            return -1;
    }
    if (is_new || plan_changes(r, "FeedbackForwardingStatus")) {
        buf_add_str(&body, "{\"EmailForwardingEnabled\":false}");
        if (put_identity_part(s, r, "/feedback", "ses:PutEmailIdentityFeedbackAttributes", &body,
                              err) != 0)
            return -1;
    }
    return 0;
}

/* ---- IAM ---- */

static int make_user(struct session *s, const struct resource *r, struct err *err)
{
    struct buf form = {0};
    int failed = 0;

    if (r->state == RESOURCE_CREATE) {
        query_begin(&form, AWS_IAM, "CreateUser");
        query_add(&form, "UserName", slice_str(r->name));
        put_query_tags(&form);
        failed = query_do(s, AWS_IAM, "CreateUser", &form,
                          &(struct manner){.fine = "EntityAlreadyExists"}, r->arn, err);
    }
    if (failed == 0) {
        query_begin(&form, AWS_IAM, "PutUserPolicy");
        query_add(&form, "UserName", slice_str(r->name));
        query_add(&form, "PolicyName", SLICE(PLUMBING_POLICY));
        query_add(&form, "PolicyDocument",
                  json_get_text(json_get(r->wanted, "Policies"), PLUMBING_POLICY));
        failed = query_do(s, AWS_IAM, "PutUserPolicy", &form, &plain, r->arn, err);
    }
    buf_fini(&form);
    return failed;
}

int make_access_key(struct session *s, const struct resource *user, struct buf *id,
                    struct buf *secret, struct err *err)
{
    static const char path[] = "CreateAccessKeyResponse/CreateAccessKeyResult/AccessKey/";
    struct aws_request r = {0};
    struct session_answer a;
    struct buf form = {0}, where = {0};

    query_begin(&form, AWS_IAM, "CreateAccessKey");
    query_add(&form, "UserName", slice_str(user->name));
    query_request(&r, AWS_IAM, buf_slice(&form));
    /* Once: a second one would leave a key that nobody knows the secret of. */
    int failed = session_call_once(s, &r, &a, err);
    buf_fini(&form);
    if (failed != 0)
        return -1;
    if (is_good(&a)) {
        buf_printf(&where, "%sAccessKeyId", path);
        bool told = xml_text(buf_slice(&a.body), buf_cstr(&where), id) == XML_FOUND;
        buf_reset(&where);
        buf_printf(&where, "%sSecretAccessKey", path);
        (void)buf_reserve(secret, 256); /* a realloc would leave a part of it behind */
        told = told && xml_text(buf_slice(&a.body), buf_cstr(&where), secret) == XML_FOUND;
        if (!told)
            failed = err_set(err, ERR_INPUT, "iam:CreateAccessKey, %s: the answer has no key",
                             user->name);
    } else if (strcmp(a.code, "LimitExceeded") == 0) {
        failed = err_set(err, ERR_FULL,
                         "%s has two access keys already, as many as IAM allows, and neither "
                         "stands in the configuration: delete one (aws iam delete-access-key "
                         "--user-name %s --access-key-id …) and run this again",
                         user->name, user->name);
    } else {
        failed = session_refusal(s, &a, "iam:CreateAccessKey", user->arn, err);
    }
    session_answer_fini(&a);
    buf_fini(&where);
    return failed;
}

/* ---- one resource ---- */

static int make_one(struct session *s, const struct resource *r, uint64_t patience_ms,
                    struct err *err)
{
    switch (r->kind) {
    case RESOURCE_QUEUE:
        return make_queue(s, r, patience_ms, err);
    case RESOURCE_TOPIC:
        return make_topic(s, r, err);
    case RESOURCE_SUBSCRIPTION:
        return make_subscription(s, r, err);
    case RESOURCE_SET:
        return make_set(s, r, err);
    case RESOURCE_DESTINATION:
        return make_destination(s, r, patience_ms, err);
    case RESOURCE_IDENTITY:
        return make_identity(s, r, err);
    case RESOURCE_USER:
        return make_user(s, r, err);
    }
    abort(); /* no kind */
}

int make_resource(struct session *s, struct resource *r, uint64_t patience_ms, struct err *err)
{
    bool is_adopted = plan_changes(r, PLAN_TAG);

    if (is_adopted && put_tag(s, r, err) != 0)
        return -1;
    if (is_adopted && r->changes[1] == NULL)
        return 0;
    return make_one(s, r, patience_ms, err);
}

/* ---- removing ---- */

static int remove_user(struct session *s, const struct resource *r, struct err *err)
{
    const struct manner gone = {.fine = "NoSuchEntity"};
    struct buf form = {0};
    int failed = 0;

    for (const cJSON *key = json_first(json_get(r->found, "AccessKeys"));
         key != NULL && failed == 0; key = key->next) {
        query_begin(&form, AWS_IAM, "DeleteAccessKey");
        query_add(&form, "UserName", slice_str(r->name));
        query_add(&form, "AccessKeyId", json_get_text(key, "AccessKeyId"));
        failed = query_do(s, AWS_IAM, "DeleteAccessKey", &form, &gone, r->arn, err);
    }
    if (failed == 0) {
        query_begin(&form, AWS_IAM, "DeleteUserPolicy");
        query_add(&form, "UserName", slice_str(r->name));
        query_add(&form, "PolicyName", SLICE(PLUMBING_POLICY));
        failed = query_do(s, AWS_IAM, "DeleteUserPolicy", &form, &gone, r->arn, err);
    }
    if (failed == 0) {
        query_begin(&form, AWS_IAM, "DeleteUser");
        query_add(&form, "UserName", slice_str(r->name));
        failed = query_do(s, AWS_IAM, "DeleteUser", &form, &gone, r->arn, err);
    }
    buf_fini(&form);
    return failed;
}

int make_removal(struct session *s, struct resource *r, struct err *err)
{
    const struct manner gone = {.fine = "NotFound NotFoundException QueueDoesNotExist "
                                        "AWS.SimpleQueueService.NonExistentQueue"};
    struct buf body = {0};
    int failed = 0;

    switch (r->kind) {
    case RESOURCE_QUEUE:
        buf_add_byte(&body, '{');
        json_put_str(&body, "QueueUrl", json_get_text(r->found, "QueueUrl"));
        buf_add_byte(&body, '}');
        failed = sqs_do(s, "DeleteQueue", &body, &gone, r->arn, err);
        break;
    case RESOURCE_TOPIC:
        query_begin(&body, AWS_SNS, "DeleteTopic");
        query_add(&body, "TopicArn", slice_str(r->arn));
        failed = query_do(s, AWS_SNS, "DeleteTopic", &body, &gone, r->arn, err);
        break;
    case RESOURCE_SUBSCRIPTION:
        query_begin(&body, AWS_SNS, "Unsubscribe");
        query_add(&body, "SubscriptionArn", json_get_text(r->found, "SubscriptionArn"));
        failed = query_do(s, AWS_SNS, "Unsubscribe", &body, &gone, r->of->arn, err);
        break;
    case RESOURCE_SET:
        failed = ses_do(s, "DELETE", "configuration-sets", r->name, "", NULL, &gone,
                        "ses:DeleteConfigurationSet", r->arn, err);
        break;
    case RESOURCE_DESTINATION:
        buf_add_str(&body, "/event-destinations/");
        text_percent_encode(&body, json_get_text(r->found, "Name"), "");
        failed = ses_do(s, "DELETE", "configuration-sets", r->of->name, buf_cstr(&body), NULL,
                        &gone, "ses:DeleteConfigurationSetEventDestination", r->of->arn, err);
        break;
    case RESOURCE_IDENTITY:
        failed = ses_do(s, "DELETE", "identities", r->name, "", NULL, &gone,
                        "ses:DeleteEmailIdentity", r->arn, err);
        break;
    case RESOURCE_USER:
        failed = remove_user(s, r, err);
        break;
    }
    buf_fini(&body);
    return failed;
}
