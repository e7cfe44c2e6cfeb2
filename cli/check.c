/*
 * postern check - does the store agree with itself? Beside a running Postern too.
 */
#include "store/check.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "cli/options.h"

enum { PROGRESS_AFTER_MS = 2000, PROGRESS_EVERY_MS = 100 };

struct showing {
    const struct cli_options *o;
    uint64_t shown, started_mono_ms, drawn_mono_ms;
    bool drawn;
};

static void show_problem(void *arg, struct slice words)
{
    struct showing *s = arg;
    struct buf line = {0};

    if (s->shown++ >= s->o->limit)
        return;
    if (s->o->json) {
        buf_add_byte(&line, '{');
        json_put_str(&line, "problem", words);
        buf_add_byte(&line, '}');
    } else {
        buf_add_slice(&line, words);
    }
    (void)printf("%s%s\n", s->drawn ? "\r\033[K" : "", buf_cstr(&line));
    s->drawn = false;
    buf_fini(&line);
}

static void show_progress(void *arg, const char *what, uint64_t done, uint64_t of)
{
    struct showing *s = arg;
    uint64_t now = clock_mono_ms();

    if (s->o->json || isatty(STDOUT_FILENO) == 0 || now - s->started_mono_ms < PROGRESS_AFTER_MS ||
        now - s->drawn_mono_ms < PROGRESS_EVERY_MS)
        return;
    s->drawn_mono_ms = now;
    s->drawn = true;
    (void)printf("\r\033[K%" PRIu64 " of %" PRIu64 " %s", done, of, what);
    (void)fflush(stdout);
}

static void show_sums(const struct showing *s, const struct check *c)
{
    if (s->o->json)
        (void)printf("{\"batches\":%" PRIu64 ",\"recipients\":%" PRIu64 ",\"events\":%" PRIu64
                     ",\"problems\":%" PRIu64 "}\n",
                     c->batches, c->recipients, c->events, c->problems);
    else
        (void)printf("%s%" PRIu64 " batches, %" PRIu64 " recipients, %" PRIu64 " events: %" PRIu64
                     " problem%s\n",
                     s->drawn ? "\r\033[K" : "", c->batches, c->recipients, c->events, c->problems,
                     c->problems == 1 ? "" : "s");
}

int cli_check(const struct cli_options *o)
{
    struct showing s = {.o = o, .started_mono_ms = clock_mono_ms()};
    struct check c = {.problem = show_problem, .progress = show_progress, .arg = &s};
    struct config *config;
    struct store *store = cli_store_open(o, &config);
    struct err err;
    int status = CLI_WRONG_USE;

    if (store == NULL)
        return CLI_WRONG_USE;
    struct store_txn *t = store_begin_read(store, &err);
    if (t != NULL && store_check(t, &c, &err) == 0) {
        show_sums(&s, &c);
        status = c.problems == 0 ? CLI_DONE : CLI_NOT_SO;
    } else {
        (void)fprintf(stderr, "postern check: %s\n", err.text);
    }
    if (t != NULL)
        store_end_read(t);
    store_close(store);
    config_free(config);
    return status;
}
