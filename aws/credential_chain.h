/*
 * aws/credential_chain.h - where credentials come from, in AWS's order, and how they are got.
 *
 * The first source that is configured wins; one that is configured but broken is an error, not a
 * reason to go on to the next:
 *   1. the settings aws.access_key_id, aws.secret_access_key, aws.session_token; base/config.h has
 *      merged AWS_ACCESS_KEY_ID, … into them, unless the setting aws.profile is there
 *   2. web identity: AWS_ROLE_ARN, AWS_WEB_IDENTITY_TOKEN_FILE, AWS_ROLE_SESSION_NAME; passed over
 *      as well when aws.profile is there
 *   3. the shared files (aws/profiles.h), profile aws.profile, else AWS_PROFILE, else "default": a
 *      role (of another profile, of credential_source, or of a web identity), keys, or a program
 *   4. a container's endpoint: AWS_CONTAINER_CREDENTIALS_RELATIVE_URI or …_FULL_URI, with the token
 *      of AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE or AWS_CONTAINER_AUTHORIZATION_TOKEN
 *   5. EC2 instance metadata, version 2: AWS_EC2_METADATA_SERVICE_ENDPOINT, …_ENDPOINT_MODE; not
 *      with AWS_EC2_METADATA_DISABLED=true
 * The region: the setting (AWS_REGION, AWS_DEFAULT_REGION), the profile's, instance metadata's.
 *
 * ENDS    The keeper; it blocks, up to some seconds per source (a program: a minute).
 * MEMORY  chain_create()/chain_destroy(). Keeps secrets only where config does, and between calls a
 *         token of instance metadata.
 * ERRORS  One sentence that says which source, what is wrong and what to do.
 * SOURCE  spec/aws.md §3; AWS SDKs and Tools Reference Guide, "Standardized credential providers".
 */
#ifndef AWS_CREDENTIAL_CHAIN_H
#define AWS_CREDENTIAL_CHAIN_H

#include "aws/credentials.h"
#include "aws/fetch.h"
#include "base/config.h"

struct credential_chain;

/* Borrows config. alive: see aws/fetch.h. */
struct credential_chain *chain_create(const struct config *config, fetch_alive *alive, void *arg);
void chain_destroy(struct credential_chain *chain); /* NULL is fine */

/* Asks the sources, whatever they said before. *found is filled whole, region, source and both
 * expiries included; on -1 it is empty. */
int chain_get(struct credential_chain *chain, struct credentials *found, struct err *err);

/* Files that the last answer depended on have changed since. */
bool chain_has_changed(const struct credential_chain *chain);

#endif
