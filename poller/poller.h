/*
 * poller/poller.h - the poller role: SES's events from SQS to the writer.
 *
 * ENDS    Forked by the master; one process, one loop. Reads the store, never writes it.
 */
#ifndef POLLER_POLLER_H
#define POLLER_POLLER_H

#include "shm/child.h"

enum child_exit poller_main(const struct child *me);

#endif
