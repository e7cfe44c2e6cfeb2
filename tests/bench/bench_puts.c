/*
 * tests/bench/bench_puts.c - does putting events get slower as the store grows?
 *
 * bench_puts [events] [directory]: fills a new store with that many (1,000,000; a few minutes and
 * 12 GB for ten million) and measures the 200,000 puts before 0, 1, 3, 10 … million were there:
 * events a second, CPU, and bytes written for each; and how long a query for one address takes.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "mail/filter.h"
#include "store/events.h"
#include "store/store.h"
#include "tests/bench/newsletter_events.h"

enum { TRANSACTION = 500, MEASURED = 200000 };
#define START_US UINT64_C(1764000000000000)

static void fail(const char *what)
{
    (void)fprintf(stderr, "bench_puts: %s\n", what);
    exit(1);
}

struct usage {
    uint64_t wall_us, cpu_us, written_bytes;
};

static struct usage usage_now(void)
{
    struct usage u = {.wall_us = clock_wall_us()};
    struct rusage r;
    char line[128];
    FILE *io = fopen("/proc/self/io", "r");

    (void)getrusage(RUSAGE_SELF, &r);
    u.cpu_us = (uint64_t)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000 +
               (uint64_t)(r.ru_utime.tv_usec + r.ru_stime.tv_usec);
    while (io != NULL && fgets(line, sizeof line, io) != NULL)
        if (strncmp(line, "wchar: ", 7) == 0)
            u.written_bytes = strtoull(line + 7, NULL, 10);
    if (io != NULL)
        (void)fclose(io);
    return u;
}

static void fill(struct store *s, uint64_t from, uint64_t until)
{
    struct store_txn *t = NULL;
    struct err err = {0};

    for (uint64_t i = from; i < until; i++) {
        if (t == NULL && (t = store_begin_write(s, &err)) == NULL)
            fail(err.text);
        if (newsletter_event_put(t, SLICE("mg.example.com"), START_US, i, &err) != 1)
            fail(err.text);
        if (i % TRANSACTION != TRANSACTION - 1 && i + 1 != until)
            continue;
        if (store_commit(t, &err) != 0)
            fail(err.text);
        t = NULL;
    }
}

/* How long it takes to read the newest events of a reader, in microseconds. */
static uint64_t look_up(struct store *s)
{
    enum { LOOKS = 50 };
    struct slice domain = SLICE("mg.example.com"), why;
    uint64_t started_ns = clock_mono_ns();
    struct arena a = {0};
    struct err err;

    for (unsigned i = 0; i < LOOKS; i++) {
        unsigned mail = i * 3779;
        struct filter *filter = filter_create(&a);
        struct event_query q = {.domains = &domain,
                                .domain_count = 1,
                                .until_us = UINT64_MAX,
                                .filter = filter,
                                .limit = 300};
        struct event_page page = {0};
        struct store_txn *t = store_begin_read(s, &err);
        if (t == NULL ||
            !filter_add(
                filter, SLICE("recipient"),
                arena_printf(&a, "reader-%u@example%u.net", mail * 7919 % READERS, mail % 97),
                &why) ||
            event_query_run(t, &q, &page, &err) != 0)
            fail("a look-up");
        store_end_read(t);
        event_page_fini(&page);
    }
    arena_fini(&a);
    return (clock_mono_ns() - started_ns) / 1000 / LOOKS;
}

static void measure(struct store *s, uint64_t from)
{
    struct usage before = usage_now();

    fill(s, from, from + MEASURED);
    struct usage after = usage_now();
    printf("with %9llu there: %6llu events/s, %5.1f us CPU, %5llu bytes written for "
           "each; a reader's events in %llu us\n",
           (unsigned long long)from,
           (unsigned long long)(UINT64_C(1000000) * MEASURED / (after.wall_us - before.wall_us)),
           (double)(after.cpu_us - before.cpu_us) / MEASURED,
           (unsigned long long)((after.written_bytes - before.written_bytes) / MEASURED),
           (unsigned long long)look_up(s));
    (void)fflush(stdout);
}

int main(int argc, char **argv)
{
    static const uint64_t steps[] = {0, 1000000, 3000000, 10000000, 30000000};
    char dir[] = "/tmp/postern-bench-XXXXXX", command[300];
    uint64_t most = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000, there = 0;
    const char *at = argc > 2 ? argv[2] : mkdtemp(dir);
    struct err err;
    struct store *s = at == NULL ? NULL : store_open(at, STORE_WRITE, &err);

    if (s == NULL)
        fail(at == NULL ? "no directory" : err.text);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0] && steps[i] <= most; i++) {
        fill(s, there, steps[i]);
        measure(s, steps[i]);
        there = steps[i] + MEASURED;
    }
    store_close(s);
    if (argc <= 2) {
        (void)snprintf(command, sizeof command, "rm -r %s", dir);
        if (system(command) != 0)
            fail("cleaning up");
    }
    return 0;
}
