#include "store/reputation.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "store/internal.h"
#include "store/key.h"

enum { KEY_BYTES = 8, ROW_BYTES = 4 * REPUTATION_KINDS };

struct hour {
    uint32_t number;
    uint32_t count[REPUTATION_KINDS];
    bool changed;
};

/* A domain's hours in order of time; those without mail are not there. */
struct record {
    struct buf name;
    uint32_t number; /* in keys; 0 = not given out yet */
    struct hour *hours;
    size_t count, cap;
    bool changed; /* one of the hours is */
};

struct reputation {
    struct record *records;
    size_t count;
};

static struct record *find(const struct reputation *r, struct slice domain)
{
    for (size_t i = 0; i < r->count; i++)
        if (slice_eq(buf_slice(&r->records[i].name), domain))
            return &r->records[i];
    return NULL;
}

static struct record *add_record(struct reputation *r, struct slice domain, uint32_t number)
{
    r->records = mem_grow(r->records, (r->count + 1) * sizeof *r->records);
    struct record *one = &r->records[r->count++];
    *one = (struct record){.number = number};
    buf_add_slice(&one->name, domain);
    return one;
}

/* The hour's counts. Hours come in order, but for a clock that was ahead and is set back. */
static struct hour *hour_of(struct record *one, uint32_t number)
{
    size_t at = one->count;

    while (at > 0 && one->hours[at - 1].number > number)
        at--;
    if (at > 0 && one->hours[at - 1].number == number)
        return &one->hours[at - 1];
    if (one->count == one->cap) {
        one->cap = one->cap == 0 ? 64 : one->cap * 2;
        one->hours = mem_grow(one->hours, one->cap * sizeof *one->hours);
    }
    memmove(one->hours + at + 1, one->hours + at, (one->count - at) * sizeof *one->hours);
    one->hours[at] = (struct hour){.number = number};
    one->count++;
    return &one->hours[at];
}

/* Hours beyond now are a clock's mistake: they count nowhere until they have come. */
static bool is_to_come(const struct hour *hour)
{
    return hour->number > clock_wall_ms() / HOUR_MS;
}

static void load_hours(struct store_txn *t, MDB_cursor *cursor, struct record *one)
{
    struct key prefix = {.len = 0};

    (void)t;
    key_u32(&prefix, one->number);
    MDB_val k = store_val(key_slice(&prefix)), v;
    for (int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
         rc == MDB_SUCCESS && slice_starts(store_slice(k), key_slice(&prefix));
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) {
        if (k.mv_size != KEY_BYTES || v.mv_size != ROW_BYTES)
            continue;
        struct hour *hour = hour_of(one, (uint32_t)read_be((const uint8_t *)k.mv_data + 4, 4));
        for (size_t i = 0; i < REPUTATION_KINDS; i++)
            hour->count[i] = (uint32_t)read_be((const uint8_t *)v.mv_data + i * 4, 4);
    }
}

struct reputation *reputation_open(struct store_txn *t, struct err *err)
{
    struct reputation *r = mem_zero(1, sizeof *r);
    MDB_cursor *domains, *hours = NULL;
    MDB_val k, v;
    int rc = mdb_cursor_open(t->mdb, t->store->dbi[DB_DOMAINS], &domains);

    if (rc == MDB_SUCCESS) {
        rc = mdb_cursor_open(t->mdb, t->store->dbi[DB_REPUTATION], &hours);
        while (rc == MDB_SUCCESS && (rc = mdb_cursor_get(domains, &k, &v, MDB_NEXT)) == MDB_SUCCESS)
            if (v.mv_size == 4)
                load_hours(t, hours,
                           add_record(r, store_slice(k), (uint32_t)read_be(v.mv_data, 4)));
        if (hours != NULL)
            mdb_cursor_close(hours);
        mdb_cursor_close(domains);
    }
    if (rc != MDB_NOTFOUND) {
        (void)store_fail(err, rc == MDB_SUCCESS ? MDB_CORRUPTED : rc, "reading what was sent");
        reputation_close(r);
        return NULL;
    }
    return r;
}

void reputation_close(struct reputation *r)
{
    if (r == NULL)
        return;
    for (size_t i = 0; i < r->count; i++) {
        buf_fini(&r->records[i].name);
        free(r->records[i].hours);
    }
    free(r->records);
    free(r);
}

bool reputation_excludes(struct slice address)
{
    return slice_ends_nocase(address, SLICE("@simulator.amazonses.com"));
}

void reputation_add(struct reputation *r, struct slice domain, enum reputation_kind kind,
                    uint32_t n, uint64_t now_wall_ms)
{
    struct record *one = find(r, domain);

    if (one == NULL)
        one = add_record(r, domain, 0);
    struct hour *hour = hour_of(one, (uint32_t)(now_wall_ms / HOUR_MS));
    hour->count[kind] += n;
    hour->changed = one->changed = true;
}

struct reputation_sums reputation_since(const struct reputation *r, struct slice domain,
                                        uint64_t since_wall_ms)
{
    struct reputation_sums sums = {{0}};

    for (size_t i = 0; i < r->count; i++) {
        const struct record *one = &r->records[i];
        if (domain.len > 0 && !slice_eq(buf_slice(&one->name), domain))
            continue;
        for (size_t h = one->count;
             h > 0 && one->hours[h - 1].number * (uint64_t)HOUR_MS >= since_wall_ms; h--)
            for (size_t k = 0; k < REPUTATION_KINDS && !is_to_come(&one->hours[h - 1]); k++)
                sums.count[k] += one->hours[h - 1].count[k];
    }
    return sums;
}

uint64_t reputation_first_wall_ms(const struct reputation *r, struct slice domain)
{
    const struct record *one = find(r, domain);

    return one == NULL || one->count == 0 || is_to_come(&one->hours[0])
               ? 0
               : one->hours[0].number * (uint64_t)HOUR_MS;
}

uint64_t reputation_frees_wall_ms(const struct reputation *r, uint64_t need, uint64_t now_wall_ms)
{
    enum { HOURS = 25 };
    uint32_t now = (uint32_t)(now_wall_ms / HOUR_MS), first = now >= HOURS ? now - HOURS + 1 : 0;
    uint64_t sent[HOURS] = {0}, freed = 0;

    for (size_t i = 0; i < r->count; i++) {
        const struct record *one = &r->records[i];
        for (size_t h = one->count; h > 0 && one->hours[h - 1].number >= first; h--)
            if (one->hours[h - 1].number <= now)
                sent[one->hours[h - 1].number - first] += one->hours[h - 1].count[REPUTATION_SENT];
    }
    for (uint32_t at = 0; at < HOURS; at++) {
        freed += sent[at];
        if (freed >= need && freed > 0)
            return (first + at + 1) * (uint64_t)HOUR_MS + DAY_MS;
    }
    return 0;
}

static int write_hour(struct store_txn *t, uint32_t domain, struct hour *hour, struct err *err)
{
    struct key k = {.len = 0}, row = {.len = 0};

    key_u32(&k, domain);
    key_u32(&k, hour->number);
    for (size_t i = 0; i < REPUTATION_KINDS; i++)
        key_u32(&row, hour->count[i]);
    hour->changed = false;
    return store_put(t, DB_REPUTATION, key_slice(&k), key_slice(&row), err);
}

int reputation_flush(struct reputation *r, struct store_txn *t, struct err *err)
{
    for (size_t i = 0; i < r->count; i++) {
        struct record *one = &r->records[i];
        if (!one->changed)
            continue;
        if (one->number == 0)
            one->number = store_domain_intern(t, buf_slice(&one->name), err);
        if (one->number == 0)
            return -1;
        for (size_t h = one->count; h > 0; h--)
            if (one->hours[h - 1].changed &&
                write_hour(t, one->number, &one->hours[h - 1], err) != 0)
                return -1;
        one->changed = false;
    }
    return 0;
}
