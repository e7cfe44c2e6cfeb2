#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/progress.h"

enum { LONG_AGO_MS = 10000 };

/* Runs it with standard error in a file, and gives what was written there. */
static const char *written(void (*run)(struct progress *p), bool on_terminal, uint64_t age_ms)
{
    static char text[4096];
    FILE *file = tmpfile();
    int before = dup(STDERR_FILENO);

    assert_non_null(file);
    (void)fflush(stderr);
    assert_true(dup2(fileno(file), STDERR_FILENO) >= 0);
    struct progress p = progress_begin("import");
    p.on_terminal = on_terminal;
    p.began_mono_ms -= age_ms;
    run(&p);
    (void)fflush(stderr);
    (void)dup2(before, STDERR_FILENO);
    (void)close(before);
    ssize_t n = pread(fileno(file), text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    (void)fclose(file);
    return text;
}

static void half(struct progress *p)
{
    progress_show(p, 50, 100, "events");
}

static void half_and_over(struct progress *p)
{
    progress_show(p, 50, 100, "events");
    progress_show(p, 51, 100, "events"); /* too soon after the last */
    progress_wipe(p);
    progress_wipe(p);
}

static void beyond(struct progress *p)
{
    progress_show(p, 200, 100, NULL);
}

static void of_unknown(struct progress *p)
{
    progress_show(p, 1234, 0, "rows");
}

static void a_bar_is_drawn_after_two_seconds(void **unused)
{
    (void)unused;
    assert_string_equal(written(half, true, 0), "");
    assert_non_null(strstr(written(half, true, LONG_AGO_MS),
                           "import ███████████████░░░░░░░░░░░░░░░  50 %  events  10 s left"));
    assert_non_null(strstr(written(beyond, true, LONG_AGO_MS), "100 %"));
    assert_null(strstr(written(beyond, true, LONG_AGO_MS), "left"));
    assert_string_equal(written(of_unknown, true, LONG_AGO_MS), "\r\033[Kimport 1,234  rows");
}

static void it_is_wiped_once(void **unused)
{
    (void)unused;
    const char *text = written(half_and_over, true, LONG_AGO_MS);

    assert_non_null(strstr(text, "50 %"));
    assert_null(strstr(text, "51 %"));
    assert_string_equal(text + strlen(text) - strlen(" left\r\033[K"), " left\r\033[K");
}

static void elsewhere_than_on_a_terminal_there_is_none(void **unused)
{
    (void)unused;
    assert_string_equal(written(half_and_over, false, LONG_AGO_MS), "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bar_is_drawn_after_two_seconds),
        cmocka_unit_test(it_is_wiped_once),
        cmocka_unit_test(elsewhere_than_on_a_terminal_there_is_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
