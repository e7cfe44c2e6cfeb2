/*
 * base/clock.h - the two clocks. Wall time is for people and records, monotonic time for waiting.
 *
 * UNITS   In the names. Wall times count from 1970-01-01 UTC.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

#include "base/slice.h"

uint64_t clock_wall_us(void);
uint64_t clock_wall_ms(void);
uint64_t clock_mono_ns(void);
uint64_t clock_mono_ms(void);

/* "2026-03-01T18:20:05Z", as AWS writes times: with any fraction (digits past the sixth are cut),
 * and with an offset in place of the Z. 0 = no such time, or one before 1971. */
uint64_t clock_read_iso8601_us(struct slice text);

#endif
