#include "mail/csv.h"

#include "base/buf.h"

struct csv csv_over(struct slice text, struct arena *a)
{
    static const uint8_t mark[] = {0xef, 0xbb, 0xbf};

    if (slice_starts(text, slice_of(mark, sizeof mark)))
        text = slice_from(text, sizeof mark);
    return (struct csv){.rest = text, .arena = a};
}

static bool is_newline(uint8_t c)
{
    return c == '\n' || c == '\r';
}

/* Takes one line end off, if one is there. */
static void pass_newline(struct csv *c)
{
    if (c->rest.len == 0)
        return;
    bool pair = c->rest.len > 1 && c->rest.ptr[0] == '\r' && c->rest.ptr[1] == '\n';
    c->rest = slice_from(c->rest, pair ? 2 : 1);
    c->newlines++;
}

/* Behind the opening quote. False: it has no end. */
static bool take_quoted(struct csv *c, struct slice *field)
{
    struct buf undone = {0};
    size_t from = 0, at = 0;
    bool doubled = false;

    for (; at < c->rest.len; at++) {
        uint8_t byte = c->rest.ptr[at];
        if (byte == '\n')
            c->newlines++;
        if (byte != '"')
            continue;
        if (at + 1 >= c->rest.len || c->rest.ptr[at + 1] != '"')
            break;
        doubled = true;
        buf_add(&undone, c->rest.ptr + from, at + 1 - from);
        from = ++at + 1;
    }
    if (at < c->rest.len) {
        buf_add(&undone, c->rest.ptr + from, at - from);
        *field = doubled ? arena_dup(c->arena, buf_slice(&undone)) : slice_head(c->rest, at);
        c->rest = slice_from(c->rest, at + 1);
        buf_fini(&undone);
        return true;
    }
    buf_fini(&undone);
    return false;
}

static bool take_field(struct csv *c, struct slice *field)
{
    size_t at = 0;

    if (c->rest.len > 0 && c->rest.ptr[0] == '"') {
        c->rest = slice_from(c->rest, 1);
        if (!take_quoted(c, field)) {
            c->why = "a quoted field has no end";
            return false;
        }
        if (c->rest.len > 0 && c->rest.ptr[0] != ',' && !is_newline(c->rest.ptr[0])) {
            c->why = "a quoted field is followed by text";
            return false;
        }
        return true;
    }
    while (at < c->rest.len && c->rest.ptr[at] != ',' && !is_newline(c->rest.ptr[at]))
        at++;
    *field = slice_head(c->rest, at);
    c->rest = slice_from(c->rest, at);
    return true;
}

enum csv_result csv_next(struct csv *c, struct slice *fields, size_t most, size_t *count)
{
    while (c->rest.len > 0 && is_newline(c->rest.ptr[0]))
        pass_newline(c);
    *count = 0;
    c->line = c->newlines + 1;
    if (c->rest.len == 0)
        return CSV_END;
    for (;;) {
        if (*count == most) {
            c->why = "too many fields";
            return CSV_BAD;
        }
        if (!take_field(c, &fields[*count]))
            return CSV_BAD;
        ++*count;
        if (c->rest.len == 0 || c->rest.ptr[0] != ',')
            break;
        c->rest = slice_from(c->rest, 1);
    }
    pass_newline(c);
    return CSV_LINE;
}
