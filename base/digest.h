/*
 * base/digest.h - SHA-256 and HMAC-SHA-256 (OpenSSL), MD5 for SQS, and encodings of bytes as text.
 *
 * The algorithms are fetched once per process, at first use (OpenSSL 3 looks them up on every
 * one-shot call otherwise). Not for use before fork().
 */
#ifndef BASE_DIGEST_H
#define BASE_DIGEST_H

#include "base/buf.h"

enum { SHA256_BYTES = 32, MD5_BYTES = 16 };

void digest_sha256(struct slice s, uint8_t out[SHA256_BYTES]);
/* Over the parts one after another, each preceded by its length (8 bytes, big-endian), so that
 * ("ab","c") and ("a","bc") differ. */
void digest_sha256_parts(const struct slice *parts, size_t count, uint8_t out[SHA256_BYTES]);
/* SHA-256 of texts that begin alike, one after another: the common beginning of the last ones is
 * not hashed again but compared, which costs a tenth. {0} is an empty memo; it keeps a copy of that
 * beginning. Texts that are not alike cost little more than digest_sha256(). */
struct digest_memo {
    struct buf text; /* the last one, or what several had in common */
    size_t hashed;   /* so much of it is in the state; 0 = there is no state */
    void *state;
    unsigned misses; /* since it last helped */
};
void digest_sha256_alike(struct digest_memo *m, struct slice s, uint8_t out[SHA256_BYTES]);
void digest_memo_fini(struct digest_memo *m);
void digest_hmac_sha256(struct slice key, struct slice text, uint8_t out[SHA256_BYTES]);
void digest_md5(struct slice s, uint8_t out[MD5_BYTES]);

bool digest_equal(struct slice a, struct slice b); /* constant time for equal lengths */
bool digest_is(const uint8_t a[SHA256_BYTES], const uint8_t b[SHA256_BYTES]); /* constant time */
void digest_random(void *out, size_t bytes); /* from the kernel; dies if there is none */

void text_hex(struct buf *to, struct slice bytes); /* lower case */
void text_base64(struct buf *to, struct slice bytes);
void text_base64url(struct buf *to, struct slice bytes); /* no padding */
/* Either alphabet, padding optional, nothing else allowed. False on bad input. */
bool text_from_base64(struct buf *to, struct slice text);
bool text_from_hex(struct buf *to, struct slice text);
/* Exactly so many bytes. False, and *bytes is as it was: the text is something else. */
bool text_read_hex(struct slice text, void *bytes, size_t count);
/* RFC 3986: bytes outside A-Za-z0-9-_.~ (and `keep`) as %XX, upper-case hex. */
void text_percent_encode(struct buf *to, struct slice s, const char *keep);
/* False on a broken %xx; plus_is_space for forms and queries. */
bool text_percent_decode(struct buf *to, struct slice s, bool plus_is_space);

#endif
