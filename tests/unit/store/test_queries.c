/*
 * Random events, filters, ranges and walks against a slow model: a list that is looked through from
 * end to end, with a judgement of its own on what fits. POSTERN_SEED repeats a run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/json.h"
#include "mail/filter.h"
#include "mail/own_event.h"
#include "store/events.h"
#include "store/internal.h"
#include "tests/unit/store/state_dir.h"

enum {
    ROUNDS = 12,
    WALKS = 60, /* in each round */
    EVENTS_MAX = 4000,
    TAGS = 4,
    ADDRESSES = 12,
    MESSAGES = 5,
    SUBJECTS = 3,
    DOMAINS = 2,
    SPAN_US = 40000000,
};
#define NOW_US UINT64_C(1764000000000000)

static const char *const tag_names[TAGS] = {"bulk-email", "Ghost-Email", "blog-1", "rare"};
static const char *const subjects[SUBJECTS] = {"Hello there", "The news", "Good bye"};
static const struct slice domains[DOMAINS] = {{(const uint8_t *)"a.example", 9},
                                              {(const uint8_t *)"b.example", 9}};

struct known {
    uint64_t us;
    uint8_t id[EVENT_ID_BYTES];
    unsigned domain, tags, address, message, subject;
    enum event_type type;
    bool permanent;
};

struct world {
    char dir[64];
    struct store *store;
    struct arena arena;
    struct known known[EVENTS_MAX];
    size_t count;
    unsigned seed, made;
};

static unsigned pick(struct world *w, unsigned below)
{
    w->seed = w->seed * 1103515245u + 12345u;
    return (w->seed >> 8) % below;
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    const char *seed = getenv("POSTERN_SEED");
    struct err err = {0};

    w->seed = seed != NULL ? (unsigned)strtoul(seed, NULL, 10) : (unsigned)time(NULL);
    print_message("POSTERN_SEED=%u\n", w->seed);
    (void)snprintf(w->dir, sizeof w->dir, "/tmp/postern-queries-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    w->store = store_open_sized(w->dir, STORE_WRITE, 1 << 20, &err);
    assert_non_null(w->store);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;

    store_close(w->store);
    state_dir_remove(w->dir);
    arena_fini(&w->arena);
    free(w);
    return 0;
}

/* -------- events -------- */

static struct slice address_of(struct world *w, unsigned n)
{
    return arena_printf(&w->arena, "%s%u@readers.example", n % 2 == 0 ? "ann" : "Bob", n);
}

static struct slice message_of(struct world *w, unsigned n)
{
    return arena_printf(&w->arena, "2026.%u@a.example", n);
}

static struct slice *tags_of(struct world *w, unsigned mask, size_t *count)
{
    struct slice *tags = arena_array(&w->arena, TAGS, sizeof *tags);

    *count = 0;
    for (unsigned i = 0; i < TAGS; i++)
        if ((mask >> i & 1u) != 0)
            tags[(*count)++] = slice_str(tag_names[i]);
    return tags;
}

static struct known *remember(struct world *w, const struct known *k, const uint8_t *id)
{
    struct known *at = &w->known[w->count++];

    assert_true(w->count <= EVENTS_MAX);
    *at = *k;
    memcpy(at->id, id, EVENT_ID_BYTES);
    return at;
}

/* Times collide: many events share a microsecond. Never whole seconds, which would be moved. */
static uint64_t some_time(struct world *w)
{
    return NOW_US - SPAN_US + pick(w, SPAN_US / 20000) * 20000u + 1001;
}

static void put_one(struct world *w, struct store_txn *t)
{
    static const enum event_type types[] = {EVENT_DELIVERED, EVENT_DELIVERED, EVENT_DELIVERED,
                                            EVENT_OPENED,    EVENT_FAILED,    EVENT_FAILED,
                                            EVENT_CLICKED,   EVENT_COMPLAINED};
    struct known k = {
        .us = some_time(w),
        .domain = pick(w, 4) == 0,
        .tags = pick(w, 1u << (TAGS - 1)) | (pick(w, 40) == 0 ? 1u << (TAGS - 1) : 0u),
        .address = pick(w, ADDRESSES),
        .message = pick(w, MESSAGES),
        .subject = pick(w, SUBJECTS),
        .type = types[pick(w, 8)],
    };
    struct err err;
    struct slice serial = arena_printf(&w->arena, "%u", w->made++);

    k.permanent = k.type == EVENT_FAILED && pick(w, 2) == 0;
    struct event e = {
        .ses_us = k.us,
        .type = k.type,
        .severity = k.type != EVENT_FAILED ? SEVERITY_NONE
                    : k.permanent          ? SEVERITY_PERMANENT
                                           : SEVERITY_TEMPORARY,
        .domain = domains[k.domain],
        .recipient = address_of(w, k.address),
        .message_id = message_of(w, k.message),
        .subject = slice_str(subjects[k.subject]),
    };
    e.tags = tags_of(w, k.tags, &e.tag_count);
    event_make_id(&e, &serial, 1);
    assert_int_equal(event_put(t, &e, NOW_US, &err), 1);
    assert_true(e.timestamp_us == k.us);
    (void)remember(w, &k, e.id);
}

/* The `accepted` events of a batch: groups of them, addresses that repeat, one row or sixteen. */
static void put_batch(struct world *w, struct store_txn *t)
{
    bool own_ids = pick(w, 3) == 0;
    unsigned message = pick(w, MESSAGES), subject = pick(w, SUBJECTS), mask = pick(w, 8);
    size_t count = pick(w, 3) == 0 ? 150 + pick(w, 60) : 1 + pick(w, 20);
    struct message_head head = {
        .domain = domains[0],
        .message_id = own_ids ? SLICE("2026.%recipient.n%@a.example") : message_of(w, message),
        .message_id_per_recipient = own_ids,
        .batch_mode = true,
        .from = SLICE("News <news@a.example>"),
        .subject = slice_str(subjects[subject]),
        .accepted_wall_us = some_time(w),
    };
    struct recipient *list = arena_array(&w->arena, count, sizeof *list);
    uint64_t batch = ++w->made;
    struct err err;

    head.tags = tags_of(w, mask, &head.tag_count);
    for (size_t i = 0; i < count; i++) {
        struct known k = {.us = head.accepted_wall_us,
                          .tags = mask,
                          .address = pick(w, ADDRESSES),
                          .message = own_ids ? pick(w, MESSAGES) : message,
                          .subject = subject,
                          .type = EVENT_ACCEPTED};
        struct event e;
        list[i].address = address_of(w, k.address);
        list[i].vars = arena_array(&w->arena, 1, sizeof *list[i].vars);
        list[i].vars[0] = (struct name_value){SLICE("n"), arena_printf(&w->arena, "%u", k.message)};
        list[i].var_count = 1;
        own_event_accepted(&e, &head, &list[i], batch, (uint32_t)i, &w->arena);
        (void)remember(w, &k, e.id);
    }
    assert_int_equal(event_put_accepted(t, &head, batch, 0, list, count, NOW_US, &err), 0);
}

static void put_some(struct world *w, unsigned most)
{
    struct err err = {0};
    struct store_txn *t = store_begin_write(w->store, &err);

    assert_non_null(t);
    w->store->list_recent_rows_max = pick(w, 5); /* they go into their lists now and then */
    for (unsigned i = pick(w, most) + 1; i > 0 && w->count + 250 < EVENTS_MAX; i--) {
        if (pick(w, 25) == 0)
            put_batch(w, t);
        else
            put_one(w, t);
    }
    assert_int_equal(store_commit(t, &err), 0);
}

/* -------- filters, each with a judgement of its own -------- */

struct wish {
    struct filter *filter;
    unsigned domains; /* bits */
    bool not_types;
    unsigned types;                        /* bits; 0 = not asked */
    int severity;                          /* 0 not asked, 1 temporary, 2 permanent */
    unsigned any_tag[2], all_tags, no_tag; /* bits; 0 = not asked */
    unsigned addresses, messages;
    int subject; /* -1 = not asked */
    const struct known *id;
};

static bool fits(const struct wish *q, const struct known *k)
{
    if ((q->domains >> k->domain & 1u) == 0)
        return false;
    if (q->types != 0 && ((q->types >> k->type & 1u) != 0) == q->not_types)
        return false;
    if (q->severity != 0 && (k->type != EVENT_FAILED || k->permanent != (q->severity == 2)))
        return false;
    for (int i = 0; i < 2; i++)
        if (q->any_tag[i] != 0 && (k->tags & q->any_tag[i]) == 0)
            return false;
    if ((k->tags & q->all_tags) != q->all_tags || (k->tags & q->no_tag) != 0)
        return false;
    if (q->addresses != 0 && (q->addresses >> k->address & 1u) == 0)
        return false;
    if (q->messages != 0 && (q->messages >> k->message & 1u) == 0)
        return false;
    if (q->subject >= 0 && k->subject != (unsigned)q->subject)
        return false;
    return q->id == NULL || memcmp(q->id->id, k->id, EVENT_ID_BYTES) == 0;
}

static void ask_for(struct wish *q, const char *field, struct buf *expression)
{
    struct slice why = {0};

    if (!filter_add(q->filter, slice_str(field), buf_slice(expression), &why))
        fail_msg("%.*s", SLICE_ARGS(why));
    buf_reset(expression);
}

/* "a OR b" of those whose bits are set. */
static void put_any(struct buf *to, unsigned bits, const char *const *names)
{
    bool first = true;

    for (unsigned i = 0; bits >> i != 0; i++) {
        if ((bits >> i & 1u) == 0)
            continue;
        buf_add_str(to, first ? "" : " OR ");
        buf_add_str(to, names[i]);
        first = false;
    }
}

static void wish_tags(struct world *w, struct wish *q, struct buf *text)
{
    static const char *const any_case[TAGS] = {"BULK-email", "ghost-email", "blog-1", "RARE"};

    for (int i = 0; i < 2; i++) {
        if (pick(w, 3) != 0)
            continue;
        q->any_tag[i] = 1 + pick(w, (1u << TAGS) - 1);
        buf_add_str(text, "(");
        put_any(text, q->any_tag[i], any_case);
        buf_add_str(text, ")");
        ask_for(q, "tags", text);
    }
    if (pick(w, 3) == 0) {
        q->all_tags = 1u << pick(w, TAGS) | 1u << pick(w, TAGS);
        for (unsigned i = 0; i < TAGS; i++)
            if ((q->all_tags >> i & 1u) != 0)
                buf_printf(text, "%s ", any_case[i]);
        ask_for(q, "tags", text);
    }
    if (pick(w, 5) == 0) {
        unsigned tag = pick(w, TAGS);
        q->no_tag = 1u << tag;
        buf_printf(text, "NOT %s", any_case[tag]);
        ask_for(q, "tags", text);
    }
}

static struct wish some_wish(struct world *w)
{
    static const char *const types[] = {NULL,     "accepted", "rejected",     "delivered", "failed",
                                        "opened", "clicked",  "unsubscribed", "complained"};
    static const char *const addresses[] = {"ann0@readers.example", "BOB1@readers.example",
                                            "ann2@readers.example", "bob3@readers.example"};
    static const char *const messages[] = {"<2026.0@a.example>", "2026.1@a.example",
                                           "2026.2@A.example"};
    struct wish q = {.filter = filter_create(&w->arena), .domains = 1, .subject = -1};
    struct buf text = {0};

    if (pick(w, 3) == 0)
        q.domains = 1 + pick(w, 3);
    if (pick(w, 2) == 0) {
        q.types = (1 + pick(w, 255)) << 1;
        q.not_types = pick(w, 4) == 0;
        buf_add_str(&text, q.not_types ? "NOT (" : "(");
        put_any(&text, q.types, types);
        buf_add_str(&text, ")");
        ask_for(&q, "event", &text);
    }
    if (pick(w, 5) == 0) {
        q.severity = 1 + (int)pick(w, 2);
        buf_add_str(&text, q.severity == 2 ? "permanent" : "temporary");
        ask_for(&q, "severity", &text);
    }
    wish_tags(w, &q, &text);
    if (pick(w, 5) == 0) {
        q.addresses = 1 + pick(w, 15);
        put_any(&text, q.addresses, addresses);
        ask_for(&q, "recipient", &text);
    }
    if (pick(w, 6) == 0) {
        q.messages = 1 + pick(w, 7);
        put_any(&text, q.messages, messages);
        ask_for(&q, "message-id", &text);
    }
    if (pick(w, 6) == 0) {
        q.subject = (int)pick(w, SUBJECTS);
        buf_printf(&text, "\"%s\"", subjects[q.subject]);
        ask_for(&q, "subject", &text);
    }
    if (pick(w, 12) == 0 && w->count > 0) {
        q.id = &w->known[pick(w, (unsigned)w->count)];
        event_id_text(&text, q.id->id);
        ask_for(&q, "id", &text);
    }
    buf_fini(&text);
    return q;
}

/* -------- walks -------- */

static int known_cmp(const struct known *a, const struct known *b)
{
    if (a->us != b->us)
        return a->us < b->us ? -1 : 1;
    return memcmp(a->id, b->id, EVENT_ID_BYTES);
}

static int known_order(const void *a, const void *b)
{
    return known_cmp(a, b);
}

/* What the page has to be: the model's events that fit, in the query's order, cut at its position
 * and limit. */
static size_t expected_page(struct world *w, const struct wish *q, const struct event_query *query,
                            struct known *page)
{
    static struct known all[EVENTS_MAX];
    struct known at = {.us = query->position.timestamp_us};
    size_t count = 0, from = 0, until;

    memcpy(at.id, query->position.id, EVENT_ID_BYTES);
    for (size_t i = 0; i < w->count; i++)
        if (fits(q, &w->known[i]) && w->known[i].us >= query->from_us &&
            w->known[i].us <= query->until_us)
            all[count++] = w->known[i];
    qsort(all, count, sizeof *all, known_order);
    for (size_t i = 0; i < count / 2 && !query->ascending; i++) {
        struct known other = all[i];
        all[i] = all[count - 1 - i];
        all[count - 1 - i] = other;
    }
    until = count;
    if (query->has_position && !query->last_page) {
        size_t before = 0, not_after = 0;
        for (size_t i = 0; i < count; i++) {
            int order = query->ascending ? known_cmp(&all[i], &at) : known_cmp(&at, &all[i]);
            before += order < 0;
            not_after += order <= 0;
        }
        if (query->backwards)
            until = before;
        else
            from = not_after;
    }
    if (query->backwards || query->last_page) {
        if (until - from > query->limit)
            from = until - query->limit;
    } else if (until - from > query->limit) {
        until = from + query->limit;
    }
    memcpy(page, all + from, (until - from) * sizeof *page);
    return until - from;
}

static struct event_page read_page(struct world *w, const struct event_query *query)
{
    struct event_page page = {0};
    struct err err = {0};

    buf_add_str(&page.items, "x[");
    do {
        struct store_txn *t = store_begin_read(w->store, &err);
        assert_non_null(t);
        assert_int_equal(event_query_run(t, query, &page, &err), 0);
        store_end_read(t);
    } while (page.cut);
    event_page_end(query, &page);
    buf_add_str(&page.items, "]");
    return page;
}

/* Reads the query's page and holds it against the model's. */
static struct event_page checked_page(struct world *w, const struct wish *q,
                                      const struct event_query *query)
{
    static struct known expected[EVENTS_MAX];
    size_t count = expected_page(w, q, query, expected), n = 0;
    struct event_page page = read_page(w, query);
    cJSON *tree = json_parse(slice_from(buf_slice(&page.items), 1));

    assert_non_null(tree);
    assert_int_equal(page.count, count);
    for (const cJSON *item = json_first(tree); item != NULL; item = item->next, n++) {
        struct buf id = {0};
        event_id_text(&id, expected[n].id);
        assert_true(slice_eq(json_get_text(item, "id"), buf_slice(&id)));
        assert_true(
            slice_eq(json_get_text(item, "event"), slice_str(event_type_name(expected[n].type))));
        buf_fini(&id);
    }
    assert_int_equal(n, count);
    if (count != 0) {
        assert_true(page.first.timestamp_us == expected[0].us);
        assert_memory_equal(page.first.id, expected[0].id, EVENT_ID_BYTES);
        assert_true(page.last.timestamp_us == expected[count - 1].us);
        assert_memory_equal(page.last.id, expected[count - 1].id, EVENT_ID_BYTES);
    }
    json_free(tree);
    return page;
}

static struct event_query some_query(struct world *w, const struct wish *q)
{
    uint64_t a = NOW_US - SPAN_US + pick(w, SPAN_US), b = NOW_US - SPAN_US + pick(w, SPAN_US);
    bool whole = pick(w, 2) == 0;

    return (struct event_query){
        .domains = q->domains == 2 ? &domains[1] : domains,
        .domain_count = q->domains == 3 ? 2 : 1,
        .from_us = whole   ? 0
                   : a < b ? a
                           : b,
        .until_us = whole   ? UINT64_MAX
                    : a < b ? b
                            : a,
        .ascending = pick(w, 2) == 0,
        .filter = q->filter,
        .limit = pick(w, 4) == 0 ? 300 : 1 + pick(w, 40),
        .look_max = pick(w, 3) == 0 ? 1 + pick(w, 30) : 0,
    };
}

/* On and on, to the end or some pages far, and back to the beginning, with events coming in between
 * any two pages. */
static void walk(struct world *w)
{
    struct wish q = some_wish(w);
    struct event_query query = some_query(w, &q);
    unsigned far = 1 + pick(w, 12);

    query.last_page = pick(w, 4) == 0;
    for (int back = query.last_page; back < 2; back++) {
        for (unsigned pages = 0; back != 0 || pages < far; pages++) {
            struct event_page page = checked_page(w, &q, &query);
            uint32_t count = page.count;
            if (count != 0) {
                query.has_position = true;
                query.position = query.backwards || query.last_page ? page.first : page.last;
            }
            query.backwards = back != 0 && query.has_position;
            query.last_page = false;
            event_page_fini(&page);
            if (count == 0)
                break;
            if (pick(w, 6) == 0)
                put_some(w, 3);
        }
        query.backwards = query.has_position;
    }
}

static void queries_agree_with_looking_through_everything(void **state)
{
    struct world *w = *state;

    for (int round = 0; round < ROUNDS; round++) {
        put_some(w, 150);
        for (int i = 0; i < WALKS; i++)
            walk(w);
    }
}

/* Counting agrees with the pages. */
static void counts_agree_with_the_model(void **state)
{
    struct world *w = *state;
    static struct known expected[EVENTS_MAX];

    put_some(w, 300);
    for (int i = 0; i < 200; i++) {
        struct wish q = some_wish(w);
        struct event_query query = some_query(w, &q);
        query.limit = 10000;
        size_t count = expected_page(w, &q, &query, expected);
        query.count_only = true;
        struct event_page page = read_page(w, &query);
        assert_int_equal(page.count, count);
        event_page_fini(&page);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(queries_agree_with_looking_through_everything, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(counts_agree_with_the_model, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
