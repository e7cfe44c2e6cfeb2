#include "store/changes.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "store/internal.h"
#include "store/key.h"

#define NODE  SLICE("node")
#define STAMP SLICE("change_stamp")

static uint64_t number_get(struct store_txn *t, struct slice name)
{
    struct slice row;

    return store_get(t, DB_META, name, &row) && row.len == 8 ? read_be(row.ptr, 8) : 0;
}

static int number_put(struct store_txn *t, struct slice name, uint64_t number, struct err *err)
{
    struct key row = {.len = 0};

    key_u64(&row, number);
    return store_put(t, DB_META, name, key_slice(&row), err);
}

static struct key stamp_key(uint64_t stamp_us)
{
    struct key k = {.len = 0};

    key_u64(&k, stamp_us);
    return k;
}

/* -------- the store's number -------- */

static uint64_t new_node(void)
{
    uint64_t node;

    do
        digest_random(&node, sizeof node);
    while (node == 0);
    return node;
}

int changes_start(struct store *s, struct err *err)
{
    struct store_txn *t = store_begin_write(s, err);

    if (t == NULL)
        return -1;
    uint64_t node = number_get(t, NODE);
    if (node == 0) {
        node = new_node();
        if (number_put(t, NODE, node, err) != 0) {
            store_abort(t);
            return -1;
        }
    }
    if (store_commit(t, err) != 0)
        return -1;
    s->node = node;
    return 0;
}

bool changes_are_told(const struct store_txn *t)
{
    return t->store->node != 0;
}

uint64_t changes_node(const struct store_txn *t)
{
    return t->store->node;
}

uint64_t changes_node_stored(struct store_txn *t)
{
    return number_get(t, NODE);
}

int changes_renumber(struct store_txn *t, struct err *err)
{
    return number_get(t, NODE) == 0 ? 0 : number_put(t, NODE, new_node(), err);
}

/* -------- stamps -------- */

int change_stamp(struct store_txn *t, struct version *v, struct err *err)
{
    uint64_t last_us = number_get(t, STAMP), now_us = clock_wall_us();

    *v = (struct version){.stamp_us = now_us > last_us ? now_us : last_us + 1,
                          .node = t->store->node};
    return number_put(t, STAMP, v->stamp_us, err);
}

int change_stamp_heard(struct store_txn *t, uint64_t stamp_us, struct err *err)
{
    return stamp_us <= number_get(t, STAMP) ? 0 : number_put(t, STAMP, stamp_us, err);
}

/* -------- what waits -------- */

int change_tell(struct store_txn *t, const struct record_change *r, struct err *err)
{
    struct key k = stamp_key(r->stamp_us);
    struct buf row = {0};
    int rc = 0;

    if (!changes_are_told(t))
        return 0;
    record_change_encode(&row, r);
    if (row.len > CHANGE_BYTES_MAX)
        log_error("%.*s: a change of %zu bytes is too long to be told to other machines: it is "
                  "known on this one alone",
                  SLICE_ARGS(r->domain), row.len);
    else
        rc = store_put(t, DB_UNTOLD, key_slice(&k), buf_slice(&row), err);
    t->store->has_untold = true;
    buf_fini(&row);
    return rc;
}

static bool untold_at(struct store_txn *t, uint64_t from_us, uint64_t *stamp_us,
                      struct slice *change)
{
    struct key from = stamp_key(from_us);
    MDB_cursor *cursor;
    MDB_val k = store_val(key_slice(&from)), v;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_UNTOLD], &cursor) != MDB_SUCCESS)
        return false;
    bool found = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE) == MDB_SUCCESS && k.mv_size == 8;
    if (found) {
        *stamp_us = read_be(k.mv_data, 8);
        *change = store_slice(v);
    }
    mdb_cursor_close(cursor);
    return found;
}

bool change_untold_after(struct store_txn *t, uint64_t *stamp_us, struct slice *change)
{
    return *stamp_us < UINT64_MAX && untold_at(t, *stamp_us + 1, stamp_us, change);
}

uint64_t changes_untold(struct store_txn *t, uint64_t *oldest_us)
{
    struct slice change;
    MDB_stat stat;

    *oldest_us = 0;
    if (mdb_stat(t->mdb, t->store->dbi[DB_UNTOLD], &stat) != MDB_SUCCESS || stat.ms_entries == 0)
        return 0;
    (void)untold_at(t, 0, oldest_us, &change);
    return stat.ms_entries;
}

int changes_drop(struct store_txn *t, uint64_t up_to_us, struct err *err)
{
    struct slice change;
    uint64_t stamp_us;

    while (untold_at(t, 0, &stamp_us, &change) && stamp_us <= up_to_us) {
        struct key k = stamp_key(stamp_us);
        if (store_del(t, DB_UNTOLD, key_slice(&k), err) != 0)
            return -1;
    }
    return 0;
}

bool changes_take_news(struct store_txn *t)
{
    bool has = t->store->has_untold;

    t->store->has_untold = false;
    return has;
}
