/*
 * poller/buffer_again.h - dead letters of the buffer queue that a person has replayed: put back on it.
 *
 * SHAPE   One at a time: SendMessage → REPLAYED to the writer, who takes the letter out. It goes to the
 *         group that it was of, so that no two machines have the same readers at once.
 * ENDS    The first poller.
 * MEMORY  buffer_again_open() gives what buffer_again_close() frees, after the client. The letter is
 *         copied.
 * ERRORS  What SQS refuses or does not answer is logged, and tried again as long as it is wished.
 * CRASH   The wish stays in the store until REPLAYED is committed, so a successor sends it again:
 *         under the wish's deduplication id, of which SQS drops the second within five minutes; a
 *         later one is the same part, and whoever reads it finds its recipients served
 *         (store/parts.h).
 */
#ifndef POLLER_BUFFER_AGAIN_H
#define POLLER_BUFFER_AGAIN_H

#include "mail/part.h"
#include "poller/buffer_out.h"
#include "store/deadletters.h"

struct buffer_again;

struct buffer_again *buffer_again_open(const struct child *me, struct aws_client *client,
                                       buffer_pusher *push, void *arg);
void buffer_again_close(struct buffer_again *b); /* NULL is fine */

/* Takes it up unless another one is under way; then its wish is to be shown again. part: what
 * part_read() made of raw. */
void buffer_again_take(struct buffer_again *b, const struct deadletter_wish *wish, struct slice raw,
                       const struct part *part);
/* Called often. */
void buffer_again_advance(struct buffer_again *b);

#endif
