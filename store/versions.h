/*
 * store/versions.h - what was changed when and by whom, so that the later change counts in whatever
 * order machines hear of them (store/changes.h).
 *
 * SHAPE   domain, kind, what → µs, the changer's number, a flag, a text. The kinds up to
 *         VERSION_LISTS_END are those of enum suppression (store/list_changes.c says what stands
 *         behind them); the others are what people have asked of newsletters. A row also stands for
 *         what is gone: an older change that comes late does not bring it back.
 * ENDS    The writer.
 * CRASH   In the transaction of the change itself. Rows go VERSIONS_KEPT_MS after their change
 *         (store/retention.h): a machine that was away for longer may bring back what had gone.
 */
#ifndef STORE_VERSIONS_H
#define STORE_VERSIONS_H

#include "store/changes.h"
#include "store/key.h"

enum version_kind {
    VERSION_LISTS_END = 16,
    VERSION_DOMAIN_PAUSE,     /* the flag: paused */
    VERSION_DOMAIN_CANCEL,    /* the flag: of all lanes */
    VERSION_NEWSLETTER_PAUSE, /* behind it: a hash of the email-id */
    VERSION_NEWSLETTER_CANCEL,
};

struct version_row {
    struct version at;
    bool flag;
    struct slice text; /* valid until the transaction ends or writes */
};

struct key version_key(uint32_t domain, unsigned kind);
/* False, and a row of the beginning of time: nothing was ever changed. */
bool version_get(struct store_txn *t, const struct key *k, struct version_row *row);
int version_put(struct store_txn *t, const struct key *k, const struct version_row *row,
                struct err *err);
/* Raises the row to this version. 1, 0 when what stands there is not older, -1. */
int version_raise(struct store_txn *t, const struct key *k, const struct version *v, bool flag,
                  struct err *err);

#endif
