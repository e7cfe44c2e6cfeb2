/*
 * store/reputation.h - what each domain has sent of late, and what of it came back badly.
 *
 * SHAPE   A row of counts per domain and hour, kept in memory and in the store. Mail to SES's
 *         mailbox simulator counts nowhere: SES leaves it out of its own rates as well.
 * ENDS    The writer. Adding changes memory; reputation_flush() writes the changed hours into the
 *         same transaction.
 * UNITS   Wall milliseconds; hours since 1970 in keys.
 * CRASH   An aborted transaction ends the process: memory and store never stay apart.
 * SOURCE  spec/aws.md on SES's reputation metrics: hard bounces and complaints by mails sent.
 */
#ifndef STORE_REPUTATION_H
#define STORE_REPUTATION_H

#include "base/err.h"
#include "store/store.h"

enum reputation_kind {
    REPUTATION_SENT,
    REPUTATION_BOUNCED, /* hard bounces, but for those of a suppression list */
    REPUTATION_COMPLAINED,
    REPUTATION_KINDS
};

enum { HOUR_MS = 3600 * 1000, DAY_MS = 24 * HOUR_MS };

struct reputation_sums {
    uint64_t count[REPUTATION_KINDS];
};

struct reputation;

struct reputation *reputation_open(struct store_txn *t, struct err *err);
void reputation_close(struct reputation *r); /* NULL is fine */

/* SES's mailbox simulator: what goes there is not to be added. */
bool reputation_excludes(struct slice address);
void reputation_add(struct reputation *r, struct slice domain, enum reputation_kind kind,
                    uint32_t n, uint64_t now_wall_ms);

/* Hours that began at or after since_wall_ms. domain empty = all of them together. */
struct reputation_sums reputation_since(const struct reputation *r, struct slice domain,
                                        uint64_t since_wall_ms);
/* The first hour in which this domain sent anything; 0 = never. */
uint64_t reputation_first_wall_ms(const struct reputation *r, struct slice domain);
/* When at least `need` of what all domains have sent in the last 24 hours will lie further back
 * than that: SES's daily quota has room for so many again. 0 = it cannot be told. */
uint64_t reputation_frees_wall_ms(const struct reputation *r, uint64_t need, uint64_t now_wall_ms);

int reputation_flush(struct reputation *r, struct store_txn *t, struct err *err);

#endif
