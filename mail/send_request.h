/*
 * mail/send_request.h - the JSON of POST /v1/send: one transactional mail.
 *
 * SHAPE   {"to": text or list of texts, "subject", "html", "text", "from", "replyTo", "attachments":
 *         [{"filename", "content" (base64), "contentType", "contentId"}], "headers": {name: text},
 *         "tags": [text], "idempotencyKey"}. Needed: to, subject, and html or text. What is null is
 *         absent; other members are passed over.
 * MEMORY  Everything given out lives in the arena.
 * ERRORS  false and *why: 400 and what is wrong, all of it: "Validation failed: 'FIELD': reason; …".
 * SOURCE  spec/typetale.md.
 */
#ifndef MAIL_SEND_REQUEST_H
#define MAIL_SEND_REQUEST_H

#include "mail/form.h"

struct send_request {
    struct form form;             /* as POST …/messages would have it, without `from` */
    struct slice from;            /* empty = not given */
    bool has_reply_to;            /* else it is From */
    struct slice *inline_ids;     /* of each attachment, in order; empty = none */
    struct slice idempotency_key; /* empty = none */
};

bool send_request_read(struct slice body, struct arena *a, struct send_request *r,
                       struct refusal *why);

/* One mailbox: what `from` must be. */
bool send_request_is_sender(struct slice from, struct arena *a);

/* The submission, from that sender. */
bool submission_from_send(struct send_request *r, struct slice from,
                          const struct submission_context *context, struct arena *a,
                          struct submission *s, struct refusal *why);

/* CLAIM_BYTES (16) that stand for the domain's idempotency key. */
void send_request_once(struct slice domain, struct slice key, uint8_t out[16]);

#endif
