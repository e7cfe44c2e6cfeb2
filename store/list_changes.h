/*
 * store/list_changes.h - changes of the lists of store/suppressions.h that several machines make
 * together: whatever the order in which a machine hears of them, the same lists come out.
 *
 * SHAPE   An entry is a set of elements: "everything", and on the list of unsubscribes each tag. An
 *         element is on the list when its last adding is later than its last removing, than the last
 *         removing of its address, and than the last clearing of the list. Where an entry has no
 *         version (of before changes were told) it counts as added when it was created.
 * ENDS    The writer, in its write transaction.
 * ERRORS  -1 and *err.
 * COST    Two look-ups and two puts for an element, beside what the list itself costs.
 */
#ifndef STORE_LIST_CHANGES_H
#define STORE_LIST_CHANGES_H

#include "store/changes.h"
#include "store/suppressions.h"

/* 1, or 0 when something later is known of all that it adds. */
int list_add(struct store_txn *t, struct slice domain, enum suppression list,
             const struct suppression_entry *entry, const struct version *v, struct err *err);
/* tag: only this one of an unsubscribe; empty = all of the entry. 1 when it was there, 0. */
int list_remove(struct store_txn *t, struct slice domain, enum suppression list,
                struct slice address, struct slice tag, const struct version *v, struct err *err);
/* All that was added before. 0 or -1. */
int list_clear(struct store_txn *t, struct slice domain, enum suppression list,
               const struct version *v, struct err *err);
/* Notes a clearing, and leaves what stands on the list to the caller. */
int list_clear_note(struct store_txn *t, struct slice domain, enum suppression list,
                    const struct version *v, struct err *err);

/* The same as somebody asks for it on this machine; told to the others where changes are told
 * (store/changes.h), else no more than what store/suppressions.h does. Returns as there. */
int list_add_here(struct store_txn *t, struct slice domain, enum suppression list,
                  const struct suppression_entry *entry, struct err *err);
int list_remove_here(struct store_txn *t, struct slice domain, enum suppression list,
                     struct slice address, struct slice tag, struct err *err);
int list_clear_here(struct store_txn *t, struct slice domain, enum suppression list, unsigned most,
                    uint64_t at_us, struct err *err);
/* What an event of event_us puts on a list: everybody hears of it, so it is not told. 0 or -1. */
int list_add_by_event(struct store_txn *t, struct slice domain, enum suppression list,
                      const struct suppression_entry *entry, uint64_t event_us, struct err *err);

#endif
