/*
 * postern deadletters: what came from SES and was not understood. Listing and showing read the
 * store; reading again and forgetting are the running Postern's to do (store/deadletters.h,
 * REPLAY), and this waits for it and tells what came of it.
 */
#include "store/as_json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "cli/options.h"
#include "cli/page.h"
#include "cli/progress.h"
#include "store/control.h"

enum {
    ID_SHOWN = 12,     /* of its hexadecimal digits: enough to tell letters apart */
    RAW_COLUMNS = 160, /* of the message, in a listing */
    ASKED_AT_ONCE = 256,
    REPLAY_WITHIN_MS = 10000, /* without any progress */
    REPLAY_LOOK_MS = 100,
};

_Static_assert(ASKED_AT_ONCE *DEADLETTER_ID_BYTES + 1024 < CONTROL_REQUEST_MAX, "one packet");

struct choice {
    const struct cli_options *o;
    struct slice id;  /* hexadecimal, or the beginning of it; empty = all */
    struct buf found; /* their ids, one after another */
    uint32_t shown;
};

static void put_id(struct buf *to, const struct deadletter *d)
{
    text_hex(to, slice_of(d->id, DEADLETTER_ID_BYTES));
}

static bool is_chosen(const struct choice *c, const struct deadletter *d)
{
    struct buf id = {0};

    put_id(&id, d);
    bool chosen = slice_starts_nocase(buf_slice(&id), c->id);
    buf_fini(&id);
    return chosen && deadletter_holds(d, slice_str(c->o->search));
}

/* -------- listing -------- */

static void put_json(struct buf *to, const struct deadletter *d)
{
    buf_add_byte(to, '{');
    deadletter_put_json(to, d, d->raw.len);
    buf_add_str(to, "}\n");
}

static void put_lines(struct buf *to, const struct deadletter *d)
{
    struct buf id = {0};

    put_id(&id, d);
    page_column(to, buf_slice(&id), ID_SHOWN);
    buf_add_str(to, "  ");
    page_time(to, d->wall_us / 1000, clock_wall_ms());
    buf_add_str(to, "  ");
    page_column(to, d->why, (unsigned)d->why.len);
    buf_add_str(to, "\n    ");
    page_column(to, slice_head(d->raw, RAW_COLUMNS),
                d->raw.len < RAW_COLUMNS ? (unsigned)d->raw.len : RAW_COLUMNS);
    buf_add_byte(to, '\n');
    buf_fini(&id);
}

static bool on_listed(void *arg, const struct deadletter *d)
{
    struct choice *c = arg;
    struct buf lines = {0};

    if (!is_chosen(c, d))
        return true;
    if (c->o->json)
        put_json(&lines, d);
    else
        put_lines(&lines, d);
    (void)fwrite(lines.ptr, 1, lines.len, stdout);
    buf_fini(&lines);
    return ++c->shown < c->o->limit;
}

/* -------- choosing -------- */

static bool on_found(void *arg, const struct deadletter *d)
{
    struct choice *c = arg;

    if (is_chosen(c, d))
        buf_add(&c->found, d->id, DEADLETTER_ID_BYTES);
    return true;
}

static int say(const char *words)
{
    (void)fprintf(stderr, "postern deadletters: %s\n", words);
    return CLI_WRONG_USE;
}

/* Those that "ID" or "all" means. False: said why not. */
static bool choose(struct choice *c, struct store *store, const char *which)
{
    struct err err;
    struct store_txn *t = store_begin_read(store, &err);

    if (t == NULL) {
        (void)say(err.text);
        return false;
    }
    c->id = strcmp(which, "all") == 0 ? slice_none() : slice_str(which);
    deadletter_each(t, on_found, c);
    store_end_read(t);
    if (c->id.len == 0 || c->found.len == DEADLETTER_ID_BYTES)
        return true;
    (void)fprintf(stderr, "postern deadletters: %s dead letter %s%s\n",
                  c->found.len == 0 ? "there is no" : "more than one",
                  c->found.len == 0 ? which : "begins with ", c->found.len == 0 ? "" : which);
    return false;
}

/* As it came; with --json as in a listing. */
static int show(struct choice *c, struct store *store)
{
    struct err err;
    struct deadletter d;
    struct store_txn *t = store_begin_read(store, &err);

    if (t == NULL)
        return say(err.text);
    if (deadletter_get(t, c->found.ptr, &d) && c->o->json) {
        (void)on_listed(c, &d);
    } else if (deadletter_get(t, c->found.ptr, &d)) {
        (void)fwrite(d.raw.ptr, 1, d.raw.len, stdout);
        if (d.raw.len > 0 && d.raw.ptr[d.raw.len - 1] != '\n')
            (void)putchar('\n');
    }
    store_end_read(t);
    return CLI_DONE;
}

/* -------- asking the running Postern -------- */

/* Asks for all that were found; *count is how many were there. */
static int ask(const struct choice *c, const char *state_dir, enum control_verb verb,
               uint32_t *count)
{
    const size_t most = ASKED_AT_ONCE * DEADLETTER_ID_BYTES;

    *count = 0;
    for (struct slice rest = buf_slice(&c->found); rest.len > 0; rest = slice_from(rest, most)) {
        const struct record_control r = {.verb = verb, .ids = slice_head(rest, most)};
        struct record_controlled a = {0};
        struct buf answer = {0};
        struct err err;
        if (control_ask(state_dir, &r, &answer, &a, &err) != 0) {
            (void)say(err.text);
            buf_fini(&answer);
            return err.code == ERR_NOT_FOUND ? CLI_NOT_SO : CLI_WRONG_USE;
        }
        if (a.verdict == ANSWER_REFUSED)
            (void)fprintf(stderr, "%.*s\n", SLICE_ARGS(a.text));
        *count += a.count;
        bool refused = a.verdict == ANSWER_REFUSED;
        buf_fini(&answer);
        if (refused)
            return CLI_NOT_SO;
    }
    return CLI_DONE;
}

struct replayed {
    uint32_t waiting, kept; /* not read yet; read, and still not understood */
};

static struct replayed look(const struct choice *c, struct store *store)
{
    struct replayed p = {0};
    struct err err;
    struct deadletter d;
    struct store_txn *t = store_begin_read(store, &err);

    for (size_t at = 0; t != NULL && at < c->found.len; at += DEADLETTER_ID_BYTES) {
        if (deadletter_is_wished(t, c->found.ptr + at))
            p.waiting++;
        else if (deadletter_get(t, c->found.ptr + at, &d))
            p.kept++;
    }
    if (t != NULL)
        store_end_read(t);
    return p;
}

static int report(const struct choice *c, struct store *store, uint32_t asked, struct replayed p)
{
    uint32_t understood = asked > p.kept + p.waiting ? asked - p.kept - p.waiting : 0;
    struct err err;

    if (c->o->json) {
        (void)printf("{\"understood\":%u,\"kept\":%u,\"waiting\":%u}\n", understood, p.kept,
                     p.waiting);
        return p.kept + p.waiting == 0 ? CLI_DONE : CLI_NOT_SO;
    }
    (void)printf("%u understood, and their events stored; %u still not", understood, p.kept);
    if (p.waiting > 0)
        (void)printf("; %u not read yet: they will be, once a poller gets to them", p.waiting);
    (void)printf("\n");
    struct store_txn *t = p.kept == 0 ? NULL : store_begin_read(store, &err);
    for (size_t at = 0, lines = 0; t != NULL && at < c->found.len && lines < c->o->limit;
         at += DEADLETTER_ID_BYTES) {
        struct deadletter d;
        struct buf text = {0};
        if (!deadletter_get(t, c->found.ptr + at, &d))
            continue;
        put_lines(&text, &d);
        (void)fwrite(text.ptr, 1, text.len, stdout);
        buf_fini(&text);
        lines++;
    }
    if (t != NULL)
        store_end_read(t);
    return p.kept + p.waiting == 0 ? CLI_DONE : CLI_NOT_SO;
}

static int replay(const struct choice *c, struct store *store, const char *state_dir)
{
    const struct timespec pause = {.tv_nsec = REPLAY_LOOK_MS * 1000000L};
    uint32_t asked;
    int status = ask(c, state_dir, CONTROL_REPLAY, &asked);

    if (status != CLI_DONE)
        return status;
    uint64_t until_ms = clock_mono_ms() + REPLAY_WITHIN_MS;
    struct progress bar = progress_begin("replay");
    struct replayed p = look(c, store);
    while (p.waiting > 0 && clock_mono_ms() < until_ms) {
        uint32_t before = p.waiting;
        (void)nanosleep(&pause, NULL);
        p = look(c, store);
        if (p.waiting < before)
            until_ms = clock_mono_ms() + REPLAY_WITHIN_MS;
        progress_show(&bar, asked > p.waiting ? asked - p.waiting : 0, asked, "read again");
    }
    progress_wipe(&bar);
    return report(c, store, asked, p);
}

static int drop(const struct choice *c, const char *state_dir)
{
    uint32_t count;
    int status = ask(c, state_dir, CONTROL_DROP, &count);

    if (status == CLI_DONE && c->o->json)
        (void)printf("{\"dropped\":%u}\n", count);
    else if (status == CLI_DONE)
        (void)printf("%u dropped\n", count);
    return status;
}

static int act(struct choice *c, struct store *store, const char *state_dir)
{
    const char *verb = c->o->words[0], *which = c->o->words[1];
    struct err err;

    if (verb == NULL) {
        struct store_txn *t = store_begin_read(store, &err);
        if (t == NULL)
            return say(err.text);
        deadletter_each(t, on_listed, c);
        store_end_read(t);
        return CLI_DONE;
    }
    bool shows = strcmp(verb, "show") == 0, replays = strcmp(verb, "replay") == 0; /* or drop */
    if (which == NULL || which[0] == '\0' || (shows && strcmp(which, "all") == 0))
        return say(shows ? "say which: show ID" : "say which: an ID, or all");
    if (!choose(c, store, which))
        return CLI_NOT_SO;
    return shows ? show(c, store) : replays ? replay(c, store, state_dir) : drop(c, state_dir);
}

int cli_deadletters(const struct cli_options *o)
{
    struct config *config;
    struct choice c = {.o = o};

    if (o->redrive || (o->words[0] != NULL && strcmp(o->words[0], "queues") == 0))
        return cli_dead_queues(o);
    struct store *store = cli_store_open(o, &config);

    if (store == NULL)
        return CLI_WRONG_USE;
    int status = act(&c, store, config->state_dir);
    buf_fini(&c.found);
    store_close(store);
    config_free(config);
    return status;
}
