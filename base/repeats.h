/*
 * base/repeats.h - the same words again and again are said once, and then counted.
 *
 * SHAPE   A table of the words said of late, by their hash. The first time they go out; within
 *         REPEATS_WINDOW_MS after that they are only counted; at the end of that window, or when the
 *         table is full, the count is told.
 * UNITS   Monotonic time in milliseconds.
 */
#ifndef BASE_REPEATS_H
#define BASE_REPEATS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

enum { REPEATS_WINDOW_MS = 10000, REPEATS_ROWS = 64, REPEATS_WORDS_BYTES = 200 };

struct repeats {
    struct repeats_row {
        uint64_t hash; /* 0 = free */
        uint64_t since_mono_ms;
        uint32_t more; /* that were not said */
        int level;
        size_t len; /* of words: their beginning */
        char words[REPEATS_WORDS_BYTES];
    } rows[REPEATS_ROWS];
};

/* What is to be told of words that came `more` times within over_ms and were not said. */
typedef void repeats_teller(int level, struct slice words, uint32_t more, uint64_t over_ms);

/* May these words go out? */
bool repeats_note(struct repeats *r, int level, struct slice words, uint64_t now_mono_ms,
                  repeats_teller *tell);
/* Tells of the windows that have ended; all = of all. */
void repeats_sweep(struct repeats *r, uint64_t now_mono_ms, bool all, repeats_teller *tell);

#endif
