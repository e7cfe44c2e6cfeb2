/*
 * base/pack.h - msgpack, the one door to it: packing through msgpack-c, reading through a cursor.
 *
 * SHAPE   The msgpack of msgpack.org. Text and binary are read alike. No floats, no extensions.
 * MEMORY  Packing appends to the caller's buf. Slices read borrow from the bytes read.
 * ERRORS  Reading never fails midway: after the first thing that does not fit (wrong type, past the
 *         end) the cursor is bad, every later read gives zero or empty, and unpack_ok() says so.
 *         Check once, at the end. Counts of arrays and maps never exceed the bytes that are left,
 *         so a loop over them is bounded by the input.
 *
 * Why a cursor of ours: msgpack-c's C reader builds a tree of objects in a fresh zone for every
 * record; the cursor allocates nothing. The fuzz target compares the two.
 */
#ifndef BASE_PACK_H
#define BASE_PACK_H

#include "base/buf.h"

void pack_nil(struct buf *b);
void pack_bool(struct buf *b, bool value);
void pack_u64(struct buf *b, uint64_t value);
void pack_i64(struct buf *b, int64_t value);
void pack_str(struct buf *b, struct slice s);
void pack_bin(struct buf *b, struct slice s);
void pack_array(struct buf *b, size_t count); /* then count values */
void pack_map(struct buf *b, size_t count);   /* then count pairs */

struct unpack {
    const uint8_t *at, *end;
    bool bad;
};

static inline struct unpack unpack_over(struct slice s)
{
    /* Nothing may be added to a null pointer, not even 0. */
    return (struct unpack){s.ptr, s.len == 0 ? s.ptr : s.ptr + s.len, false};
}

uint64_t unpack_u64(struct unpack *u);
int64_t unpack_i64(struct unpack *u);
bool unpack_bool(struct unpack *u);
struct slice unpack_str(struct unpack *u); /* str or bin */
uint32_t unpack_array(struct unpack *u);
uint32_t unpack_map(struct unpack *u);
bool unpack_nil(struct unpack *u); /* true and past it if a nil is next; else nothing happens */
/* So many whole values, each at most 32 levels deep; fast enough to find one of a long list. */
void unpack_skip(struct unpack *u, uint64_t values);

static inline bool unpack_ok(const struct unpack *u)
{
    return !u->bad;
}

/* All read, nothing wrong, nothing left over. */
static inline bool unpack_done(const struct unpack *u)
{
    return !u->bad && u->at == u->end;
}

#endif
