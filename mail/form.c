#include "mail/form.h"

#include "base/digest.h"
#include "mail/multipart.h"

enum { URLENCODED_FIELDS_MAX = 20000 };

static bool refuse(struct refusal *why, struct slice message)
{
    *why = (struct refusal){.status = 400, .message = message};
    return false;
}

/* One side of name=value. */
static bool decode(struct slice s, struct arena *a, struct slice *out)
{
    struct buf plain = {0};

    if (slice_find_byte(s, '%') == SIZE_MAX && slice_find_byte(s, '+') == SIZE_MAX) {
        *out = s;
        return true;
    }
    bool ok = text_percent_decode(&plain, s, true);
    *out = arena_dup(a, buf_slice(&plain));
    buf_fini(&plain);
    return ok;
}

static bool urlencoded_parse(struct slice body, struct arena *a, struct form *form,
                             struct refusal *why)
{
    size_t count = 1;

    for (size_t i = 0; i < body.len; i++)
        count += body.ptr[i] == '&';
    if (count > URLENCODED_FIELDS_MAX)
        return refuse(why, SLICE("unable to parse request: too many parameters"));
    form->fields = arena_array(a, count, sizeof *form->fields);
    form->count = 0;
    while (body.len > 0) {
        struct slice pair, name, value;
        struct form_field *field = &form->fields[form->count];
        (void)slice_cut(body, '&', &pair, &body);
        if (pair.len == 0)
            continue;
        (void)slice_cut(pair, '=', &name, &value);
        if (!decode(name, a, &field->name) || !decode(value, a, &field->value))
            return refuse(why, SLICE("unable to parse request: invalid URL escape"));
        form->count++;
    }
    return true;
}

/* to[] and to[3] mean to. */
static struct slice without_index(struct slice name)
{
    size_t open = slice_rfind_byte(name, '[');

    if (name.len < 3 || name.ptr[name.len - 1] != ']' || open == SIZE_MAX || open == 0)
        return name;
    for (size_t i = open + 1; i + 1 < name.len; i++)
        if (name.ptr[i] < '0' || name.ptr[i] > '9')
            return name;
    return slice_head(name, open);
}

bool form_parse(struct slice content_type, struct slice body, struct arena *a, struct form *form,
                struct refusal *why)
{
    struct slice type, rest;

    *form = (struct form){0};
    (void)slice_cut(content_type, ';', &type, &rest);
    type = slice_trim(type);
    if (slice_eq_nocase(type, SLICE("multipart/form-data"))) {
        if (!multipart_parse(body, multipart_boundary(content_type, a), a, form))
            return refuse(why, SLICE("malformed multipart/form-data request"));
        form->is_multipart = true;
    } else if (slice_eq_nocase(type, SLICE("application/x-www-form-urlencoded"))) {
        if (!urlencoded_parse(body, a, form, why))
            return false;
    } else {
        return refuse(why, arena_printf(a,
                                        "Invalid request content type. Expecting "
                                        "'multipart/form-data' but got '%.*s'",
                                        SLICE_ARGS(slice_head(type, 100))));
    }
    for (size_t i = 0; i < form->count; i++) {
        struct form_field *field = &form->fields[i];
        field->name = without_index(field->name);
        if (!slice_is_utf8(field->name))
            return refuse(why, SLICE("a parameter name is not valid UTF-8"));
        /* A MIME message comes as the bytes that it is, also without a file name. */
        if (!field->is_file && !slice_eq(field->name, SLICE("message")) &&
            !slice_is_utf8(field->value))
            return refuse(why, arena_printf(a, "'%.*s' parameter is not valid UTF-8",
                                            SLICE_ARGS(field->name)));
    }
    return true;
}
