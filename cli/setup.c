/*
 * postern setup - makes what Postern needs in AWS, shows beforehand what that is, and writes the
 * result into proxy.conf; mends it, and takes it away again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "aws/credentials.h"
#include "base/clock.h"
#include "base/mem.h"
#include "cli/flags.h"
#include "cli/options.h"
#include "cli/page.h"
#include "cli/progress.h"
#include "setup/conf_edit.h"
#include "setup/conf_plan.h"
#include "setup/dns.h"
#include "setup/inspect.h"
#include "setup/make.h"
#include "setup/plan.h"
#include "setup/policy.h"
#include "setup/template.h"

enum { PATIENCE_MS_ABSENT = 60000, KIND_COLUMNS = 19, SENDERS_MAX = 64, ANSWER_BYTES = 64 };

#define ACCOUNT_UNKNOWN "ACCOUNT_ID"

enum action {
    ACTION_SET_UP,
    ACTION_REMOVE,
    ACTION_PRINT_IAM,
    ACTION_PRINT_DNS,
    ACTION_CLOUDFORMATION,
    ACTION_TERRAFORM,
};

struct options {
    const char *config_path, *region;
    struct plumbing_names names;
    struct plan_wishes wishes;
    enum action action;
    bool yes, dry_run, json, with_user, force;
    bool node_given; /* be it "none" */
    uint64_t patience_ms;
};

struct setup {
    struct options o;
    struct config *config;           /* of the file, and the environment */
    char *file_region, *file_key_id; /* what the file, and the environment, said before */
    struct session *session;
    struct plumbing plumbing;
    const char *senders[SENDERS_MAX];
    struct buf conf_text;
    const char *account;
    cJSON *caller;
};

/* ---- options ---- */

static int usage(void)
{
    (void)fputs(
        "usage: postern setup --domain NAME [--region NAME] [-c FILE] [option …]\n\n"
        "Makes what Postern needs in AWS, after it has shown what that is and asked.\n\n"
        "options:\n"
        "    -c, --config FILE    the configuration (proxy.conf)\n"
        "    -h, --help           this\n"
        "  what to do (else: make what is missing, mend what differs, write FILE)\n"
        "    --dry-run            show what would be done, and do nothing\n"
        "    --remove             take away what was made, asking for each\n"
        "    --print-iam          the two policies: for running, and for this command\n"
        "    --print-dns          the DNS records that the domain needs\n"
        "    --cloudformation     the same as a CloudFormation template\n"
        "    --terraform          the same as Terraform, in its JSON syntax\n"
        "  how\n"
        "    --yes                do not ask\n"
        "    --json               for machines\n"
        "    --adopt              resources of these names that something else made become ours\n"
        "    --wait SECONDS       for what takes effect late (default 60)\n"
        "  names\n"
        "    --mail-from NAME     MAIL FROM domain (default bounce.DOMAIN; none = SES's own)\n"
        "    --newsletter-set, --system-set, --newsletter-topic, --system-topic,\n"
        "    --newsletter-queue, --system-queue NAME\n"
        "  several machines that share newsletters (docs/scaling.md)\n"
        "    --buffer-queue NAME  also the FIFO queue between them (default: the one in FILE;\n"
        "                         none = none)\n"
        "    --node NAME          this machine's own event queues, …-NAME, on the same topics, "
        "and\n"
        "                         nothing else; with --remove these alone (none = the main ones)\n"
        "    --force              with --remove: queues that are not empty, too\n"
        "  more\n"
        "    --iam-user           also a user mailgun-proxy-worker with access keys, for machines\n"
        "                         outside AWS; on AWS give the machine a role (--print-iam)\n"
        "    --iam-user-name NAME\n"
        "    --wrapped            SNS wraps and signs what it delivers (queues.verify_sns)\n"
        "    --track-system-mail  opens and clicks of single mails, too\n\n"
        "example:\n"
        "  postern setup --domain mail.example.com --region eu-west-1 --dry-run\n\n" CLI_EXIT_HELP,
        stdout);
    return CLI_DONE;
}

static bool read_node(struct options *o, const char *node)
{
    bool prints = o->action != ACTION_SET_UP && o->action != ACTION_REMOVE;

    o->node_given = node != NULL;
    if (node == NULL || strcmp(node, "none") == 0)
        return true;
    if (prints || o->with_user) {
        (void)fprintf(stderr,
                      "postern setup: --node is about a machine's own queues: policies, DNS "
                      "and users are the same for all machines, without it\n");
        return false;
    }
    if (node[0] == '\0')
        (void)fprintf(stderr, "postern setup: which node? --node NAME, or none\n");
    o->names.node = node;
    return node[0] != '\0';
}

static bool read_options(int argc, char **argv, struct options *o)
{
    const char *wait = NULL, *user = "mailgun-proxy-worker", *node = NULL;
    struct plumbing_names *n = &o->names;
    bool remove = false, iam = false, dns = false, cloudformation = false, terraform = false;
    const struct cli_flag flags[] = {
        {"-c", &o->config_path, NULL},
        {"--config", &o->config_path, NULL},
        {"--region", &o->region, NULL},
        {"--domain", &n->domain, NULL},
        {"--mail-from", &n->mail_from, NULL},
        {"--newsletter-set", &n->set[LINE_NEWSLETTER], NULL},
        {"--system-set", &n->set[LINE_SYSTEM], NULL},
        {"--newsletter-topic", &n->topic[LINE_NEWSLETTER], NULL},
        {"--system-topic", &n->topic[LINE_SYSTEM], NULL},
        {"--newsletter-queue", &n->queue[LINE_NEWSLETTER], NULL},
        {"--system-queue", &n->queue[LINE_SYSTEM], NULL},
        {"--buffer-queue", &n->buffer_queue, NULL},
        {"--node", &node, NULL},
        {"--iam-user-name", &user, NULL},
        {"--wait", &wait, NULL},
        {"--yes", NULL, &o->yes},
        {"--dry-run", NULL, &o->dry_run},
        {"--json", NULL, &o->json},
        {"--adopt", NULL, &o->wishes.adopt},
        {"--iam-user", NULL, &o->with_user},
        {"--wrapped", NULL, &n->wrapped},
        {"--track-system-mail", NULL, &n->track_system_mail},
        {"--force", NULL, &o->force},
        {"--remove", NULL, &remove},
        {"--print-iam", NULL, &iam},
        {"--print-dns", NULL, &dns},
        {"--cloudformation", NULL, &cloudformation},
        {"--terraform", NULL, &terraform},
        {"--conf", &o->config_path,
         NULL}, /* the name it had; last, so that nobody is pointed to it */
    };

    *o = (struct options){.config_path = "proxy.conf", .patience_ms = PATIENCE_MS_ABSENT};
    plumbing_names_default(n);
    n->buffer_queue = NULL; /* what the configuration says */
    if (!cli_flags_read(argc, argv, flags, sizeof flags / sizeof flags[0], NULL, 0))
        return false;
    if (remove + iam + dns + cloudformation + terraform > 1) {
        (void)fprintf(stderr, "postern setup: one of --remove, --print-iam, --print-dns, "
                              "--cloudformation, --terraform at a time\n");
        return false;
    }
    o->action = remove           ? ACTION_REMOVE
                : iam            ? ACTION_PRINT_IAM
                : dns            ? ACTION_PRINT_DNS
                : cloudformation ? ACTION_CLOUDFORMATION
                : terraform      ? ACTION_TERRAFORM
                                 : ACTION_SET_UP;
    uint64_t seconds;
    if (wait != NULL && (!slice_to_u64(slice_str(wait), &seconds) || seconds > 3600)) {
        (void)fprintf(stderr, "postern setup: --wait is a number of seconds, up to 3600\n");
        return false;
    }
    if (wait != NULL)
        o->patience_ms = seconds * 1000;
    if (n->domain == NULL) {
        (void)fprintf(stderr, "postern setup: which domain? --domain mail.example.com\n");
        return false;
    }
    o->wishes.mail_from_given = n->mail_from != NULL;
    if (n->mail_from != NULL && strcmp(n->mail_from, "none") == 0)
        n->mail_from = "";
    if (n->buffer_queue != NULL && strcmp(n->buffer_queue, "none") == 0)
        n->buffer_queue = "";
    if (!read_node(o, node))
        return false;
    if (o->with_user)
        n->user = user;
    return true;
}

static void print(const struct buf *text)
{
    if (text->len > 0)
        (void)fwrite(text->ptr, 1, text->len, stdout);
}

static void complain(const struct err *err)
{
    (void)fprintf(stderr, "postern setup: %s\n", err->text);
}

/* ---- what all ways begin with ---- */

/* Who may stand in From, by the configuration, and the new domain. */
static void gather_senders(struct setup *u)
{
    struct plumbing_names *n = &u->o.names;
    size_t count = 0;

    u->senders[count++] = n->domain;
    for (size_t i = 0; i < u->config->domain_count; i++) {
        const struct config_domain *d = &u->config->domains[i];
        bool is_example =
            d->api_keys.count == 1 && strcmp(d->api_keys.texts[0], CONF_PLAN_SANDBOX_KEY) == 0;
        if (count < SENDERS_MAX && strcmp(d->name, n->domain) != 0 && !is_example)
            u->senders[count++] = d->name;
        for (size_t k = 0; k < d->allowed_from.count && count < SENDERS_MAX; k++)
            u->senders[count++] = d->allowed_from.texts[k];
    }
    n->senders = u->senders;
    n->sender_count = count;
}

static void replace_secret(char **text, const char *with)
{
    explicit_bzero(*text, strlen(*text));
    free(*text);
    *text = mem_strdup(with != NULL ? with : "");
}

/* The keys in the file are Postern's, which may not set up. So what the environment names comes
 * first here. */
static void choose_credentials(struct setup *u)
{
    struct config *c = u->config;
    const char *id = getenv("AWS_ACCESS_KEY_ID"), *profile = getenv("AWS_PROFILE");
    bool has_keys = id != NULL && id[0] != '\0';

    u->file_key_id = mem_strdup(c->aws.access_key_id);
    if (!has_keys && (profile == NULL || profile[0] == '\0'))
        return;
    replace_secret(&c->aws.access_key_id, has_keys ? id : "");
    replace_secret(&c->aws.secret_access_key, has_keys ? getenv("AWS_SECRET_ACCESS_KEY") : "");
    replace_secret(&c->aws.session_token, has_keys ? getenv("AWS_SESSION_TOKEN") : "");
    if (!has_keys)
        replace_secret(&c->aws.profile, profile);
    c->aws.profile_is_set = !has_keys;
}

/* The machine whose queues the file names keeps them: two that read one queue would each miss half
 * of what the other has sent. */
static int check_node(const struct setup *u)
{
    const char *const urls[] = {u->config->queues.newsletter_events,
                                u->config->queues.system_events};
    struct slice node = plumbing_node_of(&u->o.names, urls);

    if (u->o.node_given || node.len == 0 ||
        (u->o.action != ACTION_SET_UP && u->o.action != ACTION_REMOVE))
        return 0;
    (void)fprintf(stderr,
                  "postern setup: %s reads the queues of the node \"%.*s\": say --node %.*s for "
                  "them, or --node none for the main ones, which another machine may read\n",
                  u->o.config_path, SLICE_ARGS(node), SLICE_ARGS(node));
    return -1;
}

static int begin(struct setup *u)
{
    struct buf mistakes = {0};
    struct err err;

    u->config = config_load_unfinished(u->o.config_path, &mistakes);
    if (u->config == NULL)
        (void)fprintf(stderr, "%s\n", buf_cstr(&mistakes));
    buf_fini(&mistakes);
    if (u->config == NULL)
        return -1;
    if (conf_edit_read(u->o.config_path, &u->conf_text, &err) != 0) {
        complain(&err);
        return -1;
    }
    choose_credentials(u);
    if (u->o.region != NULL) {
        u->file_region = u->config->aws.region;
        u->config->aws.region = mem_strdup(u->o.region);
    }
    u->o.names.wrapped = u->o.names.wrapped || u->config->queues.verify_sns;
    if (u->o.names.buffer_queue == NULL)
        u->o.names.buffer_queue =
            (const char *)plumbing_queue_name(u->config->queues.newsletter_buffer).ptr;
    if (u->o.names.buffer_queue == NULL)
        u->o.names.buffer_queue = "";
    gather_senders(u);
    return check_node(u);
}

static void finish(struct setup *u)
{
    plumbing_fini(&u->plumbing);
    session_close(u->session);
    json_free(u->caller);
    credentials_wipe(&u->conf_text);
    free(u->file_region);
    free(u->file_key_id);
    config_free(u->config);
}

/* Logs in: credentials, region, account. */
static int log_in(struct setup *u, struct err *err)
{
    u->session = session_open(u->config, err);
    if (u->session == NULL || inspect_caller(u->session, &u->caller, err) != INSPECT_FOUND)
        return -1;
    u->account = json_get(u->caller, "Account")->valuestring;
    return 0;
}

static int look(struct setup *u)
{
    struct err err;

    if (log_in(u, &err) != 0 ||
        plumbing_make(&u->plumbing, &u->o.names, session_region(u->session), u->account, &err) !=
            0 ||
        make_look(u->session, &u->plumbing, &err) != 0) {
        complain(&err);
        if (u->session == NULL && u->config->aws.region[0] == '\0')
            (void)fprintf(stderr, "postern setup: or name it here: --region eu-west-1\n");
        return -1;
    }
    return 0;
}

/* ---- what is printed without a look at AWS ---- */

static void put_pretty(struct buf *to, struct buf *json)
{
    cJSON *tree = json_parse(buf_slice(json));
    char *text = cJSON_Print(tree);

    buf_add_str(to, text);
    buf_add_byte(to, '\n');
    cJSON_free(text);
    json_free(tree);
}

static int print_iam(struct setup *u)
{
    struct buf run = {0}, setup = {0}, out = {0};
    struct err err;

    if (log_in(u, &err) != 0) {
        (void)fprintf(stderr,
                      "postern setup: the account is not known (%s): put its number where %s "
                      "stands\n",
                      err.text, ACCOUNT_UNKNOWN);
        u->account = ACCOUNT_UNKNOWN;
    }
    const char *region = u->session != NULL ? session_region(u->session) : u->config->aws.region;
    if (region[0] == '\0') {
        (void)fprintf(stderr, "postern setup: which region? --region eu-west-1\n");
        return CLI_WRONG_USE;
    }
    if (plumbing_make(&u->plumbing, &u->o.names, region, u->account, &err) != 0) {
        complain(&err);
        return CLI_WRONG_USE;
    }
    policy_put_run_time(&run, &u->plumbing);
    policy_put_setup(&setup, &u->plumbing);
    if (u->o.json) {
        buf_printf(&out, "{\"run_time\":%s,", buf_cstr(&run));
        buf_printf(&out, "\"setup\":%s}\n", buf_cstr(&setup));
    } else {
        buf_add_str(&out, "# For the role (or user) that Postern runs as:\n");
        put_pretty(&out, &run);
        buf_add_str(&out, "\n# For whoever runs `postern setup`, this command:\n");
        put_pretty(&out, &setup);
    }
    print(&out);
    buf_fini(&run);
    buf_fini(&setup);
    buf_fini(&out);
    return CLI_DONE;
}

static int print_template(struct setup *u)
{
    bool terraform = u->o.action == ACTION_TERRAFORM;
    struct buf out = {0};
    struct err err;

    u->o.names.user = "";
    if (u->config->aws.region[0] == '\0') {
        (void)fprintf(stderr, "postern setup: which region? --region eu-west-1\n");
        return CLI_WRONG_USE;
    }
    if (plumbing_make(&u->plumbing, &u->o.names, u->config->aws.region,
                      terraform ? TEMPLATE_ACCOUNT_TERRAFORM : TEMPLATE_ACCOUNT_CLOUDFORMATION,
                      &err) != 0) {
        complain(&err);
        return CLI_WRONG_USE;
    }
    if (terraform)
        template_put_terraform(&out, &u->plumbing);
    else
        template_put_cloudformation(&out, &u->plumbing);
    print(&out);
    buf_fini(&out);
    return CLI_DONE;
}

/* ---- DNS ---- */

static void put_dns(const struct setup *u, struct buf *to, bool zone)
{
    struct dns_records records;
    struct arena arena = {0};

    dns_gather(&records, &arena, u->plumbing.identity->found, u->plumbing.names.domain,
               u->plumbing.mail_from, u->plumbing.region);
    if (u->o.json) {
        dns_put_json(to, &records);
    } else {
        dns_put_table(to, &records);
        if (zone) {
            buf_add_str(to, "\n; the same for a zone file\n");
            dns_put_zone(to, &records);
        }
        if (!records.has_dkim)
            buf_add_str(to, "\nThe DKIM records are missing: SES tells them once the identity is "
                            "made (postern setup).\n");
    }
    arena_fini(&arena);
}

static int print_dns(struct setup *u)
{
    struct buf out = {0};

    if (look(u) != 0)
        return CLI_WRONG_USE;
    put_dns(u, &out, true);
    if (u->o.json)
        buf_add_byte(&out, '\n');
    print(&out);
    buf_fini(&out);
    return u->plumbing.identity->found != NULL ? CLI_DONE : CLI_NOT_SO;
}

/* ---- the plan ---- */

static enum page_colour colour(const struct setup *u, enum resource_state state)
{
    if (u->o.json || !page_has_colour(STDOUT_FILENO))
        return PAGE_PLAIN;
    switch (state) {
    case RESOURCE_CREATE:
        return PAGE_GREEN;
    case RESOURCE_CHANGE:
        return PAGE_YELLOW;
    case RESOURCE_TAKEN:
    case RESOURCE_LACKED:
        return PAGE_RED;
    case RESOURCE_UNKNOWN:
    case RESOURCE_EXISTS:
        break;
    }
    return PAGE_PLAIN;
}

static void put_row(const struct setup *u, struct buf *to, const char *kind, struct slice name,
                    size_t name_columns, enum resource_state state, struct slice differs)
{
    enum page_colour on = colour(u, state);

    page_column(to, slice_str(kind), KIND_COLUMNS);
    page_column(to, name, (unsigned)name_columns);
    buf_add_str(to, "  ");
    page_colour(to, on);
    buf_add_str(to, plan_state_name(state));
    page_colour_end(to, on);
    if (differs.len > 0)
        buf_printf(to, "  %.*s", SLICE_ARGS(differs));
    buf_add_byte(to, '\n');
}

static void show_plan(const struct setup *u, struct slice conf_changes)
{
    struct buf out = {0}, name = {0};
    size_t widest = strlen(u->o.config_path);

    for (size_t i = 0; i < u->plumbing.count; i++) {
        buf_reset(&name);
        plumbing_put_name(&name, &u->plumbing.resources[i]);
        size_t columns = page_width(buf_slice(&name));
        widest = columns > widest ? columns : widest;
    }
    buf_printf(&out, "account %s, region %s, with the credentials of %s\n\n", u->plumbing.account,
               u->plumbing.region, session_source(u->session));
    for (size_t i = 0; i < u->plumbing.count; i++) {
        const struct resource *r = &u->plumbing.resources[i];
        buf_reset(&name);
        plumbing_put_name(&name, r);
        put_row(u, &out, plumbing_kind(r), buf_slice(&name), widest, r->state,
                buf_slice(&r->differs));
    }
    put_row(u, &out, "configuration", slice_str(u->o.config_path), widest,
            conf_changes.len == 0      ? RESOURCE_EXISTS
            : u->conf_text.ptr == NULL ? RESOURCE_CREATE
                                       : RESOURCE_CHANGE,
            conf_changes);
    print(&out);
    (void)fflush(stdout);
    buf_fini(&out);
    buf_fini(&name);
}

/* Yes, no, or no answer to be had. */
static bool ask(const char *question)
{
    char answer[ANSWER_BYTES];

    (void)printf("%s [y/N] ", question);
    (void)fflush(stdout);
    if (fgets(answer, sizeof answer, stdin) == NULL) {
        (void)printf("\n");
        return false;
    }
    return answer[0] == 'y' || answer[0] == 'Y';
}

static bool may_ask(void)
{
    if (isatty(STDIN_FILENO))
        return true;
    (void)fprintf(stderr, "postern setup: standard input is no terminal to ask on: look at the "
                          "plan with --dry-run, and give --yes\n");
    return false;
}

static void say_why_not(const struct setup *u, const struct resource *r)
{
    struct buf name = {0};

    plumbing_put_name(&name, r);
    if (r->state == RESOURCE_LACKED)
        (void)fprintf(stderr,
                      "postern setup: the %s %s is not there: set up the whole first, without "
                      "--node%s\n",
                      plumbing_kind(r), buf_cstr(&name),
                      r == u->plumbing.buffer ? " and with --buffer-queue" : "");
    else
        (void)fprintf(stderr,
                      "postern setup: the %s %s is not ours (%s has no tag \"%s\") and is not as "
                      "it would have to be: %.*s\n",
                      plumbing_kind(r), buf_cstr(&name), r->of != NULL ? r->of->name : "it",
                      PLUMBING_TAG, (int)r->differs.len, (const char *)r->differs.ptr);
    buf_fini(&name);
}

static int say_hindered(const struct setup *u, const struct plan_sums *sums)
{
    for (size_t i = 0; i < u->plumbing.count; i++)
        if (u->plumbing.resources[i].state == RESOURCE_TAKEN ||
            u->plumbing.resources[i].state == RESOURCE_LACKED)
            say_why_not(u, &u->plumbing.resources[i]);
    (void)fprintf(stderr, "postern setup: nothing was done.%s\n",
                  sums->taken > 0
                      ? " Choose other names (postern setup --help), or hand these over "
                        "with --adopt"
                      : "");
    return CLI_NOT_SO;
}

/* ---- set-up ---- */

/* Of the two lines' queues: as SQS tells it; "" = not made yet. */
static void queue_urls(const struct setup *u, struct slice url[PLUMBING_LINES])
{
    for (int line = 0; line < PLUMBING_LINES; line++)
        url[line] = json_get_text(u->plumbing.queue[line]->found, "QueueUrl");
}

static const char *file_region(const struct setup *u)
{
    return u->file_region != NULL ? u->file_region : u->config->aws.region;
}

static bool lacks_key(const struct setup *u)
{
    const struct resource *user = u->plumbing.user;

    if (user == NULL)
        return false;
    for (const cJSON *k = json_first(json_get(user->found, "AccessKeys")); k != NULL; k = k->next)
        if (slice_eq(json_get_text(k, "AccessKeyId"), slice_str(u->file_key_id)))
            return false;
    return true;
}

static int apply(struct setup *u, struct err *err)
{
    for (size_t i = 0; i < u->plumbing.count; i++) {
        struct resource *r = &u->plumbing.resources[i];
        struct buf name = {0};
        if (r->state != RESOURCE_CREATE && r->state != RESOURCE_CHANGE)
            continue;
        plumbing_put_name(&name, r);
        if (!u->o.json) {
            (void)printf("%s %s %s … ", r->state == RESOURCE_CREATE ? "creating" : "changing",
                         plumbing_kind(r), buf_cstr(&name));
            (void)fflush(stdout);
        }
        int failed = make_resource(u->session, r, u->o.patience_ms, err);
        if (!u->o.json)
            (void)printf(failed == 0 ? "done\n" : "failed\n");
        (void)fflush(stdout);
        buf_fini(&name);
        if (failed != 0)
            return -1;
    }
    return 0;
}

/* What AWS tells now is what was wanted. It may take its time to. */
static int read_until_done(struct setup *u, struct progress *bar, struct err *err)
{
    uint64_t began = clock_mono_ms(), until = began + u->o.patience_ms;

    for (;;) {
        progress_show(bar, clock_mono_ms() - began, u->o.patience_ms,
                      "waiting for AWS to tell the new state");
        if (make_look(u->session, &u->plumbing, err) != 0)
            return -1;
        struct plan_sums sums = plan_judge(&u->plumbing, &u->o.wishes);
        size_t open = sums.create + sums.change + sums.taken + sums.lacked;
        if (open == 0)
            return 0;
        if (clock_mono_ms() + 2000 >= until)
            return err_set(err, ERR_INPUT,
                           "AWS does not tell the new state yet of %zu resources: run this again",
                           open);
        session_pause(u->session, 2000);
    }
}

static int read_back(struct setup *u, struct err *err)
{
    struct progress bar = progress_begin("setup");
    int got = read_until_done(u, &bar, err);

    progress_wipe(&bar);
    return got;
}

static int write_conf(struct setup *u, struct conf_plan *conf, struct buf *backup, struct err *err)
{
    struct slice url[PLUMBING_LINES];
    struct buf id = {0}, secret = {0};
    int failed = 0;

    queue_urls(u, url);
    if (lacks_key(u))
        failed = make_access_key(u->session, u->plumbing.user, &id, &secret, err);
    if (failed == 0) {
        struct conf_keys keys = {buf_slice(&id), buf_slice(&secret)};
        conf_plan_make(conf, buf_slice(&u->conf_text), u->config, file_region(u), &u->plumbing, url,
                       &keys);
        if (conf->changes.len > 0)
            failed = conf_edit_save(u->o.config_path, &conf->text, backup, err);
    }
    if (failed != 0 && id.len > 0)
        (void)fprintf(stderr,
                      "postern setup: the access key %s was made and could not be written: delete "
                      "it (aws iam delete-access-key --user-name %s --access-key-id %s)\n",
                      buf_cstr(&id), u->plumbing.user->name, buf_cstr(&id));
    credentials_wipe(&secret);
    buf_fini(&id);
    return failed;
}

/* The settings that name queues and what goes with them, and the values; "" = not made yet. */
struct queue_setting {
    const char *key;
    struct slice url;
};

enum { QUEUE_SETTINGS_MAX = PLUMBING_LINES + 2 };

static size_t queue_settings(const struct setup *u, struct queue_setting list[QUEUE_SETTINGS_MAX])
{
    const struct plumbing *p = &u->plumbing;
    struct slice url[PLUMBING_LINES];
    size_t count = 0;

    queue_urls(u, url);
    if (p->buffer != NULL) {
        list[count++] = (struct queue_setting){"newsletter_buffer",
                                               json_get_text(p->buffer->found, "QueueUrl")};
        list[count++] =
            (struct queue_setting){"replication_topic", slice_str(p->topic[LINE_NEWSLETTER]->arn)};
    }
    list[count++] = (struct queue_setting){"newsletter_events", url[LINE_NEWSLETTER]};
    list[count++] = (struct queue_setting){"system_events", url[LINE_SYSTEM]};
    return count;
}

static void put_queues_json(const struct setup *u, struct buf *to)
{
    struct queue_setting list[QUEUE_SETTINGS_MAX];
    size_t count = queue_settings(u, list);

    buf_add_byte(to, '{');
    for (size_t i = 0; i < count; i++)
        json_put_str(to, list[i].key, list[i].url);
    buf_add_byte(to, '}');
}

/* For the proxy.conf of the machine, should that be another file. */
static void put_queues_section(const struct setup *u, struct buf *to)
{
    struct queue_setting list[QUEUE_SETTINGS_MAX];
    size_t count = queue_settings(u, list);

    buf_printf(to,
               "\nThe queues of the node \"%s\", for its proxy.conf and no other machine's:\n\n"
               "queues {\n",
               u->plumbing.names.node);
    for (size_t i = 0; i < count; i++) {
        buf_printf(to, "    %s = ", list[i].key);
        conf_edit_quote(to, list[i].url);
        buf_add_byte(to, '\n');
    }
    buf_add_str(to, "}\n");
}

static void put_json_result(struct setup *u, struct buf *to, bool done, struct slice conf_changes,
                            struct slice backup, struct slice api_key)
{
    buf_add_byte(to, '{');
    json_put_bool(to, "done", done);
    json_put_str(to, "account", slice_str(u->plumbing.account));
    json_put_str(to, "region", slice_str(u->plumbing.region));
    json_put_name(to, "resources");
    buf_add_byte(to, '[');
    for (size_t i = 0; i < u->plumbing.count; i++) {
        struct resource *r = &u->plumbing.resources[i];
        struct buf name = {0};
        plumbing_put_name(&name, r);
        buf_add_str(to, i == 0 ? "{" : ",{");
        json_put_str(to, "kind", slice_str(plumbing_kind(r)));
        json_put_str(to, "name", buf_slice(&name));
        json_put_str(to, "state", slice_str(plan_state_name(r->state)));
        json_put_str(to, "differs", buf_slice(&r->differs));
        buf_add_byte(to, '}');
        buf_fini(&name);
    }
    buf_add_byte(to, ']');
    json_put_name(to, "conf");
    buf_add_byte(to, '{');
    json_put_str(to, "path", slice_str(u->o.config_path));
    json_put_str(to, "changes", conf_changes);
    json_put_str(to, "backup", backup);
    buf_add_byte(to, '}');
    if (api_key.len > 0)
        json_put_str(to, "api_key", api_key);
    json_put_name(to, "queues");
    put_queues_json(u, to);
    if (u->plumbing.identity != NULL) {
        json_put_name(to, "dns");
        put_dns(u, to, false);
    }
    buf_add_str(to, "}\n");
}

static void say_next(struct setup *u, const struct conf_plan *conf, const struct buf *backup)
{
    const cJSON *identity = u->plumbing.identity != NULL ? u->plumbing.identity->found : NULL;
    struct buf out = {0};

    if (conf->changes.len > 0) {
        buf_printf(&out, "\n%s is written", u->o.config_path);
        if (backup->len > 0)
            buf_printf(&out, "; what it was is in %.*s", SLICE_ARGS(buf_slice(backup)));
        buf_add_str(&out, ".\n");
    }
    if (conf->api_key.len > 0)
        buf_printf(&out,
                   "\nThe API key for Ghost (its Mailgun settings). It is not shown again:\n\n"
                   "    %.*s\n",
                   SLICE_ARGS(buf_slice(&conf->api_key)));
    if (u->plumbing.is_of_node) {
        put_queues_section(u, &out);
    } else if (!json_get_bool(identity, "VerifiedForSendingStatus", false)) {
        buf_printf(&out, "\nSES sends for %s once it finds these DNS records:\n\n",
                   u->plumbing.names.domain);
        put_dns(u, &out, false);
    }
    if (u->plumbing.buffer != NULL && conf->changes.len > 0)
        buf_add_str(&out, "\nA buffer queue that is new to a running Postern is used after a "
                          "restart (docs/scaling.md).\n");
    print(&out);
    credentials_wipe(&out); /* the API key stood in it */
}

static int set_up(struct setup *u)
{
    struct conf_plan preview, conf = {0};
    struct slice url[PLUMBING_LINES];
    struct buf backup = {0}, out = {0};
    struct err err;
    int status = CLI_DONE;

    if (look(u) != 0)
        return CLI_WRONG_USE;
    struct plan_sums sums = plan_judge(&u->plumbing, &u->o.wishes);
    queue_urls(u, url);
    conf_plan_make(&preview, buf_slice(&u->conf_text), u->config, file_region(u), &u->plumbing, url,
                   &(struct conf_keys){lacks_key(u) ? SLICE("?") : slice_none(), SLICE("?")});
    size_t hindered = sums.taken + sums.lacked;
    bool nothing = sums.create + sums.change + hindered == 0 && preview.changes.len == 0;
    if (!u->o.json)
        show_plan(u, buf_slice(&preview.changes));
    if (hindered > 0 || nothing || u->o.dry_run) {
        if (u->o.json) {
            put_json_result(u, &out, nothing, buf_slice(&preview.changes), slice_none(),
                            slice_none());
            print(&out);
        } else if (nothing) {
            (void)printf("\nNothing to do: all is as it should be.\n");
            say_next(u, &preview, &backup);
        }
        if (hindered > 0)
            status = say_hindered(u, &sums);
    } else if (!u->o.yes && !may_ask()) {
        status = CLI_WRONG_USE;
    } else if (!u->o.yes && !ask("\nDo this?")) {
        (void)printf("nothing was done\n");
        status = CLI_NOT_SO;
    } else {
        if (!u->o.json)
            (void)printf("\n");
        if (apply(u, &err) != 0 || read_back(u, &err) != 0 ||
            write_conf(u, &conf, &backup, &err) != 0) {
            complain(&err);
            (void)fprintf(stderr, "postern setup: what was done is done; run it again to go on\n");
            status = CLI_WRONG_USE;
        } else if (u->o.json) {
            put_json_result(u, &out, true, buf_slice(&conf.changes), buf_slice(&backup),
                            buf_slice(&conf.api_key));
            print(&out);
        } else {
            say_next(u, &conf, &backup);
        }
    }
    conf_plan_fini(&preview);
    conf_plan_fini(&conf);
    buf_fini(&backup);
    credentials_wipe(&out);
    return status;
}

/* ---- removing ---- */

static void put_question(struct buf *to, const struct resource *r, const struct plumbing *p)
{
    const cJSON *attributes = json_get(r->found, "Attributes");
    struct slice waiting = json_get_text(attributes, "ApproximateNumberOfMessages");
    int others = cJSON_GetArraySize(json_get(r->found, "Subscriptions")) - 1;

    buf_printf(to, "remove the %s ", plumbing_kind(r));
    plumbing_put_name(to, r);
    if (r->kind == RESOURCE_QUEUE && waiting.len > 0 && !slice_eq(waiting, SLICE("0")))
        buf_printf(to, ", with %.*s messages in it", SLICE_ARGS(waiting));
    if (r->kind == RESOURCE_TOPIC && others > 0)
        buf_printf(to, ", which has %d further subscriptions", others);
    if (r->kind == RESOURCE_IDENTITY)
        buf_printf(to, ", after which SES sends nothing more for %s", p->names.domain);
    if (r->kind == RESOURCE_USER)
        buf_add_str(to, ", and its access keys");
    buf_add_byte(to, '?');
}

static bool is_empty(const struct resource *r)
{
    static const char *const counts[] = {"ApproximateNumberOfMessages",
                                         "ApproximateNumberOfMessagesNotVisible",
                                         "ApproximateNumberOfMessagesDelayed"};
    const cJSON *attributes = json_get(r->found, "Attributes");

    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct slice count = json_get_text(attributes, counts[i]);
        if (count.len > 0 && !slice_eq(count, SLICE("0")))
            return false;
    }
    return true;
}

/* What lies in a node's queue is news that only this machine lacks, and in the buffer mail that was
 * accepted: both are asked for twice. */
static bool may_go(const struct setup *u)
{
    bool all = true;

    for (size_t i = 0; i < u->plumbing.count; i++) {
        const struct resource *r = &u->plumbing.resources[i];
        if (r->kind != RESOURCE_QUEUE || !plan_is_ours(r) || is_empty(r) || u->o.force ||
            !(u->plumbing.is_of_node || r == u->plumbing.buffer))
            continue;
        (void)fprintf(stderr, "postern setup: the %s %s is not empty\n", plumbing_kind(r), r->name);
        all = false;
    }
    if (!all)
        (void)fprintf(stderr, "postern setup: nothing was removed. Let Postern empty them, or give "
                              "--force\n");
    return all;
}

static int take_away(struct setup *u)
{
    size_t removed = 0, left = 0;
    struct buf name = {0};
    struct err err;

    if (look(u) != 0)
        return CLI_WRONG_USE;
    if (!may_go(u))
        return CLI_NOT_SO;
    if (!u->o.yes && !u->o.dry_run && !may_ask())
        return CLI_WRONG_USE;
    for (size_t i = u->plumbing.count; i-- > 0;) {
        struct resource *r = &u->plumbing.resources[i];
        if (r->found == NULL || r->is_given)
            continue;
        buf_reset(&name);
        plumbing_put_name(&name, r);
        if (!plan_is_ours(r)) {
            (void)printf("%s %s is not ours, and stays\n", plumbing_kind(r), buf_cstr(&name));
            continue;
        }
        if (u->o.dry_run) {
            (void)printf("%s %s would be removed\n", plumbing_kind(r), buf_cstr(&name));
            continue;
        }
        buf_reset(&name);
        put_question(&name, r, &u->plumbing);
        if (!u->o.yes && !ask(buf_cstr(&name))) {
            left++;
            continue;
        }
        if (make_removal(u->session, r, &err) != 0) {
            complain(&err);
            buf_fini(&name);
            return CLI_WRONG_USE;
        }
        buf_reset(&name);
        plumbing_put_name(&name, r);
        (void)printf("removed the %s %s\n", plumbing_kind(r), buf_cstr(&name));
        removed++;
    }
    buf_fini(&name);
    if (!u->o.dry_run)
        (void)printf("%zu removed%s; %s still names them%s\n", removed,
                     left > 0 ? ", the others stay" : "",
                     u->plumbing.is_of_node ? "the machine's proxy.conf" : u->o.config_path,
                     u->plumbing.is_of_node ? "" : ", and DNS has its records");
    return CLI_DONE;
}

int cli_setup(int argc, char **argv)
{
    struct setup u = {0};
    int status = CLI_WRONG_USE;

    if (cli_wants_help(argc, argv))
        return usage();
    if (!read_options(argc, argv, &u.o))
        return CLI_WRONG_USE;
    if (begin(&u) == 0)
        switch (u.o.action) {
        case ACTION_SET_UP:
            status = set_up(&u);
            break;
        case ACTION_REMOVE:
            status = take_away(&u);
            break;
        case ACTION_PRINT_IAM:
            status = print_iam(&u);
            break;
        case ACTION_PRINT_DNS:
            status = print_dns(&u);
            break;
        case ACTION_CLOUDFORMATION:
        case ACTION_TERRAFORM:
            status = print_template(&u);
            break;
        }
    finish(&u);
    return status;
}
