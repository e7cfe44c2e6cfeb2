/*
 * base/config_keys.h - the API keys that stand in the configuration, one after another.
 *
 * SHAPE   A key that stands in several places is there as often. Keys are known as their SHA-256,
 *         whether the file holds them so or plainly.
 * MEMORY  config_keys_read() gives what config_keys_fini() frees; domains borrow from the
 *         configuration.
 */
#ifndef BASE_CONFIG_KEYS_H
#define BASE_CONFIG_KEYS_H

#include "base/config.h"
#include "base/digest.h"

enum config_key_kind {
    CONFIG_KEY_FULL,    /* api_keys: for everything */
    CONFIG_KEY_SENDING, /* sending_keys: for sending and nothing else */
    CONFIG_KEY_METRICS, /* metrics.key: for the figures of all domains and nothing else */
};

struct config_key {
    const struct config_domain *domain; /* NULL = of all domains */
    enum config_key_kind kind;
    uint8_t digest[SHA256_BYTES];
};

struct config_keys {
    struct config_key *list; /* of all domains first, then in the order of the domains */
    size_t count;
};

void config_keys_read(const struct config *config, struct config_keys *keys);
void config_keys_fini(struct config_keys *keys); /* {0} is fine */

#endif
