#include "poller/depth.h"

#include <stdlib.h>

#include "aws/sqs.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

enum { CALL_TIMEOUT_MS = 15000 };

struct asked {
    const char *url;
    struct gauge_queue *gauge;
    struct buf body; /* of the call under way */
    bool under_way, failing;
};

struct depth {
    struct aws_client *client;
    size_t count;
    uint64_t next_mono_ms;
    struct asked queues[GAUGE_QUEUES_MAX];
};

struct depth *depth_open(struct aws_client *client, const struct config_list *urls,
                         struct gauge_queue *gauges)
{
    struct depth *d = mem_zero(1, sizeof *d);

    d->client = client;
    for (; d->count < urls->count && d->count < GAUGE_QUEUES_MAX; d->count++) {
        d->queues[d->count].url = urls->texts[d->count];
        d->queues[d->count].gauge = &gauges[d->count];
    }
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

static void on_answer(void *arg, const struct aws_response *answer)
{
    struct asked *q = arg;
    struct sqs_depth depth;

    q->under_way = false;
    if (answer->fate == AWS_ANSWERED && answer->status == 200 &&
        sqs_depth_parse(answer->body, &depth)) {
        atomic_store(&q->gauge->visible, depth.visible);
        atomic_store(&q->gauge->in_flight, depth.in_flight);
        atomic_store(&q->gauge->delayed, depth.delayed);
        atomic_store(&q->gauge->read_wall_ms, clock_wall_ms());
        q->failing = false;
        return;
    }
    if (!q->failing)
        log_warn("%s: GetQueueAttributes fails (%d %.*s: %.*s): how many messages wait there is "
                 "not known; events are read all the same",
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
