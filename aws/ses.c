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

void ses_suppression_path(struct buf *to, struct slice address)
{
    buf_add_str(to, "/v2/email/suppression/addresses/");
    text_percent_encode(to, address, "");
}
