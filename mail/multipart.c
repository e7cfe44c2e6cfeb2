#include "mail/multipart.h"

#include <stdlib.h>

#include "base/digest.h"
#include "base/mem.h"

/* -------- header parameters -------- */

/* A quoted string from its first quote on; *rest is what is behind it. Backslash escapes only a
 * quote or a backslash: browsers and form-data leave others as they are. */
static struct slice unquote(struct slice s, struct arena *a, struct slice *rest)
{
    uint8_t *text = arena_alloc(a, s.len + 1);
    size_t len = 0, i = 1;

    for (; i < s.len && s.ptr[i] != '"'; i++) {
        if (s.ptr[i] == '\\' && i + 1 < s.len && (s.ptr[i + 1] == '"' || s.ptr[i + 1] == '\\'))
            i++;
        text[len++] = s.ptr[i];
    }
    *rest = slice_from(s, i + 1);
    return slice_of(text, len);
}

bool header_parameter(struct slice value, struct slice name, struct arena *a, struct slice *out)
{
    size_t at = slice_find_byte(value, ';');
    struct slice rest = at == SIZE_MAX ? (struct slice){0} : slice_from(value, at + 1);

    while (rest.len > 0) {
        struct slice key, text;
        size_t equals = slice_find_byte(rest, '=');
        if (equals == SIZE_MAX)
            return false;
        key = slice_trim(slice_head(rest, equals));
        rest = slice_trim(slice_from(rest, equals + 1));
        if (rest.len > 0 && rest.ptr[0] == '"') {
            text = unquote(rest, a, &rest);
            size_t next = slice_find_byte(rest, ';');
            rest = next == SIZE_MAX ? (struct slice){0} : slice_from(rest, next + 1);
        } else {
            (void)slice_cut(rest, ';', &text, &rest);
            text = slice_trim(text);
        }
        if (slice_eq_nocase(key, name)) {
            *out = text;
            return true;
        }
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

bool multipart_parse(struct slice body, struct slice boundary, struct arena *a, struct form *form)
{
    struct slice delimiter = arena_printf(a, "\r\n--%.*s", SLICE_ARGS(boundary));
    struct slice first = slice_from(delimiter, 2), rest = body;
    size_t cap = 64;
    bool closed = false;

    if (boundary.len == 0 || boundary.len > 200)
        return false;
    /* A preamble is allowed and without meaning. */
    size_t at = slice_find(rest, first);
    if (at == SIZE_MAX || (at != 0 && (at < 2 || rest.ptr[at - 1] != '\n')))
        return false;
    rest = slice_from(rest, at + first.len);

    struct form_field *fields = mem_alloc(cap * sizeof *fields);
    form->count = 0;
    while (true) {
        struct slice headers, content;
        if (slice_starts(rest, SLICE("--"))) {
            closed = true;
            break;
        }
        size_t line_end = slice_find(rest, SLICE("\r\n"));
        if (line_end == SIZE_MAX || slice_trim(slice_head(rest, line_end)).len != 0)
            break;
        rest = slice_from(rest, line_end + 2);
        size_t end = slice_find(rest, delimiter);
        if (end == SIZE_MAX || form->count == MULTIPART_PARTS_MAX)
            break;
        struct form_field field = {0};
        if (!split_part(slice_head(rest, end), &headers, &content) ||
            !read_headers(headers, a, &field))
            break;
        field.value = content;
        if (form->count == cap) {
            cap *= 2;
            fields = mem_grow(fields, cap * sizeof *fields);
        }
        fields[form->count++] = field;
        rest = slice_from(rest, end + delimiter.len);
    }
    form->fields = arena_array(a, form->count, sizeof *form->fields);
    if (form->count > 0)
        memcpy(form->fields, fields, form->count * sizeof *fields);
    free(fields);
    return closed;
}
