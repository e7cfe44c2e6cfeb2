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

#include "aws/http.h"
#include "base/arena.h"
#include "base/buf.h"

#define SES_PATH_SEND    "/v2/email/outbound-emails"
#define SES_PATH_BULK    "/v2/email/outbound-bulk-emails"
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

/* What became of one entry of SendBulkEmail. */
struct ses_entry {
    enum aws_reaction reaction;
    struct slice message_id; /* AWS_OK; may be empty */
    struct slice words;      /* else: status and error, for a person */
};

/* The results of SendBulkEmail's answer, in the order of its entries, in the arena. False when the
 * body does not hold exactly `count` of them: then nothing is known of any. */
bool ses_bulk_results(struct slice body, size_t count, struct arena *a, struct ses_entry **list);

/* Path of the account's suppression entry for an address, for DELETE and GET. */
void ses_suppression_path(struct buf *to, struct slice address);

#endif
