#include "mail/multipart.h"

#include <stdlib.h>

#include "base/digest.h"
#include "base/mem.h"

enum { BOUNDARY_BYTES_MAX = 200 }; /* RFC 2046 allows 70 */

/* -------- header parameters -------- */

/* The length of a quoted string from its first quote on, both quotes counted; all of s when it does
 * not end. */
static size_t quoted_length(struct slice s)
{
    size_t i = 1;

    while (i < s.len && s.ptr[i] != '"')
        i += s.ptr[i] == '\\' ? 2 : 1;
    return i < s.len ? i + 1 : s.len;
}

/* Backslash escapes only a quote or a backslash: browsers leave others as they are. */
static struct slice unquote(struct slice s, struct arena *a)
{
    size_t len = 0, end = s.len > 1 && s.ptr[s.len - 1] == '"' ? s.len - 1 : s.len;
    struct slice inner = slice_of(s.ptr + 1, end - 1);

    if (slice_find_byte(inner, '\\') == SIZE_MAX)
        return inner;
    uint8_t *text = arena_alloc(a, inner.len);
    for (size_t i = 0; i < inner.len; i++) {
        if (inner.ptr[i] == '\\' && i + 1 < inner.len &&
            (inner.ptr[i + 1] == '"' || inner.ptr[i + 1] == '\\'))
            i++;
        text[len++] = inner.ptr[i];
    }
    return slice_of(text, len);
}

/* Cuts the next parameter off *rest: up to a ';' outside quotes. */
static struct slice next_parameter(struct slice *rest)
{
    struct slice s = *rest;
    size_t at = 0;

    while (at < s.len && s.ptr[at] != ';')
        at += s.ptr[at] == '"' ? quoted_length(slice_from(s, at)) : 1;
    *rest = slice_from(s, at + 1);
    return slice_head(s, at);
}

bool header_parameter(struct slice value, struct slice name, struct arena *a, struct slice *out)
{
    (void)next_parameter(&value); /* the value itself */
    while (value.len > 0) {
        struct slice key, text;
        if (!slice_cut(next_parameter(&value), '=', &key, &text) ||
            !slice_eq_nocase(slice_trim(key), name))
            continue;
        text = slice_trim(text);
        if (text.len > 0 && text.ptr[0] == '"')
            text = unquote(slice_head(text, quoted_length(text)), a);
        *out = text;
        return true;
    }
    return false;
}

struct slice multipart_boundary(struct slice content_type, struct arena *a)
{
    struct slice boundary = {0};

    (void)header_parameter(content_type, SLICE("boundary"), a, &boundary);
    return boundary;
}

/* -------- one part -------- */

/* filename*=UTF-8''per%20cent (RFC 5987). */
static struct slice extended_value(struct slice s, struct arena *a)
{
    struct slice charset, rest, language, text;
    struct buf plain = {0};

    if (!slice_cut(s, '\'', &charset, &rest) || !slice_cut(rest, '\'', &language, &text) ||
        !slice_eq_nocase(charset, SLICE("UTF-8")) || !text_percent_decode(&plain, text, false)) {
        buf_fini(&plain);
        return (struct slice){0};
    }
    text = arena_dup(a, buf_slice(&plain));
    buf_fini(&plain);
    return text;
}

static bool read_headers(struct slice headers, struct arena *a, struct form_field *field)
{
    bool named = false;

    while (headers.len > 0) {
        struct slice line, name, value;
        (void)slice_cut(headers, '\n', &line, &headers);
        line = slice_trim(line);
        for (size_t i = 0; i < line.len; i++)
            if (line.ptr[i] < ' ' && line.ptr[i] != '\t')
                return false;
        if (!slice_cut(line, ':', &name, &value))
            continue;
        value = slice_trim(value);
        if (slice_eq_nocase(slice_trim(name), SLICE("Content-Type"))) {
            field->content_type = value;
        } else if (slice_eq_nocase(slice_trim(name), SLICE("Content-Disposition"))) {
            struct slice extended;
            named = header_parameter(value, SLICE("name"), a, &field->name) && field->name.len > 0;
            field->is_file = header_parameter(value, SLICE("filename"), a, &field->filename);
            if (header_parameter(value, SLICE("filename*"), a, &extended)) {
                field->is_file = true;
                field->filename = extended_value(extended, a);
            }
        }
    }
    return named;
}

/* Cuts s at the first empty line: headers before it, content behind. */
static bool split_part(struct slice s, struct slice *headers, struct slice *content)
{
    size_t at = slice_find(slice_head(s, MULTIPART_HEADER_BYTES_MAX), SLICE("\r\n\r\n"));

    if (at == SIZE_MAX)
        return false;
    *headers = slice_head(s, at);
    *content = slice_from(s, at + 4);
    return true;
}

/* -------- the body -------- */

enum delimiter_kind { DELIMITER_NONE, DELIMITER_PART, DELIMITER_LAST };

/* Finds the next delimiter line in s: it begins at *from, and *past is behind it. A delimiter
 * followed by more than blanks belongs to the content: another, longer boundary. */
static enum delimiter_kind find_delimiter(struct slice s, struct slice delimiter, size_t *from,
                                          size_t *past)
{
    size_t at = 0;

    while (true) {
        size_t found = slice_find(slice_from(s, at), delimiter);
        if (found == SIZE_MAX)
            return DELIMITER_NONE;
        *from = at + found;
        at = *from + delimiter.len;
        struct slice behind = slice_from(s, at);
        bool last = slice_starts(behind, SLICE("--"));
        size_t blanks = last ? 2 : 0;
        while (blanks < behind.len && (behind.ptr[blanks] == ' ' || behind.ptr[blanks] == '\t'))
            blanks++;
        bool line_end = slice_starts(slice_from(behind, blanks), SLICE("\r\n"));
        if (!line_end && !(last && blanks == behind.len))
            continue;
        *past = at + blanks + (line_end ? 2 : 0);
        return last ? DELIMITER_LAST : DELIMITER_PART;
    }
}

/* A body begins with its first delimiter, or has a preamble without meaning before it. */
static enum delimiter_kind find_first(struct slice body, struct slice delimiter, size_t *past)
{
    struct slice first = slice_from(delimiter, 2);
    enum delimiter_kind kind = DELIMITER_NONE;
    size_t from = SIZE_MAX;

    if (slice_starts(body, first))
        kind = find_delimiter(body, first, &from, past);
    return kind != DELIMITER_NONE && from == 0 ? kind
                                               : find_delimiter(body, delimiter, &from, past);
}

bool multipart_parse(struct slice body, struct slice boundary, struct arena *a, struct form *form)
{
    size_t cap = 64, from = 0, past = 0;
    struct form_field *fields;

    form->count = 0;
    if (boundary.len == 0 || boundary.len > BOUNDARY_BYTES_MAX)
        return false;
    struct slice delimiter = arena_printf(a, "\r\n--%.*s", SLICE_ARGS(boundary));
    enum delimiter_kind kind = find_first(body, delimiter, &past);

    fields = mem_alloc(cap * sizeof *fields);
    while (kind == DELIMITER_PART) {
        struct slice rest = slice_from(body, past), headers;
        struct form_field field = {0};
        body = rest;
        kind = find_delimiter(rest, delimiter, &from, &past);
        if (kind == DELIMITER_NONE || form->count == MULTIPART_PARTS_MAX ||
            !split_part(slice_head(rest, from), &headers, &field.value) ||
            !read_headers(headers, a, &field)) {
            kind = DELIMITER_NONE;
            break;
        }
        if (form->count == cap) {
            cap *= 2;
            fields = mem_grow(fields, cap * sizeof *fields);
        }
        fields[form->count++] = field;
    }
    form->fields = arena_array(a, form->count, sizeof *form->fields);
    if (form->count > 0)
        memcpy(form->fields, fields, form->count * sizeof *fields);
    free(fields);
    return kind == DELIMITER_LAST;
}
