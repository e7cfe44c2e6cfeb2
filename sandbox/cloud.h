/*
 * sandbox/cloud.h - what the parts of the sandbox share: the process, its options, and who calls
 * whom.
 *
 * SHAPE   sandbox.c           the process: options, the HTTP server, routing, the control endpoint
 *         cloud_sign.c        checks Signature Version 4 (its own code: aws/sign.c must not check
 *                             itself)
 *         cloud_iam.c         users, keys, STS, and who may do what; policies are read by
 *                             setup/policy_verdict.h
 *         cloud_query.c       the Query protocol, for IAM, STS and SNS
 *         cloud_sqs.c         queues: AWS JSON 1.0
 *         cloud_sns.c         topics and subscriptions; hands notifications to queues
 *         cloud_notary.c      signs them
 *         cloud_ses.c         SES v2: accepts mail, keeps it, counts it
 *         cloud_sets.c        its configuration sets: which event goes to which topic
 *         cloud_identities.c  its identities: in whose name mail may go out
 *         cloud_events.c      what becomes of a mail: delivery, bounce, complaint, open, click,
 *                             each at its time
 *         cloud_publish.c     the same events to another SNS endpoint
 * ENDS    One process, one thread, in memory only: nothing here outlives the process.
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
    bool any_sender;        /* mail goes out in the name of domains that are no identity, too */
    bool production_access; /* false: SES's own sandbox, to verified addresses only */
    bool sending_enabled;   /* of the account */
    unsigned enforcement;   /* 0 HEALTHY, 1 PROBATION, 2 SHUTDOWN */
    uint64_t sent_before;   /* counted as sent in the last 24 hours, beside what was */
    uint64_t queue_deleted_wait_s; /* until a deleted queue's name may be used again */
    double clock_offset_s;         /* how far ahead the service's clock is */
    bool
        sign_notifications; /* really: 0.6 ms each; else something stands where the signature would */
    unsigned certificate_status; /* how the request for SNS's certificate is answered */
    bool local_parts; /* bounce…@, complaint…@, softbounce…@, noopen…@ behave so on any domain */
    uint64_t seed;
};

enum { CLOUD_WORDS_BYTES = 600 }; /* room for a refusal's words */

struct cloud_sqs;
struct cloud_sns;
struct cloud_ses;
struct cloud_sets;
struct cloud_identities;
struct cloud_iam;
struct cloud_user;
struct cloud_query;
struct cloud_events;
struct cloud_publisher;
struct cloud_notary;

struct cloud {
    struct event_base *base;
    struct evhttp *http;
    char url[300]; /* "http://127.0.0.1:8026": how queue URLs begin */
    const char *access_key, *secret_key, *region, *account;
    struct cloud_options options;
    struct cloud_sqs *sqs;
    struct cloud_sns *sns;
    struct cloud_ses *ses;
    struct cloud_sets *sets;
    struct cloud_identities *identities;
    struct cloud_iam *iam;
    struct cloud_events *events;
    char *publish_to,
        *publish_topic; /* another SNS endpoint that gets every event too; NULL = none */
    struct cloud_publisher *publisher;
    struct cloud_notary *notary; /* NULL until something is signed */
};

/* One request, its body in one piece (valid until it is answered). */
struct cloud_request {
    struct cloud *cloud;
    struct evhttp_request *http;
    const char *method; /* "POST" */
    struct slice path, query, body;
    const struct cloud_user *caller; /* whose key signed it; NULL = the sandbox's own */
};

/* cloud_sign.c. True: signed by a key we know; r->caller is filled. False: *status, *code and
 * *message say what AWS would. */
bool cloud_signature_is_good(struct cloud_request *r, int *status, const char **code,
                             char message[256]);

/* cloud_notary.c. Appends the signature of a text, in base64, and the URL of the certificate. */
void cloud_notary_sign(struct cloud *c, struct slice text, bool with_sha256, struct buf *base64);
void cloud_notary_put_url(struct cloud *c, struct buf *to);
/* The certificate with this path, if it is ours; it stays the notary's. */
bool cloud_notary_certificate(struct cloud *c, struct slice path, struct slice *pem);
void cloud_notary_destroy(struct cloud_notary *n); /* NULL is fine */

/* cloud_iam.c. */
struct cloud_iam *cloud_iam_create(struct cloud *c);
void cloud_iam_destroy(struct cloud_iam *iam);
void cloud_iam_handle(struct cloud_query *q);
void cloud_sts_handle(struct cloud_query *q);
/* False: no such key. *user = NULL: the sandbox's own. */
bool cloud_iam_key(const struct cloud *c, struct slice id, const char **secret,
                   const struct cloud_user **user);
/* May r's caller do action ("sqs:SendMessage") to the resource (an ARN or "*")? from_address: of a
 * mail to be sent, else empty. False: words say so in AWS's. */
bool cloud_may(const struct cloud_request *r, const char *action, struct slice resource,
               struct slice from_address, char words[CLOUD_WORDS_BYTES]);
/* Actions, with wildcards, that are refused whoever asks; replaces those set before. */
void cloud_iam_deny(struct cloud_iam *iam, const cJSON *actions);

/* cloud_sqs.c. Every request with X-Amz-Target: AmazonSQS.… comes here, its signature checked. */
struct cloud_sqs *cloud_sqs_create(struct cloud *c);
void cloud_sqs_destroy(struct cloud_sqs *s);
void cloud_sqs_handle(struct cloud_request *r, struct slice operation);
void cloud_sqs_error(struct evhttp_request *http, int status, const char *code,
                     const char *message);
/* From a topic. False: no such queue, or its policy does not let that topic send. */
bool cloud_sqs_put(struct cloud_sqs *s, struct slice queue_arn, struct slice topic_arn,
                   struct slice body);
/* A queue to which that topic may send. */
void cloud_sqs_make(struct cloud_sqs *s, const char *name, const char *topic);
void cloud_sqs_stats(
    struct cloud_sqs *s,
    struct buf *json); /* appends {"name":{"visible":n,"in_flight":n,"deleted":n,"calls":{…}}} */

/* cloud_sns.c. Query calls, their signatures checked. */
struct cloud_sns *cloud_sns_create(struct cloud *c);
void cloud_sns_destroy(struct cloud_sns *s);
void cloud_sns_handle(struct cloud_query *q);
void cloud_sns_make(struct cloud_sns *s, const char *topic, const char *queue, bool raw);
/* Wraps (unless raw) and puts into every subscribed queue. service: "ses.amazonaws.com", on behalf
 * of the source with that ARN; NULL: a caller whose permission has been checked. subject may be
 * NULL. False: no such topic, or its policy does not let the service publish. */
bool cloud_sns_publish(struct cloud_sns *s, struct slice topic_arn, const char *service,
                       struct slice source_arn, struct slice message, const char *subject);
void cloud_sns_stats(const struct cloud_sns *s, struct buf *json);

/* cloud_ses.c. Paths /v2/email/…, signature checked. */
struct cloud_ses *cloud_ses_create(struct cloud *c);
void cloud_ses_destroy(struct cloud_ses *s);
void cloud_ses_handle(struct cloud_request *r);
void cloud_ses_error(struct evhttp_request *http, int status, const char *code,
                     const char *message);
void cloud_ses_answer(struct evhttp_request *http, struct slice json); /* 200 */
void cloud_ses_suppress(struct cloud_ses *s, struct slice address,
                        const char *reason); /* BOUNCE, COMPLAINT */
/* NULL = not on the account's list, else the reason. */
const char *cloud_ses_suppressed(struct cloud_ses *s, struct slice address);
void cloud_ses_stats(struct cloud_ses *s, struct buf *json); /* members, without braces */
void cloud_ses_messages(struct cloud_ses *s, struct slice query, struct buf *json);
void cloud_ses_recipients(struct cloud_ses *s,
                          struct buf *text); /* email-id or batch \t address \t count \n */
void cloud_ses_reset(struct cloud_ses *s);

/* cloud_sets.c. */
enum cloud_set_state { CLOUD_SET_ABSENT, CLOUD_SET_PAUSED, CLOUD_SET_SENDS };
struct cloud_sets *cloud_sets_create(struct cloud *c);
void cloud_sets_destroy(struct cloud_sets *s);
void cloud_sets_handle(struct cloud_request *r, const char *name, const char *what,
                       const char *destination); /* path labels, decoded; "" = none */
void cloud_sets_make(struct cloud_sets *s, const char *name,
                     const char *topic_arn); /* all event types */
enum cloud_set_state cloud_sets_state(struct cloud_sets *s, struct slice name);
/* To every topic that an event of this type and configuration set goes to. */
void cloud_sets_publish(struct cloud_sets *s, struct slice name, const char *event_type,
                        struct slice message, const char *subject);

/* cloud_identities.c. */
struct cloud_identities *cloud_identities_create(struct cloud *c);
void cloud_identities_destroy(struct cloud_identities *s);
void cloud_identities_handle(struct cloud_request *r, const char *name, const char *what);
/* False: *code and words say why mail from this address to these may not go out. */
bool cloud_identities_allow(struct cloud_identities *s, struct slice from,
                            const struct slice *recipients, size_t count, const char **code,
                            char words[CLOUD_WORDS_BYTES]);
/* {"identity", "verification"?, "dkim"?, "mail_from"?: "PENDING"|"SUCCESS"|…}; made if absent. */
bool cloud_identities_settle(struct cloud_identities *s, const cJSON *in);

/* Tags by SES's ARN, in both. [{"Key", "Value"}] are put over those of the same keys. False: there is
 * none of that name. */
bool cloud_sets_tag(struct cloud_sets *s, struct slice name, const cJSON *tags);
bool cloud_identities_tag(struct cloud_identities *s, struct slice name, const cJSON *tags);
void cloud_ses_merge_tags(cJSON *list, const cJSON *tags);

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
