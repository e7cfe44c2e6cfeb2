/*
 * base/arena.h - memory that dies together: one arena per request, freed in one call.
 *
 * MEMORY  {0} is an empty arena. Everything given out is valid until arena_fini()/arena_reset().
 * ERRORS  None (base/mem.h).
 * BAD AT  Giving one thing back: a buffer that grows in an arena leaves its old selves behind.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/slice.h"

struct arena_block;
struct arena {
    struct arena_block *first;
    size_t used_bytes; /* handed out in all */
};

void arena_fini(struct arena *a);
/* Takes back all that was given out, and keeps room for as much again in one piece, up to 256 KB. */
void arena_reset(struct arena *a);
void *arena_alloc(struct arena *a, size_t bytes);               /* zeroed, aligned for any type */
void *arena_take(struct arena *a, size_t bytes);                /* the same, uninitialised */
void *arena_array(struct arena *a, size_t count, size_t bytes); /* zeroed; dies on overflow */
struct slice arena_dup(struct arena *a, struct slice s);
char *arena_cstr(struct arena *a, struct slice s); /* copy with a NUL behind it */
struct slice arena_printf(struct arena *a, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
