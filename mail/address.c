#include "mail/address.h"

#include "base/digest.h"

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static bool is_control(uint8_t c)
{
    return c < 0x20 || c == 0x7f;
}

static bool is_alphanumeric(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

/* -------- encoded words, RFC 2047 -------- */

/* Well beyond RFC 2047's 75: what has no end within it is no encoded word. */
enum { WORD_BYTES_MAX = 256 };

static int hex_of(uint8_t c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

static bool decode_q(struct buf *to, struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (c == '=') {
            int high = i + 2 < s.len ? hex_of(s.ptr[i + 1]) : -1;
            int low = i + 2 < s.len ? hex_of(s.ptr[i + 2]) : -1;
            if (high < 0 || low < 0)
                return false;
            c = (uint8_t)(high << 4 | low);
            i += 2;
        } else if (c == '_') {
            c = ' ';
        }
        buf_add_byte(to, c);
    }
    return true;
}

static void add_latin1(struct buf *to, struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] >= 0x80)
            buf_add_byte(to, (uint8_t)(0xc0 | s.ptr[i] >> 6));
        buf_add_byte(to, s.ptr[i] < 0x80 ? s.ptr[i] : (uint8_t)(0x80 | (s.ptr[i] & 0x3f)));
    }
}

/* Decodes the word =?charset?B|Q?text?= at the start of s. Gives its length, 0 when there is none
 * that we can read; then nothing was appended. */
static size_t decode_word(struct buf *to, struct slice s)
{
    struct slice charset, encoding, text, rest, language;
    struct buf plain = {0};
    bool ok = false;

    s = slice_head(s, WORD_BYTES_MAX);
    if (!slice_starts(s, SLICE("=?")) || !slice_cut(slice_from(s, 2), '?', &charset, &rest) ||
        !slice_cut(rest, '?', &encoding, &rest))
        return 0;
    size_t end = slice_find(rest, SLICE("?="));
    if (end == SIZE_MAX)
        return 0;
    text = slice_head(rest, end);
    (void)slice_cut(charset, '*', &charset, &language); /* RFC 2231 */
    bool latin1 = slice_eq_nocase(charset, SLICE("iso-8859-1"));
    if (!latin1 && !slice_eq_nocase(charset, SLICE("utf-8")) &&
        !slice_eq_nocase(charset, SLICE("us-ascii")))
        return 0;
    if (slice_eq_nocase(encoding, SLICE("b")))
        ok = text_from_base64(&plain, text);
    else if (slice_eq_nocase(encoding, SLICE("q")))
        ok = decode_q(&plain, text);
    if (ok && latin1)
        add_latin1(to, buf_slice(&plain));
    else if (ok)
        buf_add_slice(to, buf_slice(&plain));
    buf_fini(&plain);
    return ok ? (size_t)(rest.ptr - s.ptr) + end + 2 : 0;
}

/* -------- pieces -------- */

/* Past the quoted string or comment that begins at `at`; SIZE_MAX when it does not end. */
static size_t past_enclosed(struct slice s, size_t at)
{
    bool comment = s.ptr[at] == '(';
    size_t depth = 1;

    for (at++; at < s.len; at++) {
        uint8_t c = s.ptr[at];
        bool escaped = c == '\\' && at + 1 < s.len;
        if (escaped)
            c = s.ptr[++at];
        if (is_control(c) && c != '\t')
            return SIZE_MAX;
        if (escaped)
            continue;
        if (comment && c == '(')
            depth++;
        else if (c == (comment ? ')' : '"') && --depth == 0)
            return at + 1;
    }
    return SIZE_MAX;
}

/* Outside quotes, comments out. */
static struct slice without_comments(struct slice s, struct arena *a)
{
    struct buf out = {0};

    if (slice_find_byte(s, '(') == SIZE_MAX)
        return slice_trim(s);
    for (size_t at = 0; at < s.len;) {
        bool enclosed = s.ptr[at] == '"' || s.ptr[at] == '(';
        size_t end = enclosed ? past_enclosed(s, at) : at + 1;
        if (s.ptr[at] != '(')
            buf_add(&out, s.ptr + at, end - at);
        at = end;
    }
    struct slice plain = arena_dup(a, slice_trim(buf_slice(&out)));
    buf_fini(&out);
    return plain;
}

/* The characters between the quotes, escapes undone. */
static void add_quoted(struct buf *to, struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '\\' && i + 1 < s.len)
            i++;
        buf_add_byte(to, s.ptr[i]);
    }
}

/* A run without blanks, quotes and comments; encoded words in it decoded. */
static void add_run(struct buf *to, struct slice s, bool blank_before, bool *after_word)
{
    bool first = true;

    while (s.len > 0) {
        size_t from = to->len;
        /* Blanks between two encoded words are not part of the text. */
        struct buf word = {0};
        size_t len = decode_word(&word, s);
        if (first && blank_before && from > 0 && !(len > 0 && *after_word))
            buf_add_byte(to, ' ');
        if (len > 0) {
            buf_add_slice(to, buf_slice(&word));
        } else {
            size_t next = slice_find(slice_from(s, 1), SLICE("=?"));
            len = next == SIZE_MAX ? s.len : next + 1;
            buf_add_slice(to, slice_head(s, len));
        }
        *after_word = word.ptr != NULL;
        buf_fini(&word);
        s = slice_from(s, len);
        first = false;
    }
}

/* A display name: quotes, escapes, comments and encoded words undone, blanks made one. */
static struct slice phrase_of(struct slice s, struct arena *a)
{
    struct buf out = {0};
    bool blank = false, after_word = false;

    s = slice_trim(s);
    for (size_t at = 0; at < s.len;) {
        uint8_t c = s.ptr[at];
        size_t end = at + 1;
        if (is_blank(c)) {
            blank = true;
        } else if (c == '(') {
            end = past_enclosed(s, at);
            blank = true;
        } else if (c == '"') {
            end = past_enclosed(s, at);
            if (blank && out.len > 0)
                buf_add_byte(&out, ' ');
            add_quoted(&out, slice_of(s.ptr + at + 1, end - at - 2));
            blank = after_word = false;
        } else {
            while (end < s.len && !is_blank(s.ptr[end]) && s.ptr[end] != '"' && s.ptr[end] != '(')
                end++;
            add_run(&out, slice_of(s.ptr + at, end - at), blank, &after_word);
            blank = false;
        }
        at = end;
    }
    /* Half a character, or bytes of another charset: the name stays as it was written. */
    struct slice plain = slice_is_utf8(buf_slice(&out)) ? buf_slice(&out) : s;
    uint8_t *name = arena_alloc(a, plain.len);
    for (size_t i = 0; i < plain.len; i++)
        name[i] = is_control(plain.ptr[i]) ? ' ' : plain.ptr[i];
    buf_fini(&out);
    return slice_trim(slice_of(name, plain.len));
}

/* -------- the list -------- */

static struct slice skip_empty(struct slice s)
{
    size_t at = 0;

    while (at < s.len && (s.ptr[at] == ',' || is_blank(s.ptr[at])))
        at++;
    return slice_from(s, at);
}

enum address_result address_next(struct slice *list, struct arena *a, struct mailbox *m)
{
    struct slice s = skip_empty(*list);
    size_t at = 0, open = SIZE_MAX, close = SIZE_MAX;

    *list = s;
    if (s.len == 0)
        return ADDRESS_END;
    while (at < s.len && s.ptr[at] != ',') {
        uint8_t c = s.ptr[at];
        bool inside = open != SIZE_MAX && close == SIZE_MAX;
        if (c == '"' || c == '(') {
            at = past_enclosed(s, at);
            if (at == SIZE_MAX)
                return ADDRESS_BAD;
            continue;
        }
        if ((is_control(c) && c != '\t') || c == ':' || c == ';' ||
            (c == '<' && open != SIZE_MAX) || (c == '>' && !inside))
            return ADDRESS_BAD;
        if (c == '<')
            open = at;
        else if (c == '>')
            close = at;
        at++;
    }
    *list = slice_from(s, at);
    s = slice_head(s, at);
    if (open == SIZE_MAX) {
        *m = (struct mailbox){.address = without_comments(s, a)};
    } else {
        if (close == SIZE_MAX || without_comments(slice_from(s, close + 1), a).len > 0)
            return ADDRESS_BAD;
        m->name = phrase_of(slice_head(s, open), a);
        m->address = without_comments(slice_of(s.ptr + open + 1, close - open - 1), a);
    }
    return address_is_valid(m->address) ? ADDRESS_OK : ADDRESS_BAD;
}

/* -------- one address -------- */

static bool is_local_part(struct slice s)
{
    if (s.len == 0)
        return false;
    if (s.ptr[0] == '"')
        return past_enclosed(s, 0) == s.len;
    for (size_t i = 0; i < s.len; i++)
        if (!is_alphanumeric(s.ptr[i]) && s.ptr[i] < 0x80 &&
            (s.ptr[i] == 0 || strchr("!#$%&'*+-/=?^_`{|}~.", s.ptr[i]) == NULL))
            return false;
    return true;
}

static bool is_domain(struct slice s)
{
    struct slice label;
    bool more = true;

    while (more) {
        more = slice_cut(s, '.', &label, &s);
        if (label.len == 0 || label.len > ADDRESS_LABEL_MAX)
            return false;
        for (size_t i = 0; i < label.len; i++)
            if (!is_alphanumeric(label.ptr[i]) && label.ptr[i] != '-' && label.ptr[i] != '_' &&
                label.ptr[i] < 0x80)
                return false;
    }
    return true;
}

bool address_is_domain(struct slice s)
{
    return s.len <= ADDRESS_BYTES_MAX && is_domain(s) && slice_find_byte(s, '.') != SIZE_MAX;
}

bool address_is_valid(struct slice address)
{
    size_t at = slice_rfind_byte(address, '@');

    return address.len <= ADDRESS_BYTES_MAX && at != SIZE_MAX &&
           is_local_part(slice_head(address, at)) && is_domain(slice_from(address, at + 1));
}

void address_fold(struct buf *to, struct slice address)
{
    size_t at = slice_rfind_byte(address, '@');

    for (size_t i = 0; i < address.len; i++) {
        uint8_t c = address.ptr[i];
        bool fold = at != SIZE_MAX && i > at && c >= 'A' && c <= 'Z';
        buf_add_byte(to, fold ? (uint8_t)(c + 32) : c);
    }
}

void address_of_from(struct buf *to, struct slice from)
{
    struct arena arena = {0};
    struct slice list = from;
    struct mailbox one, more;

    if (address_next(&list, &arena, &one) == ADDRESS_OK &&
        address_next(&list, &arena, &more) == ADDRESS_END)
        address_fold(to, one.address);
    else
        buf_add_slice(to, from);
    arena_fini(&arena);
}
