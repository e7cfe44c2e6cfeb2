/*
 * shm/notice.h - a short record that one process publishes and others read, always whole.
 *
 * SHAPE   One anonymous shared mapping: two pages and a serial number that says which of them is
 *         valid. The publisher fills the other one and then turns the number.
 * ENDS    The master creates it before it forks; one process at a time publishes (its successor is
 *         forked after waitpid() has returned it); any number read. Nobody ever waits: a reader
 *         that was overtaken while it copied copies again.
 * UNITS   Bytes. Serial numbers count from 1; 0 = nothing was published yet.
 * MEMORY  notice_create()/notice_destroy(). After fork() a process that must not know what is
 *         published destroys its notice: the mapping goes from that process alone, and nothing of
 *         it was ever copied. Left out of core dumps.
 * CRASH   SIGKILL of the publisher at any instruction leaves the last record valid: what it was
 *         writing stands in the other page, which its successor overwrites.
 */
#ifndef SHM_NOTICE_H
#define SHM_NOTICE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum { NOTICE_MAX_BYTES = 16 * 1024 };

struct notice;

/* NULL and *err when there is no memory for the mapping. */
struct notice *notice_create(struct err *err);
void notice_destroy(struct notice *n); /* NULL is fine */

/* The publisher: from now on readers get this record. -1 = longer than NOTICE_MAX_BYTES. */
int notice_publish(struct notice *n, struct slice record, struct err *err);

/* Readers. notice_read() empties `to` and fills it with the last record; both answer its number. */
uint64_t notice_serial(const struct notice *n);
uint64_t notice_read(const struct notice *n, struct buf *to);

#endif
