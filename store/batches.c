#include "store/batches.h"

#include <stdlib.h>

#include "base/digest.h"
#include "store/internal.h"
#include "store/key.h"

static struct slice batch_key(struct key *k, uint64_t batch_id)
{
    k->len = 0;
    key_u64(k, batch_id);
    return key_slice(k);
}

bool batch_head(struct store_txn *t, uint64_t batch_id, struct slice *packed)
{
    struct key k;

    return store_get(t, DB_BATCHES, batch_key(&k, batch_id), packed);
}

bool batch_content(struct store_txn *t, uint64_t batch_id, struct slice *packed)
{
    struct key k;

    return store_get(t, DB_CONTENTS, batch_key(&k, batch_id), packed);
}

bool batch_recipients(struct store_txn *t, uint64_t batch_id, uint32_t slice, struct slice *packed)
{
    struct key k;

    (void)batch_key(&k, batch_id);
    key_u32(&k, slice);
    return store_get(t, DB_RECIPIENTS, key_slice(&k), packed);
}

/* Books are a row of big-endian u32 in the order of struct books, so that a grown struct can read
 * a shorter row. */
enum { BOOKS_FIELDS = sizeof(struct books) / sizeof(uint32_t) };
_Static_assert(sizeof(struct books) == BOOKS_FIELDS * sizeof(uint32_t), "books are u32 only");

static void books_read(struct slice row, struct books *books)
{
    uint32_t fields[BOOKS_FIELDS] = {0};

    for (size_t i = 0; i < BOOKS_FIELDS && row.len - i * 4 >= 4; i++)
        fields[i] = (uint32_t)read_be(row.ptr + i * 4, 4);
    memcpy(books, fields, sizeof *books);
}

uint32_t books_no_outcome(const struct books *b, uint64_t now_wall_ms, uint64_t after_ms)
{
    uint32_t sent = b->state[STATE_SENT];

    if (b->sent_wall_s == 0 || now_wall_ms < b->sent_wall_s * UINT64_C(1000) + after_ms)
        return 0;
    return sent > b->outcomes ? sent - b->outcomes : 0;
}

bool batch_books(struct store_txn *t, uint64_t batch_id, struct books *books)
{
    struct key k;
    struct slice row;

    if (!store_get(t, DB_BOOKS, batch_key(&k, batch_id), &row))
        return false;
    books_read(row, books);
    return true;
}

uint64_t batch_books_from(struct store_txn *t, uint64_t batch_id, struct books *books)
{
    struct key from = {.len = 0};
    MDB_cursor *cursor;
    uint64_t found = 0;
    MDB_val v;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_BOOKS], &cursor) != MDB_SUCCESS)
        return 0;
    key_u64(&from, batch_id);
    MDB_val k = store_val(key_slice(&from));
    if (mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE) == MDB_SUCCESS && k.mv_size == 8) {
        found = read_be(k.mv_data, 8);
        books_read(store_slice(v), books);
    }
    mdb_cursor_close(cursor);
    return found;
}

/* The last row below that id; 0 = the last of all. */
static int books_seek(MDB_cursor *cursor, uint64_t below_id, MDB_val *key, MDB_val *row)
{
    struct key k;

    if (below_id != 0) {
        *key = store_val(batch_key(&k, below_id));
        if (mdb_cursor_get(cursor, key, row, MDB_SET_RANGE) == 0)
            return mdb_cursor_get(cursor, key, row, MDB_PREV);
    }
    return mdb_cursor_get(cursor, key, row, MDB_LAST);
}

void batch_each(struct store_txn *t, batch_visitor *visit, void *arg)
{
    batch_each_below(t, 0, visit, arg);
}

void batch_each_below(struct store_txn *t, uint64_t below_id, batch_visitor *visit, void *arg)
{
    MDB_cursor *cursor;
    MDB_val key, row;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_BOOKS], &cursor) != 0)
        return;
    for (int rc = books_seek(cursor, below_id, &key, &row); rc == 0;
         rc = mdb_cursor_get(cursor, &key, &row, MDB_PREV)) {
        struct books books;
        struct slice head;

        if (key.mv_size != 8)
            continue;
        uint64_t batch_id = read_be(key.mv_data, 8);
        books_read(store_slice(row), &books);
        if (!batch_head(t, batch_id, &head))
            continue;
        if (!visit(arg, batch_id, head, &books))
            break;
    }
    mdb_cursor_close(cursor);
}

uint64_t batch_by_message_id(struct store_txn *t, struct slice domain, struct slice message_id)
{
    struct slice parts[] = {domain, message_id}, row;
    uint8_t hash[SHA256_BYTES];

    digest_sha256_parts(parts, 2, hash);
    if (!store_get(t, DB_MESSAGE_IDS, slice_of(hash, 16), &row) || row.len != 8)
        return 0;
    return read_be(row.ptr, 8);
}
