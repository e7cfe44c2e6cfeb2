/*
 * What is queued. DELETE /v3/{domain}/envelopes: what is scheduled or not yet given to SES is
 * cancelled, of newsletters and of all other mail; answered once the writer has it on disk. GET
 * /v3/domains/{domain}/sending_queues: whether anything keeps it from being sent, as the writer
 * knows.
 *
 * SOURCE  spec/mailgun.md §6.
 */
#include "base/clock.h"
#include "base/log.h"
#include "httpd/reply.h"

/* Hands s->record over under this id. */
static void ask(struct exchange *x, uint64_t id)
{
    enum ring_result pushed = service_push(x->service);

    if (pushed != RING_OK) {
        inbox_forget(x->service->inbox, id);
        service_refuse(x, pushed);
    }
}

/* A place to wait in; 0 = there is none, and the exchange is answered. */
static uint64_t wait_for(struct exchange *x, inbox_visitor *answered)
{
    uint64_t id = inbox_wait(x->service->inbox, x, clock_mono_ms() + WRITER_PATIENCE_MS, answered);

    if (id == 0)
        reply_later(x, 429, 1, SLICE("Too many requests are waiting, please try again"));
    buf_reset(&x->service->record);
    return id;
}

static void refuse(struct exchange *x, const struct record_answer *answer, const char *what)
{
    log_error("the writer did not %s of %s: %.*s", what, x->domain->name, SLICE_ARGS(answer->text));
    reply_message(x, 500, SLICE("Internal Server Error"));
}

static void on_cancelled(struct exchange *x, const struct record_answer *answer)
{
    if (answer == NULL)
        reply_later(x, 503, 10, SLICE("It could not be cancelled in time, please try again"));
    else if (answer->verdict == ANSWER_OK)
        reply_message(x, 200, SLICE("done"));
    else
        refuse(x, answer, "clear the queues");
}

void envelopes_handle(struct exchange *x)
{
    char key[AUTH_FINGERPRINT];
    uint64_t id = wait_for(x, on_cancelled);

    if (id == 0)
        return;
    auth_fingerprint(exchange_header(x, "Authorization"), key);
    const struct record_cancel record = {
        .request_id = id,
        .generation = x->service->me->generation,
        .domain = slice_str(x->domain->name),
        .by = arena_printf(&x->arena, "DELETE /v3/%s/envelopes from %.*s with the key %s",
                           x->domain->name, SLICE_ARGS(x->client.address), key),
    };
    record_cancel_encode(&x->service->record, &record);
    ask(x, id);
}

static void on_queues(struct exchange *x, const struct record_answer *answer)
{
    struct buf body = {0};

    if (answer == NULL) {
        reply_later(x, 503, 10, SLICE("The queues could not be seen in time, please try again"));
    } else if (answer->verdict == ANSWER_OK) {
        buf_add_slice(&body, answer->text);
        reply_json(x, 200, &body);
    } else {
        refuse(x, answer, "tell the queues");
    }
}

void sending_queues_handle(struct exchange *x)
{
    uint64_t id = wait_for(x, on_queues);

    if (id == 0)
        return;
    const struct record_queues record = {
        .request_id = id,
        .generation = x->service->me->generation,
        .domain = slice_str(x->domain->name),
    };
    record_queues_encode(&x->service->record, &record);
    ask(x, id);
}
