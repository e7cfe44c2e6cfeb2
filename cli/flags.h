/*
 * cli/flags.h - reads a command line into the variables that its options stand for, and says what is
 * wrong with it.
 *
 * SHAPE   --name, --name VALUE or --name=VALUE, and -c VALUE, anywhere among the words.
 */
#ifndef CLI_FLAGS_H
#define CLI_FLAGS_H

#include <stdbool.h>
#include <stddef.h>

struct cli_flag {
    const char *name;
    const char **value; /* takes one; or NULL, and then: */
    bool *is_given;
};

/* argv[0] is the subcommand's name. Words go to words[0..words_max); false: wrong use, said on
 * standard error with the option that may have been meant. */
bool cli_flags_read(int argc, char **argv, const struct cli_flag *flags, size_t count,
                    const char **words, size_t words_max);

/* Is it asked for? "--help" or "-h", anywhere. */
bool cli_wants_help(int argc, char **argv);

/* How each subcommand's help ends. */
#define CLI_EXIT_HELP                                                                              \
    "exit status: 0 done or all well, 1 not so (refused, something found, nothing runs),\n"        \
    "             2 wrong use, or no access to the configuration, the store or AWS\n"

#endif
