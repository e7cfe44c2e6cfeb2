/*
 * sender/holds.h - what SES will not take for a while: one sender's mail, or all of the account's.
 *
 * SHAPE   A hold belongs to a domain's lane and a From: a lane has a configuration set of its own,
 *         a From its identity. It has an end; after it one call goes as a probe. Only when SES has
 *         taken a call made since the hold began is it over, else a new one begins. The writer
 *         hears of each (HELD) and grants nothing of that lane meanwhile, unless SES takes mail of
 *         another From of it: then only what was refused waits. What people see of holds comes
 *         from the writer.
 * ENDS    One per sender. Two senders learn of the same trouble one call apart.
 * UNITS   Monotonic milliseconds. How long a hold lasts: config.sender.hold_ms.
 */
#ifndef SENDER_HOLDS_H
#define SENDER_HOLDS_H

#include "aws/http.h"
#include "shm/child.h"
#include "shm/record.h"

enum {
    HOLDS_PROBE_MS = 250, /* holds_wait_ms() while a probe is out */
};

/* Whose mail a call carries. Borrowed for the call. */
struct holds_who {
    struct slice domain, from;
    enum lane lane;
};

struct holds;

struct holds *holds_create(const struct child *me);
void holds_destroy(struct holds *h); /* NULL is fine */

/* How long this mail must wait; 0 = not at all. */
uint64_t holds_wait_ms(const struct holds *h, struct holds_who who, uint64_t now);
/* A call is about to go: it may be the probe. */
void holds_note_call(struct holds *h, struct holds_who who, uint64_t now);
/* A call has ended: taken by SES or not. */
void holds_note_end(struct holds *h, struct holds_who who, bool taken, uint64_t started_mono_ms,
                    uint64_t now);

/* reaction: AWS_QUOTA, AWS_HOLD_ACCOUNT or AWS_HOLD_SENDER; words: SES's. Returns how long. */
uint64_t holds_begin(struct holds *h, enum aws_reaction reaction, struct holds_who who,
                     struct slice words, uint64_t now);

#endif
