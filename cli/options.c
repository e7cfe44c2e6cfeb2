#include "cli/options.h"

#include <stdio.h>
#include <string.h>

#include "cli/flags.h"

enum { LIMIT_ABSENT = 20, LIMIT_MAX = 1000000, LATE_ABSENT_MS = 3 * 24 * 3600 * 1000 };

/* One that is taken by every subcommand has no bit. */
static const struct {
    unsigned takes;
    const char *name, *value, *help;
} table[] = {
    {0, "-c, --config", "FILE", "the configuration (proxy.conf)"},
    {TAKES_DOMAIN, "--domain", "NAME", "only this domain"},
    {TAKES_WHOSE, "--domain", "NAME", "whose the rows are that do not tell"},
    {TAKES_OPENED, "--domain", "NAME", "whose key it is; '*': of all"},
    {TAKES_KEY, "--sending", NULL, "the new key may send and nothing else"},
    {TAKES_KEY, "--label", "TEXT", "what the new key is for, for the list"},
    {TAKES_KEY, "--force", NULL, "withdraw the last key of a domain, too"},
    {TAKES_SEARCH, "--search", "TEXT", "only what contains it, in any case"},
    {TAKES_LIMIT, "--limit", "N", "at most so many rows (20)"},
    {TAKES_ROLE, "--role", "NAME", "viewer, who looks, or operator, who acts, too (operator)"},
    {TAKES_WATCH, "--watch", NULL, "draw again until there is nothing left to wait for"},
    {TAKES_DRY_RUN, "--dry-run", NULL, "say what would be done, and do nothing"},
    {TAKES_LATE, "--late", "TIME", "how far behind what readers have seen events are taken (3d)"},
    {TAKES_REDRIVE, "--redrive", NULL, "what SQS gave up goes back to the queue it came from"},
    {TAKES_JSON, "--json", NULL, "for machines: one JSON value a line"},
    {0, "-h, --help", NULL, "this"},
};

void cli_options_help(struct buf *to, unsigned takes)
{
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].takes == 0 || (table[i].takes & takes) != 0)
            buf_printf(to, "  %-12s %-6s %s\n", table[i].name,
                       table[i].value != NULL ? table[i].value : "", table[i].help);
}

static bool read_numbers(const char *verb, const char *limit, const char *late,
                         struct cli_options *o)
{
    uint64_t number;

    if (limit != NULL) {
        if (!slice_to_u64(slice_str(limit), &number) || number == 0 || number > LIMIT_MAX) {
            (void)fprintf(stderr, "postern %s: --limit is a number from 1 to %d\n", verb,
                          LIMIT_MAX);
            return false;
        }
        o->limit = (uint32_t)number;
    }
    if (late != NULL && !config_read_duration(late, &o->late_ms)) {
        (void)fprintf(stderr, "postern %s: --late is a time with its unit, as 12h or 3d\n", verb);
        return false;
    }
    return true;
}

bool cli_options_read(int argc, char **argv, unsigned takes, struct cli_options *o)
{
    const char *limit = NULL, *late = NULL;
    const struct {
        unsigned takes;
        struct cli_flag flag;
    } known[] = {
        {0, {"-c", &o->config_path, NULL}},
        {0, {"--config", &o->config_path, NULL}},
        {TAKES_DOMAIN | TAKES_WHOSE | TAKES_OPENED, {"--domain", &o->domain, NULL}},
        {TAKES_KEY, {"--label", &o->label, NULL}},
        {TAKES_KEY, {"--sending", NULL, &o->sending}},
        {TAKES_KEY, {"--force", NULL, &o->force}},
        {TAKES_SEARCH, {"--search", &o->search, NULL}},
        {TAKES_LIMIT, {"--limit", &limit, NULL}},
        {TAKES_LATE, {"--late", &late, NULL}},
        {TAKES_ROLE, {"--role", &o->role, NULL}},
        {TAKES_JSON, {"--json", NULL, &o->json}},
        {TAKES_WATCH, {"--watch", NULL, &o->watch}},
        {TAKES_REDRIVE, {"--redrive", NULL, &o->redrive}},
        {TAKES_DRY_RUN, {"--dry-run", NULL, &o->dry_run}},
    };
    enum { KNOWN = sizeof known / sizeof known[0] };
    struct cli_flag flags[KNOWN];
    size_t count = 0;

    *o = (struct cli_options){
        .config_path = "proxy.conf", .limit = LIMIT_ABSENT, .late_ms = LATE_ABSENT_MS};
    for (size_t i = 0; i < KNOWN; i++)
        if (known[i].takes == 0 || (known[i].takes & takes) != 0)
            flags[count++] = known[i].flag;
    return cli_flags_read(argc, argv, flags, count, o->words, CLI_WORDS_MAX - 1) &&
           read_numbers(argv[0], limit, late, o);
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
