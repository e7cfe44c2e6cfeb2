#include "base/config_keys.h"

#include <stdlib.h>

#include "base/mem.h"

static void add(struct config_keys *keys, const struct config_domain *domain,
                enum config_key_kind kind, const char *text)
{
    struct config_key key = {.domain = domain, .kind = kind};

    if (text == NULL || text[0] == '\0' || !config_key_digest(slice_str(text), key.digest))
        return;
    keys->list = mem_grow(keys->list, (keys->count + 1) * sizeof *keys->list);
    keys->list[keys->count++] = key;
}

static void add_all(struct config_keys *keys, const struct config_domain *domain,
                    enum config_key_kind kind, const struct config_list *texts)
{
    for (size_t i = 0; i < texts->count; i++)
        add(keys, domain, kind, texts->texts[i]);
}

void config_keys_read(const struct config *config, struct config_keys *keys)
{
    *keys = (struct config_keys){0};
    add_all(keys, NULL, CONFIG_KEY_FULL, &config->api_keys);
    add(keys, NULL, CONFIG_KEY_METRICS, config->metrics.key);
    for (size_t i = 0; i < config->domain_count; i++) {
        const struct config_domain *domain = &config->domains[i];

        add_all(keys, domain, CONFIG_KEY_FULL, &domain->api_keys);
        add_all(keys, domain, CONFIG_KEY_SENDING, &domain->sending_keys);
    }
}

void config_keys_fini(struct config_keys *keys)
{
    free(keys->list);
    *keys = (struct config_keys){0};
}
