/*
 * store/replicas.h - changes that other machines tell (queues.replication_topic): judged, and made
 * here, too.
 *
 * TRUST   Whoever may publish to the topic, or write into the event queue, may change lists and stop
 *         newsletters here: the topic's policy and the queue's decide, as they do for SES's events.
 *         What is no change that a Postern would tell is refused as a whole. Changes of API keys are
 *         sealed besides (store/key_seals.h).
 * ENDS    replica_judge(): poller, and again the writer. replica_apply(): the writer.
 * ORDER   Any, any number of times: see store/versions.h for lists, pauses and cancels, and
 *         store/own_events.h for events.
 * ERRORS  -1 and *err, as in store/scheduler.h.
 */
#ifndef STORE_REPLICAS_H
#define STORE_REPLICAS_H

#include "base/config.h"
#include "shm/record.h"
#include "store/scheduler.h"

enum {
    REPLICA_AHEAD_MAX_S = 3600, /* a clock that is wrong by more would win over all others */
};

/* Whether these bytes are a change of a domain that is configured here; *why says what is wrong.
 * *r borrows from change, but has the rows of keys unsealed; a holds those, what is needed to look,
 * and *why. t: where it is seen which keys are withdrawn; NULL = none is. */
bool replica_judge(struct slice change, const struct config *config, struct store_txn *t,
                   uint64_t now_us, struct arena *a, struct record_change *r, struct slice *why);

/* Our own that has come round changes nothing, nor does a repeat. What is none any more, though the poller
 * took it for one, becomes a dead letter. 0 or -1. */
int replica_apply(struct scheduler *s, struct store_txn *t, const struct record_replica *r,
                  struct err *err);

#endif
