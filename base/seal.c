#include "base/seal.h"

#include <assert.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/digest.h"

enum seal_use { USE_NAME = 'n', USE_CIPHER = 'c' };

/* What a secret is, for one purpose and use. */
static void derive(struct slice secret, struct slice purpose, enum seal_use use,
                   uint8_t out[SHA256_BYTES])
{
    struct buf text = {0};

    buf_add_byte(&text, (uint8_t)use);
    buf_add_slice(&text, purpose);
    digest_hmac_sha256(secret, buf_slice(&text), out);
    buf_fini(&text);
}

void seal_name(struct slice secret, struct slice purpose, uint8_t name[SEAL_NAME_BYTES])
{
    uint8_t whole[SHA256_BYTES];

    derive(secret, purpose, USE_NAME, whole);
    memcpy(name, whole, SEAL_NAME_BYTES);
    OPENSSL_cleanse(whole, sizeof whole);
}

/* Ready for the text, with what goes beside it taken in. */
static EVP_CIPHER_CTX *begin(struct slice secret, struct slice purpose, struct slice beside,
                             const uint8_t *nonce, bool sealing)
{
    uint8_t key[SHA256_BYTES];
    EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
    int len;

    assert(ctx != NULL && beside.len <= INT_MAX);
    derive(secret, purpose, USE_CIPHER, key);
    int ok = EVP_CipherInit_ex(ctx, EVP_aes_256_gcm(), NULL, key, nonce, sealing ? 1 : 0);
    OPENSSL_cleanse(key, sizeof key);
    if (ok == 1 && beside.len > 0)
        ok = EVP_CipherUpdate(ctx, NULL, &len, beside.ptr, (int)beside.len);
    assert(ok == 1);
    return ctx;
}

void seal_make(struct slice secret, struct slice purpose, struct slice beside, struct slice plain,
               struct buf *to)
{
    uint8_t nonce[SEAL_NONCE_BYTES];
    int len = 0, rest = 0;

    assert(plain.len > 0 && plain.len <= INT_MAX);
    digest_random(nonce, sizeof nonce);
    EVP_CIPHER_CTX *ctx = begin(secret, purpose, beside, nonce, true);
    uint8_t *at = buf_reserve(to, SEAL_NONCE_BYTES + plain.len + SEAL_TAG_BYTES);
    memcpy(at, nonce, SEAL_NONCE_BYTES);
    at += SEAL_NONCE_BYTES;
    int ok = EVP_CipherUpdate(ctx, at, &len, plain.ptr, (int)plain.len) == 1 &&
             EVP_CipherFinal_ex(ctx, at + len, &rest) == 1 &&
             EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, SEAL_TAG_BYTES, at + plain.len) == 1;
    assert(ok && (size_t)(len + rest) == plain.len);
    to->len += SEAL_NONCE_BYTES + plain.len + SEAL_TAG_BYTES;
    EVP_CIPHER_CTX_free(ctx);
}

bool seal_open(struct slice secret, struct slice purpose, struct slice beside, struct slice sealed,
               struct buf *plain)
{
    uint8_t tag[SEAL_TAG_BYTES];
    int len = 0, rest = 0;

    if (sealed.len <= SEAL_NONCE_BYTES + SEAL_TAG_BYTES || sealed.len > INT_MAX)
        return false;
    struct slice text = slice_from(sealed, SEAL_NONCE_BYTES);
    text.len -= SEAL_TAG_BYTES;
    memcpy(tag, text.ptr + text.len, SEAL_TAG_BYTES); /* the library takes no const one */
    EVP_CIPHER_CTX *ctx = begin(secret, purpose, beside, sealed.ptr, false);
    uint8_t *at = buf_reserve(plain, text.len);
    bool fits = EVP_CipherUpdate(ctx, at, &len, text.ptr, (int)text.len) == 1 &&
                EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, SEAL_TAG_BYTES, tag) == 1 &&
                EVP_CipherFinal_ex(ctx, at + len, &rest) == 1;
    if (fits)
        plain->len += text.len;
    else
        OPENSSL_cleanse(at, text.len);
    EVP_CIPHER_CTX_free(ctx);
    return fits;
}
