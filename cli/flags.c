#include "cli/flags.h"

#include <stdio.h>
#include <string.h>

#include "base/nearest.h"

enum { FLAGS_MAX = 32 };

/* The flag that an argument names; *value: behind its "=", or NULL. */
static const struct cli_flag *find(const char *argument, const struct cli_flag *flags, size_t count,
                                   const char **value)
{
    size_t len = strcspn(argument, "=");

    for (size_t i = 0; i < count; i++) {
        if (strlen(flags[i].name) != len || strncmp(flags[i].name, argument, len) != 0)
            continue;
        *value = argument[len] == '=' ? argument + len + 1 : NULL;
        return &flags[i];
    }
    return NULL;
}

static bool unknown(const char *verb, const char *argument, const struct cli_flag *flags,
                    size_t count)
{
    const char *names[FLAGS_MAX];

    for (size_t i = 0; i < count && i < FLAGS_MAX; i++)
        names[i] = flags[i].name;
    const char *meant = nearest_name(argument, names, count < FLAGS_MAX ? count : FLAGS_MAX);
    (void)fprintf(stderr, "postern %s: unknown option %s%s%s%s (postern %s --help lists them)\n",
                  verb, argument, meant != NULL ? ": did you mean " : "",
                  meant != NULL ? meant : "", meant != NULL ? "?" : "", verb);
    return false;
}

static bool wrong(const char *verb, const char *name, const char *words)
{
    (void)fprintf(stderr, "postern %s: %s %s\n", verb, name, words);
    return false;
}

bool cli_flags_read(int argc, char **argv, const struct cli_flag *flags, size_t count,
                    const char **words, size_t words_max)
{
    size_t word_count = 0;

    for (int i = 1; i < argc; i++) {
        const char *value = NULL;
        if (argv[i][0] != '-') {
            if (word_count == words_max)
                return wrong(argv[0], argv[i], "is one word too many");
            words[word_count++] = argv[i];
            continue;
        }
        const struct cli_flag *f = find(argv[i], flags, count, &value);
        if (f == NULL)
            return unknown(argv[0], argv[i], flags, count);
        if (f->value == NULL) {
            if (value != NULL)
                return wrong(argv[0], f->name, "takes no value");
            *f->is_given = true;
            continue;
        }
        if (value == NULL && i + 1 == argc)
            return wrong(argv[0], f->name, "needs a value");
        *f->value = value != NULL ? value : argv[++i];
    }
    return true;
}

bool cli_wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}
