/* Single values of a proxy.conf change; all else stays, byte for byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "setup/conf_edit.h"
#include "setup/conf_plan.h"

static void assert_set(const char *before, const char *section, const char *title, const char *key,
                       const char *value, const char *after)
{
    struct buf text = {0};

    buf_add_str(&text, before);
    conf_edit_set(&text, section, title, key, value);
    assert_string_equal(buf_cstr(&text), after);
    conf_edit_set(&text, section, title, key, value); /* a second time changes nothing */
    assert_string_equal(buf_cstr(&text), after);
    assert_true(conf_edit_has(&text, section, title, key));
    buf_fini(&text);
}

static void a_value_is_replaced_where_it_stands(void **unused)
{
    (void)unused;
    assert_set("aws { region = \"a\" } # r\n", "aws", NULL, "region", "\"b\"",
               "aws { region = \"b\" } # r\n");
    assert_set("s {\n  # k = 1\n  k = old # why\n}\n", "s", NULL, "k", "new",
               "s {\n  # k = 1\n  k = new # why\n}\n");
    assert_set("k = {\"a\", # one }\n \"b\"}\nl = 1\n", "", NULL, "k", "{\"c\"}",
               "k = {\"c\"}\nl = 1\n");
    assert_set("domain \"x.y\" { k = 1 }\ndomain \"X.Z\" { k = 1 }\n", "domain", "x.z", "k", "2",
               "domain \"x.y\" { k = 1 }\ndomain \"X.Z\" { k = 2 }\n");
    /* The same key in another section, in a text, in comments is none of it. */
    assert_set("/* s { k = 1 } */ t { k = 1 }\nu = \"s { k = 1 }\"\n// s { k = 1 }\ns { k = 1 }\n",
               "s", NULL, "k", "2",
               "/* s { k = 1 } */ t { k = 1 }\nu = \"s { k = 1 }\"\n// s { k = 1 }\ns { k = 2 }\n");
    assert_set("s { t = 'it\\'s }' k = 1 }\n", "s", NULL, "k", "2", "s { t = 'it\\'s }' k = 2 }\n");
}

static void a_key_that_is_commented_out_comes_behind_its_comment(void **unused)
{
    (void)unused;
    assert_set(
        "aws {\n    # region = \"eu-west-1\"  # empty: the profile's\n    # profile = \"m\"\n}\n",
        "aws", NULL, "region", "\"b\"",
        "aws {\n    # region = \"eu-west-1\"  # empty: the profile's\n    region = \"b\"\n"
        "    # profile = \"m\"\n}\n");
    /* Not behind one of which the name is only the beginning. */
    assert_set("s {\n    # keys = 1\n}\n", "s", NULL, "key", "2",
               "s {\n    # keys = 1\n    key = 2\n}\n");
}

static void what_does_not_stand_there_comes_at_the_end(void **unused)
{
    (void)unused;
    assert_set("", "aws", NULL, "region", "\"b\"", "aws {\n    region = \"b\"\n}\n");
    assert_set("s {}\n", "s", NULL, "k", "1", "s { k = 1 }\n");
    assert_set("s { a = 1 }\n", "s", NULL, "k", "1", "s { a = 1 k = 1 }\n");
    assert_set("s {\n    a = 1\n}\nt {\n}\n", "s", NULL, "k", "1",
               "s {\n    a = 1\n    k = 1\n}\nt {\n}\n");
    assert_set("a = 1", "", NULL, "k", "1", "a = 1\nk = 1\n");
    assert_set("domain \"a\" { k = 1 }\n", "domain", "b", "k", "2",
               "domain \"a\" { k = 1 }\n\ndomain \"b\" {\n    k = 2\n}\n");
}

static void a_section_gets_another_title(void **unused)
{
    struct buf text = {0};

    (void)unused;
    buf_add_str(&text, "# domain \"a\" {\ndomain \"a\" { # here\n}\n");
    assert_true(conf_edit_retitle(&text, "domain", "a", "b.c"));
    assert_string_equal(buf_cstr(&text), "# domain \"a\" {\ndomain \"b.c\" { # here\n}\n");
    assert_false(conf_edit_retitle(&text, "domain", "a", "d"));
    buf_fini(&text);
}

/* Whatever the text, nothing is read past its end, and what is not broken stays. */
static void broken_texts_do_no_harm(void **unused)
{
    static const char *const texts[] = {"s {", "s { k",   "s { k =", "s { k = \"", "\"",
                                        "/*",  "s \"t\"", "}}}",     "= = =",      "s { k = {",
                                        "'\\", "k = 1 /", "#"};

    (void)unused;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct buf text = {0};
        uint8_t *exact = malloc(strlen(texts[i]));
        memcpy(exact, texts[i], strlen(texts[i]));
        text = (struct buf){exact, strlen(texts[i]), strlen(texts[i])};
        conf_edit_set(&text, "s", NULL, "k", "1");
        conf_edit_set(&text, "s", "t", "k", "1");
        conf_edit_set(&text, "", NULL, "k", "1");
        assert_true(text.len > strlen(texts[i]));
        buf_fini(&text);
    }
}

/* ---- the file ---- */

static const char whole[] = "queues { newsletter_events = \"http://127.0.0.1/1/q\" }\n"
                            "domain \"a.example\" { api_keys = {\"k\"} }\n";

static void a_file_is_replaced_whole_with_its_mode_and_a_backup_beside_it(void **unused)
{
    char folder[] = "/tmp/postern-conf-XXXXXX", path[64], link[64];
    struct buf text = {0}, backup = {0}, read = {0};
    struct stat st;
    struct err err = {0};

    (void)unused;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/proxy.conf", folder);
    (void)snprintf(link, sizeof link, "%s/link.conf", folder);
    buf_add_str(&text, whole);
    assert_int_equal(conf_edit_save(path, &text, &backup, &err), 0);
    assert_int_equal(backup.len, 0); /* there was none */
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);

    assert_int_equal(chmod(path, 0604), 0);
    assert_int_equal(symlink("proxy.conf", link), 0);
    for (int n = 0; n < 3; n++) {
        char wanted[80];
        (void)snprintf(wanted, sizeof wanted, "%s.bak%s", path, n == 0 ? "" : n == 1 ? ".1" : ".2");
        conf_edit_set(&text, "", NULL, "grace", n == 0 ? "\"1s\"" : n == 1 ? "\"2s\"" : "\"3s\"");
        assert_int_equal(conf_edit_save(link, &text, &backup, &err), 0);
        assert_string_equal(buf_cstr(&backup), wanted);
        assert_int_equal(stat(wanted, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0604);
    }
    assert_int_equal(lstat(link, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0604);

    /* What Postern could not run with is not written, and leaves nothing beside. */
    buf_reset(&read);
    buf_add_str(&read, "domain \"a.example\" { api_keys = {\"k\"} nonsense = 1 }\n");
    assert_int_equal(conf_edit_save(path, &read, &backup, &err), -1);
    assert_non_null(strstr(err.text, "nonsense"));
    buf_reset(&read);
    assert_int_equal(conf_edit_read(path, &read, &err), 0);
    assert_true(slice_eq(buf_slice(&read), buf_slice(&text)));

    char command[128];
    (void)snprintf(command, sizeof command, "test $(ls -A %s | wc -l) = 5 && rm -r %s", folder,
                   folder);
    assert_int_equal(system(command), 0);
    buf_fini(&text);
    buf_fini(&backup);
    buf_fini(&read);
}

/* ---- what is written ---- */

static struct config *load(const struct buf *text, char path[64], bool unfinished)
{
    char name[] = "/tmp/postern-plan-XXXXXX";
    struct buf mistakes = {0};
    int fd = mkstemp(name);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text->ptr, text->len), text->len);
    (void)close(fd);
    struct config *config =
        unfinished ? config_load_unfinished(name, &mistakes) : config_load(name, &mistakes);
    if (config == NULL)
        fail_msg("%s", buf_cstr(&mistakes));
    buf_fini(&mistakes);
    (void)snprintf(path, 64, "%s", name);
    (void)unlink(name);
    return config;
}

static void the_file_that_comes_with_postern_becomes_one_for_real_use(void **unused)
{
    struct plumbing_names names;
    struct plumbing p;
    struct conf_plan plan, again;
    struct buf text = {0};
    char path[64];
    const struct slice urls[] = {SLICE("https://sqs.eu-west-1.amazonaws.com/1/n"),
                                 SLICE("https://sqs.eu-west-1.amazonaws.com/1/s")};

    (void)unused;
    unsetenv("AWS_REGION");
    plumbing_names_default(&names);
    names.domain = "mail.example.com";
    assert_int_equal(plumbing_make(&p, &names, "eu-west-1", "111122223333", NULL), 0);
    buf_add_str(&text, "# mine\naws {\n    # region = \"x\"\n}\n"
                       "domain \"mg.example.com\" { # the example\n"
                       "    api_keys = {\"" CONF_PLAN_SANDBOX_KEY "\"}\n}\n"
                       "sandbox {\n    enabled = true # or not\n}\n");
    struct config *config = load(&text, path, true);
    conf_plan_make(&plan, buf_slice(&text), config, config->aws.region, &p, urls,
                   &(struct conf_keys){SLICE("AKIAX"), SLICE("s/e+c\"r\\et")});
    config_free(config);

    struct config *made = load(&plan.text, path, false);
    assert_string_equal(made->aws.region, "eu-west-1");
    assert_string_equal(made->aws.access_key_id, "AKIAX");
    assert_string_equal(made->aws.secret_access_key, "s/e+c\"r\\et");
    assert_string_equal(made->queues.newsletter_events, (const char *)urls[0].ptr);
    assert_string_equal(made->queues.system_events, (const char *)urls[1].ptr);
    assert_false(made->sandbox.enabled);
    assert_int_equal(made->domain_count, 1);
    assert_string_equal(made->domains[0].name, "mail.example.com");
    assert_string_equal(made->domains[0].newsletter_configuration_set, names.set[0]);
    assert_string_equal(made->domains[0].system_configuration_set, names.set[1]);
    assert_int_equal(made->domains[0].api_keys.count, 1);
    assert_true(slice_starts(slice_str(made->domains[0].api_keys.texts[0]), SLICE("sha256:")));
    assert_int_equal(plan.api_key.len, 44);
    assert_null(strstr(buf_cstr(&plan.text), CONF_PLAN_SANDBOX_KEY));
    assert_null(strstr(buf_cstr(&plan.text), buf_cstr(&plan.api_key)));
    assert_non_null(strstr(buf_cstr(&plan.text), "# or not"));

    assert_string_equal(made->queues.newsletter_buffer, "");
    assert_string_equal(made->queues.replication_topic, "");

    /* With that there is nothing left to change, and the key stays. */
    conf_plan_make(&again, buf_slice(&plan.text), made, made->aws.region, &p, urls,
                   &(struct conf_keys){{0}, {0}});
    assert_int_equal(again.changes.len, 0);
    assert_int_equal(again.api_key.len, 0);
    config_free(made);
    conf_plan_fini(&plan);
    conf_plan_fini(&again);
    plumbing_fini(&p);
    buf_fini(&text);
}

static void machines_that_share_a_buffer_share_their_changes(void **unused)
{
    struct plumbing_names names;
    struct plumbing p;
    struct conf_plan plan;
    const struct slice urls[] = {SLICE("https://sqs.eu-west-1.amazonaws.com/1/n"),
                                 SLICE("https://sqs.eu-west-1.amazonaws.com/1/s")};
    const char *const said[] = {"", "queues {\n    replication_topic = \"\"\n}\n"};
    const char *const wanted[] = {"arn:aws:sns:eu-west-1:111122223333:ghost-mailgun-proxy-events",
                                  ""};
    char path[64];

    (void)unused;
    unsetenv("AWS_REGION");
    plumbing_names_default(&names);
    names.domain = "mail.example.com";
    names.buffer_queue = "buffer";
    assert_int_equal(plumbing_make(&p, &names, "eu-west-1", "111122223333", NULL), 0);
    (void)cJSON_AddStringToObject(p.buffer->found = cJSON_CreateObject(), "QueueUrl",
                                  "https://sqs.eu-west-1.amazonaws.com/1/buffer.fifo");
    for (int i = 0; i < 2; i++) {
        struct buf text = {0};
        buf_printf(&text, "%sdomain \"mail.example.com\" { }\n", said[i]);
        struct config *config = load(&text, path, true);
        conf_plan_make(&plan, buf_slice(&text), config, "", &p, urls,
                       &(struct conf_keys){{0}, {0}});
        config_free(config);
        struct config *made = load(&plan.text, path, false);
        assert_string_equal(made->queues.newsletter_buffer,
                            "https://sqs.eu-west-1.amazonaws.com/1/buffer.fifo");
        assert_string_equal(made->queues.replication_topic, wanted[i]);
        config_free(made);
        conf_plan_fini(&plan);
        buf_fini(&text);
    }
    plumbing_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_is_replaced_where_it_stands),
        cmocka_unit_test(a_key_that_is_commented_out_comes_behind_its_comment),
        cmocka_unit_test(what_does_not_stand_there_comes_at_the_end),
        cmocka_unit_test(a_section_gets_another_title),
        cmocka_unit_test(broken_texts_do_no_harm),
        cmocka_unit_test(a_file_is_replaced_whole_with_its_mode_and_a_backup_beside_it),
        cmocka_unit_test(the_file_that_comes_with_postern_becomes_one_for_real_use),
        cmocka_unit_test(machines_that_share_a_buffer_share_their_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
