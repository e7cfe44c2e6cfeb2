/*
 * One publishes, others read: whole records only, whatever is killed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "shm/notice.h"

enum { RECORDS = 20000, KILLS = 60 };

/* A record whose length and bytes all follow from its number. */
static void fill(struct buf *to, uint64_t number)
{
    size_t len = 8 + number * 37 % 3000;

    buf_reset(to);
    buf_add(to, &number, 8);
    while (to->len < len)
        buf_add_byte(to, (uint8_t)(number * 31 + to->len));
}

static bool is_whole(struct slice record)
{
    struct buf expected = {0};
    uint64_t number;

    if (record.len < 8)
        return false;
    memcpy(&number, record.ptr, 8);
    fill(&expected, number);
    bool same = slice_eq(record, buf_slice(&expected));
    buf_fini(&expected);
    return same;
}

static void the_last_record_is_read_and_counted(void **unused)
{
    struct notice *n = notice_create(NULL);
    struct buf got = {0};
    static uint8_t most[NOTICE_MAX_BYTES + 1];

    (void)unused;
    assert_int_equal(notice_serial(n), 0);
    assert_int_equal(notice_read(n, &got), 0);
    assert_int_equal(notice_publish(n, SLICE("one"), NULL), 0);
    assert_int_equal(notice_publish(n, SLICE("another"), NULL), 0);
    assert_int_equal(notice_read(n, &got), 2);
    assert_true(slice_eq(buf_slice(&got), SLICE("another")));
    assert_int_equal(notice_publish(n, slice_none(), NULL), 0);
    assert_int_equal(notice_read(n, &got), 3);
    assert_int_equal(got.len, 0);
    memset(most, 'x', sizeof most);
    assert_int_equal(notice_publish(n, slice_of(most, NOTICE_MAX_BYTES), NULL), 0);
    assert_int_equal(notice_read(n, &got), 4);
    assert_int_equal(got.len, NOTICE_MAX_BYTES);
    struct err err;
    assert_int_equal(notice_publish(n, slice_of(most, sizeof most), &err), -1);
    assert_int_equal(notice_serial(n), 4);
    buf_fini(&got);
    notice_destroy(n);
}

static void *publish_all(void *arg)
{
    struct buf record = {0};

    for (uint64_t i = 1; i <= RECORDS; i++) {
        fill(&record, i);
        (void)notice_publish(arg, buf_slice(&record), NULL);
    }
    buf_fini(&record);
    return NULL;
}

static void no_reader_sees_a_torn_record(void **unused)
{
    struct notice *n = notice_create(NULL);
    struct buf got = {0};
    pthread_t publisher;
    uint64_t last = 0, serial = 0, seen = 0;

    (void)unused;
    assert_int_equal(pthread_create(&publisher, NULL, publish_all, n), 0);
    while (serial < RECORDS) {
        serial = notice_read(n, &got);
        if (serial == 0)
            continue;
        assert_true(is_whole(buf_slice(&got)));
        assert_true(serial >= last);
        seen += serial != last;
        last = serial;
    }
    assert_int_equal(pthread_join(publisher, NULL), 0);
    assert_true(seen > 1);
    buf_fini(&got);
    notice_destroy(n);
}

static void a_killed_publisher_leaves_the_last_record_and_its_successor_goes_on(void **unused)
{
    struct notice *n = notice_create(NULL);
    struct buf got = {0};
    uint64_t last = 0;

    (void)unused;
    for (int i = 0; i < KILLS; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            struct buf record = {0};
            for (uint64_t number = notice_serial(n) + 1;; number++) {
                fill(&record, number);
                (void)notice_publish(n, buf_slice(&record), NULL);
            }
        }
        uint64_t until = clock_mono_ms() + 20000;
        while (notice_serial(n) < last + 5 && clock_mono_ms() < until)
            assert_true(notice_read(n, &got) == 0 || is_whole(buf_slice(&got)));
        usleep((useconds_t)(random() % 300));
        (void)kill(pid, SIGKILL);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        last = notice_read(n, &got);
        assert_true(last > 0 && is_whole(buf_slice(&got)));
    }
    assert_true(last >= 5 * KILLS);
    buf_fini(&got);
    notice_destroy(n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_record_is_read_and_counted),
        cmocka_unit_test(no_reader_sees_a_torn_record),
        cmocka_unit_test(a_killed_publisher_leaves_the_last_record_and_its_successor_goes_on),
    };
    return cmocka_run_group_tests_name("shm/notice", tests, NULL, NULL);
}
