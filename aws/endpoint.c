#include "aws/endpoint.h"

#include <arpa/inet.h>
#include <assert.h>
#include <curl/curl.h>
#include <stdlib.h>

#include "base/mem.h"

void endpoint_put_regional(struct buf *to, const char *label, const char *region)
{
    struct slice name = slice_str(region);
    const char *suffix = slice_starts(name, SLICE("cn-"))     ? "amazonaws.com.cn"
                         : slice_starts(name, SLICE("eusc-")) ? "amazonaws.eu"
                                                              : "amazonaws.com";

    buf_printf(to, "https://%s.%s.%s", label, region, suffix);
}

const char *endpoint_iam_region(struct slice region)
{
    return slice_starts(region, SLICE("cn-"))       ? "cn-north-1"
           : slice_starts(region, SLICE("us-gov-")) ? "us-gov-west-1"
           : slice_starts(region, SLICE("eusc-"))   ? "eusc-de-east-1"
                                                    : "us-east-1";
}

void endpoint_put_iam(struct buf *to, const char *iam_region)
{
    if (strcmp(iam_region, "us-east-1") == 0)
        buf_add_str(to, "https://iam.amazonaws.com");
    else if (strcmp(iam_region, "us-gov-west-1") == 0)
        buf_add_str(to, "https://iam.us-gov.amazonaws.com");
    else
        endpoint_put_regional(to, "iam", iam_region);
}

/* By the address, not by how it begins: "127.0.0.1.example.com" is somebody's name. */
static bool is_loopback(const char *host)
{
    struct slice name = slice_str(host);
    struct in_addr v4;

    return slice_eq_nocase(name, SLICE("localhost")) ||
           slice_ends_nocase(name, SLICE(".localhost")) || slice_eq(name, SLICE("[::1]")) ||
           (inet_pton(AF_INET, host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127);
}

static char *url_part(CURLU *url, CURLUPart part)
{
    char *text = NULL;

    if (curl_url_get(url, part, &text, 0) != CURLUE_OK)
        return mem_strdup("");
    char *copy = mem_strdup(text);
    curl_free(text);
    return copy;
}

int endpoint_parse(struct endpoint_parts *e, const char *text, struct err *err)
{
    CURLU *url = curl_url();
    struct buf joined = {0};

    assert(url != NULL);
    CURLUcode bad = curl_url_set(url, CURLUPART_URL, text, 0);
    char *scheme = url_part(url, CURLUPART_SCHEME), *port = url_part(url, CURLUPART_PORT),
         *query = url_part(url, CURLUPART_QUERY), *user = url_part(url, CURLUPART_USER);
    int result = 0;

    *e = (struct endpoint_parts){
        .name = url_part(url, CURLUPART_HOST),
        .prefix = url_part(url, CURLUPART_PATH),
        .is_https = strcmp(scheme, "https") == 0,
    };
    size_t prefix_len = strlen(e->prefix);
    while (prefix_len > 0 && e->prefix[prefix_len - 1] == '/')
        e->prefix[--prefix_len] = '\0';
    e->is_loopback = is_loopback(e->name);
    buf_add_str(&joined, e->name);
    if (port[0] != '\0' && strcmp(port, e->is_https ? "443" : "80") != 0)
        buf_printf(&joined, ":%s", port);
    e->host = mem_strdup(buf_cstr(&joined));
    buf_reset(&joined);
    buf_printf(&joined, "%s://%s", scheme, e->host);
    e->origin = mem_strdup(buf_cstr(&joined));
    if (bad != CURLUE_OK || (!e->is_https && strcmp(scheme, "http") != 0) || query[0] != '\0' ||
        user[0] != '\0') {
        endpoint_fini(e);
        result = err_set(err, ERR_CONFIG,
                         "\"%s\" is no endpoint: write https://host, or http://host:port", text);
    }
    buf_fini(&joined);
    free(scheme);
    free(port);
    free(query);
    free(user);
    curl_url_cleanup(url);
    return result;
}

void endpoint_fini(struct endpoint_parts *e)
{
    free(e->origin);
    free(e->host);
    free(e->name);
    free(e->prefix);
    *e = (struct endpoint_parts){0};
}
