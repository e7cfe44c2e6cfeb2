#include "sandbox/cloud_query.h"

#include <event2/buffer.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

static const struct {
    const char *version, *xmlns;
} services[] = {
    [CLOUD_QUERY_SNS] = {"2010-03-31", "http://sns.amazonaws.com/doc/2010-03-31/"},
    [CLOUD_QUERY_IAM] = {"2010-05-08", "https://iam.amazonaws.com/doc/2010-05-08/"},
    [CLOUD_QUERY_STS] = {"2011-06-15", "https://sts.amazonaws.com/doc/2011-06-15/"},
};

static void put_escaped(struct buf *to, const char *text)
{
    for (; *text != '\0'; text++)
        if (*text == '<')
            buf_add_str(to, "&lt;");
        else if (*text == '>')
            buf_add_str(to, "&gt;");
        else if (*text == '&')
            buf_add_str(to, "&amp;");
        else if (*text == '"')
            buf_add_str(to, "&quot;");
        else
            buf_add_byte(to, (uint8_t)*text);
}

static void send_xml(struct evhttp_request *http, int status, struct buf *xml)
{
    (void)evhttp_add_header(evhttp_request_get_output_headers(http), "Content-Type", "text/xml");
    (void)evbuffer_add(evhttp_request_get_output_buffer(http), xml->ptr, xml->len);
    evhttp_send_reply(http, status, status == 200 ? "OK" : "Error", NULL);
}

void cloud_query_error(struct evhttp_request *http, enum cloud_query_service service, int status,
                       const char *code, const char *message)
{
    struct buf xml = {0};

    buf_printf(&xml, "<ErrorResponse xmlns=\"%s\"><Error><Type>%s</Type><Code>%s</Code><Message>",
               services[service].xmlns, status < 500 ? "Sender" : "Receiver", code);
    put_escaped(&xml, message);
    buf_add_str(&xml, "</Message></Error><RequestId>sandbox</RequestId></ErrorResponse>");
    send_xml(http, status, &xml);
    buf_fini(&xml);
}

void cloud_query_refuse(struct cloud_query *q, int status, const char *code, const char *message)
{
    cloud_query_error(q->r->http, q->service, status, code, message);
}

void cloud_query_take_tags(const struct cloud_query *q, cJSON *tags)
{
    const char *key;

    for (int i = 1; (key = cloud_query_nth(q, "Tags.member", i, ".Key"))[0] != '\0'; i++) {
        cJSON_DeleteItemFromObjectCaseSensitive(tags, key);
        (void)cJSON_AddStringToObject(tags, key, cloud_query_nth(q, "Tags.member", i, ".Value"));
    }
}

void cloud_query_put_tags(struct cloud_query *q, const cJSON *tags)
{
    buf_add_str(&q->out, "<Tags>");
    for (const cJSON *t = json_first(tags); t != NULL; t = t->next) {
        buf_add_str(&q->out, "<member>");
        cloud_query_put(q, "Key", t->string);
        cloud_query_put(q, "Value", t->valuestring);
        buf_add_str(&q->out, "</member>");
    }
    buf_add_str(&q->out, "</Tags>");
}

void cloud_query_answer(struct cloud_query *q)
{
    struct buf xml = {0};

    buf_printf(&xml, "<%sResponse xmlns=\"%s\"><%sResult>", q->action, services[q->service].xmlns,
               q->action);
    buf_add_slice(&xml, buf_slice(&q->out));
    buf_printf(&xml,
               "</%sResult><ResponseMetadata><RequestId>sandbox</RequestId></ResponseMetadata>"
               "</%sResponse>",
               q->action, q->action);
    send_xml(q->r->http, 200, &xml);
    buf_fini(&xml);
}

const char *cloud_query_get(const struct cloud_query *q, const char *name)
{
    const char *value = evhttp_find_header(&q->form, name);

    return value != NULL ? value : "";
}

const char *cloud_query_nth(const struct cloud_query *q, const char *list, int n,
                            const char *member)
{
    char name[80];

    (void)snprintf(name, sizeof name, "%s.%d%s", list, n, member);
    return cloud_query_get(q, name);
}

void cloud_query_put(struct cloud_query *q, const char *element, const char *text)
{
    buf_printf(&q->out, "<%s>", element);
    put_escaped(&q->out, text);
    buf_printf(&q->out, "</%s>", element);
}

void cloud_query_put_entry(struct cloud_query *q, const char *key, const char *value)
{
    buf_add_str(&q->out, "<entry>");
    cloud_query_put(q, "key", key);
    cloud_query_put(q, "value", value);
    buf_add_str(&q->out, "</entry>");
}

bool cloud_query_init(struct cloud_query *q, struct cloud_request *r)
{
    char *body = mem_alloc(r->body.len + 1);
    bool good;

    *q = (struct cloud_query){.r = r};
    if (r->body.len > 0)
        memcpy(body, r->body.ptr, r->body.len);
    body[r->body.len] = '\0';
    good = evhttp_parse_query_str(body, &q->form) == 0;
    free(body);
    if (!good) {
        cloud_query_error(r->http, CLOUD_QUERY_SNS, 400, "InvalidParameter", "The body is no form");
        return false;
    }
    q->action = cloud_query_get(q, "Action");
    for (size_t i = 0; i < sizeof services / sizeof services[0]; i++)
        if (strcmp(cloud_query_get(q, "Version"), services[i].version) == 0) {
            q->service = (enum cloud_query_service)i;
            return true;
        }
    cloud_query_refuse(q, 400, "InvalidAction", "Could not find an operation of that Version");
    cloud_query_fini(q);
    return false;
}

void cloud_query_fini(struct cloud_query *q)
{
    buf_fini(&q->out);
    evhttp_clear_headers(&q->form);
}
