/*
 * mail/own_event.h - the events that we make ourselves, not SES: accepted, refused, suppressed, and
 * what test mode pretends.
 *
 * MEMORY  The event borrows from head and recipient, and from the arena.
 */
#ifndef MAIL_OWN_EVENT_H
#define MAIL_OWN_EVENT_H

#include "mail/event.h"

/* What every event of a recipient says: domain, recipient, message id, tags, variables, headers.
 * Type, times, id and status are the caller's to fill. */
void event_of_recipient(struct event *e, const struct message_head *head,
                        const struct recipient *recipient, struct arena *a);

/* The recipient's own message id: head->message_id, with %recipient.KEY% replaced where it holds
 * one. Without brackets. SOURCE spec/mailgun.md §2.6. */
struct slice message_id_of(const struct message_head *head, const struct recipient *recipient,
                           struct arena *a);

/* index: less than EVENT_ORDINALS. The ids of a batch's follow each other. */
void own_event_accepted(struct event *e, const struct message_head *head,
                        const struct recipient *recipient, uint64_t batch_id, uint32_t index,
                        struct arena *a);
/* Permanent failure before SES took the mail. code: SMTP-like. */
void own_event_refused(struct event *e, const struct message_head *head,
                       const struct recipient *recipient, uint64_t batch_id, uint32_t index,
                       uint32_t code, struct slice text, uint64_t now_us, struct arena *a);

enum own_suppression {
    OWN_SUPPRESS_BOUNCE = 605,
    OWN_SUPPRESS_UNSUBSCRIBE,
    OWN_SUPPRESS_COMPLAINT
};
/* SOURCE spec/mailgun.md §4.7: codes 605, 606, 607 and their texts. */
void own_event_suppressed(struct event *e, const struct message_head *head,
                          const struct recipient *recipient, uint64_t batch_id, uint32_t index,
                          enum own_suppression why, uint64_t now_us, struct arena *a);
void own_event_test_delivered(struct event *e, const struct message_head *head,
                              const struct recipient *recipient, uint64_t batch_id, uint32_t index,
                              uint64_t now_us, struct arena *a);

#endif
