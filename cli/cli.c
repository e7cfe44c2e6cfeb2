#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#include "cli/options.h"

static const struct {
    const char *name;
    int (*run)(const struct cli_options *o);
    int (*run_alone)(int argc, char **argv); /* instead: it has options of its own */
    const char *takes; /* what may follow, a line for each way; an option not in it is refused */
    const char *help;
} commands[] = {
    {"status", cli_status, NULL, "[--watch] [--json]",
     "what Postern is doing: rate, quota, holds, processes; --watch, --json"},
    {"batches", cli_batches, NULL,
     "[ID] [--watch] [--domain NAME] [--limit N] [--json]\n"
     "pause|resume|cancel|resend ID [--json]",
     "[ID] books, rate and time left of each batch; --watch draws progress\n"
     "                           pause|resume|cancel|resend ID: resend what had failed"},
    {"domains", cli_domains, NULL,
     "[NAME] [--json]\n"
     "pause|resume|cancel NAME [--json]",
     "sent, bounce and complaint shares, what is held\n"
     "                           pause|resume|cancel NAME: the domain's newsletters"},
    {"events", cli_events, NULL, "[--domain NAME] [--limit N] [--json]",
     "the newest events, as the API gives them"},
    {"deadletters", cli_deadletters, NULL,
     "[--search TEXT] [--limit N] [--json]\n"
     "show ID\n"
     "replay|drop ID|all [--search TEXT] [--json]\n"
     "queues [--json]\n"
     "--redrive [--json]",
     "messages from SES that were not understood, and why; --search TEXT\n"
     "                           show ID; replay|drop ID|all: read again, or forget\n"
     "                           queues: those in SQS; --redrive: back to their sources"},
    {"webhooks", cli_webhooks, NULL,
     "[--domain NAME] [--search TEXT] [--limit N] [--json]\n"
     "failures [--domain NAME] [--search TEXT] [--limit N] [--json]\n"
     "replay|drop ID|all [--domain NAME] [--search TEXT] [--json]\n"
     "key DOMAIN",
     "where events are told, and how it goes\n"
     "                           failures; replay|drop ID|all; key DOMAIN: what signs them"},
    {"check", cli_check, NULL, "[--limit N] [--json]",
     "does the store agree with itself: books, states, leases"},
    {"backup", cli_backup, NULL, "DIR [--json]",
     "DIR: a consistent copy of the state, while all goes on"},
    {"setup", NULL, cli_setup, "[OPTION …]",
     "--domain NAME --region NAME: makes what Postern needs in AWS; --help\n"
     "                           --dry-run, --print-iam, --print-dns, --remove, …"},
    {"doctor", NULL, cli_doctor, "[OPTION …]",
     "what is wrong on the way to SES and back, and what mends it; --help\n"
     "                           --live, --ghost URL, --json"},
    {"key", cli_key, NULL, "new [--json]", "new: a fresh API key, and its digest for proxy.conf"},
};

enum { COMMANDS = sizeof commands / sizeof commands[0], OPTION_COLUMNS = 15 };

bool cli_has(const char *name)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(commands[i].name, name) == 0)
            return true;
    return false;
}

static int usage(FILE *to, const char *wrong)
{
    if (wrong != NULL)
        (void)fprintf(to, "postern: there is no subcommand '%s'\n", wrong);
    (void)fprintf(to, "usage: postern -c FILE             run in the foreground\n"
                      "       postern -t -c FILE          check the configuration\n"
                      "       postern sandbox --help      a stand-in for SES, SNS and SQS\n");
    for (size_t i = 0; i < COMMANDS; i++)
        (void)fprintf(to, "       postern %-12s -c FILE  %s\n", commands[i].name, commands[i].help);
    (void)fprintf(to, "       postern SUBCOMMAND --help   its options\n");
    return wrong == NULL ? CLI_DONE : CLI_WRONG_USE;
}

/* What the options mean that the usage names. */
static void say_options(const char *takes)
{
    static const struct {
        const char *option, *value, *means;
    } options[] = {
        {"--watch", "", "draw it again and again, until all is done"},
        {"--domain", " NAME", "only this domain"},
        {"--search", " TEXT", "only what contains it, in any case"},
        {"--limit", " N", "at most so many rows (default 20)"},
        {"--redrive", "", "SQS moves what it gave up back to the queue it came from"},
        {"--json", "", "for machines: one JSON value a line"},
    };

    (void)printf("    -c FILE        the configuration (default proxy.conf)\n");
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        if (cli_takes(takes, options[i].option))
            (void)printf("    %s%-*s%s\n", options[i].option,
                         OPTION_COLUMNS - (int)strlen(options[i].option), options[i].value,
                         options[i].means);
}

static int usage_of(size_t command)
{
    const char *lead = "usage:", *line = commands[command].takes;

    for (; *line != '\0'; lead = "      ") {
        int len = (int)strcspn(line, "\n");
        (void)printf("%s postern %s [-c FILE] %.*s\n", lead, commands[command].name, len, line);
        line += len + (line[len] == '\n');
    }
    (void)printf("  %.*s\n", (int)strcspn(commands[command].help, "\n"), commands[command].help);
    say_options(commands[command].takes);
    (void)printf("  more: man postern-%s\n", commands[command].name);
    return CLI_DONE;
}

static bool asks_for_help(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0)
            return true;
    return false;
}

int cli_main(int argc, char **argv)
{
    struct cli_options o;

    if (argc < 1 || strcmp(argv[0], "help") == 0 || strcmp(argv[0], "--help") == 0)
        return usage(stdout, NULL);
    for (size_t i = 0; i < COMMANDS; i++) {
        if (strcmp(commands[i].name, argv[0]) != 0)
            continue;
        if (commands[i].run == NULL)
            return commands[i].run_alone(argc, argv);
        if (asks_for_help(argc, argv))
            return usage_of(i);
        return cli_options_read(argc, argv, commands[i].takes, &o) ? commands[i].run(&o)
                                                                   : CLI_WRONG_USE;
    }
    return usage(stderr, argv[0]);
}
