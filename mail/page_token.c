#include "mail/page_token.h"

#include <assert.h>

#include "base/digest.h"
#include "base/pack.h"

enum {
    TOKEN_VERSION = 1,
    TOKEN_MEMBERS = 8,
    CHECK_BYTES = 6,
    TOKEN_TEXT_MAX = 16 * 1024, /* a filter of FILTER_BYTES_MAX in base64, twice over */
};

enum token_flag {
    FLAG_OPEN_END = 1,
    FLAG_ASCENDING = 2,
    FLAG_POSITION = 4,
    FLAG_BACKWARDS = 8,
    FLAG_LAST_PAGE = 16,
    FLAGS_ALL = 31,
};

void page_token_write(struct buf *to, const struct page_token *t)
{
    struct buf packed = {0};
    uint8_t hash[SHA256_BYTES];
    uint64_t flags = (t->open_end ? FLAG_OPEN_END : 0u) | (t->ascending ? FLAG_ASCENDING : 0u) |
                     (t->has_position ? FLAG_POSITION : 0u) | (t->backwards ? FLAG_BACKWARDS : 0u) |
                     (t->last_page ? FLAG_LAST_PAGE : 0u);

    assert(t->limit >= 1 && t->limit <= PAGE_LIMIT_MAX);
    pack_array(&packed, TOKEN_MEMBERS);
    pack_u64(&packed, TOKEN_VERSION);
    pack_str(&packed, t->domain);
    pack_u64(&packed, t->from_us);
    pack_u64(&packed, t->until_us);
    pack_u64(&packed, flags);
    pack_u64(&packed, t->limit);
    pack_bin(&packed, t->filter);
    if (t->has_position) {
        uint8_t position[8 + EVENT_ID_BYTES];
        for (size_t i = 0; i < 8; i++)
            position[i] = (uint8_t)(t->position_us >> (56 - 8 * i));
        memcpy(position + 8, t->position_id, EVENT_ID_BYTES);
        pack_bin(&packed, slice_of(position, sizeof position));
    } else {
        pack_nil(&packed);
    }
    digest_sha256(buf_slice(&packed), hash);
    buf_add(&packed, hash, CHECK_BYTES);
    text_base64url(to, buf_slice(&packed));
    buf_fini(&packed);
}

/* The packed token without its checksum, in the arena; empty when it is damaged. */
static struct slice token_bytes(struct slice text, struct arena *a)
{
    struct buf raw = {0};
    uint8_t hash[SHA256_BYTES];
    struct slice packed = {0};

    if (text.len <= TOKEN_TEXT_MAX && text_from_base64(&raw, text) && raw.len > CHECK_BYTES) {
        struct slice body = slice_head(buf_slice(&raw), raw.len - CHECK_BYTES);
        digest_sha256(body, hash);
        if (slice_eq(slice_of(hash, CHECK_BYTES), slice_from(buf_slice(&raw), body.len)))
            packed = arena_dup(a, body);
    }
    buf_fini(&raw);
    return packed;
}

bool page_token_read(struct slice text, struct slice domain, struct arena *a, struct page_token *t)
{
    struct slice packed = token_bytes(text, a), position = {0};
    struct unpack u = unpack_over(packed);
    struct page_token into = {0};

    if (packed.len == 0 || unpack_array(&u) != TOKEN_MEMBERS || unpack_u64(&u) != TOKEN_VERSION)
        return false;
    into.domain = unpack_str(&u);
    into.from_us = unpack_u64(&u);
    into.until_us = unpack_u64(&u);
    uint64_t flags = unpack_u64(&u);
    uint64_t limit = unpack_u64(&u);
    into.filter = unpack_str(&u);
    into.has_position = !unpack_nil(&u);
    if (into.has_position)
        position = unpack_str(&u);

    /* Anyone can compute the checksum: what it covers is checked like any input. */
    if (!unpack_done(&u) || !slice_eq_nocase(into.domain, domain) || into.from_us > into.until_us ||
        flags > FLAGS_ALL || limit < 1 || limit > PAGE_LIMIT_MAX ||
        into.has_position != ((flags & FLAG_POSITION) != 0))
        return false;
    if (into.has_position) {
        if (position.len != 8 + EVENT_ID_BYTES)
            return false;
        for (size_t i = 0; i < 8; i++)
            into.position_us = into.position_us << 8 | position.ptr[i];
        memcpy(into.position_id, position.ptr + 8, EVENT_ID_BYTES);
    }
    into.limit = (uint32_t)limit;
    into.open_end = (flags & FLAG_OPEN_END) != 0;
    into.ascending = (flags & FLAG_ASCENDING) != 0;
    into.backwards = (flags & FLAG_BACKWARDS) != 0;
    into.last_page = (flags & FLAG_LAST_PAGE) != 0;
    *t = into;
    return true;
}
