/*
 * Checks Signature Version 4 as AWS would. Written on its own, from the specification: what signs
 * in aws/sign.c must not be what checks it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/digest.h"
#include "sandbox/cloud.h"

enum { SKEW_S = 300, PARTS_MAX = 100 };

static struct slice header(const struct cloud_request *r, const char *name)
{
    return slice_str(evhttp_find_header(evhttp_request_get_input_headers(r->http), name));
}

/* "Credential=…" within the Authorization header. */
static struct slice part_of(struct slice authorization, const char *name)
{
    size_t at = slice_find(authorization, slice_str(name));
    struct slice value, rest;

    if (at == SIZE_MAX)
        return (struct slice){0};
    (void)slice_cut(slice_from(authorization, at + strlen(name)), ',', &value, &rest);
    return slice_trim(value);
}

static int by_text(const void *a, const void *b)
{
    const struct slice *x = a, *y = b;

    return slice_cmp(*x, *y);
}

/* Pairs "name=value", each side decoded and encoded again, sorted. */
static void put_query(struct buf *to, struct slice query, struct arena *a)
{
    struct slice pairs[PARTS_MAX] = {{0}};
    size_t count = 0;

    while (query.len > 0 && count < PARTS_MAX) {
        struct slice pair, name, value;
        struct buf plain = {0}, text = {0};
        (void)slice_cut(query, '&', &pair, &query);
        (void)slice_cut(pair, '=', &name, &value);
        (void)text_percent_decode(&plain, name, false);
        text_percent_encode(&text, buf_slice(&plain), "");
        buf_add_byte(&text, '=');
        buf_reset(&plain);
        (void)text_percent_decode(&plain, value, false);
        text_percent_encode(&text, buf_slice(&plain), "");
        pairs[count++] = arena_dup(a, buf_slice(&text));
        buf_fini(&plain);
        buf_fini(&text);
    }
    qsort(pairs, count, sizeof pairs[0], by_text);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            buf_add_byte(to, '&');
        buf_add_slice(to, pairs[i]);
    }
}

/* Trimmed, inner runs of blanks made one. */
static void put_value(struct buf *to, struct slice value)
{
    value = slice_trim(value);
    for (size_t i = 0; i < value.len; i++)
        if (value.ptr[i] != ' ' || value.ptr[i - 1] != ' ')
            buf_add_byte(to, value.ptr[i]);
}

static void put_canonical(struct buf *to, const struct cloud_request *r,
                          struct slice signed_headers, struct arena *a)
{
    struct slice rest = signed_headers, name;
    uint8_t hash[SHA256_BYTES];

    buf_add_str(to, r->method);
    buf_add_byte(to, '\n');
    text_percent_encode(to, r->path, "/");
    buf_add_byte(to, '\n');
    put_query(to, r->query, a);
    buf_add_byte(to, '\n');
    while (rest.len > 0) {
        (void)slice_cut(rest, ';', &name, &rest);
        buf_add_slice(to, name);
        buf_add_byte(to, ':');
        put_value(to, header(r, arena_cstr(a, name)));
        buf_add_byte(to, '\n');
    }
    buf_add_byte(to, '\n');
    buf_add_slice(to, signed_headers);
    buf_add_byte(to, '\n');
    digest_sha256(r->body, hash);
    text_hex(to, slice_of(hash, sizeof hash));
}

static bool read_when(struct slice date, time_t *when)
{
    struct tm tm = {0};
    char text[17];

    if (date.len != 16)
        return false;
    memcpy(text, date.ptr, 16);
    text[16] = '\0';
    if (sscanf(text, "%4d%2d%2dT%2d%2d%2dZ", &tm.tm_year, &tm.tm_mon, &tm.tm_mday, &tm.tm_hour,
               &tm.tm_min, &tm.tm_sec) != 6)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    *when = timegm(&tm);
    return true;
}

static bool refuse(int *status, const char **code, char message[256], int s, const char *c,
                   const char *words)
{
    *status = s;
    *code = c;
    (void)snprintf(message, 256, "%s", words);
    return false;
}

bool cloud_signature_is_good(struct cloud_request *r, int *status, const char **code,
                             char message[256])
{
    const struct cloud *c = r->cloud;
    struct slice authorization = header(r, "Authorization"), date = header(r, "X-Amz-Date");
    struct slice key, day, region, service, rest;
    time_t when, now = (time_t)(clock_wall_ms() / 1000) + (time_t)c->options.clock_offset_s;
    const char *secret_key;

    if (!slice_starts(authorization, SLICE("AWS4-HMAC-SHA256 ")))
        return refuse(status, code, message, 403, "MissingAuthenticationTokenException",
                      "Missing Authentication Token");
    struct slice scope = part_of(authorization, "Credential=");
    struct slice signed_headers = part_of(authorization, "SignedHeaders=");
    struct slice signature = part_of(authorization, "Signature=");
    if (!slice_cut(scope, '/', &key, &rest) || !slice_cut(rest, '/', &day, &rest) ||
        !slice_cut(rest, '/', &region, &rest) || !slice_cut(rest, '/', &service, &rest) ||
        !slice_eq(rest, SLICE("aws4_request")) || signed_headers.len == 0 || signature.len != 64 ||
        !read_when(date, &when) || !slice_starts(date, day))
        return refuse(status, code, message, 400, "IncompleteSignature",
                      "Authorization header requires a Credential, SignedHeaders, Signature and an "
                      "X-Amz-Date of the same day.");
    if (!cloud_iam_key(c, key, &secret_key, &r->caller))
        return refuse(status, code, message, 403, "UnrecognizedClientException",
                      "The security token included in the request is invalid.");
    if (!slice_eq(region, slice_str(c->region)) && !slice_eq(service, SLICE("iam"))) {
        *status = 403;
        *code = "SignatureDoesNotMatch";
        (void)snprintf(message, 256, "Credential should be scoped to a valid region, not '%.*s'.",
                       SLICE_ARGS(region));
        return false;
    }
    if (llabs((long long)(now - when)) > SKEW_S) {
        *status = 403;
        *code = "InvalidSignatureException";
        (void)snprintf(message, 256,
                       "Signature %s: %.*s is %s than the server's clock allows (5 min.)",
                       when < now ? "expired" : "not yet current", SLICE_ARGS(date),
                       when < now ? "earlier" : "later");
        return false;
    }
    if (!c->options.verify_body)
        return true; /* benchmarks only: the hash of the body is the costly part */

    struct arena a = {0};
    struct buf text = {0}, plain = {0}, secret = {0};
    uint8_t hash[SHA256_BYTES], k[SHA256_BYTES];

    put_canonical(&plain, r, signed_headers, &a);
    digest_sha256(buf_slice(&plain), hash);
    buf_printf(&text, "AWS4-HMAC-SHA256\n%.*s\n%.*s/%.*s/%.*s/aws4_request\n", SLICE_ARGS(date),
               SLICE_ARGS(day), SLICE_ARGS(region), SLICE_ARGS(service));
    text_hex(&text, slice_of(hash, sizeof hash));
    buf_printf(&secret, "AWS4%s", secret_key);
    digest_hmac_sha256(buf_slice(&secret), day, k);
    digest_hmac_sha256(slice_of(k, sizeof k), region, k);
    digest_hmac_sha256(slice_of(k, sizeof k), service, k);
    digest_hmac_sha256(slice_of(k, sizeof k), SLICE("aws4_request"), k);
    digest_hmac_sha256(slice_of(k, sizeof k), buf_slice(&text), hash);
    buf_reset(&text);
    text_hex(&text, slice_of(hash, sizeof hash));
    bool good = digest_equal(buf_slice(&text), signature);
    buf_fini(&text);
    buf_fini(&plain);
    buf_fini(&secret);
    arena_fini(&a);
    if (good)
        return true;
    return refuse(
        status, code, message, 403, "InvalidSignatureException",
        "The request signature we calculated does not match the signature you provided. Check "
        "your AWS Secret Access Key and signing method.");
}
