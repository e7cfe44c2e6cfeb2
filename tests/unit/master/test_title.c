/*
 * The title is what /proc, and so ps, shows of the process; the environment is read as before.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "master/title.h"

#define NEED(what)                                                                                 \
    do {                                                                                           \
        if (!(what)) {                                                                             \
            (void)fprintf(stderr, "line %d: %s\n", __LINE__, #what);                               \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

enum { FILE_BYTES = 1 << 20 };

/* Of /proc/self; NUL-terminated. */
static size_t read_own(const char *path, char *text)
{
    size_t len = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);

    for (ssize_t n = 1; fd >= 0 && n > 0 && len<FILE_BYTES; len += n> 0 ? (size_t)n : 0)
        n = read(fd, text + len, FILE_BYTES - len);
    if (fd >= 0)
        (void)close(fd);
    text[len] = '\0';
    return len;
}

/* In a process of its own: what is set stays set. */
static void in_child(void (*what)(char *text))
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        char *text = malloc(FILE_BYTES + 1);
        NEED(text != NULL);
        what(text);
        free(text);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void sets_a_title(char *text)
{
    title_set("httpd 0");
    size_t len = read_own("/proc/self/cmdline", text);
    NEED(strcmp(text, "postern: httpd 0") == 0);
    for (size_t i = strlen(text); i < len; i++)
        NEED(text[i] == '\0'); /* nothing of the old one behind it */
    NEED(getenv("TITLE_TEST") != NULL && strcmp(getenv("TITLE_TEST"), "a secret") == 0);
    len = read_own("/proc/self/environ", text);
    NEED(memmem(text, len, "a secret", 8) == NULL);
    title_set("sender 12");
    (void)read_own("/proc/self/cmdline", text);
    NEED(strcmp(text, "postern: sender 12") == 0);
}

static void cuts_a_long_one(char *text)
{
    static char name[FILE_BYTES];

    memset(name, 'x', sizeof name - 1);
    title_set(name);
    size_t len = read_own("/proc/self/cmdline", text);
    NEED(len > 30 && strncmp(text, "postern: xxxx", 13) == 0);
    NEED(strcmp(getenv("TITLE_TEST"), "a secret") == 0);
}

static void a_title_takes_the_place_of_the_command_line(void **unused)
{
    (void)unused;
    in_child(sets_a_title);
}

static void a_title_that_does_not_fit_is_cut(void **unused)
{
    (void)unused;
    in_child(cuts_a_long_one);
}

/* Its variable has to be among those that the kernel has placed: it starts itself anew. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_title_takes_the_place_of_the_command_line),
        cmocka_unit_test(a_title_that_does_not_fit_is_cut),
    };

    if (getenv("TITLE_TEST") == NULL) {
        (void)setenv("TITLE_TEST", "a secret", 1);
        (void)execv("/proc/self/exe", argv);
        return 1;
    }
    title_init(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
