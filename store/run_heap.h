/*
 * store/run_heap.h - batches in order of a key, the least first; of equal keys the oldest batch.
 *
 * SHAPE   A binary heap of borrowed runs. A run is in one heap at most and knows its place there:
 *         putting it into another takes it out of the first. {0} is empty.
 * MEMORY  A heap that holds runs must not move.
 */
#ifndef STORE_RUN_HEAP_H
#define STORE_RUN_HEAP_H

#include <stddef.h>
#include <stdint.h>

struct run;

struct run_heap {
    struct run **list;
    size_t count, cap;
};

/* O(log n). */
void run_heap_put(struct run_heap *h, struct run *run, uint64_t key);
/* Out of whichever heap it is in, if any. O(log n). */
void run_heap_take(struct run *run);
struct run *run_heap_first(const struct run_heap *h); /* NULL = empty */
void run_heap_fini(struct run_heap *h);               /* its runs are in none then */

#endif
