/*
 * aws/sign.h - AWS Signature Version 4, over header fields.
 *
 * SHAPE   Pure functions of their arguments; bytes go to the caller's buf.
 * UNITS   Seconds of wall time, as AWS's clock has it.
 * MEMORY  Borrows everything it is given.
 * ERRORS  None. Labels "." and ".." in a path are resolved as AWS resolves them; who builds a path
 *         from outside text refuses them beforehand.
 * SOURCE  spec/aws.md §1; AWS's published test vectors (tests/unit/aws/test_sign.c).
 */
#ifndef AWS_SIGN_H
#define AWS_SIGN_H

#include "base/buf.h"
#include "base/digest.h"

enum {
    SIGN_DATE_CHARS = 16,  /* 20260301T120311Z; the day is its first 8 */
    SIGN_HEADERS_MAX = 16, /* one request has at most so many signed fields */
};

struct sign_header {
    struct slice name; /* any case */
    struct slice value;
};

struct sign_request {
    struct slice method;
    struct slice path;  /* as sent, percent-encoded once, without the query */
    struct slice query; /* as sent, without its '?'; any order */
    const struct sign_header
        *headers; /* host and x-amz-date among them; any order, repeats allowed */
    size_t header_count;
    struct slice body;
    const uint8_t *body_sha256; /* where the caller has it already; NULL = it is made of the body */
    bool keep_path;             /* do not resolve "//", "." and ".." */
};

/* What a signing key depends on, besides the secret. */
struct sign_scope {
    char date[SIGN_DATE_CHARS + 1];
    struct slice region, service;
};

/* "eu-west-1", "cn-north-1": what may stand in a scope and in AWS's host names. */
bool sign_is_region(struct slice region);

void sign_date(uint64_t wall_s, char date[SIGN_DATE_CHARS + 1]);

/* The key of the scope's day: keep it as long as day, region, service and secret stay the same. */
void sign_key(struct slice secret, const struct sign_scope *scope, uint8_t key[SHA256_BYTES]);

/* The steps, for tests and for looking at a refused signature. */
void sign_canonical_request(struct buf *to, const struct sign_request *r);
void sign_string_to_sign(struct buf *to, const struct sign_scope *scope,
                         struct slice canonical_request);

/* Appends the value of the Authorization field. scratch is emptied and used. */
void sign_authorization(struct buf *to, struct buf *scratch, const struct sign_request *r,
                        const struct sign_scope *scope, struct slice access_key_id,
                        const uint8_t key[SHA256_BYTES]);

#endif
