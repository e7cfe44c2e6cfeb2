#include "aws/error.h"

#include "aws/http.h"
#include "base/json.h"

/* "com.amazonaws.sqs#QueueDoesNotExist", "TooManyRequestsException:http://…": the name alone. */
static struct slice bare_code(struct slice code)
{
    struct slice head, tail;

    (void)slice_cut(code, ':', &head, &tail);
    size_t hash = slice_rfind_byte(head, '#');
    if (hash != SIZE_MAX)
        head = slice_from(head, hash + 1);
    return slice_trim(head);
}

static struct slice cut_text(struct slice text)
{
    size_t len = AWS_ERROR_TEXT_MAX;

    if (text.len <= len)
        return text;
    while (len > 0 && (text.ptr[len] & 0xc0) == 0x80)
        len--;
    return slice_head(text, len);
}

static struct slice first_text(const cJSON *tree, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct slice found = json_get_text(tree, names[i]);
        if (found.len > 0)
            return found;
    }
    return (struct slice){0};
}

static void read_json(struct arena *arena, struct slice body, struct aws_error *error)
{
    static const char *const code_names[] = {"__type", "code", "Code"};
    static const char *const text_names[] = {"message", "Message", "errorMessage"};
    cJSON *tree = json_parse(body);

    if (error->code.len == 0)
        error->code = arena_dup(arena, bare_code(first_text(tree, code_names, 3)));
    error->text = arena_dup(arena, cut_text(first_text(tree, text_names, 3)));
    json_free(tree);
}

/* ---- the Query protocol's XML: flat, no attributes where we look ---- */

/* What stands between <name> and </name>; empty when it is not there. */
static struct slice element(struct slice xml, struct slice open, struct slice close)
{
    size_t start = slice_find(xml, open);

    if (start == SIZE_MAX)
        return (struct slice){0};
    struct slice rest = slice_from(xml, start + open.len);
    size_t end = slice_find(rest, close);
    return end == SIZE_MAX ? slice_none() : slice_trim(slice_head(rest, end));
}

static struct slice without_entities(struct arena *arena, struct slice s)
{
    static const struct {
        const char *entity;
        uint8_t byte;
    } known[] = {{"&lt;", '<'},    {"&gt;", '>'},   {"&amp;", '&'}, {"&quot;", '"'},
                 {"&apos;", '\''}, {"&#39;", '\''}, {"&#xD;", ' '}};
    uint8_t *copy = arena_alloc(arena, s.len + 1);
    size_t len = 0;

    while (s.len > 0) {
        size_t taken = 1;
        copy[len] = s.ptr[0];
        for (size_t i = 0; s.ptr[0] == '&' && i < sizeof known / sizeof known[0]; i++) {
            struct slice entity = slice_str(known[i].entity);
            if (slice_starts(s, entity)) {
                copy[len] = known[i].byte;
                taken = entity.len;
            }
        }
        len++;
        s = slice_from(s, taken);
    }
    return slice_of(copy, len);
}

static void read_xml(struct arena *arena, struct slice body, struct aws_error *error)
{
    struct slice inner = element(body, SLICE("<Error>"), SLICE("</Error>"));

    if (inner.len == 0)
        return;
    if (error->code.len == 0)
        error->code =
            arena_dup(arena, bare_code(element(inner, SLICE("<Code>"), SLICE("</Code>"))));
    error->text =
        without_entities(arena, cut_text(element(inner, SLICE("<Message>"), SLICE("</Message>"))));
    if (error->request_id.len == 0)
        error->request_id =
            arena_dup(arena, element(body, SLICE("<RequestId>"), SLICE("</RequestId>")));
}

void aws_error_read(struct arena *arena, const struct aws_error_fields *fields, struct slice body,
                    struct aws_error *error)
{
    *error = (struct aws_error){
        .code = arena_dup(arena, bare_code(fields->error_type)),
        .request_id = arena_dup(arena, slice_trim(fields->request_id)),
    };
    body = slice_trim(body);
    if (body.len > 0 && body.ptr[0] == '{')
        read_json(arena, body, error);
    else if (body.len > 0 && body.ptr[0] == '<')
        read_xml(arena, body, error);
    if (error->code.len == 0 && fields->query_error.len > 0) {
        struct slice code, fault;
        (void)slice_cut(fields->query_error, ';', &code, &fault);
        error->code = arena_dup(arena, bare_code(code));
    }
}

/* ---- what the codes ask for ---- */

static bool is_in(struct slice code, const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (slice_eq(code, slice_str(names[i])))
            return true;
    return false;
}

#define IS_IN(code, ...)                                                                           \
    is_in(code, (const char *const[]){__VA_ARGS__},                                                \
          sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

bool aws_error_is_clock(struct slice code)
{
    return IS_IN(code, "InvalidSignatureException", "SignatureDoesNotMatch", "RequestExpired",
                 "RequestTimeTooSkewed", "RequestInTheFuture", "AuthFailure");
}

bool aws_error_is_credentials(struct slice code)
{
    return IS_IN(code, "ExpiredToken", "ExpiredTokenException", "RequestExpired",
                 "InvalidClientTokenId", "UnrecognizedClientException",
                 "MissingAuthenticationToken", "MissingAuthenticationTokenException");
}

bool aws_error_is_denied(struct slice code)
{
    return IS_IN(code, "AccessDenied", "AccessDeniedException", "AuthorizationError",
                 "NotAuthorized", "UnauthorizedOperation");
}

bool aws_error_is_throttling(struct slice code)
{
    return IS_IN(code, "TooManyRequestsException", "ThrottlingException", "Throttling",
                 "BandwidthLimitExceeded", "EC2ThrottledException", "PriorRequestNotComplete",
                 "ProvisionedThroughputExceededException", "RequestLimitExceeded",
                 "RequestThrottled", "RequestThrottledException", "SlowDown", "Throttled",
                 "ThrottledException", "TransactionInProgressException");
}

/* No code: a load balancer, or something in between, has answered. */
static enum aws_reaction by_status(int status)
{
    switch (status) {
    case 401:
    case 407:
        return AWS_HOLD_ACCOUNT;
    case 403:
    case 404:
        return AWS_HOLD_SENDER;
    case 408:
    case 425:
        return AWS_TRANSIENT;
    default:
        return status >= 400 && status < 500 ? AWS_PERMANENT : AWS_TRANSIENT;
    }
}

/* In prose, or within the resource name that IAM writes (…:configuration-set/newsletters). */
static bool names_configuration_set(struct slice text)
{
    return slice_find_nocase(text, SLICE("configuration set")) != SIZE_MAX ||
           slice_find_nocase(text, SLICE("configuration-set/")) != SIZE_MAX;
}

enum aws_reaction aws_send_reaction(const struct aws_response *answer)
{
    struct slice code = answer->error_code, text = answer->error_text;

    switch (answer->fate) {
    case AWS_NOT_SENT:
        return AWS_TRANSIENT;
    case AWS_CUT_SHORT:
        return AWS_CUT_OFF;
    case AWS_UNKNOWN:
        return AWS_IN_DOUBT;
    case AWS_ANSWERED:
        break;
    }
    if (answer->status >= 200 && answer->status < 300)
        return AWS_OK;

    /* The daily quota is told under several codes; its words are the same. */
    bool is_quota = slice_find_nocase(text, SLICE("daily message quota")) != SIZE_MAX;
    if (slice_eq(code, SLICE("LimitExceededException")))
        return AWS_QUOTA;
    if (aws_error_is_throttling(code) || answer->status == 429)
        return is_quota ? AWS_QUOTA : AWS_THROTTLED;
    bool names_set = names_configuration_set(text);
    if (IS_IN(code, "SendingPausedException"))
        return names_set ? AWS_HOLD_CONFIGURATION_SET : AWS_HOLD_ACCOUNT;
    if (IS_IN(code, "AccountSuspendedException", "OptInRequired", "NotAuthorized",
              "IncompleteSignature") ||
        aws_error_is_clock(code) || aws_error_is_credentials(code))
        return AWS_HOLD_ACCOUNT;
    if (IS_IN(code, "NotFoundException", "AccessDeniedException", "AccessDenied"))
        return names_set ? AWS_HOLD_CONFIGURATION_SET : AWS_HOLD_SENDER;
    if (IS_IN(code, "MailFromDomainNotVerifiedException"))
        return AWS_HOLD_SENDER;
    if (slice_eq(code, SLICE("MessageRejected")))
        return slice_find_nocase(text, SLICE("not verified")) != SIZE_MAX ? AWS_HOLD_SENDER
                                                                          : AWS_PERMANENT;
    if (IS_IN(code, "ConflictException", "ConcurrentModificationException", "RequestTimeout",
              "RequestTimeoutException"))
        return AWS_TRANSIENT;
    if (code.len == 0 || answer->status < 400)
        return by_status(answer->status);
    return answer->status >= 500 ? AWS_TRANSIENT : AWS_PERMANENT;
}
