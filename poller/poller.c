/*
 * poller/poller.c - the poller role: long-polls the event queues, maps SES's events, hands them to
 * the writer, and deletes a message when its events are committed.
 *
 * It wakes for five reasons, one callback each:
 *
 *   (aws/http)    SQS has answered                    poller/queue.c
 *   on_doorbell   the writer has released records     a hint
 *   on_tick       the guarantee behind that hint; short while something waits for its commit
 *   on_master     the control socket is at its end    leave at once
 *   on_term       SIGTERM                             receive no more, delete what is committed,
 * leave
 *
 * CRASH  Nothing here outlives the process or needs to: what was not deleted comes again.
 */
#include "poller/poller.h"

#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>

#include "aws/http.h"
#include "base/arena.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "mail/form.h"
#include "mail/replication.h"
#include "mail/ses_address.h"
#include "mail/ses_event.h"
#include "poller/buffer_again.h"
#include "poller/buffer_in.h"
#include "poller/buffer_out.h"
#include "poller/changes_out.h"
#include "poller/depth.h"
#include "poller/queue.h"
#include "poller/signatures.h"
#include "shm/last_words.h"
#include "shm/record.h"
#include "store/batches.h"
#include "store/deadletters.h"
#include "store/elsewhere.h"
#include "store/replicas.h"

enum {
    TICK_BUSY_MS = 10,
    LEAVE_WITHIN_MS = 5000,
    REPLAY_LOOK_MS = 1000, /* how often people's wishes are looked for */
    REPLAYS_MAX = 64,      /* at once: the rest with the next look */
};

_Static_assert((int)SES_SUPPRESS_BOUNCE == (int)SUPPRESS_BOUNCE &&
                   (int)SES_SUPPRESS_UNSUBSCRIBE == (int)SUPPRESS_UNSUBSCRIBE &&
                   (int)SES_SUPPRESS_COMPLAINT == (int)SUPPRESS_COMPLAINT,
               "mail/ cannot include shm/: the two enums agree");

struct poller {
    const struct child *me;
    struct event_base *base;
    struct event *doorbell, *tick, *master, *term;
    unsigned tick_ms;
    struct aws_client *client;
    struct store *store;
    struct queue **queues;
    struct buffer_out *buffer_out; /* the first poller's, where there is a buffer queue */
    struct buffer_in *buffer_in;
    struct buffer_again *buffer_again;
    struct changes_out *changes_out; /* the first poller's, where changes are told */
    struct depth *depth;             /* the first poller's */
    struct signatures *signatures;   /* NULL: every message is believed */
    size_t queue_count;
    struct arena arena; /* of one message */
    struct buf packed, record;
    uint64_t replay_mono_ms; /* the next look for dead letters to be replayed */
    uint64_t replayed_end;   /* ring position behind the last of them */
    bool leaving;
    uint64_t leave_by_mono_ms;
    enum child_exit verdict;
};

static void leave(struct poller *p, enum child_exit verdict)
{
    p->verdict = verdict;
    (void)event_base_loopbreak(p->base);
}

/* -------- from an event to records -------- */

/* Looks for the address that SES names among a batch's recipients: all of them, or those that are
 * copied with each mail. */
static bool find_by_address(struct store_txn *t, struct ses_event *e,
                            const struct message_head *head, struct arena *a, struct recipient *one)
{
    for (uint32_t slice = 0; slice * MESSAGE_SLICE < head->recipient_count; slice++) {
        struct slice packed;
        struct recipient *list;
        size_t count;
        if (!batch_recipients(t, e->batch_id, slice, &packed) ||
            !recipients_unpack(packed, a, &list, &count))
            continue;
        for (size_t i = 0; i < count; i++) {
            if ((head->batch_mode && list[i].kind == RECIPIENT_TO) ||
                !ses_address_same(list[i].address, e->address))
                continue;
            e->recipient = slice * MESSAGE_SLICE + (uint32_t)i;
            *one = list[i];
            return true;
        }
    }
    return false;
}

/* The recipient that SES's event is about. The tag names the first one of the call; an event about
 * another is one of a copy's, or of a mail with several recipients. False: the batch does not have
 * the recipient that the tag names. */
static bool find_recipient(struct store_txn *t, struct ses_event *e,
                           const struct message_head *head, struct arena *a, struct recipient *one)
{
    struct slice packed;

    if (!e->has_recipient || e->recipient >= head->recipient_count ||
        !batch_recipients(t, e->batch_id, e->recipient / MESSAGE_SLICE, &packed) ||
        !recipients_unpack_one(packed, e->recipient % MESSAGE_SLICE, a, one))
        return false;
    if (e->address.len == 0 || e->destinations <= 1 || ses_address_same(one->address, e->address) ||
        find_by_address(t, e, head, a, one))
        return true;
    /* An address that nobody of the batch has. In batch mode the copies are few and known, and the
     * reader is the one that the tag names, however it is spelled. Else it is told as SES tells it,
     * for the batch, and proves nothing about any of its recipients. */
    if (!head->batch_mode) {
        *one = (struct recipient){.address = e->address};
        e->settles = false;
    }
    return true;
}

/* Another program's mail may carry a tag like ours: its batch is none of ours then. */
static bool is_of_domain(const struct ses_event *e, struct slice domain)
{
    return e->event.domain.len == 0 || slice_eq_nocase(e->event.domain, domain);
}

/* Adds what the store knows. False when no configured domain owns the event. */
static bool complete(struct poller *p, struct store_txn *t, struct ses_event *e,
                     uint64_t *elsewhere_id)
{
    struct slice packed;
    struct message_head head;
    struct recipient one;

    bool has_batch = t != NULL && e->batch_id != 0 && batch_head(t, e->batch_id, &packed);
    if (has_batch && message_head_unpack(packed, &p->arena, &head) &&
        is_of_domain(e, head.domain) && find_recipient(t, e, &head, &p->arena, &one)) {
        ses_event_complete(e, &head, &one, &p->arena);
        return true;
    }
    /* Without the batch the event itself says where it belongs: its tag, or the sender's domain or
     * a parent of it. Whose it is is still told by the tags, but they settle nothing here: the batch
     * is past retention or another machine's. */
    if (!e->has_recipient || has_batch)
        e->batch_id = 0;
    /* With a buffer queue the batch may come here yet: then it must be known who has been served. */
    if (e->settles && p->me->config->queues.newsletter_buffer[0] != '\0')
        *elsewhere_id = e->batch_id;
    e->settles = false;
    if (t != NULL && e->batch_id == 0 && e->event.domain.len == 0)
        (void)elsewhere_complete(t, &e->event, &p->arena);
    if (config_domain_find(p->me->config, e->event.domain) != NULL)
        return true;
    const struct config_domain *d = config_domain_above(p->me->config, e->from_domain);
    if (d != NULL)
        e->event.domain = slice_str(d->name);
    return d != NULL;
}

static void set_tick(struct poller *p, unsigned ms)
{
    const struct timeval tick = {.tv_usec = (suseconds_t)ms * 1000};

    p->tick_ms = ms;
    (void)event_add(p->tick, &tick);
}

/* Wakes the writer for much, or when the tick says that it has waited long enough. */
static void announce(struct poller *p, size_t least_bytes)
{
    if (ring_used_bytes(p->me->slot->up) >= least_bytes)
        bell_ring(&p->me->writer_bell);
}

static enum ring_result push(struct poller *p, uint64_t *end)
{
    enum ring_result got = ring_push(p->me->slot->up, buf_slice(&p->record), end);

    if (got == RING_FULL)
        child_note_ring_full(p->me);
    announce(p, got == RING_FULL ? 1 : CHILD_GATHER_BYTES);
    if (p->tick_ms != TICK_BUSY_MS)
        set_tick(p, TICK_BUSY_MS);
    return got;
}

/* wish_us: of a replay; else 0. */
static enum ring_result push_deadletter(struct poller *p, struct slice source, struct slice body,
                                        struct slice message_id, struct slice why, uint64_t wish_us,
                                        uint64_t *end)
{
    struct record_deadletter r = {
        .source = source, .why = why, .raw = body, .message_id = message_id, .wish_us = wish_us};

    buf_reset(&p->record);
    record_deadletter_encode(&p->record, &r);
    return push(p, end);
}

static enum ring_result push_replayed(struct poller *p, const struct deadletter_wish *wish,
                                      uint64_t *end)
{
    struct record_replayed r = {.id = slice_of(wish->id, DEADLETTER_ID_BYTES), .wish_us = wish->us};

    buf_reset(&p->record);
    record_replayed_encode(&p->record, &r);
    return push(p, end);
}

/* The claim of the mail that this event is about, as far as the event itself tells. */
static void add_claim(const struct ses_event *e, struct buf *claim)
{
    struct recipient one = {.address = e->address};
    struct submission s = {
        .head = {.domain = e->event.domain}, .recipients = &one, .recipient_count = 1};

    for (size_t i = 0; i < e->event.var_count; i++)
        if (slice_eq(e->event.vars[i].name, SLICE("email-id")))
            s.head.email_id = e->event.vars[i].value;
    if (e->destinations <= 1 && e->address.len > 0)
        submission_claims(&s, claim);
}

static enum ring_result push_event(struct poller *p, struct ses_event *e, uint64_t elsewhere_id,
                                   uint64_t *end)
{
    struct buf claim = {0};
    struct record_event r = {
        .batch_id = e->batch_id,
        .recipient = e->recipient,
        .settles = e->settles && e->batch_id != 0,
        .suppress = (uint32_t)e->suppress,
        .bounce = (uint32_t)e->bounce,
        .suppress_code = e->suppress_code,
        .suppress_text = e->suppress_text,
        .elsewhere_id = elsewhere_id,
    };

    buf_reset(&p->packed);
    if (e->event.type != 0) {
        ses_event_identify(e);
        event_pack(&p->packed, &e->event);
        r.event = buf_slice(&p->packed);
        r.event_id = slice_of(e->event.id, EVENT_ID_BYTES);
        r.ses_us = e->event.ses_us;
    } else if (!r.settles && elsewhere_id == 0) {
        return RING_OK; /* it says nothing to anybody: its message may go when it likes */
    }
    if (elsewhere_id != 0)
        add_claim(e, &claim);
    r.claim = buf_slice(&claim);
    buf_reset(&p->record);
    record_event_encode(&p->record, &r);
    buf_fini(&claim);
    return push(p, end);
}

/* GOOD where nobody asks. BAD: *why says why. */
static enum signature_verdict judge(struct poller *p, struct slice queue_url, struct slice body,
                                    struct slice *why)
{
    struct err err;

    if (p->signatures == NULL)
        return SIGNATURE_GOOD;
    enum signature_verdict verdict = signatures_judge(p->signatures, queue_url, body, &err);
    if (verdict == SIGNATURE_BAD)
        *why = arena_dup(&p->arena, slice_str(err.text));
    return verdict;
}

/* What becomes of a message: its records are in the ring, or it is a dead letter, or it waits. */
struct taking {
    struct slice queue_url, body;
    bool waits, is_dead;
    struct slice why; /* it is dead */
    enum ring_result got;
};

static void give_up(struct taking *k, struct slice why)
{
    k->is_dead = true;
    k->why = why;
}

/* False: it waits, or is dead. */
static bool is_believed(struct poller *p, struct taking *k)
{
    enum signature_verdict signature = judge(p, k->queue_url, k->body, &k->why);

    k->waits = signature == SIGNATURE_WAIT;
    k->is_dead = signature == SIGNATURE_BAD;
    return signature == SIGNATURE_GOOD;
}

/* False: it is no event of SES's. */
static bool take_events(struct poller *p, struct taking *k, uint64_t *end)
{
    struct ses_event *events;
    size_t count = 0;
    struct err err;

    enum ses_verdict verdict = ses_event_parse(k->body, &p->arena, &events, &count, &k->why);
    if (verdict == SES_DEADLETTER)
        return false;
    if (verdict != SES_EVENTS || !is_believed(p, k))
        return true;
    struct store_txn *t = store_begin_read(p->store, &err);
    for (size_t i = 0; i < count && k->got == RING_OK && !k->is_dead; i++) {
        uint64_t elsewhere_id = 0;
        if (complete(p, t, &events[i], &elsewhere_id))
            k->got = push_event(p, &events[i], elsewhere_id, end);
        else
            give_up(k, SLICE("belongs to no configured domain"));
    }
    if (t != NULL)
        store_end_read(t);
    return true;
}

/* -------- changes of other machines -------- */

static bool is_own(struct poller *p, uint64_t node)
{
    struct err err;
    struct store_txn *t = store_begin_read(p->store, &err);
    bool own = t != NULL && changes_node_stored(t) == node;

    if (t != NULL)
        store_end_read(t);
    return own;
}

/* One record each. Those that are good are handed on, whatever stands beside them. */
static void take_changes(struct poller *p, const struct replication *r, struct taking *k,
                         uint64_t *end)
{
    struct slice topic = slice_str(p->me->config->queues.replication_topic), wrong;
    uint64_t now_us = clock_wall_us();
    struct err err;

    if (!is_believed(p, k) || is_own(p, r->node))
        return;
    if (topic.len == 0) {
        give_up(k, SLICE("a change of another machine, and queues.replication_topic is not set"));
        return;
    }
    if (r->topic_arn.len > 0 && !slice_eq(r->topic_arn, topic)) {
        give_up(k, SLICE("a change of another machine that came over another topic than "
                         "queues.replication_topic"));
        return;
    }
    struct store_txn *t = store_begin_read(p->store, &err);
    for (size_t i = 0; i < r->count && k->got == RING_OK; i++) {
        const struct record_replica replica = {.node = r->node, .change = r->changes[i]};
        struct record_change change;
        if (!replica_judge(r->changes[i], p->me->config, t, now_us, &p->arena, &change, &wrong)) {
            give_up(k, wrong);
            continue;
        }
        buf_reset(&p->record);
        record_replica_encode(&p->record, &replica);
        k->got = push(p, end);
    }
    if (t != NULL)
        store_end_read(t);
}

/* -------- messages -------- */

static void take_body(struct poller *p, struct taking *k, uint64_t *end)
{
    struct replication changes;

    if (take_events(p, k, end)) /* nearly always */
        return;
    switch (replication_parse(k->body, &p->arena, &changes, &k->why)) {
    case REPLICATION_NONE: /* *why says what it lacks */
        k->is_dead = true;
        break;
    case REPLICATION_GOOD:
        take_changes(p, &changes, k, end);
        break;
    case REPLICATION_BAD:
        k->is_dead = true;
        break;
    }
}

/* All records of a message, or none. A repeat of the first ones after a full ring has the same ids,
 * so it is stored once. wish: of a dead letter's replay, or NULL. As queue_taker answers. */
static int take_message(struct poller *p, struct slice queue_url, struct slice body, bool intact,
                        struct slice message_id, const struct deadletter_wish *wish, uint64_t *end)
{
    struct taking k = {.queue_url = queue_url, .body = body, .got = RING_OK};

    arena_reset(&p->arena);
    *end = ring_head(p->me->slot->up);
    if (intact)
        take_body(p, &k, end);
    else
        give_up(&k, SLICE("damaged on its way: its MD5 differs"));
    if (k.waits)
        return 0;
    if (k.is_dead && k.got == RING_OK)
        k.got = push_deadletter(p, queue_url, body, message_id, k.why, wish != NULL ? wish->us : 0,
                                end);
    else if (wish != NULL && k.got == RING_OK)
        k.got = push_replayed(p, wish, end);
    if (k.got == RING_TOO_LONG) {
        log_error("a message of %zu bytes does not go into the ring: it stays in SQS", body.len);
        return 0;
    }
    if (k.got == RING_BROKEN) {
        log_error("the ring to the writer is broken");
        leave(p, CHILD_EXIT_BROKEN);
        return -1;
    }
    return k.got == RING_OK ? 1 : 0;
}

static int take(void *arg, struct slice queue_url, struct slice body, bool intact,
                struct slice message_id, uint64_t *end)
{
    last_words_doing("message %.*s of %.*s", SLICE_ARGS(message_id), SLICE_ARGS(queue_url));
    int taken = take_message(arg, queue_url, body, intact, message_id, NULL, end);
    last_words_doing("%s", "");
    return taken;
}

/* -------- dead letters that are to be read again -------- */

/* A part of a batch goes back on the queue that it came from, if somebody could make something of it
 * today. As take_message() answers. */
static int replay_part(struct poller *p, const struct deadletter *d,
                       const struct deadletter_wish *wish, uint64_t *end)
{
    struct part part;
    struct slice why;

    arena_reset(&p->arena);
    *end = ring_head(p->me->slot->up);
    bool good = part_read(d->raw, &p->arena, &part, &why);
    if (good && config_domain_find(p->me->config, part.domain) == NULL) {
        good = false;
        why = SLICE("belongs to no configured domain");
    }
    if (!good)
        return push_deadletter(p, d->source, d->raw, d->message_id, why, wish->us, end) == RING_OK;
    buffer_again_take(p->buffer_again, wish, d->raw, &part);
    return 1;
}

/* False when there is no room for more. */
static bool replay_one(struct poller *p, const struct deadletter_wish *wish)
{
    struct arena kept = {0};
    struct deadletter d;
    struct err err;
    uint64_t end;
    int got = 1;

    struct store_txn *t = store_begin_read(p->store, &err);
    if (t == NULL)
        return false;
    bool found = deadletter_get(t, wish->id, &d);
    d.source = found ? arena_dup(&kept, d.source) : slice_none();
    d.raw = found ? arena_dup(&kept, d.raw) : slice_none();
    d.message_id = found ? arena_dup(&kept, d.message_id) : slice_none();
    store_end_read(t);
    last_words_doing("dead letter %.*s again", SLICE_ARGS(d.message_id));
    if (found && p->buffer_again != NULL &&
        slice_eq(d.source, slice_str(p->me->config->queues.newsletter_buffer)))
        got = replay_part(p, &d, wish, &end);
    else if (found)
        got = take_message(p, d.source, d.raw, true, d.message_id, wish, &end);
    if (found && got == 1)
        p->replayed_end = end;
    last_words_doing("%s", "");
    arena_fini(&kept);
    return got == 1;
}

/* One poller does it. What it has pushed must be committed before it looks again: the wish is there
 * until then. */
static void replay(struct poller *p)
{
    struct deadletter_wish wishes[REPLAYS_MAX];
    uint64_t now_ms = clock_mono_ms();
    struct err err;

    if (p->me->slot->index != 0 || now_ms < p->replay_mono_ms ||
        ring_tail(p->me->slot->up) < p->replayed_end)
        return;
    p->replay_mono_ms = now_ms + REPLAY_LOOK_MS;
    struct store_txn *t = store_begin_read(p->store, &err);
    if (t == NULL)
        return;
    size_t count = deadletter_wishes(t, wishes, REPLAYS_MAX);
    store_end_read(t);
    for (size_t i = 0; i < count; i++)
        if (!replay_one(p, &wishes[i]))
            return;
    if (count == REPLAYS_MAX)
        p->replay_mono_ms = now_ms;
}

/* -------- the loop -------- */

static void set_tick_as_needed(struct poller *p)
{
    bool busy = p->leaving || (p->buffer_out != NULL && buffer_out_is_busy(p->buffer_out)) ||
                (p->buffer_in != NULL && buffer_in_is_busy(p->buffer_in)) ||
                (p->changes_out != NULL && changes_out_is_busy(p->changes_out));

    for (size_t i = 0; i < p->queue_count; i++)
        busy = busy || queue_has_held(p->queues[i]);
    if (!busy || p->tick_ms != TICK_BUSY_MS || !event_pending(p->tick, EV_TIMEOUT, NULL))
        set_tick(p, busy ? TICK_BUSY_MS : CHILD_TICK_MS);
}

/* At the very first start the writer may still be making the store: nothing is received before. */
static bool store_is_there(struct poller *p)
{
    struct err err;

    if (p->store == NULL)
        p->store = store_open(p->me->config->state_dir, STORE_READ, &err);
    return p->store != NULL;
}

static void tell_oldest(const struct poller *p)
{
    unsigned poller = p->me->slot->index;

    if (poller >= GAUGE_POLLERS_MAX)
        return;
    for (size_t i = 0; i < p->queue_count && i < GAUGE_QUEUES_MAX; i++)
        atomic_store_explicit(&p->me->gauges->queues[i].oldest_ms[poller],
                              queue_oldest_ms(p->queues[i], ring_tail(p->me->slot->up) + 1),
                              memory_order_relaxed);
}

static void advance_shared(struct poller *p, uint64_t heard_ms)
{
    if (p->buffer_out != NULL && !p->leaving)
        buffer_out_advance(p->buffer_out, p->store);
    if (p->buffer_in != NULL)
        buffer_in_advance(p->buffer_in, p->store, heard_ms);
    if (p->buffer_again != NULL)
        buffer_again_advance(p->buffer_again);
    if (p->changes_out != NULL && !p->leaving)
        changes_out_advance(p->changes_out, p->store);
}

static void advance(struct poller *p)
{
    uint64_t tail = ring_tail(p->me->slot->up);
    bool idle = true;

    if (!p->leaving && !store_is_there(p))
        return;
    if (!p->leaving)
        replay(p);

    /* Position 0 is "nothing yet": a ring begins there, and so does a message without records. */
    uint64_t heard_ms = UINT64_MAX;
    for (size_t i = 0; i < p->queue_count; i++) {
        queue_advance(p->queues[i], tail + 1);
        idle = idle && queue_is_idle(p->queues[i]);
        uint64_t until_ms = queue_heard_wall_ms(p->queues[i], tail + 1);
        heard_ms = until_ms < heard_ms ? until_ms : heard_ms;
    }
    advance_shared(p, heard_ms == UINT64_MAX ? 0 : heard_ms);
    if (p->depth != NULL && !p->leaving)
        depth_advance(p->depth);
    /* The writer ends doubts only when the events that could settle them have been read. */
    if (p->queue_count > 0)
        atomic_store(&p->me->gauges->slots[p->me->gauge].heard_wall_ms, heard_ms);
    if (p->leaving && (idle || clock_mono_ms() >= p->leave_by_mono_ms))
        leave(p, CHILD_EXIT_DONE);
}

static void on_doorbell(evutil_socket_t fd, short what, void *arg)
{
    struct poller *p = arg;

    (void)fd, (void)what;
    bell_quiet(&p->me->slot->bell);
    advance(p);
    bell_sleep(&p->me->slot->bell);
    set_tick_as_needed(p);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct poller *p = arg;

    (void)fd, (void)what;
    child_beat(p->me);
    announce(p, 1);
    advance(p);
    tell_oldest(p);
    set_tick_as_needed(p);
}

static void on_master(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    leave(arg, CHILD_EXIT_DONE);
}

static void on_term(evutil_socket_t sig, short what, void *arg)
{
    struct poller *p = arg;

    (void)sig, (void)what;
    p->leaving = true;
    p->leave_by_mono_ms = clock_mono_ms() + LEAVE_WITHIN_MS;
    child_leaving(p->me);
    for (size_t i = 0; i < p->queue_count; i++)
        queue_stop(p->queues[i]);
    if (p->buffer_in != NULL)
        buffer_in_stop(p->buffer_in);
    advance(p);
    set_tick_as_needed(p);
}

static void on_certificates(void *arg)
{
    struct poller *p = arg;

    event_active(p->tick, EV_TIMEOUT, 0);
}

static enum ring_result push_buffer(void *arg, const struct buf *record, uint64_t *end)
{
    struct poller *p = arg;

    buf_reset(&p->record);
    buf_add_slice(&p->record, buf_slice(record));
    enum ring_result got = push(p, end);
    bell_ring(&p->me->writer_bell); /* somebody waits for it */
    return got;
}

static void open_queues(struct poller *p)
{
    const struct config *c = p->me->config;

    if (c->queues.verify_sns)
        p->signatures = signatures_open(p->client, c, on_certificates, p);

    if (p->me->slot->index == 0 && c->queues.newsletter_buffer[0] != '\0') {
        p->buffer_out = buffer_out_open(p->me, p->client, push_buffer, p);
        p->buffer_in = buffer_in_open(p->me, p->client, push_buffer, p);
        p->buffer_again = buffer_again_open(p->me, p->client, push_buffer, p);
    }
    if (p->me->slot->index == 0 && c->queues.replication_topic[0] != '\0')
        p->changes_out = changes_out_open(p->me, p->client, push_buffer, p);
    if (p->me->slot->index == 0)
        p->depth =
            depth_open(p->client, &c->event_queues, c->queues.newsletter_buffer, p->me->gauges);
    p->queues = mem_zero(c->event_queues.count, sizeof(struct queue *));
    for (size_t i = 0; i < c->event_queues.count; i++)
        p->queues[p->queue_count++] =
            queue_open(p->base, p->client, c->event_queues.texts[i], c->poller.receives,
                       config_visibility_s(c), take, p);
}

static int poller_open(struct poller *p, struct err *err)
{
    const struct config *c = p->me->config;
    unsigned connections = /* polls, and deletions beside them */
        c->poller.receives * (unsigned)c->event_queues.count + 16;

    p->base = event_base_new();
    if (p->base == NULL)
        return err_sys(err, "event_base_new");
    p->client = aws_client_create(p->base, c, p->me->vault, connections, err);
    if (p->client == NULL)
        return -1;
    p->doorbell = event_new(p->base, p->me->slot->bell.fd, EV_READ | EV_PERSIST, on_doorbell, p);
    p->tick = event_new(p->base, -1, 0, on_tick, p);
    p->master = event_new(p->base, p->me->control_fd, EV_READ | EV_PERSIST, on_master, p);
    p->term = evsignal_new(p->base, SIGTERM, on_term, p);
    if (p->doorbell == NULL || p->tick == NULL || p->master == NULL || p->term == NULL ||
        event_add(p->doorbell, NULL) != 0 || event_add(p->master, NULL) != 0 ||
        event_add(p->term, NULL) != 0)
        return err_set(err, ERR_SYSTEM, "the poller's events cannot be set up");
    open_queues(p);
    event_active(p->tick, EV_TIMEOUT, 0);
    return 0;
}

static void free_event(struct event *e)
{
    if (e != NULL)
        event_free(e);
}

static void poller_close(struct poller *p)
{
    aws_client_destroy(p->client);
    buffer_out_close(p->buffer_out);
    buffer_in_close(p->buffer_in);
    buffer_again_close(p->buffer_again);
    changes_out_close(p->changes_out);
    depth_close(p->depth);
    signatures_close(p->signatures);
    for (size_t i = 0; i < p->queue_count; i++)
        queue_close(p->queues[i]);
    free(p->queues);
    free_event(p->doorbell);
    free_event(p->tick);
    free_event(p->master);
    free_event(p->term);
    if (p->base != NULL)
        event_base_free(p->base);
    store_close(p->store);
    buf_fini(&p->packed);
    buf_fini(&p->record);
    arena_fini(&p->arena);
}

enum child_exit poller_main(const struct child *me)
{
    struct poller p = {.me = me, .verdict = CHILD_EXIT_RETRY};
    struct err err;

    if (poller_open(&p, &err) == 0) {
        child_ready(me);
        (void)event_base_dispatch(p.base);
    } else {
        log_err(&err, "the poller cannot start");
    }
    poller_close(&p);
    return p.verdict;
}
