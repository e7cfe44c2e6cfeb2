/*
 * mail/stored_template.h - a stored template (mail/handlebars.h) put into a message, once for all
 * its recipients: what variables of a recipient its variables name (%recipient.x%) is put in by the
 * senders, as in any other text.
 *
 * MEMORY  Everything given out lives in the arena.
 * ERRORS  false and *why: words for a 400.
 * SOURCE  Mailgun's OpenAPI (headers), manual ("Sending messages with templates").
 */
#ifndef MAIL_STORED_TEMPLATE_H
#define MAIL_STORED_TEMPLATE_H

#include "base/arena.h"
#include "base/json.h"

enum {
    STORED_STEPS_MAX = 500 * 1000, /* of mail/handlebars.h, for a message */
    STORED_BYTES_MAX = 8 << 20,    /* of all that is rendered */
};

struct stored_template {
    struct slice content;
    struct slice headers; /* as stored_headers_read() gave it; empty = none */
};

/* What a template says of headers: an object of texts named From, Subject and Reply-To, which are
 * templates too. headers: the same as compact JSON; empty when it names none. */
bool stored_headers_read(struct slice text, struct arena *a, struct slice *headers,
                         struct slice *why);

struct rendered_template {
    struct slice html, from, subject, reply_to; /* absent = empty */
};

/* variables: an object. */
bool stored_template_render(const struct stored_template *t, const cJSON *variables,
                            struct arena *a, struct rendered_template *rendered, struct slice *why);

#endif
