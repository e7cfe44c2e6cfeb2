/*
 * mail/resend.h - a stored message goes out again, to other recipients.
 *
 * SHAPE   What it says, its options, variables, tags and lane stay; it is a message of its own all
 *         the same: another id, accepted now and due now. It has no email-id, by which a repeated
 *         POST is known: it is meant as a second copy. A message of recipient-variables gives a
 *         recipient that it had his own again, and others none; each sees himself alone. Of any
 *         other message that came as a form the header To names those whom it goes to now. A whole
 *         message (messages.mime) keeps its header but for Message-Id.
 * MEMORY  As in mail/form.h; the submission borrows from the stored message too.
 * ERRORS  As in mail/form.h.
 * SOURCE  spec/mailgun.md §9.
 */
#ifndef MAIL_RESEND_H
#define MAIL_RESEND_H

#include "mail/form.h"

struct stored_message {
    struct message_head head;
    struct message_content content;
    struct recipient *recipients; /* head.recipient_count; used in batch mode only */
    size_t recipient_count;
};

/* POST to a stored message's URL. The form has `to`, once or more often, and nothing else. */
bool submission_again(const struct form *form, const struct stored_message *m,
                      const struct submission_context *context, struct arena *a,
                      struct submission *s, struct refusal *why);

#endif
