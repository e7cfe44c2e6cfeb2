/*
 * aws/credentials.h - whose name requests are signed in, as texts.
 *
 * MEMORY  The texts are owned; credentials_fini() wipes and frees them. {0} is an empty one, and
 *         the texts of a filled one are never NULL.
 * UNITS   Milliseconds. The monotonic clock is the same in all processes of a machine, so an expiry
 *         on it can be handed over, and is right although the wall clock is not.
 */
#ifndef AWS_CREDENTIALS_H
#define AWS_CREDENTIALS_H

#include "base/buf.h"
#include "base/err.h"

struct credentials {
    char *access_key_id, *secret_access_key;
    char *session_token;      /* "" = none: they are no temporary ones */
    char *region;             /* "" = the source says none */
    char *source;             /* for people: "the AWS profile \"work\""; nothing secret */
    uint64_t expires_wall_ms; /* as AWS says; 0 = never, or not known */
    uint64_t expires_mono_ms; /* the same instant; 0 = never */
    uint64_t generation;      /* of what was published (aws/vault.h); 0 = was not */
};

void credentials_fini(struct credentials *c);

/* Takes copies of key, secret and token after a look at them: they go into header fields, so they
 * are visible ASCII without blanks. `where` names the source in the words of the error. */
int credentials_set(struct credentials *c, struct slice access_key_id,
                    struct slice secret_access_key, struct slice session_token, const char *where,
                    struct err *err);
void credentials_set_region(struct credentials *c, struct slice region);
void credentials_set_source(struct credentials *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Both as one record. Unpacking answers false for anything else, and leaves *c empty. */
void credentials_pack(struct buf *to, const struct credentials *c);
bool credentials_unpack(struct slice packed, struct credentials *c);

/* The same keys, whatever their source and expiry. */
bool credentials_same_keys(const struct credentials *a, const struct credentials *b);

/* For buffers that secrets stood in: wipes all of it, and frees it. */
void credentials_wipe(struct buf *b);

#endif
