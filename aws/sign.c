#include "aws/sign.h"

#include <assert.h>
#include <stdlib.h>
#include <time.h>

#include "base/mem.h"

#define ALGORITHM "AWS4-HMAC-SHA256"

bool sign_is_region(struct slice region)
{
    bool ok = region.len >= 5 && region.len <= 40;

    for (size_t i = 0; i < region.len; i++) {
        uint8_t b = region.ptr[i];
        ok = ok && ((b >= 'a' && b <= 'z') || (b >= '0' && b <= '9') || b == '-');
    }
    return ok;
}

void sign_date(uint64_t wall_s, char date[SIGN_DATE_CHARS + 1])
{
    time_t at = (time_t)wall_s;
    struct tm utc;

    struct tm *ok = gmtime_r(&at, &utc);
    assert(ok != NULL);
    size_t len = strftime(date, SIGN_DATE_CHARS + 1, "%Y%m%dT%H%M%SZ", &utc);
    assert(len == SIGN_DATE_CHARS);
}

static struct slice day_of(const struct sign_scope *scope)
{
    return slice_of(scope->date, 8);
}

void sign_key(struct slice secret, const struct sign_scope *scope, uint8_t key[SHA256_BYTES])
{
    struct buf first = {0};
    struct slice steps[] = {scope->region, scope->service, SLICE("aws4_request")};

    buf_add_str(&first, "AWS4");
    buf_add_slice(&first, secret);
    digest_hmac_sha256(buf_slice(&first), day_of(scope), key);
    explicit_bzero(first.ptr, first.len);
    buf_fini(&first);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        uint8_t next[SHA256_BYTES];
        digest_hmac_sha256(slice_of(key, SHA256_BYTES), steps[i], next);
        memcpy(key, next, SHA256_BYTES);
        explicit_bzero(next, sizeof next);
    }
}

static void add_scope(struct buf *to, const struct sign_scope *scope)
{
    buf_add_slice(to, day_of(scope));
    buf_add_byte(to, '/');
    buf_add_slice(to, scope->region);
    buf_add_byte(to, '/');
    buf_add_slice(to, scope->service);
    buf_add_str(to, "/aws4_request");
}

/* ---- the path ---- */

/* Drops empty and "." segments, resolves "..", and keeps a slash at the end. */
static void add_resolved(struct buf *to, struct slice path)
{
    size_t start = to->len;
    bool slash_at_end = true;

    while (path.len > 0) {
        struct slice segment, rest;
        bool more = slice_cut(path, '/', &segment, &rest);
        path = rest;
        slash_at_end = true;
        if (segment.len == 0 || slice_eq(segment, SLICE(".")))
            continue;
        if (slice_eq(segment, SLICE(".."))) {
            while (to->len > start && to->ptr[to->len - 1] != '/')
                to->len--;
            if (to->len > start)
                to->len--;
            continue;
        }
        buf_add_byte(to, '/');
        buf_add_slice(to, segment);
        slash_at_end = more;
    }
    if (slash_at_end || to->len == start)
        buf_add_byte(to, '/');
}

static void add_path(struct buf *to, const struct sign_request *r)
{
    if (r->keep_path) {
        text_percent_encode(to, r->path, "/");
        return;
    }
    struct buf resolved = {0};
    add_resolved(&resolved, r->path);
    text_percent_encode(to, buf_slice(&resolved), "/");
    buf_fini(&resolved);
}

/* ---- the query ---- */

struct parameter {
    struct buf name, value;
};

static int by_name_and_value(const void *left, const void *right)
{
    const struct parameter *a = left, *b = right;
    int order = slice_cmp(buf_slice(&a->name), buf_slice(&b->name));

    return order != 0 ? order : slice_cmp(buf_slice(&a->value), buf_slice(&b->value));
}

/* Encodes what may be encoded already, as canonical text: decoded first, where that is possible. */
static void add_encoded(struct buf *to, struct slice text)
{
    struct buf plain = {0};

    if (text_percent_decode(&plain, text, false))
        text = buf_slice(&plain);
    text_percent_encode(to, text, "");
    buf_fini(&plain);
}

static void add_query(struct buf *to, struct slice query)
{
    size_t count = 0, room = 1;

    if (query.len == 0)
        return;
    for (size_t i = 0; i < query.len; i++)
        room += query.ptr[i] == '&';
    struct parameter *parameters = mem_zero(room, sizeof *parameters);
    while (query.len > 0) {
        struct slice one, name, value;
        (void)slice_cut(query, '&', &one, &query);
        if (one.len == 0)
            continue;
        (void)slice_cut(one, '=', &name, &value);
        add_encoded(&parameters[count].name, name);
        add_encoded(&parameters[count].value, value);
        count++;
    }
    qsort(parameters, count, sizeof *parameters, by_name_and_value);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_add_byte(to, '&');
        buf_add_slice(to, buf_slice(&parameters[i].name));
        buf_add_byte(to, '=');
        buf_add_slice(to, buf_slice(&parameters[i].value));
        buf_fini(&parameters[i].name);
        buf_fini(&parameters[i].value);
    }
    free(parameters);
}

/* ---- the header fields ---- */

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

static int cmp_names(struct slice a, struct slice b)
{
    for (size_t i = 0; i < a.len && i < b.len; i++) {
        uint8_t x = lower(a.ptr[i]), y = lower(b.ptr[i]);
        if (x != y)
            return x < y ? -1 : 1;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

struct fields {
    const struct sign_header *at[SIGN_HEADERS_MAX];
    size_t count;
};

/* By name alone, and fields of one name in the order given: they are joined by commas. */
static struct fields fields_of(const struct sign_request *r)
{
    struct fields f = {.count = r->header_count};

    assert(r->header_count <= SIGN_HEADERS_MAX);
    for (size_t i = 0; i < r->header_count; i++) {
        size_t k = i;
        for (; k > 0 && cmp_names(f.at[k - 1]->name, r->headers[i].name) > 0; k--)
            f.at[k] = f.at[k - 1];
        f.at[k] = &r->headers[i];
    }
    return f;
}

static bool repeats(const struct fields *f, size_t i)
{
    /* cppcheck-suppress arrayIndexOutOfBoundsCond ; i is at most the count of headers */
    return i > 0 && cmp_names(f->at[i - 1]->name, f->at[i]->name) == 0;
}

static void add_lower(struct buf *to, struct slice s)
{
    uint8_t *at = buf_reserve(to, s.len);

    for (size_t i = 0; i < s.len; i++)
        at[i] = lower(s.ptr[i]);
    to->len += s.len;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void add_trimmed(struct buf *to, struct slice value)
{
    value = slice_trim(value);
    for (size_t i = 0; i < value.len; i++) {
        if (!is_blank(value.ptr[i]))
            buf_add_byte(to, value.ptr[i]);
        else if (!is_blank(value.ptr[i - 1])) /* the first byte of a trimmed value is no blank */
            buf_add_byte(to, ' ');
    }
}

static void add_fields(struct buf *to, const struct fields *f)
{
    for (size_t i = 0; i < f->count; i++) {
        if (repeats(f, i)) {
            to->ptr[to->len - 1] = ',';
        } else {
            add_lower(to, f->at[i]->name);
            buf_add_byte(to, ':');
        }
        add_trimmed(to, f->at[i]->value);
        buf_add_byte(to, '\n');
    }
}

static void add_field_names(struct buf *to, const struct fields *f)
{
    for (size_t i = 0; i < f->count; i++) {
        if (repeats(f, i))
            continue;
        if (i > 0)
            buf_add_byte(to, ';');
        add_lower(to, f->at[i]->name);
    }
}

/* ---- all of it ---- */

static void add_sha256(struct buf *to, struct slice s)
{
    uint8_t sum[SHA256_BYTES];

    digest_sha256(s, sum);
    text_hex(to, slice_of(sum, sizeof sum));
}

void sign_canonical_request(struct buf *to, const struct sign_request *r)
{
    struct fields fields = fields_of(r);

    buf_add_slice(to, r->method);
    buf_add_byte(to, '\n');
    add_path(to, r);
    buf_add_byte(to, '\n');
    add_query(to, r->query);
    buf_add_byte(to, '\n');
    add_fields(to, &fields);
    buf_add_byte(to, '\n');
    add_field_names(to, &fields);
    buf_add_byte(to, '\n');
    if (r->body_sha256 != NULL)
        text_hex(to, slice_of(r->body_sha256, SHA256_BYTES));
    else
        add_sha256(to, r->body);
}

void sign_string_to_sign(struct buf *to, const struct sign_scope *scope,
                         struct slice canonical_request)
{
    buf_add_str(to, ALGORITHM "\n");
    buf_add(to, scope->date, SIGN_DATE_CHARS);
    buf_add_byte(to, '\n');
    add_scope(to, scope);
    buf_add_byte(to, '\n');
    add_sha256(to, canonical_request);
}

void sign_authorization(struct buf *to, struct buf *scratch, const struct sign_request *r,
                        const struct sign_scope *scope, struct slice access_key_id,
                        const uint8_t key[SHA256_BYTES])
{
    struct fields fields = fields_of(r);
    uint8_t signature[SHA256_BYTES];

    buf_reset(scratch);
    sign_canonical_request(scratch, r);
    size_t canonical_len = scratch->len;
    /* The string to sign goes behind it; room first, so that the slice stays where it is. */
    (void)buf_reserve(scratch, 256 + scope->region.len + scope->service.len);
    sign_string_to_sign(scratch, scope, slice_of(scratch->ptr, canonical_len));
    digest_hmac_sha256(slice_of(key, SHA256_BYTES), slice_from(buf_slice(scratch), canonical_len),
                       signature);

    buf_add_str(to, ALGORITHM " Credential=");
    buf_add_slice(to, access_key_id);
    buf_add_byte(to, '/');
    add_scope(to, scope);
    buf_add_str(to, ", SignedHeaders=");
    add_field_names(to, &fields);
    buf_add_str(to, ", Signature=");
    text_hex(to, slice_of(signature, sizeof signature));
}
