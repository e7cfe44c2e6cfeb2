/*
 * shm/ring.h - a queue of records in shared memory, from one producer to one consumer.
 *
 * SHAPE   Records of 0..ring_record_max() bytes, opaque here, delivered whole and in order.
 * ENDS    The master creates every ring before the first fork(), and forks a successor only
 *         after waitpid() has returned the predecessor: each end has one live holder at most.
 * UNITS   Sizes in bytes. Positions in bytes since creation: 64 bits, only ever growing.
 * MEMORY  ring_create()/ring_destroy() own the mapping. A view borrows from it until released.
 *         A ring is as large as its largest record needs; ring_release() gives the pages of long
 *         records back to the system, so an idle ring costs next to nothing.
 * ERRORS  Empty and full are answers. RING_BROKEN: what the peer shares is not believable; the
 *         slot is reset and that peer replaced, and nothing else.
 * CRASH   SIGKILL of either end, at any instruction, leaves the ring usable:
 *           producer, before its store to head    the record never existed
 *           producer, after it                    the record will be delivered
 *           consumer, before its store to tail    the record is delivered again
 *         So delivery is at least once. A consumer that commits view.next together with the
 *         record's effect recognises a repeat, and the effect happens exactly once.
 *
 * No locks. Waking the other end is the caller's business (shm/bell.h).
 */
#ifndef SHM_RING_H
#define SHM_RING_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

struct ring;

enum ring_result {
    RING_OK,
    RING_EMPTY,
    RING_FULL,
    RING_TOO_LONG, /* not even in an empty ring: do not retry */
    RING_BROKEN,
};

/* One record, still inside the ring. */
struct ring_view {
    struct slice rec;
    uint64_t next; /* the position just past it */
};

/* capacity: a power of two from 4096 to 2^30. Returns NULL and fills *err on failure. */
struct ring *ring_create(size_t capacity, struct err *err);
void ring_destroy(struct ring *r); /* NULL is fine */
size_t ring_record_max(const struct ring *r);
size_t ring_capacity(const struct ring *r);
/* With nobody at work on it: gives its memory back to the system, unless something is in it. */
void ring_trim(struct ring *r);

/* Producer: copies rec in and publishes it. Never EMPTY. *end (may be NULL) gets the position just
 * past the record: once ring_tail() has reached it, the consumer has made its effect safe. */
enum ring_result ring_push(struct ring *r, struct slice rec, uint64_t *end);

/* Consumer: shows the oldest record. OK, EMPTY or BROKEN. Stores nothing shared, so that until
 * ring_release() every call agrees, in this process or in its successor. A hostile producer can
 * still change the bytes in view: read each once, or copy them first. */
enum ring_result ring_peek(const struct ring *r, struct ring_view *view);
/* Consumer: the record behind the one that ends at position `from` (a view's next), without
 * releasing anything: a burst is read first and released after its commit. */
enum ring_result ring_peek_from(const struct ring *r, uint64_t from, struct ring_view *view);

/* Consumer: gives back the room up to view->next. Call it once losing those records would lose
 * nothing: their effect is durable, or the producer has kept what it takes to repair it. */
void ring_release(struct ring *r, const struct ring_view *view);

uint64_t ring_tail(const struct ring *r); /* any end */
uint64_t ring_head(const struct ring *r); /* any end */
size_t ring_used_bytes(const struct ring *r);
size_t ring_bytes(const struct ring *r); /* its capacity */

/* Master or writer, with the producer dead and reaped: throws away what is in the ring. */
void ring_reset(struct ring *r);

#endif
