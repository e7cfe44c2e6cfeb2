/*
 * poller/buffer_out.h - batches on their way from the store to the buffer queue.
 *
 * SHAPE   staged in the store → cut into parts → SendMessage, one part after another → BUFFERED to
 *         the writer, who takes the batch out of the store and answers its client.
 * ENDS    The first poller.
 * MEMORY  buffer_out_open() gives what buffer_out_close() frees, after the client.
 * ERRORS  What SQS refuses or does not answer is tried again with back-off; logged when it begins
 *         and when it ends. The client hears 503 meanwhile, and its repeat waits with the first.
 * CRASH   What is staged stays so until SQS has all of it. A part may then be sent twice: SQS drops
 *         the second of the same deduplication id within five minutes; a later one is of the same
 *         group, and whoever reads it finds its recipients served (store/parts.h).
 */
#ifndef POLLER_BUFFER_OUT_H
#define POLLER_BUFFER_OUT_H

#include "aws/http.h"
#include "shm/child.h"
#include "store/store.h"

/* Puts a record into the ring: as ring_push(). */
typedef enum ring_result buffer_pusher(void *arg, const struct buf *record, uint64_t *end);

struct buffer_out;

struct buffer_out *buffer_out_open(const struct child *me, struct aws_client *client,
                                   buffer_pusher *push, void *arg);
void buffer_out_close(struct buffer_out *o); /* NULL is fine */

/* Called often. */
void buffer_out_advance(struct buffer_out *o, struct store *store);
bool buffer_out_is_busy(const struct buffer_out *o);

#endif
