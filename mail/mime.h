/*
 * mail/mime.h - a whole MIME message, written from header lines and parts that are ready.
 *
 * SHAPE   Header fields in the order given, CRLF, folded where a line would pass 78 characters and
 *         a blank allows it; never a line beyond 998 bytes. Then the smallest structure that holds
 *         what is there:
 *             multipart/mixed            only with attachments
 *               multipart/related        only with inline parts, beside html
 *                 multipart/alternative  only with more than one of text, amp_html, html
 *                   text/plain, text/x-amp-html, text/html      in this order, charset UTF-8
 *                 inline parts           base64, Content-ID, Content-Disposition: inline
 *               attachments              base64, Content-Disposition: attachment
 *         Texts go as 7bit where they are short-lined ASCII, else quoted-printable, or base64 where
 *         that is shorter. Line ends of texts become CRLF.
 * MEMORY  Everything is borrowed for the call; the message is appended to the caller's buf.
 * ERRORS  None: header values that hold CR, LF or NUL are a bug of the caller (assert); values with
 *         other than ASCII too (they are encoded words by then).
 * SOURCE  RFC 2045, 2046, 2047, 2183, 2231 (file names), 5322; spec/aws.md §5 Content.Raw.
 */
#ifndef MAIL_MIME_H
#define MAIL_MIME_H

#include "mail/message.h"

struct mime_message {
    const struct name_value *headers; /* without MIME-Version and Content-…: ours */
    size_t header_count;
    struct slice text, html, amp_html; /* UTF-8; empty = absent. All empty: an empty text/plain */
    /* Inline ones (content_id not empty) and attachments, in any order. content_type empty =
     * application/octet-stream. */
    const struct attachment *attachments;
    size_t attachment_count;
    /* Attachments already in base64 lines (mime_base64_lines), one per attachment, so that a batch
     * encodes them once; NULL = encode data here. */
    const struct slice *encoded;
    /* Makes boundaries: 16 bytes that differ from message to message. */
    const uint8_t *boundary_seed;
};

void mime_write(struct buf *to, const struct mime_message *m);
/* The bytes of what it carries, as mime_write() would encode it: header values, texts and files. The
 * rest of the message (names of types, boundaries) is small. Nothing is written for it. */
size_t mime_content_length(const struct mime_message *m);

/* ---- pieces, for who puts a message together in another way ---- */

enum { MIME_LINE_MAX = 998 }; /* bytes, without CRLF: RFC 5322 2.1.1 */

enum mime_encoding { MIME_7BIT, MIME_QUOTED_PRINTABLE, MIME_BASE64 };
const char *mime_encoding_name(enum mime_encoding encoding);

/* What mime_write() would take for this text. */
enum mime_encoding mime_encoding_of(struct slice text);
/* The text as it is to be decoded again: with a line end behind it only where it has one (base64
 * lines all end). MIME_7BIT changes line ends only. */
void mime_put_text(struct buf *to, struct slice text, enum mime_encoding encoding);
/* How many bytes mime_put_text() would append. */
size_t mime_text_length(struct slice text, enum mime_encoding encoding);

/* SES refuses a mail in which such a field stands twice: the last one counts. SOURCE spec/aws.md
 * §6.
 */
bool mime_stands_once(struct slice name);

/* One header field, folded. */
void mime_put_field(struct buf *to, struct slice name, struct slice value);

/* data as base64 in lines of 76 characters, each with CRLF. */
void mime_base64_lines(struct buf *to, struct slice data);

#endif
