/*
 * sandbox/cloud_query.h - AWS's Query protocol, as SNS, STS and IAM speak it: a form comes, XML
 * goes.
 *
 * MEMORY  A call borrows its form and owns `out`, which cloud_query_fini() frees.
 * SOURCE  spec/aws.md §4, §8.
 */
#ifndef SANDBOX_CLOUD_QUERY_H
#define SANDBOX_CLOUD_QUERY_H

#include <event2/keyvalq_struct.h>

#include "sandbox/cloud.h"

enum cloud_query_service { CLOUD_QUERY_SNS, CLOUD_QUERY_IAM, CLOUD_QUERY_STS };

struct cloud_query {
    struct cloud_request *r;
    enum cloud_query_service service;
    struct evkeyvalq form;
    const char *action; /* "CreateTopic" */
    struct buf out;     /* what goes between <XResult> and </XResult> */
};

/* False: the body is no form, or its Version is of no service here; answered then. */
bool cloud_query_init(struct cloud_query *q, struct cloud_request *r);
void cloud_query_fini(struct cloud_query *q);

/* A member's value; "" when absent. */
const char *cloud_query_get(const struct cloud_query *q, const char *name);
/* "Attributes.entry", n, ".key": n counts from 1; "" behind the last. */
const char *cloud_query_nth(const struct cloud_query *q, const char *list, int n,
                            const char *member);

void cloud_query_put(struct cloud_query *q, const char *element, const char *text);
void cloud_query_put_entry(struct cloud_query *q, const char *key, const char *value);

/* The call's Tags.member.N.Key and .Value, put over those in the object; and an object's as <Tags>. */
void cloud_query_take_tags(const struct cloud_query *q, cJSON *tags);
void cloud_query_put_tags(struct cloud_query *q, const cJSON *tags);

void cloud_query_answer(struct cloud_query *q);
void cloud_query_error(struct evhttp_request *http, enum cloud_query_service service, int status,
                       const char *code, const char *message);
/* cloud_query_error() for this call's service. */
void cloud_query_refuse(struct cloud_query *q, int status, const char *code, const char *message);

#endif
