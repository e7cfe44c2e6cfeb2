/*
 * sender/holds.h - what SES will not take for a while: a domain's mail, or all of the account's.
 *
 * SHAPE   A hold lasts for sender.hold. After it one call goes as a probe; only when SES has taken
 *         it is the hold over, else a new one begins. The writer hears of each (HELD) and grants
 *         nothing meanwhile; what people see of holds comes from there.
 * ENDS    One per sender. Two senders learn of the same trouble one call apart.
 * UNITS   Monotonic milliseconds.
 */
#ifndef SENDER_HOLDS_H
#define SENDER_HOLDS_H

#include "aws/http.h"
#include "shm/child.h"
#include "shm/record.h"

enum { HOLDS_PROBE_MS = 250 }; /* holds_wait_ms() while a probe is out */

struct holds;

struct holds *holds_create(const struct child *me);
void holds_destroy(struct holds *h); /* NULL is fine */

/* How long this domain's mail must wait; 0 = not at all. */
uint64_t holds_wait_ms(const struct holds *h, struct slice domain, uint64_t now);
/* A call is about to go: it may be the probe. */
void holds_note_call(struct holds *h, struct slice domain, uint64_t now);
/* A call has ended: taken by SES or not. */
void holds_note_end(struct holds *h, struct slice domain, bool taken);

/* reaction: AWS_QUOTA, AWS_HOLD_ACCOUNT or AWS_HOLD_SENDER; words: SES's. Returns how long. */
uint64_t holds_begin(struct holds *h, enum aws_reaction reaction, struct slice domain,
                     struct slice words, uint64_t now);

#endif
