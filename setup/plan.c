#include "setup/plan.h"

#include <assert.h>
#include <string.h>

#include "setup/difference.h"

bool plan_is_ours(const struct resource *r)
{
    const struct resource *marked = r->of == NULL ? r : r->of->is_given ? r->to : r->of;

    return !r->is_given && json_get(json_get(marked->found, "Tags"), PLUMBING_TAG) != NULL;
}

const char *plan_state_name(enum resource_state state)
{
    switch (state) {
    case RESOURCE_UNKNOWN:
        return "unknown";
    case RESOURCE_EXISTS:
        return "exists";
    case RESOURCE_CREATE:
        return "create";
    case RESOURCE_CHANGE:
        return "change";
    case RESOURCE_TAKEN:
        return "TAKEN";
    case RESOURCE_LACKED:
        return "MISSING";
    }
    return "";
}

bool plan_changes(const struct resource *r, const char *member)
{
    for (size_t i = 0; r->changes[i] != NULL; i++)
        if (strcmp(r->changes[i], member) == 0)
            return true;
    return false;
}

/* ---- what is found within others ---- */

static const cJSON *subscription_in(const cJSON *topic, const struct resource *r)
{
    const cJSON *s = json_first(json_get(topic, "Subscriptions"));

    while (s != NULL && !(slice_eq(json_get_text(s, "Protocol"), SLICE("sqs")) &&
                          slice_eq(json_get_text(s, "Endpoint"), slice_str(r->to->arn))))
        s = s->next;
    return s;
}

/* By name; else one of another name to the same topic, which does as well. */
static const cJSON *destination_in(const cJSON *set, const struct resource *r)
{
    const cJSON *other = NULL;
    struct slice topic = json_get_text(json_get(r->wanted, "SnsDestination"), "TopicArn");

    for (const cJSON *d = json_first(json_get(set, "EventDestinations")); d != NULL; d = d->next) {
        if (slice_eq(json_get_text(d, "Name"), slice_str(PLUMBING_DESTINATION)))
            return d;
        if (slice_eq(json_get_text(json_get(d, "SnsDestination"), "TopicArn"), topic))
            other = d;
    }
    return other;
}

void plan_share_out(struct plumbing *p)
{
    for (size_t i = 0; i < p->count; i++) {
        struct resource *r = &p->resources[i];
        if (r->of == NULL)
            continue;
        const cJSON *part = r->kind == RESOURCE_SUBSCRIPTION ? subscription_in(r->of->found, r)
                                                             : destination_in(r->of->found, r);
        json_free(r->found);
        r->found = part != NULL ? cJSON_Duplicate(part, true) : NULL;
    }
}

/* ---- the verdict ---- */

struct judging {
    struct resource *r;
    const struct plan_wishes *wishes;
    bool is_ours;
    size_t count; /* of changes */
};

static void put_value(struct buf *to, const cJSON *value)
{
    enum { SHOWN_MAX = 60 };
    struct buf text = {0};

    if (value == NULL)
        buf_add_str(&text, "none");
    else if (cJSON_IsString(value))
        buf_add_slice(&text, json_text(value));
    else if (cJSON_IsArray(value))
        for (const cJSON *e = value->child; e != NULL; e = e->next)
            buf_printf(&text, "%s%.*s", text.len > 0 ? "," : "", SLICE_ARGS(json_text(e)));
    else
        json_put_tree(&text, value);
    buf_add_slice(to, slice_head(buf_slice(&text), SHOWN_MAX));
    if (text.len > SHOWN_MAX)
        buf_add_str(to, "…");
    buf_fini(&text);
}

/* Of two lists, what is in one of them alone. */
static void put_list_change(struct buf *to, const cJSON *wanted, const cJSON *found)
{
    bool any = false;

    for (int side = 0; side < 2; side++) {
        const cJSON *from = side == 0 ? wanted : found, *other = side == 0 ? found : wanted;
        for (const cJSON *e = json_first(from); e != NULL; e = e->next) {
            const cJSON *o = json_first(other);
            while (o != NULL && !difference_same(e, o))
                o = o->next;
            if (o != NULL)
                continue;
            buf_printf(to, "%s%c%.*s", any ? " " : "", side == 0 ? '+' : '-',
                       SLICE_ARGS(json_text(e)));
            any = true;
        }
    }
}

static void add_change(struct judging *j, const char *member)
{
    assert(j->count < PLUMBING_CHANGES_MAX);
    j->r->changes[j->count++] = member;
    j->r->changes[j->count] = NULL;
    if (j->r->differs.len > 0)
        buf_add_str(&j->r->differs, "; ");
}

static bool is_policy(const char *name)
{
    return strcmp(name, "Policy") == 0 || strcmp(name, PLUMBING_POLICY) == 0;
}

/* An identity of somebody's own is not bent to our taste. */
static bool is_left_alone(const struct judging *j, const char *path)
{
    if (j->r->kind != RESOURCE_IDENTITY || j->is_ours || j->wishes->adopt)
        return false;
    if (strcmp(path, "FeedbackForwardingStatus") == 0)
        return true;
    return !j->wishes->mail_from_given && strncmp(path, "MailFromAttributes.", 19) == 0 &&
           json_get_text(json_get(j->r->found, "MailFromAttributes"), "MailFromDomain").len > 0;
}

static void on_difference(void *arg, const char *path, const cJSON *wanted, const cJSON *found)
{
    struct judging *j = arg;
    struct buf *to = &j->r->differs;
    const char *name = wanted->string;

    if (is_left_alone(j, path))
        return;
    add_change(j, name);
    if (is_policy(name)) {
        buf_printf(to, "policy %s", found == NULL ? "missing" : "differs");
        return;
    }
    buf_printf(to, "%s ", name);
    if (cJSON_IsArray(wanted) && cJSON_IsArray(found)) {
        put_list_change(to, wanted, found);
        return;
    }
    put_value(to, found);
    buf_add_str(to, " → ");
    put_value(to, wanted);
}

static void judge(struct resource *r, const struct plan_wishes *wishes)
{
    struct judging j = {.r = r, .wishes = wishes, .is_ours = plan_is_ours(r)};
    bool may_change = j.is_ours || wishes->adopt || r->kind == RESOURCE_IDENTITY;

    buf_reset(&r->differs);
    r->changes[0] = NULL;
    if (r->is_given) {
        r->state = r->found != NULL ? RESOURCE_EXISTS : RESOURCE_LACKED;
        return;
    }
    if (r->found == NULL) {
        /* Something new in somebody else's topic or set is a change of it. */
        bool fits =
            r->of == NULL || r->of->is_given || r->of->found == NULL || j.is_ours || wishes->adopt;
        r->state = fits ? RESOURCE_CREATE : RESOURCE_TAKEN;
        if (!fits)
            buf_printf(&r->differs, "is missing in a %s that is not ours", plumbing_kind(r->of));
        return;
    }
    if (wishes->adopt && r->of == NULL && !j.is_ours && json_get(r->found, "Tags") != NULL) {
        add_change(&j, PLAN_TAG);
        buf_add_str(&r->differs, "tag none → " PLUMBING_TAG);
    }
    (void)difference(r->wanted, r->found, on_difference, &j);
    r->state = j.count == 0 ? RESOURCE_EXISTS : may_change ? RESOURCE_CHANGE : RESOURCE_TAKEN;
}

struct plan_sums plan_judge(struct plumbing *p, const struct plan_wishes *wishes)
{
    struct plan_sums sums = {0};

    for (size_t i = 0; i < p->count; i++) {
        judge(&p->resources[i], wishes);
        switch (p->resources[i].state) {
        case RESOURCE_UNKNOWN:
            break;
        case RESOURCE_EXISTS:
            sums.exists++;
            break;
        case RESOURCE_CREATE:
            sums.create++;
            break;
        case RESOURCE_CHANGE:
            sums.change++;
            break;
        case RESOURCE_TAKEN:
            sums.taken++;
            break;
        case RESOURCE_LACKED:
            sums.lacked++;
            break;
        }
    }
    return sums;
}
