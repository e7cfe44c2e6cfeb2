/*
 * How large a mail would be, before anything of it is made: sums over the parts of its templates. A
 * value of a megabyte that a template names a thousand times costs its reader the mail, and nobody
 * any memory.
 */
#include "base/json.h"
#include "mail/ses_parts.h"

/* What a byte can grow to when it is escaped: so much that counting them is rarely worth it. */
enum { JSON_GROWTH_MAX = 6, MIME_GROWTH_MAX = 4 };

bool ses_line_fits(struct slice name, size_t bytes, struct err *err)
{
    if (bytes <= SES_LINE_MAX)
        return true;
    (void)err_set(err, ERR_INPUT, "Header %.*s: would have %zu bytes: %d at most", SLICE_ARGS(name),
                  bytes, SES_LINE_MAX);
    return false;
}

bool ses_size_fits(size_t bytes, struct err *err)
{
    if (bytes <= SES_MESSAGE_MAX)
        return true;
    (void)err_set(err, ERR_INPUT, "The mail has %zu bytes at least: SES takes %d at most", bytes,
                  SES_MESSAGE_MAX);
    return false;
}

size_t ses_header_length(const struct ses_header *h, const struct slice *values)
{
    size_t bytes = 0;

    for (size_t i = 0; i < h->count; i++)
        bytes += render_length(&h->elements[i], values);
    return bytes;
}

static bool add_line(const char *name, const struct render_template *t, const struct slice *values,
                     size_t *total, struct err *err)
{
    size_t bytes = render_length(t, values);

    *total += bytes;
    return ses_line_fits(slice_str(name), bytes, err);
}

bool ses_mail_fits(const struct ses_batch *b, const struct slice *values, struct err *err)
{
    const struct render_template *const texts[] = {&b->text, &b->html, &b->amp_html};
    size_t bytes = b->visible_to.len + b->visible_cc.len;

    if (!add_line("From", &b->from, values, &bytes, err) ||
        !add_line("Reply-To", &b->reply_to, values, &bytes, err) ||
        !add_line("Subject", &b->subject, values, &bytes, err))
        return false;
    for (size_t i = 0; i < b->header_count; i++) {
        size_t line = ses_header_length(&b->headers[i], values);
        if (!ses_line_fits(b->headers[i].name, line, err))
            return false;
        bytes += line;
    }
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        bytes += render_length(texts[i], values);
    for (size_t i = 0; b->encoded_attachments != NULL && i < b->content->attachment_count; i++)
        bytes += b->encoded_attachments[i].len;
    return (b->mime == NULL || ses_mime_fits(b, values, &bytes, err)) && ses_size_fits(bytes, err);
}

static size_t json_length(const struct render_template *json, const struct slice *values)
{
    size_t bytes = json->literal_bytes;

    for (size_t i = 0; i < json->count; i++)
        if (json->parts[i].slot != RENDER_LITERAL)
            bytes += json_escaped_length(values[json->parts[i].slot]);
    return bytes;
}

bool ses_json_fits(const struct ses_batch *b, const struct slice *values)
{
    size_t plain = render_length(&b->text, values) + render_length(&b->html, values);

    return plain * JSON_GROWTH_MAX <= SES_MESSAGE_MAX ||
           json_length(&b->json_text, values) + json_length(&b->json_html, values) <=
               SES_MESSAGE_MAX;
}

bool ses_text_fits(size_t before, struct slice text, enum mime_encoding encoding, struct err *err)
{
    return before + text.len * MIME_GROWTH_MAX <= SES_MESSAGE_MAX ||
           ses_size_fits(before + mime_text_length(text, encoding), err);
}

bool ses_content_fits(const struct mime_message *m, struct err *err)
{
    size_t plain = m->text.len + m->html.len + m->amp_html.len, rest = 0;

    for (size_t i = 0; i < m->header_count; i++)
        rest += m->headers[i].name.len + m->headers[i].value.len;
    for (size_t i = 0; i < m->attachment_count; i++)
        rest += m->encoded[i].len;
    return plain * MIME_GROWTH_MAX + rest <= SES_MESSAGE_MAX ||
           ses_size_fits(mime_content_length(m), err);
}
