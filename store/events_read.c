/*
 * A query reads three levels of things, each in the order of places and each able to go on to a
 * given place, so that nothing is read that lies between:
 *
 *   run      the rows of one index behind one prefix: a kind, a tag and kind, an address, …
 *   part     what one condition asks for: a merge of runs (any of several kinds, of several tags)
 *   stream   one domain's events: what all its parts have in common
 *
 * The parts of a stream leapfrog: each goes on to the place that another has reached, until all
 * stand on the same one. So two tags cost what the rarer one costs, and one that no event has
 * costs nothing. A recipient or message id has few events: there the other conditions are asked of
 * the event itself, and their indexes join in only after MISSES_MOST events in a row did not fit.
 *
 * Recipients and message ids have no rows but lists (store/event_lists.h): what is found there is
 * sorted in memory, and is a run like the others.
 *
 * A row may stand for a group (store/events.c); a run then stands on one of its members.
 */
#include <assert.h>
#include <stdlib.h>

#include "base/digest.h"
#include "mail/filter.h"
#include "store/event_lists.h"
#include "store/events.h"

enum {
    PREFIX_BYTES_MAX = 24,
    PARTS_MAX = FILTER_TAGS_MAX + 3, /* tags, kinds, recipient, message id */
    MISSES_MOST = 64,
    ITEM_BYTES = 900, /* of room made for each; they may be longer */
    ORDINAL_MASK = EVENT_ORDINALS - 1,
};

/* `accepted` events may get their time a little after they happened, when the writer was busy or
 * had to be replaced: an id, which holds the latter, is looked for so much later. */
#define ACCEPTED_LATE_MOST_US UINT64_C(3600000000)

/* -------- places -------- */

/* (timestamp, id) as numbers: compared as the keys are. */
struct place {
    uint64_t us, high, low;
};

static inline uint64_t load_be(const uint8_t *at)
{
    uint64_t v;

    memcpy(&v, at, sizeof v);
    return __builtin_bswap64(v);
}

static inline struct place place_read(const uint8_t *at)
{
    return (struct place){load_be(at), load_be(at + 8), load_be(at + 16)};
}

static struct place place_of(const struct event_position *p)
{
    return (struct place){p->timestamp_us, load_be(p->id), load_be(p->id + 8)};
}

static void id_write(uint8_t id[EVENT_ID_BYTES], const struct place *p)
{
    uint64_t high = __builtin_bswap64(p->high), low = __builtin_bswap64(p->low);

    memcpy(id, &high, 8);
    memcpy(id + 8, &low, 8);
}

static inline int place_cmp(const struct place *a, const struct place *b)
{
    if (a->us != b->us)
        return a->us < b->us ? -1 : 1;
    if (a->high != b->high)
        return a->high < b->high ? -1 : 1;
    return a->low == b->low ? 0 : a->low < b->low ? -1 : 1;
}

/* Does a come before b in the direction of the scan? */
static inline bool is_before(const struct place *a, const struct place *b, bool up)
{
    int order = place_cmp(a, b);

    return up ? order < 0 : order > 0;
}

/* The next place there could be. False: there is none. */
static bool place_step(struct place *p, bool up)
{
    if (up) {
        if (++p->low == 0 && ++p->high == 0 && ++p->us == 0)
            return false;
    } else if (p->low-- == 0 && p->high-- == 0 && p->us-- == 0) {
        return false;
    }
    return true;
}

/* The member of a group that stands `at` behind the first. */
static inline struct place place_behind(struct place p, uint64_t at)
{
    p.low = (p.low & ~(uint64_t)ORDINAL_MASK) | ((p.low + at) & ORDINAL_MASK);
    return p;
}

/* -------- a run -------- */

enum run_rows {
    ROWS_EVENTS, /* an event or a group */
    ROWS_INDEX,  /* names one */
    ROWS_BUCKET, /* names those of a group with a certain address hash */
    ROWS_LIST,   /* no rows: places that event_lists_find() has found */
};

struct run {
    MDB_cursor *cursor; /* NULL with LIST */
    enum run_rows rows;
    struct slice text; /* LIST: what is looked for */
    uint8_t *places;   /* LIST: `count` of them, ascending */
    bool may_have_groups;
    uint32_t hash; /* BUCKET */
    size_t prefix_len;
    uint8_t prefix[PREFIX_BYTES_MAX];
    bool there;         /* it stands on something; else it is at its end */
    struct slice value; /* of the row it stands on */
    struct place row, place;
    uint32_t count, at; /* entries of the row; which of them it stands on */
};

struct scan {
    bool up;
    uint64_t low_us, high_us; /* both inclusive */
    uint64_t moves;           /* of cursors, and events looked at */
};

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
    case ROWS_LIST:
        break;
    }
    return 0;
}

static bool entry_find(struct run *r, const struct place *target, bool up)
{
    /* Below the first comes a number beyond the last. */
    for (uint32_t i = up ? 0 : r->count - 1; i < r->count; i += up ? 1 : UINT32_MAX) {
        const uint8_t *entry = r->value.ptr + (size_t)i * BUCKET_ENTRY_BYTES;
        if (read_be(entry, 4) != r->hash)
            continue;
        uint64_t ordinal = read_be(entry + 4, EVENT_ORDINAL_BYTES);
        struct place p = place_behind(r->row, ordinal - (r->row.low & ORDINAL_MASK));
        if (is_before(&p, target, up))
            continue;
        r->at = i;
        r->place = p;
        return true;
    }
    return false;
}

/* Goes to the row's first member at or after the target, in the scan's direction. */
static bool member_find(struct run *r, const struct place *target, bool up)
{
    if (r->rows == ROWS_BUCKET)
        return entry_find(r, target, up);
    if (r->count == 0)
        return false;
    struct place end = place_behind(r->row, r->count - 1);
    if (is_before(up ? &end : &r->row, target, up))
        return false;
    if (is_before(up ? &r->row : &end, target, up)) /* the target is within */
        r->at = (uint32_t)(target->low - r->row.low);
    else
        r->at = up ? 0 : r->count - 1;
    r->place = place_behind(r->row, r->at);
    return true;
}

/* Is this a row of the run, within the scan's bounds? */
static bool row_take(struct run *r, int rc, const MDB_val *k, const MDB_val *v,
                     const struct scan *s)
{
    const uint8_t *at = k->mv_data;

    r->there = false;
    if (rc != MDB_SUCCESS || k->mv_size != r->prefix_len + PLACE_BYTES ||
        memcmp(at, r->prefix, r->prefix_len) != 0)
        return false;
    r->row = place_read(at + r->prefix_len);
    if (s->up ? r->row.us > s->high_us : r->row.us < s->low_us)
        return false;
    r->value = store_slice(*v);
    r->count = entries_of(r);
    return true;
}

/* From this row on to the first that has something at or after the target. */
static void run_settle(struct run *r, int rc, MDB_val k, MDB_val v, const struct place *target,
                       struct scan *s)
{
    while (row_take(r, rc, &k, &v, s)) {
        if (member_find(r, target, s->up)) {
            r->there = true;
            return;
        }
        s->moves++;
        rc = mdb_cursor_get(r->cursor, &k, &v, s->up ? MDB_NEXT : MDB_PREV);
    }
}

static void run_search(struct run *r, const struct place *target, struct scan *s)
{
    struct key from = {.len = 0};
    struct event_position position;
    MDB_val v = {0};

    id_write(position.id, target);
    key_bytes(&from, slice_of(r->prefix, r->prefix_len));
    key_place(&from, target->us, position.id);
    MDB_val k = store_val(key_slice(&from));
    s->moves++;
    int rc = mdb_cursor_get(r->cursor, &k, &v, MDB_SET_RANGE);
    bool exact = rc == MDB_SUCCESS && slice_eq(store_slice(k), key_slice(&from));
    if (!exact && (!s->up || r->may_have_groups)) {
        /* Downwards: the row below. Upwards: the same, for a group that begins before the target
         * may reach beyond it. */
        rc = mdb_cursor_get(r->cursor, &k, &v, rc == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
        if (s->up && (rc != MDB_SUCCESS || k.mv_size != from.len ||
                      memcmp(k.mv_data, r->prefix, r->prefix_len) != 0)) {
            k = store_val(key_slice(&from));
            rc = mdb_cursor_get(r->cursor, &k, &v, MDB_SET_RANGE);
        }
    }
    run_settle(r, rc, k, v, target, s);
}

/* To the first place at or after the target, in the scan's direction. */
static void list_seek(struct run *r, const struct place *target, bool up)
{
    uint32_t begin = 0, end = r->count;

    while (begin < end) {
        uint32_t middle = begin + (end - begin) / 2;
        struct place p = place_read(r->places + (size_t)middle * PLACE_BYTES);
        int order = place_cmp(&p, target);
        if (up ? order < 0 : order <= 0)
            begin = middle + 1;
        else
            end = middle;
    }
    r->at = up ? begin : begin - 1; /* below the first comes a number beyond the last */
    r->there = r->at < r->count;
    if (r->there)
        r->place = place_read(r->places + (size_t)r->at * PLACE_BYTES);
}

/* On to the first place at or after the target; back to nowhere, ever. */
static void run_seek(struct run *r, const struct place *target, struct scan *s)
{
    struct place next = r->place;

    if (r->rows == ROWS_LIST) {
        if (r->there && is_before(&r->place, target, s->up))
            list_seek(r, target, s->up);
        return;
    }
    if (!r->there || !is_before(&r->place, target, s->up) || member_find(r, target, s->up))
        return;
    if (!place_step(&next, s->up) || place_cmp(&next, target) != 0) {
        run_search(r, target, s);
        return;
    }
    MDB_val k = {0}, v = {0};
    s->moves++;
    int rc = mdb_cursor_get(r->cursor, &k, &v, s->up ? MDB_NEXT : MDB_PREV);
    run_settle(r, rc, k, v, target, s);
}

/* -------- a part -------- */

struct part {
    enum store_db db;
    struct run *runs;
    size_t count, first; /* first: the run whose place comes first */
    bool there;
    struct place place;
};

static void part_pick(struct part *p, bool up)
{
    p->there = false;
    for (size_t i = 0; i < p->count; i++) {
        const struct run *r = &p->runs[i];
        if (r->there && (!p->there || is_before(&r->place, &p->place, up))) {
            p->there = true;
            p->place = r->place;
            p->first = i;
        }
    }
}

static void part_seek(struct part *p, const struct place *target, struct scan *s)
{
    if (!p->there || !is_before(&p->place, target, s->up))
        return;
    for (size_t i = 0; i < p->count; i++)
        run_seek(&p->runs[i], target, s);
    part_pick(p, s->up);
}

/* -------- a stream -------- */

struct stream {
    uint32_t domain;
    struct part parts[PARTS_MAX];
    size_t part_count;
    size_t active;     /* so many of them have been opened */
    MDB_cursor *event; /* looks up what an index names; NULL: the events themselves are read */
    unsigned misses;   /* in a row */
    bool there;
    bool cut; /* its parts do not agree on this place, or not yet */
    struct place place;
};

struct reading {
    struct store_txn *t;
    const struct event_query *q;
    struct filter_plan plan;
    struct scan scan;
    uint64_t moves_max;
    bool look; /* the filter has to see the event */
    struct place start;
    struct stream *streams;
    size_t stream_count;
    struct arena arena; /* runs */
    struct arena texts; /* of one event */
};

static bool is_spent(const struct reading *r)
{
    return r->scan.moves >= r->moves_max;
}

/* On to what all active parts have in common. Stops half way when the moves are spent: then it is
 * cut, and stands on a place before which there is nothing. */
static void stream_agree(struct reading *r, struct stream *s, const struct place *target)
{
    struct place goal = *target;

    s->there = s->cut = false;
    for (size_t agreed = 0, i = 0; agreed < s->active; i = (i + 1) % s->active) {
        struct part *p = &s->parts[i];
        part_seek(p, &goal, &r->scan);
        if (!p->there)
            return;
        if (place_cmp(&p->place, &goal) != 0) {
            goal = p->place;
            agreed = 0;
            s->cut = is_spent(r) && s->active > 1;
            if (s->cut)
                break;
        }
        agreed++;
    }
    s->there = true;
    s->place = goal;
}

static void part_add(struct reading *r, struct stream *s, enum store_db db, size_t runs_max)
{
    struct part *p = &s->parts[s->part_count++];

    assert(s->part_count <= PARTS_MAX);
    p->db = db;
    p->runs = arena_array(&r->arena, runs_max, sizeof *p->runs);
}

static struct run *run_add(struct stream *s, const struct key *prefix, enum run_rows rows)
{
    struct part *p = &s->parts[s->part_count - 1];
    struct run *run = &p->runs[p->count++];

    assert(prefix->len <= PREFIX_BYTES_MAX);
    run->rows = rows;
    run->may_have_groups = true;
    memcpy(run->prefix, prefix->at, prefix->len);
    run->prefix_len = prefix->len;
    return run;
}

static bool has_kind(const struct filter_plan *plan, unsigned kind)
{
    return (plan->kinds >> kind & 1u) != 0;
}

static void add_kinds(struct reading *r, struct stream *s, const struct key *prefix)
{
    for (unsigned i = EVENT_ACCEPTED; i < EVENT_KIND_END; i++) {
        struct key k = *prefix;
        if (!has_kind(&r->plan, i))
            continue;
        key_u8(&k, (uint8_t)i);
        run_add(s, &k, ROWS_INDEX)->may_have_groups = i == EVENT_ACCEPTED;
    }
}

/* Any of the tags. */
static void add_tags(struct reading *r, struct stream *s, const struct filter_terms *tags)
{
    part_add(r, s, DB_BY_TAG, tags->count * EVENT_KIND_END);
    for (size_t i = 0; i < tags->count; i++) {
        struct key k;
        key_domain(&k, s->domain);
        key_hash_nocase(&k, tags->texts[i]);
        add_kinds(r, s, &k);
    }
}

static void add_texts(struct reading *r, struct stream *s, enum store_db db,
                      const struct filter_terms *terms)
{
    part_add(r, s, db, 3 * terms->count);
    for (size_t i = 0; i < terms->count; i++) {
        struct key k;
        key_domain(&k, s->domain);
        run_add(s, &k, ROWS_LIST)->text = terms->texts[i];
        if (!has_kind(&r->plan, EVENT_ACCEPTED))
            continue;
        if (db == DB_BY_MESSAGE) {
            key_hash_nocase(&k, terms->texts[i]);
            (void)run_add(s, &k, ROWS_INDEX);
            continue;
        }
        uint32_t hash = address_hash(terms->texts[i]);
        key_bucket(&k, s->domain, bucket_of(hash));
        run_add(s, &k, ROWS_BUCKET)->hash = hash;
        key_bucket(&k, s->domain, BUCKET_OF_ALL);
        run_add(s, &k, ROWS_BUCKET)->hash = hash;
    }
}

static void place_write(uint8_t to[PLACE_BYTES], const struct place *p)
{
    uint64_t us = __builtin_bswap64(p->us);

    memcpy(to, &us, sizeof us);
    id_write(to + sizeof us, p);
}

/* All runs of a part that are lists. */
static int lists_open(struct reading *r, const struct stream *s, struct part *p,
                      const struct place *target, struct err *err)
{
    const struct place least = {.us = r->scan.low_us},
                       most = {r->scan.high_us, UINT64_MAX, UINT64_MAX};
    struct event_list_wanted *wanted = arena_array(&r->arena, p->count, sizeof *wanted);
    uint8_t low[PLACE_BYTES], high[PLACE_BYTES];
    size_t count = 0;

    for (size_t i = 0; i < p->count; i++)
        if (p->runs[i].rows == ROWS_LIST)
            wanted[count++].text = p->runs[i].text;
    if (count == 0)
        return 0;
    place_write(low, r->scan.up ? target : &least);
    place_write(high, r->scan.up ? &most : target);
    if (event_lists_find(r->t, p->db, s->domain, wanted, count, low, high, err) != 0)
        return -1;
    for (size_t i = 0; i < p->count; i++) {
        struct run *run = &p->runs[i];
        if (run->rows != ROWS_LIST)
            continue;
        run->places = wanted->places.ptr;
        run->count = (uint32_t)(wanted++->places.len / PLACE_BYTES);
        r->scan.moves++;
        list_seek(run, target, r->scan.up);
    }
    return 0;
}

/* Opens one more part, at the first place it has at or after the target. */
static int part_open(struct reading *r, struct stream *s, const struct place *target,
                     struct err *err)
{
    struct part *p = &s->parts[s->active++];

    if (lists_open(r, s, p, target, err) != 0)
        return -1;
    for (size_t i = 0; i < p->count; i++) {
        struct run *run = &p->runs[i];
        if (run->rows == ROWS_LIST)
            continue;
        int rc = mdb_cursor_open(r->t->mdb, r->t->store->dbi[p->db], &run->cursor);
        if (rc != MDB_SUCCESS)
            return store_fail(err, rc, "opening a cursor");
        run_search(run, target, &r->scan);
    }
    part_pick(p, r->scan.up);
    return 0;
}

/* The conditions that indexes answer, the one with the fewest events first. */
static int stream_open(struct reading *r, struct stream *s, struct err *err)
{
    const struct filter_plan *plan = &r->plan;
    size_t needed = 1;
    struct key k;

    key_domain(&k, s->domain);
    if (plan->message_id.count != 0)
        add_texts(r, s, DB_BY_MESSAGE, &plan->message_id);
    if (plan->recipient.count != 0)
        add_texts(r, s, DB_BY_RECIPIENT, &plan->recipient);
    if (s->part_count == 0 && plan->tag_count != 0)
        needed = plan->tag_count;
    for (size_t i = 0; i < plan->tag_count; i++)
        add_tags(r, s, &plan->tags[i]);
    if (plan->tag_count == 0 && plan->kinds != FILTER_ALL_KINDS) {
        part_add(r, s, DB_BY_TYPE, EVENT_KIND_END);
        add_kinds(r, s, &k);
    }
    if (s->part_count == 0) {
        part_add(r, s, DB_EVENTS, 1);
        (void)run_add(s, &k, ROWS_EVENTS);
    } else {
        int rc = mdb_cursor_open(r->t->mdb, r->t->store->dbi[DB_EVENTS], &s->event);
        if (rc != MDB_SUCCESS)
            return store_fail(err, rc, "opening a cursor");
    }
    while (s->active < needed)
        if (part_open(r, s, &r->start, err) != 0)
            return -1;
    return 0;
}

static void stream_close(struct stream *s)
{
    for (size_t i = 0; i < s->active; i++)
        for (size_t k = 0; k < s->parts[i].count; k++) {
            if (s->parts[i].runs[k].cursor != NULL)
                mdb_cursor_close(s->parts[i].runs[k].cursor);
            free(s->parts[i].runs[k].places);
        }
    if (s->event != NULL)
        mdb_cursor_close(s->event);
}

/* -------- the event at a place -------- */

/* The row that holds it: its own, or that of a group which begins before it. Neighbours in an index
 * are mostly neighbours in the events too: a cursor finds them on the leaf that it stands on. */
static bool row_of(const struct stream *s, struct slice *row, uint32_t *at)
{
    uint8_t id[EVENT_ID_BYTES];
    struct group g;
    struct key k;
    MDB_val v;

    if (s->event == NULL) {
        *row = s->parts[0].runs[0].value;
        *at = s->parts[0].runs[0].at;
        return true;
    }
    key_domain(&k, s->domain);
    id_write(id, &s->place);
    key_place(&k, s->place.us, id);
    MDB_val key = store_val(key_slice(&k));
    int rc = mdb_cursor_get(s->event, &key, &v, MDB_SET_RANGE);
    *at = 0;
    *row = store_slice(v);
    if (rc == MDB_SUCCESS && slice_eq(store_slice(key), key_slice(&k)))
        return true;
    rc = mdb_cursor_get(s->event, &key, &v, rc == MDB_NOTFOUND ? MDB_LAST : MDB_PREV);
    if (rc != MDB_SUCCESS || key.mv_size != k.len ||
        memcmp(key.mv_data, k.at, k.len - EVENT_ORDINAL_BYTES) != 0)
        return false;
    struct place first = place_read((const uint8_t *)key.mv_data + k.len - PLACE_BYTES);
    *at = (uint32_t)(s->place.low - first.low);
    *row = store_slice(v);
    return group_read(*row, &g) && *at < g.count;
}

static bool event_read(struct reading *r, const struct stream *s, struct event *e)
{
    struct slice row;
    uint32_t at;

    r->scan.moves++;
    *e = (struct event){.timestamp_us = s->place.us};
    id_write(e->id, &s->place);
    return row_of(s, &row, &at) && event_row_read(r->t, s->domain, row, at, NULL, &r->texts, e);
}

/* -------- a page -------- */

static bool is_reversed(const struct event_query *q)
{
    return q->backwards || q->last_page;
}

static void page_add(const struct event_query *q, struct event_page *page, const struct event *e)
{
    struct event_position here = {.timestamp_us = e->timestamp_us};

    memcpy(here.id, e->id, EVENT_ID_BYTES);
    if (page->count++ == 0)
        page->first = here;
    else if (q->visit == NULL)
        buf_add_byte(&page->items, ',');
    page->last = here;
    if (q->visit != NULL)
        q->visit(q->visit_arg, e);
    else if (q->as_logs)
        event_to_log(&page->items, e, q->storage_base);
    else
        event_to_json(&page->items, e, q->storage_base);
    if (is_reversed(q))
        buf_add(&page->ends, &page->items.len, sizeof page->items.len);
}

void event_page_end(const struct event_query *q, struct event_page *page)
{
    struct event_position first = page->first;
    struct buf turned = {0};
    size_t end = page->items.len;

    if (!is_reversed(q) || page->count < 2)
        return;
    (void)buf_reserve(&turned, page->items.len + 1);
    buf_add(&turned, page->items.ptr, page->begin);
    for (size_t i = page->ends.len / sizeof end; i > 0; i--) {
        size_t begin = page->begin;
        if (i > 1) {
            memcpy(&begin, page->ends.ptr + (i - 2) * sizeof end, sizeof end);
            begin++; /* the comma */
        }
        buf_add(&turned, page->items.ptr + begin, end - begin);
        if (i > 1)
            buf_add_byte(&turned, ',');
        end = begin - 1;
    }
    buf_fini(&page->items);
    buf_fini(&page->ends);
    page->items = turned;
    page->first = page->last;
    page->last = first;
}

void event_page_go_on(struct event_page *page, uint64_t until_us)
{
    page->cut = true;
    page->at.timestamp_us = until_us;
    memset(page->at.id, 0xff, EVENT_ID_BYTES);
}

void event_page_fini(struct event_page *page)
{
    buf_fini(&page->items);
    buf_fini(&page->ends);
}

static struct stream *stream_first(struct reading *r)
{
    struct stream *first = NULL;

    for (size_t i = 0; i < r->stream_count; i++) {
        struct stream *s = &r->streams[i];
        if (s->there && (first == NULL || is_before(&s->place, &first->place, r->scan.up)))
            first = s;
    }
    return first;
}

/* After an event that did not fit: are there indexes that could have told? */
static int stream_missed(struct reading *r, struct stream *s, struct err *err)
{
    if (++s->misses < MISSES_MOST)
        return 0;
    while (s->active < s->part_count)
        if (part_open(r, s, &s->place, err) != 0)
            return -1;
    return 0;
}

/* Notes that all before this place has been looked at. */
static void page_cut(struct reading *r, struct event_page *page, struct place before)
{
    page->cut = true;
    (void)place_step(&before, !r->scan.up);
    page->at.timestamp_us = before.us;
    id_write(page->at.id, &before);
}

static int gather(struct reading *r, struct event_page *page, struct err *err)
{
    const struct event_query *q = r->q;
    bool got_somewhere = false;
    struct stream *s;

    while (page->count < q->limit && (s = stream_first(r)) != NULL) {
        struct place next = s->place;
        struct event e;
        bool fits = true;

        if (s->cut || (is_spent(r) && got_somewhere)) {
            page_cut(r, page, s->place);
            return 0;
        }
        got_somewhere = true;
        if (r->look || !q->count_only)
            fits = event_read(r, s, &e) && (!r->look || filter_match(q->filter, &e));
        if (fits && q->count_only) {
            page->count++;
        } else if (fits) {
            page_add(q, page, &e);
        }
        arena_reset(&r->texts);
        if (fits)
            s->misses = 0;
        else if (stream_missed(r, s, err) != 0)
            return -1;
        if (place_step(&next, r->scan.up))
            stream_agree(r, s, &next);
        else
            s->there = false;
    }
    return 0;
}

/* An id says when its event happened, and mostly there is a row that says where it is. */
static void narrow_to_id(struct reading *r)
{
    struct buf id = {0};
    struct slice value;

    if (!text_from_base64(&id, r->plan.id) || id.len != EVENT_ID_BYTES) {
        r->plan.kinds = 0;
    } else if (store_get(r->t, DB_EVENT_IDS, buf_slice(&id), &value) && value.len == 8) {
        uint64_t us = read_be(value.ptr, 8);
        r->scan.low_us = r->scan.low_us > us ? r->scan.low_us : us;
        r->scan.high_us = r->scan.high_us < us ? r->scan.high_us : us;
    } else {
        uint64_t us = read_be(id.ptr, 6) * 1000;
        r->plan.kinds &= UINT32_C(1) << EVENT_ACCEPTED;
        r->scan.low_us = r->scan.low_us > us ? r->scan.low_us : us;
        if (r->scan.high_us > us + ACCEPTED_LATE_MOST_US)
            r->scan.high_us = us + ACCEPTED_LATE_MOST_US;
    }
    buf_fini(&id);
}

/* Where to begin; false: nowhere, the page is empty. */
static bool find_start(struct reading *r, const struct event_page *page)
{
    const struct event_query *q = r->q;
    bool has_past = page->cut || (q->has_position && !q->last_page);

    r->start = r->scan.up ? (struct place){r->scan.low_us, 0, 0}
                          : (struct place){r->scan.high_us, UINT64_MAX, UINT64_MAX};
    if (has_past) {
        struct place past = place_of(page->cut ? &page->at : &q->position);
        if (!place_step(&past, r->scan.up))
            return false;
        if (is_before(&r->start, &past, r->scan.up))
            r->start = past;
    }
    return r->scan.low_us <= r->scan.high_us && r->plan.kinds != 0 && q->limit != 0 &&
           /* Before the first page there is nothing. */
           (!q->backwards || q->has_position || q->last_page);
}

static int read_streams(struct reading *r, struct event_page *page, struct err *err)
{
    const struct event_query *q = r->q;

    r->streams = arena_array(&r->arena, q->domain_count, sizeof *r->streams);
    for (size_t i = 0; i < q->domain_count; i++) {
        struct stream *s = &r->streams[r->stream_count];
        s->domain = store_domain_find(r->t, q->domains[i]);
        if (s->domain == 0)
            continue;
        r->stream_count++;
        if (stream_open(r, s, err) != 0)
            return -1;
    }
    r->moves_max = q->look_max == 0 ? UINT64_MAX : r->scan.moves + q->look_max;
    for (size_t i = 0; i < r->stream_count; i++)
        stream_agree(r, &r->streams[i], &r->start);
    return gather(r, page, err);
}

int event_query_run(struct store_txn *t, const struct event_query *q, struct event_page *page,
                    struct err *err)
{
    struct reading r = {.t = t, .q = q, .plan = {.kinds = FILTER_ALL_KINDS, .exact = true}};
    int rc = 0;

    if (!page->started) {
        page->started = true;
        page->begin = page->items.len;
        if (!q->count_only && q->visit == NULL)
            (void)buf_reserve(&page->items, (size_t)q->limit * ITEM_BYTES);
    }
    if (q->filter != NULL)
        filter_plan(q->filter, &r.plan);
    r.scan.up = q->ascending != is_reversed(q);
    r.scan.low_us = q->from_us;
    r.scan.high_us = q->until_us;
    if (r.plan.id.len != 0)
        narrow_to_id(&r);
    /* Lists also name events that have expired. */
    r.look = !r.plan.exact || r.plan.recipient.count != 0 || r.plan.message_id.count != 0;
    bool any = find_start(&r, page);
    page->cut = false;
    if (any)
        rc = read_streams(&r, page, err);
    for (size_t i = 0; i < r.stream_count; i++)
        stream_close(&r.streams[i]);
    arena_fini(&r.arena);
    arena_fini(&r.texts);
    return rc;
}
