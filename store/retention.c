#include "store/retention.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"
#include "mail/form.h"
#include "store/batch_write.h"
#include "store/counters.h"
#include "store/deadletters.h"
#include "store/events.h"
#include "store/gates.h"
#include "store/internal.h"
#include "store/key.h"
#include "store/reputation.h"
#include "store/suppressions.h"
#include "store/taken.h"
#include "store/webhooks.h"

enum {
    US_PER_MS = 1000,
    BATCHES_PER_STEP = 20,           /* looked at */
    PRESSURE_SLICE_MS = 3600 * 1000, /* an hour of events at a time */
    SAY_AGAIN_MS = 24 * 3600 * 1000,
};

/* What is looked at in turn. */
enum stage {
    STAGE_EVENTS,
    STAGE_IDS,
    STAGE_BATCHES,
    STAGE_LETTERS,
    STAGE_UNIQUES,
    STAGE_WEBHOOKS,
    STAGE_COUNTERS, /* from here on: tables that are walked */
    STAGE_DIGESTS,
    STAGE_SOFT_BOUNCES,
    STAGE_UNHEARD,
    STAGE_LIFTED,
    STAGE_TAGS,
    STAGE_REPUTATION,
    STAGE_WEBHOOK_FAILURES,
    STAGE_ELSEWHERE,
    STAGE_POSTED,
    STAGE_PARTS,
    STAGE_SERVED,
    STAGE_VERSIONS,
    STAGE_EXPANDED,
    STAGE_END,
};

struct retention {
    const struct config *config;
    enum stage stage;
    uint64_t rest_until_mono_ms, walked_mono_ms, said_mono_ms;
    bool walk; /* this round goes on to the tables that are walked */
    bool has_walked;
    bool freed;           /* something went in this round */
    uint64_t batch_past;  /* batches up to this one were looked at in this round */
    uint32_t last_domain; /* of the row that the walk of the reputation met last; 0 = none yet */
    struct buf place;     /* where the walk of a table goes on; empty = at its start */
    struct arena arena;
};

struct retention *retention_create(const struct config *config)
{
    struct retention *r = mem_zero(1, sizeof *r);

    r->config = config;
    return r;
}

void retention_destroy(struct retention *r)
{
    if (r == NULL)
        return;
    buf_fini(&r->place);
    arena_fini(&r->arena);
    free(r);
}

bool retention_is_due(const struct retention *r, uint64_t now_mono_ms)
{
    return now_mono_ms >= r->rest_until_mono_ms;
}

static uint64_t before(uint64_t now_ms, uint64_t kept_ms)
{
    return now_ms > kept_ms ? now_ms - kept_ms : 0;
}

/* -------- batches -------- */

/* Claims, message ids and slices, while the recipients are still there to tell them. */
static int drop_slices(struct retention *r, struct store_txn *t, uint64_t id,
                       const struct message_head *head, struct err *err)
{
    for (uint32_t slice = 0; slice < slice_count_of(head->recipient_count); slice++) {
        struct submission part = {.head = *head};
        struct buf claims = {0};
        struct slice packed;
        struct key k = {.len = 0};
        uint64_t owner;
        int rc = 0;

        if (batch_recipients(t, id, slice, &packed) &&
            recipients_unpack(packed, &r->arena, &part.recipients, &part.recipient_count))
            submission_claims(&part, &claims);
        size_t key_count = part.recipient_count;
        const uint8_t *keys = message_keys_of(head, part.recipients, &key_count, &r->arena);
        rc = message_keys_del(t, id, keys, key_count, err);
        for (size_t at = 0; at + CLAIM_BYTES <= claims.len && rc == 0; at += CLAIM_BYTES)
            if (claim_get(t, claims.ptr + at, &owner) && owner == id)
                rc = claim_del(t, claims.ptr + at, err);
        buf_fini(&claims);
        key_u64(&k, id);
        key_u32(&k, slice);
        if (rc != 0 || store_del(t, DB_RECIPIENTS, key_slice(&k), err) != 0 ||
            store_del(t, DB_STATES, key_slice(&k), err) != 0)
            return -1;
    }
    return 0;
}

static int drop_batch(struct retention *r, struct store_txn *t, uint64_t id, struct slice packed,
                      struct err *err)
{
    uint8_t key[MESSAGE_KEY_BYTES];
    struct message_head head;
    struct key k = {.len = 0};

    arena_reset(&r->arena);
    /* Deletions move what the texts point to. */
    if (message_head_unpack(arena_dup(&r->arena, packed), &r->arena, &head)) {
        message_key(head.domain, head.message_id, key);
        if (drop_slices(r, t, id, &head, err) != 0 || message_keys_del(t, id, key, 1, err) != 0)
            return -1;
    }
    key_u64(&k, id);
    if (store_del(t, DB_CONTENTS, key_slice(&k), err) != 0 ||
        store_del(t, DB_BOOKS, key_slice(&k), err) != 0 ||
        batch_mark_put(t, id, MARK_NONE, err) != 0 || taken_del(t, id, err) != 0)
        return -1;
    return store_del(t, DB_BATCHES, key_slice(&k), err);
}

static bool is_settled(struct store_txn *t, uint64_t id)
{
    struct books b;
    struct key k = {.len = 0};
    struct slice row;

    key_u64(&k, id);
    return batch_books(t, id, &b) &&
           b.state[STATE_PENDING] + b.state[STATE_LEASED] + b.state[STATE_DOUBT] == 0 &&
           !store_get(t, DB_EXPANDING, key_slice(&k), &row);
}

/* The next batch of the round; 0 = there is none. */
static uint64_t next_batch(struct store_txn *t, uint64_t past, struct slice *packed)
{
    struct key from = {.len = 0};
    MDB_cursor *cursor;
    uint64_t id = 0;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_BATCHES], &cursor) != MDB_SUCCESS)
        return 0;
    key_u64(&from, past + 1);
    MDB_val k = store_val(key_slice(&from)), v;
    if (mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE) == MDB_SUCCESS && k.mv_size == 8) {
        id = read_be(k.mv_data, 8);
        *packed = store_slice(v);
    }
    mdb_cursor_close(cursor);
    return id;
}

/* Ids begin with milliseconds. Those that are open stay, and are looked at again next round. A claim
 * of each recipient lies somewhere else, so it is they who make a step long. */
static int drop_batches(struct retention *r, struct store_txn *t, uint64_t before_ms,
                        struct err *err)
{
    uint64_t recipients = 0;

    for (int n = 0; n < BATCHES_PER_STEP && recipients < RETENTION_STEP; n++) {
        struct slice packed;
        struct books b = {.accepted = 0};
        uint64_t id = next_batch(t, r->batch_past, &packed);
        if (id == 0 || id >> 20 >= before_ms)
            return 0;
        r->batch_past = id;
        if (!is_settled(t, id))
            continue;
        (void)batch_books(t, id, &b);
        recipients += b.accepted;
        if (drop_batch(r, t, id, packed, err) != 0)
            return -1;
        r->freed = true;
    }
    return 1;
}

/* -------- tables that are walked -------- */

/* Should this row go? Asked of one after the other, in order. */
typedef bool row_is_old(struct retention *r, struct slice key, struct slice value,
                        uint64_t before_us);

static int walk(struct retention *r, struct store_txn *t, enum store_db db, row_is_old *is_old,
                uint64_t before_us, struct err *err)
{
    MDB_cursor *cursor;
    MDB_val k = store_val(buf_slice(&r->place)), v;
    int rc = mdb_cursor_open(t->mdb, t->store->dbi[db], &cursor), n = 0;

    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "walking a table");
    rc = mdb_cursor_get(cursor, &k, &v, r->place.len == 0 ? MDB_FIRST : MDB_SET_RANGE);
    for (; rc == MDB_SUCCESS && n < RETENTION_STEP; n++) {
        if (is_old(r, store_slice(k), store_slice(v), before_us) &&
            (rc = mdb_cursor_del(cursor, 0)) != MDB_SUCCESS)
            break;
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    buf_reset(&r->place);
    if (rc == MDB_SUCCESS)
        buf_add_slice(&r->place, store_slice(k));
    mdb_cursor_close(cursor);
    if (rc != MDB_SUCCESS && rc != MDB_NOTFOUND)
        return store_fail(err, rc, "walking a table");
    return rc == MDB_SUCCESS;
}

/* Times of soft bounces: the last one is the newest. */
static bool is_old_soft_bounce(struct retention *r, struct slice key, struct slice value,
                               uint64_t before_us)
{
    (void)r, (void)key;
    return value.len < 8 || read_be(value.ptr + value.len - 8, 8) < before_us;
}

/* Values that begin with a time. */
static bool is_old_first(struct retention *r, struct slice key, struct slice value,
                         uint64_t before_us)
{
    (void)r, (void)key;
    return value.len < 8 || read_be(value.ptr, 8) < before_us;
}

static bool is_old_unique(struct retention *r, struct slice key, struct slice value,
                          uint64_t before_us)
{
    (void)r;
    return unique_row_is_old(key, value, before_us);
}

/* Keys: domain, hour. A domain's first hour is when its warm-up began: it stays. */
static bool is_old_hour(struct retention *r, struct slice key, struct slice value,
                        uint64_t before_us)
{
    uint32_t domain = key.len == 8 ? (uint32_t)read_be(key.ptr, 4) : 0;
    bool first = domain != r->last_domain;

    (void)value;
    r->last_domain = domain;
    return !first && key.len == 8 && read_be(key.ptr + 4, 4) * HOUR_MS * US_PER_MS < before_us;
}

/* What is counted by batch, and who has opened it, stays as long as an event may come: the batch's
 * own record need not be there. */
static uint64_t uniques_before(const struct retention *r, uint64_t now_ms)
{
    uint64_t events_ms = r->config->retention.events_ms + RETENTION_IDS_KEPT_MS;
    uint64_t batches_ms = r->config->retention.batches_ms;

    return before(now_ms, events_ms > batches_ms ? events_ms : batches_ms);
}

/* What tells repeats on the buffer queue: SQS keeps a message for 14 days. */
static uint64_t buffer_before_us(const struct retention *r, uint64_t now_ms)
{
    uint64_t batches_ms = r->config->retention.batches_ms;
    uint64_t kept_ms = batches_ms > RETENTION_IDS_KEPT_MS ? batches_ms : RETENTION_IDS_KEPT_MS;

    return before(now_ms, kept_ms) * US_PER_MS;
}

static int walk_counters(struct retention *r, struct store_txn *t, uint64_t now_ms, struct err *err)
{
    const uint64_t hour_ms = 3600 * 1000;
    const struct counters_age age = {
        .hours_before = (uint32_t)(before(now_ms, RETENTION_HOURS_KEPT_MS) / hour_ms),
        .days_before = (uint32_t)(before(now_ms, RETENTION_DAYS_KEPT_MS) / (24 * hour_ms)),
        .batches_before_ms = uniques_before(r, now_ms),
    };

    return counters_expire(t, &age, &r->place, RETENTION_STEP, err);
}

/* -------- too much of it -------- */

static void say_pressure(struct retention *r, uint64_t used_bytes, uint64_t now_mono_ms)
{
    if (r->said_mono_ms != 0 && now_mono_ms - r->said_mono_ms < SAY_AGAIN_MS)
        return;
    r->said_mono_ms = now_mono_ms;
    log_warn("the store holds %" PRIu64 " MiB, more than retention.size (%" PRIu64
             " MiB): the oldest events and settled batches go before their time",
             used_bytes >> 20, r->config->retention.size_bytes >> 20);
}

/* Until when events and settled batches go, whatever their age: an hour of events at a time, and when
 * none are left all batches; but nothing of late. 0 = the store is not too large. */
static uint64_t pressed_until_ms(struct retention *r, struct store_txn *t, uint64_t now_wall_ms,
                                 uint64_t now_mono_ms)
{
    uint64_t spared_ms = before(now_wall_ms, RETENTION_SPARED_MS);
    uint64_t used_bytes = store_used_bytes(t), oldest_ms = event_oldest_us(t) / US_PER_MS;

    if (used_bytes <= r->config->retention.size_bytes)
        return 0;
    say_pressure(r, used_bytes, now_mono_ms);
    return oldest_ms == 0 || oldest_ms + PRESSURE_SLICE_MS > spared_ms
               ? spared_ms
               : oldest_ms + PRESSURE_SLICE_MS;
}

/* -------- steps -------- */

static int expire(struct retention *r, struct store_txn *t, uint64_t now_ms, uint64_t pressed_ms,
                  struct err *err)
{
    uint64_t old_ms = before(now_ms, r->config->retention.events_ms);
    uint64_t events_ms = pressed_ms > old_ms ? pressed_ms : old_ms;
    uint64_t batches_ms = before(now_ms, r->config->retention.batches_ms);
    int gone;

    if (pressed_ms > batches_ms)
        batches_ms = pressed_ms;
    switch (r->stage) {
    case STAGE_EVENTS:
        gone = event_expire(t, events_ms * US_PER_MS, RETENTION_STEP, err);
        r->freed = r->freed || gone > 0;
        break;
    case STAGE_IDS:
        gone = event_ids_expire(t, before(old_ms, RETENTION_IDS_KEPT_MS) * US_PER_MS,
                                RETENTION_STEP, err);
        break;
    case STAGE_BATCHES:
        return drop_batches(r, t, batches_ms, err);
    case STAGE_LETTERS:
        gone = deadletter_expire(t, old_ms * US_PER_MS, RETENTION_STEP, err);
        break;
    case STAGE_UNIQUES:
        gone = uniques_expire(t, uniques_before(r, now_ms), RETENTION_STEP, err);
        break;
    case STAGE_WEBHOOKS:
        gone = webhook_sweep(t, RETENTION_STEP, err);
        break;
    case STAGE_COUNTERS:
        return walk_counters(r, t, now_ms, err);
    case STAGE_DIGESTS:
        return walk(r, t, DB_UNIQUES, is_old_unique, uniques_before(r, now_ms) * US_PER_MS, err);
    case STAGE_SOFT_BOUNCES:
        return walk(r, t, DB_SOFT_BOUNCES, is_old_soft_bounce,
                    before(now_ms, r->config->guard.soft_bounce_window_ms) * US_PER_MS, err);
    case STAGE_UNHEARD:
        return walk(r, t, DB_UNHEARD, is_old_first, before(now_ms, UNHEARD_MS) * US_PER_MS, err);
    case STAGE_LIFTED:
        return walk(r, t, DB_LIFTED, is_old_first,
                    before(now_ms, RETENTION_LIFTED_KEPT_MS) * US_PER_MS, err);
    case STAGE_TAGS:
        return walk(r, t, DB_TAGS, is_old_first, before(now_ms, RETENTION_DAYS_KEPT_MS) * US_PER_MS,
                    err);
    case STAGE_REPUTATION:
        return walk(r, t, DB_REPUTATION, is_old_hour,
                    before(now_ms, RETENTION_REPUTATION_KEPT_MS) * US_PER_MS, err);
    case STAGE_WEBHOOK_FAILURES:
        return walk(r, t, DB_WEBHOOK_FAILED, is_old_first, old_ms * US_PER_MS, err);
    case STAGE_ELSEWHERE:
        return walk(r, t, DB_ELSEWHERE, is_old_first, old_ms * US_PER_MS, err);
    case STAGE_POSTED:
        return walk(r, t, DB_POSTED, is_old_first, buffer_before_us(r, now_ms), err);
    case STAGE_PARTS:
        return walk(r, t, DB_PARTS, is_old_first, buffer_before_us(r, now_ms), err);
    case STAGE_SERVED:
        return walk(r, t, DB_SERVED, is_old_first, buffer_before_us(r, now_ms), err);
    case STAGE_VERSIONS:
        return walk(r, t, DB_VERSIONS, is_old_first,
                    before(now_ms, RETENTION_VERSIONS_KEPT_MS) * US_PER_MS, err);
    case STAGE_EXPANDED:
        return walk(r, t, DB_EXPANDED, is_old_first, buffer_before_us(r, now_ms), err);
    case STAGE_END:
        return 0;
    default:
        return 0;
    }
    return gone < 0 ? -1 : gone >= RETENTION_STEP;
}

int retention_step(struct retention *r, struct store_txn *t, uint64_t now_wall_ms,
                   uint64_t now_mono_ms, struct err *err)
{
    if (!retention_is_due(r, now_mono_ms))
        return 0;
    if (r->stage == STAGE_EVENTS)
        r->walk = !r->has_walked || now_mono_ms - r->walked_mono_ms >= RETENTION_WALK_MS;
    uint64_t pressed_ms = pressed_until_ms(r, t, now_wall_ms, now_mono_ms);
    int got = expire(r, t, now_wall_ms, pressed_ms, err);
    if (got != 0)
        return got;
    if (++r->stage < (r->walk ? STAGE_END : STAGE_COUNTERS))
        return 1;
    if (r->walk) {
        r->has_walked = true;
        r->walked_mono_ms = now_mono_ms;
    }
    r->stage = STAGE_EVENTS;
    r->batch_past = 0;
    r->last_domain = 0;
    bool again = pressed_ms != 0 && r->freed; /* another hour of it */
    r->freed = false;
    if (again)
        return 1;
    r->rest_until_mono_ms = now_mono_ms + RETENTION_REST_MS;
    return 0;
}
