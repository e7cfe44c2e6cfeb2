#include "master/notify.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-daemon.h>

#include "base/clock.h"
#include "base/log.h"

/* The manager's socket by name, as children see no variable of it. */
static char address[256];
static uint64_t watchdog_us, watchdog_ms, alive_mono_ms;
static bool quiet; /* it does not know us yet */
static unsigned long long serving;

static void say(const char *what)
{
    if (address[0] == '\0' || quiet)
        return;
    (void)setenv("NOTIFY_SOCKET", address, 1);
    int got = sd_notify(1, what); /* takes the variable away again */
    if (got < 0)
        log_warn("the service manager cannot be told: %s", strerror(-got));
}

void notify_begin(bool as_heir)
{
    const char *asked = getenv("NOTIFY_SOCKET");

    quiet = as_heir;
    if (as_heir)
        (void)unsetenv("WATCHDOG_PID"); /* our parent's */
    if (sd_watchdog_enabled(1, &watchdog_us) > 0)
        watchdog_ms = watchdog_us / 1000 / 3;
    if (asked != NULL && strlen(asked) < sizeof address)
        (void)snprintf(address, sizeof address, "%s", asked);
    (void)unsetenv("NOTIFY_SOCKET");
}

void notify_bequeath(void)
{
    char text[32];

    if (address[0] != '\0')
        (void)setenv("NOTIFY_SOCKET", address, 1);
    (void)snprintf(text, sizeof text, "%" PRIu64, watchdog_us);
    if (watchdog_ms != 0)
        (void)setenv("WATCHDOG_USEC", text, 1);
}

void notify_main_pid(pid_t heir)
{
    char text[64];

    (void)snprintf(text, sizeof text, "MAINPID=%ld", (long)heir);
    say(text);
}

void notify_take_over(void)
{
    quiet = false;
}

bool notify_is_heard(void)
{
    return address[0] != '\0';
}

void notify_ready(unsigned long long processes)
{
    char text[128];

    serving = processes;
    (void)snprintf(text, sizeof text, "READY=1\nSTATUS=serving with %llu processes", processes);
    say(text);
}

void notify_reloading(void)
{
    char text[128];

    (void)snprintf(text, sizeof text,
                   "RELOADING=1\nMONOTONIC_USEC=%" PRIu64 "\nSTATUS=processes are replaced",
                   clock_mono_ms() * 1000);
    say(text);
}

void notify_refused(void)
{
    char text[160];

    (void)snprintf(text, sizeof text,
                   "READY=1\nSTATUS=serving with %llu processes; the last configuration was "
                   "refused, see the log",
                   serving);
    say(text);
}

void notify_stopping(void)
{
    say("STOPPING=1\nSTATUS=requests and sends under way finish");
}

void notify_alive(void)
{
    uint64_t now_ms = clock_mono_ms();

    if (watchdog_ms == 0 || now_ms - alive_mono_ms < watchdog_ms)
        return;
    alive_mono_ms = now_ms;
    say("WATCHDOG=1");
}
