/*
 * mail/ses_mail.h - a batch's mails as SES's calls want them, three ways: SendBulkEmail with an
 * inline template, SendEmail with Simple content, SendEmail with Raw MIME. What all recipients
 * share is made ready once, what differs is put between per recipient.
 *
 * SHAPE   Bulk: one body for up to 50 recipients in batch mode. Simple and Raw: one body per
 *         recipient in batch mode; else one for all recipients given, who see each other (Raw: who
 *         see all of the batch's). Text and HTML go as UTF-8; header values are printable ASCII on
 *         one line (RFC 2047 where needed).
 *         Tags: postern-batch (16 hex digits), postern-rcpt (index in the batch, decimal; of the
 *         first one when there are several), email-id, postern-meta (base64url of domain, message
 *         id and tags, a line each). A tag that SES's alphabet or length does not allow is left
 *         out.
 *         A batch's cc and bcc go along with each mail, as Mailgun has it.
 * SAME    Whichever way a mail goes, its reader gets the same: tests/e2e/three_ways.test.mjs.
 * MEMORY  A compiled batch lives in the caller's arena and borrows from head, content, keys and
 *         setup.
 * ERRORS  SES_REFUSED and *err: this mail cannot be expressed in any way; the text is for a person.
 *         Other recipients of the batch are not affected.
 * SOURCE  spec/aws.md §5 and §6; spec/ghost.md §8; spec/mailgun.md §2.4 to 2.7.
 */
#ifndef MAIL_SES_MAIL_H
#define MAIL_SES_MAIL_H

#include "base/err.h"
#include "mail/render.h"

enum {
    SES_HEADERS_MAX = 15,
    SES_HEADER_NAME_MAX = 126,
    SES_HEADER_VALUE_MAX = 870, /* documented in places as 995; what lies between goes Raw */
    SES_TAG_MAX = 256,
    SES_DESTINATIONS_MAX = 50,      /* of one message */
    SES_BULK_BODY_MAX = 1000000,    /* of JSON with an inline template: 1 MB */
    SES_BULK_PREFIX_MAX = 900000,   /* leaves room for recipients */
    SES_TEMPLATE_DATA_MAX = 250000, /* of one recipient: 262,144 characters */
    SES_MESSAGE_MAX = 40000000,     /* of one mail, encoded: 40 MB */
    SES_LINE_MAX = 100000           /* of one header value before it is encoded: ours */
};

/* Cheapest first. */
enum ses_way { SES_BULK, SES_SIMPLE, SES_RAW };

enum ses_fit {
    SES_FITS,
    SES_NEEDS_RAW, /* this recipient's headers are more than SES's list takes: go Raw */
    SES_REFUSED,
};

struct ses_batch;

struct ses_setup {
    uint64_t batch_id;
    struct slice configuration_set; /* empty = none is named */
    bool override_tracking;         /* say ENABLED or DISABLED for this message */
    bool allow_bulk;
    bool always_raw;
    /* In batch mode: cc and bcc, copied with each mail. Else, when the batch has more recipients
     * than one call takes: all of them, for the headers To and Cc. */
    const struct recipient *others;
    size_t other_count;
};

/* What rendering needs of room, kept between recipients. {0} is empty. */
struct ses_scratch {
    struct arena arena;
    struct buf text, header, mime;
    /* Placeholders without a value in what was rendered so far: names that the batch does not have,
     * and those that this recipient lacks. */
    uint64_t unresolved;
};
void ses_scratch_fini(struct ses_scratch *s);

struct ses_batch *ses_batch_compile(const struct message_head *head,
                                    const struct message_content *content,
                                    const struct render_keys *keys, const struct ses_setup *setup,
                                    struct arena *a);

/* How the batch goes; single recipients of it may still need SES_RAW. */
enum ses_way ses_batch_way(const struct ses_batch *b);
/* Copies that go along with each mail in batch mode: they count against the rate. */
size_t ses_batch_copies(const struct ses_batch *b);

/* Can SES take this address at all? Else *err says why not. */
bool ses_recipient_fits(const struct recipient *r, struct ses_scratch *s, struct err *err);

/* list[0..count): a slice of recipients, the first of which is number `first` of the batch. mask:
 * bit i stands for list[i]; one bit in batch mode. Appends the body to *to (unless SES_FITS: a part
 * of it). way: SES_SIMPLE or SES_RAW. */
enum ses_fit ses_render_one(const struct ses_batch *b, enum ses_way way,
                            const struct recipient *list, size_t count, uint64_t mask,
                            uint32_t first, struct ses_scratch *s, struct buf *to, struct err *err);

/* Only where ses_batch_way() is SES_BULK: at most `most` of the mask's recipients, as many as fit
 * into one call. Returns those in the body, in the order of its entries; *apart gets those that no
 * entry can carry (ses_render_one() tells how they go). Both empty: never. */
uint64_t ses_render_bulk(const struct ses_batch *b, const struct recipient *list, size_t count,
                         uint64_t mask, unsigned most, uint32_t first, struct ses_scratch *s,
                         struct buf *to, uint64_t *apart);

/* Placeholders without a value in the whole batch that stay as text or cost a header: for the log.
 */
uint32_t ses_batch_unknown_count(const struct ses_batch *b);

#endif
