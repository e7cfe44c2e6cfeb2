/*
 * store/internal.h - what the files of store/ share and nobody else includes: LMDB itself.
 */
#ifndef STORE_INTERNAL_H
#define STORE_INTERNAL_H

#include <lmdb.h>

#include "base/buf.h"
#include "store/store.h"

/* The named databases. Keys are described in store/key.h. */
enum store_db {
    DB_META,         /* name → value */
    DB_DOMAINS,      /* domain name (lower case) → number (u32): keys hold the number */
    DB_BATCHES,      /* batch id → packed head */
    DB_CONTENTS,     /* batch id → packed content */
    DB_RECIPIENTS,   /* batch id, slice → packed recipients */
    DB_STATES,       /* batch id, slice → a byte per recipient */
    DB_BOOKS,        /* batch id → struct books */
    DB_DUE,          /* due ms, batch id → lane: batches with something left to do */
    DB_LEASES,       /* sender, lease id → generation, cell, batch, slice, mask */
    DB_CLAIMS,       /* claim (16 bytes) → batch id */
    DB_MESSAGE_IDS,  /* hash of (domain, message id) → batch id */
    DB_EXPANDING,    /* batch id → first slice whose `accepted` events are to be written */
    DB_EVENTS,       /* domain, ts, event id → ses_us, packed event, or what it is like */
    DB_EVENT_MODELS, /* domain, day, sort → packed event: store/event_models.h */
    DB_EVENT_IDS,    /* event id → ts */
    DB_BY_TAG,       /* domain, tag hash, type, ts, event id → "" */
    DB_BY_TYPE,      /* domain, type, ts, event id → "" */
    DB_BY_RECIPIENT, /* lists (store/event_lists.h); `accepted`: see events.c */
    DB_BY_MESSAGE,   /* lists; `accepted`: domain, message-id hash, ts, event id → count */
    DB_WATERMARKS,   /* domain → µs */
    DB_SUPPRESSIONS, /* domain, list, address → entry */
    DB_LIFTED,       /* address → µs: to be taken off SES's own suppression list */
    DB_DEADLETTERS,  /* time, hash → source, why, raw */
    DB_UNHEARD,      /* digest of a message's fields (16 bytes) → µs, the answer's id */
    DB_REPUTATION,   /* domain, hour → sent, hard bounces, complaints (u32 each) */
    DB_SOFT_BOUNCES, /* domain, address → µs of each since the last delivery */
    DB_COUNTERS,     /* what is counted, day or hour → numbers of events: store/counters.h */
    DB_TAGS,         /* domain, tag → last and first seen (µs), the tag as written */
    DB_UNIQUES,      /* who has opened or clicked what */
    DB_GATES,        /* 'd', domain | 'b', batch id → why it is held, since when, words */
    DB_FEEDS,        /* domain → when its last event came, what was sent since: store/feed.h */
    DB_WEBHOOKS,     /* where events are told, and what is still to be: store/webhooks.h */
    DB_WEBHOOK_TARGETS,
    DB_WEBHOOK_DUE,
    DB_WEBHOOK_FAILED,
    DB_TOTALS,    /* domain, lane → what it has had and has: store/totals.h */
    DB_TAKEN,     /* batch id → what SES said of it: store/taken.h */
    DB_TEMPLATES, /* stored templates: store/templates.h */
    DB_TEMPLATE_VERSIONS,
    DB_ELSEWHERE, /* SES's message id → µs, whose newsletter it is: store/elsewhere.h */
    DB_LOGINS,    /* links and sessions of the dashboard: store/logins.h */
    DB_STAGED,    /* the buffer queue's: store/buffer.h */
    DB_POSTED,
    DB_PARTS,
    DB_SERVED,
    DB_UNTOLD,   /* µs → a change that other machines are to know: store/changes.h */
    DB_VERSIONS, /* what was changed when, here or elsewhere: store/versions.h */
    DB_EXPANDED, /* batch id → whose `accepted` events are here: store/replicas.h */
    DB_KEYS,     /* API keys that were added or withdrawn: store/keys.h */
    DB_COUNT,
};

struct store_txn {
    struct store *store;
    MDB_txn *mdb;
};

struct counters;
struct total_changes;
struct event_models;

struct store {
    MDB_env *env;
    MDB_dbi dbi[DB_COUNT];
    enum store_mode mode;
    MDB_txn *reader; /* reset, ready to be renewed */
    bool reader_busy;
    struct store_txn reading, writing; /* the one of each kind; writing.mdb: NULL between two */
    bool has_enqueued;                 /* the open transaction has put due rows of webhooks */
    bool map_was_full; /* a put has met the map's end: grow, however little is used */
    unsigned schema;   /* of what lies on the disk */
    bool has_untold;   /* the open transaction has put changes that a poller is to tell */
    uint64_t node; /* this store's number among those that tell changes; 0 = they are not told */
    uint64_t reserve_bytes;
    uint32_t list_recent_rows_max; /* LIST_RECENT_ROWS_MAX; tests need fewer */
    struct buf listed;             /* store/event_lists.h: waits for the commit */
    struct counters *counters;     /* what the open transaction has counted; NULL = nothing yet */
    struct total_changes *totals;  /* the same of store/totals.h */
    struct event_models *models;   /* store/event_models.h; NULL = none yet */
};

/* As store_open(), with the least size of the map said by the caller (tests start with a tiny one).
 */
struct store *store_open_sized(const char *state_dir, enum store_mode mode, size_t map_bytes,
                               struct err *err);

int schema_put(struct store *s, MDB_txn *txn, unsigned version, struct err *err);

/* Fills *err from an LMDB return code; returns -1. MDB_MAP_FULL and ENOSPC become ERR_FULL. */
int store_fail(struct err *err, int rc, const char *what);

/* The number that stands for a domain in keys; 0 when the domain has none yet (reading). */
uint32_t store_domain_find(struct store_txn *t, struct slice domain);
/* The same, given out when new. 0 on failure. (Writing.) */
uint32_t store_domain_intern(struct store_txn *t, struct slice domain, struct err *err);

static inline MDB_val store_val(struct slice s)
{
    union {
        const void *in;
        void *out; /* LMDB takes a void * it does not write through */
    } u = {.in = s.ptr};
    return (MDB_val){s.len, u.out};
}

static inline struct slice store_slice(MDB_val v)
{
    return slice_of(v.mv_data, v.mv_size);
}

/* Point look-up: true and the value, or false. */
bool store_get(struct store_txn *t, enum store_db db, struct slice key, struct slice *value);
/* Put (replacing) and delete; 0 or -1. Deleting what is not there is 0. */
int store_put(struct store_txn *t, enum store_db db, struct slice key, struct slice value,
              struct err *err);
int store_del(struct store_txn *t, enum store_db db, struct slice key, struct err *err);

#endif
