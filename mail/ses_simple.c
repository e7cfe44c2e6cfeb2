#include <assert.h>

#include "base/json.h"
#include "mail/ses_parts.h"

static void put_text(const struct render_template *t, const struct slice *values, struct buf *to)
{
    for (size_t i = 0; i < t->count; i++)
        if (t->parts[i].slot == RENDER_LITERAL)
            buf_add_slice(to, t->parts[i].literal);
        else
            json_put_escaped(to, values[t->parts[i].slot]);
}

/* One line, whatever the values hold. */
static void put_subject(const struct ses_batch *b, const struct slice *values,
                        struct ses_scratch *s, struct buf *to)
{
    buf_reset(&s->text);
    render_run(&b->subject, values, &s->text);
    ses_flatten(&s->text);
    json_put_escaped(to, buf_slice(&s->text));
}

static enum ses_fit put_content(const struct ses_batch *b, const struct slice *values,
                                struct ses_scratch *s, struct buf *to, struct err *err)
{
    struct ses_fields fields;

    if (ses_fields_render(b, values, s, &fields, err) != SES_FITS)
        return SES_REFUSED;
    if (!ses_fields_fit_list(&fields) || !ses_json_fits(b, values))
        return SES_NEEDS_RAW;
    buf_add_str(to, ",\"Content\":{\"Simple\":{\"Subject\":{\"Data\":\"");
    put_subject(b, values, s, to);
    buf_add_str(to, "\",\"Charset\":\"UTF-8\"},\"Body\":{");
    if (b->text.count > 0) {
        buf_add_str(to, "\"Text\":{\"Data\":\"");
        put_text(&b->json_text, values, to);
        buf_add_str(to, "\",\"Charset\":\"UTF-8\"}");
    }
    if (b->html.count > 0) {
        buf_add_str(to, b->text.count > 0 ? ",\"Html\":{\"Data\":\"" : "\"Html\":{\"Data\":\"");
        put_text(&b->json_html, values, to);
        buf_add_str(to, "\",\"Charset\":\"UTF-8\"}");
    }
    buf_add_byte(to, '}');
    if (fields.count > 0) {
        buf_add_str(to, ",\"Headers\":");
        ses_fields_put_json(to, fields.list, fields.count);
    }
    buf_add_str(to, "}}");
    return SES_FITS;
}

enum ses_fit ses_render_one(const struct ses_batch *b, enum ses_way way,
                            const struct recipient *list, size_t count, uint64_t mask,
                            uint32_t first, struct ses_scratch *s, struct buf *to, struct err *err)
{
    assert(way != SES_BULK && mask != 0 && count > 0 && count <= MESSAGE_SLICE);
    unsigned at = (unsigned)__builtin_ctzll(mask);
    assert(at < count && (!b->batch_mode || (mask & (mask - 1)) == 0));

    arena_reset(&s->arena);
    const struct slice *values = ses_values_of(b, &list[at], s);
    if (!ses_mail_fits(b, values, err))
        return SES_REFUSED;
    if (way == SES_RAW)
        return ses_raw_render(b, list, count, mask, first, values, s, to, err);
    buf_add_byte(to, '{');
    if (!ses_put_from(b, values, s, to, err))
        return SES_REFUSED;
    buf_add_byte(to, ',');
    if (!ses_put_destination(b, list, count, mask, false, s, to, err) ||
        !ses_put_reply_to(b, values, s, to, err))
        return SES_REFUSED;
    enum ses_fit fit = put_content(b, values, s, to, err);
    if (fit != SES_FITS)
        return fit;
    buf_add_str(to, ",\"EmailTags\":");
    ses_put_tags(b, &list[at], first + at, s, to);
    buf_add_slice(to, b->tail);
    buf_add_byte(to, '}');
    return SES_FITS;
}
