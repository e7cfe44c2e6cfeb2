/*
 * SNS in memory: topics, their subscribed queues, and the envelope that a notification travels in.
 */
#include <event2/buffer.h>
#include <event2/keyvalq_struct.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "mail/date.h"
#include "sandbox/cloud.h"

struct subscription {
    struct subscription *next;
    char *arn, *queue_arn;
    bool raw;
};

struct topic {
    struct topic *next;
    char *name, *arn, *policy;
    struct subscription *subscriptions;
};

struct cloud_sns {
    struct cloud *cloud;
    struct topic *topics;
    uint64_t last_id;
};

static struct topic *topic_find(struct cloud_sns *s, struct slice arn)
{
    for (struct topic *t = s->topics; t != NULL; t = t->next)
        if (slice_eq(slice_str(t->arn), arn))
            return t;
    return NULL;
}

static char *format(const char *a, const char *b, const char *c)
{
    struct buf text = {0};

    buf_printf(&text, "%s%s%s", a, b, c);
    char *copy = mem_strdup(buf_cstr(&text));
    buf_fini(&text);
    return copy;
}

static struct topic *topic_make(struct cloud_sns *s, const char *name)
{
    struct buf arn = {0};

    buf_printf(&arn, "arn:aws:sns:%s:%s:%s", s->cloud->region, s->cloud->account, name);
    struct topic *t = topic_find(s, buf_slice(&arn));
    if (t == NULL) {
        t = mem_zero(1, sizeof *t);
        t->name = mem_strdup(name);
        t->arn = mem_strdup(buf_cstr(&arn));
        t->policy = mem_strdup("{}");
        t->next = s->topics;
        s->topics = t;
    }
    buf_fini(&arn);
    return t;
}

static struct subscription *subscribe(struct cloud_sns *s, struct topic *t, const char *queue_arn,
                                      bool raw)
{
    char id[64];

    for (struct subscription *u = t->subscriptions; u != NULL; u = u->next)
        if (strcmp(u->queue_arn, queue_arn) == 0)
            return u;
    struct subscription *u = mem_zero(1, sizeof *u);
    (void)snprintf(id, sizeof id, ":%08llx-0000-4000-8000-000000000000",
                   (unsigned long long)++s->last_id);
    u->arn = format(t->arn, id, "");
    u->queue_arn = mem_strdup(queue_arn);
    u->raw = raw;
    u->next = t->subscriptions;
    t->subscriptions = u;
    return u;
}

void cloud_sns_make(struct cloud_sns *s, const char *topic, const char *queue, bool raw)
{
    struct buf arn = {0};

    buf_printf(&arn, "arn:aws:sqs:%s:%s:%s", s->cloud->region, s->cloud->account, queue);
    (void)subscribe(s, topic_make(s, topic), buf_cstr(&arn), raw);
    buf_fini(&arn);
}

bool cloud_sns_publish(struct cloud_sns *s, struct slice topic_arn, struct slice message,
                       const char *subject)
{
    struct topic *t = topic_find(s, topic_arn);
    struct buf envelope = {0};

    if (t == NULL)
        return false;
    for (struct subscription *u = t->subscriptions; u != NULL; u = u->next) {
        if (u->raw) {
            (void)cloud_sqs_put(s->cloud->sqs, slice_str(u->queue_arn), message);
            continue;
        }
        buf_reset(&envelope);
        buf_add_byte(&envelope, '{');
        json_put_str(&envelope, "Type", SLICE("Notification"));
        buf_printf(&envelope, ",\"MessageId\":\"%016llx-5266d3a4a001\"",
                   (unsigned long long)++s->last_id);
        json_put_str(&envelope, "TopicArn", topic_arn);
        if (subject != NULL)
            json_put_str(&envelope, "Subject", slice_str(subject));
        json_put_str(&envelope, "Message", message);
        json_put_name(&envelope, "Timestamp");
        buf_add_byte(&envelope, '"');
        date_put_iso8601(&envelope, clock_wall_us());
        buf_add_str(&envelope, "\",\"SignatureVersion\":\"1\",\"Signature\":\"c2FuZGJveA==\"");
        json_put_str(
            &envelope, "SigningCertURL",
            SLICE("https://sns.us-east-1.amazonaws.com/SimpleNotificationService-sandbox.pem"));
        json_put_str(&envelope, "UnsubscribeURL",
                     SLICE("https://sns.us-east-1.amazonaws.com/?Action=Unsubscribe"));
        buf_add_byte(&envelope, '}');
        (void)cloud_sqs_put(s->cloud->sqs, slice_str(u->queue_arn), buf_slice(&envelope));
    }
    buf_fini(&envelope);
    return true;
}

/* -------- the Query protocol -------- */

struct call {
    struct cloud_sns *s;
    struct evhttp_request *http;
    struct evkeyvalq *form;
    const char *action;
    struct buf out;
};

static void add_headers(struct evhttp_request *http)
{
    (void)evhttp_add_header(evhttp_request_get_output_headers(http), "Content-Type", "text/xml");
}

void cloud_sns_error(struct evhttp_request *http, int status, const char *code, const char *message)
{
    struct evbuffer *out = evhttp_request_get_output_buffer(http);

    add_headers(http);
    (void)evbuffer_add_printf(
        out,
        "<ErrorResponse "
        "xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><Error><Type>Sender</Type>"
        "<Code>%s</Code><Message>%s</Message></Error><RequestId>sandbox</RequestId></"
        "ErrorResponse>",
        code, message);
    evhttp_send_reply(http, status, "Error", NULL);
}

static const char *get(const struct call *c, const char *name)
{
    const char *value = evhttp_find_header(c->form, name);

    return value != NULL ? value : "";
}

static void put_xml(struct buf *to, const char *text)
{
    for (; *text != '\0'; text++)
        if (*text == '<')
            buf_add_str(to, "&lt;");
        else if (*text == '&')
            buf_add_str(to, "&amp;");
        else if (*text == '"')
            buf_add_str(to, "&quot;");
        else
            buf_add_byte(to, (uint8_t)*text);
}

static void put_element(struct buf *to, const char *name, const char *text)
{
    buf_printf(to, "<%s>", name);
    put_xml(to, text);
    buf_printf(to, "</%s>", name);
}

/* <XResponse><XResult>…</XResult><ResponseMetadata>…</XResponse> around what c->out holds. */
static void answer(struct call *c)
{
    struct evbuffer *out = evhttp_request_get_output_buffer(c->http);

    add_headers(c->http);
    (void)evbuffer_add_printf(
        out, "<%sResponse xmlns=\"http://sns.amazonaws.com/doc/2010-03-31/\"><%sResult>", c->action,
        c->action);
    (void)evbuffer_add(out, c->out.ptr, c->out.len);
    (void)evbuffer_add_printf(out,
                              "</%sResult><ResponseMetadata><RequestId>sandbox</RequestId></"
                              "ResponseMetadata></%sResponse>",
                              c->action, c->action);
    evhttp_send_reply(c->http, 200, "OK", NULL);
}

static struct subscription *subscription_find(struct cloud_sns *s, struct slice arn,
                                              struct topic **of)
{
    for (*of = s->topics; *of != NULL; *of = (*of)->next)
        for (struct subscription *u = (*of)->subscriptions; u != NULL; u = u->next)
            if (slice_eq(slice_str(u->arn), arn))
                return u;
    return NULL;
}

static void do_create(struct call *c)
{
    const char *name = get(c, "Name");

    if (name[0] == '\0') {
        cloud_sns_error(c->http, 400, "InvalidParameter", "Invalid parameter: Topic Name");
        return;
    }
    put_element(&c->out, "TopicArn", topic_make(c->s, name)->arn);
    answer(c);
}

/* Attributes.entry.N.key / .value, for the one attribute we know. */
static bool wants_raw(const struct call *c)
{
    for (int i = 1; i <= 10; i++) {
        char name[48];
        (void)snprintf(name, sizeof name, "Attributes.entry.%d.key", i);
        if (strcmp(get(c, name), "RawMessageDelivery") != 0)
            continue;
        (void)snprintf(name, sizeof name, "Attributes.entry.%d.value", i);
        return strcmp(get(c, name), "true") == 0;
    }
    return false;
}

static void do_subscribe(struct call *c, struct topic *t)
{
    if (strcmp(get(c, "Protocol"), "sqs") != 0) {
        cloud_sns_error(c->http, 400, "InvalidParameter",
                        "Invalid parameter: Protocol: only sqs here");
        return;
    }
    put_element(&c->out, "SubscriptionArn",
                subscribe(c->s, t, get(c, "Endpoint"), wants_raw(c))->arn);
    answer(c);
}

static void do_publish(struct call *c, struct topic *t)
{
    const char *subject = get(c, "Subject");

    (void)cloud_sns_publish(c->s, slice_str(t->arn), slice_str(get(c, "Message")),
                            subject[0] != '\0' ? subject : NULL);
    put_element(&c->out, "MessageId", "00000000-0000-4000-8000-000000000000");
    answer(c);
}

static void put_entry(struct call *c, const char *key, const char *value)
{
    buf_add_str(&c->out, "<entry>");
    put_element(&c->out, "key", key);
    put_element(&c->out, "value", value);
    buf_add_str(&c->out, "</entry>");
}

static void do_topic_attributes(struct call *c, struct topic *t)
{
    buf_add_str(&c->out, "<Attributes>");
    put_entry(c, "TopicArn", t->arn);
    put_entry(c, "Owner", c->s->cloud->account);
    put_entry(c, "Policy", t->policy);
    buf_add_str(&c->out, "</Attributes>");
    answer(c);
}

static void do_list(struct call *c, struct topic *t)
{
    buf_add_str(&c->out, "<Subscriptions>");
    for (struct subscription *u = t->subscriptions; u != NULL; u = u->next) {
        buf_add_str(&c->out, "<member>");
        put_element(&c->out, "TopicArn", t->arn);
        put_element(&c->out, "Protocol", "sqs");
        put_element(&c->out, "SubscriptionArn", u->arn);
        put_element(&c->out, "Owner", c->s->cloud->account);
        put_element(&c->out, "Endpoint", u->queue_arn);
        buf_add_str(&c->out, "</member>");
    }
    buf_add_str(&c->out, "</Subscriptions>");
    answer(c);
}

static void do_subscription(struct call *c, struct subscription *u)
{
    if (strcmp(c->action, "SetSubscriptionAttributes") == 0) {
        if (strcmp(get(c, "AttributeName"), "RawMessageDelivery") == 0)
            u->raw = strcmp(get(c, "AttributeValue"), "true") == 0;
    } else {
        buf_add_str(&c->out, "<Attributes>");
        put_entry(c, "SubscriptionArn", u->arn);
        put_entry(c, "RawMessageDelivery", u->raw ? "true" : "false");
        put_entry(c, "Endpoint", u->queue_arn);
        put_entry(c, "PendingConfirmation", "false");
        buf_add_str(&c->out, "</Attributes>");
    }
    answer(c);
}

static void dispatch(struct call *c)
{
    struct topic *of, *t = topic_find(c->s, slice_str(get(c, "TopicArn")));
    struct subscription *u = subscription_find(c->s, slice_str(get(c, "SubscriptionArn")), &of);
    const char *a = c->action;

    if (strcmp(a, "CreateTopic") == 0) {
        do_create(c);
    } else if (strcmp(a, "GetSubscriptionAttributes") == 0 ||
               strcmp(a, "SetSubscriptionAttributes") == 0) {
        if (u != NULL)
            do_subscription(c, u);
        else
            cloud_sns_error(c->http, 404, "NotFound", "Subscription does not exist");
    } else if (t == NULL) {
        cloud_sns_error(c->http, 404, "NotFound", "Topic does not exist");
    } else if (strcmp(a, "Subscribe") == 0) {
        do_subscribe(c, t);
    } else if (strcmp(a, "Publish") == 0) {
        do_publish(c, t);
    } else if (strcmp(a, "GetTopicAttributes") == 0) {
        do_topic_attributes(c, t);
    } else if (strcmp(a, "SetTopicAttributes") == 0) {
        free(t->policy);
        t->policy = mem_strdup(get(c, "AttributeValue"));
        answer(c);
    } else if (strcmp(a, "ListSubscriptionsByTopic") == 0) {
        do_list(c, t);
    } else {
        cloud_sns_error(c->http, 400, "InvalidAction", "The sandbox does not know that action");
    }
}

void cloud_sns_handle(struct cloud_request *r)
{
    struct evkeyvalq form;
    char *body = mem_alloc(r->body.len + 1);

    if (r->body.len > 0)
        memcpy(body, r->body.ptr, r->body.len);
    body[r->body.len] = '\0';
    if (evhttp_parse_query_str(body, &form) != 0) {
        cloud_sns_error(r->http, 400, "InvalidParameter", "The body is no form");
    } else {
        struct call c = {.s = r->cloud->sns, .http = r->http, .form = &form};
        c.action = get(&c, "Action");
        dispatch(&c);
        buf_fini(&c.out);
        evhttp_clear_headers(&form);
    }
    free(body);
}

struct cloud_sns *cloud_sns_create(struct cloud *c)
{
    struct cloud_sns *s = mem_zero(1, sizeof *s);

    s->cloud = c;
    return s;
}

void cloud_sns_destroy(struct cloud_sns *s)
{
    while (s->topics != NULL) {
        struct topic *t = s->topics;
        s->topics = t->next;
        while (t->subscriptions != NULL) {
            struct subscription *u = t->subscriptions;
            t->subscriptions = u->next;
            free(u->arn);
            free(u->queue_arn);
            free(u);
        }
        free(t->name);
        free(t->arn);
        free(t->policy);
        free(t);
    }
    free(s);
}
