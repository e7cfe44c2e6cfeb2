#include "store/suppressions.h"

#include "base/digest.h"
#include "mail/address.h"
#include "store/internal.h"
#include "store/key.h"

enum {
    ENTRY_VERSION = 1,
    ENTRY_MEMBERS = 6,
    ENTRY_CARRIED_MEMBERS = 5,
    ENTRY_MEMBERS_UNTAGGED = 5, /* rows of before there were tags */
    SOFT_BOUNCES_MAX = 1000,

    TAIL_BYTES = 8, /* hash in place of what is too long for a key */
};

static struct key list_key(uint32_t domain, enum suppression list)
{
    struct key k = {0};

    key_u32(&k, domain);
    key_u8(&k, (uint8_t)list);
    return k;
}

/* Folded to lower case, so that the order is alphabetical; beyond the room of a key the rest counts
 * by its hash. */
static void key_address(struct key *k, struct slice address)
{
    size_t room = sizeof k->at - k->len;
    size_t plain = address.len <= room ? address.len : room - TAIL_BYTES;

    for (size_t i = 0; i < plain; i++) {
        uint8_t c = address.ptr[i];
        key_u8(k, c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c);
    }
    if (plain < address.len)
        key_hash_nocase(k, address);
}

static bool entry_read(struct slice value, struct suppression_entry *entry)
{
    struct unpack u = unpack_over(value);
    uint32_t members = unpack_array(&u);

    if ((members != ENTRY_MEMBERS && members != ENTRY_MEMBERS_UNTAGGED) ||
        unpack_u64(&u) != ENTRY_VERSION)
        return false;
    entry->address = unpack_str(&u);
    entry->code = unpack_str(&u);
    entry->text = unpack_str(&u);
    entry->created_us = unpack_u64(&u);
    entry->tags = members == ENTRY_MEMBERS ? unpack_str(&u) : slice_none();
    return unpack_done(&u);
}

bool suppression_fits(enum suppression list, struct slice address)
{
    return address_is_valid(address) || (list == SUPPRESS_ALLOW && address_is_domain(address));
}

void suppression_entry_pack(struct buf *to, const struct suppression_entry *entry)
{
    pack_array(to, ENTRY_CARRIED_MEMBERS);
    pack_str(to, entry->address);
    pack_str(to, entry->code);
    pack_str(to, entry->text);
    pack_u64(to, entry->created_us);
    pack_bin(to, entry->tags);
}

struct suppression_entry suppression_entry_unpack(struct unpack *u)
{
    if (unpack_array(u) != ENTRY_CARRIED_MEMBERS)
        u->bad = true;
    struct suppression_entry entry = {.address = unpack_str(u)};
    entry.code = unpack_str(u);
    entry.text = unpack_str(u);
    entry.created_us = unpack_u64(u);
    entry.tags = unpack_str(u);
    return entry;
}

bool suppression_get(struct store_txn *t, struct slice domain, enum suppression list,
                     struct slice address, struct suppression_entry *entry)
{
    uint32_t number = store_domain_find(t, domain);
    struct slice value;

    if (number == 0)
        return false;
    struct key k = list_key(number, list);
    key_address(&k, address);
    return store_get(t, DB_SUPPRESSIONS, key_slice(&k), &value) && entry_read(value, entry);
}

int suppression_put(struct store_txn *t, struct slice domain, enum suppression list,
                    const struct suppression_entry *entry, struct err *err)
{
    uint32_t number = store_domain_intern(t, domain, err);
    struct buf packed = {0};

    if (number == 0)
        return -1;
    struct key k = list_key(number, list);
    key_address(&k, entry->address);
    pack_array(&packed, ENTRY_MEMBERS);
    pack_u64(&packed, ENTRY_VERSION);
    pack_str(&packed, entry->address);
    pack_str(&packed, entry->code);
    pack_str(&packed, entry->text);
    pack_u64(&packed, entry->created_us);
    pack_bin(&packed, entry->tags);
    int rc = store_put(t, DB_SUPPRESSIONS, key_slice(&k), buf_slice(&packed), err);
    buf_fini(&packed);
    return rc;
}

int suppression_delete(struct store_txn *t, struct slice domain, enum suppression list,
                       struct slice address, struct err *err)
{
    uint32_t number = store_domain_find(t, domain);
    struct slice value;

    if (number == 0)
        return 0;
    struct key k = list_key(number, list);
    key_address(&k, address);
    if (!store_get(t, DB_SUPPRESSIONS, key_slice(&k), &value))
        return 0;
    return store_del(t, DB_SUPPRESSIONS, key_slice(&k), err) == 0 ? 1 : -1;
}

/* The first row of the walk. Backwards that is the row below the first one past all that it may
 * visit. */
static int walk_begin(MDB_cursor *cursor, const struct key *prefix, const struct key *from,
                      bool has_from, bool backwards, MDB_val *k, MDB_val *v)
{
    struct key start = has_from ? *from : *prefix;

    if (backwards && !has_from) {
        /* The first key that does not begin with the prefix; of 0xff bytes alone it never is. */
        while (start.at[start.len - 1] == 0xff)
            start.len--;
        start.at[start.len - 1]++;
    }
    *k = store_val(key_slice(&start));
    int rc = mdb_cursor_get(cursor, k, v, MDB_SET_RANGE);
    if (backwards)
        return mdb_cursor_get(cursor, k, v, rc == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
    if (rc == MDB_SUCCESS && has_from && slice_eq(store_slice(*k), key_slice(&start)))
        return mdb_cursor_get(cursor, k, v, MDB_NEXT);
    return rc;
}

void suppression_each(struct store_txn *t, struct slice domain, enum suppression list,
                      const struct suppression_walk *walk, suppression_visitor *visit, void *arg)
{
    uint32_t number = store_domain_find(t, domain);
    struct key prefix = list_key(number, list), from = prefix;
    MDB_cursor *cursor;
    MDB_val k, v;

    key_address(&prefix, walk->term);
    key_address(&from, walk->from);
    /* A place outside of what begins with the term: its nearer end, or nothing is left. */
    bool has_from = walk->from.len > 0;
    if (has_from && !slice_starts(key_slice(&from), key_slice(&prefix))) {
        bool is_below = slice_cmp(key_slice(&from), key_slice(&prefix)) < 0;
        if (is_below == walk->backwards)
            return;
        has_from = false;
    }
    if (number == 0 ||
        mdb_cursor_open(t->mdb, t->store->dbi[DB_SUPPRESSIONS], &cursor) != MDB_SUCCESS)
        return;
    int rc = walk_begin(cursor, &prefix, &from, has_from, walk->backwards, &k, &v);
    while (rc == MDB_SUCCESS && slice_starts(store_slice(k), key_slice(&prefix))) {
        struct suppression_entry entry;
        if (entry_read(store_slice(v), &entry) && !visit(arg, &entry))
            break;
        rc = mdb_cursor_get(cursor, &k, &v, walk->backwards ? MDB_PREV : MDB_NEXT);
    }
    mdb_cursor_close(cursor);
}

/* SES keeps a list of its own, of bounces and complaints. */
static int clear_one(struct store_txn *t, MDB_cursor *cursor, enum suppression list,
                     struct slice row, uint64_t at_us, struct err *err)
{
    struct suppression_entry entry;
    bool at_ses = list == SUPPRESS_BOUNCE || list == SUPPRESS_COMPLAINT;

    if (at_ses && entry_read(row, &entry) && lifted_put(t, entry.address, at_us, err) != 0)
        return -1;
    int rc = mdb_cursor_del(cursor, 0);
    return rc == MDB_SUCCESS ? 0 : store_fail(err, rc, "taking an address off a list");
}

int suppression_clear(struct store_txn *t, struct slice domain, enum suppression list,
                      unsigned most, uint64_t at_us, struct err *err)
{
    uint32_t number = store_domain_find(t, domain);
    struct key prefix = list_key(number, list);
    MDB_cursor *cursor;
    MDB_val k = store_val(key_slice(&prefix)), v;
    unsigned gone = 0;

    if (number == 0)
        return 0;
    int rc = mdb_cursor_open(t->mdb, t->store->dbi[DB_SUPPRESSIONS], &cursor);
    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "opening a cursor");
    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    int got = 0;
    while (rc == MDB_SUCCESS && gone < most && slice_starts(store_slice(k), key_slice(&prefix)) &&
           (got = clear_one(t, cursor, list, store_slice(v), at_us, err)) == 0) {
        gone++;
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return got == 0 ? (int)gone : -1;
}

bool allowlist_has(struct store_txn *t, struct slice domain, struct slice address)
{
    struct suppression_entry entry;
    size_t at = slice_rfind_byte(address, '@');

    return suppression_get(t, domain, SUPPRESS_ALLOW, address, &entry) ||
           (at != SIZE_MAX &&
            suppression_get(t, domain, SUPPRESS_ALLOW, slice_from(address, at + 1), &entry));
}

bool suppression_concerns(const struct suppression_entry *entry, const struct slice *tags,
                          size_t tag_count)
{
    struct unpack u = unpack_over(entry->tags);
    bool concerned = entry->tags.len == 0;

    for (uint32_t n = concerned ? 0 : unpack_array(&u); n > 0 && !concerned; n--) {
        struct slice tag = unpack_str(&u);
        for (size_t i = 0; i < tag_count; i++)
            concerned = concerned || slice_eq_nocase(tag, tags[i]);
    }
    return concerned;
}

enum suppression suppression_of(struct store_txn *t, struct slice domain, struct slice address,
                                const struct slice *tags, size_t tag_count)
{
    struct suppression_entry entry;

    for (int list = SUPPRESS_BOUNCE; list <= SUPPRESS_COMPLAINT; list++)
        if (suppression_get(t, domain, (enum suppression)list, address, &entry) &&
            suppression_concerns(&entry, tags, tag_count))
            return (enum suppression)list;
    return SUPPRESS_NONE;
}

/* Appends the packed tags but one, and counts them. */
static uint32_t copy_tags(struct buf *to, struct slice tags, struct slice but)
{
    struct unpack u = unpack_over(tags);
    uint32_t kept = 0;

    for (uint32_t n = tags.len == 0 ? 0 : unpack_array(&u); n > 0; n--) {
        struct slice tag = unpack_str(&u);
        if (!unpack_ok(&u))
            break;
        if (slice_eq_nocase(tag, but))
            continue;
        pack_str(to, tag);
        kept++;
    }
    return kept;
}

int unsubscribe_put(struct store_txn *t, struct slice domain, const struct suppression_entry *entry,
                    struct err *err)
{
    struct suppression_entry old, both = *entry;
    struct unpack u = unpack_over(entry->tags);
    struct buf tags = {0}, packed = {0};
    uint32_t count = 0;

    if (!suppression_get(t, domain, SUPPRESS_UNSUBSCRIBE, entry->address, &old))
        return suppression_put(t, domain, SUPPRESS_UNSUBSCRIBE, entry, err);
    both.address = old.address; /* as first written */
    both.created_us = old.created_us;
    if (entry->tags.len == 0 || old.tags.len == 0) {
        both.tags = slice_none();
    } else {
        count = copy_tags(&tags, old.tags, slice_none());
        for (uint32_t n = unpack_array(&u); n > 0; n--) {
            struct slice tag = unpack_str(&u);
            if (suppression_concerns(&old, &tag, 1))
                continue;
            pack_str(&tags, tag);
            count++;
        }
        pack_array(&packed, count);
        buf_add_slice(&packed, buf_slice(&tags));
        both.tags = buf_slice(&packed);
    }
    int rc = suppression_put(t, domain, SUPPRESS_UNSUBSCRIBE, &both, err);
    buf_fini(&tags);
    buf_fini(&packed);
    return rc;
}

int unsubscribe_delete_tag(struct store_txn *t, struct slice domain, struct slice address,
                           struct slice tag, struct err *err)
{
    struct suppression_entry entry;
    struct buf tags = {0}, packed = {0};
    int rc;

    if (!suppression_get(t, domain, SUPPRESS_UNSUBSCRIBE, address, &entry) || entry.tags.len == 0 ||
        !suppression_concerns(&entry, &tag, 1))
        return 0;
    uint32_t left = copy_tags(&tags, entry.tags, tag);
    if (left == 0) {
        rc = suppression_delete(t, domain, SUPPRESS_UNSUBSCRIBE, address, err);
    } else {
        pack_array(&packed, left);
        buf_add_slice(&packed, buf_slice(&tags));
        entry.tags = buf_slice(&packed);
        rc = suppression_put(t, domain, SUPPRESS_UNSUBSCRIBE, &entry, err) == 0 ? 1 : -1;
    }
    buf_fini(&tags);
    buf_fini(&packed);
    return rc;
}

/* -------- soft bounces -------- */

static struct key soft_key(uint32_t domain, struct slice address)
{
    struct key k = {.len = 0};

    key_u32(&k, domain);
    key_address(&k, address);
    return k;
}

int soft_bounce_add(struct store_txn *t, struct slice domain, struct slice address, uint64_t now_us,
                    unsigned limit, uint64_t window_us, struct err *err)
{
    uint32_t number = store_domain_intern(t, domain, err);
    struct slice row = slice_none();
    struct buf kept = {0};
    int got;

    if (number == 0)
        return -1;
    if (limit == 0)
        return 0;
    struct key k = soft_key(number, address), now = {.len = 0};
    (void)store_get(t, DB_SOFT_BOUNCES, key_slice(&k), &row);
    for (size_t at = 0; at + 8 <= row.len && at < SOFT_BOUNCES_MAX * 8; at += 8)
        if (read_be(row.ptr + at, 8) + window_us > now_us)
            buf_add(&kept, row.ptr + at, 8);
    key_u64(&now, now_us);
    buf_add_slice(&kept, key_slice(&now));
    if (kept.len / 8 >= limit)
        got = store_del(t, DB_SOFT_BOUNCES, key_slice(&k), err) == 0 ? 1 : -1;
    else
        got = store_put(t, DB_SOFT_BOUNCES, key_slice(&k), buf_slice(&kept), err);
    buf_fini(&kept);
    return got;
}

int soft_bounce_reset(struct store_txn *t, struct slice domain, struct slice address,
                      struct err *err)
{
    uint32_t number = store_domain_find(t, domain);
    struct slice row;

    if (number == 0)
        return 0;
    struct key k = soft_key(number, address);
    if (!store_get(t, DB_SOFT_BOUNCES, key_slice(&k), &row))
        return 0;
    return store_del(t, DB_SOFT_BOUNCES, key_slice(&k), err);
}

/* -------- what SES's own list is still to forget -------- */

/* LMDB's keys are short; no address that SES knows is longer. */
enum { LIFTED_ADDRESS_MAX = 320 };

int lifted_put(struct store_txn *t, struct slice address, uint64_t at_us, struct err *err)
{
    struct key at = {.len = 0};

    if (address.len == 0 || address.len > LIFTED_ADDRESS_MAX)
        return 0;
    key_u64(&at, at_us);
    return store_put(t, DB_LIFTED, address, key_slice(&at), err);
}

bool lifted_first(struct store_txn *t, struct buf *address, uint64_t *at_us)
{
    MDB_cursor *cursor;
    MDB_val key, row;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_LIFTED], &cursor) != MDB_SUCCESS)
        return false;
    bool found = mdb_cursor_get(cursor, &key, &row, MDB_FIRST) == MDB_SUCCESS && row.mv_size == 8;
    if (found) {
        buf_reset(address);
        buf_add(address, key.mv_data, key.mv_size);
        *at_us = read_be(row.mv_data, 8);
    }
    mdb_cursor_close(cursor);
    return found;
}

int lifted_delete(struct store_txn *t, struct slice address, uint64_t at_us, struct err *err)
{
    struct slice row;

    if (!store_get(t, DB_LIFTED, address, &row) || row.len != 8 || read_be(row.ptr, 8) != at_us)
        return 0;
    return store_del(t, DB_LIFTED, address, err);
}
