/* What a process leaves in shared memory, however it dies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/sanitized.h"
#include "shm/last_words.h"

static struct last_words *words;

/* cmocka.h may have made it its own. */
void __assert_fail(const char *expression, const char *file, unsigned line, const char *function);

static int begin(void **unused)
{
    (void)unused;
    words = mmap(NULL, sizeof *words, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(words != MAP_FAILED);
    return 0;
}

static int finish(void **unused)
{
    (void)unused;
    return munmap(words, sizeof *words);
}

static int fate_of(void (*life)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        log_setup(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
        last_words_open(words);
        life();
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static void dies_of(void (*life)(void), int number)
{
    int status = fate_of(life);

    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), number);
    assert_int_equal(atomic_load(&words->signal), IS_SANITIZED ? 0 : number);
}

static void __attribute__((noinline)) touch(volatile int *where)
{
    *where = 1;
}

static void fault(void)
{
    last_words_doing("%s of batch %d", "SendEmail", 7);
    touch((volatile int *)(uintptr_t)0x5678);
    last_words_doing("still here"); /* so that touch() is called, and not jumped to */
}

static void a_fault_leaves_its_address_and_calls(void **unused)
{
    (void)unused;
    if (IS_SANITIZED)
        skip();
    dies_of(fault, SIGSEGV);
    assert_string_equal(words->doing, "SendEmail of batch 7");
    assert_int_equal(words->fault_address, 0x5678);
    uint32_t count = atomic_load(&words->call_count);
    assert_true(count >= 3 && count <= LAST_WORDS_CALLS_MAX);
    /* The innermost is the instruction at fault; the next lies in the function that called. */
    assert_true(words->calls[0] - (uintptr_t)touch < 64);
    assert_true(words->calls[1] - (uintptr_t)fault < 256);
}

/* The stack itself is what is at fault: the handler has one of its own. */
static int __attribute__((noinline)) deeper(volatile char *above)
{
    volatile char room[4096];

    room[0] = *above;
    return room[0] == 0 ? 0 : deeper(room) + room[0];
}

static void overflow(void)
{
    volatile char first = 1;

    (void)deeper(&first);
}

static void a_stack_that_is_full_leaves_words_too(void **unused)
{
    (void)unused;
    if (IS_SANITIZED)
        skip();
    dies_of(overflow, SIGSEGV);
    assert_int_equal(atomic_load(&words->call_count), LAST_WORDS_CALLS_MAX);
}

static void fail_assertion(void)
{
    __assert_fail("x == y", "store/some.c", 12, "do_some");
}

static void an_assertion_leaves_what_failed(void **unused)
{
    (void)unused;
    dies_of(fail_assertion, SIGABRT);
    assert_string_equal(words->error, "assertion failed in do_some, store/some.c:12: x == y");
    assert_true(words->error_mono_ms > 0);
}

static void be_killed(void)
{
    last_words_doing("commit %d records", 512);
    log_error("no space for %s", "jo@example.com");
    (void)raise(SIGKILL);
}

static void a_kill_leaves_what_was_being_done_and_the_last_error(void **unused)
{
    (void)unused;
    int status = fate_of(be_killed);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    assert_string_equal(words->doing, "commit 512 records");
    assert_string_equal(words->error, "no space for j***@example.com");
    assert_int_equal(atomic_load(&words->signal), 0);
}

static void leave(void)
{
    last_words_doing("some");
    last_words_doing("%s", "");
}

static void the_next_life_begins_without_the_words_of_the_last(void **unused)
{
    (void)unused;
    (void)fate_of(be_killed);
    assert_int_equal(fate_of(leave), 0);
    assert_string_equal(words->doing, "");
    assert_string_equal(words->error, "");
}

static void say_much(void)
{
    char much[2000];

    memset(much, 'x', sizeof much - 1);
    much[sizeof much - 1] = '\0';
    last_words_doing("%s", much);
    log_error("%s", much);
}

static void long_words_are_cut(void **unused)
{
    (void)unused;
    assert_int_equal(fate_of(say_much), 0);
    assert_int_equal(strnlen(words->doing, LAST_WORDS_DOING_BYTES), LAST_WORDS_DOING_BYTES - 1);
    assert_int_equal(strnlen(words->error, LAST_WORDS_ERROR_BYTES), LAST_WORDS_ERROR_BYTES - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_fault_leaves_its_address_and_calls, begin, finish),
        cmocka_unit_test_setup_teardown(a_stack_that_is_full_leaves_words_too, begin, finish),
        cmocka_unit_test_setup_teardown(an_assertion_leaves_what_failed, begin, finish),
        cmocka_unit_test_setup_teardown(a_kill_leaves_what_was_being_done_and_the_last_error, begin,
                                        finish),
        cmocka_unit_test_setup_teardown(the_next_life_begins_without_the_words_of_the_last, begin,
                                        finish),
        cmocka_unit_test_setup_teardown(long_words_are_cut, begin, finish),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
