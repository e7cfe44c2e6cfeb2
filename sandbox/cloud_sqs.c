/*
 * SQS in memory. A message is in one of two lists of its queue: visible (in the order of arrival)
 * or in flight (in the order in which they will be visible again). A receipt handle names the
 * message and the receive it was given for: an older one deletes nothing.
 *
 * What a topic sends is taken only if the queue's policy lets that topic send. A message received
 * more often than the queue's RedrivePolicy allows moves to its dead-letter queue, and remembers
 * where it came from, so that StartMessageMoveTask can take it back.
 *
 * Of a FIFO queue (its name ends in .fifo) one message of each group is in flight at a time, in the
 * order of their sending, and a deduplication id counts for five minutes. There a handle whose time
 * is over, or that is older than the last receive, is refused; a standard queue says yes to it and
 * does nothing.
 */
#include <ctype.h>
#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "sandbox/cloud.h"
#include "setup/policy_verdict.h"

enum {
    BUCKETS = 1 << 16,
    MESSAGES_MAX = 10,
    WAIT_MAX_S = 20,
    VISIBILITY_S = 30,
    LOOK_MS = 100, /* for messages whose time in flight is over */
    BODY_MAX = 1048576,
    NAME_CHARS_MAX = 80,
    DEDUPLICATION_MS = 300000,
    OPERATIONS_MAX = 24,
};

struct message {
    struct message *prev, *next; /* in its list */
    struct message *bucket_next;
    struct sqs_queue *queue;
    char *group;     /* of a FIFO queue; else NULL */
    char *came_from; /* ARN of the queue that gave it up as dead; NULL = none did */
    uint64_t id, received, sent_ms, first_received_ms, visible_at_ms;
    bool in_flight;
    size_t len;
    uint8_t body[];
};

static const char EXPIRED[] = "Value for parameter ReceiptHandle is invalid. Reason: The receipt "
                              "handle has expired.";

/* A message that was sent with a deduplication id. */
struct twin {
    struct twin *next;
    char *name;
    uint64_t message_id, sent_ms;
};

struct list {
    struct message *first, *last;
    size_t count;
};

struct waiter {
    struct waiter *next;
    struct cloud_sqs *sqs;
    struct sqs_queue *queue;
    struct evhttp_request *http;
    struct evhttp_connection *connection;
    struct event *timer;
    unsigned most;
    uint64_t visibility_ms;
};

struct sqs_queue {
    struct sqs_queue *next;
    char *name, *arn;
    struct list visible, in_flight;
    struct waiter *waiters;
    struct twin *twins; /* FIFO: of the last five minutes, the latest first */
    bool is_fifo;
    uint64_t visibility_ms, deleted, created_ms, changed_ms;
    char *dead_letter_arn;
    uint64_t receive_most; /* 0 = no dead-letter queue */
    cJSON *attributes;     /* as set, for GetQueueAttributes */
    cJSON *tags;
    cJSON *policy; /* the attribute Policy, parsed; NULL = none */
    uint64_t calls[OPERATIONS_MAX];
};

/* A name that may not be used again yet. */
struct grave {
    struct grave *next;
    char *name;
    uint64_t deleted_ms;
};

/* StartMessageMoveTask, done at once. */
struct move_task {
    struct move_task *next;
    char *source_arn, *destination_arn; /* NULL: to where each came from */
    uint64_t moved, started_ms;
    bool failed;
};

struct cloud_sqs {
    struct cloud *cloud;
    struct sqs_queue *queues;
    struct grave *graves;
    struct move_task *tasks; /* the latest first */
    struct message *buckets[BUCKETS];
    uint64_t last_id;
    struct event *look;
};

/* -------- lists -------- */

static void list_remove(struct list *l, struct message *m)
{
    if (m->prev != NULL)
        m->prev->next = m->next;
    else
        l->first = m->next;
    if (m->next != NULL)
        m->next->prev = m->prev;
    else
        l->last = m->prev;
    m->prev = m->next = NULL;
    l->count--;
}

static void list_insert_after(struct list *l, struct message *at, struct message *m)
{
    m->prev = at;
    m->next = at != NULL ? at->next : l->first;
    if (m->next != NULL)
        m->next->prev = m;
    else
        l->last = m;
    if (at != NULL)
        at->next = m;
    else
        l->first = m;
    l->count++;
}

static void fly(struct message *m, uint64_t until_ms)
{
    struct message *at = m->queue->in_flight.last;

    m->in_flight = true;
    m->visible_at_ms = until_ms;
    while (at != NULL && at->visible_at_ms > until_ms)
        at = at->prev;
    list_insert_after(&m->queue->in_flight, at, m);
}

static void land(struct message *m)
{
    struct message *at = m->queue->visible.last;

    m->in_flight = false;
    while (m->queue->is_fifo && at != NULL && at->id > m->id)
        at = at->prev;
    list_insert_after(&m->queue->visible, at, m);
}

static struct list *list_of(struct message *m)
{
    return m->in_flight ? &m->queue->in_flight : &m->queue->visible;
}

static void message_drop(struct cloud_sqs *s, struct message *m)
{
    list_remove(list_of(m), m);
    for (struct message **at = &s->buckets[m->id % BUCKETS]; *at != NULL; at = &(*at)->bucket_next)
        if (*at == m) {
            *at = m->bucket_next;
            break;
        }
    free(m->came_from);
    free(m->group);
    free(m);
}

/* -------- queues -------- */

/* By name, URL or ARN: the last segment says it. */
static struct sqs_queue *queue_find(struct cloud_sqs *s, struct slice where)
{
    size_t slash = slice_rfind_byte(where, '/'), colon = slice_rfind_byte(where, ':');
    struct slice name = where;

    if (slash != SIZE_MAX)
        name = slice_from(where, slash + 1);
    else if (colon != SIZE_MAX)
        name = slice_from(where, colon + 1);
    for (struct sqs_queue *q = s->queues; q != NULL; q = q->next)
        if (slice_eq(slice_str(q->name), name))
            return q;
    return NULL;
}

static bool is_fifo_name(struct slice name)
{
    return name.len > 5 && slice_eq(slice_from(name, name.len - 5), SLICE(".fifo"));
}

static struct sqs_queue *queue_make(struct cloud_sqs *s, struct slice name)
{
    struct sqs_queue *q = mem_zero(1, sizeof *q);
    struct buf arn = {0};

    q->name = mem_dup(name.ptr, name.len + 1);
    q->name[name.len] = '\0';
    buf_printf(&arn, "arn:aws:sqs:%s:%s:%s", s->cloud->region, s->cloud->account, q->name);
    q->arn = mem_strdup(buf_cstr(&arn));
    q->is_fifo = is_fifo_name(name);
    buf_fini(&arn);
    q->visibility_ms = VISIBILITY_S * 1000;
    q->created_ms = q->changed_ms = clock_wall_ms();
    q->attributes = cJSON_CreateObject();
    q->tags = cJSON_CreateObject();
    q->next = s->queues;
    s->queues = q;
    return q;
}

static void queue_empty(struct cloud_sqs *s, struct sqs_queue *q)
{
    while (q->visible.first != NULL)
        message_drop(s, q->visible.first);
    while (q->in_flight.first != NULL)
        message_drop(s, q->in_flight.first);
}

/* -------- answers -------- */

static void add_request_id(struct evhttp_request *http)
{
    uint8_t random[16];
    struct buf id = {0};

    digest_random(random, sizeof random);
    text_hex(&id, slice_of(random, sizeof random));
    (void)evhttp_add_header(evhttp_request_get_output_headers(http), "x-amzn-RequestId",
                            buf_cstr(&id));
    buf_fini(&id);
}

static void answer(struct evhttp_request *http, int status, struct slice json)
{
    struct evbuffer *out = evhttp_request_get_output_buffer(http);

    add_request_id(http);
    (void)evhttp_add_header(evhttp_request_get_output_headers(http), "Content-Type",
                            "application/x-amz-json-1.0");
    (void)evbuffer_add(out, json.ptr, json.len);
    evhttp_send_reply(http, status, status == 200 ? "OK" : "Bad Request", NULL);
}

void cloud_sqs_error(struct evhttp_request *http, int status, const char *code, const char *message)
{
    struct buf json = {0}, query = {0};
    bool absent = strcmp(code, "QueueDoesNotExist") == 0;

    buf_printf(&query, "%s;Sender", absent ? "AWS.SimpleQueueService.NonExistentQueue" : code);
    (void)evhttp_add_header(evhttp_request_get_output_headers(http), "x-amzn-query-error",
                            buf_cstr(&query));
    buf_printf(&json, "{\"__type\":\"com.amazonaws.sqs#%s\"", code);
    json_put_str(&json, "message", slice_str(message));
    buf_add_byte(&json, '}');
    answer(http, status, buf_slice(&json));
    buf_fini(&json);
    buf_fini(&query);
}

static void put_md5(struct buf *json, const char *name, struct slice body)
{
    uint8_t md5[MD5_BYTES];

    digest_md5(body, md5);
    json_put_name(json, name);
    buf_add_byte(json, '"');
    text_hex(json, slice_of(md5, sizeof md5));
    buf_add_byte(json, '"');
}

static void put_id(struct buf *json, const char *name, uint64_t id)
{
    json_put_name(json, name);
    buf_printf(json, "\"%08x-0000-4000-8000-%012llx\"", (unsigned)(id >> 48),
               (unsigned long long)(id & 0xffffffffffff));
}

/* -------- sending and receiving -------- */

static void give_to_waiters(struct cloud_sqs *s, struct sqs_queue *q);

/* The message that had this deduplication id within the last five minutes; 0 = none. */
static uint64_t twin_of(struct sqs_queue *q, struct slice name)
{
    uint64_t now_ms = clock_wall_ms();

    for (struct twin **at = &q->twins; *at != NULL;) {
        struct twin *one = *at;
        if (one->sent_ms + DEDUPLICATION_MS > now_ms) {
            if (slice_eq(slice_str(one->name), name))
                return one->message_id;
            at = &one->next;
            continue;
        }
        *at = one->next;
        free(one->name);
        free(one);
    }
    return 0;
}

static void twin_add(struct sqs_queue *q, struct slice name, uint64_t message_id)
{
    struct twin *one = mem_zero(1, sizeof *one);

    *one = (struct twin){.next = q->twins, .message_id = message_id, .sent_ms = clock_wall_ms()};
    one->name = mem_dup(name.ptr, name.len + 1);
    one->name[name.len] = '\0';
    q->twins = one;
}

static bool group_is_in_flight(const struct sqs_queue *q, const char *group)
{
    for (const struct message *m = q->in_flight.first; m != NULL; m = m->next)
        if (m->group != NULL && group != NULL && strcmp(m->group, group) == 0)
            return true;
    return false;
}

/* The next message that may be received; NULL = none may. */
static struct message *next_visible(const struct sqs_queue *q)
{
    struct message *m = q->visible.first;

    while (q->is_fifo && m != NULL && group_is_in_flight(q, m->group))
        m = m->next;
    return m;
}

/* group: of a FIFO queue's message; else NULL. */
static uint64_t put_message(struct cloud_sqs *s, struct sqs_queue *q, struct slice body,
                            const char *group)
{
    struct message *m = mem_alloc(sizeof *m + body.len);

    *m = (struct message){
        .queue = q, .id = ++s->last_id, .sent_ms = clock_wall_ms(), .len = body.len};
    if (body.len > 0)
        memcpy(m->body, body.ptr, body.len);
    m->group = group != NULL ? mem_strdup(group) : NULL;
    m->bucket_next = s->buckets[m->id % BUCKETS];
    s->buckets[m->id % BUCKETS] = m;
    land(m);
    return m->id;
}

bool cloud_sqs_put(struct cloud_sqs *s, struct slice queue_arn, struct slice topic_arn,
                   struct slice body)
{
    struct sqs_queue *q = queue_find(s, queue_arn);
    const struct policy_question ask = {
        .service = "sns.amazonaws.com",
        .action = "sqs:SendMessage",
        .resource = queue_arn,
        .facts = {{"aws:SourceArn", topic_arn},
                  {"aws:SourceAccount", slice_str(s->cloud->account)},
                  {"aws:SecureTransport", SLICE("true")}},
    };

    if (q == NULL || q->is_fifo || !slice_eq(slice_str(q->arn), queue_arn) ||
        policy_verdict(q->policy, true, &ask) != POLICY_ALLOWS)
        return false;
    (void)put_message(s, q, body, NULL);
    give_to_waiters(s, q);
    return true;
}

/* Takes up to `most` visible messages, as the array of a ReceiveMessage answer. */
static unsigned take(struct cloud_sqs *s, struct sqs_queue *q, unsigned most,
                     uint64_t visibility_ms, struct buf *json)
{
    unsigned taken = 0;
    uint64_t now_ms = clock_wall_ms();

    for (struct message *m; taken < most && (m = next_visible(q)) != NULL;) {
        list_remove(&q->visible, m);
        m->received++;
        struct sqs_queue *dead = q->receive_most != 0 && m->received > q->receive_most
                                     ? queue_find(s, slice_str(q->dead_letter_arn))
                                     : NULL;
        if (dead != NULL) {
            if (m->came_from == NULL)
                m->came_from = mem_strdup(q->arn);
            m->queue = dead;
            m->received = 0;
            land(m);
            give_to_waiters(s, dead);
            continue;
        }
        if (m->first_received_ms == 0)
            m->first_received_ms = now_ms;
        fly(m, now_ms + visibility_ms);

        struct slice body = slice_of(m->body, m->len);
        buf_add_str(json, taken++ == 0 ? "{" : ",{");
        put_id(json, "MessageId", m->id);
        json_put_name(json, "ReceiptHandle");
        buf_printf(json, "\"AQEB%llu-%llu\"", (unsigned long long)m->id,
                   (unsigned long long)m->received);
        put_md5(json, "MD5OfBody", body);
        json_put_str(json, "Body", body);
        buf_printf(
            json,
            ",\"Attributes\":{\"ApproximateReceiveCount\":\"%llu\",\"SentTimestamp\":\"%llu\","
            "\"ApproximateFirstReceiveTimestamp\":\"%llu\"",
            (unsigned long long)m->received, (unsigned long long)m->sent_ms,
            (unsigned long long)m->first_received_ms);
        if (m->group != NULL)
            json_put_str(json, "MessageGroupId", slice_str(m->group));
        buf_add_str(json, "}}");
    }
    return taken;
}

static void answer_received(struct cloud_sqs *s, struct sqs_queue *q, struct evhttp_request *http,
                            unsigned most, uint64_t visibility_ms)
{
    struct buf json = {0};

    buf_add_str(&json, "{\"Messages\":[");
    if (take(s, q, most, visibility_ms, &json) == 0)
        buf_reset(&json);
    buf_add_str(&json, json.len == 0 ? "{}" : "]}");
    answer(http, 200, buf_slice(&json));
    buf_fini(&json);
}

static void waiter_free(struct waiter *w)
{
    for (struct waiter **at = &w->queue->waiters; *at != NULL; at = &(*at)->next)
        if (*at == w) {
            *at = w->next;
            break;
        }
    evhttp_connection_set_closecb(w->connection, NULL, NULL);
    event_free(w->timer);
    free(w);
}

static void on_waited(evutil_socket_t fd, short what, void *arg)
{
    struct waiter *w = arg;
    struct evhttp_request *http = w->http;
    struct cloud_sqs *s = w->sqs;
    struct sqs_queue *q = w->queue;
    unsigned most = w->most;
    uint64_t visibility_ms = w->visibility_ms;

    (void)fd, (void)what;
    waiter_free(w);
    answer_received(s, q, http, most, visibility_ms);
}

/* The client has gone: its request goes with the connection. */
static void on_closed(struct evhttp_connection *connection, void *arg)
{
    (void)connection;
    waiter_free(arg);
}

static void give_to_waiters(struct cloud_sqs *s, struct sqs_queue *q)
{
    (void)s;
    if (q->waiters != NULL && next_visible(q) != NULL)
        event_active(q->waiters->timer, EV_TIMEOUT, 0); /* one at a time; bursts fill its answer */
}

static void on_look(evutil_socket_t fd, short what, void *arg)
{
    struct cloud_sqs *s = arg;
    uint64_t now_ms = clock_wall_ms();

    (void)fd, (void)what;
    for (struct sqs_queue *q = s->queues; q != NULL; q = q->next) {
        while (q->in_flight.first != NULL && q->in_flight.first->visible_at_ms <= now_ms) {
            struct message *m = q->in_flight.first;
            list_remove(&q->in_flight, m);
            land(m);
        }
        give_to_waiters(s, q);
    }
}

/* -------- operations -------- */

struct op {
    struct cloud_sqs *s;
    struct evhttp_request *http;
    const cJSON *in;
    struct sqs_queue *q;
    struct buf out;
};

static int64_t number(const cJSON *object, const char *name, int64_t absent)
{
    int64_t value;

    return json_get_i64(object, name, &value) ? value : absent;
}

/* Attributes that can be set: their ranges where they are numbers, and what they are until then. */
static const struct {
    const char *name, *absent;
    uint64_t least, most; /* 0, 0: no number */
} known_attributes[] = {
    {"VisibilityTimeout", "30", 0, 43200},
    {"MessageRetentionPeriod", "345600", 60, 1209600},
    {"DelaySeconds", "0", 0, 900},
    {"ReceiveMessageWaitTimeSeconds", "0", 0, 20},
    {"MaximumMessageSize", "1048576", 1024, 1048576},
    {"SqsManagedSseEnabled", "true", 0, 0},
    {"Policy", NULL, 0, 0},
    {"RedrivePolicy", NULL, 0, 0},
    {"RedriveAllowPolicy", NULL, 0, 0},
    {"KmsMasterKeyId", NULL, 0, 0},
    {"FifoQueue", NULL, 0, 0},
    {"ContentBasedDeduplication", "false", 0, 0},
    {"KmsDataKeyReusePeriodSeconds", NULL, 60, 86400},
};

enum { KNOWN_ATTRIBUTES = sizeof known_attributes / sizeof known_attributes[0] };

static const char *absent_value(const char *name)
{
    for (size_t i = 0; i < KNOWN_ATTRIBUTES; i++)
        if (strcmp(known_attributes[i].name, name) == 0)
            return known_attributes[i].absent != NULL ? known_attributes[i].absent : "";
    return "";
}

/* maxReceiveCount is a number or a string. */
static uint64_t redrive_count(const cJSON *redrive)
{
    const cJSON *most = json_get(redrive, "maxReceiveCount");
    uint64_t count = 0;
    int64_t number;

    if (json_i64(most, &number))
        return number < 1 ? 0 : (uint64_t)number;
    (void)slice_to_u64(json_text(most), &count);
    return count;
}

/* NULL = good; else the name AWS gives to what is wrong, and words. */
static const char *wrong_attribute(struct cloud_sqs *s, const cJSON *a,
                                   char words[CLOUD_WORDS_BYTES])
{
    struct slice value = json_text(a);
    cJSON *tree = json_parse(value);
    uint64_t number_value;
    bool good = true;
    size_t at = 0;

    while (at < KNOWN_ATTRIBUTES && strcmp(known_attributes[at].name, a->string) != 0)
        at++;
    if (at == KNOWN_ATTRIBUTES) {
        json_free(tree);
        (void)snprintf(words, CLOUD_WORDS_BYTES, "Unknown Attribute %s.", a->string);
        return "InvalidAttributeName";
    }
    if (known_attributes[at].most > 0)
        good = slice_to_u64(value, &number_value) && number_value >= known_attributes[at].least &&
               number_value <= known_attributes[at].most;
    else if (strcmp(a->string, "Policy") == 0)
        good = value.len == 0 || policy_is_good(tree);
    else if (strcmp(a->string, "RedrivePolicy") == 0 && value.len > 0)
        good = redrive_count(tree) >= 1 && redrive_count(tree) <= 1000 &&
               queue_find(s, json_get_text(tree, "deadLetterTargetArn")) != NULL;
    json_free(tree);
    if (good)
        return NULL;
    (void)snprintf(words, CLOUD_WORDS_BYTES, "Invalid value for the parameter %s.", a->string);
    return strcmp(a->string, "RedrivePolicy") == 0 ? "InvalidParameterValue"
                                                   : "InvalidAttributeValue";
}

static void set_attribute(struct sqs_queue *q, const char *name, struct slice value)
{
    cJSON *tree = json_parse(value);
    uint64_t seconds;

    cJSON_DeleteItemFromObjectCaseSensitive(q->attributes, name);
    if (value.len > 0)
        (void)cJSON_AddStringToObject(q->attributes, name, (const char *)value.ptr);
    if (strcmp(name, "VisibilityTimeout") == 0 && slice_to_u64(value, &seconds)) {
        q->visibility_ms = seconds * 1000;
    } else if (strcmp(name, "Policy") == 0) {
        json_free(q->policy);
        q->policy = tree;
        tree = NULL;
    } else if (strcmp(name, "RedrivePolicy") == 0) {
        struct slice arn = json_get_text(tree, "deadLetterTargetArn");
        free(q->dead_letter_arn);
        q->dead_letter_arn = arn.len > 0 ? mem_strdup((const char *)arn.ptr) : NULL;
        q->receive_most = arn.len > 0 ? redrive_count(tree) : 0;
    }
    json_free(tree);
}

/* False, and nothing set, after a refusal. */
static bool set_attributes(struct op *o, struct sqs_queue *q)
{
    const cJSON *attributes = json_get(o->in, "Attributes");
    char words[CLOUD_WORDS_BYTES];

    for (const cJSON *a = json_first(attributes); a != NULL; a = a->next) {
        const char *code = wrong_attribute(o->s, a, words);
        if (code == NULL)
            continue;
        cloud_sqs_error(o->http, 400, code, words);
        return false;
    }
    for (const cJSON *a = json_first(attributes); a != NULL; a = a->next)
        set_attribute(q, a->string, json_text(a));
    q->changed_ms = clock_wall_ms();
    return true;
}

void cloud_sqs_make(struct cloud_sqs *s, const char *name, const char *topic)
{
    struct sqs_queue *q = queue_make(s, slice_str(name));
    struct buf policy = {0};

    buf_printf(&policy,
               "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Sid\":\"topic\",\"Effect\":\"Allow\","
               "\"Principal\":{\"Service\":\"sns.amazonaws.com\"},\"Action\":\"sqs:SendMessage\","
               "\"Resource\":\"%s\",\"Condition\":{\"ArnEquals\":{\"aws:SourceArn\":"
               "\"arn:aws:sns:%s:%s:%s\"}}}]}",
               q->arn, s->cloud->region, s->cloud->account, topic);
    (void)buf_cstr(&policy);
    set_attribute(q, "Policy", buf_slice(&policy));
    buf_fini(&policy);
}

static void queue_free(struct cloud_sqs *s, struct sqs_queue *q)
{
    while (q->waiters != NULL)
        waiter_free(q->waiters);
    queue_empty(s, q);
    while (q->twins != NULL) {
        struct twin *gone = q->twins;
        q->twins = gone->next;
        free(gone->name);
        free(gone);
    }
    free(q->name);
    free(q->arn);
    free(q->dead_letter_arn);
    cJSON_Delete(q->attributes);
    cJSON_Delete(q->tags);
    json_free(q->policy);
    free(q);
}

static void put_url(struct op *o, const struct sqs_queue *q)
{
    buf_printf(&o->out, "%s/%s/%s", o->s->cloud->url, o->s->cloud->account, q->name);
}

static bool is_name(struct slice name)
{
    if (is_fifo_name(name))
        name.len -= 5;
    for (size_t i = 0; i < name.len; i++)
        if (!isalnum(name.ptr[i]) && name.ptr[i] != '-' && name.ptr[i] != '_')
            return false;
    return name.len > 0 && name.len <= NAME_CHARS_MAX;
}

static bool died_lately(struct cloud_sqs *s, struct slice name)
{
    uint64_t wait_ms = s->cloud->options.queue_deleted_wait_s * 1000, now_ms = clock_wall_ms();

    for (struct grave **at = &s->graves; *at != NULL;) {
        struct grave *g = *at;
        if (g->deleted_ms + wait_ms > now_ms) {
            if (slice_eq(slice_str(g->name), name))
                return true;
            at = &g->next;
            continue;
        }
        *at = g->next;
        free(g->name);
        free(g);
    }
    return false;
}

/* The name of an attribute given that the existing queue has otherwise; NULL = none. */
static const char *other_attribute(const struct op *o, const struct sqs_queue *q)
{
    for (const cJSON *a = json_first(json_get(o->in, "Attributes")); a != NULL; a = a->next) {
        const cJSON *has = json_get(q->attributes, a->string);
        struct slice value = has != NULL ? json_text(has) : slice_str(absent_value(a->string));
        if (!slice_eq(value, json_text(a)))
            return a->string;
    }
    return NULL;
}

static void set_tags(struct op *o, struct sqs_queue *q, const char *member)
{
    for (const cJSON *t = json_first(json_get(o->in, member)); t != NULL; t = t->next) {
        cJSON_DeleteItemFromObjectCaseSensitive(q->tags, t->string);
        (void)cJSON_AddStringToObject(q->tags, t->string, cJSON_IsString(t) ? t->valuestring : "");
    }
}

static void op_create(struct op *o)
{
    struct slice name = json_get_text(o->in, "QueueName");
    struct sqs_queue *q = queue_find(o->s, name);
    const char *other = q != NULL ? other_attribute(o, q) : NULL;

    if (!is_name(name)) {
        cloud_sqs_error(o->http, 400, "InvalidParameterValue",
                        "Can only include alphanumeric characters, hyphens, or underscores. 1 to "
                        "80 in length");
        return;
    }
    if (is_fifo_name(name) !=
        slice_eq(json_get_text(json_get(o->in, "Attributes"), "FifoQueue"), SLICE("true"))) {
        cloud_sqs_error(o->http, 400, "InvalidParameterValue",
                        "The name of a FIFO queue, and of no other, ends in .fifo");
        return;
    }
    if (other != NULL) {
        struct buf words = {0};
        buf_printf(&words,
                   "A queue already exists with the same name and a different value for attribute "
                   "%s",
                   other);
        cloud_sqs_error(o->http, 400, "QueueNameExists", buf_cstr(&words));
        buf_fini(&words);
        return;
    }
    if (q == NULL && died_lately(o->s, name)) {
        cloud_sqs_error(o->http, 400, "QueueDeletedRecently",
                        "You must wait 60 seconds after deleting a queue before you can create "
                        "another with the same name.");
        return;
    }
    if (q == NULL) {
        q = queue_make(o->s, name);
        if (!set_attributes(o, q)) {
            o->s->queues = q->next;
            queue_free(o->s, q);
            return;
        }
        set_tags(o, q, "tags");
    }
    buf_add_str(&o->out, "{\"QueueUrl\":\"");
    put_url(o, q);
    buf_add_str(&o->out, "\"}");
    answer(o->http, 200, buf_slice(&o->out));
}

static void op_delete_queue(struct op *o)
{
    struct sqs_queue **at = &o->s->queues;
    struct grave *g = mem_zero(1, sizeof *g);

    while (*at != o->q)
        at = &(*at)->next;
    *at = o->q->next;
    g->name = mem_strdup(o->q->name);
    g->deleted_ms = clock_wall_ms();
    g->next = o->s->graves;
    o->s->graves = g;
    while (o->q->waiters != NULL) {
        struct evhttp_request *waiting = o->q->waiters->http;
        waiter_free(o->q->waiters);
        cloud_sqs_error(waiting, 400, "QueueDoesNotExist", "The specified queue does not exist.");
    }
    queue_free(o->s, o->q);
    answer(o->http, 200, SLICE("{}"));
}

static void op_tag(struct op *o)
{
    set_tags(o, o->q, "Tags");
    answer(o->http, 200, SLICE("{}"));
}

static void op_list_tags(struct op *o)
{
    buf_add_str(&o->out, "{\"Tags\":");
    json_put_tree(&o->out, o->q->tags);
    buf_add_byte(&o->out, '}');
    answer(o->http, 200, buf_slice(&o->out));
}

/* -------- dead-letter queues -------- */

static bool is_source_of(const struct sqs_queue *source, const struct sqs_queue *dead)
{
    return source->dead_letter_arn != NULL && strcmp(source->dead_letter_arn, dead->arn) == 0;
}

static void op_dead_letter_sources(struct op *o)
{
    buf_add_str(&o->out, "{\"queueUrls\":[");
    for (const struct sqs_queue *q = o->s->queues; q != NULL; q = q->next) {
        if (!is_source_of(q, o->q))
            continue;
        buf_add_str(&o->out, o->out.ptr[o->out.len - 1] == '[' ? "\"" : ",\"");
        put_url(o, q);
        buf_add_byte(&o->out, '"');
    }
    buf_add_str(&o->out, "]}");
    answer(o->http, 200, buf_slice(&o->out));
}

/* To the destination, or each message to the queue it came from; one without stays. */
static uint64_t move_messages(struct op *o, struct sqs_queue *from, struct sqs_queue *to,
                              bool *failed)
{
    struct message *m = from->visible.first, *next;
    uint64_t moved = 0;

    for (; m != NULL; m = next) {
        struct sqs_queue *home = to != NULL             ? to
                                 : m->came_from != NULL ? queue_find(o->s, slice_str(m->came_from))
                                                        : NULL;
        next = m->next;
        if (home == NULL) {
            *failed = true;
            continue;
        }
        list_remove(&from->visible, m);
        free(m->came_from);
        m->came_from = NULL;
        m->queue = home;
        m->received = 0;
        m->first_received_ms = 0;
        land(m);
        moved++;
        give_to_waiters(o->s, home);
    }
    return moved;
}

static void op_start_move(struct op *o)
{
    struct slice source = json_get_text(o->in, "SourceArn");
    struct slice destination = json_get_text(o->in, "DestinationArn");
    struct sqs_queue *from = queue_find(o->s, source), *to = queue_find(o->s, destination);
    const struct sqs_queue *q = o->s->queues;

    while (from != NULL && q != NULL && !is_source_of(q, from))
        q = q->next;
    if (from == NULL || (destination.len > 0 && to == NULL)) {
        cloud_sqs_error(o->http, 404, "ResourceNotFoundException",
                        "The resource that you specified for the SourceArn or DestinationArn "
                        "parameter doesn't exist.");
        return;
    }
    if (q == NULL) {
        cloud_sqs_error(o->http, 400, "InvalidParameterValue",
                        "Source queue must be configured as a Dead Letter Queue.");
        return;
    }
    struct move_task *t = mem_zero(1, sizeof *t);
    t->source_arn = mem_strdup(from->arn);
    t->destination_arn = to != NULL ? mem_strdup(to->arn) : NULL;
    t->started_ms = clock_wall_ms();
    t->moved = move_messages(o, from, to, &t->failed);
    t->next = o->s->tasks;
    o->s->tasks = t;
    buf_printf(&o->out, "{\"TaskHandle\":\"sandbox-%llu\"}", (unsigned long long)t->started_ms);
    answer(o->http, 200, buf_slice(&o->out));
}

static void op_list_moves(struct op *o)
{
    struct slice source = json_get_text(o->in, "SourceArn");
    int64_t most = number(o->in, "MaxResults", 1);

    buf_add_str(&o->out, "{\"Results\":[");
    for (const struct move_task *t = o->s->tasks; t != NULL && most > 0; t = t->next) {
        if (!slice_eq(slice_str(t->source_arn), source))
            continue;
        most--;
        buf_add_str(&o->out, o->out.ptr[o->out.len - 1] == '[' ? "{" : ",{");
        json_put_str(&o->out, "Status", t->failed ? SLICE("FAILED") : SLICE("COMPLETED"));
        json_put_str(&o->out, "SourceArn", source);
        if (t->destination_arn != NULL)
            json_put_str(&o->out, "DestinationArn", slice_str(t->destination_arn));
        json_put_u64(&o->out, "ApproximateNumberOfMessagesMoved", t->moved);
        json_put_u64(&o->out, "ApproximateNumberOfMessagesToMove", t->moved);
        json_put_u64(&o->out, "StartedTimestamp", t->started_ms);
        if (t->failed)
            json_put_str(&o->out, "FailureReason", SLICE("CouldNotDetermineMessageSource"));
        buf_add_byte(&o->out, '}');
    }
    buf_add_str(&o->out, "]}");
    answer(o->http, 200, buf_slice(&o->out));
}

static void op_url(struct op *o)
{
    buf_add_str(&o->out, "{\"QueueUrl\":\"");
    put_url(o, o->q);
    buf_add_str(&o->out, "\"}");
    answer(o->http, 200, buf_slice(&o->out));
}

static bool wants(const struct op *o, const char *name)
{
    const cJSON *names = json_get(o->in, "AttributeNames");

    for (const cJSON *n = json_first(names); n != NULL; n = n->next)
        if (slice_eq(json_text(n), SLICE("All")) || slice_eq(json_text(n), slice_str(name)))
            return true;
    return false;
}

static void put_count(struct op *o, const char *name, uint64_t value)
{
    if (!wants(o, name))
        return;
    json_put_name(&o->out, name);
    buf_printf(&o->out, "\"%llu\"", (unsigned long long)value);
}

static void op_get_attributes(struct op *o)
{
    buf_add_str(&o->out, "{\"Attributes\":{");
    if (wants(o, "QueueArn"))
        json_put_str(&o->out, "QueueArn", slice_str(o->q->arn));
    put_count(o, "ApproximateNumberOfMessages", o->q->visible.count);
    put_count(o, "ApproximateNumberOfMessagesNotVisible", o->q->in_flight.count);
    put_count(o, "ApproximateNumberOfMessagesDelayed", 0);
    put_count(o, "CreatedTimestamp", o->q->created_ms / 1000);
    put_count(o, "LastModifiedTimestamp", o->q->changed_ms / 1000);
    for (size_t i = 0; i < KNOWN_ATTRIBUTES; i++) {
        const cJSON *has = json_get(o->q->attributes, known_attributes[i].name);
        if (!wants(o, known_attributes[i].name) ||
            (has == NULL && known_attributes[i].absent == NULL))
            continue;
        json_put_str(&o->out, known_attributes[i].name,
                     has != NULL ? json_text(has) : slice_str(known_attributes[i].absent));
    }
    buf_add_str(&o->out, "}}");
    answer(o->http, 200, buf_slice(&o->out));
}

static void op_set_attributes(struct op *o)
{
    if (set_attributes(o, o->q))
        answer(o->http, 200, SLICE("{}"));
}

/* The message's id; 0 and what is wrong. */
static uint64_t send_one(struct op *o, const cJSON *entry, const char **wrong)
{
    struct slice body = json_get_text(entry, "MessageBody");
    struct slice group = json_get_text(entry, "MessageGroupId");
    struct slice twin = json_get_text(entry, "MessageDeduplicationId");

    *wrong = NULL;
    if (body.len == 0 || body.len > BODY_MAX)
        *wrong = "A message has 1 to 1048576 bytes.";
    else if (o->q->is_fifo && (group.len == 0 || twin.len == 0))
        *wrong = "A FIFO queue's message has MessageGroupId and MessageDeduplicationId.";
    if (*wrong != NULL)
        return 0;
    uint64_t id = o->q->is_fifo ? twin_of(o->q, twin) : 0;
    if (id != 0)
        return id;
    id = put_message(o->s, o->q, body, o->q->is_fifo ? (const char *)group.ptr : NULL);
    if (o->q->is_fifo)
        twin_add(o->q, twin, id);
    return id;
}

static void op_send(struct op *o)
{
    const char *wrong;
    struct slice body = json_get_text(o->in, "MessageBody");

    uint64_t id = send_one(o, o->in, &wrong);
    if (id == 0) {
        cloud_sqs_error(o->http, 400, "InvalidParameterValue", wrong);
        return;
    }
    buf_add_byte(&o->out, '{');
    put_id(&o->out, "MessageId", id);
    put_md5(&o->out, "MD5OfMessageBody", body);
    buf_add_byte(&o->out, '}');
    answer(o->http, 200, buf_slice(&o->out));
    give_to_waiters(o->s, o->q);
}

/* False and answered when a batch has no entries or more than ten. */
static bool entries_are_good(struct op *o)
{
    int count = cJSON_GetArraySize(json_get(o->in, "Entries"));

    if (count < 1)
        cloud_sqs_error(o->http, 400, "EmptyBatchRequest", "There should be at least one entry.");
    else if (count > MESSAGES_MAX)
        cloud_sqs_error(o->http, 400, "TooManyEntriesInBatchRequest",
                        "Maximum number of entries is 10.");
    return count >= 1 && count <= MESSAGES_MAX;
}

static void op_send_batch(struct op *o)
{
    if (!entries_are_good(o))
        return;
    buf_add_str(&o->out, "{\"Successful\":[");
    for (const cJSON *e = json_first(json_get(o->in, "Entries")); e != NULL; e = e->next) {
        struct slice body = json_get_text(e, "MessageBody");
        const char *wrong;
        uint64_t id = send_one(o, e, &wrong);
        if (id == 0)
            continue;
        if (o->out.ptr[o->out.len - 1] == '}')
            buf_add_byte(&o->out, ',');
        buf_add_byte(&o->out, '{');
        json_put_str(&o->out, "Id", json_get_text(e, "Id"));
        put_id(&o->out, "MessageId", id);
        put_md5(&o->out, "MD5OfMessageBody", body);
        buf_add_byte(&o->out, '}');
    }
    buf_add_str(&o->out, "],\"Failed\":[]}");
    answer(o->http, 200, buf_slice(&o->out));
    give_to_waiters(o->s, o->q);
}

static void op_receive(struct op *o)
{
    int64_t most = number(o->in, "MaxNumberOfMessages", 1);
    int64_t wait_s = number(o->in, "WaitTimeSeconds", 0);
    int64_t visibility_s = number(o->in, "VisibilityTimeout", -1);
    uint64_t visibility_ms = visibility_s < 0 ? o->q->visibility_ms : (uint64_t)visibility_s * 1000;

    if (most < 1 || most > MESSAGES_MAX || wait_s < 0 || wait_s > WAIT_MAX_S ||
        visibility_s > 43200) {
        cloud_sqs_error(o->http, 400, "InvalidParameterValue", "A parameter is out of range.");
        return;
    }
    if (next_visible(o->q) != NULL || wait_s == 0) {
        answer_received(o->s, o->q, o->http, (unsigned)most, visibility_ms);
        return;
    }
    struct waiter *w = mem_zero(1, sizeof *w), **end = &o->q->waiters;
    const struct timeval wait = {.tv_sec = wait_s};
    *w = (struct waiter){.sqs = o->s,
                         .queue = o->q,
                         .http = o->http,
                         .connection = evhttp_request_get_connection(o->http),
                         .most = (unsigned)most,
                         .visibility_ms = visibility_ms};
    w->timer = event_new(o->s->cloud->base, -1, 0, on_waited, w);
    (void)event_add(w->timer, &wait);
    evhttp_connection_set_closecb(w->connection, on_closed, w);
    while (*end != NULL)
        end = &(*end)->next;
    *end = w;
}

/* The message in flight that a handle was given for; NULL for an old or unknown one. */
static struct message *by_handle(struct cloud_sqs *s, struct slice handle)
{
    struct slice id_text, received_text;
    uint64_t id, received;

    if (!slice_starts(handle, SLICE("AQEB")) ||
        !slice_cut(slice_from(handle, 4), '-', &id_text, &received_text) ||
        !slice_to_u64(id_text, &id) || !slice_to_u64(received_text, &received))
        return NULL;
    for (struct message *m = s->buckets[id % BUCKETS]; m != NULL; m = m->bucket_next)
        if (m->id == id)
            return m->received == received && m->in_flight ? m : NULL;
    return NULL;
}

/* Of a FIFO queue's message that is still there. Deleted before: a repeat is no error. */
static bool is_expired(struct op *o, struct slice handle)
{
    struct slice id_text, received_text;
    uint64_t id;

    if (!o->q->is_fifo || !slice_starts(handle, SLICE("AQEB")) ||
        !slice_cut(slice_from(handle, 4), '-', &id_text, &received_text) ||
        !slice_to_u64(id_text, &id))
        return false;
    for (const struct message *m = o->s->buckets[id % BUCKETS]; m != NULL; m = m->bucket_next)
        if (m->id == id)
            return true;
    return false;
}

/* False: the handle is refused. */
static bool delete_one(struct op *o, const cJSON *entry)
{
    struct slice handle = json_get_text(entry, "ReceiptHandle");
    struct message *m = by_handle(o->s, handle);

    if (m == NULL || m->queue != o->q)
        return !is_expired(o, handle);
    message_drop(o->s, m);
    o->q->deleted++;
    return true;
}

static bool change_one(struct op *o, const cJSON *entry)
{
    struct slice handle = json_get_text(entry, "ReceiptHandle");
    struct message *m = by_handle(o->s, handle);
    int64_t seconds = number(entry, "VisibilityTimeout", 0);

    if (m == NULL || m->queue != o->q)
        return !is_expired(o, handle);
    list_remove(&o->q->in_flight, m);
    fly(m, clock_wall_ms() + (uint64_t)(seconds < 0 ? 0 : seconds) * 1000);
    return true;
}

static void one_entry(struct op *o, bool (*act)(struct op *o, const cJSON *entry))
{
    if (act(o, o->in))
        answer(o->http, 200, SLICE("{}"));
    else
        cloud_sqs_error(o->http, 400, "InvalidParameterValue", EXPIRED);
}

static void op_delete(struct op *o)
{
    one_entry(o, delete_one);
}

static void op_change(struct op *o)
{
    one_entry(o, change_one);
}

static void each_entry(struct op *o, bool (*act)(struct op *o, const cJSON *entry))
{
    struct buf good = {0}, bad = {0};

    if (!entries_are_good(o))
        return;
    for (const cJSON *e = json_first(json_get(o->in, "Entries")); e != NULL; e = e->next) {
        bool done = act(o, e);
        struct buf *to = done ? &good : &bad;
        buf_add_str(to, to->len > 0 ? ",{" : "{");
        json_put_str(to, "Id", json_get_text(e, "Id"));
        if (!done) {
            buf_add_str(to, ",\"SenderFault\":true");
            json_put_str(to, "Code", SLICE("InvalidParameterValue"));
            json_put_str(to, "Message", slice_str(EXPIRED));
        }
        buf_add_byte(to, '}');
    }
    buf_add_str(&o->out, "{\"Successful\":[");
    buf_add_slice(&o->out, buf_slice(&good));
    buf_add_str(&o->out, "],\"Failed\":[");
    buf_add_slice(&o->out, buf_slice(&bad));
    buf_add_str(&o->out, "]}");
    answer(o->http, 200, buf_slice(&o->out));
    buf_fini(&good);
    buf_fini(&bad);
}

static void op_delete_batch(struct op *o)
{
    each_entry(o, delete_one);
}

static void op_change_batch(struct op *o)
{
    each_entry(o, change_one);
}

static void op_purge(struct op *o)
{
    queue_empty(o->s, o->q);
    answer(o->http, 200, SLICE("{}"));
}

static void op_list(struct op *o)
{
    struct slice prefix = json_get_text(o->in, "QueueNamePrefix");

    buf_add_str(&o->out, "{\"QueueUrls\":[");
    for (struct sqs_queue *q = o->s->queues; q != NULL; q = q->next) {
        if (!slice_starts(slice_str(q->name), prefix))
            continue;
        buf_add_str(&o->out, o->out.ptr[o->out.len - 1] == '[' ? "\"" : ",\"");
        put_url(o, q);
        buf_add_byte(&o->out, '"');
    }
    buf_add_str(&o->out, "]}");
    answer(o->http, 200, buf_slice(&o->out));
}

static const struct {
    const char *name;
    void (*run)(struct op *o);
    bool needs_queue;
} operations[] = {
    {"CreateQueue", op_create, false},
    {"ListQueues", op_list, false},
    {"GetQueueUrl", op_url, true},
    {"GetQueueAttributes", op_get_attributes, true},
    {"SetQueueAttributes", op_set_attributes, true},
    {"SendMessage", op_send, true},
    {"SendMessageBatch", op_send_batch, true},
    {"ReceiveMessage", op_receive, true},
    {"DeleteMessage", op_delete, true},
    {"DeleteMessageBatch", op_delete_batch, true},
    {"ChangeMessageVisibility", op_change, true},
    {"ChangeMessageVisibilityBatch", op_change_batch, true},
    {"PurgeQueue", op_purge, true},
    {"DeleteQueue", op_delete_queue, true},
    {"TagQueue", op_tag, true},
    {"ListQueueTags", op_list_tags, true},
    {"ListDeadLetterSourceQueues", op_dead_letter_sources, true},
    {"StartMessageMoveTask", op_start_move, false},
    {"ListMessageMoveTasks", op_list_moves, false},
};

enum { OPERATIONS = sizeof operations / sizeof operations[0] };
_Static_assert((int)OPERATIONS <= (int)OPERATIONS_MAX, "each has its count");

/* Permission of a batch is that of the single call. */
static void put_action(struct buf *to, struct slice operation)
{
    const struct slice batch = SLICE("Batch");

    if (slice_ends_nocase(operation, batch))
        operation.len -= batch.len;
    buf_printf(to, "sqs:%.*s", SLICE_ARGS(operation));
}

static bool is_permitted(const struct cloud_request *r, const cJSON *in, struct slice where,
                         struct slice operation)
{
    size_t slash = slice_rfind_byte(where, '/');
    struct slice source = json_get_text(in, "SourceArn");
    struct buf arn = {0}, action = {0};
    char words[CLOUD_WORDS_BYTES];

    if (source.len > 0)
        buf_add_slice(&arn, source);
    else
        buf_printf(&arn, "arn:aws:sqs:%s:%s:%.*s", r->cloud->region, r->cloud->account,
                   SLICE_ARGS(slash == SIZE_MAX ? where : slice_from(where, slash + 1)));
    put_action(&action, operation);
    bool may = cloud_may(r, buf_cstr(&action), buf_slice(&arn), slice_none(), words);
    if (!may)
        cloud_sqs_error(r->http, 403, "AccessDeniedException", words);
    buf_fini(&arn);
    buf_fini(&action);
    return may;
}

void cloud_sqs_handle(struct cloud_request *r, struct slice operation)
{
    cJSON *in = json_parse(r->body);
    struct op o = {.s = r->cloud->sqs, .http = r->http, .in = in};
    size_t at = 0;

    while (at < OPERATIONS && !slice_eq(operation, slice_str(operations[at].name)))
        at++;
    struct slice where = json_get_text(in, "QueueUrl");
    if (where.len == 0)
        where = json_get_text(in, "QueueName");
    o.q = queue_find(o.s, where);
    if (o.q != NULL && at < OPERATIONS)
        o.q->calls[at]++;
    if (in == NULL)
        cloud_sqs_error(r->http, 400, "SerializationException", "The body is not JSON.");
    else if (at == OPERATIONS)
        cloud_sqs_error(r->http, 400, "UnsupportedOperation",
                        "The sandbox does not know that call.");
    else if (!is_permitted(r, in, where, operation))
        ; /* answered */
    else if (operations[at].needs_queue && o.q == NULL)
        cloud_sqs_error(r->http, 400, "QueueDoesNotExist", "The specified queue does not exist.");
    else
        operations[at].run(&o);
    buf_fini(&o.out);
    json_free(in);
}

/* -------- life -------- */

struct cloud_sqs *cloud_sqs_create(struct cloud *c)
{
    struct cloud_sqs *s = mem_zero(1, sizeof *s);
    const struct timeval look = {.tv_usec = LOOK_MS * 1000};

    s->cloud = c;
    s->look = event_new(c->base, -1, EV_PERSIST, on_look, s);
    (void)event_add(s->look, &look);
    return s;
}

void cloud_sqs_destroy(struct cloud_sqs *s)
{
    while (s->queues != NULL) {
        struct sqs_queue *q = s->queues;
        s->queues = q->next;
        queue_free(s, q);
    }
    while (s->graves != NULL) {
        struct grave *gone = s->graves;
        s->graves = gone->next;
        free(gone->name);
        free(gone);
    }
    while (s->tasks != NULL) {
        struct move_task *gone = s->tasks;
        s->tasks = gone->next;
        free(gone->source_arn);
        free(gone->destination_arn);
        free(gone);
    }
    event_free(s->look);
    free(s);
}

static void put_calls(const struct sqs_queue *q, struct buf *json)
{
    json_put_name(json, "calls");
    buf_add_byte(json, '{');
    for (size_t i = 0; i < OPERATIONS; i++)
        if (q->calls[i] > 0)
            json_put_u64(json, operations[i].name, q->calls[i]);
    buf_add_byte(json, '}');
}

void cloud_sqs_stats(struct cloud_sqs *s, struct buf *json)
{
    buf_add_byte(json, '{');
    for (struct sqs_queue *q = s->queues; q != NULL; q = q->next) {
        json_put_name(json, q->name);
        buf_printf(json, "{\"visible\":%zu,\"in_flight\":%zu,\"deleted\":%llu", q->visible.count,
                   q->in_flight.count, (unsigned long long)q->deleted);
        put_calls(q, json);
        buf_add_byte(json, '}');
    }
    buf_add_byte(json, '}');
}
