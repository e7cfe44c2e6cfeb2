/*
 * tests/fault/clock_jump.c - preloaded: the wall clock is off by as many seconds as the file
 * CLOCK_JUMP_FILE holds, a native int64_t. The file is mapped: who writes it moves the clock of all
 * processes at once, whatever they may open. The monotonic clock goes on.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t *offset_s;

static void __attribute__((constructor)) map_offset(void)
{
    const char *path = getenv("CLOCK_JUMP_FILE");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *offset_s, PROT_READ, MAP_SHARED, fd, 0);

    offset_s = at == MAP_FAILED ? NULL : at;
    if (fd >= 0)
        (void)close(fd);
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    int got = (int)syscall(SYS_clock_gettime, id, now);

    if (got == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) && offset_s != NULL)
        now->tv_sec += *(const volatile int64_t *)offset_s;
    return got;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec it;

    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &it) != 0)
        return -1;
    *now = (struct timeval){.tv_sec = it.tv_sec, .tv_usec = it.tv_nsec / 1000};
    return 0;
}

time_t time(time_t *to)
{
    struct timespec it;

    if (clock_gettime(CLOCK_REALTIME, &it) != 0)
        return (time_t)-1;
    if (to != NULL)
        *to = it.tv_sec;
    return it.tv_sec;
}
