/*
 * base/log.h - one line per thing that matters: when, level, who, what happened, what happens now.
 *
 * SHAPE   text:  2026-03-01T12:03:11.482Z warn  writer 0[812]: the words request=9f… batch=00…
 *         json:  {"time":"…","level":"warn","process":"writer 0","pid":812,"message":"the words",
 *                 "request":"9f…","batch":"00…"}
 *         At most LOG_LINE_BYTES long: longer words are cut. Control bytes are shown as \xNN, and in
 *         JSON what is no UTF-8 as U+FFFD, so that a stranger's text cannot forge a line. Mail
 *         addresses are shortened (base/redact.h), in fields as in words. The same words within ten
 *         seconds are counted instead (base/repeats.h), unless the level is debug.
 * ENDS    Any process; one thread of it. The name is set once after fork().
 * UNITS   Wall time, UTC, milliseconds.
 * ERRORS  A sink that takes nothing now loses the line; the next that goes out is led by how many
 *         were lost. Nobody waits for a sink.
 * CRASH   A line is one write(2): there whole or not at all.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/err.h"
#include "base/slice.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };
/* No longer than what a pipe takes whole (PIPE_BUF). */
enum { LOG_LINE_BYTES = 4096, LOG_REQUEST_MAX = 32, LOG_TEXT_HEAD_BYTES = 31 };

void log_setup(enum log_level least, enum log_format format);
/* Whether addresses are shortened (they are, unless told), and with digits made with which key; ""
 * = without. Copied. */
void log_redaction(bool on, const char *key);
/* Where lines go; standard error unless told. Not owned. It does not block: a socket, a regular
 * file, or open with O_NONBLOCK. with_priority: each line is led by "<3>" to "<7>", as syslog
 * numbers levels. */
void log_sink(int fd, bool with_priority);
void log_name(const char *process); /* copied; e.g. "httpd 0". In a child: right after its fork */
/* Who else hears of errors, once their addresses are shortened; NULL = nobody. */
void log_listener(void (*heard)(struct slice words));

bool log_is_on(enum log_level level);

/* Lines from here on belong to this request (at most LOG_REQUEST_MAX bytes, copied), till the next
 * call; empty = to none. Whoever sets it in a callback sets it back before returning. */
void log_request(struct slice id);

#define LOG_PRINTF __attribute__((format(printf, 1, 2)))
void log_debug(const char *format, ...) LOG_PRINTF;
void log_info(const char *format, ...) LOG_PRINTF;
void log_warn(const char *format, ...) LOG_PRINTF;
void log_error(const char *format, ...) LOG_PRINTF;

/* The words, then ": " and err's text. */
void log_err(const struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* What a machine is to find by name. A text that is empty is left out. */
struct log_field {
    const char *name;
    struct slice text;
    bool is_number;
    uint64_t number;
};
#define LOG_TEXT(n, t)   ((struct log_field){.name = (n), .text = (t)})
#define LOG_NUMBER(n, v) ((struct log_field){.name = (n), .is_number = true, .number = (v)})

void log_fields(enum log_level level, const struct log_field *fields, size_t count,
                const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Tells of repeats whose time is over; now and then, from the loop. At the end: of all. */
void log_tick(void);
void log_end(void);

#endif
