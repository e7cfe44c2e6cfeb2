/*
 * aws/http.h - signed calls to AWS over curl multi, driven by a libevent loop.
 *
 * ENDS    One aws_client per process (sender, poller), made after fork(). Nothing here blocks;
 *         names are resolved in curl's own thread.
 * MEMORY  The caller keeps method, path, content_type, target and body valid until the callback
 *         has run; aws_response borrows from the client and is valid within the callback only. A
 *         request may be made from a callback; the client is not destroyed from one.
 * UNITS   Milliseconds.
 * ERRORS  The callback is called exactly once per accepted request, never from within aws_call().
 * SIGNING Signature Version 4 (aws/sign.h), done when the request is handed to curl, again on
 *         every retry. A wrong clock is corrected from the answer's Date header and the call
 *         repeated one time (spec/aws.md §4). A call whose credentials AWS refuses waits, within
 *         its time, until the keeper has asked their source (aws/vault.h), and is repeated one time
 *         if there are others now. Both repeat a call that was refused, never one without an
 *         answer. Where there are no credentials, or only expired ones, calls wait for them within
 *         their time; then they are AWS_NOT_SENT, with words that tell why there are none.
 * TWICE   Nothing is put on the wire a second time unless AWS has refused the first. curl alone
 *         would: when a kept-alive connection ends before a byte of answer, it sends the request
 *         again on a fresh one, although the first may have been acted on. So every request passes
 *         a gate just before its first byte (CURLOPT_PREREQFUNCTION), and curl's repetition is
 *         stopped there if bytes had been written (CURLINFO_REQUEST_SIZE): the answer is
 *         AWS_UNKNOWN. If none had, the repetition is harmless and goes on. What a gate cannot
 *         decide is kept rare: curl looks for the peer's end of file before it reuses a
 *         connection, and none is reused after AWS_IDLE_MAX_S of rest, well below the time after
 *         which load balancers close them. AWS_UNKNOWN thus means: bytes were written, and no
 *         whole answer came. A body of more than 1 MB goes over a connection of its own: nothing is
 *         repeated there, and how much of it had been taken is known. AWS_NOT_SENT means: no byte was written (not resolved, not connected,
 *         TLS refused, never got its turn); AWS_CUT_SHORT: the connection went, or the time was
 *         over, before the whole body was taken by the kernel.
 * HTTP    1.1 with keep-alive. HTTP/2 would save nothing here, and its streams end in more ways. A
 *         proxy is taken from the environment as curl does (HTTPS_PROXY, NO_PROXY), but never for
 *         an endpoint on loopback.
 * SOURCE  spec/aws.md §1, §2, §4.
 */
#ifndef AWS_HTTP_H
#define AWS_HTTP_H

#include <event2/event.h>

#include "aws/vault.h"
#include "base/config.h"
#include "base/err.h"
#include "base/slice.h"

struct aws_client;

enum {
    AWS_IDLE_MAX_S = 20,
    AWS_TIMEOUT_MS = 30000,                /* of a request that names none */
    AWS_BODY_MAX_BYTES = 32 * 1024 * 1024, /* longer answers are given up: AWS_UNKNOWN */
};

/* IAM has one endpoint and one signing region per partition, whatever the region of a call. */
enum aws_service { AWS_SES, AWS_SQS, AWS_SNS, AWS_STS, AWS_IAM };

/* What is known about the request when no usable answer came. */
enum aws_fate {
    AWS_ANSWERED, /* status and body are there */
    AWS_NOT_SENT, /* no byte of the request can have been acted on (no connection, TLS failed, …) */
    AWS_CUT_SHORT, /* nor can these: the connection ended in the middle of the body */
    AWS_UNKNOWN, /* it may have been acted on: timeout, reset or end of file after the body went out
                  */
};

struct aws_response {
    enum aws_fate fate;
    int status; /* HTTP, when ANSWERED */
    struct slice body;
    struct slice error_code; /* of a non-2xx answer, cut as spec/aws.md §4 says; may be empty */
    struct slice error_text; /* the service's message, or curl's words */
    struct slice request_id;
    struct slice date; /* the field Date: AWS's time; may be empty */
};

typedef void aws_callback(void *arg, const struct aws_response *answer);

struct aws_request {
    enum aws_service service;
    struct slice region; /* empty = the client's */
    /* Instead of service, region and path: this is fetched, unsigned. Redirections are answers. */
    const char *url;
    const char *method;       /* "POST", "GET", "PUT", "DELETE" */
    const char *path;         /* percent-encoded, with query if any: "/v2/email/outbound-emails" */
    const char *content_type; /* NULL = none */
    const char *target;       /* X-Amz-Target, or NULL */
    struct slice body;
    uint64_t
        timeout_ms; /* of the whole call, waiting for a connection included; 0 = AWS_TIMEOUT_MS */
    aws_callback *done;
    void *arg;
};

/* Calls to a region other than the client's go to that region's endpoint, or, where the
 * configuration names an endpoint of the service, there, signed for that region. */
/* Reads endpoints and region from config (and the environment through it); without a region there
 * the one that comes with the first credentials is used. Borrows the vault. connections: at most so
 * many at once; further calls wait inside. */
struct aws_client *aws_client_create(struct event_base *base, const struct config *config,
                                     struct vault *vault, unsigned connections, struct err *err);
void aws_client_destroy(
    struct aws_client *c); /* NULL is fine; drops calls under way without calling back */

void aws_call(struct aws_client *c, const struct aws_request *request);
/* Whether there are credentials now. Without them a call would only wait. */
bool aws_can_sign(struct aws_client *c);
unsigned aws_calls_under_way(const struct aws_client *c);

/* How to react to an answer of a send: spec/aws.md §4's table. */
enum aws_reaction {
    AWS_OK,
    AWS_THROTTLED,              /* slow down and retry */
    AWS_QUOTA,                  /* the daily quota: hold all sending for minutes */
    AWS_HOLD_ACCOUNT,           /* paused, suspended: hold all, alarm */
    AWS_HOLD_SENDER,            /* identity not verified, access denied: hold what comes from it */
    AWS_HOLD_CONFIGURATION_SET, /* missing, or its sending is paused: hold what goes by it */
    AWS_PERMANENT,              /* refused for good: this message */
    AWS_TRANSIENT,              /* 5xx, not sent: retry with back-off */
    AWS_CUT_OFF,                /* AWS_CUT_SHORT: the same, but the body's size may be why */
    AWS_IN_DOUBT,               /* AWS_UNKNOWN */
};
enum aws_reaction aws_send_reaction(const struct aws_response *answer);

#endif
