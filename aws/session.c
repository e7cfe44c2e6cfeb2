#include "aws/session.h"

#include <assert.h>
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "aws/credential_chain.h"
#include "aws/credentials.h"
#include "aws/error.h"
#include "aws/vault.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"

enum {
    LOOK_MS = 20,
    PAUSE_FIRST_MS = 250,
    PAUSE_MAX_MS = 8000,
};

struct session {
    struct event_base *base;
    struct event *look;
    struct vault *vault;
    struct credential_chain *chain;
    struct aws_client *client;
    struct credentials who; /* the ones published last */
    const struct config *config;
    /* of the call under way */
    struct session_answer *answer;
    enum aws_fate fate;
    bool is_over;
    /* of the last answer that had a Date */
    int64_t clock_offset_s;
    bool has_clock_offset;
};

static bool always_alive(void *arg)
{
    (void)arg;
    return true;
}

static int get_credentials(struct session *s, struct err *err)
{
    struct credentials fresh;

    if (chain_get(s->chain, &fresh, err) != 0)
        return -1;
    if (s->who.access_key_id != NULL && credentials_same_keys(&s->who, &fresh)) {
        credentials_fini(&fresh);
        return 0;
    }
    credentials_fini(&s->who);
    s->who = fresh;
    return vault_publish(s->vault, &s->who, err);
}

/* The part that the keeper plays elsewhere. */
static void on_look(evutil_socket_t fd, short what, void *arg)
{
    struct session *s = arg;
    struct err err;

    (void)fd, (void)what;
    if (!vault_has_question(s->vault))
        return;
    (void)vault_take_question(s->vault);
    (void)get_credentials(s, &err); /* what was refused is told by the answer */
    vault_answer(s->vault);
}

struct session *session_open(const struct config *config, struct err *err)
{
    struct session *s = mem_zero(1, sizeof *s);
    const struct timeval every = {.tv_usec = LOOK_MS * 1000};
    struct err why;

    s->config = config;
    s->base = event_base_new();
    assert(s->base != NULL);
    s->vault = vault_create(err);
    if (s->vault == NULL) {
        session_close(s);
        return NULL;
    }
    s->chain = chain_create(config, always_alive, NULL);
    if (get_credentials(s, &why) != 0) {
        /* Without a region nothing is asked for credentials either, and its words say so. */
        (void)err_set(
            err, why.code, "%s%s",
            strstr(why.text, "AWS region") != NULL ? "" : "no AWS credentials: ", why.text);
        session_close(s);
        return NULL;
    }
    if (session_region(s)[0] == '\0') {
        (void)err_set(err, ERR_CONFIG,
                      "no AWS region: give --region, as in --region eu-west-1, or set aws.region");
        session_close(s);
        return NULL;
    }
    s->client = aws_client_create(s->base, config, s->vault, 1, err);
    if (s->client == NULL) {
        session_close(s);
        return NULL;
    }
    s->look = event_new(s->base, -1, EV_PERSIST, on_look, s);
    assert(s->look != NULL);
    (void)event_add(s->look, &every);
    return s;
}

void session_close(struct session *s)
{
    if (s == NULL)
        return;
    aws_client_destroy(s->client);
    if (s->look != NULL)
        event_free(s->look);
    chain_destroy(s->chain);
    vault_destroy(s->vault);
    credentials_fini(&s->who);
    event_base_free(s->base);
    free(s);
}

const char *session_region(const struct session *s)
{
    return s->config->aws.region[0] != '\0' ? s->config->aws.region : s->who.region;
}

const char *session_source(const struct session *s)
{
    return s->who.source;
}

const char *session_access_key_id(const struct session *s)
{
    return s->who.access_key_id;
}

bool session_clock_offset_s(const struct session *s, int64_t *offset_s)
{
    *offset_s = s->clock_offset_s;
    return s->has_clock_offset;
}

static void copy_text(char *to, size_t size, struct slice text)
{
    (void)snprintf(to, size, "%.*s", SLICE_ARGS(text));
}

static void on_answer(void *arg, const struct aws_response *answer)
{
    struct session *s = arg;

    s->fate = answer->fate;
    s->answer->status = answer->fate == AWS_ANSWERED ? answer->status : 0;
    buf_reset(&s->answer->body);
    buf_add_slice(&s->answer->body, answer->body);
    time_t theirs = answer->date.len > 0 ? curl_getdate((const char *)answer->date.ptr, NULL) : -1;
    if (theirs > 0) {
        s->clock_offset_s = (int64_t)theirs - (int64_t)(clock_wall_ms() / 1000);
        s->has_clock_offset = true;
    }
    copy_text(s->answer->code, sizeof s->answer->code, answer->error_code);
    copy_text(s->answer->text, sizeof s->answer->text, answer->error_text);
    s->is_over = true;
}

static void try_once(struct session *s, const struct aws_request *request)
{
    struct aws_request r = *request;

    r.done = on_answer;
    r.arg = s;
    s->is_over = false;
    aws_call(s->client, &r);
    while (!s->is_over)
        (void)event_base_loop(s->base, EVLOOP_ONCE);
}

static void on_pause_over(evutil_socket_t fd, short what, void *arg)
{
    bool *is_over = arg;

    (void)fd, (void)what;
    *is_over = true;
}

void session_pause(struct session *s, uint64_t ms)
{
    struct timeval after = {(time_t)(ms / 1000), (suseconds_t)(ms % 1000 * 1000)};
    bool is_over = false;

    (void)event_base_once(s->base, -1, EV_TIMEOUT, on_pause_over, &is_over, &after);
    while (!is_over)
        (void)event_base_loop(s->base, EVLOOP_ONCE);
}

static bool may_help_again(const struct session *s, bool repeatable)
{
    switch (s->fate) {
    case AWS_NOT_SENT:
    case AWS_CUT_SHORT:
        return true;
    case AWS_UNKNOWN:
        return repeatable;
    case AWS_ANSWERED:
        break;
    }
    return aws_error_is_throttling(slice_str(s->answer->code)) || s->answer->status == 429 ||
           (s->answer->status >= 500 && repeatable);
}

static int call(struct session *s, const struct aws_request *request, bool repeatable,
                struct session_answer *answer, struct err *err)
{
    uint64_t pause_ms = PAUSE_FIRST_MS;
    uint8_t dice;

    *answer = (struct session_answer){0};
    s->answer = answer;
    for (int tried = 1;; tried++) {
        try_once(s, request);
        /* Without a connection it is a wrong name or a wrong network more often than a bad minute. */
        int most = s->fate == AWS_NOT_SENT ? 3 : SESSION_TRIES;
        if (tried >= most || !may_help_again(s, repeatable))
            break;
        digest_random(&dice, sizeof dice);
        session_pause(s, pause_ms / 2 + pause_ms * dice / 512);
        pause_ms = pause_ms < PAUSE_MAX_MS / 2 ? pause_ms * 2 : PAUSE_MAX_MS;
    }
    if (s->fate == AWS_ANSWERED)
        return 0;
    (void)err_set(err, ERR_NETWORK, "AWS does not answer: %s", answer->text);
    session_answer_fini(answer);
    return -1;
}

int session_call(struct session *s, const struct aws_request *request,
                 struct session_answer *answer, struct err *err)
{
    return call(s, request, true, answer, err);
}

int session_call_once(struct session *s, const struct aws_request *request,
                      struct session_answer *answer, struct err *err)
{
    return call(s, request, false, answer, err);
}

void session_answer_fini(struct session_answer *answer)
{
    credentials_wipe(&answer->body);
}

int session_refusal(const struct session *s, const struct session_answer *answer,
                    const char *action, const char *what, struct err *err)
{
    struct slice code = slice_str(answer->code), text = slice_str(answer->text);

    if (aws_error_is_denied(code) || (code.len == 0 && answer->status == 403))
        return err_set(err, ERR_DENIED,
                       "not allowed: the permission %s is missing, on %s, for the credentials of "
                       "%s (AWS: %.*s). `postern setup --print-iam` prints what it takes",
                       action, what, s->who.source, SLICE_ARGS(slice_head(text, 200)));
    if (slice_find_nocase(text, SLICE("scoped to a valid region")) != SIZE_MAX ||
        slice_find_nocase(text, SLICE("scoped to correct region")) != SIZE_MAX)
        return err_set(err, ERR_CONFIG,
                       "\"%s\" is not the region of the endpoint that was asked: look at --region "
                       "and at the aws section's endpoints (AWS: %.*s)",
                       session_region(s), SLICE_ARGS(slice_head(text, 200)));
    if (aws_error_is_clock(code))
        return err_set(err, ERR_INPUT,
                       "AWS refuses the signature: the secret access key of %s is wrong, or what "
                       "stands between changes requests (AWS: %s: %.*s)",
                       s->who.source, answer->code, SLICE_ARGS(slice_head(text, 200)));
    if (aws_error_is_credentials(code))
        return err_set(err, ERR_INPUT,
                       "AWS does not know the credentials of %s in %s: wrong key, expired, or a "
                       "region that is not enabled in this account (AWS: %s: %.*s)",
                       s->who.source, session_region(s), answer->code,
                       SLICE_ARGS(slice_head(text, 200)));
    return err_set(err, ERR_INPUT, "%s, %s: AWS answers %d %s: %.*s", action, what, answer->status,
                   answer->code, SLICE_ARGS(slice_head(text, 300)));
}
