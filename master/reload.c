/*
 * How a new configuration takes the old one's place (SIGHUP), and the log's file a new one's
 * (SIGUSR1).
 *
 *   RENEW_WRITER   the writer leaves; its successor knows the new domains and the new places
 *   RENEW_FRONT    the new httpds are born and accept, beside the old ones
 *   RENEW_REST     the old httpds leave, when their clients are served; the others are replaced one
 *                  after the other, each in its place; those that are too many leave
 *
 * Until RENEW_REST all of it can be taken back, and is, when the new writer or the new httpds
 * cannot work: the old httpds serve on, and the writer is born once more as it was.
 */
#include <signal.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/tls.h"
#include "master/master.h"
#include "master/notify.h"
#include "master/outlet.h"

enum {
    PATIENCE_MS = 30000,   /* for the new ones' start */
    WRITER_BACK_MS = 5000, /* for the old configuration's writer, when all is taken back */
    LIVES_MAX = 3,         /* short ones, before a new one is taken for broken */
};

static struct process *writer_of(struct master *m)
{
    return &m->processes[0];
}

static void renew_writer(struct master *m)
{
    writer_of(m)->hopeless = false;
    writer_of(m)->short_lives = 0;
    process_tell(writer_of(m), SIGTERM);
}

/* -------- what serves -------- */

static bool is_former(const struct master *m, const struct listener *l)
{
    for (size_t i = 0; i < m->former.listen_count; i++)
        if (m->former.listeners[i].fd == l->fd)
            return true;
    return false;
}

static bool is_present(const struct master *m, const struct listener *l)
{
    for (size_t i = 0; i < m->now.listen_count; i++)
        if (m->now.listeners[i].fd == l->fd)
            return true;
    return false;
}

static void served_free(struct served *s)
{
    config_free(s->config);
    tls_context_free(s->tls);
    *s = (struct served){0};
}

/* Those that stand in both are one and the same: its copy of the address belongs to both. */
static void close_those_new(struct served *s, size_t count, const struct master *m)
{
    for (size_t i = 0; i < count; i++)
        if (!is_present(m, &s->listeners[i]))
            listener_close(&s->listeners[i]);
}

static int open_listeners(const struct master *m, struct served *s, struct err *err)
{
    const struct config *c = s->config;

    if (master_check_addresses(c, err) != 0)
        return -1;
    for (size_t i = 0; i < master_address_count(c); i++) {
        struct listener *l = &s->listeners[i];
        size_t same = 0;
        while (same < m->now.listen_count &&
               !listener_is_at(&m->now.listeners[same], master_address(c, i)))
            same++;
        if (same < m->now.listen_count) {
            *l = m->now.listeners[same];
        } else if (listener_open(l, master_address(c, i), c->listen_mode, c->user, 0, err) != 0) {
            close_those_new(s, i, m);
            return -1;
        }
    }
    s->listen_count = master_address_count(c);
    return 0;
}

/* What is served now becomes the former, and the other way round. */
static void exchange(struct master *m)
{
    struct served former = m->former;

    m->former = m->now;
    m->now = former;
    outlet_settings(m->now.config);
}

static void set_modes(const struct master *m)
{
    struct err err;

    for (size_t i = 0; i < m->now.listen_count; i++)
        if (is_former(m, &m->now.listeners[i]) &&
            listener_set_mode(&m->now.listeners[i], m->now.config->listen_mode, &err) != 0)
            log_err(&err, "listen_mode stays as it was");
}

static void drop_former(struct master *m)
{
    for (size_t i = 0; i < m->former.listen_count; i++)
        if (!is_present(m, &m->former.listeners[i]))
            listener_close(&m->former.listeners[i]);
    served_free(&m->former);
}

/* -------- beginning -------- */

static unsigned wanted(const struct config *c, enum child_role role)
{
    switch (role) {
    case ROLE_HTTPD:
        return c->httpd.children;
    case ROLE_SENDER:
        return c->sender.children;
    case ROLE_POLLER:
        return c->poller.children;
    default:
        return 1;
    }
}

/* Before the writer's successor is born: it inherits all rings there are. */
static int make_places(struct master *m, const struct config *c, struct err *err)
{
    for (unsigned i = 0; i < c->httpd.children; i++) {
        struct process *p = master_place(m, ROLE_HTTPD, i, c, err);
        if (p == NULL)
            return -1;
        p->is_fresh = true;
    }
    for (unsigned i = 0; i < c->sender.children; i++)
        if (master_place(m, ROLE_SENDER, i, c, err) == NULL)
            return -1;
    for (unsigned i = 0; i < c->poller.children; i++)
        if (master_place(m, ROLE_POLLER, i, c, err) == NULL)
            return -1;
    return 0;
}

static void forget_fresh(struct master *m)
{
    for (size_t i = 0; i < m->process_count; i++)
        m->processes[i].is_fresh = false;
}

/* Everything that can fail without anybody having noticed. Mistakes: a line each. */
static int prepare(struct master *m, struct served *s, struct buf *mistakes)
{
    struct err err;

    s->config = config_load(m->now.config->path, mistakes);
    if (s->config == NULL || !config_may_follow(s->config, m->now.config, mistakes))
        return -1;
    if (master_read_tls(s->config, &s->tls, &err) != 0 || open_listeners(m, s, &err) != 0) {
        buf_add_str(mistakes, err.text);
        return -1;
    }
    if (make_places(m, s->config, &err) != 0) {
        buf_add_str(mistakes, err.text);
        forget_fresh(m);
        close_those_new(s, s->listen_count, m);
        return -1;
    }
    return 0;
}

static void refuse(const struct master *m, struct buf *mistakes)
{
    log_error("reload %u: the configuration is not taken over; the old one keeps running",
              m->reloads);
    for (struct slice rest = buf_slice(mistakes), line; rest.len > 0;) {
        (void)slice_cut(rest, '\n', &line, &rest);
        log_error("%.*s", SLICE_ARGS(line));
    }
    notify_refused();
}

void reload_begin(struct master *m)
{
    struct buf mistakes = {0};

    if (m->renewal != RENEW_NOTHING || m->heir.stage != HEIR_NONE || m->parent_fd >= 0) {
        m->reload_again = true; /* it may have been changed since it was read */
        return;
    }
    m->reload_again = false;
    m->reloads++;
    if (prepare(m, &m->former, &mistakes) != 0) {
        refuse(m, &mistakes);
        served_free(&m->former);
        buf_fini(&mistakes);
        return;
    }
    buf_fini(&mistakes);
    notify_reloading();
    exchange(m);
    log_info("reload %u: configuration read again: new processes take over", m->reloads);
    m->renewal = RENEW_WRITER;
    m->renewal_by_mono_ms = clock_mono_ms() + PATIENCE_MS;
    atomic_store(&m->gauges->renewing_until_mono_ms, m->renewal_by_mono_ms);
    m->writer_before = writer_of(m)->generation;
    renew_writer(m);
}

/* -------- going on, and back -------- */

static void take_back(struct master *m, const char *why)
{
    log_error("reload %u: %s: the old configuration keeps running", m->reloads, why);
    for (size_t i = 0; i < m->process_count; i++) {
        struct process *p = &m->processes[i];
        if (!p->is_fresh)
            continue;
        p->is_fresh = false;
        process_use(m, p, false);
        process_tell(p, SIGTERM);
    }
    exchange(m);
    drop_former(m);
    renew_writer(m);
    m->renewal = RENEW_NOTHING;
    atomic_store(&m->gauges->renewing_until_mono_ms, clock_mono_ms() + WRITER_BACK_MS);
    notify_refused();
}

static void begin_front(struct master *m)
{
    m->renewal = RENEW_FRONT;
    for (size_t i = 0; i < m->process_count; i++)
        if (m->processes[i].is_fresh)
            process_use(m, &m->processes[i], true);
}

/* It said so, or has died young again and again. */
static bool is_failing(const struct process *p)
{
    return p->hopeless || p->short_lives >= LIVES_MAX;
}

/* +1 all serve, 0 not yet, -1 somebody never will. */
static int front_stands(const struct master *m)
{
    int stands = 1;

    for (size_t i = 0; i < m->process_count; i++) {
        const struct process *p = &m->processes[i];
        if (p->is_fresh && is_failing(p))
            return -1;
        if (p->is_fresh && !process_is_ready(m, p))
            stands = 0;
    }
    return stands;
}

static void begin_rest(struct master *m)
{
    m->renewal = RENEW_REST;
    set_modes(m);
    /* The old ones leave for those that serve now, however long the last client takes. */
    atomic_store(&m->gauges->renewing_until_mono_ms,
                 clock_mono_ms() + m->now.config->grace_ms + PATIENCE_MS);
    for (size_t i = 0; i < m->process_count; i++) {
        struct process *p = &m->processes[i];
        bool stays =
            p->role == ROLE_HTTPD ? p->is_fresh : p->index < wanted(m->now.config, p->role);
        if (p->is_fresh || p->role == ROLE_SANDBOX || p->role == ROLE_WRITER)
            continue;
        if (!stays) {
            process_use(m, p, false);
            process_tell(p, SIGTERM);
        } else if (p->pid == 0) {
            process_use(m, p, true);
        } else {
            p->hopeless = false;
            p->replacing = true;
        }
    }
    reload_logs(m);
}

static bool old_ones_are_gone(const struct master *m)
{
    for (size_t i = 0; i < m->process_count; i++)
        if (m->processes[i].is_unused && m->processes[i].pid != 0)
            return false;
    return true;
}

static void end(struct master *m)
{
    unsigned count = 0;

    m->renewal = RENEW_NOTHING;
    for (size_t i = 0; i < m->process_count; i++) {
        struct process *p = &m->processes[i];
        p->is_fresh = false;
        count += !p->is_unused;
        if (p->is_unused && p->slot != NULL) {
            ring_trim(p->slot->up);
            ring_trim(p->slot->down);
        }
    }
    drop_former(m);
    atomic_store(&m->gauges->renewing_until_mono_ms, 0);
    log_info("reload %u: the new configuration serves", m->reloads);
    notify_ready(count);
    if (m->reload_again)
        reload_begin(m);
}

/* One after another is told to finish; its successor is born with the new configuration. True when
 * there is none left. */
static bool replace_next(struct master *m)
{
    struct process *next = NULL;

    for (size_t i = 0; i < m->process_count; i++) {
        struct process *p = &m->processes[i];
        if (p->replacing && p->pid == 0 && (p->hopeless || !p->told_to_stop))
            p->replacing = false; /* it died by itself, or will never be there */
        if (p->replacing && p->told_to_stop)
            return false;
        if (p->replacing && next == NULL)
            next = p;
    }
    if (next != NULL)
        process_tell(next, SIGTERM);
    return next == NULL;
}

void reload_advance(struct master *m)
{
    const struct process *writer = writer_of(m);
    bool is_late = m->renewal != RENEW_NOTHING && clock_mono_ms() >= m->renewal_by_mono_ms;
    bool replaced = replace_next(m);

    switch (m->renewal) {
    case RENEW_NOTHING:
        if (m->reload_again && m->heir.stage == HEIR_NONE && m->parent_fd < 0)
            reload_begin(m);
        break;
    case RENEW_WRITER:
        if (is_failing(writer) || is_late)
            take_back(m, "the writer cannot work with the new configuration");
        else if (writer->generation != m->writer_before && process_is_ready(m, writer))
            begin_front(m);
        break;
    case RENEW_FRONT: {
        int stands = front_stands(m);
        if (stands < 0 || (stands == 0 && is_late))
            take_back(m, "httpd cannot serve with the new configuration");
        else if (stands > 0)
            begin_rest(m);
        break;
    }
    case RENEW_REST:
        if (replaced && old_ones_are_gone(m))
            end(m);
        break;
    }
}

/* -------- the log -------- */

/* The logger's successor has the file that bears the name now; lines wait in the pipe meanwhile. */
void reload_logs(struct master *m)
{
    struct err err;

    if (m->outlet.kind != LOG_TO_FILE)
        return;
    if (outlet_reopen(&m->outlet, m->now.config, &err) != 0) {
        log_err(&err, "the log stays where it is");
        return;
    }
    for (size_t i = 0; i < m->process_count; i++)
        if (m->processes[i].role == ROLE_LOGGER)
            m->processes[i].replacing = m->processes[i].pid != 0;
}
