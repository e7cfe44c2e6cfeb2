#include "shm/child.h"

#include "base/clock.h"
#include "base/log.h"

const char *child_role_name(enum child_role role)
{
    switch (role) {
    case ROLE_WRITER:
        return "writer";
    case ROLE_HTTPD:
        return "httpd";
    case ROLE_SENDER:
        return "sender";
    case ROLE_POLLER:
        return "poller";
    case ROLE_KEEPER:
        return "keeper";
    case ROLE_COURIER:
        return "courier";
    case ROLE_SANDBOX:
        return "sandbox";
    case ROLE_LOGGER:
        return "logger";
    }
    return "unknown";
}

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

void child_note_latency(const struct child *me, enum gauge_latency which, uint64_t took_us)
{
    histogram_add(&me->gauges->slots[me->gauge].latency[which], &histogram_quick_us, took_us);
}

void child_note_ring_full(const struct child *me)
{
    atomic_fetch_add_explicit(&me->gauges->slots[me->gauge].ring_full, 1, memory_order_relaxed);
}
