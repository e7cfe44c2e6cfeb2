/*
 * Where an event stands in its domain is (timestamp, id), 24 bytes: its place. Every index row is a
 * prefix that says what is indexed, then the place:
 *
 *   events         domain                     place → ses_us, packed event
 *                                                     or ses_us, mark, name of a model, what differs
 *                                                     from it (store/event_models.h)
 *   by_tag         domain, tag hash, kind     place → ""
 *   by_type        domain, kind               place → ""
 *
 * A kind is a type, but that permanent failures are told from temporary ones. Recipients and message
 * ids stand in lists instead (store/event_lists.h). A query merges and intersects such runs, each in
 * the order of places (store/events_read.c).
 *
 * The `accepted` events of a batch differ in little more than the address, and would cost more than
 * all else that sending costs. So they are stored in groups: one row for as many as fit a page, its
 * place that of the first of them; the others follow with the last two bytes (the ordinal) counted
 * up, and nothing stands between.
 *
 *   events         domain                     place → ses_us, mark, flags, count, what they share
 *                                                     as a packed event, what differs for each
 *   by_tag, by_type                           place → count
 *   by_message     domain, message-id hash    place → count, where they share an id
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
#include "mail/own_event.h"
#include "store/counters.h"
#include "store/event_lists.h"
#include "store/event_rows.h"
#include "store/webhooks.h"

enum {
    SES_TIME_BYTES = 8,
    US = 1000000,
    MS_US = 1000,

    GROUP_MARK = 0xc1, /* no packed event begins with it */
    GROUP_HEAD_BYTES = SES_TIME_BYTES + 1 + 1 + 2 + 4,
    GROUP_COUNT_AT = SES_TIME_BYTES + 2,
    GROUP_ROW_BYTES = 4080,   /* one page that LMDB gives to a long value, less its header */
    GROUP_SHARED_MOST = 2000, /* a longer shared part does not count into that */
    BUCKET_OF_ALL_MOST = 100,
};

/* In meta: ids of events before this time are gone (µs). */
#define IDS_BEGIN SLICE("event_ids_begin")
/* In meta: events before this time are gone, or soon will be (µs). */
#define EVENTS_BEGIN SLICE("events_begin")

/* -------- keys -------- */

void key_place(struct key *k, uint64_t timestamp_us, const uint8_t id[EVENT_ID_BYTES])
{
    key_u64(k, timestamp_us);
    key_bytes(k, slice_of(id, EVENT_ID_BYTES));
}

void key_domain(struct key *k, uint32_t domain)
{
    k->len = 0;
    key_u32(k, domain);
}

int event_index_rows(struct store_txn *t, uint32_t domain, const struct event *e,
                     bool shares_message_id, struct slice value, event_row_action *act, void *arg)
{
    struct key k;

    key_domain(&k, domain);
    key_u8(&k, (uint8_t)event_kind(e));
    key_place(&k, e->timestamp_us, e->id);
    if (act(t, DB_BY_TYPE, &k, value, arg) != 0)
        return -1;
    for (size_t i = 0; i < e->tag_count; i++) {
        key_domain(&k, domain);
        key_hash_nocase(&k, e->tags[i]);
        key_u8(&k, (uint8_t)event_kind(e));
        key_place(&k, e->timestamp_us, e->id);
        if (act(t, DB_BY_TAG, &k, value, arg) != 0)
            return -1;
    }
    if (!shares_message_id || e->message_id.len == 0)
        return 0;
    key_domain(&k, domain);
    key_hash_nocase(&k, e->message_id);
    key_place(&k, e->timestamp_us, e->id);
    return act(t, DB_BY_MESSAGE, &k, value, arg);
}

static int row_put(struct store_txn *t, enum store_db db, const struct key *k, struct slice value,
                   void *err)
{
    return store_put(t, db, key_slice(k), value, err);
}

static int row_delete(struct store_txn *t, enum store_db db, const struct key *k,
                      struct slice value, void *err)
{
    (void)value;
    return store_del(t, db, key_slice(k), err);
}

/* -------- storing -------- */

static uint64_t watermark_of(struct store_txn *t, uint32_t domain)
{
    struct key k;
    struct slice value;

    key_domain(&k, domain);
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
    key_domain(&k, number);
    key_u64(&value, until_us);
    return store_put(t, DB_WATERMARKS, key_slice(&k), key_slice(&value), err);
}

/* The watermark wins over the clock, which may have been set back: such a time is in the future, and
 * is shown to nobody before it has come. No event stands in the first millisecond of a second: Ghost
 * goes on one second past its last event, in milliseconds, and events_step_back() could not tell
 * such a `begin` from a whole second that somebody chose. */
static uint64_t timestamp_for(uint64_t ses_us, uint64_t watermark_us, uint64_t now_us)
{
    uint64_t us = ses_us < now_us ? ses_us : now_us, least_us = 0;

    if (watermark_us != 0)
        least_us = watermark_us + WATERMARK_STEP_US;
    if (us < least_us)
        us = least_us;
    if (us % US >= EVENT_PAST_SECOND_US)
        return us;
    uint64_t second_us = us - us % US, past_us = second_us + EVENT_PAST_SECOND_US;
    return past_us <= now_us || second_us <= least_us ? past_us : second_us - 1;
}

uint64_t event_ids_begin(struct store_txn *t)
{
    struct slice value;

    return store_get(t, DB_META, IDS_BEGIN, &value) && value.len == 8 ? read_be(value.ptr, 8) : 0;
}

bool event_is_known(struct store_txn *t, const uint8_t id[EVENT_ID_BYTES])
{
    struct slice value;

    return store_get(t, DB_EVENT_IDS, slice_of(id, EVENT_ID_BYTES), &value);
}

static int put_one(struct store_txn *t, struct event *e, uint64_t now_us, uint32_t *number,
                   struct err *err)
{
    struct slice id = slice_of(e->id, EVENT_ID_BYTES), value;
    struct key k, timestamp = {0};
    struct buf row = {0};

    if (store_get(t, DB_EVENT_IDS, id, &value) && value.len == 8) {
        e->timestamp_us = read_be(value.ptr, 8);
        return 0;
    }
    uint32_t domain = *number = store_domain_intern(t, e->domain, err);
    if (domain == 0)
        return -1;
    if (e->ses_us < event_ids_begin(t)) {
        counters_add_one(t, domain, COUNT_TOO_OLD, now_us);
        return 0;
    }
    e->timestamp_us = timestamp_for(e->ses_us, watermark_of(t, domain), now_us);

    key_u64(&timestamp, e->timestamp_us);
    key_domain(&k, domain);
    key_place(&k, e->timestamp_us, e->id);
    int rc = event_row_pack(t, domain, e, &row, err);
    if (rc == 0)
        rc = store_put(t, DB_EVENTS, key_slice(&k), buf_slice(&row), err);
    buf_fini(&row);
    if (rc != 0 || store_put(t, DB_EVENT_IDS, id, key_slice(&timestamp), err) != 0)
        return -1;
    if (event_index_rows(t, domain, e, false, slice_none(), row_put, err) != 0)
        return -1;
    const uint8_t *place = k.at + k.len - PLACE_BYTES;
    if (e->recipient.len != 0)
        event_list_add(t, DB_BY_RECIPIENT, domain, e->recipient, place);
    if (e->message_id.len != 0)
        event_list_add(t, DB_BY_MESSAGE, domain, e->message_id, place);
    counters_add(t, domain, e, 1);
    return 1;
}

int event_put(struct store_txn *t, struct event *e, uint64_t now_us, struct err *err)
{
    uint32_t domain;
    int got = put_one(t, e, now_us, &domain, err);

    return got == 1 && webhook_enqueue(t, domain, e, 1, now_us, err) != 0 ? -1 : got;
}

int event_put_untold(struct store_txn *t, struct event *e, uint64_t now_us, struct err *err)
{
    uint32_t domain;

    return put_one(t, e, now_us, &domain, err);
}

/* -------- groups -------- */

bool group_read(struct slice row, struct group *g)
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

void group_next(const struct group *g, struct slice *rest, struct slice *recipient,
                struct slice *message_id)
{
    *recipient = take_short(rest);
    *message_id = (g->flags & GROUP_OWN_IDS) != 0 ? take_short(rest) : slice_none();
}

bool event_row_read(struct store_txn *t, uint32_t domain, struct slice row, uint32_t at,
                    struct arena *of_model, struct arena *a, struct event *e)
{
    struct slice recipient, message_id, rest;
    struct group g;

    if (row.len < SES_TIME_BYTES)
        return false;
    e->ses_us = read_be(row.ptr, SES_TIME_BYTES);
    rest = slice_from(row, SES_TIME_BYTES);
    if (event_row_is_like(rest))
        return event_row_unpack_like(t, domain, rest, of_model, a, e);
    if (!group_read(row, &g))
        return event_unpack(rest, a, e);
    if (!event_unpack(g.shared, a, e))
        return false;
    rest = g.members;
    for (uint32_t i = 0; i <= at; i++)
        group_next(&g, &rest, &recipient, &message_id);
    e->recipient = recipient;
    if ((g.flags & GROUP_OWN_IDS) != 0)
        e->message_id = message_id;
    if ((g.flags & GROUP_TO_IS_RECIPIENT) != 0)
        e->to = recipient;
    return true;
}

void place_bytes_behind(uint8_t to[PLACE_BYTES], const uint8_t *place, uint32_t at)
{
    const uint8_t *low = place + PLACE_BYTES - EVENT_ORDINAL_BYTES;
    uint32_t ordinal = (uint32_t)read_be(low, EVENT_ORDINAL_BYTES) + at;

    memmove(to, place, PLACE_BYTES);
    to[PLACE_BYTES - 2] = (uint8_t)(ordinal >> 8);
    to[PLACE_BYTES - 1] = (uint8_t)ordinal;
}

/* FNV-1a over the address in lower case: it has to be short and fast, not unique. */
uint32_t address_hash(struct slice address)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < address.len; i++) {
        uint8_t c = address.ptr[i];
        hash = (hash ^ (c >= 'A' && c <= 'Z' ? c + 32u : c)) * 16777619u;
    }
    return hash;
}

uint8_t bucket_of(uint32_t hash)
{
    return (uint8_t)(hash % BUCKETS);
}

void key_bucket(struct key *k, uint32_t domain, uint8_t bucket)
{
    key_domain(k, domain | UINT32_C(1) << 31);
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

    key_domain(&k, domain);
    key_place(&k, e->timestamp_us, e->id);
    if (store_put(t, DB_EVENTS, key_slice(&k), buf_slice(row), err) != 0 ||
        event_index_rows(t, domain, e, (flags & GROUP_OWN_IDS) == 0, key_slice(&counted), row_put,
                         err) != 0)
        return -1;
    return (int)in;
}

/* Message ids that differ go into lists, as those of single events. */
static void list_own_ids(struct store_txn *t, uint32_t domain, const uint8_t *place,
                         const struct group *g)
{
    struct slice rest = g->members;

    for (uint32_t i = 0; i < g->count && (g->flags & GROUP_OWN_IDS) != 0; i++) {
        uint8_t own[PLACE_BYTES];
        struct slice recipient, message_id;
        group_next(g, &rest, &recipient, &message_id);
        if (message_id.len == 0)
            continue;
        place_bytes_behind(own, place, i);
        event_list_add(t, DB_BY_MESSAGE, domain, message_id, own);
    }
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
        struct key k;
        int in = put_group(t, domain, e, flags, head, list, count, &row, err);
        k.len = 0;
        key_place(&k, e->timestamp_us, e->id);
        memcpy(place, k.at, PLACE_BYTES);
        if (in < 0 || !group_read(buf_slice(&row), &g)) {
            rc = -1;
            break;
        }
        list_own_ids(t, domain, place, &g);
        list += in;
        count -= (size_t)in;
        place_bytes_behind(place, place, (uint32_t)in);
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
    e.has_lane = true;
    e.lane = head->lane;
    if (count == 1) {
        rc = event_put(t, &e, now_us, err) < 0 ? -1 : 0;
    } else {
        uint32_t domain = store_domain_intern(t, e.domain, err);
        e.timestamp_us = timestamp_for(e.ses_us, watermark_of(t, domain), now_us);
        if (domain != 0)
            counters_add(t, domain, &e, (uint32_t)count);
        rc = domain == 0 || webhook_enqueue(t, domain, &e, (uint32_t)count, now_us, err) != 0
                 ? -1
                 : put_groups(t, domain, &e, head, list, count, err);
    }
    arena_fini(&arena);
    return rc;
}

/* -------- one event -------- */

bool event_at(struct store_txn *t, struct slice domain, const uint8_t place[PLACE_BYTES],
              struct arena *a, struct event *e)
{
    const size_t fixed = PLACE_BYTES - EVENT_ORDINAL_BYTES;
    struct key wanted;
    MDB_cursor *cursor;
    bool found = false;
    struct group g;

    uint32_t domain_number = store_domain_find(t, domain);
    key_domain(&wanted, domain_number);
    size_t prefix_len = wanted.len;
    key_bytes(&wanted, slice_of(place, PLACE_BYTES));
    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_EVENTS], &cursor) != MDB_SUCCESS)
        return false;
    MDB_val k = store_val(key_slice(&wanted)), v;
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    bool is_own = rc == MDB_SUCCESS && slice_eq(store_slice(k), key_slice(&wanted));
    if (!is_own) /* perhaps in the group that begins before it */
        rc = mdb_cursor_get(cursor, &k, &v, rc == MDB_SUCCESS ? MDB_PREV : MDB_LAST);
    if (rc == MDB_SUCCESS && k.mv_size == wanted.len &&
        slice_starts(store_slice(k), slice_of(wanted.at, prefix_len + fixed))) {
        const uint8_t *low = (const uint8_t *)k.mv_data + prefix_len + fixed;
        uint64_t at =
            read_be(place + fixed, EVENT_ORDINAL_BYTES) - read_be(low, EVENT_ORDINAL_BYTES);
        *e = (struct event){.timestamp_us = read_be(place, 8)};
        memcpy(e->id, place + 8, EVENT_ID_BYTES);
        found = (is_own || (group_read(store_slice(v), &g) && at < g.count)) &&
                event_row_read(t, domain_number, store_slice(v), (uint32_t)at, a, a, e);
    }
    mdb_cursor_close(cursor);
    return found;
}

/* -------- expiring -------- */

static int expire_group(struct store_txn *t, uint32_t domain, const uint8_t *place,
                        const struct group *g, struct err *err)
{
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
                      const uint8_t *key_place, struct slice value, struct arena *a,
                      struct err *err)
{
    /* All of it points into a page that the first deletion may change: copied first. */
    struct slice row = arena_dup(a, value);
    struct event e = {.timestamp_us = read_be(key_place, 8)};
    uint8_t place[PLACE_BYTES];
    struct group g;

    memcpy(place, key_place, sizeof place);
    memcpy(e.id, place + 8, EVENT_ID_BYTES);
    bool is_group = group_read(row, &g);
    bool readable = event_row_read(t, domain, row, 0, NULL, a, &e);
    if (readable && event_index_rows(t, domain, &e, is_group && (g.flags & GROUP_OWN_IDS) == 0,
                                     slice_none(), row_delete, err) != 0)
        return -1;
    int gone = is_group ? expire_group(t, domain, place, &g, err) : 1;
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

    key_domain(&prefix, domain);
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

uint64_t events_begin_us(struct store_txn *t)
{
    struct slice value;

    return store_get(t, DB_META, EVENTS_BEGIN, &value) && value.len == 8 ? read_be(value.ptr, 8)
                                                                         : 0;
}

/* What lists and ids still name is from before: nobody may take it for lost. */
static int note_begin(struct store_txn *t, uint64_t before_us, struct err *err)
{
    struct key begin = {.len = 0};

    key_u64(&begin, before_us);
    return before_us <= events_begin_us(t)
               ? 0
               : store_put(t, DB_META, EVENTS_BEGIN, key_slice(&begin), err);
}

/* Of one domain; 0 = it has none. */
static uint64_t domain_oldest_us(MDB_cursor *cursor, uint32_t domain)
{
    struct key prefix;

    key_domain(&prefix, domain);
    MDB_val k = store_val(key_slice(&prefix)), v;
    if (mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE) != MDB_SUCCESS ||
        k.mv_size != prefix.len + PLACE_BYTES || !slice_starts(store_slice(k), key_slice(&prefix)))
        return 0;
    return read_be((const uint8_t *)k.mv_data + prefix.len, 8);
}

/* What no event of the domain names any more. */
static int expire_models(struct store_txn *t, MDB_cursor *cursor, uint32_t domain,
                         uint64_t before_us, uint32_t limit, struct err *err)
{
    uint64_t oldest_us = domain_oldest_us(cursor, domain);

    return event_models_expire(t, domain, oldest_us != 0 ? oldest_us : before_us, limit, err);
}

int event_expire(struct store_txn *t, uint64_t before_us, uint32_t limit, struct err *err)
{
    uint32_t gone = 0, models_gone = 0;
    int got = 0;
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(t->mdb, t->store->dbi[DB_EVENTS], &cursor);

    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "expiring events");
    for (uint32_t domain = 1; domain <= domain_count(t) && gone < limit && got >= 0; domain++) {
        got = expire_domain(t, cursor, domain, before_us, limit - gone, err);
        if (got > 0 && event_lists_expire(t, domain, before_us, err) != 0)
            got = -1;
        gone += got > 0 ? (uint32_t)got : 0;
        if (got >= 0)
            got = expire_models(t, cursor, domain, before_us, limit - models_gone, err);
        models_gone += got > 0 ? (uint32_t)got : 0;
    }
    mdb_cursor_close(cursor);
    return got < 0 || (gone > 0 && note_begin(t, before_us, err) != 0) ? -1 : (int)gone;
}

uint64_t event_oldest_us(struct store_txn *t)
{
    uint64_t oldest_us = 0;
    MDB_cursor *cursor;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_EVENTS], &cursor) != MDB_SUCCESS)
        return 0;
    for (uint32_t domain = 1; domain <= domain_count(t); domain++) {
        uint64_t us = domain_oldest_us(cursor, domain);
        if (us != 0 && (oldest_us == 0 || us < oldest_us))
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
