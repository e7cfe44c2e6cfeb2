#include "store/feed.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/event_rows.h"
#include "store/events.h"

enum { MEMBERS = sizeof(struct feed) / sizeof(uint64_t) };
_Static_assert(sizeof(struct feed) == MEMBERS * sizeof(uint64_t), "a feed is u64 only");

struct watch {
    const struct config_domain *domain;
    struct feed feed;
    uint64_t enough_mono_ms; /* the same as feed.enough_wall_ms, of this life */
    bool changed, silent;
};

struct feeds {
    const struct config *config;
    struct gauge_events *gauges;
    struct watch *watches; /* one for each configured domain */
    size_t count, last;    /* last: the one asked for last */
};

void feed_read(struct store_txn *t, struct slice domain, struct feed *f)
{
    uint64_t members[MEMBERS] = {0};
    uint32_t number = store_domain_find(t, domain);
    struct key k = {.len = 0};
    struct slice row = {0};

    key_domain(&k, number);
    if (number != 0 && store_get(t, DB_FEEDS, key_slice(&k), &row))
        for (size_t i = 0; i < MEMBERS && (i + 1) * 8 <= row.len; i++)
            members[i] = read_be(row.ptr + i * 8, 8);
    memcpy(f, members, sizeof *f);
}

static int feed_write(struct store_txn *t, struct slice domain, const struct feed *f,
                      struct err *err)
{
    uint64_t members[MEMBERS];
    uint32_t number = store_domain_intern(t, domain, err);
    struct key k = {.len = 0}, row = {.len = 0};

    if (number == 0)
        return -1;
    memcpy(members, f, sizeof *f);
    for (size_t i = 0; i < MEMBERS; i++)
        key_u64(&row, members[i]);
    key_domain(&k, number);
    return store_put(t, DB_FEEDS, key_slice(&k), key_slice(&row), err);
}

uint64_t feed_unread(struct store_txn *t, struct slice domain, uint64_t most)
{
    uint32_t number = store_domain_find(t, domain);
    struct key from = {.len = 0};
    MDB_cursor *cursor;
    uint64_t count = 0;
    MDB_val v;

    if (number == 0 || mdb_cursor_open(t->mdb, t->store->dbi[DB_EVENTS], &cursor) != MDB_SUCCESS)
        return 0;
    key_domain(&from, number);
    key_u64(&from, watermark_read(t, domain) + 1);
    MDB_val k = store_val(key_slice(&from));
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    while (rc == MDB_SUCCESS && count < most && k.mv_size > 4 &&
           memcmp(k.mv_data, from.at, 4) == 0) {
        struct group g;
        count += group_read(store_slice(v), &g) ? 0 : 1;
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return count;
}

uint64_t feed_first_unread_us(struct store_txn *t, struct slice domain)
{
    uint32_t number = store_domain_find(t, domain);
    uint64_t watermark_us = watermark_read(t, domain), first_us = 0;
    MDB_cursor *cursor;

    if (number == 0 || mdb_cursor_open(t->mdb, t->store->dbi[DB_BY_TYPE], &cursor) != MDB_SUCCESS)
        return 0;
    for (uint8_t kind = EVENT_ACCEPTED + 1; kind < EVENT_KIND_END; kind++) {
        struct key from = {.len = 0};
        key_domain(&from, number);
        key_u8(&from, kind);
        size_t prefix_len = from.len;
        key_u64(&from, watermark_us + 1);
        MDB_val k = store_val(key_slice(&from)), v;
        if (mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE) != MDB_SUCCESS || k.mv_size < from.len ||
            memcmp(k.mv_data, from.at, prefix_len) != 0)
            continue;
        uint64_t us = read_be((const uint8_t *)k.mv_data + prefix_len, 8);
        first_us = first_us == 0 || us < first_us ? us : first_us;
    }
    mdb_cursor_close(cursor);
    return first_us;
}

/* -------- the writer -------- */

struct feeds *feeds_open(const struct config *config, struct gauge_events *gauges,
                         struct store_txn *t)
{
    struct feeds *f = mem_zero(1, sizeof *f);
    uint64_t now_wall_ms = clock_wall_ms(), now_mono_ms = clock_mono_ms();

    f->config = config;
    f->gauges = gauges;
    f->count = config->domain_count;
    f->watches = mem_zero(f->count, sizeof *f->watches);
    for (size_t i = 0; i < f->count; i++) {
        struct watch *w = &f->watches[i];
        w->domain = &config->domains[i];
        feed_read(t, slice_str(w->domain->name), &w->feed);
        uint64_t enough = w->feed.enough_wall_ms;
        uint64_t passed_ms = enough != 0 && now_wall_ms > enough ? now_wall_ms - enough : 0;
        w->enough_mono_ms = passed_ms < now_mono_ms ? now_mono_ms - passed_ms : 0;
    }
    return f;
}

void feeds_close(struct feeds *f)
{
    if (f == NULL)
        return;
    free(f->watches);
    free(f);
}

static struct watch *watch_of(struct feeds *f, struct slice domain)
{
    for (size_t i = 0; i < f->count; i++) {
        size_t at = (f->last + i) % f->count;
        if (slice_eq(slice_str(f->watches[at].domain->name), domain)) {
            f->last = at;
            return &f->watches[at];
        }
    }
    return NULL;
}

void feeds_sent(struct feeds *f, struct slice domain)
{
    struct watch *w = watch_of(f, domain);

    if (w == NULL)
        return;
    w->changed = true;
    w->feed.sent++;
    if (w->feed.enough_wall_ms == 0 && f->config->alarm.no_events_least != 0 &&
        w->feed.sent >= f->config->alarm.no_events_least) {
        w->feed.enough_wall_ms = clock_wall_ms();
        w->enough_mono_ms = clock_mono_ms();
    }
}

void feeds_heard(struct feeds *f, struct slice domain)
{
    struct watch *w = watch_of(f, domain);

    if (w == NULL)
        return;
    w->changed = true;
    w->feed.event_wall_ms = clock_wall_ms();
    w->feed.sent = w->feed.enough_wall_ms = 0;
}

void feeds_read_on(struct feeds *f, struct slice domain)
{
    struct watch *w = watch_of(f, domain);

    if (w == NULL)
        return;
    w->changed = true;
    w->feed.read_wall_ms = clock_wall_ms();
}

int feeds_flush(struct feeds *f, struct store_txn *t, struct err *err)
{
    for (size_t i = 0; i < f->count; i++) {
        struct watch *w = &f->watches[i];
        if (w->changed && feed_write(t, slice_str(w->domain->name), &w->feed, err) != 0)
            return -1;
        w->changed = false;
    }
    return 0;
}

void feed_put_advice(struct buf *to, const struct config *config, struct slice domain)
{
    const struct config_domain *d = config_domain_find(config, domain);
    const char *sets[] = {d == NULL ? "" : d->newsletter_configuration_set,
                          d == NULL ? "" : d->system_configuration_set};

    if (config->event_queues.count == 0) {
        buf_add_str(to, "no event queue is configured: name one in queues { newsletter_events }");
        return;
    }
    buf_add_str(to, "check that ");
    if (sets[0][0] != '\0' || sets[1][0] != '\0')
        buf_printf(to, "the configuration set %s%s%s", sets[0],
                   sets[0][0] != '\0' && sets[1][0] != '\0' ? " or " : "", sets[1]);
    else
        buf_add_str(to, "the account's default configuration set (the domain names none)");
    buf_printf(to,
               " has an SNS event destination, that the topic has a confirmed subscription of the "
               "queue %s%s, and that the queue's policy lets the topic send to it",
               config->event_queues.texts[0], config->event_queues.count > 1 ? " or another" : "");
}

static void say(const struct feeds *f, const struct watch *w)
{
    struct buf advice = {0};

    feed_put_advice(&advice, f->config, slice_str(w->domain->name));
    log_error("%s: SES has taken %" PRIu64 " mails and not one event has come back: %s",
              w->domain->name, w->feed.sent, buf_cstr(&advice));
    buf_fini(&advice);
}

void feeds_look(struct feeds *f)
{
    uint64_t now_ms = clock_mono_ms(), silent = 0, since_ms = 0;

    for (size_t i = 0; i < f->count; i++) {
        struct watch *w = &f->watches[i];
        bool is_silent = f->config->alarm.no_events_least != 0 && w->feed.enough_wall_ms != 0 &&
                         now_ms - w->enough_mono_ms >= f->config->alarm.no_events_after_ms;
        if (is_silent && !w->silent)
            say(f, w);
        else if (!is_silent && w->silent)
            log_info("%s: events come again", w->domain->name);
        w->silent = is_silent;
        if (is_silent) {
            silent++;
            if (since_ms == 0 || w->feed.enough_wall_ms < since_ms)
                since_ms = w->feed.enough_wall_ms;
        }
    }
    atomic_store_explicit(&f->gauges->silent_since_wall_ms, since_ms, memory_order_relaxed);
    atomic_store_explicit(&f->gauges->silent_domains, silent, memory_order_relaxed);
}

bool feeds_at(const struct feeds *f, size_t at, struct slice *domain, struct feed *feed,
              bool *is_silent)
{
    if (at >= f->count)
        return false;
    *domain = slice_str(f->watches[at].domain->name);
    *feed = f->watches[at].feed;
    *is_silent = f->watches[at].silent;
    return true;
}
