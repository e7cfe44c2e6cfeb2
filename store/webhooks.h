/*
 * store/webhooks.h - where events are told (webhooks), and the outbox of what is still to be told.
 *
 * SHAPE   webhooks:         domain, kind → the ids of its targets
 *         webhook_targets:  id → domain, URL, how it went. A target is a URL of a domain
 *         webhook_due:      target, due ms, place of the event → attempts made, first due ms
 *         webhook_failed:   target, place → when it was given up (µs), attempts, status, words
 *         id: WEBHOOK_TARGET_BYTES of SHA-256 over domain and URL. A place is an event's key in its
 *         domain (store/events.c); the event itself is not copied.
 * ENDS    Whatever changes something: the writer, in its write transaction, that of the event
 *         itself: an event is stored with its due rows or not at all. Look-ups: anyone.
 * ORDER   A target's rows by when they are due. No target waits for another.
 * CRASH   A due row goes when its outcome is applied. A courier that dies between the receiver's
 *         answer and that leaves it, and the event is told again: at least once.
 * UNITS   In the names.
 * MEMORY  Slices point into the map until the transaction ends, or the next change.
 * SOURCE  spec/mailgun.md §8.
 */
#ifndef STORE_WEBHOOKS_H
#define STORE_WEBHOOKS_H

#include "base/arena.h"
#include "base/buf.h"
#include "mail/webhook.h"
#include "shm/record.h"
#include "store/store.h"

enum {
    WEBHOOK_TARGET_BYTES = 8,
    WEBHOOK_PLACE_BYTES = 8 + EVENT_ID_BYTES,
    WEBHOOK_FAILURE_BYTES = WEBHOOK_TARGET_BYTES + WEBHOOK_PLACE_BYTES, /* names a failed row */
};

/* -------- where -------- */

struct webhook_target {
    uint8_t id[WEBHOOK_TARGET_BYTES];
    struct slice domain, url;
    uint64_t taken, refused;      /* events, over all times; refused: given up, too */
    uint64_t taken_us, failed_us; /* the last attempts of each kind; 0 = none yet */
    uint32_t failures;            /* attempts that failed since the last that did not */
    uint32_t status;              /* HTTP, of the last that failed; 0 = no answer */
    struct slice words;           /* of the same */
};

/* The URLs of a kind, in the order in which they were added: how many. */
size_t webhook_urls(struct store_txn *t, struct slice domain, enum webhook_kind kind,
                    struct slice urls[WEBHOOK_URLS_MAX]);
/* Bit i: it is told the events of enum webhook_kind i. 0 = it is no longer configured. */
unsigned webhook_target_kinds(struct store_txn *t, const struct webhook_target *target);
bool webhook_target_get(struct store_txn *t, const uint8_t id[WEBHOOK_TARGET_BYTES],
                        struct webhook_target *target);
/* Those that are configured, and those of which something is left. Until visit answers false. */
typedef bool webhook_target_visitor(void *arg, const struct webhook_target *target);
void webhook_target_each(struct store_txn *t, webhook_target_visitor *visit, void *arg);
/* Another one whenever the configuration has changed. */
uint64_t webhook_version(struct store_txn *t);

/* What domains without a key of their own sign with: WEBHOOK_KEY_CHARS characters, made with the
 * first webhook. Empty before. */
enum { WEBHOOK_KEY_CHARS = 64 };
struct slice webhook_signing_key(struct store_txn *t);

/* What a client asks for. *verdict: REFUSED and LIMIT with *words for the client, NOT_FOUND. 0 or -1. */
int webhook_change(struct store_txn *t, const struct record_webhook *r,
                   enum answer_verdict *verdict, struct buf *words, struct err *err);

/* -------- what is to be told -------- */

/* A new event, or a group of `count` whose places follow each other (e's is the first): a row for each
 * and each target. Writer; store/events.c calls it. */
int webhook_enqueue(struct store_txn *t, uint32_t domain, const struct event *e, uint32_t count,
                    uint64_t now_us, struct err *err);
/* Whether the open transaction has enqueued something. */
bool webhook_has_enqueued(struct store_txn *t);

struct webhook_due {
    uint64_t due_ms;
    uint8_t place[WEBHOOK_PLACE_BYTES];
    uint32_t attempts; /* made so far */
    uint64_t first_ms; /* when the first was due */
};
/* The target's first row; the one that follows *row, be that there still or not. False: there is none. */
bool webhook_due_first(struct store_txn *t, const uint8_t target[WEBHOOK_TARGET_BYTES],
                       struct webhook_due *row);
bool webhook_due_next(struct store_txn *t, const uint8_t target[WEBHOOK_TARGET_BYTES],
                      struct webhook_due *row);
/* At most `most` are counted. */
uint64_t webhook_due_count(struct store_txn *t, const uint8_t target[WEBHOOK_TARGET_BYTES],
                           uint64_t most);
/* All that wait and all that were given up. */
void webhook_counts(struct store_txn *t, uint64_t *waiting, uint64_t *failed);

/* What an outcome led to. */
enum webhook_result { WEBHOOK_NOTHING, WEBHOOK_TAKEN, WEBHOOK_AGAIN, WEBHOOK_GIVEN_UP };
/* retries_ms: how long after each failed attempt the next is due. A row that is not there is no
 * failure: NOTHING. 0 or -1. */
int webhook_posted(struct store_txn *t, const struct record_posted *r, const uint64_t *retries_ms,
                   size_t retries, enum webhook_result *result, struct err *err);

/* -------- what was given up -------- */

struct webhook_failure {
    uint8_t id[WEBHOOK_FAILURE_BYTES]; /* target, place */
    uint64_t failed_us;
    uint32_t attempts, status;
    struct slice words;
};
typedef bool webhook_failure_visitor(void *arg, const struct webhook_failure *f);
/* Those of a target (WEBHOOK_TARGET_BYTES), or, with NULL, of all, until visit answers false. */
void webhook_failure_each(struct store_txn *t, const uint8_t *target,
                          webhook_failure_visitor *visit, void *arg);

/* CONTROL_WEBHOOK_REPLAY and CONTROL_WEBHOOK_DROP: *count is how many of the ids were there. What
 * is replayed is due now, with all its attempts before it. */
int webhook_control(struct store_txn *t, const struct record_control *r, uint64_t now_ms,
                    enum answer_verdict *verdict, uint32_t *count, struct buf *words,
                    struct err *err);

/* Due rows of targets that are configured no longer, and such targets: about `limit` rows at a time.
 * How many, or -1. (Writer; retention.) */
int webhook_sweep(struct store_txn *t, uint32_t limit, struct err *err);

/* Does all of it agree? Calls problem for what does not. */
void webhook_check(struct store_txn *t, void (*problem)(void *arg, const char *words), void *arg);

#endif
