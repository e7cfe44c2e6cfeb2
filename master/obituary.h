/*
 * master/obituary.h - the line that says who died, of what, doing what, and what happens now.
 *
 * What the dead one has left in its slot (shm/last_words.h) is a stranger's text: it is bounded,
 * escaped and shortened as every other. Addresses of calls are told as file+offset, for addr2line(1).
 */
#ifndef MASTER_OBITUARY_H
#define MASTER_OBITUARY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "master/master.h"

struct death {
    const char *role;
    unsigned index;
    uint64_t generation, age_ms, now_mono_ms;
    int pid, status;        /* as waitpid() gives it */
    const char *killed_for; /* why this master has killed it; NULL = it has not */
    bool was_ready, told_to_stop;
    const char *next; /* what happens now */
    uint64_t next_in_ms;
};

void obituary(const struct death *d, const struct last_words *words);

/* "signal 11 (SEGV)", "exit status 78 (not to be started again)". */
void obituary_how(struct buf *to, int status);
/* "postern+0x1f3a2,libc.so.6+0x3c4f0" */
void obituary_calls(struct buf *to, const struct last_words *words);

#endif
