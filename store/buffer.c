#include "store/buffer.h"

#include "store/internal.h"
#include "store/key.h"

enum { GAUGE_BYTES = 4, EPOCH_BYTES = 8, TIME_BYTES = 8 };

static struct key id_key(uint64_t batch_id)
{
    struct key k = {.len = 0};

    key_u64(&k, batch_id);
    return k;
}

/* -------- staged -------- */

int staged_put(struct store_txn *t, uint64_t batch_id, const struct staged *s, struct err *err)
{
    struct key k = id_key(batch_id), head = {.len = 0};
    struct buf row = {0};

    key_u32(&head, s->gauge);
    key_u64(&head, s->epoch);
    buf_add_slice(&row, key_slice(&head));
    buf_add_slice(&row, s->accept);
    int rc = store_put(t, DB_STAGED, key_slice(&k), buf_slice(&row), err);
    buf_fini(&row);
    return rc;
}

bool staged_get(struct store_txn *t, uint64_t batch_id, struct staged *s)
{
    struct key k = id_key(batch_id);
    struct slice row;

    if (!store_get(t, DB_STAGED, key_slice(&k), &row) || row.len < GAUGE_BYTES + EPOCH_BYTES)
        return false;
    s->gauge = (unsigned)read_be(row.ptr, GAUGE_BYTES);
    s->epoch = read_be(row.ptr + GAUGE_BYTES, EPOCH_BYTES);
    s->accept = slice_from(row, GAUGE_BYTES + EPOCH_BYTES);
    return true;
}

int staged_del(struct store_txn *t, uint64_t batch_id, struct err *err)
{
    struct key k = id_key(batch_id);

    return store_del(t, DB_STAGED, key_slice(&k), err);
}

static uint64_t staged_at(struct store_txn *t, struct slice from, MDB_cursor_op op)
{
    MDB_cursor *cursor;
    MDB_val k = store_val(from), v;
    uint64_t id = 0;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_STAGED], &cursor) != MDB_SUCCESS)
        return 0;
    if (mdb_cursor_get(cursor, &k, &v, op) == MDB_SUCCESS && k.mv_size == 8)
        id = read_be(k.mv_data, 8);
    mdb_cursor_close(cursor);
    return id;
}

uint64_t staged_after(struct store_txn *t, uint64_t batch_id)
{
    struct key from = id_key(batch_id + 1);

    return staged_at(t, key_slice(&from), MDB_SET_RANGE);
}

uint64_t staged_last_id(struct store_txn *t)
{
    return staged_at(t, slice_none(), MDB_LAST);
}

/* -------- posted: µs, batch id, answer -------- */

bool posted_get(struct store_txn *t, const uint8_t group[POST_GROUP_BYTES], struct first_post *p)
{
    struct slice row;

    if (!store_get(t, DB_POSTED, slice_of(group, POST_GROUP_BYTES), &row) ||
        row.len < TIME_BYTES + 8)
        return false;
    p->batch_id = read_be(row.ptr + TIME_BYTES, 8);
    p->answer_id = slice_from(row, TIME_BYTES + 8);
    return true;
}

int posted_put(struct store_txn *t, const uint8_t group[POST_GROUP_BYTES],
               const struct first_post *p, uint64_t now_us, struct err *err)
{
    struct key numbers = {.len = 0};
    struct buf row = {0};

    key_u64(&numbers, now_us);
    key_u64(&numbers, p->batch_id);
    buf_add_slice(&row, key_slice(&numbers));
    buf_add_slice(&row, p->answer_id);
    int rc = store_put(t, DB_POSTED, slice_of(group, POST_GROUP_BYTES), buf_slice(&row), err);
    buf_fini(&row);
    return rc;
}

int posted_del(struct store_txn *t, const uint8_t group[POST_GROUP_BYTES], struct err *err)
{
    return store_del(t, DB_POSTED, slice_of(group, POST_GROUP_BYTES), err);
}

/* -------- parts: µs, receives -------- */

bool part_row_get(struct store_txn *t, uint64_t batch_id, uint32_t *receives)
{
    struct key k = id_key(batch_id);
    struct slice row;

    if (!store_get(t, DB_PARTS, key_slice(&k), &row) || row.len != TIME_BYTES + 4)
        return false;
    *receives = (uint32_t)read_be(row.ptr + TIME_BYTES, 4);
    return true;
}

int part_row_put(struct store_txn *t, uint64_t batch_id, uint32_t receives, uint64_t now_us,
                 struct err *err)
{
    struct key k = id_key(batch_id), row = {.len = 0};

    key_u64(&row, now_us);
    key_u32(&row, receives);
    return store_put(t, DB_PARTS, key_slice(&k), key_slice(&row), err);
}

/* -------- elsewhere -------- */

static struct key place_key(uint64_t batch_id, uint32_t recipient)
{
    struct key k = id_key(batch_id);

    key_u32(&k, recipient);
    return k;
}

int served_put(struct store_txn *t, uint64_t batch_id, uint32_t recipient, struct slice claim,
               uint64_t now_us, struct err *err)
{
    struct key place = place_key(batch_id, recipient), row = {.len = 0};

    key_u64(&row, now_us);
    if (claim.len == CLAIM_BYTES && store_put(t, DB_SERVED, claim, key_slice(&row), err) != 0)
        return -1;
    return store_put(t, DB_SERVED, key_slice(&place), key_slice(&row), err);
}

bool served_has(struct store_txn *t, uint64_t batch_id, uint32_t recipient,
                const uint8_t claim[CLAIM_BYTES])
{
    struct key place = place_key(batch_id, recipient);
    struct slice row;

    return store_get(t, DB_SERVED, key_slice(&place), &row) ||
           store_get(t, DB_SERVED, slice_of(claim, CLAIM_BYTES), &row);
}
