/*
 * The handler runs on a stack of its own, as the fault may be that the other one is full. It follows
 * frame pointers, which every function of ours has (-fno-omit-frame-pointer): the library's unwinder
 * takes locks and memory. A library's function may have used the register otherwise; then the stack
 * is looked through for addresses that follow a call of ours.
 */
#include "shm/last_words.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/sanitized.h"

enum {
    HANDLER_STACK_BYTES = 64 * 1024,
    SCANNED_WORDS = 1024, /* of the stack */
    CALLS_ENOUGH = 3,
};

/* Process state: where the words go. */
static struct last_words *words;
static uintptr_t stack_begin, stack_end; /* of the first thread */
static _Alignas(16) char handler_stack[HANDLER_STACK_BYTES];

static void on_error(struct slice error)
{
    if (words == NULL)
        return;
    (void)snprintf(words->error, sizeof words->error, "%.*s", SLICE_ARGS(error));
    words->error_mono_ms = clock_mono_ms();
}

/* Where the signal found us, and that function's frame. */
static void registers_of(const ucontext_t *context, uintptr_t *at, uintptr_t *frame,
                         uintptr_t *stack, uintptr_t *back)
{
#if defined(__x86_64__)
    *at = (uintptr_t)context->uc_mcontext.gregs[REG_RIP];
    *frame = (uintptr_t)context->uc_mcontext.gregs[REG_RBP];
    *stack = (uintptr_t)context->uc_mcontext.gregs[REG_RSP];
    *back = 0;
    if (*stack >= stack_begin && *stack <= stack_end - sizeof *back)
        memcpy(back, (const void *)*stack, sizeof *back);
#elif defined(__aarch64__)
    *at = (uintptr_t)context->uc_mcontext.pc;
    *frame = (uintptr_t)context->uc_mcontext.regs[29];
    *stack = (uintptr_t)context->uc_mcontext.sp;
    *back = (uintptr_t)context->uc_mcontext.regs[30];
#else
    (void)context;
    *at = *frame = *stack = *back = 0;
#endif
}

static void note_call(uint32_t *count, uintptr_t at)
{
    if (*count < LAST_WORDS_CALLS_MAX && at != 0) {
        words->calls[(*count)++] = at;
        atomic_store_explicit(&words->call_count, *count, memory_order_release);
    }
}

/* Does a call of ours end just before this address? Reads our own program only. */
static bool follows_call(uintptr_t at)
{
    extern const char __executable_start, etext;

    if (at < (uintptr_t)&__executable_start + 8 || at >= (uintptr_t)&etext)
        return false;
#if defined(__x86_64__)
    const uint8_t *end = (const uint8_t *)at;
    return end[-5] == 0xe8 || end[-2] == 0xff || end[-3] == 0xff || end[-6] == 0xff;
#elif defined(__aarch64__)
    uint32_t word;
    memcpy(&word, (const void *)(at - sizeof word), sizeof word);
    return word >> 26 == 0x25 || (word & 0xfffffc1fU) == 0xd63f0000U;
#else
    return false;
#endif
}

/* A frame begins with the caller's frame and the address to return to, on both machines. The
 * innermost function may have none, when it calls nobody: `back` is where it returns to then. */
static void note_calls(uintptr_t at, uintptr_t frame, uintptr_t back)
{
    uint32_t count = 0;

    note_call(&count, at);
    if (follows_call(back))
        note_call(&count, back);
    while (count < LAST_WORDS_CALLS_MAX && frame >= stack_begin &&
           frame <= stack_end - 2 * sizeof(uintptr_t) && frame % sizeof(uintptr_t) == 0) {
        uintptr_t pair[2];
        memcpy(pair, (const void *)frame, sizeof pair);
        note_call(&count, pair[1]);
        if (pair[0] <= frame)
            return;
        frame = pair[0];
    }
}

/* A library's function has no frame that could be followed: what looks like an address to return to
 * stands in for the calls. Some may be of calls that are over. */
static void note_likely_calls(uintptr_t stack)
{
    uint32_t count = atomic_load_explicit(&words->call_count, memory_order_relaxed);

    if (stack < stack_begin || stack % sizeof(uintptr_t) != 0)
        return;
    for (size_t i = 0; i < SCANNED_WORDS && stack + sizeof(uintptr_t) <= stack_end; i++) {
        uintptr_t word;
        memcpy(&word, (const void *)stack, sizeof word);
        if (follows_call(word))
            note_call(&count, word);
        stack += sizeof word;
    }
}

static void on_deadly(int number, siginfo_t *info, void *context)
{
    uintptr_t at, frame, stack, back;

    /* SA_RESETHAND: the signal has its default again. Blocked until we return, or until what we do
     * here is itself at fault: both end the process with it. */
    if (words != NULL && atomic_load_explicit(&words->signal, memory_order_relaxed) == 0) {
        bool is_fault =
            number == SIGSEGV || number == SIGBUS || number == SIGILL || number == SIGFPE;
        words->signal_code = info->si_code;
        words->fault_address = is_fault && info->si_code > 0 ? (uintptr_t)info->si_addr : 0;
        atomic_store_explicit(&words->signal, (uint32_t)number, memory_order_release);
        registers_of(context, &at, &frame, &stack, &back);
        note_calls(at, frame, back);
        if (atomic_load_explicit(&words->call_count, memory_order_relaxed) < CALLS_ENOUGH)
            note_likely_calls(stack);
    }
    (void)raise(number); /* one that somebody has sent does not come again by itself */
}

static void find_stack(void)
{
    pthread_attr_t attr;
    void *begin;
    size_t bytes;

    if (pthread_getattr_np(pthread_self(), &attr) != 0)
        return;
    if (pthread_attr_getstack(&attr, &begin, &bytes) == 0) {
        stack_begin = (uintptr_t)begin;
        stack_end = stack_begin + bytes;
    }
    (void)pthread_attr_destroy(&attr);
}

void last_words_open(struct last_words *mine)
{
    static const int deadly[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS};
    const stack_t stack = {.ss_sp = handler_stack, .ss_size = sizeof handler_stack};
    struct sigaction action = {.sa_sigaction = on_deadly,
                               .sa_flags = (int)(SA_SIGINFO | SA_ONSTACK | SA_RESETHAND)};

    *mine = (struct last_words){0};
    words = mine;
    find_stack();
    log_listener(on_error);
    if (IS_SANITIZED) /* the sanitizers have handlers of their own, which tell more */
        return;
    (void)sigaltstack(&stack, NULL);
    (void)sigfillset(&action.sa_mask);
    for (size_t i = 0; i < sizeof deadly / sizeof deadly[0]; i++)
        (void)sigaction(deadly[i], &action, NULL);
}

void last_words_doing(const char *format, ...)
{
    va_list args;

    if (words == NULL)
        return;
    va_start(args, format);
    (void)vsnprintf(words->doing, sizeof words->doing, format, args);
    va_end(args);
}

/* What <assert.h>'s macro calls: said in the log, and so noted. SOURCE glibc, assert.h. */
void __assert_fail(const char *expression, const char *file, unsigned line, const char *function)
{
    log_error("assertion failed in %s, %s:%u: %s", function, file, line, expression);
    abort();
}
