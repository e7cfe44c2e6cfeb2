/*
 * master/notify.h - what the service manager (systemd, Type=notify) is told.
 *
 * ENDS    The master alone. Without a manager that asks, every call does nothing.
 * SOURCE  sd_notify(3), systemd.service(5).
 */
#ifndef MASTER_NOTIFY_H
#define MASTER_NOTIFY_H

#include <stdbool.h>
#include <sys/types.h>

/* Before the first fork: children must not speak to the manager. Whether it asks is remembered. As
 * another master's heir: it is told nothing until notify_take_over(). */
void notify_begin(bool as_heir);
void notify_take_over(void);
bool notify_is_heard(void); /* is there a manager that asks? */
/* Puts into the environment what notify_begin() took out of it: for the heir. */
void notify_bequeath(void);
void notify_main_pid(pid_t heir); /* from now on it listens to that process, and not to us */

void notify_ready(unsigned long long processes);
void notify_reloading(void); /* notify_ready() ends it */
void notify_refused(void);   /* the configuration is not taken over: ready, as before */
void notify_stopping(void);
/* As often as the loop turns; the manager hears of it as often as it asked for (WatchdogSec). */
void notify_alive(void);

#endif
