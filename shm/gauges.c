#include "shm/gauges.h"

#include <fcntl.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

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

void gauge_events_add(struct gauge_events *e, uint64_t ses_us, bool late, uint64_t now_us)
{
    uint64_t lag_us = now_us > ses_us ? now_us - ses_us : 0;

    atomic_fetch_add_explicit(&e->stored, 1, memory_order_relaxed);
    if (late)
        atomic_fetch_add_explicit(&e->late, 1, memory_order_relaxed);
    histogram_add(&e->lag, &histogram_lag_us, lag_us);
    atomic_store_explicit(&e->lag_last_ms, lag_us / 1000, memory_order_relaxed);
}

static void move(_Atomic uint64_t *to, _Atomic uint64_t *from)
{
    atomic_fetch_add_explicit(to, atomic_exchange_explicit(from, 0, memory_order_relaxed),
                              memory_order_relaxed);
}

void gauge_events_publish(struct gauge_events *shared, struct gauge_events *own)
{
    if (atomic_load_explicit(&own->stored, memory_order_relaxed) > 0) {
        atomic_store_explicit(&shared->lag_last_ms,
                              atomic_load_explicit(&own->lag_last_ms, memory_order_relaxed),
                              memory_order_relaxed);
        histogram_publish(&shared->lag, &own->lag);
    }
    move(&shared->stored, &own->stored);
    move(&shared->repeated, &own->repeated);
    move(&shared->late, &own->late);
    move(&shared->deadletters, &own->deadletters);
}

/* FNV-1a */
uint64_t gauge_domain_id(struct slice domain)
{
    uint64_t hash = UINT64_C(14695981039346656037);

    for (size_t i = 0; i < domain.len; i++)
        hash = (hash ^ domain.ptr[i]) * UINT64_C(1099511628211);
    return hash == 0 ? 1 : hash;
}

void gauge_poll_note(struct gauge_slot *own, struct slice domain, uint64_t now_wall_ms)
{
    uint64_t id = gauge_domain_id(domain);

    for (size_t i = 0; i < GAUGE_DOMAINS_MAX; i++) {
        struct gauge_poll *p = &own->polls[i];
        uint64_t found = atomic_load_explicit(&p->domain_id, memory_order_relaxed);
        if (found != 0 && found != id)
            continue;
        atomic_store_explicit(&p->wall_ms, now_wall_ms, memory_order_relaxed);
        atomic_store_explicit(&p->domain_id, id, memory_order_release); /* A: wall_ms before it */
        return;
    }
}

uint64_t gauge_poll_last_ms(const struct gauges *g, struct slice domain)
{
    uint64_t id = gauge_domain_id(domain), last_ms = 0;

    for (size_t slot = 0; slot < GAUGE_SLOTS_MAX; slot++)
        for (size_t i = 0; i < GAUGE_DOMAINS_MAX && gauge_is_used(g, slot); i++) {
            const struct gauge_poll *p = &g->slots[slot].polls[i];
            uint64_t found = atomic_load_explicit(&p->domain_id, memory_order_acquire); /* with A */
            if (found == 0)
                break;
            uint64_t its_ms = atomic_load_explicit(&p->wall_ms, memory_order_relaxed);
            if (found == id && its_ms > last_ms)
                last_ms = its_ms;
        }
    return last_ms;
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
