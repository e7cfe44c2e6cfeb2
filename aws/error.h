/*
 * aws/error.h - where AWS's services put the code and the text of an error, read.
 *
 * SHAPE   REST-JSON (SES), AWS JSON (SQS) and Query XML (SNS, STS, IAM) are told apart by what is
 *         there, not by the service: load balancers answer for all of them, in HTML or with
 *         nothing.
 * MEMORY  Everything found is copied into the caller's arena.
 * ERRORS  None: what is not there, or not understood, is empty, and the status has to do.
 * SOURCE  spec/aws.md §4.
 */
#ifndef AWS_ERROR_H
#define AWS_ERROR_H

#include "base/arena.h"
#include "base/slice.h"

/* Header fields of the answer; empty = not there. */
struct aws_error_fields {
    struct slice error_type;  /* x-amzn-ErrorType */
    struct slice query_error; /* x-amzn-query-error */
    struct slice request_id;  /* x-amzn-RequestId, else x-amz-request-id */
};

struct aws_error {
    struct slice code; /* without namespace and without what follows a ':' */
    struct slice text;
    struct slice request_id;
};

enum { AWS_ERROR_TEXT_MAX = 1024 }; /* longer texts are cut, at a whole character */

void aws_error_read(struct arena *arena, const struct aws_error_fields *fields, struct slice body,
                    struct aws_error *error);

/* Codes that a wrong clock can be behind, and codes that newer credentials may cure. */
bool aws_error_is_clock(struct slice code);
bool aws_error_is_credentials(struct slice code);
/* Too many calls: to be made again, later. */
bool aws_error_is_throttling(struct slice code);
/* The credentials are good and may not do this. */
bool aws_error_is_denied(struct slice code);

#endif
