/*
 * httpd/messages.h - a submission, whichever way it came, on its way to the writer.
 *
 * MEMORY  What the submission borrows is used before message_submit() returns, and not after.
 * CRASH   Nothing is kept until the writer has committed; the client has no answer until then.
 */
#ifndef HTTPD_MESSAGES_H
#define HTTPD_MESSAGES_H

#include "httpd/service.h"
#include "mail/form.h"

/* Picks the lane, and hands the message over; refuses a From that the domain does not allow. Ends
 * the exchange, at once or when the writer has answered. digest: CLAIM_BYTES that tell the same
 * message asked for again; unused where it has an email-id. */
void message_submit(struct exchange *x, struct submission *m, const uint8_t digest[]);
/* Logs and answers a refusal. */
void message_refuse(struct exchange *x, int status, struct slice message);

#endif
