/*
 * /v3/domains/{domain}/webhooks[/{kind}] and /v4/domains/{domain}/webhooks: where a domain's events
 * are told. v3 is about a kind and its URLs, v4 about a URL and its kinds; v4's GET is v3's. Told they
 * are by the courier.
 *
 * SOURCE  spec/mailgun.md §8.1; Mailgun's OpenAPI; recordings of real answers.
 */
#include "store/webhooks.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/pack.h"
#include "httpd/body.h"
#include "httpd/change.h"
#include "httpd/reply.h"
#include "mail/form.h"

#define NOT_FOUND SLICE("Webhook not found")

/* What a client asks for, while the writer works on it. */
struct asked {
    enum webhook_change change;
    unsigned kinds; /* bit i: enum webhook_kind i */
    bool by_url;    /* v4 */
    const char *message;
    struct slice shown[WEBHOOK_URLS_MAX]; /* of the answer, where it tells what was there */
    size_t shown_count;
};

/* ---- what there is ---- */

static void put_urls(struct buf *to, const struct slice *urls, size_t count)
{
    buf_add_str(to, "{\"urls\":[");
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_add_byte(to, ',');
        json_put_text(to, urls[i]);
    }
    buf_add_str(to, "]}");
}

/* Only kinds that have URLs. */
static void put_all(struct buf *to, struct store_txn *t, struct slice domain)
{
    buf_add_str(to, "\"webhooks\":{");
    for (unsigned kind = WEBHOOK_NONE + 1; kind < WEBHOOK_KIND_END; kind++) {
        struct slice urls[WEBHOOK_URLS_MAX];
        size_t count = webhook_urls(t, domain, (enum webhook_kind)kind, urls);
        if (count == 0)
            continue;
        json_put_name(to, webhook_kind_name((enum webhook_kind)kind));
        put_urls(to, urls, count);
    }
    buf_add_byte(to, '}');
}

static void reply_not_found(struct exchange *x)
{
    reply_message(x, 404, NOT_FOUND);
}

static void reply_all(struct exchange *x)
{
    struct store_txn *t = exchange_begin_read(x);
    struct buf body = {0};

    if (t == NULL)
        return;
    buf_add_byte(&body, '{');
    put_all(&body, t, slice_str(x->domain->name));
    buf_add_byte(&body, '}');
    store_end_read(t);
    reply_json(x, 200, &body);
}

static void reply_one(struct exchange *x, enum webhook_kind kind)
{
    struct slice urls[WEBHOOK_URLS_MAX];
    struct store_txn *t = exchange_begin_read(x);
    struct buf body = {0};

    if (t == NULL)
        return;
    size_t count = webhook_urls(t, slice_str(x->domain->name), kind, urls);
    buf_add_str(&body, "{\"webhook\":");
    put_urls(&body, urls, count);
    buf_add_byte(&body, '}');
    store_end_read(t);
    if (count > 0) {
        reply_json(x, 200, &body);
        return;
    }
    buf_fini(&body);
    reply_not_found(x);
}

/* ---- changes ---- */

static void reply_changed(struct exchange *x)
{
    const struct asked *asked = x->pending;
    struct store_txn *t;
    struct buf body = {0};

    if (asked->by_url) {
        reply_all(x);
        return;
    }
    buf_add_byte(&body, '{');
    json_put_str(&body, "message", slice_str(asked->message));
    json_put_name(&body, "webhook");
    if (asked->change == WEBHOOK_CLEAR) {
        put_urls(&body, asked->shown, asked->shown_count);
    } else {
        struct slice urls[WEBHOOK_URLS_MAX];
        unsigned kind = WEBHOOK_NONE + 1;
        while ((asked->kinds >> kind & 1) == 0)
            kind++;
        t = exchange_begin_read(x);
        if (t == NULL) {
            buf_fini(&body);
            return;
        }
        put_urls(&body, urls,
                 webhook_urls(t, slice_str(x->domain->name), (enum webhook_kind)kind, urls));
        store_end_read(t);
    }
    buf_add_byte(&body, '}');
    reply_json(x, 200, &body);
}

static void on_answer(struct exchange *x, const struct record_answer *answer)
{
    if (change_is_done(x, answer, "webhook", NOT_FOUND))
        reply_changed(x);
}

static void push(struct exchange *x, struct slice urls)
{
    const struct asked *asked = x->pending;
    struct service *s = x->service;
    uint64_t id = change_begin(x, on_answer);

    if (id == 0)
        return;
    const struct record_webhook record = {
        .request_id = id,
        .generation = s->me->generation,
        .domain = slice_str(x->domain->name),
        .change = (uint32_t)asked->change,
        .kinds = asked->kinds,
        .urls = urls,
    };
    buf_reset(&s->record);
    record_webhook_encode(&s->record, &record);
    change_push(x, id);
}

/* ---- what a request says ---- */

struct said {
    struct buf urls; /* packed, without the array's head */
    size_t url_count;
    unsigned kinds;
    struct slice wrong; /* for the client; empty = nothing */
};

static void add_url(struct said *said, struct slice url)
{
    url = slice_trim(url);
    if (url.len == 0)
        return;
    pack_str(&said->urls, url);
    said->url_count++;
}

static void add_kind(struct said *said, struct slice name, struct arena *a)
{
    enum webhook_kind kind = webhook_kind_from(slice_trim(name));

    if (kind == WEBHOOK_NONE)
        said->wrong =
            arena_printf(a, "Invalid webhook type: %.*s", SLICE_ARGS(slice_head(name, 100)));
    else
        said->kinds |= 1u << kind;
}

/* Mailgun takes several texts in one, too. */
static void add_each(struct said *said, struct slice list, struct arena *a,
                     void (*add)(struct said *said, struct slice one, struct arena *a))
{
    struct slice one;

    while (list.len > 0) {
        (void)slice_cut(list, ',', &one, &list);
        if (slice_trim(one).len > 0)
            add(said, one, a);
    }
}

static void add_url_too(struct said *said, struct slice url, struct arena *a)
{
    (void)a;
    add_url(said, url);
}

static void hear(struct said *said, struct slice name, struct slice value, bool by_url,
                 struct arena *a)
{
    if (slice_eq(name, SLICE("url")) || slice_eq(name, SLICE("url[]")))
        add_url(said, value);
    else if (!by_url && slice_eq(name, SLICE("id")))
        add_kind(said, value, a);
    else if (by_url &&
             (slice_eq(name, SLICE("event_types")) || slice_eq(name, SLICE("event_types[]"))))
        add_each(said, value, a, add_kind);
}

/* False: the exchange has been answered. */
static bool hear_form(struct exchange *x, struct said *said, bool by_url)
{
    struct form form;

    if (!body_read_form(x, &form))
        return false;
    for (size_t i = 0; i < form.count; i++)
        hear(said, form.fields[i].name, form.fields[i].value, by_url, &x->arena);
    return true;
}

static void hear_query(struct exchange *x, struct said *said)
{
    struct slice query = x->query, name, value;

    while (query_next(&query, &x->arena, &name, &value))
        if (slice_eq(name, SLICE("url")))
            add_each(said, value, &x->arena, add_url_too);
}

static void ask(struct exchange *x, enum webhook_change change, const char *message,
                struct said *said, bool by_url)
{
    struct asked *asked = arena_alloc(&x->arena, sizeof *asked);
    bool needs_url = change != WEBHOOK_CLEAR;
    bool needs_kind = change != WEBHOOK_REMOVE;
    struct buf urls = {0};

    if (said->wrong.len == 0 && needs_url && said->url_count == 0)
        said->wrong = SLICE("Missing mandatory parameter: url");
    if (said->wrong.len == 0 && needs_kind && said->kinds == 0)
        said->wrong = by_url ? SLICE("Missing mandatory parameter: event_types")
                             : SLICE("Missing mandatory parameter: id");
    if (said->wrong.len > 0) {
        reply_message(x, 400, said->wrong);
        return;
    }
    *asked = (struct asked){
        .change = change, .kinds = said->kinds, .by_url = by_url, .message = message};
    x->pending = asked;
    if (change == WEBHOOK_CLEAR) { /* to be told in the answer */
        struct store_txn *t = exchange_begin_read(x);
        if (t == NULL)
            return;
        asked->shown_count = webhook_urls(t, slice_str(x->domain->name),
                                          webhook_kind_from(x->route.leaf), asked->shown);
        for (size_t i = 0; i < asked->shown_count; i++)
            asked->shown[i] = arena_dup(&x->arena, asked->shown[i]);
        store_end_read(t);
    }
    pack_array(&urls, said->url_count);
    buf_add_slice(&urls, buf_slice(&said->urls));
    push(x, buf_slice(&urls));
    buf_fini(&urls);
}

/* ---- the two APIs ---- */

static void handle_kind(struct exchange *x, enum evhttp_cmd_type method, struct said *said)
{
    enum webhook_kind kind = webhook_kind_from(x->route.leaf);

    if (kind == WEBHOOK_NONE) {
        reply_not_found(x);
        return;
    }
    if (method == EVHTTP_REQ_GET) {
        reply_one(x, kind);
        return;
    }
    if (method == EVHTTP_REQ_PUT && !hear_form(x, said, false))
        return;
    said->kinds = 1u << kind; /* the path's, whatever the form says */
    said->wrong = slice_none();
    if (method == EVHTTP_REQ_PUT)
        ask(x, WEBHOOK_REPLACE, "Webhook has been updated", said, false);
    else
        ask(x, WEBHOOK_CLEAR, "Webhook has been deleted", said, false);
}

static void handle_by_url(struct exchange *x, enum evhttp_cmd_type method, struct said *said)
{
    if (method == EVHTTP_REQ_DELETE)
        hear_query(x, said);
    /* Some clients put a DELETE's parameters where others' go. */
    if (said->url_count == 0 && !hear_form(x, said, true))
        return;
    switch (method) {
    case EVHTTP_REQ_POST:
        ask(x, WEBHOOK_ADD, "", said, true);
        return;
    case EVHTTP_REQ_PUT:
        ask(x, WEBHOOK_MOVE, "", said, true);
        return;
    default:
        said->kinds = 0;
        said->wrong = slice_none();
        ask(x, WEBHOOK_REMOVE, "", said, true);
        return;
    }
}

void webhooks_handle(struct exchange *x)
{
    enum evhttp_cmd_type method = evhttp_request_get_command(x->req);
    bool is_v4 = slice_eq(x->route.version, SLICE("v4"));
    struct said said = {.url_count = 0};

    if (x->route.leaf.len > 0)
        handle_kind(x, method, &said);
    else if (method == EVHTTP_REQ_GET)
        reply_all(x);
    else if (is_v4)
        handle_by_url(x, method, &said);
    else if (method != EVHTTP_REQ_POST)
        reply_method_not_allowed(x);
    else if (hear_form(x, &said, false))
        ask(x, WEBHOOK_ADD, "Webhook has been created", &said, false);
    buf_fini(&said.urls);
}
