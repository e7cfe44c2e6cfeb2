/*
 * doctor/finding.h - what one check found: well or not, why, and the command that mends it.
 *
 * SHAPE   A check may see several things. The gravest counts: it takes the place of milder ones, what
 *         is as grave is added to it, and what is milder is left out.
 * MEMORY  {0} is a finding; finding_fini() frees its texts.
 */
#ifndef DOCTOR_FINDING_H
#define DOCTOR_FINDING_H

#include "base/buf.h"

/* In the order of gravity. */
enum finding_state {
    FINDING_OK,
    FINDING_SKIP, /* could not be looked at, and something else says why */
    FINDING_WARN, /* mail flows, and something is amiss */
    FINDING_FAIL, /* mail, or what becomes of it, stops here */
};

struct finding {
    enum finding_state state;
    struct buf reason; /* a sentence for a person; of OK what was seen, may be empty */
    struct buf mend;   /* a command, or what to do where; empty = nothing known */
};

void finding_fini(struct finding *f);

/* True: it counts, so that finding_mend() may follow. */
bool finding_add(struct finding *f, enum finding_state state, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Of what was added last: kept if there is none yet. */
void finding_mend(struct finding *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "ok", "skip", "warn", "fail" */
const char *finding_state_name(enum finding_state state);

#endif
