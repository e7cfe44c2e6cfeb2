/*
 * store/import.h - history that another program has kept, taken into the store.
 *
 * SHAPE   Encoded records (shm/record.h): EVENT, SUPPRESS, ELSEWHERE.
 * WHAT    Events become events of the domain, under their own ids: one that is there is known, and
 *         changes nothing. Their bounces count for no guard and no warm-up, webhooks are told
 *         nothing: that was years ago, or another program's. An address goes on a list only where
 *         it is not on it, and no bounce where the allowlist keeps it; what an event says of its
 *         address is heeded when the event is not known, whether it is taken or not.
 * TIMES   An event keeps its own time where no reader has been answered beyond it (store/events.h,
 *         WATERMARK). Behind that mark nobody would look any more: those of the last late_us before
 *         it come under a later time, as any late event; older ones stay out, for readers would
 *         take a complaint of last year for one of today. None is taken that retention would throw
 *         away at once.
 * ENDS    import_control(): the writer, in its write transaction. import_judge(): anyone, to say
 *         what would be done.
 */
#ifndef STORE_IMPORT_H
#define STORE_IMPORT_H

#include "base/config.h"
#include "shm/record.h"
#include "store/store.h"

enum import_sum {
    IMPORT_EVENTS,  /* taken, under their own time */
    IMPORT_LATE,    /* taken, under a later one */
    IMPORT_KNOWN,   /* there already */
    IMPORT_BEHIND,  /* readers have been answered beyond them */
    IMPORT_EXPIRED, /* older than retention keeps */
    IMPORT_LISTED,  /* addresses put on a list */
    IMPORT_LISTED_KNOWN,
    IMPORT_MAILS, /* message ids put beside their newsletter */
    IMPORT_MAILS_KNOWN,
    IMPORT_NOT_READ, /* records that are none, or of no configured domain */
    IMPORT_SUMS
};
const char *import_sum_name(enum import_sum sum); /* as in JSON: "events", "known", … */

struct import {
    struct store_txn *t; /* NULL: there is no store yet, and so nothing in it */
    const struct config *config;
    uint64_t now_us, late_us;
    uint64_t sums[IMPORT_SUMS];
};

/* Adds to the sums what would become of an encoded record. Nothing is written. */
void import_judge(struct import *i, struct slice record);

/* CONTROL_IMPORT, all of its records: *text becomes a JSON object of the sums, *count how many were
 * taken. 0 or -1. */
int import_control(struct store_txn *t, const struct config *config, const struct record_control *r,
                   uint64_t now_us, enum answer_verdict *verdict, uint32_t *count, struct buf *text,
                   struct err *err);

#endif
