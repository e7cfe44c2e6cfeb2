/*
 * base/seal.h - texts that only whoever knows a secret can make or read: AES-256-GCM (OpenSSL).
 *
 * SHAPE   A sealed text: nonce (12 bytes, random), cipher text, tag (16). The cipher's key is the
 *         HMAC-SHA256 of a purpose under the secret, so a secret that serves several purposes gives
 *         nothing away of one for another. A name says which secret it was, to whoever has it, and
 *         nothing of the secret.
 * UNITS   Bytes. Fewer than 2^32 texts under one secret and purpose, as nonces are random.
 * MEMORY  Results are appended to the caller's buf.
 * SOURCE  NIST SP 800-38D, §5.2.1.1, §8.2.2, §8.3.
 */
#ifndef BASE_SEAL_H
#define BASE_SEAL_H

#include "base/buf.h"

enum { SEAL_NONCE_BYTES = 12, SEAL_TAG_BYTES = 16, SEAL_NAME_BYTES = 8 };

void seal_name(struct slice secret, struct slice purpose, uint8_t name[SEAL_NAME_BYTES]);
/* beside: goes with it, unsealed, and must be the same when it is opened. */
void seal_make(struct slice secret, struct slice purpose, struct slice beside, struct slice plain,
               struct buf *to);
/* False, and nothing is appended: it was not sealed so, or was changed. */
bool seal_open(struct slice secret, struct slice purpose, struct slice beside, struct slice sealed,
               struct buf *plain);

#endif
