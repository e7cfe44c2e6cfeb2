/*
 * sandbox/cloud.h - what the parts of the sandbox share: the process, its options, and who calls
 * whom.
 *
 * SHAPE   sandbox.c       the process: options, the HTTP server, routing, the control endpoint
 *         cloud_sign.c    checks Signature Version 4 (its own code: aws/sign.c must not check
 * itself) cloud_sqs.c     queues: AWS JSON 1.0 cloud_sns.c     topics and subscriptions: Query and
 * XML; hands notifications to queues cloud_ses.c     SES v2: accepts mail, keeps it, counts it
 *         cloud_publish.c the same events to another SNS endpoint
 *         cloud_events.c  what becomes of a mail: delivery, bounce, complaint, open, click, each at
 * its time ENDS    One process, one thread, in memory only: nothing here outlives the process.
 * MEMORY  Each part owns a struct that cloud_open() makes and cloud_close() frees.
 */
#ifndef SANDBOX_CLOUD_H
#define SANDBOX_CLOUD_H

#include <event2/event.h>
#include <event2/http.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

/* Behaviour, changed at run time by POST /_sandbox/config with a member of the same name. Rates are
 * per 10,000. */
struct cloud_options {
    double max_send_rate; /* recipients a second, a hard limit: 429 beyond it */
    double max_24h_send;  /* −1 = no limit */
    uint64_t latency_ms;  /* before any SES answer */
    uint64_t delivery_delay_ms_min, delivery_delay_ms_max;
    uint64_t event_delay_ms; /* added to every event */
    unsigned bounce_rate, soft_bounce_rate, complaint_rate, open_rate, click_rate, delay_rate;
    unsigned throttle_rate; /* SES calls answered 429 without being accepted */
    unsigned fail_rate;     /* SES calls answered fail_status without being accepted */
    unsigned fail_status;
    unsigned lose_answer_rate; /* accepted, then the connection is closed without an answer */
    unsigned reset_before_accept_rate; /* the connection is closed, nothing was accepted */
    unsigned event_repeat_rate;        /* events published twice */
    unsigned garbage_event_rate;       /* a message that is no event, beside an event */
    bool verify_body;                  /* hash bodies when checking signatures */
    bool local_parts; /* bounce…@, complaint…@, softbounce…@, noopen…@ behave so on any domain */
    uint64_t seed;
};

struct cloud_sqs;
struct cloud_sns;
struct cloud_ses;
struct cloud_events;
struct cloud_publisher;

struct cloud {
    struct event_base *base;
    struct evhttp *http;
    char url[300]; /* "http://127.0.0.1:8026": how queue URLs begin */
    const char *access_key, *secret_key, *region, *account;
    struct cloud_options options;
    struct cloud_sqs *sqs;
    struct cloud_sns *sns;
    struct cloud_ses *ses;
    struct cloud_events *events;
    char *publish_to,
        *publish_topic; /* another SNS endpoint that gets every event too; NULL = none */
    struct cloud_publisher *publisher;
};

/* One request, its body in one piece (valid until it is answered). */
struct cloud_request {
    struct cloud *cloud;
    struct evhttp_request *http;
    const char *method; /* "POST" */
    struct slice path, query, body;
};

/* cloud_sign.c. True: signed by our key. False: *status, *code and *message say what AWS would. */
bool cloud_signature_is_good(const struct cloud_request *r, int *status, const char **code,
                             char message[256]);

/* cloud_sqs.c. Every request with X-Amz-Target: AmazonSQS.… comes here, its signature checked. */
struct cloud_sqs *cloud_sqs_create(struct cloud *c);
void cloud_sqs_destroy(struct cloud_sqs *s);
void cloud_sqs_handle(struct cloud_request *r, struct slice operation);
void cloud_sqs_error(struct evhttp_request *http, int status, const char *code,
                     const char *message);
/* By name or ARN; made if absent. Used by SNS and for the default plumbing. */
bool cloud_sqs_put(struct cloud_sqs *s, struct slice queue_arn,
                   struct slice body); /* false: no such queue */
void cloud_sqs_make(struct cloud_sqs *s, const char *name);
void cloud_sqs_stats(
    struct cloud_sqs *s,
    struct buf *json); /* appends {"name":{"visible":n,"in_flight":n,"deleted":n}} */

/* cloud_sns.c. Form-encoded POST / with Action=…, its signature checked. */
struct cloud_sns *cloud_sns_create(struct cloud *c);
void cloud_sns_destroy(struct cloud_sns *s);
void cloud_sns_handle(struct cloud_request *r);
void cloud_sns_error(struct evhttp_request *http, int status, const char *code,
                     const char *message);
void cloud_sns_make(struct cloud_sns *s, const char *topic, const char *queue, bool raw);
/* Wraps (unless raw) and puts into every subscribed queue. subject may be NULL. */
bool cloud_sns_publish(struct cloud_sns *s, struct slice topic_arn, struct slice message,
                       const char *subject);

/* cloud_ses.c. Paths /v2/email/…, signature checked. */
struct cloud_ses *cloud_ses_create(struct cloud *c);
void cloud_ses_destroy(struct cloud_ses *s);
void cloud_ses_handle(struct cloud_request *r);
void cloud_ses_error(struct evhttp_request *http, int status, const char *code,
                     const char *message);
void cloud_ses_make_set(struct cloud_ses *s, const char *set,
                        const char *topic_arn); /* all event types */
/* The topics that an event of this type and configuration set goes to. */
typedef void cloud_topic_visitor(void *arg, struct slice topic_arn);
void cloud_ses_topics(struct cloud_ses *s, struct slice set, const char *event_type,
                      cloud_topic_visitor *visit, void *arg);
void cloud_ses_suppress(struct cloud_ses *s, struct slice address,
                        const char *reason); /* BOUNCE, COMPLAINT */
/* NULL = not on the account's list, else the reason. */
const char *cloud_ses_suppressed(struct cloud_ses *s, struct slice address);
void cloud_ses_stats(struct cloud_ses *s, struct buf *json); /* members, without braces */
void cloud_ses_messages(struct cloud_ses *s, struct slice query, struct buf *json);
void cloud_ses_recipients(struct cloud_ses *s,
                          struct buf *text); /* email-id or batch \t address \t count \n */
void cloud_ses_reset(struct cloud_ses *s);

/* cloud_events.c. A mail accepted by SES; everything is copied. */
struct cloud_mail {
    struct slice message_id, source, subject, configuration_set;
    const struct slice *recipients;
    size_t recipient_count;
    const char *const *tag_names; /* EmailTags */
    const struct slice *tag_values;
    size_t tag_count;
    struct slice headers_json; /* array of {"name","value"}, or empty */
    bool opens, clicks;        /* tracked */
    uint64_t accepted_ms;
};
struct cloud_events *cloud_events_create(struct cloud *c);
void cloud_events_destroy(struct cloud_events *e);
void cloud_events_mail(struct cloud_events *e, const struct cloud_mail *mail);
void cloud_events_stats(struct cloud_events *e, struct buf *json); /* members, without braces */

/* cloud_publish.c. Used when publish_to is set. */
struct cloud_publisher *cloud_publisher_create(struct cloud *c, struct err *err);
void cloud_publisher_destroy(struct cloud_publisher *p); /* NULL is fine */
void cloud_publish(struct cloud *c, struct slice message, const char *subject);

#endif
