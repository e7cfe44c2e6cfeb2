#include "shm/gauges.h"

#include <stddef.h>
#include <sys/mman.h>

struct gauges *gauges_create(struct err *err)
{
    void *map = mmap(NULL, sizeof(struct gauges), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (map == MAP_FAILED) {
        (void)err_sys(err, "mmap of the gauges");
        return NULL;
    }
    return map;
}

void gauges_destroy(struct gauges *g)
{
    if (g != NULL)
        (void)munmap(g, sizeof *g);
}

/* GCRA: full_at is when the bucket, refilled at the rate, will have room for all of `burst` again.
 * A taker may go when what it takes leaves the bucket at most one burst short. */
uint64_t bucket_take(struct gauge_bucket *b, uint32_t n, uint32_t burst, uint64_t now_mono_ns)
{
    enum { UNKNOWN_WAIT_NS = 100000000 };
    uint64_t rate_milli = atomic_load_explicit(&b->per_s_milli, memory_order_relaxed);

    if (rate_milli == 0)
        return UNKNOWN_WAIT_NS;
    /* 10^12: nanoseconds in a second, times the thousand of rate_milli. */
    uint64_t each_ns = UINT64_C(1000000000000) / rate_milli;
    uint64_t cost_ns = each_ns * n;
    uint64_t depth_ns =
        each_ns * (burst < n ? n : burst); /* more than a burst waits for a full one */
    uint64_t full_at = atomic_load_explicit(&b->full_at_mono_ns, memory_order_relaxed);

    while (true) {
        uint64_t base = full_at > now_mono_ns ? full_at : now_mono_ns;
        uint64_t next = base + cost_ns;
        if (next > now_mono_ns + depth_ns)
            return next - (now_mono_ns + depth_ns);
        if (atomic_compare_exchange_weak_explicit(&b->full_at_mono_ns, &full_at, next,
                                                  memory_order_relaxed, memory_order_relaxed))
            return 0;
    }
}

void bucket_give(struct gauge_bucket *b, uint32_t n)
{
    uint64_t rate_milli = atomic_load_explicit(&b->per_s_milli, memory_order_relaxed);

    if (rate_milli != 0)
        (void)atomic_fetch_sub_explicit(
            &b->full_at_mono_ns, UINT64_C(1000000000000) / rate_milli * n, memory_order_relaxed);
}
