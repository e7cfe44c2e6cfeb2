#include "store/store.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/mem.h"
#include "store/counters.h"
#include "store/event_lists.h"
#include "store/event_models.h"
#include "store/internal.h"
#include "store/key.h"
#include "store/migrate.h"
#include "store/totals.h"

enum {
    MAP_LEAST_BYTES =
        1 << 30,       /* address space, not disk: the file is as long as what was written */
    READERS_MAX = 510, /* processes of two generations, and people with the command line */
    PATH_BYTES = 4096,
    DOMAIN_BYTES_MAX = 255,
};

static const char *const db_names[DB_COUNT] = {
    [DB_META] = "meta",
    [DB_DOMAINS] = "domains",
    [DB_BATCHES] = "batches",
    [DB_CONTENTS] = "contents",
    [DB_RECIPIENTS] = "recipients",
    [DB_STATES] = "states",
    [DB_BOOKS] = "books",
    [DB_DUE] = "due",
    [DB_LEASES] = "leases",
    [DB_CLAIMS] = "claims",
    [DB_MESSAGE_IDS] = "message_ids",
    [DB_EXPANDING] = "expanding",
    [DB_EVENTS] = "events",
    [DB_EVENT_MODELS] = "event_models",
    [DB_EVENT_IDS] = "event_ids",
    [DB_BY_TAG] = "by_tag",
    [DB_BY_TYPE] = "by_type",
    [DB_BY_RECIPIENT] = "by_recipient",
    [DB_BY_MESSAGE] = "by_message",
    [DB_WATERMARKS] = "watermarks",
    [DB_SUPPRESSIONS] = "suppressions",
    [DB_LIFTED] = "lifted",
    [DB_DEADLETTERS] = "deadletters",
    [DB_UNHEARD] = "unheard",
    [DB_REPUTATION] = "reputation",
    [DB_SOFT_BOUNCES] = "soft_bounces",
    [DB_COUNTERS] = "counters",
    [DB_TAGS] = "tags",
    [DB_UNIQUES] = "uniques",
    [DB_GATES] = "gates",
    [DB_FEEDS] = "feeds",
    [DB_WEBHOOKS] = "webhooks",
    [DB_WEBHOOK_TARGETS] = "webhook_targets",
    [DB_WEBHOOK_DUE] = "webhook_due",
    [DB_WEBHOOK_FAILED] = "webhook_failed",
    [DB_TOTALS] = "totals",
    [DB_TAKEN] = "taken",
    [DB_TEMPLATES] = "templates",
    [DB_TEMPLATE_VERSIONS] = "template_versions",
    [DB_ELSEWHERE] = "elsewhere",
    [DB_LOGINS] = "logins",
    [DB_STAGED] = "staged",
    [DB_POSTED] = "posted",
    [DB_PARTS] = "parts",
    [DB_SERVED] = "served",
    [DB_UNTOLD] = "untold",
    [DB_VERSIONS] = "versions",
    [DB_EXPANDED] = "expanded",
    [DB_KEYS] = "keys",
};

int store_fail(struct err *err, int rc, const char *what)
{
    enum err_code code = ERR_STORE;

    assert(rc != MDB_SUCCESS);
    if (rc == MDB_MAP_FULL || rc == ENOSPC || rc == EDQUOT || rc == EFBIG)
        code = ERR_FULL;
    (void)err_set(err, code, "%s: %s", what, mdb_strerror(rc));
    if (err != NULL && rc > 0) /* LMDB's own codes are negative, the system's are not */
        err->sys = rc;
    return -1;
}

/* -------- opening -------- */

static int dbs_open(struct store *s, MDB_txn *txn, struct err *err)
{
    unsigned flags = s->mode == STORE_WRITE ? MDB_CREATE : 0;

    for (int i = 0; i < DB_COUNT; i++) {
        int rc = mdb_dbi_open(txn, db_names[i], flags, &s->dbi[i]);
        if (rc == MDB_NOTFOUND)
            return err_set(err, ERR_NOT_FOUND, "the store has no \"%s\" yet", db_names[i]);
        if (rc != MDB_SUCCESS)
            return store_fail(err, rc, db_names[i]);
    }
    return 0;
}

int schema_put(struct store *s, MDB_txn *txn, unsigned version, struct err *err)
{
    MDB_val name = store_val(SLICE("schema"));
    struct key k = {0};

    key_u32(&k, version);
    MDB_val value = store_val(key_slice(&k));
    int rc = mdb_put(txn, s->dbi[DB_META], &name, &value, 0);
    return rc == MDB_SUCCESS ? 0 : store_fail(err, rc, "writing the schema's version");
}

/* Reads the schema's version, or writes it into a store that is new. */
static int schema_agree(struct store *s, MDB_txn *txn, const char *dir, struct err *err)
{
    MDB_val name = store_val(SLICE("schema")), value;
    int rc = mdb_get(txn, s->dbi[DB_META], &name, &value);

    s->schema = STORE_SCHEMA;
    if (rc == MDB_NOTFOUND && s->mode == STORE_WRITE)
        return schema_put(s, txn, STORE_SCHEMA, err);
    if (rc == MDB_NOTFOUND)
        return err_set(err, ERR_NOT_FOUND, "the store in %s is not ready yet", dir);
    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "reading the schema's version");
    s->schema = value.mv_size == 4 ? (unsigned)read_be(value.mv_data, 4) : 0;
    if (s->schema < STORE_SCHEMA_OLDEST || s->schema > STORE_SCHEMA)
        return err_set(
            err, ERR_STORE,
            "the store in %s was written by %s Postern: its schema has version %u, this "
            "program reads versions %d to %d. Run the Postern that wrote it, or move the "
            "directory away to begin with an empty store",
            dir, s->schema < STORE_SCHEMA ? "an older" : "a newer", s->schema, STORE_SCHEMA_OLDEST,
            STORE_SCHEMA);
    if (s->schema < STORE_SCHEMA && s->mode == STORE_READ)
        return err_set(
            err, ERR_NOT_FOUND,
            "the store in %s has schema version %u, and is not brought to version %d yet", dir,
            s->schema, STORE_SCHEMA);
    return 0;
}

static int env_setup(struct store *s, const char *dir, size_t map_bytes, struct err *err)
{
    MDB_envinfo info;
    MDB_txn *txn;
    int rc = mdb_env_create(&s->env);

    if (rc != MDB_SUCCESS) {
        s->env = NULL;
        return store_fail(err, rc, "LMDB");
    }
    (void)mdb_env_set_maxdbs(s->env, DB_COUNT);
    (void)mdb_env_set_maxreaders(s->env, READERS_MAX);
    /* Without a size said before, LMDB takes the one that the file knows. MDB_NOTLS ties a reader's
     * slot to its transaction, which may then be reset and renewed beside a write transaction. */
    rc = mdb_env_open(s->env, dir, MDB_NOTLS | (s->mode == STORE_READ ? MDB_RDONLY : 0u), 0600);
    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, dir);
    (void)mdb_env_info(s->env, &info);
    if (s->mode == STORE_WRITE && info.me_mapsize < map_bytes) {
        rc = mdb_env_set_mapsize(s->env, map_bytes);
        if (rc != MDB_SUCCESS)
            return store_fail(err, rc, "setting the size of the map");
    }
    if (s->mode == STORE_WRITE)
        (void)store_sweep_readers(s);

    rc = mdb_txn_begin(s->env, NULL, s->mode == STORE_READ ? MDB_RDONLY : 0, &txn);
    if (rc == MDB_MAP_RESIZED) { /* the writer grew it between our open and here */
        rc = mdb_env_set_mapsize(s->env, 0);
        if (rc == MDB_SUCCESS)
            rc = mdb_txn_begin(s->env, NULL, s->mode == STORE_READ ? MDB_RDONLY : 0, &txn);
    }
    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, dir);
    if (dbs_open(s, txn, err) != 0 || schema_agree(s, txn, dir, err) != 0) {
        mdb_txn_abort(txn);
        return -1;
    }
    rc = mdb_txn_commit(txn); /* for a reader too: this is what keeps the database handles */
    return rc == MDB_SUCCESS ? 0 : store_fail(err, rc, dir);
}

struct store *store_open_sized(const char *state_dir, enum store_mode mode, size_t map_bytes,
                               struct err *err)
{
    char dir[PATH_BYTES], data[PATH_BYTES + 16];
    int len = snprintf(dir, sizeof dir, "%s/store", state_dir);

    if (len < 0 || (size_t)len >= sizeof dir) {
        (void)err_set(err, ERR_CONFIG, "state_dir is too long");
        return NULL;
    }
    (void)snprintf(data, sizeof data, "%s/data.mdb", dir);
    if (mode == STORE_WRITE) {
        if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
            (void)err_sys(err, "cannot make %s", dir);
            return NULL;
        }
    } else if (access(data, F_OK) != 0) {
        /* Asked first: LMDB would leave a lock file behind, owned by whoever was too early. */
        (void)err_set(err, ERR_NOT_FOUND, "there is no store in %s yet", dir);
        return NULL;
    }

    struct store *s = mem_zero(1, sizeof *s);
    s->mode = mode;
    s->reserve_bytes = STORE_RESERVE_BYTES;
    s->list_recent_rows_max = LIST_RECENT_ROWS_MAX;
    if (env_setup(s, dir, map_bytes, err) != 0 ||
        (s->schema < STORE_SCHEMA && store_migrate(s, err) != 0)) {
        store_close(s);
        return NULL;
    }
    return s;
}

int store_touch_lock(const char *state_dir, struct buf *path, struct err *err)
{
    buf_printf(path, "%s/store", state_dir);
    if (mkdir(buf_cstr(path), 0700) != 0 && errno != EEXIST)
        return err_sys(err, "cannot make %s", buf_cstr(path));
    buf_add_str(path, "/lock.mdb");
    int fd = open(buf_cstr(path), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return err_sys(err, "cannot make %s", buf_cstr(path));
    (void)close(fd);
    return 0;
}

struct store *store_open(const char *state_dir, enum store_mode mode, struct err *err)
{
    return store_open_sized(state_dir, mode, MAP_LEAST_BYTES, err);
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    if (s->writing.mdb != NULL)
        mdb_txn_abort(s->writing.mdb);
    if (s->reader != NULL)
        mdb_txn_abort(s->reader);
    if (s->env != NULL)
        mdb_env_close(s->env);
    counters_release(s);
    totals_release(s);
    event_lists_release(s);
    event_models_release(s);
    free(s);
}

/* -------- transactions -------- */

static int reader_renew(struct store *s)
{
    int rc = MDB_SUCCESS;

    if (s->reader != NULL) {
        rc = mdb_txn_renew(s->reader);
        if (rc == MDB_SUCCESS)
            return rc;
        mdb_txn_abort(s->reader);
        s->reader = NULL;
        if (rc != MDB_MAP_RESIZED)
            return rc;
    } else {
        rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &s->reader);
        if (rc == MDB_SUCCESS)
            return rc;
        s->reader = NULL;
        if (rc != MDB_MAP_RESIZED)
            return rc;
    }
    rc = mdb_env_set_mapsize(s->env, 0);
    if (rc == MDB_SUCCESS)
        rc = mdb_txn_begin(s->env, NULL, MDB_RDONLY, &s->reader);
    if (rc != MDB_SUCCESS)
        s->reader = NULL;
    return rc;
}

struct store_txn *store_begin_read(struct store *s, struct err *err)
{
    assert(!s->reader_busy);
    int rc = reader_renew(s);
    if (rc != MDB_SUCCESS) {
        (void)store_fail(err, rc, "beginning to read");
        return NULL;
    }
    s->reader_busy = true;
    s->reading = (struct store_txn){s, s->reader};
    return &s->reading;
}

void store_end_read(struct store_txn *t)
{
    struct store *s = t->store;

    assert(t == &s->reading && s->reader_busy);
    mdb_txn_reset(s->reader);
    s->reader_busy = false;
    t->mdb = NULL;
}

/* Doubles the map when half of it is used. Only between transactions: it moves. */
static int map_grow(struct store *s)
{
    MDB_envinfo info;
    MDB_stat stat;

    if (s->reader_busy)
        return MDB_SUCCESS;
    (void)mdb_env_info(s->env, &info);
    (void)mdb_env_stat(s->env, &stat);
    size_t used = (info.me_last_pgno + 1) * stat.ms_psize;
    if (used <= info.me_mapsize / 2 && !s->map_was_full)
        return MDB_SUCCESS;
    size_t size = info.me_mapsize;
    do
        size *= 2;
    while (used > size / 2);
    int rc = mdb_env_set_mapsize(s->env, size);
    if (rc == MDB_SUCCESS)
        s->map_was_full = false;
    return rc;
}

struct store_txn *store_begin_write(struct store *s, struct err *err)
{
    assert(s->mode == STORE_WRITE && s->writing.mdb == NULL);
    int rc = map_grow(s);
    if (rc == MDB_SUCCESS)
        rc = mdb_txn_begin(s->env, NULL, 0, &s->writing.mdb);
    if (rc == MDB_MAP_RESIZED && !s->reader_busy) {
        rc = mdb_env_set_mapsize(s->env, 0);
        if (rc == MDB_SUCCESS)
            rc = mdb_txn_begin(s->env, NULL, 0, &s->writing.mdb);
    }
    if (rc != MDB_SUCCESS) {
        s->writing.mdb = NULL;
        (void)store_fail(err, rc, "beginning to write");
        return NULL;
    }
    s->writing.store = s;
    s->has_enqueued = false;
    return &s->writing;
}

int store_commit(struct store_txn *t, struct err *err)
{
    struct store *s = t->store;

    assert(t == &s->writing && t->mdb != NULL);
    if (counters_flush(t, err) != 0 || totals_flush(t, err) != 0 ||
        event_lists_flush(t, err) != 0) {
        store_abort(t);
        return -1;
    }
    int rc = mdb_txn_commit(t->mdb); /* frees the handle, also when it fails */
    t->mdb = NULL;
    if (rc != MDB_SUCCESS)
        event_models_forget(s);
    if (rc == MDB_MAP_FULL)
        s->map_was_full = true;
    if (rc == MDB_BAD_TXN && s->map_was_full) /* an earlier put had failed: say why, not that */
        rc = MDB_MAP_FULL;
    return rc == MDB_SUCCESS ? 0 : store_fail(err, rc, "commit");
}

void store_abort(struct store_txn *t)
{
    assert(t == &t->store->writing && t->mdb != NULL);
    counters_forget(t->store);
    totals_forget(t->store);
    event_lists_forget(t->store);
    event_models_forget(t->store);
    mdb_txn_abort(t->mdb);
    t->mdb = NULL;
}

/* -------- room, readers -------- */

bool store_is_full(struct store *s)
{
    struct statvfs fs;
    int fd;

    if (mdb_env_get_fd(s->env, &fd) != MDB_SUCCESS || fstatvfs(fd, &fs) != 0)
        return false; /* not knowing is no reason to refuse mail: a commit would still tell */
    return (uint64_t)fs.f_bavail * fs.f_frsize < s->reserve_bytes;
}

void store_reserve(struct store *s, uint64_t bytes)
{
    s->reserve_bytes = bytes;
}

int store_sweep_readers(struct store *s)
{
    int dead = 0;

    (void)mdb_reader_check(s->env, &dead);
    return dead;
}

uint64_t store_used_bytes(struct store_txn *t)
{
    uint64_t bytes = 0;

    for (int i = 0; i < DB_COUNT; i++) {
        MDB_stat stat;
        if (mdb_stat(t->mdb, t->store->dbi[i], &stat) == MDB_SUCCESS)
            bytes += (stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages) *
                     (uint64_t)stat.ms_psize;
    }
    return bytes;
}

void store_room(struct store_txn *t, struct store_room *room)
{
    enum { META_PAGES = 2, FREE_DBI = 0, MAIN_DBI = 1 };
    const MDB_dbi own[] = {FREE_DBI, MAIN_DBI}; /* LMDB's, beside the named ones */
    MDB_envinfo info;
    MDB_stat stat;
    struct statvfs fs;
    uint64_t bytes = store_used_bytes(t);
    int fd;

    (void)mdb_env_info(t->store->env, &info);
    (void)mdb_env_stat(t->store->env, &stat);
    uint64_t page_bytes = stat.ms_psize, pages = (uint64_t)info.me_last_pgno + 1;
    uint64_t held = META_PAGES + bytes / page_bytes;
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (mdb_stat(t->mdb, own[i], &stat) == MDB_SUCCESS)
            held += stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
    *room = (struct store_room){
        .file_bytes = pages * page_bytes,
        .used_bytes = bytes,
        .map_bytes = info.me_mapsize,
        .free_pages = pages > held ? pages - held : 0, /* the file may be newer than t */
    };
    if (mdb_env_get_fd(t->store->env, &fd) == MDB_SUCCESS && fstatvfs(fd, &fs) == 0)
        room->disk_free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
}

/* -------- one key at a time -------- */

bool store_get(struct store_txn *t, enum store_db db, struct slice key, struct slice *value)
{
    MDB_val k = store_val(key), v;

    if (mdb_get(t->mdb, t->store->dbi[db], &k, &v) != MDB_SUCCESS)
        return false;
    *value = store_slice(v);
    return true;
}

int store_put(struct store_txn *t, enum store_db db, struct slice key, struct slice value,
              struct err *err)
{
    MDB_val k = store_val(key), v = store_val(value);
    int rc = mdb_put(t->mdb, t->store->dbi[db], &k, &v, 0);

    if (rc == MDB_MAP_FULL)
        t->store->map_was_full = true;
    return rc == MDB_SUCCESS ? 0 : store_fail(err, rc, db_names[db]);
}

int store_del(struct store_txn *t, enum store_db db, struct slice key, struct err *err)
{
    MDB_val k = store_val(key);
    int rc = mdb_del(t->mdb, t->store->dbi[db], &k, NULL);

    if (rc == MDB_MAP_FULL)
        t->store->map_was_full = true;
    return rc == MDB_SUCCESS || rc == MDB_NOTFOUND ? 0 : store_fail(err, rc, db_names[db]);
}

/* -------- domains -------- */

static bool domain_key(struct key *k, struct slice domain)
{
    if (domain.len == 0 || domain.len > DOMAIN_BYTES_MAX)
        return false;
    for (size_t i = 0; i < domain.len; i++) {
        uint8_t c = domain.ptr[i];
        key_u8(k, c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c);
    }
    return true;
}

uint32_t store_domain_find(struct store_txn *t, struct slice domain)
{
    struct key k;
    struct slice value;

    k.len = 0;
    if (!domain_key(&k, domain) || !store_get(t, DB_DOMAINS, key_slice(&k), &value) ||
        value.len != 4)
        return 0;
    return (uint32_t)read_be(value.ptr, 4);
}

uint32_t store_domain_intern(struct store_txn *t, struct slice domain, struct err *err)
{
    uint32_t number = store_domain_find(t, domain);
    struct key k = {0}, value = {0};
    MDB_stat stat;

    if (number != 0)
        return number;
    if (!domain_key(&k, domain)) {
        (void)err_set(err, ERR_INPUT, "a domain name of %zu bytes", domain.len);
        return 0;
    }
    int rc = mdb_stat(t->mdb, t->store->dbi[DB_DOMAINS], &stat);
    if (rc != MDB_SUCCESS) {
        (void)store_fail(err, rc, db_names[DB_DOMAINS]);
        return 0;
    }
    number = (uint32_t)stat.ms_entries + 1; /* domains are never taken out, so this one is free */
    key_u32(&value, number);
    if (store_put(t, DB_DOMAINS, key_slice(&k), key_slice(&value), err) != 0)
        return 0;
    return number;
}
