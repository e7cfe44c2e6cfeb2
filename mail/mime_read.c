#include "mail/mime_read.h"

#include <errno.h>
#include <gmime/gmime.h>
#include <stdlib.h>

enum { CONVERT_BYTES = 4096, MESSAGE_BYTES_MAX = 1 << 30 };

/* ---- process state: GMime's tables ---- */

static bool is_set_up;

static void set_up(void)
{
    if (!is_set_up)
        g_mime_init();
    is_set_up = true;
}

/* ---- what GMime gets to see ---- */

static bool is_field_name_byte(uint8_t c)
{
    return c > ' ' && c != 0x7f && c != ':';
}

/* Does a line begin as a field does? *name gets the length of its name, which may be 0. */
static bool is_field(struct slice message, size_t at, size_t *name)
{
    size_t end = at, colon;

    while (end < message.len && is_field_name_byte(message.ptr[end]))
        end++;
    colon = end;
    while (colon < message.len && message.ptr[colon] <= ' ' && message.ptr[colon] != '\n')
        colon++;
    *name = end - at;
    return colon < message.len && message.ptr[colon] == ':' && (end > at || colon == at);
}

static bool has_mailboxes(struct slice name)
{
    static const char *const names[] = {"from", "sender", "reply-to", "to", "cc", "bcc"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (slice_eq_nocase(name, slice_str(names[i])))
            return true;
    return false;
}

/* A copy in which every byte stands where it stands in the message, made harmless: no NUL, for
 * GMime reads C strings; and address fields under other names, for GMime's reader of addresses
 * recurses with each colon and takes a time that grows with the square of their number. Lines of
 * bodies may be changed too, which does no harm: only the places are used. NULL and *why when there
 * is too much. */
static GByteArray *harmless_copy(struct slice message, const char **why)
{
    GByteArray *bytes = g_byte_array_set_size(g_byte_array_new(), (guint)message.len);
    uint8_t *copy = bytes->data;
    size_t fields = 0, boundaries = 0;

    for (size_t at = 0; at < message.len;) {
        size_t left = message.len - at, len = slice_find_byte(slice_from(message, at), '\n');
        len = len == SIZE_MAX ? left : len + 1;
        for (size_t i = at; i < at + len; i++)
            copy[i] = message.ptr[i] == 0 ? ' ' : message.ptr[i];
        size_t name;
        if (is_field(slice_of(copy, at + len), at, &name)) {
            fields++;
            if (has_mailboxes(slice_of(copy + at, name)))
                copy[at] = 'x';
        }
        boundaries += len > 2 && copy[at] == '-' && copy[at + 1] == '-';
        at += len;
    }
    *why = fields > MIME_FIELDS_MAX ? "has too many header fields, or too many lines like them"
           : boundaries > MIME_BOUNDARIES_MAX
               ? "has too many boundaries, or too many lines like them"
               : NULL;
    if (*why == NULL)
        return bytes;
    g_byte_array_free(bytes, TRUE);
    return NULL;
}

/* ---- from GMime's tree to spans ---- */

struct reading {
    struct slice message;
    struct mime_tree *tree;
    struct arena *arena;
    size_t entity_cap, span_cap;
    const char *why; /* NULL: fine so far */
};

static void *more(struct arena *a, const void *list, size_t count, size_t *cap, size_t bytes)
{
    *cap = *cap == 0 ? 32 : *cap * 2;
    void *grown = arena_array(a, *cap, bytes);
    if (count > 0)
        memcpy(grown, list, count * bytes);
    return grown;
}

static void add_span(struct reading *r, struct mime_span span)
{
    struct mime_tree *t = r->tree;

    if (t->span_count == r->span_cap)
        t->spans = more(r->arena, t->spans, t->span_count, &r->span_cap, sizeof *t->spans);
    t->spans[t->span_count++] = span;
}

static size_t add_entity(struct reading *r)
{
    struct mime_tree *t = r->tree;

    if (t->entity_count == r->entity_cap)
        t->entities =
            more(r->arena, t->entities, t->entity_count, &r->entity_cap, sizeof *t->entities);
    t->entities[t->entity_count] = (struct mime_entity){0};
    return t->entity_count++;
}

static size_t past_line(struct slice message, size_t at)
{
    size_t len = slice_find_byte(slice_from(message, at), '\n');

    return len == SIZE_MAX ? message.len : at + len + 1;
}

/* Past the line end of a field's last line. */
static size_t field_end(struct slice message, size_t at)
{
    do {
        at = past_line(message, at);
    } while (at < message.len && (message.ptr[at] == ' ' || message.ptr[at] == '\t'));
    return at;
}

/* The fields of one list; returns past the last one, or `end`. */
static size_t add_fields(struct reading *r, GMimeHeaderList *list, size_t entity, size_t end)
{
    int count = g_mime_header_list_get_count(list);

    for (int i = 0; i < count; i++) {
        gint64 offset = g_mime_header_get_offset(g_mime_header_list_get_header_at(list, i));
        if (offset < 0 || (guint64)offset >= r->message.len) {
            r->why = "cannot be parsed";
            return end;
        }
        struct mime_span s = {.kind = MIME_FIELD, .begin = (size_t)offset, .entity = entity};
        size_t name = s.begin, len;
        /* Where a header begins with lines that are no fields, this is where they begin. */
        while (name < r->message.len && !is_field(r->message, name, &len))
            name = past_line(r->message, name);
        s.end = field_end(r->message, name);
        if (!slice_cut(slice_of(r->message.ptr + name, s.end - name), ':', &s.name, &s.value)) {
            r->why = "cannot be parsed";
            return end;
        }
        s.name = slice_trim(s.name);
        s.value = slice_trim(s.value);
        add_span(r, s);
        end = s.end > end ? s.end : end;
    }
    return end;
}

static enum mime_given given_of(GMimeContentEncoding encoding, struct slice name)
{
    switch (encoding) {
    case GMIME_CONTENT_ENCODING_7BIT:
    case GMIME_CONTENT_ENCODING_8BIT:
        return GIVEN_PLAIN;
    case GMIME_CONTENT_ENCODING_BINARY:
        return GIVEN_BINARY;
    case GMIME_CONTENT_ENCODING_QUOTEDPRINTABLE:
        return GIVEN_QUOTED_PRINTABLE;
    case GMIME_CONTENT_ENCODING_BASE64:
        return GIVEN_BASE64;
    case GMIME_CONTENT_ENCODING_UUENCODE:
        return GIVEN_OTHER;
    case GMIME_CONTENT_ENCODING_DEFAULT:
    default:
        return name.len == 0 ? GIVEN_PLAIN : GIVEN_OTHER; /* what nobody knows */
    }
}

/* The line end before a boundary belongs to the boundary. GMime judges its length by the line end
 * behind the boundary, which may be another one, or none. */
static size_t body_end(struct slice message, size_t begin, size_t end)
{
    struct slice rest = slice_from(message, end);

    if (rest.len > 0 && slice_starts(slice_from(rest, 1), SLICE("\n--")))
        end++;
    else if (!slice_starts(rest, SLICE("\n--")))
        return end < begin ? begin : end; /* the end of the message */
    if (end > begin && message.ptr[end - 1] == '\r')
        end--;
    return end < begin ? begin : end; /* a boundary at once */
}

static void add_leaf(struct reading *r, GMimePart *part, size_t entity)
{
    GMimeObject *object = (GMimeObject *)part;
    GMimeContentType *type = g_mime_object_get_content_type(object);
    GMimeContentDisposition *disposition = g_mime_object_get_content_disposition(object);
    GMimeDataWrapper *content = g_mime_part_get_content(part);
    struct mime_entity *e = &r->tree->entities[entity];

    e->is_leaf = true;
    e->is_text = g_mime_content_type_is_type(type, "text", "*");
    e->is_attachment = disposition != NULL && g_mime_content_disposition_is_attachment(disposition);
    e->given = given_of(g_mime_part_get_content_encoding(part),
                        slice_str(g_mime_object_get_header(object, "Content-Transfer-Encoding")));
    e->charset = arena_dup(
        r->arena, slice_trim(slice_str(g_mime_content_type_get_parameter(type, "charset"))));
    struct mime_span s = {.kind = MIME_BODY, .begin = r->message.len, .entity = entity};
    if (content != NULL) {
        GMimeStream *stream = g_mime_data_wrapper_get_stream(content);
        if (stream->bound_start >= 0 && (guint64)stream->bound_start < r->message.len)
            s.begin = (size_t)stream->bound_start;
        s.end = stream->bound_end < 0 ? r->message.len : (size_t)stream->bound_end;
    }
    if (s.end > r->message.len)
        s.end = r->message.len;
    s.end = body_end(r->message, s.begin, s.end);
    add_span(r, s);
}

static void add_object(struct reading *r, GMimeMessage *outer, GMimeObject *object, bool attached,
                       unsigned depth)
{
    size_t entity = add_entity(r), end = 0;

    r->tree->entities[entity].is_message = outer != NULL;
    r->tree->entities[entity].is_attached = attached;
    if (outer != NULL)
        end = add_fields(r, g_mime_object_get_header_list((GMimeObject *)outer), entity, end);
    if (object != NULL)
        end = add_fields(r, g_mime_object_get_header_list(object), entity, end);
    if (depth == MIME_DEPTH_MAX)
        r->why = "is nested too deeply";
    if (r->why != NULL)
        return;
    if (end > 0)
        add_span(r, (struct mime_span){
                        .kind = MIME_HEAD_END, .begin = end, .end = end, .entity = entity});
    if (GMIME_IS_MULTIPART(object)) {
        int count = g_mime_multipart_get_count((GMimeMultipart *)object);
        for (int i = 0; i < count && r->why == NULL; i++)
            add_object(r, NULL, g_mime_multipart_get_part((GMimeMultipart *)object, i), attached,
                       depth + 1);
    } else if (GMIME_IS_MESSAGE_PART(object)) {
        GMimeMessage *inner = g_mime_message_part_get_message((GMimeMessagePart *)object);
        if (inner != NULL)
            add_object(r, inner, g_mime_message_get_mime_part(inner), true, depth + 1);
    } else if (GMIME_IS_PART(object)) {
        add_leaf(r, (GMimePart *)object, entity);
    }
}

static int by_place(const void *x, const void *y)
{
    const struct mime_span *a = x, *b = y;

    if (a->begin != b->begin)
        return a->begin < b->begin ? -1 : 1;
    return (int)a->kind - (int)b->kind;
}

static const char *put_in_order(struct mime_tree *t)
{
    size_t end = 0;

    if (t->span_count == 0)
        return "has no header";
    qsort(t->spans, t->span_count, sizeof *t->spans, by_place);
    for (size_t i = 0; i < t->span_count; i++) {
        if (t->spans[i].begin < end)
            return "cannot be parsed";
        end = t->spans[i].end;
        if (t->spans[i].kind == MIME_BODY)
            t->entities[t->spans[i].entity].body = i;
    }
    return t->spans[0].kind == MIME_FIELD && t->spans[0].entity == 0 ? NULL : "has no header";
}

/* "From me@example.com Mon Nov 23 …": of a mailbox file, not of the message. */
static struct slice without_from_line(struct slice message)
{
    size_t end = slice_find_byte(message, '\n'), name;

    if (!slice_starts(message, SLICE("From ")) || end == SIZE_MAX || is_field(message, 0, &name))
        return message;
    return slice_from(message, end + 1);
}

bool mime_read(struct slice given, struct arena *a, struct mime_tree *tree, const char **why)
{
    struct slice message = without_from_line(given);
    struct reading r = {.message = message, .tree = tree, .arena = a};
    GByteArray *bytes;

    *tree = (struct mime_tree){.message = message};
    *why = message.len == 0 ? "has no header" : "is too long";
    if (message.len == 0 || message.len > MESSAGE_BYTES_MAX)
        return false;
    set_up();
    bytes = harmless_copy(message, why);
    if (bytes == NULL)
        return false;
    GMimeStream *stream = g_mime_stream_mem_new();
    g_mime_stream_mem_set_byte_array((GMimeStreamMem *)stream, bytes);
    GMimeParser *parser = g_mime_parser_new_with_stream(stream);
    g_mime_parser_set_persist_stream(parser, TRUE); /* bodies are places in the stream */
    GMimeMessage *read = g_mime_parser_construct_message(parser, NULL);
    if (read == NULL)
        r.why = "has no header";
    else
        add_object(&r, read, g_mime_message_get_mime_part(read), false, 0);
    if (read != NULL)
        g_object_unref(read);
    g_object_unref(parser);
    g_object_unref(stream);
    g_byte_array_free(bytes, TRUE);
    *why = r.why != NULL ? r.why : put_in_order(tree);
    return *why == NULL;
}

/* ---- texts ---- */

struct slice mime_line_of(struct slice value, struct arena *a)
{
    uint8_t *out = arena_alloc(a, value.len + 1);
    size_t len = 0;

    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.ptr[i];
        if (c == '\r' || c == '\n')
            continue; /* a fold: the blank behind it stays */
        out[len++] = c < ' ' || c == 0x7f ? ' ' : c;
    }
    return slice_trim(slice_of(out, len));
}

/* A text of GMime's, and its end. */
static struct slice adopt(char *text, struct arena *a)
{
    struct slice kept = arena_dup(a, slice_str(text));

    g_free(text);
    return kept;
}

struct slice mime_text_of(struct slice value, struct arena *a)
{
    struct slice line = mime_line_of(value, a);

    if (slice_is_ascii(line) && slice_find(line, SLICE("=?")) == SIZE_MAX)
        return line;
    set_up();
    line = mime_line_of(adopt(g_mime_utils_header_decode_text(NULL, arena_cstr(a, line)), a), a);
    return slice_is_utf8(line) ? line : SLICE("");
}

bool mime_decode(struct slice body, enum mime_given given, struct buf *to)
{
    GMimeEncoding state;

    switch (given) {
    case GIVEN_PLAIN:
    case GIVEN_BINARY:
        buf_add_slice(to, body);
        return true;
    case GIVEN_QUOTED_PRINTABLE:
    case GIVEN_BASE64:
        break;
    case GIVEN_OTHER:
        return false;
    }
    set_up();
    g_mime_encoding_init_decode(&state, given == GIVEN_BASE64
                                            ? GMIME_CONTENT_ENCODING_BASE64
                                            : GMIME_CONTENT_ENCODING_QUOTEDPRINTABLE);
    uint8_t *out = buf_reserve(to, g_mime_encoding_outlen(&state, body.len) + 1);
    to->len += g_mime_encoding_flush(&state, (const char *)body.ptr, body.len, (char *)out);
    return true;
}

/* US-ASCII that holds more is what mail programs call it, too. */
static bool is_ascii_name(struct slice charset)
{
    return charset.len == 0 || slice_eq_nocase(charset, SLICE("us-ascii")) ||
           slice_eq_nocase(charset, SLICE("ascii"));
}

static bool is_utf8_name(struct slice charset)
{
    return slice_eq_nocase(charset, SLICE("utf-8")) || slice_eq_nocase(charset, SLICE("utf8"));
}

bool mime_to_utf8(struct slice text, struct slice charset, struct buf *to)
{
    char name[64], piece[CONVERT_BYTES];

    if (is_ascii_name(charset) || is_utf8_name(charset)) {
        buf_add_slice(to, text);
        return slice_is_utf8(text);
    }
    if (charset.len >= sizeof name)
        return false;
    memcpy(name, charset.ptr, charset.len);
    name[charset.len] = '\0';
    set_up();
    iconv_t conversion = g_mime_iconv_open("utf-8", name);
    if (conversion == (iconv_t)-1)
        return false;
    struct slice left = text;
    bool good = true;
    for (bool flushed = false; good && !flushed;) {
        /* iconv() takes its input without const and does not write to it. */
        char *in = NULL, *out = piece;
        size_t in_left = left.len, out_left = sizeof piece;
        memcpy(&in, &left.ptr, sizeof in);
        flushed = left.len == 0;
        size_t done = flushed ? iconv(conversion, NULL, NULL, &out, &out_left)
                              : iconv(conversion, &in, &in_left, &out, &out_left);
        good = done != (size_t)-1 || errno == E2BIG;
        buf_add(to, piece, sizeof piece - out_left);
        left = slice_from(left, left.len - in_left);
    }
    (void)g_mime_iconv_close(conversion);
    return good && slice_is_utf8(buf_slice(to));
}

/* ---- structured values ---- */

/* GMime folds with LF. */
static struct slice with_crlf(char *text, struct arena *a)
{
    struct buf out = {0};

    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '\n')
            buf_add_byte(&out, '\r');
        buf_add_byte(&out, (uint8_t)*c);
    }
    g_free(text);
    struct slice kept = arena_dup(a, slice_trim(buf_slice(&out)));
    buf_fini(&out);
    return kept;
}

struct slice mime_content_type(struct slice value, struct slice charset, struct arena *a)
{
    set_up();
    GMimeContentType *type = g_mime_content_type_parse(NULL, arena_cstr(a, mime_line_of(value, a)));
    if (charset.len > 0)
        g_mime_content_type_set_parameter(type, "charset", arena_cstr(a, charset));
    char *text = g_mime_content_type_encode(type, NULL);
    g_object_unref(type);
    return with_crlf(text, a);
}

struct slice mime_disposition(struct slice value, struct arena *a)
{
    set_up();
    GMimeContentDisposition *d =
        g_mime_content_disposition_parse(NULL, arena_cstr(a, mime_line_of(value, a)));
    char *text = g_mime_content_disposition_encode(d, NULL);
    g_object_unref(d);
    return with_crlf(text, a);
}
