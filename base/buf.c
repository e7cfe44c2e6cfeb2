#include "base/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

enum { BUF_LEAST_BYTES = 256 };

void buf_fini(struct buf *b)
{
    free(b->ptr);
    *b = (struct buf){0};
}

void buf_reset(struct buf *b)
{
    b->len = 0;
}

uint8_t *buf_grow(struct buf *b, size_t more)
{
    assert(more <= SIZE_MAX / 4 && b->len <= SIZE_MAX / 4);
    size_t cap = b->cap < BUF_LEAST_BYTES ? BUF_LEAST_BYTES : b->cap;
    while (cap - b->len < more)
        cap *= 2;
    b->ptr = mem_grow(b->ptr, cap);
    b->cap = cap;
    return b->ptr + b->len;
}

void buf_add_u64(struct buf *b, uint64_t value)
{
    uint8_t digits[20];
    size_t at = sizeof digits;

    do {
        digits[--at] = (uint8_t)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    buf_add(b, digits + at, sizeof digits - at);
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    assert(len >= 0);
    (void)buf_reserve(b, (size_t)len + 1);
    va_start(args, format);
    (void)vsnprintf((char *)b->ptr + b->len, (size_t)len + 1, format, args);
    va_end(args);
    b->len += (size_t)len;
}

const char *buf_cstr(struct buf *b)
{
    *buf_reserve(b, 1) = '\0';
    return (const char *)b->ptr;
}
