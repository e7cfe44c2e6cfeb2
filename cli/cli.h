/*
 * cli/cli.h - the subcommands: what people ask of a Postern that runs, or of its state directory.
 *
 * ENDS    Their own process, started from a shell. They read the store read-only, beside the
 *         running processes, and never write it: what is to change, the running writer is asked for
 *         (store/control.h).
 * ERRORS  Exit status 0: done, or all well. 1: not so (nothing found, refused, nothing runs, rows not
 *         understood, the books do not balance). 2: wrong use, or no access to the configuration,
 *         the store or AWS. The reason is on standard error. `postern -t`: 1 for mistakes in FILE.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>

/* argv[0] is the subcommand's name; an unknown one is answered with the list of those that exist.
 */
int cli_main(int argc, char **argv);
bool cli_has(const char *name);

#endif
