/*
 * store/check_events.h - the part of store_check() (store/check.h) that looks at events.
 */
#ifndef STORE_CHECK_EVENTS_H
#define STORE_CHECK_EVENTS_H

#include "store/check.h"

/* 0, whatever was found; -1 when the store cannot be read. */
int check_events(struct store_txn *t, struct check *c, struct err *err);

#endif
