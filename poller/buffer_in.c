#include "poller/buffer_in.h"

#include <inttypes.h>
#include <stdlib.h>

#include "aws/sqs.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"
#include "mail/message.h"
#include "mail/part.h"
#include "shm/record.h"
#include "store/batches.h"
#include "store/joining.h"
#include "store/part_rules.h"

enum {
    ANSWER_WITHIN_MS = 10000,
    CALL_TIMEOUT_MS = 15000,
    BACKOFF_FIRST_MS = 100,
    BACKOFF_MAX_MS = 20000,
    RETURN_PAUSE_MAX_MS = 3600000, /* a day of these is far from BUFFER_RECEIVES_MAX */
    TELL_MS = 300,                 /* how often the gauges are */
    CALLS_AT_ONCE = 20,            /* of each kind that are begun together */
    LOOK_MS = 300,                 /* how often the books of what is held are read */
    HELD_PER_MS = 100, /* the more is held, the less often it is gone through: most only waits */
};

/* One message. */
struct held {
    struct held *next;
    uint64_t batch_id; /* 0 = it becomes a dead letter */
    char *handle;
    struct buf record; /* for the writer, not in its ring yet */
    uint64_t end;      /* ring position behind the last one that is */
    uint32_t receives, unsettled;
    uint64_t sent_wall_ms; /* by SQS's clock; 0 = not told */
    uint64_t until_mono_ms, extend_mono_ms, settled_mono_ms, delete_mono_ms;
    bool calling, renewed; /* renewed: a HELD is owed */
    bool let_go;           /* to be freed once no call has it */
};

enum call_kind { CALL_RECEIVE, CALL_EXTEND, CALL_DELETE, CALL_RETURN };

struct call {
    struct call *next;
    struct buffer_in *b;
    enum call_kind kind;
    struct buf body;
    uint64_t began_mono_ms;
    struct held *about[SQS_BATCH_MAX];
    size_t count;
};

struct buffer_in {
    const struct child *me;
    struct aws_client *client;
    buffer_pusher *push;
    void *arg;
    struct slice url, region;
    struct held *list;
    size_t count;
    struct call *calls;
    struct arena arena;
    uint64_t opened_mono_ms, look_mono_ms, advance_mono_ms, backoff_ms, not_before_mono_ms;
    uint64_t writer_generation; /* that was told what is held */
    struct joining joining;
    uint64_t returned_until_mono_ms, tell_mono_ms; /* the end of a pause; the next telling */
    unsigned returns; /* receives one after another in which something was given back */
    bool receiving, failing, stopped;
};

static uint64_t visibility_ms(const struct buffer_in *b)
{
    return b->me->config->queues.buffer_visibility_ms;
}

struct buffer_in *buffer_in_open(const struct child *me, struct aws_client *client,
                                 buffer_pusher *push, void *arg)
{
    struct buffer_in *b = mem_zero(1, sizeof *b);

    *b = (struct buffer_in){.me = me, .client = client, .push = push, .arg = arg};
    b->url = slice_str(me->config->queues.newsletter_buffer);
    b->region = sqs_region_of(b->url);
    b->opened_mono_ms = clock_mono_ms();
    return b;
}

static void held_free(struct held *h)
{
    buf_fini(&h->record);
    free(h->handle);
    free(h);
}

static void call_free(struct call *c)
{
    for (struct call **at = &c->b->calls; *at != NULL; at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            break;
        }
    buf_fini(&c->body);
    free(c);
}

void buffer_in_close(struct buffer_in *b)
{
    if (b == NULL)
        return;
    while (b->calls != NULL)
        call_free(b->calls);
    while (b->list != NULL) {
        struct held *gone = b->list;
        b->list = gone->next;
        held_free(gone);
    }
    arena_fini(&b->arena);
    free(b);
}

void buffer_in_stop(struct buffer_in *b)
{
    b->stopped = true;
}

bool buffer_in_is_busy(const struct buffer_in *b)
{
    for (const struct held *h = b->list; h != NULL; h = h->next)
        if (h->record.len > 0 || h->unsettled > 0)
            return true;
    return false;
}

/* -------- calls -------- */

static void trouble(struct buffer_in *b, const char *what, const struct aws_response *answer)
{
    uint64_t random;

    digest_random(&random, sizeof random);
    b->backoff_ms = b->backoff_ms == 0 ? BACKOFF_FIRST_MS : b->backoff_ms * 2;
    if (b->backoff_ms > BACKOFF_MAX_MS)
        b->backoff_ms = BACKOFF_MAX_MS;
    b->not_before_mono_ms = clock_mono_ms() + b->backoff_ms / 2 + random % (b->backoff_ms / 2 + 1);
    if (!b->failing)
        log_warn("%.*s: %s fails (%d %.*s: %.*s); trying again", SLICE_ARGS(b->url), what,
                 answer->status, SLICE_ARGS(answer->error_code), SLICE_ARGS(answer->error_text));
    b->failing = true;
}

static void no_trouble(struct buffer_in *b)
{
    if (b->failing)
        log_info("%.*s: answers again", SLICE_ARGS(b->url));
    b->failing = false;
    b->backoff_ms = b->not_before_mono_ms = 0;
}

static struct call *call_new(struct buffer_in *b, enum call_kind kind)
{
    struct call *c = mem_zero(1, sizeof *c);

    *c = (struct call){.next = b->calls, .b = b, .kind = kind, .began_mono_ms = clock_mono_ms()};
    b->calls = c;
    return c;
}

static void call_send(struct call *c, const char *target, uint64_t timeout_ms, aws_callback *done)
{
    struct aws_request request;

    sqs_request(&request, target);
    request.region = c->b->region;
    request.body = buf_slice(&c->body);
    request.timeout_ms = timeout_ms;
    request.done = done;
    request.arg = c;
    aws_call(c->b->client, &request);
}

/* -------- records for the writer -------- */

/* False when the ring has no room now. */
static bool hand_over(struct buffer_in *b, struct held *h)
{
    enum ring_result got = h->record.len == 0 ? RING_OK : b->push(b->arg, &h->record, &h->end);

    if (got == RING_TOO_LONG) {
        log_error("batch %016" PRIx64 " from the buffer queue does not go into the ring "
                  "(httpd.max_body): it is left to other machines",
                  h->batch_id);
        h->let_go = true;
    }
    if (got != RING_OK)
        return false;
    buf_fini(&h->record);
    h->record = (struct buf){0};
    if (!h->renewed || h->batch_id == 0)
        return true;
    h->renewed = false;
    record_held_encode(&h->record, &(struct record_held){h->batch_id, h->until_mono_ms});
    return hand_over(b, h);
}

static void encode_part(struct held *h, const struct part *p)
{
    const struct record_part r = {
        .batch_id = p->batch_id,
        .domain = p->domain,
        .head = p->head,
        .content = p->content,
        .slices = p->slices,
        .recipient_count = p->recipient_count,
        .claims = p->claims,
        .due_wall_ms = p->due_wall_ms,
        .lane = p->lane,
        .receives = h->receives,
        .until_mono_ms = h->until_mono_ms,
    };

    buf_reset(&h->record);
    record_part_encode(&h->record, &r);
}

static void encode_poison(const struct buffer_in *b, struct held *h, const struct sqs_message *m,
                          struct slice why)
{
    const struct record_deadletter r = {
        .source = b->url, .why = why, .raw = m->body, .message_id = m->message_id};

    buf_reset(&h->record);
    record_deadletter_encode(&h->record, &r);
}

/* -------- a machine that is new -------- */

/* False: not known yet. */
static bool read_joining(struct buffer_in *b)
{
    const struct gauges *g = b->me->gauges;
    struct joining j = {.buffer_wall_ms = atomic_load(&g->buffer.queue.created_wall_ms),
                        .for_ms = b->me->config->queues.buffer_join_ms};
    bool known = j.buffer_wall_ms != 0;

    for (size_t i = 0; i < b->me->config->event_queues.count && i < GAUGE_QUEUES_MAX; i++) {
        uint64_t created_ms = atomic_load(&g->queues[i].created_wall_ms);
        known = known && created_ms != 0;
        if (created_ms > j.events_wall_ms)
            j.events_wall_ms = created_ms;
    }
    b->joining = j;
    return known;
}

static bool may_take(struct buffer_in *b, const struct sqs_message *m, const struct part *p)
{
    struct message_head head;

    if (!message_head_unpack(p->head, &b->arena, &head))
        return true; /* the writer says what it is */
    return joining_may_take(&b->joining, m->sent_wall_ms, head.email_id, clock_wall_ms());
}

/* Whatever comes of it: else it is seen again after its visibility timeout. */
static void on_returned(void *arg, const struct aws_response *answer)
{
    (void)answer;
    call_free(arg);
}

static void give_back(struct buffer_in *b, const struct sqs_message *m, uint64_t batch_id)
{
    struct call *c = call_new(b, CALL_RETURN);

    if (b->returns == 0)
        log_warn("batch %016" PRIx64 " from the buffer queue is older than this machine's event "
                 "queues, so it is not known here who has got it: given back to other machines "
                 "(queues.buffer_join)",
                 batch_id);
    sqs_visibility_body(&c->body, b->url, &m->receipt_handle, 1, 0);
    call_send(c, "AmazonSQS.ChangeMessageVisibilityBatch", CALL_TIMEOUT_MS, on_returned);
    (void)atomic_fetch_add(&b->me->gauges->buffer.returned, 1);
}

/* -------- receiving -------- */

static bool is_sound(struct buffer_in *b, const struct sqs_message *m, struct part *p,
                     struct slice *why)
{
    *why = SLICE("damaged on its way: its MD5 differs");
    if (!m->intact)
        return false;
    if (!part_read(m->body, &b->arena, p, why))
        return false;
    *why = SLICE("belongs to no configured domain");
    if (config_domain_find(b->me->config, p->domain) == NULL)
        return false;
    *why = arena_printf(&b->arena, "received %llu times and never finished",
                        (unsigned long long)m->receives);
    return m->receives <= BUFFER_RECEIVES_MAX;
}

static struct held *held_find(struct buffer_in *b, uint64_t batch_id)
{
    for (struct held *h = b->list; h != NULL; h = h->next)
        if (h->batch_id == batch_id && !h->let_go)
            return h;
    return NULL;
}

/* False: given back. */
static bool adopt(struct buffer_in *b, const struct sqs_message *m, uint64_t began_mono_ms)
{
    struct part p;
    struct slice why;

    arena_reset(&b->arena);
    bool sound = is_sound(b, m, &p, &why);
    struct held *h = sound ? held_find(b, p.batch_id) : NULL;
    if (sound && h == NULL && !may_take(b, m, &p)) {
        give_back(b, m, p.batch_id);
        return false;
    }
    if (h != NULL && h->calling) { /* what is under way has the older handle */
        h->let_go = true;
        h = NULL;
    }
    if (h == NULL) {
        h = mem_zero(1, sizeof *h);
        h->next = b->list;
        b->list = h;
        b->count++;
    }
    free(h->handle);
    h->handle = mem_dup(m->receipt_handle.ptr, m->receipt_handle.len + 1);
    h->handle[m->receipt_handle.len] = '\0';
    h->batch_id = sound ? p.batch_id : 0;
    h->sent_wall_ms = m->sent_wall_ms;
    h->receives = (uint32_t)(m->receives == 0 ? 1 : m->receives);
    h->until_mono_ms = part_held_until(began_mono_ms, visibility_ms(b));
    h->extend_mono_ms = part_extend_at(began_mono_ms, visibility_ms(b));
    h->settled_mono_ms = 0;
    h->renewed = false;
    if (sound) {
        h->unsettled = p.recipient_count;
        encode_part(h, &p);
    } else {
        encode_poison(b, h, m, why);
    }
    (void)hand_over(b, h);
    return true;
}

/* Others shall have the time to take what was given back. Each time it is seen again the pause is
 * longer, and one more is asked for: nobody may be there for it, and newer ones stand behind it. */
static void note_returns(struct buffer_in *b, size_t given_back)
{
    uint64_t pause_ms = visibility_ms(b);

    if (given_back == 0) {
        b->returns = 0;
        return;
    }
    for (unsigned i = 0; i < b->returns && pause_ms < RETURN_PAUSE_MAX_MS; i++)
        pause_ms *= 2;
    pause_ms = pause_ms < RETURN_PAUSE_MAX_MS ? pause_ms : RETURN_PAUSE_MAX_MS;
    b->returned_until_mono_ms = clock_mono_ms() + pause_ms;
    b->returns++;
}

static void on_received(void *arg, const struct aws_response *answer)
{
    struct call *c = arg;
    struct buffer_in *b = c->b;
    struct sqs_received r;
    size_t given_back = 0;

    b->receiving = false;
    if (answer->fate != AWS_ANSWERED || answer->status != 200 ||
        !sqs_received_parse(answer->body, &r)) {
        trouble(b, "ReceiveMessage", answer);
    } else {
        no_trouble(b);
        for (size_t i = 0; i < r.count; i++)
            given_back += adopt(b, &r.messages[i], c->began_mono_ms) ? 0 : 1;
        note_returns(b, given_back);
        sqs_received_free(&r);
    }
    call_free(c);
    bell_ring(&b->me->slot->bell);
}

/* How many more recipients this machine takes on. */
static uint64_t room(const struct buffer_in *b)
{
    uint64_t taken = 0;

    for (const struct held *h = b->list; h != NULL; h = h->next)
        taken += h->unsettled;
    return part_room(atomic_load(&b->me->gauges->bucket.per_s_milli), taken);
}

static bool may_receive(struct buffer_in *b, uint64_t heard_wall_ms, uint64_t now_ms)
{
    uint64_t window_ms = b->me->config->sender.doubt_window_ms;
    uint64_t patience_ms = (config_visibility_s(b->me->config) + 2) * UINT64_C(1000);

    return !b->stopped && !b->receiving && b->count < BUFFER_HELD_MAX &&
           now_ms >= b->not_before_mono_ms &&
           /* the poller before this one may have had events that nobody sees yet */
           now_ms - b->opened_mono_ms >= patience_ms &&
           part_has_heard(heard_wall_ms, clock_wall_ms(), window_ms) && room(b) > 0 &&
           now_ms >= b->returned_until_mono_ms && read_joining(b);
}

static void receive(struct buffer_in *b)
{
    struct call *c = call_new(b, CALL_RECEIVE);
    uint64_t wait_s = part_receive_wait_s(visibility_ms(b));
    unsigned most = part_receive_count(room(b), SQS_BATCH_MAX);

    if (joining_until_ms(&b->joining, clock_wall_ms()) != 0 && most > b->returns + 1)
        most = b->returns + 1;
    sqs_receive_some_body(&c->body, b->url, most, (unsigned)wait_s,
                          (unsigned)(visibility_ms(b) / 1000));
    b->receiving = true;
    call_send(c, "AmazonSQS.ReceiveMessage", wait_s * 1000 + ANSWER_WITHIN_MS, on_received);
}

/* -------- keeping and deleting -------- */

static void on_extended(void *arg, const struct aws_response *answer)
{
    struct call *c = arg;
    struct buffer_in *b = c->b;
    uint32_t failed = UINT32_MAX;

    if (answer->fate != AWS_ANSWERED || answer->status != 200 ||
        !sqs_changed_parse(answer->body, &failed)) {
        failed = UINT32_MAX;
        trouble(b, "ChangeMessageVisibilityBatch", answer);
    } else {
        no_trouble(b);
    }
    for (size_t i = 0; i < c->count; i++) {
        struct held *h = c->about[i];
        h->calling = false;
        if ((failed >> i & 1) != 0) {
            h->extend_mono_ms = part_try_again_at(clock_mono_ms(), visibility_ms(b));
            continue;
        }
        h->until_mono_ms = part_held_until(c->began_mono_ms, visibility_ms(b));
        h->extend_mono_ms = part_extend_at(c->began_mono_ms, visibility_ms(b));
        h->renewed = true;
        if (h->record.len == 0)
            (void)hand_over(b, h);
    }
    call_free(c);
}

static void on_deleted(void *arg, const struct aws_response *answer)
{
    struct call *c = arg;
    struct buffer_in *b = c->b;
    uint32_t failed = UINT32_MAX;

    if (answer->fate != AWS_ANSWERED || answer->status != 200 ||
        !sqs_deleted_parse(answer->body, &failed)) {
        failed = UINT32_MAX;
        trouble(b, "DeleteMessageBatch", answer);
    } else {
        no_trouble(b);
    }
    for (size_t i = 0; i < c->count; i++) {
        struct held *h = c->about[i];
        h->calling = false;
        h->let_go = h->let_go || (failed >> i & 1) == 0;
        h->delete_mono_ms = part_try_again_at(clock_mono_ms(), visibility_ms(b));
    }
    call_free(c);
}

static bool is_done(const struct buffer_in *b, const struct held *h, uint64_t tail)
{
    uint64_t linger_ms = b->me->config->sender.doubt_window_ms;

    if (h->record.len > 0 || h->end > tail)
        return false;
    if (h->batch_id == 0)
        return true;
    return h->settled_mono_ms != 0 &&
           clock_mono_ms() >= part_delete_at(h->settled_mono_ms, linger_ms);
}

static bool is_to_be_extended(const struct buffer_in *b, const struct held *h, uint64_t tail)
{
    return !h->calling && !h->let_go && !is_done(b, h, tail);
}

static bool any_is_to_be_extended(const struct buffer_in *b, uint64_t tail, uint64_t now_ms)
{
    for (const struct held *h = b->list; h != NULL; h = h->next)
        if (now_ms >= h->extend_mono_ms && is_to_be_extended(b, h, tail))
            return true;
    return false;
}

static bool is_for(const struct buffer_in *b, const struct held *h, enum call_kind kind,
                   uint64_t tail, uint64_t now_ms)
{
    if (kind == CALL_EXTEND)
        return is_to_be_extended(b, h, tail) &&
               part_may_go_along(h->extend_mono_ms, now_ms, visibility_ms(b));
    return !h->calling && !h->let_go && now_ms >= h->delete_mono_ms && is_done(b, h, tail);
}

/* The first ten that the call is for. False: there is none. */
static bool batch_call(struct buffer_in *b, enum call_kind kind, uint64_t tail)
{
    struct slice handles[SQS_BATCH_MAX];
    struct call *c = NULL;
    uint64_t now_ms = clock_mono_ms();

    if (kind == CALL_EXTEND && !any_is_to_be_extended(b, tail, now_ms))
        return false;
    for (struct held *h = b->list; h != NULL; h = h->next) {
        if (!is_for(b, h, kind, tail, now_ms))
            continue;
        if (c == NULL)
            c = call_new(b, kind);
        handles[c->count] = slice_str(h->handle);
        c->about[c->count++] = h;
        h->calling = true;
        if (c->count == SQS_BATCH_MAX)
            break;
    }
    if (c == NULL)
        return false;
    if (kind == CALL_DELETE) {
        sqs_delete_body(&c->body, b->url, handles, c->count);
        call_send(c, "AmazonSQS.DeleteMessageBatch", CALL_TIMEOUT_MS, on_deleted);
    } else {
        sqs_visibility_body(&c->body, b->url, handles, c->count,
                            (unsigned)(visibility_ms(b) / 1000));
        call_send(c, "AmazonSQS.ChangeMessageVisibilityBatch", CALL_TIMEOUT_MS, on_extended);
    }
    return true;
}

/* What the books say of those that the writer has. */
static void look(struct buffer_in *b, struct store *store, uint64_t tail)
{
    uint64_t now_ms = clock_mono_ms();
    struct err err;

    if (store == NULL || b->list == NULL || now_ms < b->look_mono_ms + LOOK_MS)
        return;
    b->look_mono_ms = now_ms + b->count * 10 / HELD_PER_MS;
    struct store_txn *t = store_begin_read(store, &err);
    if (t == NULL)
        return;
    for (struct held *h = b->list; h != NULL; h = h->next) {
        struct books books;
        if (h->batch_id == 0 || h->record.len > 0 || h->end > tail)
            continue;
        if (!batch_books(t, h->batch_id, &books)) { /* the writer has said why */
            h->let_go = true;
            continue;
        }
        h->unsettled =
            books.state[STATE_PENDING] + books.state[STATE_LEASED] + books.state[STATE_DOUBT];
        if (h->unsettled > 0)
            h->settled_mono_ms = 0;
        else if (h->settled_mono_ms == 0)
            h->settled_mono_ms = now_ms;
    }
    store_end_read(t);
}

static void drop_lost(struct buffer_in *b)
{
    uint64_t now_ms = clock_mono_ms();

    for (struct held **at = &b->list; *at != NULL;) {
        struct held *h = *at;
        if (!h->let_go && !h->calling && now_ms > h->until_mono_ms) {
            log_warn("batch %016" PRIx64 ": the buffer queue could not be told in time that it is "
                     "still ours: let go",
                     h->batch_id);
            h->let_go = true;
        }
        if (!h->let_go || h->calling) {
            at = &h->next;
            continue;
        }
        *at = h->next;
        b->count--;
        held_free(h);
    }
}

/* A writer's successor knows of no holds. */
static void tell_new_writer(struct buffer_in *b)
{
    uint64_t generation = atomic_load(&b->me->gauges->lives[0].generation);

    if (generation == b->writer_generation)
        return;
    b->writer_generation = generation;
    for (struct held *h = b->list; h != NULL; h = h->next)
        h->renewed = h->batch_id != 0;
}

static void tell(struct buffer_in *b)
{
    struct gauge_buffer *g = &b->me->gauges->buffer;
    uint64_t now_ms = clock_wall_ms(), oldest_ms = 0, recipients = 0;

    if (clock_mono_ms() < b->tell_mono_ms)
        return;
    b->tell_mono_ms = clock_mono_ms() + TELL_MS;
    for (const struct held *h = b->list; h != NULL; h = h->next) {
        recipients += h->unsettled;
        if (h->sent_wall_ms != 0 && now_ms > h->sent_wall_ms &&
            now_ms - h->sent_wall_ms > oldest_ms)
            oldest_ms = now_ms - h->sent_wall_ms;
    }
    atomic_store(&g->parts, b->count);
    atomic_store(&g->recipients, recipients);
    atomic_store(&g->queue.oldest_ms[0], oldest_ms);
    if (read_joining(b))
        atomic_store(&g->joins_until_wall_ms, joining_until_ms(&b->joining, now_ms));
}

void buffer_in_advance(struct buffer_in *b, struct store *store, uint64_t heard_wall_ms)
{
    uint64_t now_ms = clock_mono_ms(), tail = ring_tail(b->me->slot->up);

    if (now_ms < b->advance_mono_ms)
        return;
    b->advance_mono_ms = now_ms + b->count / HELD_PER_MS;
    tell_new_writer(b);
    for (struct held *h = b->list; h != NULL; h = h->next)
        if ((h->record.len > 0 || h->renewed) && !h->let_go && !hand_over(b, h))
            break;
    look(b, store, tail);
    drop_lost(b);
    if (now_ms >= b->not_before_mono_ms) {
        for (int calls = 0; calls < CALLS_AT_ONCE && batch_call(b, CALL_EXTEND, tail); calls++)
            ;
        for (int calls = 0; calls < CALLS_AT_ONCE && batch_call(b, CALL_DELETE, tail); calls++)
            ;
    }
    if (may_receive(b, heard_wall_ms, now_ms))
        receive(b);
    tell(b);
}
