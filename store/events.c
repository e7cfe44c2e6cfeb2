/*
 * Where an event stands in its domain is (timestamp, id), 24 bytes: its place. Every index row is a
 * prefix that says what is indexed, then the place:
 *
 *   events         domain                     place → ses_us, packed event
 *   by_tag         domain, tag hash, type     place → ""
 *   by_type        domain, type               place → ""
 *   by_recipient   domain, address hash       place → ""
 *   by_message     domain, message-id hash    place → ""
 *
 * A query is a merge of up to nine such runs (one per type asked for), each in the order of places.
 *
 * The `accepted` events of a batch differ in little more than the address, and would cost more than
 * all else that sending costs. So they are stored in groups: one row for as many as fit a page, its
 * place that of the first of them; the others follow with the last two bytes (the ordinal) counted
 * up, and nothing stands between.
 *
 *   events         domain                     place → ses_us, mark, flags, count, what they share
 *                                                     as a packed event, what differs for each
 *   by_tag, by_type, by_message               place → count
 *   by_recipient   domain with its top bit    place → (short hash, ordinal) of each address in the
 *                  set, bucket                        bucket
 *
 * The last stands for all that was put in one go: a row or sixteen instead of one for each address.
 * A query for an address reads its bucket's rows of all batches in the range, 1/16 of 6 bytes for
 * each recipient; the hash is short, so what it finds is compared.
 */
#include "store/events.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "mail/filter.h"
#include "mail/own_event.h"
#include "store/counters.h"
#include "store/internal.h"
#include "store/key.h"

enum {
    PLACE_BYTES = 8 + EVENT_ID_BYTES,
    SES_TIME_BYTES = 8,
    RUNS_MAX = EVENT_TYPE_END - 1,
    US = 1000000,
    MS_US = 1000,

    GROUP_MARK = 0xc1,         /* no packed event begins with it */
    GROUP_OWN_IDS = 1,         /* flag: each has a message id of its own */
    GROUP_TO_IS_RECIPIENT = 2, /* flag */
    GROUP_HAS_BUCKETS = 4,     /* flag: rows of addresses stand at this row's place */
    GROUP_HEAD_BYTES = SES_TIME_BYTES + 1 + 1 + 2 + 4,
    GROUP_COUNT_AT = SES_TIME_BYTES + 2,
    GROUP_ROW_BYTES = 4080,   /* one page that LMDB gives to a long value, less its header */
    GROUP_SHARED_MOST = 2000, /* a longer shared part does not count into that */
    COUNT_BYTES = 2,

    BUCKETS = 16,
    BUCKET_OF_ALL = 0xff, /* instead of them, for so few that one row will do: */
    BUCKET_OF_ALL_MOST = 100,
    BUCKET_ENTRY_BYTES = 4 + 2,
};

/* In meta: ids of events before this time are gone (µs). */
#define IDS_BEGIN SLICE("event_ids_begin")

/* -------- keys -------- */

static void key_place(struct key *k, uint64_t timestamp_us, const uint8_t id[EVENT_ID_BYTES])
{
    key_u64(k, timestamp_us);
    key_bytes(k, slice_of(id, EVENT_ID_BYTES));
}

static void place_set(uint8_t place[PLACE_BYTES], uint64_t us, const uint8_t *id, uint8_t fill)
{
    for (size_t i = 0; i < 8; i++)
        place[i] = (uint8_t)(us >> (56 - 8 * i));
    if (id != NULL)
        memcpy(place + 8, id, EVENT_ID_BYTES);
    else
        memset(place + 8, fill, EVENT_ID_BYTES);
}

static void key_start(struct key *k, uint32_t domain)
{
    k->len = 0;
    key_u32(k, domain);
}

/* Calls put for every index row of e but the events table's own. Both storing and expiring go
 * through here, so that no row is forgotten. */
typedef int row_action(struct store_txn *t, enum store_db db, const struct key *k,
                       struct slice value, struct err *err);

static int index_rows(struct store_txn *t, uint32_t domain, const struct event *e,
                      struct slice value, row_action *act, struct err *err)
{
    struct key k;

    key_start(&k, domain);
    key_u8(&k, (uint8_t)e->type);
    key_place(&k, e->timestamp_us, e->id);
    if (act(t, DB_BY_TYPE, &k, value, err) != 0)
        return -1;
    for (size_t i = 0; i < e->tag_count; i++) {
        key_start(&k, domain);
        key_hash_nocase(&k, e->tags[i]);
        key_u8(&k, (uint8_t)e->type);
        key_place(&k, e->timestamp_us, e->id);
        if (act(t, DB_BY_TAG, &k, value, err) != 0)
            return -1;
    }
    if (e->recipient.len != 0) {
        key_start(&k, domain);
        key_hash_nocase(&k, e->recipient);
        key_place(&k, e->timestamp_us, e->id);
        if (act(t, DB_BY_RECIPIENT, &k, value, err) != 0)
            return -1;
    }
    if (e->message_id.len != 0) {
        key_start(&k, domain);
        key_hash_nocase(&k, e->message_id);
        key_place(&k, e->timestamp_us, e->id);
        if (act(t, DB_BY_MESSAGE, &k, value, err) != 0)
            return -1;
    }
    return 0;
}

static int row_put(struct store_txn *t, enum store_db db, const struct key *k, struct slice value,
                   struct err *err)
{
    return store_put(t, db, key_slice(k), value, err);
}

static int row_delete(struct store_txn *t, enum store_db db, const struct key *k,
                      struct slice value, struct err *err)
{
    (void)value;
    return store_del(t, db, key_slice(k), err);
}

/* -------- storing -------- */

static uint64_t watermark_of(struct store_txn *t, uint32_t domain)
{
    struct key k;
    struct slice value;

    key_start(&k, domain);
    if (domain == 0 || !store_get(t, DB_WATERMARKS, key_slice(&k), &value) || value.len != 8)
        return 0;
    return read_be(value.ptr, 8);
}

uint64_t watermark_read(struct store_txn *t, struct slice domain)
{
    return watermark_of(t, store_domain_find(t, domain));
}

int watermark_raise(struct store_txn *t, struct slice domain, uint64_t until_us, struct err *err)
{
    uint32_t number = store_domain_intern(t, domain, err);
    struct key k, value = {0};

    if (number == 0)
        return -1;
    if (until_us <= watermark_of(t, number))
        return 0;
    key_start(&k, number);
    key_u64(&value, until_us);
    return store_put(t, DB_WATERMARKS, key_slice(&k), key_slice(&value), err);
}

static uint64_t timestamp_for(uint64_t ses_us, uint64_t watermark_us, uint64_t now_us)
{
    uint64_t us = ses_us;

    if (watermark_us != 0 && us < watermark_us + WATERMARK_STEP_US)
        us = watermark_us + WATERMARK_STEP_US;
    if (us > now_us)
        us = now_us;
    if (us <= watermark_us) /* the clock was set back: not being seen is worse than being early */
        us = watermark_us + 1;
    if (us % US == 0)
        us += us < now_us || us <= watermark_us + 1 ? 1 : UINT64_MAX; /* else one down */
    return us;
}

uint64_t event_ids_begin(struct store_txn *t)
{
    struct slice value;

    return store_get(t, DB_META, IDS_BEGIN, &value) && value.len == 8 ? read_be(value.ptr, 8) : 0;
}

int event_put(struct store_txn *t, struct event *e, uint64_t now_us, struct err *err)
{
    struct slice id = slice_of(e->id, EVENT_ID_BYTES), value;
    struct key k, timestamp = {0};
    struct buf packed = {0};

    if (store_get(t, DB_EVENT_IDS, id, &value) && value.len == 8) {
        e->timestamp_us = read_be(value.ptr, 8);
        return 0;
    }
    uint32_t domain = store_domain_intern(t, e->domain, err);
    if (domain == 0)
        return -1;
    if (e->ses_us < event_ids_begin(t)) {
        counters_add_too_old(t, domain, now_us);
        return 0;
    }
    e->timestamp_us = timestamp_for(e->ses_us, watermark_of(t, domain), now_us);

    key_u64(&timestamp, e->timestamp_us);
    key_start(&k, domain);
    key_place(&k, e->timestamp_us, e->id);
    struct key ses = {0};
    key_u64(&ses, e->ses_us);
    buf_add_slice(&packed, key_slice(&ses));
    event_pack(&packed, e);
    int rc = store_put(t, DB_EVENTS, key_slice(&k), buf_slice(&packed), err);
    buf_fini(&packed);
    if (rc != 0 || store_put(t, DB_EVENT_IDS, id, key_slice(&timestamp), err) != 0)
        return -1;
    if (index_rows(t, domain, e, slice_none(), row_put, err) != 0)
        return -1;
    counters_add(t, domain, e, 1);
    return 1;
}

/* -------- groups -------- */

struct group {
    unsigned flags;
    uint32_t count;
    struct slice shared, members;
};

/* False: the row is one event's. */
static bool group_read(struct slice row, struct group *g)
{
    if (row.len < GROUP_HEAD_BYTES || row.ptr[SES_TIME_BYTES] != GROUP_MARK)
        return false;
    g->flags = row.ptr[SES_TIME_BYTES + 1];
    g->count = (uint32_t)read_be(row.ptr + GROUP_COUNT_AT, COUNT_BYTES);
    size_t shared_len = read_be(row.ptr + GROUP_COUNT_AT + COUNT_BYTES, 4);
    struct slice rest = slice_from(row, GROUP_HEAD_BYTES);
    g->shared = slice_head(rest, shared_len);
    g->members = slice_from(rest, shared_len);
    return true;
}

static void put_short(struct buf *to, struct slice s)
{
    s = slice_head(s, UINT16_MAX);
    buf_add_byte(to, (uint8_t)(s.len >> 8));
    buf_add_byte(to, (uint8_t)s.len);
    buf_add_slice(to, s);
}

static struct slice take_short(struct slice *from)
{
    size_t len = from->len < 2 ? 0 : read_be(from->ptr, 2);
    struct slice s = slice_head(slice_from(*from, 2), len);

    *from = slice_from(*from, 2 + len);
    return s;
}

static void group_member(const struct group *g, uint32_t at, struct slice *recipient,
                         struct slice *message_id)
{
    struct slice rest = g->members;

    for (uint32_t i = 0; i <= at; i++) {
        *recipient = take_short(&rest);
        *message_id = (g->flags & GROUP_OWN_IDS) != 0 ? take_short(&rest) : slice_none();
    }
}

static uint32_t ordinal_of(const uint8_t place[PLACE_BYTES])
{
    return (uint32_t)read_be(place + PLACE_BYTES - EVENT_ORDINAL_BYTES, EVENT_ORDINAL_BYTES);
}

/* The place of the one that stands `at` behind the one of that place. */
static void place_behind(uint8_t to[PLACE_BYTES], const uint8_t *place, uint32_t at)
{
    uint32_t ordinal = ordinal_of(place) + at;

    memmove(to, place, PLACE_BYTES);
    to[PLACE_BYTES - 2] = (uint8_t)(ordinal >> 8);
    to[PLACE_BYTES - 1] = (uint8_t)ordinal;
}

/* FNV-1a over the address in lower case: it has to be short and fast, not unique. */
static uint32_t address_hash(struct slice address)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < address.len; i++) {
        uint8_t c = address.ptr[i];
        hash = (hash ^ (c >= 'A' && c <= 'Z' ? c + 32u : c)) * 16777619u;
    }
    return hash;
}

static uint8_t bucket_of(uint32_t hash)
{
    return (uint8_t)(hash % BUCKETS);
}

static void key_bucket(struct key *k, uint32_t domain, uint8_t bucket)
{
    key_start(k, domain | UINT32_C(1) << 31);
    key_u8(k, bucket);
}

static int put_buckets(struct store_txn *t, uint32_t domain, const struct event *first,
                       const struct recipient *list, size_t count, struct err *err)
{
    uint32_t ordinal =
        (uint32_t)read_be(first->id + EVENT_ID_BYTES - EVENT_ORDINAL_BYTES, EVENT_ORDINAL_BYTES);
    struct buf rows[BUCKETS] = {{0}};
    int rc = 0;

    for (size_t i = 0; i < count; i++) {
        struct key entry = {.len = 0};
        uint32_t hash = address_hash(list[i].address);
        key_u32(&entry, hash);
        key_be(&entry, ordinal + i, EVENT_ORDINAL_BYTES);
        buf_add_slice(&rows[count <= BUCKET_OF_ALL_MOST ? 0 : bucket_of(hash)], key_slice(&entry));
    }
    for (uint8_t i = 0; i < BUCKETS; i++) {
        struct key k;
        key_bucket(&k, domain, count <= BUCKET_OF_ALL_MOST ? BUCKET_OF_ALL : i);
        key_place(&k, first->timestamp_us, first->id);
        if (rc == 0 && rows[i].len > 0)
            rc = store_put(t, DB_BY_RECIPIENT, key_slice(&k), buf_slice(&rows[i]), err);
        buf_fini(&rows[i]);
    }
    return rc;
}

/* Puts as many of the list as one row takes: how many, or -1. e: what they share; its place is that
 * of the first. */
static int put_group(struct store_txn *t, uint32_t domain, const struct event *e, unsigned flags,
                     const struct message_head *head, const struct recipient *list, size_t count,
                     struct buf *row, struct err *err)
{
    struct arena arena = {0};
    struct key k = {.len = 0}, counted = {.len = 0};
    uint32_t in = 0;

    buf_reset(row);
    key_u64(&k, e->ses_us);
    key_u8(&k, GROUP_MARK);
    key_u8(&k, (uint8_t)flags);
    buf_add_slice(row, key_slice(&k));
    uint8_t *room = buf_reserve(row, COUNT_BYTES + 4);
    memset(room, 0, COUNT_BYTES + 4);
    row->len += COUNT_BYTES + 4;
    event_pack(row, e);
    size_t shared_len = row->len - GROUP_HEAD_BYTES;
    size_t most = GROUP_ROW_BYTES + (shared_len > GROUP_SHARED_MOST ? shared_len : 0);
    for (; in < count; in++) {
        size_t before = row->len;
        put_short(row, list[in].address);
        if ((flags & GROUP_OWN_IDS) != 0)
            put_short(row, message_id_of(head, &list[in], &arena));
        if (row->len > most && in > 0) {
            row->len = before;
            break;
        }
    }
    key_be(&counted, in, COUNT_BYTES);
    memcpy(row->ptr + GROUP_COUNT_AT, counted.at, COUNT_BYTES);
    struct key long_len = {.len = 0};
    key_u32(&long_len, (uint32_t)shared_len);
    memcpy(row->ptr + GROUP_COUNT_AT + COUNT_BYTES, long_len.at, 4);
    arena_fini(&arena);

    key_start(&k, domain);
    key_place(&k, e->timestamp_us, e->id);
    if (store_put(t, DB_EVENTS, key_slice(&k), buf_slice(row), err) != 0 ||
        index_rows(t, domain, e, key_slice(&counted), row_put, err) != 0)
        return -1;
    return (int)in;
}

/* Message ids that differ have index rows of their own. */
static int own_id_rows(struct store_txn *t, uint32_t domain, const uint8_t *place,
                       const struct group *g, row_action *act, struct err *err)
{
    struct slice rest = g->members;

    for (uint32_t i = 0; i < g->count && (g->flags & GROUP_OWN_IDS) != 0; i++) {
        uint8_t own[PLACE_BYTES];
        struct key k;

        (void)take_short(&rest);
        struct slice message_id = take_short(&rest);
        if (message_id.len == 0)
            continue;
        place_behind(own, place, i);
        key_start(&k, domain);
        key_hash_nocase(&k, message_id);
        key_bytes(&k, slice_of(own, PLACE_BYTES));
        if (act(t, DB_BY_MESSAGE, &k, slice_none(), err) != 0)
            return -1;
    }
    return 0;
}

static int put_groups(struct store_txn *t, uint32_t domain, struct event *e,
                      const struct message_head *head, const struct recipient *list, size_t count,
                      struct err *err)
{
    unsigned flags = GROUP_HAS_BUCKETS | (head->message_id_per_recipient ? GROUP_OWN_IDS : 0u) |
                     (head->batch_mode ? GROUP_TO_IS_RECIPIENT : 0u);
    struct buf row = {0};
    int rc = put_buckets(t, domain, e, list, count, err);

    e->recipient = slice_none();
    if ((flags & GROUP_OWN_IDS) != 0)
        e->message_id = slice_none();
    if ((flags & GROUP_TO_IS_RECIPIENT) != 0)
        e->to = slice_none();
    while (rc == 0 && count > 0) {
        uint8_t place[PLACE_BYTES];
        struct group g;
        int in = put_group(t, domain, e, flags, head, list, count, &row, err);
        place_set(place, e->timestamp_us, e->id, 0);
        if (in < 0 || !group_read(buf_slice(&row), &g) ||
            own_id_rows(t, domain, place, &g, row_put, err) != 0) {
            rc = -1;
            break;
        }
        list += in;
        count -= (size_t)in;
        place_behind(place, place, (uint32_t)in);
        memcpy(e->id, place + 8, EVENT_ID_BYTES);
        flags &= ~(unsigned)GROUP_HAS_BUCKETS;
    }
    buf_fini(&row);
    return rc;
}

int event_put_accepted(struct store_txn *t, const struct message_head *head, uint64_t batch_id,
                       uint32_t first, const struct recipient *list, size_t count, uint64_t now_us,
                       struct err *err)
{
    struct arena arena = {0};
    struct event e;
    int rc;

    assert(first <= EVENT_ORDINALS && count <= EVENT_ORDINALS - first);
    if (count == 0)
        return 0;
    own_event_accepted(&e, head, list, batch_id, first, &arena);
    if (count == 1) {
        rc = event_put(t, &e, now_us, err) < 0 ? -1 : 0;
    } else {
        uint32_t domain = store_domain_intern(t, e.domain, err);
        e.timestamp_us = timestamp_for(e.ses_us, watermark_of(t, domain), now_us);
        if (domain != 0)
            counters_add(t, domain, &e, (uint32_t)count);
        rc = domain == 0 ? -1 : put_groups(t, domain, &e, head, list, count, err);
    }
    arena_fini(&arena);
    return rc;
}

/* -------- reading one run of an index -------- */

enum run_rows {
    ROWS_EVENTS, /* an event or a group */
    ROWS_INDEX,  /* names one */
    ROWS_BUCKET, /* names those of a group with a certain address hash */
};

struct run {
    MDB_cursor *cursor;
    enum run_rows rows;
    uint32_t hash; /* BUCKET */
    size_t prefix_len;
    uint8_t prefix[16];
    /* The row it stands on, in the map; NULL = at its end. */
    const uint8_t *row_place;
    struct slice value;
    uint32_t count, at;         /* entries of the row; which of them it stands on */
    uint8_t place[PLACE_BYTES]; /* of the event that it stands on */
};

/* Bounds of a scan, both inclusive but for `past`, which is excluded. */
struct scan {
    uint8_t low[PLACE_BYTES], high[PLACE_BYTES];
    bool up;
    bool has_past;
    uint8_t past[PLACE_BYTES];
};

static bool is_past(const struct scan *s, const uint8_t *place)
{
    int order = s->has_past ? memcmp(place, s->past, PLACE_BYTES) : 0;

    return !s->has_past || (s->up ? order > 0 : order < 0);
}

static uint32_t entries_of(const struct run *r)
{
    struct group g;

    switch (r->rows) {
    case ROWS_EVENTS:
        return group_read(r->value, &g) ? g.count : 1;
    case ROWS_INDEX:
        return r->value.len == COUNT_BYTES ? (uint32_t)read_be(r->value.ptr, COUNT_BYTES) : 1;
    case ROWS_BUCKET:
        return (uint32_t)(r->value.len / BUCKET_ENTRY_BYTES);
    }
    return 0;
}

/* Goes to an entry of the row, on from this one in the scan's direction. False: it has none that
 * the scan wants. */
static bool row_find(struct run *r, const struct scan *s, uint32_t at)
{
    /* Below the first comes a number beyond the last. */
    for (; at < r->count; at += s->up ? 1 : UINT32_MAX) {
        if (r->rows == ROWS_BUCKET) {
            const uint8_t *entry = r->value.ptr + (size_t)at * BUCKET_ENTRY_BYTES;
            if (read_be(entry, 4) != r->hash)
                continue;
            uint32_t ordinal = (uint32_t)read_be(entry + 4, EVENT_ORDINAL_BYTES);
            place_behind(r->place, r->row_place, ordinal - ordinal_of(r->row_place));
        } else {
            place_behind(r->place, r->row_place, at);
        }
        if (is_past(s, r->place)) {
            r->at = at;
            return true;
        }
    }
    return false;
}

/* Is this a row of the run, within the scan's bounds? */
static bool row_take(struct run *r, int rc, MDB_val k, MDB_val v, const struct scan *s)
{
    const uint8_t *at = k.mv_data;

    r->row_place = NULL;
    if (rc != MDB_SUCCESS || k.mv_size != r->prefix_len + PLACE_BYTES ||
        memcmp(at, r->prefix, r->prefix_len) != 0)
        return false;
    at += r->prefix_len;
    if (s->up ? memcmp(at, s->high, PLACE_BYTES) > 0 : memcmp(at, s->low, PLACE_BYTES) < 0)
        return false;
    r->row_place = at;
    r->value = store_slice(v);
    r->count = entries_of(r);
    return true;
}

/* From this row on to the first that has something. */
static void run_settle(struct run *r, int rc, MDB_val k, MDB_val v, const struct scan *s)
{
    while (row_take(r, rc, k, v, s) && !row_find(r, s, s->up ? 0 : r->count - 1))
        rc = mdb_cursor_get(r->cursor, &k, &v, s->up ? MDB_NEXT : MDB_PREV);
}

static void run_step(struct run *r, const struct scan *s)
{
    MDB_val k = {0}, v = {0};

    if (row_find(r, s, s->up ? r->at + 1 : r->at - 1))
        return;
    int rc = mdb_cursor_get(r->cursor, &k, &v, s->up ? MDB_NEXT : MDB_PREV);
    run_settle(r, rc, k, v, s);
}

/* Goes to the first place of the scan: the bound, or just past the position where that is further.
 */
static void run_begin(struct run *r, const struct scan *s)
{
    const uint8_t *bound = s->up ? s->low : s->high;
    bool from_past = false;
    struct key from = {0};
    MDB_val v = {0};

    if (s->has_past) {
        int order = memcmp(s->past, bound, PLACE_BYTES);
        from_past = s->up ? order >= 0 : order <= 0;
        if (from_past)
            bound = s->past;
    }
    key_bytes(&from, slice_of(r->prefix, r->prefix_len));
    key_bytes(&from, slice_of(bound, PLACE_BYTES));
    MDB_val k = store_val(key_slice(&from));
    int rc = mdb_cursor_get(r->cursor, &k, &v, MDB_SET_RANGE);
    bool there = rc == MDB_SUCCESS && slice_eq(store_slice(k), key_slice(&from));
    if (s->up ? from_past && !there : !there || from_past) {
        /* Downwards: the row below. Upwards: the same, for a group may reach beyond the position
         * that it begins before. */
        rc = mdb_cursor_get(r->cursor, &k, &v, rc == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
        if (s->up && (rc != MDB_SUCCESS || k.mv_size != from.len ||
                      memcmp(k.mv_data, r->prefix, r->prefix_len) != 0)) {
            k = store_val(key_slice(&from));
            rc = mdb_cursor_get(r->cursor, &k, &v, MDB_SET_RANGE);
        }
    }
    run_settle(r, rc, k, v, s);
}

/* -------- a query -------- */

struct hit {
    uint8_t place[PLACE_BYTES];
    struct slice value; /* of its row */
    uint32_t at;        /* which one of the row, when that is a group */
};

struct reading {
    struct store_txn *t;
    uint32_t domain;
    struct filter_plan plan;
    enum store_db index;
    struct run runs[RUNS_MAX];
    size_t run_count;
    MDB_cursor
        *events; /* looks up what an index names; NULL when the run is the events themselves */
    struct scan scan;
};

static int run_add(struct reading *r, const struct key *prefix, enum run_rows rows, uint32_t hash,
                   struct err *err)
{
    struct run *run = &r->runs[r->run_count];

    assert(r->run_count < RUNS_MAX && prefix->len <= sizeof run->prefix);
    run->rows = rows;
    run->hash = hash;
    memcpy(run->prefix, prefix->at, prefix->len);
    run->prefix_len = prefix->len;
    int rc = mdb_cursor_open(r->t->mdb, r->t->store->dbi[r->index], &run->cursor);
    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "opening a cursor");
    r->run_count++;
    run_begin(run, &r->scan);
    return 0;
}

static bool has_type(const struct filter_plan *plan, unsigned type)
{
    return (plan->types >> type & 1u) != 0;
}

static bool has_all_types(const struct filter_plan *plan)
{
    for (unsigned i = EVENT_ACCEPTED; i < EVENT_TYPE_END; i++)
        if (!has_type(plan, i))
            return false;
    return true;
}

static int add_buckets(struct reading *r, struct err *err)
{
    uint32_t hash = address_hash(r->plan.recipient);
    const uint8_t buckets[] = {bucket_of(hash), BUCKET_OF_ALL};

    for (size_t i = 0; i < sizeof buckets; i++) {
        struct key k;
        key_bucket(&k, r->domain, buckets[i]);
        if (run_add(r, &k, ROWS_BUCKET, hash, err) != 0)
            return -1;
    }
    return 0;
}

/* Chooses the index with the fewest rows to pass over, and opens its runs. */
static int runs_open(struct reading *r, struct err *err)
{
    const struct filter_plan *plan = &r->plan;
    struct key k;

    key_start(&k, r->domain);
    if (plan->message_id.len != 0 || plan->recipient.len != 0) {
        bool by_message = plan->message_id.len != 0;
        r->index = by_message ? DB_BY_MESSAGE : DB_BY_RECIPIENT;
        key_hash_nocase(&k, by_message ? plan->message_id : plan->recipient);
        if (run_add(r, &k, ROWS_INDEX, 0, err) != 0)
            return -1;
        return by_message || !has_type(plan, EVENT_ACCEPTED) ? 0 : add_buckets(r, err);
    }
    if (plan->tag.len == 0 && has_all_types(plan)) {
        r->index = DB_EVENTS;
        return run_add(r, &k, ROWS_EVENTS, 0, err);
    }
    r->index = plan->tag.len != 0 ? DB_BY_TAG : DB_BY_TYPE;
    if (plan->tag.len != 0)
        key_hash_nocase(&k, plan->tag);
    for (unsigned i = EVENT_ACCEPTED; i < EVENT_TYPE_END; i++) {
        if (!has_type(plan, i))
            continue;
        struct key typed = k;
        key_u8(&typed, (uint8_t)i);
        if (run_add(r, &typed, ROWS_INDEX, 0, err) != 0)
            return -1;
    }
    return 0;
}

/* The run whose place comes first in the direction of the scan; NULL when all are at their end. */
static struct run *run_first(struct reading *r)
{
    struct run *first = NULL;

    for (size_t i = 0; i < r->run_count; i++) {
        struct run *run = &r->runs[i];
        if (run->row_place == NULL)
            continue;
        if (first == NULL) {
            first = run;
            continue;
        }
        int order = memcmp(run->place, first->place, PLACE_BYTES);
        if (r->scan.up ? order < 0 : order > 0)
            first = run;
    }
    return first;
}

/* Goes to the row that holds the event of this place: its own, or that of a group which begins
 * before it. Neighbours in an index are mostly neighbours in the events too: a cursor finds them on
 * the leaf that it stands on. */
static bool row_of(struct reading *r, struct hit *hit)
{
    struct group g;
    struct key k;
    MDB_val v;

    key_start(&k, r->domain);
    key_bytes(&k, slice_of(hit->place, PLACE_BYTES));
    MDB_val key = store_val(key_slice(&k));
    int rc = mdb_cursor_get(r->events, &key, &v, MDB_SET_RANGE);
    hit->at = 0;
    hit->value = store_slice(v);
    if (rc == MDB_SUCCESS && slice_eq(store_slice(key), key_slice(&k)))
        return true;
    rc = mdb_cursor_get(r->events, &key, &v, rc == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
    if (rc != MDB_SUCCESS || key.mv_size != k.len ||
        memcmp(key.mv_data, k.at, k.len - EVENT_ORDINAL_BYTES) != 0)
        return false;
    hit->at = ordinal_of(hit->place) - ordinal_of((const uint8_t *)key.mv_data + 4);
    hit->value = store_slice(v);
    return group_read(hit->value, &g) && hit->at < g.count;
}

static bool event_at(struct reading *r, const struct run *run, struct hit *hit)
{
    struct slice recipient = {0}, message_id;
    struct group g;

    memcpy(hit->place, run->place, PLACE_BYTES);
    if (r->events == NULL) {
        hit->value = run->value;
        hit->at = run->at;
        return true;
    }
    if (!row_of(r, hit))
        return false;
    if (run->rows != ROWS_BUCKET)
        return true;
    if (group_read(hit->value, &g))
        group_member(&g, hit->at, &recipient, &message_id);
    return slice_eq_nocase(recipient, r->plan.recipient);
}

static bool event_read(const struct hit *hit, struct arena *a, struct event *e)
{
    struct slice recipient, message_id;
    struct group g;

    if (hit->value.len < SES_TIME_BYTES)
        return false;
    e->timestamp_us = read_be(hit->place, 8);
    memcpy(e->id, hit->place + 8, EVENT_ID_BYTES);
    e->ses_us = read_be(hit->value.ptr, SES_TIME_BYTES);
    if (!group_read(hit->value, &g))
        return event_unpack(slice_from(hit->value, SES_TIME_BYTES), a, e);
    if (!event_unpack(g.shared, a, e))
        return false;
    group_member(&g, hit->at, &recipient, &message_id);
    e->recipient = recipient;
    if ((g.flags & GROUP_OWN_IDS) != 0)
        e->message_id = message_id;
    if ((g.flags & GROUP_TO_IS_RECIPIENT) != 0)
        e->to = recipient;
    return true;
}

static size_t gather(struct reading *r, const struct event_query *q, struct hit *hits)
{
    bool look = q->filter != NULL && !r->plan.exact;
    struct arena arena = {0};
    size_t count = 0, passed = 0;
    struct run *run;

    while (count < q->limit && (run = run_first(r)) != NULL) {
        struct event e;
        bool fits = event_at(r, run, &hits[count]);
        if (fits && look) {
            fits = event_read(&hits[count], &arena, &e) && filter_match(q->filter, &e);
            arena_reset(&arena);
        }
        run_step(run, &r->scan);
        if (fits)
            count++;
        else if (++passed >= EVENT_SCAN_MAX && count > 0)
            break;
    }
    arena_fini(&arena);
    return count;
}

/* Renders the hits in reading order. What cannot be read is passed over: an answer without one
 * event is better than a reader that meets the same error for ever. */
static uint32_t render(const struct hit *hits, size_t count, bool reversed,
                       struct slice storage_base, struct buf *items, struct event_position *first,
                       struct event_position *last)
{
    struct arena arena = {0};
    uint32_t given = 0;

    for (size_t i = 0; i < count; i++) {
        struct event e;
        if (event_read(&hits[reversed ? count - 1 - i : i], &arena, &e)) {
            if (given != 0)
                buf_add_byte(items, ',');
            event_to_json(items, &e, storage_base);
            last->timestamp_us = e.timestamp_us;
            memcpy(last->id, e.id, EVENT_ID_BYTES);
            if (given++ == 0)
                *first = *last;
        }
        arena_reset(&arena);
    }
    arena_fini(&arena);
    return given;
}

int event_query_run(struct store_txn *t, const struct event_query *q, struct slice storage_base,
                    struct buf *items, uint32_t *count, struct event_position *first,
                    struct event_position *last, struct err *err)
{
    bool reversed = q->backwards || q->last_page;
    struct reading r = {.t = t, .plan = {.types = UINT32_MAX, .exact = true}};
    int rc = 0;

    *count = 0;
    r.domain = store_domain_find(t, q->domain);
    /* Before the first page there is nothing. */
    if (r.domain == 0 || q->limit == 0 || q->from_us > q->until_us ||
        (q->backwards && !q->has_position && !q->last_page))
        return 0;
    if (q->filter != NULL)
        filter_plan(q->filter, &r.plan);
    r.scan.up = q->ascending != reversed;
    place_set(r.scan.low, q->from_us, NULL, 0);
    place_set(r.scan.high, q->until_us, NULL, 0xff);
    r.scan.has_past = q->has_position && !q->last_page;
    if (r.scan.has_past)
        place_set(r.scan.past, q->position_us, q->position_id, 0);

    struct hit *hits = mem_alloc(q->limit * sizeof *hits);
    if (runs_open(&r, err) != 0)
        rc = -1;
    if (rc == 0 && r.index != DB_EVENTS) {
        int opened = mdb_cursor_open(t->mdb, t->store->dbi[DB_EVENTS], &r.events);
        if (opened != MDB_SUCCESS)
            rc = store_fail(err, opened, "opening a cursor");
    }
    if (rc == 0) {
        size_t found = gather(&r, q, hits);
        *count = render(hits, found, reversed, storage_base, items, first, last);
    }
    for (size_t i = 0; i < r.run_count; i++)
        mdb_cursor_close(r.runs[i].cursor);
    if (r.events != NULL)
        mdb_cursor_close(r.events);
    free(hits);
    return rc;
}

/* -------- expiring -------- */

static int expire_group(struct store_txn *t, uint32_t domain, const uint8_t *place,
                        const struct group *g, struct err *err)
{
    if (own_id_rows(t, domain, place, g, row_delete, err) != 0)
        return -1;
    for (uint8_t i = 0; i <= BUCKETS && (g->flags & GROUP_HAS_BUCKETS) != 0; i++) {
        struct key k;
        key_bucket(&k, domain, i < BUCKETS ? i : BUCKET_OF_ALL);
        key_bytes(&k, slice_of(place, PLACE_BYTES));
        if (store_del(t, DB_BY_RECIPIENT, key_slice(&k), err) != 0)
            return -1;
    }
    return (int)g->count;
}

/* Takes out the row that the cursor stands on, with what names it. How many events it held, or -1.
 */
static int expire_row(struct store_txn *t, MDB_cursor *cursor, uint32_t domain,
                      const uint8_t *place, struct slice value, struct arena *a, struct err *err)
{
    struct event e = {0};
    struct group g;
    /* The texts point into a page that the first deletion may change: copy them first. */
    struct hit hit = {.value = arena_dup(a, value)};

    memcpy(hit.place, place, PLACE_BYTES);
    bool is_group = group_read(hit.value, &g), readable = event_read(&hit, a, &e);
    if (is_group) { /* the index has rows for what is shared */
        e.recipient = slice_none();
        if ((g.flags & GROUP_OWN_IDS) != 0)
            e.message_id = slice_none();
    }
    if (readable && index_rows(t, domain, &e, slice_none(), row_delete, err) != 0)
        return -1;
    int gone = is_group ? expire_group(t, domain, hit.place, &g, err) : 1;
    int rc = gone < 0 ? MDB_SUCCESS : mdb_cursor_del(cursor, 0);
    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "expiring an event");
    return gone == 0 ? 1 : gone;
}

/* Of one domain, at most `limit` or a few more: how many, or -1. */
static int expire_domain(struct store_txn *t, MDB_cursor *cursor, uint32_t domain,
                         uint64_t before_us, uint32_t limit, struct err *err)
{
    struct arena arena = {0};
    uint32_t gone = 0;
    int got = 0;
    struct key prefix;

    key_start(&prefix, domain);
    MDB_val k = store_val(key_slice(&prefix)), v;
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    while (rc == MDB_SUCCESS && gone < limit && k.mv_size == prefix.len + PLACE_BYTES) {
        const uint8_t *place = (const uint8_t *)k.mv_data + prefix.len;
        if (!slice_starts(store_slice(k), key_slice(&prefix)) || read_be(place, 8) >= before_us)
            break;
        got = expire_row(t, cursor, domain, place, store_slice(v), &arena, err);
        if (got < 0)
            break;
        gone += (uint32_t)got;
        arena_reset(&arena);
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT); /* the one that has taken its place */
    }
    arena_fini(&arena);
    if (got < 0)
        return -1;
    return rc == MDB_SUCCESS || rc == MDB_NOTFOUND ? (int)gone
                                                   : store_fail(err, rc, "expiring events");
}

/* Domains are numbered from 1 on. 0 = none, or the store cannot tell. */
static uint32_t domain_count(struct store_txn *t)
{
    MDB_stat stat;

    return mdb_stat(t->mdb, t->store->dbi[DB_DOMAINS], &stat) == MDB_SUCCESS
               ? (uint32_t)stat.ms_entries
               : 0;
}

int event_expire(struct store_txn *t, uint64_t before_us, uint32_t limit, struct err *err)
{
    uint32_t gone = 0;
    int got = 0;
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(t->mdb, t->store->dbi[DB_EVENTS], &cursor);

    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "expiring events");
    for (uint32_t domain = 1; domain <= domain_count(t) && gone < limit && got >= 0; domain++) {
        got = expire_domain(t, cursor, domain, before_us, limit - gone, err);
        gone += got > 0 ? (uint32_t)got : 0;
    }
    mdb_cursor_close(cursor);
    return got < 0 ? -1 : (int)gone;
}

uint64_t event_oldest_us(struct store_txn *t)
{
    uint64_t oldest_us = 0;
    MDB_cursor *cursor;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_EVENTS], &cursor) != MDB_SUCCESS)
        return 0;
    for (uint32_t domain = 1; domain <= domain_count(t); domain++) {
        struct key prefix;
        key_start(&prefix, domain);
        MDB_val k = store_val(key_slice(&prefix)), v;
        if (mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE) != MDB_SUCCESS)
            break; /* nor has a later one any */
        if (k.mv_size != prefix.len + PLACE_BYTES ||
            !slice_starts(store_slice(k), key_slice(&prefix)))
            continue;
        uint64_t us = read_be((const uint8_t *)k.mv_data + prefix.len, 8);
        if (oldest_us == 0 || us < oldest_us)
            oldest_us = us;
    }
    mdb_cursor_close(cursor);
    return oldest_us;
}

int event_ids_expire(struct store_txn *t, uint64_t before_us, uint32_t limit, struct err *err)
{
    struct key begin = {.len = 0};
    uint32_t gone = 0;
    MDB_cursor *cursor;
    MDB_val k, v;

    /* An id begins with milliseconds: all of one go or stay together. */
    before_us = before_us / MS_US * MS_US;
    /* First of all, and in this transaction: no event can come whose id is missing. */
    key_u64(&begin, before_us);
    if (before_us > event_ids_begin(t) &&
        store_put(t, DB_META, IDS_BEGIN, key_slice(&begin), err) != 0)
        return -1;
    int rc = mdb_cursor_open(t->mdb, t->store->dbi[DB_EVENT_IDS], &cursor);
    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "expiring event ids");
    for (; gone < limit; gone++) {
        rc = mdb_cursor_get(cursor, &k, &v, gone == 0 ? MDB_FIRST : MDB_NEXT);
        if (rc != MDB_SUCCESS || k.mv_size != EVENT_ID_BYTES ||
            read_be(k.mv_data, 6) >= before_us / MS_US ||
            (rc = mdb_cursor_del(cursor, 0)) != MDB_SUCCESS)
            break;
    }
    mdb_cursor_close(cursor);
    if (rc != MDB_SUCCESS && rc != MDB_NOTFOUND)
        return store_fail(err, rc, "expiring event ids");
    return (int)gone;
}
