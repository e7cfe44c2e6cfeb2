/*
 * tests/bench/bench_events.c - how fast events go into a store and come out of it as pages.
 *
 * bench_events [events] [directory]: fills a new store in transactions of 500, then walks it as
 * Ghost does (pages of 300, ascending, four types and a tag), and compares what the first page
 * costs with the last.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "mail/filter.h"
#include "store/events.h"
#include "store/internal.h"

enum { TRANSACTION = 500, PAGE = 300, REPEATS = 200 };
#define START_US UINT64_C(1764000000000000)

static const char *const words = "delivered OR opened OR failed OR unsubscribed OR complained";

static void fail(const char *what)
{
    (void)fprintf(stderr, "bench_events: %s\n", what);
    exit(1);
}

static void fill(struct store *s, uint32_t count)
{
    struct slice tags[] = {SLICE("bulk-email"), SLICE("ghost-email")};
    struct store_txn *t = NULL;
    struct err err;
    char text[64];

    for (uint32_t i = 0; i < count; i++) {
        struct name_value var = {SLICE("email-id"), SLICE("65f0c1e2a3b4c5d6e7f80910")};
        int len = snprintf(text, sizeof text, "reader-%u@example%u.net", i, i % 97);
        struct event e = {
            .ses_us = START_US + (uint64_t)i * 700 + 1,
            .type = i % 3 == 0 ? EVENT_OPENED : EVENT_DELIVERED,
            .domain = SLICE("mg.example.com"),
            .recipient = slice_of(text, (size_t)len),
            .message_id = SLICE("20260916041835.e655506fe3d629cc@mg.example.com"),
            .to = slice_of(text, (size_t)len),
            .from = SLICE("The News <news@mg.example.com>"),
            .subject = SLICE("What happened this week, and what it means"),
            .tags = tags,
            .tag_count = 2,
            .vars = &var,
            .var_count = 1,
            .size_bytes = 18231,
            .envelope_sender = SLICE("bounce@mg.example.com"),
            .status = {.present = i % 3 != 0,
                       .code = 250,
                       .message = SLICE("2.0.0 OK"),
                       .attempt_no = 1},
            .ses_id = SLICE("0100018f2a3b4c5d-0a1b2c3d-4e5f-6789-abcd-ef0123456789-000000"),
        };
        event_make_id(&e, &e.recipient, 1);
        if (t == NULL && (t = store_begin_write(s, &err)) == NULL)
            fail(err.text);
        if (event_put(t, &e, START_US + UINT64_C(1000000000000), &err) != 1)
            fail(err.text);
        if (i % TRANSACTION == TRANSACTION - 1 || i + 1 == count) {
            if (store_commit(t, &err) != 0)
                fail(err.text);
            t = NULL;
        }
    }
}

/* One page; it is freed with the next one. */
static uint32_t read_page(struct store *s, const struct event_query *q, struct event_page *page)
{
    struct err err;
    struct store_txn *t = store_begin_read(s, &err);

    event_page_fini(page);
    *page = (struct event_page){0};
    if (t == NULL || event_query_run(t, q, page, &err) != 0)
        fail(err.text);
    store_end_read(t);
    event_page_end(q, page);
    return page->count;
}

static void walk(struct store *s, const char *name, const struct filter *filter)
{
    struct slice domain = SLICE("mg.example.com");
    struct event_query q = {
        .domains = &domain,
        .domain_count = 1,
        .until_us = UINT64_MAX,
        .ascending = true,
        .filter = filter,
        .limit = PAGE,
        .storage_base = SLICE("https://mail.example.com/v3/domains/d/messages/"),
    };
    struct event_query before = q;
    struct event_page page = {0};
    uint64_t bytes = 0, events = 0, started = clock_mono_ns();
    uint32_t count;

    while ((count = read_page(s, &q, &page)) > 0) {
        events += count;
        bytes += page.items.len;
        before = q;
        q.has_position = true;
        q.position = page.last;
        if (count < PAGE)
            break;
    }
    double seconds = (double)(clock_mono_ns() - started) / 1e9;
    (void)printf("out, %-22s %8.0f events/s (%llu events, %.0f bytes each)\n", name,
                 (double)events / seconds, (unsigned long long)events,
                 (double)bytes / (double)(events + (events == 0)));

    struct event_query one = q;
    one.has_position = false;
    started = clock_mono_ns();
    for (int i = 0; i < REPEATS; i++)
        (void)read_page(s, &one, &page);
    double first_us = (double)(clock_mono_ns() - started) / 1e3 / REPEATS;
    /* The last whole page: 300 events from the end. */
    one.last_page = true;
    started = clock_mono_ns();
    for (int i = 0; i < REPEATS; i++)
        (void)read_page(s, &one, &page);
    double end_us = (double)(clock_mono_ns() - started) / 1e3 / REPEATS;
    started = clock_mono_ns();
    count = 0;
    for (int i = 0; i < REPEATS; i++)
        count = read_page(s, &before, &page);
    double deep_us = (double)(clock_mono_ns() - started) / 1e3 / REPEATS;
    (void)printf(
        "     first page %.0f us, last page by its link %.0f us, by walking %.0f us (%u events)\n",
        first_us, end_us, deep_us, count);
    event_page_fini(&page);
}

int main(int argc, char **argv)
{
    uint32_t count = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 200000;
    char dir[] = "/tmp/postern-bench-XXXXXX";
    const char *state_dir = argc > 2 ? argv[2] : mkdtemp(dir);
    struct arena a = {0};
    struct slice why;
    struct err err;

    if (state_dir == NULL || count == 0)
        fail("bench_events [events] [directory]");
    struct store *s = store_open(state_dir, STORE_WRITE, &err);
    if (s == NULL)
        fail(err.text);
    uint64_t started = clock_mono_ns();
    fill(s, count);
    (void)printf("in                          %8.0f events/s (synced every %d)\n",
                 (double)count / ((double)(clock_mono_ns() - started) / 1e9), TRANSACTION);

    struct filter *ghost = filter_create(&a), *narrow = filter_create(&a),
                  *reader = filter_create(&a);
    if (!filter_add(ghost, SLICE("event"), slice_str(words), &why) ||
        !filter_add(ghost, SLICE("tags"), SLICE("bulk-email"), &why) ||
        !filter_add(narrow, SLICE("event"), slice_str(words), &why) ||
        !filter_add(narrow, SLICE("tags"), SLICE("bulk-email AND ghost-email"), &why) ||
        !filter_add(reader, SLICE("recipient"), SLICE("reader-97@example0.net"), &why))
        fail("filter");
    walk(s, "no filter", NULL);
    walk(s, "types and a tag", ghost);
    walk(s, "types and two tags", narrow);
    walk(s, "one recipient", reader);
    store_close(s);
    if (argc <= 2) {
        static const char *const parts[] = {"/store/data.mdb", "/store/lock.mdb", "/store", ""};
        char path[128];
        for (size_t i = 0; i < 4; i++) {
            (void)snprintf(path, sizeof path, "%s%s", state_dir, parts[i]);
            (void)remove(path);
        }
    }
    arena_fini(&a);
    return 0;
}
