/*
 * POST api/…: what an operator does, through the same requests to the writer as the command line's.
 *
 *   batches/ID/VERB      pause, resume, cancel, resend
 *   domains/NAME/VERB    pause, resume, cancel: its newsletters
 *   deadletters/ID/VERB  replay, drop; ID "all": all of them, or with ?search= those that fit
 *   webhooks/ID/VERB     the same, of the events that a receiver did not take
 *   sessions/ID/end      somebody is signed out; ID "others": all but who asks
 */
#include <inttypes.h>

#include "base/digest.h"
#include "base/json.h"
#include "httpd/dashboard.h"
#include "httpd/reply.h"
#include "store/control.h"
#include "store/deadletters.h"

enum {
    PART_BYTES = 16 * 1024, /* of ids: so many are one commit, and the others wait no longer */
    IDS_BYTES_MAX = 4 * 1024 * 1024,
};

void dashboard_on_done(struct exchange *x, const struct record_answer *answer)
{
    struct buf body = {0};

    if (answer == NULL) {
        reply_later(x, 503, 1,
                    SLICE("The writer did not answer in time: look whether it was done"));
        return;
    }
    buf_add_byte(&body, '{');
    json_put_bool(&body, "done", answer->verdict == ANSWER_OK);
    json_put_u64(&body, "count", answer->count);
    json_put_str(&body, "message", answer->text);
    buf_add_byte(&body, '}');
    reply_json(x,
               answer->verdict == ANSWER_OK          ? 200
               : answer->verdict == ANSWER_NOT_FOUND ? 404
                                                     : 409,
               &body);
}

/* ---- many at once ---- */

/* In the exchange's arena, while its parts are asked for one after another. */
struct asking {
    uint32_t verb, count;
    struct slice ids;
    size_t part_bytes;
};

static void on_part(struct exchange *x, const struct record_answer *answer);

static void ask_part(struct exchange *x)
{
    struct asking *a = x->pending;
    struct slice part = slice_head(a->ids, a->part_bytes);

    a->ids = slice_from(a->ids, part.len);
    (void)dashboard_ask(x, &(struct record_control){.verb = a->verb, .ids = part}, on_part);
}

/* What one part did stays done, whatever becomes of the next. */
static void on_part(struct exchange *x, const struct record_answer *answer)
{
    struct asking *a = x->pending;
    struct record_answer sum;

    if (answer == NULL || (answer->verdict != ANSWER_OK && answer->verdict != ANSWER_NOT_FOUND)) {
        dashboard_on_done(x, answer);
        return;
    }
    a->count += answer->count;
    if (a->ids.len > 0) {
        ask_part(x);
        return;
    }
    sum = *answer;
    sum.count = a->count;
    if (a->count > 0)
        sum.verdict = ANSWER_OK;
    dashboard_on_done(x, &sum);
}

bool dashboard_ids_are_enough(const struct buf *ids)
{
    return ids->len >= IDS_BYTES_MAX;
}

void dashboard_ask_all(struct exchange *x, uint32_t verb, struct buf *ids, size_t id_bytes)
{
    struct asking *a = arena_alloc(&x->arena, sizeof *a);

    *a = (struct asking){.verb = verb,
                         .ids = arena_dup(&x->arena, buf_slice(ids)),
                         .part_bytes = PART_BYTES / id_bytes * id_bytes};
    buf_fini(ids);
    if (a->ids.len == 0) {
        reply_message(x, 404, SLICE("There is none"));
        return;
    }
    x->pending = a;
    ask_part(x);
}

/* ---- dead letters ---- */

struct letters {
    struct slice search;
    struct buf ids;
};

static bool on_letter(void *arg, const struct deadletter *d)
{
    struct letters *l = arg;

    if (deadletter_holds(d, l->search))
        buf_add(&l->ids, d->id, DEADLETTER_ID_BYTES);
    return !dashboard_ids_are_enough(&l->ids);
}

static void act_on_letters(struct exchange *x, uint32_t verb, struct slice which)
{
    struct letters l = {.search = dashboard_query(x, "search")};
    struct store_txn *t;

    if (slice_eq(which, SLICE("all"))) {
        t = dashboard_begin_read(x);
        if (t == NULL)
            return;
        deadletter_each(t, on_letter, &l);
        store_end_read(t);
    } else if (!text_from_hex(&l.ids, which) || l.ids.len != DEADLETTER_ID_BYTES) {
        buf_fini(&l.ids);
        reply_message(x, 404, SLICE("There is no such dead letter"));
        return;
    }
    dashboard_ask_all(x, verb, &l.ids, DEADLETTER_ID_BYTES);
}

/* ---- mail ---- */

static void act_on_batch(struct exchange *x, uint32_t verb, struct slice which)
{
    uint64_t batch_id = dashboard_batch_id(which);

    if (batch_id == 0)
        reply_message(x, 404, SLICE("There is no such batch"));
    else
        (void)dashboard_ask(x, &(struct record_control){.verb = verb, .batch_id = batch_id},
                            dashboard_on_done);
}

static void act_on_domain(struct exchange *x, uint32_t verb, struct slice which)
{
    (void)dashboard_ask(x, &(struct record_control){.verb = verb, .domain = which},
                        dashboard_on_done);
}

static void act_on_session(struct exchange *x, uint32_t verb, struct slice which)
{
    (void)verb; /* there is one */
    dashboard_sessions_end(x, which);
}

/* ---- */

static const struct {
    const char *place, *word;
    enum control_verb verb;
    void (*act)(struct exchange *x, uint32_t verb, struct slice which);
} acts[] = {
    {"batches", "pause", CONTROL_PAUSE, act_on_batch},
    {"batches", "resume", CONTROL_RESUME, act_on_batch},
    {"batches", "cancel", CONTROL_CANCEL, act_on_batch},
    {"batches", "resend", CONTROL_RESEND, act_on_batch},
    {"domains", "pause", CONTROL_PAUSE, act_on_domain},
    {"domains", "resume", CONTROL_RESUME, act_on_domain},
    {"domains", "cancel", CONTROL_CANCEL, act_on_domain},
    {"deadletters", "replay", CONTROL_REPLAY, act_on_letters},
    {"deadletters", "drop", CONTROL_DROP, act_on_letters},
    {"webhooks", "replay", CONTROL_WEBHOOK_REPLAY, dashboard_webhooks_act},
    {"webhooks", "drop", CONTROL_WEBHOOK_DROP, dashboard_webhooks_act},
    {"sessions", "end", CONTROL_SESSIONS_END, act_on_session},
};

bool dashboard_act(struct exchange *x, const struct dashboard_path *p)
{
    if (p->count != 3 || evhttp_request_get_command(x->req) != EVHTTP_REQ_POST)
        return false;
    for (size_t i = 0; i < sizeof acts / sizeof acts[0]; i++) {
        if (!slice_eq(p->part[0], slice_str(acts[i].place)) ||
            !slice_eq(p->part[2], slice_str(acts[i].word)))
            continue;
        if (dashboard_may_act(x))
            acts[i].act(x, acts[i].verb, p->part[1]);
        return true;
    }
    return false;
}
