/*
 * aws/session.h - calls to AWS one after another, each waited for: for the subcommands.
 *
 * SHAPE   An event loop, a client (aws/http.h) and the credential chain, which is asked at once and
 *         again when AWS refuses what it gave.
 * ENDS    One per process, in a process of its own: it blocks.
 * UNITS   Milliseconds.
 * MEMORY  session_open()/session_close(). An answer is the caller's: session_answer_fini(), which
 *         wipes it, for new access keys come in one.
 * ERRORS  -1: there is no answer, and why, in words for a person. Any status is an answer.
 * AGAIN   Throttled calls, 5xx and calls without an answer are made again, with pauses that double,
 *         up to SESSION_TRIES times: every call must be harmless when repeated. session_call_once()
 *         makes only those again that AWS cannot have acted on.
 */
#ifndef AWS_SESSION_H
#define AWS_SESSION_H

#include "aws/http.h"
#include "base/buf.h"

struct session;

enum { SESSION_TRIES = 7 };

struct session_answer {
    int status;
    struct buf body;
    char code[128];  /* of an error; "" = none told */
    char text[1025]; /* its words */
};

/* Borrows config: region, endpoints and credentials are those of its aws section. NULL: no
 * credentials, or no region. */
struct session *session_open(const struct config *config, struct err *err);
void session_close(struct session *s); /* NULL is fine */
const char *session_region(const struct session *s);
/* Where the credentials come from, for people; nothing secret. */
const char *session_source(const struct session *s);
const char *session_access_key_id(const struct session *s);

/* AWS's time less this machine's, in seconds, by the Date of the last answer; false: none told. */
bool session_clock_offset_s(const struct session *s, int64_t *offset_s);

/* request: without callback. Its texts need live no longer than the call. */
int session_call(struct session *s, const struct aws_request *request,
                 struct session_answer *answer, struct err *err);
int session_call_once(struct session *s, const struct aws_request *request,
                      struct session_answer *answer, struct err *err);
void session_answer_fini(struct session_answer *answer);

/* Blocks so long. */
void session_pause(struct session *s, uint64_t ms);

/* -1, with what an answer that is no success means and what to do: which permission is missing
 * ("sqs:CreateQueue"), on what; credentials that are refused; a region that is none. */
int session_refusal(const struct session *s, const struct session_answer *answer,
                    const char *action, const char *what, struct err *err);

#endif
