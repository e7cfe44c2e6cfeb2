#include "shm/child.h"

#include "base/clock.h"
#include "base/log.h"

void child_beat(const struct child *me)
{
    atomic_store_explicit(&me->gauges->slots[me->gauge].heartbeat_mono_ms, clock_mono_ms(),
                          memory_order_relaxed);
    log_tick();
}

void child_ready(const struct child *me)
{
    child_beat(me);
    atomic_store_explicit(&me->gauges->slots[me->gauge].state, GAUGE_READY, memory_order_release);
    /* The writer grants leases to senders that are ready, and senders are ready before they are
     * asked. */
    if (me->role != ROLE_WRITER)
        bell_ring(&me->writer_bell);
}

void child_leaving(const struct child *me)
{
    atomic_store_explicit(&me->gauges->slots[me->gauge].state, GAUGE_LEAVING, memory_order_release);
}
