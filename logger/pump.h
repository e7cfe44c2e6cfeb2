/*
 * logger/pump.h - lines out of the pipe that all processes write to, into where the log is kept.
 *
 * SHAPE   A pipe of lines (base/log.h), led by "<3>" to "<7>" unless they go to a file. What is
 *         taken out of the pipe has been written: it is looked at with tee(2) first.
 * ENDS    The logger; the master once the logger is gone for good.
 * ERRORS  A file that cannot be written (disk full) keeps the lines in the pipe; the next call goes
 *         on where the file stopped, in the middle of a line too. syslog and the journal take a
 *         line or do not, and say nothing.
 * CRASH   A logger killed between writing and taking out leaves the lines in the pipe: its successor
 *         writes these few again. None is lost. One that ends in the middle of a line (Linux ends a
 *         killed process's write at a page; the disk was full) leaves the beginning in the file: it
 *         stays a line of its own, where the file can be read, and the whole one follows.
 */
#ifndef LOGGER_PUMP_H
#define LOGGER_PUMP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"

enum log_kind { LOG_TO_STDERR, LOG_TO_FILE, LOG_TO_SYSLOG, LOG_TO_JOURNAL };

/* The log's destination and the pipe before it. To standard error there is no pipe: each process
 * writes there itself. Descriptors are -1 when there is none. */
struct log_outlet {
    enum log_kind kind;
    int file_fd;           /* LOG_TO_FILE: open for appending, and for reading where it can be */
    int read_fd, write_fd; /* of the pipe; both do not block */
};

enum pump_result {
    PUMP_MORE,  /* some lines went out, there may be others */
    PUMP_EMPTY, /* there are none now */
    PUMP_ENDED, /* there are none, and no process is left to write any */
    PUMP_STUCK, /* *err: they stay where they are */
};

struct pump {
    const struct log_outlet *outlet;
    int peek_read_fd, peek_write_fd;
    bool is_sure;       /* the file ends where a line does: what we wrote last has gone out whole */
    size_t begun_bytes; /* of the pipe's first line, in the file already... */
    off_t begun_end;    /* ...as long as that ends here */
};

int pump_open(struct pump *p, const struct log_outlet *outlet, struct err *err);
enum pump_result pump_some(struct pump *p, struct err *err);
void pump_close(struct pump *p);

#endif
