/*
 * The ring: every legal length, what is not published, what a hostile peer scribbles, and SIGKILL
 * of either end at random instants. With both ends as threads of one process the thread sanitizer
 * judges the memory order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/ring.c"

enum { CAPACITY = 4096, KILLS = 300, SERIALS = 200000 };

static struct ring *make(size_t capacity)
{
    struct err err;
    struct ring *r = ring_create(capacity, &err);

    assert_non_null(r);
    return r;
}

/* Bytes that depend on the serial, so that a torn record is seen. */
static size_t letter(uint64_t serial, uint8_t *to)
{
    size_t len = 8 + (size_t)(serial * 2654435761u % 400);

    memcpy(to, &serial, 8);
    for (size_t i = 8; i < len; i++)
        to[i] = (uint8_t)(serial + i * 31);
    return len;
}

static bool is_whole(struct slice rec, uint64_t *serial)
{
    uint8_t expected[512];

    if (rec.len < 8)
        return false;
    memcpy(serial, rec.ptr, 8);
    return letter(*serial, expected) == rec.len && memcmp(expected, rec.ptr, rec.len) == 0;
}

static void every_legal_length_round_trips(void **unused)
{
    struct ring *r = make(CAPACITY);
    uint8_t *bytes = mem_alloc(CAPACITY);
    struct ring_view view;
    uint64_t end;

    (void)unused;
    for (size_t len = 0; len <= ring_record_max(r); len++) {
        memset(bytes, (int)len, CAPACITY);
        assert_int_equal(ring_push(r, slice_of(bytes, len), &end), RING_OK);
        assert_int_equal(ring_peek(r, &view), RING_OK);
        assert_int_equal(view.rec.len, len);
        assert_int_equal(view.next, end);
        assert_true(len == 0 || memcmp(view.rec.ptr, bytes, len) == 0);
        assert_true(ring_tail(r) < end);
        ring_release(r, &view);
        assert_int_equal(ring_tail(r), end);
        assert_int_equal(ring_peek(r, &view), RING_EMPTY);
    }
    assert_int_equal(ring_push(r, slice_of(bytes, ring_record_max(r) + 1), NULL), RING_TOO_LONG);
    free(bytes);
    ring_destroy(r);
}

static void a_full_ring_says_so_and_empties_in_order(void **unused)
{
    struct ring *r = make(CAPACITY);
    struct ring_view view;
    uint64_t pushed = 0, seen = 0, serial;
    uint8_t bytes[512];

    (void)unused;
    while (ring_push(r, slice_of(bytes, letter(pushed, bytes)), NULL) == RING_OK)
        pushed++;
    assert_true(pushed > 5);
    /* A burst is read first, and released in one go after its commit. */
    uint64_t from = ring_tail(r);
    while (ring_peek_from(r, from, &view) == RING_OK) {
        assert_true(is_whole(view.rec, &serial));
        assert_int_equal(serial, seen++);
        from = view.next;
    }
    assert_int_equal(seen, pushed);
    assert_int_equal(ring_peek(r, &view), RING_OK);
    assert_true(is_whole(view.rec, &serial) && serial == 0);
    ring_release(r, &(struct ring_view){.next = from});
    assert_int_equal(ring_used_bytes(r), 0);
    ring_destroy(r);
}

static void what_is_not_published_does_not_exist(void **unused)
{
    struct ring *r = make(CAPACITY);
    struct ring_view view;

    (void)unused;
    frame_put(r->data, FRAME_RECORD, 3); /* a producer killed before its store to head */
    memcpy(r->data + sizeof(struct frame), "abc", 3);
    assert_int_equal(ring_peek(r, &view), RING_EMPTY);
    assert_int_equal(ring_push(r, SLICE("xyz"), NULL), RING_OK);
    assert_int_equal(ring_peek(r, &view), RING_OK);
    assert_memory_equal(view.rec.ptr, "xyz", 3);
    ring_destroy(r);
}

static void scribbles_are_reported_and_not_followed(void **unused)
{
    struct ring *r = make(CAPACITY);
    struct ring_view view;
    static const struct frame bad[] = {
        {0, 8},
        {FRAME_RECORD, 0xffffffff},
        {FRAME_RECORD, CAPACITY},
        {FRAME_PAD, 0x7fffffff},
        {FRAME_RECORD, 64},
        {0x12345678, 0},
    };

    (void)unused;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(ring_push(r, SLICE("eight by"), NULL), RING_OK);
        memcpy(r->data + (ring_tail(r) & (CAPACITY - 1)), &bad[i], sizeof bad[i]);
        assert_int_equal(ring_peek(r, &view), RING_BROKEN);
        ring_reset(r);
        assert_int_equal(ring_peek(r, &view), RING_EMPTY);
        assert_int_equal(ring_push(r, SLICE("after"), NULL), RING_OK);
        assert_int_equal(ring_peek(r, &view), RING_OK);
        ring_release(r, &view);
    }
    static const uint64_t heads[] = {1, UINT64_MAX, CAPACITY * 100 + 8, 7};
    for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
        uint64_t tail = ring_tail(r);
        atomic_store(&r->shared->head, tail + heads[i]);
        assert_int_equal(ring_peek(r, &view), RING_BROKEN);
        assert_int_equal(ring_push(r, SLICE("x"), NULL), RING_BROKEN);
        assert_int_equal(ring_used_bytes(r), CAPACITY);
        atomic_store(&r->shared->head, tail);
    }
    ring_destroy(r);
}

static size_t resident_pages(const struct ring *r)
{
    size_t pages = r->capacity / PAGE_BYTES, count = 0;
    unsigned char *map = mem_alloc(pages);

    assert_int_equal(mincore(r->data, r->capacity, map), 0);
    for (size_t i = 0; i < pages; i++)
        count += map[i] & 1;
    free(map);
    return count;
}

static void long_records_give_their_memory_back(void **unused)
{
    enum { BIG = 64 * 1024 * 1024 };
    struct ring *r = make(BIG);
    size_t len = ring_record_max(r) - 1000;
    uint8_t *bytes = mem_alloc(len);
    struct ring_view view;

    (void)unused;
    memset(bytes, 7, len);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(ring_push(r, slice_of(bytes, len), NULL), RING_OK);
        assert_true(resident_pages(r) > len / PAGE_BYTES - 2);
        assert_int_equal(ring_peek(r, &view), RING_OK);
        assert_memory_equal(view.rec.ptr, bytes, len);
        ring_release(r, &view);
        assert_true(resident_pages(r) < 8);
    }
    free(bytes);
    ring_destroy(r);
}

/* -------- SIGKILL -------- */

/* Plays the store: outlives both ends. */
static struct ledger {
    _Atomic uint64_t sent, seen, last;
} * ledger;
static struct ring *shared_ring;

/* In a forked end a cmocka assertion would jump into a runner that is not its own. */
#define NEED(truth)                                                                                \
    do {                                                                                           \
        if (!(truth)) {                                                                            \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #truth);                      \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static void *produce(void *unused)
{
    uint8_t bytes[512];

    (void)unused;
    while (atomic_load(&ledger->sent) < atomic_load(&ledger->last)) {
        uint64_t serial = atomic_load(&ledger->sent) + 1;
        enum ring_result got = ring_push(shared_ring, slice_of(bytes, letter(serial, bytes)), NULL);
        NEED(got == RING_OK || got == RING_FULL);
        if (got == RING_OK)
            atomic_store(&ledger->sent, serial);
    }
    return NULL;
}

static void *consume(void *unused)
{
    struct ring_view view;
    uint64_t serial;

    (void)unused;
    while (atomic_load(&ledger->seen) < atomic_load(&ledger->last)) {
        enum ring_result got = ring_peek(shared_ring, &view);
        NEED(got == RING_OK || got == RING_EMPTY);
        if (got == RING_EMPTY)
            continue;
        uint64_t seen = atomic_load(&ledger->seen);
        NEED(is_whole(view.rec, &serial));
        /* The next one, or a repeat: of ours (killed before the release), or of the producer's
         * (killed between its push and its note). Never a gap. */
        NEED(serial <= seen + 1);
        if (serial == seen + 1)
            atomic_store(&ledger->seen, serial);
        ring_release(shared_ring, &view);
    }
    return NULL;
}

static pid_t spawn(void *(*end)(void *))
{
    pid_t pid = fork();

    if (pid == 0) {
        (void)end(NULL);
        _exit(0);
    }
    assert_true(pid > 0);
    return pid;
}

static void set_ledger(uint64_t last)
{
    shared_ring = make(CAPACITY);
    ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(ledger != MAP_FAILED);
    atomic_store(&ledger->last, last);
}

static void drop_ledger(void)
{
    (void)munmap(ledger, sizeof *ledger);
    ring_destroy(shared_ring);
}

/* Plays the master: kills an end at a random instant, reaps it, forks its successor. */
static void no_sigkill_loses_or_tears_a_record(void **unused)
{
    void *(*const ends[2])(void *) = {produce, consume};
    int status;

    (void)unused;
    set_ledger(UINT64_MAX);
    pid_t pids[2] = {spawn(ends[0]), spawn(ends[1])};
    for (int i = 0; i < KILLS; i++) {
        (void)usleep((useconds_t)(rand() % 700));
        int victim = rand() % 2;
        (void)kill(pids[victim], SIGKILL);
        (void)waitpid(pids[victim], &status, 0);
        assert_true(WIFSIGNALED(status)); /* else it had already failed on its own */
        pids[victim] = spawn(ends[victim]);
    }
    atomic_store(&ledger->last, atomic_load(&ledger->sent) + 1000);
    for (int i = 0; i < 2; i++) {
        (void)waitpid(pids[i], &status, 0);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    assert_true(atomic_load(&ledger->seen) >= atomic_load(&ledger->last));
    drop_ledger();
}

static void two_threads_pass_every_record_in_order(void **unused)
{
    pthread_t threads[2];

    (void)unused;
    set_ledger(SERIALS);
    assert_int_equal(pthread_create(&threads[0], NULL, produce, NULL), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, consume, NULL), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(atomic_load(&ledger->seen), SERIALS);
    drop_ledger();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_legal_length_round_trips),
        cmocka_unit_test(a_full_ring_says_so_and_empties_in_order),
        cmocka_unit_test(what_is_not_published_does_not_exist),
        cmocka_unit_test(scribbles_are_reported_and_not_followed),
        cmocka_unit_test(long_records_give_their_memory_back),
        cmocka_unit_test(no_sigkill_loses_or_tears_a_record),
        cmocka_unit_test(two_threads_pass_every_record_in_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
