/*
 * cli/options.h - what all subcommands share: their options, and the store they look into.
 *
 * SHAPE   Each is a row of the table in cli/options.c: name, value and help. WORDs are what the
 *         subcommand is about: a batch id, a domain, a file; before it a verb.
 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include "base/config.h"
#include "store/store.h"

enum { CLI_WORDS_MAX = 3 };
enum cli_exit { CLI_DONE = 0, CLI_NOT_SO = 1, CLI_WRONG_USE = 2 };

struct cli_options {
    const char *config_path, *domain, *role, *search, *label;
    const char *words[CLI_WORDS_MAX]; /* NULL behind the last */
    bool json, watch, redrive, dry_run, sending, force;
    uint32_t limit;
    uint64_t late_ms;
};

/* Which of the options a subcommand takes, beside -c. */
enum cli_takes {
    TAKES_JSON = 1 << 0,
    TAKES_WATCH = 1 << 1,
    TAKES_LIMIT = 1 << 2,
    TAKES_DOMAIN = 1 << 3,
    TAKES_SEARCH = 1 << 4,
    TAKES_REDRIVE = 1 << 5,
    TAKES_DRY_RUN = 1 << 6,
    TAKES_LATE = 1 << 7,
    TAKES_WHOSE = 1 << 8, /* --domain, for what does not tell its own */
    TAKES_ROLE = 1 << 9,
    TAKES_OPENED = 1 << 10, /* --domain, for what a key opens */
    TAKES_KEY = 1 << 11,    /* --sending, --label, --force */
};

/* takes: of enum cli_takes. False: wrong use, said on standard error. */
bool cli_options_read(int argc, char **argv, unsigned takes, struct cli_options *o);
/* A line for each option that is taken. */
void cli_options_help(struct buf *to, unsigned takes);

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
int cli_import(const struct cli_options *o);
int cli_login(const struct cli_options *o);
int cli_login_list(const struct cli_options *o);
/* who: asks for it, for the log. */
int cli_login_end(const struct cli_options *o, const char *who);
int cli_key(const struct cli_options *o);
int cli_setup(int argc, char **argv);
int cli_status(const struct cli_options *o);
int cli_webhooks(const struct cli_options *o);

#endif
