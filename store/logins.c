#include "store/logins.h"

#include "base/digest.h"
#include "base/json.h"
#include "base/log.h"
#include "base/pack.h"
#include "store/internal.h"
#include "store/key.h"

enum { ROW_VERSION = 2, ROW_MEMBERS = 7, ROW_VERSION_1 = 1, ROW_MEMBERS_1 = 5 };
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
    uint32_t members = unpack_array(&u);
    uint64_t version = unpack_u64(&u);

    *s = (struct session){0};
    if (!(members == ROW_MEMBERS && version == ROW_VERSION) &&
        !(members == ROW_MEMBERS_1 && version == ROW_VERSION_1))
        return false;
    uint64_t role = unpack_u64(&u);
    s->until_wall_ms = unpack_u64(&u);
    s->name = unpack_str(&u);
    s->since_wall_ms = unpack_u64(&u);
    if (version == ROW_VERSION) {
        s->seen_wall_ms = unpack_u64(&u);
        s->from = unpack_str(&u);
    }
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

/* The texts of *s may lie in the map: they are packed before it changes. */
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
    pack_u64(&packed, s->seen_wall_ms);
    pack_str(&packed, s->from);
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
    struct session s;
    struct key k;

    if (r->session.len != LOGIN_DIGEST_BYTES || !row_find(t, ROW_LINK, r->ticket, now_ms, &s)) {
        *verdict = ANSWER_NOT_FOUND;
        buf_add_str(words,
                    "this link was used already, or is too old: postern login prints a new one");
        return 0;
    }
    s.since_wall_ms = s.seen_wall_ms = now_ms;
    s.until_wall_ms = now_ms + session_ms;
    s.from = slice_head(r->from, LOGIN_FROM_BYTES_MAX);
    buf_add_slice(words, s.name);
    if (row_put(t, ROW_SESSION, r->session, &s, err) != 0)
        return -1;
    return store_del(t, DB_LOGINS, row_key(&k, ROW_LINK, r->ticket), err);
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

bool session_is_news(const struct session *s, struct slice from, uint64_t now_ms)
{
    bool moved = !slice_eq(s->from, slice_head(from, LOGIN_FROM_BYTES_MAX));

    return now_ms >= s->seen_wall_ms + (moved ? LOGIN_MOVED_EVERY_MS : LOGIN_SEEN_EVERY_MS);
}

/* One that has ended meanwhile stays ended. */
static int session_seen(struct store_txn *t, const struct record_control *r, uint64_t now_ms,
                        struct err *err)
{
    struct session s;

    if (!row_find(t, ROW_SESSION, r->session, now_ms, &s) || !session_is_news(&s, r->from, now_ms))
        return 0;
    s.seen_wall_ms = now_ms;
    s.from = slice_head(r->from, LOGIN_FROM_BYTES_MAX);
    return row_put(t, ROW_SESSION, r->session, &s, err);
}

static void put_id(struct buf *to, struct slice digest)
{
    text_hex(to, slice_head(digest, LOGIN_ID_DIGITS / 2));
}

/* 1 it was there, 0 it was not, -1. */
static int row_end(struct store_txn *t, enum row_kind kind, struct slice digest, uint64_t now_ms,
                   struct slice who, struct err *err)
{
    struct session s;
    struct buf id = {0};
    struct key k;

    if (!row_find(t, kind, digest, now_ms, &s))
        return 0;
    put_id(&id, digest);
    log_info("dashboard: %s %s of %.*s is ended by %.*s", kind == ROW_LINK ? "the link" : "session",
             buf_cstr(&id), SLICE_ARGS(s.name),
             SLICE_ARGS(who.len > 0 ? slice_head(who, LOGIN_NAME_BYTES_MAX) : SLICE("a person")));
    buf_fini(&id);
    return store_del(t, DB_LOGINS, row_key(&k, kind, digest), err) == 0 ? 1 : -1;
}

static int sessions_end(struct store_txn *t, const struct record_control *r, uint64_t now_ms,
                        enum answer_verdict *verdict, uint32_t *count, struct buf *words,
                        struct err *err)
{
    if (r->ids.len == 0 || r->ids.len % LOGIN_DIGEST_BYTES != 0) {
        *verdict = ANSWER_REFUSED;
        buf_add_str(words, "what is to end is named by digests");
        return 0;
    }
    for (struct slice rest = r->ids; rest.len > 0; rest = slice_from(rest, LOGIN_DIGEST_BYTES)) {
        struct slice digest = slice_head(rest, LOGIN_DIGEST_BYTES);
        int link = row_end(t, ROW_LINK, digest, now_ms, r->who, err);
        int session = link < 0 ? -1 : row_end(t, ROW_SESSION, digest, now_ms, r->who, err);
        if (session < 0)
            return -1;
        *count += (uint32_t)(link + session);
    }
    if (*count == 0) {
        *verdict = ANSWER_NOT_FOUND;
        buf_add_str(words, "it has ended already");
    } else {
        buf_printf(words, "%u ended", *count);
    }
    return 0;
}

int login_control(struct store_txn *t, const struct record_control *r, uint64_t now_ms,
                  uint64_t session_ms, enum answer_verdict *verdict, uint32_t *count,
                  struct buf *words, struct err *err)
{
    *verdict = ANSWER_OK;
    *count = 0;
    switch (r->verb) {
    case CONTROL_LOGIN:
        return link_make(t, r, now_ms, verdict, words, err);
    case CONTROL_SIGN_IN:
        return link_use(t, r, now_ms, session_ms, verdict, words, err);
    case CONTROL_SESSION_SEEN:
        return session_seen(t, r, now_ms, err);
    case CONTROL_SESSIONS_END:
        return sessions_end(t, r, now_ms, verdict, count, words, err);
    default:
        return session_end(t, r, verdict, err);
    }
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

void login_each(struct store_txn *t, uint64_t now_ms, login_visitor *visit, void *arg)
{
    MDB_cursor *cursor;
    MDB_val key, value;

    if (mdb_cursor_open(t->mdb, t->store->dbi[DB_LOGINS], &cursor) != MDB_SUCCESS)
        return;
    int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    for (; rc == MDB_SUCCESS; rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        struct slice named = store_slice(key);
        struct login l = {0};
        struct buf id = {0};
        if (named.len != 1 + LOGIN_DIGEST_BYTES || !row_read(store_slice(value), &l.session) ||
            now_ms >= l.session.until_wall_ms)
            continue;
        l.is_link = named.ptr[0] == ROW_LINK;
        memcpy(l.digest, named.ptr + 1, LOGIN_DIGEST_BYTES);
        put_id(&id, slice_from(named, 1));
        memcpy(l.id, buf_cstr(&id), sizeof l.id);
        buf_fini(&id);
        if (!visit(arg, &l))
            break;
    }
    mdb_cursor_close(cursor);
}

const char *login_role_name(enum login_role role)
{
    return role == LOGIN_OPERATOR ? "operator" : "viewer";
}

void login_put_json(struct buf *to, const struct login *l)
{
    const struct session *s = &l->session;

    json_put_str(to, "id", slice_str(l->id));
    json_put_str(to, "kind", l->is_link ? SLICE("link") : SLICE("session"));
    json_put_str(to, "name", s->name);
    json_put_str(to, "role", slice_str(login_role_name(s->role)));
    json_put_u64(to, "since-ms", s->since_wall_ms);
    json_put_u64(to, "until-ms", s->until_wall_ms);
    json_put_u64(to, "seen-ms", s->seen_wall_ms);
    json_put_str(to, "from", s->from);
}
