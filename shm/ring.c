/*
 * All that is shared, and all of it untrusted: the process at the other end may face the internet.
 *
 *   data  [ free | frame rec | frame rec | free | pad ]     position p lives at data[p % capacity]
 *                ^tail                   ^head
 *
 * Invariants, true at whatever instruction either process is killed:
 *   1. tail <= head <= tail + capacity; both are multiples of FRAME_ALIGN.
 *   2. [tail, head) is a whole number of frames, and no frame crosses the end of data.
 *   3. Only the producer stores head and the bytes of [head, tail + capacity).
 *      Only the consumer stores tail, and punches holes in [tail, its next tail) before it does.
 * A single store to head moves a record, and any pad before it, from "free" to "present".
 */
#include "shm/ring.h"

#include <assert.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"

enum {
    FRAME_ALIGN = 8,
    PAGE_BYTES = 4096,
    PUNCH_LEAST_BYTES = 1024 * 1024, /* shorter spans are written again soon: not worth the call */
    CAPACITY_LEAST = 4096,
    CAPACITY_MOST = 1 << 30,
};

enum frame_kind { FRAME_RECORD = 0x52454344, FRAME_PAD = 0x50414444 };

struct frame {
    uint32_t kind;
    uint32_t len;
};
_Static_assert(sizeof(struct frame) == FRAME_ALIGN, "a frame header keeps records aligned");

struct ring_shared {
    _Alignas(64) _Atomic uint64_t head; /* a cache line each, so that neither end's store */
    _Alignas(64) _Atomic uint64_t tail; /* evicts the word the other end is writing */
};

/* An atomic that hides a lock would hide it in each process separately: no exclusion at all. */
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics must be lock-free");
_Static_assert(sizeof(struct ring_shared) <= PAGE_BYTES, "the header has a page of its own");

/* Private to each process, copied by fork(): no peer can change our bounds. */
struct ring {
    struct ring_shared *shared;
    unsigned char *data;
    size_t capacity;
};

struct ring *ring_create(size_t capacity, struct err *err)
{
    int fd;

    if (capacity < CAPACITY_LEAST || capacity > CAPACITY_MOST || (capacity & (capacity - 1)) != 0) {
        (void)err_set(err, ERR_INTERNAL, "a ring of %zu bytes: not a power of two in range",
                      capacity);
        return NULL;
    }
    fd = memfd_create("postern-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        (void)err_sys(err, "memfd_create");
        return NULL;
    }
    /* A file that a peer can shrink is a SIGBUS for the other end. */
    if (ftruncate(fd, (off_t)(PAGE_BYTES + capacity)) != 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        (void)err_sys(err, "a ring's memory of %zu bytes", capacity);
        (void)close(fd);
        return NULL;
    }
    void *map = mmap(NULL, PAGE_BYTES + capacity, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    int saved = map == MAP_FAILED ? err_sys(err, "mmap %zu bytes", capacity) : 0;
    (void)close(fd);
    if (saved != 0)
        return NULL;

    struct ring *r = mem_zero(1, sizeof *r);
    r->shared = map;
    r->data = (unsigned char *)map + PAGE_BYTES;
    r->capacity = capacity;
    return r;
}

void ring_destroy(struct ring *r)
{
    if (r == NULL)
        return;
    (void)munmap(r->shared, PAGE_BYTES + r->capacity);
    free(r);
}

void ring_trim(struct ring *r)
{
    uint64_t head = atomic_load_explicit(&r->shared->head, memory_order_relaxed);

    if (head == atomic_load_explicit(&r->shared->tail, memory_order_relaxed))
        (void)madvise(r->data, r->capacity, MADV_REMOVE); /* only memory is at stake */
}

size_t ring_capacity(const struct ring *r)
{
    return r->capacity;
}

/* A record must fit whatever the place of head: behind a pad as long as itself at the worst. */
size_t ring_record_max(const struct ring *r)
{
    return r->capacity / 2 - sizeof(struct frame);
}

static size_t frame_span(size_t len)
{
    return sizeof(struct frame) + ((len + FRAME_ALIGN - 1) & ~(size_t)(FRAME_ALIGN - 1));
}

static void frame_put(unsigned char *at, enum frame_kind kind, size_t len)
{
    struct frame f = {.kind = (uint32_t)kind, .len = (uint32_t)len};

    memcpy(at, &f, sizeof f);
}

static bool positions_believable(const struct ring *r, uint64_t head, uint64_t tail)
{
    return head >= tail && head - tail <= r->capacity && head % FRAME_ALIGN == 0 &&
           tail % FRAME_ALIGN == 0;
}

enum ring_result ring_push(struct ring *r, struct slice rec, uint64_t *end)
{
    if (rec.len > ring_record_max(r))
        return RING_TOO_LONG;

    /* head is ours alone; a predecessor's last store is visible, as it was reaped before we were
     * forked. (A) pairs with (D): the consumer is done with the bytes we may overwrite. */
    uint64_t head = atomic_load_explicit(&r->shared->head, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&r->shared->tail, memory_order_acquire); /* A */
    if (!positions_believable(r, head, tail))
        return RING_BROKEN;

    size_t at = head & (r->capacity - 1);
    size_t to_end = r->capacity - at;
    size_t span = frame_span(rec.len);
    size_t pad = span > to_end ? to_end : 0;
    if (pad + span > r->capacity - (head - tail))
        return RING_FULL;

    if (pad != 0) {
        frame_put(r->data + at, FRAME_PAD, pad - sizeof(struct frame));
        at = 0;
    }
    frame_put(r->data + at, FRAME_RECORD, rec.len);
    if (rec.len != 0)
        memcpy(r->data + at + sizeof(struct frame), rec.ptr, rec.len);

    if (end != NULL)
        *end = head + pad + span;
    /* Everything above is invisible before this store and complete after it. */
    atomic_store_explicit(&r->shared->head, head + pad + span, memory_order_release); /* B */
    return RING_OK;
}

enum ring_result ring_peek_from(const struct ring *r, uint64_t from, struct ring_view *view)
{
    uint64_t tail = atomic_load_explicit(&r->shared->tail, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&r->shared->head, memory_order_acquire); /* C, with B */
    if (!positions_believable(r, head, tail) || from < tail || from > head ||
        from % FRAME_ALIGN != 0)
        return RING_BROKEN;

    while (from != head) {
        size_t at = from & (r->capacity - 1);
        struct frame f; /* copied out once: the checked length is the one we use */
        memcpy(&f, r->data + at, sizeof f);

        size_t span = frame_span(f.len);
        if (span > head - from || span > r->capacity - at)
            return RING_BROKEN;
        from += span;

        if (f.kind == FRAME_RECORD) {
            view->rec = slice_of(r->data + at + sizeof f, f.len);
            view->next = from;
            return RING_OK;
        }
        if (f.kind != FRAME_PAD)
            return RING_BROKEN;
    }
    return RING_EMPTY;
}

enum ring_result ring_peek(const struct ring *r, struct ring_view *view)
{
    return ring_peek_from(r, atomic_load_explicit(&r->shared->tail, memory_order_relaxed), view);
}

/* Gives the whole pages of [from, to) back; both are offsets in data, from <= to. */
static void punch(struct ring *r, size_t from, size_t to)
{
    size_t first = (from + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
    size_t last = to / PAGE_BYTES * PAGE_BYTES;

    if (last > first)
        (void)madvise(r->data + first, last - first, MADV_REMOVE); /* only memory is at stake */
}

void ring_release(struct ring *r, const struct ring_view *view)
{
    uint64_t tail = atomic_load_explicit(&r->shared->tail, memory_order_relaxed);

    if (view->next - tail >= PUNCH_LEAST_BYTES && view->next - tail <= r->capacity) {
        size_t from = tail & (r->capacity - 1);
        size_t len = (size_t)(view->next - tail);
        size_t to_end = r->capacity - from;
        punch(r, from, len < to_end ? from + len : r->capacity);
        if (len > to_end)
            punch(r, 0, len - to_end);
    }
    atomic_store_explicit(&r->shared->tail, view->next, memory_order_release); /* D, with A */
}

uint64_t ring_tail(const struct ring *r)
{
    return atomic_load_explicit(&r->shared->tail, memory_order_acquire);
}

uint64_t ring_head(const struct ring *r)
{
    return atomic_load_explicit(&r->shared->head, memory_order_acquire);
}

size_t ring_used_bytes(const struct ring *r)
{
    uint64_t tail = ring_tail(r), head = ring_head(r);

    return positions_believable(r, head, tail) ? (size_t)(head - tail) : r->capacity;
}

size_t ring_bytes(const struct ring *r)
{
    return r->capacity;
}

void ring_reset(struct ring *r)
{
    /* Positions only grow, so that a position stored before the reset is never reached again. A
     * head that was scribbled on is no guide: the tail, which is the consumer's own, is. */
    uint64_t tail = ring_tail(r);
    uint64_t start = (tail / r->capacity + 2) * r->capacity;

    atomic_store_explicit(&r->shared->head, start, memory_order_relaxed);
    atomic_store_explicit(&r->shared->tail, start, memory_order_release);
}
