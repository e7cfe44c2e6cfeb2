/*
 * courier/courier.h - the courier role: tells events to webhooks.
 *
 * ENDS    One process, the only one that connects to addresses that clients have named. It reads the
 *         store's outbox (store/webhooks.h) and reports to the writer, POSTED, what became of each
 *         attempt.
 * CRASH   What was under way is due still, and told again: at least once.
 */
#ifndef COURIER_COURIER_H
#define COURIER_COURIER_H

#include "shm/child.h"

enum child_exit courier_main(const struct child *me);

#endif
