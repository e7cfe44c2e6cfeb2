/*
 * evhttp (libevent 2.1) tells nobody of a connection before its first request is whole, nor of its
 * end. So each connection's bufferevent is made here, with a reference of our own: its buffers'
 * call backs tell when bytes come and go, and evhttp has let go of it once its call backs are unset
 * (bufferevent_free() does that first). The socket is then closed here, after reading what a client
 * whose request was refused is still sending: closing over unread bytes would reset the connection,
 * and the client would lose the answer.
 *
 * A connection that is too slow is shut down at the socket: evhttp meets the end of file, or fails
 * to write, and cleans up its own way.
 */
#include "httpd/server.h"

#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    BUCKETS = 1024,
    STARVED_TOLD_EVERY_MS = 10000,
    SPARE_FDS = 64,             /* of the limit of open files: store, rings, listeners, … */
    ARRIVING_BODIES_MAX = 16,   /* as many of the greatest size may be arriving at once */
    ARRIVING_SMALL = 256 << 10, /* what a request may bring even so */
    FIRST_REQUEST_MS = 1000,    /* while leaving, for the first request of a new connection */
    DRAIN_ROUNDS = 16,          /* of DRAIN_BYTES, before a socket is closed */
    DRAIN_BYTES = 64 << 10,
    WRITE_BYTES_MAX = 512 << 10,  /* a page of events in one system call */
    STREAM_WAITING_MAX = 1 << 20, /* bytes that a client of a stream has not taken yet */
    PAGE_MAX = 2048,              /* evhttp's error pages, with headers */
};

enum phase {
    PHASE_IDLE,      /* between two requests */
    PHASE_RECEIVING, /* a request arrives */
    PHASE_WORKING,   /* until server_answer() */
    PHASE_ANSWERING, /* the answer leaves */
    PHASE_STREAMING, /* an answer that goes on: server_stream_begin() */
};

struct connection {
    struct connection *next; /* in its bucket */
    struct server *server;
    struct bufferevent *bev;
    enum phase phase;
    uint64_t since_mono_ms; /* of the phase */
    uint64_t bytes;         /* received, or to be sent, in this phase */
    uint64_t requests;
    struct network_address peer; /* of a Unix socket: all zero */
    bool has_peer;               /* it has been asked for, and is counted */
    bool fresh;                  /* no request has come yet: its first one may be on its way */
    bool is_unix, is_tls, is_metrics, cut;
    bool refused; /* the last answer is one of evhttp's error pages */
};

/* evhttp says nothing of the listener that a connection came by, so each kind has an evhttp. */
enum kind { KIND_TCP, KIND_UNIX, KIND_METRICS_TCP, KIND_METRICS_UNIX, KINDS };

static bool is_unix(enum kind kind)
{
    return kind == KIND_UNIX || kind == KIND_METRICS_UNIX;
}

struct door {
    struct server *server;
    enum kind kind;
    struct evhttp *http;
};

struct server {
    struct server_settings settings;
    struct event_base *base;
    struct door doors[KINDS];
    struct event *sweep;    /* activated by hand: connections may have ended */
    struct event *arrivals; /* activated by hand: connections have been made */
    struct evhttp_bound_socket **bound;
    enum kind *bound_kinds; /* of the same places */
    size_t bound_count;
    struct connection *buckets[BUCKETS];
    size_t connection_count, connection_max;
    uint64_t arriving_bytes; /* in the input buffers of all connections */
    bool full, leaving;
    uint64_t linger_until_mono_ms; /* while leaving */
    bool starved; /* the last connection could not be taken: none is until the next tick */
    uint64_t starved_told_mono_ms;
};

/* evhttp keeps the argument of its listeners' callbacks to itself; a process has one server. */
static struct server *serving;

const char *server_phrase(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 304:
        return "Not Modified";
    case 308:
        return "Permanent Redirect";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 409:
        return "Conflict";
    case 413:
        return "Request Entity Too Large";
    case 417:
        return "Expectation Failed";
    case 431:
        return "Request Header Fields Too Large";
    case 429:
        return "Too Many Requests";
    case 500:
        return "Internal Server Error";
    case 501:
        return "Not Implemented";
    case 503:
        return "Service Unavailable";
    default:
        return "Unknown";
    }
}

void server_size_words(uint64_t max_body_bytes, char words[static 64])
{
    uint64_t tenths = max_body_bytes / ((1 << 20) / 10);

    if (max_body_bytes % (1 << 20) == 0)
        snprintf(words, 64, "request size exceeds %lluMiB limit",
                 (unsigned long long)(max_body_bytes >> 20));
    else
        snprintf(words, 64, "request size exceeds %llu.%lluMiB limit",
                 (unsigned long long)(tenths / 10), (unsigned long long)(tenths % 10));
}

static struct connection **connection_place(struct server *s, const struct bufferevent *bev)
{
    struct connection **at = &s->buckets[((uintptr_t)bev >> 6) % BUCKETS];

    while (*at != NULL && (*at)->bev != bev)
        at = &(*at)->next;
    return at;
}

static struct connection *connection_of(struct server *s, struct evhttp_request *req)
{
    struct evhttp_connection *evcon = evhttp_request_get_connection(req);

    return evcon == NULL ? NULL : *connection_place(s, evhttp_connection_get_bufferevent(evcon));
}

static void connection_phase(struct connection *c, enum phase phase, uint64_t bytes)
{
    c->fresh = c->fresh && phase == PHASE_IDLE;
    c->phase = phase;
    c->since_mono_ms = clock_mono_ms();
    c->bytes = bytes;
}

static void connection_cut(struct connection *c)
{
    if (!c->cut)
        shutdown(bufferevent_getfd(c->bev), SHUT_RDWR);
    c->cut = true;
}

static void on_input(struct evbuffer *buffer, const struct evbuffer_cb_info *info, void *arg)
{
    struct connection *c = arg;
    struct server *s = c->server;

    (void)buffer;
    s->arriving_bytes += info->n_added;
    s->arriving_bytes -= info->n_deleted;
    if (info->n_added == 0)
        return;
    if (c->phase == PHASE_IDLE)
        connection_phase(c, PHASE_RECEIVING, 0);
    c->bytes += info->n_added;
    if (c->phase == PHASE_RECEIVING && c->bytes > ARRIVING_SMALL && !c->cut &&
        s->arriving_bytes > ARRIVING_BODIES_MAX * s->settings.max_body_bytes) {
        log_warn("too many large requests arrive at once: one is cut off");
        connection_cut(c);
    }
    if (c->phase == PHASE_STREAMING && c->bytes > ARRIVING_SMALL) /* nobody reads it */
        connection_cut(c);
}

/* The status of an error page of evhttp's own that makes up all of the output; 0 = it is none. */
static int own_page_status(struct evbuffer *output)
{
    static const char end[] = "</BODY></HTML>\n";
    char page[PAGE_MAX + 1];
    int status;
    size_t len = evbuffer_get_length(output);

    if (len < sizeof end || len > PAGE_MAX)
        return 0;
    if (evbuffer_copyout(output, page, len) != (ev_ssize_t)len)
        return 0;
    page[len] = '\0';
    if (memcmp(page + len - (sizeof end - 1), end, sizeof end - 1) != 0 ||
        sscanf(page, "HTTP/1.%*d %d", &status) != 1)
        return 0;
    return status;
}

static void write_page(const struct server *s, struct evbuffer *output, int status)
{
    char words[64];
    struct buf body = {0};

    if (status == 413)
        server_size_words(s->settings.max_body_bytes, words);
    else
        snprintf(words, sizeof words, "%s", server_phrase(status));
    buf_add_str(&body, "{");
    json_put_str(&body, "message", slice_str(words));
    buf_add_str(&body, "}\n");
    evbuffer_add_printf(output,
                        "HTTP/1.1 %d %s\r\nContent-Type: application/json; charset=utf-8\r\n"
                        "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                        status, server_phrase(status), body.len);
    evbuffer_add(output, body.ptr, body.len);
    buf_fini(&body);
}

static void on_output(struct evbuffer *output, const struct evbuffer_cb_info *info, void *arg)
{
    struct connection *c = arg;

    if (info->n_added == 0 || c->phase == PHASE_ANSWERING || c->phase == PHASE_STREAMING)
        return;
    /* A bufferevent freezes the front of its output so that only it looks at and takes away what is
     * there. No byte of a page has left yet: writing happens in a turn of the loop of its own. */
    evbuffer_unfreeze(output, 1);
    int status = own_page_status(output);
    if (status != 0) {
        connection_phase(c, PHASE_ANSWERING, PAGE_MAX);
        c->refused = true;
        evbuffer_drain(output, evbuffer_get_length(output));
    }
    evbuffer_freeze(output, 1);
    if (status == 0)
        return; /* "100 Continue", or a page that is not whole yet */
    write_page(c->server, output, status);
    log_info("a request was refused before it was whole: %d", status);
}

static void server_listen(struct server *s)
{
    for (size_t i = 0; i < s->bound_count; i++) {
        struct evconnlistener *listener = evhttp_bound_socket_get_listener(s->bound[i]);

        if (s->full || s->starved)
            evconnlistener_disable(listener);
        else
            evconnlistener_enable(listener);
    }
}

static void server_accept_more(struct server *s)
{
    bool full = s->connection_count >= s->connection_max;

    if (full == s->full)
        return;
    s->full = full;
    if (full)
        log_warn("%zu connections: no more are accepted", s->connection_count);
    server_listen(s);
}

/* Without a descriptor a connection stays in the system's queue, and its socket stays readable: who
 * asked for it again at once would do nothing else. */
static void on_accept_failed(struct evconnlistener *listener, void *http)
{
    struct server *s = serving;
    int why = EVUTIL_SOCKET_ERROR();
    uint64_t now = clock_mono_ms();

    (void)listener;
    (void)http;
    if (s == NULL || s->starved)
        return;
    if (s->starved_told_mono_ms == 0 || now - s->starved_told_mono_ms >= STARVED_TOLD_EVERY_MS) {
        log_error("no connection can be taken (%s): they wait; raise the limit of open files if "
                  "this goes on",
                  strerror(why));
        s->starved_told_mono_ms = now;
    }
    s->starved = true;
    server_listen(s);
}

static struct bufferevent *bufferevent_of(const struct door *door, struct event_base *base)
{
    const struct server *s = door->server;

    if (s->settings.tls == NULL || door->kind != KIND_TCP)
        return bufferevent_socket_new(base, -1, BEV_OPT_CLOSE_ON_FREE);
    SSL *ssl = SSL_new(s->settings.tls);
    if (ssl == NULL)
        return NULL;
    struct bufferevent *bev = bufferevent_openssl_socket_new(
        base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
    if (bev == NULL) {
        SSL_free(ssl);
        return NULL;
    }
    /* Clients leave without a farewell: a request's end is known from its length. */
    bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
    return bev;
}

static struct bufferevent *on_connection(struct event_base *base, void *arg)
{
    const struct door *door = arg;
    struct server *s = door->server;
    struct bufferevent *bev = bufferevent_of(door, base);

    if (bev == NULL)
        return NULL; /* evhttp makes one of its own: without our limits, but there is no memory */
    struct connection *c = mem_zero(1, sizeof *c);
    c->server = s;
    c->bev = bev;
    c->fresh = true;
    c->is_unix = is_unix(door->kind);
    c->is_tls = s->settings.tls != NULL && door->kind == KIND_TCP;
    c->is_metrics = door->kind == KIND_METRICS_TCP || door->kind == KIND_METRICS_UNIX;
    connection_phase(c, PHASE_IDLE, 0);
    bufferevent_incref(bev);
    (void)bufferevent_set_max_single_write(bev, WRITE_BYTES_MAX);
    evbuffer_add_cb(bufferevent_get_input(bev), on_input, c);
    evbuffer_add_cb(bufferevent_get_output(bev), on_output, c);
    /* A whole body waits in the input, so this must be more than the largest one. */
    bufferevent_setwatermark(bev, EV_READ, 0,
                             (size_t)s->settings.max_body_bytes + 2 * SERVER_HEADERS_MAX_BYTES);
    *connection_place(s, bev) = c;
    s->connection_count++;
    server_accept_more(s);
    event_active(s->arrivals, EV_TIMEOUT, 0); /* its socket is set when we have returned */
    return bev;
}

/* ---- connections of one address ---- */

static bool is_same_customer(const struct network_address *a, const struct network_address *b)
{
    enum { V6_CUSTOMER_BYTES = 8 };
    bool v4 = network_address_is_v4(a);

    return memcmp(a->bytes, b->bytes, v4 ? sizeof a->bytes : V6_CUSTOMER_BYTES) == 0;
}

static bool is_too_many(const struct server *s, const struct connection *c)
{
    size_t same = 0;

    for (size_t i = 0; i < BUCKETS; i++)
        for (const struct connection *other = s->buckets[i]; other != NULL; other = other->next)
            if (other->has_peer && !other->cut && !other->is_unix &&
                is_same_customer(&other->peer, &c->peer))
                same++;
    return same > s->settings.connections_per_address;
}

static void connection_find_peer(struct connection *c)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } at = {0};
    socklen_t len = sizeof at;
    char text[NETWORK_TEXT_BYTES];

    if (c->has_peer || bufferevent_getfd(c->bev) < 0)
        return;
    c->has_peer = true;
    if (c->is_unix || getpeername(bufferevent_getfd(c->bev), &at.any, &len) != 0 ||
        (at.any.sa_family != AF_INET && at.any.sa_family != AF_INET6) ||
        evutil_inet_ntop(at.any.sa_family,
                         at.any.sa_family == AF_INET ? (const void *)&at.v4.sin_addr
                                                     : (const void *)&at.v6.sin6_addr,
                         text, sizeof text) == NULL)
        return;
    (void)network_address_read(slice_str(text), &c->peer);
}

/* In words, so that a client that opens too many learns why. To a client of TLS no plain word can
 * be said. */
static void turn_away(struct connection *c)
{
    static const char words[] =
        "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json; charset=utf-8\r\n"
        "Retry-After: 1\r\nConnection: close\r\nContent-Length: 53\r\n\r\n"
        "{\"message\":\"Too many connections from your address\"}\n";
    char peer[NETWORK_TEXT_BYTES];

    network_address_write(&c->peer, peer);
    log_info("too many connections from %s: one is turned away", peer);
    if (!c->is_tls)
        (void)send(bufferevent_getfd(c->bev), words, sizeof words - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    connection_cut(c);
}

static void on_arrivals(evutil_socket_t fd, short what, void *arg)
{
    struct server *s = arg;
    char peer[NETWORK_TEXT_BYTES];

    (void)fd, (void)what;
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct connection *c = s->buckets[i]; c != NULL; c = c->next) {
            if (c->has_peer)
                continue;
            connection_find_peer(c);
            network_address_write(&c->peer, peer);
            if (c->has_peer && !c->is_unix && s->settings.connections_per_address != 0 &&
                is_too_many(s, c) &&
                (s->settings.proxies == NULL ||
                 !proxies_trust(s->settings.proxies, slice_str(peer))))
                turn_away(c);
        }
    }
}

struct slice server_peer(struct server *s, struct evhttp_request *req, struct arena *a)
{
    struct connection *c = connection_of(s, req);
    char text[NETWORK_TEXT_BYTES];

    if (c == NULL)
        return slice_none();
    if (c->is_unix)
        return SLICE(CLIENT_UNIX);
    connection_find_peer(c);
    network_address_write(&c->peer, text);
    return arena_dup(a, slice_str(text));
}

bool server_is_tls(struct server *s, struct evhttp_request *req)
{
    const struct connection *c = connection_of(s, req);

    return c != NULL && c->is_tls;
}

bool server_is_for_metrics(struct server *s, struct evhttp_request *req)
{
    const struct connection *c = connection_of(s, req);

    return c != NULL && c->is_metrics;
}

static void connection_free(struct connection *c)
{
    struct server *s = c->server;
    struct evbuffer *input = bufferevent_get_input(c->bev);
    evutil_socket_t fd = bufferevent_getfd(c->bev);
    char bytes[DRAIN_BYTES];

    evbuffer_remove_cb(input, on_input, c);
    evbuffer_remove_cb(bufferevent_get_output(c->bev), on_output, c);
    s->arriving_bytes -= evbuffer_get_length(input);
    s->connection_count--;
    for (int i = 0; i < DRAIN_ROUNDS; i++) {
        if (recv(fd, bytes, sizeof bytes, MSG_DONTWAIT) <= 0)
            break;
    }
    bufferevent_decref(c->bev); /* the last: closes the socket */
    free(c);
}

static bool connection_has_ended(const struct connection *c)
{
    bufferevent_data_cb on_read, on_write;
    bufferevent_event_cb on_event;
    void *arg;

    bufferevent_getcb(c->bev, &on_read, &on_write, &on_event, &arg);
    return on_read == NULL && on_write == NULL && on_event == NULL;
}

static void server_sweep(struct server *s, bool all)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct connection **at = &s->buckets[i]; *at != NULL;) {
            struct connection *c = *at;

            if (!all && !connection_has_ended(c)) {
                at = &c->next;
                continue;
            }
            *at = c->next;
            connection_free(c);
        }
    }
    if (!all && !s->leaving)
        server_accept_more(s);
}

static void on_sweep(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    server_sweep(arg, false);
}

static void on_close(struct evhttp_connection *evcon, void *arg)
{
    struct server *s = arg;

    (void)evcon;
    event_active(s->sweep, EV_TIMEOUT, 0); /* evhttp is about to let go of it */
}

static void on_answer_sent(struct evhttp_request *req, void *arg)
{
    struct connection *c = connection_of(arg, req);

    if (c == NULL)
        return;
    uint64_t waiting = evbuffer_get_length(bufferevent_get_input(c->bev));
    connection_phase(c, waiting != 0 ? PHASE_RECEIVING : PHASE_IDLE, waiting);
}

static bool has_body_header(struct evhttp_request *req)
{
    struct evkeyvalq *headers = evhttp_request_get_input_headers(req);
    const char *length = evhttp_find_header(headers, "Content-Length");

    return evhttp_find_header(headers, "Transfer-Encoding") != NULL ||
           (length != NULL && strcmp(length, "0") != 0);
}

/* Could a proxy in front of us see the end of this request elsewhere than evhttp does?
 * SOURCE RFC 9112 §6.3. */
static bool is_framing_doubtful(struct evhttp_request *req)
{
    struct evkeyvalq *headers = evhttp_request_get_input_headers(req);
    struct evkeyval *header;
    unsigned lengths = 0, encodings = 0;
    bool chunked = false;

    TAILQ_FOREACH(header, headers, next)
    {
        if (evutil_ascii_strcasecmp(header->key, "Content-Length") == 0) {
            lengths++;
        } else if (evutil_ascii_strcasecmp(header->key, "Transfer-Encoding") == 0) {
            encodings++;
            chunked = evutil_ascii_strcasecmp(header->value, "chunked") == 0;
        }
    }
    return lengths + encodings > 1 || (encodings == 1 && !chunked);
}

static bool may_have_body(struct evhttp_request *req)
{
    switch (evhttp_request_get_command(req)) {
    case EVHTTP_REQ_POST:
    case EVHTTP_REQ_PUT:
    case EVHTTP_REQ_PATCH:
        return true;
    default:
        return false;
    }
}

static bool has_too_many_headers(struct evhttp_request *req)
{
    const struct evkeyval *header;
    unsigned count = 0;

    TAILQ_FOREACH(header, evhttp_request_get_input_headers(req), next)
    count++;
    return count > SERVER_HEADERS_MAX;
}

/* Before anybody looks at what it asks for. */
static void refuse_early(struct server *s, struct evhttp_request *req, int status)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
    struct evbuffer *body = evbuffer_new();

    if (body != NULL)
        evbuffer_add_printf(body, "{\"message\":\"%s\"}\n", server_phrase(status));
    evhttp_add_header(headers, "Content-Type", "application/json; charset=utf-8");
    evhttp_add_header(headers, "Connection", "close");
    server_answer(s, req, status, body);
    if (body != NULL)
        evbuffer_free(body);
}

static void on_request(struct evhttp_request *req, void *arg)
{
    struct server *s = arg;
    struct evhttp_connection *evcon = evhttp_request_get_connection(req);
    struct connection *c = connection_of(s, req);

    /* While an answer is awaited, bytes of a next request would meet evhttp in a state that it
     * takes for impossible and ends the process. It switches reading on again when it writes. */
    bufferevent_disable(evhttp_connection_get_bufferevent(evcon), EV_READ);
    evhttp_connection_set_closecb(evcon, on_close, s);
    if (c != NULL) {
        connection_phase(c, PHASE_WORKING, 0);
        c->requests++;
    }
    if (is_framing_doubtful(req))
        refuse_early(s, req, 400);
    else if (has_too_many_headers(req))
        refuse_early(s, req, 431);
    else
        s->settings.handle(req, s->settings.arg);
}

void server_answer(struct server *s, struct evhttp_request *req, int status, struct evbuffer *body)
{
    struct connection *c = connection_of(s, req);

    if (c != NULL) {
        connection_phase(c, PHASE_ANSWERING, body == NULL ? 0 : evbuffer_get_length(body));
        evhttp_request_set_on_complete_cb(req, on_answer_sent, s);
    }
    /* evhttp reads no body of a GET: what was announced would be taken for the next request. */
    if (s->leaving || (!may_have_body(req) && has_body_header(req)) ||
        (c != NULL && c->requests >= s->settings.requests_per_connection))
        evhttp_add_header(evhttp_request_get_output_headers(req), "Connection", "close");
    evhttp_send_reply(req, status, server_phrase(status), body);
}

void server_stream_begin(struct server *s, struct evhttp_request *req)
{
    struct connection *c = connection_of(s, req);

    if (c != NULL) {
        connection_phase(c, PHASE_STREAMING, 0);
        evhttp_request_set_on_complete_cb(req, on_answer_sent, s);
    }
    evhttp_add_header(evhttp_request_get_output_headers(req), "Connection", "close");
    evhttp_send_reply_start(req, 200, server_phrase(200));
}

bool server_stream_send(struct server *s, struct evhttp_request *req, struct evbuffer *part)
{
    struct connection *c = connection_of(s, req);

    if (c == NULL || c->cut)
        return false;
    if (evbuffer_get_length(bufferevent_get_output(c->bev)) > STREAM_WAITING_MAX) {
        connection_cut(c);
        return false;
    }
    evhttp_send_reply_chunk(req, part);
    return true;
}

void server_stream_end(struct server *s, struct evhttp_request *req)
{
    struct connection *c = connection_of(s, req);

    if (c != NULL)
        connection_phase(c, PHASE_ANSWERING, evbuffer_get_length(bufferevent_get_output(c->bev)));
    evhttp_send_reply_end(req);
}

bool server_peer_is_gone(struct evhttp_request *req)
{
    struct evhttp_connection *evcon = evhttp_request_get_connection(req);
    char byte;

    if (evcon == NULL)
        return true;
    ssize_t got = recv(bufferevent_getfd(evhttp_connection_get_bufferevent(evcon)), &byte, 1,
                       MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

/* evhttp keeps a connection after it has refused a CONNECT. */
static bool is_left_open(const struct connection *c)
{
    return c->refused && evbuffer_get_length(bufferevent_get_output(c->bev)) == 0;
}

static bool is_too_slow(const struct connection *c, uint64_t now_mono_ms)
{
    switch (c->phase) {
    case PHASE_IDLE: /* between two requests it is evhttp that counts */
        return c->fresh && now_mono_ms - c->since_mono_ms > c->server->settings.patience_ms;
    case PHASE_WORKING:
    case PHASE_STREAMING:
        return false;
    case PHASE_RECEIVING:
    case PHASE_ANSWERING:
        return now_mono_ms - c->since_mono_ms >
               c->server->settings.patience_ms + c->bytes / RECEIVE_BYTES_PER_MS;
    }
    return false;
}

/* A connection just made is about to bring a request: closing it then would fail a client that did
 * nothing wrong. (One that is reused may be closed between two requests: clients expect that.) */
static bool is_awaited(const struct connection *c, uint64_t now_mono_ms)
{
    return c->phase == PHASE_IDLE &&
           ((c->fresh && now_mono_ms - c->since_mono_ms < FIRST_REQUEST_MS) ||
            now_mono_ms < c->server->linger_until_mono_ms);
}

void server_tick(struct server *s)
{
    uint64_t now = clock_mono_ms();

    server_sweep(s, false);
    if (s->starved) {
        s->starved = false;
        server_listen(s);
    }
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct connection *c = s->buckets[i]; c != NULL; c = c->next) {
            if (!c->cut && is_too_slow(c, now)) {
                log_info("a client was too slow: cut off after %llu bytes",
                         (unsigned long long)c->bytes);
                connection_cut(c);
            } else if (!c->cut && is_left_open(c)) {
                connection_cut(c);
            } else if (s->leaving && c->phase == PHASE_IDLE && !is_awaited(c, now)) {
                connection_cut(c); /* its request never came */
            }
        }
    }
}

void server_leave(struct server *s, uint64_t linger_ms)
{
    s->leaving = true;
    s->linger_until_mono_ms = clock_mono_ms() + linger_ms;
    for (size_t i = 0; i < s->bound_count; i++)
        evhttp_del_accept_socket(s->doors[s->bound_kinds[i]].http, s->bound[i]);
    s->bound_count = 0;
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct connection *c = s->buckets[i]; c != NULL; c = c->next) {
            if (c->phase == PHASE_IDLE && !is_awaited(c, clock_mono_ms()))
                connection_cut(c);
        }
    }
}

bool server_is_idle(const struct server *s)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (const struct connection *c = s->buckets[i]; c != NULL; c = c->next) {
            if ((c->phase != PHASE_IDLE || is_awaited(c, clock_mono_ms())) &&
                !connection_has_ended(c))
                return false;
        }
    }
    return true;
}

static size_t connections_allowed(size_t most)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur <= 2 * SPARE_FDS)
        return SPARE_FDS;
    if (limit.rlim_cur - SPARE_FDS > most)
        return most;
    return (size_t)limit.rlim_cur - SPARE_FDS;
}

static struct evhttp *evhttp_of(struct server *s, struct door *door)
{
    struct evhttp *http = evhttp_new(s->base);
    const struct timeval idle = {.tv_sec = (time_t)(s->settings.idle_ms / 1000),
                                 .tv_usec = (suseconds_t)(s->settings.idle_ms % 1000 * 1000)};

    if (http == NULL)
        return NULL;
    evhttp_set_bevcb(http, on_connection, door);
    evhttp_set_gencb(http, on_request, s);
    evhttp_set_max_headers_size(http, SERVER_HEADERS_MAX_BYTES);
    evhttp_set_max_body_size(http, (ev_ssize_t)s->settings.max_body_bytes);
    evhttp_set_timeout_tv(http, &idle);
    /* A body that is too long is read to its end before it is refused: few clients look for an
     * answer while they write. */
    evhttp_set_flags(http, EVHTTP_SERVER_LINGERING_CLOSE);
    evhttp_set_default_content_type(http, NULL);
    evhttp_set_allowed_methods(http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD |
                                         EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS |
                                         EVHTTP_REQ_TRACE | EVHTTP_REQ_PATCH);
    return http;
}

static enum kind kind_of(int fd, bool is_for_metrics)
{
    struct sockaddr at = {0};
    socklen_t len = sizeof at; /* more than the family is cut off */

    if (getsockname(fd, &at, &len) == 0 && at.sa_family == AF_UNIX)
        return is_for_metrics ? KIND_METRICS_UNIX : KIND_UNIX;
    return is_for_metrics ? KIND_METRICS_TCP : KIND_TCP;
}

static int server_bind(struct server *s, struct err *err)
{
    for (size_t i = 0; i < s->settings.listen_count; i++) {
        int fd = s->settings.listen_fds[i];
        enum kind kind =
            kind_of(fd, i + s->settings.metrics_listen_count >= s->settings.listen_count);

        s->bound[i] = evhttp_accept_socket_with_handle(s->doors[kind].http, fd);
        if (s->bound[i] == NULL)
            return err_set(err, ERR_SYSTEM, "cannot accept on listening socket %zu", i);
        s->bound_kinds[i] = kind;
        s->bound_count++;
        evconnlistener_set_error_cb(evhttp_bound_socket_get_listener(s->bound[i]),
                                    on_accept_failed);
    }
    return 0;
}

struct server *server_open(struct event_base *base, const struct server_settings *settings,
                           struct err *err)
{
    struct server *s = mem_zero(1, sizeof *s);
    bool fine;

    serving = s;
    s->settings = *settings;
    s->base = base;
    s->connection_max = connections_allowed(settings->connections_max);
    s->bound = mem_zero(settings->listen_count + 1, sizeof *s->bound);
    s->bound_kinds = mem_zero(settings->listen_count + 1, sizeof *s->bound_kinds);
    s->sweep = event_new(base, -1, 0, on_sweep, s);
    s->arrivals = event_new(base, -1, 0, on_arrivals, s);
    fine = s->sweep != NULL && s->arrivals != NULL;
    for (enum kind kind = 0; kind < KINDS && fine; kind++) {
        s->doors[kind] = (struct door){.server = s, .kind = kind};
        s->doors[kind].http = evhttp_of(s, &s->doors[kind]);
        fine = s->doors[kind].http != NULL;
    }
    if (!fine)
        err_set(err, ERR_SYSTEM, "no HTTP server");
    if (fine && server_bind(s, err) == 0)
        return s;
    server_close(s);
    return NULL;
}

void server_close(struct server *s)
{
    if (s == NULL)
        return;
    serving = NULL;
    for (enum kind kind = 0; kind < KINDS; kind++)
        if (s->doors[kind].http != NULL)
            evhttp_free(s->doors[kind].http);
    server_sweep(s, true);
    assert(s->connection_count == 0);
    if (s->sweep != NULL)
        event_free(s->sweep);
    if (s->arrivals != NULL)
        event_free(s->arrivals);
    free(s->bound);
    free(s->bound_kinds);
    free(s);
}
