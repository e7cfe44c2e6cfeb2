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

/* A write may be cut, as by a full disk: what is missing follows. *done_bytes: so much of the text
 * is in the file, before and after. */
static int append(int fd, struct slice text, size_t *done_bytes, struct err *err)
{
    while (*done_bytes < text.len) {
        ssize_t written = write(fd, text.ptr + *done_bytes, text.len - *done_bytes);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return err_sys(err, "the log's file cannot be written");
        *done_bytes += (size_t)written;
    }
    return 0;
}

/* Of the file that ends there; -1 where there is none, or none is to be seen, as in a pipe. */
static int last_byte(int fd, off_t end)
{
    uint8_t last;

    return end > 0 && pread(fd, &last, 1, end - 1) == 1 ? last : -1;
}

/* After a start, or a write that did not go out whole: on from there, unless somebody has written to
 * the file or shortened it meanwhile. Else a beginning that stands there stays a line of its own. */
static int make_sure(struct pump *p, struct err *err)
{
    int fd = p->outlet->file_fd;
    off_t end = lseek(fd, 0, SEEK_END);
    int last = last_byte(fd, end);
    size_t done_bytes = 0;

    if (p->begun_bytes > 0 && end == p->begun_end && last != '\n')
        return 0;
    p->begun_bytes = 0;
    return last == -1 || last == '\n' ? 0 : append(fd, SLICE("\n"), &done_bytes, err);
}

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
    if (outlet->kind == LOG_TO_FILE)
        p->is_sure = make_sure(p, err) == 0; /* else it is tried with the first line again */
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

static void put_lines(enum log_kind kind, struct slice text)
{
    struct slice line;

    while (text.len > 0) {
        (void)slice_cut(text, '\n', &line, &text);
        put_line(kind, line);
    }
}

/* Up to and with the last line's end; 0 when none ends here. */
static size_t whole_lines(struct slice text)
{
    size_t end = slice_rfind_byte(text, '\n');

    return end == SIZE_MAX ? 0 : end + 1;
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

/* *text: what is first in the pipe; of it, the lines that are out now. */
static int put_in_file(struct pump *p, struct slice *text, struct err *err)
{
    int fd = p->outlet->file_fd, rc = p->is_sure ? 0 : make_sure(p, err);
    size_t out_bytes = p->begun_bytes;

    if (rc == 0)
        rc = append(fd, *text, &out_bytes, err);
    if (rc != 0)
        text->len = whole_lines(slice_of(text->ptr, out_bytes));
    p->is_sure = rc == 0;
    p->begun_bytes = rc == 0 ? 0 : out_bytes - text->len;
    p->begun_end = rc == 0 ? 0 : lseek(fd, 0, SEEK_END);
    return rc;
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
    size_t whole = whole_lines(slice_of(chunk, len));
    struct slice text = slice_of(chunk, whole != 0 ? whole : len);
    bool stuck = false;
    if (p->outlet->kind == LOG_TO_FILE)
        stuck = put_in_file(p, &text, err) != 0;
    else
        put_lines(p->outlet->kind, text);
    bool taken = take(p->outlet->read_fd, chunk, text.len) == text.len;
    return stuck ? PUMP_STUCK : taken ? PUMP_MORE : PUMP_EMPTY;
}
