#include "mail/ses_body.h"

#include <assert.h>
#include <inttypes.h>

#include "base/digest.h"
#include "base/json.h"
#include "mail/own_event.h"
#include "mail/ses_address.h"

enum header_form {
    FORM_TEXT,      /* unstructured: RFC 2047 */
    FORM_MAILBOXES, /* addresses: display names RFC 2047, domains Punycode */
    FORM_LIST,      /* <…>, <…>: elements fall out one by one */
    FORM_URI,       /* other List-… headers: no encoded words inside */
};

struct header {
    struct slice name;
    enum header_form form;
    struct render_template *elements; /* one, or those of a list */
    size_t count;
    bool needs_list_unsubscribe; /* List-Unsubscribe-Post means nothing alone */
    bool is_list_unsubscribe;
};

struct variable {
    struct slice name;
    struct render_template value;
};

struct ses_batch {
    const struct message_head *head;
    const struct render_keys *keys;
    bool batch_mode;
    uint64_t batch_id;
    struct render_template from, reply_to;
    bool has_reply_to;
    bool lost_list_unsubscribe;                 /* given, but nothing of it is left for anyone */
    struct render_template subject, text, html; /* literals escaped for JSON already */
    bool has_text, has_html;
    struct header *headers;
    size_t header_count;
    struct variable *vars;
    size_t var_count;
    struct slice attachments; /* `,"Attachments":[…]` or empty */
    struct slice tail;        /* `,"ConfigurationSetName":…` to the closing brace */
    struct slice email_id;    /* empty = no tag */
    uint32_t unknown_count;
};

void ses_scratch_fini(struct ses_scratch *s)
{
    arena_fini(&s->arena);
    buf_fini(&s->text);
    buf_fini(&s->header);
}

uint32_t ses_batch_unknown_count(const struct ses_batch *b)
{
    return b->unknown_count;
}

/* ---- compiling ---- */

/* Escapes the literals of a template, once for all recipients. */
static void escape_literals(struct render_template *t, struct arena *a)
{
    struct buf escaped = {0};

    for (size_t i = 0; i < t->count; i++) {
        if (t->parts[i].slot != RENDER_LITERAL)
            continue;
        buf_reset(&escaped);
        json_put_escaped(&escaped, t->parts[i].literal);
        t->parts[i].literal = arena_dup(a, buf_slice(&escaped));
    }
    buf_fini(&escaped);
}

static void compile_text(struct ses_batch *b, struct render_template *t, struct slice text,
                         struct arena *a)
{
    render_compile(t, text, b->batch_mode ? b->keys : NULL, a);
    b->unknown_count += t->unknown_count;
}

/* SES writes these itself, or they steer Mailgun and not the mail. */
static bool is_not_for_the_list(struct slice name)
{
    static const char *const taken[] = {
        "from",       "to",          "cc",       "bcc",          "subject",     "date",
        "message-id", "return-path", "received", "mime-version", "feedback-id", "dkim-signature"};

    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
        if (slice_eq_nocase(name, slice_str(taken[i])))
            return true;
    return slice_starts_nocase(name, SLICE("content-")) ||
           slice_starts_nocase(name, SLICE("x-mailgun-")) ||
           slice_starts_nocase(name, SLICE("x-ses-"));
}

/* SES refuses a mail in which one of these stands twice: the last one counts. */
static bool is_allowed_once(struct slice name)
{
    static const char *const once[] = {
        "reply-to",          "sender",         "in-reply-to",
        "references",        "precedence",     "priority",
        "importance",        "sensitivity",    "organization",
        "user-agent",        "auto-submitted", "comments",
        "keywords",          "errors-to",      "x-priority",
        "x-msmail-priority", "x-mailer",       "x-auto-response-suppress"};

    for (size_t i = 0; i < sizeof once / sizeof once[0]; i++)
        if (slice_eq_nocase(name, slice_str(once[i])))
            return true;
    return slice_starts_nocase(name, SLICE("list-")) || slice_starts_nocase(name, SLICE("thread-"));
}

static bool has_mailboxes(struct slice name)
{
    static const char *const names[] = {"sender", "errors-to", "disposition-notification-to",
                                        "return-receipt-to"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (slice_eq_nocase(name, slice_str(names[i])))
            return true;
    return false;
}

/* The next element of a list: up to a comma that stands outside of < >. */
static struct slice next_element(struct slice *rest)
{
    bool inside = false;
    size_t at = 0;

    for (; at < rest->len; at++) {
        uint8_t c = rest->ptr[at];
        if (c == '<')
            inside = true;
        else if (c == '>')
            inside = false;
        else if (c == ',' && !inside)
            break;
    }
    struct slice element = slice_trim(slice_head(*rest, at));
    *rest = slice_from(*rest, at + 1);
    return element;
}

/* <…>, <…>: how many; 0 when it is no such list. */
static size_t count_elements(struct slice value)
{
    size_t count = 0;

    while (value.len > 0) {
        struct slice e = next_element(&value);
        if (e.len == 0)
            continue;
        if (e.len < 2 || e.ptr[0] != '<' || e.ptr[e.len - 1] != '>')
            return 0;
        count++;
    }
    return count;
}

/* False when nothing of the header is left. */
static bool compile_header(struct ses_batch *b, struct header *h, struct slice name,
                           struct slice value, struct arena *a)
{
    const struct render_keys *keys = b->batch_mode ? b->keys : NULL;
    size_t elements = count_elements(value);
    struct render_template t;

    *h = (struct header){.name = name};
    h->is_list_unsubscribe = slice_eq_nocase(name, SLICE("list-unsubscribe"));
    h->needs_list_unsubscribe = slice_eq_nocase(name, SLICE("list-unsubscribe-post"));
    h->elements = arena_array(a, elements == 0 ? 1 : elements, sizeof *h->elements);
    if (elements > 0) {
        h->form = FORM_LIST;
        while (value.len > 0) {
            struct slice e = next_element(&value);
            if (e.len == 0)
                continue;
            render_compile(&t, e, keys, a);
            b->unknown_count += t.unknown_count;
            if (t.unknown_count == 0 && t.erased_count == 0)
                h->elements[h->count++] = t;
        }
        return h->count > 0;
    }
    h->form =
        has_mailboxes(name) ? FORM_MAILBOXES
        : slice_starts_nocase(name, SLICE("list-")) && !slice_eq_nocase(name, SLICE("list-id"))
            ? FORM_URI
            : FORM_TEXT;
    render_compile(&t, value, keys, a);
    b->unknown_count += t.unknown_count;
    h->elements[h->count++] = t;
    return t.unknown_count == 0;
}

static bool comes_again(const struct message_content *c, size_t i)
{
    for (size_t later = i + 1; later < c->header_count; later++)
        if (slice_eq_nocase(c->headers[i].name, c->headers[later].name))
            return true;
    return false;
}

static void compile_headers(struct ses_batch *b, const struct message_content *c, struct arena *a)
{
    b->headers = arena_array(a, c->header_count, sizeof *b->headers);
    for (size_t i = 0; i < c->header_count; i++) {
        struct slice name = slice_trim(c->headers[i].name), value = c->headers[i].value;
        if (is_not_for_the_list(name) || (is_allowed_once(name) && comes_again(c, i)))
            continue;
        if (slice_eq_nocase(name, SLICE("reply-to"))) {
            compile_text(b, &b->reply_to, value, a);
            b->has_reply_to = b->reply_to.unknown_count == 0;
            continue;
        }
        if (compile_header(b, &b->headers[b->header_count], name, value, a))
            b->header_count++;
        else if (slice_eq_nocase(name, SLICE("list-unsubscribe")))
            b->lost_list_unsubscribe = true;
    }
    if (c->suppress_variables_header)
        return;
    b->vars = arena_array(a, c->var_count, sizeof *b->vars);
    for (size_t i = 0; i < c->var_count; i++) {
        b->vars[i].name = c->vars[i].name;
        compile_text(b, &b->vars[i].value, c->vars[i].value, a);
    }
    b->var_count = c->var_count;
}

static struct slice keep(struct buf *text, struct arena *a)
{
    struct slice kept = arena_dup(a, buf_slice(text));

    buf_fini(text);
    return kept;
}

static struct slice compile_attachments(const struct message_content *c, struct arena *a)
{
    struct buf json = {0};

    for (size_t i = 0; i < c->attachment_count; i++) {
        const struct attachment *at = &c->attachments[i];
        buf_add_str(&json, i == 0 ? ",\"Attachments\":[{" : ",{");
        json_put_str(&json, "FileName", at->filename.len > 0 ? at->filename : SLICE("attachment"));
        if (at->content_type.len > 0 && at->content_type.len <= 78)
            json_put_str(&json, "ContentType", at->content_type);
        if (at->content_id.len > 0 && at->content_id.len <= 78) {
            json_put_str(&json, "ContentDisposition", SLICE("INLINE"));
            json_put_str(&json, "ContentId", at->content_id);
        } else {
            json_put_str(&json, "ContentDisposition", SLICE("ATTACHMENT"));
        }
        json_put_str(&json, "ContentTransferEncoding", SLICE("BASE64"));
        json_put_name(&json, "RawContent");
        buf_add_byte(&json, '"');
        text_base64(&json, at->data);
        buf_add_str(&json, "\"}");
    }
    if (c->attachment_count > 0)
        buf_add_byte(&json, ']');
    return keep(&json, a);
}

static struct slice compile_tail(const struct message_content *c, const struct ses_setup *setup,
                                 struct arena *a)
{
    struct buf json = {0};

    if (setup->configuration_set.len > 0) {
        buf_add_str(&json, ",\"ConfigurationSetName\":");
        json_put_text(&json, setup->configuration_set);
    }
    if (setup->override_tracking)
        buf_printf(&json,
                   ",\"ConfigurationOverrides\":{\"Tracking\":{\"OpenTrackingEnabled\":\"%s\","
                   "\"ClickTrackingEnabled\":\"%s\"}}",
                   c->opens == TRACKING_ON ? "ENABLED" : "DISABLED",
                   c->clicks == TRACKING_ON ? "ENABLED" : "DISABLED");
    buf_add_byte(&json, '}');
    return keep(&json, a);
}

static bool is_tag_value(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '-'))
            return false;
    }
    return s.len > 0 && s.len <= SES_TAG_MAX;
}

struct ses_batch *ses_batch_compile(const struct message_head *head,
                                    const struct message_content *content,
                                    const struct render_keys *keys, const struct ses_setup *setup,
                                    struct arena *a)
{
    struct ses_batch *b = arena_alloc(a, sizeof *b);

    b->head = head;
    b->keys = keys;
    b->batch_mode = content->batch_mode;
    b->batch_id = setup->batch_id;
    compile_text(b, &b->from, content->from, a);
    compile_text(b, &b->subject, content->subject, a);
    compile_text(b, &b->text, content->text, a);
    /* Simple content has no place for an AMP part; alone it is still HTML. */
    bool only_amp = content->text.len == 0 && content->html.len == 0;
    compile_text(b, &b->html, only_amp ? content->amp_html : content->html, a);
    escape_literals(&b->subject, a);
    escape_literals(&b->text, a);
    escape_literals(&b->html, a);
    b->has_text = b->text.count > 0;
    b->has_html = b->html.count > 0;
    compile_headers(b, content, a);
    b->attachments = compile_attachments(content, a);
    b->tail = compile_tail(content, setup, a);
    b->email_id = is_tag_value(head->email_id) ? head->email_id : (struct slice){0};
    return b;
}

/* ---- one mail ---- */

/* A value that reaches a header may not break the line. */
static void flatten(struct buf *b, size_t from)
{
    for (size_t i = from; i < b->len; i++)
        if (b->ptr[i] < 0x20 || b->ptr[i] == 0x7f)
            b->ptr[i] = ' ';
}

static void put_literals_and_values(const struct render_template *t, const struct slice *values,
                                    struct buf *to)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->parts[i].slot == RENDER_LITERAL)
            buf_add_slice(to, t->parts[i].literal);
        else
            json_put_escaped(to, values[t->parts[i].slot]);
}

static void put_subject(const struct ses_batch *b, const struct slice *values,
                        struct ses_scratch *s, struct buf *to)
{
    for (size_t i = 0; i < b->subject.count; i++) {
        const struct render_part *part = &b->subject.parts[i];
        if (part->slot == RENDER_LITERAL) {
            buf_add_slice(to, part->literal);
            continue;
        }
        buf_reset(&s->text);
        buf_add_slice(&s->text, values[part->slot]);
        flatten(&s->text, 0);
        json_put_escaped(to, buf_slice(&s->text));
    }
}

/* A template that becomes (part of) a header, as one line of text in the scratch. */
static struct slice line_of(const struct render_template *t, const struct slice *values,
                            struct ses_scratch *s)
{
    buf_reset(&s->text);
    render_run(t, values, &s->text);
    flatten(&s->text, 0);
    return slice_trim(buf_slice(&s->text));
}

static bool refuse(struct err *err, const char *what, struct slice which, const char *why)
{
    (void)err_set(err, ERR_INPUT, "%s %.*s: %s", what, SLICE_ARGS(which), why);
    return false;
}

/* Appends the encoded mailboxes of a header text as JSON strings; at most `most` of them. */
static bool put_mailboxes(const char *what, struct slice text, size_t most, struct ses_scratch *s,
                          struct buf *to, struct err *err)
{
    struct ses_mailbox *list;
    size_t count;

    if (!ses_mailboxes_parse(text, &s->arena, &list, &count) || count == 0)
        return refuse(err, what, text, "is no address");
    for (size_t i = 0; i < count && i < most; i++) {
        buf_reset(&s->header);
        if (!ses_mailbox_encode(&s->header, list[i].name, list[i].address))
            return refuse(err, what, list[i].address, "is not an address that SES can take");
        if (i > 0)
            buf_add_byte(to, ',');
        json_put_text(to, buf_slice(&s->header));
    }
    return true;
}

static bool put_destination(const struct recipient *list, size_t count, uint64_t mask,
                            bool batch_mode, struct ses_scratch *s, struct buf *to, struct err *err)
{
    static const char *const names[] = {"ToAddresses", "CcAddresses", "BccAddresses"};

    buf_add_str(to, ",\"Destination\":{");
    for (unsigned kind = RECIPIENT_TO; kind <= RECIPIENT_BCC; kind++) {
        bool any = false;
        for (size_t i = 0; i < count; i++) {
            /* In batch mode each mail has one reader, whatever list named them. */
            unsigned own = batch_mode ? RECIPIENT_TO : (unsigned)list[i].kind;
            if ((mask >> i & 1) == 0 || own != kind)
                continue;
            buf_reset(&s->header);
            if (!ses_mailbox_encode(&s->header, list[i].name, list[i].address))
                return refuse(err, "Recipient", list[i].address,
                              "SES takes ASCII before the @ and a domain name behind it only");
            if (any) {
                buf_add_byte(to, ',');
            } else {
                json_put_name(to, names[kind]);
                buf_add_byte(to, '[');
            }
            any = true;
            json_put_text(to, buf_slice(&s->header));
        }
        if (any)
            buf_add_byte(to, ']');
    }
    buf_add_byte(to, '}');
    return true;
}

/* URIs are ASCII; what a sloppy one holds beyond is percent-encoded, nothing else is touched. */
static void put_uri(struct buf *to, struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] < 0x80)
            buf_add_byte(to, s.ptr[i]);
        else
            buf_printf(to, "%%%02X", s.ptr[i]);
}

/* The header's value, ready for the wire, in s->header; empty = leave the header out. */
static void put_header_value(const struct header *h, const struct slice *values,
                             struct ses_scratch *s)
{
    struct ses_mailbox *list;
    size_t count;

    buf_reset(&s->header);
    if (h->form == FORM_LIST) {
        for (size_t i = 0; i < h->count; i++) {
            struct slice e = line_of(&h->elements[i], values, s);
            if (slice_eq(e, SLICE("<>")) || slice_eq(e, SLICE("<undefined>")))
                continue;
            if (s->header.len > 0)
                buf_add_str(&s->header, ", ");
            put_uri(&s->header, e);
        }
        return;
    }
    struct slice line = line_of(&h->elements[0], values, s);
    if (h->form == FORM_URI) {
        put_uri(&s->header, line);
        return;
    }
    if (h->form == FORM_MAILBOXES && ses_mailboxes_parse(line, &s->arena, &list, &count) &&
        count > 0) {
        size_t i = 0;
        for (; i < count; i++) {
            if (i > 0)
                buf_add_str(&s->header, ", ");
            if (!ses_mailbox_encode(&s->header, list[i].name, list[i].address))
                break;
        }
        if (i == count)
            return;
        buf_reset(&s->header);
    }
    ses_text_encode(&s->header, line);
}

static bool name_fits(struct slice name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] <= ' ' || name.ptr[i] > '~' || name.ptr[i] == ':')
            return false;
    return name.len > 0 && name.len <= SES_HEADER_NAME_MAX;
}

static void put_header(struct buf *to, size_t *count, struct slice name, struct slice value)
{
    buf_add_str(to, (*count)++ == 0 ? ",\"Headers\":[{" : ",{");
    json_put_str(to, "Name", name);
    json_put_str(to, "Value", value);
    buf_add_byte(to, '}');
}

/* Escapes what is not ASCII in a JSON text as \uXXXX, so that the header needs no encoded words. */
static void put_json_ascii(struct buf *to, struct slice json)
{
    for (size_t i = 0; i < json.len; i++) {
        uint8_t c = json.ptr[i];
        if (c < 0x80) {
            buf_add_byte(to, c);
            continue;
        }
        size_t more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
        uint32_t code = c & (0x3fu >> more);
        for (; more > 0 && i + 1 < json.len; more--)
            code = code << 6 | (json.ptr[++i] & 0x3fu);
        if (code >= 0x10000)
            buf_printf(to, "\\u%04x\\u%04x", 0xd7c0 + (code >> 10), 0xdc00 + (code & 0x3ff));
        else
            buf_printf(to, "\\u%04x", code);
    }
}

static void put_variables(const struct ses_batch *b, const struct slice *values,
                          struct ses_scratch *s)
{
    struct buf json = {0};

    buf_add_byte(&json, '{');
    for (size_t i = 0; i < b->var_count; i++) {
        if (i > 0)
            buf_add_byte(&json, ',');
        json_put_text(&json, b->vars[i].name);
        buf_add_byte(&json, ':');
        buf_reset(&s->text);
        render_run(&b->vars[i].value, values, &s->text);
        json_put_text(&json, buf_slice(&s->text));
    }
    buf_add_byte(&json, '}');
    buf_reset(&s->header);
    put_json_ascii(&s->header, buf_slice(&json));
    buf_fini(&json);
}

static bool put_headers(const struct ses_batch *b, const struct slice *values,
                        struct ses_scratch *s, struct buf *to, struct err *err)
{
    bool list_unsubscribe_fell_out = false;
    size_t count = 0;

    for (size_t i = 0; i < b->header_count; i++) {
        const struct header *h = &b->headers[i];
        if (!h->is_list_unsubscribe)
            continue;
        put_header_value(h, values, s);
        list_unsubscribe_fell_out = s->header.len == 0;
    }
    for (size_t i = 0; i < b->header_count; i++) {
        const struct header *h = &b->headers[i];
        put_header_value(h, values, s);
        struct slice value = slice_trim(buf_slice(&s->header));
        if (value.len == 0 ||
            (h->needs_list_unsubscribe && (list_unsubscribe_fell_out || b->lost_list_unsubscribe)))
            continue;
        if (!name_fits(h->name))
            return refuse(err, "Header", h->name, "is no name that SES takes");
        if (value.len > SES_HEADER_VALUE_MAX || value.len + h->name.len > SES_HEADER_MAX)
            return refuse(err, "Header", h->name, "is longer than SES takes (995 bytes)");
        if (count == SES_HEADERS_MAX)
            return refuse(err, "Header", h->name, "SES takes 15 headers and this is one more");
        put_header(to, &count, h->name, value);
    }
    /* Nobody misses this one: events carry the variables whether it leaves or not. */
    if (b->var_count > 0 && count < SES_HEADERS_MAX) {
        const struct slice name = SLICE("X-Mailgun-Variables");
        put_variables(b, values, s);
        if (s->header.len <= SES_HEADER_VALUE_MAX && s->header.len + name.len <= SES_HEADER_MAX)
            put_header(to, &count, name, buf_slice(&s->header));
    }
    if (count > 0)
        buf_add_byte(to, ']');
    return true;
}

static void put_tags(const struct ses_batch *b, const struct recipient *reader, uint32_t index,
                     struct ses_scratch *s, struct buf *to)
{
    buf_printf(to,
               ",\"EmailTags\":[{\"Name\":\"postern-batch\",\"Value\":\"%016" PRIx64 "\"},"
               "{\"Name\":\"postern-rcpt\",\"Value\":\"%" PRIu32 "\"}",
               b->batch_id, index);
    if (b->email_id.len > 0) {
        buf_add_str(to, ",{\"Name\":\"email-id\",\"Value\":");
        json_put_text(to, b->email_id);
        buf_add_byte(to, '}');
    }
    buf_reset(&s->text);
    buf_add_slice(&s->text, b->head->domain);
    buf_add_byte(&s->text, '\n');
    buf_add_slice(&s->text, message_id_of(b->head, reader, &s->arena));
    for (size_t i = 0; i < b->head->tag_count; i++) {
        buf_add_byte(&s->text, '\n');
        buf_add_slice(&s->text, b->head->tags[i]);
    }
    buf_reset(&s->header);
    text_base64url(&s->header, buf_slice(&s->text));
    if (s->header.len <= SES_TAG_MAX) {
        buf_add_str(to, ",{\"Name\":\"postern-meta\",\"Value\":");
        json_put_text(to, buf_slice(&s->header));
        buf_add_byte(to, '}');
    }
    buf_add_byte(to, ']');
}

bool ses_batch_render(const struct ses_batch *b, const struct recipient *list, size_t count,
                      uint64_t mask, uint32_t first, struct ses_scratch *s, struct buf *to,
                      struct err *err)
{
    assert(mask != 0 && count > 0 && count <= MESSAGE_SLICE);
    unsigned at = (unsigned)__builtin_ctzll(mask);
    assert(at < count && (!b->batch_mode || (mask & (mask - 1)) == 0));
    const struct recipient *reader = &list[at];

    arena_reset(&s->arena);
    struct slice *values = arena_array(&s->arena, render_slot_count(b->keys), sizeof *values);
    if (b->batch_mode)
        render_values(b->keys, reader, &s->arena, values);

    buf_add_str(to, "{\"FromEmailAddress\":");
    if (!put_mailboxes("Sender", line_of(&b->from, values, s), 1, s, to, err) ||
        !put_destination(list, count, mask, b->batch_mode, s, to, err))
        return false;
    struct slice reply_to = line_of(&b->reply_to, values, s);
    if (b->has_reply_to && reply_to.len > 0) {
        buf_add_str(to, ",\"ReplyToAddresses\":[");
        if (!put_mailboxes("Reply-To", reply_to, SIZE_MAX, s, to, err))
            return false;
        buf_add_byte(to, ']');
    }
    buf_add_str(to, ",\"Content\":{\"Simple\":{\"Subject\":{\"Data\":\"");
    put_subject(b, values, s, to);
    buf_add_str(to, "\",\"Charset\":\"UTF-8\"},\"Body\":{");
    if (b->has_text) {
        buf_add_str(to, "\"Text\":{\"Data\":\"");
        put_literals_and_values(&b->text, values, to);
        buf_add_str(to, "\",\"Charset\":\"UTF-8\"}");
    }
    if (b->has_html) {
        buf_add_str(to, b->has_text ? ",\"Html\":{\"Data\":\"" : "\"Html\":{\"Data\":\"");
        put_literals_and_values(&b->html, values, to);
        buf_add_str(to, "\",\"Charset\":\"UTF-8\"}");
    }
    buf_add_byte(to, '}');
    if (!put_headers(b, values, s, to, err))
        return false;
    buf_add_slice(to, b->attachments);
    buf_add_str(to, "}}");
    put_tags(b, reader, first + at, s, to);
    buf_add_slice(to, b->tail);
    return true;
}
