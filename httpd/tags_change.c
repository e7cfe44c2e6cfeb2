/*
 * PUT and DELETE of a tag, as tags/{tag} or tag?tag=: its description, or that it is not listed any
 * more. Answered once the writer has it on disk.
 *
 * SOURCE  spec/mailgun.md §7.1.
 */
#include "base/clock.h"
#include "base/log.h"
#include "httpd/body.h"
#include "httpd/reply.h"
#include "mail/form.h"

enum { DESCRIPTION_BYTES_MAX = 1000 };

static void on_answer(struct exchange *x, const struct record_answer *answer)
{
    bool gone = evhttp_request_get_command(x->req) == EVHTTP_REQ_DELETE;

    if (answer == NULL) {
        reply_later(x, 503, 10, SLICE("The tag could not be changed in time, please try again"));
    } else if (answer->verdict == ANSWER_OK) {
        reply_message(x, 200, gone ? SLICE("Tag deleted") : SLICE("Tag updated"));
    } else if (answer->verdict == ANSWER_NOT_FOUND) {
        reply_message(x, 404, SLICE("tag not found"));
    } else {
        log_error("the writer did not change a tag of %s: %.*s", x->domain->name,
                  SLICE_ARGS(answer->text));
        reply_message(x, 500, SLICE("Internal Server Error"));
    }
}

/* The description of the form or the query; false: the exchange is answered. */
static bool read_description(struct exchange *x, struct slice *description)
{
    struct slice query = x->query, name, value, body;
    struct refusal why = {0};
    struct form form = {0};

    *description = slice_none();
    while (query_next(&query, &x->arena, &name, &value))
        if (slice_eq(name, SLICE("description")))
            *description = value;
    if (!body_read(x, &body))
        return false;
    if (body.len > 0 &&
        !form_parse(exchange_header(x, "Content-Type"), body, &x->arena, &form, &why)) {
        reply_message(x, why.status, why.message);
        return false;
    }
    for (size_t i = 0; i < form.count; i++)
        if (slice_eq(form.fields[i].name, SLICE("description")))
            *description = form.fields[i].value;
    if (description->len <= DESCRIPTION_BYTES_MAX && slice_is_utf8(*description) &&
        slice_find_byte(*description, 0) == SIZE_MAX)
        return true;
    reply_message(x, 400, SLICE("description parameter: at most 1000 bytes of text"));
    return false;
}

void tag_change(struct exchange *x, struct slice tag)
{
    bool gone = evhttp_request_get_command(x->req) == EVHTTP_REQ_DELETE;
    struct service *s = x->service;
    struct slice description = {0};

    if (!gone && !read_description(x, &description))
        return;
    uint64_t id = inbox_wait(s->inbox, x, clock_mono_ms() + WRITER_PATIENCE_MS, on_answer);
    if (id == 0) {
        reply_later(x, 429, 1, SLICE("Too many requests are waiting, please try again"));
        return;
    }
    const struct record_tag record = {
        .request_id = id,
        .generation = s->me->generation,
        .domain = slice_str(x->domain->name),
        .tag = tag,
        .description = description,
        .gone = gone,
    };
    buf_reset(&s->record);
    record_tag_encode(&s->record, &record);
    enum ring_result pushed = service_push(s);
    if (pushed != RING_OK) {
        inbox_forget(s->inbox, id);
        service_refuse(x, pushed);
    }
}
