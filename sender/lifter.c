#include "sender/lifter.h"

#include <stdlib.h>

#include "aws/ses.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "shm/record.h"
#include "store/suppressions.h"

enum { LOOK_MS = 1000, AFTER_FAILURE_MS = 30000 };

struct lifter {
    const struct child *me;
    struct aws_client *client;
    struct buf address, path, record;
    uint64_t at_us, not_before_mono_ms;
    bool under_way;
};

struct lifter *lifter_create(const struct child *me, struct aws_client *client)
{
    struct lifter *l = mem_zero(1, sizeof *l);

    l->me = me;
    l->client = client;
    return l;
}

void lifter_destroy(struct lifter *l)
{
    if (l == NULL)
        return;
    buf_fini(&l->address);
    buf_fini(&l->path);
    buf_fini(&l->record);
    free(l);
}

/* The writer drops the row. A full ring: the next look finds it again. */
static void report(struct lifter *l)
{
    struct record_lifted r = {.address = buf_slice(&l->address), .at_us = l->at_us};

    buf_reset(&l->record);
    record_lifted_encode(&l->record, &r);
    if (ring_push(l->me->slot->up, buf_slice(&l->record), NULL) == RING_OK)
        bell_ring(&l->me->writer_bell);
}

static void on_answer(void *arg, const struct aws_response *answer)
{
    struct lifter *l = arg;

    l->under_way = false;
    l->not_before_mono_ms = clock_mono_ms() + LOOK_MS;
    if (answer->fate == AWS_ANSWERED && (answer->status == 200 || answer->status == 404)) {
        report(l);
    } else if (answer->fate == AWS_ANSWERED && answer->status == 403) {
        log_error("an address cannot be taken off SES's suppression list: %.*s: %.*s; allow "
                  "ses:DeleteSuppressedDestination and lift it again",
                  SLICE_ARGS(answer->error_code), SLICE_ARGS(answer->error_text));
        report(l);
    } else {
        log_warn("SES's suppression list does not answer (%d %.*s): trying again", answer->status,
                 SLICE_ARGS(answer->error_code));
        l->not_before_mono_ms = clock_mono_ms() + AFTER_FAILURE_MS;
    }
}

void lifter_tick(struct lifter *l, struct store *store)
{
    struct err err;

    if (store == NULL || l->under_way || clock_mono_ms() < l->not_before_mono_ms)
        return;
    l->not_before_mono_ms = clock_mono_ms() + LOOK_MS;
    struct store_txn *t = store_begin_read(store, &err);
    if (t == NULL)
        return;
    bool found = lifted_first(t, &l->address, &l->at_us);
    store_end_read(t);
    if (!found)
        return;
    buf_reset(&l->path);
    ses_suppression_path(&l->path, buf_slice(&l->address));
    struct aws_request request = {
        .service = AWS_SES,
        .method = "DELETE",
        .path = buf_cstr(&l->path),
        .done = on_answer,
        .arg = l,
    };
    l->under_way = true;
    aws_call(l->client, &request);
}
