/*
 * httpd/change.h - asking the writer for a change, and hearing what became of it.
 *
 * ENDS    change_begin(), then the caller encodes its record with that id into service.record, then
 *         change_push(); the answer comes to on_answer, which begins with change_is_done().
 * ERRORS  0 and false: the exchange has been answered. Nothing was kept, but after the writer's
 *         silence, of which that is not known.
 */
#ifndef HTTPD_CHANGE_H
#define HTTPD_CHANGE_H

#include "httpd/service.h"

/* The request id for the record; 0. */
uint64_t change_begin(struct exchange *x, inbox_visitor *on_answer);
void change_push(struct exchange *x, uint64_t request_id);

/* Has it been done? Else the client has heard the writer's words, or, where they are about
 * something that is not there and not_found is not empty, these. what: for the log. */
bool change_is_done(struct exchange *x, const struct record_answer *answer, const char *what,
                    struct slice not_found);

#endif
