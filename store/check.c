#include "store/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/mem.h"
#include "store/batch_write.h"
#include "store/check_events.h"
#include "store/internal.h"
#include "store/key.h"
#include "store/keys.h"
#include "store/templates.h"
#include "store/totals.h"
#include "store/webhooks.h"

/* A lease or a doubt that is still to be met at its batch's slice. */
struct claimed {
    uint64_t batch_id;
    uint32_t slice;
    uint64_t mask;
    bool doubt;
};

struct checking {
    struct check *c;
    struct store_txn *t;
    struct claimed *claimed; /* sorted by batch, slice */
    size_t claimed_count;
    uint64_t *due; /* sorted batch ids */
    size_t due_count, due_met;
    uint64_t batch_count, done;
    struct totals_recount *totals;
    struct arena arena;
};

void check_found(struct check *c, const char *format, ...)
{
    char words[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(words, sizeof words, format, args);
    va_end(args);
    c->problems++;
    c->problem(c->arg, slice_str(words));
}

/* -------- what leases and due rows say -------- */

static int note_lease(void *arg, const struct lease_row *row)
{
    struct checking *k = arg;

    if (row->mask == 0)
        return 0;
    k->claimed = mem_grow(k->claimed, (k->claimed_count + 1) * sizeof *k->claimed);
    k->claimed[k->claimed_count++] =
        (struct claimed){row->batch_id, row->slice, row->mask, row->sender == LEASE_DOUBT};
    return 0;
}

static int note_due(void *arg, uint64_t due_wall_ms, uint64_t batch_id, uint32_t lane)
{
    struct checking *k = arg;

    (void)due_wall_ms, (void)lane;
    k->due = mem_grow(k->due, (k->due_count + 1) * sizeof *k->due);
    k->due[k->due_count++] = batch_id;
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const struct claimed *x = a, *y = b;

    if (x->batch_id != y->batch_id)
        return x->batch_id < y->batch_id ? -1 : 1;
    return x->slice == y->slice ? 0 : x->slice < y->slice ? -1 : 1;
}

static int by_number(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return *x == *y ? 0 : *x < *y ? -1 : 1;
}

/* -------- one batch -------- */

/* Every recipient in this state is in exactly one lease (or in a doubt), where it will be heard of.
 * A row may go on naming others that were settled since: it is their state that counts. */
static void check_claimed(struct checking *k, uint64_t batch_id, uint32_t slice, bool doubt,
                          uint64_t of_state)
{
    struct claimed key = {batch_id, slice, 0, false};
    const char *what = doubt ? "in doubt" : "leased";
    const struct claimed *at =
        k->claimed_count == 0 ? NULL
                              : bsearch(&key, k->claimed, k->claimed_count, sizeof key, by_place);
    uint64_t claimed = 0;

    while (at != NULL && at > k->claimed && by_place(at - 1, &key) == 0)
        at--;
    for (; at != NULL && at < k->claimed + k->claimed_count && by_place(at, &key) == 0; at++) {
        if (at->doubt != doubt)
            continue;
        if (!doubt && (claimed & at->mask & of_state) != 0)
            check_found(k->c,
                        "batch %016" PRIx64 " slice %" PRIu32 ": recipients leased twice: %" PRIx64,
                        batch_id, slice, claimed & at->mask & of_state);
        claimed |= at->mask;
    }
    if ((of_state & ~claimed) != 0)
        check_found(
            k->c, "batch %016" PRIx64 " slice %" PRIu32 ": recipients %s that nobody has: %" PRIx64,
            batch_id, slice, what, of_state & ~claimed);
}

static void check_slice(struct checking *k, uint64_t batch_id, const struct message_head *head,
                        uint32_t slice, struct books *tally)
{
    uint32_t expected = slice_len_of(head->recipient_count, slice), count;
    uint8_t states[SLICE_MAX];
    uint64_t leased = 0, doubt = 0, marks = outcome_marks(k->t, batch_id, slice);
    struct recipient *list;
    struct slice packed;
    size_t packed_count;

    if (!batch_recipients(k->t, batch_id, slice, &packed) ||
        !recipients_unpack(packed, &k->arena, &list, &packed_count) || packed_count != expected)
        check_found(k->c, "batch %016" PRIx64 " slice %" PRIu32 ": its recipients cannot be read",
                    batch_id, slice);
    if (!states_get(k->t, batch_id, slice, states, &count) || count != expected) {
        check_found(k->c, "batch %016" PRIx64 " slice %" PRIu32 ": its states cannot be read",
                    batch_id, slice);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (states[i] >= STATE_COUNT) {
            check_found(k->c, "batch %016" PRIx64 " recipient %" PRIu32 ": no such state as %u",
                        batch_id, slice * SLICE_MAX + i, states[i]);
            continue;
        }
        tally->state[states[i]]++;
        tally->outcomes += (uint32_t)(marks >> i & 1);
        if (states[i] == STATE_LEASED)
            leased |= UINT64_C(1) << i;
        if (states[i] == STATE_DOUBT)
            doubt |= UINT64_C(1) << i;
    }
    check_claimed(k, batch_id, slice, false, leased);
    check_claimed(k, batch_id, slice, true, doubt);
}

static const char *const state_names[STATE_COUNT] = {
    [STATE_PENDING] = "pending",     [STATE_LEASED] = "leased",
    [STATE_DOUBT] = "in doubt",      [STATE_SENT] = "sent",
    [STATE_FAILED] = "failed",       [STATE_SUPPRESSED] = "suppressed",
    [STATE_CANCELLED] = "cancelled", [STATE_DUPLICATE] = "duplicates",
};

static void check_books(struct checking *k, uint64_t batch_id, const struct books *books,
                        const struct books *tally)
{
    uint64_t sum = 0;

    for (int i = 0; i < STATE_COUNT; i++) {
        if (books->state[i] != tally->state[i])
            check_found(k->c,
                        "batch %016" PRIx64 ": %" PRIu32 " %s in its books, %" PRIu32
                        " by the states",
                        batch_id, books->state[i], state_names[i], tally->state[i]);
        if (i != STATE_DUPLICATE)
            sum += books->state[i];
    }
    if (books->outcomes != tally->outcomes)
        check_found(k->c,
                    "batch %016" PRIx64 ": %" PRIu32 " outcomes in its books, %" PRIu32
                    " by the marks",
                    batch_id, books->outcomes, tally->outcomes);
    if (sum != books->accepted)
        check_found(k->c, "batch %016" PRIx64 ": %" PRIu32 " accepted, %" PRIu64 " accounted for",
                    batch_id, books->accepted, sum);
}

static bool check_batch(void *arg, uint64_t batch_id, struct slice packed,
                        const struct books *books)
{
    struct checking *k = arg;
    struct books tally = {0};
    struct message_head head;
    struct slice content;

    arena_reset(&k->arena);
    k->c->batches++;
    if (!message_head_unpack(packed, &k->arena, &head)) {
        check_found(k->c, "batch %016" PRIx64 ": its head cannot be read", batch_id);
        return true;
    }
    k->c->recipients += head.recipient_count;
    totals_recount_add(k->totals, head.domain, head.lane, books);
    if (!batch_content(k->t, batch_id, &content))
        check_found(k->c, "batch %016" PRIx64 ": its content is missing", batch_id);
    for (uint32_t i = 0; i < slice_count_of(head.recipient_count); i++)
        check_slice(k, batch_id, &head, i, &tally);
    check_books(k, batch_id, books, &tally);

    bool open =
        tally.state[STATE_PENDING] + tally.state[STATE_LEASED] + tally.state[STATE_DOUBT] > 0;
    bool due = k->due_count > 0 &&
               bsearch(&batch_id, k->due, k->due_count, sizeof batch_id, by_number) != NULL;
    k->due_met += due;
    if (open != due)
        check_found(k->c, "batch %016" PRIx64 ": %s", batch_id,
                    open ? "open, but never due: it would not go on" : "settled, but still due");
    if (k->c->progress != NULL)
        k->c->progress(k->c->arg, "batches", ++k->done, k->batch_count);
    return true;
}

static void row_problem(void *arg, const char *words)
{
    check_found(arg, "%s", words);
}

static bool check_key(void *arg, const struct key_row *row)
{
    if (row->at.stamp_us == 0)
        check_found(arg, "a key of %.*s cannot be read: it opens nothing",
                    SLICE_ARGS(row->domain.len > 0 ? row->domain : SLICE("all domains")));
    return true;
}

int store_check(struct store_txn *t, struct check *c, struct err *err)
{
    struct checking k = {.c = c, .t = t};
    MDB_stat stat;
    int rc = mdb_stat(t->mdb, t->store->dbi[DB_BOOKS], &stat);

    if (rc != MDB_SUCCESS)
        return store_fail(err, rc, "counting batches");
    k.batch_count = stat.ms_entries;
    if (lease_each(t, note_lease, &k) != 0 || due_each(t, note_due, &k) != 0) {
        free(k.claimed);
        free(k.due);
        return err_set(err, ERR_STORE, "leases or due batches cannot be listed");
    }
    if (k.claimed_count > 0)
        qsort(k.claimed, k.claimed_count, sizeof *k.claimed, by_place);
    if (k.due_count > 0)
        qsort(k.due, k.due_count, sizeof *k.due, by_number);
    k.totals = totals_recount_create(t);
    batch_each(t, check_batch, &k);
    if (c->batches != k.batch_count)
        check_found(c, "%" PRIu64 " batches have books but no head", k.batch_count - c->batches);
    if (k.due_met != k.due_count)
        check_found(c, "%zu batches are due that do not exist, or twice", k.due_count - k.due_met);
    for (size_t i = 0; i < k.claimed_count; i++) {
        struct slice head;
        if (!batch_head(t, k.claimed[i].batch_id, &head))
            check_found(c, "batch %016" PRIx64 ": a lease or doubt of a batch that does not exist",
                        k.claimed[i].batch_id);
    }
    webhook_check(t, row_problem, c);
    totals_recount_compare(k.totals, row_problem, c);
    totals_recount_destroy(k.totals);
    template_check(t, row_problem, c);
    keys_each(t, check_key, c);
    free(k.claimed);
    free(k.due);
    arena_fini(&k.arena);
    return check_events(t, c, err);
}
