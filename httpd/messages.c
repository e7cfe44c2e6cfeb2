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
#include "httpd/reply.h"
#include "mail/address.h"
#include "mail/form.h"

_Static_assert((int)MESSAGE_SLICE == (int)LEASE_RECIPIENTS_MAX, "a slice is a lease's size");

static void refuse(struct exchange *x, int status, struct slice message)
{
    log_warn("a message for %s from %.*s was refused: %d %.*s", x->domain->name,
             SLICE_ARGS(x->client.address), status, SLICE_ARGS(message));
    reply_message(x, status, message);
}

/* What a message without email-id needs remembered, should its answer be lost. */
struct pending {
    struct slice digest, answer_id;
};

/* A full ring loses it: then a repeat is a second mail, as it is for Mailgun. The id is the one in
 * the answer, which may be that of an earlier POST; without an answer, the one asked for. */
static void tell_unheard(struct exchange *x, const struct record_answer *answer)
{
    const struct pending *p = x->pending;
    struct service *s = x->service;

    if (p == NULL)
        return;
    struct record_unheard r = {.domain = x->route.domain,
                               .digest = p->digest,
                               .answer_id = answer != NULL && answer->text.len > 0 ? answer->text
                                                                                   : p->answer_id};
    buf_reset(&s->record);
    record_unheard_encode(&s->record, &r);
    (void)service_push(s);
}

static void on_answer(struct exchange *x, const struct record_answer *answer)
{
    struct buf body = {0};

    if (answer == NULL || (answer->verdict == ANSWER_OK && server_peer_is_gone(x->req)))
        tell_unheard(x, answer);
    if (answer == NULL) {
        log_warn("the writer has not answered for %d s: a message for %s stays unconfirmed",
                 WRITER_PATIENCE_MS / 1000, x->domain->name);
        reply_later(x, 503, 10, SLICE("The message could not be stored in time, please try again"));
        return;
    }
    switch (answer->verdict) {
    case ANSWER_OK:
        buf_add_str(&body, "{");
        json_put_str(&body, "id", answer->text);
        json_put_str(&body, "message", SLICE("Queued. Thank you."));
        buf_add_str(&body, "}");
        reply_json(x, 200, &body);
        return;
    case ANSWER_FULL:
        log_warn("a message for %s was refused: the disk is full", x->domain->name);
        reply_later(x, 503, 60, SLICE("The server's disk is full, nothing was queued"));
        return;
    case ANSWER_TOO_LARGE:
        refuse(x, 413, answer->text);
        return;
    default:
        log_error("the writer refused a message for %s: %.*s", x->domain->name,
                  SLICE_ARGS(answer->text));
        reply_message(x, 500, SLICE("Internal Server Error"));
        return;
    }
}

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
                          struct slice digest)
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

/* May every address in From send for this domain? If not, the one that may not in *wrong. */
static bool is_from_allowed(const struct config_domain *d, struct slice from, struct arena *a,
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
                      const uint8_t digest[CLAIM_BYTES])
{
    struct service *s = x->service;
    struct arena kept = {0};
    struct pending *pending = NULL;

    if (server_peer_is_gone(x->req)) {
        log_info("a client of %s left before its message was handed over: dropped",
                 x->domain->name);
        reply_later(x, 503, 1, SLICE("The connection was closed, nothing was queued"));
        return;
    }
    uint64_t id = inbox_wait(s->inbox, x, clock_mono_ms() + WRITER_PATIENCE_MS, on_answer);
    if (id == 0) {
        reply_later(x, 429, 1, SLICE("Too many requests are waiting, please try again"));
        return;
    }
    if (m->head.email_id.len == 0) {
        pending = arena_alloc(&kept, sizeof *pending);
        *pending = (struct pending){arena_dup(&kept, slice_of(digest, CLAIM_BYTES)),
                                    arena_dup(&kept, m->answer_id)};
    }
    encode_accept(s, m, id, pending == NULL ? slice_none() : pending->digest);
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
    if (!form_parse(exchange_header(x, "Content-Type"), body, &x->arena, &form, &why) ||
        !(is_mime ? submission_from_mime : submission_from_form)(&form, &context, &x->arena,
                                                                 &submission, &why)) {
        refuse(x, why.status, why.message);
        return;
    }
    struct slice wrong;
    if (!is_from_allowed(x->domain, submission.head.from, &x->arena, &wrong)) {
        refuse(x, 400,
               arena_printf(&x->arena, "'from' parameter: %.*s may not send for %s",
                            SLICE_ARGS(slice_head(wrong, ADDRESS_BYTES_MAX)), x->domain->name));
        return;
    }
    if (is_transactional(x->domain, &submission.head))
        submission.head.lane = LANE_TRANSACTIONAL;
    submission.head.request_id = slice_str(x->request_id);
    if (submission.head.email_id.len == 0)
        form_digest(&form, context.domain, digest);
    hand_over(x, &submission, digest);
}
