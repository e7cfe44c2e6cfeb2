#include "store/key.h"

#include "base/buf.h"
#include "base/digest.h"

enum { KEY_HASH_BYTES = 8 };

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

void key_bytes(struct key *k, struct slice s)
{
    s = slice_head(s, sizeof k->at - k->len);
    if (s.len != 0)
        memcpy(k->at + k->len, s.ptr, s.len);
    k->len += s.len;
}

void key_hash_nocase(struct key *k, struct slice s)
{
    uint8_t hash[SHA256_BYTES], small[256];
    struct buf large = {0};
    uint8_t *folded = s.len <= sizeof small ? small : buf_reserve(&large, s.len);

    for (size_t i = 0; i < s.len; i++)
        folded[i] = lower(s.ptr[i]);
    digest_sha256(slice_of(folded, s.len), hash);
    buf_fini(&large);
    key_bytes(k, slice_of(hash, KEY_HASH_BYTES));
}
