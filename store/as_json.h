/*
 * store/as_json.h - a batch with its books, a domain, a dead letter, a webhook, as JSON: for the command
 * line and the dashboard alike.
 *
 * MEMORY  Everything is appended to the caller's buf, without the braces around it.
 */
#ifndef STORE_AS_JSON_H
#define STORE_AS_JSON_H

#include "store/batches.h"
#include "store/deadletters.h"
#include "store/reputation.h"
#include "store/webhooks.h"

/* Recipients in all states but STATE_DUPLICATE: what was accepted, when the books balance. */
uint32_t books_balance(const struct books *b);
const char *recipient_state_name(enum recipient_state state);

void batch_put_json(struct buf *to, uint64_t id, const struct message_head *h,
                    const struct books *b, uint32_t no_outcome);

/* What a domain has sent in the last day, and in the window, and what of the latter came back badly. */
void reputation_put_json(struct buf *to, const struct reputation *r, struct slice domain,
                         uint64_t now_wall_ms, uint64_t window_ms);

/* raw: at most so many bytes of the message. */
void deadletter_put_json(struct buf *to, const struct deadletter *d, size_t raw_most);

/* A target; what waits for it is counted up to `most`. */
void webhook_target_put_json(struct buf *to, struct store_txn *t,
                             const struct webhook_target *target, uint64_t most);
/* What people call a failure: hexadecimal digits. */
void webhook_failure_put_id(struct buf *to, const struct webhook_failure *f);
/* An event that the target did not take; past retention it has no recipient. */
void webhook_failure_put_json(struct buf *to, struct store_txn *t, const struct webhook_failure *f,
                              const struct webhook_target *target);
/* The kind of that event, in words, and its recipient; both are good until *a is reset. */
struct slice webhook_failure_about(struct store_txn *t, const struct webhook_failure *f,
                                   const struct webhook_target *target, struct arena *a,
                                   struct slice *recipient);

#endif
