/*
 * postern check - does the store agree with itself? Beside a running Postern too.
 */
#include "store/check.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/json.h"
#include "cli/options.h"
#include "cli/progress.h"

struct showing {
    const struct cli_options *o;
    uint64_t shown;
    struct progress progress;
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
    progress_wipe(&s->progress);
    (void)printf("%s\n", buf_cstr(&line));
    buf_fini(&line);
}

static void show_progress(void *arg, const char *what, uint64_t done, uint64_t of)
{
    struct showing *s = arg;

    progress_show(&s->progress, done, of, what);
}

static void show_sums(struct showing *s, const struct check *c)
{
    progress_wipe(&s->progress);
    if (s->o->json)
        (void)printf("{\"batches\":%" PRIu64 ",\"recipients\":%" PRIu64 ",\"events\":%" PRIu64
                     ",\"problems\":%" PRIu64 "}\n",
                     c->batches, c->recipients, c->events, c->problems);
    else
        (void)printf("%" PRIu64 " batches, %" PRIu64 " recipients, %" PRIu64 " events: %" PRIu64
                     " problem%s\n",
                     c->batches, c->recipients, c->events, c->problems,
                     c->problems == 1 ? "" : "s");
}

int cli_check(const struct cli_options *o)
{
    struct showing s = {.o = o, .progress = progress_begin("check")};
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
        progress_wipe(&s.progress);
        (void)fprintf(stderr, "postern check: %s\n", err.text);
    }
    if (t != NULL)
        store_end_read(t);
    store_close(store);
    config_free(config);
    return status;
}
