/*
 * postern backup DIR - a hot copy of the state directory.
 */
#include "store/backup.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/json.h"
#include "cli/options.h"

static int done(const struct cli_options *o, const char *dir)
{
    struct buf text = {0};
    struct stat about = {0};

    buf_printf(&text, "%s/store/data.mdb", dir);
    (void)stat(buf_cstr(&text), &about);
    buf_reset(&text);
    if (o->json) {
        buf_add_byte(&text, '{');
        json_put_str(&text, "directory", slice_str(dir));
        json_put_u64(&text, "bytes", (uint64_t)about.st_size);
        buf_add_byte(&text, '}');
    } else {
        buf_printf(&text,
                   "%s: %.1f MiB. To go back to it, start a Postern with it as state_dir: its open "
                   "batches are paused then, as they may have been sent since.",
                   dir, (double)about.st_size / (1 << 20));
    }
    (void)printf("%s\n", buf_cstr(&text));
    buf_fini(&text);
    return CLI_DONE;
}

int cli_backup(const struct cli_options *o)
{
    const char *dir = o->words[0];
    struct config *config;
    struct err err;
    int status = CLI_WRONG_USE;

    if (dir == NULL || o->words[1] != NULL) {
        (void)fprintf(stderr, "usage: postern backup [-c FILE] DIR\n");
        return CLI_WRONG_USE;
    }
    struct store *store = cli_store_open(o, &config);
    if (store == NULL)
        return CLI_WRONG_USE;
    if (store_backup(store, dir, &err) == 0)
        status = done(o, dir);
    else
        (void)fprintf(stderr, "postern backup: %s\n", err.text);
    store_close(store);
    config_free(config);
    return status;
}
