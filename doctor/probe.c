#include "doctor/probe.h"

#include <string.h>

#include "aws/error.h"
#include "aws/ses.h"
#include "aws/sqs.h"
#include "base/digest.h"

#define NOBODY "postern-doctor" /* without a domain: SES sends nothing to it */

static void ask(struct patient *p, const struct aws_request *r, const char *permission,
                const char *what)
{
    struct session_answer a;
    struct err err;

    if (session_call_once(p->session, r, &a, &err) != 0)
        return; /* other checks tell of the network */
    if (aws_error_is_denied(slice_str(a.code)) || (a.code[0] == '\0' && a.status == 403))
        patient_note_denied(p, permission, what);
    session_answer_fini(&a);
}

static void ask_ses(struct patient *p, const char *method, const char *path, struct buf *body,
                    const char *permission, const char *what)
{
    const struct aws_request r = {.service = AWS_SES,
                                  .method = method,
                                  .path = path,
                                  .content_type = body->len > 0 ? "application/json" : NULL,
                                  .body = buf_slice(body)};

    ask(p, &r, permission, what);
    buf_fini(body);
}

static void put_common(struct buf *to, const char *sender, const char *set)
{
    json_put_str(to, "FromEmailAddress", slice_str(sender));
    if (set[0] != '\0')
        json_put_str(to, "ConfigurationSetName", slice_str(set));
}

#define DESTINATION "\"Destination\":{\"ToAddresses\":[\"" NOBODY "\"]}"

static void begin_send(struct buf *to, const char *sender, const char *set)
{
    buf_add_byte(to, '{');
    put_common(to, sender, set);
    buf_add_str(to, "," DESTINATION ",\"Content\":");
}

/* Each way of sending has its own permission, on the identity and on the set. */
static void probe_sending(struct patient *p, const struct config_domain *d, const char *set)
{
    struct buf body = {0}, sender = {0}, mime = {0};

    /* Where senders are named, the policy may name them too. */
    for (size_t i = 0; i < d->allowed_from.count && sender.len == 0; i++)
        if (strchr(d->allowed_from.texts[i], '@') != NULL)
            buf_add_str(&sender, d->allowed_from.texts[i]);
    if (sender.len == 0)
        buf_printf(&sender, "postern-doctor@%s", d->name);
    const char *from = buf_cstr(&sender);

    begin_send(&body, from, set);
    buf_add_str(&body, "{\"Simple\":{\"Subject\":{\"Data\":\"-\"},\"Body\":{\"Text\":{\"Data\":\"-"
                       "\"}}}}}");
    ask_ses(p, "POST", SES_PATH_SEND, &body, "ses:SendEmail", set[0] != '\0' ? set : d->name);

    buf_printf(&mime, "From: %s\r\nTo: %s\r\nSubject: -\r\n\r\n-\r\n", from, NOBODY);
    begin_send(&body, from, set);
    buf_add_str(&body, "{\"Raw\":{\"Data\":\"");
    text_base64(&body, buf_slice(&mime));
    buf_add_str(&body, "\"}}}");
    ask_ses(p, "POST", SES_PATH_SEND, &body, "ses:SendRawEmail", set[0] != '\0' ? set : d->name);

    buf_add_byte(&body, '{');
    put_common(&body, from, set);
    buf_add_str(&body,
                ",\"DefaultContent\":{\"Template\":{\"TemplateContent\":{\"Subject\":\"-\","
                "\"Text\":\"-\"},\"TemplateData\":\"{}\"}},\"BulkEmailEntries\":[{" DESTINATION
                "}]}");
    ask_ses(p, "POST", SES_PATH_BULK, &body, "ses:SendBulkTemplatedEmail",
            set[0] != '\0' ? set : d->name);
    buf_fini(&sender);
    buf_fini(&mime);
}

static void probe_domain(struct patient *p, const struct config_domain *d)
{
    probe_sending(p, d, d->newsletter_configuration_set);
    if (strcmp(d->system_configuration_set, d->newsletter_configuration_set) != 0)
        probe_sending(p, d, d->system_configuration_set);
}

static void ask_sqs(struct patient *p, const struct patient_queue *q, const char *target,
                    const char *more, const char *permission)
{
    struct aws_request r;
    struct buf body = {0};

    buf_add_byte(&body, '{');
    json_put_str(&body, "QueueUrl", q->url);
    buf_add_str(&body, more);
    buf_add_byte(&body, '}');
    sqs_request(&r, target);
    r.region = sqs_region_of(q->url);
    r.body = buf_slice(&body);
    ask(p, &r, permission, q->name);
    buf_fini(&body);
}

/* A real receive would count: after ten of them a message is a dead letter. Zero messages are asked
 * for, which SQS refuses. */
static void probe_queue(struct patient *p, const struct patient_queue *q)
{
    ask_sqs(p, q, "AmazonSQS.ReceiveMessage", ",\"MaxNumberOfMessages\":0", "sqs:ReceiveMessage");
    ask_sqs(p, q, "AmazonSQS.DeleteMessage", ",\"ReceiptHandle\":\"postern-doctor\"",
            "sqs:DeleteMessage");
}

/* The same, and a message of no group, which a FIFO queue refuses. */
static void probe_buffer(struct patient *p)
{
    probe_queue(p, &p->buffer);
    ask_sqs(p, &p->buffer, "AmazonSQS.ChangeMessageVisibility",
            ",\"ReceiptHandle\":\"postern-doctor\",\"VisibilityTimeout\":1",
            "sqs:ChangeMessageVisibility");
    /* A standard queue would take it. */
    if (slice_ends_nocase(p->buffer.url, SLICE(".fifo")))
        ask_sqs(p, &p->buffer, "AmazonSQS.SendMessage", ",\"MessageBody\":\"-\"",
                "sqs:SendMessage");
}

void probe_permissions(struct patient *p)
{
    struct buf path = {0}, none = {0};

    for (size_t i = 0; i < p->domain_count; i++)
        probe_domain(p, p->domains[i].config);
    for (size_t i = 0; i < p->queue_count; i++)
        if (p->queues[i].queue.result != INSPECT_ABSENT)
            probe_queue(p, &p->queues[i]);
    if (p->buffer.url.len > 0 && p->buffer.queue.result != INSPECT_ABSENT)
        probe_buffer(p);
    ses_suppression_path(&path, SLICE("nobody@postern-doctor.invalid"));
    ask_ses(p, "DELETE", buf_cstr(&path), &none, "ses:DeleteSuppressedDestination", "the account");
    buf_fini(&path);
}
