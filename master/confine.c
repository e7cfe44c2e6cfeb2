#include "master/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/sanitized.h"
#include "store/store.h"

enum { BODIES_AT_ONCE = 8 };

/* ---- resources ---- */

static int limit(int which, rlim_t most, struct err *err)
{
    struct rlimit now;

    if (getrlimit(which, &now) != 0)
        return err_sys(err, "getrlimit");
    if (now.rlim_max < most)
        most = now.rlim_max;
    now.rlim_cur = now.rlim_max = most;
    return setrlimit(which, &now) != 0 ? err_sys(err, "setrlimit") : 0;
}

/* The rings and the store are shared mappings, and do not count. */
static int limit_resources(const struct config *config, struct err *err)
{
    rlim_t private_bytes =
        (rlim_t)CONFINE_PRIVATE_BYTES + BODIES_AT_ONCE * (rlim_t)config->httpd.max_body_bytes +
        CONFINE_STACK_BYTES *
            ((rlim_t)config->sender.connections + (rlim_t)config->webhooks.connections);

    if (limit(RLIMIT_CORE, 0, err) != 0)
        return -1;
    return IS_SANITIZED ? 0 : limit(RLIMIT_DATA, private_bytes, err);
}

/* ---- files ---- */

#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif

enum { ABI_REFER = 2, ABI_TRUNCATE = 3 };

static const uint64_t reading = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
static const uint64_t making =
    LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_CHAR |
    LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |
    LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM;
/* These a rule for a single file may give. */
static const uint64_t of_a_file = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE |
                                  LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_TRUNCATE;

struct fence {
    int fd;
    uint64_t handled;
};

/* A path that is not there gives nothing. */
static int give(const struct fence *f, const char *path, uint64_t rights, struct err *err)
{
    struct landlock_path_beneath_attr rule = {.allowed_access = rights & f->handled};
    struct stat st;

    rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
    if (rule.parent_fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES
                   ? 0
                   : err_sys(err, "%s cannot be given to a child", path);
    if (fstat(rule.parent_fd, &st) == 0 && !S_ISDIR(st.st_mode))
        rule.allowed_access &= of_a_file;
    long failed = rule.allowed_access == 0
                      ? 0
                      : syscall(SYS_landlock_add_rule, f->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
    int result = failed != 0 ? err_sys(err, "%s cannot be given to a child", path) : 0;
    (void)close(rule.parent_fd);
    return result;
}

static int give_store(const struct fence *f, enum child_role role, const char *state_dir,
                      struct err *err)
{
    const uint64_t writing = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE;
    struct buf path = {0};
    int failed = -1;

    if (store_touch_lock(state_dir, &path, err) == 0) {
        if (role == ROLE_WRITER)
            failed = give(f, state_dir, reading | writing | making, err);
        else /* LMDB's readers note there who they are */
            failed = give(f, buf_cstr(&path), LANDLOCK_ACCESS_FS_READ_FILE | writing, err);
        if (failed == 0 && role == ROLE_HTTPD)
            failed = give(f, state_dir, reading, err);
    }
    buf_fini(&path);
    return failed;
}

/* Character sets, time zones, libraries loaded late; nothing of /etc that may hold a secret. */
static int give_system(const struct fence *f, struct err *err)
{
    static const char *const paths[] = {
        "/usr",           "/lib",      "/lib64",      "/etc/ld.so.cache",
        "/etc/localtime", "/dev/null", "/dev/urandom"};

    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        if (give(f, paths[i], reading, err) != 0)
            return -1;
    return 0;
}

/* 1 = the kernel does not know how. */
static int confine_files(enum child_role role, const struct config *config, struct err *err)
{
    long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct fence f = {.handled =
                          LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | making};

    if (abi < 1)
        return 1;
    if (role == ROLE_HTTPD)
        f.handled |= reading;
    if (abi >= ABI_REFER)
        f.handled |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= ABI_TRUNCATE)
        f.handled |= LANDLOCK_ACCESS_FS_TRUNCATE;
    struct landlock_ruleset_attr attr = {.handled_access_fs = f.handled};
    f.fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
    if (f.fd < 0)
        return err_sys(err, "landlock_create_ruleset");
    int failed = role == ROLE_SANDBOX || role == ROLE_LOGGER
                     ? 0
                     : give_store(&f, role, config->state_dir, err);
    if (failed == 0 && role == ROLE_HTTPD)
        failed = give_system(&f, err);
    if (failed == 0 && syscall(SYS_landlock_restrict_self, f.fd, 0) != 0)
        failed = err_sys(err, "landlock_restrict_self");
    (void)close(f.fd);
    return failed;
}

/* ---- system calls ---- */

enum {
    HTTPD = 1 << ROLE_HTTPD,
    WRITER = 1 << ROLE_WRITER,
    CALLERS = 1 << ROLE_SENDER | 1 << ROLE_POLLER | 1 << ROLE_COURIER, /* of AWS, of receivers */
    SANDBOX = 1 << ROLE_SANDBOX,
    LOGGER = 1 << ROLE_LOGGER,
    ALL = HTTPD | WRITER | CALLERS | SANDBOX | LOGGER,
};

static const struct {
    int roles;
    const char *names; /* one space between */
} allowed[] = {
    /* memory, time, itself */
    {ALL, "brk mmap munmap mremap mprotect madvise mincore msync mlock munlock membarrier"},
    {ALL, "clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time getpid gettid "
          "getppid getuid geteuid getgid getegid getrandom getrusage getcpu sysinfo uname times "
          "prlimit64 getrlimit sched_yield sched_getaffinity futex set_robust_list rseq "
          "set_tid_address restart_syscall exit exit_group"},
    {ALL, "rt_sigaction rt_sigprocmask rt_sigreturn rt_sigtimedwait rt_sigpending sigaltstack"},
    /* files that are open, or that the fence around files lets it open */
    {ALL, "read readv pread64 write writev pwrite64 pwritev lseek close close_range dup dup2 dup3 "
          "fcntl fstat newfstatat fstatat64 stat lstat statx statfs fstatfs open openat access "
          "faccessat faccessat2 readlink readlinkat getcwd getdents64 flock pipe pipe2 "
          "fsync fdatasync sync_file_range fallocate ftruncate"},
    {WRITER, "mkdir mkdirat unlink unlinkat rename renameat renameat2 chmod fchmod fchmodat umask"},
    /* waiting */
    {ALL, "poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait "
          "epoll_pwait2 eventfd eventfd2 signalfd signalfd4 timerfd_create timerfd_settime "
          "timerfd_gettime"},
    /* sockets that are there */
    {ALL, "recvfrom recvmsg recvmmsg sendto sendmsg sendmmsg sendfile shutdown getsockopt "
          "setsockopt getsockname getpeername"},
    {HTTPD | WRITER | SANDBOX, "accept accept4"},
    {WRITER | SANDBOX, "listen"},
    /* bind: getaddrinfo() asks the kernel for its addresses over a netlink socket */
    {WRITER | CALLERS | SANDBOX, "bind"},
    {CALLERS | SANDBOX | LOGGER, "connect"},
    {LOGGER, "tee"},
};

/* What nothing of ours does: whoever asks is not us any more. */
static const char *const hostile =
    "execve execveat ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp mount umount2 "
    "pivot_root chroot setns unshare init_module finit_module delete_module kexec_load "
    "kexec_file_load bpf perf_event_open userfaultfd add_key request_key keyctl io_uring_setup "
    "setuid setgid setreuid setregid setresuid setresgid setgroups capset personality reboot "
    "swapon swapoff open_by_handle_at fork vfork";

static int add_names(scmp_filter_ctx filter, uint32_t action, const char *names, struct err *err)
{
    struct slice rest = slice_str(names), word;

    while (rest.len > 0) {
        char name[32];
        (void)slice_cut(rest, ' ', &word, &rest);
        (void)snprintf(name, sizeof name, "%.*s", SLICE_ARGS(word));
        int number = seccomp_syscall_resolve_name(name);
        if (number == __NR_SCMP_ERROR)
            continue; /* a call that this machine's libseccomp does not know yet */
        int rc = seccomp_rule_add(filter, action, number, 0);
        if (rc != 0)
            return err_set(err, ERR_SYSTEM, "seccomp: a rule for %s: %s", name, strerror(-rc));
    }
    return 0;
}

/* With one argument of a value, or, with a mask, of these bits. */
static int add_with(scmp_filter_ctx filter, const char *name, struct scmp_arg_cmp argument)
{
    int number = seccomp_syscall_resolve_name(name);

    return seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 1, argument);
}

static int add_arguments(scmp_filter_ctx filter, int role)
{
    const uint64_t ioctls[] = {FIONREAD, FIONBIO, FIOCLEX, TCGETS};
    const int families[] = {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK};
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < sizeof ioctls / sizeof ioctls[0]; i++)
        rc = add_with(filter, "ioctl", SCMP_A1(SCMP_CMP_EQ, ioctls[i]));
    if (rc == 0) /* abort(): to nobody else */
        rc = add_with(filter, "tgkill", SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid()));
    if (rc == 0)
        rc = add_with(filter, "prctl", SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME));
    if (rc == 0)
        rc = add_with(filter, "socketpair", SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
    if (rc == 0 && (role & (WRITER | LOGGER)) != 0)
        rc = add_with(filter, "socket", SCMP_A0(SCMP_CMP_EQ, AF_UNIX));
    for (size_t i = 0;
         rc == 0 && (role & (CALLERS | SANDBOX)) != 0 && i < sizeof families / sizeof families[0];
         i++)
        rc = add_with(filter, "socket", SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i]));
    /* curl looks names up in threads. clone3() hides its flags, and glibc goes on with clone() when
     * there is none. */
    if (rc == 0 && (role & (CALLERS | SANDBOX)) != 0)
        rc = add_with(filter, "clone", SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
    if (rc == 0)
        rc = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    return rc;
}

static int fill(scmp_filter_ctx filter, int role, struct err *err)
{
    for (size_t i = 0; i < sizeof allowed / sizeof allowed[0]; i++)
        if ((allowed[i].roles & role) != 0 &&
            add_names(filter, SCMP_ACT_ALLOW, allowed[i].names, err) != 0)
            return -1;
    int rc = add_arguments(filter, role);
    if (rc != 0)
        return err_set(err, ERR_SYSTEM, "seccomp: a rule with arguments: %s", strerror(-rc));
    return add_names(filter, SCMP_ACT_KILL_PROCESS, hostile, err);
}

/* 1 = the kernel does not know how. */
static int confine_calls(enum child_role role, struct err *err)
{
    if (prctl(PR_GET_SECCOMP, 0, 0, 0, 0) < 0)
        return 1;
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (filter == NULL)
        return err_set(err, ERR_SYSTEM, "seccomp: no filter");
    int failed = fill(filter, 1 << role, err);
    int rc = failed == 0 ? seccomp_load(filter) : 0;
    seccomp_release(filter);
    if (rc == -EINVAL || rc == -ENOSYS)
        return 1;
    return rc != 0 ? err_set(err, ERR_SYSTEM, "seccomp: %s", strerror(-rc)) : failed;
}

int confine(enum child_role role, const struct config *config, struct confined *missing,
            struct err *err)
{
    *missing = (struct confined){0};
    if (limit_resources(config, err) != 0)
        return -1;
    if (role == ROLE_KEEPER)
        return 0;
    int files = confine_files(role, config, err);
    /* The sanitizers' own work takes calls that no program of ours makes. */
    int calls = files < 0 || IS_SANITIZED ? 0 : confine_calls(role, err);
    missing->without_files = files > 0;
    missing->without_calls = calls > 0;
    return files < 0 || calls < 0 ? -1 : 0;
}
