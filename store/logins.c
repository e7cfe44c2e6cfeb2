#include "store/logins.h"

#include "base/pack.h"
#include "store/internal.h"
#include "store/key.h"

enum { ROW_VERSION = 1, ROW_MEMBERS = 5 };
enum row_kind { ROW_LINK = 'l', ROW_SESSION = 's' };

static struct slice row_key(struct key *k, enum row_kind kind, struct slice digest)
{
    k->len = 0;
    key_u8(k, (uint8_t)kind);
    key_bytes(k, digest);
    return key_slice(k);
}

static bool row_read(struct slice value, struct session *s)
{
    struct unpack u = unpack_over(value);

    if (unpack_array(&u) != ROW_MEMBERS || unpack_u64(&u) != ROW_VERSION)
        return false;
    uint64_t role = unpack_u64(&u);
    s->until_wall_ms = unpack_u64(&u);
    s->name = unpack_str(&u);
    s->since_wall_ms = unpack_u64(&u);
    s->role = role == LOGIN_OPERATOR ? LOGIN_OPERATOR : LOGIN_VIEWER;
    return unpack_done(&u);
}

static bool row_find(struct store_txn *t, enum row_kind kind, struct slice digest, uint64_t now_ms,
                     struct session *s)
{
    struct slice value;
    struct key k;

    return digest.len == LOGIN_DIGEST_BYTES &&
           store_get(t, DB_LOGINS, row_key(&k, kind, digest), &value) && row_read(value, s) &&
           now_ms < s->until_wall_ms;
}

static int row_put(struct store_txn *t, enum row_kind kind, struct slice digest,
                   const struct session *s, struct err *err)
{
    struct buf packed = {0};
    struct key k;

    pack_array(&packed, ROW_MEMBERS);
    pack_u64(&packed, ROW_VERSION);
    pack_u64(&packed, (uint64_t)s->role);
    pack_u64(&packed, s->until_wall_ms);
    pack_str(&packed, s->name);
    pack_u64(&packed, s->since_wall_ms);
    int rc = store_put(t, DB_LOGINS, row_key(&k, kind, digest), buf_slice(&packed), err);
    buf_fini(&packed);
    return rc;
}

/* Takes out what has expired, or cannot be read: how many are left, or -1. There are few. */
static int rows_expire(struct store_txn *t, uint64_t now_ms, struct err *err)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    int left = 0;

    int rc = mdb_cursor_open(t->mdb, t->store->dbi[DB_LOGINS], &cursor);
    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "logins");
    rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    while (rc == MDB_SUCCESS) {
        struct session s;
        if (row_read(store_slice(value), &s) && now_ms < s.until_wall_ms)
            left++;
        else
            rc = mdb_cursor_del(cursor, 0);
        if (rc == MDB_SUCCESS)
            rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? left : store_fail(err, rc, "logins");
}

static int link_make(struct store_txn *t, const struct record_control *r, uint64_t now_ms,
                     enum answer_verdict *verdict, struct buf *words, struct err *err)
{
    const struct session s = {.role = (enum login_role)r->role,
                              .since_wall_ms = now_ms,
                              .until_wall_ms = now_ms + LOGIN_LINK_MS,
                              .name = slice_head(r->who, LOGIN_NAME_BYTES_MAX)};

    if (r->ticket.len != LOGIN_DIGEST_BYTES ||
        (r->role != LOGIN_VIEWER && r->role != LOGIN_OPERATOR)) {
        *verdict = ANSWER_REFUSED;
        buf_add_str(words, "a login names a role and the digest of its link");
        return 0;
    }
    int left = rows_expire(t, now_ms, err);
    if (left < 0)
        return -1;
    if (left >= LOGIN_ROWS_MAX) {
        *verdict = ANSWER_LIMIT;
        buf_add_str(words, "there are too many sessions: sign some out, or wait till they expire");
        return 0;
    }
    return row_put(t, ROW_LINK, r->ticket, &s, err);
}

static int link_use(struct store_txn *t, const struct record_control *r, uint64_t now_ms,
                    uint64_t session_ms, enum answer_verdict *verdict, struct buf *words,
                    struct err *err)
{
    uint8_t name[LOGIN_NAME_BYTES_MAX];
    struct session s;
    struct key k;

    if (r->session.len != LOGIN_DIGEST_BYTES || !row_find(t, ROW_LINK, r->ticket, now_ms, &s)) {
        *verdict = ANSWER_NOT_FOUND;
        buf_add_str(words,
                    "this link was used already, or is too old: postern login prints a new one");
        return 0;
    }
    /* What it points to moves with the first change. */
    s.name = slice_head(s.name, sizeof name);
    if (s.name.len > 0)
        memcpy(name, s.name.ptr, s.name.len);
    s.name.ptr = name;
    s.since_wall_ms = now_ms;
    s.until_wall_ms = now_ms + session_ms;
    buf_add_slice(words, s.name);
    if (store_del(t, DB_LOGINS, row_key(&k, ROW_LINK, r->ticket), err) != 0)
        return -1;
    return row_put(t, ROW_SESSION, r->session, &s, err);
}

static int session_end(struct store_txn *t, const struct record_control *r,
                       enum answer_verdict *verdict, struct err *err)
{
    struct key k;

    if (r->session.len == LOGIN_DIGEST_BYTES)
        return store_del(t, DB_LOGINS, row_key(&k, ROW_SESSION, r->session), err);
    *verdict = ANSWER_REFUSED;
    return 0;
}

int login_control(struct store_txn *t, const struct record_control *r, uint64_t now_ms,
                  uint64_t session_ms, enum answer_verdict *verdict, struct buf *words,
                  struct err *err)
{
    *verdict = ANSWER_OK;
    if (r->verb == CONTROL_LOGIN)
        return link_make(t, r, now_ms, verdict, words, err);
    if (r->verb == CONTROL_SIGN_IN)
        return link_use(t, r, now_ms, session_ms, verdict, words, err);
    return session_end(t, r, verdict, err);
}

bool login_link_is_good(struct store_txn *t, const uint8_t digest[LOGIN_DIGEST_BYTES],
                        uint64_t now_ms)
{
    struct session s;

    return row_find(t, ROW_LINK, slice_of(digest, LOGIN_DIGEST_BYTES), now_ms, &s);
}

bool session_find(struct store_txn *t, const uint8_t digest[LOGIN_DIGEST_BYTES], uint64_t now_ms,
                  struct session *session)
{
    return row_find(t, ROW_SESSION, slice_of(digest, LOGIN_DIGEST_BYTES), now_ms, session);
}
