/*
 * DELETE /v3/{domain}/envelopes: what is scheduled or not yet given to SES is cancelled, of
 * newsletters and of all other mail. Answered once the writer has it on disk.
 *
 * SOURCE  spec/mailgun.md §6.
 */
#include "base/clock.h"
#include "base/log.h"
#include "httpd/reply.h"

static void on_answer(struct exchange *x, const struct record_answer *answer)
{
    if (answer == NULL) {
        reply_later(x, 503, 10, SLICE("It could not be cancelled in time, please try again"));
    } else if (answer->verdict == ANSWER_OK) {
        reply_message(x, 200, SLICE("done"));
    } else {
        log_error("the writer did not clear the queues of %s: %.*s", x->domain->name,
                  SLICE_ARGS(answer->text));
        reply_message(x, 500, SLICE("Internal Server Error"));
    }
}

void envelopes_handle(struct exchange *x)
{
    struct service *s = x->service;
    uint64_t id = inbox_wait(s->inbox, x, clock_mono_ms() + WRITER_PATIENCE_MS, on_answer);

    if (id == 0) {
        reply_later(x, 429, 1, SLICE("Too many requests are waiting, please try again"));
        return;
    }
    const struct record_cancel record = {
        .request_id = id,
        .generation = s->me->generation,
        .domain = slice_str(x->domain->name),
    };
    buf_reset(&s->record);
    record_cancel_encode(&s->record, &record);
    enum ring_result pushed = service_push(s);
    if (pushed != RING_OK) {
        inbox_forget(s->inbox, id);
        service_refuse(x, pushed);
    }
}
