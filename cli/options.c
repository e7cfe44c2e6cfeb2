#include "cli/options.h"

#include <stdio.h>
#include <string.h>

enum { LIMIT_ABSENT = 20, LIMIT_MAX = 1000000 };

/* The value of an option that takes one; NULL and a complaint when there is none. */
static const char *value_of(int argc, char **argv, int *at)
{
    if (*at + 1 < argc)
        return argv[++*at];
    (void)fprintf(stderr, "postern %s: %s needs a value\n", argv[0], argv[*at]);
    return NULL;
}

bool cli_options_read(int argc, char **argv, struct cli_options *o)
{
    size_t words = 0;

    *o = (struct cli_options){.config_path = "proxy.conf", .limit = LIMIT_ABSENT};
    for (int i = 1; i < argc; i++) {
        const char *value = "";
        uint64_t number;

        if (strcmp(argv[i], "-c") == 0) {
            value = o->config_path = value_of(argc, argv, &i);
        } else if (strcmp(argv[i], "--domain") == 0) {
            value = o->domain = value_of(argc, argv, &i);
        } else if (strcmp(argv[i], "--role") == 0) {
            value = o->role = value_of(argc, argv, &i);
        } else if (strcmp(argv[i], "--search") == 0) {
            value = o->search = value_of(argc, argv, &i);
        } else if (strcmp(argv[i], "--limit") == 0) {
            value = value_of(argc, argv, &i);
            if (value != NULL &&
                (!slice_to_u64(slice_str(value), &number) || number == 0 || number > LIMIT_MAX)) {
                (void)fprintf(stderr, "postern %s: --limit is a number from 1 to %d\n", argv[0],
                              LIMIT_MAX);
                return false;
            }
            o->limit = value != NULL ? (uint32_t)number : 0;
        } else if (strcmp(argv[i], "--json") == 0) {
            o->json = true;
        } else if (strcmp(argv[i], "--watch") == 0) {
            o->watch = true;
        } else if (strcmp(argv[i], "--redrive") == 0) {
            o->redrive = true;
        } else if (argv[i][0] == '-') {
            (void)fprintf(stderr, "postern %s: unknown option %s\n", argv[0], argv[i]);
            return false;
        } else if (words + 1 == CLI_WORDS_MAX) {
            (void)fprintf(stderr, "postern %s: '%s' is one word too many\n", argv[0], argv[i]);
            return false;
        } else {
            o->words[words++] = argv[i];
        }
        if (value == NULL)
            return false;
    }
    return true;
}

struct config *cli_config_load(const struct cli_options *o)
{
    struct buf mistakes = {0};
    struct config *config = config_load(o->config_path, &mistakes);

    if (config == NULL)
        (void)fprintf(stderr, "%s\n", buf_cstr(&mistakes));
    buf_fini(&mistakes);
    return config;
}

struct store *cli_store_open(const struct cli_options *o, struct config **config)
{
    struct err err;

    *config = cli_config_load(o);
    if (*config == NULL)
        return NULL;
    struct store *store = store_open((*config)->state_dir, STORE_READ, &err);
    if (store == NULL) {
        (void)fprintf(stderr, "postern: %s: %s\n", (*config)->state_dir, err.text);
        config_free(*config);
        *config = NULL;
    }
    return store;
}
