/* Signatures made here with OpenSSL, of a certificate made here, and everything about them that can
 * be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#include "aws/sns.h"
#include "base/digest.h"

enum { NOW_S = 1772366400 }; /* 2026-03-01 */

static EVP_PKEY *key;

static int make_key(void **state)
{
    (void)state;
    key = EVP_RSA_gen(2048);
    return key == NULL;
}

static int free_key(void **state)
{
    (void)state;
    EVP_PKEY_free(key);
    return 0;
}

static void certificate(struct buf *pem, const char *name, EVP_PKEY *its, int from_s, int until_s)
{
    X509 *x = X509_new();
    X509_NAME *n = X509_NAME_new();
    time_t from = from_s, until = until_s;
    BIO *bio = BIO_new(BIO_s_mem());
    char *text;

    X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_version(x, 2);
    X509_set_subject_name(x, n);
    X509_set_issuer_name(x, n);
    X509_time_adj_ex(X509_getm_notBefore(x), 0, 0, &from);
    X509_time_adj_ex(X509_getm_notAfter(x), 0, 0, &until);
    X509_set_pubkey(x, its);
    assert_true(X509_sign(x, its, EVP_sha256()) > 0);
    assert_int_equal(PEM_write_bio_X509(bio, x), 1);
    buf_reset(pem);
    long len = BIO_get_mem_data(bio, &text);
    buf_add(pem, text, (size_t)len);
    BIO_free(bio);
    X509_NAME_free(n);
    X509_free(x);
}

/* The envelope of the documentation, signed as it says: one name, one value a line, in this order. */
static void signed_envelope(struct buf *body, const char *version, const EVP_MD *digest,
                            bool has_subject)
{
    const char *text =
        has_subject
            ? "Message\n{\"a\":\"é\\n\"}\n\nMessageId\nid-1\nSubject\nA subject\nTimestamp\n"
              "2026-03-01T12:03:13.020Z\nTopicArn\narn:aws:sns:eu-west-1:111122223333:ses-events\n"
              "Type\nNotification\n"
            : "Message\n{\"a\":\"é\\n\"}\n\nMessageId\nid-1\nTimestamp\n"
              "2026-03-01T12:03:13.020Z\nTopicArn\narn:aws:sns:eu-west-1:111122223333:ses-events\n"
              "Type\nNotification\n";
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t bytes[256];
    size_t len = sizeof bytes;
    struct buf base64 = {0};

    assert_int_equal(EVP_DigestSignInit(ctx, NULL, digest, NULL, key), 1);
    assert_int_equal(EVP_DigestSign(ctx, bytes, &len, (const uint8_t *)text, strlen(text)), 1);
    EVP_MD_CTX_free(ctx);
    text_base64(&base64, slice_of(bytes, len));
    buf_reset(body);
    buf_printf(
        body,
        "{\"Type\":\"Notification\",\"MessageId\":\"id-1\",\"TopicArn\":"
        "\"arn:aws:sns:eu-west-1:111122223333:ses-events\",%s"
        "\"Message\":\"{\\\"a\\\":\\\"é\\\\n\\\"}\\n\",\"Timestamp\":\"2026-03-01T12:03:13.020Z\","
        "\"SignatureVersion\":\"%s\",\"Signature\":\"%s\",\"SigningCertURL\":"
        "\"https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0123.pem\"}",
        has_subject ? "\"Subject\":\"A subject\"," : "", version, buf_cstr(&base64));
    buf_fini(&base64);
}

static bool is_good(struct slice body, struct err *err)
{
    struct sns_envelope e;

    if (!sns_envelope_parse(body, &e, err))
        return false;
    bool good = sns_signature_is_good(&e, key, err);
    sns_envelope_free(&e);
    return good;
}

static void both_versions_are_known_with_and_without_a_subject(void **state)
{
    struct buf body = {0};
    struct err err;

    (void)state;
    for (int subject = 0; subject < 2; subject++) {
        signed_envelope(&body, "1", EVP_sha1(), subject);
        assert_true(is_good(buf_slice(&body), &err));
        signed_envelope(&body, "2", EVP_sha256(), subject);
        assert_true(is_good(buf_slice(&body), &err));
        signed_envelope(&body, "1", EVP_sha256(), subject); /* not as it says */
        assert_false(is_good(buf_slice(&body), &err));
        assert_string_equal(err.text, "its signature is not SNS's");
        signed_envelope(&body, "3", EVP_sha256(), subject);
        assert_false(is_good(buf_slice(&body), &err));
        assert_string_equal(err.text, "a signature of version \"3\" is not known");
    }
    buf_fini(&body);
}

/* Each byte of what is signed, and of the signature. */
static void nothing_that_is_signed_can_be_changed(void **state)
{
    static const char *const parts[] = {"id-1", "ses-events", "A subject",        "\"Subject\"",
                                        "é",    "13.020Z",    "\"Signature\":\"", "111122223333"};
    struct buf body = {0};
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        signed_envelope(&body, "2", EVP_sha256(), true);
        size_t at = slice_find(buf_slice(&body), slice_str(parts[i]));
        assert_true(at != SIZE_MAX);
        char *where = (char *)body.ptr + at + strlen(parts[i]) + (i == 6 ? 20 : -1);
        if (i == 3)
            where--; /* another name: as if there were no subject */
        *where = *where == 'A' ? 'B' : 'A';
        if (is_good(buf_slice(&body), &err))
            fail_msg("%s was changed", parts[i]);
    }
    buf_fini(&body);
}

static void what_has_no_signature_is_told_so(void **state)
{
    static const char *const bodies[] = {
        "",
        "no JSON",
        "[]",
        "{\"eventType\":\"Delivery\",\"mail\":{}}",
        "{\"Type\":\"Notification\",\"Message\":\"{}\"}",
        "{\"Type\":\"Notification\",\"Signature\":1,\"SigningCertURL\":\"x\",\"TopicArn\":\"y\"}"};
    struct sns_envelope e;
    struct err err;

    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        assert_false(sns_envelope_parse(slice_str(bodies[i]), &e, &err));
        assert_non_null(strstr(err.text, "raw delivery has none"));
    }
}

static void certificates_come_from_sns_in_the_topics_region_only(void **state)
{
    static const struct {
        const char *url, *region, *origin;
        bool good;
    } cases[] = {
        {"https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a1B.pem", "eu-west-1", "",
         true},
        {"https://sns.cn-north-1.amazonaws.com.cn/SimpleNotificationService-0a.pem", "cn-north-1",
         "", true},
        {"https://sns.us-gov-west-1.amazonaws.com/SimpleNotificationService-0a.pem",
         "us-gov-west-1", "", true},
        {"http://127.0.0.1:4566/SimpleNotificationService-0a.pem", "eu-west-1",
         "http://127.0.0.1:4566", true},
        {"https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a.pem", "eu-west-1",
         "http://127.0.0.1:4566", true},
        {"http://127.0.0.1:4566/SimpleNotificationService-0a.pem", "eu-west-1", "", false},
        {"http://127.0.0.1:45669/SimpleNotificationService-0a.pem", "eu-west-1",
         "http://127.0.0.1:4566", false},
        {"http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a.pem", "eu-west-1", "",
         false},
        {"https://sns.eu-west-2.amazonaws.com/SimpleNotificationService-0a.pem", "eu-west-1", "",
         false},
        {"https://sns.eu-west-1.amazonaws.com.evil.example/SimpleNotificationService-0a.pem",
         "eu-west-1", "", false},
        {"https://sns.eu-west-1.amazonaws.com@evil.example/SimpleNotificationService-0a.pem",
         "eu-west-1", "", false},
        {"https://sns.eu-west-1.amazonaws.com:8443/SimpleNotificationService-0a.pem", "eu-west-1",
         "", false},
        {"https://sns.eu-west-1.amazonaws.com.cn/SimpleNotificationService-0a.pem", "eu-west-1", "",
         false},
        {"https://sns.eu-west-1.amazonaws.com/x/SimpleNotificationService-0a.pem", "eu-west-1", "",
         false},
        {"https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-../a.pem", "eu-west-1", "",
         false},
        {"https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-0a.pem?x", "eu-west-1", "",
         false},
        {"https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-.pem", "eu-west-1", "",
         false},
        {"https://sns.a/b.amazonaws.com/SimpleNotificationService-0a.pem", "a/b", "", false},
        {"https://sns..amazonaws.com/SimpleNotificationService-0a.pem", "", "", false},
        {"", "eu-west-1", "", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (sns_certificate_url_is_good(slice_str(cases[i].url), slice_str(cases[i].region),
                                        slice_str(cases[i].origin)) != cases[i].good)
            fail_msg("%s", cases[i].url);
}

static void a_certificate_must_be_snss_and_in_force(void **state)
{
    struct buf pem = {0};
    int64_t until_s = 0;
    struct err err;
    EVP_PKEY *ec = EVP_EC_gen("P-256");

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        static const char *const names[] = {"sns.amazonaws.com", "sns.cn-north-1.amazonaws.com.cn",
                                            "sns-us-gov-west-1.amazonaws.com"};
        certificate(&pem, names[i], key, NOW_S - 10, NOW_S + 1000);
        EVP_PKEY *got = sns_certificate_key(buf_slice(&pem), NOW_S, &until_s, &err);
        assert_non_null(got);
        assert_int_equal(EVP_PKEY_eq(got, key), 1);
        assert_int_equal(until_s, NOW_S + 1000);
        EVP_PKEY_free(got);
    }
    assert_null(sns_certificate_key(buf_slice(&pem), NOW_S - 11, &until_s, &err));
    assert_string_equal(err.text, "SNS's certificate is not in force now");
    assert_null(sns_certificate_key(buf_slice(&pem), NOW_S + 1001, &until_s, &err));
    certificate(&pem, "s3.amazonaws.com", key, NOW_S - 10, NOW_S + 1000);
    assert_null(sns_certificate_key(buf_slice(&pem), NOW_S, &until_s, &err));
    assert_string_equal(err.text, "the certificate is not SNS's by its name");
    certificate(&pem, "sns.amazonaws.com.example.com", key, NOW_S - 10, NOW_S + 1000);
    assert_null(sns_certificate_key(buf_slice(&pem), NOW_S, &until_s, &err));
    certificate(&pem, "sns.amazonaws.com", ec, NOW_S - 10, NOW_S + 1000);
    assert_null(sns_certificate_key(buf_slice(&pem), NOW_S, &until_s, &err));
    assert_string_equal(err.text, "SNS's certificate has no RSA key");
    assert_null(sns_certificate_key(SLICE("<html>no</html>"), NOW_S, &until_s, &err));
    assert_string_equal(err.text, "SNS's certificate is no PEM certificate");
    EVP_PKEY_free(ec);
    buf_fini(&pem);
}

static void a_topics_arn_has_its_region_and_account(void **state)
{
    struct slice region, account;

    (void)state;
    assert_true(
        sns_topic_parts(SLICE("arn:aws-cn:sns:cn-north-1:111122223333:a-b"), &region, &account));
    assert_true(slice_eq(region, SLICE("cn-north-1")));
    assert_true(slice_eq(account, SLICE("111122223333")));
    assert_false(sns_topic_parts(SLICE("arn:aws:sqs:eu-west-1:1:a"), &region, &account));
    assert_false(sns_topic_parts(SLICE("arn:aws:sns:eu-west-1:1"), &region, &account));
    assert_false(sns_topic_parts(SLICE("arn:aws:sns::1:a"), &region, &account));
    assert_false(sns_topic_parts(SLICE(""), &region, &account));
}

static void a_message_is_published_as_a_form(void **state)
{
    struct buf form = {0};

    (void)state;
    sns_publish_form(&form, SLICE("arn:aws:sns:eu-west-1:1:t"), SLICE("{\"a\":1}"));
    assert_string_equal(buf_cstr(&form),
                        "Action=Publish&Version=2010-03-31&TopicArn=arn%3Aaws%3Asns%3Aeu-west-1%3A1"
                        "%3At&Message=%7B%22a%22%3A1%7D");
    buf_fini(&form);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(both_versions_are_known_with_and_without_a_subject),
        cmocka_unit_test(nothing_that_is_signed_can_be_changed),
        cmocka_unit_test(what_has_no_signature_is_told_so),
        cmocka_unit_test(certificates_come_from_sns_in_the_topics_region_only),
        cmocka_unit_test(a_certificate_must_be_snss_and_in_force),
        cmocka_unit_test(a_topics_arn_has_its_region_and_account),
        cmocka_unit_test(a_message_is_published_as_a_form),
    };
    return cmocka_run_group_tests(tests, make_key, free_key);
}
