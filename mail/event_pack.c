/*
 * An event packed for the store and the rings: whole, or as what tells it from another one. Both go
 * by one table of the members, so that none is forgotten by either.
 */
#include <assert.h>

#include "base/pack.h"
#include "mail/event.h"

enum { EVENT_VERSION = 1, MASK_BYTES = 4 };

/* In the mask of what differs, beside a bit for each member. */
#define TO_IS_RECIPIENT (UINT32_C(1) << 31)

enum member_kind {
    MEMBER_STR,
    MEMBER_U64,
    MEMBER_U32, /* an enum, too */
    MEMBER_I32,
    MEMBER_BOOL,
    MEMBER_TAGS,
    MEMBER_VARS,
    MEMBER_STATUS,
};

struct member {
    enum member_kind kind;
    uint16_t at;
    uint64_t most; /* U32 */
    bool in_parts; /* what struct event_shared holds is made from it */
};

static_assert(sizeof(enum event_type) == 4 && sizeof(enum event_severity) == 4, "read as U32");

#define OF_EVENT(name)  offsetof(struct event, name)
#define OF_STATUS(name) offsetof(struct delivery_status, name)

/* In the order in which they are packed. */
static const struct member members[] = {
    {MEMBER_U32, OF_EVENT(type), EVENT_TYPE_END - 1, false},
    {MEMBER_U32, OF_EVENT(severity), SEVERITY_PERMANENT, false},
    {MEMBER_STR, OF_EVENT(domain), 0, false},
    {MEMBER_STR, OF_EVENT(recipient), 0, false},
    {MEMBER_STR, OF_EVENT(message_id), 0, true},
    {MEMBER_STR, OF_EVENT(reason), 0, false},
    {MEMBER_STR, OF_EVENT(to), 0, false},
    {MEMBER_STR, OF_EVENT(from), 0, true},
    {MEMBER_STR, OF_EVENT(subject), 0, true},
    {MEMBER_TAGS, OF_EVENT(tags), 0, true},
    {MEMBER_VARS, OF_EVENT(vars), 0, true},
    {MEMBER_U64, OF_EVENT(size_bytes), 0, true},
    {MEMBER_BOOL, OF_EVENT(test_mode), 0, true},
    {MEMBER_BOOL, OF_EVENT(delayed_bounce), 0, true},
    {MEMBER_STR, OF_EVENT(envelope_sender), 0, false},
    {MEMBER_STR, OF_EVENT(sending_ip), 0, false},
    {MEMBER_STATUS, OF_EVENT(status), 0, false},
    {MEMBER_STR, OF_EVENT(ip), 0, false},
    {MEMBER_STR, OF_EVENT(user_agent), 0, false},
    {MEMBER_STR, OF_EVENT(url), 0, false},
    {MEMBER_STR, OF_EVENT(client_name), 0, false},
    {MEMBER_STR, OF_EVENT(client_os), 0, false},
    {MEMBER_STR, OF_EVENT(client_type), 0, false},
    {MEMBER_STR, OF_EVENT(device_type), 0, false},
    {MEMBER_STR, OF_EVENT(bot), 0, false},
    {MEMBER_STR, OF_EVENT(ses_id), 0, false},
    {MEMBER_STR, OF_EVENT(method), 0, false},
};

static const struct member status_members[] = {
    {MEMBER_I32, OF_STATUS(code), 0, false},
    {MEMBER_STR, OF_STATUS(message), 0, false},
    {MEMBER_STR, OF_STATUS(description), 0, false},
    {MEMBER_STR, OF_STATUS(enhanced_code), 0, false},
    {MEMBER_STR, OF_STATUS(mx_host), 0, false},
    {MEMBER_U32, OF_STATUS(attempt_no), UINT32_MAX, false},
    {MEMBER_U32, OF_STATUS(session_ms), UINT32_MAX, false},
    {MEMBER_U32, OF_STATUS(retry_s), UINT32_MAX, false},
};

enum {
    EVENT_MEMBERS = sizeof members / sizeof members[0],
    STATUS_MEMBERS = sizeof status_members / sizeof status_members[0],
};

static_assert(EVENT_MEMBERS < 31, "the mask has a bit for each");

/* -------- a member -------- */

#define MEMBER_AT(type, thing, m) ((const type *)(const void *)((const uint8_t *)(thing) + (m)->at))
#define MEMBER_TO(type, thing, m) ((type *)(void *)((uint8_t *)(thing) + (m)->at))

static void status_pack(struct buf *to, const struct delivery_status *s);
static void status_unpack(struct unpack *u, struct delivery_status *s);

static void tags_pack(struct buf *to, const struct event *e)
{
    pack_array(to, e->tag_count);
    for (size_t i = 0; i < e->tag_count; i++)
        pack_str(to, e->tags[i]);
}

static void vars_pack(struct buf *to, const struct event *e)
{
    pack_map(to, e->var_count);
    for (size_t i = 0; i < e->var_count; i++) {
        pack_str(to, e->vars[i].name);
        pack_str(to, e->vars[i].value);
    }
}

/* thing: the event, or the status, that the member is of. */
static void member_pack(struct buf *to, const void *thing, const struct member *m)
{
    switch (m->kind) {
    case MEMBER_STR:
        pack_str(to, *MEMBER_AT(struct slice, thing, m));
        break;
    case MEMBER_U64:
        pack_u64(to, *MEMBER_AT(uint64_t, thing, m));
        break;
    case MEMBER_U32:
        pack_u64(to, *MEMBER_AT(uint32_t, thing, m));
        break;
    case MEMBER_I32:
        pack_i64(to, *MEMBER_AT(int32_t, thing, m));
        break;
    case MEMBER_BOOL:
        pack_bool(to, *MEMBER_AT(bool, thing, m));
        break;
    case MEMBER_TAGS:
        tags_pack(to, thing);
        break;
    case MEMBER_VARS:
        vars_pack(to, thing);
        break;
    case MEMBER_STATUS:
        status_pack(to, MEMBER_AT(struct delivery_status, thing, m));
        break;
    }
}

static void tags_unpack(struct unpack *u, struct arena *a, struct event *e)
{
    e->tag_count = unpack_array(u);
    e->tags = arena_array(a, e->tag_count, sizeof *e->tags);
    for (size_t i = 0; i < e->tag_count; i++)
        e->tags[i] = unpack_str(u);
}

static void vars_unpack(struct unpack *u, struct arena *a, struct event *e)
{
    e->var_count = unpack_map(u);
    e->vars = arena_array(a, e->var_count, sizeof *e->vars);
    for (size_t i = 0; i < e->var_count; i++) {
        e->vars[i].name = unpack_str(u);
        e->vars[i].value = unpack_str(u);
    }
}

static void member_unpack(struct unpack *u, struct arena *a, void *thing, const struct member *m)
{
    uint64_t number;
    int64_t code;

    switch (m->kind) {
    case MEMBER_STR:
        *MEMBER_TO(struct slice, thing, m) = unpack_str(u);
        break;
    case MEMBER_U64:
        *MEMBER_TO(uint64_t, thing, m) = unpack_u64(u);
        break;
    case MEMBER_U32:
        number = unpack_u64(u);
        u->bad = u->bad || number > m->most;
        *MEMBER_TO(uint32_t, thing, m) = u->bad ? 0 : (uint32_t)number;
        break;
    case MEMBER_I32:
        code = unpack_i64(u);
        u->bad = u->bad || code < INT32_MIN || code > INT32_MAX;
        *MEMBER_TO(int32_t, thing, m) = u->bad ? 0 : (int32_t)code;
        break;
    case MEMBER_BOOL:
        *MEMBER_TO(bool, thing, m) = unpack_bool(u);
        break;
    case MEMBER_TAGS:
        tags_unpack(u, a, thing);
        break;
    case MEMBER_VARS:
        vars_unpack(u, a, thing);
        break;
    case MEMBER_STATUS:
        status_unpack(u, MEMBER_TO(struct delivery_status, thing, m));
        break;
    }
}

static bool tags_are_same(const struct event *e, const struct event *f)
{
    bool same = e->tag_count == f->tag_count;

    for (size_t i = 0; same && i < e->tag_count; i++)
        same = slice_eq(e->tags[i], f->tags[i]);
    return same;
}

static bool vars_are_same(const struct event *e, const struct event *f)
{
    bool same = e->var_count == f->var_count;

    for (size_t i = 0; same && i < e->var_count; i++)
        same = slice_eq(e->vars[i].name, f->vars[i].name) &&
               slice_eq(e->vars[i].value, f->vars[i].value);
    return same;
}

static uint32_t status_mask(const struct delivery_status *s, const struct delivery_status *model);

static bool member_is_same(const void *thing, const void *model, const struct member *m)
{
    const struct delivery_status *s, *t;

    switch (m->kind) {
    case MEMBER_STR:
        return slice_eq(*MEMBER_AT(struct slice, thing, m), *MEMBER_AT(struct slice, model, m));
    case MEMBER_U64:
        return *MEMBER_AT(uint64_t, thing, m) == *MEMBER_AT(uint64_t, model, m);
    case MEMBER_U32:
        return *MEMBER_AT(uint32_t, thing, m) == *MEMBER_AT(uint32_t, model, m);
    case MEMBER_I32:
        return *MEMBER_AT(int32_t, thing, m) == *MEMBER_AT(int32_t, model, m);
    case MEMBER_BOOL:
        return *MEMBER_AT(bool, thing, m) == *MEMBER_AT(bool, model, m);
    case MEMBER_TAGS:
        return tags_are_same(thing, model);
    case MEMBER_VARS:
        return vars_are_same(thing, model);
    case MEMBER_STATUS:
        break;
    }
    s = MEMBER_AT(struct delivery_status, thing, m);
    t = MEMBER_AT(struct delivery_status, model, m);
    return s->present == t->present && (!s->present || status_mask(s, t) == 0);
}

/* -------- whole -------- */

static void status_pack(struct buf *to, const struct delivery_status *s)
{
    if (!s->present) {
        pack_nil(to);
        return;
    }
    pack_array(to, STATUS_MEMBERS);
    for (size_t i = 0; i < STATUS_MEMBERS; i++)
        member_pack(to, s, &status_members[i]);
}

static void status_unpack(struct unpack *u, struct delivery_status *s)
{
    if (unpack_nil(u))
        return;
    if (unpack_array(u) != STATUS_MEMBERS)
        u->bad = true;
    s->present = true;
    for (size_t i = 0; i < STATUS_MEMBERS; i++)
        member_unpack(u, NULL, s, &status_members[i]);
}

void event_pack(struct buf *to, const struct event *e)
{
    assert(e->type >= EVENT_ACCEPTED && e->type < EVENT_TYPE_END);
    pack_array(to, 1 + EVENT_MEMBERS);
    pack_u64(to, EVENT_VERSION);
    for (size_t i = 0; i < EVENT_MEMBERS; i++)
        member_pack(to, e, &members[i]);
}

bool event_unpack(struct slice from, struct arena *a, struct event *e)
{
    struct unpack u = unpack_over(from);
    struct event into = {.timestamp_us = e->timestamp_us, .ses_us = e->ses_us};

    memcpy(into.id, e->id, sizeof into.id);
    if (unpack_array(&u) != 1 + EVENT_MEMBERS || unpack_u64(&u) != EVENT_VERSION)
        return false;
    for (size_t i = 0; i < EVENT_MEMBERS && unpack_ok(&u); i++)
        member_unpack(&u, a, &into, &members[i]);
    if (!unpack_done(&u) || into.type == 0)
        return false;
    *e = into;
    return true;
}

/* -------- like another one -------- */

static uint32_t status_mask(const struct delivery_status *s, const struct delivery_status *model)
{
    uint32_t mask = 0;

    for (size_t i = 0; i < STATUS_MEMBERS; i++)
        mask |= (uint32_t)!member_is_same(s, model, &status_members[i]) << i;
    return mask;
}

static void status_pack_like(struct buf *to, const struct delivery_status *s,
                             const struct delivery_status *model)
{
    if (!s->present) {
        pack_nil(to);
        return;
    }
    uint32_t mask = status_mask(s, model);
    pack_u64(to, mask);
    for (; mask != 0; mask &= mask - 1)
        member_pack(to, s, &status_members[__builtin_ctz(mask)]);
}

static void status_unpack_like(struct unpack *u, struct delivery_status *s)
{
    if (unpack_nil(u)) {
        *s = (struct delivery_status){.present = false};
        return;
    }
    uint64_t mask = unpack_u64(u);
    if (mask >> STATUS_MEMBERS != 0) {
        u->bad = true;
        return;
    }
    s->present = true;
    for (; mask != 0; mask &= mask - 1)
        member_unpack(u, NULL, s, &status_members[__builtin_ctzll(mask)]);
}

void event_pack_like(struct buf *to, const struct event *e, const struct event *model)
{
    uint8_t *room = buf_reserve(to, MASK_BYTES);
    size_t mask_at = to->len;
    uint32_t mask = 0;

    memset(room, 0, MASK_BYTES);
    to->len += MASK_BYTES;
    for (size_t i = 0; i < EVENT_MEMBERS; i++) {
        const struct member *m = &members[i];
        if (member_is_same(e, model, m))
            continue;
        if (m->at == OF_EVENT(to) && slice_eq(e->to, e->recipient)) {
            mask |= TO_IS_RECIPIENT;
            continue;
        }
        mask |= UINT32_C(1) << i;
        if (m->kind == MEMBER_STATUS)
            status_pack_like(to, &e->status, &model->status);
        else
            member_pack(to, e, m);
    }
    for (size_t i = 0; i < MASK_BYTES; i++)
        to->ptr[mask_at + i] = (uint8_t)(mask >> (8 * (MASK_BYTES - 1 - i)));
}

bool event_unpack_like(struct slice from, const struct event *model, struct arena *a,
                       struct event *e)
{
    struct unpack u = unpack_over(slice_from(from, MASK_BYTES));
    struct event into = *model;
    uint32_t mask = 0;

    for (size_t i = 0; i < MASK_BYTES && i < from.len; i++)
        mask = mask << 8 | from.ptr[i];
    bool to_is_recipient = (mask & TO_IS_RECIPIENT) != 0;
    mask &= ~TO_IS_RECIPIENT;
    if (from.len < MASK_BYTES || mask >> EVENT_MEMBERS != 0)
        return false;
    into.timestamp_us = e->timestamp_us;
    into.ses_us = e->ses_us;
    memcpy(into.id, e->id, sizeof into.id);
    into.batch_id = into.batch_recipient = into.lane = 0; /* not packed: not the model's either */
    into.has_lane = false;
    for (; mask != 0 && unpack_ok(&u); mask &= mask - 1) {
        const struct member *m = &members[__builtin_ctz(mask)];
        if (m->in_parts)
            into.shared = NULL;
        if (m->kind == MEMBER_STATUS)
            status_unpack_like(&u, &into.status);
        else
            member_unpack(&u, a, &into, m);
    }
    if (!unpack_done(&u) || into.type == 0)
        return false;
    if (to_is_recipient)
        into.to = into.recipient;
    *e = into;
    return true;
}
