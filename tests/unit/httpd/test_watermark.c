/*
 * Every event reaches the reader: two days of virtual time, thousands of events, many seeds.
 *
 * On one side SES and SQS: events come up to 6 h late, in any order, some twice or three times; for
 * two hours nobody fetches them. In the middle Postern's own code: the store, the watermark, what
 * an events request means and where its links lead. Its processes are killed before and after their
 * commits, the store is closed and opened again, answers get lost, the writer falls silent. On the
 * other side two readers: Ghost's analytics job with its lanes, and one that follows `next` for
 * ever. Clocks differ, jump forward and are set back.
 *
 * What must hold: Ghost has seen each event at least once, the follower exactly once and in order;
 * nothing is seen that did not happen, nor with two timestamps, nor before its time.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/sanitized.h"
#include "httpd/event_pages.h"
#include "httpd/events.h"
#include "mail/own_event.h"
#include "store/internal.h"
#include "tests/unit/store/state_dir.h"

#define START_US UINT64_C(1764000000123456)
#define DOMAIN   SLICE("mg.example.com")
#define S        INT64_C(1000000)
#define MINUTE   (60 * S)
#define HOUR     (60 * MINUTE)
enum {
    SEEDS = IS_SANITIZED ? 2 : 12, /* there it takes thirty times as long */
    EVENTS = 2500,
    ACCEPTED_BATCHES = 24,
    ACCEPTED_EACH = 3,
    ALL = EVENTS + ACCEPTED_BATCHES * ACCEPTED_EACH,
    COPIES = 3,
    PER_COMMIT = 40,
    LANES = 4,
};

/* ---- what may go wrong in a run ---- */

struct trouble {
    bool shared_clock; /* Ghost's clock is Postern's: it jumps with it */
    bool clock_steps;
    bool kills;         /* aborted transactions, lost answers, a silent writer, restarts */
    bool whole_seconds; /* Ghost's database keeps its cursors in whole seconds */
    bool on_seconds;    /* half of SES's times are, and nearly all lie in few minutes */
    uint32_t cap, limit;
    int64_t ses_ahead, ghost_ahead;
    /* Rules taken out: */
    bool no_watermark; /* answers leave without it */
    bool no_step_back; /* a range begins where it is said to */
};

/* ---- randomness: xorshift ---- */

static uint64_t dice;

static uint64_t roll(uint64_t below)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return dice % below;
}

static bool chance(unsigned per_mille)
{
    return roll(1000) < per_mille;
}

/* ---- the world ---- */

struct happening {
    enum event_type type;
    const char *tag;
    int64_t at; /* true time */
    struct event event;
    uint64_t first_us; /* its timestamp, once seen */
    unsigned ghost, ghost_lane_1, followed;
};

struct letter { /* in the queue */
    int64_t visible;
    uint32_t serial;
    bool deleted;
};

struct ghost_lane {
    bool has_cursor, has_stored;
    int64_t cursor_ms, stored_ms;
};

struct world {
    const struct trouble *trouble;
    int64_t now; /* true time, µs */
    int64_t postern_offset;
    char dir[64];
    struct store *store;
    struct arena arena;
    struct happening *all;
    struct letter *letters;
    size_t letter_count, letter_first;
    unsigned accepted_done;
    int64_t outage_from, outage_until;
    /* Ghost */
    struct ghost_lane lanes[LANES];
    int64_t begin_2_ms; /* where lane 2 began last */
    /* the follower */
    char *next; /* token; NULL = the first page */
    uint64_t last_us;
    unsigned early; /* events shown before their time */
};

static uint64_t postern_us(const struct world *w)
{
    return (uint64_t)(w->now + w->postern_offset);
}

static int64_t ghost_us(const struct world *w)
{
    return w->now + w->trouble->ghost_ahead + (w->trouble->shared_clock ? w->postern_offset : 0);
}

static struct store *opened(const char *dir)
{
    struct err err = {0};
    struct store *s = store_open_sized(dir, STORE_WRITE, 32 << 20, &err);

    if (s == NULL)
        fail_msg("%s", err.text);
    /* What is killed here is never the machine. */
    assert_int_equal(mdb_env_set_flags(s->env, MDB_NOSYNC, 1), 0);
    return s;
}

/* Half of them within seconds, some after hours. */
static int64_t delay(void)
{
    if (chance(500))
        return (int64_t)roll(5 * S);
    return chance(700) ? (int64_t)roll(10 * MINUTE) : (int64_t)roll(6 * HOUR);
}

static int by_time(const void *a, const void *b)
{
    const struct letter *x = a, *y = b;

    return x->visible != y->visible ? (x->visible > y->visible ? 1 : -1)
                                    : (x->serial > y->serial) - (x->serial < y->serial);
}

/* Now and then many at once, as when a newsletter goes out. Nothing in the first hour: the job has run
 * for the first time by then, whatever the clocks say. */
static int64_t moment(const struct trouble *trouble)
{
    static const int64_t rushes[] = {3 * HOUR, 20 * HOUR, 41 * HOUR};

    return chance(trouble->on_seconds ? 990 : 400) ? rushes[roll(3)] + (int64_t)roll(3 * MINUTE)
                                                   : HOUR + (int64_t)roll(47 * HOUR);
}

/* SES tells milliseconds. */
static uint64_t ses_time(const struct world *w, const struct happening *h)
{
    int64_t at = h->at + w->trouble->ses_ahead;
    bool on_second = w->trouble->on_seconds && h->at % 2 != 0;

    return (uint64_t)(at / (on_second ? S : 1000) * (on_second ? S : 1000));
}

static void populate(struct world *w)
{
    static const enum event_type types[] = {EVENT_DELIVERED, EVENT_OPENED, EVENT_OPENED,
                                            EVENT_FAILED, EVENT_COMPLAINED};

    w->all = mem_zero(ALL, sizeof *w->all);
    w->letters = mem_zero((size_t)EVENTS * COPIES, sizeof *w->letters);
    for (uint32_t i = 0; i < EVENTS; i++) {
        struct happening *h = &w->all[i];
        struct slice *tags = arena_array(&w->arena, 1, sizeof *tags);
        struct name_value *vars = arena_array(&w->arena, 1, sizeof *vars);
        h->type = types[roll(5)];
        h->tag = chance(900) ? "bulk-email" : "automation-email";
        h->at = (int64_t)START_US + moment(w->trouble);
        tags[0] = slice_str(h->tag);
        vars[0] = (struct name_value){SLICE("email-id"), SLICE("65f0c1e2a3b4c5d6e7f80910")};
        h->event = (struct event){
            .ses_us = ses_time(w, h),
            .type = h->type,
            .severity = h->type == EVENT_FAILED ? SEVERITY_PERMANENT : SEVERITY_NONE,
            .domain = DOMAIN,
            .recipient = arena_printf(&w->arena, "%u@example.net", i),
            .message_id = SLICE("m@mg.example.com"),
            .tags = tags,
            .tag_count = 1,
            .vars = vars,
            .var_count = 1,
        };
        event_make_id(&h->event, &h->event.recipient, 1);
        for (uint64_t copies = chance(150) ? 1 + roll(COPIES) : 1; copies > 0; copies--)
            w->letters[w->letter_count++] = (struct letter){h->at + delay(), i, false};
    }
    qsort(w->letters, w->letter_count, sizeof *w->letters, by_time);
}

/* ---- Postern: from the queue into the store ---- */

static void put_accepted(struct world *w, struct store_txn *t, unsigned batch)
{
    struct recipient list[ACCEPTED_EACH] = {{0}};
    struct slice tag = SLICE("bulk-email");
    struct message_head head = {
        .domain = DOMAIN,
        .message_id = SLICE("accepted@mg.example.com"),
        .batch_mode = true,
        .tags = &tag,
        .tag_count = 1,
        .accepted_wall_us = postern_us(w) - roll(3000),
    };
    struct err err = {0};

    for (uint32_t i = 0; i < ACCEPTED_EACH; i++) {
        uint32_t serial = EVENTS + batch * ACCEPTED_EACH + i;
        w->all[serial].type = EVENT_ACCEPTED;
        list[i].address = arena_printf(&w->arena, "%u@example.net", serial);
    }
    if (event_put_accepted(t, &head, 1000 + batch, 0, list, ACCEPTED_EACH, postern_us(w), &err) !=
        0)
        fail_msg("%s", err.text);
}

static void consume(struct world *w)
{
    uint32_t taken[PER_COMMIT];
    struct err err = {0};
    size_t count = 0;
    bool due = w->accepted_done < ACCEPTED_BATCHES &&
               w->now >= (int64_t)START_US + w->accepted_done * 2 * HOUR;
    bool alive = !w->trouble->kills || !chance(20);

    if (w->now >= w->outage_from && w->now < w->outage_until)
        return;
    /* SQS keeps no order. */
    for (size_t i = w->letter_first; i < w->letter_count && w->letters[i].visible <= w->now; i++)
        if (!w->letters[i].deleted && count < PER_COMMIT && chance(800))
            taken[count++] = (uint32_t)i;
    if (count == 0 && !due)
        return;
    struct store_txn *t = store_begin_write(w->store, &err);
    assert_non_null(t);
    for (size_t i = 0; i < count; i++) {
        struct event e = w->all[w->letters[taken[i]].serial].event;
        if (event_put(t, &e, postern_us(w), &err) < 0)
            fail_msg("%s", err.text);
    }
    if (due)
        put_accepted(w, t, w->accepted_done);
    if (!alive) {
        store_abort(t);
        return;
    }
    assert_int_equal(store_commit(t, &err), 0);
    w->accepted_done += due;
    /* Killed between the commit and the deletion, it will get them again. */
    bool deletes = !w->trouble->kills || !chance(20);
    for (size_t i = 0; i < count; i++) {
        w->letters[taken[i]].deleted = deletes;
    }
    while (w->letter_first < w->letter_count && w->letters[w->letter_first].deleted)
        w->letter_first++;
}

static void restart(struct world *w)
{
    store_close(w->store);
    w->store = opened(w->dir);
}

/* ---- Postern: an answer ---- */

struct item {
    uint32_t serial;
    enum event_type type;
    uint64_t us;
};

struct page {
    uint32_t count;
    struct item items[PAGE_LIMIT_MAX];
    struct buf next; /* token */
};

static void items_read(struct world *w, struct buf *json, struct page *page)
{
    cJSON *tree = json_parse(buf_slice(json));
    uint32_t n = 0;

    assert_non_null(tree);
    for (const cJSON *one = json_first(tree); one != NULL; one = one->next, n++) {
        struct slice serial = json_get_text(one, "recipient"), rest;
        uint64_t number;
        assert_true(slice_cut(serial, '@', &serial, &rest) && slice_to_u64(serial, &number));
        page->items[n] = (struct item){
            .serial = (uint32_t)number,
            .type = event_type_from(json_get_text(one, "event")),
            .us = (uint64_t)(json_get(one, "timestamp")->valuedouble * 1e6 + 0.5),
        };
        w->early += page->items[n].us > postern_us(w);
    }
    assert_int_equal(n, page->count);
    json_free(tree);
}

/* The writer's part. False: it says nothing. */
static bool raise(struct world *w, uint64_t until_us)
{
    struct err err = {0};

    if (w->trouble->no_watermark)
        return true;
    struct store_txn *t = store_begin_write(w->store, &err);
    assert_non_null(t);
    assert_int_equal(watermark_raise(t, DOMAIN, until_us, &err), 0);
    if (w->trouble->kills && chance(30)) {
        store_abort(t);
        return false;
    }
    assert_int_equal(store_commit(t, &err), 0);
    return true;
}

static uint64_t stored_watermark(struct world *w)
{
    struct err err = {0};
    struct store_txn *t = store_begin_read(w->store, &err);

    assert_non_null(t);
    uint64_t us = watermark_read(t, DOMAIN);
    store_end_read(t);
    return us;
}

/* Raised, or the answer ends where an earlier one did. */
static void announce(struct world *w, struct event_pages *p)
{
    if (!raise(w, p->covered_us) && p->covered_us > stored_watermark(w))
        p->covered_us = stored_watermark(w);
    if (p->query.until_us < p->covered_us || w->trouble->no_watermark)
        p->query.until_us = p->covered_us;
    consume(w); /* others work meanwhile */
}

static void read_rows(struct world *w, struct event_pages *p)
{
    struct err err = {0};
    struct store_txn *t = store_begin_read(w->store, &err);

    assert_non_null(t);
    if (p->query.from_us <= p->query.until_us && event_query_run(t, &p->query, &p->page, &err) != 0)
        fail_msg("%s", err.text);
    store_end_read(t);
}

/* As httpd does it. False: the client has got nothing. */
static bool serve(struct world *w, struct slice token, struct slice query, struct page *page)
{
    const struct trouble *trouble = w->trouble;
    const struct slice domain = DOMAIN;
    uint64_t now_us = postern_us(w);
    struct event_pages p = {.query = {.domains = &domain, .domain_count = 1}};
    struct events_request r;
    struct arena a = {0};
    struct slice why = {0};
    struct err err = {0};

    buf_reset(&page->next);
    if (!events_request_read(&r, DOMAIN, token, query, now_us, 90 * 24 * (uint64_t)HOUR, &a, &why))
        fail_msg("%.*s", SLICE_ARGS(why));
    struct store_txn *t = store_begin_read(w->store, &err);
    assert_non_null(t);
    if (!trouble->no_step_back)
        assert_int_equal(events_step_back(&r, t, &err), 0);
    store_end_read(t);
    events_query_of(&r, &p.query);
    p.covered_us = events_covered_us(&r.token, now_us);
    p.ends_now = r.ends_now;
    buf_add_byte(&p.page.items, '[');
    bool at_once = event_pages_begin(&p, trouble->no_watermark ? 0 : stored_watermark(w));
    consume(w);
    if (!at_once)
        announce(w, &p);
    w->now += (int64_t)roll(30000);
    consume(w);
    read_rows(w, &p);
    if (event_pages_goes_on(&p)) {
        event_page_go_on(&p.page, p.query.until_us);
        announce(w, &p);
        read_rows(w, &p);
    }
    event_page_end(&p.query, &p.page);
    /* As reply_page() does. */
    if (r.ends_now && !r.token.ascending && !r.token.has_position &&
        r.token.until_us > p.query.until_us)
        r.token.until_us = p.query.until_us;
    page->count = p.page.count;
    buf_add_byte(&p.page.items, ']');
    struct page_token next =
        events_link(&r.token, LINK_NEXT, page->count, &p.page.first, &p.page.last);
    page_token_write(&page->next, &next);
    w->now += (int64_t)roll(300000);
    items_read(w, &p.page.items, page);
    event_page_fini(&p.page);
    arena_fini(&a);
    return !trouble->kills || !chance(15); /* else it got lost on its way */
}

/* What somebody was shown has happened, and always at one and the same time. */
static struct happening *shown(struct world *w, const struct item *item)
{
    assert_true(item->serial < ALL);
    struct happening *h = &w->all[item->serial];
    assert_int_equal(h->type, item->type);
    assert_true(h->first_us == 0 || h->first_us == item->us);
    h->first_us = item->us;
    return h;
}

/* ---- the follower ---- */

static void follow(struct world *w)
{
    char query[64];
    struct page *page = mem_zero(1, sizeof *page);

    (void)snprintf(query, sizeof query, "begin=%" PRIu64 "&ascending=yes&limit=%" PRIu32,
                   START_US / 1000000 - 3600 * 24, w->trouble->limit);
    while (serve(w, w->next == NULL ? slice_none() : slice_str(w->next), slice_str(query), page)) {
        for (uint32_t i = 0; i < page->count; i++) {
            assert_true(page->items[i].us >= w->last_us);
            w->last_us = page->items[i].us;
            shown(w, &page->items[i])->followed++;
        }
        free(w->next);
        w->next = mem_strdup(buf_cstr(&page->next));
        if (page->count == 0)
            break;
    }
    buf_fini(&page->next);
    free(page);
}

/* ---- Ghost: spec/ghost.md §3 ---- */

struct walk {
    uint32_t lane; /* 0: opened, 1: the others, 2: missing, 3: scheduled */
    int64_t begin_ms, end_ms;
    uint32_t cap;
    uint32_t count;
    int64_t last_ms; /* the greatest timestamp, microseconds cut off; 0 = none */
    bool capped;
};

static void put_seconds(struct buf *to, const char *name, int64_t ms)
{
    buf_printf(to, "&%s=%" PRId64, name, ms / 1000);
    if (ms % 1000 != 0)
        buf_printf(to, ".%03" PRId64, ms % 1000);
    while (ms % 1000 != 0 && to->ptr[to->len - 1] == '0')
        to->len--;
}

static void ghost_takes(struct world *w, struct walk *k, const struct item *item)
{
    struct happening *h = shown(w, item);
    int64_t ms = (int64_t)(item->us / 1000);

    assert_string_equal(h->tag, "bulk-email");
    assert_true(k->lane != 0 || h->type == EVENT_OPENED);
    assert_true(k->lane != 1 || h->type != EVENT_OPENED);
    h->ghost++;
    h->ghost_lane_1 += k->lane == 0;
    if (ms > k->last_ms)
        k->last_ms = ms;
    k->count++;
}

/* False: an error, after which the run ends. */
static bool ghost_walks(struct world *w, struct walk *k)
{
    static const char *const events[LANES] = {
        "opened", "delivered+OR+failed+OR+unsubscribed+OR+complained",
        "delivered+OR+opened+OR+failed+OR+unsubscribed+OR+complained",
        "delivered+OR+opened+OR+failed+OR+unsubscribed+OR+complained"};
    uint64_t started_us = (uint64_t)ghost_us(w);
    struct page *page = mem_zero(1, sizeof *page);
    struct buf query = {0}, token = {0};
    bool fine = true;

    buf_printf(&query, "limit=%" PRIu32 "&event=%s&tags=bulk-email&ascending=yes",
               w->trouble->limit, events[k->lane]);
    put_seconds(&query, "begin", k->begin_ms);
    put_seconds(&query, "end", k->end_ms);
    while (true) {
        uint32_t usable = 0;
        if (!serve(w, buf_slice(&token), buf_slice(&query), page)) {
            fine = false;
            break;
        }
        for (uint32_t i = 0; i < page->count; i++) {
            if (page->items[i].us > started_us)
                continue;
            ghost_takes(w, k, &page->items[i]);
            usable++;
        }
        if (usable == 0)
            break;
        k->capped =
            k->count >= k->cap && (int64_t)(page->items[page->count - 1].us / 1000) > k->begin_ms;
        if (k->capped)
            break;
        buf_reset(&token);
        buf_add_slice(&token, buf_slice(&page->next));
    }
    buf_fini(&page->next);
    buf_fini(&query);
    buf_fini(&token);
    free(page);
    return fine;
}

static int64_t stored_as(const struct world *w, int64_t ms)
{
    return w->trouble->whole_seconds ? (ms + 500) / 1000 * 1000 : ms;
}

/* One lane of a run. False: the run ends. */
static bool ghost_lane(struct world *w, uint32_t number, int64_t end_ms, uint32_t cap,
                       uint32_t *count)
{
    struct ghost_lane *lane = &w->lanes[number];
    int64_t now_ms = ghost_us(w) / 1000;
    struct walk k = {.lane = number, .end_ms = end_ms, .cap = cap};

    *count = 0;
    if (!lane->has_cursor) {
        lane->has_cursor = true;
        lane->cursor_ms = lane->has_stored ? lane->stored_ms
                          : number < 2     ? now_ms - 30 * 60 * 1000
                                           : now_ms - 2 * 3600 * 1000;
    }
    k.begin_ms = lane->cursor_ms;
    if (k.end_ms <= k.begin_ms)
        return true;
    if (number == 1)
        w->begin_2_ms = k.begin_ms;
    if (!ghost_walks(w, &k))
        return false;
    *count = k.count;
    if (k.last_ms == 0)
        return true;
    lane->cursor_ms = k.capped ? k.last_ms : k.last_ms + 1000;
    if (k.last_ms < now_ms - 2000) {
        lane->has_stored = true;
        lane->stored_ms = stored_as(w, k.last_ms);
    }
    return true;
}

/* True: it has had its fill and starts again at once. */
static bool ghost_runs(struct world *w)
{
    uint32_t cap = w->trouble->cap, opened, others, missing, scheduled = 0;

    if (!ghost_lane(w, 0, ghost_us(w) / 1000 - 60000, cap, &opened))
        return false;
    if (!ghost_lane(w, 1, ghost_us(w) / 1000 - 60000, opened < cap ? cap - opened : 0, &others))
        return false;
    int64_t trusted_ms = ghost_us(w) / 1000 - 30 * 60 * 1000;
    if (w->begin_2_ms != 0 && w->begin_2_ms < trusted_ms)
        trusted_ms = w->begin_2_ms;
    uint32_t used = opened + others;
    if (!ghost_lane(w, 2, trusted_ms, used < cap ? cap - used : 0, &missing))
        return false;
    used += missing;
    /* A publisher asks for all of the past, once. */
    if (w->now > (int64_t)START_US + 30 * HOUR && used <= cap) {
        if (!w->lanes[3].has_cursor)
            w->lanes[3] =
                (struct ghost_lane){.has_cursor = true, .cursor_ms = (int64_t)START_US / 1000};
        (void)ghost_lane(w, 3, ((int64_t)START_US + 29 * HOUR) / 1000, cap, &scheduled);
    }
    return used + scheduled >= cap;
}

/* What is in memory only is gone. (One that has stored nothing yet would look 30 minutes back: with
 * Postern's clock an hour behind, its first events are for lane 3 then. Not told here.) */
static void ghost_restarts(struct world *w)
{
    for (size_t i = 0; i < 3; i++)
        if (w->lanes[i].has_stored)
            w->lanes[i].has_cursor = false;
    w->begin_2_ms = 0;
}

/* ---- two days ---- */

static void step_clock(struct world *w)
{
    static const int64_t steps[] = {S / 2, 2 * S, 40 * S, 7 * MINUTE, HOUR};
    int64_t step = steps[roll(5)];

    w->postern_offset += chance(500) ? step : -step;
    if (w->postern_offset > 3 * HOUR || w->postern_offset < -3 * HOUR)
        w->postern_offset = 0;
}

static void live(struct world *w, int64_t until, bool calm)
{
    int64_t ghost_next = w->now, follow_next = w->now;

    while (w->now < until) {
        w->now += 1 * S + (int64_t)roll((uint64_t)MINUTE);
        consume(w);
        if (!calm && w->trouble->kills && chance(5))
            restart(w);
        if (!calm && w->trouble->kills && chance(5))
            ghost_restarts(w);
        if (!calm && w->trouble->clock_steps && chance(4))
            step_clock(w);
        if (w->now >= ghost_next) {
            for (unsigned again = 0; again < 20 && ghost_runs(w); again++)
                ;
            ghost_next = w->now + 5 * MINUTE;
        }
        if (w->now >= follow_next) {
            follow(w);
            follow_next = w->now + (int64_t)roll(12 * (uint64_t)MINUTE);
        }
    }
}

struct result {
    unsigned unseen, opens_late, unfollowed, followed_twice, early;
};

static struct result count_result(const struct world *w)
{
    struct result r = {.early = w->early};

    for (uint32_t i = 0; i < ALL; i++) {
        const struct happening *h = &w->all[i];
        bool bulk = i < EVENTS && strcmp(h->tag, "bulk-email") == 0;
        r.unseen += bulk && h->ghost == 0;
        r.opens_late += bulk && h->type == EVENT_OPENED && h->ghost_lane_1 == 0;
        r.unfollowed += h->followed == 0;
        r.followed_twice += h->followed > 1;
    }
    return r;
}

static struct result run(uint64_t seed, const struct trouble *trouble)
{
    struct world w = {.trouble = trouble, .now = (int64_t)START_US};

    dice = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    (void)snprintf(w.dir, sizeof w.dir, "/tmp/postern-watermark-XXXXXX");
    assert_non_null(mkdtemp(w.dir));
    w.store = opened(w.dir);
    w.outage_from = (int64_t)START_US + (int64_t)roll(40 * HOUR);
    w.outage_until = w.outage_from + 2 * HOUR;
    populate(&w);
    live(&w, (int64_t)START_US + 48 * HOUR, false);
    /* Until the last has come, the clocks are past all that was shown, and lane 3 has looked. */
    struct trouble peace = *trouble;
    peace.kills = false;
    w.trouble = &peace;
    live(&w, w.now + 15 * HOUR, true);
    assert_int_equal(w.letter_first, w.letter_count);
    assert_int_equal(w.accepted_done, ACCEPTED_BATCHES);
    struct result r = count_result(&w);

    store_close(w.store);
    state_dir_remove(w.dir);
    free(w.all);
    free(w.letters);
    free(w.next);
    arena_fini(&w.arena);
    return r;
}

static struct trouble any_trouble(uint64_t seed)
{
    static const int64_t aheads[] = {0, 0, 90 * S, -90 * S, 20 * MINUTE, -20 * MINUTE};

    dice = seed * UINT64_C(0x2545f4914f6cdd1d) + 7;
    return (struct trouble){
        .shared_clock = chance(500),
        .clock_steps = chance(600),
        .kills = chance(800),
        .whole_seconds = chance(500),
        .on_seconds = chance(300),
        .cap = chance(500) ? 10000 : 60 + (uint32_t)roll(200),
        .limit = chance(300) ? 300 : 10 + (uint32_t)roll(60),
        .ses_ahead = aheads[roll(6)],
        .ghost_ahead = aheads[roll(6)],
    };
}

static void every_event_reaches_both_readers(void **unused)
{
    const char *more = getenv("POSTERN_SEEDS"); /* to look for longer */
    uint64_t seeds = SEEDS;

    (void)unused;
    if (more != NULL)
        assert_true(slice_to_u64(slice_str(more), &seeds));
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        struct trouble trouble = any_trouble(seed);
        /* Where Ghost goes on after a restart whole seconds may round past some events: they are
         * for lane 3. */
        bool rounds_past = trouble.whole_seconds && trouble.kills;
        struct result r = run(seed, &trouble);
        if (r.unseen + r.unfollowed + r.followed_twice + r.early > 0 ||
            (r.opens_late > 0 && !rounds_past))
            fail_msg(
                "seed %" PRIu64 ": Ghost misses %u, opens not by lane 1 %u; the follower "
                "misses %u, has twice %u; %u before their time (clock steps %d shared %d, "
                "kills %d, seconds %d, cap %u, limit %u, SES %+" PRId64 " s, Ghost %+" PRId64 " s)",
                seed, r.unseen, r.opens_late, r.unfollowed, r.followed_twice, r.early,
                trouble.clock_steps, trouble.shared_clock, trouble.kills, trouble.whole_seconds,
                trouble.cap, trouble.limit, trouble.ses_ahead / S, trouble.ghost_ahead / S);
    }
}

/* The readers of this test do lose what they would lose: without the rule it fails. */
static void without_the_watermark_events_are_lost(void **unused)
{
    struct trouble trouble = {.cap = 10000, .limit = 300, .no_watermark = true};
    struct result r = run(1, &trouble);

    (void)unused;
    assert_true(r.opens_late > 10);
    assert_true(r.unseen > 10);
    assert_true(r.unfollowed > 10);
    assert_int_equal(r.followed_twice, 0);
}

/* Within the second that Ghost steps over there may be events long since stored. */
static void without_the_step_back_lane_1_loses_opens(void **unused)
{
    struct trouble trouble = {.cap = 10000, .limit = 300, .no_step_back = true};
    unsigned late = 0;

    (void)unused;
    for (uint64_t seed = 1; seed <= SEEDS && late == 0; seed++)
        late += run(seed, &trouble).opens_late;
    assert_true(late > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_event_reaches_both_readers),
        cmocka_unit_test(without_the_watermark_events_are_lost),
        cmocka_unit_test(without_the_step_back_lane_1_loses_opens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
