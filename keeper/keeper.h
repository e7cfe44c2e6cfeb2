/*
 * keeper/keeper.h - the keeper role: gets AWS's credentials from where they come from, renews them,
 * and hands them to the processes that sign.
 *
 * ENDS    supervise.c runs it in its child. One process on the machine asks the sources, however
 *         many sign.
 * CRASH   What it published stays usable until it expires; its successor asks again at once.
 */
#ifndef KEEPER_KEEPER_H
#define KEEPER_KEEPER_H

#include "shm/child.h"

enum child_exit keeper_main(const struct child *me);

#endif
