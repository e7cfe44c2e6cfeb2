/*
 * IAM users with their keys and inline policies, STS's "who am I", and the one place where it is
 * decided whether a signed call may do what it asks.
 *
 * The sandbox's own key belongs to the user "sandbox", who may do everything but what a test
 * denies. A user made by CreateUser may do what its policies say.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "mail/date.h"
#include "sandbox/cloud_query.h"
#include "setup/policy_verdict.h"

enum { KEYS_MAX = 2, ID_CHARS = 16, SECRET_CHARS = 40, DENIED_MAX = 32 };

struct key {
    struct key *next;
    char id[4 + ID_CHARS + 1], secret[SECRET_CHARS + 1];
    uint64_t created_ms;
};

struct policy {
    struct policy *next;
    char *name, *text;
    cJSON *tree;
};

struct cloud_user {
    struct cloud_user *next;
    char *name, *arn;
    char id[4 + ID_CHARS + 1];
    uint64_t created_ms;
    struct key *keys;
    struct policy *policies;
    cJSON *tags; /* of strings */
};

struct cloud_iam {
    struct cloud *cloud;
    struct cloud_user *users;
    char *denied[DENIED_MAX]; /* "sqs:*": refused whoever asks */
    size_t denied_count;
};

/* -------- who may do what -------- */

static void put_caller_arn(struct buf *to, const struct cloud *c, const struct cloud_user *user)
{
    if (user != NULL)
        buf_add_str(to, user->arn);
    else
        buf_printf(to, "arn:aws:iam::%s:user/sandbox", c->account);
}

static bool is_denied(const struct cloud_iam *iam, const char *action)
{
    for (size_t i = 0; i < iam->denied_count; i++)
        if (policy_matches(slice_str(iam->denied[i]), slice_str(action), true))
            return true;
    return false;
}

static enum policy_verdict verdict_on(const struct cloud_user *user, const char *action,
                                      struct slice resource, struct slice from_address)
{
    const struct policy_question ask = {
        .user_arn = user->arn,
        .action = action,
        .resource = resource,
        .facts = {{"aws:SecureTransport", SLICE("true")},
                  {from_address.len > 0 ? "ses:FromAddress" : NULL, from_address}},
    };
    enum policy_verdict verdict = POLICY_SILENT;

    for (const struct policy *p = user->policies; p != NULL; p = p->next) {
        enum policy_verdict one = policy_verdict(p->tree, false, &ask);
        if (one == POLICY_DENIES)
            return POLICY_DENIES;
        if (one == POLICY_ALLOWS)
            verdict = POLICY_ALLOWS;
    }
    return verdict;
}

bool cloud_may(const struct cloud_request *r, const char *action, struct slice resource,
               struct slice from_address, char words[CLOUD_WORDS_BYTES])
{
    const struct cloud *c = r->cloud;
    enum policy_verdict verdict = POLICY_ALLOWS;
    struct buf arn = {0};

    if (c->iam->denied_count > 0 && is_denied(c->iam, action))
        verdict = POLICY_SILENT;
    else if (r->caller != NULL)
        verdict = verdict_on(r->caller, action, resource, from_address);
    if (verdict == POLICY_ALLOWS)
        return true;
    put_caller_arn(&arn, c, r->caller);
    (void)snprintf(words, CLOUD_WORDS_BYTES,
                   "User: %s is not authorized to perform: %s on resource: %.*s %s %s action",
                   buf_cstr(&arn), action, SLICE_ARGS(resource),
                   verdict == POLICY_DENIES
                       ? "with an explicit deny in an identity-based policy for the"
                       : "because no identity-based policy allows the",
                   action);
    buf_fini(&arn);
    return false;
}

void cloud_iam_deny(struct cloud_iam *iam, const cJSON *actions)
{
    while (iam->denied_count > 0)
        free(iam->denied[--iam->denied_count]);
    for (const cJSON *a = json_first(actions); a != NULL && iam->denied_count < DENIED_MAX;
         a = a->next)
        if (cJSON_IsString(a))
            iam->denied[iam->denied_count++] = mem_strdup(a->valuestring);
}

bool cloud_iam_key(const struct cloud *c, struct slice id, const char **secret,
                   const struct cloud_user **user)
{
    *user = NULL;
    *secret = c->secret_key;
    if (slice_eq(id, slice_str(c->access_key)))
        return true;
    for (*user = c->iam->users; *user != NULL; *user = (*user)->next)
        for (const struct key *k = (*user)->keys; k != NULL; k = k->next)
            if (slice_eq(id, slice_str(k->id))) {
                *secret = k->secret;
                return true;
            }
    return false;
}

/* -------- users -------- */

static void random_text(char *to, size_t chars, const char *alphabet)
{
    size_t letters = strlen(alphabet);
    uint8_t random[SECRET_CHARS];

    digest_random(random, chars);
    for (size_t i = 0; i < chars; i++)
        to[i] = alphabet[random[i] % letters];
    to[chars] = '\0';
}

static void make_id(char *to, const char *prefix)
{
    memcpy(to, prefix, 4);
    random_text(to + 4, ID_CHARS, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567");
}

static struct cloud_user **user_at(struct cloud_iam *iam, const char *name)
{
    struct cloud_user **at = &iam->users;

    while (*at != NULL && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

static struct policy **policy_at(struct cloud_user *user, const char *name)
{
    struct policy **at = &user->policies;

    while (*at != NULL && strcmp((*at)->name, name) != 0)
        at = &(*at)->next;
    return at;
}

static void policy_free(struct policy *p)
{
    free(p->name);
    free(p->text);
    json_free(p->tree);
    free(p);
}

static void user_free(struct cloud_user *user)
{
    while (user->keys != NULL) {
        struct key *gone = user->keys;
        user->keys = gone->next;
        free(gone);
    }
    while (user->policies != NULL) {
        struct policy *gone = user->policies;
        user->policies = gone->next;
        policy_free(gone);
    }
    cJSON_Delete(user->tags);
    free(user->name);
    free(user->arn);
    free(user);
}

static void put_date(struct cloud_query *q, const char *element, uint64_t ms)
{
    struct buf date = {0};

    date_put_iso8601(&date, ms * 1000);
    cloud_query_put(q, element, buf_cstr(&date));
    buf_fini(&date);
}

static void put_user(struct cloud_query *q, const struct cloud_user *user)
{
    buf_add_str(&q->out, "<User>");
    cloud_query_put(q, "Path", "/");
    cloud_query_put(q, "UserName", user->name);
    cloud_query_put(q, "UserId", user->id);
    cloud_query_put(q, "Arn", user->arn);
    put_date(q, "CreateDate", user->created_ms);
    cloud_query_put_tags(q, user->tags);
    buf_add_str(&q->out, "</User>");
}

/* -------- operations; user is NULL for CreateUser only -------- */

static void no_such(struct cloud_query *q, const char *what, const char *name)
{
    char words[300];

    (void)snprintf(words, sizeof words, "The %s with name %s cannot be found.", what, name);
    cloud_query_refuse(q, 404, "NoSuchEntity", words);
}

static void create_user(struct cloud_query *q, struct cloud_user *absent)
{
    struct cloud_iam *iam = q->r->cloud->iam;
    const char *name = cloud_query_get(q, "UserName");
    struct buf arn = {0};

    (void)absent;
    if (*user_at(iam, name) != NULL) {
        char words[300];
        (void)snprintf(words, sizeof words, "User with name %s already exists.", name);
        cloud_query_refuse(q, 409, "EntityAlreadyExists", words);
        return;
    }
    struct cloud_user *user = mem_zero(1, sizeof *user);
    buf_printf(&arn, "arn:aws:iam::%s:user/%s", q->r->cloud->account, name);
    user->name = mem_strdup(name);
    user->arn = mem_strdup(buf_cstr(&arn));
    buf_fini(&arn);
    make_id(user->id, "AIDA");
    user->created_ms = clock_wall_ms();
    user->tags = cJSON_CreateObject();
    cloud_query_take_tags(q, user->tags);
    user->next = iam->users;
    iam->users = user;
    put_user(q, user);
    cloud_query_answer(q);
}

static void get_user(struct cloud_query *q, struct cloud_user *user)
{
    put_user(q, user);
    cloud_query_answer(q);
}

static void tag_user(struct cloud_query *q, struct cloud_user *user)
{
    cloud_query_take_tags(q, user->tags);
    cloud_query_answer(q);
}

static void delete_user(struct cloud_query *q, struct cloud_user *user)
{
    if (user->keys != NULL || user->policies != NULL) {
        cloud_query_refuse(q, 409, "DeleteConflict",
                           user->keys != NULL
                               ? "Cannot delete entity, must delete access keys first."
                               : "Cannot delete entity, must delete policies first.");
        return;
    }
    *user_at(q->r->cloud->iam, user->name) = user->next;
    user_free(user);
    cloud_query_answer(q);
}

static void put_user_policy(struct cloud_query *q, struct cloud_user *user)
{
    const char *name = cloud_query_get(q, "PolicyName");
    const char *text = cloud_query_get(q, "PolicyDocument");
    cJSON *tree = json_parse(slice_str(text));

    if (name[0] == '\0' || !policy_is_good(tree)) {
        cloud_query_refuse(q, 400, "MalformedPolicyDocument", "Syntax errors in policy.");
        json_free(tree);
        return;
    }
    struct policy **at = policy_at(user, name), *p = mem_zero(1, sizeof *p);
    if (*at != NULL) {
        p->next = (*at)->next;
        policy_free(*at);
    }
    p->name = mem_strdup(name);
    p->text = mem_strdup(text);
    p->tree = tree;
    *at = p;
    cloud_query_answer(q);
}

static void get_user_policy(struct cloud_query *q, struct cloud_user *user)
{
    const char *name = cloud_query_get(q, "PolicyName");
    const struct policy *p = *policy_at(user, name);
    struct buf text = {0};

    if (p == NULL) {
        no_such(q, "user policy", name);
        return;
    }
    text_percent_encode(&text, slice_str(p->text), "");
    cloud_query_put(q, "UserName", user->name);
    cloud_query_put(q, "PolicyName", p->name);
    cloud_query_put(q, "PolicyDocument", buf_cstr(&text));
    buf_fini(&text);
    cloud_query_answer(q);
}

static void list_user_policies(struct cloud_query *q, struct cloud_user *user)
{
    buf_add_str(&q->out, "<PolicyNames>");
    for (const struct policy *p = user->policies; p != NULL; p = p->next)
        cloud_query_put(q, "member", p->name);
    buf_add_str(&q->out, "</PolicyNames><IsTruncated>false</IsTruncated>");
    cloud_query_answer(q);
}

static void delete_user_policy(struct cloud_query *q, struct cloud_user *user)
{
    const char *name = cloud_query_get(q, "PolicyName");
    struct policy **at = policy_at(user, name), *gone = *at;

    if (gone == NULL) {
        no_such(q, "user policy", name);
        return;
    }
    *at = gone->next;
    policy_free(gone);
    cloud_query_answer(q);
}

static void put_key(struct cloud_query *q, const struct cloud_user *user, const struct key *k)
{
    cloud_query_put(q, "UserName", user->name);
    cloud_query_put(q, "AccessKeyId", k->id);
    cloud_query_put(q, "Status", "Active");
    put_date(q, "CreateDate", k->created_ms);
}

static void create_access_key(struct cloud_query *q, struct cloud_user *user)
{
    int count = 0;

    for (const struct key *k = user->keys; k != NULL; k = k->next)
        count++;
    if (count >= KEYS_MAX) {
        cloud_query_refuse(q, 409, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2");
        return;
    }
    struct key *k = mem_zero(1, sizeof *k);
    make_id(k->id, "AKIA");
    random_text(k->secret, SECRET_CHARS,
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
    k->created_ms = clock_wall_ms();
    k->next = user->keys;
    user->keys = k;
    buf_add_str(&q->out, "<AccessKey>");
    put_key(q, user, k);
    cloud_query_put(q, "SecretAccessKey", k->secret);
    buf_add_str(&q->out, "</AccessKey>");
    cloud_query_answer(q);
}

static void list_access_keys(struct cloud_query *q, struct cloud_user *user)
{
    buf_add_str(&q->out, "<AccessKeyMetadata>");
    for (const struct key *k = user->keys; k != NULL; k = k->next) {
        buf_add_str(&q->out, "<member>");
        put_key(q, user, k);
        buf_add_str(&q->out, "</member>");
    }
    buf_add_str(&q->out, "</AccessKeyMetadata><IsTruncated>false</IsTruncated>");
    cloud_query_answer(q);
}

static void delete_access_key(struct cloud_query *q, struct cloud_user *user)
{
    const char *id = cloud_query_get(q, "AccessKeyId");
    struct key **at = &user->keys;

    while (*at != NULL && strcmp((*at)->id, id) != 0)
        at = &(*at)->next;
    if (*at == NULL) {
        no_such(q, "Access Key", id);
        return;
    }
    struct key *gone = *at;
    *at = gone->next;
    free(gone);
    cloud_query_answer(q);
}

/* ActionNames.member.N for ResourceArns.member.N, or "*". */
static void simulate(struct cloud_query *q, struct cloud_user *unused)
{
    struct cloud_iam *iam = q->r->cloud->iam;
    const char *source = cloud_query_get(q, "PolicySourceArn");
    const struct cloud_user *user = iam->users;
    struct buf own = {0};

    (void)unused;
    put_caller_arn(&own, q->r->cloud, NULL);
    while (user != NULL && strcmp(user->arn, source) != 0)
        user = user->next;
    if (user == NULL && strcmp(source, buf_cstr(&own)) != 0) {
        buf_fini(&own);
        no_such(q, "user", source);
        return;
    }
    buf_fini(&own);
    buf_add_str(&q->out, "<EvaluationResults>");
    for (int a = 1; cloud_query_nth(q, "ActionNames.member", a, "")[0] != '\0'; a++)
        for (int n = 1; n == 1 || cloud_query_nth(q, "ResourceArns.member", n, "")[0] != '\0';
             n++) {
            const char *action = cloud_query_nth(q, "ActionNames.member", a, "");
            const char *resource = cloud_query_nth(q, "ResourceArns.member", n, "");
            if (resource[0] == '\0')
                resource = "*";
            enum policy_verdict verdict =
                user != NULL ? verdict_on(user, action, slice_str(resource), slice_none())
                             : POLICY_ALLOWS;
            if (is_denied(iam, action))
                verdict = POLICY_SILENT;
            buf_add_str(&q->out, "<member>");
            cloud_query_put(q, "EvalActionName", action);
            cloud_query_put(q, "EvalResourceName", resource);
            cloud_query_put(q, "EvalDecision",
                            verdict == POLICY_ALLOWS   ? "allowed"
                            : verdict == POLICY_DENIES ? "explicitDeny"
                                                       : "implicitDeny");
            buf_add_str(&q->out, "</member>");
        }
    buf_add_str(&q->out, "</EvaluationResults><IsTruncated>false</IsTruncated>");
    cloud_query_answer(q);
}

static const struct {
    const char *name;
    void (*run)(struct cloud_query *q, struct cloud_user *user);
    bool needs_user;
} operations[] = {
    {"CreateUser", create_user, false},
    {"GetUser", get_user, true},
    {"TagUser", tag_user, true},
    {"DeleteUser", delete_user, true},
    {"PutUserPolicy", put_user_policy, true},
    {"GetUserPolicy", get_user_policy, true},
    {"ListUserPolicies", list_user_policies, true},
    {"DeleteUserPolicy", delete_user_policy, true},
    {"CreateAccessKey", create_access_key, true},
    {"ListAccessKeys", list_access_keys, true},
    {"DeleteAccessKey", delete_access_key, true},
    {"SimulatePrincipalPolicy", simulate, false},
};

void cloud_iam_handle(struct cloud_query *q)
{
    const char *name = cloud_query_get(q, "UserName");
    struct cloud_user *user = *user_at(q->r->cloud->iam, name);
    char action[80], words[CLOUD_WORDS_BYTES];
    struct buf resource = {0};
    size_t at = 0;

    while (at < sizeof operations / sizeof operations[0] &&
           strcmp(q->action, operations[at].name) != 0)
        at++;
    if (at == sizeof operations / sizeof operations[0]) {
        cloud_query_refuse(q, 400, "InvalidAction", "The sandbox does not know that IAM call");
        return;
    }
    (void)snprintf(action, sizeof action, "iam:%s", q->action);
    buf_printf(&resource, "arn:aws:iam::%s:user/%s", q->r->cloud->account, name);
    if (!cloud_may(q->r, action, buf_slice(&resource), slice_none(), words))
        cloud_query_refuse(q, 403, "AccessDenied", words);
    else if (operations[at].needs_user && user == NULL)
        no_such(q, "user", name);
    else
        operations[at].run(q, user);
    buf_fini(&resource);
}

void cloud_sts_handle(struct cloud_query *q)
{
    const struct cloud_user *user = q->r->caller;
    struct buf arn = {0};

    if (strcmp(q->action, "GetCallerIdentity") != 0) {
        cloud_query_refuse(q, 400, "InvalidAction", "The sandbox does not know that STS call");
        return;
    }
    put_caller_arn(&arn, q->r->cloud, user);
    cloud_query_put(q, "Arn", buf_cstr(&arn));
    cloud_query_put(q, "UserId", user != NULL ? user->id : "AIDASANDBOXSANDBOXSA");
    cloud_query_put(q, "Account", q->r->cloud->account);
    buf_fini(&arn);
    cloud_query_answer(q);
}

struct cloud_iam *cloud_iam_create(struct cloud *c)
{
    struct cloud_iam *iam = mem_zero(1, sizeof *iam);

    iam->cloud = c;
    return iam;
}

void cloud_iam_destroy(struct cloud_iam *iam)
{
    while (iam->users != NULL) {
        struct cloud_user *gone = iam->users;
        iam->users = gone->next;
        user_free(gone);
    }
    cloud_iam_deny(iam, NULL);
    free(iam);
}
