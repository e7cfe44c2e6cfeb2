#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/redact.h"
#include "base/repeats.h"

enum { FIELDS_BYTES_MAX = 2048, KEY_BYTES_MAX = 128 };

/* Process state: the sink. Set before any thread could exist. */
static enum log_level least_level = LOG_LEVEL_INFO;
static enum log_format line_format = LOG_FORMAT_TEXT;
static char process_name[32] = "postern";
static bool is_redacted = true;
static char redaction_key[KEY_BYTES_MAX];
static size_t redaction_key_len;
static int sink_fd = STDERR_FILENO;
static bool sink_is_socket, sink_has_priority;
static uint64_t lost_count; /* lines since the last that went out */
static char request_id[LOG_REQUEST_MAX];
static size_t request_id_len;
static struct repeats repeats;
static void (*error_heard)(struct slice words);

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static const char level_priorities[] = "7643"; /* SOURCE syslog(3) */

void log_setup(enum log_level least, enum log_format format)
{
    least_level = least;
    line_format = format;
}

void log_redaction(bool on, const char *key)
{
    is_redacted = on;
    redaction_key_len = strlen(key) < sizeof redaction_key ? strlen(key) : sizeof redaction_key;
    memcpy(redaction_key, key, redaction_key_len);
}

void log_sink(int fd, bool with_priority)
{
    struct stat st;

    sink_fd = fd;
    sink_is_socket = fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
    sink_has_priority = with_priority;
}

void log_name(const char *process)
{
    (void)snprintf(process_name, sizeof process_name, "%s", process);
    repeats = (struct repeats){0}; /* what the process that forked us has said is its own */
}

void log_listener(void (*heard)(struct slice words))
{
    error_heard = heard;
}

bool log_is_on(enum log_level level)
{
    return level >= least_level;
}

void log_request(struct slice id)
{
    request_id_len = id.len < sizeof request_id ? id.len : sizeof request_id;
    if (request_id_len > 0)
        memcpy(request_id, id.ptr, request_id_len);
}

/* ---- a line ---- */

struct line {
    char *to;
    size_t room, len;
};

/* Whole or not at all: half an escape would end a JSON string early. */
static bool put_bytes(struct line *l, const void *bytes, size_t len)
{
    if (len > l->room - l->len)
        return false;
    if (len > 0)
        memcpy(l->to + l->len, bytes, len);
    l->len += len;
    return true;
}

static bool put_str(struct line *l, const char *s)
{
    return put_bytes(l, s, strlen(s));
}

static bool put_hex(struct line *l, const char *before, uint8_t c)
{
    static const char hex[] = "0123456789abcdef";
    char text[8];
    int len = snprintf(text, sizeof text, "%s%c%c", before, hex[c >> 4], hex[c & 15]);

    return put_bytes(l, text, (size_t)len);
}

static bool put_character(struct line *l, struct slice rest, bool quoted, size_t *taken)
{
    bool json = line_format == LOG_FORMAT_JSON;
    uint8_t c = rest.ptr[0];
    size_t len = slice_utf8_len(rest);

    *taken = 1;
    if ((json || quoted) && (c == '"' || c == '\\'))
        return put_bytes(l, (const char[]){'\\', (char)c}, 2);
    if (c < 0x20 || c == 0x7f)
        return put_hex(l, json ? "\\u00" : "\\x", c);
    if (len == 0)
        return json ? put_str(l, "\xef\xbf\xbd") : put_hex(l, "\\x", c);
    *taken = len;
    return put_bytes(l, rest.ptr, len);
}

/* So that no byte of it can end the line or the string early. */
static void put_words(struct line *l, struct slice words, bool quoted)
{
    size_t taken;

    for (; words.len > 0 && put_character(l, words, quoted, &taken);
         words = slice_from(words, taken))
        ;
}

static bool is_plain(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] <= ' ' || s.ptr[i] == '"' || s.ptr[i] == '\\' || s.ptr[i] == '=' ||
            s.ptr[i] >= 0x7f)
            return false;
    return true;
}

static void put_field(struct line *l, const struct log_field *f)
{
    char number[24], words[FIELDS_BYTES_MAX];
    bool json = line_format == LOG_FORMAT_JSON;
    struct slice text = f->text;
    size_t before = l->len;

    if (f->is_number) {
        (void)snprintf(number, sizeof number, "%llu", (unsigned long long)f->number);
        text = slice_str(number);
    } else if (is_redacted) {
        text = slice_of(words, redact_addresses(text, slice_of(redaction_key, redaction_key_len),
                                                words, sizeof words));
    }
    if (text.len == 0)
        return;
    bool quoted = json ? !f->is_number : !is_plain(text);
    l->room -= 1; /* the closing quote's */
    bool fits = put_str(l, json ? ",\"" : " ") && put_str(l, f->name) &&
                put_str(l, json ? "\":" : "=") && (!quoted || put_str(l, "\""));
    if (fits)
        put_words(l, text, quoted);
    l->room += 1;
    if (fits && quoted)
        (void)put_str(l, "\"");
    if (!fits)
        l->len = before;
}

static void put_head(struct line *l, enum log_level level)
{
    uint64_t now_ms = clock_wall_ms();
    time_t seconds = (time_t)(now_ms / 1000);
    struct tm utc;
    char when[32], head[160];

    (void)gmtime_r(&seconds, &utc);
    (void)strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &utc);
    if (sink_has_priority) {
        (void)snprintf(head, sizeof head, "<%c>", level_priorities[level]);
        (void)put_str(l, head);
    }
    (void)snprintf(head, sizeof head,
                   line_format == LOG_FORMAT_JSON
                       ? "{\"time\":\"%s.%03uZ\",\"level\":\"%s\",\"process\":\"%s\",\"pid\":%d,"
                         "\"message\":\""
                       : "%s.%03uZ %-5s %s[%d]: ",
                   when, (unsigned)(now_ms % 1000), level_names[level], process_name,
                   (int)getpid());
    (void)put_str(l, head);
}

static bool send_out(struct slice line)
{
    ssize_t sent;

    do
        sent = sink_is_socket ? send(sink_fd, line.ptr, line.len, MSG_DONTWAIT | MSG_NOSIGNAL)
                              : write(sink_fd, line.ptr, line.len);
    while (sent < 0 && errno == EINTR);
    return sent > 0;
}

/* Words that are redacted already. */
static bool write_line(enum log_level level, struct slice words, const struct log_field *fields,
                       size_t count, bool of_request)
{
    char bytes[LOG_LINE_BYTES], tail_bytes[FIELDS_BYTES_MAX];
    struct line line = {.to = bytes}, tail = {.to = tail_bytes, .room = sizeof tail_bytes};
    bool json = line_format == LOG_FORMAT_JSON;

    if (json)
        (void)put_str(&tail, "\"");
    if (of_request)
        put_field(&tail, &LOG_TEXT("request", slice_of(request_id, request_id_len)));
    for (size_t i = 0; i < count; i++)
        put_field(&tail, &fields[i]);
    line.room = sizeof bytes - tail.len - 2;
    put_head(&line, level);
    put_words(&line, words, false);
    line.room = sizeof bytes;
    (void)put_bytes(&line, tail.to, tail.len);
    (void)put_str(&line, json ? "}\n" : "\n");
    return send_out(slice_of(line.to, line.len));
}

static void say_lost(void)
{
    char words[96];

    if (lost_count == 0)
        return;
    int len = snprintf(words, sizeof words, "%llu lines were lost: nobody took them in time",
                       (unsigned long long)lost_count);
    if (write_line(LOG_LEVEL_WARN, slice_of(words, (size_t)len), NULL, 0, false))
        lost_count = 0;
}

static void tell_repeats(int level, struct slice words, uint32_t more, uint64_t over_ms)
{
    char text[REPEATS_WORDS_BYTES + 64];
    uint64_t over_s = (over_ms + 500) / 1000;
    const struct log_field fields[] = {LOG_NUMBER("repeated", more), LOG_NUMBER("over_s", over_s)};
    int len = snprintf(text, sizeof text, "\xe2\x80\xa6 %u more in %llu s: %.*s", (unsigned)more,
                       (unsigned long long)over_s, SLICE_ARGS(words));

    if (len >= (int)sizeof text)
        len = sizeof text - 1;
    if (!write_line((enum log_level)level, slice_of(text, (size_t)len), fields, 2, false))
        lost_count++;
}

static void put_line(enum log_level level, struct slice words, const struct log_field *fields,
                     size_t count)
{
    char redacted[LOG_LINE_BYTES];

    if (is_redacted)
        words =
            slice_of(redacted, redact_addresses(words, slice_of(redaction_key, redaction_key_len),
                                                redacted, sizeof redacted));
    if (level == LOG_LEVEL_ERROR && error_heard != NULL)
        error_heard(words);
    if (level < least_level ||
        (least_level > LOG_LEVEL_DEBUG &&
         !repeats_note(&repeats, (int)level, words, clock_mono_ms(), tell_repeats)))
        return;
    say_lost();
    if (!write_line(level, words, fields, count, true))
        lost_count++;
}

void log_tick(void)
{
    repeats_sweep(&repeats, clock_mono_ms(), false, tell_repeats);
}

void log_end(void)
{
    repeats_sweep(&repeats, clock_mono_ms(), true, tell_repeats);
    say_lost();
}

/* ---- words ---- */

static void put(enum log_level level, const struct log_field *fields, size_t count,
                const struct err *err, const char *format, va_list args)
{
    char words[LOG_LINE_BYTES];

    if (level < least_level)
        return;
        /* The callers' formats are literals, checked by their format attribute. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    int len = vsnprintf(words, sizeof words, format, args);
#pragma GCC diagnostic pop
    if (err != NULL && len >= 0 && (size_t)len < sizeof words)
        len += snprintf(words + len, sizeof words - (size_t)len, ": %s", err->text);
    if (len > (int)sizeof words - 1)
        len = sizeof words - 1;
    if (len > 0)
        put_line(level, slice_of(words, (size_t)len), fields, count);
}

#define LOG_FUNCTION(name, level)                                                                  \
    void name(const char *format, ...)                                                             \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, format);                                                                    \
        put(level, NULL, 0, NULL, format, args);                                                   \
        va_end(args);                                                                              \
    }

LOG_FUNCTION(log_debug, LOG_LEVEL_DEBUG)
LOG_FUNCTION(log_info, LOG_LEVEL_INFO)
LOG_FUNCTION(log_warn, LOG_LEVEL_WARN)
LOG_FUNCTION(log_error, LOG_LEVEL_ERROR)

void log_err(const struct err *err, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    put(LOG_LEVEL_ERROR, NULL, 0, err, format, args);
    va_end(args);
}

void log_fields(enum log_level level, const struct log_field *fields, size_t count,
                const char *format, ...)
{
    va_list args;

    va_start(args, format);
    put(level, fields, count, NULL, format, args);
    va_end(args);
}
