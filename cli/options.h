/*
 * cli/options.h - what all subcommands share: their options, and the store they look into.
 *
 *   -c FILE          the configuration that names the state directory (default: proxy.conf)
 *   --json           for machines: one JSON value a line
 *   --watch          draw again until there is nothing left to wait for
 *   --limit N        at most so many rows
 *   --domain NAME    only this domain
 *   --redrive        of deadletters: what SQS gave up goes back to its queue
 *   --role NAME      of login: viewer or operator
 *   --search TEXT    only rows that contain it, in any case
 *   WORD …           what the subcommand is about: a batch id, a domain; before it a verb
 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "base/config.h"
#include "store/store.h"

enum { CLI_WORDS_MAX = 3 };
enum cli_exit { CLI_DONE = 0, CLI_NOT_SO = 1, CLI_WRONG_USE = 2 };

struct cli_options {
    const char *config_path, *domain, *role, *search;
    const char *words[CLI_WORDS_MAX]; /* NULL behind the last */
    bool json, watch, redrive;
    uint32_t limit;
};

/* False: wrong use, said on standard error. */
bool cli_options_read(int argc, char **argv, struct cli_options *o);

/* NULL: said on standard error. */
struct config *cli_config_load(const struct cli_options *o);
/* The store of that configuration, read-only; NULL: said on standard error. *config is the
 * caller's. */
struct store *cli_store_open(const struct cli_options *o, struct config **config);

int cli_backup(const struct cli_options *o);
int cli_batches(const struct cli_options *o);
int cli_check(const struct cli_options *o);
int cli_events(const struct cli_options *o);
int cli_deadletters(const struct cli_options *o);
/* The dead-letter queues in SQS: shown, or with --redrive emptied into their sources. */
int cli_dead_queues(const struct cli_options *o);
int cli_doctor(int argc, char **argv);
int cli_domains(const struct cli_options *o);
int cli_key(const struct cli_options *o);
int cli_login(const struct cli_options *o);
int cli_setup(int argc, char **argv);
int cli_status(const struct cli_options *o);
int cli_webhooks(const struct cli_options *o);

#endif
