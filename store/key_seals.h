/*
 * store/key_seals.h - API keys as machines tell each other of them (queues.replication_topic): sealed
 * with a key that stands in proxy.conf.
 *
 * TRUST   Whoever may publish to the topic can change lists (store/replicas.h); a key would let them
 *         read everything. So a change of keys counts only if it was made by who knows a key that
 *         stands here for the same domain, or for all, in proxy.conf and for everything; and what it
 *         says is nobody's to read: the digests in it are secrets of this very kind. A key that was
 *         added while Postern ran seals nothing, for its digest has been under way: who once knew the
 *         key that sealed it may know it. Nor does one that is withdrawn.
 * SHAPE   Change CHANGE_KEYS: domain; keys: sealed (base/seal.h), with the digest as secret, a packed
 *         array of rows (store/keys.h); sealer: the secret's name. Beside it stand what, stamp, domain
 *         and sealer. It holds every row of its domain, or where that is empty, every row there is.
 * ORDER   Any, any number of times: each row has a version of its own, and of two the later counts.
 *         A key that seals its own end tells with it what it had let in before, so that what comes
 *         behind it is known already: sealed with a key that is withdrawn, it is right if it says
 *         nothing new, and a dead letter if it does.
 * ENDS    keys_tell(), keys_apply(): the writer. keys_judge(): poller, and again the writer.
 */
#ifndef STORE_KEY_SEALS_H
#define STORE_KEY_SEALS_H

#include "base/seal.h"
#include "store/keys.h"

/* Tells the rows of a domain (empty: all rows) as they stand now. before: the keys as they were
 * before what is told; changed: the one that it is about, which seals only if no other can. 1, 0 =
 * there is no key to seal it with: nothing is told; -1 and *err. */
int keys_tell(struct store_txn *t, const struct known_keys *before,
              const uint8_t changed[SHA256_BYTES], struct slice domain, uint64_t stamp_us,
              struct err *err);
/* Is there a key that could seal a change of this domain? */
bool keys_can_be_told(const struct known_keys *keys, struct slice domain);

/* Seals packed rows with a key's digest into r, whose what, stamp and domain are said already; r
 * borrows from sealer and sealed. */
void keys_seal(const uint8_t digest[SHA256_BYTES], struct slice rows, struct record_change *r,
               uint8_t sealer[SEAL_NAME_BYTES], struct buf *sealed);

/* Is it a change of keys that counts here? *why says what is wrong with it. t: NULL = no store to
 * look at. The texts of *rows, packed as in a change, are the arena's. */
bool keys_judge(struct store_txn *t, const struct config *config, const struct record_change *r,
                struct arena *a, struct slice *rows, struct slice *why);
/* rows: of keys_judge(). 0 or -1. */
int keys_apply(struct store_txn *t, struct slice rows, struct err *err);

#endif
