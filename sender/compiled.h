/*
 * sender/compiled.h - batches ready to be rendered, each read from the store and compiled once.
 *
 * MEMORY  The cache owns what it gives out. A batch that a lease uses stays; of the others the most
 *         recently used few stay, within a bound of bytes, for the leases that may follow.
 * ERRORS  compiled_get(): NULL and *err; ERR_NOT_FOUND when the store holds no such batch,
 *         ERR_INPUT when what it holds cannot be read.
 */
#ifndef SENDER_COMPILED_H
#define SENDER_COMPILED_H

#include "base/config.h"
#include "mail/ses_mail.h"
#include "store/batches.h"

enum {
    COMPILED_IDLE_MAX = 8,
    COMPILED_IDLE_BYTES = 64 << 20, /* of unused ones together */
};

struct compiled_cache;

struct compiled {
    uint64_t batch_id;
    struct message_head head;
    struct message_content content;
    struct slice from_address; /* of the content's From: address_of_from() */
    bool is_of_lane_set;       /* its configuration set is the lane's own, not the untracked one */
    struct ses_setup setup;
    const struct ses_batch *mail;
    /* the cache's own */
    struct compiled *older, *newer;
    struct arena arena;
    unsigned users;
};

struct compiled_cache *compiled_cache_create(const struct config *config);
void compiled_cache_destroy(struct compiled_cache *c); /* NULL is fine */

/* One more user. Nothing of the transaction is kept. */
struct compiled *compiled_get(struct compiled_cache *c, struct store_txn *t, uint64_t batch_id,
                              struct err *err);
void compiled_put(struct compiled_cache *c, struct compiled *one); /* one user less; NULL is fine */

#endif
