/*
 * httpd/body.h - a request's body, decompressed where the client compressed it.
 *
 * SHAPE   Content-Encoding identity, gzip (also x-gzip) or deflate. Several members of gzip one
 *         behind the other are one body.
 * MEMORY  What is given out borrows from the request, or lives in the exchange's arena.
 * ERRORS  false: the exchange has been answered (400: not what its header says, or unknown; 413:
 *         larger than max_body once decompressed, however small it came; 503: no memory).
 */
#ifndef HTTPD_BODY_H
#define HTTPD_BODY_H

#include "httpd/service.h"
#include "mail/form.h"

bool body_read(struct exchange *x, struct slice *body);
/* A body that is a form (mail/form.h), of either kind. false: answered, as above or with what is wrong
 * with the form. */
bool body_read_form(struct exchange *x, struct form *form);

#endif
