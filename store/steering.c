/*
 * store/steering.c - what people ask of the scheduler: pause, resume, cancel, resend, and what it
 * is doing.
 */
#include <inttypes.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "mail/date.h"
#include "mail/form.h"
#include "shm/notice.h"
#include "store/deadletters.h"
#include "store/events.h"
#include "store/internal.h"
#include "store/runs.h"
#include "store/scheduler.h"
#include "store/versions.h"
#include "store/webhooks.h"

enum {
    GATES_SHOWN = 64,
    BATCHES_SHOWN = 200, /* an answer is one packet */
    SUBJECT_BYTES = 120,
    BY_BYTES = 400,
    FEEDS_SHOWN = 64,
    UNREAD_MOST = 20000, /* events counted for each domain: some ms */
};

static uint32_t open_count(const struct run *run)
{
    return run->books.state[STATE_PENDING] + run->books.state[STATE_LEASED] +
           run->books.state[STATE_DOUBT];
}

/* -------- what other machines are to do, too -------- */

static struct key newsletter_key(uint32_t domain, enum version_kind kind, struct slice email_id)
{
    struct key k = version_key(domain, kind);

    key_hash_nocase(&k, email_id);
    return k;
}

/* Notes when a domain or one of its newsletters was steered: 1, 0 when something later is known of
 * it, -1. */
static int note_steering(struct store_txn *t, const struct record_change *r,
                         const struct version *v, struct err *err)
{
    uint32_t domain = store_domain_intern(t, r->domain, err);
    bool is_cancel = r->verb == CONTROL_CANCEL;

    if (domain == 0)
        return -1;
    struct key k =
        r->email_id.len > 0
            ? newsletter_key(domain,
                             is_cancel ? VERSION_NEWSLETTER_CANCEL : VERSION_NEWSLETTER_PAUSE,
                             r->email_id)
            : version_key(domain, is_cancel ? VERSION_DOMAIN_CANCEL : VERSION_DOMAIN_PAUSE);
    return version_raise(t, &k, v, is_cancel ? r->all_lanes : r->verb == CONTROL_PAUSE, err);
}

/* It has been done here. */
static int tell_steering(struct store_txn *t, struct record_change *r, struct version *v,
                         struct err *err)
{
    if (change_stamp(t, v, err) != 0 || note_steering(t, r, v, err) < 0)
        return -1;
    r->what = CHANGE_STEERED;
    r->stamp_us = v->stamp_us;
    return change_tell(t, r, err);
}

/* -------- batches -------- */

/* Moves one recipient on: 1, or 0 when it stays, or -1. w->recipient_count is 0 when the stored
 * recipients cannot be read. */
typedef int changer(struct scheduler *s, struct store_txn *t, struct slice_work *w, uint32_t bit,
                    struct err *err);

/* All recipients in one state; *count is how many moved. */
static int change_all(struct scheduler *s, struct store_txn *t, struct run *run,
                      enum recipient_state from, changer *change, uint32_t *count, struct err *err)
{
    struct slice_work w = {.run = run};

    for (w.slice = 0; w.slice < run->slice_count && run->books.state[from] > 0; w.slice++) {
        uint32_t before = *count;
        if (!states_get(t, run->id, w.slice, w.states, &w.state_count))
            continue;
        if (!work_read(s, t, &w))
            w.recipient_count = 0;
        for (uint32_t bit = 0; bit < w.state_count; bit++) {
            if (w.states[bit] != from)
                continue;
            int got = change(s, t, &w, bit, err);
            if (got < 0)
                return -1;
            *count += (uint32_t)got;
        }
        if (*count != before && states_put(t, run->id, w.slice, w.states, w.state_count, err) != 0)
            return -1;
    }
    return 0;
}

static int mark(struct scheduler *s, struct store_txn *t, struct run *run, enum batch_mark to,
                struct err *err)
{
    run->mark = to;
    run_place(s, run);
    return batch_mark_put(t, run->id, to, err);
}

static int cancel_one(struct scheduler *s, struct store_txn *t, struct slice_work *w, uint32_t bit,
                      struct err *err)
{
    change_state(s, w, bit, STATE_CANCELLED);
    return w->recipient_count > 0 && work_release_claim(t, w, bit, err) != 0 ? -1 : 1;
}

/* What SES may have stays as it is until it is known; the mark keeps it from being sent again. */
static int cancel(struct scheduler *s, struct store_txn *t, struct run *run, uint32_t *count,
                  struct err *err)
{
    if (mark(s, t, run, run_is_settled(run) ? run->mark : MARK_CANCELLED, err) != 0)
        return -1;
    return change_all(s, t, run, STATE_PENDING, cancel_one, count, err);
}

/* A person has mended what the batch waits for, or wants to see: its recipients go as soon as SES
 * takes them. */
static void try_now(struct scheduler *s, struct run *run)
{
    (void)run_hurry(s, run);
    (void)holds_try_now(s, run->domain, run->from_id);
}

/* Its claim was given back when it failed: a repeated POST may have taken it over since. */
static int resend_one(struct scheduler *s, struct store_txn *t, struct slice_work *w, uint32_t bit,
                      struct err *err)
{
    struct buf claim = {0};
    uint64_t owner;
    int got = 1;

    if (w->recipient_count == 0)
        return 0;
    struct submission one = {
        .head = w->head, .recipients = &w->recipients[bit], .recipient_count = 1};
    submission_claims(&one, &claim);
    if (claim.len == CLAIM_BYTES) {
        if (claim_get(t, claim.ptr, &owner) && owner != w->run->id)
            got = 0;
        else if (claim_put(t, claim.ptr, w->run->id, err) != 0)
            got = -1;
    }
    buf_fini(&claim);
    if (got == 1)
        change_state(s, w, bit, STATE_PENDING);
    return got;
}

static int resend(struct scheduler *s, struct store_txn *t, struct run *run, uint32_t *count,
                  struct err *err)
{
    if (change_all(s, t, run, STATE_FAILED, resend_one, count, err) != 0)
        return -1;
    run->cursor = 0;
    try_now(s, run);
    if (*count == 0 || run->active)
        return 0;
    run_activate(s, run, clock_wall_ms(), run->lane);
    return due_put(t, run->due_wall_ms, run->id, run->lane, err);
}

/* -------- newsletters -------- */

/* In the scheduler's arena. */
static bool read_head(struct scheduler *s, struct store_txn *t, const struct run *run,
                      struct message_head *head)
{
    struct slice packed;

    arena_reset(&s->arena);
    return batch_head(t, run->id, &packed) && message_head_unpack(packed, &s->arena, head);
}

static int steer_run(struct scheduler *s, struct store_txn *t, struct run *run, uint32_t verb,
                     struct err *err)
{
    uint32_t count = 0;

    if (run_is_settled(run) || run->mark == MARK_CANCELLED)
        return 0;
    if (verb == CONTROL_CANCEL)
        return cancel(s, t, run, &count, err);
    if (verb == CONTROL_PAUSE)
        return mark(s, t, run, MARK_PAUSED, err);
    if (run->mark != MARK_PAUSED)
        return 0;
    try_now(s, run);
    return mark(s, t, run, MARK_NONE, err);
}

/* What is accepted later is meant to go. */
static bool is_meant(const struct message_head *head, uint32_t verb, const struct version *v)
{
    return verb != CONTROL_CANCEL || head->accepted_wall_us < v->stamp_us;
}

/* All batches here of a newsletter, or of the domain where r names none. */
static int steer_runs(struct scheduler *s, struct store_txn *t, const struct record_change *r,
                      const struct version *v, struct err *err)
{
    struct message_head head;

    for (size_t i = 0; i < s->active_count; i++) {
        struct run *run = s->active[i];
        if (!slice_eq(s->domains[run->domain].name, r->domain) ||
            (run->lane != LANE_NEWSLETTER && !r->all_lanes) || !read_head(s, t, run, &head) ||
            (r->email_id.len > 0 && !slice_eq_nocase(head.email_id, r->email_id)) ||
            !is_meant(&head, r->verb, v))
            continue;
        if (steer_run(s, t, run, r->verb, err) != 0)
            return -1;
    }
    return 0;
}

/* What was asked for one batch of a newsletter holds for all of it, wherever its parts are. */
static int share_batch(struct scheduler *s, struct store_txn *t, const struct run *run,
                       uint32_t verb, struct err *err)
{
    struct buf email_id = {0};
    struct message_head head;
    struct version v;
    int rc = 0;

    if (!changes_are_told(t) || run->lane != LANE_NEWSLETTER || !read_head(s, t, run, &head) ||
        head.email_id.len == 0)
        return 0;
    buf_add_slice(&email_id, head.email_id); /* the arena is used again */
    struct record_change r = {
        .domain = s->domains[run->domain].name, .verb = verb, .email_id = buf_slice(&email_id)};
    if (tell_steering(t, &r, &v, err) != 0 || steer_runs(s, t, &r, &v, err) != 0)
        rc = -1;
    buf_fini(&email_id);
    return rc;
}

static int share_domain(struct store_txn *t, struct slice domain, const struct record_control *r,
                        struct err *err)
{
    struct record_change change = {
        .domain = domain, .verb = r->verb, .all_lanes = r->all_lanes != 0};
    struct version v;

    return changes_are_told(t) ? tell_steering(t, &change, &v, err) : 0;
}

int scheduler_steer(struct scheduler *s, struct store_txn *t, const struct record_change *r,
                    const struct version *v, struct err *err)
{
    int got = note_steering(t, r, v, err);

    if (got <= 0)
        return got;
    log_info("asked for on another machine: %s %.*s%s%.*s",
             r->verb == CONTROL_PAUSE    ? "pause"
             : r->verb == CONTROL_RESUME ? "resume"
                                         : "cancel",
             SLICE_ARGS(r->domain), r->email_id.len > 0 ? ", newsletter " : "",
             SLICE_ARGS(r->email_id));
    if (r->verb == CONTROL_CANCEL || r->email_id.len > 0)
        return steer_runs(s, t, r, v, err);
    return (r->verb == CONTROL_PAUSE ? gates_pause(s->gates, t, r->domain, err)
                                     : gates_resume(s->gates, t, r->domain, err)) < 0
               ? -1
               : 0;
}

int scheduler_steer_part(struct scheduler *s, struct store_txn *t, struct run *run, struct err *err)
{
    uint32_t domain = store_domain_find(t, s->domains[run->domain].name);
    struct version_row all, its, paused;
    struct message_head head;

    if (!changes_are_told(t) || domain == 0 || !read_head(s, t, run, &head))
        return 0;
    struct key k = version_key(domain, VERSION_DOMAIN_CANCEL);
    (void)version_get(t, &k, &all);
    k = newsletter_key(domain, VERSION_NEWSLETTER_CANCEL, head.email_id);
    (void)version_get(t, &k, &its);
    k = newsletter_key(domain, VERSION_NEWSLETTER_PAUSE, head.email_id);
    (void)version_get(t, &k, &paused);
    if (is_meant(&head, CONTROL_CANCEL, &all.at) || is_meant(&head, CONTROL_CANCEL, &its.at))
        return steer_run(s, t, run, CONTROL_CANCEL, err);
    return paused.flag ? steer_run(s, t, run, CONTROL_PAUSE, err) : 0;
}

/* -------- what is asked for a batch -------- */

static int control_batch(struct scheduler *s, struct store_txn *t, const struct record_control *r,
                         enum answer_verdict *verdict, uint32_t *count, struct buf *words,
                         struct err *err)
{
    struct run *run = run_get(s, t, r->batch_id);

    *verdict = ANSWER_OK;
    if (run == NULL) {
        *verdict = ANSWER_NOT_FOUND;
        buf_printf(words, "there is no batch %016" PRIx64, r->batch_id);
        return 0;
    }
    switch ((enum control_verb)r->verb) {
    case CONTROL_PAUSE:
        if (run_is_settled(run) || run->mark == MARK_CANCELLED) {
            *verdict = ANSWER_REFUSED;
            buf_add_str(words, "nothing of it is left to send");
            return 0;
        }
        *count = run->books.state[STATE_PENDING];
        buf_printf(words, "paused; %" PRIu32 " recipients wait", *count);
        return mark(s, t, run, MARK_PAUSED, err) != 0 ? -1 : share_batch(s, t, run, r->verb, err);
    case CONTROL_RESUME:
        if (run->mark != MARK_PAUSED) {
            *verdict = ANSWER_REFUSED;
            buf_add_str(words, "it is not paused");
            return 0;
        }
        *count = run->books.state[STATE_PENDING];
        buf_printf(words, "resumed; %" PRIu32 " recipients are left", *count);
        try_now(s, run);
        return mark(s, t, run, MARK_NONE, err) != 0 ? -1 : share_batch(s, t, run, r->verb, err);
    case CONTROL_CANCEL:
        if (cancel(s, t, run, count, err) != 0)
            return -1;
        buf_printf(words,
                   "cancelled for %" PRIu32 " recipients; %" PRIu32 " more are with SES already",
                   *count, run->books.state[STATE_LEASED] + run->books.state[STATE_DOUBT]);
        return share_batch(s, t, run, r->verb, err);
    case CONTROL_RESEND:
        if (run->mark == MARK_CANCELLED) {
            *verdict = ANSWER_REFUSED;
            buf_printf(words,
                       "it is cancelled, and %" PRIu32
                       " recipients are still with SES: ask again later",
                       open_count(run));
            return 0;
        }
        if (run->is_part) {
            *verdict = ANSWER_REFUSED;
            buf_add_str(words, "it came from the buffer queue, and may be another machine's by "
                               "now: repeat its POST (Ghost: Retry)");
            return 0;
        }
        if (resend(s, t, run, count, err) != 0)
            return -1;
        buf_printf(words, "%" PRIu32 " recipients that had failed are sent again", *count);
        return 0;
    case CONTROL_STATUS:
    case CONTROL_REPLAY:
    case CONTROL_DROP:
    case CONTROL_WEBHOOK_REPLAY:
    case CONTROL_WEBHOOK_DROP:
    case CONTROL_IMPORT:
    case CONTROL_LOGIN:
    case CONTROL_SIGN_IN:
    case CONTROL_SIGN_OUT:
    case CONTROL_SESSION_SEEN:
    case CONTROL_SESSIONS_END:
    case CONTROL_KEY_ADD:
    case CONTROL_KEY_WITHDRAW:
        break;
    }
    return 0;
}

/* -------- domains -------- */

static int control_domain(struct scheduler *s, struct store_txn *t, const struct record_control *r,
                          enum answer_verdict *verdict, uint32_t *count, struct buf *words,
                          struct err *err)
{
    const struct config_domain *d = config_domain_find(s->me->config, r->domain);
    int got;

    *verdict = ANSWER_OK;
    if (d == NULL) {
        *verdict = ANSWER_NOT_FOUND;
        buf_printf(words, "%.*s is no configured domain", SLICE_ARGS(r->domain));
        return 0;
    }
    struct slice domain = slice_str(d->name);
    bool waited = false;
    for (unsigned i = 0; i < s->domain_count && r->verb == CONTROL_RESUME; i++)
        if (slice_eq(s->domains[i].name, domain))
            waited = holds_try_now(s, i, 0);
    for (size_t i = 0; i < s->active_count; i++) {
        struct run *run = s->active[i];
        if (!slice_eq(s->domains[run->domain].name, domain))
            continue;
        if (r->verb == CONTROL_RESUME && run_hurry(s, run))
            waited = true;
        if (run->lane != LANE_NEWSLETTER && (r->verb != CONTROL_CANCEL || r->all_lanes == 0))
            continue;
        if (r->verb != CONTROL_CANCEL)
            *count += run->books.state[STATE_PENDING];
        else if (cancel(s, t, run, count, err) != 0)
            return -1;
    }
    switch ((enum control_verb)r->verb) {
    case CONTROL_PAUSE:
        buf_printf(words, "newsletters of %s are paused; %" PRIu32 " recipients wait", d->name,
                   *count);
        return gates_pause(s->gates, t, domain, err) != 0 ? -1 : share_domain(t, domain, r, err);
    case CONTROL_RESUME:
        got = gates_resume(s->gates, t, domain, err);
        if (got == 0 && !waited) {
            *verdict = ANSWER_REFUSED;
            buf_printf(words, "nothing holds the newsletters of %s", d->name);
        } else {
            buf_printf(words, "newsletters of %s are sent again; %" PRIu32 " recipients are left",
                       d->name, *count);
        }
        /* Here nothing may hold them, and elsewhere something may. */
        return got < 0 ? -1 : share_domain(t, domain, r, err);
    case CONTROL_CANCEL:
        buf_printf(words, "cancelled for %" PRIu32 " recipients of %s", *count, d->name);
        return share_domain(t, domain, r, err);
    case CONTROL_RESEND:
        *verdict = ANSWER_REFUSED;
        buf_add_str(words, "say which batch is to be sent again");
        return 0;
    case CONTROL_STATUS:
    case CONTROL_REPLAY:
    case CONTROL_DROP:
    case CONTROL_WEBHOOK_REPLAY:
    case CONTROL_WEBHOOK_DROP:
    case CONTROL_IMPORT:
    case CONTROL_LOGIN:
    case CONTROL_SIGN_IN:
    case CONTROL_SIGN_OUT:
    case CONTROL_SESSION_SEEN:
    case CONTROL_SESSIONS_END:
    case CONTROL_KEY_ADD:
    case CONTROL_KEY_WITHDRAW:
        break;
    }
    return 0;
}

/* -------- what is held -------- */

/* Why nothing of the run goes although it is due; GATE_OPEN = it goes. */
static enum gate_reason held_by(const struct scheduler *s, const struct run *run)
{
    struct gate gate;

    if (run->mark == MARK_PAUSED)
        return GATE_PAUSED;
    if (run->mark == MARK_NONE && run->due_wall_ms <= clock_wall_ms() &&
        (holds_closed(s, run, &gate) ||
         gates_closed(s->gates, s->domains[run->domain].name, run_lane(run), &gate)))
        return gate.reason;
    return GATE_OPEN;
}

void scheduler_tell_held(struct scheduler *s)
{
    enum { DOMAINS = GAUGE_DOMAINS_MAX };
    uint64_t held[DOMAINS][GAUGE_LANES][GAUGE_REASONS] = {0};

    _Static_assert((int)GATE_CONFIGURATION_SET < (int)GAUGE_REASONS, "a place for each reason");
    for (size_t i = 0; i < s->active_count; i++) {
        const struct run *run = s->active[i];
        enum gate_reason why = run->books.state[STATE_PENDING] == 0 || run->domain >= DOMAINS
                                   ? GATE_OPEN
                                   : held_by(s, run);
        if (why != GATE_OPEN)
            held[run->domain][run_lane(run)][why] += run->books.state[STATE_PENDING];
    }
    for (size_t d = 0; d < DOMAINS; d++) {
        struct gauge_held *g = &s->me->gauges->held[d];
        for (size_t lane = 0; lane < GAUGE_LANES; lane++)
            for (size_t why = 0; why < GAUGE_REASONS; why++)
                atomic_store_explicit(&g->recipients[lane][why], held[d][lane][why],
                                      memory_order_relaxed);
        uint64_t id = d < s->domain_count ? gauge_domain_id(s->domains[d].name) : 0;
        atomic_store_explicit(&g->domain_id, id, memory_order_release); /* after its figures */
    }
}

/* -------- status -------- */

/* What a person can do about it. */
static void put_mend(struct buf *to, const struct gate *gate)
{
    switch (gate->reason) {
    case GATE_QUOTA:
        buf_add_str(to, "wait, or ask AWS for a higher daily quota");
        return;
    case GATE_ACCOUNT:
        buf_add_str(to, "see the SES console: account dashboard");
        return;
    case GATE_SENDER:
        buf_printf(to,
                   "verify the address or its domain in SES, allow ses:SendEmail for it, then: "
                   "postern domains resume %.*s",
                   SLICE_ARGS(gate->domain));
        return;
    case GATE_CONFIGURATION_SET:
        buf_printf(to, "see to the configuration set in SES, then: postern domains resume %.*s",
                   SLICE_ARGS(gate->domain));
        return;
    case GATE_PAUSED:
    case GATE_BOUNCES:
    case GATE_COMPLAINTS:
        buf_printf(to, "postern domains resume %.*s", SLICE_ARGS(gate->domain));
        return;
    case GATE_WARM_UP:
        buf_add_str(to, "wait, or raise warmup_first_day and reload");
        return;
    case GATE_OPEN:
        return;
    }
}

static uint64_t end_of(const struct scheduler *s, const struct gate *gate, uint64_t need)
{
    uint64_t frees = gate->reason != GATE_QUOTA
                         ? 0
                         : reputation_frees_wall_ms(s->reputation, need, clock_wall_ms());

    return frees > gate->until_wall_ms ? frees : gate->until_wall_ms;
}

static void put_holds(const struct scheduler *s, struct buf *to)
{
    struct gate list[GATES_SHOWN];
    struct buf mend = {0};
    size_t count = holds_list(s, list, GATES_SHOWN);

    count += gates_list(s->gates, list + count, GATES_SHOWN - count);

    json_put_name(to, "holds");
    buf_add_byte(to, '[');
    for (size_t i = 0; i < count; i++) {
        buf_add_str(to, i == 0 ? "{" : ",{");
        json_put_str(to, "domain", list[i].domain);
        json_put_str(to, "lane", slice_str(list[i].lane));
        json_put_str(to, "from", list[i].from);
        json_put_str(to, "reason", slice_str(gate_reason_name(list[i].reason)));
        json_put_str(to, "words", list[i].words);
        json_put_u64(to, "since_ms", list[i].since_wall_ms);
        json_put_u64(to, "until_ms", end_of(s, &list[i], 1));
        buf_reset(&mend);
        put_mend(&mend, &list[i]);
        json_put_str(to, "mend", buf_slice(&mend));
        buf_add_byte(to, '}');
    }
    buf_add_byte(to, ']');
    buf_fini(&mend);
}

static void put_batch(struct scheduler *s, struct store_txn *t, const struct run *run,
                      struct buf *to)
{
    uint64_t now = clock_wall_ms(), rate = meter_rate_milli(&run->meter), eta = 0;
    struct message_head head;
    struct slice packed, subject = slice_none();
    const char *why = "";
    struct gate gate = {0};

    arena_reset(&s->arena);
    if (batch_head(t, run->id, &packed) && message_head_unpack(packed, &s->arena, &head))
        subject = slice_head(head.subject, SUBJECT_BYTES);
    if (run->mark == MARK_PAUSED) {
        why = "paused";
    } else if (run->mark == MARK_CANCELLED) {
        why = "cancelled";
    } else if (holds_closed(s, run, &gate) ||
               gates_closed(s->gates, s->domains[run->domain].name, (enum lane)run->lane, &gate)) {
        why = gate_reason_name(gate.reason);
        eta = end_of(s, &gate, open_count(run));
    } else if (run->due_wall_ms > now) {
        why = "scheduled";
        eta = run->due_wall_ms;
    } else if (rate > 0) {
        eta = now + (uint64_t)open_count(run) * 1000000 / rate;
    }
    buf_printf(to, "{\"batch\":\"%016" PRIx64 "\"", run->id);
    json_put_str(to, "domain", s->domains[run->domain].name);
    json_put_str(to, "subject", subject);
    json_put_str(to, "lane", slice_str(lane_name(run_lane(run))));
    json_put_u64(to, "due_ms", run->due_wall_ms);
    json_put_u64(to, "accepted", run->books.accepted);
    json_put_u64(to, "open", open_count(run));
    json_put_u64(to, "rate_per_s", rate / 1000);
    json_put_u64(to, "eta_ms", eta);
    json_put_bool(to, "paused", run->mark == MARK_PAUSED);
    json_put_str(to, "why", slice_str(why));
    json_put_str(to, "from", gate.from);
    buf_add_byte(to, '}');
}

/* slot: whose rings are told, too; NULL = it has none. */
static void put_process(const struct scheduler *s, const char *role, unsigned index, unsigned gauge,
                        const struct child_slot *slot, struct buf *to)
{
    static const char *const states[] = {"down", "starting", "ready", "leaving"};
    const struct gauge_slot *g = &s->me->gauges->slots[gauge];
    const struct gauge_life *life = &s->me->gauges->lives[gauge];
    uint32_t state = atomic_load(&g->state);

    if (atomic_load(&life->is_unused) != 0)
        return;
    buf_printf(to, "%s{\"name\":\"%s %u\"", to->ptr[to->len - 1] == '[' ? "" : ",", role, index);
    json_put_u64(to, "pid", atomic_load(&life->pid));
    json_put_str(to, "state", slice_str(states[state <= GAUGE_LEAVING ? state : 0]));
    json_put_u64(to, "restarts", atomic_load(&life->restarts));
    if (slot != NULL && slot->up != NULL) {
        json_put_u64(to, "ring_up_bytes", ring_used_bytes(slot->up));
        json_put_u64(to, "ring_down_bytes", ring_used_bytes(slot->down));
    }
    buf_add_byte(to, '}');
}

static void put_processes(const struct scheduler *s, struct buf *to)
{
    json_put_name(to, "processes");
    buf_add_byte(to, '[');
    put_process(s, "writer", 0, s->me->gauge, NULL, to);
    if (s->me->keeper_gauge != 0)
        put_process(s, "keeper", 0, s->me->keeper_gauge, NULL, to);
    for (size_t i = 0; i < s->me->slot_count; i++) {
        const struct child_slot *slot = &s->me->slots[i];
        put_process(s, child_role_name(slot->role), slot->index, slot->gauge, slot, to);
    }
    buf_add_byte(to, ']');
}

/* What the keeper told last, as it told it. */
static void put_credentials(const struct scheduler *s, struct buf *to)
{
    struct buf news = {0};

    json_put_name(to, "credentials");
    if (s->me->keys_news != NULL && notice_read(s->me->keys_news, &news) != 0)
        buf_add_slice(to, buf_slice(&news));
    else
        buf_add_str(to, "{}");
    buf_fini(&news);
}

static void put_store(struct store_txn *t, struct buf *to)
{
    json_put_name(to, "store");
    buf_add_byte(to, '{');
    json_put_u64(to, "used_bytes", store_used_bytes(t));
    json_put_u64(to, "oldest_event_us", event_oldest_us(t));
    buf_add_byte(to, '}');
}

/* What was sent to the queues before then has been read; 0 = not known. */
static uint64_t heard_wall_ms(const struct scheduler *s)
{
    uint64_t heard_ms = UINT64_MAX;

    for (size_t i = 0; i < s->me->slot_count; i++) {
        if (s->me->slots[i].role != ROLE_POLLER)
            continue;
        uint64_t ms = atomic_load(&s->me->gauges->slots[s->me->slots[i].gauge].heard_wall_ms);
        heard_ms = ms < heard_ms ? ms : heard_ms;
    }
    return heard_ms == UINT64_MAX ? 0 : heard_ms;
}

static void put_event_counts(const struct scheduler *s, struct buf *to)
{
    const struct gauge_events *e = &s->me->gauges->events;
    size_t steps = histogram_step_count(&histogram_lag_us);

    json_put_name(to, "events");
    buf_add_byte(to, '{');
    json_put_u64(to, "stored", atomic_load(&e->stored));
    json_put_u64(to, "repeated", atomic_load(&e->repeated));
    json_put_u64(to, "late", atomic_load(&e->late));
    json_put_u64(to, "deadletters", atomic_load(&e->deadletters));
    json_put_u64(to, "heard_ms", heard_wall_ms(s));
    json_put_u64(to, "lag_last_ms", atomic_load(&e->lag_last_ms));
    json_put_u64(to, "lag_ms_sum", atomic_load(&e->lag.sum) / 1000);
    json_put_name(to, "lag");
    buf_add_byte(to, '[');
    for (size_t i = 0; i < steps; i++) {
        buf_add_str(to, i == 0 ? "{" : ",{");
        if (i + 1 < steps) /* the last step has no end */
            json_put_u64(to, "up_to_ms", histogram_lag_us.most[i] / 1000);
        json_put_u64(to, "count", atomic_load(&e->lag.count[i]));
        buf_add_byte(to, '}');
    }
    buf_add_byte(to, ']');
    json_put_u64(to, "no_outcome_recipients", atomic_load(&e->no_outcome_recipients));
    json_put_u64(to, "no_outcome_batches", atomic_load(&e->no_outcome_batches));
    json_put_u64(to, "no_outcome_read_ms", atomic_load(&e->no_outcome_read_wall_ms));
    buf_add_byte(to, '}');
}

static void put_webhooks(const struct scheduler *s, struct store_txn *t, struct buf *to)
{
    const struct gauge_webhooks *g = &s->me->gauges->webhooks;
    uint64_t waiting, failed;

    webhook_counts(t, &waiting, &failed);
    json_put_name(to, "webhooks");
    buf_add_byte(to, '{');
    json_put_u64(to, "delivered", atomic_load(&g->taken));
    json_put_u64(to, "retried", atomic_load(&g->retried));
    json_put_u64(to, "given_up", atomic_load(&g->given_up));
    json_put_u64(to, "waiting", waiting);
    json_put_u64(to, "failed", failed);
    buf_add_byte(to, '}');
}

static void put_queues(const struct config *config, const struct gauges *g, struct buf *to)
{
    json_put_name(to, "queues");
    buf_add_byte(to, '[');
    for (size_t i = 0; i < config->event_queues.count && i < GAUGE_QUEUES_MAX; i++) {
        const struct gauge_queue *q = &g->queues[i];
        uint64_t oldest_ms = 0;
        for (size_t k = 0; k < GAUGE_POLLERS_MAX; k++) {
            uint64_t its_ms = atomic_load(&q->oldest_ms[k]);
            oldest_ms = its_ms > oldest_ms ? its_ms : oldest_ms;
        }
        buf_add_str(to, i == 0 ? "{" : ",{");
        json_put_str(to, "url", slice_str(config->event_queues.texts[i]));
        json_put_u64(to, "visible", atomic_load(&q->visible));
        json_put_u64(to, "in_flight", atomic_load(&q->in_flight));
        json_put_u64(to, "delayed", atomic_load(&q->delayed));
        json_put_u64(to, "read_ms", atomic_load(&q->read_wall_ms));
        json_put_u64(to, "oldest_ms", oldest_ms);
        buf_add_byte(to, '}');
    }
    buf_add_byte(to, ']');
}

/* Nothing where there is none. */
static void put_buffer(const struct config *config, const struct gauges *g, struct buf *to)
{
    const struct gauge_buffer *b = &g->buffer;

    if (config->queues.newsletter_buffer[0] == '\0')
        return;
    json_put_name(to, "buffer");
    buf_add_byte(to, '{');
    json_put_str(to, "url", slice_str(config->queues.newsletter_buffer));
    json_put_u64(to, "visible", atomic_load(&b->queue.visible));
    json_put_u64(to, "in_flight", atomic_load(&b->queue.in_flight));
    json_put_u64(to, "delayed", atomic_load(&b->queue.delayed));
    json_put_u64(to, "read_ms", atomic_load(&b->queue.read_wall_ms));
    json_put_u64(to, "oldest_ms", atomic_load(&b->queue.oldest_ms[0]));
    json_put_u64(to, "grows_since_ms", atomic_load(&b->grows_since_wall_ms));
    json_put_u64(to, "parts", atomic_load(&b->parts));
    json_put_u64(to, "recipients", atomic_load(&b->recipients));
    json_put_u64(to, "returned", atomic_load(&b->returned));
    json_put_u64(to, "joins_until_ms", atomic_load(&b->joins_until_wall_ms));
    buf_add_byte(to, '}');
}

/* What other machines do not know yet; nothing where nobody is told. */
static void put_replication(struct store_txn *t, struct buf *to)
{
    uint64_t oldest_us, waiting = changes_untold(t, &oldest_us), now_us = clock_wall_us();

    if (!changes_are_told(t) && waiting == 0)
        return;
    json_put_name(to, "replication");
    buf_add_byte(to, '{');
    json_put_u64(to, "untold", waiting);
    json_put_u64(to, "oldest_ms",
                 oldest_us == 0 || oldest_us > now_us ? 0 : (now_us - oldest_us) / 1000);
    buf_add_byte(to, '}');
}

static void put_feeds(struct scheduler *s, struct store_txn *t, struct buf *to)
{
    struct slice domain;
    struct feed feed;
    bool silent, any = false;

    json_put_name(to, "feeds");
    buf_add_byte(to, '[');
    for (size_t i = 0; i < FEEDS_SHOWN && feeds_at(s->feeds, i, &domain, &feed, &silent); i++) {
        buf_add_str(to, i == 0 ? "{" : ",{");
        json_put_str(to, "domain", domain);
        json_put_u64(to, "event_ms", feed.event_wall_ms);
        json_put_u64(to, "sent_since", feed.sent);
        json_put_u64(to, "read_ms", feed.read_wall_ms);
        json_put_u64(to, "read_until_us", watermark_read(t, domain));
        json_put_u64(to, "unread", feed_unread(t, domain, UNREAD_MOST));
        buf_add_byte(to, '}');
    }
    buf_add_byte(to, ']');
    json_put_name(to, "alarms");
    buf_add_byte(to, '[');
    for (size_t i = 0; feeds_at(s->feeds, i, &domain, &feed, &silent); i++) {
        struct buf advice = {0};
        if (!silent)
            continue;
        feed_put_advice(&advice, s->me->config, domain);
        buf_add_str(to, any ? ",{" : "{");
        json_put_str(to, "alarm", SLICE("no-events"));
        json_put_str(to, "domain", domain);
        json_put_u64(to, "sent", feed.sent);
        json_put_u64(to, "since_ms", feed.enough_wall_ms);
        json_put_str(to, "mend", buf_slice(&advice));
        buf_add_byte(to, '}');
        buf_fini(&advice);
        any = true;
    }
    buf_add_byte(to, ']');
}

static void put_status(struct scheduler *s, struct store_txn *t, struct buf *to)
{
    struct gauges *g = s->me->gauges;
    uint32_t share = atomic_load(&g->throttle_share);
    uint64_t open = 0;

    buf_add_byte(to, '{');
    json_put_u64(to, "rate_per_s", atomic_load(&g->bucket.per_s_milli) / 1000);
    json_put_u64(to, "rate_share", share == 0 ? 1000 : share);
    json_put_u64(to, "account_rate_per_s", atomic_load(&g->account_rate_milli) / 1000);
    json_put_u64(to, "quota_max_24h", atomic_load(&g->quota_max_24h));
    json_put_u64(to, "quota_sent_24h", atomic_load(&g->quota_sent_24h));
    json_put_bool(to, "account_sandbox", atomic_load(&g->account_is_sandbox) != 0);
    json_put_u64(to, "unresolved", atomic_load(&g->unresolved_count));
    json_put_u64(to, "throttled", atomic_load(&g->throttled_count));
    json_put_u64(to, "sent", atomic_load(&g->sent_count));
    for (size_t i = 0; i < s->active_count; i++)
        open += open_count(s->active[i]);
    json_put_u64(to, "open", open);
    json_put_u64(to, "batches_open", s->active_count);
    json_put_u64(to, "deadletters", deadletter_count(t));
    put_replication(t, to);
    put_credentials(s, to);
    put_event_counts(s, to);
    put_webhooks(s, t, to);
    put_queues(s->me->config, g, to);
    put_buffer(s->me->config, g, to);
    put_feeds(s, t, to);
    put_holds(s, to);
    put_store(t, to);
    json_put_name(to, "batches");
    buf_add_byte(to, '[');
    for (size_t i = 0; i < s->active_count && i < BATCHES_SHOWN; i++) {
        if (i > 0)
            buf_add_byte(to, ',');
        put_batch(s, t, s->active[i], to);
    }
    buf_add_byte(to, ']');
    put_processes(s, to);
    buf_add_byte(to, '}');
}

int scheduler_control(struct scheduler *s, struct store_txn *t, const struct record_control *r,
                      enum answer_verdict *verdict, uint32_t *count, struct buf *words,
                      struct err *err)
{
    *count = 0;
    *verdict = ANSWER_OK;
    if (r->verb == CONTROL_STATUS) {
        put_status(s, t, words);
        return 0;
    }
    if (r->verb < CONTROL_STATUS || r->verb > CONTROL_RESEND) {
        *verdict = ANSWER_REFUSED;
        buf_add_str(words, "not understood: is this postern older or newer than the running one?");
        return 0;
    }
    int got = r->batch_id != 0 ? control_batch(s, t, r, verdict, count, words, err)
                               : control_domain(s, t, r, verdict, count, words, err);
    if (got == 0 && *verdict == ANSWER_OK)
        log_info("asked for by %.*s: %.*s",
                 SLICE_ARGS(r->by.len > 0 ? slice_head(r->by, BY_BYTES) : SLICE("a person")),
                 SLICE_ARGS(buf_slice(words)));
    return got;
}

/* -------- queues, as Mailgun tells them -------- */

static void put_queue(struct buf *to, const char *name, const struct gate *gate)
{
    struct buf until = {0};

    json_put_name(to, name);
    buf_add_byte(to, '{');
    json_put_bool(to, "is_disabled", gate != NULL);
    if (gate != NULL) {
        if (gate->until_wall_ms != 0)
            date_put_rfc1123(&until, gate->until_wall_ms * 1000, "UTC");
        json_put_name(to, "disabled");
        buf_add_byte(to, '{');
        json_put_str(to, "until", buf_slice(&until));
        json_put_name(to, "reason");
        buf_add_str(to, "\"");
        json_put_escaped(to, slice_str(gate_reason_name(gate->reason)));
        if (gate->from.len > 0) {
            buf_add_str(to, " (mail from ");
            json_put_escaped(to, gate->from);
            buf_add_byte(to, ')');
        }
        buf_add_str(to, ": ");
        json_put_escaped(to, gate->words);
        buf_add_str(to, "\"}");
    }
    buf_add_byte(to, '}');
    buf_fini(&until);
}

void scheduler_queues(const struct scheduler *s, struct slice domain, struct buf *to)
{
    const struct config_domain *d = config_domain_find(s->me->config, domain);
    struct gate holds[GATES_SHOWN], gate;
    const struct gate *now = NULL, *later = NULL;
    size_t count = holds_list(s, holds, GATES_SHOWN);

    for (size_t i = 0; i < count && now == NULL; i++)
        if (holds[i].domain.len == 0 || slice_eq(holds[i].domain, slice_str(d->name)))
            now = &holds[i];
    if (gates_closed(s->gates, slice_str(d->name), LANE_NEWSLETTER, &gate)) {
        later = gate.until_wall_ms == 0 ? &gate : NULL;
        now = now == NULL ? &gate : now;
    }
    buf_add_byte(to, '{');
    put_queue(to, "regular", now);
    put_queue(to, "scheduled", later);
    buf_add_byte(to, '}');
}
