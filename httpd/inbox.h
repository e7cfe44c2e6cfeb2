/*
 * httpd/inbox.h - requests that wait for the writer's answer.
 *
 * SHAPE   INBOX_PLACES places. A request id is a serial number and the place's number, so an answer
 *         finds its place at once, and one that comes after its deadline finds nobody.
 * UNITS   Deadlines in monotonic ms.
 */
#ifndef HTTPD_INBOX_H
#define HTTPD_INBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "shm/record.h"

enum { INBOX_PLACES = 1024 };

struct exchange;
struct inbox;

/* answer: NULL when the deadline has passed. It borrows from the ring: not to be kept. */
typedef void inbox_visitor(struct exchange *x, const struct record_answer *answer);

struct inbox *inbox_create(void);
/* Calls drop for everyone who still waits. */
void inbox_destroy(struct inbox *inbox, void (*drop)(struct exchange *x));

/* A place for x; the id to put in the record. 0 = all places are taken. */
uint64_t inbox_wait(struct inbox *inbox, struct exchange *x, uint64_t deadline_mono_ms,
                    inbox_visitor *answered);
void inbox_forget(struct inbox *inbox, uint64_t request_id);

void inbox_answer(struct inbox *inbox, const struct record_answer *answer);
void inbox_expire(struct inbox *inbox, uint64_t now_mono_ms);
bool inbox_is_empty(const struct inbox *inbox);

#endif
