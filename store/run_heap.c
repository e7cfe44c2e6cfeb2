#include "store/run_heap.h"

#include <stdlib.h>

#include "base/mem.h"
#include "store/runs.h"

static bool goes_first(const struct run *a, const struct run *b)
{
    return a->heap_key != b->heap_key ? a->heap_key < b->heap_key : a->id < b->id;
}

static void place(struct run_heap *h, struct run *run, size_t at)
{
    h->list[at] = run;
    run->heap_at = at;
}

static void sift_up(struct run_heap *h, struct run *run, size_t at)
{
    for (; at > 0 && goes_first(run, h->list[(at - 1) / 2]); at = (at - 1) / 2)
        place(h, h->list[(at - 1) / 2], at);
    place(h, run, at);
}

static void sift_down(struct run_heap *h, struct run *run, size_t at)
{
    for (size_t child; (child = 2 * at + 1) < h->count; at = child) {
        if (child + 1 < h->count && goes_first(h->list[child + 1], h->list[child]))
            child++;
        if (!goes_first(h->list[child], run))
            break;
        place(h, h->list[child], at);
    }
    place(h, run, at);
}

void run_heap_put(struct run_heap *h, struct run *run, uint64_t key)
{
    run_heap_take(run);
    if (h->count == h->cap) {
        h->cap = h->cap == 0 ? 16 : h->cap * 2;
        h->list = mem_grow(h->list, h->cap * sizeof(struct run *));
    }
    run->heap = h;
    run->heap_key = key;
    sift_up(h, run, h->count++);
}

void run_heap_take(struct run *run)
{
    struct run_heap *h = run->heap;

    if (h == NULL)
        return;
    run->heap = NULL;
    struct run *last = h->list[--h->count];
    if (last == run)
        return;
    if (goes_first(last, run))
        sift_up(h, last, run->heap_at);
    else
        sift_down(h, last, run->heap_at);
}

struct run *run_heap_first(const struct run_heap *h)
{
    return h->count == 0 ? NULL : h->list[0];
}

void run_heap_fini(struct run_heap *h)
{
    for (size_t i = 0; i < h->count; i++)
        h->list[i]->heap = NULL;
    free(h->list);
    *h = (struct run_heap){0};
}
