/*
 * aws/fetch.h - one HTTP request at a time, waited for: for the process that gets credentials,
 * and for subcommands.
 *
 * SHAPE   A curl handle, kept for its connections. Redirections are not followed.
 * ENDS    One per process. Blocks up to the request's timeout; asks `alive` some times a second
 *         meanwhile, and gives up when it says no.
 * UNITS   Milliseconds; a Date in seconds of wall time.
 * MEMORY  fetch_create()/fetch_destroy(). The caller owns the answer: fetch_answer_fini(), which
 *         wipes it, for secrets come in it.
 * ERRORS  -1: there is no answer, and why. Any status is an answer.
 */
#ifndef AWS_FETCH_H
#define AWS_FETCH_H

#include "base/buf.h"
#include "base/err.h"

struct fetch;

enum { FETCH_BODY_MAX_BYTES = 64 * 1024, FETCH_HEADERS_MAX = 8 };

typedef bool fetch_alive(void *arg);

struct fetch_request {
    const char *method; /* "GET", "PUT", "POST", "DELETE" */
    const char *url;
    const char *headers[FETCH_HEADERS_MAX]; /* "Name: value"; up to the first NULL */
    struct slice body;                      /* of POST */
    uint64_t timeout_ms;
    bool no_proxy;           /* whatever the environment says */
    bool any_certificate;    /* of a server of our own, asked under another name than its own */
    const char *unix_socket; /* connects to this instead of the URL's host; NULL = does not */
};

struct fetch_answer {
    int status;
    struct buf body;
    int64_t date_wall_s; /* the server's; 0 = it did not say */
};

struct fetch *fetch_create(fetch_alive *alive, void *arg);
void fetch_destroy(struct fetch *f); /* NULL is fine */

int fetch(struct fetch *f, const struct fetch_request *r, struct fetch_answer *answer,
          struct err *err);
void fetch_answer_fini(struct fetch_answer *answer);
/* Waits in between two requests. False: alive says no. */
bool fetch_pause(struct fetch *f, uint64_t ms);
bool fetch_is_alive(struct fetch *f);

#endif
