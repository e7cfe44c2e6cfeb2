/*
 * mail/ses_event.h - an SQS message body into Mailgun events.
 *
 * SHAPE   In: an SES event as JSON, bare, in an SNS envelope or in an EventBridge envelope;
 *         `eventType` or the older `notificationType`. Out: one struct ses_event per recipient it
 *         speaks of.
 * MEMORY  Everything lives in the caller's arena.
 * ERRORS  SES_DEADLETTER and *why for what cannot be understood; SES_IGNORED for what says nothing
 *         about a mail (the topic's validation text, subscription notices).
 * SOURCE  spec/aws.md §7, §8; spec/mailgun.md §4.5-4.8.
 */
#ifndef MAIL_SES_EVENT_H
#define MAIL_SES_EVENT_H

#include "mail/event.h"

enum ses_verdict { SES_EVENTS, SES_IGNORED, SES_DEADLETTER };

/* Lists an event puts its recipient on; the values are those of enum suppression. */
enum ses_suppress {
    SES_SUPPRESS_NONE,
    SES_SUPPRESS_BOUNCE,
    SES_SUPPRESS_UNSUBSCRIBE,
    SES_SUPPRESS_COMPLAINT
};

/* What a failure says of the address; the values are those of enum bounce. */
enum ses_bounce { SES_BOUNCE_NONE, SES_BOUNCE_HARD, SES_BOUNCE_SOFT };

struct ses_event {
    /* Type 0: nothing for the reader (Send), or set; domain, tags and the like as far as the event
     * itself tells them: ses_event_complete() adds what the batch knows. */
    struct event event;
    bool settles;       /* it proves that SES took the mail */
    uint64_t batch_id;  /* from postern-batch; 0 = none */
    uint32_t recipient; /* from postern-rcpt: index within the batch */
    bool has_recipient;
    struct slice address; /* as SES writes it */
    size_t destinations;  /* how many recipients that SES call had */
    enum ses_suppress suppress;
    enum ses_bounce bounce;
    struct slice suppress_code, suppress_text;
    struct slice from_domain; /* of mail.source, lower case */
    struct slice kind;        /* SES's event type: part of the identity */
    struct slice identity;    /* what makes it another than one of the same kind at the same time */
};

enum ses_verdict ses_event_parse(struct slice body, struct arena *a, struct ses_event **events,
                                 size_t *count, struct slice *why);

/* Takes over what the batch knows about this recipient: its address as sent, ids, tags, variables.
 */
void ses_event_complete(struct ses_event *e, const struct message_head *head,
                        const struct recipient *recipient, struct arena *a);

/* Gives the event its id; after completion, as the domain is part of it. The rest of it is what SES
 * said: SES's message id, kind, address, time and identity. So it is the same whatever carried it
 * (SNS, EventBridge, raw), however often, and whether the batch is known or not. */
void ses_event_identify(struct ses_event *e);

#endif
