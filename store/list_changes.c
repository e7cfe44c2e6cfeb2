/*
 * Rows of versions, behind domain and list:
 *
 *   (nothing)                     the list was cleared
 *   hash of the address, 0        the address was taken off
 *   hash of the address, 1        "everything": the flag says whether added or removed
 *   hash of the address, 2, hash  a tag: the same
 *
 * An element's row has as its text when its entry says that it was created (µs), and the tag. An
 * entry was created with the latest of its elements, and reads as that one was added.
 *
 * A removal of the address or a clearing also removes elements whose adding is heard of later, so
 * both are floors rather than changes of each element.
 */
#include "store/list_changes.h"

#include <string.h>

#include "base/arena.h"
#include "base/pack.h"
#include "store/internal.h"
#include "store/versions.h"

enum {
    ROW_REMOVED,
    ROW_EVERYTHING,
    ROW_TAG,
    CREATED_BYTES = 8,
    CLEAR_AT_ONCE = 500, /* addresses gathered before they are taken off */
};

/* One address of one list. */
struct entry {
    struct store_txn *t;
    struct slice domain, address;
    enum suppression list;
    uint32_t number; /* of the domain */
    struct version floor;
    struct arena *arena;
    bool is_there;
    struct suppression_entry now; /* in the arena */
};

static struct key address_key(const struct entry *e, uint8_t row)
{
    struct key k = version_key(e->number, (unsigned)e->list);

    key_hash_nocase(&k, e->address);
    key_u8(&k, row);
    return k;
}

static struct key element_key(const struct entry *e, struct slice tag)
{
    struct key k = address_key(e, tag.len == 0 ? ROW_EVERYTHING : ROW_TAG);

    if (tag.len > 0)
        key_hash_nocase(&k, tag);
    return k;
}

static void read_now(struct entry *e)
{
    struct suppression_entry *n = &e->now;

    e->is_there = suppression_get(e->t, e->domain, e->list, e->address, n);
    if (!e->is_there)
        return;
    n->address = arena_dup(e->arena, n->address);
    n->code = arena_dup(e->arena, n->code);
    n->text = arena_dup(e->arena, n->text);
    n->tags = arena_dup(e->arena, n->tags);
}

static int put_element(const struct entry *e, struct slice tag, const struct version *v, bool added,
                       uint64_t created_us, struct err *err)
{
    struct key k = element_key(e, tag), created = {.len = 0};
    struct buf text = {0};

    key_u64(&created, created_us);
    buf_add_slice(&text, key_slice(&created));
    buf_add_slice(&text, tag);
    int rc = version_put(
        e->t, &k, &(struct version_row){.at = *v, .flag = added, .text = buf_slice(&text)}, err);
    buf_fini(&text);
    return rc;
}

/* What stands on the list without a version was added when it was created. (What is below the floor
 * needs none: it goes.) */
static int adopt(const struct entry *e, struct err *err)
{
    const struct version then = {.stamp_us = e->now.created_us};
    struct unpack u = unpack_over(e->now.tags);
    uint32_t count = e->now.tags.len == 0 ? 1 : unpack_array(&u);
    struct version_row row;

    if (!e->is_there || !version_is_later(&then, &e->floor))
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        struct slice tag = e->now.tags.len == 0 ? slice_none() : unpack_str(&u);
        struct key k = element_key(e, tag);
        if (!version_get(e->t, &k, &row) &&
            put_element(e, tag, &then, true, e->now.created_us, err) != 0)
            return -1;
    }
    return 0;
}

static int begin(struct entry *e, struct err *err)
{
    struct version_row cleared, removed;

    e->number = store_domain_intern(e->t, e->domain, err);
    if (e->number == 0)
        return -1;
    struct key list = version_key(e->number, (unsigned)e->list),
               address = address_key(e, ROW_REMOVED);
    (void)version_get(e->t, &list, &cleared);
    (void)version_get(e->t, &address, &removed);
    e->floor = version_is_later(&cleared.at, &removed.at) ? cleared.at : removed.at;
    read_now(e);
    return adopt(e, err);
}

/* -------- what follows from the versions -------- */

struct live {
    bool everything;
    uint32_t tag_count;
    struct buf tags;       /* packed, without the array's head */
    struct version latest; /* of those added */
    uint64_t created_us;   /* of that one */
};

static void read_live(const struct entry *e, struct live *l)
{
    struct key prefix = address_key(e, ROW_EVERYTHING);
    MDB_cursor *cursor;
    MDB_val k = store_val(key_slice(&prefix)), v;

    *l = (struct live){.everything = false};
    if (mdb_cursor_open(e->t->mdb, e->t->store->dbi[DB_VERSIONS], &cursor) != MDB_SUCCESS)
        return;
    struct slice same = slice_head(key_slice(&prefix), prefix.len - 1); /* but for the row's kind */
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    for (; rc == MDB_SUCCESS && slice_starts(store_slice(k), same);
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        struct key at = {.len = 0};
        struct version_row row;
        key_bytes(&at, store_slice(k));
        if (!version_get(e->t, &at, &row) || !row.flag || row.text.len < CREATED_BYTES ||
            !version_is_later(&row.at, &e->floor))
            continue;
        if (version_is_later(&row.at, &l->latest)) {
            l->latest = row.at;
            l->created_us = read_be(row.text.ptr, CREATED_BYTES);
        }
        if (row.text.len == CREATED_BYTES) {
            l->everything = true;
        } else {
            pack_str(&l->tags, slice_from(row.text, CREATED_BYTES));
            l->tag_count++;
        }
    }
    mdb_cursor_close(cursor);
}

/* Makes the list what the versions say. added: what has just been added, and when; or NULL. */
static int settle(struct entry *e, const struct suppression_entry *added, const struct version *v,
                  struct err *err)
{
    struct buf tags = {0};
    struct live live;
    int rc = 0;

    read_live(e, &live);
    if (!live.everything && live.tag_count == 0) {
        if (e->is_there)
            rc = suppression_delete(e->t, e->domain, e->list, e->address, err) < 0 ? -1 : 0;
        buf_fini(&live.tags);
        return rc;
    }
    if (added == NULL && !e->is_there) { /* it went by a way that knows no versions */
        buf_fini(&live.tags);
        return 0;
    }
    bool is_latest = added != NULL && !version_is_later(&live.latest, v);
    struct suppression_entry next = is_latest || !e->is_there ? *added : e->now;
    next.created_us = live.created_us;
    next.tags = slice_none();
    if (!live.everything) {
        pack_array(&tags, live.tag_count);
        buf_add_slice(&tags, buf_slice(&live.tags));
        next.tags = buf_slice(&tags);
    }
    rc = suppression_put(e->t, e->domain, e->list, &next, err);
    buf_fini(&live.tags);
    buf_fini(&tags);
    return rc;
}

/* -------- changes -------- */

/* 1 when it is later than what is known of the element. */
static int raise_element(const struct entry *e, struct slice tag, const struct version *v,
                         bool added, uint64_t created_us, struct err *err)
{
    struct key k = element_key(e, tag);
    struct version_row row;

    if (!version_is_later(v, &e->floor) ||
        (version_get(e->t, &k, &row) && !version_is_later(v, &row.at)))
        return 0;
    return put_element(e, tag, v, added, created_us, err) == 0 ? 1 : -1;
}

int list_add(struct store_txn *t, struct slice domain, enum suppression list,
             const struct suppression_entry *entry, const struct version *v, struct err *err)
{
    struct arena arena = {0};
    struct entry e = {
        .t = t, .domain = domain, .address = entry->address, .list = list, .arena = &arena};
    struct unpack u = unpack_over(entry->tags);
    bool is_tagged = list == SUPPRESS_UNSUBSCRIBE && entry->tags.len > 0;
    uint32_t count = is_tagged ? unpack_array(&u) : 1;
    int rc = begin(&e, err), raised = 0;

    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        int got = raise_element(&e, is_tagged ? unpack_str(&u) : slice_none(), v, true,
                                entry->created_us, err);
        rc = got < 0 ? -1 : 0;
        raised += got > 0;
    }
    if (rc == 0 && raised > 0)
        rc = settle(&e, entry, v, err);
    arena_fini(&arena);
    return rc != 0 ? -1 : raised > 0;
}

int list_remove(struct store_txn *t, struct slice domain, enum suppression list,
                struct slice address, struct slice tag, const struct version *v, struct err *err)
{
    struct arena arena = {0};
    struct entry e = {.t = t, .domain = domain, .address = address, .list = list, .arena = &arena};
    int rc = begin(&e, err);
    bool was_there = e.is_there && (tag.len == 0 ||
                                    (e.now.tags.len > 0 && suppression_concerns(&e.now, &tag, 1)));

    if (rc == 0 && tag.len > 0) {
        rc = raise_element(&e, tag, v, false, 0, err);
    } else if (rc == 0) {
        struct key k = address_key(&e, ROW_REMOVED);
        rc = version_raise(t, &k, v, false, err);
        if (rc > 0 && version_is_later(v, &e.floor))
            e.floor = *v;
    }
    if (rc > 0)
        rc = settle(&e, NULL, v, err);
    arena_fini(&arena);
    return rc < 0 ? -1 : was_there;
}

int list_clear_note(struct store_txn *t, struct slice domain, enum suppression list,
                    const struct version *v, struct err *err)
{
    uint32_t number = store_domain_intern(t, domain, err);

    if (number == 0)
        return -1;
    struct key k = version_key(number, (unsigned)list);
    return version_raise(t, &k, v, false, err);
}

struct gathered {
    struct arena *arena;
    struct slice addresses[CLEAR_AT_ONCE];
    size_t count;
};

static bool gather(void *arg, const struct suppression_entry *entry)
{
    struct gathered *g = arg;

    g->addresses[g->count++] = arena_dup(g->arena, entry->address);
    return g->count < CLEAR_AT_ONCE;
}

int list_clear(struct store_txn *t, struct slice domain, enum suppression list,
               const struct version *v, struct err *err)
{
    struct arena arena = {0};
    struct suppression_walk walk = {.backwards = false};
    int rc = list_clear_note(t, domain, list, v, err) < 0 ? -1 : 0;
    bool more = rc == 0;

    while (more) {
        struct gathered g = {.arena = &arena};
        suppression_each(t, domain, list, &walk, gather, &g);
        for (size_t i = 0; rc == 0 && i < g.count; i++) {
            struct entry e = {
                .t = t, .domain = domain, .address = g.addresses[i], .list = list, .arena = &arena};
            rc = begin(&e, err) == 0 ? settle(&e, NULL, v, err) : -1;
        }
        more = rc == 0 && g.count == CLEAR_AT_ONCE;
        if (more)
            walk.from = g.addresses[g.count - 1];
    }
    arena_fini(&arena);
    return rc;
}

/* -------- changes of our own -------- */

int list_add_here(struct store_txn *t, struct slice domain, enum suppression list,
                  const struct suppression_entry *entry, struct err *err)
{
    struct buf entries = {0};
    struct version v;

    if (!changes_are_told(t))
        return list == SUPPRESS_UNSUBSCRIBE ? unsubscribe_put(t, domain, entry, err)
                                            : suppression_put(t, domain, list, entry, err);
    if (change_stamp(t, &v, err) != 0 || list_add(t, domain, list, entry, &v, err) < 0)
        return -1;
    pack_array(&entries, 1);
    suppression_entry_pack(&entries, entry);
    int rc = change_tell(t,
                         &(struct record_change){.what = CHANGE_LISTED,
                                                 .stamp_us = v.stamp_us,
                                                 .domain = domain,
                                                 .list = (uint32_t)list,
                                                 .entries = buf_slice(&entries)},
                         err);
    buf_fini(&entries);
    return rc;
}

int list_remove_here(struct store_txn *t, struct slice domain, enum suppression list,
                     struct slice address, struct slice tag, struct err *err)
{
    struct version v;

    if (!changes_are_told(t))
        return tag.len > 0 ? unsubscribe_delete_tag(t, domain, address, tag, err)
                           : suppression_delete(t, domain, list, address, err);
    if (change_stamp(t, &v, err) != 0)
        return -1;
    int was_there = list_remove(t, domain, list, address, tag, &v, err);
    if (was_there < 0 || change_tell(t,
                                     &(struct record_change){.what = CHANGE_UNLISTED,
                                                             .stamp_us = v.stamp_us,
                                                             .domain = domain,
                                                             .list = (uint32_t)list,
                                                             .address = address,
                                                             .tag = tag},
                                     err) != 0)
        return -1;
    return was_there;
}

int list_clear_here(struct store_txn *t, struct slice domain, enum suppression list, unsigned most,
                    uint64_t at_us, struct err *err)
{
    struct version v;

    if (changes_are_told(t) &&
        (change_stamp(t, &v, err) != 0 || list_clear_note(t, domain, list, &v, err) < 0 ||
         change_tell(t,
                     &(struct record_change){.what = CHANGE_UNLISTED,
                                             .stamp_us = v.stamp_us,
                                             .domain = domain,
                                             .list = (uint32_t)list},
                     err) != 0))
        return -1;
    return suppression_clear(t, domain, list, most, at_us, err);
}

/* An event is told to every machine by SES, at about the same time: its own time is its version. */
int list_add_by_event(struct store_txn *t, struct slice domain, enum suppression list,
                      const struct suppression_entry *entry, uint64_t event_us, struct err *err)
{
    const struct version v = {.stamp_us = event_us};

    if (!changes_are_told(t))
        return suppression_put(t, domain, list, entry, err);
    return list_add(t, domain, list, entry, &v, err) < 0 ? -1 : 0;
}
