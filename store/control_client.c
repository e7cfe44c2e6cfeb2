#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/control.h"

/* A writer that died leaves a socket that nobody listens on; its successor is there soon. */
enum { SUCCESSOR_MS = 1000, SUCCESSOR_LOOK_MS = 50 };

int control_address(const char *state_dir, const char *name, struct sockaddr_un *at, int *dir_fd,
                    struct err *err)
{
    *dir_fd = -1;
    *at = (struct sockaddr_un){.sun_family = AF_UNIX};
    int len = snprintf(at->sun_path, sizeof at->sun_path, "%s/%s", state_dir, name);
    if (len > 0 && (size_t)len < sizeof at->sun_path)
        return 0;
    *dir_fd = open(state_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*dir_fd < 0)
        return err_sys(err, "%s", state_dir);
    (void)snprintf(at->sun_path, sizeof at->sun_path, "/proc/self/fd/%d/%s", *dir_fd, name);
    return 0;
}

static int not_running(const char *state_dir, struct err *err)
{
    return err_set(err, ERR_NOT_FOUND, "Postern is not running in %s", state_dir);
}

static int no_answer(struct err *err)
{
    return err_set(err, ERR_NETWORK, "Postern gave no answer within %d s: see its log",
                   CONTROL_TIMEOUT_MS / 1000);
}

static int left(struct err *err)
{
    return err_set(err, ERR_NETWORK,
                   "Postern left before it answered (it starts anew, or too many ask at once): ask "
                   "again");
}

static int connect_to(int fd, const char *state_dir, const struct sockaddr_un *at, struct err *err)
{
    const struct timespec pause = {.tv_nsec = SUCCESSOR_LOOK_MS * 1000000L};
    uint64_t until_ms = clock_mono_ms() + SUCCESSOR_MS;

    while (connect(fd, (const struct sockaddr *)at, sizeof *at) != 0) {
        switch (errno) {
        case EINTR:
            break;
        case ECONNREFUSED:
            if (clock_mono_ms() >= until_ms)
                return not_running(state_dir, err);
            (void)nanosleep(&pause, NULL);
            break;
        case ENOENT:
        case ENOTDIR:
            return not_running(state_dir, err);
        case EAGAIN:
            return no_answer(err);
        case EACCES:
        case EPERM:
            return err_sys(err,
                           "%s/control can be used by the user that Postern runs as, and by root",
                           state_dir);
        default:
            return err_sys(err, "%s/control", state_dir);
        }
    }
    return 0;
}

static int talk(int fd, struct slice request, struct buf *answer, struct err *err)
{
    ssize_t n;

    do
        n = send(fd, request.ptr, request.len, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return errno == EPIPE || errno == ECONNRESET ? left(err)
               : errno == EAGAIN                     ? no_answer(err)
                                                     : err_sys(err, "asking Postern");
    buf_reset(answer);
    uint8_t *room = buf_reserve(answer, CONTROL_ANSWER_MAX);
    do
        n = recv(fd, room, CONTROL_ANSWER_MAX, MSG_TRUNC);
    while (n < 0 && errno == EINTR);
    if (n == 0 || (n < 0 && errno == ECONNRESET))
        return left(err);
    if (n < 0)
        return errno == EAGAIN ? no_answer(err) : err_sys(err, "Postern's answer");
    answer->len = (size_t)n;
    return 0;
}

int control_ask(const char *state_dir, const struct record_control *r, struct buf *answer,
                struct record_controlled *a, struct err *err)
{
    const struct timeval patience = {.tv_sec = CONTROL_TIMEOUT_MS / 1000};
    struct buf request = {0};
    struct sockaddr_un at;
    int dir_fd = -1, got = -1;

    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return err_sys(err, "socket");
    record_control_encode(&request, r);
    if (request.len > CONTROL_REQUEST_MAX) {
        (void)err_set(err, ERR_INPUT, "what is asked for is too long");
        goto out;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0) {
        (void)err_sys(err, "socket");
        goto out;
    }
    if (control_address(state_dir, CONTROL_SOCKET, &at, &dir_fd, err) != 0) {
        if (err != NULL && (err->sys == ENOENT || err->sys == ENOTDIR))
            (void)not_running(state_dir, err);
        goto out;
    }
    if (connect_to(fd, state_dir, &at, err) != 0 || talk(fd, buf_slice(&request), answer, err) != 0)
        goto out;
    if (answer->len > CONTROL_ANSWER_MAX || !record_controlled_decode(buf_slice(answer), a)) {
        (void)err_set(err, ERR_INPUT,
                      "Postern's answer is not understood: is this postern older or newer than the "
                      "running one?");
        goto out;
    }
    got = 0;
out:
    if (dir_fd >= 0)
        (void)close(dir_fd);
    (void)close(fd);
    buf_fini(&request);
    return got;
}
