/*
 * tests/sim/fleet.h - many Posterns on one buffer queue, in virtual time: SES, SQS and its limits,
 * machines that are killed, frozen and cut off. What a machine decides it decides by the product's
 * own code: mail/part.h cuts, store/part_rules.h says how much is taken on, how long it is held and
 * when it is deleted, sender/rate.h and shm/gauges.h how fast it goes.
 *
 * UNITS   Virtual milliseconds; recipients; rates a second.
 * SHAPE   Not modelled: several doubts of one part at their own times (the last counts for all), what
 *         a machine's processor can do (docs/benchmarks.md has it), mail that is not a newsletter.
 */
#ifndef SIM_FLEET_H
#define SIM_FLEET_H

#include "tests/sim/fifo.h"

struct fleet_options {
    uint64_t seed;
    unsigned nodes;
    uint64_t recipients;
    uint64_t rate;          /* of SES's account */
    unsigned share_percent; /* of it, each node's max_rate; 0 = what makes 100 % of all */
    uint64_t posted_per_s;  /* recipients; 0 = a tenth more than the rate */
    unsigned
        entries_least; /* of a bulk call: more than a slow node's would have, for speed; 0 = as its */
    unsigned intake_per_s; /* events that a node stores at the most */
    unsigned events_milli; /* events of a recipient × 1000 */
    unsigned calls_max;    /* of SQS, for each action */
    unsigned in_flight_max;
    uint64_t visibility_ms, window_ms;
    unsigned mean_s_between_troubles; /* of a node; 0 = none */
    unsigned lost_for_good;           /* of 1000 kills; a third of the fleet at the most */
    uint64_t first_is_lost_ms;        /* the first node dies for good then; 0 = it does not */
    unsigned repeats;                 /* of 1000 messages: posted again at another node */
    /* Rules taken out: */
    bool no_fence;       /* a sender goes on with what is no longer held */
    bool no_doubt;       /* who takes over does not wait */
    bool no_linger;      /* a message is deleted as soon as it is settled */
    bool signs_for_ever; /* SES takes a request however late it comes */
};

struct fleet_result {
    uint64_t taken, twice, missing;                  /* recipients, at SES */
    uint64_t refused;                                /* by SES, for the rate */
    uint64_t half_taken_ms, last_taken_ms, ended_ms; /* half: since when the first half is there */
    bool is_over;                                    /* false: given up, at FLEET_LONGEST_MS */
    uint64_t troubles[3];                            /* killed, frozen, cut off */
    uint64_t took_over;                              /* messages that another node had had */
    uint64_t doubts;        /* recipients that waited for the window's end */
    uint64_t late_requests; /* that reached SES after a line was mended or a node thawed */
    uint64_t calls[FIFO_ACTIONS], billed_sends, billed_receives; /* of the buffer, in calls and in
                                                                    pieces of 64 KiB */
    uint64_t event_calls;           /* of all event queues: receives and deletions, in tens */
    uint64_t notices;               /* that SNS hands out */
    uint32_t busiest[FIFO_ACTIONS]; /* calls in a second */
    uint64_t queue_refused, queue_full;
    uint32_t in_flight_peak, held_peak; /* of the queue; of a node */
    uint64_t unheard_peak_ms;           /* how far a healthy node's events were behind */
};

enum { FLEET_LONGEST_MS = 1000 * 86400 * 3 };

void fleet_run(const struct fleet_options *o, struct fleet_result *r);

#endif
