/*
 * store/key.h - composing keys: big-endian numbers and hashes in a fixed buffer.
 */
#ifndef STORE_KEY_H
#define STORE_KEY_H

#include "base/slice.h"

enum { KEY_BYTES_MAX = 511 }; /* LMDB's default limit */

struct key {
    size_t len;
    uint8_t at[KEY_BYTES_MAX];
};

static inline void key_u8(struct key *k, uint8_t v)
{
    k->at[k->len++] = v;
}

static inline void key_be(struct key *k, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        k->at[k->len++] = (uint8_t)(v >> (8 * (bytes - 1 - i)));
}

static inline void key_u32(struct key *k, uint32_t v)
{
    key_be(k, v, 4);
}

static inline void key_u64(struct key *k, uint64_t v)
{
    key_be(k, v, 8);
}

static inline struct slice key_slice(const struct key *k)
{
    return slice_of(k->at, k->len);
}

/* Appends bytes; what does not fit is left out (callers hash what may be long). */
void key_bytes(struct key *k, struct slice s);
/* 8 bytes of SHA-256 over s folded to lower case (ASCII). */
void key_hash_nocase(struct key *k, struct slice s);

static inline uint64_t read_be(const uint8_t *at, size_t bytes)
{
    uint64_t v = 0;

    for (size_t i = 0; i < bytes; i++)
        v = v << 8 | at[i];
    return v;
}

#endif
