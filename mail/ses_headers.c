/*
 * The headers of h: parameters: which of them go, how their values are written, and when one falls
 * out.
 */
#include <assert.h>

#include "base/json.h"
#include "mail/mime.h"
#include "mail/ses_address.h"
#include "mail/ses_parts.h"

/* ---- compiling ---- */

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

static bool has_mailboxes(struct slice name)
{
    static const char *const names[] = {"to",
                                        "cc",
                                        "sender",
                                        "reply-to",
                                        "errors-to",
                                        "disposition-notification-to",
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

bool ses_header_compile(struct ses_batch *b, struct ses_header *h, struct slice name,
                        struct slice value, struct arena *a)
{
    const struct render_keys *keys = b->batch_mode ? b->keys : NULL;
    size_t elements = count_elements(value);
    struct render_template t;

    *h = (struct ses_header){.name = name};
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
            if (t.unknown_count == 0 && t.erased_count == 0) {
                h->elements[h->count++] = t;
                h->varies = h->varies || t.varies;
            }
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
    h->varies = t.varies;
    h->elements[h->count++] = t;
    return t.unknown_count == 0;
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
void ses_header_put_value(const struct ses_header *h, const struct slice *values,
                          struct ses_scratch *s)
{
    struct ses_mailbox *list;
    size_t count;

    buf_reset(&s->header);
    if (h->form == FORM_LIST) {
        for (size_t i = 0; i < h->count; i++) {
            struct slice e = ses_line_of(&h->elements[i], values, s);
            if (slice_eq(e, SLICE("<>")) || slice_eq(e, SLICE("<undefined>")))
                continue;
            if (s->header.len > 0)
                buf_add_str(&s->header, ", ");
            put_uri(&s->header, e);
        }
        return;
    }
    struct slice line = ses_line_of(&h->elements[0], values, s);
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

/* {"name":"value", …} in s->header; the blank behind a comma lets a long line be folded. Empty when
 * it is more than a header should hold: nobody misses it, events carry the variables anyway. */
static void put_variables(const struct ses_batch *b, const struct slice *values,
                          struct ses_scratch *s)
{
    struct buf json = {0};
    size_t bytes = 0;

    buf_reset(&s->header);
    for (size_t i = 0; i < b->var_count; i++)
        bytes += b->vars[i].name.len + render_length(&b->vars[i].value, values);
    if (bytes > SES_HEADER_VALUE_MAX)
        return;
    buf_add_byte(&json, '{');
    for (size_t i = 0; i < b->var_count; i++) {
        if (i > 0)
            buf_add_str(&json, ", ");
        json_put_text(&json, b->vars[i].name);
        buf_add_byte(&json, ':');
        buf_reset(&s->text);
        render_run(&b->vars[i].value, values, &s->text);
        json_put_text(&json, buf_slice(&s->text));
    }
    buf_add_byte(&json, '}');
    put_json_ascii(&s->header, buf_slice(&json));
    if (s->header.len > SES_HEADER_VALUE_MAX)
        buf_reset(&s->header);
    buf_fini(&json);
}

static bool comes_again(const struct message_content *c, size_t i)
{
    for (size_t later = i + 1; later < c->header_count; later++)
        if (slice_eq_nocase(slice_trim(c->headers[i].name), slice_trim(c->headers[later].name)))
            return true;
    return false;
}

/* What is the same for all recipients is written once. */
static void write_constants(struct ses_batch *b, struct arena *a)
{
    struct ses_scratch s = {0};

    for (size_t i = 0; i < b->header_count; i++) {
        struct ses_header *h = &b->headers[i];
        if (h->varies)
            continue;
        ses_header_put_value(h, NULL, &s);
        h->constant = arena_dup(a, slice_trim(buf_slice(&s.header)));
        b->lost_list_unsubscribe =
            b->lost_list_unsubscribe || (h->is_list_unsubscribe && h->constant.len == 0);
    }
    if (b->var_count > 0 && !b->vars_vary) {
        put_variables(b, NULL, &s);
        b->vars_constant = arena_dup(a, buf_slice(&s.header));
    }
    ses_scratch_fini(&s);
}

void ses_headers_compile(struct ses_batch *b, struct arena *a)
{
    const struct message_content *c = b->content;
    const struct render_keys *keys = b->batch_mode ? b->keys : NULL;

    b->headers = arena_array(a, c->header_count, sizeof *b->headers);
    for (size_t i = 0; i < c->header_count; i++) {
        struct slice name = slice_trim(c->headers[i].name), value = c->headers[i].value;
        if (is_not_for_the_list(name) || (mime_stands_once(name) && comes_again(c, i)))
            continue;
        if (slice_eq_nocase(name, SLICE("reply-to"))) {
            render_compile(&b->reply_to, value, keys, a);
            b->unknown_count += b->reply_to.unknown_count;
            b->has_reply_to = b->reply_to.unknown_count == 0;
            continue;
        }
        if (ses_header_compile(b, &b->headers[b->header_count], name, value, a))
            b->header_count++;
        else if (slice_eq_nocase(name, SLICE("list-unsubscribe")))
            b->lost_list_unsubscribe = true;
    }
    if (!c->suppress_variables_header) {
        b->vars = arena_array(a, c->var_count, sizeof *b->vars);
        for (size_t i = 0; i < c->var_count; i++) {
            b->vars[i].name = c->vars[i].name;
            render_compile(&b->vars[i].value, c->vars[i].value, keys, a);
            b->unknown_count += b->vars[i].value.unknown_count;
            b->vars_vary = b->vars_vary || b->vars[i].value.varies;
        }
        b->var_count = c->var_count;
    }
    write_constants(b, a);
}

/* ---- one mail ---- */

static bool name_fits(struct slice name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] <= ' ' || name.ptr[i] > '~' || name.ptr[i] == ':')
            return false;
    return name.len > 0 && name.len <= SES_HEADER_NAME_MAX;
}

static struct slice value_of(const struct ses_header *h, const struct slice *values,
                             struct ses_scratch *s)
{
    if (!h->varies)
        return h->constant;
    ses_header_put_value(h, values, s);
    return arena_dup(&s->arena, slice_trim(buf_slice(&s->header)));
}

enum ses_fit ses_fields_render(const struct ses_batch *b, const struct slice *values,
                               struct ses_scratch *s, struct ses_fields *fields, struct err *err)
{
    bool no_list_unsubscribe = b->lost_list_unsubscribe;

    fields->list = arena_array(&s->arena, b->header_count + 1, sizeof *fields->list);
    fields->count = 0;
    for (size_t i = 0; i < b->header_count; i++) {
        const struct ses_header *h = &b->headers[i];
        struct slice value = value_of(h, values, s);
        if (value.len == 0) {
            no_list_unsubscribe = no_list_unsubscribe || h->is_list_unsubscribe;
            continue;
        }
        if (!name_fits(h->name)) {
            (void)err_set(err, ERR_INPUT, "Header %.*s: is no name that a mail can have",
                          SLICE_ARGS(h->name));
            return SES_REFUSED;
        }
        fields->list[fields->count++] = (struct name_value){h->name, value};
    }
    if (no_list_unsubscribe) {
        size_t kept = 0;
        for (size_t i = 0; i < fields->count; i++)
            if (!slice_eq_nocase(fields->list[i].name, SLICE("list-unsubscribe-post")))
                fields->list[kept++] = fields->list[i];
        fields->count = kept;
    }
    if (b->var_count > 0) {
        struct slice value = b->vars_constant;
        if (b->vars_vary) {
            put_variables(b, values, s);
            value = arena_dup(&s->arena, buf_slice(&s->header));
        }
        if (value.len > 0)
            fields->list[fields->count++] =
                (struct name_value){SLICE("X-Mailgun-Variables"), value};
    }
    return SES_FITS;
}

bool ses_fields_fit_list(const struct ses_fields *fields)
{
    if (fields->count > SES_HEADERS_MAX)
        return false;
    for (size_t i = 0; i < fields->count; i++)
        if (fields->list[i].value.len > SES_HEADER_VALUE_MAX)
            return false;
    return true;
}

void ses_fields_put_json(struct buf *to, const struct name_value *list, size_t count)
{
    buf_add_byte(to, '[');
    for (size_t i = 0; i < count; i++) {
        buf_add_str(to, i == 0 ? "{\"Name\":" : ",{\"Name\":");
        json_put_text(to, list[i].name);
        buf_add_str(to, ",\"Value\":");
        json_put_text(to, list[i].value);
        buf_add_byte(to, '}');
    }
    buf_add_byte(to, ']');
}
