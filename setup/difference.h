/*
 * setup/difference.h - what a found tree lacks of a wanted one.
 *
 * SHAPE   Every member of wanted must be in found, and equal; what else found has is none of our
 *         business. Equal is what AWS takes for equal: lists in any order; one text and a list with
 *         that text alone; a number and the same number as a text; and texts that hold JSON (the
 *         members Policy and RedrivePolicy, and all of "Policies") are compared as what they hold, to
 *         the last member. Pure.
 * MEMORY  Pointers to the visitor borrow from the trees.
 */
#ifndef SETUP_DIFFERENCE_H
#define SETUP_DIFFERENCE_H

#include "base/json.h"

/* path: "Attributes.VisibilityTimeout". found: NULL = is not there. */
typedef void difference_visit(void *arg, const char *path, const cJSON *wanted, const cJSON *found);

/* True: there was any. visit may be NULL. */
bool difference(const cJSON *wanted, const cJSON *found, difference_visit *visit, void *arg);

/* Two policies, or parts of them, mean the same. */
bool difference_same(const cJSON *a, const cJSON *b);

#endif
