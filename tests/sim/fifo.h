/*
 * tests/sim/fifo.h - SQS's FIFO queue as a model: one message of a group in flight, handles that
 * expire, and its limits.
 *
 * UNITS   Virtual milliseconds.
 * MEMORY  fifo_open() makes what fifo_close() frees. Messages are known by their place.
 * SOURCE  Amazon SQS Developer Guide, quotas of messages and queues: 300 calls a second for each
 *         action (3,000 messages in batches of ten) without high throughput, up to 70,000 with it, by
 *         region; messages in flight: 120,000, formerly 20,000 of a FIFO queue.
 */
#ifndef SIM_FIFO_H
#define SIM_FIFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fifo_action { FIFO_SEND, FIFO_RECEIVE, FIFO_CHANGE, FIFO_DELETE, FIFO_ACTIONS };
#define FIFO_NONE UINT32_MAX

struct fifo_message {
    uint32_t part;
    uint32_t receives;  /* the last one's number is the handle that counts */
    uint32_t follower;  /* the next of its group */
    uint32_t waits_for; /* of its group, and there still */
    uint64_t visible_at_ms;
    bool in_flight, deleted;
};

struct fifo {
    struct fifo_message *messages;
    uint32_t count, cap, left; /* left: not deleted */
    uint32_t *fresh, *back;    /* visible ones: never received, or come back (these first) */
    size_t fresh_first, fresh_count, back_first, back_count, back_cap;
    uint32_t in_flight, in_flight_peak, in_flight_max;
    uint32_t calls_max; /* a second, for each action */
    uint64_t second;
    uint32_t of_second[FIFO_ACTIONS], busiest[FIFO_ACTIONS];
    uint64_t calls[FIFO_ACTIONS], refused, full;
};

void fifo_open(struct fifo *f, uint32_t cap, uint32_t calls_max, uint32_t in_flight_max);
void fifo_close(struct fifo *f);

/* Counts a call. False: it is throttled. */
bool fifo_call(struct fifo *f, enum fifo_action action, uint64_t now_ms);

/* The same group as another message, or FIFO_NONE. Its place. */
uint32_t fifo_put(struct fifo *f, uint32_t part, uint32_t same_as);
bool fifo_has_visible(const struct fifo *f);
unsigned fifo_receive(struct fifo *f, unsigned most, uint64_t visible_at_ms, uint32_t *got);
/* False: the handle has expired. */
bool fifo_change(struct fifo *f, uint32_t message, uint32_t handle, uint64_t now_ms,
                 uint64_t visible_at_ms);
bool fifo_delete(struct fifo *f, uint32_t message, uint32_t handle, uint64_t now_ms);
/* Its time may be over. When to look again; 0 = not any more. */
uint64_t fifo_lapse(struct fifo *f, uint32_t message, uint64_t now_ms);

#endif
