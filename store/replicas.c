#include "store/replicas.h"

#include <inttypes.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "mail/replication.h"
#include "store/deadletters.h"
#include "store/events.h"
#include "store/key_seals.h"
#include "store/list_changes.h"
#include "store/own_events.h"
#include "store/parts.h"
#include "store/runs.h"

enum {
    ADDRESS_BYTES_MAX = 512,
    TAG_BYTES_MAX = 1024,
    EMAIL_ID_BYTES_MAX = 1024,
    US_PER_S = 1000000,
};

/* -------- judging -------- */

static bool is_text(struct slice s, size_t most)
{
    return s.len <= most && slice_find_byte(s, 0) == SIZE_MAX;
}

static bool is_list(uint32_t list)
{
    return list >= SUPPRESS_BOUNCE && list <= SUPPRESS_ALLOW;
}

/* A packed array of tags, or nothing. */
static bool are_tags(struct slice packed)
{
    struct unpack u = unpack_over(packed);

    if (packed.len == 0)
        return true;
    for (uint32_t n = unpack_array(&u); n > 0 && unpack_ok(&u); n--) {
        struct slice tag = unpack_str(&u);
        if (tag.len == 0 || !is_text(tag, TAG_BYTES_MAX))
            return false;
    }
    return unpack_done(&u);
}

static bool is_listed(const struct record_change *r)
{
    struct unpack u = unpack_over(r->entries);
    uint32_t count = is_list(r->list) ? unpack_array(&u) : 0;

    for (uint32_t i = 0; i < count; i++) {
        struct suppression_entry entry = suppression_entry_unpack(&u);
        if (!unpack_ok(&u) || !suppression_fits((enum suppression)r->list, entry.address) ||
            !are_tags(entry.tags))
            return false;
    }
    return count > 0 && unpack_done(&u);
}

static bool is_unlisted(const struct record_change *r)
{
    return is_list(r->list) && is_text(r->address, ADDRESS_BYTES_MAX) &&
           (r->tag.len == 0 || (r->list == SUPPRESS_UNSUBSCRIBE && r->address.len > 0 &&
                                is_text(r->tag, TAG_BYTES_MAX)));
}

static bool is_steered(const struct record_change *r)
{
    return (r->verb == CONTROL_PAUSE || r->verb == CONTROL_RESUME || r->verb == CONTROL_CANCEL) &&
           is_text(r->email_id, EMAIL_ID_BYTES_MAX);
}

/* Lists are the arena's; false: no such readers. */
static bool read_accepted(const struct record_change *r, struct arena *a, struct message_head *head,
                          struct accepted *out)
{
    struct unpack u = unpack_over(r->readers);
    uint32_t count = unpack_array(&u);

    if (r->batch_id == 0 || !message_head_unpack(r->head, a, head) ||
        !slice_eq(head->domain, r->domain) || count == 0 || count > MESSAGE_RECIPIENTS_MAX ||
        r->first > MESSAGE_RECIPIENTS_MAX - count || head->lane > LANE_NEWSLETTER)
        return false;
    struct recipient *list = arena_array(a, count, sizeof *list);
    struct name_value *ids = arena_array(a, count, sizeof *ids);
    uint32_t *indices = arena_array(a, count, sizeof *indices);
    for (uint32_t i = 0; i < count; i++) {
        if (unpack_array(&u) != 2)
            return false;
        list[i] = (struct recipient){.address = unpack_str(&u)};
        ids[i] = (struct name_value){SLICE("id"), unpack_str(&u)};
        if (list[i].address.len == 0 || !is_text(list[i].address, ADDRESS_BYTES_MAX))
            return false;
        list[i].vars = &ids[i];
        list[i].var_count = 1;
        indices[i] = r->first + i;
    }
    *out = (struct accepted){
        .head = head, .batch_id = r->batch_id, .list = list, .indices = indices, .count = count};
    return unpack_done(&u);
}

static bool are_events(const struct record_change *r, struct arena *a)
{
    struct unpack u = unpack_over(r->events);
    uint32_t count = unpack_array(&u);
    struct event e;

    for (uint32_t i = 0; i < count; i++)
        if (!own_event_unpack(&u, a, &e) || !slice_eq(e.domain, r->domain))
            return false;
    return count > 0 && unpack_done(&u);
}

static bool has_its_fields(const struct record_change *r, struct arena *a)
{
    struct message_head head;
    struct accepted accepted;

    switch (r->what) {
    case CHANGE_LISTED:
        return is_listed(r);
    case CHANGE_UNLISTED:
        return is_unlisted(r);
    case CHANGE_STEERED:
        return is_steered(r);
    case CHANGE_ACCEPTED:
        return read_accepted(r, a, &head, &accepted);
    case CHANGE_EVENTS:
        return are_events(r, a);
    default:
        return false;
    }
}

/* The keys of all domains are no domain's. */
static bool is_of_domain_here(const struct record_change *r, const struct config *config)
{
    const struct config_domain *d = config_domain_find(config, r->domain);

    return (r->what == CHANGE_KEYS && r->domain.len == 0) ||
           (d != NULL && slice_eq(slice_str(d->name), r->domain));
}

bool replica_judge(struct slice change, const struct config *config, struct store_txn *t,
                   uint64_t now_us, struct arena *a, struct record_change *r, struct slice *why)
{
    struct slice rows;

    *why = SLICE("a change of another machine that cannot be read");
    if (change.len > CHANGE_BYTES_MAX || !record_change_decode(change, r))
        return false;
    *why = SLICE("a change of another machine for a domain that is not configured here");
    if (!is_of_domain_here(r, config))
        return false;
    *why =
        SLICE("a change of another machine whose clock is more than an hour ahead of this one's");
    if (r->stamp_us > now_us + (uint64_t)REPLICA_AHEAD_MAX_S * US_PER_S)
        return false;
    *why = SLICE("a change of another machine whose fields are none that a Postern tells");
    if (r->stamp_us == 0)
        return false;
    if (r->what != CHANGE_KEYS)
        return has_its_fields(r, a);
    if (!keys_judge(t, config, r, a, &rows, why))
        return false;
    r->keys = rows;
    return true;
}

/* -------- making them -------- */

static int apply_listed(struct store_txn *t, const struct record_change *r, const struct version *v,
                        struct err *err)
{
    struct unpack u = unpack_over(r->entries);

    for (uint32_t n = unpack_array(&u); n > 0; n--) {
        struct suppression_entry entry = suppression_entry_unpack(&u);
        if (list_add(t, r->domain, (enum suppression)r->list, &entry, v, err) < 0)
            return -1;
    }
    return 0;
}

static int apply_unlisted(struct store_txn *t, const struct record_change *r,
                          const struct version *v, struct err *err)
{
    enum suppression list = (enum suppression)r->list;

    if (r->address.len == 0)
        return list_clear(t, r->domain, list, v, err);
    return list_remove(t, r->domain, list, r->address, r->tag, v, err) < 0 ? -1 : 0;
}

static int apply_accepted(struct store_txn *t, const struct record_change *r, struct arena *a,
                          struct err *err)
{
    struct message_head head;
    struct accepted accepted;

    /* What is older may have been here, and be gone already. */
    if (!read_accepted(r, a, &head, &accepted) || head.accepted_wall_us < event_ids_begin(t))
        return 0;
    return accepted_put(t, &accepted, err);
}

/* That recipient is settled: should its part come here, it is not tried again. */
static int apply_event(struct scheduler *s, struct store_txn *t, struct event *e, struct err *err)
{
    int got = event_put(t, e, clock_wall_us(), err);

    if (got <= 0 || e->batch_id == 0)
        return got < 0 ? -1 : 0;
    if (part_note_elsewhere(s, t, e->batch_id, e->batch_recipient, slice_none(), err) != 0)
        return -1;
    return scheduler_count_event(s, t, e->batch_id, e->batch_recipient, e->type,
                                 (uint32_t)e->severity, err);
}

static int apply_events(struct scheduler *s, struct store_txn *t, const struct record_change *r,
                        struct arena *a, struct err *err)
{
    struct unpack u = unpack_over(r->events);
    struct event e;

    for (uint32_t n = unpack_array(&u); n > 0 && own_event_unpack(&u, a, &e); n--)
        if (apply_event(s, t, &e, err) != 0)
            return -1;
    return 0;
}

static int apply(struct scheduler *s, struct store_txn *t, const struct record_change *r,
                 const struct version *v, struct arena *a, struct err *err)
{
    switch (r->what) {
    case CHANGE_LISTED:
        return apply_listed(t, r, v, err);
    case CHANGE_UNLISTED:
        return apply_unlisted(t, r, v, err);
    case CHANGE_STEERED:
        return scheduler_steer(s, t, r, v, err);
    case CHANGE_ACCEPTED:
        return apply_accepted(t, r, a, err);
    case CHANGE_EVENTS:
        return apply_events(s, t, r, a, err);
    case CHANGE_KEYS:
        return keys_apply(t, r->keys, err);
    default:
        return 0;
    }
}

/* The poller took it for good, and what has come in between (a key withdrawn, another configuration)
 * made it none: it is kept, as the poller would have kept it. */
static int keep(const struct config *config, struct store_txn *t, const struct record_replica *r,
                struct slice why, struct err *err)
{
    const struct config_list *queues = &config->event_queues;
    struct buf message = {0}, id = {0};
    uint8_t digest[SHA256_BYTES];

    log_warn("node %016" PRIx64 ": %.*s; it is kept (postern deadletters)", r->node,
             SLICE_ARGS(why));
    replication_begin(&message, r->node);
    (void)replication_add(&message, r->change);
    replication_end(&message);
    digest_sha256(buf_slice(&message), digest);
    text_hex(&id, slice_of(digest, sizeof digest));
    struct deadletter letter = {
        .source =
            slice_str(queues->count > 0 ? queues->texts[0] : config->queues.replication_topic),
        .why = why,
        .raw = buf_slice(&message),
        .message_id = buf_slice(&id),
        .wall_us = clock_wall_us(),
    };
    int rc = deadletter_put(t, &letter, err);
    buf_fini(&message);
    buf_fini(&id);
    return rc;
}

int replica_apply(struct scheduler *s, struct store_txn *t, const struct record_replica *r,
                  struct err *err)
{
    struct arena arena = {0};
    struct record_change change;
    struct slice why;
    int rc = 0;

    if (r->node == changes_node(t) || !changes_are_told(t))
        return 0;
    if (!replica_judge(r->change, s->me->config, t, clock_wall_us(), &arena, &change, &why)) {
        rc = keep(s->me->config, t, r, why, err);
    } else {
        const struct version v = {.stamp_us = change.stamp_us, .node = r->node};
        rc = change_stamp_heard(t, v.stamp_us, err);
        if (rc == 0)
            rc = apply(s, t, &change, &v, &arena, err);
    }
    arena_fini(&arena);
    return rc;
}
