/*
 * SNS in memory: topics, and queues subscribed to them, raw or wrapped. Query protocol, XML answers.
 *
 * A notification reaches a queue only if the topic's policy lets the publisher publish and the
 * queue's policy lets this topic send; else it goes to the subscription's dead-letter queue, or is
 * lost, as at AWS.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "mail/date.h"
#include "sandbox/cloud_query.h"
#include "setup/policy_verdict.h"

enum { NAME_MAX_CHARS = 256 };

struct subscription {
    struct subscription *next;
    char *arn, *queue_arn;
    bool raw;
    cJSON *attributes; /* as set; RawMessageDelivery among them */
    cJSON *filter;     /* FilterPolicy, parsed; NULL = none */
    char *dead_letter_arn;
};

struct topic {
    struct topic *next;
    char *name, *arn;
    cJSON *attributes, *tags; /* of strings */
    cJSON *policy;            /* the attribute Policy, parsed */
    struct subscription *subscriptions;
    uint64_t delivered, undelivered; /* to queues */
};

struct cloud_sns {
    struct cloud *cloud;
    struct topic *topics;
    uint64_t last_id;
};

/* -------- topics -------- */

static struct topic **topic_at(struct cloud_sns *s, struct slice arn)
{
    struct topic **at = &s->topics;

    while (*at != NULL && !slice_eq(slice_str((*at)->arn), arn))
        at = &(*at)->next;
    return at;
}

static void set_text(cJSON *object, const char *name, const char *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(object, name);
    (void)cJSON_AddStringToObject(object, name, value);
}

/* The policy of a topic that has been given none: the owner's account may do everything, and SES
 * publishes as the owner. */
static void put_default_policy(struct buf *to, const struct cloud *c, const char *arn)
{
    buf_printf(to,
               "{\"Version\":\"2008-10-17\",\"Id\":\"__default_policy_ID\",\"Statement\":[{"
               "\"Sid\":\"__default_statement_ID\",\"Effect\":\"Allow\",\"Principal\":{\"AWS\":"
               "\"*\"},\"Action\":[\"SNS:GetTopicAttributes\",\"SNS:SetTopicAttributes\","
               "\"SNS:AddPermission\",\"SNS:RemovePermission\",\"SNS:DeleteTopic\","
               "\"SNS:Subscribe\",\"SNS:ListSubscriptionsByTopic\",\"SNS:Publish\"],"
               "\"Resource\":\"%s\",\"Condition\":{\"StringEquals\":{\"AWS:SourceOwner\":"
               "\"%s\"}}}]}",
               arn, c->account);
}

/* False: a Policy that is none. */
static bool set_topic_attribute(struct topic *t, const char *name, const char *value)
{
    if (strcmp(name, "Policy") == 0) {
        cJSON *policy = json_parse(slice_str(value));
        if (!policy_is_good(policy)) {
            json_free(policy);
            return false;
        }
        json_free(t->policy);
        t->policy = policy;
    }
    set_text(t->attributes, name, value);
    return true;
}

static struct topic *topic_make(struct cloud_sns *s, const char *name)
{
    struct buf arn = {0}, policy = {0};

    buf_printf(&arn, "arn:aws:sns:%s:%s:%s", s->cloud->region, s->cloud->account, name);
    struct topic *t = *topic_at(s, buf_slice(&arn));
    if (t == NULL) {
        t = mem_zero(1, sizeof *t);
        t->name = mem_strdup(name);
        t->arn = mem_strdup(buf_cstr(&arn));
        t->attributes = cJSON_CreateObject();
        t->tags = cJSON_CreateObject();
        put_default_policy(&policy, s->cloud, t->arn);
        (void)set_topic_attribute(t, "Policy", buf_cstr(&policy));
        t->next = s->topics;
        s->topics = t;
    }
    buf_fini(&arn);
    buf_fini(&policy);
    return t;
}

/* -------- subscriptions -------- */

/* NULL = good, else why not. */
static const char *set_subscription_attribute(struct subscription *u, const char *name,
                                              const char *value)
{
    cJSON *tree = json_parse(slice_str(value));
    const char *wrong = NULL;

    if (strcmp(name, "RawMessageDelivery") == 0) {
        if (strcmp(value, "true") != 0 && strcmp(value, "false") != 0)
            wrong = "Invalid parameter: Attributes Reason: RawMessageDelivery: Invalid value. Must "
                    "be true or false.";
        else
            u->raw = strcmp(value, "true") == 0;
    } else if (strcmp(name, "RedrivePolicy") == 0) {
        struct slice arn = json_get_text(tree, "deadLetterTargetArn");
        free(u->dead_letter_arn);
        u->dead_letter_arn = arn.len > 0 ? mem_strdup((const char *)arn.ptr) : NULL;
        if (value[0] != '\0' && arn.len == 0)
            wrong = "Invalid parameter: RedrivePolicy: deadLetterTargetArn is missing";
    } else if (strcmp(name, "FilterPolicy") == 0) {
        json_free(u->filter);
        u->filter = tree != NULL && json_first(tree) != NULL ? tree : NULL;
        if (u->filter != NULL)
            tree = NULL;
    } else if (strcmp(name, "FilterPolicyScope") != 0 && strcmp(name, "DeliveryPolicy") != 0) {
        wrong = "Invalid parameter: AttributeName";
    }
    if (wrong == NULL)
        set_text(u->attributes, name, value);
    json_free(tree);
    return wrong;
}

static struct subscription *subscribe(struct cloud_sns *s, struct topic *t, const char *queue_arn)
{
    struct subscription *u = mem_zero(1, sizeof *u);
    struct buf arn = {0};

    buf_printf(&arn, "%s:%08llx-0000-4000-8000-000000000000", t->arn,
               (unsigned long long)++s->last_id);
    u->arn = mem_strdup(buf_cstr(&arn));
    buf_fini(&arn);
    u->queue_arn = mem_strdup(queue_arn);
    u->attributes = cJSON_CreateObject();
    u->next = t->subscriptions;
    t->subscriptions = u;
    return u;
}

static void subscription_free(struct subscription *u)
{
    free(u->arn);
    free(u->queue_arn);
    free(u->dead_letter_arn);
    cJSON_Delete(u->attributes);
    json_free(u->filter);
    free(u);
}

static void topic_free(struct topic *t)
{
    while (t->subscriptions != NULL) {
        struct subscription *gone = t->subscriptions;
        t->subscriptions = gone->next;
        subscription_free(gone);
    }
    free(t->name);
    free(t->arn);
    cJSON_Delete(t->attributes);
    cJSON_Delete(t->tags);
    json_free(t->policy);
    free(t);
}

static struct subscription **subscription_at(struct cloud_sns *s, struct slice arn,
                                             struct topic **of)
{
    for (*of = s->topics; *of != NULL; *of = (*of)->next)
        for (struct subscription **at = &(*of)->subscriptions; *at != NULL; at = &(*at)->next)
            if (slice_eq(slice_str((*at)->arn), arn))
                return at;
    return NULL;
}

void cloud_sns_make(struct cloud_sns *s, const char *topic, const char *queue, bool raw)
{
    struct buf arn = {0};

    buf_printf(&arn, "arn:aws:sqs:%s:%s:%s", s->cloud->region, s->cloud->account, queue);
    struct subscription *u = subscribe(s, topic_make(s, topic), buf_cstr(&arn));
    (void)set_subscription_attribute(u, "RawMessageDelivery", raw ? "true" : "false");
    buf_fini(&arn);
}

/* -------- publishing -------- */

/* On attributes (which SES sends none of), or on the body's first level, by equal text. */
static bool filter_passes(const struct subscription *u, struct slice message)
{
    bool on_body =
        slice_eq(json_get_text(u->attributes, "FilterPolicyScope"), SLICE("MessageBody"));
    bool passes = on_body;

    if (u->filter == NULL)
        return true;
    cJSON *tree = on_body ? json_parse(message) : NULL;
    for (const cJSON *f = json_first(u->filter); f != NULL && passes; f = f->next) {
        passes = false;
        for (const cJSON *v = json_first(f); v != NULL && !passes; v = v->next)
            passes = cJSON_IsString(v) && slice_eq(json_text(v), json_get_text(tree, f->string));
    }
    json_free(tree);
    return passes;
}

static void deliver(struct cloud_sns *s, struct topic *t, const struct subscription *u,
                    struct slice body)
{
    struct slice topic_arn = slice_str(t->arn);

    if (cloud_sqs_put(s->cloud->sqs, slice_str(u->queue_arn), topic_arn, body)) {
        t->delivered++;
        return;
    }
    if (u->dead_letter_arn == NULL ||
        !cloud_sqs_put(s->cloud->sqs, slice_str(u->dead_letter_arn), topic_arn, body))
        t->undelivered++;
}

static bool may_publish(const struct cloud_sns *s, const struct topic *t, const char *service,
                        struct slice source_arn)
{
    const struct slice account = slice_str(s->cloud->account);
    const struct policy_question ask = {
        .service = service,
        .action = "sns:Publish",
        .resource = slice_str(t->arn),
        .facts = {{"aws:SourceArn", source_arn},
                  {"aws:SourceAccount", account},
                  {"aws:SourceOwner", account},
                  {"aws:SecureTransport", SLICE("true")}},
    };

    return service == NULL || policy_verdict(t->policy, true, &ask) == POLICY_ALLOWS;
}

static void put_signature(struct cloud_sns *s, const struct topic *t, struct slice text,
                          struct buf *to)
{
    bool is_2 = slice_eq(json_get_text(t->attributes, "SignatureVersion"), SLICE("2"));
    struct buf signature = {0}, url = {0};

    if (s->cloud->options.sign_notifications) {
        cloud_notary_sign(s->cloud, text, is_2, &signature);
        cloud_notary_put_url(s->cloud, &url);
    } else {
        buf_add_str(&signature, "c2FuZGJveA==");
        buf_add_str(&url, "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-"
                          "sandbox.pem");
    }
    json_put_str(to, "SignatureVersion", is_2 ? SLICE("2") : SLICE("1"));
    json_put_str(to, "Signature", buf_slice(&signature));
    json_put_str(to, "SigningCertURL", buf_slice(&url));
    buf_fini(&signature);
    buf_fini(&url);
}

/* The envelope; what is signed of it is each name and value on a line, in the order of names. */
static void wrap(struct cloud_sns *s, const struct topic *t, struct slice message,
                 const char *subject, struct buf *to)
{
    struct buf id = {0}, at = {0}, text = {0};

    buf_printf(&id, "%016llx-5266d3a4a001", (unsigned long long)++s->last_id);
    date_put_iso8601(&at, clock_wall_us());
    buf_add_str(&text, "Message\n");
    buf_add_slice(&text, message);
    buf_printf(&text, "\nMessageId\n%s\n", buf_cstr(&id));
    if (subject != NULL)
        buf_printf(&text, "Subject\n%s\n", subject);
    buf_printf(&text, "Timestamp\n%s\nTopicArn\n%s\nType\nNotification\n", buf_cstr(&at), t->arn);

    buf_add_byte(to, '{');
    json_put_str(to, "Type", SLICE("Notification"));
    json_put_str(to, "MessageId", buf_slice(&id));
    json_put_str(to, "TopicArn", slice_str(t->arn));
    if (subject != NULL)
        json_put_str(to, "Subject", slice_str(subject));
    json_put_str(to, "Message", message);
    json_put_str(to, "Timestamp", buf_slice(&at));
    put_signature(s, t, buf_slice(&text), to);
    json_put_str(to, "UnsubscribeURL",
                 SLICE("https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe"));
    buf_add_byte(to, '}');
    buf_fini(&id);
    buf_fini(&at);
    buf_fini(&text);
}

bool cloud_sns_publish(struct cloud_sns *s, struct slice topic_arn, const char *service,
                       struct slice source_arn, struct slice message, const char *subject)
{
    struct topic *t = *topic_at(s, topic_arn);
    struct buf envelope = {0};

    if (t == NULL || !may_publish(s, t, service, source_arn))
        return false;
    for (struct subscription *u = t->subscriptions; u != NULL; u = u->next) {
        if (!filter_passes(u, message))
            continue;
        if (u->raw) {
            deliver(s, t, u, message);
            continue;
        }
        buf_reset(&envelope);
        wrap(s, t, message, subject, &envelope);
        deliver(s, t, u, buf_slice(&envelope));
    }
    buf_fini(&envelope);
    return true;
}

/* -------- operations -------- */

struct call {
    struct cloud_sns *s;
    struct cloud_query *q;
    struct topic *t;        /* TopicArn or ResourceArn; NULL = none such */
    struct subscription *u; /* SubscriptionArn */
};

static void invalid(struct call *c, const char *words)
{
    cloud_query_refuse(c->q, 400, "InvalidParameter", words);
}

static bool is_name(const char *name)
{
    size_t len = strlen(name);

    for (size_t i = 0; i < len; i++)
        if (!isalnum((unsigned char)name[i]) && name[i] != '-' && name[i] != '_')
            return false;
    return len > 0 && len <= NAME_MAX_CHARS;
}

/* Of an existing topic: the attributes given must be the ones it has. */
static bool same_attributes(const struct call *c, const struct topic *t)
{
    const char *key;

    for (int i = 1; (key = cloud_query_nth(c->q, "Attributes.entry", i, ".key"))[0] != '\0'; i++)
        if (!slice_eq(json_get_text(t->attributes, key),
                      slice_str(cloud_query_nth(c->q, "Attributes.entry", i, ".value"))))
            return false;
    return true;
}

static void create_topic(struct call *c)
{
    const char *name = cloud_query_get(c->q, "Name"), *key;
    struct buf arn = {0};

    if (!is_name(name)) {
        invalid(c, "Invalid parameter: Topic Name");
        return;
    }
    buf_printf(&arn, "arn:aws:sns:%s:%s:%s", c->s->cloud->region, c->s->cloud->account, name);
    struct topic *t = *topic_at(c->s, buf_slice(&arn));
    buf_fini(&arn);
    if (t != NULL && !same_attributes(c, t)) {
        invalid(c, "Invalid parameter: Attributes Reason: Topic already exists with different "
                   "attributes");
        return;
    }
    if (t == NULL) {
        t = topic_make(c->s, name);
        for (int i = 1; (key = cloud_query_nth(c->q, "Attributes.entry", i, ".key"))[0] != '\0';
             i++)
            (void)set_topic_attribute(t, key,
                                      cloud_query_nth(c->q, "Attributes.entry", i, ".value"));
        cloud_query_take_tags(c->q, t->tags);
    }
    cloud_query_put(c->q, "TopicArn", t->arn);
    cloud_query_answer(c->q);
}

static void list_topics(struct call *c)
{
    buf_add_str(&c->q->out, "<Topics>");
    for (const struct topic *t = c->s->topics; t != NULL; t = t->next) {
        buf_add_str(&c->q->out, "<member>");
        cloud_query_put(c->q, "TopicArn", t->arn);
        buf_add_str(&c->q->out, "</member>");
    }
    buf_add_str(&c->q->out, "</Topics>");
    cloud_query_answer(c->q);
}

static void delete_topic(struct call *c)
{
    if (c->t != NULL) { /* deleting what is not there is no error */
        *topic_at(c->s, slice_str(c->t->arn)) = c->t->next;
        topic_free(c->t);
    }
    cloud_query_answer(c->q);
}

static void get_topic_attributes(struct call *c)
{
    char count[24];
    size_t n = 0;

    for (const struct subscription *u = c->t->subscriptions; u != NULL; u = u->next)
        n++;
    (void)snprintf(count, sizeof count, "%zu", n);
    buf_add_str(&c->q->out, "<Attributes>");
    cloud_query_put_entry(c->q, "TopicArn", c->t->arn);
    cloud_query_put_entry(c->q, "Owner", c->s->cloud->account);
    cloud_query_put_entry(c->q, "SubscriptionsConfirmed", count);
    cloud_query_put_entry(c->q, "SubscriptionsPending", "0");
    cloud_query_put_entry(c->q, "SubscriptionsDeleted", "0");
    for (const cJSON *a = json_first(c->t->attributes); a != NULL; a = a->next)
        cloud_query_put_entry(c->q, a->string, a->valuestring);
    buf_add_str(&c->q->out, "</Attributes>");
    cloud_query_answer(c->q);
}

static void set_topic_attributes(struct call *c)
{
    static const char *const known[] = {"Policy",           "DisplayName",   "DeliveryPolicy",
                                        "SignatureVersion", "TracingConfig", "KmsMasterKeyId"};
    const char *name = cloud_query_get(c->q, "AttributeName");
    size_t at = 0;

    while (at < sizeof known / sizeof known[0] && strcmp(known[at], name) != 0)
        at++;
    if (at == sizeof known / sizeof known[0])
        invalid(c, "Invalid parameter: AttributeName");
    else if (!set_topic_attribute(c->t, name, cloud_query_get(c->q, "AttributeValue")))
        invalid(c, "Invalid parameter: Policy Error: null");
    else
        cloud_query_answer(c->q);
}

static void tag_resource(struct call *c)
{
    cloud_query_take_tags(c->q, c->t->tags);
    cloud_query_answer(c->q);
}

static void list_tags(struct call *c)
{
    cloud_query_put_tags(c->q, c->t->tags);
    cloud_query_answer(c->q);
}

/* Subscribing again with the same attributes gives the same ARN; with others it is an error. */
static void do_subscribe(struct call *c)
{
    const char *queue = cloud_query_get(c->q, "Endpoint"), *key, *wrong = NULL;
    struct subscription *u = c->t->subscriptions;

    if (strcmp(cloud_query_get(c->q, "Protocol"), "sqs") != 0) {
        invalid(c, "Invalid parameter: Protocol: only sqs here");
        return;
    }
    if (!slice_starts(slice_str(queue), SLICE("arn:aws:sqs:"))) {
        invalid(c, "Invalid parameter: SQS endpoint ARN");
        return;
    }
    while (u != NULL && strcmp(u->queue_arn, queue) != 0)
        u = u->next;
    if (u != NULL) {
        for (int i = 1; (key = cloud_query_nth(c->q, "Attributes.entry", i, ".key"))[0] != '\0';
             i++)
            if (!slice_eq(json_get_text(u->attributes, key),
                          slice_str(cloud_query_nth(c->q, "Attributes.entry", i, ".value"))))
                wrong = "Invalid parameter: Attributes Reason: Subscription already exists with "
                        "different attributes";
    } else {
        u = subscribe(c->s, c->t, queue);
        for (int i = 1; (key = cloud_query_nth(c->q, "Attributes.entry", i, ".key"))[0] != '\0' &&
                        wrong == NULL;
             i++)
            wrong = set_subscription_attribute(
                u, key, cloud_query_nth(c->q, "Attributes.entry", i, ".value"));
        if (wrong != NULL) {
            c->t->subscriptions = u->next;
            subscription_free(u);
        }
    }
    if (wrong != NULL) {
        invalid(c, wrong);
        return;
    }
    cloud_query_put(c->q, "SubscriptionArn", u->arn);
    cloud_query_answer(c->q);
}

static void unsubscribe(struct call *c)
{
    struct topic *of;
    struct subscription **at =
        subscription_at(c->s, slice_str(cloud_query_get(c->q, "SubscriptionArn")), &of);

    if (at != NULL) {
        struct subscription *gone = *at;
        *at = gone->next;
        subscription_free(gone);
    }
    cloud_query_answer(c->q);
}

static void list_subscriptions(struct call *c)
{
    buf_add_str(&c->q->out, "<Subscriptions>");
    for (const struct subscription *u = c->t->subscriptions; u != NULL; u = u->next) {
        buf_add_str(&c->q->out, "<member>");
        cloud_query_put(c->q, "TopicArn", c->t->arn);
        cloud_query_put(c->q, "Protocol", "sqs");
        cloud_query_put(c->q, "SubscriptionArn", u->arn);
        cloud_query_put(c->q, "Owner", c->s->cloud->account);
        cloud_query_put(c->q, "Endpoint", u->queue_arn);
        buf_add_str(&c->q->out, "</member>");
    }
    buf_add_str(&c->q->out, "</Subscriptions>");
    cloud_query_answer(c->q);
}

static void get_subscription_attributes(struct call *c)
{
    struct topic *of;

    (void)subscription_at(c->s, slice_str(c->u->arn), &of);
    buf_add_str(&c->q->out, "<Attributes>");
    cloud_query_put_entry(c->q, "SubscriptionArn", c->u->arn);
    cloud_query_put_entry(c->q, "TopicArn", of->arn);
    cloud_query_put_entry(c->q, "Protocol", "sqs");
    cloud_query_put_entry(c->q, "Endpoint", c->u->queue_arn);
    cloud_query_put_entry(c->q, "Owner", c->s->cloud->account);
    cloud_query_put_entry(c->q, "PendingConfirmation", "false");
    cloud_query_put_entry(c->q, "ConfirmationWasAuthenticated", "true");
    if (json_get(c->u->attributes, "RawMessageDelivery") == NULL)
        cloud_query_put_entry(c->q, "RawMessageDelivery", "false");
    for (const cJSON *a = json_first(c->u->attributes); a != NULL; a = a->next)
        cloud_query_put_entry(c->q, a->string, a->valuestring);
    buf_add_str(&c->q->out, "</Attributes>");
    cloud_query_answer(c->q);
}

static void set_subscription_attributes(struct call *c)
{
    const char *wrong = set_subscription_attribute(c->u, cloud_query_get(c->q, "AttributeName"),
                                                   cloud_query_get(c->q, "AttributeValue"));

    if (wrong != NULL)
        invalid(c, wrong);
    else
        cloud_query_answer(c->q);
}

static void publish(struct call *c)
{
    const char *subject = cloud_query_get(c->q, "Subject");

    (void)cloud_sns_publish(c->s, slice_str(c->t->arn), NULL, slice_none(),
                            slice_str(cloud_query_get(c->q, "Message")),
                            subject[0] != '\0' ? subject : NULL);
    cloud_query_put(c->q, "MessageId", "00000000-0000-4000-8000-000000000000");
    cloud_query_answer(c->q);
}

enum need { NOTHING, TOPIC, SUBSCRIPTION };

static const struct {
    const char *name;
    void (*run)(struct call *c);
    enum need need;
} operations[] = {
    {"CreateTopic", create_topic, NOTHING},
    {"ListTopics", list_topics, NOTHING},
    {"DeleteTopic", delete_topic, NOTHING},
    {"GetTopicAttributes", get_topic_attributes, TOPIC},
    {"SetTopicAttributes", set_topic_attributes, TOPIC},
    {"TagResource", tag_resource, TOPIC},
    {"ListTagsForResource", list_tags, TOPIC},
    {"Subscribe", do_subscribe, TOPIC},
    {"Unsubscribe", unsubscribe, NOTHING},
    {"ListSubscriptionsByTopic", list_subscriptions, TOPIC},
    {"GetSubscriptionAttributes", get_subscription_attributes, SUBSCRIPTION},
    {"SetSubscriptionAttributes", set_subscription_attributes, SUBSCRIPTION},
    {"Publish", publish, TOPIC},
};

/* What the permission is asked for: the topic, of a subscription too. */
static void put_resource(struct buf *to, const struct call *c)
{
    const char *topic = cloud_query_get(c->q, "TopicArn");
    const char *resource = cloud_query_get(c->q, "ResourceArn");
    const char *name = cloud_query_get(c->q, "Name");
    struct slice subscription = slice_str(cloud_query_get(c->q, "SubscriptionArn"));

    if (topic[0] != '\0' || resource[0] != '\0')
        buf_add_str(to, topic[0] != '\0' ? topic : resource);
    else if (subscription.len > 0)
        buf_add_slice(to, slice_head(subscription, slice_rfind_byte(subscription, ':')));
    else if (name[0] != '\0')
        buf_printf(to, "arn:aws:sns:%s:%s:%s", c->s->cloud->region, c->s->cloud->account, name);
    else
        buf_add_byte(to, '*');
}

void cloud_sns_handle(struct cloud_query *q)
{
    const char *arn = cloud_query_get(q, "TopicArn");
    struct topic *of;
    struct call c = {.s = q->r->cloud->sns, .q = q};
    char action[80], words[CLOUD_WORDS_BYTES];
    struct buf resource = {0};
    size_t at = 0;

    c.t = *topic_at(c.s, slice_str(arn[0] != '\0' ? arn : cloud_query_get(q, "ResourceArn")));
    struct subscription **u =
        subscription_at(c.s, slice_str(cloud_query_get(q, "SubscriptionArn")), &of);
    c.u = u != NULL ? *u : NULL;
    while (at < sizeof operations / sizeof operations[0] &&
           strcmp(q->action, operations[at].name) != 0)
        at++;
    if (at == sizeof operations / sizeof operations[0]) {
        cloud_query_refuse(q, 400, "InvalidAction", "The sandbox does not know that SNS call");
        return;
    }
    (void)snprintf(action, sizeof action, "SNS:%s", q->action);
    put_resource(&resource, &c);
    if (!cloud_may(q->r, action, buf_slice(&resource), slice_none(), words))
        cloud_query_refuse(q, 403, "AuthorizationError", words);
    else if (operations[at].need == TOPIC && c.t == NULL)
        cloud_query_refuse(q, 404, strstr(action, "Tag") != NULL ? "ResourceNotFound" : "NotFound",
                           "Topic does not exist");
    else if (operations[at].need == SUBSCRIPTION && c.u == NULL)
        cloud_query_refuse(q, 404, "NotFound", "Subscription does not exist");
    else
        operations[at].run(&c);
    buf_fini(&resource);
}

/* -------- life -------- */

struct cloud_sns *cloud_sns_create(struct cloud *c)
{
    struct cloud_sns *s = mem_zero(1, sizeof *s);

    s->cloud = c;
    return s;
}

void cloud_sns_destroy(struct cloud_sns *s)
{
    while (s->topics != NULL) {
        struct topic *gone = s->topics;
        s->topics = gone->next;
        topic_free(gone);
    }
    free(s);
}

void cloud_sns_stats(const struct cloud_sns *s, struct buf *json)
{
    buf_add_byte(json, '{');
    for (const struct topic *t = s->topics; t != NULL; t = t->next) {
        json_put_name(json, t->name);
        buf_printf(json, "{\"delivered\":%llu,\"undelivered\":%llu}",
                   (unsigned long long)t->delivered, (unsigned long long)t->undelivered);
    }
    buf_add_byte(json, '}');
}
