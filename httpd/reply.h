/*
 * httpd/reply.h - answers in Mailgun's shape. Each function ends the exchange.
 *
 * SHAPE   JSON is compact, with a final newline, as application/json; charset=utf-8.
 * SOURCE  spec/mailgun.md §1.2, §1.3.
 */
#ifndef HTTPD_REPLY_H
#define HTTPD_REPLY_H

#include "httpd/service.h"

/* Takes over what body holds and leaves it empty; the newline is added here. */
void reply_json(struct exchange *x, int status, struct buf *body);
/* Any other type. Takes over what body holds. */
void reply_bytes(struct exchange *x, int status, const char *type, struct buf *body);
void reply_message(struct exchange *x, int status, struct slice message);
void reply_later(struct exchange *x, int status, unsigned retry_after_s, struct slice message);
void reply_unauthorized(struct exchange *x);
void reply_method_not_allowed(struct exchange *x);

/* What is done and logged from here on is about this one, until exchange_leave(). */
void exchange_enter(const struct exchange *x);
void exchange_leave(void);

/* Ends the exchange without an answer: the process is leaving. */
void exchange_drop(struct exchange *x);

/* "GET"; what no route allows is "(other)". */
const char *exchange_method(const struct exchange *x);

/* Appends scheme and authority that the client used: "https://mail.example.com". public_url as
 * configured (empty = none); host: the Host header. A Host that is none becomes "localhost". */
void reply_base_url(struct buf *to, struct slice public_url, bool tls, struct slice host);
/* The same for this exchange: as public_url says, else as the client or its proxy does. */
void exchange_base_url(const struct exchange *x, struct buf *to);

/* A read transaction. NULL: the exchange has been answered with a 503. */
struct store_txn *exchange_begin_read(struct exchange *x);

void exchange_set_header(struct exchange *x, const char *name, const char *value);
void exchange_replace_header(struct exchange *x, const char *name, const char *value);
struct slice exchange_header(const struct exchange *x, const char *name);

#endif
