#include "store/gates.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pack.h"
#include "store/internal.h"
#include "store/key.h"

enum {
    ROW_VERSION = 1,
    ROW_MEMBERS = 5,
    PPM = 1000000,
    WARN_AGAIN_MS = DAY_MS,
};

/* What a person or a guard did stays until undone. */
struct closed {
    enum gate_reason reason;
    uint64_t since_wall_ms;
    struct buf words;
};

struct entry {
    struct buf domain;
    struct closed paused;         /* by a person or a guard */
    uint64_t judged_from_wall_ms; /* hours before were forgiven by a person */
    uint64_t warned_wall_ms;
};

struct gates {
    const struct config *config;
    struct reputation *reputation;
    struct entry *entries;
    size_t count;
};

static const char *const reason_names[] = {
    [GATE_OPEN] = "open",
    [GATE_QUOTA] = "quota",
    [GATE_ACCOUNT] = "account",
    [GATE_SENDER] = "sender",
    [GATE_PAUSED] = "paused",
    [GATE_BOUNCES] = "bounces",
    [GATE_COMPLAINTS] = "complaints",
    [GATE_WARM_UP] = "warm-up",
    [GATE_CONFIGURATION_SET] = "configuration-set",
};

const char *gate_reason_name(enum gate_reason reason)
{
    return reason_names[reason];
}

/* -------- entries -------- */

static struct entry *find(const struct gates *g, struct slice domain)
{
    for (size_t i = 0; i < g->count; i++)
        if (slice_eq(buf_slice(&g->entries[i].domain), domain))
            return &g->entries[i];
    return NULL;
}

static struct entry *entry_of(struct gates *g, struct slice domain)
{
    struct entry *known = find(g, domain);

    if (known != NULL)
        return known;
    g->entries = mem_grow(g->entries, (g->count + 1) * sizeof *g->entries);
    struct entry *one = &g->entries[g->count++];
    memset(one, 0, sizeof *one);
    buf_add_slice(&one->domain, domain);
    return one;
}

static void close_gate(struct closed *c, enum gate_reason reason, struct slice words)
{
    if (c->reason == GATE_OPEN)
        c->since_wall_ms = clock_wall_ms();
    c->reason = reason;
    buf_reset(&c->words);
    buf_add_slice(&c->words, words);
}

/* -------- the store -------- */

static struct slice row_key(struct key *k, uint8_t kind, struct slice rest)
{
    k->len = 0;
    key_u8(k, kind);
    key_bytes(k, rest);
    return key_slice(k);
}

static int entry_put(struct store_txn *t, const struct entry *e, struct err *err)
{
    struct buf row = {0};
    struct key k;

    pack_array(&row, ROW_MEMBERS);
    pack_u64(&row, ROW_VERSION);
    pack_u64(&row, e->paused.reason);
    pack_u64(&row, e->paused.since_wall_ms);
    pack_u64(&row, e->judged_from_wall_ms);
    pack_str(&row, buf_slice(&e->paused.words));
    int got = store_put(t, DB_GATES, row_key(&k, 'd', buf_slice(&e->domain)), buf_slice(&row), err);
    buf_fini(&row);
    return got;
}

static void entry_load(struct gates *g, struct slice domain, struct slice row)
{
    struct unpack u = unpack_over(row);
    bool known = unpack_array(&u) == ROW_MEMBERS && unpack_u64(&u) == ROW_VERSION;
    uint64_t reason = unpack_u64(&u), since_ms = unpack_u64(&u), from_ms = unpack_u64(&u);
    struct slice words = unpack_str(&u);

    if (!known || !unpack_done(&u) || reason > GATE_COMPLAINTS) {
        log_error("what holds %.*s cannot be read: passed over", SLICE_ARGS(domain));
        return;
    }
    struct entry *e = entry_of(g, domain);
    close_gate(&e->paused, (enum gate_reason)reason, words);
    e->paused.since_wall_ms = since_ms;
    e->judged_from_wall_ms = from_ms;
}

struct gates *gates_open(const struct config *config, struct reputation *r, struct store_txn *t,
                         struct err *err)
{
    struct gates *g = mem_zero(1, sizeof *g);
    struct key start;
    MDB_cursor *cursor;

    g->config = config;
    g->reputation = r;
    int rc = mdb_cursor_open(t->mdb, t->store->dbi[DB_GATES], &cursor);
    if (rc != MDB_SUCCESS) {
        (void)store_fail(err, rc, "reading what is paused");
        gates_close(g);
        return NULL;
    }
    MDB_val k = store_val(row_key(&start, 'd', slice_none())), v;
    for (rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
         rc == MDB_SUCCESS && slice_starts(store_slice(k), SLICE("d"));
         rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT))
        entry_load(g, slice_from(store_slice(k), 1), store_slice(v));
    mdb_cursor_close(cursor);
    return g;
}

void gates_close(struct gates *g)
{
    if (g == NULL)
        return;
    for (size_t i = 0; i < g->count; i++) {
        buf_fini(&g->entries[i].domain);
        buf_fini(&g->entries[i].paused.words);
    }
    free(g->entries);
    free(g);
}

/* -------- changes -------- */

int gates_pause(struct gates *g, struct store_txn *t, struct slice domain, struct err *err)
{
    struct entry *e = entry_of(g, domain);

    if (e->paused.reason != GATE_OPEN)
        return 0; /* a guard's reason says more, and is forgiven when it is resumed */
    close_gate(&e->paused, GATE_PAUSED, SLICE("paused by postern domains pause"));
    return entry_put(t, e, err);
}

int gates_resume(struct gates *g, struct store_txn *t, struct slice domain, struct err *err)
{
    struct entry *e = entry_of(g, domain);

    if (e->paused.reason == GATE_OPEN)
        return 0;
    if (e->paused.reason != GATE_PAUSED)
        e->judged_from_wall_ms = (clock_wall_ms() / HOUR_MS + 1) * (uint64_t)HOUR_MS;
    e->paused.reason = GATE_OPEN;
    e->warned_wall_ms = 0;
    return entry_put(t, e, err) == 0 ? 1 : -1;
}

/* -------- guards -------- */

struct share {
    enum gate_reason reason;
    const char *what;
    uint64_t bad, sent;
    uint32_t warn_ppm, pause_ppm;
};

static bool is_past(const struct share *s, uint32_t limit_ppm)
{
    return limit_ppm != 0 && s->bad * PPM >= s->sent * limit_ppm && s->bad > 0;
}

static struct share share_of(const struct gates *g, enum gate_reason reason,
                             struct reputation_sums sums)
{
    bool bounces = reason == GATE_BOUNCES;

    return (struct share){
        .reason = reason,
        .what = bounces ? "hard bounces" : "complaints",
        .bad = sums.count[bounces ? REPUTATION_BOUNCED : REPUTATION_COMPLAINED],
        .sent = sums.count[REPUTATION_SENT],
        .warn_ppm =
            bounces ? g->config->guard.bounce_warn_ppm : g->config->guard.complaint_warn_ppm,
        .pause_ppm =
            bounces ? g->config->guard.bounce_pause_ppm : g->config->guard.complaint_pause_ppm,
    };
}

static void put_share(struct buf *words, const struct share *s, uint64_t window_ms)
{
    buf_printf(words,
               "%" PRIu64 " %s of %" PRIu64 " recipients sent within the last %" PRIu64
               " hours (%" PRIu64 ".%02" PRIu64 "%%)",
               s->bad, s->what, s->sent, window_ms / HOUR_MS, s->bad * 100 / s->sent,
               s->bad * 10000 / s->sent % 100);
}

int gates_judge(struct gates *g, struct store_txn *t, struct slice domain, struct err *err)
{
    static const enum gate_reason reasons[] = {GATE_BOUNCES, GATE_COMPLAINTS};
    uint64_t now = clock_wall_ms(), window = g->config->guard.window_ms;
    uint64_t since = now > window ? now - window : 0;
    struct entry *e = entry_of(g, domain);

    struct reputation_sums all = reputation_since(g->reputation, slice_none(), since);
    if (e->judged_from_wall_ms > since)
        since = e->judged_from_wall_ms;
    struct reputation_sums own = reputation_since(g->reputation, domain, since);
    if (e->paused.reason != GATE_OPEN || own.count[REPUTATION_SENT] < g->config->guard.least)
        return 0;
    for (size_t i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
        struct share mine = share_of(g, reasons[i], own), ours = share_of(g, reasons[i], all);
        bool high = is_past(&mine, mine.warn_ppm);
        bool pause = is_past(&mine, mine.pause_ppm) || (high && is_past(&ours, ours.pause_ppm));
        if (!pause && (!high || now - e->warned_wall_ms < WARN_AGAIN_MS))
            continue;
        struct buf words = {0};
        put_share(&words, &mine, window);
        if (pause) {
            close_gate(&e->paused, reasons[i], buf_slice(&words));
            log_error("%.*s: %s; its newsletters are held until "
                      "`postern domains resume %.*s`",
                      SLICE_ARGS(domain), buf_cstr(&words), SLICE_ARGS(domain));
        } else {
            e->warned_wall_ms = now;
            log_warn("%.*s: %s; SES reviews accounts that go on like this", SLICE_ARGS(domain),
                     buf_cstr(&words));
        }
        buf_fini(&words);
        if (pause)
            return entry_put(t, e, err);
    }
    return 0;
}

/* -------- warm-up -------- */

/* What a warming domain may send today; UINT64_MAX = all. */
static uint64_t warm_up_allowance(const struct gates *g, struct slice domain, uint64_t now)
{
    const struct config_domain *d = config_domain_find(g->config, domain);

    if (d == NULL || d->warmup_first_day == 0)
        return UINT64_MAX;
    uint64_t first = reputation_first_wall_ms(g->reputation, domain);
    uint64_t today = now / DAY_MS, allowed = d->warmup_first_day;
    for (uint64_t day = first == 0 ? today : first / DAY_MS; day < today; day++) {
        allowed += allowed * d->warmup_growth_ppm / PPM;
        if (allowed > UINT32_MAX || d->warmup_growth_ppm == 0)
            break;
    }
    return allowed > UINT32_MAX ? UINT64_MAX : allowed;
}

static uint32_t warm_up_left(const struct gates *g, struct slice domain, uint32_t in_flight)
{
    uint64_t now = clock_wall_ms(), allowed = warm_up_allowance(g, domain, now);

    if (allowed == UINT64_MAX)
        return UINT32_MAX;
    uint64_t used =
        in_flight +
        reputation_since(g->reputation, domain, now / DAY_MS * DAY_MS).count[REPUTATION_SENT];
    return used < allowed ? (uint32_t)(allowed - used) : 0;
}

/* -------- questions -------- */

static void describe(const struct entry *e, struct gate *gate)
{
    *gate = (struct gate){.domain = buf_slice(&e->domain),
                          .reason = e->paused.reason,
                          .words = buf_slice(&e->paused.words),
                          .since_wall_ms = e->paused.since_wall_ms};
}

bool gates_closed(const struct gates *g, struct slice domain, enum lane lane, struct gate *gate)
{
    const struct entry *e = find(g, domain);

    if (lane != LANE_NEWSLETTER)
        return false;
    if (e != NULL && e->paused.reason != GATE_OPEN) {
        describe(e, gate);
        return true;
    }
    if (warm_up_left(g, domain, 0) > 0)
        return false;
    uint64_t day = clock_wall_ms() / DAY_MS * DAY_MS;
    *gate = (struct gate){.domain = domain,
                          .reason = GATE_WARM_UP,
                          .words = SLICE("today's share of the warm-up is sent"),
                          .since_wall_ms = day,
                          .until_wall_ms = day + DAY_MS};
    return true;
}

uint32_t gates_allowance(const struct gates *g, struct slice domain, enum lane lane,
                         uint32_t in_flight)
{
    struct gate gate;

    if (gates_closed(g, domain, lane, &gate))
        return 0;
    return lane == LANE_NEWSLETTER ? warm_up_left(g, domain, in_flight) : UINT32_MAX;
}

size_t gates_list(const struct gates *g, struct gate *list, size_t most)
{
    size_t n = 0;

    for (size_t i = 0; i < g->count && n < most; i++) {
        if (g->entries[i].paused.reason != GATE_OPEN)
            describe(&g->entries[i], &list[n++]);
    }
    for (size_t i = 0; i < g->config->domain_count && n < most; i++) {
        struct slice domain = slice_str(g->config->domains[i].name);
        if (gates_closed(g, domain, LANE_NEWSLETTER, &list[n]) && list[n].reason == GATE_WARM_UP)
            n++;
    }
    return n;
}

/* -------- batches -------- */

static struct slice mark_key(struct key *k, uint64_t batch_id)
{
    k->len = 0;
    key_u8(k, 'b');
    key_u64(k, batch_id);
    return key_slice(k);
}

enum batch_mark batch_mark_get(struct store_txn *t, uint64_t batch_id)
{
    struct key k;
    struct slice row;

    if (!store_get(t, DB_GATES, mark_key(&k, batch_id), &row) || row.len != 1)
        return MARK_NONE;
    return row.ptr[0] == MARK_CANCELLED ? MARK_CANCELLED : MARK_PAUSED;
}

int batch_mark_put(struct store_txn *t, uint64_t batch_id, enum batch_mark mark, struct err *err)
{
    uint8_t byte = (uint8_t)mark;
    struct key k;

    if (mark == MARK_NONE)
        return store_del(t, DB_GATES, mark_key(&k, batch_id), err);
    return store_put(t, DB_GATES, mark_key(&k, batch_id), slice_of(&byte, 1), err);
}
