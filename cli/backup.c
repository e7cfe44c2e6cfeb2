/*
 * postern backup DIR - a hot copy of the state directory.
 */
#include "store/backup.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#include "base/json.h"
#include "cli/options.h"
#include "cli/progress.h"

enum { LOOK_MS = 100 };

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

/* -------- how far it is -------- */

/* LMDB copies in one call: beside it a thread looks at how large the copy has become. */
struct watch {
    struct progress progress;
    struct buf copy; /* its file */
    uint64_t whole_bytes;
    _Atomic bool is_over; /* the copying thread sets it, the watching one reads it */
};

static void *watch_main(void *arg)
{
    const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000L};
    struct watch *w = arg;
    struct stat about;

    while (!atomic_load(&w->is_over)) {
        if (stat((const char *)w->copy.ptr, &about) == 0)
            progress_show(&w->progress, (uint64_t)about.st_size, w->whole_bytes, NULL);
        (void)nanosleep(&pause, NULL);
    }
    progress_wipe(&w->progress);
    return NULL;
}

static int copy(struct store *store, const char *dir, struct err *err)
{
    struct watch w = {.progress = progress_begin("backup")};
    struct store_txn *t = store_begin_read(store, err);
    pthread_t thread;

    if (t == NULL)
        return -1;
    w.whole_bytes = store_used_bytes(t);
    store_end_read(t);
    buf_printf(&w.copy, "%s.partial/store/data.mdb", dir);
    (void)buf_cstr(&w.copy);
    bool is_watched = w.progress.on_terminal && pthread_create(&thread, NULL, watch_main, &w) == 0;
    int got = store_backup(store, dir, err);
    atomic_store(&w.is_over, true);
    if (is_watched)
        (void)pthread_join(thread, NULL);
    buf_fini(&w.copy);
    return got;
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
    if (copy(store, dir, &err) == 0)
        status = done(o, dir);
    else
        (void)fprintf(stderr, "postern backup: %s\n", err.text);
    store_close(store);
    config_free(config);
    return status;
}
