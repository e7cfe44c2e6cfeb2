/*
 * One table of settings. libconfuse reads the file's syntax and hands every value over as text, as
 * it meets it: its line is then known, so each mistake can name it. What a text must look like,
 * what it is when absent, and whether a reload may change it stand in the table.
 *
 * libconfuse stops at the first name it does not know. To report every mistake at once, such a line
 * is noted, blanked and the text parsed again; values are judged in the last pass only.
 */
#include "base/config.h"

#include <assert.h>
#include <confuse.h>
#include <ctype.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/mem.h"
#include "base/nearest.h"
#include "base/network.h"
#include "base/sweep.h"

enum { FILE_BYTES_MAX = 4 * 1024 * 1024, UNKNOWN_MAX = 100 };

enum setting_type {
    TYPE_TEXT,
    TYPE_LIST,      /* of texts */
    TYPE_COUNT,     /* a plain number, range in `least` and `most` */
    TYPE_BYTES,     /* "32M" */
    TYPE_DURATION,  /* "10m" → ms */
    TYPE_DURATIONS, /* a list of them; absent: with commas between */
    TYPE_BOOL,
    TYPE_RATE, /* "auto", a number, "50%" */
    TYPE_LEVEL,
    TYPE_FORMAT,
    TYPE_ON_DOUBT,
    TYPE_STRATEGY,
    TYPE_TOO_LARGE,
    TYPE_SHARE,     /* "0.1%" → parts per million */
    TYPE_ADDRESS,   /* host:port */
    TYPE_ADDRESSES, /* a list of them, and of Unix sockets */
    TYPE_MODE,      /* "0660" */
};

struct setting {
    const char *section; /* "" = top level */
    const char *name;
    enum setting_type type;
    size_t offset; /* in struct config; for "domain": in struct config_domain */
    const char *absent;
    uint64_t least, most; /* of numbers, bytes, milliseconds */
    bool reloadable;
    const char *help;
};

#define AT(member)   offsetof(struct config, member)
#define OF(member)   offsetof(struct config_domain, member)
#define MS_PER_DAY   UINT64_C(86400000)
#define TEN_YEARS_MS (3650 * MS_PER_DAY)

static const struct setting settings[] = {
    /* clang-format off */
    {"", "listen", TYPE_ADDRESSES, AT(listen), "127.0.0.1:8025", 0, 0, true, "addresses to serve: host:port, or unix:/path of a socket"},
    {"", "listen_mode", TYPE_MODE, AT(listen_mode), "0660", 0, 0, true, "permissions of Unix sockets, whose owner is user: who may connect"},
    {"", "trusted_proxies", TYPE_LIST, AT(trusted_proxies), "", 0, 0, true, "who is believed in Forwarded and X-Forwarded-For, -Host, -Proto: addresses, networks (10.0.0.0/8), unix = who comes by a Unix socket"},
    {"", "api_keys", TYPE_LIST, AT(api_keys), "", 0, 0, true, "keys that may use every domain; postern key new"},
    {"", "public_url", TYPE_TEXT, AT(public_url), "", 0, 0, true, "origin that clients see, for paging URLs; empty: from the Host header"},
    {"", "state_dir", TYPE_TEXT, AT(state_dir), "/var/lib/postern", 0, 0, false, "everything that must survive"},
    {"", "user", TYPE_TEXT, AT(user), "", 0, 0, false, "whom children become when started as root"},
    {"", "isolation", TYPE_BOOL, AT(isolation), "true", 0, 0, true, "each process may do only what its work takes (seccomp, Landlock, limits); false: for debuggers and odd kernels"},
    {"", "grace", TYPE_DURATION, AT(grace_ms), "30s", 100, 3600000, true, "time to finish on TERM"},
    {"log", "level", TYPE_LEVEL, AT(log.level), "info", 0, 0, true, "debug, info, warn or error"},
    {"log", "format", TYPE_FORMAT, AT(log.format), "text", 0, 0, true, "text or json"},
    {"log", "destination", TYPE_TEXT, AT(log.destination), "stderr", 0, 0, false, "stderr, syslog, journal, or the path of a file, which USR1 opens anew"},
    {"log", "redact", TYPE_BOOL, AT(log.redact), "true", 0, 0, true, "shorten mail addresses in every line: j***@example.com"},
    {"log", "redact_key", TYPE_TEXT, AT(log.redact_key), "", 0, 0, true, "a secret: shortened addresses carry digits made with it, the same for the same address; empty: none"},
    {"httpd", "children", TYPE_COUNT, AT(httpd.children), "2", 1, 16, true, "HTTP processes"},
    {"httpd", "max_body", TYPE_BYTES, AT(httpd.max_body_bytes), "32M", 65536, 256 << 20, true, "largest request body"},
    {"httpd", "tls_certificate", TYPE_TEXT, AT(httpd.tls_certificate), "", 0, 0, true, "PEM file, its chain behind it; empty: plain HTTP"},
    {"httpd", "tls_key", TYPE_TEXT, AT(httpd.tls_key), "", 0, 0, true, "PEM file; empty: the key is in the certificate's file"},
    {"httpd", "connections", TYPE_COUNT, AT(httpd.connections), "4096", 16, 65536, true, "connections at once, per process; more wait to be accepted; the limit of open files, less 64, may set fewer"},
    {"httpd", "connections_per_address", TYPE_COUNT, AT(httpd.connections_per_address), "512", 0, 65536, true, "of them from one address (IPv6: one /64), per process; more are answered 429; trusted_proxies and Unix sockets are not counted; 0 = no limit"},
    {"httpd", "keepalive_requests", TYPE_COUNT, AT(httpd.keepalive_requests), "10000", 1, 1000000000, true, "requests on one connection, which is then closed"},
    {"httpd", "keepalive", TYPE_DURATION, AT(httpd.keepalive_ms), "75s", 1000, 3600000, true, "how long a connection may stay without a request"},
    {"httpd", "patience", TYPE_DURATION, AT(httpd.patience_ms), "30s", 100, 3600000, true, "a request, with its header and body, must be there after this and a second for each 16 KB of it; so must its answer have been taken"},
    {"sender", "children", TYPE_COUNT, AT(sender.children), "2", 1, 16, true, "sending processes"},
    {"sender", "connections", TYPE_COUNT, AT(sender.connections), "64", 1, 1000, true, "calls to SES at once, per sender"},
    {"sender", "max_rate", TYPE_RATE, AT(sender), "auto", 0, 0, true, "recipients a second: auto, a number, or a share of the account's"},
    {"sender", "on_doubt", TYPE_ON_DOUBT, AT(sender.on_doubt), "resend", 0, 0, true, "when no event settles an unanswered send: resend or hold"},
    {"sender", "doubt_window", TYPE_DURATION, AT(sender.doubt_window_ms), "10m", 100, MS_PER_DAY, true, "how long to wait for that event"},
    {"sender", "hold", TYPE_DURATION, AT(sender.hold_ms), "60s", 1000, 3600000, true, "quota spent, account paused, domain not verified: how long until SES is asked again"},
    {"sender", "upload_window", TYPE_DURATION, AT(sender.upload_window_ms), "2h", 1000, 7 * MS_PER_DAY, true, "a mail whose upload is cut all the time, while SES answers other calls, fails after this long"},
    {"sender", "strategy", TYPE_STRATEGY, AT(sender.strategy), "auto", 0, 0, true, "auto: the cheapest of SES's calls that can express a mail; simple: never SendBulkEmail; raw: always raw MIME"},
    {"guard", "bounce_warn", TYPE_SHARE, AT(guard.bounce_warn_ppm), "5%", 0, 1000000, true, "hard bounces of what a domain sent: say so; 0% = never"},
    {"guard", "bounce_pause", TYPE_SHARE, AT(guard.bounce_pause_ppm), "8%", 0, 1000000, true, "hold the domain's newsletters; 0% = never"},
    {"guard", "complaint_warn", TYPE_SHARE, AT(guard.complaint_warn_ppm), "0.1%", 0, 1000000, true, "complaints: say so; 0% = never"},
    {"guard", "complaint_pause", TYPE_SHARE, AT(guard.complaint_pause_ppm), "0.4%", 0, 1000000, true, "hold the domain's newsletters; 0% = never"},
    {"guard", "least", TYPE_COUNT, AT(guard.least), "1000", 1, 100000000, true, "recipients sent within the window before a share is judged"},
    {"guard", "window", TYPE_DURATION, AT(guard.window_ms), "7d", 3600000, 90 * MS_PER_DAY, true, "over which shares are taken"},
    {"guard", "soft_bounces", TYPE_COUNT, AT(guard.soft_bounces), "5", 0, 1000, true, "temporary failures without a delivery between that suppress an address; 0 = never"},
    {"guard", "soft_bounce_window", TYPE_DURATION, AT(guard.soft_bounce_window_ms), "30d", 1000, TEN_YEARS_MS, true, "within which they count"},
    {"poller", "children", TYPE_COUNT, AT(poller.children), "1", 1, 8, true, "processes that read the queues"},
    {"poller", "receives", TYPE_COUNT, AT(poller.receives), "16", 1, 32, true, "long polls in flight per queue while it is busy; two when it is idle"},
    {"aws", "region", TYPE_TEXT, AT(aws.region), "", 0, 0, true, "AWS region, as eu-west-1; empty: the profile's, or EC2 instance metadata's"},
    {"aws", "profile", TYPE_TEXT, AT(aws.profile), "", 0, 0, true, "profile of AWS's shared files; set here, it wins over AWS's variables with keys"},
    {"aws", "access_key_id", TYPE_TEXT, AT(aws.access_key_id), "", 0, 0, true, "AWS's; with secret_access_key"},
    {"aws", "secret_access_key", TYPE_TEXT, AT(aws.secret_access_key), "", 0, 0, true, "AWS's"},
    {"aws", "session_token", TYPE_TEXT, AT(aws.session_token), "", 0, 0, true, "of temporary credentials"},
    {"aws", "ses_endpoint", TYPE_TEXT, AT(aws.ses_endpoint), "", 0, 0, true, "instead of the regional one"},
    {"aws", "sqs_endpoint", TYPE_TEXT, AT(aws.sqs_endpoint), "", 0, 0, true, "instead of the regional one"},
    {"aws", "sns_endpoint", TYPE_TEXT, AT(aws.sns_endpoint), "", 0, 0, true, "instead of the regional one"},
    {"aws", "sts_endpoint", TYPE_TEXT, AT(aws.sts_endpoint), "", 0, 0, true, "instead of the regional one; asked when a role is assumed"},
    {"aws", "iam_endpoint", TYPE_TEXT, AT(aws.iam_endpoint), "", 0, 0, true, "instead of AWS's; asked by postern setup alone"},
    {"queues", "newsletter_buffer", TYPE_TEXT, AT(queues.newsletter_buffer), "", 0, 0, false, "URL of a FIFO queue for several machines that share newsletters; empty: batches wait in the local store"},
    {"queues", "buffer_message_max", TYPE_BYTES, AT(queues.buffer_message_max_bytes), "256K", 16384, 1048576, true, "of a message on it; the queue's MaximumMessageSize may be less than SQS's 1 MiB"},
    {"queues", "buffer_visibility", TYPE_DURATION, AT(queues.buffer_visibility_ms), "2m", 2000, 3600000, true, "how long a message stays with a machine that says nothing more"},
    {"queues", "buffer_join", TYPE_DURATION, AT(queues.buffer_join_ms), "1d", 0, 1209600000, true, "how long after its event queues were made a machine leaves older newsletters to others; 0s: not at all"},
    {"queues", "buffer_too_large", TYPE_TOO_LARGE, AT(queues.buffer_too_large), "local", 0, 0, true, "what does not fit a message: local, this machine alone keeps and sends it; refuse"},
    {"queues", "replication_topic", TYPE_TEXT, AT(queues.replication_topic), "", 0, 0, true, "ARN of the SNS topic over which several machines tell each other what changes on one of them; empty: they do not"},
    {"queues", "newsletter_events", TYPE_TEXT, AT(queues.newsletter_events), "", 0, 0, true, "queue URL"},
    {"queues", "system_events", TYPE_TEXT, AT(queues.system_events), "", 0, 0, true, "queue URL"},
    {"queues", "verify_sns", TYPE_BOOL, AT(queues.verify_sns), "false", 0, 0, true, "believe only messages with SNS's signature; others become dead letters (raw delivery and EventBridge have none)"},
    {"queues", "sns_topics", TYPE_LIST, AT(queues.sns_topics), "", 0, 0, true, "ARNs of the topics whose signature counts; empty: those of the queue's account"},
    {"sandbox", "enabled", TYPE_BOOL, AT(sandbox.enabled), "false", 0, 0, false, "run the stand-in for SES, SNS and SQS"},
    {"sandbox", "listen", TYPE_ADDRESS, AT(sandbox.listen), "127.0.0.1:8026", 0, 0, false, "where it listens"},
    {"webhooks", "retries", TYPE_DURATIONS, AT(webhooks.retries), "5m, 10m, 15m, 1h, 2h, 4h", 1, 7 * MS_PER_DAY, true, "how long after each attempt that failed the next one is made; after the last the event is given up"},
    {"webhooks", "timeout", TYPE_DURATION, AT(webhooks.timeout_ms), "10s", 100, 120000, true, "how long a receiver may take to answer"},
    {"webhooks", "connections", TYPE_COUNT, AT(webhooks.connections), "64", 2, 1000, true, "attempts at once, to all receivers"},
    {"webhooks", "per_url", TYPE_COUNT, AT(webhooks.per_url), "8", 1, 100, true, "attempts at once, to one URL"},
    {"webhooks", "allow_private", TYPE_BOOL, AT(webhooks.allow_private), "false", 0, 0, true, "let webhooks reach this machine and private networks"},
    {"alarm", "no_events_after", TYPE_DURATION, AT(alarm.no_events_after_ms), "15m", 1000, TEN_YEARS_MS, true, "mails went out and no event has come for so long: say so"},
    {"alarm", "no_events_least", TYPE_COUNT, AT(alarm.no_events_least), "10", 0, 100000000, true, "mails of a domain without any event before that; 0 = never say so"},
    {"alarm", "no_outcome_after", TYPE_DURATION, AT(alarm.no_outcome_after_ms), "24h", 1000, TEN_YEARS_MS, true, "a sent mail neither delivered nor failed by then counts as without outcome"},
    {"metrics", "listen", TYPE_ADDRESSES, AT(metrics.listen), "", 0, 0, true, "addresses that serve /metrics alone, without TLS; beyond this machine only with a key"},
    {"metrics", "key", TYPE_TEXT, AT(metrics.key), "", 0, 0, true, "a key that may read /metrics and nothing else, or its digest (postern key new); empty: those for every domain may"},
    {"dashboard", "enabled", TYPE_BOOL, AT(dashboard.enabled), "true", 0, 0, true, "serve the dashboard; who may see it: postern login"},
    {"dashboard", "path", TYPE_TEXT, AT(dashboard.path), "/dashboard", 0, 0, true, "where it is served, from /"},
    {"dashboard", "session", TYPE_DURATION, AT(dashboard.session_ms), "12h", 1000, 90 * MS_PER_DAY, true, "how long a person stays signed in"},
    {"retention", "events", TYPE_DURATION, AT(retention.events_ms), "90d", 1000, TEN_YEARS_MS, true, "how long events can be read"},
    {"retention", "batches", TYPE_DURATION, AT(retention.batches_ms), "90d", 1000, TEN_YEARS_MS, true, "how long batches are kept"},
    {"retention", "size", TYPE_BYTES, AT(retention.size_bytes), "1024G", 16 << 20, UINT64_C(1) << 50, true, "of the store, above which the oldest goes before its time, but for the last day's"},
    {"domain", "api_keys", TYPE_LIST, OF(api_keys), "", 0, 0, true, "keys that may use this domain, or their digests"},
    {"domain", "sending_keys", TYPE_LIST, OF(sending_keys), "", 0, 0, true, "keys that may only send, for this domain"},
    {"domain", "allowed_from", TYPE_LIST, OF(allowed_from), "", 0, 0, true, "addresses, domains or *.domains that may stand in From; none: any"},
    {"domain", "system_from", TYPE_TEXT, OF(system_from), "", 0, 0, true, "From of a POST /v1/send that names none: name <a@b>, or a@b"},
    {"domain", "transactional_tags", TYPE_LIST, OF(transactional_tags), "", 0, 0, true, "messages with one of these tags overtake newsletters"},
    {"domain", "warmup_first_day", TYPE_COUNT, OF(warmup_first_day), "0", 0, 100000000, true, "newsletter recipients on the first day; 0 = no warm-up"},
    {"domain", "warmup_growth", TYPE_SHARE, OF(warmup_growth_ppm), "50%", 0, 10000000, true, "more on each further day"},
    {"domain", "newsletter_configuration_set", TYPE_TEXT, OF(newsletter_configuration_set), "", 0, 0, true, "SES configuration set of batches; empty: the account's own"},
    {"domain", "system_configuration_set", TYPE_TEXT, OF(system_configuration_set), "", 0, 0, true, "SES configuration set of single mails"},
    {"domain", "untracked_configuration_set", TYPE_TEXT, OF(untracked_configuration_set), "", 0, 0, true, "SES configuration set of mails without tracking, in place of a per-message override"},
    {"domain", "newsletter_events", TYPE_TEXT, OF(newsletter_events), "", 0, 0, true, "URL of a queue of its own, in any region"},
    {"domain", "system_events", TYPE_TEXT, OF(system_events), "", 0, 0, true, "URL of a queue of its own, in any region"},
    {"domain", "webhook_signing_key", TYPE_TEXT, OF(webhook_signing_key), "", 0, 0, true, "what webhooks are signed with; empty: a key that Postern makes, postern webhooks key"},
    /* clang-format on */
};

enum { SETTINGS = sizeof settings / sizeof settings[0] };

static const char *const section_names[] = {
    "",        "log",      "httpd", "sender",  "guard",     "poller",    "aws",   "queues",
    "sandbox", "webhooks", "alarm", "metrics", "dashboard", "retention", "domain"};
enum { SECTIONS = sizeof section_names / sizeof section_names[0] };

/* -------- collecting mistakes -------- */

struct mistake {
    int line;
    char *text;
};

struct reading {
    const char *path;
    struct config *config;
    struct mistake *mistakes;
    size_t mistake_count;
    size_t kept; /* mistakes that outlast a new pass */
    int unknown_line;
    bool broken; /* the syntax itself: no use in going on */
    bool is_unfinished;
};

/* libconfuse's callbacks carry no argument of ours: the reading under way. */
static struct reading *current;

static void __attribute__((format(printf, 3, 4)))
mistake(struct reading *r, int line, const char *format, ...)
{
    struct buf text = {0};
    char words[512];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(words, sizeof words, format, args);
    va_end(args);
    if (line > 0)
        buf_printf(&text, "%s:%d: %s", r->path, line, words);
    else
        buf_printf(&text, "%s: %s", r->path, words);
    for (size_t i = 0; i < r->mistake_count; i++)
        if (strcmp(r->mistakes[i].text, buf_cstr(&text)) == 0) {
            buf_fini(&text);
            return;
        }
    r->mistakes = mem_grow(r->mistakes, (r->mistake_count + 1) * sizeof *r->mistakes);
    r->mistakes[r->mistake_count++] =
        (struct mistake){.line = line, .text = mem_strdup(buf_cstr(&text))};
    buf_fini(&text);
}

static void forget_mistakes(struct reading *r, size_t keep)
{
    while (r->mistake_count > keep)
        free(r->mistakes[--r->mistake_count].text);
}

/* -------- texts to values -------- */

static char **text_at(void *base, size_t offset)
{
    return (char **)(void *)((char *)base + offset);
}

static void set_text(char **slot, const char *text)
{
    free(*slot);
    *slot = mem_strdup(text);
}

/* A number and its unit: false when either is none of ours. */
static bool read_units(const char *text, const char *const *units, const uint64_t *factors,
                       uint64_t *value)
{
    char *end;

    if (!isdigit((unsigned char)text[0]))
        return false;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0)
        return false;
    for (size_t i = 0; units[i] != NULL; i++)
        if (strcmp(end, units[i]) == 0) {
            if (number > UINT64_MAX / factors[i])
                return false;
            *value = number * factors[i];
            return true;
        }
    return false;
}

bool config_read_duration(const char *text, uint64_t *ms)
{
    static const char *const units[] = {"ms", "s", "m", "h", "d", NULL};
    static const uint64_t factors[] = {1, 1000, 60000, 3600000, MS_PER_DAY};

    return read_units(text, units, factors, ms);
}

static bool read_bytes(const char *text, uint64_t *bytes)
{
    static const char *const units[] = {"", "K", "M", "G", NULL};
    static const uint64_t factors[] = {1, 1024, 1 << 20, 1 << 30};

    return read_units(text, units, factors, bytes);
}

/* "host:port" or "[v6]:port". */
static bool read_address(const char *text, struct config_address *a)
{
    struct slice s = slice_str(text);
    size_t colon = slice_rfind_byte(s, ':');
    uint64_t port;

    if (colon == SIZE_MAX || colon == 0)
        return false;
    struct slice host = slice_head(s, colon), digits = slice_from(s, colon + 1);
    if (!slice_to_u64(digits, &port) || port > 65535)
        return false;
    if (host.ptr[0] == '[' && host.ptr[host.len - 1] == ']')
        host = slice_of(host.ptr + 1, host.len - 2);
    else if (slice_find_byte(host, ':') != SIZE_MAX)
        return false;
    free(a->host);
    free(a->port);
    a->host = mem_dup(host.ptr, host.len + 1);
    a->host[host.len] = '\0';
    a->port = mem_strdup((const char *)digits.ptr);
    return true;
}

/* "unix:/run/postern/http.sock" */
static bool read_unix_address(const char *text, struct config_address *a)
{
    static const char mark[] = "unix:";
    const char *path = text + sizeof mark - 1;

    if (strncmp(text, mark, sizeof mark - 1) != 0 || path[0] != '/' ||
        strlen(path) > CONFIG_UNIX_PATH_MAX || path[strlen(path) - 1] == '/')
        return false;
    a->host = mem_strdup(path);
    a->port = mem_strdup("");
    return true;
}

static bool read_choice(const char *text, const char *const *names, int *value)
{
    for (int i = 0; names[i] != NULL; i++)
        if (strcasecmp(text, names[i]) == 0) {
            *value = i;
            return true;
        }
    return false;
}

static bool read_rate(const char *text, struct config *c)
{
    uint64_t number;
    struct slice s = slice_str(text);
    bool share = s.len > 1 && s.ptr[s.len - 1] == '%';

    if (strcasecmp(text, "auto") == 0) {
        c->sender.rate_kind = RATE_AUTO;
        return true;
    }
    if (!slice_to_u64(share ? slice_head(s, s.len - 1) : s, &number) || number == 0 ||
        number > (share ? 100 : 1000000))
        return false;
    c->sender.rate_kind = share ? RATE_SHARE : RATE_FIXED;
    if (share)
        c->sender.rate_percent = (uint32_t)number;
    else
        c->sender.rate_per_s = (uint32_t)number;
    return true;
}

/* "8%" or "0.1%", up to four decimals: parts per million. */
static bool read_share(const char *text, uint64_t *ppm)
{
    struct slice s = slice_str(text), whole, part;
    uint64_t number, decimals = 0;

    if (s.len < 2 || s.ptr[s.len - 1] != '%')
        return false;
    bool has_part = slice_cut(slice_head(s, s.len - 1), '.', &whole, &part);
    if (!slice_to_u64(whole, &number) || number > 1000)
        return false;
    if (has_part && (part.len > 4 || !slice_to_u64(part, &decimals)))
        return false;
    for (size_t i = has_part ? part.len : 4; i < 4; i++)
        decimals *= 10;
    *ppm = number * 10000 + decimals;
    return true;
}

/* "0660": octal, who may read and write. */
static bool read_mode(const char *text, unsigned *mode)
{
    size_t len = strspn(text, "01234567");

    if (text[0] != '0' || text[len] != '\0' || len > 5)
        return false;
    *mode = (unsigned)strtoul(text, NULL, 8);
    return *mode <= 0777;
}

static const char *const level_names[] = {"debug", "info", "warn", "error", NULL};
static const char *const format_names[] = {"text", "json", NULL};
static const char *const doubt_names[] = {"resend", "hold", NULL};
static const char *const strategy_names[] = {"auto", "simple", "raw", NULL};
static const char *const too_large_names[] = {"local", "refuse", NULL};
static const char *const bool_names[] = {"false", "true", "no", "yes", "off", "on", NULL};

static void list_add(struct config_list *list, const char *text)
{
    list->texts = mem_grow(list->texts, (list->count + 1) * sizeof *list->texts);
    list->texts[list->count++] = mem_strdup(text);
}

static void list_clear(struct config_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        OPENSSL_cleanse(list->texts[i], strlen(list->texts[i])); /* many are keys */
        free(list->texts[i]);
    }
    free(list->texts);
    *list = (struct config_list){0};
}

static void out_of_range(struct reading *r, int line, const struct setting *s, const char *text)
{
    mistake(r, line, "%s%s%s = \"%s\" is out of range: %llu to %llu%s", s->section,
            s->section[0] ? "." : "", s->name, text, (unsigned long long)s->least,
            (unsigned long long)s->most, s->type == TYPE_DURATION ? " ms" : "");
}

/* One value; base is the config or a domain of it. line 0: the default. */
static void set_value(struct reading *r, void *base, const struct setting *s, const char *text,
                      int line)
{
    struct config *c = r->config;
    void *slot = (char *)base + s->offset;
    const char *want = NULL;
    uint64_t number = 0;
    int choice = 0;

    switch (s->type) {
    case TYPE_TEXT:
        set_text(slot, text);
        break;
    case TYPE_COUNT:
        if (!slice_to_u64(slice_str(text), &number))
            want = "a whole number";
        else if (number < s->least || number > s->most)
            out_of_range(r, line, s, text);
        else
            *(unsigned *)slot = (unsigned)number;
        break;
    case TYPE_BYTES:
    case TYPE_DURATION:
        if (!(s->type == TYPE_BYTES ? read_bytes(text, &number)
                                    : config_read_duration(text, &number)))
            want = s->type == TYPE_BYTES ? "a size with its unit, as \"32M\" (K, M, G)"
                                         : "a time with its unit, as \"10m\" (ms, s, m, h, d)";
        else if (number < s->least || number > s->most)
            out_of_range(r, line, s, text);
        else
            *(uint64_t *)slot = number;
        break;
    case TYPE_DURATIONS: {
        struct config_durations *list = slot;
        if (!config_read_duration(text, &number))
            want = "times with their unit, as \"10m\" (ms, s, m, h, d)";
        else if (number < s->least || number > s->most)
            out_of_range(r, line, s, text);
        else if (list->count == CONFIG_DURATIONS_MAX)
            mistake(r, line, "%s.%s: %d times at the most", s->section, s->name,
                    CONFIG_DURATIONS_MAX);
        else
            list->ms[list->count++] = number;
        break;
    }
    case TYPE_BOOL:
        if (read_choice(text, bool_names, &choice))
            *(bool *)slot = choice % 2 == 1;
        else
            want = "true or false";
        break;
    case TYPE_RATE:
        if (!read_rate(text, c))
            want =
                "\"auto\", recipients a second as \"14\", or a share of the account's as \"50%\"";
        break;
    case TYPE_LEVEL:
        if (read_choice(text, level_names, &choice))
            c->log.level = (enum log_level)choice;
        else
            want = "debug, info, warn or error";
        break;
    case TYPE_FORMAT:
        if (read_choice(text, format_names, &choice))
            c->log.format = (enum log_format)choice;
        else
            want = "text or json";
        break;
    case TYPE_ON_DOUBT:
        if (read_choice(text, doubt_names, &choice))
            c->sender.on_doubt = (enum config_on_doubt)choice;
        else
            want = "resend or hold";
        break;
    case TYPE_STRATEGY:
        if (read_choice(text, strategy_names, &choice))
            c->sender.strategy = (enum config_strategy)choice;
        else
            want = "auto, simple or raw";
        break;
    case TYPE_TOO_LARGE:
        if (read_choice(text, too_large_names, &choice))
            c->queues.buffer_too_large = (enum config_too_large)choice;
        else
            want = "local or refuse";
        break;
    case TYPE_SHARE:
        if (!read_share(text, &number))
            want = "a share, as \"0.1%\"";
        else if (number > s->most)
            out_of_range(r, line, s, text);
        else
            *(uint32_t *)slot = (uint32_t)number;
        break;
    case TYPE_ADDRESS:
        if (!read_address(text, slot))
            want = "host:port";
        break;
    case TYPE_MODE:
        if (!read_mode(text, slot))
            want = "permissions in octal, as \"0660\"";
        break;
    case TYPE_ADDRESSES: {
        struct config_address a = {0};
        if (!read_unix_address(text, &a) && !read_address(text, &a)) {
            want = "host:port, or unix:/path of no more than 107 bytes";
            break;
        }
        struct config_addresses *all = slot;
        all->list = mem_grow(all->list, (all->count + 1) * sizeof *all->list);
        all->list[all->count++] = a;
        break;
    }
    case TYPE_LIST:
        list_add(slot, text);
        break;
    }
    if (want != NULL)
        mistake(r, line, "%s%s%s = \"%s\": expected %s", s->section, s->section[0] ? "." : "",
                s->name, text, want);
}

static void addresses_clear(struct config_addresses *a)
{
    for (size_t i = 0; i < a->count; i++) {
        free(a->list[i].host);
        free(a->list[i].port);
    }
    free(a->list);
    *a = (struct config_addresses){0};
}

/* -------- libconfuse -------- */

static bool is_list(enum setting_type type)
{
    return type == TYPE_ADDRESSES || type == TYPE_LIST || type == TYPE_DURATIONS;
}

static const struct setting *setting_find(const char *section, const char *name)
{
    for (size_t i = 0; i < SETTINGS; i++)
        if (strcmp(settings[i].section, section) == 0 && strcmp(settings[i].name, name) == 0)
            return &settings[i];
    return NULL;
}

/* The known name that a mistyped one was meant to be; NULL: none is near. */
static const char *suggestion(const char *typed)
{
    const char *names[SETTINGS + SECTIONS];

    for (size_t i = 0; i < SETTINGS + SECTIONS; i++)
        names[i] = i < SETTINGS ? settings[i].name : section_names[i - SETTINGS];
    return nearest_name(typed, names, SETTINGS + SECTIONS);
}

static void __attribute__((format(printf, 2, 0)))
on_error(cfg_t *cfg, const char *format, va_list args)
{
    char words[512];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)vsnprintf(words, sizeof words, format, args);
#pragma GCC diagnostic pop
    int line = cfg != NULL ? cfg->line : 0;
    char name[64];
    if (sscanf(words, "no such option '%63[^']'", name) == 1) {
        const char *known = suggestion(name);
        mistake(current, line, "unknown setting '%s'%s%s%s", name, known ? ": did you mean '" : "",
                known ? known : "", known ? "'?" : "");
        current->unknown_line = line;
        return;
    }
    if (strstr(words, "duplicate title") != NULL)
        mistake(current, line, "this domain stands twice");
    else
        mistake(current, line, "%s", words);
    current->broken = true;
}

/* Called for every option as its value is read: remembers nothing but that it was, and where. */
static int on_value(cfg_t *cfg, cfg_opt_t *opt)
{
    const char *section = cfg_name(cfg);
    bool top = strcmp(section, "root") == 0;
    const struct setting *s = setting_find(top ? "" : section, cfg_opt_name(opt));
    struct config *c = current->config;

    if (s == NULL || strcmp(section, "domain") == 0)
        return 0;
    if (is_list(s->type)) {
        /* Called more than once as a list grows: read it anew each time. */
        if (s->type == TYPE_ADDRESSES)
            addresses_clear((struct config_addresses *)(void *)((char *)c + s->offset));
        else if (s->type == TYPE_DURATIONS)
            ((struct config_durations *)(void *)((char *)c + s->offset))->count = 0;
        else
            list_clear((struct config_list *)(void *)((char *)c + s->offset));
        for (unsigned i = 0; i < cfg_opt_size(opt); i++)
            set_value(current, c, s, cfg_opt_getnstr(opt, i), cfg->line);
        return 0;
    }
    set_value(current, c, s, cfg_opt_getstr(opt), cfg->line);
    return 0;
}

/* -------- domains -------- */

static bool is_domain_name(struct slice s)
{
    if (s.len == 0 || s.len > 253 || slice_find_byte(s, '.') == SIZE_MAX)
        return false;
    for (size_t i = 0; i < s.len; i++)
        if (!isalnum(s.ptr[i]) && s.ptr[i] != '.' && s.ptr[i] != '-')
            return false;
    return s.ptr[0] != '.' && s.ptr[s.len - 1] != '.';
}

static void check_keys(struct reading *r, const struct config_list *keys, const char *where,
                       int line)
{
    uint8_t digest[SHA256_BYTES];

    for (size_t i = 0; i < keys->count; i++) {
        if (keys->texts[i][0] == '\0')
            mistake(r, line, "%s has an empty API key", where);
        else if (!config_key_digest(slice_str(keys->texts[i]), digest))
            mistake(r, line, "%s: behind sha256: an API key has 64 hex digits; postern key new",
                    where);
    }
}

static void read_domain(struct reading *r, cfg_t *section)
{
    struct config *c = r->config;
    struct config_domain d = {0};
    int line = section->line;

    set_text(&d.name, cfg_title(section));
    for (char *at = d.name; *at != '\0'; at++)
        *at = (char)tolower((unsigned char)*at);
    if (!is_domain_name(slice_str(d.name)))
        mistake(r, line, "domain \"%s\": that is no domain name", d.name);
    if (config_domain_find(c, slice_str(d.name)) != NULL) /* in another spelling */
        mistake(r, line, "domain \"%s\" stands twice", d.name);
    for (size_t i = 0; i < SETTINGS; i++) {
        const struct setting *s = &settings[i];
        if (strcmp(s->section, "domain") != 0)
            continue;
        if (s->type == TYPE_LIST) {
            for (unsigned k = 0; k < cfg_size(section, s->name); k++)
                set_value(r, &d, s, cfg_getnstr(section, s->name, k), line);
        } else {
            const char *text = cfg_getstr(section, s->name);
            set_value(r, &d, s, text != NULL ? text : s->absent, line);
        }
    }
    check_keys(r, &d.api_keys, d.name, line);
    check_keys(r, &d.sending_keys, d.name, line);
    c->domains = mem_grow(c->domains, (c->domain_count + 1) * sizeof *c->domains);
    c->domains[c->domain_count++] = d;
}

/* -------- one pass -------- */

static void set_defaults(struct reading *r)
{
    for (size_t i = 0; i < SETTINGS; i++)
        if (strcmp(settings[i].section, "domain") != 0 && !is_list(settings[i].type))
            set_value(r, r->config, &settings[i], settings[i].absent, 0);
}

/* A list that the file does not name. */
static void fill_durations(struct reading *r, const struct setting *s)
{
    struct slice rest = slice_str(s->absent), one;
    char text[32];

    while (rest.len > 0) {
        (void)slice_cut(rest, ',', &one, &rest);
        (void)snprintf(text, sizeof text, "%.*s", SLICE_ARGS(slice_trim(one)));
        set_value(r, r->config, s, text, 0);
    }
}

static void one_pass(struct reading *r, const char *text)
{
    cfg_opt_t opts[SECTIONS][SETTINGS + SECTIONS + 1];
    size_t counts[SECTIONS] = {0};

    for (size_t i = 0; i < SETTINGS; i++) {
        size_t at = 0;
        while (strcmp(section_names[at], settings[i].section) != 0)
            at++;
        bool list = is_list(settings[i].type);
        cfg_opt_t one = CFG_STR(NULL, NULL, CFGF_NODEFAULT);
        cfg_opt_t many = CFG_STR_LIST(NULL, NULL, CFGF_NONE);
        cfg_opt_t *opt = &opts[at][counts[at]++];
        *opt = list ? many : one;
        opt->name = settings[i].name;
    }
    const cfg_opt_t end = CFG_END();
    for (size_t i = 1; i < SECTIONS; i++) {
        opts[i][counts[i]] = end;
        bool domain = strcmp(section_names[i], "domain") == 0;
        cfg_opt_t section = CFG_SEC(
            NULL, opts[i], domain ? CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES : CFGF_NONE);
        section.name = section_names[i];
        opts[0][counts[0]++] = section;
    }
    opts[0][counts[0]] = end;

    cfg_t *cfg = cfg_init(opts[0], CFGF_NONE);
    (void)cfg_set_error_function(cfg, on_error);
    for (size_t i = 0; i < SETTINGS; i++) {
        char path[96];
        (void)snprintf(path, sizeof path, "%s%s%s", settings[i].section,
                       settings[i].section[0] ? "|" : "", settings[i].name);
        (void)cfg_set_validate_func(cfg, path, on_value);
    }
    if (cfg_parse_buf(cfg, text) != CFG_SUCCESS && r->unknown_line == 0 && !r->broken) {
        mistake(r, cfg->line, "not understood here");
        r->broken = true;
    }
    if (r->unknown_line == 0)
        for (unsigned i = 0; i < cfg_size(cfg, "domain"); i++)
            read_domain(r, cfg_getnsec(cfg, "domain", i));
    (void)cfg_free(cfg);
}

static void config_clear(struct config *c);

/* Blanks a line in place, so that the others keep their numbers. False when there is no such line.
 */
static bool blank_line(char *text, int line)
{
    for (; line > 1; line--) {
        text = strchr(text, '\n');
        if (text == NULL)
            return false;
        text++;
    }
    bool any = *text != '\0' && *text != '\n';
    for (; *text != '\0' && *text != '\n'; text++)
        *text = ' ';
    return any;
}

/* What libconfuse lets pass: ${NAME} of an unset variable (it would silently be empty), and a
 * section that the end of the file closes. */
static void check_text(struct reading *r, const char *text)
{
    enum { DEPTH_MAX = 8 };
    int line = 1, opened[DEPTH_MAX] = {0}, depth = 0;
    bool comment = false, quoted = false;

    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '\n') {
            line++;
            comment = false;
        } else if (*at == '"' && !comment && (at == text || at[-1] != '\\')) {
            quoted = !quoted;
        } else if (*at == '#' && !quoted) {
            comment = true;
        } else if (*at == '{' && !quoted && !comment && (at == text || at[-1] != '$')) {
            opened[depth < DEPTH_MAX ? depth : DEPTH_MAX - 1] = line;
            depth++;
        } else if (*at == '}' && !quoted && !comment && depth > 0) {
            depth--;
        } else if (at[0] == '$' && at[1] == '{' && !comment) {
            const char *end = strchr(at, '}');
            char name[128];
            size_t len = end != NULL ? (size_t)(end - at) - 2 : 0;
            if (len == 0 || len >= sizeof name)
                continue;
            memcpy(name, at + 2, len);
            name[len] = '\0';
            if (strchr(name, ':') == NULL && getenv(name) == NULL)
                mistake(r, line, "${%s}: the environment has no such variable", name);
        }
    }
    if (depth > 0)
        mistake(r, opened[(depth < DEPTH_MAX ? depth : DEPTH_MAX) - 1], "this '{' is never closed");
}

/* -------- what follows from other settings -------- */

static void fill(char **slot, const char *text)
{
    if ((*slot)[0] == '\0' && text != NULL)
        set_text(slot, text);
}

static void fill_from_environment(struct config *c)
{
    fill(&c->aws.region, getenv("AWS_REGION"));
    fill(&c->aws.region, getenv("AWS_DEFAULT_REGION"));
    c->aws.profile_is_set = c->aws.profile[0] != '\0';
    fill(&c->aws.profile, getenv("AWS_PROFILE"));
    if (c->aws.access_key_id[0] == '\0' && !c->aws.profile_is_set) {
        fill(&c->aws.access_key_id, getenv("AWS_ACCESS_KEY_ID"));
        fill(&c->aws.secret_access_key, getenv("AWS_SECRET_ACCESS_KEY"));
        fill(&c->aws.session_token, getenv("AWS_SESSION_TOKEN"));
    }
    fill(&c->aws.ses_endpoint, getenv("AWS_ENDPOINT_URL_SESV2"));
    fill(&c->aws.sqs_endpoint, getenv("AWS_ENDPOINT_URL_SQS"));
    fill(&c->aws.sns_endpoint, getenv("AWS_ENDPOINT_URL_SNS"));
    fill(&c->aws.sts_endpoint, getenv("AWS_ENDPOINT_URL_STS"));
    fill(&c->aws.iam_endpoint, getenv("AWS_ENDPOINT_URL_IAM"));
    fill(&c->aws.ses_endpoint, getenv("AWS_ENDPOINT_URL"));
    fill(&c->aws.sqs_endpoint, getenv("AWS_ENDPOINT_URL"));
    fill(&c->aws.sns_endpoint, getenv("AWS_ENDPOINT_URL"));
    fill(&c->aws.sts_endpoint, getenv("AWS_ENDPOINT_URL"));
    fill(&c->aws.iam_endpoint, getenv("AWS_ENDPOINT_URL"));
}

static void fill_for_sandbox(struct config *c)
{
    char url[320], queue[420];
    bool v6 = strchr(c->sandbox.listen.host, ':') != NULL;

    (void)snprintf(url, sizeof url, "http://%s%s%s:%s", v6 ? "[" : "", c->sandbox.listen.host,
                   v6 ? "]" : "", c->sandbox.listen.port);
    fill(&c->aws.region, "us-east-1");
    if (c->aws.access_key_id[0] == '\0') {
        set_text(&c->aws.access_key_id, "sandbox");
        set_text(&c->aws.secret_access_key, "sandbox-secret-key");
    }
    fill(&c->aws.ses_endpoint, url);
    fill(&c->aws.sqs_endpoint, url);
    fill(&c->aws.sns_endpoint, url);
    (void)snprintf(queue, sizeof queue, "%s/000000000000/newsletter-events-queue", url);
    fill(&c->queues.newsletter_events, queue);
    (void)snprintf(queue, sizeof queue, "%s/000000000000/system-events-queue", url);
    fill(&c->queues.system_events, queue);
    for (size_t i = 0; i < c->domain_count; i++) {
        fill(&c->domains[i].newsletter_configuration_set, "ghost-mailgun-proxy-set");
        fill(&c->domains[i].system_configuration_set, "ghost-mailgun-proxy-system-set");
    }
}

static bool is_http_url(const char *s)
{
    return strncmp(s, "http://", 7) == 0 || strncmp(s, "https://", 8) == 0;
}

static void add_event_queue(struct reading *r, const char *url, const char *domain,
                            const char *name)
{
    struct config_list *all = &r->config->event_queues;

    if (url[0] == '\0')
        return;
    if (!is_http_url(url)) {
        mistake(r, 0, "%s%s%s%s = \"%s\" is no http:// or https:// URL",
                domain != NULL ? "domain \"" : "queues", domain != NULL ? domain : "",
                domain != NULL ? "\"." : ".", name, url);
        return;
    }
    for (size_t i = 0; i < all->count; i++)
        if (strcmp(all->texts[i], url) == 0)
            return;
    list_add(all, url);
}

static void gather_event_queues(struct reading *r)
{
    const struct config *c = r->config;
    size_t mistakes = r->mistake_count;

    add_event_queue(r, c->queues.newsletter_events, NULL, "newsletter_events");
    add_event_queue(r, c->queues.system_events, NULL, "system_events");
    for (size_t i = 0; i < c->domain_count; i++) {
        const struct config_domain *d = &c->domains[i];
        add_event_queue(r, d->newsletter_events, d->name, "newsletter_events");
        add_event_queue(r, d->system_events, d->name, "system_events");
    }
    if (c->event_queues.count == 0 && r->mistake_count == mistakes && !r->is_unfinished)
        mistake(r, 0, "queues.newsletter_events is not set: no event would come back");
}

static bool is_of_this_machine(const struct config_address *a)
{
    return config_address_is_unix(a) || strcmp(a->host, "localhost") == 0 ||
           strcmp(a->host, "::1") == 0 || strncmp(a->host, "127.", 4) == 0;
}

static void check_metrics(struct reading *r)
{
    const struct config *c = r->config;
    uint8_t digest[SHA256_BYTES];

    for (size_t i = 0; i < c->metrics.listen.count; i++)
        if (c->metrics.key[0] == '\0' && !is_of_this_machine(&c->metrics.listen.list[i]))
            mistake(r, 0,
                    "metrics.listen: others can reach %s:%s and read everything: set metrics.key, "
                    "or listen on 127.0.0.1",
                    c->metrics.listen.list[i].host, c->metrics.listen.list[i].port);
    if (!config_key_digest(slice_str(c->metrics.key), digest))
        mistake(r, 0, "metrics.key: behind sha256: a key has 64 hex digits; postern key new");
}

/* One or more parts of letters, digits, '-' and '_', each behind a '/'; not where the API is. */
static bool is_dashboard_path(const char *path)
{
    static const char *const taken[] = {"v1", "v2", "v3", "v4", "health", "metrics"};
    struct slice rest = slice_str(path), part;

    if (rest.len < 2 || rest.ptr[0] != '/')
        return false;
    rest = slice_from(rest, 1);
    (void)slice_cut(rest, '/', &part, &(struct slice){0});
    for (size_t i = 0; i < sizeof taken / sizeof taken[0]; i++)
        if (slice_eq(part, slice_str(taken[i])))
            return false;
    for (bool more = true; more;) {
        more = slice_cut(rest, '/', &part, &rest);
        for (size_t i = 0; i < part.len; i++)
            if (!isalnum(part.ptr[i]) && part.ptr[i] != '-' && part.ptr[i] != '_')
                return false;
        if (part.len == 0)
            return false;
    }
    return true;
}

/* Every machine's event queue hears the topic, and those are standard queues. */
static void check_replication(struct reading *r)
{
    const char *arn = r->config->queues.replication_topic;
    size_t colons = 0, len = strlen(arn);

    for (const char *at = arn; *at != '\0'; at++)
        colons += *at == ':';
    if (arn[0] == '\0')
        return;
    if (strncmp(arn, "arn:", 4) != 0 || colons != 5 || arn[len - 1] == ':')
        mistake(r, 0,
                "queues.replication_topic = \"%s\" is no ARN (arn:aws:sns:REGION:ACCOUNT:NAME)",
                arn);
    else if (len > 5 && strcmp(arn + len - 5, ".fifo") == 0)
        mistake(r, 0,
                "queues.replication_topic: a FIFO topic cannot deliver to event queues, which are "
                "standard ones: name the events' topic");
}

/* Only a FIFO queue gives the parts of a repeated POST to one machine at a time. */
static void check_buffer(struct reading *r)
{
    struct slice url = slice_str(r->config->queues.newsletter_buffer), end = SLICE(".fifo");
    const char *const *events = (const char *const *)r->config->event_queues.texts;

    if (url.len == 0)
        return;
    if (!is_http_url(r->config->queues.newsletter_buffer)) {
        mistake(r, 0, "queues.newsletter_buffer = \"%s\" is no http:// or https:// URL",
                r->config->queues.newsletter_buffer);
        return;
    }
    if (url.len < end.len || !slice_eq(slice_from(url, url.len - end.len), end))
        mistake(r, 0,
                "queues.newsletter_buffer: a standard queue may give one message to two machines "
                "at once; name a FIFO queue, whose URL ends in .fifo");
    /* One poller knows for itself how far the event queues have been heard. */
    if (r->config->poller.children != 1)
        mistake(r, 0, "queues.newsletter_buffer goes with poller.children = 1");
    if (r->config->queues.buffer_visibility_ms > r->config->sender.doubt_window_ms)
        mistake(r, 0,
                "queues.buffer_visibility is longer than sender.doubt_window: what a lost machine "
                "sent last would not be waited for");
    for (size_t i = 0; i < r->config->event_queues.count; i++)
        if (slice_eq(slice_str(events[i]), url))
            mistake(r, 0, "queues.newsletter_buffer is an event queue, too: it needs its own");
}

static void check_whole(struct reading *r)
{
    struct config *c = r->config;

    if (c->listen.count == 0)
        set_value(r, c, setting_find("", "listen"), setting_find("", "listen")->absent, 0);
    if (c->webhooks.retries.count == 0)
        fill_durations(r, setting_find("webhooks", "retries"));
    if (c->domain_count == 0 && !r->is_unfinished)
        mistake(r, 0, "no domain: add  domain \"mg.example.com\" { api_keys = {\"…\"} }");
    check_keys(r, &c->api_keys, "the file", 0);
    check_metrics(r);
    for (size_t i = 0; i < c->domain_count; i++)
        if (c->domains[i].system_from[0] != '\0' && strchr(c->domains[i].system_from, '@') == NULL)
            mistake(r, 0, "domain \"%s\": system_from = \"%s\" is no address: name <a@b>, or a@b",
                    c->domains[i].name, c->domains[i].system_from);
    for (size_t i = 0; i < c->domain_count; i++)
        if (!r->is_unfinished &&
            c->domains[i].api_keys.count + c->domains[i].sending_keys.count + c->api_keys.count ==
                0)
            mistake(r, 0, "domain \"%s\" has no api_keys: nobody could use it", c->domains[i].name);
    fill_from_environment(c);
    if (c->sandbox.enabled && !r->is_unfinished)
        fill_for_sandbox(c);
    gather_event_queues(r);
    for (size_t i = 0; i < c->queues.sns_topics.count; i++)
        if (strncmp(c->queues.sns_topics.texts[i], "arn:", 4) != 0)
            mistake(r, 0, "queues.sns_topics: \"%s\" is no ARN (arn:aws:sns:REGION:ACCOUNT:NAME)",
                    c->queues.sns_topics.texts[i]);
    check_replication(r);
    for (size_t i = 0; i < c->trusted_proxies.count; i++) {
        const char *text = c->trusted_proxies.texts[i];
        struct network network;
        if (strcmp(text, "unix") != 0 && !network_read(slice_str(text), &network))
            mistake(r, 0,
                    "trusted_proxies: \"%s\" is no address, no network (10.0.0.0/8), and not unix",
                    text);
    }
    const char *const urls[][2] = {
        {"public_url", c->public_url},
        {"aws.ses_endpoint", c->aws.ses_endpoint},
        {"aws.sqs_endpoint", c->aws.sqs_endpoint},
        {"aws.sns_endpoint", c->aws.sns_endpoint},
        {"aws.sts_endpoint", c->aws.sts_endpoint},
        {"aws.iam_endpoint", c->aws.iam_endpoint},
    };
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++)
        if (urls[i][1][0] != '\0' && !is_http_url(urls[i][1]))
            mistake(r, 0, "%s = \"%s\" is no http:// or https:// URL", urls[i][0], urls[i][1]);
    if (c->queues.newsletter_buffer[0] != '\0')
        check_buffer(r);
    if (c->httpd.tls_certificate[0] == '\0' && c->httpd.tls_key[0] != '\0')
        mistake(r, 0, "httpd.tls_key without httpd.tls_certificate: name both files");
    if (!is_dashboard_path(c->dashboard.path))
        mistake(r, 0,
                "dashboard.path: \"%s\" is no path such as /dashboard: letters, digits, - and _ in "
                "parts of their own, none of them the API's (v2, v3, v4, health)",
                c->dashboard.path);
    static const char *const destinations[] = {"stderr", "syslog", "journal"};
    bool is_known = c->log.destination[0] == '/';
    for (size_t i = 0; i < sizeof destinations / sizeof destinations[0]; i++)
        is_known = is_known || strcmp(c->log.destination, destinations[i]) == 0;
    if (!is_known)
        mistake(r, 0, "log.destination: \"%s\" is not stderr, syslog, journal, or a path from /",
                c->log.destination);
    if ((c->aws.access_key_id[0] == '\0') != (c->aws.secret_access_key[0] == '\0'))
        mistake(r, 0, "aws.access_key_id and aws.secret_access_key go together");
}

/* -------- public -------- */

static char *read_file(struct reading *r)
{
    FILE *f = fopen(r->path, "re");
    char *text = mem_alloc(FILE_BYTES_MAX + 1);

    if (f == NULL && errno == ENOENT && r->is_unfinished) {
        text[0] = '\0';
        return text;
    }
    if (f == NULL) {
        mistake(r, 0, "cannot be opened: %s", strerror(errno));
        free(text);
        return NULL;
    }
    size_t len = fread(text, 1, FILE_BYTES_MAX, f);
    bool bad = ferror(f) != 0;
    (void)fclose(f);
    text[len] = '\0';
    if (bad || strlen(text) != len) {
        mistake(r, 0, bad ? "cannot be read" : "holds a NUL byte: that is no text file");
        free(text);
        return NULL;
    }
    return text;
}

static int by_line(const void *a, const void *b)
{
    const struct mistake *x = a, *y = b;

    return x->line == y->line ? 0 : x->line == 0 ? 1 : y->line == 0 ? -1 : x->line - y->line;
}

struct kept_texts {
    struct slice *texts;
    size_t count;
};

static void keep(struct kept_texts *k, const char *text)
{
    k->texts = mem_grow(k->texts, (k->count + 1) * sizeof *k->texts);
    k->texts[k->count++] = slice_str(text);
}

/* Of a domain, or of all that stands outside of domains. */
static void keep_settings(struct kept_texts *k, void *base, bool of_domain)
{
    for (size_t i = 0; i < SETTINGS; i++) {
        const struct setting *s = &settings[i];
        if ((strcmp(s->section, "domain") == 0) != of_domain)
            continue;
        if (s->type == TYPE_TEXT && *text_at(base, s->offset) != NULL)
            keep(k, *text_at(base, s->offset));
        const struct config_list *list = (void *)((char *)base + s->offset);
        for (size_t t = 0; s->type == TYPE_LIST && t < list->count; t++)
            keep(k, list->texts[t]);
    }
}

/* What libconfuse had in its hands stays in freed memory, and would be forked with it. Our own
 * texts stay, and the environment, which a reload reads again. */
static void sweep_after_reading(struct config *c)
{
    const char *const secrets[] = {c->aws.secret_access_key, c->aws.session_token};
    struct kept_texts kept = {0};

    keep_settings(&kept, c, false);
    for (size_t i = 0; i < c->domain_count; i++)
        keep_settings(&kept, &c->domains[i], true);
    for (char **variable = environ; variable != NULL && *variable != NULL; variable++)
        keep(&kept, *variable);
    for (size_t i = 0; i < sizeof secrets / sizeof secrets[0]; i++)
        (void)sweep(slice_str(secrets[i]), kept.texts, kept.count);
    free(kept.texts);
}

static struct config *load(const char *path, bool is_unfinished, struct buf *mistakes)
{
    struct reading r = {
        .path = path, .config = mem_zero(1, sizeof(struct config)), .is_unfinished = is_unfinished};
    char *text = read_file(&r);

    current = &r;
    if (text != NULL) {
        check_text(&r, text);
        r.kept = r.mistake_count;
        for (int pass = 0; pass < UNKNOWN_MAX; pass++) {
            config_clear(r.config);
            r.unknown_line = 0;
            r.broken = false;
            set_defaults(&r);
            one_pass(&r, text);
            if (r.unknown_line == 0 || !blank_line(text, r.unknown_line))
                break;
            /* Keep only the word about the unknown name, the last one said. */
            struct mistake said = r.mistakes[--r.mistake_count];
            forget_mistakes(&r, r.kept);
            r.mistakes[r.mistake_count++] = said;
            r.kept++;
        }
        if (!r.broken)
            check_whole(&r);
    }
    current = NULL;
    if (text != NULL)
        OPENSSL_cleanse(text, strlen(text)); /* keys may stand in it */
    free(text);
    r.config->path = mem_strdup(path);

    sweep_after_reading(r.config);
    if (r.mistake_count == 0) {
        free(r.mistakes);
        return r.config;
    }
    qsort(r.mistakes, r.mistake_count, sizeof *r.mistakes, by_line);
    for (size_t i = 0; i < r.mistake_count; i++)
        buf_printf(mistakes, "%s%s", i == 0 ? "" : "\n", r.mistakes[i].text);
    forget_mistakes(&r, 0);
    free(r.mistakes);
    config_free(r.config);
    return NULL;
}

struct config *config_load(const char *path, struct buf *mistakes)
{
    return load(path, false, mistakes);
}

struct config *config_load_unfinished(const char *path, struct buf *mistakes)
{
    return load(path, true, mistakes);
}

static void wipe(char *secret)
{
    if (secret != NULL)
        OPENSSL_cleanse(secret, strlen(secret));
}

static void domain_free(struct config_domain *d)
{
    for (size_t i = 0; i < SETTINGS; i++)
        if (strcmp(settings[i].section, "domain") == 0 && settings[i].type == TYPE_TEXT)
            free(*text_at(d, settings[i].offset));
    list_clear(&d->api_keys);
    list_clear(&d->sending_keys);
    list_clear(&d->allowed_from);
    list_clear(&d->transactional_tags);
    free(d->name);
}

static void config_clear(struct config *c)
{
    wipe(c->aws.access_key_id);
    wipe(c->aws.secret_access_key);
    wipe(c->aws.session_token);
    for (size_t i = 0; i < SETTINGS; i++)
        if (settings[i].type == TYPE_TEXT && strcmp(settings[i].section, "domain") != 0)
            free(*text_at(c, settings[i].offset));
    addresses_clear(&c->listen);
    addresses_clear(&c->metrics.listen);
    list_clear(&c->api_keys);
    list_clear(&c->trusted_proxies);
    list_clear(&c->queues.sns_topics);
    list_clear(&c->event_queues);
    free(c->sandbox.listen.host);
    free(c->sandbox.listen.port);
    for (size_t i = 0; i < c->domain_count; i++)
        domain_free(&c->domains[i]);
    free(c->domains);
    free(c->path);
    *c = (struct config){0};
}

void config_free(struct config *c)
{
    if (c == NULL)
        return;
    config_clear(c);
    free(c);
}

void config_forget_secrets(struct config *c)
{
    wipe(c->aws.access_key_id);
    wipe(c->aws.secret_access_key);
    wipe(c->aws.session_token);
    /* Any variable may hold one: the file names them as it likes. */
    for (char **variable = environ; variable != NULL && *variable != NULL; variable++)
        wipe(*variable);
    (void)clearenv();
}

static const char *form_of(enum setting_type type)
{
    switch (type) {
    case TYPE_TEXT:
        return "text";
    case TYPE_LIST:
        return "list of texts";
    case TYPE_COUNT:
        return "number";
    case TYPE_BYTES:
        return "size";
    case TYPE_DURATION:
        return "time";
    case TYPE_DURATIONS:
        return "list of times";
    case TYPE_BOOL:
        return "true or false";
    case TYPE_RATE:
        return "rate";
    case TYPE_LEVEL:
    case TYPE_FORMAT:
    case TYPE_ON_DOUBT:
    case TYPE_STRATEGY:
    case TYPE_TOO_LARGE:
        return "word";
    case TYPE_SHARE:
        return "share";
    case TYPE_ADDRESS:
        return "address";
    case TYPE_ADDRESSES:
        return "list of addresses";
    case TYPE_MODE:
        return "permissions";
    }
    return "";
}

bool config_setting_at(size_t at, struct config_setting *setting)
{
    if (at >= SETTINGS)
        return false;
    const struct setting *s = &settings[at];
    *setting = (struct config_setting){
        .section = s->section,
        .name = s->name,
        .form = form_of(s->type),
        .absent = s->absent,
        .reloadable = s->reloadable,
        .help = s->help,
    };
    return true;
}

static bool differs(const struct setting *s, const struct config *a, const struct config *b)
{
    const void *x = (const char *)a + s->offset, *y = (const char *)b + s->offset;
    const struct config_address *at = x, *other = y;

    switch (s->type) {
    case TYPE_TEXT:
        return strcmp(*(char *const *)x, *(char *const *)y) != 0;
    case TYPE_BOOL:
        return *(const bool *)x != *(const bool *)y;
    case TYPE_ADDRESS:
        return strcmp(at->host, other->host) != 0 || strcmp(at->port, other->port) != 0;
    default:
        assert(false && "a setting of this type can be reloaded");
        return true;
    }
}

bool config_may_follow(const struct config *fresh, const struct config *running,
                       struct buf *mistakes)
{
    bool may = true;

    for (size_t i = 0; i < SETTINGS; i++) {
        const struct setting *s = &settings[i];
        if (s->reloadable || !differs(s, fresh, running))
            continue;
        /* From one file to another is no more than USR1 does. */
        if (s->offset == AT(log.destination) && fresh->log.destination[0] == '/' &&
            running->log.destination[0] == '/')
            continue;
        buf_printf(mistakes, "%s%s: %s%s%s cannot be changed while Postern runs: restart it",
                   mistakes->len > 0 ? "\n" : "", fresh->path, s->section,
                   s->section[0] != '\0' ? "." : "", s->name);
        may = false;
    }
    return may;
}

bool config_key_digest(struct slice text, uint8_t digest[SHA256_BYTES])
{
    const struct slice mark = SLICE("sha256:");
    struct buf bytes = {0};

    if (!slice_starts(text, mark)) {
        digest_sha256(text, digest);
        return true;
    }
    bool right = text_from_hex(&bytes, slice_from(text, mark.len)) && bytes.len == SHA256_BYTES;
    if (right)
        memcpy(digest, bytes.ptr, SHA256_BYTES);
    buf_fini(&bytes);
    return right;
}

const struct config_domain *config_domain_find(const struct config *c, struct slice name)
{
    for (size_t i = 0; i < c->domain_count; i++)
        if (slice_eq_nocase(slice_str(c->domains[i].name), name))
            return &c->domains[i];
    return NULL;
}

const struct config_domain *config_domain_above(const struct config *c, struct slice name)
{
    const struct config_domain *d = NULL;

    for (struct slice rest = name, label; d == NULL && rest.len > 0;
         (void)slice_cut(rest, '.', &label, &rest))
        d = config_domain_find(c, rest);
    return d;
}
