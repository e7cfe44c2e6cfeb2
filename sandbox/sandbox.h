/*
 * sandbox/sandbox.h - the stand-in for SES, SNS and SQS: as a command, and as a role under the
 * master.
 *
 * ENDS    One process; listens on a loopback address. Everything it knows is in memory.
 */
#ifndef SANDBOX_SANDBOX_H
#define SANDBOX_SANDBOX_H

#include "shm/child.h"

/* postern sandbox [options]; argv[0] is "sandbox". Runs until SIGTERM or SIGINT. */
int sandbox_main(int argc, char **argv);

/* Under a master: listens on me->listen_fds[0]. */
enum child_exit sandbox_child_main(const struct child *me);

#endif
