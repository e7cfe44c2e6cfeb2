/*
 * aws/endpoint.h - where a service of AWS's is, as a URL's parts.
 *
 * MEMORY  endpoint_parse()/endpoint_fini(); the texts are owned and never NULL in a parsed one.
 * SOURCE  spec/aws.md §2.
 */
#ifndef AWS_ENDPOINT_H
#define AWS_ENDPOINT_H

#include "base/buf.h"
#include "base/err.h"

struct endpoint_parts {
    char *origin; /* "https://email.eu-west-1.amazonaws.com", no slash behind */
    char *host;   /* the Host field: with the port unless it is the scheme's own */
    char *name;   /* the host alone, IPv6 in its brackets */
    char *prefix; /* path in front of every path, "" as a rule, without a slash at its end */
    bool is_https;
    bool is_loopback; /* "localhost", 127.0.0.0/8, ::1: no proxy there */
};

/* -1: neither http nor https, or with a user or a query. */
int endpoint_parse(struct endpoint_parts *e, const char *url, struct err *err);
void endpoint_fini(struct endpoint_parts *e);

/* Appends the URL of a service (its host label: "email", "sqs", …) in a region. */
void endpoint_put_regional(struct buf *to, const char *label, const char *region);

/* IAM is one for all regions of a partition: the region its calls are signed for (static), and its
 * URL there. */
const char *endpoint_iam_region(struct slice region);
void endpoint_put_iam(struct buf *to, const char *iam_region);

#endif
