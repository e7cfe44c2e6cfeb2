/*
 * postern key new - a fresh API key, and the line that lets it in without standing in the file.
 */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/json.h"
#include "cli/options.h"

enum { KEY_BYTES = 20 }; /* 160 bits: no slow hash is needed to keep them */

int cli_key(const struct cli_options *o)
{
    uint8_t random[KEY_BYTES], digest[SHA256_BYTES];
    struct buf key = {0}, hex = {0}, json = {0};

    if (o->words[0] == NULL || strcmp(o->words[0], "new") != 0 || o->words[1] != NULL) {
        (void)fprintf(stderr, "usage: postern key new [--json]\n");
        return CLI_WRONG_USE;
    }
    digest_random(random, sizeof random);
    buf_add_str(&key, "key-");
    text_hex(&key, slice_of(random, sizeof random));
    digest_sha256(buf_slice(&key), digest);
    text_hex(&hex, slice_of(digest, sizeof digest));
    if (o->json) {
        buf_add_byte(&json, '{');
        json_put_str(&json, "key", buf_slice(&key));
        json_put_str(&json, "sha256", buf_slice(&hex));
        (void)printf("%s}\n", buf_cstr(&json));
    } else {
        (void)printf(
            "%s\n\n"
            "Keep it where the client (Ghost) reads it; it is not shown again. In proxy.conf:\n\n"
            "    api_keys = {\"sha256:%s\"}\n\n"
            "beside those that stand there, in a domain (or above all of them, for all; or as\n"
            "sending_keys, to send only). HUP takes it over.\n",
            buf_cstr(&key), buf_cstr(&hex));
    }
    explicit_bzero(key.ptr, key.cap);
    buf_fini(&key);
    buf_fini(&hex);
    buf_fini(&json);
    return CLI_DONE;
}
