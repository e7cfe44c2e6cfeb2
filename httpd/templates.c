/*
 * /v3/{domain}/templates[/{name}[/versions[/{tag}[/copy/{new tag}]]]]: stored templates and their
 * versions. A template that does not parse is refused here, with its line.
 *
 * SOURCE  spec/mailgun.md §10; Mailgun's OpenAPI; recordings of real answers.
 */
#include "store/templates.h"

#include "base/digest.h"
#include "base/json.h"
#include "httpd/body.h"
#include "httpd/change.h"
#include "httpd/reply.h"
#include "mail/date.h"
#include "mail/form.h"
#include "mail/handlebars.h"
#include "mail/stored_template.h"

enum { LIMIT_DEFAULT = 100, LIMIT_MAX = 100 };

/* What a client asks for, while the writer works on it. */
struct asked {
    struct record_template record;
    const char *message;
};

/* ---- what there is ---- */

static void put_date(struct buf *to, const char *name, uint64_t us)
{
    struct buf date = {0};

    date_put_rfc1123(&date, us, "UTC");
    json_put_str(to, name, buf_slice(&date));
    buf_fini(&date);
}

/* Without the closing brace: a version, or several, may follow. */
static void put_template(struct buf *to, const struct template_row *row)
{
    buf_add_byte(to, '{');
    json_put_str(to, "name", row->name);
    json_put_str(to, "description", row->description);
    put_date(to, "createdAt", row->created_us);
    json_put_str(to, "createdBy", row->created_by);
    json_put_str(to, "id", row->id);
}

enum version_form { VERSION_SHORT, VERSION_WHOLE };

static void put_version(struct buf *to, const struct template_version *v, struct slice active,
                        enum version_form form)
{
    buf_add_byte(to, '{');
    json_put_str(to, "tag", v->tag);
    if (form == VERSION_WHOLE)
        json_put_str(to, "template", v->content);
    json_put_str(to, "engine", SLICE("handlebars"));
    json_put_str(to, "mjml", v->mjml);
    put_date(to, "createdAt", v->created_us);
    json_put_str(to, "comment", v->comment);
    json_put_bool(to, "active", slice_eq(v->tag, active));
    json_put_str(to, "id", v->id);
    if (form == VERSION_WHOLE && v->headers.len > 0) {
        json_put_name(to, "headers");
        buf_add_slice(to, v->headers);
    }
    buf_add_byte(to, '}');
}

static void reply_no_template(struct exchange *x)
{
    reply_message(x, 404, SLICE("template not found"));
}

/* {"template":{…,"version":{…}}}, with a message before it where there is one; tag empty: without a
 * version. */
static void reply_template(struct exchange *x, struct slice name, struct slice tag,
                           const char *message)
{
    struct slice domain = slice_str(x->domain->name);
    struct store_txn *t = exchange_begin_read(x);
    struct template_version v;
    struct template_row row;
    struct buf body = {0};

    if (t == NULL)
        return;
    bool found = template_get(t, domain, name, &row);
    bool has_version = found && tag.len > 0 && template_version_get(t, domain, name, tag, &v);
    if (found && (tag.len == 0 || has_version)) {
        buf_add_byte(&body, '{');
        if (message != NULL)
            json_put_str(&body, "message", slice_str(message));
        json_put_name(&body, "template");
        put_template(&body, &row);
        if (has_version) {
            json_put_name(&body, "version");
            put_version(&body, &v, row.active, VERSION_WHOLE);
        }
        buf_add_str(&body, "}}");
    }
    store_end_read(t);
    if (body.len > 0)
        reply_json(x, 200, &body);
    else
        reply_message(x, 404, found ? SLICE("version not found") : SLICE("template not found"));
}

static void get_template(struct exchange *x)
{
    struct slice query = x->query, name, value, tag = slice_none();
    struct template_row row;
    bool wants_active = false;

    while (query_next(&query, &x->arena, &name, &value))
        if (slice_eq(name, SLICE("active")))
            wants_active = slice_eq_nocase(value, SLICE("yes")) ||
                           slice_eq_nocase(value, SLICE("true")) || slice_eq(value, SLICE("1"));
    if (wants_active) {
        struct store_txn *t = exchange_begin_read(x);
        if (t == NULL)
            return;
        if (template_get(t, slice_str(x->domain->name), x->route.leaf, &row))
            tag = arena_dup(&x->arena, row.active);
        store_end_read(t);
    }
    reply_template(x, x->route.leaf, tag, NULL);
}

/* ---- lists ---- */

enum page { PAGE_FIRST, PAGE_NEXT, PAGE_PREVIOUS, PAGE_LAST };

struct listing {
    struct arena *arena;
    enum page page;
    struct slice pivot, active;
    uint32_t limit;
    struct buf *items; /* one each, in the order of the walk */
    struct slice *names;
    size_t count;
};

static bool read_query(struct exchange *x, struct listing *l)
{
    struct slice query = x->query, name, value;

    *l = (struct listing){.arena = &x->arena, .limit = LIMIT_DEFAULT};
    while (query_next(&query, &x->arena, &name, &value)) {
        if (query_is_absent(value))
            continue;
        if (slice_eq(name, SLICE("limit"))) {
            if (!query_limit(value, LIMIT_MAX, &l->limit))
                return false;
        } else if (slice_eq(name, SLICE("page"))) {
            l->page = slice_eq(value, SLICE("next"))       ? PAGE_NEXT
                      : slice_starts(value, SLICE("prev")) ? PAGE_PREVIOUS
                      : slice_eq(value, SLICE("last"))     ? PAGE_LAST
                                                           : PAGE_FIRST;
        } else if (slice_eq(name, SLICE("p"))) {
            l->pivot = value;
        }
    }
    l->items = arena_array(&x->arena, l->limit, sizeof *l->items);
    l->names = arena_array(&x->arena, l->limit, sizeof *l->names);
    return true;
}

/* NULL: the exchange has been answered. */
static struct store_txn *begin_list(struct exchange *x, struct listing *l)
{
    if (read_query(x, l))
        return exchange_begin_read(x);
    reply_message(x, 400, SLICE("'limit' parameter is not a positive number"));
    return NULL;
}

/* Before the first page there is nothing. */
static bool is_before_all(const struct listing *l)
{
    return l->page == PAGE_PREVIOUS && l->pivot.len == 0;
}

static bool is_backwards(const struct listing *l)
{
    return l->page == PAGE_PREVIOUS || l->page == PAGE_LAST;
}

static struct slice place_of(const struct listing *l)
{
    return l->page == PAGE_NEXT || l->page == PAGE_PREVIOUS ? l->pivot : slice_none();
}

static bool list_template(void *arg, const struct template_row *row)
{
    struct listing *l = arg;

    put_template(&l->items[l->count], row);
    buf_add_byte(&l->items[l->count], '}');
    l->names[l->count++] = arena_dup(l->arena, row->name);
    return l->count < l->limit;
}

static bool list_version(void *arg, const struct template_version *v)
{
    struct listing *l = arg;

    put_version(&l->items[l->count], v, l->active, VERSION_SHORT);
    l->names[l->count++] = arena_dup(l->arena, v->tag);
    return l->count < l->limit;
}

static void put_url(struct buf *to, const struct exchange *x, const struct listing *l,
                    const char *name, const char *page, struct slice pivot)
{
    struct buf url = {0};

    exchange_base_url(x, &url);
    buf_printf(&url, "/%.*s/%.*s/templates", SLICE_ARGS(x->route.version),
               SLICE_ARGS(x->route.raw_domain));
    if (x->route.kind == ROUTE_TEMPLATE_VERSIONS) {
        buf_add_byte(&url, '/');
        text_percent_encode(&url, x->route.leaf, "");
        buf_add_str(&url, "/versions");
    }
    buf_add_byte(&url, '?');
    if (page != NULL)
        buf_printf(&url, "page=%s&", page);
    if (pivot.len > 0) {
        buf_add_str(&url, "p=");
        text_percent_encode(&url, pivot, "");
        buf_add_byte(&url, '&');
    }
    buf_printf(&url, "limit=%u", l->limit);
    json_put_str(to, name, buf_slice(&url));
    buf_fini(&url);
}

/* Appends the items, in the order in which they are read, and frees them; "]" and the pages. */
static void put_list(struct buf *to, const struct exchange *x, struct listing *l,
                     const char *behind)
{
    bool backwards = is_backwards(l);
    struct slice first = place_of(l), last = first;

    for (size_t i = 0; i < l->count; i++) {
        struct buf *item = &l->items[backwards ? l->count - 1 - i : i];
        if (i > 0)
            buf_add_byte(to, ',');
        buf_add_slice(to, buf_slice(item));
        buf_fini(item);
    }
    if (l->count > 0) {
        first = l->names[backwards ? l->count - 1 : 0];
        last = l->names[backwards ? 0 : l->count - 1];
    }
    buf_add_str(to, behind);
    json_put_name(to, "paging");
    buf_add_byte(to, '{');
    put_url(to, x, l, "first", NULL, slice_none());
    put_url(to, x, l, "last", "last", slice_none());
    put_url(to, x, l, "next", "next", last);
    put_url(to, x, l, "previous", "previous", first);
    buf_add_str(to, "}}");
}

static void list_templates(struct exchange *x)
{
    struct buf body = {0};
    struct listing l;
    struct store_txn *t = begin_list(x, &l);

    if (t == NULL)
        return;
    if (!is_before_all(&l))
        template_each(t, slice_str(x->domain->name), place_of(&l), is_backwards(&l), list_template,
                      &l);
    store_end_read(t);
    buf_add_str(&body, "{\"items\":[");
    put_list(&body, x, &l, "]");
    reply_json(x, 200, &body);
}

static void list_versions(struct exchange *x)
{
    struct slice domain = slice_str(x->domain->name);
    struct template_row row;
    struct buf body = {0};
    struct listing l;
    struct store_txn *t = begin_list(x, &l);

    if (t == NULL)
        return;
    bool found = template_get(t, domain, x->route.leaf, &row);
    if (found) {
        l.active = row.active;
        if (!is_before_all(&l))
            template_version_each(t, domain, x->route.leaf, place_of(&l), is_backwards(&l),
                                  list_version, &l);
        buf_add_str(&body, "{\"template\":");
        put_template(&body, &row);
    }
    store_end_read(t);
    if (!found) {
        reply_no_template(x);
        return;
    }
    json_put_name(&body, "versions");
    buf_add_byte(&body, '[');
    put_list(&body, x, &l, "]}");
    reply_json(x, 200, &body);
}

/* ---- changes ---- */

/* {"message":…,"template":{"name":…,"version":{"tag":…}}} */
static void reply_done(struct exchange *x, const struct asked *a, struct slice tag)
{
    struct buf body = {0};

    buf_add_byte(&body, '{');
    json_put_str(&body, "message", slice_str(a->message));
    if (a->record.name.len > 0) {
        json_put_name(&body, "template");
        buf_add_byte(&body, '{');
        json_put_str(&body, "name", a->record.name);
        if (tag.len > 0) {
            json_put_name(&body, "version");
            buf_add_byte(&body, '{');
            json_put_str(&body, "tag", tag);
            buf_add_byte(&body, '}');
        }
        buf_add_byte(&body, '}');
    }
    buf_add_byte(&body, '}');
    reply_json(x, 200, &body);
}

static void reply_copied(struct exchange *x, const struct asked *a)
{
    struct slice domain = slice_str(x->domain->name);
    struct store_txn *t = exchange_begin_read(x);
    struct template_version v;
    struct template_row row;
    struct buf body = {0};

    if (t == NULL)
        return;
    if (template_get(t, domain, a->record.name, &row) &&
        template_version_get(t, domain, a->record.name, a->record.new_tag, &v)) {
        buf_add_byte(&body, '{');
        json_put_str(&body, "message", slice_str(a->message));
        json_put_name(&body, "version");
        put_version(&body, &v, row.active, VERSION_WHOLE);
        buf_add_byte(&body, '}');
    }
    store_end_read(t);
    if (body.len > 0)
        reply_json(x, 200, &body);
    else /* deleted meanwhile */
        reply_message(x, 404, SLICE("version not found"));
}

static void reply_changed(struct exchange *x, const struct asked *a)
{
    const struct record_template *r = &a->record;

    switch (r->change) {
    case TEMPLATE_CREATE:
        reply_template(x, r->name, (r->given & TEMPLATE_CONTENT) != 0 ? r->tag : slice_none(),
                       a->message);
        return;
    case TEMPLATE_VERSION_CREATE:
        reply_template(x, r->name, r->tag, a->message);
        return;
    case TEMPLATE_VERSION_COPY:
        reply_copied(x, a);
        return;
    default:
        reply_done(x, a, r->tag);
        return;
    }
}

static void on_answer(struct exchange *x, const struct record_answer *answer)
{
    if (change_is_done(x, answer, "template", slice_none()))
        reply_changed(x, x->pending);
}

static void push(struct exchange *x, struct asked *a, enum template_change change,
                 const char *message)
{
    struct service *s = x->service;
    uint64_t id = change_begin(x, on_answer);

    if (id == 0)
        return;
    a->message = message;
    a->record.request_id = id;
    a->record.generation = s->me->generation;
    a->record.domain = slice_str(x->domain->name);
    a->record.change = (uint32_t)change;
    x->pending = a;
    buf_reset(&s->record);
    record_template_encode(&s->record, &a->record);
    change_push(x, id);
}

/* ---- what a request says ---- */

static bool refuse(struct exchange *x, struct slice words)
{
    reply_message(x, 400, words);
    return false;
}

static bool parses(struct exchange *x, const char *what, struct slice text)
{
    const struct handlebars_node *t;
    struct handlebars_error e;

    if (!slice_is_utf8(text))
        return refuse(x, arena_printf(&x->arena, "'%s' parameter is not valid UTF-8", what));
    return handlebars_parse(text, &x->arena, &t, &e) ||
           refuse(x, arena_printf(&x->arena, "'%s' parameter does not parse: line %u: %s", what,
                                  e.line, e.words));
}

static bool read_headers(struct exchange *x, struct slice text, struct slice *headers)
{
    struct slice why = slice_none();

    if (slice_trim(text).len == 0)
        return true;
    if (stored_headers_read(text, &x->arena, headers, &why))
        return true;
    return refuse(x, arena_printf(&x->arena, "'headers' parameter %.*s", SLICE_ARGS(why)));
}

/* Names and texts of the fields that there are; false: the exchange has been answered. */
static bool read_field(struct exchange *x, struct asked *a, const struct form_field *f)
{
    struct record_template *r = &a->record;
    static const struct {
        const char *name;
        uint32_t part;
    } parts[] = {{"description", TEMPLATE_DESCRIPTION},
                 {"template", TEMPLATE_CONTENT},
                 {"comment", TEMPLATE_COMMENT},
                 {"headers", TEMPLATE_HEADERS},
                 {"mjml", TEMPLATE_MJML},
                 {"active", 0},
                 {"name", 0},
                 {"tag", 0},
                 {"createdBy", 0},
                 {"engine", 0}};
    struct slice *const to[] = {&r->description, &r->content, &r->comment, NULL,
                                &r->mjml,        NULL,        NULL,        NULL,
                                &r->created_by,  NULL};

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (!slice_eq(f->name, slice_str(parts[i].name)))
            continue;
        r->given |= parts[i].part;
        if (to[i] != NULL)
            *to[i] = f->value;
    }
    if (slice_eq(f->name, SLICE("name")))
        r->name = template_name_fold(slice_trim(f->value), &x->arena);
    else if (slice_eq(f->name, SLICE("tag")))
        r->tag = template_name_fold(slice_trim(f->value), &x->arena);
    else if (slice_eq(f->name, SLICE("active")) &&
             (slice_eq_nocase(f->value, SLICE("yes")) || slice_eq_nocase(f->value, SLICE("true"))))
        r->given |= TEMPLATE_ACTIVE;
    else if (slice_eq(f->name, SLICE("headers")))
        return read_headers(x, f->value, &r->headers);
    else if (slice_eq(f->name, SLICE("engine")) && f->value.len > 0 &&
             !slice_eq_nocase(f->value, SLICE("handlebars")))
        return refuse(x, SLICE("'engine' parameter is not handlebars"));
    return true;
}

static bool read_form(struct exchange *x, struct asked *a)
{
    struct form form;

    if (!body_read_form(x, &form))
        return false;
    for (size_t i = 0; i < form.count; i++)
        if (!read_field(x, a, &form.fields[i]))
            return false;
    /* Empty is absent, but for what may be emptied. */
    if (a->record.content.len == 0)
        a->record.given &= ~(uint32_t)TEMPLATE_CONTENT;
    if (a->record.content.len > TEMPLATE_CONTENT_BYTES)
        return refuse(x, arena_printf(&x->arena, "'template' parameter is longer than %d bytes",
                                      TEMPLATE_CONTENT_BYTES));
    return parses(x, "template", a->record.content);
}

static bool check_name(struct exchange *x, const char *what, struct slice name)
{
    if (name.len == 0)
        return refuse(x, arena_printf(&x->arena, "Missing mandatory parameter: %s", what));
    return template_name_is_fine(name) ||
           refuse(x, arena_printf(&x->arena,
                                  "'%s' parameter is longer than %d bytes, or holds control "
                                  "characters",
                                  what, TEMPLATE_NAME_BYTES));
}

static struct asked *new_asked(struct exchange *x)
{
    return arena_alloc(&x->arena, sizeof(struct asked));
}

static void create_template(struct exchange *x)
{
    struct asked *a = new_asked(x);

    if (!read_form(x, a) || !check_name(x, "name", a->record.name))
        return;
    if ((a->record.given & TEMPLATE_CONTENT) != 0 && a->record.tag.len == 0)
        a->record.tag = SLICE("initial");
    if ((a->record.given & TEMPLATE_CONTENT) == 0)
        a->record.tag = slice_none();
    else if (!check_name(x, "tag", a->record.tag))
        return;
    push(x, a, TEMPLATE_CREATE, "template has been stored");
}

static void create_version(struct exchange *x)
{
    struct asked *a = new_asked(x);

    if (!read_form(x, a) || !check_name(x, "tag", a->record.tag))
        return;
    if ((a->record.given & TEMPLATE_CONTENT) == 0) {
        (void)refuse(x, SLICE("Missing mandatory parameter: template"));
        return;
    }
    a->record.name = x->route.leaf;
    push(x, a, TEMPLATE_VERSION_CREATE, "new version of the template has been stored");
}

static void update(struct exchange *x, enum template_change change, const char *message)
{
    struct asked *a = new_asked(x);

    if (!read_form(x, a))
        return;
    a->record.name = x->route.leaf;
    a->record.tag = x->route.tag;
    push(x, a, change, message);
}

static void delete_it(struct exchange *x, enum template_change change, const char *message)
{
    struct asked *a = new_asked(x);

    a->record.name = x->route.leaf;
    a->record.tag = x->route.tag;
    push(x, a, change, message);
}

static void copy_version(struct exchange *x)
{
    struct slice query = x->query, name, value;
    struct asked *a = new_asked(x);

    while (query_next(&query, &x->arena, &name, &value))
        if (slice_eq(name, SLICE("comment"))) {
            a->record.comment = value;
            a->record.given |= TEMPLATE_COMMENT;
        }
    a->record.name = x->route.leaf;
    a->record.tag = x->route.tag;
    a->record.new_tag = template_name_fold(x->route.new_tag, &x->arena);
    if (check_name(x, "new version name", a->record.new_tag))
        push(x, a, TEMPLATE_VERSION_COPY, "version has been copied");
}

static void handle_version(struct exchange *x, enum evhttp_cmd_type method)
{
    if (method == EVHTTP_REQ_GET)
        reply_template(x, x->route.leaf, x->route.tag, NULL);
    else if (method == EVHTTP_REQ_PUT)
        update(x, TEMPLATE_VERSION_UPDATE, "version has been updated");
    else
        delete_it(x, TEMPLATE_VERSION_DELETE, "version has been deleted");
}

static void handle_template(struct exchange *x, enum evhttp_cmd_type method)
{
    if (method == EVHTTP_REQ_GET)
        get_template(x);
    else if (method == EVHTTP_REQ_PUT)
        update(x, TEMPLATE_UPDATE, "template has been updated");
    else
        delete_it(x, TEMPLATE_DELETE, "template has been deleted");
}

void templates_handle(struct exchange *x)
{
    enum evhttp_cmd_type method = evhttp_request_get_command(x->req);

    x->route.leaf = template_name_fold(x->route.leaf, &x->arena);
    x->route.tag = template_name_fold(x->route.tag, &x->arena);
    switch (x->route.kind) {
    case ROUTE_TEMPLATES:
        if (method == EVHTTP_REQ_GET)
            list_templates(x);
        else if (method == EVHTTP_REQ_POST)
            create_template(x);
        else
            delete_it(x, TEMPLATE_CLEAR, "templates have been deleted");
        return;
    case ROUTE_TEMPLATE:
        handle_template(x, method);
        return;
    case ROUTE_TEMPLATE_VERSIONS:
        if (method == EVHTTP_REQ_GET)
            list_versions(x);
        else
            create_version(x);
        return;
    case ROUTE_TEMPLATE_VERSION:
        handle_version(x, method);
        return;
    default:
        copy_version(x);
        return;
    }
}
