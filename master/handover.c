/*
 * How a new binary takes the old one's place (SIGUSR2), without refusing a connection.
 *
 *   old master                              new master (its child, the binary at the same path)
 *   keeps serving                           reads proxy.conf, takes the listening sockets and the
 *                                           lock on state_dir over, starts keeper and httpd
 *                                      <- R "my httpds accept": mail that they take waits in their
 *                                           rings, and is not answered yet
 *   its httpds and workers leave, then
 *   its writer; nobody has the store    G ->
 *                                           starts writer, senders, pollers, courier
 *                                      <- S "all of it works"
 *   the service manager is told the new
 *   main process                        Y ->
 *   leaves, or stays as a shell             tells the service manager what it has to
 *
 * The pair of sockets between them brings these letters. Until S the old master only waits: when the
 * new one ends, or takes too long, it goes on as before; its own children are born again where they
 * had left. So whatever the new binary does wrong costs nobody a connection.
 *
 * CRASH  Old master killed before G: its children leave, the new one goes on by itself. New master
 *        killed before S: the old one goes on. Both: as every start.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "master/master.h"
#include "master/notify.h"

enum {
    PREPARE_MS = 60000, /* for the new one's httpds */
    START_MS = 90000,   /* for its writer and all others: a long recovery is no failure */
    REAP_MS = 1000,     /* from its hanging up to its end */
    ORPHAN_MS = 1000,   /* for the children of a killed old master to leave */
};

enum letter { FRONT_STANDS = 'R', GO = 'G', ALL_STANDS = 'S', YOURS = 'Y' };

static const char variable[] = "POSTERN_HANDOVER";

static void say(int fd, enum letter letter)
{
    const char byte = (char)letter;

    (void)send(fd, &byte, 1, MSG_NOSIGNAL);
}

/* A letter, 0 = none yet, -1 = the other one is gone. */
static int hear(int fd)
{
    char byte;

    ssize_t got = recv(fd, &byte, 1, MSG_DONTWAIT);
    if (got == 1)
        return byte;
    return got < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

/* ---- the old master's side ---- */

static void keep_open(int fd)
{
    if (fd >= 0)
        (void)fcntl(fd, F_SETFD, 0);
}

/* "SOCKET LOCK", then a line for each listener: "FD LOCK-FD PORT HOST"; a Unix socket has the port
 * "-" and its path for a host. */
static void describe(const struct master *m, int fd, struct buf *to)
{
    buf_printf(to, "%d %d", fd, m->lock_fd);
    for (size_t i = 0; i <= m->now.listen_count; i++) {
        const struct listener *l =
            i < m->now.listen_count ? &m->now.listeners[i] : &m->sandbox_listener;
        if (l->fd < 0)
            continue;
        buf_printf(to, "\n%d %d %s %s", l->fd, l->lock_fd, l->at.port[0] == '\0' ? "-" : l->at.port,
                   l->at.host);
        keep_open(l->fd);
        keep_open(l->lock_fd);
    }
    keep_open(fd);
    keep_open(m->lock_fd);
}

/* In the child. What it would need our memory for is over here. */
static void __attribute__((noreturn)) become_heir(struct master *m, int fd)
{
    char option[] = "-c";
    char *const args[] = {m->binary, option, m->now.config->path, NULL};
    struct buf text = {0};

    describe(m, fd, &text);
    (void)setenv(variable, buf_cstr(&text), 1);
    notify_bequeath();
    (void)execv(m->binary, args);
    _exit(127);
}

static void end_heir(struct master *m)
{
    if (m->heir.fd >= 0)
        (void)close(m->heir.fd);
    m->heir = (struct heir){.fd = -1};
}

void handover_begin(struct master *m)
{
    int pair[2];

    if (m->heir.stage != HEIR_NONE || m->renewal != RENEW_NOTHING || m->parent_fd >= 0) {
        log_warn("no upgrade while a reload or an upgrade is under way: ask again");
        return;
    }
    if (m->binary[0] == '\0' || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        log_error("no upgrade: %s", m->binary[0] == '\0' ? "where our binary lies is not known"
                                                         : "no pair of sockets");
        return;
    }
    notify_reloading();
    log_info("upgrade %u: %s starts beside us", ++m->upgrades, m->binary);
    pid_t pid = fork();
    if (pid == 0)
        become_heir(m, pair[1]);
    (void)close(pair[1]);
    if (pid < 0) {
        log_error("no upgrade: no process (errno %d)", errno);
        (void)close(pair[0]);
        return;
    }
    m->heir = (struct heir){.stage = HEIR_PREPARES,
                            .pid = pid,
                            .fd = pair[0],
                            .by_mono_ms = clock_mono_ms() + PREPARE_MS};
}

static void go_on_as_before(struct master *m, const char *why)
{
    bool had_left = m->stage != RUNNING, had_started = m->heir.stage == HEIR_STARTS;

    log_error("upgrade %u: %s: the old binary goes on", m->upgrades, why);
    if (m->heir.pid != 0)
        (void)kill(m->heir.pid, SIGKILL);
    end_heir(m);
    notify_refused();
    atomic_store(&m->gauges->renewing_until_mono_ms, had_left ? clock_mono_ms() + START_MS : 0);
    if (!had_left)
        return;
    m->stage = RUNNING;
    m->said_ready = false;
    for (size_t i = 0; i < m->process_count; i++)
        if (!m->processes[i].is_unused) {
            process_use(m, &m->processes[i], true);
            /* Its writer may still be leaving. */
            m->processes[i].due_mono_ms = had_started ? clock_mono_ms() + ORPHAN_MS : 0;
        }
}

bool handover_reap(struct master *m, pid_t pid, int status)
{
    char why[96];

    if (m->heir.pid != pid || pid == 0)
        return false;
    m->heir.pid = 0;
    if (WIFSIGNALED(status))
        (void)snprintf(why, sizeof why, "the new binary was ended by signal %d", WTERMSIG(status));
    else
        (void)snprintf(why, sizeof why, "the new binary left with status %d", WEXITSTATUS(status));
    if (m->heir.stage != HEIR_SERVES)
        go_on_as_before(m, why);
    return true;
}

/* Our httpds' clients find the new ones; whoever works finishes. */
static void begin_leaving(struct master *m)
{
    log_info("upgrade: the new httpds accept; ours leave, and all others with them");
    m->heir.stage = HEIR_WAITS;
    m->stop_by_mono_ms = clock_mono_ms() + m->now.config->grace_ms;
    atomic_store(&m->gauges->renewing_until_mono_ms, m->stop_by_mono_ms + START_MS);
    master_enter(m, STOP_HTTPD);
    master_enter(m, STOP_WORKERS);
}

void handover_advance(struct master *m)
{
    struct heir *h = &m->heir;

    if (h->stage == HEIR_NONE || h->stage == HEIR_SERVES)
        return;
    switch (h->fd < 0 ? 0 : hear(h->fd)) {
    case FRONT_STANDS:
        if (h->stage == HEIR_PREPARES)
            begin_leaving(m);
        return;
    case ALL_STANDS:
        if (h->stage == HEIR_STARTS) {
            notify_main_pid(h->pid);
            say(h->fd, YOURS);
            h->stage = HEIR_SERVES;
            log_info("upgrade: the new binary serves, pid %d", (int)h->pid);
        }
        return;
    case -1: /* its exit status follows */
        (void)close(h->fd);
        h->fd = -1;
        h->by_mono_ms = clock_mono_ms() + REAP_MS;
        return;
    default:
        break;
    }
    /* While ours leave, it is we who take the time. */
    if ((h->stage != HEIR_WAITS || h->fd < 0) && clock_mono_ms() >= h->by_mono_ms)
        go_on_as_before(m,
                        h->fd < 0 ? "the new binary has hung up" : "the new binary takes too long");
}

bool handover_holds(struct master *m)
{
    struct heir *h = &m->heir;

    if (h->stage == HEIR_WAITS) {
        h->stage = HEIR_STARTS;
        h->by_mono_ms = clock_mono_ms() + START_MS;
        say(h->fd, GO);
    }
    return h->stage == HEIR_STARTS;
}

void handover_give_up(struct master *m)
{
    if (m->heir.stage == HEIR_NONE)
        return;
    if (m->heir.pid != 0)
        (void)kill(m->heir.pid, SIGTERM);
    end_heir(m);
}

int handover_stay(pid_t heir)
{
    sigset_t all;
    siginfo_t info;
    int status;

    (void)sigfillset(&all);
    while (waitpid(heir, &status, WNOHANG) == 0) {
        int sig = sigwaitinfo(&all, &info);
        if (sig > 0 && sig != SIGCHLD)
            (void)kill(heir, sig);
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* ---- the new master's side ---- */

static void close_on_exec(int fd)
{
    if (fd >= 0)
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static bool inherit_listener(struct master *m, char *line)
{
    struct config_address at;
    int fd, lock_fd, host = 0;
    char port[64];

    if (m->inherited_count > MASTER_LISTEN_MAX ||
        sscanf(line, "%d %d %63s %n", &fd, &lock_fd, port, &host) != 3 || host == 0)
        return false;
    if (strcmp(port, "-") == 0)
        port[0] = '\0';
    at = (struct config_address){.host = line + host, .port = port};
    close_on_exec(fd);
    close_on_exec(lock_fd);
    listener_adopt(&m->inherited[m->inherited_count++], &at, fd, lock_fd);
    return true;
}

int handover_inherit(struct master *m, struct err *err)
{
    const char *given = getenv(variable);
    char *rest;

    if (given == NULL)
        return 0;
    char *text = mem_strdup(given);
    (void)unsetenv(variable);
    char *line = strtok_r(text, "\n", &rest);
    bool fine = line != NULL && sscanf(line, "%d %d", &m->parent_fd, &m->inherited_lock_fd) == 2;
    close_on_exec(m->parent_fd);
    close_on_exec(m->inherited_lock_fd);
    while (fine && (line = strtok_r(NULL, "\n", &rest)) != NULL)
        fine = inherit_listener(m, line);
    free(text);
    m->awaits_go = true;
    return fine ? 0 : err_set(err, ERR_INTERNAL, "%s: not understood", variable);
}

static bool front_stands(const struct master *m)
{
    for (size_t i = 0; i < m->process_count; i++) {
        const struct process *p = &m->processes[i];
        if ((p->role == ROLE_HTTPD || p->role == ROLE_KEEPER) && !process_is_ready(m, p))
            return false;
    }
    return true;
}

static void begin_all(struct master *m)
{
    struct err err;

    if (master_open_started(m, &err) == 0) {
        m->awaits_go = false;
        return;
    }
    log_err(&err, "upgrade");
    (void)shutdown(m->parent_fd, SHUT_RDWR); /* the old one goes on */
    master_enter(m, KILL_ALL);
}

/* The old master was killed: what it had left to say we say ourselves. */
static void go_on_alone(struct master *m)
{
    const struct timespec pause = {.tv_nsec = ORPHAN_MS * 1000000L % 1000000000L,
                                   .tv_sec = ORPHAN_MS / 1000};

    log_warn("upgrade: the old binary's master is gone: this one goes on");
    if (m->awaits_go) {
        (void)nanosleep(&pause, NULL);
        begin_all(m);
    }
}

static void take_over(struct master *m)
{
    (void)close(m->parent_fd);
    m->parent_fd = -1;
    for (; m->inherited_count > 0; m->inherited_count--)
        listener_close(&m->inherited[m->inherited_count - 1]); /* no longer configured */
    atomic_store(&m->gauges->renewing_until_mono_ms, 0);
    notify_take_over();
    if (m->said_ready)
        notify_ready(m->process_count);
}

void handover_report(struct master *m)
{
    if (m->parent_fd < 0)
        return;
    if (m->awaits_go)
        atomic_store(&m->gauges->renewing_until_mono_ms, clock_mono_ms() + START_MS);
    if (!m->told_parent && front_stands(m)) {
        m->told_parent = true;
        say(m->parent_fd, FRONT_STANDS);
    }
    if (m->said_ready && m->told_parent && !m->told_all) {
        m->told_all = true;
        say(m->parent_fd, ALL_STANDS);
    }
    switch (hear(m->parent_fd)) {
    case GO:
        if (m->awaits_go)
            begin_all(m);
        break;
    case YOURS:
        take_over(m);
        break;
    case -1:
        go_on_alone(m);
        take_over(m);
        break;
    default:
        break;
    }
}
