/*
 * httpd/server.h - connections: evhttp with the limits that evhttp does not have.
 *
 * SHAPE   evhttp parses requests and writes answers. Added here:
 *         - a request has to arrive at no less than RECEIVE_BYTES_PER_MS, after patience_ms to
 *           start with (evhttp only knows a time-out between two bytes); so has its answer to
 *           leave; the first one of a connection counts from when that was made;
 *         - a number of connections, of those of one address, of requests on one connection, of
 *           header lines, and of bytes in requests that are still arriving, at most;
 *         - Unix sockets beside TCP; they speak plain HTTP even where TCP speaks TLS;
 *         - answers that go on (server-sent events): what a client does not take in time is
 *           bounded, and then it is let go;
 *         - evhttp's own error pages leave as Mailgun's JSON.
 * MEMORY  A request belongs to evhttp until server_answer(), and is valid until then whatever the
 *         peer does: reading is off meanwhile, so evhttp meets no error that would end it.
 * ERRORS  server_open(): NULL and *err.
 */
#ifndef HTTPD_SERVER_H
#define HTTPD_SERVER_H

#include <event2/event.h>
#include <event2/http.h>

#include "base/err.h"
#include "base/slice.h"
#include "httpd/client.h"

enum {
    SERVER_HEADERS_MAX_BYTES = 64 << 10,
    SERVER_HEADERS_MAX = 100, /* lines */
    RECEIVE_BYTES_PER_MS = 16,
};

struct server;
struct ssl_ctx_st;

struct server_settings {
    const int *listen_fds; /* taken over: closed with the server, or when it stops accepting */
    size_t listen_count;
    size_t metrics_listen_count; /* the last so many of them: server_is_for_metrics() */
    struct ssl_ctx_st *tls; /* for those of TCP but for metrics; NULL = plain HTTP. Borrowed. */
    uint64_t max_body_bytes;
    size_t connections_max;         /* the limit of open files may set a lower one */
    size_t connections_per_address; /* an IPv6 /64 counts as one; 0 = no limit */
    uint64_t requests_per_connection;
    uint64_t idle_ms;              /* without a request, between two */
    uint64_t patience_ms;          /* see above */
    const struct proxies *proxies; /* whose connections are not counted by address. Borrowed. */
    void (*handle)(struct evhttp_request *req, void *arg); /* to be ended by server_answer() */
    void *arg;
};

struct server *server_open(struct event_base *base, const struct server_settings *settings,
                           struct err *err);
void server_close(struct server *s); /* NULL is fine */

/* Sends the answer, whose headers are set already. body is emptied. The request is evhttp's again.
 */
void server_answer(struct server *s, struct evhttp_request *req, int status, struct evbuffer *body);
/* An answer that goes on: its headers are set already. Nothing that is sent waits for the client. */
void server_stream_begin(struct server *s, struct evhttp_request *req);
/* part is emptied. False: the client is gone, or takes too little: server_stream_end() it. */
bool server_stream_send(struct server *s, struct evhttp_request *req, struct evbuffer *part);
/* The end of it, whatever came before. The request is evhttp's again. */
void server_stream_end(struct server *s, struct evhttp_request *req);
/* At the other end of the connection: an address, or CLIENT_UNIX; empty = gone. */
struct slice server_peer(struct server *s, struct evhttp_request *req, struct arena *a);
bool server_is_tls(struct server *s, struct evhttp_request *req);
/* Did it come by a socket that serves /metrics alone? */
bool server_is_for_metrics(struct server *s, struct evhttp_request *req);
/* Has the client closed its side? */
bool server_peer_is_gone(struct evhttp_request *req);

void server_tick(struct server *s); /* at least once a second */
/* No more connections, no more kept alive. Those between two requests may bring one more for
 * linger_ms: a client that sends it right now has done nothing wrong. */
void server_leave(struct server *s, uint64_t linger_ms);
bool server_is_idle(const struct server *s); /* nothing arrives, is worked on or leaves */

const char *server_phrase(int status); /* "Not Found" */
/* The 413's words: "request size exceeds 52.4MiB limit". */
void server_size_words(uint64_t max_body_bytes, char words[static 64]);

#endif
