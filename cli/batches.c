/*
 * postern batches: the books of each batch, from the store; beside them what only the running
 * Postern knows: how fast it goes, how long it will take, and why it waits.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "cli/options.h"
#include "cli/page.h"
#include "cli/request.h"
#include "store/as_json.h"

enum {
    WATCH_MS = 200,
    BAR_CELLS = 30,
    WATCHED_MAX = 40, /* bars at once */
    SUBJECT_COLUMNS = 32,
};

struct listing {
    const struct cli_options *o;
    const struct config *config;
    const cJSON *live; /* the running Postern's status, or NULL */
    struct page *page; /* watching: drawn there */
    struct buf text;   /* and this is what is drawn; else it is printed batch by batch */
    uint64_t only;     /* a batch id, or 0 */
    uint64_t now_wall_ms;
    uint32_t shown;
    uint64_t accepted, settled, outcomes; /* sums over what was shown */
    uint64_t unaccounted;
};

static uint32_t open_count(const struct books *b)
{
    return b->state[STATE_PENDING] + b->state[STATE_LEASED] + b->state[STATE_DOUBT];
}

/* Recipients with a final word: delivered, failed for good, suppressed, cancelled. A hard bounce
 * that follows a delivery counts in both, so this can exceed what was accepted: it is cut there. */
static uint32_t outcome_count(const struct books *b)
{
    uint32_t n =
        b->delivered + b->failed_permanent + b->failed_temporary + b->state[STATE_CANCELLED];

    return n < b->accepted ? n : b->accepted;
}

static uint32_t no_outcome(const struct listing *l, const struct books *b)
{
    return books_no_outcome(b, l->now_wall_ms, l->config->alarm.no_outcome_after_ms);
}

/* ---- what the running Postern says of a batch ---- */

struct progress {
    uint64_t rate_per_s, eta_wall_ms; /* 0 = not known */
    struct slice why;                 /* it waits; empty = it does not */
    struct slice from, words;         /* which From SES refuses, and how it says so */
};

/* What is said of the hold that keeps this batch; NULL when it is not among those listed. */
static const cJSON *hold_of(const struct listing *l, const cJSON *b)
{
    static const char *const same[] = {"reason", "domain", "lane", "from"};
    static const char *const of_batch[] = {"why", "domain", "lane", "from"};

    for (const cJSON *h = json_first(json_get(l->live, "holds")); h != NULL; h = h->next) {
        bool is_it = true;
        for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
            struct slice text = json_get_text(h, same[i]);
            bool is_any = i > 0 && text.len == 0; /* the account's */
            is_it = is_it && (is_any || slice_eq(text, json_get_text(b, of_batch[i])));
        }
        if (is_it)
            return h;
    }
    return NULL;
}

static struct progress progress_of(const struct listing *l, uint64_t id)
{
    char text[24];
    const cJSON *b = json_first(json_get(l->live, "batches"));

    (void)snprintf(text, sizeof text, "%016" PRIx64, id);
    while (b != NULL && !slice_eq(json_get_text(b, "batch"), slice_str(text)))
        b = b->next;
    return (struct progress){.rate_per_s = cli_number(b, "rate_per_s"),
                             .eta_wall_ms = cli_number(b, "eta_ms"),
                             .why = json_get_text(b, "why"),
                             .from = json_get_text(b, "from"),
                             .words = json_get_text(hold_of(l, b), "words")};
}

/* "1,200/s, 31 s left", "paused", "scheduled until 14:05", "done". */
static void put_progress(struct buf *to, const struct listing *l, const struct progress *p,
                         const struct books *b)
{
    if (open_count(b) == 0) {
        buf_add_str(to, "done");
        return;
    }
    if (p->why.len > 0) {
        buf_add_slice(to, p->why);
        if (p->eta_wall_ms > l->now_wall_ms) {
            buf_add_str(to, " until ");
            page_time(to, p->eta_wall_ms, l->now_wall_ms);
        }
        return;
    }
    if (p->rate_per_s == 0) {
        buf_add_str(to, l->live == NULL ? "not running" : "waiting");
        return;
    }
    page_number(to, p->rate_per_s, 0);
    buf_add_str(to, "/s");
    if (p->eta_wall_ms > l->now_wall_ms) {
        buf_add_str(to, ", ");
        page_duration(to, p->eta_wall_ms - l->now_wall_ms);
        buf_add_str(to, " left");
    }
}

/* What SES says of a From that it refuses, on a line of its own. */
static void put_words(struct buf *to, const struct progress *p)
{
    if (p->from.len > 0)
        buf_printf(to, "%18sfrom %.*s: %.*s\n", "", SLICE_ARGS(p->from), SLICE_ARGS(p->words));
}

/* ---- one batch ---- */

static void put_json(struct buf *line, const struct listing *l, uint64_t id,
                     const struct message_head *h, const struct books *b)
{
    struct progress p = progress_of(l, id);

    buf_add_byte(line, '{');
    batch_put_json(line, id, h, b, no_outcome(l, b));
    if (l->live != NULL) {
        json_put_u64(line, "rate-per-s", p.rate_per_s);
        json_put_u64(line, "eta-ms", p.eta_wall_ms);
        json_put_str(line, "why", p.why);
        json_put_str(line, "held-from", p.from);
        json_put_str(line, "words", p.words);
    }
    buf_add_str(line, "}\n");
}

static const struct {
    const char *title;
    unsigned columns;
} columns[] = {{"accepted", 9}, {"open", 9},    {"sent", 9},       {"failed", 7},  {"suppr.", 7},
               {"doubt", 6},    {"cancel.", 8}, {"delivered", 10}, {"bounced", 8}, {"opened", 8}};

enum { COLUMNS = sizeof columns / sizeof columns[0], PROGRESS_COLUMNS = 24, DOMAIN_COLUMNS = 22 };

static void put_title(struct buf *line)
{
    page_column(line, SLICE("batch"), 18);
    page_column(line, SLICE("domain"), DOMAIN_COLUMNS);
    for (size_t i = 0; i < COLUMNS; i++)
        buf_printf(line, "%*s", (int)columns[i].columns, columns[i].title);
    buf_add_str(line, "  ");
    page_column(line, SLICE("now"), PROGRESS_COLUMNS);
    buf_add_str(line, "  subject\n");
}

static void put_row(struct buf *line, const struct listing *l, uint64_t id,
                    const struct message_head *h, const struct books *b)
{
    const uint64_t numbers[COLUMNS] = {b->accepted,
                                       open_count(b),
                                       b->state[STATE_SENT],
                                       b->state[STATE_FAILED],
                                       b->state[STATE_SUPPRESSED],
                                       b->state[STATE_DOUBT],
                                       b->state[STATE_CANCELLED],
                                       b->delivered,
                                       b->failed_permanent,
                                       b->opened};
    struct progress p = progress_of(l, id);
    struct buf words = {0};

    buf_printf(line, "%016" PRIx64 "  ", id);
    page_column(line, h->domain, DOMAIN_COLUMNS);
    for (size_t i = 0; i < COLUMNS; i++)
        page_number(line, numbers[i], columns[i].columns);
    put_progress(&words, l, &p, b);
    buf_add_str(line, "  ");
    page_column(line, buf_slice(&words), PROGRESS_COLUMNS);
    buf_add_str(line, "  ");
    page_column(line, h->subject, SUBJECT_COLUMNS);
    buf_add_byte(line, '\n');
    put_words(line, &p);
    uint32_t missing = no_outcome(l, b);
    if (missing > 0)
        buf_printf(line, "%18s%" PRIu32 " were sent, and neither delivered nor failed since\n", "",
                   missing);
    buf_fini(&words);
}

static void put_bar(struct buf *to, const char *what, uint64_t part, uint64_t whole)
{
    buf_printf(to, "  %-10s ", what);
    page_bar(to, part, whole, BAR_CELLS);
    page_number(to, part, 9);
    buf_add_str(to, " of ");
    page_number(to, whole, 0);
    buf_add_byte(to, '\n');
}

/* A bar for everything that may become of one batch. */
static void put_bars(struct listing *l, uint64_t id, const struct message_head *h,
                     const struct books *b)
{
    struct progress p = progress_of(l, id);

    page_column(&l->text, h->subject, SUBJECT_COLUMNS);
    buf_add_str(&l->text, "  ");
    put_progress(&l->text, l, &p, b);
    buf_add_byte(&l->text, '\n');
    put_words(&l->text, &p);
    if (h->request_id.len > 0)
        buf_printf(&l->text, "  request    %.*s\n", SLICE_ARGS(h->request_id));
    put_bar(&l->text, "sent", b->state[STATE_SENT], b->accepted);
    if (b->state[STATE_FAILED] + b->state[STATE_SUPPRESSED] + b->state[STATE_CANCELLED] > 0)
        put_bar(&l->text, "not sent",
                b->state[STATE_FAILED] + b->state[STATE_SUPPRESSED] + b->state[STATE_CANCELLED],
                b->accepted);
    put_bar(&l->text, "delivered", b->delivered, b->accepted);
    put_bar(&l->text, "opened", b->opened, b->accepted);
    put_bar(&l->text, "bounced", b->failed_permanent, b->accepted);
    put_bar(&l->text, "delayed", b->failed_temporary, b->accepted);
    put_bar(&l->text, "complained", b->complained, b->accepted);
}

/* A line for each of many. */
static void put_line(struct listing *l, uint64_t id, const struct message_head *h,
                     const struct books *b)
{
    struct progress p = progress_of(l, id);

    if (l->shown > WATCHED_MAX)
        return;
    buf_printf(&l->text, "%016" PRIx64 "  ", id);
    page_column(&l->text, h->subject, SUBJECT_COLUMNS);
    buf_add_str(&l->text, "  ");
    page_bar(&l->text, b->accepted - open_count(b), b->accepted, BAR_CELLS);
    page_number(&l->text, b->accepted - open_count(b), 9);
    buf_add_str(&l->text, " of ");
    page_number(&l->text, b->accepted, 0);
    buf_add_str(&l->text, "  ");
    put_progress(&l->text, l, &p, b);
    buf_add_byte(&l->text, '\n');
}

/* ---- all of them ---- */

static bool on_batch(void *arg, uint64_t id, struct slice packed, const struct books *b)
{
    struct listing *l = arg;
    struct arena a = {0};
    struct message_head h;

    if (l->only != 0 && l->only != id)
        return true;
    if (message_head_unpack(packed, &a, &h) &&
        (l->o->domain == NULL || slice_eq_nocase(h.domain, slice_str(l->o->domain)))) {
        l->accepted += b->accepted;
        l->settled += b->accepted - open_count(b);
        l->outcomes += outcome_count(b);
        uint32_t balance = books_balance(b);
        l->unaccounted += b->accepted > balance ? b->accepted - balance : balance - b->accepted;
        l->shown++;
        if (l->page != NULL && l->only != 0)
            put_bars(l, id, &h, b);
        else if (l->page != NULL)
            put_line(l, id, &h, b);
        else if (l->o->json)
            put_json(&l->text, l, id, &h, b);
        else
            put_row(&l->text, l, id, &h, b);
        if (l->page == NULL) {
            (void)fwrite(l->text.ptr, 1, l->text.len, stdout);
            buf_reset(&l->text);
        }
    }
    arena_fini(&a);
    return l->shown < l->o->limit && (l->only == 0 || l->only != id);
}

static int list(struct store *store, struct listing *l)
{
    struct err err;
    struct store_txn *t = store_begin_read(store, &err);

    if (t == NULL) {
        (void)fprintf(stderr, "postern batches: %s\n", err.text);
        return CLI_WRONG_USE;
    }
    l->now_wall_ms = clock_wall_ms();
    batch_each(t, on_batch, l);
    store_end_read(t);
    if (l->only != 0 && l->shown == 0) {
        (void)fprintf(stderr, "postern batches: there is no batch %016" PRIx64 "\n", l->only);
        return CLI_NOT_SO;
    }
    return l->unaccounted == 0 ? CLI_DONE : CLI_NOT_SO;
}

/* Until every recipient has an outcome. What is not a terminal sees the last drawing only. */
static int watch(struct store *store, const struct cli_options *o, const struct config *config,
                 uint64_t only)
{
    const struct timespec pause = {.tv_nsec = WATCH_MS * 1000000L};
    struct page page = {.on_terminal = isatty(STDOUT_FILENO) != 0};

    while (true) {
        struct err err;
        cJSON *live = page.on_terminal ? cli_status_get(config, &err) : NULL;
        struct listing l = {.o = o, .config = config, .only = only, .page = &page, .live = live};
        int got = list(store, &l);
        bool over = (l.settled == l.accepted && l.outcomes == l.accepted) ||
                    (only != 0 && l.shown == 0) || got == CLI_WRONG_USE;
        if (page.on_terminal || over)
            page_draw(&page, &l.text);
        buf_fini(&l.text);
        json_free(live);
        if (over)
            return got;
        (void)nanosleep(&pause, NULL);
    }
}

/* ---- the subcommand ---- */

static bool read_id(const char *word, uint64_t *id)
{
    char *end;

    *id = strtoull(word, &end, 16);
    if (*end == '\0' && *id != 0)
        return true;
    (void)fprintf(stderr, "postern batches: '%s' is no batch id (16 hexadecimal digits)\n", word);
    return false;
}

static int steer(const struct cli_options *o, uint32_t verb)
{
    struct record_control r = {.verb = verb};

    if (o->words[1] == NULL) {
        (void)fprintf(stderr, "postern batches %s: which batch? `postern batches` lists them\n",
                      o->words[0]);
        return CLI_WRONG_USE;
    }
    if (!read_id(o->words[1], &r.batch_id))
        return CLI_WRONG_USE;
    return cli_ask(o, &r);
}

int cli_batches(const struct cli_options *o)
{
    struct config *config;
    uint64_t only = 0;
    int got;

    if (o->words[0] != NULL) {
        uint32_t verb = cli_verb(o->words[0]);
        if (verb != 0)
            return steer(o, verb);
        if (!read_id(o->words[0], &only))
            return CLI_WRONG_USE;
    }
    struct store *store = cli_store_open(o, &config);
    if (store == NULL)
        return CLI_WRONG_USE;
    if (o->watch) {
        got = watch(store, o, config, only);
    } else {
        struct err err;
        struct listing l = {.o = o, .config = config, .only = only, .live = NULL};
        cJSON *live = cli_status_get(config, &err);
        l.live = live;
        if (!o->json) {
            put_title(&l.text);
            (void)fwrite(l.text.ptr, 1, l.text.len, stdout);
            buf_reset(&l.text);
        }
        got = list(store, &l);
        buf_fini(&l.text);
        json_free(live);
    }
    store_close(store);
    config_free(config);
    return got;
}
