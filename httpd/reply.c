#include "httpd/reply.h"

#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/log.h"
#include "httpd/dashboard.h"
#include "mail/date.h"
#include "shm/last_words.h"

enum { HOST_MAX = 255, DOMAIN_SHOWN = 64 };

static uint64_t took_us(const struct exchange *x)
{
    return clock_mono_ns() / 1000 - x->started_mono_us;
}

void exchange_note_latency(const struct exchange *x, enum gauge_latency which)
{
    child_note_latency(x->service->me, which, took_us(x));
}

const char *exchange_method(const struct exchange *x)
{
    if (x->req == NULL) /* nobody's: a question of our own */
        return "(live)";
    switch (evhttp_request_get_command(x->req)) {
    case EVHTTP_REQ_GET:
        return "GET";
    case EVHTTP_REQ_POST:
        return "POST";
    case EVHTTP_REQ_HEAD:
        return "HEAD";
    case EVHTTP_REQ_PUT:
        return "PUT";
    case EVHTTP_REQ_DELETE:
        return "DELETE";
    default:
        return "(other)";
    }
}

struct store_txn *exchange_begin_read(struct exchange *x)
{
    struct err err = {0};
    struct store_txn *t =
        x->service->store == NULL ? NULL : store_begin_read(x->service->store, &err);

    if (t == NULL)
        reply_later(x, 503, 1, SLICE("The store is not ready, please try again"));
    return t;
}

struct slice exchange_header(const struct exchange *x, const char *name)
{
    return slice_str(evhttp_find_header(evhttp_request_get_input_headers(x->req), name));
}

void exchange_enter(const struct exchange *x)
{
    log_request(slice_str(x->request_id));
    last_words_doing("%s %s of %.*s request=%s", exchange_method(x), route_name(&x->route),
                     SLICE_ARGS(slice_head(x->route.domain, DOMAIN_SHOWN)), x->request_id);
}

void exchange_leave(void)
{
    log_request(slice_none());
    last_words_doing("%s", "");
}

void exchange_drop(struct exchange *x)
{
    arena_fini(&x->arena);
    free(x);
}

void exchange_set_header(struct exchange *x, const char *name, const char *value)
{
    evhttp_add_header(evhttp_request_get_output_headers(x->req), name, value);
}

void exchange_replace_header(struct exchange *x, const char *name, const char *value)
{
    (void)evhttp_remove_header(evhttp_request_get_output_headers(x->req), name);
    exchange_set_header(x, name, value);
}

static void free_bytes(const void *data, size_t len, void *owned)
{
    (void)data, (void)len;
    free(owned);
}

/* Who did what at the dashboard, and what came of it. */
static void audit(const struct exchange *x, int status)
{
    const struct person *p = x->person;
    const struct log_field fields[] = {LOG_TEXT("person", p->name),
                                       LOG_TEXT("session", slice_str(p->id)),
                                       LOG_TEXT("client", x->client.address)};
    struct buf uri = {0};

    /* In words, so that addresses among them are known, and shortened. */
    if (!text_percent_decode(&uri, slice_str(evhttp_request_get_uri(x->req)), false))
        buf_add_str(&uri, "(broken)");
    for (size_t i = 0; i < uri.len; i++)
        if (uri.ptr[i] == '/')
            uri.ptr[i] = ' ';
    log_fields(LOG_LEVEL_INFO, fields, sizeof fields / sizeof fields[0],
               "dashboard: %.*s, session %s: %s%.*s: %d", SLICE_ARGS(p->name), p->id,
               exchange_method(x), SLICE_ARGS(buf_slice(&uri)), status);
    buf_fini(&uri);
}

void reply_bytes(struct exchange *x, int status, const char *type, struct buf *body)
{
    struct evbuffer *out = evbuffer_new();

    exchange_set_header(x, "Content-Type", type);
    exchange_set_header(x, "X-Request-Id", x->request_id);
    if (out != NULL && body->len != 0 &&
        evbuffer_add_reference(out, body->ptr, body->len, free_bytes, body->ptr) == 0)
        *body = (struct buf){0};
    log_debug("%s %s %.*s %d %llu ms %.*s", exchange_method(x), route_name(&x->route),
              SLICE_ARGS(slice_head(x->route.domain, HOST_MAX)), status,
              (unsigned long long)took_us(x) / 1000, SLICE_ARGS(x->client.address));
    if (x->audited)
        audit(x, status);
    server_answer(x->service->server, x->req, status, out);
    if (out != NULL)
        evbuffer_free(out);
    buf_fini(body);
    exchange_drop(x);
}

void reply_json(struct exchange *x, int status, struct buf *body)
{
    buf_add_byte(body, '\n');
    reply_bytes(x, status, "application/json; charset=utf-8", body);
}

/* What /v1/send says beside the message. SOURCE spec/typetale.md. */
static void put_failure(struct buf *to, int status)
{
    struct buf now = {0};

    date_put_iso8601(&now, clock_wall_us());
    json_put_bool(to, "success", false);
    json_put_str(to, "error",
                 status == 400   ? SLICE("Validation Error")
                 : status == 405 ? SLICE("Method Not Allowed")
                 : status == 413 ? SLICE("Payload Too Large")
                 : status == 429 ? SLICE("Too Many Requests")
                 : status == 503 ? SLICE("Service Unavailable")
                                 : SLICE("Internal Server Error"));
    json_put_str(to, "timestamp", buf_slice(&now));
    buf_fini(&now);
}

void reply_message(struct exchange *x, int status, struct slice message)
{
    struct buf body = {0};

    buf_add_str(&body, "{");
    if (x->route.kind == ROUTE_SEND)
        put_failure(&body, status);
    json_put_str(&body, "message", message);
    buf_add_str(&body, "}");
    reply_json(x, status, &body);
}

void reply_later(struct exchange *x, int status, unsigned retry_after_s, struct slice message)
{
    char seconds[16];

    snprintf(seconds, sizeof seconds, "%u", retry_after_s);
    exchange_set_header(x, "Retry-After", seconds);
    reply_message(x, status, message);
}

void reply_unauthorized(struct exchange *x)
{
    struct buf body = {0};

    exchange_set_header(x, "WWW-Authenticate", "Basic realm=\"MG API\"");
    if (x->route.json_unauthorized) {
        reply_message(x, 401, SLICE("Invalid private key"));
        return;
    }
    if (x->route.kind == ROUTE_SEND || x->route.kind == ROUTE_USAGE) {
        buf_add_str(&body, "{\"error\":\"authentication failed\"}");
        reply_json(x, 401, &body);
        return;
    }
    buf_add_str(&body, "Forbidden");
    reply_bytes(x, 401, "text/plain; charset=utf-8", &body);
}

void reply_method_not_allowed(struct exchange *x)
{
    exchange_set_header(x, "Allow", x->route.allow);
    reply_message(x, 405, SLICE("Method Not Allowed"));
}

/* A name or address, perhaps with a port: nothing that could end the URL's authority.
 * SOURCE RFC 3986 §3.2.2. */
static bool is_host(struct slice host)
{
    if (slice_is_empty(host) || host.len > HOST_MAX)
        return false;
    for (size_t i = 0; i < host.len; i++) {
        uint8_t c = host.ptr[i];
        bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '-' || c == '.' || c == '_' || c == ':' || c == '[' || c == ']';
        if (!fine)
            return false;
    }
    return true;
}

void reply_base_url(struct buf *to, struct slice public_url, bool tls, struct slice host)
{
    while (!slice_is_empty(public_url) && public_url.ptr[public_url.len - 1] == '/')
        public_url.len--;
    if (!slice_is_empty(public_url)) {
        buf_add_slice(to, public_url);
        return;
    }
    buf_add_str(to, tls ? "https://" : "http://");
    buf_add_slice(to, is_host(host) ? host : SLICE("localhost"));
}

void exchange_base_url(const struct exchange *x, struct buf *to)
{
    reply_base_url(to, slice_str(x->service->me->config->public_url), x->client.https,
                   x->client.host);
}
