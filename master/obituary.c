#include "master/obituary.h"

#include <dlfcn.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "base/log.h"

static const char *exit_meaning(int status)
{
    switch (status) {
    case CHILD_EXIT_DONE:
        return "left by itself";
    case CHILD_EXIT_RETRY:
        return "asks to be started again";
    case CHILD_EXIT_BROKEN:
        return "what stands in its rings makes no sense";
    case CHILD_EXIT_HOPELESS:
        return "not to be started again before a change";
    default:
        return "a library ended it";
    }
}

void obituary_how(struct buf *to, int status)
{
    if (WIFSIGNALED(status))
        buf_printf(to, "signal %d (%s)", WTERMSIG(status), sigabbrev_np(WTERMSIG(status)));
    else
        buf_printf(to, "exit status %d (%s)", WEXITSTATUS(status),
                   exit_meaning(WEXITSTATUS(status)));
}

/* The dead one was forked from us: what is loaded stands where it stands here. */
void obituary_calls(struct buf *to, const struct last_words *words)
{
    uint32_t count = atomic_load(&words->call_count);
    Dl_info found;

    for (uint32_t i = 0; i < count && i < LAST_WORDS_CALLS_MAX; i++) {
        const void *address;
        memcpy(&address, &words->calls[i], sizeof address);
        if (i > 0)
            buf_add_byte(to, ',');
        if (dladdr(address, &found) == 0 || found.dli_fname == NULL) {
            buf_printf(to, "0x%" PRIx64, words->calls[i]);
            continue;
        }
        const char *slash = strrchr(found.dli_fname, '/');
        buf_printf(to, "%s+0x%" PRIx64, slash == NULL ? found.dli_fname : slash + 1,
                   words->calls[i] - (uint64_t)(uintptr_t)found.dli_fbase);
    }
}

static const char *cause_of(const struct death *d)
{
    if (d->killed_for != NULL)
        return d->killed_for;
    if (!WIFSIGNALED(d->status) || d->told_to_stop)
        return "";
    switch (WTERMSIG(d->status)) {
    case SIGKILL:
        return "not killed by this master: a person, or the kernel for want of memory";
    case SIGSYS:
        return "a system call that nothing of ours makes";
    case SIGXCPU:
    case SIGXFSZ:
        return "a limit of the system";
    default:
        return "";
    }
}

static struct slice text_of(const char *bytes, size_t room)
{
    return slice_of(bytes, strnlen(bytes, room));
}

void obituary(const struct death *d, const struct last_words *words)
{
    bool is_signal = WIFSIGNALED(d->status);
    bool expected =
        d->told_to_stop && WIFEXITED(d->status) && WEXITSTATUS(d->status) == CHILD_EXIT_DONE;
    struct buf how = {0}, calls = {0}, fault = {0};
    struct log_field fields[16];
    size_t n = 0;

    obituary_how(&how, d->status);
    fields[n++] = LOG_TEXT("event", SLICE("death"));
    fields[n++] = LOG_TEXT("role", slice_str(d->role));
    fields[n++] = LOG_NUMBER("slot", d->index);
    fields[n++] = LOG_NUMBER("generation", d->generation);
    fields[n++] = LOG_NUMBER("child_pid", (uint64_t)d->pid);
    fields[n++] = LOG_NUMBER("age_ms", d->age_ms);
    if (expected) {
        log_fields(LOG_LEVEL_INFO, fields, n,
                   "%s %u, generation %" PRIu64 ", left as it was told to", d->role, d->index,
                   d->generation);
        buf_fini(&how);
        return;
    }
    if (is_signal) {
        fields[n++] = LOG_NUMBER("signal", (uint64_t)WTERMSIG(d->status));
        fields[n++] = LOG_TEXT("core", slice_str(WCOREDUMP(d->status) ? "yes" : "no"));
    } else {
        fields[n++] = LOG_NUMBER("exit_status", (uint64_t)WEXITSTATUS(d->status));
    }
    fields[n++] = LOG_TEXT("cause", slice_str(cause_of(d)));
    fields[n++] = LOG_TEXT("doing", text_of(words->doing, sizeof words->doing));
    fields[n++] = LOG_TEXT("last_words", text_of(words->error, sizeof words->error));
    if (words->error[0] != '\0')
        fields[n++] = LOG_NUMBER("said_before_ms", d->now_mono_ms > words->error_mono_ms
                                                       ? d->now_mono_ms - words->error_mono_ms
                                                       : 0);
    if (is_signal && (int)atomic_load(&words->signal) == WTERMSIG(d->status)) {
        if (words->fault_address != 0 || WTERMSIG(d->status) == SIGSEGV)
            buf_printf(&fault, "0x%" PRIx64, words->fault_address);
        obituary_calls(&calls, words);
        fields[n++] = LOG_TEXT("fault_address", buf_slice(&fault));
        fields[n++] = LOG_TEXT("calls", buf_slice(&calls));
    }
    if (d->next_in_ms > 0)
        fields[n++] = LOG_NUMBER("next_in_ms", d->next_in_ms);
    log_fields(LOG_LEVEL_WARN, fields, n,
               "%s %u, generation %" PRIu64 ", died of %s after %" PRIu64 " ms, %s; %s", d->role,
               d->index, d->generation, buf_cstr(&how), d->age_ms,
               d->was_ready ? "in service" : "before it was ready", d->next);
    buf_fini(&how);
    buf_fini(&calls);
    buf_fini(&fault);
}
