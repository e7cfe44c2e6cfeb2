#include "aws/credential_document.h"

#include "aws/xml.h"
#include "base/clock.h"
#include "base/json.h"

static int read_expiry(struct slice text, const char *where, uint64_t *wall_ms, struct err *err)
{
    *wall_ms = clock_read_iso8601_us(text) / 1000;
    if (*wall_ms == 0)
        return err_set(err, ERR_INPUT, "%s: its Expiration is no time", where);
    return 0;
}

static int read_json(const cJSON *tree, const char *token_name, bool must_expire, const char *where,
                     struct credentials *c, struct err *err)
{
    const cJSON *expiry = json_get(tree, "Expiration");
    uint64_t expires_wall_ms = 0;

    if ((must_expire || json_text(expiry).len > 0) &&
        read_expiry(json_text(expiry), where, &expires_wall_ms, err) != 0)
        return -1;
    if (credentials_set(c, json_get_text(tree, "AccessKeyId"),
                        json_get_text(tree, "SecretAccessKey"), json_get_text(tree, token_name),
                        where, err) != 0)
        return -1;
    c->expires_wall_ms = expires_wall_ms;
    return 0;
}

int document_read_metadata(struct slice json, const char *where, struct credentials *c,
                           struct err *err)
{
    cJSON *tree = json_parse(json);
    struct slice code = json_get_text(tree, "Code");
    int result;

    if (tree == NULL)
        result = err_set(err, ERR_INPUT, "%s: the answer is no JSON", where);
    else if (code.len > 0 && !slice_eq(code, SLICE("Success")))
        result = err_set(err, ERR_INPUT, "%s says %.*s: %.*s", where, SLICE_ARGS(code),
                         SLICE_ARGS(json_get_text(tree, "Message")));
    else
        result = read_json(tree, "Token", true, where, c, err);
    json_free(tree);
    return result;
}

int document_read_process(struct slice json, const char *where, struct credentials *c,
                          struct err *err)
{
    cJSON *tree = json_parse(json);
    int64_t version = 0;
    int result;

    if (tree == NULL)
        result = err_set(err, ERR_INPUT, "%s: its output is no JSON", where);
    else if (!json_get_i64(tree, "Version", &version) || version != 1)
        result = err_set(err, ERR_INPUT, "%s: its output is not of \"Version\": 1", where);
    else
        result = read_json(tree, "SessionToken", false, where, c, err);
    json_free(tree);
    return result;
}

int document_read_sts(struct slice xml, const char *action, const char *where,
                      struct credentials *c, struct err *err)
{
    static const char *const names[] = {"AccessKeyId", "SecretAccessKey", "SessionToken",
                                        "Expiration"};
    enum { KEY, SECRET, TOKEN, EXPIRATION, COUNT };
    struct buf texts[COUNT] = {{0}}, path = {0};
    uint64_t expires_wall_ms;
    int result = 0;

    for (size_t i = 0; result == 0 && i < COUNT; i++) {
        buf_reset(&path);
        buf_printf(&path, "%sResponse/%sResult/Credentials/%s", action, action, names[i]);
        (void)buf_reserve(&texts[i], xml.len); /* a realloc would leave secrets behind */
        switch (xml_text(xml, buf_cstr(&path), &texts[i])) {
        case XML_FOUND:
            break;
        case XML_ABSENT:
            result = err_set(err, ERR_INPUT, "%s: the answer has no %s", where, names[i]);
            break;
        case XML_BROKEN:
            result = err_set(err, ERR_INPUT, "%s: the answer is no XML", where);
            break;
        }
    }
    if (result == 0)
        result =
            read_expiry(slice_trim(buf_slice(&texts[EXPIRATION])), where, &expires_wall_ms, err);
    if (result == 0)
        result = credentials_set(c, slice_trim(buf_slice(&texts[KEY])),
                                 slice_trim(buf_slice(&texts[SECRET])),
                                 slice_trim(buf_slice(&texts[TOKEN])), where, err);
    if (result == 0)
        c->expires_wall_ms = expires_wall_ms;
    for (size_t i = 0; i < COUNT; i++)
        credentials_wipe(&texts[i]);
    buf_fini(&path);
    return result;
}
