/*
 * expr := and ( "OR" and )*            grammar: spec/mailgun.md §4.3. A filter is a list of
 * clauses, and  := not ( [ "AND" ] not )*       one per field given, each with the tree of its
 * expression. An not  := [ "NOT" ] prim               OR or AND node holds all its operands in one
 * list, so that only prim := "(" expr ")" | "text"        NOT and parentheses make a tree deep. |
 * cmp number | term
 */
#include "mail/filter.h"

#include <assert.h>

#include "base/digest.h"
#include "base/pack.h"

enum { CLAUSES_MAX = 32, FILTER_VERSION = 1 };

enum field_kind {
    FIELD_EVENT,
    FIELD_LIST,
    FIELD_ATTACHMENT,
    FIELD_FROM,
    FIELD_TO,
    FIELD_SUBJECT,
    FIELD_MESSAGE_ID,
    FIELD_SIZE,
    FIELD_RECIPIENT,
    FIELD_TAGS,
    FIELD_SEVERITY,
    FIELD_REASON,
    FIELD_ID,
    FIELD_VARIABLE, /* user-variables.<name> */
};

static const struct {
    const char *name;
    enum field_kind kind;
} fields[] = {
    {"event", FIELD_EVENT},
    {"list", FIELD_LIST},
    {"attachment", FIELD_ATTACHMENT},
    {"from", FIELD_FROM},
    {"to", FIELD_TO},
    {"subject", FIELD_SUBJECT},
    {"message-id", FIELD_MESSAGE_ID},
    {"size", FIELD_SIZE},
    {"recipient", FIELD_RECIPIENT},
    {"recipients", FIELD_RECIPIENT},
    {"tags", FIELD_TAGS},
    {"severity", FIELD_SEVERITY},
    {"reason", FIELD_REASON},
    {"id", FIELD_ID},
};

static const char variable_prefix[] = "user-variables.";

enum node_kind { NODE_OR, NODE_AND, NODE_NOT, NODE_ANY, NODE_TERM, NODE_COMPARE };
enum comparison { COMPARE_EQ, COMPARE_LT, COMPARE_LE, COMPARE_GT, COMPARE_GE };

struct node {
    enum node_kind kind;
    struct node *first, *next; /* operands; the next operand of the same parent */
    struct slice text;         /* TERM, as it is compared (no brackets around a message id) */
    enum comparison comparison;
    uint64_t number;
};

struct clause {
    struct clause *next;
    enum field_kind kind;
    struct slice field, variable, expression;
    struct node *root;
};

struct filter {
    struct arena *arena;
    struct clause *first, **end;
    size_t count, bytes;
};

struct filter *filter_create(struct arena *a)
{
    struct filter *f = arena_alloc(a, sizeof *f);

    f->arena = a;
    f->end = &f->first;
    return f;
}

static bool field_find(struct slice name, enum field_kind *kind, struct slice *variable)
{
    size_t prefix_len = sizeof variable_prefix - 1;

    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (slice_eq(name, slice_str(fields[i].name))) {
            *kind = fields[i].kind;
            return true;
        }
    if (name.len > prefix_len && slice_starts(name, slice_str(variable_prefix))) {
        *kind = FIELD_VARIABLE;
        *variable = slice_from(name, prefix_len);
        return true;
    }
    return false;
}

bool filter_is_field(struct slice name)
{
    enum field_kind kind;
    struct slice variable;

    return field_find(name, &kind, &variable);
}

/* -------- reading an expression -------- */

enum token { TOKEN_END, TOKEN_OPEN, TOKEN_CLOSE, TOKEN_OR, TOKEN_AND, TOKEN_NOT, TOKEN_VALUE };

struct parser {
    struct arena *arena;
    struct slice rest;
    enum field_kind kind;
    int depth;
    enum token token;
    struct slice text; /* of a TOKEN_VALUE, without its quotes */
    bool quoted;
    const char *why; /* first mistake; NULL = none */
};

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void mistake(struct parser *p, const char *why)
{
    if (p->why == NULL)
        p->why = why;
    p->token = TOKEN_END;
    p->rest = (struct slice){0};
}

static void advance(struct parser *p)
{
    struct slice s = p->rest;
    size_t len = 0;

    while (s.len > 0 && is_blank(s.ptr[0]))
        s = slice_from(s, 1);
    p->rest = s;
    p->token = TOKEN_END;
    p->quoted = false;
    if (s.len == 0)
        return;
    if (s.ptr[0] == '(' || s.ptr[0] == ')') {
        p->token = s.ptr[0] == '(' ? TOKEN_OPEN : TOKEN_CLOSE;
        p->rest = slice_from(s, 1);
        return;
    }
    if (s.ptr[0] == '"') {
        size_t end = slice_find_byte(slice_from(s, 1), '"');
        if (end == SIZE_MAX) {
            mistake(p, "a quote is not closed");
            return;
        }
        p->token = TOKEN_VALUE;
        p->quoted = true;
        p->text = slice_head(slice_from(s, 1), end);
        p->rest = slice_from(s, end + 2);
        return;
    }
    while (len < s.len && !is_blank(s.ptr[len]) && s.ptr[len] != '(' && s.ptr[len] != ')')
        len++;
    p->text = slice_head(s, len);
    p->rest = slice_from(s, len);
    if (slice_eq(p->text, SLICE("OR")))
        p->token = TOKEN_OR;
    else if (slice_eq(p->text, SLICE("AND")))
        p->token = TOKEN_AND;
    else if (slice_eq(p->text, SLICE("NOT")))
        p->token = TOKEN_NOT;
    else
        p->token = TOKEN_VALUE;
}

static struct node *node_new(struct parser *p, enum node_kind kind)
{
    struct node *n = arena_alloc(p->arena, sizeof *n);

    n->kind = kind;
    return n;
}

static struct node *parse_or(struct parser *p);

/* "100", ">100", ">= 100": the number may stand apart from its sign. */
static struct node *parse_size(struct parser *p)
{
    struct node *n = node_new(p, NODE_COMPARE);
    struct slice s = p->text;

    if (s.len > 0 && !p->quoted && (s.ptr[0] == '<' || s.ptr[0] == '>')) {
        bool less = s.ptr[0] == '<', equal = s.len > 1 && s.ptr[1] == '=';
        n->comparison = less ? (equal ? COMPARE_LE : COMPARE_LT) : equal ? COMPARE_GE : COMPARE_GT;
        s = slice_from(s, equal ? 2 : 1);
        if (s.len == 0) {
            advance(p);
            s = p->token == TOKEN_VALUE ? p->text : (struct slice){0};
        }
    }
    if (!slice_to_u64(s, &n->number))
        mistake(p, "a number is needed");
    else
        advance(p);
    return n;
}

static struct node *parse_value(struct parser *p)
{
    if (!p->quoted && slice_eq(p->text, SLICE("*"))) {
        advance(p);
        return node_new(p, NODE_ANY);
    }
    if (p->kind == FIELD_SIZE)
        return parse_size(p);

    struct node *n = node_new(p, NODE_TERM);
    n->text = p->text;
    if (p->kind == FIELD_MESSAGE_ID && n->text.len >= 2 && n->text.ptr[0] == '<' &&
        n->text.ptr[n->text.len - 1] == '>')
        n->text = slice_head(slice_from(n->text, 1), n->text.len - 2);
    advance(p);
    return n;
}

static struct node *parse_not(struct parser *p)
{
    struct node *n;

    if (p->token == TOKEN_VALUE)
        return parse_value(p);
    if (p->token != TOKEN_NOT && p->token != TOKEN_OPEN) {
        mistake(p, p->token == TOKEN_END ? "a term is missing at the end"
                                         : "a term is missing before an operator or a parenthesis");
        return NULL;
    }
    if (++p->depth > FILTER_DEPTH_MAX) {
        mistake(p, "it is nested too deeply");
        return NULL;
    }
    if (p->token == TOKEN_NOT) {
        advance(p);
        n = node_new(p, NODE_NOT);
        n->first = parse_not(p);
    } else {
        advance(p);
        n = parse_or(p);
        if (p->token != TOKEN_CLOSE)
            mistake(p, "a parenthesis is not closed");
        else
            advance(p);
    }
    p->depth--;
    return n;
}

static struct node *parse_and(struct parser *p)
{
    struct node *first = parse_not(p), *last = first, *n;

    while (p->why == NULL && (p->token == TOKEN_AND || p->token == TOKEN_NOT ||
                              p->token == TOKEN_OPEN || p->token == TOKEN_VALUE)) {
        if (p->token == TOKEN_AND)
            advance(p);
        last->next = parse_not(p);
        if (last->next == NULL)
            return NULL;
        last = last->next;
    }
    if (first == NULL || first->next == NULL)
        return first;
    n = node_new(p, NODE_AND);
    n->first = first;
    return n;
}

static struct node *parse_or(struct parser *p)
{
    struct node *first = parse_and(p), *last = first, *n;

    while (p->why == NULL && p->token == TOKEN_OR) {
        advance(p);
        last->next = parse_and(p);
        if (last->next == NULL)
            return NULL;
        last = last->next;
    }
    if (first == NULL || first->next == NULL)
        return first;
    n = node_new(p, NODE_OR);
    n->first = first;
    return n;
}

static bool refuse(struct filter *f, struct slice field, const char *what, struct slice *why)
{
    *why = arena_printf(f->arena, "'%.*s' parameter is not a valid filter: %s", SLICE_ARGS(field),
                        what);
    return false;
}

bool filter_add(struct filter *f, struct slice field, struct slice expression, struct slice *why)
{
    struct clause *c = arena_alloc(f->arena, sizeof *c);

    if (field.len > FILTER_BYTES_MAX || !field_find(field, &c->kind, &c->variable))
        return refuse(f, slice_head(field, 64), "there is no such field", why);
    if (expression.len > FILTER_BYTES_MAX - field.len ||
        f->bytes > FILTER_BYTES_MAX - field.len - expression.len || f->count == CLAUSES_MAX)
        return refuse(f, slice_head(field, 64), "it is too long", why);
    c->field = arena_dup(f->arena, field);
    c->variable = c->kind == FIELD_VARIABLE ? slice_from(c->field, sizeof variable_prefix - 1)
                                            : (struct slice){0};
    c->expression = arena_dup(f->arena, expression);

    struct parser p = {.arena = f->arena, .rest = c->expression, .kind = c->kind};
    advance(&p);
    c->root = parse_or(&p);
    if (p.why == NULL && p.token != TOKEN_END)
        mistake(&p, "a parenthesis closes what was not opened");
    if (p.why != NULL)
        return refuse(f, slice_head(field, 64), p.why, why);
    assert(c->root != NULL);
    *f->end = c;
    f->end = &c->next;
    f->count++;
    f->bytes += field.len + expression.len;
    return true;
}

/* -------- matching -------- */

static struct slice severity_name(enum event_severity severity)
{
    switch (severity) {
    case SEVERITY_TEMPORARY:
        return SLICE("temporary");
    case SEVERITY_PERMANENT:
        return SLICE("permanent");
    case SEVERITY_NONE:
        break;
    }
    return (struct slice){0};
}

static bool address_matches(struct slice address, struct slice term)
{
    size_t at = slice_find_byte(term, '@');

    if (at != SIZE_MAX && at != 0)
        return slice_eq_nocase(address, term);
    struct slice domain = at == 0 ? slice_from(term, 1) : term;
    size_t cut = slice_rfind_byte(address, '@');
    return cut != SIZE_MAX && slice_eq_nocase(slice_from(address, cut + 1), domain);
}

static bool id_matches(const uint8_t id[EVENT_ID_BYTES], struct slice term)
{
    uint8_t room[32];
    struct buf text = {room, 0, sizeof room}; /* 22 characters: it never grows */

    event_id_text(&text, id);
    return slice_eq(buf_slice(&text), term);
}

static bool contains(struct slice text, struct slice term)
{
    return slice_find_nocase(text, term) != SIZE_MAX;
}

static bool term_matches(const struct clause *c, struct slice term, const struct event *e)
{
    switch (c->kind) {
    case FIELD_EVENT:
        return slice_eq_nocase(slice_str(event_type_name(e->type)), term);
    case FIELD_SEVERITY:
        return e->severity != SEVERITY_NONE && slice_eq_nocase(severity_name(e->severity), term);
    case FIELD_TAGS:
        for (size_t i = 0; i < e->tag_count; i++)
            if (slice_eq_nocase(e->tags[i], term))
                return true;
        return false;
    case FIELD_MESSAGE_ID:
        return slice_eq_nocase(e->message_id, term);
    case FIELD_RECIPIENT:
        return address_matches(e->recipient, term);
    case FIELD_FROM:
        return contains(e->from, term);
    case FIELD_TO:
        return contains(e->to, term);
    case FIELD_SUBJECT:
        return contains(e->subject, term);
    case FIELD_REASON:
        return slice_eq_nocase(e->reason, term);
    case FIELD_ID:
        return id_matches(e->id, term);
    case FIELD_VARIABLE:
        for (size_t i = 0; i < e->var_count; i++)
            if (slice_eq(e->vars[i].name, c->variable))
                return slice_eq_nocase(e->vars[i].value, term);
        return false;
    case FIELD_LIST: /* events here carry neither */
    case FIELD_ATTACHMENT:
    case FIELD_SIZE:
        break;
    }
    return false;
}

static bool compares(const struct node *n, uint64_t size)
{
    switch (n->comparison) {
    case COMPARE_EQ:
        return size == n->number;
    case COMPARE_LT:
        return size < n->number;
    case COMPARE_LE:
        return size <= n->number;
    case COMPARE_GT:
        return size > n->number;
    case COMPARE_GE:
        return size >= n->number;
    }
    return false;
}

static bool node_matches(const struct clause *c, const struct node *n, const struct event *e)
{
    switch (n->kind) {
    case NODE_OR:
        for (const struct node *o = n->first; o != NULL; o = o->next)
            if (node_matches(c, o, e))
                return true;
        return false;
    case NODE_AND:
        for (const struct node *o = n->first; o != NULL; o = o->next)
            if (!node_matches(c, o, e))
                return false;
        return true;
    case NODE_NOT:
        return !node_matches(c, n->first, e);
    case NODE_ANY:
        return true;
    case NODE_TERM:
        return term_matches(c, n->text, e);
    case NODE_COMPARE:
        return compares(n, e->size_bytes);
    }
    return false;
}

bool filter_match(const struct filter *f, const struct event *e)
{
    for (const struct clause *c = f->first; c != NULL; c = c->next)
        if (!node_matches(c, c->root, e))
            return false;
    return true;
}

/* -------- planning -------- */

/* The term, or the first of an AND's terms, that every match must have; NULL when there is none. */
static const struct node *required_term(const struct node *root)
{
    if (root->kind == NODE_TERM)
        return root;
    if (root->kind == NODE_AND)
        for (const struct node *o = root->first; o != NULL; o = o->next)
            if (o->kind == NODE_TERM)
                return o;
    return NULL;
}

/* An expression over event names says yes or no to each type by itself: ask it for all of them. */
static uint32_t types_of(const struct clause *c)
{
    uint32_t types = 0;

    for (unsigned i = EVENT_ACCEPTED; i < EVENT_TYPE_END; i++) {
        struct event e = {.type = (enum event_type)i};
        if (node_matches(c, c->root, &e))
            types |= UINT32_C(1) << i;
    }
    return types;
}

void filter_plan(const struct filter *f, struct filter_plan *plan)
{
    *plan = (struct filter_plan){.types = UINT32_MAX, .exact = true};
    for (const struct clause *c = f->first; c != NULL; c = c->next) {
        const struct node *term = required_term(c->root);
        if (c->kind == FIELD_EVENT) {
            plan->types &= types_of(c);
            continue;
        }
        if (c->root->kind == NODE_ANY)
            continue;
        if (c->kind == FIELD_TAGS && c->root->kind == NODE_TERM && plan->tag.len == 0 &&
            term->text.len != 0) {
            plan->tag = term->text;
            continue;
        }
        plan->exact = false;
        if (term == NULL || term->text.len == 0)
            continue;
        if (c->kind == FIELD_TAGS && plan->tag.len == 0)
            plan->tag = term->text;
        else if (c->kind == FIELD_MESSAGE_ID && plan->message_id.len == 0)
            plan->message_id = term->text;
        else if (c->kind == FIELD_RECIPIENT && plan->recipient.len == 0) {
            size_t at = slice_find_byte(term->text, '@');
            if (at != SIZE_MAX && at != 0)
                plan->recipient = term->text;
        }
    }
}

/* -------- for a page token -------- */

void filter_pack(struct buf *to, const struct filter *f)
{
    pack_array(to, 1 + 2 * f->count);
    pack_u64(to, FILTER_VERSION);
    for (const struct clause *c = f->first; c != NULL; c = c->next) {
        pack_str(to, c->field);
        pack_str(to, c->expression);
    }
}

bool filter_unpack(struct slice from, struct arena *a, struct filter **f)
{
    struct unpack u = unpack_over(from);
    struct filter *into = filter_create(a);
    struct slice why;
    uint32_t count = unpack_array(&u);

    if (count % 2 != 1 || count > 1 + 2 * CLAUSES_MAX || unpack_u64(&u) != FILTER_VERSION)
        return false;
    for (; count > 1; count -= 2) {
        struct slice field = unpack_str(&u);
        struct slice expression = unpack_str(&u);
        if (!unpack_ok(&u) || !filter_add(into, field, expression, &why))
            return false;
    }
    if (!unpack_done(&u))
        return false;
    *f = into;
    return true;
}
