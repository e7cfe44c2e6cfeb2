/*
 * proxy.conf: every mistake is named with its line, all at once, and good files give what they say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/config.h"

#define GOOD_DOMAIN "domain \"mg.example.com\" { api_keys = {\"k\"} }\n"
#define GOOD_REST                                                                                  \
    "aws { region = \"eu-west-1\" }\nqueues { newsletter_events = \"https://q/1\" }\n" GOOD_DOMAIN

static struct config *load(const char *text, struct buf *mistakes)
{
    char path[64];
    int fd = memfd_create("conf", 0);

    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    buf_reset(mistakes);
    struct config *c = config_load(path, mistakes);
    (void)close(fd);
    return c;
}

static void a_minimal_file_has_the_defaults(void **unused)
{
    struct buf m = {0};
    struct config *c = load(GOOD_REST, &m);

    (void)unused;
    if (c == NULL)
        fail_msg("%s", buf_cstr(&m));
    assert_int_equal(c->listen.count, 1);
    assert_string_equal(c->listen.list[0].host, "127.0.0.1");
    assert_string_equal(c->listen.list[0].port, "8025");
    assert_int_equal(c->httpd.max_body_bytes, 32 << 20);
    assert_int_equal(c->sender.doubt_window_ms, 600000);
    assert_int_equal(c->sender.hold_ms, 60000);
    assert_int_equal(c->sender.rate_kind, RATE_AUTO);
    assert_int_equal(config_visibility_s(c), 120);
    assert_non_null(config_domain_find(c, SLICE("MG.Example.COM")));
    assert_null(config_domain_find(c, SLICE("example.com")));
    config_free(c);
    buf_fini(&m);
}

static void every_setting_is_read(void **unused)
{
    struct buf m = {0};
    struct config *c = load(
        "listen = {\"[::1]:80\", \"*:8080\", \"unix:/run/a b\"}\n"
        "listen_mode = \"0606\"\ntrusted_proxies = {\"10.0.0.0/8\", \"unix\"}\ngrace = \"5s\"\nlog "
        "{ level = warn format = json }\n"
        "httpd { children = 4 max_body = \"1M\" }\n"
        "sender { max_rate = \"50%\" on_doubt = hold doubt_window = \"90s\" connections = 7 "
        "hold = \"5m\" }\n"
        "domain \"A.Example.com\" { api_keys = {\"k1\", \"k2\"} newsletter_configuration_set = set "
        "}\n"
        "sandbox { enabled = true listen = \"127.0.0.1:9\" }\n",
        &m);

    (void)unused;
    if (c == NULL)
        fail_msg("%s", buf_cstr(&m));
    assert_int_equal(c->listen.count, 3);
    assert_true(config_address_is_unix(&c->listen.list[2]) &&
                !config_address_is_unix(&c->listen.list[1]));
    assert_string_equal(c->listen.list[2].host, "/run/a b");
    assert_int_equal(c->listen_mode, 0606);
    assert_int_equal(c->trusted_proxies.count, 2);
    assert_string_equal(c->listen.list[0].host, "::1");
    assert_string_equal(c->listen.list[1].host, "*");
    assert_int_equal(c->grace_ms, 5000);
    assert_int_equal(c->log.level, LOG_LEVEL_WARN);
    assert_int_equal(c->log.format, LOG_FORMAT_JSON);
    assert_int_equal(c->sender.rate_kind, RATE_SHARE);
    assert_int_equal(c->sender.rate_percent, 50);
    assert_int_equal(c->sender.on_doubt, ON_DOUBT_HOLD);
    assert_int_equal(c->sender.hold_ms, 300000);
    assert_int_equal(c->domains[0].api_keys.count, 2);
    assert_string_equal(c->domains[0].name, "a.example.com");
    assert_string_equal(c->domains[0].newsletter_configuration_set, "set");
    assert_string_equal(c->domains[0].system_configuration_set, "ghost-mailgun-proxy-system-set");
    assert_string_equal(c->aws.ses_endpoint, "http://127.0.0.1:9");
    assert_string_equal(c->queues.newsletter_events,
                        "http://127.0.0.1:9/000000000000/newsletter-events-queue");
    config_forget_secrets(c);
    assert_string_equal(c->aws.secret_access_key, "");
    config_free(c);
    buf_fini(&m);
}

static void metrics_are_not_for_the_world(void **unused)
{
    static const char base[] =
        "sandbox { enabled = true }\ndomain \"a.example\" { api_keys = {k} }\n";
    static const struct {
        const char *section, *mistake; /* NULL = none */
    } cases[] = {
        {"metrics { listen = {\"127.0.0.1:9090\", \"[::1]:9090\", \"unix:/run/m\"} }", NULL},
        {"metrics { listen = {\"0.0.0.0:9090\"} key = \"s\" }", NULL},
        {"metrics { listen = {\"*:9090\"} }", "others can reach *:9090"},
        {"metrics { listen = {\"10.0.0.1:9090\"} }", "others can reach 10.0.0.1:9090"},
        {"metrics { listen = {\"9090\"} }", "metrics.listen = \"9090\": expected"},
        {"metrics { key = \"sha256:12\" }", "metrics.key: behind sha256:"},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct buf m = {0}, text = {0};
        buf_printf(&text, "%s%s\n", base, cases[i].section);
        struct config *c = load(buf_cstr(&text), &m);
        if ((c == NULL) != (cases[i].mistake != NULL) ||
            (c == NULL && strstr(buf_cstr(&m), cases[i].mistake) == NULL))
            fail_msg("%s: %s", cases[i].section, buf_cstr(&m));
        if (i == 0) {
            assert_int_equal(c->metrics.listen.count, 3);
            assert_string_equal(c->metrics.listen.list[2].host, "/run/m");
            assert_int_equal(c->listen.count, 1); /* the other list is another */
        }
        config_free(c);
        buf_fini(&m);
        buf_fini(&text);
    }
}

static void every_event_queue_is_listed_once_whoever_names_it(void **unused)
{
    struct buf m = {0};
    struct config *c =
        load("aws { region = \"eu-west-1\" }\n"
             "queues { system_events = \"https://q/1\" verify_sns = true\n"
             " sns_topics = {\"arn:aws:sns:eu-west-1:1:a\", \"arn:aws:sns:eu-west-1:1:b\"} }\n"
             "domain \"a.example\" { api_keys = {k} newsletter_events = \"https://q/2\" }\n"
             "domain \"b.example\" { api_keys = {k} newsletter_events = \"https://q/2\"\n"
             " system_events = \"https://q/3\" }\n"
             "domain \"c.example\" { api_keys = {k} system_events = \"https://q/1\" }\n",
             &m);

    (void)unused;
    if (c == NULL)
        fail_msg("%s", buf_cstr(&m));
    assert_int_equal(c->event_queues.count, 3);
    assert_string_equal(c->event_queues.texts[0], "https://q/1");
    assert_string_equal(c->event_queues.texts[1], "https://q/2");
    assert_string_equal(c->event_queues.texts[2], "https://q/3");
    assert_true(c->queues.verify_sns);
    assert_int_equal(c->queues.sns_topics.count, 2);
    assert_string_equal(c->queues.sns_topics.texts[1], "arn:aws:sns:eu-west-1:1:b");
    config_free(c);
    buf_fini(&m);
}

static void each_mistake_is_named_with_its_line(void **unused)
{
    static const struct {
        const char *text, *expected;
    } cases[] = {
        {"listen = {\"nowhere\"}\n" GOOD_REST, ":1: listen = \"nowhere\": expected host:port"},
        {"listen = {\"unix:here\"}\n" GOOD_REST, "expected host:port, or unix:/path"},
        {"listen_mode = \"660\"\n" GOOD_REST, ":1: listen_mode = \"660\": expected permissions"},
        {"listen_mode = \"01777\"\n" GOOD_REST, "expected permissions in octal"},
        {"trusted_proxies = {\"10.0.0.0/40\"}\n" GOOD_REST, "\"10.0.0.0/40\" is no address"},
        {"\ngrace = \"30\"\n" GOOD_REST, ":2: grace = \"30\": expected a time with its unit"},
        {"grace = \"1ms\"\n" GOOD_REST, ":1: grace = \"1ms\" is out of range"},
        {"httpd {\n children = 99\n}\n" GOOD_REST, ":2: httpd.children = \"99\" is out of range"},
        {"httpd { max_body = \"3X\" }\n" GOOD_REST, "expected a size with its unit"},
        {"sender { max_rate = \"0\" }\n" GOOD_REST, "expected \"auto\""},
        {"log { level = loud }\n" GOOD_REST, ":1: log.level = \"loud\": expected debug"},
        {"sandbox { enabled = perhaps }\n" GOOD_REST, "expected true or false"},
        {"lisen = 3\n" GOOD_REST, ":1: unknown setting 'lisen': did you mean 'listen'?"},
        {"aws { secret_access_key = \"${POSTERN_TEST_UNSET}\" }\n" GOOD_REST,
         ":1: ${POSTERN_TEST_UNSET}: the environment has no such variable"},
        {"aws { access_key_id = a }\n" GOOD_REST, "go together"},
        {GOOD_REST GOOD_DOMAIN, "stands twice"},
        {GOOD_REST "\nhttpd {\n children = 2\n", ":5: this '{' is never closed"},
        {GOOD_REST "domain \"nodots\" { api_keys = {\"k\"} }\n", "that is no domain name"},
        {GOOD_REST "domain \"b.example\" { }\n", "has no api_keys"},
        {"aws { region = x }\n" GOOD_DOMAIN, "queues.newsletter_events is not set"},
        {"queues { newsletter_events = \"arn:aws:sqs\" }\naws { region = x }\n" GOOD_DOMAIN,
         "queues.newsletter_events = \"arn:aws:sqs\" is no http:// or https:// URL"},
        {GOOD_REST "domain \"b.example\" { api_keys = {k} system_events = \"q\" }\n",
         "domain \"b.example\".system_events = \"q\" is no http:// or https:// URL"},
        {GOOD_REST "domain \"b.example\" { api_keys = {k} system_from = \"Desk\" }\n",
         "domain \"b.example\": system_from = \"Desk\" is no address"},
        {"queues { sns_topics = {\"ses-events\"} }\n" GOOD_REST,
         "queues.sns_topics: \"ses-events\" is no ARN"},
        {"queues { newsletter_buffer = \"https://sqs.eu-west-1.amazonaws.com/1/b\" }\n" GOOD_REST,
         "name a FIFO queue, whose URL ends in .fifo"},
        {"queues { replication_topic = \"changes\" }\n" GOOD_REST,
         "queues.replication_topic = \"changes\" is no ARN"},
        {"queues { replication_topic = \"arn:aws:sns:eu-west-1:1:\" }\n" GOOD_REST, "is no ARN"},
        {"queues { replication_topic = \"arn:aws:sns:eu-west-1:1:a.fifo\" }\n" GOOD_REST,
         "a FIFO topic cannot deliver to event queues"},
        {"queues { newsletter_buffer = \"b.fifo\" }\n" GOOD_REST,
         "newsletter_buffer = \"b.fifo\" is no http:// or https:// URL"},
        {"queues { newsletter_buffer = \"https://q/b.fifo\" newsletter_events = "
         "\"https://q/b.fifo\" }\naws { region = x }\n" GOOD_DOMAIN,
         "is an event queue, too"},
        {"queues { newsletter_buffer = \"https://q/b.fifo\" }\npoller { children = 2 }\n" GOOD_REST,
         "goes with poller.children = 1"},
        {"queues { newsletter_buffer = \"https://q/b.fifo\" }\n"
         "sender { doubt_window = \"1m\" }\n" GOOD_REST,
         "buffer_visibility is longer than sender.doubt_window"},
        {"queues { buffer_too_large = \"drop\" }\n" GOOD_REST, "expected local or refuse"},
    };
    struct buf m = {0};

    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (load(cases[i].text, &m) != NULL)
            fail_msg("case %zu is taken: %s", i, cases[i].text);
        if (strstr(buf_cstr(&m), cases[i].expected) == NULL)
            fail_msg("case %zu: expected '%s' in: %s", i, cases[i].expected, buf_cstr(&m));
    }
    buf_fini(&m);
}

static void all_mistakes_come_at_once_in_order(void **unused)
{
    struct buf m = {0};

    (void)unused;
    assert_null(
        load("grace = soon\nlisn = 1\nhttpd {\n childrn = 2\n children = x\n}\n" GOOD_DOMAIN, &m));
    const char *at = buf_cstr(&m);
    static const char *const order[] = {":1: grace", ":2: unknown setting 'lisn'",
                                        ":4: unknown setting 'childrn'", ":5: httpd.children",
                                        "queues.newsletter_events is not set"};
    for (size_t i = 0; i < sizeof order / sizeof order[0]; i++) {
        at = strstr(at, order[i]);
        if (at == NULL)
            fail_msg("'%s' is missing or out of order in: %s", order[i], buf_cstr(&m));
    }
    buf_fini(&m);
}

static void the_environment_fills_what_the_file_leaves_out(void **unused)
{
    struct buf m = {0};

    (void)unused;
    (void)setenv("AWS_REGION", "eu-north-1", 1);
    (void)setenv("AWS_ACCESS_KEY_ID", "AKIA", 1);
    (void)setenv("AWS_SECRET_ACCESS_KEY", "from-environment", 1);
    (void)setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1", 1);
    (void)setenv("AWS_ENDPOINT_URL_SQS", "http://127.0.0.1:2", 1);
    (void)setenv("POSTERN_TEST_KEY", "key-from-environment", 1);
    struct config *c = load("queues { newsletter_events = \"https://q/1\" }\n"
                            "domain \"a.example\" { api_keys = {\"${POSTERN_TEST_KEY}\"} }\n",
                            &m);
    if (c == NULL)
        fail_msg("%s", buf_cstr(&m));
    assert_string_equal(c->aws.region, "eu-north-1");
    assert_string_equal(c->aws.secret_access_key, "from-environment");
    assert_string_equal(c->aws.ses_endpoint, "http://127.0.0.1:1");
    assert_string_equal(c->aws.sqs_endpoint, "http://127.0.0.1:2");
    assert_string_equal(c->domains[0].api_keys.texts[0], "key-from-environment");
    config_forget_secrets(c);
    assert_string_equal(c->aws.secret_access_key, "");
    assert_null(getenv("AWS_SECRET_ACCESS_KEY"));
    config_free(c);
    (void)unsetenv("AWS_REGION");
    (void)unsetenv("AWS_ENDPOINT_URL");
    (void)unsetenv("AWS_ENDPOINT_URL_SQS");
    buf_fini(&m);
}

static void a_profile_in_the_file_wins_over_keys_in_the_environment(void **unused)
{
    static const char rest[] = "queues { newsletter_events = \"https://q/1\" }\n" GOOD_DOMAIN;
    struct buf m = {0}, text = {0};

    (void)unused;
    (void)setenv("AWS_ACCESS_KEY_ID", "AKIA", 1);
    (void)setenv("AWS_SECRET_ACCESS_KEY", "from-environment", 1);
    (void)setenv("AWS_PROFILE", "other", 1);
    struct config *c = load(rest, &m); /* without a region: it may come with the credentials */
    if (c == NULL)
        fail_msg("%s", buf_cstr(&m));
    assert_string_equal(c->aws.region, "");
    assert_string_equal(c->aws.profile, "other");
    assert_false(c->aws.profile_is_set);
    assert_string_equal(c->aws.access_key_id, "AKIA");
    config_free(c);
    buf_printf(&text, "aws { profile = \"mail\" sts_endpoint = \"http://127.0.0.1:3\" }\n%s", rest);
    c = load(buf_cstr(&text), &m);
    if (c == NULL)
        fail_msg("%s", buf_cstr(&m));
    assert_string_equal(c->aws.profile, "mail");
    assert_true(c->aws.profile_is_set);
    assert_string_equal(c->aws.access_key_id, "");
    assert_string_equal(c->aws.sts_endpoint, "http://127.0.0.1:3");
    config_free(c);
    (void)unsetenv("AWS_ACCESS_KEY_ID");
    (void)unsetenv("AWS_SECRET_ACCESS_KEY");
    (void)unsetenv("AWS_PROFILE");
    buf_fini(&m);
    buf_fini(&text);
}

int main(void)
{
    (void)unsetenv("AWS_REGION");
    (void)unsetenv("AWS_DEFAULT_REGION");
    (void)unsetenv("AWS_ACCESS_KEY_ID");
    (void)unsetenv("AWS_PROFILE");
    (void)unsetenv("AWS_ENDPOINT_URL");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_minimal_file_has_the_defaults),
        cmocka_unit_test(every_setting_is_read),
        cmocka_unit_test(metrics_are_not_for_the_world),
        cmocka_unit_test(every_event_queue_is_listed_once_whoever_names_it),
        cmocka_unit_test(each_mistake_is_named_with_its_line),
        cmocka_unit_test(all_mistakes_come_at_once_in_order),
        cmocka_unit_test(the_environment_fills_what_the_file_leaves_out),
        cmocka_unit_test(a_profile_in_the_file_wins_over_keys_in_the_environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
