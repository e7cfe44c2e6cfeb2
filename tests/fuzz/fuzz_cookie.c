/* The input as a Cookie header; and every secret that is read is the one that is written. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "httpd/cookie.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t secret[COOKIE_SECRET_BYTES], again[COOKIE_SECRET_BYTES];
    struct buf written = {0}, token = {0};

    if (cookie_read(slice_of(data, size), secret)) {
        cookie_put(&written, secret, SLICE("/dashboard"), 60, true);
        bool read = cookie_read(buf_slice(&written), again);
        assert(read && memcmp(secret, again, sizeof secret) == 0);
        cookie_csrf(&token, secret);
        assert(token.len == 64);
    }
    buf_fini(&written);
    buf_fini(&token);
    return 0;
}
