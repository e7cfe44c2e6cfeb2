#include "store/deadletters.h"

#include "base/digest.h"
#include "base/pack.h"
#include "store/internal.h"
#include "store/key.h"

enum { LETTER_VERSION = 1, LETTER_MEMBERS = 5, ROW_LETTER = 0, ROW_KNOWN = 1 };
enum { LETTER_KEY_BYTES = 1 + 8 + DEADLETTER_ID_BYTES };

static struct key letter_key(uint64_t wall_us, const uint8_t id[DEADLETTER_ID_BYTES])
{
    struct key k = {0};

    key_u8(&k, ROW_LETTER);
    key_u64(&k, wall_us);
    key_bytes(&k, slice_of(id, DEADLETTER_ID_BYTES));
    return k;
}

static struct key known_key(const uint8_t id[DEADLETTER_ID_BYTES])
{
    struct key k = {0};

    key_u8(&k, ROW_KNOWN);
    key_bytes(&k, slice_of(id, DEADLETTER_ID_BYTES));
    return k;
}

static bool known(struct store_txn *t, const uint8_t id[DEADLETTER_ID_BYTES], uint64_t *wall_us)
{
    struct key k = known_key(id);
    struct slice value;

    if (!store_get(t, DB_DEADLETTERS, key_slice(&k), &value) || value.len != 8)
        return false;
    *wall_us = read_be(value.ptr, 8);
    return true;
}

int deadletter_put(struct store_txn *t, struct deadletter *d, struct err *err)
{
    const struct slice parts[] = {d->source, d->message_id};
    uint8_t hash[SHA256_BYTES];
    struct buf packed = {0};
    struct key at = {0};

    digest_sha256_parts(parts, 2, hash);
    memcpy(d->id, hash, DEADLETTER_ID_BYTES);
    bool repeated = known(t, d->id, &d->wall_us);

    pack_array(&packed, LETTER_MEMBERS);
    pack_u64(&packed, LETTER_VERSION);
    pack_str(&packed, d->source);
    pack_str(&packed, d->why);
    pack_bin(&packed, d->raw);
    pack_str(&packed, d->message_id);
    struct key letter = letter_key(d->wall_us, d->id), same = known_key(d->id);
    key_u64(&at, d->wall_us);
    int rc = store_put(t, DB_DEADLETTERS, key_slice(&letter), buf_slice(&packed), err);
    if (rc == 0 && !repeated)
        rc = store_put(t, DB_DEADLETTERS, key_slice(&same), key_slice(&at), err);
    buf_fini(&packed);
    return rc;
}

static bool letter_read(struct slice key, struct slice value, struct deadletter *d)
{
    struct unpack u = unpack_over(value);

    if (key.len != LETTER_KEY_BYTES || unpack_array(&u) != LETTER_MEMBERS ||
        unpack_u64(&u) != LETTER_VERSION)
        return false;
    d->wall_us = read_be(key.ptr + 1, 8);
    memcpy(d->id, key.ptr + 9, DEADLETTER_ID_BYTES);
    d->source = unpack_str(&u);
    d->why = unpack_str(&u);
    d->raw = unpack_str(&u);
    d->message_id = unpack_str(&u);
    return unpack_done(&u);
}

bool deadletter_get(struct store_txn *t, const uint8_t id[DEADLETTER_ID_BYTES],
                    struct deadletter *d)
{
    struct slice value;
    uint64_t wall_us;

    if (!known(t, id, &wall_us))
        return false;
    struct key k = letter_key(wall_us, id);
    return store_get(t, DB_DEADLETTERS, key_slice(&k), &value) &&
           letter_read(key_slice(&k), value, d);
}

int deadletter_delete(struct store_txn *t, const uint8_t id[DEADLETTER_ID_BYTES], struct err *err)
{
    uint64_t wall_us;

    if (!known(t, id, &wall_us))
        return 0;
    struct key letter = letter_key(wall_us, id), same = known_key(id);
    if (store_del(t, DB_DEADLETTERS, key_slice(&letter), err) != 0 ||
        store_del(t, DB_DEADLETTERS, key_slice(&same), err) != 0)
        return -1;
    return 1;
}

void deadletter_each(struct store_txn *t, deadletter_visitor *visit, void *arg)
{
    struct key past = {0};
    MDB_cursor *cursor;
    MDB_val k, v;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_DEADLETTERS], &cursor) != MDB_SUCCESS)
        return;
    key_u8(&past, ROW_KNOWN); /* the letters stand before the first of these */
    k = store_val(key_slice(&past));
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    rc = mdb_cursor_get(cursor, &k, &v, rc == MDB_SUCCESS ? MDB_PREV : MDB_LAST);
    while (rc == MDB_SUCCESS) {
        struct deadletter d;
        if (letter_read(store_slice(k), store_slice(v), &d) && !visit(arg, &d))
            break;
        rc = mdb_cursor_get(cursor, &k, &v, MDB_PREV);
    }
    mdb_cursor_close(cursor);
}

uint64_t deadletter_count(struct store_txn *t)
{
    MDB_stat stat;

    if (mdb_stat(t->mdb, t->store->dbi[DB_DEADLETTERS], &stat) != MDB_SUCCESS)
        return 0;
    return stat.ms_entries / 2;
}

int deadletter_expire(struct store_txn *t, uint64_t before_us, uint32_t limit, struct err *err)
{
    uint32_t gone = 0;

    for (; gone < limit; gone++) {
        uint8_t id[DEADLETTER_ID_BYTES];
        struct key first = {.len = 0};
        MDB_cursor *cursor;
        MDB_val v;

        int rc = mdb_cursor_open(t->mdb, t->store->dbi[DB_DEADLETTERS], &cursor);
        if (rc != MDB_SUCCESS)
            return store_fail(err, rc, "expiring dead letters");
        key_u8(&first, ROW_LETTER);
        MDB_val k = store_val(key_slice(&first));
        rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
        bool old = rc == MDB_SUCCESS && k.mv_size == 1 + 8 + DEADLETTER_ID_BYTES &&
                   slice_starts(store_slice(k), key_slice(&first)) &&
                   read_be((const uint8_t *)k.mv_data + 1, 8) < before_us;
        if (old)
            memcpy(id, (const uint8_t *)k.mv_data + 1 + 8, sizeof id);
        mdb_cursor_close(cursor);
        if (!old)
            break;
        if (deadletter_delete(t, id, err) < 0)
            return -1;
    }
    return (int)gone;
}
