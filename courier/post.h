/*
 * courier/post.h - POSTs of JSON to strangers' URLs, many at once, over curl multi.
 *
 * SHAPE   http and https; certificates are verified, redirections are answers, no proxy is asked.
 *         Where a connection would lead is judged when it is made, by the address itself: a name
 *         that has another address by then is no way around (courier/public_address.h).
 * ENDS    One per process, made after fork(). Only poster_wait() waits; names are resolved in
 *         threads of curl's, and one that a name server keeps waiting is left to end by itself.
 * UNITS   Milliseconds.
 * MEMORY  poster_create()/poster_destroy(); URL and body are copied or taken over.
 * ERRORS  done is called once for each POST that was begun, from within poster_wait(), but not for
 *         those that are under way when the poster is destroyed.
 * BOUNDS  An answer's body is thrown away, and ends the exchange when it is longer than
 *         POST_ANSWER_MAX_BYTES: its status counts all the same.
 */
#ifndef COURIER_POST_H
#define COURIER_POST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum { POST_ANSWER_MAX_BYTES = 64 * 1024, POST_WAIT_FDS_MAX = 4 };

struct poster;
struct post;

struct post_answer {
    int status;        /* HTTP; 0 = there was none */
    const char *words; /* then: why */
    uint64_t took_ms;
};
typedef void post_callback(void *arg, const struct post_answer *answer);

struct poster *poster_create(unsigned connections, uint64_t timeout_ms, bool allow_private,
                             struct err *err);
void poster_destroy(struct poster *p); /* NULL is fine */

unsigned poster_free(const struct poster *p); /* so many more may be begun */
/* With poster_free() > 0. Takes the body over and leaves it empty. What it returns lives until done
 * has been called. */
struct post *poster_begin(struct poster *p, const char *url, struct buf *body, post_callback *done,
                          void *arg);
/* Hangs up: done will not be called. The receiver may have taken it all the same. */
void poster_abandon(struct post *post);
/* Until something happens: on a POST, on one of the descriptors (to be read), or max_ms went by. */
void poster_wait(struct poster *p, const int *fds, size_t count, uint64_t max_ms);

#endif
