/*
 * Events to another SNS endpoint: signed Publish calls through aws/http, a few at a time, each
 * until it is answered with 200.
 */
#include <stdlib.h>

#include "aws/http.h"
#include "base/config.h"
#include "base/digest.h"
#include "base/mem.h"
#include "sandbox/cloud.h"

enum { UNDER_WAY_MAX = 32 };

struct publication {
    struct publication *next;
    struct cloud_publisher *publisher;
    struct buf body;
};

struct cloud_publisher {
    struct cloud *cloud;
    struct config config; /* what aws_client_create() wants to know */
    struct vault *vault;  /* in this process only */
    struct aws_client *client;
    struct event *again;
    struct publication *first, **last;
    unsigned under_way;
};

static void pump(struct cloud_publisher *p);

static void on_answer(void *arg, const struct aws_response *answer)
{
    struct publication *one = arg;
    struct cloud_publisher *p = one->publisher;
    const struct timeval pause = {.tv_usec = 200000};

    p->under_way--;
    if (answer->fate == AWS_ANSWERED && answer->status == 200) {
        buf_fini(&one->body);
        free(one);
        pump(p);
        return;
    }
    one->next = p->first;
    if (p->first == NULL)
        p->last = &one->next;
    p->first = one;
    (void)event_add(p->again, &pause);
}

static void on_again(evutil_socket_t fd, short what, void *arg)
{
    (void)fd, (void)what;
    pump(arg);
}

static void pump(struct cloud_publisher *p)
{
    while (p->first != NULL && p->under_way < UNDER_WAY_MAX) {
        struct publication *one = p->first;
        p->first = one->next;
        if (p->first == NULL)
            p->last = &p->first;
        struct aws_request request = {
            .service = AWS_SNS,
            .method = "POST",
            .path = "/",
            .content_type = "application/x-www-form-urlencoded; charset=utf-8",
            .body = buf_slice(&one->body),
            .done = on_answer,
            .arg = one,
        };
        p->under_way++;
        aws_call(p->client, &request);
    }
}

void cloud_publish(struct cloud *c, struct slice message, const char *subject)
{
    struct cloud_publisher *p = c->publisher;
    struct publication *one = mem_zero(1, sizeof *one);

    one->publisher = p;
    buf_add_str(&one->body, "Action=Publish&Version=2010-03-31&TopicArn=");
    text_percent_encode(&one->body, slice_str(c->publish_topic), "");
    buf_add_str(&one->body, "&Subject=");
    text_percent_encode(&one->body, slice_str(subject), "");
    buf_add_str(&one->body, "&Message=");
    text_percent_encode(&one->body, message, "");
    *p->last = one;
    p->last = &one->next;
    pump(p);
}

struct cloud_publisher *cloud_publisher_create(struct cloud *c, struct err *err)
{
    struct cloud_publisher *p = mem_zero(1, sizeof *p);
    static char empty[] = "";
    struct credentials mine = {0};

    p->cloud = c;
    p->last = &p->first;
    p->config.aws.region = p->config.aws.ses_endpoint = p->config.aws.sqs_endpoint =
        p->config.aws.sts_endpoint = p->config.aws.iam_endpoint = empty;
    p->config.aws.sns_endpoint = c->publish_to;
    p->vault = vault_create(err);
    if (p->vault != NULL &&
        credentials_set(&mine, slice_str(c->access_key), slice_str(c->secret_key), slice_none(),
                        "the sandbox's key", err) == 0) {
        credentials_set_region(&mine, slice_str(c->region));
        if (vault_publish(p->vault, &mine, err) == 0)
            p->client = aws_client_create(c->base, &p->config, p->vault, UNDER_WAY_MAX, err);
    }
    credentials_fini(&mine);
    p->again = event_new(c->base, -1, 0, on_again, p);
    if (p->client == NULL) {
        cloud_publisher_destroy(p);
        return NULL;
    }
    return p;
}

void cloud_publisher_destroy(struct cloud_publisher *p)
{
    if (p == NULL)
        return;
    aws_client_destroy(p->client);
    while (p->first != NULL) {
        struct publication *gone = p->first;
        p->first = gone->next;
        buf_fini(&gone->body);
        free(gone);
    }
    event_free(p->again);
    vault_destroy(p->vault);
    free(p);
}
