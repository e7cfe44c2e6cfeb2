/*
 * mail/form.h - from a request body to a message: multipart/form-data or urlencoded, then Mailgun's
 * fields, or a whole MIME message beside them.
 *
 * MEMORY  Everything given out lives in the caller's arena or borrows from the body.
 * ERRORS  false and *why:
 * HTTP    status and Mailgun's own words (spec/mailgun.md §2.9), to answer as {"message":"…"}.
 *         Nothing was kept.
 * SOURCE  spec/mailgun.md §2 and §3; spec/ghost.md §2.
 */
#ifndef MAIL_FORM_H
#define MAIL_FORM_H

#include "mail/message.h"
#include "mail/stored_template.h"

struct refusal {
    int status;           /* 400, 413, … */
    struct slice message; /* for the client */
};

struct form_field {
    struct slice name, value;
    bool is_file; /* had a filename parameter */
    struct slice filename, content_type;
};

struct form {
    struct form_field *fields;
    size_t count;
    bool is_multipart; /* not urlencoded */
};

/* content_type: the header's value (empty = none). */
bool form_parse(struct slice content_type, struct slice body, struct arena *a, struct form *form,
                struct refusal *why);

struct submission {
    struct message_head head;
    struct message_content content;
    struct recipient
        *recipients; /* no duplicates (first wins); To, then Cc, then Bcc when no batch */
    size_t recipient_count;
    struct slice answer_id; /* for the 200's "id": with brackets, or h:Message-Id verbatim */
};

struct submission_context {
    struct slice domain;      /* as configured, lower case */
    struct slice path_domain; /* as the URL wrote it: for the generated id */
    uint64_t now_us;
    uint64_t random;                        /* 64 bits, for the generated id */
    const struct stored_template *template; /* that the form names; NULL = there is no such */
};

/* The template that a form names, and (t:version; else empty) its version. False: none. */
bool submission_template(const struct form *form, struct slice *name, struct slice *tag);

/* POST /v3/{domain}/messages. Fills head entirely (due_wall_ms, lane and recipient_count too). */
bool submission_from_form(const struct form *form, const struct submission_context *context,
                          struct arena *a, struct submission *s, struct refusal *why);

/* POST /v3/{domain}/messages.mime: the same from a field `message`, a whole MIME message. What its
 * header says of options, the form's own fields overrule. */
bool submission_from_mime(const struct form *form, const struct submission_context *context,
                          struct arena *a, struct submission *s, struct refusal *why);

/* CLAIM_BYTES (16) of SHA-256 over (domain, email-id, address with its domain part lower-cased,
 * testmode), per recipient, appended to *to; nothing when the message has no email-id.
 * SOURCE spec/ghost.md §6. */
void submission_claims(const struct submission *s, struct buf *to);

/* CLAIM_BYTES of SHA-256 over all fields in order, names and values, and over the domain: two POSTs
 * with the same are the same message, when the first answer was lost. */
void form_digest(const struct form *form, struct slice domain, uint8_t out[16]);

#endif
