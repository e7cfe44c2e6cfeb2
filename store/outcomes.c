#include "store/outcomes.h"

#include "store/batches.h"

static void publish(struct outcomes_round *r, uint64_t now_wall_ms, uint64_t now_mono_ms,
                    struct gauge_events *g)
{
    atomic_store_explicit(&g->no_outcome_recipients, r->recipients, memory_order_relaxed);
    atomic_store_explicit(&g->no_outcome_batches, r->batches, memory_order_relaxed);
    atomic_store_explicit(&g->no_outcome_read_wall_ms, now_wall_ms, memory_order_relaxed);
    *r = (struct outcomes_round){.rest_until_mono_ms = now_mono_ms + OUTCOMES_REST_MS};
}

void outcomes_step(struct outcomes_round *r, struct store_txn *t, uint64_t after_ms,
                   uint64_t now_wall_ms, uint64_t now_mono_ms, struct gauge_events *gauges)
{
    struct books books;

    if (now_mono_ms < r->rest_until_mono_ms)
        return;
    for (unsigned i = 0; i < OUTCOMES_STEP; i++) {
        uint64_t id = batch_books_from(t, r->next_batch_id, &books);
        if (id == 0) {
            publish(r, now_wall_ms, now_mono_ms, gauges);
            return;
        }
        uint32_t missing = books_no_outcome(&books, now_wall_ms, after_ms);
        r->recipients += missing;
        r->batches += missing > 0;
        r->next_batch_id = id + 1;
    }
}
