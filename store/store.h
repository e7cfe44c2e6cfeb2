/*
 * store/store.h - the LMDB environment: opening, transactions, room.
 *
 * SHAPE   One environment in state_dir/store, databases as listed in docs/architecture.md. Keys
 *         are big-endian, so that order is meaning (store/key.h).
 * ENDS    The writer opens for writing and is the only one that commits; everyone else opens
 *         read-only and uses short read transactions, none longer than a turn of its loop. Open
 *         after fork(), never before. Single-threaded processes only.
 * MEMORY  Slices read in a transaction point into the map: valid until that transaction ends. In a
 *         write transaction: until its next put or delete.
 * ERRORS  -1 and *err: ERR_FULL when disk or map is full, ERR_NOT_FOUND when there is no store
 *         yet, ERR_STORE otherwise. After ERR_STORE from store_commit() the disk cannot be trusted
 *         to hold what LMDB believes: the process should end and be replaced.
 * CRASH   LMDB's two meta pages: what was not committed never was. Commits are synced (no
 *         MDB_NOSYNC). A dead reader's slot pins old pages until store_sweep_readers().
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

struct store;
struct store_txn;

enum store_mode { STORE_READ, STORE_WRITE };

enum {
    STORE_SCHEMA = 6,        /* raised with every change of what is stored: store/migrate.c */
    STORE_SCHEMA_OLDEST = 3, /* that is brought up to it */
    STORE_RESERVE_BYTES = 64 << 20, /* kept free for the outcomes of what was already accepted */
};

/* Creates directory and databases in STORE_WRITE mode, and brings an older schema up to date, in one
 * transaction; refuses a schema version it does not know. In STORE_READ mode a store that is not
 * there yet, or not brought up to date yet, is an error (ERR_NOT_FOUND: try again). */
struct store *store_open(const char *state_dir, enum store_mode mode, struct err *err);
void store_close(struct store *s); /* NULL is fine */

/* Read transaction: cheap (the handle is kept and renewed). One at a time per store. */
struct store_txn *store_begin_read(struct store *s, struct err *err);
void store_end_read(struct store_txn *t);

/* Write transaction (writer only), one at a time. Ends with commit or abort. Commit is synced to
 * disk; a map more than half full grows before the transaction begins. */
struct store_txn *store_begin_write(struct store *s, struct err *err);
/* Writes what was counted (store/counters.h, store/totals.h) and listed (store/event_lists.h) too;
 * ends t whatever comes of it. */
int store_commit(struct store_txn *t, struct err *err);
void store_abort(struct store_txn *t);

/* Is the disk so full that nothing new should be accepted? Outcomes and events of what was accepted
 * before may still be written: that is what the reserve is for. */
bool store_is_full(struct store *s);
void store_reserve(struct store *s, uint64_t bytes); /* instead of STORE_RESERVE_BYTES */

/* Frees the slots of readers that died in a transaction; how many. Opening for writing does it, and
 * the writer again whenever a child has died. */
int store_sweep_readers(struct store *s);

/* What is used of the store's file: pages that hold something, but for the list of free ones. */
uint64_t store_used_bytes(struct store_txn *t);

struct store_room {
    uint64_t file_bytes; /* the store's file as far as it is written */
    uint64_t used_bytes; /* as store_used_bytes() */
    uint64_t map_bytes;  /* how far the file may grow before the map does */
    uint64_t free_pages; /* of the file: written once, to be used again */
    uint64_t disk_free_bytes;
};

/* Without looking at any page but the roots'. */
void store_room(struct store_txn *t, struct store_room *room);

/* Makes the file in which LMDB's readers note who they are, if it is not there, and the directory
 * around it; *path gets its name. For a process that may change no other file from then on. */
int store_touch_lock(const char *state_dir, struct buf *path, struct err *err);

#endif
