#include "sender/cuts.h"

#include <stdlib.h>

#include "base/mem.h"

struct batch_cuts {
    uint64_t batch_id;
    size_t bytes; /* the smallest body cut */
    uint64_t struck_mono_ms, last_mono_ms;
    uint64_t answers; /* when it was struck last */
    struct cuts_tally tally;
};

struct cuts {
    uint64_t window_ms;
    size_t count;
    struct batch_cuts list[CUTS_BATCHES_MAX]; /* cuts are rare: searched from one end */
};

struct cuts *cuts_create(uint64_t window_ms)
{
    struct cuts *c = mem_zero(1, sizeof *c);

    c->window_ms = window_ms;
    return c;
}

void cuts_destroy(struct cuts *c)
{
    free(c);
}

static struct batch_cuts *find(struct cuts *c, uint64_t batch_id)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->list[i].batch_id == batch_id)
            return &c->list[i];
    return NULL;
}

static struct batch_cuts *place_for_one(struct cuts *c)
{
    struct batch_cuts *stalest = &c->list[0];

    if (c->count < CUTS_BATCHES_MAX)
        return &c->list[c->count++];
    for (size_t i = 1; i < c->count; i++)
        if (c->list[i].last_mono_ms < stalest->last_mono_ms)
            stalest = &c->list[i];
    return stalest;
}

struct cuts_tally cuts_note(struct cuts *c, uint64_t batch_id, size_t bytes, uint64_t answers,
                            uint64_t now)
{
    struct batch_cuts *b = find(c, batch_id);

    if (b == NULL) {
        b = place_for_one(c);
        *b = (struct batch_cuts){.batch_id = batch_id,
                                 .bytes = bytes,
                                 .struck_mono_ms = now,
                                 .answers = answers,
                                 .tally = {.strikes = 1, .first_mono_ms = now}};
    } else if (b->answers != answers &&
               now - b->struck_mono_ms >= c->window_ms / CUTS_STRIKES_MAX) {
        b->tally.strikes++;
        b->struck_mono_ms = now;
        b->answers = answers;
    }
    if (bytes < b->bytes)
        b->bytes = bytes;
    b->last_mono_ms = now;
    b->tally.cuts++;
    b->tally.is_over = b->tally.strikes >= CUTS_STRIKES_MAX;
    return b->tally;
}

void cuts_note_through(struct cuts *c, uint64_t batch_id, size_t bytes)
{
    struct batch_cuts *b = find(c, batch_id);

    if (b != NULL && bytes >= b->bytes)
        *b = c->list[--c->count];
}

uint64_t cuts_pause_ms(const struct cuts *c, const struct cuts_tally *tally, uint64_t least_ms,
                       uint64_t now)
{
    uint64_t half = (now - tally->first_mono_ms) / 2, most = c->window_ms / CUTS_STRIKES_MAX;
    uint64_t pause = half > least_ms ? half : least_ms;

    return pause < most ? pause : most;
}
