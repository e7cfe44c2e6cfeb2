/*
 * shm/gauges.h - numbers that all processes share: lives of slots, the send-rate bucket, the
 * account.
 *
 * SHAPE   One shared mapping of struct gauges, zeroed, made by the master before it forks. Each
 *         slot has pages of its own, and so have the words of the bells: a process that faces the
 *         network maps the rest for reading only, and no later call of its can undo that.
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
#include "base/slice.h"
#include "shm/histogram.h"
#include "shm/last_words.h"

enum { GAUGE_PAGE_BYTES = 4096 };
enum { GAUGE_SLOTS_MAX = 64 };    /* all processes but the master; slot 0 is the writer */
enum { GAUGE_DOMAINS_MAX = 256 }; /* figures of further ones are not kept */

enum gauge_state { GAUGE_DOWN, GAUGE_STARTING, GAUGE_READY, GAUGE_LEAVING };

/* What the master knows of a slot's present life. */
struct gauge_life {
    _Alignas(64) _Atomic uint64_t generation; /* grows over all slots */
    _Atomic uint64_t pid;
    _Atomic uint32_t restarts;
    _Atomic uint32_t is_unused;   /* nobody lives here, and nobody is to: of a past configuration */
    _Atomic uint32_t role, index; /* enum child_role; its number in that */
    _Atomic uint64_t cpu_us;      /* of all lives; never falls */
    _Atomic uint64_t resident_bytes;
};

/* How long things take, for those who do them: each counts in its own slot. */
enum gauge_latency {
    LATENCY_ACCEPT,      /* httpd: a POST is whole → it is on disk */
    LATENCY_EVENTS_PAGE, /* httpd: a page of events is asked for → it is answered */
    LATENCY_LEASE,       /* sender: a lease is taken up → SES's answer to a call of it */
    LATENCY_CALL,        /* sender: a call to SES → its answer */
    LATENCY_COUNT
};

/* When a domain's events were last asked for, of one httpd. */
struct gauge_poll {
    _Atomic uint64_t domain_id; /* 0 = free from here on */
    _Atomic uint64_t wall_ms;
};

struct gauge_slot {
    _Alignas(
        GAUGE_PAGE_BYTES) _Atomic uint32_t state; /* enum gauge_state; master, then the child */
    _Atomic uint64_t heartbeat_mono_ms;           /* the child, every tick */
    _Atomic uint64_t done;                        /* the child: units of work done in this life */
    _Atomic uint64_t heard_wall_ms; /* a poller: events queued before then are stored */
    /* of all lives; whoever has the ring up: how often it was full */
    _Atomic uint64_t ring_full;
    struct histogram latency[LATENCY_COUNT]; /* of all lives, histogram_quick_us */
    struct gauge_poll polls[GAUGE_DOMAINS_MAX];
    struct last_words last_words; /* the child */
};

/* A token bucket as one number: the monotonic time at which the bucket will be full again (GCRA).
 */
struct gauge_bucket {
    _Alignas(64) _Atomic uint64_t full_at_mono_ns;
    _Atomic uint64_t
        per_s_milli; /* recipients a second × 1000; 0 = not known yet: nothing is given */
};

enum {
    GAUGE_QUEUES_MAX = 16,
    GAUGE_POLLERS_MAX = 8,
};

enum { GAUGE_BUFFER_GROWS_MS = 30 * 60 * 1000 }; /* so long: nobody takes what is in it */

/* An event queue, in the order of config->event_queues. */
struct gauge_queue {
    /* poller 0, once a minute, from GetQueueAttributes; approximate, says AWS */
    _Atomic uint64_t visible, in_flight, delayed;
    _Atomic uint64_t read_wall_ms;    /* when it was told that; 0 = never yet */
    _Atomic uint64_t created_wall_ms; /* when it was made; 0 = not known yet, 1 = nobody tells */
    /* each poller for itself: how long the oldest message that it holds unstored or has received of
     * late has waited */
    _Atomic uint64_t oldest_ms[GAUGE_POLLERS_MAX];
};

/* The buffer queue. Poller 0; all 0 without one. */
struct gauge_buffer {
    struct gauge_queue queue; /* its oldest_ms[0]: of the parts that this machine holds */
    /* since when it has not been empty and each count was as high as the one before; 0 = it is
     * empty or was lower */
    _Atomic uint64_t grows_since_wall_ms;
    _Atomic uint64_t parts, recipients;   /* held by this machine; unsettled ones among them */
    _Atomic uint64_t returned;            /* parts given back as this machine is new, ever */
    _Atomic uint64_t joins_until_wall_ms; /* until then it is; 0 = it is not */
};

/* What came from SES, since the master's start. The writer. */
struct gauge_events {
    _Atomic uint64_t stored;
    _Atomic uint64_t repeated;    /* came again: collapsed into the first */
    _Atomic uint64_t late;        /* given a later timestamp, as a reader was past SES's */
    _Atomic uint64_t deadletters; /* messages not understood */
    /* from SES's time to ours when stored, of those stored; histogram_lag_us */
    struct histogram lag;
    _Atomic uint64_t lag_last_ms;
    /* mails without an outcome after alarm.no_outcome_after, as last counted */
    _Atomic uint64_t no_outcome_recipients, no_outcome_batches, no_outcome_read_wall_ms;
    /* domains whose mails go out and for which no event comes; since when the first of them */
    _Atomic uint64_t silent_domains, silent_since_wall_ms;
};
/* Webhooks, since the master's start. The writer. */
struct gauge_webhooks {
    _Atomic uint64_t taken;    /* events that receivers have taken */
    _Atomic uint64_t retried;  /* attempts that failed and are repeated later */
    _Atomic uint64_t given_up; /* events: refused, or failed for the last time */
};

/* The rings of a worker, as the writer saw them about a second ago. */
struct gauge_ring {
    _Atomic uint64_t up_used_bytes, up_bytes, down_used_bytes, down_bytes; /* bytes: its size */
    _Atomic uint64_t down_full;                                            /* how often it was */
};

/* Recipients of a domain that are due and held all the same, by lane and enum gate_reason. The
 * writer, about once a second. */
enum { GAUGE_LANES = 2, GAUGE_REASONS = 16 };
struct gauge_held {
    _Atomic uint64_t domain_id; /* 0 = none from here on */
    _Atomic uint64_t recipients[GAUGE_LANES][GAUGE_REASONS];
};

struct gauges {
    struct gauge_slot slots[GAUGE_SLOTS_MAX];
    /* the words of the slots' bells: whoever rings writes there. A wrong one costs its listener a
     * wake-up, until its tick, or wakes it for nothing */
    _Alignas(GAUGE_PAGE_BYTES) _Atomic uint32_t sleeping[GAUGE_SLOTS_MAX];
    _Alignas(GAUGE_PAGE_BYTES) struct gauge_life lives[GAUGE_SLOTS_MAX];
    /* the writer: the generation whose ring cannot be believed; the master ends it */
    _Atomic uint64_t distrusted[GAUGE_SLOTS_MAX];
    /* Rings of a dead one that are to be emptied before a successor is born: the master asks with
     * the dead one's generation, the writer answers with it. */
    _Atomic uint64_t empty_wanted[GAUGE_SLOTS_MAX], empty_done[GAUGE_SLOTS_MAX];
    /* The master, until a reload or an upgrade is through: the writer is absent for a moment only,
     * and who leaves meanwhile has successors that accept already. 0 = nothing of that kind. */
    _Atomic uint64_t renewing_until_mono_ms;
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
    struct histogram commit_us;      /* the writer: how long a commit took, synced */
    struct histogram commit_records; /* and how many records it covered, when there were any */
    struct gauge_ring rings[GAUGE_SLOTS_MAX];
    struct gauge_held held[GAUGE_DOMAINS_MAX];
    struct gauge_life master;         /* its own: cpu_us and resident_bytes alone */
    _Atomic uint64_t started_wall_ms; /* the master: when it made these */
    struct gauge_events events;
    struct gauge_webhooks webhooks;
    struct gauge_queue queues[GAUGE_QUEUES_MAX];
    struct gauge_buffer buffer;
};

/* *fd, unless NULL: for gauges_confine(); the caller's to close. */
struct gauges *gauges_create(int *fd, struct err *err);
/* Is a reload or an upgrade under way? */
bool gauges_are_renewing(const struct gauges *g, uint64_t now_mono_ms);
/* In a child, for good: only its own slot and the words of bells can be written from here on. */
int gauges_confine(struct gauges *g, int fd, unsigned own_slot, struct err *err);
void gauges_destroy(struct gauges *g);

/* Has a process ever lived in this slot? What others hold is nothing, and not worth its pages. */
static inline bool gauge_is_used(const struct gauges *g, size_t slot)
{
    return atomic_load_explicit(&g->lives[slot].generation, memory_order_relaxed) != 0;
}

/* What stands for a domain in these pages: a number made of its name; never 0. */
uint64_t gauge_domain_id(struct slice domain);
/* httpd: somebody with its key has asked for the domain's events. When they were last asked for, by
 * all of them; 0 = never. */
void gauge_poll_note(struct gauge_slot *own, struct slice domain, uint64_t now_wall_ms);
uint64_t gauge_poll_last_ms(const struct gauges *g, struct slice domain);

/* The writer adds what its transaction has found to events of its own, and makes them the shared
 * ones once it is committed. */
void gauge_events_publish(struct gauge_events *shared, struct gauge_events *own);
/* The writer: an event of SES's time ses_us is stored; late: with a later timestamp. */
void gauge_events_add(struct gauge_events *e, uint64_t ses_us, bool late, uint64_t now_us);

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
