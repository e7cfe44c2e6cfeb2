/*
 * How a child is born and buried, and when its successor is due.
 *
 * A process that dies after a life of use is replaced at once. One that dies young (before it was
 * ready, or within SHORT_LIFE_MS) is replaced at once the first time, and then after a pause that
 * doubles up to PAUSE_MAX_MS, until a successor lives long. One that says "hopeless" stays dead
 * until a reload.
 */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "aws/vault.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/tls.h"
#include "courier/courier.h"
#include "httpd/httpd.h"
#include "keeper/keeper.h"
#include "logger/logger.h"
#include "master/confine.h"
#include "master/master.h"
#include "master/notify.h"
#include "master/obituary.h"
#include "master/outlet.h"
#include "master/title.h"
#include "master/usage.h"
#include "poller/poller.h"
#include "sandbox/sandbox.h"
#include "sender/sender.h"
#include "store/writer.h"

enum {
    SHORT_LIFE_MS = 1000,
    PAUSE_FIRST_MS = 50,
    PAUSE_MAX_MS = 10000,
    HUNG_MS = 10000,        /* no heartbeat for so long: killed */
    HUNG_WRITER_MS = 60000, /* a slow disk is no hang */
    HUNG_ABORT_MS = 2000,   /* that one may take to say where it hangs */
    POLLER_NICE = 10,
    HTTPD_SLICE_NS = 100000,
    LOOK_MS = 500,     /* between looks at the heartbeats */
    HURRY_MS = 20,     /* between turns, while something is to be followed by something */
    RINGS_LOOK_MS = 5, /* while the writer empties a dead one's rings */
};

static const struct {
    const char *name;
    enum child_exit (*main)(const struct child *me);
    enum stage stops;
} roles[] = {
    [ROLE_WRITER] = {"writer", writer_main, STOP_WRITER},
    [ROLE_HTTPD] = {"httpd", httpd_main, STOP_HTTPD},
    [ROLE_SENDER] = {"sender", sender_main, STOP_WORKERS},
    [ROLE_POLLER] = {"poller", poller_main, STOP_WORKERS},
    [ROLE_KEEPER] = {"keeper", keeper_main, STOP_WRITER}, /* when nobody signs any more */
    [ROLE_COURIER] = {"courier", courier_main, STOP_WORKERS},
    [ROLE_SANDBOX] = {"sandbox", sandbox_child_main, STOP_SANDBOX},
    [ROLE_LOGGER] = {"logger", logger_main, STOP_LOGGER},
};

static struct gauge_life *life_of(const struct master *m, const struct process *p)
{
    return &m->gauges->lives[p->gauge];
}

static struct gauge_slot *gauge_of(const struct master *m, const struct process *p)
{
    return &m->gauges->slots[p->gauge];
}

void process_use(struct master *m, struct process *p, bool is_used)
{
    p->is_unused = !is_used;
    p->hopeless = false;
    p->due_mono_ms = 0;
    p->short_lives = 0;
    atomic_store(&life_of(m, p)->is_unused, p->is_unused && p->pid == 0);
}

bool process_is_ready(const struct master *m, const struct process *p)
{
    return p->pid != 0 && !p->told_to_stop && atomic_load(&gauge_of(m, p)->state) == GAUGE_READY;
}

/* -------- the child's side of birth -------- */

enum { KEEP_MAX = MASTER_PROCESSES_MAX + MASTER_LISTEN_MAX + 12 };

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

/* Else a dead master's sockets would live on in its children and never reach their end of file. */
static void close_all_but(int *keep, size_t count)
{
    unsigned from = 3;

    qsort(keep, count, sizeof *keep, by_number);
    for (size_t i = 0; i < count; i++) {
        if (keep[i] < (int)from)
            continue;
        if (keep[i] > (int)from)
            (void)close_range(from, (unsigned)keep[i] - 1, 0);
        from = (unsigned)keep[i] + 1;
    }
    (void)close_range(from, ~0U, 0);
}

/* Who may know AWS's credentials. */
static bool signs(enum child_role role)
{
    return role == ROLE_KEEPER || role == ROLE_SENDER || role == ROLE_POLLER;
}

static void close_what_is_not_ours(const struct master *m, const struct process *p, int control)
{
    int keep[KEEP_MAX];
    size_t n = 0;

    keep[n++] = control;
    keep[n++] = m->writer_bell.fd;
    keep[n++] = m->outlet.read_fd;
    keep[n++] = m->outlet.write_fd;
    keep[n++] = m->outlet.file_fd;
    if (p->role == ROLE_HTTPD)
        for (size_t i = 0; i < m->now.listen_count; i++)
            keep[n++] = m->now.listeners[i].fd;
    if (p->role == ROLE_SANDBOX)
        keep[n++] = m->sandbox_listener.fd;
    for (size_t i = 0; i < m->slot_count; i++)
        if (p->role == ROLE_WRITER || &m->slots[i] == p->slot)
            keep[n++] = m->slots[i].bell.fd;
    if (signs(p->role))
        keep[n++] = vault_bell(m->vault)->fd;
    close_all_but(keep, n);
}

/* Who waits for an answer goes first: events that come in can wait for a moment, and a reader, a POST
 * or a send not. With an idle core this changes nothing. httpd's turns are short, so it asks for short
 * slices: kernels from 6.12 on then give it its turn sooner when it wakes up; older ones take
 * the request and do nothing (the kernel's documentation, "EEVDF Scheduler"). */
static void take_turns(enum child_role role)
{
    /* glibc has no structure for it, and the kernel's header does not go with glibc's. */
    const struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime_ns, deadline_ns, period_ns;
    } short_slices = {
        .size = sizeof short_slices,
        .nice = getpriority(PRIO_PROCESS, 0),
        .runtime_ns = HTTPD_SLICE_NS,
    };

    if (role == ROLE_POLLER)
        (void)setpriority(PRIO_PROCESS, 0, POLLER_NICE);
    if (role == ROLE_HTTPD)
        (void)syscall(SYS_sched_setattr, 0, &short_slices, 0);
}

static void drop_privileges(const struct config *c)
{
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    if (c->user[0] == '\0' || geteuid() != 0)
        return;
    const struct passwd *pw = getpwnam(c->user);
    if (pw == NULL || setgroups(1, &pw->pw_gid) != 0 || setgid(pw->pw_gid) != 0 ||
        setuid(pw->pw_uid) != 0) {
        log_error("cannot become user %s: leaving", c->user);
        _exit(CHILD_EXIT_HOPELESS);
    }
}

/* Of what fork() has copied here: only what this role's work takes stays mapped. */
static void unmap_what_is_not_ours(struct master *m, const struct process *p)
{
    struct err err;

    for (size_t i = 0; i < m->slot_count && p->role != ROLE_WRITER; i++) {
        if (&m->slots[i] == p->slot)
            continue;
        ring_destroy(m->slots[i].up);
        ring_destroy(m->slots[i].down);
        m->slots[i].up = m->slots[i].down = NULL;
    }
    if (p->role != ROLE_WRITER && p->role != ROLE_SENDER) {
        started_close(m->started);
        m->started = NULL;
    }
    if (p->role == ROLE_HTTPD && gauges_confine(m->gauges, m->gauges_fd, p->gauge, &err) != 0) {
        log_err(&err, "not served without isolation");
        _exit(CHILD_EXIT_HOPELESS);
    }
}

static void keep_within_bounds(const struct master *m, const struct process *p)
{
    struct confined missing;
    struct err err;

    if (!m->now.config->isolation)
        return;
    if (confine(p->role, m->now.config, &missing, &err) != 0) {
        log_err(&err, "cannot be isolated (isolation = false does without)");
        _exit(CHILD_EXIT_HOPELESS);
    }
    /* The same for all: said once. */
    if (p->role == ROLE_WRITER && (missing.without_files || missing.without_calls))
        log_warn("this kernel has no %s%s%s: processes are isolated by their user alone",
                 missing.without_files ? "Landlock" : "",
                 missing.without_files && missing.without_calls ? " and no " : "",
                 missing.without_calls ? "seccomp" : "");
}

static void reset_signals(void)
{
    sigset_t none;
    const int signals[] = {SIGCHLD, SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2};

    for (size_t i = 0; i < sizeof signals / sizeof signals[0]; i++)
        (void)signal(signals[i], SIG_DFL);
    /* A terminal's Ctrl-C and hang-up reach the whole group; what to do about them is the master's.
     */
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void __attribute__((noreturn)) live(struct master *m, const struct process *p, int control)
{
    int listen_fds[MASTER_LISTEN_MAX];
    struct child me = {
        .role = p->role,
        .index = p->index,
        .gauge = p->gauge,
        .generation = p->generation,
        .config = m->now.config,
        .gauges = m->gauges,
        .started_believable = m->started_believable,
        .control_fd = control,
        .slot = p->slot,
        .writer_bell = m->writer_bell,
        .ring_epoch = m->ring_epoch,
        .keeper_gauge = m->keeper_gauge,
    };

    (void)snprintf(me.name, sizeof me.name, "%s %u", roles[p->role].name, p->index);
    log_name(me.name);
    title_set(me.name);
    outlet_keep(&m->outlet, p->role == ROLE_LOGGER);
    reset_signals();
    last_words_open(&gauge_of(m, p)->last_words);
    unmap_what_is_not_ours(m, p);
    me.started = m->started;
    close_what_is_not_ours(m, p, control);
    take_turns(p->role);
    drop_privileges(m->now.config);
    if (p->role == ROLE_HTTPD) {
        for (size_t i = 0; i < m->now.listen_count; i++)
            listen_fds[i] = m->now.listeners[i].fd;
        me.listen_fds = listen_fds;
        me.listen_count = m->now.listen_count;
        me.metrics_listen_count = m->now.config->metrics.listen.count;
        me.tls = m->now.tls;
    } else {
        tls_context_free(m->now.tls); /* our copy, since fork() */
    }
    if (p->role == ROLE_SANDBOX) {
        me.listen_fds = &m->sandbox_listener.fd;
        me.listen_count = 1;
    }
    if (p->role == ROLE_LOGGER)
        me.outlet = &m->outlet;
    if (signs(p->role))
        me.vault = m->vault;
    else
        vault_leave(m->vault); /* our mapping, since fork() */
    if (p->role == ROLE_WRITER) {
        me.keys_news = vault_news(m->vault);
        me.slots = m->slots;
        me.slot_count = m->slot_count;
    }
    if (p->role == ROLE_HTTPD || p->role == ROLE_WRITER || p->role == ROLE_COURIER)
        config_forget_secrets(m->now.config); /* our copy, since fork() */
    keep_within_bounds(m, p);
    child_beat(&me);
    enum child_exit verdict = roles[p->role].main(&me);
    log_end();
    exit((int)verdict);
}

/* -------- birth and death -------- */

static void bear(struct master *m, struct process *p)
{
    struct gauge_slot *g = gauge_of(m, p);
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        log_error("no control socket for %s %u (errno %d): trying again in %d ms",
                  roles[p->role].name, p->index, errno, PAUSE_FIRST_MS);
        p->due_mono_ms = clock_mono_ms() + PAUSE_FIRST_MS;
        return;
    }
    p->generation = ++m->last_generation;
    p->born_mono_ms = clock_mono_ms();
    p->told_to_stop = p->replacing = false;
    p->killed_for = NULL;
    p->aborted_mono_ms = 0;
    atomic_store(&life_of(m, p)->generation, p->generation);
    atomic_store(&g->heartbeat_mono_ms, p->born_mono_ms);
    atomic_store(&g->done, 0);
    atomic_store(&g->state, GAUGE_STARTING);

    pid_t pid = fork();
    if (pid == 0)
        live(m, p, pair[1]);
    (void)close(pair[1]);
    if (pid < 0) {
        log_error("no process for %s %u (errno %d): trying again in %d ms", roles[p->role].name,
                  p->index, errno, PAUSE_FIRST_MS);
        (void)close(pair[0]);
        atomic_store(&g->state, GAUGE_DOWN);
        p->due_mono_ms = clock_mono_ms() + PAUSE_FIRST_MS;
        return;
    }
    p->pid = pid;
    p->control_fd = pair[0];
    atomic_store(&life_of(m, p)->pid, (uint64_t)pid);
    log_debug("%s %u is pid %d, generation %llu", roles[p->role].name, p->index, (int)pid,
              (unsigned long long)p->generation);
}

static uint64_t pause_after(const struct process *p)
{
    uint64_t pause = PAUSE_FIRST_MS;

    if (p->short_lives <= 1)
        return 0;
    for (uint64_t i = 2; i < p->short_lives && pause < PAUSE_MAX_MS; i++)
        pause *= 2;
    return pause < PAUSE_MAX_MS ? pause : PAUSE_MAX_MS;
}

static void bury(struct master *m, struct process *p, int status)
{
    struct gauge_slot *g = gauge_of(m, p);
    uint64_t now_ms = clock_mono_ms(), age_ms = now_ms - p->born_mono_ms;
    bool was_ready = atomic_load(&g->state) >= GAUGE_READY;
    bool expected = p->told_to_stop && WIFEXITED(status) && WEXITSTATUS(status) == CHILD_EXIT_DONE;
    int pid = (int)p->pid;

    (void)close(p->control_fd);
    p->control_fd = -1;
    p->pid = 0;
    p->hopeless = WIFEXITED(status) && WEXITSTATUS(status) == CHILD_EXIT_HOPELESS;
    p->broken = WIFEXITED(status) && WEXITSTATUS(status) == CHILD_EXIT_BROKEN;
    p->short_lives = expected || (was_ready && age_ms >= SHORT_LIFE_MS) ? 0 : p->short_lives + 1;
    p->due_mono_ms = now_ms + pause_after(p);
    atomic_store(&g->state, GAUGE_DOWN);
    atomic_store(&life_of(m, p)->is_unused, p->is_unused);
    (void)atomic_fetch_add(&life_of(m, p)->restarts, 1);
    bell_poke(&m->writer_bell); /* it settles what the dead one held */

    obituary(&(struct death){.role = roles[p->role].name,
                             .index = p->index,
                             .generation = p->generation,
                             .age_ms = age_ms,
                             .now_mono_ms = now_ms,
                             .pid = pid,
                             .status = status,
                             .killed_for = p->killed_for,
                             .was_ready = was_ready,
                             .told_to_stop = p->told_to_stop,
                             .next = m->stage != RUNNING ? "we are stopping"
                                     : p->is_unused      ? "nobody takes its place"
                                     : p->hopeless       ? "it is not started again before a reload"
                                     : p->due_mono_ms > now_ms ? "its successor waits a little"
                                                               : "its successor starts now",
                             .next_in_ms = p->due_mono_ms - now_ms},
             &g->last_words);
}

static void reap(struct master *m)
{
    struct rusage used;
    int status;
    pid_t pid;

    while ((pid = wait4(-1, &status, WNOHANG, &used)) > 0) {
        if (handover_reap(m, pid, status))
            continue;
        for (size_t i = 0; i < m->process_count; i++)
            if (m->processes[i].pid == pid) {
                usage_close(&m->processes[i].usage, life_of(m, &m->processes[i]), &used);
                bury(m, &m->processes[i], status);
            }
    }
}

/* -------- watching -------- */

void process_tell(struct process *p, int sig)
{
    if (p->pid != 0) {
        p->told_to_stop = true;
        (void)kill(p->pid, sig);
    }
}

/* A child writes its slot of the gauges; one that somebody else has taken over may write anything. */
static bool is_believable(const struct gauge_slot *g, uint64_t now_ms)
{
    return atomic_load(&g->heartbeat_mono_ms) <= now_ms + HUNG_MS &&
           atomic_load(&g->state) <= GAUGE_LEAVING;
}

static void kill_the_hung(struct master *m)
{
    uint64_t now_ms = clock_mono_ms();

    for (size_t i = 0; i < m->process_count; i++) {
        struct process *p = &m->processes[i];
        const struct gauge_slot *g = gauge_of(m, p);
        uint64_t beat_ms = atomic_load(&g->heartbeat_mono_ms);
        uint64_t limit_ms = p->role == ROLE_WRITER ? HUNG_WRITER_MS : HUNG_MS;
        bool is_hung = beat_ms < now_ms && now_ms - beat_ms >= limit_ms;
        if (p->pid == 0 || (!is_hung && is_believable(g, now_ms)))
            continue;
        if (is_hung && p->aborted_mono_ms == 0) {
            log_error("%s %u, pid %d, gave no sign of life for %llu ms: killed",
                      roles[p->role].name, p->index, (int)p->pid,
                      (unsigned long long)(now_ms - beat_ms));
            /* So it can say where it hangs. */
            p->killed_for = "hung: no sign of life";
            p->aborted_mono_ms = now_ms;
            (void)kill(p->pid, SIGABRT);
            continue;
        }
        if (is_hung && now_ms - p->aborted_mono_ms < HUNG_ABORT_MS)
            continue;
        if (!is_hung) {
            log_error("%s %u, pid %d, says what cannot be of itself: killed", roles[p->role].name,
                      p->index, (int)p->pid);
            p->killed_for = "what it says of itself cannot be";
        }
        (void)kill(p->pid, SIGKILL);
    }
}

static void kill_the_distrusted(struct master *m)
{
    for (size_t i = 0; i < m->process_count; i++) {
        struct process *p = &m->processes[i];
        if (p->pid != 0 && atomic_load(&m->gauges->distrusted[p->gauge]) == p->generation) {
            p->killed_for = "its ring holds what makes no sense";
            (void)kill(p->pid, SIGKILL);
        }
    }
}

/* The writer empties them, as it may be writing into them: until then nobody is born. */
static bool rings_are_clean(struct master *m, const struct process *p)
{
    struct gauges *g = m->gauges;
    uint64_t dead = p->generation;

    if (p->slot == NULL || dead == 0 || atomic_load(&g->empty_done[p->gauge]) == dead ||
        (!p->broken && atomic_load(&g->distrusted[p->gauge]) != dead))
        return true;
    atomic_store(&g->empty_wanted[p->gauge], dead);
    bell_poke(&m->writer_bell);
    return false;
}

/* While the old binary's writer works on there is nothing for the others to do. */
static bool waits_for_go(const struct master *m, const struct process *p)
{
    return m->awaits_go && p->role != ROLE_HTTPD && p->role != ROLE_KEEPER &&
           p->role != ROLE_LOGGER;
}

static void bear_the_due(struct master *m)
{
    uint64_t now_ms = clock_mono_ms();

    for (size_t i = 0; i < m->process_count; i++) {
        struct process *p = &m->processes[i];
        bool wanted = m->stage == RUNNING || m->stage < roles[p->role].stops;
        if (p->pid != 0 || !wanted || p->hopeless || p->is_unused || waits_for_go(m, p) ||
            p->due_mono_ms > now_ms)
            continue;
        if (rings_are_clean(m, p))
            bear(m, p);
        else
            p->due_mono_ms = now_ms + RINGS_LOOK_MS;
    }
}

static void measure(struct master *m)
{
    usage_measure(&m->usage, &m->gauges->master, getpid());
    for (size_t i = 0; i < m->process_count; i++)
        if (m->processes[i].pid != 0)
            usage_measure(&m->processes[i].usage, life_of(m, &m->processes[i]),
                          m->processes[i].pid);
}

static void say_ready(struct master *m)
{
    unsigned count = 0;

    if (m->said_ready)
        return;
    for (size_t i = 0; i < m->process_count; i++) {
        if (m->processes[i].is_unused)
            continue;
        if (!process_is_ready(m, &m->processes[i]))
            return;
        count++;
    }
    m->said_ready = true;
    log_info("ready: %u processes", count);
    notify_ready(count);
}

/* -------- stopping -------- */

static bool anybody_left(const struct master *m, enum stage stage)
{
    for (size_t i = 0; i < m->process_count; i++)
        if (m->processes[i].pid != 0 &&
            (stage == KILL_ALL || roles[m->processes[i].role].stops <= stage))
            return true;
    return false;
}

void master_enter(struct master *m, enum stage stage)
{
    m->stage = stage;
    for (size_t i = 0; i < m->process_count; i++) {
        struct process *p = &m->processes[i];
        if (stage == KILL_ALL)
            process_tell(p, SIGKILL);
        else if (roles[p->role].stops == stage)
            process_tell(p, SIGTERM);
    }
}

static void stop(struct master *m, bool at_once)
{
    handover_give_up(m);
    if (at_once || m->stage != RUNNING) {
        log_info("stopping at once");
        master_enter(m, KILL_ALL);
        return;
    }
    notify_stopping();
    log_info("stopping: requests and sends under way have %llu ms",
             (unsigned long long)m->now.config->grace_ms);
    m->stop_by_mono_ms = clock_mono_ms() + m->now.config->grace_ms;
    master_enter(m, STOP_HTTPD);
}

/* For an heir: it waits for the writer's end, and the logger writes down how that went. */
static void kill_the_late(struct master *m)
{
    for (size_t i = 0; i < m->process_count; i++)
        if (m->processes[i].role != ROLE_LOGGER)
            process_tell(&m->processes[i], SIGKILL);
    m->stop_by_mono_ms += m->now.config->grace_ms;
}

static void advance(struct master *m)
{
    if (m->stage == RUNNING)
        return;
    if (m->stage != KILL_ALL && clock_mono_ms() >= m->stop_by_mono_ms) {
        log_warn("grace is over: whoever is left is killed; nothing that was promised is lost");
        if (m->heir.stage == HEIR_NONE)
            master_enter(m, KILL_ALL);
        else
            kill_the_late(m);
    }
    while (m->stage != RUNNING && m->stage < STAGE_END && !anybody_left(m, m->stage)) {
        if (m->stage == HAND_OVER && handover_holds(m))
            return;
        if (m->stage >= STOP_LOGGER) {
            m->stage = STAGE_END;
            return;
        }
        master_enter(m, m->stage + 1);
    }
}

/* -------- the loop -------- */

static void take_signals(struct master *m)
{
    struct signalfd_siginfo info;

    while (read(m->signal_fd, &info, sizeof info) == (ssize_t)sizeof info) {
        switch ((int)info.ssi_signo) {
        case SIGCHLD:
            reap(m);
            break;
        case SIGTERM:
        case SIGINT:
            stop(m, false);
            break;
        case SIGQUIT:
            stop(m, true);
            break;
        case SIGHUP:
            if (m->stage == RUNNING)
                reload_begin(m);
            break;
        case SIGUSR1:
            if (m->stage == RUNNING)
                reload_logs(m);
            break;
        case SIGUSR2:
            if (m->stage == RUNNING)
                handover_begin(m);
            break;
        default:
            break;
        }
    }
}

static int wait_ms(const struct master *m)
{
    bool is_settled = m->said_ready && m->renewal == RENEW_NOTHING && m->parent_fd < 0;
    uint64_t now_ms = clock_mono_ms(), wait = is_settled ? LOOK_MS : HURRY_MS;

    for (size_t i = 0; i < m->process_count; i++) {
        const struct process *p = &m->processes[i];
        if (p->pid != 0 || p->hopeless || p->is_unused || waits_for_go(m, p))
            continue;
        uint64_t until = p->due_mono_ms > now_ms ? p->due_mono_ms - now_ms : 0;
        if (until < wait)
            wait = until;
    }
    return (int)wait;
}

static bool is_hopeless(const struct master *m)
{
    for (size_t i = 0; i < m->process_count; i++)
        if (m->processes[i].role == ROLE_WRITER && m->processes[i].hopeless)
            return true;
    return false;
}

int supervise(struct master *m)
{
    uint64_t looked_mono_ms = 0;

    while (m->stage != STAGE_END) {
        notify_alive();
        log_tick();
        bear_the_due(m);
        struct pollfd from[] = {{.fd = m->signal_fd, .events = POLLIN},
                                {.fd = m->heir.fd, .events = POLLIN},
                                {.fd = m->parent_fd, .events = POLLIN}};
        (void)poll(from, sizeof from / sizeof from[0], m->stage == RUNNING ? wait_ms(m) : HURRY_MS);
        take_signals(m);
        reap(m);
        handover_advance(m);
        if (m->stage == RUNNING) {
            reload_advance(m);
            say_ready(m);
            handover_report(m);
        }
        if (clock_mono_ms() - looked_mono_ms >= LOOK_MS) {
            looked_mono_ms = clock_mono_ms();
            kill_the_hung(m);
            kill_the_distrusted(m);
            measure(m);
        }
        if (m->stage == RUNNING && m->renewal == RENEW_NOTHING && is_hopeless(m)) {
            log_error("nothing can work without the writer, and it cannot start: leaving");
            stop(m, true);
        }
        advance(m);
    }
    log_info("stopped");
    return is_hopeless(m) ? 1 : 0;
}
