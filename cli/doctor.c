/*
 * postern doctor - is all well on the way from Postern to SES and back? (doctor/doctor.h)
 */
#include "doctor/doctor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/options.h"
#include "cli/page.h"

enum { PATIENCE_S_ABSENT = 60, PATIENCE_S_MAX = 3600, STATE_COLUMNS = 6, CHECK_COLUMNS = 19 };

struct showing {
    bool json, in_colour;
};

static int usage(FILE *to)
{
    (void)fputs(
        "usage: postern doctor [-c FILE] [option …]\n"
        "  looks at every hop of the mail's way to SES and of its events back, and says\n"
        "  what is wrong and what mends it; changes nothing\n"
        "    --live          also sends to SES's mailbox simulator, and follows each mail;\n"
        "                    POSTERN_API_KEY: the key, where FILE holds digests alone\n"
        "    --wait SECONDS  how long --live waits for what it sent (default 60)\n"
        "    --ghost URL     Ghost's baseUrl: does it lead here, and does Ghost read\n"
        "    --json          one line for each check, and one for all\n"
        "  exit status: 0 all is well, 1 something is not, 2 wrong use\n",
        to);
    return to == stdout ? CLI_DONE : CLI_WRONG_USE;
}

static const char *colour(enum finding_state state)
{
    switch (state) {
    case FINDING_OK:
        return "\033[32m";
    case FINDING_SKIP:
        return "\033[2m";
    case FINDING_WARN:
        return "\033[33m";
    case FINDING_FAIL:
        return "\033[31m";
    }
    return "";
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

    if (in_colour)
        buf_add_str(to, colour(f->state));
    page_column(to, slice_str(finding_state_name(f->state)), STATE_COLUMNS);
    if (in_colour)
        buf_add_str(to, "\033[0m");
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
    const struct showing *s = arg;
    struct buf text = {0};

    if (s->json)
        put_json(&text, r);
    else
        put_lines(&text, r, s->in_colour);
    (void)fwrite(text.ptr, 1, text.len, stdout);
    (void)fflush(stdout);
    buf_fini(&text);
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
    const struct {
        const char *name;
        const char **value;
    } valued[] = {{"-c", &w->config_path}, {"--ghost", &w->ghost_url}, {"--wait", &wait}};

    for (int i = 1; i < argc; i++) {
        size_t k = 0;
        while (k < sizeof valued / sizeof valued[0] && strcmp(argv[i], valued[k].name) != 0)
            k++;
        if (k < sizeof valued / sizeof valued[0]) {
            if (i + 1 >= argc) {
                (void)fprintf(stderr, "postern doctor: %s needs a value\n", argv[i]);
                return false;
            }
            *valued[k].value = argv[++i];
        } else if (strcmp(argv[i], "--live") == 0) {
            w->live = true;
        } else if (strcmp(argv[i], "--json") == 0) {
            s->json = true;
        } else {
            (void)fprintf(stderr, "postern doctor: '%s' is not understood; postern doctor --help\n",
                          argv[i]);
            return false;
        }
    }
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
    struct showing s = {.in_colour = isatty(STDOUT_FILENO) != 0 && getenv("NO_COLOR") == NULL};
    struct doctor_wishes w = {.config_path = "proxy.conf", .on_checked = on_checked, .arg = &s};
    const char *key = getenv("POSTERN_API_KEY");

    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--help") == 0)
            return usage(stdout);
    if (!read_options(argc, argv, &w, &s))
        return CLI_WRONG_USE;
    w.api_key = key != NULL && key[0] != '\0' ? key : NULL;
    struct doctor_sums sums = doctor_run(&w);
    bool well = sums.count[FINDING_FAIL] == 0 && sums.count[FINDING_WARN] == 0;
    show_sums(&s, &sums, well);
    return well ? CLI_DONE : CLI_NOT_SO;
}
