#include "aws/xml.h"

#include <assert.h>

struct reader {
    struct slice rest;
    struct slice open[XML_DEPTH_MAX]; /* names of the elements around, as they were written */
    size_t depth;
    struct step {
        struct slice name;
        unsigned wanted, seen; /* which of them; 0 = any */
        bool is_open;          /* the element around is one */
    } steps[XML_DEPTH_MAX];    /* of the path */
    size_t path_depth;         /* elements in it */
    struct buf *text;
    bool taken, is_over; /* is_over: the root was closed */
};

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_name_byte(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.' || c == ':' || c >= 0x80;
}

static void skip(struct reader *r, size_t bytes)
{
    r->rest = slice_from(r->rest, bytes);
}

static void skip_blanks(struct reader *r)
{
    while (r->rest.len > 0 && is_blank(r->rest.ptr[0]))
        skip(r, 1);
}

/* Past the mark, which must come. */
static bool skip_past(struct reader *r, struct slice mark, struct slice *before)
{
    size_t at = slice_find(r->rest, mark);

    if (at == SIZE_MAX)
        return false;
    *before = slice_head(r->rest, at);
    skip(r, at + mark.len);
    return true;
}

static struct slice take_name(struct reader *r)
{
    size_t len = 0;

    while (len < r->rest.len && is_name_byte(r->rest.ptr[len]))
        len++;
    struct slice name = slice_head(r->rest, len);
    skip(r, len);
    return name;
}

static struct slice local_part(struct slice name)
{
    size_t colon = slice_rfind_byte(name, ':');

    return colon == SIZE_MAX ? name : slice_from(name, colon + 1);
}

/* The elements around are those of the path, all of them. */
static bool is_wanted(const struct reader *r)
{
    return !r->taken && r->depth == r->path_depth && r->steps[r->depth - 1].is_open;
}

static bool put_character(struct buf *to, uint64_t c)
{
    if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
        return false;
    if (c < 0x80) {
        buf_add_byte(to, (uint8_t)c);
        return true;
    }
    int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t marks[] = {0, 0xc0, 0xe0, 0xf0};
    buf_add_byte(to, (uint8_t)(marks[more] | c >> 6 * more));
    for (int i = more - 1; i >= 0; i--)
        buf_add_byte(to, (uint8_t)(0x80 | (c >> 6 * i & 0x3f)));
    return true;
}

static bool read_number(struct slice digits, uint64_t base, uint64_t *value)
{
    *value = 0;
    if (digits.len == 0 || digits.len > 8)
        return false;
    for (size_t i = 0; i < digits.len; i++) {
        uint8_t c = digits.ptr[i];
        uint64_t digit = c >= '0' && c <= '9'   ? (uint64_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint64_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint64_t)(c - 'A' + 10)
                                                : 99;
        if (digit >= base)
            return false;
        *value = *value * base + digit;
    }
    return true;
}

/* Without its '&' and ';'. */
static bool put_entity(struct buf *to, struct slice entity)
{
    static const struct {
        const char *name;
        uint8_t byte;
    } known[] = {{"lt", '<'}, {"gt", '>'}, {"amp", '&'}, {"quot", '"'}, {"apos", '\''}};
    uint64_t number;

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (slice_eq(entity, slice_str(known[i].name))) {
            buf_add_byte(to, known[i].byte);
            return true;
        }
    if (slice_starts(entity, SLICE("#x")))
        return read_number(slice_from(entity, 2), 16, &number) && put_character(to, number);
    return slice_starts(entity, SLICE("#")) && read_number(slice_from(entity, 1), 10, &number) &&
           put_character(to, number);
}

/* Text up to the next '<'. Its entities must be right even where nobody wants it. */
static bool take_text(struct reader *r, struct buf *scratch)
{
    enum { ENTITY_MAX = 12 };
    bool wanted = is_wanted(r);
    struct buf *to = wanted ? r->text : scratch;

    while (r->rest.len > 0 && r->rest.ptr[0] != '<') {
        if (r->rest.ptr[0] != '&') {
            if (r->depth == 0 && !is_blank(r->rest.ptr[0]))
                return false;
            buf_add_byte(to, r->rest.ptr[0]);
            skip(r, 1);
            continue;
        }
        size_t end = slice_find_byte(slice_head(r->rest, ENTITY_MAX), ';');
        if (end == SIZE_MAX || r->depth == 0 || !put_entity(to, slice_of(r->rest.ptr + 1, end - 1)))
            return false;
        skip(r, end + 1);
    }
    buf_reset(scratch);
    return true;
}

/* The innermost one has just been opened. */
static void follow(struct reader *r)
{
    size_t i = r->depth - 1;

    if (i >= r->path_depth)
        return;
    struct step *s = &r->steps[i];
    s->is_open = (i == 0 || s[-1].is_open) && slice_eq(local_part(r->open[i]), s->name) &&
                 (++s->seen == s->wanted || s->wanted == 0);
    if (s->is_open && i + 1 < r->path_depth)
        s[1].seen = 0;
}

static bool close_element(struct reader *r)
{
    if (is_wanted(r))
        r->taken = true;
    r->depth--;
    r->is_over = r->depth == 0;
    return true;
}

/* Behind "<": a start tag, or an empty element. */
static bool take_start(struct reader *r)
{
    struct slice name = take_name(r), passed;

    if (name.len == 0 || r->depth == XML_DEPTH_MAX || r->is_over)
        return false;
    r->open[r->depth++] = name;
    follow(r);
    for (;;) {
        size_t before = r->rest.len;
        skip_blanks(r);
        if (slice_starts(r->rest, SLICE("/>"))) {
            skip(r, 2);
            return close_element(r);
        }
        if (slice_starts(r->rest, SLICE(">"))) {
            skip(r, 1);
            return true;
        }
        /* An attribute, a blank in front of it. */
        if (r->rest.len == before || take_name(r).len == 0)
            return false;
        skip_blanks(r);
        if (!slice_starts(r->rest, SLICE("=")))
            return false;
        skip(r, 1);
        skip_blanks(r);
        struct slice quote = slice_head(r->rest, 1);
        if (!slice_eq(quote, SLICE("\"")) && !slice_eq(quote, SLICE("'")))
            return false;
        skip(r, 1);
        if (!skip_past(r, quote, &passed) || slice_find_byte(passed, '<') != SIZE_MAX)
            return false;
    }
}

/* Behind "</". */
static bool take_end(struct reader *r)
{
    struct slice name = take_name(r);

    skip_blanks(r);
    if (r->depth == 0 || !slice_eq(name, r->open[r->depth - 1]) ||
        !slice_starts(r->rest, SLICE(">")))
        return false;
    skip(r, 1);
    return close_element(r);
}

static bool take_markup(struct reader *r)
{
    struct slice passed;

    if (slice_starts(r->rest, SLICE("<?")))
        return skip_past(r, SLICE("?>"), &passed);
    if (slice_starts(r->rest, SLICE("<!--"))) {
        skip(r, 4);
        return skip_past(r, SLICE("-->"), &passed);
    }
    if (slice_starts(r->rest, SLICE("<![CDATA["))) {
        skip(r, 9);
        if (r->depth == 0 || !skip_past(r, SLICE("]]>"), &passed))
            return false;
        if (is_wanted(r))
            buf_add_slice(r->text, passed);
        return true;
    }
    if (slice_starts(r->rest, SLICE("</"))) {
        skip(r, 2);
        return take_end(r);
    }
    skip(r, 1);
    return take_start(r); /* "<!DOCTYPE": '!' begins no name */
}

static void read_path(struct reader *r, struct slice path)
{
    struct slice name, number;
    uint64_t wanted;

    while (path.len > 0) {
        assert(r->path_depth < XML_DEPTH_MAX);
        struct step *s = &r->steps[r->path_depth++];
        (void)slice_cut(path, '/', &name, &path);
        if (slice_cut(name, '[', &s->name, &number) &&
            slice_to_u64(slice_head(number, number.len - 1), &wanted))
            s->wanted = (unsigned)wanted;
    }
}

enum xml_result xml_text(struct slice document, const char *path, struct buf *text)
{
    struct reader r = {.rest = document, .text = text};
    size_t before = text->len;
    struct buf scratch = {0};
    bool fine = true;

    read_path(&r, slice_str(path));
    if (slice_starts(r.rest, SLICE("\xef\xbb\xbf"))) /* a byte order mark */
        skip(&r, 3);
    while (fine && r.rest.len > 0)
        fine = r.rest.ptr[0] == '<' ? take_markup(&r) : take_text(&r, &scratch);
    buf_fini(&scratch);
    if (fine && r.is_over && r.taken)
        return XML_FOUND;
    text->len = before;
    return fine && r.is_over ? XML_ABSENT : XML_BROKEN;
}
