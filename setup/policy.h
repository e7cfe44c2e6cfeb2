/*
 * setup/policy.h - the policies, each as narrow as what it is for allows, as JSON texts.
 *
 * SHAPE   Pure functions; appended to the caller's buf, on one line.
 * SOURCE  spec/aws.md §10.
 */
#ifndef SETUP_POLICY_H
#define SETUP_POLICY_H

#include "setup/plumbing.h"

/* Of a queue: exactly this topic may send. */
void policy_put_queue(struct buf *to, const char *queue_arn, const char *topic_arn);
/* Of a topic: SES may publish, for this account's configuration set alone. */
void policy_put_topic(struct buf *to, const char *topic_arn, const char *account,
                      const char *set_arn);
/* Of the role or user that Postern runs as, on every node: of the whole plumbing, as below. */
void policy_put_run_time(struct buf *to, const struct plumbing *p);
/* Of the person or role that runs `postern setup`, --remove included. */
void policy_put_setup(struct buf *to, const struct plumbing *p);

#endif
