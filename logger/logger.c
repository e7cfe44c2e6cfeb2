#include "logger/logger.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "logger/pump.h"

enum {
    ORPHANED_MS = 5000, /* after the master's end, for the others' last lines */
    COMPLAIN_EVERY_MS = 60000,
};

struct logger {
    const struct child *me;
    struct pump pump;
    int signal_fd, sink_fd;
    bool leaving;
    uint64_t orphaned_mono_ms, complained_mono_ms;
};

/* Our own words go to the file, too, but not into the middle of a line or where none goes in. */
static void choose_sink(struct logger *l)
{
    const struct log_outlet *o = l->me->outlet;
    int fd = o->kind == LOG_TO_FILE && l->pump.is_sure ? o->file_fd : STDERR_FILENO;

    if (fd != l->sink_fd)
        log_sink(fd, false);
    l->sink_fd = fd;
}

static void wait_for_lines(struct logger *l, bool stuck)
{
    struct pollfd ends[] = {{.fd = l->me->outlet->read_fd, .events = POLLIN},
                            {.fd = l->signal_fd, .events = POLLIN},
                            {.fd = l->me->control_fd, .events = POLLIN}};

    /* What does not go out now is there all the time. */
    if (stuck)
        ends[0].fd = -1;
    if (l->orphaned_mono_ms != 0)
        ends[2].fd = -1;
    (void)poll(ends, 3, CHILD_TICK_MS);
    if (ends[1].revents != 0)
        l->leaving = true;
    if (ends[2].revents != 0)
        l->orphaned_mono_ms = clock_mono_ms();
}

static void complain(struct logger *l, const struct err *err)
{
    uint64_t now = clock_mono_ms();

    if (l->complained_mono_ms != 0 && now - l->complained_mono_ms < COMPLAIN_EVERY_MS)
        return;
    l->complained_mono_ms = now;
    log_err(err, "lines wait, and are lost once %s", "there are too many");
}

static bool is_over(const struct logger *l, enum pump_result result)
{
    switch (result) {
    case PUMP_MORE:
        return false;
    case PUMP_EMPTY:
    case PUMP_STUCK:
        return l->leaving ||
               (l->orphaned_mono_ms != 0 && clock_mono_ms() - l->orphaned_mono_ms >= ORPHANED_MS);
    case PUMP_ENDED:
        return true;
    }
    return true;
}

static int logger_open(struct logger *l, struct err *err)
{
    sigset_t term;

    (void)sigemptyset(&term);
    (void)sigaddset(&term, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &term, NULL);
    l->signal_fd = signalfd(-1, &term, SFD_CLOEXEC | SFD_NONBLOCK);
    if (l->signal_fd < 0)
        return err_sys(err, "signalfd");
    if (pump_open(&l->pump, l->me->outlet, err) != 0)
        return -1;
    choose_sink(l);
    return 0;
}

enum child_exit logger_main(const struct child *me)
{
    struct logger l = {.me = me, .signal_fd = -1, .sink_fd = -1};
    enum pump_result result = PUMP_MORE;
    struct err err;

    if (logger_open(&l, &err) != 0) {
        log_err(&err, "%s: cannot start", me->name);
        return CHILD_EXIT_RETRY;
    }
    child_ready(me);
    while (!is_over(&l, result)) {
        child_beat(me);
        result = pump_some(&l.pump, &err);
        choose_sink(&l);
        if (result == PUMP_STUCK)
            complain(&l, &err);
        if (result != PUMP_MORE)
            wait_for_lines(&l, result == PUMP_STUCK);
    }
    child_leaving(me);
    pump_close(&l.pump);
    (void)close(l.signal_fd);
    return CHILD_EXIT_DONE;
}
