/*
 * shm/bell.h - wakes a process that sleeps, and costs no system call when it does not.
 *
 * SHAPE   An eventfd and a "sleeping" word in shared memory.
 * ENDS    One listener (its event loop watches bell_fd()); any number of ringers.
 * CRASH   A wake-up is a hint. One lost because a ringer died between its two steps is found by the
 *         listener's tick; a successor of a listener starts with bell_quiet() and a look at its
 * work.
 *
 * Ringer:    make the work visible (ring_push), then bell_ring().
 * Listener:  in its callback: bell_quiet(); do the work until there is none; bell_sleep(); look
 * once more; if there is work after all, event_active() itself instead of waiting.
 */
#ifndef SHM_BELL_H
#define SHM_BELL_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/err.h"

struct bell {
    int fd;
    _Atomic uint32_t *sleeping; /* in shared memory; starts as 1 */
};

int bell_create(struct bell *b, _Atomic uint32_t *sleeping, struct err *err);
void bell_destroy(struct bell *b);
void bell_ring(const struct bell *b);  /* writes only if the listener sleeps */
void bell_poke(const struct bell *b);  /* writes always */
void bell_sleep(const struct bell *b); /* from here on, ring me; a full fence */
void bell_quiet(const struct bell *b); /* awake: reads the eventfd empty */

#endif
