/*
 * SES v2: takes mail, counts it, and says no where AWS would.
 *
 * Counting is what the tests stand on: per newsletter (tag email-id, else postern-batch) and
 * address, how often a mail was accepted. More than once is a duplicate.
 */
#include <ctype.h>
#include <event2/buffer.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "sandbox/cloud.h"

enum {
    TALLY_BUCKETS = 1 << 18,
    KEPT_MESSAGES = 200,
    LONG_TEXT_BYTES = 1024, /* longer string values are not looked into */
    DESTINATIONS_MAX = 50,
    ENTRIES_MAX = 50,
    TAGS_MAX = 50,
    HEADERS_MAX = 15,
    HEADER_BYTES_MAX = 996,
};

struct tally {
    struct tally *next;
    uint32_t count;
    size_t len;
    char text[]; /* "email-id\taddress" */
};

struct kept {
    char *message_id, *recipients; /* addresses, joined by blanks */
    uint8_t *request;
    size_t request_len;
    uint64_t accepted_ms;
};

struct suppressed {
    struct suppressed *next;
    char *address;
    const char *reason;
    uint64_t since_ms;
};

struct cloud_ses {
    struct cloud *cloud;
    struct tally **tallies;
    uint64_t calls, recipients, distinct, duplicates, throttled, refused, lost;
    struct kept kept[KEPT_MESSAGES];
    uint64_t kept_count;
    struct suppressed *suppressed;
    double tokens;
    uint64_t tokens_at_ns, sent_24h, random;
};

/* -------- answers -------- */

static void add_request_id(struct evhttp_request *http)
{
    char id[40];
    uint8_t random[8];
    struct buf hex = {0};

    digest_random(random, sizeof random);
    text_hex(&hex, slice_of(random, sizeof random));
    (void)snprintf(id, sizeof id, "sandbox-%s", buf_cstr(&hex));
    buf_fini(&hex);
    (void)evhttp_add_header(evhttp_request_get_output_headers(http), "x-amzn-RequestId", id);
}

static void answer(struct evhttp_request *http, int status, struct slice json)
{
    add_request_id(http);
    (void)evhttp_add_header(evhttp_request_get_output_headers(http), "Content-Type",
                            "application/json");
    (void)evbuffer_add(evhttp_request_get_output_buffer(http), json.ptr, json.len);
    evhttp_send_reply(http, status, status == 200 ? "OK" : "Error", NULL);
}

void cloud_ses_answer(struct evhttp_request *http, struct slice json)
{
    answer(http, 200, json);
}

void cloud_ses_error(struct evhttp_request *http, int status, const char *code, const char *message)
{
    struct buf json = {0};

    (void)evhttp_add_header(evhttp_request_get_output_headers(http), "x-amzn-ErrorType", code);
    buf_add_byte(&json, '{');
    json_put_str(&json, "message", slice_str(message));
    buf_add_byte(&json, '}');
    answer(http, status, buf_slice(&json));
    buf_fini(&json);
}

/* -------- chance, repeatable -------- */

static bool chance(struct cloud_ses *s, unsigned per_10000)
{
    s->random = s->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return per_10000 != 0 && (s->random >> 33) % 10000 < per_10000;
}

/* -------- the rate, a bucket of one second -------- */

static bool rate_allows(struct cloud_ses *s, size_t n)
{
    double rate = s->cloud->options.max_send_rate;
    uint64_t now_ns = clock_mono_ns();

    s->tokens += (double)(now_ns - s->tokens_at_ns) / 1e9 * rate;
    s->tokens_at_ns = now_ns;
    if (s->tokens > rate)
        s->tokens = rate;
    if (s->tokens < 1)
        return false;
    s->tokens -= (double)n;
    return true;
}

/* -------- tallies -------- */

static uint64_t hash_of(struct slice s)
{
    uint64_t h = UINT64_C(14695981039346656037);

    for (size_t i = 0; i < s.len; i++)
        h = (h ^ s.ptr[i]) * UINT64_C(1099511628211);
    return h;
}

static void tally(struct cloud_ses *s, struct slice id, struct slice address)
{
    struct buf text = {0};

    buf_add_slice(&text, id);
    buf_add_byte(&text, '\t');
    for (size_t i = 0; i < address.len; i++)
        buf_add_byte(&text, (uint8_t)tolower(address.ptr[i]));
    struct tally **at = &s->tallies[hash_of(buf_slice(&text)) % TALLY_BUCKETS];
    while (*at != NULL && !slice_eq(slice_of((*at)->text, (*at)->len), buf_slice(&text)))
        at = &(*at)->next;
    if (*at == NULL) {
        struct tally *t = mem_alloc(sizeof *t + text.len);
        t->next = NULL;
        t->count = 0;
        t->len = text.len;
        memcpy(t->text, text.ptr, text.len);
        *at = t;
        s->distinct++;
    }
    if ((*at)->count++ > 0)
        s->duplicates++;
    s->recipients++;
    s->sent_24h++;
    buf_fini(&text);
}

/* -------- reading a send -------- */

/* Copies JSON with long string values made empty: parsing them would cost more than all the rest.
 */
static void without_long_texts(struct slice json, struct buf *to)
{
    size_t from = 0, at = 0;

    while (at < json.len) {
        size_t quote = slice_find_byte(slice_from(json, at), '"');
        if (quote == SIZE_MAX)
            break;
        size_t start = at + quote + 1, end = start;
        for (;;) {
            size_t next = slice_find_byte(slice_from(json, end), '"');
            if (next == SIZE_MAX) {
                end = json.len;
                break;
            }
            end += next;
            size_t slashes = 0;
            while (end - slashes > start && json.ptr[end - slashes - 1] == '\\')
                slashes++;
            if (slashes % 2 == 0)
                break;
            end++;
        }
        if (end - start > LONG_TEXT_BYTES) {
            buf_add(to, json.ptr + from, start - from);
            from = end;
        }
        at = end + 1;
    }
    if (from < json.len)
        buf_add(to, json.ptr + from, json.len - from);
}

struct sending {
    struct cloud_ses *s;
    struct cloud_request *r;
    struct arena arena;
    const cJSON *root;
    struct slice set, source, subject;
    struct slice recipients[DESTINATIONS_MAX];
    size_t recipient_count;
    const char *tag_names[TAGS_MAX];
    struct slice tag_values[TAGS_MAX];
    size_t tag_count;
    struct buf headers; /* JSON array of {"name","value"} */
    bool opens, clicks;
    int status;
    const char *code;
    char words[CLOUD_WORDS_BYTES];
};

static bool refuse(struct sending *m, int status, const char *code, const char *words)
{
    m->status = status;
    m->code = code;
    (void)snprintf(m->words, sizeof m->words, "%s", words);
    return false;
}

static bool bad_request(struct sending *m, const char *words)
{
    return refuse(m, 400, "BadRequestException", words);
}

static struct slice bare(struct slice s)
{
    size_t open = slice_rfind_byte(s, '<'), close = slice_rfind_byte(s, '>');

    s = slice_trim(s);
    return open != SIZE_MAX && close != SIZE_MAX && close > open
               ? slice_of(s.ptr + open + 1, close - open - 1)
               : s;
}

static bool is_address(struct slice s)
{
    size_t at = slice_rfind_byte(s, '@');

    return at != SIZE_MAX && at > 0 && at + 1 < s.len && slice_is_ascii(s) &&
           slice_find_byte(s, ' ') == SIZE_MAX;
}

static bool read_destination(struct sending *m, const cJSON *destination)
{
    static const char *const lists[] = {"ToAddresses", "CcAddresses", "BccAddresses"};

    m->recipient_count = 0;
    for (size_t i = 0; i < 3; i++)
        for (const cJSON *a = json_first(json_get(destination, lists[i])); a != NULL; a = a->next) {
            struct slice address = bare(json_text(a));
            if (!is_address(address))
                return bad_request(m,
                                   "Invalid email address: local part and domain must be ASCII.");
            if (m->recipient_count == DESTINATIONS_MAX)
                return bad_request(m, "Recipient count exceeds 50.");
            m->recipients[m->recipient_count++] = arena_dup(&m->arena, address);
        }
    return m->recipient_count > 0 ? true : bad_request(m, "Destination has no addresses.");
}

static bool is_tag_text(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!isalnum(s.ptr[i]) && s.ptr[i] != '-' && s.ptr[i] != '_')
            return false;
    return s.len > 0 && s.len <= 256;
}

static bool read_tags(struct sending *m, const cJSON *tags)
{
    m->tag_count = 0;
    for (const cJSON *t = json_first(tags); t != NULL && m->tag_count < TAGS_MAX; t = t->next) {
        struct slice name = json_get_text(t, "Name"), value = json_get_text(t, "Value");
        if (!is_tag_text(name) || !is_tag_text(value))
            return bad_request(m, "EmailTags: only A-Z a-z 0-9 - _, at most 256 characters.");
        m->tag_names[m->tag_count] = arena_cstr(&m->arena, name);
        m->tag_values[m->tag_count++] = arena_dup(&m->arena, value);
    }
    return true;
}

static void put_header(struct buf *to, struct slice name, struct slice value)
{
    buf_add_str(to, to->len == 1 ? "{" : ",{");
    json_put_str(to, "name", name);
    json_put_str(to, "value", value);
    buf_add_byte(to, '}');
}

static bool read_headers(struct sending *m, const cJSON *headers)
{
    size_t count = 0;

    for (const cJSON *h = json_first(headers); h != NULL; h = h->next) {
        struct slice name = json_get_text(h, "Name"), value = json_get_text(h, "Value");
        if (++count > HEADERS_MAX)
            return bad_request(m, "Too many headers: 15 at most.");
        if (name.len == 0 || value.len == 0 || name.len + value.len > HEADER_BYTES_MAX ||
            slice_find_byte(name, ':') != SIZE_MAX)
            return bad_request(m, "A header's name or value is empty or too long.");
        for (size_t i = 0; i < value.len; i++)
            if (value.ptr[i] < ' ' || value.ptr[i] > '~')
                return bad_request(m, "A header's value holds other than printable ASCII.");
        put_header(&m->headers, name, value);
    }
    return true;
}

/* SES checks the action that the content asks for, on the sender's identity and on the set. */
static bool may_send(struct sending *m)
{
    const struct cloud *c = m->s->cloud;
    const cJSON *content = json_get(m->root, "Content");
    const char *action = json_get(m->root, "BulkEmailEntries") != NULL
                             ? "ses:SendBulkTemplatedEmail"
                         : json_get(content, "Raw") != NULL      ? "ses:SendRawEmail"
                         : json_get(content, "Template") != NULL ? "ses:SendTemplatedEmail"
                                                                 : "ses:SendEmail";
    struct slice from = bare(m->source);
    size_t at = slice_rfind_byte(from, '@');
    struct buf arn = {0};
    bool may;

    buf_printf(&arn, "arn:aws:ses:%s:%s:identity/%.*s", c->region, c->account,
               SLICE_ARGS(slice_from(from, at == SIZE_MAX ? 0 : at + 1)));
    may = cloud_may(m->r, action, buf_slice(&arn), from, m->words);
    if (may && m->set.len > 0) {
        buf_reset(&arn);
        buf_printf(&arn, "arn:aws:ses:%s:%s:configuration-set/%.*s", c->region, c->account,
                   SLICE_ARGS(m->set));
        may = cloud_may(m->r, action, buf_slice(&arn), from, m->words);
    }
    buf_fini(&arn);
    if (!may) {
        m->status = 403;
        m->code = "AccessDeniedException";
    }
    return may;
}

static bool account_sends(struct sending *m)
{
    const struct cloud_options *o = &m->s->cloud->options;

    if (o->enforcement == 2)
        return refuse(m, 400, "AccountSuspendedException",
                      "The account's permission to send has been revoked.");
    if (!o->sending_enabled)
        return refuse(m, 400, "SendingPausedException", "Sending is paused for this account.");
    return true;
}

/* Of the mail whose recipients have been read. */
static bool identities_allow(struct sending *m)
{
    if (cloud_identities_allow(m->s->cloud->identities, bare(m->source), m->recipients,
                               m->recipient_count, &m->code, m->words))
        return true;
    m->status = 400;
    return false;
}

static bool read_common(struct sending *m)
{
    const cJSON *tracking = json_get(json_get(m->root, "ConfigurationOverrides"), "Tracking");
    struct slice opens = json_get_text(tracking, "OpenTrackingEnabled");
    struct slice clicks = json_get_text(tracking, "ClickTrackingEnabled");

    m->set = json_get_text(m->root, "ConfigurationSetName");
    m->source = json_get_text(m->root, "FromEmailAddress");
    m->opens = !slice_eq(opens, SLICE("DISABLED"));
    m->clicks = !slice_eq(clicks, SLICE("DISABLED"));
    switch (m->set.len > 0 ? cloud_sets_state(m->s->cloud->sets, m->set) : CLOUD_SET_SENDS) {
    case CLOUD_SET_ABSENT:
        return refuse(m, 404, "NotFoundException", "Configuration set does not exist.");
    case CLOUD_SET_PAUSED:
        return refuse(m, 400, "SendingPausedException",
                      "Sending is paused for this configuration set.");
    case CLOUD_SET_SENDS:
        break;
    }
    return may_send(m) && account_sends(m);
}

static bool read_send(struct sending *m)
{
    const cJSON *content = json_get(m->root, "Content");
    const cJSON *simple = json_get(content, "Simple"), *raw = json_get(content, "Raw");
    const cJSON *template = json_get(content, "Template");

    if (!cJSON_IsObject(m->root))
        return refuse(m, 400, "SerializationException", "The body is not a JSON object.");
    if ((simple != NULL) + (raw != NULL) + (template != NULL) != 1)
        return bad_request(m, "Exactly one of Simple, Raw and Template.");
    if (!read_common(m) || !read_destination(m, json_get(m->root, "Destination")) ||
        !read_tags(m, json_get(m->root, "EmailTags")))
        return false;
    if (raw == NULL && !is_address(bare(m->source)))
        return bad_request(m, "FromEmailAddress is missing or not an ASCII address.");
    if (simple != NULL && json_get(json_get(simple, "Subject"), "Data") == NULL)
        return bad_request(m, "Missing required field Content.Simple.Subject.Data.");
    if (simple != NULL && json_get(json_get(simple, "Body"), "Html") == NULL &&
        json_get(json_get(simple, "Body"), "Text") == NULL)
        return bad_request(m, "Missing required field Content.Simple.Body.");
    m->subject =
        simple != NULL ? json_get_text(json_get(simple, "Subject"), "Data") : (struct slice){0};
    buf_reset(&m->headers);
    buf_add_byte(&m->headers, '[');
    put_header(&m->headers, SLICE("From"), m->source);
    put_header(&m->headers, SLICE("To"), m->recipients[0]);
    put_header(&m->headers, SLICE("Subject"), m->subject);
    return read_headers(m, json_get(simple != NULL ? simple : template, "Headers")) &&
           identities_allow(m);
}

/* -------- accepting -------- */

static struct slice tag_of(const struct sending *m, const char *name)
{
    for (size_t i = 0; i < m->tag_count; i++)
        if (strcmp(m->tag_names[i], name) == 0)
            return m->tag_values[i];
    return (struct slice){0};
}

static void keep(struct cloud_ses *s, const struct sending *m, const char *message_id)
{
    struct kept *k = &s->kept[s->kept_count++ % KEPT_MESSAGES];
    struct buf addresses = {0};

    free(k->message_id);
    free(k->recipients);
    free(k->request);
    for (size_t i = 0; i < m->recipient_count; i++) {
        buf_add_slice(&addresses, m->recipients[i]);
        buf_add_byte(&addresses, ' ');
    }
    *k = (struct kept){
        .message_id = mem_strdup(message_id),
        .recipients = mem_strdup(buf_cstr(&addresses)),
        .request = mem_dup(m->r->body.ptr, m->r->body.len),
        .request_len = m->r->body.len,
        .accepted_ms = clock_wall_ms(),
    };
    buf_fini(&addresses);
}

static void accept_mail(struct sending *m, char message_id[64])
{
    struct cloud_ses *s = m->s;
    struct slice id = tag_of(m, "email-id");
    uint8_t random[10];
    struct buf hex = {0};

    digest_random(random, sizeof random);
    text_hex(&hex, slice_of(random, sizeof random));
    (void)snprintf(message_id, 64, "0100%012llx-%.8s-4000-8000-%.12s-000000",
                   (unsigned long long)clock_wall_ms(), buf_cstr(&hex), buf_cstr(&hex) + 8);
    buf_fini(&hex);
    if (id.len == 0)
        id = tag_of(m, "postern-batch");
    for (size_t i = 0; i < m->recipient_count; i++)
        tally(s, id, m->recipients[i]);
    keep(s, m, message_id);
    buf_add_byte(&m->headers, ']');

    struct cloud_mail mail = {
        .message_id = slice_str(message_id),
        .source = m->source,
        .subject = m->subject,
        .configuration_set = m->set,
        .recipients = m->recipients,
        .recipient_count = m->recipient_count,
        .tag_names = m->tag_names,
        .tag_values = m->tag_values,
        .tag_count = m->tag_count,
        .headers_json = buf_slice(&m->headers),
        .opens = m->opens,
        .clicks = m->clicks,
        .accepted_ms = clock_wall_ms(),
    };
    cloud_events_mail(s->cloud->events, &mail);
}

static uint64_t sent_24h(const struct cloud_ses *s)
{
    return s->sent_24h + s->cloud->options.sent_before;
}

static void send_one(struct sending *m, struct buf *out)
{
    char message_id[64];

    if (!read_send(m))
        return;
    if (!rate_allows(m->s, m->recipient_count)) {
        m->s->throttled++;
        (void)refuse(m, 429, "TooManyRequestsException", "Maximum sending rate exceeded.");
        return;
    }
    if (m->s->cloud->options.max_24h_send >= 0 &&
        (double)sent_24h(m->s) >= m->s->cloud->options.max_24h_send) {
        (void)refuse(m, 400, "LimitExceededException", "Daily message quota exceeded.");
        return;
    }
    accept_mail(m, message_id);
    buf_printf(out, "{\"MessageId\":\"%s\"}", message_id);
}

static void put_failed(struct sending *m, struct buf *out, const char *status)
{
    buf_add_byte(out, '{');
    json_put_str(out, "Status", slice_str(status));
    json_put_str(out, "Error", slice_str(m->words));
    buf_add_byte(out, '}');
    m->code = NULL;
}

static void send_bulk(struct sending *m, struct buf *out)
{
    const cJSON *content = json_get(json_get(m->root, "DefaultContent"), "Template");
    const cJSON *entries = json_get(m->root, "BulkEmailEntries");

    if (!cJSON_IsObject(content) || cJSON_GetArraySize(entries) < 1 ||
        cJSON_GetArraySize(entries) > ENTRIES_MAX) {
        (void)bad_request(m, "DefaultContent.Template and 1 to 50 BulkEmailEntries are required.");
        return;
    }
    if (!read_common(m))
        return;
    if (!rate_allows(m->s, (size_t)cJSON_GetArraySize(entries))) {
        m->s->throttled++;
        (void)refuse(m, 429, "TooManyRequestsException", "Maximum sending rate exceeded.");
        return;
    }
    buf_add_str(out, "{\"BulkEmailEntryResults\":[");
    for (const cJSON *e = json_first(entries); e != NULL; e = e->next) {
        char message_id[64];
        if (out->ptr[out->len - 1] == '}')
            buf_add_byte(out, ',');
        buf_reset(&m->headers);
        buf_add_byte(&m->headers, '[');
        m->subject = json_get_text(json_get(content, "TemplateContent"), "Subject");
        if (!read_destination(m, json_get(e, "Destination")) ||
            !read_tags(m, json_get(e, "ReplacementTags")) ||
            !read_headers(m, json_get(e, "ReplacementHeaders"))) {
            put_failed(m, out, "INVALID_PARAMETER");
            continue;
        }
        if (!identities_allow(m)) {
            put_failed(m, out,
                       strcmp(m->code, "MessageRejected") == 0 ? "MESSAGE_REJECTED"
                                                               : "MAIL_FROM_DOMAIN_NOT_VERIFIED");
            continue;
        }
        accept_mail(m, message_id);
        buf_printf(out, "{\"Status\":\"SUCCESS\",\"MessageId\":\"%s\"}", message_id);
    }
    buf_add_str(out, "]}");
}

/* -------- answering late -------- */

struct late {
    struct event *timer;
    struct evhttp_request *http;
    struct evhttp_connection *connection;
    int status;
    char *code;
    struct buf text;
};

static void late_free(struct late *l)
{
    event_free(l->timer);
    free(l->code);
    buf_fini(&l->text);
    free(l);
}

static void on_late(evutil_socket_t fd, short what, void *arg)
{
    struct late *l = arg;

    (void)fd, (void)what;
    evhttp_connection_set_closecb(l->connection, NULL, NULL);
    if (l->code != NULL)
        cloud_ses_error(l->http, l->status, l->code, buf_cstr(&l->text));
    else
        answer(l->http, 200, buf_slice(&l->text));
    late_free(l);
}

static void on_late_closed(struct evhttp_connection *connection, void *arg)
{
    (void)connection;
    late_free(arg);
}

static void answer_send(struct cloud_ses *s, struct evhttp_request *http, int status,
                        const char *code, struct slice text)
{
    uint64_t ms = s->cloud->options.latency_ms;

    if (ms == 0) {
        if (code != NULL)
            cloud_ses_error(http, status, code, (const char *)text.ptr);
        else
            answer(http, 200, text);
        return;
    }
    const struct timeval wait = {.tv_sec = (time_t)(ms / 1000),
                                 .tv_usec = (suseconds_t)(ms % 1000 * 1000)};
    struct late *l = mem_zero(1, sizeof *l);
    l->http = http;
    l->connection = evhttp_request_get_connection(http);
    l->status = status;
    l->code = code != NULL ? mem_strdup(code) : NULL;
    buf_add_slice(&l->text, text);
    l->timer = event_new(s->cloud->base, -1, 0, on_late, l);
    (void)event_add(l->timer, &wait);
    evhttp_connection_set_closecb(l->connection, on_late_closed, l);
}

static void drop_connection(struct evhttp_request *http)
{
    evhttp_connection_free(evhttp_request_get_connection(http));
}

static void handle_send(struct cloud_request *r, bool bulk)
{
    struct cloud_ses *s = r->cloud->ses;
    const struct cloud_options *o = &r->cloud->options;
    struct sending m = {.s = s, .r = r};
    struct buf brief = {0}, out = {0};

    s->calls++;
    if (chance(s, o->reset_before_accept_rate)) {
        drop_connection(r->http);
        return;
    }
    if (chance(s, o->throttle_rate)) {
        s->throttled++;
        answer_send(s, r->http, 429, "TooManyRequestsException",
                    slice_of("Maximum sending rate exceeded.", 31));
        return;
    }
    if (chance(s, o->fail_rate)) {
        answer_send(s, r->http, (int)o->fail_status, "InternalServiceErrorException",
                    slice_of("The sandbox was told to fail.", 30));
        return;
    }
    without_long_texts(r->body, &brief);
    cJSON *tree = json_parse(buf_slice(&brief));
    m.root = tree;
    if (bulk)
        send_bulk(&m, &out);
    else
        send_one(&m, &out);
    if (m.code != NULL) {
        s->refused++;
        answer_send(s, r->http, m.status, m.code, slice_of(m.words, strlen(m.words) + 1));
    } else if (chance(s, o->lose_answer_rate)) {
        s->lost++;
        drop_connection(r->http);
    } else {
        answer_send(s, r->http, 200, NULL, buf_slice(&out));
    }
    json_free(tree);
    buf_fini(&brief);
    buf_fini(&out);
    buf_fini(&m.headers);
    arena_fini(&m.arena);
}

/* -------- account, suppression list -------- */

static void handle_account(struct cloud_request *r)
{
    static const char *const enforcements[] = {"HEALTHY", "PROBATION", "SHUTDOWN"};
    const struct cloud_options *o = &r->cloud->options;
    struct buf json = {0};

    buf_printf(&json,
               "{\"DedicatedIpAutoWarmupEnabled\":false,\"EnforcementStatus\":\"%s\","
               "\"ProductionAccessEnabled\":%s,\"SendQuota\":{\"Max24HourSend\":%.1f,"
               "\"MaxSendRate\":%.1f,\"SentLast24Hours\":%llu.0},\"SendingEnabled\":%s,"
               "\"SuppressionAttributes\":{\"SuppressedReasons\":[\"BOUNCE\",\"COMPLAINT\"]}}",
               enforcements[o->enforcement % 3], o->production_access ? "true" : "false",
               o->max_24h_send, o->max_send_rate, (unsigned long long)sent_24h(r->cloud->ses),
               o->sending_enabled && o->enforcement != 2 ? "true" : "false");
    answer(r->http, 200, buf_slice(&json));
    buf_fini(&json);
}

static struct suppressed **suppressed_at(struct cloud_ses *s, struct slice address)
{
    struct suppressed **at = &s->suppressed;

    while (*at != NULL && !slice_eq_nocase(slice_str((*at)->address), address))
        at = &(*at)->next;
    return at;
}

const char *cloud_ses_suppressed(struct cloud_ses *s, struct slice address)
{
    struct suppressed *found = *suppressed_at(s, address);

    return found != NULL ? found->reason : NULL;
}

void cloud_ses_suppress(struct cloud_ses *s, struct slice address, const char *reason)
{
    struct suppressed **at = suppressed_at(s, address);

    if (*at == NULL) {
        *at = mem_zero(1, sizeof **at);
        (*at)->address = mem_dup(address.ptr, address.len + 1);
        (*at)->address[address.len] = '\0';
    }
    (*at)->reason = strcmp(reason, "COMPLAINT") == 0 ? "COMPLAINT" : "BOUNCE";
    (*at)->since_ms = clock_wall_ms();
}

static void put_suppressed(struct buf *json, const struct suppressed *u)
{
    buf_add_byte(json, '{');
    json_put_str(json, "EmailAddress", slice_str(u->address));
    json_put_str(json, "Reason", slice_str(u->reason));
    buf_printf(json, ",\"LastUpdateTime\":%llu.%03u}", (unsigned long long)(u->since_ms / 1000),
               (unsigned)(u->since_ms % 1000));
}

static void handle_suppression(struct cloud_request *r, struct slice address)
{
    struct cloud_ses *s = r->cloud->ses;
    struct buf json = {0};

    if (address.len == 0 && strcmp(r->method, "PUT") == 0) {
        cJSON *tree = json_parse(r->body);
        struct slice given = json_get_text(tree, "EmailAddress");
        if (is_address(given)) {
            cloud_ses_suppress(s, given,
                               (const char *)json_get_text(tree, "Reason").ptr != NULL
                                   ? (const char *)json_get_text(tree, "Reason").ptr
                                   : "BOUNCE");
            answer(r->http, 200, SLICE("{}"));
        } else {
            cloud_ses_error(r->http, 400, "BadRequestException", "EmailAddress is not valid.");
        }
        json_free(tree);
    } else if (address.len == 0) {
        buf_add_str(&json, "{\"SuppressedDestinationSummaries\":[");
        for (const struct suppressed *u = s->suppressed; u != NULL; u = u->next) {
            if (json.ptr[json.len - 1] == '}')
                buf_add_byte(&json, ',');
            put_suppressed(&json, u);
        }
        buf_add_str(&json, "]}");
        answer(r->http, 200, buf_slice(&json));
    } else {
        struct suppressed **at = suppressed_at(s, address), *found = *at;
        if (found == NULL) {
            cloud_ses_error(r->http, 404, "NotFoundException",
                            "Email address does not exist on your suppression list.");
        } else if (strcmp(r->method, "DELETE") == 0) {
            *at = found->next;
            free(found->address);
            free(found);
            answer(r->http, 200, SLICE("{}"));
        } else {
            buf_add_str(&json, "{\"SuppressedDestination\":");
            put_suppressed(&json, found);
            buf_add_byte(&json, '}');
            answer(r->http, 200, buf_slice(&json));
        }
    }
    buf_fini(&json);
}

/* -------- tags -------- */

void cloud_ses_merge_tags(cJSON *list, const cJSON *tags)
{
    for (const cJSON *t = json_first(tags); t != NULL; t = t->next) {
        int at = 0;
        const cJSON *old = json_first(list);
        while (old != NULL && !slice_eq(json_get_text(old, "Key"), json_get_text(t, "Key"))) {
            old = old->next;
            at++;
        }
        if (old != NULL)
            cJSON_DeleteItemFromArray(list, at);
        (void)cJSON_AddItemToArray(list, cJSON_Duplicate(t, true));
    }
}

static void handle_tags(struct cloud_request *r)
{
    cJSON *in = json_parse(r->body);
    const cJSON *tags = json_get(in, "Tags");
    struct slice arn = json_get_text(in, "ResourceArn"), kind, name;
    bool done = false;

    /* arn:aws:ses:REGION:ACCOUNT:KIND/NAME */
    (void)slice_cut(slice_from(arn, slice_rfind_byte(arn, ':') + 1), '/', &kind, &name);
    if (slice_eq(kind, SLICE("configuration-set")))
        done = cloud_sets_tag(r->cloud->sets, name, tags);
    else if (slice_eq(kind, SLICE("identity")))
        done = cloud_identities_tag(r->cloud->identities, name, tags);
    if (done)
        answer(r->http, 200, SLICE("{}"));
    else
        cloud_ses_error(r->http, 404, "NotFoundException", "There is no resource of that ARN.");
    json_free(in);
}

/* -------- which call it is -------- */

/* A path label behind "/v2/email/" may be any; what a call may do is asked of its action. */
enum about { SENDING, BULK_SENDING, ACCOUNT, SUPPRESSION, SETS, IDENTITIES, TAGS };

static const struct {
    const char *method, *path, *action; /* '*' stands for one label; action NULL: asked later */
    enum about about;
} routes[] = {
    {"POST", "outbound-emails", NULL, SENDING},
    {"POST", "outbound-bulk-emails", NULL, BULK_SENDING},
    {"GET", "account", "ses:GetAccount", ACCOUNT},
    {"GET", "suppression/addresses", "ses:ListSuppressedDestinations", SUPPRESSION},
    {"PUT", "suppression/addresses", "ses:PutSuppressedDestination", SUPPRESSION},
    {"GET", "suppression/addresses/*", "ses:GetSuppressedDestination", SUPPRESSION},
    {"DELETE", "suppression/addresses/*", "ses:DeleteSuppressedDestination", SUPPRESSION},
    {"GET", "configuration-sets", "ses:ListConfigurationSets", SETS},
    {"POST", "configuration-sets", "ses:CreateConfigurationSet", SETS},
    {"GET", "configuration-sets/*", "ses:GetConfigurationSet", SETS},
    {"DELETE", "configuration-sets/*", "ses:DeleteConfigurationSet", SETS},
    {"PUT", "configuration-sets/*/sending", "ses:PutConfigurationSetSendingOptions", SETS},
    {"PUT", "configuration-sets/*/delivery-options", "ses:PutConfigurationSetDeliveryOptions",
     SETS},
    {"PUT", "configuration-sets/*/reputation-options", "ses:PutConfigurationSetReputationOptions",
     SETS},
    {"PUT", "configuration-sets/*/suppression-options", "ses:PutConfigurationSetSuppressionOptions",
     SETS},
    {"PUT", "configuration-sets/*/tracking-options", "ses:PutConfigurationSetTrackingOptions",
     SETS},
    {"PUT", "configuration-sets/*/vdm-options", "ses:PutConfigurationSetVdmOptions", SETS},
    {"GET", "configuration-sets/*/event-destinations", "ses:GetConfigurationSetEventDestinations",
     SETS},
    {"POST", "configuration-sets/*/event-destinations",
     "ses:CreateConfigurationSetEventDestination", SETS},
    {"PUT", "configuration-sets/*/event-destinations/*",
     "ses:UpdateConfigurationSetEventDestination", SETS},
    {"DELETE", "configuration-sets/*/event-destinations/*",
     "ses:DeleteConfigurationSetEventDestination", SETS},
    {"GET", "identities", "ses:ListEmailIdentities", IDENTITIES},
    {"POST", "identities", "ses:CreateEmailIdentity", IDENTITIES},
    {"GET", "identities/*", "ses:GetEmailIdentity", IDENTITIES},
    {"DELETE", "identities/*", "ses:DeleteEmailIdentity", IDENTITIES},
    {"PUT", "identities/*/mail-from", "ses:PutEmailIdentityMailFromAttributes", IDENTITIES},
    {"PUT", "identities/*/dkim", "ses:PutEmailIdentityDkimAttributes", IDENTITIES},
    {"PUT", "identities/*/feedback", "ses:PutEmailIdentityFeedbackAttributes", IDENTITIES},
    {"PUT", "identities/*/configuration-set", "ses:PutEmailIdentityConfigurationSetAttributes",
     IDENTITIES},
    {"POST", "tags", "ses:TagResource", TAGS},
};

enum { ROUTES = sizeof routes / sizeof routes[0], LABELS = 4 };

static bool path_is(struct slice path, const char *pattern)
{
    struct slice wanted = slice_str(pattern), a, b;

    while (wanted.len > 0 && path.len > 0) {
        (void)slice_cut(path, '/', &a, &path);
        (void)slice_cut(wanted, '/', &b, &wanted);
        if (!slice_eq(a, b) && (!slice_eq(b, SLICE("*")) || a.len == 0))
            return false;
    }
    return wanted.len == 0 && path.len == 0;
}

/* What the permission is asked for. */
static void put_resource(struct buf *to, const struct cloud *c, enum about about, const char *label)
{
    const char *kind = about == SETS ? "configuration-set" : "identity";

    if ((about == SETS || about == IDENTITIES) && label[0] != '\0')
        buf_printf(to, "arn:aws:ses:%s:%s:%s/%s", c->region, c->account, kind, label);
    else
        buf_add_byte(to, '*');
}

static void handle_route(struct cloud_request *r, size_t route, struct slice path)
{
    struct buf labels[LABELS] = {{0}}, resource = {0};
    char words[CLOUD_WORDS_BYTES];
    struct slice label;

    for (size_t i = 0; i < LABELS && path.len > 0; i++) {
        (void)slice_cut(path, '/', &label, &path);
        (void)text_percent_decode(&labels[i], label, false);
    }
    put_resource(&resource, r->cloud, routes[route].about, buf_cstr(&labels[1]));
    if (routes[route].action != NULL &&
        !cloud_may(r, routes[route].action, buf_slice(&resource), slice_none(), words)) {
        cloud_ses_error(r->http, 403, "AccessDeniedException", words);
    } else {
        switch (routes[route].about) {
        case SENDING:
        case BULK_SENDING:
            handle_send(r, routes[route].about == BULK_SENDING);
            break;
        case ACCOUNT:
            handle_account(r);
            break;
        case SUPPRESSION:
            handle_suppression(r, buf_slice(&labels[2]));
            break;
        case SETS:
            cloud_sets_handle(r, buf_cstr(&labels[1]), buf_cstr(&labels[2]), buf_cstr(&labels[3]));
            break;
        case IDENTITIES:
            cloud_identities_handle(r, buf_cstr(&labels[1]), buf_cstr(&labels[2]));
            break;
        case TAGS:
            handle_tags(r);
            break;
        }
    }
    for (size_t i = 0; i < LABELS; i++)
        buf_fini(&labels[i]);
    buf_fini(&resource);
}

void cloud_ses_handle(struct cloud_request *r)
{
    const struct slice base = SLICE("/v2/email/");
    struct slice path = slice_from(r->path, base.len);

    for (size_t i = 0; i < ROUTES; i++)
        if (strcmp(r->method, routes[i].method) == 0 && path_is(path, routes[i].path)) {
            handle_route(r, i, path);
            return;
        }
    cloud_ses_error(r->http, 404, "NotFoundException", "The sandbox does not know that call.");
}

/* -------- the control endpoint's parts -------- */

void cloud_ses_stats(struct cloud_ses *s, struct buf *json)
{
    json_put_u64(json, "accepted_calls", s->calls);
    json_put_u64(json, "accepted_recipients", s->recipients);
    json_put_u64(json, "distinct_recipients", s->distinct);
    json_put_u64(json, "duplicates", s->duplicates);
    json_put_u64(json, "throttled", s->throttled);
    json_put_u64(json, "refused", s->refused);
    json_put_u64(json, "answers_lost", s->lost);
}

void cloud_ses_messages(struct cloud_ses *s, struct slice query, struct buf *json)
{
    size_t at = slice_find(query, SLICE("recipient="));
    struct slice wanted, rest;
    struct buf plain = {0};

    (void)slice_cut(at == SIZE_MAX ? slice_none() : slice_from(query, at + 10), '&', &wanted,
                    &rest);
    (void)text_percent_decode(&plain, wanted, true);
    buf_add_byte(json, '[');
    for (size_t i = 0; i < KEPT_MESSAGES; i++) {
        const struct kept *k = &s->kept[i];
        if (k->message_id == NULL ||
            (plain.len > 0 &&
             slice_find_nocase(slice_str(k->recipients), buf_slice(&plain)) == SIZE_MAX))
            continue;
        buf_add_str(json, json->ptr[json->len - 1] == '[' ? "{" : ",{");
        json_put_str(json, "MessageId", slice_str(k->message_id));
        json_put_str(json, "recipients", slice_trim(slice_str(k->recipients)));
        json_put_name(json, "request");
        buf_add(json, k->request, k->request_len);
        buf_add_byte(json, '}');
    }
    buf_add_byte(json, ']');
    buf_fini(&plain);
}

void cloud_ses_recipients(struct cloud_ses *s, struct buf *text)
{
    for (size_t i = 0; i < TALLY_BUCKETS; i++)
        for (const struct tally *t = s->tallies[i]; t != NULL; t = t->next) {
            buf_add(text, t->text, t->len);
            buf_printf(text, "\t%u\n", t->count);
        }
}

void cloud_ses_reset(struct cloud_ses *s)
{
    for (size_t i = 0; i < TALLY_BUCKETS; i++)
        while (s->tallies[i] != NULL) {
            struct tally *gone = s->tallies[i];
            s->tallies[i] = gone->next;
            free(gone);
        }
    for (size_t i = 0; i < KEPT_MESSAGES; i++) {
        free(s->kept[i].message_id);
        free(s->kept[i].recipients);
        free(s->kept[i].request);
        s->kept[i] = (struct kept){0};
    }
    while (s->suppressed != NULL) {
        struct suppressed *gone = s->suppressed;
        s->suppressed = gone->next;
        free(gone->address);
        free(gone);
    }
    s->calls = s->recipients = s->distinct = s->duplicates = s->throttled = s->refused = s->lost =
        0;
    s->kept_count = s->sent_24h = 0;
}

struct cloud_ses *cloud_ses_create(struct cloud *c)
{
    struct cloud_ses *s = mem_zero(1, sizeof *s);

    s->cloud = c;
    s->tallies = mem_zero(TALLY_BUCKETS, sizeof(struct tally *));
    s->random = c->options.seed;
    s->tokens_at_ns = clock_mono_ns();
    s->tokens = c->options.max_send_rate;
    return s;
}

void cloud_ses_destroy(struct cloud_ses *s)
{
    cloud_ses_reset(s);
    free(s->tallies);
    free(s);
}
