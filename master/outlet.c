#include "master/outlet.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

enum { PIPE_BYTES = 1024 * 1024, FILE_MODE = 0640 };

void outlet_settings(const struct config *config)
{
    log_setup(config->log.level, config->log.format);
    log_redaction(config->log.redact, config->log.redact_key);
}

/* The same pipe or terminal, open once more: O_NONBLOCK is then ours alone, and not also that of
 * whoever has given it to us. A regular file never blocks for a reader, and a socket is asked by
 * each call (base/log.h). Without /proc it is left as it is. */
static int standard_error(void)
{
    struct stat st;
    int again = -1;

    if (fstat(STDERR_FILENO, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)))
        again = open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return again < 0 ? STDERR_FILENO : again;
}

/* A regular file can be read too, so that its end is seen (logger/pump.h); of a named pipe we are
 * no reader, and some files may only be written. */
static int open_file(const char *path, struct err *err)
{
    enum { HOW = O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY };
    struct stat st;
    bool may_be_regular = stat(path, &st) != 0 || S_ISREG(st.st_mode);
    int fd = open(path, HOW | (may_be_regular ? O_RDWR : O_WRONLY), FILE_MODE);

    if (fd < 0 && may_be_regular && errno == EACCES)
        fd = open(path, HOW | O_WRONLY, FILE_MODE);
    return fd < 0 ? err_sys(err, "log.destination: %s", path) : fd;
}

static bool is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

static int open_destination(struct log_outlet *o, const char *name, struct err *err)
{
    if (name[0] == '/') {
        o->kind = LOG_TO_FILE;
        o->file_fd = open_file(name, err);
        return o->file_fd < 0 ? -1 : 0;
    }
    if (strcmp(name, "syslog") == 0) {
        o->kind = LOG_TO_SYSLOG;
        return is_there("/dev/log")
                   ? 0
                   : err_set(err, ERR_CONFIG, "log.destination: no syslog listens on /dev/log");
    }
    if (strcmp(name, "journal") == 0) {
        o->kind = LOG_TO_JOURNAL;
        return is_there("/run/systemd/journal/socket")
                   ? 0
                   : err_set(err, ERR_CONFIG, "log.destination: there is no systemd-journald here");
    }
    o->kind = LOG_TO_STDERR;
    return 0;
}

int outlet_open(struct log_outlet *o, const struct config *config, struct err *err)
{
    int ends[2];

    *o = (struct log_outlet){.file_fd = -1, .read_fd = -1, .write_fd = -1};
    if (open_destination(o, config->log.destination, err) != 0)
        return -1;
    if (o->kind == LOG_TO_STDERR) {
        o->write_fd = standard_error();
        log_sink(o->write_fd, false);
        return 0;
    }
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return err_sys(err, "a pipe for the log");
    o->read_fd = ends[0];
    o->write_fd = ends[1];
    (void)fcntl(o->write_fd, F_SETPIPE_SZ, PIPE_BYTES); /* smaller where that is not allowed */
    log_sink(o->write_fd, o->kind != LOG_TO_FILE);
    return 0;
}

int outlet_reopen(struct log_outlet *o, const struct config *config, struct err *err)
{
    if (o->kind != LOG_TO_FILE || config->log.destination[0] != '/')
        return 0;
    int fd = open_file(config->log.destination, err);
    if (fd < 0)
        return -1;
    (void)close(o->file_fd);
    o->file_fd = fd;
    return 0;
}

static void drop(int *fd)
{
    if (*fd > STDERR_FILENO)
        (void)close(*fd);
    *fd = -1;
}

void outlet_keep(struct log_outlet *o, bool is_logger)
{
    if (o->kind == LOG_TO_STDERR)
        return;
    if (is_logger) {
        /* Its own words do not go through the pipe: it would wait for its own end. */
        log_sink(STDERR_FILENO, false); /* until it sees where else */
        drop(&o->write_fd);
    } else {
        drop(&o->read_fd);
        drop(&o->file_fd);
    }
}

void outlet_close(struct log_outlet *o)
{
    struct pump pump;
    struct err err;

    log_end();
    log_sink(STDERR_FILENO, false);
    if (o->read_fd >= 0) {
        drop(&o->write_fd);
        if (pump_open(&pump, o, &err) == 0) {
            enum pump_result result;
            do
                result = pump_some(&pump, &err);
            while (result == PUMP_MORE);
            if (result == PUMP_STUCK)
                log_err(&err, "the last lines of the log are lost");
        }
        pump_close(&pump);
    }
    drop(&o->write_fd);
    drop(&o->read_fd);
    drop(&o->file_fd);
}
