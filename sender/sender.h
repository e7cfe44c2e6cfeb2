/*
 * sender/sender.h - the sender role: takes leases from the writer, sends them through SES, reports
 * what became of them.
 *
 * ENDS    Called once, in a process of its own, by whoever forked it.
 * CRASH   Nothing here outlives the process or needs to (sender/outbox.h).
 */
#ifndef SENDER_SENDER_H
#define SENDER_SENDER_H

#include "shm/child.h"

enum child_exit sender_main(const struct child *me);

#endif
