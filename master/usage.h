/*
 * master/usage.h - what processor time and memory the processes take, for the metrics.
 *
 * ENDS    The master, which writes it into what the gauges say of each life.
 * UNITS   In the names. The processor time of a place is that of all its lives: it never falls,
 *         since what wait4() says of a dead one takes the place of what was last measured.
 * ERRORS  What cannot be read stays as it was: news, not truth.
 * SOURCE  proc(5): /proc/PID/statm, its second number, in pages.
 */
#ifndef MASTER_USAGE_H
#define MASTER_USAGE_H

#include <sys/resource.h>
#include <sys/types.h>

#include "shm/gauges.h"

struct usage {
    uint64_t buried_us; /* of the lives that are over */
};

void usage_measure(const struct usage *u, struct gauge_life *life, pid_t pid);
/* After wait4() of this life. */
void usage_close(struct usage *u, struct gauge_life *life, const struct rusage *used);

#endif
