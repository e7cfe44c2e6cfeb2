#include "httpd/dashboard.h"

#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/log.h"
#include "httpd/body.h"
#include "httpd/reply.h"
#include "httpd/web_files.h"

static const char policy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/* ---- who it is ---- */

/* NULL: nobody is signed in. */
static const struct person *find_person(struct exchange *x)
{
    struct person *p = arena_alloc(&x->arena, sizeof *p);
    struct store *store = x->service->store;
    struct session session;
    struct buf id = {0};
    struct err err;

    if (!cookie_read(exchange_header(x, "Cookie"), p->secret))
        return NULL;
    digest_sha256(slice_of(p->secret, sizeof p->secret), p->digest);
    struct store_txn *t = store_begin_read(store, &err);
    if (t == NULL)
        return NULL;
    bool found = session_find(t, p->digest, clock_wall_ms(), &session);
    if (found) {
        p->role = session.role;
        p->since_wall_ms = session.since_wall_ms;
        p->until_wall_ms = session.until_wall_ms;
        p->name = arena_dup(&x->arena, session.name);
        dashboard_session_seen(x, p->digest, &session);
    }
    store_end_read(t);
    text_hex(&id, slice_of(p->digest, LOGIN_ID_DIGITS / 2));
    memcpy(p->id, buf_cstr(&id), sizeof p->id);
    buf_fini(&id);
    return found ? p : NULL;
}

/* Browsers say where a request comes from; what is no browser, or an old one, says nothing.
 * SOURCE Fetch Metadata Request Headers §2.3. */
static bool is_from_here(const struct exchange *x)
{
    struct slice site = exchange_header(x, "Sec-Fetch-Site");

    return site.len == 0 || slice_eq(site, SLICE("same-origin")) || slice_eq(site, SLICE("none"));
}

static bool has_csrf_token(const struct exchange *x)
{
    struct slice given = exchange_header(x, "X-CSRF-Token");
    struct buf right = {0};

    cookie_csrf(&right, x->person->secret);
    bool same = digest_equal(given, buf_slice(&right));
    buf_fini(&right);
    return same;
}

bool dashboard_may_act(struct exchange *x)
{
    if (!is_from_here(x) || !has_csrf_token(x)) {
        log_warn("dashboard: %.*s, session %s, from %.*s: a request without the page's token is "
                 "refused: %s",
                 SLICE_ARGS(x->person->name), x->person->id, SLICE_ARGS(x->client.address),
                 evhttp_request_get_uri(x->req));
        reply_message(x, 403, SLICE("The page's token is missing: load the page again"));
        return false;
    }
    if (x->person->role != LOGIN_OPERATOR) {
        reply_message(x, 403, SLICE("Your role may look, not act: postern login --role operator"));
        return false;
    }
    x->audited = true;
    return true;
}

/* ---- the store and the writer ---- */

struct store_txn *dashboard_begin_read(struct exchange *x)
{
    struct store *store = x->service->store;
    struct err err = {0};
    struct store_txn *t = store == NULL ? NULL : store_begin_read(store, &err);

    if (t == NULL)
        reply_later(x, 503, 1, SLICE("The store is not ready, please try again"));
    return t;
}

struct slice dashboard_query(struct exchange *x, const char *wanted)
{
    struct slice query = x->query, name, value;

    while (query_next(&query, &x->arena, &name, &value))
        if (slice_eq(name, slice_str(wanted)))
            return value;
    return slice_none();
}

uint64_t dashboard_batch_id(struct slice text)
{
    enum { DIGITS = 16 };
    struct buf bytes = {0};
    uint64_t id = 0;

    bool fine = text.len == DIGITS && text_from_hex(&bytes, text);
    for (size_t i = 0; fine && i < bytes.len; i++)
        id = id << 8 | bytes.ptr[i];
    buf_fini(&bytes);
    return id;
}

enum ring_result dashboard_push(struct service *s, uint64_t id, const struct record_control *r)
{
    struct buf control = {0};

    record_control_encode(&control, r);
    buf_reset(&s->record);
    record_ask_encode(&s->record, &(struct record_ask){.request_id = id,
                                                       .generation = s->me->generation,
                                                       .control = buf_slice(&control)});
    buf_fini(&control);
    return service_push(s);
}

bool dashboard_ask(struct exchange *x, const struct record_control *r, inbox_visitor *visit)
{
    struct service *s = x->service;
    uint64_t id = inbox_wait(s->inbox, x, clock_mono_ms() + WRITER_PATIENCE_MS, visit);

    if (id == 0) {
        reply_later(x, 429, 1, SLICE("Too many requests are waiting, please try again"));
        return false;
    }
    enum ring_result pushed = dashboard_push(s, id, r);
    if (pushed == RING_OK)
        return true;
    inbox_forget(s->inbox, id);
    service_refuse(x, pushed);
    return false;
}

/* ---- signing in and out ---- */

static bool is_secure(const struct exchange *x)
{
    return x->client.https ||
           slice_starts_nocase(slice_str(x->service->me->config->public_url), SLICE("https://"));
}

static void set_cookie(struct exchange *x, const uint8_t secret[COOKIE_SECRET_BYTES],
                       uint64_t seconds)
{
    struct buf cookie = {0};

    cookie_put(&cookie, secret, slice_str(x->service->me->config->dashboard.path), seconds,
               is_secure(x));
    exchange_set_header(x, "Set-Cookie", buf_cstr(&cookie));
    explicit_bzero(cookie.ptr, cookie.cap);
    buf_fini(&cookie);
}

/* A link that is being used. */
struct signing {
    uint8_t ticket[LOGIN_DIGEST_BYTES], secret[COOKIE_SECRET_BYTES], digest[LOGIN_DIGEST_BYTES];
};

static void refuse_link(struct exchange *x)
{
    log_warn("dashboard: a sign-in from %.*s is refused: its link was used, or is too old",
             SLICE_ARGS(x->client.address));
    reply_message(
        x, 403, SLICE("This link was used already, or is too old: postern login prints a new one"));
}

static void on_signed_in(struct exchange *x, const struct record_answer *answer)
{
    struct signing *g = x->pending;

    if (answer == NULL) {
        reply_later(x, 503, 1, SLICE("The writer did not answer: ask for a new link"));
    } else if (answer->verdict == ANSWER_FULL) {
        reply_later(x, 503, 60, answer->text);
    } else if (answer->verdict != ANSWER_OK) {
        refuse_link(x);
    } else {
        log_info("dashboard: %.*s signed in from %.*s", SLICE_ARGS(answer->text),
                 SLICE_ARGS(x->client.address));
        set_cookie(x, g->secret, x->service->me->config->dashboard.session_ms / 1000);
        reply_message(x, 200, SLICE("Signed in"));
    }
}

/* {"ticket": "64 hexadecimal digits"}. */
static bool read_ticket(struct exchange *x, uint8_t digest[LOGIN_DIGEST_BYTES])
{
    struct slice body;
    struct buf ticket = {0};

    if (!body_read(x, &body))
        return false;
    cJSON *tree = json_parse(body);
    bool fine = text_from_hex(&ticket, json_get_text(tree, "ticket")) && ticket.len > 0;
    if (fine)
        digest_sha256(buf_slice(&ticket), digest);
    else
        reply_message(x, 400, SLICE("A sign-in is {\"ticket\": \"…\"}, from the link's end"));
    json_free(tree);
    buf_fini(&ticket);
    return fine;
}

/* What reads as a form could come from any site without being asked for first. */
static bool is_json(const struct exchange *x)
{
    return slice_starts_nocase(exchange_header(x, "Content-Type"), SLICE("application/json"));
}

static void sign_in(struct exchange *x)
{
    struct signing *g = arena_alloc(&x->arena, sizeof *g);

    if (!is_from_here(x) || !is_json(x)) {
        reply_message(x, 403, SLICE("A sign-in comes from the page itself, as application/json"));
        return;
    }
    if (!read_ticket(x, g->ticket))
        return;
    struct store_txn *t = dashboard_begin_read(x);
    if (t == NULL)
        return;
    bool good = login_link_is_good(t, g->ticket, clock_wall_ms());
    store_end_read(t);
    if (!good) {
        refuse_link(x);
        return;
    }
    digest_random(g->secret, sizeof g->secret);
    digest_sha256(slice_of(g->secret, sizeof g->secret), g->digest);
    x->pending = g;
    (void)dashboard_ask(x,
                        &(struct record_control){.verb = CONTROL_SIGN_IN,
                                                 .ticket = slice_of(g->ticket, sizeof g->ticket),
                                                 .session = slice_of(g->digest, sizeof g->digest),
                                                 .from = x->client.address},
                        on_signed_in);
}

static void on_signed_out(struct exchange *x, const struct record_answer *answer)
{
    if (answer == NULL || answer->verdict != ANSWER_OK) {
        reply_later(x, 503, 1, SLICE("The writer did not answer: try again"));
        return;
    }
    log_info("dashboard: %.*s signed out, session %s", SLICE_ARGS(x->person->name), x->person->id);
    set_cookie(x, x->person->secret, 0);
    reply_message(x, 200, SLICE("Signed out"));
}

static void sign_out(struct exchange *x)
{
    if (!is_from_here(x) || !has_csrf_token(x))
        reply_message(x, 403, SLICE("The page's token is missing: load the page again"));
    else
        (void)dashboard_ask(
            x,
            &(struct record_control){.verb = CONTROL_SIGN_OUT,
                                     .session = slice_of(x->person->digest, LOGIN_DIGEST_BYTES)},
            on_signed_out);
}

/* ---- files ---- */

static void reply_file(struct exchange *x, const struct web_file *file)
{
    struct slice text = slice_of(file->begin, (size_t)(file->end - file->begin));
    uint8_t hash[SHA256_BYTES];
    struct buf body = {0}, tag = {0};

    digest_sha256(text, hash);
    buf_add_byte(&tag, '"');
    text_hex(&tag, slice_of(hash, 12));
    buf_add_byte(&tag, '"');
    exchange_set_header(x, "Cache-Control", "no-cache"); /* asked for again, seldom sent again */
    exchange_set_header(x, "ETag", buf_cstr(&tag));
    bool known = slice_eq(exchange_header(x, "If-None-Match"), buf_slice(&tag));
    if (!known)
        buf_add_slice(&body, text);
    buf_fini(&tag);
    reply_bytes(x, known ? 304 : 200, file->type, &body);
}

static void serve_file(struct exchange *x, struct slice name)
{
    const struct web_file *file = web_file_find(name);

    if (file == NULL) {
        reply_message(x, 404, SLICE("Not Found"));
    } else if (evhttp_request_get_command(x->req) != EVHTTP_REQ_GET) {
        x->route.allow = "GET";
        reply_method_not_allowed(x);
    } else {
        reply_file(x, file);
    }
}

/* ---- the API ---- */

/* The Mailgun API, by session: everything but sending. */
static void serve_mailgun(struct exchange *x, struct slice path)
{
    const struct config *config = x->service->me->config;
    bool reads = evhttp_request_get_command(x->req) == EVHTTP_REQ_GET;

    route_parse(path, &x->arena, &x->route);
    switch (x->route.kind) {
    case ROUTE_EVENTS:
    case ROUTE_STATS:
    case ROUTE_TAGS:
    case ROUTE_TAG:
    case ROUTE_TAG_STATS:
    case ROUTE_SUPPRESSION:
    case ROUTE_SUPPRESSIONS:
    case ROUTE_SUPPRESSIONS_IMPORT:
    case ROUTE_STORED_MESSAGE:
        break;
    default:
        reply_message(x, 404, SLICE("Not Found"));
        return;
    }
    if (!reads && !dashboard_may_act(x))
        return;
    x->domains = arena_array(&x->arena, config->domain_count + 1, sizeof *x->domains);
    for (size_t i = 0; i < config->domain_count; i++)
        x->domains[x->domain_count++] = &config->domains[i];
    exchange_dispatch(x);
}

/* False: more parts than there are, or a broken escape. */
static bool cut(struct exchange *x, struct slice path, struct dashboard_path *p)
{
    *p = (struct dashboard_path){0};
    for (bool more = true; more; p->count++) {
        struct slice part;
        struct buf plain = {0};

        if (p->count == DASHBOARD_PARTS_MAX)
            return false;
        more = slice_cut(path, '/', &part, &path);
        bool fine = part.len > 0 && part.len <= DASHBOARD_PART_BYTES_MAX &&
                    text_percent_decode(&plain, part, false);
        p->part[p->count] = arena_dup(&x->arena, buf_slice(&plain));
        buf_fini(&plain);
        if (!fine)
            return false;
    }
    return true;
}

static void serve_signed_in(struct exchange *x, struct slice path)
{
    bool reads = evhttp_request_get_command(x->req) == EVHTTP_REQ_GET;
    struct dashboard_path parts;

    if (slice_starts(path, SLICE("v3/")))
        serve_mailgun(x, slice_of(path.ptr - 1, path.len + 1));
    else if (!reads && slice_eq(path, SLICE("sign-out")))
        sign_out(x);
    else if (reads && slice_eq(path, SLICE("live")))
        live_handle(x);
    else if (!cut(x, path, &parts) ||
             !(reads ? dashboard_read(x, &parts) : dashboard_act(x, &parts)))
        reply_message(x, 404, SLICE("Not Found"));
}

static void serve_api(struct exchange *x, struct slice path)
{
    enum evhttp_cmd_type method = evhttp_request_get_command(x->req);

    exchange_set_header(x, "Cache-Control", "no-store");
    if (slice_eq(path, SLICE("sign-in"))) {
        x->route.allow = "POST";
        if (method == EVHTTP_REQ_POST)
            sign_in(x);
        else
            reply_method_not_allowed(x);
        return;
    }
    if (x->service->store == NULL) {
        reply_later(x, 503, 1, SLICE("The store is not ready, please try again"));
        return;
    }
    x->person = find_person(x);
    if (x->person == NULL)
        reply_message(x, 401, SLICE("Sign in first: postern login prints a link"));
    else
        serve_signed_in(x, path);
}

bool dashboard_serve(struct exchange *x, struct slice path)
{
    const struct config *config = x->service->me->config;
    struct slice base = slice_str(config->dashboard.path), rest = slice_from(path, base.len);

    if (!config->dashboard.enabled || !slice_starts(path, base) ||
        (rest.len > 0 && rest.ptr[0] != '/'))
        return false;
    x->route = (struct route){.kind = ROUTE_DASHBOARD, .allow = "GET, POST"};
    exchange_set_header(x, "Content-Security-Policy", policy);
    exchange_set_header(x, "X-Content-Type-Options", "nosniff");
    exchange_set_header(x, "Referrer-Policy", "no-referrer");
    exchange_set_header(x, "Cross-Origin-Opener-Policy", "same-origin");
    exchange_set_header(x, "Cross-Origin-Resource-Policy", "same-origin");
    if (rest.len == 0) {
        exchange_set_header(
            x, "Location",
            arena_cstr(&x->arena, arena_printf(&x->arena, "%.*s/", SLICE_ARGS(base))));
        reply_message(x, 308, SLICE("Permanent Redirect"));
    } else if (slice_starts(rest, SLICE("/api/"))) {
        serve_api(x, slice_from(rest, 5));
    } else {
        serve_file(x, slice_from(rest, 1));
    }
    return true;
}
