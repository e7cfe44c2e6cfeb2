/*
 * poller/queue.h - one SQS queue: long polls in flight, messages on their way to the store,
 * deletions.
 *
 * SHAPE   received → its records pushed to the writer → the ring's tail has passed them
 *         (committed) → deleted, ten at a time.
 * MEMORY  A queue owns its messages. At most QUEUE_HELD_MAX are held; beyond, nothing is received.
 * ERRORS  SQS's refusals: logged when they begin and when they end, tried again with back-off and
 *         jitter.
 * CRASH   A message that was not deleted comes again after its visibility timeout; its events have
 *         the same ids and are stored once.
 */
#ifndef POLLER_QUEUE_H
#define POLLER_QUEUE_H

#include "aws/http.h"

enum {
    QUEUE_HELD_MAX = 2000,
    QUEUE_WAIT_S = 20, /* a long poll, at most; a quarter of the visibility if that is less */
    QUEUE_DELETE_AFTER_MS = 50, /* a batch that is not full waits so long for more */
};

struct queue;

/* What a queue asks of the role. Takes a message into the ring: 1 and *end (the position behind its
 * last record), 0 when it cannot be taken now, -1 when the ring is broken. */
typedef int queue_taker(void *arg, struct slice queue_url, struct slice body, bool intact,
                        struct slice message_id, uint64_t *end);

/* receives: long polls in flight when the queue is busy; an idle one has two. */
struct queue *queue_open(struct event_base *base, struct aws_client *client, const char *url,
                         unsigned receives, unsigned visibility_s, queue_taker *take, void *arg);
void queue_close(struct queue *q);

/* Called often: pushes what found no room, deletes what is committed up to tail, polls again. */
void queue_advance(struct queue *q, uint64_t tail);
void queue_stop(struct queue *q); /* no more polls */
bool queue_is_idle(
    const struct queue *q); /* stopped, and nothing held that is committed but not deleted */
bool queue_has_held(const struct queue *q);
/* How long the oldest message has waited that is held and not committed, or was received within the
 * last minute or two. */
uint64_t queue_oldest_ms(struct queue *q, uint64_t tail);
/* What was sent to the queue before then is committed, with tail as in queue_advance(); 0 = nobody
 * can say. SQS keeps no order and takes no oath: see the top of queue.c. */
uint64_t queue_heard_wall_ms(struct queue *q, uint64_t tail);

#endif
