#include "store/deadletters.h"

#include <inttypes.h>

#include "base/digest.h"
#include "base/pack.h"
#include "store/internal.h"
#include "store/key.h"

enum { LETTER_VERSION = 1, LETTER_MEMBERS = 5, ROW_LETTER, ROW_KNOWN, ROW_WISH };
enum { LETTER_KEY_BYTES = 1 + 8 + DEADLETTER_ID_BYTES };

static struct key letter_key(uint64_t wall_us, const uint8_t id[DEADLETTER_ID_BYTES])
{
    struct key k = {0};

    key_u8(&k, ROW_LETTER);
    key_u64(&k, wall_us);
    key_bytes(&k, slice_of(id, DEADLETTER_ID_BYTES));
    return k;
}

static struct key id_key(uint8_t row, const uint8_t id[DEADLETTER_ID_BYTES])
{
    struct key k = {0};

    key_u8(&k, row);
    key_bytes(&k, slice_of(id, DEADLETTER_ID_BYTES));
    return k;
}

/* Of a row whose value is a time. */
static bool time_get(struct store_txn *t, uint8_t row, const uint8_t id[DEADLETTER_ID_BYTES],
                     uint64_t *wall_us)
{
    struct key k = id_key(row, id);
    struct slice value;

    if (!store_get(t, DB_DEADLETTERS, key_slice(&k), &value) || value.len != 8)
        return false;
    *wall_us = read_be(value.ptr, 8);
    return true;
}

static void set_id(struct deadletter *d)
{
    const struct slice parts[] = {d->source, d->message_id};
    uint8_t hash[SHA256_BYTES];

    digest_sha256_parts(parts, 2, hash);
    memcpy(d->id, hash, DEADLETTER_ID_BYTES);
}

int deadletter_put(struct store_txn *t, struct deadletter *d, struct err *err)
{
    struct buf packed = {0};
    struct key at = {0};

    set_id(d);
    bool repeated = time_get(t, ROW_KNOWN, d->id, &d->wall_us);

    pack_array(&packed, LETTER_MEMBERS);
    pack_u64(&packed, LETTER_VERSION);
    pack_str(&packed, d->source);
    pack_str(&packed, d->why);
    pack_bin(&packed, d->raw);
    pack_str(&packed, d->message_id);
    struct key letter = letter_key(d->wall_us, d->id), same = id_key(ROW_KNOWN, d->id);
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

    if (!time_get(t, ROW_KNOWN, id, &wall_us))
        return false;
    struct key k = letter_key(wall_us, id);
    return store_get(t, DB_DEADLETTERS, key_slice(&k), &value) &&
           letter_read(key_slice(&k), value, d);
}

int deadletter_delete(struct store_txn *t, const uint8_t id[DEADLETTER_ID_BYTES], struct err *err)
{
    uint64_t wall_us;

    if (!time_get(t, ROW_KNOWN, id, &wall_us))
        return 0;
    struct key letter = letter_key(wall_us, id), same = id_key(ROW_KNOWN, id);
    struct key wish = id_key(ROW_WISH, id);
    if (store_del(t, DB_DEADLETTERS, key_slice(&letter), err) != 0 ||
        store_del(t, DB_DEADLETTERS, key_slice(&same), err) != 0 ||
        store_del(t, DB_DEADLETTERS, key_slice(&wish), err) != 0)
        return -1;
    return 1;
}

/* All that stand before that key. */
static void each_before(struct store_txn *t, const struct key *past, deadletter_visitor *visit,
                        void *arg)
{
    MDB_cursor *cursor;
    MDB_val k, v;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_DEADLETTERS], &cursor) != MDB_SUCCESS)
        return;
    k = store_val(key_slice(past));
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

void deadletter_each(struct store_txn *t, deadletter_visitor *visit, void *arg)
{
    struct key past = {0};

    key_u8(&past, ROW_KNOWN); /* the letters stand before the first of these */
    each_before(t, &past, visit, arg);
}

void deadletter_each_below(struct store_txn *t, uint64_t below_us,
                           const uint8_t below_id[DEADLETTER_ID_BYTES], deadletter_visitor *visit,
                           void *arg)
{
    struct key past = letter_key(below_us, below_id);

    each_before(t, &past, visit, arg);
}

/* -------- wishes -------- */

size_t deadletter_wishes(struct store_txn *t, struct deadletter_wish *list, size_t most)
{
    struct key from = {0};
    MDB_cursor *cursor;
    MDB_val k, v;
    size_t count = 0;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_DEADLETTERS], &cursor) != MDB_SUCCESS)
        return 0;
    key_u8(&from, ROW_WISH); /* the last of the three */
    k = store_val(key_slice(&from));
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    for (; rc == MDB_SUCCESS && count < most; rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        struct slice key = store_slice(k), value = store_slice(v);
        if (key.len != 1 + DEADLETTER_ID_BYTES || value.len != 8)
            continue;
        memcpy(list[count].id, key.ptr + 1, DEADLETTER_ID_BYTES);
        list[count++].us = read_be(value.ptr, 8);
    }
    mdb_cursor_close(cursor);
    return count;
}

bool deadletter_is_wished(struct store_txn *t, const uint8_t id[DEADLETTER_ID_BYTES])
{
    uint64_t us;

    return time_get(t, ROW_WISH, id, &us);
}

int deadletter_wish_end(struct store_txn *t, const uint8_t id[DEADLETTER_ID_BYTES], uint64_t us,
                        struct err *err)
{
    struct key wish = id_key(ROW_WISH, id);
    uint64_t wished_us;

    if (!time_get(t, ROW_WISH, id, &wished_us) || wished_us != us)
        return 0;
    return store_del(t, DB_DEADLETTERS, key_slice(&wish), err);
}

int deadletter_replay_failed(struct store_txn *t, struct deadletter *d, uint64_t wish_us,
                             struct err *err)
{
    set_id(d);
    if (!time_get(t, ROW_KNOWN, d->id, &d->wall_us))
        return 0;
    if (deadletter_put(t, d, err) < 0)
        return -1;
    return deadletter_wish_end(t, d->id, wish_us, err);
}

/* 1 noted, 0 there is no such letter, -1 failure. */
static int wish(struct store_txn *t, const uint8_t id[DEADLETTER_ID_BYTES], uint64_t now_us,
                struct err *err)
{
    struct key k = id_key(ROW_WISH, id), at = {0};
    uint64_t wall_us;

    if (!time_get(t, ROW_KNOWN, id, &wall_us))
        return 0;
    key_u64(&at, now_us);
    return store_put(t, DB_DEADLETTERS, key_slice(&k), key_slice(&at), err) == 0 ? 1 : -1;
}

int deadletter_control(struct store_txn *t, const struct record_control *r, uint64_t now_us,
                       enum answer_verdict *verdict, uint32_t *count, struct buf *words,
                       struct err *err)
{
    *verdict = ANSWER_OK;
    *count = 0;
    if (r->ids.len % DEADLETTER_ID_BYTES != 0) {
        *verdict = ANSWER_REFUSED;
        buf_add_str(words, "these are no ids of dead letters");
        return 0;
    }
    for (size_t at = 0; at < r->ids.len; at += DEADLETTER_ID_BYTES) {
        const uint8_t *id = r->ids.ptr + at;
        int got =
            r->verb == CONTROL_DROP ? deadletter_delete(t, id, err) : wish(t, id, now_us, err);
        if (got < 0)
            return -1;
        *count += (uint32_t)got;
    }
    if (*count == 0)
        *verdict = ANSWER_NOT_FOUND;
    buf_printf(words, "%" PRIu32 " dead letters %s", *count,
               r->verb == CONTROL_DROP ? "are dropped" : "are to be read again");
    return 0;
}

bool deadletter_holds(const struct deadletter *d, struct slice text)
{
    return text.len == 0 || slice_find_nocase(d->why, text) != SIZE_MAX ||
           slice_find_nocase(d->source, text) != SIZE_MAX ||
           slice_find_nocase(d->message_id, text) != SIZE_MAX ||
           slice_find_nocase(d->raw, text) != SIZE_MAX;
}

/* -------- counting -------- */

/* Each letter has two rows; wishes are few. */
uint64_t deadletter_count(struct store_txn *t)
{
    struct key from = {0};
    MDB_cursor *cursor;
    MDB_stat stat;
    MDB_val k, v;

    if (mdb_stat(t->mdb, t->store->dbi[DB_DEADLETTERS], &stat) != MDB_SUCCESS ||
        mdb_cursor_open(t->mdb, t->store->dbi[DB_DEADLETTERS], &cursor) != MDB_SUCCESS)
        return 0;
    uint64_t rows = stat.ms_entries;
    key_u8(&from, ROW_WISH);
    k = store_val(key_slice(&from));
    for (int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE); rc == MDB_SUCCESS;
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT))
        rows--;
    mdb_cursor_close(cursor);
    return rows / 2;
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
