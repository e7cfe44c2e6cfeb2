/*
 * An event as the API's JSON. Written for speed: a page holds 300 of them, and Ghost reads
 * thousands of pages; so names and punctuation are appended in as few pieces as can be.
 */
#include "base/digest.h"
#include "base/json.h"
#include "mail/date.h"
#include "mail/event.h"

#define PUT(to, literal) buf_add((to), (literal), sizeof(literal) - 1)

/* ,"name":"value" unless the value is empty. The literal holds comma, name and colon. */
#define PUT_UNLESS_EMPTY(to, literal, value)                                                       \
    do {                                                                                           \
        if ((value).len != 0) {                                                                    \
            PUT(to, literal);                                                                      \
            json_put_text((to), (value));                                                          \
        }                                                                                          \
    } while (0)

/* Seconds with six decimals. */
static void put_seconds(struct buf *to, uint64_t us)
{
    uint8_t fraction[7] = {'.'};

    buf_add_u64(to, us / 1000000);
    uint64_t rest = us % 1000000;
    for (size_t i = 6; i > 0; i--, rest /= 10)
        fraction[i] = (uint8_t)('0' + rest % 10);
    buf_add(to, fraction, sizeof fraction);
}

/* Seconds with one to three decimals: 0.0, 0.42 */
static void put_session(struct buf *to, uint32_t ms)
{
    uint8_t fraction[4] = {'.', (uint8_t)('0' + ms / 100 % 10), (uint8_t)('0' + ms / 10 % 10),
                           (uint8_t)('0' + ms % 10)};
    size_t len = sizeof fraction;

    while (len > 2 && fraction[len - 1] == '0')
        len--;
    buf_add_u64(to, ms / 1000);
    buf_add(to, fraction, len);
}

static const char *log_level(const struct event *e)
{
    switch (e->type) {
    case EVENT_REJECTED:
    case EVENT_COMPLAINED:
        return "warn";
    case EVENT_FAILED:
        return e->severity == SEVERITY_PERMANENT ? "error" : "warn";
    case EVENT_ACCEPTED:
    case EVENT_DELIVERED:
    case EVENT_OPENED:
    case EVENT_CLICKED:
    case EVENT_UNSUBSCRIBED:
    case EVENT_STORED:
    case EVENT_TYPE_END:
        break;
    }
    return "info";
}

static bool is_engagement(enum event_type type)
{
    return type == EVENT_OPENED || type == EVENT_CLICKED || type == EVENT_UNSUBSCRIBED;
}

static void put_recipient(struct buf *to, struct slice recipient)
{
    size_t at = slice_rfind_byte(recipient, '@');
    struct slice domain = at == SIZE_MAX ? slice_none() : slice_from(recipient, at + 1);

    PUT(to, ",\"recipient\":");
    json_put_text(to, recipient);
    PUT(to, ",\"recipient-domain\":\"");
    size_t from = to->len;
    json_put_escaped(to, domain);
    for (size_t i = from; i < to->len; i++)
        if (to->ptr[i] >= 'A' && to->ptr[i] <= 'Z') /* escapes are in lower case already */
            to->ptr[i] = (uint8_t)(to->ptr[i] + ('a' - 'A'));
    buf_add_byte(to, '"');
}

static void put_tags(struct buf *to, const struct event *e)
{
    PUT(to, ",\"tags\":[");
    for (size_t i = 0; i < e->tag_count; i++) {
        if (i != 0)
            buf_add_byte(to, ',');
        json_put_text(to, e->tags[i]);
    }
    PUT(to, "],\"campaigns\":[],\"user-variables\":");
}

void event_vars_to_json(struct buf *to, const struct event *e)
{
    bool first = true;

    buf_add_byte(to, '{');
    for (size_t i = 0; i < e->var_count; i++) {
        /* An empty email-id makes Ghost drop the event; without one it looks at the message id. */
        if (e->vars[i].value.len == 0 && slice_eq(e->vars[i].name, SLICE("email-id")))
            continue;
        if (!first)
            buf_add_byte(to, ',');
        first = false;
        json_put_text(to, e->vars[i].name);
        buf_add_byte(to, ':');
        json_put_text(to, e->vars[i].value);
    }
    buf_add_byte(to, '}');
}

/* The variables as an object, or as the text of one. */
static void put_vars(struct buf *to, const struct event *e, bool as_text)
{
    struct buf object = {0};

    if (!as_text) {
        event_vars_to_json(to, e);
        return;
    }
    event_vars_to_json(&object, e);
    json_put_text(to, buf_slice(&object));
    buf_fini(&object);
}

static void put_flags(struct buf *to, const struct event *e, bool as_log)
{
    PUT(to, ",\"flags\":{\"is-routed\":false,\"is-authenticated\":true,\"is-system-test\":false,"
            "\"is-test-mode\":");
    buf_add_str(to, e->test_mode ? "true" : "false");
    if (e->delayed_bounce || as_log) {
        PUT(to, ",\"is-delayed-bounce\":");
        buf_add_str(to, e->delayed_bounce ? "true" : "false");
    }
    if (as_log)
        PUT(to, ",\"is-callback\":false,\"is-encrypted\":false");
    buf_add_byte(to, '}');
}

static void put_envelope(struct buf *to, const struct event *e)
{
    PUT(to, ",\"envelope\":{\"transport\":\"smtp\",\"sender\":");
    json_put_text(to, e->envelope_sender);
    PUT_UNLESS_EMPTY(to, ",\"sending-ip\":", e->sending_ip);
    PUT(to, ",\"targets\":");
    json_put_text(to, e->recipient);
    buf_add_byte(to, '}');
}

/* tls and certificate-verified are left out: SES does not tell. */
static void put_status(struct buf *to, const struct delivery_status *s)
{
    PUT(to, ",\"delivery-status\":{");
    json_put_i64(to, "code", s->code);
    PUT(to, ",\"message\":");
    json_put_text(to, s->message);
    PUT(to, ",\"description\":");
    json_put_text(to, s->description);
    PUT_UNLESS_EMPTY(to, ",\"enhanced-code\":", s->enhanced_code);
    PUT(to, ",\"attempt-no\":");
    buf_add_u64(to, s->attempt_no == 0 ? 1 : s->attempt_no);
    PUT(to, ",\"session-seconds\":");
    put_session(to, s->session_ms);
    if (s->retry_s != 0) {
        PUT(to, ",\"retry-seconds\":");
        buf_add_u64(to, s->retry_s);
    }
    PUT_UNLESS_EMPTY(to, ",\"mx-host\":", s->mx_host);
    buf_add_byte(to, '}');
}

static void put_client(struct buf *to, const struct event *e)
{
    PUT(to, ",\"client-info\":{\"client-name\":");
    json_put_text(to, e->client_name);
    PUT(to, ",\"client-os\":");
    json_put_text(to, e->client_os);
    PUT(to, ",\"client-type\":");
    json_put_text(to, e->client_type);
    PUT(to, ",\"device-type\":");
    json_put_text(to, e->device_type);
    PUT(to, ",\"user-agent\":");
    json_put_text(to, e->user_agent);
    PUT(to, ",\"bot\":");
    json_put_text(to, e->bot);
    buf_add_byte(to, '}');
}

/* -------- parts that events of a model share: made from members with in_parts alone -------- */

static void put_about(struct buf *to, const struct event *e, bool as_log)
{
    put_tags(to, e);
    put_vars(to, e, as_log);
    put_flags(to, e, as_log);
}

static void put_headers(struct buf *to, const struct event *e)
{
    PUT(to, ",\"message-id\":");
    json_put_text(to, e->message_id);
    PUT(to, ",\"from\":");
    json_put_text(to, e->from);
    PUT(to, ",\"subject\":");
    json_put_text(to, e->subject);
    PUT(to, "},\"attachments\":[],\"size\":");
    buf_add_u64(to, e->size_bytes);
}

static void put_part(struct buf *to, const struct event *e, enum event_part part)
{
    struct slice *made = e->shared == NULL ? NULL : &e->shared->parts[part];
    size_t from = to->len;

    if (made != NULL && made->len != 0) {
        buf_add_slice(to, *made);
        return;
    }
    switch (part) {
    case EVENT_PART_ABOUT:
        put_about(to, e, false);
        break;
    case EVENT_PART_HEADERS:
        put_headers(to, e);
        break;
    case EVENT_PART_KEY:
        text_base64url(to, e->message_id);
        break;
    case EVENT_PARTS:
        break;
    }
    if (made != NULL)
        *made = arena_dup(e->shared->arena, slice_from(buf_slice(to), from));
}

/* -------- the whole -------- */

static void put_message(struct buf *to, const struct event *e)
{
    PUT(to, ",\"message\":{\"headers\":{\"to\":");
    json_put_text(to, e->to);
    put_part(to, e, EVENT_PART_HEADERS);
    if (e->type == EVENT_ACCEPTED || e->type == EVENT_STORED) {
        PUT(to, ",\"recipients\":[");
        json_put_text(to, e->recipient);
        buf_add_byte(to, ']');
    }
    buf_add_byte(to, '}');
}

void event_storage_base(struct buf *to, struct slice origin, struct slice domain)
{
    while (!slice_is_empty(origin) && origin.ptr[origin.len - 1] == '/')
        origin.len--;
    buf_add_slice(to, origin);
    buf_printf(to, "/v3/domains/%.*s/messages/", SLICE_ARGS(domain));
}

static void put_storage(struct buf *to, const struct event *e, struct slice base, bool as_log)
{
    buf_add_str(to, as_log ? ",\"storage\":{\"url\":[\"" : ",\"storage\":{\"url\":\"");
    json_put_escaped(to, base);
    size_t at = to->len;
    put_part(to, e, EVENT_PART_KEY);
    size_t len = to->len - at;
    buf_add_str(to, as_log ? "\"],\"key\":\"" : "\",\"key\":\"");
    (void)buf_reserve(to, len); /* what is copied must not move */
    buf_add(to, to->ptr + at, len);
    PUT(to, "\"}");
}

static void put_event(struct buf *to, const struct event *e, struct slice storage_base, bool as_log)
{
    PUT(to, "{\"event\":\"");
    buf_add_str(to, event_type_name(e->type));
    PUT(to, "\",\"id\":\"");
    event_id_text(to, e->id);
    if (as_log) {
        PUT(to, "\",\"@timestamp\":\"");
        date_put_iso8601(to, e->timestamp_us);
        PUT(to, "\",\"account\":{\"id\":\"postern\"},\"domain\":{\"name\":");
        json_put_text(to, e->domain);
        PUT(to, "},\"log-level\":\"");
    } else {
        PUT(to, "\",\"timestamp\":");
        put_seconds(to, e->timestamp_us);
        PUT(to, ",\"log-level\":\"");
    }
    buf_add_str(to, log_level(e));
    buf_add_byte(to, '"');
    if (e->type == EVENT_FAILED) {
        PUT(to, ",\"severity\":\"");
        buf_add_str(to, e->severity == SEVERITY_PERMANENT ? "permanent" : "temporary");
        PUT(to, "\",\"reason\":");
        json_put_text(to, e->reason.len != 0 ? e->reason : SLICE("generic"));
    }
    PUT_UNLESS_EMPTY(to, ",\"method\":", e->method);
    put_recipient(to, e->recipient);
    if (as_log)
        put_about(to, e, true); /* says more */
    else
        put_part(to, e, EVENT_PART_ABOUT);
    if (!is_engagement(e->type) && e->type != EVENT_COMPLAINED)
        put_envelope(to, e);
    if (e->status.present && e->type != EVENT_REJECTED)
        put_status(to, &e->status);
    if (e->type == EVENT_REJECTED) {
        PUT(to, ",\"reject\":{\"reason\":");
        json_put_text(to, e->reason);
        PUT(to, ",\"description\":");
        json_put_text(to, e->status.description);
        buf_add_byte(to, '}');
    }
    if (is_engagement(e->type)) {
        PUT_UNLESS_EMPTY(to, ",\"ip\":", e->ip);
        if (e->client_name.len != 0) /* SES does not tell who leaves a list with what */
            put_client(to, e);
        PUT_UNLESS_EMPTY(to, ",\"url\":", e->url);
    }
    put_message(to, e);
    if (storage_base.len != 0 && e->message_id.len != 0)
        put_storage(to, e, storage_base, as_log);
    PUT_UNLESS_EMPTY(to, ",\"ses-id\":", e->ses_id);
    if (e->ses_us != e->timestamp_us) {
        PUT(to, ",\"ses-timestamp\":");
        put_seconds(to, e->ses_us);
    }
    buf_add_byte(to, '}');
}

void event_to_json(struct buf *to, const struct event *e, struct slice storage_base)
{
    put_event(to, e, storage_base, false);
}

void event_to_log(struct buf *to, const struct event *e, struct slice origin)
{
    struct buf base = {0};

    if (origin.len > 0)
        event_storage_base(&base, origin, e->domain);
    put_event(to, e, buf_slice(&base), true);
    buf_fini(&base);
}
