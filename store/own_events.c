#include "store/own_events.h"

#include <string.h>

#include "base/clock.h"
#include "mail/own_event.h"
#include "store/events.h"
#include "store/internal.h"
#include "store/key.h"

enum { TIME_BYTES = 8, BITS_BYTES = (MESSAGE_RECIPIENTS_MAX + 7) / 8, EVENT_MEMBERS = 6 };

/* Stands for each reader's own message id where the head's would be filled in for each. */
#define OWN_ID SLICE("%recipient.id%")

/* -------- whose `accepted` events are here -------- */

static void bits_get(struct store_txn *t, uint64_t batch_id, uint8_t bits[BITS_BYTES])
{
    struct key k = {.len = 0};
    struct slice row;

    key_u64(&k, batch_id);
    memset(bits, 0, BITS_BYTES);
    if (store_get(t, DB_EXPANDED, key_slice(&k), &row) && row.len == TIME_BYTES + BITS_BYTES)
        memcpy(bits, row.ptr + TIME_BYTES, BITS_BYTES);
}

static int bits_put(struct store_txn *t, uint64_t batch_id, const uint8_t bits[BITS_BYTES],
                    struct err *err)
{
    struct key k = {.len = 0}, row = {.len = 0};

    key_u64(&k, batch_id);
    key_u64(&row, clock_wall_us());
    key_bytes(&row, slice_of(bits, BITS_BYTES));
    return store_put(t, DB_EXPANDED, key_slice(&k), key_slice(&row), err);
}

static bool bit_is_set(const uint8_t *bits, uint32_t at)
{
    return (bits[at / 8] >> at % 8 & 1) != 0;
}

/* -------- telling them -------- */

/* Some readers of consecutive indices; returns how many, or -1. */
static int tell_some(struct store_txn *t, const struct accepted *a, size_t from, size_t to,
                     struct err *err)
{
    struct message_head head = *a->head;
    struct buf packed = {0}, list = {0}, readers = {0};
    struct arena arena = {0};
    struct version v;
    size_t at = from;

    if (head.message_id_per_recipient)
        head.message_id = OWN_ID;
    message_head_pack(&packed, &head);
    for (; at < to && (at == from || packed.len + list.len < CHANGE_BYTES_GOAL); at++) {
        pack_array(&list, 2);
        pack_str(&list, a->list[at].address);
        pack_str(&list, head.message_id_per_recipient ? message_id_of(a->head, &a->list[at], &arena)
                                                      : slice_none());
    }
    pack_array(&readers, at - from);
    buf_add_slice(&readers, buf_slice(&list));
    int rc = change_stamp(t, &v, err);
    if (rc == 0)
        rc = change_tell(t,
                         &(struct record_change){.what = CHANGE_ACCEPTED,
                                                 .stamp_us = v.stamp_us,
                                                 .domain = head.domain,
                                                 .batch_id = a->batch_id,
                                                 .first = a->indices[from],
                                                 .head = buf_slice(&packed),
                                                 .readers = buf_slice(&readers)},
                         err);
    buf_fini(&packed);
    buf_fini(&list);
    buf_fini(&readers);
    arena_fini(&arena);
    return rc == 0 ? (int)(at - from) : -1;
}

static int tell_accepted(struct store_txn *t, const struct accepted *a, size_t from, size_t to,
                         struct err *err)
{
    while (from < to) {
        int told = tell_some(t, a, from, to, err);
        if (told < 0)
            return -1;
        from += (size_t)told;
    }
    return 0;
}

int accepted_put(struct store_txn *t, const struct accepted *a, struct err *err)
{
    uint8_t bits[BITS_BYTES];
    bool any = false;

    bits_get(t, a->batch_id, bits);
    for (size_t from = 0, to; from < a->count; from = to) {
        to = from + 1;
        if (bit_is_set(bits, a->indices[from]))
            continue;
        while (to < a->count && a->indices[to] == a->indices[to - 1] + 1 &&
               !bit_is_set(bits, a->indices[to]))
            to++;
        if (event_put_accepted(t, a->head, a->batch_id, a->indices[from], a->list + from, to - from,
                               clock_wall_us(), err) != 0 ||
            (a->here && tell_accepted(t, a, from, to, err) != 0))
            return -1;
        for (size_t i = from; i < to; i++)
            bits[a->indices[i] / 8] |= (uint8_t)(1u << a->indices[i] % 8);
        any = true;
    }
    return any ? bits_put(t, a->batch_id, bits, err) : 0;
}

/* -------- the others -------- */

int own_events_tell(struct own_events *o, struct store_txn *t, struct err *err)
{
    struct buf events = {0};
    struct version v;

    if (o->count == 0)
        return 0;
    pack_array(&events, o->count);
    buf_add_slice(&events, buf_slice(&o->packed));
    int rc = change_stamp(t, &v, err);
    if (rc == 0)
        rc = change_tell(t,
                         &(struct record_change){.what = CHANGE_EVENTS,
                                                 .stamp_us = v.stamp_us,
                                                 .domain = buf_slice(&o->domain),
                                                 .events = buf_slice(&events)},
                         err);
    buf_fini(&events);
    buf_reset(&o->packed);
    o->count = 0;
    return rc;
}

int own_events_note(struct own_events *o, struct store_txn *t, const struct event *e,
                    struct err *err)
{
    struct buf packed = {0};

    if (!changes_are_told(t))
        return 0;
    if (o->count > 0 &&
        (!slice_eq(buf_slice(&o->domain), e->domain) || o->packed.len >= CHANGE_BYTES_GOAL) &&
        own_events_tell(o, t, err) != 0)
        return -1;
    buf_reset(&o->domain);
    buf_add_slice(&o->domain, e->domain);
    event_pack(&packed, e);
    pack_array(&o->packed, EVENT_MEMBERS);
    pack_bin(&o->packed, slice_of(e->id, EVENT_ID_BYTES));
    pack_u64(&o->packed, e->ses_us);
    pack_bin(&o->packed, buf_slice(&packed));
    pack_u64(&o->packed, e->batch_id);
    pack_u64(&o->packed, e->batch_recipient);
    pack_u64(&o->packed, e->lane);
    o->count++;
    buf_fini(&packed);
    return 0;
}

void own_events_fini(struct own_events *o)
{
    buf_fini(&o->packed);
    buf_fini(&o->domain);
}

bool own_event_unpack(struct unpack *u, struct arena *a, struct event *e)
{
    *e = (struct event){.has_lane = true};
    if (unpack_array(u) != EVENT_MEMBERS)
        u->bad = true;
    struct slice id = unpack_str(u);
    e->ses_us = unpack_u64(u);
    struct slice packed = unpack_str(u);
    uint64_t batch_id = unpack_u64(u), recipient = unpack_u64(u), lane = unpack_u64(u);
    if (!unpack_ok(u) || id.len != EVENT_ID_BYTES || recipient >= MESSAGE_RECIPIENTS_MAX ||
        lane > LANE_NEWSLETTER || !event_unpack(packed, a, e) ||
        (e->type != EVENT_FAILED && e->type != EVENT_REJECTED && e->type != EVENT_DELIVERED))
        return false;
    memcpy(e->id, id.ptr, EVENT_ID_BYTES);
    e->batch_id = batch_id;
    e->batch_recipient = (uint32_t)recipient;
    e->lane = (uint32_t)lane;
    return true;
}
