#include "setup/policy_verdict.h"

#include <ctype.h>

bool policy_matches(struct slice pattern, struct slice text, bool nocase)
{
    size_t p = 0, t = 0, star = SIZE_MAX, resume = 0;

    while (t < text.len) {
        bool same =
            p < pattern.len && (pattern.ptr[p] == text.ptr[t] ||
                                (nocase && tolower(pattern.ptr[p]) == tolower(text.ptr[t])));
        if (p < pattern.len && pattern.ptr[p] == '*') {
            star = p++;
            resume = t;
        } else if (same || (p < pattern.len && pattern.ptr[p] == '?')) {
            p++;
            t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++resume;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.ptr[p] == '*')
        p++;
    return p == pattern.len;
}

/* A member that is a string or a list of strings: does one of them match? */
static bool any_matches(const cJSON *texts, struct slice text, bool nocase)
{
    if (cJSON_IsString(texts))
        return policy_matches(json_text(texts), text, nocase);
    for (const cJSON *t = json_first(texts); t != NULL; t = t->next)
        if (cJSON_IsString(t) && policy_matches(json_text(t), text, nocase))
            return true;
    return false;
}

static bool any_is(const cJSON *texts, struct slice text, bool nocase)
{
    const cJSON *first = cJSON_IsArray(texts) ? json_first(texts) : texts;

    for (const cJSON *t = first; t != NULL; t = t->next) {
        struct slice other = json_text(t);
        if (nocase ? slice_eq_nocase(other, text) : slice_eq(other, text))
            return true;
        if (!cJSON_IsArray(texts))
            break;
    }
    return false;
}

/* A user may be named by ARN, or by account: "111122223333" or "arn:aws:iam::111122223333:root". */
static bool names_user(const cJSON *texts, const char *user_arn)
{
    struct slice arn = slice_str(user_arn), rest = arn, part = {0};
    struct buf root = {0};

    for (int i = 0; i < 5; i++)
        (void)slice_cut(rest, ':', &part, &rest);
    buf_printf(&root, "arn:aws:iam::%.*s:root", SLICE_ARGS(part));
    bool named = any_is(texts, SLICE("*"), false) || any_is(texts, arn, false) ||
                 any_is(texts, part, false) || any_is(texts, buf_slice(&root), false);
    buf_fini(&root);
    return named;
}

static bool principal_matches(const cJSON *statement, const struct policy_question *ask)
{
    const cJSON *principal = json_get(statement, "Principal");
    const cJSON *aws = json_get(principal, "AWS");

    if (slice_eq(json_text(principal), SLICE("*")) || any_is(aws, SLICE("*"), false))
        return true;
    if (ask->service != NULL)
        return any_is(json_get(principal, "Service"), slice_str(ask->service), false);
    return names_user(aws, ask->user_arn);
}

/* -------- conditions -------- */

static const struct {
    const char *name;
    bool pattern, nocase, negated;
} operators[] = {
    {"StringEquals", false, false, false},
    {"StringNotEquals", false, false, true},
    {"StringEqualsIgnoreCase", false, true, false},
    {"StringLike", true, false, false},
    {"StringNotLike", true, false, true},
    {"ArnEquals", true, false, false},
    {"ArnLike", true, false, false},
    {"ArnNotEquals", true, false, true},
    {"ArnNotLike", true, false, true},
    {"Bool", false, true, false},
};

static bool fact(const struct policy_question *ask, const char *key, struct slice *value)
{
    for (size_t i = 0; i < POLICY_FACTS_MAX; i++)
        if (ask->facts[i].key != NULL &&
            slice_eq_nocase(slice_str(ask->facts[i].key), slice_str(key))) {
            *value = ask->facts[i].value;
            return true;
        }
    return false;
}

/* 1 = holds, 0 = does not, -1 = an operator that is not understood. */
static int operator_holds(const cJSON *operator_and_keys, const struct policy_question *ask)
{
    const struct slice if_exists = SLICE("IfExists");
    struct slice name = slice_str(operator_and_keys->string), value;
    bool optional = slice_ends_nocase(name, if_exists);
    size_t at = 0;

    if (optional)
        name.len -= if_exists.len;
    while (at < sizeof operators / sizeof operators[0] &&
           !slice_eq(slice_str(operators[at].name), name))
        at++;
    if (at == sizeof operators / sizeof operators[0])
        return -1;
    for (const cJSON *k = json_first(operator_and_keys); k != NULL; k = k->next) {
        bool known = fact(ask, k->string, &value);
        if (!known && (optional || operators[at].negated))
            continue;
        if (!known)
            return 0;
        bool same = operators[at].pattern ? any_matches(k, value, operators[at].nocase)
                                          : any_is(k, value, operators[at].nocase);
        if (same == operators[at].negated)
            return 0;
    }
    return 1;
}

static int conditions_hold(const cJSON *statement, const struct policy_question *ask)
{
    for (const cJSON *o = json_first(json_get(statement, "Condition")); o != NULL; o = o->next) {
        int holds = operator_holds(o, ask);
        if (holds != 1)
            return holds;
    }
    return 1;
}

/* -------- statements -------- */

static bool covers(const cJSON *statement, const char *name, const char *not_name,
                   struct slice text, bool nocase)
{
    const cJSON *wanted = json_get(statement, name), *unwanted = json_get(statement, not_name);

    if (wanted != NULL)
        return any_matches(wanted, text, nocase);
    return unwanted != NULL && !any_matches(unwanted, text, nocase);
}

static enum policy_verdict statement_verdict(const cJSON *statement, bool of_resource,
                                             const struct policy_question *ask)
{
    bool denies = slice_eq(json_get_text(statement, "Effect"), SLICE("Deny"));
    bool allows = slice_eq(json_get_text(statement, "Effect"), SLICE("Allow"));
    bool named_strangely = json_get(statement, "NotPrincipal") != NULL;
    int holds = conditions_hold(statement, ask);

    if (!covers(statement, "Action", "NotAction", slice_str(ask->action), true) ||
        !covers(statement, "Resource", "NotResource", ask->resource, false))
        return POLICY_SILENT;
    if (of_resource && !named_strangely && !principal_matches(statement, ask))
        return POLICY_SILENT;
    if (denies && holds != 0)
        return POLICY_DENIES;
    return allows && holds == 1 && !named_strangely ? POLICY_ALLOWS : POLICY_SILENT;
}

enum policy_verdict policy_verdict(const cJSON *policy, bool of_resource,
                                   const struct policy_question *ask)
{
    const cJSON *statements = json_get(policy, "Statement");
    const cJSON *s = cJSON_IsArray(statements) ? json_first(statements) : statements;
    enum policy_verdict verdict = POLICY_SILENT;

    for (; s != NULL; s = s->next) {
        enum policy_verdict one = statement_verdict(s, of_resource, ask);
        if (one == POLICY_DENIES)
            return POLICY_DENIES;
        if (one == POLICY_ALLOWS)
            verdict = POLICY_ALLOWS;
        if (!cJSON_IsArray(statements))
            break;
    }
    return verdict;
}

bool policy_is_good(const cJSON *policy)
{
    const cJSON *statements = json_get(policy, "Statement");
    const cJSON *s = cJSON_IsArray(statements) ? json_first(statements) : statements;

    if (s == NULL)
        return false;
    for (; s != NULL; s = cJSON_IsArray(statements) ? s->next : NULL)
        if (json_get_text(s, "Effect").len == 0 ||
            (json_get(s, "Action") == NULL && json_get(s, "NotAction") == NULL))
            return false;
    return true;
}
