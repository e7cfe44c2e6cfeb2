/*
 * tests/unit/store/state_dir.h - the end of a test's own state directory.
 */
#ifndef TESTS_UNIT_STORE_STATE_DIR_H
#define TESTS_UNIT_STORE_STATE_DIR_H

#include <stdio.h>

/* Takes out a directory that holds a store and nothing else. The store is closed. */
static inline void state_dir_remove(const char *dir)
{
    static const char *const parts[] = {"/store/data.mdb", "/store/lock.mdb", "/store", ""};

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        char path[256];
        (void)snprintf(path, sizeof path, "%s%s", dir, parts[i]);
        (void)remove(path);
    }
}

#endif
