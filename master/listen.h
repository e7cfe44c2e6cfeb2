/*
 * master/listen.h - the sockets that clients connect to.
 *
 * SHAPE   Bound by the master; children inherit them. A reload keeps those whose address stays, an
 *         upgrade hands them to the new binary's master: what waits in their backlogs is served by
 *         the next children.
 *         A Unix socket is a file, and a file is no proof of life: beside it lies PATH.lock, which
 *         the master holds as long as it lives. Whoever holds it may take away a socket file that
 *         nobody listens behind any more, and no one else may.
 * CRASH   Of a killed master the kernel lets go of the lock; its children leave at once, and
 *         listener_open() waits for them up to LISTENER_PATIENCE_MS. Its socket file stays and is
 *         replaced.
 * ERRORS  ERR_CONFIG or ERR_SYSTEM, with the address in words.
 */
#ifndef MASTER_LISTEN_H
#define MASTER_LISTEN_H

#include "base/config.h"
#include "base/err.h"

enum { LISTENER_PATIENCE_MS = 5000 };

struct listener {
    int fd;                   /* listening, non-blocking, close-on-exec; -1 = none */
    int lock_fd;              /* of a Unix socket of our own; else -1 */
    struct config_address at; /* a copy; host NULL = none */
};

/* mode, user: of a Unix socket's file; a user only counts for root, "" = nobody else. patience_ms:
 * for one who is leaving the address. */
int listener_open(struct listener *l, const struct config_address *at, unsigned mode,
                  const char *user, unsigned patience_ms, struct err *err);
/* One that another process has opened and hands to us with its descriptors. */
void listener_adopt(struct listener *l, const struct config_address *at, int fd, int lock_fd);
/* One that the service manager holds and has passed to us, if it serves that address. Its file, where
 * it has one, is the manager's. */
bool listener_borrow(struct listener *l, int fd, const struct config_address *at);
bool listener_is_at(const struct listener *l, const struct config_address *at);
/* Of a Unix socket's file; nothing for others. */
int listener_set_mode(const struct listener *l, unsigned mode, struct err *err);
void listener_let_go(struct listener *l); /* another process serves it */
void listener_close(struct listener *l);  /* takes the file away, too */

#endif
