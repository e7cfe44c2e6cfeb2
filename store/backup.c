#include "store/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/batch_write.h"
#include "store/changes.h"
#include "store/gates.h"
#include "store/internal.h"
#include "store/key.h"

enum { PATH_BYTES = 4096 };

static struct slice mark_name(void)
{
    return SLICE("backup");
}

static int mark_copy(const char *dir, struct err *err)
{
    struct store *copy = store_open(dir, STORE_WRITE, err);
    struct key now = {.len = 0};
    int got = -1;

    if (copy == NULL)
        return -1;
    struct store_txn *t = store_begin_write(copy, err);
    if (t != NULL) {
        key_u64(&now, clock_wall_us());
        if (store_put(t, DB_META, mark_name(), key_slice(&now), err) == 0)
            got = store_commit(t, err); /* syncs all of the copy */
        else
            store_abort(t);
    }
    store_close(copy);
    return got;
}

/* A new name is only safe once its directory is on disk. */
static int sync_parent(const char *path, struct err *err)
{
    char parent[PATH_BYTES];
    const char *slash = strrchr(path, '/');

    (void)snprintf(parent, sizeof parent, "%.*s", slash == NULL ? 1 : (int)(slash - path) + 1,
                   slash == NULL ? "." : path);
    int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0) {
        if (fd >= 0)
            (void)close(fd);
        return err_sys(err, "%s cannot be synced", parent);
    }
    return close(fd) == 0 ? 0 : err_sys(err, "%s", parent);
}

int store_backup(struct store *s, const char *dir, struct err *err)
{
    char partial[PATH_BYTES], inner[PATH_BYTES + 8];
    struct stat about;
    int len = snprintf(partial, sizeof partial, "%s.partial", dir);

    if (len < 0 || (size_t)len >= sizeof partial)
        return err_set(err, ERR_INPUT, "the name is too long");
    if (lstat(dir, &about) == 0)
        return err_set(err, ERR_INPUT, "%s is there already: name a new directory", dir);
    (void)snprintf(inner, sizeof inner, "%s/store", partial);
    if (mkdir(partial, 0700) != 0)
        return errno == EEXIST ? err_set(err, ERR_INPUT,
                                         "%s is there: another backup runs, or one was cut off; "
                                         "remove it then",
                                         partial)
                               : err_sys(err, "cannot make %s", partial);
    if (mkdir(inner, 0700) != 0)
        return err_sys(err, "cannot make %s", inner);
    int rc = mdb_env_copy2(s->env, inner, MDB_CP_COMPACT);
    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, inner);
    if (mark_copy(partial, err) != 0)
        return -1;
    if (rename(partial, dir) != 0)
        return err_sys(err, "cannot name it %s", dir);
    return sync_parent(dir, err);
}

/* -------- put back -------- */

struct pausing {
    struct store_txn *t;
    struct err *err;
    int count;
};

static int pause_one(void *arg, uint64_t due_wall_ms, uint64_t batch_id, uint32_t lane)
{
    struct pausing *p = arg;

    (void)due_wall_ms, (void)lane;
    if (batch_mark_get(p->t, batch_id) != MARK_NONE)
        return 0;
    if (batch_mark_put(p->t, batch_id, MARK_PAUSED, p->err) != 0)
        return -1;
    p->count++;
    return 0;
}

static int pause_all(struct store_txn *t, struct err *err)
{
    struct pausing p = {.t = t, .err = err};

    if (due_each(t, pause_one, &p) != 0 || store_del(t, DB_META, mark_name(), err) != 0)
        return -1;
    return p.count;
}

int store_take_over_backup(struct store *s, uint64_t *made_us, struct err *err)
{
    struct store_txn *t = store_begin_write(s, err);
    struct slice row;
    int count = 0;

    *made_us = 0;
    if (t == NULL)
        return -1;
    if (store_get(t, DB_META, mark_name(), &row) && row.len == 8) {
        *made_us = read_be(row.ptr, 8);
        count = changes_renumber(t, err) == 0 ? pause_all(t, err) : -1;
    }
    if (count < 0 || *made_us == 0) {
        store_abort(t);
        return count;
    }
    return store_commit(t, err) == 0 ? count : -1;
}
