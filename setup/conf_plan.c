#include "setup/conf_plan.h"

#include <string.h>

#include "aws/credentials.h"
#include "base/digest.h"
#include "setup/conf_edit.h"

enum { KEY_BYTES = 20 };

static void note(struct conf_plan *plan, const char *what)
{
    buf_printf(&plan->changes, "%s%s", plan->changes.len > 0 ? ", " : "", what);
}

static void set_text(struct conf_plan *plan, const char *section, const char *title,
                     const char *key, struct slice value)
{
    struct buf quoted = {0}, name = {0};

    conf_edit_quote(&quoted, value);
    conf_edit_set(&plan->text, section, title, key, buf_cstr(&quoted));
    buf_printf(&name, "%s.%s", section, key);
    note(plan, buf_cstr(&name));
    buf_fini(&name);
    credentials_wipe(&quoted);
}

static void make_key(struct conf_plan *plan, const char *domain)
{
    uint8_t random[KEY_BYTES], digest[SHA256_BYTES];
    struct buf list = {0};

    digest_random(random, sizeof random);
    buf_add_str(&plan->api_key, "key-");
    text_hex(&plan->api_key, slice_of(random, sizeof random));
    digest_sha256(buf_slice(&plan->api_key), digest);
    buf_add_str(&list, "{\"sha256:");
    text_hex(&list, slice_of(digest, sizeof digest));
    buf_add_str(&list, "\"}");
    conf_edit_set(&plan->text, "domain", domain, "api_keys", buf_cstr(&list));
    note(plan, "domain.api_keys");
    buf_fini(&list);
}

static bool has_only_sandbox_key(const struct config_domain *d)
{
    return d->api_keys.count == 1 && strcmp(d->api_keys.texts[0], CONF_PLAN_SANDBOX_KEY) == 0;
}

/* The example of the file that comes with Postern. */
static const struct config_domain *example_domain(const struct config *config)
{
    for (size_t i = 0; i < config->domain_count; i++)
        if (has_only_sandbox_key(&config->domains[i]))
            return &config->domains[i];
    return NULL;
}

static void plan_domain(struct conf_plan *plan, const struct config *config,
                        const struct plumbing *p)
{
    static const char *const keys[] = {"newsletter_configuration_set", "system_configuration_set"};
    const char *domain = p->names.domain;
    const struct config_domain *d = config_domain_find(config, slice_str(domain)),
                               *example = example_domain(config);

    if (d == NULL && example != NULL &&
        conf_edit_retitle(&plan->text, "domain", example->name, domain)) {
        note(plan, "domain");
        d = example;
    }
    if (d == NULL || has_only_sandbox_key(d) ||
        d->api_keys.count + d->sending_keys.count + config->api_keys.count == 0)
        make_key(plan, domain);
    for (int line = 0; line < PLUMBING_LINES; line++) {
        const char *now = d == NULL                 ? ""
                          : line == LINE_NEWSLETTER ? d->newsletter_configuration_set
                                                    : d->system_configuration_set;
        if (strcmp(now, p->names.set[line]) != 0)
            set_text(plan, "domain", domain, keys[line], slice_str(p->names.set[line]));
    }
}

void conf_plan_make(struct conf_plan *plan, struct slice text, const struct config *config,
                    const char *file_region, const struct plumbing *p,
                    const struct slice queue_url[PLUMBING_LINES], const struct conf_keys *keys)
{
    static const char *const names[] = {"newsletter_events", "system_events"};
    const char *const urls[] = {config->queues.newsletter_events, config->queues.system_events};

    *plan = (struct conf_plan){0};
    buf_add_slice(&plan->text, text);
    if (config->sandbox.enabled) {
        conf_edit_set(&plan->text, "sandbox", NULL, "enabled", "false");
        note(plan, "sandbox.enabled");
    }
    /* What the environment said to this command is not said to the service. */
    if (strcmp(file_region, p->region) != 0 || !conf_edit_has(&plan->text, "aws", NULL, "region"))
        set_text(plan, "aws", NULL, "region", slice_str(p->region));
    if (keys->access_key_id.len > 0) {
        set_text(plan, "aws", NULL, "access_key_id", keys->access_key_id);
        set_text(plan, "aws", NULL, "secret_access_key", keys->secret_access_key);
    }
    for (int line = 0; line < PLUMBING_LINES; line++)
        if (!slice_eq(slice_str(urls[line]), queue_url[line]) || urls[line][0] == '\0')
            set_text(plan, "queues", NULL, names[line], queue_url[line]);
    if (p->buffer != NULL) {
        struct slice url = json_get_text(p->buffer->found, "QueueUrl");
        if (url.len == 0 || !slice_eq(slice_str(config->queues.newsletter_buffer), url))
            set_text(plan, "queues", NULL, "newsletter_buffer", url);
        if (!conf_edit_has(&plan->text, "queues", NULL, "replication_topic"))
            set_text(plan, "queues", NULL, "replication_topic",
                     slice_str(p->topic[LINE_NEWSLETTER]->arn));
    }
    if (p->names.wrapped && !config->queues.verify_sns) {
        conf_edit_set(&plan->text, "queues", NULL, "verify_sns", "true");
        note(plan, "queues.verify_sns");
    }
    plan_domain(plan, config, p);
}

void conf_plan_fini(struct conf_plan *plan)
{
    credentials_wipe(&plan->text);
    credentials_wipe(&plan->api_key);
    buf_fini(&plan->changes);
}
