/* The input as a token's text, and as what stands behind a checksum that is right. */
#include <assert.h>
#include <stdint.h>

#include "base/digest.h"
#include "mail/page_token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_token(struct slice text)
{
    struct arena a = {0};
    struct page_token t, again;
    struct buf written = {0};
    struct slice domain = SLICE("mg.example.com");

    if (page_token_read(text, domain, &a, &t)) {
        assert(t.limit >= 1 && t.limit <= PAGE_LIMIT_MAX && t.from_us <= t.until_us);
        page_token_write(&written, &t);
        bool read = page_token_read(buf_slice(&written), domain, &a, &again);
        assert(read && again.position_us == t.position_us && slice_eq(again.filter, t.filter));
    }
    buf_fini(&written);
    arena_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t hash[SHA256_BYTES];
    struct buf raw = {0}, text = {0};

    read_token(slice_of(data, size));
    digest_sha256(slice_of(data, size), hash);
    buf_add(&raw, data, size);
    buf_add(&raw, hash, 6);
    text_base64url(&text, buf_slice(&raw));
    read_token(buf_slice(&text));
    buf_fini(&raw);
    buf_fini(&text);
    return 0;
}
