#include "httpd/auth.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/digest.h"
#include "base/mem.h"

struct auth_key {
    const struct config_domain *domain;
    uint8_t digest[SHA256_BYTES];
    bool only_sending;
};

struct auth {
    struct auth_key *keys; /* in the order of the domains */
    size_t count, domain_count;
    uint8_t (*metrics)[SHA256_BYTES]; /* digests of keys that may read all figures */
    size_t metrics_count;
};

static void add(struct auth *auth, const struct config_domain *domain,
                const struct config_list *keys, bool only_sending)
{
    auth->keys = mem_grow(auth->keys, (auth->count + keys->count + 1) * sizeof *auth->keys);
    for (size_t i = 0; i < keys->count; i++) {
        struct slice text = slice_str(keys->texts[i]);
        struct auth_key *key = &auth->keys[auth->count];

        *key = (struct auth_key){.domain = domain, .only_sending = only_sending};
        if (!slice_is_empty(text) && config_key_digest(text, key->digest))
            auth->count++;
    }
}

static void add_for_metrics(struct auth *auth, struct slice key)
{
    if (!slice_is_empty(key) && config_key_digest(key, auth->metrics[auth->metrics_count]))
        auth->metrics_count++;
}

struct auth *auth_create(const struct config *config)
{
    struct auth *auth = mem_zero(1, sizeof *auth);

    auth->metrics = mem_zero(config->api_keys.count + 1, sizeof *auth->metrics);
    for (size_t i = 0; i < config->api_keys.count; i++)
        add_for_metrics(auth, slice_str(config->api_keys.texts[i]));
    add_for_metrics(auth, slice_str(config->metrics.key));

    auth->domain_count = config->domain_count;
    for (size_t i = 0; i < config->domain_count; i++) {
        const struct config_domain *domain = &config->domains[i];

        add(auth, domain, &config->api_keys, false);
        add(auth, domain, &domain->api_keys, false);
        add(auth, domain, &domain->sending_keys, true);
    }
    return auth;
}

void auth_destroy(struct auth *auth)
{
    if (auth == NULL)
        return;
    free(auth->keys);
    free(auth->metrics);
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

size_t auth_check(const struct auth *auth, struct slice header, enum auth_purpose purpose,
                  struct arena *a, const struct config_domain ***domains)
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
            (purpose == AUTH_SENDING || !key->only_sending) &&
            (count == 0 || (*domains)[count - 1] != key->domain))
            (*domains)[count++] = key->domain;
    }
    return count;
}

bool auth_may_read_metrics(const struct auth *auth, struct slice header)
{
    const struct slice bearer = SLICE("Bearer ");
    uint8_t digest[SHA256_BYTES];
    bool may = false;

    if (slice_starts_nocase(header, bearer))
        digest_sha256(slice_trim(slice_from(header, bearer.len)), digest);
    else if (!read_credentials(header, digest))
        return false;
    for (size_t i = 0; i < auth->metrics_count; i++)
        if (digest_equal(slice_of(digest, sizeof digest),
                         slice_of(auth->metrics[i], sizeof auth->metrics[i])))
            may = true;
    return may;
}

void auth_fingerprint(struct slice header, char text[AUTH_FINGERPRINT])
{
    uint8_t d[SHA256_BYTES];

    if (read_credentials(header, d))
        (void)snprintf(text, AUTH_FINGERPRINT, "sha256:%02x%02x%02x%02x...", d[0], d[1], d[2],
                       d[3]);
    else
        (void)snprintf(text, AUTH_FINGERPRINT, "(none)");
}
