/*
 * poller/depth.h - how many messages stand in the event queues and the buffer, asked once a minute,
 * and when these queues were made.
 *
 * ENDS    One poller asks for all of them; the answers stand in the gauges.
 * MEMORY  depth_open() gives what depth_close() frees, after the client. It borrows the URLs.
 * ERRORS  A refusal is logged once for each queue, until it answers again: whoever reads the queue
 *         may be denied sqs:GetQueueAttributes, and events come all the same.
 * SOURCE  spec/aws.md §9.
 */
#ifndef POLLER_DEPTH_H
#define POLLER_DEPTH_H

#include "aws/http.h"
#include "base/config.h"
#include "shm/gauges.h"

enum {
    DEPTH_EVERY_MS = 60000,
    DEPTH_AGAIN_MS = 5000, /* while it is not known when a queue was made */
};

struct depth;

/* Of the first GAUGE_QUEUES_MAX queues, and of the buffer, unless its URL is empty. */
struct depth *depth_open(struct aws_client *client, const struct config_list *urls,
                         const char *buffer_url, struct gauges *gauges);
void depth_close(struct depth *d); /* NULL is fine */

/* Called often: asks when it is time. */
void depth_advance(struct depth *d);

#endif
