#include "doctor/patient.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "aws/sqs.h"
#include "base/clock.h"
#include "doctor/probe.h"
#include "setup/plumbing.h"
#include "store/control.h"

enum { STARTING_PATIENCE_MS = 5000 }; /* with processes that have just begun */

static const char *text(struct patient *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static const char *text(struct patient *p, const char *format, ...)
{
    char line[1024];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    return arena_cstr(&p->arena, slice_str(line));
}

/* ---- what is not allowed ---- */

static bool is_needed(const char *permission)
{
    static const char *const doctors[] = {"sns:", "ses:GetEmailIdentity",
                                          "ses:GetConfigurationSet"};

    for (size_t i = 0; i < sizeof doctors / sizeof doctors[0]; i++)
        if (strncmp(permission, doctors[i], strlen(doctors[i])) == 0)
            return false;
    return true;
}

void patient_note_denied(struct patient *p, const char *permission, const char *what)
{
    const char *words = text(p, "%s on %s", permission, what);

    for (size_t i = 0; i < p->denied_count; i++)
        if (strcmp(p->denied[i], words) == 0)
            return;
    if (p->denied_count < PATIENT_DENIED_MAX)
        p->denied[p->denied_count++] = words;
    p->denied_needed = p->denied_needed || is_needed(permission);
}

/* ---- looking ---- */

static void forget(struct seen *s)
{
    json_free(s->tree);
    *s = (struct seen){.result = INSPECT_FAILED};
}

/* A refusal names the permission: "… the permission sqs:GetQueueUrl is missing, on …". */
static void note(struct patient *p, struct seen *s, const char *what)
{
    const struct slice before = SLICE("the permission ");
    struct slice words = slice_str(s->err.text), permission, rest;
    size_t at = slice_find(words, before);

    if (s->result != INSPECT_FAILED || s->err.code != ERR_DENIED || at == SIZE_MAX)
        return;
    (void)slice_cut(slice_from(words, at + before.len), ' ', &permission, &rest);
    patient_note_denied(p, arena_cstr(&p->arena, permission), what);
}

void patient_look_at_queue(struct patient *p, struct patient_queue *q)
{
    forget(&q->queue);
    forget(&q->dead);
    q->queue.result = inspect_queue_at(p->session, q->url, &q->queue.tree, &q->queue.err);
    note(p, &q->queue, q->name);
    cJSON *redrive =
        json_parse(json_get_text(json_get(q->queue.tree, "Attributes"), "RedrivePolicy"));
    struct slice arn = json_get_text(redrive, "deadLetterTargetArn");
    size_t colon = slice_rfind_byte(arn, ':'), slash = slice_rfind_byte(q->url, '/');
    if (colon != SIZE_MAX && slash != SIZE_MAX) {
        /* Same account and region as its source: the URL differs in the name alone. */
        const char *url = text(p, "%.*s/%.*s", SLICE_ARGS(slice_head(q->url, slash)),
                               SLICE_ARGS(slice_from(arn, colon + 1)));
        q->dead.result = inspect_queue_at(p->session, slice_str(url), &q->dead.tree, &q->dead.err);
        note(p, &q->dead, arena_cstr(&p->arena, slice_from(arn, colon + 1)));
    }
    json_free(redrive);
}

/* The domain, or the nearest one above it that SES knows. */
static void look_at_identity(struct patient *p, struct patient_domain *d)
{
    const char *name = d->config->name;

    d->identity = name;
    d->found.result = inspect_email_identity(p->session, name, &d->found.tree, &d->found.err);
    while (d->found.result == INSPECT_ABSENT && (name = strchr(name, '.')) != NULL) {
        name++;
        if (strchr(name, '.') == NULL)
            break; /* a top-level domain */
        d->found.result = inspect_email_identity(p->session, name, &d->found.tree, &d->found.err);
        if (d->found.result == INSPECT_FOUND)
            d->identity = name;
    }
    note(p, &d->found, d->config->name);
}

/* A subscription of the topic to one of our queues. */
static bool find_subscription(struct patient *p, struct patient_way *w)
{
    for (const cJSON *s = json_first(json_get(w->topic.tree, "Subscriptions")); s != NULL;
         s = s->next)
        for (size_t i = 0; i < p->queue_count; i++)
            if (slice_eq(json_get_text(s, "Protocol"), SLICE("sqs")) &&
                slice_eq(json_get_text(s, "Endpoint"), slice_str(p->queues[i].arn))) {
                w->subscription = s;
                w->queue = i;
                return true;
            }
    return false;
}

/* Of the set's destinations, the one whose topic leads to us; else the first to any. */
static void look_at_topic(struct patient *p, struct patient_way *w)
{
    const char *first = "";

    for (const cJSON *d = json_first(json_get(w->found.tree, "EventDestinations")); d != NULL;
         d = d->next) {
        struct slice arn = json_get_text(json_get(d, "SnsDestination"), "TopicArn");
        if (arn.len == 0)
            continue;
        w->topic_arn = arena_cstr(&p->arena, arn);
        if (first[0] == '\0')
            first = w->topic_arn;
        forget(&w->topic);
        w->topic.result = inspect_topic(p->session, w->topic_arn, &w->topic.tree, &w->topic.err);
        note(p, &w->topic, w->topic_arn);
        if (find_subscription(p, w))
            return;
    }
    if (strcmp(first, w->topic_arn) == 0)
        return;
    w->topic_arn = first;
    forget(&w->topic);
    w->topic.result = inspect_topic(p->session, w->topic_arn, &w->topic.tree, &w->topic.err);
}

static void look_at_way(struct patient *p, struct patient_way *w)
{
    w->set_arn = text(p, "arn:%s:ses:%s:%s:configuration-set/%s", p->partition, p->region,
                      p->account, w->set);
    w->found.result = inspect_configuration_set(p->session, w->set, &w->found.tree, &w->found.err);
    note(p, &w->found, w->set);
    if (w->found.result == INSPECT_FOUND)
        look_at_topic(p, w);
}

/* https://…/ACCOUNT/NAME */
static void name_queue(struct patient *p, struct patient_queue *q)
{
    size_t slash = slice_rfind_byte(q->url, '/');
    struct slice above = slice_head(q->url, slash == SIZE_MAX ? 0 : slash),
                 region = sqs_region_of(q->url);
    size_t before = slice_rfind_byte(above, '/');
    struct slice account = slice_from(above, before == SIZE_MAX ? 0 : before + 1);

    q->name = arena_cstr(&p->arena, slice_from(q->url, slash == SIZE_MAX ? 0 : slash + 1));
    if (region.len == 0)
        region = slice_str(p->region);
    q->arn = text(p, "arn:%s:sqs:%.*s:%.*s:%s", plumbing_partition(region), SLICE_ARGS(region),
                  SLICE_ARGS(account), q->name);
}

void patient_look(struct patient *p)
{
    for (size_t i = 0; i < p->queue_count; i++)
        name_queue(p, &p->queues[i]);
    p->ses_account.result = inspect_account(p->session, &p->ses_account.tree, &p->ses_account.err);
    note(p, &p->ses_account, "the account");
    for (size_t i = 0; i < p->domain_count; i++)
        look_at_identity(p, &p->domains[i]);
    for (size_t i = 0; i < p->way_count; i++)
        look_at_way(p, &p->ways[i]);
    for (size_t i = 0; i < p->queue_count; i++)
        patient_look_at_queue(p, &p->queues[i]);
    if (p->buffer.url.len > 0) {
        name_queue(p, &p->buffer);
        patient_look_at_queue(p, &p->buffer);
    }
    probe_permissions(p);
}

bool patient_log_in(struct patient *p)
{
    p->session = session_open(p->config, &p->session_err);
    if (p->session == NULL)
        return false;
    p->region = session_region(p->session);
    p->partition = plumbing_partition(slice_str(p->region));
    p->caller.result = inspect_caller(p->session, &p->caller.tree, &p->caller.err);
    if (p->caller.result != INSPECT_FOUND)
        return false;
    p->account = json_get(p->caller.tree, "Account")->valuestring;
    return true;
}

static bool is_starting(const cJSON *status)
{
    for (const cJSON *at = json_first(json_get(status, "processes")); at != NULL; at = at->next)
        if (slice_eq(json_get_text(at, "state"), SLICE("starting")))
            return true;
    return false;
}

static void ask_status(struct patient *p)
{
    const struct record_control r = {.verb = CONTROL_STATUS};
    struct record_controlled a;
    struct buf answer = {0};

    if (control_ask(p->config->state_dir, &r, &answer, &a, &p->status_err) == 0) {
        p->status = json_parse(a.text);
        if (p->status == NULL)
            (void)err_set(&p->status_err, ERR_NETWORK, "Postern's answer is not understood");
    }
    buf_fini(&answer);
}

void patient_ask_postern(struct patient *p)
{
    const struct timespec pause = {.tv_nsec = 100000000};
    uint64_t until_ms = clock_mono_ms() + STARTING_PATIENCE_MS;

    ask_status(p);
    while (is_starting(p->status) && clock_mono_ms() < until_ms) {
        (void)nanosleep(&pause, NULL);
        json_free(p->status);
        p->status = NULL;
        ask_status(p);
    }
    p->store = store_open(p->config->state_dir, STORE_READ, &p->store_err);
}

/* ---- life ---- */

static void add_way(struct patient *p, const struct config_domain *domain, const char *set,
                    bool is_newsletter)
{
    if (set[0] == '\0')
        return;
    for (size_t i = 0; i < p->way_count; i++)
        if (strcmp(p->ways[i].set, set) == 0) {
            p->ways[i].is_newsletter = p->ways[i].is_newsletter || is_newsletter;
            return;
        }
    p->ways[p->way_count++] = (struct patient_way){.set = set,
                                                   .is_newsletter = is_newsletter,
                                                   .domain = domain,
                                                   .found = {.result = INSPECT_FAILED},
                                                   .topic = {.result = INSPECT_FAILED},
                                                   .topic_arn = "",
                                                   .queue = p->queue_count};
}

void patient_init(struct patient *p, const struct config *config)
{
    *p = (struct patient){.config = config, .region = config->aws.region, .account = ""};
    p->partition = plumbing_partition(slice_str(p->region));
    p->caller.result = p->ses_account.result = INSPECT_FAILED;
    p->queue_count = config->event_queues.count;
    p->queues = arena_array(&p->arena, p->queue_count + 1, sizeof *p->queues);
    for (size_t i = 0; i < p->queue_count; i++) {
        p->queues[i] = (struct patient_queue){.url = slice_str(config->event_queues.texts[i]),
                                              .queue = {.result = INSPECT_FAILED},
                                              .dead = {.result = INSPECT_FAILED}};
        name_queue(p, &p->queues[i]);
    }
    p->buffer = (struct patient_queue){.url = slice_str(config->queues.newsletter_buffer),
                                       .queue = {.result = INSPECT_FAILED},
                                       .dead = {.result = INSPECT_FAILED}};
    if (p->buffer.url.len > 0)
        name_queue(p, &p->buffer);
    p->domain_count = config->domain_count;
    p->domains = arena_array(&p->arena, p->domain_count + 1, sizeof *p->domains);
    p->ways = arena_array(&p->arena, 3 * p->domain_count + 1, sizeof *p->ways);
    for (size_t i = 0; i < p->domain_count; i++) {
        const struct config_domain *d = &config->domains[i];
        p->domains[i] = (struct patient_domain){
            .config = d, .identity = d->name, .found = {.result = INSPECT_FAILED}};
        add_way(p, d, d->newsletter_configuration_set, true);
        add_way(p, d, d->system_configuration_set, false);
        add_way(p, d, d->untracked_configuration_set, false);
    }
}

void patient_fini(struct patient *p)
{
    for (size_t i = 0; i < p->domain_count; i++)
        forget(&p->domains[i].found);
    for (size_t i = 0; i < p->way_count; i++) {
        forget(&p->ways[i].found);
        forget(&p->ways[i].topic);
    }
    for (size_t i = 0; i < p->queue_count; i++) {
        forget(&p->queues[i].queue);
        forget(&p->queues[i].dead);
    }
    forget(&p->buffer.queue);
    forget(&p->buffer.dead);
    forget(&p->caller);
    forget(&p->ses_account);
    json_free(p->status);
    store_close(p->store);
    session_close(p->session);
    arena_fini(&p->arena);
}
