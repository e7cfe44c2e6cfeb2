/*
 * store/backup.h - a hot copy of the store, and what becomes of one that is put back.
 *
 * SHAPE   The copy is a state directory of its own: dir/store. It bears a mark that it is one.
 *         Since it was made, what was open in it has been sent. So the writer that first opens a
 *         copy pauses every batch with something left to send: a person says which go on.
 */
#ifndef STORE_BACKUP_H
#define STORE_BACKUP_H

#include "store/store.h"

/* A consistent, compacted copy at dir, which must not exist yet, while all others go on. A copy
 * that did not become whole is dir.partial. */
int store_backup(struct store *s, const char *dir, struct err *err);

/* Writer, before it looks at batches: how many were paused because this store is a copy (and it is
 * none any more); -1 and *err. *made_us: when it was made; 0 = it is no copy. */
int store_take_over_backup(struct store *s, uint64_t *made_us, struct err *err);

#endif
