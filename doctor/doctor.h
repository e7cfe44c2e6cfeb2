/*
 * doctor/doctor.h - does mail flow from Postern to SES and what becomes of it back again? Hop after
 * hop, in the order in which it flows.
 *
 * SHAPE   One table of checks (doctor.c), each made once or for every domain, configuration set, queue
 *         or address. What a check needs and is not there makes it FINDING_SKIP, so that the first
 *         FINDING_FAIL is where mail stops.
 * ENDS    A process of its own: it blocks. It works with and without a Postern that runs, and
 *         changes nothing.
 * MEMORY  What on_checked() gets lives for the call.
 * SOURCE  spec/aws.md, spec/ghost.md §1.
 */
#ifndef DOCTOR_DOCTOR_H
#define DOCTOR_DOCTOR_H

#include "base/config.h"
#include "doctor/finding.h"

struct doctor_result {
    const char *check; /* "queue policy" */
    const char *about; /* "newsletter-events-queue"; "" = there is one of it */
    const struct finding *finding;
};

struct doctor_wishes {
    const char *config_path;
    const char *ghost_url; /* what stands in Ghost as baseUrl; NULL = not asked for */
    bool live;             /* sends to SES's mailbox simulator */
    const char *api_key;   /* for that; NULL = one of the configuration's */
    uint64_t patience_ms;  /* for each hop of it */
    void (*on_checked)(void *arg, const struct doctor_result *result);
    /* While live mails are waited for, every now and then; NULL = nobody cares. */
    void (*on_waiting)(void *arg, uint64_t waited_ms, uint64_t patience_ms);
    void *arg;
};

struct doctor_sums {
    size_t count[FINDING_FAIL + 1]; /* by state */
};

struct doctor_sums doctor_run(const struct doctor_wishes *wishes);

#endif
