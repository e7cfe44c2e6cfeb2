/*
 * store/suppressions.h - addresses a domain does not send to: bounces, unsubscribes, complaints; and
 * those that never become a bounce, the allowlist.
 *
 * SHAPE   (domain, list, address folded to lower case) → packed [address as first written, code,
 *         text, µs, tags]. The allowlist: an address or a domain; code says which ("address",
 *         "domain"), text why.
 * ENDS    Put and delete: the writer, in its write transaction. Look-ups: anyone.
 */
#ifndef STORE_SUPPRESSIONS_H
#define STORE_SUPPRESSIONS_H

#include "base/buf.h"
#include "base/pack.h"
#include "shm/record.h"
#include "store/store.h"

struct suppression_entry {
    struct slice address, code, text;
    uint64_t created_us;
    struct slice tags; /* unsubscribes: a packed array of text; empty = from everything */
};

/* An entry as SUPPRESS and CHANGE carry it (shm/record.h): [address, code, text, µs, tags]. Reading
 * leaves u bad when there is none. */
void suppression_entry_pack(struct buf *to, const struct suppression_entry *entry);
struct suppression_entry suppression_entry_unpack(struct unpack *u);

/* Whether a list takes this: an address, or on the allowlist a domain. */
bool suppression_fits(enum suppression list, struct slice address);

/* false = not listed. */
bool suppression_get(struct store_txn *t, struct slice domain, enum suppression list,
                     struct slice address, struct suppression_entry *entry);
int suppression_put(struct store_txn *t, struct slice domain, enum suppression list,
                    const struct suppression_entry *entry, struct err *err);
/* As suppression_put(), but for an unsubscribe that is there already: its tags and the new ones. */
int unsubscribe_put(struct store_txn *t, struct slice domain, const struct suppression_entry *entry,
                    struct err *err);
/* Takes one tag off an unsubscribe, and the entry with the last one: 1, 0 when it did not hold that
 * tag, -1. Of an entry for everything no single tag can be taken. */
int unsubscribe_delete_tag(struct store_txn *t, struct slice domain, struct slice address,
                           struct slice tag, struct err *err);
/* 1 deleted, 0 was not there, -1 failure. */
int suppression_delete(struct store_txn *t, struct slice domain, enum suppression list,
                       struct slice address, struct err *err);

/* Takes out entries from the list's start on, at most `most`, and notes those that SES may keep too
 * as lifted at at_us. Returns how many, -1 on failure; fewer than `most` = the list is empty. */
int suppression_clear(struct store_txn *t, struct slice domain, enum suppression list,
                      unsigned most, uint64_t at_us, struct err *err);

/* Does the entry concern a message with these tags? (Mailgun: tags are alike whatever their case.)
 */
bool suppression_concerns(const struct suppression_entry *entry, const struct slice *tags,
                          size_t tag_count);

/* The list that keeps a message with these tags from this address; SUPPRESS_NONE = it may go. */
enum suppression suppression_of(struct store_txn *t, struct slice domain, struct slice address,
                                const struct slice *tags, size_t tag_count);

/* Counts a soft bounce. 1 when it is number `limit` within window_us since the last delivery (the
 * count starts anew then), 0 when not yet, -1 failure. limit 0 = never. */
int soft_bounce_add(struct store_txn *t, struct slice domain, struct slice address, uint64_t now_us,
                    unsigned limit, uint64_t window_us, struct err *err);
/* A delivery: the address works. */
int soft_bounce_reset(struct store_txn *t, struct slice domain, struct slice address,
                      struct err *err);

/* Which entries of a list, and from where. All folded to lower case before they are compared. */
struct suppression_walk {
    struct slice term; /* only addresses that begin with it; empty = all */
    struct slice from; /* past this one in the direction of the walk; empty = from the list's end */
    bool backwards;    /* against the alphabetical order */
};

/* Calls visit for entries of one list in order until it answers false. What an entry points to is
 * valid until the transaction ends (reading) or writes (writing). */
typedef bool suppression_visitor(void *arg, const struct suppression_entry *entry);
void suppression_each(struct store_txn *t, struct slice domain, enum suppression list,
                      const struct suppression_walk *walk, suppression_visitor *visit, void *arg);

/* Does the allowlist keep this address, or its domain, from being put on the bounce list? */
bool allowlist_has(struct store_txn *t, struct slice domain, struct slice address);

/* Addresses that a person has taken off the bounce list, and that SES's account-level list may
 * still hold: a sender removes them there, the writer then drops the row. at_us tells a later wish
 * from the one that was carried out. (SOURCE spec/ghost.md §5.) */
int lifted_put(struct store_txn *t, struct slice address, uint64_t at_us, struct err *err);
/* Any one; the address is copied to *address. False: none. */
bool lifted_first(struct store_txn *t, struct buf *address, uint64_t *at_us);
int lifted_delete(struct store_txn *t, struct slice address, uint64_t at_us, struct err *err);

#endif
