#include "poller/changes_out.h"

#include <stdlib.h>

#include "aws/query.h"
#include "aws/sns.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"
#include "mail/replication.h"
#include "shm/record.h"
#include "store/changes.h"

enum {
    GATHER_MS = 250,
    BACKOFF_FIRST_MS = 200,
    BACKOFF_MAX_MS = 30000,
    PUBLISH_TIMEOUT_MS = 15000,
};

/* What the message at hand is doing. */
enum stage {
    STAGE_NONE,
    STAGE_READY,  /* to be published, or published again */
    STAGE_CALLED, /* SNS has been asked */
    STAGE_TAKEN,  /* SNS has it: the writer is to be told */
    STAGE_TOLD,   /* until the writer has dropped its changes */
};

struct changes_out {
    const struct child *me;
    struct aws_client *client;
    buffer_pusher *push;
    void *arg;
    struct slice topic, region;
    enum stage stage;
    struct buf form;
    uint64_t up_to_us; /* the last change in it */
    uint64_t end;      /* ring position behind its TOLD */
    bool failing;
    uint64_t backoff_ms, not_before_mono_ms;
};

struct changes_out *changes_out_open(const struct child *me, struct aws_client *client,
                                     buffer_pusher *push, void *arg)
{
    struct changes_out *o = mem_zero(1, sizeof *o);
    struct slice account;

    *o = (struct changes_out){.me = me, .client = client, .push = push, .arg = arg};
    o->topic = slice_str(me->config->queues.replication_topic);
    if (!sns_topic_parts(o->topic, &o->region, &account))
        o->region = slice_none(); /* the client's */
    return o;
}

void changes_out_close(struct changes_out *o)
{
    if (o == NULL)
        return;
    buf_fini(&o->form);
    free(o);
}

bool changes_out_is_busy(const struct changes_out *o)
{
    return o->stage == STAGE_CALLED || o->stage == STAGE_TAKEN || o->stage == STAGE_TOLD;
}

/* -------- publishing -------- */

static void again_later(struct changes_out *o, const struct aws_response *answer)
{
    uint64_t random;

    digest_random(&random, sizeof random);
    o->stage = STAGE_READY;
    o->backoff_ms = o->backoff_ms == 0 ? BACKOFF_FIRST_MS : o->backoff_ms * 2;
    if (o->backoff_ms > BACKOFF_MAX_MS)
        o->backoff_ms = BACKOFF_MAX_MS;
    o->not_before_mono_ms = clock_mono_ms() + o->backoff_ms / 2 + random % (o->backoff_ms / 2 + 1);
    if (!o->failing)
        log_warn("%.*s: Publish fails (%d %.*s: %.*s)%s; trying again, other machines do not hear "
                 "of changes made here",
                 SLICE_ARGS(o->topic), answer->status, SLICE_ARGS(answer->error_code),
                 SLICE_ARGS(answer->error_text),
                 answer->status == 403 ? " (allow sns:Publish on queues.replication_topic)" : "");
    o->failing = true;
}

static void on_published(void *arg, const struct aws_response *answer)
{
    struct changes_out *o = arg;

    if (answer->fate != AWS_ANSWERED || answer->status != 200) {
        again_later(o, answer);
        return;
    }
    if (o->failing)
        log_info("%.*s: takes changes again", SLICE_ARGS(o->topic));
    o->failing = false;
    o->backoff_ms = 0;
    o->stage = STAGE_TAKEN;
    bell_ring(&o->me->slot->bell); /* the loop goes on with it */
}

static void publish(struct changes_out *o)
{
    struct aws_request request = {.region = o->region};

    query_request(&request, AWS_SNS, buf_slice(&o->form));
    request.timeout_ms = PUBLISH_TIMEOUT_MS;
    request.done = on_published;
    request.arg = o;
    o->stage = STAGE_CALLED;
    aws_call(o->client, &request);
}

/* -------- gathering -------- */

/* The oldest changes, as many as one message takes. */
static void gather(struct changes_out *o, struct store *store)
{
    struct buf message = {0};
    struct slice change;
    uint64_t at_us = 0;
    size_t count = 0;
    struct err err;

    struct store_txn *t = store_begin_read(store, &err);
    if (t == NULL)
        return;
    replication_begin(&message, changes_node_stored(t));
    while (count < REPLICATION_CHANGES_MAX && change_untold_after(t, &at_us, &change) &&
           replication_add(&message, change)) {
        o->up_to_us = at_us;
        count++;
    }
    store_end_read(t);
    replication_end(&message);
    if (count > 0) {
        sns_publish_form(&o->form, o->topic, buf_slice(&message));
        o->stage = STAGE_READY;
        o->not_before_mono_ms = 0;
    }
    buf_fini(&message);
}

static void tell(struct changes_out *o)
{
    const struct record_told r = {.stamp_us = o->up_to_us};
    struct buf record = {0};

    record_told_encode(&record, &r);
    if (o->push(o->arg, &record, &o->end) == RING_OK)
        o->stage = STAGE_TOLD;
    buf_fini(&record);
}

void changes_out_advance(struct changes_out *o, struct store *store)
{
    uint64_t now_ms = clock_mono_ms();

    if (o->stage == STAGE_TOLD && o->end <= ring_tail(o->me->slot->up)) {
        o->stage = STAGE_NONE;
        o->not_before_mono_ms = now_ms + GATHER_MS;
    }
    if (o->stage == STAGE_NONE && now_ms >= o->not_before_mono_ms && store != NULL)
        gather(o, store);
    if (o->stage == STAGE_READY && now_ms >= o->not_before_mono_ms)
        publish(o);
    else if (o->stage == STAGE_TAKEN)
        tell(o);
}
