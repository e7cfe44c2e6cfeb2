/*
 * aws/sqs.h - receiving from and deleting in SQS, and how much stands there: AWS JSON 1.0 over aws/http.h.
 *
 * MEMORY  sqs_message texts borrow from the parsed answer: valid until sqs_received_free().
 * SOURCE  spec/aws.md §9.
 */
#ifndef AWS_SQS_H
#define AWS_SQS_H

#include "aws/http.h"
#include "base/arena.h"
#include "base/buf.h"

enum { SQS_BATCH_MAX = 10 };

struct sqs_message {
    struct slice message_id, receipt_handle, body;
    bool intact;           /* the body's MD5 is as SQS said */
    uint64_t receives;     /* how often it has been given to somebody; 0 = not told */
    struct slice group;    /* MessageGroupId; empty = none */
    uint64_t sent_wall_ms; /* when SQS got it, by SQS's clock; 0 = not told */
    uint64_t waited_ms;    /* in the queue, until it was first received; UINT64_MAX = not told */
};

struct sqs_received {
    struct sqs_message messages[SQS_BATCH_MAX];
    size_t count;
    struct arena arena; /* owns the texts */
};

/* The region that a queue's URL names, borrowed from it; empty = none. sqs.REGION.amazonaws.com,
 * also with other ends (China, dual-stack, stand-ins), sqs-fips.REGION…, and the older
 * REGION.queue.amazonaws.com and queue.amazonaws.com (us-east-1). */
struct slice sqs_region_of(struct slice queue_url);

/* The request bodies. handles: 1..10 of them; entry ids are "0".."9". */
void sqs_receive_body(struct buf *to, struct slice queue_url, unsigned wait_s,
                      unsigned visibility_s);
/* The same with most messages (1..10), told by how often and in which group: for FIFO queues. */
void sqs_receive_some_body(struct buf *to, struct slice queue_url, unsigned most, unsigned wait_s,
                           unsigned visibility_s);
/* ChangeMessageVisibilityBatch, answered like a deletion. */
void sqs_visibility_body(struct buf *to, struct slice queue_url, const struct slice *handles,
                         size_t count, unsigned visibility_s);
/* SendMessage to a FIFO queue. group, twin: letters, digits and punctuation, 1..128 of them. */
void sqs_send_body(struct buf *to, struct slice queue_url, struct slice body, struct slice group,
                   struct slice twin);
/* Has SQS taken exactly this body? Of a 200's body. */
bool sqs_sent_parse(struct slice answer, struct slice body);
void sqs_delete_body(struct buf *to, struct slice queue_url, const struct slice *handles,
                     size_t count);

/* GetQueueAttributes, for what sqs_depth_parse() reads. */
void sqs_depth_body(struct buf *to, struct slice queue_url);

struct sqs_depth {
    uint64_t visible, in_flight, delayed; /* messages, about */
    uint64_t created_wall_ms;             /* when the queue was made; 0 = not told */
};
/* False: it is not what SQS answers. */
bool sqs_depth_parse(struct slice body, struct sqs_depth *depth);

/* Of a 200's body. False: it is not what SQS answers. */
bool sqs_received_parse(struct slice body, struct sqs_received *r);
void sqs_received_free(struct sqs_received *r);
/* failed: bit i is set for entry i that is to be tried again. False: unreadable, all may have
 * failed. */
bool sqs_deleted_parse(struct slice body, uint32_t *failed);
/* The same of a change of visibility: each entry that failed counts, whoever's fault it is. */
bool sqs_changed_parse(struct slice body, uint32_t *failed);

/* Fills in service, method, path, content type and target; body, timeout and callback are the
 * caller's. */
void sqs_request(struct aws_request *r, const char *target);

#endif
