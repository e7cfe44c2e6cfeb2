/*
 * aws/profiles.h - AWS's shared files, ~/.aws/credentials and ~/.aws/config, and what a profile in
 * them says.
 *
 * SHAPE   INI files: "[name]" in the credentials file, "[profile name]" in the config file but
 *         "[default]" there too. '#' and ';' begin comments, at the beginning of a line or behind a
 *         blank. Indented lines belong to a nested setting and are passed over.
 * MEMORY  profiles_read()/profiles_fini(), which wipes. A profile borrows from what was read.
 * ERRORS  A file that is absent is empty; so is one in the home that may not be read. Another that
 *         cannot be read, or one longer than PROFILES_MAX_BYTES, is a failure.
 * SOURCE  spec/aws.md §3; AWS SDKs and Tools Reference Guide, "Shared config and credentials
 *         files": the credentials file wins over the config file for the same profile.
 */
#ifndef AWS_PROFILES_H
#define AWS_PROFILES_H

#include <sys/stat.h>

#include "base/buf.h"
#include "base/err.h"

enum { PROFILES_MAX_BYTES = 1024 * 1024 }; /* nobody's file is longer; a wrong path's may be */

/* What tells that a file is another than it was. */
struct file_stamp {
    ino_t inode;
    off_t bytes;
    struct timespec changed;
};

struct profiles {
    char *credentials_path, *config_path;        /* "" = there is no home */
    bool credentials_are_named, config_is_named; /* by a variable */
    struct buf credentials, config;
    struct file_stamp credentials_stamp, config_stamp;
};

/* Of the environment: AWS_SHARED_CREDENTIALS_FILE, AWS_CONFIG_FILE, else in the user's home. */
void profiles_init(struct profiles *p);
void profiles_fini(struct profiles *p);
/* Again, from the beginning. */
int profiles_read(struct profiles *p, struct err *err);
/* Whether a file was changed, came or went since it was read. */
bool profiles_have_changed(const struct profiles *p);
/* Lets go of the texts, and wipes them. */
void profiles_forget(struct profiles *p);

/* A whole file into *to, which is wiped as it grows. 1 = read, 0 = there is none, -1 = failure. */
int profiles_read_file(const char *path, size_t most_bytes, struct buf *to, struct err *err);

/* Empty = not said. The keys and the token come from one file, the others from the first of the two
 * that says them. */
struct profile {
    bool present;
    const char *keys_path; /* the file with the keys; NULL = none */
    struct slice access_key_id, secret_access_key, session_token;
    struct slice region;
    struct slice role_arn, source_profile, credential_source, web_identity_token_file;
    struct slice role_session_name, external_id, duration_seconds, mfa_serial;
    struct slice credential_process;
    struct slice unsupported; /* the name of a setting that asks for a source we do not have */
};

void profiles_find(const struct profiles *p, struct slice name, struct profile *found);

#endif
