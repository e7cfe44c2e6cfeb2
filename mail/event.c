#include "mail/event.h"

#include <assert.h>

#include "base/digest.h"

enum { ID_PARTS_MAX = 15 };

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
