#include "poller/depth.h"

#include <stdlib.h>

#include "aws/error.h"
#include "aws/sqs.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

enum { CALL_TIMEOUT_MS = 15000 };

struct asked {
    struct depth *of;
    const char *url;
    struct gauge_queue *gauge;
    struct gauge_buffer *buffer; /* whose gauge that is; NULL = an event queue's */
    struct buf body;             /* of the call under way */
    bool under_way, failing;
};

struct depth {
    struct aws_client *client;
    size_t count;
    uint64_t next_mono_ms;
    struct asked queues[GAUGE_QUEUES_MAX + 1];
};

/* Under another configuration the gauge may have been another queue's. */
static void add(struct depth *d, const char *url, struct gauge_queue *gauge,
                struct gauge_buffer *buffer)
{
    d->queues[d->count++] = (struct asked){.of = d, .url = url, .gauge = gauge, .buffer = buffer};
    atomic_store(&gauge->created_wall_ms, 0);
}

struct depth *depth_open(struct aws_client *client, const struct config_list *urls,
                         const char *buffer_url, struct gauges *gauges)
{
    struct depth *d = mem_zero(1, sizeof *d);

    d->client = client;
    for (size_t i = 0; i < urls->count && i < GAUGE_QUEUES_MAX; i++)
        add(d, urls->texts[i], &gauges->queues[i], NULL);
    if (buffer_url[0] != '\0')
        add(d, buffer_url, &gauges->buffer.queue, &gauges->buffer);
    return d;
}

void depth_close(struct depth *d)
{
    if (d == NULL)
        return;
    for (size_t i = 0; i < d->count; i++)
        buf_fini(&d->queues[i].body);
    free(d);
}

static void note_growth(struct gauge_buffer *b, uint64_t visible)
{
    uint64_t since_ms = atomic_load(&b->grows_since_wall_ms);

    if (visible == 0)
        since_ms = 0;
    else if (since_ms == 0 || visible < atomic_load(&b->queue.visible))
        since_ms = clock_wall_ms();
    atomic_store(&b->grows_since_wall_ms, since_ms);
}

/* Refused: nobody will tell, and who asks goes by what is likely. Else it is asked again soon. */
static void note_untold(struct asked *q, const struct aws_response *answer)
{
    uint64_t soon_ms = clock_mono_ms() + DEPTH_AGAIN_MS;

    if (atomic_load(&q->gauge->created_wall_ms) != 0)
        return;
    if (answer->fate == AWS_ANSWERED &&
        (answer->status == 403 || aws_error_is_denied(answer->error_code)))
        atomic_store(&q->gauge->created_wall_ms, 1);
    else if (q->of->next_mono_ms > soon_ms)
        q->of->next_mono_ms = soon_ms;
}

static void on_answer(void *arg, const struct aws_response *answer)
{
    struct asked *q = arg;
    struct sqs_depth depth;

    q->under_way = false;
    if (answer->fate == AWS_ANSWERED && answer->status == 200 &&
        sqs_depth_parse(answer->body, &depth)) {
        if (q->buffer != NULL)
            note_growth(q->buffer, depth.visible);
        atomic_store(&q->gauge->created_wall_ms,
                     depth.created_wall_ms == 0 ? 1 : depth.created_wall_ms);
        atomic_store(&q->gauge->visible, depth.visible);
        atomic_store(&q->gauge->in_flight, depth.in_flight);
        atomic_store(&q->gauge->delayed, depth.delayed);
        atomic_store(&q->gauge->read_wall_ms, clock_wall_ms());
        q->failing = false;
        return;
    }
    note_untold(q, answer);
    if (!q->failing)
        log_warn("%s: GetQueueAttributes fails (%d %.*s: %.*s): how many messages wait there is "
                 "not known; it is read all the same",
                 q->url, answer->status, SLICE_ARGS(answer->error_code),
                 SLICE_ARGS(answer->error_text));
    q->failing = true;
}

static void ask(struct depth *d, struct asked *q)
{
    struct aws_request request;

    buf_reset(&q->body);
    sqs_depth_body(&q->body, slice_str(q->url));
    sqs_request(&request, "AmazonSQS.GetQueueAttributes");
    request.region = sqs_region_of(slice_str(q->url));
    request.body = buf_slice(&q->body);
    request.timeout_ms = CALL_TIMEOUT_MS;
    request.done = on_answer;
    request.arg = q;
    q->under_way = true;
    aws_call(d->client, &request);
}

void depth_advance(struct depth *d)
{
    uint64_t now_ms = clock_mono_ms();

    if (now_ms < d->next_mono_ms)
        return;
    d->next_mono_ms = now_ms + DEPTH_EVERY_MS;
    for (size_t i = 0; i < d->count; i++)
        if (!d->queues[i].under_way)
            ask(d, &d->queues[i]);
}
