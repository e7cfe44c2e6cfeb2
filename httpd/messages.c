/*
 * POST /v3/{domain}/messages and …/messages.mime: the form becomes an ACCEPT record; the client
 * hears 200 once the writer has it on disk.
 *
 * SOURCE  spec/mailgun.md §2 and §3; design.md P1.
 */
#include <event2/buffer.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/log.h"
#include "base/pack.h"
#include "httpd/body.h"
#include "httpd/messages.h"
#include "httpd/reply.h"
#include "mail/address.h"
#include "mail/form.h"
#include "store/templates.h"

_Static_assert((int)MESSAGE_SLICE == (int)LEASE_RECIPIENTS_MAX, "a slice is a lease's size");

void message_refuse(struct exchange *x, int status, struct slice message)
{
    log_warn("a message for %s from %.*s was refused: %d %.*s", x->domain->name,
             SLICE_ARGS(x->client.address), status, SLICE_ARGS(message));
    reply_message(x, status, message);
}

/* A full ring loses it: then a repeat is a second mail, as it is for Mailgun. The id is the one in
 * the answer, which may be that of an earlier POST; without an answer, the one asked for. */
static void tell_unheard(struct exchange *x, const struct record_answer *answer)
{
    const struct message_pending *p = x->pending;
    struct service *s = x->service;

    if (p->digest.len == 0)
        return;
    struct record_unheard r = {.domain = x->route.domain,
                               .digest = p->digest,
                               .answer_id = answer != NULL && answer->text.len > 0 ? answer->text
                                                                                   : p->answer_id};
    buf_reset(&s->record);
    record_unheard_encode(&s->record, &r);
    (void)service_push(s);
}

bool message_is_kept(struct exchange *x, const struct record_answer *answer)
{
    if (answer == NULL || (answer->verdict == ANSWER_OK && server_peer_is_gone(x->req)))
        tell_unheard(x, answer);
    if (answer == NULL) {
        log_warn("the writer has not answered for %d s: a message for %s stays unconfirmed",
                 WRITER_PATIENCE_MS / 1000, x->domain->name);
        reply_later(x, 503, 10, SLICE("The message could not be stored in time, please try again"));
        return false;
    }
    switch (answer->verdict) {
    case ANSWER_OK:
        exchange_note_latency(x, LATENCY_ACCEPT);
        return true;
    case ANSWER_FULL:
        log_warn("a message for %s was refused: the disk is full", x->domain->name);
        reply_later(x, 503, 60, SLICE("The server's disk is full, nothing was queued"));
        return false;
    case ANSWER_TOO_LARGE:
        message_refuse(x, 413, answer->text);
        return false;
    default:
        log_error("the writer refused a message for %s: %.*s", x->domain->name,
                  SLICE_ARGS(answer->text));
        reply_message(x, 500, SLICE("Internal Server Error"));
        return false;
    }
}

static void on_answer(struct exchange *x, const struct record_answer *answer)
{
    struct buf body = {0};

    if (!message_is_kept(x, answer))
        return;
    buf_add_str(&body, "{");
    json_put_str(&body, "id", answer->text);
    json_put_str(&body, "message", SLICE("Queued. Thank you."));
    buf_add_str(&body, "}");
    reply_json(x, 200, &body);
}

const struct message_way message_way_mailgun = {.answered = on_answer};

static void pack_slices(struct buf *to, const struct submission *s)
{
    struct buf one = {0};

    pack_array(to, (s->recipient_count + MESSAGE_SLICE - 1) / MESSAGE_SLICE);
    for (size_t at = 0; at < s->recipient_count; at += MESSAGE_SLICE) {
        size_t left = s->recipient_count - at;

        buf_reset(&one);
        recipients_pack(&one, s->recipients + at, left < MESSAGE_SLICE ? left : MESSAGE_SLICE);
        pack_bin(to, buf_slice(&one));
    }
    buf_fini(&one);
}

static void encode_accept(struct service *s, const struct submission *m, uint64_t request_id,
                          struct slice digest, const struct message_way *way)
{
    struct buf head = {0}, content = {0}, slices = {0}, claims = {0};

    message_head_pack(&head, &m->head);
    message_content_pack(&content, &m->content);
    pack_slices(&slices, m);
    submission_claims(m, &claims);
    const struct record_accept record = {
        .request_id = request_id,
        .generation = s->me->generation,
        .domain = m->head.domain,
        .answer_id = m->answer_id,
        .head = buf_slice(&head),
        .content = buf_slice(&content),
        .slices = buf_slice(&slices),
        .recipient_count = (uint32_t)m->recipient_count,
        .claims = buf_slice(&claims),
        .due_wall_ms = m->head.due_wall_ms,
        .lane = m->head.lane,
        .testmode = m->head.testmode,
        .digest = digest,
        .once = way->once,
        .awaited = way->awaited,
    };
    buf_reset(&s->record);
    record_accept_encode(&s->record, &record);
    buf_fini(&head);
    buf_fini(&content);
    buf_fini(&slices);
    buf_fini(&claims);
}

static bool is_transactional(const struct config_domain *d, const struct message_head *head)
{
    for (size_t i = 0; i < d->transactional_tags.count; i++)
        for (size_t n = 0; n < head->tag_count; n++)
            if (slice_eq_nocase(slice_str(d->transactional_tags.texts[i]), head->tags[n]))
                return true;
    return false;
}

static bool entry_allows(struct slice entry, struct slice address)
{
    size_t at = slice_rfind_byte(address, '@');
    struct slice domain = at == SIZE_MAX ? slice_none() : slice_from(address, at + 1);

    if (slice_find_byte(entry, '@') != SIZE_MAX)
        return slice_eq_nocase(entry, address);
    if (!slice_starts(entry, SLICE("*.")))
        return slice_eq_nocase(entry, domain);
    struct slice parent = slice_from(entry, 1);
    return domain.len > parent.len &&
           slice_eq_nocase(slice_from(domain, domain.len - parent.len), parent);
}

bool message_from_is_allowed(const struct config_domain *d, struct slice from, struct arena *a,
                             struct slice *wrong)
{
    struct mailbox m;
    bool any = d->allowed_from.count == 0;

    *wrong = from;
    while (d->allowed_from.count > 0 && address_next(&from, a, &m) == ADDRESS_OK) {
        bool allowed = false;
        for (size_t i = 0; i < d->allowed_from.count && !allowed; i++)
            allowed = entry_allows(slice_str(d->allowed_from.texts[i]), m.address);
        *wrong = m.address;
        if (!allowed)
            return false;
        any = true;
    }
    return any;
}

static void hand_over(struct exchange *x, const struct submission *m,
                      const uint8_t digest[CLAIM_BYTES], const struct message_way *way)
{
    struct service *s = x->service;
    struct arena kept = {0};

    if (server_peer_is_gone(x->req)) {
        log_info("a client of %s left before its message was handed over: dropped",
                 x->domain->name);
        reply_later(x, 503, 1, SLICE("The connection was closed, nothing was queued"));
        return;
    }
    uint64_t id = inbox_wait(s->inbox, x, clock_mono_ms() + WRITER_PATIENCE_MS, way->answered);
    if (id == 0) {
        reply_later(x, 429, 1, SLICE("Too many requests are waiting, please try again"));
        return;
    }
    struct message_pending *pending = arena_alloc(&kept, sizeof *pending);
    pending->recipient_count = m->head.recipient_count;
    if (m->head.email_id.len == 0 && way->once.len == 0) {
        pending->digest = arena_dup(&kept, slice_of(digest, CLAIM_BYTES));
        pending->answer_id = arena_dup(&kept, m->answer_id);
    }
    encode_accept(s, m, id, pending->digest, way);
    enum ring_result pushed = service_push(s);
    if (pushed != RING_OK) {
        inbox_forget(s->inbox, id);
        arena_fini(&kept);
        service_refuse(x, pushed);
        return;
    }
    /* The record is a copy of all that is needed from here on. */
    arena_fini(&x->arena);
    x->arena = kept;
    x->pending = pending;
    x->route.domain = slice_str(x->domain->name);
    x->query = x->route.raw_domain = x->route.version = x->route.leaf = x->route.resource =
        slice_none();
    struct evbuffer *input = evhttp_request_get_input_buffer(x->req);
    evbuffer_drain(input, evbuffer_get_length(input));
}

void message_submit(struct exchange *x, struct submission *m, const uint8_t digest[],
                    const struct message_way *way)
{
    struct slice wrong;

    if (!message_from_is_allowed(x->domain, m->head.from, &x->arena, &wrong)) {
        message_refuse(x, 400,
                       arena_printf(&x->arena, "'from' parameter: %.*s may not send for %s",
                                    SLICE_ARGS(slice_head(wrong, ADDRESS_BYTES_MAX)),
                                    x->domain->name));
        return;
    }
    if (is_transactional(x->domain, &m->head))
        m->head.lane = LANE_TRANSACTIONAL;
    m->head.request_id = slice_str(x->request_id);
    hand_over(x, m, digest, way);
}

/* The stored template that the form names, if there is one. False: the exchange has been answered. */
static bool find_template(struct exchange *x, const struct form *form,
                          struct submission_context *context)
{
    struct stored_template *stored = arena_alloc(&x->arena, sizeof *stored);
    struct slice name, tag;
    struct template_row row;
    struct template_version version;

    if (!submission_template(form, &name, &tag))
        return true;
    struct store_txn *t = exchange_begin_read(x);
    if (t == NULL)
        return false;
    name = template_name_fold(name, &x->arena);
    if (template_get(t, context->domain, name, &row) &&
        template_version_get(t, context->domain, name,
                             tag.len > 0 ? template_name_fold(tag, &x->arena) : row.active,
                             &version)) {
        stored->content = arena_dup(&x->arena, version.content);
        stored->headers = arena_dup(&x->arena, version.headers);
        context->template = stored;
    }
    store_end_read(t);
    return true;
}

void messages_handle(struct exchange *x)
{
    struct submission_context context = {
        .domain = slice_str(x->domain->name),
        .path_domain = x->route.domain,
        .now_us = clock_wall_us(),
    };
    struct slice body;
    struct form form;
    struct submission submission = {0};
    struct refusal why = {0};
    uint8_t digest[CLAIM_BYTES] = {0};

    if (!body_read(x, &body))
        return;
    digest_random(&context.random, sizeof context.random);
    bool is_mime = x->route.kind == ROUTE_MESSAGES_MIME;
    bool is_form = form_parse(exchange_header(x, "Content-Type"), body, &x->arena, &form, &why);
    if (is_form && !find_template(x, &form, &context))
        return;
    if (!is_form || !(is_mime ? submission_from_mime : submission_from_form)(
                        &form, &context, &x->arena, &submission, &why)) {
        message_refuse(x, why.status, why.message);
        return;
    }
    if (submission.head.email_id.len == 0)
        form_digest(&form, context.domain, digest);
    message_submit(x, &submission, digest, &message_way_mailgun);
}
