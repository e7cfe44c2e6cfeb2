#include "mail/ses_parts.h"

#include <inttypes.h>

#include "base/digest.h"
#include "base/json.h"
#include "mail/own_event.h"
#include "mail/ses_address.h"

void ses_scratch_fini(struct ses_scratch *s)
{
    arena_fini(&s->arena);
    buf_fini(&s->text);
    buf_fini(&s->header);
    buf_fini(&s->mime);
}

void ses_flatten(struct buf *b)
{
    for (size_t i = 0; i < b->len; i++)
        if (b->ptr[i] < 0x20 || b->ptr[i] == 0x7f)
            b->ptr[i] = ' ';
}

struct slice ses_line_of(const struct render_template *t, const struct slice *values,
                         struct ses_scratch *s)
{
    buf_reset(&s->text);
    render_run(t, values, &s->text);
    ses_flatten(&s->text);
    return slice_trim(buf_slice(&s->text));
}

struct slice *ses_values_of(const struct ses_batch *b, const struct recipient *reader,
                            struct ses_scratch *s)
{
    struct slice *values = arena_array(&s->arena, render_slot_count(b->keys), sizeof *values);

    if (b->batch_mode)
        s->unresolved += b->unknown_count + render_values(b->keys, reader, &s->arena, values);
    return values;
}

static bool refuse(struct err *err, const char *what, struct slice which, const char *why)
{
    (void)err_set(err, ERR_INPUT, "%s %.*s: %s", what, SLICE_ARGS(which), why);
    return false;
}

bool ses_put_mailboxes(const char *what, struct slice text, size_t most, bool json,
                       struct ses_scratch *s, struct buf *to, struct err *err)
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
            buf_add_str(to, json ? "," : ", ");
        if (json)
            json_put_text(to, buf_slice(&s->header));
        else
            buf_add_slice(to, buf_slice(&s->header));
    }
    return true;
}

bool ses_put_from(const struct ses_batch *b, const struct slice *values, struct ses_scratch *s,
                  struct buf *to, struct err *err)
{
    buf_add_str(to, "\"FromEmailAddress\":");
    return ses_put_mailboxes("Sender", ses_line_of(&b->from, values, s), 1, true, s, to, err);
}

bool ses_put_reply_to(const struct ses_batch *b, const struct slice *values, struct ses_scratch *s,
                      struct buf *to, struct err *err)
{
    struct slice line = ses_line_of(&b->reply_to, values, s);

    if (!b->has_reply_to || line.len == 0)
        return true;
    buf_add_str(to, ",\"ReplyToAddresses\":[");
    if (!ses_put_mailboxes("Reply-To", line, SIZE_MAX, true, s, to, err))
        return false;
    buf_add_byte(to, ']');
    return true;
}

bool ses_recipient_fits(const struct recipient *r, struct ses_scratch *s, struct err *err)
{
    buf_reset(&s->header);
    return ses_mailbox_encode(&s->header, r->name, r->address) ||
           refuse(err, "Recipient", r->address,
                  "SES takes ASCII before the @ and a domain name behind it only");
}

struct destination {
    struct ses_scratch *s;
    struct buf *to;
    bool any_list, any_address; /* of this kind */
    bool bare;
};

static bool put_address(struct destination *d, unsigned kind, const struct recipient *r,
                        struct err *err)
{
    static const char *const names[] = {"ToAddresses", "CcAddresses", "BccAddresses"};

    if (!ses_recipient_fits(r, d->s, err))
        return false;
    if (d->bare && r->name.len > 0) {
        buf_reset(&d->s->header);
        (void)ses_mailbox_encode(&d->s->header, slice_none(), r->address);
    }
    if (d->any_address) {
        buf_add_byte(d->to, ',');
    } else {
        buf_printf(d->to, "%s\"%s\":[", d->any_list ? "," : "", names[kind]);
        d->any_list = d->any_address = true;
    }
    json_put_text(d->to, buf_slice(&d->s->header));
    return true;
}

bool ses_put_destination(const struct ses_batch *b, const struct recipient *list, size_t count,
                         uint64_t mask, bool bare, struct ses_scratch *s, struct buf *to,
                         struct err *err)
{
    struct destination d = {.s = s, .to = to, .bare = bare};

    buf_add_str(to, "\"Destination\":{");
    for (unsigned kind = RECIPIENT_TO; kind <= RECIPIENT_BCC; kind++) {
        d.any_address = false;
        for (size_t i = 0; i < count; i++) {
            /* In batch mode the one reader is in To, whatever list named it. */
            unsigned own = b->batch_mode ? RECIPIENT_TO : (unsigned)list[i].kind;
            if ((mask >> i & 1) != 0 && own == kind && !put_address(&d, kind, &list[i], err))
                return false;
        }
        for (size_t i = 0; b->batch_mode && i < b->setup->other_count; i++)
            if (b->setup->others[i].kind == kind &&
                !put_address(&d, kind, &b->setup->others[i], err))
                return false;
        if (d.any_address)
            buf_add_byte(to, ']');
    }
    buf_add_byte(to, '}');
    return true;
}

static void put_meta(const struct ses_batch *b, const struct recipient *reader,
                     struct ses_scratch *s)
{
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
}

void ses_put_tags(const struct ses_batch *b, const struct recipient *reader, uint32_t index,
                  struct ses_scratch *s, struct buf *to)
{
    buf_printf(to,
               "[{\"Name\":\"postern-batch\",\"Value\":\"%016" PRIx64
               "\"},{\"Name\":\"postern-rcpt\",\"Value\":\"%" PRIu32 "\"}",
               b->setup->batch_id, index);
    if (b->email_id.len > 0) {
        buf_add_str(to, ",{\"Name\":\"email-id\",\"Value\":");
        json_put_text(to, b->email_id);
        buf_add_byte(to, '}');
    }
    put_meta(b, reader, s);
    if (s->header.len <= SES_TAG_MAX) {
        buf_add_str(to, ",{\"Name\":\"postern-meta\",\"Value\":");
        json_put_text(to, buf_slice(&s->header));
        buf_add_byte(to, '}');
    }
    buf_add_byte(to, ']');
}
