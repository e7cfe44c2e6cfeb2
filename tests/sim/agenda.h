/*
 * tests/sim/agenda.h - what will happen when: a heap by virtual time; what is entered first comes
 * first among equals, so a run depends on its seed alone.
 *
 * UNITS   Virtual milliseconds.
 * MEMORY  A zeroed agenda is an empty one; agenda_fini() frees it.
 */
#ifndef SIM_AGENDA_H
#define SIM_AGENDA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct appointment {
    uint64_t at_ms, serial;
    unsigned kind;       /* the caller's */
    uint32_t node, life; /* whose it is */
    uint64_t number;
    void *about;
};

struct agenda {
    struct appointment *heap;
    size_t count, cap;
    uint64_t serial;
};

void agenda_enter(struct agenda *a, struct appointment what);
bool agenda_next(struct agenda *a, struct appointment *what); /* false: there is nothing */
void agenda_fini(struct agenda *a);

#endif
