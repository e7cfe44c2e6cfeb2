#include "master/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"

enum { BACKLOG = 1024, LOOK_MS = 20 };

static void look_again_later(void)
{
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};

    (void)nanosleep(&pause, NULL);
}

/* ---- TCP ---- */

/* The children of a master that was killed leave within a moment: the last of them lets go of the
 * lock first and of the sockets then. */
static int bind_and_listen(int fd, const struct addrinfo *at, uint64_t until_ms)
{
    bool bound = false;

    while (true) {
        bound = bound || bind(fd, at->ai_addr, at->ai_addrlen) == 0;
        if (bound && listen(fd, BACKLOG) == 0)
            return 0;
        if (errno != EADDRINUSE || clock_mono_ms() >= until_ms)
            return -1;
        look_again_later();
    }
}

static int tcp_open(struct listener *l, const struct config_address *a, uint64_t until_ms,
                    struct err *err)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    const int on = 1;

    int rc = getaddrinfo(strcmp(a->host, "*") == 0 ? NULL : a->host, a->port, &hints, &found);
    if (rc != 0)
        return err_set(err, ERR_CONFIG, "listen %s:%s: %s", a->host, a->port, gai_strerror(rc));
    l->fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd >= 0)
        (void)setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    /* Accepted sockets inherit it. libevent writes a long answer in pieces, and the last one would
     * wait for a delayed acknowledgement: 40 ms. */
    if (l->fd >= 0)
        (void)setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    bool open = l->fd >= 0 && bind_and_listen(l->fd, found, until_ms) == 0;
    if (!open)
        (void)err_sys(err, "listen %s:%s", a->host, a->port);
    freeaddrinfo(found);
    return open ? 0 : -1;
}

/* ---- Unix sockets ---- */

static int lock_path(struct listener *l, uint64_t until_ms, struct err *err)
{
    struct buf name = {0};

    buf_printf(&name, "%s.lock", l->at.host);
    l->lock_fd = open(buf_cstr(&name), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    int failed =
        l->lock_fd < 0 ? err_sys(err, "listen unix:%s: %s", l->at.host, buf_cstr(&name)) : 0;
    buf_fini(&name);
    while (failed == 0 && flock(l->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        if (clock_mono_ms() >= until_ms)
            return err_set(err, ERR_CONFIG, "listen unix:%s: another Postern serves it",
                           l->at.host);
        look_again_later();
    }
    return failed;
}

enum found { FOUND_NOTHING, FOUND_STALE, FOUND_ALIVE, FOUND_SOMETHING_ELSE };

static enum found look_at(const struct sockaddr_un *at)
{
    struct stat st;

    if (lstat(at->sun_path, &st) != 0)
        return FOUND_NOTHING;
    if (!S_ISSOCK(st.st_mode))
        return FOUND_SOMETHING_ELSE;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool refused = fd >= 0 && connect(fd, (const struct sockaddr *)at, sizeof *at) != 0 &&
                   errno == ECONNREFUSED;
    if (fd >= 0)
        (void)close(fd);
    return refused ? FOUND_STALE : FOUND_ALIVE;
}

/* With the lock held: nobody else who asks for it takes the place that is made free here. */
static int make_way(const struct sockaddr_un *at, uint64_t until_ms, struct err *err)
{
    for (;; look_again_later()) {
        switch (look_at(at)) {
        case FOUND_NOTHING:
            return 0;
        case FOUND_STALE:
            if (unlink(at->sun_path) != 0 && errno != ENOENT)
                return err_sys(err, "listen unix:%s: the old socket cannot be removed",
                               at->sun_path);
            return 0;
        case FOUND_ALIVE:
            if (clock_mono_ms() >= until_ms)
                return err_set(err, ERR_CONFIG, "listen unix:%s: another program serves it",
                               at->sun_path);
            break;
        case FOUND_SOMETHING_ELSE:
            return err_set(err, ERR_CONFIG,
                           "listen unix:%s: there is something that is no socket: move it away",
                           at->sun_path);
        }
    }
}

/* Made for its owner alone, and opened to others once it is theirs. */
static int unix_bind(const struct listener *l, const struct sockaddr_un *at, unsigned mode,
                     const char *user, struct err *err)
{
    const struct passwd *pw = NULL;
    mode_t before = umask(0177);
    bool bound = bind(l->fd, (const struct sockaddr *)at, sizeof *at) == 0;

    (void)umask(before);
    if (!bound)
        return err_sys(err, "listen unix:%s", l->at.host);
    if (user[0] != '\0' && geteuid() == 0)
        pw = getpwnam(user);
    if ((pw != NULL && lchown(l->at.host, pw->pw_uid, pw->pw_gid) != 0) ||
        chmod(l->at.host, (mode_t)mode) != 0 || listen(l->fd, BACKLOG) != 0)
        return err_sys(err, "listen unix:%s", l->at.host);
    return 0;
}

static int unix_open(struct listener *l, unsigned mode, const char *user, uint64_t until_ms,
                     struct err *err)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    if (strlen(l->at.host) >= sizeof at.sun_path)
        return err_set(err, ERR_CONFIG, "listen unix:%s: the path is too long", l->at.host);
    memcpy(at.sun_path, l->at.host, strlen(l->at.host));
    if (lock_path(l, until_ms, err) != 0 || make_way(&at, until_ms, err) != 0)
        return -1;
    l->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0)
        return err_sys(err, "listen unix:%s", l->at.host);
    return unix_bind(l, &at, mode, user, err);
}

/* ---- both ---- */

static const struct listener none = {.fd = -1, .lock_fd = -1};

void listener_let_go(struct listener *l)
{
    if (l->fd >= 0)
        (void)close(l->fd);
    if (l->lock_fd >= 0)
        (void)close(l->lock_fd);
    free(l->at.host);
    free(l->at.port);
    *l = none;
}

int listener_open(struct listener *l, const struct config_address *at, unsigned mode,
                  const char *user, unsigned patience_ms, struct err *err)
{
    uint64_t until_ms = clock_mono_ms() + patience_ms;

    listener_adopt(l, at, -1, -1);
    if ((config_address_is_unix(at) ? unix_open(l, mode, user, until_ms, err)
                                    : tcp_open(l, at, until_ms, err)) == 0)
        return 0;
    listener_let_go(l);
    return -1;
}

void listener_adopt(struct listener *l, const struct config_address *at, int fd, int lock_fd)
{
    *l = (struct listener){
        .fd = fd,
        .lock_fd = lock_fd,
        .at = {.host = mem_strdup(at->host), .port = mem_strdup(at->port)},
    };
}

static bool is_same_address(const struct sockaddr_storage *a, const struct addrinfo *b)
{
    const struct sockaddr_in *a4 = (const struct sockaddr_in *)a,
                             *b4 = (const struct sockaddr_in *)b->ai_addr;
    const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)a,
                              *b6 = (const struct sockaddr_in6 *)b->ai_addr;

    if (a->ss_family != b->ai_family)
        return false;
    return a->ss_family == AF_INET
               ? a4->sin_port == b4->sin_port && a4->sin_addr.s_addr == b4->sin_addr.s_addr
               : a6->sin6_port == b6->sin6_port &&
                     memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof a6->sin6_addr) == 0;
}

static bool serves(int fd, const struct config_address *at)
{
    const struct addrinfo hints = {.ai_family = AF_UNSPEC,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct sockaddr_storage own = {0};
    const struct sockaddr_un *own_path = (const struct sockaddr_un *)&own;
    socklen_t len = sizeof own;
    struct addrinfo *found = NULL;
    bool same = false;

    if (getsockname(fd, (struct sockaddr *)&own, &len) != 0)
        return false;
    if (config_address_is_unix(at))
        return own.ss_family == AF_UNIX && strcmp(own_path->sun_path, at->host) == 0;
    if (getaddrinfo(strcmp(at->host, "*") == 0 ? NULL : at->host, at->port, &hints, &found) != 0)
        return false;
    for (const struct addrinfo *a = found; a != NULL && !same; a = a->ai_next)
        same = is_same_address(&own, a);
    freeaddrinfo(found);
    return same;
}

bool listener_borrow(struct listener *l, int fd, const struct config_address *at)
{
    const int on = 1;

    if (!serves(fd, at))
        return false;
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    if (!config_address_is_unix(at))
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    listener_adopt(l, at, fd, -1);
    return true;
}

bool listener_is_at(const struct listener *l, const struct config_address *at)
{
    return l->at.host != NULL && strcmp(l->at.host, at->host) == 0 &&
           strcmp(l->at.port, at->port) == 0;
}

int listener_set_mode(const struct listener *l, unsigned mode, struct err *err)
{
    if (l->lock_fd < 0 || chmod(l->at.host, (mode_t)mode) == 0)
        return 0;
    return err_sys(err, "listen unix:%s", l->at.host);
}

void listener_close(struct listener *l)
{
    if (l->lock_fd >= 0)
        (void)unlink(l->at.host); /* before the lock is let go of: it is still ours */
    listener_let_go(l);
}
