/*
 * sender/cuts.h - uploads that break off again and again, and when their mail is given up.
 *
 * SHAPE   One count per batch. A body whose connection ended in the middle of it cannot have been
 *         acted on, so it is sent again; but where something on the way always cuts a body of that
 *         size, that would have no end. A cut is a strike only if the network is not to blame: SES
 *         must have answered other calls since the last strike (`answers`, of all senders), and an
 *         eighth of the window must have gone by. An outage, however long, is one strike at most.
 *         A body of the batch, as large, that goes through ends the count.
 * ENDS    One per sender, each with a count of its own.
 * MEMORY  CUTS_BATCHES_MAX batches; of more the one that was cut least recently is forgotten.
 * UNITS   Monotonic milliseconds. How long: config.sender.upload_window_ms.
 * CRASH   The counts begin anew: the mail is tried for longer.
 */
#ifndef SENDER_CUTS_H
#define SENDER_CUTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CUTS_STRIKES_MAX = 8, /* then it is over */
    CUTS_BATCHES_MAX = 256,
};

/* What is known of a batch's cuts. */
struct cuts_tally {
    unsigned cuts, strikes;
    uint64_t first_mono_ms;
    bool is_over; /* the mail is to be given up */
};

struct cuts;

struct cuts *cuts_create(uint64_t window_ms);
void cuts_destroy(struct cuts *c); /* NULL is fine */

/* An upload of so many bytes broke off. answers: a number that changes when SES answers anybody. */
struct cuts_tally cuts_note(struct cuts *c, uint64_t batch_id, size_t bytes, uint64_t answers,
                            uint64_t now);
/* One of so many bytes went through, whatever SES made of it. */
void cuts_note_through(struct cuts *c, uint64_t batch_id, size_t bytes);

/* How long to wait before the next round of tries: longer, the longer it has been going on. */
uint64_t cuts_pause_ms(const struct cuts *c, const struct cuts_tally *tally, uint64_t least_ms,
                       uint64_t now);

#endif
