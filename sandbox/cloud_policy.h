/*
 * sandbox/cloud_policy.h - reads policies as AWS does: of queues, of topics, of users.
 *
 * SHAPE   A policy is its JSON, parsed. Understood: Effect, Principal ("*", AWS, Service), Action,
 *         NotAction, Resource, NotResource, Condition with String…, Arn… and Bool operators
 *         (…IfExists too). A statement with anything else never allows, and always denies.
 * MEMORY  Everything is borrowed for the call.
 * SOURCE  spec/aws.md §10.
 */
#ifndef SANDBOX_CLOUD_POLICY_H
#define SANDBOX_CLOUD_POLICY_H

#include "base/json.h"

enum { CLOUD_FACTS_MAX = 6 };

/* One question: may this principal do this to that? */
struct cloud_ask {
    const char *service;   /* "sns.amazonaws.com"; NULL = not a service */
    const char *user_arn;  /* of the account's principal; NULL = a service */
    const char *action;    /* "sqs:SendMessage" */
    struct slice resource; /* an ARN, or "*" */
    struct {
        const char *key; /* "aws:SourceArn" */
        struct slice value;
    } facts[CLOUD_FACTS_MAX];
};

enum cloud_verdict { CLOUD_SILENT, CLOUD_ALLOWS, CLOUD_DENIES };

/* of_resource: the policy belongs to a queue or topic, so statements name principals. policy may be
 * NULL: silent. A statement that denies wins over any that allows. */
enum cloud_verdict cloud_policy_verdict(const cJSON *policy, bool of_resource,
                                        const struct cloud_ask *ask);

/* A JSON object with a Statement in which every one has an Effect and an Action. */
bool cloud_policy_is_good(const cJSON *policy);

/* '*' and '?' as in policies; nocase for actions. */
bool cloud_policy_matches(struct slice pattern, struct slice text, bool nocase);

#endif
