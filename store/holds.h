/*
 * store/holds.h - what SES will not take for a while: mail of one From, of a lane, or all of
 * the account's.
 *
 * SHAPE   A hold begins when a sender reports that SES refuses (OUTCOME_HELD). While it lasts
 *         nothing that it covers is granted. When its time is over one lease goes, of one recipient
 *         where the mail allows it: the probe. SES's answer to that lease ends the hold or begins
 *         it anew; a lease that ended without an answer makes room for the next. What leases
 *         granted before the hold meet says nothing new.
 *         The daily quota and the account's troubles hold the account. A configuration set that is
 *         a lane's own holds this lane of the domain. All else holds one From (its address) of the
 *         lane: its batches are parked with the hold, everybody else's go on.
 * ENDS    The writer; senders keep no holds. Included by store/'s scheduler alone.
 * UNITS   A hold lasts config.sender.hold_ms.
 * CRASH   Holds are in memory only: a new writer learns of the trouble from the next call.
 * SOURCE  spec/aws.md §4.
 */
#ifndef STORE_HOLDS_H
#define STORE_HOLDS_H

#include "base/buf.h"
#include "shm/record.h"
#include "store/run_heap.h"

struct scheduler;
struct store_txn;
struct gate;

struct hold {
    enum hold_reason reason;
    unsigned domain; /* index in scheduler.domains; not of the account's */
    enum lane lane;
    uint64_t from_id;       /* run.from_id; HOLD_SENDER only */
    struct buf from, words; /* for people */
    uint64_t since_wall_ms, until_wall_ms, until_mono_ms;
    uint64_t known_lease_id; /* leases up to this one are older than what is known */
    uint64_t probe_lease_id; /* 0 = none is out */
    struct run_heap parked;  /* of this From, in the order in which they are due */
};

struct holds {
    struct hold **list;
    size_t count;
};

enum hold_state {
    HOLD_OPEN,
    HOLD_PROBE, /* one lease may go */
    HOLD_CLOSED,
};

/* What of the run may go, by all holds that cover it. */
enum hold_state holds_state(const struct scheduler *s, const struct run *run);
/* The same of its account and its lane, whatever its From. */
enum hold_state holds_lane_state(const struct scheduler *s, unsigned domain, enum lane lane);
/* The hold of the run's From; NULL = there is none. */
struct hold *holds_of_from(const struct scheduler *s, const struct run *run);
/* Of this hold alone. */
enum hold_state hold_state(const struct hold *hold);

/* A lease of the run has been granted: it is the probe of what is open for one. */
void holds_note_grant(struct scheduler *s, const struct run *run, uint64_t lease_id);
/* SES's words to a call of this lease. t: to read the From. */
void holds_begin(struct scheduler *s, struct store_txn *t, const struct run *run, uint64_t lease_id,
                 enum hold_reason reason, struct slice words);
/* SES has taken mail of this lease: if it was a probe, its hold is over. */
void holds_note_taken(struct scheduler *s, uint64_t lease_id);
/* The lease is over; if it was a probe and told nothing, the next may go. */
void holds_note_end(struct scheduler *s, uint64_t lease_id);

/* Somebody has mended it: SES is asked at once, whatever calls under way may still meet. Of the
 * domain, from_id 0 = of all its Froms; and of the account. False = nothing was held. */
bool holds_try_now(struct scheduler *s, unsigned domain, uint64_t from_id);

/* The hold that keeps this run, for a person; false = none does. */
bool holds_closed(const struct scheduler *s, const struct run *run, struct gate *gate);
/* All that last, the account's first; at most `most`. Returns how many. Texts are borrowed until
 * the holds change. */
size_t holds_list(const struct scheduler *s, struct gate *list, size_t most);
void holds_fini(struct scheduler *s);

#endif
