/*
 * httpd/cookie.h - the dashboard's session in a Cookie header; without I/O.
 *
 * SHAPE   postern_session=64 lower-case hexadecimal digits: a secret that the browser alone has. The
 *         store keeps its SHA-256 (store/logins.h). Other cookies are passed over.
 * SOURCE  RFC 6265 §4.2.1, §5.4.
 */
#ifndef HTTPD_COOKIE_H
#define HTTPD_COOKIE_H

#include <stdint.h>

#include "base/buf.h"

#define COOKIE_NAME "postern_session"

enum { COOKIE_SECRET_BYTES = 32 };

/* The first of that name that is well-formed; false: there is none. */
bool cookie_read(struct slice header, uint8_t secret[COOKIE_SECRET_BYTES]);

/* A Set-Cookie value: for this path and what is below it, out of scripts' reach, never sent along
 * from other sites. seconds 0: the browser is to forget it. */
void cookie_put(struct buf *to, const uint8_t secret[COOKIE_SECRET_BYTES], struct slice path,
                uint64_t seconds, bool secure);

/* What a script of ours has to repeat in X-CSRF-Token: in hexadecimal, it does not tell the secret. */
void cookie_csrf(struct buf *to, const uint8_t secret[COOKIE_SECRET_BYTES]);

#endif
