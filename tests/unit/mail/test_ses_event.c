#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/json.h"
#include "mail/ses_event.h"

#define ASSERT_TEXT(got, want)                                                                     \
    do {                                                                                           \
        struct slice got_ = (got);                                                                 \
        if (!slice_eq(got_, slice_str(want)))                                                      \
            fail_msg("got \"%.*s\", not \"%s\"", SLICE_ARGS(got_), want);                          \
    } while (0)

/* spec/aws.md §7, with the tags that our sender gives each mail. %s: destinations, then the
 * base64url of "mg.example.com\n20260301.abc@mg.example.com\nghost-email\nbulk-email". */
static const char MAIL[] =
    "{\"timestamp\":\"2026-03-01T12:03:11.482Z\","
    "\"source\":\"\\\"The Weekly\\\" <news@Mail.example.com>\","
    "\"sourceArn\":\"arn:aws:ses:eu-west-1:111122223333:identity/mail.example.com\","
    "\"sendingAccountId\":\"111122223333\","
    "\"messageId\":\"010201954c1e7a10-4f0c2b7e-000000\","
    "\"destination\":[%s],\"headersTruncated\":false,"
    "\"headers\":[{\"name\":\"From\",\"value\":\"\\\"The Weekly\\\" <news@mail.example.com>\"},"
    "{\"name\":\"To\",\"value\":\"ann@example.net\"},{\"name\":\"Subject\",\"value\":\"Issue 12\"},"
    "{\"name\":\"X-Mailgun-Variables\",\"value\":\"{\\\"email-id\\\":\\\"65f0c1\\\","
    "\\\"lang\\\":\\\"sv\\\"}\"}],"
    "\"commonHeaders\":{\"from\":[\"\\\"The Weekly\\\" <news@mail.example.com>\"],"
    "\"replyTo\":[\"editor@example.com\"],\"date\":\"Sun, 01 Mar 2026 12:03:11 +0000\","
    "\"to\":[\"ann@example.net\"],\"messageId\":\"010201954c1e7a10-4f0c2b7e-000000\","
    "\"subject\":\"Issue 12\"},"
    "\"tags\":{\"postern-batch\":[\"1f0a\"],\"postern-rcpt\":[\"73\"],\"postern-meta\":[\"%s\"],"
    "\"email-id\":[\"65f0c1\"],\"ses:operation\":[\"SendBulkEmail\"],"
    "\"ses:configuration-set\":[\"newsletters\"],\"ses:outgoing-ip\":[\"192.0.2.10\"]}}";

/* Of mail served by SES before our tags, or without headers. */
static const char BARE_MAIL[] =
    "{\"timestamp\":\"2026-03-01T12:03:11Z\",\"source\":\"news@mail.example.com\","
    "\"messageId\":\"0102-2\",\"destination\":[%s],\"headersTruncated\":\"false\"}";

static const char *const parts[] = {
    "Send\",\"send\":{}",
    "Delivery\",\"delivery\":{\"timestamp\":\"2026-03-01T12:03:12.740Z\","
    "\"processingTimeMillis\":1258,\"recipients\":[\"ann@example.net\"],"
    "\"smtpResponse\":\"250 2.0.0 OK 1772366592 x19 - gsmtp\",\"remoteMtaIp\":\"198.51.100.7\","
    "\"reportingMTA\":\"a7-31.smtp-out.eu-west-1.amazonses.com\"}",
    "Bounce\",\"bounce\":{\"feedbackId\":\"0102-f1\",\"bounceType\":\"Permanent\","
    "\"bounceSubType\":\"General\",\"bouncedRecipients\":[{\"emailAddress\":\"ann@example.net\","
    "\"action\":\"failed\",\"status\":\"5.1.1\","
    "\"diagnosticCode\":\"smtp; 550 5.1.1 <ann@example.net>: no such user\"}],"
    "\"timestamp\":\"2026-03-01T12:03:14.000Z\",\"reportingMTA\":\"dns; a7-31.example\"}",
    "Complaint\",\"complaint\":{\"feedbackId\":\"0102-f2\",\"complaintSubType\":null,"
    "\"complainedRecipients\":[{\"emailAddress\":\"ann@example.net\"}],"
    "\"timestamp\":\"2026-03-01T14:20:40.000Z\",\"userAgent\":\"ExampleFBL/2.1\","
    "\"complaintFeedbackType\":\"abuse\",\"arrivalDate\":\"2026-03-01T14:20:31.000Z\"}",
    "Reject\",\"reject\":{\"reason\":\"Bad content\"}",
    "Open\",\"open\":{\"timestamp\":\"2026-03-01T13:44:02.115Z\",\"ipAddress\":\"203.0.113.9\","
    "\"userAgent\":\"Mozilla/5.0 (Windows NT 10.0) Chrome/120.0 Safari/537.36\"}",
    "Click\",\"click\":{\"timestamp\":\"2026-03-01T13:44:20.908Z\",\"ipAddress\":\"203.0.113.9\","
    "\"userAgent\":\"Mozilla/5.0 (iPhone; CPU iPhone OS 17_0) Safari/604.1\","
    "\"link\":\"https://example.com/issue/12?x=1\",\"linkTags\":{\"slot\":[\"top\"]}}",
    "Rendering Failure\",\"failure\":{\"errorMessage\":\"Attribute 'v3' is not present\","
    "\"templateName\":\"t\"}",
    "DeliveryDelay\",\"deliveryDelay\":{\"timestamp\":\"2026-03-01T12:33:15.001Z\","
    "\"delayType\":\"TransientCommunicationFailure\","
    "\"expirationTime\":\"2026-03-02T02:03:11.482Z\",\"reportingMTA\":\"198.51.100.40\","
    "\"delayedRecipients\":[{\"emailAddress\":\"ann@example.net\",\"status\":\"4.4.1\","
    "\"diagnosticCode\":\"smtp; 421 4.4.1 Unable to connect to remote host\"}]}",
    "Subscription\",\"subscription\":{\"contactList\":\"readers\","
    "\"timestamp\":\"2026-03-01T15:00:17.910Z\",\"source\":\"UnsubscribeHeader\","
    "\"newTopicPreferences\":{\"unsubscribeAll\":true,\"topicSubscriptionStatus\":["
    "{\"topicName\":\"weekly\",\"subscriptionStatus\":\"OptOut\"}]},"
    "\"oldTopicPreferences\":{\"unsubscribeAll\":false,\"topicSubscriptionStatus\":["
    "{\"topicName\":\"weekly\",\"subscriptionStatus\":\"OptIn\"}]}}",
};
enum {
    SEND,
    DELIVERY,
    BOUNCE,
    COMPLAINT,
    REJECT,
    OPEN,
    CLICK,
    FAILURE,
    DELAY,
    SUBSCRIPTION,
    KINDS
};

#define ANN "\"ann@example.net\""

struct parsed {
    struct arena arena;
    struct buf body;
    struct ses_event *events;
    size_t count;
    struct slice why;
    enum ses_verdict verdict;
};

static void parse(struct parsed *p)
{
    arena_fini(&p->arena);
    p->events = NULL;
    p->count = 0;
    p->why = (struct slice){0};
    p->verdict = ses_event_parse(buf_slice(&p->body), &p->arena, &p->events, &p->count, &p->why);
}

static void done(struct parsed *p)
{
    buf_fini(&p->body);
    arena_fini(&p->arena);
}

static void put_mail(struct buf *to, const char *format, const char *destinations)
{
    struct buf meta = {0};

    text_base64url(&meta,
                   SLICE("MG.example.com\n20260301.abc@mg.example.com\nghost-email\nbulk-email"));
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-extra-args"
    buf_printf(to, format, destinations, buf_cstr(&meta));
#pragma GCC diagnostic pop
    buf_fini(&meta);
}

static void compose(struct buf *to, const char *name, const char *part, const char *mail,
                    const char *destinations)
{
    buf_reset(to);
    buf_printf(to, "{\"%s\":\"%s,\"mail\":", name, part);
    put_mail(to, mail, destinations);
    buf_add_str(to, "}\n");
}

static void read_kind(struct parsed *p, size_t kind)
{
    compose(&p->body, "eventType", parts[kind], MAIL, ANN);
    parse(p);
    assert_int_equal(p->verdict, SES_EVENTS);
}

/* The only event of the kind; its id made. */
static struct ses_event *only(struct parsed *p, size_t kind)
{
    read_kind(p, kind);
    assert_int_equal(p->count, 1);
    ses_event_identify(&p->events[0]);
    return &p->events[0];
}

/* A bounce with these words; NULL = the member is absent. */
static struct ses_event *bounce(struct parsed *p, const char *type, const char *sub,
                                const char *status, const char *diagnostic)
{
    struct buf part = {0};

    buf_printf(&part,
               "Bounce\",\"bounce\":{\"feedbackId\":\"f\",\"bounceType\":\"%s\","
               "\"bounceSubType\":\"%s\",\"timestamp\":\"2026-03-01T12:03:14.000Z\","
               "\"bouncedRecipients\":[{\"emailAddress\":\"ann@example.net\"",
               type, sub);
    if (status != NULL)
        buf_printf(&part, ",\"status\":\"%s\"", status);
    if (diagnostic != NULL)
        buf_printf(&part, ",\"diagnosticCode\":\"%s\"", diagnostic);
    buf_add_str(&part, "}]}");
    compose(&p->body, "eventType", buf_cstr(&part), MAIL, ANN);
    buf_fini(&part);
    parse(p);
    assert_int_equal(p->verdict, SES_EVENTS);
    assert_int_equal(p->count, 1);
    return &p->events[0];
}

/* -------- each shape -------- */

static void what_mail_says_is_in_every_event(void **unused)
{
    struct parsed p = {0};

    (void)unused;
    for (size_t kind = 0; kind < KINDS; kind++) {
        struct ses_event *e = only(&p, kind);
        assert_int_equal(e->batch_id, 0x1f0a);
        assert_true(e->has_recipient);
        assert_int_equal(e->recipient, 73);
        assert_int_equal(e->destinations, 1);
        assert_int_equal(e->settles, kind != SUBSCRIPTION);
        ASSERT_TEXT(e->address, "ann@example.net");
        ASSERT_TEXT(e->from_domain, "mail.example.com");
        ASSERT_TEXT(e->event.recipient, "ann@example.net");
        ASSERT_TEXT(e->event.domain, "mg.example.com");
        ASSERT_TEXT(e->event.message_id, "20260301.abc@mg.example.com");
        ASSERT_TEXT(e->event.ses_id, "010201954c1e7a10-4f0c2b7e-000000");
        ASSERT_TEXT(e->event.from, "\"The Weekly\" <news@mail.example.com>");
        ASSERT_TEXT(e->event.to, "ann@example.net");
        ASSERT_TEXT(e->event.subject, "Issue 12");
        ASSERT_TEXT(e->event.envelope_sender, "news@Mail.example.com");
        ASSERT_TEXT(e->event.sending_ip, "192.0.2.10");
        assert_int_equal(e->event.tag_count, 2);
        ASSERT_TEXT(e->event.tags[1], "bulk-email");
        assert_int_equal(e->event.var_count, 2);
        ASSERT_TEXT(e->event.vars[0].name, "email-id");
        ASSERT_TEXT(e->event.vars[0].value, "65f0c1");
    }
    done(&p);
}

static void a_send_only_settles(void **unused)
{
    struct parsed p = {0};
    struct ses_event *e = only(&p, SEND);

    (void)unused;
    assert_int_equal(e->event.type, 0);
    assert_true(e->settles);
    assert_int_equal(e->suppress, SES_SUPPRESS_NONE);
    done(&p);
}

static void a_delivery_carries_the_answer(void **unused)
{
    struct parsed p = {0};
    struct ses_event *e = only(&p, DELIVERY);

    (void)unused;
    assert_int_equal(e->event.type, EVENT_DELIVERED);
    assert_int_equal(e->event.ses_us, UINT64_C(1772366592740000));
    assert_true(e->event.status.present);
    assert_int_equal(e->event.status.code, 250);
    ASSERT_TEXT(e->event.status.message, "250 2.0.0 OK 1772366592 x19 - gsmtp");
    ASSERT_TEXT(e->event.status.enhanced_code, "2.0.0");
    ASSERT_TEXT(e->event.status.mx_host, "198.51.100.7");
    assert_int_equal(e->event.status.session_ms, 1258);
    assert_int_equal(e->event.status.attempt_no, 1);
    done(&p);
}

static void a_hard_bounce_keeps_its_code_and_suppresses(void **unused)
{
    struct parsed p = {0};
    struct ses_event *e = only(&p, BOUNCE);

    (void)unused;
    assert_int_equal(e->event.type, EVENT_FAILED);
    assert_int_equal(e->event.severity, SEVERITY_PERMANENT);
    ASSERT_TEXT(e->event.reason, "bounce");
    assert_int_equal(e->event.status.code, 550);
    ASSERT_TEXT(e->event.status.enhanced_code, "5.1.1");
    ASSERT_TEXT(e->event.status.message, "550 5.1.1 <ann@example.net>: no such user");
    assert_int_equal(e->suppress, SES_SUPPRESS_BOUNCE);
    ASSERT_TEXT(e->suppress_code, "550");
    ASSERT_TEXT(e->suppress_text, "550 5.1.1 <ann@example.net>: no such user");
    assert_false(e->event.delayed_bounce);
    done(&p);
}

static void a_bounce_long_after_the_sending_is_a_delayed_one(void **unused)
{
    struct parsed p = {0};
    struct buf part = {0};

    (void)unused;
    buf_add_str(&part, parts[BOUNCE]);
    char *at = strstr((char *)(uintptr_t)buf_cstr(&part), "T12:03:14");
    assert_non_null(at);
    memcpy(at, "T15:03:14", 9);
    compose(&p.body, "eventType", buf_cstr(&part), MAIL, ANN);
    parse(&p);
    assert_int_equal(p.count, 1);
    assert_true(p.events[0].event.delayed_bounce);
    buf_fini(&part);
    done(&p);
}

static void only_what_a_mailbox_refused_for_now_is_a_soft_bounce(void **unused)
{
    static const struct {
        const char *type, *sub, *status, *diagnostic;
        enum ses_bounce bounce;
    } cases[] = {
        {"Permanent", "General", "5.1.1", NULL, SES_BOUNCE_HARD},
        {"Permanent", "General", "5.7.1", "smtp; 554 5.7.1 spam", SES_BOUNCE_HARD},
        {"Permanent", "OnAccountSuppressionList", NULL, NULL, SES_BOUNCE_NONE},
        {"Permanent", "UnsubscribedRecipient", NULL, NULL, SES_BOUNCE_NONE},
        {"Transient", "MailboxFull", NULL, NULL, SES_BOUNCE_NONE}, /* its owner may come back */
        {"Transient", "General", "4.2.2", "smtp; 452 4.2.2 over quota", SES_BOUNCE_NONE},
        {"Transient", "General", "4.0.0", "smtp; 451 blocked for spam", SES_BOUNCE_NONE},
        {"Transient", "General", "4.4.7", "timed out", SES_BOUNCE_SOFT},
        {"Transient", "General", NULL, "smtp; 451 try later", SES_BOUNCE_SOFT},
        {"Transient", "General", NULL, NULL, SES_BOUNCE_NONE}, /* out of office */
        {"Transient", "ContentRejected", "5.6.1", NULL, SES_BOUNCE_NONE},
        {"Transient", "AttachmentRejected", "4.2.0", NULL, SES_BOUNCE_NONE},
        {"Transient", "MessageTooLarge", "4.3.4", NULL, SES_BOUNCE_NONE},
        {"Transient", "General", "4.7.1", "greylisted", SES_BOUNCE_NONE},
        {"Undetermined", "Undetermined", NULL, NULL, SES_BOUNCE_NONE},
    };
    struct parsed p = {0};

    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(
            bounce(&p, cases[i].type, cases[i].sub, cases[i].status, cases[i].diagnostic)->bounce,
            cases[i].bounce);
    done(&p);
}

static void bounces_are_judged_by_type_and_code(void **unused)
{
    static const struct {
        const char *type, *sub, *status, *diagnostic;
        enum event_severity severity;
        const char *reason;
        int32_t code;
        enum ses_suppress suppress;
    } cases[] = {
        {"Permanent", "General", NULL, NULL, SEVERITY_PERMANENT, "bounce", 550,
         SES_SUPPRESS_BOUNCE},
        {"Permanent", "NoEmail", "5.1.1", NULL, SEVERITY_PERMANENT, "bounce", 550,
         SES_SUPPRESS_BOUNCE},
        {"Permanent", "General", "5.7.1", "smtp; 554 5.7.1 spam", SEVERITY_PERMANENT, "generic",
         554, SES_SUPPRESS_NONE},
        {"Permanent", "General", "5.0.0", "smtp; 550 rejected as spam", SEVERITY_PERMANENT,
         "generic", 550, SES_SUPPRESS_NONE},
        {"Permanent", "General", NULL, "smtp; 550 message content rejected", SEVERITY_PERMANENT,
         "generic", 550, SES_SUPPRESS_NONE},
        {"Permanent", "General", "5.1.8", "smtp; 550 5.1.8 bad sender", SEVERITY_PERMANENT,
         "generic", 550, SES_SUPPRESS_NONE},
        {"Permanent", "General", "5.4.1", "smtp; 550 5.4.1 relay denied", SEVERITY_PERMANENT,
         "generic", 550, SES_SUPPRESS_NONE},
        {"Permanent", "General", "5.4.4", "smtp; 550 5.4.4 no such domain", SEVERITY_PERMANENT,
         "bounce", 550, SES_SUPPRESS_BOUNCE},
        {"Permanent", "General", "5.2.2", "smtp;552-5.2.2 full", SEVERITY_PERMANENT, "generic", 552,
         SES_SUPPRESS_NONE},
        {"Permanent", "Suppressed", "5.1.1", "Amazon SES has suppressed it", SEVERITY_PERMANENT,
         "suppress-bounce", 605, SES_SUPPRESS_BOUNCE},
        {"Permanent", "OnAccountSuppressionList", NULL, "Amazon SES did not send",
         SEVERITY_PERMANENT, "suppress-bounce", 605, SES_SUPPRESS_BOUNCE},
        {"Permanent", "OnTenantSuppressionList", NULL, NULL, SEVERITY_PERMANENT, "suppress-bounce",
         605, SES_SUPPRESS_BOUNCE},
        {"Permanent", "EmailValidationSuppressed", NULL, NULL, SEVERITY_PERMANENT,
         "suppress-bounce", 605, SES_SUPPRESS_BOUNCE},
        {"Permanent", "UnsubscribedRecipient", NULL, "opted out", SEVERITY_PERMANENT,
         "suppress-unsubscribe", 606, SES_SUPPRESS_NONE},
        {"Transient", "General", NULL, NULL, SEVERITY_TEMPORARY, "generic", 450, SES_SUPPRESS_NONE},
        {"Transient", "MailboxFull", "4.2.2", NULL, SEVERITY_TEMPORARY, "generic", 451,
         SES_SUPPRESS_NONE},
        {"Transient", "General", "4.4.7", "timed out after 300 seconds", SEVERITY_TEMPORARY,
         "generic", 451, SES_SUPPRESS_NONE},
        {"Transient", "ContentRejected", "5.6.1", "smtp; 550 5.6.1 no", SEVERITY_TEMPORARY,
         "generic", 550, SES_SUPPRESS_NONE},
        {"Undetermined", "Undetermined", NULL, NULL, SEVERITY_TEMPORARY, "generic", 450,
         SES_SUPPRESS_NONE},
        {"Permanent", "SomethingNew", NULL, NULL, SEVERITY_PERMANENT, "bounce", 550,
         SES_SUPPRESS_BOUNCE},
    };
    struct parsed p = {0};

    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ses_event *e =
            bounce(&p, cases[i].type, cases[i].sub, cases[i].status, cases[i].diagnostic);
        struct delivery_status *s = &e->event.status;
        assert_int_equal(e->event.severity, cases[i].severity);
        ASSERT_TEXT(e->event.reason, cases[i].reason);
        assert_int_equal(s->code, cases[i].code);
        assert_int_equal(e->suppress, cases[i].suppress);
        assert_true(s->message.len + s->description.len > 0);
        if (s->code >= 600)
            assert_int_equal(s->message.len, 0);
    }
    ASSERT_TEXT(bounce(&p, "Transient", "General", NULL, NULL)->event.status.description,
                "Transient bounce: General");
    ASSERT_TEXT(bounce(&p, "Permanent", "Suppressed", NULL, "said SES")->suppress_text, "said SES");
    ASSERT_TEXT(bounce(&p, "Permanent", "Suppressed", NULL, NULL)->event.status.description,
                "Not delivering to previously bounced address");
    done(&p);
}

static void complaints_suppress_unless_taken_back(void **unused)
{
    struct parsed p = {0};
    struct ses_event *e = only(&p, COMPLAINT);

    (void)unused;
    assert_int_equal(e->event.type, EVENT_COMPLAINED);
    assert_int_equal(e->suppress, SES_SUPPRESS_COMPLAINT);
    assert_false(e->event.status.present);

    compose(
        &p.body, "eventType",
        "Complaint\",\"complaint\":{\"feedbackId\":\"f\",\"complaintFeedbackType\":\"not-spam\","
        "\"complainedRecipients\":[{\"emailAddress\":\"ann@example.net\"}]}",
        MAIL, ANN);
    parse(&p);
    assert_int_equal(p.verdict, SES_EVENTS);
    assert_int_equal(p.count, 1);
    assert_int_equal(p.events[0].event.type, 0); /* it only proves that the mail was taken */
    assert_true(p.events[0].settles);
    assert_int_equal(p.events[0].suppress, SES_SUPPRESS_NONE);

    compose(&p.body, "eventType",
            "Complaint\",\"complaint\":{\"feedbackId\":\"f\","
            "\"complaintSubType\":\"OnAccountSuppressionList\","
            "\"complainedRecipients\":[{\"emailAddress\":\"ann@example.net\"}]}",
            MAIL, ANN);
    parse(&p);
    assert_int_equal(p.count, 1);
    e = &p.events[0];
    assert_int_equal(e->event.type, EVENT_FAILED);
    assert_int_equal(e->event.severity, SEVERITY_PERMANENT);
    ASSERT_TEXT(e->event.reason, "suppress-complaint");
    assert_int_equal(e->event.status.code, 607);
    assert_int_equal(e->event.status.message.len, 0);
    ASSERT_TEXT(e->event.status.description,
                "Not delivering to a user who marked your messages as spam");
    assert_int_equal(e->suppress, SES_SUPPRESS_COMPLAINT);
    /* Without a time of its own: the mail's. */
    assert_int_equal(e->event.ses_us, UINT64_C(1772366591482000));
    done(&p);
}

static void what_ses_refuses_later_has_failed(void **unused)
{
    static const struct {
        size_t kind;
        const char *message;
    } cases[] = {{REJECT, "Bad content"}, {FAILURE, "Attribute 'v3' is not present"}};
    struct parsed p = {0};

    (void)unused;
    for (size_t i = 0; i < 2; i++) {
        struct ses_event *e = only(&p, cases[i].kind);
        assert_int_equal(e->event.type, EVENT_FAILED);
        assert_int_equal(e->event.severity, SEVERITY_PERMANENT);
        ASSERT_TEXT(e->event.reason, "generic");
        assert_int_equal(e->event.status.code, 554);
        ASSERT_TEXT(e->event.status.message, cases[i].message);
        assert_int_equal(e->suppress, SES_SUPPRESS_NONE);
    }
    done(&p);
}

static void a_delay_is_a_temporary_failure(void **unused)
{
    struct parsed p = {0};
    struct ses_event *e = only(&p, DELAY);

    (void)unused;
    assert_int_equal(e->event.type, EVENT_FAILED);
    assert_int_equal(e->event.severity, SEVERITY_TEMPORARY);
    assert_int_equal(e->event.status.code, 421);
    ASSERT_TEXT(e->event.status.enhanced_code, "4.4.1");
    ASSERT_TEXT(e->event.status.message, "421 4.4.1 Unable to connect to remote host");
    ASSERT_TEXT(e->event.status.description, "TransientCommunicationFailure");
    assert_int_equal(e->suppress, SES_SUPPRESS_NONE);
    done(&p);
}

static void opens_and_clicks_know_the_client(void **unused)
{
    struct parsed p = {0};
    struct ses_event *e = only(&p, OPEN);

    (void)unused;
    assert_int_equal(e->event.type, EVENT_OPENED);
    assert_int_equal(e->event.ses_us, UINT64_C(1772372642115000));
    ASSERT_TEXT(e->event.ip, "203.0.113.9");
    ASSERT_TEXT(e->event.client_name, "Chrome");
    ASSERT_TEXT(e->event.client_os, "Windows");
    ASSERT_TEXT(e->event.device_type, "desktop");
    ASSERT_TEXT(e->event.bot, "");
    e = only(&p, CLICK);
    assert_int_equal(e->event.type, EVENT_CLICKED);
    ASSERT_TEXT(e->event.url, "https://example.com/issue/12?x=1");
    ASSERT_TEXT(e->event.client_os, "iOS");
    ASSERT_TEXT(e->event.device_type, "mobile");
    ASSERT_TEXT(e->event.client_type, "mobile browser");
    compose(&p.body, "eventType", "Open\",\"open\":{\"userAgent\":\"Mozilla/5.0\"}", MAIL, ANN);
    parse(&p);
    ASSERT_TEXT(p.events[0].event.bot, "apple");
    compose(&p.body, "eventType",
            "Open\",\"open\":{\"userAgent\":\"Mozilla/5.0 (via ggpht.com GoogleImageProxy)\"}",
            MAIL, ANN);
    parse(&p);
    ASSERT_TEXT(p.events[0].event.bot, "gmail");
    done(&p);
}

static void leaving_a_list_is_an_unsubscription_joining_is_none(void **unused)
{
    struct parsed p = {0};
    struct ses_event *e = only(&p, SUBSCRIPTION);

    (void)unused;
    assert_int_equal(e->event.type, EVENT_UNSUBSCRIBED);
    assert_int_equal(e->suppress, SES_SUPPRESS_UNSUBSCRIBE);
    compose(&p.body, "eventType",
            "Subscription\",\"subscription\":{\"newTopicPreferences\":{\"unsubscribeAll\":false,"
            "\"topicSubscriptionStatus\":[{\"subscriptionStatus\":\"OptIn\"}]}}",
            MAIL, ANN);
    parse(&p);
    assert_int_equal(p.verdict, SES_EVENTS);
    assert_int_equal(p.count, 0);
    done(&p);
}

/* -------- whom it is about -------- */

static void an_event_of_several_recipients_becomes_several(void **unused)
{
    static const char two[] = "\"Ann@example.net\",\"bob@example.org\"";
    struct parsed p = {0};

    (void)unused;
    compose(&p.body, "eventType", parts[OPEN], MAIL, two);
    parse(&p);
    assert_int_equal(p.count, 2);
    assert_int_equal(p.events[0].destinations, 2);
    ASSERT_TEXT(p.events[1].address, "bob@example.org");
    compose(&p.body, "eventType",
            "Bounce\",\"bounce\":{\"feedbackId\":\"f\",\"bounceType\":\"Permanent\","
            "\"bouncedRecipients\":[{\"emailAddress\":\"<BOB@example.org>\"},"
            "{\"emailAddress\":\"ann@Example.net\"}]}",
            MAIL, two);
    parse(&p);
    assert_int_equal(p.count, 2);
    ASSERT_TEXT(p.events[0].address, "bob@example.org");
    ASSERT_TEXT(p.events[1].address, "Ann@example.net");
    ses_event_identify(&p.events[0]);
    ses_event_identify(&p.events[1]);
    assert_memory_not_equal(p.events[0].event.id, p.events[1].event.id, EVENT_ID_BYTES);
    /* Nobody can say which of two it was. */
    compose(&p.body, "eventType", "Bounce\",\"bounce\":{\"bounceType\":\"Permanent\"}", MAIL, two);
    parse(&p);
    assert_int_equal(p.verdict, SES_DEADLETTER);
    assert_int_equal(p.count, 0);
    assert_true(p.why.len > 0);
    done(&p);
}

static void the_only_destination_is_meant_whatever_the_report_says(void **unused)
{
    static const char *const lists[] = {
        "[{\"emailAddress\":\"<ANN@example.net>\"}]",
        "[{\"emailAddress\":\"forwarded@elsewhere.example\"}]",
        "[{\"emailAddress\":null}]",
        "[]",
        "null",
    };
    struct parsed p = {0};

    (void)unused;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        struct buf part = {0};
        buf_printf(&part,
                   "Bounce\",\"bounce\":{\"bounceType\":\"Permanent\",\"bouncedRecipients\":%s}",
                   lists[i]);
        compose(&p.body, "eventType", buf_cstr(&part), BARE_MAIL, ANN);
        buf_fini(&part);
        parse(&p);
        assert_int_equal(p.count, 1);
        ASSERT_TEXT(p.events[0].event.recipient, "ann@example.net");
        assert_int_equal(p.events[0].event.status.code, 550);
    }
    done(&p);
}

static void without_destinations_our_tag_says_who(void **unused)
{
    struct parsed p = {0};

    (void)unused;
    compose(&p.body, "eventType", parts[OPEN], MAIL, "");
    parse(&p);
    assert_int_equal(p.count, 1);
    assert_int_equal(p.events[0].recipient, 73);
    compose(&p.body, "eventType", parts[REJECT], BARE_MAIL, "");
    parse(&p);
    assert_int_equal(p.count, 0);
    done(&p);
}

static void the_batch_s_knowledge_wins(void **unused)
{
    struct name_value vars[] = {{SLICE("email-id"), SLICE("own")}};
    struct slice tags[] = {SLICE("t")};
    const struct message_head head = {.domain = SLICE("mg.example.com"),
                                      .message_id = SLICE("m@mg"),
                                      .from = SLICE("f"),
                                      .subject = SLICE("s"),
                                      .tags = tags,
                                      .tag_count = 1,
                                      .vars = vars,
                                      .var_count = 1,
                                      .size_bytes = 7,
                                      .batch_mode = true};
    const struct recipient one = {.address = SLICE("Ann@Example.NET")};
    struct parsed p = {0};
    struct ses_event *e = only(&p, BOUNCE);
    uint8_t before[EVENT_ID_BYTES];

    (void)unused;
    memcpy(before, e->event.id, sizeof before);
    ses_event_complete(e, &head, &one, &p.arena);
    ses_event_identify(e);
    ASSERT_TEXT(e->event.recipient, "Ann@Example.NET");
    ASSERT_TEXT(e->event.to, "Ann@Example.NET");
    ASSERT_TEXT(e->event.message_id, "m@mg");
    ASSERT_TEXT(e->event.vars[0].value, "own");
    assert_int_equal(e->event.size_bytes, 7);
    assert_int_equal(e->event.status.code, 550);
    assert_memory_equal(before, e->event.id, sizeof before); /* one event, known well or badly */
    done(&p);
}

/* -------- envelopes -------- */

static void wrap(struct buf *to, const char *sns_id, const struct buf *message)
{
    buf_reset(to);
    buf_add_str(to, "{");
    json_put_str(to, "Type", SLICE("Notification"));
    json_put_str(to, "MessageId", slice_str(sns_id));
    json_put_str(to, "TopicArn", SLICE("arn:aws:sns:eu-west-1:111122223333:events"));
    json_put_str(to, "Subject", SLICE("Amazon SES Email Event Notification"));
    json_put_str(to, "Message", buf_slice(message));
    json_put_str(to, "Timestamp", SLICE("2026-03-01T12:03:15.000Z"));
    buf_add_str(to, "}");
}

static void every_envelope_and_either_name_give_the_same_event(void **unused)
{
    struct parsed p = {0};
    struct buf plain = {0};
    uint8_t id[EVENT_ID_BYTES];

    (void)unused;
    for (size_t kind = DELIVERY; kind < KINDS; kind++) {
        memcpy(id, only(&p, kind)->event.id, sizeof id);
        buf_reset(&plain);
        buf_add_slice(&plain, buf_slice(&p.body));
        for (int way = 0; way < 4; way++) {
            if (way < 2) {
                wrap(&p.body, way == 0 ? "sns-1" : "sns-2", &plain);
            } else if (way == 2) {
                buf_reset(&p.body);
                buf_printf(&p.body,
                           "{\"version\":\"0\",\"id\":\"e\",\"detail-type\":\"Email Event\","
                           "\"source\":\"aws.ses\",\"detail\":%s}",
                           buf_cstr(&plain));
            } else {
                compose(&p.body, "notificationType", parts[kind], MAIL, ANN);
            }
            parse(&p);
            assert_int_equal(p.verdict, SES_EVENTS);
            assert_int_equal(p.count, 1);
            ses_event_identify(&p.events[0]);
            assert_memory_equal(id, p.events[0].event.id, sizeof id);
        }
    }
    buf_fini(&plain);
    done(&p);
}

/* SES, SNS and SQS each may say it again, in another envelope, with other ids, at another time; the
 * batch may be known by then, and spell the address otherwise. */
static void the_same_open_told_again_has_the_same_id(void **unused)
{
    static const char *const tellings[] = {
        "Open\",\"open\":{\"timestamp\":\"2026-03-01T13:44:02.115Z\",\"ipAddress\":\"1.2.3.4\"}",
        "Open\",\"open\":{\"ipAddress\":\"1.2.3.4\",\"timestamp\":\"2026-03-01T13:44:02.115000Z\"}",
        "OPEN\",\"open\":{\"timestamp\":\"2026-03-01T13:44:02.115Z\",\"ipAddress\":\"1.2.3.4\","
        "\"new\":1}",
    };
    const struct message_head head = {.domain = SLICE("mg.example.com"), .batch_mode = true};
    const struct recipient one = {.address = SLICE("\"Ann\"@Example.NET")};
    uint8_t id[EVENT_ID_BYTES] = {0};
    struct parsed p = {0};

    (void)unused;
    for (size_t i = 0; i < sizeof tellings / sizeof tellings[0]; i++)
        for (int known = 0; known < 2; known++) {
            compose(&p.body, "eventType", tellings[i], MAIL, ANN);
            parse(&p);
            assert_int_equal(p.count, 1);
            if (known == 1)
                ses_event_complete(&p.events[0], &head, &one, &p.arena);
            ses_event_identify(&p.events[0]);
            if (i == 0 && known == 0)
                memcpy(id, p.events[0].event.id, sizeof id);
            assert_memory_equal(id, p.events[0].event.id, sizeof id);
        }
    done(&p);
}

static void different_opens_have_different_ids(void **unused)
{
    static const char *const opens[] = {
        "Open\",\"open\":{\"timestamp\":\"2026-03-01T13:44:02.115Z\",\"ipAddress\":\"1.2.3.4\"}",
        "Open\",\"open\":{\"timestamp\":\"2026-03-01T13:44:02.116Z\",\"ipAddress\":\"1.2.3.4\"}",
        "Open\",\"open\":{\"timestamp\":\"2026-03-01T13:44:02.115Z\",\"ipAddress\":\"1.2.3.5\"}",
        "Click\",\"click\":{\"timestamp\":\"2026-03-01T13:44:02.115Z\",\"ipAddress\":\"1.2.3.4\"}",
        "Click\",\"click\":{\"timestamp\":\"2026-03-01T13:44:02.115Z\",\"ipAddress\":\"1.2.3.4\","
        "\"link\":\"https://a.example/\"}",
    };
    enum { COUNT = sizeof opens / sizeof opens[0] };
    uint8_t ids[COUNT][EVENT_ID_BYTES];
    struct parsed p = {0};

    (void)unused;
    for (size_t i = 0; i < COUNT; i++) {
        compose(&p.body, "eventType", opens[i], MAIL, ANN);
        parse(&p);
        ses_event_identify(&p.events[0]);
        memcpy(ids[i], p.events[0].event.id, EVENT_ID_BYTES);
        for (size_t k = 0; k < i; k++)
            assert_memory_not_equal(ids[i], ids[k], EVENT_ID_BYTES);
    }
    done(&p);
}

static void notices_are_ignored_and_garbage_is_kept_apart(void **unused)
{
#define NOTICE "Successfully validated SNS topic for Amazon SES event publishing."
    static const struct {
        const char *body;
        enum ses_verdict verdict;
    } cases[] = {
        {NOTICE, SES_IGNORED},
        {"  " NOTICE "\n", SES_IGNORED},
        {"{\"Type\":\"Notification\",\"Message\":\"" NOTICE "\"}", SES_IGNORED},
        {"{\"Type\":\"SubscriptionConfirmation\",\"Token\":\"t\",\"Message\":\"You have chosen\"}",
         SES_IGNORED},
        {"{\"Type\":\"UnsubscribeConfirmation\"}", SES_IGNORED},
        {"{\"notificationType\":\"AmazonSnsSubscriptionSucceeded\",\"message\":\"m\"}",
         SES_IGNORED},
        {"", SES_DEADLETTER},
        {"hello", SES_DEADLETTER},
        {"[]", SES_DEADLETTER},
        {"null", SES_DEADLETTER},
        {"{}", SES_DEADLETTER},
        {"{\"eventType\":\"Delivery\"", SES_DEADLETTER},
        {"{\"eventType\":\"Delivery\"}", SES_DEADLETTER},
        {"{\"eventType\":\"Delivery\",\"mail\":[]}", SES_DEADLETTER},
        {"{\"eventType\":\"Teleport\",\"mail\":{}}", SES_DEADLETTER},
        {"{\"eventType\":7,\"mail\":{}}", SES_DEADLETTER},
        {"{\"Type\":\"Notification\",\"Message\":\"not json\"}", SES_DEADLETTER},
        {"{\"Type\":\"Notification\",\"Message\":\"[1]\"}", SES_DEADLETTER},
        {"{\"Type\":\"Notification\"}", SES_DEADLETTER},
        {"{\"detail-type\":\"x\",\"detail\":{}}", SES_DEADLETTER},
    };
    struct parsed p = {0};

    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        buf_reset(&p.body);
        buf_add_str(&p.body, cases[i].body);
        parse(&p);
        assert_int_equal(p.verdict, cases[i].verdict);
        assert_int_equal(p.count, 0);
        if (p.verdict == SES_DEADLETTER)
            assert_true(p.why.len > 0);
    }
    done(&p);
}

/* -------- whatever is missing -------- */

/* What the reader of an event relies on, however little SES said. */
static void check_promises(struct parsed *p)
{
    parse(p);
    for (size_t i = 0; i < p->count; i++) {
        struct ses_event *e = &p->events[i];
        struct buf json = {0};
        ses_event_identify(e);
        assert_true(e->address.len > 0 || e->has_recipient);
        if (e->event.type == 0)
            continue;
        event_to_json(&json, &e->event, (struct slice){0});
        cJSON *tree = json_parse(buf_slice(&json));
        assert_non_null(tree);
        if (e->event.type == EVENT_FAILED) {
            const cJSON *status = json_get(tree, "delivery-status");
            int64_t code;
            assert_true(json_get_i64(status, "code", &code));
            assert_in_range(code, 400, 699);
            assert_true(cJSON_IsString(json_get(status, "message")));
            assert_true(cJSON_IsString(json_get(status, "description")));
            assert_true(e->event.severity != SEVERITY_NONE);
            assert_true(e->event.reason.len > 0);
        }
        json_free(tree);
        buf_fini(&json);
    }
}

static void check_tree(struct parsed *p, const cJSON *root)
{
    char *text = cJSON_PrintUnformatted(root);

    buf_reset(&p->body);
    buf_add_str(&p->body, text);
    cJSON_free(text);
    check_promises(p);
}

/* Deletes each member below `at` in turn, or puts something of another type in its place. */
static void damage_each(struct parsed *p, const cJSON *root, cJSON *at)
{
    static const char *const instead[] = {"null", "7",  "-1e300", "\"\"", "\"\\u0001 550\"",
                                          "[]",   "{}", "[null]", "true"};

    for (cJSON *child = at->child; child != NULL; child = child->next) {
        damage_each(p, root, child);
        cJSON kept = *child;
        for (size_t i = 0; i < sizeof instead / sizeof instead[0]; i++) {
            cJSON *other = json_parse(slice_str(instead[i]));
            child->type = other->type;
            child->child = other->child;
            child->valuestring = other->valuestring;
            child->valuedouble = other->valuedouble;
            check_tree(p, root);
            child->type = kept.type;
            child->child = kept.child;
            child->valuestring = kept.valuestring;
            child->valuedouble = kept.valuedouble;
            json_free(other);
        }
        if (child->string != NULL) {
            char nobody[] = "?";
            child->string = nobody;
            check_tree(p, root);
            child->string = kept.string;
        }
    }
}

static void nothing_that_is_missing_or_wrong_breaks_a_promise(void **unused)
{
    static const char *const mails[] = {MAIL, BARE_MAIL};
    struct parsed p = {0};

    (void)unused;
    for (size_t kind = 0; kind < KINDS; kind++)
        for (size_t m = 0; m < 2; m++) {
            compose(&p.body, "eventType", parts[kind], mails[m], ANN);
            cJSON *root = json_parse(buf_slice(&p.body));
            assert_non_null(root);
            damage_each(&p, root, root);
            json_free(root);
        }
    done(&p);
}

static void nothing_cut_short_is_an_event(void **unused)
{
    struct parsed p = {0};

    (void)unused;
    for (size_t kind = 0; kind < KINDS; kind++) {
        compose(&p.body, "eventType", parts[kind], MAIL, ANN);
        size_t whole = p.body.len - 1; /* without the newline */
        for (size_t len = 0; len < whole; len += 7) {
            p.body.len = len;
            parse(&p);
            assert_int_equal(p.verdict, SES_DEADLETTER);
        }
    }
    done(&p);
}

static void long_and_broken_texts_become_utf8_of_a_sensible_length(void **unused)
{
    struct parsed p = {0};
    struct buf part = {0};

    (void)unused;
    buf_add_str(&part, "Reject\",\"reject\":{\"reason\":\"x");
    for (size_t i = 0; i < 3000; i++)
        buf_add_str(&part, "ö");
    buf_add_str(&part, "\"}");
    compose(&p.body, "eventType", buf_cstr(&part), MAIL, ANN);
    parse(&p);
    assert_int_equal(p.count, 1);
    assert_int_equal(p.events[0].event.status.message.len, 1999);
    assert_true(slice_is_utf8(p.events[0].event.status.message));
    compose(&p.body, "eventType", "Reject\",\"reject\":{\"reason\":\"a\xff z and more\"}", MAIL,
            ANN);
    parse(&p);
    if (p.verdict == SES_EVENTS)
        ASSERT_TEXT(p.events[0].event.status.message, "a? z and more");
    buf_fini(&part);
    done(&p);
}

static void very_many_recipients_are_bounded(void **unused)
{
    struct parsed p = {0};
    struct buf list = {0};

    (void)unused;
    for (size_t i = 0; i < 5000; i++)
        buf_printf(&list, "%s\"r%zu@example.net\"", i == 0 ? "" : ",", i);
    compose(&p.body, "eventType", parts[OPEN], MAIL, buf_cstr(&list));
    parse(&p);
    assert_int_equal(p.verdict, SES_DEADLETTER); /* SES allows 50 */
    assert_int_equal(p.count, 0);
    buf_fini(&list);
    done(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_mail_says_is_in_every_event),
        cmocka_unit_test(a_send_only_settles),
        cmocka_unit_test(a_delivery_carries_the_answer),
        cmocka_unit_test(a_hard_bounce_keeps_its_code_and_suppresses),
        cmocka_unit_test(a_bounce_long_after_the_sending_is_a_delayed_one),
        cmocka_unit_test(bounces_are_judged_by_type_and_code),
        cmocka_unit_test(only_what_a_mailbox_refused_for_now_is_a_soft_bounce),
        cmocka_unit_test(complaints_suppress_unless_taken_back),
        cmocka_unit_test(what_ses_refuses_later_has_failed),
        cmocka_unit_test(a_delay_is_a_temporary_failure),
        cmocka_unit_test(opens_and_clicks_know_the_client),
        cmocka_unit_test(leaving_a_list_is_an_unsubscription_joining_is_none),
        cmocka_unit_test(an_event_of_several_recipients_becomes_several),
        cmocka_unit_test(the_only_destination_is_meant_whatever_the_report_says),
        cmocka_unit_test(without_destinations_our_tag_says_who),
        cmocka_unit_test(the_batch_s_knowledge_wins),
        cmocka_unit_test(every_envelope_and_either_name_give_the_same_event),
        cmocka_unit_test(the_same_open_told_again_has_the_same_id),
        cmocka_unit_test(different_opens_have_different_ids),
        cmocka_unit_test(notices_are_ignored_and_garbage_is_kept_apart),
        cmocka_unit_test(nothing_that_is_missing_or_wrong_breaks_a_promise),
        cmocka_unit_test(nothing_cut_short_is_an_event),
        cmocka_unit_test(long_and_broken_texts_become_utf8_of_a_sensible_length),
        cmocka_unit_test(very_many_recipients_are_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
