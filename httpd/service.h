/*
 * httpd/service.h - what a request needs of the process that serves it, and the request itself.
 *
 * MEMORY  An exchange owns an arena; both die in reply.h's functions, which end it. Until then its
 *         evhttp request is valid (httpd/server.h).
 */
#ifndef HTTPD_SERVICE_H
#define HTTPD_SERVICE_H

#include <sys/queue.h>

#include "httpd/auth.h"
#include "httpd/client.h"
#include "httpd/inbox.h"
#include "httpd/route.h"
#include "httpd/server.h"
#include "httpd/strangers.h"
#include "shm/child.h"
#include "store/store.h"

struct service {
    const struct child *me;
    struct event_base *base;
    struct event *doorbell, *tick, *master, *term;
    struct event *soon; /* a look at deadlines before the next tick, at soon_mono_ms */
    uint64_t soon_mono_ms;
    struct server *server;
    struct store *store; /* NULL: not there yet */
    struct auth *auth;
    struct inbox *inbox;
    struct strangers *strangers;
    struct proxies *proxies;
    unsigned refusals_waiting;
    struct event_turns *turns;
    struct live *live;
    struct buf record; /* reused for every record pushed */
    bool leaving;
    uint64_t leave_by_mono_ms;
    enum child_exit verdict; /* what httpd_main() will return */
};

enum { REQUEST_ID_DIGITS = 16 };

struct exchange {
    struct service *service;
    struct evhttp_request *req; /* NULL: of our own, for all who listen (dashboard_live.c) */
    struct arena arena;
    struct route route;
    struct slice query;
    struct client client;
    const struct config_domain *domain;   /* of the path; the key opens it. NULL: it names none */
    const struct config_domain **domains; /* all that the key opens */
    size_t domain_count;
    uint64_t started_mono_us;
    char
        request_id[REQUEST_ID_DIGITS + 1]; /* X-Request-Id; of every line about it, and its batch */
    const struct person *person;           /* at the dashboard (httpd/dashboard.h); else NULL */
    bool audited;  /* it may change something: the log tells who, and what came of it */
    void *pending; /* the route's own, in the arena, while it waits for the writer; or NULL */
};

enum { WRITER_PATIENCE_MS = 30000, REFUSALS_WAITING_MAX = 256 };

/* For the metrics: so long since the request was there. */
void exchange_note_latency(const struct exchange *x, enum gauge_latency which);

/* Pushes s->record to the writer and wakes it. */
enum ring_result service_push(struct service *s);
/* What to tell the client of a push that failed; ends the exchange. */
void service_refuse(struct exchange *x, enum ring_result why);

/* Deadlines of the inbox are looked at within so long, not at the next tick. */
void service_expire_soon(struct service *s, unsigned ms);

void service_stop(struct service *s, enum child_exit verdict);

/* Once domains are known: finds the one of the path, and calls the route's. Ends the exchange. */
void exchange_dispatch(struct exchange *x);

/* One per route; each ends its exchange, now or when the writer has answered. */
void health_handle(struct exchange *x);
void metrics_handle(struct exchange *x);
void messages_handle(struct exchange *x);
void envelopes_handle(struct exchange *x);
void sending_queues_handle(struct exchange *x);
void events_handle(struct exchange *x);
void logs_handle(struct exchange *x);
void analytics_metrics_handle(struct exchange *x);
void stats_handle(struct exchange *x);
void tags_handle(struct exchange *x);
void tag_handle(struct exchange *x);
/* PUT and DELETE of a tag that there is, for tag_handle(). */
void tag_change(struct exchange *x, struct slice tag);
void tag_stats_handle(struct exchange *x);
void domains_handle(struct exchange *x);
void send_handle(struct exchange *x);
void usage_handle(struct exchange *x);
void healthcheck_handle(struct exchange *x);
void stored_message_handle(struct exchange *x);
void templates_handle(struct exchange *x);
void webhooks_handle(struct exchange *x);
void suppressions_get(struct exchange *x);
void suppressions_delete(struct exchange *x);
void suppressions_list(struct exchange *x);
void suppressions_add(struct exchange *x);
void suppressions_import(struct exchange *x);

#endif
