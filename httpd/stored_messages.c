/*
 * GET /v3/domains/{domain}/messages/{key}: a message as it was posted, for as long as retention
 * keeps its batch. The key is the message id in base64url, as events' storage.key gives it. POST
 * sends it again (mail/resend.h).
 *
 * SHAPE   Variables are unexpanded: one answer stands for all recipients of the batch. Of a message
 *         that came by messages.mime the whole is in body-mime, and its texts are not taken apart.
 *         A message that came as a form has no MIME of its own until it is sent, so Accept:
 *         message/rfc2822 is 406 for it.
 * SOURCE  spec/mailgun.md §9.
 */
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/log.h"
#include "httpd/body.h"
#include "httpd/messages.h"
#include "httpd/reply.h"
#include "mail/resend.h"
#include "store/batches.h"

/* Everything is read in one transaction; what is in *m borrows from the map until it ends. */
static bool read_recipients(struct store_txn *t, uint64_t batch_id, struct arena *a,
                            struct stored_message *m)
{
    m->recipients = arena_array(a, m->head.recipient_count, sizeof *m->recipients);
    for (uint32_t slice = 0; m->recipient_count < m->head.recipient_count; slice++) {
        struct recipient *list;
        struct slice packed;
        size_t count;

        if (!batch_recipients(t, batch_id, slice, &packed) ||
            !recipients_unpack(packed, a, &list, &count) || count == 0 ||
            count > m->head.recipient_count - m->recipient_count)
            return false;
        memcpy(m->recipients + m->recipient_count, list, count * sizeof *list);
        m->recipient_count += count;
    }
    return true;
}

static struct slice addresses_of(const struct stored_message *m, struct arena *a)
{
    struct buf list = {0};

    for (size_t i = 0; i < m->recipient_count; i++) {
        if (i > 0)
            buf_add_str(&list, ", ");
        buf_add_slice(&list, m->recipients[i].address);
    }
    struct slice kept = arena_dup(a, buf_slice(&list));
    buf_fini(&list);
    return kept;
}

static void put_pair(struct buf *to, bool *any, struct slice name, struct slice value)
{
    buf_add_str(to, *any ? ",[" : "[");
    json_put_text(to, name);
    buf_add_byte(to, ',');
    json_put_text(to, value);
    buf_add_byte(to, ']');
    *any = true;
}

static void put_headers(struct buf *to, const struct stored_message *m, struct slice id,
                        struct slice all)
{
    bool any = false;

    json_put_name(to, "message-headers");
    buf_add_byte(to, '[');
    put_pair(to, &any, SLICE("From"), m->head.from);
    put_pair(to, &any, SLICE("To"), all);
    put_pair(to, &any, SLICE("Subject"), m->head.subject);
    put_pair(to, &any, SLICE("Message-Id"), id);
    for (size_t i = 0; i < m->content.header_count; i++)
        put_pair(to, &any, m->content.headers[i].name, m->content.headers[i].value);
    buf_add_byte(to, ']');
}

static void put_attachments(struct buf *to, const struct message_content *c)
{
    json_put_name(to, "attachments");
    buf_add_byte(to, '[');
    for (size_t i = 0; i < c->attachment_count; i++) {
        const struct attachment *one = &c->attachments[i];
        buf_add_str(to, i > 0 ? ",{" : "{");
        json_put_str(to, "name", one->filename);
        json_put_str(to, "content-type", one->content_type);
        json_put_u64(to, "size", one->data.len);
        buf_add_byte(to, '}');
    }
    buf_add_byte(to, ']');
}

static void put_stored(struct buf *to, struct exchange *x, const struct stored_message *m,
                       bool as_mime)
{
    struct slice recipients = addresses_of(m, &x->arena);
    struct slice id = arena_printf(&x->arena, "<%.*s>", SLICE_ARGS(m->head.message_id));
    struct slice all = m->head.to.len > 0 ? m->head.to : recipients;

    buf_add_byte(to, '{');
    json_put_str(to, "recipients", recipients);
    json_put_str(to, "sender", m->head.from);
    json_put_str(to, "from", m->head.from);
    json_put_str(to, "subject", m->head.subject);
    if (m->content.mime.len > 0)
        json_put_str(to, "body-mime", m->content.mime);
    if (!as_mime) {
        json_put_str(to, "From", m->head.from);
        json_put_str(to, "To", all);
        json_put_str(to, "Subject", m->head.subject);
        json_put_str(to, "Message-Id", id);
        json_put_str(to, "body-plain", m->content.text);
        json_put_str(to, "body-html", m->content.html);
        json_put_str(to, "stripped-text", m->content.text);
        json_put_str(to, "stripped-html", m->content.html);
        json_put_str(to, "stripped-signature", slice_none());
        put_headers(to, m, id, all);
        put_attachments(to, &m->content);
        buf_add_str(to, ",\"content-id-map\":{}");
    }
    buf_add_byte(to, '}');
}

static bool wants_mime(const struct exchange *x)
{
    static const char *const types[] = {"message/rfc2822", "message/rfc822"};
    struct slice accept = exchange_header(x, "Accept");

    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (slice_starts_nocase(accept, slice_str(types[i])))
            return true;
    return false;
}

/* The message that the path names. False: the exchange is answered and the transaction over. */
static bool find(struct exchange *x, struct store_txn *t, struct slice message_id,
                 struct stored_message *m)
{
    struct slice head, content;

    uint64_t id = batch_by_message_id(t, slice_str(x->domain->name), message_id);
    if (id == 0 || !batch_head(t, id, &head) || !batch_content(t, id, &content)) {
        store_end_read(t);
        reply_message(x, 404, SLICE("Message not found"));
        return false;
    }
    if (message_head_unpack(head, &x->arena, &m->head) &&
        message_content_unpack(content, &x->arena, &m->content) &&
        read_recipients(t, id, &x->arena, m))
        return true;
    store_end_read(t);
    log_error("batch %016llx of %s cannot be read", (unsigned long long)id, x->domain->name);
    reply_message(x, 500, SLICE("Internal Server Error"));
    return false;
}

static void show(struct exchange *x, struct store_txn *t, struct slice message_id)
{
    struct stored_message m = {0};
    struct buf body = {0};
    bool as_mime = wants_mime(x);

    if (!find(x, t, message_id, &m))
        return;
    bool has_form = as_mime && m.content.mime.len == 0;
    if (!has_form)
        put_stored(&body, x, &m, as_mime);
    store_end_read(t);
    if (has_form)
        reply_message(x, 406,
                      SLICE("This message was posted as a form and has no MIME of its own: ask "
                            "without Accept: message/rfc2822"));
    else
        reply_json(x, 200, &body);
}

/* Its content is read from the map until the writer's record is written. */
static void send_again(struct exchange *x, struct store_txn *t, struct slice message_id)
{
    struct submission_context context = {
        .domain = slice_str(x->domain->name),
        .path_domain = x->route.domain,
        .now_us = clock_wall_us(),
    };
    struct stored_message m = {0};
    struct submission submission;
    struct refusal why = {0};
    uint8_t digest[CLAIM_BYTES];
    struct form form;
    struct slice body;

    if (!find(x, t, message_id, &m))
        return;
    digest_random(&context.random, sizeof context.random);
    if (!body_read(x, &body)) {
        store_end_read(t);
        return;
    }
    if (form_parse(exchange_header(x, "Content-Type"), body, &x->arena, &form, &why) &&
        submission_again(&form, &m, &context, &x->arena, &submission, &why)) {
        form_digest(
            &form,
            arena_printf(&x->arena, "%s/messages/%.*s", x->domain->name, SLICE_ARGS(message_id)),
            digest);
        log_info("%s: message %.*s is sent again to %zu recipients", x->domain->name,
                 SLICE_ARGS(message_id), submission.recipient_count);
        message_submit(x, &submission, digest, &message_way_mailgun);
    } else {
        message_refuse(x, why.status, why.message);
    }
    store_end_read(t);
}

void stored_message_handle(struct exchange *x)
{
    bool again = evhttp_request_get_command(x->req) == EVHTTP_REQ_POST;
    struct service *s = x->service;
    struct err err = {0};
    struct buf id = {0};
    struct store_txn *t;

    if (!text_from_base64(&id, x->route.leaf)) {
        reply_message(x, 404, SLICE("Message not found"));
    } else if (s->store == NULL || (t = store_begin_read(s->store, &err)) == NULL) {
        reply_later(x, 503, 1, SLICE("The store is not ready, please try again"));
    } else {
        (again ? send_again : show)(x, t, buf_slice(&id));
    }
    buf_fini(&id);
}
