/*
 * shm/gauges.h - numbers that all processes share: lives of slots, the send-rate bucket, the
 * account.
 *
 * SHAPE   One anonymous shared mapping of struct gauges, zeroed, made by the master before it
 *         forks.
 * ENDS    Every word has one writer, named beside it; everyone reads. The bucket is the exception:
 *         all senders take from it with compare-and-swap.
 * CRASH   Nothing here is promised to anyone; it is news, not truth. A word that a dead process
 *         left is overwritten by its successor.
 */
#ifndef SHM_GAUGES_H
#define SHM_GAUGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum { GAUGE_SLOTS_MAX = 64 }; /* all processes but the master; slot 0 is the writer */

enum gauge_state { GAUGE_DOWN, GAUGE_STARTING, GAUGE_READY, GAUGE_LEAVING };

struct gauge_slot {
    _Alignas(64) _Atomic uint64_t
        generation;            /* master: of the present life; grows over all slots */
    _Atomic uint64_t pid;      /* master */
    _Atomic uint32_t state;    /* enum gauge_state; master, then the child */
    _Atomic uint32_t restarts; /* master */
    _Atomic uint32_t sleeping; /* the word of the slot's bell */
    _Alignas(64) _Atomic uint64_t heartbeat_mono_ms; /* the child, every tick */
    _Atomic uint64_t done;          /* the child: units of work done in this life */
    _Atomic uint64_t heard_wall_ms; /* a poller: events queued before then are stored */
};

/* A token bucket as one number: the monotonic time at which the bucket will be full again (GCRA).
 */
struct gauge_bucket {
    _Alignas(64) _Atomic uint64_t full_at_mono_ns;
    _Atomic uint64_t
        per_s_milli; /* recipients a second × 1000; 0 = not known yet: nothing is given */
};

struct gauges {
    struct gauge_slot slots[GAUGE_SLOTS_MAX];
    struct gauge_bucket bucket;
    /* sender 0: how many recipients one bulk call may have at this rate; 0 = not known, 1 */
    _Atomic uint32_t entries_max;
    /* sender 0, from GetAccount */
    _Atomic uint64_t account_rate_milli, quota_max_24h, quota_sent_24h, account_read_wall_ms;
    /* sender 0, when SES throttles: the share of the rate in use, in 1/1000; 0 is read as 1000 */
    _Atomic uint32_t throttle_share;
    /* added to by senders: recipients refused for the rate, recipients taken */
    _Atomic uint64_t throttled_count, sent_count;
    _Atomic uint64_t
        unresolved_count; /* senders: placeholders without a value, of mails rendered */
    _Atomic uint32_t account_is_sandbox; /* sender 0, from GetAccount */
    _Atomic uint64_t writer_commits, writer_records;
    /* the writer, since its start: events stored, those of them that were put behind what readers
     * had been told already, repeats */
    _Atomic uint64_t events_stored, events_late, events_repeated;
    _Atomic uint64_t event_last_wall_ms; /* when the last one came; 0 = none yet */
    _Atomic uint64_t unheard_count; /* mails sent since the last event, when that is an alarm */
};

struct gauges *gauges_create(struct err *err);
void gauges_destroy(struct gauges *g);

/* How long n recipients take at this rate; UINT64_MAX = the rate is not known. */
uint64_t bucket_cost_ns(const struct gauge_bucket *b, uint32_t n);
/* Senders: takes n recipients out of the bucket, when all taken before are paid for but for
 * slack_ns at most. Returns 0 when taken, else the time to wait in nanoseconds before trying again
 * (nothing taken). What nobody took in time is lost beyond the slack. */
uint64_t bucket_take(struct gauge_bucket *b, uint32_t n, uint64_t slack_ns, uint64_t now_mono_ns);
/* Nothing goes before n recipients' time from now, but for what may borrow. Does not add up. */
void bucket_charge(struct gauge_bucket *b, uint32_t n, uint64_t now_mono_ns);
/* Puts back n that were taken and not used. */
void bucket_give(struct gauge_bucket *b, uint32_t n);

#endif
