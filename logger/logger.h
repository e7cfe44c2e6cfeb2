/*
 * logger/logger.h - the role that writes the log, where it is not standard error.
 *
 * All processes put lines into one pipe and wait for nobody; this one takes them out. A disk or a
 * daemon that is slow holds it up alone. The file is opened by the master, which hands it down at
 * birth: to open it anew, the logger is replaced, and the lines wait in the pipe meanwhile.
 */
#ifndef LOGGER_LOGGER_H
#define LOGGER_LOGGER_H

#include "shm/child.h"

enum child_exit logger_main(const struct child *me);

#endif
