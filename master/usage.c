#include "master/usage.h"

#include <fcntl.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum { US = 1000000, STATM_BYTES = 128 };

static void raise_to(_Atomic uint64_t *word, uint64_t value)
{
    if (atomic_load_explicit(word, memory_order_relaxed) < value)
        atomic_store_explicit(word, value, memory_order_relaxed);
}

/* 0 = it cannot be told. */
static uint64_t processor_us(pid_t pid)
{
    clockid_t clock;
    struct timespec at;

    if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &at) != 0)
        return 0;
    return (uint64_t)at.tv_sec * US + (uint64_t)at.tv_nsec / 1000;
}

/* 0 = it cannot be told. */
static uint64_t resident_bytes(pid_t pid)
{
    char path[64], text[STATM_BYTES];
    unsigned long long size, resident;

    (void)snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t got = read(fd, text, sizeof text - 1);
    (void)close(fd);
    if (got <= 0)
        return 0;
    text[got] = '\0';
    return sscanf(text, "%llu %llu", &size, &resident) == 2
               ? (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE)
               : 0;
}

void usage_measure(const struct usage *u, struct gauge_life *life, pid_t pid)
{
    uint64_t bytes = resident_bytes(pid);

    raise_to(&life->cpu_us, u->buried_us + processor_us(pid));
    if (bytes != 0)
        atomic_store_explicit(&life->resident_bytes, bytes, memory_order_relaxed);
}

void usage_close(struct usage *u, struct gauge_life *life, const struct rusage *used)
{
    u->buried_us += (uint64_t)(used->ru_utime.tv_sec + used->ru_stime.tv_sec) * US +
                    (uint64_t)(used->ru_utime.tv_usec + used->ru_stime.tv_usec);
    raise_to(&life->cpu_us, u->buried_us);
    atomic_store_explicit(&life->resident_bytes, 0, memory_order_relaxed);
}
