/*
 * Webhooks on the dashboard: GET api/webhooks, where events are told and how that goes;
 * api/webhooks/DIGITS/failures, what a target did not take; and telling that again, or never.
 */
#include "base/digest.h"
#include "base/json.h"
#include "httpd/dashboard.h"
#include "httpd/reply.h"
#include "store/as_json.h"

enum {
    WAITING_COUNTED = 10000, /* more are "10,000 or more": what waits is read to be counted */
    TARGETS_SHOWN = 500,
    FAILURES_SHOWN = 50,
};

struct listing {
    struct store_txn *t;
    struct buf body;
    struct webhook_target target; /* failures: whose */
    uint32_t shown;
    bool more;
};

static bool on_target(void *arg, const struct webhook_target *target)
{
    struct listing *l = arg;
    struct buf id = {0};

    if (l->shown == TARGETS_SHOWN) {
        l->more = true;
        return false;
    }
    text_hex(&id, slice_of(target->id, WEBHOOK_TARGET_BYTES));
    buf_add_str(&l->body, l->shown++ == 0 ? "{" : ",{");
    json_put_str(&l->body, "id", buf_slice(&id));
    webhook_target_put_json(&l->body, l->t, target, WAITING_COUNTED);
    buf_add_byte(&l->body, '}');
    buf_fini(&id);
    return true;
}

static void reply_listing(struct exchange *x, struct listing *l)
{
    buf_add_byte(&l->body, ']');
    json_put_bool(&l->body, "more", l->more);
    buf_add_byte(&l->body, '}');
    reply_json(x, 200, &l->body);
}

void dashboard_webhooks_get(struct exchange *x)
{
    struct listing l = {.t = dashboard_begin_read(x)};

    if (l.t == NULL)
        return;
    buf_add_str(&l.body, "{\"items\":[");
    webhook_target_each(l.t, on_target, &l);
    store_end_read(l.t);
    reply_listing(x, &l);
}

static bool on_failure(void *arg, const struct webhook_failure *f)
{
    struct listing *l = arg;

    if (l->shown == FAILURES_SHOWN) {
        l->more = true;
        return false;
    }
    buf_add_str(&l->body, l->shown++ == 0 ? "{" : ",{");
    webhook_failure_put_json(&l->body, l->t, f, &l->target);
    buf_add_byte(&l->body, '}');
    return true;
}

void dashboard_failures_get(struct exchange *x, struct slice which)
{
    uint8_t id[WEBHOOK_TARGET_BYTES];
    struct listing l = {.t = dashboard_begin_read(x)};

    if (l.t == NULL)
        return;
    bool found = text_read_hex(which, id, sizeof id) && webhook_target_get(l.t, id, &l.target);
    if (found) {
        buf_add_byte(&l.body, '{');
        webhook_target_put_json(&l.body, l.t, &l.target, WAITING_COUNTED);
        buf_add_str(&l.body, ",\"items\":[");
        webhook_failure_each(l.t, id, on_failure, &l);
    }
    store_end_read(l.t);
    if (found)
        reply_listing(x, &l);
    else
        reply_message(x, 404, SLICE("There is no such webhook any more"));
}

struct choice {
    struct slice id; /* of one failure; empty = all */
    struct buf ids;
};

static bool on_found(void *arg, const struct webhook_failure *f)
{
    struct choice *c = arg;
    struct buf id = {0};
    bool chosen = c->id.len == 0;

    if (!chosen) {
        webhook_failure_put_id(&id, f);
        chosen = slice_eq(buf_slice(&id), c->id);
        buf_fini(&id);
    }
    if (chosen)
        buf_add(&c->ids, f->id, WEBHOOK_FAILURE_BYTES);
    return !dashboard_ids_are_enough(&c->ids);
}

void dashboard_webhooks_act(struct exchange *x, uint32_t verb, struct slice which)
{
    struct slice of = dashboard_query(x, "target");
    struct choice c = {.id = slice_eq(which, SLICE("all")) ? slice_none() : which};
    uint8_t target[WEBHOOK_TARGET_BYTES];

    if (of.len > 0 && !text_read_hex(of, target, sizeof target)) {
        reply_message(x, 404, SLICE("There is no such webhook"));
        return;
    }
    struct store_txn *t = dashboard_begin_read(x);
    if (t == NULL)
        return;
    webhook_failure_each(t, of.len > 0 ? target : NULL, on_found, &c);
    store_end_read(t);
    dashboard_ask_all(x, verb, &c.ids, WEBHOOK_FAILURE_BYTES);
}
