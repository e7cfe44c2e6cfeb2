/*
 * postern doctor - is all well on the way from Postern to SES and back? (doctor/doctor.h)
 */
#include "doctor/doctor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/flags.h"
#include "cli/options.h"
#include "cli/page.h"
#include "cli/progress.h"

enum { PATIENCE_S_ABSENT = 60, PATIENCE_S_MAX = 3600, STATE_COLUMNS = 6, CHECK_COLUMNS = 19 };

struct showing {
    bool json, in_colour;
    struct progress waiting;
};

static int usage(void)
{
    (void)fputs(
        "usage: postern doctor [-c FILE] [option …]\n\n"
        "Looks at every hop of the mail's way to SES and of its events back, and says what\n"
        "is wrong and what mends it; changes nothing.\n\n"
        "options:\n"
        "  -c, --config FILE   the configuration (proxy.conf)\n"
        "  --live              also sends to SES's mailbox simulator, and follows each mail;\n"
        "                      POSTERN_API_KEY: the key, where FILE holds digests alone\n"
        "  --wait SECONDS      how long --live waits for what it sent (60)\n"
        "  --ghost URL         Ghost's baseUrl: does it lead here, and does Ghost read\n"
        "  --json              one line for each check, and one for all\n"
        "  -h, --help          this\n\n"
        "example:\n"
        "  postern doctor -c /etc/postern/proxy.conf --live\n\n" CLI_EXIT_HELP,
        stdout);
    return CLI_DONE;
}

static enum page_colour colour(enum finding_state state)
{
    switch (state) {
    case FINDING_OK:
        return PAGE_GREEN;
    case FINDING_SKIP:
        return PAGE_DIM;
    case FINDING_WARN:
        return PAGE_YELLOW;
    case FINDING_FAIL:
        return PAGE_RED;
    }
    return PAGE_PLAIN;
}

static void put_json(struct buf *to, const struct doctor_result *r)
{
    buf_add_byte(to, '{');
    json_put_str(to, "check", slice_str(r->check));
    json_put_str(to, "about", slice_str(r->about));
    json_put_str(to, "state", slice_str(finding_state_name(r->finding->state)));
    json_put_str(to, "reason", buf_slice(&r->finding->reason));
    json_put_str(to, "mend", buf_slice(&r->finding->mend));
    buf_add_str(to, "}\n");
}

static void put_text(struct buf *to, struct slice text)
{
    page_column(to, text, (unsigned)text.len); /* no control character gets through */
    while (to->len > 0 && to->ptr[to->len - 1] == ' ')
        to->len--;
}

static void put_lines(struct buf *to, const struct doctor_result *r, bool in_colour)
{
    const struct finding *f = r->finding;

    page_colour(to, in_colour ? colour(f->state) : PAGE_PLAIN);
    page_column(to, slice_str(finding_state_name(f->state)), STATE_COLUMNS);
    page_colour_end(to, in_colour ? colour(f->state) : PAGE_PLAIN);
    page_column(to, slice_str(r->check), CHECK_COLUMNS);
    if (r->about[0] != '\0') {
        put_text(to, slice_str(r->about));
        buf_add_str(to, f->reason.len > 0 ? ": " : "");
    }
    put_text(to, buf_slice(&f->reason));
    buf_add_byte(to, '\n');
    if (f->state >= FINDING_SKIP && f->mend.len > 0) {
        page_column(to, slice_none(), STATE_COLUMNS);
        buf_add_str(to, "→ ");
        put_text(to, buf_slice(&f->mend));
        buf_add_byte(to, '\n');
    }
}

static void on_checked(void *arg, const struct doctor_result *r)
{
    struct showing *s = arg;
    struct buf text = {0};

    progress_wipe(&s->waiting);
    if (s->json)
        put_json(&text, r);
    else
        put_lines(&text, r, s->in_colour);
    (void)fwrite(text.ptr, 1, text.len, stdout);
    (void)fflush(stdout);
    buf_fini(&text);
}

static void on_waiting(void *arg, uint64_t waited_ms, uint64_t patience_ms)
{
    struct showing *s = arg;

    if (waited_ms == 0)
        s->waiting = progress_begin("doctor");
    progress_show(&s->waiting, waited_ms, patience_ms, "waiting for the mails to come round");
}

static void show_sums(const struct showing *s, const struct doctor_sums *sums, bool well)
{
    const size_t *n = sums->count;

    if (s->json)
        (void)printf("{\"well\":%s,\"ok\":%zu,\"skip\":%zu,\"warn\":%zu,\"fail\":%zu}\n",
                     well ? "true" : "false", n[FINDING_OK], n[FINDING_SKIP], n[FINDING_WARN],
                     n[FINDING_FAIL]);
    else
        (void)printf("\n%s: %zu failed, %zu warnings, %zu left out, %zu well\n",
                     well ? "All is well" : "Not all is well", n[FINDING_FAIL], n[FINDING_WARN],
                     n[FINDING_SKIP], n[FINDING_OK]);
}

static bool read_options(int argc, char **argv, struct doctor_wishes *w, struct showing *s)
{
    const char *wait = NULL;
    uint64_t seconds = PATIENCE_S_ABSENT;
    const struct cli_flag flags[] = {
        {"-c", &w->config_path, NULL},    {"--config", &w->config_path, NULL},
        {"--ghost", &w->ghost_url, NULL}, {"--wait", &wait, NULL},
        {"--live", NULL, &w->live},       {"--json", NULL, &s->json},
    };

    if (!cli_flags_read(argc, argv, flags, sizeof flags / sizeof flags[0], NULL, 0))
        return false;
    if (wait != NULL &&
        (!slice_to_u64(slice_str(wait), &seconds) || seconds == 0 || seconds > PATIENCE_S_MAX)) {
        (void)fprintf(stderr, "postern doctor: --wait is a number of seconds, up to %d\n",
                      PATIENCE_S_MAX);
        return false;
    }
    w->patience_ms = seconds * 1000;
    return true;
}

int cli_doctor(int argc, char **argv)
{
    struct showing s = {.in_colour = page_has_colour(STDOUT_FILENO)};
    struct doctor_wishes w = {
        .config_path = "proxy.conf", .on_checked = on_checked, .on_waiting = on_waiting, .arg = &s};
    const char *key = getenv("POSTERN_API_KEY");

    if (cli_wants_help(argc, argv))
        return usage();
    if (!read_options(argc, argv, &w, &s))
        return CLI_WRONG_USE;
    w.api_key = key != NULL && key[0] != '\0' ? key : NULL;
    struct doctor_sums sums = doctor_run(&w);
    bool well = sums.count[FINDING_FAIL] == 0 && sums.count[FINDING_WARN] == 0;
    show_sums(&s, &sums, well);
    return well ? CLI_DONE : CLI_NOT_SO;
}
