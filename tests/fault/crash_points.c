/*
 * tests/fault/crash_points.c - preloaded: a process dies of SIGKILL at a chosen point of its work.
 *
 * The file CRASH_POINTS_FILE holds `struct points`, native uint32_t. It is mapped shared: whoever
 * writes 1 into armed[point] ends the next process that comes there; it takes the 1 out and adds one
 * to fired[point] first. The point tells the process, for only one role ever comes there: only the
 * writer syncs, only senders call SES, only pollers delete messages, only httpds answer.
 *
 * The calls go to the kernel themselves, so that nothing of libc lies between a point and its death.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum point { /* chaos.mjs has their names, in this order */
             WRITER_BEFORE_SYNC,
             WRITER_AFTER_SYNC, /* the pages are on disk, LMDB's head is not: nothing was committed */
             WRITER_AFTER_COMMIT,  /* the head is on disk; nobody has been told */
             SENDER_BEFORE_CALL,   /* of SES; a lease is marked as started */
             SENDER_IN_CALL,       /* its first byte is out */
             SENDER_AFTER_CALL,    /* what fits the socket is out: as a rule, all */
             SENDER_ANSWERED,      /* SES has taken them, and its answer is lost */
             POLLER_BEFORE_DELETE, /* the events are on disk */
             POLLER_AFTER_DELETE,
             HTTPD_BEFORE_ANSWER,
             HTTPD_BEFORE_QUEUED, /* the answer to a POST whose batch is on disk */
             POINTS
};

struct points {
    _Atomic uint32_t armed[POINTS], fired[POINTS];
};

enum { LOOK_BYTES = 4096, HEAD_BYTES_MAX = 1024 };

static struct points *points;

static void __attribute__((constructor)) map_points(void)
{
    const char *path = getenv("CRASH_POINTS_FILE");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    struct stat st;
    void *at = fd < 0 || fstat(fd, &st) != 0 || st.st_size < (off_t)sizeof *points
                   ? MAP_FAILED
                   : mmap(NULL, sizeof *points, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    points = at == MAP_FAILED ? NULL : at;
    if (fd >= 0)
        (void)close(fd);
}

static bool is_armed(enum point p)
{
    return points != NULL && atomic_load_explicit(&points->armed[p], memory_order_relaxed) != 0;
}

static void come_to(enum point p)
{
    if (!is_armed(p) || atomic_exchange(&points->armed[p], 0) == 0)
        return;
    atomic_fetch_add(&points->fired[p], 1);
    (void)syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGKILL);
}

static bool has(const void *bytes, size_t len, const char *words)
{
    return bytes != NULL &&
           memmem(bytes, len < LOOK_BYTES ? len : LOOK_BYTES, words, strlen(words)) != NULL;
}

/* ---- the writer ---- */

int fdatasync(int fd)
{
    come_to(WRITER_BEFORE_SYNC);
    int got = (int)syscall(SYS_fdatasync, fd);
    come_to(WRITER_AFTER_SYNC);
    return got;
}

/* LMDB writes whole pages, and of a head what has changed in it. */
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    ssize_t got = syscall(SYS_pwrite64, fd, bytes, len, at);

    if (len < HEAD_BYTES_MAX)
        come_to(WRITER_AFTER_COMMIT);
    return got;
}

/* ---- senders and pollers ---- */

ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
    bool is_ses = has(bytes, len, "POST /v2/email/outbound");
    bool is_delete = !is_ses && has(bytes, len, "AmazonSQS.DeleteMessage");

    if (is_ses)
        come_to(SENDER_BEFORE_CALL);
    if (is_ses && is_armed(SENDER_IN_CALL)) {
        (void)syscall(SYS_sendto, fd, bytes, (size_t)1, flags, NULL, 0);
        come_to(SENDER_IN_CALL);
    }
    if (is_delete)
        come_to(POLLER_BEFORE_DELETE);
    ssize_t got = syscall(SYS_sendto, fd, bytes, len, flags, NULL, 0);
    if (is_ses)
        come_to(SENDER_AFTER_CALL);
    if (is_delete)
        come_to(POLLER_AFTER_DELETE);
    return got;
}

ssize_t recv(int fd, void *bytes, size_t len, int flags)
{
    ssize_t got = syscall(SYS_recvfrom, fd, bytes, len, flags, NULL, NULL);

    if (got > 0 && has(bytes, (size_t)got, "BulkEmailEntryResults"))
        come_to(SENDER_ANSWERED);
    return got;
}

/* ---- httpd ---- */

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    bool is_answer =
        count > 0 && parts[0].iov_len > 8 && memcmp(parts[0].iov_base, "HTTP/1.1", 8) == 0;

    if (is_answer)
        come_to(HTTPD_BEFORE_ANSWER);
    for (int i = 0; is_answer && i < count && is_armed(HTTPD_BEFORE_QUEUED); i++)
        if (has(parts[i].iov_base, parts[i].iov_len, "Queued. Thank you."))
            come_to(HTTPD_BEFORE_QUEUED);
    return syscall(SYS_writev, fd, parts, count);
}
