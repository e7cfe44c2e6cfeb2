/*
 *     expr := and ( "OR" and )*                    grammar: spec/mailgun.md §4.3.
 *     and  := not ( [ "AND" ] not )*
 *     not  := [ "NOT" ] prim
 *     prim := "(" expr ")" | "text" | cmp number | term
 *
 * A filter is a list of clauses, one per field given, each with the tree of its expression. An OR
 * or AND node holds all its operands in one list, so that only NOT and parentheses make a tree
 * deep. A clause made of values (the Logs API's predicates) has the same kind of tree.
 */
#include "mail/filter.h"

#include <assert.h>

#include "base/digest.h"
#include "base/pack.h"

enum {
    CLAUSES_MAX = 32,
    VALUES_MAX = 256, /* of one clause */
    FILTER_VERSION = 2,
    EXPRESSION_MEMBERS = 2, /* of a packed clause: field, expression */
    VALUES_MEMBERS = 3,     /* field, comparator, values */
};

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
    FIELD_RECIPIENT_DOMAIN,
    FIELD_CODE,
    FIELD_STATUS_MESSAGE,
    FIELD_IP,
    FIELD_DEVICE,
    FIELD_BOT,
    FIELD_VARIABLES, /* all of them, as the text of a JSON object */
    FIELD_METRIC,    /* the Logs API's metric_events */
};

static const struct {
    const char *name;
    enum field_kind kind;
    bool in_query; /* a parameter of GET …/events; else only of the Logs API */
} fields[] = {
    {"event", FIELD_EVENT, true},
    {"list", FIELD_LIST, true},
    {"attachment", FIELD_ATTACHMENT, true},
    {"from", FIELD_FROM, true},
    {"to", FIELD_TO, true},
    {"subject", FIELD_SUBJECT, true},
    {"message-id", FIELD_MESSAGE_ID, true},
    {"size", FIELD_SIZE, true},
    {"recipient", FIELD_RECIPIENT, true},
    {"recipients", FIELD_RECIPIENT, true},
    {"tags", FIELD_TAGS, true},
    {"severity", FIELD_SEVERITY, true},
    {"reason", FIELD_REASON, true},
    {"id", FIELD_ID, true},
    {"recipient-domain", FIELD_RECIPIENT_DOMAIN, false},
    {"delivery-status.code", FIELD_CODE, false},
    {"delivery-status.message", FIELD_STATUS_MESSAGE, false},
    {"ip", FIELD_IP, false},
    {"device-type", FIELD_DEVICE, false},
    {"bot", FIELD_BOT, false},
    {"user-variables", FIELD_VARIABLES, false},
    {"metric-event", FIELD_METRIC, false},
};

/* SOURCE  spec/mailgun.md §4.9; what a metric event of Mailgun's is among the kinds of events. */
static const struct {
    const char *name;
    uint32_t kinds;
} metrics[] = {
#define KIND(kind) (UINT32_C(1) << (kind))
    {"accepted", KIND(EVENT_ACCEPTED)},
    {"accepted_outgoing", KIND(EVENT_ACCEPTED)},
    {"delivered", KIND(EVENT_DELIVERED)},
    {"delivered_smtp", KIND(EVENT_DELIVERED)},
    {"failed", KIND(EVENT_FAILED) | KIND(EVENT_KIND_PERMANENT)},
    {"temporary_failed", KIND(EVENT_FAILED)},
    {"permanent_failed", KIND(EVENT_KIND_PERMANENT)},
    {"opened", KIND(EVENT_OPENED)},
    {"clicked", KIND(EVENT_CLICKED)},
    {"unsubscribed", KIND(EVENT_UNSUBSCRIBED)},
    {"complained", KIND(EVENT_COMPLAINED)},
    {"stored", KIND(EVENT_STORED)},
    {"accepted_incoming", 0},
    {"delivered_http", 0},
    {"delivered_optimized", 0},
    {"webhook_failure", 0},
};

static const char variable_prefix[] = "user-variables.";

enum node_kind { NODE_OR, NODE_AND, NODE_NOT, NODE_ANY, NODE_TERM, NODE_COMPARE };
enum comparison { COMPARE_EQ, COMPARE_LT, COMPARE_LE, COMPARE_GT, COMPARE_GE };
enum matching { MATCH_OF_FIELD, MATCH_EQUAL, MATCH_CONTAINS };

struct node {
    enum node_kind kind;
    struct node *first, *next; /* operands; the next operand of the same parent */
    struct slice text;         /* TERM, as it is compared (no brackets around a message id) */
    enum matching matching;    /* TERM */
    enum comparison comparison;
    uint64_t number;
};

struct clause {
    struct clause *next;
    enum field_kind kind;
    struct slice field, variable;
    struct slice expression;
    const struct slice *values; /* instead of an expression */
    size_t value_count;         /* 0 = an expression */
    enum filter_comparator comparator;
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

static bool field_find(struct slice name, enum field_kind *kind, bool *in_query)
{
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (slice_eq(name, slice_str(fields[i].name))) {
            *kind = fields[i].kind;
            *in_query = fields[i].in_query;
            return true;
        }
    *kind = FIELD_VARIABLE;
    *in_query = true;
    return name.len > sizeof variable_prefix - 1 && slice_starts(name, slice_str(variable_prefix));
}

bool filter_is_field(struct slice name)
{
    enum field_kind kind;
    bool in_query;

    return field_find(name, &kind, &in_query) && in_query;
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

static struct node *node_new(struct arena *a, enum node_kind kind)
{
    struct node *n = arena_alloc(a, sizeof *n);

    n->kind = kind;
    return n;
}

static bool is_number(enum field_kind kind)
{
    return kind == FIELD_SIZE || kind == FIELD_CODE;
}

static struct slice as_compared(enum field_kind kind, struct slice text)
{
    if (kind == FIELD_MESSAGE_ID && text.len >= 2 && text.ptr[0] == '<' &&
        text.ptr[text.len - 1] == '>')
        return slice_head(slice_from(text, 1), text.len - 2);
    return text;
}

static struct node *parse_or(struct parser *p);

/* "100", ">100", ">= 100": the number may stand apart from its sign. */
static struct node *parse_size(struct parser *p)
{
    struct node *n = node_new(p->arena, NODE_COMPARE);
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
        return node_new(p->arena, NODE_ANY);
    }
    if (is_number(p->kind))
        return parse_size(p);

    struct node *n = node_new(p->arena, NODE_TERM);
    n->text = as_compared(p->kind, p->text);
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
        n = node_new(p->arena, NODE_NOT);
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
    n = node_new(p->arena, NODE_AND);
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
    n = node_new(p->arena, NODE_OR);
    n->first = first;
    return n;
}

static bool refuse(struct filter *f, struct slice field, const char *what, struct slice *why)
{
    *why = arena_printf(f->arena, "'%.*s' parameter is not a valid filter: %s", SLICE_ARGS(field),
                        what);
    return false;
}

/* A clause that is not in the list yet; NULL: *why. bytes: of what it is made of. */
static struct clause *clause_new(struct filter *f, struct slice field, size_t bytes,
                                 struct slice *why)
{
    struct clause *c = arena_alloc(f->arena, sizeof *c);
    bool in_query;

    if (field.len > FILTER_BYTES_MAX || !field_find(field, &c->kind, &in_query)) {
        (void)refuse(f, slice_head(field, 64), "there is no such field", why);
        return NULL;
    }
    if (bytes > FILTER_BYTES_MAX - field.len || f->bytes > FILTER_BYTES_MAX - field.len - bytes ||
        f->count == CLAUSES_MAX) {
        (void)refuse(f, slice_head(field, 64), "it is too long", why);
        return NULL;
    }
    c->field = arena_dup(f->arena, field);
    if (c->kind == FIELD_VARIABLE)
        c->variable = slice_from(c->field, sizeof variable_prefix - 1);
    return c;
}

static void clause_take(struct filter *f, struct clause *c, size_t bytes)
{
    assert(c->root != NULL);
    *f->end = c;
    f->end = &c->next;
    f->count++;
    f->bytes += c->field.len + bytes;
}

bool filter_add(struct filter *f, struct slice field, struct slice expression, struct slice *why)
{
    struct clause *c = filter_is_field(field) ? clause_new(f, field, expression.len, why) : NULL;

    if (c == NULL)
        return filter_is_field(field)
                   ? false
                   : refuse(f, slice_head(field, 64), "that is no field to filter by", why);
    c->expression = arena_dup(f->arena, expression);

    struct parser p = {.arena = f->arena, .rest = c->expression, .kind = c->kind};
    advance(&p);
    c->root = parse_or(&p);
    if (p.why == NULL && p.token != TOKEN_END)
        mistake(&p, "a parenthesis closes what was not opened");
    if (p.why != NULL)
        return refuse(f, slice_head(field, 64), p.why, why);
    clause_take(f, c, expression.len);
    return true;
}

/* NULL: this field has no such comparison, or the value is no number where one is needed. */
static struct node *value_node(struct arena *a, enum field_kind kind, enum filter_comparator how,
                               struct slice value)
{
    struct node *n = node_new(a, is_number(kind) ? NODE_COMPARE : NODE_TERM);

    n->text = as_compared(kind, value);
    n->matching = MATCH_EQUAL;
    switch (how) {
    case FILTER_EQUAL:
    case FILTER_NOT_EQUAL:
        break;
    case FILTER_CONTAINS:
    case FILTER_NOT_CONTAINS:
        n->matching = MATCH_CONTAINS;
        return is_number(kind) || kind == FIELD_METRIC ? NULL : n;
    case FILTER_LESS:
        n->comparison = COMPARE_LT;
        break;
    case FILTER_LESS_EQUAL:
        n->comparison = COMPARE_LE;
        break;
    case FILTER_GREATER:
        n->comparison = COMPARE_GT;
        break;
    case FILTER_GREATER_EQUAL:
        n->comparison = COMPARE_GE;
        break;
    }
    if (is_number(kind))
        return slice_to_u64(value, &n->number) ? n : NULL;
    return how == FILTER_EQUAL || how == FILTER_NOT_EQUAL ? n : NULL;
}

bool filter_add_values(struct filter *f, struct slice field, enum filter_comparator comparator,
                       const struct slice *values, size_t count, struct slice *why)
{
    bool negative = comparator == FILTER_NOT_EQUAL || comparator == FILTER_NOT_CONTAINS;
    size_t bytes = 0;

    if (count == 0 || count > VALUES_MAX)
        return refuse(f, slice_head(field, 64), count == 0 ? "it has no value" : "it is too long",
                      why);
    for (size_t i = 0; i < count; i++)
        bytes += slice_head(values[i], FILTER_BYTES_MAX + 1).len;
    struct clause *c = clause_new(f, field, bytes, why);
    if (c == NULL)
        return false;

    struct node *any = node_new(f->arena, NODE_OR), **end = &any->first;
    struct slice *kept = arena_array(f->arena, count, sizeof *kept);
    for (size_t i = 0; i < count; i++) {
        kept[i] = arena_dup(f->arena, values[i]);
        *end = value_node(f->arena, c->kind, comparator, kept[i]);
        if (*end == NULL)
            return refuse(f, slice_head(field, 64),
                          is_number(c->kind) ? "it is compared with numbers"
                                             : "it cannot be compared in this way",
                          why);
        end = &(*end)->next;
    }
    c->root = count == 1 ? any->first : any;
    if (negative) {
        struct node *negation = node_new(f->arena, NODE_NOT);
        negation->first = c->root;
        c->root = negation;
    }
    c->comparator = comparator;
    c->values = kept;
    c->value_count = count;
    clause_take(f, c, bytes);
    return true;
}

/* -------- matching -------- */

/* A failure without a severity is shown as a temporary one. */
static struct slice severity_of(const struct event *e)
{
    if (e->type != EVENT_FAILED)
        return slice_none();
    return e->severity == SEVERITY_PERMANENT ? SLICE("permanent") : SLICE("temporary");
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

static struct slice domain_of(struct slice address)
{
    size_t at = slice_rfind_byte(address, '@');

    return at == SIZE_MAX ? slice_none() : slice_from(address, at + 1);
}

static bool metric_matches(struct slice name, const struct event *e)
{
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
        if (slice_eq_nocase(name, slice_str(metrics[i].name)))
            return (metrics[i].kinds >> event_kind(e) & 1u) != 0;
    return false;
}

bool filter_is_metric(struct slice name)
{
    for (size_t i = 0; i < sizeof metrics / sizeof *metrics; i++)
        if (slice_eq_nocase(name, slice_str(metrics[i].name)))
            return true;
    return false;
}

static bool text_matches(struct slice text, const struct node *n, enum matching of_field)
{
    enum matching matching = n->matching == MATCH_OF_FIELD ? of_field : n->matching;

    return matching == MATCH_CONTAINS ? contains(text, n->text) : slice_eq_nocase(text, n->text);
}

static bool variables_match(const struct event *e, const struct node *n)
{
    struct buf text = {0};

    event_vars_to_json(&text, e);
    bool fits = text_matches(buf_slice(&text), n, MATCH_EQUAL);
    buf_fini(&text);
    return fits;
}

static bool term_matches(const struct clause *c, const struct node *n, const struct event *e)
{
    switch (c->kind) {
    case FIELD_EVENT:
        return text_matches(slice_str(event_type_name(e->type)), n, MATCH_EQUAL);
    case FIELD_SEVERITY:
        return e->type == EVENT_FAILED && text_matches(severity_of(e), n, MATCH_EQUAL);
    case FIELD_METRIC:
        return metric_matches(n->text, e);
    case FIELD_TAGS:
        for (size_t i = 0; i < e->tag_count; i++)
            if (text_matches(e->tags[i], n, MATCH_EQUAL))
                return true;
        return false;
    case FIELD_MESSAGE_ID:
        return text_matches(e->message_id, n, MATCH_EQUAL);
    case FIELD_RECIPIENT:
        if (n->matching == MATCH_OF_FIELD)
            return address_matches(e->recipient, n->text);
        return text_matches(e->recipient, n, MATCH_EQUAL);
    case FIELD_RECIPIENT_DOMAIN:
        return text_matches(domain_of(e->recipient), n, MATCH_EQUAL);
    case FIELD_FROM:
        return text_matches(e->from, n, MATCH_CONTAINS);
    case FIELD_TO:
        return text_matches(e->to, n, MATCH_CONTAINS);
    case FIELD_SUBJECT:
        return text_matches(e->subject, n, MATCH_CONTAINS);
    case FIELD_REASON:
        return text_matches(e->reason, n, MATCH_EQUAL);
    case FIELD_ID:
        return id_matches(e->id, n->text);
    case FIELD_STATUS_MESSAGE:
        return e->status.present && text_matches(e->status.message, n, MATCH_EQUAL);
    case FIELD_IP:
        return text_matches(e->ip, n, MATCH_EQUAL) || text_matches(e->sending_ip, n, MATCH_EQUAL);
    case FIELD_DEVICE:
        return text_matches(e->device_type, n, MATCH_EQUAL);
    case FIELD_BOT:
        return text_matches(e->bot, n, MATCH_EQUAL);
    case FIELD_VARIABLE:
        for (size_t i = 0; i < e->var_count; i++)
            if (slice_eq(e->vars[i].name, c->variable))
                return text_matches(e->vars[i].value, n, MATCH_EQUAL);
        return false;
    case FIELD_VARIABLES:
        return variables_match(e, n);
    case FIELD_LIST: /* events here carry neither */
    case FIELD_ATTACHMENT:
    case FIELD_SIZE:
    case FIELD_CODE:
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
        return term_matches(c, n, e);
    case NODE_COMPARE:
        if (c->kind == FIELD_CODE)
            return e->status.present && e->status.code >= 0 &&
                   compares(n, (uint64_t)e->status.code);
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

static bool can_be_looked_up(const struct node *n, enum field_kind kind)
{
    if (n->kind != NODE_TERM || n->text.len == 0 || n->matching == MATCH_CONTAINS)
        return false;
    if (kind != FIELD_RECIPIENT || n->matching == MATCH_EQUAL)
        return true;
    size_t at = slice_find_byte(n->text, '@'); /* else it may be a domain */
    return at != SIZE_MAX && at != 0;
}

/* The texts, one of which every match has; none when that cannot be said. */
static struct filter_terms terms_of(const struct filter *f, const struct node *n,
                                    enum field_kind kind)
{
    const struct node *first = n->kind == NODE_OR ? n->first : n;
    size_t count = 0;

    for (const struct node *o = first; o != NULL; o = n->kind == NODE_OR ? o->next : NULL)
        if (!can_be_looked_up(o, kind) || ++count > FILTER_TERMS_MAX)
            return (struct filter_terms){0};
    struct slice *texts = arena_array(f->arena, count, sizeof *texts);
    for (size_t i = 0; i < count; i++, first = first->next)
        texts[i] = first->text;
    return (struct filter_terms){texts, count};
}

/* An expression over names of events says yes or no to each kind by itself: ask it for all. */
static uint32_t kinds_of(const struct clause *c)
{
    uint32_t kinds = 0;

    for (unsigned i = EVENT_ACCEPTED; i < EVENT_KIND_END; i++) {
        struct event e = {.type = (enum event_type)i};
        if (i == EVENT_KIND_PERMANENT) {
            e.type = EVENT_FAILED;
            e.severity = SEVERITY_PERMANENT;
        } else if (i >= EVENT_TYPE_END) {
            continue;
        }
        if (node_matches(c, c->root, &e))
            kinds |= UINT32_C(1) << i;
    }
    return kinds;
}

static void plan_terms(struct filter_plan *plan, struct filter_terms *place,
                       struct filter_terms terms)
{
    if (terms.count == 0 || place->count != 0)
        plan->exact = false;
    else
        *place = terms;
}

/* What every match of this part of a clause must have. */
static void plan_node(const struct filter *f, const struct clause *c, const struct node *n,
                      struct filter_plan *plan)
{
    if (n->kind == NODE_ANY)
        return;
    if (n->kind == NODE_AND) {
        for (const struct node *o = n->first; o != NULL; o = o->next)
            plan_node(f, c, o, plan);
        return;
    }
    struct filter_terms terms = terms_of(f, n, c->kind);
    switch (c->kind) {
    case FIELD_TAGS:
        if (terms.count != 0 && plan->tag_count < FILTER_TAGS_MAX)
            plan->tags[plan->tag_count++] = terms;
        else
            plan->exact = false;
        return;
    case FIELD_MESSAGE_ID:
        plan_terms(plan, &plan->message_id, terms);
        return;
    case FIELD_RECIPIENT:
        plan_terms(plan, &plan->recipient, terms);
        return;
    case FIELD_ID:
        if (terms.count == 1 && plan->id.len == 0)
            plan->id = terms.texts[0];
        break;
    case FIELD_REASON:
        if (terms.count != 0)
            plan->kinds &= KIND(EVENT_FAILED) | KIND(EVENT_KIND_PERMANENT) | KIND(EVENT_REJECTED);
        break;
    default:
        break;
    }
    plan->exact = false;
}

void filter_plan(const struct filter *f, struct filter_plan *plan)
{
    *plan = (struct filter_plan){.kinds = FILTER_ALL_KINDS, .exact = true};
    for (const struct clause *c = f->first; c != NULL; c = c->next) {
        if (c->kind == FIELD_EVENT || c->kind == FIELD_SEVERITY || c->kind == FIELD_METRIC)
            plan->kinds &= kinds_of(c);
        else
            plan_node(f, c, c->root, plan);
    }
}

/* -------- for a page token -------- */

void filter_pack(struct buf *to, const struct filter *f)
{
    pack_array(to, 1 + f->count);
    pack_u64(to, FILTER_VERSION);
    for (const struct clause *c = f->first; c != NULL; c = c->next) {
        pack_array(to, c->value_count == 0 ? EXPRESSION_MEMBERS : VALUES_MEMBERS);
        pack_str(to, c->field);
        if (c->value_count == 0) {
            pack_str(to, c->expression);
            continue;
        }
        pack_u64(to, c->comparator);
        pack_array(to, c->value_count);
        for (size_t i = 0; i < c->value_count; i++)
            pack_str(to, c->values[i]);
    }
}

static bool values_unpack(struct unpack *u, struct filter *f, struct slice field)
{
    uint64_t comparator = unpack_u64(u);
    uint32_t count = unpack_array(u);
    struct slice values[VALUES_MAX], why;

    if (comparator > FILTER_GREATER_EQUAL || count > VALUES_MAX)
        return false;
    for (uint32_t i = 0; i < count; i++)
        values[i] = unpack_str(u);
    return unpack_ok(u) &&
           filter_add_values(f, field, (enum filter_comparator)comparator, values, count, &why);
}

bool filter_unpack(struct slice from, struct arena *a, struct filter **f)
{
    struct unpack u = unpack_over(from);
    struct filter *into = filter_create(a);
    struct slice why;
    uint32_t count = unpack_array(&u);

    if (count == 0 || count > 1 + CLAUSES_MAX || unpack_u64(&u) != FILTER_VERSION)
        return false;
    for (; count > 1; count--) {
        uint32_t members = unpack_array(&u);
        struct slice field = unpack_str(&u);
        if (members == VALUES_MEMBERS) {
            if (!values_unpack(&u, into, field))
                return false;
            continue;
        }
        struct slice expression = unpack_str(&u);
        if (members != EXPRESSION_MEMBERS || !unpack_ok(&u) ||
            !filter_add(into, field, expression, &why))
            return false;
    }
    if (!unpack_done(&u))
        return false;
    *f = into;
    return true;
}
