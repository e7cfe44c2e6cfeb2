#include "tests/sim/agenda.h"

#include <stdlib.h>

#include "base/mem.h"

enum { CAP_FIRST = 1024 };

static bool is_before(const struct appointment *a, const struct appointment *b)
{
    return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->serial < b->serial;
}

static void swap(struct appointment *a, struct appointment *b)
{
    struct appointment kept = *a;

    *a = *b;
    *b = kept;
}

void agenda_enter(struct agenda *a, struct appointment what)
{
    if (a->count == a->cap) {
        a->cap = a->cap == 0 ? CAP_FIRST : a->cap * 2;
        a->heap = mem_grow(a->heap, a->cap * sizeof *a->heap);
    }
    what.serial = a->serial++;
    size_t at = a->count++;
    a->heap[at] = what;
    for (; at > 0 && is_before(&a->heap[at], &a->heap[(at - 1) / 2]); at = (at - 1) / 2)
        swap(&a->heap[at], &a->heap[(at - 1) / 2]);
}

bool agenda_next(struct agenda *a, struct appointment *what)
{
    if (a->count == 0)
        return false;
    *what = a->heap[0];
    a->heap[0] = a->heap[--a->count];
    for (size_t at = 0;;) {
        size_t least = at, left = 2 * at + 1;
        for (size_t child = left; child < left + 2 && child < a->count; child++)
            if (is_before(&a->heap[child], &a->heap[least]))
                least = child;
        if (least == at)
            return true;
        swap(&a->heap[at], &a->heap[least]);
        at = least;
    }
}

void agenda_fini(struct agenda *a)
{
    free(a->heap);
    *a = (struct agenda){0};
}
