/*
 * postern import FILE - takes over what a Node proxy has kept: addresses not to be sent to, events,
 * and whose newsletter a mail is that the proxy gave to SES. What the file is shows in its first
 * bytes. The running Postern stores it (store/import.h); a dry run reads its store and asks nobody.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/import_sink.h"
#include "cli/page.h"
#include "cli/request.h"

enum { NUMBER_COLUMNS = 12 };

/* -------- the file -------- */

/* The whole of it, mapped for reading; an empty slice and *err when it cannot be. */
static struct slice map_file(const char *path, struct err *err)
{
    struct slice text = slice_none();
    struct stat about;
    void *at;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || fstat(fd, &about) != 0)
        (void)err_sys(err, "%s", path);
    else if (!S_ISREG(about.st_mode) || about.st_size == 0)
        (void)err_set(err, ERR_INPUT, "%s: %s", path,
                      S_ISREG(about.st_mode) ? "it is empty" : "it is no file");
    else if ((at = mmap(NULL, (size_t)about.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) == MAP_FAILED)
        (void)err_sys(err, "%s", path);
    else
        text = slice_of(at, (size_t)about.st_size);
    if (fd >= 0)
        (void)close(fd);
    return text;
}

static bool is_packed(struct slice text)
{
    return slice_starts(text, SLICE("\x1f\x8b")) || slice_starts(text, SLICE("BZh")) ||
           slice_starts(text, SLICE("\xfd"
                                    "7zXZ")) ||
           slice_starts(text, SLICE("\x28\xb5\x2f\xfd"));
}

static int read_source(struct import_sink *s, struct slice text, const char **kind, struct err *err)
{
    if (is_packed(text))
        return err_set(err, ERR_INPUT, "%s is compressed: unpack it first", s->source);
    if (slice_starts(text, SLICE("SQLite format 3"))) {
        *kind = "ghost-ses-proxy";
        return import_sqlite(s, s->source, err);
    }
    *kind = "mailgun-ses-proxy";
    return import_dump(s, text, err);
}

/* -------- what came of it -------- */

static void put_json(const struct import_sink *s, const char *kind)
{
    struct buf line = {0};

    buf_add_byte(&line, '{');
    json_put_str(&line, "source", slice_str(s->source));
    json_put_str(&line, "kind", slice_str(kind));
    json_put_bool(&line, "dry-run", s->o->dry_run);
    json_put_bool(&line, "whole", !s->failed);
    for (int sum = 0; sum < IMPORT_SUMS; sum++)
        json_put_u64(&line, import_sum_name((enum import_sum)sum), s->sums.sums[sum]);
    json_put_u64(&line, "not-understood", s->refused);
    json_put_name(&line, "left");
    buf_add_byte(&line, '[');
    for (size_t i = 0; i < SINK_LEFT_MAX && s->left[i].why != NULL; i++) {
        buf_add_str(&line, i == 0 ? "{" : ",{");
        json_put_str(&line, "why", slice_str(s->left[i].why));
        json_put_u64(&line, "count", s->left[i].count);
        buf_add_byte(&line, '}');
    }
    buf_add_str(&line, "]}\n");
    (void)fwrite(line.ptr, 1, line.len, stdout);
    buf_fini(&line);
}

static void put_line(uint64_t count, const char *words)
{
    struct buf line = {0};

    if (count == 0)
        return;
    page_number(&line, count, NUMBER_COLUMNS);
    buf_printf(&line, "  %s\n", words);
    (void)fwrite(line.ptr, 1, line.len, stdout);
    buf_fini(&line);
}

static void put_lines(const struct import_sink *s, const char *kind)
{
    static const char *const words[IMPORT_SUMS] = {
        [IMPORT_EVENTS] = "events",
        [IMPORT_LATE] = "events, under a later time: readers have been answered beyond theirs",
        [IMPORT_KNOWN] = "events that are there already",
        [IMPORT_BEHIND] = "events left out: readers have been answered long beyond them (--late)",
        [IMPORT_EXPIRED] = "events and mails left out: older than retention { events } keeps",
        [IMPORT_LISTED] = "addresses, put on their lists",
        [IMPORT_LISTED_KNOWN] = "addresses that are on their lists already, or on the allowlist",
        [IMPORT_MAILS] = "message ids of mails, put beside their newsletters",
        [IMPORT_MAILS_KNOWN] = "message ids that are there already",
        [IMPORT_NOT_READ] = "records that Postern did not take: of no domain of the running one's",
    };
    const uint64_t *sums = s->sums.sums;

    (void)printf("%s of %s%s\n", s->source, kind,
                 s->o->dry_run ? ": this would be taken, and was not (--dry-run)" : "");
    for (int sum = 0; sum < IMPORT_SUMS; sum++)
        put_line(sums[sum], words[sum]);
    for (size_t i = 0; i < SINK_LEFT_MAX && s->left[i].why != NULL; i++)
        put_line(s->left[i].count, s->left[i].why);
    put_line(s->refused, "rows that cannot be used: see above");
    if (sums[IMPORT_EVENTS] + sums[IMPORT_LATE] + sums[IMPORT_LISTED] + sums[IMPORT_MAILS] == 0)
        (void)printf("nothing new\n");
}

/* -------- the subcommand -------- */

static int say(const char *words)
{
    (void)fprintf(stderr, "postern import: %s\n", words);
    return CLI_WRONG_USE;
}

static int take(const struct cli_options *o, const struct config *config, struct slice text)
{
    struct import_sink s;
    const char *kind = "";
    struct err err;
    int status = CLI_DONE;

    if (sink_open(&s, o, config, &err) != 0) {
        sink_close(&s);
        return say(err.text);
    }
    if (read_source(&s, text, &kind, &err) != 0) {
        progress_wipe(&s.progress);
        (void)say(err.text);
        status = CLI_NOT_SO;
    } else {
        progress_wipe(&s.progress);
        (o->json ? put_json : put_lines)(&s, kind);
        if (s.failed || s.refused + s.sums.sums[IMPORT_NOT_READ] > 0)
            status = CLI_NOT_SO;
    }
    sink_close(&s);
    return status;
}

static int take_for(const struct cli_options *o, const struct config *config)
{
    struct err err;

    if (o->domain != NULL && config_domain_find(config, slice_str(o->domain)) == NULL)
        return say("--domain names no domain of the configuration");
    if (!o->dry_run) {
        cJSON *status = cli_status_get(config, &err);
        json_free(status);
        if (status == NULL) {
            (void)say(err.text);
            (void)say("the running Postern stores what is imported: start it, and import again");
            return err.code == ERR_NOT_FOUND ? CLI_NOT_SO : CLI_WRONG_USE;
        }
    }
    struct slice text = map_file(o->words[0], &err);
    if (text.len == 0)
        return say(err.text);
    int status = take(o, config, text);
    (void)munmap((void *)(uintptr_t)text.ptr, text.len);
    return status;
}

int cli_import(const struct cli_options *o)
{
    if (o->words[0] == NULL || o->words[1] != NULL) {
        (void)fprintf(stderr, "usage: postern import [-c FILE] [--dry-run] [--domain NAME] [--late "
                              "TIME] [--json] FILE\n");
        return CLI_WRONG_USE;
    }
    struct config *config = cli_config_load(o);
    if (config == NULL)
        return CLI_WRONG_USE;
    int status = take_for(o, config);
    config_free(config);
    return status;
}
