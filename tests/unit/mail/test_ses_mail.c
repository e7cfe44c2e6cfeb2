#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/json.h"
#include "mail/ses_address.h"
#include "mail/ses_mail.h"

/* Ghost's newsletter as spec/ghost.md §2 shows it; each test changes what it is about. */
struct newsletter {
    struct arena arena;
    struct message_head head;
    struct message_content content;
    struct name_value headers[20], vars[1], first_vars[5], second_vars[5];
    struct slice tags[2];
    struct recipient readers[2];
    struct render_keys keys;
    struct ses_setup setup;
    struct ses_scratch scratch;
    struct buf body;
    struct ses_batch *batch;
    struct err err;
};

static const char SENDER[] = "\"E2E \\\"Gazette\\\" & Söhne\" <newsletter@mg.example.com>";

static void header(struct newsletter *n, const char *name, const char *value)
{
    n->headers[n->content.header_count++] = (struct name_value){slice_str(name), slice_str(value)};
}

static void reader(struct newsletter *n, size_t i, const char *address, struct name_value *vars,
                   const char *name)
{
    vars[0] = (struct name_value){SLICE("uuid"), SLICE("f7b4")};
    vars[1] = (struct name_value){SLICE("first_name_2"), slice_str(name)};
    vars[2] =
        (struct name_value){SLICE("list_unsubscribe"), SLICE("http://x/unsubscribe/?a=1&b=2,3")};
    vars[3] = (struct name_value){SLICE("message_id"), SLICE("own.1@mg.example.com")};
    n->readers[i] = (struct recipient){.address = slice_str(address), .vars = vars, .var_count = 4};
}

static void setup(struct newsletter *n)
{
    *n = (struct newsletter){0};
    n->tags[0] = SLICE("ghost-email"), n->tags[1] = SLICE("bulk-email");
    n->vars[0] = (struct name_value){SLICE("email-id"), SLICE("6b041b59ddb6680c07e77357")};
    n->head = (struct message_head){.domain = SLICE("mg.example.com"),
                                    .message_id = SLICE("20260301.abc@mg.example.com"),
                                    .email_id = n->vars[0].value,
                                    .tags = n->tags,
                                    .tag_count = 2,
                                    .recipient_count = 2,
                                    .batch_mode = true};
    n->content = (struct message_content){.from = slice_str(SENDER),
                                          .subject = SLICE("Hello <World> & friends"),
                                          .html = SLICE("<p>Hi %recipient.first_name_2%, \"q\"\n"
                                                        "%recipient.name% literal</p>"),
                                          .text = SLICE("Hi %recipient.first_name_2%"),
                                          .headers = n->headers,
                                          .vars = n->vars,
                                          .var_count = 1,
                                          .opens = TRACKING_ON,
                                          .batch_mode = true};
    header(n, "Reply-To", SENDER);
    header(n, "Sender", SENDER);
    header(n, "Auto-Submitted", "auto-generated");
    header(n, "X-Auto-Response-Suppress", "OOF, AutoReply");
    header(n, "List-Unsubscribe", "<%recipient.list_unsubscribe%>, <%tag_unsubscribe_email%>");
    header(n, "List-Unsubscribe-Post", "List-Unsubscribe=One-Click");
    reader(n, 0, "Reader00002@readers.example.net", n->first_vars, "Zoë");
    reader(n, 1, "b@readers.example.net", n->second_vars, "%recipient.uuid% \"<b>\" $& {{x}}\r\n");
    n->setup = (struct ses_setup){
        .batch_id = 0x1234, .configuration_set = SLICE("news"), .override_tracking = true};
}

static enum ses_way compile(struct newsletter *n)
{
    for (size_t i = 0; i < 2; i++)
        for (size_t v = 0; v < n->readers[i].var_count; v++)
            render_keys_add(&n->keys, &n->arena, n->readers[i].vars[v].name);
    n->batch = ses_batch_compile(&n->head, &n->content, &n->keys, &n->setup, &n->arena);
    buf_reset(&n->body);
    return ses_batch_way(n->batch);
}

/* The way the batch goes, and Raw where that does not do. */
static enum ses_fit render(struct newsletter *n, uint64_t mask)
{
    enum ses_way way = compile(n);

    assert_int_not_equal(way, SES_BULK);
    return ses_render_one(n->batch, way, n->readers, 2, mask, 100, &n->scratch, &n->body, &n->err);
}

static cJSON *rendered(struct newsletter *n, uint64_t mask)
{
    if (render(n, mask) != SES_FITS)
        fail_msg("refused: %s", n->err.text);
    cJSON *tree = json_parse(buf_slice(&n->body));
    if (tree == NULL)
        fail_msg("no JSON: %s", buf_cstr(&n->body));
    return tree;
}

static void teardown(struct newsletter *n, cJSON *tree)
{
    json_free(tree);
    arena_fini(&n->arena);
    ses_scratch_fini(&n->scratch);
    buf_fini(&n->body);
}

static const char *text_at(const cJSON *v, const char *path)
{
    char step[64];

    while (*path != '\0') {
        size_t len = strcspn(path, "/");
        snprintf(step, sizeof step, "%.*s", (int)len, path);
        v = cJSON_IsArray(v) ? cJSON_GetArrayItem(v, atoi(step)) : json_get(v, step);
        path += len + (path[len] == '/');
    }
    return cJSON_IsString(v) ? v->valuestring : NULL;
}

static const char *named(const cJSON *list, const char *name)
{
    for (const cJSON *e = json_first(list); e != NULL; e = e->next)
        if (slice_eq(json_get_text(e, "Name"), slice_str(name)))
            return text_at(e, "Value");
    return NULL;
}

static const cJSON *headers_of(const cJSON *tree)
{
    return json_get(json_get(json_get(tree, "Content"), "Simple"), "Headers");
}

static const char ENCODED[] =
    "=?utf-8?B?RTJFICJHYXpldHRlIiAmIFPDtmhuZQ==?= <newsletter@mg.example.com>";

static void a_newsletter_leaves_as_ghost_needs_it(void **state)
{
    struct newsletter n;
    setup(&n);
    cJSON *t = rendered(&n, 1);
    const cJSON *headers = headers_of(t), *tags = json_get(t, "EmailTags");
    struct buf meta = {0};

    (void)state;
    assert_string_equal(text_at(t, "FromEmailAddress"), ENCODED);
    assert_string_equal(text_at(t, "Destination/ToAddresses/0"), "Reader00002@readers.example.net");
    assert_null(text_at(t, "Destination/ToAddresses/1"));
    assert_string_equal(text_at(t, "ReplyToAddresses/0"), ENCODED);
    assert_string_equal(text_at(t, "Content/Simple/Subject/Data"), "Hello <World> & friends");
    assert_string_equal(text_at(t, "Content/Simple/Body/Html/Data"),
                        "<p>Hi Zoë, \"q\"\n%recipient.name% literal</p>");
    assert_string_equal(text_at(t, "Content/Simple/Body/Text/Data"), "Hi Zoë");
    assert_string_equal(named(headers, "Sender"), ENCODED);
    assert_string_equal(named(headers, "Auto-Submitted"), "auto-generated");
    assert_string_equal(named(headers, "X-Auto-Response-Suppress"), "OOF, AutoReply");
    assert_string_equal(named(headers, "List-Unsubscribe"), "<http://x/unsubscribe/?a=1&b=2,3>");
    assert_string_equal(named(headers, "List-Unsubscribe-Post"), "List-Unsubscribe=One-Click");
    assert_string_equal(named(headers, "X-Mailgun-Variables"),
                        "{\"email-id\":\"6b041b59ddb6680c07e77357\"}");
    assert_int_equal(cJSON_GetArraySize(headers), 6);
    assert_string_equal(named(tags, "postern-batch"), "0000000000001234");
    assert_string_equal(named(tags, "postern-rcpt"), "100");
    assert_string_equal(named(tags, "email-id"), "6b041b59ddb6680c07e77357");
    text_from_base64(&meta, slice_str(named(tags, "postern-meta")));
    assert_string_equal(buf_cstr(&meta),
                        "mg.example.com\n20260301.abc@mg.example.com\nghost-email\nbulk-email");
    assert_string_equal(text_at(t, "ConfigurationSetName"), "news");
    assert_string_equal(text_at(t, "ConfigurationOverrides/Tracking/OpenTrackingEnabled"),
                        "ENABLED");
    assert_string_equal(text_at(t, "ConfigurationOverrides/Tracking/ClickTrackingEnabled"),
                        "DISABLED");
    buf_fini(&meta);
    teardown(&n, t);
}

static void odd_values_arrive_verbatim(void **state)
{
    struct newsletter n;
    setup(&n);
    n.content.subject = SLICE("For %recipient.first_name_2%!");
    header(&n, "X-Name", "%recipient.first_name_2% ü");
    cJSON *t = rendered(&n, 2);

    (void)state;
    assert_string_equal(text_at(t, "Content/Simple/Body/Text/Data"),
                        "Hi %recipient.uuid% \"<b>\" $& {{x}}\r\n");
    assert_string_equal(text_at(t, "Content/Simple/Subject/Data"),
                        "For %recipient.uuid% \"<b>\" $& {{x}}  !");
    assert_string_equal(named(headers_of(t), "X-Name"),
                        "=?utf-8?B?JXJlY2lwaWVudC51dWlkJSAiPGI+IiAkJiB7e3h9fSAgIMO8?=");
    assert_string_equal(named(json_get(t, "EmailTags"), "postern-rcpt"), "101");
    teardown(&n, t);
}

static void headers_without_a_value_fall_out(void **state)
{
    struct newsletter n;
    setup(&n);
    n.content.header_count = 0;
    header(&n, "X-Unknown", "a %recipient.nobody% b");
    header(&n, "X-Empty", "%recipient.list_unsubscribe%");
    header(&n, "List-Unsubscribe", "<%recipient.nobody%>, <%tag_unsubscribe_email%>");
    header(&n, "List-Unsubscribe-Post", "List-Unsubscribe=One-Click");
    header(&n, "List-Help", "<%recipient.nobody%>, <mailto:help@x.example>");
    n.readers[0].vars[2].value = (struct slice){0};
    cJSON *t = rendered(&n, 1);
    const cJSON *h = headers_of(t);

    (void)state;
    assert_null(named(h, "X-Unknown"));
    assert_null(named(h, "X-Empty"));
    assert_null(named(h, "List-Unsubscribe"));
    assert_null(named(h, "List-Unsubscribe-Post"));
    assert_string_equal(named(h, "List-Help"), "<mailto:help@x.example>");
    teardown(&n, t);
}

static void an_unsubscribe_link_missing_for_one_reader_costs_its_header_only(void **state)
{
    struct newsletter n;
    setup(&n);
    n.readers[1].var_count = 2;
    cJSON *t = rendered(&n, 2);

    (void)state;
    assert_null(named(headers_of(t), "List-Unsubscribe"));
    assert_null(named(headers_of(t), "List-Unsubscribe-Post"));
    teardown(&n, t);
}

static void what_ses_sets_itself_or_takes_once_is_not_doubled(void **state)
{
    struct newsletter n;
    setup(&n);
    header(&n, "Message-ID", "<x@y>");
    header(&n, "Content-Type", "text/plain");
    header(&n, "X-Mailgun-Tag", "t");
    header(&n, "sender", "last@mg.example.com");
    header(&n, "X-Twice", "1");
    header(&n, "X-Twice", "2");
    cJSON *t = rendered(&n, 1);
    const cJSON *h = headers_of(t);

    (void)state;
    assert_null(named(h, "Message-ID"));
    assert_null(named(h, "Content-Type"));
    assert_null(named(h, "X-Mailgun-Tag"));
    assert_null(named(h, "Sender"));
    assert_string_equal(named(h, "sender"), "last@mg.example.com");
    assert_int_equal(cJSON_GetArraySize(h), 8);
    teardown(&n, t);
}

static void headers_beyond_what_ses_lists_go_raw(void **state)
{
    static char wide[1001];
    struct newsletter n;

    (void)state;
    memset(wide, 'x', 871);
    setup(&n);
    header(&n, "X-Wide", wide);
    assert_int_equal(render(&n, 1), SES_NEEDS_RAW);
    teardown(&n, NULL);

    setup(&n);
    for (int i = 0; i < 11; i++)
        header(&n, "X-More", "1");
    assert_int_equal(render(&n, 1), SES_NEEDS_RAW);
    teardown(&n, NULL);

    /* No mail can hold it: a line of a mail ends at 998 bytes. */
    setup(&n);
    memset(wide, 'x', 1000);
    header(&n, "X-Wide", wide);
    n.setup.always_raw = true;
    assert_int_equal(render(&n, 1), SES_REFUSED);
    assert_non_null(strstr(n.err.text, "X-Wide"));
    teardown(&n, NULL);
}

static void a_transactional_mail_goes_to_all_as_written(void **state)
{
    struct newsletter n;
    setup(&n);
    n.content.batch_mode = n.head.batch_mode = false;
    n.head.email_id = (struct slice){0};
    n.content.header_count = 0;
    n.content.var_count = 0;
    n.content.html = (struct slice){0};
    n.content.text = SLICE("%recipient.first_name_2% %tag_unsubscribe_email%");
    n.content.opens = TRACKING_OFF;
    n.setup.configuration_set = (struct slice){0};
    n.setup.override_tracking = false;
    n.readers[0].name = SLICE("Ann, \"A\"");
    n.readers[1].kind = RECIPIENT_CC;
    n.readers[1].address = SLICE("x@bücher.example");
    cJSON *t = rendered(&n, 3);

    (void)state;
    assert_string_equal(text_at(t, "Destination/ToAddresses/0"),
                        "\"Ann, \\\"A\\\"\" <Reader00002@readers.example.net>");
    assert_string_equal(text_at(t, "Destination/CcAddresses/0"), "x@xn--bcher-kva.example");
    assert_null(text_at(t, "Destination/ToAddresses/1"));
    assert_string_equal(text_at(t, "Content/Simple/Body/Text/Data"),
                        "%recipient.first_name_2% %tag_unsubscribe_email%");
    assert_null(headers_of(t));
    assert_null(json_get(t, "ConfigurationSetName"));
    assert_null(json_get(t, "ConfigurationOverrides"));
    assert_null(named(json_get(t, "EmailTags"), "email-id"));
    teardown(&n, t);
}

static void a_local_part_beyond_ascii_refuses_that_reader_only(void **state)
{
    struct newsletter n;
    setup(&n);
    n.readers[0].address = SLICE("jörg@example.net");

    (void)state;
    assert_int_equal(render(&n, 1), SES_REFUSED);
    assert_non_null(strstr(n.err.text, "jörg@example.net"));
    assert_int_equal(render(&n, 2), SES_FITS);
    teardown(&n, NULL);
}

/* The Raw message of a rendered body, decoded. */
static void raw_of(const cJSON *t, struct buf *mail)
{
    assert_non_null(text_at(t, "Content/Raw/Data"));
    assert_true(text_from_base64(mail, slice_str(text_at(t, "Content/Raw/Data"))));
}

static void attachments_go_raw(void **state)
{
    struct attachment files[] = {
        {.filename = SLICE("a.pdf"),
         .content_type = SLICE("application/pdf"),
         .data = SLICE("abc")},
        {.filename = SLICE("i.png"), .content_id = SLICE("i.png"), .data = SLICE("\0\xff")}};
    struct newsletter n;
    struct buf meta = {0}, mail = {0};
    setup(&n);
    n.content.attachments = files;
    n.content.attachment_count = 2;
    n.head.message_id = SLICE("%recipient.message_id%");
    n.head.message_id_per_recipient = true;
    n.setup.allow_bulk = true;
    cJSON *t = rendered(&n, 1);

    (void)state;
    raw_of(t, &mail);
    const char *text = buf_cstr(&mail);
    assert_non_null(strstr(text, "\r\nContent-Type: application/pdf\r\nContent-Disposition: "
                                 "attachment;\r\n filename=\"a.pdf\"\r\n"));
    assert_non_null(strstr(text, "\r\n\r\nYWJj\r\n"));
    assert_non_null(strstr(text, "\r\nContent-ID: <i.png>\r\n"));
    assert_non_null(strstr(text, "\r\n\r\nAP8=\r\n"));
    assert_non_null(strstr(text, "\r\nTo: Reader00002@readers.example.net\r\n"));
    assert_non_null(strstr(text, "\r\nSubject: Hello <World> & friends\r\n"));
    assert_null(strstr(text, "Message-I"));
    assert_string_equal(text_at(t, "FromEmailAddress"), ENCODED);
    text_from_base64(&meta, slice_str(named(json_get(t, "EmailTags"), "postern-meta")));
    assert_string_equal(buf_cstr(&meta),
                        "mg.example.com\nown.1@mg.example.com\nghost-email\nbulk-email");
    buf_fini(&meta);
    buf_fini(&mail);
    teardown(&n, t);
}

static void the_cheapest_way_that_can_express_a_batch_is_taken(void **state)
{
    struct attachment file = {.filename = SLICE("a"), .data = SLICE("b")};
    struct newsletter n;

    (void)state;
    setup(&n);
    assert_int_equal(compile(&n), SES_SIMPLE);
    teardown(&n, NULL);
    setup(&n);
    n.setup.allow_bulk = true;
    assert_int_equal(compile(&n), SES_BULK);
    teardown(&n, NULL);
    setup(&n);
    n.setup.allow_bulk = n.setup.always_raw = true;
    assert_int_equal(compile(&n), SES_RAW);
    teardown(&n, NULL);
    setup(&n);
    n.setup.allow_bulk = true;
    n.content.batch_mode = n.head.batch_mode = false;
    assert_int_equal(compile(&n), SES_SIMPLE);
    teardown(&n, NULL);
    setup(&n);
    n.setup.allow_bulk = true;
    n.content.amp_html = SLICE("<html amp4email></html>");
    assert_int_equal(compile(&n), SES_RAW);
    teardown(&n, NULL);
    setup(&n);
    n.setup.allow_bulk = true;
    n.content.attachments = &file;
    n.content.attachment_count = 1;
    assert_int_equal(compile(&n), SES_RAW);
    teardown(&n, NULL);
}

static uint64_t render_bulk(struct newsletter *n, uint64_t mask, unsigned most, uint64_t *apart)
{
    n->setup.allow_bulk = true;
    assert_int_equal(compile(n), SES_BULK);
    return ses_render_bulk(n->batch, n->readers, 2, mask, most, 100, &n->scratch, &n->body, apart);
}

static void a_bulk_call_holds_an_entry_for_each_reader(void **state)
{
    struct newsletter n;
    uint64_t apart;
    setup(&n);

    (void)state;
    assert_int_equal(render_bulk(&n, 3, 50, &apart), 3);
    assert_int_equal(apart, 0);
    cJSON *t = json_parse(buf_slice(&n.body));
    assert_non_null(t);
    const cJSON *entries = json_get(t, "BulkEmailEntries");
    assert_int_equal(cJSON_GetArraySize(entries), 2);
    assert_string_equal(text_at(t, "FromEmailAddress"), ENCODED);
    assert_string_equal(text_at(entries, "0/Destination/ToAddresses/0"),
                        "Reader00002@readers.example.net");
    assert_string_equal(text_at(entries, "1/Destination/ToAddresses/0"), "b@readers.example.net");
    const cJSON *second = cJSON_GetArrayItem(entries, 1);
    assert_string_equal(named(json_get(second, "ReplacementTags"), "postern-rcpt"), "101");
    assert_non_null(text_at(t, "DefaultContent/Template/TemplateContent/Subject"));
    assert_non_null(text_at(t, "ConfigurationSetName"));
    teardown(&n, t);

    setup(&n);
    assert_int_equal(render_bulk(&n, 3, 1, &apart), 1);
    arena_fini(&n.arena);
    n.arena = (struct arena){0};
    n.keys = (struct render_keys){0};
    assert_int_equal(render_bulk(&n, 2, 50, &apart), 2);
    teardown(&n, NULL);
}

static void a_reader_that_no_entry_can_carry_goes_apart(void **state)
{
    static char wide[900];
    struct newsletter n;
    uint64_t apart;

    (void)state;
    memset(wide, 'x', sizeof wide - 1);
    setup(&n);
    header(&n, "X-Own", "%recipient.uuid%");
    n.readers[1].vars[0].value = slice_str(wide);
    assert_int_equal(render_bulk(&n, 3, 50, &apart), 1);
    assert_int_equal(apart, 2);
    teardown(&n, NULL);
    setup(&n);
    header(&n, "X-Own", "%recipient.uuid%");
    n.readers[0].vars[0].value = SLICE("{{x}}"); /* what SES would make of it is not documented */
    assert_int_equal(render_bulk(&n, 3, 50, &apart), 2);
    assert_int_equal(apart, 1);
    teardown(&n, NULL);
}

enum { BIG_BYTES = 1 << 20, BIG_NAMED = 1500, ROOM_BYTES = 4 << 20 };
static uint8_t big[BIG_BYTES];

/* The first reader's variable holds a megabyte; *text names it so often that all memory would go. */
static void grow(struct newsletter *n, struct buf *text)
{
    memset(big, 'x', sizeof big);
    n->first_vars[n->readers[0].var_count++] =
        (struct name_value){SLICE("big"), slice_of(big, sizeof big)};
    for (int i = 0; i < BIG_NAMED; i++)
        buf_add_str(text, "%recipient.big%");
}

static void is_refused(struct newsletter *n, enum ses_way way, const char *why)
{
    enum ses_fit fit =
        ses_render_one(n->batch, way, n->readers, 2, 1, 0, &n->scratch, &n->body, &n->err);
    struct ses_scratch *s = &n->scratch;

    assert_int_equal(fit, SES_REFUSED);
    if (slice_find(slice_str(n->err.text), slice_str(why)) == SIZE_MAX)
        fail_msg("%s, not %s", n->err.text, why);
    assert_true(n->body.cap + s->text.cap + s->header.cap + s->mime.cap < ROOM_BYTES);
}

static void a_mail_too_large_to_be_made_is_refused_before_it_is(void **state)
{
    struct newsletter n;
    struct buf text = {0};

    (void)state;
    setup(&n);
    n.setup.allow_bulk = true;
    grow(&n, &text);
    n.content.html = buf_slice(&text);
    assert_int_equal(compile(&n), SES_BULK);
    uint64_t apart;
    assert_int_equal(ses_render_bulk(n.batch, n.readers, 2, 3, 50, 0, &n.scratch, &n.body, &apart),
                     2);
    assert_int_equal(apart, 1);
    is_refused(&n, SES_SIMPLE, "The mail has 1572864");
    is_refused(&n, SES_RAW, "The mail has 1572864");
    buf_reset(&n.body);
    assert_int_equal(
        ses_render_one(n.batch, SES_SIMPLE, n.readers, 2, 2, 0, &n.scratch, &n.body, &n.err),
        SES_FITS);
    buf_fini(&text);
    teardown(&n, NULL);
}

static void a_header_too_long_to_be_made_is_refused_before_it_is(void **state)
{
    static const char *const names[] = {"Subject", "From", "Reply-To", "X-Long"};

    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct newsletter n;
        struct buf text = {0}, why = {0};
        setup(&n);
        grow(&n, &text);
        buf_printf(&why, "Header %s: would have 1572864", names[i]);
        n.content.subject = i == 0 ? buf_slice(&text) : n.content.subject;
        n.content.from = i == 1 ? buf_slice(&text) : n.content.from;
        if (i >= 2)
            header(&n, names[i], buf_cstr(&text));
        compile(&n);
        is_refused(&n, SES_SIMPLE, buf_cstr(&why));
        is_refused(&n, SES_RAW, buf_cstr(&why));
        buf_fini(&text);
        buf_fini(&why);
        teardown(&n, NULL);
    }
}

static void variables_too_long_for_a_header_leave_it_out_without_being_put_together(void **state)
{
    struct newsletter n;
    struct buf text = {0};

    (void)state;
    setup(&n);
    grow(&n, &text);
    n.vars[0].value = buf_slice(&text);
    cJSON *t = rendered(&n, 1);
    assert_null(named(headers_of(t), "X-Mailgun-Variables"));
    assert_true(n.scratch.text.cap + n.scratch.header.cap < ROOM_BYTES);
    buf_fini(&text);
    teardown(&n, t);
}

/* What encoding adds counts too: each of these is below the limit as it is. */
static void growth_by_encoding_counts(void **state)
{
    enum { ESCAPED_BYTES = 8000000, TOO_LONG_BYTES = 30000000 };
    struct newsletter n;
    uint8_t *text = malloc(TOO_LONG_BYTES);

    (void)state;
    assert_non_null(text);
    memset(text, 1, TOO_LONG_BYTES); /* \u0001 in JSON; base64 in a mail */
    setup(&n);
    n.content.html = slice_of(text, ESCAPED_BYTES);
    assert_int_equal(render(&n, 1), SES_NEEDS_RAW);
    buf_reset(&n.body);
    assert_int_equal(
        ses_render_one(n.batch, SES_RAW, n.readers, 2, 1, 0, &n.scratch, &n.body, &n.err),
        SES_FITS);
    teardown(&n, NULL);
    setup(&n);
    n.content.html = slice_of(text, TOO_LONG_BYTES);
    n.setup.always_raw = true;
    compile(&n);
    is_refused(&n, SES_RAW, "The mail has 41");
    free(text);
    teardown(&n, NULL);
}

static void variables_in_the_header_are_ascii(void **state)
{
    struct newsletter n;
    setup(&n);
    n.vars[0].value = SLICE("ü😀%recipient.uuid%");
    cJSON *t = rendered(&n, 1);

    (void)state;
    assert_string_equal(named(headers_of(t), "X-Mailgun-Variables"),
                        "{\"email-id\":\"\\u00fc\\ud83d\\ude00f7b4\"}");
    teardown(&n, t);
}

static void mailbox_lists_are_read_and_written(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"a@b.c", "a@b.c"},
        {"Ann Lee <a@b.c>", "Ann Lee <a@b.c>"},
        {"\"Lee, Ann\" <a@b.c>, x@y.z", "\"Lee, Ann\" <a@b.c>|x@y.z"},
        {"a@b.c (Ann, of course)", "a@b.c"},
        {"=?utf-8?q?Katie_Brewer=2C?= <joe@x.io>", "=?utf-8?q?Katie_Brewer=2C?= <joe@x.io>"},
        {"\"john doe\"@x.io", "\"john doe\"@x.io"},
        {"a@münchen.例え.example", "a@xn--mnchen-3ya.xn--r8jz45g.example"},
        {"nobody", NULL},
        {"<a@b.c", NULL},
        {"a b@c.d", NULL},
    };
    struct arena a = {0};
    struct buf out = {0};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ses_mailbox *list;
        size_t count = 0;
        bool ok = ses_mailboxes_parse(slice_str(cases[i].text), &a, &list, &count);
        buf_reset(&out);
        for (size_t m = 0; ok && m < count; m++) {
            buf_add_str(&out, m > 0 ? "|" : "");
            ok = ses_mailbox_encode(&out, list[m].name, list[m].address);
        }
        assert_int_equal(ok, cases[i].want != NULL);
        if (ok)
            assert_string_equal(buf_cstr(&out), cases[i].want);
    }
    buf_fini(&out);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_newsletter_leaves_as_ghost_needs_it),
        cmocka_unit_test(odd_values_arrive_verbatim),
        cmocka_unit_test(headers_without_a_value_fall_out),
        cmocka_unit_test(an_unsubscribe_link_missing_for_one_reader_costs_its_header_only),
        cmocka_unit_test(what_ses_sets_itself_or_takes_once_is_not_doubled),
        cmocka_unit_test(headers_beyond_what_ses_lists_go_raw),
        cmocka_unit_test(a_transactional_mail_goes_to_all_as_written),
        cmocka_unit_test(a_local_part_beyond_ascii_refuses_that_reader_only),
        cmocka_unit_test(attachments_go_raw),
        cmocka_unit_test(the_cheapest_way_that_can_express_a_batch_is_taken),
        cmocka_unit_test(a_bulk_call_holds_an_entry_for_each_reader),
        cmocka_unit_test(a_reader_that_no_entry_can_carry_goes_apart),
        cmocka_unit_test(a_mail_too_large_to_be_made_is_refused_before_it_is),
        cmocka_unit_test(a_header_too_long_to_be_made_is_refused_before_it_is),
        cmocka_unit_test(variables_too_long_for_a_header_leave_it_out_without_being_put_together),
        cmocka_unit_test(growth_by_encoding_counts),
        cmocka_unit_test(variables_in_the_header_are_ascii),
        cmocka_unit_test(mailbox_lists_are_read_and_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
