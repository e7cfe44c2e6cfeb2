/*
 * GET and DELETE /v3/{domain}/{bounces|complaints|unsubscribes}/{address}.
 * SOURCE spec/mailgun.md §5.1, §5.2; spec/ghost.md §5.
 */
#include "store/suppressions.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/pack.h"
#include "httpd/reply.h"
#include "mail/date.h"

struct words {
    const char *removed, *not_found, *not_deleted;
};

static struct words words_of(enum suppression list)
{
    switch (list) {
    case SUPPRESS_BOUNCE:
        return (struct words){"Bounced address has been removed",
                              "Address not found in bounces table",
                              "Address not found in bounces table"};
    case SUPPRESS_COMPLAINT:
        return (struct words){"Spam complaint has been removed",
                              "No spam complaints found for this address",
                              "No spam complaints found for this address"};
    case SUPPRESS_UNSUBSCRIBE:
        return (struct words){"Unsubscribe event has been removed",
                              "Address not found in unsubscribers table",
                              "Unsubscribe event for this tag does not exist"};
    case SUPPRESS_NONE:
        break;
    }
    return (struct words){"", "Not Found", "Not Found"};
}

static void on_answer(struct exchange *x, const struct record_answer *answer)
{
    struct words words = words_of(x->route.list);
    struct buf body = {0};

    if (answer == NULL) {
        reply_later(x, 503, 10,
                    SLICE("The address could not be removed in time, please try again"));
        return;
    }
    switch (answer->verdict) {
    case ANSWER_OK:
        buf_add_str(&body, "{");
        json_put_str(&body, "address", x->route.leaf);
        json_put_str(&body, "message", slice_str(words.removed));
        buf_add_str(&body, "}");
        reply_json(x, 200, &body);
        return;
    case ANSWER_NOT_FOUND:
        reply_message(x, 404, slice_str(words.not_deleted));
        return;
    case ANSWER_FULL:
        reply_later(x, 503, 60, SLICE("The server's disk is full, nothing was removed"));
        return;
    default:
        log_error("the writer refused to take an address of %s off a list: %.*s", x->domain->name,
                  SLICE_ARGS(answer->text));
        reply_message(x, 500, SLICE("Internal Server Error"));
        return;
    }
}

/* The domain of the path first, then the others that the key opens. */
static void pack_domains(struct buf *to, const struct exchange *x)
{
    pack_array(to, x->domain_count);
    pack_str(to, slice_str(x->domain->name));
    for (size_t i = 0; i < x->domain_count; i++) {
        if (x->domains[i] != x->domain)
            pack_str(to, slice_str(x->domains[i]->name));
    }
}

static void suppressions_delete(struct exchange *x)
{
    struct service *s = x->service;
    struct buf domains = {0};
    uint64_t id = inbox_wait(s->inbox, x, clock_mono_ms() + WRITER_PATIENCE_MS, on_answer);

    if (id == 0) {
        reply_later(x, 429, 1, SLICE("Too many requests are waiting, please try again"));
        return;
    }
    pack_domains(&domains, x);
    struct slice query = x->query, name, value, tag = slice_none();
    while (x->route.list == SUPPRESS_UNSUBSCRIBE && query_next(&query, &x->arena, &name, &value))
        if (slice_eq(name, SLICE("tag")))
            tag = value;
    const struct record_unsuppress record = {
        .request_id = id,
        .generation = s->me->generation,
        .domains = buf_slice(&domains),
        .list = (uint32_t)x->route.list,
        .address = x->route.leaf,
        .tag = tag,
    };
    buf_reset(&s->record);
    record_unsuppress_encode(&s->record, &record);
    buf_fini(&domains);
    enum ring_result pushed = service_push(s);
    if (pushed != RING_OK) {
        inbox_forget(s->inbox, id);
        service_refuse(x, pushed);
    }
}

static void put_tags(struct buf *to, struct slice tags)
{
    struct unpack u = unpack_over(tags);

    buf_add_byte(to, '[');
    if (tags.len == 0)
        json_put_text(to, SLICE("*"));
    for (uint32_t n = tags.len == 0 ? 0 : unpack_array(&u), i = 0; i < n; i++) {
        if (i > 0)
            buf_add_byte(to, ',');
        json_put_text(to, unpack_str(&u));
    }
    buf_add_byte(to, ']');
}

static void put_entry(struct buf *to, enum suppression list, const struct suppression_entry *entry)
{
    struct buf date = {0};

    buf_add_str(to, "{");
    json_put_str(to, "address", entry->address);
    if (list == SUPPRESS_BOUNCE) {
        json_put_str(to, "code", entry->code);
        json_put_str(to, "error", entry->text);
    }
    if (list == SUPPRESS_UNSUBSCRIBE) {
        json_put_name(to, "tags");
        put_tags(to, entry->tags);
    }
    date_put_rfc1123(&date, entry->created_us, "UTC");
    json_put_str(to, "created_at", buf_slice(&date));
    buf_add_str(to, "}");
    buf_fini(&date);
}

static void suppressions_get(struct exchange *x)
{
    struct service *s = x->service;
    struct suppression_entry entry;
    struct buf body = {0};
    struct err err = {0};
    struct store_txn *t = s->store == NULL ? NULL : store_begin_read(s->store, &err);

    if (t == NULL) {
        reply_later(x, 503, 1, SLICE("The store is not ready, please try again"));
        return;
    }
    bool listed =
        suppression_get(t, slice_str(x->domain->name), x->route.list, x->route.leaf, &entry);
    if (listed)
        put_entry(&body, x->route.list, &entry);
    store_end_read(t);
    if (listed)
        reply_json(x, 200, &body);
    else
        reply_message(x, 404, slice_str(words_of(x->route.list).not_found));
}

void suppressions_handle(struct exchange *x)
{
    if (evhttp_request_get_command(x->req) == EVHTTP_REQ_DELETE)
        suppressions_delete(x);
    else
        suppressions_get(x);
}
