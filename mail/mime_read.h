/*
 * mail/mime_read.h - a whole MIME message taken apart, and undoing its encodings. The one door to
 * GMime.
 *
 * SHAPE   The message is not copied into a tree: it is a list of spans, in order and apart from
 *         each other. A FIELD is a header field with its line end; a BODY what a part holds,
 *         without the line end before the boundary. What lies between two spans are boundaries,
 *         blank lines, preambles, and lines of a header that are no fields.
 *         Line ends may be CRLF or LF, also mixed.
 * ENDS    httpd and sender, after fork(): GMime is set up at the first call.
 * MEMORY  Spans borrow from the message, texts and arrays live in the caller's arena. GMime's own
 *         objects are gone when a function returns.
 * ERRORS  mime_read(): false and *why, a sentence for the client, for what is no message, is nested
 *         deeper than MIME_DEPTH_MAX, or would need memory without measure. What mail programs put
 *         up with (no closing boundary, a header without a blank line behind it) is read as they
 *         do.
 * SOURCE  RFC 2045 to 2047, 2183, 2231, 5322.
 */
#ifndef MAIL_MIME_READ_H
#define MAIL_MIME_READ_H

#include "base/arena.h"
#include "base/buf.h"

enum {
    MIME_DEPTH_MAX = 100,
    MIME_FIELDS_MAX = 100000, /* lines that look like header fields; GMime takes 500 bytes each */
    MIME_BOUNDARIES_MAX = 100000, /* lines that could be boundaries */
};

/* Content-Transfer-Encoding. */
enum mime_given { GIVEN_PLAIN, GIVEN_BINARY, GIVEN_QUOTED_PRINTABLE, GIVEN_BASE64, GIVEN_OTHER };

/* A message or a part of one: a header, and what comes behind it. */
struct mime_entity {
    bool is_message;    /* the whole, or an attached one; not a part */
    bool is_attached;   /* within an attached message */
    bool is_leaf;       /* has a body, not parts */
    bool is_text;       /* a leaf of text/… */
    bool is_attachment; /* Content-Disposition: attachment */
    enum mime_given given;
    struct slice charset; /* empty = not said */
    size_t body;          /* place of its span, when it is a leaf */
};

enum mime_span_kind {
    MIME_HEAD_END, /* empty; behind the last field of an entity */
    MIME_FIELD,
    MIME_BODY,
};

struct mime_span {
    enum mime_span_kind kind;
    size_t begin, end; /* in the message */
    size_t entity;
    struct slice name, value; /* a field's; the value as written, blanks at its ends trimmed */
};

struct mime_tree {
    struct slice message;         /* without the line before it that a mailbox file has */
    struct mime_entity *entities; /* the first is the message */
    size_t entity_count;
    struct mime_span *spans; /* the first is a field of the message */
    size_t span_count;
};

bool mime_read(struct slice message, struct arena *a, struct mime_tree *tree, const char **why);

/* A header value on one line, otherwise as it is. */
struct slice mime_line_of(struct slice value, struct arena *a);

/* A header value as UTF-8 on one line, with its encoded words undone. Bytes in no known encoding
 * become what GMime guesses. */
struct slice mime_text_of(struct slice value, struct arena *a);

/* Appends the bytes that an encoded body stands for. GIVEN_OTHER: false. */
bool mime_decode(struct slice body, enum mime_given given, struct buf *to);

/* Appends text in this charset (empty = US-ASCII) as UTF-8; false when it is not that. */
bool mime_to_utf8(struct slice text, struct slice charset, struct buf *to);

/* The values of Content-Type and Content-Disposition fields, in ASCII (RFC 2231), CRLF where they
 * are folded. charset not empty: with this parameter. */
struct slice mime_content_type(struct slice value, struct slice charset, struct arena *a);
struct slice mime_disposition(struct slice value, struct arena *a);

#endif
