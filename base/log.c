#include "base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

/* Process state: the sink. Set before any thread could exist. */
static enum log_level least_level = LOG_LEVEL_INFO;
static enum log_format line_format = LOG_FORMAT_TEXT;
static char process_name[32] = "postern";

static const char *const level_names[] = {"debug", "info", "warn", "error"};

void log_setup(enum log_level least, enum log_format format)
{
    least_level = least;
    line_format = format;
}

void log_name(const char *process)
{
    (void)snprintf(process_name, sizeof process_name, "%s", process);
}

/* Copies words so that no byte of them can end the line or the JSON string early. */
static size_t put_words(char *to, size_t room, const char *words, bool json)
{
    static const char hex[] = "0123456789abcdef";
    size_t at = 0;

    for (; *words != '\0' && at + 8 < room; words++) {
        unsigned char c = (unsigned char)*words;
        if (json && (c == '"' || c == '\\')) {
            to[at++] = '\\';
            to[at++] = (char)c;
        } else if (c < 0x20 || c == 0x7f) {
            to[at++] = '\\';
            to[at++] = json ? 'u' : 'x';
            if (json) {
                to[at++] = '0';
                to[at++] = '0';
            }
            to[at++] = hex[c >> 4];
            to[at++] = hex[c & 15];
        } else {
            to[at++] = (char)c;
        }
    }
    return at;
}

static void put_line(enum log_level level, const char *words)
{
    char line[LOG_LINE_BYTES];
    uint64_t now_ms = clock_wall_ms();
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm utc;
    char when[32];

    (void)gmtime_r(&seconds, &utc);
    (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &utc);

    int len =
        line_format == LOG_FORMAT_JSON
            ? snprintf(line, sizeof line,
                       "{\"time\":\"%s.%03uZ\",\"level\":\"%s\",\"process\":\"%s\","
                       "\"pid\":%d,\"message\":\"",
                       when, (unsigned)(now_ms % 1000), level_names[level], process_name,
                       (int)getpid())
            : snprintf(line, sizeof line, "%s.%03uZ %-5s %s[%d]: ", when, (unsigned)(now_ms % 1000),
                       level_names[level], process_name, (int)getpid());
    size_t at = (size_t)len;
    at += put_words(line + at, sizeof line - at - 4, words, line_format == LOG_FORMAT_JSON);
    if (line_format == LOG_FORMAT_JSON) {
        line[at++] = '"';
        line[at++] = '}';
    }
    line[at++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, at);
    (void)written; /* nowhere left to complain */
}

static void put(enum log_level level, const char *format, va_list args)
{
    char words[LOG_LINE_BYTES];

    if (level < least_level)
        return;
        /* The callers' formats are literals, checked by their format attribute. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)vsnprintf(words, sizeof words, format, args);
#pragma GCC diagnostic pop
    put_line(level, words);
}

#define LOG_FUNCTION(name, level)                                                                  \
    void name(const char *format, ...)                                                             \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, format);                                                                    \
        put(level, format, args);                                                                  \
        va_end(args);                                                                              \
    }

LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
LOG_FUNCTION(log_warn, LOG_LEVEL_WARN)
LOG_FUNCTION(log_error, LOG_LEVEL_ERROR)

void log_err(const struct err *err, const char *format, ...)
{
    char words[LOG_LINE_BYTES];
    va_list args;

    va_start(args, format);
    int len = vsnprintf(words, sizeof words, format, args);
    va_end(args);
    if (len >= 0 && (size_t)len < sizeof words)
        (void)snprintf(words + len, sizeof words - (size_t)len, ": %s", err->text);
    put_line(LOG_LEVEL_ERROR, words);
}
