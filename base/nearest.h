/*
 * base/nearest.h - the name that a mistyped one was meant to be.
 */
#ifndef BASE_NEAREST_H
#define BASE_NEAREST_H

#include <stddef.h>

/* Of the names the one that takes the fewest slips of a finger (a letter too many, too few, another,
 * or two in the wrong order), as long as those are few for its length; else the one that shares the
 * longest beginning, of three letters at least. The first of equals; NULL: none is near. Case
 * counts. */
const char *nearest_name(const char *typed, const char *const *names, size_t count);

#endif
