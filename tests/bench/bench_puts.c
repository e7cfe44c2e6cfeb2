/*
 * tests/bench/bench_puts.c - does putting events get slower as the store grows?
 *
 * bench_puts [events] [directory]: fills a new store with that many (1,000,000; a few minutes and
 * 12 GB for ten million) and measures the 200,000 puts before 0, 1, 3, 10 … million were there:
 * events a second, CPU, and bytes written for each; and how long a query for one address takes.
 *
 * Newsletters of READERS readers in batches of 1,000, one after another: each reader has a delivery,
 * two of three open, some seconds to a day later, whatever else is going on then. The id of a
 * message is its batch's; one event in twenty is of a mail with an id of its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/digest.h"
#include "mail/filter.h"
#include "store/events.h"
#include "store/store.h"

enum { TRANSACTION = 500, BATCH = 1000, READERS = 200000, MEASURED = 200000 };
#define START_US UINT64_C(1764000000000000)
#define NEVER_US UINT64_C(1900000000000000)

static uint64_t random_state = 88172645463325252u;

static void fail(const char *what)
{
    (void)fprintf(stderr, "bench_puts: %s\n", what);
    exit(1);
}

static uint64_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
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

/* Event number i of all: the mail that it is about, and when it happened. */
static void put_one(struct store_txn *t, uint64_t i, struct err *err)
{
    struct slice tags[] = {SLICE("bulk-email"), SLICE("ghost-email")};
    struct name_value var = {SLICE("email-id"), SLICE("65f0c1e2a3b4c5d6e7f80910")};
    bool opened = next_random() % 5 < 2;
    /* 500 a second are sent; an open is about one of the last day's mails, mostly new ones. */
    uint64_t now_us = START_US + i * 1200, sent = i * 3 / 5, mail = sent;
    if (opened) {
        uint64_t back = next_random() % (1 + next_random() % (sent < 2000000 ? sent + 1 : 2000000));
        mail = sent - back;
    }
    char address[64], message[80], own[80];
    int address_len = snprintf(address, sizeof address, "reader-%llu@example%llu.net",
                               (unsigned long long)(mail % READERS * 7919 % READERS),
                               (unsigned long long)(mail % 97));
    int message_len =
        snprintf(message, sizeof message, "20260916041835.%016llx@mg.example.com",
                 (unsigned long long)(i % 20 == 0 ? ~mail : mail / BATCH) * 0x9e3779b97f4a7c15u);
    int own_len = snprintf(own, sizeof own, "0100018f2a3b4c5d-%012llx-4e5f-6789-abcd-000000",
                           (unsigned long long)mail);
    struct event e = {
        .ses_us = now_us + next_random() % 3000000,
        .type = opened ? EVENT_OPENED : EVENT_DELIVERED,
        .domain = SLICE("mg.example.com"),
        .recipient = slice_of(address, (size_t)address_len),
        .message_id = slice_of(message, (size_t)message_len),
        .to = slice_of(address, (size_t)address_len),
        .from = SLICE("The News <news@mg.example.com>"),
        .subject = SLICE("What happened this week, and what it means"),
        .tags = tags,
        .tag_count = 2,
        .vars = &var,
        .var_count = 1,
        .size_bytes = 18231,
        .envelope_sender = SLICE("bounce@mg.example.com"),
        .status = {.present = !opened,
                   .code = 250,
                   .message = SLICE("2.0.0 OK  1772366592 d75a77b69052e-4f1a2b3csi123.45 - gsmtp"),
                   .attempt_no = 1},
        .ip = opened ? SLICE("203.0.113.9") : slice_none(),
        .user_agent = opened ? SLICE("Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 "
                                     "(via ggpht.com GoogleImageProxy)")
                             : slice_none(),
        .ses_id = slice_of(own, (size_t)own_len),
    };
    struct slice parts[] = {e.ses_id, slice_of(&i, sizeof i)};
    event_make_id(&e, parts, 2);
    if (event_put(t, &e, NEVER_US, err) != 1)
        fail(err->text);
}

static void fill(struct store *s, uint64_t from, uint64_t until)
{
    struct store_txn *t = NULL;
    struct err err = {0};

    for (uint64_t i = from; i < until; i++) {
        if (t == NULL && (t = store_begin_write(s, &err)) == NULL)
            fail(err.text);
        put_one(t, i, &err);
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
