/*
 * SQS in memory. A message is in one of two lists of its queue: visible (in the order of arrival)
 * or in flight (in the order in which they will be visible again). A receipt handle names the
 * message and the receive it was given for: an older one deletes nothing.
 */
#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "sandbox/cloud.h"

enum {
    BUCKETS = 1 << 16,
    MESSAGES_MAX = 10,
    WAIT_MAX_S = 20,
    VISIBILITY_S = 30,
    LOOK_MS = 100, /* for messages whose time in flight is over */
    BODY_MAX = 1048576,
};

struct message {
    struct message *prev, *next; /* in its list */
    struct message *bucket_next;
    struct sqs_queue *queue;
    uint64_t id, received, sent_ms, first_received_ms, visible_at_ms;
    bool in_flight;
    size_t len;
    uint8_t body[];
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
    uint64_t visibility_ms, deleted;
    char *dead_letter_arn;
    uint64_t receive_most; /* 0 = no dead-letter queue */
    cJSON *attributes;     /* as set, for GetQueueAttributes */
};

struct cloud_sqs {
    struct cloud *cloud;
    struct sqs_queue *queues;
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
    m->in_flight = false;
    list_insert_after(&m->queue->visible, m->queue->visible.last, m);
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

static struct sqs_queue *queue_make(struct cloud_sqs *s, struct slice name)
{
    struct sqs_queue *q = mem_zero(1, sizeof *q);
    struct buf arn = {0};

    q->name = mem_dup(name.ptr, name.len + 1);
    q->name[name.len] = '\0';
    buf_printf(&arn, "arn:aws:sqs:%s:%s:%s", s->cloud->region, s->cloud->account, q->name);
    q->arn = mem_strdup(buf_cstr(&arn));
    buf_fini(&arn);
    q->visibility_ms = VISIBILITY_S * 1000;
    q->attributes = cJSON_CreateObject();
    q->next = s->queues;
    s->queues = q;
    return q;
}

void cloud_sqs_make(struct cloud_sqs *s, const char *name)
{
    if (queue_find(s, slice_str(name)) == NULL)
        (void)queue_make(s, slice_str(name));
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

static uint64_t put_message(struct cloud_sqs *s, struct sqs_queue *q, struct slice body)
{
    struct message *m = mem_alloc(sizeof *m + body.len);

    *m = (struct message){
        .queue = q, .id = ++s->last_id, .sent_ms = clock_wall_ms(), .len = body.len};
    if (body.len > 0)
        memcpy(m->body, body.ptr, body.len);
    m->bucket_next = s->buckets[m->id % BUCKETS];
    s->buckets[m->id % BUCKETS] = m;
    land(m);
    return m->id;
}

bool cloud_sqs_put(struct cloud_sqs *s, struct slice queue_arn, struct slice body)
{
    struct sqs_queue *q = queue_find(s, queue_arn);

    if (q == NULL)
        return false;
    (void)put_message(s, q, body);
    give_to_waiters(s, q);
    return true;
}

/* Takes up to `most` visible messages, as the array of a ReceiveMessage answer. */
static unsigned take(struct cloud_sqs *s, struct sqs_queue *q, unsigned most,
                     uint64_t visibility_ms, struct buf *json)
{
    unsigned taken = 0;
    uint64_t now_ms = clock_wall_ms();

    while (taken < most && q->visible.first != NULL) {
        struct message *m = q->visible.first;
        list_remove(&q->visible, m);
        m->received++;
        struct sqs_queue *dead = q->receive_most != 0 && m->received > q->receive_most
                                     ? queue_find(s, slice_str(q->dead_letter_arn))
                                     : NULL;
        if (dead != NULL) {
            m->queue = dead;
            m->received = 0;
            land(m);
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
            "\"ApproximateFirstReceiveTimestamp\":\"%llu\"}}",
            (unsigned long long)m->received, (unsigned long long)m->sent_ms,
            (unsigned long long)m->first_received_ms);
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
    if (q->waiters != NULL && q->visible.first != NULL)
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

static void set_attributes(struct sqs_queue *q, const cJSON *attributes)
{
    for (const cJSON *a = json_first(attributes); a != NULL; a = a->next) {
        uint64_t seconds;
        cJSON_DeleteItemFromObjectCaseSensitive(q->attributes, a->string);
        (void)cJSON_AddStringToObject(q->attributes, a->string,
                                      cJSON_IsString(a) ? a->valuestring : "");
        if (strcmp(a->string, "VisibilityTimeout") == 0 && slice_to_u64(json_text(a), &seconds))
            q->visibility_ms = seconds * 1000;
        if (strcmp(a->string, "RedrivePolicy") == 0) {
            cJSON *policy = json_parse(json_text(a));
            struct slice arn = json_get_text(policy, "deadLetterTargetArn");
            const cJSON *most = json_get(policy, "maxReceiveCount");
            uint64_t count = 0;
            if (cJSON_IsNumber(most))
                count = (uint64_t)most->valuedouble;
            else
                (void)slice_to_u64(json_text(most), &count);
            free(q->dead_letter_arn);
            q->dead_letter_arn = arn.len > 0 ? mem_strdup((const char *)arn.ptr) : NULL;
            q->receive_most = arn.len > 0 ? count : 0;
            json_free(policy);
        }
    }
}

static void put_url(struct op *o, const struct sqs_queue *q)
{
    buf_printf(&o->out, "%s/%s/%s", o->s->cloud->url, o->s->cloud->account, q->name);
}

static void op_create(struct op *o)
{
    struct slice name = json_get_text(o->in, "QueueName");
    struct sqs_queue *q = queue_find(o->s, name);

    if (name.len == 0 || name.len > 80) {
        cloud_sqs_error(o->http, 400, "InvalidParameterValue",
                        "Queue names are 1 to 80 characters.");
        return;
    }
    if (q == NULL)
        q = queue_make(o->s, name);
    set_attributes(q, json_get(o->in, "Attributes"));
    buf_add_str(&o->out, "{\"QueueUrl\":\"");
    put_url(o, q);
    buf_add_str(&o->out, "\"}");
    answer(o->http, 200, buf_slice(&o->out));
}

static void op_url(struct op *o)
{
    buf_add_str(&o->out, "{\"QueueUrl\":\"");
    put_url(o, o->q);
    buf_add_str(&o->out, "\"}");
    answer(o->http, 200, buf_slice(&o->out));
}

static void op_get_attributes(struct op *o)
{
    buf_add_str(&o->out, "{\"Attributes\":{");
    json_put_str(&o->out, "QueueArn", slice_str(o->q->arn));
    buf_printf(
        &o->out,
        ",\"ApproximateNumberOfMessages\":\"%zu\",\"ApproximateNumberOfMessagesNotVisible\":\"%zu\""
        ",\"ApproximateNumberOfMessagesDelayed\":\"0\"",
        o->q->visible.count, o->q->in_flight.count);
    if (json_get(o->q->attributes, "VisibilityTimeout") == NULL)
        buf_printf(&o->out, ",\"VisibilityTimeout\":\"%llu\"",
                   (unsigned long long)(o->q->visibility_ms / 1000));
    for (const cJSON *a = json_first(o->q->attributes); a != NULL; a = a->next)
        json_put_str(&o->out, a->string, json_text(a));
    buf_add_str(&o->out, "}}");
    answer(o->http, 200, buf_slice(&o->out));
}

static void op_set_attributes(struct op *o)
{
    set_attributes(o->q, json_get(o->in, "Attributes"));
    answer(o->http, 200, SLICE("{}"));
}

static void op_send(struct op *o)
{
    struct slice body = json_get_text(o->in, "MessageBody");

    if (body.len == 0 || body.len > BODY_MAX) {
        cloud_sqs_error(o->http, 400, "InvalidParameterValue", "A message has 1 to 1048576 bytes.");
        return;
    }
    uint64_t id = put_message(o->s, o->q, body);
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
        if (o->out.ptr[o->out.len - 1] == '}')
            buf_add_byte(&o->out, ',');
        buf_add_byte(&o->out, '{');
        json_put_str(&o->out, "Id", json_get_text(e, "Id"));
        put_id(&o->out, "MessageId", put_message(o->s, o->q, body));
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
    if (o->q->visible.first != NULL || wait_s == 0) {
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

static void delete_one(struct op *o, const cJSON *entry)
{
    struct message *m = by_handle(o->s, json_get_text(entry, "ReceiptHandle"));

    if (m != NULL && m->queue == o->q) {
        message_drop(o->s, m);
        o->q->deleted++;
    }
}

static void change_one(struct op *o, const cJSON *entry)
{
    struct message *m = by_handle(o->s, json_get_text(entry, "ReceiptHandle"));
    int64_t seconds = number(entry, "VisibilityTimeout", 0);

    if (m == NULL || m->queue != o->q)
        return;
    list_remove(&o->q->in_flight, m);
    fly(m, clock_wall_ms() + (uint64_t)(seconds < 0 ? 0 : seconds) * 1000);
}

static void op_delete(struct op *o)
{
    delete_one(o, o->in);
    answer(o->http, 200, SLICE("{}"));
}

static void op_change(struct op *o)
{
    change_one(o, o->in);
    answer(o->http, 200, SLICE("{}"));
}

static void each_entry(struct op *o, void (*act)(struct op *o, const cJSON *entry))
{
    if (!entries_are_good(o))
        return;
    buf_add_str(&o->out, "{\"Successful\":[");
    for (const cJSON *e = json_first(json_get(o->in, "Entries")); e != NULL; e = e->next) {
        act(o, e);
        if (o->out.ptr[o->out.len - 1] == '}')
            buf_add_byte(&o->out, ',');
        buf_add_byte(&o->out, '{');
        json_put_str(&o->out, "Id", json_get_text(e, "Id"));
        buf_add_byte(&o->out, '}');
    }
    buf_add_str(&o->out, "],\"Failed\":[]}");
    answer(o->http, 200, buf_slice(&o->out));
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
};

void cloud_sqs_handle(struct cloud_request *r, struct slice operation)
{
    cJSON *in = json_parse(r->body);
    struct op o = {.s = r->cloud->sqs, .http = r->http, .in = in};
    size_t at = 0;

    while (at < sizeof operations / sizeof operations[0] &&
           !slice_eq(operation, slice_str(operations[at].name)))
        at++;
    struct slice where = json_get_text(in, "QueueUrl");
    if (where.len == 0)
        where = json_get_text(in, "QueueName");
    o.q = queue_find(o.s, where);
    if (in == NULL)
        cloud_sqs_error(r->http, 400, "SerializationException", "The body is not JSON.");
    else if (at == sizeof operations / sizeof operations[0])
        cloud_sqs_error(r->http, 400, "UnsupportedOperation",
                        "The sandbox does not know that call.");
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
        while (q->waiters != NULL)
            waiter_free(q->waiters);
        queue_empty(s, q);
        free(q->name);
        free(q->arn);
        free(q->dead_letter_arn);
        cJSON_Delete(q->attributes);
        free(q);
    }
    event_free(s->look);
    free(s);
}

void cloud_sqs_stats(struct cloud_sqs *s, struct buf *json)
{
    buf_add_byte(json, '{');
    for (struct sqs_queue *q = s->queues; q != NULL; q = q->next) {
        json_put_name(json, q->name);
        buf_printf(json, "{\"visible\":%zu,\"in_flight\":%zu,\"deleted\":%llu}", q->visible.count,
                   q->in_flight.count, (unsigned long long)q->deleted);
    }
    buf_add_byte(json, '}');
}
