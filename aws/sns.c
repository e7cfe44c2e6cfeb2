#include "aws/sns.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <time.h>

#include "aws/query.h"
#include "base/digest.h"

bool sns_envelope_parse(struct slice body, struct sns_envelope *e, struct err *err)
{
    *e = (struct sns_envelope){.tree = json_parse(body)};
    const cJSON *subject = json_get(e->tree, "Subject");

    e->message = json_get_text(e->tree, "Message");
    e->message_id = json_get_text(e->tree, "MessageId");
    e->has_subject = cJSON_IsString(subject);
    e->subject = json_text(subject);
    e->timestamp = json_get_text(e->tree, "Timestamp");
    e->topic_arn = json_get_text(e->tree, "TopicArn");
    e->version = json_get_text(e->tree, "SignatureVersion");
    e->signature = json_get_text(e->tree, "Signature");
    e->certificate_url = json_get_text(e->tree, "SigningCertURL");
    if (slice_eq(json_get_text(e->tree, "Type"), SLICE("Notification")) && e->signature.len > 0 &&
        e->certificate_url.len > 0 && e->topic_arn.len > 0)
        return true;
    sns_envelope_free(e);
    (void)err_set(err, ERR_INPUT,
                  "it carries no signature of SNS's (raw delivery has none: set "
                  "RawMessageDelivery of the subscription to false, or queues.verify_sns)");
    return false;
}

void sns_envelope_free(struct sns_envelope *e)
{
    json_free(e->tree);
    *e = (struct sns_envelope){0};
}

bool sns_topic_parts(struct slice arn, struct slice *region, struct slice *account)
{
    struct slice arn_word, partition, service, name;

    return slice_cut(arn, ':', &arn_word, &arn) && slice_eq(arn_word, SLICE("arn")) &&
           slice_cut(arn, ':', &partition, &arn) && slice_cut(arn, ':', &service, &arn) &&
           slice_eq(service, SLICE("sns")) && slice_cut(arn, ':', region, &arn) &&
           slice_cut(arn, ':', account, &name) && region->len > 0 && account->len > 0 &&
           name.len > 0;
}

/* Letters, digits and hyphens: of a region, of a certificate's file. */
static bool is_plain(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!((s.ptr[i] >= 'a' && s.ptr[i] <= 'z') || (s.ptr[i] >= 'A' && s.ptr[i] <= 'Z') ||
              (s.ptr[i] >= '0' && s.ptr[i] <= '9') || s.ptr[i] == '-'))
            return false;
    return s.len > 0;
}

static bool skip(struct slice *s, struct slice prefix)
{
    if (!slice_starts(*s, prefix))
        return false;
    *s = slice_from(*s, prefix.len);
    return true;
}

bool sns_certificate_url_is_good(struct slice url, struct slice region, struct slice origin)
{
    bool is_china = slice_starts(region, SLICE("cn-"));

    if (!is_plain(region))
        return false;
    if ((origin.len == 0 || !skip(&url, origin)) &&
        (!skip(&url, SLICE("https://sns.")) || !skip(&url, region) ||
         !skip(&url, is_china ? SLICE(".amazonaws.com.cn") : SLICE(".amazonaws.com"))))
        return false;
    return skip(&url, SLICE("/SimpleNotificationService-")) && url.len > 4 &&
           slice_eq(slice_from(url, url.len - 4), SLICE(".pem")) &&
           is_plain(slice_of(url.ptr, url.len - 4));
}

static void put_field(struct buf *to, const char *name, struct slice value)
{
    buf_add_str(to, name);
    buf_add_byte(to, '\n');
    buf_add_slice(to, value);
    buf_add_byte(to, '\n');
}

void sns_put_signed_text(struct buf *to, const struct sns_envelope *e)
{
    put_field(to, "Message", e->message);
    put_field(to, "MessageId", e->message_id);
    if (e->has_subject)
        put_field(to, "Subject", e->subject);
    put_field(to, "Timestamp", e->timestamp);
    put_field(to, "TopicArn", e->topic_arn);
    put_field(to, "Type", SLICE("Notification"));
}

/* "sns.amazonaws.com" in most regions, the region's own in China and GovCloud. */
static bool is_sns_by_name(X509 *certificate)
{
    char name[256];
    int len = X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name,
                                        sizeof name);
    struct slice s = slice_of(name, len > 0 ? (size_t)len : 0);

    if (slice_ends_nocase(s, SLICE(".cn")))
        s.len -= 3;
    return slice_starts(s, SLICE("sns")) && slice_ends_nocase(s, SLICE(".amazonaws.com"));
}

static bool read_until(X509 *certificate, int64_t *until_wall_s)
{
    struct tm tm;

    if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &tm) != 1)
        return false;
    *until_wall_s = timegm(&tm);
    return true;
}

EVP_PKEY *sns_certificate_key(struct slice pem, int64_t now_wall_s, int64_t *until_wall_s,
                              struct err *err)
{
    time_t now = (time_t)now_wall_s;
    BIO *bio = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    X509 *certificate = bio == NULL ? NULL : PEM_read_bio_X509(bio, NULL, NULL, NULL);
    EVP_PKEY *key = NULL;

    if (certificate == NULL)
        (void)err_set(err, ERR_INPUT, "SNS's certificate is no PEM certificate");
    else if (!is_sns_by_name(certificate))
        (void)err_set(err, ERR_INPUT, "the certificate is not SNS's by its name");
    else if (X509_cmp_time(X509_get0_notBefore(certificate), &now) != -1 ||
             X509_cmp_time(X509_get0_notAfter(certificate), &now) != 1 ||
             !read_until(certificate, until_wall_s))
        (void)err_set(err, ERR_INPUT, "SNS's certificate is not in force now");
    else if ((key = X509_get_pubkey(certificate)) == NULL || !EVP_PKEY_is_a(key, "RSA"))
        (void)err_set(err, ERR_INPUT, "SNS's certificate has no RSA key");
    if (key != NULL && !EVP_PKEY_is_a(key, "RSA")) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    X509_free(certificate);
    (void)BIO_free(bio);
    return key;
}

static bool verify(EVP_PKEY *key, const EVP_MD *digest, struct slice text, struct slice signature)
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool good = ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, digest, NULL, key) == 1 &&
                EVP_DigestVerify(ctx, signature.ptr, signature.len, text.ptr, text.len) == 1;

    EVP_MD_CTX_free(ctx);
    return good;
}

bool sns_signature_is_good(const struct sns_envelope *e, EVP_PKEY *key, struct err *err)
{
    bool is_1 = slice_eq(e->version, SLICE("1")), is_2 = slice_eq(e->version, SLICE("2"));
    struct buf text = {0}, signature = {0};

    if (!is_1 && !is_2) {
        (void)err_set(err, ERR_INPUT, "a signature of version \"%.*s\" is not known",
                      (int)(e->version.len < 16 ? e->version.len : 16),
                      (const char *)e->version.ptr);
        return false;
    }
    sns_put_signed_text(&text, e);
    bool good =
        text_from_base64(&signature, e->signature) &&
        verify(key, is_1 ? EVP_sha1() : EVP_sha256(), buf_slice(&text), buf_slice(&signature));
    if (!good)
        (void)err_set(err, ERR_INPUT, "its signature is not SNS's");
    buf_fini(&text);
    buf_fini(&signature);
    return good;
}

void sns_publish_form(struct buf *form, struct slice topic_arn, struct slice message)
{
    query_begin(form, AWS_SNS, "Publish");
    query_add(form, "TopicArn", topic_arn);
    query_add(form, "Message", message);
}
