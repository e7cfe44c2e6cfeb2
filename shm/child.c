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
    const struct log_field fields[] = {LOG_TEXT("event", SLICE("ready")),
                                       LOG_NUMBER("generation", me->generation)};
    log_fields(LOG_LEVEL_INFO, fields, sizeof fields / sizeof fields[0], "generation %llu serves",
               (unsigned long long)me->generation);
}

void child_leaving(const struct child *me)
{
    atomic_store_explicit(&me->gauges->slots[me->gauge].state, GAUGE_LEAVING, memory_order_release);
}
