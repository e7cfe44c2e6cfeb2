/*
 * mail/ses_address.h - addresses and header text as SES's JSON wants them: printable ASCII, one
 * line.
 *
 * SHAPE   Display names and unstructured text: RFC 2047 encoded words (UTF-8, base64), joined by
 *         a blank, never folded. Domains: Punycode (libcurl's and DNS's xn-- form).
 * MEMORY  Parsed texts live in the arena or borrow from the text.
 * ERRORS  false: no mailbox list; or an address that SES cannot take (no @, blanks, a local part
 *         that is not ASCII).
 * SOURCE  RFC 5322 §3.4, RFC 2047, RFC 3492; spec/aws.md §5.
 */
#ifndef MAIL_SES_ADDRESS_H
#define MAIL_SES_ADDRESS_H

#include "base/arena.h"
#include "base/buf.h"

struct ses_mailbox {
    struct slice name; /* unquoted; empty = none */
    struct slice address;
};

/* name <a@b>, "quoted, \"name\"" <a@b>, a@b, a@b (comment); comma-separated; no groups. */
bool ses_mailboxes_parse(struct slice text, struct arena *a, struct ses_mailbox **list,
                         size_t *count);

/* Appends `name <address>`, or the address alone. */
bool ses_mailbox_encode(struct buf *to, struct slice name, struct slice address);

/* Are these one address, spelled twice? Case (SES folds the local part's as well as the domain's, and
 * so do readers' servers), Punycode, and a local part in quotes that it needs or not make no
 * difference. */
bool ses_address_same(struct slice a, struct slice b);

/* Appends unstructured header text. */
void ses_text_encode(struct buf *to, struct slice text);

#endif
