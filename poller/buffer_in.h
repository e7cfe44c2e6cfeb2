/*
 * poller/buffer_in.h - parts of batches from the buffer queue to this machine's store, held in the
 * queue until they are settled.
 *
 * SHAPE   received → PART to the writer → kept invisible, HELD to the writer after each extension →
 *         all recipients settled, and a doubt window later: deleted. What cannot be read, belongs
 *         to no configured domain or comes again and again becomes a dead letter, and is deleted
 *         once that is stored.
 * ENDS    The first poller.
 * JOINING A message of which something may have gone out before this machine's event queues were made
 *         is given back (store/joining.h): one at a time is received then, and after each of these
 *         nothing for a while, as a message that was given back is in doubt where it is taken.
 * ORDER   Nothing is received unless the event queues have been heard up to half a doubt window
 *         ago: what was served before this message could be received is known then (its message
 *         stayed in the queue a doubt window longer, and its group with it).
 * MEMORY  buffer_in_open() gives what buffer_in_close() frees, after the client.
 * ERRORS  As poller/queue.h. A message that could not be extended in time is let go: the writer
 *         sends nothing more of it.
 * CRASH   Messages come again after their visibility timeout, here or elsewhere (store/parts.h).
 */
#ifndef POLLER_BUFFER_IN_H
#define POLLER_BUFFER_IN_H

#include "aws/http.h"
#include "poller/buffer_out.h"
#include "shm/child.h"
#include "store/store.h"

enum {
    BUFFER_RECEIVES_MAX = 100, /* then it is a dead letter: each costs a visibility timeout */
    /* A message is held for the doubt window after its last send: with the default one this many are
     * 16,000 recipients a second. Each takes half a KiB. */
    BUFFER_HELD_MAX = 20000,
};

struct buffer_in;

struct buffer_in *buffer_in_open(const struct child *me, struct aws_client *client,
                                 buffer_pusher *push, void *arg);
void buffer_in_close(struct buffer_in *b); /* NULL is fine */

/* Called often. heard_wall_ms: up to when all event queues have been heard; 0 = nobody knows. */
void buffer_in_advance(struct buffer_in *b, struct store *store, uint64_t heard_wall_ms);
void buffer_in_stop(struct buffer_in *b); /* no more receives */
bool buffer_in_is_busy(const struct buffer_in *b);

#endif
