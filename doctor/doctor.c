#include "doctor/doctor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "aws/fetch.h"
#include "aws/sqs.h"
#include "base/clock.h"
#include "doctor/judge.h"
#include "doctor/key_findings.h"
#include "doctor/live.h"
#include "doctor/patient.h"
#include "setup/plumbing.h"
#include "store/deadletters.h"
#include "store/feed.h"
#include "store/joining.h"

enum {
    UNREAD_MOST = 10000,
    HTTP_TIMEOUT_MS = 10000,
    FREE_FAIL_MIB = 64,
    FREE_WARN_MIB = 1024,
    /* What Ghost may post is 50 MiB; nginx takes 1 unless told otherwise. */
    LARGE_BODY_BYTES = 4 << 20,
};

struct doctor {
    const struct doctor_wishes *w;
    struct config *config; /* NULL: mistakes says why */
    struct buf mistakes;
    struct patient p;
    bool is_logged_in;
    struct buf ghost_origin;
    struct doctor_sums sums;
    struct buf suspect; /* the first check that failed */
    struct buf scratch; /* for mends and names */
};

/* ---- mends ---- */

static void put_option(struct buf *to, const char *name, const char *value, const char *absent)
{
    if (value[0] != '\0' && strcmp(value, absent) != 0)
        buf_printf(to, " %s %s", name, value);
}

static const char *last_part(const char *arn)
{
    const char *colon = strrchr(arn, ':');

    return colon != NULL ? colon + 1 : arn;
}

/* Queues of a node have commands of their own: their names end in its name. */
static struct slice node_of(const struct doctor *d)
{
    struct plumbing_names names;
    const char *const urls[] = {d->config->queues.newsletter_events,
                                d->config->queues.system_events};

    plumbing_names_default(&names);
    return plumbing_node_of(&names, urls);
}

static void put_names(struct doctor *d, const struct config_domain *domain, bool with_queues)
{
    static const char *const set[] = {"--newsletter-set", "--system-set"},
                             *const topic[] = {"--newsletter-topic", "--system-topic"},
                             *const queue[] = {"--newsletter-queue", "--system-queue"};
    const char *const sets[] = {domain->newsletter_configuration_set,
                                domain->system_configuration_set};
    struct plumbing_names names;

    plumbing_names_default(&names);
    if (d->p.region[0] != '\0')
        buf_printf(&d->scratch, " --region %s", d->p.region);
    for (int line = 0; line < PLUMBING_LINES; line++) {
        put_option(&d->scratch, set[line], sets[line], names.set[line]);
        for (size_t i = 0; i < d->p.way_count; i++) {
            const struct patient_way *way = &d->p.ways[i];
            if (strcmp(way->set, sets[line]) != 0)
                continue;
            put_option(&d->scratch, topic[line], last_part(way->topic_arn), names.topic[line]);
            if (with_queues && way->queue < d->p.queue_count)
                put_option(&d->scratch, queue[line], d->p.queues[way->queue].name,
                           names.queue[line]);
        }
    }
}

/* The command that makes this domain's plumbing, with the names that it has now. From a node's
 * configuration it must not be run: that would be turned to the main queues. */
static const char *setup_command(struct doctor *d, const struct config_domain *domain)
{
    bool is_node = node_of(d).len > 0;

    buf_reset(&d->scratch);
    if (is_node)
        buf_printf(&d->scratch, "on the first machine: postern setup --domain %s", domain->name);
    else
        buf_printf(&d->scratch, "postern setup -c %s --domain %s", d->w->config_path, domain->name);
    put_names(d, domain, !is_node);
    if (is_node && d->p.buffer.url.len > 0)
        buf_printf(&d->scratch, " --buffer-queue %s", d->p.buffer.name);
    return buf_cstr(&d->scratch);
}

/* The same for this machine's own event queues and subscriptions. */
static const char *queue_setup_command(struct doctor *d, const struct config_domain *domain)
{
    struct slice node = node_of(d);

    if (node.len == 0)
        return setup_command(d, domain);
    buf_reset(&d->scratch);
    buf_printf(&d->scratch, "postern setup -c %s --domain %s --node %.*s", d->w->config_path,
               domain->name, SLICE_ARGS(node));
    put_names(d, domain, false);
    return buf_cstr(&d->scratch);
}

/* False, and the finding says why, where AWS did not tell. */
static bool is_seen(const struct seen *s, struct finding *f, const char *absent, const char *mend)
{
    switch (s->result) {
    case INSPECT_FOUND:
        return true;
    case INSPECT_ABSENT:
        (void)finding_add(f, FINDING_FAIL, "%s", absent);
        finding_mend(f, "%s", mend);
        return false;
    case INSPECT_FAILED:
        break;
    }
    if (s->err.code == ERR_DENIED)
        (void)finding_add(f, FINDING_SKIP, "may not be looked at: see \"permissions\"");
    else
        (void)finding_add(f, FINDING_FAIL, "%s", s->err.text);
    return false;
}

/* ---- configuration ---- */

static bool has_secret(const struct config *c)
{
    if (c->aws.secret_access_key[0] != '\0' && getenv("AWS_SECRET_ACCESS_KEY") == NULL)
        return true;
    for (size_t i = 0; i < c->domain_count; i++)
        for (size_t k = 0; k < c->domains[i].api_keys.count; k++)
            if (strncmp(c->domains[i].api_keys.texts[k], "sha256:", 7) != 0)
                return true;
    return false;
}

static void check_configuration(struct doctor *d, size_t at, struct finding *f)
{
    const char *path = d->w->config_path;
    struct stat s;

    (void)at;
    if (d->config == NULL) {
        struct slice rest = buf_slice(&d->mistakes), line;
        while (rest.len > 0) {
            (void)slice_cut(rest, '\n', &line, &rest);
            if (line.len > 0)
                (void)finding_add(f, FINDING_FAIL, "%.*s", SLICE_ARGS(line));
        }
        finding_mend(f,
                     "edit it (postern -t -c %s checks it), or postern setup -c %s --domain "
                     "mail.example.com --region eu-west-1",
                     path, path);
        return;
    }
    if (stat(path, &s) == 0 && (s.st_mode & S_IROTH) != 0 && has_secret(d->config) &&
        finding_add(f, FINDING_WARN, "%s holds keys, and everybody on this machine may read it",
                    path))
        finding_mend(f, "chmod o= %s", path);
    if (d->config->sandbox.enabled &&
        finding_add(f, FINDING_WARN,
                    "sandbox.enabled: all mail goes to a stand-in for SES on this "
                    "machine"))
        finding_mend(f, "postern setup -c %s --domain mail.example.com --region eu-west-1", path);
    (void)finding_add(f, FINDING_OK, "%s, %zu domain%s", path, d->config->domain_count,
                      d->config->domain_count == 1 ? "" : "s");
}

/* ---- credentials, clock, region, permissions ---- */

static void check_credentials(struct doctor *d, size_t at, struct finding *f)
{
    struct patient *p = &d->p;

    (void)at;
    d->is_logged_in = patient_log_in(p);
    if (d->is_logged_in) {
        (void)finding_add(f, FINDING_OK, "from %s: %.*s", session_source(p->session),
                          SLICE_ARGS(json_get_text(p->caller.tree, "Arn")));
        return;
    }
    (void)finding_add(f, FINDING_FAIL, "%s",
                      p->session == NULL ? p->session_err.text : p->caller.err.text);
    if (p->session == NULL)
        finding_mend(f,
                     "README, \"AWS credentials\": a role, a profile, or aws { access_key_id "
                     "secret_access_key } in %s",
                     d->w->config_path);
    else if (p->caller.err.code == ERR_NETWORK)
        finding_mend(f,
                     "this machine's way to AWS: DNS, firewall, HTTPS_PROXY, and the endpoints "
                     "in %s",
                     d->w->config_path);
    else
        finding_mend(f, "a new key (postern setup --iam-user), or the role's policy");
}

static void check_clock(struct doctor *d, size_t at, struct finding *f)
{
    int64_t offset_s;

    (void)at;
    if (d->p.session == NULL || !session_clock_offset_s(d->p.session, &offset_s))
        (void)finding_add(f, FINDING_SKIP, "AWS has not told its time");
    else
        judge_clock(f, offset_s);
}

static void judge_endpoint(struct doctor *d, struct finding *f, const char *setting,
                           const char *url)
{
    struct slice host, rest, region;

    (void)slice_cut(slice_from(slice_str(url), slice_find(slice_str(url), SLICE("://")) + 3), '/',
                    &host, &rest);
    region = judge_endpoint_region(host);
    if (region.len > 0 && !slice_eq(region, slice_str(d->p.region)) &&
        finding_add(f, FINDING_FAIL, "%s is one of %.*s, and the region is %s", setting,
                    SLICE_ARGS(region), d->p.region))
        finding_mend(f, "edit %s: leave aws.%s out, or name the same region", d->w->config_path,
                     setting);
}

static void check_regions(struct doctor *d, size_t at, struct finding *f)
{
    const struct config *c = d->config;
    const struct {
        const char *name, *url;
    } endpoints[] = {{"ses_endpoint", c->aws.ses_endpoint},
                     {"sqs_endpoint", c->aws.sqs_endpoint},
                     {"sns_endpoint", c->aws.sns_endpoint}};

    (void)at;
    if (d->p.region[0] == '\0') {
        (void)finding_add(f, FINDING_SKIP, "no region is known without credentials");
        return;
    }
    for (size_t i = 0; i < sizeof endpoints / sizeof endpoints[0]; i++)
        if (endpoints[i].url[0] != '\0')
            judge_endpoint(d, f, endpoints[i].name, endpoints[i].url);
    for (size_t i = 0; i < d->p.queue_count; i++) {
        struct slice region = sqs_region_of(d->p.queues[i].url);
        if (region.len > 0 && !slice_eq(region, slice_str(d->p.region)) &&
            finding_add(f, FINDING_FAIL,
                        "the queue %s is in %.*s, and SES is asked in %s: they belong together",
                        d->p.queues[i].name, SLICE_ARGS(region), d->p.region))
            finding_mend(f, "%s", queue_setup_command(d, &c->domains[0]));
    }
    (void)finding_add(f, FINDING_OK, "%s", d->p.region);
}

static void check_permissions(struct doctor *d, size_t at, struct finding *f)
{
    struct patient *p = &d->p;

    (void)at;
    patient_look(p);
    for (size_t i = 0; i < p->denied_count; i++)
        (void)finding_add(f, p->denied_needed ? FINDING_FAIL : FINDING_WARN, "%s%s",
                          i == 0 ? "missing: " : "", p->denied[i]);
    if (p->denied_count > 0)
        finding_mend(f, "attach what this prints to %.*s: %s --print-iam",
                     SLICE_ARGS(json_get_text(p->caller.tree, "Arn")),
                     setup_command(d, &d->config->domains[0]));
    (void)finding_add(f, FINDING_OK, "nothing is denied");
}

/* ---- the account ---- */

static bool read_account(struct doctor *d, struct finding *f, struct ses_account *account)
{
    struct buf body = {0};

    if (!is_seen(&d->p.ses_account, f, "SES does not know the account",
                 setup_command(d, &d->config->domains[0])))
        return false;
    json_put_tree(&body, d->p.ses_account.tree);
    bool good = ses_account_parse(buf_slice(&body), account);
    buf_fini(&body);
    return good;
}

static void check_account(struct doctor *d, size_t at, struct finding *f)
{
    struct ses_account account;

    (void)at;
    if (read_account(d, f, &account))
        judge_account(f, &account, json_get_text(d->p.ses_account.tree, "EnforcementStatus"),
                      d->p.region);
}

static void check_quota(struct doctor *d, size_t at, struct finding *f)
{
    struct ses_account account;

    (void)at;
    if (read_account(d, f, &account))
        judge_quota(f, &account);
}

/* ---- domains ---- */

static void check_identity(struct doctor *d, size_t at, struct finding *f)
{
    const struct patient_domain *domain = &d->p.domains[at];

    if (domain->found.result == INSPECT_ABSENT || is_seen(&domain->found, f, "", ""))
        judge_identity(f, domain->found.tree, domain->identity, domain->config->name,
                       setup_command(d, domain->config));
}

static void check_dkim(struct doctor *d, size_t at, struct finding *f)
{
    const struct patient_domain *domain = &d->p.domains[at];

    if (domain->found.result != INSPECT_FOUND)
        (void)finding_add(f, FINDING_SKIP, "there is no identity to look at");
    else
        judge_dkim(f, domain->found.tree, setup_command(d, domain->config));
}

static void check_mail_from(struct doctor *d, size_t at, struct finding *f)
{
    const struct patient_domain *domain = &d->p.domains[at];

    if (domain->found.result != INSPECT_FOUND)
        (void)finding_add(f, FINDING_SKIP, "there is no identity to look at");
    else
        judge_mail_from(f, domain->found.tree, setup_command(d, domain->config));
}

/* ---- configuration sets and what hangs on them ---- */

static void check_set(struct doctor *d, size_t at, struct finding *f)
{
    const struct patient_way *way = &d->p.ways[at];

    if (is_seen(&way->found, f, "there is none of that name: SES refuses what is sent by it",
                setup_command(d, way->domain)))
        judge_set(f, way->found.tree, way->set);
}

static void check_event_types(struct doctor *d, size_t at, struct finding *f)
{
    const struct patient_way *way = &d->p.ways[at];

    if (way->found.result != INSPECT_FOUND)
        (void)finding_add(f, FINDING_SKIP, "there is no configuration set to look at");
    else
        judge_event_types(f, way->found.tree, slice_str(way->topic_arn), way->is_newsletter,
                          setup_command(d, way->domain));
}

/* Whether there is a topic to look at. */
static bool has_topic(const struct patient_way *way, struct finding *f)
{
    if (way->topic.result == INSPECT_FOUND)
        return true;
    (void)finding_add(f, FINDING_SKIP, "there is no topic to look at");
    return false;
}

static void check_topic(struct doctor *d, size_t at, struct finding *f)
{
    const struct patient_way *way = &d->p.ways[at];

    if (way->topic_arn[0] == '\0')
        (void)has_topic(way, f);
    else if (is_seen(&way->topic, f, "the topic of the event destination is not there",
                     setup_command(d, way->domain)))
        judge_topic(f, way->topic.tree, way->set_arn, slice_str(d->p.account),
                    setup_command(d, way->domain));
}

static void check_subscription(struct doctor *d, size_t at, struct finding *f)
{
    const struct patient_way *way = &d->p.ways[at];

    if (has_topic(way, f))
        judge_subscription(f, way->subscription, slice_str(way->topic_arn),
                           queue_setup_command(d, way->domain));
}

static void check_delivery(struct doctor *d, size_t at, struct finding *f)
{
    const struct patient_way *way = &d->p.ways[at];

    if (!has_topic(way, f))
        return;
    if (way->subscription == NULL)
        (void)finding_add(f, FINDING_SKIP, "there is no subscription to look at");
    else
        judge_delivery(f, way->subscription, d->config->queues.verify_sns,
                       queue_setup_command(d, way->domain));
}

static void check_queue_policy(struct doctor *d, size_t at, struct finding *f)
{
    const struct patient_way *way = &d->p.ways[at];
    const struct patient_queue *q = way->queue < d->p.queue_count ? &d->p.queues[way->queue] : NULL;

    if (q == NULL || q->queue.result != INSPECT_FOUND)
        (void)finding_add(f, FINDING_SKIP, "there is no queue to look at");
    else
        judge_queue_policy(f, q->queue.tree, q->arn, slice_str(way->topic_arn),
                           slice_str(d->p.account), queue_setup_command(d, way->domain));
}

/* ---- queues ---- */

static const struct config_domain *domain_of_queue(const struct doctor *d, size_t at)
{
    for (size_t i = 0; i < d->p.way_count; i++)
        if (d->p.ways[i].queue == at)
            return d->p.ways[i].domain;
    return &d->config->domains[0];
}

static void check_queue(struct doctor *d, size_t at, struct finding *f)
{
    if (is_seen(&d->p.queues[at].queue, f, "the queue is not there",
                queue_setup_command(d, domain_of_queue(d, at))))
        (void)finding_add(f, FINDING_OK, "there");
}

static uint64_t number(const cJSON *object, const char *name)
{
    int64_t value;

    return json_get_i64(object, name, &value) && value > 0 ? (uint64_t)value : 0;
}

static uint64_t attribute(const cJSON *queue, const char *name)
{
    uint64_t value = 0;

    (void)slice_to_u64(json_get_text(json_get(queue, "Attributes"), name), &value);
    return value;
}

static void check_depth(struct doctor *d, size_t at, struct finding *f)
{
    const struct patient_queue *q = &d->p.queues[at];
    uint64_t heard_ms = number(json_get(d->p.status, "events"), "heard_ms"), now = clock_wall_ms();
    struct judge_depth depth = {
        .visible = attribute(q->queue.tree, "ApproximateNumberOfMessages"),
        .in_flight = attribute(q->queue.tree, "ApproximateNumberOfMessagesNotVisible"),
        .delayed = attribute(q->queue.tree, "ApproximateNumberOfMessagesDelayed"),
        .is_running = d->p.status != NULL,
        .silent_ms = heard_ms == 0    ? UINT64_MAX
                     : now > heard_ms ? now - heard_ms
                                      : 0,
    };

    if (q->queue.result != INSPECT_FOUND) {
        (void)finding_add(f, FINDING_SKIP, "there is no queue to look at");
        return;
    }
    for (const cJSON *s = json_first(json_get(d->p.status, "queues")); s != NULL; s = s->next)
        if (slice_eq(json_get_text(s, "url"), q->url))
            depth.oldest_ms = number(s, "oldest_ms");
    judge_depth(f, &depth);
}

static void check_dead_letters(struct doctor *d, size_t at, struct finding *f)
{
    const struct patient_queue *q = &d->p.queues[at];
    const struct config_domain *domain = domain_of_queue(d, at);

    if (q->queue.result != INSPECT_FOUND)
        (void)finding_add(f, FINDING_SKIP, "there is no queue to look at");
    else if (q->dead.result != INSPECT_FAILED || q->dead.err.text[0] == '\0' ||
             is_seen(&q->dead, f, "", ""))
        judge_dead_letters(f, q->queue.tree, q->dead.tree, queue_setup_command(d, domain));
}

/* ---- the buffer queue ---- */

static void check_buffer(struct doctor *d, size_t at, struct finding *f)
{
    const char *mend = setup_command(d, &d->config->domains[0]);

    (void)at;
    if (is_seen(&d->p.buffer.queue, f, "the queue is not there: newsletters are answered 503",
                mend))
        judge_buffer(f, d->p.buffer.queue.tree, d->p.buffer.name,
                     d->config->queues.buffer_message_max_bytes, mend);
}

static void check_buffer_depth(struct doctor *d, size_t at, struct finding *f)
{
    const cJSON *queue = d->p.buffer.queue.tree, *told = json_get(d->p.status, "buffer");

    (void)at;
    if (d->p.buffer.queue.result != INSPECT_FOUND) {
        (void)finding_add(f, FINDING_SKIP, "there is no queue to look at");
        return;
    }
    judge_buffer_depth(f,
                       &(struct judge_buffer_depth){
                           .visible = attribute(queue, "ApproximateNumberOfMessages"),
                           .in_flight = attribute(queue, "ApproximateNumberOfMessagesNotVisible"),
                           .is_running = told != NULL,
                           .grows_since_ms = number(told, "grows_since_ms"),
                           .joins_until_ms = number(told, "joins_until_ms"),
                           .returned = number(told, "returned"),
                       },
                       clock_wall_ms());
}

/* From its own event queues alone a machine knows whom others have served: each way that mail goes
 * out has to lead to one of them. */
static void check_own_events(struct doctor *d, size_t at, struct finding *f)
{
    uint64_t youngest_s = 0, buffer_s = attribute(d->p.buffer.queue.tree, "CreatedTimestamp");

    (void)at;
    if (d->p.queue_count == 0 &&
        finding_add(f, FINDING_FAIL,
                    "no event queue is read, and without one nothing is taken from the buffer"))
        finding_mend(f, "%s --node NAME", setup_command(d, &d->config->domains[0]));
    for (size_t i = 0; i < d->p.way_count; i++)
        if (d->p.ways[i].topic.result == INSPECT_FOUND && d->p.ways[i].is_newsletter &&
            d->p.ways[i].subscription == NULL &&
            finding_add(f, FINDING_FAIL,
                        "what others send by %s is not told here, so its readers could get it "
                        "twice",
                        d->p.ways[i].set))
            finding_mend(f, "%s", queue_setup_command(d, d->p.ways[i].domain));
    for (size_t i = 0; i < d->p.queue_count; i++) {
        uint64_t created_s = attribute(d->p.queues[i].queue.tree, "CreatedTimestamp");
        youngest_s = created_s > youngest_s ? created_s : youngest_s;
    }
    if (youngest_s == 0 || buffer_s == 0)
        (void)finding_add(f, FINDING_SKIP, "SQS does not tell when the queues were made");
    else if (joining_until_ms(&(struct joining){.events_wall_ms = youngest_s * 1000,
                                                .buffer_wall_ms = buffer_s * 1000,
                                                .for_ms = d->config->queues.buffer_join_ms},
                              clock_wall_ms()) != 0)
        (void)finding_add(f, FINDING_OK,
                          "young: older newsletters are left to other machines (buffer_join)");
    else
        (void)finding_add(f, FINDING_OK, "as old as they have to be");
}

/* ---- this machine ---- */

static void judge_disk(struct finding *f, const char *dir)
{
    struct statvfs s;

    if (statvfs(dir, &s) != 0)
        return;
    uint64_t free_mib = (uint64_t)s.f_bavail * s.f_frsize >> 20;
    if (free_mib < FREE_WARN_MIB &&
        finding_add(f, free_mib < FREE_FAIL_MIB ? FINDING_FAIL : FINDING_WARN,
                    "%" PRIu64 " MiB are free for %s", free_mib, dir))
        finding_mend(f, "make room, or let retention { events size } keep less");
}

static void check_store(struct doctor *d, size_t at, struct finding *f)
{
    const char *dir = d->config->state_dir;
    struct err err;

    (void)at;
    if (d->p.store == NULL) {
        bool is_new = d->p.store_err.code == ERR_NOT_FOUND && d->p.status == NULL;
        (void)finding_add(f, is_new ? FINDING_SKIP : FINDING_FAIL, "%s: %s", dir,
                          is_new ? "not there yet; the first start makes it" : d->p.store_err.text);
        if (!is_new)
            finding_mend(f,
                         "ls -ld %s: it belongs to the user that Postern runs as, and this "
                         "command is run as that user or root",
                         dir);
        return;
    }
    judge_disk(f, dir);
    struct store_txn *t = store_begin_read(d->p.store, &err);
    if (t == NULL) {
        (void)finding_add(f, FINDING_FAIL, "%s: %s", dir, err.text);
        return;
    }
    uint64_t letters = deadletter_count(t);
    if (letters > 0 &&
        finding_add(f, FINDING_WARN, "%" PRIu64 " messages from SES were not understood", letters))
        finding_mend(f, "postern deadletters -c %s", d->w->config_path);
    (void)finding_add(f, FINDING_OK, "%s, %" PRIu64 " MiB", dir, store_used_bytes(t) >> 20);
    store_end_read(t);
}

static void check_keys(struct doctor *d, size_t at, struct finding *f)
{
    struct err err;
    struct store_txn *t = d->p.store == NULL ? NULL : store_begin_read(d->p.store, &err);

    if (t == NULL && d->p.store_err.code != ERR_NOT_FOUND) {
        (void)finding_add(f, FINDING_SKIP, "the store cannot be read: see \"store\"");
        return;
    }
    find_keys(f, t, d->config, d->p.domains[at].config);
    if (t != NULL)
        store_end_read(t);
}

static void add_troubles(struct finding *f, const cJSON *status)
{
    for (const cJSON *h = json_first(json_get(status, "holds")); h != NULL; h = h->next) {
        struct slice domain = json_get_text(h, "domain"), mend = json_get_text(h, "mend");
        if (finding_add(f, FINDING_FAIL, "%.*s is held: %.*s: %.*s",
                        SLICE_ARGS(domain.len > 0 ? domain : SLICE("the account")),
                        SLICE_ARGS(json_get_text(h, "reason")),
                        SLICE_ARGS(json_get_text(h, "words"))) &&
            mend.len > 0)
            finding_mend(f, "%.*s", SLICE_ARGS(mend));
    }
    for (const cJSON *a = json_first(json_get(status, "alarms")); a != NULL; a = a->next)
        if (finding_add(f, FINDING_FAIL,
                        "%.*s: SES has taken %" PRIu64 " mails, and no event has come back",
                        SLICE_ARGS(json_get_text(a, "domain")), number(a, "sent")))
            finding_mend(f, "%.*s", SLICE_ARGS(json_get_text(a, "mend")));
    struct slice trouble = json_get_text(json_get(status, "credentials"), "trouble");
    if (trouble.len > 0 && finding_add(f, FINDING_WARN, "its credentials cannot be renewed: %.*s",
                                       SLICE_ARGS(trouble)))
        finding_mend(f, "postern status");
}

static void check_postern(struct doctor *d, size_t at, struct finding *f)
{
    size_t processes = 0;

    (void)at;
    if (d->p.status == NULL) {
        bool is_off = d->p.status_err.code == ERR_NOT_FOUND;
        (void)finding_add(f, is_off ? FINDING_SKIP : FINDING_FAIL, "%s",
                          is_off ? "does not run, so what only it knows is left out"
                                 : d->p.status_err.text);
        finding_mend(f, "postern -c %s", d->w->config_path);
        return;
    }
    add_troubles(f, d->p.status);
    for (const cJSON *p = json_first(json_get(d->p.status, "processes")); p != NULL; p = p->next) {
        processes++;
        if (!slice_eq(json_get_text(p, "state"), SLICE("ready")) &&
            finding_add(f, FINDING_WARN, "the process %.*s is %.*s",
                        SLICE_ARGS(json_get_text(p, "name")),
                        SLICE_ARGS(json_get_text(p, "state"))))
            finding_mend(f, "postern status -c %s, and the log", d->w->config_path);
    }
    (void)finding_add(f, FINDING_OK, "runs, %zu processes", processes);
}

static bool always_alive(void *arg)
{
    (void)arg;
    return true;
}

static int get(const struct fetch_request *r, struct fetch_answer *answer, struct err *err)
{
    struct fetch *f = fetch_create(always_alive, NULL);
    int failed = fetch(f, r, answer, err);

    fetch_destroy(f);
    return failed;
}

/* Postern's own word on how it is. */
static bool is_health(const struct fetch_answer *answer)
{
    cJSON *tree = json_parse(buf_slice(&answer->body));
    bool is_one =
        (answer->status == 200 || answer->status == 503) && json_get_text(tree, "status").len > 0;

    json_free(tree);
    return is_one;
}

static const char *put_listener(struct doctor *d, size_t at)
{
    const struct config_address *a = &d->config->listen.list[at];

    buf_reset(&d->scratch);
    if (config_address_is_unix(a))
        buf_add_str(&d->scratch, a->host);
    else
        buf_printf(&d->scratch, strchr(a->host, ':') != NULL ? "[%s]:%s" : "%s:%s", a->host,
                   a->port);
    return buf_cstr(&d->scratch);
}

static void check_listener(struct doctor *d, size_t at, struct finding *f)
{
    struct listener l;
    struct fetch_answer answer;
    struct err err;
    bool runs = d->p.status != NULL;
    char url[sizeof l.url + 16];

    listener_of(d->config, at, &l);
    (void)snprintf(url, sizeof url, "%s/health", l.url);
    if (get(&(struct fetch_request){.method = "GET",
                                    .url = url,
                                    .unix_socket = l.socket,
                                    .any_certificate = true,
                                    .no_proxy = true,
                                    .timeout_ms = HTTP_TIMEOUT_MS},
            &answer, &err) != 0) {
        (void)finding_add(f, runs ? FINDING_FAIL : FINDING_SKIP, "%s",
                          runs ? err.text : "nothing listens, as Postern does not run");
        if (runs)
            finding_mend(f,
                         "postern status -c %s, and the log: after listen was changed Postern "
                         "has to be started again",
                         d->w->config_path);
        return;
    }
    if (!is_health(&answer) || !runs) {
        (void)finding_add(f, FINDING_FAIL,
                          is_health(&answer) ? "another Postern listens there"
                                             : "what listens there is not Postern");
        finding_mend(f, "ss -ltnp, and another address in listen");
    } else if (answer.status != 200) {
        (void)finding_add(f, FINDING_FAIL, "it takes nothing: %s", buf_cstr(&answer.body));
        finding_mend(f, "postern status -c %s", d->w->config_path);
    } else {
        (void)finding_add(f, FINDING_OK, "answers");
    }
    fetch_answer_fini(&answer);
}

/* ---- Ghost ---- */

/* Whether what Ghost posts comes through: as large as newsletters are, with a key that is none, so
 * that a refusal for that is Postern's. */
static void judge_posts(struct doctor *d, struct finding *f)
{
    struct buf url = {0}, body = {0};
    struct fetch_answer answer;
    struct err err;

    buf_printf(&url, "%s/v3/%s/messages", buf_cstr(&d->ghost_origin), d->config->domains[0].name);
    memset(buf_reserve(&body, LARGE_BODY_BYTES), 'x', LARGE_BODY_BYTES);
    body.len = LARGE_BODY_BYTES;
    if (get(&(struct fetch_request){.method = "POST",
                                    .url = buf_cstr(&url),
                                    .body = buf_slice(&body),
                                    .timeout_ms = 3 * HTTP_TIMEOUT_MS},
            &answer, &err) == 0) {
        if (answer.status == 413 &&
            finding_add(f, FINDING_FAIL,
                        "what stands before Postern refuses a newsletter of %d "
                        "MiB (413)",
                        LARGE_BODY_BYTES >> 20))
            finding_mend(f, "nginx: client_max_body_size 64m;");
        else if (answer.status != 401 && answer.status != 413)
            (void)finding_add(f, FINDING_FAIL,
                              "a newsletter without a key is answered with %d instead of 401: "
                              "something between changes requests",
                              answer.status);
        fetch_answer_fini(&answer);
    }
    buf_fini(&url);
    buf_fini(&body);
}

static void check_ghost_url(struct doctor *d, size_t at, struct finding *f)
{
    struct buf url = {0};
    struct fetch_answer answer;
    struct err err;

    (void)at;
    judge_ghost_url(f, d->w->ghost_url, &d->ghost_origin);
    if (f->state == FINDING_FAIL)
        return;
    buf_printf(&url, "%s/health", buf_cstr(&d->ghost_origin));
    if (get(&(struct fetch_request){.method = "GET",
                                    .url = buf_cstr(&url),
                                    .timeout_ms = HTTP_TIMEOUT_MS},
            &answer, &err) != 0) {
        (void)finding_add(f, FINDING_FAIL, "%s: %s", buf_cstr(&d->ghost_origin), err.text);
        finding_mend(f, d->p.status == NULL ? "start Postern, then look again"
                                            : "the address, DNS, the certificate, the proxy "
                                              "before Postern");
    } else {
        if (answer.status >= 300 && answer.status < 400)
            (void)finding_add(f, FINDING_FAIL,
                              "it redirects (%d): what Ghost posts is lost there. Name the "
                              "address that it leads to",
                              answer.status);
        else if (!is_health(&answer))
            (void)finding_add(f, FINDING_FAIL,
                              "what answers there is not Postern (%d): it has to be Postern's "
                              "address, not Ghost's",
                              answer.status);
        else
            judge_posts(d, f);
        fetch_answer_fini(&answer);
        finding_mend(f, "\"baseUrl\" in Ghost's bulkEmail.mailgun (docs/ghost.md), or the proxy "
                        "before Postern");
    }
    if (f->state == FINDING_OK)
        buf_reset(&f->mend);
    buf_fini(&url);
}

static void check_ghost_reads(struct doctor *d, size_t at, struct finding *f)
{
    struct slice domain = slice_str(d->config->domains[at].name);
    struct feed feed;
    struct err err;
    struct store_txn *t = d->p.store == NULL ? NULL : store_begin_read(d->p.store, &err);

    if (t == NULL) {
        (void)finding_add(f, FINDING_SKIP, "there is no store to look at");
        return;
    }
    feed_read(t, domain, &feed);
    judge_reading(f, feed_unread(t, domain, UNREAD_MOST), feed.event_wall_ms, feed.read_wall_ms,
                  clock_wall_ms());
    store_end_read(t);
}

/* ---- the table ---- */

/* TOPICS and LINKS are the same ways as SETS, called by other parts of them. */
enum subject { ONCE, DOMAINS, SETS, TOPICS, LINKS, QUEUES, BUFFER, LISTENERS };
enum need { NEEDS_NOTHING, NEEDS_CONFIG, NEEDS_AWS, NEEDS_GHOST_URL };

static const struct {
    const char *name;
    enum subject subject;
    enum need need;
    void (*run)(struct doctor *d, size_t at, struct finding *f);
} checks[] = {
    {"configuration", ONCE, NEEDS_NOTHING, check_configuration},
    {"credentials", ONCE, NEEDS_CONFIG, check_credentials},
    {"clock", ONCE, NEEDS_CONFIG, check_clock},
    {"regions", ONCE, NEEDS_CONFIG, check_regions},
    {"permissions", ONCE, NEEDS_AWS, check_permissions},
    {"account", ONCE, NEEDS_AWS, check_account},
    {"quota", ONCE, NEEDS_AWS, check_quota},
    {"identity", DOMAINS, NEEDS_AWS, check_identity},
    {"DKIM", DOMAINS, NEEDS_AWS, check_dkim},
    {"MAIL FROM", DOMAINS, NEEDS_AWS, check_mail_from},
    {"configuration set", SETS, NEEDS_AWS, check_set},
    {"event types", SETS, NEEDS_AWS, check_event_types},
    {"topic", TOPICS, NEEDS_AWS, check_topic},
    {"subscription", LINKS, NEEDS_AWS, check_subscription},
    {"raw or wrapped", LINKS, NEEDS_AWS, check_delivery},
    {"queue policy", LINKS, NEEDS_AWS, check_queue_policy},
    {"queue", QUEUES, NEEDS_AWS, check_queue},
    {"queue depth", QUEUES, NEEDS_AWS, check_depth},
    {"dead-letter queue", QUEUES, NEEDS_AWS, check_dead_letters},
    {"buffer queue", BUFFER, NEEDS_AWS, check_buffer},
    {"buffer depth", BUFFER, NEEDS_AWS, check_buffer_depth},
    {"events for the buffer", BUFFER, NEEDS_AWS, check_own_events},
    {"store", ONCE, NEEDS_CONFIG, check_store},
    {"keys", DOMAINS, NEEDS_CONFIG, check_keys},
    {"Postern", ONCE, NEEDS_CONFIG, check_postern},
    {"listener", LISTENERS, NEEDS_CONFIG, check_listener},
    {"Ghost's base URL", ONCE, NEEDS_GHOST_URL, check_ghost_url},
    {"Ghost reads", DOMAINS, NEEDS_GHOST_URL, check_ghost_reads},
};

static size_t count_of(const struct doctor *d, enum subject subject)
{
    switch (subject) {
    case ONCE:
        break;
    case DOMAINS:
        return d->p.domain_count;
    case SETS:
    case TOPICS:
    case LINKS:
        return d->p.way_count;
    case QUEUES:
        return d->p.queue_count;
    case BUFFER:
        return d->p.buffer.url.len > 0 ? 1 : 0;
    case LISTENERS:
        return d->config->listen.count;
    }
    return 1;
}

/* "topic" or "topic → queue"; of what is not there, the configuration set. */
static const char *way_name(struct doctor *d, const struct patient_way *way, bool with_queue)
{
    if (way->topic_arn[0] == '\0')
        return way->set;
    buf_reset(&d->scratch);
    buf_add_str(&d->scratch, last_part(way->topic_arn));
    if (with_queue && way->queue < d->p.queue_count)
        buf_printf(&d->scratch, " → %s", d->p.queues[way->queue].name);
    return buf_cstr(&d->scratch);
}

static const char *about(struct doctor *d, enum subject subject, size_t at)
{
    switch (subject) {
    case ONCE:
        break;
    case DOMAINS:
        return d->p.domains[at].config->name;
    case SETS:
        return d->p.ways[at].set;
    case TOPICS:
        return way_name(d, &d->p.ways[at], false);
    case LINKS:
        return way_name(d, &d->p.ways[at], true);
    case QUEUES:
        return d->p.queues[at].name;
    case BUFFER:
        return d->p.buffer.name;
    case LISTENERS:
        return put_listener(d, at);
    }
    return "";
}

static bool is_to_run(const struct doctor *d, enum need need)
{
    return need == NEEDS_NOTHING ||
           (d->config != NULL && (need != NEEDS_GHOST_URL || d->w->ghost_url != NULL));
}

static void tell(struct doctor *d, const char *check, const char *of, const struct finding *f)
{
    d->sums.count[f->state]++;
    if (f->state == FINDING_FAIL && d->suspect.len == 0)
        buf_printf(&d->suspect, "%s%s%s", check, of[0] != '\0' ? " " : "", of);
    d->w->on_checked(d->w->arg, &(struct doctor_result){check, of, f});
}

static void run_check(struct doctor *d, size_t check, size_t at)
{
    struct finding f = {0};

    if (checks[check].need == NEEDS_AWS && !d->is_logged_in)
        (void)finding_add(&f, FINDING_SKIP, "AWS takes no call: see \"credentials\"");
    else
        checks[check].run(d, at, &f);
    tell(d, checks[check].name, about(d, checks[check].subject, at), &f);
    finding_fini(&f);
}

static void on_mail(void *arg, const char *name, const struct finding *f)
{
    tell(arg, "live", name, f);
}

static void run_live(struct doctor *d)
{
    const struct live_wishes wishes = {
        .api_key = d->w->api_key,
        .patience_ms = d->w->patience_ms,
        .suspect = d->suspect.len > 0 ? buf_cstr(&d->suspect) : NULL,
        .on_waiting = d->w->on_waiting,
        .waiting_arg = d->w->arg,
    };

    for (size_t i = 0; i < d->config->domain_count; i++)
        live_run(&d->p, &d->config->domains[i], &wishes, on_mail, d);
}

struct doctor_sums doctor_run(const struct doctor_wishes *wishes)
{
    struct doctor d = {.w = wishes};

    d.config = config_load(wishes->config_path, &d.mistakes);
    if (d.config != NULL) {
        patient_init(&d.p, d.config);
        patient_ask_postern(&d.p);
    }
    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++)
        for (size_t at = 0; is_to_run(&d, checks[i].need) && at < count_of(&d, checks[i].subject);
             at++)
            run_check(&d, i, at);
    if (wishes->live && d.config != NULL)
        run_live(&d);
    if (d.config != NULL)
        patient_fini(&d.p);
    config_free(d.config);
    buf_fini(&d.mistakes);
    buf_fini(&d.ghost_origin);
    buf_fini(&d.suspect);
    buf_fini(&d.scratch);
    return d.sums;
}
