/*
 * shm/last_words.h - what a process leaves for its obituary: what it is doing, its last error, and
 * the signal that ended it.
 *
 * SHAPE   In the process's own slot of the gauges, so that it outlives the process. Nothing is
 *         allocated or written but there.
 * ENDS    The process itself writes; the master reads, once it has reaped it. A process that
 *         somebody has taken over may write anything: the master takes texts for texts of strangers.
 * CRASH   SIGKILL leaves what was being done and the last error. Faults, abort() and assertions
 *         leave the signal, the address and the return addresses of the calls as well: the handler
 *         only stores words, and lets the signal kill the process then.
 */
#ifndef SHM_LAST_WORDS_H
#define SHM_LAST_WORDS_H

#include <stdatomic.h>
#include <stdint.h>

enum { LAST_WORDS_DOING_BYTES = 160, LAST_WORDS_ERROR_BYTES = 400, LAST_WORDS_CALLS_MAX = 16 };

struct last_words {
    char doing[LAST_WORDS_DOING_BYTES]; /* NUL-terminated; "" = waiting for work */
    char error[LAST_WORDS_ERROR_BYTES]; /* the last one; "" = none */
    uint64_t error_mono_ms;
    _Atomic uint32_t signal; /* 0 = none; stored before what follows */
    int32_t signal_code;     /* si_code */
    uint64_t fault_address;  /* of SIGSEGV, SIGBUS, SIGILL, SIGFPE */
    _Atomic uint32_t call_count;
    uint64_t calls[LAST_WORDS_CALLS_MAX]; /* innermost first: instructions */
};

/* After fork(), before the process is confined: forgets what the one before has left, and from here
 * on errors of the log, failed assertions and deadly signals are noted. */
void last_words_open(struct last_words *mine);

/* Cheap: once for each piece of work. "" when it is done. */
void last_words_doing(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
