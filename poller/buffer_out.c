#include "poller/buffer_out.h"

#include <inttypes.h>
#include <stdlib.h>

#include "aws/sqs.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"
#include "mail/part.h"
#include "shm/record.h"
#include "store/buffer.h"

enum {
    POSTS_MAX = 4, /* batches at once */
    BACKOFF_FIRST_MS = 100,
    BACKOFF_MAX_MS = 10000,
    SEND_TIMEOUT_MS = 15000,
};

/* One batch. */
struct post {
    struct post *next;
    struct buffer_out *out;
    uint64_t batch_id;
    struct arena arena; /* of its parts */
    struct part_messages parts;
    size_t at; /* parts before it are in SQS */
    struct buf body;
    bool calling, decided, told;
    enum buffered verdict;
    struct slice words;
    uint64_t end; /* ring position behind its BUFFERED */
    uint64_t backoff_ms, not_before_mono_ms;
};

struct buffer_out {
    const struct child *me;
    struct aws_client *client;
    buffer_pusher *push;
    void *arg;
    struct slice url, region;
    struct post *posts;
    size_t count;
    bool failing;
};

struct buffer_out *buffer_out_open(const struct child *me, struct aws_client *client,
                                   buffer_pusher *push, void *arg)
{
    struct buffer_out *o = mem_zero(1, sizeof *o);

    *o = (struct buffer_out){.me = me, .client = client, .push = push, .arg = arg};
    o->url = slice_str(me->config->queues.newsletter_buffer);
    o->region = sqs_region_of(o->url);
    return o;
}

static void post_free(struct post *p)
{
    arena_fini(&p->arena);
    buf_fini(&p->body);
    free(p);
}

void buffer_out_close(struct buffer_out *o)
{
    if (o == NULL)
        return;
    while (o->posts != NULL) {
        struct post *gone = o->posts;
        o->posts = gone->next;
        post_free(gone);
    }
    free(o);
}

bool buffer_out_is_busy(const struct buffer_out *o)
{
    return o->count > 0;
}

/* -------- sending -------- */

static void decide(struct post *p, enum buffered verdict, struct slice words)
{
    p->decided = true;
    p->verdict = verdict;
    p->words = words;
}

static void again_later(struct post *p, const struct aws_response *answer)
{
    struct buffer_out *o = p->out;
    uint64_t random;

    digest_random(&random, sizeof random);
    p->backoff_ms = p->backoff_ms == 0 ? BACKOFF_FIRST_MS : p->backoff_ms * 2;
    if (p->backoff_ms > BACKOFF_MAX_MS)
        p->backoff_ms = BACKOFF_MAX_MS;
    p->not_before_mono_ms = clock_mono_ms() + p->backoff_ms / 2 + random % (p->backoff_ms / 2 + 1);
    if (!o->failing)
        log_warn("%.*s: SendMessage fails (%d %.*s: %.*s); trying again, newsletters wait in the "
                 "store and their clients hear 503",
                 SLICE_ARGS(o->url), answer->status, SLICE_ARGS(answer->error_code),
                 SLICE_ARGS(answer->error_text));
    o->failing = true;
}

static void on_sent(void *arg, const struct aws_response *answer)
{
    struct post *p = arg;
    struct buffer_out *o = p->out;

    p->calling = false;
    if (answer->fate != AWS_ANSWERED || answer->status != 200 ||
        !sqs_sent_parse(answer->body, p->parts.list[p->at].body)) {
        again_later(p, answer);
        return;
    }
    if (o->failing)
        log_info("%.*s: takes messages again", SLICE_ARGS(o->url));
    o->failing = false;
    p->backoff_ms = p->not_before_mono_ms = 0;
    if (++p->at == p->parts.count)
        decide(p, BUFFERED_TAKEN, slice_none());
    bell_ring(&o->me->slot->bell); /* the loop goes on with it */
}

static void send_part(struct post *p)
{
    struct buffer_out *o = p->out;
    const struct part_message *m = &p->parts.list[p->at];
    struct buf group = {0}, twin = {0};
    struct aws_request request;

    text_hex(&group, slice_of(m->group, sizeof m->group));
    buf_printf(&twin, "%016" PRIx64, m->batch_id);
    buf_reset(&p->body);
    sqs_send_body(&p->body, o->url, m->body, buf_slice(&group), buf_slice(&twin));
    buf_fini(&group);
    buf_fini(&twin);
    sqs_request(&request, "AmazonSQS.SendMessage");
    request.region = o->region;
    request.body = buf_slice(&p->body);
    request.timeout_ms = SEND_TIMEOUT_MS;
    request.done = on_sent;
    request.arg = p;
    p->calling = true;
    aws_call(o->client, &request);
}

static void tell(struct post *p)
{
    const struct record_buffered r = {
        .batch_id = p->batch_id, .verdict = (uint32_t)p->verdict, .words = p->words};
    struct buf record = {0};

    record_buffered_encode(&record, &r);
    p->told = p->out->push(p->out->arg, &record, &p->end) == RING_OK;
    buf_fini(&record);
}

/* -------- taking up -------- */

static void cut(struct post *p, struct slice accept)
{
    struct record_accept r;
    size_t most = (size_t)p->out->me->config->queues.buffer_message_max_bytes;

    if (!record_accept_decode(accept, &r)) {
        log_error("batch %016" PRIx64 ": what is staged cannot be read", p->batch_id);
        decide(p, BUFFERED_LOCAL, slice_none());
        return;
    }
    const struct part_source source = {
        .batch_id = p->batch_id, .head = r.head, .content = r.content, .slices = r.slices};
    switch (part_cut(&source, most, &p->arena, &p->parts)) {
    case PART_OK:
        break;
    case PART_LOCAL:
    case PART_BAD: /* whoever keeps it finds out */
        decide(p, BUFFERED_LOCAL, slice_none());
        break;
    case PART_TOO_LARGE:
        log_warn("batch %016" PRIx64 " of %.*s: its content does not fit a message of %zu bytes "
                 "(queues.buffer_message_max)",
                 p->batch_id, SLICE_ARGS(r.domain), most);
        decide(p, BUFFERED_TOO_LARGE,
               arena_printf(&p->arena,
                            "The message is too large for the buffer queue: compressed, it does "
                            "not fit %zu bytes (queues.buffer_message_max); nothing was queued",
                            most));
        break;
    }
}

static bool is_taken_up(const struct buffer_out *o, uint64_t batch_id)
{
    for (const struct post *p = o->posts; p != NULL; p = p->next)
        if (p->batch_id == batch_id)
            return true;
    return false;
}

static void take_up(struct buffer_out *o, struct store *store)
{
    struct err err;

    if (o->count >= POSTS_MAX || store == NULL)
        return;
    struct store_txn *t = store_begin_read(store, &err);
    if (t == NULL)
        return;
    for (uint64_t id = 0; o->count < POSTS_MAX && (id = staged_after(t, id)) != 0;) {
        struct staged staged;
        if (is_taken_up(o, id) || !staged_get(t, id, &staged))
            continue;
        struct post *p = mem_zero(1, sizeof *p);
        *p = (struct post){.next = o->posts, .out = o, .batch_id = id};
        o->posts = p;
        o->count++;
        cut(p, staged.accept);
    }
    store_end_read(t);
}

/* Those of which the writer knows are no longer in the store. */
static void drop_told(struct buffer_out *o)
{
    uint64_t tail = ring_tail(o->me->slot->up);

    for (struct post **at = &o->posts; *at != NULL;) {
        struct post *p = *at;
        if (!p->told || p->end > tail) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        o->count--;
        post_free(p);
    }
}

void buffer_out_advance(struct buffer_out *o, struct store *store)
{
    uint64_t now_ms = clock_mono_ms();

    drop_told(o);
    take_up(o, store);
    for (struct post *p = o->posts; p != NULL; p = p->next) {
        if (p->decided && !p->told)
            tell(p);
        else if (!p->decided && !p->calling && now_ms >= p->not_before_mono_ms)
            send_part(p);
    }
}
