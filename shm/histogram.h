/*
 * shm/histogram.h - how often a value fell into each of a few steps, counted in shared memory.
 *
 * SHAPE   A word per step and one for the sum. A scale says where the steps end; it is no part of
 *         the histogram, so that one shape serves all.
 * ENDS    One writer per histogram: a process in memory of its own slot, which outlives it, so its
 *         successor counts on. Anyone reads, at any time, and adds up those of several slots.
 * UNITS   The scale's: microseconds, or records.
 * CRASH   A value is in its step before it is in the sum. A writer that is killed between the two
 *         leaves the sum short of that value; nothing ever falls.
 */
#ifndef SHM_HISTOGRAM_H
#define SHM_HISTOGRAM_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { HISTOGRAM_STEPS = 16 };

struct histogram {
    _Atomic uint64_t count[HISTOGRAM_STEPS]; /* each step's own, not counting lower ones */
    _Atomic uint64_t sum;
};

/* The most that belongs into each step, growing; the last one in use has UINT64_MAX. */
struct histogram_scale {
    uint64_t most[HISTOGRAM_STEPS];
};

extern const struct histogram_scale histogram_quick_us; /* 500 µs to 60 s */
extern const struct histogram_scale histogram_lag_us;   /* 1 s to 6 h */
extern const struct histogram_scale histogram_records;  /* 1 to 4000 */

/* How many steps the scale has. */
size_t histogram_step_count(const struct histogram_scale *scale);

void histogram_add(struct histogram *h, const struct histogram_scale *scale, uint64_t value);

/* What was read; adds up. {0} before the first. */
struct histogram_sums {
    uint64_t count[HISTOGRAM_STEPS];
    uint64_t sum;
};

void histogram_read(const struct histogram *h, struct histogram_sums *sums);
/* Adds what a process has gathered in memory of its own, and empties that. */
void histogram_publish(struct histogram *h, struct histogram *gathered);

#endif
