/*
 * base/slice.h - text and bytes as pointer and length.
 *
 * SHAPE   Any bytes; never NUL-terminated by promise. {NULL, 0} is the empty (and absent) slice.
 * MEMORY  A slice borrows. Who owns the bytes is said where the slice is handed over.
 */
#ifndef BASE_SLICE_H
#define BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
    const uint8_t *ptr;
    size_t len;
};

/* Of a string literal, without its NUL. */
#define SLICE(literal) ((struct slice){(const uint8_t *)("" literal), sizeof(literal) - 1})

/* For printf's "%.*s". Lengths beyond INT_MAX are cut. */
#define SLICE_ARGS(s)                                                                              \
    (int)((s).len > 0x7fffffff ? 0x7fffffff : (s).len),                                            \
        (const char *)((s).ptr ? (s).ptr : (const uint8_t *)"")

static inline struct slice slice_of(const void *ptr, size_t len)
{
    return (struct slice){(const uint8_t *)ptr, len};
}

static inline struct slice slice_none(void)
{
    return (struct slice){0};
}

/* Of a C string; NULL gives the empty slice. */
static inline struct slice slice_str(const char *s)
{
    return (struct slice){(const uint8_t *)s, s ? strlen(s) : 0};
}

static inline bool slice_is_empty(struct slice s)
{
    return s.len == 0;
}

static inline bool slice_eq(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

/* From byte `at` to the end; empty when at is past the end. */
static inline struct slice slice_from(struct slice s, size_t at)
{
    if (at >= s.len)
        return (struct slice){0};
    return (struct slice){s.ptr + at, s.len - at};
}

/* The first len bytes, or all of them. */
static inline struct slice slice_head(struct slice s, size_t len)
{
    if (len >= s.len)
        return s;
    return (struct slice){s.ptr, len};
}

bool slice_eq_nocase(struct slice a, struct slice b); /* ASCII letters only */
bool slice_starts(struct slice s, struct slice prefix);
bool slice_starts_nocase(struct slice s, struct slice prefix);
bool slice_ends_nocase(struct slice s, struct slice suffix);
int slice_cmp(struct slice a, struct slice b); /* as memcmp, then by length */

/* Index of the first byte or text, or SIZE_MAX. */
size_t slice_find_byte(struct slice s, uint8_t byte);
size_t slice_rfind_byte(struct slice s, uint8_t byte);
size_t slice_find(struct slice s, struct slice text);
size_t slice_find_nocase(struct slice s, struct slice text);

/* Without blanks (space, tab, CR, LF) at both ends. */
struct slice slice_trim(struct slice s);

/* Cuts s at the first `byte`: *head gets what is before, *tail what is behind. False (and *head =
 * s, *tail empty) when the byte is not there. */
bool slice_cut(struct slice s, uint8_t byte, struct slice *head, struct slice *tail);

/* Unsigned decimal, all of it, no sign, no blanks. False on anything else or on overflow. */
bool slice_to_u64(struct slice s, uint64_t *value);

bool slice_is_utf8(struct slice s); /* RFC 3629: no surrogates, no overlong forms */
/* Bytes of the character that s begins with, 1 to 4; 0 when that is none, or s is empty. */
size_t slice_utf8_len(struct slice s);
bool slice_is_ascii(struct slice s);

#endif
