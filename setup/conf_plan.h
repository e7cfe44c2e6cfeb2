/*
 * setup/conf_plan.h - what of a proxy.conf the plumbing asks for, and the text with it.
 *
 * The rules: aws.region, queues and the domain's configuration sets are what was set up. A domain
 * without keys gets a fresh one, as its digest. The file that comes with Postern runs on the sandbox:
 * that is switched off, and its example domain, whose key everybody knows, becomes the new one.
 * queues.newsletter_buffer is set where a buffer is wanted, and is never taken out; the machines that
 * share it get queues.replication_topic with it, unless the file says something else of it.
 *
 * SHAPE   Pure.
 * MEMORY  conf_plan_fini() wipes and frees what conf_plan_make() filled in.
 */
#ifndef SETUP_CONF_PLAN_H
#define SETUP_CONF_PLAN_H

#include "base/config.h"
#include "setup/plumbing.h"

#define CONF_PLAN_SANDBOX_KEY "key-sandbox-only-change-me"

struct conf_keys { /* an access key to be written; empty = none */
    struct slice access_key_id, secret_access_key;
};

struct conf_plan {
    struct buf text;    /* the whole file as it is to be */
    struct buf changes; /* for people: "aws.region; queues.newsletter_events"; empty = none */
    struct buf api_key; /* a fresh one, to be shown this one time; empty = none was needed */
};

/* text: the file's; config: read from it, file_region: its aws.region (of the
 * environment, where the file has none). queue_url: of the two lines' queues, "" = not known yet. */
void conf_plan_make(struct conf_plan *plan, struct slice text, const struct config *config,
                    const char *file_region, const struct plumbing *p,
                    const struct slice queue_url[PLUMBING_LINES], const struct conf_keys *keys);
void conf_plan_fini(struct conf_plan *plan);

#endif
