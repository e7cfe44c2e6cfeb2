/*
 * httpd/batch_report.h - what became of each recipient of one batch: its state, and the events that
 * came back for it.
 *
 * SHAPE   At most MESSAGE_RECIPIENTS_MAX recipients, and the first EVENTS_MAX of the message's events:
 *         the cost is bounded by the batch, whatever else is in the store.
 *         Opens and clicks count once for each recipient.
 * MEMORY  In the arena.
 */
#ifndef HTTPD_BATCH_REPORT_H
#define HTTPD_BATCH_REPORT_H

#include "store/batches.h"
#include "store/events.h"

enum { REPORT_EVENTS_MAX = 20000 };

/* What has happened to a recipient: bits. */
enum report_bit {
    REPORT_DELIVERED = 1 << 0,
    REPORT_FAILED = 1 << 1, /* for good */
    REPORT_DELAYED = 1 << 2,
    REPORT_OPENED = 1 << 3,
    REPORT_CLICKED = 1 << 4,
    REPORT_COMPLAINED = 1 << 5,
    REPORT_UNSUBSCRIBED = 1 << 6,
};

struct report_recipient {
    struct slice address;
    enum recipient_state state;
    uint32_t bits;
    uint64_t last_us; /* of its last event; 0 = none */
    int32_t code;     /* of its last failure */
    struct slice reason, words;
};

struct batch_report {
    struct message_head head;
    struct books books;
    struct report_recipient *recipients;
    size_t count;
    bool partial; /* events could not be told apart (message ids per recipient), or were too many */
};

/* 1, 0 = there is no such batch, -1. */
int batch_report_make(struct store_txn *t, uint64_t batch_id, struct arena *a,
                      struct batch_report *report, struct err *err);

/* Who takes the mail for an address: "Gmail", or its domain, in lower case. Borrows, or in the arena. */
struct slice mailbox_provider(struct slice address, struct arena *a);

#endif
