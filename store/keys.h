/*
 * store/keys.h - API keys that were added or withdrawn while Postern runs, beside those that stand in
 * proxy.conf.
 *
 * SHAPE   keys: SHA-256 of a key, domain ("" = all of them) → packed [ROW_VERSION, µs, node, state,
 *         sending only, added µs, label, by]. µs and node: the version of what was done last
 *         (store/changes.h); of two changes of a row the later counts. The key itself is nowhere.
 *         A key opens a domain that it is configured or was added for, by itself or with all, unless
 *         it is withdrawn for that domain or for all. So a row that is withdrawn also shuts out a key
 *         of proxy.conf, and it stays: a file that still has the key opens nothing.
 * ENDS    Puts and drops: the writer, in its write transaction. Look-ups: anyone; they read rows of
 *         one key, a page or two of a small tree, so a request needs no copy of them that could be
 *         out of date.
 * MEMORY  Slices point into the map until the transaction ends or writes.
 * ERRORS  A row that cannot be read counts as withdrawn.
 */
#ifndef STORE_KEYS_H
#define STORE_KEYS_H

#include "base/arena.h"
#include "base/config_keys.h"
#include "base/pack.h"
#include "store/changes.h"

enum {
    KEY_DOMAIN_BYTES_MAX = 253,
    KEY_LABEL_BYTES_MAX = 64,
    KEY_BY_BYTES_MAX = 32,
    KEY_ID_DIGITS = 12,   /* people name a key by so many digits of its digest … */
    KEY_PREFIX_DIGITS = 8 /* … or by these at least, which the log names */
};

enum key_state { KEY_ADDED = 1, KEY_WITHDRAWN };

struct key_row {
    uint8_t digest[SHA256_BYTES];
    struct slice domain; /* as configured; empty = all */
    struct version at;   /* of the last change */
    enum key_state state;
    bool only_sending;
    uint64_t added_us;      /* 0 = it was not added here: it stands in a file */
    struct slice label, by; /* by: who made the last change */
};

int key_row_put(struct store_txn *t, const struct key_row *row, struct err *err);
int key_row_drop(struct store_txn *t, const struct key_row *row, struct err *err);
/* False: there is none. */
bool key_row_get(struct store_txn *t, const uint8_t digest[SHA256_BYTES], struct slice domain,
                 struct key_row *row);
/* Are its texts such as a row may have: of a bounded length, and on one line? */
bool key_row_fits(const struct key_row *row);
/* Says in the log what the row's last change has done. asked: where. */
void key_row_log(const struct key_row *row, const char *asked);
/* A row as an element of a packed array, digest and domain included; false: it is none. */
void key_row_pack(struct buf *to, const struct key_row *row);
bool key_row_unpack(struct unpack *u, struct key_row *row);

/* Rows of one key, or all, by digest and domain, until visit answers false. */
typedef bool key_visitor(void *arg, const struct key_row *row);
void keys_of(struct store_txn *t, const uint8_t digest[SHA256_BYTES], key_visitor *visit,
             void *arg);
void keys_each(struct store_txn *t, key_visitor *visit, void *arg);

/* -------- all keys, wherever they stand: for people, and for who may seal -------- */

struct known_key {
    uint8_t digest[SHA256_BYTES];
    struct slice domain; /* empty = all */
    enum config_key_kind kind;
    bool is_configured; /* it stands in proxy.conf, for this domain */
    bool is_withdrawn;  /* for this domain, or for all */
    uint64_t since_us;  /* added, or withdrawn; 0 = not known */
    struct slice label, by;
};

struct known_keys {
    struct known_key *list; /* those of the configuration first */
    size_t count;
};

/* t: NULL = as if there were no rows. The list and its texts are the arena's. */
void known_keys_read(struct store_txn *t, const struct config *config, struct arena *a,
                     struct known_keys *keys);
/* Does it open this domain (empty: all domains, whichever they are)? */
bool known_key_opens(const struct known_keys *keys, const struct known_key *k, struct slice domain);

#endif
