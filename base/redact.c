#include "base/redact.h"

#include <string.h>

#include "base/digest.h"

enum { ADDRESS_MAX = 320, DIGEST_SHOWN = 4 }; /* SOURCE RFC 5321 §4.5.3.1: 64 + 1 + 255 */

struct out {
    char *to;
    size_t room, len;
};

static void put(struct out *o, struct slice s)
{
    size_t n = s.len < o->room - o->len ? s.len : o->room - o->len;

    if (n > 0)
        memcpy(o->to + o->len, s.ptr, n);
    o->len += n;
}

static bool is_letter_or_digit(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c >= 0x80;
}

static bool is_of_local_part(uint8_t c)
{
    return is_letter_or_digit(c) || (c != '\0' && strchr(".!#$%&'*+/=?^_`{|}~-", c) != NULL);
}

static bool is_of_domain(uint8_t c)
{
    return is_letter_or_digit(c) || c == '.' || c == '-' || c == '_';
}

/* How many bytes an "@" takes here; 0 = there is none. */
static size_t at_sign(struct slice s)
{
    if (s.len > 0 && s.ptr[0] == '@')
        return 1;
    return s.len > 2 && s.ptr[0] == '%' && s.ptr[1] == '4' && s.ptr[2] == '0' ? 3 : 0;
}

/* Where the local part begins that ends at `end`; nothing before `least` belongs to it. */
static size_t local_part_begin(struct slice s, size_t least, size_t end)
{
    size_t at = end;

    if (at > least + 1 && s.ptr[at - 1] == '"') {
        at--;
        while (at > least && s.ptr[at - 1] != '"')
            at--;
        return at > least ? at - 1 : end;
    }
    while (at > least && is_of_local_part(s.ptr[at - 1]))
        at--;
    return at;
}

static size_t domain_length(struct slice s)
{
    size_t len = 0;

    if (s.len > 0 && s.ptr[0] == '[') {
        len = slice_find_byte(s, ']');
        return len == SIZE_MAX ? 0 : len + 1;
    }
    while (len < s.len && is_of_domain(s.ptr[len]))
        len++;
    return len;
}

static void put_digest(struct out *o, struct slice local, struct slice domain, struct slice key)
{
    static const char hex[] = "0123456789abcdef";
    uint8_t text[ADDRESS_MAX], digest[SHA256_BYTES];
    char shown[2 * DIGEST_SHOWN];
    struct out all = {.to = (char *)text, .room = sizeof text};

    put(&all, local);
    put(&all, SLICE("@"));
    put(&all, domain);
    for (size_t i = 0; i < all.len; i++)
        if (text[i] >= 'A' && text[i] <= 'Z')
            text[i] = (uint8_t)(text[i] + ('a' - 'A'));
    digest_hmac_sha256(key, slice_of(text, all.len), digest);
    for (size_t i = 0; i < DIGEST_SHOWN; i++) {
        shown[2 * i] = hex[digest[i] >> 4];
        shown[2 * i + 1] = hex[digest[i] & 15];
    }
    put(o, SLICE("~"));
    put(o, slice_of(shown, sizeof shown));
}

size_t redact_addresses(struct slice words, struct slice key, char *to, size_t room)
{
    struct out o = {.to = to, .room = room};
    size_t copied = 0;

    for (size_t at = 0, sign; at < words.len; at++) {
        if ((sign = at_sign(slice_from(words, at))) == 0)
            continue;
        size_t begin = local_part_begin(words, copied, at);
        size_t domain_len = domain_length(slice_from(words, at + sign));
        if (begin == at || domain_len == 0)
            continue;
        struct slice local = slice_head(slice_from(words, begin), at - begin);
        struct slice domain = slice_head(slice_from(words, at + sign), domain_len);
        put(&o, slice_head(slice_from(words, copied), begin - copied));
        if (local.ptr[0] < 0x80 && local.ptr[0] != '"')
            put(&o, slice_head(local, 1));
        put(&o, SLICE("***"));
        if (key.len > 0)
            put_digest(&o, local, domain, key);
        put(&o, SLICE("@"));
        put(&o, domain);
        copied = at + sign + domain_len;
        at = copied - 1;
    }
    put(&o, slice_from(words, copied));
    return o.len;
}
