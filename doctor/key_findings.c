#include "doctor/key_findings.h"

#include "store/key_seals.h"

void find_keys(struct finding *f, struct store_txn *t, const struct config *config,
               const struct config_domain *domain)
{
    struct slice name = slice_str(domain->name);
    size_t open = 0, still = 0;
    struct arena arena = {0};
    struct known_keys keys;

    known_keys_read(t, config, &arena, &keys);
    for (size_t i = 0; i < keys.count; i++) {
        const struct known_key *k = &keys.list[i];
        open += k->kind == CONFIG_KEY_FULL && known_key_opens(&keys, k, name);
        still += k->is_configured && k->is_withdrawn &&
                 (k->domain.len == 0 || slice_eq(k->domain, name));
    }
    if (open == 0 && finding_add(f, FINDING_WARN,
                                 "no key opens it for more than sending: Ghost is "
                                 "shut out"))
        finding_mend(f, "postern key add --domain %s", domain->name);
    if (still > 0 && finding_add(f, FINDING_WARN, "%zu withdrawn %s in proxy.conf", still,
                                 still == 1 ? "key still stands" : "keys still stand"))
        finding_mend(f, "postern key list shows which: take it out, and reload");
    if (config->queues.replication_topic[0] != '\0' && !keys_can_be_told(&keys, name) &&
        finding_add(f, FINDING_WARN,
                    "no key of proxy.conf can tell the other machines of changed keys"))
        finding_mend(f, "postern key new: its digest into every machine's proxy.conf, and reload");
    (void)finding_add(f, FINDING_OK, "%zu %s", open, open == 1 ? "key opens it" : "keys open it");
    arena_fini(&arena);
}
