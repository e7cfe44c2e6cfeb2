#include "store/event_lists.h"

#include <stdlib.h>

#include "base/mem.h"

enum {
    TIMES_BYTES = 8 + 8,
    ROW_BYTES_MAX = 4080, /* one page that LMDB gives to a long value, less its header */
    ROW_ENTRIES = (ROW_BYTES_MAX - TIMES_BYTES) / LIST_ENTRY_BYTES,
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
    uint32_t domain;
    uint8_t db;
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

static bool is_of(const struct series *s, MDB_val k)
{
    struct key first;

    key_series(&first, s, 0);
    return k.mv_size == KEY_BYTES && memcmp(k.mv_data, first.at, SERIAL_AT) == 0;
}

static uint64_t serial_of(MDB_val k)
{
    return read_be((const uint8_t *)k.mv_data + SERIAL_AT, 8);
}

/* Its oldest row; MDB_NOTFOUND where it has none. */
static int series_oldest(MDB_cursor *cursor, const struct series *s, MDB_val *k, MDB_val *v)
{
    struct key from;

    key_series(&from, s, 0);
    *k = store_val(key_slice(&from));
    int rc = mdb_cursor_get(cursor, k, v, MDB_SET_RANGE);
    return rc == MDB_SUCCESS && !is_of(s, *k) ? MDB_NOTFOUND : rc;
}

static int series_newest(MDB_cursor *cursor, const struct series *s, MDB_val *k, MDB_val *v)
{
    struct key beyond;

    key_series(&beyond, s, UINT64_MAX);
    *k = store_val(key_slice(&beyond));
    int rc = mdb_cursor_get(cursor, k, v, MDB_SET_RANGE);
    if (rc == MDB_SUCCESS || rc == MDB_NOTFOUND)
        rc = mdb_cursor_get(cursor, k, v, rc == MDB_SUCCESS ? MDB_PREV : MDB_LAST);
    return rc == MDB_SUCCESS && !is_of(s, *k) ? MDB_NOTFOUND : rc;
}

static void hash_of(struct slice text, uint8_t hash[LIST_HASH_BYTES])
{
    struct key k = {.len = 0};

    key_hash_nocase(&k, text);
    memcpy(hash, k.at, LIST_HASH_BYTES);
}

uint8_t event_list_bucket(const uint8_t hash[LIST_HASH_BYTES])
{
    return (uint8_t)(hash[0] % LIST_BUCKETS);
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
    struct waiting w = {.db = (uint8_t)db, .domain = domain};

    event_list_entry(w.entry, text, place);
    buf_add(&t->store->listed, &w, sizeof w);
}

/* Those of a row; of one that is damaged what stands there in one piece. */
static struct slice entries_of(struct slice row)
{
    struct slice entries = slice_from(row, TIMES_BYTES);

    entries.len -= entries.len % LIST_ENTRY_BYTES;
    return entries;
}

/* Has it times and nothing else but entries? */
static bool is_in_one_piece(struct slice row)
{
    return row.len >= TIMES_BYTES && entries_of(row).len == row.len - TIMES_BYTES;
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

/* Entries, one after the other, behind the newest of the series. row is scratch. */
static int put_behind(struct store_txn *t, MDB_cursor *cursor, const struct series *s,
                      struct slice entries, struct buf *row, struct err *err)
{
    uint64_t serial = 0;
    MDB_val key, v;
    int rc = series_newest(cursor, s, &key, &v);

    if (rc != MDB_SUCCESS && rc != MDB_NOTFOUND)
        return store_fail(err, rc, "the end of a list");
    buf_reset(row);
    if (rc == MDB_SUCCESS) {
        /* Behind one that is damaged nothing could be read. */
        bool whole = is_in_one_piece(store_slice(v));
        serial = serial_of(key) + !whole;
        buf_add_slice(row, whole ? store_slice(v) : slice_none());
    }
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

/* As an error of LMDB's. */
static int count_rows(MDB_cursor *cursor, const struct series *s, uint64_t *count)
{
    MDB_val k, v;
    int rc = series_oldest(cursor, s, &k, &v);

    *count = 0;
    if (rc == MDB_NOTFOUND)
        return MDB_SUCCESS;
    uint64_t first = rc == MDB_SUCCESS ? serial_of(k) : 0;
    if (rc == MDB_SUCCESS)
        rc = series_newest(cursor, s, &k, &v);
    if (rc == MDB_SUCCESS)
        *count = serial_of(k) - first + 1;
    return rc;
}

/* Takes the recent entries out of the database and puts them behind those that are in *entries. */
static int take_recent(MDB_cursor *cursor, const struct series *recent, struct buf *entries,
                       struct err *err)
{
    MDB_val k, v;
    int rc;

    while ((rc = series_oldest(cursor, recent, &k, &v)) == MDB_SUCCESS) {
        buf_add_slice(entries, entries_of(store_slice(v)));
        rc = mdb_cursor_del(cursor, 0);
        if (rc != MDB_SUCCESS)
            break;
    }
    return rc == MDB_NOTFOUND ? 0 : store_fail(err, rc, "taking out recent entries");
}

static int compare_places(const void *a, const void *b)
{
    return memcmp(a, b, PLACE_BYTES);
}

/* By list, and in each by place. */
static int compare_listed(const void *a, const void *b)
{
    int bucket = (int)event_list_bucket(a) - (int)event_list_bucket(b);

    return bucket != 0 ? bucket
                       : compare_places((const uint8_t *)a + LIST_HASH_BYTES,
                                        (const uint8_t *)b + LIST_HASH_BYTES);
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
    struct series recent = recent_of(db, w->domain);
    struct buf entries = {0}, row = {0};
    uint64_t there;
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(t->mdb, t->store->dbi[db], &cursor);

    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "opening a cursor");
    for (size_t i = 0; i < count; i++)
        buf_add(&entries, w[i].entry, LIST_ENTRY_BYTES);
    rc = count_rows(cursor, &recent, &there);
    if (rc != MDB_SUCCESS) {
        rc = store_fail(err, rc, "recent entries");
    } else if (there + count / ROW_ENTRIES < t->store->list_recent_rows_max) {
        rc = put_behind(t, cursor, &recent, buf_slice(&entries), &row, err);
    } else {
        rc = take_recent(cursor, &recent, &entries, err);
        if (rc == 0)
            rc = put_in_lists(t, cursor, db, w->domain, &entries, &row, err);
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
                      : compare_places(x->entry + LIST_HASH_BYTES, y->entry + LIST_HASH_BYTES);
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

static void find_in_row(struct slice row, struct event_list_wanted *wanted, size_t count,
                        const uint8_t *low, const uint8_t *high)
{
    if (row.len < TIMES_BYTES || read_be(row.ptr + 8, 8) < read_be(low, 8) ||
        read_be(row.ptr, 8) > read_be(high, 8))
        return;
    for (size_t at = TIMES_BYTES; at + LIST_ENTRY_BYTES <= row.len; at += LIST_ENTRY_BYTES) {
        const uint8_t *entry = row.ptr + at, *place = entry + LIST_HASH_BYTES;
        for (size_t i = 0; i < count; i++)
            if (memcmp(entry, wanted[i].hash, LIST_HASH_BYTES) == 0 &&
                compare_places(place, low) >= 0 && compare_places(place, high) <= 0)
                buf_add(&wanted[i].places, place, PLACE_BYTES);
    }
}

/* In all rows of the series. As an error of LMDB's. */
static int find_in(MDB_cursor *cursor, const struct series *s, struct event_list_wanted *wanted,
                   size_t count, const uint8_t *low, const uint8_t *high)
{
    MDB_val k, v;
    int rc = series_oldest(cursor, s, &k, &v);

    for (; rc == MDB_SUCCESS && is_of(s, k); rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT))
        find_in_row(store_slice(v), wanted, count, low, high);
    return rc == MDB_NOTFOUND ? MDB_SUCCESS : rc;
}

int event_lists_find(struct store_txn *t, enum store_db db, uint32_t domain,
                     struct event_list_wanted *wanted, size_t count, const uint8_t low[PLACE_BYTES],
                     const uint8_t high[PLACE_BYTES], struct err *err)
{
    struct series recent = recent_of(db, domain);
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(t->mdb, t->store->dbi[db], &cursor);

    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "opening a cursor");
    for (size_t i = 0; i < count; i++) {
        wanted[i].places = (struct buf){0};
        hash_of(wanted[i].text, wanted[i].hash);
    }
    for (size_t i = 0; i < count && rc == MDB_SUCCESS; i++) {
        struct series list = list_of(db, domain, event_list_bucket(wanted[i].hash));
        rc = find_in(cursor, &list, &wanted[i], 1, low, high);
    }
    if (rc == MDB_SUCCESS)
        rc = find_in(cursor, &recent, wanted, count, low, high);
    mdb_cursor_close(cursor);
    for (size_t i = 0; i < count; i++) {
        struct buf *places = &wanted[i].places;
        if (rc != MDB_SUCCESS)
            buf_fini(places);
        else if (places->len > PLACE_BYTES)
            qsort(places->ptr, places->len / PLACE_BYTES, PLACE_BYTES, compare_places);
    }
    return rc == MDB_SUCCESS ? 0 : store_fail(err, rc, "looking through lists");
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
    row->entries = entries_of(value);
    for (size_t at = LIST_HASH_BYTES; at < row->entries.len; at += LIST_ENTRY_BYTES) {
        uint64_t us = read_be(row->entries.ptr + at, 8);
        least = us < least ? us : least;
        most = us > most ? us : most;
    }
    row->whole = (key.ptr[0] & 0xc0) == 0x40 && (!row->is_recent || row->bucket == 0) &&
                 is_in_one_piece(value) && row->entries.len > 0 && read_be(value.ptr, 8) == least &&
                 read_be(value.ptr + 8, 8) == most;
    return true;
}

/* -------- expiring -------- */

static int expire_series(MDB_cursor *cursor, const struct series *s, uint64_t before_us,
                         struct err *err)
{
    MDB_val k, v;
    int rc;

    while ((rc = series_oldest(cursor, s, &k, &v)) == MDB_SUCCESS) {
        /* One without times goes, too: it would keep all that are newer. */
        if (v.mv_size >= TIMES_BYTES && read_be((const uint8_t *)v.mv_data + 8, 8) >= before_us)
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
