/*
 * POST /v3/{domain}/{bounces|complaints|unsubscribes|whitelists}: one address in a form, or up to
 * 1,000 as JSON; and …/import: as many as a CSV file holds.
 *
 * SOURCE  spec/mailgun.md §5.1, §5.2.
 */
#include "base/json.h"
#include "httpd/body.h"
#include "httpd/reply.h"
#include "httpd/suppressions.h"
#include "mail/csv.h"
#include "mail/form.h"

enum { ENTRIES_MAX = 1000, COLUMNS_MAX = 16 };

/* ---- a form ---- */

static void add_form(struct exchange *x, const struct form *form)
{
    struct suppressions_adding *adding = suppressions_adding_begin(x);
    const struct suppression_words *words = suppression_words(x->route.list);
    struct suppression_wish w = {0};
    struct slice wrong;

    for (size_t i = 0; i < form->count; i++)
        suppression_wish_set(&w, form->fields[i].name, form->fields[i].value);
    if (!suppressions_adding_take(adding, &w, &wrong))
        suppressions_adding_refuse(adding, 400, wrong);
    else
        suppressions_adding_end(
            adding, 200,
            arena_printf(&x->arena, "%s has been added to the %s table", words->one, words->table),
            &w);
}

/* ---- JSON ---- */

static void set_from_json(struct suppression_wish *w, const cJSON *member, struct arena *a)
{
    struct slice name = slice_str(member->string);
    int64_t number;

    if (cJSON_IsArray(member)) {
        for (const cJSON *t = json_first(member); t != NULL; t = t->next)
            suppression_wish_set(w, name, json_text(t));
    } else if (json_i64(member, &number)) { /* mailgun.js writes code so */
        suppression_wish_set(w, name, arena_printf(a, "%lld", (long long)number));
    } else {
        suppression_wish_set(w, name, json_text(member));
    }
}

static bool take_object(struct exchange *x, const cJSON *object, struct slice *wrong)
{
    struct suppression_wish w = {0};

    for (const cJSON *m = json_first(object); m != NULL && cJSON_IsObject(object); m = m->next)
        set_from_json(&w, m, &x->arena);
    return suppressions_adding_take(x->pending, &w, wrong);
}

static bool take_json(struct exchange *x, const cJSON *tree, struct slice *wrong)
{
    if (cJSON_IsObject(tree))
        return take_object(x, tree, wrong);
    if (!cJSON_IsArray(tree)) {
        *wrong = SLICE("Invalid JSON");
        return false;
    }
    if (cJSON_GetArraySize(tree) > ENTRIES_MAX) {
        *wrong = SLICE("Batch size should be less than 1000");
        return false;
    }
    for (const cJSON *o = json_first(tree); o != NULL; o = o->next)
        if (!take_object(x, o, wrong))
            return false;
    if (json_first(tree) == NULL)
        *wrong = SLICE("Missing mandatory parameter: address");
    return json_first(tree) != NULL;
}

static void add_json(struct exchange *x, struct slice body)
{
    struct suppressions_adding *adding = suppressions_adding_begin(x);
    const struct suppression_words *words = suppression_words(x->route.list);
    cJSON *tree = json_parse(body);
    struct slice wrong;

    bool fine = take_json(x, tree, &wrong);
    json_free(tree);
    if (!fine)
        suppressions_adding_refuse(adding, 400, wrong);
    else
        suppressions_adding_end(adding, 200,
                                arena_printf(&x->arena, "%zu %s have been added to the %s table",
                                             suppressions_adding_count(adding), words->few,
                                             words->table),
                                NULL);
}

/* ---- CSV ---- */

/* What stands in the columns when no line says so. */
static size_t default_columns(enum suppression list, struct slice names[static COLUMNS_MAX])
{
    static const char *const of_lists[][4] = {
        [SUPPRESS_NONE] = {NULL},
        [SUPPRESS_BOUNCE] = {"address", "code", "error", "created_at"},
        [SUPPRESS_UNSUBSCRIBE] = {"address", "tags", "created_at"},
        [SUPPRESS_COMPLAINT] = {"address", "created_at"},
        [SUPPRESS_ALLOW] = {"address", "domain"},
    };
    size_t count = 0;

    while (count < 4 && of_lists[list][count] != NULL) {
        names[count] = slice_str(of_lists[list][count]);
        count++;
    }
    return count;
}

static bool is_heading(const struct slice *fields, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (slice_eq_nocase(slice_trim(fields[i]), SLICE("address")) ||
            slice_eq_nocase(slice_trim(fields[i]), SLICE("domain")))
            return true;
    return false;
}

/* Several tags stand in one field: as a JSON array, or with commas or semicolons between. */
static void set_tags(struct suppression_wish *w, struct slice name, struct slice field,
                     struct arena *a)
{
    cJSON *tree = slice_starts(field, SLICE("[")) ? json_parse(field) : NULL;
    struct slice tag;

    for (const cJSON *t = json_first(tree); t != NULL; t = t->next)
        suppression_wish_set(w, name, arena_dup(a, json_text(t)));
    for (bool more = tree == NULL; more;) {
        uint8_t separator = slice_find_byte(field, ';') != SIZE_MAX ? ';' : ',';
        more = slice_cut(field, separator, &tag, &field);
        suppression_wish_set(w, name, tag);
    }
    json_free(tree);
}

static bool take_line(struct exchange *x, const struct slice *names, size_t name_count,
                      const struct slice *fields, size_t count, struct slice *wrong)
{
    struct suppression_wish w = {0};

    for (size_t i = 0; i < count && i < name_count; i++) {
        if (slice_eq_nocase(names[i], SLICE("tags")) || slice_eq_nocase(names[i], SLICE("tag")))
            set_tags(&w, names[i], slice_trim(fields[i]), &x->arena);
        else if (slice_trim(fields[i]).len > 0)
            suppression_wish_set(&w, names[i], fields[i]);
    }
    return suppressions_adding_take(x->pending, &w, wrong);
}

static bool take_csv(struct exchange *x, struct slice text, struct slice *wrong)
{
    struct slice names[COLUMNS_MAX], fields[COLUMNS_MAX], why;
    struct csv csv = csv_over(text, &x->arena);
    size_t name_count = default_columns(x->route.list, names), count;
    enum csv_result got;

    for (bool first = true; (got = csv_next(&csv, fields, COLUMNS_MAX, &count)) == CSV_LINE;
         first = false) {
        if (first && is_heading(fields, count)) {
            for (size_t i = 0; i < count; i++)
                names[i] = slice_trim(fields[i]);
            name_count = count;
        } else if (!take_line(x, names, name_count, fields, count, &why)) {
            *wrong = arena_printf(&x->arena, "line %zu: %.*s; nothing was imported", csv.line,
                                  SLICE_ARGS(why));
            return false;
        }
    }
    if (got == CSV_BAD)
        *wrong = arena_printf(&x->arena, "line %zu: %s; nothing was imported", csv.line, csv.why);
    return got == CSV_END;
}

static void import_csv(struct exchange *x, const struct form *form)
{
    struct suppressions_adding *adding = suppressions_adding_begin(x);
    const struct form_field *file = NULL;
    struct slice wrong;

    for (size_t i = 0; i < form->count; i++)
        if (slice_eq(form->fields[i].name, SLICE("file")))
            file = &form->fields[i];
    if (file == NULL)
        suppressions_adding_refuse(adding, 400, SLICE("Missing mandatory parameter: file"));
    else if (!take_csv(x, file->value, &wrong))
        suppressions_adding_refuse(adding, 400, wrong);
    else
        suppressions_adding_end(
            adding, 202, SLICE("file uploaded successfully for processing. standby..."), NULL);
}

/* ---- */

static bool is_json(struct slice type)
{
    return slice_starts_nocase(slice_trim(type), SLICE("application/json"));
}

static void with_form(struct exchange *x, struct slice body,
                      void (*add)(struct exchange *x, const struct form *form))
{
    struct refusal why = {0};
    struct form form;

    if (form_parse(exchange_header(x, "Content-Type"), body, &x->arena, &form, &why))
        add(x, &form);
    else
        reply_message(x, why.status != 0 ? why.status : 400, why.message);
}

void suppressions_add(struct exchange *x)
{
    struct slice body;

    if (!body_read(x, &body))
        return;
    if (is_json(exchange_header(x, "Content-Type")))
        add_json(x, body);
    else
        with_form(x, body, add_form);
}

void suppressions_import(struct exchange *x)
{
    struct slice body;

    if (body_read(x, &body))
        with_form(x, body, import_csv);
}
