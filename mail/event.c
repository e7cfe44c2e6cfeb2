#include "mail/event.h"

#include <assert.h>

#include "base/digest.h"
#include "base/pack.h"

enum { EVENT_VERSION = 1, EVENT_MEMBERS = 28, STATUS_MEMBERS = 8, ID_PARTS_MAX = 15 };

static const char *const type_names[EVENT_TYPE_END] = {
    [EVENT_ACCEPTED] = "accepted",
    [EVENT_REJECTED] = "rejected",
    [EVENT_DELIVERED] = "delivered",
    [EVENT_FAILED] = "failed",
    [EVENT_OPENED] = "opened",
    [EVENT_CLICKED] = "clicked",
    [EVENT_UNSUBSCRIBED] = "unsubscribed",
    [EVENT_COMPLAINED] = "complained",
    [EVENT_STORED] = "stored",
};

const char *event_type_name(enum event_type type)
{
    assert(type >= EVENT_ACCEPTED && type < EVENT_TYPE_END);
    return type_names[type];
}

enum event_type event_type_from(struct slice name)
{
    for (unsigned i = EVENT_ACCEPTED; i < EVENT_TYPE_END; i++)
        if (slice_eq_nocase(name, slice_str(type_names[i])))
            return (enum event_type)i;
    return (enum event_type)0;
}

void event_make_id(struct event *e, const struct slice *parts, size_t count)
{
    struct slice all[1 + ID_PARTS_MAX];
    uint8_t hash[SHA256_BYTES];
    uint64_t ms = e->ses_us / 1000;

    assert(count <= ID_PARTS_MAX);
    all[0] = e->domain;
    for (size_t i = 0; i < count; i++)
        all[i + 1] = parts[i];
    digest_sha256_parts(all, count + 1, hash);
    for (size_t i = 0; i < 6; i++)
        e->id[i] = (uint8_t)(ms >> (40 - 8 * i));
    memcpy(e->id + 6, hash, EVENT_ID_BYTES - 6);
}

void event_id_text(struct buf *to, const uint8_t id[EVENT_ID_BYTES])
{
    text_base64url(to, slice_of(id, EVENT_ID_BYTES));
}

static void status_pack(struct buf *to, const struct delivery_status *s)
{
    if (!s->present) {
        pack_nil(to);
        return;
    }
    pack_array(to, STATUS_MEMBERS);
    pack_i64(to, s->code);
    pack_str(to, s->message);
    pack_str(to, s->description);
    pack_str(to, s->enhanced_code);
    pack_str(to, s->mx_host);
    pack_u64(to, s->attempt_no);
    pack_u64(to, s->session_ms);
    pack_u64(to, s->retry_s);
}

void event_pack(struct buf *to, const struct event *e)
{
    assert(e->type >= EVENT_ACCEPTED && e->type < EVENT_TYPE_END);
    pack_array(to, EVENT_MEMBERS);
    pack_u64(to, EVENT_VERSION);
    pack_u64(to, e->type);
    pack_u64(to, e->severity);
    pack_str(to, e->domain);
    pack_str(to, e->recipient);
    pack_str(to, e->message_id);
    pack_str(to, e->reason);
    pack_str(to, e->to);
    pack_str(to, e->from);
    pack_str(to, e->subject);
    pack_array(to, e->tag_count);
    for (size_t i = 0; i < e->tag_count; i++)
        pack_str(to, e->tags[i]);
    pack_map(to, e->var_count);
    for (size_t i = 0; i < e->var_count; i++) {
        pack_str(to, e->vars[i].name);
        pack_str(to, e->vars[i].value);
    }
    pack_u64(to, e->size_bytes);
    pack_bool(to, e->test_mode);
    pack_bool(to, e->delayed_bounce);
    pack_str(to, e->envelope_sender);
    pack_str(to, e->sending_ip);
    status_pack(to, &e->status);
    pack_str(to, e->ip);
    pack_str(to, e->user_agent);
    pack_str(to, e->url);
    pack_str(to, e->client_name);
    pack_str(to, e->client_os);
    pack_str(to, e->client_type);
    pack_str(to, e->device_type);
    pack_str(to, e->bot);
    pack_str(to, e->ses_id);
    pack_str(to, e->method);
}

static uint64_t unpack_upto(struct unpack *u, uint64_t max)
{
    uint64_t value = unpack_u64(u);

    if (value > max)
        u->bad = true;
    return value;
}

static void status_unpack(struct unpack *u, struct delivery_status *s)
{
    if (unpack_nil(u))
        return;
    if (unpack_array(u) != STATUS_MEMBERS)
        u->bad = true;
    s->present = true;
    int64_t code = unpack_i64(u);
    if (code < INT32_MIN || code > INT32_MAX)
        u->bad = true;
    s->code = (int32_t)code;
    s->message = unpack_str(u);
    s->description = unpack_str(u);
    s->enhanced_code = unpack_str(u);
    s->mx_host = unpack_str(u);
    s->attempt_no = (uint32_t)unpack_upto(u, UINT32_MAX);
    s->session_ms = (uint32_t)unpack_upto(u, UINT32_MAX);
    s->retry_s = (uint32_t)unpack_upto(u, UINT32_MAX);
}

bool event_unpack(struct slice from, struct arena *a, struct event *e)
{
    struct unpack u = unpack_over(from);
    struct event into = {.timestamp_us = e->timestamp_us, .ses_us = e->ses_us};

    memcpy(into.id, e->id, sizeof into.id);
    if (unpack_array(&u) != EVENT_MEMBERS || unpack_u64(&u) != EVENT_VERSION)
        return false;
    uint64_t type = unpack_upto(&u, EVENT_TYPE_END - 1);
    if (type == 0 || !unpack_ok(&u))
        return false;
    into.type = (enum event_type)type;
    into.severity = (enum event_severity)unpack_upto(&u, SEVERITY_PERMANENT);
    into.domain = unpack_str(&u);
    into.recipient = unpack_str(&u);
    into.message_id = unpack_str(&u);
    into.reason = unpack_str(&u);
    into.to = unpack_str(&u);
    into.from = unpack_str(&u);
    into.subject = unpack_str(&u);
    into.tag_count = unpack_array(&u);
    into.tags = arena_array(a, into.tag_count, sizeof *into.tags);
    for (size_t i = 0; i < into.tag_count; i++)
        into.tags[i] = unpack_str(&u);
    into.var_count = unpack_map(&u);
    into.vars = arena_array(a, into.var_count, sizeof *into.vars);
    for (size_t i = 0; i < into.var_count; i++) {
        into.vars[i].name = unpack_str(&u);
        into.vars[i].value = unpack_str(&u);
    }
    into.size_bytes = unpack_u64(&u);
    into.test_mode = unpack_bool(&u);
    into.delayed_bounce = unpack_bool(&u);
    into.envelope_sender = unpack_str(&u);
    into.sending_ip = unpack_str(&u);
    status_unpack(&u, &into.status);
    into.ip = unpack_str(&u);
    into.user_agent = unpack_str(&u);
    into.url = unpack_str(&u);
    into.client_name = unpack_str(&u);
    into.client_os = unpack_str(&u);
    into.client_type = unpack_str(&u);
    into.device_type = unpack_str(&u);
    into.bot = unpack_str(&u);
    into.ses_id = unpack_str(&u);
    into.method = unpack_str(&u);
    if (!unpack_done(&u))
        return false;
    *e = into;
    return true;
}
