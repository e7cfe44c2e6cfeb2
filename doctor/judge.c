#include "doctor/judge.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "aws/endpoint.h"
#include "setup/plumbing.h"
#include "setup/policy_verdict.h"
#include "shm/gauges.h"

enum {
    CLOCK_WARN_S = 30,
    CLOCK_FAIL_S = 240, /* AWS refuses a signature that is 300 off */
    QUOTA_WARN_PERCENT = 80,
    DEPTH_WARN = 10000, /* messages: more than Postern needs a minute for */
    AGE_WARN_MS = 10 * 60 * 1000,
    SILENT_FAIL_MS = 5 * 60 * 1000,
    READER_WARN_MS = 30 * 60 * 1000, /* Ghost's slower job, with its delay (spec/ghost.md §3) */
};

static bool is(const cJSON *object, const char *name, const char *text)
{
    return slice_eq(json_get_text(object, name), slice_str(text));
}

/* "30 s", "45 min", "7 h" */
static void put_time(struct buf *to, uint64_t ms)
{
    uint64_t s = ms / 1000;

    if (s < 120)
        buf_printf(to, "%" PRIu64 " s", s);
    else if (s < 7200)
        buf_printf(to, "%" PRIu64 " min", s / 60);
    else
        buf_printf(to, "%" PRIu64 " h", s / 3600);
}

/* ---- the account ---- */

void judge_clock(struct finding *f, int64_t offset_s)
{
    uint64_t off_s = offset_s < 0 ? (uint64_t)-offset_s : (uint64_t)offset_s;
    const char *side = offset_s > 0 ? "behind" : "ahead of";

    if (off_s < CLOCK_WARN_S) {
        (void)finding_add(f, FINDING_OK, "%" PRIu64 " s from AWS's", off_s);
        return;
    }
    if (off_s < CLOCK_FAIL_S)
        (void)finding_add(f, FINDING_WARN, "this machine's clock is %" PRIu64 " s %s AWS's", off_s,
                          side);
    else
        (void)finding_add(f, FINDING_FAIL,
                          "this machine's clock is %" PRIu64 " s %s AWS's, which refuses "
                          "signatures that are 5 minutes off (Postern signs with AWS's time "
                          "then), and readers ask for events by its time",
                          off_s, side);
    finding_mend(f, "timedatectl set-ntp true");
}

void judge_account(struct finding *f, const struct ses_account *a, struct slice enforcement,
                   const char *region)
{
    if (slice_eq(enforcement, SLICE("SHUTDOWN")) &&
        finding_add(f, FINDING_FAIL, "AWS has suspended the account's sending in %s (SHUTDOWN)",
                    region))
        finding_mend(f, "answer the case that AWS has opened: Support Center");
    if (!a->sending_enabled &&
        finding_add(f, FINDING_FAIL, "sending is paused for the account in %s", region))
        finding_mend(f, "aws sesv2 put-account-sending-attributes --sending-enabled --region %s",
                     region);
    if (slice_eq(enforcement, SLICE("PROBATION")) &&
        finding_add(f, FINDING_WARN,
                    "AWS reviews the account (PROBATION): bounces or complaints "
                    "are too many"))
        finding_mend(f, "postern domains shows the shares; answer AWS's case in the Support "
                        "Center");
    if (!a->production && finding_add(f, FINDING_WARN,
                                      "the account is in SES's sandbox: mail to verified addresses "
                                      "and the simulator alone"))
        finding_mend(f, "request production access: SES console, Account dashboard (docs/aws.md)");
    (void)finding_add(f, FINDING_OK, "in production, in %s", region);
}

void judge_quota(struct finding *f, const struct ses_account *a)
{
    uint64_t max = a->quota_max_24h, sent = a->quota_sent_24h, per_s = a->rate_milli / 1000;

    if (max == 0 || max == UINT64_MAX) {
        (void)finding_add(f, FINDING_OK, "no limit a day, %" PRIu64 " a second", per_s);
        return;
    }
    if (sent >= max)
        (void)finding_add(f, FINDING_FAIL,
                          "%" PRIu64 " of %" PRIu64 " mails of 24 hours are sent: what is to go "
                          "waits until they are past",
                          sent, max);
    else if (sent / QUOTA_WARN_PERCENT >= max / 100 && sent * 100 >= max * QUOTA_WARN_PERCENT)
        (void)finding_add(f, FINDING_WARN, "%" PRIu64 " of %" PRIu64 " mails of 24 hours are sent",
                          sent, max);
    else
        (void)finding_add(f, FINDING_OK,
                          "%" PRIu64 " of %" PRIu64 " in 24 hours, %" PRIu64 " a second", sent, max,
                          per_s);
    if (f->state != FINDING_OK)
        finding_mend(f, "ask for more: Service Quotas console, Amazon SES, Sending quota");
}

/* ---- the identity ---- */

void judge_identity(struct finding *f, const cJSON *identity, const char *name, const char *domain,
                    const char *setup)
{
    struct slice status = json_get_text(identity, "VerificationStatus");

    if (identity == NULL) {
        (void)finding_add(f, FINDING_FAIL,
                          "SES knows neither %s nor a domain above it here: it "
                          "takes no mail from it",
                          domain);
        finding_mend(f, "%s", setup);
    } else if (!json_get_bool(identity, "VerifiedForSendingStatus", false)) {
        (void)finding_add(f, FINDING_FAIL,
                          "%s is not verified%s%.*s: SES takes no mail from it until it finds its "
                          "DNS records",
                          name, status.len > 0 ? " yet, " : "", SLICE_ARGS(status));
        finding_mend(f, "%s --print-dns", setup);
    } else if (strcmp(name, domain) != 0) {
        (void)finding_add(f, FINDING_OK, "verified by %s", name);
    } else {
        (void)finding_add(f, FINDING_OK, "verified");
    }
}

void judge_dkim(struct finding *f, const cJSON *identity, const char *setup)
{
    const cJSON *dkim = json_get(identity, "DkimAttributes");
    struct slice status = json_get_text(dkim, "Status");

    if (!json_get_bool(dkim, "SigningEnabled", false)) {
        (void)finding_add(f, FINDING_FAIL,
                          "SES does not sign: mailboxes refuse newsletters "
                          "without DKIM");
        finding_mend(f, "%s", setup);
    } else if (!slice_eq(status, SLICE("SUCCESS"))) {
        (void)finding_add(f, FINDING_FAIL, "the keys are not found in DNS: %.*s",
                          SLICE_ARGS(status.len > 0 ? status : SLICE("no status")));
        finding_mend(f, "%s --print-dns", setup);
    } else {
        (void)finding_add(f, FINDING_OK, "signed");
    }
}

void judge_mail_from(struct finding *f, const cJSON *identity, const char *setup)
{
    const cJSON *from = json_get(identity, "MailFromAttributes");
    struct slice domain = json_get_text(from, "MailFromDomain"),
                 status = json_get_text(from, "MailFromDomainStatus");
    bool rejects = is(from, "BehaviorOnMxFailure", "REJECT_MESSAGE");

    if (domain.len == 0) {
        (void)finding_add(f, FINDING_OK, "SES's own");
        return;
    }
    if (slice_eq(status, SLICE("SUCCESS"))) {
        (void)finding_add(f, FINDING_OK, "%.*s", SLICE_ARGS(domain));
        return;
    }
    (void)finding_add(f, rejects ? FINDING_FAIL : FINDING_WARN,
                      "%.*s is not found in DNS (%.*s): SES %s", SLICE_ARGS(domain),
                      SLICE_ARGS(status.len > 0 ? status : SLICE("no status")),
                      rejects ? "refuses every mail"
                              : "uses a domain of its own, and SPF does not "
                                "speak for yours");
    finding_mend(f, "%s --print-dns", setup);
}

/* ---- configuration set ---- */

void judge_set(struct finding *f, const cJSON *set, const char *name)
{
    if (!json_get_bool(json_get(set, "SendingOptions"), "SendingEnabled", true)) {
        (void)finding_add(f, FINDING_FAIL, "sending is paused for it");
        finding_mend(f,
                     "aws sesv2 put-configuration-set-sending-options --sending-enabled "
                     "--configuration-set-name %s",
                     name);
        return;
    }
    (void)finding_add(f, FINDING_OK, "sends");
}

static bool lists(const cJSON *list, const char *text)
{
    for (const cJSON *e = json_first(list); e != NULL; e = e->next)
        if (slice_eq(json_text(e), slice_str(text)))
            return true;
    return false;
}

/* Whether one of the set's destinations that lead to the topic and are switched on has the type. */
static bool is_published(const cJSON *set, struct slice topic, const char *type)
{
    for (const cJSON *d = json_first(json_get(set, "EventDestinations")); d != NULL; d = d->next)
        if (json_get_bool(d, "Enabled", true) &&
            slice_eq(json_get_text(json_get(d, "SnsDestination"), "TopicArn"), topic) &&
            lists(json_get(d, "MatchingEventTypes"), type))
            return true;
    return false;
}

static bool is_any_on(const cJSON *set, struct slice topic)
{
    for (const cJSON *d = json_first(json_get(set, "EventDestinations")); d != NULL; d = d->next)
        if (json_get_bool(d, "Enabled", true) &&
            slice_eq(json_get_text(json_get(d, "SnsDestination"), "TopicArn"), topic))
            return true;
    return false;
}

void judge_event_types(struct finding *f, const cJSON *set, struct slice topic, bool opens,
                       const char *setup)
{
    static const struct {
        const char *type;
        enum finding_state state; /* when it is missing */
        bool of_opens;
    } types[] = {
        {"SEND", FINDING_FAIL, false},   {"DELIVERY", FINDING_FAIL, false},
        {"BOUNCE", FINDING_FAIL, false}, {"COMPLAINT", FINDING_FAIL, false},
        {"REJECT", FINDING_FAIL, false}, {"RENDERING_FAILURE", FINDING_FAIL, false},
        {"OPEN", FINDING_FAIL, true},    {"DELIVERY_DELAY", FINDING_WARN, false},
        {"CLICK", FINDING_WARN, true},   {"SUBSCRIPTION", FINDING_WARN, true},
    };
    struct buf missing[FINDING_FAIL + 1] = {0};
    size_t published = 0;

    if (topic.len == 0) {
        (void)finding_add(f, FINDING_FAIL,
                          "no event destination leads to a topic: SES tells "
                          "nobody what becomes of the mail");
    } else if (!is_any_on(set, topic)) {
        (void)finding_add(f, FINDING_FAIL, "the event destination to %.*s is switched off",
                          SLICE_ARGS(topic));
    } else {
        for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
            struct buf *to = &missing[types[i].state];
            if (is_published(set, topic, types[i].type))
                published++;
            else if (opens || !types[i].of_opens)
                buf_printf(to, "%s%s", to->len > 0 ? ", " : "", types[i].type);
        }
        for (int state = FINDING_FAIL; state >= FINDING_WARN; state--)
            if (missing[state].len > 0)
                (void)finding_add(f, (enum finding_state)state, "not published: %s",
                                  buf_cstr(&missing[state]));
        (void)finding_add(f, FINDING_OK, "%zu event types", published);
    }
    if (f->state != FINDING_OK)
        finding_mend(f, "%s", setup);
    for (int state = FINDING_OK; state <= FINDING_FAIL; state++)
        buf_fini(&missing[state]);
}

/* ---- topic, subscription, queue ---- */

static enum policy_verdict verdict_of(const cJSON *attributes, const struct policy_question *q)
{
    cJSON *policy = json_parse(json_get_text(attributes, "Policy"));
    enum policy_verdict verdict = policy_verdict(policy, true, q);

    json_free(policy);
    return verdict;
}

void judge_topic(struct finding *f, const cJSON *topic, const char *set_arn, struct slice account,
                 const char *setup)
{
    const cJSON *attributes = json_get(topic, "Attributes");
    const struct policy_question q = {
        .service = "ses.amazonaws.com",
        .action = "sns:Publish",
        .resource = json_get_text(topic, "TopicArn"),
        .facts = {{"aws:SourceArn", slice_str(set_arn)},
                  {"aws:SourceAccount", account},
                  {"aws:SecureTransport", SLICE("true")}},
    };
    enum policy_verdict verdict = verdict_of(attributes, &q);

    if (verdict != POLICY_ALLOWS) {
        (void)finding_add(f, FINDING_FAIL,
                          "its policy %s SES publish to it for this configuration set",
                          verdict == POLICY_DENIES ? "forbids that" : "does not let");
        finding_mend(f, "%s", setup);
        return;
    }
    if (json_get_text(attributes, "KmsMasterKeyId").len > 0 &&
        !slice_starts(json_get_text(attributes, "KmsMasterKeyId"), SLICE("alias/aws/")))
        (void)finding_add(f, FINDING_OK, "SES may publish, if the policy of its KMS key lets it");
    (void)finding_add(f, FINDING_OK, "SES may publish");
}

void judge_subscription(struct finding *f, const cJSON *subscription, struct slice topic,
                        const char *setup)
{
    struct slice arn = json_get_text(subscription, "SubscriptionArn");
    const cJSON *attributes = json_get(subscription, "Attributes");

    if (subscription == NULL) {
        (void)finding_add(f, FINDING_FAIL, "%.*s delivers to no queue that Postern reads",
                          SLICE_ARGS(topic));
        finding_mend(f, "%s", setup);
    } else if (!slice_starts(arn, SLICE("arn:"))) {
        (void)finding_add(f, FINDING_FAIL, "it is not confirmed: %.*s", SLICE_ARGS(arn));
        finding_mend(f, "%s", setup);
    } else if (json_get_text(attributes, "FilterPolicy").len > 2) {
        (void)finding_add(f, FINDING_FAIL, "a filter policy keeps events back");
        finding_mend(f,
                     "aws sns set-subscription-attributes --attribute-name FilterPolicy "
                     "--attribute-value {} --subscription-arn %.*s",
                     SLICE_ARGS(arn));
    } else {
        (void)finding_add(f, FINDING_OK, "delivers");
    }
}

void judge_delivery(struct finding *f, const cJSON *subscription, bool verify_sns,
                    const char *setup)
{
    bool raw = is(json_get(subscription, "Attributes"), "RawMessageDelivery", "true");

    if (raw && verify_sns) {
        (void)finding_add(f, FINDING_FAIL,
                          "raw, without SNS's signature, and queues.verify_sns takes signed "
                          "messages alone: every event becomes a dead letter");
        finding_mend(f, "%s --wrapped", setup);
        return;
    }
    (void)finding_add(f, FINDING_OK, "%s",
                      raw          ? "raw"
                      : verify_sns ? "wrapped and signed"
                                   : "wrapped; raw is smaller");
}

void judge_queue_policy(struct finding *f, const cJSON *queue, const char *queue_arn,
                        struct slice topic, struct slice account, const char *setup)
{
    const cJSON *attributes = json_get(queue, "Attributes");
    const struct policy_question q = {
        .service = "sns.amazonaws.com",
        .action = "sqs:SendMessage",
        .resource = slice_str(queue_arn),
        .facts = {{"aws:SourceArn", topic},
                  {"aws:SourceAccount", account},
                  {"aws:SecureTransport", SLICE("true")}},
    };
    enum policy_verdict verdict = verdict_of(attributes, &q);
    struct slice key = json_get_text(attributes, "KmsMasterKeyId");

    if (verdict != POLICY_ALLOWS) {
        (void)finding_add(f, FINDING_FAIL,
                          "the queue's policy %s %.*s send to it: its events are "
                          "lost",
                          verdict == POLICY_DENIES ? "forbids that" : "does not let",
                          SLICE_ARGS(topic));
        finding_mend(f, "%s", setup);
    } else if (slice_starts(key, SLICE("alias/aws/"))) {
        (void)finding_add(f, FINDING_FAIL,
                          "the queue is encrypted with %.*s, whose policy cannot "
                          "let SNS in",
                          SLICE_ARGS(key));
        finding_mend(f, "a key of your own that sns.amazonaws.com may use, or SSE-SQS "
                        "(docs/aws.md)");
    } else {
        (void)finding_add(f, FINDING_OK, "the topic may send%s",
                          key.len > 0 ? ", if the policy of its KMS key lets it" : "");
    }
}

void judge_depth(struct finding *f, const struct judge_depth *d)
{
    struct buf age = {0};
    uint64_t waiting = d->visible + d->delayed;

    if (d->is_running && d->silent_ms != UINT64_MAX && d->silent_ms > SILENT_FAIL_MS &&
        waiting > 0) {
        put_time(&age, d->silent_ms);
        (void)finding_add(f, FINDING_FAIL, "%" PRIu64 " events wait, and none was read for %s",
                          waiting, buf_cstr(&age));
        finding_mend(f, "postern status");
    } else if (d->is_running && (waiting > DEPTH_WARN || d->oldest_ms > AGE_WARN_MS)) {
        put_time(&age, d->oldest_ms);
        (void)finding_add(f, FINDING_WARN,
                          "%" PRIu64 " events wait; what came of late had waited %s", waiting,
                          buf_cstr(&age));
        finding_mend(f, "more poller.children and poller.receives, if it does not go down");
    } else {
        (void)finding_add(f, FINDING_OK, "%" PRIu64 " wait, %" PRIu64 " in flight%s", waiting,
                          d->in_flight,
                          !d->is_running && waiting > 0 ? ", for Postern to run" : "");
    }
    buf_fini(&age);
}

static uint64_t attribute_of(const cJSON *queue, const char *name)
{
    uint64_t value = 0;

    (void)slice_to_u64(json_get_text(json_get(queue, "Attributes"), name), &value);
    return value;
}

void judge_buffer(struct finding *f, const cJSON *queue, const char *name,
                  uint64_t message_max_bytes, const char *setup)
{
    const cJSON *attributes = json_get(queue, "Attributes");
    uint64_t most = attribute_of(queue, "MaximumMessageSize"),
             keeps_s = attribute_of(queue, "MessageRetentionPeriod");
    struct slice url = json_get_text(queue, "QueueUrl");

    if (!is(attributes, "FifoQueue", "true") &&
        finding_add(f, FINDING_FAIL, "%s is no FIFO queue: it may give one message to two machines",
                    name))
        finding_mend(f, "%s --buffer-queue newsletter-buffer", setup);
    if (most > 0 && most < message_max_bytes &&
        finding_add(f, FINDING_FAIL,
                    "it takes messages of %" PRIu64
                    " bytes, and queues.buffer_message_max is %" PRIu64
                    ": SQS refuses large newsletters",
                    most, message_max_bytes))
        finding_mend(f,
                     "aws sqs set-queue-attributes --attributes MaximumMessageSize=%" PRIu64
                     " --queue-url %.*s",
                     message_max_bytes, SLICE_ARGS(url));
    if (json_get_text(attributes, "RedrivePolicy").len > 0 &&
        finding_add(f, FINDING_FAIL,
                    "it has a dead-letter queue: SQS would put accepted mail aside there, where no "
                    "machine reads it"))
        finding_mend(f, "aws sqs set-queue-attributes --attributes RedrivePolicy= --queue-url %.*s",
                     SLICE_ARGS(url));
    if (keeps_s < PLUMBING_BUFFER_RETENTION_S) {
        struct buf time = {0};
        put_time(&time, keeps_s * 1000);
        if (finding_add(f, FINDING_WARN,
                        "SQS drops what nobody has sent for %s: mail that was accepted",
                        buf_cstr(&time)))
            finding_mend(f, "%s", setup);
        buf_fini(&time);
    }
    (void)finding_add(f, FINDING_OK, "FIFO, keeps 14 days");
}

void judge_buffer_depth(struct finding *f, const struct judge_buffer_depth *d, uint64_t now_ms)
{
    struct buf time = {0};
    bool joins = d->joins_until_ms > now_ms;

    if (joins && d->returned > 0) {
        put_time(&time, d->joins_until_ms - now_ms);
        (void)finding_add(f, FINDING_WARN,
                          "%" PRIu64 " wait; what is older than this machine's event queues is "
                          "left to other machines for %s more",
                          d->visible, buf_cstr(&time));
        finding_mend(f, "let the machines run that were there before; if there are none any more: "
                        "queues { buffer_join = \"0s\" }, and who had got it already may get it "
                        "again");
    } else if (d->is_running && d->grows_since_ms != 0 && d->visible > 0 &&
               now_ms > d->grows_since_ms + GAUGE_BUFFER_GROWS_MS) {
        put_time(&time, now_ms - d->grows_since_ms);
        (void)finding_add(f, FINDING_FAIL,
                          "%" PRIu64 " parts of newsletters wait, and it has not shrunk for %s",
                          d->visible, buf_cstr(&time));
        finding_mend(f, "postern status, on each machine: holds, and up to when the event queues "
                        "are read; nothing is taken before they are");
    } else {
        (void)finding_add(f, FINDING_OK, "%" PRIu64 " wait, %" PRIu64 " in flight%s", d->visible,
                          d->in_flight,
                          joins ? "; this machine is new and takes newer newsletters alone" : "");
    }
    buf_fini(&time);
}

void judge_dead_letters(struct finding *f, const cJSON *queue, const cJSON *dead, const char *setup)
{
    const cJSON *attributes = json_get(queue, "Attributes"),
                *of_dead = json_get(dead, "Attributes");
    struct slice waiting_text = json_get_text(of_dead, "ApproximateNumberOfMessages");
    uint64_t waiting = 0, keeps_s = 0, dead_keeps_s = 0;

    if (json_get_text(attributes, "RedrivePolicy").len == 0) {
        (void)finding_add(f, FINDING_WARN,
                          "none: a message that cannot be stored comes again "
                          "until SQS drops it");
        finding_mend(f, "%s", setup);
        return;
    }
    if (dead == NULL) {
        (void)finding_add(f, FINDING_FAIL, "the queue that its redrive policy names is not there");
        finding_mend(f, "%s", setup);
        return;
    }
    (void)slice_to_u64(waiting_text, &waiting);
    (void)slice_to_u64(json_get_text(attributes, "MessageRetentionPeriod"), &keeps_s);
    (void)slice_to_u64(json_get_text(of_dead, "MessageRetentionPeriod"), &dead_keeps_s);
    if (waiting > 0) {
        (void)finding_add(f, FINDING_WARN,
                          "%" PRIu64 " events were received ten times and more without being "
                          "stored",
                          waiting);
        finding_mend(f, "postern deadletters --redrive");
    } else if (dead_keeps_s < keeps_s) {
        /* A dead letter keeps the age that it came with. */
        (void)finding_add(f, FINDING_WARN, "it keeps messages for a shorter time than its source");
        finding_mend(f, "%s", setup);
    } else {
        (void)finding_add(f, FINDING_OK, "empty");
    }
}

struct slice judge_endpoint_region(struct slice host)
{
    struct slice service, rest, region;

    if (slice_find(host, SLICE(".amazonaws.")) == SIZE_MAX ||
        !slice_cut(host, '.', &service, &rest) || !slice_cut(rest, '.', &region, &rest) ||
        slice_eq(region, SLICE("amazonaws")))
        return slice_none();
    return region;
}

/* ---- Ghost ---- */

void judge_ghost_url(struct finding *f, const char *url, struct buf *origin)
{
    struct endpoint_parts parts;
    struct err err;

    if (endpoint_parse(&parts, url, &err) != 0) {
        (void)finding_add(f, FINDING_FAIL,
                          "\"%s\" is no address that Ghost can use: scheme, host and port, without "
                          "user and query",
                          url);
        finding_mend(f, "\"baseUrl\": \"https://mail.example.com\" in Ghost's "
                        "bulkEmail.mailgun (docs/ghost.md)");
        return;
    }
    buf_add_str(origin, parts.origin);
    if (parts.prefix[0] != '\0' && strcmp(parts.prefix, "/v3") != 0) {
        (void)finding_add(f, FINDING_FAIL,
                          "Ghost drops the path \"%s\": it asks %s/v3/…, where Postern has to be",
                          parts.prefix, parts.origin);
        finding_mend(f, "give Postern a host name or port of its own");
    }
    (void)finding_add(f, FINDING_OK, "%s", parts.origin);
    endpoint_fini(&parts);
}

void judge_reading(struct finding *f, uint64_t unread, uint64_t last_event_ms,
                   uint64_t last_read_ms, uint64_t now_ms)
{
    struct buf ago = {0};
    uint64_t waits_ms = now_ms > last_event_ms ? now_ms - last_event_ms : 0;
    uint64_t since_ms = now_ms > last_read_ms ? now_ms - last_read_ms : 0;

    put_time(&ago, last_read_ms == 0 ? waits_ms : since_ms);
    if (last_event_ms == 0)
        (void)finding_add(f, FINDING_SKIP, "no event has come yet for it to read");
    else if (unread == 0)
        (void)finding_add(f, FINDING_OK, "has all events; came %s ago", buf_cstr(&ago));
    else if (last_read_ms == 0 ? waits_ms < READER_WARN_MS : since_ms < READER_WARN_MS)
        (void)finding_add(f, FINDING_OK, "%" PRIu64 " events wait; came %s%s", unread,
                          last_read_ms == 0 ? "not yet" : buf_cstr(&ago),
                          last_read_ms == 0 ? "" : " ago");
    else if (last_read_ms == 0)
        (void)finding_add(f, FINDING_FAIL,
                          "has never read its events; %" PRIu64 " wait, the last for %s", unread,
                          buf_cstr(&ago));
    else
        (void)finding_add(f, FINDING_FAIL, "has read no events for %s; %" PRIu64 " wait",
                          buf_cstr(&ago), unread);
    if (f->state == FINDING_FAIL)
        finding_mend(f, "Ghost's bulkEmail.mailgun: baseUrl, apiKey (one of api_keys), domain; its "
                        "log says why it fails (docs/ghost.md)");
    buf_fini(&ago);
}
