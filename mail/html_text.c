#include "mail/html_text.h"

enum { LINK_BYTES_MAX = 2000 };

struct text {
    struct buf *to;
    size_t start;        /* of what is ours in it */
    unsigned line_feeds; /* at the end of it; at the start: as many as it takes */
    bool blank;          /* one is due before the next word */
    bool is_fresh;       /* behind a list's mark: blanks count for nothing */
    unsigned pre;
    struct slice link; /* of the open <a> */
    size_t link_start;
};

static void end_line(struct text *t, unsigned line_feeds)
{
    if (t->to->len == t->start)
        return;
    for (; t->line_feeds < line_feeds; t->line_feeds++)
        buf_add_byte(t->to, '\n');
    t->blank = false;
}

static void add(struct text *t, struct slice s)
{
    if (t->blank && t->to->len > t->start && t->line_feeds == 0)
        buf_add_byte(t->to, ' ');
    t->blank = t->is_fresh = false;
    t->line_feeds = 0;
    buf_add_slice(t->to, s);
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_letter(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* ---- entities ---- */

static void add_code(struct text *t, uint32_t code)
{
    uint8_t b[4];
    size_t n = 1;

    if (code == 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        code = 0xfffd;
    if (code < 0x80) {
        b[0] = (uint8_t)code;
    } else if (code < 0x800) {
        b[0] = (uint8_t)(0xc0 | code >> 6);
        b[1] = (uint8_t)(0x80 | (code & 0x3f));
        n = 2;
    } else if (code < 0x10000) {
        b[0] = (uint8_t)(0xe0 | code >> 12);
        b[1] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        b[2] = (uint8_t)(0x80 | (code & 0x3f));
        n = 3;
    } else {
        b[0] = (uint8_t)(0xf0 | code >> 18);
        b[1] = (uint8_t)(0x80 | (code >> 12 & 0x3f));
        b[2] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        b[3] = (uint8_t)(0x80 | (code & 0x3f));
        n = 4;
    }
    add(t, slice_of(b, n));
}

/* "#38", "#x26" without '&' and ';'. */
static bool numeric(struct slice name, uint32_t *code)
{
    bool hex = name.len > 2 && (name.ptr[1] | 0x20) == 'x';
    uint64_t number = 0;

    if (name.len < 2 || name.ptr[0] != '#')
        return false;
    for (size_t i = hex ? 2 : 1; i < name.len; i++) {
        uint8_t c = name.ptr[i], low = c | 0x20;
        bool digit = c >= '0' && c <= '9';
        if (!digit && !(hex && low >= 'a' && low <= 'f'))
            return false;
        number = number * (hex ? 16 : 10) + (uint64_t)(digit ? c - '0' : low - 'a' + 10);
        number = number > 0x110000 ? 0x110000 : number;
    }
    *code = (uint32_t)number;
    return true;
}

static bool named(struct slice name, uint32_t *code)
{
    static const struct {
        const char *name;
        uint32_t code;
    } entities[] = {{"amp", '&'},      {"lt", '<'},        {"gt", '>'},       {"quot", '"'},
                    {"apos", '\''},    {"nbsp", ' '},      {"copy", 0xa9},    {"reg", 0xae},
                    {"trade", 0x2122}, {"hellip", 0x2026}, {"ndash", 0x2013}, {"mdash", 0x2014},
                    {"lsquo", 0x2018}, {"rsquo", 0x2019},  {"ldquo", 0x201c}, {"rdquo", 0x201d},
                    {"laquo", 0xab},   {"raquo", 0xbb},    {"bull", 0x2022},  {"middot", 0xb7},
                    {"euro", 0x20ac},  {"pound", 0xa3},    {"times", 0xd7},   {"deg", 0xb0},
                    {"auml", 0xe4},    {"ouml", 0xf6},     {"uuml", 0xfc},    {"Auml", 0xc4},
                    {"Ouml", 0xd6},    {"Uuml", 0xdc},     {"szlig", 0xdf},   {"eacute", 0xe9},
                    {"zwnj", 0x200c},  {"shy", 0xad}};

    for (size_t i = 0; i < sizeof entities / sizeof entities[0]; i++)
        if (slice_eq(name, slice_str(entities[i].name))) {
            *code = entities[i].code;
            return true;
        }
    return false;
}

/* At '&': how many bytes it took. */
static size_t take_entity(struct text *t, struct slice rest)
{
    size_t end = slice_find_byte(slice_head(rest, 16), ';');
    uint32_t code;

    if (end != SIZE_MAX) {
        struct slice name = slice_head(slice_from(rest, 1), end - 1);
        if (numeric(name, &code) || named(name, &code)) {
            add_code(t, code);
            return end + 1;
        }
    }
    add(t, SLICE("&"));
    return 1;
}

/* ---- tags ---- */

struct tag {
    struct slice name, attributes;
    bool closes;
    size_t bytes;
};

/* At '<'. False: it is text. A quoted '>' ends no tag. */
static bool read_tag(struct slice rest, struct tag *tag)
{
    size_t at = 1;
    uint8_t quote = 0;

    *tag = (struct tag){.closes = rest.len > 1 && rest.ptr[1] == '/'};
    at += tag->closes;
    size_t name = at;
    while (at < rest.len &&
           (is_letter(rest.ptr[at]) || (rest.ptr[at] >= '0' && rest.ptr[at] <= '9')))
        at++;
    tag->name = slice_head(slice_from(rest, name), at - name);
    if (tag->name.len == 0 || !is_letter(tag->name.ptr[0]))
        return false;
    size_t attributes = at;
    for (; at < rest.len && (quote != 0 || rest.ptr[at] != '>'); at++)
        if (quote != 0)
            quote = rest.ptr[at] == quote ? 0 : quote;
        else if (rest.ptr[at] == '"' || rest.ptr[at] == '\'')
            quote = rest.ptr[at];
    tag->attributes = slice_head(slice_from(rest, attributes), at - attributes);
    tag->bytes = at < rest.len ? at + 1 : at;
    return true;
}

static bool is_one_of(struct slice name, const char *const *names)
{
    for (; *names != NULL; names++)
        if (slice_eq_nocase(name, slice_str(*names)))
            return true;
    return false;
}

/* The bytes of what is not shown, with its end; 0 = it is shown. */
static size_t hidden(struct slice rest, const struct tag *tag)
{
    static const char *const names[] = {"style", "script", "title", "template", NULL};
    struct slice behind = slice_from(rest, tag->bytes);
    size_t at = 0;

    if (tag->closes || !is_one_of(tag->name, names))
        return 0;
    for (;;) {
        size_t found = slice_find(slice_from(behind, at), SLICE("</"));
        if (found == SIZE_MAX)
            return rest.len;
        at += found + 2;
        if (slice_starts_nocase(slice_from(behind, at), tag->name))
            return tag->bytes + at - 2;
    }
}

static struct slice href_of(struct slice attributes)
{
    size_t at = slice_find_nocase(attributes, SLICE("href"));

    if (at == SIZE_MAX)
        return slice_none();
    struct slice rest = slice_trim(slice_from(attributes, at + 4));
    if (rest.len < 2 || rest.ptr[0] != '=')
        return slice_none();
    rest = slice_trim(slice_from(rest, 1));
    uint8_t quote = rest.len > 0 ? rest.ptr[0] : 0;
    if (quote != '"' && quote != '\'')
        return slice_none();
    size_t end = slice_find_byte(slice_from(rest, 1), quote);
    struct slice href = slice_head(slice_from(rest, 1), end);
    return end == SIZE_MAX || href.len > LINK_BYTES_MAX ? slice_none() : href;
}

static void add_text(struct text *t, struct slice s);

/* An address that the words themselves are, or none that a reader could follow, is not said again. */
static void end_link(struct text *t)
{
    struct slice link = t->link;
    size_t from = t->link_start < t->to->len ? t->link_start : t->to->len;
    struct slice words = slice_trim(slice_from(buf_slice(t->to), from));

    t->link = slice_none();
    if (link.len == 0 || link.ptr[0] == '#' || words.len == 0 || slice_eq(words, link) ||
        (slice_starts_nocase(link, SLICE("mailto:")) && slice_eq(slice_from(link, 7), words)))
        return;
    add(t, SLICE(" ("));
    add_text(t, link);
    add(t, SLICE(")"));
}

static void add_mark(struct text *t)
{
    add(t, SLICE("* "));
    t->is_fresh = true;
}

static void take_tag(struct text *t, const struct tag *tag)
{
    static const char *const paragraphs[] = {"p",  "ul", "ol", "h1",  "h2",    "h3",         "h4",
                                             "h5", "h6", "hr", "pre", "table", "blockquote", NULL};
    static const char *const lines[] = {
        "br",  "div", "tr", "li",      "section", "article", "header", "footer", "main",
        "nav", "dt",  "dd", "address", "figure",  "caption", "form",   NULL};

    if (is_one_of(tag->name, paragraphs))
        end_line(t, 2);
    else if (slice_eq_nocase(tag->name, SLICE("br")))
        end_line(t, t->line_feeds + 1 > 2 ? 2 : t->line_feeds + 1);
    else if (is_one_of(tag->name, lines))
        end_line(t, 1);
    else if (slice_eq_nocase(tag->name, SLICE("td")) || slice_eq_nocase(tag->name, SLICE("th")))
        t->blank = true;
    if (slice_eq_nocase(tag->name, SLICE("li")) && !tag->closes)
        add_mark(t);
    if (slice_eq_nocase(tag->name, SLICE("pre")))
        t->pre = tag->closes ? (t->pre > 0 ? t->pre - 1 : 0) : t->pre + 1;
    if (!slice_eq_nocase(tag->name, SLICE("a")))
        return;
    end_link(t);
    if (!tag->closes) {
        t->link = href_of(tag->attributes);
        t->link_start = t->to->len;
    }
}

/* ---- text ---- */

static void add_text(struct text *t, struct slice s)
{
    for (size_t i = 0; i < s.len;) {
        size_t from = i;
        if (s.ptr[i] == '&') {
            i += take_entity(t, slice_from(s, i));
        } else if (is_blank(s.ptr[i])) {
            if (t->pre > 0 && s.ptr[i] == '\n') {
                t->blank = false;
                buf_add_byte(t->to, '\n');
                t->line_feeds++;
            } else if (t->pre > 0 && s.ptr[i] != '\r') {
                add(t, slice_head(slice_from(s, i), 1));
            } else if (t->line_feeds == 0 && !t->is_fresh) {
                t->blank = true;
            }
            i++;
        } else {
            while (i < s.len && s.ptr[i] != '&' && !is_blank(s.ptr[i]))
                i++;
            add(t, slice_head(slice_from(s, from), i - from));
        }
    }
}

/* A comment, a <!DOCTYPE> or a <?…>: its bytes; 0 = at is something else. */
static size_t declaration(struct slice rest)
{
    if (rest.len < 2 || (rest.ptr[1] != '!' && rest.ptr[1] != '?'))
        return 0;
    bool comment = slice_starts(rest, SLICE("<!--"));
    size_t end = slice_find(rest, comment ? SLICE("-->") : SLICE(">"));
    return end == SIZE_MAX ? rest.len : end + (comment ? 3 : 1);
}

void html_to_text(struct buf *to, struct slice html)
{
    struct text t = {.to = to, .start = to->len};
    struct tag tag;

    while (html.len > 0) {
        size_t at = slice_find_byte(html, '<');
        if (at != 0) {
            add_text(&t, slice_head(html, at));
            html = slice_from(html, at == SIZE_MAX ? html.len : at);
            continue;
        }
        size_t bytes = declaration(html);
        if (bytes == 0 && !read_tag(html, &tag)) {
            add(&t, SLICE("<"));
            bytes = 1;
        } else if (bytes == 0) {
            bytes = hidden(html, &tag);
            if (bytes == 0) {
                take_tag(&t, &tag);
                bytes = tag.bytes;
            }
        }
        html = slice_from(html, bytes);
    }
    end_link(&t);
    while (to->len > t.start && is_blank(to->ptr[to->len - 1]))
        to->len--;
    if (to->len > t.start)
        buf_add_byte(to, '\n');
}
