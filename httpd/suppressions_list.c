/*
 * GET /v3/{domain}/{bounces|complaints|unsubscribes|whitelists}: a page of a list, in alphabetical
 * order. A page is found by an address, not by a number: entries that come and go move no other.
 *
 * SOURCE  spec/mailgun.md §5.3.
 */
#include "base/digest.h"
#include "base/json.h"
#include "httpd/reply.h"
#include "httpd/suppressions.h"

enum { LIMIT_DEFAULT = 100, LIMIT_MAX = 1000 };

enum page { PAGE_FIRST, PAGE_NEXT, PAGE_PREVIOUS, PAGE_LAST };

struct listing {
    struct slice address, term;
    enum page page;
    uint32_t limit;
    struct suppression_entry *entries; /* in the order of the walk */
    size_t count;
};

static enum page page_from(struct slice name)
{
    return slice_eq(name, SLICE("next"))       ? PAGE_NEXT
           : slice_eq(name, SLICE("previous")) ? PAGE_PREVIOUS
           : slice_eq(name, SLICE("last"))     ? PAGE_LAST
                                               : PAGE_FIRST;
}

static bool read_query(struct exchange *x, struct listing *l)
{
    struct slice query = x->query, name, value;

    *l = (struct listing){.limit = LIMIT_DEFAULT};
    while (query_next(&query, &x->arena, &name, &value)) {
        if (query_is_absent(value))
            continue;
        if (slice_eq(name, SLICE("limit"))) {
            if (!query_limit(value, LIMIT_MAX, &l->limit))
                return false;
        } else if (slice_eq(name, SLICE("page"))) {
            l->page = page_from(value);
        } else if (slice_eq(name, SLICE("address"))) {
            l->address = value;
        } else if (slice_eq(name, SLICE("term"))) {
            l->term = value;
        }
    }
    return true;
}

static bool take(void *arg, const struct suppression_entry *entry)
{
    struct listing *l = arg;

    l->entries[l->count++] = *entry;
    return l->count < l->limit;
}

static void collect(struct store_txn *t, const struct exchange *x, struct listing *l)
{
    bool has_place = l->page == PAGE_NEXT || l->page == PAGE_PREVIOUS;
    const struct suppression_walk walk = {
        .term = l->term,
        .from = has_place ? l->address : slice_none(),
        .backwards = l->page == PAGE_PREVIOUS || l->page == PAGE_LAST,
    };

    /* Before the first page there is nothing. */
    if (l->page == PAGE_PREVIOUS && l->address.len == 0)
        return;
    suppression_each(t, slice_str(x->domain->name), x->route.list, &walk, take, l);
    for (size_t i = 0; walk.backwards && i < l->count / 2; i++) {
        struct suppression_entry other = l->entries[i];
        l->entries[i] = l->entries[l->count - 1 - i];
        l->entries[l->count - 1 - i] = other;
    }
}

static void put_url(struct buf *to, const struct exchange *x, const char *name,
                    const struct listing *l, const char *page, struct slice address)
{
    struct buf url = {0};

    exchange_base_url(x, &url);
    buf_printf(&url, "/%.*s/%.*s/%.*s?", SLICE_ARGS(x->route.version),
               SLICE_ARGS(x->route.raw_domain), SLICE_ARGS(x->route.resource));
    if (page != NULL)
        buf_printf(&url, "page=%s&", page);
    if (address.len > 0) {
        buf_add_str(&url, "address=");
        text_percent_encode(&url, address, "");
        buf_add_byte(&url, '&');
    }
    buf_printf(&url, "limit=%u&term=", l->limit);
    text_percent_encode(&url, l->term, "");
    json_put_str(to, name, buf_slice(&url));
    buf_fini(&url);
}

static void put_paging(struct buf *to, const struct exchange *x, const struct listing *l)
{
    const char *next = "next", *previous = "previous", *last = "last";
    struct slice after = slice_none(), before = slice_none();

    if (l->count > 0) {
        after = l->entries[l->count - 1].address;
        before = l->entries[0].address;
    } else if (l->page == PAGE_NEXT) { /* past the end: what is there next may still come */
        after = l->address;
        previous = "last";
    } else if (l->page == PAGE_PREVIOUS) {
        before = l->address;
        next = NULL;
    } else {
        next = previous = last = NULL;
    }
    json_put_name(to, "paging");
    buf_add_byte(to, '{');
    put_url(to, x, "first", l, NULL, slice_none());
    put_url(to, x, "last", l, last, slice_none());
    put_url(to, x, "next", l, next, after);
    put_url(to, x, "previous", l, previous, before);
    buf_add_byte(to, '}');
}

void suppressions_list(struct exchange *x)
{
    struct service *s = x->service;
    struct buf body = {0};
    struct err err = {0};
    struct listing l;

    if (!read_query(x, &l)) {
        reply_message(x, 400, SLICE("'limit' parameter is not a positive number"));
        return;
    }
    l.entries = arena_array(&x->arena, l.limit, sizeof *l.entries);
    struct store_txn *t = s->store == NULL ? NULL : store_begin_read(s->store, &err);
    if (t == NULL) {
        reply_later(x, 503, 1, SLICE("The store is not ready, please try again"));
        return;
    }
    collect(t, x, &l);
    buf_add_str(&body, "{\"items\":[");
    for (size_t i = 0; i < l.count; i++) {
        if (i > 0)
            buf_add_byte(&body, ',');
        suppression_put_json(&body, x->route.list, &l.entries[i]);
    }
    buf_add_str(&body, "],");
    put_paging(&body, x, &l);
    store_end_read(t);
    buf_add_str(&body, "}");
    reply_json(x, 200, &body);
}
