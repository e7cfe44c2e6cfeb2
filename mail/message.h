/*
 * mail/message.h - a message as Mailgun's form describes it, and how the store keeps it.
 *
 * SHAPE   Three parts, packed with base/pack as arrays in the order of their members, led by a
 * version: head        small, never changes: what events and books need of a batch content     what
 * is sent: read once by a sender, compiled, kept while it has leases recipients  cut into slices of
 * LEASE_RECIPIENTS_MAX (50), each packed by itself MEMORY  Structs borrow all texts; arrays live in
 * the caller's arena. ERRORS  unpack functions answer false for anything that does not fit exactly;
 * the bytes come from the store or from an httpd, and are checked alike.
 */
#ifndef MAIL_MESSAGE_H
#define MAIL_MESSAGE_H

#include "base/arena.h"
#include "base/buf.h"

enum {
    MESSAGE_RECIPIENTS_MAX = 1000, /* Mailgun's, spec/mailgun.md §2.9 */
    MESSAGE_TAGS_MAX = 10,
    MESSAGE_SLICE = 50, /* = LEASE_RECIPIENTS_MAX */
};

/* What a message says of open or click tracking. */
enum tracking { TRACKING_UNSET, TRACKING_ON, TRACKING_OFF };

struct name_value {
    struct slice name, value;
};

struct message_head {
    struct slice domain;     /* as configured, lower case */
    struct slice message_id; /* without brackets; with h:Message-Id and a variable: that text,
                                brackets cut */
    struct slice email_id;   /* v:email-id; empty = none */
    struct slice from;       /* as sent, UTF-8 */
    struct slice to;         /* header text when it is no batch: all To addresses; else empty */
    struct slice subject;    /* as sent, variables unexpanded */
    struct slice *tags;      /* ≤ MESSAGE_TAGS_MAX, first spelling */
    size_t tag_count;
    struct name_value *vars; /* v: parameters, email-id among them */
    size_t var_count;
    bool testmode;
    bool batch_mode;               /* recipient-variables was present */
    bool message_id_per_recipient; /* message_id holds %recipient.x% */
    uint64_t accepted_wall_us;
    uint64_t due_wall_ms; /* 0 = at once */
    uint64_t size_bytes;  /* of text and html, for events */
    uint32_t recipient_count;
    uint32_t lane;           /* enum lane */
    struct slice request_id; /* of the HTTP request that brought it; empty = of before there were */
};

struct attachment {
    struct slice filename, content_type;
    struct slice content_id; /* inline parts; empty for attachments */
    struct slice data;
};

struct message_content {
    struct slice from; /* header text, UTF-8, may hold variables */
    struct slice subject;
    struct slice text, html, amp_html; /* absent = empty */
    struct name_value
        *headers; /* h: parameters in order, but Message-Id; values unexpanded. Reply-To too. */
    size_t header_count;
    struct name_value *vars; /* for X-Mailgun-Variables */
    size_t var_count;
    struct attachment *attachments;
    size_t attachment_count;
    enum tracking opens, clicks;
    bool batch_mode;
    bool suppress_variables_header; /* o:suppress-headers names X-Mailgun-Variables or all */
    /* messages.mime: the whole message, as SES takes it (mail/mime_clean.h); subject, texts,
     * headers and attachments above are empty then. Empty = none. */
    struct slice mime;
};

enum recipient_kind { RECIPIENT_TO, RECIPIENT_CC, RECIPIENT_BCC };

struct recipient {
    enum recipient_kind kind;
    struct slice address;    /* bare, exactly as sent (case kept) */
    struct slice name;       /* display name, UTF-8, decoded; empty = none */
    struct name_value *vars; /* recipient-variables of this address; values are text */
    size_t var_count;
};

void message_head_pack(struct buf *to, const struct message_head *h);
bool message_head_unpack(struct slice from, struct arena *a, struct message_head *h);
void message_content_pack(struct buf *to, const struct message_content *c);
bool message_content_unpack(struct slice from, struct arena *a, struct message_content *c);
/* One slice: 1..50 recipients. */
void recipients_pack(struct buf *to, const struct recipient *list, size_t count);
bool recipients_unpack(struct slice from, struct arena *a, struct recipient **list, size_t *count);
/* Only the recipient at place `at` of a packed slice; false when there is none. Those before it are
 * passed over, whatever they hold. */
bool recipients_unpack_one(struct slice from, size_t at, struct arena *a, struct recipient *one);

#endif
