#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "aws/credentials.h"

struct home {
    char folder[64], credentials[96], config[96];
    struct config settings;
};

static void write_file(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static int make_home(void **state)
{
    static char none[] = "";
    struct home *h = calloc(1, sizeof *h);

    (void)snprintf(h->folder, sizeof h->folder, "/tmp/postern-credentials-XXXXXX");
    if (mkdtemp(h->folder) == NULL)
        return -1;
    (void)snprintf(h->credentials, sizeof h->credentials, "%s/credentials", h->folder);
    (void)snprintf(h->config, sizeof h->config, "%s/config", h->folder);
    h->settings.aws.access_key_id = h->settings.aws.secret_access_key = none;
    h->settings.aws.session_token = h->settings.aws.profile = none;
    (void)setenv("AWS_SHARED_CREDENTIALS_FILE", h->credentials, 1);
    (void)setenv("AWS_CONFIG_FILE", h->config, 1);
    *state = h;
    return 0;
}

static int remove_home(void **state)
{
    struct home *h = *state;

    (void)unlink(h->credentials);
    (void)unlink(h->config);
    (void)rmdir(h->folder);
    free(h);
    return 0;
}

static void assert_refused(const struct home *h, const char *words)
{
    struct err err = {0};

    assert_null(credentials_create(&h->settings, &err));
    if (strstr(err.text, words) == NULL)
        fail_msg("\"%s\" is not in \"%s\"", words, err.text);
}

static void settings_come_before_files(void **state)
{
    static char id[] = "AKIDSETTING", secret[] = "from-setting";
    struct home *h = *state;
    struct err err = {0};

    write_file(h->credentials, "[default]\naws_access_key_id=AKIDFILE\naws_secret_access_key=x\n");
    h->settings.aws.access_key_id = id;
    h->settings.aws.secret_access_key = secret;
    struct credentials_store *s = credentials_create(&h->settings, &err);
    assert_non_null(s);
    assert_string_equal(credentials_now(s, 1)->access_key_id, "AKIDSETTING");
    assert_string_equal(credentials_now(s, 1)->session_token, "");
    assert_false(credentials_renew(s));
    credentials_destroy(s);
}

static void half_a_key_is_refused(void **state)
{
    static char id[] = "AKIDSETTING";
    struct home *h = *state;

    h->settings.aws.access_key_id = id;
    assert_refused(h, "aws.secret_access_key (AWS_SECRET_ACCESS_KEY) is not");
    h->settings.aws.access_key_id = h->settings.aws.secret_access_key;
    write_file(h->credentials, "[default]\naws_access_key_id = A\n");
    assert_refused(h, "lacks aws_secret_access_key");
}

static void nothing_anywhere_is_said_with_what_to_do(void **state)
{
    assert_refused(*state, "AWS_ACCESS_KEY_ID");
}

static void a_profile_is_found_in_either_file(void **state)
{
    static char work[] = "work", other[] = "other", absent[] = "absent", sso[] = "sso";
    struct home *h = *state;
    struct err err = {0};

    write_file(h->credentials, "# mine\n[default]\naws_access_key_id=D\naws_secret_access_key=d\n"
                               "[ work ]\r\n  nested = 1\naws_access_key_id = W ; a comment\r\n"
                               "aws_secret_access_key = w+/=#1\r\naws_session_token=t\r\n[x]\n"
                               "aws_access_key_id=X\n");
    write_file(
        h->config,
        "[default]\nregion=us-east-1\n[profile work]\nregion = eu-west-1\n[work]\nregion=no\n"
        "[profile other]\naws_access_key_id=O\naws_secret_access_key=o\n"
        "[profile sso]\nsso_start_url = https://example.com\n");
    h->settings.aws.profile = work;
    struct credentials_store *s = credentials_create(&h->settings, &err);
    assert_non_null(s);
    const struct credentials *c = credentials_now(s, 1);
    assert_string_equal(c->access_key_id, "W");
    assert_string_equal(c->secret_access_key, "w+/=#1");
    assert_string_equal(c->session_token, "t");
    assert_string_equal(c->region, "eu-west-1");
    credentials_destroy(s);

    h->settings.aws.profile = other;
    s = credentials_create(&h->settings, &err);
    assert_non_null(s);
    assert_string_equal(credentials_now(s, 1)->access_key_id, "O");
    credentials_destroy(s);

    h->settings.aws.profile = absent;
    assert_refused(h, "no AWS profile \"absent\"");
    h->settings.aws.profile = sso;
    assert_refused(h, "sso_start_url, which is not supported");
}

static void changed_files_are_read_again_and_broken_ones_change_nothing(void **state)
{
    struct home *h = *state;
    struct err err = {0};

    write_file(h->credentials, "[default]\naws_access_key_id=A\naws_secret_access_key=a\n");
    struct credentials_store *s = credentials_create(&h->settings, &err);
    assert_non_null(s);
    uint64_t generation = credentials_now(s, 1)->generation;
    write_file(h->credentials, "[default]\naws_access_key_id=BB\naws_secret_access_key=b\n");
    assert_string_equal(credentials_now(s, 2)->access_key_id, "A"); /* not looked at yet */
    const struct credentials *c = credentials_now(s, 1 + CREDENTIALS_LOOK_MS);
    assert_string_equal(c->access_key_id, "BB");
    assert_true(c->generation > generation);
    assert_false(credentials_renew(s));
    write_file(h->credentials, "[default]\naws_access_key_id=C\n");
    assert_false(credentials_renew(s));
    assert_string_equal(credentials_now(s, 2 + CREDENTIALS_LOOK_MS)->access_key_id, "BB");
    write_file(h->credentials, "[default]\naws_access_key_id=C\naws_secret_access_key=c\n");
    assert_true(credentials_renew(s));
    credentials_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(settings_come_before_files, make_home, remove_home),
        cmocka_unit_test_setup_teardown(half_a_key_is_refused, make_home, remove_home),
        cmocka_unit_test_setup_teardown(nothing_anywhere_is_said_with_what_to_do, make_home,
                                        remove_home),
        cmocka_unit_test_setup_teardown(a_profile_is_found_in_either_file, make_home, remove_home),
        cmocka_unit_test_setup_teardown(changed_files_are_read_again_and_broken_ones_change_nothing,
                                        make_home, remove_home),
    };
    return cmocka_run_group_tests_name("aws/credentials", tests, NULL, NULL);
}
