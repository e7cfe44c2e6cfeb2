#include "setup/template.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "setup/policy.h"

enum { LOGICAL_NAME_BYTES = 128 };

static void put_document(struct buf *to, cJSON *document)
{
    char *text = cJSON_Print(document);

    buf_add_str(to, text != NULL ? text : "{}");
    buf_add_byte(to, '\n');
    cJSON_free(text);
    json_free(document);
}

static cJSON *run_time_policy(const struct plumbing *p)
{
    struct buf text = {0};

    policy_put_run_time(&text, p);
    cJSON *tree = json_parse(buf_slice(&text));
    buf_fini(&text);
    return tree;
}

static cJSON *parsed(const struct resource *r, const char *attribute)
{
    return json_parse(json_get_text(json_get(r->wanted, "Attributes"), attribute));
}

static bool is_fifo(const struct resource *r)
{
    return json_get(json_get(r->wanted, "Attributes"), "FifoQueue") != NULL;
}

/* The wanted attributes that are numbers, under another naming. */
static double number_of(const struct resource *r, const char *attribute)
{
    uint64_t number = 0;

    (void)slice_to_u64(json_get_text(json_get(r->wanted, "Attributes"), attribute), &number);
    return (double)number;
}

/* ---- CloudFormation ---- */

/* "NewsletterEventsQueueDlq": letters and digits, of the resource's name. */
static void logical_name(char to[LOGICAL_NAME_BYTES], const char *name, const char *kind)
{
    size_t len = 0;
    bool upper = true;

    for (; *name != '\0' && len < LOGICAL_NAME_BYTES - 40; name++) {
        if (!isalnum((unsigned char)*name)) {
            upper = true;
            continue;
        }
        to[len++] = (char)(upper ? toupper((unsigned char)*name) : *name);
        upper = false;
    }
    (void)snprintf(to + len, LOGICAL_NAME_BYTES - len, "%s", kind);
}

/* Texts that hold a "${…}" are {"Fn::Sub": text}. */
static void substitute(cJSON *tree)
{
    for (cJSON *at = tree->child, *next; at != NULL; at = next) {
        next = at->next;
        if (!cJSON_IsString(at) || strstr(at->valuestring, "${") == NULL) {
            substitute(at);
            continue;
        }
        cJSON *sub = cJSON_CreateObject();
        (void)cJSON_AddStringToObject(sub, "Fn::Sub", at->valuestring);
        if (cJSON_IsArray(tree)) {
            (void)cJSON_ReplaceItemViaPointer(tree, at, sub);
        } else {
            char *name = strdup(at->string);
            (void)cJSON_ReplaceItemInObjectCaseSensitive(tree, name, sub);
            free(name);
        }
    }
}

/* Its Properties. */
static cJSON *add_cloud(cJSON *resources, const char *name, const char *type)
{
    cJSON *one = cJSON_AddObjectToObject(resources, name);

    (void)cJSON_AddStringToObject(one, "Type", type);
    return cJSON_AddObjectToObject(one, "Properties");
}

static void add_depends(cJSON *properties_of, const char *resource, const char *on)
{
    cJSON *one = cJSON_GetObjectItemCaseSensitive(properties_of, resource);

    (void)cJSON_AddItemToObject(one, "DependsOn", cJSON_CreateString(on));
}

static void add_cloud_tags(cJSON *properties)
{
    cJSON *tag = cJSON_CreateObject();

    (void)cJSON_AddStringToObject(tag, "Key", PLUMBING_TAG);
    (void)cJSON_AddStringToObject(tag, "Value", PLUMBING_TAG_VALUE);
    (void)cJSON_AddItemToArray(cJSON_AddArrayToObject(properties, "Tags"), tag);
}

static cJSON *reference(const char *function, const char *name, const char *attribute)
{
    cJSON *one = cJSON_CreateObject();

    if (attribute == NULL) {
        (void)cJSON_AddStringToObject(one, function, name);
    } else {
        cJSON *list = cJSON_AddArrayToObject(one, function);
        (void)cJSON_AddItemToArray(list, cJSON_CreateString(name));
        (void)cJSON_AddItemToArray(list, cJSON_CreateString(attribute));
    }
    return one;
}

static void cloud_queue(cJSON *all, const struct resource *r)
{
    char name[LOGICAL_NAME_BYTES], other[LOGICAL_NAME_BYTES];
    cJSON *policy = parsed(r, "Policy");

    logical_name(name, r->name, "");
    cJSON *q = add_cloud(all, name, "AWS::SQS::Queue");
    (void)cJSON_AddStringToObject(q, "QueueName", r->name);
    (void)cJSON_AddNumberToObject(q, "MessageRetentionPeriod",
                                  number_of(r, "MessageRetentionPeriod"));
    if (is_fifo(r))
        (void)cJSON_AddTrueToObject(q, "FifoQueue");
    if (!r->is_dlq) {
        (void)cJSON_AddNumberToObject(q, "VisibilityTimeout", number_of(r, "VisibilityTimeout"));
        (void)cJSON_AddNumberToObject(q, "ReceiveMessageWaitTimeSeconds",
                                      number_of(r, "ReceiveMessageWaitTimeSeconds"));
    }
    if (r->dlq != NULL) {
        cJSON *redrive = cJSON_AddObjectToObject(q, "RedrivePolicy");
        logical_name(other, r->dlq->name, "");
        (void)cJSON_AddItemToObject(redrive, "deadLetterTargetArn",
                                    reference("Fn::GetAtt", other, "Arn"));
        (void)cJSON_AddNumberToObject(redrive, "maxReceiveCount", PLUMBING_RECEIVES);
    }
    add_cloud_tags(q);
    if (policy != NULL) {
        logical_name(other, r->name, "Policy");
        cJSON *p = add_cloud(all, other, "AWS::SQS::QueuePolicy");
        (void)cJSON_AddItemToArray(cJSON_AddArrayToObject(p, "Queues"),
                                   reference("Ref", name, NULL));
        (void)cJSON_AddItemToObject(p, "PolicyDocument", policy);
    }
}

static void cloud_topic(cJSON *all, const struct resource *r)
{
    char name[LOGICAL_NAME_BYTES], other[LOGICAL_NAME_BYTES];

    logical_name(name, r->name, "Topic");
    cJSON *t = add_cloud(all, name, "AWS::SNS::Topic");
    (void)cJSON_AddStringToObject(t, "TopicName", r->name);
    add_cloud_tags(t);
    logical_name(other, r->name, "TopicPolicy");
    cJSON *p = add_cloud(all, other, "AWS::SNS::TopicPolicy");
    (void)cJSON_AddItemToArray(cJSON_AddArrayToObject(p, "Topics"), reference("Ref", name, NULL));
    (void)cJSON_AddItemToObject(p, "PolicyDocument", parsed(r, "Policy"));
}

static void cloud_subscription(cJSON *all, const struct resource *r)
{
    char name[LOGICAL_NAME_BYTES], other[LOGICAL_NAME_BYTES];

    logical_name(name, r->name, "Subscription");
    cJSON *s = add_cloud(all, name, "AWS::SNS::Subscription");
    logical_name(other, r->of->name, "Topic");
    (void)cJSON_AddItemToObject(s, "TopicArn", reference("Ref", other, NULL));
    (void)cJSON_AddStringToObject(s, "Protocol", "sqs");
    logical_name(other, r->to->name, "");
    (void)cJSON_AddItemToObject(s, "Endpoint", reference("Fn::GetAtt", other, "Arn"));
    (void)cJSON_AddBoolToObject(
        s, "RawMessageDelivery",
        slice_eq(json_get_text(json_get(r->wanted, "Attributes"), "RawMessageDelivery"),
                 SLICE("true")));
    logical_name(other, r->to->name, "Policy");
    add_depends(all, name, other);
}

static void cloud_set(cJSON *all, const struct resource *r)
{
    char name[LOGICAL_NAME_BYTES];

    logical_name(name, r->name, "");
    cJSON *s = add_cloud(all, name, "AWS::SES::ConfigurationSet");
    (void)cJSON_AddStringToObject(s, "Name", r->name);
    (void)cJSON_AddItemToObject(s, "SendingOptions",
                                cJSON_Duplicate(json_get(r->wanted, "SendingOptions"), true));
}

/* SES's v2 API writes RENDERING_FAILURE, CloudFormation renderingFailure. */
static void camel(char *text)
{
    char *to = text;
    bool upper = false;

    for (const char *from = text; *from != '\0'; from++) {
        if (*from == '_') {
            upper = true;
            continue;
        }
        *to++ = upper ? *from : (char)tolower((unsigned char)*from);
        upper = false;
    }
    *to = '\0';
}

static void cloud_destination(cJSON *all, const struct resource *r, const struct resource *topic)
{
    char name[LOGICAL_NAME_BYTES], other[LOGICAL_NAME_BYTES];

    logical_name(name, r->of->name, "Events");
    cJSON *d = add_cloud(all, name, "AWS::SES::ConfigurationSetEventDestination");
    logical_name(other, r->of->name, "");
    (void)cJSON_AddItemToObject(d, "ConfigurationSetName", reference("Ref", other, NULL));
    cJSON *e = cJSON_AddObjectToObject(d, "EventDestination");
    (void)cJSON_AddStringToObject(e, "Name", r->name);
    (void)cJSON_AddTrueToObject(e, "Enabled");
    cJSON *types = cJSON_Duplicate(json_get(r->wanted, "MatchingEventTypes"), true);
    for (cJSON *t = types->child; t != NULL; t = t->next)
        camel(t->valuestring);
    (void)cJSON_AddItemToObject(e, "MatchingEventTypes", types);
    logical_name(other, topic->name, "Topic");
    (void)cJSON_AddItemToObject(cJSON_AddObjectToObject(e, "SnsDestination"), "TopicARN",
                                reference("Ref", other, NULL));
    /* SES publishes a test message as it is made. */
    logical_name(other, topic->name, "TopicPolicy");
    add_depends(all, name, other);
}

static void cloud_identity(cJSON *all, const struct resource *r)
{
    cJSON *i = add_cloud(all, "Identity", "AWS::SES::EmailIdentity");
    const cJSON *from = json_get(r->wanted, "MailFromAttributes");

    (void)cJSON_AddStringToObject(i, "EmailIdentity", r->name);
    (void)cJSON_AddStringToObject(cJSON_AddObjectToObject(i, "DkimSigningAttributes"),
                                  "NextSigningKeyLength", "RSA_2048_BIT");
    if (from != NULL)
        (void)cJSON_AddItemToObject(i, "MailFromAttributes", cJSON_Duplicate(from, true));
    (void)cJSON_AddFalseToObject(cJSON_AddObjectToObject(i, "FeedbackAttributes"),
                                 "EmailForwardingEnabled");
}

static void cloud_outputs(cJSON *document, const struct plumbing *p)
{
    cJSON *outputs = cJSON_AddObjectToObject(document, "Outputs");
    char name[LOGICAL_NAME_BYTES], url[LOGICAL_NAME_BYTES + 8];

    for (size_t i = 0; i < p->count; i++) {
        const struct resource *r = &p->resources[i];
        if (r->kind != RESOURCE_QUEUE || r->is_dlq)
            continue;
        logical_name(name, r->name, "");
        (void)snprintf(url, sizeof url, "%sUrl", name);
        (void)cJSON_AddItemToObject(cJSON_AddObjectToObject(outputs, url), "Value",
                                    reference("Ref", name, NULL));
    }
    for (int n = 1; n <= 3; n++) {
        char token[32], value[32];
        for (int side = 0; side < 2; side++) {
            (void)snprintf(token, sizeof token, "Dkim%s%d", side == 0 ? "Name" : "Value", n);
            (void)snprintf(value, sizeof value, "DkimDNSToken%s%d", side == 0 ? "Name" : "Value",
                           n);
            (void)cJSON_AddItemToObject(cJSON_AddObjectToObject(outputs, token), "Value",
                                        reference("Fn::GetAtt", "Identity", value));
        }
    }
    (void)cJSON_AddItemToObject(cJSON_AddObjectToObject(outputs, "RunTimePolicyArn"), "Value",
                                reference("Ref", "RunTimePolicy", NULL));
}

void template_put_cloudformation(struct buf *to, const struct plumbing *p)
{
    cJSON *document = cJSON_CreateObject();
    struct buf words = {0};

    (void)cJSON_AddStringToObject(document, "AWSTemplateFormatVersion", "2010-09-09");
    buf_printf(&words, "What Postern needs to send for %s by Amazon SES", p->names.domain);
    (void)cJSON_AddStringToObject(document, "Description", buf_cstr(&words));
    buf_fini(&words);
    cJSON *all = cJSON_AddObjectToObject(document, "Resources");
    for (size_t i = 0; i < p->count; i++) {
        const struct resource *r = &p->resources[i];
        switch (r->kind) {
        case RESOURCE_QUEUE:
            cloud_queue(all, r);
            break;
        case RESOURCE_TOPIC:
            cloud_topic(all, r);
            break;
        case RESOURCE_SUBSCRIPTION:
            cloud_subscription(all, r);
            break;
        case RESOURCE_SET:
            cloud_set(all, r);
            break;
        case RESOURCE_DESTINATION:
            cloud_destination(all, r, p->topic[r->line]);
            break;
        case RESOURCE_IDENTITY:
            cloud_identity(all, r);
            break;
        case RESOURCE_USER:
            break;
        }
    }
    cJSON *policy = add_cloud(all, "RunTimePolicy", "AWS::IAM::ManagedPolicy");
    (void)cJSON_AddStringToObject(policy, "Description",
                                  "What Postern may do: attach it to the role it runs as");
    (void)cJSON_AddItemToObject(policy, "PolicyDocument", run_time_policy(p));
    cloud_outputs(document, p);
    substitute(all);
    put_document(to, document);
}

/* ---- Terraform ---- */

/* "newsletter_events_queue" */
static void label(char to[LOGICAL_NAME_BYTES], const char *name)
{
    size_t len = 0;

    for (; *name != '\0' && len < LOGICAL_NAME_BYTES - 1; name++)
        to[len++] = isalnum((unsigned char)*name) ? (char)tolower((unsigned char)*name) : '_';
    to[len] = '\0';
    if (isdigit((unsigned char)to[0]))
        to[0] = '_';
}

static cJSON *add_terra(cJSON *all, const char *type, const char *name)
{
    cJSON *of_type = cJSON_GetObjectItemCaseSensitive(all, type);

    if (of_type == NULL)
        of_type = cJSON_AddObjectToObject(all, type);
    return cJSON_AddObjectToObject(of_type, name);
}

static void add_terra_tags(cJSON *one)
{
    (void)cJSON_AddStringToObject(cJSON_AddObjectToObject(one, "tags"), PLUMBING_TAG,
                                  PLUMBING_TAG_VALUE);
}

/* "${TYPE.NAME.ATTRIBUTE}" of the resource */
static void add_terra_reference(cJSON *to, const char *as, const char *type, const char *name,
                                const char *attribute)
{
    char of[LOGICAL_NAME_BYTES];
    struct buf text = {0};

    label(of, name);
    buf_printf(&text, "${%s.%s.%s}", type, of, attribute);
    (void)cJSON_AddStringToObject(to, as, buf_cstr(&text));
    buf_fini(&text);
}

static void add_terra_depends(cJSON *to, const char *type, const char *name)
{
    char of[LOGICAL_NAME_BYTES];
    struct buf text = {0};

    label(of, name);
    buf_printf(&text, "%s.%s", type, of);
    (void)cJSON_AddItemToArray(cJSON_AddArrayToObject(to, "depends_on"),
                               cJSON_CreateString(buf_cstr(&text)));
    buf_fini(&text);
}

static void terra_queue(cJSON *all, const struct resource *r)
{
    char name[LOGICAL_NAME_BYTES];
    struct slice policy = json_get_text(json_get(r->wanted, "Attributes"), "Policy"),
                 redrive = json_get_text(json_get(r->wanted, "Attributes"), "RedrivePolicy");

    label(name, r->name);
    cJSON *q = add_terra(all, "aws_sqs_queue", name);
    (void)cJSON_AddStringToObject(q, "name", r->name);
    (void)cJSON_AddNumberToObject(q, "message_retention_seconds",
                                  number_of(r, "MessageRetentionPeriod"));
    if (is_fifo(r))
        (void)cJSON_AddTrueToObject(q, "fifo_queue");
    if (!r->is_dlq) {
        (void)cJSON_AddNumberToObject(q, "visibility_timeout_seconds",
                                      number_of(r, "VisibilityTimeout"));
        (void)cJSON_AddNumberToObject(q, "receive_wait_time_seconds",
                                      number_of(r, "ReceiveMessageWaitTimeSeconds"));
    }
    if (r->dlq != NULL) {
        (void)cJSON_AddStringToObject(q, "redrive_policy", (const char *)redrive.ptr);
        add_terra_depends(q, "aws_sqs_queue", r->dlq->name);
    }
    add_terra_tags(q);
    if (policy.len > 0) {
        cJSON *p = add_terra(all, "aws_sqs_queue_policy", name);
        add_terra_reference(p, "queue_url", "aws_sqs_queue", r->name, "id");
        (void)cJSON_AddStringToObject(p, "policy", (const char *)policy.ptr);
    }
}

static void terra_topic(cJSON *all, const struct resource *r)
{
    char name[LOGICAL_NAME_BYTES];
    struct slice policy = json_get_text(json_get(r->wanted, "Attributes"), "Policy");

    label(name, r->name);
    cJSON *t = add_terra(all, "aws_sns_topic", name);
    (void)cJSON_AddStringToObject(t, "name", r->name);
    add_terra_tags(t);
    cJSON *p = add_terra(all, "aws_sns_topic_policy", name);
    add_terra_reference(p, "arn", "aws_sns_topic", r->name, "arn");
    (void)cJSON_AddStringToObject(p, "policy", (const char *)policy.ptr);
}

static void terra_subscription(cJSON *all, const struct resource *r)
{
    char name[LOGICAL_NAME_BYTES];

    label(name, r->name);
    cJSON *s = add_terra(all, "aws_sns_topic_subscription", name);
    add_terra_reference(s, "topic_arn", "aws_sns_topic", r->of->name, "arn");
    (void)cJSON_AddStringToObject(s, "protocol", "sqs");
    add_terra_reference(s, "endpoint", "aws_sqs_queue", r->to->name, "arn");
    (void)cJSON_AddBoolToObject(
        s, "raw_message_delivery",
        slice_eq(json_get_text(json_get(r->wanted, "Attributes"), "RawMessageDelivery"),
                 SLICE("true")));
    add_terra_depends(s, "aws_sqs_queue_policy", r->to->name);
}

static void terra_set(cJSON *all, const struct resource *r)
{
    char name[LOGICAL_NAME_BYTES];

    label(name, r->name);
    cJSON *s = add_terra(all, "aws_sesv2_configuration_set", name);
    (void)cJSON_AddStringToObject(s, "configuration_set_name", r->name);
    (void)cJSON_AddTrueToObject(cJSON_AddObjectToObject(s, "sending_options"), "sending_enabled");
    add_terra_tags(s);
}

static void terra_destination(cJSON *all, const struct resource *r, const struct resource *topic)
{
    char name[LOGICAL_NAME_BYTES];

    label(name, r->of->name);
    cJSON *d = add_terra(all, "aws_sesv2_configuration_set_event_destination", name);
    add_terra_reference(d, "configuration_set_name", "aws_sesv2_configuration_set", r->of->name,
                        "configuration_set_name");
    (void)cJSON_AddStringToObject(d, "event_destination_name", r->name);
    cJSON *e = cJSON_AddObjectToObject(d, "event_destination");
    (void)cJSON_AddTrueToObject(e, "enabled");
    (void)cJSON_AddItemToObject(e, "matching_event_types",
                                cJSON_Duplicate(json_get(r->wanted, "MatchingEventTypes"), true));
    add_terra_reference(cJSON_AddObjectToObject(e, "sns_destination"), "topic_arn", "aws_sns_topic",
                        topic->name, "arn");
    add_terra_depends(d, "aws_sns_topic_policy", topic->name);
}

static void terra_identity(cJSON *all, const struct resource *r)
{
    static const char type[] = "aws_sesv2_email_identity";
    const cJSON *from = json_get(r->wanted, "MailFromAttributes");
    cJSON *i = add_terra(all, type, "domain");

    (void)cJSON_AddStringToObject(i, "email_identity", r->name);
    (void)cJSON_AddStringToObject(cJSON_AddObjectToObject(i, "dkim_signing_attributes"),
                                  "next_signing_key_length", "RSA_2048_BIT");
    add_terra_tags(i);
    if (from != NULL) {
        cJSON *f = add_terra(all, "aws_sesv2_email_identity_mail_from_attributes", "domain");
        add_terra_reference(f, "email_identity", type, "domain", "email_identity");
        (void)cJSON_AddStringToObject(f, "mail_from_domain",
                                      json_get(from, "MailFromDomain")->valuestring);
        (void)cJSON_AddStringToObject(f, "behavior_on_mx_failure",
                                      json_get(from, "BehaviorOnMxFailure")->valuestring);
    }
    cJSON *f = add_terra(all, "aws_sesv2_email_identity_feedback_attributes", "domain");
    add_terra_reference(f, "email_identity", type, "domain", "email_identity");
    (void)cJSON_AddFalseToObject(f, "email_forwarding_enabled");
}

static void terra_outputs(cJSON *document, const struct plumbing *p)
{
    cJSON *outputs = cJSON_AddObjectToObject(document, "output");
    char name[LOGICAL_NAME_BYTES], url[LOGICAL_NAME_BYTES + 8];

    for (size_t i = 0; i < p->count; i++) {
        const struct resource *r = &p->resources[i];
        if (r->kind != RESOURCE_QUEUE || r->is_dlq)
            continue;
        label(name, r->name);
        (void)snprintf(url, sizeof url, "%s_url", name);
        add_terra_reference(cJSON_AddObjectToObject(outputs, url), "value", "aws_sqs_queue",
                            r->name, "url");
    }
    (void)cJSON_AddStringToObject(
        cJSON_AddObjectToObject(outputs, "dkim_tokens"), "value",
        "${aws_sesv2_email_identity.domain.dkim_signing_attributes[0].tokens}");
    (void)cJSON_AddStringToObject(cJSON_AddObjectToObject(outputs, "run_time_policy_arn"), "value",
                                  "${aws_iam_policy.run_time.arn}");
}

void template_put_terraform(struct buf *to, const struct plumbing *p)
{
    cJSON *document = cJSON_CreateObject();
    struct buf policy = {0};

    cJSON *providers = cJSON_AddObjectToObject(cJSON_AddObjectToObject(document, "terraform"),
                                               "required_providers");
    cJSON *aws = cJSON_AddObjectToObject(providers, "aws");
    (void)cJSON_AddStringToObject(aws, "source", "hashicorp/aws");
    (void)cJSON_AddStringToObject(aws, "version", ">= 5.0");
    (void)cJSON_AddStringToObject(
        cJSON_AddObjectToObject(cJSON_AddObjectToObject(document, "provider"), "aws"), "region",
        p->region);
    (void)cJSON_AddObjectToObject(
        cJSON_AddObjectToObject(cJSON_AddObjectToObject(document, "data"), "aws_caller_identity"),
        "current");
    cJSON *all = cJSON_AddObjectToObject(document, "resource");
    for (size_t i = 0; i < p->count; i++) {
        const struct resource *r = &p->resources[i];
        switch (r->kind) {
        case RESOURCE_QUEUE:
            terra_queue(all, r);
            break;
        case RESOURCE_TOPIC:
            terra_topic(all, r);
            break;
        case RESOURCE_SUBSCRIPTION:
            terra_subscription(all, r);
            break;
        case RESOURCE_SET:
            terra_set(all, r);
            break;
        case RESOURCE_DESTINATION:
            terra_destination(all, r, p->topic[r->line]);
            break;
        case RESOURCE_IDENTITY:
            terra_identity(all, r);
            break;
        case RESOURCE_USER:
            break;
        }
    }
    cJSON *run_time = add_terra(all, "aws_iam_policy", "run_time");
    (void)cJSON_AddStringToObject(run_time, "name", "postern-run-time");
    policy_put_run_time(&policy, p);
    (void)cJSON_AddStringToObject(run_time, "policy", buf_cstr(&policy));
    buf_fini(&policy);
    terra_outputs(document, p);
    put_document(to, document);
}
