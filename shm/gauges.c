#include "shm/gauges.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

const uint64_t lag_step_ms[LAG_STEPS] = {1000,   5000,    30000,    60000,     300000,
                                         900000, 3600000, 21600000, UINT64_MAX};

_Static_assert(sizeof(struct gauges) % GAUGE_PAGE_BYTES == 0, "whole pages");
_Static_assert(sizeof(struct gauge_slot) % GAUGE_PAGE_BYTES == 0, "whole pages");

struct gauges *gauges_create(int *kept_fd, struct err *err)
{
    int fd = memfd_create("postern-gauges", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *map = MAP_FAILED;

    if (fd < 0) {
        (void)err_sys(err, "memfd_create");
        return NULL;
    }
    if (ftruncate(fd, sizeof(struct gauges)) == 0)
        map = mmap(NULL, sizeof(struct gauges), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    /* Whatever is mapped after this can never be made writable. */
    bool fine = map != MAP_FAILED &&
                fcntl(fd, F_ADD_SEALS,
                      F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) == 0;
    if (!fine)
        (void)err_sys(err, "the gauges' memory");
    if (!fine && map != MAP_FAILED)
        (void)munmap(map, sizeof(struct gauges));
    if (fine && kept_fd != NULL)
        *kept_fd = fd;
    else
        (void)close(fd);
    return fine ? map : NULL;
}

static int make_read_only(struct gauges *g, int fd, size_t from, size_t to)
{
    return from == to || mmap((char *)g + from, to - from, PROT_READ, MAP_SHARED | MAP_FIXED, fd,
                              (off_t)from) != MAP_FAILED
               ? 0
               : -1;
}

int gauges_confine(struct gauges *g, int fd, unsigned own_slot, struct err *err)
{
    size_t own = offsetof(struct gauges, slots) + own_slot * sizeof(struct gauge_slot);
    size_t bells = offsetof(struct gauges, sleeping);

    if (make_read_only(g, fd, 0, own) != 0 ||
        make_read_only(g, fd, own + sizeof(struct gauge_slot), bells) != 0 ||
        make_read_only(g, fd, offsetof(struct gauges, lives), sizeof *g) != 0)
        return err_sys(err, "the gauges cannot be mapped for reading");
    return 0;
}

bool gauges_are_renewing(const struct gauges *g, uint64_t now_mono_ms)
{
    return now_mono_ms < atomic_load_explicit(&g->renewing_until_mono_ms, memory_order_relaxed);
}

void gauges_destroy(struct gauges *g)
{
    if (g != NULL)
        (void)munmap(g, sizeof *g);
}

void gauge_events_add(struct gauge_events *e, uint64_t ses_us, uint64_t timestamp_us,
                      uint64_t now_us)
{
    uint64_t lag_ms = now_us > ses_us ? (now_us - ses_us) / 1000 : 0;
    size_t step = 0;

    while (lag_ms > lag_step_ms[step])
        step++;
    atomic_fetch_add_explicit(&e->stored, 1, memory_order_relaxed);
    /* One microsecond more only keeps it from being a whole second. */
    if (timestamp_us > ses_us + 1)
        atomic_fetch_add_explicit(&e->late, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&e->lag_ms_sum, lag_ms, memory_order_relaxed);
    atomic_fetch_add_explicit(&e->lag_count[step], 1, memory_order_relaxed);
    atomic_store_explicit(&e->lag_last_ms, lag_ms, memory_order_relaxed);
}

uint64_t bucket_cost_ns(const struct gauge_bucket *b, uint32_t n)
{
    uint64_t rate_milli = atomic_load_explicit(&b->per_s_milli, memory_order_relaxed);

    /* 10^12: nanoseconds in a second, times the thousand of rate_milli. */
    return rate_milli == 0 ? UINT64_MAX : UINT64_C(1000000000000) / rate_milli * n;
}

/* GCRA: what is taken moves the time at which the bucket will be full again. */
uint64_t bucket_take(struct gauge_bucket *b, uint32_t n, uint64_t slack_ns, uint64_t now_mono_ns)
{
    enum { UNKNOWN_WAIT_NS = 100000000 };
    uint64_t cost_ns = bucket_cost_ns(b, n), depth_ns = cost_ns + slack_ns;
    uint64_t full_at = atomic_load_explicit(&b->full_at_mono_ns, memory_order_relaxed);

    if (cost_ns == UINT64_MAX)
        return UNKNOWN_WAIT_NS;
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

void bucket_charge(struct gauge_bucket *b, uint32_t n, uint64_t now_mono_ns)
{
    uint64_t cost_ns = bucket_cost_ns(b, n);
    uint64_t full_at = atomic_load_explicit(&b->full_at_mono_ns, memory_order_relaxed);

    while (cost_ns != UINT64_MAX && full_at < now_mono_ns + cost_ns)
        if (atomic_compare_exchange_weak_explicit(&b->full_at_mono_ns, &full_at,
                                                  now_mono_ns + cost_ns, memory_order_relaxed,
                                                  memory_order_relaxed))
            return;
}

void bucket_give(struct gauge_bucket *b, uint32_t n)
{
    uint64_t cost_ns = bucket_cost_ns(b, n);

    if (cost_ns != UINT64_MAX)
        (void)atomic_fetch_sub_explicit(&b->full_at_mono_ns, cost_ns, memory_order_relaxed);
}
