#include "store/runs.h"

#include <assert.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "mail/address.h"
#include "mail/form.h"
#include "store/buffer.h"

/* -------- meters -------- */

static void meter_turn(struct meter *m, uint64_t second)
{
    if (second - m->second >= METER_SECONDS)
        memset(m->cells, 0, sizeof m->cells);
    else
        while (m->second < second)
            m->cells[++m->second % METER_SECONDS] = 0;
    m->second = second;
}

void meter_add(struct meter *m, uint32_t n)
{
    meter_turn(m, clock_mono_ms() / 1000);
    m->cells[m->second % METER_SECONDS] += n;
}

uint64_t meter_rate_milli(const struct meter *m)
{
    struct meter now = *m;
    uint64_t sum = 0, seconds = 0;

    meter_turn(&now, clock_mono_ms() / 1000);
    /* The second under way is not over, and what came before the first mail does not count. */
    for (uint64_t back = METER_SECONDS - 1; back >= 1; back--) {
        uint32_t cell = now.cells[(now.second - back + METER_SECONDS) % METER_SECONDS];
        sum += cell;
        seconds += sum > 0;
    }
    if (seconds == 0)
        return (uint64_t)now.cells[now.second % METER_SECONDS] * 1000;
    return sum * 1000 / seconds;
}

/* -------- runs -------- */

static unsigned domain_turn_of(struct scheduler *s, struct slice name)
{
    for (unsigned i = 0; i < s->domain_count; i++)
        if (slice_eq(s->domains[i].name, name))
            return i;
    s->domains = mem_grow(s->domains, (s->domain_count + 1) * sizeof *s->domains);
    s->domains[s->domain_count] =
        (struct domain_turn){.name = slice_of(mem_dup(name.ptr, name.len), name.len),
                             .ready = mem_zero(2, sizeof(struct run_heap))};
    return (unsigned)s->domain_count++;
}

static struct run **bucket_of(struct scheduler *s, uint64_t id)
{
    return &s->buckets[(id ^ id >> 20) % BUCKETS];
}

static uint64_t from_id_of(struct slice from)
{
    uint8_t hash[SHA256_BYTES];
    struct buf address = {0};
    uint64_t number;

    address_of_from(&address, from);
    digest_sha256(buf_slice(&address), hash);
    buf_fini(&address);
    memcpy(&number, hash, sizeof number);
    return number | 1;
}

struct run *run_get(struct scheduler *s, struct store_txn *t, uint64_t id)
{
    struct slice packed;
    struct message_head head;
    struct books books;
    struct run **bucket = bucket_of(s, id);

    for (struct run *r = *bucket; r != NULL; r = r->next)
        if (r->id == id)
            return r;
    arena_reset(&s->arena);
    if (!batch_head(t, id, &packed) || !message_head_unpack(packed, &s->arena, &head) ||
        !batch_books(t, id, &books))
        return NULL;

    struct run *run = mem_zero(1, sizeof *run);
    *run = (struct run){
        .next = *bucket,
        .id = id,
        .due_wall_ms = head.due_wall_ms,
        .lane = head.lane,
        .recipient_count = head.recipient_count,
        .slice_count = slice_count_of(head.recipient_count),
        .domain = domain_turn_of(s, head.domain),
        .from_id = from_id_of(head.from),
        .mark = batch_mark_get(t, id),
        .books = books,
        .booked = books,
    };
    uint32_t receives;
    run->is_part = part_row_get(t, id, &receives);
    run->held_until_mono_ms = clock_mono_ms(); /* nobody knows; store/parts.h gives it time */
    s->domains[run->domain].in_flight += books.state[STATE_LEASED] + books.state[STATE_DOUBT];
    *bucket = run;
    s->run_count++;
    return run;
}

void run_activate(struct scheduler *s, struct run *run, uint64_t due_wall_ms, uint32_t lane)
{
    run->due_wall_ms = due_wall_ms;
    run->lane = lane;
    if (!run->active) {
        run->active = true;
        if (s->active_count == s->active_cap) {
            s->active_cap = s->active_cap == 0 ? 64 : s->active_cap * 2;
            s->active = mem_grow(s->active, s->active_cap * sizeof *s->active);
        }
        s->active[s->active_count++] = run;
    }
    run_place(s, run);
}

void run_deactivate(struct run *run)
{
    run->active = false;
    run_heap_take(run);
}

void run_place(struct scheduler *s, struct run *run)
{
    struct run_heap *ready = &s->domains[run->domain].ready[run_lane(run)];

    if (!run->active || run->mark != MARK_NONE || run->books.state[STATE_PENDING] == 0 ||
        !run_is_held(run))
        run_heap_take(run);
    else if (run->due_wall_ms > clock_wall_ms())
        run_heap_put(&s->scheduled, run, run->due_wall_ms);
    else if (run->not_before_mono_ms > clock_mono_ms())
        run_heap_put(&s->patient, run, run->not_before_mono_ms);
    else if (run->heap != ready)
        run_heap_put(ready, run, run->due_wall_ms);
}

bool run_is_held(const struct run *run)
{
    return !run->is_part || run->held_until_mono_ms > clock_mono_ms();
}

bool run_hurry(struct scheduler *s, struct run *run)
{
    uint64_t now = clock_mono_ms();
    bool waited = run->not_before_mono_ms > now;

    for (uint32_t i = 0; run->recipient_not_before_mono_ms != NULL && i < run->recipient_count; i++)
        waited = waited || run->recipient_not_before_mono_ms[i] > now;
    free(run->recipient_not_before_mono_ms);
    run->recipient_not_before_mono_ms = NULL;
    run->not_before_mono_ms = 0;
    run_place(s, run);
    return waited;
}

void run_delay(struct run *run, uint32_t slice, uint32_t bit, uint64_t until_mono_ms)
{
    uint32_t at = slice * SLICE_MAX + bit;

    if (at >= run->recipient_count)
        return;
    if (run->recipient_not_before_mono_ms == NULL)
        run->recipient_not_before_mono_ms = mem_zero(run->recipient_count, sizeof(uint64_t));
    run->recipient_not_before_mono_ms[at] = until_mono_ms;
}

uint64_t run_delayed_until(const struct run *run, uint32_t slice, uint32_t bit)
{
    uint32_t at = slice * SLICE_MAX + bit;

    return run->recipient_not_before_mono_ms == NULL || at >= run->recipient_count
               ? 0
               : run->recipient_not_before_mono_ms[at];
}

bool run_is_settled(const struct run *run)
{
    return run->books.state[STATE_PENDING] == 0 && run->books.state[STATE_LEASED] == 0 &&
           run->books.state[STATE_DOUBT] == 0;
}

/* Whatever a record said. */
enum lane run_lane(const struct run *run)
{
    return run->lane == LANE_NEWSLETTER ? LANE_NEWSLETTER : LANE_TRANSACTIONAL;
}

const char *lane_name(enum lane lane)
{
    return lane == LANE_TRANSACTIONAL ? "transactional" : "newsletter";
}

static void run_free(struct run *run)
{
    free(run->recipient_not_before_mono_ms);
    free(run);
}

void runs_drop_settled(struct scheduler *s)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct run **at = &s->buckets[i]; *at != NULL;) {
            struct run *run = *at;
            if (run->active) {
                at = &run->next;
                continue;
            }
            *at = run->next;
            run_free(run);
            s->run_count--;
        }
}

void runs_close(struct scheduler *s)
{
    run_heap_fini(&s->scheduled);
    run_heap_fini(&s->patient);
    for (size_t i = 0; i < s->domain_count; i++) {
        run_heap_fini(&s->domains[i].ready[0]);
        run_heap_fini(&s->domains[i].ready[1]);
        free(s->domains[i].ready);
    }
    for (size_t i = 0; i < BUCKETS; i++)
        while (s->buckets[i] != NULL) {
            struct run *gone = s->buckets[i];
            s->buckets[i] = gone->next;
            run_free(gone);
        }
    for (size_t i = 0; i < s->domain_count; i++) {
        union {
            const uint8_t *in;
            void *out;
        } name = {.in = s->domains[i].name.ptr};
        free(name.out);
    }
    free(s->domains);
    free(s->active);
}

/* -------- one slice -------- */

bool work_read(struct scheduler *s, struct store_txn *t, struct slice_work *w)
{
    struct slice packed;

    arena_reset(&s->arena);
    return batch_head(t, w->run->id, &packed) && message_head_unpack(packed, &s->arena, &w->head) &&
           batch_recipients(t, w->run->id, w->slice, &packed) &&
           recipients_unpack(packed, &s->arena, &w->recipients, &w->recipient_count) &&
           w->recipient_count >= w->state_count;
}

static bool is_in_flight(enum recipient_state state)
{
    return state == STATE_LEASED || state == STATE_DOUBT;
}

void change_state(struct scheduler *s, struct slice_work *w, uint32_t bit, enum recipient_state to)
{
    struct run *run = w->run;
    enum recipient_state from = (enum recipient_state)w->states[bit];
    struct domain_turn *domain = &s->domains[run->domain];

    assert(run->books.state[from] >= 1);
    run->books.state[from]--;
    run->books.state[to]++;
    run->books_changed = true;
    w->states[bit] = (uint8_t)to;
    domain->in_flight += is_in_flight(to);
    domain->in_flight -= is_in_flight(from);
    if (to == STATE_SENT)
        meter_add(&run->meter, 1);
    if (to == STATE_PENDING)
        run_place(s, run);
}

void work_claim(const struct slice_work *w, uint32_t bit, struct buf *to)
{
    struct submission one = {
        .head = w->head, .recipients = &w->recipients[bit], .recipient_count = 1};

    submission_claims(&one, to);
}

int work_release_claim(struct store_txn *t, const struct slice_work *w, uint32_t bit,
                       struct err *err)
{
    struct buf claim = {0};
    int got = 0;

    work_claim(w, bit, &claim);
    uint64_t owner;
    if (claim.len == CLAIM_BYTES && claim_get(t, claim.ptr, &owner) && owner == w->run->id)
        got = claim_del(t, claim.ptr, err);
    buf_fini(&claim);
    return got;
}

int change_to_unsent(struct scheduler *s, struct store_txn *t, struct slice_work *w, uint32_t bit,
                     struct err *err)
{
    w->run->not_before_mono_ms = 0; /* its recipients tell anew */
    if (w->run->cursor > w->slice)
        w->run->cursor = w->slice;
    if (w->run->mark != MARK_CANCELLED) {
        change_state(s, w, bit, STATE_PENDING);
        return 0;
    }
    change_state(s, w, bit, STATE_CANCELLED);
    return work_read(s, t, w) ? work_release_claim(t, w, bit, err) : 0;
}
