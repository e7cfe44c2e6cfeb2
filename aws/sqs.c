#include "aws/sqs.h"

#include "aws/sign.h"
#include "base/digest.h"
#include "base/json.h"

void sqs_request(struct aws_request *r, const char *target)
{
    *r = (struct aws_request){
        .service = AWS_SQS,
        .method = "POST",
        .path = "/",
        .content_type = "application/x-amz-json-1.0",
        .target = target,
    };
}

/* xx-…-1: other labels of hosts are not read as regions. */
static bool looks_like_region(struct slice s)
{
    size_t hyphen = slice_rfind_byte(s, '-');
    uint64_t number;

    return sign_is_region(s) && hyphen != SIZE_MAX && hyphen >= 2 && s.ptr[2] == '-' &&
           slice_to_u64(slice_from(s, hyphen + 1), &number);
}

struct slice sqs_region_of(struct slice queue_url)
{
    struct slice host, rest, first, second;
    size_t at = slice_find(queue_url, SLICE("://"));

    if (at == SIZE_MAX)
        return slice_none();
    (void)slice_cut(slice_from(queue_url, at + 3), '/', &host, &rest);
    (void)slice_cut(host, '.', &first, &rest);
    (void)slice_cut(rest, '.', &second, &rest);
    if ((slice_eq(first, SLICE("sqs")) || slice_eq(first, SLICE("sqs-fips"))) &&
        looks_like_region(second))
        return second;
    if (slice_eq(second, SLICE("queue")) && looks_like_region(first))
        return first;
    if (slice_eq(host, SLICE("queue.amazonaws.com")) || slice_eq(host, SLICE("sqs.amazonaws.com")))
        return SLICE("us-east-1");
    return slice_none();
}

/* attributes: of each message, JSON texts with commas between. */
static void put_receive(struct buf *to, struct slice queue_url, unsigned most, unsigned wait_s,
                        unsigned visibility_s, const char *attributes)
{
    buf_add_byte(to, '{');
    json_put_str(to, "QueueUrl", queue_url);
    json_put_u64(to, "MaxNumberOfMessages", most);
    json_put_u64(to, "WaitTimeSeconds", wait_s);
    json_put_u64(to, "VisibilityTimeout", visibility_s);
    buf_printf(to, ",\"MessageSystemAttributeNames\":[%s]}", attributes);
}

#define ITS_TIMES "\"SentTimestamp\",\"ApproximateFirstReceiveTimestamp\""

void sqs_receive_body(struct buf *to, struct slice queue_url, unsigned wait_s,
                      unsigned visibility_s)
{
    put_receive(to, queue_url, SQS_BATCH_MAX, wait_s, visibility_s, ITS_TIMES);
}

void sqs_receive_some_body(struct buf *to, struct slice queue_url, unsigned most, unsigned wait_s,
                           unsigned visibility_s)
{
    put_receive(to, queue_url, most, wait_s, visibility_s,
                ITS_TIMES ",\"ApproximateReceiveCount\",\"MessageGroupId\"");
}

void sqs_send_body(struct buf *to, struct slice queue_url, struct slice body, struct slice group,
                   struct slice twin)
{
    buf_add_byte(to, '{');
    json_put_str(to, "QueueUrl", queue_url);
    json_put_str(to, "MessageGroupId", group);
    json_put_str(to, "MessageDeduplicationId", twin);
    json_put_str(to, "MessageBody", body);
    buf_add_byte(to, '}');
}

/* Entries with ids "0".."9"; what stands behind each handle is `more`. */
static void put_entries(struct buf *to, struct slice queue_url, const struct slice *handles,
                        size_t count, struct slice more)
{
    buf_add_byte(to, '{');
    json_put_str(to, "QueueUrl", queue_url);
    json_put_name(to, "Entries");
    buf_add_byte(to, '[');
    for (size_t i = 0; i < count; i++) {
        buf_add_str(to, i == 0 ? "{\"Id\":\"" : ",{\"Id\":\"");
        buf_add_u64(to, i);
        buf_add_byte(to, '"');
        json_put_str(to, "ReceiptHandle", handles[i]);
        buf_add_slice(to, more);
        buf_add_byte(to, '}');
    }
    buf_add_str(to, "]}");
}

void sqs_visibility_body(struct buf *to, struct slice queue_url, const struct slice *handles,
                         size_t count, unsigned visibility_s)
{
    struct buf more = {0};

    buf_printf(&more, ",\"VisibilityTimeout\":%u", visibility_s);
    put_entries(to, queue_url, handles, count, buf_slice(&more));
    buf_fini(&more);
}

void sqs_delete_body(struct buf *to, struct slice queue_url, const struct slice *handles,
                     size_t count)
{
    put_entries(to, queue_url, handles, count, slice_none());
}

void sqs_depth_body(struct buf *to, struct slice queue_url)
{
    buf_add_byte(to, '{');
    json_put_str(to, "QueueUrl", queue_url);
    buf_add_str(to, ",\"AttributeNames\":[\"ApproximateNumberOfMessages\","
                    "\"ApproximateNumberOfMessagesNotVisible\","
                    "\"ApproximateNumberOfMessagesDelayed\",\"CreatedTimestamp\"]}");
}

bool sqs_depth_parse(struct slice body, struct sqs_depth *depth)
{
    cJSON *tree = json_parse(body);
    const cJSON *a = json_get(tree, "Attributes");

    *depth = (struct sqs_depth){0};
    bool told =
        slice_to_u64(json_get_text(a, "ApproximateNumberOfMessages"), &depth->visible) &&
        slice_to_u64(json_get_text(a, "ApproximateNumberOfMessagesNotVisible"), &depth->in_flight);
    if (told &&
        !slice_to_u64(json_get_text(a, "ApproximateNumberOfMessagesDelayed"), &depth->delayed))
        depth->delayed = 0;
    uint64_t created_s;
    if (told && slice_to_u64(json_get_text(a, "CreatedTimestamp"), &created_s) &&
        created_s <= UINT32_MAX)
        depth->created_wall_ms = created_s * 1000;
    json_free(tree);
    return told;
}

static bool is_intact(struct slice body, struct slice md5_hex)
{
    uint8_t md5[MD5_BYTES];
    struct buf hex = {0};

    if (md5_hex.len == 0)
        return true;
    digest_md5(body, md5);
    text_hex(&hex, slice_of(md5, sizeof md5));
    bool same = slice_eq_nocase(buf_slice(&hex), md5_hex);
    buf_fini(&hex);
    return same;
}

/* By SQS's clock alone: ours may be another. */
static uint64_t waited_ms(const cJSON *message)
{
    const cJSON *attributes = json_get(message, "Attributes");
    uint64_t sent_ms, received_ms;

    if (!slice_to_u64(json_get_text(attributes, "SentTimestamp"), &sent_ms) ||
        !slice_to_u64(json_get_text(attributes, "ApproximateFirstReceiveTimestamp"), &received_ms))
        return UINT64_MAX;
    return received_ms > sent_ms ? received_ms - sent_ms : 0;
}

bool sqs_received_parse(struct slice body, struct sqs_received *r)
{
    *r = (struct sqs_received){.count = 0};
    const cJSON *tree = json_parse_in(&r->arena, body);
    if (!cJSON_IsObject(tree)) {
        sqs_received_free(r);
        return false;
    }
    for (const cJSON *m = json_first(json_get(tree, "Messages"));
         m != NULL && r->count < SQS_BATCH_MAX; m = m->next) {
        struct sqs_message *out = &r->messages[r->count];
        out->message_id = json_get_text(m, "MessageId");
        out->receipt_handle = json_get_text(m, "ReceiptHandle");
        out->body = json_get_text(m, "Body");
        out->intact = is_intact(out->body, json_get_text(m, "MD5OfBody"));
        out->waited_ms = waited_ms(m);
        const cJSON *attributes = json_get(m, "Attributes");
        out->group = json_get_text(attributes, "MessageGroupId");
        if (!slice_to_u64(json_get_text(attributes, "SentTimestamp"), &out->sent_wall_ms))
            out->sent_wall_ms = 0;
        if (!slice_to_u64(json_get_text(attributes, "ApproximateReceiveCount"), &out->receives))
            out->receives = 0;
        if (out->receipt_handle.len > 0) /* without one it can be neither kept away nor deleted */
            r->count++;
    }
    return true;
}

void sqs_received_free(struct sqs_received *r)
{
    arena_fini(&r->arena);
    *r = (struct sqs_received){0};
}

bool sqs_sent_parse(struct slice answer, struct slice body)
{
    cJSON *tree = json_parse(answer);
    struct slice md5 = json_get_text(tree, "MD5OfMessageBody");
    bool taken = md5.len > 0 && is_intact(body, md5);

    json_free(tree);
    return taken;
}

/* faults: those count that are the sender's, too. */
static bool failed_parse(struct slice body, bool faults, uint32_t *failed)
{
    cJSON *tree = json_parse(body);
    bool readable = cJSON_IsObject(tree);

    *failed = 0;
    for (const cJSON *f = json_first(json_get(tree, "Failed")); f != NULL; f = f->next) {
        uint64_t id;
        if ((faults || !json_get_bool(f, "SenderFault", false)) &&
            slice_to_u64(json_get_text(f, "Id"), &id) && id < SQS_BATCH_MAX)
            *failed |= UINT32_C(1) << id;
    }
    json_free(tree);
    return readable;
}

/* A fault of ours (an expired handle) is not mended by asking again: the message comes back. */
bool sqs_deleted_parse(struct slice body, uint32_t *failed)
{
    return failed_parse(body, false, failed);
}

bool sqs_changed_parse(struct slice body, uint32_t *failed)
{
    return failed_parse(body, true, failed);
}
