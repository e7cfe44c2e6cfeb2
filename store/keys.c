#include "store/keys.h"

#include "base/log.h"
#include "store/internal.h"
#include "store/key.h"

enum { ROW_VERSION = 1, ROW_MEMBERS = 8, PACKED_MEMBERS = 9 };

static struct key row_key(const uint8_t digest[SHA256_BYTES], struct slice domain)
{
    struct key k = {.len = 0};

    key_bytes(&k, slice_of(digest, SHA256_BYTES));
    key_bytes(&k, domain);
    return k;
}

/* -------- rows -------- */

/* What stands behind digest and domain, in the store and in a change alike. */
static void pack_members(struct buf *to, const struct key_row *row)
{
    pack_u64(to, row->at.stamp_us);
    pack_u64(to, row->at.node);
    pack_u64(to, (uint64_t)row->state);
    pack_bool(to, row->only_sending);
    pack_u64(to, row->added_us);
    pack_str(to, row->label);
    pack_str(to, row->by);
}

static bool unpack_members(struct unpack *u, struct key_row *row)
{
    row->at.stamp_us = unpack_u64(u);
    row->at.node = unpack_u64(u);
    uint64_t state = unpack_u64(u);
    row->state = state == KEY_ADDED ? KEY_ADDED : KEY_WITHDRAWN;
    row->only_sending = unpack_bool(u);
    row->added_us = unpack_u64(u);
    row->label = unpack_str(u);
    row->by = unpack_str(u);
    return unpack_ok(u) && (state == KEY_ADDED || state == KEY_WITHDRAWN);
}

/* One that is not understood shuts its key out. */
static void row_read(struct slice key, struct slice value, struct key_row *row)
{
    struct unpack u = unpack_over(value);

    *row = (struct key_row){.state = KEY_WITHDRAWN};
    bool is_ours = unpack_array(&u) == ROW_MEMBERS && unpack_u64(&u) == ROW_VERSION;
    if (!is_ours || !unpack_members(&u, row) || !unpack_done(&u))
        *row = (struct key_row){.state = KEY_WITHDRAWN};
    memcpy(row->digest, key.ptr, SHA256_BYTES);
    row->domain = slice_from(key, SHA256_BYTES);
}

int key_row_put(struct store_txn *t, const struct key_row *row, struct err *err)
{
    struct key k = row_key(row->digest, row->domain);
    struct buf packed = {0};

    pack_array(&packed, ROW_MEMBERS);
    pack_u64(&packed, ROW_VERSION);
    pack_members(&packed, row);
    int rc = store_put(t, DB_KEYS, key_slice(&k), buf_slice(&packed), err);
    buf_fini(&packed);
    return rc;
}

int key_row_drop(struct store_txn *t, const struct key_row *row, struct err *err)
{
    struct key k = row_key(row->digest, row->domain);

    return store_del(t, DB_KEYS, key_slice(&k), err);
}

bool key_row_get(struct store_txn *t, const uint8_t digest[SHA256_BYTES], struct slice domain,
                 struct key_row *row)
{
    struct key k = row_key(digest, domain);
    struct slice value;

    if (!store_get(t, DB_KEYS, key_slice(&k), &value))
        return false;
    row_read(key_slice(&k), value, row);
    row->domain = domain;
    return true;
}

static bool is_line(struct slice text, size_t most)
{
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] < ' ' || text.ptr[i] == 0x7f)
            return false;
    return text.len <= most && slice_is_utf8(text);
}

bool key_row_fits(const struct key_row *row)
{
    return is_line(row->domain, KEY_DOMAIN_BYTES_MAX) && is_line(row->label, KEY_LABEL_BYTES_MAX) &&
           is_line(row->by, KEY_BY_BYTES_MAX);
}

void key_row_log(const struct key_row *row, const char *asked)
{
    struct slice by = row->by.len > 0 ? row->by : SLICE("a person");
    struct slice domain = row->domain.len > 0 ? row->domain : SLICE("all domains");
    struct buf digits = {0};

    text_hex(&digits, slice_of(row->digest, KEY_PREFIX_DIGITS / 2));
    log_info("the key sha256:%s... %s %.*s%s: asked for by %.*s%s", buf_cstr(&digits),
             row->state == KEY_ADDED ? "opens" : "no longer opens", SLICE_ARGS(domain),
             row->state == KEY_ADDED && row->only_sending ? " for sending" : "", SLICE_ARGS(by),
             asked);
    buf_fini(&digits);
}

void key_row_pack(struct buf *to, const struct key_row *row)
{
    pack_array(to, PACKED_MEMBERS);
    pack_bin(to, slice_of(row->digest, SHA256_BYTES));
    pack_str(to, row->domain);
    pack_members(to, row);
}

bool key_row_unpack(struct unpack *u, struct key_row *row)
{
    *row = (struct key_row){.state = KEY_WITHDRAWN};
    if (unpack_array(u) != PACKED_MEMBERS)
        return false;
    struct slice digest = unpack_str(u);
    row->domain = unpack_str(u);
    if (!unpack_members(u, row) || digest.len != SHA256_BYTES)
        return false;
    memcpy(row->digest, digest.ptr, SHA256_BYTES);
    return true;
}

static void walk(struct store_txn *t, struct slice prefix, key_visitor *visit, void *arg)
{
    MDB_cursor *cursor;
    MDB_val k = store_val(prefix), v;
    struct key_row row;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_KEYS], &cursor) != MDB_SUCCESS)
        return;
    int rc = mdb_cursor_get(cursor, &k, &v, prefix.len > 0 ? MDB_SET_RANGE : MDB_FIRST);
    for (; rc == MDB_SUCCESS && slice_starts(store_slice(k), prefix);
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        if (k.mv_size < SHA256_BYTES)
            continue;
        row_read(store_slice(k), store_slice(v), &row);
        if (!visit(arg, &row))
            break;
    }
    mdb_cursor_close(cursor);
}

void keys_of(struct store_txn *t, const uint8_t digest[SHA256_BYTES], key_visitor *visit, void *arg)
{
    walk(t, slice_of(digest, SHA256_BYTES), visit, arg);
}

void keys_each(struct store_txn *t, key_visitor *visit, void *arg)
{
    walk(t, slice_none(), visit, arg);
}

/* -------- all keys -------- */

struct gathering {
    struct known_keys *keys;
    struct arena *arena;
    size_t room;
};

static bool count_row(void *arg, const struct key_row *row)
{
    size_t *count = arg;

    (void)row;
    (*count)++;
    return true;
}

/* The row of a configured key is told with it, any other by itself. */
static bool take_row(void *arg, const struct key_row *row)
{
    struct gathering *g = arg;
    bool is_told = false;

    for (size_t i = 0; i < g->keys->count; i++) {
        struct known_key *k = &g->keys->list[i];
        if (!k->is_configured || !digest_is(k->digest, row->digest) ||
            !slice_eq(k->domain, row->domain))
            continue;
        is_told = true;
        k->is_withdrawn = row->state == KEY_WITHDRAWN;
        k->since_us = row->at.stamp_us;
        k->label = arena_dup(g->arena, row->label);
        k->by = arena_dup(g->arena, row->by);
    }
    if (is_told || g->keys->count == g->room)
        return true;
    g->keys->list[g->keys->count++] = (struct known_key){
        .domain = arena_dup(g->arena, row->domain),
        .kind = row->only_sending ? CONFIG_KEY_SENDING : CONFIG_KEY_FULL,
        .is_withdrawn = row->state == KEY_WITHDRAWN,
        .since_us = row->at.stamp_us,
        .label = arena_dup(g->arena, row->label),
        .by = arena_dup(g->arena, row->by),
    };
    memcpy(g->keys->list[g->keys->count - 1].digest, row->digest, SHA256_BYTES);
    return true;
}

/* What is withdrawn for all is so for each. */
static void spread_withdrawals(struct known_keys *keys)
{
    for (size_t i = 0; i < keys->count; i++) {
        const struct known_key *all = &keys->list[i];
        for (size_t j = 0; j < keys->count && all->is_withdrawn && all->domain.len == 0; j++) {
            struct known_key *k = &keys->list[j];
            if (k->is_withdrawn || !digest_is(all->digest, k->digest))
                continue;
            k->is_withdrawn = true;
            k->since_us = all->since_us;
            k->by = all->by;
        }
    }
}

void known_keys_read(struct store_txn *t, const struct config *config, struct arena *a,
                     struct known_keys *keys)
{
    struct config_keys configured;
    size_t rows = 0;

    *keys = (struct known_keys){0};
    config_keys_read(config, &configured);
    if (t != NULL)
        keys_each(t, count_row, &rows);
    struct gathering g = {keys, a, configured.count + rows};
    keys->list = arena_array(a, g.room + 1, sizeof *keys->list);
    for (size_t i = 0; i < configured.count; i++) {
        const struct config_key *c = &configured.list[i];
        struct known_key *k = &keys->list[keys->count++];
        *k = (struct known_key){.kind = c->kind, .is_configured = true};
        memcpy(k->digest, c->digest, SHA256_BYTES);
        if (c->domain != NULL)
            k->domain = arena_dup(a, slice_str(c->domain->name));
    }
    config_keys_fini(&configured);
    if (t != NULL)
        keys_each(t, take_row, &g);
    spread_withdrawals(keys);
}

bool known_key_opens(const struct known_keys *keys, const struct known_key *k, struct slice domain)
{
    if (k->is_withdrawn || k->kind == CONFIG_KEY_METRICS ||
        (k->domain.len > 0 && !slice_eq(k->domain, domain)))
        return false;
    for (size_t i = 0; i < keys->count; i++) {
        const struct known_key *other = &keys->list[i];
        if (other->is_withdrawn && digest_is(other->digest, k->digest) &&
            (domain.len == 0 || slice_eq(other->domain, domain)))
            return false;
    }
    return true;
}
