/*
 * store/part_rules.h - the numbers by which machines share the buffer queue: how much one takes on,
 * how long a message is its own, when another may have had it, when it is deleted. Pure: the poller
 * and the writer decide by them, and tests/sim plays a hundred machines that do.
 *
 * UNITS   Milliseconds; which clock is said by the name. visibility_ms: queues.buffer_visibility.
 *         window_ms: sender.doubt_window.
 */
#ifndef STORE_PART_RULES_H
#define STORE_PART_RULES_H

#include <stdbool.h>
#include <stdint.h>

#include "mail/part.h"

enum {
    PART_RECIPIENTS_LEAST = 1000,  /* unsettled ones that a slow machine takes on */
    PART_SECONDS_AHEAD = 10,       /* of its rate, that a fast one does */
    PART_WAIT_MAX_S = 20,          /* of a long poll: SQS's limit */
    PART_UNHELD_MARGIN_MS = 10000, /* beyond two visibilities, before it is handed on */
};

/* How many more recipients a machine of this rate takes on. */
static inline uint64_t part_room(uint64_t per_s_milli, uint64_t unsettled)
{
    uint64_t most = per_s_milli / 1000 * PART_SECONDS_AHEAD;

    most = most < PART_RECIPIENTS_LEAST ? PART_RECIPIENTS_LEAST : most;
    return unsettled < most ? most - unsettled : 0;
}

/* How many messages to ask for. call_max: those that one call can bring. */
static inline unsigned part_receive_count(uint64_t room, unsigned call_max)
{
    uint64_t count = (room + PART_MOST_RECIPIENTS - 1) / PART_MOST_RECIPIENTS;

    return count > call_max ? call_max : (unsigned)count;
}

/* The invisibility is reckoned from the call's beginning: it must not be over at its end. */
static inline uint64_t part_receive_wait_s(uint64_t visibility_ms)
{
    uint64_t wait_s = visibility_ms / 8000;

    return wait_s < 1 ? 1 : wait_s > PART_WAIT_MAX_S ? PART_WAIT_MAX_S : wait_s;
}

/* Nothing is received by who does not know what others have done: the first machine's message stays
 * a window beyond its last send, so who has heard up to half of one ago knows all of them. */
static inline bool part_has_heard(uint64_t heard_wall_ms, uint64_t now_wall_ms, uint64_t window_ms)
{
    return heard_wall_ms + window_ms / 2 >= now_wall_ms;
}

/* The fence: nothing of it is begun from then on. began: of the call that made it invisible. */
static inline uint64_t part_held_until(uint64_t began_mono_ms, uint64_t visibility_ms)
{
    return began_mono_ms + visibility_ms * 7 / 8;
}

static inline uint64_t part_extend_at(uint64_t began_mono_ms, uint64_t visibility_ms)
{
    return began_mono_ms + visibility_ms / 2;
}

/* A call for one that is to be extended takes others with it that would be soon: so those of ten
 * messages come together, and stay together, whenever each was received. */
static inline bool part_may_go_along(uint64_t extend_mono_ms, uint64_t now_mono_ms,
                                     uint64_t visibility_ms)
{
    return now_mono_ms + visibility_ms / 4 >= extend_mono_ms;
}

/* Not at once again, when SQS has refused it. */
static inline uint64_t part_try_again_at(uint64_t now_mono_ms, uint64_t visibility_ms)
{
    return now_mono_ms + visibility_ms / 16;
}

static inline uint64_t part_delete_at(uint64_t settled_mono_ms, uint64_t window_ms)
{
    return settled_mono_ms + window_ms;
}

/* receives: how often SQS has given the message to somebody; had: how often to this machine, as far as
 * it has written down. Then what is pending of it is in doubt. */
static inline bool part_was_elsewhere(uint32_t receives, uint32_t had)
{
    return receives > had + 1;
}

/* Held by nobody here for so long, it is somebody else's. */
static inline bool part_is_gone(uint64_t held_until_mono_ms, uint64_t now_mono_ms,
                                uint64_t visibility_ms)
{
    return held_until_mono_ms + 2 * visibility_ms + PART_UNHELD_MARGIN_MS < now_mono_ms;
}

#endif
