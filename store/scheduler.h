/*
 * store/scheduler.h - which recipients go to which sender next, and what became of them.
 *
 * SHAPE   In memory: a run per batch that has something to settle (books, place, due time), and
 *         the leases that senders hold. All of it is rebuilt from the store by scheduler_open().
 * ENDS    The writer. Every function that changes something runs inside its write transaction.
 * ORDER   Transactional mail first; domains in turn, by recipients; within a domain by due time.
 *         Batches that can go are kept in that order (store/run_heap.h), others apart: a grant
 *         looks at the first of each lane and passes over those of a From that SES refuses. A
 *         recipient moves: pending → leased → sent | failed | doubt | pending again; doubt → sent
 *         (an SES event proves it) | pending again (the window ended, on_doubt = resend).
 * CRASH   A lease is in the store before its sender hears of it. Of a sender that died, recipients
 *         that its started marks (shm/started.h) do not show go straight back to pending; the
 *         others are in doubt.
 * ERRORS  -1 and *err: abort the transaction and start the process anew; memory and store may
 *         differ.
 */
#ifndef STORE_SCHEDULER_H
#define STORE_SCHEDULER_H

#include "base/buf.h"
#include "shm/child.h"
#include "shm/record.h"
#include "store/batch_write.h"
#include "store/changes.h"
#include "store/reputation.h"

struct scheduler;

struct scheduler *scheduler_open(const struct child *me, struct store_txn *t, struct err *err);
void scheduler_close(struct scheduler *s);

/* After the commit that inserted the batch is certain to come: within the same transaction. */
int scheduler_add(struct scheduler *s, struct store_txn *t, uint64_t batch_id, uint64_t due_wall_ms,
                  uint32_t lane, struct err *err);

/* One lease for this sender, written and encoded into *record (a LEASE); 1, or 0 when there is
 * nothing to do or the sender holds enough, -1 on failure. Suppressed and test-mode recipients met
 * on the way are settled at once. */
int scheduler_grant(struct scheduler *s, struct store_txn *t, const struct child_slot *sender,
                    uint64_t generation, struct buf *record, struct err *err);

int scheduler_outcomes(struct scheduler *s, struct store_txn *t, unsigned sender,
                       const struct record_outcomes *r, struct err *err);

/* An SES event proves that this recipient's mail was taken. */
int scheduler_settle(struct scheduler *s, struct store_txn *t, uint64_t batch_id,
                     uint32_t recipient, struct err *err);
/* A stored event of a recipient, for the batch's books. severity: enum event_severity. */
int scheduler_count_event(struct scheduler *s, struct store_txn *t, uint64_t batch_id,
                          uint32_t recipient, uint32_t event_type, uint32_t severity,
                          struct err *err);

/* The domain of a batch; empty when there is no such batch. */
struct slice scheduler_domain(struct scheduler *s, struct store_txn *t, uint64_t batch_id);
/* What scheduler_flush() stores as well. */
struct feeds *scheduler_feeds(struct scheduler *s);

/* A hard bounce or a complaint has come back from this address: for the guards. */
int scheduler_feedback(struct scheduler *s, struct store_txn *t, struct slice domain,
                       struct slice address, enum reputation_kind kind, struct err *err);

/* Until when the buffer queue leaves a batch to us; 0 = it is not of that queue. */
uint64_t scheduler_held_until(struct scheduler *s, struct store_txn *t, uint64_t batch_id);
/* The lane of a batch; false = it is not known, *lane is the newsletters'. */
bool scheduler_lane_find(struct scheduler *s, struct store_txn *t, uint64_t batch_id,
                         uint32_t *lane);
uint32_t scheduler_lane(struct scheduler *s, struct store_txn *t, uint64_t batch_id);

/* What a person asks for (enum control_verb). *words: what was done or why not, for that person;
 * STATUS: a JSON object. */
int scheduler_control(struct scheduler *s, struct store_txn *t, const struct record_control *r,
                      enum answer_verdict *verdict, uint32_t *count, struct buf *words,
                      struct err *err);

/* Tells the gauges how many recipients are due and held, and why. */
void scheduler_tell_held(struct scheduler *s);
/* What keeps the domain's mail from being sent, in Mailgun's shape (a JSON object): regular is
 * disabled by whatever holds some of it now, scheduled by what will still do so later, until a person
 * acts. */
void scheduler_queues(const struct scheduler *s, struct slice domain, struct buf *to);

/* The leases of this sender's dead lives. Call with its up ring read to the end. */
int scheduler_bury(struct scheduler *s, struct store_txn *t, const struct child_slot *sender,
                   struct err *err);
bool scheduler_has_dead(const struct scheduler *s, const struct child_slot *sender);

/* Ends doubts whose window has run out, once the events up to its end have been read. */
int scheduler_expire_doubts(struct scheduler *s, struct store_txn *t, struct err *err);
bool scheduler_doubt_is_due(struct scheduler *s);

/* Writes `accepted` events still owed, of whole batches until there are about so many; 1 when more
 * may be left. */
int scheduler_expand(struct scheduler *s, struct store_txn *t, size_t recipients, struct err *err);

/* Writes changed books, drops what is settled. Last thing before the commit. */
int scheduler_flush(struct scheduler *s, struct store_txn *t, struct err *err);
/* Settled batches are no longer kept in memory: retention may take them out of the store. After
 * scheduler_flush(). */
void scheduler_drop_settled(struct scheduler *s);

/* What another machine was asked to pause, resume or cancel: the same is done with what is here, unless
 * something later was asked. v: when, and by whom. 0 or -1. */
int scheduler_steer(struct scheduler *s, struct store_txn *t, const struct record_change *r,
                    const struct version *v, struct err *err);

#endif
