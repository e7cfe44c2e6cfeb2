/*
 * mail/replication.h - the messages in which machines tell each other their changes, over the topic
 * of SES's events (queues.replication_topic).
 *
 * SHAPE   JSON: {"postern-changes":1,"node":"16 hex digits","changes":["base64url",…]}. Each change
 *         is an encoded CHANGE (shm/record.h), opaque here. As it lies in a queue the message stands
 *         alone (raw delivery) or in SNS's envelope.
 * UNITS   Bytes. SNS takes messages of up to 256 KiB, whatever is in them.
 * MEMORY  What is read lives in the caller's arena.
 * ERRORS  REPLICATION_BAD and *why: it calls itself one, and is none that can be read.
 */
#ifndef MAIL_REPLICATION_H
#define MAIL_REPLICATION_H

#include "base/arena.h"
#include "base/buf.h"

enum {
    REPLICATION_VERSION = 1,
    REPLICATION_BYTES_MAX = 240 * 1024, /* of a message: below SNS's limit with its envelope */
    REPLICATION_CHANGES_MAX = 2000,     /* in a message: bounds what a forged one costs */
};

/* Begins a message in an empty buffer. */
void replication_begin(struct buf *to, uint64_t node);
/* False: the message is full, and goes without this change. The first one always fits. */
bool replication_add(struct buf *to, struct slice change);
void replication_end(struct buf *to);

enum replication_verdict {
    REPLICATION_NONE, /* it is something else */
    REPLICATION_GOOD,
    REPLICATION_BAD,
};

struct replication {
    uint64_t node; /* never 0 */
    struct slice *changes;
    size_t count;
    struct slice topic_arn; /* as the envelope says; empty = raw */
};

enum replication_verdict replication_parse(struct slice body, struct arena *a,
                                           struct replication *r, struct slice *why);

#endif
