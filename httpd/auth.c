#include "httpd/auth.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/config_keys.h"
#include "base/mem.h"
#include "store/keys.h"

struct auth {
    const struct config *config;
    struct config_keys keys;
};

struct auth *auth_create(const struct config *config)
{
    struct auth *auth = mem_zero(1, sizeof *auth);

    auth->config = config;
    config_keys_read(config, &auth->keys);
    return auth;
}

void auth_destroy(struct auth *auth)
{
    if (auth == NULL)
        return;
    config_keys_fini(&auth->keys);
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

/* What one key opens: a place for each domain of the configuration. */
struct opening {
    const struct config *config;
    enum auth_purpose purpose;
    bool *opens, *is_withdrawn;
};

static void mark(const struct config *config, bool *marks, const struct config_domain *domain)
{
    if (domain != NULL)
        marks[domain - config->domains] = true;
    for (size_t i = 0; domain == NULL && i < config->domain_count; i++)
        marks[i] = true;
}

static bool serves(enum auth_purpose purpose, bool only_sending)
{
    return purpose == AUTH_SENDING || !only_sending;
}

static bool on_row(void *arg, const struct key_row *row)
{
    const struct opening *o = arg;
    const struct config_domain *domain = config_domain_find(o->config, row->domain);

    if (row->domain.len > 0 && domain == NULL)
        return true;
    if (row->state == KEY_WITHDRAWN)
        mark(o->config, o->is_withdrawn, domain);
    else if (serves(o->purpose, row->only_sending))
        mark(o->config, o->opens, domain);
    return true;
}

size_t auth_check(const struct auth *auth, struct store_txn *t, struct slice header,
                  enum auth_purpose purpose, struct arena *a, const struct config_domain ***domains)
{
    const struct config *config = auth->config;
    uint8_t digest[SHA256_BYTES];
    size_t count = 0;

    *domains = NULL;
    if (!read_credentials(header, digest))
        return 0;
    struct opening o = {config, purpose, arena_array(a, config->domain_count + 1, sizeof *o.opens),
                        arena_array(a, config->domain_count + 1, sizeof *o.is_withdrawn)};
    for (size_t i = 0; i < auth->keys.count; i++) {
        const struct config_key *key = &auth->keys.list[i];

        if (digest_is(key->digest, digest) && key->kind != CONFIG_KEY_METRICS &&
            serves(purpose, key->kind == CONFIG_KEY_SENDING))
            mark(config, o.opens, key->domain);
    }
    if (t != NULL)
        keys_of(t, digest, on_row, &o);
    *domains = arena_array(a, config->domain_count + 1, sizeof **domains);
    for (size_t i = 0; i < config->domain_count; i++)
        if (o.opens[i] && !o.is_withdrawn[i])
            (*domains)[count++] = &config->domains[i];
    return count;
}

struct figures {
    bool may, is_withdrawn;
};

static bool on_figures_row(void *arg, const struct key_row *row)
{
    struct figures *f = arg;

    if (row->state == KEY_WITHDRAWN)
        f->is_withdrawn = true;
    else if (row->domain.len == 0 && !row->only_sending)
        f->may = true;
    return true;
}

bool auth_may_read_metrics(const struct auth *auth, struct store_txn *t, struct slice header)
{
    const struct slice bearer = SLICE("Bearer ");
    uint8_t digest[SHA256_BYTES];
    struct figures f = {0};

    if (slice_starts_nocase(header, bearer))
        digest_sha256(slice_trim(slice_from(header, bearer.len)), digest);
    else if (!read_credentials(header, digest))
        return false;
    for (size_t i = 0; i < auth->keys.count; i++) {
        const struct config_key *key = &auth->keys.list[i];

        if (digest_is(key->digest, digest) && key->domain == NULL)
            f.may = true;
    }
    if (t != NULL)
        keys_of(t, digest, on_figures_row, &f);
    return f.may && !f.is_withdrawn;
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
