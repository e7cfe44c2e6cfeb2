/*
 * postern login list, postern login end: who is signed in at the dashboard, and who no longer is. Listing
 * reads the store; ending is the running Postern's to do.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "cli/options.h"
#include "cli/page.h"
#include "cli/request.h"
#include "store/logins.h"

enum { NAME_COLUMNS = 16, ROLE_COLUMNS = 10, TIME_COLUMNS = 21 };

struct listing {
    const struct cli_options *o;
    uint64_t now_wall_ms;
    struct buf text;
    bool any;
};

static void put_time(struct buf *to, uint64_t wall_ms, uint64_t now_wall_ms)
{
    struct buf text = {0};

    if (wall_ms == 0)
        buf_add_str(&text, "not known");
    else
        page_time(&text, wall_ms, now_wall_ms);
    page_column(to, buf_slice(&text), TIME_COLUMNS);
    buf_fini(&text);
}

static void put_line(struct listing *list, const struct login *l)
{
    const struct session *s = &l->session;
    struct buf *to = &list->text;

    buf_printf(to, "%s  ", l->id);
    page_column(to, s->name, NAME_COLUMNS);
    page_column(to, slice_str(login_role_name(s->role)), ROLE_COLUMNS);
    put_time(to, s->since_wall_ms, list->now_wall_ms);
    if (l->is_link) {
        buf_add_str(to, "a link that was not used yet\n");
        return;
    }
    put_time(to, s->seen_wall_ms, list->now_wall_ms);
    page_column(to, s->from, (unsigned)s->from.len);
    buf_add_byte(to, '\n');
}

static bool on_listed(void *arg, const struct login *l)
{
    struct listing *list = arg;

    if (list->o->json) {
        buf_add_byte(&list->text, '{');
        login_put_json(&list->text, l);
        buf_add_str(&list->text, "}\n");
    } else {
        if (!list->any) {
            buf_printf(&list->text, "%-8s  %-*s%-*s%-*s%-*s%s\n", "id", NAME_COLUMNS, "name",
                       ROLE_COLUMNS, "role", TIME_COLUMNS, "since", TIME_COLUMNS, "last seen",
                       "from");
        }
        put_line(list, l);
    }
    list->any = true;
    return true;
}

/* Those that the word names, or all of them. */
struct choice {
    struct slice id;
    struct buf digests;
};

static bool on_found(void *arg, const struct login *l)
{
    struct choice *c = arg;

    if (slice_eq(c->id, SLICE("all")) || slice_eq_nocase(c->id, slice_str(l->id)))
        buf_add(&c->digests, l->digest, LOGIN_DIGEST_BYTES);
    return true;
}

static int say(const char *words)
{
    (void)fprintf(stderr, "postern login: %s\n", words);
    return CLI_WRONG_USE;
}

/* Calls visit for each row of the store. 0, or an exit status, and then it was said why. */
static int each(const struct cli_options *o, login_visitor *visit, void *arg)
{
    struct config *config;
    struct err err;
    struct store *store = cli_store_open(o, &config);
    int status = CLI_DONE;

    if (store == NULL)
        return CLI_WRONG_USE;
    struct store_txn *t = store_begin_read(store, &err);
    if (t == NULL) {
        status = say(err.text);
    } else {
        login_each(t, clock_wall_ms(), visit, arg);
        store_end_read(t);
    }
    store_close(store);
    config_free(config);
    return status;
}

int cli_login_list(const struct cli_options *o)
{
    struct listing list = {.o = o, .now_wall_ms = clock_wall_ms()};
    int status = each(o, on_listed, &list);

    if (status == CLI_DONE && !list.any && !o->json)
        buf_add_str(&list.text, "nobody is signed in\n");
    (void)fwrite(list.text.ptr, 1, list.text.len, stdout);
    buf_fini(&list.text);
    return status;
}

int cli_login_end(const struct cli_options *o, const char *who)
{
    struct choice c = {.id = slice_str(o->words[1])};
    int status;

    if (o->words[1] == NULL)
        return say("say which: an ID, or all; `postern login list` lists them");
    status = each(o, on_found, &c);
    if (status == CLI_DONE && c.digests.len == 0) {
        (void)fprintf(stderr, "postern login: %s%s\n",
                      slice_eq(c.id, SLICE("all")) ? "nobody is signed in"
                                                   : "there is no session or link ",
                      slice_eq(c.id, SLICE("all")) ? "" : o->words[1]);
        status = CLI_NOT_SO;
    } else if (status == CLI_DONE) {
        const struct record_control r = {
            .verb = CONTROL_SESSIONS_END, .ids = buf_slice(&c.digests), .who = slice_str(who)};
        status = cli_ask_counting(o, &r, "ended");
    }
    buf_fini(&c.digests);
    return status;
}
