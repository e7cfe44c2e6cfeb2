/*
 * doctor/live.h - mails to SES's mailbox simulator, followed all the way: taken by Postern, sent by
 * SES, the event back, visible on the events API.
 *
 * SHAPE   A newsletter to three of the simulator's addresses (it is delivered, it bounces, it
 *         complains), and a single mail; each recipient is followed by itself. Their addresses are
 *         new ones each time ("bounce+9f3a…@simulator.amazonses.com"), as a bounce suppresses its
 *         address; what they leave in the suppression lists is taken out again.
 * ENDS    A process of its own: it blocks. Postern runs.
 * UNITS   Milliseconds.
 * SOURCE  spec/aws.md §6 (the simulator: no bounce rate, but the quota counts it); spec/mailgun.md.
 */
#ifndef DOCTOR_LIVE_H
#define DOCTOR_LIVE_H

#include "doctor/finding.h"
#include "doctor/patient.h"

enum { LIVE_MAILS = 4 };

struct live_wishes {
    const char *api_key; /* NULL = a plain one of the configuration's */
    uint64_t patience_ms;
    const char *suspect; /* of all checks before, the first that failed; NULL = none did */
    /* While it waits, every now and then; NULL = nobody cares. */
    void (*on_waiting)(void *arg, uint64_t waited_ms, uint64_t patience_ms);
    void *waiting_arg;
};

/* The address and protocol at which this machine reaches the listener; url is "" where there is none.
 * socket: NULL = not a Unix socket. */
struct listener {
    char url[300];
    const char *socket;
};
void listener_of(const struct config *config, size_t at, struct listener *l);

/* Calls on_mail for each, with a name ("newsletter, bounce"). */
void live_run(struct patient *p, const struct config_domain *domain,
              const struct live_wishes *wishes,
              void (*on_mail)(void *arg, const char *name, const struct finding *f), void *arg);

#endif
