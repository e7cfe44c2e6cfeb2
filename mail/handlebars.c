#include "mail/handlebars.h"

#include <stdio.h>

/* ---- what is parsed ---- */

enum start { START_THIS, START_ROOT, START_INDEX, START_KEY, START_FIRST, START_LAST };

enum operand_kind { OPERAND_PATH, OPERAND_TEXT, OPERAND_FALSE, OPERAND_TRUE, OPERAND_NULL };

/* A literal, or a path: `ups` contexts up, then from there segment by segment. */
struct operand {
    enum operand_kind kind;
    struct slice text;
    enum start start;
    unsigned ups;
    size_t count;
    struct slice *segments;
};

enum helper { HELPER_NONE, HELPER_IF, HELPER_UNLESS, HELPER_EACH, HELPER_WITH, HELPER_EQUAL };

struct handlebars_node {
    enum { NODE_TEXT, NODE_VALUE, NODE_BLOCK } kind;
    struct slice text;
    bool raw;
    enum helper helper;
    struct operand operands[2];
    const struct handlebars_node *body, *inverse;
    struct handlebars_node *next;
};

static const struct {
    const char *name;
    enum helper helper;
    size_t operands;
} helpers[] = {
    {"if", HELPER_IF, 1},     {"unless", HELPER_UNLESS, 1}, {"each", HELPER_EACH, 1},
    {"with", HELPER_WITH, 1}, {"equal", HELPER_EQUAL, 2},
};

/* ---- parsing: the text ---- */

enum tag_kind { TAG_VALUE, TAG_RAW, TAG_OPEN, TAG_CLOSE, TAG_ELSE, TAG_COMMENT };

struct tag {
    enum tag_kind kind;
    size_t start, end; /* in the text */
    bool strips_before, strips_after;
    struct slice name; /* of a block; an else's helper, or empty */
    struct operand operands[2];
    size_t operand_count;
};

struct parser {
    struct slice text;
    size_t at;
    struct arena *arena;
    struct handlebars_error *error;
    struct tag stop; /* what ended the last list: TAG_CLOSE, TAG_ELSE */
    bool at_end;     /* or the text's end did */
};

static bool wrong(struct parser *p, size_t at, const char *words)
{
    unsigned line = 1;

    for (size_t i = 0; i < at && i < p->text.len; i++)
        line += p->text.ptr[i] == '\n';
    *p->error = (struct handlebars_error){line, words};
    return false;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool looks_at(const struct parser *p, const char *what)
{
    return slice_starts(slice_from(p->text, p->at), slice_str(what));
}

static bool take(struct parser *p, const char *what)
{
    bool is_there = looks_at(p, what);

    if (is_there)
        p->at += strlen(what);
    return is_there;
}

static void skip_blanks(struct parser *p)
{
    while (p->at < p->text.len && is_blank(p->text.ptr[p->at]))
        p->at++;
}

/* ---- parsing: operands ---- */

/* Behind a name: blanks, the tag's end, or what is refused by its sight. */
static bool ends_name(uint8_t c)
{
    return is_blank(c) || c == '}' || c == '~' || c == '=' || c == '(' || c == ')' || c == '|';
}

static bool take_string(struct parser *p, struct operand *o)
{
    size_t start = p->at;
    uint8_t quote = p->text.ptr[p->at++];
    struct buf text = {0};

    while (p->at < p->text.len && p->text.ptr[p->at] != quote) {
        if (p->text.ptr[p->at] == '\\' && p->at + 1 < p->text.len &&
            p->text.ptr[p->at + 1] == quote)
            p->at++;
        buf_add_byte(&text, p->text.ptr[p->at++]);
    }
    *o = (struct operand){.kind = OPERAND_TEXT, .text = arena_dup(p->arena, buf_slice(&text))};
    buf_fini(&text);
    return p->at++ < p->text.len || wrong(p, start, "a quotation mark is not closed");
}

static bool is_number(struct slice word)
{
    size_t digits = 0, points = 0;

    for (size_t i = 0; i < word.len; i++) {
        bool digit = word.ptr[i] >= '0' && word.ptr[i] <= '9';
        digits += digit;
        points += word.ptr[i] == '.';
        if (!digit && word.ptr[i] != '.' && !(i == 0 && word.ptr[i] == '-'))
            return false;
    }
    return digits > 0 && points <= 1;
}

static bool is_literal(struct slice word, struct operand *o)
{
    static const struct {
        const char *word;
        enum operand_kind kind;
    } words[] = {{"true", OPERAND_TRUE},
                 {"false", OPERAND_FALSE},
                 {"null", OPERAND_NULL},
                 {"undefined", OPERAND_NULL}};

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (slice_eq(word, slice_str(words[i].word))) {
            *o = (struct operand){0};
            o->kind = words[i].kind;
            return true;
        }
    if (!is_number(word))
        return false;
    *o = (struct operand){.kind = OPERAND_TEXT, .text = word};
    return true;
}

static bool read_start(struct slice name, enum start *start)
{
    static const char *const names[] = {
        [START_ROOT] = "root",   [START_INDEX] = "index", [START_KEY] = "key",
        [START_FIRST] = "first", [START_LAST] = "last",
    };

    for (unsigned i = START_ROOT; i <= START_LAST; i++)
        if (slice_eq(name, slice_str(names[i]))) {
            *start = (enum start)i;
            return true;
        }
    return false;
}

/* The next segment of a path: "[a b]", or up to '.' or '/'. */
static struct slice cut_segment(struct slice *rest)
{
    struct slice segment;
    size_t len = 0;

    if (rest->ptr[0] == '[') {
        size_t close = slice_find_byte(*rest, ']');
        len = close == SIZE_MAX ? rest->len : close;
        segment = slice_head(slice_from(*rest, 1), len - 1);
        *rest = slice_from(*rest, len + 1);
    } else {
        while (len < rest->len && rest->ptr[len] != '.' && rest->ptr[len] != '/')
            len++;
        segment = slice_head(*rest, len);
        *rest = slice_from(*rest, len);
    }
    return segment;
}

static bool read_path(struct parser *p, size_t at, struct slice word, struct operand *o)
{
    struct slice segments[HANDLEBARS_SEGMENTS_MAX];
    bool first = true;

    *o = (struct operand){.kind = OPERAND_PATH, .start = START_THIS};
    for (; slice_starts(word, SLICE("..")); word = slice_from(word, 3)) {
        if (word.len > 2 && word.ptr[2] != '/')
            return wrong(p, at, "'..' is followed by '/'");
        o->ups++;
    }
    if (slice_starts(word, SLICE("./")))
        word = slice_from(word, 2);
    if (slice_eq(word, SLICE(".")))
        return true;
    for (; word.len > 0; first = false) {
        bool bracketed = word.ptr[0] == '[';
        struct slice segment = cut_segment(&word);
        if (word.len > 0) { /* a '.' or '/', and something behind it */
            if ((word.ptr[0] != '.' && word.ptr[0] != '/') || word.len == 1)
                return wrong(p, at, "a path has an empty part");
            word = slice_from(word, 1);
        }
        if (segment.len == 0)
            return wrong(p, at, "a path has an empty part");
        if (first && !bracketed && slice_eq(segment, SLICE("this")))
            continue;
        if (first && !bracketed && segment.ptr[0] == '@') {
            if (o->ups > 0 || !read_start(slice_from(segment, 1), &o->start))
                return wrong(p, at, "only @root, @index, @key, @first and @last are known");
            continue;
        }
        if (o->count == HANDLEBARS_SEGMENTS_MAX)
            return wrong(p, at, "a path has too many parts");
        segments[o->count++] = segment;
    }
    o->segments = arena_array(p->arena, o->count + 1, sizeof *o->segments);
    memcpy(o->segments, segments, o->count * sizeof *segments);
    return true;
}

/* The word at the cursor; in brackets anything may stand. */
static struct slice take_word(struct parser *p)
{
    size_t start = p->at;

    while (p->at < p->text.len && !ends_name(p->text.ptr[p->at])) {
        if (p->text.ptr[p->at] == '[') {
            size_t close = slice_find_byte(slice_from(p->text, p->at), ']');
            p->at = close == SIZE_MAX ? p->text.len - 1 : p->at + close;
        }
        p->at++;
    }
    return slice_head(slice_from(p->text, start), p->at - start);
}

static bool take_operand(struct parser *p, struct operand *o)
{
    size_t at = p->at;
    uint8_t c = p->text.ptr[p->at];

    if (c == '"' || c == '\'')
        return take_string(p, o);
    if (c == '(')
        return wrong(p, at, "subexpressions are not supported");
    if (c == '|')
        return wrong(p, at, "block parameters are not supported");
    struct slice word = take_word(p);
    if (looks_at(p, "="))
        return wrong(p, at, "named arguments are not supported");
    if (word.len == 0)
        return wrong(p, at, "a tag is not closed, or holds what is no name");
    return is_literal(word, o) || read_path(p, at, word, o);
}

/* ---- parsing: tags ---- */

static bool take_end(struct parser *p, struct tag *t)
{
    if (t->kind == TAG_RAW && slice_eq(slice_head(slice_from(p->text, t->start), 3), SLICE("{{{")))
        return take(p, "}}}");
    if (take(p, "~}}"))
        t->strips_after = true;
    else if (!take(p, "}}"))
        return false;
    return true;
}

static bool take_operands(struct parser *p, struct tag *t)
{
    for (;;) {
        skip_blanks(p);
        if (take_end(p, t))
            return true;
        if (p->at >= p->text.len)
            return wrong(p, t->start, "a tag is not closed");
        if (looks_at(p, "as |"))
            return wrong(p, t->start, "block parameters are not supported");
        if (t->operand_count == 2)
            return wrong(p, t->start, "a tag has too many arguments");
        if (!take_operand(p, &t->operands[t->operand_count++]))
            return false;
    }
}

static bool take_comment(struct parser *p, struct tag *t)
{
    const char *end = looks_at(p, "--") ? "--" : "}}";
    size_t length = slice_find(slice_from(p->text, p->at + (*end == '-' ? 2 : 0)), slice_str(end));

    if (length == SIZE_MAX)
        return wrong(p, t->start, "a comment is not closed");
    if (*end == '-') {
        p->at += 2 + length + 2;
        return take_end(p, t) || wrong(p, t->start, "a comment is not closed");
    }
    p->at += length;
    t->strips_after = length > 0 && p->text.ptr[p->at - 1] == '~';
    return take(p, "}}");
}

static bool take_block_name(struct parser *p, struct tag *t)
{
    skip_blanks(p);
    t->name = take_word(p);
    return t->name.len > 0 || wrong(p, t->start, "a block has no name");
}

/* "{{else}}", "{{^}}" or "{{else if a}}"; false and no error: it is another word. */
static bool is_else(struct parser *p)
{
    size_t at = p->at;

    skip_blanks(p);
    if (take(p, "^") || (take(p, "else") && (p->at >= p->text.len || is_blank(p->text.ptr[p->at]) ||
                                             looks_at(p, "}}") || looks_at(p, "~}}"))))
        return true;
    p->at = at;
    return false;
}

static bool take_else(struct parser *p, struct tag *t)
{
    t->kind = TAG_ELSE;
    skip_blanks(p);
    if (take_end(p, t))
        return true;
    return take_block_name(p, t) && take_operands(p, t);
}

/* At "{{". */
static bool take_tag(struct parser *p, struct tag *t)
{
    *t = (struct tag){.start = p->at};
    p->at += 2;
    t->strips_before = take(p, "~");
    if (take(p, "{{"))
        return wrong(p, t->start, "raw blocks are not supported");
    if (take(p, "!")) {
        t->kind = TAG_COMMENT;
        return take_comment(p, t);
    }
    if (take(p, ">") || looks_at(p, "#>"))
        return wrong(p, t->start, "partials are not supported");
    if (looks_at(p, "#*") || looks_at(p, "*"))
        return wrong(p, t->start, "decorators are not supported");
    if (is_else(p))
        return take_else(p, t);
    if (take(p, "#")) {
        t->kind = TAG_OPEN;
        return take_block_name(p, t) && take_operands(p, t);
    }
    if (take(p, "/")) {
        t->kind = TAG_CLOSE;
        return take_block_name(p, t) && take_operands(p, t) &&
               (t->operand_count == 0 || wrong(p, t->start, "a tag has too many arguments"));
    }
    t->kind = take(p, "{") || take(p, "&") ? TAG_RAW : TAG_VALUE;
    if (!take_operands(p, t))
        return false;
    if (t->operand_count == 2 && t->operands[0].kind == OPERAND_PATH)
        return wrong(p, t->start, "helpers are #if, #unless, #each, #with and #equal");
    return (t->operand_count == 1 && t->operands[0].kind == OPERAND_PATH) ||
           wrong(p, t->start, "a tag holds one name");
}

/* ---- parsing: lines ---- */

/* The start of the line before a tag that nothing but blanks lead up to, else SIZE_MAX. */
static size_t line_before(const struct parser *p, size_t at)
{
    while (at > 0 && (p->text.ptr[at - 1] == ' ' || p->text.ptr[at - 1] == '\t'))
        at--;
    return at == 0 || p->text.ptr[at - 1] == '\n' ? at : SIZE_MAX;
}

/* The end of the line behind a tag that nothing but blanks follow, else SIZE_MAX. */
static size_t line_after(const struct parser *p, size_t at)
{
    while (at < p->text.len && (p->text.ptr[at] == ' ' || p->text.ptr[at] == '\t'))
        at++;
    if (at < p->text.len && p->text.ptr[at] == '\r')
        at++;
    if (at == p->text.len)
        return at;
    return p->text.ptr[at] == '\n' ? at + 1 : SIZE_MAX;
}

/* Where the text before the tag ends, and where that behind it begins. */
static void place_tag(struct parser *p, struct tag *t)
{
    bool may_stand_alone = t->kind != TAG_VALUE && t->kind != TAG_RAW;
    size_t before = may_stand_alone ? line_before(p, t->start) : SIZE_MAX;
    size_t after = may_stand_alone ? line_after(p, p->at) : SIZE_MAX;

    t->end = p->at;
    if (before != SIZE_MAX && after != SIZE_MAX) {
        t->start = before;
        t->end = after;
    }
    while (t->strips_before && t->start > 0 && is_blank(p->text.ptr[t->start - 1]))
        t->start--;
    while (t->strips_after && t->end < p->text.len && is_blank(p->text.ptr[t->end]))
        t->end++;
    p->at = t->end;
}

/* ---- parsing: lists and blocks ---- */

struct list {
    struct handlebars_node *first, **end;
};

static void list_add(struct list *l, struct handlebars_node *n)
{
    *l->end = n;
    l->end = &n->next;
}

static void add_text(struct parser *p, struct list *l, size_t from, size_t until)
{
    if (until <= from)
        return;
    struct handlebars_node *n = arena_alloc(p->arena, sizeof *n);
    n->kind = NODE_TEXT;
    n->text = slice_head(slice_from(p->text, from), until - from);
    list_add(l, n);
}

/* The next "{{" from the cursor, which goes there; those behind a backslash are text. False: there
 * is none. */
static bool find_tag(struct parser *p, struct list *l, size_t *text_from)
{
    for (;;) {
        size_t found = slice_find(slice_from(p->text, p->at), SLICE("{{"));
        if (found == SIZE_MAX)
            return false;
        size_t at = p->at + found;
        bool escaped = at > *text_from && p->text.ptr[at - 1] == '\\';
        bool twice = escaped && at - 1 > *text_from && p->text.ptr[at - 2] == '\\';
        p->at = at;
        if (!escaped)
            return true;
        add_text(p, l, *text_from, at - 1);
        *text_from = at;
        if (twice)
            return true;
        p->at = at + 2;
    }
}

static bool parse_list(struct parser *p, unsigned depth, const struct handlebars_node **first);

static bool start_block(struct parser *p, const struct tag *t, struct handlebars_node *n)
{
    n->kind = NODE_BLOCK;
    for (size_t i = 0; i < sizeof helpers / sizeof helpers[0]; i++) {
        if (!slice_eq(t->name, slice_str(helpers[i].name)))
            continue;
        n->helper = helpers[i].helper;
        memcpy(n->operands, t->operands, sizeof n->operands);
        return t->operand_count == helpers[i].operands ||
               wrong(p, t->start, "a block has too few or too many arguments");
    }
    return wrong(p, t->start, "blocks are #if, #unless, #each, #with and #equal");
}

/* From behind the block's first tag, at start, up to its last, which is left in stop. */
static bool parse_block(struct parser *p, unsigned depth, size_t start, struct handlebars_node *n)
{
    if (depth > HANDLEBARS_DEPTH_MAX)
        return wrong(p, start, "blocks are nested too deep");
    if (!parse_list(p, depth, &n->body))
        return false;
    if (!p->at_end && p->stop.kind == TAG_ELSE) {
        struct tag other = p->stop;
        if (other.name.len > 0) {
            struct handlebars_node *inner = arena_alloc(p->arena, sizeof *inner);
            n->inverse = inner;
            if (!start_block(p, &other, inner) || !parse_block(p, depth + 1, other.start, inner))
                return false;
        } else if (!parse_list(p, depth, &n->inverse)) {
            return false;
        }
    }
    if (p->at_end)
        return wrong(p, start, "a block is not closed");
    return p->stop.kind == TAG_CLOSE || wrong(p, p->stop.start, "a second {{else}}");
}

static bool add_tag(struct parser *p, unsigned depth, const struct tag *t, struct list *l)
{
    struct handlebars_node *n;

    if (t->kind == TAG_COMMENT)
        return true;
    n = arena_alloc(p->arena, sizeof *n);
    list_add(l, n);
    if (t->kind != TAG_OPEN) {
        n->kind = NODE_VALUE;
        n->raw = t->kind == TAG_RAW;
        n->operands[0] = t->operands[0];
        return true;
    }
    if (!start_block(p, t, n) || !parse_block(p, depth + 1, t->start, n))
        return false;
    return slice_eq(p->stop.name, t->name) ||
           wrong(p, p->stop.start, "a block is closed by another one's name");
}

/* Up to the text's end, or to a tag that is the caller's: that is left in stop. */
static bool parse_list(struct parser *p, unsigned depth, const struct handlebars_node **first)
{
    struct list l = {.end = &l.first};
    size_t text_from = p->at;
    struct tag t;

    p->at_end = false;
    while (find_tag(p, &l, &text_from)) {
        if (!take_tag(p, &t))
            return false;
        place_tag(p, &t);
        add_text(p, &l, text_from, t.start);
        if (t.kind == TAG_CLOSE || t.kind == TAG_ELSE) {
            p->stop = t;
            *first = l.first;
            return depth > 0 || wrong(p, t.start, "no block is open here");
        }
        if (!add_tag(p, depth, &t, &l))
            return false;
        text_from = p->at;
    }
    add_text(p, &l, text_from, p->text.len);
    p->at = p->text.len;
    p->at_end = true;
    *first = l.first;
    return true;
}

bool handlebars_parse(struct slice text, struct arena *a, const struct handlebars_node **t,
                      struct handlebars_error *e)
{
    struct parser p = {.text = text, .arena = a, .error = e};

    *t = NULL;
    return parse_list(&p, 0, t);
}

/* ---- rendering ---- */

/* A member of the variables, or a number or truth of ours. */
struct value {
    const cJSON *json; /* NULL: text */
    struct slice text;
};

/* A context, and the loop that it stands in. */
struct frame {
    const struct frame *up;
    struct value here;
    const struct frame *loop; /* the innermost, maybe this one; NULL = none */
    struct slice key;
    char index[24];
    bool is_first, is_last;
};

struct rendering {
    enum handlebars_escape escape;
    struct handlebars_budget *budget;
    const cJSON *root;
    struct buf *to;
};

static bool spend(struct rendering *r, uint64_t steps)
{
    bool enough = r->budget->steps >= steps;

    r->budget->steps = enough ? r->budget->steps - steps : 0;
    return enough;
}

static bool put(struct rendering *r, struct slice text)
{
    if (text.len > r->budget->bytes)
        return false;
    r->budget->bytes -= text.len;
    buf_add_slice(r->to, text);
    return true;
}

static bool put_html(struct rendering *r, struct slice text)
{
    static const char *const entities[256] = {
        ['&'] = "&amp;",   ['<'] = "&lt;",   ['>'] = "&gt;",  ['"'] = "&quot;",
        ['\''] = "&#x27;", ['`'] = "&#x60;", ['='] = "&#x3D;"};
    size_t from = 0;

    for (size_t i = 0; i < text.len; i++) {
        const char *entity = entities[text.ptr[i]];
        if (entity == NULL)
            continue;
        if (!put(r, slice_head(slice_from(text, from), i - from)) || !put(r, slice_str(entity)))
            return false;
        from = i + 1;
    }
    return put(r, slice_from(text, from));
}

/* An array's texts, with commas between; an object has none. */
static bool add_text_of(struct rendering *r, const cJSON *v, struct buf *to)
{
    if (!spend(r, 1))
        return false;
    if (cJSON_IsString(v))
        buf_add_slice(to, json_text(v));
    else if (cJSON_IsNumber(v) || cJSON_IsBool(v))
        json_put_tree(to, v);
    else if (cJSON_IsObject(v))
        buf_add_str(to, "[object Object]");
    else if (cJSON_IsArray(v))
        for (const cJSON *e = json_first(v); e != NULL; e = e->next) {
            if (!add_text_of(r, e, to))
                return false;
            if (e->next != NULL)
                buf_add_byte(to, ',');
        }
    return true;
}

static bool is_true(const struct value *v)
{
    if (v->json == NULL)
        return v->text.len > 0 && !slice_eq(v->text, SLICE("0")) &&
               !slice_eq(v->text, SLICE("false"));
    if (cJSON_IsString(v->json))
        return json_text(v->json).len > 0;
    if (cJSON_IsNumber(v->json))
        return cJSON_GetNumberValue(v->json) < 0 || cJSON_GetNumberValue(v->json) > 0;
    if (cJSON_IsArray(v->json))
        return json_first(v->json) != NULL;
    return cJSON_IsTrue(v->json) || cJSON_IsObject(v->json);
}

static bool member_of(struct rendering *r, struct value *v, struct slice name)
{
    const cJSON *found = NULL;
    uint64_t number, size = 0;

    bool has_index = cJSON_IsArray(v->json) && slice_to_u64(name, &number);
    for (const cJSON *e = json_first(v->json); e != NULL && found == NULL; e = e->next, size++)
        if (has_index ? size == number : e->string != NULL && slice_eq(slice_str(e->string), name))
            found = e;
    *v = (struct value){.json = found};
    return spend(r, 1 + size / 16);
}

static void start_of(struct rendering *r, const struct frame *f, const struct operand *o,
                     struct value *v)
{
    const struct frame *loop = f->loop;

    switch (o->start) {
    case START_THIS:
        for (unsigned i = 0; i < o->ups && f != NULL; i++)
            f = f->up;
        if (f != NULL)
            *v = f->here;
        break;
    case START_ROOT:
        *v = (struct value){.json = r->root};
        break;
    case START_INDEX:
        v->text = loop == NULL ? slice_none() : slice_str(loop->index);
        break;
    case START_KEY:
        v->text = loop == NULL ? slice_none() : loop->key;
        break;
    case START_FIRST:
        v->text = loop == NULL ? slice_none() : loop->is_first ? SLICE("true") : SLICE("false");
        break;
    case START_LAST:
        v->text = loop == NULL ? slice_none() : loop->is_last ? SLICE("true") : SLICE("false");
        break;
    }
}

/* False: the budget is used up. */
static bool evaluate(struct rendering *r, const struct frame *f, const struct operand *o,
                     struct value *v)
{
    *v = (struct value){0};
    switch (o->kind) {
    case OPERAND_TEXT:
        v->text = o->text;
        return spend(r, 1);
    case OPERAND_TRUE:
        v->text = SLICE("true");
        return spend(r, 1);
    case OPERAND_FALSE:
        v->text = SLICE("false");
        return spend(r, 1);
    case OPERAND_NULL:
        return spend(r, 1);
    case OPERAND_PATH:
        break;
    }
    start_of(r, f, o, v);
    for (size_t i = 0; i < o->count; i++)
        if (!member_of(r, v, o->segments[i]))
            return false;
    return spend(r, 1);
}

static bool text_of(struct rendering *r, const struct value *v, struct buf *to)
{
    if (v->json == NULL) {
        buf_add_slice(to, v->text);
        return true;
    }
    return add_text_of(r, v->json, to);
}

static bool render_value(struct rendering *r, const struct handlebars_node *n,
                         const struct frame *f)
{
    struct buf text = {0};
    struct value v;

    bool fine = evaluate(r, f, &n->operands[0], &v) && text_of(r, &v, &text);
    if (fine)
        fine = n->raw || r->escape == HANDLEBARS_PLAIN ? put(r, buf_slice(&text))
                                                       : put_html(r, buf_slice(&text));
    buf_fini(&text);
    return fine;
}

static bool render_list(struct rendering *r, const struct handlebars_node *n,
                        const struct frame *f);

static bool render_each(struct rendering *r, const struct handlebars_node *n, const struct frame *f,
                        const cJSON *list)
{
    uint64_t index = 0;

    for (const cJSON *e = json_first(list); e != NULL; e = e->next, index++) {
        struct frame inner = {.up = f,
                              .here = {.json = e},
                              .key = slice_str(e->string),
                              .is_first = index == 0,
                              .is_last = e->next == NULL};
        (void)snprintf(inner.index, sizeof inner.index, "%llu", (unsigned long long)index);
        if (e->string == NULL)
            inner.key = slice_str(inner.index);
        inner.loop = &inner;
        if (!spend(r, 1) || !render_list(r, n->body, &inner))
            return false;
    }
    return index > 0 || render_list(r, n->inverse, f);
}

static bool is_same_text(struct rendering *r, const struct value *a, const struct value *b,
                         bool *same)
{
    struct buf x = {0}, y = {0};

    bool fine = text_of(r, a, &x) && text_of(r, b, &y);
    fine = fine && spend(r, (x.len + y.len) / 64);
    *same = fine && slice_eq(buf_slice(&x), buf_slice(&y));
    buf_fini(&x);
    buf_fini(&y);
    return fine;
}

static bool render_block(struct rendering *r, const struct handlebars_node *n,
                         const struct frame *f)
{
    struct frame inner = {.up = f, .loop = f->loop};
    struct value v, other;
    bool holds = false;

    if (!evaluate(r, f, &n->operands[0], &v))
        return false;
    switch (n->helper) {
    case HELPER_EACH:
        return render_each(r, n, f, v.json);
    case HELPER_WITH:
        inner.here = v;
        return is_true(&v) ? render_list(r, n->body, &inner) : render_list(r, n->inverse, f);
    case HELPER_EQUAL:
        if (!evaluate(r, f, &n->operands[1], &other) || !is_same_text(r, &v, &other, &holds))
            return false;
        break;
    case HELPER_IF:
        holds = is_true(&v);
        break;
    case HELPER_UNLESS:
        holds = !is_true(&v);
        break;
    case HELPER_NONE:
        break;
    }
    return render_list(r, holds ? n->body : n->inverse, f);
}

static bool render_list(struct rendering *r, const struct handlebars_node *n, const struct frame *f)
{
    for (; n != NULL; n = n->next) {
        bool fine = false;
        switch (n->kind) {
        case NODE_TEXT:
            fine = spend(r, 1) && put(r, n->text);
            break;
        case NODE_VALUE:
            fine = render_value(r, n, f);
            break;
        case NODE_BLOCK:
            fine = render_block(r, n, f);
            break;
        }
        if (!fine)
            return false;
    }
    return true;
}

bool handlebars_render(const struct handlebars_node *t, const cJSON *variables,
                       enum handlebars_escape escape, struct handlebars_budget *budget,
                       struct buf *to)
{
    struct rendering r = {.escape = escape, .budget = budget, .root = variables, .to = to};
    struct frame root = {.here = {.json = variables}};

    return render_list(&r, t, &root);
}
