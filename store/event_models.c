/*
 * A row like a model, behind ses_us: mark, the model's name, what differs. The name is the sort that
 * the model was put for, by which it is found, and a check of what it says: a row is never read by a
 * model that says something else, be it damaged or one that came after it. The day is that of the
 * row's own timestamp, so that models go with the events of their day.
 */
#include "store/event_models.h"

#include <assert.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/mem.h"
#include "store/key.h"

enum {
    LIKE_MARK = 0xc0, /* no packed event begins with it, nor a group */
    NAME_BYTES = 8,
    LIKE_HEAD_BYTES = 1 + NAME_BYTES,
    KEPT_SLOTS = 16384, /* copies: a power of two, as the next one */
    KEPT_BYTES_MOST = 6 << 20,
    SEEN_SLOTS = 4096, /* sorts of events met of late */
    SORTS = 2,
};

static const uint64_t day_us = UINT64_C(86400000000);

struct model_name {
    uint32_t sort, check;
};

struct event_model {
    uint32_t domain, day;
    struct model_name name;
    struct event event;
    struct event_shared shared;
};

/* Nothing else keeps the slots from being all taken. */
static_assert(KEPT_BYTES_MOST / sizeof(struct event_model) < KEPT_SLOTS / 10 * 9, "too few slots");

struct event_models {
    struct arena arena;
    const struct event_model *kept[KEPT_SLOTS]; /* each in the first free slot from its own on */
    bool of_read;                               /* the copies were made in a read transaction */
    struct {
        uint32_t sort, count;
    } seen[SEEN_SLOTS]; /* events of an aborted transaction count, too: it does no harm */
};

static uint32_t day_of(uint64_t timestamp_us)
{
    return (uint32_t)(timestamp_us / day_us);
}

static uint32_t sort_hash(uint32_t domain, uint32_t day, uint32_t sort)
{
    return (uint32_t)hash_mix(((uint64_t)domain << 32 | day) ^ hash_mix(sort));
}

static struct key model_key(uint32_t domain, uint32_t day, uint32_t sort)
{
    struct key k = {.len = 0};

    key_u32(&k, domain);
    key_u32(&k, day);
    key_u32(&k, sort);
    return k;
}

/* -------- keeping -------- */

static struct event_models *models_of(struct store *s)
{
    if (s->models == NULL)
        s->models = mem_zero(1, sizeof *s->models);
    return s->models;
}

void event_models_forget(struct store *s)
{
    if (s->models == NULL)
        return;
    memset(s->models->kept, 0, sizeof s->models->kept);
    arena_reset(&s->models->arena);
}

void event_models_release(struct store *s)
{
    if (s->models == NULL)
        return;
    arena_fini(&s->models->arena);
    free(s->models);
}

/* A store open for writing may be read beside an open transaction, which has put and taken out
 * models: what one of them has copied is not for the other. */
static void models_agree(struct event_models *m, const struct store_txn *t)
{
    bool is_read = t == &t->store->reading;

    if (m->of_read == is_read)
        return;
    event_models_forget(t->store);
    m->of_read = is_read;
}

/* NULL: it is not there, or damaged. */
static struct event_model *model_load(struct store_txn *t, uint32_t domain, uint32_t day,
                                      uint32_t sort, struct arena *a)
{
    struct key k = model_key(domain, day, sort);
    struct slice packed;

    if (!store_get(t, DB_EVENT_MODELS, key_slice(&k), &packed))
        return NULL;
    struct event_model *model = arena_alloc(a, sizeof *model);
    *model = (struct event_model){
        .domain = domain, .day = day, .name = {sort, (uint32_t)hash_slice(0, packed)}};
    return event_unpack(arena_dup(a, packed), a, &model->event) ? model : NULL;
}

static bool is_model_of(const struct event_model *model, uint32_t domain, uint32_t day,
                        uint32_t sort)
{
    return model->name.sort == sort && model->day == day && model->domain == domain;
}

/* Where the store's copy is, or would be. */
static const struct event_model **kept_find(struct event_models *m, uint32_t domain, uint32_t day,
                                            uint32_t sort)
{
    size_t at = sort_hash(domain, day, sort) % KEPT_SLOTS;

    while (m->kept[at] != NULL && !is_model_of(m->kept[at], domain, day, sort))
        at = (at + 1) % KEPT_SLOTS;
    return &m->kept[at];
}

/* The store's copy, made where there is none, or none that says what it should (check; NULL: whatever
 * it says): it may be of one that was there before. */
static const struct event_model *model_get(struct store_txn *t, uint32_t domain, uint32_t day,
                                           uint32_t sort, const uint32_t *check)
{
    struct event_models *m = models_of(t->store);
    const struct event_model **slot;
    struct event_model *kept;

    models_agree(m, t);
    slot = kept_find(m, domain, day, sort);
    if (*slot != NULL && (check == NULL || (*slot)->name.check == *check))
        return *slot;
    if (m->arena.used_bytes > KEPT_BYTES_MOST) {
        event_models_forget(t->store);
        slot = kept_find(m, domain, day, sort);
    }
    kept = model_load(t, domain, day, sort, &m->arena);
    if (kept != NULL) {
        kept->shared.arena = &m->arena;
        kept->event.shared = &kept->shared;
        *slot = kept;
    }
    return kept;
}

/* -------- reading -------- */

bool event_row_is_like(struct slice rest)
{
    return rest.len > LIKE_HEAD_BYTES && rest.ptr[0] == LIKE_MARK;
}

bool event_row_unpack_like(struct store_txn *t, uint32_t domain, struct slice rest,
                           struct arena *of_model, struct arena *a, struct event *e)
{
    const struct model_name name = {(uint32_t)read_be(rest.ptr + 1, 4),
                                    (uint32_t)read_be(rest.ptr + 5, 4)};
    uint32_t day = day_of(e->timestamp_us);
    const struct event_model *model = of_model != NULL
                                          ? model_load(t, domain, day, name.sort, of_model)
                                          : model_get(t, domain, day, name.sort, &name.check);

    return model != NULL && model->name.check == name.check &&
           event_unpack_like(slice_from(rest, LIKE_HEAD_BYTES), &model->event, a, e);
}

/* -------- writing -------- */

/* Of what there are likely to be many: first those of one batch, then of one sender. A model of a
 * batch has to save its own bytes first, compared with the sender's. */
static const uint32_t models_from[SORTS] = {5, 2}; /* the event of its sort that puts one */

static void sorts_of(const struct event *e, uint32_t sorts[SORTS])
{
    uint64_t hash = hash_slice(event_kind(e), e->from);

    for (size_t i = 0; i < e->tag_count; i++)
        hash = hash_slice(hash, e->tags[i]);
    sorts[1] = (uint32_t)hash;
    hash = hash_slice(hash_slice(~hash, e->message_id), e->subject);
    for (size_t i = 0; i < e->var_count; i++)
        hash = hash_slice(hash_slice(hash, e->vars[i].name), e->vars[i].value);
    sorts[0] = (uint32_t)hash;
}

/* One more of this sort: how many of late. */
static uint32_t sort_count(struct event_models *m, uint32_t domain, uint32_t day, uint32_t sort)
{
    uint32_t own = sort_hash(domain, day, sort);
    size_t at = own % SEEN_SLOTS;

    if (m->seen[at].sort != own) {
        m->seen[at].sort = own;
        m->seen[at].count = 0;
    }
    return ++m->seen[at].count;
}

/* One that is there but cannot be read stays, for what it may still be known by. */
static int model_put(struct store_txn *t, uint32_t domain, uint32_t day, uint32_t sort,
                     const struct event *e, struct err *err)
{
    struct key k = model_key(domain, day, sort);
    struct event common = *e;
    struct buf packed = {0};
    struct slice there;

    if (store_get(t, DB_EVENT_MODELS, key_slice(&k), &there))
        return 0;
    common.recipient = common.to = common.ses_id = slice_none(); /* always an event's own */
    event_pack(&packed, &common);
    int rc = store_put(t, DB_EVENT_MODELS, key_slice(&k), buf_slice(&packed), err);
    buf_fini(&packed);
    return rc;
}

/* *model becomes NULL when there is none for this event yet. 0 or -1. */
static int model_for(struct store_txn *t, uint32_t domain, const struct event *e,
                     const struct event_model **model, struct err *err)
{
    struct event_models *m = models_of(t->store);
    uint32_t day = day_of(e->timestamp_us), sorts[SORTS];

    sorts_of(e, sorts);
    *model = NULL;
    for (size_t i = 0; i < SORTS && *model == NULL; i++) {
        *model = model_get(t, domain, day, sorts[i], NULL);
        if (*model != NULL || sort_count(m, domain, day, sorts[i]) < models_from[i])
            continue;
        if (model_put(t, domain, day, sorts[i], e, err) != 0)
            return -1;
        *model = model_get(t, domain, day, sorts[i], NULL);
    }
    return 0;
}

int event_row_pack(struct store_txn *t, uint32_t domain, const struct event *e, struct buf *row,
                   struct err *err)
{
    struct key head = {.len = 0};
    const struct event_model *model;

    if (model_for(t, domain, e, &model, err) != 0)
        return -1;
    key_u64(&head, e->ses_us);
    if (model != NULL) {
        key_u8(&head, LIKE_MARK);
        key_u32(&head, model->name.sort);
        key_u32(&head, model->name.check);
    }
    buf_add_slice(row, key_slice(&head));
    if (model != NULL)
        event_pack_like(row, e, &model->event);
    else
        event_pack(row, e);
    return 0;
}

/* -------- ending -------- */

int event_models_expire(struct store_txn *t, uint32_t domain, uint64_t begin_us, uint32_t limit,
                        struct err *err)
{
    struct key from = model_key(domain, 0, 0);
    uint32_t gone = 0;
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(t->mdb, t->store->dbi[DB_EVENT_MODELS], &cursor);

    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "expiring models of events");
    MDB_val k = store_val(key_slice(&from)), v;
    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    while (rc == MDB_SUCCESS && gone < limit && k.mv_size == from.len &&
           read_be(k.mv_data, 4) == domain &&
           read_be((const uint8_t *)k.mv_data + 4, 4) < day_of(begin_us)) {
        rc = mdb_cursor_del(cursor, 0);
        if (rc != MDB_SUCCESS)
            break;
        gone++;
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT); /* the one that has taken its place */
    }
    mdb_cursor_close(cursor);
    if (gone > 0)
        event_models_forget(t->store);
    return rc == MDB_SUCCESS || rc == MDB_NOTFOUND
               ? (int)gone
               : store_fail(err, rc, "expiring models of events");
}
