#include "setup/inspect.h"

#include <stdio.h>
#include <string.h>

#include "aws/query.h"
#include "aws/ses.h"
#include "aws/sqs.h"
#include "base/digest.h"

enum { MEMBERS_MAX = 10000, PATH_BYTES = 256 };

static bool is_good(const struct session_answer *a)
{
    return a->status >= 200 && a->status < 300;
}

static bool is_code(const struct session_answer *a, const char *code)
{
    return strcmp(a->code, code) == 0;
}

/* The service does not have that call at all. */
static bool is_unknown_call(const struct session_answer *a)
{
    return is_code(a, "InvalidAction") || is_code(a, "UnsupportedOperation") ||
           is_code(a, "UnknownOperationException");
}

/* A JSON answer's tree, or what went wrong. */
static enum inspect_result take_json(const struct session *s, struct session_answer *a,
                                     const char *action, const char *what, cJSON **found,
                                     struct err *err)
{
    enum inspect_result result = INSPECT_FAILED;

    *found = NULL;
    if (!is_good(a)) {
        (void)session_refusal(s, a, action, what, err);
    } else {
        *found = json_parse(buf_slice(&a->body));
        result = cJSON_IsObject(*found) ? INSPECT_FOUND : INSPECT_FAILED;
        if (result == INSPECT_FAILED) {
            json_free(*found);
            *found = NULL;
            (void)err_set(err, ERR_INPUT, "%s, %s: the answer is no JSON object", action, what);
        }
    }
    session_answer_fini(a);
    return result;
}

/* [{"Key":…,"Value":…}] as {…}. */
static void tags_as_object(cJSON *tree)
{
    cJSON *list = cJSON_DetachItemFromObjectCaseSensitive(tree, "Tags");
    cJSON *map = cJSON_CreateObject();

    for (const cJSON *t = json_first(list); t != NULL; t = t->next) {
        const cJSON *key = json_get(t, "Key"), *value = json_get(t, "Value");
        if (cJSON_IsString(key))
            (void)cJSON_AddStringToObject(map, key->valuestring,
                                          cJSON_IsString(value) ? value->valuestring : "");
    }
    json_free(list);
    (void)cJSON_AddItemToObject(tree, "Tags", map);
}

static void add_text(cJSON *to, const char *name, struct buf *text)
{
    (void)cJSON_AddStringToObject(to, name, buf_cstr(text));
}

/* ---- STS ---- */

enum inspect_result inspect_caller(struct session *s, cJSON **found, struct err *err)
{
    static const char path[] = "GetCallerIdentityResponse/GetCallerIdentityResult";
    static const char *const names[] = {"Account", "Arn", "UserId"};
    struct aws_request r = {0};
    struct session_answer a;
    struct buf form = {0};

    *found = NULL;
    query_begin(&form, AWS_STS, "GetCallerIdentity");
    query_request(&r, AWS_STS, buf_slice(&form));
    int failed = session_call(s, &r, &a, err);
    buf_fini(&form);
    if (failed != 0)
        return INSPECT_FAILED;
    if (!is_good(&a)) {
        (void)session_refusal(s, &a, "sts:GetCallerIdentity", "the caller", err);
        session_answer_fini(&a);
        return INSPECT_FAILED;
    }
    *found = cJSON_CreateObject();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char whole[PATH_BYTES];
        struct buf text = {0};
        (void)snprintf(whole, sizeof whole, "%s/%s", path, names[i]);
        if (xml_text(buf_slice(&a.body), whole, &text) == XML_FOUND)
            add_text(*found, names[i], &text);
        buf_fini(&text);
    }
    session_answer_fini(&a);
    if (json_get_text(*found, "Account").len > 0)
        return INSPECT_FOUND;
    json_free(*found);
    *found = NULL;
    (void)err_set(err, ERR_INPUT, "sts:GetCallerIdentity tells no account");
    return INSPECT_FAILED;
}

/* ---- SQS ---- */

static enum inspect_result sqs_call(struct session *s, const char *target, struct slice region,
                                    const struct buf *body, const char *action, const char *what,
                                    cJSON **found, struct err *err)
{
    struct aws_request r;
    struct session_answer a;

    *found = NULL;
    sqs_request(&r, target);
    r.region = region;
    r.body = buf_slice(body);
    if (session_call(s, &r, &a, err) != 0)
        return INSPECT_FAILED;
    if (is_code(&a, "QueueDoesNotExist") ||
        is_code(&a, "AWS.SimpleQueueService.NonExistentQueue")) {
        session_answer_fini(&a);
        return INSPECT_ABSENT;
    }
    if (is_unknown_call(&a)) {
        session_answer_fini(&a);
        *found = cJSON_CreateObject();
        return INSPECT_FOUND;
    }
    return take_json(s, &a, action, what, found, err);
}

enum inspect_result inspect_queue_at(struct session *s, struct slice url, cJSON **found,
                                     struct err *err)
{
    struct buf body = {0}, what = {0};

    buf_add_slice(&what, url);
    buf_add_byte(&body, '{');
    json_put_str(&body, "QueueUrl", url);
    buf_add_str(&body, ",\"AttributeNames\":[\"All\"]}");
    enum inspect_result got = sqs_call(s, "AmazonSQS.GetQueueAttributes", sqs_region_of(url), &body,
                                       "sqs:GetQueueAttributes", buf_cstr(&what), found, err);
    if (got == INSPECT_FOUND)
        (void)cJSON_AddItemToObject(*found, "QueueUrl", cJSON_CreateString(buf_cstr(&what)));
    buf_fini(&body);
    buf_fini(&what);
    return got;
}

enum inspect_result inspect_queue(struct session *s, const char *name, cJSON **found,
                                  struct err *err)
{
    struct buf body = {0};
    cJSON *where = NULL;

    buf_add_byte(&body, '{');
    json_put_str(&body, "QueueName", slice_str(name));
    buf_add_byte(&body, '}');
    enum inspect_result got = sqs_call(s, "AmazonSQS.GetQueueUrl", slice_none(), &body,
                                       "sqs:GetQueueUrl", name, &where, err);
    *found = NULL;
    if (got == INSPECT_FOUND)
        got = inspect_queue_at(s, json_get_text(where, "QueueUrl"), found, err);
    json_free(where);
    buf_fini(&body);
    return got;
}

int inspect_queue_tags(struct session *s, cJSON *queue, struct err *err)
{
    struct slice url = json_get_text(queue, "QueueUrl");
    struct buf body = {0}, what = {0};
    cJSON *answer = NULL;

    buf_add_slice(&what, url);
    buf_add_byte(&body, '{');
    json_put_str(&body, "QueueUrl", url);
    buf_add_byte(&body, '}');
    enum inspect_result got = sqs_call(s, "AmazonSQS.ListQueueTags", sqs_region_of(url), &body,
                                       "sqs:ListQueueTags", buf_cstr(&what), &answer, err);
    if (got == INSPECT_FOUND) {
        cJSON *tags = cJSON_DetachItemFromObjectCaseSensitive(answer, "Tags");
        if (tags == NULL)
            tags = cJSON_CreateObject();
        cJSON_DeleteItemFromObjectCaseSensitive(queue, "Tags");
        (void)cJSON_AddItemToObject(queue, "Tags", tags);
    }
    json_free(answer);
    buf_fini(&body);
    buf_fini(&what);
    return got == INSPECT_FAILED ? -1 : 0;
}

/* ---- SNS ---- */

/* "GetTopicAttributes", and the one or two fields it takes. Owns nothing of the answer on failure. */
static enum inspect_result sns_call(struct session *s, const char *action, const char *field,
                                    const char *value, const char *next_token,
                                    struct session_answer *a, struct err *err)
{
    struct aws_request r = {0};
    struct buf form = {0};
    char permission[64];
    enum inspect_result result = INSPECT_FOUND;

    query_begin(&form, AWS_SNS, action);
    query_add(&form, field, slice_str(value));
    if (next_token[0] != '\0')
        query_add(&form, "NextToken", slice_str(next_token));
    query_request(&r, AWS_SNS, buf_slice(&form));
    if (session_call(s, &r, a, err) != 0) {
        buf_fini(&form);
        return INSPECT_FAILED;
    }
    (void)snprintf(permission, sizeof permission, "sns:%s", action);
    if (is_code(a, "NotFound") || is_code(a, "NotFoundException") ||
        is_code(a, "ResourceNotFound") || is_unknown_call(a)) {
        result = INSPECT_ABSENT;
    } else if (!is_good(a)) {
        (void)session_refusal(s, a, permission, value, err);
        result = INSPECT_FAILED;
    }
    if (result != INSPECT_FOUND)
        session_answer_fini(a);
    buf_fini(&form);
    return result;
}

static int add_subscription_attributes(struct session *s, cJSON *subscription, const char *arn,
                                       struct err *err)
{
    struct session_answer a;
    enum inspect_result got =
        sns_call(s, "GetSubscriptionAttributes", "SubscriptionArn", arn, "", &a, err);

    if (got == INSPECT_FOUND) {
        (void)cJSON_AddItemToObject(
            subscription, "Attributes",
            query_map(buf_slice(&a.body),
                      "GetSubscriptionAttributesResponse/GetSubscriptionAttributesResult/"
                      "Attributes",
                      "entry", "key", "value"));
        session_answer_fini(&a);
    }
    return got == INSPECT_FAILED ? -1 : 0;
}

static cJSON *take_subscription(struct slice body, const char *path, unsigned n)
{
    static const char *const names[] = {"SubscriptionArn", "Protocol", "Endpoint", "Owner"};
    struct buf text = {0};
    cJSON *one = NULL;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (!query_member(body, path, "member", n, names[i], &text))
            continue;
        if (one == NULL)
            one = cJSON_CreateObject();
        add_text(one, names[i], &text);
    }
    buf_fini(&text);
    return one;
}

static int add_subscriptions(struct session *s, cJSON *topic, const char *arn, struct err *err)
{
    static const char result[] = "ListSubscriptionsByTopicResponse/ListSubscriptionsByTopicResult";
    cJSON *list = cJSON_AddArrayToObject(topic, "Subscriptions"), *one;
    struct buf token = {0};
    char path[PATH_BYTES];
    int failed = 0;

    do {
        struct session_answer a;
        enum inspect_result got =
            sns_call(s, "ListSubscriptionsByTopic", "TopicArn", arn, buf_cstr(&token), &a, err);
        if (got != INSPECT_FOUND) {
            failed = got == INSPECT_FAILED ? -1 : 0;
            break;
        }
        (void)snprintf(path, sizeof path, "%s/Subscriptions", result);
        for (unsigned n = 1; n <= MEMBERS_MAX; n++) {
            one = take_subscription(buf_slice(&a.body), path, n);
            if (one == NULL)
                break;
            (void)cJSON_AddItemToArray(list, one);
        }
        (void)snprintf(path, sizeof path, "%s/NextToken", result);
        buf_reset(&token);
        (void)xml_text(buf_slice(&a.body), path, &token);
        session_answer_fini(&a);
    } while (token.len > 0);
    for (one = list->child; one != NULL && failed == 0; one = one->next) {
        struct slice own = json_get_text(one, "SubscriptionArn");
        /* "PendingConfirmation", "Deleted" stand where there is no ARN. */
        if (slice_eq(json_get_text(one, "Protocol"), SLICE("sqs")) &&
            slice_starts(own, SLICE("arn:")))
            failed = add_subscription_attributes(s, one, (const char *)own.ptr, err);
    }
    buf_fini(&token);
    return failed;
}

enum inspect_result inspect_topic(struct session *s, const char *arn, cJSON **found,
                                  struct err *err)
{
    struct session_answer a;

    *found = NULL;
    enum inspect_result got = sns_call(s, "GetTopicAttributes", "TopicArn", arn, "", &a, err);
    if (got != INSPECT_FOUND)
        return got;
    *found = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(*found, "TopicArn", arn);
    (void)cJSON_AddItemToObject(
        *found, "Attributes",
        query_map(buf_slice(&a.body),
                  "GetTopicAttributesResponse/GetTopicAttributesResult/Attributes", "entry", "key",
                  "value"));
    session_answer_fini(&a);
    if (add_subscriptions(s, *found, arn, err) != 0) {
        json_free(*found);
        *found = NULL;
        return INSPECT_FAILED;
    }
    return INSPECT_FOUND;
}

int inspect_topic_tags(struct session *s, cJSON *topic, struct err *err)
{
    const cJSON *arn = json_get(topic, "TopicArn");
    struct session_answer a;
    enum inspect_result got =
        sns_call(s, "ListTagsForResource", "ResourceArn", arn->valuestring, "", &a, err);

    if (got == INSPECT_FOUND) {
        cJSON_DeleteItemFromObjectCaseSensitive(topic, "Tags");
        (void)cJSON_AddItemToObject(
            topic, "Tags",
            query_map(buf_slice(&a.body),
                      "ListTagsForResourceResponse/ListTagsForResourceResult/Tags", "member", "Key",
                      "Value"));
        session_answer_fini(&a);
    }
    return got == INSPECT_FAILED ? -1 : 0;
}

/* ---- SES ---- */

static enum inspect_result ses_get(struct session *s, const char *folder, const char *name,
                                   const char *below, const char *action, cJSON **found,
                                   struct err *err)
{
    struct session_answer a;
    struct buf path = {0};

    *found = NULL;
    buf_printf(&path, "/v2/email/%s", folder);
    if (name != NULL) {
        buf_add_byte(&path, '/');
        text_percent_encode(&path, slice_str(name), "");
    }
    buf_add_str(&path, below);
    struct aws_request r = {.service = AWS_SES, .method = "GET", .path = buf_cstr(&path)};
    enum inspect_result result = INSPECT_FAILED;
    if (session_call(s, &r, &a, err) != 0) {
        result = INSPECT_FAILED;
    } else if (is_code(&a, "NotFoundException")) {
        session_answer_fini(&a);
        result = INSPECT_ABSENT;
    } else {
        result = take_json(s, &a, action, name != NULL ? name : "the account", found, err);
    }
    buf_fini(&path);
    return result;
}

enum inspect_result inspect_account(struct session *s, cJSON **found, struct err *err)
{
    return ses_get(s, "account", NULL, "", "ses:GetAccount", found, err);
}

enum inspect_result inspect_configuration_set(struct session *s, const char *name, cJSON **found,
                                              struct err *err)
{
    cJSON *destinations = NULL;
    enum inspect_result got =
        ses_get(s, "configuration-sets", name, "", "ses:GetConfigurationSet", found, err);

    if (got != INSPECT_FOUND)
        return got;
    tags_as_object(*found);
    if (json_get(*found, "SendingOptions") == NULL)
        (void)cJSON_AddTrueToObject(cJSON_AddObjectToObject(*found, "SendingOptions"),
                                    "SendingEnabled");
    got = ses_get(s, "configuration-sets", name, "/event-destinations",
                  "ses:GetConfigurationSetEventDestinations", &destinations, err);
    if (got == INSPECT_FOUND) {
        cJSON *list = cJSON_DetachItemFromObjectCaseSensitive(destinations, "EventDestinations");
        (void)cJSON_AddItemToObject(*found, "EventDestinations",
                                    list != NULL ? list : cJSON_CreateArray());
    } else {
        json_free(*found);
        *found = NULL;
    }
    json_free(destinations);
    return got;
}

enum inspect_result inspect_email_identity(struct session *s, const char *identity, cJSON **found,
                                           struct err *err)
{
    enum inspect_result got =
        ses_get(s, "identities", identity, "", "ses:GetEmailIdentity", found, err);

    if (got == INSPECT_FOUND)
        tags_as_object(*found);
    return got;
}

/* ---- IAM ---- */

static enum inspect_result iam_call(struct session *s, const char *action, const char *user,
                                    const char *policy, struct session_answer *a, struct err *err)
{
    struct aws_request r = {0};
    struct buf form = {0};
    char permission[64];
    enum inspect_result result = INSPECT_FOUND;

    query_begin(&form, AWS_IAM, action);
    query_add(&form, "UserName", slice_str(user));
    if (policy != NULL)
        query_add(&form, "PolicyName", slice_str(policy));
    query_request(&r, AWS_IAM, buf_slice(&form));
    if (session_call(s, &r, a, err) != 0) {
        buf_fini(&form);
        return INSPECT_FAILED;
    }
    (void)snprintf(permission, sizeof permission, "iam:%s", action);
    if (is_code(a, "NoSuchEntity")) {
        result = INSPECT_ABSENT;
    } else if (!is_good(a)) {
        (void)session_refusal(s, a, permission, user, err);
        result = INSPECT_FAILED;
    }
    if (result != INSPECT_FOUND)
        session_answer_fini(a);
    buf_fini(&form);
    return result;
}

static int add_policy(struct session *s, cJSON *user, const char *name, const char *policy,
                      struct err *err)
{
    cJSON *policies = cJSON_AddObjectToObject(user, "Policies");
    struct buf text = {0}, plain = {0};
    struct session_answer a;
    enum inspect_result got = iam_call(s, "GetUserPolicy", name, policy, &a, err);

    if (got != INSPECT_FOUND)
        return got == INSPECT_FAILED ? -1 : 0;
    if (xml_text(buf_slice(&a.body), "GetUserPolicyResponse/GetUserPolicyResult/PolicyDocument",
                 &text) == XML_FOUND &&
        text_percent_decode(&plain, buf_slice(&text), false))
        add_text(policies, policy, &plain);
    session_answer_fini(&a);
    buf_fini(&text);
    buf_fini(&plain);
    return 0;
}

static int add_access_keys(struct session *s, cJSON *user, const char *name, struct err *err)
{
    static const char path[] = "ListAccessKeysResponse/ListAccessKeysResult/AccessKeyMetadata";
    cJSON *list = cJSON_AddArrayToObject(user, "AccessKeys");
    struct buf text = {0};
    struct session_answer a;
    enum inspect_result got = iam_call(s, "ListAccessKeys", name, NULL, &a, err);

    if (got != INSPECT_FOUND)
        return got == INSPECT_FAILED ? -1 : 0;
    for (unsigned n = 1; query_member(buf_slice(&a.body), path, "member", n, "AccessKeyId", &text);
         n++) {
        cJSON *key = cJSON_CreateObject();
        add_text(key, "AccessKeyId", &text);
        if (query_member(buf_slice(&a.body), path, "member", n, "Status", &text))
            add_text(key, "Status", &text);
        (void)cJSON_AddItemToArray(list, key);
    }
    session_answer_fini(&a);
    buf_fini(&text);
    return 0;
}

enum inspect_result inspect_user(struct session *s, const char *name, const char *policy,
                                 cJSON **found, struct err *err)
{
    struct buf text = {0};
    struct session_answer a;

    *found = NULL;
    enum inspect_result got = iam_call(s, "GetUser", name, NULL, &a, err);
    if (got != INSPECT_FOUND)
        return got;
    *found = cJSON_CreateObject();
    (void)cJSON_AddStringToObject(*found, "UserName", name);
    if (xml_text(buf_slice(&a.body), "GetUserResponse/GetUserResult/User/Arn", &text) == XML_FOUND)
        add_text(*found, "Arn", &text);
    (void)cJSON_AddItemToObject(*found, "Tags",
                                query_map(buf_slice(&a.body),
                                          "GetUserResponse/GetUserResult/User/Tags", "member",
                                          "Key", "Value"));
    session_answer_fini(&a);
    buf_fini(&text);
    if (add_policy(s, *found, name, policy, err) != 0 ||
        add_access_keys(s, *found, name, err) != 0) {
        json_free(*found);
        *found = NULL;
        return INSPECT_FAILED;
    }
    return INSPECT_FOUND;
}
