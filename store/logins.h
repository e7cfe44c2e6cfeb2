/*
 * store/logins.h - who may use the dashboard: links that let a person in once, and the sessions that
 * have begun with one.
 *
 * SHAPE   logins: 'l' or 's', SHA-256 of the secret → packed [version, role, until ms, name, since
 *         ms]. The secret of a link is in the link alone, that of a session in its cookie alone: whoever
 *         reads the store cannot sign in with it.
 * ENDS    login_control(): the writer, in its write transaction. session_find(): anyone.
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
};

struct session {
    enum login_role role;
    uint64_t since_wall_ms, until_wall_ms;
    struct slice name;
};

/* CONTROL_LOGIN, CONTROL_SIGN_IN, CONTROL_SIGN_OUT. A link that is not there, was used, or is too old
 * is NOT_FOUND. 0 or -1. */
int login_control(struct store_txn *t, const struct record_control *r, uint64_t now_ms,
                  uint64_t session_ms, enum answer_verdict *verdict, struct buf *words,
                  struct err *err);

/* Could this link be used? The writer decides when it is; strangers' guesses need not reach it. */
bool login_link_is_good(struct store_txn *t, const uint8_t digest[LOGIN_DIGEST_BYTES],
                        uint64_t now_ms);
/* False: there is no such session, or it has expired. */
bool session_find(struct store_txn *t, const uint8_t digest[LOGIN_DIGEST_BYTES], uint64_t now_ms,
                  struct session *session);

#endif
