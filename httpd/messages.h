/*
 * httpd/messages.h - a submission, whichever way it came, on its way to the writer.
 *
 * MEMORY  What the submission borrows is used before message_submit() returns, and not after. From
 *         then on x->pending is a struct message_pending in the exchange's arena, and x->route names
 *         no more than kind and domain.
 * CRASH   Nothing is kept until the writer has committed; the client has no answer until then.
 */
#ifndef HTTPD_MESSAGES_H
#define HTTPD_MESSAGES_H

#include "httpd/service.h"
#include "mail/form.h"

/* What differs between the ways. */
struct message_way {
    inbox_visitor *answered; /* ends the exchange, now or later */
    struct slice once;       /* CLAIM_BYTES of an idempotency key; empty = none */
    bool awaited;            /* SES's word is to be kept */
};

struct message_pending {
    struct slice digest; /* of a message that is to be remembered, should its answer be lost */
    struct slice answer_id;
    uint32_t recipient_count;
    /* /v1/send's own, once it is kept: */
    struct slice message_id; /* ours, without brackets */
    uint64_t kept_mono_ms;
};

/* Picks the lane, and hands the message over; refuses a From that the domain does not allow. Ends
 * the exchange, at once or by way->answered. digest: CLAIM_BYTES that tell the same message asked for
 * again; unused where it has an email-id or an idempotency key. */
void message_submit(struct exchange *x, struct submission *m, const uint8_t digest[],
                    const struct message_way *way);
/* For POST …/messages: answers as Mailgun does. */
extern const struct message_way message_way_mailgun;
/* The writer has it: true. Else the exchange is answered. */
bool message_is_kept(struct exchange *x, const struct record_answer *answer);
/* Logs and answers a refusal. */
void message_refuse(struct exchange *x, int status, struct slice message);

/* May every address in From send for this domain? If not, the one that may not in *wrong. */
bool message_from_is_allowed(const struct config_domain *d, struct slice from, struct arena *a,
                             struct slice *wrong);

#endif
