/*
 * Histograms: values fall into their steps, several add up, and no kill makes one fall.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/histogram.h"

static uint64_t count_of(const struct histogram_sums *s)
{
    uint64_t count = 0;

    for (size_t i = 0; i < HISTOGRAM_STEPS; i++)
        count += s->count[i];
    return count;
}

static void a_value_falls_into_the_first_step_that_holds_it(void **unused)
{
    const struct histogram_scale *scales[] = {&histogram_quick_us, &histogram_lag_us,
                                              &histogram_records};

    (void)unused;
    for (size_t k = 0; k < sizeof scales / sizeof *scales; k++) {
        size_t steps = histogram_step_count(scales[k]);
        struct histogram h = {0};
        struct histogram_sums sums = {0};
        assert_in_range(steps, 2, HISTOGRAM_STEPS);
        assert_true(scales[k]->most[steps - 1] == UINT64_MAX);
        for (size_t i = 0; i + 1 < steps; i++) {
            assert_true(i == 0 || scales[k]->most[i] > scales[k]->most[i - 1]);
            histogram_add(&h, scales[k], scales[k]->most[i]);
            histogram_add(&h, scales[k], scales[k]->most[i] + 1); /* the next one's */
        }
        histogram_read(&h, &sums);
        assert_int_equal(sums.count[0], 1);
        for (size_t i = 1; i + 1 < steps; i++)
            assert_int_equal(sums.count[i], 2);
        assert_int_equal(sums.count[steps - 1], 1);
    }
}

static void several_add_up_and_what_was_gathered_is_handed_over_once(void **unused)
{
    struct histogram a = {0}, b = {0}, gathered = {0};
    struct histogram_sums sums = {0};

    (void)unused;
    histogram_add(&a, &histogram_quick_us, 400);
    histogram_add(&b, &histogram_quick_us, 700);
    histogram_add(&gathered, &histogram_quick_us, 800);
    histogram_publish(&b, &gathered);
    histogram_publish(&b, &gathered); /* nothing is left of it */
    histogram_read(&a, &sums);
    histogram_read(&b, &sums);
    assert_int_equal(sums.count[0], 1);
    assert_int_equal(sums.count[1], 2);
    assert_int_equal(sums.sum, 1900);
}

static void *add_many(void *arg)
{
    for (uint64_t i = 0; i < 100000; i++)
        histogram_add(arg, &histogram_quick_us, i % 3000);
    return NULL;
}

static void a_reader_beside_the_writer_sees_it_grow(void **unused)
{
    struct histogram h = {0};
    uint64_t seen = 0;
    pthread_t writer;

    (void)unused;
    assert_int_equal(pthread_create(&writer, NULL, add_many, &h), 0);
    while (seen < 100000) {
        struct histogram_sums sums = {0};
        histogram_read(&h, &sums);
        assert_true(count_of(&sums) >= seen);
        seen = count_of(&sums);
    }
    assert_int_equal(pthread_join(writer, NULL), 0);
}

static void no_kill_makes_one_fall(void **unused)
{
    enum { KILLS = 50 };
    struct histogram *h =
        mmap(NULL, sizeof *h, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct histogram_sums before = {0};

    (void)unused;
    assert_ptr_not_equal(h, MAP_FAILED);
    for (int i = 0; i < KILLS; i++) {
        struct histogram_sums after = {0};
        pid_t pid = fork();
        if (pid == 0)
            while (1)
                histogram_add(h, &histogram_quick_us, 1000);
        do {
            after = (struct histogram_sums){0};
            histogram_read(h, &after);
        } while (count_of(&after) == count_of(&before)); /* it is at work */
        kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        after = (struct histogram_sums){0};
        histogram_read(h, &after);
        assert_true(count_of(&after) > count_of(&before));
        assert_true(after.sum >= before.sum);
        /* each death can cost the sum one value, and the count none */
        assert_in_range(count_of(&after) * 1000 - after.sum, 0, (uintmax_t)(i + 1) * 1000);
        before = after;
    }
    assert_int_equal(munmap(h, sizeof *h), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_value_falls_into_the_first_step_that_holds_it),
        cmocka_unit_test(several_add_up_and_what_was_gathered_is_handed_over_once),
        cmocka_unit_test(a_reader_beside_the_writer_sees_it_grow),
        cmocka_unit_test(no_kill_makes_one_fall),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
