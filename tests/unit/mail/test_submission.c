#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "mail/form.h"

/* 2026-11-23 11:00:00 UTC */
#define NOW_US UINT64_C(1795431600000000)

/* One POST: fields in, a submission or a refusal out. */
struct call {
    struct arena arena;
    struct buf body;
    struct submission s;
    struct refusal why;
    bool ok;
};

static void add(struct call *c, const char *name, struct slice value)
{
    buf_printf(&c->body, "--B\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n", name);
    buf_add_slice(&c->body, value);
    buf_add_str(&c->body, "\r\n");
}

static void submit_body(struct call *c, struct slice type)
{
    struct submission_context context = {.domain = SLICE("mg.example.com"),
                                         .path_domain = SLICE("MG.example.com"),
                                         .now_us = NOW_US,
                                         .random = 0xe655506fe3d629cc};
    struct form form;

    c->ok = form_parse(type, buf_slice(&c->body), &c->arena, &form, &c->why) &&
            submission_from_form(&form, &context, &c->arena, &c->s, &c->why);
}

static void submit(struct call *c)
{
    buf_add_str(&c->body, "--B--\r\n");
    submit_body(c, SLICE("multipart/form-data; boundary=B"));
}

static void call_fini(struct call *c)
{
    buf_fini(&c->body);
    arena_fini(&c->arena);
    *c = (struct call){0};
}

/* "name=value\1name=value" */
static void add_all(struct call *c, const char *fields)
{
    struct slice rest = slice_str(fields), pair, name, value;
    char key[300];

    while (rest.len > 0) {
        (void)slice_cut(rest, 1, &pair, &rest);
        (void)slice_cut(pair, '=', &name, &value);
        (void)snprintf(key, sizeof key, "%.*s", SLICE_ARGS(name));
        add(c, key, value);
    }
}

/* A POST of these fields. */
static void post(struct call *c, const char *fields)
{
    add_all(c, fields);
    submit(c);
}

static void is(struct slice got, const char *want)
{
    if (!slice_eq(got, slice_str(want)))
        fail_msg("got '%.*s', want '%s'", SLICE_ARGS(got), want);
}

#define GOOD "from=x@y.z\1to=a@b.c\1text=t\1"

static void refused(const char *fields, const char *want)
{
    struct call c = {0};

    post(&c, fields);
    assert_false(c.ok);
    assert_int_equal(c.why.status, 400);
    is(c.why.message, want);
    call_fini(&c);
}

static void accepted(struct call *c, const char *fields)
{
    post(c, fields);
    if (!c->ok)
        fail_msg("refused: %.*s", SLICE_ARGS(c->why.message));
}

static struct slice header(const struct submission *s, const char *name)
{
    for (size_t i = 0; i < s->content.header_count; i++)
        if (slice_eq(s->content.headers[i].name, slice_str(name)))
            return s->content.headers[i].value;
    return (struct slice){0};
}

static struct slice variable(const struct recipient *r, const char *name)
{
    for (size_t i = 0; i < r->var_count; i++)
        if (slice_eq(r->vars[i].name, slice_str(name)))
            return r->vars[i].value;
    return SLICE("(absent)");
}

/* -------- what Ghost sends -------- */

/* A recorded request: comment lines, head, body, whose lines end in LF. Where the samples are cut
 * the content is shorter; nothing else differs. */
static void post_sample(struct call *c, const char *name)
{
    char path[200], line[65536];
    struct slice type = {0};
    char kept[300] = "";
    bool body = false, head = false;

    (void)snprintf(path, sizeof path, "tests/data/ghost/%s.http", name);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f) != NULL) {
        struct slice text = slice_trim(slice_str(line));
        if (body) {
            struct slice whole = slice_str(line);
            bool ended = whole.len > 0 && whole.ptr[whole.len - 1] == '\n';
            buf_add_slice(&c->body, slice_head(whole, whole.len - ended));
            if (ended)
                buf_add_str(&c->body, "\r\n");
        } else if (slice_starts(text, SLICE("POST "))) {
            head = true;
        } else if (slice_starts(text, SLICE("Content-Type: "))) {
            (void)snprintf(kept, sizeof kept, "%.*s", SLICE_ARGS(slice_from(text, 14)));
            type = slice_str(kept);
        } else if (head && text.len == 0) {
            body = true;
        }
    }
    (void)fclose(f);
    submit_body(c, type);
    if (!c->ok)
        fail_msg("%s: %.*s", name, SLICE_ARGS(c->why.message));
}

#define SENDER "\"E2E \\\"Gazette\\\" & Söhne\" <newsletter@mg.example.com>"

static void check_newsletter(const struct submission *s)
{
    is(s->head.from, SENDER);
    is(s->content.from, SENDER);
    is(header(s, "Reply-To"), SENDER);
    is(header(s, "Sender"), SENDER);
    is(header(s, "Auto-Submitted"), "auto-generated");
    is(header(s, "X-Auto-Response-Suppress"), "OOF, AutoReply");
    is(header(s, "List-Unsubscribe"), "<%recipient.list_unsubscribe%>, <%tag_unsubscribe_email%>");
    is(header(s, "List-Unsubscribe-Post"), "List-Unsubscribe=One-Click");
    assert_int_equal(s->content.header_count, 6);
    is(s->head.tags[0], "ghost-email");
    is(s->head.tags[1], "bulk-email");
    is(s->head.to, "");
    assert_true(s->head.batch_mode && s->content.batch_mode);
    assert_int_equal(s->head.lane, 1);
    assert_int_equal(s->head.recipient_count, s->recipient_count);
    assert_int_equal(s->head.size_bytes, s->content.text.len + s->content.html.len);
    assert_int_equal(s->content.clicks, TRACKING_UNSET);
    assert_int_equal(s->head.accepted_wall_us, NOW_US);
    assert_false(s->content.suppress_variables_header);
}

static void a_newsletter_of_ghost_is_understood(void **unused)
{
    struct call c = {0};

    (void)unused;
    post_sample(&c, "newsletter-3-recipients");
    check_newsletter(&c.s);
    is(c.s.head.subject, "Hello <World> & friends");
    is(c.s.head.email_id, "6b041b59ddb6680c07e77357");
    assert_int_equal(c.s.head.var_count, 1);
    is(c.s.head.vars[0].name, "email-id");
    assert_int_equal(c.s.head.tag_count, 2);
    assert_int_equal(c.s.content.opens, TRACKING_ON);
    assert_false(c.s.head.testmode);
    assert_int_equal(c.s.head.due_wall_ms, 0);
    is(c.s.answer_id, "<20261123110000.e655506fe3d629cc@MG.example.com>");
    is(c.s.head.message_id, "20261123110000.e655506fe3d629cc@MG.example.com");
    assert_int_equal(c.s.recipient_count, 3);
    is(c.s.recipients[0].address, "reader00002@readers.example.net");
    is(c.s.recipients[2].address, "bounce1@readers.example.net");
    assert_int_equal(c.s.recipients[0].var_count, 9);
    is(variable(&c.s.recipients[0], "name_3"), "Zoë Ångström-Łukasz 2");
    is(variable(&c.s.recipients[1], "first_name_2"), "\"Quote\"");
    is(variable(&c.s.recipients[1], "first_name_2_html"), "&quot;Quote&quot;");
    is(variable(&c.s.recipients[2], "name_3"), "Bounce O\"Connor");
    assert_true(slice_starts(c.s.content.html, SLICE("<!doctype html>")));
    assert_true(slice_find(c.s.content.text, SLICE("%recipient.first_name_2%")) != SIZE_MAX);
    call_fini(&c);
}

static void its_variants_differ_where_ghost_means_it(void **unused)
{
    struct call c = {0};

    (void)unused;
    post_sample(&c, "newsletter-open-tracking-off");
    check_newsletter(&c.s);
    assert_int_equal(c.s.content.opens, TRACKING_UNSET);
    call_fini(&c);

    post_sample(&c, "newsletter-tag-and-testmode");
    check_newsletter(&c.s);
    assert_int_equal(c.s.head.tag_count, 3);
    is(c.s.head.tags[2], "blog-4711");
    assert_true(c.s.head.testmode);
    call_fini(&c);

    post_sample(&c, "newsletter-delivery-window-batch3");
    check_newsletter(&c.s);
    assert_true(c.s.head.due_wall_ms > NOW_US / 1000);
    assert_int_equal(c.s.head.due_wall_ms % 1000, 0);
    call_fini(&c);
    post_sample(&c, "newsletter-delivery-window-batch1");
    check_newsletter(&c.s);
    call_fini(&c);

    post_sample(&c, "newsletter-per-recipient-message-id");
    check_newsletter(&c.s);
    is(c.s.answer_id, "<%recipient.message_id%>");
    is(c.s.head.message_id, "%recipient.message_id%");
    assert_true(c.s.head.message_id_per_recipient);
    assert_true(
        slice_ends_nocase(variable(&c.s.recipients[0], "message_id"), SLICE("@mg.example.com")));
    call_fini(&c);
}

static void tests_automations_and_transactional_mail_are_understood(void **unused)
{
    struct call c = {0};

    (void)unused;
    post_sample(&c, "test-email");
    check_newsletter(&c.s);
    is(c.s.head.email_id, "");
    is(c.s.head.subject, "[TEST] Draft for a test send");
    assert_int_equal(c.s.head.var_count, 0);
    call_fini(&c);
    post_sample(&c, "test-email-per-recipient-message-id");
    assert_true(c.s.head.message_id_per_recipient);
    call_fini(&c);

    post_sample(&c, "automation-email");
    assert_true(c.s.head.batch_mode);
    is(c.s.head.tags[1], "automation-email");
    is(c.s.head.email_id, "");
    call_fini(&c);

    post_sample(&c, "transactional-magic-link");
    assert_false(c.s.head.batch_mode);
    assert_int_equal(c.s.head.lane, 0);
    is(c.s.head.to, "reader00001@readers.example.net");
    is(c.s.head.subject, "🔑 Secure sign in link for E2E \"Gazette\" & Söhne");
    is(header(&c.s, "Sender"), "\"Ghost E2E\" <newsletter@mg.example.com>");
    call_fini(&c);
    post_sample(&c, "transactional-owner-welcome");
    call_fini(&c);
    post_sample(&c, "transactional-welcome-email");
    is(c.s.head.tags[1], "transactional-email");
    call_fini(&c);
}

/* -------- refusals -------- */

static void each_refusal_has_mailguns_words(void **unused)
{
    (void)unused;
    refused("to=a@b.c\1text=t", "from parameter is missing");
    refused("from=\1to=a@b.c\1text=t", "from parameter is missing");
    refused("from=x@y.z\1text=t", "to parameter is missing");
    refused("from=nobody\1to=a@b.c\1text=t",
            "from parameter is not a valid address. please check documentation");
    refused("from=x@y.z\r\nBcc: v@w.x\1to=a@b.c\1text=t",
            "from parameter is not a valid address. please check documentation");
    refused("from=%recipient.a%\1to=a@b.c\1text=t",
            "from parameter is not a valid address. please check documentation");
    refused("from=x@y.z\1to=a@b.c\1to=bad\1text=t",
            "to parameter is not a valid address. please check documentation");
    refused("from=x@y.z\1to=,\1text=t",
            "to parameter is not a valid address. please check documentation");
    refused(GOOD "cc=Friends: a@b.c;",
            "cc parameter is not a valid address. please check documentation");
    refused(GOOD "bcc=a@", "bcc parameter is not a valid address. please check documentation");
    refused("from=x@y.z\1to=a@b.c\1text=",
            "Need at least one of 'text', 'html', 'amp-html' or 'template' parameters specified");
    refused("from=x@y.z\1to=a@b.c\1html=h\1template=t",
            "Only one parameters 'html' or 'template' is allowed");
    refused("from=x@y.z\1to=a@b.c\1template=t", "template 't' or its version is not there");
    refused("from=x@y.z\1template=t", "to parameter is missing");
    refused("to=a@\1template=t", "to parameter is not a valid address. please check documentation");
    refused(GOOD "subject=a\nb", "subject parameter holds a line break");
    refused(GOOD "recipient-variables={\"a@b.c\":[]}",
            "'recipient-variables' parameter is not a valid JSON");
    refused(GOOD "recipient-variables=[]", "'recipient-variables' parameter is not a valid JSON");
    refused(GOOD "recipient-variables={\"stranger@b.c\":1}",
            "'recipient-variables' parameter is not a valid JSON");
    refused(GOOD "h:Söhne=1", "Header name must be pure ASCII: Söhne");
    refused(GOOD "h:X-A=1\r\nBcc: v@w.x", "'h:X-A' parameter holds a line break");
    refused(GOOD "o:deliverytime=tomorrow", "tomorrow is not an RFC-2822 compliant date");
    refused(GOOD "o:time-zone-localize=25:00",
            "25:00 invalid 24 hour time(value of 'o:time-zone-localize')");
}

/* Every mistake of the list at once; taken away one after another, the next one shows. */
static void refusals_come_in_mailguns_order(void **unused)
{
    static const char *const mistakes[] = {
        /* field with the mistake, field without, start of the message */
        "",
        "from=x@y.z\1",
        "from parameter is missing",
        "",
        "to=a@b.c\1",
        "to parameter is missing",
        "cc=bad\1",
        "",
        "cc parameter is not",
        "",
        "text=t\1",
        "Need at least one",
        "recipient-variables=x\1",
        "",
        "'recipient-variables'",
        "h:S\xc3\xb6=1\1",
        "",
        "Header name must",
        "o:deliverytime=x\1",
        "",
        "x is not an RFC-2822",
    };
    enum { COUNT = sizeof mistakes / sizeof mistakes[0] / 3 };

    (void)unused;
    for (size_t good = 0; good <= COUNT; good++) {
        struct call c = {0};
        struct buf fields = {0};
        for (size_t i = COUNT; i > 0; i--)
            buf_add_str(&fields, mistakes[(i - 1) * 3 + (i <= good)]);
        post(&c, buf_cstr(&fields));
        assert_int_equal(c.ok, good == COUNT);
        if (!c.ok && !slice_starts(c.why.message, slice_str(mistakes[good * 3 + 2])))
            fail_msg("%zu: %.*s", good, SLICE_ARGS(c.why.message));
        buf_fini(&fields);
        call_fini(&c);
    }
}

static void options_are_limited_to_16_kb(void **unused)
{
    (void)unused;
    for (size_t more = 0; more < 2; more++) {
        struct call c = {0};
        struct buf value = {0};
        while (value.len + strlen("h:X-A"
                                  "o:x"
                                  "1") <
               16384 + more)
            buf_add_byte(&value, 'x');
        add(&c, "h:X-A", buf_slice(&value));
        add(&c, "o:x", SLICE("1"));
        add(&c, "x:y", buf_slice(&value)); /* no option */
        post(&c, GOOD);
        assert_int_equal(c.ok, more == 0);
        if (!c.ok)
            is(c.why.message, "Send options (parameters starting with o:, h:, v:, or t:) are "
                              "limited to 16 kB total");
        buf_fini(&value);
        call_fini(&c);
    }
}

static void a_thousand_recipients_are_the_limit(void **unused)
{
    (void)unused;
    for (size_t count = 1000; count <= 1001; count++) {
        struct call c = {0};
        struct buf list = {0};
        add(&c, "from", SLICE("x@y.z"));
        add(&c, "text", SLICE("t"));
        for (size_t i = 0; i < count; i++)
            buf_printf(&list, "%sr%zu@b.c", i == 0 ? "" : ", ", i);
        add(&c, "to", buf_slice(&list));
        add(&c, "cc", SLICE("R0@B.C")); /* a duplicate costs no place */
        submit(&c);
        assert_int_equal(c.ok, count == 1000);
        if (c.ok) {
            assert_int_equal(c.s.recipient_count, 1000);
            is(c.s.recipients[999].address, "r999@b.c");
        } else {
            is(c.why.message, "Too many recipients, max is 1000");
        }
        buf_fini(&list);
        call_fini(&c);
    }
}

/* -------- meanings -------- */

static void lists_and_repeats_of_addresses_add_up(void **unused)
{
    struct call c = {0};

    (void)unused;
    accepted(&c, "to[]=Bob <B@x.io>, c@x.io\1to[1]=\"D, E\" <d@x.io>\1to=b@X.IO\1from=x@y.z\1"
                 "from=v@w.x\1bcc=f@x.io\1cc=e@x.io,C@x.io\1html=h");
    assert_int_equal(c.s.recipient_count, 5);
    is(c.s.recipients[0].address, "B@x.io");
    is(c.s.recipients[0].name, "Bob");
    is(c.s.recipients[2].name, "D, E");
    assert_int_equal(c.s.recipients[2].kind, RECIPIENT_TO);
    is(c.s.recipients[3].address, "e@x.io");
    assert_int_equal(c.s.recipients[3].kind, RECIPIENT_CC);
    is(c.s.recipients[4].address, "f@x.io");
    assert_int_equal(c.s.recipients[4].kind, RECIPIENT_BCC);
    is(c.s.head.to, "Bob <B@x.io>, c@x.io, \"D, E\" <d@x.io>, b@X.IO");
    is(c.s.head.from, "x@y.z, v@w.x");
    call_fini(&c);
}

static void variables_find_their_recipient(void **unused)
{
    struct call c = {0};

    (void)unused;
    accepted(&c, "to=Ann@x.io,bob@x.io,eve@x.io\1from=x@y.z\1text=t\1recipient-variables="
                 "{\"ANN@x.io\":{\"n\":1},\"Ann@x.io\":{\"n\":2},\"ann@X.io\":{\"n\":3},"
                 "\"bob@x.io\":{\"n\":4},\"bob@x.io\":{\"n\":5,\"t\":\"a\\r\\nb\"},"
                 "\"x@y.z\":{\"n\":6}}");
    is(variable(&c.s.recipients[0], "n"), "2"); /* its very spelling */
    is(variable(&c.s.recipients[1], "n"), "5"); /* the last one */
    is(variable(&c.s.recipients[1], "t"), "a\r\nb");
    assert_int_equal(c.s.recipients[2].var_count, 0);
    call_fini(&c);
}

static void the_presence_of_recipient_variables_makes_a_batch(void **unused)
{
    struct call c = {0};

    (void)unused;
    accepted(&c, GOOD "recipient-variables={}");
    assert_true(c.s.head.batch_mode);
    assert_int_equal(c.s.head.lane, 1);
    call_fini(&c);
    accepted(&c, GOOD "recipient-variables=");
    assert_true(c.s.head.batch_mode);
    call_fini(&c);
    accepted(&c, "to=a@b.c\1text=t\1from=%recipient.from%\1recipient-variables={}");
    is(c.s.content.from, "%recipient.from%");
    call_fini(&c);
}

static void the_last_of_several_values_wins_and_empty_is_absent(void **unused)
{
    struct call c = {0};

    (void)unused;
    accepted(&c, GOOD "text=u\1text=\1subject=\1v:a=1\1v:a=2\1v:b=\1v:email-id=\1h:X-A=1\1h:X-A=2\1"
                      "h:X-B=");
    is(c.s.content.text, "u");
    is(c.s.head.subject, "");
    assert_int_equal(c.s.head.var_count, 1);
    is(c.s.head.vars[0].value, "2");
    is(c.s.head.email_id, "");
    assert_int_equal(c.s.content.header_count, 2); /* repeated = repeated header */
    call_fini(&c);
    accepted(&c, GOOD "o:tracking=yes\1o:tracking=no\1o:testmode=yes\1o:testmode=");
    assert_int_equal(c.s.content.opens, TRACKING_OFF);
    assert_true(c.s.head.testmode);
    call_fini(&c);
}

static void headers_can_carry_options_and_variables(void **unused)
{
    struct call c = {0};

    (void)unused;
    accepted(&c, GOOD "H:X-Mailgun-Variables={\"a\": {\"b\": 1}, \"n\":7}\1v:n=8\1O:tag=one\1"
                      "h:x-mailgun-tag=two\1h:X-Mailgun-Drop-Message=yes\1"
                      "h:X-Mailgun-Track-Opens=yes\1h:X-Mine=1");
    assert_int_equal(c.s.head.var_count, 2);
    is(c.s.head.vars[0].value, "{\"b\":1}");
    is(c.s.head.vars[1].value, "8");
    assert_int_equal(c.s.head.tag_count, 2);
    is(c.s.head.tags[1], "two");
    assert_true(c.s.head.testmode);
    assert_int_equal(c.s.content.opens, TRACKING_ON);
    assert_int_equal(c.s.content.header_count, 1);
    call_fini(&c);
}

static void tags_are_cleaned_and_counted(void **unused)
{
    struct call c = {0};
    char longest[129] = {0};

    (void)unused;
    memset(longest, 'x', 128);
    accepted(&c, GOOD "o:tag= Söhne \1o:tag=é\1o:tag=SHNE\1o:tag=a\1o:tag=b\1o:tag=c\1o:tag=d\1"
                      "o:tag=e\1o:tag=f\1o:tag=g\1o:tag=h\1o:tag=i\1o:tag=eleventh");
    assert_int_equal(c.s.head.tag_count, MESSAGE_TAGS_MAX);
    is(c.s.head.tags[0], "Shne");
    is(c.s.head.tags[9], "i");
    call_fini(&c);
    add(&c, "o:tag",
        SLICE("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
              "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxyyyy"));
    accepted(&c, GOOD);
    is(c.s.head.tags[0], longest);
    call_fini(&c);
}

static void tracking_switches_override_one_another(void **unused)
{
    static const struct {
        const char *fields;
        enum tracking opens, clicks;
    } cases[] = {
        {"", TRACKING_UNSET, TRACKING_UNSET},
        {"o:tracking=no\1o:tracking-clicks=no\1o:tracking-opens=no", TRACKING_OFF, TRACKING_OFF},
        {"o:tracking=True", TRACKING_ON, TRACKING_ON},
        {"o:tracking=no\1o:tracking-opens=yes", TRACKING_ON, TRACKING_OFF},
        {"o:tracking=1\1o:tracking-clicks=htmlonly\1o:tracking-opens=0", TRACKING_OFF, TRACKING_ON},
        {"o:tracking=maybe", TRACKING_UNSET, TRACKING_UNSET},
        {"o:tracking-opens=maybe\1o:tracking=yes", TRACKING_ON, TRACKING_ON},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct call c = {0};
        char fields[200];
        (void)snprintf(fields, sizeof fields, GOOD "%s", cases[i].fields);
        accepted(&c, fields);
        assert_int_equal(c.s.content.opens, cases[i].opens);
        assert_int_equal(c.s.content.clicks, cases[i].clicks);
        call_fini(&c);
    }
}

static void delivery_times_are_kept_up_to_seven_days(void **unused)
{
    struct call c = {0};

    (void)unused;
    accepted(&c, GOOD "o:deliverytime=Mon, 23 Nov 2026 11:06:40 GMT");
    assert_int_equal(c.s.head.due_wall_ms, NOW_US / 1000 + 400000);
    call_fini(&c);
    accepted(&c, GOOD "o:deliverytime=1795432000");
    assert_int_equal(c.s.head.due_wall_ms, NOW_US / 1000 + 400000);
    call_fini(&c);
    accepted(&c, GOOD "o:deliverytime=Mon, 23 Nov 2026 10:59:59 GMT");
    assert_int_equal(c.s.head.due_wall_ms, 0);
    call_fini(&c);
    accepted(&c, GOOD "o:deliverytime=Mon, 30 Nov 2026 11:00:00 +0000");
    assert_int_equal(c.s.head.due_wall_ms, NOW_US / 1000 + UINT64_C(7) * 86400000);
    call_fini(&c);
    refused(GOOD "o:deliverytime=Mon, 30 Nov 2026 11:00:01 +0000",
            "invalid delivery time: 'o:deliverytime' is more than 7 days ahead");
}

static void a_message_id_is_answered_verbatim(void **unused)
{
    struct call c = {0};

    (void)unused;
    accepted(&c, GOOD "h:message-id= <own@id> ");
    is(c.s.answer_id, " <own@id> ");
    is(c.s.head.message_id, "own@id");
    assert_int_equal(c.s.content.header_count, 0);
    call_fini(&c);
    accepted(&c, GOOD "h:Message-Id=<%recipient.id%>"); /* no batch: no variables */
    assert_false(c.s.head.message_id_per_recipient);
    call_fini(&c);
}

static void headers_of_ours_can_be_suppressed(void **unused)
{
    struct call c = {0};

    (void)unused;
    accepted(&c, GOOD "o:suppress-headers=X-Mailgun-Sid, x-mailgun-variables");
    assert_true(c.s.content.suppress_variables_header);
    call_fini(&c);
    accepted(&c, GOOD "o:suppress-headers=ALL");
    assert_true(c.s.content.suppress_variables_header);
    call_fini(&c);
    accepted(&c, GOOD "o:suppress-headers=X-Mailgun-Sid");
    assert_false(c.s.content.suppress_variables_header);
    call_fini(&c);
}

static void files_become_attachments(void **unused)
{
    struct call c = {0};
    static const char files[] =
        "--B\r\nContent-Disposition: form-data; name=\"attachment\"; filename=\"dir/Söhne.PDF\"\r\n"
        "\r\n\xff\x01\r\n"
        "--B\r\nContent-Disposition: form-data; name=\"inline\"; filename=\"i.png\"\r\n"
        "Content-Type: image/x-mine\r\n\r\nx\r\n"
        "--B\r\nContent-Disposition: form-data; name=\"attachment\"\r\n\r\nnameless\r\n"
        "--B\r\nContent-Disposition: form-data; name=\"attachment\"; "
        "filename*=UTF-8''a%0D%0Ab\r\n\r\nx\r\n"
        "--B\r\nContent-Disposition: form-data; name=\"html\"; filename=\"h\"\r\n\r\nno field\r\n";

    (void)unused;
    buf_add_str(&c.body, files);
    accepted(&c, GOOD);
    assert_int_equal(c.s.content.attachment_count, 4);
    const struct attachment *a = c.s.content.attachments;
    is(a[0].filename, "Söhne.PDF");
    is(a[0].content_type, "application/pdf");
    is(a[0].content_id, "");
    is(a[0].data, "\xff\x01");
    is(a[1].content_id, "i.png");
    is(a[1].content_type, "image/x-mine");
    is(a[2].filename, "attachment");
    is(a[2].content_type, "application/octet-stream");
    is(a[3].filename, "a__b");
    is(c.s.content.html, "");
    call_fini(&c);
}

static void urlencoded_calls_mean_the_same(void **unused)
{
    struct call c = {0};

    (void)unused;
    buf_add_str(&c.body, "from=Bob+%3Cx%40y.z%3E&to=a%2Bb%40c.d&text=&html=%3Cb%3E&o%3Atag=t");
    submit_body(&c, SLICE("application/x-www-form-urlencoded"));
    assert_true(c.ok);
    is(c.s.head.from, "Bob <x@y.z>");
    is(c.s.recipients[0].address, "a+b@c.d");
    is(c.s.content.html, "<b>");
    is(c.s.head.tags[0], "t");
    call_fini(&c);
}

/* -------- claims -------- */

static void claims(const char *fields, struct buf *to)
{
    struct call c = {0};

    accepted(&c, fields);
    buf_reset(to);
    submission_claims(&c.s, to);
    call_fini(&c);
}

static void a_claim_is_made_of_email_id_address_and_testmode(void **unused)
{
    struct buf first = {0}, second = {0};

    (void)unused;
    claims(GOOD "to=B@c.D\1v:email-id=1\1", &first);
    assert_int_equal(first.len, 32);
    claims(GOOD "to=B@C.d\1v:email-id=1\1subject=other\1o:tag=x", &second);
    assert_true(slice_eq(buf_slice(&first), buf_slice(&second)));
    claims(GOOD "to=b@c.d\1v:email-id=1", &second); /* the local part is exact */
    assert_memory_equal(first.ptr, second.ptr, 16);
    assert_memory_not_equal(first.ptr + 16, second.ptr + 16, 16);
    claims(GOOD "v:email-id=2", &second);
    assert_memory_not_equal(first.ptr, second.ptr, 16);
    claims(GOOD "v:email-id=1\1o:testmode=yes", &second);
    assert_memory_not_equal(first.ptr, second.ptr, 16);
    claims(GOOD, &second);
    assert_int_equal(second.len, 0);
    buf_fini(&first);
    buf_fini(&second);
}

/* However the list is cut into fields, the recipients are the same. */
static void a_list_may_be_split_anywhere(void **unused)
{
    (void)unused;
    srand(5);
    for (size_t round = 0; round < 200; round++) {
        struct call c = {0};
        struct buf part = {0};
        size_t count = 1 + (size_t)rand() % 60;
        add(&c, "from", SLICE("x@y.z"));
        add(&c, "text", SLICE("t"));
        for (size_t i = 0; i < count; i++) {
            buf_printf(&part, "%s\"N, %zu\" <r%zu@b.c>", part.len > 0 ? "," : "", i, i);
            if (rand() % 3 == 0 || i + 1 == count) {
                add(&c, rand() % 2 ? "to" : "to[]", buf_slice(&part));
                buf_reset(&part);
            }
        }
        submit(&c);
        assert_true(c.ok);
        assert_int_equal(c.s.recipient_count, count);
        for (size_t i = 0; i < count; i++) {
            is(c.s.recipients[i].address,
               arena_cstr(&c.arena, arena_printf(&c.arena, "r%zu@b.c", i)));
            is(c.s.recipients[i].name, arena_cstr(&c.arena, arena_printf(&c.arena, "N, %zu", i)));
        }
        buf_fini(&part);
        call_fini(&c);
    }
}

/* -------- a whole message -------- */

static void post_mime(struct call *c, const char *fields, const char *message)
{
    struct submission_context context = {.domain = SLICE("mg.example.com"),
                                         .path_domain = SLICE("mg.example.com"),
                                         .now_us = NOW_US,
                                         .random = 0xe655506fe3d629cc};
    struct form form;

    add_all(c, fields);
    if (message != NULL)
        add(c, "message\"; filename=\"m", slice_str(message));
    buf_add_str(&c->body, "--B--\r\n");
    c->ok = form_parse(SLICE("multipart/form-data; boundary=B"), buf_slice(&c->body), &c->arena,
                       &form, &c->why) &&
            submission_from_mime(&form, &context, &c->arena, &c->s, &c->why);
}

static void mime_refused(const char *fields, const char *message, const char *want)
{
    struct call c = {0};

    post_mime(&c, fields, message);
    assert_false(c.ok);
    assert_int_equal(c.why.status, 400);
    is(c.why.message, want);
    call_fini(&c);
}

#define LETTER "From: News <n@mg.example.com>\nTo: a@b.c\nSubject: s\n"

static void a_whole_message_tells_what_a_form_would(void **unused)
{
    struct call c = {0};

    (void)unused;
    post_mime(&c, "to=Ann <a@b.c>, d@e.f\1cc=g@h.i\1v:email-id=own\1o:tag=form\1",
              "From: =?utf-8?q?S=C3=B8hne=2C_Ltd?= <n@mg.example.com>\nTo: \"A, B\"\n <a@b.c>\n"
              "Bcc: x@y\nSubject: =?utf-8?q?=C3=A4?=\nMessage-ID: <own@x>\n"
              "X-Mailgun-Tag: one\nX-Mailgun-Tag: FORM\nX-Mailgun-Track-Opens: yes\n"
              "X-Mailgun-Drop-Message: yes\nX-Mailgun-Deliver-By: Mon, 23 Nov 2026 12:00:00 GMT\n"
              "X-Mailgun-Variables: {\"k\":\n \"v\",\"email-id\":\"header\"}\n\nx");
    if (!c.ok)
        fail_msg("refused: %.*s", SLICE_ARGS(c.why.message));
    is(c.s.head.from, "\"Søhne, Ltd\" <n@mg.example.com>");
    is(c.s.content.from, "\"Søhne, Ltd\" <n@mg.example.com>");
    is(c.s.head.to, "\"A, B\" <a@b.c>");
    is(c.s.head.subject, "ä");
    is(c.s.answer_id, "<own@x>");
    is(c.s.head.message_id, "own@x");
    is(c.s.head.email_id, "own");
    assert_int_equal(c.s.head.tag_count, 2);
    is(c.s.head.tags[0], "form");
    is(c.s.head.tags[1], "one");
    assert_int_equal(c.s.content.var_count, 2);
    assert_int_equal(c.s.content.opens, TRACKING_ON);
    assert_true(c.s.head.testmode && !c.s.head.batch_mode);
    assert_int_equal(c.s.head.due_wall_ms, UINT64_C(1795435200000));
    assert_int_equal(c.s.recipient_count, 2);
    is(c.s.content.mime,
       "From: =?utf-8?q?S=C3=B8hne=2C_Ltd?= <n@mg.example.com>\r\nTo: \"A, B\"\r\n <a@b.c>\r\n"
       "Subject: =?utf-8?q?=C3=A4?=\r\nMessage-ID: <own@x>\r\nMIME-Version: 1.0\r\n\r\nx");
    assert_int_equal(c.s.head.size_bytes, c.s.content.mime.len);
    assert_int_equal(c.s.content.header_count + c.s.content.subject.len + c.s.content.text.len, 0);
    call_fini(&c);
}

static void the_form_overrules_the_message(void **unused)
{
    struct call c = {0};

    (void)unused;
    post_mime(&c,
              "to=a@b.c\1h:Subject=new\1h:X-A=1\1h:Bcc=x@y\1h:Content-Type=x/y\1h:From=Ä "
              "<o@mg.example.com>\1"
              "o:tracking=no\1o:testmode=no\1h:Message-Id=<form@x>\1",
              LETTER "Message-Id: <own@x>\nX-Mailgun-Track: yes\nX-Mailgun-Drop-Message: yes\n\nx");
    assert_true(c.ok);
    is(c.s.head.subject, "new");
    is(c.s.head.from, "\"Ä\" <o@mg.example.com>");
    is(c.s.answer_id, "<form@x>");
    assert_int_equal(c.s.content.opens, TRACKING_OFF);
    assert_false(c.s.head.testmode);
    is(c.s.content.mime, "To: a@b.c\r\nMessage-Id: <form@x>\r\nSubject: new\r\nX-A: 1\r\n"
                         "From: =?utf-8?B?w4Q=?= <o@mg.example.com>\r\n"
                         "MIME-Version: 1.0\r\n\r\nx");
    call_fini(&c);
}

static void a_message_can_make_a_batch_too(void **unused)
{
    struct call c = {0};

    (void)unused;
    post_mime(&c, "to=a@b.c, d@e.f\1",
              "From: %recipient.k% <n@mg.example.com>\nMessage-Id: <%recipient.k%@x>\n"
              "X-Mailgun-Recipient-Variables: {\"a@b.c\": {\"k\": \"v\"}}\n\nx");
    assert_true(c.ok);
    assert_true(c.s.head.batch_mode && c.s.content.batch_mode);
    assert_int_equal(c.s.head.lane, 1);
    is(variable(&c.s.recipients[0], "k"), "v");
    is(c.s.head.from, "%recipient.k% <n@mg.example.com>");
    assert_true(c.s.head.message_id_per_recipient);
    is(c.s.head.message_id, "%recipient.k%@x");
    assert_int_equal(c.s.head.to.len, 0);
    call_fini(&c);
}

static void an_id_is_made_where_there_is_none(void **unused)
{
    struct call c = {0};

    (void)unused;
    post_mime(&c, "to=a@b.c\1from=n@mg.example.com\1", "To: a@b.c\n\nx");
    assert_true(c.ok);
    is(c.s.answer_id, "<20261123110000.e655506fe3d629cc@mg.example.com>");
    is(c.s.content.mime,
       "To: a@b.c\r\nMessage-Id: <20261123110000.e655506fe3d629cc@mg.example.com>\r\n"
       "From: n@mg.example.com\r\nMIME-Version: 1.0\r\n\r\nx");
    call_fini(&c);
}

static void each_refusal_of_a_message_says_why(void **unused)
{
    (void)unused;
    mime_refused("", LETTER "\nx", "to parameter is missing");
    mime_refused("to=a@b.c\1", NULL, "message parameter is missing");
    mime_refused("to=a@b.c\1", "\r\n \r\n", "message parameter is missing");
    mime_refused("to=a\1", LETTER "\nx",
                 "to parameter is not a valid address. please check documentation");
    mime_refused("to=,\1", LETTER "\nx",
                 "to parameter is not a valid address. please check documentation");
    mime_refused("to=a@b.c\1", "hello\nworld",
                 "message parameter is not a MIME message: it has no header");
    mime_refused("to=a@b.c\1", "Subject: s\n\nx",
                 "message parameter is not a MIME message: it has no From header");
    mime_refused("to=a@b.c\1", "From: a\n\nx",
                 "message parameter has a From header that is not a valid address. please check "
                 "documentation");
    mime_refused("to=a@b.c\1", "From: a@b, c: d@e;\n\nx",
                 "message parameter has a From header that is not a valid address. please check "
                 "documentation");
    mime_refused("to=a@b.c\1from=a@b\r\nBcc: x@y\1", "To: a@b\n\nx",
                 "from parameter is not a valid address. please check documentation");
    mime_refused("to=a@b.c\1recipient-variables=[]\1", LETTER "\nx",
                 "'recipient-variables' parameter is not a valid JSON");
    mime_refused("to=a@b.c\1template=t\1", LETTER "\nx",
                 "template parameter is not supported: send message without it");
    mime_refused("to=a@b.c\1", LETTER "X-Mailgun-Deliver-By: soon\n\nx",
                 "soon is not an RFC-2822 compliant date");
    mime_refused("to=a@b.c\1", LETTER "Content-Transfer-Encoding: odd\n\n\xff",
                 "message parameter cannot be sent: it has a part with an unknown "
                 "Content-Transfer-Encoding that is not made of lines of ASCII");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_newsletter_of_ghost_is_understood),
        cmocka_unit_test(its_variants_differ_where_ghost_means_it),
        cmocka_unit_test(tests_automations_and_transactional_mail_are_understood),
        cmocka_unit_test(each_refusal_has_mailguns_words),
        cmocka_unit_test(refusals_come_in_mailguns_order),
        cmocka_unit_test(options_are_limited_to_16_kb),
        cmocka_unit_test(a_thousand_recipients_are_the_limit),
        cmocka_unit_test(lists_and_repeats_of_addresses_add_up),
        cmocka_unit_test(variables_find_their_recipient),
        cmocka_unit_test(the_presence_of_recipient_variables_makes_a_batch),
        cmocka_unit_test(the_last_of_several_values_wins_and_empty_is_absent),
        cmocka_unit_test(headers_can_carry_options_and_variables),
        cmocka_unit_test(tags_are_cleaned_and_counted),
        cmocka_unit_test(tracking_switches_override_one_another),
        cmocka_unit_test(delivery_times_are_kept_up_to_seven_days),
        cmocka_unit_test(a_message_id_is_answered_verbatim),
        cmocka_unit_test(headers_of_ours_can_be_suppressed),
        cmocka_unit_test(files_become_attachments),
        cmocka_unit_test(urlencoded_calls_mean_the_same),
        cmocka_unit_test(a_claim_is_made_of_email_id_address_and_testmode),
        cmocka_unit_test(a_list_may_be_split_anywhere),
        cmocka_unit_test(a_whole_message_tells_what_a_form_would),
        cmocka_unit_test(the_form_overrules_the_message),
        cmocka_unit_test(a_message_can_make_a_batch_too),
        cmocka_unit_test(an_id_is_made_where_there_is_none),
        cmocka_unit_test(each_refusal_of_a_message_says_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
