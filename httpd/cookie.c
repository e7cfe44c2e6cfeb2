#include "httpd/cookie.h"

#include <inttypes.h>

#include "base/digest.h"

bool cookie_read(struct slice header, uint8_t secret[COOKIE_SECRET_BYTES])
{
    while (header.len > 0) {
        struct slice pair, name, value;

        (void)slice_cut(header, ';', &pair, &header);
        (void)slice_cut(slice_trim(pair), '=', &name, &value);
        if (slice_eq(name, SLICE(COOKIE_NAME)) && text_read_hex(value, secret, COOKIE_SECRET_BYTES))
            return true;
    }
    return false;
}

void cookie_put(struct buf *to, const uint8_t secret[COOKIE_SECRET_BYTES], struct slice path,
                uint64_t seconds, bool secure)
{
    buf_add_str(to, COOKIE_NAME "=");
    if (seconds > 0)
        text_hex(to, slice_of(secret, COOKIE_SECRET_BYTES));
    buf_printf(to, "; Path=%.*s/; Max-Age=%" PRIu64 "; HttpOnly; SameSite=Strict%s",
               SLICE_ARGS(path), seconds, secure ? "; Secure" : "");
}

void cookie_csrf(struct buf *to, const uint8_t secret[COOKIE_SECRET_BYTES])
{
    uint8_t token[SHA256_BYTES];

    digest_hmac_sha256(slice_of(secret, COOKIE_SECRET_BYTES), SLICE("postern csrf"), token);
    text_hex(to, slice_of(token, sizeof token));
}
