/* The input as a notification's envelope, as a certificate's URL, and as a certificate. */
#include <assert.h>
#include <openssl/evp.h>
#include <stdint.h>

#include "aws/sns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice input = slice_of(data, size), region, account;
    struct sns_envelope e;
    struct buf text = {0};
    int64_t until_s;
    struct err err;

    if (sns_envelope_parse(input, &e, &err)) {
        if (sns_topic_parts(e.topic_arn, &region, &account) &&
            sns_certificate_url_is_good(e.certificate_url, region, slice_none()))
            assert(slice_starts(e.certificate_url, SLICE("https://sns.")));
        sns_put_signed_text(&text, &e);
        assert(text.len >= e.message.len + e.topic_arn.len);
        sns_envelope_free(&e);
    }
    if (sns_certificate_url_is_good(input, SLICE("eu-west-1"), SLICE("http://127.0.0.1:1")))
        assert(slice_starts(input, SLICE("https://sns.eu-west-1.amazonaws.com/")) ||
               slice_starts(input, SLICE("http://127.0.0.1:1/")));
    EVP_PKEY_free(sns_certificate_key(input, 1772366400, &until_s, &err));
    buf_fini(&text);
    return 0;
}
