/*
 * The shared bucket, the started marks and the bell.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "shm/bell.h"
#include "shm/gauges.h"
#include "shm/started.h"

/* How many go within so many seconds, one after another; late_ns: a timer's. */
static uint64_t taken_within(uint64_t per_s, uint64_t seconds, uint64_t late_ns)
{
    struct gauge_bucket b = {.per_s_milli = per_s * 1000};
    uint64_t now_ns = 1000000000, taken = 0;
    const uint64_t end_ns = now_ns + seconds * UINT64_C(1000000000);

    while (now_ns < end_ns) {
        uint64_t wait_ns = bucket_take(&b, 1, 5000000, now_ns);
        if (wait_ns == 0)
            taken++;
        else
            now_ns += wait_ns + late_ns;
    }
    return taken;
}

static void the_bucket_keeps_the_rate_over_time(void **unused)
{
    (void)unused;
    assert_in_range(taken_within(14, 100, 0), 1400, 1402);
}

static void a_taker_that_comes_late_catches_up_within_the_slack(void **unused)
{
    (void)unused;
    assert_in_range(taken_within(50, 10, 1500000), 498, 502);
}

static void room_made_again_and_again_is_room_made_once(void **unused)
{
    struct gauge_bucket b = {.per_s_milli = 100000};
    const uint64_t now_ns = 1000000000;

    (void)unused;
    for (int i = 0; i < 20; i++)
        bucket_charge(&b, 50, now_ns);
    assert_int_equal(bucket_take(&b, 1, 0, now_ns), 500000000);
    bucket_charge(&b, 10, now_ns); /* less than is asked for already */
    assert_int_equal(bucket_take(&b, 1, 0, now_ns), 500000000);
}

static void an_unknown_rate_gives_nothing_and_a_burst_is_bounded(void **unused)
{
    struct gauge_bucket b = {0};
    unsigned at_once = 0;

    (void)unused;
    const uint64_t slack_ns = UINT64_C(4000000000);
    assert_true(bucket_take(&b, 1, slack_ns, 1) > 0);
    b.per_s_milli = 1000;
    while (bucket_take(&b, 1, slack_ns, 1000) == 0)
        at_once++;
    assert_int_equal(at_once, 5);
    /* more than the slack, once all is paid for */
    assert_true(bucket_take(&b, 50, slack_ns, UINT64_C(10000000000)) == 0);
    assert_true(bucket_take(&b, 1, slack_ns, UINT64_C(10000000000)) > UINT64_C(40000000000));
}

static struct gauge_bucket shared_bucket = {.per_s_milli = 2000000000};
static _Atomic uint64_t taken_in_all;

static void *take_many(void *unused)
{
    (void)unused;
    for (int i = 0; i < 50000; i++)
        if (bucket_take(&shared_bucket, 1, 0, 1000000) == 0)
            atomic_fetch_add(&taken_in_all, 1);
    return NULL;
}

static void two_takers_do_not_share_a_token(void **unused)
{
    pthread_t threads[2];

    (void)unused;
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_many, NULL), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(taken_in_all, 1);
}

static void marks_outlive_the_process_and_name_their_lease(void **unused)
{
    char path[] = "/tmp/postern-started-XXXXXX";
    struct err err;
    bool believable;
    uint64_t mask;
    int status;

    (void)unused;
    (void)close(mkstemp(path));
    struct started *s = started_open(path, &believable, &err);
    assert_non_null(s);
    assert_false(believable); /* a new file proves nothing */
    pid_t pid = fork();
    if (pid == 0) {
        started_begin(s, 1, 7, 42);
        started_mark(s, 1, 7, 0x5);
        (void)raise(SIGKILL);
    }
    (void)waitpid(pid, &status, 0);
    assert_true(WIFSIGNALED(status));
    started_close(s);

    s = started_open(path, &believable, &err);
    assert_true(believable);
    assert_true(started_read(s, 1, 7, 42, &mask));
    assert_int_equal(mask, 0x5);
    assert_false(started_read(s, 1, 7, 43, &mask));
    assert_false(started_read(s, 0, 7, 42, &mask));
    assert_false(started_read(s, STARTED_SENDERS, 7, 42, &mask));
    started_begin(s, 1, 7, 43);
    assert_true(started_read(s, 1, 7, 43, &mask) && mask == 0);
    started_close(s);

    FILE *f = fopen(path, "r+"); /* as after a crash of the machine: another boot wrote it */
    assert_non_null(f);
    assert_int_equal(fseek(f, 32, SEEK_SET), 0);
    assert_true(fputc('x', f) == 'x' && fclose(f) == 0);
    s = started_open(path, &believable, &err);
    assert_false(believable);
    assert_false(started_read(s, 1, 7, 43, &mask));
    started_close(s);
    (void)unlink(path);
}

enum { RINGS = 20000 };
static struct bell bell;
static _Atomic uint32_t sleeping;
static _Atomic uint64_t work;

static void *ring_often(void *unused)
{
    (void)unused;
    for (int i = 0; i < RINGS; i++) {
        atomic_fetch_add(&work, 1);
        bell_ring(&bell);
    }
    return NULL;
}

static void no_wake_up_is_lost(void **unused)
{
    struct err err;
    pthread_t ringer;
    uint64_t done = 0;

    (void)unused;
    assert_int_equal(bell_create(&bell, &sleeping, &err), 0);
    assert_int_equal(pthread_create(&ringer, NULL, ring_often, NULL), 0);
    while (done < RINGS) {
        bell_quiet(&bell);
        done = atomic_load(&work);
        bell_sleep(&bell);
        if (done < RINGS && atomic_load(&work) == done) {
            struct pollfd p = {.fd = bell.fd, .events = POLLIN};
            assert_int_equal(poll(&p, 1, 5000), 1); /* 0: it slept through its work */
        }
    }
    assert_int_equal(pthread_join(ringer, NULL), 0);
    bell_destroy(&bell);
}

/* 0, or the signal that the act died of. */
static int in_a_child(struct gauges *g, int fd, void (*act)(struct gauges *g, int fd))
{
    struct err err;
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        (void)signal(SIGSEGV, SIG_DFL);
        if (gauges_confine(g, fd, 3, &err) != 0)
            _exit(99);
        act(g, fd);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
}

static void write_own(struct gauges *g, int fd)
{
    (void)fd;
    atomic_store(&g->slots[3].heartbeat_mono_ms, 7);
    atomic_store(&g->sleeping[0], 1);
}

static void write_before(struct gauges *g, int fd)
{
    (void)fd;
    atomic_store(&g->slots[2].done, 1);
}

static void write_behind(struct gauges *g, int fd)
{
    (void)fd;
    atomic_store(&g->slots[4].state, 1);
}

static void write_life(struct gauges *g, int fd)
{
    (void)fd;
    atomic_store(&g->lives[3].pid, 1);
}

static void write_end(struct gauges *g, int fd)
{
    (void)fd;
    atomic_store(&g->queues[GAUGE_QUEUES_MAX - 1].visible, 1);
}

static void make_writable(struct gauges *g, int fd)
{
    if (mprotect(g, GAUGE_PAGE_BYTES, PROT_READ | PROT_WRITE) == 0)
        _exit(1);
    if (mmap(g, sizeof *g, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) != MAP_FAILED)
        _exit(2);
    if (ftruncate(fd, 0) == 0)
        _exit(3);
}

static void who_faces_the_network_writes_its_own_slot_only(void **state)
{
    struct err err;
    int fd;
    struct gauges *g = gauges_create(&fd, &err);

    (void)state;
    assert_non_null(g);
    atomic_store(&g->bucket.per_s_milli, 1000);
    assert_int_equal(in_a_child(g, fd, write_own), 0);
    assert_int_equal(atomic_load(&g->slots[3].heartbeat_mono_ms), 7);
    assert_int_equal(atomic_load(&g->bucket.per_s_milli), 1000);
    assert_int_not_equal(in_a_child(g, fd, write_before), 0);
    assert_int_not_equal(in_a_child(g, fd, write_behind), 0);
    assert_int_not_equal(in_a_child(g, fd, write_life), 0);
    assert_int_not_equal(in_a_child(g, fd, write_end), 0);
    assert_int_equal(in_a_child(g, fd, make_writable), 0);
    assert_int_equal(atomic_load(&g->slots[2].done), 0);
    assert_int_equal(atomic_load(&g->lives[3].pid), 0);
    atomic_store(&g->slots[2].done, 5); /* the master still does */
    (void)close(fd);
    gauges_destroy(g);
}

static void polls_of_all_processes_add_up_by_domain(void **unused)
{
    struct gauges *g = gauges_create(NULL, &(struct err){0});
    char name[32];

    (void)unused;
    assert_non_null(g);
    assert_int_equal(gauge_poll_last_ms(g, SLICE("a.example")), 0);
    atomic_store(&g->lives[3].generation, 1);
    atomic_store(&g->lives[5].generation, 2);
    gauge_poll_note(&g->slots[3], SLICE("a.example"), 100);
    gauge_poll_note(&g->slots[3], SLICE("b.example"), 200);
    gauge_poll_note(&g->slots[5], SLICE("a.example"), 300);
    gauge_poll_note(&g->slots[3], SLICE("a.example"), 250);
    assert_int_equal(gauge_poll_last_ms(g, SLICE("a.example")), 300);
    assert_int_equal(gauge_poll_last_ms(g, SLICE("b.example")), 200);
    assert_int_equal(gauge_poll_last_ms(g, SLICE("c.example")), 0);
    for (unsigned i = 0; i < 2 * GAUGE_DOMAINS_MAX; i++) { /* more than there is room for */
        (void)snprintf(name, sizeof name, "d%u.example", i);
        gauge_poll_note(&g->slots[3], slice_str(name), 400 + i);
    }
    assert_int_equal(gauge_poll_last_ms(g, SLICE("d0.example")), 400);
    assert_int_equal(gauge_poll_last_ms(g, SLICE("d511.example")), 0);
    assert_int_equal(gauge_poll_last_ms(g, SLICE("b.example")), 200);
    gauges_destroy(g);
}

static void what_a_transaction_found_is_published_once(void **unused)
{
    struct gauge_events shared = {0}, own = {0};
    struct histogram_sums lag = {0};

    (void)unused;
    gauge_events_add(&own, 1000000, false, 3500000);
    gauge_events_add(&own, 1000000, true, 1500000);
    atomic_store(&own.repeated, 3);
    assert_int_equal(atomic_load(&shared.stored), 0);
    gauge_events_publish(&shared, &own);
    gauge_events_publish(&shared, &own);
    assert_int_equal(atomic_load(&shared.stored), 2);
    assert_int_equal(atomic_load(&shared.late), 1);
    assert_int_equal(atomic_load(&shared.repeated), 3);
    assert_int_equal(atomic_load(&shared.lag_last_ms), 500);
    histogram_read(&shared.lag, &lag);
    assert_int_equal(lag.sum, 3000000);
    assert_int_equal(lag.count[0], 1);
    assert_int_equal(lag.count[1], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_bucket_keeps_the_rate_over_time),
        cmocka_unit_test(a_taker_that_comes_late_catches_up_within_the_slack),
        cmocka_unit_test(room_made_again_and_again_is_room_made_once),
        cmocka_unit_test(an_unknown_rate_gives_nothing_and_a_burst_is_bounded),
        cmocka_unit_test(two_takers_do_not_share_a_token),
        cmocka_unit_test(marks_outlive_the_process_and_name_their_lease),
        cmocka_unit_test(no_wake_up_is_lost),
        cmocka_unit_test(polls_of_all_processes_add_up_by_domain),
        cmocka_unit_test(what_a_transaction_found_is_published_once),
        cmocka_unit_test(who_faces_the_network_writes_its_own_slot_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
