/*
 * GET /health: can this server accept a message and store it? No key is asked for, so it names no
 * domain and counts nothing. "alarms" stands there when something else is wrong.
 */
#include "base/clock.h"
#include "base/json.h"
#include "httpd/reply.h"
#include "mail/date.h"

enum { WRITER_STALE_MS = 5000, WRITER_GAUGE = 0 };

static void put_reason(struct buf *to, bool *any, const char *reason)
{
    if (*any)
        buf_add_byte(to, ',');
    json_put_text(to, slice_str(reason));
    *any = true;
}

static bool writer_is_well(const struct gauges *gauges)
{
    const struct gauge_slot *writer = &gauges->slots[WRITER_GAUGE];
    uint64_t beat = atomic_load_explicit(&writer->heartbeat_mono_ms, memory_order_relaxed);
    uint64_t now = clock_mono_ms();

    return gauges_are_renewing(gauges, now) || /* mail waits for it in the ring */
           (atomic_load_explicit(&writer->state, memory_order_relaxed) == GAUGE_READY &&
            (beat >= now || now - beat < WRITER_STALE_MS));
}

static void put_alarm(struct buf *to, bool *any, const char *alarm, uint64_t since_ms,
                      const char *text)
{
    if (!*any) {
        json_put_name(to, "alarms");
        buf_add_byte(to, '[');
    } else {
        buf_add_byte(to, ',');
    }
    *any = true;
    buf_add_byte(to, '{');
    json_put_str(to, "alarm", slice_str(alarm));
    json_put_u64(to, "since_ms", since_ms);
    json_put_str(to, "text", slice_str(text));
    buf_add_byte(to, '}');
}

/* What is wrong although mail can be accepted and stored: it changes no status. */
static void put_alarms(struct buf *to, const struct gauges *g)
{
    const struct gauge_events *e = &g->events;
    uint64_t grows_since_ms =
                 atomic_load_explicit(&g->buffer.grows_since_wall_ms, memory_order_relaxed),
             now_ms = clock_wall_ms();
    bool any = false;

    if (atomic_load_explicit(&e->silent_domains, memory_order_relaxed) != 0)
        put_alarm(to, &any, "no-events",
                  atomic_load_explicit(&e->silent_since_wall_ms, memory_order_relaxed),
                  "mails go out and no events come back from SES: postern status says more");
    if (grows_since_ms != 0 && now_ms > grows_since_ms &&
        now_ms - grows_since_ms > GAUGE_BUFFER_GROWS_MS)
        put_alarm(to, &any, "buffer-grows", grows_since_ms,
                  "newsletters wait in the buffer queue and no machine takes them: postern status "
                  "says more");
    if (any)
        buf_add_byte(to, ']');
}

/* What keeps it from accepting: JSON texts with commas between. */
static bool find_reasons(const struct service *s, struct buf *reasons)
{
    bool ill = false;

    if (s->store == NULL)
        put_reason(reasons, &ill, "the store is not open yet");
    else if (store_is_full(s->store))
        put_reason(reasons, &ill, "the disk is full");
    if (!writer_is_well(s->me->gauges))
        put_reason(reasons, &ill, "the writer is not running");
    if (s->leaving && !gauges_are_renewing(s->me->gauges, clock_mono_ms()))
        put_reason(reasons, &ill, "this process is stopping");
    return ill;
}

static void reply_health(struct exchange *x, bool ill, struct buf *body)
{
    if (ill)
        evhttp_add_header(evhttp_request_get_output_headers(x->req), "Retry-After", "1");
    reply_json(x, ill ? 503 : 200, body);
}

/* GET /healthcheck: the same in an older proxy's shape. SOURCE spec/typetale.md. */
void healthcheck_handle(struct exchange *x)
{
    struct buf reasons = {0}, body = {0}, now = {0};
    bool ill = find_reasons(x->service, &reasons);

    date_put_iso8601(&now, clock_wall_us());
    buf_add_byte(&body, '{');
    json_put_str(&body, "timestamp", buf_slice(&now));
    json_put_u64(&body, "status", ill ? 503 : 200);
    buf_add_byte(&body, '}');
    buf_fini(&now);
    buf_fini(&reasons);
    reply_health(x, ill, &body);
}

void health_handle(struct exchange *x)
{
    struct service *s = x->service;
    struct buf reasons = {0}, body = {0};
    bool ill = find_reasons(s, &reasons);

    buf_add_str(&body, "{");
    json_put_str(&body, "status", ill ? SLICE("unavailable") : SLICE("ok"));
    if (ill) {
        json_put_name(&body, "reasons");
        buf_add_byte(&body, '[');
        buf_add_slice(&body, buf_slice(&reasons));
        buf_add_byte(&body, ']');
    }
    put_alarms(&body, s->me->gauges);
    buf_add_str(&body, "}");
    buf_fini(&reasons);
    reply_health(x, ill, &body);
}
