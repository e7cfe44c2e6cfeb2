/*
 * One process, one thread, one event loop. It wakes for these reasons, one callback each:
 *
 *   on_exchange   a request has arrived whole        (from httpd/server.c)
 *   on_doorbell   the writer has pushed an answer    a hint: may be late, lost or spurious
 *   on_tick       CHILD_TICK_MS have gone by         the guarantee behind that hint; deadlines
 *   on_master     the control socket is at its end   the master is gone: leave at once
 *   on_term       SIGTERM                            accept no more, finish, then leave
 */
#include "httpd/httpd.h"

#include <errno.h>
#include <event2/event.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"
#include "httpd/dashboard.h"
#include "httpd/event_pages.h"
#include "httpd/reply.h"
#include "httpd/service.h"

enum {
    BURST = 64,            /* answers taken in one turn of the loop */
    RECORD_ROOM = 4 << 20, /* kept between two records */
    DOMAIN_SHOWN = 255,    /* of a stranger's domain, in an answer */
    LINGER_MS = 1000,      /* for kept connections, when successors accept already */
};

void service_stop(struct service *s, enum child_exit verdict)
{
    s->verdict = verdict;
    event_base_loopbreak(s->base);
}

enum ring_result service_push(struct service *s)
{
    enum ring_result pushed = ring_push(s->me->slot->up, buf_slice(&s->record), NULL);

    if (pushed == RING_OK)
        bell_ring(&s->me->writer_bell);
    if (s->record.cap > RECORD_ROOM)
        buf_fini(&s->record);
    return pushed;
}

void service_refuse(struct exchange *x, enum ring_result why)
{
    char words[64];

    switch (why) {
    case RING_FULL:
        child_note_ring_full(x->service->me);
        log_warn("the ring to the writer is full: a request is put off");
        reply_later(x, 429, 1, SLICE("The server is busy, please try again"));
        return;
    case RING_TOO_LONG:
        server_size_words(x->service->me->config->httpd.max_body_bytes, words);
        reply_message(x, 413, slice_str(words));
        return;
    case RING_OK:
    case RING_EMPTY:
    case RING_BROKEN:
        break;
    }
    log_error("the ring to the writer is broken");
    service_stop(x->service, CHILD_EXIT_BROKEN);
    reply_later(x, 503, 1, SLICE("The server is restarting, please try again"));
}

void service_expire_soon(struct service *s, unsigned ms)
{
    const struct timeval in = {.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
    uint64_t at = clock_mono_ms() + ms;

    if (event_pending(s->soon, EV_TIMEOUT, NULL) && s->soon_mono_ms <= at)
        return; /* then, or at the next tick */
    s->soon_mono_ms = at;
    (void)event_add(s->soon, &in);
}

/* ---- requests ---- */

/* What no key of a domain opens, and no domain is looked for. */
static bool is_about_no_domain(enum route_kind kind)
{
    return kind == ROUTE_HEALTH || kind == ROUTE_HEALTHCHECK || kind == ROUTE_METRICS;
}

static bool is_about_templates(enum route_kind kind)
{
    return kind == ROUTE_TEMPLATES || kind == ROUTE_TEMPLATE || kind == ROUTE_TEMPLATE_VERSIONS ||
           kind == ROUTE_TEMPLATE_VERSION || kind == ROUTE_TEMPLATE_COPY;
}

/* The domain of the path, if the key opens it. False: the exchange has been answered. */
static bool find_domain(struct exchange *x)
{
    const struct config_domain *domain =
        config_domain_find(x->service->me->config, x->route.domain);
    bool is_about_domains = x->route.kind == ROUTE_DOMAINS || x->route.kind == ROUTE_WEBHOOKS ||
                            x->route.kind == ROUTE_STORED_MESSAGE;

    bool is_of_all = is_about_domains || x->route.kind == ROUTE_LOGS ||
                     x->route.kind == ROUTE_STATS || x->route.kind == ROUTE_SEND ||
                     x->route.kind == ROUTE_USAGE || x->route.kind == ROUTE_ANALYTICS_METRICS;

    if (is_of_all && x->route.domain.len == 0)
        return true;
    if (domain == NULL && is_about_templates(x->route.kind)) {
        reply_message(x, 404, SLICE("domain not found"));
        return false;
    }
    if (domain == NULL && !is_about_domains) {
        struct slice shown = slice_head(x->route.domain, DOMAIN_SHOWN);
        reply_message(x, 404, arena_printf(&x->arena, "Domain not found: %.*s", SLICE_ARGS(shown)));
        return false;
    }
    for (size_t i = 0; i < x->domain_count; i++) {
        if (x->domains[i] == domain) {
            x->domain = domain;
            return true;
        }
    }
    if (is_about_domains)
        reply_message(x, 404, SLICE("Domain not found"));
    else
        reply_unauthorized(x);
    return false;
}

static void service_open_store(struct service *s)
{
    struct err err = {0};

    if (s->store != NULL)
        return;
    s->store = store_open(s->me->config->state_dir, STORE_READ, &err);
    if (s->store == NULL)
        log_debug("the store cannot be opened yet: %s", err.text);
}

static bool is_sending(const struct exchange *x)
{
    return x->route.kind == ROUTE_MESSAGES || x->route.kind == ROUTE_MESSAGES_MIME ||
           x->route.kind == ROUTE_SEND;
}

static void on_refusal(struct exchange *x, const struct record_answer *answer)
{
    (void)answer; /* none is expected: its time is over */
    x->service->refusals_waiting--;
    reply_unauthorized(x);
}

/* Whoever tries keys waits for each answer, the longer the more often this address was wrong. A
 * right key from the same address is not kept waiting, and those who wait leave places for others.
 */
static void refuse_key(struct exchange *x)
{
    struct service *s = x->service;
    uint64_t now = clock_mono_ms();
    bool is_guess = exchange_header(x, "Authorization").len > 0;
    unsigned wait_ms = is_guess ? strangers_note(s->strangers, x->client.address, now) : 0;

    if (wait_ms == 0 || s->leaving || s->refusals_waiting == REFUSALS_WAITING_MAX ||
        inbox_wait(s->inbox, x, now + wait_ms, on_refusal) == 0)
        reply_unauthorized(x);
    else
        s->refusals_waiting++;
}

static void serve_suppressions(struct exchange *x)
{
    switch (evhttp_request_get_command(x->req)) {
    case EVHTTP_REQ_DELETE:
        suppressions_delete(x);
        return;
    case EVHTTP_REQ_POST:
        if (x->route.kind == ROUTE_SUPPRESSIONS_IMPORT)
            suppressions_import(x);
        else
            suppressions_add(x);
        return;
    default:
        if (x->route.kind == ROUTE_SUPPRESSION)
            suppressions_get(x);
        else
            suppressions_list(x);
        return;
    }
}

static bool is_on_this_machine(struct slice peer)
{
    return slice_eq(peer, SLICE(CLIENT_UNIX)) || slice_eq(peer, SLICE("::1")) ||
           slice_starts(peer, SLICE("127."));
}

/* A socket of its own is open to this machine, unless there is a key. (The configuration may have
 * changed since the socket was bound.) */
static bool is_open_here(struct exchange *x)
{
    const struct service *s = x->service;

    return x->route.kind == ROUTE_METRICS && s->me->config->metrics.key[0] == '\0' &&
           server_is_for_metrics(s->server, x->req) &&
           is_on_this_machine(server_peer(s->server, x->req, &x->arena));
}

/* Does the request's key open what it asks for? Of domains: which, in x. False: the exchange has been
 * answered. A store that is there and cannot be read may have withdrawn the key. */
static bool let_in(struct exchange *x)
{
    struct service *s = x->service;
    struct store_txn *t = NULL;
    bool may;

    if (is_open_here(x))
        return true;
    if (s->store != NULL) {
        t = exchange_begin_read(x);
        if (t == NULL)
            return false;
    }
    if (x->route.kind == ROUTE_METRICS) {
        may = auth_may_read_metrics(s->auth, t, exchange_header(x, "Authorization"));
    } else {
        x->domain_count =
            auth_check(s->auth, t, exchange_header(x, "Authorization"),
                       is_sending(x) ? AUTH_SENDING : AUTH_ALL, &x->arena, &x->domains);
        may = x->domain_count > 0;
    }
    if (t != NULL)
        store_end_read(t);
    if (!may)
        refuse_key(x);
    return may;
}

static void exchange_serve(struct exchange *x)
{
    struct service *s = x->service;

    service_open_store(s); /* a request may come before the first tick finds it */
    if (x->route.kind == ROUTE_METRICS) {
        if (!let_in(x))
            return;
    } else if (server_is_for_metrics(s->server, x->req) && x->route.kind != ROUTE_HEALTH) {
        reply_message(x, 404, SLICE("Not Found"));
        return;
    } else if (!is_about_no_domain(x->route.kind)) {
        if (!let_in(x))
            return;
        if (x->route.kind == ROUTE_NOT_FOUND) {
            reply_message(x, 404, SLICE("Not Found"));
            return;
        }
        if (x->route.kind == ROUTE_BAD_ESCAPE) {
            reply_message(x, 400, SLICE("unable to parse request: invalid URL escape"));
            return;
        }
    }
    exchange_dispatch(x);
}

void exchange_dispatch(struct exchange *x)
{
    if (!is_about_no_domain(x->route.kind) && !find_domain(x))
        return;
    if (!route_allows(&x->route, exchange_method(x))) {
        reply_method_not_allowed(x);
        return;
    }
    switch (x->route.kind) {
    case ROUTE_HEALTH:
        health_handle(x);
        return;
    case ROUTE_METRICS:
        metrics_handle(x);
        return;
    case ROUTE_HEALTHCHECK:
        healthcheck_handle(x);
        return;
    case ROUTE_SEND:
        send_handle(x);
        return;
    case ROUTE_USAGE:
        usage_handle(x);
        return;
    case ROUTE_MESSAGES:
    case ROUTE_MESSAGES_MIME:
        messages_handle(x);
        return;
    case ROUTE_EVENTS:
        events_handle(x);
        return;
    case ROUTE_ENVELOPES:
        envelopes_handle(x);
        return;
    case ROUTE_LOGS:
        logs_handle(x);
        return;
    case ROUTE_ANALYTICS_METRICS:
        analytics_metrics_handle(x);
        return;
    case ROUTE_STATS:
        stats_handle(x);
        return;
    case ROUTE_TAGS:
        tags_handle(x);
        return;
    case ROUTE_TAG:
        tag_handle(x);
        return;
    case ROUTE_TAG_STATS:
        tag_stats_handle(x);
        return;
    case ROUTE_STORED_MESSAGE:
        stored_message_handle(x);
        return;
    case ROUTE_DOMAINS:
        domains_handle(x);
        return;
    case ROUTE_WEBHOOKS:
        webhooks_handle(x);
        return;
    case ROUTE_TEMPLATES:
    case ROUTE_TEMPLATE:
    case ROUTE_TEMPLATE_VERSIONS:
    case ROUTE_TEMPLATE_VERSION:
    case ROUTE_TEMPLATE_COPY:
        templates_handle(x);
        return;
    case ROUTE_SUPPRESSION:
    case ROUTE_SUPPRESSIONS:
    case ROUTE_SUPPRESSIONS_IMPORT:
        serve_suppressions(x);
        return;
    case ROUTE_DASHBOARD:
    case ROUTE_NOT_FOUND:
    case ROUTE_BAD_ESCAPE:
        break;
    }
    reply_message(x, 404, SLICE("Not Found"));
}

/* evhttp takes "//a/b" for the path /b of a host a; in a request line it is a path.
 * SOURCE RFC 9112 §3.2.1. */
static struct slice path_of(const struct evhttp_request *req)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);

    if (uri == NULL || slice_starts(slice_str(evhttp_request_get_uri(req)), SLICE("//")))
        return slice_none();
    return slice_str(evhttp_uri_get_path(uri));
}

static void make_request_id(struct exchange *x)
{
    uint64_t id;

    digest_random(&id, sizeof id);
    (void)snprintf(x->request_id, sizeof x->request_id, "%016" PRIx64, id);
}

static void on_exchange(struct evhttp_request *req, void *arg)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
    struct exchange *x = mem_zero(1, sizeof *x);
    struct service *s = arg;

    x->service = s;
    x->req = req;
    x->started_mono_us = clock_mono_ns() / 1000;
    make_request_id(x);
    client_find(s->proxies, server_peer(s->server, req, &x->arena), server_is_tls(s->server, req),
                evhttp_request_get_input_headers(req), &x->arena, &x->client);
    x->query = slice_str(uri == NULL ? NULL : evhttp_uri_get_query(uri));
    atomic_fetch_add_explicit(&s->me->gauges->slots[s->me->gauge].done, 1, memory_order_relaxed);
    service_open_store(s); /* a request may come before the first tick finds it */
    route_parse(path_of(req), &x->arena, &x->route);
    exchange_enter(x);
    if (!dashboard_serve(x, path_of(req)))
        exchange_serve(x);
    exchange_leave();
}

/* ---- the writer's answers ---- */

static void service_take_answer(struct service *s, struct slice rec)
{
    struct record_answer answer;

    if (!record_answer_decode(rec, &answer)) {
        log_error("the writer's answer is not understood");
        service_stop(s, CHILD_EXIT_RETRY);
    } else if (answer.generation == s->me->generation) {
        inbox_answer(s->inbox, &answer);
    }
}

/* True when there may be more. */
static bool service_take_answers(struct service *s)
{
    struct ring_view view;

    for (int taken = 0; taken < BURST; taken++) {
        switch (ring_peek(s->me->slot->down, &view)) {
        case RING_OK:
            service_take_answer(s, view.rec);
            ring_release(s->me->slot->down, &view);
            break;
        case RING_EMPTY:
            return false;
        case RING_FULL:
        case RING_TOO_LONG:
        case RING_BROKEN:
            log_error("the ring from the writer is broken");
            service_stop(s, CHILD_EXIT_BROKEN);
            return false;
        }
    }
    return true;
}

static void service_work(struct service *s)
{
    if (service_take_answers(s))
        event_active(s->doorbell, EV_READ, 0); /* once the others had a turn */
    if (s->leaving && ((inbox_is_empty(s->inbox) && server_is_idle(s->server)) ||
                       clock_mono_ms() >= s->leave_by_mono_ms))
        service_stop(s, CHILD_EXIT_DONE);
}

static void on_doorbell(evutil_socket_t fd, short what, void *arg)
{
    struct service *s = arg;
    struct ring_view view;

    (void)fd, (void)what;
    bell_quiet(&s->me->slot->bell);
    service_work(s);
    bell_sleep(&s->me->slot->bell);
    if (ring_peek(s->me->slot->down, &view) != RING_EMPTY)
        event_active(s->doorbell, EV_READ, 0);
}

/* ---- the loop ---- */

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct service *s = arg;

    (void)fd, (void)what;
    child_beat(s->me);
    service_open_store(s);
    server_tick(s->server);
    service_work(s);
    inbox_expire(s->inbox, clock_mono_ms());
}

static void on_soon(evutil_socket_t fd, short what, void *arg)
{
    struct service *s = arg;

    (void)fd, (void)what;
    inbox_expire(s->inbox, clock_mono_ms());
    service_work(s); /* they may have been the last to wait for */
}

static void on_master(evutil_socket_t fd, short what, void *arg)
{
    char bytes[64];

    (void)what;
    ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        service_stop(arg, CHILD_EXIT_DONE);
}

static void on_term(evutil_socket_t signal, short what, void *arg)
{
    struct service *s = arg;

    (void)signal, (void)what;
    if (s->leaving)
        return;
    s->leaving = true;
    s->leave_by_mono_ms = clock_mono_ms() + s->me->config->grace_ms;
    child_leaving(s->me);
    live_leave(s->live);
    server_leave(s->server, gauges_are_renewing(s->me->gauges, clock_mono_ms()) ? LINGER_MS : 0);
    service_work(s);
}

static void on_libevent_words(int severity, const char *words)
{
    if (severity == EVENT_LOG_ERR)
        log_error("libevent: %s", words);
    else if (severity == EVENT_LOG_WARN)
        log_warn("libevent: %s", words);
}

static int service_open(struct service *s, struct err *err)
{
    const struct child *me = s->me;
    const struct timeval tick = {.tv_usec = CHILD_TICK_MS * 1000};
    s->proxies = proxies_create(&me->config->trusted_proxies);
    const struct server_settings settings = {
        .listen_fds = me->listen_fds,
        .listen_count = me->listen_count,
        .metrics_listen_count = me->metrics_listen_count,
        .tls = me->tls,
        .max_body_bytes = me->config->httpd.max_body_bytes,
        .connections_max = me->config->httpd.connections,
        .connections_per_address = me->config->httpd.connections_per_address,
        .requests_per_connection = me->config->httpd.keepalive_requests,
        .idle_ms = me->config->httpd.keepalive_ms,
        .patience_ms = me->config->httpd.patience_ms,
        .proxies = s->proxies,
        .handle = on_exchange,
        .arg = s,
    };

    event_set_log_callback(on_libevent_words);
    signal(SIGPIPE, SIG_IGN);
    s->base = event_base_new();
    if (s->base == NULL)
        return err_set(err, ERR_SYSTEM, "no event base");
    s->auth = auth_create(me->config);
    s->inbox = inbox_create();
    s->strangers = strangers_create();
    s->turns = event_turns_create(s->base);
    s->live = live_create(s);
    if (s->turns == NULL || s->live == NULL)
        return err_set(err, ERR_SYSTEM, "no events");
    s->server = server_open(s->base, &settings, err);
    if (s->server == NULL)
        return -1;
    s->doorbell = event_new(s->base, me->slot->bell.fd, EV_READ | EV_PERSIST, on_doorbell, s);
    s->tick = event_new(s->base, -1, EV_PERSIST, on_tick, s);
    s->soon = event_new(s->base, -1, 0, on_soon, s);
    s->master = event_new(s->base, me->control_fd, EV_READ | EV_PERSIST, on_master, s);
    s->term = evsignal_new(s->base, SIGTERM, on_term, s);
    if (s->doorbell == NULL || s->tick == NULL || s->soon == NULL || s->master == NULL ||
        s->term == NULL || event_add(s->doorbell, NULL) != 0 || event_add(s->tick, &tick) != 0 ||
        event_add(s->master, NULL) != 0 || event_add(s->term, NULL) != 0)
        return err_set(err, ERR_SYSTEM, "no events");
    service_open_store(s);
    event_active(s->doorbell, EV_READ, 0); /* what a predecessor left in the ring */
    return 0;
}

static void event_end(struct event *event)
{
    if (event != NULL)
        event_free(event);
}

static void service_close(struct service *s)
{
    event_turns_destroy(s->turns);
    inbox_destroy(s->inbox, exchange_drop);
    live_destroy(s->live);
    strangers_destroy(s->strangers);
    server_close(s->server);
    proxies_destroy(s->proxies);
    event_end(s->doorbell);
    event_end(s->tick);
    event_end(s->soon);
    event_end(s->master);
    event_end(s->term);
    if (s->base != NULL)
        event_base_free(s->base);
    store_close(s->store);
    auth_destroy(s->auth);
    buf_fini(&s->record);
}

enum child_exit httpd_main(const struct child *me)
{
    struct service s = {.me = me, .verdict = CHILD_EXIT_RETRY};
    struct err err;

    if (service_open(&s, &err) == 0) {
        child_beat(me);
        child_ready(me); /* from here on a death counts as a crash, not as a failed start */
        event_base_dispatch(s.base);
    } else {
        log_err(&err, "cannot start");
    }
    service_close(&s);
    return s.verdict;
}
