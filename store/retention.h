/*
 * store/retention.h - what is old goes, in small steps between other work.
 *
 * SHAPE   events          after retention.events, with all their index rows
 *         batches         after retention.batches, once settled: content, recipients, claims, all
 *         ids of events   IDS_KEPT_MS after their events: SQS keeps a message for 14 days, so a
 *                         repeat may come; so may a dead letter that is replayed
 *         counters        hours are added up to days, those go after DAYS_KEPT, and so do tags;
 *                         those of a batch, and who has opened it, when no event can come any more
 *         dead letters    after retention.events; soft bounces with their window; hours of the
 *                         reputation after REPUTATION_KEPT_MS, but for a domain's first; answers
 *                         that nobody heard when a repeat would not be one; addresses that SES's
 *                         list was never freed of after LIFTED_KEPT_MS
 *         what is known of the buffer queue's batches (store/buffer.h): as long as batches, and as
 *         long as SQS may keep a message; what was changed when (store/versions.h) for
 *         VERSIONS_KEPT_MS: another machine may have been away for so long
 *         Suppressions stay: they have no age.
 *         Above retention.size the oldest events go before their time, then settled batches; but
 *         nothing younger than SPARED_MS, which readers and repeated POSTs still need.
 * ENDS    The writer, in its write transaction.
 * COST    A step touches some RETENTION_STEP rows; when nothing is left to do, the next look is
 *         RETENTION_REST_MS away.
 * CRASH   Each step is part of a transaction; where it went on is found anew.
 */
#ifndef STORE_RETENTION_H
#define STORE_RETENTION_H

#include "base/config.h"
#include "store/store.h"

enum {
    RETENTION_STEP = 500,
    RETENTION_REST_MS = 5000,
    RETENTION_WALK_MS = 6 * 3600 * 1000, /* tables without an order of age are walked so often */
};
#define RETENTION_IDS_KEPT_MS        UINT64_C(1296000000)   /* 15 days */
#define RETENTION_HOURS_KEPT_MS      UINT64_C(7776000000)   /* 90 days */
#define RETENTION_DAYS_KEPT_MS       UINT64_C(157680000000) /* 5 years */
#define RETENTION_LIFTED_KEPT_MS     UINT64_C(8640000000)   /* 100 days */
#define RETENTION_VERSIONS_KEPT_MS   UINT64_C(8640000000)   /* 100 days */
#define RETENTION_SPARED_MS          UINT64_C(86400000)     /* a day */
#define RETENTION_REPUTATION_KEPT_MS UINT64_C(8640000000) /* 100 days: more than a guard's window */

struct retention;

/* Borrows config. */
struct retention *retention_create(const struct config *config);
void retention_destroy(struct retention *r); /* NULL is fine */

/* Is there something to look at, as far as is known? */
bool retention_is_due(const struct retention *r, uint64_t now_mono_ms);
/* One step. 1 = there is more to do, 0 = not for now, -1 and *err. now_wall_ms decides about ages,
 * now_mono_ms about rests. A batch that goes must not be kept in memory as settled. */
int retention_step(struct retention *r, struct store_txn *t, uint64_t now_wall_ms,
                   uint64_t now_mono_ms, struct err *err);

#endif
