#include "poller/signatures.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "aws/endpoint.h"
#include "aws/sns.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"

/* From its first use on; what is known of it holds until `until_mono_ms`. */
struct certificate {
    struct signatures *of;
    char *url; /* NULL = this place is free */
    EVP_PKEY *key;
    bool under_way, refused;
    struct err why; /* refused */
    uint64_t used_mono_ms, until_mono_ms, pause_ms;
};

struct signatures {
    struct aws_client *client;
    const struct config *config;
    void (*ready)(void *arg);
    void *arg;
    struct endpoint_parts instead; /* where SNS is, if the configuration says */
    bool has_instead, failing;
    struct certificate certificates[SIGNATURES_CERTIFICATES_MAX];
};

struct signatures *signatures_open(struct aws_client *client, const struct config *config,
                                   void (*ready)(void *arg), void *arg)
{
    struct signatures *s = mem_zero(1, sizeof *s);
    const char *endpoint = config->aws.sns_endpoint;
    struct err err;

    s->client = client;
    s->config = config;
    s->ready = ready;
    s->arg = arg;
    s->has_instead = endpoint[0] != '\0' && endpoint_parse(&s->instead, endpoint, &err) == 0;
    return s;
}

static void empty(struct certificate *c)
{
    free(c->url);
    EVP_PKEY_free(c->key);
    *c = (struct certificate){.of = c->of};
}

void signatures_close(struct signatures *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < SIGNATURES_CERTIFICATES_MAX; i++)
        empty(&s->certificates[i]);
    if (s->has_instead)
        endpoint_fini(&s->instead);
    free(s);
}

/* -------- fetching -------- */

static void try_later(struct certificate *c, const struct aws_response *answer)
{
    c->pause_ms = c->pause_ms == 0 ? SIGNATURES_AGAIN_MS : c->pause_ms * 2;
    if (c->pause_ms > SIGNATURES_AGAIN_MAX_MS)
        c->pause_ms = SIGNATURES_AGAIN_MAX_MS;
    c->until_mono_ms = clock_mono_ms() + c->pause_ms;
    if (!c->of->failing)
        log_warn("SNS's certificate %s cannot be had (%d %.*s): events wait in SQS", c->url,
                 answer->status, SLICE_ARGS(answer->error_text));
    c->of->failing = true;
}

static void take_key(struct certificate *c, struct slice pem)
{
    int64_t now_s = (int64_t)(clock_wall_ms() / 1000), until_s = now_s;

    c->key = sns_certificate_key(pem, now_s, &until_s, &c->why);
    c->refused = c->key == NULL;
    c->until_mono_ms =
        clock_mono_ms() + (c->refused ? SIGNATURES_REFUSED_MS : (uint64_t)(until_s - now_s) * 1000);
}

static void on_certificate(void *arg, const struct aws_response *answer)
{
    struct certificate *c = arg;
    struct signatures *s = c->of;

    c->under_way = false;
    if (answer->fate != AWS_ANSWERED || answer->status >= 500 || answer->status == 429) {
        try_later(c, answer);
        return;
    }
    if (s->failing)
        log_info("SNS's certificates can be had again");
    s->failing = false;
    c->pause_ms = 0;
    if (answer->status == 200 && answer->body.len <= SNS_CERTIFICATE_MAX_BYTES) {
        take_key(c, answer->body);
    } else {
        c->refused = true;
        c->until_mono_ms = clock_mono_ms() + SIGNATURES_REFUSED_MS;
        (void)err_set(&c->why, ERR_INPUT, "SNS has no such certificate (%d)", answer->status);
    }
    s->ready(s->arg);
}

static void fetch(struct certificate *c)
{
    EVP_PKEY_free(c->key);
    c->key = NULL;
    c->refused = false;
    c->under_way = true;
    aws_call(c->of->client, &(struct aws_request){
                                .service = AWS_SNS,
                                .url = c->url,
                                .method = "GET",
                                .done = on_certificate,
                                .arg = c,
                            });
}

/* The certificate's place: the one it has, or that of the one whose last use is longest ago. NULL:
 * all are being fetched. */
static struct certificate *place_of(struct signatures *s, struct slice url)
{
    struct certificate *oldest = NULL;

    for (size_t i = 0; i < SIGNATURES_CERTIFICATES_MAX; i++) {
        struct certificate *c = &s->certificates[i];
        if (c->url != NULL && slice_eq(slice_str(c->url), url))
            return c;
        if (!c->under_way && (oldest == NULL || c->used_mono_ms < oldest->used_mono_ms))
            oldest = c;
    }
    if (oldest == NULL)
        return NULL;
    empty(oldest);
    oldest->of = s;
    oldest->url = mem_zero(1, url.len + 1);
    memcpy(oldest->url, url.ptr, url.len);
    return oldest;
}

/* -------- judging -------- */

/* "https://sqs.REGION.amazonaws.com/ACCOUNT/NAME" */
static struct slice account_of(struct slice queue_url)
{
    struct slice rest = queue_url, account = slice_none(), name;

    for (size_t i = 0; i < 3 && slice_cut(rest, '/', &account, &rest); i++)
        ;
    return slice_cut(rest, '/', &account, &name) ? account : slice_none();
}

static bool is_ours(const struct signatures *s, struct slice queue_url, struct slice topic_arn,
                    struct slice account)
{
    const struct config_list *topics = &s->config->queues.sns_topics;

    for (size_t i = 0; i < topics->count; i++)
        if (slice_eq(slice_str(topics->texts[i]), topic_arn))
            return true;
    return topics->count == 0 && slice_eq(account, account_of(queue_url));
}

static enum signature_verdict judge(struct signatures *s, struct slice queue_url,
                                    const struct sns_envelope *e, struct err *err)
{
    struct slice region, account, origin = slice_none();

    if (s->has_instead)
        origin = slice_str(s->instead.origin);
    if (!sns_topic_parts(e->topic_arn, &region, &account) ||
        !is_ours(s, queue_url, e->topic_arn, account)) {
        (void)err_set(err, ERR_INPUT,
                      "its topic is none of ours (queues.sns_topics, or the queue's account)");
        return SIGNATURE_BAD;
    }
    if (!sns_certificate_url_is_good(e->certificate_url, region, origin)) {
        (void)err_set(err, ERR_INPUT,
                      "its certificate is not at SNS's address in the topic's region");
        return SIGNATURE_BAD;
    }
    struct certificate *c = place_of(s, e->certificate_url);
    if (c == NULL)
        return SIGNATURE_WAIT;
    c->used_mono_ms = clock_mono_ms();
    bool is_known = c->used_mono_ms < c->until_mono_ms;
    if (!c->under_way && !is_known)
        fetch(c);
    if (c->under_way || (c->key == NULL && !c->refused))
        return SIGNATURE_WAIT;
    if (c->refused) {
        *err = c->why;
        return SIGNATURE_BAD;
    }
    return sns_signature_is_good(e, c->key, err) ? SIGNATURE_GOOD : SIGNATURE_BAD;
}

enum signature_verdict signatures_judge(struct signatures *s, struct slice queue_url,
                                        struct slice body, struct err *err)
{
    struct sns_envelope e;

    if (!sns_envelope_parse(body, &e, err))
        return SIGNATURE_BAD;
    enum signature_verdict verdict = judge(s, queue_url, &e, err);
    sns_envelope_free(&e);
    return verdict;
}
