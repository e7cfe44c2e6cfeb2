/*
 * aws/ses.h - what SES answers, read: the account's limits and a send's message id; and the paths
 * of its calls.
 *
 * UNITS   Rates in recipients a second × 1000.
 * MEMORY  Texts borrow from the tree or go to the caller's buf.
 * SOURCE  spec/aws.md §5.
 */
#ifndef AWS_SES_H
#define AWS_SES_H

#include "base/buf.h"

#define SES_PATH_SEND    "/v2/email/outbound-emails"
#define SES_PATH_ACCOUNT "/v2/email/account"

struct ses_account {
    uint64_t rate_milli;    /* 0 = the answer did not say */
    uint64_t quota_max_24h; /* UINT64_MAX = unlimited; 0 = not said */
    uint64_t quota_sent_24h;
    bool sending_enabled;
    bool production; /* false: SES's sandbox, verified recipients only */
};

/* The body of GetAccount's answer; false when it is no JSON object. */
bool ses_account_parse(struct slice body, struct ses_account *account);

/* Appends the MessageId of SendEmail's answer; false when the body has none. */
bool ses_message_id(struct slice body, struct buf *to);

/* Path of the account's suppression entry for an address, for DELETE and GET. */
void ses_suppression_path(struct buf *to, struct slice address);

#endif
