/*
 * GET api/live: the status, again and again, as server-sent events. One question to the writer a
 * second answers all who listen here; without listeners none is asked.
 *
 * A listener is let go after LISTEN_MS, and when this process leaves: the browser comes back by itself
 * a second later, to whichever process there is, and its session is looked at again. Once its session
 * has ended it hears no more.
 *
 * SOURCE  HTML Standard §9.2.
 */
#include <event2/buffer.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "httpd/dashboard.h"
#include "httpd/reply.h"

enum { LISTENERS_MAX = 64, EVERY_MS = 1000, LISTEN_MS = 60000, ANSWER_MS = 5000 };

struct listener {
    struct exchange *exchange; /* NULL: a free place */
    uint64_t since_mono_ms;
};

struct live {
    struct service *service;
    struct event *tick;
    struct exchange *asking; /* the question that waits for its answer; nobody's request */
    struct listener listeners[LISTENERS_MAX];
    size_t count;
};

static void listener_end(struct live *l, struct listener *one)
{
    struct exchange *x = one->exchange;

    server_stream_end(l->service->server, x->req);
    exchange_drop(x);
    one->exchange = NULL;
    l->count--;
}

static void send_to(struct live *l, struct listener *one, struct slice text)
{
    struct evbuffer *part = evbuffer_new();

    if (part == NULL || evbuffer_add(part, text.ptr, text.len) != 0 ||
        !server_stream_send(l->service->server, one->exchange->req, part))
        listener_end(l, one);
    if (part != NULL)
        evbuffer_free(part);
}

/* JSON has no line feed in it, so it is one line of data. */
static void send_to_all(struct live *l, struct slice json)
{
    struct buf text = {0};

    buf_add_str(&text, "event: status\ndata: ");
    buf_add_slice(&text, json);
    buf_add_str(&text, "\n\n");
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (l->listeners[i].exchange != NULL)
            send_to(l, &l->listeners[i], buf_slice(&text));
    buf_fini(&text);
}

static void on_answer(struct exchange *x, const struct record_answer *answer)
{
    struct live *l = x->service->live;

    l->asking = NULL;
    if (answer != NULL && answer->verdict == ANSWER_OK)
        send_to_all(l, answer->text);
    exchange_drop(x);
}

static void ask(struct live *l)
{
    struct service *s = l->service;
    struct exchange *x = mem_zero(1, sizeof *x);

    x->service = s;
    x->route.kind = ROUTE_DASHBOARD;
    uint64_t id = inbox_wait(s->inbox, x, clock_mono_ms() + ANSWER_MS, on_answer);
    if (id == 0) {
        exchange_drop(x);
        return;
    }
    if (dashboard_push(s, id, &(struct record_control){.verb = CONTROL_STATUS}) == RING_OK) {
        l->asking = x;
    } else { /* full: at the next tick */
        inbox_forget(s->inbox, id);
        exchange_drop(x);
    }
}

/* Whose session is there no longer. */
static void let_go_who_is_signed_out(struct live *l)
{
    struct err err;
    struct session session;
    struct store_txn *t = store_begin_read(l->service->store, &err);

    for (size_t i = 0; t != NULL && i < LISTENERS_MAX; i++) {
        struct listener *one = &l->listeners[i];
        if (one->exchange != NULL &&
            !session_find(t, one->exchange->person->digest, clock_wall_ms(), &session))
            listener_end(l, one);
    }
    if (t != NULL)
        store_end_read(t);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    const struct timeval again = {.tv_sec = EVERY_MS / 1000};
    struct live *l = arg;
    uint64_t now = clock_mono_ms();

    (void)fd, (void)what;
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (l->listeners[i].exchange != NULL && now - l->listeners[i].since_mono_ms > LISTEN_MS)
            listener_end(l, &l->listeners[i]);
    if (l->count > 0)
        let_go_who_is_signed_out(l);
    if (l->count == 0)
        return;
    if (l->asking == NULL)
        ask(l);
    (void)event_add(l->tick, &again);
}

struct live *live_create(struct service *s)
{
    struct live *l = mem_zero(1, sizeof *l);

    l->service = s;
    l->tick = evtimer_new(s->base, on_tick, l);
    if (l->tick != NULL)
        return l;
    free(l);
    return NULL;
}

void live_destroy(struct live *l)
{
    if (l == NULL)
        return;
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (l->listeners[i].exchange != NULL)
            listener_end(l, &l->listeners[i]);
    event_free(l->tick);
    free(l);
}

void live_leave(struct live *l)
{
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        if (l->listeners[i].exchange != NULL)
            listener_end(l, &l->listeners[i]);
    (void)event_del(l->tick);
}

void live_handle(struct exchange *x)
{
    const struct timeval at_once = {0};
    struct live *l = x->service->live;
    struct listener *one = l->listeners;

    while (one < l->listeners + LISTENERS_MAX && one->exchange != NULL)
        one++;
    if (one == l->listeners + LISTENERS_MAX || x->service->leaving) {
        reply_later(x, 503, 5, SLICE("Too many pages are listening already"));
        return;
    }
    *one = (struct listener){.exchange = x, .since_mono_ms = clock_mono_ms()};
    exchange_set_header(x, "Content-Type", "text/event-stream");
    exchange_set_header(x, "X-Accel-Buffering", "no"); /* nginx would wait for more */
    server_stream_begin(x->service->server, x->req);
    l->count++;
    send_to(l, one, SLICE("retry: 1000\n\n"));
    if (l->asking == NULL)
        (void)event_add(l->tick, &at_once);
}
