/*
 * Which source wins, and what profiles lead to, without a network: whatever would have to ask one
 * is pointed to a port where nobody listens. (Those that do ask: tests/e2e/credentials.test.mjs.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "aws/credential_chain.h"
#include "base/clock.h"

struct home {
    char folder[64], credentials[96], config[96];
    struct config settings;
    struct credential_chain *chain;
    struct credentials found;
    struct err err;
};

static bool yes(void *arg)
{
    (void)arg;
    return true;
}

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void forget_variables(void)
{
    static const char *const names[] = {
        "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        (void)unsetenv(names[i]);
    (void)setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
}

static int make_home(void **state)
{
    static char none[] = "", region[] = "eu-west-1", nobody[] = "http://127.0.0.1:9";
    struct home *h = calloc(1, sizeof *h);

    forget_variables();
    (void)snprintf(h->folder, sizeof h->folder, "/tmp/postern-credentials-XXXXXX");
    if (mkdtemp(h->folder) == NULL)
        return -1;
    (void)snprintf(h->credentials, sizeof h->credentials, "%s/credentials", h->folder);
    (void)snprintf(h->config, sizeof h->config, "%s/config", h->folder);
    h->settings.aws.access_key_id = h->settings.aws.secret_access_key = none;
    h->settings.aws.session_token = h->settings.aws.profile = none;
    h->settings.aws.region = region;
    h->settings.aws.sts_endpoint = nobody;
    (void)setenv("AWS_SHARED_CREDENTIALS_FILE", h->credentials, 1);
    (void)setenv("AWS_CONFIG_FILE", h->config, 1);
    *state = h;
    return 0;
}

static int remove_home(void **state)
{
    struct home *h = *state;

    credentials_fini(&h->found);
    chain_destroy(h->chain);
    (void)unlink(h->credentials);
    (void)unlink(h->config);
    (void)rmdir(h->folder);
    free(h);
    return 0;
}

static int get(struct home *h)
{
    credentials_fini(&h->found);
    if (h->chain == NULL)
        h->chain = chain_create(&h->settings, yes, NULL);
    h->err = (struct err){0};
    return chain_get(h->chain, &h->found, &h->err);
}

static void assert_refused(struct home *h, const char *words)
{
    assert_int_equal(get(h), -1);
    assert_null(h->found.access_key_id);
    if (strstr(h->err.text, words) == NULL)
        fail_msg("\"%s\" should say \"%s\"", h->err.text, words);
}

static void assert_found(struct home *h, const char *id, const char *source)
{
    if (get(h) != 0)
        fail_msg("%s", h->err.text);
    assert_string_equal(h->found.access_key_id, id);
    assert_string_equal(h->found.source, source);
}

static void settings_come_first_and_go_together(void **state)
{
    static char id[] = "AKIDSETTING", secret[] = "s", token[] = "t", none[] = "";
    struct home *h = *state;

    write_file(h->credentials, "[default]\naws_access_key_id=AKIDFILE\naws_secret_access_key=x\n");
    h->settings.aws.access_key_id = id;
    h->settings.aws.secret_access_key = secret;
    h->settings.aws.session_token = token;
    assert_found(h, "AKIDSETTING", "the configuration or the environment");
    assert_string_equal(h->found.session_token, "t");
    assert_string_equal(h->found.region, "eu-west-1");
    assert_int_equal(h->found.expires_mono_ms, 0);
    write_file(h->credentials, "[default]\naws_access_key_id=OTHER\n");
    assert_false(chain_has_changed(h->chain)); /* the files do not matter */
    h->settings.aws.secret_access_key = none;
    assert_refused(h, "AWS_SECRET_ACCESS_KEY");
}

static void without_any_source_the_words_say_what_to_do(void **state)
{
    struct home *h = *state;

    assert_refused(h, "set AWS_ACCESS_KEY_ID");
    write_file(h->credentials, "[other]\naws_access_key_id=A\naws_secret_access_key=a\n");
    assert_true(chain_has_changed(h->chain));
    assert_refused(h, "set AWS_ACCESS_KEY_ID");
    assert_false(chain_has_changed(h->chain));
}

static void profiles_are_found_in_both_files(void **state)
{
    static char work[] = "work", other[] = "other", absent[] = "absent", none[] = "";
    struct home *h = *state;

    write_file(h->credentials, "# mine\n[default]\naws_access_key_id=D\naws_secret_access_key=d\n"
                               "[ work ]\r\n  nested = 1\naws_access_key_id = W ; a comment\r\n"
                               "AWS_SECRET_ACCESS_KEY = w#w=\r\naws_session_token=wt\r\n[work2]\n"
                               "aws_access_key_id=X\n");
    write_file(h->config,
               "[default]\nregion = eu-north-1\n[profile work]\nregion = us-west-2\n"
               "aws_access_key_id=IGNORED\naws_secret_access_key=i\naws_session_token=i\n"
               "[profile other]\naws_access_key_id=O\naws_secret_access_key=o\n"
               "[other]\naws_access_key_id=WRONG\n");
    assert_found(h, "D", "the AWS profile \"default\"");
    h->settings.aws.profile = work;
    h->settings.aws.region = none;
    assert_found(h, "W", "the AWS profile \"work\"");
    assert_string_equal(h->found.secret_access_key, "w#w=");
    assert_string_equal(h->found.session_token, "wt");
    assert_string_equal(h->found.region, "us-west-2");
    h->settings.aws.profile = other;
    assert_refused(h, "no AWS region");
    static char region[] = "eu-west-1";
    h->settings.aws.region = region;
    assert_found(h, "O", "the AWS profile \"other\"");
    assert_string_equal(h->found.session_token, "");
    h->settings.aws.profile = absent;
    assert_refused(h, "\"absent\" is neither in");
    write_file(h->credentials, "[absent]\naws_access_key_id=A\n");
    assert_refused(h, "secret access key is missing");
}

static void a_profile_that_cannot_work_is_an_error_and_no_reason_to_go_on(void **state)
{
    static const struct {
        const char *config, *words;
    } wrong[] = {
        {"sso_session = x\nsso_account_id = 1\n", "sso_account_id, which needs a person"},
        {"login_session = x\n", "login_session, which needs a person"},
        {"role_arn = r\n", "needs source_profile or credential_source"},
        {"role_arn = r\nsource_profile = k\ncredential_source = Environment\n", "and not both"},
        {"role_arn = r\nsource_profile = nowhere\n", "\"nowhere\" is neither in"},
        {"role_arn = r\nsource_profile = empty\n", "\"empty\", a source_profile, has no"},
        {"role_arn = r\nsource_profile = k\nmfa_serial = m\n", "mfa_serial"},
        {"role_arn = r\nsource_profile = k\nrole_session_name = a b\n", "role session name"},
        {"role_arn = r\nsource_profile = k\nduration_seconds = 60\n", "900 to 43200"},
        {"role_arn = r\ncredential_source = Nowhere\n", "not \"Nowhere\""},
        {"role_arn = r\ncredential_source = Environment\n", "access key id is missing"},
        {"role_arn = r\ncredential_source = EcsContainer\n", "the environment knows none"},
        {"role_arn = r\ncredential_source = Ec2InstanceMetadata\n", "the environment knows none"},
        {"role_arn = r\nweb_identity_token_file = /nonexistent/t\n",
         "no token file /nonexistent/t"},
        {"role_arn = r\nsource_profile = default\n", "leads back to it"},
        {"role_arn = r\nsource_profile = ring1\n", "\"ring1\": its source_profile leads back"},
        {"role_arn = r\nsource_profile = k\n", "STS does not answer"},
        {"credential_process = false\n", "exit status 1"},
        {"credential_process = echo {}\n", "Version"},
        {"credential_process = echo 'x\n", "never closed"},
    };
    struct home *h = *state;
    struct buf text = {0};

    (void)setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "", 1);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        buf_reset(&text);
        buf_printf(&text,
                   "[default]\n%s[profile k]\naws_access_key_id=K\naws_secret_access_key=k\n"
                   "[profile empty]\n[profile ring1]\nrole_arn=r\nsource_profile=ring2\n"
                   "[profile ring2]\nrole_arn=r\nsource_profile=ring1\n",
                   wrong[i].config);
        write_file(h->config, buf_cstr(&text));
        assert_refused(h, wrong[i].words);
    }
    buf_fini(&text);
}

static void a_role_of_its_own_keys_is_no_circle(void **state)
{
    struct home *h = *state;

    write_file(h->config, "[default]\nrole_arn=r\nsource_profile=default\naws_access_key_id=K\n"
                          "aws_secret_access_key=k\n");
    assert_refused(h, "STS does not answer"); /* so it was asked */
}

static void a_program_gives_credentials_with_and_without_an_end(void **state)
{
    struct home *h = *state;
    struct buf text = {0};
    char later[64];
    time_t in_an_hour = (time_t)(clock_wall_ms() / 1000) + 3600;
    struct tm tm;

    write_file(h->config, "[default]\ncredential_process = echo '{\"Version\":1,"
                          "\"AccessKeyId\":\"P\",\"SecretAccessKey\":\"p # p\"}'\n");
    assert_refused(h, "visible ASCII"); /* and no comment was cut off */
    write_file(h->config, "[default]\ncredential_process = echo '{\"Version\":1,"
                          "\"AccessKeyId\":\"P\",\"SecretAccessKey\":\"p\"}'\n");
    assert_found(h, "P", "the AWS profile \"default\"");
    assert_int_equal(h->found.expires_mono_ms, 0);
    assert_int_not_equal(
        strftime(later, sizeof later, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&in_an_hour, &tm)), 0);
    buf_printf(&text,
               "[default]\ncredential_process = echo '{\"Version\":1,\"AccessKeyId\":\"P\","
               "\"SecretAccessKey\":\"p\",\"Expiration\":\"%s\"}'\n",
               later);
    write_file(h->config, buf_cstr(&text));
    uint64_t now = clock_mono_ms();
    assert_found(h, "P", "the AWS profile \"default\"");
    assert_in_range(h->found.expires_mono_ms, now + 3500 * 1000, now + 3605 * 1000);
    write_file(h->config,
               "[default]\ncredential_process = echo '{\"Version\":1,\"AccessKeyId\":"
               "\"P\",\"SecretAccessKey\":\"p\",\"Expiration\":\"2020-01-01T00:00:00Z\"}'\n");
    assert_refused(h, "have expired");
    buf_fini(&text);
}

static void tokens_go_to_nobody_who_should_not_have_them(void **state)
{
    static const char *const no[] = {
        "http://example.com/x",
        "http://169.254.170.3/x",
        "http://10.0.0.1/",
        "http://127.0.0.1.evil.test",
        "ftp://127.0.0.1/",
        "http://u@127.0.0.1/",
        "nonsense",
    };
    struct home *h = *state;

    for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
        (void)setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", no[i], 1);
        assert_int_equal(get(h), -1);
        if (strstr(h->err.text, "no token is sent there") == NULL &&
            strstr(h->err.text, "is no endpoint") == NULL)
            fail_msg("%s: %s", no[i], h->err.text);
    }
    (void)setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://localhost:9/x?y=z", 1);
    assert_refused(h, "does not answer");
    (void)setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN", "a\r\nX-Evil: 1", 1);
    assert_refused(h, "line break");
    (void)setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "/nonexistent/token", 1);
    assert_refused(h, "there is no /nonexistent/token");
}

static void aws_profile_set_here_passes_over_the_environments_role(void **state)
{
    static char work[] = "work";
    struct home *h = *state;

    write_file(h->credentials, "[work]\naws_access_key_id=W\naws_secret_access_key=w\n");
    (void)setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token", 1);
    h->settings.aws.profile = work;
    assert_refused(h, "AWS_ROLE_ARN is not");
    (void)setenv("AWS_ROLE_ARN", "arn:aws:iam::1:role/r", 1);
    assert_refused(h, "no token file /nonexistent/token");
    h->settings.aws.profile_is_set = true;
    assert_found(h, "W", "the AWS profile \"work\"");
}

int main(void)
{
#define AT_HOME(test) cmocka_unit_test_setup_teardown(test, make_home, remove_home)
    const struct CMUnitTest tests[] = {
        AT_HOME(settings_come_first_and_go_together),
        AT_HOME(without_any_source_the_words_say_what_to_do),
        AT_HOME(profiles_are_found_in_both_files),
        AT_HOME(a_profile_that_cannot_work_is_an_error_and_no_reason_to_go_on),
        AT_HOME(a_role_of_its_own_keys_is_no_circle),
        AT_HOME(a_program_gives_credentials_with_and_without_an_end),
        AT_HOME(tokens_go_to_nobody_who_should_not_have_them),
        AT_HOME(aws_profile_set_here_passes_over_the_environments_role),
    };
    return cmocka_run_group_tests_name("aws/credential_chain", tests, NULL, NULL);
}
