/*
 * store/writer.c - the writer role: takes records off the workers' rings, commits, then answers.
 *
 * One turn is one transaction: what lies in all rings (up to a bound), then leases for the senders,
 * then background work; commit and sync; only then are the records released from their rings and
 * are answers and leases pushed. Everything that arrives while a turn waits for the disk is the
 * next turn's group.
 *
 * It wakes for these reasons, one callback each:
 *
 *   on_doorbell   somebody pushed a record, or died   a hint: may be late, lost or spurious
 *   on_tick       TICK_MS have gone by                the guarantee behind that hint; due times
 *   on_request    a person has asked for something    store/control.h
 *   on_master     the control socket is at its end    the master is gone: leave at once
 *   on_term       SIGTERM                             apply what has arrived, then leave
 *
 * CRASH  Before the commit: nothing happened, and the successor reads the same records again. After
 *        the commit and before the release: the successor finds the rings' positions in the store
 *        and passes over what was applied. Answers not yet pushed are lost: the client asks again,
 *        and its claims find the first batch. Leases not yet pushed: their sender lives and would
 *        never report them; so the successor pushes the leases of living senders once more, and a
 *        sender drops those that its started marks show as taken up already.
 */
#include "store/writer.h"

#include <assert.h>
#include <event2/event.h>
#include <inttypes.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pack.h"
#include "mail/address.h"
#include "mail/date.h"
#include "mail/event.h"
#include "mail/part.h"
#include "shm/last_words.h"
#include "shm/record.h"
#include "store/backup.h"
#include "store/batch_write.h"
#include "store/buffer.h"
#include "store/changes.h"
#include "store/control.h"
#include "store/counters.h"
#include "store/deadletters.h"
#include "store/events.h"
#include "store/feed.h"
#include "store/import.h"
#include "store/key_changes.h"
#include "store/list_changes.h"
#include "store/logins.h"
#include "store/outcomes.h"
#include "store/parts.h"
#include "store/replicas.h"
#include "store/retention.h"
#include "store/scheduler.h"
#include "store/store.h"
#include "store/suppressions.h"
#include "store/taken.h"
#include "store/templates.h"
#include "store/totals.h"
#include "store/webhooks.h"

enum {
    TURN_BYTES = 16 * 1024 * 1024, /* of records in one transaction: bounds its time and memory */
    TURN_RECORDS = 4000,
    TURN_LEASES = 64,
    EXPAND_RECIPIENTS = 1000, /* `accepted` events in a turn: the next POST waits for them */
    RETENTION_PAUSE_MS = 10,  /* between two steps, so that whoever comes meanwhile has his turn */
    RETENTION_BUSY_MS = 50,
    GIVE_WAY_NS = 100000, /* of applying events, until others have their turn */
    CLEAR_STEP = 2000,    /* addresses of a list that is emptied */
    SWEEP_READERS_MS = 5000,
    LOOK_MS = 1000,
};

/* What the writer keeps per worker slot. */
struct link {
    const struct child_slot *slot;
    uint64_t applied;    /* position up to which records are in the open transaction, or stored */
    uint64_t stored;     /* the same, committed */
    uint64_t broken_gen; /* the life that broke the ring; 0 = none */
    bool moved;          /* applied has changed in this transaction */
    struct buf outbox;   /* encoded records for the down ring: length (4 bytes, native), bytes */
    size_t outbox_at;    /* pushed up to here */
    size_t outbox_safe;  /* committed up to here: may be pushed */
};

/* A repeated POST whose first is still on its way to the buffer queue: both are answered then. */
struct waiting {
    struct waiting *next;
    uint64_t batch_id;
    struct link *link;
    uint64_t request_id, generation;
};

struct writer {
    const struct child *me;
    struct event_base *base;
    struct event *doorbell, *tick, *again, *master, *term;
    struct control *control; /* NULL when its socket cannot be: people are not heard then */
    struct store *store;
    struct scheduler *scheduler;
    struct retention *retention;
    struct outcomes_round outcomes;
    struct gauge_events arrived; /* in the open transaction; the shared ones count after it */
    uint64_t looked_mono_ms;     /* for domains without events */
    uint64_t gave_way_mono_ns;
    uint64_t let_go_mono_ms;   /* when it had its last step */
    struct link *links;        /* me->slot_count */
    struct store_txn *loading; /* while it opens */
    uint64_t last_batch_id;
    struct waiting *waiting;
    bool has_for_poller; /* this transaction has: a poller is to look */
    uint64_t readers_checked_mono_ms;
    struct arena arena; /* of one record */
    struct buf scratch;
    bool leaving;
    enum child_exit verdict;
};

static void leave(struct writer *w, enum child_exit verdict)
{
    w->verdict = verdict;
    (void)event_base_loopbreak(w->base);
}

/* -------- whom to believe -------- */

static uint64_t generation_of(const struct writer *w, const struct link *l)
{
    return atomic_load_explicit(&w->me->gauges->lives[l->slot->gauge].generation,
                                memory_order_acquire);
}

/* What this worker shares cannot be believed: the master ends it, and its ring is emptied once its
 * successor is there. */
static void distrust(struct writer *w, struct link *l, const char *why)
{
    log_error("%s %u: %s; it is stopped and its ring is emptied", child_role_name(l->slot->role),
              l->slot->index, why);
    l->broken_gen = generation_of(w, l);
    atomic_store(&w->me->gauges->distrusted[l->slot->gauge], l->broken_gen);
}

/* -------- answers and leases on their way down -------- */

static void outbox_add(struct link *l, struct slice record)
{
    uint32_t len = (uint32_t)record.len;

    buf_add(&l->outbox, &len, sizeof len);
    buf_add_slice(&l->outbox, record);
}

static void outbox_push(struct writer *w, struct link *l)
{
    bool pushed = false;

    while (l->outbox_at < l->outbox_safe) {
        uint32_t len;
        memcpy(&len, l->outbox.ptr + l->outbox_at, sizeof len);
        struct slice record = slice_of(l->outbox.ptr + l->outbox_at + sizeof len, len);
        enum ring_result got = ring_push(l->slot->down, record, NULL);
        if (got == RING_FULL) {
            atomic_fetch_add_explicit(&w->me->gauges->rings[l->slot->gauge].down_full, 1,
                                      memory_order_relaxed);
            break; /* the tick tries again */
        }
        if (got == RING_BROKEN) {
            if (l->broken_gen != generation_of(w, l))
                distrust(w, l, "the ring to it is broken");
            break;
        }
        if (got != RING_OK)
            log_error("a record of %u bytes for %s %u does not go into its ring: dropped", len,
                      l->slot->role == ROLE_HTTPD ? "httpd" : "worker", l->slot->index);
        l->outbox_at += sizeof len + len;
        pushed = true;
    }
    if (l->outbox_at == l->outbox.len) {
        buf_reset(&l->outbox);
        l->outbox_at = l->outbox_safe = 0;
    }
    if (pushed)
        bell_ring(&l->slot->bell);
}

static void answer_with(struct writer *w, struct link *l, const struct record_answer *r)
{
    buf_reset(&w->scratch);
    record_answer_encode(&w->scratch, r);
    outbox_add(l, buf_slice(&w->scratch));
}

static void answer(struct writer *w, struct link *l, uint64_t request_id, uint64_t generation,
                   enum answer_verdict verdict, struct slice text)
{
    answer_with(w, l,
                &(struct record_answer){
                    .request_id = request_id,
                    .generation = generation,
                    .verdict = (uint32_t)verdict,
                    .text = text,
                });
}

/* -------- records from httpd -------- */

static uint64_t new_batch_id(struct writer *w)
{
    uint32_t random;

    /* Milliseconds, then 20 random bits: in order of time, and two machines do not meet. */
    digest_random(&random, sizeof random);
    uint64_t id = clock_wall_ms() << 20 | (random & 0xfffff);
    if (id <= w->last_batch_id)
        id = w->last_batch_id + 1;
    return w->last_batch_id = id;
}

/* Marks the recipients that an earlier batch has claimed. Returns how many, and that batch. */
static uint32_t find_duplicates(struct store_txn *t, const struct record_accept *r,
                                uint8_t *duplicate, uint64_t *first)
{
    uint32_t found = 0;

    if (r->claims.len == 0)
        return 0;
    for (uint32_t i = 0; i < r->recipient_count; i++) {
        uint64_t owner;
        if (!claim_get(t, r->claims.ptr + (size_t)i * CLAIM_BYTES, &owner))
            continue;
        duplicate[i] = 1;
        if (found++ == 0)
            *first = owner;
    }
    return found;
}

/* The id that the first answer for this batch gave. Empty when the batch is gone. */
static struct slice first_answer_id(struct store_txn *t, uint64_t batch_id, struct arena *a,
                                    struct slice *message_id)
{
    struct slice packed;
    struct message_head head;

    if (!batch_head(t, batch_id, &packed) || !message_head_unpack(packed, a, &head))
        return (struct slice){0};
    *message_id = head.message_id;
    return arena_printf(a, "<%.*s>", SLICE_ARGS(head.message_id));
}

/* Keeps the batch in the store, but for recipients that an earlier one has claimed. */
static int keep(struct writer *w, struct store_txn *t, struct link *l,
                const struct record_accept *r, struct message_head *head, uint64_t id,
                struct err *err)
{
    uint64_t first = 0;
    uint8_t *duplicate = arena_alloc(&w->arena, r->recipient_count);
    uint32_t duplicates = find_duplicates(t, r, duplicate, &first);
    struct slice answer_id = r->answer_id, message_id = head->message_id, packed = r->head;
    struct buf repacked = {0};

    if (duplicates != 0) {
        struct slice known = first_answer_id(t, first, &w->arena, &message_id);
        if (known.len != 0)
            answer_id = known;
        log_info("%.*s: a repeated POST, %u of %u recipients known from batch %016llx",
                 SLICE_ARGS(r->domain), duplicates, r->recipient_count, (unsigned long long)first);
        if (duplicates == r->recipient_count) {
            answer(w, l, r->request_id, r->generation, ANSWER_OK, answer_id);
            return 0;
        }
        head->message_id = message_id;
        message_head_pack(&repacked, head);
        packed = buf_slice(&repacked);
    }

    struct new_batch b = {
        .id = id,
        .head = packed,
        .content = r->content,
        .slices = r->slices,
        .domain = r->domain,
        .message_id = message_id,
        .recipient_count = r->recipient_count,
        .claims = r->claims,
        .duplicate = duplicate,
        .due_wall_ms = r->due_wall_ms,
        .lane = r->lane == LANE_TRANSACTIONAL ? LANE_TRANSACTIONAL : LANE_NEWSLETTER,
    };
    int got = batch_insert(t, &b, err);
    buf_fini(&repacked);
    if (got == 0)
        return err_set(err, ERR_INPUT, "httpd %u: slices do not hold %u recipients", l->slot->index,
                       r->recipient_count);
    if (got < 0 || (r->awaited && taken_put(t, b.id, r->once, err) != 0) ||
        (r->once.len == CLAIM_BYTES && claim_put(t, r->once.ptr, b.id, err) != 0) ||
        scheduler_add(w->scheduler, t, b.id, b.due_wall_ms, b.lane, err) != 0)
        return -1;
    answer(w, l, r->request_id, r->generation, ANSWER_OK, answer_id);
    log_info("batch %016" PRIx64 " of %.*s: %" PRIu32 " recipients accepted", b.id,
             SLICE_ARGS(r->domain), r->recipient_count - duplicates);
    return 0;
}

/* -------- batches for the buffer queue -------- */

static bool is_for_buffer(const struct writer *w, const struct record_accept *r,
                          const struct message_head *head)
{
    return w->me->config->queues.newsletter_buffer[0] != '\0' && head->batch_mode &&
           r->lane == LANE_NEWSLETTER && !r->testmode && !head->testmode && r->claims.len != 0;
}

/* What this store knows of a POST's recipients. */
struct known {
    bool all;   /* each is claimed here, or was served elsewhere */
    bool local; /* one is claimed by a batch that never was on the queue */
};

static struct known known_recipients(struct store_txn *t, const struct record_accept *r)
{
    struct known k = {.all = true};

    for (uint32_t i = 0; i < r->recipient_count; i++) {
        const uint8_t *claim = r->claims.ptr + (size_t)i * CLAIM_BYTES;
        uint64_t owner;
        uint32_t receives;
        if (claim_get(t, claim, &owner))
            k.local = k.local || !part_row_get(t, owner, &receives);
        else if (!served_has(t, 0, 0, claim))
            k.all = false;
    }
    return k;
}

static void wait_for(struct writer *w, struct link *l, const struct record_accept *r,
                     uint64_t batch_id)
{
    struct waiting *one = mem_zero(1, sizeof *one);

    *one = (struct waiting){.next = w->waiting,
                            .batch_id = batch_id,
                            .link = l,
                            .request_id = r->request_id,
                            .generation = r->generation};
    w->waiting = one;
}

/* Those who repeated the POST of this batch hear what its first sender hears. */
static void answer_waiting(struct writer *w, uint64_t batch_id, enum answer_verdict verdict,
                           struct slice text)
{
    for (struct waiting **at = &w->waiting; *at != NULL;) {
        struct waiting *one = *at;
        if (one->batch_id != batch_id) {
            at = &one->next;
            continue;
        }
        *at = one->next;
        answer(w, one->link, one->request_id, one->generation, verdict, text);
        free(one);
    }
}

/* The batch waits in the store until a poller has put it on the queue; then its client is answered.
 * A repeat waits with the first; one that comes later goes on the queue again, unless all its
 * recipients are known here, and whoever reads it there passes over those that have been served. */
static int stage(struct writer *w, struct store_txn *t, struct link *l,
                 const struct record_accept *r, struct message_head *head, struct err *err)
{
    struct first_post first = {.batch_id = 0};
    uint8_t group[PART_GROUP_BYTES];
    struct record_accept again = *r;
    struct buf packed = {0}, record = {0};
    struct staged staged;

    part_group_of(r->claims, group);
    bool repeated = posted_get(t, group, &first);
    first.answer_id = arena_dup(&w->arena, first.answer_id);
    if (repeated && staged_get(t, first.batch_id, &staged)) {
        log_info("%.*s: a repeated POST, whose first is on its way to the buffer queue",
                 SLICE_ARGS(r->domain));
        wait_for(w, l, r, first.batch_id);
        return 0;
    }
    struct known known = known_recipients(t, r);
    if (known.local)
        return keep(w, t, l, r, head, new_batch_id(w), err);
    if (repeated)
        again.answer_id = first.answer_id;
    if (known.all) {
        log_info("%.*s: a repeated POST, all %u recipients known", SLICE_ARGS(r->domain),
                 r->recipient_count);
        answer(w, l, r->request_id, r->generation, ANSWER_OK, again.answer_id);
        return 0;
    }
    uint64_t id = new_batch_id(w);
    w->last_batch_id = id + PARTS_MAX; /* an id for each part */
    if (repeated && first.answer_id.len > 2 && first.answer_id.ptr[0] == '<') {
        head->message_id = slice_of(first.answer_id.ptr + 1, first.answer_id.len - 2);
        message_head_pack(&packed, head);
        again.head = buf_slice(&packed);
    }
    record_accept_encode(&record, &again);
    first.batch_id = id;
    first.answer_id = again.answer_id;
    staged = (struct staged){l->slot->gauge, w->me->ring_epoch, buf_slice(&record)};
    int rc = staged_put(t, id, &staged, err);
    if (rc == 0)
        rc = posted_put(t, group, &first, clock_wall_us(), err);
    buf_fini(&packed);
    buf_fini(&record);
    w->has_for_poller = true;
    return rc;
}

static int apply_accept(struct writer *w, struct store_txn *t, struct link *l,
                        const struct record_accept *r, struct err *err)
{
    struct message_head head;
    uint64_t first;

    /* The connection died with its httpd: nobody hears the answer, the client tries again. Not
     * keeping the batch means that the repeat is no second copy. */
    if (r->generation != generation_of(w, l))
        return 0;
    if (!message_head_unpack(r->head, &w->arena, &head) ||
        r->recipient_count != head.recipient_count || r->recipient_count == 0 ||
        r->recipient_count > MESSAGE_RECIPIENTS_MAX || head.request_id.len > LOG_REQUEST_MAX ||
        head.lane != r->lane || !slice_eq(head.domain, r->domain) ||
        config_domain_find(w->me->config, r->domain) == NULL ||
        (r->claims.len != 0 && r->claims.len != (size_t)r->recipient_count * CLAIM_BYTES)) {
        log_warn("httpd %u handed over a batch that is not consistent: refused", l->slot->index);
        answer(w, l, r->request_id, r->generation, ANSWER_REFUSED, SLICE("inconsistent batch"));
        return 0;
    }
    if (store_is_full(w->store)) {
        answer(w, l, r->request_id, r->generation, ANSWER_FULL, SLICE("disk full"));
        return 0;
    }

    if (r->once.len == CLAIM_BYTES && claim_get(t, r->once.ptr, &first)) {
        struct slice known = first_answer_id(t, first, &w->arena, &(struct slice){0});
        if (known.len != 0) {
            log_info("%.*s: a repeated POST, known from batch %016llx by its idempotency key",
                     SLICE_ARGS(r->domain), (unsigned long long)first);
            answer(w, l, r->request_id, r->generation, ANSWER_OK, known);
            return 0;
        }
    }
    if (r->claims.len == 0 && r->digest.len == CLAIM_BYTES) {
        struct slice known;
        int got = unheard_take(t, r->digest.ptr, clock_wall_us(), &w->arena, &known, err);
        if (got > 0) {
            log_info("%.*s: a repeated POST whose first answer nobody heard: %.*s",
                     SLICE_ARGS(r->domain), SLICE_ARGS(known));
            answer(w, l, r->request_id, r->generation, ANSWER_OK, known);
        }
        if (got != 0)
            return got < 0 ? -1 : 0;
    }

    log_request(head.request_id);
    if (is_for_buffer(w, r, &head))
        return stage(w, t, l, r, &head, err);
    return keep(w, t, l, r, &head, new_batch_id(w), err);
}

/* The httpd with this gauge; any, where there is none. */
static struct link *link_of(struct writer *w, unsigned gauge)
{
    struct link *found = NULL;

    for (size_t i = 0; i < w->me->slot_count; i++)
        if (w->links[i].slot->role == ROLE_HTTPD &&
            (found == NULL || w->links[i].slot->gauge == gauge))
            found = &w->links[i];
    assert(found != NULL);
    return found;
}

/* What did not go on the queue is kept here, where the policy allows it. */
static int keep_staged(struct writer *w, struct store_txn *t, struct link *l, uint64_t id,
                       const struct record_accept *accept, struct err *err)
{
    struct message_head head;

    if (!message_head_unpack(accept->head, &w->arena, &head))
        return err_set(err, ERR_STORE, "a staged batch cannot be read back");
    log_info("batch %016" PRIx64 " of %.*s does not go on the buffer queue: it is kept here", id,
             SLICE_ARGS(accept->domain));
    return keep(w, t, l, accept, &head, id, err);
}

static int apply_buffered(struct writer *w, struct store_txn *t, const struct record_buffered *r,
                          struct err *err)
{
    bool refuse = r->verdict == BUFFERED_TOO_LARGE &&
                  w->me->config->queues.buffer_too_large == TOO_LARGE_REFUSE;
    struct record_accept accept;
    uint8_t group[PART_GROUP_BYTES];
    struct staged staged;

    if (!staged_get(t, r->batch_id, &staged))
        return 0; /* told before */
    if (!record_accept_decode(arena_dup(&w->arena, staged.accept), &accept)) {
        log_error("batch %016" PRIx64
                  ": what is staged cannot be read; its client was told nothing",
                  r->batch_id);
        return staged_del(t, r->batch_id, err);
    }
    struct link *l = link_of(w, staged.gauge);
    if (staged.epoch != w->me->ring_epoch)
        accept.generation = 0; /* of before a restart: nobody waits */
    part_group_of(accept.claims, group);
    if (staged_del(t, r->batch_id, err) != 0 ||
        (r->verdict != BUFFERED_TAKEN && posted_del(t, group, err) != 0))
        return -1;
    if (refuse) {
        answer(w, l, accept.request_id, accept.generation, ANSWER_TOO_LARGE, r->words);
        answer_waiting(w, r->batch_id, ANSWER_TOO_LARGE, r->words);
        return 0;
    }
    answer_waiting(w, r->batch_id, ANSWER_OK, accept.answer_id);
    if (r->verdict != BUFFERED_TAKEN)
        return keep_staged(w, t, l, r->batch_id, &accept, err);
    log_info("batch %016" PRIx64 " of %.*s: %" PRIu32 " recipients are on the buffer queue",
             r->batch_id, SLICE_ARGS(accept.domain), accept.recipient_count);
    answer(w, l, accept.request_id, accept.generation, ANSWER_OK, accept.answer_id);
    return 0;
}

static int apply_part(struct writer *w, struct store_txn *t, const struct record_part *r,
                      struct err *err)
{
    struct slice why = SLICE("the disk is full");
    int got = store_is_full(w->store) ? 0 : part_take(w->scheduler, t, r, &why, err);

    /* It stays in the queue: its poller lets it go when it does not find the batch here. */
    if (got == 0)
        log_error("batch %016" PRIx64 " from the buffer queue is passed over: %.*s", r->batch_id,
                  SLICE_ARGS(why));
    return got < 0 ? -1 : 0;
}

static int apply_unheard(struct store_txn *t, const struct record_unheard *r, struct err *err)
{
    struct slice id = r->answer_id;

    if (id.len > 2 && id.ptr[0] == '<')
        id = slice_of(id.ptr + 1, id.len - 2);
    /* Its ACCEPT came before; whether it was kept the store tells. */
    if (r->digest.len != CLAIM_BYTES || batch_by_message_id(t, r->domain, id) == 0)
        return 0;
    return unheard_put(t, r->digest.ptr, r->answer_id, clock_wall_us(), err);
}

static int apply_seen(struct writer *w, struct store_txn *t, struct link *l,
                      const struct record_seen *r, struct err *err)
{
    /* Nobody can have been answered with what is still to come. */
    uint64_t now_us = clock_wall_us();
    uint64_t until_us = r->until_us < now_us ? r->until_us : now_us;

    if (watermark_raise(t, r->domain, until_us, err) != 0)
        return -1;
    feeds_read_on(scheduler_feeds(w->scheduler), r->domain);
    answer(w, l, r->request_id, r->generation, ANSWER_OK, (struct slice){0});
    return 0;
}

/* A whole list, some of it in each turn: other work goes on between. */
static int clear_list(struct writer *w, struct store_txn *t, struct link *l,
                      const struct record_unsuppress *r, struct err *err)
{
    struct unpack u = unpack_over(r->domains);
    bool known = unpack_array(&u) > 0;
    int gone = !known ? 0
                      : list_clear_here(t, unpack_str(&u), (enum suppression)r->list, CLEAR_STEP,
                                        clock_wall_us(), err);

    if (gone < 0)
        return -1;
    answer(w, l, r->request_id, r->generation,
           !known              ? ANSWER_REFUSED
           : gone < CLEAR_STEP ? ANSWER_OK
                               : ANSWER_MORE,
           slice_none());
    return 0;
}

static int apply_unsuppress(struct writer *w, struct store_txn *t, struct link *l,
                            const struct record_unsuppress *r, struct err *err)
{
    struct unpack u = unpack_over(r->domains);
    bool found = false, by_tag = r->list == SUPPRESS_UNSUBSCRIBE && r->tag.len > 0 &&
                                 !slice_eq(r->tag, SLICE("*"));

    if (r->list < SUPPRESS_BOUNCE || r->list > SUPPRESS_ALLOW) {
        answer(w, l, r->request_id, r->generation, ANSWER_REFUSED, SLICE("no such list"));
        return 0;
    }
    if (r->address.len == 0)
        return clear_list(w, t, l, r, err);
    for (uint32_t n = unpack_array(&u); n > 0; n--) {
        struct slice domain = unpack_str(&u);
        int got = list_remove_here(t, domain, (enum suppression)r->list, r->address,
                                   by_tag ? r->tag : slice_none(), err);
        if (got < 0)
            return -1;
        found = found || got > 0;
    }
    /* Whether we knew it or not: SES has a list of its own, of bounces and complaints. */
    if ((r->list == SUPPRESS_BOUNCE || r->list == SUPPRESS_COMPLAINT) &&
        lifted_put(t, r->address, clock_wall_us(), err) != 0)
        return -1;
    answer(w, l, r->request_id, r->generation, found ? ANSWER_OK : ANSWER_NOT_FOUND,
           (struct slice){0});
    return 0;
}

static int apply_suppress(struct writer *w, struct store_txn *t, struct link *l,
                          const struct record_suppress *r, struct err *err)
{
    struct unpack u = unpack_over(r->entries);
    bool known = r->list >= SUPPRESS_BOUNCE && r->list <= SUPPRESS_ALLOW;

    for (uint32_t n = known ? unpack_array(&u) : 0; n > 0; n--) {
        struct suppression_entry entry = suppression_entry_unpack(&u);
        if (!unpack_ok(&u) || !suppression_fits((enum suppression)r->list, entry.address)) {
            known = false;
            break;
        }
        if (list_add_here(t, r->domain, (enum suppression)r->list, &entry, err) != 0)
            return -1;
    }
    answer(w, l, r->request_id, r->generation, known ? ANSWER_OK : ANSWER_REFUSED,
           known ? slice_none() : SLICE("the entries cannot be read"));
    return 0;
}

/* -------- records from the pollers -------- */

static int suppress(struct store_txn *t, const struct event *e, enum suppression list,
                    struct slice code, struct slice text, uint64_t now_us, struct err *err)
{
    struct suppression_entry entry = {
        .address = e->recipient, .code = code, .text = text, .created_us = now_us};

    if (list == SUPPRESS_BOUNCE && allowlist_has(t, e->domain, e->recipient))
        return 0;
    return list_add_by_event(t, e->domain, list, &entry, e->ses_us, err);
}

/* What an event that is new means for its address and for its domain's good name. */
static int apply_effects(struct writer *w, struct store_txn *t, const struct record_event *r,
                         const struct event *e, uint64_t now_us, struct err *err)
{
    const struct config *config = w->me->config;

    if (e->type == EVENT_DELIVERED && soft_bounce_reset(t, e->domain, e->recipient, err) != 0)
        return -1;
    if (r->bounce == BOUNCE_HARD &&
        scheduler_feedback(w->scheduler, t, e->domain, e->recipient, REPUTATION_BOUNCED, err) != 0)
        return -1;
    if (e->type == EVENT_COMPLAINED && scheduler_feedback(w->scheduler, t, e->domain, e->recipient,
                                                          REPUTATION_COMPLAINED, err) != 0)
        return -1;
    if (r->bounce == BOUNCE_SOFT) {
        int got = soft_bounce_add(t, e->domain, e->recipient, now_us, config->guard.soft_bounces,
                                  config->guard.soft_bounce_window_ms * 1000, err);
        if (got < 0)
            return -1;
        if (got > 0)
            return suppress(t, e, SUPPRESS_BOUNCE, SLICE("450"),
                            SLICE("repeated temporary failures without a delivery between"), now_us,
                            err);
    }
    if (r->suppress < SUPPRESS_BOUNCE || r->suppress > SUPPRESS_COMPLAINT)
        return 0;
    return suppress(t, e, (enum suppression)r->suppress, r->suppress_code, r->suppress_text, now_us,
                    err);
}

/* Failures and complaints are said; each, where one listens for everything. */
static void say_event(struct writer *w, struct store_txn *t, const struct event *e)
{
    bool matters =
        e->type == EVENT_FAILED || e->type == EVENT_REJECTED || e->type == EVENT_COMPLAINED;
    enum log_level level = matters ? LOG_LEVEL_INFO : LOG_LEVEL_DEBUG;
    struct message_head head;
    struct slice packed;

    if (!log_is_on(level))
        return;
    if (e->batch_id != 0 && batch_head(t, e->batch_id, &packed) &&
        message_head_unpack(packed, &w->arena, &head))
        log_request(head.request_id);
    const struct log_field fields[] = {LOG_TEXT("recipient", e->recipient)};
    log_fields(level, fields, 1, "batch %016" PRIx64 ": %s%s", e->batch_id,
               event_type_name(e->type),
               e->type != EVENT_FAILED             ? ""
               : e->severity == SEVERITY_PERMANENT ? " for good"
                                                   : " for now");
}

static int apply_event(struct writer *w, struct store_txn *t, const struct record_event *r,
                       struct err *err)
{
    struct event e = {.ses_us = r->ses_us};

    if (r->elsewhere_id != 0 &&
        (part_note_elsewhere(w->scheduler, t, r->elsewhere_id, r->recipient, r->claim, err) != 0 ||
         scheduler_settle(w->scheduler, t, r->elsewhere_id, r->recipient, err) != 0))
        return -1;
    if (r->settles && r->batch_id != 0 && scheduler_held_until(w->scheduler, t, r->batch_id) != 0 &&
        part_note_elsewhere(w->scheduler, t, r->batch_id, r->recipient, slice_none(), err) != 0)
        return -1;
    if (r->settles && r->batch_id != 0 &&
        scheduler_settle(w->scheduler, t, r->batch_id, r->recipient, err) != 0)
        return -1;
    if (r->event.len == 0) {
        feeds_heard(scheduler_feeds(w->scheduler), scheduler_domain(w->scheduler, t, r->batch_id));
        return 0;
    }
    if (r->event_id.len != EVENT_ID_BYTES || !event_unpack(r->event, &w->arena, &e)) {
        log_error("an event from a poller cannot be read: passed over");
        return 0;
    }
    memcpy(e.id, r->event_id.ptr, EVENT_ID_BYTES);
    e.batch_id = r->batch_id;
    e.batch_recipient = r->recipient;

    uint64_t now_us = clock_wall_us();
    e.has_lane = scheduler_lane_find(w->scheduler, t, r->batch_id, &e.lane);
    int got = event_put(t, &e, now_us, err);
    if (got < 0)
        return -1;
    feeds_heard(scheduler_feeds(w->scheduler), e.domain);
    if (totals_add_arrival(t, &e, got > 0, err) != 0)
        return -1;
    if (got == 0) { /* its effects are there already */
        atomic_fetch_add_explicit(&w->arrived.repeated, 1, memory_order_relaxed);
        return 0;
    }
    gauge_events_add(&w->arrived, e.ses_us, event_is_late(&e), now_us);
    say_event(w, t, &e);
    if (r->batch_id != 0 && scheduler_count_event(w->scheduler, t, r->batch_id, r->recipient,
                                                  e.type, (uint32_t)e.severity, err) != 0)
        return -1;
    return apply_effects(w, t, r, &e, now_us, err);
}

static int apply_deadletter(struct writer *w, struct store_txn *t,
                            const struct record_deadletter *r, struct err *err)
{
    struct deadletter letter = {
        .source = r->source,
        .why = r->why,
        .raw = r->raw,
        .message_id = r->message_id,
        .wall_us = clock_wall_us(),
    };

    if (r->wish_us != 0)
        return deadletter_replay_failed(t, &letter, r->wish_us, err);
    log_warn("a message of %.*s was not understood and is kept: %.*s (postern deadletters)",
             SLICE_ARGS(r->source), SLICE_ARGS(r->why));
    atomic_fetch_add_explicit(&w->arrived.deadletters, 1, memory_order_relaxed);
    return deadletter_put(t, &letter, err);
}

static int apply_replayed(struct store_txn *t, const struct record_replayed *r, struct err *err)
{
    if (r->id.len != DEADLETTER_ID_BYTES) {
        log_error("a replay from a poller names no dead letter: passed over");
        return 0;
    }
    return deadletter_delete(t, r->id.ptr, err) < 0 ? -1 : 0;
}

/* -------- what a client configures -------- */

/* Of a domain that there is, on a disk that has room; else the answer has been given. */
static bool is_refused(struct writer *w, struct link *l, struct slice domain, uint64_t request_id,
                       uint64_t generation)
{
    if (config_domain_find(w->me->config, domain) == NULL)
        answer(w, l, request_id, generation, ANSWER_REFUSED, SLICE("no such domain"));
    else if (store_is_full(w->store))
        answer(w, l, request_id, generation, ANSWER_FULL, SLICE("disk full"));
    else
        return false;
    return true;
}

static int apply_webhook(struct writer *w, struct store_txn *t, struct link *l,
                         const struct record_webhook *r, struct err *err)
{
    enum answer_verdict verdict;
    struct buf words = {0};

    if (is_refused(w, l, r->domain, r->request_id, r->generation))
        return 0;
    int rc = webhook_change(t, r, &verdict, &words, err);
    if (rc == 0)
        answer(w, l, r->request_id, r->generation, verdict, buf_slice(&words));
    buf_fini(&words);
    return rc;
}

static int apply_template(struct writer *w, struct store_txn *t, struct link *l,
                          const struct record_template *r, struct err *err)
{
    enum answer_verdict verdict;
    struct buf words = {0};

    if (is_refused(w, l, r->domain, r->request_id, r->generation))
        return 0;
    int rc = template_change(t, r, clock_wall_us(), &verdict, &words, err);
    if (rc == 0)
        answer(w, l, r->request_id, r->generation, verdict, buf_slice(&words));
    buf_fini(&words);
    return rc;
}

static int apply_cancel(struct writer *w, struct store_txn *t, struct link *l,
                        const struct record_cancel *r, struct err *err)
{
    const struct record_control asked = {
        .verb = CONTROL_CANCEL, .domain = r->domain, .all_lanes = 1, .by = r->by};
    enum answer_verdict verdict;
    struct buf words = {0};
    uint32_t count;

    int rc = scheduler_control(w->scheduler, t, &asked, &verdict, &count, &words, err);
    if (rc == 0)
        answer(w, l, r->request_id, r->generation, verdict, buf_slice(&words));
    buf_fini(&words);
    return rc;
}

static void apply_queues(struct writer *w, struct link *l, const struct record_queues *r)
{
    struct buf json = {0};

    if (config_domain_find(w->me->config, r->domain) != NULL)
        scheduler_queues(w->scheduler, r->domain, &json);
    answer(w, l, r->request_id, r->generation, json.len > 0 ? ANSWER_OK : ANSWER_NOT_FOUND,
           buf_slice(&json));
    buf_fini(&json);
}

static int apply_tag(struct writer *w, struct store_txn *t, struct link *l,
                     const struct record_tag *r, struct err *err)
{
    enum { DESCRIPTION_BYTES_MAX = 1000 };
    bool fits = config_domain_find(w->me->config, r->domain) != NULL &&
                r->description.len <= DESCRIPTION_BYTES_MAX &&
                slice_find_byte(r->description, 0) == SIZE_MAX;
    int got = 0;

    if (fits)
        got = r->gone ? tag_delete(t, r->domain, r->tag, err)
                      : tag_describe(t, r->domain, r->tag, r->description, err);
    if (got < 0)
        return -1;
    answer(w, l, r->request_id, r->generation,
           !fits     ? ANSWER_REFUSED
           : got > 0 ? ANSWER_OK
                     : ANSWER_NOT_FOUND,
           slice_none());
    return 0;
}

static int take_history(struct writer *w, struct store_txn *t, const struct record_control *r,
                        enum answer_verdict *verdict, uint32_t *count, struct buf *words,
                        struct err *err)
{
    if (!store_is_full(w->store))
        return import_control(t, w->me->config, r, clock_wall_us(), verdict, count, words, err);
    *verdict = ANSWER_FULL;
    buf_add_str(words, "the disk is full");
    return 0;
}

/* What a person asks for, whichever way it came. *words: for that person. */
static int control(struct writer *w, struct store_txn *t, const struct record_control *r,
                   enum answer_verdict *verdict, uint32_t *count, struct buf *words,
                   struct err *err)
{
    *count = 0;
    if (r->verb == CONTROL_REPLAY || r->verb == CONTROL_DROP)
        return deadletter_control(t, r, clock_wall_us(), verdict, count, words, err);
    if (r->verb == CONTROL_WEBHOOK_REPLAY || r->verb == CONTROL_WEBHOOK_DROP)
        return webhook_control(t, r, clock_wall_ms(), verdict, count, words, err);
    if (r->verb == CONTROL_IMPORT)
        return take_history(w, t, r, verdict, count, words, err);
    if (r->verb == CONTROL_SESSION_SEEN && store_is_full(w->store)) {
        *verdict = ANSWER_FULL;
        return 0;
    }
    if ((r->verb == CONTROL_LOGIN || r->verb == CONTROL_SIGN_IN || r->verb == CONTROL_KEY_ADD) &&
        store_is_full(w->store)) {
        *verdict = ANSWER_FULL;
        buf_add_str(words, "the disk is full");
        return 0;
    }
    if (r->verb >= CONTROL_LOGIN && r->verb <= CONTROL_SESSIONS_END)
        return login_control(t, r, clock_wall_ms(), w->me->config->dashboard.session_ms, verdict,
                             count, words, err);
    if (r->verb == CONTROL_KEY_ADD || r->verb == CONTROL_KEY_WITHDRAW)
        return key_control(t, w->me->config, r, verdict, count, words, err);
    return scheduler_control(w->scheduler, t, r, verdict, count, words, err);
}

/* A process that faces the internet lets nobody in and out and brings no history: links, keys and
 * imports come from the command line. */
static int apply_ask(struct writer *w, struct store_txn *t, struct link *l,
                     const struct record_ask *r, struct err *err)
{
    enum answer_verdict verdict = ANSWER_REFUSED;
    struct record_control asked;
    struct buf words = {0};
    uint32_t count = 0;
    int rc = 0;

    if (!record_control_decode(r->control, &asked) || control_is_command_lines(asked.verb))
        buf_add_str(&words, "this cannot be asked for here");
    else
        rc = control(w, t, &asked, &verdict, &count, &words, err);
    if (words.len > CONTROL_ANSWER_MAX) { /* as over the socket: far less than the ring holds */
        verdict = ANSWER_REFUSED;
        buf_reset(&words);
        buf_add_str(&words, "the answer is too long");
    }
    if (rc == 0)
        answer_with(w, l,
                    &(struct record_answer){.request_id = r->request_id,
                                            .generation = r->generation,
                                            .verdict = (uint32_t)verdict,
                                            .text = buf_slice(&words),
                                            .count = count});
    buf_fini(&words);
    return rc;
}

static int apply_posted(struct writer *w, struct store_txn *t, const struct record_posted *r,
                        struct err *err)
{
    const struct config *config = w->me->config;
    struct gauge_webhooks *gauges = &w->me->gauges->webhooks;
    enum webhook_result result;

    if (webhook_posted(t, r, config->webhooks.retries.ms, config->webhooks.retries.count, &result,
                       err) != 0)
        return -1;
    switch (result) {
    case WEBHOOK_NOTHING:
        break;
    case WEBHOOK_TAKEN:
        atomic_fetch_add_explicit(&gauges->taken, 1, memory_order_relaxed);
        break;
    case WEBHOOK_AGAIN:
        atomic_fetch_add_explicit(&gauges->retried, 1, memory_order_relaxed);
        break;
    case WEBHOOK_GIVEN_UP:
        atomic_fetch_add_explicit(&gauges->given_up, 1, memory_order_relaxed);
        break;
    }
    return 0;
}

/* -------- one record -------- */

/* Which kinds a role may send; everything else from it is not believed. */
static bool may_send(enum child_role role, enum record_kind kind)
{
    switch (role) {
    case ROLE_HTTPD:
        return kind == RECORD_ACCEPT || kind == RECORD_SEEN || kind == RECORD_UNSUPPRESS ||
               kind == RECORD_SUPPRESS || kind == RECORD_UNHEARD || kind == RECORD_WEBHOOK ||
               kind == RECORD_CANCEL || kind == RECORD_QUEUES || kind == RECORD_TAG ||
               kind == RECORD_TEMPLATE || kind == RECORD_ASK;
    case ROLE_SENDER:
        return kind == RECORD_OUTCOMES || kind == RECORD_LIFTED;
    case ROLE_POLLER:
        return kind == RECORD_EVENT || kind == RECORD_DEADLETTER || kind == RECORD_REPLAYED ||
               kind == RECORD_BUFFERED || kind == RECORD_PART || kind == RECORD_HELD ||
               kind == RECORD_REPLICA || kind == RECORD_TOLD;
    case ROLE_COURIER:
        return kind == RECORD_POSTED;
    case ROLE_WRITER:
    case ROLE_KEEPER:
    case ROLE_SANDBOX:
    case ROLE_LOGGER:
        break;
    }
    return false;
}

/* 1 applied, 0 not understood, -1 failure of the store. */
static int apply(struct writer *w, struct store_txn *t, struct link *l, struct slice bytes,
                 struct err *err)
{
    enum record_kind kind = record_kind_of(bytes);
    union {
        struct record_accept accept;
        struct record_seen seen;
        struct record_unsuppress unsuppress;
        struct record_suppress suppress;
        struct record_outcomes outcomes;
        struct record_event event;
        struct record_deadletter deadletter;
        struct record_replayed replayed;
        struct record_lifted lifted;
        struct record_unheard unheard;
        struct record_webhook webhook;
        struct record_posted posted;
        struct record_cancel cancel;
        struct record_queues queues;
        struct record_tag tag;
        struct record_template template;
        struct record_ask ask;
        struct record_buffered buffered;
        struct record_part part;
        struct record_held held;
        struct record_replica replica;
        struct record_told told;
    } r;
    int got = 0;

    arena_reset(&w->arena);
    if (!may_send(l->slot->role, kind))
        return 0;
    switch (kind) {
    case RECORD_ACCEPT:
        if (!record_accept_decode(bytes, &r.accept))
            return 0;
        got = apply_accept(w, t, l, &r.accept, err);
        break;
    case RECORD_SEEN:
        if (!record_seen_decode(bytes, &r.seen))
            return 0;
        got = apply_seen(w, t, l, &r.seen, err);
        break;
    case RECORD_UNSUPPRESS:
        if (!record_unsuppress_decode(bytes, &r.unsuppress))
            return 0;
        got = apply_unsuppress(w, t, l, &r.unsuppress, err);
        break;
    case RECORD_SUPPRESS:
        if (!record_suppress_decode(bytes, &r.suppress))
            return 0;
        got = apply_suppress(w, t, l, &r.suppress, err);
        break;
    case RECORD_UNHEARD:
        if (!record_unheard_decode(bytes, &r.unheard))
            return 0;
        got = apply_unheard(t, &r.unheard, err);
        break;
    case RECORD_OUTCOMES:
        if (!record_outcomes_decode(bytes, &r.outcomes))
            return 0;
        got = scheduler_outcomes(w->scheduler, t, l->slot->index, &r.outcomes, err);
        break;
    case RECORD_EVENT:
        if (!record_event_decode(bytes, &r.event))
            return 0;
        got = apply_event(w, t, &r.event, err);
        break;
    case RECORD_DEADLETTER:
        if (!record_deadletter_decode(bytes, &r.deadletter))
            return 0;
        got = apply_deadletter(w, t, &r.deadletter, err);
        break;
    case RECORD_REPLAYED:
        if (!record_replayed_decode(bytes, &r.replayed))
            return 0;
        got = apply_replayed(t, &r.replayed, err);
        break;
    case RECORD_LIFTED:
        if (!record_lifted_decode(bytes, &r.lifted))
            return 0;
        got = lifted_delete(t, r.lifted.address, r.lifted.at_us, err);
        break;
    case RECORD_WEBHOOK:
        if (!record_webhook_decode(bytes, &r.webhook))
            return 0;
        got = apply_webhook(w, t, l, &r.webhook, err);
        break;
    case RECORD_POSTED:
        if (!record_posted_decode(bytes, &r.posted))
            return 0;
        got = apply_posted(w, t, &r.posted, err);
        break;
    case RECORD_CANCEL:
        if (!record_cancel_decode(bytes, &r.cancel))
            return 0;
        got = apply_cancel(w, t, l, &r.cancel, err);
        break;
    case RECORD_QUEUES:
        if (!record_queues_decode(bytes, &r.queues))
            return 0;
        apply_queues(w, l, &r.queues);
        break;
    case RECORD_TAG:
        if (!record_tag_decode(bytes, &r.tag))
            return 0;
        got = apply_tag(w, t, l, &r.tag, err);
        break;
    case RECORD_TEMPLATE:
        if (!record_template_decode(bytes, &r.template))
            return 0;
        got = apply_template(w, t, l, &r.template, err);
        break;
    case RECORD_ASK:
        if (!record_ask_decode(bytes, &r.ask))
            return 0;
        got = apply_ask(w, t, l, &r.ask, err);
        break;
    case RECORD_BUFFERED:
        if (!record_buffered_decode(bytes, &r.buffered))
            return 0;
        got = apply_buffered(w, t, &r.buffered, err);
        break;
    case RECORD_PART:
        if (!record_part_decode(bytes, &r.part))
            return 0;
        got = apply_part(w, t, &r.part, err);
        break;
    case RECORD_HELD:
        if (!record_held_decode(bytes, &r.held))
            return 0;
        part_hold(w->scheduler, t, &r.held);
        break;
    case RECORD_REPLICA:
        if (!record_replica_decode(bytes, &r.replica))
            return 0;
        got = replica_apply(w->scheduler, t, &r.replica, err);
        break;
    case RECORD_TOLD:
        if (!record_told_decode(bytes, &r.told))
            return 0;
        got = changes_drop(t, r.told.stamp_us, err);
        break;
    case RECORD_CHANGE:
    case RECORD_ELSEWHERE:
    case RECORD_CONTROL:
    case RECORD_CONTROLLED:
    case RECORD_ANSWER:
    case RECORD_LEASE:
        return 0; /* these go down, or another way */
    }
    log_request(slice_none());
    return got < 0 ? -1 : 1;
}

/* -------- rings -------- */

static bool is_to_be_emptied(const struct writer *w, const struct link *l)
{
    const struct gauges *g = w->me->gauges;

    return atomic_load(&g->empty_wanted[l->slot->gauge]) !=
           atomic_load(&g->empty_done[l->slot->gauge]);
}

/* The dead one's rings, while nobody is at their other end. What was on its way down was for it. */
static void empty_rings(struct writer *w, struct link *l)
{
    struct gauges *g = w->me->gauges;

    ring_reset(l->slot->up);
    ring_reset(l->slot->down);
    buf_reset(&l->outbox);
    l->outbox_at = l->outbox_safe = 0;
    l->applied = ring_tail(l->slot->up);
    l->moved = true;
    l->broken_gen = 0;
    atomic_store(&g->empty_done[l->slot->gauge], atomic_load(&g->empty_wanted[l->slot->gauge]));
}

/* True when the link may be read. */
static bool link_is_sound(struct writer *w, struct link *l)
{
    if (is_to_be_emptied(w, l))
        empty_rings(w, l);
    /* Alive or dead, nothing more that it says counts. */
    return l->broken_gen == 0 || l->broken_gen != generation_of(w, l);
}

struct budget {
    size_t bytes, records;
    bool more; /* something was left for the next turn */
};

/* A ring full of events is some ms of work, which a kernel gives us in one piece when we had less of
 * the processor before than a busy httpd: then one page in a hundred waits for it, and its reader
 * with it. Events can wait (master/supervise.c, take_turns()); with an idle processor this is a
 * system call in a hundred µs. */
static void give_way(struct writer *w, const struct link *l)
{
    if (l->slot->role != ROLE_POLLER ||
        clock_mono_ns() - w->gave_way_mono_ns < (uint64_t)GIVE_WAY_NS)
        return;
    (void)sched_yield();
    w->gave_way_mono_ns = clock_mono_ns();
}

static int drain(struct writer *w, struct store_txn *t, struct link *l, struct budget *budget,
                 struct err *err)
{
    struct ring_view view;

    if (!link_is_sound(w, l))
        return 0;
    while (true) {
        enum ring_result got = ring_peek_from(l->slot->up, l->applied, &view);
        if (got == RING_EMPTY)
            return 0;
        if (got != RING_OK) {
            distrust(w, l, "its ring is broken");
            return 0;
        }
        if (budget->records == 0 || budget->bytes < view.rec.len) {
            /* A record longer than the whole budget still has its turn, alone. */
            if (budget->records != TURN_RECORDS) {
                budget->more = true;
                return 0;
            }
        }
        int applied = apply(w, t, l, view.rec, err);
        if (applied < 0)
            return -1;
        if (applied == 0)
            distrust(w, l, "it sent a record that is not understood");
        budget->records--;
        budget->bytes -= view.rec.len < budget->bytes ? view.rec.len : budget->bytes;
        l->applied = view.next;
        l->moved = true;
        if (applied == 0)
            return 0;
        give_way(w, l);
    }
}

/* -------- a turn -------- */

static int grant(struct writer *w, struct store_txn *t, unsigned *granted, struct err *err)
{
    bool any = true;

    /* One lease each in turn, so that no sender takes all the work. */
    while (any && *granted < TURN_LEASES && !w->leaving) {
        any = false;
        for (size_t i = 0; i < w->me->slot_count; i++) {
            struct link *l = &w->links[i];
            const struct gauge_slot *g = &w->me->gauges->slots[l->slot->gauge];
            if (l->slot->role != ROLE_SENDER || atomic_load(&g->state) != GAUGE_READY)
                continue;
            buf_reset(&w->scratch);
            int got =
                scheduler_grant(w->scheduler, t, l->slot, generation_of(w, l), &w->scratch, err);
            if (got < 0)
                return -1;
            if (got == 0)
                continue;
            outbox_add(l, buf_slice(&w->scratch));
            (*granted)++;
            any = true;
        }
    }
    return 0;
}

static int bury_dead_senders(struct writer *w, struct store_txn *t, struct err *err)
{
    for (size_t i = 0; i < w->me->slot_count; i++)
        if (w->links[i].slot->role == ROLE_SENDER &&
            scheduler_has_dead(w->scheduler, w->links[i].slot) &&
            scheduler_bury(w->scheduler, t, w->links[i].slot, err) != 0)
            return -1;
    return 0;
}

/* What people ask for over the control socket. */
static int obey(struct writer *w, struct store_txn *t, struct err *err)
{
    struct record_control r;

    while (control_next(w->control, &r)) {
        enum answer_verdict verdict;
        uint32_t count;
        buf_reset(&w->scratch);
        if (control(w, t, &r, &verdict, &count, &w->scratch, err) != 0)
            return -1;
        control_answer(w->control, &(struct record_controlled){.verdict = (uint32_t)verdict,
                                                               .text = buf_slice(&w->scratch),
                                                               .count = count});
    }
    return 0;
}

/* What is old goes: a step in a turn, and not in every turn while there is other work. */
static int let_go(struct writer *w, struct store_txn *t, bool busy, struct err *err)
{
    const struct timeval soon = {.tv_usec = RETENTION_PAUSE_MS * 1000};
    uint64_t now_ms = clock_mono_ms();

    if (!retention_is_due(w->retention, now_ms) ||
        (busy && now_ms - w->let_go_mono_ms < RETENTION_BUSY_MS))
        return 0;
    w->let_go_mono_ms = now_ms;
    scheduler_drop_settled(w->scheduler);
    int more = retention_step(w->retention, t, clock_wall_ms(), now_ms, err);
    if (more > 0)
        (void)event_add(w->again, &soon);
    return more < 0 ? -1 : 0;
}

static int fill(struct writer *w, struct store_txn *t, struct budget *budget, struct err *err)
{
    unsigned granted = 0;

    for (size_t i = 0; i < w->me->slot_count; i++)
        if (drain(w, t, &w->links[i], budget, err) != 0)
            return -1;
    /* The dead are buried only when everything they said has been heard. */
    if (!budget->more && bury_dead_senders(w, t, err) != 0)
        return -1;
    if (scheduler_doubt_is_due(w->scheduler) && scheduler_expire_doubts(w->scheduler, t, err) != 0)
        return -1;
    if (parts_are_to_be_handed_on(w->scheduler) && parts_hand_on(w->scheduler, t, err) != 0)
        return -1;
    if (obey(w, t, err) != 0 || grant(w, t, &granted, err) != 0)
        return -1;
    int more = scheduler_expand(w->scheduler, t, EXPAND_RECIPIENTS, err);
    if (more < 0 || scheduler_flush(w->scheduler, t, err) != 0)
        return -1;
    if (more > 0 || granted == TURN_LEASES)
        budget->more = true;
    if (let_go(w, t, budget->more, err) != 0)
        return -1;
    if (!budget->more)
        outcomes_step(&w->outcomes, t, w->me->config->alarm.no_outcome_after_ms, clock_wall_ms(),
                      clock_mono_ms(), &w->me->gauges->events);
    for (size_t i = 0; i < w->me->slot_count; i++) {
        struct link *l = &w->links[i];
        if (l->moved && ring_position_put(t, l->slot->gauge, l->slot->epoch, l->applied, err) != 0)
            return -1;
    }
    return 0;
}

static void after_commit(struct writer *w, bool has_enqueued)
{
    for (size_t i = 0; i < w->me->slot_count; i++) {
        struct link *l = &w->links[i];
        if (l->moved) {
            ring_release(l->slot->up, &(struct ring_view){.next = l->applied});
            l->stored = l->applied;
            l->moved = false;
            bell_ring(&l->slot->bell); /* room again; and a poller may delete */
        }
        if ((has_enqueued && l->slot->role == ROLE_COURIER) ||
            (w->has_for_poller && l->slot->role == ROLE_POLLER))
            bell_ring(&l->slot->bell);
        l->outbox_safe = l->outbox.len;
        outbox_push(w, l);
    }
    w->has_for_poller = false;
    control_send(w->control);
}

/* Has a poller too little to wake us for? It rings again as long as something of it waits. */
static bool is_gathering(const struct writer *w, const struct link *l)
{
    return l->slot->role == ROLE_POLLER && !w->leaving &&
           ring_used_bytes(l->slot->up) < CHILD_GATHER_BYTES;
}

static bool has_work(struct writer *w)
{
    struct ring_view view;

    for (size_t i = 0; i < w->me->slot_count; i++) {
        struct link *l = &w->links[i];
        if (is_to_be_emptied(w, l))
            return true;
        if (l->broken_gen == 0 && !is_gathering(w, l) &&
            ring_peek_from(l->slot->up, l->applied, &view) != RING_EMPTY)
            return true;
    }
    return control_has_work(w->control);
}

static void count_commit(struct writer *w, unsigned records, uint64_t took_us)
{
    struct gauges *g = w->me->gauges;

    atomic_fetch_add_explicit(&g->writer_commits, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&g->writer_records, records, memory_order_relaxed);
    histogram_add(&g->commit_us, &histogram_quick_us, took_us);
    if (records > 0)
        histogram_add(&g->commit_records, &histogram_records, records);
    gauge_events_publish(&g->events, &w->arrived);
}

/* One transaction. False: the process is to end. */
static bool turn(struct writer *w, bool *more)
{
    struct budget budget = {.bytes = TURN_BYTES, .records = TURN_RECORDS};
    struct err err;

    struct store_txn *t = store_begin_write(w->store, &err);
    if (t == NULL) {
        log_err(&err, "no write transaction");
        return false;
    }
    last_words_doing("apply records");
    if (fill(w, t, &budget, &err) != 0) {
        log_err(&err, "the turn is given up; the records stay in their rings");
        store_abort(t);
        return false;
    }
    bool has_enqueued = webhook_has_enqueued(t);
    w->has_for_poller = changes_take_news(t) || w->has_for_poller;
    unsigned records = (unsigned)(TURN_RECORDS - budget.records);
    uint64_t began_mono_ns = clock_mono_ns();
    last_words_doing("commit %u records", records);
    if (store_commit(t, &err) != 0) {
        log_err(&err, "not committed; the records stay in their rings");
        return false;
    }
    count_commit(w, records, (clock_mono_ns() - began_mono_ns) / 1000);
    last_words_doing("answer");
    after_commit(w, has_enqueued);
    last_words_doing("%s", "");
    *more = budget.more;
    return true;
}

static void take_turn(struct writer *w)
{
    bool more = false;

    bell_quiet(&w->me->writer_bell);
    if (!turn(w, &more)) {
        leave(w, CHILD_EXIT_RETRY);
        return;
    }
    child_beat(w->me);
    if (!more && !has_work(w)) {
        bell_sleep(&w->me->writer_bell);
        more = has_work(w);
        if (!more) {
            if (w->leaving)
                leave(w, CHILD_EXIT_DONE);
            return;
        }
        bell_quiet(&w->me->writer_bell);
    }
    event_active(w->doorbell, EV_READ, 0); /* signals and the tick have their turn between */
}

/* -------- callbacks -------- */

static void on_doorbell(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    take_turn(arg);
}

/* Somebody has asked for something. */
static void on_request(void *arg)
{
    const struct writer *w = arg;

    event_active(w->doorbell, EV_READ, 0);
}

static void set(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static void measure_rings(const struct writer *w)
{
    for (size_t i = 0; i < w->me->slot_count; i++) {
        const struct child_slot *slot = w->links[i].slot;
        struct gauge_ring *g = &w->me->gauges->rings[slot->gauge];
        set(&g->up_used_bytes, ring_used_bytes(slot->up));
        set(&g->up_bytes, ring_bytes(slot->up));
        set(&g->down_used_bytes, ring_used_bytes(slot->down));
        set(&g->down_bytes, ring_bytes(slot->down));
    }
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct writer *w = arg;
    uint64_t now_ms = clock_mono_ms();

    (void)fd, (void)what;
    child_beat(w->me);
    if (now_ms - w->readers_checked_mono_ms > SWEEP_READERS_MS) {
        w->readers_checked_mono_ms = now_ms;
        (void)store_sweep_readers(w->store);
    }
    if (now_ms - w->looked_mono_ms >= LOOK_MS) {
        w->looked_mono_ms = now_ms;
        feeds_look(scheduler_feeds(w->scheduler));
        scheduler_tell_held(w->scheduler);
        measure_rings(w);
    }
    take_turn(w);
}

static void on_master(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    leave(arg, CHILD_EXIT_DONE);
}

static void on_term(evutil_socket_t sig, short what, void *arg)
{
    struct writer *w = arg;

    (void)sig, (void)what;
    w->leaving = true;
    child_leaving(w->me);
    take_turn(w);
}

/* -------- opening -------- */

static int push_again(void *arg, const struct lease_row *row)
{
    struct writer *w = arg;

    if (row->sender == LEASE_DOUBT || row->epoch != w->me->ring_epoch)
        return 0;
    for (size_t i = 0; i < w->me->slot_count; i++) {
        struct link *l = &w->links[i];
        if (l->slot->role != ROLE_SENDER || l->slot->index != row->sender)
            continue;
        struct record_lease r = {
            .generation = row->generation,
            .lease_id = row->id,
            .cell = row->cell,
            .batch_id = row->batch_id,
            .slice = row->slice,
            .mask = row->mask,
            .lane = scheduler_lane(w->scheduler, w->loading, row->batch_id),
            .until_mono_ms = scheduler_held_until(w->scheduler, w->loading, row->batch_id),
        };
        buf_reset(&w->scratch);
        record_lease_encode(&w->scratch, &r);
        outbox_add(l, buf_slice(&w->scratch));
    }
    return 0;
}

/* Of a copy that was put back, what was open may have been sent since. */
static int take_over_backup(struct writer *w, struct err *err)
{
    uint64_t made_us;
    int paused = store_take_over_backup(w->store, &made_us, err);
    struct buf date = {0};

    if (paused >= 0 && made_us != 0) {
        date_put_rfc1123(&date, made_us, "UTC");
        log_warn("this state is a backup of %s: %d open batches are paused, as they may have been "
                 "sent since; `postern batches` lists them, `postern batches resume|cancel ID`",
                 buf_cstr(&date), paused);
        buf_fini(&date);
    }
    return paused < 0 ? -1 : 0;
}

static int writer_load(struct writer *w, struct err *err)
{
    struct store_txn *t = store_begin_read(w->store, err);

    if (t == NULL)
        return -1;
    w->last_batch_id = batch_last_id(t);
    if (staged_last_id(t) + PARTS_MAX > w->last_batch_id)
        w->last_batch_id = staged_last_id(t) + PARTS_MAX;
    w->scheduler = scheduler_open(w->me, t, err);
    for (size_t i = 0; i < w->me->slot_count; i++) {
        struct link *l = &w->links[i];
        l->slot = &w->me->slots[i];
        l->applied = ring_tail(l->slot->up);
        uint64_t position;
        if (ring_position_get(t, l->slot->gauge, l->slot->epoch, &position) &&
            position > l->applied) {
            ring_release(l->slot->up, &(struct ring_view){.next = position});
            l->applied = position;
        }
        l->stored = l->applied;
    }
    w->loading = t;
    if (w->scheduler != NULL)
        (void)lease_each(t, push_again, w);
    w->loading = NULL;
    store_end_read(t);
    return w->scheduler == NULL ? -1 : 0;
}

static int writer_open(struct writer *w, struct err *err)
{
    const struct timeval tick = {.tv_sec = 0, .tv_usec = CHILD_TICK_MS * 1000};

    w->retention = retention_create(w->me->config);
    w->links = mem_zero(w->me->slot_count, sizeof *w->links);
    w->store = store_open(w->me->config->state_dir, STORE_WRITE, err);
    if (w->store == NULL || take_over_backup(w, err) != 0 ||
        (w->me->config->queues.replication_topic[0] != '\0' && changes_start(w->store, err) != 0) ||
        writer_load(w, err) != 0)
        return -1;
    w->base = event_base_new();
    if (w->base == NULL)
        return err_sys(err, "event_base_new");
    w->doorbell = event_new(w->base, w->me->writer_bell.fd, EV_READ | EV_PERSIST, on_doorbell, w);
    w->tick = event_new(w->base, -1, EV_PERSIST, on_tick, w);
    w->again = event_new(w->base, -1, 0, on_doorbell, w);
    w->master = event_new(w->base, w->me->control_fd, EV_READ | EV_PERSIST, on_master, w);
    w->term = evsignal_new(w->base, SIGTERM, on_term, w);
    if (w->doorbell == NULL || w->tick == NULL || w->again == NULL || w->master == NULL ||
        w->term == NULL || event_add(w->doorbell, NULL) != 0 || event_add(w->tick, &tick) != 0 ||
        event_add(w->master, NULL) != 0 || event_add(w->term, NULL) != 0)
        return err_set(err, ERR_SYSTEM, "the writer's events cannot be set up");
    struct err why;
    w->control = control_open(w->me->config->state_dir, w->base, on_request, w, &why);
    if (w->control == NULL)
        log_err(&why, "postern's subcommands cannot reach this Postern; it works on");
    event_active(w->doorbell, EV_READ, 0); /* whatever waits already */
    return 0;
}

static void free_event(struct event *e)
{
    if (e != NULL)
        event_free(e);
}

static void writer_close(struct writer *w)
{
    free_event(w->doorbell);
    free_event(w->tick);
    free_event(w->again);
    free_event(w->master);
    free_event(w->term);
    control_close(w->control);
    if (w->base != NULL)
        event_base_free(w->base);
    scheduler_close(w->scheduler);
    retention_destroy(w->retention);
    store_close(w->store);
    for (size_t i = 0; w->links != NULL && i < w->me->slot_count; i++)
        buf_fini(&w->links[i].outbox);
    while (w->waiting != NULL) {
        struct waiting *gone = w->waiting;
        w->waiting = gone->next;
        free(gone);
    }
    free(w->links);
    buf_fini(&w->scratch);
    arena_fini(&w->arena);
}

enum child_exit writer_main(const struct child *me)
{
    struct writer w = {.me = me, .verdict = CHILD_EXIT_RETRY};
    struct err err;

    if (writer_open(&w, &err) == 0) {
        child_ready(me);
        (void)event_base_dispatch(w.base);
    } else {
        log_err(&err, "the writer cannot start");
    }
    writer_close(&w);
    return w.verdict;
}
