/*
 * doctor/judge.h - what the answers of AWS, and of Postern itself, mean for the flow of mail.
 *
 * SHAPE   Pure functions: each adds to a finding what it sees in trees as setup/inspect.h gives them,
 *         and how it is mended. setup: the command that makes the plumbing, for the mends.
 * UNITS   In the names.
 * MEMORY  Everything is borrowed for the call.
 * SOURCE  spec/aws.md §4 (clock), §5 (account, sets, identities), §8, §9, §10; spec/ghost.md §1, §3.
 */
#ifndef DOCTOR_JUDGE_H
#define DOCTOR_JUDGE_H

#include "aws/ses.h"
#include "base/json.h"
#include "doctor/finding.h"

/* AWS's time less ours. */
void judge_clock(struct finding *f, int64_t offset_s);

/* enforcement: "HEALTHY", … */
void judge_account(struct finding *f, const struct ses_account *a, struct slice enforcement,
                   const char *region);
void judge_quota(struct finding *f, const struct ses_account *a);

/* name: the identity's, the domain itself or one above it. */
void judge_identity(struct finding *f, const cJSON *identity, const char *name, const char *domain,
                    const char *setup);
void judge_dkim(struct finding *f, const cJSON *identity, const char *setup);
void judge_mail_from(struct finding *f, const cJSON *identity, const char *setup);

void judge_set(struct finding *f, const cJSON *set, const char *name);
/* Which event types reach this topic; topic empty = there is no event destination to one. opens: of
 * mail whose opens are to be seen. */
void judge_event_types(struct finding *f, const cJSON *set, struct slice topic, bool opens,
                       const char *setup);
/* May SES publish to the topic for that configuration set? */
void judge_topic(struct finding *f, const cJSON *topic, const char *set_arn, struct slice account,
                 const char *setup);
/* One of the topic's subscriptions; NULL = none leads to a queue that Postern reads. */
void judge_subscription(struct finding *f, const cJSON *subscription, struct slice topic,
                        const char *setup);
void judge_delivery(struct finding *f, const cJSON *subscription, bool verify_sns,
                    const char *setup);
/* May the topic send to the queue? */
void judge_queue_policy(struct finding *f, const cJSON *queue, const char *queue_arn,
                        struct slice topic, struct slice account, const char *setup);

struct judge_depth {
    uint64_t visible, in_flight, delayed;
    bool is_running;    /* Postern is; the following is known then only */
    uint64_t oldest_ms; /* how long what came of late had waited */
    uint64_t silent_ms; /* since the queues were last read to their end; UINT64_MAX = never */
};
void judge_depth(struct finding *f, const struct judge_depth *d);
/* The buffer queue's settings. message_max_bytes: what Postern puts into a message. Its visibility
 * timeout is of no account: Postern gives one with each receive. */
void judge_buffer(struct finding *f, const cJSON *queue, const char *name,
                  uint64_t message_max_bytes, const char *setup);

struct judge_buffer_depth {
    uint64_t visible, in_flight;
    /* Of the running Postern; grows_since, joins_until: 0 = not so. */
    bool is_running;
    uint64_t grows_since_ms, joins_until_ms, returned;
};
void judge_buffer_depth(struct finding *f, const struct judge_buffer_depth *d, uint64_t now_ms);
/* dead: the dead-letter queue's tree; NULL = there is none of that name. */
void judge_dead_letters(struct finding *f, const cJSON *queue, const cJSON *dead,
                        const char *setup);

/* The region that an endpoint's host names ("email.eu-west-1.amazonaws.com"); empty = none. */
struct slice judge_endpoint_region(struct slice host);

/* How Ghost takes the address that its settings call baseUrl. *origin gets scheme, host and port,
 * which is all that it uses; nothing when the address is none. */
void judge_ghost_url(struct finding *f, const char *url, struct buf *origin);
/* Events that wait for a reader, and since when. */
void judge_reading(struct finding *f, uint64_t unread, uint64_t last_event_ms,
                   uint64_t last_read_ms, uint64_t now_ms);

#endif
