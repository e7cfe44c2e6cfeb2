#include "aws/query.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/digest.h"

enum { MEMBERS_MAX = 1000, PATH_MAX_BYTES = 256 };

static const char *version_of(enum aws_service service)
{
    switch (service) {
    case AWS_SNS:
        return "2010-03-31";
    case AWS_STS:
        return "2011-06-15";
    case AWS_IAM:
        return "2010-05-08";
    case AWS_SES:
    case AWS_SQS:
        break;
    }
    abort(); /* they speak JSON */
}

void query_begin(struct buf *form, enum aws_service service, const char *action)
{
    buf_reset(form);
    buf_printf(form, "Action=%s&Version=%s", action, version_of(service));
}

void query_add(struct buf *form, const char *name, struct slice value)
{
    buf_printf(form, "&%s=", name);
    text_percent_encode(form, value, "");
}

void query_add_entry(struct buf *form, const char *list, unsigned n, const char *key,
                     struct slice value)
{
    buf_printf(form, "&%s.entry.%u.key=%s", list, n, key);
    buf_printf(form, "&%s.entry.%u.value=", list, n);
    text_percent_encode(form, value, "");
}

void query_request(struct aws_request *r, enum aws_service service, struct slice form)
{
    r->service = service;
    r->method = "POST";
    r->path = "/";
    r->content_type = "application/x-www-form-urlencoded; charset=utf-8";
    r->body = form;
}

bool query_member(struct slice document, const char *path, const char *element, unsigned n,
                  const char *child, struct buf *text)
{
    char whole[PATH_MAX_BYTES];

    buf_reset(text);
    (void)snprintf(whole, sizeof whole, "%s/%s[%u]%s%s", path, element, n, child != NULL ? "/" : "",
                   child != NULL ? child : "");
    return xml_text(document, whole, text) == XML_FOUND;
}

cJSON *query_map(struct slice document, const char *path, const char *element, const char *key,
                 const char *value)
{
    cJSON *map = cJSON_CreateObject();
    struct buf name = {0}, text = {0};

    for (unsigned n = 1; n <= MEMBERS_MAX && query_member(document, path, element, n, key, &name) &&
                         query_member(document, path, element, n, value, &text);
         n++)
        (void)cJSON_AddStringToObject(map, buf_cstr(&name), buf_cstr(&text));
    buf_fini(&name);
    buf_fini(&text);
    return map;
}
