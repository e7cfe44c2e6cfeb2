/*
 * httpd/strangers.h - who tried wrong keys lately, by address, and how long that is to wait.
 *
 * SHAPE   A table of bounded size; a full bucket forgets whoever was wrong longest ago. An IPv6
 *         address counts as its /64, which is one customer's.
 * UNITS   Monotonic milliseconds.
 */
#ifndef HTTPD_STRANGERS_H
#define HTTPD_STRANGERS_H

#include <stdint.h>

#include "base/slice.h"

enum {
    STRANGERS_FREE = 5,           /* so many mistakes cost nothing */
    STRANGERS_WAIT_MAX_MS = 4000, /* each further one doubles the wait, up to this */
    STRANGERS_FORGET_MS = 60000,  /* half of the mistakes, each so long */
};

struct strangers;

struct strangers *strangers_create(void);
void strangers_destroy(struct strangers *s); /* NULL is fine */

/* A wrong key from this address ("192.0.2.1", "2001:db8::1"): how long its answer is to wait. */
unsigned strangers_note(struct strangers *s, struct slice peer, uint64_t now_mono_ms);

#endif
