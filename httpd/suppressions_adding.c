#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/pack.h"
#include "httpd/reply.h"
#include "httpd/suppressions.h"
#include "mail/address.h"
#include "mail/date.h"

enum { CHUNK_ENTRIES = 1000, CHUNK_BYTES = 256 << 10 };

struct chunk {
    struct chunk *next;
    struct slice entries; /* packed, with the array's head */
};

struct suppressions_adding {
    struct exchange *x;
    struct chunk *first, **last;
    struct buf entries; /* of the chunk that is being filled, without the array's head */
    uint32_t in_chunk;
    size_t count;
    /* the answer */
    int status;
    struct slice message;
    struct slice address; /* of a form; empty = none */
    bool is_domain;
};

struct suppressions_adding *suppressions_adding_begin(struct exchange *x)
{
    struct suppressions_adding *a = arena_alloc(&x->arena, sizeof *a);

    a->x = x;
    a->last = &a->first;
    x->pending = a;
    return a;
}

size_t suppressions_adding_count(const struct suppressions_adding *a)
{
    return a->count;
}

/* ---- one wish ---- */

static void add_tag(struct suppression_wish *w, struct slice tag)
{
    tag = slice_trim(tag);
    if (tag.len > 0 && w->tag_count < SUPPRESSION_TAGS_MAX)
        w->tags[w->tag_count++] = tag;
}

void suppression_wish_set(struct suppression_wish *w, struct slice name, struct slice value)
{
    if (slice_eq_nocase(name, SLICE("address"))) {
        if (slice_trim(value).len > 0) { /* wins over a domain */
            w->address = slice_trim(value);
            w->is_domain = false;
        }
    } else if (slice_eq_nocase(name, SLICE("domain"))) {
        if (w->address.len == 0) {
            w->address = slice_trim(value);
            w->is_domain = true;
        }
    } else if (slice_eq_nocase(name, SLICE("code"))) {
        w->code = slice_trim(value);
    } else if (slice_eq_nocase(name, SLICE("error")) || slice_eq_nocase(name, SLICE("reason"))) {
        w->text = value;
    } else if (slice_eq_nocase(name, SLICE("created_at")) ||
               slice_eq_nocase(name, SLICE("createdat"))) {
        w->created_at = slice_trim(value);
    } else if (slice_eq_nocase(name, SLICE("tag")) || slice_eq_nocase(name, SLICE("tags"))) {
        add_tag(w, value);
    }
}

/* An empty text: everything. */
static void put_tags(struct buf *to, const struct suppression_wish *w)
{
    for (size_t i = 0; i < w->tag_count; i++)
        if (slice_eq(w->tags[i], SLICE("*")))
            return;
    if (w->tag_count == 0)
        return;
    pack_array(to, w->tag_count);
    for (size_t i = 0; i < w->tag_count; i++)
        pack_str(to, w->tags[i]);
}

static bool is_right(struct exchange *x, const struct suppression_wish *w, struct slice *wrong)
{
    bool allow = x->route.list == SUPPRESS_ALLOW;

    if (w->address.len == 0 || (w->is_domain && !allow)) {
        *wrong = allow ? SLICE("Missing mandatory parameter: address/domain")
                       : SLICE("Missing mandatory parameter: address");
        return false;
    }
    if (w->is_domain ? address_is_domain(w->address) : address_is_valid(w->address))
        return true;
    *wrong =
        arena_printf(&x->arena, "'%.*s' is not a valid %s", SLICE_ARGS(slice_head(w->address, 100)),
                     w->is_domain ? "domain" : "address");
    return false;
}

static struct slice code_of(const struct exchange *x, const struct suppression_wish *w)
{
    switch (x->route.list) {
    case SUPPRESS_BOUNCE:
        return w->code.len > 0 ? w->code : SLICE("550");
    case SUPPRESS_ALLOW:
        return w->is_domain ? SLICE("domain") : SLICE("address");
    default:
        return w->code;
    }
}

static void end_chunk(struct suppressions_adding *a)
{
    struct chunk *c = arena_alloc(&a->x->arena, sizeof *c);
    struct buf entries = {0};

    pack_array(&entries, a->in_chunk);
    buf_add_slice(&entries, buf_slice(&a->entries));
    c->entries = arena_dup(&a->x->arena, buf_slice(&entries));
    buf_fini(&entries);
    buf_reset(&a->entries);
    a->in_chunk = 0;
    *a->last = c;
    a->last = &c->next;
}

bool suppressions_adding_take(struct suppressions_adding *a, const struct suppression_wish *w,
                              struct slice *wrong)
{
    struct exchange *x = a->x;
    uint64_t now_us = clock_wall_us(), created_us = now_us;
    struct buf tags = {0};

    if (!is_right(x, w, wrong))
        return false;
    /* Of the year 1, as mailgun-go writes what it does not know: now. */
    if (w->created_at.len > 0 &&
        (!date_parse(w->created_at, &created_us) || created_us == 0 || created_us > now_us))
        created_us = now_us;
    if (x->route.list == SUPPRESS_UNSUBSCRIBE)
        put_tags(&tags, w);
    const struct suppression_entry entry = {.address = w->address,
                                            .code = code_of(x, w),
                                            .text = w->text,
                                            .created_us = created_us,
                                            .tags = buf_slice(&tags)};
    suppression_entry_pack(&a->entries, &entry);
    buf_fini(&tags);
    a->count++;
    if (++a->in_chunk == CHUNK_ENTRIES || a->entries.len >= CHUNK_BYTES)
        end_chunk(a);
    return true;
}

void suppressions_adding_refuse(struct suppressions_adding *a, int status, struct slice wrong)
{
    buf_fini(&a->entries);
    reply_message(a->x, status, wrong);
}

/* ---- to the writer ---- */

static void push(struct suppressions_adding *a);

static void reply_added(const struct suppressions_adding *a)
{
    struct exchange *x = a->x;
    struct buf body = {0};

    buf_add_byte(&body, '{');
    json_put_str(&body, "message", a->message);
    if (a->address.len > 0 && x->route.list == SUPPRESS_ALLOW) {
        json_put_str(&body, "type", a->is_domain ? SLICE("domain") : SLICE("address"));
        json_put_str(&body, "value", a->address);
    } else if (a->address.len > 0) {
        json_put_str(&body, "address", a->address);
    }
    buf_add_byte(&body, '}');
    reply_json(x, a->status, &body);
}

static void on_answer(struct exchange *x, const struct record_answer *answer)
{
    struct suppressions_adding *a = x->pending;

    if (answer == NULL) {
        reply_later(x, 503, 10, SLICE("Not all could be added in time, please send it again"));
        return;
    }
    switch (answer->verdict) {
    case ANSWER_OK:
        a->first = a->first->next;
        if (a->first != NULL)
            push(a);
        else
            reply_added(a);
        return;
    case ANSWER_FULL:
        reply_later(x, 503, 60, SLICE("The server's disk is full, not all was added"));
        return;
    default:
        log_error("the writer refused to put addresses on a list of %s: %.*s", x->domain->name,
                  SLICE_ARGS(answer->text));
        reply_message(x, 500, SLICE("Internal Server Error"));
        return;
    }
}

static void push(struct suppressions_adding *a)
{
    struct exchange *x = a->x;
    struct service *s = x->service;
    uint64_t id = inbox_wait(s->inbox, x, clock_mono_ms() + WRITER_PATIENCE_MS, on_answer);

    if (id == 0) {
        reply_later(x, 429, 1, SLICE("Too many requests are waiting, please try again"));
        return;
    }
    const struct record_suppress record = {
        .request_id = id,
        .generation = s->me->generation,
        .domain = slice_str(x->domain->name),
        .list = (uint32_t)x->route.list,
        .entries = a->first->entries,
    };
    buf_reset(&s->record);
    record_suppress_encode(&s->record, &record);
    enum ring_result pushed = service_push(s);
    if (pushed != RING_OK) {
        inbox_forget(s->inbox, id);
        service_refuse(x, pushed);
    }
}

void suppressions_adding_end(struct suppressions_adding *a, int status, struct slice message,
                             const struct suppression_wish *alone)
{
    a->status = status;
    a->message = message;
    if (alone != NULL) {
        a->address = alone->address;
        a->is_domain = alone->is_domain;
    }
    if (a->in_chunk > 0)
        end_chunk(a);
    buf_fini(&a->entries);
    if (a->first == NULL)
        reply_added(a);
    else
        push(a);
}
