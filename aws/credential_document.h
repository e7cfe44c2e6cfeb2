/*
 * aws/credential_document.h - the answers that bring credentials, read: of instance metadata, of
 * a container's endpoint, of a program (credential_process), of STS.
 *
 * SHAPE   Pure functions of the text.
 * MEMORY  *c is filled, or left as it was. Of region and expiry only expires_wall_ms is touched.
 * ERRORS  -1 and a sentence that names the source and what is wrong with the text, never the text.
 * SOURCE  spec/aws.md §3.
 */
#ifndef AWS_CREDENTIAL_DOCUMENT_H
#define AWS_CREDENTIAL_DOCUMENT_H

#include "aws/credentials.h"

/* {"AccessKeyId":…,"SecretAccessKey":…,"Token":…,"Expiration":…}. A "Code" other than "Success"
 * tells that there are none. An expiry must stand in it. */
int document_read_metadata(struct slice json, const char *where, struct credentials *c,
                           struct err *err);

/* {"Version":1,"AccessKeyId":…,"SecretAccessKey":…,"SessionToken":…,"Expiration":…}; without
 * Expiration they do not expire. */
int document_read_process(struct slice json, const char *where, struct credentials *c,
                          struct err *err);

/* XML of AssumeRole or AssumeRoleWithWebIdentity (action): what is in <…Result><Credentials>. */
int document_read_sts(struct slice xml, const char *action, const char *where,
                      struct credentials *c, struct err *err);

#endif
