/* Wanted state, difference, verdict, policies, templates, DNS: all without AWS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "setup/difference.h"
#include "setup/dns.h"
#include "setup/plan.h"
#include "setup/policy.h"
#include "setup/template.h"

#define REGION  "eu-west-1"
#define ACCOUNT "111122223333"

static const struct plan_wishes no_wishes = {0};

static void make_of(struct plumbing *p, const char *user, const char *region, const char *node)
{
    struct plumbing_names names;
    struct err err = {0};

    plumbing_names_default(&names);
    names.domain = "mail.example.com";
    names.user = user;
    names.buffer_queue = "newsletter-buffer";
    names.node = node;
    if (plumbing_make(p, &names, region, ACCOUNT, &err) != 0)
        fail_msg("%s", err.text);
}

static void make(struct plumbing *p, const char *user, const char *region)
{
    make_of(p, user, region, "");
}

/* As AWS would answer if all were made. */
static void find_all(struct plumbing *p, bool ours)
{
    for (size_t i = 0; i < p->count; i++) {
        struct resource *r = &p->resources[i];
        json_free(r->found);
        r->found = cJSON_Duplicate(r->wanted, true);
        cJSON *tags = cJSON_AddObjectToObject(r->found, "Tags");
        if (ours && r->of == NULL)
            (void)cJSON_AddStringToObject(tags, PLUMBING_TAG, PLUMBING_TAG_VALUE);
    }
}

static struct resource *named(struct plumbing *p, enum resource_kind kind, const char *name)
{
    for (size_t i = 0; i < p->count; i++)
        if (p->resources[i].kind == kind && strcmp(p->resources[i].name, name) == 0)
            return &p->resources[i];
    fail_msg("no %s", name);
    return NULL;
}

static void set_attribute(struct resource *r, const char *name, const char *value)
{
    cJSON *attributes = cJSON_GetObjectItemCaseSensitive(r->found, "Attributes");

    cJSON_DeleteItemFromObjectCaseSensitive(attributes, name);
    if (value != NULL)
        (void)cJSON_AddStringToObject(attributes, name, value);
}

/* ---- difference ---- */

static bool differs(const char *wanted, const char *found)
{
    cJSON *w = json_parse(slice_str(wanted)), *f = json_parse(slice_str(found));

    assert_non_null(w);
    assert_non_null(f);
    bool any = difference(w, f, NULL, NULL);
    json_free(w);
    json_free(f);
    return any;
}

static void what_aws_takes_for_equal_is_equal(void **unused)
{
    (void)unused;
    assert_false(differs("{\"a\":1}", "{\"a\":1,\"more\":2}"));
    assert_true(differs("{\"a\":1}", "{\"more\":2}"));
    assert_true(differs("{\"a\":{\"b\":1}}", "{}"));
    assert_false(differs("{\"l\":[\"x\",\"y\"]}", "{\"l\":[\"y\",\"x\"]}"));
    assert_true(differs("{\"l\":[\"x\"]}", "{\"l\":[\"x\",\"y\"]}"));
    assert_true(differs("{\"l\":[\"x\",\"y\"]}", "{\"l\":[\"x\"]}"));
    assert_false(differs("{\"n\":\"10\"}", "{\"n\":10}"));
    assert_true(differs("{\"n\":\"10\"}", "{\"n\":11}"));
    assert_true(differs("{\"n\":\"10\"}", "{\"n\":1e83}"));
    assert_true(differs("{\"b\":false}", "{\"b\":true}"));
    /* Policies: what the texts hold counts, whole. */
    assert_false(differs("{\"Policy\":\"{\\\"A\\\":\\\"x\\\",\\\"B\\\":1}\"}",
                         "{\"Policy\":\"{ \\\"B\\\":1, \\\"A\\\":[\\\"x\\\"]}\"}"));
    assert_true(
        differs("{\"Policy\":\"{\\\"A\\\":1}\"}", "{\"Policy\":\"{\\\"A\\\":1,\\\"B\\\":2}\"}"));
    assert_true(differs("{\"Policy\":\"{\\\"A\\\":1}\"}", "{\"Policy\":\"no JSON\"}"));
    assert_true(differs("{\"Policy\":\"{\\\"A\\\":1}\"}", "{\"Policy\":\"\"}"));
    assert_false(differs("{\"RedrivePolicy\":\"{\\\"maxReceiveCount\\\":10}\"}",
                         "{\"RedrivePolicy\":\"{\\\"maxReceiveCount\\\":\\\"10\\\"}\"}"));
    /* A statement alone, and a list with it alone. */
    assert_false(differs("{\"Policy\":\"{\\\"S\\\":[{\\\"a\\\":1}]}\"}",
                         "{\"Policy\":\"{\\\"S\\\":{\\\"a\\\":1}}\"}"));
}

/* ---- plan ---- */

static void nothing_there_is_all_to_be_created(void **unused)
{
    struct plumbing p;

    (void)unused;
    make(&p, "worker", REGION);
    struct plan_sums sums = plan_judge(&p, &no_wishes);
    assert_int_equal(sums.create, p.count);
    assert_int_equal(p.count, 15);
    plumbing_fini(&p);
}

static void all_as_wanted_is_nothing_to_do_whoever_made_it(void **unused)
{
    struct plumbing p;

    (void)unused;
    make(&p, "worker", REGION);
    for (int ours = 0; ours < 2; ours++) {
        find_all(&p, ours == 1);
        struct plan_sums sums = plan_judge(&p, &no_wishes);
        assert_int_equal(sums.exists, p.count);
    }
    plumbing_fini(&p);
}

static void drift_is_changed_where_it_is_ours_and_taken_where_it_is_not(void **unused)
{
    struct plumbing p;

    (void)unused;
    make(&p, "", REGION);
    for (int ours = 0; ours < 2; ours++) {
        enum resource_state wanted = ours == 1 ? RESOURCE_CHANGE : RESOURCE_TAKEN;
        find_all(&p, ours == 1);
        set_attribute(p.queue[0], "VisibilityTimeout", "30");
        set_attribute(p.queue[1], "Policy", NULL);
        struct resource *s = named(&p, RESOURCE_SUBSCRIPTION, p.queue[0]->name);
        set_attribute(s, "RawMessageDelivery", "false");
        struct plan_sums sums = plan_judge(&p, &no_wishes);
        assert_int_equal(ours == 1 ? sums.change : sums.taken, 3);
        assert_int_equal(sums.exists, p.count - 3);
        assert_int_equal(p.queue[0]->state, wanted);
        assert_int_equal(s->state, wanted);
        assert_string_equal(buf_cstr(&p.queue[0]->differs), "VisibilityTimeout 30 → 120");
        assert_string_equal(buf_cstr(&p.queue[1]->differs), "policy missing");
    }
    plumbing_fini(&p);
}

static void something_new_in_a_strangers_topic_is_a_change_of_it(void **unused)
{
    struct plumbing p;
    const struct plan_wishes adopt = {.adopt = true};

    (void)unused;
    make(&p, "", REGION);
    find_all(&p, false);
    struct resource *s = named(&p, RESOURCE_SUBSCRIPTION, p.queue[0]->name);
    json_free(s->found);
    s->found = NULL;
    assert_int_equal(plan_judge(&p, &no_wishes).taken, 1);
    assert_int_equal(s->state, RESOURCE_TAKEN);
    struct plan_sums sums = plan_judge(&p, &adopt);
    assert_int_equal(sums.taken, 0);
    assert_int_equal(s->state, RESOURCE_CREATE);
    assert_true(plan_changes(p.topic[0], PLAN_TAG));
    plumbing_fini(&p);
}

static void an_identity_of_ones_own_keeps_its_mail_from(void **unused)
{
    struct plumbing p;
    const struct plan_wishes given = {.mail_from_given = true};

    (void)unused;
    make(&p, "", REGION);
    find_all(&p, false);
    cJSON *from = cJSON_GetObjectItemCaseSensitive(p.identity->found, "MailFromAttributes");
    (void)cJSON_ReplaceItemInObjectCaseSensitive(from, "MailFromDomain",
                                                 cJSON_CreateString("b.mail.example.com"));
    (void)cJSON_ReplaceItemInObjectCaseSensitive(p.identity->found, "FeedbackForwardingStatus",
                                                 cJSON_CreateTrue());
    (void)plan_judge(&p, &no_wishes);
    assert_int_equal(p.identity->state, RESOURCE_EXISTS);
    (void)plan_judge(&p, &given);
    assert_int_equal(p.identity->state, RESOURCE_CHANGE);
    assert_true(plan_changes(p.identity, "MailFromDomain"));
    assert_false(plan_changes(p.identity, "FeedbackForwardingStatus"));
    plumbing_fini(&p);
}

static void parts_are_found_within_their_topic_and_set(void **unused)
{
    struct plumbing p;

    (void)unused;
    make(&p, "", REGION);
    p.topic[0]->found = json_parse(slice_str(
        "{\"Subscriptions\":[{\"Protocol\":\"email\",\"Endpoint\":\"a@example.com\"},"
        "{\"Protocol\":\"sqs\",\"Endpoint\":\"arn:aws:sqs:eu-west-1:111122223333:other\"},"
        "{\"Protocol\":\"sqs\",\"SubscriptionArn\":\"s\",\"Endpoint\":"
        "\"arn:aws:sqs:eu-west-1:111122223333:newsletter-events-queue\"}]}"));
    p.set[0]->found = json_parse(slice_str(
        "{\"EventDestinations\":[{\"Name\":\"cw\"},{\"Name\":\"mine\",\"SnsDestination\":"
        "{\"TopicArn\":\"arn:aws:sns:eu-west-1:111122223333:ghost-mailgun-proxy-events\"}}]}"));
    plan_share_out(&p);
    struct resource *s = named(&p, RESOURCE_SUBSCRIPTION, p.queue[0]->name);
    assert_true(slice_eq(json_get_text(s->found, "SubscriptionArn"), SLICE("s")));
    /* One of another name to the same topic does as well. */
    struct resource *d = named(&p, RESOURCE_DESTINATION, PLUMBING_DESTINATION);
    assert_true(slice_eq(json_get_text(d->found, "Name"), SLICE("mine")));
    plumbing_fini(&p);
}

/* ---- several machines ---- */

static void the_buffer_is_a_fifo_queue_without_dead_letters(void **unused)
{
    struct plumbing p;
    uint64_t retention_s;

    (void)unused;
    make(&p, "", REGION);
    const cJSON *a = json_get(p.buffer->wanted, "Attributes");
    assert_string_equal(p.buffer->name, "newsletter-buffer.fifo");
    assert_true(slice_eq(json_get_text(a, "FifoQueue"), SLICE("true")));
    assert_true(slice_to_u64(json_get_text(a, "MessageRetentionPeriod"), &retention_s));
    assert_int_equal(retention_s, 14 * 86400);
    assert_null(p.buffer->dlq);
    assert_null(json_get(a, "RedrivePolicy"));
    assert_string_equal(plumbing_kind(p.buffer), "queue");
    plumbing_fini(&p);
}

static void a_node_has_its_queues_alone_and_leaves_the_rest_as_it_is(void **unused)
{
    struct plumbing p;

    (void)unused;
    make_of(&p, "", REGION, "b");
    assert_int_equal(p.count,
                     9); /* buffer, two topics, and of its own: four queues, two subscriptions */
    assert_string_equal(p.queue[0]->name, "newsletter-events-queue-b");
    assert_string_equal(p.queue[1]->dlq->name, "system-events-queue-b-dlq");
    struct plan_sums sums = plan_judge(&p, &no_wishes);
    assert_int_equal(sums.lacked, 3);
    assert_int_equal(sums.create, 6);

    /* The topics are somebody else's and otherwise than setup would make them: it does not matter. */
    find_all(&p, false);
    for (int line = 0; line < PLUMBING_LINES; line++) {
        struct resource *s = named(&p, RESOURCE_SUBSCRIPTION, p.queue[line]->name);
        json_free(s->found);
        s->found = NULL;
    }
    sums = plan_judge(&p, &no_wishes);
    assert_int_equal(sums.create, 2);
    assert_int_equal(sums.exists, 7);

    find_all(&p, true);
    assert_false(plan_is_ours(p.topic[0]));
    assert_false(plan_is_ours(p.buffer));
    assert_true(plan_is_ours(p.queue[0]));
    assert_true(plan_is_ours(named(&p, RESOURCE_SUBSCRIPTION, p.queue[0]->name)));
    plumbing_fini(&p);
}

static void a_node_is_known_by_its_queues(void **unused)
{
    static const struct {
        const char *newsletter, *system, *node;
    } all[] = {
        {"https://sqs/1/newsletter-events-queue", "https://sqs/1/system-events-queue", ""},
        {"https://sqs/1/newsletter-events-queue-b", "https://sqs/1/system-events-queue-b", "b"},
        {"https://sqs/1/newsletter-events-queue-eu-2", "https://sqs/1/system-events-queue-eu-2",
         "eu-2"},
        {"https://sqs/1/newsletter-events-queue-b", "https://sqs/1/system-events-queue-c", ""},
        {"https://sqs/1/newsletter-events-queue-b", "https://sqs/1/system-events-queue", ""},
        {"https://sqs/1/newsletter-events-queue-", "https://sqs/1/system-events-queue-", ""},
        {"https://sqs/1/other", "", ""},
    };
    struct plumbing_names names;

    (void)unused;
    plumbing_names_default(&names);
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        const char *const urls[] = {all[i].newsletter, all[i].system};
        assert_true(slice_eq(plumbing_node_of(&names, urls), slice_str(all[i].node)));
    }
}

/* ---- names ---- */

static void names_that_aws_does_not_take_are_refused(void **unused)
{
    static const struct {
        const char *domain, *mail_from, *set, *queue, *buffer, *node;
    } bad[] = {
        {"example", NULL, NULL, NULL, NULL, NULL},
        {"Mail.Example.com", NULL, NULL, NULL, NULL, NULL},
        {"-a.example.com", NULL, NULL, NULL, NULL, NULL},
        {"a..example.com", NULL, NULL, NULL, NULL, NULL},
        {"example.com.", NULL, NULL, NULL, NULL, NULL},
        {"a.example.com", "b.example.com", NULL, NULL, NULL, NULL},
        {"a.example.com", "a.example.com", NULL, NULL, NULL, NULL},
        {"a.example.com", "ba.example.com", NULL, NULL, NULL, NULL},
        {"a.example.com", NULL, "with blank", NULL, NULL, NULL},
        {"a.example.com", NULL, "ghost-mailgun-proxy-system-set", NULL, NULL, NULL},
        {"a.example.com", NULL, NULL, "queue.fifo", NULL, NULL},
        {"a.example.com", NULL, NULL, "system-events-queue", NULL, NULL},
        {"a.example.com", NULL, NULL, NULL, "a.b.fifo", NULL},
        {"a.example.com", NULL, NULL, NULL, "buffer.FIFO", NULL},
        {"a.example.com", NULL, NULL, NULL, ".fifo", NULL},
        {"a.example.com", NULL, NULL, NULL, NULL, "dlq"},
        {"a.example.com", NULL, NULL, NULL, NULL, "b-dlq"},
        {"a.example.com", NULL, NULL, NULL, NULL, "b.c"},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct plumbing_names names;
        struct plumbing p;
        struct err err = {0};
        plumbing_names_default(&names);
        names.domain = bad[i].domain;
        names.mail_from = bad[i].mail_from;
        if (bad[i].set != NULL)
            names.set[0] = bad[i].set;
        if (bad[i].queue != NULL)
            names.queue[0] = bad[i].queue;
        if (bad[i].buffer != NULL)
            names.buffer_queue = bad[i].buffer;
        if (bad[i].node != NULL)
            names.node = bad[i].node;
        assert_int_equal(plumbing_make(&p, &names, REGION, ACCOUNT, &err), -1);
        assert_true(strlen(err.text) > 20);
    }
}

/* ---- policies ---- */

static cJSON *statement(cJSON *policy, const char *sid)
{
    cJSON *list = cJSON_GetObjectItemCaseSensitive(policy, "Statement");

    for (cJSON *s = list->child; s != NULL; s = s->next)
        if (slice_eq(json_get_text(s, "Sid"), slice_str(sid)))
            return s;
    fail_msg("no statement %s", sid);
    return NULL;
}

static void policies_name_exactly_what_is_there(void **unused)
{
    struct plumbing p;
    struct buf text = {0};

    (void)unused;
    make(&p, "worker", REGION);
    policy_put_run_time(&text, &p);
    assert_true(text.len <= PLUMBING_USER_POLICY_MAX_BYTES);
    cJSON *run = json_parse(buf_slice(&text));
    assert_non_null(run);
    assert_int_equal(cJSON_GetArraySize(json_get(statement(run, "Queues"), "Resource")), 5);
    assert_int_equal(cJSON_GetArraySize(json_get(statement(run, "Notices"), "Resource")), 2);
    for (const cJSON *s = json_get(run, "Statement")->child; s != NULL; s = s->next)
        for (const cJSON *a = json_get(s, "Action")->child; a != NULL; a = a->next)
            assert_true(strchr(a->valuestring, '*') == NULL);
    assert_non_null(strstr(buf_cstr(&text), "\"ses:FromAddress\":[\"*@mail.example.com\"]"));
    assert_null(strstr(buf_cstr(&text), "Delete\"")); /* nothing that takes resources away */
    json_free(run);
    buf_reset(&text);
    policy_put_setup(&text, &p);
    cJSON *setup = json_parse(buf_slice(&text));
    assert_non_null(statement(setup, "User"));
    json_free(setup);
    buf_fini(&text);
    plumbing_fini(&p);
}

static void arns_have_the_partition_of_their_region(void **unused)
{
    static const char *const cases[][2] = {{"cn-north-1", "arn:aws-cn:sqs:cn-north-1:"},
                                           {"us-gov-west-1", "arn:aws-us-gov:sqs:us-gov-west-1:"},
                                           {"eusc-de-east-1", "arn:aws-eusc:sqs:eusc-de-east-1:"},
                                           {"us-east-1", "arn:aws:sqs:us-east-1:"}};

    (void)unused;
    for (size_t i = 0; i < 4; i++) {
        struct plumbing p;
        make(&p, "", cases[i][0]);
        assert_true(slice_starts(slice_str(p.queue[0]->arn), slice_str(cases[i][1])));
        plumbing_fini(&p);
    }
}

/* ---- templates ---- */

static void templates_are_json_and_leave_the_account_to_the_tool(void **unused)
{
    struct plumbing_names names;
    struct plumbing p;
    struct buf text = {0};

    (void)unused;
    plumbing_names_default(&names);
    names.domain = "mail.example.com";
    assert_int_equal(plumbing_make(&p, &names, REGION, TEMPLATE_ACCOUNT_CLOUDFORMATION, NULL), 0);
    template_put_cloudformation(&text, &p);
    cJSON *cloud = json_parse(buf_slice(&text));
    const cJSON *all = json_get(cloud, "Resources");
    assert_int_equal(cJSON_GetArraySize(all), 18);
    const cJSON *q = json_get(json_get(all, "NewsletterEventsQueue"), "Properties");
    assert_int_equal(json_get(q, "VisibilityTimeout")->valueint, PLUMBING_VISIBILITY_S);
    const cJSON *policy = json_get(
        json_get(json_get(all, "NewsletterEventsQueuePolicy"), "Properties"), "PolicyDocument");
    const cJSON *resource = json_get(json_get(policy, "Statement")->child, "Resource");
    assert_true(slice_eq(json_get_text(resource, "Fn::Sub"),
                         SLICE("arn:aws:sqs:eu-west-1:${AWS::AccountId}:newsletter-events-queue")));
    const cJSON *events =
        json_get(json_get(json_get(json_get(all, "GhostMailgunProxySetEvents"), "Properties"),
                          "EventDestination"),
                 "MatchingEventTypes");
    assert_int_equal(cJSON_GetArraySize(events), 10);
    assert_non_null(strstr(buf_cstr(&text), "\"renderingFailure\""));
    json_free(cloud);
    plumbing_fini(&p);

    buf_reset(&text);
    assert_int_equal(plumbing_make(&p, &names, REGION, TEMPLATE_ACCOUNT_TERRAFORM, NULL), 0);
    template_put_terraform(&text, &p);
    cJSON *terra = json_parse(buf_slice(&text));
    assert_non_null(json_get(json_get(json_get(terra, "resource"), "aws_sqs_queue"),
                             "newsletter_events_queue_dlq"));
    json_free(terra);
    buf_fini(&text);
    plumbing_fini(&p);
}

/* ---- DNS ---- */

static void dns_takes_tokens_and_zone_from_the_identity(void **unused)
{
    cJSON *identity = json_parse(
        SLICE("{\"DkimAttributes\":{\"Tokens\":[\"t1\",\"t2\",\"t3\"],\"SigningHostedZone\":"
              "\"dkim.other.example\",\"SigningAttributesOrigin\":\"AWS_SES\"},"
              "\"MailFromAttributes\":{\"MailFromDomain\":\"mine.example.com\"}}"));
    struct dns_records records;
    struct arena arena = {0};
    struct buf zone = {0};

    (void)unused;
    dns_gather(&records, &arena, identity, "example.com", "bounce.example.com", REGION);
    assert_int_equal(records.count, 6);
    dns_put_zone(&zone, &records);
    assert_non_null(strstr(buf_cstr(&zone), "\nt2._domainkey.example.com. 3600 IN CNAME "
                                            "t2.dkim.other.example.\n"));
    assert_non_null(strstr(buf_cstr(&zone), "\nmine.example.com. 3600 IN MX 10 "
                                            "feedback-smtp.eu-west-1.amazonses.com.\n"));
    assert_non_null(strstr(buf_cstr(&zone), "\n_dmarc.example.com. 3600 IN TXT "
                                            "\"v=DMARC1; p=none\"\n"));
    /* A key of one's own: no CNAME leads to SES. */
    cJSON *dkim = cJSON_GetObjectItemCaseSensitive(identity, "DkimAttributes");
    (void)cJSON_ReplaceItemInObjectCaseSensitive(dkim, "SigningAttributesOrigin",
                                                 cJSON_CreateString("EXTERNAL"));
    dns_gather(&records, &arena, identity, "example.com", "", REGION);
    assert_int_equal(records.count, 3);
    assert_false(records.has_dkim);
    json_free(identity);
    buf_fini(&zone);
    arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_aws_takes_for_equal_is_equal),
        cmocka_unit_test(nothing_there_is_all_to_be_created),
        cmocka_unit_test(all_as_wanted_is_nothing_to_do_whoever_made_it),
        cmocka_unit_test(drift_is_changed_where_it_is_ours_and_taken_where_it_is_not),
        cmocka_unit_test(something_new_in_a_strangers_topic_is_a_change_of_it),
        cmocka_unit_test(an_identity_of_ones_own_keeps_its_mail_from),
        cmocka_unit_test(parts_are_found_within_their_topic_and_set),
        cmocka_unit_test(the_buffer_is_a_fifo_queue_without_dead_letters),
        cmocka_unit_test(a_node_has_its_queues_alone_and_leaves_the_rest_as_it_is),
        cmocka_unit_test(a_node_is_known_by_its_queues),
        cmocka_unit_test(names_that_aws_does_not_take_are_refused),
        cmocka_unit_test(policies_name_exactly_what_is_there),
        cmocka_unit_test(arns_have_the_partition_of_their_region),
        cmocka_unit_test(templates_are_json_and_leave_the_account_to_the_tool),
        cmocka_unit_test(dns_takes_tokens_and_zone_from_the_identity),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
