#include "httpd/change.h"

#include "base/clock.h"
#include "base/log.h"
#include "httpd/reply.h"

uint64_t change_begin(struct exchange *x, inbox_visitor *on_answer)
{
    struct service *s = x->service;
    uint64_t id = inbox_wait(s->inbox, x, clock_mono_ms() + WRITER_PATIENCE_MS, on_answer);

    if (id == 0)
        reply_later(x, 429, 1, SLICE("Too many requests are waiting, please try again"));
    return id;
}

void change_push(struct exchange *x, uint64_t request_id)
{
    struct service *s = x->service;
    enum ring_result pushed = service_push(s);

    if (pushed != RING_OK) {
        inbox_forget(s->inbox, request_id);
        service_refuse(x, pushed);
    }
}

bool change_is_done(struct exchange *x, const struct record_answer *answer, const char *what,
                    struct slice not_found)
{
    if (answer == NULL) {
        reply_later(x, 503, 10, SLICE("It could not be stored in time, please try again"));
        return false;
    }
    switch (answer->verdict) {
    case ANSWER_OK:
        return true;
    case ANSWER_NOT_FOUND:
        reply_message(x, 404, not_found.len > 0 ? not_found : answer->text);
        return false;
    case ANSWER_REFUSED:
        reply_message(x, 400, answer->text);
        return false;
    case ANSWER_LIMIT:
        reply_message(x, 409, answer->text);
        return false;
    case ANSWER_FULL:
        reply_later(x, 503, 60, SLICE("The server's disk is full, nothing was changed"));
        return false;
    default:
        log_error("the writer's answer about a %s of %s is not understood", what, x->domain->name);
        reply_message(x, 500, SLICE("Internal Server Error"));
        return false;
    }
}
