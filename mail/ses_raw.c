/*
 * SendEmail with Raw content: whatever the other two cannot express, as a whole MIME message.
 */
#include "base/digest.h"
#include "base/json.h"
#include "mail/ses_address.h"
#include "mail/ses_parts.h"

enum {
    LINE_MAX_BYTES = 990, /* a word of a header that is longer cannot be folded into a mail line */
    OWN_FIELDS = 5,       /* From, To, Cc, Reply-To, Subject */
};

/* A header text of mailboxes, in the arena. A reader that cannot stand there is left out. */
static struct slice mailbox_line(const struct recipient *list, size_t count,
                                 enum recipient_kind kind, struct arena *a)
{
    struct buf line = {0}, one = {0};

    for (size_t i = 0; i < count; i++) {
        if (list[i].kind != kind)
            continue;
        buf_reset(&one);
        if (!ses_mailbox_encode(&one, list[i].name, list[i].address))
            continue;
        buf_add_str(&line, line.len > 0 ? ", " : "");
        buf_add_slice(&line, buf_slice(&one));
    }
    struct slice kept = arena_dup(a, buf_slice(&line));
    buf_fini(&line);
    buf_fini(&one);
    return kept;
}

void ses_raw_compile(struct ses_batch *b, struct arena *a)
{
    const struct message_content *c = b->content;

    b->visible_to = mailbox_line(b->setup->others, b->setup->other_count, RECIPIENT_TO, a);
    b->visible_cc = mailbox_line(b->setup->others, b->setup->other_count, RECIPIENT_CC, a);
    if (c->attachment_count == 0)
        return;
    struct slice *encoded = arena_array(a, c->attachment_count, sizeof *encoded);
    struct buf lines = {0};
    for (size_t i = 0; i < c->attachment_count; i++) {
        buf_reset(&lines);
        mime_base64_lines(&lines, c->attachments[i].data);
        encoded[i] = arena_dup(a, buf_slice(&lines));
    }
    buf_fini(&lines);
    b->encoded_attachments = encoded;
}

static struct slice run(const struct render_template *t, const struct slice *values,
                        struct arena *a)
{
    struct buf text = {0};

    if (!t->varies && t->count <= 1)
        return t->count == 0 ? slice_none() : t->parts[0].literal;
    text.cap = render_length(t, values);
    text.ptr = arena_alloc(a, text.cap); /* all that it needs: it does not grow */
    render_run(t, values, &text);
    return buf_slice(&text);
}

bool ses_value_folds(struct slice value)
{
    size_t word = 0;

    for (size_t i = 0; i < value.len; i++) {
        word = value.ptr[i] == ' ' ? 0 : word + 1;
        if (word > LINE_MAX_BYTES)
            return false;
    }
    return true;
}

static struct slice mailboxes(const char *what, const struct render_template *t,
                              const struct slice *values, size_t most, struct ses_scratch *s,
                              struct err *err)
{
    struct buf line = {0};
    struct slice kept = slice_none();

    if (ses_put_mailboxes(what, ses_line_of(t, values, s), most, false, s, &line, err))
        kept = arena_dup(&s->arena, buf_slice(&line));
    buf_fini(&line);
    return kept;
}

static void add(struct name_value *list, size_t *count, const char *name, struct slice value)
{
    if (value.len > 0)
        list[(*count)++] = (struct name_value){slice_str(name), value};
}

/* All header fields. NULL and *err when one cannot be written. */
static struct name_value *fields_of(const struct ses_batch *b, const struct recipient *list,
                                    size_t count, const struct slice *values, struct ses_scratch *s,
                                    size_t *field_count, struct err *err)
{
    struct ses_fields own;

    if (ses_fields_render(b, values, s, &own, err) != SES_FITS)
        return NULL;
    struct name_value *all = arena_array(&s->arena, OWN_FIELDS + own.count, sizeof *all);
    struct slice from = mailboxes("Sender", &b->from, values, 1, s, err), to = b->visible_to;
    if (from.len == 0)
        return NULL;
    if (b->batch_mode || to.len + b->visible_cc.len == 0)
        to = mailbox_line(list, count, RECIPIENT_TO, &s->arena);
    struct slice cc = b->visible_cc;
    if (!b->batch_mode && cc.len == 0 && b->visible_to.len == 0)
        cc = mailbox_line(list, count, RECIPIENT_CC, &s->arena);
    *field_count = 0;
    add(all, field_count, "From", from);
    add(all, field_count, "To", to);
    add(all, field_count, "Cc", cc);
    if (b->has_reply_to && ses_line_of(&b->reply_to, values, s).len > 0) {
        struct slice reply_to = mailboxes("Reply-To", &b->reply_to, values, SIZE_MAX, s, err);
        if (reply_to.len == 0)
            return NULL;
        add(all, field_count, "Reply-To", reply_to);
    }
    struct slice subject = ses_line_of(&b->subject, values, s);
    buf_reset(&s->header);
    ses_text_encode(&s->header, subject);
    add(all, field_count, "Subject", arena_dup(&s->arena, buf_slice(&s->header)));
    for (size_t i = 0; i < own.count; i++)
        all[(*field_count)++] = own.list[i];
    for (size_t i = 0; i < *field_count; i++)
        if (!ses_value_folds(all[i].value)) {
            (void)err_set(err, ERR_INPUT, "Header %.*s: holds a word longer than a mail line",
                          SLICE_ARGS(all[i].name));
            return NULL;
        }
    return all;
}

/* The whole message, in s->mime. */
static bool write_message(const struct ses_batch *b, const struct recipient *list, size_t count,
                          unsigned at, uint32_t number, const struct slice *values,
                          struct ses_scratch *s, struct err *err)
{
    uint64_t seed[2] = {b->setup->batch_id, number};
    struct recipient one = list[at];

    buf_reset(&s->mime);
    if (b->mime != NULL)
        return ses_mime_write(b, &one, values, s, &s->mime, err);
    one.kind = RECIPIENT_TO;
    struct mime_message m = {
        .text = run(&b->text, values, &s->arena),
        .html = run(&b->html, values, &s->arena),
        .amp_html = run(&b->amp_html, values, &s->arena),
        .attachments = b->content->attachments,
        .attachment_count = b->content->attachment_count,
        .encoded = b->encoded_attachments,
        .boundary_seed = (const uint8_t *)seed,
    };
    m.headers = fields_of(b, b->batch_mode ? &one : list, b->batch_mode ? 1 : count, values, s,
                          &m.header_count, err);
    if (m.headers == NULL || !ses_content_fits(&m, err))
        return false;
    mime_write(&s->mime, &m);
    return true;
}

enum ses_fit ses_raw_render(const struct ses_batch *b, const struct recipient *list, size_t count,
                            uint64_t mask, uint32_t first, const struct slice *values,
                            struct ses_scratch *s, struct buf *to, struct err *err)
{
    unsigned at = (unsigned)__builtin_ctzll(mask);

    if (!write_message(b, list, count, at, first + at, values, s, err) ||
        !ses_size_fits(s->mime.len, err))
        return SES_REFUSED;
    buf_add_byte(to, '{');
    if (!(b->mime != NULL ? ses_mime_put_from : ses_put_from)(b, values, s, to, err))
        return SES_REFUSED;
    buf_add_byte(to, ',');
    if (!ses_put_destination(b, list, count, mask, true, s, to, err))
        return SES_REFUSED;
    buf_add_str(to, ",\"Content\":{\"Raw\":{\"Data\":\"");
    text_base64(to, buf_slice(&s->mime));
    buf_add_str(to, "\"}},\"EmailTags\":");
    ses_put_tags(b, &list[at], first + at, s, to);
    buf_add_slice(to, b->tail);
    buf_add_byte(to, '}');
    return SES_FITS;
}
