#include "mail/ses_address.h"

#include "base/digest.h"

/* ---- reading a list ---- */

/* Past a quoted string, comment or <…> that begins at `at`; the end of the text when it never
 * closes. */
static size_t past_enclosed(struct slice s, size_t at)
{
    uint8_t open = s.ptr[at], close = open == '(' ? ')' : open == '<' ? '>' : '"';
    unsigned depth = 1;

    for (at++; at < s.len && depth > 0; at++) {
        if (s.ptr[at] == '\\' && open != '<')
            at++;
        else if (s.ptr[at] == close)
            depth--;
        else if (s.ptr[at] == '(' && open == '(')
            depth++;
    }
    return at < s.len ? at : s.len;
}

/* Comments out, quotes and escapes undone, blanks made one. */
static struct slice phrase_of(struct slice s, struct arena *a)
{
    struct buf out = {0};

    for (size_t at = 0; at < s.len;) {
        uint8_t c = s.ptr[at];
        if (c == '(') {
            at = past_enclosed(s, at);
        } else if (c == '"') {
            size_t end = past_enclosed(s, at);
            for (at++; at < end; at++) {
                if (s.ptr[at] == '"')
                    break;
                if (s.ptr[at] == '\\' && at + 1 < end)
                    at++;
                buf_add_byte(&out, s.ptr[at]);
            }
            at = end;
        } else {
            bool blank = c == ' ' || c == '\t';
            if (!blank || (out.len > 0 && out.ptr[out.len - 1] != ' '))
                buf_add_byte(&out, blank ? ' ' : c);
            at++;
        }
    }
    struct slice phrase = arena_dup(a, slice_trim(buf_slice(&out)));
    buf_fini(&out);
    return phrase;
}

/* An address without its comments; a quoted local part keeps its quotes. */
static struct slice address_of(struct slice s, struct arena *a)
{
    struct buf out = {0};

    for (size_t at = 0; at < s.len;) {
        size_t end = s.ptr[at] == '"' || s.ptr[at] == '(' ? past_enclosed(s, at) : at + 1;
        if (s.ptr[at] != '(')
            buf_add(&out, s.ptr + at, end - at);
        at = end;
    }
    struct slice address = arena_dup(a, slice_trim(buf_slice(&out)));
    buf_fini(&out);
    return address;
}

static bool mailbox_of(struct slice s, struct arena *a, struct ses_mailbox *m)
{
    size_t at = 0;

    while (at < s.len && s.ptr[at] != '<')
        at = s.ptr[at] == '"' || s.ptr[at] == '(' ? past_enclosed(s, at) : at + 1;
    if (at < s.len) {
        size_t end = past_enclosed(s, at);
        if (end < at + 2 || s.ptr[end - 1] != '>')
            return false;
        m->name = phrase_of(slice_head(s, at), a);
        m->address = address_of(slice_of(s.ptr + at + 1, end - at - 2), a);
    } else {
        m->name = (struct slice){0};
        m->address = address_of(s, a);
    }
    return slice_find_byte(m->address, '@') != SIZE_MAX;
}

bool ses_mailboxes_parse(struct slice text, struct arena *a, struct ses_mailbox **list,
                         size_t *count)
{
    size_t from = 0, at = 0, most = 1;

    for (size_t i = 0; i < text.len; i++)
        most += text.ptr[i] == ',';
    *list = arena_array(a, most, sizeof **list);
    *count = 0;
    while (from < text.len) {
        while (at < text.len && text.ptr[at] != ',') {
            uint8_t c = text.ptr[at];
            at = c == '"' || c == '(' || c == '<' ? past_enclosed(text, at) : at + 1;
        }
        struct slice one = slice_trim(slice_of(text.ptr + from, at - from));
        if (one.len > 0 && !mailbox_of(one, a, &(*list)[(*count)++]))
            return false;
        from = ++at;
    }
    return *count > 0;
}

/* ---- writing ---- */

/* How many bytes, at most `most`, end at a character's end. At least one. */
static size_t whole_characters(struct slice s, size_t most)
{
    size_t len = s.len < most ? s.len : most;

    while (len > 1 && len < s.len && (s.ptr[len] & 0xc0) == 0x80)
        len--;
    return len;
}

static void put_words(struct buf *to, struct slice s)
{
    /* 45 bytes are 60 in base64: with =?utf-8?B? and ?= fewer than RFC 2047's 75. */
    while (s.len > 0) {
        size_t len = whole_characters(s, 45);
        buf_add_str(to, "=?utf-8?B?");
        text_base64(to, slice_head(s, len));
        buf_add_str(to, "?=");
        s = slice_from(s, len);
        if (s.len > 0)
            buf_add_byte(to, ' ');
    }
}

void ses_text_encode(struct buf *to, struct slice text)
{
    if (slice_is_ascii(text))
        buf_add_slice(to, text);
    else
        put_words(to, text);
}

static bool is_atom_text(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] == 0 || s.ptr[i] == '\\' || strchr("()<>[]:;@,.\"", s.ptr[i]) != NULL)
            return false;
    return true;
}

static void put_name(struct buf *to, struct slice name)
{
    if (!slice_is_ascii(name)) {
        put_words(to, name);
    } else if (is_atom_text(name)) {
        buf_add_slice(to, name);
    } else {
        buf_add_byte(to, '"');
        for (size_t i = 0; i < name.len; i++) {
            if (name.ptr[i] == '"' || name.ptr[i] == '\\')
                buf_add_byte(to, '\\');
            buf_add_byte(to, name.ptr[i]);
        }
        buf_add_byte(to, '"');
    }
}

/* ---- Punycode, RFC 3492 ---- */

enum {
    PUNY_BASE = 36,
    PUNY_TMIN = 1,
    PUNY_TMAX = 26,
    PUNY_SKEW = 38,
    PUNY_DAMP = 700,
    PUNY_BIAS = 72,
    PUNY_FIRST = 128,
    LABEL_MAX = 63
};

static uint32_t adapt(uint32_t delta, uint32_t points, bool first)
{
    uint32_t k = 0;

    delta = first ? delta / PUNY_DAMP : delta / 2;
    delta += delta / points;
    for (; delta > (PUNY_BASE - PUNY_TMIN) * PUNY_TMAX / 2; k += PUNY_BASE)
        delta /= PUNY_BASE - PUNY_TMIN;
    return k + (PUNY_BASE - PUNY_TMIN + 1) * delta / (delta + PUNY_SKEW);
}

static void put_number(struct buf *to, uint32_t q, uint32_t bias)
{
    static const char digits[] = "abcdefghijklmnopqrstuvwxyz0123456789";

    for (uint32_t k = PUNY_BASE;; k += PUNY_BASE) {
        uint32_t t = k <= bias ? PUNY_TMIN : k >= bias + PUNY_TMAX ? PUNY_TMAX : k - bias;
        if (q < t)
            break;
        buf_add_byte(to, (uint8_t)digits[t + (q - t) % (PUNY_BASE - t)]);
        q = (q - t) / (PUNY_BASE - t);
    }
    buf_add_byte(to, (uint8_t)digits[q]);
}

/* Code points of a label of valid UTF-8; ASCII and Latin-1 letters in lower case. */
static size_t points_of(struct slice s, uint32_t points[LABEL_MAX])
{
    size_t count = 0;

    for (size_t i = 0; i < s.len; count++) {
        uint8_t c = s.ptr[i++];
        uint32_t p = c;
        if (count == LABEL_MAX)
            return LABEL_MAX + 1;
        if (c >= 0x80) {
            size_t more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
            for (p = c & (0x3fu >> more); more > 0; more--)
                p = p << 6 | (s.ptr[i++] & 0x3fu);
        }
        if ((p >= 'A' && p <= 'Z') || (p >= 0xc0 && p <= 0xde && p != 0xd7))
            p += 0x20;
        points[count] = p;
    }
    return count;
}

static bool put_label(struct buf *to, struct slice label)
{
    uint32_t points[LABEL_MAX], n = PUNY_FIRST, delta = 0, bias = PUNY_BIAS;
    size_t from = to->len, count = points_of(label, points), done = 0;

    if (count == 0 || count > LABEL_MAX)
        return false;
    buf_add_str(to, "xn--");
    for (size_t i = 0; i < count; i++)
        if (points[i] < PUNY_FIRST) {
            buf_add_byte(to, (uint8_t)points[i]);
            done++;
        }
    size_t basic = done;
    if (basic > 0)
        buf_add_byte(to, '-');
    while (done < count) {
        uint32_t next = UINT32_MAX;
        for (size_t i = 0; i < count; i++)
            if (points[i] >= n && points[i] < next)
                next = points[i];
        delta += (next - n) * (uint32_t)(done + 1); /* < 2^21 × 64: no overflow */
        n = next;
        for (size_t i = 0; i < count; i++) {
            delta += points[i] < n;
            if (points[i] != n)
                continue;
            put_number(to, delta, bias);
            bias = adapt(delta, (uint32_t)(done + 1), done == basic);
            delta = 0;
            done++;
        }
        delta++;
        n++;
    }
    return to->len - from <= LABEL_MAX;
}

static bool put_domain(struct buf *to, struct slice domain)
{
    bool more = true;

    if (slice_is_ascii(domain)) {
        buf_add_slice(to, domain);
        return true;
    }
    while (more) {
        struct slice label, rest;
        more = slice_cut(domain, '.', &label, &rest);
        if (slice_is_ascii(label))
            buf_add_slice(to, label);
        else if (!put_label(to, label))
            return false;
        if (more)
            buf_add_byte(to, '.');
        domain = rest;
    }
    return true;
}

bool ses_mailbox_encode(struct buf *to, struct slice name, struct slice address)
{
    size_t at = slice_rfind_byte(address, '@');

    if (at == SIZE_MAX || at == 0 || at + 1 == address.len || !slice_is_utf8(address) ||
        !slice_is_ascii(slice_head(address, at)))
        return false;
    for (size_t i = 0; i < address.len; i++)
        if (address.ptr[i] < 0x20 || address.ptr[i] == 0x7f || address.ptr[i] == '<' ||
            address.ptr[i] == '>' || (address.ptr[i] == ' ' && address.ptr[0] != '"'))
            return false;
    name = slice_trim(name);
    if (name.len > 0) {
        put_name(to, name);
        buf_add_str(to, " <");
    }
    buf_add_slice(to, slice_head(address, at + 1));
    if (!put_domain(to, slice_from(address, at + 1)))
        return false;
    if (name.len > 0)
        buf_add_byte(to, '>');
    return true;
}

/* Quotes and escapes of the local part undone, the domain as Punycode, ASCII in lower case. */
static bool put_folded(struct buf *to, struct slice address)
{
    size_t at = slice_rfind_byte(address, '@'), from = to->len;

    if (at == SIZE_MAX || !slice_is_utf8(address))
        return false;
    struct slice local = slice_head(address, at);
    bool quoted = at >= 2 && local.ptr[0] == '"' && local.ptr[at - 1] == '"';
    for (size_t i = quoted ? 1 : 0; i < (quoted ? at - 1 : at); i++) {
        if (quoted && local.ptr[i] == '\\' && i + 2 < at)
            i++;
        buf_add_byte(to, local.ptr[i]);
    }
    buf_add_byte(to, '@');
    if (!put_domain(to, slice_from(address, at + 1)))
        return false;
    for (size_t i = from; i < to->len; i++)
        if (to->ptr[i] >= 'A' && to->ptr[i] <= 'Z')
            to->ptr[i] = (uint8_t)(to->ptr[i] + 32);
    return true;
}

bool ses_address_same(struct slice a, struct slice b)
{
    struct buf one = {0}, other = {0};

    if (slice_eq_nocase(a, b))
        return true;
    /* Nothing but these two can differ without making another address. */
    if (slice_is_ascii(a) && slice_is_ascii(b) && slice_find_byte(a, '"') == SIZE_MAX &&
        slice_find_byte(b, '"') == SIZE_MAX)
        return false;
    bool same = put_folded(&one, a) && put_folded(&other, b) &&
                slice_eq(buf_slice(&one), buf_slice(&other));
    buf_fini(&one);
    buf_fini(&other);
    return same;
}
