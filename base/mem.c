#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

static void *or_die(void *ptr, size_t bytes)
{
    if (ptr == NULL) {
        log_error("out of memory: %zu bytes", bytes); /* allocates nothing */
        abort();
    }
    return ptr;
}

void *mem_alloc(size_t bytes)
{
    return or_die(malloc(bytes == 0 ? 1 : bytes), bytes);
}

void *mem_zero(size_t count, size_t bytes)
{
    return or_die(calloc(count == 0 ? 1 : count, bytes == 0 ? 1 : bytes), bytes);
}

void *mem_grow(void *ptr, size_t bytes)
{
    return or_die(realloc(ptr, bytes == 0 ? 1 : bytes), bytes);
}

void *mem_dup(const void *ptr, size_t bytes)
{
    void *copy = mem_alloc(bytes);

    if (bytes != 0)
        memcpy(copy, ptr, bytes);
    return copy;
}

char *mem_strdup(const char *s)
{
    return mem_dup(s, strlen(s) + 1);
}
