#include "aws/credential_process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"

enum { LOOK_MS = 20 };

/* ---- words ---- */

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* One word, from its first byte on; *command is behind it. POSIX shell, XCU 2.2, without what
 * expands. */
static int take_word(struct slice *command, char *to, struct err *err)
{
    uint8_t quote = '\0';

    while (command->len > 0 && (quote != '\0' || !is_blank(command->ptr[0]))) {
        uint8_t c = command->ptr[0];
        *command = slice_from(*command, 1);
        if (c == quote) {
            quote = '\0';
        } else if (quote == '\0' && (c == '\'' || c == '"')) {
            quote = c;
        } else if (c == '\\' && quote != '\'') {
            if (command->len == 0)
                return err_set(err, ERR_CONFIG, "nothing stands behind its last \\");
            bool escapes = quote == '\0' || command->ptr[0] == '"' || command->ptr[0] == '\\' ||
                           command->ptr[0] == '$' || command->ptr[0] == '`';
            if (!escapes)
                *to++ = '\\';
            *to++ = (char)command->ptr[0];
            *command = slice_from(*command, 1);
        } else {
            *to++ = (char)c;
        }
    }
    *to = '\0';
    return quote != '\0' ? err_set(err, ERR_CONFIG, "a %c in it is never closed", quote) : 0;
}

int process_split(struct arena *arena, struct slice command, char *words[PROCESS_WORDS_MAX + 1],
                  struct err *err)
{
    size_t count = 0;

    if (slice_find_byte(command, '\0') != SIZE_MAX)
        return err_set(err, ERR_CONFIG, "a NUL byte stands in it");
    for (;;) {
        while (command.len > 0 && is_blank(command.ptr[0]))
            command = slice_from(command, 1);
        if (command.len == 0)
            break;
        if (count == PROCESS_WORDS_MAX)
            return err_set(err, ERR_CONFIG, "it has more than %d words", PROCESS_WORDS_MAX);
        words[count] = arena_alloc(arena, command.len + 1);
        if (take_word(&command, words[count], err) != 0)
            return -1;
        count++;
    }
    words[count] = NULL;
    return count == 0 || words[0][0] == '\0' ? err_set(err, ERR_CONFIG, "it names no program") : 0;
}

/* ---- the environment ---- */

static bool may_know(struct slice variable)
{
    static const char *const names[] = {"PATH",  "HOME", "USER", "LOGNAME",
                                        "SHELL", "LANG", "TZ",   "TMPDIR"};
    static const char *const beginnings[] = {"LC_", "XDG_", "AWS_", "SSL_CERT_"};
    struct slice name, value;

    (void)slice_cut(variable, '=', &name, &value);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (slice_eq(name, slice_str(names[i])))
            return true;
    for (size_t i = 0; i < sizeof beginnings / sizeof beginnings[0]; i++)
        if (slice_starts(name, slice_str(beginnings[i])))
            return true;
    return slice_ends_nocase(name, SLICE("_proxy"));
}

/* Borrowed from ours; the list is the caller's. */
static char **its_environment(void)
{
    size_t count = 0;

    while (environ != NULL && environ[count] != NULL)
        count++;
    char **some = mem_zero(count + 1, sizeof *some);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (may_know(slice_str(environ[i])))
            some[kept++] = environ[i];
    return some;
}

/* ---- a run ---- */

static int spawn_it(char *const words[], int out, pid_t *pid)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    char **environment = its_environment();

    (void)sigemptyset(&none);
    (void)sigfillset(&all);
    (void)posix_spawn_file_actions_init(&files);
    (void)posix_spawnattr_init(&attributes);
    int failed = posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    if (failed == 0)
        failed = posix_spawn_file_actions_adddup2(&files, out, 1);
    if (failed == 0)
        failed = posix_spawn_file_actions_addopen(&files, 2, "/dev/null", O_WRONLY, 0);
    if (failed == 0)
        failed = posix_spawn_file_actions_addclosefrom_np(&files, 3);
    (void)posix_spawnattr_setpgroup(&attributes, 0);
    (void)posix_spawnattr_setsigmask(&attributes, &none);
    (void)posix_spawnattr_setsigdefault(&attributes, &all);
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
                                                    POSIX_SPAWN_SETSIGDEF);
    if (failed == 0)
        failed = posix_spawnp(pid, words[0], &files, &attributes, words, environment);
    (void)posix_spawn_file_actions_destroy(&files);
    (void)posix_spawnattr_destroy(&attributes);
    free(environment);
    return failed;
}

/* Up to the end of its output. NULL = all of it was read; else what stopped us. */
static const char *read_output(int fd, uint64_t until_mono_ms, fetch_alive *alive, void *arg,
                               struct buf *output)
{
    (void)buf_reserve(output, PROCESS_OUTPUT_MAX_BYTES + 1); /* nothing moves, as secrets come */
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (!alive(arg))
            return "it was given up, as we are leaving";
        if (clock_mono_ms() >= until_mono_ms)
            return "it took too long and was killed";
        if (poll(&p, 1, LOOK_MS) <= 0)
            continue;
        ssize_t got = read(fd, output->ptr + output->len, output->cap - output->len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return "its output cannot be read";
        if (got == 0)
            return NULL;
        output->len += (size_t)got;
        if (output->len > PROCESS_OUTPUT_MAX_BYTES)
            return "it prints too much and was killed";
    }
}

/* Its output is at its end; it may go on for a while. It stays a zombie, so that its number, and
 * its group's, is nobody else's. */
static const char *wait_for_end(pid_t pid, uint64_t until_mono_ms, fetch_alive *alive, void *arg)
{
    const struct timespec step = {.tv_nsec = LOOK_MS * 1000000L / 4};

    for (;;) {
        siginfo_t ended = {0};
        if (waitid(P_PID, (id_t)pid, &ended, WEXITED | WNOHANG | WNOWAIT) == 0 &&
            ended.si_pid == pid)
            return NULL;
        if (!alive(arg))
            return "it was given up, as we are leaving";
        if (clock_mono_ms() >= until_mono_ms)
            return "it took too long and was killed";
        (void)nanosleep(&step, NULL);
    }
}

int process_run(struct slice command, const char *where, uint64_t timeout_ms, fetch_alive *alive,
                void *arg, struct buf *output, struct err *err)
{
    char *words[PROCESS_WORDS_MAX + 1];
    struct arena arena = {0};
    struct err why;
    uint64_t until = clock_mono_ms() + timeout_ms;
    int fds[2], status = 0;
    pid_t pid = 0;

    if (process_split(&arena, command, words, &why) != 0) {
        arena_fini(&arena);
        return err_set(err, ERR_CONFIG, "%s, credential_process: %s", where, why.text);
    }
    if (pipe2(fds, O_CLOEXEC) != 0) {
        arena_fini(&arena);
        return err_sys(err, "%s, credential_process: pipe", where);
    }
    int failed = spawn_it(words, fds[1], &pid);
    (void)close(fds[1]);
    if (failed != 0) {
        errno = failed;
        (void)err_sys(err, "%s, credential_process: %s cannot be run", where, words[0]);
        (void)close(fds[0]);
        arena_fini(&arena);
        return -1;
    }
    const char *stopped = read_output(fds[0], until, alive, arg, output);
    if (stopped == NULL)
        stopped = wait_for_end(pid, until, alive, arg);
    (void)close(fds[0]);
    (void)kill(-pid, SIGKILL); /* it, or what it left behind */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    int result = 0;
    if (stopped != NULL)
        result =
            err_set(err, ERR_CONFIG, "%s, credential_process %s: %s", where, words[0], stopped);
    else if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        result = err_set(err, ERR_CONFIG,
                         "%s, credential_process %s ended with %s %d: run it by hand as this user "
                         "to see why",
                         where, words[0], WIFEXITED(status) ? "exit status" : "signal",
                         WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
    arena_fini(&arena);
    return result;
}
