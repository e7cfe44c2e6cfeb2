/*
 * httpd/httpd.h - the httpd role: Mailgun's API over HTTP.
 *
 * ENDS    Called once, in a process of its own, by whoever forked it. All httpd processes share the
 *         listening sockets; each has a ring to the writer and one back.
 * CRASH   Nothing here outlives the process or needs to. A batch that reached the ring is kept or
 *         not, as the writer decides; a client that heard nothing repeats its request, and the
 *         batch's claims recognise the repeat.
 */
#ifndef HTTPD_HTTPD_H
#define HTTPD_HTTPD_H

#include "shm/child.h"

enum child_exit httpd_main(const struct child *me);

#endif
