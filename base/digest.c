#include "base/digest.h"

#include <assert.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/random.h>

/* Process state: what OpenSSL would otherwise look up on every call. */
static EVP_MD *sha256_md;
static EVP_MD *md5_md;
static EVP_MD_CTX *md_ctx;

static void ready(void)
{
    if (sha256_md != NULL)
        return;
    sha256_md = EVP_MD_fetch(NULL, "SHA256", NULL);
    md5_md = EVP_MD_fetch(NULL, "MD5", NULL);
    md_ctx = EVP_MD_CTX_new();
    assert(sha256_md != NULL && md_ctx != NULL);
}

static void begin(void)
{
    ready();
    int ok = EVP_DigestInit_ex2(md_ctx, sha256_md, NULL);
    assert(ok == 1);
}

static void add(struct slice s)
{
    int ok = s.len == 0 || EVP_DigestUpdate(md_ctx, s.ptr, s.len) == 1;
    assert(ok);
}

static void finish(uint8_t out[SHA256_BYTES])
{
    unsigned len = 0;
    int ok = EVP_DigestFinal_ex(md_ctx, out, &len);
    assert(ok == 1 && len == SHA256_BYTES);
}

void digest_sha256(struct slice s, uint8_t out[SHA256_BYTES])
{
    begin();
    add(s);
    finish(out);
}

void digest_sha256_parts(const struct slice *parts, size_t count, uint8_t out[SHA256_BYTES])
{
    begin();
    for (size_t i = 0; i < count; i++) {
        uint8_t len[8];
        for (size_t k = 0; k < 8; k++)
            len[k] = (uint8_t)((uint64_t)parts[i].len >> (56 - 8 * k));
        add(slice_of(len, sizeof len));
        add(parts[i]);
    }
    finish(out);
}

static size_t common_length(struct slice a, struct slice b)
{
    enum { STRIDE = 1024 };
    size_t most = a.len < b.len ? a.len : b.len, at = 0;

    while (most - at >= STRIDE && memcmp(a.ptr + at, b.ptr + at, STRIDE) == 0)
        at += STRIDE;
    while (at < most && a.ptr[at] == b.ptr[at])
        at++;
    return at;
}

void digest_sha256_alike(struct digest_memo *m, struct slice s, uint8_t out[SHA256_BYTES])
{
    enum { LEAST_BYTES = 16 << 10, MISSES_EACH = 64 };
    size_t common = common_length(buf_slice(&m->text), s);

    if (m->hashed != 0 && common >= m->hashed) {
        ready();
        int ok = EVP_MD_CTX_copy_ex(md_ctx, m->state);
        assert(ok == 1);
        add(slice_from(s, m->hashed));
        finish(out);
        m->misses = 0;
        return;
    }
    begin();
    if (common >= LEAST_BYTES) {
        if (m->state == NULL)
            m->state = EVP_MD_CTX_new();
        add(slice_head(s, common));
        int ok = m->state != NULL && EVP_MD_CTX_copy_ex(m->state, md_ctx) == 1;
        assert(ok);
        m->text.len = m->hashed = common;
        m->misses = 0;
        add(slice_from(s, common));
    } else {
        /* Copies are not free: seldom, where they have not helped. */
        m->misses++;
        if (s.len >= LEAST_BYTES &&
            ((m->misses & (m->misses - 1)) == 0 || m->misses % MISSES_EACH == 0)) {
            buf_reset(&m->text);
            buf_add_slice(&m->text, s);
            m->hashed = 0;
        }
        add(s);
    }
    finish(out);
}

void digest_memo_fini(struct digest_memo *m)
{
    EVP_MD_CTX_free(m->state);
    buf_fini(&m->text);
    *m = (struct digest_memo){0};
}

/* RFC 2104, over the fetched digest: HMAC() and EVP_MAC would look SHA-256 up anew on each call. */
void digest_hmac_sha256(struct slice key, struct slice text, uint8_t out[SHA256_BYTES])
{
    enum { BLOCK = 64 };
    uint8_t pad[BLOCK] = {0}, inner[SHA256_BYTES];

    if (key.len > BLOCK)
        digest_sha256(key, pad);
    else if (key.len != 0)
        memcpy(pad, key.ptr, key.len);
    for (size_t i = 0; i < BLOCK; i++)
        pad[i] ^= 0x36;
    begin();
    add(slice_of(pad, BLOCK));
    add(text);
    finish(inner);
    for (size_t i = 0; i < BLOCK; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    begin();
    add(slice_of(pad, BLOCK));
    add(slice_of(inner, sizeof inner));
    finish(out);
    OPENSSL_cleanse(pad, sizeof pad);
    OPENSSL_cleanse(inner, sizeof inner);
}

void digest_md5(struct slice s, uint8_t out[MD5_BYTES])
{
    unsigned len = 0;

    ready();
    assert(md5_md != NULL);
    int ok = EVP_DigestInit_ex2(md_ctx, md5_md, NULL);
    assert(ok == 1);
    add(s);
    ok = EVP_DigestFinal_ex(md_ctx, out, &len);
    assert(ok == 1 && len == MD5_BYTES);
}

bool digest_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || CRYPTO_memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool digest_is(const uint8_t a[SHA256_BYTES], const uint8_t b[SHA256_BYTES])
{
    return CRYPTO_memcmp(a, b, SHA256_BYTES) == 0;
}

void digest_random(void *out, size_t bytes)
{
    uint8_t *at = out;

    while (bytes > 0) {
        ssize_t got = getrandom(at, bytes, 0);
        if (got < 0 && errno == EINTR)
            continue;
        assert(got > 0);
        at += got;
        bytes -= (size_t)got;
    }
}

void text_hex(struct buf *to, struct slice bytes)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t *at = buf_reserve(to, bytes.len * 2);

    for (size_t i = 0; i < bytes.len; i++) {
        *at++ = (uint8_t)digits[bytes.ptr[i] >> 4];
        *at++ = (uint8_t)digits[bytes.ptr[i] & 15];
    }
    to->len += bytes.len * 2;
}

static void base64(struct buf *to, struct slice s, const char *alphabet, bool pad)
{
    uint8_t *start = buf_reserve(to, s.len / 3 * 4 + 4);
    uint8_t *at = start;
    size_t i = 0;

    for (; s.len - i >= 3; i += 3) {
        uint32_t v = (uint32_t)s.ptr[i] << 16 | (uint32_t)s.ptr[i + 1] << 8 | s.ptr[i + 2];
        *at++ = (uint8_t)alphabet[v >> 18];
        *at++ = (uint8_t)alphabet[v >> 12 & 63];
        *at++ = (uint8_t)alphabet[v >> 6 & 63];
        *at++ = (uint8_t)alphabet[v & 63];
    }
    size_t rest = s.len - i;
    if (rest > 0) {
        uint32_t v = (uint32_t)s.ptr[i] << 16 | (rest == 2 ? (uint32_t)s.ptr[i + 1] << 8 : 0);
        *at++ = (uint8_t)alphabet[v >> 18];
        *at++ = (uint8_t)alphabet[v >> 12 & 63];
        if (rest == 2)
            *at++ = (uint8_t)alphabet[v >> 6 & 63];
        else if (pad)
            *at++ = '=';
        if (pad)
            *at++ = '=';
    }
    to->len += (size_t)(at - start);
}

void text_base64(struct buf *to, struct slice bytes)
{
    base64(to, bytes, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", true);
}

void text_base64url(struct buf *to, struct slice bytes)
{
    base64(to, bytes, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", false);
}

static int base64_value(uint8_t c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    if (c == '+' || c == '-')
        return 62;
    if (c == '/' || c == '_')
        return 63;
    return -1;
}

bool text_from_base64(struct buf *to, struct slice text)
{
    uint32_t bits = 0;
    int have = 0;

    for (int pads = 0; pads < 2 && text.len > 0 && text.ptr[text.len - 1] == '='; pads++)
        text.len--;
    if (text.len % 4 == 1)
        return false;
    (void)buf_reserve(to, text.len);
    for (size_t i = 0; i < text.len; i++) {
        int value = base64_value(text.ptr[i]);
        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t)value;
        have += 6;
        if (have >= 8) {
            have -= 8;
            buf_add_byte(to, (uint8_t)(bits >> have));
        }
    }
    return true;
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool text_from_hex(struct buf *to, struct slice text)
{
    if (text.len % 2 != 0)
        return false;
    for (size_t i = 0; i < text.len; i += 2) {
        int high = hex_value(text.ptr[i]), low = hex_value(text.ptr[i + 1]);
        if (high < 0 || low < 0)
            return false;
        buf_add_byte(to, (uint8_t)(high << 4 | low));
    }
    return true;
}

bool text_read_hex(struct slice text, void *bytes, size_t count)
{
    struct buf read = {0};
    bool fits = text.len == 2 * count && text_from_hex(&read, text);

    if (fits && count > 0)
        memcpy(bytes, read.ptr, count);
    buf_fini(&read);
    return fits;
}

static bool is_unreserved(uint8_t c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == '~';
}

void text_percent_encode(struct buf *to, struct slice s, const char *keep)
{
    static const char digits[] = "0123456789ABCDEF";

    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (is_unreserved(c) || (c != 0 && strchr(keep, c) != NULL)) {
            buf_add_byte(to, c);
        } else {
            buf_add_byte(to, '%');
            buf_add_byte(to, (uint8_t)digits[c >> 4]);
            buf_add_byte(to, (uint8_t)digits[c & 15]);
        }
    }
}

bool text_percent_decode(struct buf *to, struct slice s, bool plus_is_space)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (c == '%') {
            if (s.len - i < 3)
                return false;
            int high = hex_value(s.ptr[i + 1]), low = hex_value(s.ptr[i + 2]);
            if (high < 0 || low < 0)
                return false;
            buf_add_byte(to, (uint8_t)(high << 4 | low));
            i += 2;
        } else {
            buf_add_byte(to, c == '+' && plus_is_space ? ' ' : c);
        }
    }
    return true;
}
