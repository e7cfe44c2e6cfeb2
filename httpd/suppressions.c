/*
 * GET and DELETE /v3/{domain}/{bounces|complaints|unsubscribes|whitelists}/{address}, and DELETE of
 * a whole list.
 *
 * SOURCE  spec/mailgun.md §5.1, §5.2; spec/ghost.md §5.
 */
#include "httpd/suppressions.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/pack.h"
#include "httpd/reply.h"
#include "mail/date.h"

static const struct suppression_words words[] = {
    [SUPPRESS_NONE] = {"", "", "", "", "", "Not Found", "Not Found"},
    [SUPPRESS_BOUNCE] = {"bounces", "Address", "addresses", "Bounced address has been removed",
                         "Bounced addresses for this domain have been removed",
                         "Address not found in bounces table",
                         "Address not found in bounces table"},
    [SUPPRESS_UNSUBSCRIBE] = {"unsubscribes", "Address", "addresses",
                              "Unsubscribe event has been removed",
                              "Unsubscribe addresses for this domain have been removed",
                              "Address not found in unsubscribers table",
                              "Unsubscribe event for this tag does not exist"},
    [SUPPRESS_COMPLAINT] = {"complaints", "Address", "complaint addresses",
                            "Spam complaint has been removed",
                            "Complaint addresses for this domain have been removed",
                            "No spam complaints found for this address",
                            "No spam complaints found for this address"},
    [SUPPRESS_ALLOW] = {"whitelists", "Address/Domain", "addresses/domains",
                        "Whitelist address/domain has been removed",
                        "Allowlist addresses/domains for this domain have been removed",
                        "Address/Domain not found in whitelists table",
                        "Address/Domain not found in whitelists table"},
};

const struct suppression_words *suppression_words(enum suppression list)
{
    return &words[list];
}

/* ---- removing ---- */

static void push(struct exchange *x);

static void reply_removed(struct exchange *x)
{
    bool one = x->route.leaf.len > 0;
    const struct suppression_words *w = &words[x->route.list];
    struct buf body = {0};

    buf_add_str(&body, "{");
    if (one && x->route.list != SUPPRESS_ALLOW)
        json_put_str(&body, "address", x->route.leaf);
    json_put_str(&body, "message", slice_str(one ? w->removed : w->removed_all));
    if (one && x->route.list == SUPPRESS_ALLOW)
        json_put_str(&body, "value", x->route.leaf);
    buf_add_str(&body, "}");
    reply_json(x, 200, &body);
}

static void on_answer(struct exchange *x, const struct record_answer *answer)
{
    if (answer == NULL) {
        reply_later(x, 503, 10, SLICE("It could not be removed in time, please try again"));
        return;
    }
    switch (answer->verdict) {
    case ANSWER_OK:
        reply_removed(x);
        return;
    case ANSWER_MORE:
        push(x);
        return;
    case ANSWER_NOT_FOUND:
        reply_message(x, 404, slice_str(words[x->route.list].not_deleted));
        return;
    case ANSWER_FULL:
        reply_later(x, 503, 60, SLICE("The server's disk is full, not all was removed"));
        return;
    default:
        log_error("the writer refused to take an address of %s off a list: %.*s", x->domain->name,
                  SLICE_ARGS(answer->text));
        reply_message(x, 500, SLICE("Internal Server Error"));
        return;
    }
}

/* The domain of the path first, then, for one address, the others that the key opens. */
static void pack_domains(struct buf *to, const struct exchange *x)
{
    size_t count = x->route.leaf.len > 0 ? x->domain_count : 1;

    pack_array(to, count);
    pack_str(to, slice_str(x->domain->name));
    for (size_t i = 0; i < x->domain_count && count > 1; i++) {
        if (x->domains[i] != x->domain)
            pack_str(to, slice_str(x->domains[i]->name));
    }
}

static struct slice tag_of(struct exchange *x)
{
    struct slice query = x->query, name, value, tag = slice_none();

    while (x->route.list == SUPPRESS_UNSUBSCRIBE && query_next(&query, &x->arena, &name, &value))
        if (slice_eq(name, SLICE("tag")))
            tag = value;
    return tag;
}

static void push(struct exchange *x)
{
    struct service *s = x->service;
    struct buf domains = {0};
    uint64_t id = inbox_wait(s->inbox, x, clock_mono_ms() + WRITER_PATIENCE_MS, on_answer);

    if (id == 0) {
        reply_later(x, 429, 1, SLICE("Too many requests are waiting, please try again"));
        return;
    }
    pack_domains(&domains, x);
    const struct record_unsuppress record = {
        .request_id = id,
        .generation = s->me->generation,
        .domains = buf_slice(&domains),
        .list = (uint32_t)x->route.list,
        .address = x->route.leaf,
        .tag = tag_of(x),
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

void suppressions_delete(struct exchange *x)
{
    /* A client that names an empty address does not mean all of them. */
    if (x->route.leaf.len == 0 && x->route.ends_in_slash)
        reply_message(x, 404, slice_str(words[x->route.list].not_deleted));
    else
        push(x);
}

/* ---- one entry ---- */

static void put_tags(struct buf *to, struct slice tags)
{
    struct unpack u = unpack_over(tags);

    json_put_name(to, "tags");
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

void suppression_put_json(struct buf *to, enum suppression list,
                          const struct suppression_entry *entry)
{
    bool allow = list == SUPPRESS_ALLOW;
    struct buf date = {0};

    buf_add_str(to, "{");
    json_put_str(to, allow ? "value" : "address", entry->address);
    if (allow) {
        json_put_str(to, "type", entry->code);
        json_put_str(to, "reason", entry->text);
    }
    if (list == SUPPRESS_BOUNCE) {
        json_put_str(to, "code", entry->code);
        json_put_str(to, "error", entry->text);
    }
    if (list == SUPPRESS_UNSUBSCRIBE)
        put_tags(to, entry->tags);
    date_put_rfc1123(&date, entry->created_us, "UTC");
    json_put_str(to, allow ? "createdAt" : "created_at", buf_slice(&date));
    buf_add_str(to, "}");
    buf_fini(&date);
}

void suppressions_get(struct exchange *x)
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
        suppression_put_json(&body, x->route.list, &entry);
    store_end_read(t);
    if (listed)
        reply_json(x, 200, &body);
    else
        reply_message(x, 404, slice_str(words[x->route.list].not_found));
}
