/*
 * base/buf.h - bytes that grow.
 *
 * MEMORY  {0} is an empty buffer. buf_fini() frees; buf_reset() keeps the room. buf_slice()
 *         borrows until the next call that grows the buffer.
 * ERRORS  None: out of memory ends the process (base/mem.h).
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/slice.h"

struct buf {
    uint8_t *ptr;
    size_t len, cap;
};

void buf_fini(struct buf *b);
void buf_reset(struct buf *b);
uint8_t *buf_grow(struct buf *b, size_t more); /* buf_reserve() when there is not that much room */
void buf_add_u64(struct buf *b, uint64_t value); /* decimal */
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Room for `more` bytes behind len; len unchanged. */
static inline uint8_t *buf_reserve(struct buf *b, size_t more)
{
    return b->ptr != NULL && b->cap - b->len >= more ? b->ptr + b->len : buf_grow(b, more);
}

static inline void buf_add(struct buf *b, const void *ptr, size_t len)
{
    if (len == 0)
        return;
    memcpy(buf_reserve(b, len), ptr, len);
    b->len += len;
}

static inline void buf_add_byte(struct buf *b, uint8_t byte)
{
    *buf_reserve(b, 1) = byte;
    b->len++;
}

static inline void buf_add_str(struct buf *b, const char *s)
{
    buf_add(b, s, strlen(s));
}

static inline void buf_add_slice(struct buf *b, struct slice s)
{
    buf_add(b, s.ptr, s.len);
}

static inline struct slice buf_slice(const struct buf *b)
{
    return (struct slice){b->ptr, b->len};
}

/* The content as a C string (a NUL is put behind it, not counted in len). */
const char *buf_cstr(struct buf *b);

#endif
