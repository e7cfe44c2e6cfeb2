/*
 * shm/started.h - which recipients of which leases a sender has begun to hand to SES.
 *
 * SHAPE   A file in state_dir, mapped shared: per sender STARTED_CELLS cells of {lease id, mask}.
 *         Bit i of the mask is recipient i of the lease's slice. A header names the boot it
 *         belongs to.
 * ENDS    A cell is written by its sender only; the writer names the cell in the lease, and reads
 *         it after the sender's death.
 * CRASH   The file outlives every process, the master too, because the page cache does; so after
 *         SIGKILL of everything the next writer still knows what was never started and sends it at
 *         once. After a crash of the machine the boot differs: started_open() says so, and every
 *         leased recipient counts as perhaps started (in doubt). Order: a sender sets the bit
 *         before the request's first byte can leave.
 */
#ifndef SHM_STARTED_H
#define SHM_STARTED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { STARTED_CELLS = 256, STARTED_SENDERS = 32 };

struct started;

/* *believable: false when the file is new, of another boot or of another layout. */
struct started *started_open(const char *path, bool *believable, struct err *err);
void started_close(struct started *s);

void started_begin(struct started *s, unsigned sender, uint32_t cell, uint64_t lease_id);
void started_mark(struct started *s, unsigned sender, uint32_t cell, uint64_t mask); /* or-ed in */
/* True and *mask if the cell holds that lease; false if the sender never took it up. */
bool started_read(const struct started *s, unsigned sender, uint32_t cell, uint64_t lease_id,
                  uint64_t *mask);

#endif
