/*
 * The control socket, over real sockets in a directory of its own: clients in this thread speak raw
 * packets, a client in a second thread uses control_ask(). The loop turns only when a test says so.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "store/control.c"

#include <fcntl.h>
#include <pthread.h>

#include "base/clock.h"

enum { LOOP_MS = 5000 };

struct fixture {
    char dir[64];
    struct event_base *base;
    struct control *control;
    unsigned woken;
};

static void on_wake(void *arg)
{
    struct fixture *f = arg;

    f->woken++;
}

static void open_control(struct fixture *f)
{
    struct err err = {0};

    f->control = control_open(f->dir, f->base, on_wake, f, &err);
    if (f->control == NULL)
        fail_msg("%s", err.text);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);

    (void)snprintf(f->dir, sizeof f->dir, "/tmp/postern-control-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->base = event_base_new();
    open_control(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    char path[96];

    control_close(f->control);
    event_base_free(f->base);
    (void)snprintf(path, sizeof path, "%s/" CONTROL_SOCKET, f->dir);
    (void)unlink(path);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

/* -------- clients -------- */

static int dial(const struct fixture *f)
{
    const struct timeval patience = {.tv_sec = LOOP_MS / 1000};
    struct sockaddr_un at;
    int dir_fd, fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience), 0);
    assert_int_equal(control_address(f->dir, CONTROL_SOCKET, &at, &dir_fd, NULL), 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&at, sizeof at), 0);
    return fd;
}

static void say(int fd, struct slice packet)
{
    assert_int_equal(send(fd, packet.ptr, packet.len, MSG_NOSIGNAL), packet.len);
}

static void ask(int fd, uint64_t batch_id)
{
    const struct record_control r = {
        .verb = CONTROL_PAUSE, .batch_id = batch_id, .domain = SLICE("mg.example.com")};
    struct buf packet = {0};

    record_control_encode(&packet, &r);
    say(fd, buf_slice(&packet));
    buf_fini(&packet);
}

/* The count in the answer that is there; -1: none yet, -2: closed. */
static int64_t answer_of(int fd)
{
    struct record_controlled a;
    uint8_t bytes[512];
    ssize_t n = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);

    if (n < 0 && errno == EAGAIN)
        return -1;
    if (n <= 0)
        return -2;
    assert_true(record_controlled_decode(slice_of(bytes, (size_t)n), &a));
    return a.count;
}

/* -------- the writer -------- */

/* Everything that is ready now. */
static void spin(struct fixture *f)
{
    for (int i = 0; i < 2 * CONTROL_CLIENTS_MAX + 4; i++)
        assert_true(event_base_loop(f->base, EVLOOP_NONBLOCK) >= 0);
}

static bool spin_until_work(struct fixture *f)
{
    uint64_t end = clock_mono_ms() + LOOP_MS;

    while (!control_has_work(f->control) && clock_mono_ms() < end)
        spin(f);
    return control_has_work(f->control);
}

/* Takes all requests; the answer's count is the batch asked about. */
static unsigned apply_all(struct fixture *f)
{
    struct record_control r;
    unsigned count = 0;

    for (; control_next(f->control, &r); count++) {
        const struct record_controlled a = {
            .verdict = ANSWER_OK, .text = r.domain, .count = (uint32_t)r.batch_id};
        control_answer(f->control, &a);
    }
    return count;
}

/* -------- tests -------- */

static void an_answer_goes_out_after_the_commit_only(void **state)
{
    struct fixture *f = *state;
    struct record_control r;
    int fd = dial(f);

    assert_false(control_has_work(f->control));
    assert_false(control_next(f->control, &r));
    ask(fd, 7);
    spin(f);
    assert_int_equal(f->woken, 1);
    assert_true(control_has_work(f->control));

    assert_true(control_next(f->control, &r));
    assert_int_equal(r.verb, CONTROL_PAUSE);
    assert_int_equal(r.batch_id, 7);
    assert_true(slice_eq(r.domain, SLICE("mg.example.com")));
    control_answer(f->control,
                   &(struct record_controlled){.verdict = ANSWER_OK, .text = r.domain, .count = 7});
    assert_false(control_has_work(f->control));
    spin(f);
    assert_int_equal(answer_of(fd), -1);
    control_send(f->control);
    assert_int_equal(answer_of(fd), 7);
    control_send(f->control); /* a turn without requests */
    assert_int_equal(answer_of(fd), -1);

    ask(fd, 8); /* the same client again */
    spin(f);
    assert_int_equal(apply_all(f), 1);
    control_send(f->control);
    assert_int_equal(answer_of(fd), 8);
    close(fd);
}

static void requests_are_taken_in_the_order_they_came_one_a_client(void **state)
{
    struct fixture *f = *state;
    struct record_control r;
    int fds[4];

    for (size_t i = 0; i < 4; i++) {
        fds[i] = dial(f);
        spin(f);
    }
    for (size_t i = 4; i-- > 0;) {
        ask(fds[i], i + 1);
        spin(f);
    }
    ask(fds[3], 50); /* waits in its socket */
    spin(f);
    for (uint64_t expected = 4; expected > 0; expected--) {
        assert_true(control_next(f->control, &r));
        assert_int_equal(r.batch_id, expected);
        control_answer(f->control, &(struct record_controlled){.count = (uint32_t)r.batch_id});
    }
    assert_false(control_next(f->control, &r));
    control_send(f->control);
    spin(f);
    assert_true(control_next(f->control, &r));
    assert_int_equal(r.batch_id, 50);
    control_answer(f->control, &(struct record_controlled){.count = 50});
    control_send(f->control);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(answer_of(fds[i]), i + 1);
    assert_int_equal(answer_of(fds[3]), 50);
    for (size_t i = 0; i < 4; i++)
        close(fds[i]);
}

static void garbage_closes_its_client_and_nobody_else(void **state)
{
    struct fixture *f = *state;
    static uint8_t long_one[CONTROL_REQUEST_MAX + 1];
    struct buf other = {0}, cut = {0}, padded = {0};
    int good = dial(f);

    record_controlled_encode(&other, &(struct record_controlled){.verdict = ANSWER_OK});
    record_control_encode(&cut, &(struct record_control){.verb = CONTROL_STATUS});
    buf_add_slice(&padded, buf_slice(&cut));
    buf_add_byte(&padded, 0);
    cut.len--;
    const struct slice packets[] = {
        SLICE("hello"),
        SLICE(""),
        SLICE("\x93\x01\x0b\x81\x01"),
        buf_slice(&other),
        buf_slice(&cut),
        buf_slice(&padded),
        slice_of(long_one, sizeof long_one),
        SLICE("\xdf\xff\xff\xff\xff"),
    };
    for (size_t i = 0; i < sizeof packets / sizeof packets[0]; i++) {
        int fd = dial(f);
        say(fd, packets[i]);
        spin(f);
        assert_int_equal(answer_of(fd), -2);
        assert_false(control_has_work(f->control));
        close(fd);
    }
    assert_int_equal(f->woken, 0);
    ask(good, 3);
    spin(f);
    assert_int_equal(apply_all(f), 1);
    control_send(f->control);
    assert_int_equal(answer_of(good), 3);
    close(good);
    buf_fini(&other);
    buf_fini(&cut);
    buf_fini(&padded);
}

static void a_client_that_leaves_is_obeyed_and_forgotten(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);

    spin(f);
    close(fd); /* it never asked */
    spin(f);
    fd = dial(f);
    ask(fd, 9);
    close(fd);
    spin(f);
    assert_int_equal(apply_all(f), 1);
    control_send(f->control); /* no SIGPIPE */
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        assert_int_equal(f->control->clients[i].place, FREE);
}

static void those_who_are_too_many_wait_for_a_place(void **state)
{
    struct fixture *f = *state;
    int fds[CONTROL_CLIENTS_MAX + 2];

    for (size_t i = 0; i < CONTROL_CLIENTS_MAX + 2; i++) {
        fds[i] = dial(f);
        ask(fds[i], i + 1);
        spin(f);
    }
    assert_int_equal(f->woken, CONTROL_CLIENTS_MAX);
    assert_int_equal(apply_all(f), CONTROL_CLIENTS_MAX);
    control_send(f->control);
    spin(f);
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        assert_int_equal(answer_of(fds[i]), i + 1);
    assert_false(control_has_work(f->control)); /* all places are still taken */
    close(fds[4]);
    say(fds[5], SLICE("garbage"));
    spin(f);
    assert_int_equal(apply_all(f), 2);
    control_send(f->control);
    assert_int_equal(answer_of(fds[CONTROL_CLIENTS_MAX]), CONTROL_CLIENTS_MAX + 1);
    assert_int_equal(answer_of(fds[CONTROL_CLIENTS_MAX + 1]), CONTROL_CLIENTS_MAX + 2);
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX + 2; i++)
        if (i != 4)
            close(fds[i]);
}

static void who_idles_is_closed(void **state)
{
    struct fixture *f = *state;
    int fd = dial(f);
    struct timeval due, now;

    spin(f);
    struct client *client = find(f->control, LISTENING);
    assert_non_null(client);
    assert_true(event_pending(client->readable, EV_TIMEOUT, &due) != 0);
    (void)gettimeofday(&now, NULL);
    assert_in_range(due.tv_sec - now.tv_sec, CONTROL_IDLE_MS / 1000 - 2, CONTROL_IDLE_MS / 1000);
    event_active(client->readable, EV_TIMEOUT, 0);
    spin(f);
    assert_int_equal(answer_of(fd), -2);
    assert_int_equal(client->place, FREE);
    close(fd);

    fd = dial(f); /* who waits for an answer does not idle */
    ask(fd, 1);
    spin(f);
    assert_non_null(find(f->control, WAITING));
    assert_int_equal(event_pending(find(f->control, WAITING)->readable, EV_TIMEOUT | EV_READ, NULL),
                     0);
    close(fd);
}

static void a_turn_given_up_closes_those_it_had_taken(void **state)
{
    struct fixture *f = *state;
    struct record_control r;
    int answered = dial(f), taken = dial(f), waiting = dial(f);

    ask(answered, 1);
    spin(f);
    ask(taken, 2);
    spin(f);
    ask(waiting, 3);
    spin(f);
    assert_true(control_next(f->control, &r));
    control_answer(f->control, &(struct record_controlled){.count = 1});
    assert_true(control_next(f->control, &r));
    control_forget(f->control);
    spin(f);
    assert_int_equal(answer_of(answered), -2);
    assert_int_equal(answer_of(taken), -2);
    assert_int_equal(answer_of(waiting), -1);
    assert_int_equal(apply_all(f), 1);
    control_send(f->control);
    assert_int_equal(answer_of(waiting), 3);
    close(answered);
    close(taken);
    close(waiting);
}

static void a_client_that_does_not_read_cannot_make_the_writer_wait(void **state)
{
    struct fixture *f = *state;
    static uint8_t words[CONTROL_ANSWER_MAX - 100];
    struct record_control r;
    uint64_t start_ms = clock_mono_ms();
    int fd = dial(f);
    unsigned answers = 0;

    memset(words, 'w', sizeof words);
    for (answers = 0; answers < 50; answers++) {
        ask(fd, answers);
        spin(f);
        if (!control_next(f->control, &r))
            break;
        control_answer(f->control,
                       &(struct record_controlled){.text = slice_of(words, sizeof words)});
        control_send(f->control);
        if (find(f->control, LISTENING) == NULL)
            break;
    }
    assert_in_range(answers, 1, 20); /* a whole answer fits, no endless number of them */
    assert_true(clock_mono_ms() - start_ms < LOOP_MS);
    close(fd);
}

/* -------- with the command line's half -------- */

struct asking {
    const char *dir;
    struct record_control request;
    struct buf answer;
    struct record_controlled a;
    struct err err;
    int got;
    pthread_t thread;
};

static void *ask_in_thread(void *arg)
{
    struct asking *q = arg;

    q->got = control_ask(q->dir, &q->request, &q->answer, &q->a, &q->err);
    return NULL;
}

static void begin(struct asking *q, const char *dir)
{
    *q = (struct asking){
        .dir = dir,
        .request = {.verb = CONTROL_CANCEL, .domain = SLICE("mg.example.com")},
    };
    assert_int_equal(pthread_create(&q->thread, NULL, ask_in_thread, q), 0);
}

static void end(struct asking *q)
{
    assert_int_equal(pthread_join(q->thread, NULL), 0);
}

static void the_command_line_gets_its_answer(void **state)
{
    struct fixture *f = *state;
    static uint8_t words[CONTROL_ANSWER_MAX];
    const size_t lengths[] = {0, 1000, 190 * 1024};
    struct record_control r;
    struct asking q;

    memset(words, 'w', sizeof words);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        begin(&q, f->dir);
        assert_true(spin_until_work(f));
        assert_true(control_next(f->control, &r));
        assert_int_equal(r.verb, CONTROL_CANCEL);
        assert_int_equal(r.batch_id, 0);
        control_answer(f->control, &(struct record_controlled){
                                       .verdict = ANSWER_NOT_FOUND,
                                       .text = slice_of(words, lengths[i]),
                                       .count = 5,
                                   });
        control_send(f->control);
        end(&q);
        assert_int_equal(q.got, 0);
        assert_int_equal(q.a.verdict, ANSWER_NOT_FOUND);
        assert_int_equal(q.a.count, 5);
        assert_true(slice_eq(q.a.text, slice_of(words, lengths[i])));
        buf_fini(&q.answer);
    }

    begin(&q, f->dir);
    assert_true(spin_until_work(f));
    assert_true(control_next(f->control, &r));
    control_answer(f->control, &(struct record_controlled){.text = slice_of(words, sizeof words)});
    control_send(f->control);
    end(&q);
    assert_int_equal(q.got, 0);
    assert_int_equal(q.a.verdict, ANSWER_REFUSED); /* longer than any packet */
    buf_fini(&q.answer);
}

static void a_writer_that_leaves_is_told_apart_from_none(void **state)
{
    struct fixture *f = *state;
    struct record_control r;
    struct asking q;

    begin(&q, f->dir);
    assert_true(spin_until_work(f));
    control_close(f->control);
    f->control = NULL;
    end(&q);
    assert_int_equal(q.got, -1);
    assert_int_equal(q.err.code, ERR_NETWORK);
    buf_fini(&q.answer);

    begin(&q, f->dir);
    end(&q);
    assert_int_equal(q.got, -1);
    assert_int_equal(q.err.code, ERR_NOT_FOUND);
    assert_non_null(strstr(q.err.text, "Postern is not running in /tmp/postern-control-"));
    buf_fini(&q.answer);

    begin(&q, "/tmp/postern-control-nowhere/state");
    end(&q);
    assert_int_equal(q.err.code, ERR_NOT_FOUND);
    buf_fini(&q.answer);

    open_control(f);
    begin(&q, f->dir);
    assert_true(spin_until_work(f));
    assert_true(control_next(f->control, &r));
    control_forget(f->control);
    end(&q);
    assert_int_equal(q.err.code, ERR_NETWORK);
    buf_fini(&q.answer);
}

static void the_socket_of_a_dead_writer_is_replaced(void **state)
{
    struct fixture *f = *state;
    char path[96], aside[96];
    struct asking q;
    struct stat found;
    struct err err = {0};

    (void)snprintf(path, sizeof path, "%s/control", f->dir);
    (void)snprintf(aside, sizeof aside, "%s/aside", f->dir);
    assert_int_equal(lstat(path, &found), 0);
    assert_true(S_ISSOCK(found.st_mode));
    assert_int_equal(found.st_mode & 07777, 0600);

    /* Killed: the file stays, nobody listens. */
    assert_int_equal(rename(path, aside), 0);
    control_close(f->control);
    f->control = NULL;
    assert_int_equal(rename(aside, path), 0);
    begin(&q, f->dir);
    end(&q);
    assert_int_equal(q.err.code, ERR_NOT_FOUND);
    buf_fini(&q.answer);

    begin(&q, f->dir); /* asked between two writers */
    open_control(f);
    assert_true(spin_until_work(f));
    assert_int_equal(apply_all(f), 1);
    control_send(f->control);
    end(&q);
    assert_int_equal(q.got, 0);
    buf_fini(&q.answer);

    control_close(f->control);
    assert_int_equal(unlink(path), 0);
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    f->control = control_open(f->dir, f->base, on_wake, f, &err);
    assert_null(f->control);
    assert_int_equal(err.code, ERR_CONFIG);
    assert_int_equal(unlink(path), 0);
}

static void a_long_path_is_no_obstacle(void **state)
{
    struct fixture *f = *state;
    char dir[256];
    struct asking q;
    struct err err = {0};
    int len = snprintf(dir, sizeof dir, "%s/", f->dir);

    memset(dir + len, 'd', 120);
    dir[len + 120] = '\0';
    assert_int_equal(mkdir(dir, 0700), 0);
    struct control *near = f->control;
    f->control = control_open(dir, f->base, on_wake, f, &err);
    assert_non_null(f->control);
    begin(&q, dir);
    assert_true(spin_until_work(f));
    assert_int_equal(apply_all(f), 1);
    control_send(f->control);
    end(&q);
    assert_int_equal(q.got, 0);
    buf_fini(&q.answer);
    control_close(f->control);
    f->control = near;
    begin(&q, dir);
    end(&q);
    assert_int_equal(q.err.code, ERR_NOT_FOUND);
    buf_fini(&q.answer);
    char socket_path[300];
    (void)snprintf(socket_path, sizeof socket_path, "%s/" CONTROL_SOCKET, dir);
    assert_int_equal(unlink(socket_path), 0);
    assert_int_equal(rmdir(dir), 0);
    begin(&q, dir);
    end(&q);
    assert_int_equal(q.err.code, ERR_NOT_FOUND);
    buf_fini(&q.answer);
}

/* All others a person at the dashboard asks for, too. */
static void keys_links_and_imports_are_the_command_lines(void **unused)
{
    unsigned count = 0;

    (void)unused;
    for (uint32_t verb = CONTROL_STATUS; verb <= CONTROL_KEY_WITHDRAW; verb++)
        count += control_is_command_lines(verb);
    assert_int_equal(count, 4);
    assert_true(control_is_command_lines(CONTROL_KEY_ADD));
    assert_true(control_is_command_lines(CONTROL_KEY_WITHDRAW));
    assert_true(control_is_command_lines(CONTROL_LOGIN));
    assert_true(control_is_command_lines(CONTROL_IMPORT));
}

static void no_control_has_nothing_to_do(void **unused)
{
    struct record_control r;

    (void)unused;
    assert_false(control_has_work(NULL));
    assert_false(control_next(NULL, &r));
    control_send(NULL);
    control_forget(NULL);
    control_close(NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_answer_goes_out_after_the_commit_only),
        TEST(requests_are_taken_in_the_order_they_came_one_a_client),
        TEST(garbage_closes_its_client_and_nobody_else),
        TEST(a_client_that_leaves_is_obeyed_and_forgotten),
        TEST(those_who_are_too_many_wait_for_a_place),
        TEST(who_idles_is_closed),
        TEST(a_turn_given_up_closes_those_it_had_taken),
        TEST(a_client_that_does_not_read_cannot_make_the_writer_wait),
        TEST(the_command_line_gets_its_answer),
        TEST(a_writer_that_leaves_is_told_apart_from_none),
        TEST(the_socket_of_a_dead_writer_is_replaced),
        TEST(a_long_path_is_no_obstacle),
        cmocka_unit_test(no_control_has_nothing_to_do),
        cmocka_unit_test(keys_links_and_imports_are_the_command_lines),
    };

    log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
