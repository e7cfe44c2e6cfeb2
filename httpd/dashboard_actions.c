/*
 * POST api/…: what an operator does, through the same requests to the writer as the command line's.
 *
 *   batches/ID/VERB      pause, resume, cancel, resend
 *   domains/NAME/VERB    pause, resume, cancel: its newsletters
 *   deadletters/ID/VERB  replay, drop; ID "all": the newest ASKED_AT_ONCE of them
 */
#include <inttypes.h>

#include "base/digest.h"
#include "base/json.h"
#include "httpd/dashboard.h"
#include "httpd/reply.h"
#include "store/control.h"
#include "store/deadletters.h"

enum { ASKED_AT_ONCE = 256 };

static uint32_t verb_of(struct slice word)
{
    static const struct {
        const char *word;
        enum control_verb verb;
    } verbs[] = {{"pause", CONTROL_PAUSE},   {"resume", CONTROL_RESUME}, {"cancel", CONTROL_CANCEL},
                 {"resend", CONTROL_RESEND}, {"replay", CONTROL_REPLAY}, {"drop", CONTROL_DROP}};

    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (slice_eq(word, slice_str(verbs[i].word)))
            return verbs[i].verb;
    return 0;
}

static void on_done(struct exchange *x, const struct record_answer *answer)
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

static bool on_letter(void *arg, const struct deadletter *d)
{
    struct buf *ids = arg;

    buf_add(ids, d->id, DEADLETTER_ID_BYTES);
    return ids->len < ASKED_AT_ONCE * DEADLETTER_ID_BYTES;
}

static void act_on_letters(struct exchange *x, uint32_t verb, struct slice which)
{
    struct buf ids = {0};
    struct store_txn *t;

    if (slice_eq(which, SLICE("all"))) {
        t = dashboard_begin_read(x);
        if (t == NULL)
            return;
        deadletter_each(t, on_letter, &ids);
        store_end_read(t);
    } else if (!text_from_hex(&ids, which) || ids.len != DEADLETTER_ID_BYTES) {
        buf_fini(&ids);
        reply_message(x, 404, SLICE("There is no such dead letter"));
        return;
    }
    struct slice chosen = arena_dup(&x->arena, buf_slice(&ids));
    buf_fini(&ids);
    (void)dashboard_ask(x, &(struct record_control){.verb = verb, .ids = chosen}, on_done);
}

static void act_on_batch(struct exchange *x, uint32_t verb, struct slice which)
{
    uint64_t batch_id = dashboard_batch_id(which);

    if (batch_id == 0)
        reply_message(x, 404, SLICE("There is no such batch"));
    else
        (void)dashboard_ask(x, &(struct record_control){.verb = verb, .batch_id = batch_id},
                            on_done);
}

bool dashboard_act(struct exchange *x, const struct dashboard_path *p)
{
    uint32_t verb = p->count == 3 ? verb_of(p->part[2]) : 0;
    bool of_letters = verb == CONTROL_REPLAY || verb == CONTROL_DROP;

    if (verb == 0 || evhttp_request_get_command(x->req) != EVHTTP_REQ_POST)
        return false;
    if (slice_eq(p->part[0], SLICE("batches")) && !of_letters) {
        if (dashboard_may_act(x))
            act_on_batch(x, verb, p->part[1]);
    } else if (slice_eq(p->part[0], SLICE("domains")) && !of_letters) {
        if (dashboard_may_act(x))
            (void)dashboard_ask(x, &(struct record_control){.verb = verb, .domain = p->part[1]},
                                on_done);
    } else if (slice_eq(p->part[0], SLICE("deadletters")) && of_letters) {
        if (dashboard_may_act(x))
            act_on_letters(x, verb, p->part[1]);
    } else {
        return false;
    }
    return true;
}
