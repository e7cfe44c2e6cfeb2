/*
 * A whole message that the client gave (POST …/messages.mime), by now as SES takes it
 * (mail/mime_clean.h). In batch mode it is cut into pieces once: those that hold variables are put
 * together for each reader, all others go out byte for byte.
 */
#include "base/json.h"
#include "mail/mime_read.h"
#include "mail/ses_address.h"
#include "mail/ses_parts.h"

enum piece_kind {
    PIECE_BYTES,
    PIECE_TEXT,           /* a body */
    PIECE_HEADER,         /* any field of the message, by its form */
    PIECE_LINE,           /* a field that keeps a placeholder nobody knows */
    PIECE_MAILBOXES,      /* left out when a value makes no address of them */
    PIECE_FROM,           /* the same, but needed */
    PIECE_TO,             /* the same, else the reader's own entry */
    PIECE_LIST_UNSUB_POST /* bytes that mean nothing without List-Unsubscribe */
};

/* Mailboxes are taken apart before their variables are filled in: what a value holds stays in the
 * name or address where it stands. */
struct boxes {
    struct box {
        struct render_template name, address;
    } * list;
    size_t count;
};

struct piece {
    enum piece_kind kind;
    struct slice bytes;
    struct slice name;
    struct render_template text; /* of TEXT, LINE */
    struct boxes boxes;          /* of MAILBOXES, FROM, TO */
    enum mime_encoding encoding; /* of TEXT */
    bool is_last_body;           /* nothing behind it ends its last line */
    const struct ses_header *header;
};

struct ses_mime {
    struct piece *pieces;
    size_t count, cap;
    bool is_broken;    /* what is in the store cannot be read */
    struct boxes from; /* when it holds variables */
};

/* ---- compiling ---- */

/* A text part that holds variables. */
struct text_part {
    bool is_template, has_type, has_header;
    struct render_template text;
    enum mime_encoding encoding;
};

struct cutting {
    struct ses_batch *b;
    struct ses_mime *m;
    struct arena *arena;
    struct mime_tree tree;
    struct text_part *parts; /* by entity */
    bool has_to;
};

static struct piece *add(struct cutting *c, enum piece_kind kind)
{
    struct ses_mime *m = c->m;

    if (m->count == m->cap) {
        m->cap = m->cap == 0 ? 16 : m->cap * 2;
        struct piece *more = arena_array(c->arena, m->cap, sizeof *more);
        if (m->count > 0)
            memcpy(more, m->pieces, m->count * sizeof *more);
        m->pieces = more;
    }
    m->pieces[m->count] = (struct piece){.kind = kind};
    return &m->pieces[m->count++];
}

/* Bytes that follow those before are one piece with them. */
static void add_bytes(struct cutting *c, struct slice bytes)
{
    struct piece *last = c->m->count == 0 ? NULL : &c->m->pieces[c->m->count - 1];

    if (bytes.len == 0)
        return;
    if (last != NULL && last->kind == PIECE_BYTES && last->bytes.ptr + last->bytes.len == bytes.ptr)
        last->bytes.len += bytes.len;
    else
        add(c, PIECE_BYTES)->bytes = bytes;
}

static void add_stretch(struct cutting *c, size_t begin, size_t end)
{
    add_bytes(c, slice_of(c->tree.message.ptr + begin, end - begin));
}

static bool is_utf8_name(struct slice charset)
{
    return slice_eq_nocase(charset, SLICE("utf-8")) || slice_eq_nocase(charset, SLICE("utf8"));
}

/* The text of a part, when it holds anything to replace. Of attachments nothing is replaced. */
static void look_for_variables(struct cutting *c, size_t entity)
{
    const struct mime_entity *e = &c->tree.entities[entity];
    struct text_part *p = &c->parts[entity];
    struct buf plain = {0}, text = {0};

    if (!e->is_text || e->is_attachment || e->is_attached)
        return;
    const struct mime_span *s = &c->tree.spans[e->body];
    struct slice body = slice_of(c->tree.message.ptr + s->begin, s->end - s->begin);
    if (mime_decode(body, e->given, &plain) && mime_to_utf8(buf_slice(&plain), e->charset, &text) &&
        slice_find_byte(buf_slice(&text), '%') != SIZE_MAX) {
        struct slice kept = arena_dup(c->arena, buf_slice(&text));
        render_compile(&p->text, kept, c->b->keys, c->arena);
        c->b->unknown_count += p->text.unknown_count;
        p->is_template = p->text.varies || p->text.erased_count > 0;
        /* Values may hold what 7bit cannot. */
        p->encoding = e->given == GIVEN_BASE64                ? MIME_BASE64
                      : e->given == GIVEN_QUOTED_PRINTABLE    ? MIME_QUOTED_PRINTABLE
                      : mime_encoding_of(kept) == MIME_BASE64 ? MIME_BASE64
                                                              : MIME_QUOTED_PRINTABLE;
    }
    buf_fini(&plain);
    buf_fini(&text);
}

static void add_line(struct cutting *c, const char *name, struct slice value)
{
    add_bytes(c, arena_printf(c->arena, "%s: %.*s\r\n", name, SLICE_ARGS(value)));
}

static void add_missing_fields(struct cutting *c, size_t entity)
{
    const struct text_part *p = &c->parts[entity];

    add_line(c, "Content-Transfer-Encoding", slice_str(mime_encoding_name(p->encoding)));
    if (!p->has_type)
        add_line(c, "Content-Type", SLICE("text/plain; charset=utf-8"));
}

/* A field in the header of a part whose text is a template. True: it has been dealt with. */
static bool add_part_field(struct cutting *c, const struct mime_span *f)
{
    struct text_part *p = &c->parts[f->entity];

    if (!p->is_template)
        return false;
    if (slice_eq_nocase(f->name, SLICE("content-transfer-encoding")))
        return true;
    if (!slice_eq_nocase(f->name, SLICE("content-type")))
        return false;
    p->has_type = true;
    if (is_utf8_name(c->tree.entities[f->entity].charset))
        return false;
    add_line(c, "Content-Type", mime_content_type(f->value, SLICE("utf-8"), c->arena));
    return true;
}

static struct render_template template_of(struct cutting *c, struct slice text)
{
    struct render_template t;

    render_compile(&t, text, c->b->keys, c->arena);
    return t;
}

/* name <%recipient_email%>: an address that is none before its variables are filled in. */
static bool split_box(struct slice text, struct arena *a, struct ses_mailbox *one)
{
    size_t open = slice_rfind_byte(text, '<');
    struct ses_mailbox *list;
    size_t count;

    if (open == SIZE_MAX || text.ptr[text.len - 1] != '>')
        return false;
    struct slice named = arena_printf(a, "%.*s<name@of.it>", SLICE_ARGS(slice_head(text, open)));
    if (!ses_mailboxes_parse(named, a, &list, &count) || count != 1)
        return false;
    one->name = list[0].name;
    one->address = slice_of(text.ptr + open + 1, text.len - open - 2);
    return true;
}

/* Count 0: it is no list of mailboxes. */
static struct boxes boxes_of(struct cutting *c, struct slice value)
{
    struct slice line = mime_line_of(value, c->arena);
    struct ses_mailbox one, *list = &one;
    struct boxes boxes = {0};
    size_t count = 1;

    if (!split_box(line, c->arena, &one) && !ses_mailboxes_parse(line, c->arena, &list, &count))
        return boxes;
    boxes.list = arena_array(c->arena, count, sizeof *boxes.list);
    boxes.count = count;
    for (size_t i = 0; i < count; i++) {
        boxes.list[i].name = template_of(c, mime_text_of(list[i].name, c->arena));
        boxes.list[i].address = template_of(c, list[i].address);
    }
    return boxes;
}

/* To names the reader: by a variable, or because the header names all of the batch. One address of
 * the author's choice stays. */
static bool add_to(struct cutting *c, const struct mime_span *f, const struct render_template *t)
{
    struct boxes boxes = boxes_of(c, f->value);

    c->has_to = true;
    if (!t->varies && t->erased_count == 0 && t->unknown_count == 0 && boxes.count <= 1)
        return false;
    struct piece *p = add(c, PIECE_TO);
    if (t->varies && t->unknown_count == 0)
        p->boxes = boxes;
    return true;
}

static bool add_mailboxes(struct cutting *c, const struct mime_span *f)
{
    bool is_from = slice_eq_nocase(f->name, SLICE("from"));
    struct boxes boxes;

    if (!is_from && !slice_eq_nocase(f->name, SLICE("cc")) &&
        !slice_eq_nocase(f->name, SLICE("reply-to")) && !slice_eq_nocase(f->name, SLICE("sender")))
        return false;
    boxes = boxes_of(c, f->value);
    if (is_from && boxes.count > 0)
        c->m->from = boxes;
    if (boxes.count == 0 && !is_from)
        return false;
    struct piece *p = add(c, is_from ? PIECE_FROM : PIECE_MAILBOXES);
    p->name = f->name;
    p->boxes = boxes;
    return true;
}

static bool is_fixed(struct slice name)
{
    return slice_starts_nocase(name, SLICE("content-")) ||
           slice_eq_nocase(name, SLICE("mime-version")) || slice_eq_nocase(name, SLICE("date"));
}

/* A field of the message. True: it has been dealt with. */
static bool add_field(struct cutting *c, const struct mime_span *f)
{
    struct slice text = mime_text_of(f->value, c->arena);
    struct render_template t;

    if (is_fixed(f->name))
        return false;
    if (slice_eq_nocase(f->name, SLICE("list-unsubscribe-post"))) {
        add(c, PIECE_LIST_UNSUB_POST)->bytes =
            slice_of(c->tree.message.ptr + f->begin, f->end - f->begin);
        return true;
    }
    render_compile(&t, text, c->b->keys, c->arena);
    if (slice_eq_nocase(f->name, SLICE("to")))
        return add_to(c, f, &t);
    if (!t.varies && t.erased_count == 0 && t.unknown_count == 0)
        return false;
    c->b->unknown_count += t.unknown_count;
    if (t.unknown_count == 0 && add_mailboxes(c, f))
        return true;
    if (slice_eq_nocase(f->name, SLICE("subject"))) {
        struct piece *p = add(c, PIECE_LINE);
        p->name = f->name;
        p->text = t;
    } else {
        struct ses_header *h = arena_alloc(c->arena, sizeof *h);
        bool left = ses_header_compile(c->b, h, f->name, text, c->arena);
        if (left)
            add(c, PIECE_HEADER)->header = h;
        else if (h->is_list_unsubscribe)
            c->b->lost_list_unsubscribe = true;
    }
    return true;
}

static void add_span(struct cutting *c, const struct mime_span *s)
{
    struct text_part *p = &c->parts[s->entity];

    switch (s->kind) {
    case MIME_FIELD:
        if (!add_part_field(c, s) && (s->entity != 0 || !add_field(c, s)))
            add_stretch(c, s->begin, s->end);
        return;
    case MIME_HEAD_END:
        p->has_header = true;
        if (s->entity == 0 && !c->has_to)
            (void)add(c, PIECE_TO);
        if (p->is_template)
            add_missing_fields(c, s->entity);
        return;
    case MIME_BODY:
        if (!p->is_template) {
            add_stretch(c, s->begin, s->end);
            return;
        }
        struct piece *body = add(c, PIECE_TEXT);
        body->text = p->text;
        body->encoding = p->encoding;
        body->is_last_body = s->end == c->tree.message.len;
        return;
    }
}

static void cut(struct cutting *c)
{
    size_t end = 0;

    c->parts = arena_array(c->arena, c->tree.entity_count, sizeof *c->parts);
    for (size_t i = 0; i < c->tree.entity_count; i++)
        if (c->tree.entities[i].is_leaf)
            look_for_variables(c, i);
    for (size_t i = 0; i < c->tree.span_count; i++) {
        const struct mime_span *s = &c->tree.spans[i];
        const struct text_part *p = &c->parts[s->entity];
        /* A part without a header begins with a blank line: its fields go before that. */
        bool bare = s->kind == MIME_BODY && p->is_template && !p->has_header;
        size_t blank = bare && s->begin - end >= 2 ? 2 : 0;
        add_stretch(c, end, s->begin - blank);
        if (bare) {
            add_missing_fields(c, s->entity);
            add_bytes(c, SLICE("\r\n"));
        }
        add_span(c, s);
        end = s->end;
    }
    add_stretch(c, end, c->tree.message.len);
}

void ses_mime_compile(struct ses_batch *b, struct arena *a)
{
    struct cutting c = {.b = b, .m = arena_alloc(a, sizeof *c.m), .arena = a};
    const char *why;

    b->mime = c.m;
    if (!b->batch_mode)
        add_bytes(&c, b->content->mime);
    else if (mime_read(b->content->mime, a, &c.tree, &why))
        cut(&c);
    else
        c.m->is_broken = true;
}

/* ---- what it is put together from ---- */

static bool put_field(struct slice name, struct slice value, struct buf *to, struct err *err)
{
    if (value.len == 0)
        return true;
    if (!ses_value_folds(value)) {
        (void)err_set(err, ERR_INPUT, "Header %.*s: holds a word longer than a mail line",
                      SLICE_ARGS(name));
        return false;
    }
    mime_put_field(to, name, value);
    return true;
}

/* The mailboxes for this reader, in s->header; false when one is no address. */
static bool put_boxes(const struct boxes *boxes, const struct slice *values, struct ses_scratch *s)
{
    buf_reset(&s->header);
    for (size_t i = 0; i < boxes->count; i++) {
        struct slice name = arena_dup(&s->arena, ses_line_of(&boxes->list[i].name, values, s));
        if (i > 0)
            buf_add_str(&s->header, ", ");
        if (!ses_mailbox_encode(&s->header, name, ses_line_of(&boxes->list[i].address, values, s)))
            return false;
    }
    return boxes->count > 0;
}

bool ses_mime_put_from(const struct ses_batch *b, const struct slice *values, struct ses_scratch *s,
                       struct buf *to, struct err *err)
{
    struct boxes first = b->mime->from;

    if (first.count == 0)
        return ses_put_from(b, values, s, to, err);
    first.count = 1;
    if (!put_boxes(&first, values, s)) {
        (void)err_set(err, ERR_INPUT, "Sender: is not an address that SES can take");
        return false;
    }
    buf_add_str(to, "\"FromEmailAddress\":");
    json_put_text(to, buf_slice(&s->header));
    return true;
}

/* ---- its size ---- */

static size_t boxes_length(const struct boxes *boxes, const struct slice *values)
{
    size_t bytes = 0;

    for (size_t i = 0; i < boxes->count; i++)
        bytes += render_length(&boxes->list[i].name, values) +
                 render_length(&boxes->list[i].address, values);
    return bytes;
}

static bool piece_fits(const struct piece *p, const struct slice *values, size_t *bytes,
                       struct err *err)
{
    struct slice name = p->name;
    size_t line = 0;

    switch (p->kind) {
    case PIECE_BYTES:
    case PIECE_LIST_UNSUB_POST:
        *bytes += p->bytes.len;
        return true;
    case PIECE_TEXT:
        *bytes += render_length(&p->text, values);
        return true;
    case PIECE_HEADER:
        name = p->header->name;
        line = ses_header_length(p->header, values);
        break;
    case PIECE_LINE:
        line = render_length(&p->text, values);
        break;
    case PIECE_TO:
        name = SLICE("To");
        line = boxes_length(&p->boxes, values);
        break;
    case PIECE_MAILBOXES:
    case PIECE_FROM:
        line = boxes_length(&p->boxes, values);
        break;
    }
    *bytes += line;
    return ses_line_fits(name, line, err);
}

bool ses_mime_fits(const struct ses_batch *b, const struct slice *values, size_t *bytes,
                   struct err *err)
{
    for (size_t i = 0; i < b->mime->count; i++)
        if (!piece_fits(&b->mime->pieces[i], values, bytes, err))
            return false;
    return true;
}

/* ---- one mail ---- */

static bool put_piece(const struct piece *p, const struct recipient *reader,
                      const struct slice *values, bool has_list_unsubscribe, struct ses_scratch *s,
                      struct buf *to, struct err *err)
{
    switch (p->kind) {
    case PIECE_BYTES:
        buf_add_slice(to, p->bytes);
        return true;
    case PIECE_TEXT:
        buf_reset(&s->text);
        render_run(&p->text, values, &s->text);
        if (!ses_text_fits(to->len, buf_slice(&s->text), p->encoding, err))
            return false;
        mime_put_text(to, buf_slice(&s->text), p->encoding);
        if (p->encoding == MIME_BASE64 && !p->is_last_body && s->text.len > 0)
            to->len -= 2; /* the boundary brings its own line end */
        return true;
    case PIECE_HEADER:
        ses_header_put_value(p->header, values, s);
        return put_field(p->header->name, slice_trim(buf_slice(&s->header)), to, err);
    case PIECE_LINE: {
        struct slice line = ses_line_of(&p->text, values, s);
        buf_reset(&s->header);
        ses_text_encode(&s->header, line);
        return put_field(p->name, buf_slice(&s->header), to, err);
    }
    case PIECE_MAILBOXES:
        return !put_boxes(&p->boxes, values, s) ||
               put_field(p->name, buf_slice(&s->header), to, err);
    case PIECE_FROM:
        if (put_boxes(&p->boxes, values, s))
            return put_field(SLICE("From"), buf_slice(&s->header), to, err);
        (void)err_set(err, ERR_INPUT, "Sender: is not an address that SES can take");
        return false;
    case PIECE_TO:
        if (!put_boxes(&p->boxes, values, s)) {
            buf_reset(&s->header);
            (void)ses_mailbox_encode(&s->header, reader->name, reader->address);
        }
        return put_field(SLICE("To"), buf_slice(&s->header), to, err);
    case PIECE_LIST_UNSUB_POST:
        if (has_list_unsubscribe)
            buf_add_slice(to, p->bytes);
        return true;
    }
    return true;
}

/* A header that is empty for this reader falls out. */
static bool has_list_unsubscribe(const struct ses_batch *b, const struct slice *values,
                                 struct ses_scratch *s)
{
    const struct ses_mime *m = b->mime;

    for (size_t i = 0; i < m->count; i++)
        if (m->pieces[i].kind == PIECE_HEADER && m->pieces[i].header->is_list_unsubscribe) {
            ses_header_put_value(m->pieces[i].header, values, s);
            return slice_trim(buf_slice(&s->header)).len > 0;
        }
    return !b->lost_list_unsubscribe;
}

bool ses_mime_write(const struct ses_batch *b, const struct recipient *reader,
                    const struct slice *values, struct ses_scratch *s, struct buf *to,
                    struct err *err)
{
    const struct ses_mime *m = b->mime;
    struct ses_fields fields;

    if (m->is_broken) {
        (void)err_set(err, ERR_INPUT, "The message cannot be read");
        return false;
    }
    if (ses_fields_render(b, values, s, &fields, err) != SES_FITS)
        return false;
    for (size_t i = 0; i < fields.count; i++)
        if (!put_field(fields.list[i].name, fields.list[i].value, to, err))
            return false;
    bool listed = has_list_unsubscribe(b, values, s);
    for (size_t i = 0; i < m->count; i++)
        if (!put_piece(&m->pieces[i], reader, values, listed, s, to, err))
            return false;
    return true;
}
