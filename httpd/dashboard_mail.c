/*
 * GET api/batches/ID/mail?recipient=ADDRESS and …/html?recipient=ADDRESS: the mail as this recipient
 * gets it: the same parts and values as a sender puts together (mail/render.h), before SES adds its
 * own (tracking, its headers). Without a recipient: as it was posted.
 *
 * A whole message (messages.mime) is shown as it was posted.
 */
#include "base/json.h"
#include "httpd/dashboard.h"
#include "httpd/reply.h"
#include "mail/render.h"
#include "store/batches.h"

/* In a frame that may run nothing, load nothing, and reach nothing. */
static const char frame_policy[] = "sandbox; default-src 'none'; style-src 'unsafe-inline'; "
                                   "img-src data:; frame-ancestors 'self'; base-uri 'none'; "
                                   "form-action 'none'";

/* A value that is named often could make more than there is memory for: then the text is shown. */
enum { MAIL_BYTES_MAX = 8 << 20 };

struct mail {
    struct arena *arena;
    struct message_head head;
    struct message_content content;
    struct render_keys keys;
    struct slice *values; /* NULL: as it was posted */
    struct slice address;
};

/* The names of all recipients' variables, and the one who is looked for. False: nobody of that name. */
static bool survey(struct store_txn *t, uint64_t batch_id, struct mail *m, struct slice address)
{
    struct recipient chosen = {0};
    uint32_t slices = (m->head.recipient_count + MESSAGE_SLICE - 1) / MESSAGE_SLICE;
    bool found = false;

    for (uint32_t i = 0; i < slices; i++) {
        struct recipient *list;
        struct slice packed;
        size_t count;
        if (!batch_recipients(t, batch_id, i, &packed) ||
            !recipients_unpack(packed, m->arena, &list, &count))
            continue;
        for (size_t r = 0; r < count; r++) {
            for (size_t k = 0; m->content.batch_mode && k < list[r].var_count; k++)
                render_keys_add(&m->keys, m->arena, list[r].vars[k].name);
            if (!found && slice_eq_nocase(list[r].address, address)) {
                chosen = list[r];
                found = true;
            }
        }
    }
    if (!found)
        return false;
    m->address = chosen.address;
    m->values = arena_array(m->arena, render_slot_count(&m->keys), sizeof *m->values);
    (void)render_values(&m->keys, &chosen, m->arena, m->values);
    return true;
}

/* False: answered. */
static bool load(struct exchange *x, struct store_txn *t, struct slice batch, struct mail *m)
{
    struct slice address = dashboard_query(x, "recipient"), head, content;
    uint64_t id = dashboard_batch_id(batch);
    bool found = id != 0 && batch_head(t, id, &head) && batch_content(t, id, &content) &&
                 message_head_unpack(head, m->arena, &m->head) &&
                 message_content_unpack(content, m->arena, &m->content);

    if (!found)
        reply_message(x, 404, SLICE("There is no such batch, or it is past retention"));
    else if (address.len > 0 && !survey(t, id, m, address))
        reply_message(x, 404, SLICE("Nobody of that address is among its recipients"));
    else
        return true;
    return false;
}

static struct slice render(struct mail *m, struct slice text)
{
    struct render_template compiled;
    struct buf to = {0};

    if (m->values == NULL || !m->content.batch_mode)
        return text;
    render_compile(&compiled, text, &m->keys, m->arena);
    if (render_length(&compiled, m->values) > MAIL_BYTES_MAX)
        return text;
    render_run(&compiled, m->values, &to);
    struct slice rendered = arena_dup(m->arena, buf_slice(&to));
    buf_fini(&to);
    return rendered;
}

static void put_header(struct buf *to, struct slice name, struct slice value)
{
    buf_add_str(to, to->ptr[to->len - 1] == '[' ? "[" : ",[");
    json_put_text(to, name);
    buf_add_byte(to, ',');
    json_put_text(to, value);
    buf_add_byte(to, ']');
}

static void put_mail(struct buf *to, struct mail *m)
{
    const struct message_content *c = &m->content;
    struct slice subject = c->subject.len > 0 ? c->subject : m->head.subject;

    buf_add_byte(to, '{');
    json_put_str(to, "domain", m->head.domain);
    json_put_str(to, "subject", render(m, subject));
    json_put_name(to, "headers");
    buf_add_byte(to, '[');
    put_header(to, SLICE("From"), render(m, c->from.len > 0 ? c->from : m->head.from));
    put_header(to, SLICE("To"), m->address.len > 0 ? m->address : m->head.to);
    put_header(to, SLICE("Subject"), render(m, subject));
    for (size_t i = 0; i < c->header_count; i++)
        put_header(to, c->headers[i].name, render(m, c->headers[i].value));
    buf_add_byte(to, ']');
    json_put_str(to, "text", render(m, c->text));
    json_put_str(to, "html", render(m, c->html));
    json_put_str(to, "mime", c->mime);
    json_put_name(to, "attachments");
    buf_add_byte(to, '[');
    for (size_t i = 0; i < c->attachment_count; i++) {
        buf_add_str(to, i == 0 ? "{" : ",{");
        json_put_str(to, "name", c->attachments[i].filename);
        json_put_str(to, "type", c->attachments[i].content_type);
        json_put_u64(to, "bytes", c->attachments[i].data.len);
        buf_add_byte(to, '}');
    }
    buf_add_str(to, "]}");
}

/* False: answered. Else the body of the answer. */
static bool show(struct exchange *x, struct slice batch,
                 void (*put)(struct buf *to, struct mail *m), struct buf *body)
{
    struct mail m = {.arena = &x->arena};
    struct store_txn *t = dashboard_begin_read(x);

    if (t == NULL)
        return false;
    bool loaded = load(x, t, batch, &m);
    if (loaded)
        put(body, &m);
    store_end_read(t);
    return loaded;
}

static void put_html(struct buf *to, struct mail *m)
{
    buf_add_slice(to, render(m, m->content.html));
}

void dashboard_mail_get(struct exchange *x, struct slice batch)
{
    struct buf body = {0};

    if (show(x, batch, put_mail, &body))
        reply_json(x, 200, &body);
}

void dashboard_html_get(struct exchange *x, struct slice batch)
{
    struct buf body = {0};

    if (!show(x, batch, put_html, &body))
        return;
    exchange_replace_header(x, "Content-Security-Policy", frame_policy);
    reply_bytes(x, 200, "text/html; charset=utf-8", &body);
}
