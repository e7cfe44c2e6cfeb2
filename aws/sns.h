/*
 * aws/sns.h - publishing to SNS; and its signature of a notification: what is signed, by whom, and
 * whether it is good.
 *
 * SHAPE   An envelope of type "Notification", as it lies in a queue. Version 1 is RSA (PKCS #1 v1.5)
 *         with SHA-1, version 2 with SHA-256; the topic's owner chooses.
 * MEMORY  sns_envelope_parse() gives what sns_envelope_free() frees; its slices borrow from it. A
 *         key from sns_certificate_key() is freed with EVP_PKEY_free().
 * ERRORS  false or NULL, and *err tells what is not as SNS makes it.
 * TRUST   The certificate comes over HTTPS from a host of SNS's in the topic's own region: TLS says
 *         that it is Amazon's, its name and its dates that it is SNS's and in force. SNS sends it
 *         without its issuer's, so there is no chain to build from it.
 * SOURCE  spec/aws.md §8; AWS, "Verifying the signatures of Amazon SNS messages".
 */
#ifndef AWS_SNS_H
#define AWS_SNS_H

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

struct evp_pkey_st; /* OpenSSL's EVP_PKEY */

enum { SNS_CERTIFICATE_MAX_BYTES = 64 * 1024 };

struct sns_envelope {
    cJSON *tree;
    struct slice message, message_id, subject, timestamp, topic_arn;
    struct slice version, signature, certificate_url;
    bool has_subject;
};

/* False: no envelope, or one without a signature. */
bool sns_envelope_parse(struct slice body, struct sns_envelope *e, struct err *err);
void sns_envelope_free(struct sns_envelope *e);

/* Region and account of "arn:aws:sns:REGION:ACCOUNT:NAME"; false when it is none. */
bool sns_topic_parts(struct slice arn, struct slice *region, struct slice *account);

/* Whether the URL names a certificate of SNS's in this region: https, sns.REGION.amazonaws.com
 * (.com.cn in China), /SimpleNotificationService-….pem. origin: where SNS is instead, as the
 * configuration says ("http://127.0.0.1:4566"); empty = nowhere else. */
bool sns_certificate_url_is_good(struct slice url, struct slice region, struct slice origin);

/* Fills *form with a call that publishes this message, of up to 256 KiB. */
void sns_publish_form(struct buf *form, struct slice topic_arn, struct slice message);

/* Appends what SNS signs. */
void sns_put_signed_text(struct buf *to, const struct sns_envelope *e);

/* The public key of a PEM certificate that is in force at now_wall_s and is SNS's by name, and until
 * when it is. */
struct evp_pkey_st *sns_certificate_key(struct slice pem, int64_t now_wall_s, int64_t *until_wall_s,
                                        struct err *err);

bool sns_signature_is_good(const struct sns_envelope *e, struct evp_pkey_st *key, struct err *err);

#endif
