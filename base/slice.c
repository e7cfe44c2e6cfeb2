#include "base/slice.h"

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

bool slice_eq_nocase(struct slice a, struct slice b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (lower(a.ptr[i]) != lower(b.ptr[i]))
            return false;
    return true;
}

bool slice_starts(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && slice_eq(slice_head(s, prefix.len), prefix);
}

bool slice_starts_nocase(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && slice_eq_nocase(slice_head(s, prefix.len), prefix);
}

bool slice_ends_nocase(struct slice s, struct slice suffix)
{
    return s.len >= suffix.len && slice_eq_nocase(slice_from(s, s.len - suffix.len), suffix);
}

int slice_cmp(struct slice a, struct slice b)
{
    size_t least = a.len < b.len ? a.len : b.len;
    int order = least == 0 ? 0 : memcmp(a.ptr, b.ptr, least);

    if (order != 0)
        return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

size_t slice_find_byte(struct slice s, uint8_t byte)
{
    const uint8_t *at = s.len == 0 ? NULL : memchr(s.ptr, byte, s.len);

    return at == NULL ? SIZE_MAX : (size_t)(at - s.ptr);
}

size_t slice_rfind_byte(struct slice s, uint8_t byte)
{
    for (size_t i = s.len; i > 0; i--)
        if (s.ptr[i - 1] == byte)
            return i - 1;
    return SIZE_MAX;
}

size_t slice_find(struct slice s, struct slice text)
{
    if (text.len == 0)
        return 0;
    if (s.len < text.len)
        return SIZE_MAX;
    const uint8_t *at = memmem(s.ptr, s.len, text.ptr, text.len);
    return at == NULL ? SIZE_MAX : (size_t)(at - s.ptr);
}

size_t slice_find_nocase(struct slice s, struct slice text)
{
    if (text.len == 0)
        return 0;
    for (size_t i = 0; i + text.len <= s.len; i++)
        if (slice_eq_nocase(slice_of(s.ptr + i, text.len), text))
            return i;
    return SIZE_MAX;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct slice slice_trim(struct slice s)
{
    while (s.len > 0 && is_blank(s.ptr[0])) {
        s.ptr++;
        s.len--;
    }
    while (s.len > 0 && is_blank(s.ptr[s.len - 1]))
        s.len--;
    return s;
}

bool slice_cut(struct slice s, uint8_t byte, struct slice *head, struct slice *tail)
{
    size_t at = slice_find_byte(s, byte);

    if (at == SIZE_MAX) {
        *head = s;
        *tail = (struct slice){0};
        return false;
    }
    *head = slice_head(s, at);
    *tail = slice_from(s, at + 1);
    return true;
}

bool slice_to_u64(struct slice s, uint64_t *value)
{
    uint64_t sum = 0;

    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        uint8_t digit = (uint8_t)(s.ptr[i] - '0');
        if (digit > 9 || sum > (UINT64_MAX - digit) / 10)
            return false;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return true;
}

/* Bytes from `at` on that are ASCII, in steps of a word: there may be more. */
static size_t ascii_words(struct slice s, size_t at)
{
    const uint64_t high = UINT64_C(0x8080808080808080);
    size_t from = at;
    uint64_t word;

    for (; s.len - at >= sizeof word; at += sizeof word) {
        memcpy(&word, s.ptr + at, sizeof word);
        if ((word & high) != 0)
            break;
    }
    return at - from;
}

bool slice_is_ascii(struct slice s)
{
    for (size_t i = ascii_words(s, 0); i < s.len; i++)
        if (s.ptr[i] >= 0x80)
            return false;
    return true;
}

size_t slice_utf8_len(struct slice s)
{
    uint8_t c = s.len == 0 ? 0xff : s.ptr[0];
    uint32_t code, least;
    size_t more;

    if (c < 0x80)
        return 1;
    if (c >= 0xc2 && c <= 0xdf) {
        more = 1, code = c & 0x1fu, least = 0x80;
    } else if (c >= 0xe0 && c <= 0xef) {
        more = 2, code = c & 0x0fu, least = 0x800;
    } else if (c >= 0xf0 && c <= 0xf4) {
        more = 3, code = c & 0x07u, least = 0x10000;
    } else {
        return 0;
    }
    if (more > s.len - 1)
        return 0;
    for (size_t k = 1; k <= more; k++) {
        if ((s.ptr[k] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (s.ptr[k] & 0x3fu);
    }
    if (code < least || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
        return 0;
    return more + 1;
}

bool slice_is_utf8(struct slice s)
{
    for (size_t i = ascii_words(s, 0), len; i < s.len; i += len) {
        len = slice_utf8_len(slice_from(s, i));
        if (len == 0)
            return false;
        if (len == 1)
            len += ascii_words(s, i + 1);
    }
    return true;
}
