/*
 * store/buffer.h - what the store keeps for the buffer queue (queues.newsletter_buffer).
 *
 * SHAPE   staged     batch id → the httpd that asked, the rings' epoch, its ACCEPT: to be put on the queue
 *         posted     group of a POST's recipients (mail/part.h) → id and answer of the first such
 *         parts      batch id → how often SQS had given that message to somebody
 *         served     a claim, or (batch id, recipient) → SES has taken that mail of another machine
 * ENDS    The writer writes, within its transaction; pollers read what is staged.
 * MEMORY  As in store/store.h.
 * ERRORS  -1 and *err, as in store/batch_write.h.
 */
#ifndef STORE_BUFFER_H
#define STORE_BUFFER_H

#include "shm/record.h"
#include "store/store.h"

enum { POST_GROUP_BYTES = 16 };

struct staged {
    unsigned gauge; /* of the httpd's slot */
    uint64_t epoch; /* of the rings through which it asked */
    struct slice accept;
};
int staged_put(struct store_txn *t, uint64_t batch_id, const struct staged *s, struct err *err);
bool staged_get(struct store_txn *t, uint64_t batch_id, struct staged *s);
int staged_del(struct store_txn *t, uint64_t batch_id, struct err *err);
/* The first whose id is larger; 0 = none. */
uint64_t staged_after(struct store_txn *t, uint64_t batch_id);
uint64_t staged_last_id(struct store_txn *t);

struct first_post {
    uint64_t batch_id;
    struct slice answer_id;
};
bool posted_get(struct store_txn *t, const uint8_t group[POST_GROUP_BYTES], struct first_post *p);
int posted_put(struct store_txn *t, const uint8_t group[POST_GROUP_BYTES],
               const struct first_post *p, uint64_t now_us, struct err *err);
int posted_del(struct store_txn *t, const uint8_t group[POST_GROUP_BYTES], struct err *err);

/* False: this batch is no part. */
bool part_row_get(struct store_txn *t, uint64_t batch_id, uint32_t *receives);
int part_row_put(struct store_txn *t, uint64_t batch_id, uint32_t receives, uint64_t now_us,
                 struct err *err);

/* claim: CLAIM_BYTES, or empty. */
int served_put(struct store_txn *t, uint64_t batch_id, uint32_t recipient, struct slice claim,
               uint64_t now_us, struct err *err);
bool served_has(struct store_txn *t, uint64_t batch_id, uint32_t recipient,
                const uint8_t claim[CLAIM_BYTES]);

#endif
