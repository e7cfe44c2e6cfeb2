/*
 * mail/address.h - mailbox lists as clients write them into a form, read strictly: what passes can
 * be answered with "queued".
 *
 * SHAPE   a@b, Name <a@b>, "quoted, \"name\"" <a@b>, comments, raw UTF-8 names, names in RFC 2047
 *         encoded words; comma-separated, empty elements are skipped. No groups, no routes.
 * MEMORY  Texts borrow from the list, or live in the arena when something had to be undone.
 * ERRORS  ADDRESS_BAD for the whole list: the caller refuses it.
 * SOURCE  RFC 5322 §3.4, RFC 2047, spec/mailgun.md §2.3.
 *
 * Lenient where SES can say no for one recipient alone: odd dots in a local part, local parts
 * beyond ASCII, domains that do not exist.
 */
#ifndef MAIL_ADDRESS_H
#define MAIL_ADDRESS_H

#include "base/arena.h"
#include "base/buf.h"

enum {
    ADDRESS_BYTES_MAX = 320, /* RFC 3696: 64 + @ + 255 */
    ADDRESS_LABEL_MAX = 252, /* bytes: 63 characters of UTF-8 */
};

enum address_result { ADDRESS_OK, ADDRESS_END, ADDRESS_BAD };

struct mailbox {
    struct slice name;    /* decoded UTF-8 without control characters; empty = none */
    struct slice address; /* bare, as written */
};

/* Takes the next mailbox off *list. */
enum address_result address_next(struct slice *list, struct arena *a, struct mailbox *m);

bool address_is_valid(struct slice address); /* local@domain */
bool address_is_domain(struct slice s); /* what may stand behind the @, of two labels or more */

/* Appends the address with the ASCII letters of its domain part in lower case. */
void address_fold(struct buf *to, struct slice address);

/* Appends whose mail a From header is: its one address, folded. Of a From that is not one mailbox
 * (variables may make it one): the text as it is. */
void address_of_from(struct buf *to, struct slice from);

#endif
