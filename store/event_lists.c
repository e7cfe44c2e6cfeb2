#include "store/event_lists.h"

#include <stdlib.h>

#include "base/mem.h"

enum {
    TIMES_BYTES = 8 + 8,
    ROW_BYTES_MAX = 4080, /* one page that LMDB gives to a long value, less its header */
    ROW_ENTRIES = (ROW_BYTES_MAX - TIMES_BYTES) / LIST_ENTRY_BYTES,
    /* Then the recent ones go where they belong: half a row to each list, and no more to look through
     * than a list of four million events has. */
    RECENT_ROWS_MAX = LIST_BUCKETS / 2,
    LIST_DOMAIN_BIT = 1 << 30,
    RECENT_DOMAIN_BIT = 1 << 29, /* beside the other one */
    SERIAL_AT = 4 + 1,
    KEY_BYTES = SERIAL_AT + 8,
};

/* Where rows stand that are numbered from 0 on: a list of a domain, or its recent entries. */
struct series {
    enum store_db db;
    uint32_t domain; /* with its bits */
    uint8_t bucket;
};

/* Waits for the commit. Sorted by its bytes: what is of one database and domain stands together. */
struct waiting {
    uint8_t db, domain[4];
    uint8_t entry[LIST_ENTRY_BYTES];
};

static struct series list_of(enum store_db db, uint32_t domain, uint8_t bucket)
{
    return (struct series){.db = db, .domain = domain | LIST_DOMAIN_BIT, .bucket = bucket};
}

static struct series recent_of(enum store_db db, uint32_t domain)
{
    return (struct series){.db = db, .domain = domain | LIST_DOMAIN_BIT | RECENT_DOMAIN_BIT};
}

static void key_series(struct key *k, const struct series *s, uint64_t serial)
{
    k->len = 0;
    key_u32(k, s->domain);
    key_u8(k, s->bucket);
    key_u64(k, serial);
}

/* Its first row from there on: MDB_NOTFOUND where it has none. */
static int series_from(MDB_cursor *cursor, const struct series *s, uint64_t serial, MDB_val *k,
                       MDB_val *v)
{
    struct key from;

    key_series(&from, s, serial);
    *k = store_val(key_slice(&from));
    int rc = mdb_cursor_get(cursor, k, v, MDB_SET_RANGE);
    bool of_it =
        rc == MDB_SUCCESS && k->mv_size == KEY_BYTES && memcmp(k->mv_data, from.at, SERIAL_AT) == 0;
    return rc == MDB_SUCCESS && !of_it ? MDB_NOTFOUND : rc;
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
    buf_add(&t->store->listed, &w, sizeof w);
}

/* The serial of a row's key. */
static uint64_t serial_of(MDB_val k)
{
    return read_be((const uint8_t *)k.mv_data + SERIAL_AT, 8);
}

/* The newest row: its serial and what it holds; 0 and nothing when there is none, the next serial and
 * nothing behind one that cannot be read. */
static uint64_t newest(MDB_cursor *cursor, const struct series *s, struct slice *row)
{
    struct key beyond;
    MDB_val v;

    key_series(&beyond, s, UINT64_MAX);
    MDB_val k = store_val(key_slice(&beyond));
    *row = slice_none();
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    rc = mdb_cursor_get(cursor, &k, &v, rc == MDB_SUCCESS ? MDB_PREV : MDB_LAST);
    if (rc != MDB_SUCCESS || k.mv_size != KEY_BYTES || memcmp(k.mv_data, beyond.at, SERIAL_AT) != 0)
        return 0;
    if (v.mv_size < TIMES_BYTES)
        return serial_of(k) + 1;
    *row = store_slice(v);
    return serial_of(k);
}

static void put_time(uint8_t *at, uint64_t us)
{
    for (size_t i = 0; i < 8; i++)
        at[i] = (uint8_t)(us >> (56 - 8 * i));
}

/* Behind what the row holds. */
static void append(struct buf *row, const uint8_t *entry)
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

/* Entries, one after the other, behind the newest of the series. row: for use here. */
static int put_behind(struct store_txn *t, MDB_cursor *cursor, const struct series *s,
                      struct slice entries, struct buf *row, struct err *err)
{
    struct slice there;
    uint64_t serial = newest(cursor, s, &there);

    buf_reset(row);
    buf_add_slice(row, there);
    for (size_t at = 0; at < entries.len; at += LIST_ENTRY_BYTES) {
        if (row->len + LIST_ENTRY_BYTES > ROW_BYTES_MAX) {
            buf_reset(row);
            serial++;
        }
        append(row, entries.ptr + at);
        bool last = at + LIST_ENTRY_BYTES == entries.len;
        if (!last && row->len + LIST_ENTRY_BYTES <= ROW_BYTES_MAX)
            continue;
        struct key k;
        key_series(&k, s, serial);
        if (store_put(t, s->db, key_slice(&k), buf_slice(row), err) != 0)
            return -1;
    }
    return 0;
}

static uint64_t recent_rows(MDB_cursor *cursor, const struct series *recent)
{
    MDB_val k, v;
    struct slice row;

    if (series_from(cursor, recent, 0, &k, &v) != MDB_SUCCESS)
        return 0;
    uint64_t first = serial_of(k);
    return newest(cursor, recent, &row) - first + 1;
}

/* Takes the recent entries out of the database, before those that are in *entries already. */
static int take_recent(MDB_cursor *cursor, const struct series *recent, struct buf *entries,
                       struct err *err)
{
    struct buf all = {0};
    MDB_val k, v;
    int rc;

    while ((rc = series_from(cursor, recent, 0, &k, &v)) == MDB_SUCCESS) {
        struct slice row = slice_from(store_slice(v), TIMES_BYTES);
        row.len -= row.len % LIST_ENTRY_BYTES;
        buf_add_slice(&all, row);
        rc = mdb_cursor_del(cursor, 0);
        if (rc != MDB_SUCCESS)
            break;
    }
    buf_add_slice(&all, buf_slice(entries));
    buf_fini(entries);
    *entries = all;
    return rc == MDB_NOTFOUND ? 0 : store_fail(err, rc, "taking out recent entries");
}

/* By list, and in each by place. */
static int compare_listed(const void *a, const void *b)
{
    int bucket = (int)event_list_bucket(a) - (int)event_list_bucket(b);

    return bucket != 0 ? bucket
                       : memcmp((const uint8_t *)a + LIST_HASH_BYTES,
                                (const uint8_t *)b + LIST_HASH_BYTES, PLACE_BYTES);
}

/* Each into its list. */
static int put_in_lists(struct store_txn *t, MDB_cursor *cursor, enum store_db db, uint32_t domain,
                        struct buf *entries, struct buf *row, struct err *err)
{
    int rc = 0;

    qsort(entries->ptr, entries->len / LIST_ENTRY_BYTES, LIST_ENTRY_BYTES, compare_listed);
    for (size_t at = 0, next; at < entries->len && rc == 0; at = next) {
        uint8_t bucket = event_list_bucket(entries->ptr + at);
        struct series list = list_of(db, domain, bucket);
        for (next = at; next < entries->len && event_list_bucket(entries->ptr + next) == bucket;)
            next += LIST_ENTRY_BYTES;
        rc = put_behind(t, cursor, &list, slice_of(entries->ptr + at, next - at), row, err);
    }
    return rc;
}

/* Those of one database and domain. */
static int flush_domain(struct store_txn *t, const struct waiting *w, size_t count, struct err *err)
{
    enum store_db db = (enum store_db)w->db;
    uint32_t domain = (uint32_t)read_be(w->domain, 4);
    struct series recent = recent_of(db, domain);
    struct buf entries = {0}, row = {0};
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(t->mdb, t->store->dbi[db], &cursor);

    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "opening a cursor");
    for (size_t i = 0; i < count; i++)
        buf_add(&entries, w[i].entry, LIST_ENTRY_BYTES);
    if (recent_rows(cursor, &recent) + count / ROW_ENTRIES < RECENT_ROWS_MAX) {
        rc = put_behind(t, cursor, &recent, buf_slice(&entries), &row, err);
    } else {
        rc = take_recent(cursor, &recent, &entries, err);
        if (rc == 0)
            rc = put_in_lists(t, cursor, db, domain, &entries, &row, err);
    }
    mdb_cursor_close(cursor);
    buf_fini(&entries);
    buf_fini(&row);
    return rc;
}

/* By database and domain, and in each by place: rows of one time are passed over together. */
static int compare_waiting(const void *a, const void *b)
{
    const struct waiting *x = a, *y = b;
    int order = memcmp(x, y, offsetof(struct waiting, entry));

    return order != 0 ? order
                      : memcmp(x->entry + LIST_HASH_BYTES, y->entry + LIST_HASH_BYTES, PLACE_BYTES);
}

int event_lists_flush(struct store_txn *t, struct err *err)
{
    struct buf *listed = &t->store->listed;
    size_t count = listed->len / sizeof(struct waiting);
    struct waiting *all = (struct waiting *)(void *)listed->ptr;
    int rc = 0;

    if (count == 0)
        return 0;
    qsort(all, count, sizeof *all, compare_waiting);
    for (size_t i = 0, next; i < count && rc == 0; i = next) {
        for (next = i + 1;
             next < count && memcmp(&all[i], &all[next], offsetof(struct waiting, entry)) == 0;)
            next++;
        rc = flush_domain(t, &all[i], next - i, err);
    }
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

/* In all rows of the series. */
static void find_in(MDB_cursor *cursor, const struct series *s,
                    const uint8_t wanted[LIST_ENTRY_BYTES], const uint8_t *low, const uint8_t *high,
                    struct buf *found)
{
    struct key from;
    MDB_val k, v;

    key_series(&from, s, 0);
    for (int rc = series_from(cursor, s, 0, &k, &v);
         rc == MDB_SUCCESS && k.mv_size == KEY_BYTES && memcmp(k.mv_data, from.at, SERIAL_AT) == 0;
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT))
        find_in_row(store_slice(v), wanted, low, high, found);
}

int event_list_find(struct store_txn *t, enum store_db db, uint32_t domain, struct slice text,
                    const uint8_t low[PLACE_BYTES], const uint8_t high[PLACE_BYTES],
                    uint8_t **places, struct err *err)
{
    struct buf found = {0};
    uint8_t entry[LIST_ENTRY_BYTES];
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(t->mdb, t->store->dbi[db], &cursor);

    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "opening a cursor");
    event_list_entry(entry, text, low);
    struct series list = list_of(db, domain, event_list_bucket(entry)),
                  recent = recent_of(db, domain);
    find_in(cursor, &list, entry, low, high, &found);
    find_in(cursor, &recent, entry, low, high, &found);
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
    row->domain = (uint32_t)read_be(key.ptr, 4);
    row->is_recent = (row->domain & RECENT_DOMAIN_BIT) != 0;
    row->domain &= ~(uint32_t)(LIST_DOMAIN_BIT | RECENT_DOMAIN_BIT);
    row->bucket = key.ptr[SERIAL_AT - 1];
    row->entries = slice_from(value, TIMES_BYTES);
    row->entries.len -= row->entries.len % LIST_ENTRY_BYTES;
    for (size_t at = LIST_HASH_BYTES; at < row->entries.len; at += LIST_ENTRY_BYTES) {
        uint64_t us = read_be(row->entries.ptr + at, 8);
        least = us < least ? us : least;
        most = us > most ? us : most;
    }
    row->whole = (key.ptr[0] & 0xc0) == 0x40 && (!row->is_recent || row->bucket == 0) &&
                 value.len > TIMES_BYTES && row->entries.len == value.len - TIMES_BYTES &&
                 read_be(value.ptr, 8) == least && read_be(value.ptr + 8, 8) == most;
    return true;
}

/* -------- expiring -------- */

static int expire_series(MDB_cursor *cursor, const struct series *s, uint64_t before_us,
                         struct err *err)
{
    MDB_val k, v;
    int rc;

    while ((rc = series_from(cursor, s, 0, &k, &v)) == MDB_SUCCESS) {
        if (v.mv_size < TIMES_BYTES || read_be((const uint8_t *)v.mv_data + 8, 8) >= before_us)
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
        struct series recent = recent_of(dbs[i], domain);
        MDB_cursor *cursor;
        int opened = mdb_cursor_open(t->mdb, t->store->dbi[dbs[i]], &cursor);
        if (opened != MDB_SUCCESS)
            return store_fail(err, opened, "opening a cursor");
        rc = expire_series(cursor, &recent, before_us, err);
        for (unsigned bucket = 0; bucket < LIST_BUCKETS && rc == 0; bucket++) {
            struct series list = list_of(dbs[i], domain, (uint8_t)bucket);
            rc = expire_series(cursor, &list, before_us, err);
        }
        mdb_cursor_close(cursor);
    }
    return rc;
}
