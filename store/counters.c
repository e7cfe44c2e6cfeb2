#include "store/counters.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

#include "base/digest.h"
#include "base/mem.h"
#include "store/internal.h"
#include "store/key.h"
#include "store/totals.h"

enum {
    US = 1000000,
    HOUR_S = 3600,
    HOURS_PER_DAY = 24,
    UNIQUE_RECIPIENTS = 512, /* of a bitmap */
    UNIQUE_BYTES = UNIQUE_RECIPIENTS / 8,
    UNIQUE_BITMAP = 0, /* kinds of rows in uniques */
    UNIQUE_DIGEST = 1,
    DIGEST_BYTES = 16,
    ROW_DAY = 0, /* kinds of rows in counters */
    ROW_HOUR = 1,
    TIME_BYTES = 4,
    TAG_KEY_BYTES = 400, /* a longer tag ends with its hash */
    TAG_SEEN_BYTES = 16,
    SLOTS_LEAST = 256,
    ENTRY_BITMAP = COUNTER_BATCH + 1, /* beside enum counter_scope */
};

static const char *const kind_names[COUNT_KINDS] = {
    [COUNT_ACCEPTED] = "accepted",
    [COUNT_DELIVERED] = "delivered",
    [COUNT_FAILED_TEMPORARY] = "failed_temporary",
    [COUNT_TEMPORARY_ESPBLOCK] = "temporary_espblock",
    [COUNT_FAILED_PERMANENT] = "failed_permanent",
    [COUNT_PERMANENT_BOUNCE] = "permanent_bounce",
    [COUNT_PERMANENT_DELAYED_BOUNCE] = "permanent_delayed_bounce",
    [COUNT_PERMANENT_SUPPRESS_BOUNCE] = "permanent_suppress_bounce",
    [COUNT_PERMANENT_SUPPRESS_UNSUBSCRIBE] = "permanent_suppress_unsubscribe",
    [COUNT_PERMANENT_SUPPRESS_COMPLAINT] = "permanent_suppress_complaint",
    [COUNT_OPENED] = "opened",
    [COUNT_OPENED_UNIQUE] = "opened_unique",
    [COUNT_CLICKED] = "clicked",
    [COUNT_CLICKED_UNIQUE] = "clicked_unique",
    [COUNT_UNSUBSCRIBED] = "unsubscribed",
    [COUNT_COMPLAINED] = "complained",
    [COUNT_STORED] = "stored",
    [COUNT_REJECTED] = "rejected",
    [COUNT_TOO_OLD] = "too_old",
    [COUNT_SENT_NEWSLETTER] = "sent_newsletter",
};

const char *count_kind_name(enum count_kind kind)
{
    return kind_names[kind];
}

/* -------- what has been added in this transaction -------- */

/* One row to come of counters or of uniques. */
struct entry {
    uint32_t hash;
    uint32_t scope;  /* enum counter_scope, or ENTRY_BITMAP */
    uint32_t domain; /* DOMAIN, TAG */
    uint32_t time;   /* hour; of a bitmap: which one of its batch */
    uint64_t batch_id;
    struct slice tag; /* TAG, owned by the arena */
    uint64_t first_us, last_us;
    union {
        uint32_t count[COUNT_KINDS];
        uint8_t bits[UNIQUE_BYTES]; /* as they are to be stored */
    } u;
};

struct counters {
    struct entry *entries;
    size_t count, cap;
    uint32_t *slots; /* number of an entry + 1, 0 = free; more than twice as many as entries */
    size_t slot_count;
    struct arena arena;
};

/* FNV-1a */
static uint32_t hash_bytes(uint32_t hash, const void *ptr, size_t len)
{
    const uint8_t *at = ptr;

    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (at[i] >= 'A' && at[i] <= 'Z' ? at[i] + 32u : at[i])) * 16777619u;
    return hash;
}

static uint32_t hash_of(const struct entry *e)
{
    const uint64_t words[] = {(uint64_t)e->scope << 32 | e->domain, e->time, e->batch_id};

    /* Lower case of binary numbers: two more that meet, and are then compared. */
    return hash_bytes(hash_bytes(2166136261u, words, sizeof words), e->tag.ptr, e->tag.len);
}

static bool is_same(const struct entry *a, const struct entry *b)
{
    return a->hash == b->hash && a->scope == b->scope && a->domain == b->domain &&
           a->time == b->time && a->batch_id == b->batch_id && slice_eq_nocase(a->tag, b->tag);
}

static uint32_t *slot_of(const struct counters *c, const struct entry *e)
{
    size_t at = e->hash & (c->slot_count - 1);

    while (c->slots[at] != 0 && !is_same(&c->entries[c->slots[at] - 1], e))
        at = (at + 1) & (c->slot_count - 1);
    return &c->slots[at];
}

static void make_room(struct counters *c)
{
    if (c->count < c->cap)
        return;
    c->cap = c->cap == 0 ? SLOTS_LEAST / 4 : c->cap * 2;
    c->entries = mem_grow(c->entries, c->cap * sizeof *c->entries);
    free(c->slots);
    c->slot_count = c->cap * 4;
    c->slots = mem_zero(c->slot_count, sizeof *c->slots);
    for (size_t i = 0; i < c->count; i++)
        *slot_of(c, &c->entries[i]) = (uint32_t)i + 1;
}

/* The entry for this; *is_new when it was not there: its tag is copied, its numbers are 0. */
static struct entry *entry_of(struct counters *c, struct entry *wanted, bool *is_new)
{
    wanted->hash = hash_of(wanted);
    make_room(c);
    uint32_t *slot = slot_of(c, wanted);
    *is_new = *slot == 0;
    if (!*is_new)
        return &c->entries[*slot - 1];
    *slot = (uint32_t)c->count + 1;
    struct entry *e = &c->entries[c->count++];
    *e = *wanted;
    e->tag = arena_dup(&c->arena, wanted->tag);
    return e;
}

static struct counters *counters_of(struct store *s)
{
    if (s->counters == NULL)
        s->counters = mem_zero(1, sizeof *s->counters);
    return s->counters;
}

void counters_forget(struct store *s)
{
    struct counters *c = s->counters;

    if (c == NULL || c->count == 0)
        return;
    c->count = 0;
    memset(c->slots, 0, c->slot_count * sizeof *c->slots);
    arena_reset(&c->arena);
}

void counters_release(struct store *s)
{
    if (s->counters == NULL)
        return;
    free(s->counters->entries);
    free(s->counters->slots);
    arena_fini(&s->counters->arena);
    free(s->counters);
    s->counters = NULL;
}

/* -------- first opens and clicks -------- */

static struct key bitmap_key(uint64_t batch_id, uint32_t time)
{
    struct key k = {.len = 0};

    key_u8(&k, UNIQUE_BITMAP);
    key_u64(&k, batch_id);
    key_u32(&k, time);
    return k;
}

static bool is_first_by_tags(struct store_txn *t, struct counters *c, const struct event *e)
{
    /* Clicks and opens of 512 recipients lie beside each other. */
    uint32_t number = e->batch_recipient / UNIQUE_RECIPIENTS * 2 + (e->type == EVENT_CLICKED);
    uint32_t bit = e->batch_recipient % UNIQUE_RECIPIENTS;
    struct entry wanted = {.scope = ENTRY_BITMAP, .batch_id = e->batch_id, .time = number};
    bool is_new;

    struct entry *map = entry_of(c, &wanted, &is_new);
    if (is_new) {
        struct key k = bitmap_key(e->batch_id, number);
        struct slice row;
        memset(map->u.bits, 0, sizeof map->u.bits);
        if (store_get(t, DB_UNIQUES, key_slice(&k), &row) && row.len == UNIQUE_BYTES)
            memcpy(map->u.bits, row.ptr, UNIQUE_BYTES);
    }
    bool is_first = (map->u.bits[bit / 8] >> (bit % 8) & 1) == 0;
    map->u.bits[bit / 8] |= (uint8_t)(1u << (bit % 8));
    return is_first;
}

/* Mail that did not carry our tags: rare, so a row for each. The index of events would tell as
 * well, but only as long as they are kept, and by reading all of the recipient's. */
static bool is_first_by_digest(struct store_txn *t, uint32_t domain, const struct event *e)
{
    const uint8_t kind[] = {(uint8_t)e->type, (uint8_t)(domain >> 24), (uint8_t)(domain >> 16),
                            (uint8_t)(domain >> 8), (uint8_t)domain};
    const struct slice mail = e->ses_id.len != 0 ? e->ses_id : e->message_id;
    struct slice recipient = slice_head(e->recipient, 320), row;
    uint8_t folded[320], digest[SHA256_BYTES];
    struct key k = {.len = 0}, at = {.len = 0};

    if (mail.len == 0)
        return true; /* nothing says which mail that was */
    for (size_t i = 0; i < recipient.len; i++) {
        uint8_t one = recipient.ptr[i];
        folded[i] = one >= 'A' && one <= 'Z' ? (uint8_t)(one + 32) : one;
    }
    const struct slice parts[] = {slice_of(kind, sizeof kind), mail,
                                  slice_of(folded, recipient.len)};
    digest_sha256_parts(parts, 3, digest);
    key_u8(&k, UNIQUE_DIGEST);
    key_bytes(&k, slice_of(digest, DIGEST_BYTES));
    bool is_first = !store_get(t, DB_UNIQUES, key_slice(&k), &row);
    key_u64(&at, e->timestamp_us);
    if (is_first) /* a failure here fails the commit */
        (void)store_put(t, DB_UNIQUES, key_slice(&k), key_slice(&at), NULL);
    return is_first;
}

/* -------- adding -------- */

enum { KINDS_OF_EVENT = 2 };

/* The kinds that an event counts as; how many. */
static size_t kinds_of(struct store_txn *t, uint32_t domain, const struct event *e,
                       enum count_kind kinds[KINDS_OF_EVENT])
{
    static const struct {
        const char *reason;
        enum count_kind kind;
    } permanent[] = {
        {"bounce", COUNT_PERMANENT_BOUNCE},
        {"suppress-bounce", COUNT_PERMANENT_SUPPRESS_BOUNCE},
        {"suppress-unsubscribe", COUNT_PERMANENT_SUPPRESS_UNSUBSCRIBE},
        {"suppress-complaint", COUNT_PERMANENT_SUPPRESS_COMPLAINT},
    };
    size_t n = 1;

    switch (e->type) {
    case EVENT_ACCEPTED:
        kinds[0] = COUNT_ACCEPTED;
        return 1;
    case EVENT_REJECTED:
        kinds[0] = COUNT_REJECTED;
        return 1;
    case EVENT_DELIVERED:
        kinds[0] = COUNT_DELIVERED;
        return 1;
    case EVENT_FAILED:
        if (e->severity != SEVERITY_PERMANENT) {
            kinds[0] = COUNT_FAILED_TEMPORARY;
            if (slice_eq(e->reason, SLICE("espblock")))
                kinds[n++] = COUNT_TEMPORARY_ESPBLOCK;
            return n;
        }
        kinds[0] = COUNT_FAILED_PERMANENT;
        if (e->delayed_bounce)
            kinds[n++] = COUNT_PERMANENT_DELAYED_BOUNCE;
        for (size_t i = 0; i < sizeof permanent / sizeof permanent[0] && n == 1; i++)
            if (slice_eq(e->reason, slice_str(permanent[i].reason)))
                kinds[n++] = permanent[i].kind;
        return n;
    case EVENT_OPENED:
    case EVENT_CLICKED:
        kinds[0] = e->type == EVENT_OPENED ? COUNT_OPENED : COUNT_CLICKED;
        if (e->batch_id != 0 ? is_first_by_tags(t, counters_of(t->store), e)
                             : is_first_by_digest(t, domain, e))
            kinds[n++] = e->type == EVENT_OPENED ? COUNT_OPENED_UNIQUE : COUNT_CLICKED_UNIQUE;
        return n;
    case EVENT_UNSUBSCRIBED:
        kinds[0] = COUNT_UNSUBSCRIBED;
        return 1;
    case EVENT_COMPLAINED:
        kinds[0] = COUNT_COMPLAINED;
        return 1;
    case EVENT_STORED:
        kinds[0] = COUNT_STORED;
        return 1;
    case EVENT_TYPE_END:
        break;
    }
    return 0;
}

static void add_to(struct counters *c, struct entry *wanted, uint64_t at_us,
                   const enum count_kind *kinds, size_t kind_count, uint32_t n)
{
    bool is_new;

    wanted->time = (uint32_t)(at_us / US / HOUR_S);
    struct entry *e = entry_of(c, wanted, &is_new);
    if (is_new) {
        memset(e->u.count, 0, sizeof e->u.count);
        e->first_us = e->last_us = at_us;
    }
    if (at_us < e->first_us)
        e->first_us = at_us;
    if (at_us > e->last_us)
        e->last_us = at_us;
    for (size_t i = 0; i < kind_count; i++)
        e->u.count[kinds[i]] += n;
}

static bool is_repeated(const struct slice *tags, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (slice_eq_nocase(tags[i], tags[at]))
            return true;
    return false;
}

void counters_add(struct store_txn *t, uint32_t domain, const struct event *e, uint32_t n)
{
    struct counters *c = counters_of(t->store);
    enum count_kind kinds[KINDS_OF_EVENT] = {COUNT_ACCEPTED};
    size_t kind_count = kinds_of(t, domain, e, kinds);
    struct entry wanted = {.scope = COUNTER_DOMAIN, .domain = domain};

    add_to(c, &wanted, e->timestamp_us, kinds, kind_count, n);
    for (size_t i = 0; i < kind_count; i++)
        totals_add(t, domain, total_lane_of(e), TOTAL_EVENT + kinds[i], n);
    for (size_t i = 0; i < e->tag_count; i++) {
        if (e->tags[i].len == 0 || is_repeated(e->tags, i))
            continue;
        wanted = (struct entry){.scope = COUNTER_TAG, .domain = domain, .tag = e->tags[i]};
        add_to(c, &wanted, e->timestamp_us, kinds, kind_count, n);
    }
    if (e->batch_id == 0)
        return;
    wanted = (struct entry){.scope = COUNTER_BATCH, .batch_id = e->batch_id};
    add_to(c, &wanted, e->timestamp_us, kinds, kind_count, n);
}

void counters_add_one(struct store_txn *t, uint32_t domain, enum count_kind kind, uint64_t now_us)
{
    struct entry wanted = {.scope = COUNTER_DOMAIN, .domain = domain};

    totals_add(t, domain, TOTAL_NO_LANE, TOTAL_EVENT + kind, 1);
    add_to(counters_of(t->store), &wanted, now_us, &kind, 1, 1);
}

/* -------- rows -------- */

/* Their numbers in the order of kinds, behind a bit for each that is not 0. */
static void row_pack(struct key *row, const uint32_t count[COUNT_KINDS])
{
    uint32_t mask = 0;

    _Static_assert(COUNT_KINDS <= 32, "a bit each");
    for (unsigned i = 0; i < COUNT_KINDS; i++)
        mask |= count[i] != 0 ? UINT32_C(1) << i : 0;
    key_u32(row, mask);
    for (unsigned i = 0; i < COUNT_KINDS; i++)
        if (count[i] != 0)
            key_u32(row, count[i]);
}

/* Kinds of a later version are passed over. */
static void row_read(struct slice row, uint32_t count[COUNT_KINDS])
{
    uint32_t mask = row.len < 4 ? 0 : (uint32_t)read_be(row.ptr, 4);
    size_t at = 4;

    memset(count, 0, COUNT_KINDS * sizeof *count);
    for (unsigned i = 0; i < COUNT_KINDS && row.len - at >= 4; i++)
        if ((mask >> i & 1) != 0) {
            count[i] = (uint32_t)read_be(row.ptr + at, 4);
            at += 4;
        }
}

static int row_add(struct store_txn *t, const struct key *k, const uint32_t count[COUNT_KINDS],
                   struct err *err)
{
    uint32_t sum[COUNT_KINDS] = {0};
    struct key row = {.len = 0};
    struct slice there;

    if (store_get(t, DB_COUNTERS, key_slice(k), &there))
        row_read(there, sum);
    for (unsigned i = 0; i < COUNT_KINDS; i++)
        sum[i] = sum[i] > UINT32_MAX - count[i] ? UINT32_MAX : sum[i] + count[i];
    row_pack(&row, sum);
    return store_put(t, DB_COUNTERS, key_slice(k), key_slice(&row), err);
}

/* What stands in a key before the kind of row and the time. */
static void key_counted(struct key *k, uint32_t scope, uint32_t domain, struct slice tag,
                        uint64_t batch_id)
{
    k->len = 0;
    key_u8(k, (uint8_t)scope);
    if (scope == COUNTER_BATCH)
        key_u64(k, batch_id);
    else
        key_u32(k, domain);
    if (scope == COUNTER_TAG)
        key_hash_nocase(k, tag);
}

static struct key tag_key(uint32_t domain, struct slice tag)
{
    struct key k = {.len = 0};
    struct slice head = slice_head(tag, TAG_KEY_BYTES);

    key_u32(&k, domain);
    for (size_t i = 0; i < head.len; i++) {
        uint8_t c = head.ptr[i];
        key_u8(&k, c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c);
    }
    if (tag.len > TAG_KEY_BYTES)
        key_hash_nocase(&k, tag);
    return k;
}

static bool seen_read(struct slice row, struct tag_seen *seen)
{
    if (row.len < TAG_SEEN_BYTES)
        return false;
    seen->last_us = read_be(row.ptr, 8);
    seen->first_us = read_be(row.ptr + 8, 8);
    (void)slice_cut(slice_from(row, TAG_SEEN_BYTES), 0, &seen->tag, &seen->description);
    return true;
}

static int seen_put(struct store_txn *t, const struct key *k, const struct tag_seen *seen,
                    struct err *err)
{
    struct key times = {.len = 0};
    struct buf value = {0};

    key_u64(&times, seen->last_us);
    key_u64(&times, seen->first_us);
    buf_add_slice(&value, key_slice(&times));
    buf_add_slice(&value, seen->tag);
    if (seen->description.len > 0) {
        buf_add_byte(&value, 0);
        buf_add_slice(&value, seen->description);
    }
    int rc = store_put(t, DB_TAGS, key_slice(k), buf_slice(&value), err);
    buf_fini(&value);
    return rc;
}

static int tag_note(struct store_txn *t, const struct entry *e, struct err *err)
{
    struct key k = tag_key(e->domain, e->tag);
    struct tag_seen seen = {.tag = e->tag, .first_us = e->first_us, .last_us = e->last_us};
    struct slice row;

    if (store_get(t, DB_TAGS, key_slice(&k), &row) && seen_read(row, &seen)) {
        if (seen.first_us <= e->first_us && seen.last_us >= e->last_us)
            return 0;
        seen.first_us = seen.first_us < e->first_us ? seen.first_us : e->first_us;
        seen.last_us = seen.last_us > e->last_us ? seen.last_us : e->last_us;
    }
    return seen_put(t, &k, &seen, err);
}

static int entry_flush(struct store_txn *t, const struct entry *e, struct err *err)
{
    struct key k;

    if (e->scope == ENTRY_BITMAP) {
        k = bitmap_key(e->batch_id, e->time);
        return store_put(t, DB_UNIQUES, key_slice(&k), slice_of(e->u.bits, UNIQUE_BYTES), err);
    }
    if (e->scope == COUNTER_TAG && tag_note(t, e, err) != 0)
        return -1;
    key_counted(&k, e->scope, e->domain, e->tag, e->batch_id);
    key_u8(&k, ROW_HOUR);
    key_u32(&k, e->time);
    return row_add(t, &k, e->u.count, err);
}

int counters_flush(struct store_txn *t, struct err *err)
{
    struct counters *c = t->store->counters;
    int rc = 0;

    for (size_t i = 0; c != NULL && i < c->count && rc == 0; i++)
        rc = entry_flush(t, &c->entries[i], err);
    counters_forget(t->store);
    return rc;
}

/* -------- reading -------- */

static uint32_t month_of(uint32_t day)
{
    const time_t at = (time_t)day * HOURS_PER_DAY * HOUR_S;
    struct tm tm;

    (void)gmtime_r(&at, &tm);
    return (uint32_t)(tm.tm_year * 12 + tm.tm_mon);
}

/* The number of the step that an hour lies in. */
static uint32_t step_of(enum counter_resolution resolution, uint32_t hour)
{
    switch (resolution) {
    case COUNTER_HOUR:
        return hour;
    case COUNTER_DAY:
        return hour / HOURS_PER_DAY;
    case COUNTER_MONTH:
        return month_of(hour / HOURS_PER_DAY);
    case COUNTER_ALL:
        break;
    }
    return 0;
}

static uint64_t step_start_us(enum counter_resolution resolution, uint32_t step,
                              uint32_t first_hour)
{
    struct tm tm = {0};

    switch (resolution) {
    case COUNTER_HOUR:
        return (uint64_t)step * HOUR_S * US;
    case COUNTER_DAY:
        return (uint64_t)step * HOURS_PER_DAY * HOUR_S * US;
    case COUNTER_MONTH:
        tm.tm_year = (int)(step / 12);
        tm.tm_mon = (int)(step % 12);
        tm.tm_mday = 1;
        return (uint64_t)timegm(&tm) * US;
    case COUNTER_ALL:
        break;
    }
    return (uint64_t)first_hour * HOUR_S * US;
}

static void add_rows(MDB_cursor *cursor, struct key prefix, uint8_t kind, uint32_t unit_hours,
                     enum counter_resolution resolution, uint32_t first_step,
                     struct counter_step *steps, uint32_t count, uint32_t from, uint32_t until)
{
    key_u8(&prefix, kind);
    struct key start = prefix;
    key_u32(&start, from);
    MDB_val k = store_val(key_slice(&start)), v;
    for (int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
         rc == MDB_SUCCESS && k.mv_size == prefix.len + TIME_BYTES &&
         slice_starts(store_slice(k), key_slice(&prefix));
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        uint32_t time = (uint32_t)read_be((const uint8_t *)k.mv_data + prefix.len, TIME_BYTES);
        uint32_t sums[COUNT_KINDS];
        if (time > until)
            break;
        uint32_t step = step_of(resolution, time * unit_hours);
        if (step < first_step || step - first_step >= count)
            continue;
        row_read(store_slice(v), sums);
        for (unsigned i = 0; i < COUNT_KINDS; i++)
            steps[step - first_step].count[i] += sums[i];
    }
}

int counters_read(struct store_txn *t, const struct counter_query *q, struct counter_step **steps,
                  struct err *err)
{
    const uint64_t last_us = (uint64_t)UINT32_MAX * HOUR_S * US / 2;
    uint64_t until_us = q->until_us < last_us ? q->until_us : last_us;
    uint64_t from_us = q->from_us < until_us ? q->from_us : until_us;
    uint32_t from = (uint32_t)(from_us / US / HOUR_S), until = (uint32_t)(until_us / US / HOUR_S);
    uint32_t first = step_of(q->resolution, from);
    uint32_t count = step_of(q->resolution, until) - first + 1;
    uint32_t domain = q->scope == COUNTER_BATCH ? 0 : store_domain_find(t, q->domain);
    MDB_cursor *cursor;
    struct key prefix;

    *steps = NULL;
    if (count > COUNTER_STEPS_MAX)
        return err_set(err, ERR_INPUT, "a range of %u steps: at most %d", count, COUNTER_STEPS_MAX);
    *steps = mem_zero(count, sizeof **steps);
    for (uint32_t i = 0; i < count; i++)
        (*steps)[i].start_us = step_start_us(q->resolution, first + i, from);
    if (domain == 0 && q->scope != COUNTER_BATCH)
        return (int)count;
    int rc = mdb_cursor_open(t->mdb, t->store->dbi[DB_COUNTERS], &cursor);
    if (rc != MDB_SUCCESS) {
        free(*steps);
        *steps = NULL;
        return store_fail(err, rc, "reading counters");
    }
    /* Rows of whole steps: a month begins with its first day. */
    if (q->resolution != COUNTER_ALL) {
        from = (uint32_t)((*steps)[0].start_us / US / HOUR_S);
        until = q->resolution == COUNTER_HOUR ? until
                : q->resolution == COUNTER_DAY
                    ? until / HOURS_PER_DAY * HOURS_PER_DAY + HOURS_PER_DAY - 1
                    : until + 31 * HOURS_PER_DAY; /* what is past the month has no step */
    }
    key_counted(&prefix, q->scope, domain, q->tag, q->batch_id);
    add_rows(cursor, prefix, ROW_HOUR, 1, q->resolution, first, *steps, count, from, until);
    add_rows(cursor, prefix, ROW_DAY, HOURS_PER_DAY, q->resolution, first, *steps, count,
             from / HOURS_PER_DAY, until / HOURS_PER_DAY);
    mdb_cursor_close(cursor);
    return (int)count;
}

int counters_add_steps(struct store_txn *t, const struct counter_query *q,
                       struct counter_step **sum, struct err *err)
{
    struct counter_step *steps;
    int count = counters_read(t, q, &steps, err);

    if (count < 0 || *sum == NULL) {
        *sum = count < 0 ? *sum : steps;
        return count;
    }
    for (int i = 0; i < count; i++)
        for (int kind = 0; kind < COUNT_KINDS; kind++)
            (*sum)[i].count[kind] += steps[i].count[kind];
    free(steps);
    return count;
}

bool tag_get(struct store_txn *t, struct slice domain, struct slice tag, struct tag_seen *seen)
{
    struct key k = tag_key(store_domain_find(t, domain), tag);
    struct slice row;

    return store_get(t, DB_TAGS, key_slice(&k), &row) && seen_read(row, seen);
}

int tag_describe(struct store_txn *t, struct slice domain, struct slice tag,
                 struct slice description, struct err *err)
{
    struct key k = tag_key(store_domain_find(t, domain), tag);
    struct tag_seen seen;

    if (!tag_get(t, domain, tag, &seen))
        return 0;
    seen.description = description;
    return seen_put(t, &k, &seen, err) == 0 ? 1 : -1;
}

int tag_delete(struct store_txn *t, struct slice domain, struct slice tag, struct err *err)
{
    struct key k = tag_key(store_domain_find(t, domain), tag);
    struct tag_seen seen;

    if (!tag_get(t, domain, tag, &seen))
        return 0;
    return store_del(t, DB_TAGS, key_slice(&k), err) == 0 ? 1 : -1;
}

void tags_each(struct store_txn *t, struct slice domain, struct slice prefix, struct slice past,
               bool backwards, tag_visitor *visit, void *arg)
{
    uint32_t number = store_domain_find(t, domain);
    struct key in = tag_key(number, slice_head(prefix, TAG_KEY_BYTES)), from = in;
    MDB_cursor *cursor;
    struct tag_seen seen;

    if (number == 0 || mdb_cursor_open(t->mdb, t->store->dbi[DB_TAGS], &cursor) != MDB_SUCCESS)
        return;
    if (past.len != 0)
        from = tag_key(number, past);
    else if (backwards) /* behind all of them */
        while (from.len < sizeof from.at)
            key_u8(&from, 0xff);
    if (!backwards && slice_cmp(key_slice(&from), key_slice(&in)) < 0)
        from = in;
    MDB_val k = store_val(key_slice(&from)), v;
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    if (backwards)
        rc = mdb_cursor_get(cursor, &k, &v, rc == MDB_SUCCESS ? MDB_PREV : MDB_LAST);
    else if (rc == MDB_SUCCESS && past.len != 0 && slice_eq(store_slice(k), key_slice(&from)))
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    for (; rc == MDB_SUCCESS && slice_starts(store_slice(k), key_slice(&in));
         rc = mdb_cursor_get(cursor, &k, &v, backwards ? MDB_PREV : MDB_NEXT))
        if (seen_read(store_slice(v), &seen) && !visit(arg, &seen))
            break;
    mdb_cursor_close(cursor);
}

/* -------- retention -------- */

/* Does what the age of this row asks for. 1 = it is gone, 0 = it stays, and with it all that follow
 * it in its kind, -1. */
static int row_expire(struct store_txn *t, const struct counters_age *age, const struct key *k,
                      struct slice value, struct err *err)
{
    uint32_t time = (uint32_t)read_be(k->at + k->len - TIME_BYTES, TIME_BYTES);
    uint8_t kind = k->at[k->len - TIME_BYTES - 1];
    uint32_t count[COUNT_KINDS];

    if (k->at[0] == COUNTER_BATCH && read_be(k->at + 1, 8) >> 20 < age->batches_before_ms)
        return store_del(t, DB_COUNTERS, key_slice(k), err) == 0 ? 1 : -1;
    if (time >= (kind == ROW_HOUR ? age->hours_before : age->days_before))
        return 0;
    row_read(value, count);
    if (store_del(t, DB_COUNTERS, key_slice(k), err) != 0)
        return -1;
    if (kind == ROW_DAY || time / HOURS_PER_DAY < age->days_before)
        return 1;
    struct key day = *k;
    day.len -= TIME_BYTES + 1;
    key_u8(&day, ROW_DAY);
    key_u32(&day, time / HOURS_PER_DAY);
    return row_add(t, &day, count, err) == 0 ? 1 : -1;
}

int counters_expire(struct store_txn *t, const struct counters_age *age, struct buf *place,
                    uint32_t limit, struct err *err)
{
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(t->mdb, t->store->dbi[DB_COUNTERS], &cursor), got = 0;

    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "expiring counters");
    for (uint32_t n = 0; got >= 0 && n < limit; n++) {
        MDB_val k = store_val(buf_slice(place)), v;
        struct key at = {.len = 0};
        rc = mdb_cursor_get(cursor, &k, &v, place->len == 0 ? MDB_FIRST : MDB_SET_RANGE);
        if (rc != MDB_SUCCESS)
            break;
        key_bytes(&at, store_slice(k));
        buf_reset(place);
        buf_add_slice(place, key_slice(&at));
        if (at.len < 1 + 4 + 1 + TIME_BYTES) { /* none of ours */
            buf_add_byte(place, 0);
            continue;
        }
        got = row_expire(t, age, &at, store_slice(v), err);
        if (got == 0) { /* on behind the last time that there could be */
            memset(place->ptr + place->len - TIME_BYTES, 0xff, TIME_BYTES);
            buf_add_byte(place, 0);
        }
    }
    mdb_cursor_close(cursor);
    if (got < 0)
        return -1;
    if (rc == MDB_SUCCESS)
        return 1;
    buf_reset(place);
    return rc == MDB_NOTFOUND ? 0 : store_fail(err, rc, "expiring counters");
}

int uniques_expire(struct store_txn *t, uint64_t batches_before_ms, uint32_t limit, struct err *err)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    uint32_t gone = 0;
    int rc = mdb_cursor_open(t->mdb, t->store->dbi[DB_UNIQUES], &cursor);

    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "expiring first opens");
    for (; gone < limit; gone++) {
        rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
        if (rc != MDB_SUCCESS || k.mv_size < 9 || *(const uint8_t *)k.mv_data != UNIQUE_BITMAP ||
            read_be((const uint8_t *)k.mv_data + 1, 8) >> 20 >= batches_before_ms ||
            (rc = mdb_cursor_del(cursor, 0)) != MDB_SUCCESS)
            break;
    }
    mdb_cursor_close(cursor);
    if (rc != MDB_SUCCESS && rc != MDB_NOTFOUND)
        return store_fail(err, rc, "expiring first opens");
    return (int)gone;
}

bool unique_row_is_old(struct slice key, struct slice value, uint64_t before_us)
{
    return key.len > 0 && key.ptr[0] == UNIQUE_DIGEST &&
           (value.len != 8 || read_be(value.ptr, 8) < before_us);
}
