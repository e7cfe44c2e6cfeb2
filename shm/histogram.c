#include "shm/histogram.h"

const struct histogram_scale histogram_quick_us = {{500, 1000, 2500, 5000, 10000, 25000, 50000,
                                                    100000, 250000, 500000, 1000000, 2500000,
                                                    5000000, 15000000, 60000000, UINT64_MAX}};
const struct histogram_scale histogram_lag_us = {{1000000, 5000000, 30000000, 60000000, 300000000,
                                                  900000000, UINT64_C(3600000000),
                                                  UINT64_C(21600000000), UINT64_MAX}};
const struct histogram_scale histogram_records = {
    {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 4000, UINT64_MAX}};

static size_t step_of(const struct histogram_scale *scale, uint64_t value)
{
    size_t step = 0;

    while (value > scale->most[step])
        step++;
    return step;
}

size_t histogram_step_count(const struct histogram_scale *scale)
{
    return step_of(scale, UINT64_MAX) + 1;
}

static void add(_Atomic uint64_t *word, uint64_t n)
{
    atomic_fetch_add_explicit(word, n, memory_order_relaxed);
}

void histogram_add(struct histogram *h, const struct histogram_scale *scale, uint64_t value)
{
    add(&h->count[step_of(scale, value)], 1);
    add(&h->sum, value);
}

void histogram_read(const struct histogram *h, struct histogram_sums *sums)
{
    for (size_t i = 0; i < HISTOGRAM_STEPS; i++)
        sums->count[i] += atomic_load_explicit(&h->count[i], memory_order_relaxed);
    sums->sum += atomic_load_explicit(&h->sum, memory_order_relaxed);
}

void histogram_publish(struct histogram *h, struct histogram *gathered)
{
    struct histogram_sums sums = {0};

    histogram_read(gathered, &sums);
    for (size_t i = 0; i < HISTOGRAM_STEPS; i++)
        if (sums.count[i] != 0)
            add(&h->count[i], sums.count[i]);
    add(&h->sum, sums.sum);
    *gathered = (struct histogram){0};
}
