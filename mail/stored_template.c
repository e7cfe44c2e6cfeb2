#include "mail/stored_template.h"

#include "mail/handlebars.h"

static const char *const header_names[] = {"From", "Subject", "Reply-To"};
enum { HEADERS = sizeof header_names / sizeof header_names[0] };

static bool has_control(struct slice s)
{
    for (size_t i = 0; i < s.len; i++)
        if (s.ptr[i] < ' ' || s.ptr[i] == 0x7f)
            return true;
    return false;
}

static const char *name_of(const char *given)
{
    for (size_t i = 0; i < HEADERS; i++)
        if (slice_eq_nocase(slice_str(given), slice_str(header_names[i])))
            return header_names[i];
    return NULL;
}

static bool check_header(const cJSON *member, struct arena *a, struct slice *why)
{
    const struct handlebars_node *t;
    struct handlebars_error e;

    if (name_of(member->string) == NULL)
        *why = SLICE("names another header than From, Subject and Reply-To");
    else if (!cJSON_IsString(member) || has_control(json_text(member)))
        *why = SLICE("has a header that is no text of one line");
    else if (!handlebars_parse(json_text(member), a, &t, &e))
        *why = arena_printf(a, "has a header that does not parse: %s", e.words);
    return why->len == 0;
}

bool stored_headers_read(struct slice text, struct arena *a, struct slice *headers,
                         struct slice *why)
{
    struct buf compact = {0};
    cJSON *tree = json_parse(text);

    *why = slice_none();
    if (!cJSON_IsObject(tree))
        *why = SLICE("is not a valid JSON object");
    buf_add_byte(&compact, '{');
    for (const cJSON *m = json_first(tree); m != NULL && why->len == 0; m = m->next)
        if (check_header(m, a, why))
            json_put_str(&compact, name_of(m->string), json_text(m));
    buf_add_byte(&compact, '}');
    *headers = compact.len > 2 ? arena_dup(a, buf_slice(&compact)) : slice_none();
    json_free(tree);
    buf_fini(&compact);
    return why->len == 0;
}

struct rendering {
    const cJSON *variables;
    struct handlebars_budget budget;
    struct arena *arena;
    struct slice *why;
};

static bool render(struct rendering *r, struct slice text, enum handlebars_escape escape,
                   struct slice *to)
{
    const struct handlebars_node *t;
    struct handlebars_error e;
    struct buf rendered = {0};

    if (!handlebars_parse(text, r->arena, &t, &e)) {
        *r->why = arena_printf(r->arena, "does not parse: line %u: %s", e.line, e.words);
        return false;
    }
    bool fine = handlebars_render(t, r->variables, escape, &r->budget, &rendered);
    if (fine)
        *to = arena_dup(r->arena, buf_slice(&rendered));
    else
        *r->why = arena_printf(r->arena,
                               "takes more than %d steps or makes more than %d bytes with these "
                               "variables",
                               STORED_STEPS_MAX, STORED_BYTES_MAX);
    buf_fini(&rendered);
    return fine;
}

static bool render_headers(struct rendering *r, struct slice headers,
                           struct rendered_template *rendered)
{
    struct slice *const to[HEADERS] = {&rendered->from, &rendered->subject, &rendered->reply_to};
    cJSON *tree = json_parse(headers);
    bool fine = true;

    for (size_t i = 0; i < HEADERS && fine; i++)
        fine = render(r, json_get_text(tree, header_names[i]), HANDLEBARS_PLAIN, to[i]);
    json_free(tree);
    return fine;
}

bool stored_template_render(const struct stored_template *t, const cJSON *variables,
                            struct arena *a, struct rendered_template *rendered, struct slice *why)
{
    struct rendering r = {.variables = variables,
                          .budget = {.steps = STORED_STEPS_MAX, .bytes = STORED_BYTES_MAX},
                          .arena = a,
                          .why = why};

    *rendered = (struct rendered_template){0};
    *why = slice_none();
    return render(&r, t->content, HANDLEBARS_HTML, &rendered->html) &&
           render_headers(&r, t->headers, rendered);
}
