/*
 * setup/make.h - makes, mends and removes one resource of the plumbing, by AWS's calls.
 *
 * ENDS    A process of its own: every function blocks.
 * UNITS   Milliseconds.
 * ERRORS  -1 and *err: which call was refused, on what, and which permission is missing.
 * CRASH   Killed between any two calls, what was made has its tag and its attributes already (they go
 *         in with the call that creates), and the next run finds what is missing as a difference.
 *         An identity takes up to four calls, a user two: the same holds for them.
 * SOURCE  spec/aws.md §5, §8, §9; IAM's API reference.
 */
#ifndef SETUP_MAKE_H
#define SETUP_MAKE_H

#include "aws/session.h"
#include "setup/plumbing.h"

/* Looks for every resource, and fills in what is found; states are the caller's to judge. */
int make_look(struct session *s, struct plumbing *p, struct err *err);

/* Of a resource in state RESOURCE_CREATE or RESOURCE_CHANGE. patience_ms: how long a refusal is
 * waited out that passes by itself (a policy that does not hold yet, a queue deleted just now). */
int make_resource(struct session *s, struct resource *r, uint64_t patience_ms, struct err *err);

/* Of one that was found. What is not there any more is as good as removed. */
int make_removal(struct session *s, struct resource *r, struct err *err);

/* A new access key of the user. Texts are appended; the secret is told this one time. */
int make_access_key(struct session *s, const struct resource *user, struct buf *id,
                    struct buf *secret, struct err *err);

#endif
