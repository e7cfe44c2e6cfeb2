/*
 * store/joining.h - which messages of the buffer queue a machine may take that is new.
 *
 * A machine knows whom others have served from its own event queues alone, and of what went out
 * before these were made it knows nothing. So for a time (queues.buffer_join) it takes only mail of which nothing can have
 * gone out before then; what else it receives it gives back, for those to take who know.
 *
 * SHAPE   Pure. A newsletter began when its email-id says so, where that is an ObjectId (24
 *         hexadecimal digits, the first 8 of them seconds since 1970), as Ghost's are; else when SQS
 *         got the message. The first machines are not new: nothing went out over a buffer before the
 *         buffer was made, however old the newsletter.
 * UNITS   Milliseconds. Of queues and messages by SQS's clock, now by ours.
 * SOURCE  spec/ghost.md (email-id), SQS's GetQueueAttributes (CreatedTimestamp).
 */
#ifndef STORE_JOINING_H
#define STORE_JOINING_H

#include "base/slice.h"

enum {
    JOINING_MARGIN_MS = 5 * 60 * 1000, /* from a queue's making to its topic's first message */
    JOINING_FIRST_MS = 10 * 60 * 1000, /* so long after the buffer a machine is one of the first */
};

struct joining {
    uint64_t events_wall_ms; /* when the youngest of its event queues was made; 1 = nobody tells */
    uint64_t buffer_wall_ms; /* when the buffer was; 1 = nobody tells */
    uint64_t for_ms;         /* how long it is new; repeats of a newsletter come within that */
};

/* Until when the machine is new; 0 = it is not. */
uint64_t joining_until_ms(const struct joining *j, uint64_t now_wall_ms);

/* sent_wall_ms: when SQS got the message; 0 = not told, which one that is new takes for long ago. */
bool joining_may_take(const struct joining *j, uint64_t sent_wall_ms, struct slice email_id,
                      uint64_t now_wall_ms);

#endif
