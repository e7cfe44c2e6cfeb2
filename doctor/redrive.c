#include "doctor/redrive.h"

#include <string.h>

#include "aws/sqs.h"

static struct slice arn_of(const struct seen *s)
{
    return json_get_text(json_get(s->tree, "Attributes"), "QueueArn");
}

uint64_t redrive_waiting(const struct patient_queue *q)
{
    uint64_t count = 0;

    (void)slice_to_u64(
        json_get_text(json_get(q->dead.tree, "Attributes"), "ApproximateNumberOfMessages"), &count);
    return count;
}

const char *redrive_name(const struct patient_queue *q)
{
    struct slice arn = arn_of(&q->dead);
    size_t colon = slice_rfind_byte(arn, ':');

    return colon == SIZE_MAX ? "" : (const char *)arn.ptr + colon + 1; /* cJSON's, so it ends */
}

int redrive_start(struct patient *p, const struct patient_queue *q, struct err *err)
{
    struct aws_request r;
    struct session_answer a;
    struct buf body = {0};

    buf_add_byte(&body, '{');
    json_put_str(&body, "SourceArn", arn_of(&q->dead));
    /* Named, so that messages whose origin SQS does not know go there too. */
    json_put_str(&body, "DestinationArn", arn_of(&q->queue));
    buf_add_byte(&body, '}');
    sqs_request(&r, "AmazonSQS.StartMessageMoveTask");
    r.region = sqs_region_of(q->url);
    r.body = buf_slice(&body);
    int failed = session_call_once(p->session, &r, &a, err);
    if (failed == 0) {
        if (a.status < 200 || a.status > 299)
            failed =
                session_refusal(p->session, &a, "sqs:StartMessageMoveTask", redrive_name(q), err);
        session_answer_fini(&a);
    }
    buf_fini(&body);
    return failed;
}
