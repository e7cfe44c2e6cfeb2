/*
 * store/migrate.h - a store of an older schema becomes one of today's.
 *
 * SHAPE   A step from each version to the next, in store/migrate.c. New databases need none of their
 *         own: opening for writing makes them, empty.
 * ENDS    The writer, when it opens the store; readers wait until it has.
 * CRASH   All steps and the version are one transaction: the store is the old one or the new one.
 * ERRORS  The store stays as it was, and the Postern that wrote it can go on with it.
 */
#ifndef STORE_MIGRATE_H
#define STORE_MIGRATE_H

#include "store/store.h"

int store_migrate(struct store *s, struct err *err);

#endif
