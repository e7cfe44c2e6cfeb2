#include "mail/mime_clean.h"

#include "base/digest.h"
#include "mail/mime.h"
#include "mail/ses_address.h"
#include "mail/ses_mail.h"

enum {
    NAME_MAX_BYTES = 126,     /* SES's, spec/aws.md §6 */
    HEADER_FIELDS_MAX = 2000, /* each is compared with the others */
    WORD_MAX_BYTES = 990,     /* of a value: cannot be folded into a mail line */
};

/* What becomes of an entity's body. */
struct plan {
    bool anew;        /* encoded anew */
    bool to_utf8;     /* it is UTF-8, and does not say so */
    bool has_type;    /* Content-Type has been written */
    bool has_header;  /* a place for more fields */
    bool has_version; /* MIME-Version has been written */
    enum mime_encoding encoding;
    struct buf decoded; /* when anew */
};

struct cleaning {
    const struct mime_tree *tree;
    const struct name_value *own;
    size_t own_count;
    struct arena *arena;
    struct buf *to;
    struct plan *plans; /* by entity */
    struct slice *why;
};

static bool refuse(struct cleaning *c, struct slice why)
{
    *c->why = why;
    return false;
}

bool mime_is_taken(struct slice name)
{
    static const char *const taken[] = {"bcc",      "resent-bcc",  "return-path",
                                        "received", "feedback-id", "dkim-signature"};

    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
        if (slice_eq_nocase(name, slice_str(taken[i])))
            return true;
    return slice_starts_nocase(name, SLICE("x-mailgun-")) ||
           slice_starts_nocase(name, SLICE("x-ses-"));
}

/* ---- fields ---- */

static bool is_name(struct slice name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] <= ' ' || name.ptr[i] > '~')
            return false;
    return name.len > 0 && name.len <= NAME_MAX_BYTES;
}

static bool is_own(const struct cleaning *c, struct slice name)
{
    for (size_t i = 0; i < c->own_count; i++)
        if (slice_eq_nocase(c->own[i].name, name))
            return true;
    return false;
}

static bool is_content(struct slice name)
{
    return slice_starts_nocase(name, SLICE("content-"));
}

static bool comes_again(const struct cleaning *c, size_t at)
{
    const struct mime_tree *t = c->tree;
    const struct mime_span *f = &t->spans[at];

    for (size_t i = at + 1;
         i < t->span_count && t->spans[i].kind == MIME_FIELD && t->spans[i].entity == f->entity;
         i++)
        if (slice_eq_nocase(t->spans[i].name, f->name))
            return true;
    return false;
}

static bool goes_out(const struct cleaning *c, size_t at)
{
    const struct mime_span *f = &c->tree->spans[at];

    if (!is_name(f->name))
        return false;
    if (f->entity != 0) /* of the fields that say what a part is the last one counts */
        return !is_content(f->name) || !comes_again(c, at);
    if (mime_is_taken(f->name) || is_own(c, f->name))
        return false;
    return !mime_stands_once(f->name) || !comes_again(c, at);
}

/* Fine as it is: printable ASCII, folded as it should be, no line too long. */
static bool is_fine(struct slice name, struct slice value)
{
    size_t line = name.len + 2;
    bool blank = false; /* nothing but blanks so far in a continued line */

    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.ptr[i];
        if (c == '\r' && i + 1 < value.len && value.ptr[i + 1] == '\n')
            continue;
        if (c == '\n') {
            if (blank)
                return false;
            blank = true;
            line = 0;
            continue;
        }
        if ((c < ' ' && c != '\t') || c > '~' || ++line > MIME_LINE_MAX)
            return false;
        blank = blank && (c == ' ' || c == '\t');
    }
    return true;
}

/* Lines with CRLF. */
static void put_lines(struct buf *to, struct slice text)
{
    while (text.len > 0) {
        size_t end = slice_find_byte(text, '\n');
        struct slice line = slice_head(text, end);
        if (end != SIZE_MAX && line.len > 0 && line.ptr[line.len - 1] == '\r')
            line.len--;
        buf_add_slice(to, line);
        if (end == SIZE_MAX)
            return;
        buf_add(to, "\r\n", 2);
        text = slice_from(text, end + 1);
    }
}

static bool has_mailboxes(struct slice name)
{
    static const char *const names[] = {"from", "to", "cc", "reply-to", "sender", "errors-to"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (slice_eq_nocase(name, slice_str(names[i])))
            return true;
    return false;
}

/* Mailboxes with their names in encoded words; false when it is no list of them. */
static bool put_mailboxes(struct slice value, struct arena *a, struct buf *to)
{
    struct ses_mailbox *list;
    size_t count;

    if (!ses_mailboxes_parse(value, a, &list, &count))
        return false;
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_add_str(to, ", ");
        if (!ses_mailbox_encode(to, mime_text_of(list[i].name, a), list[i].address))
            return false;
    }
    return true;
}

static bool folds(struct slice value)
{
    size_t word = 0;

    for (size_t i = 0; i < value.len; i++) {
        word = value.ptr[i] == ' ' || value.ptr[i] == '\t' ? 0 : word + 1;
        if (word > WORD_MAX_BYTES)
            return false;
    }
    return true;
}

static bool too_long(struct cleaning *c, struct slice name)
{
    return refuse(c, arena_printf(c->arena, "has a header %.*s with a word longer than a mail line",
                                  SLICE_ARGS(name)));
}

/* A value in UTF-8, on one line, written for a mail. */
static bool put_value(struct cleaning *c, struct slice name, struct slice value)
{
    struct buf line = {0};

    if (slice_is_ascii(value)) {
        buf_add_slice(&line, value);
    } else if (!has_mailboxes(name) || !put_mailboxes(value, c->arena, &line)) {
        buf_reset(&line);
        if (slice_starts_nocase(name, SLICE("list-")) && slice_find_byte(value, '<') != SIZE_MAX)
            text_percent_encode(&line, value, "!\"#$%&'()*+,/:;<=>?@[\\]^`{|} ");
        else
            ses_text_encode(&line, value);
    }
    struct slice kept = arena_dup(c->arena, slice_trim(buf_slice(&line)));
    buf_fini(&line);
    if (kept.len == 0)
        return true;
    if (!folds(kept))
        return too_long(c, name);
    mime_put_field(c->to, name, kept);
    return true;
}

static void put_line(struct buf *to, const char *name, const char *value)
{
    buf_printf(to, "%s: %s\r\n", name, value);
}

/* Content-Type and Content-Disposition: names of files beyond ASCII become RFC 2231's. */
static bool put_structured(struct cleaning *c, struct slice name, struct slice value,
                           struct slice charset)
{
    struct slice text = slice_eq_nocase(name, SLICE("content-type"))
                            ? mime_content_type(value, charset, c->arena)
                            : mime_disposition(value, c->arena);

    if (!is_fine(name, text))
        return too_long(c, name);
    buf_add_slice(c->to, name);
    buf_add_str(c->to, ": ");
    put_lines(c->to, text);
    buf_add_str(c->to, "\r\n");
    return true;
}

static bool put_content_field(struct cleaning *c, const struct mime_span *f, bool *done)
{
    const struct mime_entity *e = &c->tree->entities[f->entity];
    struct plan *p = &c->plans[f->entity];
    bool is_type = slice_eq_nocase(f->name, SLICE("content-type"));

    *done = true;
    if (slice_eq_nocase(f->name, SLICE("content-transfer-encoding"))) {
        if (p->anew)
            return true;
        if (slice_eq_nocase(f->value, SLICE("8bit")) ||
            (!e->is_leaf && slice_eq_nocase(f->value, SLICE("binary")))) {
            put_line(c->to, "Content-Transfer-Encoding", "7bit"); /* by now it is */
            return true;
        }
    }
    if (is_type)
        p->has_type = true;
    if (is_type && p->to_utf8)
        return put_structured(c, f->name, f->value, SLICE("utf-8"));
    *done = false;
    if (is_fine(f->name, f->value))
        return true;
    if (is_type && !e->is_leaf && !slice_is_ascii(f->value))
        return refuse(c, SLICE("has a multipart whose Content-Type is not ASCII"));
    if (is_type || slice_eq_nocase(f->name, SLICE("content-disposition"))) {
        *done = true;
        return put_structured(c, f->name, f->value, slice_none());
    }
    return true;
}

static bool put_field(struct cleaning *c, size_t at)
{
    const struct mime_span *f = &c->tree->spans[at];
    bool done = false;

    if (!goes_out(c, at))
        return true;
    if (is_content(f->name) && !put_content_field(c, f, &done))
        return false;
    if (done)
        return true;
    if (slice_eq_nocase(f->name, SLICE("mime-version")))
        c->plans[f->entity].has_version = true;
    if (is_fine(f->name, f->value)) {
        buf_add_slice(c->to, f->name);
        buf_add_str(c->to, f->value.len > 0 ? ": " : ":");
        put_lines(c->to, f->value);
        buf_add_str(c->to, "\r\n");
        return true;
    }
    /* The names of mailboxes are decoded one by one, lest a comma in one part it. */
    struct buf list = {0};
    bool is_list = has_mailboxes(f->name) && slice_is_utf8(f->value) &&
                   put_mailboxes(mime_line_of(f->value, c->arena), c->arena, &list);
    struct slice value =
        is_list ? arena_dup(c->arena, buf_slice(&list)) : mime_text_of(f->value, c->arena);
    buf_fini(&list);
    return put_value(c, f->name, value);
}

/* ---- bodies ---- */

struct look {
    bool beyond_ascii, nul, long_line, lone_cr;
};

static struct look look_at(struct slice body)
{
    struct look l = {0};
    size_t line = 0;

    for (size_t i = 0; i < body.len; i++) {
        uint8_t c = body.ptr[i];
        bool ends = c == '\r' && i + 1 < body.len && body.ptr[i + 1] == '\n';
        l.beyond_ascii |= c >= 0x80;
        l.nul |= c == 0;
        l.lone_cr |= c == '\r' && !ends;
        line = c == '\n' || c == '\r' ? 0 : line + 1;
        l.long_line |= line > MIME_LINE_MAX;
    }
    return l;
}

static struct slice body_of(const struct cleaning *c, size_t entity)
{
    const struct mime_span *s = &c->tree->spans[c->tree->entities[entity].body];

    return slice_of(c->tree->message.ptr + s->begin, s->end - s->begin);
}

static bool make_plan(struct cleaning *c, size_t entity)
{
    const struct mime_entity *e = &c->tree->entities[entity];
    struct plan *p = &c->plans[entity];
    struct slice body = body_of(c, entity);
    struct look l = look_at(body);
    bool is_plain = e->given == GIVEN_PLAIN, is_words = e->is_text && !l.nul;

    /* A CR alone would be a line end to some, and could make a boundary of what follows. */
    p->anew = l.beyond_ascii || l.nul || l.long_line || l.lone_cr || e->given == GIVEN_BINARY;
    if (!p->anew)
        return true;
    if (is_plain && is_words)
        mime_put_text(&p->decoded, body, MIME_7BIT); /* of text the lines count, not how they end */
    else if (!mime_decode(body, e->given, &p->decoded))
        return refuse(c, SLICE("has a part with an unknown Content-Transfer-Encoding that is not "
                               "made of lines of ASCII"));
    struct slice text = buf_slice(&p->decoded);
    p->encoding = !is_words || e->given == GIVEN_BASE64 ? MIME_BASE64
                  : mime_encoding_of(text) == MIME_BASE64 && e->given != GIVEN_QUOTED_PRINTABLE
                      ? MIME_BASE64
                      : MIME_QUOTED_PRINTABLE;
    p->to_utf8 = e->is_text &&
                 (e->charset.len == 0 || slice_eq_nocase(e->charset, SLICE("us-ascii"))) &&
                 !slice_is_ascii(text) && slice_is_utf8(text);
    return true;
}

/* What an entity's header lacks. */
static void put_missing(struct cleaning *c, size_t entity)
{
    struct plan *p = &c->plans[entity];

    if (c->tree->entities[entity].is_message && (p->anew || entity == 0) && !p->has_version)
        put_line(c->to, "MIME-Version", "1.0");
    if (p->anew)
        put_line(c->to, "Content-Transfer-Encoding", mime_encoding_name(p->encoding));
    if (p->to_utf8 && !p->has_type)
        put_line(c->to, "Content-Type", "text/plain; charset=utf-8");
}

static bool ends_blank(const struct buf *b)
{
    return b->len >= 4 && memcmp(b->ptr + b->len - 4, "\r\n\r\n", 4) == 0;
}

static void put_body(struct cleaning *c, const struct mime_span *s)
{
    struct plan *p = &c->plans[s->entity];

    if (!p->anew) {
        mime_put_text(c->to, body_of(c, s->entity), MIME_7BIT);
        return;
    }
    if (!p->has_header) {
        /* A part that begins with a blank line: the fields go before it. */
        if (ends_blank(c->to))
            c->to->len -= 2;
        put_missing(c, s->entity);
        buf_add_str(c->to, "\r\n");
    }
    mime_put_text(c->to, buf_slice(&p->decoded), p->encoding);
    /* Base64 ends its last line, and so does the boundary behind it. */
    if (p->encoding == MIME_BASE64 && s->end < c->tree->message.len && p->decoded.len > 0)
        c->to->len -= 2;
}

/* ---- between the spans ---- */

static bool put_gap(struct cleaning *c, size_t begin, size_t end)
{
    struct slice gap = slice_of(c->tree->message.ptr + begin, end - begin);
    size_t from = c->to->len, line = 0;

    put_lines(c->to, gap);
    for (size_t i = from; i < c->to->len; i++) {
        uint8_t *b = &c->to->ptr[i];
        bool ends = *b == '\r' && i + 1 < c->to->len && c->to->ptr[i + 1] == '\n';
        line = *b == '\n' || ends ? 0 : line + 1;
        if (line > MIME_LINE_MAX)
            return refuse(c, SLICE("has a line of more than 998 bytes outside of its parts"));
        if (*b >= 0x80)
            *b = '?';
        else if (*b < ' ' && *b != '\t' && *b != '\n' && !ends)
            *b = ' ';
    }
    return true;
}

static bool put_head_end(struct cleaning *c, const struct mime_span *s)
{
    struct slice rest = slice_from(c->tree->message, s->end);

    for (size_t i = 0; s->entity == 0 && i < c->own_count; i++)
        if (!put_value(c, c->own[i].name, c->own[i].value))
            return false;
    put_missing(c, s->entity);
    c->plans[s->entity].has_header = true;
    if (!slice_starts(rest, SLICE("\n")) && !slice_starts(rest, SLICE("\r\n")))
        buf_add_str(c->to, "\r\n"); /* a header without its end */
    return true;
}

static bool put_all(struct cleaning *c)
{
    const struct mime_tree *t = c->tree;
    size_t end = t->spans[0].begin; /* what stands before is the line of a mailbox file */

    for (size_t i = 0; i < t->span_count; i++) {
        const struct mime_span *s = &t->spans[i];
        /* Between two fields of a header there are only lines that are none. */
        bool inside = i > 0 && s[-1].kind == MIME_FIELD && s[-1].entity == s->entity;
        if (!inside && !put_gap(c, end, s->begin))
            return false;
        end = s->end;
        switch (s->kind) {
        case MIME_FIELD:
            if (!put_field(c, i))
                return false;
            break;
        case MIME_HEAD_END:
            if (!put_head_end(c, s))
                return false;
            break;
        case MIME_BODY:
            put_body(c, s);
            break;
        }
    }
    return put_gap(c, end, t->message.len);
}

bool mime_clean(const struct mime_tree *tree, const struct name_value *own, size_t own_count,
                struct arena *a, struct buf *to, struct slice *why)
{
    struct cleaning c = {.tree = tree,
                         .own = own,
                         .own_count = own_count,
                         .arena = a,
                         .to = to,
                         .plans = arena_array(a, tree->entity_count, sizeof *c.plans),
                         .why = why};
    bool good = true;

    for (size_t i = 0, fields = 0; i < tree->span_count; i++) {
        fields = tree->spans[i].kind == MIME_FIELD ? fields + 1 : 0;
        if (fields > HEADER_FIELDS_MAX)
            return refuse(&c, SLICE("has too many header fields"));
    }
    for (size_t i = 0; good && i < tree->entity_count; i++)
        good = !tree->entities[i].is_leaf || make_plan(&c, i);
    good = good && put_all(&c);
    if (good && to->len > SES_MESSAGE_MAX)
        good = refuse(&c, SLICE("is larger than 40 MB"));
    for (size_t i = 0; i < tree->entity_count; i++)
        buf_fini(&c.plans[i].decoded);
    return good;
}
