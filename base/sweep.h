/*
 * base/sweep.h - wipes the copies of a secret that libraries left behind in this process's memory.
 *
 * A parser's buffers and strings are freed, not wiped, and what is freed in the master would live
 * on in every process that it forks. So whoever has read secrets through a library sweeps after it.
 *
 * SHAPE   Looks through the private writable memory of the process (heap, stack, data) for the
 *         first and the last SWEEP_WINDOW_BYTES of the text, and wipes what stands around them of
 *         it: of a freed copy the allocator has overwritten a part. Texts shorter than
 *         SWEEP_LEAST_BYTES are left alone: they could be anything.
 * ENDS    A process without threads. Costs about a millisecond for each 10 MB.
 * ERRORS  None: without /proc nothing is swept. Under a sanitizer, which forbids to look at freed
 *         memory, neither.
 */
#ifndef BASE_SWEEP_H
#define BASE_SWEEP_H

#include "base/slice.h"

enum { SWEEP_WINDOW_BYTES = 12, SWEEP_LEAST_BYTES = 16 };

/* Wipes all copies of text but those that lie within one of the kept slices; text itself lies in
 * one. How many were found. */
size_t sweep(struct slice text, const struct slice *kept, size_t kept_count);

/* False under a sanitizer. */
bool sweep_is_possible(void);

#endif
