/*
 * store/control.c - the writer's half of the control socket.
 *
 * A client's place goes round:
 *
 *   FREE → LISTENING → WAITING → TAKEN → ANSWERED → LISTENING …
 *            on_client   control_next  control_answer  control_send
 *
 * Only a LISTENING client is read from, so that it has one request here at most; the rest waits in
 * its socket. Whatever it does wrong makes its place FREE again. Without a free place nobody is let
 * in: those who knock wait in the socket's queue for one of the others to finish or to idle too
 * long.
 */
#include "store/control.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"

enum {
    SEND_BUFFER = 2 * CONTROL_ANSWER_MAX, /* the kernel counts its own bookkeeping too */
    PAUSE_MS = 1000,                      /* after accept() failed for want of something */
};

enum place { FREE, LISTENING, WAITING, TAKEN, ANSWERED };

struct client {
    struct control *control;
    enum place place;
    int fd;
    struct event *readable;
    uint64_t number; /* of its request, in order of arrival */
    struct record_control request;
    struct buf bytes; /* what the request borrows from; then the encoded answer */
};

struct control {
    char *path;
    int fd;
    struct event *knock; /* pending while there is room for one more */
    struct event *pause; /* after which it is pending again */
    struct event_base *base;
    void (*wake)(void *arg);
    void *arg;
    uint64_t last_number;
    struct client *taken; /* the one to be answered */
    struct client clients[CONTROL_CLIENTS_MAX];
};

static struct client *find(struct control *c, enum place place)
{
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (c->clients[i].place == place)
            return &c->clients[i];
    return NULL;
}

static void knock_on(struct control *c)
{
    if (find(c, FREE) != NULL && event_add(c->knock, NULL) != 0)
        log_error("nobody new can use %s", c->path);
}

static void client_close(struct client *client)
{
    event_free(client->readable);
    (void)close(client->fd);
    buf_fini(&client->bytes);
    *client = (struct client){.control = client->control};
    knock_on(client->control);
}

static bool client_listen(struct client *client)
{
    const struct timeval idle = {.tv_sec = CONTROL_IDLE_MS / 1000};

    client->place = LISTENING;
    return event_add(client->readable, &idle) == 0;
}

/* 1 a request, 0 nothing yet, -1 it is gone or sent what is no request. */
static int client_read(struct client *client)
{
    buf_reset(&client->bytes);
    uint8_t *room = buf_reserve(&client->bytes, CONTROL_REQUEST_MAX);
    ssize_t n = recv(client->fd, room, CONTROL_REQUEST_MAX, MSG_DONTWAIT | MSG_TRUNC);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    if (n == 0)
        return -1;
    client->bytes.len = (size_t)n;
    if (client->bytes.len <= CONTROL_REQUEST_MAX &&
        record_control_decode(buf_slice(&client->bytes), &client->request))
        return 1;
    log_warn("a client of %s sent %zu bytes that are no request: it is closed",
             client->control->path, client->bytes.len);
    return -1;
}

/* -------- callbacks -------- */

static void on_client(evutil_socket_t fd, short what, void *arg)
{
    struct client *client = arg;
    struct control *c = client->control;

    (void)fd;
    int got = (what & EV_READ) != 0 ? client_read(client) : -1;
    if (got < 0 || (got == 0 && !client_listen(client))) {
        client_close(client);
        return;
    }
    if (got == 0)
        return;
    client->place = WAITING;
    client->number = ++c->last_number;
    c->wake(c->arg);
}

static void admit(struct control *c, int fd)
{
    struct client *client = find(c, FREE);
    const int bytes = SEND_BUFFER;

    assert(client != NULL); /* else the event is not pending */
    /* Less than this is granted: then a long answer does not go out, and its client is closed. */
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    client->fd = fd;
    client->readable = event_new(c->base, fd, EV_READ, on_client, client);
    if (client->readable == NULL) {
        (void)close(fd); /* the place is still free */
        return;
    }
    if (!client_listen(client))
        client_close(client);
}

static void on_knock(evutil_socket_t fd, short what, void *arg)
{
    const struct timeval pause = {.tv_sec = PAUSE_MS / 1000};
    struct control *c = arg;

    (void)what;
    int got = accept4((int)fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (got >= 0) {
        admit(c, got);
    } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
        log_warn("%s: nobody is let in for %d ms (errno %d)", c->path, PAUSE_MS, errno);
        if (event_add(c->pause, &pause) == 0)
            return;
    }
    knock_on(c);
}

static void on_pause_over(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    knock_on(arg);
}

/* -------- a turn of the writer -------- */

bool control_has_work(const struct control *c)
{
    for (size_t i = 0; c != NULL && i < CONTROL_CLIENTS_MAX; i++)
        if (c->clients[i].place == WAITING)
            return true;
    return false;
}

bool control_next(struct control *c, struct record_control *r)
{
    struct client *oldest = NULL;

    if (c == NULL)
        return false;
    assert(c->taken == NULL);
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        struct client *client = &c->clients[i];
        if (client->place == WAITING && (oldest == NULL || client->number < oldest->number))
            oldest = client;
    }
    if (oldest == NULL)
        return false;
    oldest->place = TAKEN;
    c->taken = oldest;
    *r = oldest->request;
    return true;
}

void control_answer(struct control *c, const struct record_controlled *a)
{
    const struct record_controlled too_long = {
        .verdict = ANSWER_REFUSED, .text = SLICE("the answer is too long for one packet")};
    struct client *client = c->taken;
    struct buf encoded = {0};

    assert(client != NULL);
    record_controlled_encode(&encoded, a); /* its text may borrow from the request's bytes */
    if (encoded.len > CONTROL_ANSWER_MAX) {
        buf_reset(&encoded);
        record_controlled_encode(&encoded, &too_long);
    }
    buf_fini(&client->bytes);
    client->bytes = encoded;
    client->place = ANSWERED;
    c->taken = NULL;
}

void control_send(struct control *c)
{
    for (size_t i = 0; c != NULL && i < CONTROL_CLIENTS_MAX; i++) {
        struct client *client = &c->clients[i];
        if (client->place != ANSWERED)
            continue;
        ssize_t n =
            send(client->fd, client->bytes.ptr, client->bytes.len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno != EPIPE && errno != ECONNRESET)
            log_warn("%s: an answer of %zu bytes does not go out (errno %d)", c->path,
                     client->bytes.len, errno);
        if (n < 0 || !client_listen(client))
            client_close(client);
    }
}

void control_forget(struct control *c)
{
    if (c == NULL)
        return;
    c->taken = NULL;
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (c->clients[i].place == TAKEN || c->clients[i].place == ANSWERED)
            client_close(&c->clients[i]);
}

bool control_is_command_lines(uint32_t verb)
{
    return verb == CONTROL_LOGIN || verb == CONTROL_IMPORT || verb == CONTROL_KEY_ADD ||
           verb == CONTROL_KEY_WITHDRAW;
}

/* -------- opening -------- */

/* The socket takes its name when it listens already: whoever asks meets the last writer's or ours. */
static int bind_to(const struct control *c, const struct sockaddr_un *at,
                   const struct sockaddr_un *at_first, struct err *err)
{
    struct stat found;

    if (lstat(at->sun_path, &found) == 0 && !S_ISSOCK(found.st_mode))
        return err_set(err, ERR_CONFIG, "%s is in the way: it is no socket", c->path);
    (void)unlink(at_first->sun_path); /* of a writer that died just here */
    mode_t before = umask(0177);      /* from its first instant on it is ours alone */
    int got = bind(c->fd, (const struct sockaddr *)at_first, sizeof *at_first);
    int why = errno;
    (void)umask(before);
    errno = why;
    if (got != 0 || listen(c->fd, CONTROL_CLIENTS_MAX) != 0 ||
        rename(at_first->sun_path, at->sun_path) != 0)
        return err_sys(err, "%s", c->path);
    return 0;
}

static int open_socket(struct control *c, const char *state_dir, struct err *err)
{
    struct sockaddr_un at, at_first;
    int dir_fd = -1, first_dir_fd = -1, got = -1;

    c->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        return err_sys(err, "socket");
    if (control_address(state_dir, CONTROL_SOCKET, &at, &dir_fd, err) == 0 &&
        control_address(state_dir, CONTROL_SOCKET ".new", &at_first, &first_dir_fd, err) == 0)
        got = bind_to(c, &at, &at_first, err);
    if (dir_fd >= 0)
        (void)close(dir_fd);
    if (first_dir_fd >= 0)
        (void)close(first_dir_fd);
    return got;
}

struct control *control_open(const char *state_dir, struct event_base *base,
                             void (*wake)(void *arg), void *arg, struct err *err)
{
    struct control *c = mem_zero(1, sizeof *c);
    struct buf path = {0};

    *c = (struct control){.fd = -1, .base = base, .wake = wake, .arg = arg};
    buf_printf(&path, "%s/control", state_dir);
    c->path = mem_strdup(buf_cstr(&path));
    buf_fini(&path);
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        c->clients[i].control = c;
    if (open_socket(c, state_dir, err) != 0)
        goto fail;
    c->knock = event_new(base, c->fd, EV_READ, on_knock, c);
    c->pause = evtimer_new(base, on_pause_over, c);
    if (c->knock == NULL || c->pause == NULL || event_add(c->knock, NULL) != 0) {
        (void)err_set(err, ERR_SYSTEM, "%s: its events cannot be set up", c->path);
        goto fail;
    }
    return c;
fail:
    control_close(c);
    return NULL;
}

void control_close(struct control *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        struct client *client = &c->clients[i];
        if (client->place == FREE)
            continue;
        event_free(client->readable);
        (void)close(client->fd);
        buf_fini(&client->bytes);
    }
    /* The socket stays, deaf: its successor is there in a moment, and whoever asks waits for it. */
    if (c->knock != NULL)
        event_free(c->knock);
    if (c->pause != NULL)
        event_free(c->pause);
    if (c->fd >= 0)
        (void)close(c->fd);
    free(c->path);
    free(c);
}
