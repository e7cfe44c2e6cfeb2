/*
 * mail/date.h - dates as Mailgun's API writes and reads them.
 *
 * UNITS   µs since 1970-01-01 UTC. What is earlier reads as 0: clients send year 1 for "not set".
 * ERRORS  date_parse() answers false for anything it does not know; *us is untouched then.
 * SOURCE  RFC 5322 §3.3 and §4.3 (obsolete zones), spec/mailgun.md §4.1, §5.
 */
#ifndef MAIL_DATE_H
#define MAIL_DATE_H

#include "base/buf.h"

/* "Fri, 3 May 2013 09:00:00 -0000" (day name and seconds optional, numeric or named zone), or
 * seconds since 1970, whole or with a fraction (digits past the sixth are cut). A zone without its
 * sign is east: a '+' that nobody escaped arrives as a blank. */
bool date_parse(struct slice text, uint64_t *us);

/* "Thu, 26 Mar 2026 12:59:15 UTC"; zone: "UTC", "GMT" or "+0000". */
void date_put_rfc1123(struct buf *to, uint64_t us, const char *zone);
/* "2026-03-26T12:59:15.418Z" */
void date_put_iso8601(struct buf *to, uint64_t us);

#endif
