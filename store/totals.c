#include "store/totals.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/mem.h"
#include "store/internal.h"
#include "store/key.h"

enum { COUNT_BYTES = 8 };

_Static_assert(TOTAL_STATE + STATE_COUNT <= TOTAL_EVENT, "room for states");
_Static_assert(TOTAL_EVENT + COUNT_KINDS <= TOTAL_STORED, "room for kinds of events");
_Static_assert(TOTAL_KINDS *COUNT_BYTES <= KEY_BYTES_MAX, "a row is put together in a key");

/* What has been added in this transaction. Differences wrap around, and add up all the same. */
struct change {
    uint32_t domain;
    enum total_lane lane;
    struct totals difference;
};

struct total_changes {
    struct change *list; /* few: domains that do something in one transaction */
    size_t count, cap, last;
};

const char *total_lane_name(enum total_lane lane)
{
    static const char *const names[TOTAL_LANES] = {"transactional", "newsletter", "unknown"};

    return names[lane];
}

static enum total_lane lane_from(uint32_t lane)
{
    return lane == TOTAL_NEWSLETTER ? TOTAL_NEWSLETTER : TOTAL_TRANSACTIONAL;
}

enum total_lane total_lane_of(const struct event *e)
{
    return e->has_lane ? lane_from(e->lane) : TOTAL_NO_LANE;
}

/* -------- rows -------- */

static struct key key_of(uint32_t domain, enum total_lane lane)
{
    struct key k = {.len = 0};

    key_u32(&k, domain);
    key_u8(&k, (uint8_t)lane);
    return k;
}

/* A row of an earlier version may be shorter. */
static void row_read(struct store_txn *t, uint32_t domain, enum total_lane lane, struct totals *sum)
{
    struct key k = key_of(domain, lane);
    struct slice row = {0};

    *sum = (struct totals){0};
    if (domain == 0 || !store_get(t, DB_TOTALS, key_slice(&k), &row))
        return;
    for (size_t i = 0; i < TOTAL_KINDS && (i + 1) * COUNT_BYTES <= row.len; i++)
        sum->count[i] = read_be(row.ptr + i * COUNT_BYTES, COUNT_BYTES);
}

static int row_write(struct store_txn *t, uint32_t domain, enum total_lane lane,
                     const struct totals *sum, struct err *err)
{
    struct key k = key_of(domain, lane), row = {.len = 0};

    for (size_t i = 0; i < TOTAL_KINDS; i++)
        key_u64(&row, sum->count[i]);
    return store_put(t, DB_TOTALS, key_slice(&k), key_slice(&row), err);
}

void totals_read(struct store_txn *t, struct slice domain, enum total_lane lane, struct totals *sum)
{
    row_read(t, store_domain_find(t, domain), lane, sum);
}

uint64_t totals_unaccounted(const struct totals *sum)
{
    uint64_t accepted = sum->count[TOTAL_ACCEPTED], known = 0;

    for (unsigned i = 0; i < STATE_COUNT; i++)
        if (i != STATE_DUPLICATE)
            known += sum->count[TOTAL_STATE + i];
    return known > accepted ? known - accepted : accepted - known;
}

/* -------- adding -------- */

static struct totals *entry_of(struct total_changes *c, uint32_t domain, enum total_lane lane)
{
    for (size_t n = 0; n < c->count; n++) {
        size_t at = (c->last + n) % c->count; /* events come in runs of one domain */
        if (c->list[at].domain == domain && c->list[at].lane == lane) {
            c->last = at;
            return &c->list[at].difference;
        }
    }
    if (c->count == c->cap) {
        c->cap = c->cap == 0 ? 8 : c->cap * 2;
        c->list = mem_grow(c->list, c->cap * sizeof *c->list);
    }
    c->last = c->count;
    c->list[c->count] = (struct change){.domain = domain, .lane = lane};
    return &c->list[c->count++].difference;
}

static struct totals *difference_of(struct store_txn *t, uint32_t domain, enum total_lane lane)
{
    struct store *s = t->store;

    if (s->totals == NULL)
        s->totals = mem_zero(1, sizeof *s->totals);
    return entry_of(s->totals, domain, lane);
}

static void add_books(struct totals *to, const struct books *before, const struct books *after)
{
    to->count[TOTAL_ACCEPTED] += (uint64_t)after->accepted - before->accepted;
    for (unsigned i = 0; i < STATE_COUNT; i++)
        to->count[TOTAL_STATE + i] += (uint64_t)after->state[i] - before->state[i];
}

void totals_add(struct store_txn *t, uint32_t domain, enum total_lane lane, enum total kind,
                uint32_t n)
{
    difference_of(t, domain, lane)->count[kind] += n;
}

int totals_add_arrival(struct store_txn *t, const struct event *e, bool first, struct err *err)
{
    uint32_t domain = store_domain_intern(t, e->domain, err);

    if (domain == 0)
        return -1;
    totals_add(t, domain, total_lane_of(e), first ? TOTAL_STORED : TOTAL_REPEATED, 1);
    if (first && event_is_late(e))
        totals_add(t, domain, total_lane_of(e), TOTAL_LATE, 1);
    return 0;
}

int totals_add_books(struct store_txn *t, struct slice domain, uint32_t lane,
                     const struct books *before, const struct books *after, struct err *err)
{
    uint32_t number = store_domain_intern(t, domain, err);

    if (number == 0)
        return -1;
    add_books(difference_of(t, number, lane_from(lane)), before, after);
    return 0;
}

int totals_flush(struct store_txn *t, struct err *err)
{
    struct total_changes *c = t->store->totals;
    int rc = 0;

    for (size_t i = 0; c != NULL && i < c->count && rc == 0; i++) {
        struct totals sum;
        row_read(t, c->list[i].domain, c->list[i].lane, &sum);
        for (size_t k = 0; k < TOTAL_KINDS; k++)
            sum.count[k] += c->list[i].difference.count[k];
        rc = row_write(t, c->list[i].domain, c->list[i].lane, &sum, err);
    }
    totals_forget(t->store);
    return rc;
}

void totals_forget(struct store *s)
{
    if (s->totals != NULL)
        s->totals->count = s->totals->last = 0;
}

void totals_release(struct store *s)
{
    if (s->totals == NULL)
        return;
    free(s->totals->list);
    free(s->totals);
    s->totals = NULL;
}

/* -------- the first time -------- */

struct beginning {
    struct store_txn *t;
    struct arena arena;
    struct err *err;
    int rc;
};

static bool begin_with(void *arg, uint64_t batch_id, struct slice packed, const struct books *books)
{
    const struct books none = {.accepted = 0};
    struct beginning *b = arg;
    struct message_head head;

    (void)batch_id;
    arena_reset(&b->arena);
    if (message_head_unpack(packed, &b->arena, &head))
        b->rc = totals_add_books(b->t, head.domain, head.lane, &none, books, b->err);
    return b->rc == 0;
}

int totals_begin(struct store_txn *t, struct err *err)
{
    struct beginning b = {.t = t, .err = err};

    batch_each(t, begin_with, &b);
    arena_fini(&b.arena);
    return b.rc;
}

/* -------- checking -------- */

struct totals_recount {
    struct store_txn *t;
    struct total_changes found;
};

/* Rows that no batch stands behind are to be met as well. */
static void note_rows(struct totals_recount *r)
{
    MDB_cursor *cursor;
    MDB_val k, v;

    if (mdb_cursor_open(r->t->mdb, r->t->store->dbi[DB_TOTALS], &cursor) != MDB_SUCCESS)
        return;
    while (mdb_cursor_get(cursor, &k, &v, MDB_NEXT) == MDB_SUCCESS) {
        const uint8_t *at = k.mv_data;
        if (k.mv_size == 5 && at[4] < TOTAL_LANES)
            (void)entry_of(&r->found, (uint32_t)read_be(at, 4), (enum total_lane)at[4]);
    }
    mdb_cursor_close(cursor);
}

struct totals_recount *totals_recount_create(struct store_txn *t)
{
    struct totals_recount *r = mem_zero(1, sizeof *r);

    r->t = t;
    note_rows(r);
    return r;
}

void totals_recount_add(struct totals_recount *r, struct slice domain, uint32_t lane,
                        const struct books *books)
{
    const struct books none = {.accepted = 0};

    add_books(entry_of(&r->found, store_domain_find(r->t, domain), lane_from(lane)), &none, books);
}

static bool is_open(size_t kind)
{
    return kind == TOTAL_STATE + STATE_PENDING || kind == TOTAL_STATE + STATE_LEASED ||
           kind == TOTAL_STATE + STATE_DOUBT;
}

void totals_recount_compare(struct totals_recount *r, void (*problem)(void *arg, const char *words),
                            void *arg)
{
    char words[160];

    for (size_t i = 0; i < r->found.count; i++) {
        const struct change *c = &r->found.list[i];
        struct totals sum;
        row_read(r->t, c->domain, c->lane, &sum);
        for (size_t kind = 0; kind < TOTAL_STATE + STATE_COUNT; kind++) {
            uint64_t told = sum.count[kind], counted = c->difference.count[kind];
            if (is_open(kind) ? told == counted : told >= counted)
                continue;
            (void)snprintf(words, sizeof words,
                           "domain %" PRIu32 ", %s: figure %zu of its totals is %" PRIu64
                           ", the books of its batches say %" PRIu64,
                           c->domain, total_lane_name(c->lane), kind, told, counted);
            problem(arg, words);
        }
        if (totals_unaccounted(&sum) != 0) {
            (void)snprintf(words, sizeof words,
                           "domain %" PRIu32 ", %s: totals leave %" PRIu64
                           " recipients unaccounted for",
                           c->domain, total_lane_name(c->lane), totals_unaccounted(&sum));
            problem(arg, words);
        }
    }
}

void totals_recount_destroy(struct totals_recount *r)
{
    if (r == NULL)
        return;
    free(r->found.list);
    free(r);
}
