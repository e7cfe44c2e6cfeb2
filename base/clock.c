#include "base/clock.h"

#include <assert.h>
#include <stdio.h>
#include <time.h>

static uint64_t read_ns(clockid_t id)
{
    struct timespec now;
    int got = clock_gettime(id, &now);

    assert(got == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t clock_wall_us(void)
{
    return read_ns(CLOCK_REALTIME) / 1000;
}

uint64_t clock_wall_ms(void)
{
    return read_ns(CLOCK_REALTIME) / 1000000;
}

uint64_t clock_mono_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

uint64_t clock_mono_ms(void)
{
    return read_ns(CLOCK_MONOTONIC) / 1000000;
}

/* What stands behind the seconds: a fraction, then nothing, a Z, or an offset. */
static bool read_rest(const char *at, uint64_t *us, int64_t *offset_s)
{
    uint64_t unit = 100000;
    int hours, minutes, used = 0;

    *us = 0;
    *offset_s = 0;
    if (*at == '.')
        for (at++; *at >= '0' && *at <= '9'; at++) {
            *us += (uint64_t)(*at - '0') * unit;
            unit /= 10;
        }
    if (*at == 'Z')
        at++;
    else if ((*at == '+' || *at == '-') &&
             (sscanf(at + 1, "%2d:%2d%n", &hours, &minutes, &used) == 2 ||
              sscanf(at + 1, "%2d%2d%n", &hours, &minutes, &used) == 2) &&
             hours >= 0 && minutes >= 0) {
        *offset_s = (hours * 60 + minutes) * 60 * (*at == '-' ? -1 : 1);
        at += 1 + used;
    }
    return *at == '\0';
}

/* Digits where the form has a d, and what else it has as it is: "dddd-dd" for "2026-03". How many
 * characters; 0 = the text is not of that form. values: of each run of digits. */
static size_t read_form(const char *text, const char *form, int *values)
{
    size_t at = 0;

    for (; form[at] != '\0'; at++) {
        bool is_digit = text[at] >= '0' && text[at] <= '9';
        if (form[at] != 'd') {
            if (text[at] != form[at])
                return 0;
            values++;
            *values = 0;
        } else if (is_digit) {
            *values = *values * 10 + (text[at] - '0');
        } else {
            return 0;
        }
    }
    return at;
}

uint64_t clock_read_iso8601_us(struct slice text)
{
    enum { YEAR, MONTH, DAY, HOUR, MINUTE, SECOND, VALUES };
    int v[VALUES] = {0};
    char copy[40];
    uint64_t us;
    int64_t offset_s;

    if (text.len == 0 || text.len >= sizeof copy)
        return 0;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    size_t used = read_form(copy, "dddd-dd-ddTdd:dd:dd", v);
    if (used == 0 || v[YEAR] < 1971 || !read_rest(copy + used, &us, &offset_s))
        return 0;
    struct tm tm = {.tm_year = v[YEAR] - 1900,
                    .tm_mon = v[MONTH] - 1,
                    .tm_mday = v[DAY],
                    .tm_hour = v[HOUR],
                    .tm_min = v[MINUTE],
                    .tm_sec = v[SECOND]};
    time_t seconds = timegm(&tm) - offset_s;
    return seconds < 0 ? 0 : (uint64_t)seconds * 1000000 + us;
}
