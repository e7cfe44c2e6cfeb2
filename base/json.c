#include "base/json.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

/* Where cJSON's memory comes from during json_parse_in(). */
static _Thread_local struct arena *parsing_in;
static bool has_hooks; /* set before there are threads */

static void *take(size_t bytes)
{
    return parsing_in != NULL ? arena_take(parsing_in, bytes) : mem_alloc(bytes);
}

static void give_back(void *ptr)
{
    if (parsing_in == NULL)
        free(ptr);
}

void json_end_without_memory(void)
{
    cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = take, .free_fn = give_back});
    has_hooks = true;
}

cJSON *json_parse(struct slice text)
{
    const char *stop = NULL;

    if (text.len == 0)
        return NULL;
    cJSON *tree = cJSON_ParseWithLengthOpts((const char *)text.ptr, text.len, &stop, false);
    if (tree == NULL)
        return NULL;
    struct slice rest = slice_from(text, (size_t)((const uint8_t *)stop - text.ptr));
    if (slice_trim(rest).len != 0) {
        cJSON_Delete(tree);
        return NULL;
    }
    return tree;
}

const cJSON *json_parse_in(struct arena *a, struct slice text)
{
    if (!has_hooks)
        json_end_without_memory();
    parsing_in = a;
    const cJSON *tree = json_parse(text);
    parsing_in = NULL;
    return tree;
}

void json_free(cJSON *tree)
{
    cJSON_Delete(tree);
}

const cJSON *json_get(const cJSON *object, const char *name)
{
    return cJSON_IsObject(object) ? cJSON_GetObjectItemCaseSensitive(object, name) : NULL;
}

struct slice json_text(const cJSON *v)
{
    return cJSON_IsString(v) ? slice_str(v->valuestring) : (struct slice){0};
}

struct slice json_get_text(const cJSON *object, const char *name)
{
    return json_text(json_get(object, name));
}

bool json_i64(const cJSON *v, int64_t *value)
{
    /* 2^53: beyond it a double no longer holds every integer. */
    if (!cJSON_IsNumber(v) || !(fabs(v->valuedouble) <= 9007199254740992.0) ||
        floor(v->valuedouble) < v->valuedouble)
        return false;
    *value = (int64_t)v->valuedouble;
    return true;
}

bool json_get_i64(const cJSON *object, const char *name, int64_t *value)
{
    return json_i64(json_get(object, name), value);
}

bool json_get_bool(const cJSON *object, const char *name, bool absent)
{
    const cJSON *v = json_get(object, name);

    return cJSON_IsBool(v) ? cJSON_IsTrue(v) : absent;
}

const cJSON *json_first(const cJSON *array_or_object)
{
    return cJSON_IsArray(array_or_object) || cJSON_IsObject(array_or_object)
               ? array_or_object->child
               : NULL;
}

void json_put_tree(struct buf *to, const cJSON *tree)
{
    char *text = cJSON_PrintUnformatted(tree);

    buf_add_str(to, text == NULL ? "null" : text);
    cJSON_free(text);
}

#define BYTES_OF(c) (UINT64_C(0x0101010101010101) * (c))

/* Has none of the eight bytes (a word, in any order) to be looked at: no control byte, quote,
 * backslash, DEL, nothing beyond ASCII? */
static bool is_plain(uint64_t word)
{
    uint64_t quote = word ^ BYTES_OF('"'), backslash = word ^ BYTES_OF('\\');
    uint64_t del = word ^ BYTES_OF(0x7f);
    uint64_t odd = word | (word - BYTES_OF(0x20)) | (quote - BYTES_OF(1)) |
                   (backslash - BYTES_OF(1)) | (del - BYTES_OF(1));

    /* A byte from which more was taken than it has sets its top bit, or lends from its neighbour:
     * then the answer may be a needless no. */
    return (odd & BYTES_OF(0x80)) == 0;
}

/* From i on, the place of the first byte that cannot stay as it is; the end when there is none. */
static inline size_t past_plain(struct slice s, size_t i)
{
    while (i < s.len) {
        uint64_t word;
        if (s.len - i >= sizeof word) {
            memcpy(&word, s.ptr + i, sizeof word);
            if (is_plain(word)) {
                i += sizeof word;
                continue;
            }
        } else if (s.len >= sizeof word) { /* the last ones, and some that were looked at */
            memcpy(&word, s.ptr + s.len - sizeof word, sizeof word);
            if (is_plain(word))
                return s.len;
        }
        uint8_t c = s.ptr[i];
        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            i++;
            continue;
        }
        if (c >= 0x80) {
            size_t len = slice_utf8_len(slice_from(s, i));
            if (len != 0) {
                i += len;
                continue;
            }
        }
        break;
    }
    return i;
}

size_t json_escaped_length(struct slice s)
{
    size_t len = s.len;

    for (size_t i = past_plain(s, 0); i < s.len; i = past_plain(s, i + 1)) {
        uint8_t c = s.ptr[i];
        bool is_short = c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t';
        len += is_short ? 1 : c >= 0x80 ? 2 : 5;
    }
    return len;
}

void json_put_escaped(struct buf *to, struct slice s)
{
    static const char hex[] = "0123456789abcdef";
    size_t from = 0;

    (void)buf_reserve(to, s.len);
    for (size_t i = past_plain(s, 0); i < s.len; i = past_plain(s, from)) {
        uint8_t c = s.ptr[i];
        buf_add(to, s.ptr + from, i - from);
        if (c == '"' || c == '\\') {
            buf_add_byte(to, '\\');
            buf_add_byte(to, c);
        } else if (c == '\n') {
            buf_add(to, "\\n", 2);
        } else if (c == '\r') {
            buf_add(to, "\\r", 2);
        } else if (c == '\t') {
            buf_add(to, "\\t", 2);
        } else if (c >= 0x80) {
            buf_add(to, "\xef\xbf\xbd", 3);
        } else {
            buf_add(to, "\\u00", 4);
            buf_add_byte(to, (uint8_t)hex[c >> 4]);
            buf_add_byte(to, (uint8_t)hex[c & 15]);
        }
        from = i + 1;
    }
    buf_add_slice(to, slice_from(s, from));
}

void json_put_text(struct buf *to, struct slice s)
{
    if (past_plain(s, 0) == s.len) {
        uint8_t *at = buf_reserve(to, s.len + 2);
        at[0] = '"';
        if (s.len > 0)
            memcpy(at + 1, s.ptr, s.len);
        at[s.len + 1] = '"';
        to->len += s.len + 2;
        return;
    }
    buf_add_byte(to, '"');
    json_put_escaped(to, s);
    buf_add_byte(to, '"');
}

void json_put_name(struct buf *to, const char *name)
{
    uint8_t last = to->len == 0 ? '{' : to->ptr[to->len - 1];

    if (last != '{' && last != '[' && last != ',')
        buf_add_byte(to, ',');
    buf_add_byte(to, '"');
    buf_add_str(to, name);
    buf_add(to, "\":", 2);
}

void json_put_str(struct buf *to, const char *name, struct slice value)
{
    json_put_name(to, name);
    json_put_text(to, value);
}

void json_put_u64(struct buf *to, const char *name, uint64_t value)
{
    json_put_name(to, name);
    buf_add_u64(to, value);
}

void json_put_i64(struct buf *to, const char *name, int64_t value)
{
    json_put_name(to, name);
    if (value < 0) {
        buf_add_byte(to, '-');
        buf_add_u64(to, (uint64_t)0 - (uint64_t)value);
    } else {
        buf_add_u64(to, (uint64_t)value);
    }
}

void json_put_bool(struct buf *to, const char *name, bool value)
{
    json_put_name(to, name);
    buf_add_str(to, value ? "true" : "false");
}
