/*
 * base/log.h - one line per thing that matters: when, level, who, what happened, what happens now.
 *
 * SHAPE   text:  2026-03-01T12:03:11.482Z warn  writer[812]: the words
 *         json:  {"time":"…","level":"warn","process":"writer","pid":812,"message":"…"}
 *         One write(2) a line, at most LOG_LINE_BYTES long; longer ones are cut. Control bytes are
 *         shown as \xNN, so a stranger's text cannot forge a line.
 * ENDS    Any process. The sink is standard error. The name is set once after fork().
 * UNITS   Wall time, UTC, milliseconds.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/err.h"

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };
enum { LOG_LINE_BYTES = 4096 };

void log_setup(enum log_level least, enum log_format format);
void log_name(const char *process); /* copied; e.g. "httpd 0" */

#define LOG_PRINTF __attribute__((format(printf, 1, 2)))
void log_debug(const char *format, ...) LOG_PRINTF;
void log_info(const char *format, ...) LOG_PRINTF;
void log_warn(const char *format, ...) LOG_PRINTF;
void log_error(const char *format, ...) LOG_PRINTF;

/* The words, then ": " and err's text. */
void log_err(const struct err *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
