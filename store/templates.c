#include "store/templates.h"

#include <stdio.h>

#include "base/digest.h"
#include "base/pack.h"
#include "store/internal.h"
#include "store/key.h"

enum { ROW_VERSION = 1, TEMPLATE_MEMBERS = 6, VERSION_MEMBERS = 7, ID_TEXT_BYTES = 36 };

/* -------- rows -------- */

static struct key domain_key(uint32_t domain)
{
    struct key k = {.len = 0};

    key_u32(&k, domain);
    return k;
}

static struct key template_key(uint32_t domain, struct slice name)
{
    struct key k = domain_key(domain);

    key_bytes(&k, name);
    return k;
}

static struct key version_key(uint32_t domain, struct slice name, struct slice tag)
{
    struct key k = template_key(domain, name);

    key_u8(&k, 0);
    key_bytes(&k, tag);
    return k;
}

static bool template_read(struct slice key, struct slice value, struct template_row *row)
{
    struct unpack u = unpack_over(value);

    if (key.len <= 4 || unpack_array(&u) != TEMPLATE_MEMBERS || unpack_u64(&u) != ROW_VERSION)
        return false;
    *row = (struct template_row){.name = slice_from(key, 4)};
    row->description = unpack_str(&u);
    row->created_by = unpack_str(&u);
    row->id = unpack_str(&u);
    row->active = unpack_str(&u);
    row->created_us = unpack_u64(&u);
    return unpack_done(&u);
}

static int template_put(struct store_txn *t, uint32_t domain, const struct template_row *row,
                        struct err *err)
{
    struct key k = template_key(domain, row->name);
    struct buf packed = {0};

    pack_array(&packed, TEMPLATE_MEMBERS);
    pack_u64(&packed, ROW_VERSION);
    pack_str(&packed, row->description);
    pack_str(&packed, row->created_by);
    pack_str(&packed, row->id);
    pack_str(&packed, row->active);
    pack_u64(&packed, row->created_us);
    int rc = store_put(t, DB_TEMPLATES, key_slice(&k), buf_slice(&packed), err);
    buf_fini(&packed);
    return rc;
}

static bool version_read(struct slice key, struct slice value, struct template_version *v)
{
    struct unpack u = unpack_over(value);
    size_t zero = slice_rfind_byte(key, 0);

    if (zero == SIZE_MAX || zero <= 4 || unpack_array(&u) != VERSION_MEMBERS + 1 ||
        unpack_u64(&u) != ROW_VERSION)
        return false;
    *v = (struct template_version){.tag = slice_from(key, zero + 1)};
    v->content = unpack_str(&u);
    v->headers = unpack_str(&u);
    v->comment = unpack_str(&u);
    v->mjml = unpack_str(&u);
    v->id = unpack_str(&u);
    v->created_us = unpack_u64(&u);
    (void)unpack_u64(&u); /* room for flags */
    return unpack_done(&u);
}

static int version_put(struct store_txn *t, uint32_t domain, struct slice name,
                       const struct template_version *v, struct err *err)
{
    struct key k = version_key(domain, name, v->tag);
    struct buf packed = {0};

    pack_array(&packed, VERSION_MEMBERS + 1);
    pack_u64(&packed, ROW_VERSION);
    pack_str(&packed, v->content);
    pack_str(&packed, v->headers);
    pack_str(&packed, v->comment);
    pack_str(&packed, v->mjml);
    pack_str(&packed, v->id);
    pack_u64(&packed, v->created_us);
    pack_u64(&packed, 0);
    int rc = store_put(t, DB_TEMPLATE_VERSIONS, key_slice(&k), buf_slice(&packed), err);
    buf_fini(&packed);
    return rc;
}

/* -------- look-ups -------- */

struct slice template_name_fold(struct slice name, struct arena *a)
{
    uint8_t *text = arena_alloc(a, name.len + 1);

    for (size_t i = 0; i < name.len; i++)
        text[i] = name.ptr[i] >= 'A' && name.ptr[i] <= 'Z' ? name.ptr[i] | 0x20 : name.ptr[i];
    return slice_of(text, name.len);
}

bool template_name_is_fine(struct slice name)
{
    if (name.len == 0 || name.len > TEMPLATE_NAME_BYTES || !slice_is_utf8(name))
        return false;
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] < ' ' || name.ptr[i] == 0x7f || (name.ptr[i] >= 'A' && name.ptr[i] <= 'Z'))
            return false;
    return true;
}

static bool get(struct store_txn *t, uint32_t domain, struct slice name, struct template_row *row)
{
    struct key k = template_key(domain, name);
    struct slice value;

    if (domain == 0 || !template_name_is_fine(name) ||
        !store_get(t, DB_TEMPLATES, key_slice(&k), &value) ||
        !template_read(key_slice(&k), value, row))
        return false;
    row->name = name; /* the key is ours */
    return true;
}

static bool version_get(struct store_txn *t, uint32_t domain, struct slice name, struct slice tag,
                        struct template_version *v)
{
    struct slice value;

    if (domain == 0 || !template_name_is_fine(name) || !template_name_is_fine(tag))
        return false;
    struct key k = version_key(domain, name, tag);
    if (!store_get(t, DB_TEMPLATE_VERSIONS, key_slice(&k), &value) ||
        !version_read(key_slice(&k), value, v))
        return false;
    v->tag = tag;
    return true;
}

bool template_get(struct store_txn *t, struct slice domain, struct slice name,
                  struct template_row *row)
{
    return get(t, store_domain_find(t, domain), name, row);
}

bool template_version_get(struct store_txn *t, struct slice domain, struct slice name,
                          struct slice tag, struct template_version *version)
{
    return version_get(t, store_domain_find(t, domain), name, tag, version);
}

/* Calls visit for the rows whose key begins with `in`, from behind `past` on (a whole key, or `in`
 * itself: from the start), backwards: from before it (or from the end). */
typedef bool row_visitor(void *arg, struct slice key, struct slice value);

static void walk(struct store_txn *t, enum store_db db, const struct key *in,
                 const struct key *past, bool backwards, row_visitor *visit, void *arg)
{
    struct key from = *past;
    MDB_cursor *cursor;

    if (mdb_cursor_open(t->mdb, t->store->dbi[db], &cursor) != MDB_SUCCESS)
        return;
    if (backwards && past->len == in->len) /* behind all of them */
        while (from.len < sizeof from.at)
            key_u8(&from, 0xff);
    MDB_val k = store_val(key_slice(&from)), v;
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    if (backwards)
        rc = mdb_cursor_get(cursor, &k, &v, rc == MDB_SUCCESS ? MDB_PREV : MDB_LAST);
    else if (rc == MDB_SUCCESS && slice_eq(store_slice(k), key_slice(&from)))
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    while (rc == MDB_SUCCESS && slice_starts(store_slice(k), key_slice(in)) &&
           visit(arg, store_slice(k), store_slice(v)))
        rc = mdb_cursor_get(cursor, &k, &v, backwards ? MDB_PREV : MDB_NEXT);
    mdb_cursor_close(cursor);
}

struct template_walk {
    template_visitor *visit;
    void *arg;
};

static bool visit_template(void *arg, struct slice key, struct slice value)
{
    const struct template_walk *w = arg;
    struct template_row row;

    return !template_read(key, value, &row) || w->visit(w->arg, &row);
}

void template_each(struct store_txn *t, struct slice domain, struct slice past, bool backwards,
                   template_visitor *visit, void *arg)
{
    uint32_t number = store_domain_find(t, domain);
    struct key in = domain_key(number);
    struct key from = template_key(number, slice_head(past, TEMPLATE_NAME_BYTES));
    struct template_walk w = {visit, arg};

    if (number != 0)
        walk(t, DB_TEMPLATES, &in, &from, backwards, visit_template, &w);
}

struct version_walk {
    template_version_visitor *visit;
    void *arg;
};

static bool visit_version(void *arg, struct slice key, struct slice value)
{
    const struct version_walk *w = arg;
    struct template_version v;

    return !version_read(key, value, &v) || w->visit(w->arg, &v);
}

void template_version_each(struct store_txn *t, struct slice domain, struct slice name,
                           struct slice past, bool backwards, template_version_visitor *visit,
                           void *arg)
{
    uint32_t number = store_domain_find(t, domain);
    struct version_walk w = {visit, arg};

    if (number == 0 || !template_name_is_fine(name))
        return;
    struct key in = version_key(number, name, slice_none());
    struct key from = version_key(number, name, slice_head(past, TEMPLATE_NAME_BYTES));
    walk(t, DB_TEMPLATE_VERSIONS, &in, &from, backwards, visit_version, &w);
}

/* -------- changes -------- */

struct change {
    struct store_txn *t;
    const struct record_template *r;
    uint32_t domain;
    uint64_t now_us;
    enum answer_verdict *verdict;
    struct buf *words;
    struct err *err;
};

static int say(struct change *c, enum answer_verdict verdict, const char *words)
{
    *c->verdict = verdict;
    buf_add_str(c->words, words);
    return 0;
}

static bool has(const struct change *c, enum template_part part)
{
    return (c->r->given & (uint32_t)part) != 0;
}

static void make_id(char text[ID_TEXT_BYTES + 1])
{
    uint8_t b[16];

    digest_random(b, sizeof b);
    (void)snprintf(text, ID_TEXT_BYTES + 1,
                   "%02x%02x%02x%02x-%02x%02x-4%x%02x-%x%x%02x-%02x%02x%02x%02x%02x%02x", b[0],
                   b[1], b[2], b[3], b[4], b[5], b[6] & 15u, b[7], 8u | (b[8] & 3u), b[8] >> 4,
                   b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

static bool count_row(void *arg, struct slice key, struct slice value)
{
    (void)key, (void)value;
    return --*(size_t *)arg > 0;
}

/* Are there as many rows below this key? */
static bool are_as_many(struct change *c, enum store_db db, const struct key *in, size_t most)
{
    size_t left = most;

    walk(c->t, db, in, in, false, count_row, &left);
    return left == 0;
}

static bool has_versions(struct change *c)
{
    struct key in = version_key(c->domain, c->r->name, slice_none());

    return are_as_many(c, DB_TEMPLATE_VERSIONS, &in, 1);
}

static int add_version(struct change *c)
{
    const struct record_template *r = c->r;
    char id[ID_TEXT_BYTES + 1];

    make_id(id);
    const struct template_version v = {.tag = r->tag,
                                       .content = r->content,
                                       .headers = r->headers,
                                       .comment = r->comment,
                                       .mjml = r->mjml,
                                       .id = slice_str(id),
                                       .created_us = c->now_us};
    return version_put(c->t, c->domain, r->name, &v, c->err);
}

static int create(struct change *c)
{
    const struct record_template *r = c->r;
    struct key in = domain_key(c->domain);
    struct template_row row;
    char id[ID_TEXT_BYTES + 1];

    if (get(c->t, c->domain, r->name, &row))
        return say(c, ANSWER_REFUSED, "a template of that name already exists");
    if (are_as_many(c, DB_TEMPLATES, &in, TEMPLATES_MAX))
        return say(c, ANSWER_LIMIT, "the domain has as many templates as it may have");
    make_id(id);
    row = (struct template_row){.name = r->name,
                                .description = r->description,
                                .created_by = r->created_by,
                                .id = slice_str(id),
                                .active = has(c, TEMPLATE_CONTENT) ? r->tag : slice_none(),
                                .created_us = c->now_us};
    if (template_put(c->t, c->domain, &row, c->err) != 0)
        return -1;
    return has(c, TEMPLATE_CONTENT) ? add_version(c) : 0;
}

static int update(struct change *c, struct template_row *row)
{
    if (!has(c, TEMPLATE_DESCRIPTION))
        return 0;
    row->description = c->r->description;
    return template_put(c->t, c->domain, row, c->err);
}

static bool copy_key(void *arg, struct slice key, struct slice value)
{
    struct key *k = arg;

    (void)value;
    k->len = 0;
    key_bytes(k, key);
    return false;
}

/* Everything below the key; a row at a time, for a delete moves the cursor's page. */
static int delete_below(struct change *c, enum store_db db, const struct key *in)
{
    struct key found = {.len = 1};

    while (found.len > 0) {
        found.len = 0;
        walk(c->t, db, in, in, false, copy_key, &found);
        if (found.len > 0 && store_del(c->t, db, key_slice(&found), c->err) != 0)
            return -1;
    }
    return 0;
}

static int delete_one(struct change *c)
{
    struct key k = template_key(c->domain, c->r->name);
    struct key versions = version_key(c->domain, c->r->name, slice_none());

    if (delete_below(c, DB_TEMPLATE_VERSIONS, &versions) != 0)
        return -1;
    return store_del(c->t, DB_TEMPLATES, key_slice(&k), c->err);
}

static int clear(struct change *c)
{
    struct key in = domain_key(c->domain);

    if (delete_below(c, DB_TEMPLATE_VERSIONS, &in) != 0)
        return -1;
    return delete_below(c, DB_TEMPLATES, &in);
}

static int activate(struct change *c, struct template_row *row, struct slice tag)
{
    row->active = tag;
    return template_put(c->t, c->domain, row, c->err);
}

static int version_create(struct change *c, struct template_row *row)
{
    struct key in = version_key(c->domain, c->r->name, slice_none());
    struct template_version there;
    bool is_first = !has_versions(c);

    if (version_get(c->t, c->domain, c->r->name, c->r->tag, &there))
        return say(c, ANSWER_REFUSED, "a version of that tag already exists");
    if (are_as_many(c, DB_TEMPLATE_VERSIONS, &in, TEMPLATE_VERSIONS_MAX))
        return say(c, ANSWER_LIMIT, "the template has as many versions as it may have");
    if ((is_first || has(c, TEMPLATE_ACTIVE)) && activate(c, row, c->r->tag) != 0)
        return -1;
    return add_version(c);
}

/* What of the row is written first must not be read from the map afterwards: the version goes
 * first, whose texts are the record's or are packed before they are put. */
static int version_update(struct change *c, struct template_version *v)
{
    const struct record_template *r = c->r;
    struct template_row row;

    if (has(c, TEMPLATE_CONTENT))
        v->content = r->content;
    if (has(c, TEMPLATE_COMMENT))
        v->comment = r->comment;
    if (has(c, TEMPLATE_HEADERS))
        v->headers = r->headers;
    if (has(c, TEMPLATE_MJML))
        v->mjml = r->mjml;
    if (version_put(c->t, c->domain, r->name, v, c->err) != 0)
        return -1;
    if (!has(c, TEMPLATE_ACTIVE) || !get(c->t, c->domain, r->name, &row))
        return 0;
    return activate(c, &row, r->tag);
}

static int version_delete(struct change *c, struct template_row *row)
{
    struct key k = version_key(c->domain, c->r->name, c->r->tag);

    if (slice_eq(row->active, c->r->tag) && activate(c, row, slice_none()) != 0)
        return -1;
    return store_del(c->t, DB_TEMPLATE_VERSIONS, key_slice(&k), c->err);
}

static int version_copy(struct change *c, struct template_version *v)
{
    struct key in = version_key(c->domain, c->r->name, slice_none());
    struct template_version there;
    char id[ID_TEXT_BYTES + 1];

    if (!version_get(c->t, c->domain, c->r->name, c->r->new_tag, &there) &&
        are_as_many(c, DB_TEMPLATE_VERSIONS, &in, TEMPLATE_VERSIONS_MAX))
        return say(c, ANSWER_LIMIT, "the template has as many versions as it may have");
    make_id(id);
    v->tag = c->r->new_tag;
    v->id = slice_str(id);
    v->created_us = c->now_us;
    if (has(c, TEMPLATE_COMMENT))
        v->comment = c->r->comment;
    return version_put(c->t, c->domain, c->r->name, v, c->err);
}

/* A record comes from a process that faces the internet. */
static bool is_believable(const struct record_template *r)
{
    bool is_of_version = r->change >= TEMPLATE_VERSION_CREATE || (r->given & TEMPLATE_CONTENT) != 0;

    return r->change >= TEMPLATE_CREATE && r->change <= TEMPLATE_VERSION_COPY &&
           (r->change == TEMPLATE_CLEAR || template_name_is_fine(r->name)) &&
           (!is_of_version || template_name_is_fine(r->tag)) &&
           (r->change != TEMPLATE_VERSION_COPY || template_name_is_fine(r->new_tag)) &&
           r->content.len <= TEMPLATE_CONTENT_BYTES && r->mjml.len <= TEMPLATE_CONTENT_BYTES &&
           r->description.len <= TEMPLATE_WORDS_BYTES && r->comment.len <= TEMPLATE_WORDS_BYTES &&
           r->created_by.len <= TEMPLATE_WORDS_BYTES && r->headers.len <= TEMPLATE_WORDS_BYTES;
}

int template_change(struct store_txn *t, const struct record_template *r, uint64_t now_us,
                    enum answer_verdict *verdict, struct buf *words, struct err *err)
{
    struct change c = {
        .t = t, .r = r, .now_us = now_us, .verdict = verdict, .words = words, .err = err};
    struct template_version v;
    struct template_row row;

    *verdict = ANSWER_OK;
    if (!is_believable(r))
        return say(&c, ANSWER_REFUSED, "a name, a tag or a text is too long or not what it may be");
    c.domain = store_domain_intern(t, r->domain, err);
    if (c.domain == 0)
        return -1;
    if (r->change == TEMPLATE_CREATE)
        return create(&c);
    if (r->change == TEMPLATE_CLEAR)
        return clear(&c);
    if (!get(t, c.domain, r->name, &row))
        return say(&c, ANSWER_NOT_FOUND, "template not found");
    if (r->change > TEMPLATE_VERSION_CREATE && !version_get(t, c.domain, r->name, r->tag, &v))
        return say(&c, ANSWER_NOT_FOUND, "version not found");
    switch (r->change) {
    case TEMPLATE_UPDATE:
        return update(&c, &row);
    case TEMPLATE_DELETE:
        return delete_one(&c);
    case TEMPLATE_VERSION_CREATE:
        return version_create(&c, &row);
    case TEMPLATE_VERSION_UPDATE:
        return version_update(&c, &v);
    case TEMPLATE_VERSION_DELETE:
        return version_delete(&c, &row);
    default:
        return version_copy(&c, &v);
    }
}

/* -------- check -------- */

struct checking {
    struct store_txn *t;
    void (*problem)(void *arg, const char *words);
    void *arg;
};

static bool check_template(void *arg, struct slice key, struct slice value)
{
    struct checking *c = arg;
    struct template_version v;
    struct template_row row;

    if (key.len <= 4 || !template_read(key, value, &row))
        c->problem(c->arg, "a stored template cannot be read");
    else if (row.active.len > 0 &&
             !version_get(c->t, (uint32_t)read_be(key.ptr, 4), row.name, row.active, &v))
        c->problem(c->arg, "a stored template's active version is not there");
    return true;
}

static bool check_version(void *arg, struct slice key, struct slice value)
{
    struct checking *c = arg;
    struct template_version v;
    struct template_row row;
    size_t zero = slice_rfind_byte(key, 0);

    if (!version_read(key, value, &v))
        c->problem(c->arg, "a stored template's version cannot be read");
    else if (!get(c->t, (uint32_t)read_be(key.ptr, 4), slice_head(slice_from(key, 4), zero - 4),
                  &row))
        c->problem(c->arg, "a stored version has no template");
    return true;
}

void template_check(struct store_txn *t, void (*problem)(void *arg, const char *words), void *arg)
{
    struct checking c = {t, problem, arg};
    const struct key all = {.len = 0}, start = {.len = 1}; /* LMDB looks for no empty key */

    walk(t, DB_TEMPLATES, &all, &start, false, check_template, &c);
    walk(t, DB_TEMPLATE_VERSIONS, &all, &start, false, check_version, &c);
}
