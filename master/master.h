/*
 * master/master.h - the supervisor: makes what is shared, forks the roles, replaces the dead.
 *
 * SHAPE   master.c owns sockets, rings, bells, gauges and the lock on state_dir; supervise.c knows
 *         how a child is born and buried, and when the next one is due; reload.c how a new
 *         configuration takes the old one's place, handover.c how a new binary does.
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

/* Stopping goes from the outside in, so that whoever still works finds its partner there. */
enum stage {
    RUNNING,
    STOP_HTTPD,
    STOP_WORKERS,
    STOP_WRITER,
    STOP_SANDBOX,
    HAND_OVER, /* nobody stops here: a new binary's master starts its writer, if there is one */
    STOP_LOGGER,
    KILL_ALL,
    STAGE_END
};

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
    bool is_unused;           /* nobody is born here: of a past or of a coming configuration */
    bool is_fresh;            /* of the configuration that is being taken over */
    const char *killed_for;   /* by us; NULL = not */
    uint64_t aborted_mono_ms; /* when it hung; 0 = it does not */
    struct usage usage;
};

/* What serves, as a configuration names it. */
struct served {
    struct config *config;
    struct ssl_ctx_st *tls; /* NULL = plain HTTP */
    struct listener listeners[MASTER_LISTEN_MAX];
    size_t listen_count;
};

/* reload.c: how far a new configuration has come. */
enum renewal { RENEW_NOTHING, RENEW_WRITER, RENEW_FRONT, RENEW_REST };

/* handover.c: the new binary's master, as the old one sees it. */
struct heir {
    enum { HEIR_NONE, HEIR_PREPARES, HEIR_WAITS, HEIR_STARTS, HEIR_SERVES } stage;
    pid_t pid;
    int fd;
    uint64_t by_mono_ms;
};

struct master {
    struct served now; /* by those that are born from here on */
    struct gauges *gauges;
    int gauges_fd; /* gauges_confine() */
    struct started *started;
    bool started_believable;
    uint64_t ring_epoch, last_generation;
    struct vault *vault;
    unsigned keeper_gauge;
    struct log_outlet outlet;
    int lock_fd, signal_fd;
    struct listener sandbox_listener;
    struct bell writer_bell;
    struct process processes[MASTER_PROCESSES_MAX];
    size_t process_count;
    struct child_slot slots[MASTER_PROCESSES_MAX];
    size_t slot_count;
    enum stage stage;
    uint64_t stop_by_mono_ms;
    struct usage usage; /* the master's own */
    bool said_ready;

    enum renewal renewal;
    struct served former; /* until the renewal is through */
    uint64_t writer_before, renewal_by_mono_ms;
    bool reload_again;
    unsigned reloads; /* asked for: tells their lines in the log apart */

    char binary[4096]; /* what an upgrade runs; "" = not known */
    struct heir heir;
    unsigned upgrades;          /* asked for */
    int parent_fd;              /* the old binary's master, while we take its place; -1 = none */
    bool awaits_go;             /* its writer still works: ours is not born */
    bool told_parent, told_all; /* that httpd is ready, that everybody is */
    struct listener inherited[MASTER_LISTEN_MAX + 1]; /* its, until they are taken into use */
    size_t inherited_count;
    int inherited_lock_fd; /* on its state_dir; -1 = none */
};

/* The certificate that the configuration names, if any, in *tls. -1 = it cannot be used. */
int master_read_tls(const struct config *config, struct ssl_ctx_st **tls, struct err *err);

/* Runs until told to stop. The process's exit status. */
int master_run(struct config *config);

/* What a configuration serves: `listen`, then `metrics.listen`. */
size_t master_address_count(const struct config *c);
int master_check_addresses(const struct config *c, struct err *err); /* are they too many? */
const struct config_address *master_address(const struct config *c, size_t i);
/* What senders leave for the time after their death. Of the old master's until it lets us. */
int master_open_started(struct master *m, struct err *err);
/* A place for a process, unused yet: an old one of that role and index where there is one. For
 * httpd, any in which nobody lives, with rings for this configuration's bodies. NULL = none. */
struct process *master_place(struct master *m, enum child_role role, unsigned index,
                             const struct config *config, struct err *err);

/* ---- supervise.c: births, deaths, signals ---- */

int supervise(struct master *m); /* returns when all children are gone */
void process_tell(struct process *p, int sig);
void process_use(struct master *m, struct process *p, bool is_used);
bool process_is_ready(const struct master *m, const struct process *p);
void master_enter(struct master *m, enum stage stage); /* tells those whom it concerns */

/* ---- reload.c: SIGHUP and SIGUSR1 ---- */

void reload_begin(struct master *m);
void reload_advance(struct master *m); /* in each turn of the loop, while RUNNING */
void reload_logs(struct master *m);

/* ---- handover.c: SIGUSR2 ---- */

/* The old master's side. */
void handover_begin(struct master *m);
void handover_advance(struct master *m);                     /* in each turn of the loop */
bool handover_reap(struct master *m, pid_t pid, int status); /* true: it was the heir */
bool handover_holds(struct master *m);   /* at HAND_OVER: the heir is not there yet */
void handover_give_up(struct master *m); /* we are told to stop: so is the heir */
/* After the end of a master whose heir serves: stays as a shell around it, for whoever started us
 * and knows our pid only. The heir's exit status. */
int handover_stay(pid_t heir);

/* The new one's: what our parent has left us, from the environment, which is cleared of it. */
int handover_inherit(struct master *m, struct err *err);
void handover_report(struct master *m); /* in each turn of the loop */

#endif
