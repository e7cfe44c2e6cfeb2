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
 */
#include "store/events.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "mail/filter.h"
#include "store/internal.h"
#include "store/key.h"

enum {
    PLACE_BYTES = 8 + EVENT_ID_BYTES,
    SES_TIME_BYTES = 8,
    RUNS_MAX = EVENT_TYPE_END - 1,
    US = 1000000,
};

/* -------- keys -------- */

static void key_place(struct key *k, uint64_t timestamp_us, const uint8_t id[EVENT_ID_BYTES])
{
    key_u64(k, timestamp_us);
    key_bytes(k, slice_of(id, EVENT_ID_BYTES));
}

static void key_start(struct key *k, uint32_t domain)
{
    k->len = 0;
    key_u32(k, domain);
}

/* Calls put for every index row of e but the events table's own. Both storing and expiring go
 * through here, so that no row is forgotten. */
typedef int row_action(struct store_txn *t, enum store_db db, const struct key *k, struct err *err);

static int index_rows(struct store_txn *t, uint32_t domain, const struct event *e, row_action *act,
                      struct err *err)
{
    struct key k;

    key_start(&k, domain);
    key_u8(&k, (uint8_t)e->type);
    key_place(&k, e->timestamp_us, e->id);
    if (act(t, DB_BY_TYPE, &k, err) != 0)
        return -1;
    for (size_t i = 0; i < e->tag_count; i++) {
        key_start(&k, domain);
        key_hash_nocase(&k, e->tags[i]);
        key_u8(&k, (uint8_t)e->type);
        key_place(&k, e->timestamp_us, e->id);
        if (act(t, DB_BY_TAG, &k, err) != 0)
            return -1;
    }
    if (e->recipient.len != 0) {
        key_start(&k, domain);
        key_hash_nocase(&k, e->recipient);
        key_place(&k, e->timestamp_us, e->id);
        if (act(t, DB_BY_RECIPIENT, &k, err) != 0)
            return -1;
    }
    if (e->message_id.len != 0) {
        key_start(&k, domain);
        key_hash_nocase(&k, e->message_id);
        key_place(&k, e->timestamp_us, e->id);
        if (act(t, DB_BY_MESSAGE, &k, err) != 0)
            return -1;
    }
    return 0;
}

static int row_put(struct store_txn *t, enum store_db db, const struct key *k, struct err *err)
{
    return store_put(t, db, key_slice(k), (struct slice){0}, err);
}

static int row_delete(struct store_txn *t, enum store_db db, const struct key *k, struct err *err)
{
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
    return index_rows(t, domain, e, row_put, err) == 0 ? 1 : -1;
}

/* -------- reading one run of an index -------- */

struct run {
    MDB_cursor *cursor;
    size_t prefix_len;
    uint8_t prefix[16];
    const uint8_t *place; /* in the map; NULL = at its end */
    struct slice value;
};

/* Bounds of a scan, both inclusive but for `past`, which is excluded. */
struct scan {
    uint8_t low[PLACE_BYTES], high[PLACE_BYTES];
    bool up;
    bool has_past;
    uint8_t past[PLACE_BYTES];
};

static void run_take(struct run *r, int rc, MDB_val k, MDB_val v, const struct scan *s)
{
    const uint8_t *at = k.mv_data;

    r->place = NULL;
    if (rc != MDB_SUCCESS || k.mv_size != r->prefix_len + PLACE_BYTES ||
        memcmp(at, r->prefix, r->prefix_len) != 0)
        return;
    at += r->prefix_len;
    if (s->up ? memcmp(at, s->high, PLACE_BYTES) > 0 : memcmp(at, s->low, PLACE_BYTES) < 0)
        return;
    r->place = at;
    r->value = store_slice(v);
}

static void run_step(struct run *r, const struct scan *s)
{
    MDB_val k = {0}, v = {0};
    int rc = mdb_cursor_get(r->cursor, &k, &v, s->up ? MDB_NEXT : MDB_PREV);

    run_take(r, rc, k, v, s);
}

/* Goes to the first place of the scan: the bound, or just past the position where that is further.
 */
static void run_begin(struct run *r, const struct scan *s)
{
    const uint8_t *bound = s->up ? s->low : s->high;
    bool inclusive = true;
    struct key from = {0};
    MDB_val v = {0};

    if (s->has_past) {
        int order = memcmp(s->past, bound, PLACE_BYTES);
        if (s->up ? order >= 0 : order <= 0) {
            bound = s->past;
            inclusive = false;
        }
    }
    key_bytes(&from, slice_of(r->prefix, r->prefix_len));
    key_bytes(&from, slice_of(bound, PLACE_BYTES));
    MDB_val k = store_val(key_slice(&from));
    int rc = mdb_cursor_get(r->cursor, &k, &v, MDB_SET_RANGE);
    bool there = rc == MDB_SUCCESS && slice_eq(store_slice(k), key_slice(&from));
    if (s->up) {
        if (there && !inclusive)
            rc = mdb_cursor_get(r->cursor, &k, &v, MDB_NEXT);
    } else if (rc == MDB_NOTFOUND) {
        rc = mdb_cursor_get(r->cursor, &k, &v, MDB_LAST);
    } else if (rc == MDB_SUCCESS && !(there && inclusive)) {
        rc = mdb_cursor_get(r->cursor, &k, &v, MDB_PREV);
    }
    run_take(r, rc, k, v, s);
}

/* -------- a query -------- */

struct hit {
    const uint8_t *place;
    struct slice value;
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

static int run_add(struct reading *r, const struct key *prefix, struct err *err)
{
    struct run *run = &r->runs[r->run_count];

    assert(r->run_count < RUNS_MAX && prefix->len <= sizeof run->prefix);
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
        return run_add(r, &k, err);
    }
    if (plan->tag.len == 0 && has_all_types(plan)) {
        r->index = DB_EVENTS;
        return run_add(r, &k, err);
    }
    r->index = plan->tag.len != 0 ? DB_BY_TAG : DB_BY_TYPE;
    if (plan->tag.len != 0)
        key_hash_nocase(&k, plan->tag);
    for (unsigned i = EVENT_ACCEPTED; i < EVENT_TYPE_END; i++) {
        if (!has_type(plan, i))
            continue;
        struct key typed = k;
        key_u8(&typed, (uint8_t)i);
        if (run_add(r, &typed, err) != 0)
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
        if (run->place == NULL)
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

/* The event that an index row names. Neighbours in an index are mostly neighbours in the events
 * too: a cursor finds them on the leaf that it stands on. */
static bool event_at(struct reading *r, struct run *run, struct hit *hit)
{
    struct key k;
    MDB_val v;

    hit->place = run->place;
    hit->value = run->value;
    if (r->events == NULL)
        return true;
    key_start(&k, r->domain);
    key_bytes(&k, slice_of(run->place, PLACE_BYTES));
    MDB_val key = store_val(key_slice(&k));
    if (mdb_cursor_get(r->events, &key, &v, MDB_SET) != MDB_SUCCESS)
        return false;
    hit->value = store_slice(v);
    return true;
}

static bool event_read(const struct hit *hit, struct arena *a, struct event *e)
{
    if (hit->value.len < SES_TIME_BYTES)
        return false;
    e->timestamp_us = read_be(hit->place, 8);
    memcpy(e->id, hit->place + 8, EVENT_ID_BYTES);
    e->ses_us = read_be(hit->value.ptr, SES_TIME_BYTES);
    return event_unpack(slice_from(hit->value, SES_TIME_BYTES), a, e);
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

static void place_set(uint8_t place[PLACE_BYTES], uint64_t us, const uint8_t *id, uint8_t fill)
{
    for (size_t i = 0; i < 8; i++)
        place[i] = (uint8_t)(us >> (56 - 8 * i));
    if (id != NULL)
        memcpy(place + 8, id, EVENT_ID_BYTES);
    else
        memset(place + 8, fill, EVENT_ID_BYTES);
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

/* Takes out the oldest event of a domain if it is older than before_us: 1, 0 when there is none,
 * -1. */
static int expire_one(struct store_txn *t, uint32_t domain, uint64_t before_us, struct arena *a,
                      struct err *err)
{
    struct run run = {.prefix_len = 4};
    struct scan scan = {.up = true};
    struct key k;
    struct hit hit;
    struct event e = {0};

    key_start(&k, domain);
    memcpy(run.prefix, k.at, k.len);
    place_set(scan.high, before_us, NULL, 0);
    int rc = mdb_cursor_open(t->mdb, t->store->dbi[DB_EVENTS], &run.cursor);
    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "opening a cursor");
    run_begin(&run, &scan);
    mdb_cursor_close(run.cursor);
    if (run.place == NULL)
        return 0;
    hit = (struct hit){run.place, run.value};
    key_bytes(&k, slice_of(run.place, PLACE_BYTES));
    /* The texts point into a page that the first deletion may change: copy them first. */
    hit.value = arena_dup(a, run.value);
    hit.place = k.at + 4;
    bool readable = event_read(&hit, a, &e);
    if (readable && index_rows(t, domain, &e, row_delete, err) != 0)
        return -1;
    if (store_del(t, DB_EVENT_IDS, slice_of(k.at + 12, EVENT_ID_BYTES), err) != 0 ||
        store_del(t, DB_EVENTS, key_slice(&k), err) != 0)
        return -1;
    return 1;
}

int event_expire(struct store_txn *t, uint64_t before_us, uint32_t limit, struct err *err)
{
    struct arena arena = {0};
    uint32_t gone = 0;
    MDB_stat stat;
    int rc = mdb_stat(t->mdb, t->store->dbi[DB_DOMAINS], &stat);

    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "counting domains");
    rc = 1;
    for (uint32_t domain = 1; domain <= stat.ms_entries && rc >= 0; domain++) {
        rc = 1;
        while (gone < limit && (rc = expire_one(t, domain, before_us, &arena, err)) == 1) {
            gone++;
            arena_reset(&arena);
        }
    }
    arena_fini(&arena);
    return rc < 0 ? -1 : (int)gone;
}
