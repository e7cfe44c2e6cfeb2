#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/options.h"
#include "store/batches.h"

enum { WATCH_MS = 200, BAR_CELLS = 30 };

struct listing {
    const struct cli_options *o;
    uint64_t only; /* a batch id, or 0 */
    uint32_t shown;
    uint64_t accepted, settled, outcomes; /* sums over what was shown */
    uint64_t unaccounted;
    struct books total;
};

static uint32_t balance(const struct books *b)
{
    uint32_t sum = 0;

    for (int i = 0; i < STATE_COUNT; i++)
        if (i != STATE_DUPLICATE)
            sum += b->state[i];
    return sum;
}

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

static void show_json(uint64_t id, const struct message_head *h, const struct books *b)
{
    static const char *const names[STATE_COUNT] = {
        "pending", "leased", "doubt", "sent", "failed", "suppressed", "cancelled", "duplicate"};
    struct buf line = {0};

    buf_printf(&line, "{\"batch\":\"%016" PRIx64 "\"", id);
    json_put_str(&line, "domain", h->domain);
    json_put_str(&line, "message-id", h->message_id);
    json_put_str(&line, "email-id", h->email_id);
    json_put_str(&line, "subject", h->subject);
    json_put_u64(&line, "accepted-at-us", h->accepted_wall_us);
    json_put_u64(&line, "accepted", b->accepted);
    for (int i = 0; i < STATE_COUNT; i++)
        json_put_u64(&line, names[i], b->state[i]);
    json_put_u64(&line, "delivered", b->delivered);
    json_put_u64(&line, "failed-permanent", b->failed_permanent);
    json_put_u64(&line, "failed-temporary", b->failed_temporary);
    json_put_u64(&line, "opened", b->opened);
    json_put_u64(&line, "clicked", b->clicked);
    json_put_u64(&line, "complained", b->complained);
    json_put_u64(&line, "unsubscribed", b->unsubscribed);
    json_put_i64(&line, "unaccounted", (int64_t)b->accepted - (int64_t)balance(b));
    buf_add_str(&line, "}\n");
    (void)fwrite(line.ptr, 1, line.len, stdout);
    buf_fini(&line);
}

static void show_row(uint64_t id, const struct message_head *h, const struct books *b)
{
    (void)printf("%016" PRIx64 "  %-24.*s %8u %8u %8u %6u %6u %6u %9u %7u %7u  %.*s\n", id,
                 SLICE_ARGS(slice_head(h->domain, 24)), b->accepted, open_count(b),
                 b->state[STATE_SENT], b->state[STATE_FAILED], b->state[STATE_SUPPRESSED],
                 b->state[STATE_DOUBT], b->delivered, b->failed_permanent, b->opened,
                 SLICE_ARGS(slice_head(h->subject, 40)));
}

static bool on_batch(void *arg, uint64_t id, struct slice packed, const struct books *b)
{
    struct listing *l = arg;
    struct arena a = {0};
    struct message_head h;

    if (l->only != 0 && l->only != id)
        return true;
    if (!message_head_unpack(packed, &a, &h)) {
        arena_fini(&a);
        return true;
    }
    if (l->o->domain == NULL || slice_eq_nocase(h.domain, slice_str(l->o->domain))) {
        l->accepted += b->accepted;
        l->settled += b->accepted - open_count(b);
        l->outcomes += outcome_count(b);
        l->unaccounted +=
            b->accepted > balance(b) ? b->accepted - balance(b) : balance(b) - b->accepted;
        l->total.delivered += b->delivered;
        l->total.failed_permanent += b->failed_permanent;
        l->total.failed_temporary += b->failed_temporary;
        l->total.opened += b->opened;
        l->total.complained += b->complained;
        l->total.state[STATE_SENT] += b->state[STATE_SENT];
        l->shown++;
        if (!l->o->watch && l->o->json)
            show_json(id, &h, b);
        else if (!l->o->watch)
            show_row(id, &h, b);
    }
    arena_fini(&a);
    return l->shown < l->o->limit;
}

static void draw_bar(const char *what, uint64_t part, uint64_t whole)
{
    uint64_t cells = whole == 0 ? 0 : part * BAR_CELLS / whole;

    (void)printf("  %-10s ", what);
    for (uint64_t i = 0; i < BAR_CELLS; i++)
        (void)fputs(i < cells ? "█" : "░", stdout);
    (void)printf(" %6" PRIu64 " of %" PRIu64 "\n", part, whole);
}

static int list(struct store *store, struct listing *l)
{
    struct err err;
    struct store_txn *t = store_begin_read(store, &err);

    if (t == NULL) {
        (void)fprintf(stderr, "postern batches: %s\n", err.text);
        return CLI_WRONG_USE;
    }
    batch_each(t, on_batch, l);
    store_end_read(t);
    return l->unaccounted == 0 ? CLI_DONE : CLI_NOT_SO;
}

static void draw(const struct listing *l, bool again)
{
    enum { LINES = 7 };

    if (again)
        (void)printf("\033[%dA", LINES);
    draw_bar("accepted", l->accepted, l->accepted);
    draw_bar("sent", l->total.state[STATE_SENT], l->accepted);
    draw_bar("delivered", l->total.delivered, l->accepted);
    draw_bar("opened", l->total.opened, l->accepted);
    draw_bar("bounced", l->total.failed_permanent, l->accepted);
    draw_bar("delayed", l->total.failed_temporary, l->accepted);
    draw_bar("complained", l->total.complained, l->accepted);
    (void)fflush(stdout);
}

static int watch(struct store *store, const struct cli_options *o, uint64_t only)
{
    const struct timespec pause = {.tv_nsec = WATCH_MS * 1000000L};
    bool on_terminal = isatty(STDOUT_FILENO) != 0, drawn = false;

    while (true) {
        struct listing l = {.o = o, .only = only};
        int got = list(store, &l);
        if (got == CLI_WRONG_USE)
            return got;
        bool over = l.accepted > 0 && l.settled == l.accepted && l.outcomes == l.accepted;
        if (on_terminal || over) {
            draw(&l, drawn);
            drawn = on_terminal;
        }
        if (over)
            return got;
        (void)nanosleep(&pause, NULL);
    }
}

int cli_batches(const struct cli_options *o)
{
    struct config *config;
    struct listing l = {.o = o};
    int got;

    if (o->word != NULL) {
        char *end;
        l.only = strtoull(o->word, &end, 16);
        if (*end != '\0' || l.only == 0) {
            (void)fprintf(stderr, "postern batches: '%s' is no batch id (16 hexadecimal digits)\n",
                          o->word);
            return CLI_WRONG_USE;
        }
    }
    struct store *store = cli_store_open(o, &config);
    if (store == NULL)
        return CLI_WRONG_USE;
    if (o->watch) {
        got = watch(store, o, l.only);
    } else {
        if (!o->json)
            (void)printf("%-16s  %-24s %8s %8s %8s %6s %6s %6s %9s %7s %7s  %s\n", "batch",
                         "domain", "accepted", "open", "sent", "failed", "suppr.", "doubt",
                         "delivered", "bounced", "opened", "subject");
        got = list(store, &l);
    }
    store_close(store);
    config_free(config);
    return got;
}
