/*
 * poller/signatures.h - are these words SNS's? Certificates are fetched once and kept.
 *
 * ENDS    One in each poller, where queues.verify_sns is set.
 * SHAPE   A message whose certificate is not there yet waits, and those behind it; `ready` is called
 *         when there is something to tell them.
 * MEMORY  signatures_open() gives what signatures_close() frees, after the client. It borrows the
 *         configuration.
 * ERRORS  A certificate that SNS does not have, or that is none, makes its message a forgery. Where
 *         SNS cannot be reached its messages wait, and go back to SQS when their time is over.
 * CRASH   Nothing is kept: certificates are fetched again.
 */
#ifndef POLLER_SIGNATURES_H
#define POLLER_SIGNATURES_H

#include "aws/http.h"
#include "base/config.h"
#include "base/err.h"

enum {
    SIGNATURES_CERTIFICATES_MAX = 16, /* SNS has one or two per region at a time */
    SIGNATURES_AGAIN_MS = 1000,       /* after a failure, doubled up to … */
    SIGNATURES_AGAIN_MAX_MS = 30000,  /* … this */
    SIGNATURES_REFUSED_MS = 60000,    /* how long "there is none such" is believed */
};

enum signature_verdict { SIGNATURE_GOOD, SIGNATURE_BAD, SIGNATURE_WAIT };

struct signatures;

struct signatures *signatures_open(struct aws_client *client, const struct config *config,
                                   void (*ready)(void *arg), void *arg);
void signatures_close(struct signatures *s); /* NULL is fine */

/* Of a message of this queue. BAD: *err says why. */
enum signature_verdict signatures_judge(struct signatures *s, struct slice queue_url,
                                        struct slice body, struct err *err);

#endif
