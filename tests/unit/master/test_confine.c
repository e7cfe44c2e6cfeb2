/*
 * What each role can still do once it is confined: a child tries, and its exit status tells.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/sanitized.h"
#include "master/confine.h"
#include "store/store.h"

static char dir[64], data[128], lock[128], elsewhere[128];
static struct config config;
static struct confined missing;

enum { FINE = 0, NOT_CONFINED = 99 };

/* 0, or the errno of what `act` met; -SIG when it died of it. */
static int as(enum child_role role, int (*act)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        struct err err;
        (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        if (confine(role, &config, &missing, &err) != 0) {
            (void)fprintf(stderr, "%s\n", err.text);
            _exit(NOT_CONFINED);
        }
        _exit(act() == 0 ? FINE : errno);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
}

static int open_for(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC, 0600);

    return fd < 0 ? -1 : close(fd);
}

static int call_out(void)
{
    return socket(AF_INET, SOCK_STREAM, 0) < 0 ? -1 : 0;
}
static int packet(void)
{
    return socket(AF_PACKET, SOCK_RAW, 0) < 0 ? -1 : 0;
}
static int local_socket(void)
{
    return socket(AF_UNIX, SOCK_SEQPACKET, 0) < 0 ? -1 : 0;
}
static int run(void)
{
    return execl("/bin/true", "true", (char *)NULL);
}
static int split(void)
{
    return fork() < 0 ? -1 : 0;
}
static int shoot(void)
{
    return kill(getppid(), 0);
}
static int change_store(void)
{
    return open_for(data, O_RDWR);
}
static int read_store(void)
{
    return open_for(data, O_RDONLY);
}
static int note_reader(void)
{
    return open_for(lock, O_RDWR | O_CREAT);
}
static int read_elsewhere(void)
{
    return open_for(elsewhere, O_RDONLY);
}
static int make_elsewhere(void)
{
    char path[160];

    (void)snprintf(path, sizeof path, "%s.new", elsewhere);
    return open_for(path, O_WRONLY | O_CREAT);
}
static int make_in_state(void)
{
    char path[128];

    (void)snprintf(path, sizeof path, "%s/state/new", dir);
    return open_for(path, O_WRONLY | O_CREAT);
}
static int read_system(void)
{
    return open_for("/usr/bin/env", O_RDONLY);
}
static int take_caller(void)
{
    /* Whether it is allowed is asked before whether the descriptor is one. */
    return accept4(-1, NULL, NULL, 0) < 0 && errno == EPERM ? -1 : 0;
}
static int dump(void)
{
    struct rlimit limit;

    return getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0 ? 0 : -1;
}

static bool knows_calls(void)
{
    return as(ROLE_HTTPD, shoot) != FINE; /* false: no seccomp, or a sanitizer's build */
}

static bool knows_files(void)
{
    return as(ROLE_HTTPD, read_elsewhere) != FINE;
}

static void httpd_serves_and_no_more(void **state)
{
    (void)state;
    assert_int_equal(as(ROLE_HTTPD, dump), FINE);
    assert_int_equal(as(ROLE_HTTPD, read_store), FINE);
    assert_int_equal(as(ROLE_HTTPD, note_reader), FINE);
    assert_int_equal(as(ROLE_HTTPD, read_system), FINE);
    assert_int_equal(as(ROLE_HTTPD, take_caller), FINE);
    if (knows_files()) {
        assert_int_equal(as(ROLE_HTTPD, change_store), EACCES);
        assert_int_equal(as(ROLE_HTTPD, make_in_state), EACCES);
        assert_int_equal(as(ROLE_HTTPD, read_elsewhere), EACCES);
        assert_int_equal(as(ROLE_HTTPD, make_elsewhere), EACCES);
    } else {
        print_message("this kernel has no Landlock: files NOT CHECKED\n");
    }
    if (knows_calls()) {
        assert_int_equal(as(ROLE_HTTPD, call_out), EPERM);
        assert_int_equal(as(ROLE_HTTPD, local_socket), EPERM);
        assert_int_equal(as(ROLE_HTTPD, shoot), EPERM);
        assert_int_equal(as(ROLE_HTTPD, run), -SIGSYS);
        assert_int_not_equal(as(ROLE_HTTPD, split), FINE);
    } else {
        print_message("no seccomp here, or a sanitizer: calls NOT CHECKED\n");
    }
}

static void writer_writes_its_state_and_nothing_else(void **state)
{
    (void)state;
    assert_int_equal(as(ROLE_WRITER, change_store), FINE);
    assert_int_equal(as(ROLE_WRITER, make_in_state), FINE);
    assert_int_equal(as(ROLE_WRITER, local_socket), FINE);
    if (knows_files())
        assert_int_equal(as(ROLE_WRITER, make_elsewhere), EACCES);
    if (knows_calls()) {
        assert_int_equal(as(ROLE_WRITER, call_out), EPERM);
        assert_int_equal(as(ROLE_WRITER, run), -SIGSYS);
    }
}

static void sender_and_poller_call_and_take_no_callers(void **state)
{
    const enum child_role callers[] = {ROLE_SENDER, ROLE_POLLER};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(as(callers[i], call_out), FINE);
        assert_int_equal(as(callers[i], note_reader), FINE);
        assert_int_equal(as(callers[i], read_elsewhere), FINE); /* certificates, names */
        if (knows_files()) {
            assert_int_equal(as(callers[i], change_store), EACCES);
            assert_int_equal(as(callers[i], make_elsewhere), EACCES);
        }
        if (knows_calls()) {
            assert_int_equal(as(callers[i], take_caller), EPERM);
            assert_int_equal(as(callers[i], packet), EPERM);
            assert_int_equal(as(callers[i], shoot), EPERM);
            assert_int_equal(as(callers[i], run), -SIGSYS);
            assert_int_not_equal(as(callers[i], split), FINE);
        }
    }
}

static void keeper_runs_the_users_programs(void **state)
{
    (void)state;
    assert_int_equal(as(ROLE_KEEPER, run), FINE);
    assert_int_equal(as(ROLE_KEEPER, dump), FINE);
}

static void memory_ends_one_process(void **state)
{
    struct rlimit limit;
    struct err err;

    (void)state;
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        bool fine = confine(ROLE_KEEPER, &config, &missing, &err) == 0 &&
                    getrlimit(RLIMIT_DATA, &limit) == 0;
        if (!IS_SANITIZED)
            fine = fine && limit.rlim_max >= CONFINE_PRIVATE_BYTES &&
                   limit.rlim_max < 4 * (rlim_t)CONFINE_PRIVATE_BYTES &&
                   malloc((size_t)limit.rlim_max) == NULL;
        _exit(fine ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static int set_up(void **state)
{
    struct err err;
    static char state_dir[96];

    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/postern-confine-XXXXXX");
    assert_non_null(mkdtemp(dir));
    (void)snprintf(state_dir, sizeof state_dir, "%s/state", dir);
    (void)snprintf(data, sizeof data, "%s/store/data.mdb", state_dir);
    (void)snprintf(lock, sizeof lock, "%s/store/lock.mdb", state_dir);
    (void)snprintf(elsewhere, sizeof elsewhere, "%s/secret", dir);
    config.state_dir = state_dir;
    config.httpd.max_body_bytes = 1 << 20;
    config.sender.connections = 4;
    assert_int_equal(mkdir(state_dir, 0700), 0);
    struct store *s = store_open(state_dir, STORE_WRITE, &err);
    assert_non_null(s);
    store_close(s);
    assert_int_equal(open_for(elsewhere, O_WRONLY | O_CREAT), 0);
    return 0;
}

static int tear_down(void **state)
{
    char command[96];

    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command) == 0 ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(httpd_serves_and_no_more),
        cmocka_unit_test(writer_writes_its_state_and_nothing_else),
        cmocka_unit_test(sender_and_poller_call_and_take_no_callers),
        cmocka_unit_test(keeper_runs_the_users_programs),
        cmocka_unit_test(memory_ends_one_process),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
