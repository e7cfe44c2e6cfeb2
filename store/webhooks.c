#include "store/webhooks.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/digest.h"
#include "base/pack.h"
#include "store/internal.h"
#include "store/key.h"

enum {
    TARGET_VERSION = 1,
    TARGET_MEMBERS = 10,
    WORDS_MAX = 200,
    DUE_KEY_BYTES = WEBHOOK_TARGET_BYTES + 8 + WEBHOOK_PLACE_BYTES,
    DUE_BYTES = 4 + 8,
    FAILED_HEAD_BYTES = 8 + 4 + 4, /* then the words */
    US_PER_MS = 1000,
    KINDS_ALL = (1 << WEBHOOK_KIND_END) - 2, /* without WEBHOOK_NONE */
};

#define KEY_NAME     SLICE("webhook_signing_key")
#define VERSION_NAME SLICE("webhook_version")

/* -------- rows -------- */

static struct key kind_key(uint32_t domain, enum webhook_kind kind)
{
    struct key k = {.len = 0};

    key_u32(&k, domain);
    key_u8(&k, (uint8_t)kind);
    return k;
}

static struct key target_key(const uint8_t id[WEBHOOK_TARGET_BYTES])
{
    struct key k = {.len = 0};

    key_bytes(&k, slice_of(id, WEBHOOK_TARGET_BYTES));
    return k;
}

static struct key due_key(const uint8_t id[WEBHOOK_TARGET_BYTES], uint64_t due_ms,
                          const uint8_t place[WEBHOOK_PLACE_BYTES])
{
    struct key k = target_key(id);

    key_u64(&k, due_ms);
    key_bytes(&k, slice_of(place, WEBHOOK_PLACE_BYTES));
    return k;
}

static int due_put(struct store_txn *t, const struct key *k, uint32_t attempts, uint64_t first_ms,
                   struct err *err)
{
    struct key value = {.len = 0};

    key_u32(&value, attempts);
    key_u64(&value, first_ms);
    return store_put(t, DB_WEBHOOK_DUE, key_slice(k), key_slice(&value), err);
}

static void target_id(struct slice domain, struct slice url, uint8_t id[WEBHOOK_TARGET_BYTES])
{
    const struct slice parts[] = {domain, url};
    uint8_t hash[SHA256_BYTES];

    digest_sha256_parts(parts, 2, hash);
    memcpy(id, hash, WEBHOOK_TARGET_BYTES);
}

static bool target_read(struct slice key, struct slice value, struct webhook_target *target)
{
    struct unpack u = unpack_over(value);

    if (key.len != WEBHOOK_TARGET_BYTES || unpack_array(&u) != TARGET_MEMBERS ||
        unpack_u64(&u) != TARGET_VERSION)
        return false;
    *target = (struct webhook_target){.domain = unpack_str(&u)};
    memcpy(target->id, key.ptr, WEBHOOK_TARGET_BYTES);
    target->url = unpack_str(&u);
    target->taken = unpack_u64(&u);
    target->refused = unpack_u64(&u);
    target->taken_us = unpack_u64(&u);
    target->failed_us = unpack_u64(&u);
    target->failures = (uint32_t)unpack_u64(&u);
    target->status = (uint32_t)unpack_u64(&u);
    target->words = unpack_str(&u);
    return unpack_done(&u);
}

static int target_put(struct store_txn *t, const struct webhook_target *target, struct err *err)
{
    struct key k = target_key(target->id);
    struct buf packed = {0};

    pack_array(&packed, TARGET_MEMBERS);
    pack_u64(&packed, TARGET_VERSION);
    pack_str(&packed, target->domain);
    pack_str(&packed, target->url);
    pack_u64(&packed, target->taken);
    pack_u64(&packed, target->refused);
    pack_u64(&packed, target->taken_us);
    pack_u64(&packed, target->failed_us);
    pack_u64(&packed, target->failures);
    pack_u64(&packed, target->status);
    pack_str(&packed, slice_head(target->words, WORDS_MAX));
    int rc = store_put(t, DB_WEBHOOK_TARGETS, key_slice(&k), buf_slice(&packed), err);
    buf_fini(&packed);
    return rc;
}

bool webhook_target_get(struct store_txn *t, const uint8_t id[WEBHOOK_TARGET_BYTES],
                        struct webhook_target *target)
{
    struct key k = target_key(id);
    struct slice value;

    return store_get(t, DB_WEBHOOK_TARGETS, key_slice(&k), &value) &&
           target_read(key_slice(&k), value, target);
}

/* -------- the configuration -------- */

/* The targets of a kind. */
struct ids {
    uint8_t at[WEBHOOK_URLS_MAX][WEBHOOK_TARGET_BYTES];
    size_t count;
};

static void ids_get(struct store_txn *t, uint32_t domain, enum webhook_kind kind, struct ids *ids)
{
    struct key k = kind_key(domain, kind);
    struct slice value;

    ids->count = 0;
    if (domain == 0 || !store_get(t, DB_WEBHOOKS, key_slice(&k), &value) ||
        value.len % WEBHOOK_TARGET_BYTES != 0 || value.len > sizeof ids->at)
        return;
    memcpy(ids->at, value.ptr, value.len);
    ids->count = value.len / WEBHOOK_TARGET_BYTES;
}

static int ids_put(struct store_txn *t, uint32_t domain, enum webhook_kind kind,
                   const struct ids *ids, struct err *err)
{
    struct key k = kind_key(domain, kind);

    if (ids->count == 0)
        return store_del(t, DB_WEBHOOKS, key_slice(&k), err);
    return store_put(t, DB_WEBHOOKS, key_slice(&k),
                     slice_of(ids->at, ids->count * WEBHOOK_TARGET_BYTES), err);
}

static size_t ids_find(const struct ids *ids, const uint8_t id[WEBHOOK_TARGET_BYTES])
{
    for (size_t i = 0; i < ids->count; i++)
        if (memcmp(ids->at[i], id, WEBHOOK_TARGET_BYTES) == 0)
            return i;
    return SIZE_MAX;
}

static void ids_remove(struct ids *ids, size_t at)
{
    memmove(ids->at[at], ids->at[at + 1], (ids->count - at - 1) * WEBHOOK_TARGET_BYTES);
    ids->count--;
}

size_t webhook_urls(struct store_txn *t, struct slice domain, enum webhook_kind kind,
                    struct slice urls[WEBHOOK_URLS_MAX])
{
    size_t count = 0;
    struct ids ids;

    ids_get(t, store_domain_find(t, domain), kind, &ids);
    for (size_t i = 0; i < ids.count; i++) {
        struct webhook_target target;
        if (webhook_target_get(t, ids.at[i], &target))
            urls[count++] = target.url;
    }
    return count;
}

unsigned webhook_target_kinds(struct store_txn *t, const struct webhook_target *target)
{
    uint32_t domain = store_domain_find(t, target->domain);
    unsigned kinds = 0;

    for (unsigned kind = WEBHOOK_NONE + 1; kind < WEBHOOK_KIND_END; kind++) {
        struct ids ids;
        ids_get(t, domain, (enum webhook_kind)kind, &ids);
        if (ids_find(&ids, target->id) != SIZE_MAX)
            kinds |= 1u << kind;
    }
    return kinds;
}

void webhook_target_each(struct store_txn *t, webhook_target_visitor *visit, void *arg)
{
    MDB_cursor *cursor;
    MDB_val k, v;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_WEBHOOK_TARGETS], &cursor) != MDB_SUCCESS)
        return;
    for (int rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST); rc == MDB_SUCCESS;
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        struct webhook_target target;
        if (target_read(store_slice(k), store_slice(v), &target) && !visit(arg, &target))
            break;
    }
    mdb_cursor_close(cursor);
}

uint64_t webhook_version(struct store_txn *t)
{
    struct slice value;

    return store_get(t, DB_META, VERSION_NAME, &value) && value.len == 8 ? read_be(value.ptr, 8)
                                                                         : 0;
}

struct slice webhook_signing_key(struct store_txn *t)
{
    struct slice value;

    return store_get(t, DB_META, KEY_NAME, &value) && value.len == WEBHOOK_KEY_CHARS ? value
                                                                                     : slice_none();
}

/* Of every change. */
static int note_change(struct store_txn *t, struct err *err)
{
    uint8_t random[WEBHOOK_KEY_CHARS / 2];
    struct key version = {.len = 0};
    struct buf text = {0};

    key_u64(&version, webhook_version(t) + 1);
    if (store_put(t, DB_META, VERSION_NAME, key_slice(&version), err) != 0)
        return -1;
    if (webhook_signing_key(t).len != 0)
        return 0;
    digest_random(random, sizeof random);
    text_hex(&text, slice_of(random, sizeof random));
    int rc = store_put(t, DB_META, KEY_NAME, buf_slice(&text), err);
    buf_fini(&text);
    return rc;
}

/* The URLs of a request: their targets. */
struct wanted {
    uint32_t domain;
    struct slice urls[WEBHOOK_URLS_MAX];
    struct ids ids;
};

/* False: *words says why not. */
static bool read_urls(const struct record_webhook *r, struct wanted *w, struct buf *words)
{
    struct unpack u = unpack_over(r->urls);
    uint32_t count = unpack_array(&u);

    w->ids.count = 0;
    for (uint32_t i = 0; i < count && unpack_ok(&u); i++) {
        uint8_t id[WEBHOOK_TARGET_BYTES];
        struct slice url = unpack_str(&u);
        const char *why;
        if (!webhook_url_is_valid(url, &why)) {
            buf_printf(words, "%.*s is not a valid url: %s", SLICE_ARGS(slice_head(url, WORDS_MAX)),
                       why);
            return false;
        }
        target_id(r->domain, url, id);
        if (ids_find(&w->ids, id) != SIZE_MAX)
            continue;
        if (w->ids.count == WEBHOOK_URLS_MAX) {
            buf_printf(words, "A webhook may have up to %d URLs", WEBHOOK_URLS_MAX);
            return false;
        }
        w->urls[w->ids.count] = url;
        memcpy(w->ids.at[w->ids.count++], id, WEBHOOK_TARGET_BYTES);
    }
    if (!unpack_done(&u))
        buf_add_str(words, "the URLs cannot be read");
    return unpack_done(&u);
}

/* Every URL that is asked for has its target. */
static int put_targets(struct store_txn *t, const struct record_webhook *r, const struct wanted *w,
                       struct err *err)
{
    for (size_t i = 0; i < w->ids.count; i++) {
        struct webhook_target target;
        if (webhook_target_get(t, w->ids.at[i], &target))
            continue;
        target = (struct webhook_target){.domain = r->domain, .url = w->urls[i]};
        memcpy(target.id, w->ids.at[i], WEBHOOK_TARGET_BYTES);
        if (target_put(t, &target, err) != 0)
            return -1;
    }
    return 0;
}

/* What the kind's targets are to be. */
static enum answer_verdict change_kind(const struct record_webhook *r, const struct wanted *w,
                                       enum webhook_kind kind, bool is_named, struct ids *ids,
                                       struct buf *words)
{
    switch ((enum webhook_change)r->change) {
    case WEBHOOK_REPLACE:
        if (is_named && ids->count == 0)
            return ANSWER_NOT_FOUND;
        if (is_named)
            *ids = w->ids;
        return ANSWER_OK;
    case WEBHOOK_CLEAR:
        if (is_named && ids->count == 0)
            return ANSWER_NOT_FOUND;
        if (is_named)
            ids->count = 0;
        return ANSWER_OK;
    case WEBHOOK_ADD:
    case WEBHOOK_MOVE:
    case WEBHOOK_REMOVE:
        break;
    }
    for (size_t i = 0; i < w->ids.count; i++) {
        size_t at = ids_find(ids, w->ids.at[i]);
        bool adds = is_named && r->change != WEBHOOK_REMOVE;
        if (adds && at != SIZE_MAX && r->change == WEBHOOK_ADD) {
            buf_printf(words, "Webhook for event type '%s' with URL '%.*s' already exists",
                       webhook_kind_name(kind), SLICE_ARGS(w->urls[i]));
            return ANSWER_REFUSED;
        }
        if (adds && at == SIZE_MAX && ids->count == WEBHOOK_URLS_MAX) {
            buf_printf(words, "A webhook may have up to %d URLs, '%s' has as many",
                       WEBHOOK_URLS_MAX, webhook_kind_name(kind));
            return ANSWER_LIMIT;
        }
        if (adds && at == SIZE_MAX)
            memcpy(ids->at[ids->count++], w->ids.at[i], WEBHOOK_TARGET_BYTES);
        else if (!adds && at != SIZE_MAX && r->change != WEBHOOK_ADD)
            ids_remove(ids, at);
    }
    return ANSWER_OK;
}

static bool is_anywhere(struct store_txn *t, const struct wanted *w)
{
    for (unsigned kind = WEBHOOK_NONE + 1; kind < WEBHOOK_KIND_END; kind++) {
        struct ids ids;
        ids_get(t, w->domain, (enum webhook_kind)kind, &ids);
        for (size_t i = 0; i < w->ids.count; i++)
            if (ids_find(&ids, w->ids.at[i]) != SIZE_MAX)
                return true;
    }
    return false;
}

/* Is the record itself one that makes sense? */
static bool is_sound(const struct record_webhook *r, const struct wanted *w)
{
    bool has_kinds = (r->kinds & KINDS_ALL) == r->kinds;

    switch ((enum webhook_change)r->change) {
    case WEBHOOK_ADD:
    case WEBHOOK_REPLACE:
        return has_kinds && r->kinds != 0 && w->ids.count > 0;
    case WEBHOOK_CLEAR:
        return has_kinds && r->kinds != 0;
    case WEBHOOK_MOVE:
        return has_kinds && w->ids.count == 1;
    case WEBHOOK_REMOVE:
        return w->ids.count > 0;
    }
    return false;
}

int webhook_change(struct store_txn *t, const struct record_webhook *r,
                   enum answer_verdict *verdict, struct buf *words, struct err *err)
{
    struct ids ids[WEBHOOK_KIND_END];
    struct wanted w = {.domain = store_domain_intern(t, r->domain, err)};

    if (w.domain == 0)
        return -1;
    *verdict = ANSWER_REFUSED;
    if (!read_urls(r, &w, words))
        return 0;
    if (!is_sound(r, &w)) {
        buf_add_str(words, "the change cannot be read");
        return 0;
    }
    if ((r->change == WEBHOOK_MOVE || r->change == WEBHOOK_REMOVE) && !is_anywhere(t, &w)) {
        *verdict = ANSWER_NOT_FOUND;
        return 0;
    }
    /* All of it or nothing. */
    for (unsigned kind = WEBHOOK_NONE + 1; kind < WEBHOOK_KIND_END; kind++) {
        ids_get(t, w.domain, (enum webhook_kind)kind, &ids[kind]);
        *verdict = change_kind(r, &w, (enum webhook_kind)kind, (r->kinds >> kind & 1) != 0,
                               &ids[kind], words);
        if (*verdict != ANSWER_OK)
            return 0;
    }
    for (unsigned kind = WEBHOOK_NONE + 1; kind < WEBHOOK_KIND_END; kind++)
        if (ids_put(t, w.domain, (enum webhook_kind)kind, &ids[kind], err) != 0)
            return -1;
    return put_targets(t, r, &w, err) != 0 ? -1 : note_change(t, err);
}

/* -------- what is to be told -------- */

int webhook_enqueue(struct store_txn *t, uint32_t domain, const struct event *e, uint32_t count,
                    uint64_t now_us, struct err *err)
{
    enum webhook_kind kind = webhook_kind_of(e);
    uint64_t now_ms = now_us / US_PER_MS;
    struct key place = {.len = 0};
    struct ids ids = {.count = 0};

    if (kind != WEBHOOK_NONE)
        ids_get(t, domain, kind, &ids);
    if (ids.count == 0)
        return 0;
    key_u64(&place, e->timestamp_us);
    key_bytes(&place, slice_of(e->id, EVENT_ID_BYTES));
    uint8_t *low = place.at + WEBHOOK_PLACE_BYTES - EVENT_ORDINAL_BYTES;
    uint32_t ordinal = (uint32_t)read_be(low, EVENT_ORDINAL_BYTES);
    for (uint32_t i = 0; i < count; i++) {
        if (count > 1) {
            low[0] = (uint8_t)((ordinal + i) >> 8);
            low[1] = (uint8_t)(ordinal + i);
        }
        for (size_t n = 0; n < ids.count; n++) {
            struct key k = due_key(ids.at[n], now_ms, place.at);
            if (due_put(t, &k, 0, now_ms, err) != 0)
                return -1;
        }
    }
    t->store->has_enqueued = true;
    return 0;
}

bool webhook_has_enqueued(struct store_txn *t)
{
    return t->store->has_enqueued;
}

static bool due_read(struct slice key, struct slice value, struct webhook_due *row)
{
    if (key.len != DUE_KEY_BYTES || value.len != DUE_BYTES)
        return false;
    row->due_ms = read_be(key.ptr + WEBHOOK_TARGET_BYTES, 8);
    memcpy(row->place, key.ptr + WEBHOOK_TARGET_BYTES + 8, WEBHOOK_PLACE_BYTES);
    row->attempts = (uint32_t)read_be(value.ptr, 4);
    row->first_ms = read_be(value.ptr + 4, 8);
    return true;
}

/* The target's first row from this key on, but not that of the key itself. */
static bool due_past(struct store_txn *t, const uint8_t target[WEBHOOK_TARGET_BYTES],
                     const struct key *from, struct webhook_due *row)
{
    MDB_cursor *cursor;
    MDB_val k = store_val(key_slice(from)), v;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_WEBHOOK_DUE], &cursor) != MDB_SUCCESS)
        return false;
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    if (rc == MDB_SUCCESS && slice_eq(store_slice(k), key_slice(from)))
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    bool found = rc == MDB_SUCCESS &&
                 slice_starts(store_slice(k), slice_of(target, WEBHOOK_TARGET_BYTES)) &&
                 due_read(store_slice(k), store_slice(v), row);
    mdb_cursor_close(cursor);
    return found;
}

bool webhook_due_first(struct store_txn *t, const uint8_t target[WEBHOOK_TARGET_BYTES],
                       struct webhook_due *row)
{
    struct key from = target_key(target);

    return due_past(t, target, &from, row);
}

bool webhook_due_next(struct store_txn *t, const uint8_t target[WEBHOOK_TARGET_BYTES],
                      struct webhook_due *row)
{
    struct key from = due_key(target, row->due_ms, row->place);

    return due_past(t, target, &from, row);
}

uint64_t webhook_due_count(struct store_txn *t, const uint8_t target[WEBHOOK_TARGET_BYTES],
                           uint64_t most)
{
    struct key prefix = target_key(target);
    MDB_cursor *cursor;
    MDB_val k = store_val(key_slice(&prefix)), v;
    uint64_t count = 0;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_WEBHOOK_DUE], &cursor) != MDB_SUCCESS)
        return 0;
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    for (; rc == MDB_SUCCESS && count < most && slice_starts(store_slice(k), key_slice(&prefix));
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT))
        count++;
    mdb_cursor_close(cursor);
    return count;
}

void webhook_counts(struct store_txn *t, uint64_t *waiting, uint64_t *failed)
{
    MDB_stat stat;

    *waiting =
        mdb_stat(t->mdb, t->store->dbi[DB_WEBHOOK_DUE], &stat) == MDB_SUCCESS ? stat.ms_entries : 0;
    *failed = mdb_stat(t->mdb, t->store->dbi[DB_WEBHOOK_FAILED], &stat) == MDB_SUCCESS
                  ? stat.ms_entries
                  : 0;
}

static int failed_put(struct store_txn *t, const struct record_posted *r, uint32_t attempts,
                      struct err *err)
{
    struct key k = {.len = 0}, head = {.len = 0};
    struct buf value = {0};

    key_bytes(&k, r->target);
    key_bytes(&k, r->place);
    key_u64(&head, r->at_wall_ms * US_PER_MS);
    key_u32(&head, attempts);
    key_u32(&head, r->status);
    buf_add_slice(&value, key_slice(&head));
    buf_add_slice(&value, slice_head(r->words, WORDS_MAX));
    int rc = store_put(t, DB_WEBHOOK_FAILED, key_slice(&k), buf_slice(&value), err);
    buf_fini(&value);
    return rc;
}

/* How it went, for people. */
static int note_outcome(struct store_txn *t, const struct record_posted *r,
                        enum webhook_result result, struct err *err)
{
    struct webhook_target target;

    if (!webhook_target_get(t, r->target.ptr, &target))
        return 0;
    /* The row is put anew below: its texts are copied first. */
    struct arena arena = {0};
    target.domain = arena_dup(&arena, target.domain);
    target.url = arena_dup(&arena, target.url);
    target.words = arena_dup(&arena, target.words);
    if (result == WEBHOOK_TAKEN) {
        target.taken++;
        target.taken_us = r->at_wall_ms * US_PER_MS;
        target.failures = 0;
    } else {
        target.refused += result == WEBHOOK_GIVEN_UP;
        target.failed_us = r->at_wall_ms * US_PER_MS;
        target.failures += target.failures < UINT32_MAX;
        target.status = r->status;
        target.words = r->words;
    }
    int rc = target_put(t, &target, err);
    arena_fini(&arena);
    return rc;
}

int webhook_posted(struct store_txn *t, const struct record_posted *r, const uint64_t *retries_ms,
                   size_t retries, enum webhook_result *result, struct err *err)
{
    struct webhook_due row;
    struct slice value;

    *result = WEBHOOK_NOTHING;
    if (r->target.len != WEBHOOK_TARGET_BYTES || r->place.len != WEBHOOK_PLACE_BYTES ||
        r->verdict > POSTED_GONE)
        return 0;
    struct key k = due_key(r->target.ptr, r->due_ms, r->place.ptr);
    if (!store_get(t, DB_WEBHOOK_DUE, key_slice(&k), &value) ||
        !due_read(key_slice(&k), value, &row))
        return 0; /* applied before, or its URL is no longer configured */
    if (store_del(t, DB_WEBHOOK_DUE, key_slice(&k), err) != 0)
        return -1;
    switch ((enum posted)r->verdict) {
    case POSTED_GONE:
        return 0;
    case POSTED_TAKEN:
        *result = WEBHOOK_TAKEN;
        break;
    case POSTED_REFUSED:
        *result = WEBHOOK_GIVEN_UP;
        break;
    case POSTED_FAILED:
        *result = row.attempts < retries ? WEBHOOK_AGAIN : WEBHOOK_GIVEN_UP;
        break;
    }
    if (*result == WEBHOOK_AGAIN) {
        struct key next =
            due_key(r->target.ptr, r->at_wall_ms + retries_ms[row.attempts], r->place.ptr);
        if (due_put(t, &next, row.attempts + 1, row.first_ms, err) != 0)
            return -1;
    } else if (*result == WEBHOOK_GIVEN_UP && failed_put(t, r, row.attempts + 1, err) != 0) {
        return -1;
    }
    return note_outcome(t, r, *result, err);
}

/* -------- what was given up -------- */

static bool failed_read(struct slice key, struct slice value, struct webhook_failure *f)
{
    if (key.len != WEBHOOK_FAILURE_BYTES || value.len < FAILED_HEAD_BYTES)
        return false;
    memcpy(f->id, key.ptr, WEBHOOK_FAILURE_BYTES);
    f->failed_us = read_be(value.ptr, 8);
    f->attempts = (uint32_t)read_be(value.ptr + 8, 4);
    f->status = (uint32_t)read_be(value.ptr + 12, 4);
    f->words = slice_from(value, FAILED_HEAD_BYTES);
    return true;
}

void webhook_failure_each(struct store_txn *t, const uint8_t *target,
                          webhook_failure_visitor *visit, void *arg)
{
    struct key prefix = {0};
    MDB_cursor *cursor;
    MDB_val k, v;

    if (target != NULL)
        prefix = target_key(target);
    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_WEBHOOK_FAILED], &cursor) != MDB_SUCCESS)
        return;
    k = store_val(key_slice(&prefix));
    int rc = mdb_cursor_get(cursor, &k, &v, target != NULL ? MDB_SET_RANGE : MDB_FIRST);
    for (; rc == MDB_SUCCESS && slice_starts(store_slice(k), key_slice(&prefix));
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        struct webhook_failure f;
        if (failed_read(store_slice(k), store_slice(v), &f) && !visit(arg, &f))
            break;
    }
    mdb_cursor_close(cursor);
}

int webhook_control(struct store_txn *t, const struct record_control *r, uint64_t now_ms,
                    enum answer_verdict *verdict, uint32_t *count, struct buf *words,
                    struct err *err)
{
    *verdict = ANSWER_OK;
    *count = 0;
    if (r->ids.len % WEBHOOK_FAILURE_BYTES != 0) {
        *verdict = ANSWER_REFUSED;
        buf_add_str(words, "these are no ids of webhook failures");
        return 0;
    }
    for (size_t at = 0; at < r->ids.len; at += WEBHOOK_FAILURE_BYTES) {
        struct slice id = slice_of(r->ids.ptr + at, WEBHOOK_FAILURE_BYTES), value;
        if (!store_get(t, DB_WEBHOOK_FAILED, id, &value))
            continue;
        struct key k = due_key(id.ptr, now_ms, id.ptr + WEBHOOK_TARGET_BYTES);
        if (store_del(t, DB_WEBHOOK_FAILED, id, err) != 0 ||
            (r->verb == CONTROL_WEBHOOK_REPLAY && due_put(t, &k, 0, now_ms, err) != 0))
            return -1;
        t->store->has_enqueued = t->store->has_enqueued || r->verb == CONTROL_WEBHOOK_REPLAY;
        ++*count;
    }
    if (*count == 0)
        *verdict = ANSWER_NOT_FOUND;
    buf_printf(words, "%" PRIu32 " events %s", *count,
               r->verb == CONTROL_WEBHOOK_DROP ? "are dropped" : "are told again");
    return 0;
}

/* -------- keeping it small -------- */

static bool has_failed(struct store_txn *t, const uint8_t id[WEBHOOK_TARGET_BYTES])
{
    struct key prefix = target_key(id);
    MDB_cursor *cursor;
    MDB_val k = store_val(key_slice(&prefix)), v;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_WEBHOOK_FAILED], &cursor) != MDB_SUCCESS)
        return true;
    bool found = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE) == MDB_SUCCESS &&
                 slice_starts(store_slice(k), key_slice(&prefix));
    mdb_cursor_close(cursor);
    return found;
}

static int sweep_target(struct store_txn *t, const uint8_t id[WEBHOOK_TARGET_BYTES], uint32_t limit,
                        struct err *err)
{
    struct webhook_due row;
    uint32_t gone = 0;

    for (; gone < limit && webhook_due_first(t, id, &row); gone++) {
        struct key k = due_key(id, row.due_ms, row.place);
        if (store_del(t, DB_WEBHOOK_DUE, key_slice(&k), err) != 0)
            return -1;
    }
    struct key k = target_key(id);
    if (gone < limit && !has_failed(t, id)) {
        if (store_del(t, DB_WEBHOOK_TARGETS, key_slice(&k), err) != 0)
            return -1;
        gone++;
    }
    return (int)gone;
}

struct sweeping {
    struct store_txn *t;
    struct buf ids;
};

static bool note_unconfigured(void *arg, const struct webhook_target *target)
{
    struct sweeping *s = arg;

    if (webhook_target_kinds(s->t, target) == 0)
        buf_add(&s->ids, target->id, WEBHOOK_TARGET_BYTES);
    return true;
}

int webhook_sweep(struct store_txn *t, uint32_t limit, struct err *err)
{
    struct sweeping s = {.t = t};
    uint32_t gone = 0;
    int got = 0;

    webhook_target_each(t, note_unconfigured, &s);
    for (size_t at = 0; at < s.ids.len && gone < limit && got >= 0; at += WEBHOOK_TARGET_BYTES) {
        got = sweep_target(t, s.ids.ptr + at, limit - gone, err);
        gone += got > 0 ? (uint32_t)got : 0;
    }
    buf_fini(&s.ids);
    return got < 0 ? -1 : (int)gone;
}

/* -------- checking -------- */

struct checking {
    struct store_txn *t;
    void (*problem)(void *arg, const char *words);
    void *arg;
};

static void __attribute__((format(printf, 2, 3)))
complain(const struct checking *c, const char *format, ...)
{
    char words[256];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(words, sizeof words, format, args);
    va_end(args);
    c->problem(c->arg, words);
}

static void check_kind_row(const struct checking *c, struct slice key, struct slice value)
{
    bool fits = key.len == 5 && key.ptr[4] > WEBHOOK_NONE && key.ptr[4] < WEBHOOK_KIND_END &&
                value.len > 0 && value.len <= WEBHOOK_URLS_MAX * WEBHOOK_TARGET_BYTES &&
                value.len % WEBHOOK_TARGET_BYTES == 0;

    if (!fits)
        complain(c, "webhooks: a kind's targets cannot be read");
    for (size_t at = 0; fits && at < value.len; at += WEBHOOK_TARGET_BYTES) {
        struct webhook_target target;
        if (!webhook_target_get(c->t, value.ptr + at, &target))
            complain(c, "webhooks: kind %u names a target that does not exist", key.ptr[4]);
        else if (store_domain_find(c->t, target.domain) != read_be(key.ptr, 4))
            complain(c, "webhooks: kind %u names another domain's target", key.ptr[4]);
    }
}

static void check_target_row(const struct checking *c, struct slice key, struct slice value)
{
    uint8_t id[WEBHOOK_TARGET_BYTES];
    struct webhook_target target;

    if (!target_read(key, value, &target)) {
        complain(c, "webhooks: a target cannot be read");
        return;
    }
    target_id(target.domain, target.url, id);
    if (memcmp(id, target.id, sizeof id) != 0)
        complain(c, "webhooks: a target of %.*s has another one's id", SLICE_ARGS(target.domain));
}

static void check_due_row(const struct checking *c, struct slice key, struct slice value)
{
    struct webhook_target target;
    struct webhook_due row;

    if (!due_read(key, value, &row))
        complain(c, "webhooks: a due row cannot be read");
    else if (!webhook_target_get(c->t, key.ptr, &target))
        complain(c, "webhooks: an event is due at a target that does not exist");
}

static void check_failed_row(const struct checking *c, struct slice key, struct slice value)
{
    struct webhook_target target;
    struct webhook_failure f;

    if (!failed_read(key, value, &f))
        complain(c, "webhooks: a failed row cannot be read");
    else if (!webhook_target_get(c->t, key.ptr, &target))
        complain(c, "webhooks: an event failed at a target that does not exist");
}

void webhook_check(struct store_txn *t, void (*problem)(void *arg, const char *words), void *arg)
{
    static const struct {
        enum store_db db;
        void (*row)(const struct checking *c, struct slice key, struct slice value);
    } tables[] = {
        {DB_WEBHOOKS, check_kind_row},
        {DB_WEBHOOK_TARGETS, check_target_row},
        {DB_WEBHOOK_DUE, check_due_row},
        {DB_WEBHOOK_FAILED, check_failed_row},
    };
    const struct checking c = {t, problem, arg};

    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        MDB_cursor *cursor;
        MDB_val k, v;
        if (mdb_cursor_open(t->mdb, t->store->dbi[tables[i].db], &cursor) != MDB_SUCCESS)
            continue;
        for (int rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST); rc == MDB_SUCCESS;
             rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT))
            tables[i].row(&c, store_slice(k), store_slice(v));
        mdb_cursor_close(cursor);
    }
}
