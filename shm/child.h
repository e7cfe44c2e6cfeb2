/*
 * shm/child.h - all that a forked process inherits, and what it owes its master.
 *
 * ENDS    The master fills a struct child per fork(); a role's entry function gets it and nothing
 *         else. A child closes every descriptor that its struct child does not name.
 * CRASH   The control socket at its end of file means that the master is gone: leave at once.
 */
#ifndef SHM_CHILD_H
#define SHM_CHILD_H

#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "shm/bell.h"
#include "shm/gauges.h"
#include "shm/ring.h"
#include "shm/started.h"

struct log_outlet;
struct notice;
struct ssl_ctx_st;
struct vault;

enum child_role {
    ROLE_WRITER,
    ROLE_HTTPD,
    ROLE_SENDER,
    ROLE_POLLER,
    ROLE_KEEPER,
    ROLE_COURIER,
    ROLE_SANDBOX,
    ROLE_LOGGER
};

const char *child_role_name(enum child_role role); /* "httpd"; "unknown" for none of them */

/* How a role's entry function ends, and its process's exit status. */
enum child_exit {
    CHILD_EXIT_DONE = 0,     /* asked to leave, left */
    CHILD_EXIT_RETRY = 75,   /* start me again (EX_TEMPFAIL) */
    CHILD_EXIT_BROKEN = 76,  /* the same, but with empty rings: what stands there is garbage */
    CHILD_EXIT_HOPELESS = 78 /* configuration: do not start me again (EX_CONFIG) */
};

/* What one worker (httpd, sender, poller, courier) shares with the writer. Outlives its processes. */
struct child_slot {
    enum child_role role;
    unsigned index;    /* within its role: httpd 0, httpd 1, … */
    unsigned gauge;    /* its place in gauges->slots */
    struct ring *up;   /* worker → writer */
    struct ring *down; /* writer → worker */
    uint64_t epoch;    /* of these two rings; random: positions kept for others are not theirs */
    struct bell bell;  /* rung by the writer, heard by the worker */
};

struct child {
    enum child_role role;
    unsigned index;
    unsigned gauge;      /* own place in gauges->slots */
    uint64_t generation; /* of this life; never 0 */
    char name[32];       /* "sender 1" */
    const struct config *config;
    struct gauges *gauges;
    struct started *started;
    bool started_believable; /* as the master's started_open() said */
    int control_fd;          /* end of file: the master is gone */
    const int *listen_fds;   /* httpd, sandbox; already listening, non-blocking */
    size_t listen_count;
    size_t metrics_listen_count;    /* httpd: the last so many of them serve /metrics alone */
    struct ssl_ctx_st *tls;         /* httpd: for those sockets (base/tls.h); NULL = plain HTTP */
    const struct child_slot *slot;  /* a worker's own; NULL for writer, keeper and sandbox */
    const struct child_slot *slots; /* the writer's: all workers */
    size_t slot_count;
    struct vault *vault; /* keeper, sender, poller: AWS's credentials (aws/vault.h); else NULL */
    struct notice *keys_news;        /* the writer's: what the keeper tells of them, JSON */
    unsigned keeper_gauge;           /* the keeper's place in gauges->slots; 0 = there is none */
    struct bell writer_bell;         /* heard by the writer, rung by everyone who pushed to it */
    const struct log_outlet *outlet; /* the logger's (logger/pump.h); else NULL */
    uint64_t ring_epoch;             /* of all leases; random, new with every master */
};

void child_beat(const struct child *me); /* call at least once a second, from the loop */
/* Says so in the log, too. From here on a death counts as a crash, not as a failed start. */
void child_ready(const struct child *me);
void child_leaving(const struct child *me);

/* For the metrics, in the child's own slot. */
void child_note_latency(const struct child *me, enum gauge_latency which, uint64_t took_us);
void child_note_ring_full(const struct child *me); /* a push met RING_FULL */

enum { CHILD_TICK_MS = 250 };

/* A poller's events wait for others, so that a commit covers many: the poller wakes the writer when
 * so much is in its ring, and else at its next tick; the writer goes to rest with less than that in
 * it. */
enum { CHILD_GATHER_BYTES = 256 * 1024 };

#endif
