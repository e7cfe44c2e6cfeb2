#include "httpd/auth.h"

#include <stdlib.h>

#include "base/digest.h"
#include "base/mem.h"

struct auth_key {
    const struct config_domain *domain;
    uint8_t digest[SHA256_BYTES];
};

struct auth {
    struct auth_key *keys;
    size_t count, domain_count;
};

struct auth *auth_create(const struct config *config)
{
    struct auth *auth = mem_zero(1, sizeof *auth);
    size_t count = 0;

    for (size_t i = 0; i < config->domain_count; i++)
        count += config->domains[i].api_keys.count;
    auth->keys = mem_zero(count + 1, sizeof *auth->keys);
    auth->domain_count = config->domain_count;
    for (size_t i = 0; i < config->domain_count; i++) {
        const struct config_domain *domain = &config->domains[i];

        for (size_t k = 0; k < domain->api_keys.count; k++) {
            struct slice key = slice_str(domain->api_keys.texts[k]);

            if (slice_is_empty(key))
                continue;
            auth->keys[auth->count].domain = domain;
            digest_sha256(key, auth->keys[auth->count].digest);
            auth->count++;
        }
    }
    return auth;
}

void auth_destroy(struct auth *auth)
{
    if (auth == NULL)
        return;
    free(auth->keys);
    free(auth);
}

/* "Basic base64(api:KEY)": the digest of KEY. */
static bool read_credentials(struct slice header, uint8_t digest[SHA256_BYTES])
{
    const struct slice scheme = SLICE("Basic ");
    struct buf plain = {0};
    struct slice user, key;
    bool fine = false;

    if (!slice_starts_nocase(header, scheme))
        return false;
    if (text_from_base64(&plain, slice_trim(slice_from(header, scheme.len))) &&
        slice_cut(buf_slice(&plain), ':', &user, &key) && slice_eq(user, SLICE("api")) &&
        !slice_is_empty(key)) {
        digest_sha256(key, digest);
        fine = true;
    }
    if (plain.ptr != NULL)
        explicit_bzero(plain.ptr, plain.cap);
    buf_fini(&plain);
    return fine;
}

size_t auth_check(const struct auth *auth, struct slice header, struct arena *a,
                  const struct config_domain ***domains)
{
    uint8_t digest[SHA256_BYTES];
    size_t count = 0;

    *domains = NULL;
    if (!read_credentials(header, digest))
        return 0;
    *domains = arena_array(a, auth->domain_count + 1, sizeof **domains);
    for (size_t i = 0; i < auth->count; i++) {
        const struct auth_key *key = &auth->keys[i];

        if (digest_equal(slice_of(digest, sizeof digest),
                         slice_of(key->digest, sizeof key->digest)) &&
            (count == 0 || (*domains)[count - 1] != key->domain))
            (*domains)[count++] = key->domain;
    }
    return count;
}
