/*
 * Time limits of connections, with a shorter grace than the role's.
 */
#include "httpd/server.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"

enum { GRACE_MS = 300, DRIP_MS = 20, PATIENCE_MS = 5000 };

static uint16_t port;
static pid_t pid;

static void handle(struct evhttp_request *req, void *arg)
{
    struct evbuffer *body = evbuffer_new();

    evbuffer_add_printf(body, "done\n");
    server_answer(*(struct server **)arg, req, 200, body);
    evbuffer_free(body);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    server_tick(*(struct server **)arg);
}

static void serve(int listener)
{
    const struct timeval tick = {.tv_usec = 50000};
    struct event_base *base = event_base_new();
    struct server *server;
    struct server_settings settings = {
        .listen_fds = &listener,
        .listen_count = 1,
        .max_body_bytes = 1 << 20,
        .connections_max = 1000,
        .requests_per_connection = 1000,
        .idle_ms = 75000,
        .patience_ms = GRACE_MS,
        .handle = handle,
        .arg = &server,
    };
    struct err err;

    server = server_open(base, &settings, &err);
    event_add(event_new(base, -1, EV_PERSIST, on_tick, &server), &tick);
    event_base_dispatch(base);
    _exit(1);
}

static int start(void **unused)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    socklen_t len = sizeof at;

    (void)unused;
    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 16) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &len) != 0)
        return -1;
    port = ntohs(at.sin_port);
    pid = fork();
    if (pid == 0)
        serve(listener);
    close(listener);
    return 0;
}

static int stop(void **unused)
{
    (void)unused;
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return 0;
}

/* Sends text in pieces with a pause behind each; how long until the peer closed, and whether it
 * answered. */
static uint64_t drip(struct slice text, size_t piece, bool *answered)
{
    struct sockaddr_in at = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    uint64_t from = clock_mono_ms();
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char bytes[512];

    *answered = false;
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    while (clock_mono_ms() - from < PATIENCE_MS) {
        struct slice now = slice_head(text, piece);

        if (now.len > 0)
            (void)!send(fd, now.ptr, now.len, MSG_NOSIGNAL);
        text = slice_from(text, now.len);
        if (poll(&p, 1, DRIP_MS) == 1) {
            if (recv(fd, bytes, sizeof bytes, 0) <= 0)
                break;
            *answered = true;
        }
    }
    close(fd);
    return clock_mono_ms() - from;
}

#define LONG                                                                                       \
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

static void a_head_that_drips_in_is_cut_off(void **unused)
{
    bool answered;
    uint64_t took_ms = drip(SLICE("GET / HTTP/1.1\r\nX: " LONG LONG LONG "\r\n\r\n"), 1, &answered);

    (void)unused;
    assert_false(answered);
    assert_true(took_ms >= GRACE_MS && took_ms < PATIENCE_MS / 2);
}

static void a_body_that_drips_in_is_cut_off(void **unused)
{
    const struct slice request =
        SLICE("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 260\r\n\r\n" LONG LONG LONG);
    bool answered;
    uint64_t took_ms = drip(request, 2, &answered);

    (void)unused;
    assert_false(answered);
    assert_true(took_ms >= GRACE_MS && took_ms < PATIENCE_MS / 2);
}

static void a_request_in_pieces_within_the_grace_is_answered(void **unused)
{
    bool answered;

    (void)unused;
    (void)drip(SLICE("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), 10, &answered);
    assert_true(answered);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_that_drips_in_is_cut_off),
        cmocka_unit_test(a_body_that_drips_in_is_cut_off),
        cmocka_unit_test(a_request_in_pieces_within_the_grace_is_answered),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
