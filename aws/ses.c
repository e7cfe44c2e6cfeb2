#include "aws/ses.h"

#include "base/digest.h"
#include "base/json.h"

/* SES writes its numbers as doubles. Negative: `negative`; absurd or no number: 0. */
static uint64_t number(const cJSON *object, const char *name, uint64_t scale, uint64_t negative)
{
    const cJSON *v = json_get(object, name);

    if (!cJSON_IsNumber(v))
        return 0;
    if (v->valuedouble < 0)
        return negative;
    if (!(v->valuedouble < 1e12))
        return 0;
    return (uint64_t)(v->valuedouble * (double)scale + 0.5);
}

bool ses_account_parse(struct slice body, struct ses_account *account)
{
    cJSON *tree = json_parse(body);
    bool ok = cJSON_IsObject(tree);

    *account = (struct ses_account){0};
    if (ok) {
        const cJSON *quota = json_get(tree, "SendQuota");
        account->rate_milli = number(quota, "MaxSendRate", 1000, 0);
        account->quota_max_24h = number(quota, "Max24HourSend", 1, UINT64_MAX);
        account->quota_sent_24h = number(quota, "SentLast24Hours", 1, 0);
        account->sending_enabled = json_get_bool(tree, "SendingEnabled", true);
        account->production = json_get_bool(tree, "ProductionAccessEnabled", true);
    }
    json_free(tree);
    return ok;
}

bool ses_message_id(struct slice body, struct buf *to)
{
    cJSON *tree = json_parse(body);
    struct slice id = json_get_text(tree, "MessageId");

    buf_add_slice(to, id);
    json_free(tree);
    return id.len > 0;
}

/* Both spellings of a status that the documentation has, where it has two. */
static enum aws_reaction entry_reaction(struct slice status, struct slice error)
{
    static const struct {
        const char *status;
        enum aws_reaction reaction;
    } known[] = {
        {"SUCCESS", AWS_OK},
        {"ACCOUNT_THROTTLED", AWS_THROTTLED},
        {"TRANSIENT_FAILURE", AWS_TRANSIENT},
        {"ACCOUNT_DAILY_QUOTA_EXCEEDED", AWS_QUOTA},
        {"ACCOUNT_SENDING_PAUSED", AWS_HOLD_ACCOUNT},
        {"ACCOUNT_SUSPENDED", AWS_HOLD_ACCOUNT},
        {"CONFIGURATION_SET_SENDING_PAUSED", AWS_HOLD_CONFIGURATION_SET},
        {"CONFIGURATION_SET_NOT_FOUND", AWS_HOLD_CONFIGURATION_SET},
        {"CONFIGURATION_SET_DOES_NOT_EXIST", AWS_HOLD_CONFIGURATION_SET},
        {"INVALID_SENDING_POOL_NAME", AWS_HOLD_CONFIGURATION_SET},
        {"MAIL_FROM_DOMAIN_NOT_VERIFIED", AWS_HOLD_SENDER},
        {"TEMPLATE_NOT_FOUND", AWS_PERMANENT}, /* we name none: the inline one was refused */
        {"TEMPLATE_DOES_NOT_EXIST", AWS_PERMANENT},
        {"INVALID_PARAMETER", AWS_PERMANENT},
        {"INVALID_PARAMETER_VALUE", AWS_PERMANENT},
    };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (slice_eq(status, slice_str(known[i].status)))
            return known[i].reaction;
    /* MESSAGE_REJECTED, FAILED, and what is not documented: the words have to tell. */
    if (slice_find_nocase(error, SLICE("not verified")) != SIZE_MAX)
        return AWS_HOLD_SENDER;
    if (slice_find_nocase(error, SLICE("daily message quota")) != SIZE_MAX)
        return AWS_QUOTA;
    if (slice_find_nocase(error, SLICE("sending rate exceeded")) != SIZE_MAX ||
        slice_find_nocase(error, SLICE("throttl")) != SIZE_MAX)
        return AWS_THROTTLED;
    return AWS_PERMANENT;
}

bool ses_bulk_results(struct slice body, size_t count, struct arena *a, struct ses_entry **list)
{
    cJSON *tree = json_parse(body);
    const cJSON *results = json_get(tree, "BulkEmailEntryResults");
    size_t at = 0;

    *list = arena_array(a, count, sizeof **list);
    for (const cJSON *r = json_first(results); r != NULL; r = r->next, at++) {
        struct slice status = json_get_text(r, "Status"), error = json_get_text(r, "Error");
        if (at >= count || status.len == 0) {
            at = SIZE_MAX;
            break;
        }
        (*list)[at] = (struct ses_entry){
            .reaction = entry_reaction(status, error),
            .message_id = arena_dup(a, json_get_text(r, "MessageId")),
        };
        if ((*list)[at].reaction != AWS_OK)
            (*list)[at].words = arena_printf(a, "%.*s%s%.*s", SLICE_ARGS(status),
                                             error.len > 0 ? ": " : "", SLICE_ARGS(error));
    }
    bool ok = cJSON_IsArray(results) && at == count;
    json_free(tree);
    return ok;
}

void ses_suppression_path(struct buf *to, struct slice address)
{
    buf_add_str(to, "/v2/email/suppression/addresses/");
    text_percent_encode(to, address, "");
}
