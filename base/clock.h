/*
 * base/clock.h - the two clocks. Wall time is for people and records, monotonic time for waiting.
 *
 * UNITS   In the names. Wall times count from 1970-01-01 UTC.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_wall_us(void);
uint64_t clock_wall_ms(void);
uint64_t clock_mono_ns(void);
uint64_t clock_mono_ms(void);

#endif
