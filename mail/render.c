#include "mail/render.h"

#include <assert.h>

static uint64_t hash_of(struct slice s)
{
    uint64_t h = 14695981039346656037u; /* FNV-1a */

    for (size_t i = 0; i < s.len; i++)
        h = (h ^ s.ptr[i]) * 1099511628211u;
    return h ^ h >> 29;
}

static size_t place_of(const struct render_keys *k, struct slice name)
{
    size_t at = (size_t)hash_of(name) & (k->table_size - 1);

    while (k->table[at] != 0 && !slice_eq(k->names[k->table[at] - 1], name))
        at = (at + 1) & (k->table_size - 1);
    return at;
}

size_t render_keys_find(const struct render_keys *k, struct slice name)
{
    if (k->table_size == 0)
        return SIZE_MAX;
    uint32_t found = k->table[place_of(k, name)];
    return found == 0 ? SIZE_MAX : found - 1;
}

/* Twice the room; the arena keeps the old halves, which together are no larger than the new one. */
static void keys_grow(struct render_keys *k, struct arena *a)
{
    size_t cap = k->cap == 0 ? 16 : k->cap * 2;
    struct slice *names = arena_array(a, cap, sizeof *names);

    if (k->count > 0)
        memcpy(names, k->names, k->count * sizeof *names);
    k->names = names;
    k->cap = cap;
    k->table_size = cap * 4;
    k->table = arena_array(a, k->table_size, sizeof *k->table);
    for (size_t i = 0; i < k->count; i++)
        k->table[place_of(k, names[i])] = (uint32_t)(i + 1);
}

void render_keys_add(struct render_keys *k, struct arena *a, struct slice name)
{
    if (render_keys_find(k, name) != SIZE_MAX)
        return;
    if (k->count == k->cap)
        keys_grow(k, a);
    assert(k->count < RENDER_LITERAL - RENDER_KEYS);
    size_t at = place_of(k, name);
    k->names[k->count++] = arena_dup(a, name);
    k->table[at] = (uint32_t)k->count;
}

static bool is_word(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '_'))
            return false;
    }
    return true;
}

enum meaning { MEANS_TEXT, MEANS_VALUE, MEANS_NOTHING, MEANS_UNKNOWN };

/* What the text between two percent signs stands for. */
static enum meaning meaning_of(struct slice inside, const struct render_keys *keys, uint32_t *slot)
{
    static const struct {
        const char *name;
        uint32_t slot;
    } fixed[] = {
        {"recipient", RENDER_RECIPIENT},   {"recipient_email", RENDER_EMAIL},
        {"recipient_name", RENDER_NAME},   {"recipient_fname", RENDER_FNAME},
        {"recipient_lname", RENDER_LNAME},
    };
    static const char *const gone[] = {"unsubscribe_url", "unsubscribe_email",
                                       "mailing_list_unsubscribe_url"};
    const struct slice of_recipient = SLICE("recipient.");

    if (slice_starts(inside, of_recipient)) {
        size_t at = render_keys_find(keys, slice_from(inside, of_recipient.len));
        if (at == SIZE_MAX)
            return MEANS_UNKNOWN;
        *slot = (uint32_t)(RENDER_KEYS + at);
        return MEANS_VALUE;
    }
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
        if (slice_eq(inside, slice_str(fixed[i].name))) {
            *slot = fixed[i].slot;
            return MEANS_VALUE;
        }
    for (size_t i = 0; i < sizeof gone / sizeof gone[0]; i++)
        if (slice_eq(inside, slice_str(gone[i])))
            return MEANS_NOTHING;
    if (slice_starts(inside, SLICE("tag_")) && is_word(inside))
        return MEANS_NOTHING;
    return MEANS_TEXT;
}

struct cutting {
    struct render_template *t;
    struct arena *arena;
    size_t cap;
};

static void add_part(struct cutting *c, struct render_part part)
{
    struct render_template *t = c->t;

    if (part.slot == RENDER_LITERAL && part.literal.len == 0)
        return;
    if (t->count == c->cap) {
        size_t cap = c->cap == 0 ? 8 : c->cap * 2;
        struct render_part *parts = arena_array(c->arena, cap, sizeof *parts);
        if (t->count > 0)
            memcpy(parts, t->parts, t->count * sizeof *parts);
        t->parts = parts;
        c->cap = cap;
    }
    t->parts[t->count++] = part;
    t->literal_bytes += part.literal.len;
    if (part.slot != RENDER_LITERAL)
        t->varies = true;
}

void render_compile(struct render_template *t, struct slice text, const struct render_keys *keys,
                    struct arena *a)
{
    struct cutting c = {.t = t, .arena = a};
    size_t from = 0, at = 0;

    *t = (struct render_template){0};
    while (keys != NULL && at < text.len) {
        size_t open = slice_find_byte(slice_from(text, at), '%');
        if (open == SIZE_MAX)
            break;
        open += at;
        size_t inside = slice_find_byte(slice_from(text, open + 1), '%');
        if (inside == SIZE_MAX)
            break;
        size_t close = open + 1 + inside;
        uint32_t slot = RENDER_LITERAL;
        enum meaning what = meaning_of(slice_of(text.ptr + open + 1, inside), keys, &slot);
        if (what == MEANS_TEXT || what == MEANS_UNKNOWN) {
            /* The closing sign may open the next placeholder. */
            t->unknown_count += what == MEANS_UNKNOWN;
            at = close;
            continue;
        }
        add_part(&c, (struct render_part){slice_of(text.ptr + from, open - from), RENDER_LITERAL});
        if (what == MEANS_VALUE)
            add_part(&c, (struct render_part){.slot = slot});
        else
            t->erased_count++;
        from = at = close + 1;
    }
    add_part(&c, (struct render_part){slice_from(text, from), RENDER_LITERAL});
}

size_t render_values(const struct render_keys *k, const struct recipient *r, struct arena *a,
                     struct slice *values)
{
    size_t known = 0;
    struct slice name = slice_trim(r->name);
    size_t first = 0, last = name.len;

    memset(values, 0, render_slot_count(k) * sizeof *values);
    while (first < name.len && name.ptr[first] != ' ')
        first++;
    while (last > 0 && name.ptr[last - 1] != ' ')
        last--;
    values[RENDER_RECIPIENT] =
        name.len == 0 ? r->address
                      : arena_printf(a, "%.*s <%.*s>", SLICE_ARGS(name), SLICE_ARGS(r->address));
    values[RENDER_EMAIL] = r->address;
    values[RENDER_NAME] = name;
    values[RENDER_FNAME] = slice_head(name, first);
    values[RENDER_LNAME] = slice_from(name, last);
    for (size_t i = 0; i < r->var_count; i++) {
        size_t at = render_keys_find(k, r->vars[i].name);
        if (at != SIZE_MAX) {
            values[RENDER_KEYS + at] = r->vars[i].value;
            known++;
        }
    }
    return known < k->count ? k->count - known : 0;
}

size_t render_length(const struct render_template *t, const struct slice *values)
{
    size_t bytes = t->literal_bytes;

    for (size_t i = 0; t->varies && i < t->count; i++)
        if (t->parts[i].slot != RENDER_LITERAL)
            bytes += values[t->parts[i].slot].len;
    return bytes;
}

void render_run(const struct render_template *t, const struct slice *values, struct buf *to)
{
    buf_reserve(to, render_length(t, values));
    for (size_t i = 0; i < t->count; i++)
        buf_add_slice(to, t->parts[i].slot == RENDER_LITERAL ? t->parts[i].literal
                                                             : values[t->parts[i].slot]);
}
