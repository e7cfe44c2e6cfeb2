#include "poller/buffer_again.h"

#include <inttypes.h>
#include <stdlib.h>

#include "aws/sqs.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"
#include "shm/record.h"

enum { SEND_TIMEOUT_MS = 15000, AGAIN_MS = 5000 };

struct buffer_again {
    const struct child *me;
    struct aws_client *client;
    buffer_pusher *push;
    void *arg;
    struct slice url, region;
    struct deadletter_wish wish; /* under way, while is_busy */
    uint64_t batch_id;
    struct buf raw, body;
    bool is_busy, is_sent, is_told;
    uint64_t end; /* ring position behind REPLAYED, when told */
    uint64_t not_before_mono_ms;
};

struct buffer_again *buffer_again_open(const struct child *me, struct aws_client *client,
                                       buffer_pusher *push, void *arg)
{
    struct buffer_again *b = mem_zero(1, sizeof *b);

    *b = (struct buffer_again){.me = me, .client = client, .push = push, .arg = arg};
    b->url = slice_str(me->config->queues.newsletter_buffer);
    b->region = sqs_region_of(b->url);
    return b;
}

void buffer_again_close(struct buffer_again *b)
{
    if (b == NULL)
        return;
    buf_fini(&b->raw);
    buf_fini(&b->body);
    free(b);
}

static void on_sent(void *arg, const struct aws_response *answer)
{
    struct buffer_again *b = arg;

    b->is_sent = answer->fate == AWS_ANSWERED && answer->status == 200 &&
                 sqs_sent_parse(answer->body, buf_slice(&b->raw));
    if (b->is_sent) {
        log_info("batch %016" PRIx64 ": a dead letter is back on the buffer queue", b->batch_id);
    } else {
        log_warn("%.*s: SendMessage of a dead letter fails (%d %.*s: %.*s); trying again",
                 SLICE_ARGS(b->url), answer->status, SLICE_ARGS(answer->error_code),
                 SLICE_ARGS(answer->error_text));
        b->is_busy = false;
        b->not_before_mono_ms = clock_mono_ms() + AGAIN_MS;
    }
    bell_ring(&b->me->slot->bell); /* the loop goes on with it */
}

static void put_on_queue(struct buffer_again *b, const struct part *part)
{
    uint8_t group[PART_GROUP_BYTES];
    struct buf group_hex = {0}, twin = {0};
    struct aws_request request;

    part_group_of(part->claims, group);
    text_hex(&group_hex, slice_of(group, sizeof group));
    /* Not the part's own: of that SQS may have dropped the second, and this one with it. */
    buf_printf(&twin, "%016" PRIx64 "-%" PRIu64, part->batch_id, b->wish.us);
    buf_reset(&b->body);
    sqs_send_body(&b->body, b->url, buf_slice(&b->raw), buf_slice(&group_hex), buf_slice(&twin));
    buf_fini(&group_hex);
    buf_fini(&twin);
    sqs_request(&request, "AmazonSQS.SendMessage");
    request.region = b->region;
    request.body = buf_slice(&b->body);
    request.timeout_ms = SEND_TIMEOUT_MS;
    request.done = on_sent;
    request.arg = b;
    aws_call(b->client, &request);
}

void buffer_again_take(struct buffer_again *b, const struct deadletter_wish *wish, struct slice raw,
                       const struct part *part)
{
    if (b->is_busy || clock_mono_ms() < b->not_before_mono_ms)
        return;
    b->wish = *wish;
    b->batch_id = part->batch_id;
    buf_reset(&b->raw);
    buf_add_slice(&b->raw, raw);
    b->is_busy = true;
    b->is_sent = b->is_told = false;
    put_on_queue(b, part);
}

void buffer_again_advance(struct buffer_again *b)
{
    struct buf record = {0};

    if (!b->is_busy || !b->is_sent)
        return;
    if (!b->is_told) {
        const struct record_replayed r = {.id = slice_of(b->wish.id, DEADLETTER_ID_BYTES),
                                          .wish_us = b->wish.us};
        record_replayed_encode(&record, &r);
        b->is_told = b->push(b->arg, &record, &b->end) == RING_OK;
        buf_fini(&record);
    }
    /* Until then the wish is seen again, and must not be carried out again. */
    if (b->is_told && b->end <= ring_tail(b->me->slot->up))
        b->is_busy = false;
}
