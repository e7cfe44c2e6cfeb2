#include "mail/message.h"

#include "base/pack.h"

enum {
    VERSION = 1,
    HEAD_FIELDS = 18,
    CONTENT_FIELDS = 13, /* one more with a whole message */
    RECIPIENT_FIELDS = 4,
};

/* -------- lists -------- */

static void put_texts(struct buf *to, const struct slice *list, size_t count)
{
    pack_array(to, count);
    for (size_t i = 0; i < count; i++)
        pack_str(to, list[i]);
}

static void get_texts(struct unpack *u, struct arena *a, struct slice **list, size_t *count)
{
    *count = unpack_array(u);
    *list = arena_array(a, *count, sizeof **list);
    for (size_t i = 0; i < *count; i++)
        (*list)[i] = unpack_str(u);
}

static void put_pairs(struct buf *to, const struct name_value *list, size_t count)
{
    pack_array(to, count * 2);
    for (size_t i = 0; i < count; i++) {
        pack_str(to, list[i].name);
        pack_str(to, list[i].value);
    }
}

static void get_pairs(struct unpack *u, struct arena *a, struct name_value **list, size_t *count)
{
    uint32_t texts = unpack_array(u);

    if (texts % 2 != 0)
        u->bad = true;
    *count = u->bad ? 0 : texts / 2;
    *list = arena_array(a, *count, sizeof **list);
    for (size_t i = 0; i < *count; i++) {
        (*list)[i].name = unpack_str(u);
        (*list)[i].value = unpack_str(u);
    }
}

/* A number that must not exceed `most`. */
static uint64_t get_at_most(struct unpack *u, uint64_t most)
{
    uint64_t value = unpack_u64(u);

    if (value > most)
        u->bad = true;
    return value;
}

/* -------- head -------- */

void message_head_pack(struct buf *to, const struct message_head *h)
{
    pack_array(to, HEAD_FIELDS);
    pack_u64(to, VERSION);
    pack_str(to, h->domain);
    pack_str(to, h->message_id);
    pack_str(to, h->email_id);
    pack_str(to, h->from);
    pack_str(to, h->to);
    pack_str(to, h->subject);
    put_texts(to, h->tags, h->tag_count);
    put_pairs(to, h->vars, h->var_count);
    pack_bool(to, h->testmode);
    pack_bool(to, h->batch_mode);
    pack_bool(to, h->message_id_per_recipient);
    pack_u64(to, h->accepted_wall_us);
    pack_u64(to, h->due_wall_ms);
    pack_u64(to, h->size_bytes);
    pack_u64(to, h->recipient_count);
    pack_u64(to, h->lane);
    if (h->request_id.len > 0)
        pack_str(to, h->request_id);
    else
        pack_nil(to);
}

bool message_head_unpack(struct slice from, struct arena *a, struct message_head *h)
{
    struct unpack u = unpack_over(from);

    *h = (struct message_head){0};
    if (unpack_array(&u) != HEAD_FIELDS || unpack_u64(&u) != VERSION)
        return false;
    h->domain = unpack_str(&u);
    h->message_id = unpack_str(&u);
    h->email_id = unpack_str(&u);
    h->from = unpack_str(&u);
    h->to = unpack_str(&u);
    h->subject = unpack_str(&u);
    get_texts(&u, a, &h->tags, &h->tag_count);
    get_pairs(&u, a, &h->vars, &h->var_count);
    h->testmode = unpack_bool(&u);
    h->batch_mode = unpack_bool(&u);
    h->message_id_per_recipient = unpack_bool(&u);
    h->accepted_wall_us = unpack_u64(&u);
    h->due_wall_ms = unpack_u64(&u);
    h->size_bytes = unpack_u64(&u);
    h->recipient_count = (uint32_t)get_at_most(&u, UINT32_MAX);
    h->lane = (uint32_t)get_at_most(&u, UINT32_MAX);
    if (!unpack_nil(&u))
        h->request_id = unpack_str(&u);
    return unpack_done(&u);
}

/* -------- content -------- */

static void put_attachments(struct buf *to, const struct message_content *c)
{
    pack_array(to, c->attachment_count);
    for (size_t i = 0; i < c->attachment_count; i++) {
        pack_array(to, 4);
        pack_str(to, c->attachments[i].filename);
        pack_str(to, c->attachments[i].content_type);
        pack_str(to, c->attachments[i].content_id);
        pack_bin(to, c->attachments[i].data);
    }
}

static void get_attachments(struct unpack *u, struct arena *a, struct message_content *c)
{
    c->attachment_count = unpack_array(u);
    c->attachments = arena_array(a, c->attachment_count, sizeof *c->attachments);
    for (size_t i = 0; i < c->attachment_count; i++) {
        if (unpack_array(u) != 4)
            u->bad = true;
        c->attachments[i].filename = unpack_str(u);
        c->attachments[i].content_type = unpack_str(u);
        c->attachments[i].content_id = unpack_str(u);
        c->attachments[i].data = unpack_str(u);
    }
}

void message_content_pack(struct buf *to, const struct message_content *c)
{
    pack_array(to, CONTENT_FIELDS + (c->mime.len > 0 ? 1 : 0));
    pack_u64(to, VERSION);
    pack_str(to, c->from);
    pack_str(to, c->subject);
    pack_str(to, c->text);
    pack_str(to, c->html);
    pack_str(to, c->amp_html);
    put_pairs(to, c->headers, c->header_count);
    put_pairs(to, c->vars, c->var_count);
    put_attachments(to, c);
    pack_u64(to, (uint64_t)c->opens);
    pack_u64(to, (uint64_t)c->clicks);
    pack_bool(to, c->batch_mode);
    pack_bool(to, c->suppress_variables_header);
    if (c->mime.len > 0)
        pack_bin(to, c->mime);
}

bool message_content_unpack(struct slice from, struct arena *a, struct message_content *c)
{
    struct unpack u = unpack_over(from);

    uint32_t fields = unpack_array(&u);

    *c = (struct message_content){0};
    if ((fields != CONTENT_FIELDS && fields != CONTENT_FIELDS + 1) || unpack_u64(&u) != VERSION)
        return false;
    c->from = unpack_str(&u);
    c->subject = unpack_str(&u);
    c->text = unpack_str(&u);
    c->html = unpack_str(&u);
    c->amp_html = unpack_str(&u);
    get_pairs(&u, a, &c->headers, &c->header_count);
    get_pairs(&u, a, &c->vars, &c->var_count);
    get_attachments(&u, a, c);
    c->opens = (enum tracking)get_at_most(&u, TRACKING_OFF);
    c->clicks = (enum tracking)get_at_most(&u, TRACKING_OFF);
    c->batch_mode = unpack_bool(&u);
    c->suppress_variables_header = unpack_bool(&u);
    if (fields > CONTENT_FIELDS)
        c->mime = unpack_str(&u);
    return unpack_done(&u);
}

/* -------- recipients: [[kind, address, name, [name, value, …]], …] -------- */

void recipients_pack(struct buf *to, const struct recipient *list, size_t count)
{
    pack_array(to, count);
    for (size_t i = 0; i < count; i++) {
        pack_array(to, RECIPIENT_FIELDS);
        pack_u64(to, (uint64_t)list[i].kind);
        pack_str(to, list[i].address);
        pack_str(to, list[i].name);
        put_pairs(to, list[i].vars, list[i].var_count);
    }
}

static void get_recipient(struct unpack *u, struct arena *a, struct recipient *r)
{
    if (unpack_array(u) != RECIPIENT_FIELDS)
        u->bad = true;
    r->kind = (enum recipient_kind)get_at_most(u, RECIPIENT_BCC);
    r->address = unpack_str(u);
    r->name = unpack_str(u);
    get_pairs(u, a, &r->vars, &r->var_count);
}

bool recipients_unpack(struct slice from, struct arena *a, struct recipient **list, size_t *count)
{
    struct unpack u = unpack_over(from);

    *count = unpack_array(&u);
    if (*count == 0 || *count > MESSAGE_SLICE)
        return false;
    *list = arena_array(a, *count, sizeof **list);
    for (size_t i = 0; i < *count; i++)
        get_recipient(&u, a, &(*list)[i]);
    return unpack_done(&u);
}

bool recipients_unpack_one(struct slice from, size_t at, struct arena *a, struct recipient *one)
{
    struct unpack u = unpack_over(from);
    uint32_t count = unpack_array(&u);

    *one = (struct recipient){0};
    if (at >= count)
        return false;
    unpack_skip(&u, at);
    get_recipient(&u, a, one);
    return unpack_ok(&u);
}
