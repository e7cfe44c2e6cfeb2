/*
 * mail/ses_parts.h - what the files mail/ses_*.c share and nobody else includes: a compiled batch,
 * and the parts that more than one of SES's calls has.
 */
#ifndef MAIL_SES_PARTS_H
#define MAIL_SES_PARTS_H

#include "mail/mime.h"
#include "mail/ses_mail.h"

enum ses_header_form {
    FORM_TEXT,      /* unstructured: RFC 2047 */
    FORM_MAILBOXES, /* addresses: display names RFC 2047, domains Punycode */
    FORM_LIST,      /* <…>, <…>: elements fall out one by one */
    FORM_URI,       /* other List-… headers: no encoded words inside */
};

struct ses_header {
    struct slice name;
    enum ses_header_form form;
    struct render_template *elements; /* one, or those of a list */
    size_t count;
    bool needs_list_unsubscribe; /* List-Unsubscribe-Post means nothing alone */
    bool is_list_unsubscribe;
    bool varies;
    struct slice constant; /* when it does not vary: the value, ready for the wire */
};

struct ses_variable {
    struct slice name;
    struct render_template value;
};

struct ses_batch {
    const struct message_head *head;
    const struct message_content *content;
    const struct render_keys *keys;
    const struct ses_setup *setup;
    enum ses_way way;
    bool batch_mode;
    struct render_template from, reply_to, subject, text, html, amp_html;
    struct render_template json_subject, json_text, json_html; /* literals escaped for JSON */
    bool has_reply_to;
    bool lost_list_unsubscribe; /* given, but nothing of it is left for anyone */
    struct ses_header *headers;
    size_t header_count;
    struct ses_variable *vars;
    size_t var_count;
    bool vars_vary;
    struct slice vars_constant;
    struct slice tail; /* `,"ConfigurationSetName":…,"ConfigurationOverrides":…`, or empty */
    struct slice email_id; /* empty = no tag */
    struct slice meta;     /* of all recipients; empty = differs from one to the next */
    const struct slice *encoded_attachments;
    struct slice visible_to, visible_cc;  /* header texts, ready; Raw beyond one call */
    struct slice bulk_prefix;             /* all of a bulk call before its entries */
    bool *used_in_body, *used_in_subject; /* by slot: a template variable of bulk */
    bool bulk_varies_list_unsubscribe;
    uint32_t unknown_count;
    struct ses_mime *mime; /* a whole message was given; else NULL */
};

/* A mail's own header fields, rendered. The values live in the scratch's arena or in the batch. */
struct ses_fields {
    struct name_value *list;
    size_t count;
};

/* ---- mail/ses_headers.c ---- */

void ses_headers_compile(struct ses_batch *b, struct arena *a);
/* One header; false when nothing of it is left. */
bool ses_header_compile(struct ses_batch *b, struct ses_header *h, struct slice name,
                        struct slice value, struct arena *a);
/* The header's value, ready for the wire, in s->header; empty = leave the header out. */
void ses_header_put_value(const struct ses_header *h, const struct slice *values,
                          struct ses_scratch *s);
/* SES_REFUSED and *err: a name that no mail can have. */
enum ses_fit ses_fields_render(const struct ses_batch *b, const struct slice *values,
                               struct ses_scratch *s, struct ses_fields *fields, struct err *err);
/* Does SES's list of headers take them? */
bool ses_fields_fit_list(const struct ses_fields *fields);
/* `[{"Name":…,"Value":…},…]` */
void ses_fields_put_json(struct buf *to, const struct name_value *list, size_t count);

/* ---- mail/ses_parts.c ---- */

/* The variables' values of one recipient. */
struct slice *ses_values_of(const struct ses_batch *b, const struct recipient *reader,
                            struct ses_scratch *s);
/* A template that becomes (part of) a header, as one line of text in s->text. */
struct slice ses_line_of(const struct render_template *t, const struct slice *values,
                         struct ses_scratch *s);
/* A value that reaches a header may not break the line. */
void ses_flatten(struct buf *b);

/* Appends the encoded mailboxes of a header text; at most `most` of them. As JSON strings, or as
 * text for a header. False and *err when there is none, or one that SES cannot take. */
bool ses_put_mailboxes(const char *what, struct slice text, size_t most, bool json,
                       struct ses_scratch *s, struct buf *to, struct err *err);
/* `"FromEmailAddress":…` and, where there is one, `,"ReplyToAddresses":[…]`. */
bool ses_put_from(const struct ses_batch *b, const struct slice *values, struct ses_scratch *s,
                  struct buf *to, struct err *err);
bool ses_put_reply_to(const struct ses_batch *b, const struct slice *values, struct ses_scratch *s,
                      struct buf *to, struct err *err);
/* `"Destination":{…}`. bare: addresses without names (envelope recipients). */
bool ses_put_destination(const struct ses_batch *b, const struct recipient *list, size_t count,
                         uint64_t mask, bool bare, struct ses_scratch *s, struct buf *to,
                         struct err *err);
/* `[{"Name":…,"Value":…},…]` */
void ses_put_tags(const struct ses_batch *b, const struct recipient *reader, uint32_t index,
                  struct ses_scratch *s, struct buf *to);

/* ---- mail/ses_size.c ---- */

/* Is the mail small enough to be made? Asked before anything of it is: what comes after can rely on
 * lines of a header of SES_LINE_MAX bytes and a mail of SES_MESSAGE_MAX, not counting what encoding
 * adds. False and *err: it is refused, whichever way it would go. */
bool ses_mail_fits(const struct ses_batch *b, const struct slice *values, struct err *err);
/* Do the texts stay below SES_MESSAGE_MAX as JSON? Else the mail goes Raw, in base64. */
bool ses_json_fits(const struct ses_batch *b, const struct slice *values);
/* Does a message of so many bytes, and a text behind them? And one with such content? */
bool ses_text_fits(size_t before, struct slice text, enum mime_encoding encoding, struct err *err);
bool ses_content_fits(const struct mime_message *m, struct err *err);
bool ses_size_fits(size_t bytes, struct err *err);
bool ses_line_fits(struct slice name, size_t bytes, struct err *err);
size_t ses_header_length(const struct ses_header *h, const struct slice *values);

/* ---- mail/ses_mime.c ---- */

/* Adds the length of a whole message to *bytes. False and *err: a line of its header is too long. */
bool ses_mime_fits(const struct ses_batch *b, const struct slice *values, size_t *bytes,
                   struct err *err);

void ses_mime_compile(struct ses_batch *b, struct arena *a);
/* The message as this reader gets it. */
bool ses_mime_write(const struct ses_batch *b, const struct recipient *reader,
                    const struct slice *values, struct ses_scratch *s, struct buf *to,
                    struct err *err);

/* `"FromEmailAddress":…` */
bool ses_mime_put_from(const struct ses_batch *b, const struct slice *values, struct ses_scratch *s,
                       struct buf *to, struct err *err);

/* ---- mail/ses_raw.c, mail/ses_bulk.c ---- */

bool ses_value_folds(struct slice value); /* into lines of a mail */

void ses_raw_compile(struct ses_batch *b, struct arena *a);
enum ses_fit ses_raw_render(const struct ses_batch *b, const struct recipient *list, size_t count,
                            uint64_t mask, uint32_t first, const struct slice *values,
                            struct ses_scratch *s, struct buf *to, struct err *err);
/* Decides whether the batch can go in bulk; then makes its prefix. */
bool ses_bulk_compile(struct ses_batch *b, struct arena *a);

#endif
