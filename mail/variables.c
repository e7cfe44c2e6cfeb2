#include "mail/variables.h"

#include <stdlib.h>

#include "base/mem.h"

/* -------- scanning: every function takes what it names off *s, or answers false -------- */

static void skip_blanks(struct slice *s)
{
    size_t at = 0;

    while (at < s->len &&
           (s->ptr[at] == ' ' || s->ptr[at] == '\t' || s->ptr[at] == '\n' || s->ptr[at] == '\r'))
        at++;
    *s = slice_from(*s, at);
}

static bool skip_byte(struct slice *s, uint8_t byte)
{
    if (s->len == 0 || s->ptr[0] != byte)
        return false;
    *s = slice_from(*s, 1);
    return true;
}

static bool is_digit(struct slice s, size_t at)
{
    return at < s.len && s.ptr[at] >= '0' && s.ptr[at] <= '9';
}

static int hex_of(uint8_t c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* The four hexadecimal digits behind \u; -1 when they are none. */
static int32_t hex4(struct slice s)
{
    int32_t code = 0;

    if (s.len < 4)
        return -1;
    for (size_t i = 0; i < 4; i++) {
        int digit = hex_of(s.ptr[i]);
        if (digit < 0)
            return -1;
        code = code << 4 | digit;
    }
    return code;
}

/* *inner: what is between the quotes. */
static bool skip_string(struct slice *s, struct slice *inner)
{
    size_t at = 1;

    if (s->len == 0 || s->ptr[0] != '"')
        return false;
    for (; at < s->len && s->ptr[at] != '"'; at++) {
        if (s->ptr[at] < 0x20)
            return false;
        if (s->ptr[at] != '\\')
            continue;
        if (++at == s->len || s->ptr[at] == 0 || strchr("\"\\/bfnrtu", s->ptr[at]) == NULL)
            return false;
        if (s->ptr[at] == 'u') {
            if (hex4(slice_from(*s, at + 1)) < 0)
                return false;
            at += 4;
        }
    }
    if (at >= s->len)
        return false;
    *inner = slice_of(s->ptr + 1, at - 1);
    *s = slice_from(*s, at + 1);
    return true;
}

static bool skip_number(struct slice *s)
{
    size_t at = s->len > 0 && s->ptr[0] == '-';

    if (!is_digit(*s, at))
        return false;
    if (s->ptr[at] == '0')
        at++;
    else
        while (is_digit(*s, at))
            at++;
    if (at < s->len && s->ptr[at] == '.') {
        if (!is_digit(*s, ++at))
            return false;
        while (is_digit(*s, at))
            at++;
    }
    if (at < s->len && (s->ptr[at] == 'e' || s->ptr[at] == 'E')) {
        at++;
        at += at < s->len && (s->ptr[at] == '+' || s->ptr[at] == '-');
        if (!is_digit(*s, at))
            return false;
        while (is_digit(*s, at))
            at++;
    }
    *s = slice_from(*s, at);
    return true;
}

static bool skip_word(struct slice *s, struct slice word)
{
    if (!slice_starts(*s, word))
        return false;
    *s = slice_from(*s, word.len);
    return true;
}

static bool skip_value(struct slice *s, unsigned depth);

static bool skip_nested(struct slice *s, unsigned depth)
{
    bool object = s->ptr[0] == '{';
    uint8_t close = object ? '}' : ']';
    struct slice name;

    *s = slice_from(*s, 1);
    skip_blanks(s);
    if (skip_byte(s, close))
        return true;
    while (true) {
        skip_blanks(s);
        if (object) {
            if (!skip_string(s, &name))
                return false;
            skip_blanks(s);
            if (!skip_byte(s, ':'))
                return false;
            skip_blanks(s);
        }
        if (!skip_value(s, depth + 1))
            return false;
        skip_blanks(s);
        if (skip_byte(s, close))
            return true;
        if (!skip_byte(s, ','))
            return false;
    }
}

static bool skip_value(struct slice *s, unsigned depth)
{
    struct slice inner;

    if (s->len == 0)
        return false;
    switch (s->ptr[0]) {
    case '"':
        return skip_string(s, &inner);
    case '{':
    case '[':
        return depth < VARIABLES_DEPTH_MAX && skip_nested(s, depth);
    case 't':
        return skip_word(s, SLICE("true"));
    case 'f':
        return skip_word(s, SLICE("false"));
    case 'n':
        return skip_word(s, SLICE("null"));
    default:
        return skip_number(s);
    }
}

/* -------- texts -------- */

static size_t put_utf8(uint8_t *to, uint32_t code)
{
    if (code < 0x80) {
        to[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        to[0] = (uint8_t)(0xc0 | code >> 6);
        to[1] = (uint8_t)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        to[0] = (uint8_t)(0xe0 | code >> 12);
        to[1] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        to[2] = (uint8_t)(0x80 | (code & 0x3f));
        return 3;
    }
    to[0] = (uint8_t)(0xf0 | code >> 18);
    to[1] = (uint8_t)(0x80 | (code >> 12 & 0x3f));
    to[2] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
    to[3] = (uint8_t)(0x80 | (code & 0x3f));
    return 4;
}

/* The character of the escape whose \u stands before s; *used counts from there. Half of a
 * surrogate pair is U+FFFD. */
static uint32_t escaped_code(struct slice s, size_t *used)
{
    uint32_t code = (uint32_t)hex4(s);

    *used = 4;
    if (code < 0xd800 || code > 0xdfff)
        return code;
    if (code < 0xdc00 && slice_starts(slice_from(s, 4), SLICE("\\u"))) {
        int32_t low = hex4(slice_from(s, 6));
        if (low >= 0xdc00 && low <= 0xdfff) {
            *used = 10;
            return 0x10000 + ((code - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
        }
    }
    return 0xfffd;
}

/* What stands between the quotes of a checked string; never longer than that. */
static struct slice unescape(struct slice s, struct arena *a)
{
    size_t len = 0, used;

    if (slice_find_byte(s, '\\') == SIZE_MAX)
        return s;
    uint8_t *text = arena_alloc(a, s.len);
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] != '\\') {
            text[len++] = s.ptr[i];
            continue;
        }
        switch (s.ptr[++i]) {
        case 'b':
            text[len++] = '\b';
            break;
        case 'f':
            text[len++] = '\f';
            break;
        case 'n':
            text[len++] = '\n';
            break;
        case 'r':
            text[len++] = '\r';
            break;
        case 't':
            text[len++] = '\t';
            break;
        case 'u':
            len += put_utf8(text + len, escaped_code(slice_from(s, i + 1), &used));
            i += used;
            break;
        default:
            text[len++] = s.ptr[i];
        }
    }
    return slice_of(text, len);
}

/* Without the blanks between its tokens. */
static struct slice compact(struct slice s, struct arena *a)
{
    uint8_t *text = arena_alloc(a, s.len);
    size_t len = 0;
    bool quoted = false;

    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (!quoted && (c == ' ' || c == '\t' || c == '\n' || c == '\r'))
            continue;
        text[len++] = c;
        if (c == '"')
            quoted = !quoted;
        else if (c == '\\')
            text[len++] = s.ptr[++i];
    }
    return slice_of(text, len);
}

bool json_is_object(struct slice value)
{
    return value.len > 0 && value.ptr[0] == '{';
}

struct slice json_value_text(struct slice value, struct arena *a)
{
    switch (value.ptr[0]) {
    case '"':
        return unescape(slice_of(value.ptr + 1, value.len - 2), a);
    case '{':
    case '[':
        return compact(value, a);
    case 'n':
        return (struct slice){0};
    default:
        return value;
    }
}

/* -------- members -------- */

bool members_open(struct members *m, struct slice text)
{
    skip_blanks(&text);
    *m = (struct members){.first = true};
    if (!skip_byte(&text, '{'))
        return false;
    m->rest = text;
    return true;
}

enum members_result members_next(struct members *m, struct arena *a, struct slice *name,
                                 struct slice *value)
{
    struct slice s = m->rest;

    skip_blanks(&s);
    if (skip_byte(&s, '}')) {
        skip_blanks(&s);
        return s.len == 0 ? MEMBERS_END : MEMBERS_BAD;
    }
    if (!m->first && !skip_byte(&s, ','))
        return MEMBERS_BAD;
    m->first = false;
    skip_blanks(&s);
    if (!skip_string(&s, name))
        return MEMBERS_BAD;
    skip_blanks(&s);
    if (!skip_byte(&s, ':'))
        return MEMBERS_BAD;
    skip_blanks(&s);
    *value = s;
    if (!skip_value(&s, 1))
        return MEMBERS_BAD;
    value->len -= s.len;
    *name = unescape(*name, a);
    m->rest = s;
    return MEMBERS_OK;
}

/* -------- sets -------- */

static uint32_t hash_of(const struct variable_set *v, struct slice name)
{
    uint32_t h = 2166136261u ^ v->seed;

    for (size_t i = 0; i < name.len; i++)
        h = (h ^ name.ptr[i]) * 16777619u;
    return h ^ h >> 15;
}

/* The place of a name in the table, or the free place where it would go. */
static uint32_t *place_of(struct variable_set *v, struct slice name)
{
    size_t at = hash_of(v, name) & (v->table_size - 1);

    while (v->table[at] != 0 && !slice_eq(v->list[v->table[at] - 1].name, name))
        at = (at + 1) & (v->table_size - 1);
    return &v->table[at];
}

static void make_room(struct variable_set *v)
{
    if (v->count < v->cap)
        return;
    v->cap = v->cap == 0 ? 16 : v->cap * 2;
    v->list = mem_grow(v->list, v->cap * sizeof *v->list);
    free(v->table);
    v->table_size = v->cap * 2;
    v->table = mem_zero(v->table_size, sizeof *v->table);
    for (size_t i = 0; i < v->count; i++)
        *place_of(v, v->list[i].name) = (uint32_t)i + 1;
}

void variable_set_put(struct variable_set *v, struct slice name, struct slice value)
{
    make_room(v);
    uint32_t *place = place_of(v, name);
    if (*place == 0) {
        v->list[v->count].name = name;
        *place = (uint32_t)++v->count;
    }
    v->list[*place - 1].value = value;
}

bool variable_set_read(struct variable_set *v, struct slice object, struct arena *a)
{
    struct members m;
    struct slice name, value;
    enum members_result result;

    if (!members_open(&m, object))
        return false;
    while ((result = members_next(&m, a, &name, &value)) == MEMBERS_OK)
        variable_set_put(v, name, json_value_text(value, a));
    return result == MEMBERS_END;
}

struct name_value *variable_set_take(struct variable_set *v, struct arena *a, size_t *count)
{
    struct name_value *copy = arena_array(a, v->count, sizeof *copy);

    if (v->count > 0) {
        memcpy(copy, v->list, v->count * sizeof *copy);
        memset(v->table, 0, v->table_size * sizeof *v->table);
    }
    *count = v->count;
    v->count = 0;
    /* One large object must not make clearing dear for all the small ones behind it. */
    if (v->table_size / 64 > *count && v->table_size > 1024) {
        uint32_t seed = v->seed;
        variable_set_fini(v);
        v->seed = seed;
    }
    return copy;
}

void variable_set_fini(struct variable_set *v)
{
    free(v->list);
    free(v->table);
    *v = (struct variable_set){0};
}
