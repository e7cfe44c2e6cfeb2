/*
 * master/master.h - the supervisor: makes what is shared, forks the roles, replaces the dead.
 *
 * SHAPE   master.c owns sockets, rings, bells, gauges and the lock on state_dir; supervise.c knows
 *         how a child is born and buried, and when the next one is due.
 * ENDS    One process, no threads, no network input. It forks; nobody else does.
 * CRASH   When the master dies, its end of every control socket closes and the children leave at
 *         once. Nothing promised depends on it: the next master finds all of it in state_dir.
 */
#ifndef MASTER_MASTER_H
#define MASTER_MASTER_H

#include <sys/types.h>

#include "logger/pump.h"
#include "master/listen.h"
#include "master/usage.h"
#include "shm/child.h"

enum { MASTER_PROCESSES_MAX = GAUGE_SLOTS_MAX, MASTER_LISTEN_MAX = 16 };

/* A place for one process at a time: its successors take the same place, ring and gauges. */
struct process {
    enum child_role role;
    unsigned index, gauge;
    struct child_slot *slot; /* of a worker; NULL for writer, keeper and sandbox */
    pid_t pid;               /* 0 = nobody lives here now */
    uint64_t generation;
    int control_fd;                     /* the master's end; closing it tells the child to leave */
    uint64_t born_mono_ms, due_mono_ms; /* due: when the next one is to be forked */
    uint64_t short_lives;               /* in a row */
    bool hopeless;                      /* it said: do not start me again */
    bool broken;                        /* it, or the writer, said: its rings hold garbage */
    bool told_to_stop, replacing;       /* replacing: told to stop, for a reload */
    const char *killed_for;             /* by us; NULL = not */
    uint64_t aborted_mono_ms;           /* when it hung; 0 = it does not */
    struct usage usage;
};

struct master {
    struct config *config;
    struct gauges *gauges;
    int gauges_fd; /* gauges_confine() */
    struct started *started;
    bool started_believable;
    uint64_t ring_epoch, last_generation;
    struct vault *vault;
    unsigned keeper_gauge;
    struct ssl_ctx_st *tls; /* what httpd children serve with; NULL = plain HTTP */
    struct log_outlet outlet;
    int lock_fd, signal_fd;
    struct listener listeners[MASTER_LISTEN_MAX], sandbox_listener;
    int listen_fds[MASTER_LISTEN_MAX];         /* theirs */
    size_t listen_count, metrics_listen_count; /* the last ones serve /metrics alone */
    int sandbox_fd;                            /* -1 = none */
    struct bell writer_bell;
    struct process processes[MASTER_PROCESSES_MAX];
    size_t process_count;
    struct child_slot slots[MASTER_PROCESSES_MAX];
    size_t slot_count;
    int stage; /* enum stage of supervise.c */
    uint64_t stop_by_mono_ms;
    struct usage usage; /* the master's own */
    bool said_ready;
    bool reloading; /* not all processes live with the new configuration yet */
};

/* The certificate that the configuration names, if any, in *tls. -1 = it cannot be used. */
int master_read_tls(const struct config *config, struct ssl_ctx_st **tls, struct err *err);

/* Runs until told to stop. The process's exit status. */
int master_run(struct config *config);

/* supervise.c: births, deaths, signals. Returns when all children are gone. */
int supervise(struct master *m);

#endif
