/* AWS's shared files as anybody might write them: the first line names the profile, a form feed
 * parts the two files. */
#include <assert.h>
#include <stdlib.h>

#include "aws/profiles.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Nothing is found that does not stand in a file. */
static void assert_within(const struct profiles *p, struct slice found)
{
    struct slice files[] = {buf_slice(&p->credentials), buf_slice(&p->config)};
    bool inside = found.len == 0;

    for (size_t i = 0; i < 2; i++)
        inside = inside || (files[i].len > 0 && found.ptr >= files[i].ptr &&
                            found.ptr + found.len <= files[i].ptr + files[i].len);
    assert(inside);
    assert(slice_find_byte(found, '\n') == SIZE_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice name, rest, credentials, config;
    struct profiles p = {0};
    struct profile found;

    (void)slice_cut(slice_of(data, size), '\n', &name, &rest);
    (void)slice_cut(rest, '\f', &credentials, &config);
    buf_add_slice(&p.credentials, credentials);
    buf_add_slice(&p.config, config);
    profiles_find(&p, name, &found);
    const struct slice texts[] = {found.access_key_id,
                                  found.secret_access_key,
                                  found.session_token,
                                  found.region,
                                  found.role_arn,
                                  found.source_profile,
                                  found.credential_source,
                                  found.external_id,
                                  found.web_identity_token_file,
                                  found.role_session_name,
                                  found.duration_seconds,
                                  found.mfa_serial,
                                  found.unsupported,
                                  found.credential_process};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        assert_within(&p, texts[i]);
        assert(texts[i].len == 0 || found.present);
    }
    profiles_forget(&p);
    return 0;
}
