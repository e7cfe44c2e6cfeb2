#include "setup/plumbing.h"

#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "setup/policy.h"

/* SQS takes 80 characters, "-dlq" and ".fifo" among them. */
enum {
    NAME_MAX_QUEUE = 76,
    NAME_MAX_FIFO = 80,
    NAME_MAX_NODE = 40,
    NAME_MAX_TOPIC = 256,
    NAME_MAX_SET = 64,
    NAME_MAX_USER = 64
};

void plumbing_names_default(struct plumbing_names *names)
{
    *names = (struct plumbing_names){
        .set = {"ghost-mailgun-proxy-set", "ghost-mailgun-proxy-system-set"},
        .topic = {"ghost-mailgun-proxy-events", "ghost-mailgun-proxy-system-events"},
        .queue = {"newsletter-events-queue", "system-events-queue"},
        .buffer_queue = "",
        .node = "",
        .user = "",
    };
}

const char *plumbing_partition(struct slice region)
{
    return slice_starts(region, SLICE("cn-"))       ? "aws-cn"
           : slice_starts(region, SLICE("us-gov-")) ? "aws-us-gov"
           : slice_starts(region, SLICE("eusc-"))   ? "aws-eusc"
                                                    : "aws";
}

const char *const *plumbing_event_types(const struct plumbing_names *names, enum plumbing_line line)
{
    static const char *const all[] = {
        "SEND",           "REJECT",       "BOUNCE", "COMPLAINT",
        "DELIVERY",       "OPEN",         "CLICK",  "RENDERING_FAILURE",
        "DELIVERY_DELAY", "SUBSCRIPTION", NULL};
    /* SES tracks what it publishes. In system mail, links that sign people in would lead through
     * its redirector. */
    static const char *const untracked[] = {"SEND",           "REJECT",   "BOUNCE",
                                            "COMPLAINT",      "DELIVERY", "RENDERING_FAILURE",
                                            "DELIVERY_DELAY", NULL};

    return line == LINE_NEWSLETTER || names->track_system_mail ? all : untracked;
}

/* ---- names ---- */

static int check_name(const char *what, const char *name, size_t most, const char *also,
                      struct err *err)
{
    size_t len = strlen(name);

    for (const char *at = name; *at != '\0'; at++)
        if (!(isalnum((unsigned char)*at) || *at == '-' || *at == '_' || strchr(also, *at)))
            return err_set(err, ERR_CONFIG,
                           "\"%s\" is no name for a %s: letters, digits, '-' and '_'", name, what);
    if (len == 0 || len > most)
        return err_set(err, ERR_CONFIG, "\"%s\" is no name for a %s: 1 to %zu characters", name,
                       what, most);
    return 0;
}

static int check_domain(const char *what, const char *name, struct err *err)
{
    struct slice rest = slice_str(name), label;
    size_t labels = 0;

    if (rest.len > 253)
        return err_set(err, ERR_CONFIG, "%s \"%s\" is too long for a domain", what, name);
    while (rest.len > 0) {
        bool more = slice_cut(rest, '.', &label, &rest);
        bool good = label.len > 0 && label.len < 64 && label.ptr[0] != '-' &&
                    label.ptr[label.len - 1] != '-' && !(more && rest.len == 0);
        for (size_t i = 0; i < label.len; i++)
            good = good && (islower(label.ptr[i]) || isdigit(label.ptr[i]) || label.ptr[i] == '-' ||
                            label.ptr[i] == '_');
        if (!good)
            return err_set(err, ERR_CONFIG,
                           "%s \"%s\" is no domain: write it like mail.example.com, other than "
                           "ASCII letters as Punycode (xn--…)",
                           what, name);
        labels++;
    }
    if (labels < 2)
        return err_set(err, ERR_CONFIG, "%s \"%s\" is no domain: write it like mail.example.com",
                       what, name);
    return 0;
}

/* "…-NODE-dlq" must not be the name of another node's queue. */
static int check_node(const char *node, struct err *err)
{
    if (node[0] == '\0')
        return 0;
    if (check_name("node", node, NAME_MAX_NODE, "", err) != 0)
        return -1;
    if (strcmp(node, "dlq") == 0 || slice_ends_nocase(slice_str(node), SLICE("-dlq")))
        return err_set(err, ERR_CONFIG,
                       "\"%s\" is no name for a node: dead-letter queues are called so", node);
    return 0;
}

static int check_queue_names(const struct plumbing_names *n, struct err *err)
{
    const char *const queues[] = {n->queue[0], n->queue[1]};

    for (size_t i = 0; i < PLUMBING_LINES; i++)
        if (check_name("queue", queues[i], NAME_MAX_QUEUE, "", err) != 0)
            return -1;
    if (strcmp(queues[0], queues[1]) == 0)
        return err_set(err, ERR_CONFIG, "two queues cannot both be \"%s\"", queues[0]);
    if (n->buffer_queue[0] == '\0')
        return 0;
    if (check_name("FIFO queue", n->buffer_queue, NAME_MAX_FIFO, ".", err) != 0)
        return -1;
    if (strcmp(strchr(n->buffer_queue, '.'), PLUMBING_FIFO) != 0 || n->buffer_queue[0] == '.')
        return err_set(err, ERR_CONFIG, "\"%s\" is no name for a FIFO queue", n->buffer_queue);
    return 0;
}

static int check_names(const struct plumbing_names *n, const char *mail_from, struct err *err)
{
    if (check_domain("--domain", n->domain, err) != 0)
        return -1;
    if (mail_from[0] != '\0') {
        struct slice domain = slice_str(n->domain), from = slice_str(mail_from);
        if (check_domain("--mail-from", mail_from, err) != 0)
            return -1;
        if (from.len <= domain.len + 1 || !slice_ends_nocase(from, domain) ||
            from.ptr[from.len - domain.len - 1] != '.')
            return err_set(err, ERR_CONFIG,
                           "--mail-from \"%s\" must be a subdomain of \"%s\", one that neither "
                           "sends nor receives other mail",
                           mail_from, n->domain);
    }
    for (int line = 0; line < PLUMBING_LINES; line++)
        if (check_name("configuration set", n->set[line], NAME_MAX_SET, "", err) != 0 ||
            check_name("topic", n->topic[line], NAME_MAX_TOPIC, "", err) != 0)
            return -1;
    if (check_node(n->node, err) != 0 || check_queue_names(n, err) != 0)
        return -1;
    if (strcmp(n->set[0], n->set[1]) == 0 || strcmp(n->topic[0], n->topic[1]) == 0)
        return err_set(err, ERR_CONFIG,
                       "newsletters and system mail need a configuration set and a topic each: "
                       "\"%s\", \"%s\"",
                       n->set[0], n->topic[0]);
    return n->user[0] == '\0' ? 0 : check_name("user", n->user, NAME_MAX_USER, "+=,.@", err);
}

/* ---- the wanted state ---- */

static const char *text(struct plumbing *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static const char *text(struct plumbing *p, const char *format, ...)
{
    char line[1024];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    return arena_cstr(&p->arena, slice_str(line));
}

static struct resource *add(struct plumbing *p, enum resource_kind kind, const char *name,
                            const char *arn)
{
    assert(p->count < PLUMBING_RESOURCES_MAX);
    struct resource *r = &p->resources[p->count++];
    *r = (struct resource){.kind = kind, .name = name, .arn = arn, .wanted = cJSON_CreateObject()};
    return r;
}

static void add_number(cJSON *to, const char *name, unsigned number)
{
    char digits[16];

    (void)snprintf(digits, sizeof digits, "%u", number);
    (void)cJSON_AddStringToObject(to, name, digits);
}

static const char *regional_arn(struct plumbing *p, const char *service, const char *rest)
{
    return text(p, "arn:%s:%s:%s:%s:%s", p->partition, service, p->region, p->account, rest);
}

static void add_times(cJSON *attributes, unsigned retention_s)
{
    add_number(attributes, "VisibilityTimeout", PLUMBING_VISIBILITY_S);
    add_number(attributes, "MessageRetentionPeriod", retention_s);
    add_number(attributes, "ReceiveMessageWaitTimeSeconds", 20);
}

/* With its dead-letter queue in front of it. topic_arn: who may send. */
static struct resource *add_queue(struct plumbing *p, const char *name, const char *topic_arn,
                                  enum plumbing_line line)
{
    const char *dead_name = text(p, "%s-dlq", name);
    struct resource *dead = add(p, RESOURCE_QUEUE, dead_name, regional_arn(p, "sqs", dead_name));
    struct resource *queue = add(p, RESOURCE_QUEUE, name, regional_arn(p, "sqs", name));
    struct buf policy = {0};

    dead->line = queue->line = line;
    dead->is_dlq = true;
    add_number(cJSON_AddObjectToObject(dead->wanted, "Attributes"), "MessageRetentionPeriod",
               PLUMBING_DEAD_RETENTION_S);
    queue->dlq = dead;
    cJSON *attributes = cJSON_AddObjectToObject(queue->wanted, "Attributes");
    add_times(attributes, PLUMBING_RETENTION_S);
    buf_add_byte(&policy, '{');
    json_put_str(&policy, "deadLetterTargetArn", slice_str(dead->arn));
    json_put_u64(&policy, "maxReceiveCount", PLUMBING_RECEIVES);
    buf_add_byte(&policy, '}');
    (void)cJSON_AddStringToObject(attributes, "RedrivePolicy", buf_cstr(&policy));
    buf_reset(&policy);
    policy_put_queue(&policy, queue->arn, topic_arn);
    (void)cJSON_AddStringToObject(attributes, "Policy", buf_cstr(&policy));
    buf_fini(&policy);
    return queue;
}

/* Without a dead-letter queue: SQS would put mail aside that was accepted, unseen by every machine,
 * and what of its group comes behind it would overtake it. A machine that cannot make anything of a
 * message keeps it as a dead letter of its own (poller/buffer_in.h). Nobody but the account's own
 * sends to it, so it needs no policy. */
static struct resource *add_buffer(struct plumbing *p)
{
    const char *name = p->names.buffer_queue;
    struct resource *buffer = add(p, RESOURCE_QUEUE, name, regional_arn(p, "sqs", name));

    buffer->line = LINE_NEWSLETTER;
    buffer->is_given = p->is_of_node;
    if (buffer->is_given)
        return buffer;
    cJSON *attributes = cJSON_AddObjectToObject(buffer->wanted, "Attributes");
    (void)cJSON_AddStringToObject(attributes, "FifoQueue", "true");
    add_times(attributes, PLUMBING_BUFFER_RETENTION_S);
    return buffer;
}

static struct resource *add_topic(struct plumbing *p, const char *name, const char *arn,
                                  const char *set_arn)
{
    struct resource *topic = add(p, RESOURCE_TOPIC, name, arn);
    struct buf policy = {0};

    topic->is_given = p->is_of_node;
    if (topic->is_given)
        return topic;
    policy_put_topic(&policy, arn, p->account, set_arn);
    (void)cJSON_AddStringToObject(cJSON_AddObjectToObject(topic->wanted, "Attributes"), "Policy",
                                  buf_cstr(&policy));
    buf_fini(&policy);
    return topic;
}

static void add_subscription(struct plumbing *p, struct resource *topic, struct resource *queue)
{
    struct resource *r = add(p, RESOURCE_SUBSCRIPTION, queue->name, "");

    r->of = topic;
    r->to = queue;
    r->line = queue->line;
    (void)cJSON_AddStringToObject(r->wanted, "Protocol", "sqs");
    (void)cJSON_AddStringToObject(r->wanted, "Endpoint", queue->arn);
    (void)cJSON_AddStringToObject(cJSON_AddObjectToObject(r->wanted, "Attributes"),
                                  "RawMessageDelivery", p->names.wrapped ? "false" : "true");
}

static void add_destination(struct plumbing *p, struct resource *set, struct resource *topic)
{
    struct resource *r = add(p, RESOURCE_DESTINATION, PLUMBING_DESTINATION, "");

    r->of = set;
    r->line = set->line;
    (void)cJSON_AddTrueToObject(r->wanted, "Enabled");
    cJSON *types = cJSON_AddArrayToObject(r->wanted, "MatchingEventTypes");
    const char *const *all = plumbing_event_types(&p->names, set->line);
    for (size_t i = 0; all[i] != NULL; i++)
        (void)cJSON_AddItemToArray(types, cJSON_CreateString(all[i]));
    (void)cJSON_AddStringToObject(cJSON_AddObjectToObject(r->wanted, "SnsDestination"), "TopicArn",
                                  topic->arn);
}

static void add_identity(struct plumbing *p)
{
    const char *domain = p->names.domain;
    struct resource *r =
        add(p, RESOURCE_IDENTITY, domain, regional_arn(p, "ses", text(p, "identity/%s", domain)));

    (void)cJSON_AddTrueToObject(cJSON_AddObjectToObject(r->wanted, "DkimAttributes"),
                                "SigningEnabled");
    if (p->mail_from[0] != '\0') {
        cJSON *from = cJSON_AddObjectToObject(r->wanted, "MailFromAttributes");
        (void)cJSON_AddStringToObject(from, "MailFromDomain", p->mail_from);
        /* Where its MX is not there yet, SES takes a domain of its own and sends. */
        (void)cJSON_AddStringToObject(from, "BehaviorOnMxFailure", "USE_DEFAULT_VALUE");
    }
    /* Bounces and complaints come as events: no mail for each of them, too. */
    (void)cJSON_AddFalseToObject(r->wanted, "FeedbackForwardingStatus");
    p->identity = r;
}

static int add_user(struct plumbing *p, struct err *err)
{
    struct buf policy = {0};
    struct resource *r =
        add(p, RESOURCE_USER, p->names.user,
            text(p, "arn:%s:iam::%s:user/%s", p->partition, p->account, p->names.user));

    policy_put_run_time(&policy, p);
    (void)cJSON_AddStringToObject(cJSON_AddObjectToObject(r->wanted, "Policies"), PLUMBING_POLICY,
                                  buf_cstr(&policy));
    bool fits = policy.len <= PLUMBING_USER_POLICY_MAX_BYTES;
    buf_fini(&policy);
    p->user = r;
    return fits
               ? 0
               : err_set(err, ERR_CONFIG,
                         "with these names and senders the policy is longer than the %d characters "
                         "that a user may have: shorter names, or a role with what --print-iam "
                         "prints",
                         PLUMBING_USER_POLICY_MAX_BYTES);
}

static const char *copy(struct plumbing *p, const char *from)
{
    return arena_cstr(&p->arena, slice_str(from));
}

static void copy_names(struct plumbing *p, const struct plumbing_names *names)
{
    const char **senders = arena_array(&p->arena, names->sender_count + 1, sizeof *senders);

    p->names = *names;
    p->names.domain = copy(p, names->domain);
    for (int line = 0; line < PLUMBING_LINES; line++) {
        p->names.set[line] = copy(p, names->set[line]);
        p->names.topic[line] = copy(p, names->topic[line]);
        p->names.queue[line] = names->node[0] == '\0'
                                   ? copy(p, names->queue[line])
                                   : text(p, "%s-%s", names->queue[line], names->node);
    }
    bool is_bare = names->buffer_queue[0] != '\0' && strchr(names->buffer_queue, '.') == NULL;
    p->names.buffer_queue = text(p, "%s%s", names->buffer_queue, is_bare ? PLUMBING_FIFO : "");
    p->names.node = copy(p, names->node);
    p->names.user = copy(p, names->user);
    for (size_t i = 0; i < names->sender_count; i++)
        senders[i] = copy(p, names->senders[i]);
    if (names->sender_count == 0)
        senders[p->names.sender_count++] = p->names.domain;
    p->names.senders = senders;
}

static void add_lines(struct plumbing *p, const char *const topic_arn[PLUMBING_LINES],
                      const char *const set_arn[PLUMBING_LINES])
{
    for (int line = 0; line < PLUMBING_LINES; line++)
        p->queue[line] =
            add_queue(p, p->names.queue[line], topic_arn[line], (enum plumbing_line)line);
    for (int line = 0; line < PLUMBING_LINES; line++) {
        p->topic[line] = add_topic(p, p->names.topic[line], topic_arn[line], set_arn[line]);
        p->topic[line]->line = (enum plumbing_line)line;
        add_subscription(p, p->topic[line], p->queue[line]);
    }
}

static void add_sets(struct plumbing *p, const char *const set_arn[PLUMBING_LINES])
{
    for (int line = 0; line < PLUMBING_LINES; line++) {
        p->set[line] = add(p, RESOURCE_SET, p->names.set[line], set_arn[line]);
        p->set[line]->line = (enum plumbing_line)line;
        (void)cJSON_AddTrueToObject(cJSON_AddObjectToObject(p->set[line]->wanted, "SendingOptions"),
                                    "SendingEnabled");
        add_destination(p, p->set[line], p->topic[line]);
    }
}

int plumbing_make(struct plumbing *p, const struct plumbing_names *names, const char *region,
                  const char *account, struct err *err)
{
    const char *topic_arn[PLUMBING_LINES], *set_arn[PLUMBING_LINES];

    *p = (struct plumbing){.is_of_node = names->node[0] != '\0'};
    copy_names(p, names);
    p->region = copy(p, region);
    p->account = copy(p, account);
    p->partition = plumbing_partition(slice_str(region));
    p->mail_from = names->mail_from != NULL ? copy(p, names->mail_from)
                                            : text(p, "bounce.%s", p->names.domain);
    if (check_names(&p->names, p->mail_from, err) != 0) {
        plumbing_fini(p);
        return -1;
    }
    for (int line = 0; line < PLUMBING_LINES; line++) {
        topic_arn[line] = regional_arn(p, "sns", p->names.topic[line]);
        set_arn[line] = regional_arn(p, "ses", text(p, "configuration-set/%s", p->names.set[line]));
    }
    if (p->names.buffer_queue[0] != '\0')
        p->buffer = add_buffer(p);
    add_lines(p, topic_arn, set_arn);
    if (p->is_of_node)
        return 0;
    add_sets(p, set_arn);
    add_identity(p);
    if (p->names.user[0] == '\0' || add_user(p, err) == 0)
        return 0;
    plumbing_fini(p);
    return -1;
}

void plumbing_fini(struct plumbing *p)
{
    for (size_t i = 0; i < p->count; i++) {
        json_free(p->resources[i].wanted);
        json_free(p->resources[i].found);
        buf_fini(&p->resources[i].differs);
    }
    arena_fini(&p->arena);
    *p = (struct plumbing){0};
}

/* ---- for people ---- */

struct slice plumbing_queue_name(const char *url)
{
    struct slice s = slice_str(url);
    size_t slash = slice_rfind_byte(s, '/');

    return slash == SIZE_MAX ? slice_none() : slice_from(s, slash + 1);
}

struct slice plumbing_node_of(const struct plumbing_names *names,
                              const char *const queue_url[PLUMBING_LINES])
{
    struct slice node = {0};

    for (int line = 0; line < PLUMBING_LINES; line++) {
        struct slice base = slice_str(names->queue[line]),
                     name = plumbing_queue_name(queue_url[line]);
        if (!slice_starts(name, base) || name.len < base.len + 2 || name.ptr[base.len] != '-')
            return slice_none();
        struct slice rest = slice_from(name, base.len + 1);
        if (line > 0 && !slice_eq(rest, node))
            return slice_none();
        node = rest;
    }
    return node;
}

const char *plumbing_kind(const struct resource *r)
{
    switch (r->kind) {
    case RESOURCE_QUEUE:
        return r->is_dlq ? "dead-letter queue" : "queue";
    case RESOURCE_TOPIC:
        return "topic";
    case RESOURCE_SUBSCRIPTION:
        return "subscription";
    case RESOURCE_SET:
        return "configuration set";
    case RESOURCE_DESTINATION:
        return "event destination";
    case RESOURCE_IDENTITY:
        return "identity";
    case RESOURCE_USER:
        return "IAM user";
    }
    return "";
}

void plumbing_put_name(struct buf *to, const struct resource *r)
{
    if (r->kind == RESOURCE_SUBSCRIPTION)
        buf_printf(to, "%s → %s", r->of->name, r->name);
    else if (r->kind == RESOURCE_DESTINATION)
        buf_printf(to, "%s: %s", r->of->name, r->name);
    else
        buf_add_str(to, r->name);
}
