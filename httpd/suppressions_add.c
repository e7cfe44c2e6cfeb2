/*
 * POST /v3/{domain}/{bounces|complaints|unsubscribes}: one address in a form, or up to 1,000 as
 * JSON.
 *
 * SOURCE  spec/mailgun.md §5.1, §5.2.
 */
#include <event2/buffer.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/pack.h"
#include "httpd/reply.h"
#include "mail/address.h"
#include "mail/date.h"
#include "mail/form.h"

enum { ENTRIES_MAX = 1000, TAGS_MAX = 100 };

/* What a client says of one address. */
struct wish {
    struct slice address, code, text, created_at;
    struct slice tags[TAGS_MAX];
    size_t tag_count;
};

/* Kept until the writer has answered. */
struct added {
    struct slice address; /* of a form; empty = JSON */
    size_t count;
};

struct reading {
    struct exchange *x;
    struct buf entries; /* packed, without the array's head */
    size_t count;
    struct slice wrong; /* for the client; empty = nothing yet */
};

static void add_tag(struct wish *w, struct slice tag)
{
    tag = slice_trim(tag);
    if (tag.len > 0 && w->tag_count < TAGS_MAX)
        w->tags[w->tag_count++] = tag;
}

/* An empty text: everything. */
static void put_tags(struct buf *to, const struct wish *w)
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

static void add_wish(struct reading *r, const struct wish *w)
{
    struct arena *a = &r->x->arena;
    struct buf tags = {0};
    uint64_t now_us = clock_wall_us(), created_us = now_us;

    if (r->wrong.len > 0)
        return;
    if (w->address.len == 0) {
        r->wrong = SLICE("Missing mandatory parameter: address");
        return;
    }
    if (!address_is_valid(w->address)) {
        r->wrong = arena_printf(a, "'%.*s' is not a valid address",
                                SLICE_ARGS(slice_head(w->address, 100)));
        return;
    }
    /* Of the year 1, as mailgun-go writes what it does not know: now. */
    if (w->created_at.len > 0 &&
        (!date_parse(w->created_at, &created_us) || created_us == 0 || created_us > now_us))
        created_us = now_us;
    if (r->x->route.list == SUPPRESS_UNSUBSCRIBE)
        put_tags(&tags, w);
    pack_array(&r->entries, 5);
    pack_str(&r->entries, w->address);
    pack_str(&r->entries, w->code.len > 0                       ? w->code
                          : r->x->route.list == SUPPRESS_BOUNCE ? SLICE("550")
                                                                : slice_none());
    pack_str(&r->entries, w->text);
    pack_u64(&r->entries, created_us);
    pack_bin(&r->entries, buf_slice(&tags));
    buf_fini(&tags);
    r->count++;
}

/* ---- a form ---- */

static void read_form(struct reading *r, const struct form *form, struct added *added)
{
    struct wish w = {0};

    for (size_t i = 0; i < form->count; i++) {
        const struct form_field *f = &form->fields[i];
        if (slice_eq(f->name, SLICE("address")))
            w.address = slice_trim(f->value);
        else if (slice_eq(f->name, SLICE("code")))
            w.code = slice_trim(f->value);
        else if (slice_eq(f->name, SLICE("error")))
            w.text = f->value;
        else if (slice_eq(f->name, SLICE("created_at")) || slice_eq(f->name, SLICE("createdat")))
            w.created_at = slice_trim(f->value);
        else if (slice_eq(f->name, SLICE("tag")) || slice_eq(f->name, SLICE("tags")))
            add_tag(&w, f->value);
    }
    add_wish(r, &w);
    added->address = w.address;
}

/* ---- JSON ---- */

/* A text, or a number as text. */
static struct slice text_or_number(const cJSON *object, const char *name, struct arena *a)
{
    int64_t number;

    if (json_get_i64(object, name, &number))
        return arena_printf(a, "%lld", (long long)number);
    return slice_trim(json_get_text(object, name));
}

static void read_tags(struct wish *w, const cJSON *tags)
{
    if (json_text(tags).len > 0)
        add_tag(w, json_text(tags));
    else
        for (const cJSON *t = json_first(tags); t != NULL; t = t->next)
            add_tag(w, json_text(t));
}

static void read_object(struct reading *r, const cJSON *object)
{
    struct wish w = {.address = slice_trim(json_get_text(object, "address")),
                     .code = text_or_number(object, "code", &r->x->arena),
                     .text = json_get_text(object, "error"),
                     .created_at = slice_trim(json_get_text(object, "created_at"))};

    if (w.created_at.len == 0)
        w.created_at = slice_trim(json_get_text(object, "createdat"));
    read_tags(&w, json_get(object, "tags"));
    read_tags(&w, json_get(object, "tag"));
    add_wish(r, &w);
}

static void read_json(struct reading *r, struct slice body)
{
    cJSON *tree = json_parse(body);

    if (cJSON_IsObject(tree)) {
        read_object(r, tree);
    } else if (cJSON_IsArray(tree)) {
        if (cJSON_GetArraySize(tree) > ENTRIES_MAX)
            r->wrong = SLICE("Batch size should be less than 1000");
        for (const cJSON *o = json_first(tree); o != NULL && r->wrong.len == 0; o = o->next)
            read_object(r, o);
    } else {
        r->wrong = SLICE("Invalid JSON");
    }
    json_free(tree);
    if (r->wrong.len == 0 && r->count == 0)
        r->wrong = SLICE("Missing mandatory parameter: address");
}

/* ---- the answer ---- */

static void put_message(struct buf *to, enum suppression list, const struct added *added)
{
    const char *table = list == SUPPRESS_BOUNCE      ? "bounces"
                        : list == SUPPRESS_COMPLAINT ? "complaints"
                                                     : "unsubscribes";

    if (added->address.len > 0)
        buf_printf(to, "Address has been added to the %s table", table);
    else
        buf_printf(to, "%zu %saddresses have been added to the %s table", added->count,
                   list == SUPPRESS_COMPLAINT ? "complaint " : "", table);
}

static void on_answer(struct exchange *x, const struct record_answer *answer)
{
    const struct added *added = x->pending;
    struct buf body = {0}, message = {0};

    if (answer == NULL) {
        reply_later(x, 503, 10, SLICE("The addresses could not be added in time, try again"));
        return;
    }
    switch (answer->verdict) {
    case ANSWER_OK:
        buf_add_byte(&body, '{');
        put_message(&message, x->route.list, added);
        json_put_str(&body, "message", buf_slice(&message));
        if (added->address.len > 0)
            json_put_str(&body, "address", added->address);
        buf_add_byte(&body, '}');
        reply_json(x, 200, &body);
        buf_fini(&message);
        return;
    case ANSWER_FULL:
        reply_later(x, 503, 60, SLICE("The server's disk is full, nothing was added"));
        return;
    default:
        log_error("the writer refused to put addresses on a list of %s: %.*s", x->domain->name,
                  SLICE_ARGS(answer->text));
        reply_message(x, 500, SLICE("Internal Server Error"));
        return;
    }
}

static void hand_over(struct exchange *x, const struct reading *r)
{
    struct service *s = x->service;
    struct buf entries = {0};
    uint64_t id = inbox_wait(s->inbox, x, clock_mono_ms() + WRITER_PATIENCE_MS, on_answer);

    if (id == 0) {
        reply_later(x, 429, 1, SLICE("Too many requests are waiting, please try again"));
        return;
    }
    pack_array(&entries, r->count);
    buf_add_slice(&entries, buf_slice(&r->entries));
    const struct record_suppress record = {
        .request_id = id,
        .generation = s->me->generation,
        .domain = slice_str(x->domain->name),
        .list = (uint32_t)x->route.list,
        .entries = buf_slice(&entries),
    };
    buf_reset(&s->record);
    record_suppress_encode(&s->record, &record);
    buf_fini(&entries);
    enum ring_result pushed = service_push(s);
    if (pushed != RING_OK) {
        inbox_forget(s->inbox, id);
        service_refuse(x, pushed);
    }
}

static bool is_json(struct slice type)
{
    return slice_starts_nocase(slice_trim(type), SLICE("application/json"));
}

void suppressions_add(struct exchange *x)
{
    struct evbuffer *input = evhttp_request_get_input_buffer(x->req);
    size_t len = evbuffer_get_length(input);
    struct slice body = slice_of(len == 0 ? NULL : evbuffer_pullup(input, -1), len);
    struct slice type = exchange_header(x, "Content-Type");
    struct added *added = arena_alloc(&x->arena, sizeof *added);
    struct reading r = {.x = x};
    struct refusal why = {0};
    struct form form;

    if (len != 0 && body.ptr == NULL) {
        reply_later(x, 503, 1, SLICE("Out of memory, nothing was added"));
        return;
    }
    x->pending = added;
    if (is_json(type))
        read_json(&r, body);
    else if (form_parse(type, body, &x->arena, &form, &why))
        read_form(&r, &form, added);
    else
        r.wrong = why.message;
    added->count = r.count;
    if (r.wrong.len > 0)
        reply_message(x, why.status != 0 ? why.status : 400, r.wrong);
    else
        hand_over(x, &r);
    buf_fini(&r.entries);
}
