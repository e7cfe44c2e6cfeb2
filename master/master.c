#include "master/master.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "aws/vault.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/tls.h"
#include "master/notify.h"
#include "master/outlet.h"

enum {
    LOCK_TRIES = 50, /* of 100 ms: a predecessor may still be leaving */
    RING_MARGIN_BYTES = 8 * 1024 * 1024,
    RING_UP_BYTES = 4 * 1024 * 1024,
    RING_DOWN_BYTES = 1024 * 1024,
};

static int lock_state_dir(struct master *m, struct err *err)
{
    struct buf path = {0};
    const struct timespec pause = {.tv_nsec = 100000000};

    if (mkdir(m->config->state_dir, 0700) != 0 && errno != EEXIST)
        return err_sys(err, "state_dir %s cannot be made", m->config->state_dir);
    buf_printf(&path, "%s/lock", m->config->state_dir);
    m->lock_fd = open(buf_cstr(&path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (m->lock_fd < 0) {
        (void)err_sys(err, "%s", buf_cstr(&path));
        buf_fini(&path);
        return -1;
    }
    buf_fini(&path);
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(m->lock_fd, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (i == 0)
            log_info("another Postern holds %s: waiting for it to leave", m->config->state_dir);
        (void)nanosleep(&pause, NULL);
    }
    return err_set(err, ERR_CONFIG, "another Postern runs on state_dir %s", m->config->state_dir);
}

static int open_sockets(struct master *m, struct err *err)
{
    const struct config *c = m->config;

    if (c->listen_count > MASTER_LISTEN_MAX)
        return err_set(err, ERR_CONFIG, "listen: %d addresses at most", MASTER_LISTEN_MAX);
    for (size_t i = 0; i < c->listen_count; i++) {
        if (listener_open(&m->listeners[i], &c->listen[i], c->listen_mode, c->user, err) != 0)
            return -1;
        m->listen_fds[i] = m->listeners[i].fd;
        m->listen_count++;
    }
    if (c->sandbox.enabled) {
        if (listener_open(&m->sandbox_listener, &c->sandbox.listen, 0, "", err) != 0)
            return -1;
        m->sandbox_fd = m->sandbox_listener.fd;
    }
    return 0;
}

static size_t power_of_two(size_t least)
{
    size_t n = 4096;

    while (n < least)
        n *= 2;
    return n;
}

static int add_process(struct master *m, enum child_role role, unsigned index, struct err *err)
{
    /* Gauge 0 is the writer's: httpd's /health looks there. */
    struct process *p = &m->processes[m->process_count];

    if (m->process_count == MASTER_PROCESSES_MAX)
        return err_set(err, ERR_CONFIG, "more than %d processes", MASTER_PROCESSES_MAX);
    *p = (struct process){
        .role = role, .index = index, .gauge = (unsigned)m->process_count, .control_fd = -1};
    m->process_count++;
    if (role == ROLE_WRITER || role == ROLE_KEEPER || role == ROLE_SANDBOX || role == ROLE_LOGGER)
        return 0;

    struct child_slot *slot = &m->slots[m->slot_count++];
    /* A batch is one record, as large as a body at the most; a ring takes records up to half its
     * size, and gives the pages of long ones back. */
    bool carries_batches = role == ROLE_HTTPD ||
                           (role == ROLE_POLLER && m->config->queues.newsletter_buffer[0] != '\0');
    size_t up = carries_batches
                    ? power_of_two(2 * (size_t)m->config->httpd.max_body_bytes + RING_MARGIN_BYTES)
                    : RING_UP_BYTES;
    *slot = (struct child_slot){.role = role, .index = index, .gauge = p->gauge};
    p->slot = slot;
    slot->up = ring_create(up, err);
    slot->down = slot->up == NULL ? NULL : ring_create(RING_DOWN_BYTES, err);
    if (slot->down == NULL)
        return -1;
    return bell_create(&slot->bell, &m->gauges->sleeping[p->gauge], err);
}

static int open_shared(struct master *m, struct err *err)
{
    const struct config *c = m->config;
    struct buf path = {0};

    digest_random(&m->ring_epoch, sizeof m->ring_epoch);
    m->gauges = gauges_create(&m->gauges_fd, err);
    if (m->gauges == NULL)
        return -1;
    buf_printf(&path, "%s/started", c->state_dir);
    m->started = started_open(buf_cstr(&path), &m->started_believable, err);
    buf_fini(&path);
    m->vault = vault_create(err);
    if (m->vault == NULL || m->started == NULL || add_process(m, ROLE_WRITER, 0, err) != 0 ||
        bell_create(&m->writer_bell, &m->gauges->sleeping[0], err) != 0)
        return -1;
    /* Ahead of those who wait for it. */
    m->keeper_gauge = (unsigned)m->process_count;
    if (add_process(m, ROLE_KEEPER, 0, err) != 0)
        return -1;
    if (strcmp(c->log.destination, "stderr") != 0 && add_process(m, ROLE_LOGGER, 0, err) != 0)
        return -1;
    if (c->sandbox.enabled && add_process(m, ROLE_SANDBOX, 0, err) != 0)
        return -1;
    for (unsigned i = 0; i < c->httpd.children; i++)
        if (add_process(m, ROLE_HTTPD, i, err) != 0)
            return -1;
    for (unsigned i = 0; i < c->sender.children; i++)
        if (add_process(m, ROLE_SENDER, i, err) != 0)
            return -1;
    for (unsigned i = 0; i < c->poller.children; i++)
        if (add_process(m, ROLE_POLLER, i, err) != 0)
            return -1;
    return add_process(m, ROLE_COURIER, 0, err);
}

static int open_signals(struct master *m, struct err *err)
{
    sigset_t mine;

    (void)sigemptyset(&mine);
    const int signals[] = {SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1};
    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        (void)sigaddset(&mine, signals[i]);
    if (sigprocmask(SIG_BLOCK, &mine, NULL) != 0)
        return err_sys(err, "sigprocmask");
    (void)signal(SIGPIPE, SIG_IGN);
    m->signal_fd = signalfd(-1, &mine, SFD_CLOEXEC | SFD_NONBLOCK);
    return m->signal_fd < 0 ? err_sys(err, "signalfd") : 0;
}

/* Started as root with a user named: what the children will need becomes that user's. */
static int give_away(const struct master *m, struct err *err)
{
    const char *name = m->config->user;
    struct buf path = {0};

    if (name[0] == '\0' || geteuid() != 0)
        return 0;
    const struct passwd *pw = getpwnam(name);
    if (pw == NULL)
        return err_set(err, ERR_CONFIG, "user \"%s\" does not exist", name);
    buf_printf(&path, "%s/started", m->config->state_dir);
    bool given = chown(m->config->state_dir, pw->pw_uid, pw->pw_gid) == 0 &&
                 chown(buf_cstr(&path), pw->pw_uid, pw->pw_gid) == 0;
    buf_fini(&path);
    return given ? 0 : err_sys(err, "%s cannot be given to %s", m->config->state_dir, name);
}

static void master_close(struct master *m)
{
    for (size_t i = 0; i < m->slot_count; i++) {
        ring_destroy(m->slots[i].up);
        ring_destroy(m->slots[i].down);
        bell_destroy(&m->slots[i].bell);
    }
    bell_destroy(&m->writer_bell);
    vault_destroy(m->vault);
    started_close(m->started);
    gauges_destroy(m->gauges);
    if (m->gauges_fd >= 0)
        (void)close(m->gauges_fd);
    for (size_t i = 0; i < m->listen_count; i++)
        listener_close(&m->listeners[i]);
    if (m->sandbox_fd >= 0)
        listener_close(&m->sandbox_listener);
    if (m->signal_fd >= 0)
        (void)close(m->signal_fd);
    if (m->lock_fd >= 0)
        (void)close(m->lock_fd);
    tls_context_free(m->tls);
    config_free(m->config);
}

int master_read_tls(const struct config *config, struct ssl_ctx_st **tls, struct err *err)
{
    *tls = NULL;
    if (config->httpd.tls_certificate[0] == '\0')
        return 0;
    *tls = tls_context_create(config->httpd.tls_certificate, config->httpd.tls_key, err);
    return *tls == NULL ? -1 : 0;
}

int master_run(struct config *config)
{
    struct master m = {
        .config = config,
        .gauges_fd = -1,
        .lock_fd = -1,
        .signal_fd = -1,
        .sandbox_fd = -1,
        .writer_bell = {.fd = -1},
        .outlet = {.file_fd = -1, .read_fd = -1, .write_fd = -1},
    };
    struct err err;
    int status = 1;

    outlet_settings(config);
    log_name("master");
    notify_begin();
    if (master_read_tls(config, &m.tls, &err) == 0 && lock_state_dir(&m, &err) == 0 &&
        open_sockets(&m, &err) == 0 && open_shared(&m, &err) == 0 && give_away(&m, &err) == 0 &&
        open_signals(&m, &err) == 0 && outlet_open(&m.outlet, config, &err) == 0) {
        log_info("serving %s%s%s%s, state in %s, SES in %s%s", config->listen[0].host,
                 config_address_is_unix(&config->listen[0]) ? "" : ":", config->listen[0].port,
                 config->listen_count > 1 ? " and more" : "", config->state_dir,
                 config->aws.region[0] != '\0' ? config->aws.region
                                               : "the region that comes with the credentials",
                 config->sandbox.enabled ? " (the sandbox: no mail leaves this machine)" : "");
        status = supervise(&m);
    } else {
        log_err(&err, "cannot start");
    }
    outlet_close(&m.outlet);
    master_close(&m);
    return status;
}
