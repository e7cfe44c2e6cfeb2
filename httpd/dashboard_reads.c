/*
 * GET api/…: what the pages show. Each answer's cost is bounded: by days and domains (overview,
 * domains), by a page's rows (batches, deadletters), by one batch (batches/ID, …/recipients).
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/log.h"
#include "httpd/batch_report.h"
#include "httpd/dashboard.h"
#include "httpd/reply.h"
#include "store/as_json.h"
#include "store/counters.h"

enum {
    DAYS = 30,
    HOURS = 24,
    CURVE_HOURS = 72, /* of one batch, by the hour; longer is by the day */
    ROWS_ABSENT = 50,
    ROWS_MAX = 500,
    ROWS_LOOKED_AT = 2000, /* for a filter that fits few */
    RAW_SHOWN = 4096,      /* of a dead letter, in a list */
    FAILURES_SHOWN = 50,   /* kinds of them */
    WORDS_COMPARED = 120,  /* of a failure's text: what follows is an id of the day */
    PROVIDERS_SHOWN = 20,
};

static const uint64_t hour_us = UINT64_C(3600000000);

static uint32_t limit_of(struct exchange *x)
{
    uint64_t limit;

    if (!slice_to_u64(dashboard_query(x, "limit"), &limit) || limit == 0)
        return ROWS_ABSENT;
    return limit > ROWS_MAX ? ROWS_MAX : (uint32_t)limit;
}

static void reply_failed(struct exchange *x, const struct err *err)
{
    log_err(err, "the dashboard cannot be answered");
    reply_message(x, 500, SLICE("Internal Server Error"));
}

/* ---- session ---- */

static void session_get(struct exchange *x)
{
    const struct config *config = x->service->me->config;
    const struct person *p = x->person;
    struct buf body = {0}, csrf = {0};

    cookie_csrf(&csrf, p->secret);
    buf_add_byte(&body, '{');
    json_put_str(&body, "name", p->name);
    json_put_str(&body, "role", slice_str(login_role_name(p->role)));
    json_put_str(&body, "csrf", buf_slice(&csrf));
    json_put_u64(&body, "until-ms", p->until_wall_ms);
    json_put_bool(&body, "sandbox", config->sandbox.enabled);
    json_put_name(&body, "domains");
    buf_add_byte(&body, '[');
    for (size_t i = 0; i < config->domain_count; i++) {
        if (i > 0)
            buf_add_byte(&body, ',');
        json_put_text(&body, slice_str(config->domains[i].name));
    }
    buf_add_str(&body, "]}");
    explicit_bzero(csrf.ptr, csrf.cap);
    buf_fini(&csrf);
    reply_json(x, 200, &body);
}

/* ---- status ---- */

static void on_status(struct exchange *x, const struct record_answer *answer)
{
    struct buf body = {0};

    if (answer == NULL || answer->verdict != ANSWER_OK) {
        reply_later(x, 503, 1, SLICE("The writer did not answer"));
        return;
    }
    buf_add_slice(&body, answer->text);
    reply_json(x, 200, &body);
}

static void status_get(struct exchange *x)
{
    (void)dashboard_ask(x, &(struct record_control){.verb = CONTROL_STATUS}, on_status);
}

/* ---- counts over time ---- */

static void put_steps(struct buf *to, const char *name, const struct counter_step *steps, int count)
{
    json_put_name(to, name);
    buf_add_byte(to, '[');
    for (int i = 0; i < count; i++) {
        buf_add_str(to, i == 0 ? "{" : ",{");
        json_put_u64(to, "start-us", steps[i].start_us);
        for (int k = 0; k < COUNT_KINDS; k++)
            if (steps[i].count[k] != 0)
                json_put_u64(to, count_kind_name((enum count_kind)k), steps[i].count[k]);
        buf_add_byte(to, '}');
    }
    buf_add_byte(to, ']');
}

/* Of all the configured domains, or of one. 0 or -1. */
static int sum_domains(struct exchange *x, struct store_txn *t, struct slice only,
                       struct counter_query *q, struct counter_step **sum, int *count,
                       struct err *err)
{
    const struct config *config = x->service->me->config;

    *sum = NULL;
    *count = 0;
    for (size_t i = 0; i < config->domain_count; i++) {
        struct counter_step *steps = NULL;
        q->domain = slice_str(config->domains[i].name);
        if (only.len > 0 && !slice_eq_nocase(only, q->domain))
            continue;
        int got = counters_read(t, q, &steps, err);
        if (got < 0)
            return -1;
        if (*sum == NULL) {
            *sum = steps;
            *count = got;
            continue;
        }
        for (int s = 0; s < got && s < *count; s++)
            for (int k = 0; k < COUNT_KINDS; k++)
                (*sum)[s].count[k] += steps[s].count[k];
        free(steps);
    }
    return 0;
}

static int put_flow(struct exchange *x, struct store_txn *t, struct slice only, const char *name,
                    enum counter_resolution resolution, uint64_t from_us, struct buf *to,
                    struct err *err)
{
    struct counter_query q = {.scope = COUNTER_DOMAIN,
                              .from_us = from_us,
                              .until_us = clock_wall_us(),
                              .resolution = resolution};
    struct counter_step *sum;
    int count;
    int rc = sum_domains(x, t, only, &q, &sum, &count, err);

    if (rc == 0)
        put_steps(to, name, sum, count);
    free(sum);
    return rc;
}

static void overview_get(struct exchange *x)
{
    struct slice only = dashboard_query(x, "domain");
    uint64_t now_us = clock_wall_us();
    struct buf body = {0};
    struct err err = {0};
    struct store_txn *t = dashboard_begin_read(x);

    if (t == NULL)
        return;
    buf_add_byte(&body, '{');
    json_put_u64(&body, "now-us", now_us);
    int rc =
        put_flow(x, t, only, "days", COUNTER_DAY, now_us - (DAYS - 1) * 24 * hour_us, &body, &err);
    if (rc == 0)
        rc = put_flow(x, t, only, "hours", COUNTER_HOUR, now_us - (HOURS - 1) * hour_us, &body,
                      &err);
    store_end_read(t);
    buf_add_byte(&body, '}');
    if (rc == 0) {
        reply_json(x, 200, &body);
    } else {
        buf_fini(&body);
        reply_failed(x, &err);
    }
}

/* ---- batches ---- */

struct listing {
    struct exchange *x;
    struct buf body;
    struct slice domain, search;
    uint32_t limit, shown, looked_at;
    uint64_t last;
    uint8_t last_id[DEADLETTER_ID_BYTES]; /* dead letters */
    bool more;
};

static bool fits(const struct listing *l, const struct message_head *h)
{
    return (l->domain.len == 0 || slice_eq_nocase(h->domain, l->domain)) &&
           (l->search.len == 0 || slice_find_nocase(h->subject, l->search) != SIZE_MAX ||
            slice_find_nocase(h->email_id, l->search) != SIZE_MAX ||
            slice_find_nocase(h->message_id, l->search) != SIZE_MAX);
}

static bool on_batch(void *arg, uint64_t id, struct slice packed, const struct books *b)
{
    struct listing *l = arg;
    const struct config *config = l->x->service->me->config;
    struct arena a = {0};
    struct message_head h;

    if (l->shown == l->limit || l->looked_at++ == ROWS_LOOKED_AT) {
        l->more = true;
        return false;
    }
    l->last = id;
    if (message_head_unpack(packed, &a, &h) && fits(l, &h)) {
        buf_add_str(&l->body, l->shown++ == 0 ? "{" : ",{");
        batch_put_json(&l->body, id, &h, b,
                       books_no_outcome(b, clock_wall_ms(), config->alarm.no_outcome_after_ms));
        json_put_bool(&l->body, "newsletter", h.lane == LANE_NEWSLETTER);
        buf_add_byte(&l->body, '}');
    }
    arena_fini(&a);
    return true;
}

static void batches_get(struct exchange *x)
{
    struct listing l = {.x = x,
                        .domain = dashboard_query(x, "domain"),
                        .search = dashboard_query(x, "search"),
                        .limit = limit_of(x)};
    uint64_t below = dashboard_batch_id(dashboard_query(x, "below"));
    struct store_txn *t = dashboard_begin_read(x);

    if (t == NULL)
        return;
    buf_add_str(&l.body, "{\"items\":[");
    batch_each_below(t, below, on_batch, &l);
    store_end_read(t);
    buf_add_byte(&l.body, ']');
    if (l.more)
        json_put_str(&l.body, "below", arena_printf(&x->arena, "%016" PRIx64, l.last));
    buf_add_byte(&l.body, '}');
    reply_json(x, 200, &l.body);
}

/* ---- one batch ---- */

struct tally {
    struct slice name, words;
    int32_t code;
    bool for_good;
    uint32_t recipients, delivered, failed, delayed, opened, clicked, complained;
};

static struct tally *tally_of(struct tally *list, size_t *count, size_t most, struct slice name,
                              int32_t code, struct slice words, bool for_good)
{
    for (size_t i = 0; i < *count; i++)
        if (list[i].code == code && list[i].for_good == for_good && slice_eq(list[i].name, name) &&
            slice_eq(slice_head(list[i].words, WORDS_COMPARED), slice_head(words, WORDS_COMPARED)))
            return &list[i];
    if (*count == most)
        return NULL;
    list[*count] = (struct tally){.name = name, .code = code, .words = words, .for_good = for_good};
    return &list[(*count)++];
}

static int more_recipients(const void *a, const void *b)
{
    const struct tally *x = a, *y = b;

    return x->recipients == y->recipients ? 0 : x->recipients < y->recipients ? 1 : -1;
}

static void put_providers(struct buf *to, struct exchange *x, const struct batch_report *r)
{
    struct tally *list = arena_array(&x->arena, MESSAGE_RECIPIENTS_MAX, sizeof *list);
    size_t count = 0;

    for (size_t i = 0; i < r->count; i++) {
        const struct report_recipient *one = &r->recipients[i];
        if (one->state == STATE_DUPLICATE)
            continue;
        struct tally *p =
            tally_of(list, &count, MESSAGE_RECIPIENTS_MAX,
                     mailbox_provider(one->address, &x->arena), 0, slice_none(), false);
        p->recipients++;
        p->delivered += (one->bits & REPORT_DELIVERED) != 0;
        p->failed += (one->bits & REPORT_FAILED) != 0;
        p->delayed += (one->bits & REPORT_DELAYED) != 0;
        p->opened += (one->bits & REPORT_OPENED) != 0;
        p->clicked += (one->bits & REPORT_CLICKED) != 0;
        p->complained += (one->bits & REPORT_COMPLAINED) != 0;
    }
    qsort(list, count, sizeof *list, more_recipients);
    json_put_name(to, "providers");
    buf_add_byte(to, '[');
    for (size_t i = 0; i < count && i < PROVIDERS_SHOWN; i++) {
        buf_add_str(to, i == 0 ? "{" : ",{");
        json_put_str(to, "name", list[i].name);
        json_put_u64(to, "recipients", list[i].recipients);
        json_put_u64(to, "delivered", list[i].delivered);
        json_put_u64(to, "failed", list[i].failed);
        json_put_u64(to, "delayed", list[i].delayed);
        json_put_u64(to, "opened", list[i].opened);
        json_put_u64(to, "clicked", list[i].clicked);
        json_put_u64(to, "complained", list[i].complained);
        buf_add_byte(to, '}');
    }
    buf_add_byte(to, ']');
    json_put_u64(to, "provider-count", count);
}

static void put_failures(struct buf *to, struct exchange *x, const struct batch_report *r)
{
    struct tally *list = arena_array(&x->arena, FAILURES_SHOWN, sizeof *list);
    size_t count = 0;
    uint32_t others = 0;

    for (size_t i = 0; i < r->count; i++) {
        const struct report_recipient *one = &r->recipients[i];
        bool for_good = (one->bits & REPORT_FAILED) != 0;
        if (!for_good && (one->bits & (REPORT_DELAYED | REPORT_DELIVERED)) != REPORT_DELAYED)
            continue;
        struct tally *f =
            tally_of(list, &count, FAILURES_SHOWN, one->reason, one->code, one->words, for_good);
        if (f == NULL)
            others++;
        else
            f->recipients++;
    }
    qsort(list, count, sizeof *list, more_recipients);
    json_put_name(to, "failures");
    buf_add_byte(to, '[');
    for (size_t i = 0; i < count; i++) {
        buf_add_str(to, i == 0 ? "{" : ",{");
        json_put_str(to, "reason", list[i].name);
        json_put_i64(to, "code", list[i].code);
        json_put_str(to, "words", list[i].words);
        json_put_bool(to, "for-good", list[i].for_good);
        json_put_u64(to, "recipients", list[i].recipients);
        buf_add_byte(to, '}');
    }
    buf_add_byte(to, ']');
    json_put_u64(to, "other-failures", others);
}

static int put_curve(struct buf *to, struct store_txn *t, uint64_t id, const struct message_head *h,
                     struct err *err)
{
    uint64_t now_us = clock_wall_us(), from_us = h->accepted_wall_us;
    bool by_hour = now_us - from_us <= CURVE_HOURS * hour_us;
    const struct counter_query q = {.scope = COUNTER_BATCH,
                                    .batch_id = id,
                                    .from_us = from_us < now_us ? from_us : now_us,
                                    .until_us = now_us,
                                    .resolution = by_hour ? COUNTER_HOUR : COUNTER_DAY};
    struct counter_step *steps = NULL;
    int count = counters_read(t, &q, &steps, err);

    if (count >= 0)
        put_steps(to, by_hour ? "hours" : "days", steps, count);
    free(steps);
    return count < 0 ? -1 : 0;
}

static void put_about(struct buf *to, struct exchange *x, const struct message_head *h)
{
    struct buf key = {0};

    text_base64url(&key, h->message_id);
    json_put_str(to, "from", h->from);
    json_put_str(to, "to", h->to);
    json_put_str(to, "storage-key", buf_slice(&key));
    json_put_bool(to, "newsletter", h->lane == LANE_NEWSLETTER);
    json_put_bool(to, "testmode", h->testmode);
    json_put_u64(to, "due-ms", h->due_wall_ms);
    json_put_u64(to, "size-bytes", h->size_bytes);
    json_put_name(to, "tags");
    buf_add_byte(to, '[');
    for (size_t i = 0; i < h->tag_count; i++) {
        if (i > 0)
            buf_add_byte(to, ',');
        json_put_text(to, h->tags[i]);
    }
    buf_add_byte(to, ']');
    buf_fini(&key);
    (void)x;
}

/* The report of the batch in the path; false: answered. Its texts borrow from the transaction. */
static bool report_get(struct exchange *x, struct slice id_text, uint64_t *id, struct store_txn **t,
                       struct batch_report *report)
{
    struct err err = {0};

    *id = dashboard_batch_id(id_text);
    *t = dashboard_begin_read(x);
    if (*t == NULL)
        return false;
    int got = *id == 0 ? 0 : batch_report_make(*t, *id, &x->arena, report, &err);
    if (got > 0)
        return true;
    store_end_read(*t);
    if (got == 0)
        reply_message(x, 404, SLICE("There is no such batch, or it is past retention"));
    else
        reply_failed(x, &err);
    return false;
}

static void batch_get(struct exchange *x, struct slice id_text)
{
    const struct config *config = x->service->me->config;
    struct batch_report r;
    struct buf body = {0};
    struct err err = {0};
    struct store_txn *t;
    uint64_t id;

    if (!report_get(x, id_text, &id, &t, &r))
        return;
    buf_add_byte(&body, '{');
    batch_put_json(&body, id, &r.head, &r.books,
                   books_no_outcome(&r.books, clock_wall_ms(), config->alarm.no_outcome_after_ms));
    put_about(&body, x, &r.head);
    put_providers(&body, x, &r);
    put_failures(&body, x, &r);
    json_put_bool(&body, "partial", r.partial);
    int rc = put_curve(&body, t, id, &r.head, &err);
    store_end_read(t);
    buf_add_byte(&body, '}');
    if (rc == 0) {
        reply_json(x, 200, &body);
    } else {
        buf_fini(&body);
        reply_failed(x, &err);
    }
}

/* ---- its recipients ---- */

static const struct {
    const char *name;
    uint32_t bit;
} outcomes[] = {
    {"delivered", REPORT_DELIVERED},       {"bounced", REPORT_FAILED},
    {"delayed", REPORT_DELAYED},           {"opened", REPORT_OPENED},
    {"clicked", REPORT_CLICKED},           {"complained", REPORT_COMPLAINED},
    {"unsubscribed", REPORT_UNSUBSCRIBED},
};
enum { OUTCOMES = sizeof outcomes / sizeof outcomes[0] };

/* show: a state or an outcome; empty = everybody. */
static bool is_shown(const struct report_recipient *r, struct slice show, struct slice search)
{
    if (search.len > 0 && slice_find_nocase(r->address, search) == SIZE_MAX)
        return false;
    if (show.len == 0 || slice_eq(show, slice_str(recipient_state_name(r->state))))
        return true;
    for (size_t i = 0; i < OUTCOMES; i++)
        if (slice_eq(show, slice_str(outcomes[i].name)))
            return (r->bits & outcomes[i].bit) != 0;
    return false;
}

static void put_recipient(struct buf *to, const struct report_recipient *r)
{
    json_put_str(to, "address", r->address);
    json_put_str(to, "state", slice_str(recipient_state_name(r->state)));
    for (size_t i = 0; i < OUTCOMES; i++)
        if ((r->bits & outcomes[i].bit) != 0)
            json_put_bool(to, outcomes[i].name, true);
    json_put_u64(to, "last-us", r->last_us);
    if ((r->bits & (REPORT_FAILED | REPORT_DELAYED)) != 0) {
        json_put_i64(to, "code", r->code);
        json_put_str(to, "reason", r->reason);
        json_put_str(to, "words", r->words);
    }
}

static void recipients_get(struct exchange *x, struct slice id_text)
{
    struct slice show = dashboard_query(x, "show"), search = dashboard_query(x, "search");
    uint32_t limit = limit_of(x), shown = 0;
    struct batch_report r;
    struct buf body = {0};
    struct store_txn *t;
    uint64_t id, skip, fitting = 0;

    if (!slice_to_u64(dashboard_query(x, "skip"), &skip))
        skip = 0;
    if (!report_get(x, id_text, &id, &t, &r))
        return;
    buf_add_str(&body, "{\"items\":[");
    for (size_t i = 0; i < r.count; i++) {
        if (!is_shown(&r.recipients[i], show, search) || fitting++ < skip || shown == limit)
            continue;
        buf_add_str(&body, shown++ == 0 ? "{" : ",{");
        put_recipient(&body, &r.recipients[i]);
        buf_add_byte(&body, '}');
    }
    store_end_read(t);
    buf_add_byte(&body, ']');
    json_put_u64(&body, "total", fitting);
    buf_add_byte(&body, '}');
    reply_json(x, 200, &body);
}

/* ---- dead letters ---- */

static bool on_letter(void *arg, const struct deadletter *d)
{
    struct listing *l = arg;

    if (l->shown == l->limit || l->looked_at++ == ROWS_LOOKED_AT) {
        l->more = true;
        return false;
    }
    l->last = d->wall_us;
    memcpy(l->last_id, d->id, sizeof l->last_id);
    if (!deadletter_holds(d, l->search))
        return true;
    buf_add_str(&l->body, l->shown++ == 0 ? "{" : ",{");
    deadletter_put_json(&l->body, d, RAW_SHOWN);
    buf_add_byte(&l->body, '}');
    return true;
}

/* "µs-id", as the page before gave it. */
static bool read_place(struct slice text, uint64_t *us, uint8_t id[DEADLETTER_ID_BYTES])
{
    struct slice number, hex;

    return slice_cut(text, '-', &number, &hex) && slice_to_u64(number, us) &&
           text_read_hex(hex, id, DEADLETTER_ID_BYTES);
}

static void letters_get(struct exchange *x)
{
    struct listing l = {.x = x, .search = dashboard_query(x, "search"), .limit = limit_of(x)};
    uint8_t id[DEADLETTER_ID_BYTES];
    uint64_t below_us;
    struct store_txn *t = dashboard_begin_read(x);

    if (t == NULL)
        return;
    buf_add_str(&l.body, "{\"items\":[");
    if (read_place(dashboard_query(x, "below"), &below_us, id))
        deadletter_each_below(t, below_us, id, on_letter, &l);
    else
        deadletter_each(t, on_letter, &l);
    uint64_t total = deadletter_count(t);
    store_end_read(t);
    buf_add_byte(&l.body, ']');
    json_put_u64(&l.body, "total", total);
    if (l.more) {
        struct buf place = {0};
        buf_printf(&place, "%" PRIu64 "-", l.last);
        text_hex(&place, slice_of(l.last_id, sizeof l.last_id));
        json_put_str(&l.body, "below", buf_slice(&place));
        buf_fini(&place);
    }
    buf_add_byte(&l.body, '}');
    reply_json(x, 200, &l.body);
}

static void letter_get(struct exchange *x, struct slice id_text)
{
    struct buf id = {0}, body = {0};
    struct deadletter d;
    struct store_txn *t = dashboard_begin_read(x);

    if (t == NULL)
        return;
    bool found = text_from_hex(&id, id_text) && id.len == DEADLETTER_ID_BYTES &&
                 deadletter_get(t, id.ptr, &d);
    if (found) {
        buf_add_byte(&body, '{');
        deadletter_put_json(&body, &d, d.raw.len);
        json_put_bool(&body, "waits-for-replay", deadletter_is_wished(t, id.ptr));
        buf_add_byte(&body, '}');
    }
    store_end_read(t);
    buf_fini(&id);
    if (found)
        reply_json(x, 200, &body);
    else
        reply_message(x, 404, SLICE("There is no such dead letter any more"));
}

/* ---- domains ---- */

static void domains_get(struct exchange *x)
{
    const struct config *config = x->service->me->config;
    struct buf body = {0};
    struct err err = {0};
    struct store_txn *t = dashboard_begin_read(x);

    if (t == NULL)
        return;
    struct reputation *r = reputation_open(t, &err);
    store_end_read(t);
    if (r == NULL) {
        reply_failed(x, &err);
        return;
    }
    buf_add_str(&body, "{\"items\":[");
    for (size_t i = 0; i < config->domain_count; i++) {
        buf_add_str(&body, i == 0 ? "{" : ",{");
        reputation_put_json(&body, r, slice_str(config->domains[i].name), clock_wall_ms(),
                            config->guard.window_ms);
        buf_add_byte(&body, '}');
    }
    buf_add_byte(&body, ']');
    json_put_u64(&body, "bounce-pause-ppm", config->guard.bounce_pause_ppm);
    json_put_u64(&body, "complaint-pause-ppm", config->guard.complaint_pause_ppm);
    buf_add_byte(&body, '}');
    reputation_close(r);
    reply_json(x, 200, &body);
}

/* ---- */

static const struct {
    const char *name;
    void (*all)(struct exchange *x);
    void (*one)(struct exchange *x, struct slice id);
    const char *about; /* name/ID/about */
    void (*about_one)(struct exchange *x, struct slice id);
} reads[] = {
    {"session", session_get, NULL, NULL, NULL},
    {"status", status_get, NULL, NULL, NULL},
    {"overview", overview_get, NULL, NULL, NULL},
    {"batches", batches_get, batch_get, "recipients", recipients_get},
    {"batches", NULL, NULL, "html", dashboard_html_get},
    {"batches", NULL, NULL, "mail", dashboard_mail_get},
    {"deadletters", letters_get, letter_get, NULL, NULL},
    {"domains", domains_get, NULL, NULL, NULL},
    {"webhooks", dashboard_webhooks_get, NULL, "failures", dashboard_failures_get},
    {"sessions", dashboard_sessions_get, NULL, NULL, NULL},
};

bool dashboard_read(struct exchange *x, const struct dashboard_path *p)
{
    for (size_t i = 0; i < sizeof reads / sizeof reads[0]; i++) {
        if (!slice_eq(p->part[0], slice_str(reads[i].name)))
            continue;
        if (p->count == 1 && reads[i].all != NULL) {
            reads[i].all(x);
            return true;
        }
        if (p->count == 2 && reads[i].one != NULL) {
            reads[i].one(x, p->part[1]);
            return true;
        }
        if (p->count == 3 && reads[i].about != NULL &&
            slice_eq(p->part[2], slice_str(reads[i].about))) {
            reads[i].about_one(x, p->part[1]);
            return true;
        }
    }
    return false;
}
