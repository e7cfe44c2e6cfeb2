/*
 * store/gates.h - why mail that is due waits all the same: what a person has paused, what the
 * guards hold back, what a warm-up day has left. (What SES refuses for now: store/holds.h.)
 *
 * SHAPE   Per domain a gate with one reason at a time. A person's pause, a guard and a warm-up hold
 *         newsletters only. A batch has a mark of its own.
 * ENDS    The writer, in its write transaction where a function takes one.
 * CRASH   Pauses, guards and marks are in the store.
 */
#ifndef STORE_GATES_H
#define STORE_GATES_H

#include "base/config.h"
#include "shm/record.h"
#include "store/reputation.h"

enum gate_reason {
    GATE_OPEN, /* the numbers are stored */
    GATE_QUOTA,
    GATE_ACCOUNT,
    GATE_SENDER,
    GATE_PAUSED, /* by a person */
    GATE_BOUNCES,
    GATE_COMPLAINTS,
    GATE_WARM_UP,
    GATE_CONFIGURATION_SET,
};

/* quota, account, sender, paused, bounces, complaints, warm-up, configuration-set */
const char *gate_reason_name(enum gate_reason reason);

struct gate {
    struct slice domain; /* empty = the account; borrowed until the gates change */
    const char
        *lane; /* "transactional", "newsletter"; "" = the account, or newsletters by their nature */
    struct slice from; /* the address that is refused; empty = whatever it is from */
    enum gate_reason reason;
    struct slice words;
    uint64_t since_wall_ms, until_wall_ms; /* until: 0 = until a person acts */
};

struct gates;

/* Borrows config and r. */
struct gates *gates_open(const struct config *config, struct reputation *r, struct store_txn *t,
                         struct err *err);
void gates_close(struct gates *g); /* NULL is fine */

/* A person's wish. gates_resume: 1 = something was held (also by a guard, which then counts anew),
 * 0 = nothing was. */
int gates_pause(struct gates *g, struct store_txn *t, struct slice domain, struct err *err);
int gates_resume(struct gates *g, struct store_txn *t, struct slice domain, struct err *err);

/* After a hard bounce or a complaint of this domain: warns, or closes its gate, when its shares (or
 * the account's, and its own are high) are past the configured limits. */
int gates_judge(struct gates *g, struct store_txn *t, struct slice domain, struct err *err);

/* How many recipients of this domain and lane may go to senders now, when in_flight of its are
 * there already; 0 = none, UINT32_MAX = as many as one likes. */
uint32_t gates_allowance(const struct gates *g, struct slice domain, enum lane lane,
                         uint32_t in_flight);
/* The gate that closes this domain's lane, for a person; false = none does. */
bool gates_closed(const struct gates *g, struct slice domain, enum lane lane, struct gate *gate);
/* All that are closed; at most `most`. Returns how many. */
size_t gates_list(const struct gates *g, struct gate *list, size_t most);

/* ---- marks of batches ---- */

enum batch_mark { MARK_NONE, MARK_PAUSED, MARK_CANCELLED };

enum batch_mark batch_mark_get(struct store_txn *t, uint64_t batch_id);
int batch_mark_put(struct store_txn *t, uint64_t batch_id, enum batch_mark mark, struct err *err);

#endif
