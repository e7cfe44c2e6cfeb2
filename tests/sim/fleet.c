#include "tests/sim/fleet.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "aws/sqs.h"
#include "base/config.h"
#include "base/mem.h"
#include "base/pack.h"
#include "mail/form.h"
#include "mail/part.h"
#include "poller/buffer_in.h"
#include "sender/rate.h"
#include "shm/gauges.h"
#include "store/part_rules.h"
#include "tests/sim/agenda.h"

enum {
    PER_POST = MESSAGE_RECIPIENTS_MAX,
    SLICES = PART_MOST_RECIPIENTS / MESSAGE_SLICE,
    HTML_BYTES = 100 << 10,
    MESSAGE_MAX_BYTES = 256 << 10,
    BILLED_BYTES = 64 << 10,
    CONNECTIONS = 64,       /* of a node's senders */
    TO_SES_MS = 20,         /* on its way; the answer takes as long again and more */
    ANSWER_MS = 30,         /* to … */
    ANSWER_SPREAD_MS = 150, /* … and so much more */
    TIMEOUT_MS = 30000,     /* of a send */
    SIGNED_FOR_MS = 300000, /* SES refuses what was signed longer ago (spec/aws.md §1) */
    RATE_CELL_MS = 100,     /* SES looks at the last second in these */
    RATE_CELLS = 10,
    TROUBLE_LEAST_MS = 5000,   /* how long one lasts … */
    TROUBLE_MOST_MS = 1200000, /* … twice the doubt window */
    REPEAT_WITHIN_MS = 120000,
    SECOND_MS = 1000,
    NS_PER_MS = 1000000,
};

enum kind {
    POST,
    REPEAT,
    SEND,
    ARRIVE,
    ANSWER,
    WAITED,
    EXTEND,
    DELETE,
    LAPSE,
    DOUBT,
    SECOND,
    TROUBLE,
    WELL,
    LOSE,
};
enum health { UP, KILLED, FROZEN, CUT, LOST };

/* -------- the world -------- */

/* A call that SES took. */
struct taken {
    uint64_t at_ms, mask;
    uint32_t node, slice;
    bool answered;
};

struct share {
    uint32_t recipients, message; /* message: its first */
    uint64_t served[SLICES];      /* by SES */
    struct taken *log;
    size_t log_count, log_cap;
};

/* What a node has of a message. */
struct view {
    TAILQ_ENTRY(view) busy;  /* with something unsettled */
    TAILQ_ENTRY(view) due;   /* held, by extend_ms */
    TAILQ_ENTRY(view) rests; /* held and settled, in the order of delete_ms */
    LIST_ENTRY(view) of_node;
    struct view *next; /* of the message */
    uint32_t node, message, handle, had;
    uint64_t pending[SLICES], doubt[SLICES], flying[SLICES];
    uint64_t doubt_until_ms, held_until_ms, extend_ms, delete_ms;
    unsigned references; /* calls, doubts, requests on a line that is cut */
    bool held, settled, is_busy, orphan;
};
TAILQ_HEAD(views, view);

struct call {
    struct view *view;
    uint64_t mask, begun_ms;
    uint32_t slice;
    bool arrived, accepted, refused, timed_out;
    size_t log_at;
    struct call *next; /* those that wait for a line, or a process, to be well */
};

struct node {
    enum health health;
    uint32_t life;
    uint64_t well_ms, may_receive_ms;
    struct gauge_bucket bucket;
    uint32_t share;
    uint64_t refused, sent; /* in this second */
    unsigned calls;
    struct views busy, extending, deleting;
    uint32_t held;
    bool sending, polling; /* a SEND is entered; a call waits at the queue */
    uint64_t poll_began_ms, poll_serial;
    unsigned poll_most;
    uint32_t poll_life;
    struct call *stuck;
    LIST_HEAD(, view) views;
    uint64_t heard_events, heard_ms;
    size_t heard_second;
};

struct fleet {
    const struct fleet_options *o;
    struct fleet_result *r;
    struct agenda agenda;
    struct fifo queue;
    struct config config;
    struct share *parts;
    struct view **views; /* by message */
    struct node *nodes;
    uint64_t now_ms, dice, of_posts;
    uint32_t part_count, posted;
    struct part_messages cut;
    struct arena arena;
    uint64_t base_milli; /* a node's allowed rate */
    unsigned entries;
    uint32_t ses_cells[RATE_CELLS];
    uint64_t ses_cell;
    uint64_t events;     /* published so far × 1000 */
    uint64_t *events_of; /* by second: `events` at its end */
    size_t events_count, events_cap;
    uint32_t waiters; /* polls that wait */
    unsigned lost;
};

static uint64_t roll(struct fleet *f, uint64_t below)
{
    f->dice ^= f->dice << 13;
    f->dice ^= f->dice >> 7;
    f->dice ^= f->dice << 17;
    return f->dice % below;
}

static unsigned ones(const uint64_t *masks)
{
    unsigned count = 0;

    for (int i = 0; i < SLICES; i++)
        count += (unsigned)__builtin_popcountll(masks[i]);
    return count;
}

static void enter(struct fleet *f, uint64_t at_ms, enum kind kind, uint32_t node, void *about)
{
    agenda_enter(&f->agenda, (struct appointment){.at_ms = at_ms,
                                                  .kind = kind,
                                                  .node = node,
                                                  .life = f->nodes[node].life,
                                                  .about = about});
}

static void enter_number(struct fleet *f, uint64_t at_ms, enum kind kind, uint32_t node,
                         uint64_t number)
{
    agenda_enter(&f->agenda, (struct appointment){
                                 .at_ms = at_ms, .kind = kind, .node = node, .number = number});
}

static uint64_t all_of(const struct share *p, int slice)
{
    uint32_t from = (uint32_t)slice * MESSAGE_SLICE;
    uint32_t count = p->recipients > from ? p->recipients - from : 0;

    count = count > MESSAGE_SLICE ? MESSAGE_SLICE : count;
    return (UINT64_C(1) << count) - 1;
}

static struct share *part_of(struct fleet *f, const struct view *v)
{
    return &f->parts[f->queue.messages[v->message].part];
}

/* -------- a POST, cut by the product's own code -------- */

/* A newsletter of 100 KB whose words differ, so that it compresses as one does. */
static struct slice html_of(struct fleet *f)
{
    struct buf html = {0};

    while (html.len < HTML_BYTES) {
        buf_add_str(&html, "<p style=\"margin: 0 0 1.5em 0; line-height: 1.6em;\">");
        for (int word = 0; word < 60; word++)
            for (uint64_t letters = 2 + roll(f, 8); letters > 0; letters--)
                buf_add_byte(&html, letters == 1 ? ' ' : (uint8_t)('a' + roll(f, 26)));
        buf_add_str(&html, "</p>\n");
    }
    struct slice kept = arena_dup(&f->arena, buf_slice(&html));
    buf_fini(&html);
    return kept;
}

static void pack_recipients(struct fleet *f, struct buf *slices)
{
    struct recipient list[MESSAGE_SLICE];
    struct buf one = {0};

    pack_array(slices, PER_POST / MESSAGE_SLICE);
    for (uint32_t at = 0; at < PER_POST; at += MESSAGE_SLICE) {
        for (uint32_t i = 0; i < MESSAGE_SLICE; i++) {
            struct name_value *vars = arena_array(&f->arena, 1, sizeof *vars);
            vars[0] = (struct name_value){
                SLICE("unsubscribe_url"),
                arena_printf(&f->arena, "https://example.com/unsubscribe/?uuid=%016llx",
                             (unsigned long long)roll(f, UINT64_MAX))};
            list[i] = (struct recipient){
                .address = arena_printf(&f->arena, "reader%06u@example.net", at + i),
                .vars = vars,
                .var_count = 1,
                .kind = RECIPIENT_TO};
        }
        buf_reset(&one);
        recipients_pack(&one, list, MESSAGE_SLICE);
        pack_bin(slices, buf_slice(&one));
    }
    buf_fini(&one);
}

static void cut_a_post(struct fleet *f)
{
    struct buf head = {0}, content = {0}, slices = {0};
    const struct message_head h = {.domain = SLICE("mg.example.com"),
                                   .message_id = SLICE("1.2@mg.example.com"),
                                   .email_id = SLICE("65f0c1e2a3b4c5d6e7f80910"),
                                   .batch_mode = true,
                                   .recipient_count = PER_POST,
                                   .lane = 1};
    const struct message_content c = {.from = SLICE("a@mg.example.com"),
                                      .subject = SLICE("Hello"),
                                      .batch_mode = true,
                                      .html = html_of(f)};

    message_head_pack(&head, &h);
    message_content_pack(&content, &c);
    pack_recipients(f, &slices);
    const struct part_source from = {.batch_id = 1,
                                     .head = buf_slice(&head),
                                     .content = buf_slice(&content),
                                     .slices = buf_slice(&slices)};
    if (part_cut(&from, MESSAGE_MAX_BYTES, &f->arena, &f->cut) != PART_OK)
        assert(!"a newsletter is cut");
    buf_fini(&head);
    buf_fini(&content);
    buf_fini(&slices);
}

static unsigned pieces(const struct fleet *f, uint32_t part)
{
    return (unsigned)((f->cut.list[part % f->cut.count].body.len + BILLED_BYTES - 1) /
                      BILLED_BYTES);
}

/* -------- SES -------- */

static bool ses_has_room(struct fleet *f, unsigned count)
{
    uint64_t cell = f->now_ms / RATE_CELL_MS;
    uint64_t sum = 0;

    for (; f->ses_cell < cell; f->ses_cell++) {
        if (f->ses_cell + RATE_CELLS < cell)
            f->ses_cell = cell - RATE_CELLS;
        f->ses_cells[(f->ses_cell + 1) % RATE_CELLS] = 0;
    }
    for (int i = 0; i < RATE_CELLS; i++)
        sum += f->ses_cells[i];
    if (sum + count > f->o->rate)
        return false;
    f->ses_cells[cell % RATE_CELLS] += count;
    return true;
}

static void ses_take(struct fleet *f, struct call *c)
{
    struct share *p = part_of(f, c->view);
    unsigned count = (unsigned)__builtin_popcountll(c->mask);

    c->arrived = true;
    c->accepted = ses_has_room(f, count);
    if (!c->accepted) {
        c->refused = true;
        f->r->refused += count;
        return;
    }
    f->r->twice += (unsigned)__builtin_popcountll(p->served[c->slice] & c->mask);
    f->r->taken += (unsigned)__builtin_popcountll(c->mask & ~p->served[c->slice]);
    p->served[c->slice] |= c->mask;
    f->r->last_taken_ms = f->now_ms;
    if (f->r->half_taken_ms == 0 && f->r->taken * 2 >= f->o->recipients)
        f->r->half_taken_ms = f->now_ms;
    f->events += count * (uint64_t)f->o->events_milli;
    if (p->log_count == p->log_cap) {
        p->log_cap = p->log_cap == 0 ? 16 : p->log_cap * 2;
        p->log = mem_grow(p->log, p->log_cap * sizeof *p->log);
    }
    c->log_at = p->log_count;
    p->log[p->log_count++] = (struct taken){
        .at_ms = f->now_ms, .mask = c->mask, .node = c->view->node, .slice = c->slice};
}

/* -------- what a node knows -------- */

/* Who is served, as far as this node's events and answers tell. */
static uint64_t known(struct fleet *f, const struct view *v, uint32_t slice)
{
    const struct share *p = part_of(f, v);
    uint64_t mask = 0;

    for (size_t i = 0; i < p->log_count; i++) {
        const struct taken *t = &p->log[i];
        if (t->slice == slice &&
            (t->at_ms < f->nodes[v->node].heard_ms || (t->node == v->node && t->answered)))
            mask |= t->mask;
    }
    return mask;
}

static void view_release(struct view *v)
{
    if (v->orphan && v->references == 0)
        free(v);
}

static struct view *view_of(struct fleet *f, uint32_t node, uint32_t message)
{
    struct node *n = &f->nodes[node];

    for (struct view *v = f->views[message]; v != NULL; v = v->next)
        if (v->node == node)
            return v;
    struct view *v = mem_zero(1, sizeof *v);
    *v = (struct view){.node = node, .message = message, .next = f->views[message]};
    f->views[message] = v;
    LIST_INSERT_HEAD(&n->views, v, of_node);
    return v;
}

static bool is_unsettled(const struct view *v)
{
    return ones(v->pending) + ones(v->doubt) + ones(v->flying) > 0;
}

static void set_busy(struct node *n, struct view *v, bool busy)
{
    if (busy && !v->is_busy)
        TAILQ_INSERT_TAIL(&n->busy, v, busy);
    else if (!busy && v->is_busy)
        TAILQ_REMOVE(&n->busy, v, busy);
    v->is_busy = busy;
}

/* When to extend it. Most belong at the list's end. */
static void set_extend(struct fleet *f, struct view *v, uint64_t extend_ms)
{
    struct views *list = &f->nodes[v->node].extending;
    struct view *at;

    v->extend_ms = extend_ms;
    enter(f, extend_ms, EXTEND, v->node, NULL);
    TAILQ_FOREACH_REVERSE(at, list, views, due)
    {
        if (at->extend_ms <= extend_ms) {
            TAILQ_INSERT_AFTER(list, at, v, due);
            return;
        }
    }
    TAILQ_INSERT_HEAD(list, v, due);
}

static void set_settled(struct fleet *f, struct view *v, bool settled)
{
    struct node *n = &f->nodes[v->node];

    if (settled == v->settled)
        return;
    v->settled = settled;
    if (!settled) {
        TAILQ_REMOVE(&n->deleting, v, rests);
        return;
    }
    v->delete_ms = f->o->no_linger ? f->now_ms : part_delete_at(f->now_ms, f->o->window_ms);
    TAILQ_INSERT_TAIL(&n->deleting, v, rests);
    enter(f, v->delete_ms, DELETE, v->node, NULL);
}

/* Of a message that is deleted, and not thought to be held any more: nobody asks for it again. */
static void view_drop(struct fleet *f, struct view *v)
{
    struct node *n = &f->nodes[v->node];

    for (struct view **at = &f->views[v->message]; *at != NULL; at = &(*at)->next)
        if (*at == v) {
            *at = v->next;
            break;
        }
    LIST_REMOVE(v, of_node);
    set_busy(n, v, false);
    v->orphan = true;
    view_release(v);
}

static void let_go(struct fleet *f, struct view *v)
{
    struct node *n = &f->nodes[v->node];

    if (!v->held)
        return;
    TAILQ_REMOVE(&n->extending, v, due);
    set_settled(f, v, false);
    v->held = false;
    n->held--;
    if (f->o->no_fence)
        return;
    for (int i = 0; i < SLICES; i++)
        v->pending[i] = 0; /* handed on: taken up again with the message, if it comes back */
    set_busy(n, v, false);
}

/* It finds out that the message is not its own any more. */
static void give_up(struct fleet *f, struct view *v)
{
    let_go(f, v);
    if (f->queue.messages[v->message].deleted && !f->o->no_fence)
        view_drop(f, v);
}

/* The others that had the message do not hear of its end. */
static void message_end(struct fleet *f, struct view *last)
{
    uint32_t message = last->message;
    struct share *p = &f->parts[f->queue.messages[message].part];

    let_go(f, last);
    for (struct view *v = f->views[message], *next; v != NULL; v = next) {
        next = v->next;
        if (!v->held && (!f->o->no_fence || v == last))
            view_drop(f, v);
    }
    if (f->o->repeats != 0)
        return;
    free(p->log);
    p->log = NULL;
    p->log_count = p->log_cap = 0;
}

/* -------- sending -------- */

static void poll_queue(struct fleet *f, uint32_t node);

static void go_on_sending(struct fleet *f, uint32_t node, uint64_t at_ms)
{
    struct node *n = &f->nodes[node];

    if (n->sending)
        return;
    n->sending = true;
    enter(f, at_ms, SEND, node, NULL);
}

static bool may_begin(const struct fleet *f, const struct view *v)
{
    return f->o->no_fence || (v->held && f->now_ms < v->held_until_ms);
}

static struct view *next_to_send(struct fleet *f, struct node *n, int *slice)
{
    struct view *v;

    TAILQ_FOREACH(v, &n->busy, busy)
    for (*slice = 0; *slice < SLICES && may_begin(f, v); ++*slice)
        if (v->pending[*slice] != 0)
            return v;
    return NULL;
}

static uint64_t lowest(uint64_t mask, unsigned most)
{
    uint64_t some = 0;

    for (; mask != 0 && most > 0; most--) {
        some |= mask & -mask;
        mask &= mask - 1;
    }
    return some;
}

static void begin_call(struct fleet *f, struct view *v, int slice, uint64_t mask)
{
    struct node *n = &f->nodes[v->node];
    struct call *c = mem_zero(1, sizeof *c);

    *c = (struct call){.view = v, .mask = mask, .slice = (uint32_t)slice, .begun_ms = f->now_ms};
    v->pending[slice] &= ~mask;
    v->flying[slice] |= mask;
    v->references++;
    n->calls++;
    enter(f, f->now_ms + TO_SES_MS, ARRIVE, v->node, c);
}

static void on_send(struct fleet *f, uint32_t node)
{
    struct node *n = &f->nodes[node];
    int slice;

    n->sending = false;
    while (n->calls < CONNECTIONS) {
        struct view *v = next_to_send(f, n, &slice);
        if (v == NULL)
            return;
        uint64_t mask = lowest(v->pending[slice], f->entries);
        uint64_t wait_ns = bucket_take(&n->bucket, (uint32_t)__builtin_popcountll(mask),
                                       (uint64_t)RATE_SLACK_MS * NS_PER_MS, f->now_ms * NS_PER_MS);
        if (wait_ns > 0) {
            go_on_sending(f, node, f->now_ms + 1 + wait_ns / NS_PER_MS);
            return;
        }
        begin_call(f, v, slice, mask);
    }
}

static void set_doubt(struct fleet *f, struct view *v, uint32_t slice, uint64_t mask)
{
    if (mask == 0)
        return;
    v->doubt[slice] |= mask;
    v->doubt_until_ms = f->now_ms + f->o->window_ms;
    f->r->doubts += (unsigned)__builtin_popcountll(mask);
    v->references++;
    enter(f, v->doubt_until_ms, DOUBT, v->node, v);
}

/* After anything has changed: is it settled, or is there more to send? */
static void look(struct fleet *f, struct view *v)
{
    struct node *n = &f->nodes[v->node];

    if (v->orphan || !v->held)
        return;
    bool unsettled = is_unsettled(v);
    set_busy(n, v, unsettled);
    set_settled(f, v, !unsettled);
    if (!unsettled)
        poll_queue(f, v->node);
    if (ones(v->pending) > 0)
        go_on_sending(f, v->node, f->now_ms);
}

static void stick(struct node *n, struct call *c)
{
    c->next = n->stuck;
    n->stuck = c;
}

static void on_arrive(struct fleet *f, struct call *c)
{
    struct node *n = &f->nodes[c->view->node];

    /* On a line that is cut it waits there; of a frozen process half of the requests are written. */
    if (n->health == CUT || (n->health == FROZEN && roll(f, 2) == 0)) {
        stick(n, c);
        c->view->references++;
        enter(f, c->begun_ms + TIMEOUT_MS, ANSWER, c->view->node, c);
        return;
    }
    ses_take(f, c);
    enter(f, f->now_ms + ANSWER_MS + roll(f, ANSWER_SPREAD_MS), ANSWER, c->view->node, c);
}

static void call_end(struct fleet *f, struct call *c)
{
    struct view *v = c->view;

    v->flying[c->slice] &= ~c->mask;
    v->references--;
    f->nodes[v->node].calls--;
}

/* Its sender is dead. What was written may still arrive; nobody hears what becomes of it. */
static void outlive(struct fleet *f, struct call *c)
{
    if (!c->arrived && roll(f, 2) == 0)
        ses_take(f, c);
    c->view->references--;
    view_release(c->view);
    free(c);
}

static void on_answer(struct fleet *f, struct call *c)
{
    struct view *v = c->view;
    struct node *n = &f->nodes[v->node];
    unsigned count = (unsigned)__builtin_popcountll(c->mask);

    if (n->health == FROZEN || (n->health == CUT && f->now_ms < c->begun_ms + TIMEOUT_MS)) {
        uint64_t timeout_ms = n->health == CUT ? c->begun_ms + TIMEOUT_MS : 0;
        enter(f, timeout_ms != 0 && timeout_ms < n->well_ms ? timeout_ms : n->well_ms + 1, ANSWER,
              v->node, c);
        return;
    }
    call_end(f, c);
    if (!c->arrived || n->health == CUT) { /* timed out: nobody knows */
        c->timed_out = true;
        set_doubt(f, v, c->slice, c->mask);
    } else if (c->refused) {
        v->pending[c->slice] |= v->held ? c->mask : 0;
        n->refused += count;
    } else {
        struct share *p = part_of(f, v);
        if (c->log_at < p->log_count)
            p->log[c->log_at].answered = true;
        n->sent += count;
    }
    look(f, v);
    view_release(v);
    if (c->arrived)
        free(c); /* else it is still on its line */
    go_on_sending(f, (uint32_t)(n - f->nodes), f->now_ms);
}

/* Doubts of a view end when their window has passed and the events up to its end are read. */
static void on_doubt(struct fleet *f, struct view *v)
{
    struct node *n = &f->nodes[v->node];

    if (!v->orphan && n->health != LOST && ones(v->doubt) > 0 &&
        (n->health == FROZEN || n->health == KILLED || f->now_ms < v->doubt_until_ms ||
         n->heard_ms < v->doubt_until_ms)) {
        enter(f, f->now_ms + SECOND_MS, DOUBT, v->node, v);
        return;
    }
    v->references--;
    for (uint32_t i = 0; i < SLICES && !v->orphan; i++) {
        uint64_t again = v->doubt[i] & ~known(f, v, i);
        v->doubt[i] = 0;
        v->pending[i] |= v->held ? again : 0;
    }
    look(f, v);
    view_release(v);
}

/* -------- taking, holding, deleting -------- */

static void keep_held(struct fleet *f, struct view *v, uint64_t began_ms)
{
    v->held_until_ms = part_held_until(began_ms, f->o->visibility_ms);
    set_extend(f, v, part_extend_at(began_ms, f->o->visibility_ms));
}

static void adopt(struct fleet *f, uint32_t node, uint32_t message, uint64_t began_ms)
{
    struct node *n = &f->nodes[node];
    struct view *v = view_of(f, node, message);
    struct share *p = part_of(f, v);
    uint32_t receives = f->queue.messages[message].receives;
    bool doubtful = part_was_elsewhere(receives, v->had) && !f->o->no_doubt;

    if (v->held)
        let_go(f, v);
    f->r->took_over += doubtful;
    v->handle = v->had = receives;
    v->held = true;
    if (++n->held > f->r->held_peak)
        f->r->held_peak = n->held;
    for (uint32_t i = 0; i < SLICES; i++) {
        uint64_t left = all_of(p, (int)i) & ~known(f, v, i) & ~v->flying[i] & ~v->doubt[i];
        v->pending[i] = doubtful ? 0 : left;
        if (doubtful)
            set_doubt(f, v, i, left);
    }
    keep_held(f, v, began_ms);
    enter(f, f->queue.messages[message].visible_at_ms, LAPSE, node, &f->queue.messages[message]);
    look(f, v);
}

static void receive(struct fleet *f, uint32_t node)
{
    struct node *n = &f->nodes[node];
    uint32_t got[SQS_BATCH_MAX];
    unsigned count = fifo_receive(&f->queue, n->poll_most, f->now_ms + f->o->visibility_ms, got);

    n->polling = false;
    n->poll_serial++;
    f->waiters--;
    for (unsigned i = 0; i < count; i++) {
        f->r->billed_receives += pieces(f, f->queue.messages[got[i]].part);
        if (n->health == UP && n->poll_life == n->life)
            adopt(f, node, got[i], n->poll_began_ms);
        else /* the answer is lost, or comes too late */
            enter(f, f->queue.messages[got[i]].visible_at_ms, LAPSE, node,
                  &f->queue.messages[got[i]]);
    }
    f->r->billed_receives += count == 0;
    if (n->health == UP)
        poll_queue(f, node);
}

/* What has become visible goes to those that wait for it. */
static void serve_waiters(struct fleet *f)
{
    uint32_t first = (uint32_t)roll(f, f->o->nodes);

    for (uint32_t i = 0; i < f->o->nodes && f->waiters > 0 && fifo_has_visible(&f->queue); i++)
        if (f->nodes[(first + i) % f->o->nodes].polling)
            receive(f, (first + i) % f->o->nodes);
}

static void poll_queue(struct fleet *f, uint32_t node)
{
    struct node *n = &f->nodes[node];
    struct view *v;
    uint64_t unsettled = 0;

    if (n->polling || n->health != UP || f->now_ms < n->may_receive_ms ||
        n->held >= BUFFER_HELD_MAX || !part_has_heard(n->heard_ms, f->now_ms, f->o->window_ms))
        return;
    TAILQ_FOREACH(v, &n->busy, busy)
    unsettled += ones(v->pending) + ones(v->doubt) + ones(v->flying);
    uint64_t room = part_room(atomic_load(&n->bucket.per_s_milli), unsettled);
    if (room == 0 || !fifo_call(&f->queue, FIFO_RECEIVE, f->now_ms))
        return; /* each second it looks again */
    n->polling = true;
    n->poll_began_ms = f->now_ms;
    n->poll_life = n->life;
    n->poll_most = part_receive_count(room, SQS_BATCH_MAX);
    f->waiters++;
    if (fifo_has_visible(&f->queue))
        receive(f, node);
    else
        enter_number(f, f->now_ms + part_receive_wait_s(f->o->visibility_ms) * 1000, WAITED, node,
                     n->poll_serial);
}

static void on_waited(struct fleet *f, uint32_t node, uint64_t serial)
{
    if (f->nodes[node].polling && f->nodes[node].poll_serial == serial)
        receive(f, node);
}

static void on_extend(struct fleet *f, uint32_t node)
{
    struct node *n = &f->nodes[node];
    struct view *v, *some[SQS_BATCH_MAX];
    unsigned count = 0;

    while ((v = TAILQ_FIRST(&n->extending)) != NULL && f->now_ms > v->held_until_ms &&
           v->extend_ms <= f->now_ms)
        give_up(f, v);
    for (; v != NULL && count < SQS_BATCH_MAX &&
           (count == 0 ? v->extend_ms <= f->now_ms
                       : part_may_go_along(v->extend_ms, f->now_ms, f->o->visibility_ms));
         v = TAILQ_NEXT(v, due))
        some[count++] = v;
    if (count == 0)
        return;
    bool through = n->health == UP && fifo_call(&f->queue, FIFO_CHANGE, f->now_ms);
    for (unsigned i = 0; i < count; i++) {
        v = some[i];
        TAILQ_REMOVE(&n->extending, v, due);
        if (through && fifo_change(&f->queue, v->message, v->handle, f->now_ms,
                                   f->now_ms + f->o->visibility_ms)) {
            keep_held(f, v, f->now_ms);
            continue;
        }
        set_extend(f, v, part_try_again_at(f->now_ms, f->o->visibility_ms));
    }
    go_on_sending(f, node, f->now_ms);
}

static void on_delete(struct fleet *f, uint32_t node)
{
    struct node *n = &f->nodes[node];
    struct view *v, *some[SQS_BATCH_MAX];
    unsigned count = 0;

    for (v = TAILQ_FIRST(&n->deleting);
         v != NULL && count < SQS_BATCH_MAX && v->delete_ms <= f->now_ms; v = TAILQ_NEXT(v, rests))
        some[count++] = v;
    if (count == 0)
        return;
    bool through = n->health == UP && fifo_call(&f->queue, FIFO_DELETE, f->now_ms);
    for (unsigned i = 0; i < count; i++) {
        v = some[i];
        if (through && fifo_delete(&f->queue, v->message, v->handle, f->now_ms)) {
            message_end(f, v);
        } else if (through) { /* its handle has expired: it comes back to somebody */
            give_up(f, v);
        } else {
            TAILQ_REMOVE(&n->deleting, v, rests);
            v->delete_ms = part_try_again_at(f->now_ms, f->o->visibility_ms);
            TAILQ_INSERT_TAIL(&n->deleting, v, rests);
            enter(f, v->delete_ms, DELETE, node, NULL);
        }
    }
    if (fifo_has_visible(&f->queue))
        serve_waiters(f);
    poll_queue(f, node);
}

static void on_lapse(struct fleet *f, struct fifo_message *m)
{
    uint64_t again_ms = fifo_lapse(&f->queue, (uint32_t)(m - f->queue.messages), f->now_ms);

    if (again_ms != 0)
        agenda_enter(&f->agenda,
                     (struct appointment){.at_ms = again_ms, .kind = LAPSE, .about = m});
    else if (!m->deleted)
        serve_waiters(f);
}

/* -------- troubles -------- */

static void schedule_trouble(struct fleet *f, uint32_t node)
{
    uint64_t mean_ms = (uint64_t)f->o->mean_s_between_troubles * 1000;

    if (mean_ms != 0)
        enter(f, f->now_ms + 1 + roll(f, 2 * mean_ms), TROUBLE, node, NULL);
}

/* All processes end: what they were about is in doubt, and so is what they had begun. */
static void kill_node(struct fleet *f, uint32_t node)
{
    struct node *n = &f->nodes[node];

    n->life++;
    n->calls = 0;
    n->sending = false;
    for (struct view *v = LIST_FIRST(&n->views), *next; v != NULL; v = next) {
        next = LIST_NEXT(v, of_node);
        for (uint32_t i = 0; i < SLICES; i++) {
            set_doubt(f, v, i, v->flying[i]);
            v->flying[i] = 0;
        }
        give_up(f, v);
        set_busy(n, v, false);
    }
}

static void lose(struct fleet *f, uint32_t node)
{
    if (f->nodes[node].health == LOST)
        return;
    kill_node(f, node);
    f->lost++;
    f->nodes[node].health = LOST;
}

static void on_trouble(struct fleet *f, uint32_t node)
{
    struct node *n = &f->nodes[node];
    enum health health = (enum health)(KILLED + roll(f, 3));

    f->r->troubles[health - KILLED]++;
    n->well_ms = f->now_ms + TROUBLE_LEAST_MS + roll(f, TROUBLE_MOST_MS - TROUBLE_LEAST_MS);
    if (health == KILLED) {
        if (roll(f, 1000) < f->o->lost_for_good && (f->lost + 1) * 3 <= f->o->nodes) {
            lose(f, node);
            return;
        }
        kill_node(f, node);
    }
    n->health = health;
    enter(f, n->well_ms, WELL, node, NULL);
}

/* What waited on the line, or in a half-written request, is there now; unless it is too old. */
static void unstick(struct fleet *f, struct node *n)
{
    while (n->stuck != NULL) {
        struct call *c = n->stuck;
        n->stuck = c->next;
        c->view->references--;
        if (f->o->signs_for_ever || f->now_ms - c->begun_ms <= SIGNED_FOR_MS) {
            f->r->late_requests++;
            ses_take(f, c);
        } else {
            c->arrived = c->refused = true;
        }
        if (!c->timed_out)
            continue; /* its answer is under way */
        view_release(c->view);
        free(c);
    }
}

static void on_well(struct fleet *f, uint32_t node)
{
    struct node *n = &f->nodes[node];

    if (n->health == KILLED)
        n->may_receive_ms = f->now_ms + f->o->window_ms / 4 + 2000;
    n->health = UP;
    unstick(f, n);
    schedule_trouble(f, node);
    go_on_sending(f, node, f->now_ms);
}

/* -------- each second -------- */

static void hear(struct fleet *f, struct node *n)
{
    uint64_t most = n->heard_events + (uint64_t)f->o->intake_per_s * 1000;

    n->heard_events = most < f->events ? most : f->events;
    while (n->heard_second < f->events_count && f->events_of[n->heard_second] <= n->heard_events)
        n->heard_second++;
    n->heard_ms = n->heard_second == 0 ? 0 : (n->heard_second - 1) * SECOND_MS;
    if (f->now_ms - n->heard_ms > f->r->unheard_peak_ms)
        f->r->unheard_peak_ms = f->now_ms - n->heard_ms;
}

static void on_second(struct fleet *f)
{
    if (f->events_count == f->events_cap) {
        f->events_cap = f->events_cap == 0 ? 4096 : f->events_cap * 2;
        f->events_of = mem_grow(f->events_of, f->events_cap * sizeof *f->events_of);
    }
    f->events_of[f->events_count++] = f->events;
    for (uint32_t i = 0; i < f->o->nodes; i++) {
        struct node *n = &f->nodes[i];
        if (n->health != UP)
            continue;
        hear(f, n);
        n->share = rate_share_next(n->share, n->refused, n->sent);
        n->refused = n->sent = 0;
        atomic_store(&n->bucket.per_s_milli, f->base_milli * n->share / 1000);
        poll_queue(f, i);
        go_on_sending(f, i, f->now_ms);
    }
    enter_number(f, f->now_ms + SECOND_MS, SECOND, 0, 0);
}

/* -------- clients -------- */

static void put(struct fleet *f, uint32_t part, uint32_t same_as)
{
    f->r->billed_sends += pieces(f, part);
    uint32_t message = fifo_put(&f->queue, part, same_as);
    if (same_as == FIFO_NONE)
        f->parts[part].message = message;
    if (f->waiters > 0)
        serve_waiters(f);
}

static void on_post(struct fleet *f)
{
    uint64_t per_s = f->o->posted_per_s != 0 ? f->o->posted_per_s : f->o->rate * 11 / 10;
    uint32_t part = f->posted;
    uint64_t pause_ms = 100;

    if (fifo_call(&f->queue, FIFO_SEND, f->now_ms)) {
        f->posted++;
        put(f, part, FIFO_NONE);
        f->of_posts += f->parts[part].recipients;
        uint64_t next_ms = f->of_posts * 1000 / per_s;
        pause_ms = next_ms > f->now_ms ? next_ms - f->now_ms : 0;
        if (roll(f, 1000) < f->o->repeats)
            enter_number(f, f->now_ms + roll(f, REPEAT_WITHIN_MS), REPEAT, 0, part);
    }
    if (f->posted < f->part_count)
        enter_number(f, f->now_ms + pause_ms, POST, 0, 0);
}

/* The same readers at another machine: a message of its own in the same group. */
static void on_repeat(struct fleet *f, uint32_t part)
{
    if (!fifo_call(&f->queue, FIFO_SEND, f->now_ms))
        enter_number(f, f->now_ms + 100, REPEAT, 0, part);
    else
        put(f, part, f->parts[part].message);
}

/* -------- the run -------- */

static void dispatch_to_node(struct fleet *f, const struct appointment *a)
{
    struct node *n = &f->nodes[a->node];

    if (a->life != n->life)
        return;
    if (n->health == FROZEN)
        enter(f, n->well_ms + 1, (enum kind)a->kind, a->node, NULL);
    else if (a->kind == SEND)
        on_send(f, a->node);
    else if (a->kind == EXTEND)
        on_extend(f, a->node);
    else
        on_delete(f, a->node);
}

static void dispatch_call(struct fleet *f, const struct appointment *a)
{
    if (a->life != f->nodes[a->node].life)
        outlive(f, a->about);
    else if (a->kind == ARRIVE)
        on_arrive(f, a->about);
    else
        on_answer(f, a->about);
}

static void dispatch(struct fleet *f, const struct appointment *a)
{
    switch ((enum kind)a->kind) {
    case POST:
        on_post(f);
        return;
    case REPEAT:
        on_repeat(f, (uint32_t)a->number);
        return;
    case SECOND:
        on_second(f);
        return;
    case LAPSE:
        on_lapse(f, a->about);
        return;
    case DOUBT:
        on_doubt(f, a->about);
        return;
    case WAITED:
        on_waited(f, a->node, a->number);
        return;
    case ARRIVE:
    case ANSWER:
        dispatch_call(f, a);
        return;
    case SEND:
    case EXTEND:
    case DELETE:
        dispatch_to_node(f, a);
        return;
    case TROUBLE:
        if (f->nodes[a->node].health == UP)
            on_trouble(f, a->node);
        return;
    case WELL:
        if (f->nodes[a->node].health != LOST)
            on_well(f, a->node);
        return;
    case LOSE:
        lose(f, a->node);
        return;
    }
}

static void make_parts(struct fleet *f)
{
    uint64_t left = f->o->recipients;

    cut_a_post(f);
    for (uint64_t at = 0; at < left; f->part_count++)
        at += f->cut.list[f->part_count % f->cut.count].recipient_count;
    f->parts = mem_zero(f->part_count, sizeof *f->parts);
    for (uint32_t i = 0; i < f->part_count; i++) {
        uint32_t some = f->cut.list[i % f->cut.count].recipient_count;
        f->parts[i].recipients = left < some ? (uint32_t)left : some;
        left -= f->parts[i].recipients;
    }
}

static void make_nodes(struct fleet *f)
{
    const struct fleet_options *o = f->o;

    f->config.sender.rate_kind = RATE_SHARE;
    f->config.sender.rate_percent = o->share_percent != 0 ? o->share_percent : 100 / o->nodes;
    f->base_milli = rate_allowed(&f->config, o->rate * 1000, false);
    f->entries = rate_entries_max(f->base_milli);
    if (f->entries < o->entries_least)
        f->entries = o->entries_least;
    f->nodes = mem_zero(o->nodes, sizeof *f->nodes);
    for (uint32_t i = 0; i < o->nodes; i++) {
        struct node *n = &f->nodes[i];
        TAILQ_INIT(&n->busy);
        TAILQ_INIT(&n->extending);
        TAILQ_INIT(&n->deleting);
        n->share = 1000;
        atomic_store(&n->bucket.per_s_milli, f->base_milli);
        schedule_trouble(f, i);
    }
}

static void fleet_open(struct fleet *f, const struct fleet_options *o, struct fleet_result *r)
{
    *f = (struct fleet){.o = o, .r = r, .dice = (o->seed + 1) * UINT64_C(0x9e3779b97f4a7c15)};
    *r = (struct fleet_result){.is_over = true};
    make_parts(f);
    make_nodes(f);
    uint32_t cap = f->part_count * (o->repeats != 0 ? 2 : 1);
    f->views = mem_zero(cap, sizeof(struct view *));
    fifo_open(&f->queue, cap, o->calls_max, o->in_flight_max);
    enter_number(f, 0, SECOND, 0, 0);
    enter_number(f, 0, POST, 0, 0);
    if (o->first_is_lost_ms != 0)
        enter_number(f, o->first_is_lost_ms, LOSE, 0, 0);
}

/* Calls and views that are still entered, or on a line. */
static void drop_entered(struct fleet *f)
{
    struct appointment a;

    for (uint32_t i = 0; i < f->o->nodes; i++)
        unstick(f, &f->nodes[i]);
    while (agenda_next(&f->agenda, &a)) {
        if (a.kind == ARRIVE || a.kind == ANSWER) {
            outlive(f, a.about);
        } else if (a.kind == DOUBT) {
            ((struct view *)a.about)->references--;
            view_release(a.about);
        }
    }
}

static void fleet_close(struct fleet *f)
{
    for (uint32_t i = 0; i < f->queue.count; i++)
        while (f->views[i] != NULL) {
            let_go(f, f->views[i]);
            view_drop(f, f->views[i]);
        }
    drop_entered(f);
    for (uint32_t i = 0; i < f->part_count; i++)
        free(f->parts[i].log);
    agenda_fini(&f->agenda);
    fifo_close(&f->queue);
    arena_fini(&f->arena);
    free(f->parts);
    free(f->views);
    free(f->nodes);
    free(f->events_of);
}

static void sum_up(struct fleet *f)
{
    struct fleet_result *r = f->r;

    r->missing = f->o->recipients - r->taken;
    r->ended_ms = f->now_ms;
    r->notices = f->events / 1000 * f->o->nodes;
    r->event_calls = (r->notices + SQS_BATCH_MAX - 1) / SQS_BATCH_MAX * 2;
    r->in_flight_peak = f->queue.in_flight_peak;
    r->queue_refused = f->queue.refused;
    r->queue_full = f->queue.full;
    for (int i = 0; i < FIFO_ACTIONS; i++) {
        r->calls[i] = f->queue.calls[i];
        r->busiest[i] = f->queue.busiest[i];
    }
}

void fleet_run(const struct fleet_options *o, struct fleet_result *r)
{
    struct fleet f;
    struct appointment a;

    fleet_open(&f, o, r);
    while (r->is_over && (f.posted < f.part_count || f.queue.left > 0) &&
           agenda_next(&f.agenda, &a)) {
        f.now_ms = a.at_ms;
        r->is_over = f.now_ms < FLEET_LONGEST_MS;
        dispatch(&f, &a);
    }
    sum_up(&f);
    fleet_close(&f);
}
