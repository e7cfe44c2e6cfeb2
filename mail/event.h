/*
 * mail/event.h - one Mailgun event: as a struct, packed for the store, and as the API's JSON.
 *
 * SHAPE   spec/mailgun.md §4.5. Packed: msgpack array in the order of the members, led by a
 *         version, WITHOUT id and timestamps (they are the store's key). Packed like another one:
 *         four bytes that say which members differ from that one's, and those members. JSON:
 *         exactly Mailgun's names and types.
 * MEMORY  Structs borrow all texts; arrays live in the caller's arena.
 * UNITS   Times in µs since 1970 UTC.
 * ERRORS  event_unpack() answers false for anything that does not fit.
 */
#ifndef MAIL_EVENT_H
#define MAIL_EVENT_H

#include "mail/message.h"

enum event_type {
    EVENT_ACCEPTED = 1,
    EVENT_REJECTED,
    EVENT_DELIVERED,
    EVENT_FAILED,
    EVENT_OPENED,
    EVENT_CLICKED,
    EVENT_UNSUBSCRIBED,
    EVENT_COMPLAINED,
    EVENT_STORED,
    EVENT_TYPE_END,
};

enum event_severity { SEVERITY_NONE, SEVERITY_TEMPORARY, SEVERITY_PERMANENT };

/* What the store's indexes tell apart: the type, and of the failures the permanent ones. */
enum { EVENT_KIND_PERMANENT = 15, EVENT_KIND_END };

enum {
    EVENT_ID_BYTES = 16,     /* 6 bytes: SES's time in ms, big-endian; 10 bytes: of a SHA-256 */
    EVENT_ORDINAL_BYTES = 2, /* `accepted`: the last of them count the batch's recipients */
    EVENT_ORDINALS = 1 << 16,
};

struct delivery_status {
    bool present;
    int32_t code;
    struct slice message, description;   /* always texts, maybe empty */
    struct slice enhanced_code, mx_host; /* empty = left out */
    uint32_t attempt_no;                 /* from 1 */
    uint32_t session_ms;
    uint32_t retry_s; /* temporary failures; 0 = left out */
};

/* What the JSON of all events of a model has in common. event_to_json() and event_to_log() make a
 * part when an event is the first that asks for it, and put it into the arena: both live as long as
 * the model. */
enum event_part { EVENT_PART_ABOUT, EVENT_PART_HEADERS, EVENT_PART_KEY, EVENT_PARTS };

struct event_shared {
    struct arena *arena;
    struct slice parts[EVENT_PARTS]; /* empty: not made yet */
};

struct event {
    uint8_t id[EVENT_ID_BYTES];
    uint64_t timestamp_us; /* the API's; given by the writer when it stores the event */
    uint64_t ses_us;       /* when it happened: SES's own time, or ours for events we make */
    /* Whose it is, for counters: from SES's tags or our own; not packed. 0 = not known. */
    uint64_t batch_id;
    uint32_t batch_recipient; /* index within the batch */
    bool has_lane;
    uint32_t lane; /* enum lane, where has_lane */
    /* The model's, if that has one and nothing that its parts are made from differs (event_pack.c);
     * else NULL. Who then changes such a member of *e sets it to NULL. */
    struct event_shared *shared;
    /* packed, in this order: */
    enum event_type type;
    enum event_severity severity;
    struct slice domain;
    struct slice recipient;  /* as in the request */
    struct slice message_id; /* without brackets */
    struct slice reason;
    struct slice to, from, subject;
    struct slice *tags;
    size_t tag_count;
    struct name_value *vars; /* user-variables */
    size_t var_count;
    uint64_t size_bytes;
    bool test_mode, delayed_bounce;
    struct slice envelope_sender, sending_ip;
    struct delivery_status status;
    struct slice ip, user_agent, url; /* opened, clicked */
    struct slice client_name, client_os, client_type, device_type, bot;
    struct slice ses_id; /* SES's MessageId; empty = none */
    struct slice method; /* accepted: "http" */
};

/* No timestamp lies nearer behind a whole second (store/events.c). */
enum { EVENT_PAST_SECOND_US = 1000 };

/* Is its timestamp later than SES's, by more than keeps it off a whole second? */
static inline bool event_is_late(const struct event *e)
{
    return e->timestamp_us > e->ses_us + EVENT_PAST_SECOND_US;
}

static inline unsigned event_kind(const struct event *e)
{
    bool permanent = e->type == EVENT_FAILED && e->severity == SEVERITY_PERMANENT;

    return permanent ? (unsigned)EVENT_KIND_PERMANENT : (unsigned)e->type;
}

/* id = first 6 bytes: ses_us in ms; then SHA-256 over (domain, identity parts). The same SES event
 * delivered again, under whatever SNS or SQS id, gives the same parts and so the same id. */
void event_make_id(struct event *e, const struct slice *parts, size_t count);

void event_pack(struct buf *to, const struct event *e);
/* id, timestamp_us and ses_us of *e are left as they are; batch_id becomes 0. */
bool event_unpack(struct slice from, struct arena *a, struct event *e);
/* The same for what tells it from a model: any other event, which must be the same when it is read.
 * Texts of *e then borrow from the model's, too; its lists, and `shared`, may be the model's. */
void event_pack_like(struct buf *to, const struct event *e, const struct event *model);
bool event_unpack_like(struct slice from, const struct event *model, struct arena *a,
                       struct event *e);

/* Appends where a domain's stored messages are: origin as "https://HOST", with or without a slash
 * behind it. For the storage_base below. */
void event_storage_base(struct buf *to, struct slice origin, struct slice domain);

/* Appends the event's JSON object, compact. storage_base: e.g.
 * "https://HOST/v3/domains/D/messages/", empty = no storage member. timestamp has 6 decimals and is
 * never integral; ses-timestamp stands beside it when the two differ. */
void event_to_json(struct buf *to, const struct event *e, struct slice storage_base);
/* The same as an item of the Logs API (spec/mailgun.md §4.9): "@timestamp" as ISO 8601, the
 * domain, storage.url a list, and user-variables as the text of a JSON object. Events of several
 * domains stand side by side there: origin as event_storage_base() takes it, empty = no storage. */
void event_to_log(struct buf *to, const struct event *e, struct slice origin);
void event_vars_to_json(struct buf *to, const struct event *e); /* {"name":"value"} */

const char *event_type_name(enum event_type type);  /* "delivered" */
enum event_type event_type_from(struct slice name); /* any case; 0 = none of them */
void event_id_text(struct buf *to, const uint8_t id[EVENT_ID_BYTES]); /* 22 characters, base64url */

#endif
