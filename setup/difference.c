#include "setup/difference.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"

static bool is_scalar_equal(const cJSON *a, const cJSON *b)
{
    uint64_t number;
    int64_t whole;
    const cJSON *text = cJSON_IsString(a) ? a : b, *value = cJSON_IsString(a) ? b : a;

    if (cJSON_IsString(a) && cJSON_IsString(b))
        return strcmp(a->valuestring, b->valuestring) == 0;
    if (cJSON_IsString(text) && cJSON_IsNumber(value))
        return slice_to_u64(json_text(text), &number) && json_i64(value, &whole) && whole >= 0 &&
               (uint64_t)whole == number;
    if (cJSON_IsString(text) && cJSON_IsBool(value))
        return strcmp(text->valuestring, cJSON_IsTrue(value) ? "true" : "false") == 0;
    if (cJSON_IsNumber(a) && cJSON_IsNumber(b))
        return !(a->valuedouble < b->valuedouble) && !(a->valuedouble > b->valuedouble);
    return (a->type & 0xff) == (b->type & 0xff);
}

/* Every element of a has one in b. Lists are short. */
static bool is_within(const cJSON *a, const cJSON *b)
{
    for (const cJSON *x = a->child; x != NULL; x = x->next) {
        const cJSON *y = b->child;
        while (y != NULL && !difference_same(x, y))
            y = y->next;
        if (y == NULL)
            return false;
    }
    return true;
}

bool difference_same(const cJSON *a, const cJSON *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    if (cJSON_IsArray(a) && cJSON_IsArray(b))
        return is_within(a, b) && is_within(b, a);
    if (cJSON_IsObject(a) && cJSON_IsObject(b)) {
        if (cJSON_GetArraySize(a) != cJSON_GetArraySize(b))
            return false;
        for (const cJSON *x = a->child; x != NULL; x = x->next)
            if (!difference_same(x, json_get(b, x->string)))
                return false;
        return true;
    }
    /* A single text, or a single statement, may stand outside of a list. */
    if (cJSON_IsArray(a) || cJSON_IsArray(b)) {
        const cJSON *list = cJSON_IsArray(a) ? a : b, *one = cJSON_IsArray(a) ? b : a;
        return cJSON_GetArraySize(list) == 1 && difference_same(list->child, one);
    }
    return !cJSON_IsObject(a) && !cJSON_IsObject(b) && is_scalar_equal(a, b);
}

static bool holds_json(const char *path)
{
    size_t len = strlen(path);

    return strncmp(path, "Policies.", 9) == 0 ||
           (len >= 6 && strcmp(path + len - 6, "Policy") == 0);
}

static bool is_same_at(const char *path, const cJSON *wanted, const cJSON *found)
{
    if (!holds_json(path) || !cJSON_IsString(wanted) || !cJSON_IsString(found))
        return difference_same(wanted, found);
    cJSON *a = json_parse(json_text(wanted)), *b = json_parse(json_text(found));
    bool same = a != NULL && b != NULL && difference_same(a, b);
    json_free(a);
    json_free(b);
    return same;
}

static bool walk(struct buf *path, const cJSON *wanted, const cJSON *found, difference_visit *visit,
                 void *arg)
{
    bool any = false;

    for (const cJSON *w = json_first(wanted); w != NULL; w = w->next) {
        size_t before = path->len;
        const cJSON *f = json_get(found, w->string);
        buf_printf(path, "%s%s", before > 0 ? "." : "", w->string);
        if (cJSON_IsObject(w)) {
            any |= walk(path, w, f, visit, arg);
        } else if (f == NULL || !is_same_at(buf_cstr(path), w, f)) {
            any = true;
            if (visit != NULL)
                visit(arg, buf_cstr(path), w, f);
        }
        path->len = before;
    }
    return any;
}

bool difference(const cJSON *wanted, const cJSON *found, difference_visit *visit, void *arg)
{
    struct buf path = {0};
    bool any = walk(&path, wanted, found, visit, arg);

    buf_fini(&path);
    return any;
}
