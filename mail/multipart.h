/*
 * mail/multipart.h - the parts of a multipart/form-data body (RFC 7578, RFC 2046).
 *
 * MEMORY  Values borrow from the body; names and the array live in the arena.
 * ERRORS  false: no boundary, a part without end, without a header block or without a name, a
 *         control character in a part's headers, a missing closing boundary, or more than
 *         MULTIPART_PARTS_MAX parts.
 */
#ifndef MAIL_MULTIPART_H
#define MAIL_MULTIPART_H

#include "mail/form.h"

enum { MULTIPART_PARTS_MAX = 20000, MULTIPART_HEADER_BYTES_MAX = 16384 };

/* The boundary parameter of a Content-Type value, unquoted; empty when there is none. */
struct slice multipart_boundary(struct slice content_type, struct arena *a);

bool multipart_parse(struct slice body, struct slice boundary, struct arena *a, struct form *form);

/* A parameter of a header value (`; name="value"`), unquoted; false when it is not there. */
bool header_parameter(struct slice value, struct slice name, struct arena *a, struct slice *out);

#endif
