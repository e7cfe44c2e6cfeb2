#include "store/batch_write.h"

#include "base/digest.h"
#include "base/pack.h"
#include "mail/own_event.h"
#include "store/internal.h"
#include "store/key.h"
#include "store/totals.h"

static struct key key_of(uint64_t batch_id)
{
    struct key k = {.len = 0};

    key_u64(&k, batch_id);
    return k;
}

static struct key slice_key(uint64_t batch_id, uint32_t slice)
{
    struct key k = key_of(batch_id);

    key_u32(&k, slice);
    return k;
}

static int put_u64(struct store_txn *t, enum store_db db, struct slice key, uint64_t value,
                   struct err *err)
{
    struct key row = key_of(value);

    return store_put(t, db, key, key_slice(&row), err);
}

/* Slices, and a state for each recipient: pending, or duplicate. */
static int insert_slices(struct store_txn *t, const struct new_batch *b, struct err *err)
{
    struct unpack u = unpack_over(b->slices);
    uint32_t count = slice_count_of(b->recipient_count);

    if (b->recipient_count == 0 || unpack_array(&u) != count)
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        struct slice recipients = unpack_str(&u);
        struct key k = slice_key(b->id, i);
        uint32_t len = slice_len_of(b->recipient_count, i);
        uint8_t states[SLICE_MAX];

        if (!unpack_ok(&u) || recipients.len == 0)
            return 0;
        if (store_put(t, DB_RECIPIENTS, key_slice(&k), recipients, err) != 0)
            return -1;
        for (uint32_t r = 0; r < len; r++)
            states[r] = b->duplicate[i * SLICE_MAX + r] ? STATE_DUPLICATE : STATE_PENDING;
        if (states_put(t, b->id, i, states, len, err) != 0)
            return -1;
    }
    return unpack_done(&u) ? 1 : 0;
}

void message_key(struct slice domain, struct slice message_id, uint8_t key[MESSAGE_KEY_BYTES])
{
    struct slice parts[] = {domain, message_id};
    uint8_t hash[SHA256_BYTES];

    digest_sha256_parts(parts, 2, hash);
    memcpy(key, hash, MESSAGE_KEY_BYTES);
}

const uint8_t *message_keys_of(const struct message_head *head, const struct recipient *list,
                               size_t *count, struct arena *a)
{
    size_t most = head->message_id_per_recipient ? *count : 0;
    uint8_t *keys = arena_array(a, most, MESSAGE_KEY_BYTES);

    *count = 0;
    for (size_t i = 0; i < most; i++) {
        struct slice own = message_id_of(head, &list[i], a);
        if (own.len > 0)
            message_key(head->domain, own, keys + (*count)++ * MESSAGE_KEY_BYTES);
    }
    return keys;
}

int message_keys_put(struct store_txn *t, uint64_t batch_id, const uint8_t *keys, size_t count,
                     struct err *err)
{
    for (size_t i = 0; i < count; i++)
        if (put_u64(t, DB_MESSAGE_IDS, slice_of(keys + i * MESSAGE_KEY_BYTES, MESSAGE_KEY_BYTES),
                    batch_id, err) != 0)
            return -1;
    return 0;
}

int message_keys_del(struct store_txn *t, uint64_t batch_id, const uint8_t *keys, size_t count,
                     struct err *err)
{
    for (size_t i = 0; i < count; i++) {
        struct slice key = slice_of(keys + i * MESSAGE_KEY_BYTES, MESSAGE_KEY_BYTES), row;
        if (store_get(t, DB_MESSAGE_IDS, key, &row) && row.len == 8 &&
            read_be(row.ptr, 8) == batch_id && store_del(t, DB_MESSAGE_IDS, key, err) != 0)
            return -1;
    }
    return 0;
}

int batch_insert(struct store_txn *t, const struct new_batch *b, struct err *err)
{
    struct key id = key_of(b->id);
    uint8_t message[MESSAGE_KEY_BYTES];
    struct books books = {0};
    const struct books none = {0};

    message_key(b->domain, b->message_id, message);
    int got = insert_slices(t, b, err);
    if (got <= 0)
        return got;
    for (uint32_t i = 0; i < b->recipient_count; i++) {
        if (b->duplicate[i]) {
            books.state[STATE_DUPLICATE]++;
            continue;
        }
        books.state[STATE_PENDING]++;
        if (b->claims.len != 0 &&
            claim_put(t, b->claims.ptr + (size_t)i * CLAIM_BYTES, b->id, err) != 0)
            return -1;
    }
    books.accepted = books.state[STATE_PENDING];

    struct key first_slice = {.len = 0};
    key_u32(&first_slice, 0);
    if (store_put(t, DB_BATCHES, key_slice(&id), b->head, err) != 0 ||
        store_put(t, DB_CONTENTS, key_slice(&id), b->content, err) != 0 ||
        message_keys_put(t, b->id, message, 1, err) != 0 ||
        due_put(t, b->due_wall_ms, b->id, b->lane, err) != 0 ||
        store_put(t, DB_EXPANDING, key_slice(&id), key_slice(&first_slice), err) != 0 ||
        books_put(t, b->id, &books, err) != 0 ||
        totals_add_books(t, b->domain, b->lane, &none, &books, err) != 0)
        return -1;
    return 1;
}

uint64_t batch_last_id(struct store_txn *t)
{
    MDB_cursor *cursor;
    MDB_val key, row;
    uint64_t id = 0;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_BATCHES], &cursor) != 0)
        return 0;
    if (mdb_cursor_get(cursor, &key, &row, MDB_LAST) == 0 && key.mv_size == 8)
        id = read_be(key.mv_data, 8);
    mdb_cursor_close(cursor);
    return id;
}

int books_put(struct store_txn *t, uint64_t batch_id, const struct books *books, struct err *err)
{
    enum { FIELDS = sizeof *books / sizeof(uint32_t) };
    uint32_t fields[FIELDS];
    struct key k = key_of(batch_id), row = {.len = 0};

    memcpy(fields, books, sizeof fields);
    for (size_t i = 0; i < FIELDS; i++)
        key_u32(&row, fields[i]);
    return store_put(t, DB_BOOKS, key_slice(&k), key_slice(&row), err);
}

/* A state is a byte whose top bit is the mark of outcome_mark(). */
enum { OUTCOME_BIT = 0x80 };

static bool states_row(struct store_txn *t, uint64_t batch_id, uint32_t slice, struct slice *row)
{
    struct key k = slice_key(batch_id, slice);

    return store_get(t, DB_STATES, key_slice(&k), row) && row->len <= SLICE_MAX;
}

bool states_get(struct store_txn *t, uint64_t batch_id, uint32_t slice, uint8_t states[SLICE_MAX],
                uint32_t *count)
{
    struct slice row;

    if (!states_row(t, batch_id, slice, &row))
        return false;
    for (size_t i = 0; i < row.len; i++)
        states[i] = row.ptr[i] & (uint8_t)~OUTCOME_BIT;
    *count = (uint32_t)row.len;
    return true;
}

int states_put(struct store_txn *t, uint64_t batch_id, uint32_t slice,
               const uint8_t states[SLICE_MAX], uint32_t count, struct err *err)
{
    struct key k = slice_key(batch_id, slice);
    uint8_t row[SLICE_MAX];
    struct slice old = {0};

    bool known = states_row(t, batch_id, slice, &old);
    for (uint32_t i = 0; i < count; i++)
        row[i] = states[i] | (known && i < old.len ? old.ptr[i] & OUTCOME_BIT : 0);
    return store_put(t, DB_STATES, key_slice(&k), slice_of(row, count), err);
}

int outcome_mark(struct store_txn *t, uint64_t batch_id, uint32_t recipient, struct err *err)
{
    struct key k = slice_key(batch_id, recipient / SLICE_MAX);
    uint32_t at = recipient % SLICE_MAX;
    uint8_t row[SLICE_MAX];
    struct slice old;

    if (!states_row(t, batch_id, recipient / SLICE_MAX, &old) || at >= old.len ||
        (old.ptr[at] & OUTCOME_BIT) != 0)
        return 0;
    memcpy(row, old.ptr, old.len);
    row[at] |= OUTCOME_BIT;
    return store_put(t, DB_STATES, key_slice(&k), slice_of(row, old.len), err) == 0 ? 1 : -1;
}

uint64_t outcome_marks(struct store_txn *t, uint64_t batch_id, uint32_t slice)
{
    uint64_t marks = 0;
    struct slice row;

    if (!states_row(t, batch_id, slice, &row))
        return 0;
    for (size_t i = 0; i < row.len; i++)
        marks |= (uint64_t)((row.ptr[i] & OUTCOME_BIT) != 0) << i;
    return marks;
}

bool claim_get(struct store_txn *t, const uint8_t claim[CLAIM_BYTES], uint64_t *batch_id)
{
    struct slice row;

    if (!store_get(t, DB_CLAIMS, slice_of(claim, CLAIM_BYTES), &row) || row.len != 8)
        return false;
    *batch_id = read_be(row.ptr, 8);
    return true;
}

int claim_put(struct store_txn *t, const uint8_t claim[CLAIM_BYTES], uint64_t batch_id,
              struct err *err)
{
    struct key owner = key_of(batch_id);

    return store_put(t, DB_CLAIMS, slice_of(claim, CLAIM_BYTES), key_slice(&owner), err);
}

int claim_del(struct store_txn *t, const uint8_t claim[CLAIM_BYTES], struct err *err)
{
    return store_del(t, DB_CLAIMS, slice_of(claim, CLAIM_BYTES), err);
}

static bool is_fresh(struct slice row, uint64_t now_us)
{
    return row.len >= 8 && read_be(row.ptr, 8) + UNHEARD_MS * UINT64_C(1000) > now_us;
}

static int drop_old_unheard(struct store_txn *t, uint64_t now_us, struct err *err)
{
    MDB_cursor *cursor;
    MDB_val key, row;
    int rc = mdb_cursor_open(t->mdb, t->store->dbi[DB_UNHEARD], &cursor);

    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "unheard answers");
    while ((rc = mdb_cursor_get(cursor, &key, &row, MDB_NEXT)) == MDB_SUCCESS)
        if (!is_fresh(store_slice(row), now_us) && (rc = mdb_cursor_del(cursor, 0)) != MDB_SUCCESS)
            break;
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : store_fail(err, rc, "unheard answers");
}

int unheard_put(struct store_txn *t, const uint8_t digest[CLAIM_BYTES], struct slice answer_id,
                uint64_t now_us, struct err *err)
{
    struct buf row = {0};
    struct key at = {.len = 0};

    if (drop_old_unheard(t, now_us, err) != 0)
        return -1;
    key_u64(&at, now_us);
    buf_add_slice(&row, key_slice(&at));
    buf_add_slice(&row, answer_id);
    int got = store_put(t, DB_UNHEARD, slice_of(digest, CLAIM_BYTES), buf_slice(&row), err);
    buf_fini(&row);
    return got;
}

int unheard_take(struct store_txn *t, const uint8_t digest[CLAIM_BYTES], uint64_t now_us,
                 struct arena *a, struct slice *answer_id, struct err *err)
{
    struct slice row;

    if (!store_get(t, DB_UNHEARD, slice_of(digest, CLAIM_BYTES), &row) || !is_fresh(row, now_us))
        return 0;
    *answer_id = arena_dup(a, slice_from(row, 8));
    return store_del(t, DB_UNHEARD, slice_of(digest, CLAIM_BYTES), err) == 0 ? 1 : -1;
}

int due_each(struct store_txn *t, due_visitor *visit, void *arg)
{
    MDB_cursor *cursor;
    MDB_val key, row;
    int verdict = 0;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_DUE], &cursor) != 0)
        return -1;
    for (int rc = mdb_cursor_get(cursor, &key, &row, MDB_FIRST); rc == 0 && verdict == 0;
         rc = mdb_cursor_get(cursor, &key, &row, MDB_NEXT)) {
        const uint8_t *at = key.mv_data;
        if (key.mv_size == 16 && row.mv_size == 4)
            verdict =
                visit(arg, read_be(at, 8), read_be(at + 8, 8), (uint32_t)read_be(row.mv_data, 4));
    }
    mdb_cursor_close(cursor);
    return verdict;
}

int due_put(struct store_txn *t, uint64_t due_wall_ms, uint64_t batch_id, uint32_t lane,
            struct err *err)
{
    struct key k = {.len = 0}, row = {.len = 0};

    key_u64(&k, due_wall_ms);
    key_u64(&k, batch_id);
    key_u32(&row, lane);
    return store_put(t, DB_DUE, key_slice(&k), key_slice(&row), err);
}

int due_del(struct store_txn *t, uint64_t due_wall_ms, uint64_t batch_id, struct err *err)
{
    struct key k = {.len = 0};

    key_u64(&k, due_wall_ms);
    key_u64(&k, batch_id);
    return store_del(t, DB_DUE, key_slice(&k), err);
}

bool expanding_first(struct store_txn *t, uint64_t *batch_id, uint32_t *slice)
{
    MDB_cursor *cursor;
    MDB_val key, row;
    bool found;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_EXPANDING], &cursor) != 0)
        return false;
    found =
        mdb_cursor_get(cursor, &key, &row, MDB_FIRST) == 0 && key.mv_size == 8 && row.mv_size == 4;
    if (found) {
        *batch_id = read_be(key.mv_data, 8);
        *slice = (uint32_t)read_be(row.mv_data, 4);
    }
    mdb_cursor_close(cursor);
    return found;
}

int expanding_del(struct store_txn *t, uint64_t batch_id, struct err *err)
{
    struct key k = key_of(batch_id);

    return store_del(t, DB_EXPANDING, key_slice(&k), err);
}

static struct key lease_key(uint32_t sender, uint64_t id)
{
    struct key k = {.len = 0};

    key_u32(&k, sender);
    key_u64(&k, id);
    return k;
}

int lease_put(struct store_txn *t, const struct lease_row *row, struct err *err)
{
    struct key k = lease_key(row->sender, row->id), v = {.len = 0};

    key_u64(&v, row->epoch);
    key_u64(&v, row->generation);
    key_u32(&v, row->cell);
    key_u32(&v, row->slice);
    key_u64(&v, row->batch_id);
    key_u64(&v, row->mask);
    key_u64(&v, row->until_wall_ms);
    return store_put(t, DB_LEASES, key_slice(&k), key_slice(&v), err);
}

int lease_del(struct store_txn *t, uint32_t sender, uint64_t id, struct err *err)
{
    struct key k = lease_key(sender, id);

    return store_del(t, DB_LEASES, key_slice(&k), err);
}

int lease_each(struct store_txn *t, lease_visitor *visit, void *arg)
{
    enum { ROW_BYTES = 48 };
    MDB_cursor *cursor;
    MDB_val key, row;
    int verdict = 0;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_LEASES], &cursor) != 0)
        return -1;
    for (int rc = mdb_cursor_get(cursor, &key, &row, MDB_FIRST); rc == 0 && verdict == 0;
         rc = mdb_cursor_get(cursor, &key, &row, MDB_NEXT)) {
        const uint8_t *k = key.mv_data, *v = row.mv_data;
        if (key.mv_size != 12 || row.mv_size != ROW_BYTES)
            continue;
        struct lease_row lease = {
            .sender = (uint32_t)read_be(k, 4),
            .id = read_be(k + 4, 8),
            .epoch = read_be(v, 8),
            .generation = read_be(v + 8, 8),
            .cell = (uint32_t)read_be(v + 16, 4),
            .slice = (uint32_t)read_be(v + 20, 4),
            .batch_id = read_be(v + 24, 8),
            .mask = read_be(v + 32, 8),
            .until_wall_ms = read_be(v + 40, 8),
        };
        verdict = visit(arg, &lease);
    }
    mdb_cursor_close(cursor);
    return verdict;
}

static struct key position_key(unsigned gauge)
{
    struct key k = {.len = 0};

    key_bytes(&k, SLICE("ring:"));
    key_u32(&k, gauge);
    return k;
}

bool ring_position_get(struct store_txn *t, unsigned gauge, uint64_t epoch, uint64_t *position)
{
    struct key k = position_key(gauge);
    struct slice row;

    if (!store_get(t, DB_META, key_slice(&k), &row) || row.len != 16 ||
        read_be(row.ptr, 8) != epoch)
        return false;
    *position = read_be(row.ptr + 8, 8);
    return true;
}

int ring_position_put(struct store_txn *t, unsigned gauge, uint64_t epoch, uint64_t position,
                      struct err *err)
{
    struct key k = position_key(gauge), row = {.len = 0};

    key_u64(&row, epoch);
    key_u64(&row, position);
    return store_put(t, DB_META, key_slice(&k), key_slice(&row), err);
}
