/*
 * store/logins.h - who may use the dashboard: links that let a person in once, and the sessions that
 * have begun with one.
 *
 * SHAPE   logins: 'l' or 's', SHA-256 of the secret → packed [version, role, until ms, name, since
 *         ms, seen ms, from]; version 1 has not the last two. The secret of a link is in the link
 *         alone, that of a session in its cookie alone: whoever reads the store cannot sign in with it.
 *         People name a row by the first LOGIN_ID_DIGITS hexadecimal digits of its key's digest, as
 *         the log does.
 * ENDS    login_control(): the writer, in its write transaction. Look-ups: anyone.
 * UNITS   Wall milliseconds.
 * MEMORY  Slices point into the map until the transaction ends.
 * CRASH   Using a link and beginning the session are one transaction: a link works once, or is still
 *         there.
 */
#ifndef STORE_LOGINS_H
#define STORE_LOGINS_H

#include "shm/record.h"
#include "store/store.h"

enum {
    LOGIN_LINK_MS = 10 * 60 * 1000, /* a link is for now */
    LOGIN_ROWS_MAX = 1000,          /* links and sessions; then no more until some have expired */
    LOGIN_NAME_BYTES_MAX = 64,
    LOGIN_FROM_BYTES_MAX = 64,
    LOGIN_ID_DIGITS = 8,
    LOGIN_SEEN_EVERY_MS = 60 * 1000, /* so exact is `seen`: not every request is a commit */
    LOGIN_MOVED_EVERY_MS = 5 * 1000, /* and so often it may move to another address */
};

struct session {
    enum login_role role;
    uint64_t since_wall_ms, until_wall_ms;
    uint64_t seen_wall_ms; /* the last request; 0 = of an older version, and not seen since */
    struct slice name;
    struct slice from; /* the browser's address of that request; empty = not known */
};

/* CONTROL_LOGIN and what follows it in enum control_verb. A link that is not there, was used, or is
 * too old is NOT_FOUND, as are ids of which none is there; *count is how many were ended. 0 or -1. */
int login_control(struct store_txn *t, const struct record_control *r, uint64_t now_ms,
                  uint64_t session_ms, enum answer_verdict *verdict, uint32_t *count,
                  struct buf *words, struct err *err);
/* Does the session's row have to be told that it was used from there now? */
bool session_is_news(const struct session *s, struct slice from, uint64_t now_ms);

/* Could this link be used? The writer decides when it is; strangers' guesses need not reach it. */
bool login_link_is_good(struct store_txn *t, const uint8_t digest[LOGIN_DIGEST_BYTES],
                        uint64_t now_ms);
/* False: there is no such session, or it has expired. */
bool session_find(struct store_txn *t, const uint8_t digest[LOGIN_DIGEST_BYTES], uint64_t now_ms,
                  struct session *session);

/* Links that were not used yet, then sessions; those that have not expired, until visit answers
 * false. */
struct login {
    bool is_link;
    uint8_t digest[LOGIN_DIGEST_BYTES];
    char id[LOGIN_ID_DIGITS + 1];
    struct session session; /* of a link: the one that would begin */
};
typedef bool login_visitor(void *arg, const struct login *l);
void login_each(struct store_txn *t, uint64_t now_ms, login_visitor *visit, void *arg);
/* As JSON, without the braces around it. */
void login_put_json(struct buf *to, const struct login *l);
const char *login_role_name(enum login_role role);

#endif
