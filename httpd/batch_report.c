#include "httpd/batch_report.h"

#include <ctype.h>

#include "mail/filter.h"
#include "store/batch_write.h"

enum { SLOTS = 4096 }; /* > 3 × MESSAGE_RECIPIENTS_MAX, a power of two */

_Static_assert(SLOTS > 3 * MESSAGE_RECIPIENTS_MAX, "an open table with room");

struct making {
    struct batch_report *report;
    struct arena *arena;
    uint16_t slots[SLOTS]; /* 1 + place of a recipient; 0 = free */
};

/* FNV-1a over the lower case. */
static uint32_t hash_nocase(struct slice s)
{
    uint32_t hash = 2166136261u;

    for (size_t i = 0; i < s.len; i++)
        hash = (hash ^ (uint32_t)tolower(s.ptr[i])) * 16777619u;
    return hash;
}

/* The slot of this address, or the free one where it would be. */
static uint16_t *slot_of(struct making *m, struct slice address)
{
    uint32_t at = hash_nocase(address) % SLOTS;

    while (m->slots[at] != 0 &&
           !slice_eq_nocase(m->report->recipients[m->slots[at] - 1].address, address))
        at = (at + 1) % SLOTS;
    return &m->slots[at];
}

static bool read_slice(struct store_txn *t, uint64_t batch_id, uint32_t slice, struct making *m)
{
    struct batch_report *report = m->report;
    uint8_t states[SLICE_MAX] = {0};
    uint32_t state_count = 0;
    struct slice packed;
    struct recipient *list;
    size_t count;

    if (!batch_recipients(t, batch_id, slice, &packed) ||
        !recipients_unpack(packed, m->arena, &list, &count))
        return false;
    (void)states_get(t, batch_id, slice, states, &state_count);
    for (size_t i = 0; i < count && report->count < MESSAGE_RECIPIENTS_MAX; i++) {
        struct report_recipient *r = &report->recipients[report->count++];
        r->address = list[i].address;
        r->state = i < state_count && states[i] < STATE_COUNT ? (enum recipient_state)states[i]
                                                              : STATE_PENDING;
        uint16_t *slot = slot_of(m, r->address);
        if (*slot == 0)
            *slot = (uint16_t)report->count;
    }
    return count > 0;
}

static uint32_t bit_of(const struct event *e)
{
    switch (e->type) {
    case EVENT_DELIVERED:
        return REPORT_DELIVERED;
    case EVENT_FAILED:
        return e->severity == SEVERITY_PERMANENT ? REPORT_FAILED : REPORT_DELAYED;
    case EVENT_REJECTED:
        return REPORT_FAILED;
    case EVENT_OPENED:
        return REPORT_OPENED;
    case EVENT_CLICKED:
        return REPORT_CLICKED;
    case EVENT_COMPLAINED:
        return REPORT_COMPLAINED;
    case EVENT_UNSUBSCRIBED:
        return REPORT_UNSUBSCRIBED;
    case EVENT_ACCEPTED:
    case EVENT_STORED:
    case EVENT_TYPE_END:
        break;
    }
    return 0;
}

static void on_event(void *arg, const struct event *e)
{
    struct making *m = arg;
    uint16_t slot = *slot_of(m, e->recipient);

    if (slot == 0)
        return;
    struct report_recipient *r = &m->report->recipients[slot - 1];
    uint32_t bit = bit_of(e);
    r->bits |= bit;
    r->last_us = e->timestamp_us > r->last_us ? e->timestamp_us : r->last_us;
    if (bit != REPORT_FAILED && bit != REPORT_DELAYED)
        return;
    struct slice words = e->status.message.len > 0 ? e->status.message : e->status.description;
    r->code = e->status.code;
    r->reason = arena_dup(m->arena, e->reason);
    r->words = arena_dup(m->arena, words);
}

static int read_events(struct store_txn *t, struct making *m, struct err *err)
{
    struct batch_report *report = m->report;
    struct filter *filter = filter_create(m->arena);
    struct event_page page = {0};
    struct slice why;

    if (report->head.message_id_per_recipient ||
        !filter_add_values(filter, SLICE("message-id"), FILTER_EQUAL, &report->head.message_id, 1,
                           &why)) {
        report->partial = true;
        return 0;
    }
    const struct event_query q = {
        .domains = &report->head.domain,
        .domain_count = 1,
        .until_us = UINT64_MAX,
        .ascending = true,
        .filter = filter,
        .limit = REPORT_EVENTS_MAX,
        .look_max = REPORT_EVENTS_MAX,
        .visit = on_event,
        .visit_arg = m,
    };
    int rc = event_query_run(t, &q, &page, err);
    report->partial = page.cut || page.count == q.limit;
    event_page_fini(&page);
    return rc;
}

int batch_report_make(struct store_txn *t, uint64_t batch_id, struct arena *a,
                      struct batch_report *report, struct err *err)
{
    struct making *m = arena_alloc(a, sizeof *m);
    struct slice head;

    *report = (struct batch_report){0};
    if (!batch_head(t, batch_id, &head) || !message_head_unpack(head, a, &report->head) ||
        !batch_books(t, batch_id, &report->books))
        return 0;
    report->recipients = arena_array(a, MESSAGE_RECIPIENTS_MAX, sizeof *report->recipients);
    m->report = report;
    m->arena = a;
    for (uint32_t slice = 0; report->count < report->head.recipient_count; slice++)
        if (!read_slice(t, batch_id, slice, m))
            break;
    return read_events(t, m, err) == 0 ? 1 : -1;
}

struct slice mailbox_provider(struct slice address, struct arena *a)
{
    static const struct {
        const char *domain, *name;
    } known[] = {
        {"gmail.com", "Gmail"},
        {"googlemail.com", "Gmail"},
        {"outlook.com", "Microsoft"},
        {"hotmail.com", "Microsoft"},
        {"live.com", "Microsoft"},
        {"msn.com", "Microsoft"},
        {"yahoo.com", "Yahoo"},
        {"ymail.com", "Yahoo"},
        {"aol.com", "Yahoo"},
        {"icloud.com", "Apple"},
        {"me.com", "Apple"},
        {"mac.com", "Apple"},
        {"gmx.de", "GMX"},
        {"gmx.net", "GMX"},
        {"web.de", "GMX"},
        {"proton.me", "Proton"},
        {"protonmail.com", "Proton"},
    };
    size_t at = slice_rfind_byte(address, '@');
    struct slice domain = at == SIZE_MAX ? slice_none() : slice_from(address, at + 1);

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (slice_eq_nocase(domain, slice_str(known[i].domain)))
            return slice_str(known[i].name);
    uint8_t *lower = arena_alloc(a, domain.len + 1);
    for (size_t i = 0; i < domain.len; i++)
        lower[i] = (uint8_t)tolower(domain.ptr[i]);
    return slice_of(lower, domain.len);
}
