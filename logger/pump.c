#include "logger/pump.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/uio.h>
#include <syslog.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "base/log.h"
#include "base/slice.h"

enum { CHUNK_BYTES = 64 * 1024, PRIORITY_BYTES = 3 };

int pump_open(struct pump *p, const struct log_outlet *outlet, struct err *err)
{
    int ends[2];

    *p = (struct pump){.outlet = outlet, .peek_read_fd = -1, .peek_write_fd = -1};
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return err_sys(err, "a pipe for the logger");
    p->peek_read_fd = ends[0];
    p->peek_write_fd = ends[1];
    if (outlet->kind == LOG_TO_SYSLOG)
        openlog("postern", LOG_NDELAY, LOG_MAIL);
    return 0;
}

void pump_close(struct pump *p)
{
    if (p->peek_read_fd >= 0) {
        (void)close(p->peek_read_fd);
        (void)close(p->peek_write_fd);
    }
    if (p->outlet != NULL && p->outlet->kind == LOG_TO_SYSLOG)
        closelog();
    *p = (struct pump){.peek_read_fd = -1, .peek_write_fd = -1};
}

/* A file's last write may have been cut by a full disk: what is missing follows. */
static int append(int fd, struct slice text, struct err *err)
{
    while (text.len > 0) {
        ssize_t written = write(fd, text.ptr, text.len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return err_sys(err, "the log's file cannot be written");
        text = slice_from(text, (size_t)written);
    }
    return 0;
}

static void put_journal(int priority, struct slice words)
{
    char message[LOG_LINE_BYTES + 16], level[16];
    int len = snprintf(message, sizeof message, "MESSAGE=%.*s", SLICE_ARGS(words));
    int level_len = snprintf(level, sizeof level, "PRIORITY=%d", priority);
    const struct iovec fields[] = {
        {message, (size_t)len < sizeof message ? (size_t)len : sizeof message - 1},
        {level, (size_t)level_len},
        {(char[]){"SYSLOG_IDENTIFIER=postern"}, sizeof "SYSLOG_IDENTIFIER=postern" - 1},
        {(char[]){"SYSLOG_FACILITY=2"}, sizeof "SYSLOG_FACILITY=2" - 1},
    };

    (void)sd_journal_sendv(fields, sizeof fields / sizeof fields[0]);
}

/* Time and level are syslog's and the journal's own; JSON goes whole. */
static void put_line(enum log_kind kind, struct slice line)
{
    int priority = LOG_INFO;

    if (line.len > PRIORITY_BYTES && line.ptr[0] == '<' && line.ptr[2] == '>') {
        priority = line.ptr[1] >= '0' && line.ptr[1] <= '7' ? line.ptr[1] - '0' : LOG_INFO;
        line = slice_from(line, PRIORITY_BYTES);
    }
    if (line.len > LOG_TEXT_HEAD_BYTES && line.ptr[0] != '{')
        line = slice_from(line, LOG_TEXT_HEAD_BYTES);
    if (kind == LOG_TO_SYSLOG)
        syslog(priority, "%.*s", SLICE_ARGS(line));
    else
        put_journal(priority, line);
}

static int put_all(const struct log_outlet *o, struct slice text, struct err *err)
{
    struct slice line;

    if (o->kind == LOG_TO_FILE)
        return append(o->file_fd, text, err);
    while (text.len > 0) {
        (void)slice_cut(text, '\n', &line, &text);
        put_line(o->kind, line);
    }
    return 0;
}

/* So many bytes from fd, which are there. */
static size_t take(int fd, char *to, size_t bytes)
{
    size_t got = 0;

    while (got < bytes) {
        ssize_t n = read(fd, to + got, bytes - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    return got;
}

enum pump_result pump_some(struct pump *p, struct err *err)
{
    char chunk[CHUNK_BYTES];
    ssize_t seen;

    do
        seen = tee(p->outlet->read_fd, p->peek_write_fd, sizeof chunk, SPLICE_F_NONBLOCK);
    while (seen < 0 && errno == EINTR);
    if (seen == 0)
        return PUMP_ENDED;
    if (seen < 0 && errno == EAGAIN)
        return PUMP_EMPTY;
    if (seen < 0) {
        (void)err_sys(err, "the pipe of the log cannot be read");
        return PUMP_STUCK;
    }
    size_t len = take(p->peek_read_fd, chunk, (size_t)seen);
    /* Lines come whole; a chunk's last may be cut, and is seen again with its rest. */
    size_t end = slice_rfind_byte(slice_of(chunk, len), '\n');
    len = end == SIZE_MAX ? len : end + 1;
    if (put_all(p->outlet, slice_of(chunk, len), err) != 0)
        return PUMP_STUCK;
    return take(p->outlet->read_fd, chunk, len) == len ? PUMP_MORE : PUMP_EMPTY;
}
