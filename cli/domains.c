/*
 * postern domains: what each configured domain has sent of late, what of it came back badly, and
 * what holds it; and pausing, resuming and cancelling its newsletters.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "cli/options.h"
#include "cli/page.h"
#include "cli/request.h"
#include "store/as_json.h"

enum { DOMAIN_COLUMNS = 30, NUMBER_COLUMNS = 11 };

struct report {
    const struct cli_options *o;
    const struct config *config;
    const struct reputation *reputation;
    const cJSON *live; /* NULL: nothing runs */
};

static void put_share(struct buf *to, uint64_t bad, uint64_t sent)
{
    struct buf text = {0};

    if (sent > 0)
        buf_printf(&text, "%" PRIu64 ".%02" PRIu64 " %%", bad * 100 / sent,
                   bad * 10000 / sent % 100);
    else
        buf_add_byte(&text, '-');
    for (size_t i = text.len; i < NUMBER_COLUMNS; i++)
        buf_add_byte(to, ' ');
    buf_add_slice(to, buf_slice(&text));
    buf_fini(&text);
}

/* The first that holds the domain from this one on. */
static const cJSON *hold_of(const cJSON *hold, struct slice domain)
{
    /* The account's holds everybody. */
    while (hold != NULL && json_get_text(hold, "domain").len > 0 &&
           !slice_eq(json_get_text(hold, "domain"), domain))
        hold = hold->next;
    return hold;
}

static void put_domain(const struct report *r, const struct config_domain *d, struct buf *to)
{
    struct slice name = slice_str(d->name);
    uint64_t now = clock_wall_ms(), window = r->config->guard.window_ms;
    struct reputation_sums day = reputation_since(r->reputation, name, now - DAY_MS),
                           all = reputation_since(r->reputation, name, now - window);
    uint64_t sent = all.count[REPUTATION_SENT], bounced = all.count[REPUTATION_BOUNCED],
             complained = all.count[REPUTATION_COMPLAINED];
    const cJSON *hold = hold_of(json_first(json_get(r->live, "holds")), name);

    if (r->o->json) {
        buf_add_byte(to, '{');
        reputation_put_json(to, r->reputation, name, now, window);
        json_put_str(to, "held", json_get_text(hold, "reason"));
        json_put_str(to, "from", json_get_text(hold, "from"));
        json_put_str(to, "words", json_get_text(hold, "words"));
        json_put_str(to, "mend", json_get_text(hold, "mend"));
        json_put_name(to, "holds");
        buf_add_byte(to, '[');
        for (bool first = true; hold != NULL; hold = hold_of(hold->next, name), first = false) {
            buf_add_str(to, first ? "{" : ",{");
            json_put_str(to, "reason", json_get_text(hold, "reason"));
            json_put_str(to, "lane", json_get_text(hold, "lane"));
            json_put_str(to, "from", json_get_text(hold, "from"));
            json_put_str(to, "words", json_get_text(hold, "words"));
            buf_add_byte(to, '}');
        }
        buf_add_str(to, "]}\n");
        return;
    }
    page_column(to, name, DOMAIN_COLUMNS);
    page_number(to, day.count[REPUTATION_SENT], NUMBER_COLUMNS);
    page_number(to, sent, NUMBER_COLUMNS);
    put_share(to, bounced, sent);
    put_share(to, complained, sent);
    for (size_t n = 0; hold != NULL; hold = hold_of(hold->next, name), n++) {
        struct slice from = json_get_text(hold, "from"), lane = json_get_text(hold, "lane");
        if (n > 0)
            buf_printf(to, "\n%*s", DOMAIN_COLUMNS, "");
        buf_printf(to, "  held: %.*s%s%.*s%s%.*s: %.*s\n%*s  → %.*s",
                   SLICE_ARGS(json_get_text(hold, "reason")), lane.len > 0 ? ", " : "",
                   SLICE_ARGS(lane), from.len > 0 ? " from " : "", SLICE_ARGS(from),
                   SLICE_ARGS(json_get_text(hold, "words")), DOMAIN_COLUMNS, "",
                   SLICE_ARGS(json_get_text(hold, "mend")));
    }
    buf_add_byte(to, '\n');
}

static int show(const struct report *r)
{
    struct buf text = {0};
    bool any = false;

    if (!r->o->json) {
        page_column(&text, SLICE("domain"), DOMAIN_COLUMNS);
        buf_printf(&text, "%*s%*s%*s%*s\n", NUMBER_COLUMNS, "sent 24 h", NUMBER_COLUMNS, "sent",
                   NUMBER_COLUMNS, "bounced", NUMBER_COLUMNS, "complained");
    }
    for (size_t i = 0; i < r->config->domain_count; i++) {
        const struct config_domain *d = &r->config->domains[i];
        if (r->o->words[0] != NULL &&
            !slice_eq_nocase(slice_str(d->name), slice_str(r->o->words[0])))
            continue;
        put_domain(r, d, &text);
        any = true;
    }
    if (!r->o->json) {
        buf_add_str(&text, "\nshares are of what was sent within the last ");
        page_duration(&text, r->config->guard.window_ms);
        buf_add_str(&text, r->live == NULL ? "; Postern is not running\n" : "\n");
    }
    if (any)
        (void)fwrite(text.ptr, 1, text.len, stdout);
    else
        (void)fprintf(stderr, "postern domains: %s is no configured domain\n", r->o->words[0]);
    buf_fini(&text);
    return any ? CLI_DONE : CLI_NOT_SO;
}

static int steer(const struct cli_options *o, uint32_t verb)
{
    if (o->words[1] == NULL) {
        (void)fprintf(stderr, "postern domains %s: which domain? `postern domains` lists them\n",
                      o->words[0]);
        return CLI_WRONG_USE;
    }
    return cli_ask(o, &(struct record_control){.verb = verb, .domain = slice_str(o->words[1])});
}

int cli_domains(const struct cli_options *o)
{
    struct config *config;
    struct err err;
    int status = CLI_WRONG_USE;

    uint32_t verb = o->words[0] == NULL ? 0 : cli_verb(o->words[0]);
    if (verb != 0)
        return steer(o, verb);
    struct store *store = cli_store_open(o, &config);
    if (store == NULL)
        return CLI_WRONG_USE;
    struct store_txn *t = store_begin_read(store, &err);
    struct reputation *reputation = t == NULL ? NULL : reputation_open(t, &err);
    if (t != NULL)
        store_end_read(t);
    if (reputation == NULL) {
        (void)fprintf(stderr, "postern domains: %s\n", err.text);
    } else {
        cJSON *live = cli_status_get(config, &err);
        status = show(&(struct report){o, config, reputation, live});
        json_free(live);
    }
    reputation_close(reputation);
    store_close(store);
    config_free(config);
    return status;
}
