#include "store/event_lists.h"

#include <stdlib.h>

#include "base/mem.h"

enum {
    TIMES_BYTES = 8 + 8,
    ROW_BYTES_MAX = 4080, /* one page that LMDB gives to a long value, less its header */
    LIST_DOMAIN_BIT = 1 << 30,
    SERIAL_AT = 4 + 1,
    KEY_BYTES = SERIAL_AT + 8,
};

/* Waits for the commit. Sorted by its bytes up to `entry`: those of one list stand together. */
struct waiting {
    uint8_t db, domain[4], bucket;
    uint8_t entry[LIST_ENTRY_BYTES];
};

static void key_list(struct key *k, uint32_t domain, uint8_t bucket, uint64_t serial)
{
    k->len = 0;
    key_u32(k, domain | LIST_DOMAIN_BIT);
    key_u8(k, bucket);
    key_u64(k, serial);
}

static void hash_of(struct slice text, uint8_t hash[LIST_HASH_BYTES])
{
    struct key k = {.len = 0};

    key_hash_nocase(&k, text);
    memcpy(hash, k.at, LIST_HASH_BYTES);
}

uint8_t event_list_bucket(const uint8_t entry[LIST_ENTRY_BYTES])
{
    return (uint8_t)(entry[0] % LIST_BUCKETS);
}

void event_list_entry(uint8_t entry[LIST_ENTRY_BYTES], struct slice text,
                      const uint8_t place[PLACE_BYTES])
{
    hash_of(text, entry);
    memcpy(entry + LIST_HASH_BYTES, place, PLACE_BYTES);
}

/* -------- adding -------- */

void event_list_add(struct store_txn *t, enum store_db db, uint32_t domain, struct slice text,
                    const uint8_t place[PLACE_BYTES])
{
    struct waiting w = {.db = (uint8_t)db};

    for (size_t i = 0; i < 4; i++)
        w.domain[i] = (uint8_t)(domain >> (24 - 8 * i));
    event_list_entry(w.entry, text, place);
    w.bucket = event_list_bucket(w.entry);
    buf_add(&t->store->listed, &w, sizeof w);
}

static int compare_waiting(const void *a, const void *b)
{
    return memcmp(a, b, offsetof(struct waiting, entry));
}

/* The newest row of a list: its serial and what it holds; 0 and nothing when there is none. */
static uint64_t newest(MDB_cursor *cursor, uint32_t domain, uint8_t bucket, struct slice *row)
{
    struct key beyond;
    MDB_val v;

    key_list(&beyond, domain, bucket, UINT64_MAX);
    MDB_val k = store_val(key_slice(&beyond));
    *row = slice_none();
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    rc = mdb_cursor_get(cursor, &k, &v, rc == MDB_SUCCESS ? MDB_PREV : MDB_LAST);
    if (rc != MDB_SUCCESS || k.mv_size != KEY_BYTES ||
        memcmp(k.mv_data, beyond.at, SERIAL_AT) != 0 || v.mv_size < TIMES_BYTES)
        return 0;
    *row = store_slice(v);
    return read_be((const uint8_t *)k.mv_data + SERIAL_AT, 8);
}

static void put_time(uint8_t *at, uint64_t us)
{
    for (size_t i = 0; i < 8; i++)
        at[i] = (uint8_t)(us >> (56 - 8 * i));
}

/* Behind what the row holds. */
static void append(struct buf *row, const uint8_t entry[LIST_ENTRY_BYTES])
{
    uint64_t us = read_be(entry + LIST_HASH_BYTES, 8);

    if (row->len == 0) {
        uint8_t *times = buf_reserve(row, TIMES_BYTES);
        put_time(times, us);
        put_time(times + 8, us);
        row->len = TIMES_BYTES;
    }
    if (us < read_be(row->ptr, 8))
        put_time(row->ptr, us);
    if (us > read_be(row->ptr + 8, 8))
        put_time(row->ptr + 8, us);
    buf_add(row, entry, LIST_ENTRY_BYTES);
}

/* Those of one list. */
static int flush_list(struct store_txn *t, MDB_cursor *cursor, const struct waiting *w,
                      size_t count, struct buf *row, struct err *err)
{
    uint32_t domain = (uint32_t)read_be(w->domain, 4);
    struct slice there;
    uint64_t serial = newest(cursor, domain, w->bucket, &there);

    buf_reset(row);
    buf_add_slice(row, there);
    for (size_t i = 0; i < count; i++) {
        if (row->len + LIST_ENTRY_BYTES > ROW_BYTES_MAX) {
            buf_reset(row);
            serial++;
        }
        append(row, w[i].entry);
        if (i + 1 < count && row->len + LIST_ENTRY_BYTES <= ROW_BYTES_MAX)
            continue;
        struct key k;
        key_list(&k, domain, w->bucket, serial);
        if (store_put(t, (enum store_db)w->db, key_slice(&k), buf_slice(row), err) != 0)
            return -1;
    }
    return 0;
}

int event_lists_flush(struct store_txn *t, struct err *err)
{
    struct buf *listed = &t->store->listed;
    size_t count = listed->len / sizeof(struct waiting);
    struct waiting *all = (struct waiting *)(void *)listed->ptr;
    MDB_cursor *cursor = NULL;
    struct buf row = {0};
    int rc = 0;

    if (count == 0)
        return 0;
    qsort(all, count, sizeof *all, compare_waiting);
    for (size_t i = 0, next; i < count && rc == 0; i = next) {
        for (next = i + 1; next < count && compare_waiting(&all[i], &all[next]) == 0;)
            next++;
        if (i == 0 || all[i].db != all[i - 1].db) {
            if (cursor != NULL)
                mdb_cursor_close(cursor);
            cursor = NULL;
            int opened = mdb_cursor_open(t->mdb, t->store->dbi[all[i].db], &cursor);
            if (opened != MDB_SUCCESS)
                rc = store_fail(err, opened, "opening a cursor");
        }
        if (rc == 0)
            rc = flush_list(t, cursor, &all[i], next - i, &row, err);
    }
    if (cursor != NULL)
        mdb_cursor_close(cursor);
    buf_fini(&row);
    buf_reset(listed);
    return rc;
}

void event_lists_forget(struct store *s)
{
    buf_reset(&s->listed);
}

void event_lists_release(struct store *s)
{
    buf_fini(&s->listed);
}

/* -------- finding -------- */

static void find_in_row(struct slice row, const uint8_t wanted[LIST_ENTRY_BYTES],
                        const uint8_t *low, const uint8_t *high, struct buf *found)
{
    if (row.len < TIMES_BYTES || read_be(row.ptr + 8, 8) < read_be(low, 8) ||
        read_be(row.ptr, 8) > read_be(high, 8))
        return;
    for (size_t at = TIMES_BYTES; at + LIST_ENTRY_BYTES <= row.len; at += LIST_ENTRY_BYTES) {
        const uint8_t *entry = row.ptr + at, *place = entry + LIST_HASH_BYTES;
        if (memcmp(entry, wanted, LIST_HASH_BYTES) == 0 && memcmp(place, low, PLACE_BYTES) >= 0 &&
            memcmp(place, high, PLACE_BYTES) <= 0)
            buf_add(found, place, PLACE_BYTES);
    }
}

static int compare_places(const void *a, const void *b)
{
    return memcmp(a, b, PLACE_BYTES);
}

int event_list_find(struct store_txn *t, enum store_db db, uint32_t domain, struct slice text,
                    const uint8_t low[PLACE_BYTES], const uint8_t high[PLACE_BYTES],
                    uint8_t **places, struct err *err)
{
    struct buf found = {0};
    uint8_t entry[LIST_ENTRY_BYTES];
    struct key from;
    MDB_cursor *cursor;
    MDB_val v;
    int rc = mdb_cursor_open(t->mdb, t->store->dbi[db], &cursor);

    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "opening a cursor");
    event_list_entry(entry, text, low);
    key_list(&from, domain, event_list_bucket(entry), 0);
    MDB_val k = store_val(key_slice(&from));
    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    for (;
         rc == MDB_SUCCESS && k.mv_size == KEY_BYTES && memcmp(k.mv_data, from.at, SERIAL_AT) == 0;
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT))
        find_in_row(store_slice(v), entry, low, high, &found);
    mdb_cursor_close(cursor);
    size_t count = found.len / PLACE_BYTES;
    if (count > 1)
        qsort(found.ptr, count, PLACE_BYTES, compare_places);
    *places = found.ptr;
    return (int)count;
}

/* -------- checking -------- */

bool event_list_row_read(struct slice key, struct slice value, struct event_list_row *row)
{
    uint64_t least = UINT64_MAX, most = 0;

    if (key.len != KEY_BYTES)
        return false;
    row->domain = (uint32_t)read_be(key.ptr, 4) & ~(uint32_t)LIST_DOMAIN_BIT;
    row->bucket = key.ptr[SERIAL_AT - 1];
    row->entries = slice_from(value, TIMES_BYTES);
    row->entries.len -= row->entries.len % LIST_ENTRY_BYTES;
    for (size_t at = LIST_HASH_BYTES; at < row->entries.len; at += LIST_ENTRY_BYTES) {
        uint64_t us = read_be(row->entries.ptr + at, 8);
        least = us < least ? us : least;
        most = us > most ? us : most;
    }
    row->whole = (key.ptr[0] & 0xc0) == 0x40 && value.len > TIMES_BYTES &&
                 row->entries.len == value.len - TIMES_BYTES && read_be(value.ptr, 8) == least &&
                 read_be(value.ptr + 8, 8) == most;
    return true;
}

/* -------- expiring -------- */

static int expire_list(MDB_cursor *cursor, uint32_t domain, uint8_t bucket, uint64_t before_us,
                       struct err *err)
{
    struct key from;
    MDB_val v;
    int rc;

    key_list(&from, domain, bucket, 0);
    while (true) {
        MDB_val k = store_val(key_slice(&from));
        rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
        if (rc != MDB_SUCCESS || k.mv_size != KEY_BYTES ||
            memcmp(k.mv_data, from.at, SERIAL_AT) != 0 || v.mv_size < TIMES_BYTES ||
            read_be((const uint8_t *)v.mv_data + 8, 8) >= before_us)
            break;
        rc = mdb_cursor_del(cursor, 0);
        if (rc != MDB_SUCCESS)
            break;
    }
    return rc == MDB_SUCCESS || rc == MDB_NOTFOUND ? 0 : store_fail(err, rc, "expiring a list");
}

int event_lists_expire(struct store_txn *t, uint32_t domain, uint64_t before_us, struct err *err)
{
    static const enum store_db dbs[] = {DB_BY_RECIPIENT, DB_BY_MESSAGE};

    int rc = 0;

    for (size_t i = 0; i < sizeof dbs / sizeof dbs[0] && rc == 0; i++) {
        MDB_cursor *cursor;
        int opened = mdb_cursor_open(t->mdb, t->store->dbi[dbs[i]], &cursor);
        if (opened != MDB_SUCCESS)
            return store_fail(err, opened, "opening a cursor");
        for (unsigned bucket = 0; bucket < LIST_BUCKETS && rc == 0; bucket++)
            rc = expire_list(cursor, domain, (uint8_t)bucket, before_us, err);
        mdb_cursor_close(cursor);
    }
    return rc;
}
