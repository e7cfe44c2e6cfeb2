/*
 * postern webhooks: where events are told and how that goes; which events were given up, and telling
 * them again. Listing reads the store; telling again and forgetting are the running Postern's to do.
 */
#include "store/webhooks.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "cli/options.h"
#include "cli/page.h"
#include "store/as_json.h"
#include "store/control.h"

enum {
    ID_SHOWN = 12, /* of a failure's digits */
    ASKED_AT_ONCE = 128,
    WAITING_COUNTED = 1000000,
};

_Static_assert(ASKED_AT_ONCE *WEBHOOK_FAILURE_BYTES + 1024 < CONTROL_REQUEST_MAX, "one packet");

struct choice {
    const struct cli_options *o;
    struct store_txn *t;
    struct slice id;  /* hexadecimal, or the beginning of it; empty = all */
    struct buf found; /* what names them, one after another */
    struct arena arena;
    uint32_t shown;
};

static int say(const char *words)
{
    (void)fprintf(stderr, "postern webhooks: %s\n", words);
    return CLI_WRONG_USE;
}

static void print(struct buf *text)
{
    (void)fwrite(text->ptr, 1, text->len, stdout);
    buf_fini(text);
}

static bool is_target_chosen(const struct choice *c, const struct webhook_target *target)
{
    return (c->o->domain == NULL || slice_eq_nocase(target->domain, slice_str(c->o->domain))) &&
           (c->o->search == NULL ||
            slice_find_nocase(target->url, slice_str(c->o->search)) != SIZE_MAX);
}

/* -------- targets -------- */

static void put_kinds(struct buf *to, unsigned kinds, const char *between, const char *quote)
{
    bool any = false;

    for (unsigned kind = WEBHOOK_NONE + 1; kind < WEBHOOK_KIND_END; kind++) {
        if ((kinds >> kind & 1) == 0)
            continue;
        buf_printf(to, "%s%s%s%s", any ? between : "", quote,
                   webhook_kind_name((enum webhook_kind)kind), quote);
        any = true;
    }
}

static void put_reason(struct buf *to, uint32_t status, struct slice words)
{
    if (status != 0)
        buf_printf(to, "answered with %u", status);
    else
        page_column(to, words, (unsigned)words.len);
}

static void put_target(struct buf *to, const struct webhook_target *target, unsigned kinds,
                       uint64_t waiting)
{
    uint64_t now = clock_wall_ms();

    page_column(to, target->domain, (unsigned)target->domain.len);
    buf_add_str(to, "  ");
    page_column(to, target->url, (unsigned)target->url.len);
    buf_add_str(to, "\n    ");
    put_kinds(to, kinds, ", ", "");
    buf_add_str(to, kinds == 0 ? "removed: " : ": ");
    page_number(to, target->taken, 0);
    buf_add_str(to, " delivered");
    if (target->taken_us > 0) {
        buf_add_str(to, ", last ");
        page_time(to, target->taken_us / 1000, now);
    }
    buf_add_str(to, "; ");
    page_number(to, waiting, 0);
    buf_add_str(to, " wait; ");
    page_number(to, target->refused, 0);
    buf_add_str(to, " given up\n");
    if (target->failures == 0)
        return;
    buf_printf(to, "    FAILING, %u in a row, last ", target->failures);
    page_time(to, target->failed_us / 1000, now);
    buf_add_str(to, ": ");
    put_reason(to, target->status, target->words);
    buf_add_byte(to, '\n');
}

static bool on_target(void *arg, const struct webhook_target *target)
{
    struct choice *c = arg;
    struct buf text = {0};

    if (!is_target_chosen(c, target))
        return true;
    if (c->o->json) {
        buf_add_byte(&text, '{');
        webhook_target_put_json(&text, c->t, target, WAITING_COUNTED);
        buf_add_str(&text, "}\n");
    } else {
        put_target(&text, target, webhook_target_kinds(c->t, target),
                   webhook_due_count(c->t, target->id, WAITING_COUNTED));
    }
    print(&text);
    return ++c->shown < c->o->limit;
}

/* -------- failures -------- */

static bool is_failure_chosen(const struct choice *c, const struct webhook_failure *f,
                              struct webhook_target *target)
{
    struct buf id = {0};

    webhook_failure_put_id(&id, f);
    bool chosen = slice_starts_nocase(buf_slice(&id), c->id) &&
                  webhook_target_get(c->t, f->id, target) && is_target_chosen(c, target);
    buf_fini(&id);
    return chosen;
}

static void put_failure(struct choice *c, struct buf *to, const struct webhook_failure *f,
                        const struct webhook_target *target)
{
    struct slice recipient, kind;
    struct buf id = {0};

    arena_reset(&c->arena);
    kind = webhook_failure_about(c->t, f, target, &c->arena, &recipient);
    webhook_failure_put_id(&id, f);
    page_column(to, buf_slice(&id), ID_SHOWN);
    buf_add_str(to, "  ");
    page_time(to, f->failed_us / 1000, clock_wall_ms());
    buf_printf(to, "  %.*s ", SLICE_ARGS(kind));
    page_column(to, recipient, (unsigned)recipient.len);
    buf_printf(to, ", %u attempt%s, ", f->attempts, f->attempts == 1 ? "" : "s");
    put_reason(to, f->status, f->words);
    buf_add_str(to, "\n    ");
    page_column(to, target->url, (unsigned)target->url.len);
    buf_add_byte(to, '\n');
    buf_fini(&id);
}

static bool on_failure(void *arg, const struct webhook_failure *f)
{
    struct choice *c = arg;
    struct webhook_target target;
    struct buf text = {0};

    if (!is_failure_chosen(c, f, &target))
        return true;
    if (c->o->json) {
        buf_add_byte(&text, '{');
        webhook_failure_put_json(&text, c->t, f, &target);
        buf_add_str(&text, "}\n");
    } else {
        put_failure(c, &text, f, &target);
    }
    print(&text);
    return ++c->shown < c->o->limit;
}

static bool on_found(void *arg, const struct webhook_failure *f)
{
    struct choice *c = arg;
    struct webhook_target target;

    if (is_failure_chosen(c, f, &target))
        buf_add(&c->found, f->id, WEBHOOK_FAILURE_BYTES);
    return true;
}

/* -------- asking the running Postern -------- */

static int ask(const struct choice *c, const char *state_dir, enum control_verb verb)
{
    const size_t most = ASKED_AT_ONCE * WEBHOOK_FAILURE_BYTES;
    uint32_t count = 0;

    for (struct slice rest = buf_slice(&c->found); rest.len > 0; rest = slice_from(rest, most)) {
        const struct record_control r = {.verb = verb, .ids = slice_head(rest, most)};
        struct record_controlled a = {0};
        struct buf answer = {0};
        struct err err;
        if (control_ask(state_dir, &r, &answer, &a, &err) != 0) {
            buf_fini(&answer);
            (void)say(err.text);
            return err.code == ERR_NOT_FOUND ? CLI_NOT_SO : CLI_WRONG_USE;
        }
        count += a.count;
        bool refused = a.verdict == ANSWER_REFUSED;
        if (refused)
            (void)fprintf(stderr, "%.*s\n", SLICE_ARGS(a.text));
        buf_fini(&answer);
        if (refused)
            return CLI_NOT_SO;
    }
    const char *what = verb == CONTROL_WEBHOOK_DROP ? "dropped" : "replayed";
    if (c->o->json)
        (void)printf("{\"%s\":%u}\n", what, count);
    else if (verb == CONTROL_WEBHOOK_DROP)
        (void)printf("%u dropped\n", count);
    else
        (void)printf("%u events are told again now, and as often as a new one if need be\n", count);
    return CLI_DONE;
}

static int change(struct choice *c, const char *state_dir, enum control_verb verb,
                  const char *which)
{
    c->id = strcmp(which, "all") == 0 ? slice_none() : slice_str(which);
    webhook_failure_each(c->t, NULL, on_found, c);
    if (c->id.len == 0 || c->found.len == WEBHOOK_FAILURE_BYTES)
        return ask(c, state_dir, verb);
    (void)fprintf(stderr, "postern webhooks: %s %s\n",
                  c->found.len == 0 ? "there is no failure" : "more than one failure begins with",
                  which);
    return CLI_NOT_SO;
}

/* -------- the key -------- */

static int show_key(const struct choice *c, const struct config *config, const char *name)
{
    const struct config_domain *d = config_domain_find(config, slice_str(name));
    struct slice key = webhook_signing_key(c->t);

    if (d == NULL) {
        (void)fprintf(stderr, "postern webhooks: there is no domain \"%s\" in %s\n", name,
                      c->o->config_path);
        return CLI_NOT_SO;
    }
    if (d->webhook_signing_key[0] != '\0')
        key = slice_str(d->webhook_signing_key);
    if (key.len == 0) {
        (void)fprintf(stderr, "postern webhooks: there is none yet: it is made with the first "
                              "webhook; or set webhook_signing_key of the domain\n");
        return CLI_NOT_SO;
    }
    if (c->o->json) {
        struct buf line = {0};
        buf_add_byte(&line, '{');
        json_put_str(&line, "domain", slice_str(d->name));
        json_put_str(&line, "key", key);
        (void)printf("%s}\n", buf_cstr(&line));
        buf_fini(&line);
    } else {
        (void)printf("%.*s\n", SLICE_ARGS(key));
    }
    return CLI_DONE;
}

static int act(struct choice *c, const struct config *config)
{
    const char *verb = c->o->words[0], *which = c->o->words[1];

    if (verb == NULL) {
        webhook_target_each(c->t, on_target, c);
        return CLI_DONE;
    }
    if (strcmp(verb, "failures") == 0) {
        webhook_failure_each(c->t, NULL, on_failure, c);
        return CLI_DONE;
    }
    bool replays = strcmp(verb, "replay") == 0; /* or drop, or key */
    if (which == NULL || which[0] == '\0')
        return say(strcmp(verb, "key") == 0 ? "say which domain's" : "say which: an ID, or all");
    if (strcmp(verb, "key") == 0)
        return show_key(c, config, which);
    return change(c, config->state_dir, replays ? CONTROL_WEBHOOK_REPLAY : CONTROL_WEBHOOK_DROP,
                  which);
}

int cli_webhooks(const struct cli_options *o)
{
    struct config *config;
    struct store *store = cli_store_open(o, &config);
    struct choice c = {.o = o};
    struct err err;
    int status;

    if (store == NULL)
        return CLI_WRONG_USE;
    c.t = store_begin_read(store, &err);
    if (c.t == NULL) {
        status = say(err.text);
    } else {
        status = act(&c, config);
        store_end_read(c.t);
    }
    buf_fini(&c.found);
    arena_fini(&c.arena);
    store_close(store);
    config_free(config);
    return status;
}
