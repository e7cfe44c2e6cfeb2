/*
 * cli/request.h - asking the running Postern (store/control.h) for what a subcommand wants.
 *
 * MEMORY  cli_status_get(): a tree that json_free() frees.
 * ERRORS  In words on standard error; the exit status tells the rest (cli/cli.h).
 */
#ifndef CLI_REQUEST_H
#define CLI_REQUEST_H

#include "base/json.h"
#include "cli/options.h"
#include "shm/record.h"

/* The verb of a word (pause, resume, cancel, resend); 0 = none of them. */
uint32_t cli_verb(const char *word);

/* Whoever asks, for the log of what is done: who called sudo, else whose process this is. Valid until
 * the user database is asked again. */
const char *cli_person(void);

/* Asks the Postern of that configuration, prints its answer (a line, or JSON with --json): the exit
 * status. */
int cli_ask(const struct cli_options *o, const struct record_control *r);
/* The same, where the answer counts something else than recipients: what the JSON calls it. */
int cli_ask_counting(const struct cli_options *o, const struct record_control *r, const char *what);

/* What the running Postern is doing; NULL when none runs or it does not answer. Then *err says
 * which, ERR_NOT_FOUND or ERR_NETWORK. */
cJSON *cli_status_get(const struct config *config, struct err *err);
/* A number of it; 0 when there is none. */
uint64_t cli_number(const cJSON *object, const char *name);

#endif
