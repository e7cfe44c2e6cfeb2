/*
 * sender/rate.h - how fast all senders together may go: SES's own word, the configuration, and less
 * while SES throttles.
 *
 * ENDS    Every sender has one; that of sender 0 asks SES (GetAccount) and writes the gauges, the
 *         others' do nothing.
 * UNITS   Recipients a second × 1000.
 */
#ifndef SENDER_RATE_H
#define SENDER_RATE_H

#include "aws/http.h"
#include "shm/child.h"

enum {
    RATE_READ_EVERY_MS = 300000,
    RATE_READ_AGAIN_MS = 5000,      /* while it is unknown; doubled up to … */
    RATE_READ_AGAIN_MAX_MS = 60000, /* … this */
    RATE_WHEN_REFUSED_MILLI = 1000, /* when SES will not tell and the configuration does not say */
    RATE_STEER_MS = 1000, /* how often the share of the rate in use follows what SES says */
    RATE_RECOVERY = 20,   /* of throttle_share's 1000, each time without throttling */
    RATE_SHARE_LEAST = 50,
    RATE_SLACK_MS =
        5, /* a timer that rings late loses nothing; the rest of the margin is the network's */
    RATE_MARGIN = 985, /* of 1000 of the account's: calls never arrive as evenly as they left */
};

/* How many recipients one bulk call may have, so that any second, wherever it begins, sees less than
 * the rate and has room for a mail that overtakes: SES may count in seconds, and refuses what is
 * beyond. At least 1; a rate below some 70 leaves no room. */
unsigned rate_entries_max(uint64_t rate_milli);

/* What the configuration makes of the account's rate (0 = unknown). refused: it will not become
 * known. 0 = wait until it is known. */
uint64_t rate_allowed(const struct config *config, uint64_t account_rate_milli, bool refused);

/* The next share (of 1000) when SES refused so many recipients for the rate and took so many since
 * the last. It falls by half of the part that was refused: a call or two out of step cost little, a
 * rate that others use too is found within seconds. */
uint32_t rate_share_next(uint32_t share, uint64_t refused, uint64_t taken);

struct rate;
struct rate *rate_create(const struct child *me, struct aws_client *client);
void rate_destroy(struct rate *r); /* after the client; NULL is fine */
void rate_tick(struct rate *r);    /* every CHILD_TICK_MS */

#endif
