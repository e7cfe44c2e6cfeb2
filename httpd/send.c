/*
 * POST /v1/send: one transactional mail, in JSON. It is kept first, like any; the answer then waits
 * for SES's word as the writer notes it (store/taken.h), and looks for it in the store: soon at
 * first, then at growing distances.
 *
 * SHAPE   200 sent: SES's message id. 200 queued: ours; SES has not said anything in time, or that it
 *         took the mail is known without its id. 200 suppressed, cancelled: ours; nothing is sent.
 *         500: SES refused it.
 * CRASH   Of httpd: the client hears nothing, and its repeat with the same idempotency key finds the
 *         first. Of the sender: the word is missing, and the answer is "queued".
 * SOURCE  spec/typetale.md.
 */
#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/log.h"
#include "httpd/body.h"
#include "httpd/messages.h"
#include "httpd/reply.h"
#include "mail/address.h"
#include "mail/date.h"
#include "mail/send_request.h"
#include "store/batches.h"
#include "store/taken.h"

enum { SES_PATIENCE_MS = 5000, LOOK_FIRST_MS = 15, LOOK_LAST_MS = 250, ELAPSED_SHARE = 8 };

/* ---- whose mail it is ---- */

/* Of the domains that the key opens the one that bears the address's name, or says that it may stand
 * in From; or the only one. NULL: none. */
static const struct config_domain *domain_of(struct exchange *x, struct slice from)
{
    struct slice rest = from, wrong;
    struct mailbox m = {0};

    if (address_next(&rest, &x->arena, &m) != ADDRESS_OK)
        return NULL;
    struct slice host = slice_from(m.address, slice_rfind_byte(m.address, '@') + 1);
    for (size_t i = 0; i < x->domain_count; i++)
        if (slice_eq_nocase(slice_str(x->domains[i]->name), host))
            return x->domains[i];
    for (size_t i = 0; i < x->domain_count; i++)
        if (x->domains[i]->allowed_from.count > 0 &&
            message_from_is_allowed(x->domains[i], from, &x->arena, &wrong))
            return x->domains[i];
    return x->domain_count == 1 ? x->domains[0] : NULL;
}

/* Sets x->domain. False: the exchange is answered. */
static bool choose_sender(struct exchange *x, struct slice given, struct slice *from)
{
    struct slice wrong;

    *from = given;
    if (given.len > 0)
        x->domain = domain_of(x, given);
    for (size_t i = 0; i < x->domain_count && from->len == 0; i++) {
        *from = slice_str(x->domains[i]->system_from);
        x->domain = x->domains[i];
    }
    if (given.len == 0 && from->len > 0 && !send_request_is_sender(*from, &x->arena)) {
        log_error("%s: system_from is no address: %.*s", x->domain->name, SLICE_ARGS(*from));
        reply_message(x, 500, SLICE("The configured system_from is no address"));
        return false;
    }
    if (from->len == 0) {
        reply_message(x, 500,
                      SLICE("No sender: the request has no 'from', and none of this key's domains "
                            "has a system_from"));
        return false;
    }
    if (x->domain != NULL && message_from_is_allowed(x->domain, *from, &x->arena, &wrong))
        return true;
    log_warn("a mail from %.*s was refused: the key may not send it", SLICE_ARGS(*from));
    reply_message(x, 400,
                  arena_printf(&x->arena,
                               "Validation failed: 'from': this key may not send from %.*s",
                               SLICE_ARGS(slice_head(*from, ADDRESS_BYTES_MAX))));
    return false;
}

/* ---- what became of it ---- */

static void put_time(struct buf *to)
{
    struct buf now = {0};

    date_put_iso8601(&now, clock_wall_us());
    json_put_str(to, "timestamp", buf_slice(&now));
    buf_fini(&now);
}

static void reply_done(struct exchange *x, const char *status, struct slice id)
{
    const struct message_pending *p = x->pending;
    struct buf body = {0};

    buf_add_str(&body, "{\"success\":true,\"data\":{");
    json_put_str(&body, "messageId", id);
    json_put_str(&body, "status", slice_str(status));
    json_put_u64(&body, "recipients", p->recipient_count);
    buf_add_byte(&body, '}');
    put_time(&body);
    json_put_str(&body, "message", SLICE("Operation completed successfully"));
    buf_add_byte(&body, '}');
    reply_json(x, 200, &body);
}

/* Answers when there is something to tell: true. Texts in the map are used before it ends. */
static bool tell_word(struct exchange *x, struct store_txn *t)
{
    const struct message_pending *p = x->pending;
    struct taken taken = {0};
    struct books b = {0};

    uint64_t batch_id = batch_by_message_id(t, slice_str(x->domain->name), p->message_id);
    bool waits = batch_id != 0 && taken_get(t, batch_id, &taken) && batch_books(t, batch_id, &b);
    bool open = b.state[STATE_PENDING] + b.state[STATE_LEASED] + b.state[STATE_DOUBT] > 0;
    if (waits && taken.word == TAKEN_SENT)
        reply_done(x, "sent", taken.text);
    else if (waits && open)
        return false;
    else if (waits && taken.word == TAKEN_REFUSED)
        reply_message(
            x, 500,
            arena_printf(&x->arena, "SES has refused the mail: %.*s", SLICE_ARGS(taken.text)));
    else if (waits && b.state[STATE_SENT] == 0 && b.state[STATE_SUPPRESSED] > 0)
        reply_done(x, "suppressed", p->message_id);
    else if (waits && b.state[STATE_SENT] == 0 && b.state[STATE_CANCELLED] > 0)
        reply_done(x, "cancelled", p->message_id);
    else
        reply_done(x, "queued", p->message_id);
    return true;
}

static void look(struct exchange *x);

static void on_look(struct exchange *x, const struct record_answer *answer)
{
    (void)answer; /* none is expected: it is time to look */
    look(x);
}

static void look(struct exchange *x)
{
    const struct message_pending *p = x->pending;
    struct service *s = x->service;
    uint64_t now = clock_mono_ms(), wait_ms;
    struct store_txn *t;
    struct err err = {0};

    t = s->store == NULL ? NULL : store_begin_read(s->store, &err);
    bool told = t != NULL && tell_word(x, t);
    if (t != NULL)
        store_end_read(t);
    if (told)
        return;
    wait_ms = LOOK_FIRST_MS + (now - p->kept_mono_ms) / ELAPSED_SHARE;
    wait_ms = wait_ms < LOOK_LAST_MS ? wait_ms : LOOK_LAST_MS;
    if (s->leaving || now - p->kept_mono_ms >= SES_PATIENCE_MS ||
        inbox_wait(s->inbox, x, now + wait_ms, on_look) == 0) {
        reply_done(x, "queued", p->message_id);
        return;
    }
    service_expire_soon(s, (unsigned)wait_ms);
}

static void on_kept(struct exchange *x, const struct record_answer *answer)
{
    struct message_pending *p = x->pending;

    if (!message_is_kept(x, answer))
        return;
    struct slice id = answer->text;
    if (id.len > 2 && id.ptr[0] == '<' && id.ptr[id.len - 1] == '>')
        id = slice_of(id.ptr + 1, id.len - 2);
    p->message_id = arena_dup(&x->arena, id);
    p->kept_mono_ms = clock_mono_ms();
    look(x);
}

/* ---- the request ---- */

void send_handle(struct exchange *x)
{
    struct submission_context context = {.now_us = clock_wall_us()};
    struct message_way way = {.answered = on_kept, .awaited = true};
    uint8_t digest[CLAIM_BYTES], once[CLAIM_BYTES];
    struct send_request request;
    struct submission submission;
    struct refusal why = {0};
    struct slice body, from;

    if (!body_read(x, &body))
        return;
    if (!send_request_read(body, &x->arena, &request, &why)) {
        reply_message(x, why.status, why.message);
        return;
    }
    if (!choose_sender(x, request.from, &from))
        return;
    context.domain = context.path_domain = x->route.domain = slice_str(x->domain->name);
    digest_random(&context.random, sizeof context.random);
    if (!submission_from_send(&request, from, &context, &x->arena, &submission, &why)) {
        message_refuse(x, why.status, why.message);
        return;
    }
    if (request.idempotency_key.len > 0) {
        send_request_once(context.domain, request.idempotency_key, once);
        way.once = slice_of(once, sizeof once);
    }
    form_digest(&request.form, context.domain, digest);
    message_submit(x, &submission, digest, &way);
}
