/*
 * SNS's signatures, made from its documentation and not with the code that checks them, by a key
 * and a certificate of the sandbox's own.
 */
#include <assert.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "sandbox/cloud.h"

enum { RSA_BITS = 2048, DAY_S = 86400 };

struct cloud_notary {
    EVP_PKEY *key;
    struct buf pem, path;
};

static void write_certificate(struct cloud_notary *n)
{
    X509 *x = X509_new();
    X509_NAME *name = X509_NAME_new();
    time_t now = (time_t)(clock_wall_ms() / 1000), from = now - DAY_S, until = now + 365 * DAY_S;
    BIO *bio = BIO_new(BIO_s_mem());
    char *pem;

    bool made =
        x != NULL && name != NULL && bio != NULL &&
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                   (const unsigned char *)"sns.amazonaws.com", -1, -1, 0) == 1 &&
        X509_set_version(x, 2) == 1 && ASN1_INTEGER_set(X509_get_serialNumber(x), 1) == 1 &&
        X509_set_subject_name(x, name) == 1 && X509_set_issuer_name(x, name) == 1 &&
        X509_time_adj_ex(X509_getm_notBefore(x), 0, 0, &from) != NULL &&
        X509_time_adj_ex(X509_getm_notAfter(x), 0, 0, &until) != NULL &&
        X509_set_pubkey(x, n->key) == 1 && X509_sign(x, n->key, EVP_sha256()) > 0 &&
        PEM_write_bio_X509(bio, x) == 1;
    assert(made);
    long len = BIO_get_mem_data(bio, &pem);
    buf_add(&n->pem, pem, (size_t)len);
    (void)BIO_free(bio);
    X509_NAME_free(name);
    X509_free(x);
}

/* At the first notification that is signed: a key takes its time. */
static struct cloud_notary *notary_of(struct cloud *c)
{
    uint8_t id[16];

    if (c->notary != NULL)
        return c->notary;
    c->notary = mem_zero(1, sizeof *c->notary);
    c->notary->key = EVP_RSA_gen(RSA_BITS);
    assert(c->notary->key != NULL);
    write_certificate(c->notary);
    digest_random(id, sizeof id);
    buf_add_str(&c->notary->path, "/SimpleNotificationService-");
    text_hex(&c->notary->path, slice_of(id, sizeof id));
    buf_add_str(&c->notary->path, ".pem");
    return c->notary;
}

void cloud_notary_destroy(struct cloud_notary *n)
{
    if (n == NULL)
        return;
    EVP_PKEY_free(n->key);
    buf_fini(&n->pem);
    buf_fini(&n->path);
    free(n);
}

void cloud_notary_sign(struct cloud *c, struct slice text, bool with_sha256, struct buf *base64)
{
    struct cloud_notary *n = notary_of(c);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t signature[RSA_BITS / 8];
    size_t len = sizeof signature;

    bool made =
        ctx != NULL &&
        EVP_DigestSignInit(ctx, NULL, with_sha256 ? EVP_sha256() : EVP_sha1(), NULL, n->key) == 1 &&
        EVP_DigestSign(ctx, signature, &len, text.ptr, text.len) == 1;
    assert(made);
    EVP_MD_CTX_free(ctx);
    text_base64(base64, slice_of(signature, len));
}

void cloud_notary_put_url(struct cloud *c, struct buf *to)
{
    buf_add_str(to, c->url);
    buf_add_slice(to, buf_slice(&notary_of(c)->path));
}

bool cloud_notary_certificate(struct cloud *c, struct slice path, struct slice *pem)
{
    if (c->notary == NULL || !slice_eq(path, buf_slice(&c->notary->path)))
        return false;
    *pem = buf_slice(&c->notary->pem);
    return true;
}
