/* Lines on their way out of the pipe: none is taken out before it is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "logger/pump.h"

static struct log_outlet outlet;
static struct pump pump;
static struct err err;

static int begin(void **unused)
{
    int ends[2];

    (void)unused;
    assert_int_equal(pipe2(ends, O_NONBLOCK), 0);
    outlet = (struct log_outlet){.kind = LOG_TO_FILE,
                                 .file_fd = memfd_create("log", 0),
                                 .read_fd = ends[0],
                                 .write_fd = ends[1]};
    assert_true(outlet.file_fd >= 0);
    assert_int_equal(pump_open(&pump, &outlet, &err), 0);
    return 0;
}

static int finish(void **unused)
{
    (void)unused;
    pump_close(&pump);
    (void)close(outlet.file_fd);
    (void)close(outlet.read_fd);
    if (outlet.write_fd >= 0)
        (void)close(outlet.write_fd);
    return 0;
}

static void say(const char *text)
{
    assert_int_equal(write(outlet.write_fd, text, strlen(text)), strlen(text));
}

static void file_is(const char *wanted)
{
    char text[256] = "";
    ssize_t got = pread(outlet.file_fd, text, sizeof text - 1, 0);

    assert_true(got >= 0);
    assert_string_equal(text, wanted);
}

static void lines_go_out_in_order_and_the_end_is_seen(void **unused)
{
    (void)unused;
    assert_int_equal(pump_some(&pump, &err), PUMP_EMPTY);
    say("one\n");
    say("two\n");
    assert_int_equal(pump_some(&pump, &err), PUMP_MORE);
    file_is("one\ntwo\n");
    assert_int_equal(pump_some(&pump, &err), PUMP_EMPTY);
    say("three\n");
    (void)close(outlet.write_fd);
    outlet.write_fd = -1;
    assert_int_equal(pump_some(&pump, &err), PUMP_MORE);
    assert_int_equal(pump_some(&pump, &err), PUMP_ENDED);
    file_is("one\ntwo\nthree\n");
}

static void a_full_disk_keeps_the_lines_for_later(void **unused)
{
    int file = outlet.file_fd;

    (void)unused;
    outlet.file_fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(outlet.file_fd >= 0);
    say("one\n");
    assert_int_equal(pump_some(&pump, &err), PUMP_STUCK);
    assert_non_null(strstr(err.text, "cannot be written"));
    say("two\n");
    assert_int_equal(pump_some(&pump, &err), PUMP_STUCK);
    (void)close(outlet.file_fd);
    outlet.file_fd = file;
    assert_int_equal(pump_some(&pump, &err), PUMP_MORE);
    file_is("one\ntwo\n");
    assert_int_equal(pump_some(&pump, &err), PUMP_EMPTY);
}

/* The disk is full after so many bytes: RLIMIT_FSIZE ends a write just so. */
static struct rlimit full_at(size_t bytes)
{
    struct rlimit before, limit;

    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = bytes;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    return before;
}

static void empty_again(const struct rlimit *before)
{
    assert_int_equal(setrlimit(RLIMIT_FSIZE, before), 0);
    (void)signal(SIGXFSZ, SIG_DFL);
}

static void file_begins_with(const char *text)
{
    assert_int_equal(ftruncate(outlet.file_fd, 0), 0);
    assert_int_equal(lseek(outlet.file_fd, 0, SEEK_SET), 0);
    assert_int_equal(write(outlet.file_fd, text, strlen(text)), strlen(text));
}

static void what_is_out_is_not_written_again(void **unused)
{
    (void)unused;
    for (size_t cut = 1; cut < 14; cut++) {
        file_begins_with("");
        struct rlimit before = full_at(cut);
        say("one\ntwo\nthree\n");
        enum pump_result first = pump_some(&pump, &err), again = pump_some(&pump, &err);
        empty_again(&before);
        assert_int_equal(first, PUMP_STUCK);
        assert_int_equal(again, PUMP_STUCK);
        assert_false(pump.is_sure);
        say("four\n");
        assert_int_equal(pump_some(&pump, &err), PUMP_MORE);
        assert_true(pump.is_sure);
        file_is("one\ntwo\nthree\nfour\n");
        assert_int_equal(pump_some(&pump, &err), PUMP_EMPTY);
    }
}

/* Emptied by hand for want of room, or written to by others: a line does not go on there. */
static void a_line_does_not_go_on_where_the_file_has_changed(void **unused)
{
    static const char *const changed[] = {"", "one\nt", "other\n", "one\ntwo of others\n"};
    static const char *const wanted[] = {"two\nthree\n", "one\nt\ntwo\nthree\n",
                                         "other\ntwo\nthree\n", "one\ntwo of others\ntwo\nthree\n"};

    (void)unused;
    for (size_t i = 0; i < sizeof changed / sizeof changed[0]; i++) {
        file_begins_with("");
        struct rlimit before = full_at(6);
        say("one\ntwo\nthree\n");
        enum pump_result got = pump_some(&pump, &err);
        empty_again(&before);
        assert_int_equal(got, PUMP_STUCK);
        file_is("one\ntw");
        file_begins_with(changed[i]);
        assert_int_equal(pump_some(&pump, &err), PUMP_MORE);
        file_is(wanted[i]);
    }
}

/* A kill in the middle of a write: the next pump knows nothing of it but the file. */
static void a_cut_line_stays_a_line_of_its_own(void **unused)
{
    (void)unused;
    file_begins_with("one\ntw");
    pump_close(&pump);
    struct rlimit before = full_at(6);
    int opened = pump_open(&pump, &outlet, &err);
    bool was_sure = pump.is_sure;
    say("two\n");
    enum pump_result got = pump_some(&pump, &err);
    empty_again(&before);
    assert_int_equal(opened, 0);
    assert_false(was_sure);
    assert_int_equal(got, PUMP_STUCK);
    file_is("one\ntw");
    assert_int_equal(pump_some(&pump, &err), PUMP_MORE);
    file_is("one\ntw\ntwo\n");
    pump_close(&pump);
    assert_int_equal(pump_open(&pump, &outlet, &err), 0);
    assert_true(pump.is_sure);
    file_is("one\ntw\ntwo\n");
    file_begins_with("one\ntw");
    pump_close(&pump);
    assert_int_equal(pump_open(&pump, &outlet, &err), 0); /* our own words come next */
    file_is("one\ntw\n");
}

/* As after a kill: what the one before has looked at and not taken out, the next one writes. */
static void a_successor_finds_what_was_not_taken_out(void **unused)
{
    (void)unused;
    say("one\n");
    assert_true(tee(outlet.read_fd, pump.peek_write_fd, 4096, SPLICE_F_NONBLOCK) == 4);
    pump_close(&pump);
    assert_int_equal(pump_open(&pump, &outlet, &err), 0);
    assert_int_equal(pump_some(&pump, &err), PUMP_MORE);
    file_is("one\n");
}

static void more_than_a_chunk_is_cut_between_lines(void **unused)
{
    static char line[4000], all[64 * 4000];
    enum { LINES = 60 };

    (void)unused;
    (void)fcntl(outlet.write_fd, F_SETPIPE_SZ, 1 << 20);
    memset(line, 'x', sizeof line - 1);
    line[sizeof line - 1] = '\n';
    for (int i = 0; i < LINES; i++) {
        line[0] = (char)('A' + i % 26);
        assert_int_equal(write(outlet.write_fd, line, sizeof line), sizeof line);
    }
    while (pump_some(&pump, &err) == PUMP_MORE)
        ;
    assert_int_equal(pread(outlet.file_fd, all, sizeof all, 0), LINES * sizeof line);
    for (size_t i = 0; i < LINES; i++) {
        assert_int_equal(all[i * sizeof line], 'A' + i % 26);
        assert_int_equal(all[(i + 1) * sizeof line - 1], '\n');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(lines_go_out_in_order_and_the_end_is_seen, begin, finish),
        cmocka_unit_test_setup_teardown(a_full_disk_keeps_the_lines_for_later, begin, finish),
        cmocka_unit_test_setup_teardown(what_is_out_is_not_written_again, begin, finish),
        cmocka_unit_test_setup_teardown(a_line_does_not_go_on_where_the_file_has_changed, begin,
                                        finish),
        cmocka_unit_test_setup_teardown(a_cut_line_stays_a_line_of_its_own, begin, finish),
        cmocka_unit_test_setup_teardown(a_successor_finds_what_was_not_taken_out, begin, finish),
        cmocka_unit_test_setup_teardown(more_than_a_chunk_is_cut_between_lines, begin, finish),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
