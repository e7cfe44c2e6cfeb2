#include "aws/http.h"

#include <assert.h>
#include <curl/curl.h>
#include <event2/event.h>
#include <stdlib.h>

#include "aws/endpoint.h"
#include "aws/error.h"
#include "aws/sign.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

enum {
    SERVICES = AWS_IAM + 1,
    CONNECT_TIMEOUT_MS = 10000,
    CONNECTION_LIFE_MAX_S =
        300,                /* then the name is looked up again: AWS moves its endpoints about */
    WAITING_LOOK_MS = 1000, /* how often calls without a connection are asked for their deadline */
    CREDENTIALS_LOOK_MS = 20, /* and, where calls wait for credentials, whether there are any */
    RENEWAL_MAX_MS = 10000,   /* how long a refused call waits for other credentials */
    CLOCK_TOLERANCE_S = 240,  /* AWS allows 300; a Date this far off is no network delay */
    KEEP_BODY_BYTES = 1024 * 1024, /* room for an answer that a slot keeps for the next one */
    HEADER_LINES = 8,
    /* What curl writes at once: a whole mail, as a rule. With its own 64 KB each one costs a second
     * write and two turns of the loop. */
    WRITE_BYTES = 256 * 1024,
    REUSE_BODY_BYTES = 1024 * 1024, /* larger ones go over a connection of their own */
};

struct endpoint {
    struct endpoint *next; /* of another region */
    enum aws_service service;
    char *region;
    struct endpoint_parts at;
    /* The signing key, and what it was derived from. */
    struct sign_scope scope;
    uint64_t key_generation; /* 0 = none yet */
    uint8_t key[SHA256_BYTES];
};

/* A call: first in line, then in a slot. */
struct call {
    struct call *next;
    struct aws_request request;
    uint64_t deadline_mono_ms;
};

struct line {
    struct call *first, **end;
    unsigned count;
};

/* One of the `connections` that may be busy at once: an easy handle and what it works with. */
struct slot {
    struct slot *next_free;
    struct aws_client *client;
    CURL *easy;
    struct call *call;
    struct buf url, headers, scratch, body;
    struct curl_slist lines[HEADER_LINES];
    char words[CURL_ERROR_SIZE];
    uint64_t signed_with;    /* generation of the credentials */
    int64_t signed_wall_s;   /* AWS's time, as we believed it */
    int64_t written_at_gate; /* CURLINFO_REQUEST_SIZE when the gate was passed; -1 = not yet */
    bool stopped_at_gate;    /* curl wanted to send a second time */
    bool too_long;
    bool clock_corrected, credentials_renewed; /* each one time per call */
    /* Refused for its credentials: its answer is kept here until there are others, or none. */
    bool is_parked;
    uint64_t parked_until_mono_ms, answers_seen;
};

struct aws_client {
    struct event_base *base;
    CURLM *multi;
    struct event *timer; /* curl's */
    struct event *waiting_tick, *parked_tick;
    struct vault *vault;
    char *region;                         /* "" = not known yet: it comes with the credentials */
    char *configured[SERVICES];           /* endpoints in place of the regional ones; "" = none */
    struct endpoint *endpoints[SERVICES]; /* of each service, as they are needed */
    struct endpoint_parts unsigned_at; /* the configured one of SNS, where its keys are fetched */
    struct slot *slots, *free_slots;
    unsigned slot_count, busy_count, parked_count;
    struct line waiting;
    struct call *free_calls;
    struct digest_memo bodies; /* of SES: calls of one batch begin alike */
    int64_t clock_offset_s;    /* AWS's time less ours */
    bool in_callback;
};

/* ---- the line ---- */

static void line_add(struct line *l, struct call *call)
{
    call->next = NULL;
    *l->end = call;
    l->end = &call->next;
    l->count++;
}

static struct call *line_take(struct line *l)
{
    struct call *call = l->first;

    assert(call != NULL);
    l->first = call->next;
    if (l->first == NULL)
        l->end = &l->first;
    l->count--;
    return call;
}

/* ---- what curl asks of us ---- */

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct slot *s = arg;
    size_t len = size * count;

    if (len > AWS_BODY_MAX_BYTES - s->body.len) {
        s->too_long = true;
        return 0;
    }
    buf_add(&s->body, data, len);
    return len;
}

static int64_t bytes_written(const struct slot *s)
{
    /* Counts what the kernel, or TLS, has taken of every request of this handle's present call. */
    long written = 0;
    CURLcode code = curl_easy_getinfo(s->easy, CURLINFO_REQUEST_SIZE, &written);

    assert(code == CURLE_OK);
    return written;
}

/* The gate: connected, and about to write. See TWICE in the header. */
static int on_gate(void *arg, char *peer, char *local, int peer_port, int local_port)
{
    struct slot *s = arg;

    (void)peer, (void)local, (void)peer_port, (void)local_port;
    if (s->written_at_gate >= 0 && bytes_written(s) > s->written_at_gate) {
        s->stopped_at_gate = true;
        return CURL_PREREQFUNC_ABORT;
    }
    s->written_at_gate = bytes_written(s);
    return CURL_PREREQFUNC_OK;
}

static void settle_finished(struct aws_client *c);

static void drive(struct aws_client *c, curl_socket_t fd, int what)
{
    int running = 0;
    CURLMcode code = curl_multi_socket_action(c->multi, fd, what, &running);

    assert(code == CURLM_OK);
    settle_finished(c);
}

static void on_socket(evutil_socket_t fd, short what, void *arg)
{
    drive(arg, fd,
          (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    drive(arg, CURL_SOCKET_TIMEOUT, 0);
}

static int on_want_socket(CURL *easy, curl_socket_t fd, int want, void *arg, void *watch)
{
    struct aws_client *c = arg;
    struct event *ev = watch;

    (void)easy;
    if (want == CURL_POLL_REMOVE) {
        if (ev != NULL)
            event_free(ev);
        (void)curl_multi_assign(c->multi, fd, NULL);
        return 0;
    }
    short what = (short)(EV_PERSIST | (want & CURL_POLL_IN ? EV_READ : 0) |
                         (want & CURL_POLL_OUT ? EV_WRITE : 0));
    if (ev == NULL) {
        ev = event_new(c->base, fd, what, on_socket, c);
        assert(ev != NULL);
        (void)curl_multi_assign(c->multi, fd, ev);
    } else {
        (void)event_del(ev);
        int ok = event_assign(ev, c->base, fd, what, on_socket, c);
        assert(ok == 0);
    }
    int ok = event_add(ev, NULL);
    assert(ok == 0);
    return 0;
}

static int on_want_timer(CURLM *multi, long timeout_ms, void *arg)
{
    struct aws_client *c = arg;

    (void)multi;
    if (timeout_ms < 0) {
        (void)event_del(c->timer);
    } else {
        struct timeval after = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
        (void)event_add(c->timer, &after);
    }
    return 0;
}

/* ---- a request, made and signed ---- */

static int64_t aws_now_s(const struct aws_client *c)
{
    return (int64_t)(clock_wall_ms() / 1000) + c->clock_offset_s;
}

static struct slice service_name(enum aws_service service)
{
    switch (service) {
    case AWS_SES:
        return SLICE("ses");
    case AWS_SQS:
        return SLICE("sqs");
    case AWS_SNS:
        return SLICE("sns");
    case AWS_STS:
        return SLICE("sts");
    case AWS_IAM:
        return SLICE("iam");
    }
    abort(); /* no service */
}

static const char *host_label(enum aws_service service)
{
    switch (service) {
    case AWS_SES:
        return "email";
    case AWS_SQS:
        return "sqs";
    case AWS_SNS:
        return "sns";
    case AWS_STS:
        return "sts";
    case AWS_IAM:
        return "iam";
    }
    abort(); /* no service */
}

static void refresh_key(struct endpoint *e, const struct credentials *who, const char *date)
{
    bool same_day = memcmp(e->scope.date, date, 8) == 0;

    memcpy(e->scope.date, date, sizeof e->scope.date);
    if (same_day && e->key_generation == who->generation)
        return;
    sign_key(slice_str(who->secret_access_key), &e->scope, e->key);
    e->key_generation = who->generation;
}

/* Field lines in one buffer, and curl's list over them. The list is made when all are written, for
 * the buffer moves as it grows. */
struct header_lines {
    size_t at[HEADER_LINES];
    size_t count;
};

static void begin_line(struct slot *s, struct header_lines *h, const char *name)
{
    assert(h->count < HEADER_LINES);
    h->at[h->count++] = s->headers.len;
    buf_add_str(&s->headers, name);
}

static void add_line(struct slot *s, struct header_lines *h, const char *name, struct slice value)
{
    begin_line(s, h, name);
    buf_add_slice(&s->headers, value);
    buf_add_byte(&s->headers, '\0');
}

static void link_lines(struct slot *s, const struct header_lines *h)
{
    for (size_t i = 0; i < h->count; i++)
        s->lines[i] = (struct curl_slist){(char *)s->headers.ptr + h->at[i],
                                          i + 1 < h->count ? &s->lines[i + 1] : NULL};
}

static void set_options(struct slot *s, bool is_loopback, uint64_t timeout_ms)
{
    const struct aws_request *r = &s->call->request;
    bool is_post = strcmp(r->method, "POST") == 0, is_get = strcmp(r->method, "GET") == 0;

    curl_easy_setopt(s->easy, CURLOPT_URL, buf_cstr(&s->url));
    if (is_post || r->body.len > 0) {
        curl_easy_setopt(s->easy, CURLOPT_POST, 1L);
        curl_easy_setopt(s->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.len);
        curl_easy_setopt(s->easy, CURLOPT_POSTFIELDS,
                         r->body.len > 0 ? (const char *)r->body.ptr : "");
    } else {
        curl_easy_setopt(s->easy, CURLOPT_HTTPGET, 1L);
    }
    curl_easy_setopt(s->easy, CURLOPT_FRESH_CONNECT, r->body.len > REUSE_BODY_BYTES ? 1L : 0L);
    curl_easy_setopt(s->easy, CURLOPT_CUSTOMREQUEST, is_post || is_get ? NULL : r->method);
    curl_easy_setopt(s->easy, CURLOPT_PROXY, is_loopback ? "" : NULL);
    curl_easy_setopt(s->easy, CURLOPT_HTTPHEADER, s->lines);
    curl_easy_setopt(s->easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
}

static void sign(struct slot *s, struct endpoint *e, const struct credentials *who,
                 struct slice path)
{
    const struct aws_request *r = &s->call->request;
    struct header_lines lines = {0};
    struct sign_header fields[HEADER_LINES];
    size_t count = 0;
    char date[SIGN_DATE_CHARS + 1];

    s->signed_wall_s = aws_now_s(s->client);
    s->signed_with = who->generation;
    sign_date((uint64_t)s->signed_wall_s, date);
    refresh_key(e, who, date);

    buf_reset(&s->headers);
    fields[count++] = (struct sign_header){SLICE("host"), slice_str(e->at.host)};
    fields[count++] = (struct sign_header){SLICE("x-amz-date"), slice_of(date, SIGN_DATE_CHARS)};
    add_line(s, &lines, "Host: ", slice_str(e->at.host));
    add_line(s, &lines, "X-Amz-Date: ", slice_of(date, SIGN_DATE_CHARS));
    if (who->session_token[0] != '\0') {
        struct slice token = slice_str(who->session_token);
        fields[count++] = (struct sign_header){SLICE("x-amz-security-token"), token};
        add_line(s, &lines, "X-Amz-Security-Token: ", token);
    }
    if (r->target != NULL) {
        fields[count++] = (struct sign_header){SLICE("x-amz-target"), slice_str(r->target)};
        add_line(s, &lines, "X-Amz-Target: ", slice_str(r->target));
    }
    if (r->content_type != NULL) {
        fields[count++] = (struct sign_header){SLICE("content-type"), slice_str(r->content_type)};
        add_line(s, &lines, "Content-Type: ", slice_str(r->content_type));
    } else {
        add_line(s, &lines, "Content-Type:", (struct slice){0}); /* curl is not to add its own */
    }
    add_line(s, &lines, "Expect:", (struct slice){0});

    uint8_t body_sha256[SHA256_BYTES];
    if (r->service == AWS_SES)
        digest_sha256_alike(&s->client->bodies, r->body, body_sha256);
    else
        digest_sha256(r->body, body_sha256);
    struct slice plain, query;
    (void)slice_cut(path, '?', &plain, &query);
    begin_line(s, &lines, "Authorization: ");
    sign_authorization(&s->headers, &s->scratch,
                       &(struct sign_request){.method = slice_str(r->method),
                                              .path = plain,
                                              .query = query,
                                              .headers = fields,
                                              .header_count = count,
                                              .body = r->body,
                                              .body_sha256 = body_sha256},
                       &e->scope, slice_str(who->access_key_id), e->key);
    buf_add_byte(&s->headers, '\0');
    link_lines(s, &lines);
}

static struct endpoint *endpoint_for(struct aws_client *c, const struct aws_request *r);

/* A call with a URL of its own: nothing of ours goes along. True when it stays on this machine. */
static bool address_plainly(struct slot *s)
{
    const char *url = s->call->request.url;
    const struct endpoint_parts *sns = &s->client->unsigned_at;
    struct header_lines lines = {0};

    buf_add_str(&s->url, url);
    buf_reset(&s->headers);
    add_line(s, &lines, "Accept:", (struct slice){0});
    link_lines(s, &lines);
    return sns->is_loopback && slice_starts(slice_str(url), slice_str(sns->origin));
}

static bool address_and_sign(struct slot *s, const struct credentials *who)
{
    struct endpoint *e = endpoint_for(s->client, &s->call->request);

    buf_add_str(&s->url, e->at.origin);
    size_t path_at = s->url.len;
    buf_add_str(&s->url, e->at.prefix);
    buf_add_str(&s->url, s->call->request.path);
    sign(s, e, who, slice_from(buf_slice(&s->url), path_at));
    return e->at.is_loopback;
}

/* NULL: none yet, or expired. The region that comes with the first is the client's from then on. */
static const struct credentials *who_signs(struct aws_client *c, uint64_t now_mono_ms)
{
    const struct credentials *who = vault_credentials(c->vault, now_mono_ms);

    if (who != NULL && c->region[0] == '\0') {
        free(c->region);
        c->region = mem_strdup(who->region);
    }
    return who;
}

static bool can_start(struct aws_client *c, const struct call *call, uint64_t now_mono_ms)
{
    return call->request.url != NULL || who_signs(c, now_mono_ms) != NULL;
}

/* Hands the slot's call, one that can start, to curl. */
static void start(struct slot *s, uint64_t now_mono_ms)
{
    buf_reset(&s->url);
    bool is_loopback = s->call->request.url != NULL
                           ? address_plainly(s)
                           : address_and_sign(s, who_signs(s->client, now_mono_ms));
    buf_reset(&s->body);
    s->words[0] = '\0';
    s->written_at_gate = -1;
    s->stopped_at_gate = s->too_long = false;
    set_options(s, is_loopback, s->call->deadline_mono_ms - now_mono_ms);
    CURLMcode code = curl_multi_add_handle(s->client->multi, s->easy);
    assert(code == CURLM_OK);
}

/* ---- answers ---- */

static void answer_call(struct aws_client *c, struct call *call, const struct aws_response *answer)
{
    struct aws_request request = call->request;

    call->next = c->free_calls;
    c->free_calls = call;
    c->in_callback = true;
    request.done(request.arg, answer);
    c->in_callback = false;
}

static struct slice answer_field(const struct slot *s, const char *name)
{
    struct curl_header *field = NULL;

    if (curl_easy_header(s->easy, name, 0, CURLH_HEADER, -1, &field) != CURLHE_OK)
        return (struct slice){0};
    return slice_str(field->value);
}

/* True when the clock was found wrong and is right now. */
static bool correct_clock(struct slot *s)
{
    struct aws_client *c = s->client;
    struct slice date = answer_field(s, "Date");
    time_t theirs = date.len > 0 ? curl_getdate((const char *)date.ptr, NULL) : -1;

    if (theirs < 0)
        return false;
    int64_t off = (int64_t)theirs - s->signed_wall_s;
    if (off <= CLOCK_TOLERANCE_S && off >= -CLOCK_TOLERANCE_S)
        return false;
    /* Calls signed before the correction come back too; only the first of them changes anything. */
    int64_t offset = (int64_t)theirs - (int64_t)(clock_wall_ms() / 1000);
    int64_t change = offset - c->clock_offset_s;
    if (change > CLOCK_TOLERANCE_S || change < -CLOCK_TOLERANCE_S) {
        c->clock_offset_s = offset;
        log_warn("this machine's clock is %lld s %s AWS's: requests are signed with AWS's time; "
                 "set the clock",
                 (long long)(offset < 0 ? -offset : offset), offset > 0 ? "behind" : "ahead of");
    }
    return true;
}

static bool has_other_credentials(struct slot *s)
{
    const struct credentials *who = who_signs(s->client, clock_mono_ms());

    return who != NULL && who->generation != s->signed_with;
}

static void look_at_parked_soon(struct aws_client *c)
{
    const struct timeval after = {.tv_usec = CREDENTIALS_LOOK_MS * 1000};

    if (c->parked_count > 0 && !event_pending(c->parked_tick, EV_TIMEOUT, NULL))
        (void)event_add(c->parked_tick, &after);
}

/* Keeps a refused call, with its answer, until the keeper has looked for other credentials. */
static void park(struct slot *s)
{
    struct aws_client *c = s->client;

    s->is_parked = true;
    s->parked_until_mono_ms = clock_mono_ms() + RENEWAL_MAX_MS;
    if (s->parked_until_mono_ms > s->call->deadline_mono_ms)
        s->parked_until_mono_ms = s->call->deadline_mono_ms;
    s->answers_seen = vault_ask(c->vault, s->signed_with);
    c->parked_count++;
    look_at_parked_soon(c);
}

enum remedy { REMEDY_NONE, REMEDY_REPEAT, REMEDY_PARK };

/* AWS has refused the call in a way that signing again may cure. */
static enum remedy remedy_for(struct slot *s, struct slice code)
{
    if (s->call->request.url != NULL || clock_mono_ms() >= s->call->deadline_mono_ms)
        return REMEDY_NONE;
    if (aws_error_is_clock(code) && !s->clock_corrected && correct_clock(s)) {
        s->clock_corrected = true;
        return who_signs(s->client, clock_mono_ms()) != NULL ? REMEDY_REPEAT : REMEDY_NONE;
    }
    if (aws_error_is_credentials(code) && !s->credentials_renewed) {
        s->credentials_renewed = true;
        /* Another call may have asked since this one was signed. */
        return has_other_credentials(s) ? REMEDY_REPEAT : REMEDY_PARK;
    }
    return REMEDY_NONE;
}

/* A request whose body did not go out whole cannot have been acted on. */
static bool is_cut_short(const struct slot *s)
{
    curl_off_t sent = 0;

    return s->call->request.body.len > 0 &&
           curl_easy_getinfo(s->easy, CURLINFO_SIZE_UPLOAD_T, &sent) == CURLE_OK &&
           (uint64_t)sent < s->call->request.body.len;
}

static struct aws_response unanswered(const struct slot *s, CURLcode code)
{
    struct aws_response answer = {.fate = AWS_UNKNOWN};

    if (s->stopped_at_gate) {
        answer.error_text = SLICE("the connection ended before an answer came");
    } else {
        if (s->written_at_gate < 0 || bytes_written(s) <= s->written_at_gate)
            answer.fate = AWS_NOT_SENT;
        else if (is_cut_short(s))
            answer.fate = AWS_CUT_SHORT;
        answer.error_text = s->too_long           ? SLICE("the answer is too long")
                            : s->words[0] != '\0' ? slice_str(s->words)
                                                  : slice_str(curl_easy_strerror(code));
    }
    return answer;
}

static void take_next(struct aws_client *c);

static void release(struct slot *s)
{
    struct aws_client *c = s->client;

    if (s->body.cap > KEEP_BODY_BYTES)
        buf_fini(&s->body);
    s->call = NULL;
    s->next_free = c->free_slots;
    c->free_slots = s;
    c->busy_count--;
}

static void settle(struct slot *s, CURLcode code)
{
    struct aws_client *c = s->client;
    struct aws_response answer;
    struct arena arena = {0};

    if (code != CURLE_OK) {
        answer = unanswered(s, code);
    } else {
        long status = 0;
        (void)curl_easy_getinfo(s->easy, CURLINFO_RESPONSE_CODE, &status);
        answer = (struct aws_response){AWS_ANSWERED, (int)status, .body = buf_slice(&s->body)};
        answer.date = answer_field(s, "Date");
        answer.request_id = answer_field(s, "x-amzn-RequestId");
        if (answer.request_id.len == 0)
            answer.request_id = answer_field(s, "x-amz-request-id");
        if (status < 200 || status > 299) {
            struct aws_error error;
            aws_error_read(&arena,
                           &(struct aws_error_fields){answer_field(s, "x-amzn-ErrorType"),
                                                      answer_field(s, "x-amzn-query-error"),
                                                      answer.request_id},
                           answer.body, &error);
            answer.error_code = error.code;
            answer.error_text = error.text;
            answer.request_id = error.request_id;
            enum remedy remedy = remedy_for(s, error.code);
            if (remedy != REMEDY_NONE) {
                arena_fini(&arena);
                if (remedy == REMEDY_REPEAT)
                    start(s, clock_mono_ms());
                else
                    park(s);
                return;
            }
        }
    }
    answer_call(c, s->call, &answer);
    arena_fini(&arena);
    release(s);
    take_next(c);
}

static void on_parked_tick(evutil_socket_t fd, short what, void *arg)
{
    struct aws_client *c = arg;
    uint64_t now_mono_ms = clock_mono_ms();

    (void)fd, (void)what;
    for (unsigned i = 0; i < c->slot_count; i++) {
        struct slot *s = &c->slots[i];
        bool is_over = s->is_parked && (vault_answers(c->vault) != s->answers_seen ||
                                        now_mono_ms >= s->parked_until_mono_ms);
        if (!s->is_parked || !(has_other_credentials(s) || is_over))
            continue;
        s->is_parked = false;
        c->parked_count--;
        if (has_other_credentials(s) && now_mono_ms < s->call->deadline_mono_ms)
            start(s, now_mono_ms);
        else
            settle(s, CURLE_OK);
    }
    look_at_parked_soon(c);
}

static void settle_finished(struct aws_client *c)
{
    const CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(c->multi, &left)) != NULL) {
        struct slot *s = NULL;
        CURLcode code = message->data.result;
        (void)curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&s);
        assert(message->msg == CURLMSG_DONE && s != NULL);
        (void)curl_multi_remove_handle(c->multi, s->easy); /* message is gone with it */
        settle(s, code);
    }
}

/* ---- calls without a connection yet ---- */

static void look_at_waiting_later(struct aws_client *c)
{
    if (c->waiting.count > 0 && !event_pending(c->waiting_tick, EV_TIMEOUT, NULL)) {
        int ms = c->free_slots != NULL ? CREDENTIALS_LOOK_MS : WAITING_LOOK_MS;
        struct timeval after = {ms / 1000, ms % 1000 * 1000};
        (void)event_add(c->waiting_tick, &after);
    }
}

/* Tells those whose time is up; what callbacks add meanwhile goes behind the rest. */
static void expire_waiting(struct aws_client *c)
{
    struct line line = c->waiting;
    struct line kept = {.end = &kept.first};
    uint64_t now_mono_ms = clock_mono_ms();
    struct buf words = {0};

    if (line.count == 0)
        return;
    /* Sorted out first: a callback may add to the line. */
    struct line over = {.end = &over.first};
    while (line.count > 0) {
        struct call *call = line_take(&line);
        line_add(call->deadline_mono_ms <= now_mono_ms ? &over : &kept, call);
    }
    c->waiting = kept;
    if (kept.count == 0)
        c->waiting.end = &c->waiting.first;
    if (over.count > 0 && c->free_slots != NULL)
        vault_put_trouble(c->vault, &words);
    else
        buf_add_str(&words, "no connection was free in time");
    while (over.count > 0)
        answer_call(c, line_take(&over),
                    &(struct aws_response){.fate = AWS_NOT_SENT, .error_text = buf_slice(&words)});
    buf_fini(&words);
}

static void on_waiting_tick(evutil_socket_t fd, short what, void *arg)
{
    struct aws_client *c = arg;

    (void)fd, (void)what;
    expire_waiting(c);
    take_next(c);
    look_at_waiting_later(c);
}

/* Starts what there are free slots for. A call whose time is up is left for the tick, which is run
 * at once then: nothing here calls back. */
static void take_next(struct aws_client *c)
{
    uint64_t now_mono_ms = clock_mono_ms();

    while (c->free_slots != NULL && c->waiting.count > 0) {
        if (c->waiting.first->deadline_mono_ms <= now_mono_ms) {
            event_active(c->waiting_tick, EV_TIMEOUT, 0);
            return;
        }
        if (!can_start(c, c->waiting.first, now_mono_ms))
            break;
        struct slot *s = c->free_slots;
        c->free_slots = s->next_free;
        c->busy_count++;
        s->call = line_take(&c->waiting);
        s->clock_corrected = s->credentials_renewed = false;
        start(s, now_mono_ms);
    }
    look_at_waiting_later(c);
}

void aws_call(struct aws_client *c, const struct aws_request *request)
{
    struct call *call = c->free_calls;

    assert(request->done != NULL && request->method != NULL &&
           (request->url != NULL || request->path[0] == '/'));
    if (call != NULL)
        c->free_calls = call->next;
    else
        call = mem_alloc(sizeof *call);
    call->request = *request;
    call->deadline_mono_ms =
        clock_mono_ms() + (request->timeout_ms > 0 ? request->timeout_ms : AWS_TIMEOUT_MS);
    line_add(&c->waiting, call);
    take_next(c);
}

bool aws_can_sign(struct aws_client *c)
{
    return who_signs(c, clock_mono_ms()) != NULL;
}

unsigned aws_calls_under_way(const struct aws_client *c)
{
    return c->busy_count + c->waiting.count;
}

/* ---- setting up ---- */

static struct endpoint *endpoint_add(struct aws_client *c, enum aws_service service,
                                     struct slice region)
{
    struct endpoint *e = mem_zero(1, sizeof *e);
    struct buf url = {0};

    e->service = service;
    e->region = mem_alloc(region.len + 1);
    memcpy(e->region, region.ptr, region.len);
    e->region[region.len] = '\0';
    e->scope.region = slice_str(e->region);
    e->scope.service = service_name(service);
    if (c->configured[service][0] != '\0')
        buf_add_str(&url, c->configured[service]);
    else if (service == AWS_IAM)
        endpoint_put_iam(&url, e->region);
    else
        endpoint_put_regional(&url, host_label(service), e->region);
    int failed = endpoint_parse(&e->at, buf_cstr(&url), NULL);
    assert(failed == 0); /* what is configured was read before, and a region makes a URL */
    buf_fini(&url);
    e->next = c->endpoints[service];
    c->endpoints[service] = e;
    return e;
}

static struct endpoint *endpoint_for(struct aws_client *c, const struct aws_request *r)
{
    struct slice region = r->region.len > 0 ? r->region : slice_str(c->region);
    if (r->service == AWS_IAM)
        region = slice_str(endpoint_iam_region(region));
    struct endpoint *e = c->endpoints[r->service];

    while (e != NULL && !slice_eq(e->scope.region, region))
        e = e->next;
    return e != NULL ? e : endpoint_add(c, r->service, region);
}

/* Reads what is configured, for its mistakes: the endpoints are made as they are needed. */
static int endpoints_init(struct aws_client *c, const struct config *config, struct err *err)
{
    c->configured[AWS_SES] = mem_strdup(config->aws.ses_endpoint);
    c->configured[AWS_SQS] = mem_strdup(config->aws.sqs_endpoint);
    c->configured[AWS_SNS] = mem_strdup(config->aws.sns_endpoint);
    c->configured[AWS_STS] = mem_strdup(config->aws.sts_endpoint);
    c->configured[AWS_IAM] = mem_strdup(config->aws.iam_endpoint);
    for (int i = 0; i < SERVICES; i++) {
        struct endpoint_parts parts;
        if (c->configured[i][0] == '\0')
            continue;
        if (endpoint_parse(&parts, c->configured[i], err) != 0)
            return -1;
        if (i == AWS_SNS)
            c->unsigned_at = parts;
        else
            endpoint_fini(&parts);
    }
    return 0;
}

static void slot_init(struct slot *s, struct aws_client *c)
{
    s->client = c;
    s->easy = curl_easy_init();
    assert(s->easy != NULL);
    curl_easy_setopt(s->easy, CURLOPT_PRIVATE, s);
    curl_easy_setopt(s->easy, CURLOPT_ERRORBUFFER, s->words);
    curl_easy_setopt(s->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(s->easy, CURLOPT_WRITEDATA, s);
    curl_easy_setopt(s->easy, CURLOPT_PREREQFUNCTION, on_gate);
    curl_easy_setopt(s->easy, CURLOPT_PREREQDATA, s);
    curl_easy_setopt(s->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(s->easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(s->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(s->easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(s->easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(s->easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_TIMEOUT_MS);
    curl_easy_setopt(s->easy, CURLOPT_MAXAGE_CONN, (long)AWS_IDLE_MAX_S);
    curl_easy_setopt(s->easy, CURLOPT_MAXLIFETIME_CONN, (long)CONNECTION_LIFE_MAX_S);
    curl_easy_setopt(s->easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)WRITE_BYTES);
    curl_easy_setopt(s->easy, CURLOPT_USERAGENT, "Postern");
    s->next_free = c->free_slots;
    c->free_slots = s;
}

static int choose_region(struct aws_client *c, const struct config *config, struct err *err)
{
    c->region = mem_strdup(config->aws.region);
    if (c->region[0] != '\0' && !sign_is_region(slice_str(c->region)))
        return err_set(err, ERR_CONFIG, "\"%s\" is no AWS region: write it like \"eu-west-1\"",
                       c->region);
    return 0;
}

struct aws_client *aws_client_create(struct event_base *base, const struct config *config,
                                     struct vault *vault, unsigned connections, struct err *err)
{
    struct aws_client *c = mem_zero(1, sizeof *c);

    assert(connections > 0);
    c->base = base;
    c->waiting.end = &c->waiting.first;
    CURLcode ready =
        curl_global_init_mem(CURL_GLOBAL_DEFAULT, mem_alloc, free, mem_grow, mem_strdup, mem_zero);
    assert(ready == CURLE_OK);
    c->vault = vault;
    if (choose_region(c, config, err) != 0 || endpoints_init(c, config, err) != 0) {
        aws_client_destroy(c);
        return NULL;
    }
    c->timer = evtimer_new(base, on_timer, c);
    c->waiting_tick = evtimer_new(base, on_waiting_tick, c);
    c->parked_tick = evtimer_new(base, on_parked_tick, c);
    c->multi = curl_multi_init();
    assert(c->timer != NULL && c->waiting_tick != NULL && c->parked_tick != NULL &&
           c->multi != NULL);
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_want_socket);
    curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_want_timer);
    curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
    curl_multi_setopt(c->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)connections);
    c->slot_count = connections;
    c->slots = mem_zero(connections, sizeof *c->slots);
    for (unsigned i = 0; i < connections; i++)
        slot_init(&c->slots[i], c);
    return c;
}

static void slot_fini(struct slot *s)
{
    if (s->call != NULL)
        (void)curl_multi_remove_handle(s->client->multi, s->easy);
    free(s->call);
    curl_easy_cleanup(s->easy);
    /* The session token and the signature stand in there. */
    if (s->headers.ptr != NULL)
        explicit_bzero(s->headers.ptr, s->headers.cap);
    if (s->scratch.ptr != NULL)
        explicit_bzero(s->scratch.ptr, s->scratch.cap);
    buf_fini(&s->headers);
    buf_fini(&s->scratch);
    buf_fini(&s->url);
    buf_fini(&s->body);
}

static void free_calls(struct call *call)
{
    while (call != NULL) {
        struct call *gone = call;
        call = call->next;
        free(gone);
    }
}

static void endpoint_free(struct endpoint **at)
{
    struct endpoint *gone = *at;

    *at = gone->next;
    free(gone->region);
    endpoint_fini(&gone->at);
    explicit_bzero(gone->key, sizeof gone->key);
    free(gone);
}

void aws_client_destroy(struct aws_client *c)
{
    if (c == NULL)
        return;
    assert(!c->in_callback);
    for (unsigned i = 0; i < c->slot_count; i++)
        slot_fini(&c->slots[i]);
    free(c->slots);
    free_calls(c->waiting.first);
    free_calls(c->free_calls);
    if (c->multi != NULL)
        (void)curl_multi_cleanup(
            c->multi); /* closes connections: on_want_socket frees their events */
    if (c->timer != NULL)
        event_free(c->timer);
    if (c->waiting_tick != NULL)
        event_free(c->waiting_tick);
    if (c->parked_tick != NULL)
        event_free(c->parked_tick);
    for (int i = 0; i < SERVICES; i++) {
        while (c->endpoints[i] != NULL)
            endpoint_free(&c->endpoints[i]);
        free(c->configured[i]);
    }
    endpoint_fini(&c->unsigned_at);
    digest_memo_fini(&c->bodies);
    free(c->region);
    free(c);
    curl_global_cleanup();
}
