/*
 * postern status: what the running Postern is doing: how fast it sends and may send, what is held
 * and what mends it, and its processes.
 */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/options.h"
#include "cli/page.h"
#include "cli/request.h"
#include "shm/gauges.h"

enum { WATCH_MS = 500, BAR_CELLS = 30, NAME_COLUMNS = 14 };

static void put_sending(struct buf *to, const cJSON *s)
{
    uint64_t rate = cli_number(s, "rate_per_s"), account = cli_number(s, "account_rate_per_s"),
             share = cli_number(s, "rate_share"), quota = cli_number(s, "quota_max_24h");

    buf_add_str(to, "rate        ");
    if (rate == 0 && account == 0) {
        buf_add_str(to, "not known yet: nothing is sent");
    } else {
        page_number(to, rate, 0);
        buf_add_str(to, " recipients/s");
        if (account > 0) {
            buf_add_str(to, " of the account's ");
            page_number(to, account, 0);
        }
        if (share < 1000)
            buf_printf(to, ", slowed down to %" PRIu64 " %% as SES throttles", share / 10);
    }
    if (quota > 0) {
        buf_add_str(to, "\nquota       ");
        page_bar(to, cli_number(s, "quota_sent_24h"), quota, BAR_CELLS);
        buf_add_byte(to, ' ');
        page_number(to, cli_number(s, "quota_sent_24h"), 0);
        buf_add_str(to, " of ");
        page_number(to, quota, 0);
        buf_add_str(to, " in 24 h");
    }
    buf_add_str(to, "\nto send     ");
    page_number(to, cli_number(s, "open"), 0);
    buf_add_str(to, " recipients of ");
    page_number(to, cli_number(s, "batches_open"), 0);
    buf_add_str(to, " batches\nsent        ");
    page_number(to, cli_number(s, "sent"), 0);
    buf_add_str(to, " since the start; throttled ");
    page_number(to, cli_number(s, "throttled"), 0);
    if (cli_number(s, "unresolved") > 0) {
        buf_add_str(to, "\nunresolved  ");
        page_number(to, cli_number(s, "unresolved"), 0);
        buf_add_str(to, " placeholders had no value in the mails sent");
    }
    if (cli_number(s, "deadletters") > 0) {
        buf_add_str(to, "\ndead        ");
        page_number(to, cli_number(s, "deadletters"), 0);
        buf_add_str(to, " messages from SES were not understood: postern deadletters");
    }
    if (json_get_bool(s, "account_sandbox", false))
        buf_add_str(to,
                    "\naccount     in SES's sandbox: only verified recipients are taken; ask AWS "
                    "for production access");
    buf_add_str(to, "\n");
}

static void put_credentials(struct buf *to, const cJSON *s)
{
    const cJSON *c = json_get(s, "credentials");
    struct slice trouble = json_get_text(c, "trouble");
    uint64_t expires = cli_number(c, "expires_ms");

    buf_add_str(to, "credentials ");
    if (json_get_bool(c, "present", false)) {
        buf_printf(to, "from %.*s, region %.*s", SLICE_ARGS(json_get_text(c, "source")),
                   SLICE_ARGS(json_get_text(c, "region")));
        if (expires > 0) {
            buf_add_str(to, ", until ");
            page_time(to, expires, clock_wall_ms());
        }
        if (trouble.len > 0)
            buf_printf(to, "; they cannot be renewed: %.*s", SLICE_ARGS(trouble));
    } else {
        buf_printf(to, "none: nothing is sent or received: %.*s",
                   SLICE_ARGS(trouble.len > 0 ? trouble : SLICE("not asked for yet")));
    }
    buf_add_byte(to, '\n');
}

static void put_webhooks(struct buf *to, const cJSON *s)
{
    const cJSON *w = json_get(s, "webhooks");
    uint64_t delivered = cli_number(w, "delivered"), waiting = cli_number(w, "waiting");
    uint64_t failed = cli_number(w, "failed");

    if (delivered + waiting + failed == 0)
        return;
    buf_add_str(to, "webhooks    ");
    page_number(to, delivered, 0);
    buf_add_str(to, " delivered since the start; ");
    page_number(to, waiting, 0);
    buf_add_str(to, " wait, ");
    page_number(to, failed, 0);
    buf_add_str(to,
                failed > 0 ? " were given up: postern webhooks failures\n" : " were given up\n");
}

static void put_replication(struct buf *to, const cJSON *s)
{
    const cJSON *r = json_get(s, "replication");
    uint64_t waiting = cli_number(r, "untold");

    if (r == NULL)
        return;
    buf_add_str(to, "replication ");
    page_number(to, waiting, 0);
    buf_add_str(to, " changes are to be told to other machines");
    if (waiting > 0) {
        buf_add_str(to, ", the oldest for ");
        page_duration(to, cli_number(r, "oldest_ms"));
    }
    buf_add_byte(to, '\n');
}

static void put_store(struct buf *to, const cJSON *s)
{
    const cJSON *store = json_get(s, "store");
    uint64_t oldest_us = cli_number(store, "oldest_event_us");

    buf_printf(to, "store       %.1f MiB", (double)cli_number(store, "used_bytes") / (1 << 20));
    if (oldest_us > 0) {
        buf_add_str(to, "; the oldest event is of ");
        page_time(to, oldest_us / 1000, clock_wall_ms());
    }
    buf_add_byte(to, '\n');
}

static void put_alarms(struct buf *to, const cJSON *s)
{
    uint64_t now = clock_wall_ms();

    for (const cJSON *a = json_first(json_get(s, "alarms")); a != NULL; a = a->next) {
        buf_printf(to, "ALARM       %.*s: SES has taken ", SLICE_ARGS(json_get_text(a, "domain")));
        page_number(to, cli_number(a, "sent"), 0);
        buf_add_str(to, " mails and not one event has come back since ");
        page_time(to, cli_number(a, "since_ms"), now);
        buf_printf(to, "\n            → %.*s\n", SLICE_ARGS(json_get_text(a, "mend")));
    }
}

/* "12 s ago". */
static void put_ago(struct buf *to, uint64_t wall_ms, uint64_t now)
{
    if (wall_ms == 0) {
        buf_add_str(to, "never");
        return;
    }
    page_duration(to, now > wall_ms ? now - wall_ms : 0);
    buf_add_str(to, " ago");
}

static void put_depth(struct buf *to, const char *title, const cJSON *q)
{
    buf_printf(to, "%s%.*s: ", title, SLICE_ARGS(json_get_text(q, "url")));
    if (cli_number(q, "read_ms") == 0) {
        buf_add_str(to, "depth not known");
        return;
    }
    page_number(to, cli_number(q, "visible") + cli_number(q, "delayed"), 0);
    buf_add_str(to, " wait, ");
    page_number(to, cli_number(q, "in_flight"), 0);
    buf_add_str(to, " in flight");
}

static void put_buffer(struct buf *to, const cJSON *s)
{
    const cJSON *b = json_get(s, "buffer");
    uint64_t now = clock_wall_ms(), parts = cli_number(b, "parts"),
             since = cli_number(b, "grows_since_ms"), joins_until = cli_number(b, "joins_until_ms");

    if (b == NULL)
        return;
    put_depth(to, "buffer      ", b);
    buf_add_str(to, "; this machine holds ");
    page_number(to, parts, 0);
    buf_add_str(to, " parts");
    if (parts > 0) {
        buf_add_str(to, ", ");
        page_number(to, cli_number(b, "recipients"), 0);
        buf_add_str(to, " recipients of them to send, the oldest posted ");
        page_duration(to, cli_number(b, "oldest_ms"));
        buf_add_str(to, " ago");
    }
    if (since > 0 && now > since && now - since > GAUGE_BUFFER_GROWS_MS) {
        buf_add_str(to, "\n            nobody takes what is in it: it has not shrunk for ");
        page_duration(to, now - since);
        buf_add_str(to, "\n            → postern doctor, on each machine");
    }
    if (joins_until > now) {
        buf_add_str(to, "\n            this machine is new: until ");
        page_time(to, joins_until, now);
        buf_add_str(to, " it leaves newsletters to others that began before its event queues were "
                        "made; given back ");
        page_number(to, cli_number(b, "returned"), 0);
    }
    buf_add_byte(to, '\n');
}

static void put_events(struct buf *to, const cJSON *s)
{
    const cJSON *e = json_get(s, "events");
    uint64_t stored = cli_number(e, "stored"), now = clock_wall_ms();

    buf_add_str(to, "events      ");
    page_number(to, stored, 0);
    buf_add_str(to, " since the start, ");
    page_number(to, cli_number(e, "repeated"), 0);
    buf_add_str(to, " repeats, ");
    page_number(to, cli_number(e, "late"), 0);
    buf_add_str(to, " late");
    if (stored > 0) {
        buf_add_str(to, "; from SES to the store ");
        page_duration(to, cli_number(e, "lag_last_ms"));
        buf_add_str(to, ", on average ");
        page_duration(to, cli_number(e, "lag_ms_sum") / stored);
    }
    if (cli_number(e, "heard_ms") > 0) {
        buf_add_str(to, "; the queues are read up to ");
        put_ago(to, cli_number(e, "heard_ms"), now);
    }
    if (cli_number(e, "no_outcome_recipients") > 0) {
        buf_add_str(to, "\nno outcome  ");
        page_number(to, cli_number(e, "no_outcome_recipients"), 0);
        buf_add_str(to, " mails of ");
        page_number(to, cli_number(e, "no_outcome_batches"), 0);
        buf_add_str(to, " batches were sent, and neither delivered nor failed since");
    }
    buf_add_byte(to, '\n');
    for (const cJSON *q = json_first(json_get(s, "queues")); q != NULL; q = q->next) {
        put_depth(to, "queue       ", q);
        buf_add_str(to, "; the oldest of late waited ");
        page_duration(to, cli_number(q, "oldest_ms"));
        buf_add_byte(to, '\n');
    }
    for (const cJSON *f = json_first(json_get(s, "feeds")); f != NULL; f = f->next) {
        buf_printf(to, "domain      %.*s: last event ", SLICE_ARGS(json_get_text(f, "domain")));
        put_ago(to, cli_number(f, "event_ms"), now);
        buf_add_str(to, ", last read ");
        put_ago(to, cli_number(f, "read_ms"), now);
        buf_add_str(to, ", not read yet ");
        page_number(to, cli_number(f, "unread"), 0);
        buf_add_byte(to, '\n');
    }
}

static void put_holds(struct buf *to, const cJSON *s)
{
    uint64_t now = clock_wall_ms();

    for (const cJSON *h = json_first(json_get(s, "holds")); h != NULL; h = h->next) {
        struct slice domain = json_get_text(h, "domain"), mend = json_get_text(h, "mend");
        uint64_t until = cli_number(h, "until_ms");
        struct slice from = json_get_text(h, "from");
        struct slice lane = json_get_text(h, "lane");
        buf_printf(to, "held        %.*s%s%.*s%s%.*s: %.*s: %.*s",
                   SLICE_ARGS(domain.len == 0 ? SLICE("the account") : domain),
                   lane.len > 0 ? ", " : "", SLICE_ARGS(lane), from.len > 0 ? " from " : "",
                   SLICE_ARGS(from), SLICE_ARGS(json_get_text(h, "reason")),
                   SLICE_ARGS(json_get_text(h, "words")));
        if (until > now) {
            buf_add_str(to, "; until ");
            page_time(to, until, now);
        }
        if (mend.len > 0)
            buf_printf(to, "\n            → %.*s", SLICE_ARGS(mend));
        buf_add_byte(to, '\n');
    }
}

static void put_processes(struct buf *to, const cJSON *s)
{
    buf_add_byte(to, '\n');
    page_column(to, SLICE("process"), NAME_COLUMNS);
    buf_printf(to, "%8s  %-10s%8s\n", "pid", "state", "restarts");
    for (const cJSON *p = json_first(json_get(s, "processes")); p != NULL; p = p->next) {
        page_column(to, json_get_text(p, "name"), NAME_COLUMNS);
        buf_printf(to, "%8" PRIu64 "  ", cli_number(p, "pid"));
        page_column(to, json_get_text(p, "state"), 10);
        buf_printf(to, "%8" PRIu64 "\n", cli_number(p, "restarts"));
    }
}

static int show_once(const struct config *config, const struct cli_options *o, struct page *page)
{
    struct buf text = {0};
    struct err err;
    cJSON *s = cli_status_get(config, &err);

    if (s == NULL) {
        (void)fprintf(stderr, "postern status: %s\n", err.text);
        return err.code == ERR_NOT_FOUND ? CLI_NOT_SO : CLI_WRONG_USE;
    }
    if (o->json) {
        json_put_tree(&text, s);
        (void)printf("%s\n", buf_cstr(&text));
    } else {
        put_sending(&text, s);
        put_credentials(&text, s);
        put_webhooks(&text, s);
        put_replication(&text, s);
        put_store(&text, s);
        put_events(&text, s);
        put_buffer(&text, s);
        put_alarms(&text, s);
        put_holds(&text, s);
        put_processes(&text, s);
        page_draw(page, &text);
    }
    buf_fini(&text);
    json_free(s);
    return CLI_DONE;
}

int cli_status(const struct cli_options *o)
{
    const struct timespec pause = {.tv_nsec = WATCH_MS * 1000000L};
    struct page page = {.on_terminal = isatty(STDOUT_FILENO) != 0};
    struct config *config = cli_config_load(o);

    if (config == NULL)
        return CLI_WRONG_USE;
    int status = show_once(config, o, &page);
    while (o->watch && page.on_terminal && status == CLI_DONE) {
        (void)nanosleep(&pause, NULL);
        status = show_once(config, o, &page);
    }
    config_free(config);
    return status;
}
