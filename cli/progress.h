/*
 * cli/progress.h - how far something is that takes its time: a bar on the terminal, once it has taken
 * two seconds, and nothing at all anywhere else.
 *
 * SHAPE   One line on standard error, drawn over itself, wiped at the end: what is piped or asked
 *         for as JSON stays clean, and the bar shows all the same.
 */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what; /* before the bar: "import" */
    bool on_terminal, is_drawn;
    uint64_t began_mono_ms, drawn_mono_ms;
};

struct progress progress_begin(const char *what);
/* As often as you like. words: what is counted, or NULL; whole 0 = nobody knows. */
void progress_show(struct progress *p, uint64_t done, uint64_t whole, const char *words);
/* Before anything else is printed, and at the end. */
void progress_wipe(struct progress *p);

#endif
