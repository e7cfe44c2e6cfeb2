/*
 * The role as a whole: a real process on a loopback socket, a writer that is played, raw bytes in
 * and out. The parent is the client.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pack.h"
#include "httpd/httpd.h"
#include "mail/message.h"
#include "shm/record.h"
#include "store/events.h"

enum { EVENTS = 5, BODY_MAX = 1 << 20, RING_BYTES = 4 << 20, ANSWER_WAIT_MS = 20000 };

#define KEY  "Authorization: Basic YXBpOmtleS0wMTIzNDU2Nzg5\r\n" /* api:key-0123456789 */
#define HEAD "Host: 127.0.0.1:8099\r\nConnection: close\r\n"

static char *keys[] = {(char[]){"key-0123456789"}};
static char *other_keys[] = {(char[]){"key-of-the-other"}};
static struct config_domain domains[] = {
    {.name = (char[]){"mg.example.com"}, .api_keys = {keys, 1}},
    {.name = (char[]){"other.example.com"}, .api_keys = {other_keys, 1}},
    {.name = (char[]){"warm.example.com"}, .api_keys = {keys, 1}},
};
static char state_dir[] = "/tmp/test-httpd-XXXXXX";
static struct config config = {
    .public_url = (char[]){""},
    .state_dir = state_dir,
    .grace_ms = 3000,
    .httpd = {.children = 1,
              .max_body_bytes = BODY_MAX,
              .tls_certificate = (char[]){""},
              .tls_key = (char[]){""},
              .connections = 1000,
              .keepalive_requests = 1000,
              .keepalive_ms = 75000,
              .patience_ms = 30000},
    .domains = domains,
    .domain_count = 3,
    .retention = {.events_ms = 30ull * 86400 * 1000},
};

static struct stage {
    struct child_slot slot;
    struct child me;
    int listener, control;
    uint16_t port;
    pid_t httpd, writer;
} stage;

/* ---- the writer that is played ---- */

static void push_answer(uint64_t request_id, uint64_t generation, enum answer_verdict verdict,
                        struct slice text)
{
    struct record_answer answer = {
        .request_id = request_id, .generation = generation, .verdict = verdict, .text = text};
    struct buf b = {0};

    record_answer_encode(&b, &answer);
    if (ring_push(stage.slot.down, buf_slice(&b), NULL) != RING_OK)
        _exit(1);
    buf_fini(&b);
    bell_ring(&stage.slot.bell);
}

/* A batch is checked as the writer would: every part unpacks, and the counts agree. */
static enum answer_verdict judge(const struct record_accept *r)
{
    struct unpack u = unpack_over(r->slices);
    struct message_head head;
    struct message_content content;
    struct arena a = {0};
    size_t total = 0;
    bool fine = message_head_unpack(r->head, &a, &head) &&
                message_content_unpack(r->content, &a, &content) &&
                slice_eq(r->domain, SLICE("mg.example.com"));

    for (uint32_t i = unpack_array(&u); i > 0 && fine; i--) {
        struct recipient *list;
        size_t count;

        fine = recipients_unpack(unpack_str(&u), &a, &list, &count);
        total += fine ? count : 0;
    }
    fine = fine && unpack_done(&u) && total == r->recipient_count &&
           (r->claims.len == 0 || r->claims.len == total * CLAIM_BYTES);
    bool disk_full = fine && slice_eq(head.subject, SLICE("full"));
    arena_fini(&a);
    return disk_full ? ANSWER_FULL : fine ? ANSWER_OK : ANSWER_REFUSED;
}

static void play(struct slice rec)
{
    struct record_accept accept;
    struct record_unsuppress unsuppress;
    struct record_seen seen;

    switch (record_kind_of(rec)) {
    case RECORD_ACCEPT:
        if (!record_accept_decode(rec, &accept))
            _exit(1);
        push_answer(accept.request_id, accept.generation + 1, ANSWER_FULL, SLICE("")); /* dropped */
        push_answer(accept.request_id, accept.generation, judge(&accept), accept.answer_id);
        return;
    case RECORD_SEEN:
        if (!record_seen_decode(rec, &seen))
            _exit(1);
        if (!slice_eq(seen.domain, SLICE("warm.example.com"))) /* there the writer is silent */
            push_answer(seen.request_id, seen.generation, ANSWER_OK, SLICE(""));
        return;
    case RECORD_UNSUPPRESS: {
        if (!record_unsuppress_decode(rec, &unsuppress))
            _exit(1);
        struct unpack u = unpack_over(unsuppress.domains);
        bool both = unpack_array(&u) == 2 && slice_eq(unpack_str(&u), SLICE("mg.example.com")) &&
                    slice_eq(unpack_str(&u), SLICE("warm.example.com")) && unpack_done(&u);
        bool there = slice_eq(unsuppress.address, SLICE("bounce1@readers.example.net"));
        push_answer(unsuppress.request_id, unsuppress.generation,
                    !both   ? ANSWER_REFUSED
                    : there ? ANSWER_OK
                            : ANSWER_NOT_FOUND,
                    SLICE(""));
        return;
    }
    default:
        _exit(1);
    }
}

static void play_writer(void)
{
    struct gauge_slot *own = &stage.me.gauges->slots[0];
    struct ring_view view;

    atomic_store(&own->state, GAUGE_READY);
    while (getppid() != 1) {
        atomic_store(&own->heartbeat_mono_ms, clock_mono_ms());
        while (ring_peek(stage.slot.up, &view) == RING_OK) {
            play(view.rec);
            ring_release(stage.slot.up, &view);
        }
        poll(NULL, 0, 2);
    }
    _exit(0);
}

/* ---- the stage ---- */

/* Delivered events of mg.example.com, one a second, the last a minute ago. */
static int store_fill(struct store *s, struct err *err)
{
    uint64_t now_us = clock_wall_us();
    struct store_txn *t = store_begin_write(s, err);

    if (t == NULL)
        return -1;
    for (uint64_t i = 0; i < EVENTS; i++) {
        struct slice identity = slice_of(&i, sizeof i);
        struct event e = {
            .type = EVENT_DELIVERED,
            .ses_us = now_us - (60 + EVENTS - i) * 1000000,
            .domain = SLICE("mg.example.com"),
            .recipient = SLICE("reader@example.net"),
            .message_id = SLICE("1.2@mg.example.com"),
        };
        event_make_id(&e, &identity, 1);
        if (event_put(t, &e, now_us, err) != 1) {
            store_abort(t);
            return -1;
        }
    }
    return store_commit(t, err);
}

static void store_make(void)
{
    struct err err;
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct store *s = store_open(state_dir, STORE_WRITE, &err);
        if (s == NULL || store_fill(s, &err) != 0)
            _exit(1);
        store_close(s);
        _exit(0);
    }
    waitpid(pid, &status, 0);
    assert_int_equal(status, 0);
}

static void start_httpd(void)
{
    stage.httpd = fork();
    if (stage.httpd == 0) {
        close(stage.control);
        _exit(httpd_main(&stage.me));
    }
}

static int set_stage(void **unused)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int control[2];
    struct err err;

    (void)unused;
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    assert_non_null(mkdtemp(state_dir));
    store_make();
    stage.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(stage.listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(stage.listener, 128), 0);
    assert_int_equal(getsockname(stage.listener, (struct sockaddr *)&at, &len), 0);
    stage.port = ntohs(at.sin_port);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, control), 0);
    stage.control = control[1];
    stage.me = (struct child){
        .role = ROLE_HTTPD,
        .gauge = 1,
        .generation = 7,
        .name = "httpd 0",
        .config = &config,
        .gauges = gauges_create(NULL, &err),
        .control_fd = control[0],
        .listen_fds = &stage.listener,
        .listen_count = 1,
        .slot = &stage.slot,
        .ring_epoch = 1,
    };
    stage.slot = (struct child_slot){
        .role = ROLE_HTTPD,
        .gauge = 1,
        .up = ring_create(RING_BYTES, &err),
        .down = ring_create(65536, &err),
    };
    _Atomic uint32_t *sleeping = stage.me.gauges->sleeping;
    assert_int_equal(bell_create(&stage.slot.bell, &sleeping[1], &err), 0);
    assert_int_equal(bell_create(&stage.me.writer_bell, &sleeping[0], &err), 0);
    stage.writer = fork();
    if (stage.writer == 0)
        play_writer();
    start_httpd();
    return 0;
}

static int clear_stage(void **unused)
{
    char command[sizeof state_dir + 16];
    int status;

    (void)unused;
    kill(stage.httpd, SIGTERM);
    waitpid(stage.httpd, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), CHILD_EXIT_DONE);
    kill(stage.writer, SIGKILL);
    waitpid(stage.writer, &status, 0);
    assert_true(WIFSIGNALED(status)); /* else a record was not understood */
    snprintf(command, sizeof command, "rm -rf %s", state_dir);
    return system(command) == 0 ? 0 : -1;
}

/* ---- the client ---- */

static int dial(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons(stage.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

static void say(int fd, struct slice s)
{
    while (s.len > 0) {
        ssize_t sent = send(fd, s.ptr, s.len, MSG_NOSIGNAL);
        if (sent < 0)
            return; /* refused half-way: the answer tells */
        s = slice_from(s, (size_t)sent);
    }
}

/* All that comes until the peer closes, or until it holds `until`. */
static const char *hear(int fd, struct buf *heard, const char *until)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};

    buf_reset(heard);
    while (poll(&p, 1, ANSWER_WAIT_MS) == 1) {
        ssize_t got = recv(fd, buf_reserve(heard, 65536), 65536, 0);
        if (got <= 0)
            return buf_cstr(heard);
        heard->len += (size_t)got;
        if (until != NULL && slice_find(buf_slice(heard), slice_str(until)) != SIZE_MAX)
            return buf_cstr(heard);
    }
    fail_msg("no end to the answer: %s", buf_cstr(heard));
    return "";
}

static const char *ask(struct buf *heard, const char *request)
{
    int fd = dial();

    say(fd, slice_str(request));
    hear(fd, heard, NULL);
    close(fd);
    return buf_cstr(heard);
}

static void expect(const char *request, const char *status, const char *body)
{
    struct buf heard = {0};
    const char *answer = ask(&heard, request);

    if (strstr(answer, status) != answer || strstr(answer, body) == NULL)
        fail_msg("asked:\n%s\nheard:\n%s", request, answer);
    if (strstr(answer, "\r\n\r\n{") != NULL) {
        assert_non_null(strstr(answer, "Content-Type: application/json; charset=utf-8\r\n"));
        assert_int_equal(answer[heard.len - 1], '\n');
    }
    assert_null(strstr(answer, "HTML"));
    assert_null(strstr(answer, "X-RateLimit"));
    if (strncmp(status, "HTTP/1.1 429", 12) == 0 || strncmp(status, "HTTP/1.1 503", 12) == 0)
        assert_non_null(strstr(answer, "Retry-After: "));
    buf_fini(&heard);
}

/* POST of a form in urlencoded spelling. */
static void expect_post(const char *form, const char *status, const char *body)
{
    struct buf b = {0};

    buf_printf(&b,
               "POST /v3/mg.example.com/messages HTTP/1.1\r\n" HEAD KEY
               "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %zu\r\n\r\n%s",
               strlen(form), form);
    expect(buf_cstr(&b), status, body);
    buf_fini(&b);
}

/* ---- what is expected ---- */

static void without_a_key_there_is_only_health(void **unused)
{
    const char *forbidden = "WWW-Authenticate: Basic realm=\"MG API\"\r\n";

    (void)unused;
    expect("GET /v3/mg.example.com/events HTTP/1.1\r\n" HEAD "\r\n", "HTTP/1.1 401 Unauthorized",
           forbidden);
    expect("GET /v3/mg.example.com/events HTTP/1.1\r\n" HEAD "\r\n", "HTTP/1.1 401 Unauthorized",
           "Content-Length: 9\r\n");
    expect("GET /nowhere HTTP/1.1\r\n" HEAD "\r\n", "HTTP/1.1 401 Unauthorized",
           "\r\n\r\nForbidden");
    expect("GET /v3/domains HTTP/1.1\r\n" HEAD "\r\n", "HTTP/1.1 401 Unauthorized",
           "\r\n\r\n{\"message\":\"Invalid private key\"}\n");
    expect("GET /v3/other.example.com/events HTTP/1.1\r\n" HEAD KEY "\r\n",
           "HTTP/1.1 401 Unauthorized", "\r\n\r\nForbidden");
    expect("GET /health HTTP/1.1\r\n" HEAD "\r\n", "HTTP/1.1 200 OK", "{\"status\":\"ok\"}\n");
}

static void paths_and_methods_that_do_not_exist_are_refused(void **unused)
{
    (void)unused;
    expect("GET /v3/nowhere.example.com/events HTTP/1.1\r\n" HEAD KEY "\r\n",
           "HTTP/1.1 404 Not Found", "{\"message\":\"Domain not found: nowhere.example.com\"}\n");
    expect("GET /v3/mg.example.com/nothing HTTP/1.1\r\n" HEAD KEY "\r\n", "HTTP/1.1 404 Not Found",
           "{\"message\":\"Not Found\"}\n");
    expect("PUT /v3/mg.example.com/messages HTTP/1.1\r\n" HEAD KEY "Content-Length: 0\r\n\r\n",
           "HTTP/1.1 405 Method Not Allowed", "Allow: POST\r\n");
    expect("OPTIONS /v3/mg.example.com/events HTTP/1.1\r\n" HEAD KEY "\r\n",
           "HTTP/1.1 405 Method Not Allowed", "Allow: GET\r\n");
    expect("HEAD /v3/mg.example.com/events HTTP/1.1\r\n" HEAD KEY "\r\n",
           "HTTP/1.1 405 Method Not Allowed", "Allow: GET\r\n");
    expect("GET /v3/mg.example.com/bounces/%zz HTTP/1.1\r\n" HEAD KEY "\r\n",
           "HTTP/1.1 400 Bad Request", "invalid URL escape");
}

static void what_is_no_http_is_refused_in_json(void **unused)
{
    struct buf b = {0};

    (void)unused;
    expect("BREW /pot HTTP/1.1\r\n" HEAD KEY "\r\n", "HTTP/1.1 501 Not Implemented",
           "{\"message\":\"Not Implemented\"}\n");
    expect("nonsense\r\n\r\n", "HTTP/1.1 400 Bad Request", "{\"message\":\"Bad Request\"}\n");
    expect("POST /v3/mg.example.com/messages HTTP/1.1\r\n" HEAD KEY
           "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
           "HTTP/1.1 400 Bad Request", "{\"message\":\"Bad Request\"}\n");
    buf_add_str(&b, "GET /v3/mg.example.com/events HTTP/1.1\r\nX: ");
    for (int i = 0; i < 100000; i++)
        buf_add_byte(&b, 'x');
    buf_add_str(&b, "\r\n\r\n");
    expect(buf_cstr(&b), "HTTP/1.1 400 Bad Request", "{\"message\":\"Bad Request\"}\n");
    buf_fini(&b);
}

static void a_body_beyond_the_limit_is_refused_however_it_is_sent(void **unused)
{
    const char *words = "{\"message\":\"request size exceeds 1MiB limit\"}\n";
    struct buf b = {0};

    (void)unused;
    buf_printf(
        &b, "POST /v3/mg.example.com/messages HTTP/1.1\r\n" HEAD KEY "Content-Length: %d\r\n\r\n",
        3 * BODY_MAX);
    memset(buf_reserve(&b, 3 * BODY_MAX), 'x', 3 * BODY_MAX);
    b.len += 3 * BODY_MAX;
    expect(buf_cstr(&b), "HTTP/1.1 413 Request Entity Too Large", words);
    buf_reset(&b);
    buf_add_str(&b, "POST /v3/mg.example.com/messages HTTP/1.1\r\n" HEAD KEY
                    "Transfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 3; i++) {
        buf_printf(&b, "%x\r\n", BODY_MAX / 2);
        memset(buf_reserve(&b, BODY_MAX / 2), 'x', BODY_MAX / 2);
        b.len += BODY_MAX / 2;
        buf_add_str(&b, "\r\n");
    }
    expect(buf_cstr(&b), "HTTP/1.1 413 Request Entity Too Large", words);
    buf_fini(&b);
}

static void a_message_is_answered_once_the_writer_has_it(void **unused)
{
    const char *fine = "from=a%40mg.example.com&to=b%40example.net&subject=hi&text=hello";

    (void)unused;
    expect_post(fine, "HTTP/1.1 200 OK",
                "@mg.example.com>\",\"message\":\"Queued. Thank you.\"}\n");
    expect_post("from=a%40mg.example.com&subject=hi&text=hello", "HTTP/1.1 400 Bad Request",
                "{\"message\":\"to parameter is missing\"}\n");
    expect_post("from=a%40mg.example.com&to=b%40example.net&subject=full&text=hello",
                "HTTP/1.1 503 Service Unavailable", "disk is full");
    expect("POST /v3/MG.example.com/messages/ HTTP/1.1\r\n" HEAD KEY
           "Content-Type: application/x-www-form-urlencoded\r\n"
           "Transfer-Encoding: chunked\r\n\r\n"
           "25\r\nfrom=a%40mg.example.com&to=b%40exampl\r\n12\r\ne.net&text=chunked\r\n0\r\n\r\n",
           "HTTP/1.1 200 OK", "Queued. Thank you.");
}

/* The request as Ghost sent it; the sample's own length counts what was cut out of it. */
static struct slice ghost_request(struct buf *b)
{
    FILE *f = fopen("tests/unit/httpd/newsletter.http", "r");
    struct buf text = {0};
    size_t got;

    assert_non_null(f);
    do {
        got = fread(buf_reserve(&text, 4096), 1, 4096, f);
        text.len += got;
    } while (got != 0);
    fclose(f);
    size_t blank = slice_find(buf_slice(&text), SLICE("\n\n"));
    assert_true(blank != SIZE_MAX);
    struct slice head = slice_head(buf_slice(&text), blank), line;
    struct slice body = slice_from(buf_slice(&text), blank + 2);
    struct buf crlf = {0};

    for (size_t i = 0; i < body.len; i++) {
        if (body.ptr[i] == '\n' && (i == 0 || body.ptr[i - 1] != '\r'))
            buf_add_byte(&crlf, '\r');
        buf_add_byte(&crlf, body.ptr[i]);
    }
    for (bool more = true; more;) {
        more = slice_cut(head, '\n', &line, &head);
        line = slice_trim(line);
        if (!slice_starts_nocase(line, SLICE("Content-Length:")) && !slice_is_empty(line))
            buf_printf(b, "%.*s\r\n", SLICE_ARGS(line));
    }
    buf_printf(b, "Content-Length: %zu\r\n\r\n", crlf.len);
    buf_add_slice(b, buf_slice(&crlf));
    buf_fini(&crlf);
    buf_fini(&text);
    return buf_slice(b);
}

static void ghosts_newsletter_is_accepted_twice_on_one_connection(void **unused)
{
    struct buf b = {0}, heard = {0};
    struct slice request = ghost_request(&b);
    int fd = dial();

    (void)unused;
    for (int i = 0; i < 2; i++) {
        say(fd, request);
        const char *answer = hear(fd, &heard, "}\n");
        if (strstr(answer, "HTTP/1.1 200 OK") != answer)
            fail_msg("%s", answer);
        assert_non_null(strstr(answer, "@mg.example.com>\",\"message\":\"Queued. Thank you.\"}\n"));
    }
    close(fd);
    buf_fini(&b);
    buf_fini(&heard);
}

static void a_second_request_may_arrive_before_the_first_is_answered(void **unused)
{
    struct buf heard = {0};
    int fd = dial();

    (void)unused;
    say(fd,
        SLICE("GET /v3/mg.example.com/events?ascending=yes HTTP/1.1\r\nHost: x\r\n" KEY "\r\n"
              "GET /v3/mg.example.com/events?ascending=yes HTTP/1.1\r\nHost: x\r\n" KEY "\r\n"));
    poll(NULL, 0, 1); /* more comes while the writer is asked */
    say(fd, SLICE("GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    const char *answer = hear(fd, &heard, NULL);
    const char *second = strstr(answer + 1, "HTTP/1.1 200 OK");
    assert_non_null(second);
    assert_non_null(strstr(second + 1, "{\"status\":\"ok\"}\n"));
    close(fd);
    buf_fini(&heard);
}

static void a_client_may_wait_for_leave_to_send_its_body(void **unused)
{
    const char *form = "from=a%40mg.example.com&to=b%40example.net&text=hello";
    struct buf b = {0}, heard = {0};
    int fd = dial();

    (void)unused;
    buf_printf(&b,
               "POST /v3/mg.example.com/messages HTTP/1.1\r\n" HEAD KEY "Expect: 100-continue\r\n"
               "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %zu\r\n\r\n",
               strlen(form));
    say(fd, buf_slice(&b));
    assert_non_null(strstr(hear(fd, &heard, "\r\n\r\n"), "HTTP/1.1 100 Continue"));
    say(fd, slice_str(form));
    assert_non_null(strstr(hear(fd, &heard, NULL), "Queued. Thank you."));
    close(fd);
    buf_fini(&b);
    buf_fini(&heard);
}

static void an_error_behind_an_earlier_answer_is_json_too(void **unused)
{
    struct buf heard = {0};
    int fd = dial();

    (void)unused;
    say(fd, SLICE("GET /health HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_non_null(strstr(hear(fd, &heard, "}\n"), "HTTP/1.1 200 OK"));
    say(fd, SLICE("BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n"));
    const char *answer = hear(fd, &heard, NULL);
    assert_non_null(strstr(answer, "\r\n\r\n{\"message\":\"Not Implemented\"}\n"));
    close(fd);
    buf_fini(&heard);
}

static void a_body_that_breaks_off_leaves_nothing_behind(void **unused)
{
    int fd = dial();
    uint64_t before = ring_head(stage.slot.up);

    (void)unused;
    say(fd, SLICE("POST /v3/mg.example.com/messages HTTP/1.1\r\n" HEAD KEY
                  "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\n"
                  "from=a%40mg.example.com&to=b%40example.net&text=hello"));
    close(fd);
    expect("GET /health HTTP/1.1\r\n" HEAD "\r\n", "HTTP/1.1 200 OK", "ok");
    assert_int_equal(ring_head(stage.slot.up), before);
}

static void an_empty_store_gives_an_empty_page_with_four_links(void **unused)
{
    struct buf heard = {0}, request = {0};

    (void)unused;
    const char *answer =
        ask(&heard, "GET /v3/MG.example.com/"
                    "events?limit=300&event=opened&tags=bulk-email&begin=undefined&ascending=yes "
                    "HTTP/1.1\r\n" HEAD KEY "\r\n");
    assert_non_null(strstr(answer, "\r\n\r\n{\"items\":[],\"paging\":{\"next\":\"http://"
                                   "127.0.0.1:8099/v3/MG.example.com/events/"));
    assert_non_null(strstr(answer, ",\"previous\":\"http://127.0.0.1:8099/v3/MG.example.com/"));
    assert_non_null(strstr(answer, ",\"first\":\"http://127.0.0.1:8099/v3/MG.example.com/"));
    assert_non_null(strstr(answer, ",\"last\":\"http://127.0.0.1:8099/v3/MG.example.com/"));

    /* mailgun.js asks for the text behind the last '/', with its own query behind. */
    const char *token = strstr(answer, "/events/") + 8;
    buf_printf(&request,
               "GET /v3/mg.example.com/events/%.*s&limit=300&begin=nonsense HTTP/1.1\r\n" HEAD KEY
               "\r\n",
               (int)strcspn(token, "\""), token);
    expect(buf_cstr(&request), "HTTP/1.1 200 OK", "{\"items\":[],\"paging\":{\"next\":\"http://");
    expect("GET /v3/mg.example.com/events/AAAA HTTP/1.1\r\n" HEAD KEY "\r\n",
           "HTTP/1.1 400 Bad Request", "{\"message\":\"page is not valid\"}\n");
    expect("GET /v3/mg.example.com/events?begin=x HTTP/1.1\r\n" HEAD KEY "\r\n",
           "HTTP/1.1 400 Bad Request", "'begin' parameter is not a valid date");
    buf_fini(&heard);
    buf_fini(&request);
}

/* Asks for the page that the answer's link of this name leads to; how many items it has. */
static size_t follow(struct buf *heard, const char *link)
{
    struct buf request = {0}, name = {0};
    size_t items = 0;

    buf_printf(&name, "\"%s\":\"http://127.0.0.1:8099", link);
    const char *at = strstr(buf_cstr(heard), buf_cstr(&name));
    assert_non_null(at);
    at += name.len;
    buf_printf(&request, "GET %.*s HTTP/1.1\r\n" HEAD KEY "\r\n", (int)strcspn(at, "\""), at);
    const char *answer = ask(heard, buf_cstr(&request));
    for (at = answer; (at = strstr(at, "\"event\":\"delivered\"")) != NULL; at++)
        items++;
    buf_fini(&request);
    buf_fini(&name);
    return items;
}

static void a_walk_sees_every_event_once_and_finds_its_way_back(void **unused)
{
    struct buf heard = {0};

    (void)unused;
    const char *answer = ask(&heard, "GET /v3/mg.example.com/events?limit=2&event=delivered+OR+"
                                     "failed&ascending=yes HTTP/1.1\r\n" HEAD KEY "\r\n");
    assert_non_null(strstr(answer, "\"recipient\":\"reader@example.net\""));
    assert_int_equal(follow(&heard, "next"), 2);
    assert_int_equal(follow(&heard, "next"), 1);
    assert_int_equal(follow(&heard, "next"), 0);
    assert_int_equal(follow(&heard, "next"), 0);
    assert_int_equal(follow(&heard, "previous"), 2);
    assert_int_equal(follow(&heard, "next"), 0);
    assert_int_equal(follow(&heard, "first"), 2);
    assert_int_equal(follow(&heard, "previous"), 0);
    assert_int_equal(follow(&heard, "next"), 2);
    assert_int_equal(follow(&heard, "last"), 2);
    assert_int_equal(follow(&heard, "next"), 0);
    buf_fini(&heard);
}

static void a_silent_writer_delays_a_reader_by_little(void **unused)
{
    uint64_t asked_ms = clock_mono_ms();

    (void)unused;
    expect("GET /v3/warm.example.com/events HTTP/1.1\r\n" HEAD KEY "\r\n", "HTTP/1.1 200 OK",
           "{\"items\":[],\"paging\":{");
    assert_true(clock_mono_ms() - asked_ms >= 1000);
    assert_true(clock_mono_ms() - asked_ms < 3000);
}

static void a_suppression_is_lifted_in_all_domains_of_the_key(void **unused)
{
    (void)unused;
    expect("DELETE /v3/mg.example.com/bounces/bounce1%40readers.example.net HTTP/1.1\r\n" HEAD KEY
           "\r\n",
           "HTTP/1.1 200 OK",
           "{\"address\":\"bounce1@readers.example.net\",\"message\":\"Bounced address has been "
           "removed\"}\n");
    expect("DELETE /v3/mg.example.com/complaints/x%40y HTTP/1.1\r\n" HEAD KEY
           "Content-Type: application/x-www-form-urlencoded\r\n\r\n",
           "HTTP/1.1 404 Not Found",
           "{\"message\":\"No spam complaints found for this address\"}\n");
    expect("GET /v3/mg.example.com/unsubscribes/x%40y HTTP/1.1\r\n" HEAD KEY "\r\n",
           "HTTP/1.1 404 Not Found",
           "{\"message\":\"Address not found in unsubscribers table\"}\n");
}

static void a_broken_ring_ends_the_process_and_no_other(void **unused)
{
    int status;

    (void)unused;
    assert_int_equal(ring_push(stage.slot.down, SLICE("garbage"), NULL), RING_OK);
    bell_ring(&stage.slot.bell);
    assert_int_equal(waitpid(stage.httpd, &status, 0), stage.httpd);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), CHILD_EXIT_RETRY);
    ring_reset(stage.slot.down);
    start_httpd();
    expect("GET /health HTTP/1.1\r\n" HEAD "\r\n", "HTTP/1.1 200 OK", "{\"status\":\"ok\"}\n");
}

/* Last but for the stage's end, which sends the signal. */
static void sigterm_finishes_what_was_begun(void **unused)
{
    const char *form = "from=a%40mg.example.com&to=b%40example.net&text=hello";
    struct buf b = {0}, heard = {0};
    int fd = dial(), idle = dial();
    int status;

    (void)unused;
    buf_printf(
        &b,
        "POST /v3/mg.example.com/messages HTTP/1.1\r\nHost: x\r\n" KEY
        "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %zu\r\n\r\nfrom=",
        strlen(form));
    say(fd, buf_slice(&b));
    say(idle, SLICE("GET /health HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert_non_null(strstr(hear(idle, &heard, "}\n"), "HTTP/1.1 200 OK"));
    kill(stage.httpd, SIGTERM);
    assert_string_equal(hear(idle, &heard, NULL), ""); /* closed, with nothing said */
    say(fd, slice_from(slice_str(form), 5));
    assert_non_null(strstr(hear(fd, &heard, NULL), "Queued. Thank you."));
    waitpid(stage.httpd, &status, 0);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), CHILD_EXIT_DONE);
    close(fd);
    close(idle);
    buf_fini(&b);
    buf_fini(&heard);
    start_httpd();
    expect("GET /health HTTP/1.1\r\n" HEAD "\r\n", "HTTP/1.1 200 OK", "{\"status\":\"ok\"}\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_key_there_is_only_health),
        cmocka_unit_test(paths_and_methods_that_do_not_exist_are_refused),
        cmocka_unit_test(what_is_no_http_is_refused_in_json),
        cmocka_unit_test(a_body_beyond_the_limit_is_refused_however_it_is_sent),
        cmocka_unit_test(a_message_is_answered_once_the_writer_has_it),
        cmocka_unit_test(ghosts_newsletter_is_accepted_twice_on_one_connection),
        cmocka_unit_test(a_second_request_may_arrive_before_the_first_is_answered),
        cmocka_unit_test(a_client_may_wait_for_leave_to_send_its_body),
        cmocka_unit_test(an_error_behind_an_earlier_answer_is_json_too),
        cmocka_unit_test(a_body_that_breaks_off_leaves_nothing_behind),
        cmocka_unit_test(an_empty_store_gives_an_empty_page_with_four_links),
        cmocka_unit_test(a_walk_sees_every_event_once_and_finds_its_way_back),
        cmocka_unit_test(a_silent_writer_delays_a_reader_by_little),
        cmocka_unit_test(a_suppression_is_lifted_in_all_domains_of_the_key),
        cmocka_unit_test(a_broken_ring_ends_the_process_and_no_other),
        cmocka_unit_test(sigterm_finishes_what_was_begun),
    };

    return cmocka_run_group_tests(tests, set_stage, clear_stage);
}
