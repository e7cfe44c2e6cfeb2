/*
 * aws/credentials.h - whose name requests are signed in.
 *
 * Sources, the first that yields something wins; one that is configured but broken is an error, not
 * a reason to go on to the next:
 *   1. the settings aws.access_key_id, aws.secret_access_key, aws.session_token (base/config.h has
 *      merged AWS's environment variables into them)
 *   2. the shared files ~/.aws/credentials and ~/.aws/config, or those that
 * AWS_SHARED_CREDENTIALS_FILE and AWS_CONFIG_FILE name; profile aws.profile, else "default". The
 * first file wins. Both are read again when they change. A new source is one function and one row
 * of the table in credentials.c.
 *
 * ENDS    One process, after fork() and after the change of user: HOME is the user's.
 * MEMORY  credentials_create()/credentials_destroy(). What credentials_now() shows is valid until
 *         the next credentials_now() or credentials_renew(). Secrets are wiped when they go.
 * UNITS   Milliseconds, monotonic.
 * ERRORS  Renewal that fails keeps the old credentials and says so in the log.
 * SOURCE  spec/aws.md §3.
 */
#ifndef AWS_CREDENTIALS_H
#define AWS_CREDENTIALS_H

#include "base/config.h"
#include "base/err.h"
#include "base/slice.h"

struct credentials {
    char *access_key_id, *secret_access_key;
    char *session_token; /* "" = none */
    char *region;        /* of the profile; "" = it says none */
    uint64_t generation; /* grows whenever the above changes */
};

struct credentials_store;

struct credentials_store *credentials_create(const struct config *config, struct err *err);
void credentials_destroy(struct credentials_store *s); /* NULL is fine */

/* Looks at the files' dates at most once in CREDENTIALS_LOOK_MS. */
enum { CREDENTIALS_LOOK_MS = 30000 };
const struct credentials *credentials_now(struct credentials_store *s, uint64_t now_mono_ms);

/* AWS has refused these: reads the source again. True when it has others now. */
bool credentials_renew(struct credentials_store *s);

#endif
