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
#include <systemd/sd-daemon.h>
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
    POLLER_UP_BYTES = 1 << 30, /* for batches of the largest max_body there is */
    RING_DOWN_BYTES = 1024 * 1024,
};

/* Our parent's lock is ours as well: it belongs to what the descriptor stands for. */
static int take_lock(struct master *m, struct err *err)
{
    struct stat named, held;

    if (fstat(m->lock_fd, &named) != 0 || fstat(m->inherited_lock_fd, &held) != 0)
        return err_sys(err, "the lock on %s", m->now.config->state_dir);
    (void)close(m->lock_fd);
    m->lock_fd = m->inherited_lock_fd;
    m->inherited_lock_fd = -1;
    return named.st_dev == held.st_dev && named.st_ino == held.st_ino
               ? 0
               : err_set(err, ERR_CONFIG, "state_dir cannot be changed by an upgrade");
}

static int lock_state_dir(struct master *m, struct err *err)
{
    struct buf path = {0};
    const struct timespec pause = {.tv_nsec = 100000000};

    if (mkdir(m->now.config->state_dir, 0700) != 0 && errno != EEXIST)
        return err_sys(err, "state_dir %s cannot be made", m->now.config->state_dir);
    buf_printf(&path, "%s/lock", m->now.config->state_dir);
    m->lock_fd = open(buf_cstr(&path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (m->lock_fd < 0) {
        (void)err_sys(err, "%s", buf_cstr(&path));
        buf_fini(&path);
        return -1;
    }
    buf_fini(&path);
    if (m->inherited_lock_fd >= 0)
        return take_lock(m, err);
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(m->lock_fd, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (i == 0)
            log_info("another Postern holds %s: waiting for it to leave", m->now.config->state_dir);
        (void)nanosleep(&pause, NULL);
    }
    return err_set(err, ERR_CONFIG, "another Postern runs on state_dir %s",
                   m->now.config->state_dir);
}

size_t master_address_count(const struct config *c)
{
    return c->listen.count + c->metrics.listen.count;
}

int master_check_addresses(const struct config *c, struct err *err)
{
    return master_address_count(c) <= MASTER_LISTEN_MAX
               ? 0
               : err_set(err, ERR_CONFIG, "listen and metrics.listen: %d addresses at most",
                         MASTER_LISTEN_MAX);
}

const struct config_address *master_address(const struct config *c, size_t i)
{
    return i < c->listen.count ? &c->listen.list[i] : &c->metrics.listen.list[i - c->listen.count];
}

/* The one that our parent has left us, or a new one. */
static int take_listener(struct master *m, struct listener *l, const struct config_address *at,
                         unsigned mode, const char *user, struct err *err)
{
    for (size_t i = 0; i < m->inherited_count; i++) {
        if (!listener_is_at(&m->inherited[i], at))
            continue;
        *l = m->inherited[i];
        m->inherited[i] = m->inherited[--m->inherited_count];
        return listener_set_mode(l, mode, err);
    }
    return listener_open(l, at, mode, user, m->parent_fd >= 0 ? 0 : LISTENER_PATIENCE_MS, err);
}

/* SOURCE sd_listen_fds(3). */
static int borrow_sockets(struct master *m, struct err *err)
{
    const struct config *c = m->now.config;
    int count = sd_listen_fds(1);

    for (int fd = SD_LISTEN_FDS_START; fd < SD_LISTEN_FDS_START + count; fd++) {
        size_t at = 0;
        while (at < master_address_count(c) && m->inherited_count < MASTER_LISTEN_MAX &&
               !listener_borrow(&m->inherited[m->inherited_count], fd, master_address(c, at)))
            at++;
        if (at == master_address_count(c))
            return err_set(err, ERR_CONFIG,
                           "the service manager passes a socket (descriptor %d) for an address "
                           "that listen does not name: name it there, as the socket unit does",
                           fd);
        m->inherited_count++;
    }
    return 0;
}

static int open_sockets(struct master *m, struct err *err)
{
    const struct config *c = m->now.config;

    if (master_check_addresses(c, err) != 0)
        return -1;
    for (size_t i = 0; i < master_address_count(c); i++) {
        if (take_listener(m, &m->now.listeners[i], master_address(c, i), c->listen_mode, c->user,
                          err) != 0)
            return -1;
        m->now.listen_count++;
    }
    return c->sandbox.enabled
               ? take_listener(m, &m->sandbox_listener, &c->sandbox.listen, 0, "", err)
               : 0;
}

static size_t power_of_two(size_t least)
{
    size_t n = 4096;

    while (n < least)
        n *= 2;
    return n;
}

/* A batch is one record, as large as a body at the most; a ring takes records up to half its size,
 * and gives the pages of long ones back. */
static size_t up_bytes(enum child_role role, const struct config *c)
{
    if (role == ROLE_HTTPD)
        return power_of_two(2 * (size_t)c->httpd.max_body_bytes + RING_MARGIN_BYTES);
    /* Parts come from machines whose bodies may be larger; and a poller keeps its rings over a reload
     * that allows larger ones. It is room, not memory. */
    if (role == ROLE_POLLER && c->queues.newsletter_buffer[0] != '\0')
        return POLLER_UP_BYTES;
    return RING_UP_BYTES;
}

static int make_rings(struct child_slot *slot, size_t up, struct err *err)
{
    ring_destroy(slot->up);
    ring_destroy(slot->down);
    slot->down = NULL;
    slot->up = ring_create(up, err);
    slot->down = slot->up == NULL ? NULL : ring_create(RING_DOWN_BYTES, err);
    digest_random(&slot->epoch, sizeof slot->epoch);
    return slot->down == NULL ? -1 : 0;
}

static bool has_slot(enum child_role role)
{
    return role != ROLE_WRITER && role != ROLE_KEEPER && role != ROLE_SANDBOX &&
           role != ROLE_LOGGER;
}

static struct process *add_process(struct master *m, enum child_role role, unsigned index,
                                   const struct config *config, struct err *err)
{
    /* Gauge 0 is the writer's: httpd's /health looks there. */
    struct process *p = &m->processes[m->process_count];

    if (m->process_count == MASTER_PROCESSES_MAX) {
        (void)err_set(err, ERR_CONFIG, "more than %d processes", MASTER_PROCESSES_MAX);
        return NULL;
    }
    atomic_store(&m->gauges->lives[m->process_count].role, (uint32_t)role);
    atomic_store(&m->gauges->lives[m->process_count].index, index);
    *p = (struct process){
        .role = role, .index = index, .gauge = (unsigned)m->process_count, .control_fd = -1};
    if (has_slot(role)) {
        struct child_slot *slot = &m->slots[m->slot_count];
        *slot = (struct child_slot){
            .role = role, .index = index, .gauge = p->gauge, .bell = {.fd = -1}};
        m->slot_count++; /* master_close() ends what there is of it */
        if (make_rings(slot, up_bytes(role, config), err) != 0 ||
            bell_create(&slot->bell, &m->gauges->sleeping[p->gauge], err) != 0) {
            ring_destroy(slot->up);
            ring_destroy(slot->down);
            m->slot_count--;
            return NULL;
        }
        p->slot = slot;
    }
    m->process_count++;
    process_use(m, p, false);
    return p;
}

struct process *master_place(struct master *m, enum child_role role, unsigned index,
                             const struct config *config, struct err *err)
{
    unsigned count = 0;

    for (size_t i = 0; i < m->process_count; i++) {
        struct process *p = &m->processes[i];
        if (p->role != role)
            continue;
        count++;
        if (role != ROLE_HTTPD && p->index == index)
            return p;
        if (role != ROLE_HTTPD || !p->is_unused || p->is_fresh || p->pid != 0)
            continue;
        if (ring_capacity(p->slot->up) == up_bytes(role, config) ||
            make_rings(p->slot, up_bytes(role, config), err) == 0)
            return p;
        return NULL;
    }
    return add_process(m, role, role == ROLE_HTTPD ? count : index, config, err);
}

static int employ(struct master *m, enum child_role role, unsigned count, struct err *err)
{
    for (unsigned i = 0; i < count; i++) {
        struct process *p = add_process(m, role, i, m->now.config, err);
        if (p == NULL)
            return -1;
        process_use(m, p, true);
    }
    return 0;
}

static int open_shared(struct master *m, struct err *err)
{
    const struct config *c = m->now.config;

    digest_random(&m->ring_epoch, sizeof m->ring_epoch);
    m->gauges = gauges_create(&m->gauges_fd, err);
    if (m->gauges == NULL)
        return -1;
    atomic_store(&m->gauges->started_wall_ms, clock_wall_ms());
    m->vault = vault_create(err);
    if (m->vault == NULL || employ(m, ROLE_WRITER, 1, err) != 0 ||
        bell_create(&m->writer_bell, &m->gauges->sleeping[0], err) != 0)
        return -1;
    /* Ahead of those who wait for it. */
    m->keeper_gauge = (unsigned)m->process_count;
    return employ(m, ROLE_KEEPER, 1, err) != 0 ||
                   employ(m, ROLE_LOGGER, strcmp(c->log.destination, "stderr") != 0, err) != 0 ||
                   employ(m, ROLE_SANDBOX, c->sandbox.enabled, err) != 0 ||
                   employ(m, ROLE_HTTPD, c->httpd.children, err) != 0 ||
                   employ(m, ROLE_SENDER, c->sender.children, err) != 0 ||
                   employ(m, ROLE_POLLER, c->poller.children, err) != 0 ||
                   employ(m, ROLE_COURIER, 1, err) != 0
               ? -1
               : 0;
}

static int open_signals(struct master *m, struct err *err)
{
    sigset_t mine;

    (void)sigemptyset(&mine);
    const int signals[] = {SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2};
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
    const char *name = m->now.config->user;
    struct buf path = {0};

    if (name[0] == '\0' || geteuid() != 0)
        return 0;
    const struct passwd *pw = getpwnam(name);
    if (pw == NULL)
        return err_set(err, ERR_CONFIG, "user \"%s\" does not exist", name);
    buf_printf(&path, "%s/started", m->now.config->state_dir);
    bool given = chown(m->now.config->state_dir, pw->pw_uid, pw->pw_gid) == 0 &&
                 chown(buf_cstr(&path), pw->pw_uid, pw->pw_gid) == 0;
    buf_fini(&path);
    return given ? 0 : err_sys(err, "%s cannot be given to %s", m->now.config->state_dir, name);
}

/* After the heir has taken them over, the sockets' files are its. */
static void close_listeners(struct master *m)
{
    void (*end)(struct listener *) =
        m->heir.stage == HEIR_SERVES || m->parent_fd >= 0 ? listener_let_go : listener_close;

    for (size_t i = 0; i < m->now.listen_count; i++)
        end(&m->now.listeners[i]);
    for (size_t i = 0; i < m->former.listen_count; i++)
        end(&m->former.listeners[i]);
    for (size_t i = 0; i < m->inherited_count; i++)
        end(&m->inherited[i]);
    end(&m->sandbox_listener);
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
    close_listeners(m);
    const int fds[] = {m->gauges_fd,         m->signal_fd, m->lock_fd,
                       m->inherited_lock_fd, m->parent_fd, m->heir.fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
    tls_context_free(m->now.tls);
    tls_context_free(m->former.tls);
    config_free(m->now.config);
    config_free(m->former.config);
}

int master_open_started(struct master *m, struct err *err)
{
    struct buf path = {0};

    buf_printf(&path, "%s/started", m->now.config->state_dir);
    m->started = started_open(buf_cstr(&path), &m->started_believable, err);
    buf_fini(&path);
    return m->started == NULL ? -1 : give_away(m, err);
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
        .now = {.config = config},
        .gauges_fd = -1,
        .lock_fd = -1,
        .signal_fd = -1,
        .parent_fd = -1,
        .inherited_lock_fd = -1,
        .heir = {.fd = -1},
        .sandbox_listener = {.fd = -1, .lock_fd = -1},
        .writer_bell = {.fd = -1},
        .outlet = {.file_fd = -1, .read_fd = -1, .write_fd = -1},
    };
    struct err err;
    int status = 1;

    outlet_settings(config);
    log_name("master");
    ssize_t len = readlink("/proc/self/exe", m.binary, sizeof m.binary - 1);
    m.binary[len > 0 ? len : 0] = '\0';
    bool inherits = handover_inherit(&m, &err) == 0;
    notify_begin(m.parent_fd >= 0);
    if (inherits && master_read_tls(config, &m.now.tls, &err) == 0 &&
        lock_state_dir(&m, &err) == 0 && borrow_sockets(&m, &err) == 0 &&
        open_sockets(&m, &err) == 0 && open_shared(&m, &err) == 0 && open_signals(&m, &err) == 0 &&
        (m.parent_fd >= 0 || master_open_started(&m, &err) == 0) &&
        outlet_open(&m.outlet, config, &err) == 0) {
        log_info("serving %s%s%s%s, state in %s, SES in %s%s", config->listen.list[0].host,
                 config_address_is_unix(&config->listen.list[0]) ? "" : ":",
                 config->listen.list[0].port, config->listen.count > 1 ? " and more" : "",
                 config->state_dir,
                 config->aws.region[0] != '\0' ? config->aws.region
                                               : "the region that comes with the credentials",
                 config->sandbox.enabled ? " (the sandbox: no mail leaves this machine)" : "");
        status = supervise(&m);
    } else {
        log_err(&err, "cannot start");
    }
    outlet_close(&m.outlet);
    pid_t heir = m.heir.stage == HEIR_SERVES ? m.heir.pid : 0;
    master_close(&m);
    return heir == 0 || notify_is_heard() ? status : handover_stay(heir);
}
