/*
 * tests/bench/fill_events.c - a store with many events in it, for Postern to serve.
 *
 * fill_events STATE_DIR EVENTS DOMAIN...   the same events in each domain, EVENTS together, those of
 * the last one a minute old. Prints a line for each domain: its name, how many, and the times of the
 * first and last in seconds. In large transactions: some 20 µs an event, 1 GB a million.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "store/store.h"
#include "tests/bench/newsletter_events.h"

enum { TRANSACTION = 20000, SETTLED_US = 60000000 };

static void fail(const char *what)
{
    (void)fprintf(stderr, "fill_events: %s\n", what);
    exit(1);
}

static void fill(struct store *s, struct slice domain, uint64_t start_us, uint64_t count)
{
    struct store_txn *t = NULL;
    struct err err = {0};

    for (uint64_t i = 0; i < count; i++) {
        if (t == NULL && (t = store_begin_write(s, &err)) == NULL)
            fail(err.text);
        if (newsletter_event_put(t, domain, start_us, i, &err) != 1)
            fail(err.text[0] != '\0' ? err.text : "an event was there already");
        if (i % TRANSACTION != TRANSACTION - 1 && i + 1 != count)
            continue;
        if (store_commit(t, &err) != 0)
            fail(err.text);
        t = NULL;
    }
}

int main(int argc, char **argv)
{
    struct err err;

    if (argc < 4)
        fail("STATE_DIR EVENTS DOMAIN...");
    uint64_t domains = (uint64_t)argc - 3, each = strtoull(argv[2], NULL, 10) / domains;
    struct store *s = store_open(argv[1], STORE_WRITE, &err);
    if (s == NULL)
        fail(err.text);
    for (int i = 3; i < argc; i++) {
        uint64_t start_us = clock_wall_us() - SETTLED_US - each * NEWSLETTER_STEP_US;
        fill(s, slice_str(argv[i]), start_us, each);
        printf("%s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", argv[i], each, start_us / 1000000,
               (start_us + each * NEWSLETTER_STEP_US) / 1000000);
    }
    store_close(s);
    return 0;
}
