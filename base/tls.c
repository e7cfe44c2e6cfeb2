#include "base/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

enum { EXPIRY_WARN_DAYS = 14 };

/* What OpenSSL says of its last failure. */
static int fail(struct err *err, const char *file, const char *what)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = ERR_reason_error_string(code);

    ERR_clear_error();
    return err_set(err, ERR_CONFIG, "%s: %s (%s)", file, what, reason != NULL ? reason : "?");
}

static int refuse_passphrase(char *buf, int size, int writing, void *arg)
{
    (void)buf, (void)size, (void)writing, (void)arg;
    return -1; /* nobody is there to ask */
}

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                           const unsigned char *in, unsigned in_len, void *arg)
{
    static const unsigned char ours[] = "\x08http/1.1";
    unsigned char *chosen;

    (void)ssl, (void)arg;
    if (SSL_select_next_proto(&chosen, out_len, ours, sizeof ours - 1, in, in_len) !=
        OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_NOACK;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static void warn_of_expiry(const SSL_CTX *tls, const char *certificate)
{
    const ASN1_TIME *end = X509_get0_notAfter(SSL_CTX_get0_certificate(tls));
    int days, seconds;

    if (ASN1_TIME_diff(&days, &seconds, NULL, end) == 1 && days < EXPIRY_WARN_DAYS)
        log_warn("%s: the certificate %s", certificate,
                 days < 0 || seconds < 0 ? "has expired" : "expires within two weeks");
}

static int load(SSL_CTX *tls, const char *certificate, const char *key, struct err *err)
{
    if (SSL_CTX_use_certificate_chain_file(tls, certificate) != 1)
        return fail(err, certificate, "no certificate in PEM can be read");
    if (SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
        return fail(err, key,
                    "no private key in PEM (without a passphrase) can be read, or it does "
                    "not belong to the certificate");
    if (SSL_CTX_check_private_key(tls) != 1)
        return fail(err, key, "the key does not belong to the certificate");
    warn_of_expiry(tls, certificate);
    return 0;
}

struct ssl_ctx_st *tls_context_create(const char *certificate, const char *key, struct err *err)
{
    static const unsigned char name[] = "postern";
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());

    ERR_clear_error();
    if (tls == NULL) {
        (void)fail(err, "TLS", "cannot be set up");
        return NULL;
    }
    (void)SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
    SSL_CTX_set_options(tls, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    (void)SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS);
    (void)SSL_CTX_set_session_id_context(tls, name, sizeof name - 1);
    /* Sessions travel in tickets alone: a cache would be another in each child. */
    (void)SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_select_cb(tls, choose_protocol, NULL);
    SSL_CTX_set_default_passwd_cb(tls, refuse_passphrase);
    if (load(tls, certificate, key[0] != '\0' ? key : certificate, err) != 0) {
        SSL_CTX_free(tls);
        return NULL;
    }
    return tls;
}

void tls_context_free(struct ssl_ctx_st *tls)
{
    SSL_CTX_free(tls);
}
