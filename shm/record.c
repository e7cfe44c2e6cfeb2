#include "shm/record.h"

#include "base/pack.h"

enum { REQUIRED = 1, OPTIONAL = 0 };

/* -------- one field of each type -------- */

static void put_u64(struct buf *to, record_u64 v)
{
    pack_u64(to, v);
}

static void put_u32(struct buf *to, record_u32 v)
{
    pack_u64(to, v);
}

static void put_bool(struct buf *to, record_bool v)
{
    pack_bool(to, v);
}

static void put_text(struct buf *to, record_text v)
{
    pack_bin(to, v);
}

static record_u64 get_u64(struct unpack *u)
{
    return unpack_u64(u);
}

static record_u32 get_u32(struct unpack *u)
{
    uint64_t v = unpack_u64(u);

    if (v > UINT32_MAX)
        u->bad = true;
    return (record_u32)v;
}

static record_bool get_bool(struct unpack *u)
{
    return unpack_bool(u);
}

static record_text get_text(struct unpack *u)
{
    return unpack_str(u);
}

/* -------- the envelope: [version, kind, {…}] -------- */

static void open_envelope(struct buf *to, enum record_kind kind, size_t fields)
{
    pack_array(to, 3);
    pack_u64(to, RECORD_VERSION);
    pack_u64(to, (uint64_t)kind);
    pack_map(to, fields);
}

/* The kind, or 0; the cursor stands before the map. */
static uint64_t read_envelope(struct unpack *u)
{
    bool shape = unpack_array(u) == 3;
    bool version = unpack_u64(u) == RECORD_VERSION;
    uint64_t kind = unpack_u64(u);

    return shape && version && unpack_ok(u) && kind >= RECORD_ACCEPT && kind <= RECORD_KIND_LAST
               ? kind
               : 0;
}

enum record_kind record_kind_of(struct slice from)
{
    struct unpack u = unpack_over(from);

    return (enum record_kind)read_envelope(&u);
}

/* -------- expanded from the tables -------- */

#define COUNT(tag, type, name, presence) +1
#define PUT(tag, type, name, presence)                                                             \
    pack_u64(to, tag);                                                                             \
    put_##type(to, r->name);
#define GET(tag, type, name, presence)                                                             \
    case tag:                                                                                      \
        r->name = get_##type(&u);                                                                  \
        seen |= UINT64_C(1) << (tag);                                                              \
        break;
#define NEED(tag, type, name, presence) | ((uint64_t)(presence) << (tag))

#define RECORD_CODE(lower, TABLE, KIND)                                                            \
    void record_##lower##_encode(struct buf *to, const struct record_##lower *r)                   \
    {                                                                                              \
        open_envelope(to, KIND, 0 TABLE(COUNT));                                                   \
        TABLE(PUT)                                                                                 \
    }                                                                                              \
    bool record_##lower##_decode(struct slice from, struct record_##lower *r)                      \
    {                                                                                              \
        const uint64_t needed = 0 TABLE(NEED);                                                     \
        struct unpack u = unpack_over(from);                                                       \
        uint64_t seen = 0;                                                                         \
                                                                                                   \
        *r = (struct record_##lower){0};                                                           \
        if (read_envelope(&u) != (KIND))                                                           \
            return false;                                                                          \
        for (uint32_t n = unpack_map(&u); n > 0 && unpack_ok(&u); n--) {                           \
            switch (unpack_u64(&u)) {                                                              \
                TABLE(GET)                                                                         \
            default:                                                                               \
                unpack_skip(&u, 1);                                                                \
                break;                                                                             \
            }                                                                                      \
        }                                                                                          \
        return unpack_done(&u) && (seen & needed) == needed;                                       \
    }

RECORD_CODE(accept, ACCEPT, RECORD_ACCEPT)
RECORD_CODE(seen, SEEN, RECORD_SEEN)
RECORD_CODE(unsuppress, UNSUPPRESS, RECORD_UNSUPPRESS)
RECORD_CODE(suppress, SUPPRESS, RECORD_SUPPRESS)
RECORD_CODE(answer, ANSWER, RECORD_ANSWER)
RECORD_CODE(lease, LEASE, RECORD_LEASE)
RECORD_CODE(outcomes, OUTCOMES, RECORD_OUTCOMES)
RECORD_CODE(event, EVENT, RECORD_EVENT)
RECORD_CODE(deadletter, DEADLETTER, RECORD_DEADLETTER)
RECORD_CODE(replayed, REPLAYED, RECORD_REPLAYED)
RECORD_CODE(lifted, LIFTED, RECORD_LIFTED)
RECORD_CODE(unheard, UNHEARD, RECORD_UNHEARD)
RECORD_CODE(webhook, WEBHOOK, RECORD_WEBHOOK)
RECORD_CODE(posted, POSTED, RECORD_POSTED)
RECORD_CODE(cancel, CANCEL, RECORD_CANCEL)
RECORD_CODE(queues, QUEUES, RECORD_QUEUES)
RECORD_CODE(tag, TAG, RECORD_TAG)
RECORD_CODE(template, TEMPLATE, RECORD_TEMPLATE)
RECORD_CODE(elsewhere, ELSEWHERE, RECORD_ELSEWHERE)
RECORD_CODE(ask, ASK, RECORD_ASK)
RECORD_CODE(buffered, BUFFERED, RECORD_BUFFERED)
RECORD_CODE(part, PART, RECORD_PART)
RECORD_CODE(held, HELD, RECORD_HELD)
RECORD_CODE(change, CHANGE, RECORD_CHANGE)
RECORD_CODE(replica, REPLICA, RECORD_REPLICA)
RECORD_CODE(told, TOLD, RECORD_TOLD)
RECORD_CODE(control, CONTROL, RECORD_CONTROL)
RECORD_CODE(controlled, CONTROLLED, RECORD_CONTROLLED)
