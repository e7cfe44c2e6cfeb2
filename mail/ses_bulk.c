/*
 * SendBulkEmail with an inline template: what all recipients share crosses the wire once.
 *
 * Each %recipient.KEY% becomes a template variable, v<slot> in the bodies and s<slot> in the
 * subject (where line breaks are blanks). SES does not escape values and does not look into them
 * again, so they arrive verbatim. Literal text must not look like Handlebars: a brace or backslash
 * that could be read as syntax is carried by a variable of its own (lc, rc, bs).
 */
#include <assert.h>

#include "base/json.h"
#include "mail/ses_parts.h"

#define CONSTANT_DATA "\"lc\":\"{\",\"rc\":\"}\",\"bs\":\"\\\\\""

/* ---- literal text, safe in a template ---- */

static bool ends_in_slot(const struct render_template *t, size_t next)
{
    return next < t->count && t->parts[next].slot != RENDER_LITERAL;
}

/* Appends a literal. after, before: a placeholder stands directly before or behind it. */
static void put_literal(struct buf *to, struct slice text, bool after, bool before,
                        uint8_t *carried)
{
    bool next_is_placeholder = before;

    /* From the end: a { is syntax before another one or before a placeholder, a \ before a
     * placeholder. */
    for (size_t i = text.len; i-- > 0;) {
        uint8_t c = text.ptr[i];
        bool next_is_brace = i + 1 < text.len && text.ptr[i + 1] == '{';
        bool previous_is_brace = c == '{' && i > 0 && text.ptr[i - 1] == '{';
        carried[i] = (c == '{' && (next_is_brace || previous_is_brace || next_is_placeholder)) ||
                     (c == '\\' && next_is_placeholder);
        next_is_placeholder = carried[i] != 0;
    }
    size_t from = 0;
    bool previous_is_placeholder = after;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (c == '}' && previous_is_placeholder)
            carried[i] = 1;
        previous_is_placeholder = carried[i] != 0;
        if (!carried[i])
            continue;
        json_put_escaped(to, slice_of(text.ptr + from, i - from));
        buf_add_str(to, c == '{' ? "{{lc}}" : c == '}' ? "{{rc}}" : "{{bs}}");
        from = i + 1;
    }
    json_put_escaped(to, slice_from(text, from));
}

static void put_template(struct buf *to, const struct render_template *t, char prefix, bool *used)
{
    size_t longest = 0;

    for (size_t i = 0; i < t->count; i++)
        if (t->parts[i].slot == RENDER_LITERAL && t->parts[i].literal.len > longest)
            longest = t->parts[i].literal.len;
    struct buf carried = {0};
    uint8_t *marks = buf_reserve(&carried, longest + 1);
    bool after = false;
    for (size_t i = 0; i < t->count; i++) {
        const struct render_part *part = &t->parts[i];
        if (part->slot != RENDER_LITERAL) {
            buf_printf(to, "{{%c%u}}", prefix, part->slot);
            used[part->slot] = true;
            after = true;
            continue;
        }
        put_literal(to, part->literal, after, ends_in_slot(t, i + 1), marks);
        /* Neighbouring literals (something between them was erased) were cut at no syntax: what
         * the first one ends in counts as text unless it was carried. */
        after = part->literal.len > 0 && marks[part->literal.len - 1] != 0;
    }
    buf_fini(&carried);
}

/* Two literals beside each other could make syntax together: { and {. So they are made one. */
static struct render_template joined(const struct render_template *t, struct arena *a)
{
    struct render_template j = *t;
    struct buf text = {0};

    j.parts = arena_array(a, t->count, sizeof *j.parts);
    j.count = 0;
    for (size_t i = 0; i < t->count; i++) {
        j.parts[j.count++] = t->parts[i];
        if (t->parts[i].slot != RENDER_LITERAL)
            continue;
        buf_reset(&text);
        buf_add_slice(&text, t->parts[i].literal);
        size_t first = i;
        while (i + 1 < t->count && t->parts[i + 1].slot == RENDER_LITERAL)
            buf_add_slice(&text, t->parts[++i].literal);
        if (i > first)
            j.parts[j.count - 1].literal = arena_dup(a, buf_slice(&text));
    }
    buf_fini(&text);
    return j;
}

/* ---- compiling ---- */

static bool put_defaults(const struct ses_batch *b, struct buf *to)
{
    struct buf data = {0};

    buf_add_str(&data, "{" CONSTANT_DATA);
    for (size_t slot = 0; slot < render_slot_count(b->keys); slot++) {
        if (b->used_in_body[slot])
            buf_printf(&data, ",\"v%zu\":\"\"", slot);
        if (b->used_in_subject[slot])
            buf_printf(&data, ",\"s%zu\":\"\"", slot);
    }
    buf_add_byte(&data, '}');
    json_put_text(to, buf_slice(&data));
    bool fits = data.len <= SES_TEMPLATE_DATA_MAX;
    buf_fini(&data);
    return fits;
}

/* A header that is the same in all mails, and holds nothing that a template engine might read. */
static bool is_shared(const struct ses_batch *b, const struct ses_header *h)
{
    return !h->varies && !(h->needs_list_unsubscribe && b->bulk_varies_list_unsubscribe) &&
           slice_find(h->constant, SLICE("{{")) == SIZE_MAX;
}

static bool is_shared_variables(const struct ses_batch *b)
{
    return !b->vars_vary && slice_find(b->vars_constant, SLICE("{{")) == SIZE_MAX;
}

static bool is_shared_field(const struct ses_batch *b, struct slice name, struct slice value)
{
    if (value.ptr == b->vars_constant.ptr && value.len > 0)
        return is_shared_variables(b);
    for (size_t i = 0; i < b->header_count; i++)
        if (b->headers[i].constant.ptr == value.ptr && slice_eq(b->headers[i].name, name))
            return is_shared(b, &b->headers[i]);
    return false;
}

/* Sorts a mail's fields into shared ones (first) and its own; returns how many are shared. */
static size_t sort_fields(const struct ses_batch *b, struct ses_fields *fields, struct arena *a)
{
    struct name_value *own = arena_array(a, fields->count, sizeof *own);
    size_t shared = 0, own_count = 0;

    for (size_t i = 0; i < fields->count; i++)
        if (is_shared_field(b, fields->list[i].name, fields->list[i].value))
            fields->list[shared++] = fields->list[i];
        else
            own[own_count++] = fields->list[i];
    if (own_count > 0)
        memcpy(fields->list + shared, own, own_count * sizeof *own);
    return shared;
}

static bool put_prefix(struct ses_batch *b, struct ses_scratch *s, struct arena *a, struct buf *to)
{
    struct render_template subject = joined(&b->subject, a), text = joined(&b->text, a),
                           html = joined(&b->html, a);
    struct slice *values = arena_array(&s->arena, render_slot_count(b->keys), sizeof *values);
    struct ses_fields fields;
    struct err err;

    buf_add_byte(to, '{');
    if (!ses_put_from(b, values, s, to, &err) || !ses_put_reply_to(b, values, s, to, &err) ||
        ses_fields_render(b, values, s, &fields, &err) != SES_FITS)
        return false;
    buf_add_str(to, ",\"DefaultContent\":{\"Template\":{\"TemplateContent\":{\"Subject\":\"");
    put_template(to, &subject, 's', b->used_in_subject);
    if (text.count > 0) {
        buf_add_str(to, "\",\"Text\":\"");
        put_template(to, &text, 'v', b->used_in_body);
    }
    if (html.count > 0) {
        buf_add_str(to, "\",\"Html\":\"");
        put_template(to, &html, 'v', b->used_in_body);
    }
    buf_add_str(to, "\"},\"TemplateData\":");
    if (!put_defaults(b, to))
        return false;
    fields.count = sort_fields(b, &fields, &s->arena);
    if (!ses_fields_fit_list(&fields))
        return false;
    if (fields.count > 0) {
        buf_add_str(to, ",\"Headers\":");
        ses_fields_put_json(to, fields.list, fields.count);
    }
    buf_add_str(to, "}}");
    buf_add_slice(to, b->tail);
    buf_add_str(to, ",\"BulkEmailEntries\":[");
    return to->len <= SES_BULK_PREFIX_MAX;
}

bool ses_bulk_compile(struct ses_batch *b, struct arena *a)
{
    struct ses_scratch s = {0};
    struct buf prefix = {0};

    /* A recipient's header would replace all of that name. */
    for (size_t i = 0; i < b->header_count; i++)
        for (size_t k = i + 1; k < b->header_count; k++)
            if (slice_eq_nocase(b->headers[i].name, b->headers[k].name))
                return false;
    /* Whether a template may do without a subject is not documented. */
    if (!b->subject.varies && b->subject.literal_bytes == 0)
        return false;
    /* One From and one Reply-To for the whole call, and no more copies than one message takes. */
    if (b->from.varies || b->reply_to.varies || b->text.count + b->html.count == 0 ||
        b->setup->other_count >= SES_DESTINATIONS_MAX)
        return false;
    for (size_t i = 0; i < b->header_count; i++)
        if (b->headers[i].is_list_unsubscribe && b->headers[i].varies)
            b->bulk_varies_list_unsubscribe = true;
    b->used_in_body = arena_array(a, render_slot_count(b->keys), sizeof(bool));
    b->used_in_subject = arena_array(a, render_slot_count(b->keys), sizeof(bool));
    bool ok = put_prefix(b, &s, a, &prefix);
    if (ok)
        b->bulk_prefix = arena_dup(a, buf_slice(&prefix));
    buf_fini(&prefix);
    ses_scratch_fini(&s);
    return ok;
}

/* ---- one call ---- */

static void put_value(struct buf *data, char prefix, size_t slot, struct slice value)
{
    buf_add_str(data, data->len == 1 ? "\"" : ",\"");
    buf_add_byte(data, (uint8_t)prefix);
    buf_add_u64(data, slot);
    buf_add_str(data, "\":\"");
    json_put_escaped(data, value);
    buf_add_byte(data, '"');
}

/* The recipient's values as a JSON text within JSON. False when they are too long for SES: of those
 * nothing may be made. */
static bool put_data(const struct ses_batch *b, const struct slice *values, struct ses_scratch *s,
                     struct buf *to)
{
    size_t bytes = 0;

    for (size_t slot = 0; slot < render_slot_count(b->keys); slot++)
        bytes += values[slot].len *
                 ((b->used_in_body[slot] ? 1U : 0U) + (b->used_in_subject[slot] ? 1U : 0U));
    if (bytes > SES_TEMPLATE_DATA_MAX)
        return false;
    buf_reset(&s->header);
    buf_add_byte(&s->header, '{');
    for (size_t slot = 0; slot < render_slot_count(b->keys); slot++) {
        if (values[slot].len == 0)
            continue; /* as the defaults have it */
        if (b->used_in_body[slot])
            put_value(&s->header, 'v', slot, values[slot]);
        if (b->used_in_subject[slot]) {
            buf_reset(&s->text);
            buf_add_slice(&s->text, values[slot]);
            ses_flatten(&s->text);
            put_value(&s->header, 's', slot, buf_slice(&s->text));
        }
    }
    buf_add_byte(&s->header, '}');
    json_put_text(to, buf_slice(&s->header));
    return s->header.len <= SES_TEMPLATE_DATA_MAX;
}

static bool put_entry(const struct ses_batch *b, const struct recipient *reader, uint32_t index,
                      struct ses_scratch *s, struct buf *to)
{
    struct ses_fields fields;
    struct err err;

    arena_reset(&s->arena);
    struct slice *values = ses_values_of(b, reader, s);
    if (!ses_mail_fits(b, values, &err) ||
        ses_fields_render(b, values, s, &fields, &err) != SES_FITS || !ses_fields_fit_list(&fields))
        return false;
    buf_add_byte(to, '{');
    if (!ses_put_destination(b, reader, 1, 1, false, s, to, &err))
        return false;
    buf_add_str(to, ",\"ReplacementTags\":");
    ses_put_tags(b, reader, index, s, to);
    buf_add_str(to, ",\"ReplacementEmailContent\":{\"ReplacementTemplate\":"
                    "{\"ReplacementTemplateData\":");
    if (!put_data(b, values, s, to))
        return false;
    buf_add_str(to, "}}");
    size_t shared = sort_fields(b, &fields, &s->arena);
    /* Whether SES looks for variables in a recipient's headers is not documented. */
    for (size_t i = shared; i < fields.count; i++)
        if (slice_find(fields.list[i].value, SLICE("{{")) != SIZE_MAX)
            return false;
    if (fields.count > shared) {
        buf_add_str(to, ",\"ReplacementHeaders\":");
        ses_fields_put_json(to, fields.list + shared, fields.count - shared);
    }
    buf_add_byte(to, '}');
    return true;
}

uint64_t ses_render_bulk(const struct ses_batch *b, const struct recipient *list, size_t count,
                         uint64_t mask, unsigned most, uint32_t first, struct ses_scratch *s,
                         struct buf *to, uint64_t *apart)
{
    enum { END_BYTES = 2 };
    uint64_t in = 0;
    size_t start = to->len;

    assert(b->way == SES_BULK && mask != 0 && most > 0);
    *apart = 0;
    buf_add_slice(to, b->bulk_prefix);
    for (; mask != 0 && most > 0; mask &= mask - 1) {
        unsigned at = (unsigned)__builtin_ctzll(mask);
        size_t before = to->len;
        assert(at < count);
        if (in != 0)
            buf_add_byte(to, ',');
        if (!put_entry(b, &list[at], first + at, s, to)) {
            to->len = before;
            *apart |= UINT64_C(1) << at;
            continue;
        }
        if (to->len - start + END_BYTES > SES_BULK_BODY_MAX) {
            to->len = before;
            if (in == 0) { /* alone it is too much already */
                *apart |= UINT64_C(1) << at;
                continue;
            }
            break;
        }
        in |= UINT64_C(1) << at;
        most--;
    }
    buf_add_str(to, "]}");
    return in;
}
