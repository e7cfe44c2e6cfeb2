#include "base/arena.h"

#include <assert.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

enum {
    BLOCK_BYTES = 16 * 1024,
    KEPT_BYTES_MOST = 256 * 1024, /* by arena_reset() */
};

struct arena_block {
    struct arena_block *next;
    size_t used, size;
    _Alignas(max_align_t) uint8_t data[];
};

void arena_fini(struct arena *a)
{
    while (a->first != NULL) {
        struct arena_block *gone = a->first;
        a->first = gone->next;
        free(gone);
    }
    *a = (struct arena){0};
}

static struct arena_block *block_of(size_t bytes)
{
    size_t size = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
    struct arena_block *block = mem_alloc(sizeof *block + size);

    block->next = NULL;
    block->used = 0;
    block->size = size;
    return block;
}

void arena_reset(struct arena *a)
{
    size_t used = a->used_bytes;

    if (a->first == NULL)
        return;
    if (a->first->next == NULL && a->first->size <= KEPT_BYTES_MOST) {
        a->first->used = 0;
        a->used_bytes = 0;
        return;
    }
    arena_fini(a);
    a->first = block_of(used < KEPT_BYTES_MOST ? used : KEPT_BYTES_MOST);
}

void *arena_take(struct arena *a, size_t bytes)
{
    assert(bytes < SIZE_MAX / 2);
    bytes = (bytes + _Alignof(max_align_t) - 1) & ~(_Alignof(max_align_t) - 1);
    if (a->first == NULL || a->first->size - a->first->used < bytes) {
        struct arena_block *block = block_of(bytes);
        /* A block made for one large thing goes behind the current one, whose room stays usable. */
        if (a->first != NULL && bytes > BLOCK_BYTES / 2) {
            block->next = a->first->next;
            a->first->next = block;
        } else {
            block->next = a->first;
            a->first = block;
        }
        block->used = bytes;
        a->used_bytes += bytes;
        return block->data;
    }
    void *given = a->first->data + a->first->used;
    a->first->used += bytes;
    a->used_bytes += bytes;
    return given;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    return memset(arena_take(a, bytes), 0, bytes);
}

void *arena_array(struct arena *a, size_t count, size_t bytes)
{
    assert(bytes == 0 || count <= SIZE_MAX / 2 / bytes);
    return arena_alloc(a, count * bytes);
}

struct slice arena_dup(struct arena *a, struct slice s)
{
    if (s.len == 0)
        return (struct slice){0};
    uint8_t *copy = arena_take(a, s.len);
    memcpy(copy, s.ptr, s.len);
    return slice_of(copy, s.len);
}

char *arena_cstr(struct arena *a, struct slice s)
{
    char *copy = arena_alloc(a, s.len + 1);

    if (s.len != 0)
        memcpy(copy, s.ptr, s.len);
    return copy;
}

struct slice arena_printf(struct arena *a, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(len >= 0);
    char *text = arena_alloc(a, (size_t)len + 1);
    va_start(args, format);
    (void)vsnprintf(text, (size_t)len + 1, format, args);
    va_end(args);
    return slice_of(text, (size_t)len);
}
