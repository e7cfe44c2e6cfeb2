/* Against a server in the same loop that does what it is told, on loopback. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "aws/http.h"
#include "aws/sign.h"
#include "base/arena.h"
#include "base/clock.h"

#define KEY_ID "AKIDEXAMPLE"
#define SECRET "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

enum conduct {
    ANSWER_OK,
    ANSWER_ERROR,     /* 500 with a code */
    ANSWER_NEVER,     /* reads on, says nothing */
    CLOSE_UNANSWERED, /* end of file after the whole request */
    RESET_UNANSWERED,
    CLOSE_FIRST_REUSE,  /* answers a connection's first request, closes without answer on its second
                         */
    CLOSE_AFTER_ANSWER, /* answers as if to keep alive, and closes */
    CUT_ANSWER,         /* promises more than comes */
    RESET_IN_BODY,      /* before the request is complete */
    WRONG_CLOCK,        /* refuses a date further than 5 minutes from its own, an hour ahead */
    ALWAYS_WRONG_CLOCK,
    REFUSE_OLD_KEY, /* refuses KEY_ID */
};

struct world {
    struct event_base *base;
    struct evconnlistener *listener;
    struct config config;
    struct vault *vault; /* the test is the keeper */
    struct aws_client *client;
    char endpoint[64];
    enum conduct conduct;
    unsigned connections, open, most_open, requests, bad_signatures;
    size_t body_bytes;
    const char *expect_region; /* NULL = the client's */
    bool expect_unsigned;
    char last_line[256];
    struct peer *peers;
    /* what came back */
    unsigned answers, unknown, not_sent, cut_short, answered;
    int status;
    char code[64], text[256], id[64], body[256];
    unsigned to_repeat;
    const char *publish_id; /* what on_keeper() has found; NULL = nothing */
};

struct peer {
    struct world *world;
    struct bufferevent *be;
    unsigned requests;
    struct peer *next;
};

/* ---- the server ---- */

static void drop(struct peer *p, bool reset)
{
    struct world *w = p->world;

    for (struct peer **at = &w->peers; *at != NULL; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            break;
        }
    if (reset) {
        struct linger now = {1, 0};
        (void)setsockopt(bufferevent_getfd(p->be), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    bufferevent_free(p->be);
    w->open--;
    free(p);
}

static struct slice answer_text(struct arena *a, const char *status, const char *fields,
                                const char *body)
{
    return arena_printf(
        a, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n%s\r\n%s",
        status, strlen(body), fields, body);
}

static void answer(struct peer *p, const char *status, const char *fields, const char *body)
{
    struct arena a = {0};
    struct slice text = answer_text(&a, status, fields, body);

    (void)bufferevent_write(p->be, text.ptr, text.len);
    arena_fini(&a);
}

/* Past the bufferevent, which would be freed before it had written. */
static void answer_and_close(struct peer *p, struct slice text)
{
    assert_int_equal(send(bufferevent_getfd(p->be), text.ptr, text.len, MSG_NOSIGNAL), text.len);
    drop(p, false);
}

static struct slice field_of(struct slice head, struct slice name)
{
    while (head.len > 0) {
        struct slice line, key, value;
        (void)slice_cut(head, '\n', &line, &head);
        if (slice_cut(line, ':', &key, &value) && slice_eq_nocase(key, name))
            return slice_trim(value);
    }
    return (struct slice){0};
}

/* Signs the request as it arrived, by its own list of fields. */
static bool is_well_signed(struct slice head, struct slice body, const char *region)
{
    struct slice line, rest, method, target, path, query, names, authorization, date;
    struct sign_header fields[SIGN_HEADERS_MAX];
    struct sign_scope scope = {.region = slice_str(region), .service = SLICE("ses")};
    struct buf mine = {0}, scratch = {0};
    uint8_t key[SHA256_BYTES];
    size_t count = 0;

    (void)slice_cut(head, '\n', &line, &rest);
    (void)slice_cut(line, ' ', &method, &target);
    target = slice_head(target, slice_rfind_byte(target, ' '));
    (void)slice_cut(target, '?', &path, &query);
    authorization = field_of(rest, SLICE("authorization"));
    size_t at = slice_find(authorization, SLICE("SignedHeaders="));
    if (at == SIZE_MAX)
        return false;
    (void)slice_cut(slice_from(authorization, at + 14), ',', &names, &line);
    while (names.len > 0 && count < SIGN_HEADERS_MAX) {
        struct slice name;
        (void)slice_cut(names, ';', &name, &names);
        fields[count++] = (struct sign_header){name, field_of(rest, name)};
    }
    date = field_of(rest, SLICE("x-amz-date"));
    if (date.len != SIGN_DATE_CHARS)
        return false;
    memcpy(scope.date, date.ptr, SIGN_DATE_CHARS);
    sign_key(SLICE(SECRET), &scope, key);
    struct slice id =
        slice_find(authorization, SLICE("AKIDNEW")) != SIZE_MAX ? SLICE("AKIDNEW") : SLICE(KEY_ID);
    sign_authorization(&mine, &scratch,
                       &(struct sign_request){.method = method,
                                              .path = path,
                                              .query = query,
                                              .headers = fields,
                                              .header_count = count,
                                              .body = body},
                       &scope, id, key);
    bool same = slice_eq(buf_slice(&mine), authorization);
    buf_fini(&mine);
    buf_fini(&scratch);
    return same;
}

static bool is_within_5_minutes(struct slice date, uint64_t server_wall_s)
{
    for (uint64_t s = server_wall_s - 300; s <= server_wall_s + 300; s++) {
        char text[SIGN_DATE_CHARS + 1];
        sign_date(s, text);
        if (slice_eq(date, slice_str(text)))
            return true;
    }
    return false;
}

static void refuse_the_clock(struct peer *p, uint64_t server_wall_s)
{
    char fields[128], stamp[64];
    time_t at = (time_t)server_wall_s;
    struct tm utc;

    (void)gmtime_r(&at, &utc);
    (void)strftime(stamp, sizeof stamp, "%a, %d %b %Y %H:%M:%S GMT", &utc);
    (void)snprintf(fields, sizeof fields,
                   "Date: %s\r\nx-amzn-ErrorType: InvalidSignatureException\r\n", stamp);
    answer(p, "403 Forbidden", fields, "{\"message\":\"Signature expired\"}");
}

static void serve(struct peer *p, struct slice head)
{
    struct world *w = p->world;
    const char *ok = "{\"MessageId\":\"m-1\"}", *ok_fields = "x-amzn-RequestId: id-1\r\n";
    uint64_t ahead_wall_s = clock_wall_ms() / 1000 + 3600;

    switch (w->conduct) {
    case ANSWER_OK:
        answer(p, "200 OK", ok_fields, ok);
        return;
    case ANSWER_ERROR:
        answer(p, "500 Internal Server Error", "x-amzn-ErrorType: InternalFailure:http://x/\r\n",
               "{\"message\":\"try again\"}");
        return;
    case ANSWER_NEVER:
    case RESET_IN_BODY:
        return;
    case CLOSE_UNANSWERED:
        drop(p, false);
        return;
    case RESET_UNANSWERED:
        drop(p, true);
        return;
    case CLOSE_FIRST_REUSE:
        if (p->requests == 1)
            answer(p, "200 OK", ok_fields, ok);
        else
            drop(p, false);
        return;
    case CLOSE_AFTER_ANSWER: {
        struct arena a = {0};
        answer_and_close(p, answer_text(&a, "200 OK", ok_fields, ok));
        arena_fini(&a);
        return;
    }
    case CUT_ANSWER:
        answer_and_close(p, SLICE("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"Mess"));
        return;
    case WRONG_CLOCK:
        if (is_within_5_minutes(field_of(head, SLICE("x-amz-date")), ahead_wall_s))
            answer(p, "200 OK", ok_fields, ok);
        else
            refuse_the_clock(p, ahead_wall_s);
        return;
    case ALWAYS_WRONG_CLOCK:
        refuse_the_clock(p, ahead_wall_s);
        return;
    case REFUSE_OLD_KEY:
        if (slice_find(field_of(head, SLICE("authorization")), SLICE("AKIDNEW")) != SIZE_MAX)
            answer(p, "200 OK", ok_fields, ok);
        else
            answer(p, "403 Forbidden", "x-amzn-ErrorType: UnrecognizedClientException\r\n", "{}");
        return;
    }
}

static void on_read(struct bufferevent *be, void *arg)
{
    struct peer *p = arg;
    struct world *w = p->world;
    struct evbuffer *in = bufferevent_get_input(be);

    if (w->conduct == RESET_IN_BODY && evbuffer_get_length(in) > 100 * 1024) {
        drop(p, true);
        return;
    }
    for (;;) {
        struct evbuffer_ptr end = evbuffer_search(in, "\r\n\r\n", 4, NULL);
        if (end.pos < 0)
            return;
        size_t head_len = (size_t)end.pos + 4, body_len = 0;
        struct slice head = slice_of(evbuffer_pullup(in, (ev_ssize_t)head_len), head_len);
        struct slice length = field_of(head, SLICE("content-length"));
        uint64_t declared = 0;
        if (length.len > 0) {
            assert_true(slice_to_u64(length, &declared));
            body_len = (size_t)declared;
        }
        if (evbuffer_get_length(in) < head_len + body_len)
            return;
        struct slice all =
            slice_of(evbuffer_pullup(in, (ev_ssize_t)(head_len + body_len)), head_len + body_len);
        struct slice line;
        (void)slice_cut(all, '\r', &line, &head);
        (void)snprintf(w->last_line, sizeof w->last_line, "%.*s", SLICE_ARGS(line));
        if (w->expect_unsigned
                ? slice_find_nocase(slice_head(all, head_len), SLICE("\r\nauthorization")) !=
                      SIZE_MAX
                : !is_well_signed(slice_head(all, head_len), slice_from(all, head_len),
                                  w->expect_region != NULL ? w->expect_region : "eu-west-1"))
            w->bad_signatures++;
        w->requests++;
        w->body_bytes += body_len;
        p->requests++;
        struct arena keep = {0};
        head = arena_dup(&keep, slice_head(all, head_len));
        evbuffer_drain(in, head_len + body_len);
        unsigned open = w->open;
        serve(p, head);
        arena_fini(&keep);
        if (w->open != open)
            return; /* p is gone */
    }
}

static void on_event(struct bufferevent *be, short what, void *arg)
{
    (void)be, (void)what;
    drop(arg, false);
}

static void on_accept(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *from, int len,
                      void *arg)
{
    struct world *w = arg;
    struct peer *p = calloc(1, sizeof *p);

    (void)l, (void)from, (void)len;
    assert_non_null(p);
    *p = (struct peer){w, bufferevent_socket_new(w->base, fd, BEV_OPT_CLOSE_ON_FREE), 0, w->peers};
    w->peers = p;
    w->connections++;
    if (++w->open > w->most_open)
        w->most_open = w->open;
    bufferevent_setcb(p->be, on_read, NULL, on_event, p);
    (void)bufferevent_enable(p->be, EV_READ | EV_WRITE);
}

/* ---- the world ---- */

static void publish(struct world *w, const char *id, const char *token, uint64_t expires_mono_ms)
{
    struct credentials c = {0};

    assert_int_equal(
        credentials_set(&c, slice_str(id), SLICE(SECRET), slice_str(token), "the test", NULL), 0);
    credentials_set_region(&c, SLICE("eu-west-1"));
    c.expires_mono_ms = expires_mono_ms;
    assert_int_equal(vault_publish(w->vault, &c, NULL), 0);
    credentials_fini(&c);
}

static void keeper_after(struct world *w, long ms, const char *publish_id);

/* Plays the keeper, once a question is there. */
static void on_keeper(evutil_socket_t fd, short what, void *arg)
{
    struct world *w = arg;

    (void)fd, (void)what;
    if (vault_take_question(w->vault) == 0) { /* a slow machine */
        keeper_after(w, 20, w->publish_id);
        return;
    }
    if (w->publish_id != NULL)
        publish(w, w->publish_id, "", 0);
    vault_answer(w->vault);
}

static void keeper_after(struct world *w, long ms, const char *publish_id)
{
    const struct timeval after = {ms / 1000, ms % 1000 * 1000};

    w->publish_id = publish_id;
    assert_int_equal(event_base_once(w->base, -1, EV_TIMEOUT, on_keeper, w, &after), 0);
}

static void make_client(struct world *w, unsigned connections)
{
    struct err err = {0};

    aws_client_destroy(w->client);
    w->client = aws_client_create(w->base, &w->config, w->vault, connections, &err);
    if (w->client == NULL)
        fail_msg("%s", err.text);
}

static int make_world(void **state)
{
    static char none[] = "", region[] = "eu-west-1";
    struct world *w = calloc(1, sizeof *w);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof at;

    w->base = event_base_new();
    w->listener = evconnlistener_new_bind(w->base, on_accept, w, LEV_OPT_CLOSE_ON_FREE, 128,
                                          (struct sockaddr *)&at, sizeof at);
    if (w->listener == NULL ||
        getsockname(evconnlistener_get_fd(w->listener), (struct sockaddr *)&at, &len) != 0)
        return -1;
    (void)snprintf(w->endpoint, sizeof w->endpoint, "http://127.0.0.1:%u", ntohs(at.sin_port));
    w->config.aws.region = region;
    w->config.aws.profile = none;
    w->vault = vault_create(NULL);
    assert_non_null(w->vault);
    publish(w, KEY_ID, "", 0);
    w->config.aws.ses_endpoint = w->config.aws.sqs_endpoint = w->config.aws.sns_endpoint =
        w->config.aws.sts_endpoint = w->config.aws.iam_endpoint = w->endpoint;
    make_client(w, 8);
    *state = w;
    return 0;
}

static int end_world(void **state)
{
    struct world *w = *state;

    aws_client_destroy(w->client);
    while (w->peers != NULL)
        drop(w->peers, false);
    evconnlistener_free(w->listener);
    event_base_free(w->base);
    vault_destroy(w->vault);
    free(w);
    return 0;
}

static void copy_text(char *to, size_t bytes, struct slice s)
{
    (void)snprintf(to, bytes, "%.*s", SLICE_ARGS(s));
}

static void send_one(struct world *w);

static void on_answer(void *arg, const struct aws_response *a)
{
    struct world *w = arg;

    w->answers++;
    w->answered += a->fate == AWS_ANSWERED;
    w->unknown += a->fate == AWS_UNKNOWN;
    w->not_sent += a->fate == AWS_NOT_SENT;
    w->cut_short += a->fate == AWS_CUT_SHORT;
    w->status = a->status;
    copy_text(w->code, sizeof w->code, a->error_code);
    copy_text(w->text, sizeof w->text, a->error_text);
    copy_text(w->id, sizeof w->id, a->request_id);
    copy_text(w->body, sizeof w->body, a->body);
    if (w->to_repeat > 0) {
        w->to_repeat--;
        send_one(w);
    }
}

static void call(struct world *w, const char *method, const char *path, struct slice body,
                 uint64_t timeout_ms)
{
    unsigned before = w->answers;

    aws_call(w->client,
             &(struct aws_request){.service = AWS_SES,
                                   .method = method,
                                   .path = path,
                                   .content_type = body.len > 0 ? "application/json" : NULL,
                                   .body = body,
                                   .timeout_ms = timeout_ms,
                                   .done = on_answer,
                                   .arg = w});
    assert_int_equal(w->answers, before); /* never from within */
}

static void send_one(struct world *w)
{
    call(w, "POST", "/v2/email/outbound-emails", SLICE("{\"Content\":1}"), 60000);
}

/* Until so many answers are there; 90 s at most. */
static void run(struct world *w, unsigned answers)
{
    uint64_t end_mono_ms = clock_mono_ms() + 90000;

    while (w->answers < answers && clock_mono_ms() < end_mono_ms) {
        struct timeval soon = {0, 50000};
        (void)event_base_loopexit(w->base, &soon);
        (void)event_base_loop(w->base, EVLOOP_ONCE);
    }
    assert_int_equal(w->answers, answers);
    assert_int_equal(w->bad_signatures, 0);
}

static void idle(struct world *w, uint64_t ms)
{
    struct timeval after = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000)};

    (void)event_base_loopexit(w->base, &after);
    (void)event_base_dispatch(w->base);
}

/* ---- tests ---- */

static void an_answer_comes_with_status_body_and_request_id(void **state)
{
    struct world *w = *state;

    send_one(w);
    assert_int_equal(aws_calls_under_way(w->client), 1);
    run(w, 1);
    assert_int_equal(w->answered, 1);
    assert_int_equal(w->status, 200);
    assert_string_equal(w->body, "{\"MessageId\":\"m-1\"}");
    assert_string_equal(w->id, "id-1");
    assert_string_equal(w->last_line, "POST /v2/email/outbound-emails HTTP/1.1");
    assert_int_equal(aws_calls_under_way(w->client), 0);
}

static void methods_paths_queries_and_tokens_are_signed_as_they_are_sent(void **state)
{
    static const char token[] = "AQoDYXdzEPT//////////wEX==";
    struct world *w = *state;

    publish(w, KEY_ID, token, 0);
    make_client(w, 2);
    call(w, "DELETE", "/v2/email/suppression/addresses/a%2Bb%40example.com", (struct slice){0}, 0);
    run(w, 1);
    assert_string_equal(w->last_line,
                        "DELETE /v2/email/suppression/addresses/a%2Bb%40example.com HTTP/1.1");
    call(w, "GET", "/v2/email/suppression/addresses?PageSize=10&NextToken=a%2Fb", (struct slice){0},
         0);
    run(w, 2);
    call(w, "PUT", "/v2/email/account/suppression", SLICE("{}"), 0);
    run(w, 3);
    assert_string_equal(w->last_line, "PUT /v2/email/account/suppression HTTP/1.1");
    call(w, "POST", "/", (struct slice){0}, 0);
    run(w, 4);
    assert_int_equal(w->answered, 4);
}

static void a_call_to_another_region_is_signed_for_it(void **state)
{
    struct world *w = *state;

    for (unsigned i = 0; i < 4; i++) {
        static const char *const regions[] = {"cn-north-1", "eu-west-1", "cn-north-1", "us-west-2"};
        w->expect_region = regions[i];
        aws_call(w->client, &(struct aws_request){.service = AWS_SES,
                                                  .region = slice_str(regions[i]),
                                                  .method = "POST",
                                                  .path = "/",
                                                  .body = SLICE("{}"),
                                                  .done = on_answer,
                                                  .arg = w});
        run(w, i + 1);
    }
    w->expect_region = NULL;
    send_one(w);
    run(w, 5);
    assert_int_equal(w->answered, 5);
}

static void what_has_its_own_url_is_fetched_without_a_signature(void **state)
{
    struct world *w = *state;
    char url[128];

    w->expect_unsigned = true;
    (void)snprintf(url, sizeof url, "%s/key.pem?x", w->endpoint);
    aws_call(w->client,
             &(struct aws_request){
                 .service = AWS_SNS, .method = "GET", .url = url, .done = on_answer, .arg = w});
    run(w, 1);
    assert_int_equal(w->status, 200);
    assert_string_equal(w->last_line, "GET /key.pem?x HTTP/1.1");
    w->expect_unsigned = false;
    send_one(w);
    run(w, 2);
}

static void an_error_comes_with_its_code_and_words(void **state)
{
    struct world *w = *state;

    w->conduct = ANSWER_ERROR;
    send_one(w);
    run(w, 1);
    assert_int_equal(w->answered, 1);
    assert_int_equal(w->status, 500);
    assert_string_equal(w->code, "InternalFailure");
    assert_string_equal(w->text, "try again");
    assert_int_equal(w->requests, 1);
}

static void connections_are_kept_and_used_again(void **state)
{
    struct world *w = *state;

    w->to_repeat = 9; /* each from the callback of the one before */
    send_one(w);
    run(w, 10);
    assert_int_equal(w->answered, 10);
    assert_int_equal(w->connections, 1);
}

static void a_thousand_calls_share_eight_connections(void **state)
{
    struct world *w = *state;

    for (int i = 0; i < 1000; i++)
        send_one(w);
    assert_int_equal(aws_calls_under_way(w->client), 1000);
    run(w, 1000);
    assert_int_equal(w->answered, 1000);
    assert_int_equal(w->requests, 1000);
    assert_true(w->most_open <= 8);
}

static void bodies_larger_than_all_buffers_arrive_whole(void **state)
{
    struct world *w = *state;
    size_t bytes = 3 * 1024 * 1024 + 7;
    uint8_t *body = malloc(bytes);

    memset(body, 'x', bytes);
    for (unsigned i = 1; i <= 3; i++) {
        call(w, "POST", "/v2/email/outbound-bulk-emails", slice_of(body, bytes), 0);
        run(w, i);
    }
    assert_int_equal(w->answered, 3);
    assert_int_equal(w->body_bytes, 3 * bytes);
    assert_int_equal(w->connections, 3); /* each its own */
    free(body);
}

static void no_answer_in_time_is_unknown(void **state)
{
    struct world *w = *state;

    w->conduct = ANSWER_NEVER;
    call(w, "POST", "/", SLICE("{}"), 300);
    run(w, 1);
    assert_int_equal(w->unknown, 1);
    assert_int_equal(w->requests, 1);
}

static void a_connection_that_ends_after_the_request_is_unknown(void **state)
{
    static const enum conduct conducts[] = {CLOSE_UNANSWERED, RESET_UNANSWERED, CUT_ANSWER};
    struct world *w = *state;

    for (unsigned i = 0; i < 3; i++) {
        w->conduct = conducts[i];
        send_one(w);
        run(w, i + 1);
        assert_int_equal(w->unknown, i + 1);
        assert_int_equal(w->requests, i + 1);
    }
}

static void a_reset_before_the_end_of_the_body_sent_nothing(void **state)
{
    struct world *w = *state;
    size_t bytes = 8 * 1024 * 1024;
    uint8_t *body = malloc(bytes);

    memset(body, 'x', bytes);
    send_one(w); /* leaves a connection behind: over that, curl would try again and not tell */
    run(w, 1);
    w->requests = 0;
    w->conduct = RESET_IN_BODY;
    call(w, "POST", "/", slice_of(body, bytes), 0);
    run(w, 2);
    assert_int_equal(w->cut_short, 1); /* nobody can act on half of it */
    assert_int_equal(w->not_sent + w->unknown, 0);
    assert_int_equal(w->requests, 0);
    free(body);
}

/* curl would send it again on a fresh connection. */
static void a_reused_connection_that_ends_without_an_answer_sends_nothing_twice(void **state)
{
    struct world *w = *state;

    w->conduct = CLOSE_FIRST_REUSE;
    send_one(w);
    run(w, 1);
    send_one(w);
    run(w, 2);
    assert_int_equal(w->answered, 1);
    assert_int_equal(w->unknown, 1);
    idle(w, 200);
    assert_int_equal(w->requests, 2);
    /* and the handle goes on working */
    w->conduct = ANSWER_OK;
    send_one(w);
    run(w, 3);
    assert_int_equal(w->answered, 2);
    assert_int_equal(w->requests, 3);
}

static void large_requests_are_not_sent_twice_either(void **state)
{
    struct world *w = *state;
    size_t bytes = 300 * 1024;
    uint8_t *body = malloc(bytes);

    memset(body, 'x', bytes);
    w->conduct = CLOSE_FIRST_REUSE;
    for (unsigned i = 1; i <= 2; i++) {
        call(w, "POST", "/", slice_of(body, bytes), 0);
        run(w, i);
    }
    idle(w, 200);
    assert_int_equal(w->unknown, 1);
    assert_int_equal(w->requests, 2);
    free(body);
}

static void a_connection_closed_while_idle_costs_nothing(void **state)
{
    struct world *w = *state;

    w->conduct = CLOSE_AFTER_ANSWER;
    for (unsigned i = 1; i <= 5; i++) {
        send_one(w);
        run(w, i);
        idle(w, 10);
    }
    assert_int_equal(w->answered, 5);
    assert_int_equal(w->connections, 5);
    assert_int_equal(w->requests, 5);
}

static void a_refused_connection_is_not_sent(void **state)
{
    struct world *w = *state;

    /* An address that nobody listens on: bound, and closed again. */
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof at;
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    (void)snprintf(w->endpoint, sizeof w->endpoint, "http://127.0.0.1:%u", ntohs(at.sin_port));
    make_client(w, 1);
    send_one(w);
    run(w, 1);
    assert_int_equal(w->not_sent, 1);
    assert_true(w->text[0] != '\0');
    (void)close(fd);
}

static void a_failed_tls_handshake_is_not_sent(void **state)
{
    struct world *w = *state;
    char url[64];

    (void)snprintf(url, sizeof url, "https%s", w->endpoint + 4);
    w->config.aws.ses_endpoint = url;
    make_client(w, 1);
    w->conduct = ANSWER_NEVER;
    call(w, "POST", "/", SLICE("{}"), 300); /* the server never answers the hello */
    run(w, 1);
    assert_int_equal(w->not_sent, 1);
}

static void a_call_that_never_gets_its_turn_is_not_sent(void **state)
{
    struct world *w = *state;

    make_client(w, 1);
    w->conduct = ANSWER_NEVER;
    call(w, "POST", "/", SLICE("{}"), 2500);
    call(w, "POST", "/", SLICE("{}"), 100);
    run(w, 1);
    assert_int_equal(w->not_sent, 1);
    run(w, 2);
    assert_int_equal(w->unknown, 1);
    assert_int_equal(w->requests, 1);
}

static void a_wrong_clock_is_corrected_and_the_call_repeated_once(void **state)
{
    struct world *w = *state;

    w->conduct = WRONG_CLOCK;
    for (int i = 0; i < 4; i++)
        send_one(w);
    run(w, 4);
    assert_int_equal(w->answered, 4);
    assert_int_equal(w->status, 200);
    unsigned requests = w->requests;
    assert_true(requests > 4 && requests <= 8);
    send_one(w);
    run(w, 5);
    assert_int_equal(w->requests, requests + 1); /* it has learned */
}

static void a_signature_that_stays_wrong_is_not_tried_for_ever(void **state)
{
    struct world *w = *state;

    w->conduct = ALWAYS_WRONG_CLOCK;
    send_one(w);
    run(w, 1);
    assert_int_equal(w->status, 403);
    assert_string_equal(w->code, "InvalidSignatureException");
    assert_int_equal(w->requests, 2);
    send_one(w);
    run(w, 2);
    assert_int_equal(w->requests, 3); /* the Date agrees by now: a wrong secret */
}

static void refused_credentials_are_renewed_and_the_call_repeated_once(void **state)
{
    struct world *w = *state;

    w->conduct = REFUSE_OLD_KEY;
    keeper_after(w, 200, NULL);
    send_one(w);
    run(w, 1);
    assert_int_equal(w->status, 403); /* nothing newer to be had: told as soon as that is known */
    assert_string_equal(w->code, "UnrecognizedClientException");
    assert_int_equal(w->requests, 1);
    keeper_after(w, 200, "AKIDNEW");
    for (int i = 0; i < 5; i++)
        send_one(w); /* all refused, one renewal */
    run(w, 6);
    assert_int_equal(w->status, 200);
    assert_int_equal(w->requests, 11);
    assert_int_equal(w->answered, 6);
    send_one(w);
    run(w, 7);
    assert_int_equal(w->requests, 12);
}

static void a_refused_call_waits_no_longer_than_its_time(void **state)
{
    struct world *w = *state;

    w->conduct = REFUSE_OLD_KEY;
    call(w, "POST", "/", SLICE("{}"), 300); /* and nobody plays the keeper */
    run(w, 1);
    assert_int_equal(w->status, 403);
    assert_int_equal(w->requests, 1);
}

static void on_credentials(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    publish(arg, KEY_ID, "", 0);
}

static void calls_wait_for_the_first_credentials_and_for_the_region_with_them(void **state)
{
    static char none[] = "";
    struct world *w = *state;
    const struct timeval after = {0, 200000};

    vault_destroy(w->vault);
    w->vault = vault_create(NULL);
    w->config.aws.region = none;
    make_client(w, 4);
    for (int i = 0; i < 20; i++)
        send_one(w);
    idle(w, 100);
    assert_int_equal(w->requests, 0);
    assert_int_equal(event_base_once(w->base, -1, EV_TIMEOUT, on_credentials, w, &after), 0);
    run(w, 20);
    assert_int_equal(w->answered, 20);
}

static void without_usable_credentials_nothing_is_sent_and_the_words_say_why(void **state)
{
    struct world *w = *state;

    publish(w, KEY_ID, "", clock_mono_ms() + 5000);
    send_one(w);
    run(w, 1);
    assert_int_equal(w->status, 200);
    publish(w, KEY_ID, "", clock_mono_ms()); /* these have expired */
    assert_int_equal(
        notice_publish(vault_news(w->vault), SLICE("{\"trouble\":\"the role is gone\"}"), NULL), 0);
    call(w, "POST", "/", SLICE("{}"), 300);
    run(w, 2);
    assert_int_equal(w->not_sent, 1);
    assert_string_equal(w->text, "no AWS credentials: the role is gone");
    assert_int_equal(w->requests, 1);
}

static void a_client_that_goes_calls_nobody_back(void **state)
{
    struct world *w = *state;

    w->conduct = ANSWER_NEVER;
    for (int i = 0; i < 20; i++)
        send_one(w);
    idle(w, 50);
    assert_int_equal(aws_calls_under_way(w->client), 20);
    aws_client_destroy(w->client);
    w->client = NULL;
    idle(w, 50);
    assert_int_equal(w->answers, 0);
}

static void settings_that_cannot_work_are_refused(void **state)
{
    static char bad_url[] = "ftp://x", bad_region[] = "eu west";
    struct world *w = *state;
    struct err err = {0};

    w->config.aws.region = bad_region;
    assert_null(aws_client_create(w->base, &w->config, w->vault, 1, &err));
    assert_non_null(strstr(err.text, "eu west"));
    static char region[] = "eu-west-1";
    w->config.aws.region = region;
    w->config.aws.sqs_endpoint = bad_url;
    assert_null(aws_client_create(w->base, &w->config, w->vault, 1, &err));
    assert_non_null(strstr(err.text, "ftp://x"));
}

int main(void)
{
#define IN_A_WORLD(test) cmocka_unit_test_setup_teardown(test, make_world, end_world)
    const struct CMUnitTest tests[] = {
        IN_A_WORLD(an_answer_comes_with_status_body_and_request_id),
        IN_A_WORLD(methods_paths_queries_and_tokens_are_signed_as_they_are_sent),
        IN_A_WORLD(a_call_to_another_region_is_signed_for_it),
        IN_A_WORLD(what_has_its_own_url_is_fetched_without_a_signature),
        IN_A_WORLD(an_error_comes_with_its_code_and_words),
        IN_A_WORLD(connections_are_kept_and_used_again),
        IN_A_WORLD(a_thousand_calls_share_eight_connections),
        IN_A_WORLD(bodies_larger_than_all_buffers_arrive_whole),
        IN_A_WORLD(no_answer_in_time_is_unknown),
        IN_A_WORLD(a_connection_that_ends_after_the_request_is_unknown),
        IN_A_WORLD(a_reset_before_the_end_of_the_body_sent_nothing),
        IN_A_WORLD(a_reused_connection_that_ends_without_an_answer_sends_nothing_twice),
        IN_A_WORLD(large_requests_are_not_sent_twice_either),
        IN_A_WORLD(a_connection_closed_while_idle_costs_nothing),
        IN_A_WORLD(a_refused_connection_is_not_sent),
        IN_A_WORLD(a_failed_tls_handshake_is_not_sent),
        IN_A_WORLD(a_call_that_never_gets_its_turn_is_not_sent),
        IN_A_WORLD(a_wrong_clock_is_corrected_and_the_call_repeated_once),
        IN_A_WORLD(a_signature_that_stays_wrong_is_not_tried_for_ever),
        IN_A_WORLD(refused_credentials_are_renewed_and_the_call_repeated_once),
        IN_A_WORLD(a_refused_call_waits_no_longer_than_its_time),
        IN_A_WORLD(calls_wait_for_the_first_credentials_and_for_the_region_with_them),
        IN_A_WORLD(without_usable_credentials_nothing_is_sent_and_the_words_say_why),
        IN_A_WORLD(a_client_that_goes_calls_nobody_back),
        IN_A_WORLD(settings_that_cannot_work_are_refused),
    };
    return cmocka_run_group_tests_name("aws/http", tests, NULL, NULL);
}
