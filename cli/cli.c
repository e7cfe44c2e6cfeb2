#include "cli/cli.h"

#include <stdio.h>
#include <string.h>

#include "base/nearest.h"
#include "cli/flags.h"
#include "cli/options.h"

/* usage: what follows "postern NAME ", a line each; "" = nothing. */
static const struct verb {
    const char *name, *brief, *usage;
    unsigned takes;
    int (*run)(const struct cli_options *o);
    int (*run_alone)(int argc, char **argv); /* instead: it has options and a help of its own */
    const char *about, *example;
} verbs[] = {
    {"status", "what Postern is doing: rate, quota, holds, processes", "", TAKES_JSON | TAKES_WATCH,
     cli_status, NULL,
     "What goes on: how fast it sends and may send, the quota, what is held and what mends\n"
     "it, what came back from SES, the processes.",
     "status --watch"},
    {"batches", "books, rate and time left of each batch; pausing, resuming, cancelling",
     "[ID]\npause|resume|cancel|resend ID", TAKES_JSON | TAKES_WATCH | TAKES_LIMIT | TAKES_DOMAIN,
     cli_batches, NULL,
     "The newest batches, or one. resend: who failed before SES took the mail is tried\n"
     "again, and nobody gets it twice.",
     "batches --watch"},
    {"domains", "sent, bounce and complaint shares, what is held",
     "[NAME]\npause|resume|cancel NAME", TAKES_JSON, cli_domains, NULL,
     "Each domain, or one. The verbs are about its newsletters; single mails go on.",
     "domains pause mail.example.com"},
    {"events", "the newest events, as the API gives them", "",
     TAKES_JSON | TAKES_LIMIT | TAKES_DOMAIN, cli_events, NULL,
     "For each domain a line, a JSON array.", "events --domain mail.example.com --limit 5"},
    {"deadletters", "messages from SES that were not understood, and why",
     "\nshow ID\nreplay|drop ID|all\nqueues",
     TAKES_JSON | TAKES_LIMIT | TAKES_SEARCH | TAKES_REDRIVE, cli_deadletters, NULL,
     "replay: read again, as after a domain was added. queues: those of SQS, where a message\n"
     "goes that was received ten times and never stored.",
     "deadletters replay all --search 'no configured domain'"},
    {"webhooks", "where events are told, and how it goes",
     "\nfailures\nreplay|drop ID|all\nkey DOMAIN",
     TAKES_JSON | TAKES_LIMIT | TAKES_SEARCH | TAKES_DOMAIN, cli_webhooks, NULL,
     "failures: what was given up; replay tells it again. key: what the domain's are signed\n"
     "with.",
     "webhooks replay all --search /my-receiver"},
    {"check", "does the store agree with itself: books, states, events", "",
     TAKES_JSON | TAKES_LIMIT, cli_check, NULL, "Beside a running Postern, too.", "check --json"},
    {"backup", "a consistent copy of the state, while all goes on", "DIR", TAKES_JSON, cli_backup,
     NULL,
     "DIR is made, and is a state_dir then. Open batches of a copy are paused when it is\n"
     "first used: they may have been sent since.",
     "backup /var/backups/postern-monday"},
    {"import", "suppressions, events and message ids of a Node proxy", "FILE",
     TAKES_JSON | TAKES_LIMIT | TAKES_WHOSE | TAKES_DRY_RUN | TAKES_LATE, cli_import, NULL,
     "FILE: ghost-ses-proxy's SQLite file, or a mysqldump of mailgun-ses-proxy's database.\n"
     "A second run adds nothing but what is new.",
     "import --dry-run ses-proxy.db"},
    {"setup", "makes what Postern needs in AWS", NULL, 0, NULL, cli_setup, NULL, NULL},
    {"doctor", "what is wrong on the way to SES and back, and what mends it", NULL, 0, NULL,
     cli_doctor, NULL, NULL},
    {"login", "a link that opens the dashboard, once; who is signed in", "\nlist\nend ID|all",
     TAKES_JSON | TAKES_ROLE, cli_login, NULL,
     "Prints a link for a browser, good once and for ten minutes. There is no password.\n"
     "list: who is signed in, since when, from where, and links not used yet. end: they are\n"
     "so no longer.",
     "login --role viewer"},
    {"key", "API keys: a new one, who may do what, one withdrawn",
     "new\nadd\nlist\nwithdraw KEY|ID", TAKES_JSON | TAKES_OPENED | TAKES_KEY, cli_key, NULL,
     "new: a key, shown once, and its digest for proxy.conf. add: one that opens --domain at\n"
     "once, without a reload. list: all keys, by the first digits of their digests. withdraw:\n"
     "one, or what begins with these digits, opens nothing any more (with --domain: not that\n"
     "one), though it stand in proxy.conf.",
     "key add --domain mail.example.com --label Ghost"},
};

enum { VERBS = sizeof verbs / sizeof verbs[0] };

static const struct verb *find(const char *name)
{
    for (size_t i = 0; i < VERBS; i++)
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    return NULL;
}

bool cli_has(const char *name)
{
    return find(name) != NULL;
}

static int list(void)
{
    (void)printf("usage: postern [-c FILE]              run in the foreground\n"
                 "       postern -t [-c FILE]           check the configuration\n"
                 "       postern SUBCOMMAND [option …]  postern SUBCOMMAND --help tells them\n"
                 "       postern --version\n\n"
                 "subcommands:\n");
    for (size_t i = 0; i < VERBS; i++)
        (void)printf("  %-12s %s\n", verbs[i].name, verbs[i].brief);
    (void)printf("  %-12s %s\n\n%s", "sandbox", "a stand-in for SES, SNS and SQS", CLI_EXIT_HELP);
    return CLI_DONE;
}

static int unknown(const char *name)
{
    const char *names[VERBS + 1] = {"sandbox"};

    for (size_t i = 0; i < VERBS; i++)
        names[i + 1] = verbs[i].name;
    const char *meant = nearest_name(name, names, VERBS + 1);
    (void)fprintf(stderr,
                  "postern: there is no subcommand '%s'%s%s%s (postern --help lists them)\n", name,
                  meant != NULL ? ": did you mean " : "", meant != NULL ? meant : "",
                  meant != NULL ? "?" : "");
    return CLI_WRONG_USE;
}

static int help(const struct verb *v)
{
    struct buf text = {0};
    struct slice rest = slice_str(v->usage), line;
    const char *before = "usage:";

    do {
        (void)slice_cut(rest, '\n', &line, &rest);
        buf_printf(&text, "%-6s postern %s%s%.*s [option …]\n", before, v->name,
                   line.len > 0 ? " " : "", SLICE_ARGS(line));
        before = "";
    } while (rest.len > 0);
    buf_printf(&text, "\n%s\n\noptions:\n", v->about);
    cli_options_help(&text, v->takes);
    buf_printf(&text, "\nexample:\n  postern %s\n\n%s", v->example, CLI_EXIT_HELP);
    (void)fwrite(text.ptr, 1, text.len, stdout);
    buf_fini(&text);
    return CLI_DONE;
}

/* ---- words behind the subcommand ---- */

enum { WORDS_MAX = 8, WORD_BYTES_MAX = 16 };

/* What its usage knows. */
struct words {
    char text[WORDS_MAX][WORD_BYTES_MAX];
    const char *names[WORDS_MAX];
    size_t count;
    bool takes_operand; /* "ID", "NAME", "FILE" may stand where the word does */
    bool lists;         /* without any */
};

/* "pause|resume" of a line; an operand is written large. */
static void add_words(struct words *w, struct slice line)
{
    struct slice first, rest, word;

    (void)slice_cut(line, ' ', &first, &rest);
    if (first.len == 0)
        return;
    if (first.ptr[0] < 'a' || first.ptr[0] > 'z') {
        w->takes_operand = true;
        return;
    }
    while (first.len > 0 && w->count < WORDS_MAX) {
        (void)slice_cut(first, '|', &word, &first);
        (void)snprintf(w->text[w->count], WORD_BYTES_MAX, "%.*s", SLICE_ARGS(word));
        w->names[w->count] = w->text[w->count];
        w->count++;
    }
}

static void read_words(const struct verb *v, struct words *w)
{
    struct slice rest = slice_str(v->usage), line;

    *w = (struct words){.lists = rest.len > 1 && (rest.ptr[0] == '\n' || rest.ptr[0] == '[')};
    while (rest.len > 0) {
        (void)slice_cut(rest, '\n', &line, &rest);
        add_words(w, line);
    }
}

/* Ids have digits and domains dots; no word of ours has either. */
static bool looks_like_word(const char *typed)
{
    return typed[strcspn(typed, ".0123456789")] == '\0';
}

/* What may have been meant; "" = no word at all, NULL = nothing that is known. */
static const char *meant_word(const struct words *w, const char *typed)
{
    const char *names[WORDS_MAX + 1], *meant;

    for (size_t i = 0; i < w->count; i++)
        names[i] = w->names[i];
    names[w->count] = "list";
    meant = nearest_name(typed, names, w->count + (w->lists ? 1 : 0));
    return meant != NULL && meant == names[w->count] ? "" : meant;
}

/* False: the first word is none of the subcommand's, and it was said which may have been meant. */
static bool word_is_known(const struct verb *v, const struct cli_options *o)
{
    const char *typed = o->words[0];
    struct words w;

    read_words(v, &w);
    for (size_t i = 0; typed != NULL && i < w.count; i++)
        if (strcmp(w.names[i], typed) == 0)
            return true;
    if (typed == NULL || (w.takes_operand && w.count == 0))
        return true;
    const char *meant = meant_word(&w, typed);
    if (w.takes_operand && o->words[1] == NULL && (meant == NULL || !looks_like_word(typed)))
        return true;
    struct buf text = {0};
    buf_printf(&text, "postern %s: %s '%s'", v->name,
               w.count > 0 ? "there is no" : "it takes no word, as", typed);
    if (meant != NULL && meant[0] == '\0')
        buf_printf(&text, ": did you mean 'postern %s' alone, which lists them?", v->name);
    else if (meant != NULL)
        buf_printf(&text, ": did you mean %s?", meant);
    (void)fprintf(stderr, "%s (postern %s --help tells its use)\n", buf_cstr(&text), v->name);
    buf_fini(&text);
    return false;
}

int cli_main(int argc, char **argv)
{
    struct cli_options o;

    if (argc < 1 || strcmp(argv[0], "help") == 0 || strcmp(argv[0], "--help") == 0 ||
        strcmp(argv[0], "-h") == 0)
        return list();
    const struct verb *v = find(argv[0]);
    if (v == NULL)
        return unknown(argv[0]);
    if (v->run == NULL)
        return v->run_alone(argc, argv);
    if (cli_wants_help(argc, argv))
        return help(v);
    return cli_options_read(argc, argv, v->takes, &o) && word_is_known(v, &o) ? v->run(&o)
                                                                              : CLI_WRONG_USE;
}
