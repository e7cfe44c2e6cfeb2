#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#include "cli/options.h"

static const struct {
    const char *name;
    int (*run)(const struct cli_options *o);
    int (*run_alone)(int argc, char **argv); /* instead: it has options of its own */
    const char *help;
} commands[] = {
    {"status", cli_status, NULL,
     "what Postern is doing: rate, quota, holds, processes; --watch, --json"},
    {"batches", cli_batches, NULL,
     "[ID] books, rate and time left of each batch; --watch draws progress\n"
     "                           pause|resume|cancel|resend ID: resend what had failed"},
    {"domains", cli_domains, NULL,
     "sent, bounce and complaint shares, what is held\n"
     "                           pause|resume|cancel NAME: the domain's newsletters"},
    {"events", cli_events, NULL, "the newest events, as the API gives them"},
    {"deadletters", cli_deadletters, NULL,
     "messages from SES that were not understood, and why; --search TEXT\n"
     "                           show ID; replay|drop ID|all: read again, or forget\n"
     "                           queues: those in SQS; --redrive: back to their sources"},
    {"webhooks", cli_webhooks, NULL,
     "where events are told, and how it goes\n"
     "                           failures; replay|drop ID|all; key DOMAIN: what signs them"},
    {"check", cli_check, NULL, "does the store agree with itself: books, states, leases"},
    {"backup", cli_backup, NULL, "DIR: a consistent copy of the state, while all goes on"},
    {"setup", NULL, cli_setup,
     "--domain NAME --region NAME: makes what Postern needs in AWS; --help\n"
     "                           --dry-run, --print-iam, --print-dns, --remove, …"},
    {"doctor", NULL, cli_doctor,
     "what is wrong on the way to SES and back, and what mends it; --help\n"
     "                           --live, --ghost URL, --json"},
    {"login", cli_login, NULL,
     "prints a link that opens the dashboard once; --role viewer|operator"},
    {"key", cli_key, NULL, "new: a fresh API key, and its digest for proxy.conf"},
};

enum { COMMANDS = sizeof commands / sizeof commands[0] };

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
    return wrong == NULL ? CLI_DONE : CLI_WRONG_USE;
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
        return cli_options_read(argc, argv, &o) ? commands[i].run(&o) : CLI_WRONG_USE;
    }
    return usage(stderr, argv[0]);
}
