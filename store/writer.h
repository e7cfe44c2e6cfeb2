/*
 * store/writer.h - the writer role: the only process that changes the store.
 *
 * ENDS    Forked by the master; one process, one event loop, the only one that waits for a disk.
 */
#ifndef STORE_WRITER_H
#define STORE_WRITER_H

#include "shm/child.h"

enum child_exit writer_main(const struct child *me);

#endif
