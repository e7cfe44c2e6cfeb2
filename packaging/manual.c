/*
 * Writes proxy.conf(5) from the table of settings: what the program takes and what the manual says
 * are the same.
 */
#include <stdio.h>
#include <string.h>

#include "base/config.h"

static const struct {
    const char *section, *about;
} sections[] = {
    {"", "Settings outside of any section."},
    {"log", "What is told of the work and of what goes wrong, and where."},
    {"httpd", "Serving the API."},
    {"sender", "Sending through SES."},
    {"guard", "When the mail of a domain endangers the account: shares of hard bounces and "
              "complaints of what "
              "was sent."},
    {"poller", "Reading the event queues."},
    {"aws",
     "Whom to speak to, and as whom; what is left out, the variables of AWS's own tools fill."},
    {"queues", "URLs of SQS queues."},
    {"sandbox", "A stand-in for SES, SNS and SQS inside this program."},
    {"webhooks", "Telling events to the URLs that clients have named over the API."},
    {"alarm", "When Postern says that something on the way back from SES is wrong."},
    {"metrics", "Who may read the figures that Prometheus collects, at /metrics."},
    {"retention", "How long things are kept."},
    {"domain", "One section for each sending domain, with its name: "},
};

/* Nothing in a table of ours begins a line with a dot, but a text may hold a backslash. */
static void put(const char *text)
{
    for (; *text != '\0'; text++)
        (void)printf(*text == '\\' ? "\\e" : *text == '-' ? "\\-" : "%c", *text);
}

static void put_setting(const struct config_setting *s)
{
    (void)printf(".It Ic ");
    put(s->name);
    (void)printf(" No = Ar %s\n", s->form);
    put(s->help[0] != '\0' ? s->help : s->name);
    (void)printf(".\n");
    if (s->absent[0] != '\0') {
        (void)printf("Default: ");
        put(s->absent);
        (void)printf(".\n");
    }
    if (!s->reloadable)
        (void)printf("A change needs a restart.\n");
}

static void put_section(const char *name, const char *about)
{
    struct config_setting s;

    if (name[0] == '\0')
        (void)printf(".Ss Outside of sections\n");
    else
        (void)printf(".Ss %s\n", name);
    put(about);
    if (strcmp(name, "domain") == 0)
        (void)printf("\n.Ic domain Qq mg.example.com Brq No ... .");
    (void)printf("\n.Bl -tag -width indent\n");
    for (size_t i = 0; config_setting_at(i, &s); i++)
        if (strcmp(s.section, name) == 0)
            put_setting(&s);
    (void)printf(".El\n");
}

int main(void)
{
    (void)printf(
        ".Dd $Mdocdate$\n.Dt PROXY.CONF 5\n.Os\n.Sh NAME\n.Nm proxy.conf\n"
        ".Nd configuration of Postern\n.Sh DESCRIPTION\n"
        "The file is read by\n.Xr postern 8\nat its start and on\n.Dv SIGHUP .\n"
        ".Ql postern -t -c Ar file\nnames every mistake in it with its line.\n.Pp\n"
        "It holds settings,\n.Ql key = value ,\nand sections,\n.Ql section { ... } .\n"
        "A list stands in braces, with commas.\nTexts stand in quotes.\n"
        "A\n.Ql #\nbegins a comment.\n"
        ".Ql ${NAME}\nin a value reads the environment, so that no secret need stand in the file.\n"
        ".Bl -tag -width indent\n"
        ".It Ar time\na number with its unit: ms, s, m, h, d; as\n.Qq 10m\n"
        ".It Ar size\na number with its unit: K, M, G; as\n.Qq 32M\n"
        ".It Ar share\na percentage, as\n.Qq 0.1%%\n"
        ".It Ar rate\n.Qq auto ,\na number of recipients a second, or a share of what the account "
        "may "
        "send, as\n.Qq 50%%\n"
        ".It Ar address\nhost:port; a host of * is any, an IPv6 address stands in brackets\n.El\n"
        ".Sh SETTINGS\n");
    for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++)
        put_section(sections[i].section, sections[i].about);
    (void)printf(".Sh SEE ALSO\n.Xr postern 8\n");
    return 0;
}
