/*
 * base/mem.h - allocation that does not fail.
 *
 * ERRORS  When the system has no memory the process says so in the log and aborts: the
 *         master replaces it, and what was promised is in the store, not here. Sizes chosen by a
 *         stranger are bounded by the caller first (body limits, record limits).
 * MEMORY  The caller frees with free().
 */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>

void *mem_alloc(size_t bytes); /* uninitialised */
void *mem_zero(size_t count, size_t bytes);
void *mem_grow(void *ptr, size_t bytes); /* as realloc */
void *mem_dup(const void *ptr, size_t bytes);
char *mem_strdup(const char *s);

#endif
