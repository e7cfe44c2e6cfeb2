/*
 * sender/outbox.h - the leases a sender holds, its calls to SES under way, and what came of them.
 *
 * SHAPE   At most OUTBOX_LEASES_MAX leases, read from the store when their turn comes. As many
 *         calls at once as there are connections; some are kept free of newsletters. A call that
 *         SES throttled or that failed in passing keeps its place and its body, and is repeated
 *         after a while.
 * MEMORY  The outbox owns all of it; child, event base and client are the caller's and outlive it.
 * ORDER   Transactional leases go first. A recipient's started mark is set before its call is
 *         made. A repeated call keeps its mark: of a sender killed in between it is in doubt,
 *         never lost.
 * ERRORS  outbox_is_broken(): the ring to the writer cannot be used; leave and be replaced.
 * CRASH   Nothing here outlives the process: the writer settles what was leased (shm/started.h).
 */
#ifndef SENDER_OUTBOX_H
#define SENDER_OUTBOX_H

#include <event2/event.h>

#include "aws/http.h"
#include "shm/child.h"

enum {
    OUTBOX_LEASES_MAX = STARTED_CELLS, /* all that the writer can grant: a transactional one never
                                           waits in the ring behind newsletters */
    OUTBOX_FLUSH_MS = 20,              /* results wait no longer for company */
    OUTBOX_TRANSIENT_TRIES = 8,        /* then the writer may try elsewhere, later */
    OUTBOX_AFTER_TRIES_MS = 30000,
    OUTBOX_CODE_REFUSED = 554, /* SMTP-like code of what SES or we refuse for good */
};

struct outbox;

/* The store, opened at first use; NULL and *err while it is not there. For others in this process
 * too: LMDB allows a process to open it once. */
struct store *outbox_store(struct outbox *o, struct err *err);

struct outbox *outbox_create(const struct child *me, struct event_base *base,
                             struct aws_client *client);
void outbox_destroy(struct outbox *o); /* after the client; NULL is fine */

bool outbox_has_room(
    const struct outbox *o); /* for one more lease; false while the writer is behind */
/* Takes over a LEASE record (copied). One of another generation, or no lease at all, is dropped. */
void outbox_adopt(struct outbox *o, struct slice record);
/* Starts what may be started, hands in what is ready. Call after adopting and on every tick. */
void outbox_pump(struct outbox *o);

/* From here on nothing is started; what was not started goes back to the writer. */
void outbox_leave(struct outbox *o);
bool outbox_is_empty(const struct outbox *o);
bool outbox_is_broken(const struct outbox *o);

#endif
