/* Commands taken apart as a shell does it, and programs run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "aws/credential_process.h"
#include "base/clock.h"

static bool yes(void *arg)
{
    (void)arg;
    return true;
}

static bool no(void *arg)
{
    (void)arg;
    return false;
}

/* The words with bars between them, or what is wrong. */
static void assert_split(const char *command, const char *expected)
{
    char *words[PROCESS_WORDS_MAX + 1];
    struct arena arena = {0};
    struct buf joined = {0};
    struct err err = {0};

    if (process_split(&arena, slice_str(command), words, &err) != 0)
        buf_add_str(&joined, err.text);
    else
        for (size_t i = 0; words[i] != NULL; i++)
            buf_printf(&joined, "%s%s", i > 0 ? "|" : "", words[i]);
    assert_string_equal(buf_cstr(&joined), expected);
    buf_fini(&joined);
    arena_fini(&arena);
}

static void commands_are_split_as_a_shell_splits_them(void **unused)
{
    (void)unused;
    assert_split("a b\tc", "a|b|c");
    assert_split("  a  ", "a");
    assert_split("'/opt/my tool' \"--name=x y\" z", "/opt/my tool|--name=x y|z");
    assert_split("a \"q\\\"q\\\\\" 'b\\' c\\ d \\'", "a|q\"q\\|b\\|c d|'");
    assert_split("a \"\\n\" x'y'\"z\"", "a|\\n|xyz");
    assert_split("a '' \"\"", "a||");
    assert_split("a $HOME `b` ; c # d", "a|$HOME|`b`|;|c|#|d"); /* nothing is expanded */
    assert_split("", "it names no program");
    assert_split("''", "it names no program");
    assert_split("a 'b", "a ' in it is never closed");
    assert_split("a \"b\\\"", "a \" in it is never closed");
    assert_split("a\\", "nothing stands behind its last \\");
    assert_split("1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 "
                 "1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5",
                 "it has more than 64 words");
}

/* 0 and the output, or -1 and the words. */
static int run(const char *command, uint64_t timeout_ms, fetch_alive *alive, struct buf *output,
               struct err *err)
{
    buf_reset(output);
    return process_run(slice_str(command), "the profile", timeout_ms, alive, NULL, output, err);
}

static void a_programs_output_is_its_standard_output(void **unused)
{
    struct buf output = {0};
    struct err err = {0};

    (void)unused;
    assert_int_equal(run("sh -c 'cat; echo out; echo err >&2'", 10000, yes, &output, &err), 0);
    assert_string_equal(buf_cstr(&output), "out\n");
    assert_int_equal(run("sh -c 'echo s3cr3t; echo s3cr3t >&2; exit 7'", 10000, yes, &output, &err),
                     -1);
    assert_non_null(strstr(err.text, "exit status 7"));
    assert_null(strstr(err.text, "s3cr3t"));
    assert_int_equal(run("sh -c 'kill -9 $$'", 10000, yes, &output, &err), -1);
    assert_non_null(strstr(err.text, "signal 9"));
    assert_int_equal(run("/nonexistent/program", 10000, yes, &output, &err), -1);
    assert_non_null(strstr(err.text, "/nonexistent/program cannot be run"));
    buf_fini(&output);
}

static void a_program_is_told_no_more_than_it_needs(void **unused)
{
    struct buf output = {0};
    struct err err = {0};

    (void)unused;
    (void)setenv("POSTERN_TEST_SECRET", "s3cr3t", 1);
    (void)setenv("AWS_TEST_VARIABLE", "told", 1);
    assert_int_equal(run("env", 10000, yes, &output, &err), 0);
    assert_null(strstr(buf_cstr(&output), "s3cr3t"));
    assert_non_null(strstr(buf_cstr(&output), "AWS_TEST_VARIABLE=told"));
    assert_non_null(strstr(buf_cstr(&output), "PATH="));
    (void)unsetenv("POSTERN_TEST_SECRET");
    (void)unsetenv("AWS_TEST_VARIABLE");
    buf_fini(&output);
}

static void a_program_that_does_not_end_is_killed_with_all_it_started(void **unused)
{
    static const char *const endless[] = {
        "sh -c 'sleep 1000 & echo $$; wait'", "sh -c 'echo $$; exec >/dev/null; sleep 1000 & wait'",
        "sh -c 'echo $$; exec yes'", /* prints without end */
    };
    struct buf output = {0};
    struct err err = {0};

    (void)unused;
    for (size_t i = 0; i < sizeof endless / sizeof endless[0]; i++) {
        uint64_t begun = clock_mono_ms();
        assert_int_equal(run(endless[i], i < 2 ? 300 : 60000, yes, &output, &err), -1);
        assert_non_null(strstr(err.text, i < 2 ? "took too long" : "prints too much"));
        assert_true(clock_mono_ms() - begun < 30000);
        pid_t group = (pid_t)atoi(buf_cstr(&output));
        assert_true(group > 1);
        /* Its group is empty as soon as init has buried what it left. */
        while (kill(-group, 0) == 0)
            usleep(1000);
        assert_int_equal(errno, ESRCH);
    }
    assert_int_equal(run("sleep 1000", 60000, no, &output, &err), -1);
    assert_non_null(strstr(err.text, "leaving"));
    buf_fini(&output);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commands_are_split_as_a_shell_splits_them),
        cmocka_unit_test(a_programs_output_is_its_standard_output),
        cmocka_unit_test(a_program_is_told_no_more_than_it_needs),
        cmocka_unit_test(a_program_that_does_not_end_is_killed_with_all_it_started),
    };
    return cmocka_run_group_tests_name("aws/credential_process", tests, NULL, NULL);
}
