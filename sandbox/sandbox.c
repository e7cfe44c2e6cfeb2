/*
 * The sandbox's process: options, the HTTP server, who answers what, and the control endpoint under
 * /_sandbox/, which needs no signature and is for tests and demonstrations.
 */
#include "sandbox/sandbox.h"

#include <event2/buffer.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "sandbox/cloud_query.h"

enum { BODY_BYTES_MAX = 64 * 1024 * 1024, IDLE_S = 120 };

/* -------- options -------- */

enum option_type { OPTION_DOUBLE, OPTION_U64, OPTION_UNSIGNED, OPTION_BOOL };

#define OPTION(name, type)                                                                         \
    {                                                                                              \
#name, type, offsetof(struct cloud_options, name)                                          \
    }

static const struct {
    const char *name;
    enum option_type type;
    size_t offset;
} options[] = {
    OPTION(max_send_rate, OPTION_DOUBLE),
    OPTION(max_24h_send, OPTION_DOUBLE),
    OPTION(latency_ms, OPTION_U64),
    OPTION(delivery_delay_ms_min, OPTION_U64),
    OPTION(delivery_delay_ms_max, OPTION_U64),
    OPTION(event_delay_ms, OPTION_U64),
    OPTION(bounce_rate, OPTION_UNSIGNED),
    OPTION(soft_bounce_rate, OPTION_UNSIGNED),
    OPTION(complaint_rate, OPTION_UNSIGNED),
    OPTION(open_rate, OPTION_UNSIGNED),
    OPTION(click_rate, OPTION_UNSIGNED),
    OPTION(delay_rate, OPTION_UNSIGNED),
    OPTION(throttle_rate, OPTION_UNSIGNED),
    OPTION(fail_rate, OPTION_UNSIGNED),
    OPTION(fail_status, OPTION_UNSIGNED),
    OPTION(lose_answer_rate, OPTION_UNSIGNED),
    OPTION(reset_before_accept_rate, OPTION_UNSIGNED),
    OPTION(event_repeat_rate, OPTION_UNSIGNED),
    OPTION(garbage_event_rate, OPTION_UNSIGNED),
    OPTION(verify_body, OPTION_BOOL),
    OPTION(sign_notifications, OPTION_BOOL),
    OPTION(certificate_status, OPTION_UNSIGNED),
    OPTION(local_parts, OPTION_BOOL),
    OPTION(any_sender, OPTION_BOOL),
    OPTION(production_access, OPTION_BOOL),
    OPTION(sending_enabled, OPTION_BOOL),
    OPTION(enforcement, OPTION_UNSIGNED),
    OPTION(sent_before, OPTION_U64),
    OPTION(queue_deleted_wait_s, OPTION_U64),
    OPTION(clock_offset_s, OPTION_DOUBLE),
    OPTION(seed, OPTION_U64),
};

enum { OPTIONS = sizeof options / sizeof options[0] };

static const struct cloud_options defaults = {
    .max_send_rate = 5000,
    .max_24h_send = -1,
    .delivery_delay_ms_min = 50,
    .delivery_delay_ms_max = 800,
    .bounce_rate = 100,
    .soft_bounce_rate = 50,
    .complaint_rate = 5,
    .open_rate = 4500,
    .click_rate = 800,
    .fail_status = 500,
    .certificate_status = 200,
    .verify_body = true,
    .local_parts = true,
    .any_sender = true,
    .production_access = true,
    .sending_enabled = true,
    .queue_deleted_wait_s = 60,
    .seed = 1,
};

static bool option_set(struct cloud_options *o, const char *name, double value)
{
    for (size_t i = 0; i < OPTIONS; i++) {
        char *at = (char *)o + options[i].offset;
        if (strcmp(options[i].name, name) != 0)
            continue;
        switch (options[i].type) {
        case OPTION_DOUBLE:
            memcpy(at, &value, sizeof value);
            break;
        case OPTION_U64:
            *(uint64_t *)(void *)at = value < 0 ? 0 : (uint64_t)value;
            break;
        case OPTION_UNSIGNED:
            *(unsigned *)(void *)at = value < 0 ? 0 : (unsigned)value;
            break;
        case OPTION_BOOL:
            *(bool *)at = value != 0;
            break;
        }
        return true;
    }
    return false;
}

/* -------- the control endpoint -------- */

static void reply(struct evhttp_request *http, int status, const char *type, struct slice text)
{
    (void)evhttp_add_header(evhttp_request_get_output_headers(http), "Content-Type", type);
    (void)evbuffer_add(evhttp_request_get_output_buffer(http), text.ptr, text.len);
    evhttp_send_reply(http, status, status == 200 ? "OK" : "Bad Request", NULL);
}

static void control_config(struct cloud_request *r)
{
    cJSON *tree = json_parse(r->body);
    struct buf wrong = {0};

    if (!cJSON_IsObject(tree))
        buf_add_str(&wrong, "a JSON object is wanted\n");
    for (const cJSON *v = json_first(tree); v != NULL && wrong.len == 0; v = v->next) {
        double value = cJSON_IsBool(v) ? cJSON_IsTrue(v) : v->valuedouble;
        if ((!cJSON_IsNumber(v) && !cJSON_IsBool(v)) ||
            !option_set(&r->cloud->options, v->string, value))
            buf_printf(&wrong, "no such option, or no number: %s\n", v->string);
    }
    json_free(tree);
    if (wrong.len > 0)
        reply(r->http, 400, "text/plain", buf_slice(&wrong));
    else
        reply(r->http, 200, "application/json", SLICE("{}\n"));
    buf_fini(&wrong);
}

/* {"actions": ["ses:GetAccount", "sqs:*"]}: refused from now on; an empty list refuses none. */
static void control_deny(struct cloud_request *r)
{
    cJSON *tree = json_parse(r->body);

    if (cJSON_IsArray(json_get(tree, "actions"))) {
        cloud_iam_deny(r->cloud->iam, json_get(tree, "actions"));
        reply(r->http, 200, "application/json", SLICE("{}\n"));
    } else {
        reply(r->http, 400, "text/plain", SLICE("{\"actions\": [\"sqs:*\"]} is wanted\n"));
    }
    json_free(tree);
}

static void control_identity(struct cloud_request *r)
{
    cJSON *tree = json_parse(r->body);

    if (cloud_identities_settle(r->cloud->identities, tree))
        reply(r->http, 200, "application/json", SLICE("{}\n"));
    else
        reply(r->http, 400, "text/plain",
              SLICE("{\"identity\": \"example.com\", \"verification\": \"SUCCESS\", \"dkim\": "
                    "\"SUCCESS\", \"mail_from\": \"SUCCESS\"} is wanted\n"));
    json_free(tree);
}

static void control(struct cloud_request *r, struct slice what)
{
    struct cloud *c = r->cloud;
    struct buf text = {0};

    if (slice_eq(what, SLICE("stats"))) {
        buf_add_byte(&text, '{');
        cloud_ses_stats(c->ses, &text);
        cloud_events_stats(c->events, &text);
        json_put_name(&text, "queues");
        cloud_sqs_stats(c->sqs, &text);
        json_put_name(&text, "topics");
        cloud_sns_stats(c->sns, &text);
        buf_add_str(&text, "}\n");
        reply(r->http, 200, "application/json", buf_slice(&text));
    } else if (slice_eq(what, SLICE("messages"))) {
        cloud_ses_messages(c->ses, r->query, &text);
        reply(r->http, 200, "application/json", buf_slice(&text));
    } else if (slice_eq(what, SLICE("recipients"))) {
        cloud_ses_recipients(c->ses, &text);
        reply(r->http, 200, "text/plain", buf_slice(&text));
    } else if (slice_eq(what, SLICE("config"))) {
        control_config(r);
    } else if (slice_eq(what, SLICE("deny"))) {
        control_deny(r);
    } else if (slice_eq(what, SLICE("identity"))) {
        control_identity(r);
    } else if (slice_eq(what, SLICE("reset"))) {
        cloud_ses_reset(c->ses);
        reply(r->http, 200, "application/json", SLICE("{}\n"));
    } else {
        reply(r->http, 404, "text/plain",
              SLICE("stats, messages, recipients, config, deny, identity or reset\n"));
    }
    buf_fini(&text);
}

/* -------- routing -------- */

static const char *method_name(struct evhttp_request *http)
{
    switch (evhttp_request_get_command(http)) {
    case EVHTTP_REQ_GET:
        return "GET";
    case EVHTTP_REQ_POST:
        return "POST";
    case EVHTTP_REQ_PUT:
        return "PUT";
    case EVHTTP_REQ_DELETE:
        return "DELETE";
    default:
        return "OTHER";
    }
}

typedef void error_answer(struct evhttp_request *http, int status, const char *code,
                          const char *message);

static bool is_signed(struct cloud_request *r, error_answer *error)
{
    const char *code;
    char message[256];
    int status;

    if (cloud_signature_is_good(r, &status, &code, message))
        return true;
    log_warn("%s %.*s: %s: %s", r->method, SLICE_ARGS(r->path), code, message);
    error(r->http, status, code, message);
    return false;
}

static void query_error(struct evhttp_request *http, int status, const char *code,
                        const char *message)
{
    cloud_query_error(http, CLOUD_QUERY_SNS, status, code, message);
}

static void handle_query(struct cloud_request *r)
{
    struct cloud_query q;

    if (!is_signed(r, query_error) || !cloud_query_init(&q, r))
        return;
    switch (q.service) {
    case CLOUD_QUERY_SNS:
        cloud_sns_handle(&q);
        break;
    case CLOUD_QUERY_IAM:
        cloud_iam_handle(&q);
        break;
    case CLOUD_QUERY_STS:
        cloud_sts_handle(&q);
        break;
    }
    cloud_query_fini(&q);
}

/* The service's clock, where it is not this machine's. */
static void put_date(struct evhttp_request *http, double offset_s)
{
    time_t now = time(NULL) + (time_t)offset_s;
    struct tm utc;
    char text[64];

    if (offset_s != 0 && gmtime_r(&now, &utc) != NULL &&
        strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &utc) > 0)
        (void)evhttp_add_header(evhttp_request_get_output_headers(http), "Date", text);
}

static void on_request(struct evhttp_request *http, void *arg)
{
    struct evbuffer *body = evhttp_request_get_input_buffer(http);
    struct cloud_request r = {.cloud = arg, .http = http, .method = method_name(http)};
    const struct slice sqs = SLICE("AmazonSQS."), own = SLICE("/_sandbox/");
    struct slice certificate;
    struct slice target =
        slice_str(evhttp_find_header(evhttp_request_get_input_headers(http), "X-Amz-Target"));

    (void)slice_cut(slice_str(evhttp_request_get_uri(http)), '?', &r.path, &r.query);
    r.body = slice_of(evbuffer_pullup(body, -1), evbuffer_get_length(body));
    put_date(http, r.cloud->options.clock_offset_s);
    if (slice_starts(r.path, own)) {
        control(&r, slice_from(r.path, own.len));
    } else if (slice_starts(target, sqs)) {
        if (is_signed(&r, cloud_sqs_error))
            cloud_sqs_handle(&r, slice_from(target, sqs.len));
    } else if (slice_starts(r.path, SLICE("/v2/email/"))) {
        if (is_signed(&r, cloud_ses_error))
            cloud_ses_handle(&r);
    } else if (strcmp(r.method, "POST") == 0 && slice_eq(r.path, SLICE("/"))) {
        handle_query(&r);
    } else if (cloud_notary_certificate(r.cloud, r.path, &certificate)) {
        if (r.cloud->options.certificate_status == 200)
            reply(http, 200, "application/x-pem-file", certificate);
        else
            reply(http, (int)r.cloud->options.certificate_status, "text/plain", slice_none());
    } else {
        reply(http, 404, "text/plain", SLICE("The sandbox knows SES v2, SQS, SNS, IAM and STS.\n"));
    }
}

/* -------- life -------- */

static void plumb(struct cloud *c)
{
    static const char *const lines[][3] = {
        {"ghost-mailgun-proxy-set", "ghost-mailgun-proxy-events", "newsletter-events-queue"},
        {"ghost-mailgun-proxy-system-set", "ghost-mailgun-proxy-system-events",
         "system-events-queue"},
    };
    struct buf arn = {0};

    for (size_t i = 0; i < 2; i++) {
        cloud_sqs_make(c->sqs, lines[i][2], lines[i][1]);
        cloud_sns_make(c->sns, lines[i][1], lines[i][2], false);
        buf_reset(&arn);
        buf_printf(&arn, "arn:aws:sns:%s:%s:%s", c->region, c->account, lines[i][1]);
        cloud_sets_make(c->sets, lines[i][0], buf_cstr(&arn));
    }
    buf_fini(&arn);
}

static int cloud_open(struct cloud *c, struct event_base *base, int fd, struct err *err)
{
    c->base = base;
    c->account = "000000000000";
    c->http = evhttp_new(base);
    if (c->http == NULL || evhttp_accept_socket(c->http, fd) != 0)
        return err_sys(err, "the sandbox's HTTP server");
    evhttp_set_max_body_size(c->http, BODY_BYTES_MAX);
    evhttp_set_timeout(c->http, IDLE_S);
    evhttp_set_allowed_methods(c->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_PUT |
                                            EVHTTP_REQ_DELETE | EVHTTP_REQ_HEAD);
    evhttp_set_gencb(c->http, on_request, c);
    c->sqs = cloud_sqs_create(c);
    c->sns = cloud_sns_create(c);
    c->ses = cloud_ses_create(c);
    c->sets = cloud_sets_create(c);
    c->identities = cloud_identities_create(c);
    c->iam = cloud_iam_create(c);
    c->events = cloud_events_create(c);
    plumb(c);
    if (c->publish_to == NULL)
        return 0;
    c->publisher = cloud_publisher_create(c, err);
    return c->publisher == NULL ? -1 : 0;
}

static void cloud_close(struct cloud *c)
{
    cloud_publisher_destroy(c->publisher);
    if (c->events != NULL)
        cloud_events_destroy(c->events);
    if (c->sqs != NULL)
        cloud_sqs_destroy(c->sqs);
    if (c->http != NULL)
        evhttp_free(c->http);
    if (c->sns != NULL)
        cloud_sns_destroy(c->sns);
    if (c->ses != NULL)
        cloud_ses_destroy(c->ses);
    if (c->sets != NULL)
        cloud_sets_destroy(c->sets);
    if (c->identities != NULL)
        cloud_identities_destroy(c->identities);
    if (c->iam != NULL)
        cloud_iam_destroy(c->iam);
    cloud_notary_destroy(c->notary);
}

static void on_stop(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    (void)event_base_loopbreak(arg);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    child_beat(arg);
}

enum child_exit sandbox_child_main(const struct child *me)
{
    struct event_base *base = event_base_new();
    const struct config_address *at = &me->config->sandbox.listen;
    const struct timeval tick = {.tv_usec = CHILD_TICK_MS * 1000};
    struct cloud c = {
        .options = defaults,
        .region = me->config->aws.region, /* fill_for_sandbox() has seen to it */
        .access_key = me->config->aws.access_key_id,
        .secret_key = me->config->aws.secret_access_key,
    };
    struct err err;
    union {
        const struct child *in;
        void *out; /* libevent hands it back untouched */
    } self = {.in = me};

    (void)snprintf(c.url, sizeof c.url, "http://%s:%s", at->host, at->port);
    if (base == NULL || cloud_open(&c, base, me->listen_fds[0], &err) != 0) {
        log_error("the sandbox cannot start");
        return CHILD_EXIT_RETRY;
    }
    struct event *term = evsignal_new(base, SIGTERM, on_stop, base);
    struct event *master = event_new(base, me->control_fd, EV_READ, on_stop, base);
    struct event *beat = event_new(base, -1, EV_PERSIST, on_tick, self.out);
    (void)event_add(term, NULL);
    (void)event_add(master, NULL);
    (void)event_add(beat, &tick);
    child_ready(me);
    (void)event_base_dispatch(base);
    event_free(term);
    event_free(master);
    event_free(beat);
    cloud_close(&c);
    event_base_free(base);
    return CHILD_EXIT_DONE;
}

static int usage(const char *wrong)
{
    FILE *to = wrong == NULL ? stdout : stderr;

    if (wrong != NULL)
        (void)fprintf(to, "postern sandbox: '%s' is not understood\n", wrong);
    (void)fprintf(to, "usage: postern sandbox [--listen 127.0.0.1:8026] [--set OPTION=NUMBER]...\n"
                      "       [--region us-east-1] [--access-key sandbox] [--secret-key KEY]\n"
                      "       [--publish-to SNS-ENDPOINT --publish-topic ARN]\n"
                      "options for --set and POST /_sandbox/config:");
    for (size_t i = 0; i < OPTIONS; i++)
        (void)fprintf(to, " %s", options[i].name);
    (void)fprintf(to, "\n");
    return wrong == NULL ? 0 : 2;
}

/* "127.0.0.1:8026"; loopback only: what answers without asking who you are stays on this machine.
 */
static int listen_on(const char *where, struct err *err)
{
    struct sockaddr_storage address;
    int len = sizeof address, on = 1;

    if (evutil_parse_sockaddr_port(where, (struct sockaddr *)&address, &len) != 0)
        return err_set(err, ERR_CONFIG, "--listen %s: not an address and port", where);
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address;
    if (address.ss_family != AF_INET || ntohl(v4->sin_addr.s_addr) >> 24 != 127)
        return err_set(err, ERR_CONFIG, "--listen %s: only 127.x.x.x", where);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* No delay: see the master's listening sockets. */
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) != 0 ||
        bind(fd, (const struct sockaddr *)&address, (socklen_t)len) != 0 || listen(fd, 1024) != 0)
        return err_sys(err, "--listen %s", where);
    return fd;
}

/* "name=number". */
static bool set_from_text(struct cloud_options *o, const char *text)
{
    const char *equals = strchr(text, '=');
    char name[64], *end;

    if (equals == NULL || (size_t)(equals - text) >= sizeof name)
        return false;
    memcpy(name, text, (size_t)(equals - text));
    name[equals - text] = '\0';
    double value = strtod(equals + 1, &end);
    return end != equals + 1 && *end == '\0' && option_set(o, name, value);
}

int sandbox_main(int argc, char **argv)
{
    const char *where = "127.0.0.1:8026";
    struct cloud c = {
        .options = defaults,
        .region = "us-east-1",
        .access_key = "sandbox",
        .secret_key = "sandbox-secret-key",
    };
    struct err err;
    int status = 0;

    for (int i = 1; i < argc; i += 2) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--help") == 0)
            return usage(NULL);
        if (value == NULL)
            return usage(argv[i]);
        if (strcmp(argv[i], "--listen") == 0)
            where = value;
        else if (strcmp(argv[i], "--region") == 0)
            c.region = value;
        else if (strcmp(argv[i], "--access-key") == 0)
            c.access_key = value;
        else if (strcmp(argv[i], "--secret-key") == 0)
            c.secret_key = value;
        else if (strcmp(argv[i], "--publish-to") == 0)
            c.publish_to = argv[i + 1];
        else if (strcmp(argv[i], "--publish-topic") == 0)
            c.publish_topic = argv[i + 1];
        else if (strcmp(argv[i], "--set") != 0 || !set_from_text(&c.options, value))
            return usage(argv[i]);
    }
    if ((c.publish_to == NULL) != (c.publish_topic == NULL))
        return usage("--publish-to without --publish-topic, or the other way round");

    log_name("sandbox");
    (void)signal(SIGPIPE, SIG_IGN);
    (void)snprintf(c.url, sizeof c.url, "http://%s", where);
    struct event_base *base = event_base_new();
    int fd = listen_on(where, &err);
    if (base == NULL || fd < 0 || cloud_open(&c, base, fd, &err) != 0) {
        log_err(&err, "the sandbox cannot start");
        status = 1;
    } else {
        struct event *term = evsignal_new(base, SIGTERM, on_stop, base);
        struct event *interrupt = evsignal_new(base, SIGINT, on_stop, base);
        (void)event_add(term, NULL);
        (void)event_add(interrupt, NULL);
        log_info("SES, SQS and SNS on %s, key %s", c.url, c.access_key);
        (void)event_base_dispatch(base);
        event_free(term);
        event_free(interrupt);
    }
    cloud_close(&c);
    if (base != NULL)
        event_base_free(base);
    return status;
}
