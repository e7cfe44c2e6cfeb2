/*
 * poller/changes_out.h - changes on their way from the store to the other machines.
 *
 * SHAPE   untold in the store (store/changes.h) → one message of as many as fit
 *         (mail/replication.h) → Publish to queues.replication_topic → TOLD to the writer, who drops
 *         them. One message at a time, in the order of their stamps.
 * ENDS    The first poller.
 * COST    What comes within GATHER_MS goes in one message.
 * MEMORY  changes_out_open() gives what changes_out_close() frees, after the client.
 * ERRORS  What SNS refuses or does not answer is tried again with back-off, for as long as it takes;
 *         logged when it begins and when it ends.
 * CRASH   Nothing is dropped before SNS has it. What it has and we have not dropped is published
 *         again; whoever has it already changes nothing (store/replicas.h).
 */
#ifndef POLLER_CHANGES_OUT_H
#define POLLER_CHANGES_OUT_H

#include "aws/http.h"
#include "poller/buffer_out.h"
#include "shm/child.h"
#include "store/store.h"

struct changes_out;

struct changes_out *changes_out_open(const struct child *me, struct aws_client *client,
                                     buffer_pusher *push, void *arg);
void changes_out_close(struct changes_out *o); /* NULL is fine */

/* Called often. */
void changes_out_advance(struct changes_out *o, struct store *store);
/* Something is on its way. */
bool changes_out_is_busy(const struct changes_out *o);

#endif
