/*
 * mail/mime_clean.h - a message as a client gave it becomes one that SES takes.
 *
 * SHAPE   What is fine stays as it is, byte for byte. Changed are: line ends, which become CRLF;
 *         fields of the message that do not go out (Bcc, X-Mailgun-…, X-SES-…, what SES writes
 *         itself), or stand twice where SES takes one (the last counts); fields that hold other
 *         than ASCII, or a line too long; bodies that hold 8-bit text, NUL, or a line too long:
 *         they are encoded anew, and what they say is the same.
 * MEMORY  The result is appended to the caller's buf.
 * ERRORS  false and *why: what the message has that cannot be sent, for behind "the message ".
 * SOURCE  spec/mailgun.md §3; spec/aws.md §5 Content.Raw, §6.
 */
#ifndef MAIL_MIME_CLEAN_H
#define MAIL_MIME_CLEAN_H

#include "mail/message.h"
#include "mail/mime_read.h"

/* own: fields that replace those of the message by the same name, UTF-8 on one line. */
bool mime_clean(const struct mime_tree *tree, const struct name_value *own, size_t own_count,
                struct arena *a, struct buf *to, struct slice *why);

/* A field that a client may not set, or that no reader is to see. */
bool mime_is_taken(struct slice name);

#endif
