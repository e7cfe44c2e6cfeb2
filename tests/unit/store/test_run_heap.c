/*
 * Batches in order: whatever is put in, moved and taken out, the first is the least, and each knows
 * where it is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/runs.h"

enum { RUNS = 200, ROUNDS = 100, STEPS = 500 };

static struct run *least_of(struct run *runs, const struct run_heap *h)
{
    struct run *least = NULL;

    for (size_t i = 0; i < RUNS; i++)
        if (runs[i].heap == h && (least == NULL || runs[i].heap_key < least->heap_key ||
                                  (runs[i].heap_key == least->heap_key && runs[i].id < least->id)))
            least = &runs[i];
    return least;
}

static void the_first_is_always_the_least(void **unused)
{
    static struct run runs[RUNS];
    struct run_heap heaps[2] = {{0}};
    uint64_t random = 88172645463325252;

    (void)unused;
    for (uint64_t i = 0; i < RUNS; i++)
        runs[i] = (struct run){.id = i};
    for (int round = 0; round < ROUNDS; round++) {
        for (int step = 0; step < STEPS; step++) {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            struct run *run = &runs[random % RUNS];
            if ((random >> 20) % 3 == 0)
                run_heap_take(run);
            else
                run_heap_put(&heaps[(random >> 30) % 2], run, (random >> 40) % 50);
        }
        /* All of one in order; the other goes on. */
        struct run_heap *h = &heaps[round % 2];
        for (size_t left = h->count; left > 0; left--) {
            struct run *first = run_heap_first(h);
            assert_ptr_equal(first, least_of(runs, h));
            run_heap_take(first);
            assert_null(first->heap);
        }
        assert_null(run_heap_first(h));
    }
    run_heap_fini(&heaps[0]);
    run_heap_fini(&heaps[1]);
    for (size_t i = 0; i < RUNS; i++)
        assert_null(runs[i].heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_is_always_the_least),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
