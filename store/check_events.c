/*
 * Rows of indexes that belong to an event are looked up one by one. That there are no others is told
 * by their number; only where it is another are they looked at, for the names of those that point to
 * nothing.
 *
 * Lists (store/event_lists.h) cannot be looked up for each of ten million events. So for each list
 * two sums are made of the same things, one of the entries that stand in it (or among the recent
 * ones, to go there) and one of the entries that its events should have there. Where they differ,
 * both are gathered and compared, a list or a few at a time: memory stays at some MB.
 *
 * What lists and ids name may have expired: before the time up to which events have been taken out
 * they are not compared.
 */
#include "store/check_events.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/digest.h"
#include "base/hash.h"
#include "base/mem.h"
#include "mail/date.h"
#include "store/counters.h"
#include "store/event_lists.h"
#include "store/event_rows.h"
#include "store/events.h"

enum {
    LISTED_DBS = 2,
    GATHERED_MOST = 8, /* lists at a time */
    PROGRESS_ROWS = 10000,
    NAMED_MOST = 100, /* of what is wrong in the same way; the others are counted */
    WHO_BYTES = 96,
    INDEX_DBS = 2,
};

static const uint64_t day_us = UINT64_C(86400000000);

/* Of a set, whatever its order. */
struct sums {
    uint64_t count, a, b;
};

struct list_sums {
    struct sums there, wanted;
};

struct domain {
    struct slice name; /* in the map */
    struct list_sums lists[LISTED_DBS][LIST_BUCKETS];
};

/* Lists whose entries are gathered. */
struct gathered {
    uint32_t domain;
    size_t db; /* of listed_dbs */
    uint8_t bucket;
    struct buf there, wanted; /* entries */
};

/* The groups of one call of event_put_accepted(), whose addresses stand in rows of their own. */
struct call {
    bool open;
    uint32_t domain, next_ordinal;
    uint8_t place[PLACE_BYTES];
    struct sums there, wanted;
};

struct day {
    uint32_t domain;
    uint64_t start_us;
    uint64_t count[COUNT_KINDS];
};

struct looking {
    struct check *c;
    struct store_txn *t;
    struct err *err;
    struct domain *domains; /* by number, from 1 on */
    uint32_t domain_count;
    uint64_t begin_us, ids_begin_us;
    uint64_t rows[DB_COUNT]; /* of each index: found for events */
    uint64_t ids;            /* found for events of begin_us or later */
    struct call call;
    struct day day;
    struct arena arena;
    uint64_t done, of;
    struct gathered *gathered; /* NULL: everything is checked; else only this is filled */
    size_t gathered_count;
};

static const struct {
    enum store_db db;
    const char *name;
} listed_dbs[LISTED_DBS] = {{DB_BY_RECIPIENT, "recipient"}, {DB_BY_MESSAGE, "message id"}},
  index_dbs[INDEX_DBS] = {{DB_BY_TYPE, "kind"}, {DB_BY_TAG, "tag"}};

/* -------- words -------- */

/* "event ID of DOMAIN at TIME" */
static const char *who(const struct looking *l, uint32_t domain, const uint8_t *place,
                       char words[static WHO_BYTES + 256])
{
    struct buf id = {0}, time = {0};
    bool known = domain > 0 && domain <= l->domain_count;
    struct slice name = known ? l->domains[domain].name : SLICE("an unknown domain");

    event_id_text(&id, place + 8);
    date_put_iso8601(&time, read_be(place, 8));
    (void)snprintf(words, WHO_BYTES + 256, "event %s of %.*s at %s", buf_cstr(&id),
                   SLICE_ARGS(slice_head(name, 255)), buf_cstr(&time));
    buf_fini(&id);
    buf_fini(&time);
    return words;
}

#define WHO(l, domain, place) who((l), (domain), (place), (char[WHO_BYTES + 256]){0})

static void progress(struct looking *l)
{
    if (++l->done % PROGRESS_ROWS == 0 && l->c->progress != NULL)
        l->c->progress(l->c->arg, "rows of events", l->done, l->of < l->done ? l->done : l->of);
}

/* -------- sums -------- */

static void sums_add(struct sums *s, const uint8_t *bytes, size_t len)
{
    uint64_t a = len, b = ~(uint64_t)len;

    for (size_t at = 0; at < len; at += 8) {
        uint64_t word = read_be(bytes + at, len - at < 8 ? len - at : 8);
        a = hash_mix(a + word + UINT64_C(0x9e3779b97f4a7c15));
        b = hash_mix(b ^ word) + word;
    }
    s->count++;
    s->a += a;
    s->b += b;
}

static bool sums_differ(const struct sums *x, const struct sums *y)
{
    return x->count != y->count || x->a != y->a || x->b != y->b;
}

/* -------- lists -------- */

static struct gathered *gathered_of(struct looking *l, uint32_t domain, size_t db, uint8_t bucket)
{
    for (size_t i = 0; i < l->gathered_count; i++)
        if (l->gathered[i].domain == domain && l->gathered[i].db == db &&
            l->gathered[i].bucket == bucket)
            return &l->gathered[i];
    return NULL;
}

/* An event should stand in this list. */
static void want_listed(struct looking *l, uint32_t domain, size_t db, struct slice text,
                        const uint8_t *place)
{
    uint8_t entry[LIST_ENTRY_BYTES];

    if (text.len == 0 || read_be(place, 8) < l->begin_us)
        return;
    event_list_entry(entry, text, place);
    uint8_t bucket = event_list_bucket(entry);
    if (l->gathered == NULL) {
        sums_add(&l->domains[domain].lists[db][bucket].wanted, entry, sizeof entry);
        return;
    }
    struct gathered *g = gathered_of(l, domain, db, bucket);
    if (g != NULL)
        buf_add(&g->wanted, entry, sizeof entry);
}

static void take_list_row(struct looking *l, size_t db, const struct event_list_row *row)
{
    if (row->domain == 0 || row->domain > l->domain_count || (l->gathered == NULL && !row->whole)) {
        char where[32];
        (void)snprintf(where, sizeof where, "bucket %u", row->bucket);
        check_found(l->c, "a row of the list by %s of domain %" PRIu32 ", %s, is damaged",
                    listed_dbs[db].name, row->domain, row->is_recent ? "of recent entries" : where);
        if (row->domain == 0 || row->domain > l->domain_count)
            return;
    }
    for (size_t at = 0; at < row->entries.len; at += LIST_ENTRY_BYTES) {
        const uint8_t *entry = row->entries.ptr + at;
        if (read_be(entry + LIST_HASH_BYTES, 8) < l->begin_us)
            continue;
        uint8_t bucket = row->is_recent ? event_list_bucket(entry) : row->bucket;
        if (l->gathered == NULL) {
            sums_add(&l->domains[row->domain].lists[db][bucket].there, entry, LIST_ENTRY_BYTES);
            continue;
        }
        struct gathered *g = gathered_of(l, row->domain, db, bucket);
        if (g != NULL)
            buf_add(&g->there, entry, LIST_ENTRY_BYTES);
    }
}

static int by_bytes(const void *a, const void *b)
{
    return memcmp(a, b, LIST_ENTRY_BYTES);
}

static void sort_entries(struct buf *entries)
{
    if (entries->len > 0)
        qsort(entries->ptr, entries->len / LIST_ENTRY_BYTES, LIST_ENTRY_BYTES, by_bytes);
}

static void compare_gathered(struct looking *l, struct gathered *g)
{
    const char *name = listed_dbs[g->db].name;
    uint64_t wrong = 0;
    size_t w = 0, t = 0;

    sort_entries(&g->there);
    sort_entries(&g->wanted);
    for (; w < g->wanted.len || t < g->there.len;) {
        const uint8_t *wanted = slice_from(buf_slice(&g->wanted), w).ptr,
                      *there = slice_from(buf_slice(&g->there), t).ptr;
        int order = w == g->wanted.len ? 1 : t == g->there.len ? -1 : by_bytes(wanted, there);
        bool twice = order > 0 && t > 0 && by_bytes(there - LIST_ENTRY_BYTES, there) == 0;
        w += order <= 0 ? LIST_ENTRY_BYTES : 0;
        t += order >= 0 ? LIST_ENTRY_BYTES : 0;
        if (order == 0 || wrong++ >= NAMED_MOST)
            continue;
        const uint8_t *place = (order < 0 ? wanted : there) + LIST_HASH_BYTES;
        check_found(l->c, "%s %s", WHO(l, g->domain, place),
                    order < 0 ? (g->db == 0 ? "is not in the list by recipient"
                                            : "is not in the list by message id")
                    : twice   ? (g->db == 0 ? "is twice in the list by recipient"
                                            : "is twice in the list by message id")
                    : g->db == 0
                        ? "is not there, but in the list by recipient (or under another one)"
                        : "is not there, but in the list by message id (or under another one)");
    }
    if (wrong > NAMED_MOST)
        check_found(l->c, "%" PRIu64 " more entries of a list by %s", wrong - NAMED_MOST, name);
    buf_fini(&g->there);
    buf_fini(&g->wanted);
}

/* -------- addresses of groups -------- */

static void call_close(struct looking *l)
{
    struct call *call = &l->call;

    if (call->open && sums_differ(&call->there, &call->wanted))
        check_found(l->c,
                    "%s: %" PRIu64 " `accepted` events, %" PRIu64
                    " in the rows of their addresses, or others",
                    WHO(l, call->domain, call->place), call->wanted.count, call->there.count);
    *call = (struct call){0};
}

/* The rows of addresses that stand at the place of a call's first group. */
static void call_open(struct looking *l, uint32_t domain, const uint8_t *place)
{
    struct call *call = &l->call;

    call_close(l);
    call->open = true;
    call->domain = domain;
    memcpy(call->place, place, PLACE_BYTES);
    for (uint8_t i = 0; i <= BUCKETS; i++) {
        uint8_t bucket = i < BUCKETS ? i : BUCKET_OF_ALL;
        struct slice row;
        struct key k;

        key_bucket(&k, domain, bucket);
        key_bytes(&k, slice_of(place, PLACE_BYTES));
        if (!store_get(l->t, DB_BY_RECIPIENT, key_slice(&k), &row))
            continue;
        l->rows[DB_BY_RECIPIENT]++;
        for (size_t at = 0; at + BUCKET_ENTRY_BYTES <= row.len; at += BUCKET_ENTRY_BYTES)
            if (bucket == BUCKET_OF_ALL || bucket_of((uint32_t)read_be(row.ptr + at, 4)) == bucket)
                sums_add(&call->there, row.ptr + at, BUCKET_ENTRY_BYTES);
    }
}

static uint32_t ordinal_of(const uint8_t *place)
{
    return (uint32_t)read_be(place + PLACE_BYTES - EVENT_ORDINAL_BYTES, EVENT_ORDINAL_BYTES);
}

static void look_at_group(struct looking *l, uint32_t domain, const uint8_t *place,
                          const struct group *g)
{
    struct call *call = &l->call;
    struct slice rest = g->members;

    if (l->gathered == NULL && (g->flags & GROUP_HAS_BUCKETS) != 0) {
        call_open(l, domain, place);
    } else if (l->gathered == NULL &&
               (!call->open || call->domain != domain || call->next_ordinal != ordinal_of(place) ||
                memcmp(call->place, place, PLACE_BYTES - EVENT_ORDINAL_BYTES) != 0)) {
        call_close(l); /* what it followed may have expired */
        if (read_be(place, 8) >= l->begin_us)
            check_found(l->c, "%s: no rows of addresses name it and its group",
                        WHO(l, domain, place));
    }
    for (uint32_t i = 0; i < g->count; i++) {
        struct slice recipient, message_id;
        struct key entry = {.len = 0};
        uint8_t own[PLACE_BYTES];

        group_next(g, &rest, &recipient, &message_id);
        place_bytes_behind(own, place, i);
        want_listed(l, domain, 1, message_id, own);
        key_u32(&entry, address_hash(recipient));
        key_be(&entry, ordinal_of(own), EVENT_ORDINAL_BYTES);
        if (call->open)
            sums_add(&call->wanted, entry.at, entry.len);
    }
    call->next_ordinal = ordinal_of(place) + g->count;
}

/* -------- counters -------- */

static const struct {
    enum count_kind kind;
    const char *name;
} recounted[] = {
    {COUNT_ACCEPTED, "accepted"},
    {COUNT_DELIVERED, "delivered"},
    {COUNT_FAILED_TEMPORARY, "temporarily failed"},
    {COUNT_FAILED_PERMANENT, "permanently failed"},
    {COUNT_OPENED, "opened"},
    {COUNT_CLICKED, "clicked"},
    {COUNT_UNSUBSCRIBED, "unsubscribed"},
    {COUNT_COMPLAINED, "complained"},
    {COUNT_STORED, "stored"},
    {COUNT_REJECTED, "rejected"},
};

static enum count_kind kind_of(const struct event *e)
{
    static const uint8_t kinds[EVENT_TYPE_END] = {
        [EVENT_ACCEPTED] = COUNT_ACCEPTED,       [EVENT_DELIVERED] = COUNT_DELIVERED,
        [EVENT_FAILED] = COUNT_FAILED_TEMPORARY, [EVENT_OPENED] = COUNT_OPENED,
        [EVENT_CLICKED] = COUNT_CLICKED,         [EVENT_UNSUBSCRIBED] = COUNT_UNSUBSCRIBED,
        [EVENT_COMPLAINED] = COUNT_COMPLAINED,   [EVENT_STORED] = COUNT_STORED,
        [EVENT_REJECTED] = COUNT_REJECTED,
    };

    return event_kind(e) == EVENT_KIND_PERMANENT ? COUNT_FAILED_PERMANENT
                                                 : (enum count_kind)kinds[e->type];
}

/* Counters go when they are old, a day whole: one that has none is not spoken of. */
static int day_close(struct looking *l)
{
    struct day *day = &l->day;
    struct counter_step *steps = NULL;
    uint64_t any = 0;
    int rc = 0;

    if (day->domain != 0 && day->start_us >= l->begin_us) {
        const struct counter_query q = {.scope = COUNTER_DOMAIN,
                                        .domain = l->domains[day->domain].name,
                                        .from_us = day->start_us,
                                        .until_us = day->start_us + day_us - 1,
                                        .resolution = COUNTER_DAY};
        rc = counters_read(l->t, &q, &steps, l->err);
    }
    for (size_t i = 0; rc == 1 && i < COUNT_KINDS; i++)
        any += steps[0].count[i];
    for (size_t i = 0; any > 0 && i < sizeof recounted / sizeof recounted[0]; i++) {
        enum count_kind kind = recounted[i].kind;
        struct buf date = {0};
        if (steps[0].count[kind] == day->count[kind])
            continue;
        date_put_iso8601(&date, day->start_us);
        check_found(l->c, "%.*s on %.10s: %" PRIu64 " %s by the counters, %" PRIu64 " events",
                    SLICE_ARGS(l->domains[day->domain].name), buf_cstr(&date), steps[0].count[kind],
                    recounted[i].name, day->count[kind]);
        buf_fini(&date);
    }
    free(steps);
    *day = (struct day){0};
    return rc < 0 ? -1 : 0;
}

static int count_event(struct looking *l, uint32_t domain, const struct event *e, uint64_t count)
{
    uint64_t start_us = e->timestamp_us / day_us * day_us;

    if ((l->day.domain != domain || l->day.start_us != start_us) && day_close(l) != 0)
        return -1;
    l->day.domain = domain;
    l->day.start_us = start_us;
    l->day.count[kind_of(e)] += count;
    return 0;
}

/* -------- an event -------- */

struct indexed {
    struct looking *l;
    uint32_t domain;
    const uint8_t *place;
};

static int look_for_row(struct store_txn *t, enum store_db db, const struct key *k,
                        struct slice value, void *arg)
{
    const struct indexed *i = arg;
    struct slice there;
    bool found = store_get(t, db, key_slice(k), &there);

    i->l->rows[db] += found;
    if (!found || !slice_eq(there, value))
        check_found(i->l->c, "%s %s in the index by %s", WHO(i->l, i->domain, i->place),
                    found ? "is damaged" : "is not",
                    db == DB_BY_TYPE  ? index_dbs[0].name
                    : db == DB_BY_TAG ? index_dbs[1].name
                                      : listed_dbs[1].name);
    return 0;
}

/* Tags that differ in case only share a row. The event's list may be that of many: it stays. */
static void drop_repeated_tags(struct event *e, struct arena *a)
{
    struct slice *tags = arena_array(a, e->tag_count, sizeof *tags);
    size_t kept = 0;

    for (size_t i = 0; i < e->tag_count; i++) {
        bool repeated = false;
        for (size_t n = 0; n < kept; n++)
            repeated = repeated || slice_eq_nocase(tags[n], e->tags[i]);
        if (!repeated)
            tags[kept++] = e->tags[i];
    }
    e->tags = tags;
    e->tag_count = kept;
    e->shared = NULL;
}

static void look_for_id(struct looking *l, uint32_t domain, const struct event *e,
                        const uint8_t *place)
{
    struct slice at;
    bool found = store_get(l->t, DB_EVENT_IDS, slice_of(e->id, EVENT_ID_BYTES), &at) &&
                 at.len == 8 && read_be(at.ptr, 8) == e->timestamp_us;

    l->ids += found && e->timestamp_us >= l->begin_us;
    if (!found && e->ses_us >= l->ids_begin_us)
        check_found(l->c, "%s is not among the ids: it could be stored again",
                    WHO(l, domain, place));
}

static int look_at_event(struct looking *l, uint32_t domain, const uint8_t *place, struct slice row)
{
    struct event e = {.timestamp_us = read_be(place, 8)};
    struct indexed i = {l, domain, place};
    struct key counted = {.len = 0};
    struct group g;

    arena_reset(&l->arena);
    memcpy(e.id, place + 8, EVENT_ID_BYTES);
    bool is_group = group_read(row, &g);
    if (!event_row_read(l->t, domain, row, 0, NULL, &l->arena, &e) || e.type >= EVENT_TYPE_END ||
        (is_group && g.count == 0)) {
        if (l->gathered == NULL)
            check_found(l->c, "%s cannot be read", WHO(l, domain, place));
        return 0;
    }
    if (is_group) {
        look_at_group(l, domain, place, &g);
    } else {
        want_listed(l, domain, 0, e.recipient, place);
        want_listed(l, domain, 1, e.message_id, place);
    }
    if (l->gathered != NULL)
        return 0;
    l->c->events += is_group ? g.count : 1;
    drop_repeated_tags(&e, &l->arena);
    key_be(&counted, is_group ? g.count : 0, is_group ? COUNT_BYTES : 0);
    (void)event_index_rows(l->t, domain, &e, is_group && (g.flags & GROUP_OWN_IDS) == 0,
                           key_slice(&counted), look_for_row, &i);
    if (!is_group)
        look_for_id(l, domain, &e, place);
    return count_event(l, domain, &e, is_group ? g.count : 1);
}

/* -------- rows that belong to no event -------- */

struct expected {
    enum store_db db;
    struct slice key;
    bool found;
};

static int compare_row(struct store_txn *t, enum store_db db, const struct key *k,
                       struct slice value, void *arg)
{
    struct expected *e = arg;

    (void)t, (void)value;
    e->found = e->found || (db == e->db && slice_eq(key_slice(k), e->key));
    return 0;
}

/* Does the event at the end of this key, of the domain at its start, have such a row? */
static bool is_expected(struct looking *l, enum store_db db, struct slice key)
{
    struct expected expected = {.db = db, .key = key};
    struct event e = {0};
    struct group g;
    struct slice row;
    struct key k;

    if (key.len < 4 + PLACE_BYTES)
        return false;
    uint32_t domain = (uint32_t)read_be(key.ptr, 4);
    const uint8_t *place = key.ptr + key.len - PLACE_BYTES;
    bool is_address = domain >> 31 != 0;
    key_domain(&k, domain & ~(UINT32_C(1) << 31));
    key_bytes(&k, slice_of(place, PLACE_BYTES));
    if (!store_get(l->t, DB_EVENTS, key_slice(&k), &row))
        return false;
    bool is_group = group_read(row, &g);
    if (is_address)
        return is_group && (g.flags & GROUP_HAS_BUCKETS) != 0;
    arena_reset(&l->arena);
    e.timestamp_us = read_be(place, 8);
    memcpy(e.id, place + 8, EVENT_ID_BYTES);
    if (!event_row_read(l->t, domain, row, 0, NULL, &l->arena, &e))
        return true; /* said already */
    (void)event_index_rows(l->t, domain, &e, is_group && (g.flags & GROUP_OWN_IDS) == 0,
                           slice_none(), compare_row, &expected);
    return expected.found;
}

static void look_at_stray(struct looking *l, enum store_db db, const char *name, struct slice key)
{
    if (is_expected(l, db, key))
        return;
    if (key.len < 4 + PLACE_BYTES)
        check_found(l->c, "a row of the index by %s is damaged", name);
    else
        check_found(l->c, "%s is not there, but in the index by %s (or in another way)",
                    WHO(l, (uint32_t)read_be(key.ptr, 4) & ~(UINT32_C(1) << 31),
                        key.ptr + key.len - PLACE_BYTES),
                    name);
}

/* -------- walks -------- */

typedef int row_visitor(struct looking *l, size_t which, struct slice key, struct slice value);

static int each_row(struct looking *l, enum store_db db, size_t which, row_visitor *visit)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    int visited = 0;
    int rc = mdb_cursor_open(l->t->mdb, l->t->store->dbi[db], &cursor);

    if (rc != MDB_SUCCESS)
        return store_fail(l->err, rc, "opening a cursor");
    for (rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST); rc == MDB_SUCCESS && visited == 0;
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        visited = visit(l, which, store_slice(k), store_slice(v));
        progress(l);
    }
    mdb_cursor_close(cursor);
    if (visited != 0 || rc == MDB_SUCCESS || rc == MDB_NOTFOUND)
        return visited;
    return store_fail(l->err, rc, "reading events");
}

static int rows_of(struct looking *l, enum store_db db, uint64_t *count)
{
    MDB_stat stat;
    int rc = mdb_stat(l->t->mdb, l->t->store->dbi[db], &stat);

    *count = rc == MDB_SUCCESS ? stat.ms_entries : 0;
    return rc == MDB_SUCCESS ? 0 : store_fail(l->err, rc, "counting events");
}

static int visit_domain(struct looking *l, size_t which, struct slice key, struct slice value)
{
    uint64_t number = value.len == 4 ? read_be(value.ptr, 4) : 0;

    (void)which;
    if (number == 0 || number > l->domain_count)
        check_found(l->c, "%.*s has no number of its own", SLICE_ARGS(slice_head(key, 255)));
    else
        l->domains[number].name = key;
    return 0;
}

static int visit_event(struct looking *l, size_t which, struct slice key, struct slice value)
{
    uint64_t domain = key.len == 4 + PLACE_BYTES ? read_be(key.ptr, 4) : 0;

    (void)which;
    if (domain > 0 && domain <= l->domain_count)
        return look_at_event(l, (uint32_t)domain, key.ptr + 4, value);
    if (l->gathered == NULL)
        check_found(l->c, "a row of events is of no domain that there is");
    return 0;
}

/* Of the two databases that hold lists, and beside them rows of groups. */
static int visit_listed(struct looking *l, size_t which, struct slice key, struct slice value)
{
    struct event_list_row row;

    if (event_list_row_read(key, value, &row))
        take_list_row(l, which, &row);
    return 0;
}

static int count_unlisted(struct looking *l, size_t which, struct slice key, struct slice value)
{
    struct event_list_row row;

    (void)which;
    l->rows[listed_dbs[which].db] -= !event_list_row_read(key, value, &row);
    return visit_listed(l, which, key, value);
}

static int visit_unlisted(struct looking *l, size_t which, struct slice key, struct slice value)
{
    struct event_list_row row;

    if (!event_list_row_read(key, value, &row))
        look_at_stray(l, listed_dbs[which].db,
                      which == 0 ? "recipient of `accepted` events" : "message id", key);
    return 0;
}

static int visit_indexed(struct looking *l, size_t which, struct slice key, struct slice value)
{
    (void)value;
    look_at_stray(l, index_dbs[which].db, index_dbs[which].name, key);
    return 0;
}

static int count_id(struct looking *l, size_t which, struct slice key, struct slice value)
{
    (void)which, (void)key;
    l->ids -= value.len != 8 || read_be(value.ptr, 8) >= l->begin_us;
    return 0;
}

static int visit_id(struct looking *l, size_t which, struct slice key, struct slice value)
{
    uint64_t us = value.len == 8 ? read_be(value.ptr, 8) : UINT64_MAX;
    uint8_t place[PLACE_BYTES];
    struct slice row;
    struct key k = {.len = 0};

    (void)which;
    if (us < l->begin_us || key.len != EVENT_ID_BYTES)
        return 0;
    key_u64(&k, us);
    key_bytes(&k, key);
    memcpy(place, k.at, PLACE_BYTES);
    for (uint32_t domain = 1; domain <= l->domain_count; domain++) {
        key_domain(&k, domain);
        key_bytes(&k, slice_of(place, PLACE_BYTES));
        if (store_get(l->t, DB_EVENTS, key_slice(&k), &row))
            return 0;
    }
    check_found(l->c, "%s is not there, but among the ids: it would not be stored any more",
                WHO(l, 0, place));
    return 0;
}

/* -------- in turn -------- */

static int gather_and_compare(struct looking *l, struct gathered *list, size_t count)
{
    int rc = 0;

    l->gathered = list;
    l->gathered_count = count;
    for (size_t db = 0; db < LISTED_DBS && rc == 0; db++)
        rc = each_row(l, listed_dbs[db].db, db, visit_listed);
    if (rc == 0)
        rc = each_row(l, DB_EVENTS, 0, visit_event);
    for (size_t i = 0; i < count; i++)
        compare_gathered(l, &list[i]);
    l->gathered = NULL;
    l->gathered_count = 0;
    return rc;
}

/* The lists whose sums differ: the first few by name, of the others how many. */
static int compare_lists(struct looking *l)
{
    struct gathered list[GATHERED_MOST] = {{0}};
    uint64_t differ = 0;

    for (uint32_t domain = 1; domain <= l->domain_count; domain++)
        for (size_t db = 0; db < LISTED_DBS; db++)
            for (unsigned bucket = 0; bucket < LIST_BUCKETS; bucket++) {
                const struct list_sums *s = &l->domains[domain].lists[db][bucket];
                if (!sums_differ(&s->there, &s->wanted))
                    continue;
                if (differ++ < GATHERED_MOST)
                    list[differ - 1] =
                        (struct gathered){.domain = domain, .db = db, .bucket = (uint8_t)bucket};
                else
                    check_found(l->c,
                                "%.*s: list %u by %s has %" PRIu64 " entries of %" PRIu64
                                " events, or others",
                                SLICE_ARGS(slice_head(l->domains[domain].name, 255)), bucket,
                                listed_dbs[db].name, s->there.count, s->wanted.count);
            }
    return differ == 0 ? 0
                       : gather_and_compare(
                             l, list, (size_t)(differ < GATHERED_MOST ? differ : GATHERED_MOST));
}

static int look_at_all(struct looking *l)
{
    uint64_t there;

    if (each_row(l, DB_DOMAINS, 0, visit_domain) != 0 ||
        each_row(l, DB_EVENTS, 0, visit_event) != 0 || day_close(l) != 0)
        return -1;
    call_close(l);
    for (size_t i = 0; i < INDEX_DBS; i++) {
        if (rows_of(l, index_dbs[i].db, &there) != 0 ||
            (there != l->rows[index_dbs[i].db] &&
             each_row(l, index_dbs[i].db, i, visit_indexed) != 0))
            return -1;
    }
    for (size_t i = 0; i < LISTED_DBS; i++) {
        if (each_row(l, listed_dbs[i].db, i, count_unlisted) != 0 ||
            (l->rows[listed_dbs[i].db] != 0 &&
             each_row(l, listed_dbs[i].db, i, visit_unlisted) != 0))
            return -1;
    }
    if (each_row(l, DB_EVENT_IDS, 0, count_id) != 0 ||
        (l->ids != 0 && each_row(l, DB_EVENT_IDS, 0, visit_id) != 0))
        return -1;
    return compare_lists(l);
}

int check_events(struct store_txn *t, struct check *c, struct err *err)
{
    static const enum store_db all[] = {DB_EVENTS, DB_BY_RECIPIENT, DB_BY_MESSAGE, DB_EVENT_IDS};
    struct looking l = {.c = c, .t = t, .err = err};
    uint64_t domains, rows, oldest_us = event_oldest_us(t);
    int rc = rows_of(&l, DB_DOMAINS, &domains);

    event_models_forget(t->store); /* what lies in the store is asked */
    for (size_t i = 0; i < sizeof all / sizeof all[0] && rc == 0; i++) {
        rc = rows_of(&l, all[i], &rows);
        l.of += rows;
    }
    if (rc != 0)
        return -1;
    l.domain_count = (uint32_t)domains;
    l.domains = mem_zero(domains + 1, sizeof *l.domains);
    l.ids_begin_us = event_ids_begin(t);
    /* Older stores did not note what has expired: then it is what is older than all there is. */
    l.begin_us = events_begin_us(t);
    if (l.begin_us < oldest_us)
        l.begin_us = oldest_us;
    if (l.begin_us == 0)
        l.begin_us = UINT64_MAX; /* no event was ever there, or all have expired */
    rc = look_at_all(&l);
    free(l.domains);
    arena_fini(&l.arena);
    return rc;
}
