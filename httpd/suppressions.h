/*
 * httpd/suppressions.h - what the handlers of a domain's lists share.
 *
 * SOURCE  spec/mailgun.md §5.
 */
#ifndef HTTPD_SUPPRESSIONS_H
#define HTTPD_SUPPRESSIONS_H

#include "httpd/service.h"
#include "store/suppressions.h"

/* Mailgun's words about a list. */
struct suppression_words {
    const char *table;     /* in "…has been added to the bounces table" */
    const char *one, *few; /* what is added: "Address", "addresses" */
    const char *removed, *removed_all, *not_found, *not_deleted;
};

const struct suppression_words *suppression_words(enum suppression list);

/* Appends the entry as Mailgun's record. */
void suppression_put_json(struct buf *to, enum suppression list,
                          const struct suppression_entry *entry);

/* What a client says of one address. */
enum { SUPPRESSION_TAGS_MAX = 100 };
struct suppression_wish {
    struct slice address, code, text, created_at;
    bool is_domain; /* the allowlist's: address is one */
    struct slice tags[SUPPRESSION_TAGS_MAX];
    size_t tag_count;
};

/* A name of a form, of an object, of a CSV's column (in any case), with its value. Unknown ones are
 * passed over. Borrows the value. */
void suppression_wish_set(struct suppression_wish *w, struct slice name, struct slice value);

/* Wishes on their way to the writer, in records of bounded size, one after the other. */
struct suppressions_adding;

/* In x's arena; it is x->pending. */
struct suppressions_adding *suppressions_adding_begin(struct exchange *x);
/* False and *wrong, for the client, when it is none for x's list. */
bool suppressions_adding_take(struct suppressions_adding *a, const struct suppression_wish *w,
                              struct slice *wrong);
/* Hands them over and ends the exchange when the last one is committed: with this status and
 * message. alone: the one that a form named, to be repeated in the answer. A list is not put up as
 * a whole: after a failure in the middle what was stored stays, and the same again is no harm. */
void suppressions_adding_end(struct suppressions_adding *a, int status, struct slice message,
                             const struct suppression_wish *alone);
size_t suppressions_adding_count(const struct suppressions_adding *a);
/* Ends the exchange with nothing added. */
void suppressions_adding_refuse(struct suppressions_adding *a, int status, struct slice wrong);

#endif
