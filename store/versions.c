#include "store/versions.h"

#include "store/internal.h"

enum { FIXED_BYTES = 17, NODE_AT = 8, FLAG_AT = 16 };

struct key version_key(uint32_t domain, unsigned kind)
{
    struct key k = {.len = 0};

    key_u32(&k, domain);
    key_u8(&k, (uint8_t)kind);
    return k;
}

bool version_get(struct store_txn *t, const struct key *k, struct version_row *row)
{
    struct slice bytes;

    *row = (struct version_row){.flag = false};
    if (!store_get(t, DB_VERSIONS, key_slice(k), &bytes) || bytes.len < FIXED_BYTES)
        return false;
    row->at = (struct version){read_be(bytes.ptr, 8), read_be(bytes.ptr + NODE_AT, 8)};
    row->flag = bytes.ptr[FLAG_AT] != 0;
    row->text = slice_from(bytes, FIXED_BYTES);
    return true;
}

int version_put(struct store_txn *t, const struct key *k, const struct version_row *row,
                struct err *err)
{
    struct key fixed = {.len = 0};
    struct buf bytes = {0};

    key_u64(&fixed, row->at.stamp_us);
    key_u64(&fixed, row->at.node);
    key_u8(&fixed, row->flag);
    buf_add_slice(&bytes, key_slice(&fixed));
    buf_add_slice(&bytes, row->text);
    int rc = store_put(t, DB_VERSIONS, key_slice(k), buf_slice(&bytes), err);
    buf_fini(&bytes);
    return rc;
}

int version_raise(struct store_txn *t, const struct key *k, const struct version *v, bool flag,
                  struct err *err)
{
    struct version_row now;

    if (version_get(t, k, &now) && !version_is_later(v, &now.at))
        return 0;
    return version_put(t, k, &(struct version_row){.at = *v, .flag = flag}, err) == 0 ? 1 : -1;
}
