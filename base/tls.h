/*
 * base/tls.h - TLS as a server: a certificate and its key, read once and checked.
 *
 * SHAPE   TLS 1.2 and newer, HTTP/1.1 by ALPN, OpenSSL's own choice of ciphers (Debian: security
 *         level 2). A context made before fork() lets a client resume its session with whichever
 *         child it meets next.
 * ERRORS  NULL and *err, which names the file and what is wrong with it.
 */
#ifndef BASE_TLS_H
#define BASE_TLS_H

#include "base/err.h"

struct ssl_ctx_st; /* OpenSSL's SSL_CTX */

/* PEM files: the certificate with its chain behind it, and the key (empty = in the same file; no
 * passphrase). The caller ends it with tls_context_free(). */
struct ssl_ctx_st *tls_context_create(const char *certificate, const char *key, struct err *err);
void tls_context_free(struct ssl_ctx_st *tls); /* wipes the key; NULL is fine */

#endif
