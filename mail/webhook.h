/*
 * mail/webhook.h - webhooks: the kinds of events they are told, what a URL may be, and what is
 * posted there.
 *
 * SHAPE   A body is {"signature":{"timestamp","token","signature"},"event-data":{…}}: the event as
 *         the API gives it (mail/event.h), led by an HMAC-SHA256, in lower-case hex, of timestamp
 *         and token one behind the other. All three are texts.
 * UNITS   Seconds since 1970 UTC.
 * SOURCE  spec/mailgun.md §8.
 */
#ifndef MAIL_WEBHOOK_H
#define MAIL_WEBHOOK_H

#include "mail/event.h"

enum webhook_kind {
    WEBHOOK_NONE,
    WEBHOOK_ACCEPTED,
    WEBHOOK_DELIVERED,
    WEBHOOK_OPENED,
    WEBHOOK_CLICKED,
    WEBHOOK_UNSUBSCRIBED,
    WEBHOOK_COMPLAINED,
    WEBHOOK_PERMANENT_FAIL,
    WEBHOOK_TEMPORARY_FAIL,
    WEBHOOK_KIND_END,
};

enum {
    WEBHOOK_URLS_MAX = 3, /* of a kind */
    WEBHOOK_URL_BYTES_MAX = 2048,
    WEBHOOK_SECRET_BYTES = 25, /* of a token: twice as many characters */
};

const char *webhook_kind_name(enum webhook_kind kind); /* "permanent_fail" */
/* Mailgun's names of today, and those of its older webhooks; WEBHOOK_NONE = none of them. */
enum webhook_kind webhook_kind_from(struct slice name);
/* Whom an event is told; WEBHOOK_NONE = nobody. */
enum webhook_kind webhook_kind_of(const struct event *e);

/* http or https, with a host; user and password may stand before it. *why: in words. */
bool webhook_url_is_valid(struct slice url, const char **why);

/* token: any WEBHOOK_SECRET_BYTES random bytes, new ones for each attempt, as receivers remember
 * tokens against replays. storage_base as in event_to_json(). */
void webhook_body(struct buf *to, struct slice signing_key, uint64_t timestamp_s,
                  const uint8_t token[WEBHOOK_SECRET_BYTES], const struct event *e,
                  struct slice storage_base);

#endif
