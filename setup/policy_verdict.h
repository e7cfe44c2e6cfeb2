/*
 * setup/policy_verdict.h - reads policies as AWS does: of queues, of topics, of users.
 *
 * SHAPE   A policy is its JSON, parsed. Understood: Effect, Principal ("*", AWS, Service), Action,
 *         NotAction, Resource, NotResource, Condition with String…, Arn… and Bool operators
 *         (…IfExists too). A statement with anything else never allows, and always denies.
 * MEMORY  Everything is borrowed for the call.
 * SOURCE  spec/aws.md §10.
 */
#ifndef SETUP_POLICY_VERDICT_H
#define SETUP_POLICY_VERDICT_H

#include "base/json.h"

enum { POLICY_FACTS_MAX = 6 };

/* One question: may this principal do this to that? */
struct policy_question {
    const char *service;   /* "sns.amazonaws.com"; NULL = not a service */
    const char *user_arn;  /* of the account's principal; NULL = a service */
    const char *action;    /* "sqs:SendMessage" */
    struct slice resource; /* an ARN, or "*" */
    struct {
        const char *key; /* "aws:SourceArn" */
        struct slice value;
    } facts[POLICY_FACTS_MAX];
};

enum policy_verdict { POLICY_SILENT, POLICY_ALLOWS, POLICY_DENIES };

/* of_resource: the policy belongs to a queue or topic, so statements name principals. policy may be
 * NULL: silent. A statement that denies wins over any that allows. */
enum policy_verdict policy_verdict(const cJSON *policy, bool of_resource,
                                   const struct policy_question *ask);

/* A JSON object with a Statement in which every one has an Effect and an Action. */
bool policy_is_good(const cJSON *policy);

/* '*' and '?' as in policies; nocase for actions. */
bool policy_matches(struct slice pattern, struct slice text, bool nocase);

#endif
