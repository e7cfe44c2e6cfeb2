/*
 * master/confine.h - what a role may do, told to the kernel before its first line runs.
 *
 * SHAPE   Four fences, each of which holds without the others:
 *           memory       of what all share, only what the role's work takes is mapped; whoever faces
 *                        the network (httpd) may change of the gauges its own slot alone
 *           resources    no core dumps; a limit on private memory, so that a leak costs one process
 *           files        Landlock: nobody but the writer changes files, nobody starts programs but
 *                        the keeper (credential_process); httpd reads the store and the system's
 *                        own files, and neither configuration nor anybody's home
 *           system calls seccomp: a list of what is allowed. httpd makes no sockets, sender and
 *                        poller accept no connections, no role but the keeper forks. What is not on
 *                        the list fails with EPERM; what only an intruder asks for ends the process
 *         The keeper starts programs of the user's, which inherit all this: it has the first two only.
 * ENDS    A child, right after fork(), once it is the user it stays.
 * ERRORS  A kernel without Landlock or seccomp is no reason not to serve: *missing says what lacks.
 *         -1 only if what was asked for could not be done for another reason.
 * SOURCE  landlock(7), seccomp(2), OpenSMTPD's privilege separation.
 */
#ifndef MASTER_CONFINE_H
#define MASTER_CONFINE_H

#include "base/config.h"
#include "base/err.h"
#include "shm/child.h"

/* Of private memory; bodies under way and the stacks of threads that look names up come on top. */
enum { CONFINE_PRIVATE_BYTES = 1 << 30, CONFINE_STACK_BYTES = 8 << 20 };

struct confined {
    bool without_files, without_calls; /* the kernel does not know how */
};

/* Resources, files, system calls. Open descriptors and mappings are not touched. */
int confine(enum child_role role, const struct config *config, struct confined *missing,
            struct err *err);

#endif
