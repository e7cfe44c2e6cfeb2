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

uint64_t clock_read_iso8601_us(struct slice text)
{
    int year, month, day, hour, minute, second, used = 0;
    char copy[40];
    uint64_t us;
    int64_t offset_s;

    if (text.len == 0 || text.len >= sizeof copy)
        return 0;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    if (sscanf(copy, "%4d-%2d-%2dT%2d:%2d:%2d%n", &year, &month, &day, &hour, &minute, &second,
               &used) != 6 ||
        year < 1971 || !read_rest(copy + used, &us, &offset_s))
        return 0;
    struct tm tm = {.tm_year = year - 1900,
                    .tm_mon = month - 1,
                    .tm_mday = day,
                    .tm_hour = hour,
                    .tm_min = minute,
                    .tm_sec = second};
    time_t seconds = timegm(&tm) - offset_s;
    return seconds < 0 ? 0 : (uint64_t)seconds * 1000000 + us;
}
