#include "store/import.h"

#include "base/json.h"
#include "base/pack.h"
#include "mail/address.h"
#include "store/elsewhere.h"
#include "store/events.h"
#include "store/suppressions.h"

enum { US_PER_MS = 1000 };

const char *import_sum_name(enum import_sum sum)
{
    static const char *const names[IMPORT_SUMS] = {
        [IMPORT_EVENTS] = "events",
        [IMPORT_LATE] = "late",
        [IMPORT_KNOWN] = "known",
        [IMPORT_BEHIND] = "behind",
        [IMPORT_EXPIRED] = "expired",
        [IMPORT_LISTED] = "listed",
        [IMPORT_LISTED_KNOWN] = "listed-known",
        [IMPORT_MAILS] = "mails",
        [IMPORT_MAILS_KNOWN] = "mails-known",
        [IMPORT_NOT_READ] = "not-read",
    };

    return names[sum];
}

/* -------- judging -------- */

static uint64_t kept_from_us(const struct import *i)
{
    uint64_t kept_us = i->config->retention.events_ms * US_PER_MS;
    uint64_t from_us = i->now_us > kept_us ? i->now_us - kept_us : 0;
    uint64_t ids_us = i->t == NULL ? 0 : event_ids_begin(i->t);

    return from_us > ids_us ? from_us : ids_us;
}

static enum import_sum judge_event(const struct import *i, const struct event *e)
{
    uint64_t mark_us = i->t == NULL ? 0 : watermark_read(i->t, e->domain);

    if (i->t != NULL && event_is_known(i->t, e->id))
        return IMPORT_KNOWN;
    if (e->ses_us < kept_from_us(i))
        return IMPORT_EXPIRED;
    if (mark_us == 0 || e->ses_us >= mark_us + WATERMARK_STEP_US)
        return IMPORT_EVENTS;
    return mark_us - e->ses_us <= i->late_us || e->ses_us > mark_us ? IMPORT_LATE : IMPORT_BEHIND;
}

static bool is_listed(const struct import *i, struct slice domain, enum suppression list,
                      struct slice address)
{
    struct suppression_entry entry;

    return i->t != NULL && (suppression_get(i->t, domain, list, address, &entry) ||
                            (list == SUPPRESS_BOUNCE && allowlist_has(i->t, domain, address)));
}

static bool read_event(const struct import *i, const struct record_event *r, struct arena *a,
                       struct event *e)
{
    *e = (struct event){.ses_us = r->ses_us};
    if (r->event_id.len != EVENT_ID_BYTES || !event_unpack(r->event, a, e) ||
        config_domain_find(i->config, e->domain) == NULL || r->suppress > SUPPRESS_COMPLAINT)
        return false;
    memcpy(e->id, r->event_id.ptr, EVENT_ID_BYTES);
    return true;
}

/* -------- taking -------- */

/* What becomes of it, counted; with write, done. 0 or -1. */
static int take_entry(struct import *i, bool write, struct slice domain, enum suppression list,
                      const struct suppression_entry *entry, struct err *err)
{
    bool known = is_listed(i, domain, list, entry->address);

    i->sums[known ? IMPORT_LISTED_KNOWN : IMPORT_LISTED]++;
    return known || !write ? 0 : suppression_put(i->t, domain, list, entry, err);
}

static int take_event(struct import *i, bool write, const struct record_event *r, struct arena *a,
                      struct err *err)
{
    struct event e;

    if (!read_event(i, r, a, &e)) {
        i->sums[IMPORT_NOT_READ]++;
        return 0;
    }
    enum import_sum what = judge_event(i, &e);
    i->sums[what]++;
    if (write && (what == IMPORT_EVENTS || what == IMPORT_LATE) &&
        event_put_untold(i->t, &e, i->now_us, err) < 0)
        return -1;
    const struct suppression_entry entry = {.address = e.recipient,
                                            .code = r->suppress_code,
                                            .text = r->suppress_text,
                                            .created_us = e.ses_us};
    if (what == IMPORT_KNOWN || r->suppress == SUPPRESS_NONE)
        return 0;
    return take_entry(i, write, e.domain, (enum suppression)r->suppress, &entry, err);
}

static int take_entries(struct import *i, bool write, const struct record_suppress *r,
                        struct err *err)
{
    struct unpack u = unpack_over(r->entries);
    bool known = r->list >= SUPPRESS_BOUNCE && r->list <= SUPPRESS_COMPLAINT &&
                 config_domain_find(i->config, r->domain) != NULL;
    int rc = 0;

    if (!known)
        i->sums[IMPORT_NOT_READ]++;
    for (uint32_t n = known ? unpack_array(&u) : 0; n > 0 && rc == 0; n--) {
        struct suppression_entry entry = suppression_entry_unpack(&u);
        if (unpack_ok(&u) && address_is_valid(entry.address))
            rc = take_entry(i, write, r->domain, (enum suppression)r->list, &entry, err);
        else
            i->sums[IMPORT_NOT_READ]++;
    }
    return rc;
}

static int take_mail(struct import *i, bool write, const struct record_elsewhere *r,
                     struct err *err)
{
    if (config_domain_find(i->config, r->domain) == NULL) {
        i->sums[IMPORT_NOT_READ]++;
        return 0;
    }
    if (r->sent_us < kept_from_us(i)) {
        i->sums[IMPORT_EXPIRED]++;
        return 0;
    }
    bool known = i->t != NULL && elsewhere_has(i->t, r->ses_id);
    i->sums[known ? IMPORT_MAILS_KNOWN : IMPORT_MAILS]++;
    return !write || known ? 0 : elsewhere_put(i->t, r, err) < 0 ? -1 : 0;
}

static int take(struct import *i, bool write, struct slice bytes, struct err *err)
{
    union {
        struct record_event event;
        struct record_suppress suppress;
        struct record_elsewhere elsewhere;
    } r;
    enum record_kind kind = record_kind_of(bytes);
    struct arena a = {0};
    int rc = 0;

    if (kind == RECORD_EVENT && record_event_decode(bytes, &r.event))
        rc = take_event(i, write, &r.event, &a, err);
    else if (kind == RECORD_SUPPRESS && record_suppress_decode(bytes, &r.suppress))
        rc = take_entries(i, write, &r.suppress, err);
    else if (kind == RECORD_ELSEWHERE && record_elsewhere_decode(bytes, &r.elsewhere))
        rc = take_mail(i, write, &r.elsewhere, err);
    else
        i->sums[IMPORT_NOT_READ]++;
    arena_fini(&a);
    return rc;
}

void import_judge(struct import *i, struct slice record)
{
    (void)take(i, false, record, NULL);
}

int import_control(struct store_txn *t, const struct config *config, const struct record_control *r,
                   uint64_t now_us, enum answer_verdict *verdict, uint32_t *count, struct buf *text,
                   struct err *err)
{
    struct import i = {.t = t, .config = config, .now_us = now_us, .late_us = r->late_us};
    struct unpack u = unpack_over(r->records);
    int rc = 0;

    for (uint32_t n = unpack_array(&u); n > 0 && rc == 0 && unpack_ok(&u); n--)
        rc = take(&i, true, unpack_str(&u), err);
    if (rc != 0)
        return -1;
    *verdict = ANSWER_OK;
    *count = (uint32_t)(i.sums[IMPORT_EVENTS] + i.sums[IMPORT_LATE] + i.sums[IMPORT_LISTED] +
                        i.sums[IMPORT_MAILS]);
    buf_add_byte(text, '{');
    for (int sum = 0; sum < IMPORT_SUMS; sum++)
        json_put_u64(text, import_sum_name((enum import_sum)sum), i.sums[sum]);
    buf_add_byte(text, '}');
    return 0;
}
