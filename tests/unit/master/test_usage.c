/*
 * What processes use: measured while they live, and by wait4() when they are dead; it never falls.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "master/usage.h"

static pid_t spawn_busy(void)
{
    pid_t pid = fork();

    if (pid == 0)
        while (1)
            (void)clock();
    return pid;
}

static void processor_time_adds_up_over_lives(void **unused)
{
    enum { LIVES = 3, LEAST_US = 30000 };
    struct gauge_life life = {0};
    struct usage usage = {0};
    uint64_t before = 0;

    (void)unused;
    for (int i = 0; i < LIVES; i++) {
        struct rusage used;
        pid_t pid = spawn_busy();
        while (atomic_load(&life.cpu_us) < before + LEAST_US) { /* what it has used is seen */
            uint64_t last = atomic_load(&life.cpu_us);
            usage_measure(&usage, &life, pid);
            assert_true(atomic_load(&life.cpu_us) >= last);
        }
        assert_true(atomic_load(&life.resident_bytes) > 4096);
        uint64_t measured = atomic_load(&life.cpu_us);
        kill(pid, SIGKILL);
        assert_int_equal(wait4(pid, NULL, 0, &used), pid);
        usage_close(&usage, &life, &used);
        assert_true(atomic_load(&life.cpu_us) >= measured);
        assert_int_equal(atomic_load(&life.resident_bytes), 0);
        before = atomic_load(&life.cpu_us);
        usage_measure(&usage, &life, pid); /* nobody is there */
        assert_true(atomic_load(&life.cpu_us) == before);
    }
    assert_true(before >= LIVES * LEAST_US);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(processor_time_adds_up_over_lives),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
