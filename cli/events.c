#include <stdio.h>

#include "base/clock.h"
#include "cli/options.h"
#include "store/events.h"

int cli_events(const struct cli_options *o)
{
    struct config *config;
    struct store *store = cli_store_open(o, &config);
    int verdict = CLI_DONE;

    if (store == NULL)
        return CLI_WRONG_USE;
    for (size_t i = 0; i < config->domain_count && verdict == CLI_DONE; i++) {
        struct slice domain = slice_str(config->domains[i].name);
        struct event_query q = {
            .domains = &domain,
            .domain_count = 1,
            .until_us = clock_wall_us() + 1,
            .limit = o->limit,
        };
        struct event_page page = {0};
        struct err err;

        if (o->domain != NULL && !slice_eq_nocase(domain, slice_str(o->domain)))
            continue;
        struct store_txn *t = store_begin_read(store, &err);
        if (t == NULL || event_query_run(t, &q, &page, &err) != 0) {
            (void)fprintf(stderr, "postern events: %s\n", err.text);
            verdict = CLI_WRONG_USE;
        } else if (page.count > 0) {
            (void)printf("[%.*s]\n", SLICE_ARGS(buf_slice(&page.items)));
        }
        if (t != NULL)
            store_end_read(t);
        event_page_fini(&page);
    }
    store_close(store);
    config_free(config);
    return verdict;
}
