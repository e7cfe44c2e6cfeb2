/*
 * base/config.h - proxy.conf, read and checked as a whole.
 *
 * SHAPE   libconfuse syntax. One table of settings in config.c gives name, type with unit,
 *         default, range, whether a reload may change it, and one line of help; the parser, `-t`
 *         and the manual come from it.
 * MEMORY  config_load() gives a tree that config_free() frees; const for everyone else. Strings
 *         are NUL-terminated; an unset one is "" (never NULL).
 * ERRORS  Every mistake in the file is reported at once, a line each: "FILE:LINE: what, what to
 *         do".
 * UNITS   In the names.
 * SECRETS AWS's are in the tree and nowhere else once config_load() is over (base/sweep.h).
 */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/log.h"

struct config_address {
    char *host, *port; /* "127.0.0.1", "8080"; host "*" is any; IPv6 without brackets. Or a Unix
                        * socket: its path, "" */
};

struct config_addresses {
    struct config_address *list;
    size_t count;
};

enum { CONFIG_UNIX_PATH_MAX = 107 };

static inline bool config_address_is_unix(const struct config_address *a)
{
    return a->host[0] == '/';
}

struct config_list {
    char **texts;
    size_t count;
};

/* Times in ms, one after another. */
enum { CONFIG_DURATIONS_MAX = 16 };
struct config_durations {
    uint64_t ms[CONFIG_DURATIONS_MAX];
    size_t count;
};

struct config_domain {
    char *name;                            /* lower case */
    struct config_list api_keys;           /* plain, or "sha256:" and 64 hex digits */
    struct config_list sending_keys;       /* may do no more than send */
    struct config_list allowed_from;       /* addresses, domains, "*.domain"; none = any */
    char *system_from;                     /* From of POST /v1/send without one; "" = none */
    struct config_list transactional_tags; /* a message with one of these goes in the fast lane */
    unsigned warmup_first_day;             /* recipients on the first day; 0 = no warm-up */
    uint32_t warmup_growth_ppm;            /* more on each further day */
    char *newsletter_configuration_set;    /* "" = none sent */
    char *system_configuration_set;
    char *untracked_configuration_set;
    char *newsletter_events, *system_events; /* queue URLs of its own, beside the global ones */
    char *webhook_signing_key;               /* "" = the store's own */
};

enum config_rate_kind { RATE_AUTO, RATE_FIXED, RATE_SHARE };
enum config_on_doubt { ON_DOUBT_RESEND, ON_DOUBT_HOLD };
/* How mails are put into SES: the cheapest call that can express them; the same without
 * SendBulkEmail; all as raw MIME. */
/* What becomes of a batch that does not fit the buffer queue's messages. */
enum config_too_large { TOO_LARGE_LOCAL, TOO_LARGE_REFUSE };
enum config_strategy { STRATEGY_AUTO, STRATEGY_SIMPLE, STRATEGY_RAW };

struct config {
    char *path; /* the file it came from */
    struct config_addresses listen;
    unsigned listen_mode;               /* of Unix sockets: permission bits */
    struct config_list api_keys;        /* for all domains */
    struct config_list trusted_proxies; /* addresses, networks ("10.0.0.0/8"), "unix" */
    char *public_url;                   /* "" = from the Host header */
    char *state_dir, *user;
    bool isolation;
    uint64_t grace_ms;
    struct {
        enum log_level level;
        enum log_format format;
        char *destination; /* "stderr", "syslog", "journal", or a file's path */
        bool redact;
        char *redact_key; /* "" = none */
    } log;
    struct {
        unsigned children;
        uint64_t max_body_bytes;
        char *tls_certificate, *tls_key;
        unsigned connections;             /* at once, per process */
        unsigned connections_per_address; /* of them; 0 = no limit */
        unsigned keepalive_requests;      /* before a connection is closed */
        uint64_t keepalive_ms;            /* without a request */
        uint64_t patience_ms;             /* for a request, before it must come at a least rate */
    } httpd;
    struct {
        unsigned children;
        enum config_rate_kind rate_kind;
        uint32_t rate_per_s;   /* RATE_FIXED: recipients a second */
        uint32_t rate_percent; /* RATE_SHARE: of the account's */
        enum config_on_doubt on_doubt;
        uint64_t doubt_window_ms;
        uint64_t hold_ms;          /* what SES will not take now is offered again after this */
        uint64_t upload_window_ms; /* how long uploads may break off all the time */
        unsigned connections;      /* at once, per sender */
        enum config_strategy strategy;
    } sender;
    /* When a domain's newsletters endanger the account. Shares in parts per million; 0 = never. */
    struct {
        uint32_t bounce_warn_ppm, bounce_pause_ppm, complaint_warn_ppm, complaint_pause_ppm;
        unsigned least;        /* recipients sent within the window before anything is judged */
        uint64_t window_ms;    /* over which shares are taken */
        unsigned soft_bounces; /* so many without a delivery between suppress; 0 = never */
        uint64_t soft_bounce_window_ms;
    } guard;
    struct {
        unsigned children;
        unsigned receives; /* long polls in flight per queue and poller, at the most */
    } poller;
    struct {
        char *region; /* "" = the profile's, or instance metadata's: aws/credential_chain.h */
        char *profile;
        bool profile_is_set; /* by the file, and so before AWS's variables that name other keys */
        char *access_key_id, *secret_access_key, *session_token; /* secrets: wiped by config_free */
        char *ses_endpoint, *sqs_endpoint, *sns_endpoint, *sts_endpoint,
            *iam_endpoint; /* "" = the regional ones */
    } aws;
    struct {
        char *newsletter_buffer, *newsletter_events, *system_events; /* queue URLs */
        char *replication_topic; /* ARN; "" = changes stay on this machine */
        uint64_t buffer_message_max_bytes;
        uint64_t buffer_visibility_ms;
        uint64_t buffer_join_ms;
        enum config_too_large buffer_too_large;
        bool verify_sns;               /* only what SNS has signed */
        struct config_list sns_topics; /* ARNs whose signature counts; none = the account's own */
    } queues;
    struct config_list
        event_queues; /* the URLs of all event queues, whoever names them, once each */
    struct config_domain *domains;
    size_t domain_count;
    struct {
        bool enabled;
        struct config_address listen;
    } sandbox;
    struct {
        struct config_durations retries; /* how long after each failed attempt the next is made */
        uint64_t timeout_ms;             /* of an attempt */
        unsigned connections;            /* at once, to all receivers */
        unsigned per_url;                /* at once, to one */
        bool allow_private;              /* receivers in private networks, and on this machine */
    } webhooks;
    struct {
        uint64_t no_events_after_ms, no_outcome_after_ms;
        unsigned no_events_least;
    } alarm;
    struct {
        struct config_addresses listen; /* for /metrics alone */
        char *key;                      /* plain, or its digest; "" = none */
    } metrics;
    struct {
        bool enabled;
        char *path; /* "/dashboard": no slash behind it */
        uint64_t session_ms;
    } dashboard;
    struct {
        uint64_t events_ms, batches_ms;
        uint64_t size_bytes; /* above it the oldest goes before its time */
    } retention;
};

/* NULL on any mistake; then *mistakes holds the lines. ${NAME} and the AWS variables are read from
 * the environment here, once. With sandbox.enabled the AWS endpoints, queues, region and keys that
 * the file leaves out point to the sandbox. */
struct config *config_load(const char *path, struct buf *mistakes);
/* The same for what is about to be completed (postern setup): domains and queues may be missing,
 * whatever the sandbox fills in is left out, and a file that is not there is an empty one. */
struct config *config_load_unfinished(const char *path, struct buf *mistakes);
void config_free(struct config *c);
/* May a running Postern change from one configuration to the other? False: *mistakes has a line for
 * each setting that differs and that takes a restart. */
bool config_may_follow(const struct config *fresh, const struct config *running,
                       struct buf *mistakes);

/* In a process that has no use for AWS's credentials: wipes them, and the whole environment, as any
 * variable may have brought one. */
void config_forget_secrets(struct config *c);

/* What may stand in the file, for the manual. All texts are static. */
struct config_setting {
    const char *section, *name; /* section: "" = outside of all */
    const char *form;           /* of its value, in words */
    const char *absent;         /* what it is when left out; "" = nothing */
    bool reloadable;
    const char *help;
};

/* In the order of the table, section by section; false past the last one. */
bool config_setting_at(size_t at, struct config_setting *setting);

/* A time as the file may hold it: "8s", "10m", "30d". False: it is none. */
bool config_read_duration(const char *text, uint64_t *ms);

/* A key as the file may hold it: the SHA-256 of the key itself. False: "sha256:" is followed by
 * something else than 64 hex digits. */
bool config_key_digest(struct slice text, uint8_t digest[32]);

const struct config_domain *config_domain_find(const struct config *c,
                                               struct slice name); /* any case */
/* That one, or the nearest one above it: of news.example.com, example.com. NULL: neither. */
const struct config_domain *config_domain_above(const struct config *c, struct slice name);

/* How long SQS keeps a received event from other readers. A poller that dies takes what it had
 * received out of sight for so long, so this is well below the doubt window, which waits for those
 * events. */
static inline unsigned config_visibility_s(const struct config *c)
{
    uint64_t s = c->sender.doubt_window_ms / 4000;

    return s < 5 ? 5 : s > 120 ? 120 : (unsigned)s;
}

#endif
