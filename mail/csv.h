/*
 * mail/csv.h - comma-separated values, line by line.
 *
 * SHAPE   RFC 4180; lines may end in CRLF, LF or CR; a byte order mark and empty lines are passed
 *         over; a quote within an unquoted field is text.
 * MEMORY  Fields borrow from the text, or live in the arena when a doubled quote had to be undone.
 * ERRORS  CSV_BAD and why: a quoted field that does not end, more after its end, too many fields.
 */
#ifndef MAIL_CSV_H
#define MAIL_CSV_H

#include "base/arena.h"

struct csv {
    struct slice rest;
    struct arena *arena;
    size_t line;     /* number of the line read last, from 1 */
    size_t newlines; /* before the rest */
    const char *why;
};

enum csv_result { CSV_LINE, CSV_END, CSV_BAD };

struct csv csv_over(struct slice text, struct arena *a);
enum csv_result csv_next(struct csv *c, struct slice *fields, size_t most, size_t *count);

#endif
