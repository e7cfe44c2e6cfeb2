#include "sender/outbox.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "aws/ses.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pack.h"
#include "sender/compiled.h"
#include "sender/cuts.h"
#include "sender/rate.h"
#include "shm/last_words.h"
#include "shm/record.h"

enum {
    TRANSIENT_BASE_MS = 100,
    THROTTLE_BASE_MS = 500,
    BACKOFF_CAP_MS = 20000,
    RESULT_TEXT_MAX = 500,
    BODY_KEPT_BYTES = 512 << 10,
    NS_PER_MS = 1000000,
    FLYING_BYTES_MAX =
        64 << 20, /* of newsletters' bodies at once: mails with large files queue here */
    SLOWEST_BYTES_PER_MS = 50, /* of a line that is still worth waiting for */
    BORROWED_MS = 250,         /* of the rate, beside one newsletter's call */
    BORROWED_AGAIN_MS = 250,   /* at the latest, a mail that overtook is tried again */
    COPIES_AGAIN_MS = 2000, /* until a copy that no mail of this lease carried is looked at again */
    SANDBOXED_AGAIN = 10,   /* × hold: until a recipient SES has not verified is tried again */
    COMPLAIN_EVERY_MS = 10000,
};

struct lease {
    struct lease *next;
    struct record_lease rec;
    uint64_t adopted_mono_ms;
    struct compiled *batch; /* NULL until loaded */
    struct arena arena;
    struct recipient *recipients;
    size_t recipient_count;
    uint64_t unstarted; /* bits */
    uint64_t apart;     /* of these: no entry of a bulk call can carry them */
    uint64_t along;     /* copies: booked once SES has taken a mail, which carries them */
    struct books books; /* of the batch, as they were when the lease was read */
    unsigned sends;     /* under way or waiting to be repeated */
    struct buf results; /* packed, not yet handed in */
    size_t result_count;
    uint64_t flush_mono_ms; /* of the oldest of them */
};

enum send_state { SEND_FREE, SEND_FLYING, SEND_WAITING };

struct send {
    struct outbox *outbox;
    enum send_state state;
    struct lease *lease;
    enum ses_way way;
    uint64_t bits;
    unsigned tries;
    bool stale;             /* the body is to be rendered anew: some of its entries are settled */
    bool borrowed;          /* went beyond the rate, as transactional mail may */
    uint64_t due_mono_ms;   /* WAITING */
    uint64_t began_mono_ms; /* FLYING */
    struct buf body;
};

struct outbox {
    const struct child *me;
    struct aws_client *client;
    struct event *wake;
    struct store *store; /* NULL until the writer has made it */
    struct compiled_cache *cache;
    struct ses_scratch scratch;
    struct buf record;
    struct lease *leases; /* in the order they came */
    size_t lease_count;
    struct send *sends;
    unsigned send_count, newsletter_max; /* places; those that newsletters may fill */
    unsigned newsletters;                /* filled by them now */
    size_t flying_bytes;                 /* of bodies under way */
    unsigned flying;                     /* calls under way */
    struct cuts *cuts;
    uint64_t complained_mono_ms;
    uint64_t wake_mono_ms; /* the earliest thing to wait for, found by the pump */
    uint64_t random;
    bool leaving, writer_is_behind, broken;
};

static void on_wake(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    outbox_pump(arg);
}

struct outbox *outbox_create(const struct child *me, struct event_base *base,
                             struct aws_client *client)
{
    struct outbox *o = mem_zero(1, sizeof *o);
    unsigned connections = me->config->sender.connections;

    o->me = me;
    o->client = client;
    o->cache = compiled_cache_create(me->config);
    o->cuts = cuts_create(me->config->sender.upload_window_ms);
    o->send_count = connections == 0 ? 1 : connections;
    o->newsletter_max = o->send_count < 4 ? o->send_count : o->send_count - (o->send_count + 7) / 8;
    o->sends = mem_zero(o->send_count, sizeof *o->sends);
    for (unsigned i = 0; i < o->send_count; i++)
        o->sends[i].outbox = o;
    digest_random(&o->random, sizeof o->random);
    o->random |= 1;
    o->wake = evtimer_new(base, on_wake, o);
    assert(o->wake != NULL);
    return o;
}

static void lease_free(struct outbox *o, struct lease *l)
{
    compiled_put(o->cache, l->batch);
    arena_fini(&l->arena);
    buf_fini(&l->results);
    free(l);
}

void outbox_destroy(struct outbox *o)
{
    if (o == NULL)
        return;
    for (struct lease *l = o->leases, *next; l != NULL; l = next) {
        next = l->next;
        lease_free(o, l);
    }
    for (unsigned i = 0; i < o->send_count; i++)
        buf_fini(&o->sends[i].body);
    free(o->sends);
    compiled_cache_destroy(o->cache);
    cuts_destroy(o->cuts);
    ses_scratch_fini(&o->scratch);
    buf_fini(&o->record);
    store_close(o->store);
    event_free(o->wake);
    free(o);
}

struct store *outbox_store(struct outbox *o, struct err *err)
{
    if (o->store == NULL)
        o->store = store_open(o->me->config->state_dir, STORE_READ, err);
    return o->store;
}

bool outbox_has_room(const struct outbox *o)
{
    return !o->leaving && !o->broken && !o->writer_is_behind && o->lease_count < OUTBOX_LEASES_MAX;
}

bool outbox_is_empty(const struct outbox *o)
{
    return o->lease_count == 0;
}

bool outbox_is_broken(const struct outbox *o)
{
    return o->broken;
}

void outbox_adopt(struct outbox *o, struct slice record)
{
    struct lease *l = mem_zero(1, sizeof *l), **end = &o->leases;

    if (!record_lease_decode(record, &l->rec) || l->rec.mask == 0 ||
        l->rec.mask >> LEASE_RECIPIENTS_MAX != 0 || l->rec.cell >= STARTED_CELLS) {
        log_warn("a lease that makes no sense is dropped");
        free(l);
        return;
    }
    /* A new writer pushes the leases of the living again, as it cannot know which arrived: one that
     * our marks show was taken up before, and may even be over. */
    uint64_t marks;
    if (l->rec.generation != o->me->generation ||
        started_read(o->me->started, o->me->index, l->rec.cell, l->rec.lease_id, &marks)) {
        free(l);
        return;
    }
    l->adopted_mono_ms = clock_mono_ms();
    l->unstarted = l->rec.mask;
    started_begin(o->me->started, o->me->index, l->rec.cell, l->rec.lease_id);
    while (*end != NULL)
        end = &(*end)->next;
    *end = l;
    o->lease_count++;
}

/* ---- results ---- */

static void report(struct lease *l, uint64_t bits, enum outcome outcome, unsigned code,
                   struct slice text, uint64_t retry_ms)
{
    if (l->result_count == 0)
        l->flush_mono_ms = clock_mono_ms() + OUTBOX_FLUSH_MS;
    text = slice_head(text, RESULT_TEXT_MAX);
    for (; bits != 0; bits &= bits - 1) {
        pack_array(&l->results, 5);
        pack_u64(&l->results, (uint64_t)__builtin_ctzll(bits));
        pack_u64(&l->results, outcome);
        pack_u64(&l->results, code);
        pack_str(&l->results, text);
        pack_u64(&l->results, retry_ms);
        l->result_count++;
    }
}

static void report_copies(struct lease *l, enum outcome outcome, struct slice text,
                          uint64_t retry_ms)
{
    report(l, l->along, outcome, outcome == OUTCOME_FAILED ? OUTBOX_CODE_REFUSED : 0, text,
           retry_ms);
    l->along = 0;
}

static bool is_over(const struct lease *l)
{
    return l->unstarted == 0 && l->sends == 0;
}

/* False when the writer's ring is full: to be tried again on a tick. */
static bool hand_in(struct outbox *o, struct lease *l)
{
    struct buf results = {0};

    pack_array(&results, l->result_count);
    buf_add_slice(&results, buf_slice(&l->results));
    struct record_outcomes r = {
        .generation = l->rec.generation,
        .lease_id = l->rec.lease_id,
        .batch_id = l->rec.batch_id,
        .slice = l->rec.slice,
        .results = buf_slice(&results),
        .finished = is_over(l),
    };
    buf_reset(&o->record);
    record_outcomes_encode(&o->record, &r);
    buf_fini(&results);
    switch (ring_push(o->me->slot->up, buf_slice(&o->record), NULL)) {
    case RING_OK:
        buf_reset(&l->results);
        l->result_count = 0;
        return true;
    case RING_FULL:
        child_note_ring_full(o->me);
        return false;
    case RING_EMPTY:
    case RING_TOO_LONG:
    case RING_BROKEN:
        break;
    }
    log_error("the ring to the writer cannot be used");
    o->broken = true;
    return false;
}

static void wake_at(struct outbox *o, uint64_t mono_ms)
{
    if (mono_ms < o->wake_mono_ms)
        o->wake_mono_ms = mono_ms;
}

/* Hands in what is complete, plenty or old enough. */
static void flush(struct outbox *o, uint64_t now)
{
    struct lease **at = &o->leases;
    bool pushed = false;

    o->writer_is_behind = false;
    while (*at != NULL && !o->broken) {
        struct lease *l = *at;
        bool over = is_over(l);
        if (over && l->along != 0)
            report_copies(l, OUTCOME_RETRY, slice_none(), COPIES_AGAIN_MS);
        if (!over && l->result_count > 0 && now < l->flush_mono_ms)
            wake_at(o, l->flush_mono_ms);
        if (over || (l->result_count > 0 && now >= l->flush_mono_ms)) {
            if (!hand_in(o, l)) {
                o->writer_is_behind = true;
                break;
            }
            pushed = true;
        }
        if (over) {
            *at = l->next;
            o->lease_count--;
            lease_free(o, l);
        } else {
            at = &l->next;
        }
    }
    if (pushed)
        bell_ring(&o->me->writer_bell);
}

/* ---- pauses ---- */

static uint64_t jitter(struct outbox *o, uint64_t base_ms, unsigned tries)
{
    uint64_t most = tries > 10 ? BACKOFF_CAP_MS : base_ms << tries;

    if (most > BACKOFF_CAP_MS)
        most = BACKOFF_CAP_MS;
    o->random ^= o->random << 13; /* xorshift64: spreads, hides nothing */
    o->random ^= o->random >> 7;
    o->random ^= o->random << 17;
    return 1 + o->random % most;
}

/* ---- sending ---- */

static void on_answer(void *arg, const struct aws_response *answer);

/* Recipients of SES that a call to these readers reaches: what the rate counts. */
static uint32_t cost_of(const struct lease *l, uint64_t bits)
{
    return (uint32_t)((size_t)__builtin_popcountll(bits) * (1 + ses_batch_copies(l->batch->mail)));
}

static const char *call_name(const struct send *s)
{
    return s->way == SES_BULK ? "SendBulkEmail" : "SendEmail";
}

/* Calls go on while others are begun: the last begun stands for all. */
static void note_doing(const struct outbox *o, const struct send *last)
{
    if (o->flying == 0)
        last_words_doing("%s", "");
    else
        last_words_doing("%u calls, of late %s batch %016" PRIx64 " recipients from %" PRIu32,
                         o->flying, call_name(last), last->lease->rec.batch_id,
                         last->lease->rec.slice * LEASE_RECIPIENTS_MAX);
}

static void fly(struct send *s)
{
    struct outbox *o = s->outbox;

    s->state = SEND_FLYING;
    s->began_mono_ms = clock_mono_ms();
    o->flying++;
    note_doing(o, s);
    o->flying_bytes += s->body.len;
    started_mark(o->me->started, o->me->index, s->lease->rec.cell, s->bits);
    aws_call(o->client, &(struct aws_request){
                            .service = AWS_SES,
                            .method = "POST",
                            .path = s->way == SES_BULK ? SES_PATH_BULK : SES_PATH_SEND,
                            .content_type = "application/json",
                            .body = buf_slice(&s->body),
                            .timeout_ms = AWS_TIMEOUT_MS + s->body.len / SLOWEST_BYTES_PER_MS,
                            .done = on_answer,
                            .arg = s,
                        });
}

static void release(struct send *s)
{
    struct outbox *o = s->outbox;

    if (s->lease->rec.lane == LANE_NEWSLETTER)
        o->newsletters--;
    s->lease->sends--;
    s->lease = NULL;
    s->state = SEND_FREE;
    if (s->body.cap > BODY_KEPT_BYTES)
        buf_fini(&s->body);
}

/* What became of some of the call's recipients. */
static void settle_some(struct send *s, uint64_t bits, enum outcome outcome, unsigned code,
                        struct slice text, uint64_t retry_ms)
{
    struct gauges *g = s->outbox->me->gauges;
    uint64_t n = (uint64_t)__builtin_popcountll(bits);

    report(s->lease, bits, outcome, code, text, retry_ms);
    if (outcome == OUTCOME_SENT) {
        atomic_fetch_add(&g->sent_count, n);
        report_copies(s->lease, OUTCOME_SENT, slice_none(), 0);
    }
    atomic_fetch_add(&g->slots[s->outbox->me->gauge].done, n);
    s->bits &= ~bits;
}

static void settle(struct send *s, enum outcome outcome, unsigned code, struct slice text,
                   uint64_t retry_ms)
{
    settle_some(s, s->bits, outcome, code, text, retry_ms);
    release(s);
}

static bool complain_now(struct outbox *o, uint64_t now)
{
    if (o->complained_mono_ms != 0 && now - o->complained_mono_ms < COMPLAIN_EVERY_MS)
        return false;
    o->complained_mono_ms = now;
    return true;
}

static struct slice words_of(struct send *s, const struct aws_response *answer)
{
    return arena_printf(&s->lease->arena, "%.*s%s%.*s", SLICE_ARGS(answer->error_code),
                        answer->error_code.len > 0 ? ": " : "", SLICE_ARGS(answer->error_text));
}

/* An overtaking mail found SES's second full of newsletters: the next of these waits for about one
 * call longer, and the mail finds its gap. */
static void make_room(struct outbox *o, const struct send *s, uint64_t bits)
{
    uint32_t call = atomic_load(&o->me->gauges->entries_max), own = cost_of(s->lease, bits);

    bucket_charge(&o->me->gauges->bucket, call + own, clock_mono_ns());
}

static bool is_within_name(uint8_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           c >= 0x80 || c == '@' || c == '-' || c == '_' || c == '+';
}

/* Does this address or domain stand in the words, not as part of a longer one? */
static bool names(struct slice words, struct slice name)
{
    size_t at;

    for (; name.len > 0 && (at = slice_find_nocase(words, name)) != SIZE_MAX;
         words = slice_from(words, at + 1)) {
        struct slice after = slice_from(words, at + name.len);
        bool begins = at == 0 || (!is_within_name(words.ptr[at - 1]) && words.ptr[at - 1] != '.');
        bool goes_on = after.len > 0 &&
                       (is_within_name(after.ptr[0]) ||
                        (after.ptr[0] == '.' && after.len > 1 && is_within_name(after.ptr[1])));
        if (begins && !goes_on)
            return true;
    }
    return false;
}

/* Whom of the call's readers SES's words name as not verified; all of them, when they share a mail
 * with one who is, or a copy goes to one. So SES says while an account is in its sandbox, and it
 * says nothing of the sender, who would be named too. SOURCE spec/aws.md §4. */
static uint64_t not_verified(const struct send *s, uint64_t bits, struct slice words)
{
    const struct compiled *batch = s->lease->batch;
    size_t at = slice_rfind_byte(batch->from_address, '@');
    uint64_t named = 0;

    if (slice_find_nocase(words, SLICE("not verified")) == SIZE_MAX ||
        names(words, batch->from_address) ||
        (at != SIZE_MAX && names(words, slice_from(batch->from_address, at + 1))))
        return 0;
    for (size_t i = 0; batch->content.batch_mode && i < batch->setup.other_count; i++)
        if (names(words, batch->setup.others[i].address))
            return bits;
    for (uint64_t left = bits; left != 0; left &= left - 1)
        if (names(words, s->lease->recipients[__builtin_ctzll(left)].address))
            named |= left & -left;
    return named != 0 && !batch->content.batch_mode ? bits : named;
}

static bool is_of_lane(const struct lease *l, enum lane lane)
{
    return (l->rec.lane == LANE_TRANSACTIONAL) == (lane == LANE_TRANSACTIONAL);
}

/* Does what holds the one lease hold the other, too? */
static bool is_alike(const struct lease *a, const struct lease *b, enum hold_reason reason)
{
    bool same_lane =
        is_of_lane(b, a->rec.lane == LANE_TRANSACTIONAL ? LANE_TRANSACTIONAL : LANE_NEWSLETTER) &&
        slice_eq(a->batch->head.domain, b->batch->head.domain);

    switch (reason) {
    case HOLD_QUOTA:
    case HOLD_ACCOUNT:
        return true;
    case HOLD_SENDER:
        return same_lane && slice_eq(a->batch->from_address, b->batch->from_address);
    case HOLD_CONFIGURATION_SET:
        return same_lane;
    }
    return false;
}

static bool load(struct outbox *o, struct lease *l, uint64_t now);

/* SES would say the same to all of this sender's mail, lane or account: what of it is here and not
 * under way goes back to the writer, which holds it (store/holds.h). */
static void give_back_alike(struct outbox *o, const struct lease *refused, enum hold_reason reason,
                            struct slice words, uint64_t now)
{
    for (unsigned i = 0; i < o->send_count; i++) {
        struct send *s = &o->sends[i];
        if (s->state == SEND_WAITING && is_alike(refused, s->lease, reason))
            settle(s, OUTCOME_HELD, reason, words, 0);
    }
    for (struct lease *l = o->leases; l != NULL; l = l->next)
        if (l->unstarted != 0 && load(o, l, now) && is_alike(refused, l, reason)) {
            report(l, l->unstarted, OUTCOME_HELD, reason, words, 0);
            l->unstarted = 0;
        }
}

/* What is held by such an answer. The set that a batch has for itself says nothing of its lane. */
static enum hold_reason reason_of(enum aws_reaction reaction, const struct lease *l)
{
    return reaction == AWS_QUOTA          ? HOLD_QUOTA
           : reaction == AWS_HOLD_ACCOUNT ? HOLD_ACCOUNT
           : reaction == AWS_HOLD_CONFIGURATION_SET && l->batch->is_of_lane_set
               ? HOLD_CONFIGURATION_SET
               : HOLD_SENDER;
}

/* The connection ended in the middle of the body: its readers are tried again, but not for ever.
 * Returns true when they are settled. */
static bool judge_cut(struct send *s, uint64_t bits, struct slice words, uint64_t now)
{
    struct outbox *o = s->outbox;
    struct gauges *g = o->me->gauges;
    uint64_t answers = atomic_load(&g->sent_count) + atomic_load(&g->throttled_count) +
                       atomic_load(&g->account_read_wall_ms);
    struct cuts_tally tally = cuts_note(o->cuts, s->lease->rec.batch_id, s->body.len, answers, now);

    if (tally.is_over) {
        struct slice why = arena_printf(
            &s->lease->arena,
            "The upload of %zu bytes broke off %u times in %" PRIu64 " s, while SES answered other "
            "calls: %.*s",
            s->body.len, tally.cuts, (now - tally.first_mono_ms) / 1000, SLICE_ARGS(words));
        settle_some(s, bits, OUTCOME_FAILED, OUTBOX_CODE_REFUSED, why, 0);
    } else if (s->tries + 1 >= OUTBOX_TRANSIENT_TRIES) {
        settle_some(s, bits, OUTCOME_RETRY, 0, words,
                    cuts_pause_ms(o->cuts, &tally, OUTBOX_AFTER_TRIES_MS, now));
    } else {
        return false;
    }
    return true;
}

/* What SES said of some of the call's recipients, or of all of them. Those that are to be tried
 * again from here stay in s->bits, and *wait_base_ms is raised to the wait that is due before. */
static void judge(struct send *s, uint64_t bits, enum aws_reaction reaction, struct slice words,
                  uint64_t now, uint64_t *wait_base_ms)
{
    struct outbox *o = s->outbox;
    uint64_t base_ms = TRANSIENT_BASE_MS, unverified;
    enum hold_reason reason;

    switch (reaction) {
    case AWS_OK:
        settle_some(s, bits, OUTCOME_SENT, 0, words, 0);
        return;
    case AWS_THROTTLED:
        if (s->borrowed) {
            make_room(o, s, bits);
        } else {
            base_ms = THROTTLE_BASE_MS;
            atomic_fetch_add(&o->me->gauges->throttled_count, (uint64_t)__builtin_popcountll(bits));
        }
        break;
    case AWS_CUT_OFF:
        if (judge_cut(s, bits, words, now))
            return;
        break;
    case AWS_TRANSIENT:
        if (s->tries + 1 >= OUTBOX_TRANSIENT_TRIES) {
            settle_some(s, bits, OUTCOME_RETRY, 0, words, OUTBOX_AFTER_TRIES_MS);
            return;
        }
        break;
    case AWS_HOLD_SENDER:
        unverified = not_verified(s, bits, words);
        if (unverified != 0) {
            if (complain_now(o, now))
                log_warn("the account is in SES's sandbox and takes mail to verified addresses "
                         "only (%.*s): others are kept; ask AWS for production access",
                         SLICE_ARGS(words));
            settle_some(s, unverified, OUTCOME_RETRY, 0, words,
                        o->me->config->sender.hold_ms * SANDBOXED_AGAIN);
            if (unverified == bits)
                return;
            bits &= ~unverified; /* of one bulk call: these go again without them */
            s->stale = true;
            break;
        }
        /* fall through */
    case AWS_QUOTA:
    case AWS_HOLD_ACCOUNT:
    case AWS_HOLD_CONFIGURATION_SET:
        reason = reason_of(reaction, s->lease);
        settle_some(s, bits, OUTCOME_HELD, reason, words, 0);
        give_back_alike(o, s->lease, reason, words, now);
        return;
    case AWS_PERMANENT:
        settle_some(s, bits, OUTCOME_FAILED, OUTBOX_CODE_REFUSED, words, 0);
        return;
    case AWS_IN_DOUBT:
        settle_some(s, bits, OUTCOME_DOUBT, 0, words, 0);
        return;
    }
    if (o->leaving)
        settle_some(s, bits, OUTCOME_RETRY, 0, words, 0);
    else if (base_ms > *wait_base_ms)
        *wait_base_ms = base_ms;
}

/* What SES said of a mail, or of a call: its code, and whom it is about, where it is one. */
static void say_refusal(const struct send *s, uint64_t bits, enum aws_reaction reaction,
                        struct slice words)
{
    static const char *const names[] = {
        [AWS_OK] = "taken",
        [AWS_THROTTLED] = "refused for the rate",
        [AWS_QUOTA] = "refused for the quota",
        [AWS_TRANSIENT] = "failed for now",
        [AWS_CUT_OFF] = "broken off",
        [AWS_HOLD_SENDER] = "refused of this sender",
        [AWS_HOLD_ACCOUNT] = "refused of this account",
        [AWS_HOLD_CONFIGURATION_SET] = "refused for the configuration set",
        [AWS_PERMANENT] = "refused",
        [AWS_IN_DOUBT] = "in doubt",
    };
    const struct lease *l = s->lease;
    bool matters = reaction == AWS_PERMANENT || reaction == AWS_IN_DOUBT;
    unsigned count = (unsigned)__builtin_popcountll(bits);
    const struct log_field fields[] = {
        LOG_NUMBER("recipients", count),
        LOG_TEXT("recipient",
                 count == 1 ? l->recipients[__builtin_ctzll(bits)].address : slice_none()),
        LOG_TEXT("words", words)};

    if (reaction != AWS_OK)
        log_fields(matters ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG, fields, 3,
                   "%s of batch %016" PRIx64 " is %s", call_name(s), l->rec.batch_id,
                   names[reaction]);
}

/* Each entry of a bulk call has an answer of its own. */
static void judge_entries(struct send *s, struct slice body, uint64_t now, uint64_t *wait_base_ms)
{
    uint64_t all = s->bits;
    size_t count = (size_t)__builtin_popcountll(all), at = 0;
    struct ses_entry *entries;
    struct arena arena = {0};

    if (ses_bulk_results(body, count, &arena, &entries)) {
        for (uint64_t left = all; left != 0; left &= left - 1, at++) {
            const struct ses_entry *e = &entries[at];
            say_refusal(s, left & -left, e->reaction, e->words);
            judge(s, left & -left, e->reaction, e->reaction == AWS_OK ? e->message_id : e->words,
                  now, wait_base_ms);
        }
    } else {
        settle_some(s, all, OUTCOME_DOUBT, 0,
                    SLICE("SendBulkEmail's answer does not match its entries"), 0);
    }
    s->stale = s->bits != all;
    arena_fini(&arena);
}

static void say_call(const struct send *s, const struct aws_response *answer, uint64_t now)
{
    const struct log_field fields[] = {
        LOG_NUMBER("recipients", (uint64_t)__builtin_popcountll(s->bits)),
        LOG_NUMBER("status", (uint64_t)answer->status), LOG_NUMBER("ms", now - s->began_mono_ms),
        LOG_TEXT("aws_request", answer->request_id)};

    log_fields(LOG_LEVEL_DEBUG, fields, 4, "%s of batch %016" PRIx64 " is answered", call_name(s),
               s->lease->rec.batch_id);
}

static void react(struct send *s, const struct aws_response *answer)
{
    struct outbox *o = s->outbox;
    uint64_t now = clock_mono_ms(), wait_base_ms = 0;
    enum aws_reaction reaction = aws_send_reaction(answer);

    say_call(s, answer, now);
    child_note_latency(o->me, LATENCY_CALL, (now - s->began_mono_ms) * 1000);
    child_note_latency(o->me, LATENCY_LEASE, (now - s->lease->adopted_mono_ms) * 1000);
    if (reaction != AWS_OK) {
        say_refusal(s, s->bits, reaction, words_of(s, answer));
        judge(s, s->bits, reaction, words_of(s, answer), now, &wait_base_ms);
    } else if (s->way == SES_BULK) {
        judge_entries(s, answer->body, now, &wait_base_ms);
    } else {
        struct buf *id = &o->scratch.text;
        buf_reset(id);
        if (!ses_message_id(answer->body, id))
            log_warn("SES took a mail without giving its message id (request %.*s)",
                     SLICE_ARGS(answer->request_id));
        judge(s, s->bits, AWS_OK, buf_slice(id), now, &wait_base_ms);
    }
    if (answer->fate == AWS_ANSWERED || answer->fate == AWS_UNKNOWN)
        cuts_note_through(o->cuts, s->lease->rec.batch_id, s->body.len);
    o->flying_bytes -= s->body.len;
    if (s->bits == 0) {
        release(s);
    } else {
        uint64_t wait_ms = jitter(o, wait_base_ms, s->tries++);
        s->state = SEND_WAITING;
        s->due_mono_ms =
            now + (s->borrowed && wait_ms > BORROWED_AGAIN_MS ? BORROWED_AGAIN_MS : wait_ms);
    }
}

static void on_answer(void *arg, const struct aws_response *answer)
{
    struct send *s = arg;
    struct outbox *o = s->outbox;

    o->flying--;
    log_request(s->lease->batch->head.request_id);
    react(s, answer);
    log_request(slice_none());
    if (o->flying == 0)
        note_doing(o, NULL);
    outbox_pump(o);
}

static int read_lease(struct outbox *o, struct lease *l, struct store_txn *t, struct err *err)
{
    struct slice packed;

    l->batch = compiled_get(o->cache, t, l->rec.batch_id, err);
    if (l->batch == NULL)
        return -1;
    (void)batch_books(t, l->rec.batch_id, &l->books); /* absent: none is sent */
    if (!batch_recipients(t, l->rec.batch_id, l->rec.slice, &packed) ||
        !recipients_unpack(arena_dup(&l->arena, packed), &l->arena, &l->recipients,
                           &l->recipient_count) ||
        l->rec.mask >> l->recipient_count != 0) {
        compiled_put(o->cache, l->batch);
        l->batch = NULL;
        return err_set(err, ERR_INPUT,
                       "recipients %" PRIu32 " of batch %016" PRIx64
                       " cannot be read from the store",
                       l->rec.slice, l->rec.batch_id);
    }
    return 0;
}

/* A lease of copies alone: whether a mail has carried them is in the batch's books. */
static void settle_copies(struct lease *l)
{
    const uint32_t *state = l->books.state;
    uint32_t open = state[STATE_PENDING] + state[STATE_LEASED] + state[STATE_DOUBT];

    if (state[STATE_SENT] > 0)
        report_copies(l, OUTCOME_SENT, slice_none(), 0);
    else if (open <= ses_batch_copies(l->batch->mail)) /* no reader is left */
        report_copies(l, OUTCOME_FAILED,
                      SLICE("None of the mails that would have carried this copy could be sent"),
                      0);
}

/* Settles those that need no call: an address that SES cannot take must not cost the others of its
 * call theirs, and in batch mode cc and bcc go along with each mail. */
static void sift(struct outbox *o, struct lease *l)
{
    bool copies = ses_batch_copies(l->batch->mail) > 0;

    for (uint64_t left = l->unstarted; left != 0; left &= left - 1) {
        const struct recipient *r = &l->recipients[__builtin_ctzll(left)];
        struct err err;
        if (!ses_recipient_fits(r, &o->scratch, &err)) {
            report(l, left & -left, OUTCOME_FAILED, OUTBOX_CODE_REFUSED, slice_str(err.text), 0);
            l->unstarted &= ~(left & -left);
        } else if (copies && r->kind != RECIPIENT_TO) {
            l->along |= left & -left;
        }
    }
    l->unstarted &= ~l->along;
    if (l->unstarted == 0 && l->along != 0)
        settle_copies(l);
}

/* False when the lease cannot be worked on now. What can never be read is failed here. */
static bool load(struct outbox *o, struct lease *l, uint64_t now)
{
    struct err err = {0};
    struct store_txn *t = NULL;

    if (l->batch != NULL)
        return true;
    if (outbox_store(o, &err) != NULL)
        t = store_begin_read(o->store, &err);
    if (t == NULL) {
        if (complain_now(o, now))
            log_err(&err, "cannot read the store, trying again");
        return false;
    }
    int rc = read_lease(o, l, t, &err);
    store_end_read(t);
    if (rc == 0) {
        sift(o, l);
        return true;
    }
    log_err(&err, "a lease cannot be sent");
    report(l, l->unstarted, OUTCOME_FAILED, OUTBOX_CODE_REFUSED, slice_str(err.text), 0);
    l->unstarted = 0;
    return false;
}

/* True: the tokens are ours; else the pump is woken when they may be there. Transactional mail may
 * borrow: it does not wait for a newsletter's call just made, nor for a few of its own kind. */
static bool take_tokens(struct outbox *o, uint32_t n, bool may_borrow, bool *borrowed, uint64_t now)
{
    struct gauges *g = o->me->gauges;
    struct gauge_bucket *b = &g->bucket;
    uint64_t slack_ns = (uint64_t)RATE_SLACK_MS * NS_PER_MS, now_ns = clock_mono_ns();

    *borrowed = false;
    uint64_t wait_ns = bucket_take(b, n, slack_ns, now_ns);
    if (wait_ns == 0)
        return true;
    if (may_borrow && atomic_load(&b->per_s_milli) != 0) {
        slack_ns += bucket_cost_ns(b, atomic_load(&g->entries_max)) + BORROWED_MS * NS_PER_MS;
        wait_ns = bucket_take(b, n, slack_ns, now_ns);
        *borrowed = wait_ns == 0;
    }
    if (wait_ns == 0)
        return true;
    uint64_t wait_ms = wait_ns / NS_PER_MS;
    wake_at(o, now + 1 + (wait_ms < CHILD_TICK_MS ? wait_ms : CHILD_TICK_MS));
    return false;
}

static struct send *free_place(struct outbox *o, uint32_t lane)
{
    if (lane == LANE_NEWSLETTER &&
        (o->newsletters >= o->newsletter_max || o->flying_bytes >= FLYING_BYTES_MAX))
        return NULL;
    for (unsigned i = 0; i < o->send_count; i++)
        if (o->sends[i].state == SEND_FREE)
            return &o->sends[i];
    return NULL;
}

/* The next call for this lease: which of its recipients, and how. */
static uint64_t next_bits(const struct outbox *o, const struct lease *l, enum ses_way *way)
{
    uint64_t together = l->unstarted & ~l->apart, lowest = 0;
    /* Copies go along with each entry and count as much. */
    size_t most = atomic_load(&o->me->gauges->entries_max) / (1 + ses_batch_copies(l->batch->mail));

    *way = ses_batch_way(l->batch->mail);
    if (!l->batch->content.batch_mode)
        return l->unstarted;
    if (*way != SES_BULK)
        return l->unstarted & -l->unstarted;
    if (together == 0) {
        *way = SES_SIMPLE;
        return l->unstarted & -l->unstarted;
    }
    for (size_t n = 0; together != 0 && n < (most == 0 ? 1 : most); n++) {
        lowest |= together & -together;
        together &= together - 1;
    }
    return lowest;
}

/* Renders the call's body. False when nothing is to be sent: all is reported, or noted as apart. */
static bool render(struct outbox *o, struct send *s, struct lease *l)
{
    const struct ses_batch *mail = l->batch->mail;
    uint32_t first = l->rec.slice * LEASE_RECIPIENTS_MAX;
    struct err err = {0};

    buf_reset(&s->body);
    if (s->way == SES_BULK) {
        uint64_t apart = 0,
                 in = ses_render_bulk(mail, l->recipients, l->recipient_count, s->bits,
                                      LEASE_RECIPIENTS_MAX, first, &o->scratch, &s->body, &apart);
        l->apart |= apart;
        l->unstarted |= s->bits & ~in;
        s->bits = in;
        return in != 0;
    }
    enum ses_fit fit = ses_render_one(mail, s->way, l->recipients, l->recipient_count, s->bits,
                                      first, &o->scratch, &s->body, &err);
    if (fit == SES_NEEDS_RAW) {
        s->way = SES_RAW;
        buf_reset(&s->body);
        fit = ses_render_one(mail, s->way, l->recipients, l->recipient_count, s->bits, first,
                             &o->scratch, &s->body, &err);
    }
    if (fit == SES_FITS)
        return true;
    report(l, s->bits, OUTCOME_FAILED, OUTBOX_CODE_REFUSED, slice_str(err.text), 0);
    return false;
}

/* The first rendering of these recipients: what stayed without a value is counted here, once. */
static bool render_first(struct outbox *o, struct send *s, struct lease *l)
{
    o->scratch.unresolved = 0;
    bool any = render(o, s, l);
    if (o->scratch.unresolved > 0)
        atomic_fetch_add(&o->me->gauges->unresolved_count, o->scratch.unresolved);
    return any;
}

static void start(struct outbox *o, struct send *s, struct lease *l, uint64_t bits,
                  enum ses_way way, bool borrowed)
{
    uint32_t taken = cost_of(l, bits);

    l->unstarted &= ~bits;
    s->bits = bits;
    s->way = way;
    bool any = render_first(o, s, l);
    uint32_t used = any ? cost_of(l, s->bits) : 0;
    if (used < taken)
        bucket_give(&o->me->gauges->bucket, taken - used);
    if (!any)
        return;
    s->lease = l;
    s->tries = 0;
    s->stale = false;
    s->borrowed = borrowed;
    l->sends++;
    if (l->rec.lane == LANE_NEWSLETTER)
        o->newsletters++;
    fly(s);
}

/* Again, with what is left of it. */
static void start_again(struct outbox *o, struct send *s)
{
    if (s->stale && !render(o, s, s->lease))
        release(s);
    else
        fly(s);
    s->stale = false;
}

static void give_back(struct lease *l)
{
    report(l, l->unstarted | l->along, OUTCOME_RETRY, 0, (struct slice){0}, 0);
    l->unstarted = l->along = 0;
}

/* The buffer queue may give these to another machine: nothing of them is begun from here on. */
static void give_back_unheld(struct outbox *o, uint64_t now)
{
    for (unsigned i = 0; i < o->send_count; i++) {
        struct send *s = &o->sends[i];
        if (s->state == SEND_WAITING && s->lease->rec.until_mono_ms != 0 &&
            s->lease->rec.until_mono_ms <= now)
            settle(s, OUTCOME_RETRY, 0, slice_none(), 0);
    }
    for (struct lease *l = o->leases; l != NULL; l = l->next)
        if (l->rec.until_mono_ms != 0 && l->rec.until_mono_ms <= now && l->unstarted != 0)
            give_back(l);
}

/* False when the rate allows no more now: then nothing of a later lane may overtake. */
static bool repeat_due(struct outbox *o, enum lane lane, uint64_t now)
{
    for (unsigned i = 0; i < o->send_count; i++) {
        struct send *s = &o->sends[i];
        if (s->state != SEND_WAITING || !is_of_lane(s->lease, lane))
            continue;
        if (s->due_mono_ms > now)
            wake_at(o, s->due_mono_ms);
        else if (take_tokens(o, cost_of(s->lease, s->bits), lane == LANE_TRANSACTIONAL,
                             &s->borrowed, now))
            start_again(o, s);
        else
            return false;
    }
    return true;
}

static bool start_new(struct outbox *o, enum lane lane, uint64_t now)
{
    for (struct lease *l = o->leases; l != NULL; l = l->next) {
        if (!is_of_lane(l, lane) || l->unstarted == 0 || !load(o, l, now))
            continue;
        while (l->unstarted != 0) {
            enum ses_way way;
            uint64_t bits = next_bits(o, l, &way);
            struct send *s = free_place(o, l->rec.lane);
            bool borrowed;
            if (s == NULL)
                return true;
            if (!take_tokens(o, cost_of(l, bits), lane == LANE_TRANSACTIONAL, &borrowed, now))
                return false;
            start(o, s, l, bits, way, borrowed);
        }
    }
    return true;
}

void outbox_pump(struct outbox *o)
{
    static const enum lane lanes[] = {LANE_TRANSACTIONAL, LANE_NEWSLETTER};
    uint64_t now = clock_mono_ms();

    o->wake_mono_ms = UINT64_MAX;
    give_back_unheld(o, now);
    /* Without credentials nothing is begun: what is not begun is in no doubt when we die. The tick
     * looks again. */
    for (size_t i = 0; i < 2 && !o->leaving && aws_can_sign(o->client); i++)
        if (!repeat_due(o, lanes[i], now) || !start_new(o, lanes[i], now))
            break;
    flush(o, now);
    if (o->wake_mono_ms == UINT64_MAX) {
        evtimer_del(o->wake);
        return;
    }
    uint64_t ms = o->wake_mono_ms > now ? o->wake_mono_ms - now : 1;
    const struct timeval pause = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000)};
    evtimer_add(o->wake, &pause);
}

void outbox_leave(struct outbox *o)
{
    o->leaving = true;
    for (unsigned i = 0; i < o->send_count; i++)
        if (o->sends[i].state == SEND_WAITING)
            settle(&o->sends[i], OUTCOME_RETRY, 0, (struct slice){0}, 0);
    for (struct lease *l = o->leases; l != NULL; l = l->next)
        if (l->unstarted != 0)
            give_back(l);
    outbox_pump(o);
}
