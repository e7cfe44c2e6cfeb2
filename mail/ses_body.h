/*
 * mail/ses_body.h - the JSON body of SES's SendEmail with Simple content: what all recipients of a
 * batch share is escaped once, what differs is put between per recipient.
 *
 * SHAPE   One body per recipient in batch mode; else one body for all recipients given, who see
 * each other. Text and HTML go as UTF-8; header values are printable ASCII on one line (RFC 2047
 *         where needed), as SES's header list wants them.
 *         EmailTags: postern-batch (16 hex digits), postern-rcpt (index in the batch, decimal; of
 *         the first one when there are several), email-id, postern-meta (base64url of domain,
 * message id and tags, a line each). A tag that SES's alphabet or length does not allow is left
 * out. MEMORY  A compiled batch lives in the caller's arena and borrows from head, content and
 * keys. ERRORS  false and *err from ses_batch_render(): this mail cannot be expressed; the text is
 * for a person. Other recipients of the batch are not affected. SOURCE  spec/aws.md §5 SendEmail,
 * §6; spec/ghost.md §8; spec/mailgun.md §2.4 to 2.7.
 */
#ifndef MAIL_SES_BODY_H
#define MAIL_SES_BODY_H

#include "base/err.h"
#include "mail/render.h"

enum {
    SES_HEADERS_MAX = 15,
    SES_HEADER_NAME_MAX = 126,
    SES_HEADER_VALUE_MAX = 995,
    SES_HEADER_MAX = 996, /* name and value together */
    SES_TAG_MAX = 256,
};

struct ses_batch;

struct ses_setup {
    uint64_t batch_id;
    struct slice configuration_set; /* empty = none is named */
    bool override_tracking;         /* say ENABLED or DISABLED for this message */
};

/* What rendering needs of room, kept between recipients. {0} is empty. */
struct ses_scratch {
    struct arena arena;
    struct buf text, header;
};
void ses_scratch_fini(struct ses_scratch *s);

struct ses_batch *ses_batch_compile(const struct message_head *head,
                                    const struct message_content *content,
                                    const struct render_keys *keys, const struct ses_setup *setup,
                                    struct arena *a);

/* list[0..count): a slice of recipients, the first of which is number `first` of the batch. mask:
 * bit i stands for list[i]; one bit in batch mode. Appends the body to *to (on failure: a part of
 * it). */
bool ses_batch_render(const struct ses_batch *b, const struct recipient *list, size_t count,
                      uint64_t mask, uint32_t first, struct ses_scratch *scratch, struct buf *to,
                      struct err *err);

/* Placeholders without a value in the whole batch that stay as text or cost a header: for the log.
 */
uint32_t ses_batch_unknown_count(const struct ses_batch *b);

#endif
